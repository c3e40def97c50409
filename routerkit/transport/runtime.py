"""The world as the core sees it: clocks, randomness, locks."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routerkit.core.effects import Latch


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

    def wait(self, latch: Latch, seconds: float) -> bool:
        """Wait for a latch, in a thread. Returns whether it is set."""
        event = threading.Event()
        latch.subscribe(event.set)
        try:
            return event.wait(seconds)
        finally:
            latch.unsubscribe(event.set)

    async def async_wait(self, latch: Latch, seconds: float) -> bool:
        """Wait for a latch, in a task. Returns whether it is set."""
        import asyncio

        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

        latch.subscribe(wake)
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except asyncio.TimeoutError:
            return latch.is_set
        finally:
            latch.unsubscribe(wake)
        return True
