"""What the attempts of one call ask of the store, and how often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from routerkit import Budget, Limits, Tenant, Timeouts
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
    assert (told.attempts, len(told.waits)) == ([f"{A} 200 ok"], 1)


def test_catalogues_are_asked_for_prices_once_in_a_call() -> None:
    """Also where they do not answer, and however long the attempts take."""
    world = World(budget=Budget(5, on_unknown_price="allow"))
    world.script(A, after(100.0, r.error(503)))
    world.script(B, after(100.0, r.error(503)))
    told = world.ask(fallback_models=[B, C], timeouts=Timeouts(first_byte=200, total=900))
    assert len(told.attempts) > 2
    assert len([each for each in world.gateway.requests if each.method == "GET"]) == 1


def test_who_waits_comes_before_who_comes_although_nobody_said_that_a_slot_is_free() -> None:
    """It was another process that gave it back."""
    runtime = VirtualRuntime()
    store = MemoryStore(runtime)
    ours, others = (
        World(runtime=runtime, store=store, limits={GATEWAY: Limits(concurrency=1, queue_size=5)}) for _ in range(2)
    )
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    answer = json.dumps({"choices": [choice]}).encode()

    def answered(_: Send) -> tuple[float, HttpResponse]:
        return 1.0, HttpResponse(200, {"content-type": "application/json"}, answer)

    crowd = Crowd(runtime, answered)
    crowd.join("others", others.router.complete(asking()))
    crowd.join("waits", ours.router.complete(asking()), 0.05)
    crowd.join("comes", ours.router.complete(asking()), 1.02)
    crowd.run()
    assert crowd.order == ["others", "waits", "comes"]


def test_without_budgets_nobody_asks_for_prices() -> None:
    world = World(limits={GATEWAY: Limits(requests_per_day=5)})
    assert world.ask().error is None
    assert [each.method for each in world.gateway.requests] == ["POST"]
