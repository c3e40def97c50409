"""The list of all limits and budgets: those that calls are charged with, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from routerkit import Budget, Gateway, Limits, Tenant
from routerkit.config import settings_from
from routerkit.core.limits import Charge, Counting, Denial, Grant, Kind
from routerkit.core.quota_list import charges_of
from routerkit.store.memory import MemoryStore
from routerkit.tenancy import settings_for
from routerkit.testing import replies as r
from tests.support.core import HOST, KEY, A, B, World
from tests.support.virtual import VirtualRuntime

AMPLE = Limits(requests_per_minute=900, tokens_per_minute=10**8, requests_per_day=900, concurrency=9)
FREE = "d/four:free"
SCOPES = [
    "client",
    f"gateway:{HOST}",
    "key",
    f"key:{HOST}",
    f"model:{A}",
    f"model:{A} on {HOST}",
    "free",
    f"free:{HOST}",
]
TWO = [Gateway("one", "http://127.0.0.1:1/v1"), Gateway("two", "https://two.example/v1", key_required=True)]


class Recording(MemoryStore):
    """Takes down what it is asked for."""

    def __init__(self) -> None:
        super().__init__(VirtualRuntime())
        self.asked: set[tuple[str, Kind, str, str, int]] = set()

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        self.asked |= {(owner, each.kind, each.name, each.period, each.cap) for each in charges}
        return super().admit(charges, lease, owner)


def listed(settings: Any) -> list[tuple[str, Kind, str, str, int]]:
    return [(owner, each.kind, each.name, each.period, each.cap) for owner, each in charges_of(settings)]


def labels(settings: Any) -> list[str]:
    return [f"{owner}: {charge.label}" if owner else charge.label for owner, charge in charges_of(settings)]


def minute(requests: int) -> Limits:
    return Limits(requests_per_minute=requests)


def test_they_are_those_that_calls_are_charged_with() -> None:
    tenants = [
        Tenant("acme", KEY, limits=AMPLE, budget=Budget(3, per="month")),
        Tenant("globex", [KEY + "2", KEY + "3"]),
    ]
    store = Recording()
    options = {
        "tenants": tenants,
        "limits": dict.fromkeys(SCOPES, AMPLE),
        "budget": Budget(5, per="total"),
        "api_key": None,
    }
    world = World(store=store, **options)
    prices = {"prompt": "0.000001", "completion": "0.000001"}
    world.catalog(*(r.catalog_model(model, pricing=prices) for model in (A, B, FREE)))
    for name in ("acme", "globex", "globex"):
        world.router = world.tenant(name)
        for model in (A, B, FREE):
            assert not world.ask(model=model, max_tokens=5).route.skipped
    found = listed(world.settings)
    assert len(found) == len(set(found))
    assert set(found) == store.asked
    assert all(charge.cost == 0 or charge.kind is not Kind.MONEY for _, charge in charges_of(world.settings))


def test_in_words_and_in_this_order() -> None:
    tenants = [Tenant("acme", KEY, limits=minute(1)), Tenant("globex", KEY + "2", budget=Budget("2.5"))]
    scopes = {scope: minute(number) for number, scope in enumerate(SCOPES, 2)}
    settings = settings_from(
        {}, base_url=f"http://{HOST}/v1", tenants=tenants, limits=scopes, budget=Budget(9, per="total")
    )
    keys = [next(iter(tenant.keys)).fingerprint for tenant in tenants if tenant.keys]  # type: ignore[union-attr]
    first, second = (f"the key …{key} of {HOST}" for key in keys)
    assert labels(settings) == [
        "2 requests a minute of the client",
        "the client's budget (9 USD in all)",
        f"3 requests a minute of gateway {HOST}",
        f"4 requests a minute of {first}",
        f"5 requests a minute of {first}",
        f"8 requests a minute of the free models with {first}",
        f"9 requests a minute of the free models with {first}",
        f"4 requests a minute of {second}",
        f"5 requests a minute of {second}",
        f"8 requests a minute of the free models with {second}",
        f"9 requests a minute of the free models with {second}",
        f"6 requests a minute of {A}",
        f"7 requests a minute of {A} on {HOST}",
        "acme: 1 request a minute of tenant acme",
        "globex: the budget of tenant globex (2.5 USD a day)",
    ]
    assert KEY not in str(charges_of(settings))


def test_of_a_tenant_its_own_and_those_of_its_keys() -> None:
    tenants = [Tenant("acme", KEY, limits=AMPLE, budget=Budget(3)), Tenant("globex", KEY + "2")]
    settings = settings_from(
        {}, base_url=f"http://{HOST}/v1", tenants=tenants, limits=dict.fromkeys(SCOPES, minute(5)), budget=Budget(9)
    )
    every = set(listed(settings))
    own = listed(settings_for(settings, "acme"))
    assert set(own) <= every
    assert {owner for owner, *_ in own} == {"acme", ""}
    assert len([each for each in own if each[0] == "acme"]) == 5
    shared = [name for owner, _, name, *_ in own if not owner]
    assert [name.partition(":")[0] for name in shared] == ["key", "key of", "free", "free of"]
    others = [name for owner, _, name, *_ in listed(settings_for(settings, "globex")) if not owner]
    assert len(others) == 4
    assert not set(shared) & set(others)
    assert {owner for owner, *_ in listed(settings_for(settings, "globex"))} == {""}


def test_without_any_there_are_none() -> None:
    settings = settings_from({}, base_url=f"http://{HOST}/v1", tenants=[Tenant("acme", KEY)])
    assert charges_of(settings) == charges_of(settings_for(settings, "acme")) == []
    assert charges_of(settings_from({}, base_url=f"http://{HOST}/v1", api_key=KEY)) == []


@pytest.mark.parametrize(
    ("tenants", "keys"),
    [
        ([Tenant("a", {"two": KEY}), Tenant("b", {"two": KEY + "2"})], {"one": 1, "two": 2}),
        ([Tenant("a", {"two": KEY}), Tenant("b", {"two": KEY})], {"one": 1, "two": 1}),
        ([Tenant("a", KEY), Tenant("b", {"two": KEY})], {"one": 2, "two": 1}),
        ([Tenant("a", {"one": KEY, "two": KEY}), Tenant("b", {"one": KEY + "2", "two": KEY})], {"one": 2, "two": 1}),
        (
            [Tenant("a", {"one": [KEY, KEY + "2"], "two": KEY}), Tenant("b", {"one": KEY + "2", "two": KEY})],
            {"one": 2, "two": 1},
        ),
    ],
)
def test_each_key_once_and_its_absence_where_a_tenant_asks_without(tenants: list[Tenant], keys: dict[str, int]) -> None:
    """The first gateway, on this machine, needs none."""
    settings = settings_from({}, gateways=TWO, tenants=tenants, limits={"key": minute(5)})
    names = [charge.name for _, charge in charges_of(settings)]
    assert {gateway: sum(name.startswith(f"key:{gateway}:") for name in names) for gateway in keys} == keys
    without = any("one" not in tenant.keys for tenant in tenants if not isinstance(tenant.keys, tuple))  # type: ignore[operator]
    assert ("key:one:none requests" in names) == without


def test_the_keys_of_a_client_without_tenants() -> None:
    settings = settings_from({}, gateways=TWO, api_key={"two": [KEY, KEY + "2"]}, limits={"key": minute(5)})
    names = [charge.name for _, charge in charges_of(settings)]
    assert [name.rpartition(":")[0] for name in names] == ["key:one", "key:two", "key:two"]
    assert names[0] == "key:one:none requests"
