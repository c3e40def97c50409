"""The account of a call: its plan, its attempts, its waits, its cost. Plain frozen values; every result and error carries one."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import attrs

from routerkit.types.verdict import Billing, Verdict, Word


class Origin(Word):
    """Why a model is in a plan."""

    REQUESTED = "requested"
    DEFAULT = "default"
    FALLBACK = "fallback"
    CATALOG = "catalog"


@attrs.frozen(cache_hash=True)
class Target:
    """One (gateway, model) pair that can be tried."""

    gateway: str
    model: str

    def __str__(self) -> str:
        return f"{self.model} on {self.gateway}"


class _OnTarget:
    """Says its target's model and gateway as its own."""

    __slots__ = ()
    target: Target
    origin: Origin

    @property
    def model(self) -> str:
        return self.target.model

    @property
    def gateway(self) -> str:
        return self.target.gateway

    def _place(self) -> dict[str, str]:
        return {"model": self.model, "gateway": self.gateway, "origin": str(self.origin)}


@attrs.frozen
class Candidate(_OnTarget):
    """A target's place in a plan, with the reason why it is there."""

    target: Target
    origin: Origin
    reason: str
    expected_cost: Decimal | None = None
    """USD that the request is expected to cost there, as ``client.explain`` tells it; ``None``: unknown, or not asked for."""

    def to_dict(self) -> dict[str, Any]:
        return {
            **self._place(),
            "reason": self.reason,
            "expected_cost": None if self.expected_cost is None else str(self.expected_cost),
        }


@attrs.frozen
class Skip(_OnTarget):
    """A target that was left out, with the reason why."""

    target: Target
    origin: Origin
    reason: str
    retry_after: float | None = None
    """Seconds, counted from when it was skipped, after which it can be tried again; ``None``: not by waiting."""

    def to_dict(self) -> dict[str, Any]:
        return {
            **self._place(),
            "reason": self.reason,
            "retry_after": self.retry_after,
        }


@attrs.frozen
class Plan:
    """The ordered targets of a call, and those left out."""

    targets: tuple[Candidate, ...] = ()
    skipped: tuple[Skip, ...] = ()

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.targets)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values for JSON."""
        return {
            "targets": [{"position": place, **each.to_dict()} for place, each in enumerate(self.targets, 1)],
            "skipped": [each.to_dict() for each in self.skipped],
        }

    def __str__(self) -> str:
        lines = [f"{place}. {each.target}: {each.reason}" for place, each in enumerate(self.targets, 1)]
        lines += [f"-  {each.target}: {each.reason}" for each in self.skipped]
        return "\n".join(lines)


@attrs.frozen
class Attempt(_OnTarget):
    """One HTTP request to one target on behalf of a call."""

    target: Target
    origin: Origin
    verdict: Verdict
    started: float
    """Seconds from the start of the call to the start of this attempt."""
    duration: float
    """Seconds; for a stream, up to its end."""
    status: int | None = None
    """HTTP status; ``None`` when no status line was seen."""
    detail: str = ""
    """What went wrong in the gateway's or the transport's words, escaped and cut; not meant to be parsed."""
    request_id: str | None = None
    first_token: float | None = None
    """Seconds from the start of the attempt to the first content of a stream."""

    @property
    def billing(self) -> Billing:
        return self.verdict.billing

    @property
    def retry_after(self) -> float | None:
        return self.verdict.retry_after

    def __str__(self) -> str:
        status = "" if self.status is None else f" (HTTP {self.status})"
        return f"{self.target}: {self.verdict}{status}, {self.duration:.2f} s"

    def to_dict(self) -> dict[str, Any]:
        """The attempt as plain values for JSON."""
        return {
            **self._place(),
            "status": self.status,
            "verdict": self.verdict.code,
            "billing": str(self.billing),
            "started": self.started,
            "duration": self.duration,
            "retry_after": self.retry_after,
            "request_id": self.request_id,
        }


@attrs.frozen
class Wait:
    """A pause that the call made, and what for."""

    seconds: float
    reason: str


@attrs.frozen
class Route:
    """The finished record of a call."""

    attempts: tuple[Attempt, ...] = ()
    skipped: tuple[Skip, ...] = ()
    waits: tuple[Wait, ...] = ()
    duration: float = 0.0
    """Seconds, from the call to its result."""
    cost: Decimal | None = None
    """USD that the answer cost; ``None``: unknown."""
    billing: Billing = Billing.NONE
    """The gravest of all attempts: ``possible`` means that an attempt that failed may have been billed."""
    degraded: tuple[str, ...] = ()
    """What limits and budgets decided in this process alone, as the store that counts for all was lost: ``the call``, or a
    target; in order."""
    targets: tuple[Candidate, ...] = ()
    """Those of the plan, in the order in which they had, or would have had, their turn, each with the reason why; as far as the
    call came: strategies order what follows the model that the call names, and the catalogue is drawn, only when needed."""

    @property
    def plan(self) -> Plan:
        """The plan by which the call went: ``targets``, and those left out, on the way too."""
        return Plan(self.targets, self.skipped)

    @property
    def models(self) -> tuple[str, ...]:
        """The models asked, in order."""
        return tuple(attempt.model for attempt in self.attempts)

    def to_dict(self) -> dict[str, Any]:
        """The route as plain values for JSON (costs as decimal strings)."""
        return {
            "attempts": [attempt.to_dict() for attempt in self.attempts],
            "skipped": [skip.to_dict() for skip in self.skipped],
            "waits": [{"seconds": wait.seconds, "reason": wait.reason} for wait in self.waits],
            "duration": self.duration,
            "cost": None if self.cost is None else str(self.cost),
            "billing": str(self.billing),
            "degraded": list(self.degraded),
            "targets": [each.to_dict() for each in self.targets],
        }

    def __str__(self) -> str:
        lines = [f"{place}. {each}" for place, each in enumerate(self.attempts, 1)]
        lines += [f"-  {each.target}: {each.reason}" for each in self.skipped]
        lines += [f"   waited {wait.seconds:.2f} s: {wait.reason}" for wait in self.waits]
        return "\n".join(lines) or "nothing was asked"
