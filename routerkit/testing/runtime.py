"""A clock that tests move."""

from __future__ import annotations

import random
import threading

from routerkit.core.effects import Latch
from routerkit.transport.runtime import SystemRuntime

WALL = 1_767_225_600.0
"""Midnight UTC on 1 January 2026."""
GRACE = 0.02
"""Real seconds that others have to set a latch for which somebody waits, before virtual time passes instead."""


class VirtualRuntime(SystemRuntime):
    """Time that moves only when it is told to, or when somebody sleeps in it; give it to a client as ``runtime=``.

    Sleeping moves the time on and returns at once, in threads as in tasks; several that sleep at the same time add up. Waiting
    for another thread or task does so, too, where that one does not come at once. It may be
    shared by threads. Randomness is seeded, so jitter is the same in every run. Timeouts of sockets are not virtual: over a
    network a silent server is waited for in real time, through a :class:`routerkit.testing.ScriptedTransport` it is not.
    """

    def __init__(self, *, start: float = 1_000.0, wall: float = WALL, seed: int = 0, dice: float | None = None) -> None:
        """``start`` is the monotonic clock's first reading, ``wall`` the same moment in Unix seconds."""
        self._mutex = threading.Lock()
        self._now = start
        self._offset = wall - start
        self._dice = random.Random(seed)  # noqa: S311
        self.dice: float | None = dice
        """What every throw of the dice gives, in [0, 1); ``None`` for seeded randomness. 0.5 takes jitter at its middle."""
        self.slept: list[float] = []
        """Every sleep's seconds, in order."""

    @property
    def now(self) -> float:
        """The monotonic clock."""
        return self.monotonic()

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
        """Let time pass. Raises ValueError when it would run backwards."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: {seconds}")
        with self._mutex:
            self._now += seconds

    def sleep(self, seconds: float) -> None:
        with self._mutex:
            self.slept.append(seconds)
            self._now += max(0.0, seconds)

    async def asleep(self, seconds: float) -> None:
        import asyncio

        self.sleep(seconds)
        await asyncio.sleep(0)

    def wait(self, latch: Latch, seconds: float) -> bool:
        if not super().wait(latch, min(seconds, GRACE)):
            self.advance(max(0.0, seconds))
        return latch.is_set

    async def async_wait(self, latch: Latch, seconds: float) -> bool:
        if not await super().async_wait(latch, min(seconds, GRACE)):
            self.advance(max(0.0, seconds))
        return latch.is_set
