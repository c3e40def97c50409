"""What must hold in every run, whatever the upstream does. A `Watch` looks on while a world runs and raises `Violation`.

The invariants have the names under which the tests of this project speak of them:

=====  ==============================================================================================================
I1     a call makes at most `max_attempts` attempts, and at most `max_same_target` on one target (both but for one that
       replaces a stale connection)
I2     retries of one tenant on the same target, in any window of t seconds: at most 10 + 0.1 · first attempts + t / 10 (where the
       policy says nothing else in place of the 10 and the 0.1)
I3     nothing is sent at or after the deadline, and every call is over by its deadline
I4     no wait is longer than a minute or what is left of the deadline
I6     one probe at a time for each half-open breaker of a process
I7     liveness: see `recovers`
I8     a half-open breaker changes only by the result of its latest probe, and no breaker skips half-open on its way to closed
I10    what a stream delivered is the beginning of what one attempt said; of several only behind a marker, in order
I11    every call ends once, tells its observers once, and leaves no answer open
I24    a model is tried only when all before it were tried or refused, with the reason written down
I25    honest refusals: see `recovers`
hints  nothing is sent to a model before the time that it named, nor with a key that was refused for as long as it has to rest
=====  ==============================================================================================================
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from routerkit.core.breaker import Breaker
from routerkit.core.streaming import Ended
from routerkit.errors import StreamInterruptedError
from routerkit.types.completion import StreamMarker, StreamSeam
from routerkit.types.event import BreakerState, CallFinished
from routerkit.types.route import Origin, Target
from tests.simulation.upstream import CATALOG, Exchange

if TYPE_CHECKING:
    from tests.simulation.world import Flow, World

Scope = tuple[str, str | None]
"""A gateway, and a model there; ``None``: the gateway itself, or the key for it."""

Resting = tuple[int, str, str, str, str]
"""What may not be asked: the process, the kind of rest, the gateway, the key or its tenant, the model."""

EPSILON = 1e-6
LIVENESS = 62.0
"""Seconds after which every breaker is closed again, if the upstream is well and one call a second asks each model."""

_STEPS = {
    BreakerState.CLOSED: {
        BreakerState.OPEN,
        BreakerState.HALF_OPEN,
    },  # the latter by way of open, at once: a panic probe
    BreakerState.OPEN: {BreakerState.HALF_OPEN},
    BreakerState.HALF_OPEN: {BreakerState.OPEN, BreakerState.CLOSED},
}


class Violation(AssertionError):
    """An invariant does not hold."""


@attrs.define(eq=False)
class Probe:
    """A request that was sent while a breaker was half-open."""

    breaker: Breaker
    leased_until: float


class Watch:
    def __init__(self, world: World) -> None:
        self.world = world
        world.watch = self
        gateways, models = world.processes[0].router.access, world.upstream.models
        scopes: list[Scope] = [(gateway, model) for gateway in gateways for model in (*models(gateway), None)]
        self._breakers = [
            {scope: process.router.health.breaker(*scope) for scope in scopes} for process in world.processes
        ]
        self._states = [self._now_states(number) for number in range(len(world.processes))]
        self._probes: dict[Breaker, tuple[Flow, Probe]] = {}
        """Per breaker, its latest probe, for as long as it is under way."""
        self._probed: dict[Breaker, Flow] = {}
        """Per breaker, which call probed it last."""
        self._mine: defaultdict[Flow, list[Probe]] = defaultdict(list)
        """Per call, those of its probes that are not settled."""
        self._held: list[Probe] = []
        """The probes that the call which goes on right now had before it went on."""
        self._retries: defaultdict[tuple[int, Target, str], list[tuple[float, int]]] = defaultdict(list)
        """Per process, target and tenant: when a call first asked it (0), or paid for a retry (1)."""
        self._not_before: dict[Resting, tuple[float, bool]] = {}
        """Until when, and whether the gateway asked for it."""

    # --- while it happens ---

    def before(self, flow: Flow) -> None:
        self._held = [probe for probe in self._mine.get(flow, ()) if self._latest(flow, probe)]
        for exchange in flow.exchanges[-1:]:
            if exchange.head <= self.world.now and exchange.unsent is None:
                self._heard(flow, exchange)

    def after(self, flow: Flow) -> None:
        """I8."""
        number = flow.process.number
        flow.process.router.health.states()  # what an attempt gave back without a lock is taken back when somebody looks
        states = self._now_states(number)
        if states == self._states[number]:
            return
        for (scope, breaker), was, now in zip(
            self._breakers[number].items(), self._states[number], states, strict=True
        ):
            if was is not now:
                self._changed(flow, scope, breaker, was, now)
        self._states[number] = states

    def _changed(self, flow: Flow, scope: Scope, breaker: Breaker, was: BreakerState, now: BreakerState) -> None:
        if now not in _STEPS[was]:
            self._fail("I8", flow, f"the breaker of {_named(scope)} went from {was} to {now}")
        broke = now is BreakerState.OPEN and self._probed.get(breaker) is flow  # its stream, after it had begun well
        if was is BreakerState.HALF_OPEN and not broke and all(each.breaker is not breaker for each in self._held):
            self._fail("I8", flow, f"is no probe of {_named(scope)}, but its breaker went from {was} to {now}")

    def sent(self, flow: Flow, exchange: Exchange) -> None:
        """I3, I6, and that nothing comes before its time."""
        now, number, target = self.world.now, flow.process.number, exchange.target
        if now >= flow.deadline:
            self._fail("I3", flow, f"sent to {target} {now - flow.deadline} s after the deadline")
        before = flow.exchanges[-1] if flow.exchanges else None
        if before is not None and before.unsent is not None and before.target == target:
            return  # the same attempt once more
        self.settled(flow)
        if target.model == CATALOG:
            return
        asked = any(each.target == target for each in flow.exchanges)
        for resting in self._concerning(flow, exchange):
            until, asked_for = self._not_before.get(resting, (0.0, False))
            if now < until - EPSILON and (asked_for or not asked):
                what = " ".join(filter(None, resting[1:]))
                self._fail("hints", flow, f"sent to {target} {until - now} s before it may: {what}")
        scopes: tuple[Scope, ...] = ((target.gateway, target.model), (target.gateway, None))
        timeouts, total = flow.request.timeouts, flow.request.total
        lease = min(timeouts.first_token, total, 60.0)
        for scope in scopes:
            breaker = self._breakers[number][scope]
            if breaker.state is not BreakerState.HALF_OPEN:
                continue
            other = self._probes.get(breaker)
            if other is not None and other[0] is not flow and now < other[1].leased_until - EPSILON:
                self._fail("I6", flow, f"probes {_named(scope)}, which call {other[0].number} probes already")
            probe = Probe(breaker, now + lease)
            self._probes[breaker] = (flow, probe)
            self._probed[breaker] = flow
            self._mine[flow].append(probe)

    def settled(self, flow: Flow) -> None:
        """An attempt is settled once its call does anything but wait for it: by the first content, or a failure."""
        self._settle(flow, self._mine.get(flow, ()))

    def ended(self, flow: Flow) -> None:
        self.settled(flow)
        self._check_time(flow)
        self._check_text(flow)
        self._check_order(flow)
        self._count_attempts(flow)
        if flow.open:
            self._fail("I11", flow, f"left {len(flow.open)} answers open")
        if self.world.observed and sum(isinstance(event, CallFinished) for event in flow.events) != 1:
            self._fail("I11", flow, "told its observers not once that it is over")

    # --- when all is over ---

    def over(self) -> None:
        """Everything has ended: nothing is outstanding, and the retries kept to their budget (I2, I6, I11)."""
        for flow in self.world.flows:
            if flow.ended is None:
                self._fail("I11", flow, "never ended")
        for number, breakers in enumerate(self._breakers):
            for scope, breaker in breakers.items():
                if breaker._waiting:
                    lost = f"{len(breaker._waiting)} permits of {_named(scope)}"
                    raise Violation(f"I6: process {number}: {lost} never came back")
        policy = self.world.processes[0].router.settings.retry
        for (number, target, tenant), entries in self._retries.items():
            process = self.world.processes[number]
            if (process.routers.get(tenant) or process.router).quotas is not None:
                continue  # what a limit refuses has been counted as a first attempt all the same
            tokens, last = policy.budget, 0.0
            for when, retry in sorted(entries):
                earned = (when - last) / 10 + (0.0 if retry else policy.budget_deposit)
                tokens = min(policy.budget, tokens + earned)
                last, tokens = when, tokens - retry
                if tokens < -EPSILON:
                    raise Violation(f"I2: process {number} retried {target} too often until {when}")

    # --- helpers ---

    def _now_states(self, number: int) -> list[BreakerState]:
        return [breaker.state for breaker in self._breakers[number].values()]

    def _latest(self, flow: Flow, probe: Probe) -> bool:
        present = self._probes.get(probe.breaker)
        return present is not None and present[1] is probe and present[0] is flow

    def _heard(self, flow: Flow, exchange: Exchange) -> None:
        """What follows from the status that has come by now."""
        if exchange.status == 200 and flow.request.stream:  # the gateway answers, whatever the model will do
            breaker = self._breakers[flow.process.number][exchange.gateway, None]
            self._settle(flow, [probe for probe in self._mine[flow] if probe.breaker is breaker])
        if exchange.model != CATALOG:
            for rest in exchange.rests:
                whose = next(each for each in _all_rests(flow, exchange) if each[1] == rest.kind)
                self._rests(whose, exchange.head, exchange.head + rest.seconds, asked_for=rest.asked_for)

    def _rests(self, whose: Resting, _since: float, until: float, *, asked_for: bool) -> None:
        known, for_a_reason = self._not_before.get(whose, (0.0, False))
        if until > known:
            self._not_before[whose] = until, asked_for
        elif until == known:
            self._not_before[whose] = until, asked_for or for_a_reason

    def _concerning(self, flow: Flow, exchange: Exchange) -> list[Resting]:
        """Whatever might rest, so that this is not to be sent."""
        free = exchange.model.endswith(":free")
        return [each for each in _all_rests(flow, exchange) if free or each[1] != "free"]

    def _settle(self, flow: Flow, probes: Iterable[Probe]) -> None:
        for probe in tuple(probes):
            if self._latest(flow, probe):
                del self._probes[probe.breaker]
            self._mine[flow].remove(probe)

    def _check_time(self, flow: Flow) -> None:
        """I3, I4."""
        if self.world.now > flow.deadline + EPSILON:
            self._fail("I3", flow, f"ended {self.world.now - flow.deadline} s after its deadline")
        for when, seconds in flow.waits:
            if seconds > min(60.0, flow.deadline - when) + EPSILON:
                self._fail("I4", flow, f"waited {seconds} s")

    def _count_attempts(self, flow: Flow) -> None:
        """I1, and the entries for I2."""
        policy = flow.router.settings.retry
        tries: defaultdict[tuple[Target, str], int] = defaultdict(int)
        asked: dict[Target, float] = {}
        before, stale, repeated = None, 0, None
        for exchange in flow.exchanges:
            target = exchange.target
            if target.model == CATALOG:
                continue
            reconnected = before is not None and before.unsent is not None and before.target == target
            again = exchange.stale and not stale
            stale += again
            before = None if reconnected else exchange
            whose = self._retries[flow.process.number, target, flow.tenant]
            if again:  # another connection is made, at no charge
                whose += [(exchange.sent, 0)] * (target not in asked)
                asked[target], repeated = exchange.sent, target
                continue
            if exchange.unsent is not None and not reconnected:
                continue  # the same
            tries[target, exchange.key] += 1
            if repeated == target:
                repeated = None
                continue
            paid = [when for when, _ in flow.waits if asked.get(target, exchange.sent) <= when <= exchange.sent]
            whose.append((paid[-1], 1) if paid and target in asked else (exchange.sent, 0))
            asked[target] = exchange.sent
        if sum(tries.values()) > policy.max_attempts:
            self._fail("I1", flow, f"made {sum(tries.values())} attempts")
        if any(count > policy.max_same_target for count in tries.values()):
            self._fail(
                "I1", flow, f"asked one too often: { {str(target): count for (target, _), count in tries.items()} }"
            )

    def _check_order(self, flow: Flow) -> None:
        """I24."""
        if flow.route is None:
            return
        router = flow.router
        named = router.named(flow.request).targets
        rank = {candidate.target: place for place, candidate in enumerate(named)}
        if router.strategy is not None or router.fallback_strategy is not None:  # but for what the call itself names
            first = sum(candidate.origin is Origin.REQUESTED for candidate in named)
            rank = {target: min(place, first) for target, place in rank.items()}
        skipped = {skip.target for skip in flow.route.skipped}
        tried: set[Target] = set()
        for attempt in flow.route.attempts:
            place = rank.get(attempt.target, len(rank))
            for target, before in rank.items():
                if before < place and target not in tried and target not in skipped:
                    self._fail("I24", flow, f"asked {attempt.target} before {target}")
            tried.add(attempt.target)

    def _check_text(self, flow: Flow) -> None:
        """I10."""
        if not flow.request.stream:
            if flow.ok and flow.value.text != flow.exchanges[-1].text:
                self._fail("I10", flow, f"got {flow.value.text!r}")
            return
        parts, kept = [""], 0
        for chunk in flow.delivered:
            if isinstance(chunk, StreamMarker):
                kept = kept if isinstance(chunk, StreamSeam) else len(parts)
                parts.append("")
            else:
                parts[-1] += chunk.text
        texts = iter(exchange.text for exchange in flow.exchanges if exchange.model != CATALOG)
        for part in parts:
            if part and not any(text.startswith(part) for text in texts):
                self._fail("I10", flow, f"delivered {parts!r}, which nobody said in this order")
        whole = "".join(parts[kept:])
        if isinstance(flow.value, Ended) and flow.exchanges[-1].text != parts[-1]:
            self._fail("I10", flow, f"took {parts[-1]!r} for a whole answer")
        told = getattr(flow.error, "partial_text", None)
        if flow.ok and flow.number % 8 == 0:  # to put a completion together takes as long as all the rest
            told = flow.value.completion().text
        if isinstance(flow.error, StreamInterruptedError) and not whole:
            self._fail("I11", flow, "was interrupted before it began")
        if told is not None and told != whole:
            self._fail("I10", flow, f"says that {told!r} arrived; delivered was {whole!r}")

    def _fail(self, invariant: str, flow: Flow, what: str) -> None:
        raise Violation(
            f"{invariant}: {self.world.elapsed:.3f} s: call {flow.number} of process {flow.process.number} {what}"
        )


def _all_rests(flow: Flow, exchange: Exchange) -> list[Resting]:
    """All that an answer may tell to rest."""
    number, gateway, model = flow.process.number, exchange.gateway, exchange.model
    return [
        (number, "key", gateway, exchange.key, ""),
        (number, "free", gateway, exchange.key, ""),
        (number, "limited", gateway, exchange.key, model),
        (number, "policy", gateway, flow.tenant, model),
        (number, "model", gateway, "", model),
    ]


def _named(scope: Scope) -> str:
    gateway, model = scope
    return gateway if model is None else f"{model} on {gateway}"
