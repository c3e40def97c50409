"""Ctrl-C and SIGTERM, for a task: the first one cancels it, so that it can end in good order; a second one ends at once."""

from __future__ import annotations

import asyncio
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Used as a context manager within a task, in the main thread; elsewhere it does nothing."""

    def __init__(self) -> None:
        self.caught: int | None = None
        """The signal that came."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:  # as nohup and shells have it for what runs behind
                    self._before[number] = before
                    signal.signal(number, self._strike)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)

    @property
    def code(self) -> int:
        """The exit code of a process that a signal ended; 0: none did."""
        return 0 if self.caught is None else 128 + self.caught

    def _strike(self, number: int, _: FrameType | None) -> None:
        self.caught = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
