"""What a client knows of the health of models, gateways and keys: who rests and for how long, who may try, who learns what."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from routerkit.core import health as module
from routerkit.core.health import Admission, Health, Refusal
from routerkit.core.keys import Key
from routerkit.core.verdict import Signal, classify
from routerkit.core.verdict_table import Ending
from routerkit.gateways import OPENROUTER
from routerkit.testing import VirtualRuntime
from routerkit.testing.runtime import WALL
from routerkit.types.event import BreakerChanged, BreakerState
from routerkit.types.policy import BreakerPolicy, RetryPolicy
from routerkit.types.route import Target
from routerkit.types.verdict import Blame, Sample, Verdict

KEY, OTHER_KEY = Key(None, OPENROUTER), Key(None, OPENROUTER, "…bbbbbb")
A, B, C = (Target("openrouter", model) for model in ("a/one", "b/two", "c/three"))
FREE = Target("openrouter", "a/one:free")
ELSEWHERE = Target("infron", "a/one")


@pytest.fixture
def runtime() -> VirtualRuntime:
    runtime = VirtualRuntime()
    runtime.dice = 1.0
    return runtime


@pytest.fixture
def health(runtime: VirtualRuntime) -> Health:
    return Health(runtime, BreakerPolicy(), RetryPolicy())


def verdict(status: int, hint: float | None = None, **error: Any) -> Verdict:
    headers = {} if hint is None else {"retry-after": f"{hint:g}"}
    return classify(Signal(status=status, headers=headers, body={"error": {"message": "", **error}}, wall=WALL))


def page(status: int, hint: float) -> Verdict:
    return classify(Signal(status=status, headers={"retry-after": f"{hint:g}"}, text=b"<html>", wall=WALL))


def admit(health: Health, target: Target = A, key: Key = KEY, **more: Any) -> Admission | Refusal:
    return health.admit(target, [key], **{"lease": 60.0, "stream": False, **more})


def admitted(health: Health, target: Target = A, **more: Any) -> Admission:
    got = admit(health, target, **more)
    assert isinstance(got, Admission), got
    return got


def refused(health: Health, target: Target = A, key: Key = KEY, **more: Any) -> Refusal:
    got = admit(health, target, key, **more)
    assert isinstance(got, Refusal)
    return got


def fail(health: Health, target: Target = A, blame: Blame = Blame.MODEL, times: int = 5) -> None:
    for _ in range(times):
        admitted(health, target).settle(Sample.FAIL, blame)


# --- cooldowns ---

RESTS = [
    ("429", verdict(429), 5, {A}),
    ("429 with a hint", verdict(429, 30), 30, {A}),
    ("429 with a hostile hint", verdict(429, 86_400), 300, {A}),
    ("503 with a hint", verdict(503, 20), 20, {A}),
    ("unknown model", verdict(404), 3600, {A}),
    ("our own data policy", verdict(404, availability={"code": "privacy_restricted"}), 3600, {A}),
    ("401", verdict(401), 60, {A, B, FREE}),
    ("402", verdict(402), 300, {A, B, FREE}),
    ("no quota", verdict(429, 86_400, code="insufficient_quota"), 300, {A, B, FREE}),
    ("credit under way", verdict(402, 3, metadata={"limit_source": "openrouter_in_flight_budget"}), 3, {A, B, FREE}),
    ("key limit", verdict(403, 86_400, metadata={"limit_source": "openrouter_key_limit"}), 3600, {A, B, FREE}),
    ("free tier", verdict(429, 86_400, message="free-models-per-day"), 86_400, {FREE}),
    ("maintenance", page(503, 600), 60, {A, B, FREE}),
    ("edge", page(522, 20), 20, {A, B, FREE}),
]


@pytest.mark.parametrize(("cause", "seconds", "resting"), [row[1:] for row in RESTS], ids=[row[0] for row in RESTS])
def test_who_rests_and_for_how_long(
    health: Health, runtime: VirtualRuntime, cause: Verdict, seconds: float, resting: set[Target]
) -> None:
    health.cool(A, KEY, cause, 429)
    targets = {A, B, FREE, ELSEWHERE}
    assert {target for target in targets if isinstance(admit(health, target), Refusal)} == resting
    assert {target for target in targets if health.peek(target, [KEY]) is not None} == resting
    refusal = refused(health, next(iter(resting)))
    assert refusal.retry_at == runtime.monotonic() + seconds
    assert refusal.reason.endswith(f" after {cause.code}")
    assert refusal.cooldown is not None
    assert (refusal.cooldown.verdict, refusal.cooldown.status) == (cause, 429)
    assert refusal.gateway_wide == (B in resting)
    assert [*health.cooldowns().values()] == [seconds]
    runtime.advance(seconds - 0.001)
    assert isinstance(admit(health, next(iter(resting))), Refusal)
    runtime.advance(0.001)
    assert all(isinstance(admit(health, target), Admission) for target in targets)
    assert health.cooldowns() == {}


@pytest.mark.parametrize(
    ("cause", "name", "reason"),
    [
        (verdict(429), "a/one:free on openrouter", "rests after rate_limited"),
        (verdict(401), "the key of openrouter", "the key of openrouter rests after authentication"),
        (
            verdict(429, message="free-models-per-day"),
            "the key of openrouter (free models)",
            "the key of openrouter (free models) rests after free_tier_exhausted",
        ),
        (page(503, 9), "gateway openrouter", "gateway openrouter rests after not_an_api"),
    ],
)
def test_names_of_what_rests(health: Health, cause: Verdict, name: str, reason: str) -> None:
    health.cool(FREE, KEY, cause, None)
    assert [*health.cooldowns()] == [name]
    assert refused(health, FREE).reason == reason


def test_a_key_rests_alone(health: Health) -> None:
    health.cool(A, KEY, verdict(401), 401)
    assert isinstance(admit(health, A, OTHER_KEY), Admission)


@pytest.mark.parametrize(
    "cause",
    [verdict(400), verdict(500), verdict(502), verdict(503), classify(Signal(ending=Ending.CANCELLED)), page(403, 0)],
    ids=lambda cause: str(cause.code),
)
def test_what_asks_for_no_rest(health: Health, cause: Verdict) -> None:
    health.cool(A, KEY, cause, None)
    assert health.cooldowns() == {}


@pytest.mark.parametrize("order", [(30, 10), (10, 30)])
def test_the_longest_cooldown_wins(health: Health, runtime: VirtualRuntime, order: tuple[float, float]) -> None:
    for hint in order:
        health.cool(A, KEY, verdict(429, hint), 429)
    assert refused(health).retry_at == runtime.monotonic() + 30


@pytest.mark.parametrize("causes", [(verdict(404), verdict(429)), (verdict(429), verdict(404))])
def test_of_two_rests_of_one_name_the_longer_is_shown(health: Health, causes: tuple[Verdict, Verdict]) -> None:
    """The model is unknown to everybody, and limited with this key."""
    for cause in causes:
        health.cool(A, KEY, cause, None)
    assert health.cooldowns() == {"a/one on openrouter": 3600}


def test_a_rest_of_less_than_a_second_is_shown_as_that(health: Health, runtime: VirtualRuntime) -> None:
    health.cool(A, KEY, verdict(429), 429)
    runtime.advance(4.5)
    assert health.cooldowns() == {"a/one on openrouter": 0.5}


def test_of_two_keys_that_rest_the_one_that_is_back_first_counts(health: Health, runtime: VirtualRuntime) -> None:
    for key, cause in ((KEY, verdict(402)), (OTHER_KEY, verdict(401))):
        health.cool(A, key, cause, None)
    for keys in ([KEY, OTHER_KEY], [OTHER_KEY, KEY]):
        got = health.admit(A, keys, lease=60, stream=False)
        assert isinstance(got, Refusal)
        assert got.retry_at == runtime.monotonic() + 60


def test_cooldowns_feed_no_breaker(health: Health) -> None:
    for _ in range(50):
        health.cool(A, KEY, verdict(429, 1), 429)
    assert health.breaker("openrouter", "a/one").state is BreakerState.CLOSED


def test_a_call_that_waited_out_its_backoff_passes_a_rest_that_nobody_asked_for(health: Health) -> None:
    health.cool(A, KEY, verdict(429), 429)
    admitted(health, again=True)
    health.cool(A, KEY, verdict(429, 20), 429)
    refused(health, again=True)


# --- the storm ---


def test_three_models_limited_within_ten_seconds_are_the_key(health: Health, runtime: VirtualRuntime) -> None:
    for target in (A, B):
        health.cool(target, KEY, verdict(429, 40), 429)
        runtime.advance(4.9)
    assert isinstance(admit(health, Target("openrouter", "d/four")), Admission)
    health.cool(C, KEY, verdict(429, 40), 429)
    refusal = refused(health, Target("openrouter", "d/four"))
    assert refusal.gateway_wide
    assert refusal.retry_at == runtime.monotonic() + 40
    assert refusal.cooldown is not None
    assert refusal.cooldown.status == 429
    assert isinstance(admit(health, Target("openrouter", "d/four"), OTHER_KEY), Admission)
    assert isinstance(admit(health, ELSEWHERE), Admission)


def test_the_storm_rests_a_minute_at_most(health: Health, runtime: VirtualRuntime) -> None:
    for target in (A, B, C):
        health.cool(target, KEY, verdict(429, 300), 429)
    assert refused(health, FREE).retry_at == runtime.monotonic() + 60
    runtime.advance(60)
    assert isinstance(admit(health, FREE), Admission)
    refused(health, C)


@pytest.mark.parametrize(
    ("targets", "pause", "cause"),
    [
        ((A, B, C), 5, verdict(429, 60)),
        ((A, B, A, B, A), 0, verdict(429)),
        ((A, B, C), 0, verdict(429, availability={"code": "capacity_exhausted"})),
        ((A, B, C), 0, verdict(404)),
    ],
    ids=["too slow", "two models", "capacity", "not limited"],
)
def test_no_storm(
    health: Health, runtime: VirtualRuntime, targets: tuple[Target, ...], pause: float, cause: Verdict
) -> None:
    for target in targets:
        health.cool(target, KEY, cause, 429)
        runtime.advance(pause)
    assert isinstance(admit(health, FREE), Admission)


def test_three_models_limited_with_different_keys_are_no_storm(health: Health) -> None:
    for target, key in ((A, KEY), (B, KEY), (C, OTHER_KEY), (ELSEWHERE, KEY)):
        health.cool(target, key, verdict(429), 429)
    for key in (KEY, OTHER_KEY):
        assert isinstance(admit(health, FREE, key), Admission)


def test_a_crowd_that_meets_one_model_after_the_other_is_a_storm_too(health: Health) -> None:
    """As when 32 threads ask for the same models in the same order."""
    for target in (A, B, C):
        for _ in range(32):
            health.cool(target, KEY, verdict(429), 429)
    assert refused(health, FREE).gateway_wide


# --- breakers ---


def test_who_learns_what(health: Health) -> None:
    for blame in Blame:
        for _ in range(20):
            admitted(health).settle(Sample.NEUTRAL, blame)
    for blame in set(Blame) - {Blame.MODEL, Blame.GATEWAY}:
        for _ in range(20):
            admitted(health).settle(Sample.FAIL, blame)
    assert set(health.states().values()) == {BreakerState.CLOSED}
    fail(health)
    assert health.states() == {"openrouter": BreakerState.CLOSED, "a/one on openrouter": BreakerState.OPEN}
    fail(health, B, Blame.GATEWAY)
    assert health.states() == {
        "openrouter": BreakerState.OPEN,
        "a/one on openrouter": BreakerState.OPEN,
        "b/two on openrouter": BreakerState.CLOSED,
    }


def test_an_open_model_refuses_alone(health: Health, runtime: VirtualRuntime) -> None:
    fail(health)
    refusal = refused(health)
    assert refusal == health.peek(A, [KEY]) == Refusal("its breaker is open", runtime.monotonic() + 5)
    admitted(health, B)
    runtime.advance(5)
    assert health.peek(A, [KEY]) is None
    admitted(health)
    assert refused(health).reason == "its breaker is half_open"
    assert health.peek(A, [KEY]) == refused(health)


def test_an_open_gateway_refuses_all_its_models(health: Health, runtime: VirtualRuntime) -> None:
    fail(health, A, Blame.GATEWAY)
    expected = Refusal("the breaker of gateway openrouter is open", runtime.monotonic() + 5, gateway_wide=True)
    assert refused(health, B) == health.peek(B, [KEY]) == expected
    admitted(health, ELSEWHERE)


def test_a_refusing_model_gives_the_gateways_probe_back(health: Health, runtime: VirtualRuntime) -> None:
    fail(health, A, Blame.GATEWAY)
    health.breaker("openrouter", "a/one").force_open(runtime.monotonic())
    runtime.advance(5)
    assert refused(health, A).retry_at is None
    admitted(health, B)


def test_while_a_gateway_is_probed_the_others_wait_for_its_answer(health: Health, runtime: VirtualRuntime) -> None:
    fail(health, A, Blame.GATEWAY)
    runtime.advance(5)
    admitted(health, A, lease=30)
    reason = "the breaker of gateway openrouter is half_open"
    assert refused(health, B) == Refusal(reason, runtime.monotonic() + 30, gateway_wide=True)


def test_an_answer_is_good_news_of_the_gateway_before_the_model_has_ended(
    health: Health, runtime: VirtualRuntime
) -> None:
    fail(health, A, Blame.GATEWAY)
    runtime.advance(5)
    for target in (A, B):
        admission = admitted(health, target)
        assert health.states()["openrouter"] is BreakerState.HALF_OPEN
        admission.reached()
    assert health.states()["openrouter"] is BreakerState.CLOSED
    fail(health, C, Blame.GATEWAY)
    assert health.states()["openrouter"] is BreakerState.OPEN


def test_a_probe_that_says_nothing_leaves_the_next_to_another(health: Health, runtime: VirtualRuntime) -> None:
    fail(health)
    runtime.advance(5)
    for _ in range(3):
        admitted(health).settle(Sample.NEUTRAL, Blame.NOBODY)
    assert health.states()["a/one on openrouter"] is BreakerState.HALF_OPEN


def test_success_is_good_news_of_both(health: Health, runtime: VirtualRuntime) -> None:
    fail(health, A, Blame.GATEWAY)
    fail_model = health.breaker("openrouter", "a/one")
    permit = fail_model.acquire(runtime.monotonic(), lease=1)
    for _ in range(5):
        fail_model.record(Sample.FAIL, runtime.monotonic(), permit)
    runtime.advance(5)
    for _ in range(2):
        admitted(health).settle(Sample.OK, Blame.NOBODY)
    assert set(health.states().values()) == {BreakerState.CLOSED}


def test_an_admission_settles_once(health: Health) -> None:
    for _ in range(5):
        admission = admitted(health)
        admission.settle(Sample.NEUTRAL, Blame.NOBODY)
        for _ in range(5):
            admission.settle(Sample.FAIL, Blame.MODEL)
    assert set(health.states().values()) == {BreakerState.CLOSED}


def test_a_stream_that_has_just_begun_changes_nothing_for_other_calls(health: Health, runtime: VirtualRuntime) -> None:
    """Failures that are over are not looked at anew for it: it may hang, or not."""
    for sample, seconds in [(Sample.FAIL, 11)] * 4 + [(Sample.OK, 1)] * 4:
        admitted(health).settle(sample, Blame.MODEL)
        runtime.advance(seconds)
    runtime.advance(6)
    admitted(health, A, stream=True)
    runtime.advance(0.1)
    assert isinstance(admit(health), Admission)


def test_a_stream_that_hangs_is_watched(health: Health, runtime: VirtualRuntime) -> None:
    for _ in range(5):
        admitted(health, A, stream=True)
        admitted(health, B, stream=False)
    runtime.advance(10)
    refused(health, A)
    admitted(health, B)


def test_a_broken_stream_is_recorded(health: Health) -> None:
    admission = admitted(health, A)
    admission.settle(Sample.OK, Blame.NOBODY)
    for _ in range(5):
        admission.broke(Sample.FAIL)
    refused(health, A)


def test_listeners_hear_of_breakers_by_name(runtime: VirtualRuntime) -> None:
    heard: list[BreakerChanged] = []
    health = Health(runtime, BreakerPolicy(), RetryPolicy(), heard.append)
    fail(health)
    fail(health, B, Blame.GATEWAY)
    assert heard == [
        BreakerChanged("a/one on openrouter", BreakerState.OPEN, 5),
        BreakerChanged("openrouter", BreakerState.OPEN, 5),
    ]


# --- several reasons at once ---


def test_of_several_reasons_the_last_to_give_way_counts(health: Health, runtime: VirtualRuntime) -> None:
    fail(health)
    health.cool(A, KEY, verdict(429, 3), 429)
    refusal = refused(health)
    assert (refusal.reason, refusal.retry_at) == ("its breaker is open", runtime.monotonic() + 5)
    assert refusal.cooldown is not None, "a cooldown is among them, so no probe is made for want of another target"
    assert refusal.cooldown.verdict.code == "rate_limited"
    assert not refusal.gateway_wide
    health.cool(A, KEY, verdict(401), 401)
    refusal = refused(health)
    assert (refusal.reason, refusal.retry_at) == (
        "the key of openrouter rests after authentication",
        runtime.monotonic() + 60,
    )
    assert refusal.cooldown is not None
    assert refusal.cooldown.verdict.code == "authentication"
    health.breaker("openrouter", "a/one").force_open(runtime.monotonic())
    refusal = refused(health)
    assert (refusal.reason, refusal.retry_at) == ("its breaker is open", None)
    assert refusal.gateway_wide, "no model would be served, whatever else stands in the way of this one"


def test_a_model_and_its_gateway_that_are_both_open(health: Health, runtime: VirtualRuntime) -> None:
    fail(health, A)
    runtime.advance(1)
    fail(health, B, Blame.GATEWAY)
    reason = "the breaker of gateway openrouter is open"
    assert refused(health, A) == Refusal(reason, runtime.monotonic() + 5, gateway_wide=True)


# --- panic ---


def test_panic_tries_the_one_that_opens_first(health: Health, runtime: VirtualRuntime) -> None:
    for target in (A, B, C):
        fail(health, target)
        runtime.advance(1)
    found = health.panic([C, B, A], lambda _: [KEY], lease=60)
    assert found is not None
    target, admission = found
    assert target == A
    admission.settle(Sample.FAIL, Blame.MODEL)
    second = health.panic([C, B, A], lambda _: [KEY], lease=60)
    assert second is not None
    assert second[0] == B, "A had its probe of this second and is now the last to open"


def test_panic_reaches_through_an_open_gateway(health: Health, runtime: VirtualRuntime) -> None:
    fail(health, A, Blame.GATEWAY)
    found = health.panic([A, B], lambda _: [KEY], lease=60)
    assert found is not None
    assert health.panic([A, B], lambda _: [KEY], lease=60) is None
    found[1].settle(Sample.FAIL, Blame.GATEWAY)
    assert health.panic([A, B], lambda _: [KEY], lease=60) is None
    runtime.advance(1)
    assert health.panic([A, B], lambda _: [KEY], lease=60) is not None


def test_panic_looks_at_gateways_as_well_as_at_models(health: Health, runtime: VirtualRuntime) -> None:
    fail(health, ELSEWHERE)
    runtime.advance(1)
    fail(health, A, Blame.GATEWAY)
    found = [health.panic([B, ELSEWHERE], lambda _: [KEY], lease=60) for _ in range(3)]
    assert [each and each[0] for each in found] == [ELSEWHERE, B, None]
    assert health.may_retry(B)


def test_in_panic_a_gateway_that_had_its_probe_does_not_hide_the_next(health: Health, runtime: VirtualRuntime) -> None:
    fail(health, A, Blame.GATEWAY)
    runtime.advance(1)
    fail(health, ELSEWHERE)
    found = [health.panic([A, B, ELSEWHERE], lambda _: [KEY], lease=60) for _ in range(2)]
    assert [each and each[0] for each in found] == [A, ELSEWHERE]


@pytest.mark.parametrize(("first", "second"), [(Blame.GATEWAY, Blame.MODEL), (Blame.MODEL, Blame.GATEWAY)])
def test_in_panic_one_of_both_may_be_due_already(
    health: Health, runtime: VirtualRuntime, first: Blame, second: Blame
) -> None:
    """And its probe has as long as the other's."""
    held = [admitted(health) for _ in range(5)]
    fail(health, A, first)
    runtime.advance(3)
    for each in held:
        each.settle(Sample.FAIL, second)
    runtime.advance(2.5)
    assert health.panic([A], lambda _: [KEY], lease=30) is not None
    assert refused(health).retry_at == runtime.monotonic() + 30


