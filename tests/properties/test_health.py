"""Any history of one client's health: models and gateway together, cooldowns and breakers together, calls that overlap.

A single breaker is held against a reference model in `tests/test_breaker.py`; here are the rules between them.
"""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from routerkit.core.health import Admission, Health
from routerkit.core.keys import Key
from routerkit.core.verdict import Signal, classify
from routerkit.core.verdict_table import VERDICTS
from routerkit.gateways import OPENROUTER
from routerkit.types.event import BreakerState
from routerkit.types.policy import BreakerPolicy, RetryPolicy
from routerkit.types.route import Target
from routerkit.types.verdict import Action, Blame, Sample, Verdict
from tests.properties.scripts import MODELS
from tests.properties.worlds import GATEWAY, some
from tests.support.virtual import VirtualRuntime

TARGETS = [Target(GATEWAY, model) for model in MODELS]
KEY = Key(None, OPENROUTER)
EPSILON = 1e-6
LEASE = 8.0
POLICY = BreakerPolicy(
    window=8, min_samples=4, fast_trip=2, slow_first_token=3, open_seconds=4, open_max=60, lease=LEASE
)
VERDICT = st.builds(
    lambda code, hint: Verdict(
        code,
        VERDICTS[code].action,
        VERDICTS[code].blame,
        VERDICTS[code].sample,
        cooldown=min(hint, VERDICTS[code].hinted) if hint and VERDICTS[code].hinted else VERDICTS[code].cooldown,
        retry_after=hint,
    ),
    st.sampled_from(sorted(VERDICTS)),
    st.sampled_from([None, None, 0.5, 7.0, 100.0, 4000.0]),
)
BREAKING = ["server_error", "connection_lost", "edge_error", "not_an_api", "overloaded", "deadline_slow"]


def memory(health: Health) -> dict[str | None, Any]:
    """All that breakers know, by model, ``None`` for the gateway; but not who holds a permit."""
    breakers = {model: health.breaker(GATEWAY, model) for model in (None, *MODELS)}
    return {
        model: (each.state, each.open_until, list(each._samples), list(each._row), each._probes_ok)
        for model, each in breakers.items()
    }


