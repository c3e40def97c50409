"""What a client's calls have used and how they went, added up: what ``client.usage()`` and ``client.stats()`` give, and for a
whole fleet ``client.fleet()``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Context, Decimal
from typing import Any, TypeVar

import attrs

DURATIONS = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    *(10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0),
)
"""Seconds: the upper bounds of the histogram of durations. What lasted longer than the last one has a place after it."""

EXACT = Context(prec=100)
"""Money is added up in it, so that neither the caller's own context nor its 28 digits round a sum."""

K = TypeVar("K")


@attrs.frozen(kw_only=True)
class Used:
    """Sums over calls. Token counts that a gateway did not tell, or told as nonsense, are missing in them."""

    answers: int = 0
    """Calls that were answered."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens read from a cache; among ``prompt_tokens``, as are those written to one."""
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    """Among ``completion_tokens``."""
    audio_tokens: int = 0
    """Of prompts and answers together, among both."""
    cost: Decimal = Decimal(0)
    """USD, exactly: the sum of the costs that are known."""
    cost_unknown: int = 0
    """Answers whose cost is not known, and so not in ``cost``."""
    possibly_billed: int = 0
    """Attempts that failed and may have been billed all the same; what for is not known, so it is in none of these sums."""

    @property
    def total_tokens(self) -> int:
        """Of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the cost is a decimal string."""
        values: dict[str, Any] = {name: getattr(self, name) for name in SUMS}
        return {**values, "total_tokens": self.total_tokens, "cost": format(self.cost, "f")}


SUMS = tuple(field.name for field in attrs.fields(Used))


@attrs.frozen(kw_only=True)
class UsageRow(Used):
    """What one tenant's calls used of one model on one gateway."""

    tenant: str | None
    """``None``: of a client without tenants."""
    gateway: str
    model: str
    """As it was asked for; ``other`` stands for all that came when there were too many rows already."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the cost is a decimal string."""
        return {"tenant": self.tenant, "gateway": self.gateway, "model": self.model, **super().to_dict()}


@attrs.frozen
class UsageReport:
    """What calls have used: of this process since the client was made, or of a fleet. ``print(report)`` shows a table."""

    rows: tuple[UsageRow, ...] = ()
    """In the order of tenant, gateway and model."""

    @property
    def total(self) -> Used:
        """All rows together."""
        return _summed(self.rows)

    def by_tenant(self) -> dict[str | None, Used]:
        return _grouped(self.rows, lambda row: row.tenant)

    def by_gateway(self) -> dict[str, Used]:
        return _grouped(self.rows, lambda row: row.gateway)

    def by_model(self) -> dict[str, Used]:
        """By the model's id, whichever gateway served it."""
        return _grouped(self.rows, lambda row: row.model)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``{"rows": [...], "total": {...}}``; costs are decimal strings."""
        return {"rows": [row.to_dict() for row in self.rows], "total": self.total.to_dict()}

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = [("tenant", "gateway", "model", "answers", "prompt", "completion", "cost")]
        lines += [(row.tenant or "", row.gateway, row.model, *_shown(row)) for row in self.rows]
        lines.append(("", "", "total", *_shown(self.total)))
        if not any(row.tenant for row in self.rows):
            lines = [line[1:] for line in lines]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        words = len(widths) - 4
        return "\n".join("  ".join(_aligned(line, widths, words)).rstrip() for line in lines)


@attrs.frozen(kw_only=True)
class Stats:
    """How calls went: of this process since the client was made, or of a fleet."""

    tenant: str | None = None
    """Whose calls; ``None``: all."""
    calls: int = 0
    """Calls that have ended, one way or another."""
    answered: int = 0
    failed: Mapping[str, int] = attrs.field(factory=dict)
    """The others, by the class of their error; ``Cancelled``: their caller gave up."""
    attempts: Mapping[str, int] = attrs.field(factory=dict)
    """By the code of their verdict; ``ok`` for those that gave the answer."""
    fell_back: int = 0
    """Calls that took more than one attempt, answered or not."""
    waits: int = 0
    waited: float = 0.0
    """Seconds, of all waits together."""
    degraded: int = 0
    """Calls of which limits or budgets were decided by this process alone, as the store that counts for all was lost."""
    streams: int = 0
    """Calls that were streams."""
    duration: float = 0.0
    """Seconds, of all calls together; a stream lasts up to its end."""
    duration_max: float = 0.0
    """Seconds, of the longest call."""
    durations: tuple[int, ...] = (0,) * (len(DURATIONS) + 1)
    """How many calls lasted up to each of the bounds ``DURATIONS`` and longer than the one before; the last: longer than all."""

    def percentile(self, share: float) -> float | None:
        """About how many seconds this share (0 to 1) of the calls lasted at most; ``None`` without calls.

        It comes from the histogram, evenly spread between two bounds, so it may be off by the distance of those.
        """
        rank, below, lower = share * self.calls, 0, 0.0
        if not self.calls:
            return None
        for count, upper in zip(self.durations, DURATIONS, strict=False):
            if count and below + count >= rank:
                return min(self.duration_max, lower + (upper - lower) * max(0.0, rank - below) / count)
            below, lower = below + count, upper
        return self.duration_max

    @property
    def p50(self) -> float | None:
        """The median duration in seconds, about; see :meth:`percentile`."""
        return self.percentile(0.5)

    @property
    def p95(self) -> float | None:
        return self.percentile(0.95)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``durations`` by upper bound in seconds, ``inf`` the last."""
        values = attrs.asdict(self)
        bounds = [*(f"{bound:g}" for bound in DURATIONS), "inf"]
        values["durations"] = dict(zip(bounds, self.durations, strict=True))
        return {**values, "p50": self.p50, "p95": self.p95}


def _summed(rows: Iterable[Used]) -> Used:
    sums: dict[str, Any] = dict.fromkeys(SUMS, 0)
    cost = Decimal(0)
    for row in rows:
        cost = EXACT.add(cost, row.cost)
        for name in SUMS:
            if name != "cost":
                sums[name] += getattr(row, name)
    return Used(**{**sums, "cost": cost})


def _grouped(rows: Iterable[UsageRow], key: Callable[[UsageRow], K]) -> dict[K, Used]:
    groups: dict[K, list[UsageRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return {name: _summed(group) for name, group in groups.items()}


def _shown(used: Used) -> tuple[str, str, str, str]:
    unknown = f" + {used.cost_unknown} unknown" if used.cost_unknown else ""
    cost = f"${used.cost:f}{unknown}"
    return f"{used.answers:,}", f"{used.prompt_tokens:,}", f"{used.completion_tokens:,}", cost


def _aligned(line: tuple[str, ...], widths: list[int], words: int) -> list[str]:
    """Words to the left, numbers to the right, costs, which end in words, to the left."""
    last = len(widths) - 1
    return [
        cell.rjust(width) if words <= place < last else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
