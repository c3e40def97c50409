"""Several clients and processes on one real Redis, through both facades: they share limits, hints, the catalogue and scores.

The rules themselves are tested in `tests/test_fleet.py`, `tests/test_shared*.py` and `tests/store/`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest

from routerkit import (
    AsyncClient,
    Budget,
    BudgetExceededError,
    Client,
    ConfigurationError,
    LimitExceededError,
    Limits,
    RetryPolicy,
    SharedStore,
    Tenant,
)
from routerkit.store.redis_gate import OPEN
from routerkit.testing import Connection, FaultServer, RecordedRequest, VirtualRuntime
from routerkit.testing import replies as r
from routerkit.transport.runtime import SystemRuntime
from routerkit.types.event import StoreChanged
from tests.security.canaries import listening, rendered, said_by, shown_by
from tests.store import conftest as servers
from tests.store.boards import earlier
from tests.store.servers import Server
from tests.support import stores
from tests.support.facades import FACADES, KEY, AsyncCaller, Caller
from tests.support.forks import forked
from tests.support.pair import answer_of, outcome_of, pair_of_gateways, skipped, tried
from tests.support.scenarios import A, B
from tests.support.stores import Turnstile, World, eventually, waiting
from tests.support.tenants import ACME
from tests.test_strategies_facades import choosing, slow

running, redis, own_redis, unhurried = servers.running, servers.server, servers.own_server, stores.unhurried
pytestmark = pytest.mark.usefixtures("unhurried")

PAIRS = [("sync", "async"), ("async", "sync"), ("sync", "sync"), ("async", "async")]
ONCE = RetryPolicy(max_same_target=1)
PASSWORD = "-".join(("wrong", "pass" * 2, "word"))
"""Put together, because tracebacks quote the source too."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.catalog = r.error(404)
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


def outcomes(client: Client | AsyncClient, questions: list[str], at_once: int = 5, **options: Any) -> list[str]:
    """Of calls that are made side by side: the answers, or the classes of errors."""
    if isinstance(client, Client):

        def one(question: str) -> str:
            try:
                return client.complete(question, **options).text
            except (LimitExceededError, BudgetExceededError) as error:
                return type(error).__name__

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(one, questions))

    async def all_of_them() -> list[str]:
        turn = asyncio.Semaphore(at_once)

        async def each(question: str) -> str:
            async with turn:
                try:
                    return (await client.complete(question, **options)).text
                except (LimitExceededError, BudgetExceededError) as error:
                    return type(error).__name__

        return list(await asyncio.gather(*map(each, questions)))

    return asyncio.run(all_of_them())


# --- counts ---


def test_processes_share_a_daily_cap_exactly(world: World) -> None:
    """Forked from one that has asked already, and asking while the parent asks too."""
    with world.client(limits=Limits(requests_per_day=50)) as caller:
        answer_of(caller)

        def child(number: int) -> list[str]:
            told = outcomes(caller.client, [f"child {number}, {turn}" for turn in range(20)])
            return [*told, str(caller.client.stats().degraded)]

        found = forked(child, 4)
        said = [each for told in found for each in told]
        assert (said.count(f"Hello from {A}"), said.count("LimitExceededError"), said.count("0")) == (49, 31, 4)
        assert isinstance(outcome_of(caller), LimitExceededError)
    assert len(world.server.requests) == 50


def test_clients_share_limits_of_every_kind(two: tuple[World, World]) -> None:
    limits = {
        "client": Limits(requests_per_minute=3),
        "key": Limits(requests_per_day=2),
        f"model:{A}": Limits(requests_per_minute=1),
    }
    with two[0].client(limits=limits) as first, two[1].client(limits=limits) as second:
        answer_of(first)
        assert f"1 request a minute of {A}" in str(outcome_of(second))
        answer_of(second, model=B)
        assert "2 requests a day of the key" in str(outcome_of(first, model=B))
        assert "2 requests a day of the key" in str(outcome_of(second, model=B, stream=True))
    assert len(two[0].server.chat_requests) == 2


