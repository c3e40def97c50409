"""How patient a client is: timeouts, retries, breakers. Frozen values, validated when they are made."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

from routerkit.errors import ConfigurationError
from routerkit.types.secret import shown

_Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def number(low: float, high: float = math.inf, *, exclusive: bool = False, whole: bool = False) -> _Check:
    """A validator: a finite number (``whole``: an int) in [low, high], or above low when ``exclusive``."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if fits and low <= value <= high and value < math.inf and not (exclusive and value == low):
            return
        kind = "a whole number" if whole else "a number"
        bounds = f"{'above' if exclusive else 'from'} {low:g}" + (f" to {high:g}" if high != math.inf else " on")
        raise ConfigurationError(f"{type(instance).__name__}({attribute.name}={shown(value)}): must be {kind} {bounds}")

    return check


def flag(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """A validator: ``True`` or ``False``."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{type(instance).__name__}({attribute.name}={shown(value)}): must be True or False")


_DAY = 86400.0
MAX_ATTEMPTS = 10
"""Of one call, whatever a policy says."""


def _seconds(default: float) -> Any:
    return attrs.field(default=default, validator=number(0, _DAY, exclusive=True))


@attrs.frozen(init=False)
class Timeouts:
    """The five clocks of an attempt and the deadline of a call, in seconds.

    ``Timeouts().total`` is 120 for a completion and ``stream_total`` 600 for a stream; giving ``total`` sets both.
    """

    connect: float = _seconds(5)
    """Name resolution, TCP and TLS together."""
    first_byte: float = _seconds(30)
    """From the request to the status line. Without streaming, most gateways send it only once the whole answer is ready."""
    first_token: float = _seconds(45)
    """Streams: from the request to the first content; comments and empty deltas do not count. While other models wait for their
    turn, half of what is left of the deadline if that is less, though never less than ``BreakerPolicy.slow_first_token``."""
    idle: float = _seconds(20)
    """Between two reads that bring any byte at all."""
    content_idle: float = _seconds(120)
    """Streams: between two deltas that carry content; keep-alive comments do not count."""
    total: float = _seconds(120)
    """The whole call, every attempt and wait included."""
    stream_total: float = _seconds(600)
    """The same for streams."""

    def __init__(
        self,
        connect: float = 5,
        first_byte: float = 30,
        first_token: float = 45,
        idle: float = 20,
        content_idle: float = 120,
        total: float | None = None,
        *,
        stream_total: float | None = None,
    ) -> None:
        if stream_total is None:
            stream_total = 600 if total is None else total
        self.__attrs_init__(
            connect, first_byte, first_token, idle, content_idle, 120 if total is None else total, stream_total
        )

    @classmethod
    def of(cls, value: float | Timeouts | None) -> Timeouts:
        """A bare number is ``total``; ``None`` gives the defaults."""
        if isinstance(value, Timeouts):
            return value
        return cls() if value is None else cls(total=value)


@attrs.frozen
class RetryPolicy:
    """How often, and after which waits, a call tries again.

    Before the k-th retry of the same target (k from 0) it waits ``w = min(backoff_max, backoff_base · 2^k)`` seconds, of
    which the share ``jitter`` is random: ``w · (1 − jitter) + U(0, w · jitter)``. Moving to another target waits for nothing.
    """

    max_attempts: int = attrs.field(default=4, validator=number(1, MAX_ATTEMPTS, whole=True))
    """Attempts of one call, over all targets; never more than 10."""
    max_same_target: int = attrs.field(default=2, validator=number(1, MAX_ATTEMPTS, whole=True))
    """Attempts of one call on one target; an attempt with another of its keys is no further one."""
    backoff_base: float = attrs.field(default=0.5, validator=number(0, 3600))
    """Seconds; 0: no waits of our own."""
    backoff_max: float = attrs.field(default=8.0, validator=number(0, 3600))
    """Seconds."""
    jitter: float = attrs.field(default=1.0, validator=number(0, 1))
    """1: full jitter, ``U(0, w)``; 0: exactly ``w``."""
    budget: float = attrs.field(default=10.0, validator=number(0, 1000))
    """Capacity of each target's retry budget; a retry of the same target takes 1 from it."""
    budget_deposit: float = attrs.field(default=0.1, validator=number(0, 1))
    """What each first attempt on a target puts into its budget; besides, 1 returns every 10 s."""
    max_sleep: float = attrs.field(default=60.0, validator=number(0, 3600))
    """The longest wait that a server's hint can ask of a call, in seconds."""
    at_most_once: bool = attrs.field(default=False, validator=flag)
    """``True``: a call ends with the first attempt that may have been processed, and so billed; only what was proved not
    sent, or was refused, is tried again. Gateways know no idempotency keys for completions, so this is the one way never
    to pay twice."""


@attrs.frozen
class BreakerPolicy:
    """When a target or gateway is taken out, and how it comes back. Times in seconds."""

    enabled: bool = attrs.field(default=True, validator=flag)
    """``False``: no breaker ever opens."""
    window: int = attrs.field(default=20, validator=number(1, 10_000, whole=True))
    """Samples looked at, at most."""
    window_seconds: float = attrs.field(default=120.0, validator=number(0, _DAY, exclusive=True))
    """Older samples are dropped."""
    min_samples: int = attrs.field(default=5, validator=number(1, 10_000, whole=True))
    """With fewer, no rate is computed."""
    failure_rate: float = attrs.field(default=0.5, validator=number(0, 1, exclusive=True))
    """This share of failures among the samples opens."""
    fast_trip: int = attrs.field(default=5, validator=number(1, 10_000, whole=True))
    """This many failures in a row within ``fast_trip_seconds`` open at once."""
    fast_trip_seconds: float = attrs.field(default=10.0, validator=number(0, _DAY, exclusive=True))
    """See ``fast_trip``."""
    slow_first_token: float = attrs.field(default=10.0, validator=number(0, _DAY, exclusive=True))
    """A stream whose first content takes longer counts as slow."""
    slow_rate: float = attrs.field(default=0.8, validator=number(0, 1, exclusive=True))
    """This share of slow or failed samples opens."""
    open_seconds: float = attrs.field(default=5.0, validator=number(0, _DAY, exclusive=True))
    """Open for ``open_seconds · 1.5^(n-1) · U(0.5, 1)`` the n-th time in a row, ``open_max`` at most before the jitter."""
    open_max: float = attrs.field(default=60.0, validator=number(0, _DAY, exclusive=True))
    """The longest that a breaker stays open before it lets a probe through."""
    successes_to_close: int = attrs.field(default=2, validator=number(1, 100, whole=True))
    """Probes that must succeed one after the other before a half-open breaker closes."""
    lease: float = attrs.field(default=60.0, validator=number(0, _DAY, exclusive=True))
    """A probe that was never settled is given up after this long."""
