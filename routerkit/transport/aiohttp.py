"""HTTP for tasks: performs ``Send``, ``Open``, ``Read`` and ``Close`` on aiohttp.

A session belongs to its event loop, so there is one for each loop. aiohttp's own timeouts are off: each exchange runs under
one timer of ours, which is set anew for each phase.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import ssl
import sys
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import aiohttp
from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar
from aiohttp.http import HttpProcessingError

from routerkit.core import effects
from routerkit.core.effects import Failure, HttpRequest, StreamResponse, TransportFailure
from routerkit.transport.addresses import AddressNotAllowedError
from routerkit.transport.aiohttp_connection import (
    REQUEST_CLASS,
    Body,
    Connector,
    Progress,
    PublicResolver,
    current,
    public_socket,
)
from routerkit.transport.body import decoded
from routerkit.transport.failures import (
    KEEPALIVE_IDLE,
    destination,
    headers_of,
    is_local,
    name_of,
)
from routerkit.transport.origins import Origin, Origins
from routerkit.types.gateway import Gateway
from routerkit.types.verdict import Sent

if sys.version_info >= (3, 11):
    from asyncio import Timeout, timeout_at

    _due = Timeout.when
else:
    from async_timeout import Timeout, timeout_at

    _due = Timeout.deadline.fget

LINGER = 0.25
"""Seconds to keep a connection for the last bytes of an answer whose content is complete. Nobody waits meanwhile."""
_NO_TIMEOUT = ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_ERRORS = (
    OSError,
    asyncio.TimeoutError,
    aiohttp.ClientError,
    HttpProcessingError,
    ValueError,
    RuntimeError,
    MemoryError,
    IndexError,
)
"""What aiohttp raises when an exchange fails. IndexError: when no connection could be tried, for a reason that is no OSError."""

T = TypeVar("T")


_living: weakref.WeakSet[AiohttpTransport] = weakref.WeakSet()


@atexit.register
def _forget_all() -> None:
    """At the end of the process aiohttp would complain of every session whose loop was not shut down."""
    for transport in tuple(_living):
        transport.forget()


class AiohttpTransport:
    """One per client, for all its tasks and event loops."""

    def __init__(self, gateways: Sequence[Gateway]) -> None:
        """For exchanges with these gateways and with nobody else.

        Raises ConfigurationError for a proxy that cannot be used, and for gateways that do not go together.
        """
        self._origins = Origins(gateways)
        self._process = os.getpid()
        self._homes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Home]] = (
            weakref.WeakKeyDictionary()
        )
        """By loop and origin."""
        _living.add(self)

    async def send(self, order: effects.Send) -> effects.HttpResponse:
        """One exchange, the body read whole. Raises TransportFailure."""
        exchange = Exchange()
        headers = headers_of(order.request, "gzip")
        home = await self._home(destination(order.request.url).origin)
        response = await exchange.begin(home, order, headers)
        data = await exchange.whole(order)
        encodings = response.headers.getall("Content-Encoding", ())
        body = decoded(data, ", ".join(encodings), order.max_bytes, response.status) if encodings else data
        return effects.HttpResponse(response.status, response.headers, body)

    async def open(self, order: effects.Open) -> StreamResponse:
        """One exchange up to the headers. Raises TransportFailure."""
        exchange = Exchange()
        headers = headers_of(order.request, "identity")
        home = await self._home(destination(order.request.url).origin)
        response = await exchange.begin(home, order, headers)
        home.streams.add(response)
        exchange.held = True
        return StreamResponse(response.status, response.headers, exchange)

    async def close(self) -> None:
        """Close the sessions of the running loop, and forget those of loops that have ended."""
        for home in self._homes.pop(asyncio.get_running_loop(), {}).values():
            await home.keeper.aclose()
        self._leave_ended()

    def forget(self) -> None:
        """Leave all loops and connections alone: in a forked child they are the parent's.

        Closing a connection would take it out of the parent's selector, which the child shares.
        """
        self._process = os.getpid()
        every, self._homes = self._homes, weakref.WeakKeyDictionary()
        for homes in every.values():
            _leave(homes)

    async def _home(self, url: str) -> _Home:
        """The running loop's, for an origin. Raises TransportFailure when no gateway is there."""
        if self._process != os.getpid():
            self.forget()
        loop = asyncio.get_running_loop()
        homes = self._homes.get(loop)
        home = homes.get(url) if homes else None
        if home is None or home.session.closed:
            origin = self._origins.at(url)
            made = _Home(origin, self._origins.tls(origin))
            self._leave_ended()
            home = self._homes.setdefault(loop, {})[url] = made
            await home.keeper.__anext__()
        return home

    def _leave_ended(self) -> None:
        for reference in self._homes.keyrefs():
            loop = reference()
            if loop is not None and loop.is_closed():
                _leave(self._homes.pop(loop))


