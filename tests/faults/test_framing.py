"""Faults 26 to 34: HTTP that is none, and bodies that do not end where they should."""

from __future__ import annotations

import pytest

from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.faults.catalogue import fault, row
from tests.faults.outcomes import After
from tests.faults.ways import (
    BROKEN,
    INTERRUPTED,
    LOST,
    NOT_HTTP,
    check_way,
    moves_on,
    serving,
)
from tests.faults.wire import CHUNKED, EVIL, GOOD, OK, chunks, hold, response
from tests.support.facades import AsyncCaller, SyncCaller
from tests.support.scenarios import QUICK, A, Ask, B

Facade = type[SyncCaller | AsyncCaller]

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
# --- 26 to 28, 31: heads ---

HEADS = [
    row(26, b"220 smtp.example.com ESMTP\r\n\r\n"),
    row(26, b"\x00\x01\x02\x03\r\n\r\n", name="binary status line"),
    row(26, b"HTTP/1.1 abc OK\r\n\r\n", name="no number"),
    row(26, b"HTTP/1.1 99 OK\r\n\r\n", name="two digits"),
    row(26, b"HTTP/1.1 2000 OK\r\n\r\n", name="four digits"),
    row(26, b"HTTP/1.1 -200 OK\r\n\r\n", name="negative"),
    row(26, b"HTTP/2 200 OK\r\n\r\n", name="another version"),
    row(26, b"HTTP/9.9 200 OK\r\n\r\n", name="a version to come"),
    row(26, b"ICY 200 OK\r\n\r\n", name="another protocol"),
    row(27, b"<html>hello</html>\r\n\r\n"),
    row(27, GOOD, name="HTTP/0.9-style completion"),
    row(28, OK + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n", name="1 MB header"),
    row(28, OK + b"X" * 1_000_000 + b": x\r\n\r\n", name="1 MB header name"),
    row(28, b"HTTP/1.1 200 " + b"x" * 1_000_000 + b"\r\n\r\n", name="1 MB reason"),
    row(28, OK + b"".join(b"X-%d: x\r\n" % n for n in range(999)) + b"\r\n", name="999 headers"),
    row(28, OK + b"nonsense\r\nContent-Length: 2\r\n\r\nok", name="header without colon"),
    row(28, OK + b": nonsense\r\nContent-Length: 2\r\n\r\nok", name="header without name"),
    row(28, OK + b"Content-Length : 2\r\n\r\nok", name="blank before the colon"),
    row(28, OK + b"X: a\x00b\r\nContent-Length: 2\r\n\r\nok", name="NUL in a header"),
    row(30, b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + response(GOOD)),
    row(30, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000 + response(GOOD), name="103 ×1000 then 200"),
    row(32, response(GOOD, b"Content-Length: -5"), name="negative length"),
    row(32, response(GOOD, b"Content-Length: 5", b"Content-Length: 6"), name="two different lengths"),
    row(32, response(GOOD, b"Content-Length: five"), name="length in words"),
    row(32, response(GOOD, b"Content-Length: +5"), name="length with a sign"),
    row(32, response(GOOD, b"Content-Length: 5, 6"), name="two different lengths in one header"),
    row(32, response(GOOD, b"Content-Length: " + b"9" * 5000), name="length of 5000 digits"),
    row(33, response(chunks(GOOD) + b"0\r\n\r\n", CHUNKED, b"Content-Length: %d" % len(GOOD))),
    row(33, response(chunks(GOOD) + b"0\r\n\r\n", b"Content-Length: %d" % len(GOOD), CHUNKED), name="length first"),
]


@STREAM
@pytest.mark.parametrize("head", HEADS)
def test_a_head_that_is_none(head: bytes, stream: bool) -> None:
    """The connection is closed, and what follows on it answers nobody."""
    check_way(serving(r.raw(head, keep=True)), moves_on("- unexpected_response", stream=stream), says=NOT_HTTP)


@fault(28)
@STREAM
def test_a_folded_header_goes_on(stream: bool) -> None:
    """RFC 9112 lets a client take it for a blank."""
    way = serving(r.raw(response(GOOD, b"X-Long: one\r\n two\r\n\tthree"), keep=True))
    check_way(
        way, Ask([f"{A} 200 ok"], "good", stream=stream), says="return blames nobody (ok), responded, billing confirmed"
    )


@fault(28)
def test_a_head_without_end_is_not_read_to_its_end(facade: Facade, server: FaultServer) -> None:
    sent: list[int] = []

    def endless(connection: Connection, _: RecordedRequest) -> None:
        connection.send(OK)
        for number in range(1000):
            connection.send(b"X: " + b"x" * 65_536 + b"\r\n")
            sent.append(number)

    server.script(A, endless)
    with facade(base_url=server.url) as caller:
        assert caller.ask(moves_on("")).attempts == (f"{A} - unexpected_response", f"{B} 200 ok")
    server.wait_closed()
    assert len(sent) < 500


@fault(29)
@STREAM
@pytest.mark.parametrize("interval", [0.03, 0.1])
def test_headers_that_drip(interval: float, stream: bool) -> None:
    way = serving(r.drip_headers(interval))
    check_way(way, moves_on("- first_byte_timeout", stream=stream), says=LOST)


@fault(29)
def test_a_status_line_that_drips() -> None:
    def drip(connection: Connection, _: RecordedRequest) -> None:
        for byte in b"HTTP/1.1 200 " + b"x" * 1000:
            connection.send(bytes([byte]))
            connection.wait(0.1)

    check_way(serving(drip), moves_on("- first_byte_timeout"), says=LOST)


@fault(30)
@STREAM
def test_a_few_interim_answers_do_no_harm(stream: bool) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 20
    ask = Ask([f"{A} 200 ok"], "good", stream=stream)
    way = serving(r.raw(interim + response(GOOD), keep=True))
    check_way(way, ask, ask, ask, ask, says="return blames nobody (ok), responded, billing confirmed")


@fault(30)
def test_interim_answers_do_not_stop_the_clock() -> None:
    def drip(connection: Connection, _: RecordedRequest) -> None:
        for _ in range(60):
            connection.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            connection.wait(0.05)

    check_way(serving(drip), moves_on("- first_byte_timeout"), says=LOST)


@fault(31)
@STREAM
@pytest.mark.parametrize("more", [b"", b"\x81\x05hello", response(EVIL)], ids=["alone", "frame", "answer"])
def test_a_switch_of_protocols(more: bytes, stream: bool) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    check_way(
        serving(r.raw(switch + more, keep=True)),
        moves_on("101 unexpected_response", stream=stream),
        says="next_model blames gateway (fail), responded, billing possible",
    )


# --- 32, 34, 36: bodies ---


BODIES = [
    row(32, r.raw(response(GOOD, b"Content-Length: 10"), keep=True), "malformed", name="length too short"),
    row(32, r.raw(response(GOOD, b"Content-Length: 0"), keep=True), "malformed", name="length of 0"),
    row(32, r.raw(response(GOOD, b"Content-Length: 99999")), "truncated", name="length too long, then FIN"),
    row(32, hold(response(GOOD, b"Content-Length: 99999")), "idle_timeout", name="length too long, then silence"),
    row(
        34,
        r.raw(response(chunks(GOOD[:20]) + b"zz\r\n" + GOOD[20:] + b"\r\n0\r\n\r\n", CHUNKED), keep=True),
        "truncated",
    ),
    row(
        34,
        r.raw(response(chunks(GOOD[:20]) + b"-5\r\nhello\r\n0\r\n\r\n", CHUNKED), keep=True),
        "truncated",
        name="negative size",
    ),
    row(34, r.raw(response(b"fffffffff\r\n" + GOOD, CHUNKED), keep=True), "truncated", name="size of 36 bits"),
    row(
        34, r.raw(response(chunks(GOOD[:20]) + b"5\r\nhelloXX", CHUNKED), keep=True), "truncated", name="chunk too long"
    ),
    row(34, r.raw(response(chunks(GOOD), CHUNKED)), "truncated", name="missing last chunk, then FIN"),
    row(34, r.raw(response(chunks(GOOD) + b"0\r\n", CHUNKED)), "truncated", name="last chunk half"),
    row(34, hold(response(chunks(GOOD), CHUNKED)), "idle_timeout", name="missing last chunk, then silence"),
    row(
        34,
        r.raw(response(b"5;" + b"x" * 1_000_000 + b"\r\nhello\r\n0\r\n\r\n", CHUNKED), keep=True),
        "truncated",
        name="chunk extension 1 MB",
    ),
]


@pytest.mark.parametrize(("reply", "code"), BODIES)
def test_a_body_that_does_not_end_where_it_should(reply: r.Reply, code: str) -> None:
    check_way(serving(reply), moves_on(f"200 {code}"), says=BROKEN)


EVENTS = [
    b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % word for word in (b"one ", b"two", b"!")
]


def streamed(*pieces: bytes, framing: bytes = CHUNKED) -> bytes:
    """A stream's head, and the beginning of its body: two words, then this."""
    body = chunks(*EVENTS[:2]) if framing == CHUNKED else b"".join(EVENTS[:2])
    return OK + b"Content-Type: text/event-stream\r\n" + framing + b"\r\n\r\n" + body + b"".join(pieces)


STREAMS = [
    row(
        32,
        r.raw(streamed(framing=b"Content-Length: 99999")),
        "truncated",
        name="stream with a length too long, then FIN",
    ),
    row(
        32,
        hold(streamed(framing=b"Content-Length: 99999")),
        "idle_timeout",
        name="stream with a length too long, silence",
    ),
    row(
        32,
        r.raw(streamed(EVENTS[2], framing=b"Content-Length: 140"), keep=True),
        "truncated",
        name="stream with a length too short",
    ),
    row(34, r.raw(streamed(b"zz\r\nthree\r\n0\r\n\r\n"), keep=True), "truncated", name="stream with a bad chunk size"),
    row(34, r.raw(streamed(b"3\r\nthree\r\n0\r\n\r\n"), keep=True), "truncated", name="stream with a chunk too long"),
    row(34, r.raw(streamed()), "truncated", name="stream without last chunk, then FIN"),
    row(34, hold(streamed()), "idle_timeout", name="stream without last chunk, then silence"),
    row(34, r.raw(streamed(b"0\r\n\r\n"), keep=True), "truncated", name="stream that just ends"),
    row(
        34,
        r.raw(streamed(b"5;" + b"x" * 1_000_000 + b"\r\nhello\r\n0\r\n\r\n"), keep=True),
        "truncated",
        name="stream with a chunk extension of 1 MB",
    ),
]


@pytest.mark.parametrize(("reply", "code"), STREAMS)
def test_a_stream_that_does_not_end_where_it_should(reply: r.Reply, code: str) -> None:
    """What came before the fault is delivered, also when both came at once."""
    ask = Ask([f"{A} 200 {code}"], "StreamInterruptedError", stream=True, timeouts=QUICK, partial="one two")
    check_way(serving(reply), ask, says=INTERRUPTED, after=After([A]))


@pytest.mark.parametrize("ending", [row(34, b"zz\r\n", name="bad chunk size"), row(34, b"", name="missing last chunk")])
def test_a_stream_that_breaks_before_its_first_content(ending: bytes) -> None:
    head = OK + b"Content-Type: text/event-stream\r\n" + CHUNKED + b"\r\n\r\n" + chunks(b": thinking\n\n")
    check_way(serving(r.raw(head + ending)), moves_on("200 truncated", stream=True), says=BROKEN)
