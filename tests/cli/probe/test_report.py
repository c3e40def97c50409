"""``report.html`` and ``results.json``, without a browser: what is in them, and that what gateways send is text."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routerkit.cli.probe import report
from routerkit.cli.probe.axes import Log
from routerkit.cli.probe.comparison import Comparison
from routerkit.cli.probe.markup import Markup, clean, tag
from routerkit.cli.probe.plots import FEW
from routerkit.cli.probe.report import page, results_document
from routerkit.cli.probe.sample import Head, Sample
from routerkit.cli.probe.scatter import Point, frontier
from routerkit.cli.probe.summary import Summary
from tests.cli.probe.made import HEAD, answer, failure, samples, sweep

SECTIONS = ["fastest", "cheapest", "latency", "price", "failures", "models"]
VOID = ("meta", "link", "br", "input")
NASTY = (
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "<!--",
    "]]>",
    "&lt;b&gt; &amp; &",
    "$body ${style} $$",
    "\x00\x07\x1b[31m\x9b1m\r\n\t",
    "\u2028\u2029\u202e\ufeff",
    "\ud800 \udfff",
)
nasty = (
    st.sampled_from(NASTY) | st.text(st.characters(), max_size=12) | st.text("<>&\"'/=!-$`\x00\ud800 a", max_size=12)
)


class Page(HTMLParser):
    """A page's elements and texts. Raises AssertionError where elements are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.code: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            self.code[self._open[-1]] = data
        else:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def written(taken: list[Sample], before: list[Sample] | None = None, head: Head = HEAD, untested: int = 0) -> str:
    comparison = None if before is None else Comparison.of(before, taken)
    return page(head, taken, Summary.of(taken, untested), comparison)


# results.json


def test_the_document_holds_everything() -> None:
    taken = sweep(12)
    comparison = Comparison.of(sweep(10), taken)
    document = json.loads(json.dumps(results_document(HEAD, taken, Summary.of(taken), comparison)))
    assert Head.read(document["sweep"]) == HEAD
    assert [Sample.read(each) for each in document["samples"]] == taken
    assert document["summary"]["tested"] == 12
    assert len(document["models"]) == 12
    assert [change["model"] for change in document["comparison"]["appeared"]] == [
        "maker-1/model-10",
        "maker-2/model-11",
    ]
    assert results_document(HEAD, [], Summary.of([]), None)["comparison"] is None


def test_the_document_can_be_written_whatever_came() -> None:
    taken = [answer(text="\ud800"), failure("b/two", cause="\udfff")]
    document = results_document(HEAD, taken, Summary.of(taken), None)
    assert json.dumps(document, ensure_ascii=False).encode()
    assert document["samples"][0]["text"] == "\ufffd"
    assert document["summary"]["causes"] == {"\ufffd": 1}


# The page


def test_the_page_is_whole_without_its_script() -> None:
    taken = sweep(FEW + 20)
    seen = Page(written(taken, sweep(FEW), untested=2))
    assert [section["id"] for section in seen.all("section")] == ["changes", *SECTIONS]
    assert len([row for row in seen.all("tr") if "data-m" in row]) == len(taken)
    for words in (
        "“Hello, world!”",
        "29 January 2026, 14:03 UTC",
        "2 questions not put",
        "86.7 % of 60",
        "delay",
        "180.0",
    ):
        assert words in seen.text
    for sample in taken:
        assert sample.model in seen.texts
        assert sample.ok or sample.error in seen.texts
    bricks = Counter(brick["class"] for brick in seen.all("rect") if "data-m" in brick)
    assert bricks == {"first": 52, "total": 52}
    assert len([dot for dot in seen.all("circle") if "data-m" in dot]) == len(
        [s for s in taken if s.ok and s.completion_price is not None]
    )


def test_few_models_have_a_line_each() -> None:
    seen = Page(written(sweep(3)))
    assert len([line for line in seen.all("li") if "data-m" in line]) == 3
    assert not [brick for brick in seen.all("rect") if "data-m" in brick]


