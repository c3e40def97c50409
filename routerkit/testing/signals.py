"""``Signal``: an event that a reply waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Signal(threading.Event):
    """An event that a reply can wait for (``pause(signal)``, ``connection.wait(signal)``) without polling."""

    def __init__(self) -> None:
        super().__init__()
        self._wakers: list[Callable[[], None]] = []
        self._guard = threading.Lock()

    def set(self) -> None:
        super().set()
        with self._guard:
            for wake in self._wakers:
                wake()

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call ``wake`` when the signal is set within the block; check ``is_set`` inside it."""
        with self._guard:
            self._wakers.append(wake)
        try:
            yield
        finally:
            with self._guard:
                self._wakers.remove(wake)
