"""Catalogues that are broken, huge, hostile or suddenly different: what a client lists, what a call still does, who fetches."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from typing import Any

import attrs
import pytest

from routerkit import APIError, AsyncClient, CatalogRefreshed, Client, Event, Gateway, Timeouts
from routerkit.core.catalog import MAX_BYTES
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from routerkit.types.event import PriceJump
from tests.faults.catalogue import fault, row
from tests.support.facades import KEY, AsyncCaller, SyncCaller, check
from tests.support.forks import forked
from tests.support.scenarios import NO_CATALOG, QUICK, A, Ask, B, Scenario

Facade = type[SyncCaller | AsyncCaller]

HOUR = 4000.0
"""Seconds after which a catalogue is no longer fresh, however the dice fall."""
FREE = {"prompt": "0", "completion": "0"}
QUIET = Timeouts(first_byte=0.3, total=60)


def listing(*entries: Any) -> r.Reply:
    return r.json_body({"data": list(entries)})


def ids(caller: SyncCaller | AsyncCaller, **options: Any) -> list[str]:
    return [model.id for model in caller.models(**options)]


def refreshes(events: list[Event]) -> list[CatalogRefreshed]:
    return [event for event in events if isinstance(event, CatalogRefreshed)]


# --- what is no catalogue ---

BAD = [
    row(96, r.html(200), "not_an_api", name="html"),
    row(96, r.error(500), "server_error", name="500"),
    row(96, r.hang(), "first_byte_timeout", name="timeout"),
    row(96, listing(), "malformed", name="no data"),
    row(96, r.json_body({"data": {"a/one": {}}}), "malformed", name="data is a dict"),
]


@pytest.mark.parametrize(("reply", "code"), BAD)
def test_the_stale_one_serves_and_the_gateway_is_left_in_peace(
    facade: Facade, server: FaultServer, reply: r.Reply, code: str
) -> None:
    events: list[Event] = []
    with facade(base_url=server.url, timeout=QUIET, observers=[events.append]) as caller:
        advance = caller.client._runtime.advance  # type: ignore[attr-defined]
        good = ids(caller)
        advance(HOUR)
        server.catalog = reply
        assert ids(caller) == ids(caller) == good
        assert server.catalog_requests == 2
        assert caller.complete(model=A).route.models == (A,)
        advance(31)
        assert ids(caller) == good
        advance(31)
        assert ids(caller) == good
        assert server.catalog_requests == 3, "the second pause is no longer than the first"
        server.catalog = listing(r.catalog_model("new/one"), r.catalog_model("new/two"))
        advance(30)
        assert ids(caller) == ["new/one", "new/two"]
        assert [event.error for event in refreshes(events)] == [None, code, code, None]
        health = caller.client.health()
        assert (set(health.breakers.values()), health.cooldowns) == ({"closed"}, {})


@pytest.mark.parametrize(("reply", "code"), BAD)
def test_without_any_copy_only_who_wants_the_list_hears_of_it(
    facade: Facade, server: FaultServer, reply: r.Reply, code: str
) -> None:
    server.catalog = reply
    with facade(base_url=server.url, timeout=QUIET) as caller:
        assert caller.complete(model=A).text == f"Hello from {A}"
        assert server.catalog_requests == 0
        for _ in range(2):
            with pytest.raises(APIError) as caught:
                caller.models()
            assert caught.value.code == code
        assert server.catalog_requests == 1
        assert caller.complete(model=A).text == f"Hello from {A}"


@pytest.mark.parametrize(("reply", "code"), BAD)
def test_as_a_last_resort_it_is_left_out(reply: r.Reply, code: str) -> None:
    ask = Ask(
        [f"{A} 404 model_unavailable"],
        "ModelNotFoundError",
        fallback_models=(),
        skipped=NO_CATALOG,
        timeouts=QUICK,
    )
    stream = attrs.evolve(ask, stream=True, model=B, expect=[f"{B} 404 model_unavailable"])
    gone = r.error(404, metadata={"error_type": "no_endpoints"})
    check(Scenario("no catalogue", {A: [gone], B: [gone]}, [ask, stream], catalog=reply))


# --- entries ---

UNKNOWN = [
    row(97, {"pricing": None}, name="null"),
    row(97, {"pricing": {}}, name="no price"),
    row(97, {"pricing": "free"}, name="a word for all"),
    *(
        row(97, {"pricing": {"prompt": price, "completion": price}}, name=f"{price!r}")
        for price in (None, "", "free", "-1", "-0.5", -1, -0.5, "NaN", "Infinity", "1e400", "1e-400")
    ),
]


@pytest.mark.parametrize("fields", UNKNOWN)
def test_a_price_that_is_none_is_unknown(facade: Facade, server: FaultServer, fields: dict[str, Any]) -> None:
    server.catalog = listing(r.catalog_model(A), r.catalog_model(B, **fields))
    server.default = r.completion(without=["usage"], usage=None)
    server.script(B, r.completion(usage={"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}))
    with facade(base_url=server.url) as caller:
        entry = caller.models()[1]
        assert (entry.id, entry.pricing.prompt, entry.pricing.completion) == (B, None, None)
        assert not entry.pricing.free
        answer = caller.complete(model=B)
        assert (answer.cost, answer.cost_source) == (None, "unknown")
        server.script(A, r.error(404))
        with pytest.raises(APIError):
            caller.complete(model=A)
        assert server.models_asked.count(B) == 1, "a model of unknown price was asked as a last resort"


@fault(97)
def test_a_price_that_is_a_number_is_a_price(facade: Facade, server: FaultServer) -> None:
    server.catalog = listing(r.catalog_model(A, pricing={"prompt": 0.000001, "completion": 2}))
    with facade(base_url=server.url) as caller:
        (entry,) = caller.models()
        assert (entry.pricing.prompt, entry.pricing.completion) == (Decimal("0.000001"), Decimal(2))


@pytest.mark.parametrize(
    "size", [row(97, size, name=f"context {size!r}") for size in (None, "", "8192", -1, 0, 1.5, {}, [])]
)
def test_a_context_that_is_none_is_unknown(facade: Facade, server: FaultServer, size: Any) -> None:
    """As a last resort it still serves: nobody knows that it could not."""
    other = {"context_length": size, "top_provider": None}
    server.catalog = listing(r.catalog_model(A), r.catalog_model(B, pricing=FREE, **other))
    server.script(A, r.error(404))
    with facade(base_url=server.url) as caller:
        assert [model.context_length for model in caller.models()] == [32768, None]
        assert caller.complete(model=A).model == B


@fault(97, 99)
def test_what_cannot_be_used_is_dropped_and_counted(facade: Facade, server: FaultServer) -> None:
    """Without an id, or with one that was there before: the first wins."""
    events: list[Event] = []
    nameless = {name: value for name, value in r.catalog_model(A).items() if name != "id"}
    server.catalog = listing(
        nameless,
        r.catalog_model(A, pricing={"prompt": "0.001", "completion": "0.002"}),
        r.catalog_model(A, pricing=FREE),
        "not an entry",
    )
    server.script(A, r.completion(usage={"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}))
    with facade(base_url=server.url, observers=[events.append]) as caller:
        assert ids(caller) == [A]
        answer = caller.complete(model=A)
        assert (answer.cost, answer.cost_source) == (Decimal("0.030"), "catalog")
    (event,) = refreshes(events)
    assert (event.models, event.dropped) == (1, 3)


@pytest.mark.parametrize(
    "model",
    [
        row(100, "a/one\r\nX-Evil: 1", name="CR LF"),
        row(100, "a/\x00one", name="NUL"),
        row(100, "x" * 10_240, name="10 KB"),
        row(100, "\N{CYRILLIC SMALL LETTER A}/one", name="homoglyph"),
        row(100, "a/o\N{ZERO WIDTH SPACE}ne", name="zero width"),
        row(100, "a/\N{RIGHT-TO-LEFT OVERRIDE}eno", name="right to left"),
        row(100, "../../etc/passwd", name="climbing"),
        row(100, "a/../../one", name="climbing within"),
        row(100, "a/one/..", name="climbing at the end"),
        row(100, "..\\one", name="climbing backwards"),
        row(100, "a one", name="space"),
    ],
)
def test_an_id_that_is_none_is_never_listed_nor_asked(facade: Facade, server: FaultServer, model: str) -> None:
    """Though it is free and large, and so would be the first to be asked as a last resort."""
    tempting = r.catalog_model(model, pricing=FREE, context_length=10**9)
    server.catalog = listing(tempting, r.catalog_model(A), r.catalog_model("c/..three...", pricing=FREE))
    server.script(A, r.error(404))
    with facade(base_url=server.url) as caller:
        assert ids(caller) == [A, "c/..three..."]
        assert caller.complete(model=A).model == "c/..three..."
    assert server.models_asked == [A, "c/..three..."]


# --- two lists ---


@pytest.fixture
def far() -> Iterator[FaultServer]:
    """Another host, with the public list of a gateway."""
    with FaultServer() as far:
        entry = {"invoke_name": A, "retail_input_cost": "$1", "retail_output_cost": "$2", "discount": None}
        far.route("GET", "/display_models/", listing(entry, {**entry, "invoke_name": B, "discount": "FREE"}))
        yield far


def two_lists(server: FaultServer, far: FaultServer, **more: Any) -> Gateway:
    details = f"{far.url}/display_models/"
    return Gateway(name="two", base_url=server.url, details_url=details, key_required=True, **more)


def test_the_key_is_shown_to_its_own_host_alone(facade: Facade, server: FaultServer, far: FaultServer) -> None:
    server.catalog = listing({"id": "c/three"}, {"id": A})
    with facade(gateway=two_lists(server, far)) as caller:
        assert ids(caller) == ["c/three", A, B]
        assert caller.models()[1].pricing.prompt == Decimal("0.000001")
        assert caller.models()[2].pricing.free
        assert {model.gateway for model in caller.models()} == {"two"}
    (near,), (other,) = server.requests, far.requests
    assert near.header("Authorization") == f"Bearer {KEY}"
    assert (other.path, other.header("Authorization")) == ("/v1/display_models/", None)
    assert KEY not in repr(other.headers)


@pytest.mark.parametrize(("reply", "code"), BAD)
def test_one_list_that_fails_leaves_the_other(
    facade: Facade, server: FaultServer, far: FaultServer, reply: r.Reply, code: str
) -> None:
    events: list[Event] = []
    server.catalog = listing({"id": "c/three"})
    with facade(gateway=two_lists(server, far), timeout=QUIET, observers=[events.append]) as caller:
        advance = caller.client._runtime.advance  # type: ignore[attr-defined]
        assert ids(caller) == ["c/three", A, B]
        far.route("GET", "/display_models/", reply)
        advance(HOUR)
        assert caller.models()[1].pricing.prompt == Decimal("0.000001")
        server.catalog = reply
        advance(301)
        assert ids(caller) == ["c/three", A, B]
    assert [(event.partial, event.error) for event in refreshes(events)] == [(None, None), (code, None), (None, code)]


# --- size ---


@fault(98)
def test_a_hundred_thousand_models(facade: Facade, server: FaultServer) -> None:
    server.catalog = listing(*({"id": f"many/model-{number}"} for number in range(100_000)))
    with facade(base_url=server.url) as caller:
        listed = ids(caller)
        assert (len(listed), listed[0], listed[-1]) == (100_000, "many/model-0", "many/model-99999")
        assert ids(caller) == listed
        assert caller.complete(model="many/model-5").model == "many/model-5"
    assert server.catalog_requests == 1


class Flood:
    """A body of 500 MB, in chunks of 1 MB, that counts what it could get rid of."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, connection: Connection, _: RecordedRequest) -> None:
        connection.send(connection.head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}))
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        for _number in range(500):
            connection.send(chunk)
            self.sent += 0x100000


