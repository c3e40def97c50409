"""HTTP/1.1 in bytes, cut anywhere, beside the reader of the standard library."""

from __future__ import annotations

import http.client
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.core.effects import HttpRequest
from routerkit.transport.failures import destination
from routerkit.transport.http1 import MAX_HEAD, Head, MalformedError, TruncatedError, parse_head, request_bytes

OK = b"HTTP/1.1 200 OK\r\n"


def head_of(data: bytes, method: str = "POST") -> Head:
    head = parse_head(data, method)
    assert head is not None
    return head


def read(data: bytes, cuts: list[int] | None = None) -> tuple[int, dict[str, str], bytes, bool]:
    """Status, headers, body, and whether the connection can serve again, of an answer that comes in pieces."""
    ends = sorted({min(cut, len(data)) for cut in cuts or []} | {len(data)})
    pieces = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    buffer, body, head = b"", b"", None
    for piece in pieces:
        if head is None:
            buffer += piece
            head = parse_head(buffer, "POST")
            piece = b"" if head is None else head.rest
        if head is not None and piece and not head.body.complete:
            body += head.body.feed(piece)
    assert head is not None
    if not head.body.complete:
        head.body.end()
    return head.status, dict(head.headers), body, head.body.reusable


class Bytes:
    """A socket for ``http.client``."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


def judged(data: bytes) -> tuple[int, dict[str, str], bytes, bool]:
    """The same, by the standard library."""
    response = http.client.HTTPResponse(Bytes(data))  # type: ignore[arg-type]
    response.begin()
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        headers.setdefault(name.lower(), value)
    return response.status, headers, response.read(), not response.will_close


names = st.from_regex(r"X-[A-Za-z0-9-]{1,12}", fullmatch=True)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30)
bodies = st.lists(st.binary(min_size=1, max_size=300), max_size=8)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    pieces = draw(bodies)
    headers = draw(st.dictionaries(names, values, max_size=6))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    status = draw(st.sampled_from([200, 201, 400, 404, 429, 500, 503]))
    data = b"".join(pieces)
    if framing == "length":
        headers["Content-Length"] = str(len(data))
    elif framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
        extension = draw(st.sampled_from([b"", b";a=b"]))
        trailer = draw(st.sampled_from([b"", b"X-Sum: 1\r\n", b"X-Sum: 1\r\nX-More: 2\r\n"]))
        data = (
            b"".join(b"%x%s\r\n%s\r\n" % (len(each), extension, each) for each in pieces) + b"0\r\n" + trailer + b"\r\n"
        )
    if draw(st.booleans()):
        headers["Connection"] = draw(st.sampled_from(["close", "keep-alive", "Close, x"]))
    lines = [f"HTTP/1.1 {status} Reason", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


@given(answers(), st.lists(st.integers(0, 3000), max_size=12))
def test_any_cut_of_any_answer_reads_as_the_standard_library_reads_it(data: bytes, cuts: list[int]) -> None:
    assert read(data, cuts) == judged(data)


@given(answers())
def test_byte_by_byte(data: bytes) -> None:
    assert read(data, list(range(len(data)))) == judged(data)


@given(answers(), st.integers(0, 3000))
def test_an_answer_that_breaks_off_is_never_whole(data: bytes, length: int) -> None:
    """Unless the end of the connection is its end."""
    cut = data[: min(length, len(data) - 1)]
    head = parse_head(cut, "POST") if cut else None
    if head is None:
        return
    assert head.status == head_of(data).status
    framed = "content-length" in head.headers or "transfer-encoding" in head.headers
    if framed and cut != data:
        head.body.feed(head.rest)
        assert not head.body.complete
        with pytest.raises(TruncatedError):
            head.body.end()


@given(answers(), st.binary(min_size=1, max_size=50))
def test_what_follows_an_answer_is_not_part_of_it(data: bytes, more: bytes) -> None:
    head = head_of(data + more)
    body = head.body.feed(head.rest)
    if "content-length" in head.headers or "transfer-encoding" in head.headers:
        assert (body, head.body.reusable) == (read(data)[2], False)


@given(st.binary(max_size=300))
def test_garbage_raises_nothing_else(data: bytes) -> None:
    for prefix in (b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n", OK + b"Content-Length: 7\r\n\r\n"):
        try:
            head = parse_head(prefix + data, "POST")
            if head is not None and head.rest:
                head.body.feed(head.rest)
        except (MalformedError, TruncatedError):
            pass


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/3 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"SSH-2.0",
        b"<",
        OK + b"no colon\r\n\r\n",
        OK + b": no name\r\n\r\n",
        OK + b"X-Space : 1\r\n\r\n",
        OK + b" folded: before any\r\n\r\n",
        OK + b"X-Nul: a\0b\r\n\r\n",
        OK + b"X-Return: a\rb\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        OK + b"Content-Length: 1, 1\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: +1\r\n\r\n",
        OK + b"Content-Length: 1e3\r\n\r\n",
        OK + b"Content-Length: \xb2\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999\r\n\r\n",
        OK + b"Content-Length:\r\n\r\n",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"X: x\r\n" * 129 + b"\r\n",
        OK + b"X: " + b"x" * MAX_HEAD,
        OK + b"X: " + b"x" * MAX_HEAD + b"\r\n\r\n",
    ],
)
def test_heads_that_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_head(data, "POST")


@pytest.mark.parametrize("data", [b"", b"H", b"HTTP/1.1 200 OK", OK, OK + b"X: 1\r\n", OK + b"X: 1\r\n\r"])
def test_heads_that_are_not_complete_yet(data: bytes) -> None:
    assert parse_head(data, "POST") is None


def test_folded_and_repeated_headers() -> None:
    head = head_of(OK + b"A: 1\r\n\t 2\r\nB: 1\r\nb: 2\r\nConnection: x\r\nConnection: close\r\nE:\r\n\r\n")
    assert head.headers == {"a": "1 2", "b": "1", "connection": "x, close", "e": ""}
    assert not head.body.reusable


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", True),
        (OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", True),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n", False),
        (OK + b"\r\n", False),
    ],
)
def test_when_a_connection_can_serve_again(data: bytes, reusable: bool) -> None:
    assert head_of(data).body.reusable is reusable


def test_the_answer_to_a_head_request_has_no_body() -> None:
    assert head_of(OK + b"Content-Length: 9\r\n\r\n", "HEAD").body.complete


@pytest.mark.parametrize(
    "body",
    [
        b"-2\r\nok\r\n0\r\n\r\n",
        b"+2\r\nok\r\n0\r\n\r\n",
        b"0x2\r\nok\r\n0\r\n\r\n",
        b"2_0\r\nok\r\n0\r\n\r\n",
        b"zz\r\n",
        b"\r\n",
        b"2\nok\n0\n\n",
        b"2\r\nokXX0\r\n\r\n",
        b"fffffffff\r\n",
        b"2;" + b"x" * MAX_HEAD * 2,
        b"0\r\nX: " + b"x" * MAX_HEAD * 2,
    ],
)
def test_chunks_that_are_refused(body: bytes) -> None:
    head = head_of(OK + b"Transfer-Encoding: chunked\r\n\r\n")

    def feed() -> None:
        assert head.body.feed(body) == b"ok"  # what came before the fault is given out first
        head.body.feed(b"")

    with pytest.raises(TruncatedError):
        feed()


def asked(**fields: Any) -> bytes:
    given = {"method": "POST", "url": "https://gateway.test/v1/chat?a=b", "headers": {}, **fields}
    request = HttpRequest(**given)
    return request_bytes(request, destination(request.url), request.headers)


def test_requests() -> None:
    assert asked() == b"POST /v1/chat?a=b HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 0\r\n\r\n"
    assert asked(method="GET") == b"GET /v1/chat?a=b HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
    assert asked(headers={"A": "1"}, body=b"xy").endswith(b"\r\nA: 1\r\nContent-Length: 2\r\n\r\nxy")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8080/v1", b"127.0.0.1:8080"),
        ("http://localhost:80/v1", b"localhost"),
        ("https://one.test:443/v1", b"one.test"),
        ("https://one.test:80/v1", b"one.test:80"),
        ("https://ONE.test/v1", b"one.test"),
        ("http://[::1]:8080/v1", b"[::1]:8080"),
        ("https://one.test", b"one.test"),
    ],
)
def test_hosts(url: str, host: bytes) -> None:
    assert b"\r\nHost: %s\r\n" % host in asked(url=url)


@pytest.mark.parametrize("value", ["1\r\nX-Other: 2", "1\n2", "1\r2"])
def test_a_header_cannot_break_out_of_its_line(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        asked(headers={"X-One": value})
