"""Sockets that keep a deadline, and connections of urllib3 that use them.

The timeout of a socket begins anew with every ``recv``: a server that sends a byte now and then holds a reader for ever. Here
every ``recv`` first looks at the exchange's clock and waits no longer than that allows. No thread watches.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from http.client import HTTPConnection as PlainConnection
from http.client import HTTPResponse
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from routerkit.transport.failures import KEEPALIVE_IDLE


class Clock:
    """What is left of an exchange: no read may begin after ``until`` or last longer than ``idle`` seconds."""

    __slots__ = ("connected", "idle", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        """On the monotonic clock."""
        self.idle = float("inf")
        self.connected = False
        """Whether this exchange opened its connection, rather than finding one in the pool."""

    def left(self) -> float:
        """Seconds that the next operation may take. Raises TimeoutError when there are none."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, self.idle)


class _Watched:
    """A socket whose reads look at a clock."""

    clock: Clock | None = None
    last_read = 0.0

    def recv_into(self, *args: Any) -> int:
        if self.clock is not None:
            self.settimeout(self.clock.left())  # type: ignore[attr-defined]
        count: int = super().recv_into(*args)  # type: ignore[misc]
        self.last_read = time.monotonic()
        return count


class WatchedSocket(_Watched, socket.socket):
    pass


class WatchedTLSSocket(_Watched, ssl.SSLSocket):
    pass


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later, verified against certifi's authorities, and those of a PEM file if one is given."""
    from certifi import where
    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context()
    context.load_verify_locations(where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.sslsocket_class = WatchedTLSSocket
    return context


class _Connection(HTTPConnection):
    clock: Clock | None = None

    def _new_conn(self) -> socket.socket:
        clock = cast("Clock", self.clock)
        clock.connected = True
        try:
            return _connected(_addresses(self._dns_host, self.port or 80, clock), clock)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from None
        except TimeoutError:
            raise ConnectTimeoutError(self, "timed out") from None
        except OSError as error:
            raise NewConnectionError(self, type(error).__name__) from None

    @property
    def is_connected(self) -> bool:
        """Whether a pooled connection can be used again: neither closed nor idle for too long."""
        idle_since = getattr(self.sock, "last_read", 0.0)
        return time.monotonic() - idle_since < KEEPALIVE_IDLE and super().is_connected

    def exchange(
        self, clock: Clock, method: str, target: str, body: bytes | None, headers: dict[str, str]
    ) -> HTTPResponse:
        """Send a request on the open connection and read the answer's head."""
        sock: Any = self.sock
        sock.clock = clock
        sock.settimeout(clock.left())
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # the server may have refused early, and said why
            self.request(method, target, body=body, headers=headers)
        return PlainConnection.getresponse(self)


class Connection(_Connection):
    pass


class TLSConnection(_Connection, HTTPSConnection):
    pass


class Pool(HTTPConnectionPool):
    ConnectionCls = Connection

    def checkout(self) -> Any:
        """An idle connection that still looks alive, or a new one that is not open yet."""
        return self._get_conn()

    def checkin(self, connection: Any) -> None:
        self._put_conn(connection)

    def open(self, connection: Any) -> None:
        """Connect, through the proxy if there is one."""
        connection.timeout = connection.clock.left()
        if self.proxy is not None:
            self._prepare_proxy(connection)
        if connection.is_closed:
            connection.connect()


class TLSPool(Pool, HTTPSConnectionPool):
    ConnectionCls = TLSConnection  # type: ignore[assignment]


def _addresses(host: str, port: int, clock: Clock) -> list[Any]:
    """Resolve a name in the time that is left: ``getaddrinfo`` itself knows no timeout."""
    host = host.strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found: list[Any] = []

    def resolve() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=resolve, name="routerkit-resolve", daemon=True)
    thread.start()
    thread.join(clock.left())
    if not found:
        raise TimeoutError
    if isinstance(found[0], OSError):
        raise found[0]
    return list(found[0])


def _connected(addresses: list[Any], clock: Clock) -> socket.socket:
    """The first address that answers; each gets its share of the time that is left."""
    failure: OSError = OSError("the host has no address")
    for place, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = WatchedSocket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(clock.left() / (len(addresses) - place))
            sock.connect(address)
            sock.clock = clock
            sock.settimeout(clock.left())
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
