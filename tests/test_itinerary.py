"""What is left of a plan: which target is next after what failed, and what is done when none may be tried."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import pytest

from routerkit import (
    Budget,
    InternalServerError,
    Limits,
    NoEligibleModelError,
    Outlook,
    RetryPolicy,
    Strategy,
    Timeouts,
)
from routerkit.core.effects import Failure, TransportFailure
from routerkit.core.limits import Charge, Counting, Denial, Grant
from routerkit.core.verdict import Signal, classify
from routerkit.store.memory import MemoryStore
from routerkit.testing import replies as r
from routerkit.types.event import BreakerState
from routerkit.types.route import Candidate, Origin
from routerkit.types.verdict import Sent
from tests.support.core import HOST, KEY, A, B, C, Told, World, after, asking, doing, target
from tests.support.virtual import VirtualRuntime

SMALL, LARGE, UNTOLD = "x/small", "x/large", "x/untold"
TOO_LONG = r.error(400, message="This model's maximum context length is 10 tokens")
FREE = {"prompt": "0", "completion": "0"}
FIVE = {"Retry-After": "5"}
PRICES = {A: "0.000004", B: "0.000003", C: "0.000001"}


class Backwards(Strategy):
    """From the last to the first."""

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        return candidates[::-1]


def entry(model: str, **more: Any) -> dict[str, Any]:
    return r.catalog_model(model, **more)


# --- what a failure asks of the models after it ---


def sizes(world: World) -> None:
    world.catalog(
        entry(SMALL, context_length=1000),
        entry(LARGE, context_length=2000),
        entry(UNTOLD, context_length=None, top_provider={}),
        entry(B, context_length=1000),
    )


@pytest.mark.parametrize("stream", [False, True])
def test_after_a_failure_what_is_left_is_ordered_as_it_was_planned(stream: bool) -> None:
    """Whatever the first strategy made of it; with the plan's reasons."""
    options = {"strategy": "cost_optimized", "fallback_strategy": "priority", "retry": RetryPolicy(max_same_target=1)}
    world = World(fallback_models=[A, B, C], **options)
    world.catalog(*[entry(model, pricing={"prompt": price, "completion": price}) for model, price in PRICES.items()])
    world.script(C, r.error(500))
    world.script(A, r.error(500))
    told = world.ask(model=None, fallback_models=None, stream=stream)
    assert [attempt.model for attempt in told.route.attempts] == [C, A, B]


def test_and_so_are_those_of_the_catalogue() -> None:
    """By context length, largest first, not by price."""
    world = World(strategy="cost_optimized", fallback_strategy="priority")
    world.catalog(*[entry(model, pricing=FREE, context_length=size) for model, size in {A: 30, B: 20, C: 10}.items()])
    reversed_ = World(strategy=Backwards(), fallback_strategy="priority")
    for each, asked in ((world, [A, B, C]), (reversed_, [C, A, B])):
        each.gateway.catalog = world.gateway.catalog
        each.gateway.default = r.error(500)
        told = each.ask(model=None, fallback_models=None)
        assert [attempt.model for attempt in told.route.attempts][:3] == asked


@pytest.mark.parametrize("known", [True, False], ids=["catalogue in memory", "catalogue to fetch"])
def test_a_prompt_that_is_too_long_goes_to_a_larger_model(known: bool) -> None:
    world = World()
    sizes(world)
    if known:
        world.read_catalog()
    world.script(SMALL, TOO_LONG)
    told = world.ask(model=SMALL, fallback_models=[C, B, UNTOLD, LARGE])
    assert told.attempts == [f"{SMALL} 400 context_length", f"{LARGE} 200 ok"]
    assert told.skipped == {
        C: "not in the catalogue, so nobody can tell whether it would do better",
        B: "its context is not known to be larger",
        UNTOLD: "its context is not known to be larger",
    }


def test_when_nobody_knows_its_size_no_other_is_known_to_be_larger() -> None:
    world = World()
    sizes(world)
    world.script(C, TOO_LONG)
    told = world.ask(model=C, fallback_models=[LARGE])
    assert told.gives == "ContextLengthExceededError"
    assert told.skipped[LARGE] == "its context is not known to be larger"


def test_without_a_catalogue_nobody_can_tell() -> None:
    world = World()
    world.script(A, TOO_LONG)
    told = world.ask(fallback_models=[B])
    assert told.gives == "ContextLengthExceededError"
    assert told.attempts == [f"{A} 400 context_length"]
    assert "not in the catalogue" in told.skipped[B]


