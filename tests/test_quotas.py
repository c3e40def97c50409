"""Limits and budgets in the life of a call, in the core alone and in virtual time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from routerkit import (
    FREE_TIER,
    Budget,
    BudgetExceededError,
    Completion,
    ConfigurationError,
    DeadlineExceededError,
    LimitExceededError,
    Limits,
    NoEligibleModelError,
    Router,
    StoreChanged,
    StoreState,
    Tenant,
    Timeouts,
)
from routerkit.core.effects import (
    Ask,
    Failure,
    HttpResponse,
    Loss,
    Script,
    Send,
    Step,
    StoreFailure,
    TransportFailure,
)
from routerkit.core.limits import Charge, Counting, Denial, Grant
from routerkit.core.quotas import MAX_FOUND
from routerkit.store.memory import MemoryStore
from routerkit.store.redis import RedisStore
from routerkit.testing import replies as r
from routerkit.testing.runtime import WALL
from routerkit.types.verdict import Sent
from tests.support.board import BoardServer, MemoryBoard, Question
from tests.support.core import HOST, KEY, A, B, C, Told, World, asking
from tests.support.crowd import Crowd
from tests.support.virtual import Interruption, VirtualRuntime

DAY = 86_400.0
NO_SCRIPT = Script("question", "", "")
BOTH = [False, True]
both = pytest.mark.parametrize("stream", BOTH)
BUSY = r.error(429, headers={"Retry-After": "30"})
DOWN = r.error(503)


class Distant(MemoryStore):
    """A store that has to be asked, as one in a server has; whoever is interrupted meanwhile was not heard."""

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        made: Grant | Denial = yield self._question(lambda: self.admit_now(charges, lease, owner))
        return made

    def settle(self, grant: Grant, costs: Sequence[int]) -> Counting[None]:
        yield self._question(lambda: self.settle_soon(grant, costs))

    def _question(self, answer: Callable[[], Any]) -> Question:
        return Question(NO_SCRIPT, (), (), 0.05, what="store", answer=answer)


def answered(server: BoardServer, seconds: float = 0.0) -> Callable[[Ask], Any]:
    """Performs what a store and a board ask; the store takes its time."""

    def perform(order: Ask) -> Any:
        assert isinstance(order, Question)
        if order.what != "store":
            return server.perform(order)
        server.runtime.now += seconds
        return order.answer()

    return perform


def refused(told: Told) -> LimitExceededError | BudgetExceededError:
    assert isinstance(told.error, (LimitExceededError, BudgetExceededError))
    assert told.attempts == []
    return told.error


def asked(world: World) -> list[str]:
    return [request.model for request in world.gateway.requests if request.method == "POST"]


def left_over(world: World) -> int:
    """Admissions that nobody has settled."""
    store: Any = world.store
    store._catch_up(world.runtime.now)
    return int(store._open)


# --- calls ---


@both
def test_calls_a_minute(stream: bool) -> None:
    world = World(limits=Limits(requests_per_minute=2))
    assert [world.ask(stream=stream).gives for _ in range(2)] == [f"Hello from {A}"] * 2
    told = world.ask(stream=stream)
    error = refused(told)
    assert type(error) is LimitExceededError
    assert str(error) == "2 requests a minute of the client: used up; there is room again in 30 s"
    assert (error.retry_at, error.retry_after) == (pytest.approx(WALL + 30, abs=0.1), pytest.approx(30, abs=0.1))
    assert (error.rate_limited, error.to_dict()["should_retry"]) == (True, True)
    assert len(asked(world)) == 2
    assert error.retry_after is not None
    world.runtime.now += error.retry_after - 0.01
    refused(world.ask(stream=stream))
    world.runtime.now += 0.02
    assert world.ask(stream=stream).error is None
    assert world.router.accounts.stats().failed == {"LimitExceededError": 2}


def test_calls_a_day() -> None:
    world = World(limits=Limits(requests_per_day=1))
    world.runtime.now += 3600.0 * 20
    assert world.ask().error is None
    error = refused(world.ask())
    assert str(error) == "1 request a day of the client: used up; there is room again in 4 h"
    assert error.retry_at == pytest.approx(WALL + DAY)
    world.runtime.now += 4 * 3600 + 1
    assert world.ask().error is None


@both
def test_tokens_are_reserved_by_estimate_and_settled_by_the_answer(stream: bool) -> None:
    world = World(limits=Limits(tokens_per_minute=1000))
    world.script(A, r.completion(usage={"prompt_tokens": 100, "completion_tokens": 300, "total_tokens": 400}))
    assert world.ask(stream=stream).error is None  # 400 of 1000 are used
    assert world.ask(stream=stream, max_tokens=550).error is None
    error = refused(world.ask(stream=stream, max_tokens=550))
    assert str(error).startswith("1000 tokens a minute of the client: used up")
    assert world.ask(stream=stream, max_tokens=100).error is None


def test_a_request_that_may_need_more_than_all_tokens_takes_all() -> None:
    world = World(limits=Limits(tokens_per_minute=100))
    assert world.ask(max_tokens=5000).error is None
    assert world.ask(max_tokens=5000).error is not None, "12 are used"
    world.runtime.now += 60
    assert world.ask(max_tokens=5000).error is None


def test_an_answer_that_does_not_tell_its_tokens_counts_as_estimated() -> None:
    world = World(limits=Limits(tokens_per_minute=1000))
    world.script(A, r.completion(without=["usage"]))
    assert world.ask(max_tokens=600).error is None
    assert world.ask(max_tokens=600).error is not None


@both
@pytest.mark.parametrize(("status", "counted"), [(503, 0), (200, 1)])
def test_a_call_counts_when_anything_was_asked(stream: bool, status: int, counted: int) -> None:
    world = World(limits=Limits(requests_per_day=1, tokens_per_minute=1000))
    world.script(A, DOWN if status == 503 else r.completion())
    world.ask(stream=stream)
    refused(world.ask(stream=stream))
    world.runtime.now += DAY
    assert (world.ask(stream=stream).error is None) is bool(counted)


def test_a_call_that_asked_nobody_does_not_count() -> None:
    world = World(limits=Limits(requests_per_day=1), fallback_models=[])
    world.trip(A)
    world.trip(None)
    world.router.health.breaker(HOST).force_open(world.runtime.now)
    assert isinstance(world.ask().error, NoEligibleModelError)
    world.router.health.breaker(HOST).reset(world.runtime.now)
    world.router.health.breaker(HOST, A).reset(world.runtime.now)
    assert world.ask().error is None
    refused(world.ask())


def test_tenants_have_their_own_and_the_clients_besides() -> None:
    tenants = [
        Tenant("acme", api_key=KEY, limits=Limits(requests_per_minute=1)),
        Tenant("globex", api_key=KEY + "2"),
    ]
    world = World(api_key=None, tenants=tenants, limits=Limits(requests_per_day=3), tenant="acme")
    assert world.ask().error is None
    assert str(refused(world.ask())).startswith("1 request a minute of tenant acme: used up")
    world.router = world.tenant("globex")
    assert [world.ask().error is None for _ in range(3)] == [True, True, False]
    assert "3 requests a day of the client" in str(refused(world.ask()))
    world.runtime.now += 60
    world.router = world.tenant("acme")
    error = refused(world.ask())
    assert "of the client" in str(error)
    world.runtime.now += DAY
    assert world.ask().error is None, "what the client refuses is given back to the tenant"


def test_calls_at_a_time() -> None:
    world = World(limits=Limits(concurrency=1))
    step = world.router.stream(asking(stream=True))
    opened = world.gateway.begin(step)
    error = refused(world.ask())
    assert str(error) == "1 request at a time of the client: all are under way"
    assert (error.retry_at, error.retry_after) == (None, None)
    opened.finish()
    assert world.ask().error is None
    assert left_over(world) == 0


# --- attempts ---

SCOPES = [
    ("gateway", {f"gateway:{HOST}": Limits(requests_per_minute=1)}, None),
    ("model", {f"model:{A}": Limits(requests_per_minute=1)}, B),
    ("model there", {f"model:{A} on {HOST}": Limits(requests_per_minute=1)}, B),
    ("key", {"key": Limits(requests_per_minute=1)}, None),
    ("key of", {f"key:{HOST}": Limits(requests_per_minute=1)}, None),
]


@both
@pytest.mark.parametrize(("limits", "then"), [case[1:] for case in SCOPES], ids=[case[0] for case in SCOPES])
def test_a_limit_on_attempts_leads_elsewhere_or_refuses(stream: bool, limits: Any, then: str | None) -> None:
    world = World(limits=limits)
    world.catalog(A, B)
    assert world.ask(fallback_models=[B], stream=stream).attempts == [f"{A} 200 ok"]
    told = world.ask(fallback_models=[B], stream=stream)
    if then is not None:
        assert told.attempts == [f"{then} 200 ok"]
        assert told.skipped[A].endswith("used up")
    else:
        error = refused(told)
        assert error.retry_after == pytest.approx(60, abs=0.1)
        assert [line.strip().split(": ")[0] for line in str(error).splitlines()[1:]] == [
            f"{A} on {HOST}",
            f"{B} on {HOST}",
        ]
    world.runtime.now += 61
    assert world.ask(fallback_models=[B], stream=stream).attempts == [f"{A} 200 ok"]
    assert left_over(world) == 0


def test_attempts_that_failed_count_those_that_were_not_sent_do_not() -> None:
    world = World(limits={f"model:{A}": Limits(requests_per_day=2)})
    world.script(A, "refused", "refused", DOWN, r.completion())
    for _ in range(2):
        world.ask()
        world.runtime.now += 100
    assert len(world.ask().attempts) == 2, "the first try was refused by the network once more, then it was down"
    assert refused(world.ask())


def test_another_key_is_taken_where_one_is_used_up() -> None:
    keys = [f"sk-key-number-{place}-0123456789" for place in range(3)]
    world = World(api_key=keys, limits={"key": Limits(requests_per_minute=1)})
    assert [world.ask().error is None for _ in range(4)] == [True, True, True, False]
    assert len({request.api_key for request in world.gateway.requests}) == 3
    assert "of the key …" in str(world.ask().error)
    assert not any(key in str(world.ask().error) for key in keys)


def test_free_models_have_a_limit_of_their_own() -> None:
    world = World(limits={"free": Limits(requests_per_minute=1)})
    free = "c/three:free"
    assert world.ask(model=free, fallback_models=[A]).attempts == [f"{free} 200 ok"]
    assert world.ask(model=free, fallback_models=["d/four:free", A]).attempts == [f"{A} 200 ok"]


def test_the_free_tier_is_a_preset() -> None:
    (scope,) = FREE_TIER
    assert scope == "free:openrouter"
    world = World(base_url=None, gateway="openrouter", limits=FREE_TIER)
    free = "c/three:free"
    for _ in range(20):
        assert world.ask(model=free).error is None
    assert "20 requests a minute of the free models" in str(world.ask(model=free).error)
    for _ in range(30):
        world.runtime.now += 3
        assert world.ask(model=free).error is None
    world.runtime.now += 3600
    assert "50 requests a day of the free models" in str(world.ask(model=free).error)
    assert world.ask(model=A).error is None


@pytest.mark.parametrize("scope", ["free", "model:z/free:free", f"model:z/free:free on {HOST}"])
def test_models_on_which_the_gateway_may_fall_back_count_too(scope: str) -> None:
    world = World(limits={scope: Limits(requests_per_day=1)})
    assert world.ask(models=[B, "z/free:free"]).error is None
    assert "1 request a day" in str(refused(world.ask(models=[B, "z/free:free"])))
    assert world.ask(models=[B]).error is None


def test_a_refused_gateway_is_not_walked_through() -> None:
    """Nobody asks the store for each of a catalogue's models when the gateway has no room."""
    world = World(limits={f"gateway:{HOST}": Limits(requests_per_minute=1)}, default_model=A)
    world.catalog(A, B, C)
    world.read_catalog()
    world.ask()
    told = world.ask()
    assert set(told.skipped) == {A}


