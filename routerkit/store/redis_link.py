"""Runs scripts in Redis for threads. The commands are redis-py's; the pool and the time limits are our own.

A connection serves one script at a time. Whatever happens before its reply was read, a reply that comes late included, the
connection is closed: no reply is ever read by somebody else. A time limit is for all of an exchange, in however many pieces it
goes; in a cluster, whose connections are redis-py's, for each piece.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.credentials import CredentialProvider
from redis.retry import Retry
from redis.sentinel import Sentinel

from routerkit.core.effects import Ask, Loss, StoreFailure
from routerkit.store.redis_address import Address, Login
from routerkit.store.redis_ask import SECONDS

T = TypeVar("T")

MAX_IDLE = 64
"""Connections that are kept for later."""

_WORD = re.compile(r"\b(LOADING|READONLY|OOM|BUSY|MOVED|ASK|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|MISCONF|NOREPLICAS)\b")
"""What redis-py leaves in a message; of what it knows itself it makes a class."""
_DENIED = re.compile(r"\b(NOAUTH|WRONGPASS|NOPERM|ACL failure|unauthenticated)\b")
_UNTOLD: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)
"""To tell the server of redis-py would take two more round trips."""
_buried: list[object] = []
"""A parent's connections, in its child: closing them would be heard on the other side."""


class Provider(CredentialProvider):  # type: ignore[misc]  # of what type is not looked at
    """Gives redis-py a login, which its own settings would show."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        login = self._login
        return (login.password,) if login.user is None else (login.user, login.password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


class BoundedSocket:
    """A socket that keeps to one time limit for all that is sent and received until it is over."""

    __slots__ = ("_socket", "until")

    def __init__(self, raw: socket.socket) -> None:
        self._socket = raw
        self.until: float | None = None
        """On the monotonic clock; ``None``: the socket's own limit, for each piece."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def recv(self, *arguments: Any) -> bytes:
        return self._in_time(self._socket.recv, *arguments)

    def recv_into(self, *arguments: Any) -> int:
        return self._in_time(self._socket.recv_into, *arguments)

    def sendall(self, *arguments: Any) -> None:
        self._in_time(self._socket.sendall, *arguments)

    def _in_time(self, action: Callable[..., T], *arguments: Any) -> T:
        if self.until is None:
            return action(*arguments)
        # When the time is over, what has come meanwhile is still taken: it may have been this process that stood still.
        self._socket.settimeout(max(0.0, self.until - time.monotonic()))
        try:
            return action(*arguments)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise TimeoutError("no reply in time") from None


class _Bounded:
    """A connection with such a socket."""

    def _connect(self) -> BoundedSocket:
        return BoundedSocket(super()._connect())  # type: ignore[misc]


class BoundedConnection(_Bounded, Connection):  # type: ignore[misc]
    pass


class BoundedSSLConnection(_Bounded, SSLConnection):  # type: ignore[misc]
    pass


class BoundedUnixConnection(_Bounded, UnixDomainSocketConnection):  # type: ignore[misc]
    pass


def options_of(login: Login | None, connecting: float, seconds: float) -> dict[str, Any]:
    """What every connection is told: its time limits for connecting, and for each piece that is sent or received."""
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": connecting,
        "protocol": 2,
        "credential_provider": None if login is None else Provider(login),
        **_UNTOLD,
    }


def client_options_of(address: Address, login: Login | None, connecting: float, seconds: float) -> dict[str, Any]:
    """As Sentinels' and clusters' clients take them. A connection of ours has a class for TLS."""
    options = options_of(login, connecting, seconds)
    return options | {"ssl": True, **tls_of(address)} if address.tls else options


def tls_of(address: Address) -> dict[str, Any]:
    return {"ssl_ca_certs": address.ca_file} if address.tls and address.ca_file else {}


def arguments_of(order: Ask, *, whole: bool) -> tuple[str | bytes | int, ...]:
    """The command; ``whole``: with the script's text, for a server that does not have it."""
    script = order.script.text if whole else order.script.sha
    blob = () if order.blob is None else (order.blob,)
    return "EVAL" if whole else "EVALSHA", script, len(order.keys), *order.keys, " ".join(map(str, order.args)), *blob


def failure_of(error: BaseException) -> StoreFailure:
    """What redis-py raised, in our words. Its own message may quote what was sent."""
    text = str(error)[:1000]
    denied, word = _DENIED.search(text), _WORD.search(text)
    if isinstance(error, (redis.AuthenticationError, redis.exceptions.NoPermissionError)) or denied:
        return StoreFailure(Loss.DENIED, denied[1] if denied else type(error).__name__)
    if isinstance(error, (redis.TimeoutError, TimeoutError)):
        return StoreFailure(Loss.TIMEOUT)
    if isinstance(error, (redis.ResponseError, redis.exceptions.BusyLoadingError)):
        return StoreFailure(Loss.UNABLE, word[1] if word else type(error).__name__)
    return StoreFailure(Loss.CONNECTION, type(error.__cause__ or error.__context__ or error).__name__)


