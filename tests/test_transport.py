"""Both transports on real sockets: what they answer, how they fail, what they never do. One table, two drivers."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import attrs
import pytest

from routerkit.core.effects import Close, Failure, HttpResponse, Read, TransportFailure
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from routerkit.testing.replies import Reply
from routerkit.types.secret import Credential, Secret
from routerkit.types.verdict import Sent
from tests.support.drivers import DRIVERS, KEY, MODEL, Driver, gateway_at, open_stream, read_all, request, send

SOON = 0.15
"""A limit that runs out on purpose."""
AT_ONCE = 0.05
"""The same, where nothing has to come before it does."""
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, server: FaultServer) -> Iterator[Driver]:
    with DRIVERS[request.param](gateway_at(server.url)) as running:
        yield running


def ask(driver: Driver, server: FaultServer, **limits: Any) -> HttpResponse:
    return driver.send(send(request(server.url), **limits))


def failure_of(operation: Callable[..., Any], *arguments: Any, **keywords: Any) -> TransportFailure:
    with pytest.raises(TransportFailure) as caught:
        operation(*arguments, **keywords)
    return caught.value


def encoded(body: bytes, encoding: str) -> Reply:
    return lambda connection, _: connection.respond(200, body, {"Content-Encoding": encoding})


# --- answers ---


@pytest.mark.parametrize("status", [200, 201, 204, 301, 400, 402, 404, 408, 413, 429, 500, 502, 503, 524, 529, 799])
def test_statuses(driver: Driver, server: FaultServer, status: int) -> None:
    server.default = lambda connection, _: connection.respond(status, b"" if status == 204 else b"body")
    answer = ask(driver, server)
    assert (answer.status, answer.body) == (status, b"" if status == 204 else b"body")


def test_headers_are_looked_up_in_any_case(driver: Driver, server: FaultServer) -> None:
    server.default = r.error(429, headers={"ReTRY-after": "7", "X-Generation-Id": "gen-1"})
    headers = ask(driver, server).headers
    assert headers.get("retry-after") == headers.get("Retry-After") == headers["RETRY-AFTER"] == "7"
    assert "x-generation-id" in headers
    assert "x-other" not in headers
    assert headers.get("x-other") is None
    answer = driver.open(open_stream(request(server.url)))
    assert answer.headers["retry-After"] == "7"
    driver.close(Close(answer.handle))


def test_the_request_arrives_as_it_was_ordered(driver: Driver, server: FaultServer) -> None:
    asked = request(server.url, headers={"X-One": "1", "User-Agent": "me", "Content-Type": "application/json"})
    driver.send(send(asked))
    (seen,) = server.requests
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/chat/completions", asked.body)
    assert seen.header("Host") == f"127.0.0.1:{server.port}"
    assert (seen.header("X-One"), seen.header("User-Agent")) == ("1", "me")
    assert seen.header("Content-Type") == "application/json"
    assert seen.header("Accept-Encoding") == "gzip"
    assert seen.header("Authorization") is None


def test_a_get_has_no_body(driver: Driver, server: FaultServer) -> None:
    answer = driver.send(send(request(server.url, method="GET", url=f"{server.url}/models?a=b%20c")))
    assert json.loads(answer.body)["data"]
    (seen,) = server.requests
    assert (seen.method, seen.path, seen.body) == ("GET", "/v1/models?a=b%20c", b"")


def test_a_stream_asks_for_no_compression(driver: Driver, server: FaultServer) -> None:
    driver.close(Close(driver.open(open_stream(request(server.url))).handle))
    assert server.requests[0].header("Accept-Encoding") == "identity"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("split", [None, 1, 7])
def test_framings(driver: Driver, server: FaultServer, framing: Any, split: int | None) -> None:
    events = b"".join(b"data: %d\n\n" % number for number in range(20))
    missing = 1 if framing == "length" else 0
    server.default = r.stream(
        events, framing=framing, split=split, headers={"Content-Length": str(len(events))} if missing else {}
    )
    assert ask(driver, server).body == events
    answer = driver.open(open_stream(request(server.url)))
    assert read_all(driver, answer) == events
    assert driver.read(Read(answer.handle, 5)) == b""


def test_chunks_are_delivered_as_they_come(driver: Driver, server: FaultServer) -> None:
    gate = r.Signal()
    server.default = r.stream(b"one", b"two", r.pause(gate), b"three")
    answer = driver.open(open_stream(request(server.url)))
    data = b""
    while data != b"onetwo":
        data += driver.read(Read(answer.handle, 5))
    gate.set()
    assert read_all(driver, answer) == b"three"


def test_a_large_answer(driver: Driver, server: FaultServer) -> None:
    body = bytes(range(256)) * 20_000
    server.default = lambda connection, _: connection.respond(200, body)
    assert ask(driver, server, max_bytes=len(body)).body == body
    assert read_all(driver, driver.open(open_stream(request(server.url)))) == body


def test_gzip_is_opened(driver: Driver, server: FaultServer) -> None:
    server.default = r.gzip_body({"text": "so many words " * 100})
    assert json.loads(ask(driver, server).body)["text"].startswith("so many")
    server.default = encoded(b"", "gzip")
    assert ask(driver, server).body == b""
    server.default = encoded(gzip.compress(b"loud"), "GZIP")
    assert ask(driver, server).body == b"loud"
    server.default = encoded(b"plain", "identity")
    assert ask(driver, server).body == b"plain"


ZIPPED = gzip.compress(b"{}" * 1000)


@pytest.mark.parametrize(
    ("body", "encoding", "failure"),
    [
        (ZIPPED[:-9], "gzip", Failure.TRUNCATED),
        (ZIPPED[:10] + b"\xff" * 50, "gzip", Failure.TRUNCATED),
        (b"{}", "gzip", Failure.TRUNCATED),
        (gzip.compress(ZIPPED), "gzip, gzip", Failure.MALFORMED),
        (zlib.compress(b"{}"), "deflate", Failure.MALFORMED),
        (b"{}", "br", Failure.MALFORMED),
        (gzip.compress(b"\0" * 2_000_000), "gzip", Failure.TOO_LARGE),
    ],
    ids=["cut", "corrupt", "plain", "stacked", "deflate", "unknown", "bomb"],
)
def test_bad_encodings(driver: Driver, server: FaultServer, body: bytes, encoding: str, failure: Failure) -> None:
    server.default = encoded(body, encoding)
    failed = failure_of(ask, driver, server, max_bytes=1_000_000)
    assert (failed.failure, failed.sent, failed.status) == (failure, Sent.RESPONDED, 200)


def test_two_headers_of_encodings_are_stacked(driver: Driver, server: FaultServer) -> None:
    data = gzip.compress(ZIPPED)
    head = b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
    server.default = r.raw(OK + head + data)
    assert failure_of(ask, driver, server).failure is Failure.MALFORMED


def test_the_limit_is_of_the_decompressed_body(driver: Driver, server: FaultServer) -> None:
    server.default = encoded(gzip.compress(b"\0" * 5000), "gzip")
    assert len(ask(driver, server, max_bytes=5000).body) == 5000
    assert failure_of(ask, driver, server, max_bytes=4999).failure is Failure.TOO_LARGE


def test_a_bomb_is_not_opened_to_its_end(driver: Driver, server: FaultServer) -> None:
    server.default = encoded(gzip.compress(bytes(50_000_000)), "gzip")
    tracemalloc.start()
    try:
        assert failure_of(ask, driver, server, max_bytes=1_000_000).failure is Failure.TOO_LARGE
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_body_that_is_too_large_is_not_read_to_its_end(driver: Driver, server: FaultServer, framing: Any) -> None:
    gone = r.Signal()

    def endless(connection: Connection, _: RecordedRequest) -> None:
        headers = {"length": {"Content-Length": "1000000000"}, "chunked": {"Transfer-Encoding": "chunked"}, "close": {}}
        connection.send(connection.head(200, headers[framing]))
        try:
            while True:
                connection.send(b"10000\r\n" + bytes(65_536) + b"\r\n")
        finally:
            gone.set()

    server.default = endless
    failed = failure_of(ask, driver, server, max_bytes=1_000_000)
    assert (failed.failure, failed.sent, failed.status) == (Failure.TOO_LARGE, Sent.RESPONDED, 200)
    driver.until(server, gone.is_set)


def test_a_length_that_is_too_large_is_enough(driver: Driver, server: FaultServer) -> None:
    server.default = r.sequence(
        lambda connection, _: connection.send(connection.head(200, {"Content-Length": "1000001"}))
    )
    assert failure_of(ask, driver, server, max_bytes=1_000_000).failure is Failure.TOO_LARGE


# --- failures ---


@attrs.frozen
class Fault:
    """What the server does, under which limits, and the failure that comes of it."""

    name: str
    reply: Reply
    failure: Failure
    sent: Sent = Sent.RESPONDED
    limits: dict[str, float] = attrs.field(factory=dict)
    streams: bool = True
    """Whether an open answer fails in the same way, read with the idle limit."""


def head(text: bytes) -> Reply:
    return r.raw(OK + text + b"\r\n\r\nok")


BEFORE = [
    Fault("close", r.close_before_reply(), Failure.DISCONNECTED),
    Fault("reset", r.reset_before_reply(), Failure.DISCONNECTED),
    Fault("close in the status line", r.raw(b"HTTP/1.1 20"), Failure.DISCONNECTED),
    Fault("close in the headers", r.raw(OK + b"Content-Length: 2\r\nX-"), Failure.DISCONNECTED),
    Fault("hang", r.hang(), Failure.FIRST_BYTE_TIMEOUT, limits={"first_byte": AT_ONCE}),
    Fault("hang until the total", r.hang(), Failure.FIRST_BYTE_TIMEOUT, limits={"total": SOON}),
    Fault("header drip", r.drip_headers(0.02), Failure.FIRST_BYTE_TIMEOUT, limits={"first_byte": AT_ONCE}),
    Fault("garbage", r.raw(b"220 smtp.example.com ESMTP\r\n", keep=True), Failure.MALFORMED),
    Fault("garbage without an end", r.raw(b"\x00\x01\x02", keep=True), Failure.MALFORMED),
    Fault("another version", r.raw(b"HTTP/2 200 OK\r\n\r\n"), Failure.MALFORMED),
    Fault("a line without colon", head(b"nonsense\r\nContent-Length: 2"), Failure.MALFORMED),
    Fault("two lengths", head(b"Content-Length: 2\r\nContent-Length: 3"), Failure.MALFORMED),
    Fault("a negative length", head(b"Content-Length: -2"), Failure.MALFORMED),
    Fault("two framings", head(b"Content-Length: 2\r\nTransfer-Encoding: chunked"), Failure.MALFORMED),
    Fault("an endless header", head(b"X: " + b"x" * 1_000_000), Failure.MALFORMED),
    Fault("headers without number", head(b"\r\n".join(b"X-%d: x" % n for n in range(999))), Failure.MALFORMED),
]
WITHIN = [
    Fault("body drip", r.drip_body(0.02), Failure.READ_TIMEOUT, limits={"total": SOON}, streams=False),
    Fault("silence", r.stream("Hel", r.pause(60)), Failure.READ_TIMEOUT, limits={"idle": AT_ONCE}),
    Fault("cut with a length", r.truncated_body(), Failure.TRUNCATED),
    Fault("cut with a length, at once", r.truncated_body(b""), Failure.TRUNCATED),
    Fault("cut between chunks", r.stream("Hel", "lo", r.cut()), Failure.TRUNCATED),
    Fault("reset between chunks", r.stream("Hel", r.pause(0.02), r.reset()), Failure.TRUNCATED),
    Fault("bad chunk", r.bad_chunking(after=0.02), Failure.TRUNCATED),
]
FAULTS = [*(attrs.evolve(fault, sent=Sent.MAYBE) for fault in BEFORE), *WITHIN]


def named(faults: list[Fault]) -> Any:
    return pytest.mark.parametrize("fault", faults, ids=lambda fault: fault.name)


@contextmanager
def ended_by_its_own_limit() -> Iterator[None]:
    """Not by one of the others, which are all much longer."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 5