def announced(connection: Connection, _: RecordedRequest) -> None:
    connection.send(connection.head(200, {"Content-Type": "application/json", "Content-Length": "500000000"}))
    connection.wait()


@cache
def packed() -> bytes:
    return gzip.compress(b" " * (2 * MAX_BYTES), 1)


def bomb(connection: Connection, _: RecordedRequest) -> None:
    connection.respond(200, packed(), {"Content-Type": "application/json", "Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    "body",
    [row(98, Flood, name="500 MB"), row(98, lambda: announced, name="announced"), row(98, lambda: bomb, name="bomb")],
)
def test_a_body_without_end_is_capped_and_the_stale_one_serves(
    facade: Facade, server: FaultServer, body: Callable[[], r.Reply]
) -> None:
    events: list[Event] = []
    with facade(base_url=server.url, observers=[events.append]) as caller:
        good = ids(caller)
        flood = server.catalog = body()
        assert ids(caller, refresh=True) == good
        assert [event.error for event in refreshes(events)] == [None, "response_too_large"]
        if isinstance(flood, Flood):
            assert MAX_BYTES - 0x100000 <= flood.sent <= 2 * MAX_BYTES
            caller.until(server, lambda: server.open_connections == 0)


# --- over time ---


@fault(101)
def test_a_list_that_shrinks_is_held_back_until_seen_twice(facade: Facade, server: FaultServer) -> None:
    entries = [r.catalog_model(f"many/model-{number}") for number in range(400)]
    server.catalog = listing(*entries)
    with facade(base_url=server.url) as caller:
        assert len(ids(caller)) == 400
        server.catalog = listing(*entries[:3])
        caller.client._runtime.advance(HOUR)  # type: ignore[attr-defined]
        assert len(ids(caller)) == 400
        assert caller.complete(model="many/model-399").text
        caller.client._runtime.advance(31)  # type: ignore[attr-defined]
        assert len(ids(caller)) == 3


@fault(104)
def test_a_price_that_jumps_holds_at_once_and_is_told(facade: Facade, server: FaultServer) -> None:
    events: list[Event] = []
    server.default = r.completion(usage={"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20})
    server.catalog = listing(
        r.catalog_model(A, pricing={"prompt": "0.000001", "completion": "0.000002"}),
        r.catalog_model(B, pricing={"prompt": "0", "completion": "0"}),
        r.catalog_model("c/three", pricing={"prompt": "0.001", "completion": "-1"}),
    )
    with facade(base_url=server.url, observers=[events.append]) as caller:
        caller.models()
        assert caller.complete(model=A).cost == Decimal("0.00003")
        caller.client._runtime.advance(HOUR)  # type: ignore[attr-defined]
        server.catalog = listing(
            r.catalog_model(A, pricing={"prompt": "0.0001", "completion": "0.000004"}),
            r.catalog_model(B, pricing={"prompt": "0", "completion": "0.000001"}),
            r.catalog_model("c/three", pricing={"prompt": "0.0001", "completion": "1"}),
            r.catalog_model("d/new", pricing={"prompt": "1", "completion": "1"}),
        )
        caller.models()
        assert caller.complete(model=A).cost == Decimal("0.00104")
    assert [event.jumps for event in refreshes(events)] == [
        (),
        (
            PriceJump(A, "prompt", Decimal("0.000001"), Decimal("0.0001")),
            PriceJump(B, "completion", Decimal(0), Decimal("0.000001")),
        ),
    ]


# --- who fetches ---

PROCESSES, CALLERS = 8, 125


@fault(102)
def test_a_thousand_first_callers_in_eight_processes_make_eight_requests(facade: Facade, server: FaultServer) -> None:
    gate = r.gate(listing(r.catalog_model(A)))
    server.catalog = gate
    threading.Thread(target=_release_when, args=(server, gate, PROCESSES), daemon=True).start()
    with facade(base_url=server.url) as caller:
        found = forked(lambda _: at_the_same_time(caller.client), PROCESSES)
    assert found == [[A] * CALLERS] * PROCESSES
    assert server.catalog_requests == PROCESSES


def _release_when(server: FaultServer, gate: r.Gate, fetching: int) -> None:
    try:
        server.wait_for(lambda: server.catalog_requests >= fetching, 30)
    finally:
        gate.release()


def at_the_same_time(client: Client | AsyncClient) -> list[str]:
    """What as many callers get that begin together."""
    if isinstance(client, AsyncClient):
        return tasks_at_the_same_time(client)
    barrier = threading.Barrier(CALLERS)
    found: list[str] = []

    def ask() -> None:
        barrier.wait(30)
        found.extend(model.id for model in client.models())

    threads = [threading.Thread(target=ask) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def tasks_at_the_same_time(client: AsyncClient) -> list[str]:
    async def main() -> list[str]:
        return [models[0].id for models in await asyncio.gather(*(client.models() for _ in range(CALLERS)))]

    return asyncio.run(main())


class FirstOnly:
    """Interrupts whoever asks first, once the others wait, and answers everybody else."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self.arrived = threading.Event()
        self.go = r.Signal()
        self._interrupt = interrupt
        self._first = True

    def __call__(self, connection: Connection, request: RecordedRequest) -> None:
        if not self._first:
            listing(r.catalog_model(A))(connection, request)
            return
        self._first = False
        self.arrived.set()
        connection.wait(self.go)
        self._interrupt()
        connection.wait()


@fault(103)
def test_threads_go_on_when_the_one_that_fetches_is_interrupted(server: FaultServer) -> None:
    main = threading.main_thread().ident
    assert main is not None
    server.catalog = reply = FirstOnly(lambda: signal.pthread_kill(main, signal.SIGINT))
    found: list[str] = []
    with SyncCaller(base_url=server.url) as caller:

        def follow() -> None:
            reply.arrived.wait(5)
            found.extend(ids(caller))

        followers = [threading.Thread(target=follow) for _ in range(5)]
        for follower in followers:
            follower.start()
        threading.Timer(0.1, reply.go.set).start()
        with pytest.raises(KeyboardInterrupt):
            caller.models()
        for follower in followers:
            follower.join(5)
        assert found == [A] * 5
        assert server.catalog_requests == 2


@fault(103)
def test_tasks_go_on_when_the_one_that_fetches_is_cancelled(server: FaultServer) -> None:
    async def ask(client: AsyncClient) -> list[str]:
        leader = asyncio.create_task(client.models())
        await asyncio.to_thread(reply.arrived.wait, 5)
        followers = [asyncio.create_task(client.models()) for _ in range(5)]
        await asyncio.sleep(0.02)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        return [models[0].id for models in await asyncio.gather(*followers)]

    server.catalog = reply = FirstOnly(lambda: None)
    with AsyncCaller(base_url=server.url) as caller:
        assert caller.run(ask(caller.client)) == [A] * 5
        assert server.catalog_requests == 2


@fault(103)
def test_processes_go_on_when_the_one_that_fetches_is_killed(facade: Facade, server: FaultServer) -> None:
    killed: list[int] = []
    server.catalog = reply = FirstOnly(lambda: os.kill(killed[0], signal.SIGKILL))
    with facade(base_url=server.url) as caller:
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(20)
                at_the_same_time(caller.client)
            finally:
                os._exit(0)
        killed.append(pid)
        server.wait_for(lambda: server.catalog_requests == 1)
        reply.go.set()
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        assert ids(caller) == [A]
    assert server.catalog_requests == 2