class _Home:
    """What belongs to one event loop and one origin: a session, the streams that are open on it, and its keeper."""

    def __init__(self, origin: Origin, tls: ssl.SSLContext | None) -> None:
        # Lookups are shared by those who wait for them, and not kept: the system does that, and knows for how long.
        options: dict[str, Any] = {"limit": 0, "keepalive_timeout": KEEPALIVE_IDLE, "ttl_dns_cache": 0}
        if tls is not None:
            options["ssl"] = tls
        if origin.block_private:
            options.update(resolver=PublicResolver(), socket_factory=public_socket)
        self.session = ClientSession(
            connector=Connector(**options),
            timeout=_NO_TIMEOUT,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            request_class=REQUEST_CLASS,
        )
        self.session._retry_connection = False  # it would send a GET again, unseen
        self.streams: weakref.WeakSet[ClientResponse] = weakref.WeakSet()
        self.keeper = _keeper(self.session, self.streams)
        self._proxy = origin.proxy

    def ask(self, request: HttpRequest, headers: dict[str, str]) -> Awaitable[ClientResponse]:
        """Send a request and wait for the head of its answer."""
        body = None if request.body is None else Body(request.body)
        return self.session.request(
            request.method, request.url, data=body, headers=headers, allow_redirects=False, proxy=self._proxy
        )

    def leave(self) -> None:
        """Close nothing and complain of nothing."""
        connector: Any = self.session.connector
        if connector is not None:
            connector.leave()
        self.session.detach()
        with contextlib.suppress(StopIteration):
            self.keeper.aclose().send(None)


def _leave(homes: dict[str, _Home]) -> None:
    for home in homes.values():
        home.leave()


async def _keeper(session: ClientSession, streams: Iterable[ClientResponse]) -> AsyncGenerator[None, None]:
    """Closes a session when its loop shuts down or its client is forgotten: loops end their generators then."""
    try:
        yield
    finally:
        await session.close()
        for response in tuple(streams):
            with contextlib.suppress(RuntimeError):  # its loop may be closed already
                response.close()


