"""HTTP for tasks: performs ``Send``, ``Open``, ``Read`` and ``Close`` on aiohttp.

A session belongs to its event loop, so there is one for each loop. aiohttp's own timeouts are off: each exchange runs under
one timer of ours, which is set anew for each phase.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import socket
import ssl
import sys
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import aiohttp
import attrs
from aiohttp import (
    AddrInfoType,
    BytesPayload,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    Payload,
    TCPConnector,
    ThreadedResolver,
)
from aiohttp.abc import ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError

from routerkit.core import effects
from routerkit.core.effects import Failure, HttpRequest, StreamResponse, TransportFailure
from routerkit.transport.addresses import AddressNotAllowedError, check_public
from routerkit.transport.aiohttp_reader import ResponseReader
from routerkit.transport.body import decoded
from routerkit.transport.failures import (
    KEEPALIVE_IDLE,
    READ_SIZE,
    destination,
    headers_of,
    is_local,
    is_readable,
    name_of,
)
from routerkit.transport.origins import Origin, Origins
from routerkit.types.gateway import Gateway
from routerkit.types.verdict import Sent

if sys.version_info >= (3, 11):
    from asyncio import Timeout, timeout_at

    _reschedule, _due = Timeout.reschedule, Timeout.when
else:
    from async_timeout import Timeout, timeout_at

    _reschedule, _due = Timeout.update, Timeout.deadline.fget

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


@attrs.define(eq=False)
class _Progress:
    """How far the exchange of this task has come, and the timer of the phase it is in."""

    connect: float
    first_byte: float
    until: float
    """The end of it all, on the loop's clock."""
    fresh: bool
    timer: Timeout | None = None
    sent: Sent = Sent.NOT_SENT
    reused: bool = False

    def allow(self, seconds: float) -> None:
        """A phase begins that may take so long."""
        if self.timer is not None:
            now = asyncio.get_running_loop().time()
            _reschedule(self.timer, min(self.until, now + seconds))


_progress: ContextVar[_Progress] = ContextVar("routerkit_progress")


class _Protocol(ResponseHandler):
    """One connection. It knows whether it has served, and has its answers read by our reader."""

    served = False

    def set_response_params(self, *, skip_payload: bool = False, read_bufsize: int = READ_SIZE, **_: Any) -> None:
        """Called before each request, for a parser. What the server has said by then belongs to its answer."""
        self._skip_payload = skip_payload
        self._parser: Any = ResponseReader(self, self._loop, read_bufsize, "HEAD" if skip_payload else "GET")
        if self._tail:
            early, self._tail = self._tail, b""
            self.data_received(early)

    def is_quiet(self) -> bool:
        """Whether the server has sent nothing since the last answer: neither the end of the connection nor stray bytes.

        The loop may have had no time yet to see it.
        """
        if self.should_close or self.transport is None:
            return False
        sock = self.transport.get_extra_info("socket")
        return sock is None or not is_readable(sock)

    def close(self) -> None:
        """Close at once: asyncio would first send what is left of a request to a server that may not take it."""
        # Raised until Python 3.11 by a TLS transport that has lost its connection.
        with contextlib.suppress(AttributeError):
            if self.transport is not None and self.transport.get_write_buffer_size():
                self.transport.abort()
        super().close()

    def connection_lost(self, error: BaseException | None) -> None:
        transport = self.transport
        if error is not None and self._parser is not None:
            self._parser.fail("the connection broke within the body")
        super().connection_lost(error)
        if transport is not None:
            transport.close()  # until Python 3.11 a TLS transport takes a lost connection for one left open


class Connector(TCPConnector):
    """Tells an exchange when it is connected, and whether its connection had served before."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = partial(_Protocol, loop=self._loop)

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        progress = _progress.get()
        connection = await super().connect(*args, **kwargs)
        protocol: Any = connection.protocol
        while protocol.served and (progress.fresh or not protocol.is_quiet()):
            connection.close()
            connection = await super().connect(*args, **kwargs)
            protocol = connection.protocol
        progress.reused, protocol.served = protocol.served, True
        progress.sent = Sent.MAYBE
        return connection

    async def _create_connection(self, *args: Any, **kwargs: Any) -> ResponseHandler:
        progress = _progress.get()
        progress.allow(progress.connect)
        protocol = await super()._create_connection(*args, **kwargs)
        progress.allow(progress.first_byte)
        return protocol

    def leave(self) -> None:
        """Close nothing: the loop is no longer ours or no longer there."""
        self._closed = True


class _PublicResolver(ThreadedResolver):
    """Resolves names, and refuses those with an address that is not public."""

    async def resolve(self, *args: Any, **kwargs: Any) -> list[ResolveResult]:
        found = await super().resolve(*args, **kwargs)
        check_public(each["host"] for each in found)
        return found


def _public_socket(address: AddrInfoType) -> socket.socket:
    """A socket for an address, also for one that is no name and that no resolver has seen."""
    check_public([str(address[4][0])])
    return socket.socket(*address[:3])


class _Body(BytesPayload):
    """A request's body, of any size: aiohttp would warn of more than 1 MiB, and read it in pieces from a thread.

    It goes out in one write. So an early answer is read before the write is found to have failed, and not lost.
    """

    def __init__(self, data: bytes) -> None:
        Payload.__init__(self, data)
        self._size = len(data)


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
            options.update(resolver=_PublicResolver(), socket_factory=_public_socket)
        self.session = ClientSession(
            connector=Connector(**options),
            timeout=_NO_TIMEOUT,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        self.session._retry_connection = False  # it would send a GET again, unseen
        self.streams: weakref.WeakSet[ClientResponse] = weakref.WeakSet()
        self.keeper = _keeper(self.session, self.streams)
        self._proxy = origin.proxy

    def ask(self, request: HttpRequest, headers: dict[str, str]) -> Awaitable[ClientResponse]:
        """Send a request and wait for the head of its answer."""
        body = None if request.body is None else _Body(request.body)
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
        self._progress = _Progress(order.connect, order.first_byte, now + order.total, order.request.fresh)
        _progress.set(self._progress)
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