def fail(driver: Driver, server: FaultServer, fault: Fault, how: str) -> TransportFailure:
    limits = {"first_byte": 60.0, "idle": 60.0, "total": 60.0, **fault.limits}
    with ended_by_its_own_limit():
        if how == "send":
            return failure_of(ask, driver, server, **limits)
        return failure_of(
            lambda: read_all(
                driver,
                driver.open(open_stream(request(server.url), first_byte=limits["first_byte"], total=limits["total"])),
                limits["idle"],
            )
        )


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        pytest.param(fault, how, id=f"{fault.name}, {how}")
        for fault in FAULTS
        for how in ["send", "open"][: 1 + fault.streams]
    ],
)
def test_failures(driver: Driver, server: FaultServer, fault: Fault, how: str) -> None:
    server.default = fault.reply
    failed = fail(driver, server, fault, how)
    status = 200 if fault.sent is Sent.RESPONDED else None
    assert (failed.failure, failed.sent, failed.status, failed.reused) == (fault.failure, fault.sent, status, False)
    assert failed.detail
    driver.until(server, lambda: not server.open_connections)
    assert len(server.requests) == 1


@named(FAULTS)
def test_failures_of_a_pooled_connection_say_so(driver: Driver, server: FaultServer, fault: Fault) -> None:
    server.script(MODEL, r.completion(), fault.reply)
    assert ask(driver, server).status == 200
    failed = fail(driver, server, fault, "send")
    assert (failed.failure, failed.sent, failed.reused) == (fault.failure, fault.sent, True)
    assert server.connections_opened == 1


