"""Sockets that keep a deadline, and pools of connections, on urllib3.

The timeout of a socket begins anew with every operation: a server that sends or takes a byte now and then holds a client for
ever. Here every operation first looks at the exchange's clock and waits no longer than that allows. No thread watches.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
import time
import weakref
from collections import deque
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from routerkit.transport.addresses import check_public
from routerkit.transport.failures import KEEPALIVE_IDLE, READ_SIZE, is_local, is_readable

POOL_SIZE = 64
"""Idle connections kept per gateway. More may be open at a time."""


class Clock:
    """What is left of an exchange: no operation may go on after ``until`` or wait longer than ``idle`` seconds."""

    __slots__ = ("_due", "idle", "until")

    def __init__(self, until: float) -> None:
        self.until = self._due = until
        """On the monotonic clock."""
        self.idle = float("inf")

    def left(self) -> float:
        """Seconds that the next operation may take. Raises TimeoutError when there are none."""
        now = time.monotonic()
        self._due = min(self.until, now + self.idle)
        if self._due <= now:
            raise TimeoutError
        return self._due - now

    def lag(self) -> float:
        """Seconds since the operation that has just timed out should have."""
        return max(0.0, time.monotonic() - self._due)


class WatchedSocket(socket.socket):
    """A socket whose reads look at the clock also when others do them: ``http.client``, which reads a proxy's answer."""

    clock: Clock

    def recv_into(self, *args: Any) -> int:
        self.settimeout(self.clock.left())
        return super().recv_into(*args)


class _Connection(HTTPConnection):
    """One connection, from the pool or to be opened."""

    clock: Clock
    block_private: bool
    idle_since = 0.0

    def _new_conn(self) -> socket.socket:
        addresses = _addresses(self._dns_host, self.port or 80, self.clock)
        if self.block_private:
            check_public(address[0] for *_, address in addresses)
        return _connected(addresses, self.clock)

    def can_serve(self) -> bool:
        """Whether it can be used again: neither closed, nor with bytes nobody asked for, nor idle for too long."""
        return time.monotonic() - self.idle_since < KEEPALIVE_IDLE and not is_readable(self.sock)

    def send_all(self, data: memoryview, clock: Clock) -> None:
        sock: Any = self.sock
        while data:
            sock.settimeout(clock.left())
            data = data[sock.send(data) :]

    def receive(self, clock: Clock) -> bytes:
        """The next bytes; ``b""`` at the end of the connection."""
        sock: Any = self.sock
        sock.settimeout(clock.left())
        data: bytes = sock.recv(READ_SIZE)
        return data


class Connection(_Connection):
    pass


class TLSConnection(_Connection, HTTPSConnection):
    pass


class Pool(HTTPConnectionPool):
    """Connections to one origin. Their idle ones are held without a lock, which a fork could leave locked for ever."""

    ConnectionCls = Connection
    block_private = False
    """Whether to connect to public addresses only."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.idle: deque[Any] = deque()
        weakref.finalize(self, close_all, self.idle)

    def checkout(self) -> Any:
        """The connection that was used last and can still serve; ``None`` when there is none."""
        while True:
            try:
                connection = self.idle.pop()
            except IndexError:
                return None
            try:
                if connection.can_serve():
                    return connection
            except BaseException:  # an interrupt: it is nobody's now
                connection.close()
                raise
            connection.close()

    def checkin(self, connection: Any) -> None:
        """Keep a connection for the next exchange, and close those that have been idle for too long."""
        connection.idle_since = now = time.monotonic()
        if self.pool is None or len(self.idle) >= POOL_SIZE:
            connection.close()
            return
        self.idle.append(connection)
        try:
            while now - self.idle[0].idle_since >= KEEPALIVE_IDLE:
                self.idle.popleft().close()
        except IndexError:  # other threads took them all
            pass

    def connect(self, clock: Clock) -> Any:
        """A new connection, through the proxy if there is one."""
        connection: Any = self._new_conn()
        connection.clock = clock
        connection.block_private = self.block_private
        connection.timeout = clock.left()
        try:
            if self.proxy is not None:
                self._prepare_proxy(connection)
            if connection.is_closed:
                connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are given back."""
        super().close()
        close_all(self.idle)


class TLSPool(Pool, HTTPSConnectionPool):
    ConnectionCls = TLSConnection  # type: ignore[assignment]


def close_all(idle: deque[Any]) -> None:
    while idle:
        idle.pop().close()


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
        except UnicodeError:  # a label that is empty or too long
            found.append(socket.gaierror(socket.EAI_NONAME, "not a host name"))

    thread = threading.Thread(target=resolve, name="routerkit-resolve", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise OSError(errno.ENOMEM, "no thread") from None
    thread.join(clock.left())
    if not found:
        raise TimeoutError
    if isinstance(found[0], OSError):
        raise found[0]
    return list(found[0])


def _connected(addresses: list[Any], clock: Clock) -> socket.socket:
    """The first address that answers; each gets its share of the time that is left.

    Raises what the last one failed with. It is a matter of this process only if it was for all of them: a machine without IPv6
    has no address of its own to reach such a one from.
    """
    failure: OSError | None = None
    for place, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            return _dialled(WatchedSocket(family, kind, protocol), address, len(addresses) - place, clock)
        except OSError as error:
            if failure is None or is_local(failure) or not is_local(error):
                failure = error
    raise failure or OSError("the host has no address")


def _dialled(sock: WatchedSocket, address: Any, shares: int, clock: Clock) -> socket.socket:
    """The socket, connected in its share of the time that is left."""
    try:
        sock.clock = clock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(clock.left() / shares)
        sock.connect(address)
        sock.settimeout(clock.left())
    except BaseException:
        sock.close()
        raise
    return sock
