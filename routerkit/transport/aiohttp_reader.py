"""The reader of answers that aiohttp is given in the place of its own: :mod:`routerkit.transport.http1`, as in the other facade.

So both facades see the same faults. aiohttp's own parser loses a good answer when stray bytes come with it, and a status when a
bad chunk does; it leaves whoever reads a body waiting once it has found a fault there, and what it lets pass depends on how it
was built.
"""

from __future__ import annotations

import asyncio

from aiohttp import EMPTY_PAYLOAD, ClientPayloadError, StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, HttpVersion11, RawResponseMessage
from multidict import CIMultiDict, CIMultiDictProxy

from routerkit.transport.http1 import MAX_INTERIM, Body, Head, MalformedError, TruncatedError, parse_head

Messages = list[tuple[RawResponseMessage, StreamReader]]


class ResponseReader:
    """Reads one answer. What its methods are called and give is aiohttp's choice."""

    def __init__(self, protocol: ResponseHandler, loop: asyncio.AbstractEventLoop, limit: int, method: str) -> None:
        self._protocol = protocol
        self._loop = loop
        self._limit = limit
        self._method = method
        self._head = b""
        """What has come of the head."""
        self._interim = 0
        self._body: Body | None = None
        self._payload: StreamReader = EMPTY_PAYLOAD
        """Where the content goes."""

    def feed_data(self, data: bytes) -> tuple[Messages, bool, bytes]:
        """Take the next bytes; the answer's head, once it is there. Raises HttpProcessingError when it is none."""
        if self._body is not None:
            self._take(self._body, data)
            return [], False, b""
        self._head += data
        try:
            head = self._last_head()
        except MalformedError as error:
            raise HttpProcessingError(message=str(error)) from None
        if head is None:
            return [], False, b""
        message = _message(head)
        self._body = head.body
        if not head.body.complete:
            self._payload = StreamReader(self._protocol, self._limit, loop=self._loop)
        self._take(head.body, head.rest)
        return [(message, self._payload)], False, b""

    def feed_eof(self) -> None:
        """The connection has ended in the orderly way."""
        if self._body is None or self._payload.is_eof():
            return
        try:
            self._body.end()
        except TruncatedError as error:
            self.fail(str(error))
        else:
            self._payload.feed_eof()

    def pause_reading(self) -> None:
        """Nothing is kept back here: the transport pauses."""

    def fail(self, why: str) -> None:
        """The body will not come to its end."""
        self._protocol.force_close()
        if not self._payload.is_eof() and self._payload.exception() is None:
            self._payload.set_exception(ClientPayloadError(why))

    def _last_head(self) -> Head | None:
        """The head of the answer, interim ones passed over; ``None`` while it is incomplete. Raises MalformedError."""
        while self._head:
            head = parse_head(self._head, self._method)
            if head is None or not head.is_interim:
                return head
            self._head = head.rest
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise MalformedError("too many interim answers")
        return None

    def _take(self, body: Body, data: bytes) -> None:
        if not data or self._payload.exception() is not None:
            return
        if self._payload.is_eof():
            self._protocol.force_close()  # nobody asked for more
            return
        try:
            piece = body.feed(data)
        except TruncatedError as error:
            self.fail(str(error))
            return
        if piece:
            self._payload.feed_data(piece)
        if body.fault is not None:
            self.fail(body.fault)
        elif body.complete:
            if not body.reusable:
                self._protocol.force_close()
            self._payload.feed_eof()


def _message(head: Head) -> RawResponseMessage:
    headers: CIMultiDict[str] = CIMultiDict(head.headers.items())
    return RawResponseMessage(
        version=HttpVersion11,
        code=head.status,
        reason="",
        headers=CIMultiDictProxy(headers),
        raw_headers=(),
        should_close=not head.body.reusable,
        compression=None,
        upgrade=False,
        chunked=False,
    )
