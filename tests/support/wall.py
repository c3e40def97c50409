"""Processes that share a catalogue, and what their server holds, on one virtual clock; and what else may be there."""

from __future__ import annotations

import heapq
import itertools
import math
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from routerkit.core.catalog import CatalogCache, Snapshot
from routerkit.core.effects import (
    Ask,
    Await,
    Cancelled,
    Emit,
    Failure,
    Send,
    Sleep,
    Step,
    TransportFailure,
)
from routerkit.core.shared import packed
from routerkit.errors import APIError, DeadlineExceededError
from routerkit.gateways import OPENROUTER
from routerkit.types.event import CatalogRefreshed
from routerkit.types.gateway import Gateway
from routerkit.types.policy import Timeouts
from routerkit.types.verdict import Sent
from tests.support.board import BoardServer, MemoryBoard, Question
from tests.support.virtual import VirtualRuntime

DAY = 86_400.0


class Wall(BoardServer):
    """What the fleet's server holds."""

    def __init__(self, runtime: VirtualRuntime) -> None:
        super().__init__(runtime)
        self.tried: list[str] = []
        """The questions, answered or not."""

    @property
    def held(self) -> list[str]:
        """The leases that hold."""
        return [scope for scope in self.leases if self.holder(scope) is not None]

    def perform(self, question: Ask) -> Any:
        assert isinstance(question, Question)
        self.tried.append(question.what)
        now = self.runtime.now
        answer = super().perform(question)
        self.runtime.now = now  # others wait at the same time: :class:`World` lets it pass
        return answer

    def write(self, name: str, data: bytes, age: float = 0.0) -> None:
        """Somebody wrote this, so many seconds ago."""
        now = self.runtime.now
        self.blobs[name] = (data, now - age, now - age + DAY)


class Task:
    """A step under way."""

    def __init__(self, step: Step[Any]) -> None:
        self.step = step
        self.effect: Any = None
        self.ended: float | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.dead = False
        self.ticket = 0

    @property
    def ids(self) -> list[str]:
        assert isinstance(self.value, Snapshot), self.error or self.effect
        return [model.id for model in self.value.models]


class World:
    """Processes, the wall, a gateway, and what is to come. Only `Send` (a second), asking (a millisecond) and sleep take time."""

    def __init__(self, gateway: Gateway = OPENROUTER, ttl: float = 3600) -> None:
        self.runtime = VirtualRuntime()
        self.wall = Wall(self.runtime)
        self.gateway, self.ttl = gateway, ttl
        self.answers: list[Any] = []
        """What the gateway answers; the last for ever."""
        self.lists: dict[str, Any] = {}
        """What it answers by URL, where that is told."""
        self.takes = 1.0
        """Seconds that an answer takes."""
        self.sent: list[str] = []
        self.events: list[CatalogRefreshed] = []
        self._heap: list[tuple[float, int, Task, int, Callable[[], Any]]] = []
        self._count = itertools.count()

    def process(self) -> CatalogCache:
        return CatalogCache(self.gateway, self.runtime, self.ttl, MemoryBoard(self.wall))

    def ask(self, cache: CatalogCache, patience: float = 100.0, *, refresh: bool = False, key: Any = None) -> Task:
        """Somebody asks for the catalogue; time stands still."""
        deadline = self.runtime.now + patience
        return self.begin(cache.get(key, Timeouts(), deadline, refresh=refresh))

    def begin(self, step: Step[Any]) -> Task:
        task = Task(step)
        self._resume(task, lambda: None)
        return task

    def got(self, cache: CatalogCache, patience: float = 100.0, **more: Any) -> list[str]:
        """What somebody gets, when all is done."""
        task = self.ask(cache, patience, **more)
        self.run()
        return task.ids

    def run(self, until: float = math.inf) -> None:
        """Let time pass, for so many seconds."""
        end = self.runtime.now + until
        while self._heap and self._heap[0][0] <= end:
            when, _, task, ticket, outcome = heapq.heappop(self._heap)
            self.runtime.now = max(when, self.runtime.now)
            if not task.dead and ticket == task.ticket:
                self._resume(task, outcome)
        if until < math.inf:
            self.runtime.now = end

    def kill(self, task: Task) -> None:
        """Its process dies."""
        task.dead = True

    def cancel(self, task: Task) -> None:
        """It cleans up without waiting for anything."""
        task.ticket += 1
        with pytest.raises(Cancelled):
            task.step.throw(Cancelled())

    def _later(self, task: Task, seconds: float, outcome: Callable[[], Any], ticket: int | None = None) -> None:
        ticket = task.ticket if ticket is None else ticket
        heapq.heappush(self._heap, (self.runtime.now + seconds, next(self._count), task, ticket, outcome))

    def _resume(self, task: Task, outcome: Callable[[], Any]) -> None:
        task.ticket += 1
        try:
            value = outcome()
            effect = task.step.throw(value) if isinstance(value, BaseException) else task.step.send(value)
            while isinstance(effect, Emit):
                assert isinstance(effect.event, CatalogRefreshed)
                self.events.append(effect.event)
                effect = task.step.send(None)
            task.effect = effect
        except StopIteration as stop:
            task.ended, task.value = self.runtime.now, stop.value
        except (APIError, DeadlineExceededError) as error:
            task.ended, task.error = self.runtime.now, error
        else:
            self._wait(task, effect)

    def _wait(self, task: Task, effect: Any) -> None:
        if isinstance(effect, Question):
            self._later(task, effect.seconds if self.wall.lost else 0.001, lambda: self.wall.perform(effect))
        elif isinstance(effect, Sleep):
            assert effect.seconds <= 0.1
            self._later(task, effect.seconds, lambda: None)
        elif isinstance(effect, Await):
            latch, ticket = effect.latch, task.ticket
            latch.subscribe(lambda: self._later(task, 0.0, lambda: True, ticket))
            self._later(task, effect.seconds, lambda: latch.is_set)
        else:
            assert isinstance(effect, Send)
            self.sent.append(effect.request.url)
            answer = self.lists.get(self.sent[-1])
            if answer is None:
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            late = self.takes > effect.total
            timeout = TransportFailure(Failure.READ_TIMEOUT, Sent.MAYBE)
            self._later(task, min(self.takes, effect.total), lambda: timeout if late else answer)


SOME = b'{"data": [{"id": "a/old"}]}'


def bomb(mebibytes: int = 1024) -> bytes:
    """So many mebibytes of zeros, packed."""
    zeros, packer = bytes(1 << 20), zlib.compressobj(9)
    first, more = (packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + more * (mebibytes - 1) + packer.flush()


GARBAGE = {
    "nothing": b"",
    "noise": b"\x00\xff" * 500,
    "not packed": SOME,
    "cut": packed(SOME)[:-3],
    "more than one": packed(SOME) + b"x",
    "two": packed(SOME) * 2,
    "a bomb": bomb(),
    "no JSON": packed(b"<html>"),
    "a pickle": packed(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07routers\x94."),
    "deep": packed(b"[" * 100_000),
    "another's": packed(b'{"jobs": [1, 2, 3]}'),
    "no models": packed(b'{"data": [{"title": "x"}, 5, null]}'),
    "a number": packed(b"5"),
    "not text": packed(b'{"data": [{"id": "\xff"}]}'),
}
