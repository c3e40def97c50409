"""An event loop whose time passes at once: when nothing is ready it is at once as late as the next thing is due.

Unlike :class:`routerkit.testing.VirtualRuntime`, whose sleepers add up, here tasks that sleep at the same time sleep together.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from routerkit.testing.runtime import WALL
from routerkit.transport.runtime import SystemRuntime

T = TypeVar("T")

START = 1_000.0


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready: list[Any] = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everything waits, and nothing is to come")
            self.passed += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._own = _Selector()
        super().__init__(self._own)

    def time(self) -> float:
        return START + self._own.passed


class LoopRuntime(SystemRuntime):
    """The time of the loop that runs; dice that stand at their middle."""

    def __init__(self) -> None:
        self._last = START

    def monotonic(self) -> float:
        try:
            self._last = asyncio.get_running_loop().time()
        except RuntimeError:  # before, or after
            pass
        return self._last

    def wall(self) -> float:
        return WALL + self.monotonic() - START

    def random(self) -> float:
        return 0.5


def run(work: Coroutine[Any, Any, T]) -> T:
    """Drive it to its end, in no time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
