"""Faults 32, 33, 35 and 43: whatever a server sends, no call gets what belongs to another one.

Several calls in a row, to models that answer with their own names: whoever got another one's bytes would show it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from routerkit import Timeouts
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.faults.catalogue import fault, row
from tests.faults.wire import CHUNKED, EVIL, GOOD, OK, chunks, response
from tests.support.facades import FACADES, AsyncCaller, SyncCaller, alike
from tests.support.scenarios import QUICK, A, Ask, B, Trace

Facade = type[SyncCaller | AsyncCaller]

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
STRAY = response(EVIL)
EVENTS = b'data: {"choices": [{"index": 0, "delta": {"content": "good"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def ask(caller: SyncCaller | AsyncCaller, model: str = A, *, stream: bool = False, timeouts: Timeouts = QUICK) -> Trace:
    return caller.ask(Ask([], "", model=model, fallback_models=(B,), stream=stream, timeouts=timeouts))


def assert_own_answers(caller: SyncCaller | AsyncCaller, server: FaultServer) -> None:
    """Calls of all kinds get what they asked for."""
    for number in range(3):
        for stream in (False, True):
            model = f"m/{number}-{stream}"
            trace = ask(caller, model, stream=stream, timeouts=Timeouts())
            assert (trace.attempts, trace.gives) == ((f"{model} 200 ok",), f"Hello from {model}")
    assert server.models_asked.count(A) == 1


FRAMINGS = [
    row(32, response(GOOD, b"Content-Length: 10"), "200 malformed", name="length short"),
    row(32, response(GOOD, b"Content-Length: 0"), "200 malformed", name="length 0"),
    row(32, response(GOOD, b"Content-Length: 99999"), "200 idle_timeout", name="length long"),
    row(32, response(GOOD, b"Content-Length: -5"), "- unexpected_response", name="length negative"),
    row(
        32,
        response(GOOD, b"Content-Length: %d" % len(GOOD), b"Content-Length: 5"),
        "- unexpected_response",
        name="two different lengths",
    ),
    row(33, response(chunks(GOOD) + b"0\r\n\r\n" + STRAY, CHUNKED, b"Content-Length: 5"), "- unexpected_response"),
    row(
        33,
        response(chunks(GOOD) + b"0\r\n\r\n" + STRAY, b"Content-Length: 5", CHUNKED),
        "- unexpected_response",
        name="length first",
    ),
]


@pytest.mark.parametrize(("data", "first"), FRAMINGS)
def test_a_length_that_lies(facade: Facade, server: FaultServer, data: bytes, first: str) -> None:
    """Its connection is closed, and the next answer comes on another one."""
    server.script(A, r.raw(data, keep=True))
    with facade(base_url=server.url) as caller:
        trace = ask(caller)
        assert (trace.attempts, trace.gives) == ((f"{A} {first}", f"{B} 200 ok"), f"Hello from {B}")
        caller.until(server, lambda: server.open_connections <= 1)
        assert_own_answers(caller, server)
    assert [request.connection for request in server.chat_requests].count(0) == 1


SPLIT = [
    row(35, STRAY, name="a whole answer"),
    row(35, STRAY * 1000, name="a thousand answers"),
    row(35, STRAY[:40], name="half an answer"),
    row(35, b"\r\n", name="a blank line"),
    row(35, b"x", name="one byte"),
    row(35, b"HTTP/1.1 100 Continue\r\n\r\n", name="an interim answer"),
    row(35, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", name="a refusal"),
]
WHOLE = {
    "length": (response(GOOD), False),
    "chunked": (response(chunks(GOOD) + b"0\r\n\r\n", CHUNKED), False),
    "no body": (response(b"", b"Content-Length: 0"), False),
    "stream": (OK + CHUNKED + b"\r\n\r\n" + chunks(EVENTS) + b"0\r\n\r\n", True),
    "stream with a length": (response(EVENTS), True),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("stray", SPLIT)
def test_bytes_behind_an_answer(facade: Facade, server: FaultServer, stray: bytes, kind: str) -> None:
    """The answer counts; what came with it goes to nobody."""
    data, stream = WHOLE[kind]
    server.script(A, r.raw(data + stray, keep=True))
    with facade(base_url=server.url) as caller:
        trace = ask(caller, stream=stream)
        if kind == "no body":
            assert (trace.attempts, trace.gives) == ((f"{A} 200 malformed", f"{B} 200 ok"), f"Hello from {B}")
        else:
            assert (trace.attempts, trace.gives) == ((f"{A} 200 ok",), "good")
        assert_own_answers(caller, server)
    assert [request.connection for request in server.chat_requests].count(0) == 1


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind != "no body"])
@pytest.mark.parametrize("stray", SPLIT)
def test_bytes_that_come_while_nobody_asks(facade: Facade, server: FaultServer, stray: bytes, kind: str) -> None:
    """Too late to be seen with the answer; an event loop has had no time to see them either."""
    data, stream = WHOLE[kind]
    answered, sent = r.Signal(), r.Signal()

    def reply(connection: Connection, _: RecordedRequest) -> None:
        connection.send(data)
        connection.wait(answered)
        connection.send(stray)
        sent.set()

    server.script(A, reply)
    with facade(base_url=server.url) as caller:
        ask(caller, stream=stream)
        answered.set()
        assert sent.wait(5)
        assert_own_answers(caller, server)
    assert [request.connection for request in server.chat_requests].count(0) == 1


@fault(35)
@pytest.mark.parametrize("status", [204, 304])
def test_a_body_where_none_may_be(facade: Facade, server: FaultServer, status: int) -> None:
    body = b'{"error": {"code": 500, "message": "no"}}'
    head = b"HTTP/1.1 %d Nothing\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    server.script(A, r.raw(head + body, keep=True))
    code = {204: "unexpected_response", 304: "unexpected_redirect"}[status]
    with facade(base_url=server.url) as caller:
        assert ask(caller).attempts[0] == f"{A} {status} {code}"
        assert_own_answers(caller, server)


@fault(35)
def test_an_answer_before_it_was_asked_for(facade: Facade, server: FaultServer) -> None:
    """On a new connection, before any request: some servers say why they refuse. It answers the request that comes, no other."""
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    said = r.Signal()

    def speak(connection: Connection) -> None:
        if connection.id == 0:
            connection.send(refusal + STRAY)
            said.set()

    server.on_connect = speak
    with facade(base_url=server.url) as caller:
        trace = ask(caller)
        assert (trace.attempts, trace.gives) == ((f"{A} 503 overloaded", f"{B} 200 ok"), f"Hello from {B}")
        assert_own_answers(caller, server)


# --- 43: an answer that comes too late ---


def in_both(play: Callable[[Facade, FaultServer], None]) -> None:
    """With each facade, at the same time: a clock has to run out."""

    def played(name: str) -> None:
        with FaultServer() as server:
            play(FACADES[name], server)

    alike(played)


@fault(43)
@STREAM
def test_an_answer_after_its_call_has_given_up(stream: bool) -> None:
    def play(facade: Facade, server: FaultServer) -> None:
        gate = r.gate(r.completion("too late"))
        server.script(A, gate)
        with facade(base_url=server.url) as caller:
            trace = ask(caller, stream=stream)
            assert (trace.attempts, trace.gives) == (
                (f"{A} - first_byte_timeout", f"{B} 200 ok"),
                f"Hello from {B}",
            )
            gate.release()
            assert_own_answers(caller, server)
            caller.until(server, lambda: server.open_connections < server.connections_opened)  # the first is closed
        assert [request.connection for request in server.chat_requests].count(0) == 1

    in_both(play)


@fault(43)
def test_a_pooled_connection_whose_answer_comes_too_late() -> None:
    def play(facade: Facade, server: FaultServer) -> None:
        gate = r.gate(r.completion("too late"))
        server.script("m/first", r.completion())
        server.script(A, gate)
        with facade(base_url=server.url) as caller:
            ask(caller, "m/first")
            assert ask(caller).attempts == (f"{A} - first_byte_timeout", f"{B} 200 ok")
            gate.release()
            assert_own_answers(caller, server)
        assert [request.connection for request in server.chat_requests].count(0) == 2

    in_both(play)


@fault(43)
def test_a_body_that_goes_on_too_late() -> None:
    def play(facade: Facade, server: FaultServer) -> None:
        late = r.Signal()

        def reply(connection: Connection, _: RecordedRequest) -> None:
            connection.send(response(GOOD)[:-10])
            connection.wait(late)
            connection.send(response(GOOD)[-10:] + STRAY)

        server.script(A, reply)
        with facade(base_url=server.url) as caller:
            assert ask(caller).attempts == (f"{A} 200 idle_timeout", f"{B} 200 ok")
            late.set()
            assert_own_answers(caller, server)

    in_both(play)


@fault(43)
def test_a_stream_that_goes_on_too_late() -> None:
    def play(facade: Facade, server: FaultServer) -> None:
        late = r.Signal()
        server.script(A, r.stream(r.role(), "one", r.pause(late), "two", r.end(), r.done()))
        with facade(base_url=server.url) as caller:
            trace = ask(caller, stream=True)
            assert (trace.attempts, trace.partial) == ((f"{A} 200 idle_timeout",), "one")
            late.set()
            assert_own_answers(caller, server)

    in_both(play)


@fault(43)
def test_a_stream_given_up_by_its_reader(facade: Facade, server: FaultServer) -> None:
    late = r.Signal()
    server.script(A, r.stream(r.role(), "one", r.pause(late), "two", r.end(), r.done()))
    with facade(base_url=server.url) as caller:
        reader = caller.stream(model=A)
        reader.next()
        reader.close()
        late.set()
        assert_own_answers(caller, server)
    assert [request.connection for request in server.chat_requests].count(0) == 1
