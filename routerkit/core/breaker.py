"""A circuit breaker: closed, open or half-open, for one model or one gateway.

All transitions happen lazily, in :meth:`Breaker.acquire` and :meth:`Breaker.record`, by the time that the caller passes in:
no timers, no threads. A breaker is not locked; its owner (:mod:`routerkit.core.health`) is.

Whoever wants to try takes a :class:`Permit` and gives it back once, with what happened. A permit carries the breaker's
generation: a result that comes back after a transition changes nothing, so a late success cannot close a breaker that
opened since, nor a late failure keep one open. Given back without a result, or never, it counts for nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from routerkit.types.event import BreakerState
from routerkit.types.policy import BreakerPolicy
from routerkit.types.verdict import Sample

RESET_AFTER = 120.0
"""Seconds closed after which the next opening counts as the first in a row again."""
PANIC_INTERVAL = 1.0
"""Seconds between two panic probes."""


class Permit:
    """The right to one attempt. The first settlement counts, later ones and those of an older generation do not."""

    __slots__ = ("breaker", "generation", "last_hope", "probe", "settled", "started")

    def __init__(self, breaker: Breaker, generation: int, started: float, probe: bool, last_hope: bool = False) -> None:
        self.breaker = breaker
        self.generation = generation
        self.started = started
        self.probe = probe
        self.last_hope = last_hope
        """Whether it is a probe for want of any other target: one success is then enough."""
        self.settled = False

    def settle(self, sample: Sample, now: float) -> None:
        if not self.settled:
            self.settled = True
            self.breaker.returned(self, sample, now)


class Breaker:
    """See the module. ``random`` gives numbers in [0, 1), ``on_change`` is told of every transition, after it happened."""

    __slots__ = (
        "_closed_at",
        "_forced",
        "_generation",
        "_last_panic",
        "_leased_until",
        "_on_change",
        "_openings",
        "_policy",
        "_probes_ok",
        "_random",
        "_row",
        "_samples",
        "_waiting",
        "open_until",
        "state",
    )

    def __init__(
        self,
        policy: BreakerPolicy,
        random: Callable[[], float],
        on_change: Callable[[BreakerState, float], object] | None = None,
    ) -> None:
        self._policy = policy
        self._random = random
        self._on_change = on_change
        self.state = BreakerState.CLOSED
        self.open_until = 0.0
        self._generation = 0
        self._samples: deque[tuple[float, Sample]] = deque(maxlen=policy.window)
        self._row: deque[float] = deque(maxlen=policy.fast_trip)
        """Times of the failures since the last success."""
        self._waiting: set[Permit] = set()
        """Of streams that have brought nothing yet."""
        self._openings = 0
        self._closed_at = 0.0
        self._probes_ok = 0
        self._leased_until = 0.0
        self._last_panic = float("-inf")
        self._forced = False

    def acquire(self, now: float, *, lease: float, watch: bool = False) -> Permit | None:
        """A permit, or ``None`` while the breaker refuses (until :meth:`retry_at`).

        ``lease`` is the longest that a probe may take, in seconds. ``watch``: until settled, the attempt counts as slow
        once it is older than ``slow_first_token``.
        """
        if self.state is BreakerState.CLOSED:
            if self._waiting:
                self._judge(now)
        elif self.state is BreakerState.OPEN and not self._forced and now >= self.open_until:
            self._enter(BreakerState.HALF_OPEN, now)
        if self.state is BreakerState.CLOSED:
            return self._permit(now, probe=False, watch=watch)
        if self.state is BreakerState.HALF_OPEN and now >= self._leased_until:
            return self._lease(now, lease)
        return None

    def panic(self, now: float, *, lease: float) -> Permit | None:
        """A probe although open, once a second: for when every target of a call is open."""
        if self.state is not BreakerState.OPEN or self._forced or now < self._last_panic + PANIC_INTERVAL:
            return None
        self._last_panic = now
        self._enter(BreakerState.HALF_OPEN, now)
        return self._lease(now, lease, last_hope=True)

    def retry_at(self, now: float) -> float | None:
        """When a refused caller may ask again; ``None``: only an operator can tell."""
        if self.state is BreakerState.CLOSED:
            return now
        if self._forced:
            return None
        return self.open_until if self.state is BreakerState.OPEN else max(now, self._leased_until)

    def record(self, sample: Sample, now: float, permit: Permit) -> None:
        """A sample that comes after the permit was settled: a stream that broke after it had begun.

        Where it was the probe of a half-open breaker that began so well, the breaker opens again.
        """
        if self.state is BreakerState.CLOSED:
            self._add(sample, now)
        elif permit.probe and permit.generation == self._generation and sample in (Sample.FAIL, Sample.SLOW):
            self._enter(BreakerState.OPEN, now)

    def returned(self, permit: Permit, sample: Sample, now: float) -> None:
        """Called by :meth:`Permit.settle`."""
        self._waiting.discard(permit)
        if permit.generation != self._generation:
            return
        if permit.probe:
            self._probed(sample, now, permit)
        else:
            self._add(sample, now)

    def force_open(self, now: float) -> None:
        """Refuse everything until :meth:`reset`."""
        self._forced = True
        self._enter(BreakerState.OPEN, now)

    def reset(self, now: float) -> None:
        """Closed, with no memory."""
        self._forced = False
        self._openings = 0
        self._enter(BreakerState.CLOSED, now)

    def _permit(self, now: float, *, probe: bool, watch: bool, last_hope: bool = False) -> Permit:
        permit = Permit(self, self._generation, now, probe, last_hope)
        if watch:
            self._waiting.add(permit)
        return permit

    def _lease(self, now: float, lease: float, *, last_hope: bool = False) -> Permit:
        self._leased_until = now + min(lease, self._policy.lease)
        self._generation += 1
        return self._permit(now, probe=True, watch=False, last_hope=last_hope)

    def _add(self, sample: Sample, now: float) -> None:
        if sample is Sample.NEUTRAL:
            return
        self._samples.append((now, sample))
        if sample is Sample.FAIL:
            self._row.append(now)
        else:
            self._row.clear()
        if sample is not Sample.OK:
            self._judge(now)

    def _probed(self, sample: Sample, now: float, permit: Permit) -> None:
        self._leased_until = 0.0
        if sample is Sample.OK:
            self._probes_ok += 1
            if permit.last_hope or self._probes_ok >= self._policy.successes_to_close:
                self._enter(BreakerState.CLOSED, now)
        elif sample is not Sample.NEUTRAL:
            self._enter(BreakerState.OPEN, now)
        elif permit.last_hope and now < self.open_until:
            self._resume(now)

    def _judge(self, now: float) -> None:
        policy = self._policy
        if not policy.enabled:
            return
        row = self._row
        if len(row) == policy.fast_trip and now - row[0] <= policy.fast_trip_seconds:
            self._enter(BreakerState.OPEN, now)
            return
        while self._samples and self._samples[0][0] <= now - policy.window_seconds:
            self._samples.popleft()
        self._waiting = {permit for permit in self._waiting if permit.started > now - policy.window_seconds}
        hanging = sum(permit.started <= now - policy.slow_first_token for permit in self._waiting)
        hanging = min(hanging, policy.window)
        # They push the oldest samples out, as they will when they end.
        recent = [sample for _, sample in self._samples][max(0, len(self._samples) + hanging - policy.window) :]
        seen = len(recent) + hanging
        if seen < policy.min_samples:
            return
        failed = recent.count(Sample.FAIL)
        slow = failed + hanging + recent.count(Sample.SLOW)
        if failed >= policy.failure_rate * seen or slow >= policy.slow_rate * seen:
            self._enter(BreakerState.OPEN, now)

    def _enter(self, state: BreakerState, now: float) -> None:
        previous, self.state = self.state, state
        self._generation += 1
        self._probes_ok = 0
        self._leased_until = 0.0
        if state is BreakerState.OPEN:
            self._open(previous, now)
        elif state is BreakerState.CLOSED:
            self._samples.clear()
            self._row.clear()
            self._waiting.clear()
            self.open_until = 0.0
            self._closed_at = now
        if self._on_change is not None and previous is not state:
            self._on_change(state, max(0.0, self.open_until - now) if state is BreakerState.OPEN else 0.0)

    def _resume(self, now: float) -> None:
        """Open as before: a probe that came before its time taught nothing, and is as if it had not been."""
        self.state = BreakerState.OPEN
        self._generation += 1
        self._last_panic = float("-inf")
        if self._on_change is not None:
            self._on_change(self.state, self.open_until - now)

    def forgettable(self, now: float) -> bool:
        """Whether nothing would be lost with it: it is closed, or its time to open, or of its probe, is long over."""
        if self.state is BreakerState.CLOSED:
            return True
        return not self._forced and max(self.open_until, self._leased_until) + RESET_AFTER <= now

    def _open(self, previous: BreakerState, now: float) -> None:
        if previous is BreakerState.CLOSED and now - self._closed_at >= RESET_AFTER:
            self._openings = 0
        self._openings += 1
        policy = self._policy
        longest = min(policy.open_max, policy.open_seconds * 1.5 ** min(self._openings - 1, 64))
        self.open_until = now + longest * (0.5 + 0.5 * self._random())
        self._waiting.clear()
