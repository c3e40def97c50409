"""Faults 1 to 5, 7 to 13, 17 and 18: names, TCP, and a machine that has nothing left."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from routerkit import APIConnectionError, RetryPolicy, Timeouts
from routerkit.testing import Connection, FaultServer, closed_port, silent_port
from routerkit.testing import replies as r
from routerkit.testing.ports import HOST
from tests.faults.catalogue import fault, row
from tests.faults.outcomes import FAST, After, left
from tests.faults.ways import (
    LOST,
    OURS,
    SOON,
    UNREACHABLE,
    Place,
    Way,
    check_way,
    moves_on,
    refused,
    serving,
    to,
    unreachable,
)
from tests.support.facades import FACADES, AsyncCaller, SyncCaller, check
from tests.support.network import Dialled, Names, no_file_descriptors
from tests.support.scenarios import A, Ask, B, Scenario

Facade = type[SyncCaller | AsyncCaller]

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
GATEWAY = After(["gateway"])
"""Its breaker learnt of it; those of models did not."""
MODEL = After([A])
NOBODY = After()


def localhost(port: int) -> str:
    """A URL with a name in it."""
    return f"http://localhost:{port}/v1"


def no_name() -> socket.gaierror:
    return socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def try_again() -> socket.gaierror:
    return socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


# --- 1 to 5: names ---


@STREAM
@pytest.mark.parametrize(
    "failure",
    [
        row(1, no_name()),
        row(2, try_again()),
        row(2, socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), name="SERVFAIL (EAI_FAIL)"),
    ],
)
def test_a_name_without_address(names: Names, failure: OSError, stream: bool) -> None:
    names["localhost"] = failure
    check_way(to(base_url=localhost(9)), unreachable(stream=stream), says=UNREACHABLE, after=GATEWAY)
    assert names.asked == ["localhost"] * 4, "once more at once, in each facade"


@fault(1, 2)
@STREAM
def test_a_name_that_is_found_the_second_time(facade: Facade, server: FaultServer, names: Names, stream: bool) -> None:
    names.script("localhost", try_again(), [(HOST, server.port)])
    with facade(base_url=localhost(server.port), breaker=FAST) as caller:
        assert caller.ask(Ask([], "", stream=stream)).attempts == (f"{A} 200 ok",)
        assert left(caller) == NOBODY
    assert server.models_asked == [A]


def hanging(names: Names) -> Way:
    @contextmanager
    def way() -> Iterator[Place]:
        names["localhost"] = answered = threading.Event()
        yield Place({"base_url": localhost(9)}, asked=answered.set)

    return way


@fault(3)
@STREAM
def test_a_resolver_that_hangs(names: Names, stream: bool) -> None:
    check_way(hanging(names), unreachable(stream=stream), says=UNREACHABLE, after=GATEWAY, at_once=False)


@fault(3)
@STREAM
def test_a_resolver_that_hangs_beyond_the_deadline(names: Names, stream: bool) -> None:
    ask = refused("deadline", gives="DeadlineExceededError", stream=stream, timeouts=Timeouts(connect=60, total=0.2))
    says = "fail blames nobody (neutral), not_sent, billing none"
    check_way(hanging(names), ask, says=says, after=NOBODY, at_once=False)


@pytest.mark.parametrize("addresses", [row(4, 4), row(4, 40, name="40 A records, all blackholed")])
def test_silent_addresses_share_the_time(names: Names, dialled: Dialled, addresses: int) -> None:
    """Forty, each with all of it, would take 12 s."""
    with silent_port() as port:
        names["localhost"] = [(HOST, port)] * addresses
        for facade in FACADES.values():
            with facade(base_url=localhost(port)) as caller:
                with pytest.raises(APIConnectionError) as caught:
                    caller.complete(model=A, timeout=SOON)
                assert caught.value.route is not None
                assert sum(attempt.duration for attempt in caught.value.route.attempts) < 4
        check_way(to(base_url=localhost(port)), unreachable(), says=UNREACHABLE, after=GATEWAY)


@pytest.mark.parametrize(
    "dead",
    [row(5, "closed"), row(5, "silent", name="A record first blackholed, second good"), row(5, "no such family")],
)
def test_a_dead_address_before_a_good_one(
    facade: Facade, server: FaultServer, names: Names, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_port() as silent:
        first = {"closed": (HOST, closed_port()), "silent": (HOST, silent), "no such family": ("::1", 9)}[dead]
        if dead == "no such family":
            without_ipv6(monkeypatch)
        names["localhost"] = [first, (HOST, server.port)]
        with facade(base_url=localhost(server.port), breaker=FAST) as caller:
            trace = caller.ask(Ask([], "", timeouts=Timeouts(connect=0.8)))
            assert (trace.attempts, trace.gives) == ((f"{A} 200 ok",), f"Hello from {A}")
            assert left(caller) == NOBODY
    assert names.asked == ["localhost"]
    assert server.connections_opened == 1


def without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose kernel has none."""
    socket_of(monkeypatch, lambda family: errno.EAFNOSUPPORT if family == socket.AF_INET6 else None)


