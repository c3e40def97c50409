"""How long to wait before trying again, whether that makes sense, and how often it may happen."""

from __future__ import annotations

from collections.abc import Iterator

from routerkit.types.policy import RetryPolicy
from routerkit.types.request import ChatRequest

REFILL_SECONDS = 10.0
"""One retry returns to every budget after so long, so that rarely used targets can retry too."""


MIN_USEFUL = 1.0
"""Seconds that must be left for another attempt to make sense, or a tenth of the call's total where that is less."""
WAITABLE = frozenset(
    {
        "rate_limited",
        "capacity_exhausted",
        "overloaded",
        "in_flight_budget",
        "not_an_api",
        "edge_error",
        "edge_error_sent",
    }
)
"""Cooldowns that a call may sit out when nothing else is left."""


def useful(request: ChatRequest) -> float:
    """Seconds that an attempt needs at least."""
    return min(MIN_USEFUL, request.total / 10)


def worthwhile(seconds: float, request: ChatRequest) -> bool:
    """Whether so much time is enough for an attempt."""
    return seconds >= useful(request)


def waits(policy: RetryPolicy) -> Iterator[float]:
    """The upper bounds of successive waits in seconds: ``min(backoff_max, backoff_base · 2^k)``."""
    # Imported late: backoff imports asyncio, and most processes never wait.
    import backoff

    series = backoff.expo(base=2, factor=policy.backoff_base, max_value=policy.backoff_max)
    next(series)  # backoff's generators are primed once
    yield from series


def jittered(bound: float, jitter: float, random: float) -> float:
    """``bound``, of which the share ``jitter`` is random; full jitter when that share is 1."""
    return bound * (1 - jitter) + bound * jitter * random


def spread(hint: float, random: float) -> float:
    """A server's hint, never early and never all at once: up to a tenth and at most a second is added."""
    return hint + min(1.0, 0.1 * hint) * random


class RetryBudget:
    """Tokens for retries of one target: each first attempt deposits a little, each retry of the same target takes one.

    Not locked; its owner is.
    """

    __slots__ = ("_capacity", "_deposit", "_tokens", "_updated")

    def __init__(self, policy: RetryPolicy, now: float) -> None:
        self._capacity = policy.budget
        self._deposit = policy.budget_deposit
        self._tokens = policy.budget
        self._updated = now

    def deposit(self) -> None:
        self._tokens = min(self._capacity, self._tokens + self._deposit)

    def withdraw(self, now: float) -> bool:
        """Whether a retry is allowed; it is then paid for."""
        self._tokens = min(self._capacity, self._tokens + (now - self._updated) / REFILL_SECONDS)
        self._updated = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
