"""Any history of a fleet: processes that see different things, calls that overlap or are cancelled, a board that comes and goes."""

from __future__ import annotations

import math

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from routerkit.core.breaker import HEARSAY_SECONDS, Breaker
from routerkit.core.fleet import FRESH
from routerkit.core.health import Admission, Refusal
from routerkit.types.event import BreakerState
from routerkit.types.policy import BreakerPolicy
from routerkit.types.route import Target
from routerkit.types.verdict import Blame, Sample
from tests.properties.worlds import some
from tests.support.board import BoardServer
from tests.support.fleet import FAIL, GATEWAY, KEY, LEASE, OK, WAYS, A, B, Process, Ways, interrupted
from tests.support.virtual import VirtualRuntime

CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN
SLOW, NEUTRAL = Sample.SLOW, Sample.NEUTRAL
SMALL = BreakerPolicy(window=8, min_samples=4, fast_trip=2, slow_first_token=3, open_seconds=4, open_max=20, lease=8)
EPSILON = 1e-6


@attrs.define(eq=False)
class Held:
    """An attempt under way."""

    process: Process
    target: Target
    admission: Admission
    probes: dict[str, float]
    """What it probes with the fleet's leave, by scope, and until when."""


class FleetMachine(RuleBasedStateMachine):
    """Three processes with two models of one gateway, which fail as they like; a board that comes and goes; calls that overlap."""

    attempts = Bundle("attempts")
    numbers = st.integers(0, 2)
    targets = st.sampled_from([A, A, B])

    def __init__(self) -> None:
        super().__init__()
        self.server = BoardServer(VirtualRuntime())
        self.server.runtime.dice = None  # each time other ones, and the same in every run
        self.fleet = [Process(self.server, **attrs.asdict(SMALL)) for _ in range(3)]
        self.out: list[Held] = []
        self.worked: dict[tuple[Process, str], float] = {}
        """When a process saw that something works, last."""
        self.forced: set[Breaker] = set()
        self.dead: set[str] = set()
        """Leases that nobody will give back."""

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.0, 8.0, 30.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.server.runtime.now += seconds

    @rule()
    def due(self) -> None:
        """Until the next breaker lets a probe through."""
        now = self.server.runtime.now
        times = [breaker.retry_at(now) for breaker in self.breakers()]
        self.server.runtime.now = min((when for when in times if when is not None and when > now), default=now)

    def breakers(self, *processes: Process) -> list[Breaker]:
        """Of all, unless some are named."""
        return [process.breaker(scope) for process in processes or self.fleet for scope in (A, B, GATEWAY)]

    @rule()
    def lose_or_find(self) -> None:
        self.server.lost = not self.server.lost

    @rule(target=attempts, number=numbers, of=targets, panic=st.sampled_from([False, False, True]))
    def ask(self, number: int, of: Target, panic: bool) -> Held | None:
        process = self.fleet[number]
        self.sync(number)
        closed = self.closed(process)
        got = process.panic(of) if panic else process.ask(of)
        self.heeded(process, closed)
        if isinstance(got, Refusal) and got.reason.startswith("another process probes"):
            again = process.health.admit(of, [KEY], lease=LEASE, stream=False)
            assert isinstance(again, Refusal), "it would be asked again and again"
            assert process.health.panic([of], lambda _: [KEY], lease=LEASE) is None
        if not isinstance(got, Admission):
            return None
        known = not self.server.lost and not process.fleet._lost
        probes = {each.breaker.scope: each.breaker.leased_until for each in got.probing if known and not each.stale}
        held = Held(process, of, got, probes)
        self.out.append(held)
        return held

    @rule(number=numbers, of=targets, at=st.integers(0, 3), way=st.sampled_from(WAYS))
    def interrupt(self, number: int, of: Target, at: int, way: Ways) -> None:
        """A call that is cancelled while it asks whether it may probe."""
        process = self.fleet[number]
        if not self.server.lost:
            got = process.health.admit(of, [KEY], lease=LEASE, stream=False)
            if isinstance(got, Admission):
                interrupted(self.server, process.fleet.may_probe(got), at, way)
                process.fleet.probed_soon(got)
                got.settle(NEUTRAL, Blame.NOBODY)

    @rule(
        held=consumes(attempts),
        sample=st.sampled_from([OK, OK, FAIL, FAIL, SLOW, NEUTRAL]),
        blame=st.sampled_from([Blame.MODEL, Blame.MODEL, Blame.GATEWAY]),
        soon=st.booleans(),
    )
    def end(self, held: Held | None, sample: Sample, blame: Blame, soon: bool) -> None:
        if held is None:
            return
        process = held.process
        if soon:
            held.admission.settle(sample, blame)
            process.fleet.probed_soon(held.admission)
        else:
            process.end(held.admission, sample, blame)
        if sample is OK:
            for scope in (str(held.target), GATEWAY):
                self.worked[process, scope] = self.server.runtime.now
        self.out.remove(held)

    @rule(held=consumes(attempts))
    def die(self, held: Held | None) -> None:
        """Nobody will ever end it; a fork of its process, say, or a thread that hangs."""
        if held is not None:
            self.out.remove(held)
            self.dead |= {f"probe {permit.breaker.scope}" for permit in held.admission.probing}

    @rule(
        seen=st.integers(1, 3),
        of=targets,
        blame=st.sampled_from([Blame.MODEL, Blame.MODEL, Blame.GATEWAY]),
        well=st.sampled_from([None, None, 0.0, 0.5, 1.1]),
    )
    def outage(self, seen: int, of: Target, blame: Blame, well: float | None) -> None:
        """So many processes see it fail, at the same time; the others hear of it. ``well``: seconds before, it worked for all."""
        if well is not None:
            for number in range(3):
                self.end(self.ask(number, of, False), OK, Blame.NOBODY, soon=False)
            self.server.runtime.now += well
        for process in self.fleet[:seen]:
            for _ in range(SMALL.fast_trip):
                got = process.health.admit(of, [KEY], lease=LEASE, stream=False)
                if isinstance(got, Admission) and not got.probes:
                    got.settle(FAIL, blame)
        for _ in range(2):
            for number in range(3):
                self.sync(number)
            self.server.runtime.now += 1

    @rule(number=numbers)
    def sync(self, number: int) -> None:
        """It moves nothing that the process itself has opened, and without the board nothing at all."""
        process = self.fleet[number]
        before = [
            (each, each.hearsay, each.state, each.open_until, each.retry_at(0.0)) for each in self.breakers(process)
        ]
        closed = self.closed(process)
        process.sync()
        for each, hearsay, *was in before:
            if self.server.lost or not (hearsay or was[0] is CLOSED):
                assert [each.state, each.open_until, each.retry_at(0.0)] == was
        self.heeded(process, closed)

    def closed(self, process: Process) -> list[Breaker]:
        return [breaker for breaker in self.breakers(process) if breaker.state is CLOSED]

    def heeded(self, process: Process, closed: list[Breaker]) -> None:
        """Of those that were closed, a hint was heeded only where this process knew no better."""
        for breaker in closed:
            hint = self.server.hints.get(process.board.name(breaker.scope))
            if breaker.state is OPEN and hint is not None:
                assert breaker.hearsay
                assert self.worked.get((process, breaker.scope), -math.inf) < hint[1] - FRESH + EPSILON

    @rule(number=numbers, of=st.sampled_from([A, B, GATEWAY]), forced=st.booleans())
    def operate(self, number: int, of: Target | str, forced: bool) -> None:
        breaker = self.fleet[number].breaker(of)
        now = self.server.runtime.now
        if forced:
            breaker.force_open(now)
            self.forced.add(breaker)
        else:
            breaker.reset(now)
            self.forced.discard(breaker)
            self.worked[self.fleet[number], breaker.scope] = now

    @invariant()
    def one_probe(self) -> None:
        """I6, of all that the board was asked about."""
        now = self.server.runtime.now
        for scope in (str(A), str(B), GATEWAY):
            probes = [held for held in self.out if held.probes.get(scope, now) > now]
            assert len(probes) <= 1, scope

    @invariant()
    def forced_ones_stay(self) -> None:
        for breaker in self.forced:
            assert (breaker.state, breaker.retry_at(0.0)) == (OPEN, None)

    def teardown(self) -> None:
        """I7: all is well, and each process asks once a second. I19: then nobody holds anything."""
        self.server.lost = False
        now = self.server.runtime.now
        for breaker in self.forced:
            breaker.reset(now)
        for held in self.out:
            held.process.fleet.probed_soon(held.admission)
            held.admission.settle(NEUTRAL, Blame.NOBODY)
        self.server.runtime.now += 1
        for process in self.fleet:
            process.sync()
        assert {scope for scope in self.server.leases if self.server.holder(scope)} <= self.dead
        while any(breaker.state is not CLOSED for breaker in self.breakers()):
            assert self.server.runtime.now < now + HEARSAY_SECONDS + SMALL.lease + SMALL.open_max
            self.server.runtime.now += 1
            for process in self.fleet:
                for target in (A, B):
                    got = process.ask(target)
                    if isinstance(got, Admission):
                        process.end(got, OK)
        for process in self.fleet:
            process.sync()
        assert {scope for scope in self.server.leases if self.server.holder(scope)} <= self.dead
        assert [process.fleet._hearsay.news for process in self.fleet] == [{}, {}, {}]


TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(some(1), stateful_step_count=40)