def socket_of(monkeypatch: pytest.MonkeyPatch, failing: Callable[[int], int | None]) -> None:
    """Sockets of a family that cannot be made: for which ``failing`` gives an errno."""
    make = socket.socket.__init__

    def init(sock: socket.socket, family: int = -1, *args: Any, **options: Any) -> None:
        code = None if options.get("fileno") is not None else failing(family)
        if code is not None:
            raise OSError(code, "no socket")
        make(sock, family, *args, **options)

    monkeypatch.setattr(socket.socket, "__init__", init)


# --- 7 to 18: TCP ---


@fault(7)
@STREAM
def test_a_closed_port(names: Names, dialled: Dialled, stream: bool) -> None:
    port = closed_port()
    check_way(to(base_url=f"http://{HOST}:{port}/v1"), unreachable(stream=stream), says=UNREACHABLE, after=GATEWAY)
    assert dialled.to == [(HOST, port)] * 4


@fault(8)
@STREAM
def test_a_port_that_does_not_answer(names: Names, dialled: Dialled, stream: bool) -> None:
    with silent_port() as port:
        check_way(to(base_url=f"http://{HOST}:{port}/v1"), unreachable(stream=stream), says=UNREACHABLE, after=GATEWAY)
    assert dialled.to == [(HOST, port)] * 2, "its time is used up: once in each facade"


def meeting(act: Callable[[Connection], Any]) -> Way:
    """To a server that does this to the first connection, before it reads."""

    @contextmanager
    def way() -> Iterator[Place]:
        with FaultServer() as server:
            server.on_connect = lambda connection: None if connection.id else act(connection)
            yield Place({"base_url": server.url}, server)
            assert server.models_asked in ([], [B])

    return way


@STREAM
@pytest.mark.parametrize("act", [row(9, "reset"), row(11, "close", name="accept then FIN, fresh connection")])
def test_a_connection_that_is_accepted_and_dropped(act: str, stream: bool) -> None:
    def drop(connection: Connection) -> None:
        connection._read_more()  # type: ignore[attr-defined]  # before, the client might not be connected yet
        getattr(connection, act)()

    check_way(meeting(drop), moves_on("- connection_lost", stream=stream), says=LOST)


@fault(9)
@STREAM
def test_a_reset_that_may_come_before_the_connection_is_seen(facade: Facade, server: FaultServer, stream: bool) -> None:
    """Either it was not connected, and connects again, or it was, and the next model is asked."""
    server.on_connect = lambda connection: None if connection.id else connection.reset()
    with facade(base_url=server.url) as caller:
        trace = caller.ask(Ask([], "", stream=stream))
    assert trace.attempts in ((f"{A} 200 ok",), (f"{A} - connection_lost", f"{B} 200 ok"))
    assert len(server.models_asked) == 1


@fault(9, 11)
@pytest.mark.parametrize("act", ["reset", "close"])
def test_a_gateway_that_only_drops(act: str) -> None:
    """With one model: its own error after a backoff; the model is blamed, not its gateway."""
    reply = r.reset_before_reply() if act == "reset" else r.close_before_reply()
    ask = Ask(
        [f"{A} - connection_lost"] * 2,
        "APIConnectionError",
        fallback_models=(),
        waits=[0.2],
        skipped=("the catalogue",),
    )
    check_way(serving(reply), ask, says=LOST)


@fault(10)
@STREAM
def test_a_pooled_connection_that_the_server_closed_in_time(facade: Facade, server: FaultServer, stream: bool) -> None:
    server.script(A, r.stale_keepalive(close="at once"), r.completion())
    with facade(base_url=server.url, breaker=FAST) as caller:
        assert caller.ask(Ask([], "", stream=stream)).attempts == (f"{A} 200 ok",)
        caller.until(server, lambda: not server.open_connections)
        assert caller.ask(Ask([], "", stream=stream)).attempts == (f"{A} 200 ok",)
        assert left(caller) == NOBODY
    assert server.connections_opened == 2


@fault(10)
@STREAM
@pytest.mark.parametrize("act", ["close", "reset"])
def test_a_pooled_connection_that_breaks_as_it_is_used(act: str, stream: bool) -> None:
    broken = r.close_before_reply() if act == "close" else r.reset_before_reply()
    first = Ask([f"{A} 200 ok"], f"Hello from {A}")  # no stream: its connection is back in the pool when it returns
    second = Ask([f"{A} - stale_connection", f"{A} 200 ok"], f"Hello from {A}", stream=stream)
    check(Scenario("stale", {A: [r.completion(), broken, r.completion()]}, [first, second]), breaker=FAST)


