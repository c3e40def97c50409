"""Any bytes a gateway can send, in any pieces: the same events, bounded memory, a verdict, never an exception."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from routerkit.core.answer import judge
from routerkit.core.effects import HttpResponse, StreamResponse
from routerkit.core.failure import api_error, parse_json, response_signal
from routerkit.core.intake import Intake
from routerkit.core.sse import SSEDecoder, SSELimitError
from routerkit.core.verdict import Signal, classify
from routerkit.core.verdict_table import VERDICTS
from routerkit.types.route import Target
from routerkit.types.verdict import Action
from tests.properties.worlds import some

TARGET = Target("gateway", "a/one")

FRAGMENTS = [
    b"data: ",
    b"data:",
    b"data\n",
    b"\n",
    b"\n\n",
    b"\r",
    b"\r\n",
    b"\r\n\r\n",
    b": PROCESSING\n\n",
    b"event: error\n",
    b"id: 1\n",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xff",
    b" ",
    b"[DONE]",
    b"data: [DONE]\n\n",
    b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n',
    'data: {"choices":[{"delta":{"content":"Grüße, \u2028 Welt"}}]}\n\n'.encode(),
    b'data: {"choices":[{"delta":{"reasoning":"hm"}}]}\r\n\r\n',
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"error"}],"error":{"code":502}}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
    b'data: {"error":{"code":429,"message":"slow down"}}\n\n',
    b'data: {"choices":[{"delta":{"content":\ndata: "two lines"}}]}\n\n',
    b"data: {nonsense}\n\n",
    b"data: 5\n\n",
    b'{"choices":[{"message":{"content":"whole"},"finish_reason":"stop"}]}',
    b'{"error":{"code":"rate_limit_exceeded"}}',
    b"<html>",
    b"x" * 40,
]
STREAMS = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=6), max_size=12).map(b"".join)


@st.composite
def cut(draw: st.DrawFn) -> list[bytes]:
    """A stream in pieces, none of them empty: that would be its end."""
    data = draw(STREAMS)
    places = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=8)))
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    return [piece for piece in pieces if piece]


def taken_in(pieces: list[bytes], status: int = 200) -> tuple[Any, ...]:
    """What the core makes of a stream: its chunks, whether it is committed, finished, done, how it failed."""
    intake = _intake(status)
    chunks: list[Any] = []
    for piece in [*pieces, b""]:
        if not intake.over:
            intake.feed(piece, 0.0)
            chunks += [chunk.raw for chunk in intake.taken()]
    failed = intake.failed
    verdict = None if failed is None else classify(failed)
    return chunks, intake.committed, intake.finished, intake.done, verdict, failed and failed.body


def _intake(status: int) -> Intake:
    class Started:
        started = 0.0

    class Trial:
        admission = Started()

    response = StreamResponse(status, {"content-type": "text/event-stream"}, None)
    return Intake(Trial(), response, lambda **fields: Signal(wall=0.0, **fields))  # type: ignore[arg-type]


@some(2)
@given(cut(), st.sampled_from([200, 200, 200, 429, 500]))
def test_any_cuts_of_a_stream_are_taken_in_alike(pieces: list[bytes], status: int) -> None:
    """However the bytes of an answer are cut into reads: the same chunks, the same commitment, the same ending."""
    whole = b"".join(pieces)
    assert taken_in(pieces, status) == taken_in([whole] if whole else [], status)
    assert taken_in([bytes([byte]) for byte in whole], status) == taken_in(pieces, status)


@some(1)
@given(cut(), st.integers(1, 60), st.integers(1, 60))
def test_what_is_held_between_reads_is_bounded(pieces: list[bytes], max_line: int, max_event: int) -> None:
    """Between two reads the decoder holds no more than one line and one event of the sizes it was allowed."""
    decoder = SSEDecoder(max_line=max_line, max_event=max_event)
    try:
        for piece in pieces:
            decoder.feed(piece)
            assert len(decoder._line) <= max(max_line, 2)  # two bytes may be the beginning of a byte order mark
            assert len(decoder._event) <= max_event + 1
    except SSELimitError:
        pass


_WORDS = st.sampled_from(
    [
        "error",
        "code",
        "message",
        "metadata",
        "availability",
        "retryable",
        "choices",
        "delta",
        "finish_reason",
        "type",
        "x",
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=10,
).map(lambda value: json.dumps(value).encode())


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON, JSON with bytes of it changed, and bytes."""
    data = bytearray(draw(_JSON | _JSON | st.binary(max_size=30)))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


_HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset", "date", "content-type", "x-request-id"]),
    st.text(max_size=20),
)


@some(1)
@given(st.integers(-1, 1000), bodies(), _HEADERS, st.floats())
def test_every_answer_has_a_verdict(status: int, body: bytes, headers: dict[str, str], wall: float) -> None:
    """Any status, any bytes and any headers give a verdict and an error for people, without an exception; only a 200 that holds
    an answer is one."""
    ending = judge(parse_json(body)) if status == 200 else None
    signal = response_signal(HttpResponse(status, headers, body), wall, ending=ending)
    verdict = classify(signal)
    assert verdict.code in VERDICTS
    assert verdict.action is not Action.RETURN or status == 200
    assert str(api_error(verdict, signal, TARGET)).isprintable()
