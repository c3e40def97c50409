"""The life of a call in the core alone: when it goes on, when it ends, and what its error says."""

from __future__ import annotations

import gc
from decimal import Decimal
from typing import Any

import pytest

from routerkit import (
    AllModelsFailedError,
    CallFinished,
    DeadlineExceededError,
    NoEligibleModelError,
    RateLimitError,
    RetryPolicy,
    Timeouts,
)
from routerkit.core.effects import Cancelled, Emit, Failure, HttpResponse, Send, TransportFailure
from routerkit.core.health import Admission
from routerkit.core.verdict import Signal, classify
from routerkit.testing import replies as r
from routerkit.types.event import AttemptFinished, BreakerState
from routerkit.types.verdict import Billing, Blame, Sample, Sent
from tests.support.core import HOST, A, B, C, World, after, asking, body, doing, target
from tests.support.virtual import Interruption, VirtualRuntime

HINT = {"Retry-After": "200"}
ONE_MODEL = Timeouts(total=10)


# --- a list of which the gateway chooses ---


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (r.error(400, message="x/typo is not a valid model ID"), "model_not_found"),
        (r.error(404, message="No endpoints found matching your data policy"), "policy_restricted"),
        (r.error(429, headers=HINT), "rate_limited"),
        (r.error(500), "server_error"),
    ],
)
def test_what_is_said_of_a_list_of_models_holds_for_none_of_them(refusal: r.Reply, code: str, stream: bool) -> None:
    world = World()
    world.gateway.default = r.choose(lambda request: refusal if "models" in request.json else r.completion("Fine"))
    for _ in range(10):
        told = world.ask(models=[A, "x/typo"], stream=stream, timeouts=ONE_MODEL)
        assert told.attempts[0].endswith(code)
    assert world.router.health.cooldowns() == {}
    assert set(world.router.health.states().values()) == {BreakerState.CLOSED}
    told = world.ask(stream=stream)
    assert (told.gives, told.skipped) == ("Fine", {})


CUT = body(b'data: {"choices": [{"delta": {"content": "Fine"}}]}\n\n')


@pytest.mark.parametrize("broken", [CUT, after(11, CUT)], ids=["cut", "slow and cut"])
def test_and_so_does_a_stream_of_it_that_is_slow_or_breaks(broken: r.Reply) -> None:
    world = World()
    world.gateway.default = broken
    for _ in range(10):
        assert world.ask(models=[A, B], stream=True).attempts == [f"{A} 200 truncated"]
    assert set(world.router.health.states().values()) == {BreakerState.CLOSED}
    for _ in range(10):
        world.ask(stream=True)
    assert world.router.health.states()[f"{A} on {HOST}"] is BreakerState.OPEN


def test_what_is_said_of_the_key_or_the_gateway_holds_all_the_same() -> None:
    world = World()
    world.gateway.default = r.error(401)
    world.ask(models=[A, B])
    assert world.ask(models=[A, B]).attempts == []


# --- the deadline ---


def test_the_callers_own_short_deadline_blames_nobody() -> None:
    world = World()
    world.script(A, r.hang())
    for _ in range(10):
        told = world.ask(timeouts=Timeouts(total=5), fallback_models=[B])
        assert told.attempts == [f"{A} - deadline"]
        assert isinstance(told.error, DeadlineExceededError)
        assert f"within the 5 s of the call (asked: {A} on {HOST})" in str(told.error)
    assert world.router.health.breaker(HOST, A).state is BreakerState.CLOSED


@pytest.mark.parametrize(("total", "verdict"), [(9.9, "deadline"), (10, "deadline_slow")])
def test_a_stream_that_was_slow_by_its_own_measure_is_blamed(total: float, verdict: str) -> None:
    world = World()
    world.script(A, r.hang())
    assert world.ask(stream=True, timeouts=Timeouts(total=total)).attempts == [f"{A} - {verdict}"]


def test_after_a_failure_there_must_be_time_for_another_attempt() -> None:
    world = World()
    world.script(A, after(9.5, r.error(500)))
    told = world.ask(timeouts=ONE_MODEL, fallback_models=[B])
    assert told.gives == "DeadlineExceededError"
    assert told.attempts == [f"{A} 500 server_error"]
    assert "500" in str(told.error.__cause__ if told.error else "")


