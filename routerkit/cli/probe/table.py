"""The report's table of all models. What a column sorts by is its cells' ``data-v``; none: unknown, which comes last either way."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import attrs

from routerkit.cli.probe.axes import Log, moment
from routerkit.cli.probe.markup import Markup, Value, joined, tag
from routerkit.cli.probe.plots import bar, speed_axis
from routerkit.cli.probe.summary import Row, Summary
from routerkit.cli.probe.words import dollars, in_words, per_million
from routerkit.cli.render import MILLION, seconds

_DECIMALS = 7
"""Of a cost in the table: so many show two digits of the cheapest answers there are."""
_WHOLE = (None, "stop", "end_turn", "eos")
"""Finish reasons of an answer that was not cut short."""


@attrs.frozen
class Column:
    """A column of the table."""

    key: str
    """What the page's address calls it; empty: nothing to sort by."""
    title: str
    cell: Callable[[Row], Markup]
    hint: str = ""
    number: bool = True
    """Whether it is set to the right."""


def models_table(summary: Summary) -> Markup:
    """All models, best first; sorted by first token to begin with."""
    axis = speed_axis(summary)
    columns = _columns(axis, summary.several)
    head = tag("tr", *(_heading(column) for column in columns))
    rows = [
        tag("tr", *(column.cell(row) for column in columns), **_flags(place, row))
        for place, row in enumerate(summary.models)
    ]
    return tag("table", tag("thead", head), tag("tbody", *rows), id="models-table")


def _columns(axis: Log, several: bool) -> list[Column]:
    gateway = [Column("gateway", "Gateway", lambda row: _text("gateway", row.gateway), number=False)]
    return [
        Column("model", "Model", _model, number=False),
        *(gateway if several else ()),
        Column("verdict", "Verdict", _verdict, number=False),
        Column("first", "First token", lambda row: _time("first", row.first_token), "seconds up to the first content"),
        Column("total", "Total", lambda row: _time("total", row.duration), "seconds up to the end of the answer"),
        Column(
            "", _span(axis), lambda row: tag("td", bar(row, axis), class_="bars"), "first token to end", number=False
        ),
        Column("speed", "Tokens/s", _speed, "tokens per second after the first"),
        Column("tokens", "Tokens", _tokens, "of the prompt → of the answer; sorted by the answer’s"),
        Column("cost", "Cost, $", _cost, "of an answer, US dollars"),
        Column("in", "$/M in", lambda row: _price("in", row.prompt_price), "price of a million prompt tokens"),
        Column("out", "$/M out", lambda row: _price("out", row.completion_price), "price of a million answer tokens"),
        Column("context", "Context", _context, "tokens"),
        Column("", "Answer, or cause", _answer, number=False),
    ]


def _heading(column: Column) -> Markup:
    return tag(
        "th",
        column.title,
        scope="col",
        class_="number" if column.number else None,
        title=column.hint or None,
        data_sort=column.key or None,
        aria_sort="ascending" if column.key == "first" else None,
    )


def _flags(place: int, row: Row) -> dict[str, Value]:
    """By which the page finds and filters a row."""
    return {
        "data_m": place,
        "data_ok": row.ok > 0,
        "data_failed": row.ok < row.tested,
        "data_free": row.free,
        "class_": None if row.works else "fails",
    }


def _span(axis: Log) -> str:
    return f"{moment(axis.low)} – {moment(axis.high)}"


def _text(class_: str, text: str) -> Markup:
    return tag("td", text, class_=class_, data_v=text)


def _number(class_: str, shown: str, value: float | Decimal | None, title: str | None = None) -> Markup:
    """A cell with a number; a dash where it is not known."""
    if value is None:
        return tag("td", tag("span", "–", title="unknown"), class_=f"number {class_}")
    exact = format(value, "f") if isinstance(value, Decimal) else repr(value)
    return tag("td", shown, class_=f"number {class_}", data_v=exact, title=title)


def _model(row: Row) -> Markup:
    free = tag("span", "free", class_="badge") if row.free and "free" not in row.name.lower() else ""
    mock = tag("span", "mock", class_="badge mock") if row.mock else ""
    name = row.name or row.model
    identity = tag("span", row.model, class_="id") if row.name and row.name != row.model else ""
    return tag("td", tag("b", name), free, mock, identity, class_="model", data_v=row.model)


def _verdict(row: Row) -> Markup:
    status = "" if row.status is None else f" {row.status}"
    if row.ok == row.tested:
        sign, class_, words, order = "✓", "ok", "ok", "0"
    elif row.ok:
        sign, class_, words, order = "◐", "partly", f"{row.ok} of {row.tested}", f"1 {row.cause}"
    else:
        sign, class_, words, order = "✗", "failed", in_words(row.cause) + status, f"2 {row.cause}"
    badge = tag("span", tag("span", sign, class_="mark", aria_hidden="true"), words, class_=f"verdict {class_}")
    return tag("td", badge, class_="verdicts", data_v=order)


def _time(class_: str, value: float | None) -> Markup:
    return _number(class_, "" if value is None else seconds(value), value)


def _speed(row: Row) -> Markup:
    value = row.tokens_per_second
    return _number("speed", "" if value is None else f"{value:,.0f}", value)


def _tokens(row: Row) -> Markup:
    counts = ["–" if value is None else f"{value:,.0f}" for value in (row.prompt_tokens, row.completion_tokens)]
    reasoning = f"{row.reasoning_tokens:,.0f} of them reasoning" if row.reasoning_tokens else None
    known = row.completion_tokens if row.completion_tokens is not None else row.prompt_tokens
    return _number("tokens", f"{counts[0]} → {counts[1]}{'*' if reasoning else ''}", known, reasoning)


def _cost(row: Row) -> Markup:
    """All with the same decimals, so that they can be compared at a glance; the zeros before the first digit are dim."""
    if not row.cost or abs(row.cost) >= MILLION:
        return _number("cost", dollars(row.cost).removeprefix("$") if row.cost else "0", row.cost)
    shown = f"{row.cost:.{_DECIMALS}f}"
    if not float(shown):
        return _number("cost", dollars(row.cost).removeprefix("$"), row.cost)
    digits = shown.lstrip("-0.") or "0"
    zeros = tag("span", shown[: len(shown) - len(digits)], class_="zeros")
    cell = joined([zeros, digits])
    return tag("td", cell, class_="number cost", data_v=format(row.cost, "f"))


def _price(class_: str, per_token: Decimal | None) -> Markup:
    return _number(class_, per_million(per_token).removeprefix("$"), per_token)


def _context(row: Row) -> Markup:
    tokens = row.context_length
    if tokens is None:
        return _number("context", "", None)
    shown = (
        f"{tokens / MILLION:.3g}M" if tokens >= MILLION else f"{tokens / 1000:.0f}k" if tokens >= 1000 else str(tokens)
    )
    return _number("context", shown, tokens, f"{tokens:,}")


def _answer(row: Row) -> Markup:
    """How the last answer begins; why the last question failed."""
    parts: list[str] = []
    if row.ok:
        parts.append(tag("span", row.text or "(no text)", class_="said", title=row.text or None))
        if row.finish_reason not in _WHOLE:
            parts.append(tag("span", f"ended by {row.finish_reason}", class_="aside"))
    if row.ok < row.tested:
        why = f"{in_words(row.cause)}: {row.error}" if row.ok else row.error or in_words(row.cause)
        parts.append(tag("span", why, class_="why", title=why))
    return tag("td", *parts, class_="answer")