def test_panic_does_not_override_an_operator(health: Health, runtime: VirtualRuntime) -> None:
    health.breaker("openrouter", "a/one").force_open(runtime.monotonic())
    assert health.panic([A], lambda _: [KEY], lease=60) is None
    fail(health, B, Blame.GATEWAY)
    fail_model = health.breaker("openrouter", "b/two")
    permit = fail_model.acquire(runtime.monotonic(), lease=1)
    for _ in range(5):
        fail_model.record(Sample.FAIL, runtime.monotonic(), permit)
    found = health.panic([A, B], lambda _: [KEY], lease=60)
    assert found is not None
    assert found[0] == B
    found[1].settle(Sample.OK, Blame.NOBODY)
    assert health.panic([A], lambda _: [KEY], lease=60) is None
    runtime.advance(10)
    admitted(health, B)  # A, which is forced, gave the gateway's permit back


# --- retry budgets ---


def test_every_target_has_its_retry_budget(health: Health, runtime: VirtualRuntime) -> None:
    assert [health.may_retry(A) for _ in range(11)] == [True] * 10 + [False]
    assert health.may_retry(B)
    for _ in range(10):
        admitted(health, again=True)
    assert not health.may_retry(A), "only first attempts deposit"
    for _ in range(11):
        admitted(health)
    assert health.may_retry(A)
    assert not health.may_retry(A)
    runtime.advance(10)
    assert health.may_retry(A)


