"""Strategies: in which order each tries what, and why; on made-up models and on OpenRouter's real catalogue."""

from __future__ import annotations

import datetime
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from routerkit.core.listing import parse_catalog
from routerkit.core.needs import needs_of
from routerkit.core.performance import Score
from routerkit.core.strategies import (
    COLD_EVERY,
    KINDS,
    STRATEGIES,
    CostOptimized,
    MultiModel,
    Outlook,
    PerformanceOptimized,
    Priority,
    RoundRobin,
    Strategy,
    Weighted,
    kinds_of,
    name_of,
    needs_catalog,
    needs_scores,
    noted,
    ordered,
    strategy_of,
)
from routerkit.errors import ConfigurationError
from routerkit.types.model import Model, Pricing
from routerkit.types.request import ChatRequest
from routerkit.types.route import Candidate, Origin, Target

DATA = Path(__file__).parent / "data" / "openrouter-models.json"
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1000}}
A, B, C, D = "a/one", "b/two", "c/three", "d/four"


def candidates(*models: str) -> list[Candidate]:
    """``model`` or ``model on gateway``."""
    found = []
    for place, name in enumerate(models, 1):
        model, _, gateway = name.partition(" on ")
        found.append(Candidate(Target(gateway or "here", model), Origin.FALLBACK, f"fallback {place}"))
    return found


def outlook(
    content: Any = "Hello",
    *,
    entries: Sequence[Model] = (),
    scores: dict[str, Score] | None = None,
    dice: Callable[[], float] = lambda: 0.5,
    turn: int = 0,
    today: datetime.date = datetime.date(2026, 1, 29),
    **params: Any,
) -> Outlook:
    request = ChatRequest.build(content, params)
    by_id = {model.id: model for model in entries}
    known = scores or {}
    return Outlook(
        request,
        needs_of(request),
        lambda target: by_id.get(target.model),
        lambda target: known.get(target.model),
        dice,
        turn,
        today,
    )


def throws(*values: float) -> Callable[[], float]:
    """Dice that show these."""
    left = iter(values)
    return lambda: next(left)


def models(found: Sequence[Candidate]) -> list[str]:
    return [candidate.model for candidate in found]


def priced(name: str, prompt: str = "0.001", completion: str = "0.001", **more: Any) -> Model:
    return Model(name, pricing=Pricing(Decimal(prompt), Decimal(completion)), **more)


# --- by name ---


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("priority", Priority),
        ("round_robin", RoundRobin),
        ("basic", RoundRobin),
        ("weighted", Weighted),
        ("cost_optimized", CostOptimized),
        ("performance_optimized", PerformanceOptimized),
        ("multi_model", MultiModel),
    ],
)
def test_by_name(name: str, kind: type[Strategy]) -> None:
    assert strategy_of(name) == kind()
    assert name_of(strategy_of(name)) == ("round_robin" if name == "basic" else name)


def test_the_names() -> None:
    assert STRATEGIES == (
        "priority",
        "round_robin",
        "weighted",
        "cost_optimized",
        "performance_optimized",
        "multi_model",
    )


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown strategy 'cheapest'") as caught:
        strategy_of("cheapest")
    assert str(caught.value).endswith("; there are " + ", ".join(STRATEGIES))


class Backwards:
    """A user's own, without a word more than necessary."""

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        return [noted(candidate, "backwards") for candidate in reversed(candidates)]


class Own(Strategy):
    name = "own"
    needs_catalog = True
    needs_scores = True

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        return candidates


class Late:
    async def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        return candidates


class Lazy:
    async def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Any:
        for candidate in candidates:
            yield candidate


