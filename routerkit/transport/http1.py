"""HTTP/1.1 in bytes, for the transport that has no reader of its own: requests put together, answers taken apart. No I/O.

The standard library's reader is lenient where an answer should be refused: a head that breaks off counts as whole, a line
without colon hides those after it, two lengths that contradict each other and negative chunk sizes pass. This one refuses what
aiohttp's refuses, so that both facades see the same faults; and it gives out all the chunks of a read at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from routerkit.core.effects import HttpRequest
from routerkit.transport.failures import Destination

MAX_HEAD = 65_536
"""Bytes of an answer's head, and of a line between chunks."""

MAX_HEADERS = 128

MAX_INTERIM = 64
"""Interim answers (1xx) before the last one: some servers send one every few seconds to keep a connection alive."""

_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: .*)?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_FRAMING = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection"})
"""Headers whose repetitions count; of others the first one does."""


class MalformedError(ValueError):
    """Not HTTP/1.1."""


class TruncatedError(ValueError):
    """A body that broke off, or whose framing cannot be followed."""


class Headers(dict[str, str]):
    """Names in lower case, looked up in any."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class Head(NamedTuple):
    """The head of an answer, what reads its body, and the bytes that came with it."""

    status: int
    headers: Headers
    body: Body
    rest: bytes

    @property
    def is_interim(self) -> bool:
        """Whether it only announces another one."""
        return self.status < 200 and self.status != 101  # after a switch of protocols nothing of HTTP follows


def request_bytes(request: HttpRequest, to: Destination, headers: Mapping[str, str]) -> bytes:
    """A whole request, with these headers. Raises ValueError for one that would break out of its line."""
    lines = [f"{request.method} {to.target} HTTP/1.1\r\nHost: {to.host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    body = request.body or b""
    if body or request.method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    if head.count("\n") > len(lines) or head.count("\r") > len(lines):
        raise ValueError("a header holds a line break")
    return (head + "\r\n\r\n").encode("latin-1") + body


def parse_head(data: bytes, method: str) -> Head | None:
    """The head at the beginning of ``data``; ``None`` while it is incomplete. Raises MalformedError.

    Interim answers (1xx) are answers of their own: parse ``rest`` again.
    """
    found = _HEAD_END.search(data)
    if (len(data) if found is None else found.start()) > MAX_HEAD:
        raise MalformedError("the head is too long")
    if found is None:
        if not (data.startswith(b"HTTP/1.") or b"HTTP/1.".startswith(data)):
            raise MalformedError("no status line")
        return None
    text = data[: found.start()].decode("latin-1").replace("\r\n", "\n").removesuffix("\r")
    if "\r" in text or "\0" in text:
        raise MalformedError("a control character in the head")
    first, *lines = text.split("\n")
    if len(lines) > MAX_HEADERS:
        raise MalformedError("too many headers")
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise MalformedError("no status line")
    fields = _fields(lines)
    status = int(match[2])
    return Head(status, Headers(fields), _body(method, status, fields, match[1] == "1"), data[found.end() :])


def _fields(lines: list[str]) -> dict[str, str]:
    """Values by name, in lower case. Raises MalformedError."""
    fields: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[:1] in (" ", "\t") and name:  # the last value goes on: RFC 9112 §5.2
            fields[name] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        if not colon or not name or " " in name or "\t" in name:
            raise MalformedError("no header")
        name = name.lower()
        value = value.strip(" \t")
        if name not in fields:
            fields[name] = value
        elif name in _FRAMING:
            fields[name] += ", " + value
    return fields


def _body(method: str, status: int, fields: dict[str, str], persistent: bool) -> Body:
    """What reads the body, by RFC 9112 §6.3. ``persistent``: whether connections stay open unless the answer says otherwise."""
    keep = persistent
    if "connection" in fields:
        options = fields["connection"].lower().replace(" ", "").split(",")
        keep = "close" not in options if persistent else "keep-alive" in options
    codings, length = fields.get("transfer-encoding"), fields.get("content-length")
    if codings is not None and length is not None:
        raise MalformedError("two framings")
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 16):
        raise MalformedError("no length")
    if method == "HEAD" or status in (204, 304) or status < 200:
        return Counted(0, keep and status != 101)
    if codings is not None and codings.lower().replace(" ", "").split(",")[-1] == "chunked":
        return Chunked(keep)
    return UntilClose() if length is None else Counted(int(length), keep)


class Body:
    """Finds the content in the bytes that follow a head."""

    __slots__ = ("complete", "fault", "length", "reusable")

    def __init__(self, length: int | None, reusable: bool) -> None:
        self.fault: str | None = None
        """What was found wrong behind the content that was given out last: whatever is fed now is refused."""
        self.length = length
        """Bytes, where they were announced."""
        self.reusable = reusable
        """Whether the connection may serve again once the body is complete: not when more came than belongs to it."""
        self.complete = False

    def feed(self, data: bytes) -> bytes:
        """The content in the next bytes; may be empty. Raises TruncatedError."""
        raise NotImplementedError

    def end(self) -> None:
        """The connection has ended. Raises TruncatedError where that is not how the body ends."""
        raise TruncatedError("the connection ended within the body")


class Counted(Body):
    """With a ``Content-Length``."""

    __slots__ = ("_left",)

    def __init__(self, length: int, reusable: bool) -> None:
        super().__init__(length, reusable)
        self._left = length
        self.complete = not length

    def feed(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left > 0:
            return data
        self.complete = True
        if self._left == 0:
            return data
        self.reusable = False
        data = data[: self._left]
        self._left = 0
        return data


class UntilClose(Body):
    """As long as the connection lives."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(None, reusable=False)

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> None:
        self.complete = True


