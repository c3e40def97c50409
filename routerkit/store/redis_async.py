"""Runs scripts in Redis for tasks, as :mod:`routerkit.store.redis_link` does for threads.

Connections belong to their event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import weakref
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from routerkit.core.effects import Ask, StoreFailure
from routerkit.store.redis_address import Address
from routerkit.store.redis_link import (
    MAX_IDLE,
    _buried,
    arguments_of,
    client_options_of,
    failure_of,
    options_of,
    tls_of,
)

if sys.version_info >= (3, 11):
    from asyncio import timeout_at
else:
    from async_timeout import timeout_at

_CAN_READ = "can_read" if hasattr(AbstractConnection, "can_read") else "can_read_destructive"
"""Redis-py calls it otherwise from version 8 on."""
MAX_AT_ONCE = 16
"""Scripts under way on one event loop: of more, each would wait for the others within its own time limit."""
NET = 10.0
"""Seconds of redis-py's own clocks, which run while the event loop is busy with other things. An order's time limit is
:meth:`_Home.run`'s."""
ROUNDS = 40
"""Times that an order is given its time limit anew, as the event loop stood still."""
EARLY, LATE = 0.001, 0.01
"""Seconds before a time limit runs out at which we look, and by which that may be late."""


class AsyncRedisLink:
    """One per client, for all its tasks and event loops. It connects when it is first asked."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._process = os.getpid()
        self._homes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Home] = weakref.WeakKeyDictionary()

    async def perform(self, order: Ask) -> Any:
        """The script's reply. Raises StoreFailure."""
        if self._process != os.getpid():
            self.forget()
        home = await self._home()
        failures = home.failures
        async with home.turns:
            if home.failures != failures and home.failure is not None:
                raise StoreFailure(*home.failure.args)  # of one whose turn came before: this one would wait as long
            try:
                return await home.run(order)
            except (
                redis.RedisError,
                redis.exceptions.RedisClusterException,
                OSError,
                asyncio.TimeoutError,
                ValueError,
            ) as error:
                failure = failure_of(TimeoutError() if isinstance(error, asyncio.TimeoutError) else error)
            home.failures += 1
            home.failure = failure
        raise failure  # outside, so that nothing of redis-py's frames hangs on it: they hold the login

    async def close(self) -> None:
        """Close the connections of the running loop, and forget those of loops that have ended."""
        home = self._homes.pop(asyncio.get_running_loop(), None)
        if home is not None:
            await home.keeper.aclose()
        self._leave_ended()

    def forget(self) -> None:
        """In a forked child: the loops and their connections are the parent's, whose selector the child shares."""
        _buried.append(tuple(self._homes.values()))
        self._process = os.getpid()
        self._homes = weakref.WeakKeyDictionary()

    async def _home(self) -> _Home:
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop)
        if home is None:
            self._leave_ended()
            home = self._homes[loop] = _Home(self._address)
            await home.keeper.__anext__()
        return home

    def _leave_ended(self) -> None:
        for reference in self._homes.keyrefs():
            loop = reference()
            if loop is not None and loop.is_closed():
                self._homes.pop(loop, None)  # another thread may have been faster


