"""What must hold of gateways, keys and tenants in any history. An `Oracle` is a `Watch` that looks at these too:

======  =============================================================================================================
own     a request carries a key of who asks, for whom it asks; a model is asked for by the id that it has there
load    of the keys that may be used, the one with the fewest attempts under way is taken, of equals the one longest unused
twice   nothing is asked twice but by a rule: a wait, a stale connection, or a key that was refused
moved   a gateway that failed is asked by the same call for nothing but the model that it failed at
slots   so many calls of a tenant at a time as it may make, and none is refused while there is room
vain    a call fails only if nothing that its plan allows could have answered: see `Oracle._check_in_vain`
sums    what usage and statistics tell of each tenant is what was sent and what came
leaks   when all is over no key is in use, no slot taken, no money set aside, no catalogue on its way, nobody in a queue
======  =============================================================================================================
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from routerkit.core.breaker import PANIC_INTERVAL, Breaker
from routerkit.errors import DeadlineExceededError, LimitExceededError, StreamInterruptedError
from routerkit.types.event import BreakerState
from routerkit.types.route import Attempt, Target
from routerkit.types.verdict import Action, Billing, Blame
from tests.simulation.books import attempts_of, counted, held, reconnects, told
from tests.simulation.upstream import CATALOG, Exchange
from tests.simulation.watch import EPSILON, Resting, Scope, Violation, Watch

if TYPE_CHECKING:
    from tests.simulation.world import Flow, Process, World

FREE = ("stale_connection", "misdirected")
"""Verdicts after which the same is asked once more at no charge."""
STORM_MODELS, STORM_SECONDS, STORM_REST = 3, 10.0, 60.0
"""So many models of one key limited within so many seconds: the whole key may rest, for so long at most."""
LONGEST_WAIT = 54.0
"""Seconds for which a call surely waits, when it has the time: a minute, less what is added at random."""
WAITABLE = ("limited", "model")


class Oracle(Watch):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._rested: defaultdict[Resting, list[tuple[float, float]]] = defaultdict(list)
        """Since when and until when."""
        self._shut: defaultdict[tuple[int, Scope], list[tuple[float, float]]] = defaultdict(list)
        """When breakers were not closed; the last time perhaps to this day."""
        self._limited: defaultdict[Resting, list[tuple[float, str]]] = defaultdict(list)
        self._live: dict[Flow, None] = {}
        """The calls under way that have sent something."""
        self._taken: dict[tuple[int, str], int] = {}
        """Per process and key, which of all attempts took it last."""
        self._asked: dict[tuple[int, Scope], float] = {}
        """When an attempt was made last."""

    # --- while it happens ---

    def sent(self, flow: Flow, exchange: Exchange) -> None:
        self._check_owner(flow, exchange)
        super().sent(flow, exchange)
        self._live[flow] = None
        if exchange.model == CATALOG or reconnects(flow.exchanges, exchange):
            return
        self._check_load(flow, exchange)
        self._check_slots(flow)
        number = flow.process.number
        self._taken[number, exchange.key] = len(self.world.upstream.exchanges)
        for scope in ((exchange.gateway, exchange.model), (exchange.gateway, None)):
            self._asked[number, scope] = self.world.now

    def ended(self, flow: Flow) -> None:
        super().ended(flow)
        self._live.pop(flow, None)
        if flow.route is not None:
            self._check_attempts(flow)
            self._check_in_vain(flow)

    def _changed(self, flow: Flow, scope: Scope, breaker: Breaker, was: BreakerState, now: BreakerState) -> None:
        super()._changed(flow, scope, breaker, was, now)
        times = self._shut[flow.process.number, scope]
        if was is BreakerState.CLOSED:
            times.append((self.world.now, float("inf")))
        elif now is BreakerState.CLOSED:
            times[-1] = (times[-1][0], self.world.now)

    def _rests(self, whose: Resting, since: float, until: float, *, asked_for: bool) -> None:
        super()._rests(whose, since, until, asked_for=asked_for)
        if (since, until) in self._rested[whose]:
            return
        self._rested[whose].append((since, until))
        number, kind, gateway, key, model = whose
        if kind == "limited":
            storm = (number, "key", gateway, key, "")
            self._limited[storm] = [each for each in self._limited[storm] if each[0] > since - STORM_SECONDS]
            self._limited[storm].append((since, model))
            if len({model for _, model in self._limited[storm]}) >= STORM_MODELS:
                self._rested[storm].append((since, min(until, since + STORM_REST)))

    # --- one request ---

    def _check_owner(self, flow: Flow, exchange: Exchange) -> None:
        own = [secret.reveal() for secret in flow.router.settings.keys.get(exchange.gateway, ())] or [""]
        if exchange.key not in own:
            self._fail("own", flow, f"asked {exchange.target} with the key {exchange.key!r}, not with {own}")
        if exchange.model not in (CATALOG, *self.world.upstream.models(exchange.gateway)):
            self._fail("own", flow, f"asked {exchange.gateway} for {exchange.model}, which is not its name there")

    def _check_load(self, flow: Flow, exchange: Exchange) -> None:
        now, process, settings = self.world.now, flow.process, flow.router.settings
        keys = _keys(flow, exchange.gateway)
        if len(keys) < 2 or any(scope.startswith(("key", "free")) for scope in settings.limits):
            return
        loads = Counter(
            each.asking.key for each in self._live if each.process is process and each.asking and each is not flow
        )
        used = {each.key for each in flow.exchanges if each.target == exchange.target}
        free = [key for key in keys if key not in used and not self._rests_at(flow, exchange.target, key, now)]
        turn = self._turn(process)
        fewest = min(((loads[key], turn(key)) for key in free), default=(0, 0))
        chosen = loads[exchange.key], turn(exchange.key)
        limited = flow.router.quotas is not None  # then a key may be taken for what is not sent
        if free and (chosen[0] > fewest[0] if limited else chosen > fewest):
            self._fail("load", flow, f"took {exchange.key} ({chosen}) where another had {fewest}: {dict(loads)}")

    def _turn(self, process: Process) -> Callable[[str], int]:
        return lambda key: self._taken.get((process.number, key), 0)

    def _check_slots(self, flow: Flow) -> None:
        for whose, cap in _slots(flow):
            under_way = sum(each.process is flow.process and whose in ("", each.tenant) for each in self._live)
            if under_way > cap:
                self._fail("slots", flow, f"is the {under_way}th call of {whose or 'all'} under way, of {cap}")

    # --- one call ---

    def _check_attempts(self, flow: Flow) -> None:
        attempts, sent = flow.route.attempts, attempts_of(flow)
        if [each.target for each in attempts] != [each.target for each in sent]:
            self._fail("sums", flow, f"tells of {[str(each.target) for each in attempts]}, sent {sent}")
        before: dict[tuple[Target, str | None], tuple[Attempt, Exchange]] = {}
        failed: dict[str, str] = {}
        for attempt, exchange in zip(attempts, sent, strict=True):
            target, key = exchange.target, exchange.key
            if failed.get(target.gateway, target.model) != target.model:
                self._fail("moved", flow, f"asked {target} after its gateway had failed")
            if attempt.verdict.action is Action.NEXT_GATEWAY:
                failed[target.gateway] = target.model
            last = before.get((target, key)) or before.get((target, None))
            if last is not None and not _rule(flow, *last, exchange):
                self._fail("twice", flow, f"asked {target} again after {last[0].verdict}, with {key}")
            before[target, key] = before[target, None] = attempt, exchange

    def _check_in_vain(self, flow: Flow) -> None:
        """A call fails, unless it is cancelled or its stream breaks off, only where one of these holds:

        - what is left of its deadline is less than an attempt needs, and so the error says;
        - its last attempt failed for good (`Action.FAIL`), or may have been billed under `at_most_once`;
        - it has made `max_attempts` attempts;
        - its tenant's calls, or all, are as many as they may be;
        - and else each target of its plan, by its names and where nothing of these is left by the catalogue (which it draws
          once, before it waits for anything), was asked, with every key where the keys were to blame, or could not be: its
          breaker or its gateway's was not closed, all keys rested for this model, its gateway had failed or refused its keys
          in this call, or a limit or budget stood in the way;
        - and, when nothing was asked, no probe was due to a breaker, and nothing rests that will be back in time.
        """
        error, route, now = flow.error, flow.route, self.world.now
        if flow.ok or flow.cancelled or isinstance(error, StreamInterruptedError):
            return
        left = flow.deadline - now
        if isinstance(error, DeadlineExceededError):
            if left > _useful(flow) + 0.005 + EPSILON:
                self._fail("vain", flow, f"gave up {left} s before its deadline")
            return
        plan = flow.router.named(flow.request)
        if isinstance(error, LimitExceededError) and not route.attempts and set(route.skipped) <= set(plan.skipped):
            self._check_denied(flow)
            return
        if route.attempts and self._at_its_end(flow):
            return
        limited = flow.router.quotas is not None and flow.router.quotas.attempts
        skipped = {skip.target for skip in route.skipped}
        for candidate in plan.targets:
            if not self._excused(flow, candidate.target) and not (limited and candidate.target in skipped):
                self._fail("vain", flow, f"failed without {candidate.target}: {error!r}; {route}")
            if not route.attempts and not limited:
                self._check_patience(flow, candidate.target)
        self._check_last_resort(flow, limited=limited)

    def _at_its_end(self, flow: Flow) -> bool:
        policy, attempts = flow.router.settings.retry, flow.route.attempts
        last = attempts[-1].verdict
        charged = len(attempts) - any(each.verdict.code in FREE for each in attempts[:-1])
        return (
            last.action is Action.FAIL
            or (policy.at_most_once and last.billing is not Billing.NONE)
            or charged >= policy.max_attempts
        )

    def _excused(self, flow: Flow, target: Target) -> bool:
        """Whether a target had its turn, or could not have it."""
        attempts, sent = flow.route.attempts, attempts_of(flow)
        limited = flow.router.quotas is not None and flow.router.quotas.attempts
        tried = [(attempt, each) for attempt, each in zip(attempts, sent, strict=True) if each.target == target]
        keys = _keys(flow, target.gateway)
        if tried:
            last, used = tried[-1][0].verdict, {each.key for _, each in tried}
            if last.blame is not Blame.KEY and last.code != "rate_limited":
                return True
            others = [key for key in keys if key not in used]
            return limited or self._all_rest(flow, target, others) or self._breaker_shut(flow, target)
        for attempt, exchange in zip(attempts, sent, strict=True):
            if exchange.gateway == target.gateway:
                if attempt.verdict.action is Action.NEXT_GATEWAY:
                    return True
                others = [key for key in keys if key != exchange.key]
                if attempt.verdict.blame is Blame.KEY and (limited or self._all_rest(flow, target, others)):
                    return True
        again = sum(skip.target == target for skip in flow.route.skipped) > 1  # one other turn is what it gets
        resting = all(self._rests_at(flow, target, key, None if again else self.world.now) for key in keys)
        return resting or self._breaker_shut(flow, target)

    def _check_patience(self, flow: Flow, target: Target) -> None:
        """Of a call that asked nothing."""
        now, number = self.world.now, flow.process.number
        scopes: tuple[Scope, ...] = ((target.gateway, target.model), (target.gateway, None))
        states = [self._breakers[number][scope].state for scope in scopes]
        ends = [self._rest_ends(flow, target, key) for key in _keys(flow, target.gateway)]
        if all(state is BreakerState.CLOSED for state in states):
            soonest, kind = min(ends)
            pause = 1.1 * (soonest - now)
            patient = flow.router.settings.retry.max_sleep * 0.9
            if kind in WAITABLE and 0 < pause <= patient and flow.deadline - now - pause > _useful(flow):
                self._fail("vain", flow, f"did not wait {soonest - now} s for {target}")
        elif not self._all_rest(flow, target, _keys(flow, target.gateway)):
            busy = any(
                state is BreakerState.HALF_OPEN
                or self._asked.get((number, scope), 0.0) > now - PANIC_INTERVAL - EPSILON
                for scope, state in zip(scopes, states, strict=True)
                if state is not BreakerState.CLOSED
            )
            if not busy:
                self._fail("vain", flow, f"did not probe {target}, though nobody else does")

    def _check_last_resort(self, flow: Flow, *, limited: bool) -> None:
        if not flow.router.draws(flow.request) or flow.waits:
            return
        named = {candidate.target for candidate in flow.router.named(flow.request).targets}
        known = {each.target for each in (*flow.route.attempts, *flow.route.skipped)}
        for gateway in flow.router.access:
            anything = Target(gateway, "")
            if limited or self._excused(flow, anything) or Target(gateway, CATALOG) in known:
                continue
            for model in self.world.upstream.models(gateway):
                if Target(gateway, model) not in known | named:
                    self._fail(
                        "vain",
                        flow,
                        f"failed without {model} of the catalogue of {gateway}: {flow.error!r}; {flow.route}",
                    )

    def _check_denied(self, flow: Flow) -> None:
        settings = flow.router.settings
        limits = [each for each in (settings.tenant_limits, settings.limits.get("client")) if each is not None]
        if any(each.requests_per_minute or each.tokens_per_minute or each.requests_per_day for each in limits):
            return
        for whose, cap in _slots(flow):
            others = [each for each in self.world.flows if each.ended is None and each is not flow]
            if sum(each.process is flow.process and whose in ("", each.tenant) for each in others) >= cap:
                return
        self._fail("slots", flow, f"was refused though there was room: {flow.error}")

    # --- what stands in the way ---

    def _rests_at(self, flow: Flow, target: Target, key: str, moment: float | None) -> bool:
        """Whether a key may not be used for a target then; `None`: at any moment of the call."""
        begin, end = (flow.started, self.world.now) if moment is None else (moment, moment)
        return any(
            since <= end + EPSILON and begin - EPSILON <= until
            for whose in self._whose(flow, target, key)
            for since, until in self._rested.get(whose, ())
        )

    def _rest_ends(self, flow: Flow, target: Target, key: str) -> tuple[float, str]:
        """When a key may be used again for a target, and what stands in its way for longest."""
        return max(
            (
                (until, whose[1])
                for whose in self._whose(flow, target, key)
                for _, until in self._rested.get(whose, ())
                if until > self.world.now
            ),
            default=(0.0, ""),
        )

    def _whose(self, flow: Flow, target: Target, key: str) -> list[Resting]:
        return self._concerning(flow, Exchange(target.gateway, target.model, 0.0, flow, key=key))

    def _all_rest(self, flow: Flow, target: Target, keys: Sequence[str]) -> bool:
        """Whether there was a moment of the call when none of these keys could be used for a target."""
        moments = [flow.started]
        for key in keys:
            for whose in self._whose(flow, target, key):
                moments += [since for since, _ in self._rested.get(whose, ()) if since >= flow.started]
        return any(all(self._rests_at(flow, target, key, moment) for key in keys) for moment in moments)

    def _breaker_shut(self, flow: Flow, target: Target) -> bool:
        scopes: tuple[Scope, ...] = ((target.gateway, target.model), (target.gateway, None))
        return any(
            until >= flow.started for scope in scopes for _, until in self._shut.get((flow.process.number, scope), ())
        )

    # --- when all is over ---

    def over(self) -> None:
        super().over()
        for process in self.world.processes:
            for tenant, router in (process.routers or {"": process.router}).items():
                flows = [each for each in self.world.flows if each.process is process and each.tenant == tenant]
                self._equal(f"usage of {tenant}", counted(flows), told(router.accounts, tenant or None))
            for what, count in held(process):
                if count:
                    raise Violation(f"leaks: process {process.number}: {what}: {count}")

    def _equal(self, what: str, sent: dict[str, Any], tells: dict[str, Any]) -> None:
        for name, value in sent.items():
            if tells[name] != value:
                raise Violation(f"sums: {what}: {name} is told to be {tells[name]}, and was {value}")


def _keys(flow: Flow, gateway: str) -> list[str]:
    """Of who asks; one that is none where there is none."""
    keys = flow.router.access[gateway].keys
    return [key.secret.reveal() if key.secret is not None else "" for key in keys]


def _slots(flow: Flow) -> Iterator[tuple[str, int]]:
    """Whose calls (empty: all), and how many at a time."""
    settings = flow.router.settings
    for whose, limits in ((flow.tenant, settings.tenant_limits), ("", settings.limits.get("client"))):
        if limits is not None and limits.concurrency is not None:
            yield whose, limits.concurrency


def _useful(flow: Flow) -> float:
    """Seconds that an attempt needs at least."""
    return min(1.0, flow.request.total / 10)


def _rule(flow: Flow, attempt: Attempt, before: Exchange, exchange: Exchange) -> bool:
    """Whether there is a reason to ask a target again, after this attempt with the same key, or else the last with any."""
    waited = any(before.sent <= when <= exchange.sent for when, _ in flow.waits)
    refused = attempt.verdict.blame is Blame.KEY or attempt.verdict.code == "rate_limited"
    return waited or attempt.verdict.code in FREE or (refused and before.key != exchange.key)