def test_what_a_model_cannot_do_goes_to_one_that_can() -> None:
    world = World()
    world.catalog(
        entry(A),
        entry(B, supported_parameters=["temperature"]),
        entry(C, supported_parameters=["tools", "temperature"]),
    )
    world.script(A, r.error(404, message="No endpoints found that support tool use"))
    tools = [{"type": "function", "function": {"name": "f"}}]
    told = world.ask(fallback_models=[B, C], tools=tools)
    assert told.attempts == [f"{A} 404 unsupported", f"{C} 200 ok"]
    assert told.skipped == {B: "does not support tools"}


def test_nor_to_one_that_has_expired() -> None:
    world = World()
    today = datetime.datetime.fromtimestamp(world.runtime.wall(), datetime.timezone.utc).date().isoformat()
    world.catalog(entry(A), entry(B, expiration_date=today), entry(C, expiration_date="2999-01-01"))
    world.script(A, r.error(404, message="No endpoints found that support tool use"))
    told = world.ask(fallback_models=[B, C])
    assert told.attempts == [f"{A} 404 unsupported", f"{C} 200 ok"]
    assert told.skipped == {B: f"expired on {today}"}


def prices(world: World) -> None:
    world.catalog(
        entry(A, pricing={"prompt": "2", "completion": "2"}),
        entry(B, pricing={"prompt": "2", "completion": "2"}),
        entry(C, pricing={"prompt": "1", "completion": "2"}),
        entry(LARGE, pricing={"prompt": "1", "completion": "3"}),
    )


def test_a_request_that_is_too_dear_goes_to_a_cheaper_model() -> None:
    world = World()
    prices(world)
    world.script(A, r.error(402, message="x", metadata={"limit_source": "openrouter_credits"}))
    told = world.ask(fallback_models=[B, LARGE, C])
    assert told.attempts == [f"{A} 402 weight_exceeds_budget", f"{C} 200 ok"]
    assert told.skipped == {B: "not known to be cheaper", LARGE: "not known to be cheaper"}


def test_a_model_without_a_price_is_no_measure() -> None:
    world = World()
    prices(world)
    world.script(UNTOLD, r.error(402, message="x", metadata={"limit_source": "openrouter_credits"}))
    told = world.ask(model=UNTOLD, fallback_models=[C])
    assert told.gives == "PaymentRequiredError"
    assert told.skipped[C] == "not known to be cheaper"


def test_a_gateway_that_failed_is_not_asked_for_another_model() -> None:
    world = World()
    world.catalog(entry("x/free:free", pricing=FREE))
    world.read_catalog()
    world.script(A, r.html(502))
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} 502 not_an_api"]
    assert told.skipped == {B: "its gateway failed"}


# --- the catalogue as a last resort ---


def test_the_catalogue_is_not_drawn_against_a_refusal_of_the_whole_gateway() -> None:
    world = World()
    world.catalog(entry("x/free:free", pricing=FREE))
    world.script(A, r.error(502, "<html>", headers={"Retry-After": "30"}))
    world.ask()
    told = world.ask(timeouts=Timeouts(total=10))
    assert told.attempts == []
    assert told.skipped == {A: f"gateway {HOST} rests after not_an_api"}
    assert [request.method for request in world.gateway.requests] == ["POST"]


def test_what_the_catalogue_offers_comes_after_what_is_named() -> None:
    world = World()
    world.catalog(entry("x/free:free", pricing=FREE), entry("x/dear"))
    world.script(A, r.error(500))
    told = world.ask()
    assert told.attempts == [f"{A} 500 server_error", "x/free:free 200 ok"]
    assert list(told.skipped) == ["x/dear"]


def test_it_is_explained_in_the_order_in_which_it_is_asked() -> None:
    world = World(strategy="cost_optimized")
    pricing = {"prompt": "0.000000001", "completion": "0.000000001"}
    world.catalog(entry("x/dear", context_length=2000), entry("x/cheap", context_length=1000, pricing=pricing))
    for model in (A, "x/cheap"):
        world.script(model, r.error(400, message=f"{model} is not a valid model id"))
    _, plan = world.gateway.run(world.router.explain(asking(allow_any_price=True)))
    assert [each.model for each in plan.targets] == [A, "x/cheap", "x/dear"]
    told = world.ask(allow_any_price=True)
    assert [attempt.model for attempt in told.route.attempts] == [A, "x/cheap", "x/dear"]