def test_a_retry_counts_too() -> None:
    world = World(limits={f"model:{A}": Limits(requests_per_minute=1)})
    world.script(A, DOWN, r.completion())
    told = world.ask()
    assert told.attempts == [f"{A} 503 overloaded"]


def test_limits_and_breakers_together_are_told_as_no_model() -> None:
    world = World(limits={f"model:{A}": Limits(requests_per_minute=1)})
    world.ask()
    world.router.health.breaker(HOST, B).force_open(world.runtime.now)
    error = world.ask(fallback_models=[B]).error
    assert isinstance(error, NoEligibleModelError)
    assert "used up" in str(error)
    assert error.retry_after == pytest.approx(60, abs=0.1)


def test_after_a_pause_limits_are_asked_again() -> None:
    """What was refused before a wait need not be refused after it."""
    world = World(limits={f"model:{B}": Limits(requests_per_minute=1), f"model:{A}": Limits(requests_per_minute=100)})
    world.script(A, r.error(429, headers={"Retry-After": "3"}), r.completion())
    assert world.ask(model=B).error is None
    assert world.ask(timeouts=Timeouts(total=2)).attempts == [f"{A} 429 rate_limited"]
    told = world.ask(fallback_models=[B])
    assert (told.attempts, len(told.waits)) == ([f"{A} 200 ok"], 1)


