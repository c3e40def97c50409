"""Faults 71 to 75, 77, 78, 82, 83, 90 to 92: what the bytes of an event stream may look like."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from routerkit import StreamInterruptedError
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.faults.catalogue import fault, row
from tests.faults.outcomes import After, Outcome, check_after, check_outcome, left
from tests.support.facades import AsyncCaller, SyncCaller
from tests.support.scenarios import A, Ask, Scenario

Facade = type[SyncCaller | AsyncCaller]

BOM = b"\xef\xbb\xbf"
DONE = b"data: [DONE]\n\n"


def chunk(content: str | None = None, finish_reason: str | None = None, **fields: Any) -> str:
    """A chunk's JSON; what is not ASCII stays as it is."""
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return json.dumps({"id": "gen-1", "model": A, "choices": choices, **fields}, ensure_ascii=False)


def says(content: str | None = None, finish_reason: str | None = None, **fields: Any) -> bytes:
    return f"data: {chunk(content, finish_reason, **fields)}\n\n".encode()


END = says(finish_reason="stop")
ONE, TWO = says("one "), says("two")


def apart(*pieces: bytes) -> r.Reply:
    """A stream whose pieces reach the client one by one, as far as a network lets them."""
    parts: list[r.Part | bytes] = []
    for piece in pieces:
        parts += [piece, r.pause(0.001)]
    return r.stream(*parts)


def cuts(data: bytes) -> Iterable[tuple[bytes, bytes]]:
    return ((data[:at], data[at:]) for at in range(1, len(data)))


def texts(caller: SyncCaller | AsyncCaller, server: FaultServer, *replies: r.Reply) -> list[str]:
    """The texts of these streams; each must come from its first attempt, chunk by chunk as in the completion."""
    found = []
    for reply in replies:
        server.script(A, reply)
        trace = caller.ask(Ask([], "", stream=True))
        assert trace.attempts == (f"{A} 200 ok",), trace
        found.append(trace.gives)
    return found


def check_text(reply: r.Reply, text: str) -> None:
    check_after(Scenario("a text", {A: [reply]}, [Ask([f"{A} 200 ok"], text, stream=True)]), After())


# --- 71: characters in pieces ---

TEXT = "é€😀 e\u0301 👩‍👩‍👧 🇩🇪 ß"


@fault(71)
def test_characters_may_be_split_at_every_byte(facade: Facade, server: FaultServer) -> None:
    raw = says(TEXT)
    start = raw.index("é".encode())
    stop = raw.index("ß".encode()) + 2
    split = [apart(raw[:at], raw[at:] + END + DONE) for at in range(start, stop + 1)]
    with facade(base_url=server.url) as caller:
        assert set(texts(caller, server, *split)) == {TEXT}


@fault(71)
@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_every_byte_may_come_by_itself(framing: Any) -> None:
    check_text(r.stream(says(TEXT), END, DONE, framing=framing, split=1), TEXT)


@fault(71)
def test_graphemes_may_be_split_over_chunks() -> None:
    check_text(r.stream(*[says(character) for character in TEXT], END, DONE), TEXT)


# --- 72, 73: ends of lines, and the mark at the beginning ---

LINES = f"data: {chunk('one ')}\n\n: comment\n\ndata: {chunk('two')}\n\n{END.decode()}{DONE.decode()}"


def with_ends(*ends: bytes) -> bytes:
    """The lines of an answer with these ends in turn."""
    lines = LINES.encode().split(b"\n")[:-1]
    return b"".join(line + ends[place % len(ends)] for place, line in enumerate(lines))


ENDS = {
    "LF": with_ends(b"\n"),
    "CR": with_ends(b"\r"),
    "CRLF": with_ends(b"\r\n"),
    "mixed": with_ends(b"\n", b"\r\n", b"\r\n", b"\n", b"\r\n"),
    "CR and CRLF": with_ends(b"\r", b"\r\n"),
}


@pytest.mark.parametrize("data", [row(72, data, name=name) for name, data in ENDS.items()])
@pytest.mark.parametrize("split", [None, 1, 7])
def test_every_end_of_a_line_is_one(data: bytes, split: int | None) -> None:
    check_text(r.stream(data, split=split), "one two")


