"""What changed between two sweeps, model by model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import attrs

from routerkit.cli.probe.sample import Sample
from routerkit.cli.probe.summary import Row, Summary
from routerkit.cli.probe.words import dollars, in_words, per_million, percent
from routerkit.cli.render import seconds
from routerkit.types.usage import EXACT

MORE = 1.25
LEAST = 0.2
"""A first token is slower when it takes more than ``MORE`` times as long, and more than ``LEAST`` seconds longer."""
SHOWN = 5
"""Models of a kind of change that the terminal is told of."""

Key: TypeAlias = tuple[str, str]
"""Gateway and model."""


Value: TypeAlias = "str | float | tuple[Decimal, Decimal] | None"
"""``ok`` or the cause of a failure; seconds up to the first token; prices of a prompt's and an answer's token in USD."""


@attrs.frozen
class Change:
    """What changed of one model."""

    gateway: str
    model: str
    before: Value = None
    now: Value = None
    """``None`` for a model that was asked in one sweep only."""

    def named(self, several: bool) -> str:
        """The model's id; with the gateway where there are several."""
        return f"{self.model} on {self.gateway}" if several else self.model

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; prices as decimal strings."""
        return {
            "gateway": self.gateway,
            "model": self.model,
            "before": _plain(self.before),
            "now": _plain(self.now),
        }


def shown(value: Value) -> str:
    """One side of a change, for people."""
    if isinstance(value, tuple):
        return f"{per_million(value[0])} in, {per_million(value[1])} out"
    if isinstance(value, str):
        return in_words(value)
    return "-" if value is None else seconds(value)


def _line(change: Change, several: bool) -> str:
    turned = "" if change.now is None else f": {shown(change.before)} → {shown(change.now)}"
    return change.named(several) + turned


def _plain(value: Value) -> Any:
    if isinstance(value, tuple):
        return {"prompt": format(value[0], "f"), "completion": format(value[1], "f")}
    return value


@attrs.frozen(kw_only=True)
class Comparison:
    """What changed between an earlier sweep and this one. A model works when at least half of its questions were answered."""

    before: Summary
    now: Summary
    since: float | None
    """Unix seconds of the earlier sweep's first question; ``None`` when it has none."""
    newly_failing: tuple[Change, ...]
    """Worked before, and do not now."""
    recovered: tuple[Change, ...]
    appeared: tuple[Change, ...]
    """Asked only now."""
    gone: tuple[Change, ...]
    """Asked only before."""
    slower: tuple[Change, ...]
    """By their mean first token; the greatest change first."""
    faster: tuple[Change, ...]
    dearer: tuple[Change, ...]
    """By the sum of the prices of a prompt's and an answer's token, where the catalogue told both, both times."""
    cheaper: tuple[Change, ...]

    @classmethod
    def of(cls, before: Sequence[Sample], now: Sequence[Sample]) -> Comparison:
        """Of the samples of both, each in the order in which they were taken."""
        earlier, later = Summary.of(before), Summary.of(now)
        old, new = _by_key(earlier.models), _by_key(later.models)
        both = [(old[key], new[key]) for key in sorted(old.keys() & new.keys())]
        pace = _pace(both)
        return cls(
            before=earlier,
            now=later,
            since=min((sample.at for sample in before), default=None),
            newly_failing=tuple(_turn(a, b) for a, b in both if a.works and not b.works),
            recovered=tuple(_turn(a, b) for a, b in both if b.works and not a.works),
            appeared=_alone(new, old),
            gone=_alone(old, new),
            slower=tuple(change for factor, change in reversed(pace) if factor > 1),
            faster=tuple(change for factor, change in pace if factor < 1),
            dearer=_repriced(both, 1),
            cheaper=_repriced(both, -1),
        )

    @property
    def changes(self) -> dict[str, tuple[Change, ...]]:
        """By kind, as ``KINDS`` names and orders them."""
        return {kind: getattr(self, kind) for kind in KINDS}

    def figures(self) -> list[tuple[str, str, str]]:
        """The sweeps as wholes: name, before, now."""
        return [
            ("models", f"{len(self.before.models):,}", f"{len(self.now.models):,}"),
            ("success rate", _rate(self.before), _rate(self.now)),
            ("median first token", _median(self.before), _median(self.now)),
            ("total cost", dollars(self.before.total_cost), dollars(self.now.total_cost)),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        changes = {kind: [change.to_dict() for change in changed] for kind, changed in self.changes.items()}
        return {"since": self.since, "before": self.before.to_dict(), **changes}

    def lines(self) -> list[str]:
        """For the terminal: a line for each figure, then for each kind of change its first models."""
        several = self.before.several or self.now.several
        lines = [f"{name:<18}  {before} before, {now} now" for name, before, now in self.figures()]
        for kind, changed in self.changes.items():
            if changed:
                lines += [
                    "",
                    f"{KINDS[kind]}: {len(changed):,}",
                    *(f"  {_line(each, several)}" for each in changed[:SHOWN]),
                ]
            if len(changed) > SHOWN:
                lines.append(f"  and {len(changed) - SHOWN:,} more")
        return lines if any(self.changes.values()) else [*lines, "", "no model changed"]


KINDS = {
    "newly_failing": "newly failing",
    "recovered": "recovered",
    "slower": "slower",
    "faster": "faster",
    "dearer": "dearer",
    "cheaper": "cheaper",
    "appeared": "not asked before",
    "gone": "not asked this time",
}
"""Kinds of changes, in words."""


def is_slower(before: float, now: float) -> bool:
    """Whether a first token after ``now`` seconds is slower than one after ``before``, by more than chance makes it."""
    return now > before * MORE and now - before > LEAST


def _by_key(rows: Iterable[Row]) -> dict[Key, Row]:
    return {(row.gateway, row.model): row for row in rows}


def _alone(these: Mapping[Key, Row], others: Mapping[Key, Row]) -> tuple[Change, ...]:
    return tuple(Change(*key) for key in sorted(these.keys() - others.keys()))


def _turn(before: Row, now: Row) -> Change:
    return Change(now.gateway, now.model, _state(before), _state(now))


def _state(row: Row) -> str:
    return "ok" if row.works else row.cause


def _pace(both: Iterable[tuple[Row, Row]]) -> list[tuple[float, Change]]:
    """Those whose first token comes clearly sooner or later than before, with how many times as long it takes; sorted by that."""
    changes = []
    for before, now in both:
        old, new = before.first_token, now.first_token
        if old is not None and new is not None and (is_slower(old, new) or is_slower(new, old)):
            changes.append((new / old if old else float("inf"), Change(now.gateway, now.model, old, new)))
    return sorted(changes, key=lambda change: change[0])


def _repriced(both: Iterable[tuple[Row, Row]], sign: int) -> tuple[Change, ...]:
    """Those whose prices together rose (1) or fell (-1)."""
    return tuple(
        Change(now.gateway, now.model, old, new)
        for before, now in both
        if (old := _prices(before))
        and (new := _prices(now))
        and EXACT.compare(EXACT.add(*new), EXACT.add(*old)) == sign
    )


def _prices(row: Row) -> tuple[Decimal, Decimal] | None:
    if row.prompt_price is None or row.completion_price is None:
        return None
    return row.prompt_price, row.completion_price


def _rate(summary: Summary) -> str:
    return "-" if summary.success_rate is None else percent(summary.success_rate)


def _median(summary: Summary) -> str:
    return shown(summary.first_token.p50 if summary.first_token else None)
