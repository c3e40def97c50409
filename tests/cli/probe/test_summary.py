"""The figures of a sweep, what changed against an earlier one, and how the terminal shows both."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from routerkit.cli.probe.comparison import KINDS, LEAST, MORE, Comparison
from routerkit.cli.probe.sample import Sample
from routerkit.cli.probe.summary import BEST, Row, Spread, Summary, summary_tables
from routerkit.cli.probe.words import dollars, per_million, percent
from tests.cli.probe.made import answer, failure, measured, seconds, sweep

LISTS = st.lists(measured, max_size=12)


def shown(summary: Summary, width: int = 80) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, highlight=False)
    for part in summary_tables(summary):
        console.print(part)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def ends(line: str) -> list[int]:
    """Where its cells end."""
    return [match.end() for match in re.finditer(r"\S+(?: \S+)*", line)]


# Spreads


@given(st.lists(st.none() | seconds, max_size=60))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values: list[float | None]) -> None:
    known = [value for value in values if value is not None]
    spread = Spread.of(values)
    if not known:
        assert spread is None
        return
    assert spread is not None
    for share in (50, 90, 95, 99):
        enough = [value for value in known if 100 * sum(each <= value for each in known) >= share * len(known)]
        assert getattr(spread, f"p{share}") == min(enough)
    assert (spread.count, spread.min, spread.max) == (len(known), min(known), max(known))
    assert spread.mean == float(sum(map(Fraction, known)) / len(known))
    assert spread.min <= spread.mean <= spread.max


@pytest.mark.parametrize(
    ("values", "p50", "p95"),
    [([3.0], 3.0, 3.0), ([1.0, 2.0], 1.0, 2.0), ([float(n) for n in range(1, 101)], 50.0, 95.0)],
)
def test_percentiles_of_few_values(values: list[float], p50: float, p95: float) -> None:
    spread = Spread.of(values)
    assert spread is not None
    assert (spread.p50, spread.p95) == (p50, p95)


# Summaries


@given(LISTS)
def test_a_summary_against_plain_sums(taken: list[Sample]) -> None:
    summary = Summary.of(taken)
    answers = [sample for sample in taken if sample.ok]
    assert (summary.tested, summary.succeeded, summary.failed) == (len(taken), len(answers), len(taken) - len(answers))
    assert summary.success_rate == (len(answers) / len(taken) if taken else None)
    assert Fraction(summary.total_cost) == sum(Fraction(sample.cost) for sample in taken if sample.cost is not None)
    assert summary.cost_unknown == sum(sample.cost is None for sample in answers)
    judged = [sample for sample in taken if not sample.ok or sample.cost is not None]
    beside = [Fraction(each.charged) - Fraction(each.cost or 0) for each in judged if each.charged is not None]
    assert summary.unsettled_unknown == sum(sample.charged is None for sample in judged)
    assert Fraction(summary.unsettled_cost) == sum(rest for rest in beside if rest > 0)
    assert summary.unsettled == summary.unsettled_unknown + sum(rest > 0 for rest in beside)
    assert summary.causes == Counter(sample.cause for sample in taken if not sample.ok)
    assert list(summary.causes.values()) == sorted(summary.causes.values(), reverse=True)
    assert summary.first_token == Spread.of([sample.first_token for sample in answers])
    assert summary.completion_tokens == sum(sample.completion_tokens or 0 for sample in taken)
    assert sum(row.tested for row in summary.models) == len(taken)
    assert len({(row.gateway, row.model) for row in summary.models}) == len(summary.models)
    for best, name in ((summary.fastest, "first_token"), (summary.cheapest, "cost")):
        known = sorted(getattr(row, name) for row in summary.models if getattr(row, name) is not None)
        assert [getattr(row, name) for row in best] == known[:BEST]


@given(st.lists(measured.map(lambda sample: attrs.evolve(sample, gateway="g", model="m")), min_size=1, max_size=8))
def test_a_row_against_plain_means(taken: list[Sample]) -> None:
    row = Row.of(taken)
    answers = [sample for sample in taken if sample.ok]
    assert (row.tested, row.ok) == (len(taken), len(answers))
    for name in ("first_token", "duration", "completion_tokens"):
        known = [Fraction(getattr(sample, name)) for sample in answers if getattr(sample, name) is not None]
        assert getattr(row, name) == (float(sum(known) / len(known)) if known else None)
    costs = [Fraction(sample.cost) for sample in answers if sample.cost is not None]
    if not costs:
        assert row.cost is None
    else:
        assert row.cost is not None
        assert abs(Fraction(row.cost) - sum(costs) / len(costs)) <= sum(costs) / 10**26
    failed = [sample for sample in taken if not sample.ok]
    assert (row.cause, row.error) == ((failed[-1].cause, failed[-1].error) if failed else ("", ""))


def test_what_is_unknown_is_none_and_costs_are_exact() -> None:
    nothing = Summary.of([], untested=7)
    assert (nothing.success_rate, nothing.first_token, nothing.duration, nothing.untested) == (None, None, None, 7)
    assert nothing.total_cost == 0
    unknown = Summary.of([answer(cost=None, first_token=None, tokens_per_second=None)])
    assert unknown.models[0].cost is None
    assert unknown.to_dict()["first_token"] is None
    assert (unknown.fastest, unknown.cheapest, unknown.cost_unknown) == ((), (), 1)
    tiny = Decimal("0.0000000000000000000000000000000000000001")
    exact = Summary.of([answer(cost=Decimal(1)), answer("b/two", cost=tiny)]).to_dict()["total_cost"]
    assert exact == "1.0000000000000000000000000000000000000001"


def test_ties_go_by_id_and_among_the_cheapest_by_speed() -> None:
    summary = Summary.of(
        [answer("c/x", first_token=0.5), answer("a/x", first_token=0.5), answer("b/x", first_token=0.1)]
    )
    assert [row.model for row in summary.fastest] == ["b/x", "a/x", "c/x"]
    assert [row.model for row in summary.cheapest] == ["b/x", "a/x", "c/x"]


def test_a_summary_as_json() -> None:
    summary = Summary.of([answer(cost=Decimal("1E-7")), failure("b/two", mock=True)], untested=1)
    document = json.loads(json.dumps(summary.to_dict()))
    assert document["total_cost"] == "0.0000001"
    assert document["causes"] == {"rate_limited": 1}
    assert document["fastest"] == [{"gateway": "openrouter", "model": "a/one", "first_token": 0.5}]
    assert document["cheapest"] == [{"gateway": "openrouter", "model": "a/one", "cost": "0.0000001"}]
    assert "models" not in document
    row = json.loads(json.dumps(summary.models[1].to_dict()))
    assert (row["cause"], row["causes"], row["cost"], row["first_token"]) == (
        "rate_limited",
        {"rate_limited": 1},
        None,
        None,
    )


# Words


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        (None, "unknown"),
        ("0", "$0.00"),
        ("1234.5", "$1,234.50"),
        ("0.012345678", "$0.012346"),
        ("0.00000123", "$0.0000012"),
        ("1E-300", "$1.00e-300"),
        ("1E+400", "$1.00e+400"),
    ],
)
def test_dollars(amount: str | None, told: str) -> None:
    assert dollars(None if amount is None else Decimal(amount)) == told


def test_prices_and_shares() -> None:
    assert per_million(Decimal("0.0000025")) == "$2.50"
    assert per_million(None) == "unknown"
    assert [percent(share) for share in (0, 0.0001, 0.5, 0.99999, 1)] == ["0 %", "0.1 %", "50.0 %", "99.9 %", "100 %"]


# The terminal


def test_the_tables_fit_eighty_columns() -> None:
    many = [attrs.evolve(sample, model=f"a-maker-with-a-long-name/{sample.model}-instruct") for sample in sweep(60)]
    told = shown(Summary.of(many, untested=3))
    assert max(map(len, told.splitlines())) <= 80
    for words in (
        "tested        60 models (3 questions not put)",
        "success rate  86.7 %",
        "failures by cause     count   share  models",
        "provider unavailable",
        "fastest 5",
        "cheapest 5",
    ):
        assert words in told
    heads = next(line for line in told.splitlines() if line.startswith("of the answers"))
    first = next(line for line in told.splitlines() if line.startswith("first token"))
    assert ends(heads)[-7:] == ends(first)[-7:]


def test_the_tables_of_several_rounds_on_several_gateways() -> None:
    told = shown(Summary.of([answer(), answer(round=2, cost=None), answer(gateway="infron", mock=True)]))
    assert "tested        3 questions to 2 models" in told
    assert "total cost    $0.00002 + 1 answer of unknown cost" in told
    assert "a/one on infron" in told
    assert "mocked        1: dev mode made these answers up" in told


def test_free_models_do_not_hide_the_cheapest_that_charges() -> None:
    free = [answer(f"a/{n}", cost=Decimal(0), free=True) for n in range(BEST)]
    assert "5 models answered for nothing; of the others, b/two cost least: $0.00001" in shown(
        Summary.of([*free, answer("b/two"), answer("c/three", cost=Decimal(2))]), 120
    )


def test_what_failures_may_be_charged_is_told() -> None:
    cent = Decimal("0.01")
    taken = [answer(charged=cent + Decimal("0.00001")), answer("b/two", cost=None, charged=cent)]
    assert "not settled   at most $0.01: 1 question that failed or broke off\n" in shown(Summary.of(taken))
    more = Summary.of([*taken, failure("c/three", charged=cent), failure("d/four", charged=None)], 2, [cent, None])
    told = "at most $0.03, and nobody can tell for 2: 5 questions that failed or broke off"
    assert f"not settled   {told}\n" in shown(more, 120)
    assert more.total_cost == Decimal("0.00001")
    assert "not settled" not in shown(Summary.of([answer(charged=Decimal("0.00001")), failure()]))


def test_the_tables_without_answers() -> None:
    assert "success rate  -" in shown(Summary.of([]))
    told = shown(Summary.of([failure()]))
    assert "success rate  0 %" in told
    assert "rate limited           1  100 %  a/one" in told
    assert "fastest" not in told


# Comparisons


def models(comparison: Comparison, kind: str) -> list[str]:
    return [change.model for change in comparison.changes[kind]]


@given(LISTS)
def test_nothing_changes_against_itself(taken: list[Sample]) -> None:
    comparison = Comparison.of(taken, taken)
    assert not any(comparison.changes.values())
    assert comparison.lines()[-1] == "no model changed"


@given(LISTS, LISTS)
def test_there_and_back(before: list[Sample], now: list[Sample]) -> None:
    there, back = Comparison.of(before, now), Comparison.of(now, before)
    pairs = {"newly_failing": "recovered", "appeared": "gone", "slower": "faster", "dearer": "cheaper"}
    for kind, opposite in pairs.items():
        assert {*models(there, kind)} == {*models(back, opposite)}
    known = [{(sample.gateway, sample.model) for sample in side} for side in (before, now)]
    assert {(change.gateway, change.model) for change in there.appeared} == known[1] - known[0]
    json.dumps(there.to_dict())


def test_what_changed() -> None:
    dear = {"prompt_price": Decimal("0.000002"), "completion_price": Decimal("0.000003")}
    before = [
        *(failure("m/back", "overloaded"), answer("m/down"), answer("m/late"), answer("m/early", first_token=2.0)),
        *(
            answer("m/dear"),
            answer("m/cheap", **dear),
            answer("m/gone"),
            answer("m/same"),
            answer("m/unpriced", **dear),
        ),
    ]
    now = [
        *(answer("m/back"), failure("m/down"), answer("m/late", first_token=1.5), answer("m/early")),
        *(answer("m/dear", **dear), answer("m/cheap"), answer("m/new"), answer("m/same", first_token=0.69)),
        answer("m/unpriced", prompt_price=None),
    ]
    comparison = Comparison.of(before, now)
    assert {kind: models(comparison, kind) for kind in KINDS} == {
        "newly_failing": ["m/down"],
        "recovered": ["m/back"],
        "slower": ["m/late"],
        "faster": ["m/early"],
        "dearer": ["m/dear"],
        "cheaper": ["m/cheap"],
        "appeared": ["m/new"],
        "gone": ["m/gone"],
    }
    lines = comparison.lines()
    for line in (
        "success rate        88.9 % before, 88.9 % now",
        "newly failing: 1",
        "  m/down: ok → rate limited",
        "  m/back: overloaded → ok",
        "  m/late: 0.50 s → 1.50 s",
        "  m/dear: $0.50 in, $1.00 out → $2.00 in, $3.00 out",
        "  m/new",
    ):
        assert line in lines
    document = json.loads(json.dumps(comparison.to_dict()))
    assert document["slower"] == [{"gateway": "openrouter", "model": "m/late", "before": 0.5, "now": 1.5}]
    assert document["dearer"][0]["now"] == {"prompt": "0.000002", "completion": "0.000003"}
    assert document["appeared"][0]["before"] is None


@pytest.mark.parametrize(
    ("old", "new", "slower"),
    [
        (0.1, 0.09 + LEAST, False),  # twice as long and more, yet too little to be felt
        (1.0, 1.0 + LEAST, False),
        (1.0, MORE, False),
        (1.0, MORE + 0.01, True),
        (100.0, 124.0, False),
        (0.0, 0.3, True),
    ],
)
def test_slower_means_a_quarter_and_a_fifth_of_a_second(old: float, new: float, slower: bool) -> None:
    comparison = Comparison.of([answer(first_token=old)], [answer(first_token=new)])
    assert bool(comparison.slower) == slower


def test_a_model_works_when_half_of_its_questions_are_answered() -> None:
    half = [answer(), failure(round=2)]
    assert not Comparison.of([answer()], half).newly_failing
    assert Comparison.of(half, [*half, failure(round=3)]).newly_failing


def test_long_lists_are_cut_on_the_terminal() -> None:
    lines = Comparison.of([], [answer(f"m/{n}") for n in range(20)]).lines()
    assert lines[-7:-5] == ["not asked before: 20", "  m/0"]
    assert lines[-1] == "  and 15 more"