def test_where_only_what_is_named_may_be_asked_the_catalogue_is_not_even_read() -> None:
    world = World(catalog_fallback=False)
    world.catalog(entry("x/free:free", pricing=FREE))
    world.script(A, r.error(500))
    told = world.ask()
    assert set(told.attempts) == {f"{A} 500 server_error"}
    assert (told.skipped, world.gateway.catalog_requests) == ({}, 0)
    assert isinstance(told.error, InternalServerError)


def test_a_catalogue_that_is_old_is_renewed_before_it_is_drawn() -> None:
    world = World()
    world.catalog(entry("x/gone:free", pricing=FREE))
    world.read_catalog()
    world.runtime.advance(4000)
    world.catalog(entry("x/new:free", pricing=FREE))
    world.script(A, r.error(500))
    assert world.ask().attempts == [f"{A} 500 server_error", "x/new:free 200 ok"]


def test_to_compare_models_an_old_catalogue_will_do() -> None:
    world = World()
    sizes(world)
    world.read_catalog()
    world.runtime.advance(4000)
    world.gateway.catalog = r.hang()
    world.script(SMALL, TOO_LONG)
    told = world.ask(model=SMALL, fallback_models=[LARGE])
    assert told.gives == f"Hello from {LARGE}"
    assert told.route.duration < 1


def test_the_catalogue_is_asked_for_with_the_key() -> None:
    world = World()
    world.catalog(entry("x/free:free", pricing=FREE))
    world.script(A, r.error(500))
    world.ask()
    assert [request.header("authorization") for request in world.gateway.requests if request.method == "GET"] == [
        f"Bearer {KEY}"
    ]


def test_a_catalogue_is_waited_for_ten_seconds_at_most() -> None:
    world = World()
    world.gateway.catalog = r.hang()
    world.script(A, r.error(400, message="x is not a valid model id"))
    before = world.runtime.now
    told = world.ask(timeouts=Timeouts(total=100))
    assert told.gives == "ModelNotFoundError"
    assert "could not be read" in told.skipped["the catalogue"]
    assert world.runtime.now - before == pytest.approx(10, abs=0.1)


def test_or_half_of_what_is_left() -> None:
    world = World()
    world.gateway.catalog = r.hang()
    world.script(A, r.error(400, message="x is not a valid model id"))
    before = world.runtime.now
    assert world.ask(timeouts=Timeouts(total=8)).gives == "ModelNotFoundError"
    assert world.runtime.now - before <= 4.1


# --- when no target may be tried ---


def test_when_every_model_is_open_each_gets_one_probe_a_second() -> None:
    world = World()
    world.trip(A, B)
    for model in (A, B):
        world.script(model, r.error(500))
    told = [world.ask(fallback_models=[B]) for _ in range(4)]
    assert sorted(each.attempts for each in told[:2]) == [[f"{A} 500 server_error"], [f"{B} 500 server_error"]]
    for each in told[2:]:
        assert each.attempts == []
        assert isinstance(each.error, NoEligibleModelError)
        assert each.skipped[A] == "its breaker is open"
    world.runtime.advance(1)
    assert len(world.ask(fallback_models=[B]).attempts) == 1


def test_a_probe_that_succeeds_answers_the_call() -> None:
    world = World()
    world.trip(A, B)
    assert world.ask(fallback_models=[B]).gives.startswith("Hello from")


def test_a_target_that_an_operator_closed_gets_no_probe() -> None:
    world = World()
    world.router.health.breaker(HOST, A).force_open(world.runtime.now)
    told = world.ask()
    assert told.attempts == []
    assert world.router.health.breaker(HOST, A).state is BreakerState.OPEN


def limited(world: World, hint: str, **more: Any) -> Told:
    """A call that finds its only model resting for so long."""
    world.script(A, r.error(429, headers={"Retry-After": hint}), r.completion())
    world.ask(timeouts=Timeouts(total=3), fallback_models=[B])
    return world.ask(**more)


def test_a_short_rest_is_sat_out_when_nothing_else_is_left() -> None:
    told = limited(World(), "10")
    assert told.gives == f"Hello from {A}"
    assert told.waits == [10.5]
    assert told.route.waits[0].reason == "every model rests"


def test_a_long_one_is_not() -> None:
    told = limited(World(), "61")
    assert told.gives == "RateLimitError"
    assert told.waits == []


