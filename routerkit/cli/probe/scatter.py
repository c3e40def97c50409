"""The plot of price against speed, as SVG that needs no script: cheap is left, fast is up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import attrs

from routerkit.cli.probe.axes import Log, across, grid, moment, numbers, short, word
from routerkit.cli.probe.markup import Markup, joined, tag
from routerkit.cli.probe.plots import SECONDS, Placed, told
from routerkit.cli.probe.summary import Row, Summary
from routerkit.cli.probe.words import counted
from routerkit.cli.render import MILLION

RATES = (0.01, 1_000_000.0)
PRICES = (0.000_001, 1_000_000_000.0)
"""What the axes reach at most: tokens per second, USD per million tokens. What lies beyond is drawn at their ends."""

_HEIGHT = 400
_BAND = 0.09
"""The part of the width, at the left edge, for models that cost nothing."""
_GOLDEN = 0.618034
"""Multiples of it, of which only the fractions count, are spread evenly: so points do not stand on one another."""
_NAMED = 14
_LETTERS = 26
_LETTER = 6.3
"""Pixels that a letter of a label takes, about."""
_LINE = 14
_WIDE, _NARROW = 1000, 310
"""Pixels: widths of a plot for which labels are kept apart."""


@attrs.frozen(kw_only=True)
class Point:
    """A model in the plot."""

    place: int
    """In the table."""
    row: Row
    price: float
    """USD per million tokens of an answer."""
    speed: float
    """Tokens per second, or seconds below zero: the more, the better."""
    x: float
    """0 (left) to 1."""
    y: float
    """Pixels from above."""


def prices_and_speed(summary: Summary) -> Markup:
    """The whole plot. Its height tells tokens per second, or, where few models tell those, the time of an answer."""
    answered = [(place, row) for place, row in enumerate(summary.models) if row.ok]
    by_rate = 2 * sum(row.tokens_per_second is not None for _, row in answered) >= len(answered)
    points, prices, speeds = _points(answered, by_rate)
    if not points:
        return tag("p", "There is no answer of which both price and speed are known.", class_="empty")
    best = frontier(points)
    start = 0.0 if all(point.price for point in points) else _BAND if any(point.price for point in points) else 1.0
    plot = tag(
        "svg",
        tag("rect", class_="band", x="0", y=0, width=across(max(0, start - 0.01)), height=_HEIGHT),
        *(grid(prices, 0, _HEIGHT, start) if start < 1 else ()),
        *_levels(speeds, by_rate),
        *_stairs(best),
        *(_dot(point, point in best) for point in sorted(points, key=lambda point: point in best)),
        *_labels(_named(points, best)),
        *(numbers(prices, _HEIGHT + 17, start) if start < 1 else ()),
        word("$0", across(max(0, start - 0.01) / 2), _HEIGHT + 17, "tick zero") if start else "",
        width="100%",
        height=_HEIGHT + 22,
        role="img",
        aria_label=f"Price against speed of {counted(len(points), 'model')}; the table has the figures.",
    )
    missing = len(answered) - len(points)
    note = f"{counted(missing, 'model')} not shown: price or speed unknown." if missing else ""
    sign = tag(
        "svg",
        tag("circle", class_="dot best", cx=7, cy=7, r=5.5),
        class_="sign",
        width=14,
        height=14,
        aria_hidden="true",
    )
    return joined(
        [
            tag(
                "p", "↑ tokens per second" if by_rate else "↑ time of an answer, shorter is higher", class_="axis-name"
            ),
            tag("div", plot, class_="frame"),
            tag("p", "USD per million tokens of answers →", class_="axis-name right"),
            tag("p", sign, tag("b", "best"), " nothing that is cheaper is as fast", class_="legend"),
            tag("p", note, class_="aside") if note else "",
        ]
    )


def frontier(points: Iterable[Point]) -> list[Point]:
    """Those that no other beats or equals in both price and speed while it is better in one; cheapest first, fewest of equals."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.price, -point.speed, point.place)):
        if not best or point.speed > best[-1].speed:
            best.append(point)
    return best


