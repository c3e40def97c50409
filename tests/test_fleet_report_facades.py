"""What one client tells of its whole fleet, through both facades, over sockets, on a real Redis.

The rules themselves are tested in `tests/test_fleet_accounts.py`, `tests/test_fleet_report.py` and `tests/store/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from routerkit import (
    AsyncClient,
    Budget,
    Client,
    ConfigurationError,
    FleetReport,
    InvalidRequestError,
    Limits,
    SharedStore,
    StoreUnavailableError,
    Tenant,
)
from routerkit.core.fleet_accounts import TELL_SECONDS
from routerkit.store.redis_gate import OPEN
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.store import conftest as servers
from tests.store.servers import Server
from tests.support import stores
from tests.support.facades import FACADES, KEY, AsyncCaller, Caller
from tests.support.forks import forked
from tests.support.pair import answer_of, outcome_of
from tests.support.scenarios import A, B
from tests.support.stores import World
from tests.support.tenants import ACME, GLOBEX
from tests.test_fleet_facades import PAIRS

running, redis, own_redis, unhurried = servers.running, servers.server, servers.own_server, stores.unhurried
pytestmark = pytest.mark.usefixtures("unhurried")

COST = Decimal("0.0012")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.catalog = r.error(404)
        server.default = r.completion(
            usage={"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost": float(COST)}
        )
        yield server


@pytest.fixture(params=FACADES)
def world(request: pytest.FixtureRequest, server: FaultServer, redis: Server) -> World:
    return World(FACADES[request.param], server, redis)


@pytest.fixture(params=FACADES)
def own(request: pytest.FixtureRequest, server: FaultServer, own_redis: Server) -> World:
    """With a server of its own, to be ill-treated."""
    return World(FACADES[request.param], server, own_redis)


@pytest.fixture(params=PAIRS, ids="-".join)
def two(request: pytest.FixtureRequest, server: FaultServer, redis: Server) -> tuple[World, World]:
    """Two facades that know nothing of each other."""
    first, second = (World(FACADES[name], server, redis) for name in request.param)
    return first, second


def fleet(caller: Caller, days: int = 1) -> FleetReport:
    client = caller.client
    if isinstance(client, Client):
        return client.fleet(days)
    made: FleetReport = caller.run(client.fleet(days))  # type: ignore[union-attr]
    return made


def close(caller: Caller) -> None:
    if isinstance(caller, AsyncCaller):
        caller.run(caller.client.aclose())
    else:
        caller.client.close()


def advance(caller: Caller, seconds: float) -> None:
    caller.client._runtime.advance(seconds)  # type: ignore[attr-defined]


def test_one_sees_what_another_did(two: tuple[World, World]) -> None:
    with two[0].client(fallback_models=[B]) as first, two[1].client() as second:
        two[0].server.script(B, r.error(503))
        for number in range(3):
            answer_of(first, stream=bool(number % 2))
        answer_of(first, model=B)
        assert fleet(second).stats.calls == 0, "it was not told yet"
        close(first)
        report = fleet(second)
        assert {row.model: row.answers for row in report.usage.rows} == {A: 4}
        assert (report.usage.total.prompt_tokens, report.usage.total.cost) == (36, 4 * COST)
        assert (report.stats.calls, report.stats.answered, report.stats.streams) == (4, 4, 1)
        ours = first.client.stats()
        assert (report.stats.fell_back, report.stats.attempts) == (1, ours.attempts)
        assert report.stats.durations == ours.durations
        assert report.stats_by_tenant == {None: report.stats}
        assert second.client.stats().calls == 0, "its own are its own"
        answer_of(second)
        assert fleet(second).stats.calls == 5
        assert fleet(second, 35).stats.calls == 5
        assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def test_at_the_start_of_a_call_it_tells_what_went_before(two: tuple[World, World]) -> None:
    with two[0].client() as first, two[1].client() as second:
        answer_of(first)
        answer_of(first)
        advance(first, 2 * TELL_SECONDS)
        assert fleet(second).stats.calls == 0
        answer_of(first)
        assert fleet(second).stats.calls == 2
        answer_of(first)
        assert fleet(second).stats.calls == 2


def test_forked_processes_come_to_the_exact_sum(world: World) -> None:
    """From one that has something to tell itself; whoever closes has told all."""
    with world.client() as caller:
        for _ in range(3):
            answer_of(caller)

        def child(number: int) -> list[str]:
            for turn in range(4 + number):
                answer_of(caller, stream=bool(turn % 2))
            close(caller)
            return [str(caller.client.stats().calls)]

        assert forked(child, 4) == [["4"], ["5"], ["6"], ["7"]]
        report = fleet(caller)
        assert (report.stats.calls, report.stats.answered) == (25, 25)
        assert (report.usage.total.answers, report.usage.total.cost) == (25, 25 * COST)
        assert len(world.server.chat_requests) == 25


def test_a_breaker_that_opened_here_is_among_those_of_the_fleet(world: World) -> None:
    """Told at once: a call would tell it at its start."""
    world.server.script(A, r.error(500))
    with world.client(fallback_models=[B]) as caller:
        while "open" not in caller.client.health().breakers.values():
            answer_of(caller)
        assert [breaker.scope for breaker in fleet(caller).breakers] == [f"{A} on {world.gateway}"]


def test_a_tenants_client_tells_of_its_own(two: tuple[World, World]) -> None:
    tenants = [
        Tenant("acme", ACME, limits=Limits(requests_per_day=5, concurrency=2), budget=Budget("2.50")),
        Tenant("globex", GLOBEX),
    ]
    two[0].server.catalog = [r.catalog_model(A, pricing={"prompt": "0.000001", "completion": "0.000001"})]
    limits = {"client": Limits(requests_per_minute=60), "key": Limits(requests_per_day=9)}
    options: dict[str, Any] = {"api_key": None, "tenants": tenants, "limits": limits}
    with two[0].client(**options) as first, two[1].client(**options) as second:
        for name in ("acme", "acme", "globex"):
            answer_of(first.tenant(name))
        close(first)
        whole, acme, globex = fleet(second), fleet(second.tenant("acme")), fleet(second.tenant("globex"))
        assert [each.stats.calls for each in (whole, acme, globex)] == [3, 2, 1]
        assert list(whole.stats_by_tenant) == ["acme", "globex"]
        assert {row.tenant for row in acme.usage.rows} == {"acme"}
        used = {(state.owner, state.kind, state.cap): (state.used, state.held) for state in acme.limits}
        assert used == {
            ("acme", "day", 5): (2, 0),
            ("acme", "slots", 2): (0, 0),
            ("acme", "money", Decimal("2.5")): (2 * COST, 0),
            (None, "day", 9): (2, 0),
        }
        assert [(state.owner, state.used) for state in globex.limits] == [(None, 1)]
        assert [state.used for state in whole.limits if state.label.startswith("60 requests")] == [3]
        assert len(whole.limits) == 6


def test_breakers_that_another_opened(two: tuple[World, World]) -> None:
    server = two[0].server
    server.script(A, r.error(500))
    with two[0].client(fallback_models=[B]) as first, two[1].client() as second:
        for _ in range(6):
            answer_of(first)
        (breaker,) = fleet(second).breakers
        assert breaker.scope == f"{A} on {two[0].gateway}"
        assert 0 <= breaker.age < 5
        assert 0 < breaker.left <= 10
        (unknown,) = _of_others(two[1])
        assert unknown.scope == ""


def _of_others(world: World) -> Any:
    with world.client(base_url="http://127.0.0.1:1/v1", default_model=None) as caller:
        return fleet(caller).breakers


def test_while_the_store_is_lost_nobody_can_tell_and_no_call_waits(own: World) -> None:
    assert own.redis is not None
    with own.client() as caller:
        answer_of(caller)
        own.redis.kill()
        for _ in range(4):
            with pytest.raises(
                StoreUnavailableError, match=rf"^the store at redis://127.0.0.1:{own.redis.port} cannot be asked now"
            ):
                fleet(caller)
            advance(caller, 2 * TELL_SECONDS)
            answer_of(caller)
        own.redis.start()
        advance(caller, OPEN)
        assert fleet(caller).stats.calls == 5
        own.redis.kill()
        answer_of(caller)
        close(caller)


def test_who_shares_nothing_has_no_fleet(server: FaultServer, redis: Server) -> None:
    for kind in FACADES:
        world = World(FACADES[kind], server, None)
        with world.client() as caller, pytest.raises(ConfigurationError, match="this one counts for itself"):
            fleet(caller)
        with (
            World(FACADES[kind], server, redis).client(dev_mode=True) as caller,
            pytest.raises(ConfigurationError, match="in dev mode nothing is shared"),
        ):
            fleet(caller)
    assert redis.do("DBSIZE") == 0


def test_what_is_asked_wrongly(world: World) -> None:
    with world.client() as caller:
        for days in (0, 36, "7"):
            with pytest.raises(InvalidRequestError, match="from 1 to 35"):
                fleet(caller, days)  # type: ignore[arg-type]
        close(caller)
        with pytest.raises(ConfigurationError, match="this client is closed"):
            fleet(caller)


def test_namespaces_are_fleets_of_their_own(two: tuple[World, World]) -> None:
    redis = two[0].redis
    assert redis is not None
    with two[0].client() as first, two[1].client(store=SharedStore(redis.url, namespace="elsewhere")) as second:
        answer_of(first)
        close(first)
        assert fleet(second).stats.calls == 0


def test_what_nobody_of_ours_left_there_is_counted_and_left_out(world: World) -> None:
    assert world.redis is not None
    with world.client() as caller:
        answer_of(caller)
        assert fleet(caller).unreadable == 0
        with world.redis.client() as client:
            for key in client.keys("*:t:*"):
                client.hset(key, mapping={"u//g/\x1b[31m": "1", "c/x": "5", KEY: "1,2"})
            parts = len(client.keys("*:t:*"))
        report = fleet(caller)
        assert report.unreadable == 3 * parts
        assert report.stats.calls == 1
        assert isinstance(answer_of(caller).text, str)
        assert not isinstance(outcome_of(caller), Exception)


def test_the_names_are_both_clients() -> None:
    assert Client.fleet.__annotations__ == AsyncClient.fleet.__annotations__