class Narrow:
    def order(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        return candidates


class Wide:
    def order(self, *everything: Any, **_: Any) -> Any:
        return everything[0]


class Reticent:
    """Whose parameters nobody knows."""

    order = max


class Nameless:
    name = 5
    order = "not callable"


@pytest.mark.parametrize("name", ["COST_OPTIMIZED", "cost-optimized", " Cost Optimized ", "Cost_optimized\n"])
def test_a_name_however_it_is_spelt(name: str) -> None:
    assert strategy_of(name) == CostOptimized()


@pytest.mark.parametrize(
    "strategy", [Backwards(), Own(), Wide(), Reticent(), Weighted({A: 2}), MultiModel({"text": [A]})]
)
def test_an_object_with_a_method_order_is_a_strategy(strategy: Any) -> None:
    assert strategy_of(strategy) is strategy


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (RoundRobin, r"RoundRobin is a class: give an object, such as RoundRobin\(\)"),
        (Backwards, "Backwards is a class"),
        (None, "NoneType is no strategy: it has no method order"),
        (5, "int is no strategy: it has no method order"),
        ({}, "dict is no strategy: it has no method order"),
        (Late(), "Late is no strategy: its order is async"),
        (Lazy(), "Lazy is no strategy: its order is async"),
        (Narrow(), r"Narrow is no strategy: its order must take \(candidates, outlook\)"),
        (Nameless(), "Nameless is no strategy: it has no method order"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_what_is_no_strategy(value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        strategy_of(value)


def test_what_strategies_need() -> None:
    said = {name: (needs_catalog(strategy_of(name)), needs_scores(strategy_of(name))) for name in STRATEGIES}
    assert said == {
        "priority": (False, False),
        "round_robin": (False, False),
        "weighted": (False, False),
        "cost_optimized": (True, False),
        "performance_optimized": (False, True),
        "multi_model": (True, False),
    }
    backwards: Any = Backwards()
    assert (needs_catalog(backwards), needs_scores(backwards), name_of(backwards)) == (False, False, "Backwards")
    assert (needs_catalog(Own()), needs_scores(Own()), name_of(Own())) == (True, True, "own")
    nameless: Any = Nameless()
    assert name_of(nameless) == "Nameless"


def test_a_strategy_has_an_order() -> None:
    class Without(Strategy):
        pass

    with pytest.raises(TypeError, match="order"):
        Without()  # type: ignore[abstract]


# --- what a strategy returns, and what becomes of it ---


@attrs.define
class Returning:
    """Returns what it is told to, or raises it."""

    result: Any
    name = "odd"

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Any:
        result = self.result(candidates) if callable(self.result) else self.result
        if isinstance(result, BaseException):
            raise result
        return result


def after(result: Any, *names: str) -> list[tuple[str, str]]:
    found = ordered(Returning(result), candidates(*(names or (A, B, C))), outlook())  # type: ignore[arg-type]
    return [(candidate.model, candidate.reason) for candidate in found]


def test_the_order_of_a_strategy_is_the_order() -> None:
    assert ordered(Backwards(), candidates(A, B), outlook()) == (  # type: ignore[arg-type]
        Candidate(Target("here", B), Origin.FALLBACK, "fallback 2; backwards"),
        Candidate(Target("here", A), Origin.FALLBACK, "fallback 1; backwards"),
    )


def test_a_strategy_sees_what_the_call_sees() -> None:
    look = outlook(turn=1)
    assert ordered(RoundRobin(), candidates(A, B, C), look) == tuple(RoundRobin().order(candidates(A, B, C), look))


def test_what_it_loses_comes_after_the_others() -> None:
    lost = "left out by odd, so last"
    assert after(lambda given: given[2:]) == [
        (C, "fallback 3"),
        (A, f"fallback 1; {lost}"),
        (B, f"fallback 2; {lost}"),
    ]
    assert [reason for _, reason in after([], A, B)] == [f"fallback 1; {lost}", f"fallback 2; {lost}"]


def test_what_it_invents_or_repeats_is_dropped() -> None:
    invented = candidates("x/y", "a/one on elsewhere")
    found = after(lambda given: [None, "x", given[1], *invented, given[1], given[0], given[2], given[2]])
    assert found == [(B, "fallback 2"), (A, "fallback 1"), (C, "fallback 3")]


def test_nothing_but_reasons_is_taken_from_it() -> None:
    changed = after(lambda given: [attrs.evolve(each, origin=Origin.REQUESTED, reason=5) for each in given], A)
    assert changed == [(A, "fallback 1")]
    found = ordered(
        Returning(lambda given: [attrs.evolve(given[0], origin=Origin.REQUESTED)]),  # type: ignore[arg-type]
        candidates(A),
        outlook(),
    )
    assert found[0].origin is Origin.FALLBACK


def test_it_need_not_come_to_an_end() -> None:
    def endless(given: Sequence[Candidate]) -> Iterator[Candidate]:
        while True:
            yield from given

    assert [model for model, _ in after(endless)] == [A, B, C]


def broken(given: Sequence[Candidate]) -> Iterator[Candidate]:
    yield given[-1]
    raise LookupError("with a secret in it")


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (KeyError("with a secret in it"), "KeyError"),
        (broken, "LookupError"),
        (None, "TypeError"),
        (5, "TypeError"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_a_strategy_that_fails_loses_no_answer(result: Any, told: str) -> None:
    note = f"odd failed ({told}), so as planned"
    assert after(result, A, B) == [(A, f"fallback 1; {note}"), (B, f"fallback 2; {note}")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_interrupts_passes(error: type[BaseException]) -> None:
    with pytest.raises(error):
        after(error())


def test_no_candidates() -> None:
    for name in STRATEGIES:
        assert ordered(strategy_of(name), [], outlook()) == ()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_single_candidate(name: str) -> None:
    for turn in range(7):
        found = ordered(strategy_of(name), candidates(A), outlook(turn=turn, dice=lambda: 0.99, entries=[priced(A)]))
        assert models(found) == [A]


# --- priority, round robin ---


def test_priority_is_the_plan() -> None:
    given = candidates(C, A, B)
    assert ordered(Priority(), given, outlook(turn=5)) == tuple(given)


@pytest.mark.parametrize(
    ("turn", "expected"), [(0, [A, B, C]), (1, [B, C, A]), (2, [C, A, B]), (3, [A, B, C]), (10**9, [B, C, A])]
)
def test_round_robin(turn: int, expected: list[str]) -> None:
    assert models(RoundRobin().order(candidates(A, B, C), outlook(turn=turn))) == expected


def test_round_robin_says_so() -> None:
    found = RoundRobin().order(candidates(A, B, C), outlook(turn=1))
    assert found[0].reason == "fallback 2; in turn, this call begins with the 2nd of 3"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (30, "30th"),
        (111, "111th"),
    ],
)
def test_places_are_said_in_english(place: int, said: str) -> None:
    found = RoundRobin().order(candidates(*(f"x/{number}" for number in range(120))), outlook(turn=place - 1))
    assert f"with the {said} of 120" in found[0].reason


# --- weighted ---


def firsts(strategy: Strategy, given: list[Candidate], calls: int = 4000, **more: Any) -> Counter[str]:
    """Which targets came first, how often; with seeded dice."""
    dice = random.Random(7).random
    found: Counter[str] = Counter()
    for turn in range(calls):
        found[str(strategy.order(given, outlook(dice=dice, turn=turn, **more))[0].target)] += 1
    return found


def test_shares_follow_weights() -> None:
    found = firsts(Weighted({A: 1, B: 2, C: 5}), candidates(A, B, C))
    assert [found[f"{name} on here"] / 4000 for name in (A, B, C)] == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.03)


def test_what_comes_second_follows_weights_too() -> None:
    dice = random.Random(7).random
    strategy = Weighted({A: 1, B: 2, C: 5})
    found: Counter[str] = Counter()
    for _ in range(4000):
        order = models(strategy.order(candidates(A, B, C), outlook(dice=dice)))
        if order[0] == C:
            found[order[1]] += 1
    assert found[B] / found.total() == pytest.approx(2 / 3, abs=0.04)


def test_the_most_specific_weight_counts() -> None:
    weights = Weighted({"here": 2, A: 3, "a/one on there": 4}, default=7)
    found = [weights.weight(each.target) for each in candidates(A, B, "a/one on there", "b/two on there")]
    assert found == [3, 2, 4, 7]


def test_without_weights_all_are_alike() -> None:
    found = firsts(strategy_of("weighted"), candidates(A, B))
    assert found[f"{A} on here"] / 4000 == pytest.approx(0.5, abs=0.03)


def test_weight_zero_comes_after_all_others() -> None:
    dice = random.Random(7).random
    strategy = Weighted({A: 0, C: 0})
    for _ in range(50):
        found = strategy.order(candidates(A, B, C, D), outlook(dice=dice))
        assert models(found)[2:] == [A, C]
    assert found[2].reason == "fallback 1; weight 0, so last"
    assert found[0].reason.endswith("; drawn by its weight of 1")
    assert models(Weighted(default=0).order(candidates(C, A, B), outlook())) == [C, A, B]


def test_dice_that_show_zero_and_weights_of_any_size() -> None:
    found = Weighted({A: 5e-324, B: 1e308}).order(candidates(A, B), outlook(dice=throws(0.9, 0.0)))
    assert models(found) == [B, A]


@pytest.mark.parametrize("weight", [-1, -0.001, math.nan, math.inf, "2", None, True, Decimal(1), [1]], ids=repr)
def test_a_weight_is_a_number(weight: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"Weighted: the weight of 'a/one' is .*; it must be a number from 0 on"
    ):
        Weighted({A: weight})
    with pytest.raises(ConfigurationError, match="default"):
        Weighted(default=weight)


@pytest.mark.parametrize("weights", [[A], None, "a/one", 5])
def test_weights_are_a_dict(weights: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Weighted\(weights=…\): must be a dict of numbers, not ") as caught:
        Weighted(weights)
    assert str(caught.value).endswith(f"not {type(weights).__name__}")


def test_weights_have_names() -> None:
    unnamed: Any = {("here", A): 1}
    with pytest.raises(ConfigurationError, match=r"\('here', 'a/one'\) is no model id or gateway's name"):
        Weighted(unnamed)


def test_what_a_strategy_was_told_does_not_change_under_it() -> None:
    weights = {A: 1.0}
    strategy = Weighted(weights)
    weights[A] = -1
    assert strategy.weight(Target("here", A)) == 1
    assert hash(strategy) == hash(Weighted({A: 1.0}))
    assert strategy == Weighted({A: 1.0}) != Weighted({A: 2.0})


# --- cost ---


def test_the_cheapest_for_this_request_first() -> None:
    """Which one that is depends on prompt and answer: here one reads cheaply, the other speaks cheaply."""
    entries = [priced(A, "0.001", "0.01"), priced(B, "0.01", "0.001")]
    long_prompt = outlook("x" * 3000, entries=entries, max_tokens=10)
    assert models(CostOptimized().order(candidates(B, A), long_prompt)) == [A, B]
    long_answer = outlook("x" * 30, entries=entries, max_tokens=1000)
    assert models(CostOptimized().order(candidates(A, B), long_answer)) == [B, A]


def test_where_no_price_is_known_comes_last_in_the_old_order() -> None:
    entries = [Model(B), priced(D, "0.9"), Model(A, pricing=Pricing(prompt=Decimal(0)))]
    found = CostOptimized().order(candidates(C, B, A, D), outlook(entries=entries))
    assert models(found) == [D, C, B, A]
    assert found[1].reason == "fallback 1; its price is unknown"


def test_equal_costs_stay_in_the_old_order() -> None:
    entries = [priced(A), priced(B), priced(C)]
    assert models(CostOptimized().order(candidates(C, A, B), outlook(entries=entries))) == [C, A, B]


def test_the_cost_is_told() -> None:
    free = priced(B, "0", "0")
    found = CostOptimized().order(
        candidates(A, B), outlook("x" * 300, entries=[priced(A, "0.0000012345", "0"), free], max_tokens=1)
    )
    assert [each.reason for each in found] == [
        "fallback 2; expected to cost 0 USD",
        "fallback 1; expected to cost 0.000123 USD",
    ]


# --- performance ---


def score(seconds: float, *, samples: float = 10, success: float = 1.0) -> Score:
    return Score(seconds / 2, 50.0, success, samples, seconds)


FAST, SLOW, MIDDLING = score(1.0), score(9.0), score(3.0)


def performing(
    *names: str, dice: Callable[[], float] = lambda: 0.5, turn: int = 1, exploration: float = 0.05, **scores: Score
) -> list[tuple[str, str]]:
    known = {{"a": A, "b": B, "c": C, "d": D}[name]: each for name, each in scores.items()}
    found = PerformanceOptimized(exploration).order(candidates(*names), outlook(dice=dice, turn=turn, scores=known))
    return [(each.model, each.reason.partition("; ")[2]) for each in found]


def test_the_better_of_two_drawn_comes_first_and_the_rest_by_score() -> None:
    scores = {"a": SLOW, "b": FAST, "c": MIDDLING}
    found = performing(A, B, C, dice=throws(0.9, 0.0, 0.9), **scores)  # no exploration; a and c
    assert [model for model, _ in found] == [C, B, A]
    assert found[0][1] == "the better of two drawn: answers in about 3 s, 100% of attempts"
    assert found[1][1] == "answers in about 1 s, 100% of attempts"
    assert performing(A, B, C, dice=throws(0.9, 0.5, 0.0), **scores)[0][0] == B  # b and a
    assert performing(A, B, C, dice=throws(0.9, 0.99, 0.99), **scores)[0][0] == B  # c and b
    assert performing(A, B, C, dice=throws(0.9, 0.0, 0.0), **scores)[0][0] == B  # a and b


def test_two_that_are_warm_are_simply_compared() -> None:
    for dice in (0.06, 0.3, 0.5, 0.7, 0.99):
        found = performing(A, B, dice=lambda dice=dice: dice, a=SLOW, b=FAST)  # type: ignore[misc]
        assert [model for model, _ in found] == [B, A]
        assert found[0][1].startswith("the better of two drawn: ")


def test_how_fast_a_target_is_is_told_to_two_figures_or_the_second() -> None:
    found = performing(A, B, C, dice=throws(0.9, 0.0, 0.0), a=score(2.54), b=score(9.96), c=score(123.4, samples=3.0))
    times = ["the better of two drawn: answers in about 2.5 s", "answers in about 10 s", "answers in about 123 s"]
    assert [reason for _, reason in found] == [f"{told}, 100% of attempts" for told in times]


def test_the_worst_comes_first_only_by_exploration() -> None:
    strategy, entries = PerformanceOptimized(exploration=0.1), {A: SLOW, B: FAST, C: MIDDLING}
    found = firsts(strategy, candidates(A, B, C), scores=entries)
    assert found[f"{A} on here"] / 4000 == pytest.approx(0.1 / 3, abs=0.015)
    assert found[f"{B} on here"] / 4000 == pytest.approx(0.9 * 2 / 3 + 0.1 / 3, abs=0.03)
    never = firsts(PerformanceOptimized(exploration=0), candidates(A, B, C), scores=entries)
    assert never[f"{A} on here"] == 0


def test_exploration_is_told() -> None:
    found = performing(A, B, C, dice=throws(0.04, 0.99), a=FAST, b=FAST, c=SLOW)
    assert found[0] == (C, "tried at random: answers in about 9 s, 100% of attempts")
    assert performing(A, B, dice=throws(0.05, 0.99, 0.99), a=FAST, b=SLOW)[0][0] == A


def test_one_call_in_five_begins_with_a_cold_target() -> None:
    found = firsts(PerformanceOptimized(exploration=0), candidates(A, B, C), 1000, scores={A: FAST, B: SLOW})
    assert found == {f"{A} on here": 800, f"{C} on here": 200}
    told = performing(A, B, C, turn=COLD_EVERY, a=FAST, b=SLOW)
    assert [model for model, _ in told] == [C, A, B]
    assert told[0][1] == "its turn to be tried: too few attempts of late to tell how fast it is"


def test_cold_targets_take_turns() -> None:
    """Each of n is first within 5·n calls, whatever the others do."""
    names = [A, B, C, D]
    for cold in range(4):
        known = {name: FAST for place, name in enumerate(names) if place != cold}
        for start in range(4):
            turns = range(start * COLD_EVERY, (start + 4) * COLD_EVERY)
            found = [
                PerformanceOptimized().order(candidates(*names), outlook(turn=turn, scores=known))[0].model
                for turn in turns
            ]
            assert names[cold] in found
    order = [performing(*names, turn=turn * COLD_EVERY)[0][0] for turn in range(8)]
    assert order == names * 2


def test_while_all_are_cold_the_plan_holds() -> None:
    found = performing(B, A, C, turn=1)
    assert [model for model, _ in found] == [B, A, C]
    assert {reason for _, reason in found} == {"too few attempts of late to tell how fast it is"}


def test_few_samples_are_as_good_as_none() -> None:
    found = performing(A, B, C, turn=1, a=score(0.1, samples=2.9), b=SLOW)
    assert [model for model, _ in found] == [B, A, C]
    assert found[0][1] == "answers in about 9 s, 100% of attempts"
    enough = performing(A, B, C, turn=1, a=score(0.1, samples=3.0), b=SLOW)
    assert [model for model, _ in enough] == [A, B, C]


def test_what_little_is_known_orders_those_that_are_cold() -> None:
    few = {"a": Score(None, None, 0.0, 1.0, math.inf), "c": score(4.0, samples=1.0), "d": score(2.0, samples=1.0)}
    found = performing(A, B, C, D, turn=1, **few)
    assert [model for model, _ in found] == [D, C, B, A]
    unsure = "too few attempts of late to be sure: "
    assert [reason for _, reason in found] == [
        f"{unsure}answers in about 2 s, 100% of attempts",
        f"{unsure}answers in about 4 s, 100% of attempts",
        "too few attempts of late to tell how fast it is",
        f"{unsure}no answer of late",
    ]
    known = performing(A, B, C, D, turn=1, b=SLOW, **few)
    assert [model for model, _ in known] == [B, D, C, A]


def test_who_did_not_answer_comes_after_who_did() -> None:
    dead = Score(None, None, 0.0, 5.0, math.inf)
    found = performing(A, B, C, dice=throws(0.9, 0.0, 0.0), a=dead, b=SLOW, c=score(20.0, success=0.25))
    assert [model for model, _ in found] == [B, C, A]
    assert [reason for _, reason in found[1:]] == ["answers in about 20 s, 25% of attempts", "no answer of late"]


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, "0.1", None, True], ids=repr)
def test_exploration_is_a_share(share: Any) -> None:
    with pytest.raises(ConfigurationError, match="PerformanceOptimized"):
        PerformanceOptimized(share)


# --- what the request needs ---


def fitting(name: str, *inputs: str, supports: str = "", context: int = 200_000, cost: str = "0.001") -> Model:
    return priced(
        name,
        cost,
        input_modalities=("text", *inputs),
        output_modalities=("text",),
        supported_parameters=frozenset(supports.split()),
        context_length=context,
    )


@pytest.mark.parametrize(
    ("content", "params", "kinds"),
    [
        ("Hello", {}, ("text",)),
        ([{"role": "user", "content": [IMAGE]}], {}, ("image",)),
        ([{"role": "user", "content": [{"type": "input_audio"}, {"type": "file"}]}], {}, ("audio", "file")),
        ([{"role": "user", "content": [{"type": "video_url"}]}], {}, ("video",)),
        ("Hello", {"modalities": ["text", "image"]}, ("image",)),
        ("Hello", {"tools": [{}], "temperature": 1}, ("tools",)),
        ("Hello", {"response_format": {"type": "json_schema"}}, ("json_schema",)),
        ("Hello", {"response_format": {"type": "json_object"}}, ("text",)),
        ("Hello", {"reasoning": {"effort": "low"}}, ("reasoning",)),
        ("Hello", {"reasoning": {"effort": "none"}}, ("text",)),
        ("x" * 96_000, {}, ("text",)),
        ("x" * 96_000, {"max_tokens": 1}, ("long",)),
        (
            [{"role": "user", "content": [IMAGE]}],
            {"tools": [{}], "reasoning_effort": "high", "max_tokens": 40_000},
            ("image", "tools", "reasoning", "long"),
        ),
    ],
)
def test_what_a_request_is(content: Any, params: dict[str, Any], kinds: tuple[str, ...]) -> None:
    assert kinds_of(outlook(content, **params).needs) == kinds
    assert set(kinds) <= set(KINDS)


def test_the_cheapest_that_fits() -> None:
    entries = [fitting(A, cost="0.0001"), fitting(B, "image", cost="0.003"), fitting(C, "image", cost="0.002")]
    found = MultiModel().order(
        candidates(A, D, B, C), outlook([{"role": "user", "content": [IMAGE]}], entries=entries, max_tokens=100)
    )
    assert [(each.model, each.reason) for each in found] == [
        (C, "fallback 4; fits image; expected to cost 4.1 USD"),
        (B, "fallback 3; fits image; expected to cost 6.1 USD"),
        (D, "fallback 2; not in the catalogue, so nobody can tell what it can do"),
        (A, "fallback 1; last: does not take image"),
    ]


def test_all_that_it_fits_is_told() -> None:
    entries = [Model(A), fitting(B, "image", supports="tools max_tokens")]
    found = MultiModel().order(
        candidates(A, B), outlook([{"role": "user", "content": [IMAGE]}], entries=entries, tools=[{}], max_tokens=100)
    )
    assert [each.reason for each in found] == [
        "fallback 2; fits image, tools; expected to cost 2.1 USD",
        "fallback 1; fits image, tools as far as its gateway tells; its price is unknown",
    ]


def test_what_the_catalogue_tells_goes_before_what_it_leaves_open() -> None:
    """However cheap: a list without parameters says nothing of tools, an empty one says that there are none."""
    tools = {"supported_parameters": frozenset({"tools"})}
    entries = [fitting(A, cost="0.0001"), attrs.evolve(fitting(B, cost="0.003"), **tools)]
    entries.append(attrs.evolve(fitting(C, cost="0.002"), raw={"supported_parameters": []}))
    found = MultiModel().order(candidates(A, B, C), outlook(entries=entries, tools=[{}]))
    assert models(found) == [B, A, C]
    assert "as far as its gateway tells" in found[1].reason
    assert found[2].reason.endswith("; last: does not support tools")


def test_the_context_must_hold_the_request() -> None:
    entries = [fitting(A, context=8000), fitting(B, context=200_000, cost="0.9")]
    found = MultiModel().order(candidates(A, B), outlook("x" * 30_000, entries=entries))
    assert models(found) == [B, A]
    assert found[1].reason.endswith("; last: its context of 8000 tokens is too small for about 10000")


def test_models_expire() -> None:
    entries = [attrs.evolve(fitting(A), expiration_date="2026-01-29"), fitting(B, cost="0.9")]
    assert models(MultiModel().order(candidates(A, B), outlook(entries=entries))) == [B, A]
    earlier = outlook(entries=entries, today=datetime.date(2026, 1, 28))
    assert models(MultiModel().order(candidates(A, B), earlier)) == [A, B]
    nobody_says = attrs.evolve(earlier, today=attrs.fields(Outlook).today.default)
    assert models(MultiModel().order(candidates(A, B), nobody_says)) == [A, B]


def test_the_first_rule_that_matches_counts() -> None:
    strategy = MultiModel({"image": [C], "tools": [B, "a/one on there"], "text": [D]})
    given = candidates(A, "a/one on there", B, C, D)
    with_tools = strategy.order(given, outlook(tools=[{}]))
    assert [str(each.target) for each in with_tools[:2]] == ["b/two on here", "a/one on there"]
    assert with_tools[1].reason == "fallback 2; the 2nd of your rule for tools"
    assert models(strategy.order(given, outlook()))[0] == D
    both = outlook([{"role": "user", "content": [IMAGE]}], tools=[{}])
    assert models(strategy.order(given, both))[0] == C
    assert models(MultiModel({"tools": [B], "image": [C]}).order(given, both))[0] == B


def test_a_rule_may_name_a_gateway_and_then_one_of_its_models() -> None:
    given = candidates(A, "b/two on there", "c/three on there")
    found = MultiModel({"text": ["c/three", "there", A]}).order(given, outlook())
    assert models(found) == [C, B, A]
    again = MultiModel({"text": ["there", "c/three", "there"]}).order(given, outlook())
    assert models(again) == [B, C, A]


def test_a_rule_cannot_make_a_model_fit() -> None:
    entries = [fitting(A), fitting(B, "image")]
    found = MultiModel({"image": [A]}).order(
        candidates(A, B), outlook([{"role": "user", "content": [IMAGE]}], entries=entries)
    )
    assert models(found) == [B, A]


def test_without_a_rule_that_matches_the_cheapest_that_fits() -> None:
    entries = [fitting(A, cost="0.9"), fitting(B)]
    assert models(MultiModel({"image": [A]}).order(candidates(A, B), outlook(entries=entries))) == [B, A]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"pictures": [A]}, r"unknown rule 'pictures'; there are image, audio"),
        ({5: [A]}, "unknown rule 5"),
        ({"image": A}, "the rule 'image' must be a list of model ids"),
        ({"image": None}, "must be a list"),
        ({"image": [A, 5]}, "must be a list of model ids"),
        ({"image": {A: 1}}, "must be a list of model ids"),
        ([A], "must be a dict of lists, not list"),
        (None, "must be a dict of lists, not NoneType"),
    ],
    ids=str,
)
def test_rules_that_cannot_be(rules: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        MultiModel(rules)


def test_a_rule_may_be_a_generator() -> None:
    rules: Any = {"text": (model for model in (C, B))}
    assert models(MultiModel(rules).order(candidates(A, B, C), outlook())) == [C, B, A]
    with pytest.raises(ConfigurationError, match="the rule 'text' must be a list of model ids"):
        MultiModel({"text": iter([A, 5])})  # type: ignore[dict-item, list-item]


# --- on OpenRouter's catalogue ---


@pytest.fixture(scope="module")
def catalogue() -> list[Model]:
    found, dropped = parse_catalog(json.loads(DATA.read_text()), "openrouter")
    assert dropped == 0
    return found


REQUESTS: list[tuple[Any, dict[str, Any]]] = [
    ("Hello", {}),
    ([{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}], {}),
    ("Hello", {"tools": [{"type": "function"}], "response_format": {"type": "json_schema"}}),
    ("x" * 600_000, {"reasoning": {"effort": "high"}, "max_tokens": 8000}),
]


@pytest.mark.parametrize(("content", "params"), REQUESTS, ids=["text", "image", "tools", "long"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_catalogue_is_reordered_and_nothing_else(
    catalogue: list[Model], name: str, content: Any, params: dict[str, Any]
) -> None:
    given = candidates(*(model.id for model in catalogue))
    look = outlook(content, entries=catalogue, dice=random.Random(1).random, turn=3, **params)
    found = strategy_of(name).order(given, look)
    assert sorted(models(found)) == sorted(models(given))
    planned = {each.target: each.reason for each in given}
    assert all(each.reason.startswith(planned[each.target]) for each in found)


def test_the_cheapest_of_openrouter_are_free(catalogue: list[Model]) -> None:
    given = candidates(*(model.id for model in catalogue))
    found = CostOptimized().order(given, outlook(entries=catalogue))
    free = {model.id for model in catalogue if model.pricing.free}
    assert free
    assert set(models(found)[: len(free)]) == free
    assert models(found)[-1] == "openrouter/auto"


def test_the_best_of_openrouter_for_an_image_takes_one(catalogue: list[Model]) -> None:
    given = candidates(*(model.id for model in catalogue))
    found = MultiModel().order(given, outlook([{"role": "user", "content": [IMAGE]}], entries=catalogue))
    by_id = {model.id: model for model in catalogue}
    takes = ["image" in by_id[model].input_modalities for model in models(found)]
    assert takes[:5] == [True] * 5
    assert not any(takes[-5:])
