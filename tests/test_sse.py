"""The event-stream decoder against the standard: its examples, its text read slowly, any cut of the bytes."""

from __future__ import annotations

import pickle
import random

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from routerkit.core.sse import SSEDecoder, SSELimitError

BOM = b"\xef\xbb\xbf"


def decode(*feeds: bytes) -> list[bytes]:
    decoder = SSEDecoder()
    return [event for data in feeds for event in decoder.feed(data)]


def bytewise(data: bytes) -> list[bytes]:
    return decode(*(data[i : i + 1] for i in range(len(data))))


# --- an outside judge: WHATWG HTML §9.2.5 and §9.2.6, sentence by sentence, whole input at once ---


def reference_lines(data: bytes) -> list[bytes]:
    """Finished lines only: what follows the last line end is no line yet."""
    lines, line, i = [], bytearray(), 0
    while i < len(data):
        if data[i] in b"\r\n":
            i += 2 if data[i : i + 2] == b"\r\n" else 1
            lines.append(bytes(line))
            line.clear()
        else:
            line.append(data[i])
            i += 1
    return lines


def reference(data: bytes) -> list[bytes]:
    events, buffer = [], b""
    for line in reference_lines(data[3:] if data[:3] == BOM else data):
        if line == b"":
            if buffer != b"":
                events.append(buffer[:-1] if buffer[-1:] == b"\n" else buffer)
            buffer = b""
        elif line[:1] == b":":
            pass
        else:
            field, _, value = line.partition(b":")
            if field == b"data":
                buffer += (value[1:] if value[:1] == b" " else value) + b"\n"
    return events


# --- examples --------------------

EXAMPLES = {
    # The standard's own four examples.
    "stock": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [b"YHOO\n+2\n10"]),
    "four blocks": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
        [b"first event", b"second event"],
    ),
    "two empty, last unfinished": (b"data\n\ndata\ndata\n\ndata:", [b"", b"\n"]),
    "space or none": (b"data:test\n\ndata: test\n\n", [b"test", b"test"]),
    # Line ends.
    "LF": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "CR": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "CRLF, an event of two lines": (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
    "mixed": (b"data: a\r\n\rdata: b\n\r\n", [b"a", b"b"]),
    "LF CR is two line ends": (b"data: a\n\rdata: b\n\n", [b"a", b"b"]),
    "CR LF LF": (b"data: a\r\n\n", [b"a"]),
    "other separators are text": (
        "data: a\u2028b\x85c\x0bd\x0ce\0f\n\n".encode(),
        ["a\u2028b\x85c\x0bd\x0ce\0f".encode()],
    ),
    # Byte order mark.
    "BOM at the start": (BOM + b"data: a\n\n", [b"a"]),
    "BOM twice": (BOM + BOM + b"data: a\n\ndata: b\n\n", [b"b"]),
    "BOM later": (b"data: a\n\n" + BOM + b"data: b\n\n", [b"a"]),
    "BOM in a value": (b"data: " + BOM + b"a\n\n", [BOM + b"a"]),
    "BOM cut short": (BOM[:2] + b"data: a\n\ndata: b\n\n", [b"b"]),
    "BOM alone": (BOM, []),
    # Fields.
    "two spaces": (b"data:  a\n\n", [b" a"]),
    "tab is no space": (b"data:\ta\n\n", [b"\ta"]),
    "colon in value": (b"data:: a:b\n\n", [b": a:b"]),
    "trailing space kept": (b"data: [DONE] \n\n", [b"[DONE] "]),
    "no colon": (b"data\n\n", [b""]),
    "empty value": (b"data:\n\n", [b""]),
    "empty value after space": (b"data: \n\n", [b""]),
    "empty lines joined": (b"data:\ndata: a\ndata\n\n", [b"\na\n"]),
    "unknown field": (b"datax: a\ndata : b\n data: c\nDATA: d\nfoo\n\n", []),
    "other fields": (b"event: ping\nid: 1\0\nretry: x\ndata: a\n\n", [b"a"]),
    "event without data": (b"event: ping\n\ndata: a\n\n", [b"a"]),
    "comment": (b": OPENROUTER PROCESSING\n\n:\n\ndata: a\n\n", [b"a"]),
    "comment within an event": (b"data: a\n: data: x\ndata: b\n\n", [b"a\nb"]),
    "not UTF-8": (b"data: \xff\xc3\n\n", [b"\xff\xc3"]),
    # Ends.
    "blank lines": (b"\n\n\ndata: a\n\n\n\ndata: b\n\n\n", [b"a", b"b"]),
    "unfinished event": (b"data: a\n\ndata: b\n", [b"a"]),
    "unfinished line": (b"data: a\n\ndata: b", [b"a"]),
    "no input": (b"", []),
    # Almost the fast path.
    "second line in the middle": (b"data: a\n\ndata: b\ndata: c\n\ndata: d\n\n", [b"a", b"b\nc", b"d"]),
    "blank line too many": (b"data: a\n\n\ndata: b\n\n", [b"a", b"b"]),
    "space missing in the middle": (b"data: a\n\ndata:b\n\ndata: c\n\n", [b"a", b"b", b"c"]),
    "comment first in the middle": (b"data: a\n\n: x\n\ndata: b\n\n", [b"a", b"b"]),
    "comment last in the middle": (b"data: a\n: x\n\ndata: b\n\n", [b"a", b"b"]),
    "one line end too few": (b"data: a\n\ndata: b\ndata: c\n", [b"a"]),
    "as many line ends, otherwise": (b"data: a\nx\n\n\ndata: b\n\n", [b"a", b"b"]),
}