class Chunked(Body):
    """In chunks, each with its size before it (RFC 9112 §7.1). Trailers are read and dropped."""

    __slots__ = ("_due", "_in_trailer", "_rest")

    def __init__(self, reusable: bool) -> None:
        super().__init__(None, reusable)
        self._rest = b""
        """What could not be taken yet: the beginning of a line."""
        self._due = 0
        """Bytes that this chunk still owes, its line end included."""
        self._in_trailer = False

    def feed(self, data: bytes) -> bytes:
        if self.fault is not None:
            raise TruncatedError(self.fault)
        if self._rest:
            data = self._rest + data
        pieces: list[bytes] = []
        try:
            at = self._trailer(data, 0) if self._in_trailer else self._chunks(data, pieces)
            self._rest = data[at:]
            if self.complete:
                self.reusable = self.reusable and not self._rest
            elif len(self._rest) > MAX_HEAD:
                raise TruncatedError("a line that does not end")
        except TruncatedError as error:
            if not pieces:
                raise
            self.fault = str(error)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _chunks(self, data: bytes, pieces: list[bytes]) -> int:
        """Collect the content; return how far ``data`` could be taken."""
        at, size, due = 0, len(data), self._due
        while at < size:
            if due > 2:
                piece = data[at : at + due - 2]
                pieces.append(piece)
                at += len(piece)
                due -= len(piece)
            if due:
                if size - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise TruncatedError("a chunk without its end")
                at += 2
                due = 0
            match = _CHUNK_SIZE.match(data, at)
            if match is None:
                if b"\n" in data[at:]:
                    raise TruncatedError("a chunk without a size")
                break
            at = match.end()
            length = int(match[1], 16)
            if not length:
                self._in_trailer = True
                at = self._trailer(data, at)
                break
            due = length + 2
        self._due = due
        return at

    def _trailer(self, data: bytes, at: int) -> int:
        while (end := data.find(b"\r\n", at)) >= 0:
            blank = end == at
            at = end + 2
            if blank:
                self.complete = True
                break
        return at