def test_tenants_and_namespaces_keep_apart(two: tuple[World, World]) -> None:
    redis = two[0].redis
    assert redis is not None
    tenants = {"api_key": None, "tenants": [Tenant("acme", ACME, limits=Limits(requests_per_day=1))]}
    other = SharedStore(redis.url, namespace="elsewhere")
    with (
        two[0].client(**tenants) as first,
        two[1].client(**tenants) as second,
        two[1].client(store=other, **tenants) as third,
    ):
        answer_of(first.tenant("acme"))
        assert isinstance(outcome_of(second.tenant("acme")), LimitExceededError)
        answer_of(third.tenant("acme"))
    assert not [key for key in redis.do("KEYS", "*") if "acme" in key or "elsewhere" in key]


def test_clients_share_slots_and_wait_for_each_others(two: tuple[World, World]) -> None:
    turnstile = two[0].server.default = Turnstile()
    limits = Limits(concurrency=2, queue_size=5)
    with two[0].client(limits=limits) as first, two[1].client(limits=limits) as second:
        ends = [first.begin("first"), second.begin("second")]
        eventually([first, second], lambda: len(turnstile.inside) == 2)
        ends += [first.begin("third"), second.begin("fourth")]
        eventually([first, second], lambda: waiting(first) + waiting(second) == 2)
        gone: set[str] = set()
        while len(gone) < 4:
            eventually([first, second], lambda: bool(set(turnstile.inside) - gone))
            for question in set(turnstile.inside) - gone:
                gone.add(question)
                turnstile.let_go(question)
        eventually([first, second], lambda: waiting(first) + waiting(second) == 0)
        assert [end().text for end in ends] == [f"Hello from {A}"] * 4
    assert turnstile.most == 2


def test_clients_share_a_budget(world: World) -> None:
    """Each call may cost up to half a dollar, and costs a fifth."""
    world.server.catalog = [r.catalog_model(A, pricing={"prompt": "0.001", "completion": "0.001"}, context_length=1000)]
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost": 0.2}
    world.server.default = r.completion(usage=usage)
    with world.client(budget=Budget("4.00")) as caller:

        def child(number: int) -> list[str]:
            told: list[str] = []
            while "BudgetExceededError" not in told[-1:]:
                told += outcomes(caller.client, [f"child {number}, {len(told)}"], 1, max_tokens=100)
            return told

        found = forked(child, 4)
        answered = sum(told.count(f"Hello from {A}") for told in found)
        assert len(world.server.chat_requests) == answered
        assert Decimal("0.2") * answered <= 4
        assert answered >= 10


# --- hints ---

HEARD = "its breaker is open: another process saw it fail"


def opened(caller: Caller) -> None:
    """Five failures open the breaker; the next call has it told."""
    for _ in range(5):
        assert tried(answer_of(caller))[0].endswith("server_error")
    assert str(caller.client.health().breakers[f"{A} on {next(iter(caller.client.router.access))}"]) == "open"
    answer_of(caller)


def test_who_hears_of_an_open_breaker_does_not_ask(two: tuple[World, World]) -> None:
    server = two[0].server
    server.script(A, r.error(500))
    options = {"fallback_models": [B], "retry": ONCE}
    with two[0].client(**options) as first, two[1].client(**options) as second, two[1].client(**options) as third:
        assert tried(answer_of(second))[0].endswith("server_error"), "it is not told yet"
        opened(first)
        assert server.models_asked.count(A) == 6
        answer = answer_of(third)
        assert (answer.model, skipped(answer)) == (B, {f"{A} on {two[0].gateway}": HEARD})
        second.client._runtime.advance(1.0)  # type: ignore[attr-defined]  # so often it asks for news
        for stream in (False, True):
            assert tried(answer_of(second, stream=stream)) == [f"{B} on {two[0].gateway} ok"]
        assert second.client.health().breakers[f"{A} on {two[0].gateway}"] == "open"
    assert server.models_asked.count(A) == 6


