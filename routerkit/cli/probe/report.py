"""What a sweep leaves behind: ``results.json`` for machines, and ``report.html`` for people.

The page is one file, which asks nothing of any network and can be read and printed without its script. Whatever a gateway
sent is text in it: see ``markup``; and its Content-Security-Policy lets no other script or style run than its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime, timezone
from decimal import Context, Decimal
from pathlib import Path
from string import Template
from typing import Any

from routerkit.cli.probe.comparison import KINDS, Change, Comparison, shown
from routerkit.cli.probe.markup import HALVES, Markup, joined, tag
from routerkit.cli.probe.plots import latency
from routerkit.cli.probe.sample import Head, Sample
from routerkit.cli.probe.scatter import prices_and_speed
from routerkit.cli.probe.summary import Row, Spread, Summary, of_the_free, of_the_unsettled
from routerkit.cli.probe.table import models_table
from routerkit.cli.probe.words import counted, dollars, in_words, percent
from routerkit.cli.render import MILLION, seconds

LISTED = 8
CHANGED = 4
"""Models that a list shows at once, of failures and of changes; the rest is a click away."""
_TITLE = 120
"""Characters of a prompt in the page's heading."""
_SIGNS = {
    "newly_failing": "✗",
    "recovered": "✓",
    "slower": "▲",
    "faster": "▼",
    "dearer": "▲",
    "cheaper": "▼",
    "appeared": "+",
    "gone": "−",
}
_GOOD = ("recovered", "faster", "cheaper")
_BAD = ("newly_failing", "slower", "dearer")


def results_document(
    head: Head, samples: Sequence[Sample], summary: Summary, comparison: Comparison | None
) -> dict[str, Any]:
    """All there is to know of a sweep, as plain values for JSON that can be written in UTF-8; money is decimal strings."""
    document = {
        "sweep": head.to_dict(),
        "summary": summary.to_dict(),
        "comparison": comparison and comparison.to_dict(),
        "models": [row.to_dict() for row in summary.models],
        "samples": [sample.to_dict() for sample in samples],
    }
    whole: dict[str, Any] = _encodable(document)
    return whole


def page(head: Head, samples: Sequence[Sample], summary: Summary, comparison: Comparison | None) -> str:
    """The report as one HTML page, which can be written in UTF-8."""
    style, script = _part("report.css"), _part("report.js")
    policy = (
        f"default-src 'none'; style-src '{_fingerprint(style)}'; script-src '{_fingerprint(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    body = joined(
        [
            _header(head, samples, summary),
            _mocked(summary),
            _key_figures(summary),
            _changes(comparison) if comparison else "",
            _best(summary),
            _section("latency", "Latency", latency(summary)),
            _section("price", "Price against speed", prices_and_speed(summary)),
            _section("failures", "Failures by cause", _failures(summary)),
            _models(summary),
            _footer(head),
        ]
    )
    title = tag("title", f"routerkit probe: {counted(len(summary.models), 'model')}, {_day(head.started)}")
    return Template(_part("report.html")).substitute(
        policy=joined([policy]), title=title, style=style, script=script, body=body
    )


def _encodable(value: Any) -> Any:
    """The same without halves of characters."""
    if isinstance(value, str):
        return value.translate(HALVES)
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    return [_encodable(each) for each in value] if isinstance(value, (list, tuple)) else value


