"""HTTP for threads: performs ``Send``, ``Open``, ``Read`` and ``Close`` on requests and its urllib3.

requests contributes its adapter: pools, proxies, TLS. Its session is left out: it looks through the environment at every
call, follows redirects and reads ``.netrc``, and none of that is wanted here.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException, RemoteDisconnected
from typing import Any, TypeVar

from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.poolmanager import PoolManager

from routerkit.core import effects
from routerkit.core.effects import Failure, StreamResponse, TransportFailure
from routerkit.transport.addresses import AddressNotAllowedError
from routerkit.transport.body import decoded
from routerkit.transport.failures import destination, headers_of, is_local, name_of
from routerkit.transport.http1 import MAX_INTERIM, Head, MalformedError, TruncatedError, parse_head, request_bytes
from routerkit.transport.origins import Origins
from routerkit.transport.sockets import Clock, Pool, TLSPool
from routerkit.types.gateway import Gateway
from routerkit.types.verdict import Sent

PARTING = 0.01
"""Seconds to wait for the last bytes of an answer whose content is complete, so that its connection can serve again."""

T = TypeVar("T")


class Adapter(HTTPAdapter):
    """requests' adapter with our pools. Only its pools are used."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": TLSPool}

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> PoolManager:
        manager: PoolManager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = {"http": Pool, "https": TLSPool}
        return manager


class RequestsTransport:
    """One per client, for all its threads."""

    _pools: dict[str, Pool]

    def __init__(self, gateways: Sequence[Gateway]) -> None:
        """For exchanges with these gateways and with nobody else.

        Raises ConfigurationError for a proxy that cannot be used, and for gateways that do not go together.
        """
        self._origins = Origins(gateways)
        self._start()

    def send(self, order: effects.Send) -> effects.HttpResponse:
        """One exchange, the body read whole. Raises TransportFailure."""
        exchange = Exchange(self, order, "gzip")
        data = exchange.whole(order)
        body = decoded(data, exchange.headers.get("content-encoding"), order.max_bytes, exchange.status)
        return effects.HttpResponse(exchange.status, exchange.headers, body)

    def open(self, order: effects.Open) -> StreamResponse:
        """One exchange up to the headers. Raises TransportFailure."""
        exchange = Exchange(self, order, "identity")
        return StreamResponse(exchange.status, exchange.headers, exchange)

    def pool(self, origin: str) -> Pool:
        """The connections to an origin.

        Raises TransportFailure when no gateway is there, ConfigurationError for an unreadable ``ca_file``.
        """
        if self._process != os.getpid():
            self.forget()
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = self._new_pool(origin)
        return pool

    def close(self) -> None:
        """Close idle connections. Those in use close when they are given back."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def forget(self) -> None:
        """In a forked child: leave the parent's connections alone, and open our own."""
        inherited = self._pools
        self._start()
        for pool in inherited.values():
            pool.close()  # our descriptors only: nothing is said to the server

    def _start(self) -> None:
        self._process = os.getpid()
        self._pools = {}

    def _new_pool(self, url: str) -> Pool:
        origin = self._origins.at(url)
        tls = self._origins.tls(origin)
        # An adapter for each: one keeps a single manager for a proxy, with the TLS of whoever came first.
        adapter = Adapter(pool_maxsize=1)
        manager = adapter.poolmanager
        if origin.proxy is not None:
            manager = adapter.proxy_manager_for(origin.proxy, proxy_ssl_context=tls)
        options = {} if tls is None else {"ssl_context": tls}
        pool: Any = manager.connection_from_url(url, pool_kwargs={**manager.connection_pool_kw, **options})
        pool.block_private = origin.block_private
        return pool  # type: ignore[no-any-return]