class RedisLink:
    """One per client, for all its threads. It connects when it is first asked."""

    def __init__(self, address: Address, seconds: float = SECONDS) -> None:
        """``seconds`` for each part of making a connection."""
        self._address = address
        self._seconds = seconds
        self._process = os.getpid()
        self._idle: deque[AbstractConnection] = deque()
        self._clusters: dict[float, RedisCluster] = {}
        """By time limit."""

    def perform(self, order: Ask) -> Any:
        """The script's reply. Raises StoreFailure."""
        if self._process != os.getpid():
            self.forget()
        try:
            return self._in_cluster(order) if self._address.kind == "cluster" else self._on_server(order)
        except (redis.RedisError, redis.exceptions.RedisClusterException, OSError, ValueError) as error:
            failure = failure_of(error)
        raise failure  # outside, so that nothing of redis-py's frames hangs on it: they hold the login

    def close(self) -> None:
        """Close all connections that are not in use."""
        while self._idle:
            self._idle.popleft().disconnect()
        clusters, self._clusters = self._clusters, {}
        for cluster in clusters.values():
            cluster.close()

    def forget(self) -> None:
        """In a forked child: the connections are the parent's."""
        _buried.append((self._idle, self._clusters))
        self._process = os.getpid()
        self._idle, self._clusters = deque(), {}

    def _on_server(self, order: Ask) -> Any:
        until = time.monotonic() + order.seconds
        connection = self._connected()
        process, fit = self._process, False
        try:
            try:
                reply = _ask(connection, arguments_of(order, whole=False), until)
            except redis.exceptions.NoScriptError:
                reply = _ask(connection, arguments_of(order, whole=True), until)
            fit = True
        except redis.ResponseError as error:
            fit = not isinstance(error, redis.exceptions.ReadOnlyError)
            if not fit:  # after a fail-over another server is the master
                self.close()
            raise
        finally:
            if fit and process == os.getpid() and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
            else:
                connection.disconnect()
        return reply

    def _connected(self) -> AbstractConnection:
        """A connection that is fit for use, the one used last first."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            with contextlib.suppress(redis.RedisError, OSError):
                if not connection.can_read(timeout=0):
                    return connection
            connection.disconnect()  # closed by the server, or something was said that nobody asked for
        connection = self._connection()
        connection.connect()
        return connection

    def _connection(self) -> AbstractConnection:
        address = self._address
        options = options_of(address.login, self._seconds, self._seconds) | {
            "db": address.db,
            "retry": Retry(NoBackoff(), 0),
        }
        if address.kind == "socket":
            return BoundedUnixConnection(path=address.path, **options)
        host, port = self._master() if address.kind == "sentinel" else address.hosts[0]
        kind = BoundedSSLConnection if address.tls else BoundedConnection
        return kind(host=host, port=port, **options, **tls_of(address))

    def _master(self) -> tuple[str, int]:
        address = self._address
        options = client_options_of(address, address.sentinel_login, self._seconds, self._seconds)
        options["retry"] = Retry(NoBackoff(), 0)
        sentinel = Sentinel(address.hosts, sentinel_kwargs=options)
        try:
            host, port = sentinel.discover_master(address.service)
        finally:
            for each in sentinel.sentinels:
                each.close()
        return host, port

    def _in_cluster(self, order: Ask) -> Any:
        cluster = self._clusters.get(order.seconds)
        if cluster is None:
            cluster = self._clusters[order.seconds] = self._join(order.seconds)
        try:
            try:
                return cluster.execute_command(*arguments_of(order, whole=False))
            except redis.exceptions.NoScriptError:
                return cluster.execute_command(*arguments_of(order, whole=True))
        except BaseException as error:
            if not isinstance(error, redis.ResponseError):
                self._clusters.pop(order.seconds, None)  # its nodes may have moved
                cluster.close()
            raise

    def _join(self, seconds: float) -> RedisCluster:
        address = self._address
        options = client_options_of(address, address.login, self._seconds, seconds)
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        return RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 0), **options)


def _ask(connection: AbstractConnection, arguments: tuple[str | bytes | int, ...], until: float) -> Any:
    bounded = connection._sock
    bounded.until = until
    try:
        connection.send_command(*arguments, check_health=False)
        return connection.read_response()
    finally:
        bounded.until = None