@fault(72)
def test_an_end_of_a_line_may_be_split(facade: Facade, server: FaultServer) -> None:
    data = ENDS["CRLF"]
    places = [at for at in range(1, len(data)) if data[at - 1 : at + 1] == b"\r\n"]
    assert len(places) >= 8
    with facade(base_url=server.url) as caller:
        assert set(texts(caller, server, *[apart(data[:at], data[at:]) for at in places])) == {"one two"}


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        row(73, r.stream(BOM + ONE, TWO, END, DONE), "one two", name="at the start"),
        row(73, apart(BOM[:1], BOM[1:2], BOM[2:] + ONE, TWO + END + DONE), "one two", name="in pieces"),
        row(73, apart(BOM, ONE + TWO + END + DONE), "one two", name="by itself"),
        row(73, r.stream(ONE, says("\ufefftwo"), END, DONE), "one \ufefftwo", name="in a text"),
        row(73, r.stream(BOM + says("\ufeffone"), END, DONE), "\ufeffone", name="at the start and in a text"),
        # To the standard it is part of the field's name here, which nobody knows.
        row(73, r.stream(ONE, BOM + says("lost "), TWO, END, DONE), "one two", name="before a later line"),
        row(73, r.stream(BOM + BOM + says("lost "), TWO, END, DONE), "two", name="twice at the start"),
    ],
)
def test_a_byte_order_mark_is_stripped_once(reply: r.Reply, text: str) -> None:
    check_text(reply, text)


# --- 74, 75: fields ---

PRETTY = json.dumps(json.loads(chunk("two")), indent=1)


@pytest.mark.parametrize(
    "event",
    [
        row(74, f"data:{chunk('two')}", name="no space"),
        row(74, f"data:  {chunk('two')}", name="two spaces"),
        row(74, f"data:\t{chunk('two')}", name="a tab"),
        row(74, f"data:\n\ndata: {chunk('two')}", name="an event of empty data before"),
        row(74, f"data: {chunk('two')}\n\ndata: \n\ndata", name="events of empty data after"),
        row(74, f"data\ndata: {chunk('two')}", name="a field without colon in the event"),
        row(74, f"whatever\n\nevent\nid\nretry\ndata: {chunk('two')}", name="other fields without colon"),
        row(74, f"id: 7\nretry: 10\nx-new: y\ndata: {chunk('two')}", name="other fields"),
        row(74, f": {chunk('no')}\n:\ndata: {chunk('two')}", name="comments"),
        row(74, f"event: message\ndata: {chunk('two')}", name="a name of the event"),
        row(75, "\n".join(f"data: {line}" for line in PRETTY.split("\n")), name="a data line for each line"),
        row(75, f"data:\ndata: {chunk('two')}\ndata:", name="empty data lines around"),
        row(75, "data: {\n: a comment\ndata: " + chunk("two")[1:], name="a comment between two lines"),
    ],
)
def test_fields_are_read_by_the_standard(event: str) -> None:
    check_text(r.stream(ONE, f"{event}\n\n".encode(), END, DONE), "one two")


@fault(75)
def test_lines_are_joined_by_a_line_feed() -> None:
    """So a string cut by one is no JSON: a control character stands in it."""
    left_part, right_part = chunk("two").split("tw")
    ask = Ask([f"{A} 200 malformed"], "StreamInterruptedError", stream=True, partial="one ")
    reply = r.stream(ONE, f"data: {left_part}tw\ndata: {right_part}\n\n".encode(), END, DONE)
    check_after(Scenario("75", {A: [reply]}, [ask]), After([A]))


# --- 77, 78: without end, and too much ---


def flood(piece: bytes, first: bytes = b"", signal: r.Signal | None = None) -> r.Reply:
    """The first bytes; then, with the signal, the piece again and again, for as long as somebody takes it."""

    def reply(connection: Connection, _: RecordedRequest) -> None:
        connection.send(connection.head(200, {"Content-Type": "text/event-stream", "Connection": "close"}) + first)
        if signal is not None:
            connection.wait(signal)
        while True:
            connection.send(piece)

    return reply


FLOODS = {
    "blank lines": b"\n" * 65_536,
    "blank lines of CRLF": b"\r\n" * 32_768,
    "spaces": b" " * 65_536,
    "comments": b":\n" * 32_768,
    "one line": b"x" * 65_536,
    "one line of data": b"data: " + b"x" * 65_530,
    "an event of many lines": (b"data: " + b"x" * 1017 + b"\n") * 64,
    "unknown fields": b"x\n" * 32_768,
}
TOO_LARGE = Outcome("response_too_large", fed=False, error="ProtocolError")