class Exchange:
    """A request under way on one connection; the handle of an open stream."""

    __slots__ = ("_body", "_clock", "_connection", "_pool", "_rest", "_reused", "_sent", "headers", "status")

    def __init__(self, transport: RequestsTransport, order: effects.Send | effects.Open, encoding: str) -> None:
        """Send the request and read the answer's head. Raises TransportFailure."""
        self._connection: Any = None
        headers = headers_of(order.request, encoding)
        self._pool = transport.pool(destination(order.request.url).origin)
        self._reused = False
        self._sent = Sent.NOT_SENT
        now = time.monotonic()
        self._clock = Clock(now + min(order.connect, order.total))
        head = self._guarded(self._begin, order, headers, now + order.total)
        self._clock.until = now + order.total
        self._sent = Sent.RESPONDED
        self.status = head.status
        self.headers = head.headers
        self._body = head.body
        self._rest = head.rest

    def __del__(self) -> None:
        if self._connection is not None:
            self.abandon()

    def whole(self, order: effects.Send) -> bytes:
        """The body, as sent. Raises TransportFailure."""
        self._clock.idle = order.idle
        return self._guarded(self._whole, order.max_bytes)

    def read(self, seconds: float) -> bytes:
        """The next bytes of an open answer; ``b""`` at its end, and the connection is given back. Raises TransportFailure."""
        self._clock.until = time.monotonic() + seconds
        return self._guarded(self._next)

    def close(self, *, reusable: bool) -> None:
        """Give the connection back when the answer turns out to be complete, else close it. Closing twice does no harm."""
        if reusable and self._connection is not None:
            with contextlib.suppress(TransportFailure):
                self.read(PARTING)
        self.abandon()

    def abandon(self) -> None:
        """Close the connection, from wherever the garbage collector runs: no lock is taken."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _guarded(self, operation: Callable[..., T], *arguments: Any) -> T:
        """Perform a part of the exchange; if that fails, close the connection and say how far the exchange had come."""
        try:
            return operation(*arguments)
        except (OSError, HTTPException, HTTPError, ValueError, MemoryError) as error:
            failure = self._failure(error)
        except BaseException:
            self.abandon()
            raise
        self.abandon()
        # Raised outside the except block: the original error holds frames with the headers, and the key among them.
        raise failure

    def _begin(self, order: effects.Send | effects.Open, headers: dict[str, str], until: float) -> Head:
        request, clock = order.request, self._clock
        connection = None if request.fresh else self._pool.checkout()
        self._reused = connection is not None
        self._connection = connection or self._pool.connect(clock)
        clock.until = min(until, time.monotonic() + order.first_byte)
        # A memoryview, because its repr does not show the key in the frames of an interrupt.
        data = memoryview(request_bytes(request, destination(request.url), headers))
        self._sent = Sent.MAYBE
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # the server may have refused early, and said why
            self._connection.send_all(data, clock)
        return self._read_head(request.method)

    def _read_head(self, method: str) -> Head:
        data, interim = b"", 0
        while True:
            head = parse_head(data, method) if data else None
            if head is None:
                piece = self._connection.receive(self._clock)
                if not piece:
                    raise RemoteDisconnected("no answer")
                data += piece
            elif head.is_interim:
                data, interim = head.rest, interim + 1
                if interim > MAX_INTERIM:
                    raise MalformedError("too many interim answers")
            else:
                return head

    def _whole(self, limit: int) -> bytes:
        if self._body.length is not None and self._body.length > limit:
            raise _TooLargeError
        pieces, size = [], 0
        while piece := self._next():
            size += len(piece)
            if size > limit:
                raise _TooLargeError
            pieces.append(piece)
        return b"".join(pieces)

    def _next(self) -> bytes:
        body = self._body
        if body.fault is not None:
            raise TruncatedError(body.fault)
        data, self._rest = self._rest, b""
        while True:
            if data:
                piece = body.feed(data)
                if piece:
                    return piece
            if body.complete:
                self._give_back()
                return b""
            data = self._connection.receive(self._clock)
            if not data:
                body.end()

    def _give_back(self) -> None:
        if self._body.reusable and self._connection is not None:
            connection, self._connection = self._connection, None
            self._pool.checkin(connection)
        self.abandon()

    def _failure(self, error: Exception) -> TransportFailure:
        detail = _detail(error)
        status = self.status if self._sent is Sent.RESPONDED else None
        lag = self._clock.lag() if isinstance(error, TimeoutError) else 0.0
        kind = _kind(error, self._sent)
        return TransportFailure(kind, self._sent, reused=self._reused, detail=detail, status=status, lag=lag)


class _TooLargeError(ValueError):
    pass


_PROXY_REFUSAL = re.compile(r"Tunnel connection failed: ([0-9]{3})")
"""What urllib3 and the standard library say of it."""


def _detail(error: Exception) -> str:
    if isinstance(error, (MalformedError, TruncatedError, AddressNotAllowedError)):
        return str(error)
    refusal = _PROXY_REFUSAL.match(str(error))
    return f"the proxy answered {refusal[1]}" if refusal else name_of(error)


def _kind(error: Exception, sent: Sent) -> Failure:
    if is_local(error):
        return Failure.LOCAL
    if sent is Sent.NOT_SENT:
        return _connect_kind(error)
    if isinstance(error, TimeoutError):
        return Failure.FIRST_BYTE_TIMEOUT if sent is Sent.MAYBE else Failure.READ_TIMEOUT
    if sent is Sent.MAYBE:
        return Failure.MALFORMED if isinstance(error, MalformedError) else Failure.DISCONNECTED
    return Failure.TOO_LARGE if isinstance(error, _TooLargeError) else Failure.TRUNCATED


def _connect_kind(error: Exception) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure.TLS_VERIFY
    if isinstance(error, socket.gaierror):
        return Failure.RESOLVE
    if isinstance(error, AddressNotAllowedError):
        return Failure.ADDRESS
    if isinstance(error, TimeoutError):
        return Failure.CONNECT_TIMEOUT
    return Failure.LOCAL if isinstance(error, ValueError) else Failure.CONNECT
