"""Server-sent events: bytes as they come off the wire in, finished ``data`` payloads out.

Here lives the framing of WHATWG HTML §9.2.5 (grammar) and §9.2.6 (interpretation), and the caps that bound
it. Nothing here reads a socket, knows a clock or looks inside a payload. Drive it with one decoder per
response::

    decoder = SSEDecoder()
    for piece in body:  # whatever a read returned, cut anywhere
        for payload in decoder.feed(piece):
            ...  # b'{"choices": ...}' or b'[DONE]'

There is no flush: an event that the end of input leaves without its blank line is discarded, as the standard
says.

Theory of operation: every line end becomes LF, the unfinished last line is set aside, and what is left are
whole lines. When they are nothing but ``data: ...`` events of one line each (nearly every read from a
gateway), one ``bytes.split`` yields them all; anything else goes line by line. Only new bytes are ever
searched.
"""

from __future__ import annotations

BOM = b"\xef\xbb\xbf"
_IDLE_PER_COMMENT = 10  # a comment may come with its blank line, and with fields that mean nothing here
_LF, _CR = b"\n\r"  # as numbers: `13 in data` is ten times as fast as `b"\r" in data`


class SSELimitError(ValueError):
    """A stream grew past a cap.

    ``cap`` names the argument of ``SSEDecoder``, ``limit`` is its size: bytes, or lines for ``max_comments``.
    ``events`` are those that the same ``feed`` completed before.
    """

    def __init__(self, cap: str, limit: int, events: list[bytes] | None = None) -> None:
        super().__init__(cap, limit)
        self.cap = cap
        self.limit = limit
        self.events = events or []

    def __str__(self) -> str:
        return f"event stream exceeds {self.cap}={self.limit}"