# --- memory ---


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, runtime: VirtualRuntime) -> Health:
    monkeypatch.setattr(module, "MAX_ENTRIES", 20)
    return Health(runtime, BreakerPolicy(), RetryPolicy())


def test_memory_is_bounded_and_open_breakers_are_kept(small: Health) -> None:
    fail(small, B)
    kept = small.breaker("openrouter", "a/one")
    for number in range(500):
        admitted(small, Target("openrouter", f"m/{number}"))
        admitted(small, A)
        small.cool(Target("openrouter", f"m/{number}"), KEY, verdict(404), 404)
        assert len(small.states()) <= 21, "twenty models and their gateway"
    states = small.states()
    assert states["b/two on openrouter"] is BreakerState.OPEN
    assert small.breaker("openrouter", "a/one") is kept, "what is used all the time is kept"
    assert "m/499 on openrouter" in states
    assert len(small.cooldowns()) <= 20


def test_where_all_are_open_the_oldest_go_once_there_are_twice_as_many(small: Health) -> None:
    for number in range(100):
        fail(small, Target("openrouter", f"m/{number}"))
        assert len(small.states()) <= 41, "forty models and their gateway"
    states = small.states()
    assert states["m/99 on openrouter"] is BreakerState.OPEN, "a new one can still open"
    assert "m/0 on openrouter" not in states


