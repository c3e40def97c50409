"""Connections of both transports: when they are used again, when they are not, and what becomes of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest

from routerkit.core.effects import Close, Failure, Read, StreamResponse, TransportFailure
from routerkit.testing import Connection, FaultServer
from routerkit.testing import replies as r
from routerkit.transport import aiohttp as tasks
from routerkit.transport import requests as threads
from routerkit.transport import sockets
from routerkit.transport.aiohttp_connection import REQUEST_CLASS, Request
from routerkit.types.verdict import Sent
from tests.support.drivers import (
    DRIVERS,
    MODEL,
    AsyncDriver,
    Driver,
    SyncDriver,
    gateway_at,
    open_stream,
    read_all,
    request,
    send,
)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, server: FaultServer) -> Iterator[Driver]:
    with DRIVERS[request.param](gateway_at(server.url)) as running:
        yield running


def ask(driver: Driver, server: FaultServer, **fields: Any) -> bytes:
    return driver.send(send(request(server.url, **fields))).body


def gone(driver: Driver, server: FaultServer) -> None:
    """Wait until the server sees no connection any more, while the client goes on."""
    driver.until(server, lambda: not server.open_connections)


def ended(driver: Driver, answer: StreamResponse) -> None:
    """Let an event loop run until the end of an answer has come; a thread has waited for it by itself."""

    async def end() -> None:
        while not answer.handle._response.content.is_eof():
            await asyncio.sleep(0.001)

    if isinstance(driver, AsyncDriver):
        driver.run(asyncio.wait_for(end(), 5))


def patience(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """How long the rest of an answer is waited for."""
    monkeypatch.setattr(threads, "PARTING", seconds)
    monkeypatch.setattr(tasks, "LINGER", seconds)


def test_connections_are_used_again(driver: Driver, server: FaultServer) -> None:
    for reply in (r.completion(), r.error(429), r.error(500), r.gzip_body({}), r.empty(), r.stream(b"chunked")):
        server.default = reply
        ask(driver, server)
        ask(driver, server)
    assert server.connections_opened == 1
    assert [seen.index for seen in server.requests] == list(range(12))


def test_closing_the_transport_closes_them(driver: Driver, server: FaultServer) -> None:
    ask(driver, server)
    if isinstance(driver, SyncDriver):
        driver.transport.close()
    else:
        driver.run(driver.transport.close())
    gone(driver, server)


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_stream_read_to_its_end_leaves_its_connection(driver: Driver, server: FaultServer, framing: Any) -> None:
    missing = {"Content-Length": "3"} if framing == "length" else {}
    server.default = r.stream(b"abc", framing=framing, headers=missing)
    for _ in range(3):
        answer = driver.open(open_stream(request(server.url)))
        assert read_all(driver, answer) == b"abc"
        driver.close(Close(answer.handle, reusable=True))
        driver.close(Close(answer.handle))
    assert server.connections_opened == 1


def test_so_does_one_whose_end_comes_after_its_last_word(
    driver: Driver, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience(monkeypatch, 5)
    for _ in range(3):
        end = r.Signal()
        server.default = r.stream("Hello", r.done(), r.pause(end))
        answer = driver.open(open_stream(request(server.url)))
        data = b""
        while b"[DONE]" not in data:
            data += driver.read(Read(answer.handle, 5))
        if isinstance(driver, SyncDriver):
            end.set()  # while it waits
        driver.close(Close(answer.handle, reusable=True))
        end.set()
        ended(driver, answer)
    ask(driver, server)
    assert server.connections_opened == 1


def test_an_answer_that_does_not_end_is_not_waited_for(
    driver: Driver, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience(monkeypatch, 0.02)
    server.default = r.stream("Hello", r.done(), r.pause(60))
    answer = driver.open(open_stream(request(server.url)))
    driver.close(Close(answer.handle, reusable=True))
    gone(driver, server)


def test_closing_early_closes_the_connection(driver: Driver, server: FaultServer) -> None:
    for reply in (r.stream("Hello", r.pause(60)), r.stream("Hello", r.pause(60), framing="close")):
        server.default = reply
        answer = driver.open(open_stream(request(server.url)))
        assert driver.read(Read(answer.handle, 5))
        driver.close(Close(answer.handle))
        driver.close(Close(answer.handle, reusable=True))
        gone(driver, server)


def test_error_answers_to_streams_leave_their_connection(driver: Driver, server: FaultServer) -> None:
    server.default = r.error(429)
    for _ in range(3):
        answer = driver.open(open_stream(request(server.url)))
        assert b"429" in read_all(driver, answer)
        driver.close(Close(answer.handle, reusable=True))
    assert server.connections_opened == 1


def test_closing_a_failed_stream_does_no_harm(driver: Driver, server: FaultServer) -> None:
    server.default = r.stream("Hello", r.cut())
    answer = driver.open(open_stream(request(server.url)))
    with pytest.raises(TransportFailure):
        read_all(driver, answer)
    driver.close(Close(answer.handle, reusable=True))
    driver.close(Close(answer.handle))


def test_a_connection_that_was_idle_for_too_long_is_not_used(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "KEEPALIVE_IDLE", -1.0)  # read once, when a loop's session is made
    for kind in DRIVERS.values():
        opened = server.connections_opened
        with kind(gateway_at(server.url)) as driver:
            ask(driver, server)
            monkeypatch.setattr(sockets, "KEEPALIVE_IDLE", -1.0)
            ask(driver, server)
        assert server.connections_opened == opened + 2


def test_idle_connections_do_not_pile_up(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with SyncDriver(gateway_at(server.url)) as driver:
        gate = r.gate()
        server.default = gate
        with ThreadPoolExecutor(5) as executor:
            waiting = [executor.submit(ask, driver, server) for _ in range(5)]
            server.wait_for(lambda: len(server.requests) == 5)
            gate.release()
            assert all(each.result() for each in waiting)
        assert server.open_connections == 5
        monkeypatch.setattr(sockets, "KEEPALIVE_IDLE", -1.0)
        ask(driver, server)
        gone(driver, server)


def test_a_fresh_connection_is_a_new_one(driver: Driver, server: FaultServer) -> None:
    ask(driver, server)
    ask(driver, server, fresh=True)
    assert server.connections_opened == 2
    server.default = r.close_before_reply()
    with pytest.raises(TransportFailure) as caught:
        ask(driver, server, fresh=True)
    assert (caught.value.failure, caught.value.reused) == (Failure.DISCONNECTED, False)


def test_a_connection_that_the_server_closed_is_not_used(driver: Driver, server: FaultServer) -> None:
    server.script(MODEL, r.stale_keepalive(close="at once"), r.completion())
    ask(driver, server)
    gone(driver, server)
    ask(driver, server)
    assert server.connections_opened == 2


def test_nor_is_one_that_it_said_it_would_close(driver: Driver, server: FaultServer) -> None:
    server.default = r.stream(b"one", framing="close")
    assert [ask(driver, server) for _ in range(2)] == [b"one"] * 2
    answer = driver.open(open_stream(request(server.url)))
    assert read_all(driver, answer) == b"one"
    driver.close(Close(answer.handle, reusable=True))
    assert server.connections_opened == 3


def test_one_that_closes_as_it_is_used_says_so(driver: Driver, server: FaultServer) -> None:
    server.script(MODEL, r.stale_keepalive())
    ask(driver, server)
    with pytest.raises(TransportFailure) as caught:
        ask(driver, server)
    failed = caught.value
    assert (failed.failure, failed.sent, failed.reused) == (Failure.DISCONNECTED, Sent.MAYBE, True)


def test_large_requests(driver: Driver, server: FaultServer) -> None:
    body = bytes(range(256)) * 20_000
    ask(driver, server, body=body)
    ask(driver, server, body=body)
    assert [seen.body == body for seen in server.requests] == [True, True]
    assert server.connections_opened == 1


def test_a_server_that_stops_reading(driver: Driver, server: FaultServer) -> None:
    go_on = threading.Event()  # to wait on the connection would be to read from it
    server.on_connect = lambda _: go_on.wait(10)
    started = time.monotonic()
    with pytest.raises(TransportFailure) as caught:
        driver.send(send(request(server.url, body=bytes(20_000_000)), first_byte=0.15, total=60))
    assert time.monotonic() - started < 4
    assert (caught.value.failure, caught.value.sent) == (Failure.FIRST_BYTE_TIMEOUT, Sent.MAYBE)
    go_on.set()
    gone(driver, server)
    assert len(server.requests) == 0  # what was left has not been sent after all


def test_a_refusal_while_the_request_is_still_being_sent(driver: Driver, server: FaultServer) -> None:
    def refuse(connection: Connection) -> None:
        connection._read_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge")
        connection.close()

    server.on_connect = refuse
    for _ in range(5):
        answer = driver.send(send(request(server.url, body=bytes(20_000_000))))
        assert (answer.status, answer.body) == (413, b"large")


def test_a_connection_is_not_used_again_before_its_request_is_out(server: FaultServer) -> None:
    """Of tasks: a thread writes first, and reads then."""
    go_on = threading.Event()

    def refuse(connection: Connection) -> None:
        connection._read_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge")
        go_on.wait(10)  # the connection stays open, and the rest of the request unread

    server.on_connect = refuse
    with AsyncDriver(gateway_at(server.url)) as driver:
        for _ in range(2):
            answer = driver.send(send(request(server.url, body=bytes(20_000_000))))
            assert (answer.status, answer.body) == (413, b"large")
        go_on.set()
    assert server.connections_opened == 2


def test_requests_are_what_aiohttp_itself_would_send(server: FaultServer) -> None:
    """Ours go out in a cheaper way, but where they are traced: whoever traces aiohttp has its sessions made with a trace."""
    assert issubclass(REQUEST_CLASS, Request), "aiohttp makes its responses of something else: see there"
    seen: list[str] = []

    async def chunk(session: Any, context: Any, params: Any) -> None:
        seen.append(params.method)

    with AsyncDriver(gateway_at(server.url)) as driver:
        ask(driver, server)
        [homes] = driver.transport._homes.values()
        [home] = homes.values()
        trace = aiohttp.TraceConfig()
        trace.on_request_chunk_sent.append(chunk)
        trace.freeze()
        home.session.trace_configs.append(trace)
        ask(driver, server)
    ours, its = server.requests
    assert (ours.method, ours.path, ours.body) == (its.method, its.path, its.body)
    assert ours.headers == its.headers
    assert seen == ["POST"]


def test_many_threads(server: FaultServer) -> None:
    start = threading.Barrier(100)
    with SyncDriver(gateway_at(server.url)) as driver:

        def work(number: int) -> list[bool]:
            start.wait(10)
            return [
                f'"Hello from m/{number}-{turn}"'.encode() in ask(driver, server, model=f"m/{number}-{turn}")
                for turn in range(5)
            ]

        with ThreadPoolExecutor(100) as executor:
            assert all(all(right) for right in executor.map(work, range(100)))
    assert len(server.requests) == 500
    assert server.connections_opened < 250
