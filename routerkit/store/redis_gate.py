"""Whether Redis is asked at all: a breaker of its own kind, so that a lost Redis costs next to nothing.

A failure makes it suspicious: one at a time may ask. After a time-out nobody asks for half a second: it may have been this
process that stood still. Three failures in a row that were no time-outs, or five time-outs over two seconds, and nobody asks
for five seconds; then one does. The first reply makes all well. It is not locked; its owner is.
"""

from __future__ import annotations

FAILURES = 3
TIMEOUTS = 5
SPAN = 2.0
"""Seconds between the first and the last of the time-outs."""
PAUSE = 0.5
"""Seconds in which nobody asks after a time-out."""
OPEN = 5.0
"""Seconds in which nobody asks once Redis is taken for lost."""
FLIGHT = 1.0
"""Seconds after which one who asked alone, and of whom nothing is known, is not waited for any longer."""


class Gate:
    """See the module."""

    __slots__ = ("_failures", "_first_timeout", "_flight_until", "_timeouts", "lost", "opens_at", "suspicious")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A reply came."""
        self.lost = False
        """Whether it takes Redis for lost."""
        self.suspicious = False
        """Whether the last who asked had no reply."""
        self.opens_at = 0.0
        """Until when nobody asks, on the monotonic clock."""
        self._failures = 0
        self._timeouts = 0
        self._first_timeout = 0.0
        self._flight_until = 0.0

    def enter(self, now: float) -> bool:
        """Whether the one who asks this may ask Redis. Whoever may must say what came of it."""
        if not self.suspicious:
            return True
        if now < self.opens_at or now < self._flight_until:
            return False
        self._flight_until = now + FLIGHT
        return True

    def left(self) -> None:
        """Whoever was let in has gone without asking to the end."""
        self._flight_until = 0.0

    def failed(self, now: float, *, timeout: bool, hopeless: bool = False) -> bool:
        """No reply came; ``hopeless``: as the server refuses us. Returns whether Redis is taken for lost from now on."""
        was_lost = self.lost
        self.suspicious = True
        self._flight_until = 0.0
        if timeout:
            self._first_timeout = self._first_timeout if self._timeouts else now
            self._timeouts += 1
        else:
            self._failures += 1
        slow = self._timeouts >= TIMEOUTS and now - self._first_timeout >= SPAN
        self.lost = was_lost or hopeless or slow or self._failures >= FAILURES
        if self.lost:
            self.opens_at = now + OPEN
        elif timeout:
            self.opens_at = now + PAUSE
        return self.lost and not was_lost