def test_the_last_hope_is_limited_too() -> None:
    world = World(limits={f"model:{A}": Limits(requests_per_minute=1)})
    world.ask()
    world.trip(A)
    told = world.ask()
    assert told.attempts == []
    assert isinstance(told.error, NoEligibleModelError)
    assert "used up" in str(told.error)
    assert left_over(world) == 0
    world.runtime.now += 61
    assert world.ask().attempts == [f"{A} 200 ok"]


# --- queues before attempts ---


def crowded(world: World, seconds: float = 1.0) -> tuple[Crowd, list[str]]:
    """Calls at the same time, each attempt of which takes so long; and the models asked, in order."""
    models: list[str] = []

    def answer(order: Send) -> tuple[float, HttpResponse]:
        if order.request.body is None:
            return 0.0, HttpResponse(404, {}, b"")
        body = json.loads(order.request.body)
        models.append(str(body.get("model")))
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        return seconds, HttpResponse(
            200, {"content-type": "application/json"}, json.dumps({"choices": [choice]}).encode()
        )

    return Crowd(world.runtime, answer), models


def call(world: World, **more: Any) -> Step[Completion]:
    return world.router.complete(asking(**more))


def test_calls_wait_for_their_turn_at_a_gateway() -> None:
    world = World(limits={f"gateway:{HOST}": Limits(concurrency=1, queue_size=2)})
    crowd, _ = crowded(world)
    members = [crowd.join(f"{place}", call(world), place / 10) for place in range(4)]
    crowd.run()
    assert crowd.order == ["3", "0", "1", "2"], "the fourth finds the queue full"
    assert [type(member.error) for member in members] == [type(None)] * 3 + [LimitExceededError]
    assert "and 2 wait already" in str(members[3].error)
    first, second, third = (member.result.route for member in members[:3])
    assert first.waits == ()
    assert [wait.seconds for wait in (*second.waits, *third.waits)] == [pytest.approx(0.9), pytest.approx(1.8)]
    assert second.waits[0].reason == f"its turn: 1 request at a time of gateway {HOST}"
    assert left_over(world) == 0