class SSEDecoder:
    """Incremental decoder of one event stream; any cut of the same bytes into feeds gives the same events.

    Only ``data`` is kept; ``event``, ``id``, ``retry`` and unknown fields are ignored, because LLM gateways
    say everything in ``data``. Payloads stay bytes, undecoded: the JSON parser rejects invalid UTF-8, where
    a decoder here could only hide it behind U+FFFD or stumble over a code point cut in two.

    Caps, in bytes and inclusive: ``max_line`` one line without its end, ``max_event`` the payload of one
    event, ``max_stream`` everything fed.  ``max_comments`` is the number of comment lines in a row with no
    event between, and a tenth of that of blank lines and other fields. Memory held between feeds stays near
    ``max_line + max_event``.

    ``comments`` counts all comment lines so far (keep-alives, not progress).
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_comments_in_row",
        "_event",
        "_fast_limit",
        "_fed",
        "_idle_in_row",
        "_line",
        "_max_comments",
        "_max_event",
        "_max_line",
        "_max_stream",
        "comments",
    )

    def __init__(
        self,
        *,
        max_line: int = 8 * 1024 * 1024,
        max_event: int = 8 * 1024 * 1024,
        max_stream: int = 64 * 1024 * 1024,
        max_comments: int = 10_000,
    ) -> None:
        self._max_line = max_line
        self._max_event = max_event
        self._max_stream = max_stream
        self._max_comments = max_comments
        self._fast_limit = min(max_line, max_event)
        self._fed = 0
        self._at_start = True
        self._after_cr = False
        self._line = bytearray()  # the unfinished line
        self._event = bytearray()  # values of the unfinished event, each followed by LF
        self._comments_in_row = 0
        self._idle_in_row = 0  # blank lines that end no event, and lines that mean nothing
        self.comments = 0

    @property
    def pending(self) -> bool:
        """Whether the end of input would now discard an unfinished line or event."""
        return bool(self._line or self._event)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the ``data`` payload of every event that these bytes complete, oldest first.

        Lines of one event are joined by LF. An event with empty ``data`` yields ``b""``; one without any
        ``data`` field yields nothing. Raises ``SSELimitError`` past a cap, with the events completed before; the
        decoder is of no further use then.
        """
        self._fed += len(data)
        if self._fed > self._max_stream:
            events = self._decode(data[: self._max_stream - self._fed])
            raise SSELimitError("max_stream", self._max_stream, events)
        return self._decode(data)

    def _decode(self, data: bytes) -> list[bytes]:
        if self._at_start and not (data := self._skip_bom(data)):
            return []
        if _CR in data or self._after_cr:
            data = self._to_lf(data)
        if self._line or not data or data[-1] != _LF:
            data = self._whole_lines(data)
        if not data:
            events = []
        elif self._event or data[:6] != b"data: " or len(data) > self._fast_limit:
            events = self._by_line(data)
        else:
            events = self._by_split(data) or self._by_line(data)
        if len(self._line) > self._max_line:
            raise SSELimitError("max_line", self._max_line, events)
        return events

    def _skip_bom(self, data: bytes) -> bytes:
        """Strip the one leading BOM; until it is decided whether there is one, hold the bytes back."""
        head = bytes(self._line) + data
        self._line.clear()
        self._at_start = len(head) < len(BOM) and BOM.startswith(head)
        if self._at_start:
            self._line += head
            return b""
        return head.removeprefix(BOM)

    def _to_lf(self, data: bytes) -> bytes:
        """Turn CR and CRLF into LF; a CR ends its line at once, an LF that opens the next feed is dropped."""
        if not data:
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _whole_lines(self, data: bytes) -> bytes:
        """Return the lines finished by now, the one begun earlier first; keep the unfinished rest."""
        cut = data.rfind(_LF) + 1
        whole = b""
        if cut:
            # A view, so that a large read is copied once, not twice.
            whole = b"".join((self._line, memoryview(data)[:cut]))
            self._line.clear()
        self._line += data[cut:]
        return whole

    def _by_split(self, data: bytes) -> list[bytes]:
        """Interpret whole lines of which the first begins ``data: ``; nothing if the shape is another.

        The shape: every event is one ``data: `` line and one blank line.
        """
        if data.find(_LF) == len(data) - 2:
            events = [data[6:-2]]
        else:
            events = data.split(b"\n\ndata: ")
            # Two LF per event: so none is left over for a second line or for a blank line on its own.
            if data[-2:] != b"\n\n" or data.count(_LF) != 2 * len(events):
                return []
            events[0] = events[0][6:]
            events[-1] = events[-1][:-2]
        self._comments_in_row = self._idle_in_row = 0
        return events

    def _by_line(self, data: bytes) -> list[bytes]:
        """Interpret whole lines one by one: any input, at a few times the cost of the split."""
        events: list[bytes] = []
        try:
            self._interpret(data, events)
        except SSELimitError as error:
            error.events = events
            raise
        return events

    def _interpret(self, data: bytes, events: list[bytes]) -> None:
        values: list[bytes] = []
        long = len(data) > self._max_line
        lines = data.split(b"\n")
        lines.pop()  # what follows the last LF: nothing
        for line in lines:
            if long and len(line) > self._max_line:
                raise SSELimitError("max_line", self._max_line)
            if line[:5] == b"data:":
                values.append(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and (values or self._event):
                events.append(self._dispatch(values))
                values = []
            elif line[:1] == b":":
                self._comment()
            elif line == b"data":
                values.append(b"")
            else:
                self._idle()
        self._keep(values)

    def _keep(self, values: list[bytes]) -> None:
        if values:
            self._event += b"\n".join(values)
            self._check_event(len(self._event))
            self._event += b"\n"

    def _dispatch(self, values: list[bytes]) -> bytes:
        if self._event:
            self._keep(values)
            self._event.pop()
            payload = bytes(self._event)
            self._event.clear()
        else:
            payload = b"\n".join(values)
            self._check_event(len(payload))
        self._comments_in_row = self._idle_in_row = 0
        return payload

    def _check_event(self, size: int) -> None:
        if size > self._max_event:
            raise SSELimitError("max_event", self._max_event)

    def _comment(self) -> None:
        self.comments += 1
        self._comments_in_row += 1
        if self._comments_in_row > self._max_comments:
            raise SSELimitError("max_comments", self._max_comments)
        self._idle_in_row = 0

    def _idle(self) -> None:
        self._idle_in_row += 1
        if self._idle_in_row > _IDLE_PER_COMMENT * self._max_comments:
            raise SSELimitError("max_comments", self._max_comments)