def test_a_second_is_time_enough() -> None:
    world = World()
    world.script(A, after(9, r.error(500)))
    assert world.ask(timeouts=ONE_MODEL, fallback_models=[B]).gives == f"Hello from {B}"


class Oversleeping(VirtualRuntime):
    def sleep(self, seconds: float) -> None:
        super().sleep(seconds + 9)


def test_a_wait_that_took_too_long_is_the_end() -> None:
    world = World(runtime=Oversleeping())
    world.script(A, r.error(500), r.completion())
    told = world.ask(timeouts=ONE_MODEL)
    assert told.gives == "DeadlineExceededError"
    assert len(told.attempts) == len(told.waits) == 1


# --- our own lag ---


@pytest.mark.parametrize(
    ("lag", "verdict", "blame"), [(1.0, "first_byte_timeout", "model"), (1.1, "local_lag", "local")]
)
def test_a_clock_that_was_read_late_blames_no_model(lag: float, verdict: str, blame: str) -> None:
    world = World()
    world.script(A, TransportFailure(Failure.FIRST_BYTE_TIMEOUT, Sent.MAYBE, lag=lag))
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} - {verdict}", f"{B} 200 ok"]
    assert told.route.attempts[0].verdict.blame == blame


# --- connections ---


def response(text: str = "fine") -> HttpResponse:
    return HttpResponse(200, {}, b'{"choices": [{"message": {"content": "%s"}}]}' % text.encode())


def test_what_was_not_sent_connects_once_more_at_no_charge() -> None:
    world = World(observed=False)
    step = world.router.complete(asking())
    first = step.send(None)
    assert isinstance(first, Send)
    assert not first.request.fresh
    second = step.throw(TransportFailure(Failure.CONNECT, Sent.NOT_SENT))
    assert isinstance(second, Send)
    assert second.request.fresh
    with pytest.raises(StopIteration) as stop:
        step.send(response())
    assert stop.value.value.text == "fine"
    assert len(stop.value.value.route.attempts) == 1


def test_it_connects_no_third_time() -> None:
    world = World()
    world.script(A, "refused")
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} - connect_failed"]
    assert told.route.billing is Billing.NONE


def test_an_idle_connection_that_was_closed_costs_no_attempt() -> None:
    world = World(retry=RetryPolicy(max_attempts=1))
    world.script(A, r.stale_keepalive(), r.completion())
    assert world.ask().attempts == [f"{A} 200 ok"]
    assert world.ask().attempts == [f"{A} - stale_connection", f"{A} 200 ok"]


def test_a_target_that_was_closed_meanwhile_is_not_asked_on_a_new_connection() -> None:
    """An operator, or another call, opens the breaker between the two."""
    world = World()
    breaker = world.router.health.breaker(HOST, A)
    closed = doing(lambda: breaker.force_open(world.runtime.now), r.error(421))
    world.script(A, closed)
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} 421 misdirected", f"{B} 200 ok"]


# --- the same target again ---


def test_a_conflict_is_tried_again_on_the_same_model() -> None:
    world = World()
    world.script(A, r.error(409), r.completion())
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} 409 conflict", f"{A} 200 ok"]
    assert told.waits == [0.25]


def test_then_on_the_next() -> None:
    world = World()
    world.script(A, r.error(409))
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} 409 conflict", f"{A} 409 conflict", f"{B} 200 ok"]


def test_without_a_budget_for_retries_there_are_none() -> None:
    world = World(retry=RetryPolicy(budget=0))
    world.script(A, r.error(500))
    told = world.ask()
    assert told.attempts == [f"{A} 500 server_error"]
    assert told.waits == []


def test_a_breaker_that_opens_during_the_wait_stops_the_retry() -> None:
    class Watching(VirtualRuntime):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            world.trip(A)

    world = World(runtime=Watching())
    world.script(A, r.error(500))
    told = world.ask()
    assert told.gives == "InternalServerError"
    assert told.attempts == [f"{A} 500 server_error"]


@pytest.mark.parametrize("stream", [False, True])
def test_at_most_once_ends_with_what_may_have_been_processed(stream: bool) -> None:
    world = World(retry=RetryPolicy(at_most_once=True))
    world.script(A, r.error(500))
    world.script(B, r.error(429))
    assert world.ask(stream=stream, fallback_models=[C]).attempts == [f"{A} 500 server_error"]
    assert world.ask(stream=stream, model=B, fallback_models=[C]).gives == f"Hello from {C}"


# --- which error ---


