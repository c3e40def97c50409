"""A circuit breaker: closed, open or half-open, for one model or one gateway.

All transitions happen lazily, in :meth:`Breaker.acquire` and :meth:`Breaker.record`, by the time that the caller passes in:
no timers, no threads. A breaker is not locked; its owner (:mod:`routerkit.core.health`) is.

Whoever wants to try takes a :class:`Permit` and gives it back once, with what happened. A permit carries the breaker's
generation: a result that comes back after a transition changes nothing, so a late success cannot close a breaker that
opened since, nor a late failure keep one open. Given back without a result, or never, it counts for nothing.

A breaker may also go by *hearsay*, the word of another process of the fleet (:mod:`routerkit.core.fleet`): open because that one
saw failures, half-open while that one probes. What this process sees itself then counts for more, and no word is followed for ever.
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
HEARSAY_SECONDS = 60.0
"""So long a breaker is kept open by others' word at a stretch; then it sees for itself. Who errs for ever harms nobody for ever."""


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

    @property
    def stale(self) -> bool:
        """Whether the breaker has changed since."""
        return self.generation != self.breaker._generation

    def settle(self, sample: Sample, now: float) -> None:
        if not self.settled:
            self.settled = True
            self.breaker.returned(self, sample, now)


class Breaker:
    """See the module. ``random`` gives numbers in [0, 1), ``on_change`` is told of every transition, after it happened: the
    breaker, the seconds for which it stays open, and whether that is news for other processes."""

    __slots__ = (
        "__weakref__",
        "_closed_at",
        "_followed",
        "_forced",
        "_generation",
        "_last_panic",
        "_leased_until",
        "_on_change",
        "_opened",
        "_openings",
        "_policy",
        "_probes_ok",
        "_random",
        "_row",
        "_samples",
        "_waiting",
        "good_at",
        "hearsay",
        "open_until",
        "scope",
        "state",
        "wide",
    )

    def __init__(
        self,
        policy: BreakerPolicy,
        random: Callable[[], float],
        on_change: Callable[[Breaker, float, bool], object] | None = None,
        scope: str = "",
        *,
        wide: bool = False,
    ) -> None:
        self.scope = scope
        """``model on gateway``, or a gateway."""
        self.wide = wide
        """Whether it is a gateway's."""
        self._policy = policy
        self._random = random
        self._on_change = on_change
        self.state = BreakerState.CLOSED
        self.open_until = 0.0
        self.hearsay = False
        """Whether it is open or half-open by another process's word."""
        self.good_at = float("-inf")
        """When this process saw it work, last."""
        self._followed = 0.0
        """Since when it goes by hearsay."""
        self._generation = 0
        self._opened = -1
        """The generation that the last opening of its own began."""
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
            if self._waiting and any(self._hangs(permit, now) for permit in self._waiting):
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

    @property
    def leased_until(self) -> float:
        """When the probe that is out is given up."""
        return self._leased_until

    def adopt(self, now: float, until: float) -> bool:
        """Be open until then, by another process's word; whether that is so now.

        Nothing comes of it where this process's own failures, or an operator, opened the breaker; nor when it has gone by such
        words for long.
        """
        if self.state is BreakerState.CLOSED:
            self._followed = now
        elif not self.hearsay:
            return False
        until = min(until, self._followed + HEARSAY_SECONDS)
        if until <= now or not self._policy.enabled:
            return False
        if self.state is BreakerState.OPEN:
            self.open_until = until
        else:
            self._enter(BreakerState.OPEN, now, told_until=until)
        return True

    def retract(self, now: float) -> None:
        """The word by which it goes was taken back: it closes, with no memory."""
        if self.hearsay:
            self._enter(BreakerState.CLOSED, now, told_until=now)

    def defer(self, permit: Permit, now: float, until: float) -> None:
        """Another process probes instead: nobody does here until then, and what that one says holds here too."""
        if permit.settled or permit.stale:
            return
        permit.settled = True
        if not self.hearsay:
            self.hearsay, self._followed = True, now
        if permit.last_hope and now < self.open_until:
            self._resume(now)
            self._last_panic = now
        else:
            self._leased_until = until

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
        if sample is Sample.OK:
            self.good_at = now
        if permit.generation != self._generation:
            if sample is Sample.OK and self.hearsay and permit.generation > self._opened:
                self._enter(BreakerState.CLOSED, now)  # seen since, or while, others told of failures
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
        self.good_at = now  # an operator's word counts for more than a process's
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
        hanging = sum(self._hangs(permit, now) for permit in self._waiting)
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

    def _hangs(self, permit: Permit, now: float) -> bool:
        """Whether a stream has brought nothing for longer than a healthy one does."""
        return permit.started <= now - self._policy.slow_first_token

    def _enter(self, state: BreakerState, now: float, *, told_until: float | None = None) -> None:
        """``told_until``: until when it is open by another process's word, or that it closes by one."""
        previous, self.state = self.state, state
        if state is not BreakerState.HALF_OPEN:
            self.hearsay = told_until is not None and state is BreakerState.OPEN
        self._generation += 1
        self._probes_ok = 0
        self._leased_until = 0.0
        if state is BreakerState.OPEN:
            self._waiting.clear()
            if told_until is None:
                self._open(previous, now)
            else:
                self.open_until = told_until
        elif state is BreakerState.CLOSED:
            self._samples.clear()
            self._row.clear()
            self._waiting.clear()
            self.open_until = 0.0
            self._closed_at = now
        if self._on_change is not None and previous is not state:
            open_for = max(0.0, self.open_until - now) if state is BreakerState.OPEN else 0.0
            news = told_until is None and state is not BreakerState.HALF_OPEN and not self._forced
            self._on_change(self, open_for, news)

    def _resume(self, now: float) -> None:
        """Open as before: a probe that came before its time taught nothing, and is as if it had not been."""
        self.state = BreakerState.OPEN
        self._generation += 1
        self._last_panic = float("-inf")
        if self._on_change is not None:
            self._on_change(self, self.open_until - now, False)

    def forgettable(self, now: float) -> bool:
        """Whether nothing would be lost with it: it is closed, or its time to open, or of its probe, is long over."""
        if self.state is BreakerState.CLOSED:
            return True
        return not self._forced and max(self.open_until, self._leased_until) + RESET_AFTER <= now

    def _open(self, previous: BreakerState, now: float) -> None:
        if previous is BreakerState.CLOSED and now - self._closed_at >= RESET_AFTER:
            self._openings = 0
        self._openings += 1
        self._opened = self._generation
        policy = self._policy
        longest = min(policy.open_max, policy.open_seconds * 1.5 ** min(self._openings - 1, 64))
        self.open_until = now + longest * (0.5 + 0.5 * self._random())