def test_nor_one_that_leaves_no_time() -> None:
    told = limited(World(), "10", timeouts=Timeouts(total=11))
    assert told.gives == "RateLimitError"
    assert told.waits == []


def test_the_first_that_is_back_is_the_one_that_is_waited_for() -> None:
    world = World()
    world.script(A, r.error(429, headers={"Retry-After": "30"}), r.completion())
    world.script(B, r.error(429, headers={"Retry-After": "10"}), r.completion())
    world.ask(fallback_models=[B, C])
    told = world.ask(fallback_models=[B])
    assert told.gives == f"Hello from {B}"
    assert told.waits == [10.5]
    assert A in told.skipped


def test_a_model_that_does_not_exist_is_not_waited_for() -> None:
    world = World()
    world.script(A, r.error(400, message=f"{A} is not a valid model id"))
    world.ask(fallback_models=[B])
    told = world.ask()
    assert told.gives == "ModelNotFoundError"
    assert told.waits == []


def test_a_rest_that_is_almost_over_is_sat_out_to_its_end_and_no_longer() -> None:
    world = World()
    world.script(A, r.error(429, headers={"Retry-After": "10"}), r.completion())
    world.ask(timeouts=Timeouts(total=3), fallback_models=[B])
    world.runtime.advance(9.5)
    assert world.ask().waits == [0.53]


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("rate_limited", r.error(429, headers=FIVE)),
        ("capacity_exhausted", r.json_body({"error": {"availability": {"code": "capacity_exhausted"}}}, 429, FIVE)),
        ("overloaded", r.error(503, headers=FIVE)),
        (
            "in_flight_budget",
            r.json_body({"error": {"metadata": {"limit_source": "openrouter_in_flight_budget"}}}, 402, FIVE),
        ),
        ("not_an_api", r.error(502, "<html>", headers=FIVE)),
        ("edge_error", r.error(522, "<html>", headers=FIVE)),
        ("edge_error_sent", r.error(520, "<html>", headers=FIVE)),
    ],
)
def test_rests_that_are_sat_out(code: str, reply: Any) -> None:
    world = World()
    world.script(A, reply, r.completion("Fine"))
    assert world.ask(timeouts=Timeouts(total=3), fallback_models=[B]).attempts[0].endswith(code)
    told = world.ask()
    assert (told.gives, len(told.waits)) == ("Fine", 1)


def test_after_a_wait_what_a_breaker_refused_before_it_has_its_turn_again() -> None:
    """In the order of the plan: somebody else was probing the model that the call asked for."""
    world = World(retry=RetryPolicy(max_attempts=2))
    world.script(B, r.error(429, headers={"Retry-After": "20"}))
    world.ask(model=B, timeouts=Timeouts(total=3))
    world.trip(A)
    assert world.router.health.breaker(HOST, A).panic(world.runtime.now, lease=2) is not None
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} 200 ok"]
    assert told.waits == [20.5]


def test_a_target_whose_rest_is_over_meanwhile_has_its_turn() -> None:
    world = World()
    world.script(A, r.error(429, headers={"Retry-After": "2"}), r.completion("Fine"))
    world.ask(timeouts=Timeouts(total=2))
    world.script(B, after(8, r.error(500)))
    told = world.ask(fallback_models=[B], timeouts=Timeouts(total=60))
    assert told.attempts == [f"{B} 500 server_error", f"{A} 200 ok"]
    assert (told.gives, told.waits) == ("Fine", [])


def test_one_that_rests_on_has_none() -> None:
    world = World(retry=RetryPolicy(max_same_target=1))
    world.script(A, r.error(429, headers={"Retry-After": "200"}))
    world.ask(timeouts=Timeouts(total=2))
    world.script(B, after(8, r.error(500)))
    told = world.ask(fallback_models=[B], timeouts=Timeouts(total=60))
    assert told.attempts == [f"{B} 500 server_error"]
    assert [skip.model for skip in told.route.skipped].count(A) == 1


class Wavering(MemoryStore):
    """Refuses one model, and says each time that there is room now."""

    asked = 0

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        made = yield from super().admit(charges, lease, owner)
        if not any(A in charge.name for charge in charges):
            return made
        self.asked += 1
        assert self.asked < 10
        return Denial(charges[0], 0.0)


