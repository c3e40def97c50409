"""What limits and budgets are kept under, what they charge, and what people are told of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from routerkit import (
    Budget,
    BudgetExceededError,
    ConfigurationError,
    LimitExceededError,
    Limits,
    Router,
    Target,
    Tenant,
)
from routerkit.core.hold import Group
from routerkit.core.keys import Key
from routerkit.core.limits import Charge, Denial, Kind
from routerkit.core.quotas import Demand, Quotas, by_key, gateway_wide
from routerkit.core.refusals import reason_of, refused_error, shown_seconds
from routerkit.testing import replies as r
from routerkit.types.model import Model, Pricing
from routerkit.types.policy import Timeouts
from tests.support.core import HOST, KEY, A, World, asking, target

FULL = Limits(requests_per_minute=2, tokens_per_minute=500, requests_per_day=1, concurrency=3)
FREE = "z/three:free"
NOTHING = Decimal(0)


def quotas_of(world: World) -> Quotas:
    quotas = world.router.quotas
    assert quotas is not None
    return quotas


def demand(**more: Any) -> Demand:
    return Demand(asking(**more))


def key_of(world: World, place: int = 0) -> Key:
    return world.router.access[HOST].keys[place]


def four(name: str, label: str, tokens: int) -> tuple[Charge, ...]:
    """What each of the limits of ``FULL`` is charged."""
    return (
        Charge(Kind.RATE, f"{name} requests", f"2 requests a minute of {label}", 2),
        Charge(Kind.DAY, f"{name} requests", f"1 request a day of {label}", 1),
        Charge(Kind.SLOTS, name, f"3 requests at a time of {label}", 3),
        Charge(Kind.RATE, f"{name} tokens", f"500 tokens a minute of {label}", 500, tokens),
    )


# --- names: processes that run another version count with us, so they must not change ---


def test_what_a_call_is_charged_with() -> None:
    tenants = [Tenant("acme", api_key=KEY, limits=FULL)]
    world = World(api_key=None, tenants=tenants, limits=FULL, tenant="acme")
    assert quotas_of(world).of_call(demand(max_tokens=100)) == [
        Group("acme", four("calls", "tenant acme", 101)),
        Group("", four("calls", "the client", 101)),
    ]


@pytest.mark.parametrize("keys", [0, 1, 2])
@pytest.mark.parametrize(
    ("scope", "model", "name", "label"),
    [
        (f"gateway:{HOST}", A, f"gateway:{HOST}", f"gateway {HOST}"),
        (f"model:{A}", A, f"model:{A}", A),
        (f"model:{A} on {HOST}", A, f"model:{A} on {HOST}", f"{A} on {HOST}"),
        ("key", A, f"key:{HOST}:{{digest}}", f"the key{{name}} of {HOST}"),
        (f"key:{HOST}", A, f"key of:{HOST}:{{digest}}", f"the key{{name}} of {HOST}"),
        ("free", FREE, f"free:{HOST}:{{digest}}", f"the free models with the key{{name}} of {HOST}"),
        ("free", "Z/THREE:FREE", f"free:{HOST}:{{digest}}", f"the free models with the key{{name}} of {HOST}"),
        (f"free:{HOST}", FREE, f"free of:{HOST}:{{digest}}", f"the free models with the key{{name}} of {HOST}"),
    ],
)
def test_what_an_attempt_is_charged_with(keys: int, scope: str, model: str, name: str, label: str) -> None:
    world = World(api_key=[f"{KEY}-{place}" for place in range(keys)] or None, limits={scope: FULL})
    key = key_of(world)
    told = {
        "digest": "none" if key.secret is None else key.secret.digest,
        "name": f" {key.name}" if keys > 1 else "",
    }
    groups = quotas_of(world).of_attempt(target(model), key, demand(max_tokens=9000), NOTHING)
    assert groups == [Group("", four(name.format(**told), label.format(**told), 500))]


def test_all_that_an_attempt_is_charged_with() -> None:
    """What is the tenant's own first; of what tenants share the budget first."""
    tenants = [Tenant("acme", api_key=KEY, budget=Budget("2.50", per="month"))]
    one = Limits(requests_per_day=7)
    limits = dict.fromkeys(("key", "free", f"model:{FREE}", f"gateway:{HOST}", "client"), one)
    world = World(api_key=None, tenants=tenants, limits=limits, budget=Budget(9, per="total"), tenant="acme")
    groups = quotas_of(world).of_attempt(target(FREE), key_of(world), demand(), Decimal("0.0000000015"))
    own = Charge(Kind.MONEY, "budget", "the budget of tenant acme (2.50 USD a month)", 25 * 10**8, 2, "month")
    ours = Charge(Kind.MONEY, "budget", "the client's budget (9 USD in all)", 9 * 10**9, 2, "total")
    assert [(group.owner, group.charges[0]) for group in groups] == [("acme", own), ("", ours)]
    assert len(groups[0].charges) == 1
    names = [charge.name.split(":")[0] for charge in groups[1].charges[1:]]
    assert names == ["gateway", "model", "key", "free"]