@pytest.mark.parametrize("part", [r.cut(), r.reset()], ids=["cut", "reset"])
def test_what_came_before_a_failure_is_delivered(driver: Driver, server: FaultServer, part: r.Part) -> None:
    gate = r.Signal()
    server.default = r.stream(b"one", r.pause(gate), b"two", part)
    answer = driver.open(open_stream(request(server.url)))
    gate.set()
    driver.until(server, lambda: not server.open_connections)
    data = b""
    while len(data) < 6:
        data += driver.read(Read(answer.handle, 5))
    assert data == b"onetwo"
    assert failure_of(driver.read, Read(answer.handle, 5)).failure is Failure.TRUNCATED


def test_a_get_is_not_sent_again_unseen(driver: Driver, server: FaultServer) -> None:
    server.catalog = r.stale_keepalive(r.json_body({}))
    driver.send(send(request(server.url, method="GET", url=f"{server.url}/models")))
    failed = failure_of(driver.send, send(request(server.url, method="GET", url=f"{server.url}/models")))
    assert (failed.failure, failed.sent, failed.reused) == (Failure.DISCONNECTED, Sent.MAYBE, True)
    assert server.catalog_requests == 2


def test_a_bad_chunk_together_with_the_head_is_no_bad_head(driver: Driver, server: FaultServer) -> None:
    server.default = r.bad_chunking()
    assert failure_of(ask, driver, server).failure is Failure.TRUNCATED


