"""A reply in memory: it is called once, on a connection that writes down what is done to it; the tape is then played back.

So a reply never waits: its waits are marks on the tape, and whoever plays it passes the time.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from typing import TypeVar

import attrs

from routerkit.core import effects
from routerkit.core.effects import Await, Failure, HttpResponse, Latch, Step, TransportFailure, sleep
from routerkit.testing.connection import Connection, Gone, RecordedRequest, Reply
from routerkit.testing.signals import Signal
from routerkit.transport.body import decoded
from routerkit.transport.http1 import MAX_INTERIM, Head, MalformedError, TruncatedError, parse_head
from routerkit.types.verdict import Sent

T = TypeVar("T")

LENGTH = 3_600.0
"""Seconds after which a reply that would go on for ever is heard no more."""
SIZE = 80 * 1024 * 1024
"""Bytes after which it is heard no more: more than any client takes."""

Mark = bytes | float | Signal | TransportFailure | None
"""Bytes sent, seconds or a signal waited for, a failure below HTTP, ``None`` for a reset."""


@attrs.define(eq=False)
class Line:
    """A connection that is kept alive: what there is of it between two exchanges."""

    number: int
    origin: str
    served: int = 0
    """Requests that came on it."""
    doomed: bool = False
    """Whether it closes when the next request is in."""


class Tape(Connection):
    """Writes down what one reply does."""

    def __init__(self, number: int) -> None:
        self.id = number
        self.marks: deque[Mark] = deque()
        self.failure: TransportFailure | None = None
        """What keeps the exchange from coming to any end, if something does."""
        self._left = LENGTH
        self._room = SIZE

    def record(self, reply: Reply, request: RecordedRequest) -> None:
        """Have a reply answer a request. Raises what it raises, save for ``Gone``."""
        with suppress(Gone):
            reply(self, request)
            if not self.keep_alive:
                self.close()
        if not self.closed:
            self.marks.append(math.inf)  # the connection stays open, and nothing comes

    def send(self, data: bytes) -> None:
        self._room -= len(data)
        if self.closed or self._room < 0:
            raise Gone
        self.marks.append(data)

    def wait(self, until: float | Signal | None = None) -> None:
        if isinstance(until, Signal):
            self._mark_wait(until, 0.0)
        elif until is None:
            self._mark_wait(math.inf, math.inf)
        elif until > 0:
            self._mark_wait(float(until), until)

    def close(self) -> None:
        self.closed = True

    def reset(self) -> None:
        self._break(None)

    def fail(self, failure: TransportFailure) -> None:
        """Let the exchange fail below HTTP, in a way that no server can bring about."""
        self.failure = failure
        self._break(_again(failure))

    def _mark_wait(self, mark: float | Signal, seconds: float) -> None:
        if self.closed:
            raise Gone
        self._left -= seconds
        self.marks.append(mark)
        if self._left < 0:
            raise Gone

    def _break(self, mark: TransportFailure | None) -> None:
        if not self.closed:
            self.marks.append(mark)
        self.closed = True


class Playback:
    """A tape played back: one exchange, and the handle of an open answer."""

    def __init__(self, tape: Tape, order: effects.Send | effects.Open, line: Line) -> None:
        self._tape = tape
        self._order = order
        self._reused = line.served > 1
        self._elapsed = 0.0
        self._head: Head | None = None
        self._rest = b""
        self.closed = False
        """Whether the client is done with it: it was read to its end, has failed, or was closed."""
        self.line: Line | None = line
        """The connection that it holds. Once ``closed``, ``None`` unless that can serve again."""

    def begin(self) -> Step[Head]:
        """The status and the headers. Raises TransportFailure."""
        head = yield from self._guarded(self._read_head(min(self._order.first_byte, self._order.total)))
        self._head, self._rest = head, head.rest
        return head

    def whole(self, order: effects.Send) -> Step[HttpResponse]:
        """All of the answer, the body decompressed. Raises TransportFailure."""
        head = yield from self.begin()
        pieces, size = [], head.body.length or 0
        if size <= order.max_bytes:
            size = 0
            while piece := (yield from self.read(min(order.idle, order.total - self._elapsed))):
                pieces.append(piece)
                size += len(piece)
                if size > order.max_bytes:
                    break
        if size > order.max_bytes:
            self._end()
            raise self._failed(Failure.TOO_LARGE, "body")
        encoding = head.headers.get("content-encoding")
        return HttpResponse(
            head.status, head.headers, decoded(b"".join(pieces), encoding, order.max_bytes, head.status)
        )

    def read(self, seconds: float) -> Step[bytes]:
        """The next bytes; ``b""`` at the end. Raises TransportFailure."""
        return (yield from self._guarded(self._next(seconds)))

    def close(self, *, reusable: bool) -> None:
        """Give up the rest. The connection can serve again if all of the answer had been sent by now."""
        if self.closed:
            return
        if reusable and self._head is not None:
            body, marks = self._head.body, self._tape.marks
            with suppress(ValueError):
                body.feed(self._rest)
                while not body.complete and marks and isinstance(mark := marks.popleft(), bytes):
                    body.feed(mark)
        self._end()

    def _guarded(self, part: Step[T]) -> Step[T]:
        try:
            return (yield from part)
        except TransportFailure:
            self._end()
            raise
        except (OSError, ValueError) as error:
            detail = str(error) if isinstance(error, (MalformedError, TruncatedError)) else type(error).__name__
            failure = self._failed(_kind(error, self._head), detail)
        self._end()
        raise failure

    def _end(self) -> None:
        body = None if self._head is None else self._head.body
        keep = body is not None and body.complete and body.reusable and self._tape.keep_alive and not self._tape.closed
        if not keep:
            self.line = None
        self.closed = True

    def _failed(self, kind: Failure, detail: str) -> TransportFailure:
        status = None if self._head is None else self._head.status
        sent = Sent.MAYBE if status is None else Sent.RESPONDED
        return TransportFailure(kind, sent, reused=self._reused, detail=detail, status=status)

    def _read_head(self, patience: float) -> Step[Head]:
        data, interim = b"", 0
        while True:
            head = parse_head(data, self._order.request.method) if data else None
            if head is None:
                piece = yield from self._receive(patience - self._elapsed)
                if not piece:
                    raise ConnectionError("no answer")
                data += piece
            elif head.is_interim:
                data, interim = head.rest, interim + 1
                if interim > MAX_INTERIM:
                    raise MalformedError("too many interim answers")
            else:
                return head

    def _next(self, seconds: float) -> Step[bytes]:
        if self._head is None or self.closed:
            return b""
        body, until = self._head.body, self._elapsed + seconds
        if body.fault is not None:
            raise TruncatedError(body.fault)
        data, self._rest = self._rest, b""
        while True:
            piece = body.feed(data) if data else b""
            if piece:
                return piece
            if body.complete:
                self._end()
                return b""
            data = yield from self._receive(until - self._elapsed)
            if not data:
                body.end()

    def _receive(self, patience: float) -> Step[bytes]:
        """The next bytes of the tape; ``b""`` at its end. Raises TimeoutError, ConnectionError, TransportFailure."""
        marks, until = self._tape.marks, self._elapsed + patience
        while marks:
            mark = marks.popleft()
            if isinstance(mark, bytes):
                if mark:
                    return mark
            elif mark is None:
                raise ConnectionResetError
            elif isinstance(mark, TransportFailure):
                yield from self._pass(_patience_of(mark, self._order))
                raise mark
            elif isinstance(mark, Signal):
                if not (yield from _until(mark, until - self._elapsed)):
                    marks.appendleft(mark)
                    raise TimeoutError
            else:
                left = until - self._elapsed
                if mark >= left:
                    marks.appendleft(mark - left)
                    yield from self._pass(left)
                    raise TimeoutError
                yield from self._pass(mark)
        return b""

    def _pass(self, seconds: float) -> Step[None]:
        if seconds > 0:
            self._elapsed += seconds
            yield from sleep(seconds)


def _kind(error: Exception, head: Head | None) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure.FIRST_BYTE_TIMEOUT if head is None else Failure.READ_TIMEOUT
    if head is not None:
        return Failure.TRUNCATED
    return Failure.MALFORMED if isinstance(error, MalformedError) else Failure.DISCONNECTED


def _again(failure: TransportFailure) -> TransportFailure:
    """The same failure, as a new exception: one that is raised twice keeps the traceback of both."""
    return TransportFailure(
        failure.failure,
        failure.sent,
        reused=failure.reused,
        detail=failure.detail,
        status=failure.status,
        lag=failure.lag,
    )


def _patience_of(failure: TransportFailure, order: effects.Send | effects.Open) -> float:
    """How long a client waits until it sees this failure."""
    if failure.failure is Failure.CONNECT_TIMEOUT:
        return min(order.connect, order.total)
    return min(order.first_byte, order.total) if failure.failure is Failure.FIRST_BYTE_TIMEOUT else 0.0


def _until(signal: Signal, seconds: float) -> Step[bool]:
    """Wait for a signal: in real time, as it is real threads or tasks that set it."""
    latch = Latch()
    with signal.waking(latch.set):
        if signal.is_set():
            return True
        done: bool = yield Await(latch, seconds)
        return done
