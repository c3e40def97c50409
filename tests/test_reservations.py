"""What the attempts of one call ask of the store, and how often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from routerkit import Budget, LimitExceededError, Limits, RetryPolicy, Tenant, Timeouts
from routerkit.core.effects import HttpResponse, Send
from routerkit.core.limits import Charge, Counting, Denial, Grant
from routerkit.store.memory import MemoryStore
from routerkit.testing import replies as r
from tests.support.core import HOST, KEY, A, B, C, World, after, asking
from tests.support.crowd import Crowd
from tests.support.virtual import VirtualRuntime

GATEWAY = f"gateway:{HOST}"
ACME = {"api_key": None, "tenant": "acme"}


class Counted(MemoryStore):
    """Tells how often it was asked for leave."""

    asked = 0

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        self.asked += 1
        return super().admit(charges, lease, owner)


def priced(world: World, **models: str) -> None:
    """A catalogue of these, at USD per token."""
    ids = {"a": A, "b": B, "c": C}
    world.catalog(
        *(
            r.catalog_model(ids[name], pricing={"prompt": price, "completion": price}, context_length=1000)
            for name, price in models.items()
        )
    )


def asked_of(world: World) -> int:
    """How often the store is asked in one call for three models, all of which are refused."""
    store: Any = world.store
    before = int(store.asked)
    assert world.ask(fallback_models=[B, C], max_tokens=100).attempts == []
    return int(store.asked) - before


def test_what_is_known_to_be_refused_is_not_asked_again() -> None:
    runtime = VirtualRuntime()
    world = World(runtime=runtime, store=Counted(runtime), limits={GATEWAY: Limits(requests_per_day=1)})
    assert world.ask().error is None
    assert asked_of(world) == 1


def test_nor_where_one_owner_grants_what_the_other_refuses() -> None:
    runtime = VirtualRuntime()
    tenants = [Tenant("acme", api_key=KEY, budget=Budget(5))]
    limits = {GATEWAY: Limits(requests_per_day=1)}
    world = World(runtime=runtime, store=Counted(runtime), limits=limits, tenants=tenants, **ACME)
    priced(world, a="0", b="0", c="0")
    assert world.ask().error is None
    assert asked_of(world) == 2, "the tenant's budget, then the gateway's limit; then it is known"


@pytest.mark.parametrize(
    ("prices", "asked"),
    [
        ({"a": "0.01", "b": "0.01", "c": "0.01"}, 1),
        ({"a": "0.01", "b": "0.02", "c": "0.03"}, 1),
        ({"a": "0.03", "b": "0.02", "c": "0.01"}, 3),
    ],
    ids=str,
)
def test_what_costs_less_is_asked_for(prices: dict[str, str], asked: int) -> None:
    """A tenant's budget that has no room for one attempt may have it for another."""
    runtime = VirtualRuntime()
    tenants = [Tenant("acme", api_key=KEY, budget=Budget("0.5"))]
    world = World(runtime=runtime, store=Counted(runtime), tenants=tenants, budget=Budget(1000), **ACME)
    priced(world, **prices)
    assert asked_of(world) == asked


def test_a_budget_that_is_known_to_be_used_up_is_the_owners_alone() -> None:
    """Both budgets have one name."""
    runtime = VirtualRuntime()
    tenants = [Tenant("acme", api_key=KEY, budget=Budget(1000))]
    world = World(runtime=runtime, store=Counted(runtime), tenants=tenants, budget=Budget("0.5"), **ACME)
    priced(world, a="0.02", b="0.02", c="0.02")
    assert asked_of(world) == 2
    told = world.ask(fallback_models=[B, C], max_tokens=100)
    assert len(told.skipped) == 3
    assert all("the client's budget" in reason for reason in told.skipped.values())


