"""Logarithmic axes for the report's plots. Lengths across are in per cent, so that a plot fits a page of any width."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import attrs

from routerkit.cli.probe.markup import Markup, tag


@attrs.frozen
class Log:
    """A logarithmic axis from one round number (1, 2 or 5 times a power of ten) to another."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float], bounds: tuple[float, float]) -> Log:
        """As short as it can be to hold these, within these bounds, which are powers of ten; but never a single point."""
        inside = [min(max(value, bounds[0]), bounds[1]) for value in values] or [1.0]
        low, high = _below(min(inside)), _above(max(inside))
        return cls(low, high) if high > low * 3 else cls(_below(low * 0.9), _above(high * 1.1))

    def at(self, value: float) -> float:
        """Where it stands, 0 to 1; at the nearer end when it lies outside."""
        inside = min(max(value, self.low), self.high)
        return math.log(inside / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """The round numbers on it, each with its rank: ``major``; ``minor`` where only a wide page has room for its label; ``bare``
        where none has."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        every = 1 + (last - first) // 7
        found = []
        for power in range(first, last + 1):
            whole = "bare" if (power - last) % every else "major"
            part = "minor" if last - first <= 4 else "bare"
            found += [(digit * 10.0**power, whole if digit == 1 else part) for digit in (1, 2, 5)]
        inside = [(number, rank) for number, rank in found if self.low * 0.999 <= number <= self.high * 1.001]
        few = len(inside) <= 5
        return [(number, "major" if few else rank) for number, rank in inside]


def _below(value: float) -> float:
    """The nearest round number that is not greater."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(digit * power for digit in (0.5, 1, 2, 5, 10) if digit * power <= value * 1.000001)


def _above(value: float) -> float:
    """The nearest round number that is not less."""
    power = 10.0 ** math.floor(math.log10(value))
    return min(digit * power for digit in (1, 2, 5, 10, 20) if digit * power >= value * 0.999999)


def across(place: float) -> str:
    """0 to 1 as a length across."""
    return f"{place * 100:.2f}%"


def short(number: float) -> str:
    """The number of a tick: ``0.002``, ``50``, ``20k``."""
    return f"{number / 1000:,.0f}k" if number >= 1000 else f"{number:.6f}".rstrip("0").rstrip(".")


def upright(place: str, top: float, bottom: float, class_: str) -> Markup:
    """A line from top to bottom."""
    return tag("line", class_=class_, x1=place, x2=place, y1=top, y2=bottom)


def word(text: str, x: str, y: float, class_: str = "tick", anchor: str = "middle", dx: float | None = None) -> Markup:
    """A text in a plot."""
    return tag("text", text, class_=class_, x=x, y=y, dx=dx, text_anchor=anchor)


def moment(number: float) -> str:
    """The same for seconds: ``0.5 ms``, ``20 s``."""
    return f"{short(number * 1000)} ms" if number < 0.1 else f"{short(number)} s"


def numbers(axis: Log, y: float, start: float = 0.0, told: Callable[[float], str] = short) -> list[Markup]:
    """The numbers of a horizontal axis, which begins at ``start`` of the plot's width."""
    return [
        word(told(number), across(start + (1 - start) * axis.at(number)), y, f"tick {rank}")
        for number, rank in axis.ticks()
        if rank != "bare"
    ]


def grid(axis: Log, top: float, bottom: float, start: float = 0.0) -> list[Markup]:
    """Its lines."""
    return [
        upright(across(start + (1 - start) * axis.at(number)), top, bottom, f"grid {rank}")
        for number, rank in axis.ticks()
    ]
