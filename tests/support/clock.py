"""A runtime whose time moves only when a test moves it, or when somebody sleeps in it::

    runtime = VirtualRuntime()
    client = Client(api_key="sk-test-1234567890", base_url=server.url, runtime=runtime)
    runtime.advance(3600)  # an hour passes
    assert runtime.slept == []  # and nobody waited for it

Sleeping moves the time on and returns at once, in threads as in tasks. Randomness is seeded; `dice` fixes it. Timeouts of
sockets are not virtual: a transport waits for a silent server in real time.
"""

from __future__ import annotations

import asyncio
import random
import threading

from routerkit.transport.runtime import SystemRuntime

WALL = 1_767_225_600.0
"""Midnight UTC on 1 January 2026."""


class VirtualRuntime(SystemRuntime):
    """See the module. May be shared by threads."""

    def __init__(self, *, start: float = 1_000.0, wall: float = WALL, seed: int = 0) -> None:
        self._mutex = threading.Lock()
        self._now = start
        self._offset = wall - start
        self._dice = random.Random(seed)
        self.dice: float | None = None
        """When set, what `random` returns."""
        self.slept: list[float] = []
        """Every sleep's seconds, in order."""

    def monotonic(self) -> float:
        with self._mutex:
            return self._now

    def wall(self) -> float:
        with self._mutex:
            return self._now + self._offset

    def random(self) -> float:
        with self._mutex:
            return self._dice.random() if self.dice is None else self.dice

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        assert seconds >= 0
        with self._mutex:
            self._now += seconds

    def sleep(self, seconds: float) -> None:
        with self._mutex:
            self.slept.append(seconds)
            self._now += max(0.0, seconds)

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)