def test_interim_answers_are_passed_over(driver: Driver, server: FaultServer) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    server.default = r.raw(b"HTTP/1.1 100 Continue\r\n\r\n" + hints * 20 + OK + b"Content-Length: 2\r\n\r\nok")
    assert ask(driver, server).body == b"ok"


def test_interim_answers_without_end_are_not(driver: Driver, server: FaultServer) -> None:
    def endless(connection: Connection, _: RecordedRequest) -> None:
        while True:
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.wait(0.01)

    server.default = endless
    with ended_by_its_own_limit():
        assert failure_of(ask, driver, server, first_byte=SOON, total=60).failure is Failure.FIRST_BYTE_TIMEOUT


def test_bytes_that_nobody_asked_for_answer_nothing(driver: Driver, server: FaultServer) -> None:
    stray = OK + b"Content-Length: 4\r\n\r\nevil"
    good = OK + b"Content-Length: 4\r\n\r\ngood"
    for reply in (r.raw(good + stray, keep=True), r.raw(good + stray * 5000, keep=True)):
        server.script(MODEL, reply, r.raw(good, keep=True))
        assert [ask(driver, server).body for _ in range(3)] == [b"good"] * 3
    answered, late = r.Signal(), r.Signal()

    def then_more(connection: Connection, _: RecordedRequest) -> None:
        connection.send(good)
        connection.wait(answered)
        connection.send(stray)
        late.set()

    server.script(MODEL, then_more, r.raw(good, keep=True))
    assert ask(driver, server).body == b"good"
    answered.set()
    assert late.wait(5)  # and an event loop has had no time to see it
    assert ask(driver, server).body == b"good"