def test_after_a_pause_what_was_refused_is_asked_for_again() -> None:
    world = World(limits={GATEWAY: Limits(requests_per_minute=30)})
    world.script(A, r.error(429, headers={"Retry-After": "3"}), r.completion())
    for _ in range(29):
        assert world.ask(model=C).error is None
    assert world.ask(timeouts=Timeouts(total=2)).attempts == [f"{A} 429 rate_limited"]
    told = world.ask(model=B, fallback_models=[A])
    assert told.skipped[B].startswith("30 requests a minute of gateway")
    assert (told.attempts, len(told.waits)) == ([f"{B} 200 ok"], 1), "it was asked for first, and there is room again"


def test_catalogues_are_asked_for_prices_once_in_a_call() -> None:
    """Also where they do not answer, and however long the attempts take."""
    world = World(budget=Budget(5, on_unknown_price="allow"))
    world.script(A, after(100.0, r.error(503)))
    world.script(B, after(100.0, r.error(503)))
    told = world.ask(fallback_models=[B, C], timeouts=Timeouts(first_byte=200, total=900))
    assert len(told.attempts) > 2
    assert len([each for each in world.gateway.requests if each.method == "GET"]) == 1


def in_a_second(order: Send) -> tuple[float, HttpResponse]:
    """What is answered, and when."""
    if order.request.body is None:
        return 0.0, HttpResponse(404, {}, b"")
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    answer = json.dumps({"choices": [choice]}).encode()
    return 1.0, HttpResponse(200, {"content-type": "application/json"}, answer)


def crowded(scope: str = GATEWAY, **more: Any) -> tuple[World, Crowd]:
    """A client, and calls at the same time, of which one of another process has the only slot for a second."""
    runtime = VirtualRuntime()
    store = MemoryStore(runtime)
    limits = {scope: Limits(concurrency=1, queue_size=5, **more)}
    ours, others = (World(runtime=runtime, store=store, limits=limits) for _ in range(2))
    crowd = Crowd(runtime, in_a_second)
    crowd.join("others", others.router.complete(asking()))
    return ours, crowd


@pytest.mark.parametrize("scope", [GATEWAY, "client"])
def test_who_waits_comes_before_who_comes_although_nobody_said_that_a_slot_is_free(scope: str) -> None:
    """It was another process that gave it back."""
    ours, crowd = crowded(scope)
    crowd.join("waits", ours.router.complete(asking()), 0.05)
    crowd.join("comes", ours.router.complete(asking()), 1.02)
    crowd.run()
    assert crowd.order == ["others", "waits", "comes"]


def test_and_before_a_last_hope() -> None:
    """Which is no turn, and not worth one."""
    ours, crowd = crowded()
    ours.trip(A)
    crowd.join("waits", ours.router.complete(asking(model=B)), 0.05)
    hope = crowd.join("hope", ours.router.complete(asking()), 1.02)
    crowd.run()
    assert crowd.order == ["others", "hope", "waits"]
    assert "all are under way" in str(hope.error)


def test_without_budgets_nobody_asks_for_prices() -> None:
    world = World(limits={GATEWAY: Limits(requests_per_day=5)})
    assert world.ask().error is None
    assert [each.method for each in world.gateway.requests] == ["POST"]


# --- several keys ---


def test_of_keys_that_are_all_used_up_the_first_that_is_not_any_more_counts() -> None:
    world = World(api_key=[KEY, KEY + "2"], limits={"key": Limits(requests_per_minute=1)})
    opened = world.gateway.begin(world.router.stream(asking(stream=True)))  # its key has most to do: it comes last
    world.runtime.now += 10
    assert world.ask().error is None
    world.runtime.now += 10
    error = world.ask().error
    assert type(error) is LimitExceededError
    assert error.retry_after == pytest.approx(40, abs=0.1)
    opened.finish()


def test_nor_does_a_key_that_rests_for_longer() -> None:
    world = World(api_key=[KEY, KEY + "2"], limits={"key": Limits(requests_per_minute=1)})
    assert world.ask().error is None
    world.script(A, r.error(429, headers={"Retry-After": "200"}))
    assert world.ask().attempts == [f"{A} 429 rate_limited"]
    error = world.ask().error
    assert type(error) is LimitExceededError
    assert error.retry_after == pytest.approx(60, abs=0.1)