def test_one_probes_for_the_fleet(two: tuple[World, World]) -> None:
    server, redis = two[0].server, two[0].redis
    assert redis is not None
    server.script(A, r.error(500))
    options = {"fallback_models": [B], "retry": ONCE}
    with two[0].client(**options) as first, two[1].client(**options) as second:
        opened(first)
        assert tried(answer_of(second)) == [f"{B} on {two[0].gateway} ok"]
        turnstile = Turnstile()
        server.script(A, turnstile)

        def later(seconds: float) -> None:
            for each in (first, second):
                each.client._runtime.advance(seconds)  # type: ignore[attr-defined]
            earlier(redis, seconds)

        later(10.0)  # its time is over
        asked = server.models_asked.count(A)
        probe = first.begin("probe")
        eventually([first, second], lambda: turnstile.inside == ["probe"])
        for stream in (False, True):
            answer = answer_of(second, stream=stream)
            assert (answer.model, skipped(answer)) == (B, {f"{A} on {two[0].gateway}": "another process probes it"})
            later(1.5)
        turnstile.let_go("probe")
        eventually([first, second], lambda: not turnstile.inside)
        assert probe().model == A
        assert server.models_asked.count(A) == asked + 1
        server.script(A, r.completion())
        later(1.5)
        answer_of(first)
        later(1.5)
        assert {answer_of(each).model for each in (first, second)} == {A}
        assert {each.client.health().breakers[f"{A} on {two[0].gateway}"] for each in (first, second)} == {"closed"}


# --- the catalogue, scores ---


@pytest.mark.parametrize("facade", FACADES)
def test_eight_processes_fetch_the_catalogue_once(facade: str, server: FaultServer, redis: Server) -> None:
    """Fault 102: cold, and each of them with a dozen callers at once."""

    def slowly(connection: Connection, request: RecordedRequest) -> None:
        connection.wait(0.3)
        r.json_body({"data": r.CATALOG})(connection, request)

    server.catalog = slowly
    world = World(FACADES[facade], server, redis)

    def child(number: int) -> list[str]:
        with world.client(runtime=SystemRuntime()) as caller:  # those who wait for another's fetch do wait
            client = caller.client
            if isinstance(client, Client):
                with ThreadPoolExecutor(12) as pool:
                    lists = list(pool.map(lambda _: client.models(), range(12)))
            else:
                lists = caller.run(_many_lists(client, 12))  # type: ignore[union-attr]
            assert len(lists) == 12
            (ids,) = {tuple(model.id for model in models) for models in lists}
            return list(ids)

    assert forked(child, 8) == [[each["id"] for each in r.CATALOG]] * 8
    assert server.catalog_requests == 1


async def _many_lists(client: AsyncClient, many: int) -> list[Any]:
    return list(await asyncio.gather(*(client.models() for _ in range(many))))


def test_what_one_learnt_of_speed_the_others_know(two: tuple[World, World]) -> None:
    runtime = VirtualRuntime(seed=1)
    redis = two[0].redis
    assert redis is not None
    with pair_of_gateways() as pair, ExitStack() as stack:
        pair.first.default, pair.second.default = slow(runtime, 6), slow(runtime, 1)
        given = choosing(pair, "performance_optimized", fallback_models=[A], store=redis.url)
        clients = [stack.enter_context(each.facade(**given, runtime=runtime)) for each in two]
        first, second = clients
        for _ in range(20):
            answer_of(first)
        asked = pair.asked
        runtime.advance(12)
        answer_of(first)
        runtime.advance(12)
        answer = answer_of(second)
        assert answer.gateway == "second"
        reasons = {each.gateway: each.reason for each in second.explain().targets if each.model == A}
        assert all("answers in about" in reason for reason in reasons.values()), reasons
        assert sum(pair.asked) == sum(asked) + 2


# --- at the start, and in the end ---

CLIENTS: dict[str, type[Client | AsyncClient]] = {"sync": Client, "async": AsyncClient}


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("scheme", ["redis://:{}@127.0.0.1:{}", "redis://app:{}@127.0.0.1:{}/0"])
def test_a_wrong_password_is_told_at_once_and_shown_nowhere(own_redis: Server, kind: str, scheme: str) -> None:
    own_redis.do("CONFIG", "SET", "requirepass", "another")
    with listening() as listener, pytest.raises(ConfigurationError, match="refuses us") as caught:
        CLIENTS[kind](api_key=KEY, base_url="http://127.0.0.1:1/v1", store=scheme.format(PASSWORD, own_redis.port))
    said = [*said_by(caught.value), *shown_by(caught.value), *listener.lines]
    assert [where for where, text in said if PASSWORD in text] == []
    assert f"127.0.0.1:{own_redis.port}" in str(caught.value)