class Exchange:
    """A request under way; the handle of an open stream."""

    __slots__ = ("_loop", "_progress", "_response", "held")

    def __init__(self) -> None:
        self.held = False
        """Whether somebody holds this as an open stream, and has not closed it."""

    def __del__(self) -> None:
        if self.held:
            self.abandon()

    async def begin(self, home: _Home, order: effects.Send | effects.Open, headers: dict[str, str]) -> ClientResponse:
        """Send the request and read the answer's head. Raises TransportFailure."""
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._progress = Progress(order.connect, order.first_byte, now + order.total, order.request.fresh)
        current.set(self._progress)
        until = now + min(order.first_byte, order.total)
        self._response = await self._guarded(partial(home.ask, order.request, headers), until)
        self._progress.sent = Sent.RESPONDED
        return self._response

    async def whole(self, order: effects.Send) -> bytes:
        """The body, as sent. Raises TransportFailure."""
        limit, time, until = order.max_bytes, self._loop.time, self._progress.until
        pieces: list[bytes] = []
        size = self._response.content_length or 0
        if size <= limit:
            size = 0
            while piece := await self._next(min(until, time() + order.idle)):
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    break
            else:
                return b"".join(pieces)
        self._response.close()
        raise self._failure(Failure.TOO_LARGE, "body")

    async def read(self, seconds: float) -> bytes:
        """The next bytes of an open answer; ``b""`` at its end. Raises TransportFailure."""
        return await self._next(self._loop.time() + seconds)

    def close(self, *, reusable: bool) -> None:
        """Give the connection back when the answer turns out to be complete, else close it. Never waits; twice does no harm."""
        self.held = False
        if reusable and not self._response.content.is_eof():
            self._loop.call_later(LINGER, self._response.close)
        else:
            self._response.close()

    def abandon(self) -> None:
        """Close the connection from wherever the garbage collector runs."""
        self.held = False
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the connection
            self._loop.call_soon_threadsafe(self._response.close)

    async def _next(self, until: float) -> bytes:
        content = self._response.content
        if content.exception() is None:
            data = content.read_nowait()
            if data or content.is_eof():
                return data
        elif data := content._read_nowait(-1):  # what came before the failure, which the public methods keep
            return data
        return await self._guarded(content.readany, until)

    async def _guarded(self, operation: Callable[[], Awaitable[T]], until: float) -> T:
        """Perform a part of the exchange in time; if that fails, close the connection and say how far the exchange had come."""
        progress = self._progress
        try:
            async with timeout_at(until) as timer:
                # Needed up to the head of the answer; later it would keep the task alive, and what the task holds, with the stream.
                progress.timer = None if progress.sent is Sent.RESPONDED else timer
                return await operation()
        except _ERRORS as error:
            if (
                self._loop.is_closed()
            ):  # nobody runs here any more: the garbage collector ends a task, and aiohttp stumbles over it
                raise GeneratorExit from None
            due = _due(timer)
            lag = max(0.0, self._loop.time() - due) if due is not None else 0.0  # of other errors: nothing is due yet
            failure = self._failure(_kind(error, progress.sent), _detail(error), lag)
        except BaseException:
            self._drop()
            raise
        finally:
            progress.timer = None  # it holds the task, whose result may hold this
        self._drop()
        # Raised outside the except block: the original error holds frames with the headers, and the key among them.
        raise failure

    def _drop(self) -> None:
        if self._progress.sent is Sent.RESPONDED:
            self._response.close()

    def _failure(self, failure: Failure, detail: str, lag: float = 0.0) -> TransportFailure:
        sent = self._progress.sent
        status = self._response.status if sent is Sent.RESPONDED else None
        return TransportFailure(failure, sent, reused=self._progress.reused, detail=detail, status=status, lag=lag)


def _detail(error: Exception) -> str:
    if isinstance(error, AddressNotAllowedError):
        return str(error)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    return name_of(error)


def _kind(error: Exception, sent: Sent) -> Failure:
    late = isinstance(error, (asyncio.TimeoutError, TimeoutError))
    if is_local(error):
        return Failure.LOCAL
    if sent is Sent.NOT_SENT:
        return _connect_kind(error, late)
    if sent is Sent.RESPONDED:
        return Failure.READ_TIMEOUT if late else Failure.TRUNCATED
    if late:
        return Failure.FIRST_BYTE_TIMEOUT
    bad = isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError))
    return Failure.MALFORMED if bad else Failure.DISCONNECTED


def _connect_kind(error: Exception, late: bool) -> Failure:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Failure.TLS_VERIFY
    if isinstance(error, AddressNotAllowedError):
        return Failure.ADDRESS
    if isinstance(error, (aiohttp.ClientConnectorDNSError, aiohttp.InvalidURL, UnicodeError)):
        return Failure.RESOLVE
    if late:
        return Failure.CONNECT_TIMEOUT
    return Failure.CONNECT if isinstance(error, (OSError, aiohttp.ClientError)) else Failure.LOCAL