# --- turns ---


def test_a_call_without_a_turn_is_told_why() -> None:
    ours, crowd = crowded("client", queue_timeout=0.5)
    members = [crowd.join(f"{place}", ours.router.complete(asking()), 0.1) for place in range(6)]
    crowd.run()
    assert {str(member.error) for member in members[:5]} == {
        "1 request at a time of the client: all are under way, and no turn came in time"
    }
    assert str(members[5].error) == "1 request at a time of the client: all are under way, and 5 wait already"
    assert {type(member.error) for member in members} == {LimitExceededError}


def test_who_finds_a_queue_full_has_not_waited() -> None:
    ours, crowd = crowded()
    for place in range(6):
        last = crowd.join(f"{place}", ours.router.complete(asking()), 0.1)
    crowd.run(0.5)
    assert isinstance(last.error, LimitExceededError)
    assert "and 5 wait already" in str(last.error)
    assert last.error.route is not None
    assert last.error.route.waits == ()


def test_a_turn_is_waited_for_once() -> None:
    """Also where the catalogue has nothing to offer in its place."""
    world = World(limits={f"model:{A}": Limits(concurrency=1, queue_size=5, queue_timeout=0.3)})
    crowd = Crowd(world.runtime, in_a_second)
    crowd.join("first", world.router.complete(asking()))
    second = crowd.join("second", world.router.complete(asking()), 0.1)
    crowd.run()
    assert isinstance(second.error, LimitExceededError)
    assert second.error.route is not None
    assert [wait.seconds for wait in second.error.route.waits] == [pytest.approx(0.3)]


def test_a_turn_is_waited_for_although_the_first_model_has_no_queue() -> None:
    limits = {f"model:{A}": Limits(requests_per_day=1), f"model:{B}": Limits(concurrency=1, queue_size=5)}
    world = World(limits=limits)
    assert world.ask().error is None
    crowd = Crowd(world.runtime, in_a_second)
    members = [crowd.join(f"{place}", world.router.complete(asking(fallback_models=[B]))) for place in range(2)]
    crowd.run()
    assert [member.result.model for member in members] == [B, B]


def test_in_its_turn_a_call_need_not_heed_the_rest_that_nobody_asked_for() -> None:
    """It has waited before it tries again, and then for its turn."""
    world = World(limits={GATEWAY: Limits(concurrency=1, queue_size=5)})
    limited = HttpResponse(429, {"content-type": "application/json"}, b'{"error": {"code": 429, "message": "no"}}')
    answers = [(1.0, limited)]
    crowd = Crowd(world.runtime, lambda order: answers.pop() if answers else in_a_second(order))
    again = crowd.join("again", world.router.complete(asking()))
    crowd.join("between", world.router.complete(asking(model=B)), 0.1)
    crowd.run()
    assert crowd.order == ["between", "again"]
    assert again.result is not None
    assert [attempt.verdict.code for attempt in again.result.route.attempts] == ["rate_limited", "ok"]
    assert len(again.result.route.waits) == 2


def test_without_a_turn_there_is_no_retry() -> None:
    """Nor is it the end: another model is asked, or the call fails as its attempt did."""
    limits = {f"model:{A}": Limits(concurrency=1, queue_size=5, queue_timeout=0.1)}
    world = World(retry=RetryPolicy(jitter=0), limits=limits)
    conflict = HttpResponse(409, {"content-type": "application/json"}, b'{"error": {"code": 409, "message": "no"}}')
    answers = [(1.0, conflict)]
    crowd = Crowd(world.runtime, lambda order: answers.pop() if answers else in_a_second(order))
    first = crowd.join("first", world.router.complete(asking(fallback_models=[B])))
    crowd.join("between", world.router.complete(asking()), 1.1)
    crowd.run()
    assert first.result is not None
    assert [str(attempt.verdict) for attempt in first.result.route.attempts] == ["conflict", "ok"]
    assert first.result.model == B