@pytest.mark.parametrize("piece", [row(77, piece, name=name) for name, piece in FLOODS.items()])
def test_what_never_ends_is_ended(piece: bytes) -> None:
    check_outcome(flood(piece), TOO_LARGE, stream=True)


@pytest.mark.parametrize("piece", [row(77, piece, name=name) for name, piece in FLOODS.items()])
def test_what_never_ends_is_ended_after_content_too(facade: Facade, piece: bytes) -> None:
    signal = r.Signal()
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, flood(piece, ONE, signal))
        reader = caller.stream(model=A)
        assert reader.next() is not None
        signal.set()
        tracemalloc.start()
        try:
            with pytest.raises(StreamInterruptedError) as caught:
                reader.next()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (caught.value.code, caught.value.partial_text) == ("response_too_large", "one ")
        assert left(caller) == After()
        caller.until(server, lambda: not server.open_connections)
    assert peak < 48 * 1024 * 1024, f"{peak / 2**20:.0f} MiB held"


@pytest.mark.parametrize("piece", [row(77, FLOODS[name], name=name) for name in ("comments", "one line of data")])
def test_content_that_comes_together_with_too_much_is_not_lost(piece: bytes) -> None:
    """However a network cuts the bytes, they mean the same."""
    reply = flood(piece, ONE + piece)
    ask = Ask([f"{A} 200 response_too_large"], "StreamInterruptedError", stream=True, partial="one ")
    check_after(Scenario("77", {A: [reply]}, [ask]), After())


IMAGE = "x" * (5 * 1024 * 1024)


@fault(78)
def test_a_large_line_is_taken() -> None:
    image = {"index": 0, "delta": {"content": "seen", "images": [{"image_url": {"url": IMAGE}}]}}
    check_text(r.stream(ONE, f"data: {json.dumps({'choices': [image]})}\n\n".encode(), END, DONE), "one seen")


@fault(78)
def test_a_line_that_is_too_large_ends_the_call() -> None:
    line = says("x" * (9 * 1024 * 1024))
    check_outcome(r.stream(line, END, DONE), TOO_LARGE, stream=True)
    ask = Ask([f"{A} 200 response_too_large"], "StreamInterruptedError", stream=True, partial="one ")
    check_after(Scenario("78", {A: [r.stream(ONE, line, END, DONE)]}, [ask]), After())


# --- 82, 83: the end ---


@pytest.mark.parametrize(
    "closing",
    [
        row(82, [DONE, TWO], name="data after it"),
        row(82, [DONE, says("two", "error")], name="an error after it"),
        row(82, [DONE, b"data: {bad json\n\n"], name="nonsense after it"),
        row(82, [DONE, DONE], name="twice"),
        row(82, [b"data: [DONE] \n\n"], name="a space after it"),
        row(82, [b"data:[DONE]\n\n"], name="no space before it"),
        row(82, [b"data: [DONE]\r\n\r\n", TWO], name="CRLF"),
    ],
)
@pytest.mark.parametrize("finish", [b"", END], ids=["no finish reason", "finish reason"])
def test_nothing_after_the_end_is_looked_at(closing: Sequence[bytes], finish: bytes) -> None:
    once = Ask([f"{A} 200 ok"], "one ", stream=True)
    check_after(Scenario("82", {A: [r.stream(ONE, finish, *closing)]}, [once, once]), After())


@fault(82)
def test_a_connection_that_goes_on_after_the_end_is_not_used_again(facade: Facade, server: FaultServer) -> None:
    signal = r.Signal()
    server.script(A, r.stream(ONE, END, DONE, r.pause(signal), TWO, DONE), r.completion())
    with facade(base_url=server.url) as caller:
        assert caller.ask(Ask([], "", stream=True)).gives == "one "
        caller.until(server, lambda: not server.open_connections)
        assert caller.ask(Ask([], "", stream=True)).gives == f"Hello from {A}"
        signal.set()
    assert [request.connection for request in server.chat_requests] == [0, 1]


