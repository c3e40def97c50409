"""The world as the core sees it: clocks, randomness, locks."""

from __future__ import annotations

import random
import threading
import time


class SystemRuntime:
    """The real world. Tests pass another one, whose time they move."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def random(self) -> float:
        # The module's own generator: CPython seeds it anew in a forked child, where a private one would repeat itself.
        return random.random()  # noqa: S311

    def lock(self) -> threading.Lock:
        return threading.Lock()

    def sleep(self, seconds: float) -> None:
        """Wait, in a thread."""
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        """Wait, in a task."""
        import asyncio

        await asyncio.sleep(seconds)
