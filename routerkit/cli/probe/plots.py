"""The plots of latency, as SVG that needs no script.

What stands for a model has the model's place in the table as ``data-m``, and says its figures in a ``title``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from routerkit.cli.probe.axes import Log, across, grid, moment, numbers, upright, word
from routerkit.cli.probe.markup import Markup, joined, tag
from routerkit.cli.probe.summary import Row, Spread, Summary
from routerkit.cli.probe.words import dollars
from routerkit.cli.render import seconds

FEW = 40
"""Models up to which each gets a line with its name; beyond, each is a brick of a histogram."""
SECONDS = (0.0001, 100_000.0)
"""What an axis of seconds reaches at most; what lies beyond is drawn at its end."""

_BINS = 96
_STACK = 150
"""Pixels: how high a histogram is at most."""
_BRICK = 9.0
"""Pixels: how high a brick is at most."""
_GAP = 26
"""Pixels: where the axis between two histograms has its numbers."""
_MARKS = 16
"""Pixels: where the names of the percentiles stand."""

Placed: TypeAlias = tuple[int, Row]
"""A model's row, and its place in the table."""


def told(row: Row) -> Markup:
    """A model's figures in a line, for whoever points at it."""
    parts = [row.model]
    parts += [f"first token {seconds(row.first_token)}"] if row.first_token is not None else []
    parts += [f"total {seconds(row.duration)}"] if row.duration is not None else []
    parts += [f"{row.tokens_per_second:,.0f} tokens/s"] if row.tokens_per_second is not None else []
    parts += [f"{dollars(row.cost)} an answer"] if row.cost is not None else []
    return tag("title", " · ".join(parts))


def speed_axis(summary: Summary) -> Log:
    """The axis of seconds that all times of a report share."""
    times = [time for row in summary.models for time in (row.first_token, row.duration) if time is not None]
    return Log.over(times, SECONDS)


def bar(row: Row, axis: Log) -> Markup:
    """A line from a model's first token (a dot) to the end of its answer (a tick)."""
    start = None if row.first_token is None else across(axis.at(row.first_token))
    end = None if row.duration is None else across(axis.at(row.duration))
    marks = []
    if start and end:
        marks.append(tag("line", class_="span", x1=start, x2=end, y1=8, y2=8))
    if end:
        marks.append(upright(end, 3, 13, "total"))
    if start:
        marks.append(tag("circle", class_="first", cx=start, cy=8, r=3.5))
    return tag("svg", *marks, class_="bar", width="100%", height=16, aria_hidden="true")


def latency(summary: Summary) -> Markup:
    """How long models take: a line for each when they are few, else two histograms of which each brick is a model."""
    answered = [(place, row) for place, row in enumerate(summary.models) if row.ok]
    if not answered:
        return tag("p", "No question was answered.", class_="empty")
    axis = speed_axis(summary)
    return _lines(summary, answered, axis) if len(answered) <= FEW else _histograms(summary, answered, axis)


def _lines(summary: Summary, placed: Sequence[Placed], axis: Log) -> Markup:
    items = [
        tag(
            "li",
            tag("span", row.named(summary.several), class_="label", title=row.name or None),
            tag("span", bar(row, axis), class_="track"),
            tag("span", f"{_time(row.first_token)} / {_time(row.duration)}", class_="times"),
            data_m=place,
        )
        for place, row in placed
    ]
    scale = tag("svg", *numbers(axis, 13, told=moment), width="100%", height=18)
    foot = tag("li", tag("span", class_="label"), tag("span", scale, class_="track"), class_="foot", aria_hidden="true")
    legends = (_legend("first token", "first", summary.first_token), _legend("total", "total", summary.duration))
    return joined([*legends, tag("ol", *items, foot, class_="lines")])


def _histograms(summary: Summary, placed: Sequence[Placed], axis: Log) -> Markup:
    """Two that share an axis: first tokens stand on it, ends of answers hang from it."""
    first = _stacks([(place, row, row.first_token) for place, row in placed], axis)
    total = _stacks([(place, row, row.duration) for place, row in placed], axis)
    brick = min(_BRICK, _STACK / max(map(len, (*first, *total))))
    over = _MARKS + brick * max(map(len, first))
    under = over + _GAP
    height = under + brick * max(map(len, total)) + _MARKS
    label = f"Two histograms of {len(placed)} models: seconds up to the first token, and in total. The table has the figures."
    plot = tag(
        "svg",
        *grid(axis, 0, over),
        *grid(axis, under, height),
        *_bricks(first, "first", lambda place: over - (place + 1) * brick, brick),
        *_bricks(total, "total", lambda place: under + place * brick, brick),
        *_percentiles(summary.first_token, axis, (0, over), 10),
        *_percentiles(summary.duration, axis, (under, height), height - 1),
        *numbers(axis, over + 17, told=moment),
        width="100%",
        height=height,
        role="img",
        aria_label=label,
    )
    above, below = _legend("first token", "first", summary.first_token), _legend("total", "total", summary.duration)
    return joined([above, tag("div", plot, class_="frame"), below])


def _stacks(timed: Sequence[tuple[int, Row, float | None]], axis: Log) -> list[list[Placed]]:
    """The models of each bin; in a bin, the faster ones first."""
    stacks: list[list[Placed]] = [[] for _ in range(_BINS)]
    for place, row, time in sorted(timed, key=lambda each: (each[2] or 0.0, each[0])):
        if time is not None:
            stacks[min(_BINS - 1, int(axis.at(time) * _BINS))].append((place, row))
    return stacks


def _bricks(
    stacks: Sequence[Sequence[Placed]], class_: str, top: Callable[[int], float], height: float
) -> list[Markup]:
    return [
        tag(
            "rect",
            told(row),
            class_=class_,
            x=across((number + 0.06) / _BINS),
            y=top(level) + 0.5,
            width=across(0.88 / _BINS),
            height=max(0.5, height - 1),
            rx=1,
            data_m=place,
        )
        for number, stack in enumerate(stacks)
        for level, (place, row) in enumerate(stack)
    ]


def _percentiles(spread: Spread | None, axis: Log, ends: tuple[float, float], y: float) -> list[Markup]:
    """Where the median and p95 are; their names stand apart however close they are."""
    if spread is None:
        return []
    median, high = across(axis.at(spread.p50)), across(axis.at(spread.p95))
    return [
        upright(median, *ends, "mark"),
        word("median", median, y, "note", "end", -4),
        upright(high, *ends, "mark dashed"),
        word("p95", high, y, "note", "start", 4),
    ]


def _legend(name: str, class_: str, spread: Spread | None) -> Markup:
    """What a mark stands for, and the figures of all."""
    mark = tag("svg", _SIGNS[class_], class_="sign", width=14, height=14, aria_hidden="true")
    told = "not known" if spread is None else f"median {seconds(spread.p50)} · p95 {seconds(spread.p95)}"
    return tag("p", mark, tag("b", name), " ", told, class_="legend")


_SIGNS = {
    "first": tag("circle", class_="first", cx=7, cy=7, r=5),
    "total": tag("rect", class_="total", x=2, y=2, width=10, height=10, rx=1),
}


def _time(value: float | None) -> str:
    return "–" if value is None else seconds(value)