def test_nothing_is_fetched_and_nothing_but_its_own_script_may_run() -> None:
    seen = Page(written(sweep(50), sweep(40)))
    policy = next(meta["content"] for meta in seen.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for name in ("script", "style"):
        fingerprint = base64.b64encode(hashlib.sha256(seen.code[name].encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{fingerprint}'"
    sources = [
        value for _, attributes in seen.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert sources == ["data:,"]
    assert not re.search(
        r"https?:|url\(|@import|fetch\(|XMLHttp|import\(|innerHTML|eval\(", "".join(seen.code.values())
    )
    assert not [
        name for _, attributes in seen.elements for name in attributes if name.startswith("on") or name == "style"
    ]


def bones(taken: list[Sample]) -> tuple[Counter[str], set[str]]:
    """How often each element occurs, and the names of all attributes."""
    seen = Page(written(taken, taken[1:], attrs.evolve(HEAD, prompt=taken[0].text if taken else "")))
    return Counter(name for name, _ in seen.elements), {name for _, attributes in seen.elements for name in attributes}


@given(st.lists(st.tuples(st.booleans(), nasty, nasty, nasty, nasty), min_size=1, max_size=2))
@example([(ok, text, text, text, text) for text in NASTY for ok in (True, False)])
def test_what_gateways_send_is_text_and_nothing_else(rows: list[tuple[bool, str, str, str, str]]) -> None:
    """The page has the same elements and attributes as one in which all these texts are harmless ones of as many words."""

    def made(harmless: bool) -> list[Sample]:
        def told(text: str, place: int) -> str:
            return (f"w{place}" if clean(text) else "") if harmless else text

        return [
            answer(
                f"{number}{told(model, number)}",
                text=told(text, 1),
                name=f"n{told(name, 2)}",
                finish_reason=f"f{told(more, 3)}",
            )
            if ok
            else failure(
                f"{number}{told(model, number)}",
                f"c{number}{told(name, 4)}",
                error=told(text, 5),
                gateway=f"g{told(more, 6)}",
            )
            for number, (ok, model, text, name, more) in enumerate(rows)
        ]

    evil, good = made(harmless=False), made(harmless=True)
    if len({sample.gateway for sample in evil}) != len({sample.gateway for sample in good}):
        evil, good = ([attrs.evolve(sample, gateway="g") for sample in side] for side in (evil, good))
    assert bones(evil) == bones(good)
    text = written(evil)
    assert text.encode()
    assert not set(text) & {*map(chr, (*range(9), *range(11, 32), *range(127, 160))), "\u2028", "\u2029"}
    seen = Page(text)
    for sample in evil:
        assert clean(sample.model) in "".join(seen.texts)
        assert not sample.ok or not sample.text or clean(sample.text) in seen.texts


@given(st.lists(samples(nasty), max_size=3), st.lists(samples(st.just(NASTY[0])), max_size=1))
def test_any_samples_make_a_page(taken: list[Sample], before: list[Sample]) -> None:
    seen = Page(written(taken, before))
    for _, attributes in seen.elements:
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            number = float((attributes.get(name) or "0").removesuffix("%"))
            assert math.isfinite(number)
            assert name in ("x", "y") or number >= 0


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ([], "No question was put."),
        ([failure()], "No question was answered."),
        ([answer()], "Nothing failed."),
        (
            [answer(prompt_price=None, completion_price=None, cost=None)],
            "There is no answer of which both price and speed",
        ),
        ([answer(cost=None)], "No cost is known."),
        ([answer(first_token=None)], "No first token is known."),
        ([answer(), failure("b/two", charged=Decimal("0.01"))], "1 question not settled"),
        ([failure(charged=Decimal("0.01"))], "Not settled: at most $0.01: 1 question that failed or broke off."),
        ([answer(mock=True)], "All answers are mocks."),
        ([answer(mock=True), answer("b/two")], "1 of 2 answers are mocks."),
        ([answer(cost=Decimal("1E-9"))], "<$0.0001"),
        ([answer(), failure(round=2)], "1 of 2"),
        ([answer(finish_reason="length")], "ended by length"),
        ([answer(reasoning_tokens=7)], "5 → 20*"),
        ([answer(tokens_per_second=None)], "time of an answer, shorter is higher"),
    ],
)
def test_what_is_missing_is_said(taken: list[Sample], words: str) -> None:
    assert words in Page(written(taken)).text


def test_a_clock_that_was_set_back_and_texts_that_turn_all_others_around() -> None:
    text = Page(written([answer("a/\u202eevil", at=HEAD.started - 9_999)])).text
    assert "took 0.0 ms" in text
    assert "a/evil" in text
    assert "\u202e" not in text


def test_dates_that_cannot_be_are_no_reason_to_fail() -> None:
    assert "an unknown time" in Page(written([answer(at=1e300)], head=attrs.evolve(HEAD, started=1e299))).text


def test_four_hundred_models_make_a_page_of_less_than_a_megabyte() -> None:
    long = [attrs.evolve(sample, text="x" * 200, round=n) for n in (1, 2) for sample in sweep(400)]
    assert len(written(long, sweep(390)).encode()) < 1_500_000


# Its parts


@given(nasty, nasty)
def test_an_element_holds_its_texts(value: str, text: str) -> None:
    seen = Page(tag("p", tag("b", text), value, title=value, data_x=text))
    assert seen.elements == [("p", {"title": clean(value), "data-x": clean(text)}), ("b", {})]
    assert "".join(seen.texts) == clean(text) + clean(value)


def test_only_what_tag_made_is_markup() -> None:
    assert (
        tag("p", "<i>", Markup("<i>"), hidden=True, id=None, x=1.5, y=2.0) == '<p hidden x="1.5" y="2">&lt;i&gt;<i></p>'
    )


@given(st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=20))
def test_an_axis_holds_its_values(values: list[float]) -> None:
    axis = Log.over(values, (0.001, 1e5))
    inside = [min(max(value, 0.001), 1e5) for value in values]
    assert axis.low <= min(inside) * 1.001
    assert axis.high >= max(inside) * 0.999
    assert axis.high > axis.low * 3
    places = [axis.at(value) for value in sorted(values)]
    assert all(0 <= place <= 1 for place in places)
    assert places == sorted(places)
    labelled = [number for number, rank in axis.ticks() if rank == "major"]
    assert 1 <= len(labelled) <= 9
    assert all(axis.low * 0.99 <= number <= axis.high * 1.01 for number in labelled)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20))
def test_the_best_are_those_that_nothing_beats(pairs: list[tuple[int, int]]) -> None:
    row = Summary.of([answer()]).models[0]
    points = [
        Point(place=place, row=row, price=float(price), speed=float(speed), x=0.0, y=0.0)
        for place, (price, speed) in enumerate(pairs)
    ]
    unbeaten = {
        (a.price, a.speed)
        for a in points
        if not any(
            b.price <= a.price and b.speed >= a.speed and (b.price, b.speed) != (a.price, a.speed) for b in points
        )
    }
    best = frontier(points)
    assert {(point.price, point.speed) for point in best} == unbeaten
    assert len(best) == len(unbeaten)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_can_be_read_in_both_themes(theme: int) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 at least."""
    style = (Path(report.__file__).parent / "report.css").read_text()
    colours = {name: pair[theme] for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", style)}
    pairs = [(text, back) for text in ("ink", "soft", "good", "bad", "first") for back in ("page", "card", "raised")]
    pairs += [(text, f"{text}-back") for text in ("good", "bad", "partly")] + [("card", "first"), ("page", "ink")]
    for text, back in pairs:
        bright, dim = sorted((luminance(colours[text]), luminance(colours[back])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, f"{text} on {back}"