def test_the_right_password_is_shown_nowhere(own: World) -> None:
    assert own.redis is not None
    own.redis.do("CONFIG", "SET", "requirepass", PASSWORD)
    url = f"redis://:{PASSWORD}@127.0.0.1:{own.redis.port}/0"
    with listening() as listener, own.client(store=url, limits=Limits(requests_per_day=1)) as caller:
        told = [
            answer_of(caller),
            outcome_of(caller),
            caller.client,
            caller.client.settings,
            caller.client.router.store,
        ]
        assert not any(PASSWORD in text for each in told for _, text in rendered(each, ""))
        assert not any(PASSWORD in text for _, text in listener.lines)
        assert told[0].route.degraded == ()  # type: ignore[union-attr]


def test_without_redis_it_starts_degraded_and_says_so(own: World, caplog: pytest.LogCaptureFixture) -> None:
    assert own.redis is not None
    own.redis.kill()
    told: list[Any] = []
    with own.client(limits=Limits(requests_per_day=3), observers=[told.append]) as caller:
        (record,) = caplog.records
        assert record.getMessage().startswith(f"Redis at redis://127.0.0.1:{own.redis.port}/0 is lost (connection")
        assert caller.client.health().store_lost
        for number in range(3):
            assert answer_of(caller, stream=bool(number % 2)).route.degraded == ("the call",)
        error = outcome_of(caller)
        assert isinstance(error, LimitExceededError)
        assert error.route is not None
        assert error.route.degraded == ("the call",)
        assert str(error).startswith(
            "3 requests a day of the client: used up, decided without the store, which is lost"
        )
        assert caller.client.stats().degraded == 4
    assert [str(each.state) for each in told if isinstance(each, StoreChanged)] == ["lost"]
    assert len(own.server.chat_requests) == 3


@pytest.mark.parametrize("meanwhile", [5, 6])
def test_when_redis_comes_it_is_told_once_what_was_used_without_it(own: World, meanwhile: int) -> None:
    """Before anything else is asked of it: others have used the rest."""
    assert own.redis is not None
    own.redis.kill()
    told: list[Any] = []
    limits = Limits(requests_per_day=10)
    with own.client(limits=limits, observers=[told.append]) as caller:
        for _ in range(3):
            answer_of(caller)
        own.redis.start()
        assert answer_of(caller).route.degraded == ("the call",), "it is not asked all the time"
        caller.client._runtime.advance(OPEN)  # type: ignore[attr-defined]
        with own.client(limits=limits) as other:
            for _ in range(meanwhile):
                assert answer_of(other).route.degraded == ()
            for _ in range(6 - meanwhile):
                assert answer_of(caller).route.degraded == ()
            for each in (caller, other):
                error = outcome_of(each)
                assert isinstance(error, LimitExceededError)
                assert error.route is not None
                assert error.route.degraded == ()
        assert (caller.client.health().store_lost, caller.client.stats().degraded) == (False, 4)
    assert len(own.server.chat_requests) == 10
    assert [str(each.state) for each in told if isinstance(each, StoreChanged)] == ["lost", "back"]


def test_redis_lost_in_the_midst_of_it_is_nobodys_error(own: World) -> None:
    """I22: what is refused is refused by the limit, whoever counts."""
    assert own.redis is not None
    with own.client(
        limits={"client": Limits(requests_per_day=20, concurrency=4, queue_size=50), "key": Limits(10_000)}
    ) as caller:
        ends = [caller.begin(f"question {number}") for number in range(10)]
        eventually(caller, lambda: len(own.server.chat_requests) >= 2)
        own.redis.kill()
        assert [end().text for end in ends] == [f"Hello from {A}"] * 10
        for _ in range(5):
            answer_of(caller)
        assert caller.client.health().store_lost
        own.redis.start()
        caller.client._runtime.advance(OPEN)  # type: ignore[attr-defined]
        answer_of(caller)
        assert not caller.client.health().store_lost


def test_a_client_that_is_closed_leaves_no_connection(own: World) -> None:
    redis = own.redis
    assert redis is not None

    def others() -> int:
        return len(redis.do("CLIENT", "LIST").splitlines()) - 1

    with own.client(limits=Limits(concurrency=3, queue_size=20)) as caller:
        assert others() == 0, "what was asked at the start"
        for end in [caller.begin() for _ in range(10)]:
            end()
        assert others() > 0
        if isinstance(caller, AsyncCaller):
            caller.run(caller.client.aclose())
        else:
            caller.client.close()
        eventually(caller, lambda: others() == 0)
