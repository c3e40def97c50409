"""Faults 36 to 42: how a body is delimited, compressed, and what it claims to be."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from functools import cache

import pytest

from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.catalogue import fault, row
from tests.faults.outcomes import FAST, After, left
from tests.faults.ways import BROKEN, INTERRUPTED, check_way, moves_on, refused, serving
from tests.faults.wire import GOOD, OK, response
from tests.support.facades import AsyncCaller, SyncCaller
from tests.support.scenarios import QUICK, A, Ask, B, C

Facade = type[SyncCaller | AsyncCaller]

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
FINE = "return blames nobody (ok), responded, billing confirmed"
FOREIGN = "next_model blames gateway (fail), responded, billing possible"
CAP = 64 * 1024 * 1024

# --- 36: as long as the connection lives ---


@fault(36)
def test_events_are_delivered_as_they_come(facade: Facade, server: FaultServer) -> None:
    seen = [r.Signal() for _ in range(3)]
    words = ["one ", "two ", "three"]
    parts = [part for word, signal in zip(words, seen, strict=True) for part in (word, r.pause(signal))]
    server.script(A, r.stream(r.role(), *parts, r.end(), r.done(), framing="close"))
    with facade(base_url=server.url) as caller:
        reader = caller.stream(model=A)
        for word, signal in zip(words, seen, strict=True):
            chunk = reader.next()
            while chunk is not None and not chunk.text:
                chunk = reader.next()
            assert chunk is not None
            assert chunk.text == word
            signal.set()  # only now the server goes on
        while reader.next() is not None:
            pass
        assert reader.stream.completion.text == "one two three"
    server.wait_closed()


@fault(36)
@pytest.mark.parametrize("ending", [r.cut(), r.reset()], ids=["FIN", "RST"])
def test_an_early_end_is_no_end(ending: r.Part) -> None:
    early = serving(r.stream(r.role(), r.comment(), ending, framing="close"))
    check_way(early, moves_on("200 truncated", stream=True), says=BROKEN)
    late = serving(r.stream(r.role(), "one ", "two", r.pause(0.02), ending, framing="close"))
    ask = Ask([f"{A} 200 truncated"], "StreamInterruptedError", stream=True, timeouts=QUICK, partial="one two")
    check_way(late, ask, says=INTERRUPTED, after=After([A]))


@fault(36)
@STREAM
def test_a_whole_answer_until_the_connection_ends(stream: bool) -> None:
    way = serving(r.raw(OK + b"Connection: close\r\n\r\n" + GOOD))
    check_way(way, Ask([f"{A} 200 ok"], "good", stream=stream), says=FINE, after=After())


@fault(36)
def test_half_an_answer_until_the_connection_ends() -> None:
    check_way(serving(r.raw(OK + b"Connection: close\r\n\r\n" + GOOD[:-20])), moves_on("200 malformed"), says=BROKEN)


# --- 37 to 39: compression ---


def claimed(encoding: bytes, body: bytes = GOOD) -> r.Reply:
    return r.raw(response(body, b"Content-Encoding: " + encoding), keep=True)


@pytest.mark.parametrize(
    ("encoding", "code", "says"),
    [
        row(37, b"gzip", "truncated", BROKEN, name="gzip claimed"),
        row(37, b"x-gzip", "truncated", BROKEN, name="x-gzip claimed"),
        row(37, b"deflate", "unexpected_response", FOREIGN, name="deflate claimed"),
        row(37, b"br", "unexpected_response", FOREIGN, name="br claimed"),
        row(37, b"zstd", "unexpected_response", FOREIGN, name="zstd claimed"),
        row(37, b"rot13", "unexpected_response", FOREIGN, name="nonsense claimed"),
    ],
)
def test_a_compression_that_was_only_claimed(encoding: bytes, code: str, says: str) -> None:
    check_way(serving(claimed(encoding)), moves_on(f"200 {code}"), says=says)


@fault(37)
def test_a_compression_that_nobody_asked_for() -> None:
    check_way(serving(claimed(b"deflate", zlib.compress(GOOD))), moves_on("200 unexpected_response"), says=FOREIGN)


@fault(37)
def test_a_compressed_stream_is_none() -> None:
    """Streams are asked for as they are. Compressed ones nobody can read; those that only claim it, anybody."""
    events = (
        b'data: {"choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    )
    check_way(serving(claimed(b"gzip", gzip.compress(events))), moves_on("200 truncated", stream=True), says=BROKEN)
    check_way(serving(claimed(b"gzip", events)), Ask([f"{A} 200 ok"], "one", stream=True), says=FINE)


@cache
def bomb(layers: int) -> bytes:
    """200 MB of blanks, a few hundred KB or bytes."""
    if layers > 1:
        return gzip.compress(bomb(layers - 1))
    return gzip.compress(b" " * 200_000_000, compresslevel=1)


@fault(38)
def test_a_bomb_is_not_opened_beyond_the_cap(facade: Facade, server: FaultServer) -> None:
    server.script(A, claimed(b"gzip", bomb(1)))
    with facade(base_url=server.url, breaker=FAST) as caller:
        caller.complete(model=B)
        tracemalloc.start()
        try:
            trace = caller.ask(refused("response_too_large"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (trace.attempts, trace.gives) == ((f"{A} 200 response_too_large",), "ProtocolError")
        assert trace.details[0].startswith("fail blames local (neutral), responded, billing possible")
        assert peak < 2 * CAP + 8_000_000
        assert left(caller) == After()


@pytest.mark.parametrize(
    "encoding", [row(38, b"gzip, gzip", name="double-encoded bomb"), row(38, b"gzip,gzip,gzip", name="triple")]
)
def test_a_bomb_within_a_bomb_is_not_opened_at_all(encoding: bytes) -> None:
    check_way(serving(claimed(encoding, bomb(2))), moves_on("200 unexpected_response"), says=FOREIGN)


@fault(38)
def test_two_headers_of_encodings_count_both() -> None:
    reply = r.raw(response(bomb(2), b"Content-Encoding: gzip", b"Content-Encoding: gzip"), keep=True)
    check_way(serving(reply), moves_on("200 unexpected_response"), says=FOREIGN)


@pytest.mark.parametrize("cut", [row(39, 8), row(39, 1, name="gzip stream without its last byte")])
def test_a_compressed_answer_that_is_cut(cut: int) -> None:
    check_way(serving(claimed(b"gzip", gzip.compress(GOOD)[:-cut])), moves_on("200 truncated"), says=BROKEN)


# --- 40 to 42: not what was asked for ---


@fault(40)
@STREAM
@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_web_page(status: int, stream: bool) -> None:
    """Not one more model is asked of a host that is no API."""
    ask = Ask([f"{A} {status} not_an_api"], "ProtocolError", stream=stream, skipped=(B, C))
    way = serving(r.html(status))
    check_way(way, ask, says="next_gateway blames gateway (fail), responded, billing none", after=After(["gateway"]))


@fault(40)
@STREAM
def test_only_the_type_is_wrong(stream: bool) -> None:
    ask = Ask([f"{A} 200 ok"], f"Hello from {A}", stream=stream)
    check_way(serving(r.wrong_content_type()), ask, says=FINE, after=After())


@pytest.mark.parametrize("kind", [row(41, b"application/json"), row(41, b"text/event-stream", name="JSON, called SSE")])
def test_a_stream_answered_whole(facade: Facade, server: FaultServer, kind: bytes) -> None:
    server.script(A, r.raw(response(GOOD, b"Content-Type: " + kind), keep=True))
    with facade(base_url=server.url, breaker=FAST) as caller:
        reader = caller.stream(model=A)
        pieces = []
        while (chunk := reader.next()) is not None:
            pieces.append(chunk.text)
        assert [piece for piece in pieces if piece] == ["good"]
        completion = reader.stream.completion
        assert (completion.text, completion.choices[0].finish_reason) == ("good", "stop")
        assert left(caller) == After()
        caller.complete(model=B)
    assert server.connections_opened == 1


@pytest.mark.parametrize("kind", [row(42, "text/event-stream"), row(42, "application/json", name="SSE, called JSON")])
def test_a_whole_answer_streamed(kind: str) -> None:
    events = r.stream(r.role(), "one ", "two", r.end(), r.usage(), r.done(), headers={"Content-Type": kind})
    check_way(serving(events), moves_on("200 malformed"), says=BROKEN)


@fault(42)
def test_lines_of_json_are_no_answer() -> None:
    lines = b"\n".join(json.dumps({"n": n}).encode() for n in range(3))
    check_way(serving(r.raw(response(lines), keep=True)), moves_on("200 malformed"), says=BROKEN)