def test_a_class_of_models_that_is_used_up_is_one_error() -> None:
    """The account's free requests are over: no other free model is asked, and the error is that one, not a collection."""
    world = World()
    world.script("x/one:free", r.error(429, message="Rate limit exceeded: free-models-per-day"))
    told = world.ask(model="x/one:free", fallback_models=["x/two:free"])
    assert told.attempts == ["x/one:free 429 free_tier_exhausted"]
    assert type(told.error) is RateLimitError


def test_models_that_had_no_turn_make_it_a_collection() -> None:
    world = World(retry=RetryPolicy(max_attempts=1))
    world.script(A, r.error(500))
    told = world.ask(fallback_models=[B])
    assert isinstance(told.error, AllModelsFailedError)
    assert "the model failed" in str(told.error)


def test_a_model_that_rests_makes_it_a_collection_too() -> None:
    world = World()
    world.script(A, r.error(429, headers=HINT))
    world.script(B, r.error(500))
    world.ask(fallback_models=[C])
    told = world.ask(fallback_models=[B])
    assert isinstance(told.error, AllModelsFailedError)
    assert told.error.retry_after == pytest.approx(200)
    assert f"{A} on {HOST}: not asked: rests after rate_limited" in str(told.error)


@pytest.mark.parametrize("catalog", [r.json_body({"data": []}), r.json_body({"data": [r.catalog_model("x/dear")]})])
def test_nothing_to_ask(catalog: r.Reply) -> None:
    world = World()
    world.gateway.catalog = catalog
    told = world.ask(model=None, fallback_models=None)
    assert isinstance(told.error, NoEligibleModelError)
    assert told.attempts == []


def test_with_no_model_at_all_the_error_says_how_to_name_one() -> None:
    error = World().ask(model=None, fallback_models=None, models=[]).error
    assert isinstance(error, NoEligibleModelError)
    assert "pass model=, or set default_model=" in str(error)


@pytest.mark.parametrize(("count", "more"), [(20, ""), (23, "and 3 more")])
def test_reasons_are_listed_up_to_a_point(count: int, more: str) -> None:
    world = World()
    world.catalog(*[f"x/dear-{number:02d}" for number in range(count)])
    message = str(world.ask(model=None, fallback_models=None).error)
    assert message.count("not free") == 20
    assert message.endswith(more)
    assert ("more" in message.splitlines()[-1]) is bool(more)


def test_models_that_all_rest_say_when_they_are_back() -> None:
    world = World()
    world.script(A, r.error(429, headers=HINT))
    world.script(B, r.error(429, headers={"Retry-After": "100"}))
    world.ask(fallback_models=[B])
    told = world.ask(fallback_models=[B])
    assert told.attempts == []
    assert isinstance(told.error, NoEligibleModelError)
    assert told.error.retry_after == pytest.approx(100)
    assert told.error.rate_limited
    assert f"{B} on {HOST}: rests after rate_limited" in str(told.error)


def test_models_that_operators_closed_give_no_time() -> None:
    world = World()
    for model in (A, B):
        world.router.health.breaker(HOST, model).force_open(world.runtime.now)
    error = world.ask(fallback_models=[B]).error
    assert isinstance(error, NoEligibleModelError)
    assert error.retry_after is None
    assert not error.rate_limited


# --- the account ---


def test_headers_of_the_call_take_the_place_of_ours() -> None:
    world = World(app_title="Ours")
    world.ask(extra_headers={"x-title": "Theirs", "X-More": "1"})
    request = world.gateway.requests[0]
    assert [value for name, value in request.headers if name.lower() == "x-title"] == ["Theirs"]
    assert request.header("x-more") == "1"
    assert request.header("content-type") == "application/json"


def usage(**fields: Any) -> dict[str, Any]:
    return {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, **fields}


@pytest.mark.parametrize(
    ("served", "cost"),
    [(B, Decimal(30)), (A, Decimal(15)), ("x/unknown", Decimal(15)), (None, Decimal(15)), (5, Decimal(15))],
)
def test_the_catalogue_prices_the_model_that_served(served: Any, cost: Decimal) -> None:
    world = World()
    world.catalog(
        r.catalog_model(A, pricing={"prompt": "1", "completion": "1"}),
        r.catalog_model(B, pricing={"prompt": "2", "completion": "2"}),
    )
    world.read_catalog()
    world.script(A, r.completion(usage=usage(), model=served))
    answer = world.ask().answer
    assert answer is not None
    assert (answer.cost, answer.cost_source) == (cost, "catalog")