@pytest.mark.parametrize(
    "last",
    [
        row(83, END[:-1], name="the finish reason, an end of line missing"),
        row(83, END[:-2], name="the finish reason, both missing"),
        row(83, END[:-9], name="half of the finish reason"),
        row(83, TWO[:-1], name="a text"),
        row(83, DONE[:-1], name="[DONE]"),
    ],
)
@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_an_unfinished_event_at_the_end_is_none(last: bytes, framing: Any) -> None:
    cut = r.stream(ONE, last, framing=framing)
    broken = Ask([f"{A} 200 truncated"], "StreamInterruptedError", stream=True, partial="one ")
    check_after(Scenario("83", {A: [cut]}, [broken]), After([A]))
    check_outcome(r.stream(last, framing=framing), Outcome("truncated"), stream=True)


@fault(83)
def test_an_unfinished_event_after_the_end_does_not_matter() -> None:
    check_text(r.stream(ONE, END, TWO[:-1]), "one ")
    check_text(r.stream(ONE, END, DONE[:-1]), "one ")


# --- 90 to 92 ---

COUNTS = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost": 0.5}


@pytest.mark.parametrize(
    "closing",
    [
        row(90, [END, says(choices=[], usage=COUNTS), DONE], name="before [DONE]"),
        row(90, [END, says(choices=[], usage=COUNTS)], name="without [DONE]"),
        row(90, [says(choices=[], usage=COUNTS), END, DONE], name="before the finish reason"),
        row(90, [END, says(choices=None, usage=COUNTS), DONE], name="choices null"),
        row(90, [END, says("", usage=COUNTS), DONE], name="with an empty delta"),
        row(90, [END, says(choices=[], usage=COUNTS), says(choices=[], usage=None), DONE], name="usage null after it"),
    ],
)
def test_usage_in_a_chunk_of_its_own_counts(facade: Facade, server: FaultServer, closing: Sequence[bytes]) -> None:
    server.script(A, r.stream(ONE, *closing))
    with facade(base_url=server.url) as caller:
        reader = caller.stream(model=A)
        while reader.next() is not None:
            pass
        completion = reader.stream.completion
        assert (completion.usage.total_tokens, str(completion.cost)) == (12, "0.5")
        assert completion.flags == ()
        assert left(caller) == After()


ERRORS = [
    row(91, 'event: error\ndata: {"error": {"code": 503, "message": "busy"}}', "overloaded", name="a number"),
    row(
        91,
        'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}',
        "overloaded",
        name="Anthropic's",
    ),
    row(91, 'event: error\ndata: {"object": "error", "message": "busy", "code": 503}', "overloaded", name="vLLM's"),
    row(91, 'data: {"error": "busy"}', "server_error", name="a text"),
]


@pytest.mark.parametrize(("event", "code"), ERRORS)
def test_an_error_event_is_an_error(event: str, code: str) -> None:
    data = f"{event}\n\n".encode()
    billing = "none" if code == "overloaded" else "possible"
    check_outcome(r.stream(r.role(), data), Outcome(code, billing=billing), stream=True)
    broken = Ask([f"{A} 200 {code}"], "StreamInterruptedError", stream=True, partial="one ")
    check_after(Scenario("91", {A: [r.stream(ONE, data)]}, [broken]), After([A]))


PINGS = ['event: ping\ndata: {"type": "ping"}', "event: ping", "event: ping\ndata:", ": ping", "event: ping\ndata: {}"]


@pytest.mark.parametrize("ping", [row(91, ping, name=ping) for ping in PINGS])
def test_a_ping_says_nothing(ping: str) -> None:
    data = f"{ping}\n\n".encode()
    check_text(r.stream(data, ONE, data, TWO, data, END, DONE), "one two")
    # No answer by itself, either.
    check_outcome(r.stream(r.role(), data, data, r.cut()), Outcome("truncated"), stream=True)


ODD = "one\u2028two\u2029three\u0085four\u0000five\rsix\nseven\x0beight\x0cnine\x1cten\u200b\ufeff\ud7ff\ufffd"


@pytest.mark.parametrize("ascii_only", [row(92, True, name="escaped"), row(92, False, name="as they are")])
@pytest.mark.parametrize("split", [None, 1])
def test_no_character_of_a_text_ends_a_line(ascii_only: bool, split: int | None) -> None:
    event = json.dumps(json.loads(chunk(ODD)), ensure_ascii=ascii_only)
    check_text(r.stream(f"data: {event}\n\n".encode(), END, DONE, split=split), ODD)