def test_half_open_breakers_are_kept_too(small: Health, runtime: VirtualRuntime) -> None:
    fail(small, B)
    runtime.advance(5)
    admitted(small, B)
    for number in range(100):
        admitted(small, Target("openrouter", f"m/{number}"))
    assert small.states()["b/two on openrouter"] is BreakerState.HALF_OPEN


# --- threads ---


def crowd(work: Callable[[int], Any]) -> list[Any]:
    """What 32 threads get that start together."""
    barrier = threading.Barrier(32)

    def together(number: int) -> Any:
        barrier.wait(timeout=10)
        return work(number)

    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(together, range(32)))


def test_of_a_crowd_one_is_the_probe(health: Health, runtime: VirtualRuntime) -> None:
    fail(health)
    runtime.advance(5)
    got = crowd(lambda _: [admit(health) for _ in range(16)])
    assert sum(isinstance(each, Admission) for attempts in got for each in attempts) == 1


def test_of_a_crowd_in_panic_one_is_the_probe(health: Health) -> None:
    for target in (A, B, C):
        fail(health, target)
    got = crowd(lambda number: health.panic([(A, B, C)[number % 3]], lambda _: [KEY], lease=60))
    assert sum(each is not None for each in got) == 3


def test_a_crowd_settles_one_admission_once(health: Health) -> None:
    for _ in range(4):
        admission = admitted(health)
        crowd(lambda _, admission=admission: admission.settle(Sample.FAIL, Blame.MODEL))
    assert health.states()["a/one on openrouter"] is BreakerState.CLOSED
    fail(health, times=1)
    assert health.states()["a/one on openrouter"] is BreakerState.OPEN