def test_budgets_a_day() -> None:
    (purse,) = quotas_of(World(budget=Budget(5))).purses
    assert purse.charge(NOTHING) == Charge(
        Kind.MONEY, "budget", "the client's budget (5 USD a day)", 5 * 10**9, 0, "day"
    )
    assert purse.unknown == Denial(purse.charge(NOTHING), None, never=True)


def test_one_of_a_kind_is_told_in_the_singular() -> None:
    one = Limits(requests_per_minute=1, tokens_per_minute=1, requests_per_day=1, concurrency=1)
    ((_, charges),) = quotas_of(World(limits=one)).of_call(demand())
    assert [charge.label for charge in charges] == [
        "1 request a minute of the client",
        "1 request a day of the client",
        "1 request at a time of the client",
        "1 token a minute of the client",
    ]


def test_a_gateway_without_limits_of_its_own_is_charged_nothing() -> None:
    world = World(limits={f"model:{A}": FULL, "free": FULL})
    assert quotas_of(world).of_attempt(target("b/two"), key_of(world), demand(), NOTHING) == []
    assert quotas_of(world).of_call(demand()) == []


@pytest.mark.parametrize(
    ("settings", "calls", "attempts"),
    [
        ({"limits": FULL}, True, False),
        ({"limits": {"key": FULL}}, False, True),
        ({"limits": {"client": FULL, "key": FULL}}, True, True),
        ({"budget": Budget(5)}, False, True),
        ({"tenants": [Tenant("acme", api_key=KEY, limits=FULL)], "tenant": "acme", "api_key": None}, True, False),
        ({"tenants": [Tenant("acme", api_key=KEY, budget=Budget(5))], "tenant": "acme", "api_key": None}, False, True),
    ],
    ids=str,
)
def test_what_is_counted(settings: Any, calls: bool, attempts: bool) -> None:
    quotas = quotas_of(World(**settings))
    assert (quotas.calls, quotas.attempts) == (calls, attempts)


@pytest.mark.parametrize(
    ("scope", "key", "wide"),
    [
        (f"gateway:{HOST}", False, True),
        (f"model:{FREE}", False, False),
        (f"model:{FREE} on {HOST}", False, False),
        ("key", True, True),
        (f"key:{HOST}", True, True),
        ("free", True, False),
        (f"free:{HOST}", True, False),
    ],
)
def test_how_far_a_limit_reaches(scope: str, key: bool, wide: bool) -> None:
    world = World(limits={scope: FULL})
    ((_, charges),) = quotas_of(world).of_attempt(target(FREE), key_of(world), demand(), NOTHING)
    assert {(by_key(charge), gateway_wide(charge)) for charge in charges} == {(key, wide)}


def test_what_is_remembered_of_models_that_users_name_is_bounded() -> None:
    world = World(limits={"key": FULL})
    quotas: Any = quotas_of(world)
    asked, key = demand(), key_of(world)
    for number in range(1000):
        quotas.of_attempt(target(f"m/{number}"), key, asked, NOTHING)
    assert len(quotas._found) == 1000
    quotas.of_attempt(target("m/0"), key, asked, NOTHING)
    assert len(quotas._found) == 1000
    quotas.of_attempt(target("m/one-more"), key, asked, NOTHING)
    assert len(quotas._found) == 1


# --- what a call asks ---


def test_a_lease_outlasts_the_call() -> None:
    assert demand(timeouts=Timeouts(total=25)).lease == 35.0


def test_models_of_the_gateways_own_choice() -> None:
    assert demand(models=["b/two", "c/three"]).others(HOST) == ("b/two", "c/three")
    assert demand().others(HOST) == ()
    for models, others in (("b/two", ()), ([7, "b/two"], ("b/two",)), (None, ())):
        asked = asking()
        asked.params["models"] = models  # type: ignore[index]
        assert Demand(asked).others(HOST) == others


def test_they_are_charged_by_the_ids_that_it_is_given() -> None:
    """A bound that went by other ids would be too low, and a limit of the model would be overlooked."""
    more = {"aliases": {"b/alias": {HOST: "b/two"}}, "limits": {"model:b/two": Limits(requests_per_minute=1)}}
    world = World(budget=Budget(1), **more)
    dear = {"prompt": "0.001", "completion": "0.001"}
    world.catalog(A, r.catalog_model("b/two", pricing=dear))
    assert world.ask(models=["b/alias"], max_tokens=100).error is None
    assert isinstance(world.ask(models=["b/alias"], max_tokens=100).error, LimitExceededError)
    told = world.ask(models=["b/alias"], max_tokens=2000)
    assert isinstance(told.error, BudgetExceededError)