class HealthMachine(RuleBasedStateMachine):
    admissions = Bundle("admissions")

    def __init__(self) -> None:
        super().__init__()
        self.runtime = VirtualRuntime()
        self.health = Health(self.runtime, POLICY, RetryPolicy())
        self.out: list[Admission] = []

    def memory(self) -> dict[str | None, Any]:
        return memory(self.health)

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0, 8.0, 30.0, 130.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.runtime.now += seconds

    @rule(dice=st.sampled_from([0.0, 0.5, 0.99]))
    def roll(self, dice: float) -> None:
        self.runtime.dice = dice

    @rule(
        target=admissions,
        of=st.sampled_from(TARGETS),
        stream=st.booleans(),
        again=st.sampled_from([False, False, True]),
    )
    def admit(self, of: Target, stream: bool, again: bool) -> Admission | None:
        """What `peek` says is what `admit` does; but streams that hang count only when somebody asks to be admitted."""
        expected, before = self.health.peek(of, [KEY]), self.memory()
        got = self.health.admit(of, [KEY], lease=LEASE, stream=stream, again=again)
        if not again and expected is not None:
            assert got == expected
        elif not again and not isinstance(got, Admission):
            assert self.memory()[of.model] != before[of.model], "it refuses although nothing changed"
        return self.took(got)

    @rule(target=admissions, among=st.permutations(TARGETS).map(lambda order: order[:2]))
    def panic(self, among: list[Target]) -> Admission | None:
        found = self.health.panic(among, lambda _: [KEY], lease=LEASE)
        return self.took(None if found is None else found[1])

    def took(self, got: Any) -> Admission | None:
        if not isinstance(got, Admission):
            return None
        self.out.append(got)
        return got

    @rule(held=consumes(admissions), verdict=VERDICT | st.sampled_from(BREAKING).map(lambda code: ruled(code)))
    def conclude(self, held: Admission | None, verdict: Verdict) -> None:
        """What does not blame a model or its gateway changes nothing of it."""
        if held is None:
            return
        target = next(each for each in TARGETS if self.health.breaker(GATEWAY, each.model) is held._model.breaker)
        before = self.memory()
        held.settle(verdict.sample, verdict.blame)
        after = self.memory()
        if verdict.sample is not Sample.OK:
            assert verdict.blame is Blame.MODEL or after[target.model] == before[target.model]
            assert verdict.blame is Blame.GATEWAY or after[None] == before[None]
        for permit in (held._model, held._gateway):
            if permit.probe and permit.generation == permit.breaker._generation:
                assert permit.breaker._leased_until <= self.runtime.now  # given back
        self.health.cool(target, KEY, verdict, None)
        self.out.remove(held)

    @rule(held=consumes(admissions), sample=st.sampled_from(Sample))
    def broken_stream(self, held: Admission | None, sample: Sample) -> None:
        if held is not None:
            held.settle(Sample.OK, Blame.NOBODY)
            held.broke(sample)
            self.out.remove(held)

    @rule(of=st.sampled_from(TARGETS))
    def bad_luck(self, of: Target) -> None:
        """A few failures in a row."""
        for _ in range(3):
            got = self.health.admit(of, [KEY], lease=LEASE, stream=False)
            if isinstance(got, Admission):
                got.settle(Sample.FAIL, Blame.MODEL)

    @invariant()
    def one_probe_at_a_time(self) -> None:
        """Half-open lets one probe through: of a breaker that is half-open at most one permit counts that is out and within
        its lease."""
        for breaker in {permit.breaker for held in self.out for permit in (held._model, held._gateway)}:
            permits = [permit for held in self.out for permit in (held._model, held._gateway)]
            counting = [each for each in permits if each.breaker is breaker and each.probe and not each.settled]
            assert sum(each.started + LEASE > self.runtime.now for each in counting) <= 1 or breaker.state is not (
                BreakerState.HALF_OPEN
            )

    def teardown(self) -> None:
        """When all has ended nothing is held; and when it goes well again, every breaker closes within a minute and two
        probes, counted from the end of the last cooldown."""
        for held in self.out:
            held.settle(Sample.NEUTRAL, Blame.NOBODY)
        for breaker in (self.health.breaker(GATEWAY), *(self.health.breaker(GATEWAY, model) for model in MODELS)):
            assert breaker._leased_until <= self.runtime.now
            assert not breaker._waiting
        self.runtime.now += max(self.health.cooldowns().values(), default=0.0) + EPSILON
        for _ in range(62):
            for target in TARGETS:
                got = self.health.admit(target, [KEY], lease=LEASE, stream=False)
                if isinstance(got, Admission):
                    got.settle(Sample.OK, Blame.NOBODY)
            self.runtime.now += 1
        assert set(self.health.states().values()) <= {BreakerState.CLOSED}


def ruled(code: str) -> Verdict:
    rule = VERDICTS[code]
    return Verdict(code, rule.action, rule.blame, rule.sample, cooldown=rule.cooldown)


TestAnyHistory = HealthMachine.TestCase
TestAnyHistory.settings = settings(some(0.5), stateful_step_count=30)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Health, VirtualRuntime]:
    """Some time after some trouble."""
    runtime = VirtualRuntime(draw(st.sampled_from([0.0, 0.5, 0.99])))
    health = Health(runtime, POLICY, RetryPolicy())
    for target, verdict, times, pause in draw(
        st.lists(
            st.tuples(
                st.sampled_from(TARGETS),
                VERDICT | st.sampled_from(BREAKING).map(ruled),
                st.integers(1, 3),
                st.sampled_from([0.0, 0.0, 0.5, 2.0, 20.0]),
            ),
            max_size=12,
        )
    ):
        for _ in range(times):
            got = health.admit(target, [KEY], lease=LEASE, stream=False)
            if isinstance(got, Admission) and draw(st.integers(0, 9)):  # else it is lost
                got.settle(verdict.sample, verdict.blame)
                health.cool(target, KEY, verdict, None)
        runtime.now += pause
    return health, runtime