def _points(answered: Sequence[Placed], by_rate: bool) -> tuple[list[Point], Log, Log]:
    known = [
        (place, row, float(row.completion_price * MILLION), value)
        for place, row in answered
        if row.completion_price is not None
        and row.completion_price >= 0
        and (value := row.tokens_per_second if by_rate else row.duration) is not None
    ]
    paid = [price for *_, price, _ in known if price]
    prices = Log.over(paid, PRICES)
    speeds = Log.over([value for *_, value in known], RATES if by_rate else SECONDS)
    free = _BAND - 0.01 if paid else 1.0
    points = []
    for place, row, price, value in known:
        x = _BAND + (1 - _BAND) * prices.at(price) if len(paid) < len(known) else prices.at(price)
        if not price:
            x = free * (0.1 + 0.8 * (place * _GOLDEN % 1))
        height = speeds.at(value) if by_rate else 1 - speeds.at(value)
        y, speed = _HEIGHT * (1 - height), value if by_rate else -value
        points.append(Point(place=place, row=row, price=price, speed=speed, x=x, y=y))
    return points, prices, speeds


def _levels(speeds: Log, by_rate: bool) -> Iterator[Markup]:
    """The vertical axis: its lines, and its numbers at the left."""
    for number, rank in speeds.ticks():
        y = _HEIGHT * (1 - speeds.at(number)) if by_rate else _HEIGHT * speeds.at(number)
        yield tag("line", class_=f"grid {rank}", x1="0", x2="100%", y1=y, y2=y)
        if rank != "bare":
            yield word(short(number) if by_rate else moment(number), "0", y + 4, "tick", "end", -8)


def _dot(point: Point, best: bool) -> Markup:
    class_ = "dot best" if best else "dot"
    r = 5.5 if best else 4.5
    return tag("circle", told(point.row), class_=class_, cx=across(point.x), cy=point.y, r=r, data_m=point.place)


def _stairs(best: Sequence[Point]) -> Iterator[Markup]:
    """From each of the best to the next one, which is dearer and faster."""
    for here, there in pairwise(best):
        left, right = across(here.x), across(there.x)
        yield tag("line", class_="stair", x1=left, x2=right, y1=here.y, y2=here.y)
        yield tag("line", class_="stair", x1=right, x2=right, y1=here.y, y2=there.y)


def _named(points: Sequence[Point], best: Sequence[Point]) -> list[Point]:
    """Those that deserve a name, most of all first: the fastest, the slowest, the cheapest, the dearest, and all of the best."""
    paid = [point for point in points if point.price] or points
    extremes = [
        max(points, key=lambda point: point.speed),
        max(points, key=lambda point: point.price),
        min(points, key=lambda point: point.speed),
        min(paid, key=lambda point: (point.price, -point.speed)),
    ]
    found = {point.place: point for point in (*extremes, *reversed(best))}
    return list(found.values())[:_NAMED]


def _labels(points: Sequence[Point]) -> Iterator[Markup]:
    """Names beside their points, at the side where they meet no other; those that a narrow page has no room for have a class."""
    wide: list[tuple[float, float, float]] = []
    narrow: list[tuple[float, float, float]] = []
    for point in points:
        name = point.row.model.rpartition("/")[2] or point.row.model
        name = name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"
        for side in (1, -1):
            if _fits(point, len(name), side, _WIDE, wide):
                room = _fits(point, len(name), side, _NARROW, narrow)
                anchor = "start" if side == 1 else "end"
                yield word(name, across(point.x), point.y + 4, "name" if room else "name wide", anchor, side * 9)
                break


def _fits(point: Point, letters: int, side: int, width: int, taken: list[tuple[float, float, float]]) -> bool:
    """Whether a label has room in a plot of this width; then it takes it."""
    near = point.x * width + side * 9
    far = near + side * letters * _LETTER
    left, right = min(near, far), max(near, far)
    if left < 0 or right > width + 20:
        return False
    if any(abs(y - point.y) < _LINE and left < end and start < right for start, end, y in taken):
        return False
    taken.append((left, right, point.y))
    return True
