"""HTTP for tasks: performs ``Send``, ``Open``, ``Read`` and ``Close`` on aiohttp.

A session belongs to its event loop, so there is one for each loop. aiohttp's own timeouts are off: each exchange runs under
one timer of ours, which is set anew for each phase and ends it even where a parser of aiohttp waits for ever.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import sys
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.connector import Connection

from routerkit.core import effects
from routerkit.core.effects import Failure, HttpRequest, StreamResponse, TransportFailure
from routerkit.errors import ConfigurationError
from routerkit.transport.body import decoded
from routerkit.transport.failures import KEEPALIVE_IDLE, authorization, name_of
from routerkit.transport.proxies import proxy_for
from routerkit.types.verdict import Sent

if sys.version_info >= (3, 11):
    from asyncio import timeout_at
else:
    from async_timeout import timeout_at

_LARGE = 1024 * 1024
"""aiohttp warns of larger bodies given as bytes."""
_NO_TIMEOUT = ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)

T = TypeVar("T")


class _Progress:
    """How far the exchange of this task has come."""

    __slots__ = ("connect_until", "fresh", "reused", "sent")

    def __init__(self, fresh: bool, connect_until: float) -> None:
        self.fresh = fresh
        self.connect_until = connect_until
        self.sent = Sent.NOT_SENT
        self.reused = False


_progress: ContextVar[_Progress] = ContextVar("routerkit_progress")


class Connector(TCPConnector):
    """Tells an exchange whether its connection had served before, and holds the time limit of connecting."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._served: weakref.WeakSet[Any] = weakref.WeakSet()

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        progress = _progress.get()
        async with timeout_at(progress.connect_until):
            connection = await super().connect(*args, **kwargs)
            while progress.fresh and connection.protocol in self._served:
                connection.close()
                connection = await super().connect(*args, **kwargs)
        progress.reused = connection.protocol in self._served
        self._served.add(connection.protocol)
        progress.sent = Sent.MAYBE
        return connection


