"""HTTP for threads: performs ``Send``, ``Open``, ``Read`` and ``Close`` on requests and its urllib3.

requests contributes its adapter: pools, proxies, TLS. Its session is left out: it looks through the environment at every
call, follows redirects and reads ``.netrc``, and none of that is wanted here.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Any, cast

from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, ProxyError
from urllib3.poolmanager import PoolManager

from routerkit.core import effects
from routerkit.core.effects import Failure, HttpRequest, StreamResponse, TransportFailure
from routerkit.transport.body import decoded
from routerkit.transport.failures import READ_SIZE, authorization, name_of
from routerkit.transport.proxies import proxy_for
from routerkit.transport.sockets import Clock, Pool, TLSPool, tls_context
from routerkit.types.secret import origin_of
from routerkit.types.verdict import Sent

POOL_SIZE = 64
"""Idle connections kept per gateway. More may be open at a time."""
PARTING = 0.002
"""Seconds to wait for the last bytes of an answer whose content is complete, so that its connection can serve again."""


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

    def __init__(self, base_url: str, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._proxy = proxy_for(base_url)
        self._tls: ssl.SSLContext | None = None
        self._adapter = Adapter(pool_maxsize=POOL_SIZE)
        self._pools: dict[str, Pool] = {}

    def send(self, order: effects.Send) -> effects.HttpResponse:
        """One exchange, the body read whole. Raises TransportFailure."""
        exchange = Exchange(self, order.request, order.connect, order.first_byte, order.total, "gzip")
        return effects.HttpResponse(exchange.response.status, exchange.headers, exchange.whole(order))

    def open(self, order: effects.Open) -> StreamResponse:
        """One exchange up to the headers. Raises TransportFailure."""
        exchange = Exchange(self, order.request, order.connect, order.first_byte, order.total, "identity")
        return StreamResponse(exchange.response.status, exchange.headers, exchange)

    def pool(self, url: str) -> Pool:
        origin = origin_of(url)
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = self._new_pool(origin)
        return pool

    def close(self) -> None:
        """Close idle connections. Those in use close when they are given back."""
        self._adapter.close()
        self._pools.clear()

    def forget(self) -> None:
        """In a forked child: leave the parent's connections alone, and open our own."""
        self._adapter = Adapter(pool_maxsize=POOL_SIZE)
        self._pools = {}

    def _new_pool(self, origin: str) -> Pool:
        options: dict[str, Any] = {}
        if origin.startswith("https:"):
            if self._tls is None:
                self._tls = tls_context(self._ca_file)
            options["ssl_context"] = self._tls
        manager = self._adapter.proxy_manager_for(self._proxy) if self._proxy else self._adapter.poolmanager
        pool: Any = manager.connection_from_url(origin, pool_kwargs={**manager.connection_pool_kw, **options})
        return pool  # type: ignore[no-any-return]