def test_another_named_model_is_asked_before_waiting() -> None:
    world = World(limits={f"model:{A}": Limits(concurrency=1, queue_size=5)})
    crowd, models = crowded(world)
    for place in range(2):
        crowd.join(f"{place}", call(world, fallback_models=[B]), place / 10)
    crowd.run()
    assert models == [A, B]


def test_but_a_turn_is_waited_for_before_the_catalogue_is_drawn() -> None:
    world = World(limits={f"model:{A}": Limits(concurrency=1, queue_size=5)})
    world.catalog(A, B)
    world.read_catalog()
    crowd, models = crowded(world)
    for place in range(2):
        crowd.join(f"{place}", call(world), place / 10)
    crowd.run()
    assert models == [A, A]


def test_no_turn_in_time_leads_to_the_catalogue() -> None:
    world = World(limits={f"model:{A}": Limits(concurrency=1, queue_size=5, queue_timeout=0.5)})
    world.catalog(A, B)
    world.read_catalog()
    crowd, models = crowded(world, seconds=3.0)
    members = [crowd.join(f"{place}", call(world), place / 10) for place in range(2)]
    crowd.run()
    assert models == [A, B]
    assert [skip.reason for skip in members[1].result.route.skipped] == [
        f"1 request at a time of {A}: all are under way",
        f"1 request at a time of {A}: all are under way, and no turn came in time",
    ]


def test_after_a_turn_limits_are_asked_again() -> None:
    """What was refused before the wait need not be refused after it."""
    first, second = "f/one:free", "g/two:free"
    queue = Limits(concurrency=1, queue_size=5, queue_timeout=5)
    world = World(limits={f"model:{A}": queue, "free": Limits(requests_per_minute=30)})
    world.catalog(A, first, second)
    world.read_catalog()
    for _ in range(30):
        assert world.ask(model=first).error is None
    crowd, models = crowded(world, seconds=50.0)
    crowd.join("holds", call(world))
    asks = crowd.join("asks", call(world, model=first, fallback_models=[A]), 0.1)
    crowd.run()
    assert (models, asks.error) == ([A, second], None)


@pytest.mark.parametrize("scope", ["client", f"gateway:{HOST}"])
def test_a_turn_that_does_not_come_before_the_deadline(scope: str) -> None:
    world = World(limits={scope: Limits(concurrency=1, queue_size=5)})
    crowd, _ = crowded(world, seconds=100.0)
    crowd.join("first", call(world, timeouts=Timeouts(first_byte=200, total=200)))
    late = crowd.join("late", call(world, timeouts=Timeouts(total=10)), 0.1)
    crowd.run()
    assert isinstance(late.error, DeadlineExceededError)
    assert "the 10 s of the call are over" in str(late.error)
    assert "no turn came in time" in str(late.error)
    assert late.ended == pytest.approx(1009.1)


def test_who_comes_while_others_wait_waits_behind_them() -> None:
    world = World(limits={f"gateway:{HOST}": Limits(concurrency=1, queue_size=5)})
    crowd, _ = crowded(world)
    for place in range(3):
        crowd.join(f"{place}", call(world), place * 0.55)
    crowd.run()
    assert crowd.order == ["0", "1", "2"]


def test_a_turn_whose_model_meanwhile_has_other_troubles() -> None:
    world = World(limits={f"model:{A}": Limits(concurrency=1, queue_size=5, requests_per_day=2)})
    crowd, models = crowded(world)
    members = [crowd.join(f"{place}", call(world), place / 10) for place in range(3)]
    crowd.run()
    assert models == [A, A]
    assert "2 requests a day" in str(members[2].error)