class AiohttpTransport:
    """One per client, for all its tasks and event loops."""

    def __init__(self, base_url: str, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._proxy = proxy_for(base_url)
        if self._proxy and not self._proxy.startswith(("http://", "https://")):
            raise ConfigurationError(
                "AsyncClient cannot use a SOCKS proxy (HTTPS_PROXY, ALL_PROXY); use an http:// one"
            )
        self._sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ClientSession] = (
            weakref.WeakKeyDictionary()
        )

    async def send(self, order: effects.Send) -> effects.HttpResponse:
        """One exchange, the body read whole. Raises TransportFailure."""
        exchange = Exchange()
        response = await exchange.begin(self, order.request, order.connect, order.first_byte, order.total, "gzip")
        data = await exchange.whole(order)
        body = decoded(data, response.headers.get("Content-Encoding"), order.max_bytes, response.status)
        return effects.HttpResponse(response.status, response.headers, body)

    async def open(self, order: effects.Open) -> StreamResponse:
        """One exchange up to the headers. Raises TransportFailure."""
        exchange = Exchange()
        response = await exchange.begin(self, order.request, order.connect, order.first_byte, order.total, "identity")
        return StreamResponse(response.status, response.headers, exchange)

    def post(self, request: HttpRequest, headers: dict[str, str]) -> Awaitable[ClientResponse]:
        body: Any = request.body
        if body is not None and len(body) > _LARGE:
            body = io.BytesIO(body)
        session = self._session()
        return session.request(
            request.method, request.url, data=body, headers=headers, allow_redirects=False, proxy=self._proxy
        )

    async def close(self) -> None:
        """Close the session of the running loop, and those of loops that have ended."""
        running = asyncio.get_running_loop()
        for loop, session in list(self._sessions.items()):
            if loop is running:
                await session.close()
                del self._sessions[loop]
        self._drop_ended()

    def forget(self) -> None:
        """In a forked child: the parent's loops and connections are not ours."""
        for session in self._sessions.values():
            session.detach()
        self._sessions = weakref.WeakKeyDictionary()

    def _session(self) -> ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            self._drop_ended()
            session = self._sessions[loop] = self._new_session()
        return session

    def _new_session(self) -> ClientSession:
        context: ssl.SSLContext | bool = True
        if self._ca_file is not None:
            context = ssl.create_default_context()
            context.load_verify_locations(self._ca_file)
        return ClientSession(
            connector=Connector(limit=0, keepalive_timeout=KEEPALIVE_IDLE, ssl=context),
            timeout=_NO_TIMEOUT,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    def _drop_ended(self) -> None:
        for loop, session in list(self._sessions.items()):
            if loop.is_closed():
                connector = session.connector
                session.detach()
                if connector is not None:
                    connector.close()
                del self._sessions[loop]


class Exchange:
    """A request under way; the handle of an open stream."""

    __slots__ = ("_loop", "_progress", "_response", "_total_until")

    async def begin(
        self,
        transport: AiohttpTransport,
        request: HttpRequest,
        connect: float,
        first_byte: float,
        total: float,
        encoding: str,
    ) -> ClientResponse:
        """Send the request and read the answer's head."""
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._total_until = now + total
        self._progress = _Progress(request.fresh, now + connect)
        _progress.set(self._progress)
        headers = {**request.headers, "Accept-Encoding": encoding, **authorization(request)}
        self._response: ClientResponse = await self._guarded(
            lambda: transport.post(request, headers), min(self._total_until, now + connect + first_byte)
        )
        self._progress.sent = Sent.RESPONDED
        return self._response

    async def whole(self, order: effects.Send) -> bytes:
        """The body, as sent."""
        length = self._response.content_length
        content = self._response.content
        pieces: list[bytes] = []
        size = length if length is not None and self._response.method != "HEAD" else 0
        time = self._loop.time
        while size <= order.max_bytes:
            piece = await self._next(content, min(self._total_until, time() + order.idle))
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size = max(size, sum(map(len, pieces)) if len(pieces) < 3 else size + len(piece))
        self._response.close()
        raise TransportFailure(Failure.TOO_LARGE, Sent.RESPONDED, detail="body", status=self._response.status)

    async def read(self, seconds: float) -> bytes:
        """The next bytes of an open answer; ``b""`` at its end. Raises TransportFailure."""
        return await self._next(self._response.content, self._loop.time() + seconds)

    def close(self, *, reusable: bool) -> None:
        """Give the connection back when the answer is complete, else close it. Never waits."""
        if reusable and self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()

    def abandon(self) -> None:
        """Close the connection from wherever the garbage collector runs."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._response.close)

    async def _next(self, content: aiohttp.StreamReader, until: float) -> bytes:
        if content.exception() is None:
            data = content.read_nowait()
            if data or content.at_eof():
                return data
        return await self._guarded(content.readany, until)

    async def _guarded(self, operation: Callable[[], Awaitable[T]], until: float) -> T:
        failure = None
        try:
            async with timeout_at(until):
                return await operation()
        except (OSError, asyncio.TimeoutError, aiohttp.ClientError, ValueError) as error:
            failure = self._failure(error)
        finally:
            if self._progress.sent is Sent.RESPONDED and (failure is not None or sys.exc_info()[0] is not None):
                self._response.close()
        # Raised outside the except block: the original error holds frames with the headers, and the key among them.
        raise failure

    def _failure(self, error: Exception) -> TransportFailure:
        progress = self._progress
        status = self._response.status if progress.sent is Sent.RESPONDED else None
        return TransportFailure(
            _kind(error, progress.sent), progress.sent, reused=progress.reused, detail=name_of(error), status=status
        )


def _kind(error: Exception, sent: Sent) -> Failure:
    late = isinstance(error, (asyncio.TimeoutError, TimeoutError))
    if sent is Sent.NOT_SENT:
        return _connect_kind(error, late)
    if sent is Sent.RESPONDED:
        return Failure.READ_TIMEOUT if late else Failure.TRUNCATED
    if late:
        return Failure.FIRST_BYTE_TIMEOUT
    disconnected = isinstance(error, (aiohttp.ServerDisconnectedError, OSError))
    return Failure.DISCONNECTED if disconnected else Failure.MALFORMED


def _connect_kind(error: Exception, late: bool) -> Failure:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Failure.TLS_VERIFY
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failure.RESOLVE
    if late:
        return Failure.CONNECT_TIMEOUT
    if isinstance(error, OSError) and error.errno in (12, 23, 24):  # ENOMEM, ENFILE, EMFILE
        return Failure.LOCAL
    return Failure.CONNECT
