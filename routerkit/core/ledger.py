"""The account of one call while it lasts: what was tried, what was left out, what was waited for; in the end, a route."""

from __future__ import annotations

from decimal import Decimal

from routerkit.core.failure import most_telling
from routerkit.errors import AllModelsFailedError, APIError
from routerkit.types.route import Attempt, Candidate, Route, Skip, Target, Wait
from routerkit.types.verdict import Billing, Verdict

_GRAVITY = (Billing.NONE, Billing.POSSIBLE, Billing.CONFIRMED)


class Ledger:
    def __init__(self, started: float) -> None:
        self.started = started
        """On the monotonic clock."""
        self.planned: tuple[Candidate, ...] = ()
        """The targets in the order in which they have their turn, each with the reason why."""
        self.attempts: list[Attempt] = []
        self.failures: list[tuple[Verdict, APIError]] = []
        self.skipped: list[Skip] = []
        self.waits: list[Wait] = []
        self.free_attempts = 0
        """Those that do not count against ``max_attempts``."""
        self.degraded: list[str] = []
        """What was admitted or refused without the store, which is lost."""

    @property
    def charged(self) -> int:
        """Attempts that count against ``max_attempts``."""
        return len(self.attempts) - self.free_attempts

    def tries(self, target: Target) -> int:
        return sum(attempt.target == target for attempt in self.attempts)

    def route(self, now: float, cost: Decimal | None = None) -> Route:
        attempts = tuple(self.attempts)
        if len(attempts) == 1:
            billing = attempts[0].verdict.billing
        else:
            billing = max((attempt.verdict.billing for attempt in attempts), key=_GRAVITY.index, default=Billing.NONE)
        return Route(
            attempts,
            tuple(self.skipped),
            tuple(self.waits),
            now - self.started,
            cost,
            billing,
            tuple(self.degraded),
            self.planned,
        )

    def collective(self) -> AllModelsFailedError:
        """One error for all attempts: a line per model, the earliest time at which anything can work, the telling cause."""
        cause = most_telling(self.failures)
        errors = [error for _, error in self.failures]
        lines = [f"  {error}" for error in errors]
        lines += [f"  {skip.target}: not asked: {skip.reason}" for skip in self.skipped if skip.retry_after is not None]
        times = [error.retry_after for error in errors] + [skip.retry_after for skip in self.skipped]
        known = [seconds for seconds in times if seconds is not None]
        count = len({attempt.target for attempt in self.attempts})
        return AllModelsFailedError(
            f"all {count} models failed:\n" + "\n".join(lines)
            if count > 1
            else "the model failed:\n" + "\n".join(lines),
            errors=errors,
            cause=cause,
            retry_after=min(known, default=None),
        )