@pytest.mark.parametrize("failure", ["503", "stale", "key"])
def test_who_tries_again_waits_for_a_turn_again(failure: str) -> None:
    """Its slot went to whoever waited; but it is not the end of the call."""
    keys = [KEY, KEY + "2"] if failure == "key" else KEY
    world = World(api_key=keys, limits={f"gateway:{HOST}": Limits(concurrency=1, queue_size=5)})
    crowd, _ = crowded(world)
    good, first = crowd.answer, []
    assert good is not None

    def answer(order: Send) -> tuple[float, HttpResponse] | TransportFailure:
        if first:
            return good(order)
        first.append(order)
        if failure == "stale":
            return TransportFailure(Failure.DISCONNECTED, Sent.MAYBE, reused=True)
        status = 401 if failure == "key" else 503
        return 1.0, HttpResponse(status, {"content-type": "application/json"}, b'{"error": {"message": "no"}}')

    crowd.answer = answer
    members = [crowd.join(f"{place}", call(world), place / 10) for place in range(3)]
    crowd.run()
    assert [member.error for member in members] == [None, None, None]
    assert len(members[0].result.route.attempts) == 2
    assert left_over(world) == 0


def test_each_queue_is_tried() -> None:
    """One that is full is no reason not to wait in the next."""
    limits = {f"model:{A}": Limits(concurrency=1, queue_size=1), f"model:{B}": Limits(concurrency=1, queue_size=1)}
    world = World(limits=limits)
    crowd, models = crowded(world)
    members = [crowd.join(f"{place}", call(world, fallback_models=[B]), place / 100) for place in range(5)]
    crowd.run()
    assert sorted(models) == [A, A, B, B]
    assert [type(member.error) for member in members] == [type(None)] * 4 + [LimitExceededError]


def test_calls_queue_too() -> None:
    tenants = [Tenant("acme", api_key=KEY, limits=Limits(concurrency=2, queue_size=10))]
    world = World(api_key=None, tenants=tenants, limits={"client": Limits(concurrency=1, queue_size=10)}, tenant="acme")
    crowd, _ = crowded(world)
    members = [crowd.join(f"{place}", call(world), place / 100) for place in range(5)]
    crowd.run()
    assert all(member.error is None for member in members)
    assert world.runtime.now == pytest.approx(1005.0, abs=0.5)
    assert left_over(world) == 0


# --- money ---


def priced(world: World, **models: str) -> None:
    """A catalogue of these, at USD per token."""
    ids = {"a": A, "b": B, "c": C}
    world.catalog(
        *(
            r.catalog_model(ids[name], pricing={"prompt": price, "completion": price}, context_length=1000)
            for name, price in models.items()
        )
    )


def costing(usd: float) -> Any:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    return r.completion(usage={**usage, "cost": usd})


@both
def test_a_budget_reserves_the_worst_and_settles_the_actual(stream: bool) -> None:
    world = World(budget=Budget("1.00"))
    priced(world, a="0.001")
    world.script(A, costing(0.3))
    assert [world.ask(stream=stream, max_tokens=100).error is None for _ in range(3)] == [True, True, False]
    error = refused(world.ask(stream=stream, max_tokens=100))
    assert type(error) is BudgetExceededError
    assert str(error).startswith(f"{A} on {HOST}: the client's budget (1.00 USD a day) does not leave the ")
    assert error.retry_at == pytest.approx(WALL + DAY)
    assert left_over(world) == 0
    world.runtime.now += DAY
    assert world.ask(stream=stream, max_tokens=100).error is None


def test_a_cheaper_model_is_asked_where_the_budget_leaves_too_little() -> None:
    world = World(budget=Budget("0.50"))
    priced(world, a="0.001", b="0.00001", c="0")
    world.script(A, costing(0.2))
    assert world.ask(max_tokens=100, fallback_models=[B]).attempts == [f"{A} 200 ok"]
    told = world.ask(max_tokens=100, fallback_models=[B])
    assert told.attempts == [f"{B} 200 ok"]
    assert "does not leave" in told.skipped[A]


def test_a_free_model_is_asked_when_nothing_is_left() -> None:
    world = World(budget=Budget(0))
    priced(world, a="0.001", c="0")
    assert world.ask(fallback_models=[C]).attempts == [f"{C} 200 ok"]
    world = World(budget=Budget(0))
    priced(world, a="0.001")
    error = refused(world.ask())
    assert str(error).startswith(f"{A} on {HOST}: the client's budget (0 USD a day) is less than the ")
    assert error.retry_at is None


@pytest.mark.parametrize("policy", ["refuse", "allow"])
@pytest.mark.parametrize("listed", [True, False])
def test_unknown_prices(policy: Any, listed: bool) -> None:
    world = World(budget=Budget("0.25", on_unknown_price=policy))
    if listed:
        world.catalog(r.catalog_model(A, pricing={"prompt": "-1", "completion": "-1"}))
    world.script(A, costing(0.2))
    told = world.ask()
    if policy == "refuse":
        error = refused(told)
        assert (
            str(error)
            == f"{A} on {HOST}: the client's budget (0.25 USD a day) refuses it: nobody can tell what it may cost,"
            " and its on_unknown_price is 'refuse'"
        )
        assert error.retry_at is None
    else:
        assert told.error is None
        assert world.ask().error is None, "0.2 of 0.25 are spent, and nobody knows that it is too little"