def test_nobody_goes_round_in_circles() -> None:
    runtime = VirtualRuntime()
    store = Wavering(runtime)
    world = World(runtime=runtime, store=store, limits={f"model:{A}": Limits(requests_per_minute=9)})
    world.script(B, r.error(400, message=f"{B} is not a valid model id"))
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{B} 400 model_not_found"]
    assert store.asked == 2


class Twice(MemoryStore):
    """Refuses one model twice, each time for five seconds; another one rests from then on as long."""

    world: World
    asked = 0

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        made = yield from super().admit(charges, lease, owner)
        self.asked += 1
        if self.asked > 2:
            return made
        router = self.world.router
        router.health.cool(target(B), router.access[HOST].keys[0], classify(Signal(status=429, headers=FIVE)), 429)
        return Denial(charges[0], 5.0)


def test_after_each_wait_it_is_asked_again() -> None:
    runtime = VirtualRuntime()
    store = Twice(runtime)
    world = store.world = World(runtime=runtime, store=store, limits={f"model:{A}": Limits(requests_per_minute=9)})
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} 200 ok"]
    assert told.waits == [5.25, 5.25]


def test_nor_after_a_wait() -> None:
    """What refuses then need not be what was waited for."""
    world = World(limits={f"model:{A}": Limits(requests_per_day=1)})
    world.script(A, r.error(429, headers={"Retry-After": "5"}))
    world.ask(timeouts=Timeouts(total=2))
    told = world.ask()
    assert (told.gives, told.waits) == ("LimitExceededError", [5.25])


def test_prices_are_read_before_a_key_is_chosen() -> None:
    """What is known of keys and breakers must not grow old meanwhile."""
    world = World(api_key=[KEY, KEY + "2"], budget=Budget(5))
    (first, _) = keys = world.router.access[HOST].keys
    revoked = classify(Signal(status=401))
    loads: list[list[int]] = []

    def meanwhile() -> None:
        loads.append([key.in_flight for key in keys])
        world.router.health.cool(target(A), first, revoked, 401)

    world.gateway.catalog = doing(meanwhile, r.json_body({"data": [entry(A)]}))
    told = world.ask()
    assert told.error is None
    assert loads == [[0, 0]]
    assert world.gateway.chat_requests[-1].header("authorization") == f"Bearer {KEY}2"


def test_with_more_than_a_second_left_another_attempt_makes_sense() -> None:
    """However long the call may take."""
    world = World()
    world.script(A, after(98.5, r.error(500)))
    world.script(C, after(99.5, r.error(500)))
    patient = Timeouts(total=100, first_byte=100)
    assert world.ask(timeouts=patient, fallback_models=[B]).gives == f"Hello from {B}"
    assert world.ask(model=C, timeouts=patient, fallback_models=[B]).gives == "DeadlineExceededError"


@pytest.mark.parametrize(("seconds", "gives"), [(4.4, f"Hello from {B}"), (4.53, "DeadlineExceededError")])
def test_of_a_short_call_a_tenth_must_be_left(seconds: float, gives: str) -> None:
    world = World()
    world.script(A, after(seconds, r.error(500)))
    assert world.ask(timeouts=Timeouts(total=5), fallback_models=[B]).gives == gives


def test_a_key_that_is_refused_late_is_told_as_that() -> None:
    world = World()
    world.script(A, after(9.5, r.error(401)))
    assert world.ask(timeouts=Timeouts(total=10), fallback_models=[B]).gives == "AuthenticationError"


def test_after_its_backoff_a_call_need_not_heed_the_rest_that_nobody_asked_for() -> None:
    world = World()
    world.script(A, r.error(429), r.completion("Fine"))
    told = world.ask()
    assert (told.gives, told.attempts) == ("Fine", [f"{A} 429 rate_limited", f"{A} 200 ok"])
    assert sum(told.waits) < 2


def test_another_key_has_to_heed_it() -> None:
    """It was not this call that was refused with that key, and waited."""
    world = World(api_key=[KEY, KEY + "2"])
    world.script(A, doing(lambda: world.ask(), r.error(429)), r.error(429), r.completion())
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} 429 rate_limited", f"{B} 200 ok"]


def test_as_long_as_the_longest_wait_allowed() -> None:
    assert limited(World(retry=RetryPolicy(max_sleep=10.5)), "10").waits == [10.5]
    assert limited(World(retry=RetryPolicy(max_sleep=10.4)), "10").waits == []


