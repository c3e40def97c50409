"""Clients whose limits are counted by a store, in memory or in Redis, through either facade."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from routerkit.testing import Connection, FaultServer, RecordedRequest, Reply
from routerkit.testing import replies as r
from routerkit.testing.signals import Signal
from tests.store.counters import _ELAPSE
from tests.store.servers import Server
from tests.support.facades import AsyncCaller, Caller, SkippingRuntime, SyncCaller
from tests.support.scenarios import A
from tests.support.unhurried import PATIENCE, unhurry

STORES = ("memory", "redis")


class Clock(SkippingRuntime):
    """Of which the time of day moves too."""

    def wall(self) -> float:
        return time.time() + self._skipped


@attrs.frozen
class World:
    """One gateway, one facade, one store."""

    facade: type[SyncCaller | AsyncCaller]
    server: FaultServer
    redis: Server | None
    """`None`: memory."""

    @property
    def gateway(self) -> str:
        """Its name."""
        return f"127.0.0.1:{self.server.port}"

    def client(self, **options: Any) -> Caller:
        store = "memory" if self.redis is None else self.redis.url
        given = {
            "base_url": self.server.url,
            "default_model": A,
            "store": store,
            "timeout": PATIENCE,
            "runtime": Clock(),
        }
        return self.facade(**{**given, **options})

    def elapse(self, caller: Caller, seconds: float) -> None:
        """Let so much time pass, for the client and for its store."""
        caller.client._runtime.advance(seconds)  # type: ignore[attr-defined]
        if self.redis is not None:
            self.redis.do("EVAL", _ELAPSE, 0, int(seconds * 1_000_000), 0)


class Turnstile:
    """A reply that lets requests through one by one, and knows how many were in it at the same time."""

    def __init__(self, reply: Reply | None = None) -> None:
        self.inside: list[str] = []
        """What those ask that wait here now, in the order in which they came."""
        self.came: list[str] = []
        self.most = 0
        self._reply = reply or r.completion()
        self._exits: dict[str, Signal] = {}

    def __call__(self, connection: Connection, request: RecordedRequest) -> None:
        question = request.json["messages"][0]["content"]
        leave = self._exits[question] = Signal()
        self.came.append(question)
        self.inside.append(question)
        self.most = max(self.most, len(self.inside))
        try:
            connection.wait(leave)
        finally:
            self.inside.remove(question)
        self._reply(connection, request)

    def let_go(self, question: str) -> None:
        self._exits[question].set()


def eventually(callers: Caller | Sequence[Caller] | None, predicate: Callable[[], bool]) -> None:
    """Wait until the predicate holds, while the loops of these callers, if they have any, go on running."""
    deadline = time.monotonic() + PATIENCE
    several = callers if isinstance(callers, Sequence) else [callers]
    loops = [each for each in several if isinstance(each, AsyncCaller)]
    while not predicate():
        assert time.monotonic() < deadline, "not in time"
        for each in loops:
            each.run(asyncio.sleep(0.002))
        if not loops:
            time.sleep(0.002)


def waiting(caller: Caller) -> int:
    """How many calls wait for a turn."""
    return sum(len(queue) for queue in caller.client.router.turns._queues.values())


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    unhurry(monkeypatch.setattr)