FAILURES: list[tuple[str, Any, bool]] = [
    ("refused", "refused", False),
    ("429", BUSY, False),
    ("503", DOWN, False),
    ("timeout", "timeout", True),
    ("reset", "reset", True),
]


@both
@pytest.mark.parametrize(("failure", "billed"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES])
def test_what_may_have_been_billed_counts_in_full(stream: bool, failure: Any, billed: bool) -> None:
    world = World(budget=Budget("1.00"))
    priced(world, a="0.0009", b="0.0009")
    world.script(A, failure)
    world.script(B, costing(0.0))
    told = world.ask(stream=stream, max_tokens=500, fallback_models=[B])
    assert told.attempts[0].startswith(A)
    spent = world.store.used(world.router.quotas.purses[0].charge(Decimal(0)))  # type: ignore[attr-defined,union-attr]
    assert (spent > 0) is billed


def test_prices_are_those_of_a_fresh_catalogue() -> None:
    world = World(budget=Budget("1.00"))
    priced(world, a="0.000001")
    assert world.ask(max_tokens=100).error is None
    world.runtime.now += 2 * 3600
    priced(world, a="1")
    assert "does not leave" in str(world.ask(max_tokens=100).error) or "is less than" in str(
        world.ask(max_tokens=100).error
    )


@pytest.mark.parametrize(
    ("usd", "gives"), [("10", "word " * 2000 + f"Hello from {B}"), ("0.12", "StreamInterruptedError")]
)
def test_a_stream_that_is_continued_reserves_for_what_it_says_again(usd: str, gives: str) -> None:
    world = World(budget=Budget(usd))
    priced(world, a="0.0001", b="0.0001")
    world.script(A, r.stream("word " * 2000, r.cut()))
    told = world.ask(stream=True, max_tokens=10, on_interrupt="continue", fallback_models=[B])
    assert told.gives == gives
    assert left_over(world) == 0


@both
def test_interrupted_anywhere_nothing_stays_held(stream: bool) -> None:
    """And what may have been billed counts."""
    for at in range(1000):
        world = World(
            budget=Budget("100"),
            limits={"client": Limits(concurrency=1), "key": Limits(concurrency=1), f"model:{A}": Limits(concurrency=1)},
        )
        priced(world, a="0.001", b="0.001")
        world.script(A, DOWN)
        interruption = Interruption(at)
        step = (world.router.stream if stream else world.router.complete)(asking(stream=stream, fallback_models=[B]))
        try:
            world.gateway.run(step, interruption)
        except KeyboardInterrupt:
            pass
        else:
            break
        assert left_over(world) == 0, interruption.effect
        assert world.ask(stream=stream, model=B).error is None
    assert at > 4


def test_a_stream_that_breaks_counts_in_full() -> None:
    world = World(budget=Budget("1.00"))
    priced(world, a="0.0009")
    world.script(A, r.stream("Hel", "lo", r.cut()))
    assert world.ask(stream=True, max_tokens=500).gives == "StreamInterruptedError"
    spent = world.store.used(world.router.quotas.purses[0].charge(Decimal(0)))  # type: ignore[attr-defined,union-attr]
    assert spent > 0.4 * 10**9
    assert left_over(world) == 0


def test_a_tenants_budget_and_the_clients() -> None:
    tenants = [Tenant("acme", api_key=KEY, budget=Budget("0.9")), Tenant("globex", api_key=KEY + "2")]
    world = World(api_key=None, tenants=tenants, budget=Budget("1.20", per="month"), tenant="acme")
    priced(world, a="0.001")
    world.script(A, costing(0.5))
    assert world.ask(max_tokens=100).error is None
    assert "the budget of tenant acme (0.9 USD a day)" in str(refused(world.ask(max_tokens=100)))
    world.router = world.tenant("globex")
    assert world.ask(max_tokens=100).error is None
    error = refused(world.ask(max_tokens=100))
    assert "the client's budget (1.20 USD a month)" in str(error)
    assert error.retry_at == pytest.approx(WALL + 31 * DAY)


def test_budget_and_limit_together() -> None:
    """What one refuses is not taken from the other."""
    tenants = [Tenant("acme", api_key=KEY, budget=Budget("5"))]
    world = World(api_key=None, tenants=tenants, limits={f"model:{A}": Limits(requests_per_minute=1)}, tenant="acme")
    priced(world, a="0.001")
    world.script(A, costing(0.5))
    assert world.ask(max_tokens=100).error is None
    assert type(refused(world.ask(max_tokens=100))) is LimitExceededError
    assert left_over(world) == 0


# --- the house ---


def test_limits_that_limit_nothing() -> None:
    world = World(limits={"client": Limits(), "key": Limits()})
    assert world.ask().error is None