def _part(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _fingerprint(text: str) -> str:
    """By which the page's policy knows a style or a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _section(name: str, title: str, *children: str) -> Markup:
    return tag("section", tag("h2", title), *children, id=name)


def _header(head: Head, samples: Sequence[Sample], summary: Summary) -> Markup:
    prompt = head.prompt if len(head.prompt) <= _TITLE else head.prompt[: _TITLE - 1].rstrip() + "…"
    end = max((sample.at + sample.duration for sample in samples), default=head.started)
    often = "" if head.repeat == 1 else f", {head.repeat} times each"
    gateways = ", ".join(head.gateways) or "no gateway"
    facts = [
        f"asked of {counted(len(summary.models), 'model')} of {gateways}{often}",
        f"{_moment(head.started)}, took {seconds(max(0.0, end - head.started))}" if samples else _moment(head.started),
        f"routerkit {head.routerkit}" if head.routerkit else "",
    ]
    options = {"prompt": head.prompt, "rounds": head.repeat, **head.options}
    pairs = [part for name, value in options.items() for part in (tag("dt", in_words(name)), tag("dd", _option(value)))]
    return tag(
        "header",
        tag("p", "routerkit probe", class_="brand"),
        tag("h1", f"“{prompt}”"),
        tag("p", *(tag("span", fact) for fact in facts if fact), class_="facts"),
        tag("details", tag("summary", "How it was asked"), tag("dl", *pairs, class_="options")),
    )


def _mocked(summary: Summary) -> Markup:
    if not any(row.mock for row in summary.models):
        return Markup("")
    which = (
        "All answers" if summary.mocked == summary.succeeded else f"{summary.mocked:,} of {summary.succeeded:,} answers"
    )
    text = (
        " were made up in dev mode: no model was asked, and their times, tokens and costs say nothing about real ones."
    )
    return tag("p", tag("b", f"{which} are mocks."), f" They{text}", class_="banner", role="note")


def _key_figures(summary: Summary) -> Markup:
    rounds = f"{counted(summary.tested, 'question')}" if summary.tested != len(summary.models) else ""
    untested = f"{counted(summary.untested, 'question')} not put" if summary.untested else ""
    rate = summary.tokens_per_second
    unknown = f"{counted(summary.cost_unknown, 'cost')} unknown" if summary.cost_unknown else ""
    unsettled = f"{counted(summary.unsettled, 'question')} not settled" if summary.unsettled else ""
    tokens = f"{summary.prompt_tokens:,} → {summary.completion_tokens:,} tokens"
    share = "–" if summary.success_rate is None else f"{percent(summary.success_rate)} of {summary.tested:,}"
    return tag(
        "dl",
        _figure("Models tested", f"{len(summary.models):,}", rounds, untested),
        _figure("Answered", f"{summary.succeeded:,}", share, class_="good" if summary.succeeded else None),
        _figure(
            "Failed",
            f"{summary.failed:,}",
            counted(len(summary.causes), "cause"),
            class_="bad" if summary.failed else None,
        ),
        _figure("First token", *_median(summary.first_token)),
        _figure("Total time", *_median(summary.duration)),
        _figure(
            "Tokens/s",
            "–" if rate is None else f"{rate.p50:,.0f}",
            "not known" if rate is None else f"median · best {rate.max:,.0f}",
        ),
        _figure("Total cost", _roughly(summary.total_cost), unknown, unsettled, tokens),
        class_="figures",
    )


def _figure(name: str, value: str, *notes: str, class_: str | None = None) -> Markup:
    return tag(
        "div",
        tag("dt", name),
        tag("dd", value, class_="value"),
        *(tag("dd", note) for note in notes if note),
        class_=class_,
    )


def _median(spread: Spread | None) -> tuple[str, str]:
    return ("–", "not known") if spread is None else (seconds(spread.p50), f"median · p95 {seconds(spread.p95)}")


def _best(summary: Summary) -> Markup:
    if not summary.succeeded:
        return Markup("")
    note = of_the_free(summary)
    fastest = [
        (row, seconds(row.first_token or 0.0), "" if row.duration is None else f"total {seconds(row.duration)}")
        for row in summary.fastest
    ]
    cheapest = [
        (row, dollars(row.cost), "" if row.first_token is None else f"first token {seconds(row.first_token)}")
        for row in summary.cheapest
    ]
    return tag(
        "div",
        _section("fastest", "Fastest", _ranking(fastest, summary.several, "No first token is known.")),
        _section(
            "cheapest",
            "Cheapest",
            _ranking(cheapest, summary.several, "No cost is known."),
            tag("p", note, class_="aside") if note else "",
        ),
        class_="pair",
    )


def _ranking(entries: Sequence[tuple[Row, str, str]], several: bool, empty: str) -> Markup:
    if not entries:
        return tag("p", empty, class_="empty")
    items = [
        tag(
            "li",
            tag("span", row.named(several), class_="label", title=row.name or None),
            tag("b", figure),
            tag("span", note, class_="aside"),
        )
        for row, figure, note in entries
    ]
    return tag("ol", *items, class_="ranking")


def _failures(summary: Summary) -> Markup:
    note = of_the_unsettled(summary)
    return joined([_causes(summary), tag("p", f"Not settled: {note}.", class_="aside") if note else ""])


def _causes(summary: Summary) -> Markup:
    if not summary.causes:
        return tag("p", "Nothing failed." if summary.tested else "No question was put.", class_="empty")
    most = max(summary.causes.values())
    return tag("ul", *(_cause(cause, count, most, summary) for cause, count in summary.causes.items()), class_="causes")


def _cause(cause: str, count: int, most: int, summary: Summary) -> Markup:
    rows = [row for row in summary.models if cause in row.causes]
    errors = [row.error for row in rows if row.cause == cause and row.error]
    example = max(errors, key=errors.count, default="")
    width = f"{100 * count / most:.2f}%"
    track = tag(
        "svg", tag("rect", width=width, height=10, rx=2), width="100%", height=10, class_="track", aria_hidden="true"
    )
    return tag(
        "li",
        tag("b", in_words(cause)),
        track,
        tag("span", f"{count:,} · {percent(count / summary.failed)}", class_="count"),
        tag(
            "div",
            _listed([tag("span", row.named(summary.several), class_="chip") for row in rows], LISTED),
            class_="models",
        ),
        tag("p", example, class_="aside said") if example else "",
    )


def _listed(items: Sequence[Markup], limit: int) -> Markup:
    """The first ones, and a fold with the rest."""
    if len(items) <= limit + 1:
        return joined(items)
    more = tag("details", tag("summary", f"and {len(items) - limit:,} more"), *items[limit:])
    return joined([*items[:limit], more])


def _changes(comparison: Comparison) -> Markup:
    when = "" if comparison.since is None else f"Against the sweep of {_moment(comparison.since)}."
    several = comparison.before.several or comparison.now.several
    figures = [
        tag("div", tag("dt", name), tag("dd", before, " → ", tag("b", now)))
        for name, before, now in comparison.figures()
    ]
    kinds = [_kind(kind, changes, several) for kind, changes in comparison.changes.items() if changes]
    return _section(
        "changes",
        "What changed",
        tag("p", when, class_="aside"),
        tag("dl", *figures, class_="before"),
        tag("div", *kinds, class_="kinds") if kinds else tag("p", "No model changed.", class_="empty"),
    )


def _kind(kind: str, changes: Sequence[Change], several: bool) -> Markup:
    class_ = "good" if kind in _GOOD else "bad" if kind in _BAD else "plain"
    sign = tag("span", _SIGNS[kind], class_="mark", aria_hidden="true")
    items = [
        tag(
            "span",
            tag("span", change.named(several), class_="label"),
            tag("span", _turned(kind, change), class_="aside"),
            class_="change",
        )
        for change in changes
    ]
    return tag(
        "div",
        tag("h3", sign, KINDS[kind], " ", tag("span", f"{len(changes):,}", class_="count")),
        _listed(items, CHANGED),
        class_=class_,
    )


def _turned(kind: str, change: Change) -> str:
    """What is to be said of a change of this kind."""
    if kind in ("newly_failing", "recovered"):
        return shown(change.now) if kind == "newly_failing" else f"was {shown(change.before)}"
    return "" if change.now is None else f"{shown(change.before)} → {shown(change.now)}"


def _models(summary: Summary) -> Markup:
    if not summary.models:
        return Markup("")
    controls = tag("div", hidden=True, id="controls")
    return _section("models", "All models", controls, tag("div", models_table(summary), class_="wide"))


def _footer(head: Head) -> Markup:
    return tag(
        "footer",
        tag(
            "p",
            "Times are those of answered questions. Percentiles are by nearest rank: each is a time that was measured. "
            "A dash: unknown. results.json, beside this page, has the exact figures.",
        ),
        tag("p", f"routerkit {head.routerkit}"),
    )


def _roughly(amount: Decimal) -> str:
    """USD with as many digits as a key figure needs: ``$0.0043``, ``$12.40``."""
    if abs(amount) >= Decimal("0.1") or not amount:
        return dollars(amount.quantize(Decimal("0.01"))) if abs(amount) < MILLION else dollars(amount)
    return dollars(Context(prec=2).plus(amount)) if abs(amount) >= Decimal("0.0001") else "<$0.0001"


def _option(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "–" if value is None else ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _time(moment: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(moment, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return None


def _moment(moment: float) -> str:
    when = _time(moment)
    return "an unknown time" if when is None else f"{_day(moment)}, {when:%H:%M} UTC"


def _day(moment: float) -> str:
    when = _time(moment)
    return "an unknown day" if when is None else f"{when.day} {when:%B %Y}"
