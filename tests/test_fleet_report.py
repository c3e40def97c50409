"""What a client tells of its fleet: sums, open breakers, limits. The core alone, on a board in memory and a virtual clock."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import attrs
import pytest

from routerkit import (
    Budget,
    ConfigurationError,
    FleetReport,
    InvalidRequestError,
    Limits,
    SharedStore,
    StoreReport,
    StoreUnavailableError,
    Tenant,
)
from routerkit.core.fleet import PROBING, News, Taken
from routerkit.core.fleet_report import AT_A_TIME, fleet_report
from routerkit.core.limits import MINUTE
from routerkit.testing import replies as r
from routerkit.types.fleet import LimitState, OpenBreaker
from tests.support.board import BoardServer, MemoryBoard, Question, drive
from tests.support.core import HOST, KEY, A, B, C, World
from tests.support.virtual import VirtualRuntime

DAY = 86_400
FINE = StoreReport(False, 0, 0, 0, 0, 0, 0)
GLOBEX = KEY + "2"


@pytest.fixture
def server() -> BoardServer:
    return BoardServer(VirtualRuntime())


def process(server: BoardServer, **settings: Any) -> World:
    """One of the fleet, with a gateway of its own."""
    world = World(runtime=server.runtime, board=MemoryBoard(server), **settings)
    world.gateway.perform_ask = server.perform
    return world


def report(world: World, days: int = 1, tenant: str | None = None) -> FleetReport:
    router = world.root if tenant is None else world.tenant(tenant)
    made = world.gateway.run(fleet_report(router, days, lambda: FINE))[1]
    assert isinstance(made, FleetReport)
    return made


# --- sums ---


def test_one_process_sees_what_all_have_told(server: BoardServer) -> None:
    one, two = process(server), process(server, fallback_models=[B])
    two.script(A, r.error(503))
    assert one.ask().gives
    assert two.ask(fallback_models=[B]).gives
    assert report(one).stats.calls == 1, "it has told its own before"
    server.runtime.now += 12
    two.ask(model=C)
    told = report(one)
    assert {row.model: row.answers for row in told.usage.rows} == {A: 1, B: 1}
    assert (told.days, told.since, told.store) == (1, server.today * DAY, FINE)
    assert (told.left_out, told.unreadable) == (0, 0)
    told = report(two, 35)
    assert (told.stats.calls, told.stats.fell_back) == (3, 1)
    assert told.since == (server.today - 34) * DAY
    assert told.stats_by_tenant == {None: told.stats}
    assert json.loads(json.dumps(told.to_dict())) == told.to_dict()


def test_a_forked_child_tells_only_its_own(server: BoardServer) -> None:
    """What the parent has to tell, and a batch that it was telling when it forked, are the parent's."""
    parent, child = process(server), process(server)
    for world in (parent, child):
        world.ask()
        world.ask()
    accounts = child.root.shared_accounts
    assert accounts is not None
    accounts.flush().send(None)
    child.ask()
    child.root.forked()
    assert report(child).stats.calls == 0
    child.ask()
    assert report(child).stats.calls == 1
    assert report(parent).stats.calls == 3


def test_without_a_board_nothing_is_told_and_a_child_has_nothing_to_forget() -> None:
    world = World()
    world.ask()
    assert world.root.shared_accounts is None
    assert not world.root.accounts.untold
    world.root.forked()
    assert world.root.accounts.stats().calls == 0


def test_a_tenant_sees_its_own(server: BoardServer) -> None:
    tenants = [Tenant("acme", KEY, limits=Limits(requests_per_day=5)), Tenant("globex", GLOBEX)]
    options: dict[str, Any] = {"tenants": tenants, "api_key": None, "limits": {"client": Limits(60), "key": Limits(30)}}
    world = process(server, **options)
    for name, times in (("acme", 1), ("globex", 2)):
        world.router = world.tenant(name)
        for _ in range(times):
            assert world.ask().gives
    world.router = world.root
    drive(server, MemoryBoard(server).exchange([News(f"{A} on {HOST}", 5.0)]))
    whole, own = report(world), report(world, tenant="globex")
    assert (whole.stats.tenant, whole.stats.calls, list(whole.stats_by_tenant)) == (None, 3, ["acme", "globex"])
    assert {row.tenant for row in whole.usage.rows} == {"acme", "globex"}
    assert (own.stats.tenant, own.stats.calls, list(own.stats_by_tenant)) == ("globex", 2, ["globex"])
    assert {row.tenant for row in own.usage.rows} == {"globex"}
    assert own.stats == whole.stats_by_tenant["globex"]
    assert [state.owner for state in whole.limits] == [None, None, None, "acme"]
    assert len(own.limits) == 1
    assert own.breakers == whole.breakers
    assert [each["tenant"] for each in whole.to_dict()["stats_by_tenant"]] == ["acme", "globex"]


