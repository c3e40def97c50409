"""What is left of a call's plan: hands out the next target that may be tried, and writes down why others may not.

Named targets come first. The catalogue is drawn only when they are used up, so that a call whose models are named never
waits for it. When nothing at all may be tried, a panic probe or a short wait is the last thing before giving up.
"""

from __future__ import annotations

import datetime
from collections import deque
from typing import TYPE_CHECKING

from routerkit.core import plan
from routerkit.core.effects import Step, sleep
from routerkit.core.health import Admission, Refusal
from routerkit.core.needs import needs_of, unfit
from routerkit.core.pricing import within
from routerkit.core.retry import spread
from routerkit.errors import APIError, DeadlineExceededError
from routerkit.types.model import Model
from routerkit.types.route import Candidate, Skip, Wait
from routerkit.types.verdict import Condition

if TYPE_CHECKING:
    from routerkit.core.catalog import Snapshot
    from routerkit.core.ledger import Ledger
    from routerkit.core.router import Router
    from routerkit.types.request import ChatRequest

MIN_USEFUL = 1.0
"""Seconds that must be left for another attempt to make sense, or a tenth of the call's total where that is less."""
CATALOG_PATIENCE = 10.0
"""Seconds that a call waits for the catalogue as its last resort, and half of what is left at most."""
_WAITABLE = frozenset(
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


def worthwhile(seconds: float, request: ChatRequest) -> bool:
    """Whether so much time is enough for an attempt."""
    return seconds >= min(MIN_USEFUL, request.total / 10)


class Itinerary:
    def __init__(self, router: Router, request: ChatRequest, ledger: Ledger, deadline: float) -> None:
        self._router = router
        self._request = request
        self._ledger = ledger
        self._deadline = deadline
        chosen = router.named(request)
        ledger.skipped.extend(chosen.skipped)
        self._chosen = chosen
        self._remaining = deque(chosen.targets)
        self._refused: list[tuple[Candidate, Refusal]] = []
        self._conditions: list[tuple[Condition, str]] = []
        self._drawn = "models" in request.params
        """Whether the catalogue had its turn; never, when the gateway falls back by itself."""
        self._excluded = False

    @property
    def left(self) -> bool:
        """Whether there are targets that had no turn yet."""
        return bool(self._remaining)

    @property
    def refused(self) -> list[tuple[Candidate, Refusal]]:
        """Targets that were fit but refused: open, or resting."""
        return self._refused

    def exclude_gateway(self) -> None:
        """The failure was the gateway's: not one more model there."""
        self._excluded = True

    def require(self, condition: Condition, model: str) -> None:
        """From now on only models that offer more than this one did."""
        if condition is not Condition.ANY:
            self._conditions.append((condition, model))

    def next(self) -> Step[tuple[Candidate, Admission] | None]:
        """The next target and the leave to try it; ``None`` when no target is left."""
        while True:
            found = yield from self._next_fit()
            if found is not None or self._ledger.attempts:
                return found
            probe = self._panic()
            if probe is not None:
                return probe
            if not (yield from self._sit_out()):
                return None

    def again(self, candidate: Candidate) -> Admission | None:
        """Leave to try the same target once more."""
        got = self._admit(candidate, again=True)
        return got if isinstance(got, Admission) else None

    def _next_fit(self) -> Step[tuple[Candidate, Admission] | None]:
        snapshot = None
        if self._conditions:
            snapshot = self._router.catalog.peek() or (yield from self._catalog())
        while True:
            while self._remaining:
                candidate = self._remaining.popleft()
                reason = self._ruled_out(candidate, snapshot)
                if reason is not None:
                    self._skip(candidate, reason)
                    continue
                got = self._admit(candidate)
                if isinstance(got, Admission):
                    return candidate, got
                self._refused.append((candidate, got))
                now = self._router.runtime.monotonic()
                self._skip(candidate, got.reason, None if got.retry_at is None else max(0.0, got.retry_at - now))
            if self._drawn or self._excluded or self._gateway_refuses():
                return None
            self._drawn = True
            snapshot = yield from self._catalog()
            if snapshot is not None:
                self._draw(snapshot)

    def _admit(self, candidate: Candidate, *, again: bool = False) -> Admission | Refusal:
        timeouts = self._request.timeouts
        lease = timeouts.first_token if self._request.stream else self._request.total
        router = self._router
        return router.health.admit(candidate.target, router.key, lease=lease, stream=self._request.stream, again=again)

    def _gateway_refuses(self) -> bool:
        """Whether the named targets met a refusal that holds for all models of the gateway."""
        return any(refusal.gateway_wide for _, refusal in self._refused)

    def _ruled_out(self, candidate: Candidate, snapshot: Snapshot | None) -> str | None:
        if self._excluded:
            return "its gateway failed"
        for condition, than in self._conditions:
            model = snapshot.get(candidate.model) if snapshot else None
            failed = snapshot.get(than) if snapshot else None
            reason = self._unmet(condition, model, failed)
            if reason is not None:
                return reason
        return None

    def _unmet(self, condition: Condition, model: Model | None, failed: Model | None) -> str | None:
        if model is None:
            return "not in the catalogue, so nobody can tell whether it would do better"
        if condition is Condition.CAPABLE:
            return unfit(model, needs_of(self._request), self._today())
        if condition is Condition.LARGER_CONTEXT:
            size = failed.context_length if failed else None
            larger = size is not None and model.context_length is not None and model.context_length > size
            return None if larger else "its context is not known to be larger"
        cheaper = failed is not None and within(model.pricing, [failed.pricing]) and model.pricing != failed.pricing
        return None if cheaper else "not known to be cheaper"

    def _catalog(self) -> Step[Snapshot | None]:
        router = self._router
        now = router.runtime.monotonic()
        until = now + min(CATALOG_PATIENCE, (self._deadline - now) / 2)
        try:
            return (yield from router.catalog.get(router.credential, self._request.timeouts, until))
        except (APIError, DeadlineExceededError) as error:
            self._ledger.skipped.append(plan.unreadable(router.settings, error))
            return None

    def _draw(self, snapshot: Snapshot) -> None:
        wall = self._router.runtime.wall()
        named = [candidate.target for candidate in self._chosen.targets]
        rest = plan.from_catalog(snapshot, self._router.settings, self._request, named, wall)
        self._remaining.extend(rest.targets)
        self._ledger.skipped.extend(rest.skipped)

    def _panic(self) -> tuple[Candidate, Admission] | None:
        open_ones = {candidate.target: candidate for candidate, refusal in self._refused if refusal.cooldown is None}
        if not open_ones:
            return None
        lease = self._request.timeouts.first_token
        found = self._router.health.panic(list(open_ones), self._router.key, lease=lease)
        return None if found is None else (open_ones[found[0]], found[1])

    def _sit_out(self) -> Step[bool]:
        """Wait for the first cooldown to end, when that is soon enough; the targets that rest then have their turn again."""
        resting = [
            (refusal.retry_at, candidate)
            for candidate, refusal in self._refused
            if refusal.retry_at is not None
            and refusal.cooldown is not None
            and refusal.cooldown.verdict.code in _WAITABLE
        ]
        if not resting:
            return False
        runtime = self._router.runtime
        now = runtime.monotonic()
        pause = spread(max(0.0, min(when for when, _ in resting) - now), runtime.random())
        if pause > self._router.settings.retry.max_sleep or not worthwhile(self._deadline - now - pause, self._request):
            return False
        self._ledger.waits.append(Wait(pause, "every model rests"))
        yield from sleep(pause)
        self._refused.clear()
        self._remaining.extend(candidate for _, candidate in resting)
        return True

    def _skip(self, candidate: Candidate, reason: str, retry_after: float | None = None) -> None:
        self._ledger.skipped.append(Skip(candidate.target, candidate.origin, reason, retry_after))

    def _today(self) -> datetime.date:
        return datetime.datetime.fromtimestamp(self._router.runtime.wall(), datetime.timezone.utc).date()