class _Home:
    """What belongs to one event loop."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: deque[AbstractConnection] = deque()
        self._cluster: RedisCluster | None = None
        self.turns = asyncio.Semaphore(MAX_AT_ONCE)
        self.failures = 0
        self.failure: StoreFailure | None = None
        """The last."""
        self.keeper = self._keep()

    async def run(self, order: Ask) -> Any:
        loop = asyncio.get_running_loop()
        due = loop.time() + order.seconds
        async with timeout_at(due) as timer:
            patience = _Patience(loop, timer, due, order.seconds)
            try:
                return await (self._in_cluster(order) if self._address.kind == "cluster" else self._on_server(order))
            finally:
                patience.end()

    async def _keep(self) -> AsyncGenerator[None, None]:
        """Closes what is open when the loop shuts down, or the link is closed: loops end their generators then."""
        try:
            yield
        finally:
            await self.close()

    async def close(self) -> None:
        while self._idle:
            await self._idle.popleft().disconnect()
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            await cluster.aclose()

    async def _on_server(self, order: Ask) -> Any:
        connection = await self._connected()
        done = False
        try:
            try:
                reply = await _ask(connection, arguments_of(order, whole=False))
            except redis.exceptions.NoScriptError:
                reply = await _ask(connection, arguments_of(order, whole=True))
            done = True
        except redis.ResponseError as error:
            done = not isinstance(error, redis.exceptions.ReadOnlyError)
            if not done:  # after a fail-over another server is the master
                await self.close()
            raise
        finally:
            if done and connection.is_connected and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
            else:
                await _disconnect(connection)
        return reply

    async def _connected(self) -> AbstractConnection:
        """A connection that is fit for use, the one used last first."""
        while self._idle:
            connection = self._idle.pop()
            fit = False
            try:
                with contextlib.suppress(redis.RedisError, OSError):
                    ended = not connection.is_connected or connection._reader.at_eof()  # which version 5.0 overlooks
                    fit = not ended and not await getattr(connection, _CAN_READ)()
            finally:
                if not fit:
                    await _disconnect(connection)
            if fit:
                return connection
        connection = await self._connection()
        try:
            await connection.connect()
        except BaseException:
            await _disconnect(connection)
            raise
        return connection

    async def _connection(self) -> AbstractConnection:
        address = self._address
        options = options_of(address.login, NET, NET) | {
            "db": address.db,
            "retry": Retry(NoBackoff(), 0),
        }
        if address.kind == "socket":
            return UnixDomainSocketConnection(path=address.path, **options)
        host, port = await self._master() if address.kind == "sentinel" else address.hosts[0]
        kind = SSLConnection if address.tls else Connection
        return kind(host=host, port=port, **options, **tls_of(address))

    async def _master(self) -> tuple[str, int]:
        address = self._address
        options = client_options_of(address, address.sentinel_login, NET, NET)
        options["retry"] = Retry(NoBackoff(), 0)
        sentinel = Sentinel(address.hosts, sentinel_kwargs=options)
        try:
            host, port = await sentinel.discover_master(address.service)
        finally:
            for each in sentinel.sentinels:
                await each.aclose()
        return host, port

    async def _in_cluster(self, order: Ask) -> Any:
        if self._cluster is None:
            self._cluster = self._join()
        cluster = self._cluster
        try:
            try:
                return await cluster.execute_command(*arguments_of(order, whole=False))
            except redis.exceptions.NoScriptError:
                return await cluster.execute_command(*arguments_of(order, whole=True))
        except BaseException as error:
            if not isinstance(error, redis.ResponseError):
                self._cluster = None  # its nodes may have moved
                await cluster.aclose()
            raise

    def _join(self) -> RedisCluster:
        address = self._address
        options = client_options_of(address, address.login, NET, NET)
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        return RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 0), **options)


class _Patience:
    """Gives an order more time whenever its event loop stood still: only time in which the loop was free counts.

    Looks just before the time limit runs out. If that is late, the loop had other things to do: the reply may be there, and only
    not be read; or the connection, whose making takes several rounds of the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timer: Any, due: float, seconds: float) -> None:
        self._loop = loop
        self._timer = timer
        self._seconds = seconds
        self._left = ROUNDS
        self._wait(due)

    def end(self) -> None:
        self._handle.cancel()

    def _wait(self, due: float) -> None:
        self._due = due
        self._handle = self._loop.call_at(due - EARLY, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        if now <= self._due - EARLY + LATE or not self._left:
            return
        self._left -= 1
        due = now + self._seconds
        (self._timer.reschedule if hasattr(self._timer, "reschedule") else self._timer.update)(due)
        self._wait(due)


async def _disconnect(connection: AbstractConnection) -> None:
    """At once. Where the loop is gone, as of a task that was destroyed with it, nothing can be said to anybody any more."""
    with contextlib.suppress(RuntimeError):
        await connection.disconnect(nowait=True)


async def _ask(connection: AbstractConnection, arguments: tuple[str | bytes | int, ...]) -> Any:
    await connection.send_command(*arguments, check_health=False)
    return await connection.read_response()