def test_what_is_missing_in_the_sums_is_told(server: BoardServer) -> None:
    world = process(server)
    world.ask()
    report(world)
    server.days[server.today].update({"o/": (7,), "nonsense": (1,)})
    server.unreadable = 2
    told = report(world)
    assert (told.stats.calls, told.left_out, told.unreadable) == (1, 7, 3)
    assert (told.to_dict()["left_out"], told.to_dict()["unreadable"]) == (7, 3)


# --- breakers ---


def test_open_breakers_by_name(server: BoardServer) -> None:
    """Of what this process has asked, what its settings name, what the fleet has used, what its catalogue lists; and of nothing."""
    tenants = [Tenant("acme", KEY, default_model="t/one", fallback_models=["t/two"]), Tenant("globex", GLOBEX)]
    world = process(server, tenants=tenants, api_key=None, default_model="d/one", fallback_models=["d/two"])
    other = process(server)
    other.ask(model="u/used")
    server.runtime.now += 12
    other.ask(model="u/used")
    world.catalog("l/listed")
    world.read_catalog()
    world.root.health.breaker(HOST, "s/seen")
    models = ["t/one", "t/two", "d/one", "d/two", "u/used", "l/listed", "s/seen"]
    scopes = [HOST, *(f"{model} on {HOST}" for model in models)]
    board = MemoryBoard(server)
    for scope in (*scopes, "x/unknown on elsewhere"):
        drive(server, board.exchange([News(scope, PROBING + 20.0)]))
        server.runtime.now += 1
    told = report(world).breakers
    assert [each.scope for each in told] == ["", *reversed(scopes)], "the last comes first"
    assert [each.age for each in told] == [float(number) for number in range(1, 10)]
    assert [each.left for each in told] == [20.0 - number for number in range(1, 10)]
    server.runtime.now += 15
    assert {each.left for each in report(world).breakers[5:]} == {0.0}, (
        "its time is over, and it stands until it is probed"
    )
    server.runtime.now += PROBING + 5
    assert report(world).breakers == ()


def test_without_open_breakers_no_names_are_made(server: BoardServer) -> None:
    world = process(server)
    world.ask()
    names = world.root.board.names  # type: ignore[union-attr]
    report(world)
    assert world.root.board.names == names  # type: ignore[union-attr]


# --- limits ---


def test_what_is_used_of_limits(server: BoardServer) -> None:
    limits = Limits(requests_per_minute=6, tokens_per_minute=1000, requests_per_day=50, concurrency=4)
    tenants = [Tenant("acme", KEY, limits=limits, budget=Budget("2.50"))]
    world = process(server, tenants=tenants, api_key=None, budget=Budget(9, per="total"), limits={"client": Limits(60)})
    today = server.today
    server.ahead = 5.0
    server.limits = {
        ("", "calls requests"): Taken(0, 0, 0),
        ("acme", "calls requests"): Taken(2 * MINUTE + 1, 7, 0),
        ("acme", "calls tokens"): Taken(500 * MINUTE, 0, 0),
        ("acme", "calls"): Taken(0, 0, 3),
        ("acme", "budget"): Taken(today, 1_250_000_000, 40),
        ("", "budget"): Taken(0, 20 * 10**9, 0),
    }
    now = server.runtime.wall() + 5.0
    states = {f"{each.owner} {each.label}": each for each in report(world).limits}
    assert [label.split(" of ")[0] for label in states] == [
        "None 60 requests a minute",
        "None the client's budget (9 USD in all)",
        "acme 6 requests a minute",
        "acme 50 requests a day",
        "acme 4 requests at a time",
        "acme 1000 tokens a minute",
        "acme the budget",
    ]
    client, purse, requests, per_day, slots, tokens, budget = states.values()
    assert (client.kind, client.cap, client.used, client.held, client.resets_at) == ("rate", 60, 0, 0, None)
    assert (requests.kind, requests.cap, requests.used, requests.left) == ("rate", 6, 3, 3)
    assert requests.resets_at == pytest.approx(now + 20, abs=1e-3)
    assert (tokens.used, tokens.held, tokens.left) == (500, 0, 500)
    assert tokens.resets_at == pytest.approx(now + 30, abs=1e-3)
    assert (slots.kind, slots.used, slots.held, slots.left, slots.resets_at) == ("slots", 0, 3, 1, None)
    assert (budget.kind, budget.cap, budget.used) == ("money", Decimal("2.5"), Decimal("1.25"))
    assert (budget.held, budget.left) == (Decimal("4E-8"), Decimal("1.24999996"))
    assert budget.resets_at == (today + 1) * DAY
    assert (purse.cap, purse.used, purse.left, purse.resets_at) == (Decimal(9), Decimal(20), Decimal(0), None)
    assert per_day.kind == "day"
    assert budget.to_dict() == {
        "owner": "acme",
        "label": "the budget of tenant acme (2.50 USD a day)",
        "kind": "money",
        "cap": "2.5",
        "used": "1.25",
        "held": "0.00000004",
        "resets_at": (today + 1) * DAY,
        "left": "1.24999996",
    }