def test_what_a_request_needs_is_worked_out_once() -> None:
    tenants = [Tenant("acme", api_key=KEY, limits=Limits(tokens_per_minute=1000))]
    limits = {"client": Limits(tokens_per_minute=1000), "key": Limits(tokens_per_minute=1000)}
    world = World(api_key=None, tenants=tenants, limits=limits, budget=Budget(5), tenant="acme")
    priced(world, a="0.000001")
    assert world.ask(max_tokens=600).error is None
    assert world.ask(max_tokens=600).error is None


def test_models_that_users_name_do_not_fill_the_memory() -> None:
    world = World(limits={"key": Limits(requests_per_day=10_000)})
    for number in range(MAX_FOUND + 1):
        assert world.ask(model=f"m/{number}").error is None
    quotas: Any = world.router.quotas
    assert len(quotas._found) <= MAX_FOUND


def test_one_process_alone_meets_nobody() -> None:
    world = World()
    assert list(world.router.meet()) == []
    Router(world.settings, world.runtime).forked()


def test_without_limits_nothing_is_counted() -> None:
    world = World()
    assert world.router.quotas is None


def test_limits_need_somebody_who_counts() -> None:
    world = World(limits=Limits(requests_per_day=1))
    with pytest.raises(ConfigurationError, match="need a store"):
        Router(world.settings, world.runtime)


# --- a fleet ---


def test_processes_tell_each_other_what_is_broken() -> None:
    runtime = VirtualRuntime()
    server = BoardServer(runtime)
    one, other = (World(runtime=runtime, board=MemoryBoard(server), strategy="performance_optimized") for _ in range(2))
    for world in (one, other):
        world.gateway.perform_ask = server.perform
    one.script(A, DOWN)
    while one.router.health.states().get(f"{A} on {HOST}") != "open":
        one.ask(fallback_models=[B])
    runtime.now += 1.1
    one.ask(model=B)
    told = other.ask(fallback_models=[B])
    assert told.attempts == [f"{B} 200 ok"], "without a request of its own"
    runtime.now += 60
    other.script(A, r.completion())
    assert other.ask().error is None
    assert server.leases == {}
    runtime.now += 11
    other.ask()
    other.root.forked()


def test_a_probe_that_another_process_makes_is_not_made() -> None:
    runtime = VirtualRuntime()
    server = BoardServer(runtime)
    world = World(runtime=runtime, board=MemoryBoard(server), limits={f"model:{A}": Limits(requests_per_minute=1)})
    world.gateway.perform_ask = server.perform
    world.trip(A)
    runtime.now += 70
    server.leases[f"probe {A} on {HOST}"] = ("another's", runtime.now + 30)
    assert world.ask(fallback_models=[B]).attempts == [f"{B} 200 ok"]
    server.leases.clear()
    runtime.now += 2
    assert world.ask(fallback_models=[B]).attempts == [f"{A} 200 ok"]
    runtime.now += 2
    assert world.ask(fallback_models=[B]).attempts == [f"{B} 200 ok"], "a probe that a limit refuses"
    assert server.leases == {}


def test_a_last_hope_that_another_process_tries_is_not_tried() -> None:
    runtime = VirtualRuntime()
    server = BoardServer(runtime)
    world = World(runtime=runtime, board=MemoryBoard(server))
    world.gateway.perform_ask = server.perform
    world.trip(A)
    server.leases[f"probe {A} on {HOST}"] = ("another's", runtime.now + 30)
    assert isinstance(world.ask().error, NoEligibleModelError)
    server.leases.clear()
    runtime.now += 2
    world.ask()
    runtime.now += 2
    assert world.ask().attempts == [f"{A} 200 ok"]


@pytest.mark.parametrize("fleet", [False, True])
@pytest.mark.parametrize("limits", [{f"model:{A}": Limits(concurrency=1)}, {"client": Limits(concurrency=1)}])
def test_leave_that_comes_too_late_is_given_back(fleet: bool, limits: Any) -> None:
    """What is not sent before the deadline is not sent."""
    runtime = VirtualRuntime()
    server = BoardServer(runtime)
    world = World(runtime=runtime, board=MemoryBoard(server) if fleet else None, store=Distant(runtime), limits=limits)
    world.gateway.perform_ask = answered(server, 0.05)
    world.trip(A)
    runtime.now += 70
    told = world.ask(timeouts=Timeouts(total=0.04))
    assert isinstance(told.error, DeadlineExceededError)
    assert (told.attempts, asked(world), left_over(world)) == ([], [], 0)
    assert all(until <= runtime.now for _, until in server.leases.values())
    assert world.ask().error is None


