"""What is left of a call's plan: hands out the next target that may be tried, and writes down why others may not.

Named targets come first. The catalogue is drawn only when they are used up, so that a call whose models are named never
waits for it. When nothing at all may be tried, a panic probe or a short wait is the last thing before giving up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import attrs

from routerkit.core import plan
from routerkit.core.conditions import Conditions
from routerkit.core.effects import Step, sleep
from routerkit.core.health import Admission, Refusal
from routerkit.core.keys import Tried
from routerkit.core.quotas import Demand, by_key
from routerkit.core.refusals import reason_of
from routerkit.core.reservations import Reservations
from routerkit.core.retry import WAITABLE, spread, useful, worthwhile
from routerkit.core.strategies import Outlook, Strategy, needs_catalog
from routerkit.core.turns import NoTurn, Queue, in_turn
from routerkit.errors import APIError, DeadlineExceededError
from routerkit.types.route import Candidate, Origin, Skip, Target, Wait

if TYPE_CHECKING:
    from routerkit.core.access import Access
    from routerkit.core.keys import Key
    from routerkit.core.ledger import Ledger
    from routerkit.core.router import Router
    from routerkit.types.request import ChatRequest

T = TypeVar("T")

CATALOG_PATIENCE = 10.0
"""Seconds that a call waits for the catalogue as its last resort, and half of what is left at most."""


class Itinerary:
    def __init__(self, router: Router, request: ChatRequest, ledger: Ledger, deadline: float) -> None:
        self._router = router
        self._request = request
        self._ledger = ledger
        self._deadline = deadline
        chosen = router.named(request)
        ledger.skipped.extend(chosen.skipped)
        ledger.planned = chosen.targets
        self._planned: Sequence[Candidate] = chosen.targets
        """As planned, whatever strategies made of it."""
        self._remaining = deque(chosen.targets)
        self._refused: dict[Target, tuple[Candidate, Refusal]] = {}
        self._returned: set[Target] = set()
        """Those of them that had another turn."""
        self.conditions = Conditions()
        self._drawn = not router.draws(request)
        """Whether the catalogue had its turn."""
        self._tried = Tried()
        self._strategy: Strategy | None = router.strategy
        self._outlook: Outlook | None = None
        self._fallback: Strategy | None = router.fallback_strategy
        self._ordered = self._strategy is None
        self.demand = Demand(request, router.settings)
        quotas = router.quotas
        self._reservations = (
            Reservations(router, quotas, self.demand, ledger) if quotas is not None and quotas.attempts else None
        )
        self._unpriced = quotas is not None and bool(quotas.purses)
        """Whether budgets need prices that were not asked for yet."""
        self._free = self._reservations is None and router.fleet is None
        """Whether nobody but health has to allow an attempt."""
        self._waited_for: set[Target] = set()
        """Targets for which a turn was waited."""

    @property
    def left(self) -> bool:
        """Whether there are targets that had no turn yet."""
        return bool(self._remaining)

    @property
    def refused(self) -> list[tuple[Candidate, Refusal]]:
        """Targets that were fit but refused, and not asked since: open, or resting."""
        return [*self._refused.values()]

    def elsewhere(self, gateway: str) -> bool:
        """Whether there is another gateway that may be asked."""
        return any(name != gateway and name not in self.conditions.closed for name in self._router.access)

    def serves(self, gateway: str, refused: Key) -> bool:
        """Whether another key may serve there, if not this target then others: after this one was refused for all of them."""
        self._tried.spend(refused)
        health, keys = self._router.health, self._router.access[gateway].keys
        return any(not self._tried.spent(key) and not health.rests(gateway, key) for key in keys)

    def failed(self) -> None:
        """An attempt failed: what comes now is the fallback strategy's to order, if there is one."""
        strategy, self._fallback = self._fallback, None
        if strategy is not None:
            left = {candidate.target for candidate in self._remaining}
            self._arrange([candidate for candidate in self._planned if candidate.target in left])
            self._strategy, self._ordered = strategy, False

    def next(self) -> Step[tuple[Candidate, Admission] | None]:
        """The next target and the leave to try it; ``None`` when no target is left."""
        while True:
            found = yield from self._next_fit()
            if found is not None or self._ledger.attempts:
                return found
            probe = yield from self._panic()
            if probe is not None:
                return probe
            if not (yield from self._sit_out()):
                return None

    def again(self, candidate: Candidate, key: Key | None, *, free: bool = False) -> Step[Admission | None]:
        """Leave to try the same target once more: with any key; or, after an attempt with a ``key`` against which nothing was
        said, with none that was refused. ``free``: it is no further try."""
        keys = self._router.access[candidate.gateway].keys
        allowed = keys if key is None else self._tried.others(candidate.target, keys, key)
        admission = yield from self._once_more(candidate, allowed)
        if free and admission is not None:
            self._tried.free(candidate.target)
        return admission

    def with_other_key(self, candidate: Candidate, before: Admission) -> Step[Admission | None]:
        """Leave to try the same target with a key that this call has not used there: neither the one before nor any other."""
        self._tried.refused(candidate.target, before.key)
        others = self._tried.others(candidate.target, self._router.access[candidate.gateway].keys)
        if not others:
            return None
        admission = yield from self._once_more(candidate, others, again=False)
        if admission is None and before.probes:  # its breaker lets only this call's probe through
            found = yield from self._probe({candidate.target: candidate}, lambda _: others)
            admission = found[1] if found is not None and isinstance(found[1], Admission) else None
        if admission is not None:
            self._tried.free(candidate.target)
        return admission

    def tries(self, target: Target) -> int:
        """Attempts on a target, without those that are no further tries."""
        return self._ledger.tries(target) - self._tried.freed(target)

    def _once_more(self, candidate: Candidate, keys: Sequence[Key], *, again: bool = True) -> Step[Admission | None]:
        """Leave with one of these keys, in this call's turn: its slot went to whoever waited."""
        got = yield from self._admit(candidate, keys, again=again)
        reservations = self._reservations
        queue = None if reservations is None else reservations.queue(got)
        if reservations is None or queue is None:
            return got if isinstance(got, Admission) else None
        ask = partial(self._admit, candidate, keys, again=again, first=True)
        made = yield from self.turn(queue, ask, reservations.queue)
        return made if isinstance(made, Admission) else None

    def turn(self, queue: Queue, ask: Callable[[], Step[T]], blocked: Callable[[T], Queue | None]) -> Step[T | NoTurn]:
        """What comes of asking when it is this call's turn; the wait is entered into its account."""
        runtime = self._router.runtime
        started = runtime.monotonic()
        until = self._deadline - useful(self._request)
        made = yield from in_turn(queue, ask, blocked, runtime, until)
        waited = runtime.monotonic() - started
        if waited > 0:
            self._ledger.waits.append(Wait(waited, f"its turn: {queue.charge.label}"))
            if self._reservations is not None:
                self._reservations.forget()
        return made

    def _next_fit(self) -> Step[tuple[Candidate, Admission] | None]:
        if self.conditions.required:
            yield from self._read_catalogs(asked=False)
        while True:
            while self._remaining:
                if not self._ordered and self._remaining[0].origin is not Origin.REQUESTED:
                    self._ordered = True  # not before: who names a model does not wait for what only the others need
                    self._arrange((yield from self._in_order(tuple(self._remaining))))
                candidate = self._remaining.popleft()
                if self._ruled_out(candidate):
                    continue
                got = yield from self._admit(candidate, self._router.access[candidate.gateway].keys)
                if isinstance(got, Admission):
                    return candidate, got
                self._refuse(candidate, got)
            if self._come_back():
                continue
            found = yield from self._queued()
            if found is not None:
                return found
            if self._drawn or not self._open():
                return None
            self._drawn = True
            yield from self._read_catalogs()
            yield from self._draw()

    def _admit(
        self, candidate: Candidate, keys: Sequence[Key], *, again: bool = False, first: bool = False
    ) -> Step[Admission | Refusal]:
        """Leave for an attempt with one of these keys; ``first``: it is this call's turn, although others wait for one."""
        timeouts, health, stream = self._request.timeouts, self._router.health, self._request.stream
        lease = timeouts.first_token if stream else self._request.total
        refusals: list[Refusal] = []
        if self._unpriced:  # before a key is chosen, so that nothing that is known of it grows old
            self._unpriced = False
            yield from self._read_catalogs()
        while True:
            got = health.admit(candidate.target, keys, lease=lease, stream=stream, again=again)
            if isinstance(got, Refusal):
                return min((got, *refusals), key=lambda refusal: refusal.gives_way)
            refusal = None if self._free else (yield from self._allowed(candidate, got, first=first))
            if refusal is None:
                return got
            refusals.append(refusal)
            keys = [key for key in keys if key is not got.key]
            if not keys or refusal.denial is None or not by_key(refusal.denial.charge):
                return min(refusals, key=lambda refusal: refusal.gives_way)

    def _allowed(self, candidate: Candidate, got: Admission, *, first: bool = False) -> Step[Refusal | None]:
        """Whether the fleet, limits and budgets allow what health does; why not, and then health has its leave back."""
        fleet = self._router.fleet
        if fleet is not None and got.probes:
            refusal = yield from fleet.may_probe(got)
            if refusal is not None:
                return refusal
        if self._reservations is None:
            return None
        try:
            refusal = yield from self._reservations.make(candidate.target, got, first=first)
        except BaseException:
            if fleet is not None:
                fleet.probed_soon(got)
            raise
        if refusal is not None and fleet is not None:
            yield from fleet.probed(got)
        return refusal

    def _queued(self) -> Step[tuple[Candidate, Admission] | None]:
        """A turn for the first target of which all slots are taken, if callers may wait for one."""
        reservations = self._reservations
        if reservations is None:
            return None
        for candidate, refusal in self.refused:
            queue = reservations.queue(refusal)
            if queue is None or candidate.target in self._waited_for:
                continue
            self._waited_for.add(candidate.target)
            del self._refused[candidate.target]
            if self._ruled_out(candidate):
                continue
            keys = self._router.access[candidate.gateway].keys
            ask = partial(self._admit, candidate, keys, first=True)
            made = yield from self.turn(queue, ask, reservations.queue)
            if isinstance(made, Admission):
                return candidate, made
            if isinstance(made, NoTurn):
                made = attrs.evolve(refusal, reason=reason_of(made.denial, made.note))
            self._refuse(candidate, made)
        return None

    def _refuse(self, candidate: Candidate, refusal: Refusal) -> None:
        self._refused[candidate.target] = candidate, refusal
        now = self._router.runtime.monotonic()
        self._skip(candidate, refusal.reason, None if refusal.retry_at is None else max(0.0, refusal.retry_at - now))

    def _open(self) -> list[Access]:
        """The gateways whose catalogue may be drawn: that did not fail, met no refusal that holds for all of their models, and
        know what the request asks of a gateway."""
        refused = {candidate.gateway for candidate, refusal in self.refused if refusal.gateway_wide}
        return [
            access
            for name, access in self._router.access.items()
            if name not in self.conditions.closed
            and name not in refused
            and not plan.lacks(access.gateway, self._request)
        ]

    def _ruled_out(self, candidate: Candidate) -> bool:
        """Whether what failed before leaves it out; that is written down."""
        reason = self.conditions.unmet(candidate.target, self._router, self._request)
        if reason is not None:
            self._skip(candidate, reason)
        return reason is not None

    def _arrange(self, rest: Sequence[Candidate]) -> None:
        """What is left is now this, in this order; so it stands in the call's account."""
        self._remaining = deque(rest)
        left = {candidate.target for candidate in rest}
        self._ledger.planned = (*(each for each in self._ledger.planned if each.target not in left), *rest)

    def _in_order(self, candidates: Sequence[Candidate]) -> Step[Sequence[Candidate]]:
        strategy = self._strategy
        if strategy is None or len(candidates) < 2:
            return candidates
        if needs_catalog(strategy):
            yield from self._read_catalogs(asked=False)
        if self._outlook is None:
            self._outlook = self._router.outlook(self._request)
        return plan.in_order(strategy, candidates, self._outlook)

    def _read_catalogs(self, *, asked: bool = True) -> Step[None]:
        """Have the catalogues in memory, as far as that is possible in time; ``asked``: fresh ones."""
        router = self._router
        now = router.runtime.monotonic()
        until = now + min(CATALOG_PATIENCE, (self._deadline - now) / 2)
        for name, access in router.access.items():
            if name not in self.conditions.closed and (asked or access.catalog.peek() is None):
                try:
                    yield from access.read(router.health, self._request.timeouts, until)
                except (APIError, DeadlineExceededError) as error:
                    skip = plan.unreadable(access.gateway, error)
                    if skip not in self._ledger.skipped:
                        self._ledger.skipped.append(skip)

    def _draw(self) -> Step[None]:
        router = self._router
        named = [candidate.target for candidate in self._planned]
        drawn = [access.gateway.name for access in self._open()]
        closed = router.access.keys() - set(drawn)
        rest = plan.from_catalog(router.snapshots(), self._request, named, router.runtime.wall(), closed)
        self._ordered = True
        self._planned = (*self._planned, *rest.targets)
        self._remaining.extend((yield from self._in_order(rest.targets)))
        self._ledger.planned = (*self._ledger.planned, *self._remaining)
        self._ledger.skipped.extend(rest.skipped)

    def _panic(self) -> Step[tuple[Candidate, Admission] | None]:
        open_ones = {
            target: candidate
            for target, (candidate, refusal) in self._refused.items()
            if refusal.cooldown is None and refusal.denial is None
        }
        if not open_ones:
            return None
        access = self._router.access
        found = yield from self._probe(open_ones, lambda target: access[target.gateway].keys)
        if found is None:
            return None
        candidate, got = found
        if isinstance(got, Admission):
            del self._refused[candidate.target]
            return candidate, got
        if got.denial is not None:  # its breaker refuses it besides
            last = max(got, self._refused[candidate.target][1], key=lambda refusal: refusal.gives_way)
            self._refuse(candidate, attrs.evolve(got, retry_at=last.retry_at, denial=None))
        return None

    def _probe(
        self, open_ones: Mapping[Target, Candidate], keys_of: Callable[[Target], Sequence[Key]]
    ) -> Step[tuple[Candidate, Admission | Refusal] | None]:
        """One probe, to the first of these that may have one although its breaker is open."""
        lease = self._request.timeouts.first_token
        found = self._router.health.panic(list(open_ones), keys_of, lease=lease)
        if found is None:
            return None
        candidate, got = open_ones[found[0]], found[1]
        refusal = yield from self._allowed(candidate, got)
        return candidate, got if refusal is None else refusal

    def _sit_out(self) -> Step[bool]:
        """Wait for the first cooldown to end, when that is soon enough; the targets that rest then have their turn again."""
        resting = [
            refusal.retry_at
            for _, refusal in self.refused
            if refusal.retry_at is not None
            and refusal.cooldown is not None
            and refusal.cooldown.verdict.code in WAITABLE
        ]
        if not resting:
            return False
        runtime = self._router.runtime
        now = runtime.monotonic()
        pause = spread(max(0.0, min(resting) - now), runtime.random())
        if pause > self._router.settings.retry.max_sleep or not worthwhile(self._deadline - now - pause, self._request):
            return False
        self._ledger.waits.append(Wait(pause, "every model rests"))
        yield from sleep(pause)
        self._come_back(waited=True)
        return True

    def _come_back(self, *, waited: bool = False) -> bool:
        """Another turn for targets whose time has come since they were refused; once each, unless the call ``waited`` for it."""
        if not self._refused:
            return False
        now = self._router.runtime.monotonic()
        due = {target for target, (_, refusal) in self._refused.items() if refusal.gives_way <= now}
        back = due if waited else due - self._returned
        if not back:
            return False
        if self._reservations is not None:
            self._reservations.forget()
        self._returned |= back
        self._refused = {target: kept for target, kept in self._refused.items() if target not in back}
        self._remaining.extend(candidate for candidate in self._ledger.planned if candidate.target in back)
        return True

    def _skip(self, candidate: Candidate, reason: str, retry_after: float | None = None) -> None:
        self._ledger.skipped.append(Skip(candidate.target, candidate.origin, reason, retry_after))