# --- what never happens ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(driver: Driver, server: FaultServer, status: int) -> None:
    server.default = r.redirect(status, f"{server.url}/elsewhere")
    answer = ask(driver, server)
    assert (answer.status, answer.headers["location"]) == (status, f"{server.url}/elsewhere")
    opened = driver.open(open_stream(request(server.url)))
    driver.close(Close(opened.handle, reusable=True))
    assert opened.status == status
    assert len(server.requests) == 2


def test_cookies_are_not_kept(driver: Driver, server: FaultServer) -> None:
    server.default = r.completion(headers={"Set-Cookie": "session=1; Path=/"})
    url = server.url.replace("127.0.0.1", "localhost")  # aiohttp keeps no cookies of addresses anyway
    with type(driver)(gateway_at(url)) as other:
        for _ in range(2):
            other.send(send(request(url)))
    assert [seen.header("Cookie") for seen in server.requests] == [None, None]


def test_netrc_is_not_read(driver: Driver, server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    ask(driver, server)
    driver.send(send(request(server.url, credential=Credential(Secret(KEY), server.url))))
    assert [seen.header("Authorization") for seen in server.requests] == [None, f"Bearer {KEY}"]


def test_the_key_goes_to_its_own_origin_only(driver: Driver, server: FaultServer) -> None:
    for origin in (
        "http://127.0.0.1:1/v1",
        f"https://127.0.0.1:{server.port}/v1",
        f"http://localhost:{server.port}/v1",
    ):
        credential = Credential(Secret(KEY), origin)
        failed = failure_of(driver.send, send(request(server.url, credential=credential)))
        assert (failed.failure, failed.sent) == (Failure.LOCAL, Sent.NOT_SENT)
        failed = failure_of(driver.open, open_stream(request(server.url, credential=credential)))
        assert (failed.failure, failed.sent) == (Failure.LOCAL, Sent.NOT_SENT)
    assert server.connections_opened == 0


def test_a_header_cannot_break_out_of_its_line(driver: Driver, server: FaultServer) -> None:
    failed = failure_of(driver.send, send(request(server.url, headers={"X-One": "1\r\nX-Two: 2"})))
    assert failed.failure in (Failure.LOCAL, Failure.DISCONNECTED)
    assert server.requests == []


def shown(error: BaseException) -> Iterator[str]:
    """Everything that a logger or an error reporter could show of an exception: all locals of all frames behind it too."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        yield repr(one)
        yield repr(one.args)
        yield repr(vars(one))
        trace: TracebackType | None = one.__traceback__
        while trace is not None:
            frame: FrameType = trace.tb_frame
            if "routerkit" in frame.f_code.co_filename or "site-packages" in frame.f_code.co_filename:
                yield from (repr(value) for value in frame.f_locals.values())
            trace = trace.tb_next


@named(FAULTS)
def test_no_failure_shows_the_key(driver: Driver, server: FaultServer, fault: Fault) -> None:
    server.default = fault.reply
    asked = request(server.url, credential=Credential(Secret(KEY), server.url))
    failed = failure_of(driver.send, send(asked, **{"first_byte": 60, "total": 60, "idle": 60, **fault.limits}))
    assert failed.__traceback__ is not None
    assert server.requests[0].api_key == KEY
    assert not [text for text in shown(failed) if KEY in text]
