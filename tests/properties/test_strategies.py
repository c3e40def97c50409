"""Any candidates, any catalogue, any scores: a strategy reorders and does nothing else; scores and costs stay possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from routerkit.core.needs import Needs, needs_of, unfit
from routerkit.core.performance import MAX_WEIGHT, Scores
from routerkit.core.pricing import cost_of, expected_cost
from routerkit.core.strategies import (
    COLD_EVERY,
    KINDS,
    STRATEGIES,
    MultiModel,
    Outlook,
    Strategy,
    Weighted,
    ordered,
    strategy_of,
)
from routerkit.testing import VirtualRuntime
from routerkit.types.model import Model, Pricing
from routerkit.types.request import ChatRequest
from routerkit.types.route import Candidate, Origin, Target
from routerkit.types.tokens import Usage

IDS = ["a/one", "b/two", "c/three", "d/four", "e/five"]
TARGETS = [Target(gateway, model) for gateway in ("here", "there") for model in IDS]
NAMES = st.sampled_from([*IDS, "here", "there", *map(str, TARGETS), "x/unknown"])
price = st.none() | st.decimals(0, 1, places=9)
pricings = st.builds(Pricing, *[price] * 9)
entries = st.builds(
    Model,
    st.just("m"),
    pricing=pricings,
    context_length=st.none() | st.integers(1, 200_000),
    max_completion_tokens=st.none() | st.integers(1, 10_000),
    input_modalities=st.sampled_from([(), ("text",), ("text", "image"), ("text", "audio")]),
    supported_parameters=st.sampled_from([frozenset(), frozenset({"max_tokens"}), frozenset({"tools", "max_tokens"})]),
)
requests = st.builds(
    lambda size, image, params: ChatRequest.build(
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "x" * size}, *([{"type": "image_url"}] if image else [])],
            }
        ],
        params,
    ),
    st.integers(0, 1000),
    st.booleans(),
    st.sampled_from([{}, {"max_tokens": 10}, {"tools": [{}]}, {"reasoning": {"effort": "low"}}]),
)
# An attempt: target, seconds since the one before, whether it gave an answer, first token, seconds on top of that, tokens.
attempts = st.lists(
    st.tuples(
        st.sampled_from(TARGETS),
        st.sampled_from([0.0, 1.0, 600.0, 90_000.0]),
        st.booleans(),
        st.none() | st.floats(0, 100),
        st.floats(0, 100),
        st.none() | st.integers(0, 10_000),
    ),
    max_size=30,
)
candidates = st.lists(st.sampled_from(TARGETS), unique=True, min_size=1).map(
    lambda targets: [Candidate(target, Origin.FALLBACK, f"fallback {n}") for n, target in enumerate(targets, 1)]
)


class Odd(Strategy):
    """Returns whatever it was given to return."""

    def __init__(self, result: list[Any]) -> None:
        self.result = result

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        return [candidates[each % len(candidates)] if isinstance(each, int) else each for each in self.result]


strategies = st.one_of(
    st.sampled_from(STRATEGIES).map(strategy_of),
    st.builds(Weighted, st.dictionaries(NAMES, st.floats(0, 1e6)), st.floats(0, 1e6)),
    st.builds(MultiModel, st.dictionaries(st.sampled_from(KINDS), st.lists(NAMES))),
    st.builds(Odd, st.lists(st.integers(0, 20) | st.none() | candidates.map(lambda each: each[0]))),
)


def scored(history: list[Any]) -> Scores:
    runtime = VirtualRuntime()
    scores = Scores(runtime)
    for target, wait, ok, first_token, more, tokens in history:
        runtime.advance(wait)
        duration = (first_token or 0) + more
        scores.observe(target, ok=ok, first_token=first_token, duration=duration, tokens=tokens)
    return scores


@st.composite
def outlooks(draw: st.DrawFn) -> Outlook:
    request = draw(requests)
    known = draw(st.dictionaries(st.sampled_from(TARGETS), entries))
    dice = draw(st.randoms(use_true_random=False))
    scores = scored(draw(attempts))
    return Outlook(request, needs_of(request), known.get, scores.get, dice.random, draw(st.integers(0, 100)))


@given(strategies, candidates, outlooks())
def test_every_order_is_an_order_of_what_was_given(strategy: Any, given: list[Candidate], look: Outlook) -> None:
    found = ordered(strategy, given, look)
    planned = {each.target: each for each in given}
    assert sorted(str(each.target) for each in found) == sorted(map(str, planned))
    for each in found:
        assert each.origin is planned[each.target].origin
        assert "failed" not in each.reason


@given(candidates, outlooks())
def test_what_costs_more_never_comes_before_what_costs_less(given: list[Candidate], look: Outlook) -> None:
    found = ordered(strategy_of("cost_optimized"), given, look)
    entry = [look.entry(each.target) for each in found]
    costs = [None if model is None else expected_cost(model, look.needs) for model in entry]
    known = [cost for cost in costs if cost is not None]
    assert costs == [*sorted(known), *[None] * (len(costs) - len(known))]


@given(st.dictionaries(st.sampled_from(KINDS), st.lists(NAMES)), candidates, outlooks())
def test_what_cannot_serve_never_comes_before_what_can(
    rules: dict[str, list[str]], given: list[Candidate], look: Outlook
) -> None:
    found = ordered(MultiModel(rules), given, look)
    poor = [
        (model := look.entry(each.target)) is not None and unfit(model, look.needs, look.today) is not None
        for each in found
    ]
    assert poor == sorted(poor)


@given(candidates, outlooks())
def test_everyone_has_a_turn(given: list[Candidate], look: Outlook) -> None:
    """Whatever the others do, a cold target is first within so many calls."""
    strategy = strategy_of("performance_optimized")
    cold = {each.target for each in given if (score := look.score(each.target)) is None or score.samples < 3}
    begin = look.turn
    firsts = set()
    for turn in range(begin, begin + COLD_EVERY * len(given)):
        look.turn = turn
        firsts.add(ordered(strategy, given, look)[0].target)
    assert cold <= firsts


@given(attempts)
def test_scores_are_possible_and_come_back_from_json(history: list[Any]) -> None:
    scores = scored(history)
    again = Scores(scores._runtime)
    assert again.load(orjson.loads(orjson.dumps(scores.to_dict()))) == 0
    for target in TARGETS:
        score, other = scores.get(target), again.get(target)
        assert (score is None) == (other is None)
        if score is None or other is None:
            continue
        assert 0 < score.samples <= MAX_WEIGHT
        assert 0 <= score.success <= 1
        assert (score.first_token is None) == (score.success == 0) == math.isinf(score.expected_seconds)
        assert score.expected_seconds >= 0
        assert (other.first_token, other.tokens_per_second, other.success) == (
            score.first_token,
            score.tokens_per_second,
            score.success,
        )
        assert math.isclose(other.samples, score.samples, rel_tol=1e-6)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
GOOD = {"gateway": "here", "model": "a/one", "at": 1e9, "samples": 5.0, "success": 0.5, "first_token": 0.5}
rows = plain | st.dictionaries(st.sampled_from([*GOOD, "lead", "duration", "tokens", "seconds"]), plain).map(
    lambda row: {**GOOD, "lead": 0.5, "duration": 2.0, "tokens": 100.0, "seconds": 1.5, **row}
)


@given(plain | rows.map(lambda row: {"version": 1, "targets": [row, row]}))
def test_no_plain_values_hurt(data: Any) -> None:
    runtime = VirtualRuntime(wall=1e9 + 10)
    scores = Scores(runtime)
    assert scores.load(data) >= 0
    for row in scores.to_dict()["targets"]:
        score = scores.get(Target(row["gateway"], row["model"]))
        assert score is not None
        assert score.expected_seconds >= 0
    assert orjson.loads(orjson.dumps(scores.merged(data)))["version"] == 1


counts = st.integers(-5, 2_000)


@given(pricings, counts, counts, counts, counts, counts, counts, st.integers(0, 3))
def test_no_part_of_a_bill_is_paid_twice_or_given_back(
    pricing: Pricing,
    prompt: int,
    completion: int,
    cached: int,
    written: int,
    sound: int,
    reasoning: int,
    images: int,
) -> None:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": sound},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    cost, source = cost_of(Usage(usage), Model("m", pricing=pricing), images)
    assert (cost is None) == (source == "unknown")
    if cost is None or pricing.prompt is None or pricing.completion is None:
        return
    dearest = max(pricing.prompt + (pricing.input_cache_write or 0), pricing.input_cache_read or 0, pricing.audio or 0)
    spoken = max(pricing.completion, pricing.internal_reasoning or Decimal(0))
    most = prompt * dearest + completion * spoken + (pricing.request or 0) + images * (pricing.image or 0)
    assert 0 <= cost <= most


@given(pricings, st.integers(0, 9000), st.integers(0, 900), st.integers(0, 4), st.integers(0, 9000), st.booleans())
def test_no_expected_cost_is_negative(
    pricing: Pricing, prompt: int, answer: int, images: int, cached: int, reasoning: bool
) -> None:
    needs = Needs(frozenset({"text"}), frozenset(), frozenset(), prompt, answer, images, cached, reasoning)
    cost = expected_cost(Model("m", pricing=pricing), needs)
    assert (cost is None) == (not pricing.known)
    assert cost is None or cost >= 0