@fault(11)
@STREAM
def test_a_connection_that_ends_after_the_request(stream: bool) -> None:
    check_way(serving(r.close_before_reply()), moves_on("- connection_lost", stream=stream), says=LOST)


PROMPT = {"messages": [{"role": "user", "content": "x" * 2_000_000}]}


def half_read(connection: Connection) -> None:
    while len(connection._input) < 1_000_000:  # type: ignore[attr-defined]
        connection._read_more()  # type: ignore[attr-defined]
    connection.reset()


@fault(12)
@STREAM
def test_a_reset_within_the_request(stream: bool) -> None:
    check_way(meeting(half_read), moves_on("- connection_lost", stream=stream, params=PROMPT), says=LOST)


@fault(12)
@STREAM
def test_a_reset_within_a_request_that_may_be_sent_once_only(stream: bool) -> None:
    ask = Ask([f"{A} - connection_lost"], "APIConnectionError", stream=stream, params=PROMPT)
    check_way(meeting(half_read), ask, says=LOST, after=MODEL, retry=RetryPolicy(at_most_once=True))


def stop_reading(connection: Connection, go_on: threading.Event) -> None:
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # type: ignore[attr-defined]
    go_on.wait(10)  # to wait on the connection would be to read from it


@fault(13)
@STREAM
def test_a_server_that_stops_reading(stream: bool) -> None:
    @contextmanager
    def way() -> Iterator[Place]:
        go_on = threading.Event()
        with FaultServer() as server:
            server.on_connect = lambda connection: None if connection.id else stop_reading(connection, go_on)
            yield Place({"base_url": server.url}, server, go_on.set)
            server.wait_closed()
            assert [request.model for request in server.chat_requests] == [B], "the rest was sent after all"

    large = {"messages": [{"role": "user", "content": "x" * 8_000_000}]}
    patient = Timeouts(first_byte=0.6, total=60)  # the next model must get all of it in that time
    check_way(way, moves_on("- first_byte_timeout", stream=stream, params=large, timeouts=patient), says=LOST)


# --- 17, 18: this machine has nothing left ---


@fault(17)
@STREAM
def test_no_file_descriptor_is_left(facade: Facade, server: FaultServer, stream: bool) -> None:
    server.default = r.completion(headers={"Connection": "close"})
    with facade(base_url=server.url, breaker=FAST) as caller:
        first = caller.ask(Ask([], "", stream=stream))
        caller.until(server, lambda: not server.open_connections)
        with no_file_descriptors():
            trace = caller.ask(Ask([], "", stream=stream))
        assert (trace.attempts, trace.gives) == ((f"{A} - local_overload",), "APIConnectionError")
        assert trace.details[0].startswith(OURS)
        assert left(caller) == NOBODY
        assert caller.ask(Ask([], "", stream=stream)) == first
    assert server.models_asked == [A, A]


@STREAM
@pytest.mark.parametrize(
    ("code", "at"),
    [
        row(17, errno.ENOBUFS, "socket", name="ENOBUFS on socket()"),
        row(17, errno.ENOMEM, "socket", name="ENOMEM on socket()"),
        row(17, errno.ENFILE, "socket", name="ENFILE on socket()"),
        row(17, errno.ENOBUFS, "connect", name="ENOBUFS on connect()"),
        row(18, errno.EADDRNOTAVAIL, "connect"),
    ],
)
@pytest.mark.parametrize("addresses", [1, 2])
def test_the_machine_has_nothing_left(
    facade: Facade,
    server: FaultServer,
    names: Names,
    dialled: Dialled,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    at: str,
    addresses: int,
    stream: bool,
) -> None:
    names["localhost"] = [(HOST, server.port), (HOST, closed_port())][:1] * addresses
    with facade(base_url=localhost(server.port), breaker=FAST) as caller:
        with monkeypatch.context() as patch:
            if at == "socket":
                socket_of(patch, lambda family: code if family in (socket.AF_INET, socket.AF_INET6) else None)
            else:
                dialled.failure = OSError(code, "exhausted")
            trace = caller.ask(Ask([], "", stream=stream))
            dialled.failure = None
        assert (trace.attempts, trace.gives) == ((f"{A} - local_overload",), "APIConnectionError")
        assert trace.details[0].startswith(OURS)
        assert left(caller) == NOBODY
        assert caller.ask(Ask([], "", stream=stream)).attempts == (f"{A} 200 ok",)
    assert server.models_asked == [A]


@fault(18)
def test_an_address_out_of_reach_beside_one_that_refuses_is_the_gateways_fault(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPv6 without an address of our own: that is no shortage."""
    port = closed_port()
    names["localhost"] = [(HOST, port), ("::1", port)]
    socket_of(monkeypatch, lambda family: errno.EADDRNOTAVAIL if family == socket.AF_INET6 else None)
    check_way(to(base_url=localhost(port)), unreachable(), says=UNREACHABLE, after=GATEWAY)