def test_from_now_on_for_another_request() -> None:
    priced = Model(A, pricing=Pricing(prompt=NOTHING, completion=Decimal("0.5")))
    asked = demand(max_tokens=50, models=[A])
    before = asked.tokens
    assert asked.worst(Target(HOST, A), {A: priced}.get) == 25
    asked.ask(asking([{"role": "user", "content": "x" * 300}], max_tokens=90))
    assert asked.tokens > before + 100
    assert asked.worst(Target(HOST, A), {A: priced}.get) == 45
    assert asked.others(HOST) == ()


def test_who_makes_a_router_is_told_what_is_missing() -> None:
    world = World(limits=FULL)
    with pytest.raises(ConfigurationError) as raised:
        Router(world.settings, world.runtime)
    assert str(raised.value) == "limits and budgets need a store: Router(..., store=MemoryStore(runtime))"


# --- queues ---


def test_whose_queue_one_waits_in() -> None:
    """Tenants and the client have each their own, though they have one name."""
    queued = Limits(concurrency=1, queue_size=4, queue_timeout=7.0)
    tenants = [Tenant("acme", api_key=KEY, limits=queued)]
    world = World(api_key=None, tenants=tenants, limits=Limits(concurrency=1, queue_size=2), tenant="acme")
    quotas = quotas_of(world)
    groups = quotas.of_call(demand())
    found = [quotas.queue(groups, Denial(charges[0], None)) for _, charges in groups]
    assert [(queue.size, queue.patience) for queue in found if queue is not None] == [(4, 7.0), (2, float("inf"))]
    assert quotas.queue(groups, Denial(Charge(Kind.SLOTS, "other", "other", 1), None)) is None


def test_for_what_waiting_does_not_help_nobody_waits() -> None:
    world = World(limits={"key": Limits(concurrency=1, requests_per_day=1, queue_size=2)})
    quotas = quotas_of(world)
    ((_, (day, slots)),) = quotas.of_attempt(target(A), key_of(world), demand(), NOTHING)
    assert quotas.queue_of(Denial(slots, None)) is not None
    assert quotas.queue_of(Denial(slots, None, never=True)) is None
    assert quotas.queue_of(Denial(day, None)) is None
    assert quotas.queue_of(None) is None


# --- words ---


def money(cost: int, cap: int = 5 * 10**9) -> Charge:
    return Charge(Kind.MONEY, "budget", "the budget", cap, cost)


@pytest.mark.parametrize(
    ("charge", "said"),
    [
        (money(1), "the budget: used up"),
        (money(1, cap=0), "the budget: used up"),
        (money(2), "the budget does not leave the 0.000000002 USD that this may cost"),
        (money(1_234_567_890), "the budget does not leave the 1.23 USD that this may cost"),
        (money(5 * 10**9), "the budget does not leave the 5 USD that this may cost"),
        (money(5 * 10**9 + 1), "the budget is less than the 5 USD that this may cost"),
        (Charge(Kind.SLOTS, "n", "1 at a time", 1), "1 at a time: all are under way"),
        (Charge(Kind.RATE, "n", "1 a minute", 1), "1 a minute: used up"),
        (Charge(Kind.DAY, "n", "1 a day", 1), "1 a day: used up"),
    ],
    ids=str,
)
def test_why_it_is_refused(charge: Charge, said: str) -> None:
    assert reason_of(Denial(charge, None)) == said
    alone, vain = "decided without the store, which is lost", "and waiting does not help"
    assert reason_of(Denial(charge, None, degraded=True)) == f"{said}, {alone}"
    assert reason_of(Denial(charge, None, never=True)) == f"{said}, {vain}"
    assert (
        reason_of(Denial(charge, 3.0, never=True, degraded=True), "and 2 wait")
        == f"{said}, and 2 wait, {alone}, {vain}"
    )


@pytest.mark.parametrize("kind", Kind)
def test_the_error_of_a_call_that_is_refused(kind: Kind) -> None:
    denial = Denial(Charge(kind, "n", "the limit", 1, 2), 90.0)
    error = refused_error(denial, 1000.0, "and 2 wait")
    assert type(error) is (BudgetExceededError if kind is Kind.MONEY else LimitExceededError)
    assert str(error) == reason_of(denial, "and 2 wait") + "; there is room again in 2 min"
    assert (error.retry_at, error.retry_after) == (1090.0, 90.0)
    never = refused_error(Denial(denial.charge, None), 1000.0)
    assert str(never) == reason_of(denial)
    assert (never.retry_at, never.retry_after) == (None, None)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.01, "0.1 s"),
        (3.2, "3.2 s"),
        (3.21, "3.3 s"),
        (59.9, "59.9 s"),
        (60, "1 min"),
        (61, "2 min"),
        (7140, "119 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (7201, "3 h"),
        (86_400, "24 h"),
    ],
)
def test_times_as_people_read_them(seconds: float, shown: str) -> None:
    assert shown_seconds(seconds) == shown