def test_without_a_catalogue_the_cost_is_unknown() -> None:
    world = World()
    world.script(A, r.completion(usage=usage()))
    answer = world.ask().answer
    assert answer is not None
    assert (answer.cost, answer.cost_source) == (None, "unknown")


def test_the_gateways_own_figure_comes_first() -> None:
    world = World()
    world.script(A, r.completion(usage=usage(cost=0.25)), r.completion(usage="none"))
    first, second = world.ask().answer, world.ask().answer
    assert first is not None
    assert (first.cost, first.cost_source) == (Decimal("0.25"), "gateway")
    assert second is not None
    assert second.cost is None


# --- observers ---


def test_nobody_listening_nothing_is_told() -> None:
    world = World(observed=False)
    world.script(A, r.error(500))
    world.ask(fallback_models=[B])
    world.ask(stream=True, fallback_models=[B])
    assert world.events == []


def test_each_attempt_and_the_call_are_told() -> None:
    world = World()
    world.script(A, r.error(500))
    told = world.ask(fallback_models=[B])
    first, second, last = world.events
    assert isinstance(first, AttemptFinished)
    assert first.attempt == told.route.attempts[0]
    assert isinstance(second, AttemptFinished)
    assert isinstance(last, CallFinished)
    assert (last.error, last.stream) == (None, False)
    assert last.route.attempts == told.route.attempts


def test_a_failed_call_is_told_by_its_error() -> None:
    world = World()
    world.script(A, r.error(400))
    world.ask()
    last = world.events[-1]
    assert isinstance(last, CallFinished)
    assert last.error == "BadRequestError"


@pytest.mark.parametrize("stream", [False, True])
def test_a_cancelled_attempt_is_neutral_and_told(stream: bool) -> None:
    world = World()
    step = world.router.stream(asking(stream=True)) if stream else world.router.complete(asking())
    with pytest.raises(KeyboardInterrupt):
        world.gateway.run(step, Interruption(at=0))
    attempt, call = world.events
    assert isinstance(attempt, AttemptFinished)
    assert (attempt.attempt.verdict.code, attempt.attempt.verdict.billing) == ("cancelled", Billing.POSSIBLE)
    assert isinstance(call, CallFinished)
    assert call.error == "Cancelled"
    assert world.router.health.breaker(HOST, A).state is BreakerState.CLOSED
    assert world.ask().gives == f"Hello from {A}"


def test_cancelled_while_telling_the_answer_is_not_an_attempt_more() -> None:
    world = World()
    step = world.router.complete(asking())
    assert isinstance(step.send(None), Send)
    assert isinstance(step.send(response()), Emit)
    last = step.throw(Cancelled())
    assert isinstance(last, Emit)
    assert isinstance(last.event, CallFinished)
    assert len(last.event.route.attempts) == 1
    with pytest.raises(Cancelled):
        step.send(None)


# --- permits ---


def admission(world: World) -> Admission:
    got = world.router.health.admit(target(A), world.router.access[HOST].keys, lease=10, stream=False)
    assert isinstance(got, Admission)
    return got


def test_an_attempt_is_settled_once() -> None:
    world = World()
    for _ in range(4):
        admission(world).settle(Sample.FAIL, Blame.GATEWAY)
    last = admission(world)
    last.settle(Sample.FAIL, Blame.GATEWAY)
    last.reached()
    last.settle(Sample.OK, Blame.NOBODY)
    assert world.router.health.breaker(HOST).state is BreakerState.OPEN


def test_a_model_that_was_told_to_rest_meanwhile_gets_no_probe() -> None:
    """Its breaker is open, and another call has just been told to come back later."""
    world = World()
    world.trip(A, B)
    health = world.router.health
    verdict = classify(Signal(status=429, headers=HINT))
    keys = world.router.access[HOST].keys
    health.cool(target(A), keys[0], verdict, 429)
    found = health.panic([target(A), target(B)], lambda _: keys, lease=10)
    assert found is not None
    assert found[0] == target(B)


def test_a_call_that_is_dropped_half_way_holds_nothing() -> None:
    world = World()
    world.trip(A)
    world.runtime.advance(100)
    step = world.router.complete(asking())
    step.send(None)  # its probe is out
    del step
    gc.collect()
    assert world.ask().gives == f"Hello from {A}"