def test_the_route_says_when_what_was_skipped_is_back() -> None:
    world = World()
    world.script(A, r.error(429, headers={"Retry-After": "30"}))
    world.ask(fallback_models=[B])
    world.runtime.advance(29.5)
    (skip,) = world.ask(fallback_models=[B]).route.skipped
    assert (skip.model, skip.origin, skip.retry_after) == (A, Origin.REQUESTED, pytest.approx(0.5))


# --- calls that come to no end ---


@pytest.mark.parametrize(("stream", "seconds"), [(True, 20), (False, 50)])
def test_a_probe_that_nobody_ends_is_over_when_its_answer_would_be_late(stream: bool, seconds: float) -> None:
    world = World()
    world.trip(A)
    world.runtime.advance(100)
    request = asking(stream=stream, timeouts=Timeouts(total=50, first_token=20))
    step: Any = world.router.stream(request) if stream else world.router.complete(request)
    step.send(None)
    _, plan = world.gateway.run(world.router.explain(asking()))
    assert (plan.skipped[0].reason, plan.skipped[0].retry_after) == ("its breaker is half_open", seconds)
    world.runtime.advance(seconds)
    assert world.ask().gives == f"Hello from {A}"
    step.close()


@pytest.mark.parametrize("stream", [True, False])
def test_streams_that_hang_are_noticed_before_they_end(stream: bool) -> None:
    world = World()
    request = asking(stream=stream)
    hanging: list[Any] = [world.router.stream(request) if stream else world.router.complete(request) for _ in range(5)]
    for step in hanging:
        step.send(None)
    world.runtime.advance(10)
    assert world.ask(fallback_models=[B]).gives == f"Hello from {B if stream else A}"
    for step in hanging:
        step.close()


# --- every target in its turn, and once ---


def test_named_models_whose_time_has_come_go_before_what_nobody_named() -> None:
    world = World()
    world.catalog(entry("x/free:free", pricing=FREE))
    world.script(A, r.error(429, headers={"Retry-After": "2"}), r.completion("Fine"))
    world.ask(timeouts=Timeouts(total=2), fallback_models=[C])
    world.script(B, after(8, r.error(500)))
    assert world.ask(fallback_models=[B]).attempts == [f"{B} 500 server_error", f"{A} 200 ok"]


class Refusing(MemoryStore):
    """Refuses one model the first time, for some seconds."""

    seconds = 1.0
    refused = False

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        made = yield from super().admit(charges, lease, owner)
        if self.refused or not any(A in charge.name for charge in charges):
            return made
        self.refused = True
        return Denial(charges[0], self.seconds)


def refusing() -> World:
    runtime = VirtualRuntime()
    limits = {f"model:{A}": Limits(requests_per_minute=9)}
    return World(runtime=runtime, store=Refusing(runtime), limits=limits, catalog_fallback=False)


def test_those_that_are_back_keep_to_the_order_of_the_plan_however_often_they_were_refused() -> None:
    world = refusing()
    key = world.router.access[HOST].keys[0]
    for model, seconds in ((A, "5"), (B, "12")):
        rests = classify(Signal(status=429, headers={"retry-after": seconds}))
        world.router.health.cool(target(model), key, rests, 429)
    told = world.ask(fallback_models=[B])
    assert (told.attempts, len(told.waits)) == ([f"{A} 200 ok"], 2)


def test_the_target_of_a_panic_probe_has_had_its_turn() -> None:
    world = World(retry=RetryPolicy(max_same_target=1), catalog_fallback=False)
    world.trip(A)
    world.script(A, after(8, r.error(409)))
    assert world.ask().attempts == [f"{A} 409 conflict"]


def test_what_its_breaker_refused_and_then_a_limit_comes_back_once() -> None:
    world = refusing()
    world.script(B, r.error(429, headers={"Retry-After": "20"}), r.error(400, message=f"{B} is not a valid model id"))
    world.ask(model=B, timeouts=Timeouts(total=3))
    world.trip(A)
    world.script(A, TransportFailure(Failure.FIRST_BYTE_TIMEOUT, Sent.MAYBE, lag=2))
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} - local_lag", f"{B} 400 model_not_found"]


def test_nobody_queues_where_the_gateway_failed() -> None:
    world = World(limits={f"model:{A}": Limits(concurrency=1, queue_size=5)}, catalog_fallback=False)
    other = world.router.complete(asking())
    other.send(None)
    world.script(B, r.html(502))
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{B} 502 not_an_api"]
    assert (told.waits, told.skipped[A]) == ([], "its gateway failed")
    other.close()