def test_a_days_limit_comes_back_with_the_day(server: BoardServer) -> None:
    world = process(server, limits=Limits(requests_per_day=5))
    server.limits["", "calls requests"] = Taken(server.today, 4, 0)
    (state,) = report(world).limits
    assert state == LimitState(
        owner=None,
        label="5 requests a day of the client",
        kind="day",
        cap=5,
        used=4,
        held=0,
        resets_at=(server.today + 1) * DAY,
    )


def test_many_limits_are_looked_at_in_portions(server: BoardServer) -> None:
    tenants = [Tenant(f"t{number}", f"sk-{number}-1234567890") for number in range(AT_A_TIME + 1)]
    world = process(server, tenants=tenants, api_key=None, limits={"key": Limits(5)})
    world.root.accounts.take(1)
    assert len(report(world).limits) == AT_A_TIME + 1
    assert [what for what in server.asked if what.startswith("look")] == [f"look  {AT_A_TIME}", "look  1"]


# --- what cannot be told ---


@pytest.mark.parametrize("days", [0, -1, 36, 1.0, True, "1", None, 10**50])
def test_days_that_are_none(server: BoardServer, days: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        report(process(server), days)
    assert str(caught.value) == f"days={days!r}: must be a whole number from 1 to 35"


def test_who_shares_nothing_has_no_fleet(server: BoardServer) -> None:
    for world, why in (
        (World(), "this one counts for itself"),
        (process(server, dev_mode=True), "in dev mode nothing is shared"),
    ):
        with pytest.raises(ConfigurationError, match=rf"store='redis://…'\): {why}$"):
            report(world)
    with pytest.raises(ConfigurationError):
        drive(server, fleet_report(process(server).root, 1, None))


def test_whenever_the_store_is_lost_nobody_can_tell(server: BoardServer) -> None:
    """At every one of the questions that are asked."""
    world = process(server, limits=Limits(5))
    world.ask()
    report(world)
    for at, what in enumerate(server.asked[1:]):
        world.ask()
        step = fleet_report(world.root, 1, lambda: FINE)
        question = step.send(None)
        for _ in range(at):
            question = step.send(server.perform(question))
        assert isinstance(question, Question)
        assert question.what.split()[0] == what.split()[0]
        server.lost = True
        with pytest.raises(
            StoreUnavailableError,
            match=r"^the store cannot be asked now, which knows what the fleet saw: see that it runs",
        ):
            step.send(server.perform(question))
        server.lost = False
        assert report(world).stats.calls == world.root.accounts.stats().calls


def test_the_error_names_the_store_and_no_password(server: BoardServer) -> None:
    world = process(server)
    store = SharedStore("redis://:hidden-password@there:1234/0")
    world.root.settings = attrs.evolve(world.settings, store=store)
    server.lost = True
    world.ask()
    with pytest.raises(StoreUnavailableError) as caught:
        report(world)
    assert str(caught.value).startswith(
        "the store at redis://there:1234 cannot be asked now, which knows what the fleet saw"
    )
    assert caught.value.should_retry


def test_plain_values() -> None:
    breaker = OpenBreaker(scope="x", age=1.5, left=0.0)
    assert breaker.to_dict() == {"scope": "x", "age": 1.5, "left": 0.0}