@both
@pytest.mark.parametrize("fleet", [False, True])
@pytest.mark.parametrize("total", [100.0, 0.04])
def test_interrupted_anywhere_a_fleet_gets_its_leases_back(stream: bool, fleet: bool, total: float) -> None:
    """And nothing stays held in the store."""
    tenants = [Tenant("acme", api_key=KEY, limits=Limits(concurrency=1), budget=Budget(5))]
    limits = {"client": Limits(concurrency=1), f"model:{A}": Limits(concurrency=1)}
    for at in range(1000):
        runtime = VirtualRuntime()
        server = BoardServer(runtime)
        world = World(
            runtime=runtime,
            board=MemoryBoard(server) if fleet else None,
            store=Distant(runtime),
            limits=limits,
            api_key=None,
            tenants=tenants,
            tenant="acme",
        )
        world.gateway.perform_ask = answered(server, 0.0 if total > 1 else 0.015)
        priced(world, a="0")
        world.trip(A)
        runtime.now += 70
        asking_for = asking(stream=stream, timeouts=Timeouts(total=total))
        step = (world.router.stream if stream else world.router.complete)(asking_for)
        try:
            world.gateway.run(step, Interruption(at))
        except (KeyboardInterrupt, DeadlineExceededError) as error:
            if isinstance(error, DeadlineExceededError):
                break
        else:
            break
        assert left_over(world) == 0
        assert not world.gateway.open
        runtime.now += 2
        assert world.ask(stream=stream).error is None
        assert all(until <= runtime.now for _, until in server.leases.values())
    assert at > 4


# --- while the store is lost ---


def lost(_: Ask) -> Any:
    raise StoreFailure(Loss.CONNECTION, "ConnectionRefusedError")


@both
def test_without_the_store_each_process_goes_on_alone_and_says_so(stream: bool) -> None:
    runtime = VirtualRuntime()
    store = RedisStore("redis://127.0.0.1:1", runtime, workers=2, offline_allowance=Decimal("0.5"))
    world = World(
        runtime=runtime,
        store=store,
        limits={"client": Limits(requests_per_day=6), f"model:{A}": Limits(requests_per_minute=100)},
    )
    world.gateway.perform_ask = lost
    told = [world.ask(stream=stream) for _ in range(4)]
    assert [each.error is None for each in told] == [True, True, True, False], "three of six: there are two of us"
    assert told[0].route.degraded == ("the call", f"{A} on {HOST}")
    assert told[0].route.to_dict()["degraded"] == ["the call", f"{A} on {HOST}"]
    error = refused(told[3])
    assert "decided without the store, which is lost" in str(error)
    assert told[3].route.degraded == ("the call",)
    assert error.retry_after is not None
    assert error.retry_after <= 5.0, "by then the store may be back"
    assert world.router.accounts.stats().degraded == 4
    assert store.report().lost


def test_interrupted_while_asking_a_lost_store_nothing_stays_held() -> None:
    tenants = [Tenant("acme", api_key=KEY, limits=Limits(concurrency=1), budget=Budget(5))]
    asks = 0
    for at in range(1000):
        runtime = VirtualRuntime()
        store = RedisStore("redis://127.0.0.1:1", runtime)
        limits = {"client": Limits(concurrency=1), "key": Limits(concurrency=1)}
        world = World(runtime=runtime, store=store, api_key=None, tenants=tenants, limits=limits, tenant="acme")
        world.gateway.perform_ask = lost
        priced(world, a="0.0001")
        interruption = Interruption(at)
        try:
            world.gateway.run(world.router.complete(asking(max_tokens=10)), interruption)
        except KeyboardInterrupt:
            asks += isinstance(interruption.effect, Ask)
        else:
            break
        assert world.ask(max_tokens=10).error is None, interruption.effect
    assert asks >= 3


def test_what_the_store_says_is_told_to_observers() -> None:
    runtime = VirtualRuntime()
    told: list[StoreChanged] = []
    store = RedisStore("redis://127.0.0.1:1", runtime, notify=told.append)
    world = World(runtime=runtime, store=store, limits=Limits(requests_per_day=100))
    world.gateway.perform_ask = lost
    while not told:
        world.ask()
    world.router.note(told[0])
    world.ask()
    (event,) = [each for each in world.events if isinstance(each, StoreChanged)]
    assert event.state is StoreState.LOST


def test_money_stops_after_the_allowance() -> None:
    runtime = VirtualRuntime()
    store = RedisStore("redis://127.0.0.1:1", runtime, offline_allowance=Decimal("0.5"))
    world = World(runtime=runtime, store=store, budget=Budget("100"))
    world.gateway.perform_ask = lost
    priced(world, a="0.0001", c="0")
    world.script(A, costing(0.3))
    answers = [world.ask(max_tokens=100, fallback_models=[C]).attempts for _ in range(3)]
    assert answers == [[f"{A} 200 ok"], [f"{A} 200 ok"], [f"{C} 200 ok"]], "and what is free goes on"
    told = world.ask(max_tokens=100)
    assert (told.attempts, told.route.degraded) == ([f"{C} 200 ok"], (f"{A} on {HOST}", f"{C} on {HOST}"))