def test_a_crowd_leaves_everything_in_order(small: Health, runtime: VirtualRuntime) -> None:
    samples = (Sample.OK, Sample.FAIL, Sample.NEUTRAL, Sample.SLOW)

    def work(number: int) -> None:
        for turn in range(60):
            target = Target("openrouter", f"m/{(number * turn) % 40}")
            got = admit(small, target, stream=turn % 2 == 0)
            if isinstance(got, Admission):
                got.settle(samples[(number + turn) % 4], (Blame.MODEL, Blame.GATEWAY)[turn % 2])
            small.cool(target, KEY, verdict(429, 1), 429)
            small.may_retry(target)
            small.peek(target, [KEY])
            small.states()
            small.cooldowns()
            runtime.advance(0.01)

    crowd(work)
    runtime.advance(3600)
    for name in small.states():
        model, _, gateway = name.partition(" on ")
        breaker = small.breaker(gateway, model) if gateway else small.breaker(model)
        for _ in range(2):
            permit = breaker.acquire(runtime.monotonic(), lease=60)
            assert permit is not None, name
            permit.settle(Sample.OK, runtime.monotonic())
        assert breaker.state is BreakerState.CLOSED


def test_a_forked_child_gets_a_lock_of_its_own(health: Health) -> None:
    with health._lock:
        health.forget_lock()
        admitted(health)