@some(0.8)
@given(histories(), st.sampled_from(TARGETS))
def test_a_refusal_says_honestly_when_to_come_back(history: tuple[Health, VirtualRuntime], target: Target) -> None:
    """Who is refused with a time, and comes back just after it, is admitted."""
    health, runtime = history
    refusal = health.peek(target, [KEY])
    assume(refusal is not None and refusal.retry_at is not None)
    assert refusal is not None
    assert refusal.retry_at is not None
    runtime.now = max(runtime.now, refusal.retry_at) + EPSILON
    assert isinstance(health.admit(target, [KEY], lease=LEASE, stream=False), Admission)


@some(0.8)
@given(
    histories(),
    st.sampled_from(TARGETS),
    st.sampled_from([Blame.MODEL, Blame.GATEWAY]),
    st.sampled_from(Sample),
    st.booleans(),
)
def test_a_result_from_before_a_transition_changes_nothing(
    history: tuple[Health, VirtualRuntime], target: Target, blame: Blame, sample: Sample, closed_again: bool
) -> None:
    """An attempt that began before a breaker opened, and ends when it is open, half-open or closed again, teaches it
    nothing: neither a late failure nor a late success."""
    health, runtime = history
    runtime.now += 4000  # what rests has rested
    late = health.admit(target, [KEY], lease=LEASE, stream=False)
    assume(isinstance(late, Admission))
    assert isinstance(late, Admission)
    breaker = health.breaker(GATEWAY, target.model if blame is Blame.MODEL else None)
    while breaker.state is not BreakerState.OPEN:
        other = health.admit(target, [KEY], lease=LEASE, stream=False)
        if isinstance(other, Admission):
            other.settle(Sample.FAIL, blame)
        else:
            runtime.now += LEASE
    while closed_again and breaker.state is not BreakerState.CLOSED:
        runtime.now += LEASE
        probe = health.admit(target, [KEY], lease=LEASE, stream=False)
        if isinstance(probe, Admission):
            probe.settle(Sample.OK, Blame.NOBODY)
    before = memory(health)[target.model if blame is Blame.MODEL else None]
    late.settle(sample, blame)
    assert memory(health)[target.model if blame is Blame.MODEL else None] == before


@some(0.8)
@given(
    histories(),
    st.builds(
        Signal,
        status=st.sampled_from([400, 401, 402, 403, 404, 409, 413, 421, 425, 429]),
        body=st.sampled_from(
            [
                None,
                {"error": {"message": "No endpoints found matching your data policy"}},
                {"error": {"metadata": {"limit_source": "openrouter_free_tier_daily"}}},
                {"error": {"code": "insufficient_quota"}},
                {"error": {"code": "context_length_exceeded"}},
                {"error": {"availability": {"code": "privacy_restricted", "retryable": True}}},
            ]
        ),
    ),
    st.sampled_from(TARGETS),
)
def test_only_models_and_gateways_feed_breakers(
    history: tuple[Health, VirtualRuntime], signal: Signal, target: Target
) -> None:
    """A verdict that blames the request, the key, the tenant or this process leaves every breaker as it was."""
    health, runtime = history
    runtime.now += 4000  # what rests has rested
    verdict = classify(signal)
    assume(verdict.blame not in (Blame.MODEL, Blame.GATEWAY) and verdict.action is not Action.RETURN)
    admission = health.admit(target, [KEY], lease=LEASE, stream=True)
    assume(isinstance(admission, Admission))
    assert isinstance(admission, Admission)
    before = memory(health)
    admission.settle(verdict.sample, verdict.blame)
    health.cool(target, KEY, verdict, signal.status)
    assert memory(health) == before