@pytest.mark.parametrize(("data", "events"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_examples(data: bytes, events: list[bytes]) -> None:
    assert decode(data) == events
    assert bytewise(data) == events
    assert reference(data) == events


@pytest.mark.parametrize(("data", "events"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_examples_cut_in_two(data: bytes, events: list[bytes]) -> None:
    for cut in range(len(data) + 1):
        assert decode(data[:cut], b"", data[cut:]) == events


# --- properties --------------------

LINES = st.sampled_from(
    [
        b"",
        b"data: x",
        b'data: {"choices": [{"delta": {"content": "a"}}]}',
        b"data: data: y",
        b"data:",
        b"data: ",
        b"data:  z",
        b"data:w",
        b"data",
        b"data: \xf0\x9f\x98\x80",
        b"dat",
        b"datax: a",
        b"event: message",
        b"id: 1",
        b"retry: 10",
        b"other",
        b":",
        b": comment",
        b":data: no",
        b" data: no",
        BOM,
        BOM + b"data: bom",
        BOM[:2],
    ]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n"])
LF_ENDS = st.sampled_from([b"\n", b"\n\n", b"\n\n"])
LAST = st.sampled_from([b"", b"data: unfinished", b"\r", b": x", BOM])


def streams_of(ends: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    body = st.lists(st.tuples(LINES, ends).map(b"".join), max_size=12).map(b"".join)
    return st.builds(lambda *parts: b"".join(parts), st.sampled_from([b"", BOM, BOM + BOM, BOM[:1]]), body, LAST)


# The likely bytes one by one reach what whole lines do not; plain events in number reach the fast path.
SOUP = st.text("dat: \n\rx\xef\xbb\xbf").map(lambda text: text.encode("latin-1"))
PLAIN = st.lists(st.binary(max_size=8).map(lambda b: b"data: " + b.translate(None, b"\r\n") + b"\n\n")).map(b"".join)
STREAMS = st.one_of(streams_of(ENDS), streams_of(LF_ENDS), SOUP, PLAIN, st.binary(max_size=64))


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    data = draw(STREAMS)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(STREAMS)
@example(b"data: a\n\ndata: b")
def test_equals_the_reference(data: bytes) -> None:
    assert decode(data) == reference(data)


@given(cut_streams())
def test_any_cut_gives_the_same_events(feeds: list[bytes]) -> None:
    data = b"".join(feeds)
    assert decode(*feeds) == bytewise(data) == reference(data)


@given(cut_streams())
def test_the_fast_path_changes_nothing(feeds: list[bytes]) -> None:
    careful = SSEDecoder()
    careful._fast_limit = -1
    assert [event for data in feeds for event in careful.feed(data)] == decode(*feeds)


@given(cut_streams())
def test_diagnostics_do_not_depend_on_cuts(feeds: list[bytes]) -> None:
    whole, pieces = SSEDecoder(), SSEDecoder()
    data = b"".join(feeds)
    whole.feed(data)
    for piece in feeds:
        pieces.feed(piece)
    assert (whole.pending, whole.comments) == (pieces.pending, pieces.comments)
    text = data.removeprefix(BOM)
    assert whole.comments == sum(line[:1] == b":" for line in reference_lines(text))


def raises_limit(feeds: list[bytes], **caps: int) -> bool:
    decoder = SSEDecoder(**caps)
    try:
        for data in feeds:
            decoder.feed(data)
    except SSELimitError:
        return True
    return False


@given(
    cut_streams(),
    st.fixed_dictionaries(
        {
            "max_line": st.integers(0, 20),
            "max_event": st.integers(0, 20),
            "max_stream": st.integers(0, 200),
            "max_comments": st.integers(0, 3),
        }
    ),
)
def test_whether_a_cap_is_hit_does_not_depend_on_cuts(feeds: list[bytes], caps: dict[str, int]) -> None:
    data = b"".join(feeds)
    assert raises_limit(feeds, **caps) == raises_limit([data], **caps)
    assert raises_limit(feeds, **caps) == raises_limit([data[i : i + 1] for i in range(len(data))], **caps)


@given(STREAMS)
def test_line_and_event_caps_are_inclusive(data: bytes) -> None:
    data += b"\n\n"
    events, lines = reference(data), reference_lines(data.removeprefix(BOM))
    assume(events)
    longest, largest = max(map(len, lines)), max(map(len, events))
    assert not raises_limit([data], max_line=longest, max_event=largest)
    assert raises_limit([data], max_line=longest - 1)
    assert raises_limit([data], max_event=largest - 1)


# --- caps --------------------

CAPS = {
    "line, unfinished": ("max_line", 10, b"data: 5678", b"9"),
    "line, finished": ("max_line", 10, b"data: 5678\n\n", b"data: 56789\n\n"),
    "line of no field": ("max_line", 10, b"x" * 10 + b"\r", b"x" * 11 + b"\r"),
    "comment line": ("max_line", 10, b":" * 10 + b"\n", b":" * 11 + b"\n"),
    "event, one line": ("max_event", 4, b"data: 1234\n\n", b"data: 12345\n\n"),
    "event, two lines": ("max_event", 5, b"data: 12\ndata: 45\n\n", b"data: 123\ndata: 56\n\n"),
    "event, line by line": ("max_event", 4, b"data: 12\n", b"data: 45\n"),
    "event of empty lines": ("max_event", 3, b"data\n" * 4 + b"\n", b"data\n" * 5),
    "stream": ("max_stream", 20, b"data: 1\n\ndata: 2\n\n\n\n", b"\n"),
    "stream, with BOM": ("max_stream", 12, BOM + b"data: 1\n\n", b"\n"),
    "stream of blank lines": ("max_stream", 100, b"\n" * 100, b"\n"),
    "comments": ("max_comments", 3, b": x\n\n" * 3, b":\n"),
    "comments after an event": ("max_comments", 1, b":\ndata: a\n\n:\n", b":\n"),
    "comments after several events": (
        "max_comments",
        1,
        b":\n" + b"data: a\n\n" * 3 + b"data\n\n:\n",
        b":\n",
    ),
    "blank lines": ("max_comments", 1, b"\n" * 10, b"\n"),
    "fields that mean nothing": ("max_comments", 2, b"event: x\n" * 20, b"id: 1\n"),
    "blank lines after a comment": ("max_comments", 1, b"\n" * 9 + b":\n" + b"\n" * 10, b"\n"),
    "blank lines after an event": ("max_comments", 1, b"\n" * 9 + b"data: a\n\n" + b"\n" * 10, b"\n"),
    "comments around a line": ("max_comments", 2, b":\ndata: a\n:\n", b":\n"),
    "comments around an empty event": ("max_comments", 2, b":\n\nevent: x\n\n:\n", b":\n"),
}


@pytest.mark.parametrize(("cap", "limit", "fits", "breaks"), CAPS.values(), ids=CAPS.keys())
def test_caps(cap: str, limit: int, fits: bytes, breaks: bytes) -> None:
    decoder = SSEDecoder(**{cap: limit})
    decoder.feed(fits)
    with pytest.raises(SSELimitError, match=f"{cap}={limit}") as caught:
        decoder.feed(breaks)
    assert (caught.value.cap, caught.value.limit) == (cap, limit)


def test_an_event_resets_the_run_of_comments_on_the_fast_path() -> None:
    decoder = SSEDecoder(max_comments=1)
    for _ in range(3):
        assert decoder.feed(b": wait\n\n") == []
        assert decoder.feed(b"data: a\n\n") == [b"a"]
        assert decoder.feed(b": wait\n\n") == []
        assert decoder.feed(b"data: a\n\ndata: b\n\n") == [b"a", b"b"]
    assert decoder.comments == 6


BEFORE = {
    "stream": ("max_stream", 9, b"data: a\n\ndata: b\n\n"),
    "line, unfinished": ("max_line", 10, b"data: a\n\ndata: 56789"),
    "line, finished": ("max_line", 10, b"data: a\n\ndata: 56789\n\ndata: b\n\n"),
    "event": ("max_event", 4, b"data: a\n\ndata: 12345\n\ndata: b\n\n"),
    "comments": ("max_comments", 1, b"data: a\n\n:\n:\ndata: b\n\n"),
}


@pytest.mark.parametrize(("cap", "limit", "data"), BEFORE.values(), ids=BEFORE.keys())
def test_what_came_before_the_cap_is_not_lost(cap: str, limit: int, data: bytes) -> None:
    with pytest.raises(SSELimitError, match=cap) as caught:
        SSEDecoder(**{cap: limit}).feed(data)
    assert caught.value.events == [b"a"]


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_the_shape_of_nearly_every_read_takes_the_fast_path(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(SSEDecoder, "_by_line")
    assert decode(b'data: {"n": 1}\n\n' * count) == [b'{"n": 1}'] * count


def test_default_caps() -> None:
    line = b"data: " + b"x" * (8 * 1024 * 1024 - 6)
    assert decode(line + b"\n\n") == [line[6:]]
    with pytest.raises(SSELimitError, match="max_line=8388608"):
        decode(line + b"x\n\n")
    with pytest.raises(SSELimitError, match="max_event=8388608"):
        decode(b"data: " + b"x" * 4_194_304 + b"\n", b"data: " + b"x" * 4_194_304 + b"\n")
    with pytest.raises(SSELimitError, match="max_stream=67108864") as caught:
        decode(*[b"data: " + b"x" * 1_000_000 + b"\n\n"] * 67, b"data: a\n\n" * 15_000)
    assert caught.value.events.count(b"a") == len(caught.value.events) > 10_000  # those of the same feed
    with pytest.raises(SSELimitError, match="max_comments=10000"):
        decode(b":\n" * 10_001)
    for idle in (b"\n", b"event: ping\n"):
        with pytest.raises(SSELimitError, match="max_comments=10000"):
            decode(b"data: x\n\n" + idle * 100_001)
    assert decode(*[b": busy\n\n" * 9_000, b"data: x\n\n", b"\n" * 9_000]) == [b"x"]


def test_the_error_is_a_value_error_and_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(SSELimitError("max_line", 5)))
    assert isinstance(error, ValueError)
    assert (error.cap, error.limit, str(error)) == ("max_line", 5, "event stream exceeds max_line=5")
    assert error.args == ("max_line", 5)


# --- what is held between feeds --------------------


@pytest.mark.parametrize(
    ("data", "pending"),
    [
        (b"", False),
        (BOM[:2], True),
        (BOM, False),
        (b"d", True),
        (b": waiting", True),
        (b": waiting\n", False),
        (b"event: x\n", False),
        (b"data\n", True),
        (b"data: a\n", True),
        (b"data: a\r", True),
        (b"data: a\r\r", False),
        (b"data: a\n\n", False),
        (b"data: a\n\nd", True),
    ],
)
def test_pending(data: bytes, pending: bool) -> None:
    decoder = SSEDecoder()
    decoder.feed(data)
    assert decoder.pending is pending


def test_a_long_line_in_single_bytes_is_appended_to_not_rebuilt() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"data: ")
    held = decoder._line
    for _ in range(200_000):
        assert decoder.feed(b"x") == []
    assert decoder._line is held
    assert decoder.feed(b"\n\n") == [b"x" * 200_000]
    assert not decoder.pending


def test_an_event_of_many_lines_is_appended_to_not_rebuilt() -> None:
    decoder = SSEDecoder()
    held = decoder._event
    for _ in range(100_000):
        assert decoder.feed(b"data: x\n") == []
    assert decoder._event is held
    assert decoder.feed(b"\n") == [b"\n".join([b"x"] * 100_000)]
    assert not decoder.pending


def test_a_large_batch_in_reads_of_any_size() -> None:
    events = [b'{"n": %d, "pad": "%s"}' % (n, b"x" * (n % 300)) for n in range(3_000)]
    for end in (b"\n", b"\r", b"\r\n"):
        stream = b"".join(b"data: " + event + end * 2 for event in events)
        rng, feeds = random.Random(7), []
        while stream:
            size = rng.choice([1, 7, 100, 1460, 65536])
            feeds.append(stream[:size])
            stream = stream[size:]
        assert decode(*feeds) == events