class Exchange:
    """A request under way on one connection; the handle of an open stream."""

    __slots__ = ("_clock", "_connection", "_pool", "_sent", "response")

    def __init__(
        self,
        transport: RequestsTransport,
        request: HttpRequest,
        connect: float,
        first_byte: float,
        total: float,
        encoding: str,
    ) -> None:
        """Send the request and read the answer's head."""
        now = time.monotonic()
        headers = {**request.headers, "Accept-Encoding": encoding, **authorization(request)}
        self._sent = Sent.NOT_SENT
        self._clock = Clock(now + connect)
        self._pool = transport.pool(request.url)
        self._connection: Any = self._pool.checkout()
        failure = None
        try:
            if request.fresh:
                self._connection.close()
            self._connection.clock = self._clock
            if self._connection.is_closed:
                self._pool.open(self._connection)
            self._clock.until = min(now + total, time.monotonic() + first_byte)
            self._sent = Sent.MAYBE
            target = request.url[request.url.index("/", 8) :]
            self.response: HTTPResponse = self._connection.exchange(
                self._clock, request.method, target, request.body, headers
            )
            self._clock.until = now + total
        except (OSError, HTTPException, HTTPError) as error:
            self.discard()
            failure = self._failure(error)
        except BaseException:
            self.discard()
            raise
        # Raised outside the except block: the original error holds frames with the headers, and the key among them.
        if failure is not None:
            raise failure
        self._sent = Sent.RESPONDED

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers; ``http.client`` looks names up without regard to case, as the core expects."""
        return cast("Mapping[str, str]", self.response.headers)

    def whole(self, order: effects.Send) -> bytes:
        """The body, decompressed."""
        self._clock.idle = order.idle
        failure = None
        try:
            data = self._body(order.max_bytes)
        except (OSError, HTTPException, ValueError) as error:
            self.discard()
            failure = self._failure(error)
        except BaseException:
            self.discard()
            raise
        if failure is not None:
            raise failure
        self._give_back()
        return decoded(data, self.response.getheader("content-encoding"), order.max_bytes, self.response.status)

    def read(self, seconds: float) -> bytes:
        """The next bytes of an open answer; ``b""`` at its end. Raises TransportFailure."""
        self._clock.until = time.monotonic() + seconds
        failure = None
        try:
            data = self.response.read1(READ_SIZE)
        except (OSError, HTTPException, ValueError) as error:
            failure = self._failure(error)
        else:
            if not data and self.response.length:
                failure = self._failure(IncompleteRead(b""))
        if failure is not None:
            raise failure
        return data

    def close(self, *, reusable: bool) -> None:
        """Give the connection back when the answer turns out to be complete, else close it."""
        if self._connection is None:
            return
        if reusable:
            try:
                if not self.read(PARTING):
                    self._give_back()
                    return
            except TransportFailure:
                pass  # Not complete: the connection is of no further use, which discarding it says.
        self.discard()

    def discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._pool.checkin(connection)

    def abandon(self) -> None:
        """Close the connection without giving it back: for the garbage collector, which may interrupt the pool itself."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _body(self, limit: int) -> bytes:
        response = self.response
        if response.length is not None:
            if response.length > limit:
                raise _TooLargeError
            return response.read()
        pieces, size = [], 0
        while piece := response.read(READ_SIZE):
            size += len(piece)
            if size > limit:
                raise _TooLargeError
            pieces.append(piece)
        return b"".join(pieces)

    def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        self.response.close()
        if self.response.will_close:
            connection.close()
        self._pool.checkin(connection)

    def _failure(self, error: Exception) -> TransportFailure:
        reused = not self._clock.connected
        detail = name_of(error)
        status = self.response.status if self._sent is Sent.RESPONDED else None
        return TransportFailure(self._kind(error), self._sent, reused=reused, detail=detail, status=status)

    def _kind(self, error: Exception) -> Failure:
        if self._sent is Sent.NOT_SENT:
            return _connect_kind(error)
        if isinstance(error, _TooLargeError):
            return Failure.TOO_LARGE
        if self._sent is Sent.MAYBE:
            if isinstance(error, TimeoutError):
                return Failure.FIRST_BYTE_TIMEOUT
            disconnected = isinstance(error, (OSError, RemoteDisconnected))
            return Failure.DISCONNECTED if disconnected else Failure.MALFORMED
        return Failure.READ_TIMEOUT if isinstance(error, TimeoutError) else Failure.TRUNCATED


class _TooLargeError(ValueError):
    pass


def _connect_kind(error: BaseException) -> Failure:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return Failure.TLS_VERIFY
        if isinstance(seen, NameResolutionError):
            return Failure.RESOLVE
        if isinstance(seen, (ConnectTimeoutError, TimeoutError)):
            return Failure.CONNECT_TIMEOUT
        if isinstance(seen, OSError) and seen.errno in (12, 23, 24):  # ENOMEM, ENFILE, EMFILE
            return Failure.LOCAL
        seen = seen.original_error if isinstance(seen, ProxyError) else seen.__cause__
    return Failure.CONNECT
