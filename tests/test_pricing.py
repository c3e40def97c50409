"""What requests are expected to cost, what answers cost, and which prices of a catalogue have jumped since the one before."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from routerkit.core.listing import parse_catalog
from routerkit.core.needs import EXPECTED_ANSWER, MEDIA_TOKENS, Needs
from routerkit.core.pricing import MAX_JUMPS, cost_of, expected_cost, in_usd, price_jumps
from routerkit.types.event import PriceJump
from routerkit.types.model import Model, PriceOverride, Pricing
from routerkit.types.tokens import Usage


def model(name: str = "a/one", **prices: str) -> Model:
    return Model(name, pricing=Pricing(**{part: Decimal(price) for part, price in prices.items()}))


# --- what a request is expected to cost ---


def needs(prompt: int = 1000, answer: int = 100, **more: Any) -> Needs:
    return Needs(frozenset({"text"}), frozenset(), frozenset(), prompt, answer, **more)


def expected(asked: Needs, limit: int | None = None, **prices: str) -> Decimal | None:
    pricing = Pricing(**{part: Decimal(price) for part, price in {"prompt": "1", "completion": "10", **prices}.items()})
    return expected_cost(Model("a/one", pricing=pricing, max_completion_tokens=limit), asked)


@pytest.mark.parametrize(
    ("asked", "prices", "cost"),
    [
        (needs(), {}, 1000 + 1000),
        (needs(0, 1), {}, 10),
        (needs(), {"request": "7"}, 2007),
        (needs(), {"prompt": "0", "completion": "0"}, 0),
        (needs(), {"prompt": "0", "completion": "0", "request": "0.018"}, Decimal("0.018")),
        # of the prompt, what a cache may hold
        (needs(cached_tokens=400), {}, 2000),
        (needs(cached_tokens=400), {"input_cache_read": "0.1"}, 600 + 40 + 1000),
        (needs(cached_tokens=400), {"input_cache_read": "0", "input_cache_write": "9"}, 600 + 1000),
        (needs(cached_tokens=4000), {"input_cache_read": "0.1"}, 100 + 1000),
        # of the answer, half is reasoning
        (needs(reasoning=True), {}, 2000),
        (needs(reasoning=True), {"internal_reasoning": "10"}, 2000),
        (needs(reasoning=True), {"internal_reasoning": "0"}, 2000),
        (needs(reasoning=True), {"internal_reasoning": "3"}, 1000 + 50 * 10 + 50 * 3),
        (needs(0, 101, reasoning=True), {"internal_reasoning": "3"}, 51 * 10 + 50 * 3),
        (needs(), {"internal_reasoning": "3"}, 2000),
        # sounds have their own price where there is one
        (needs(1000 + 2 * MEDIA_TOKENS, sounds=2), {"audio": "3"}, 1000 + 2 * MEDIA_TOKENS * 3 + 1000),
        (needs(1000 + 2 * MEDIA_TOKENS, sounds=2), {"audio": "0"}, 1000 + 2 * MEDIA_TOKENS + 1000),
        (needs(1000 + MEDIA_TOKENS, sounds=1), {}, 1000 + MEDIA_TOKENS + 1000),
        (needs(10, sounds=1), {"audio": "3"}, 30 + 1000),
        # several answers to one prompt
        (needs(choices=3), {}, 1000 + 3000),
        (needs(0, 101, choices=3, reasoning=True), {"internal_reasoning": "3"}, 3 * (51 * 10 + 50 * 3)),
        # nobody can foresee how often the web is searched
        (needs(), {"audio": "100", "web_search": "100"}, 2000),
    ],
    ids=str,
)
def test_what_a_request_is_expected_to_cost(asked: Needs, prices: dict[str, str], cost: Any) -> None:
    assert expected(asked, **prices) == cost


@pytest.mark.parametrize(
    ("price", "cost"),
    [
        ("0", 4000 + 1000 + 1000),
        ("1", 4000 + 1000 + 1000),
        ("2", 4000 + 1000 + 1000),
        ("49", 4000 + 1000 + 1000),
        ("50", 2 * 50 + 1000 + 1000),
        ("1280", 2 * 1280 + 1000 + 1000),
    ],
)
def test_a_price_of_images_is_for_whole_ones_or_for_their_tokens(price: str, cost: int) -> None:
    asked = needs(1000 + 2 * MEDIA_TOKENS, images=2)
    assert expected(asked, image=price) == cost
    assert expected(needs(), image=price) == 2000


def test_images_that_were_cached_are_not_paid_twice() -> None:
    asked = needs(1000 + MEDIA_TOKENS, images=1, cached_tokens=1000 + MEDIA_TOKENS)
    assert expected(asked, image="1280", input_cache_read="0") == 1280 + 1000


def test_what_cannot_be_is_not_negative() -> None:
    assert expected(needs(5, 0, images=3), 1, image="1280") == 3 * 1280 + 10


@pytest.mark.parametrize(
    ("reasoning", "limit", "tokens"),
    [
        (False, None, EXPECTED_ANSWER),
        (False, EXPECTED_ANSWER - 1, EXPECTED_ANSWER - 1),
        (False, 10**6, EXPECTED_ANSWER),
        (True, None, 2 * EXPECTED_ANSWER),
        (True, 300, 300),
    ],
)
def test_without_a_limit_an_answer_is_as_long_as_answers_are(reasoning: bool, limit: int | None, tokens: int) -> None:
    assert expected(needs(0, 0, reasoning=reasoning), limit) == tokens * 10


def test_the_limit_that_is_asked_for_counts_whatever_the_model_can_give() -> None:
    assert expected(needs(0, 5000), 300) == 50_000


@pytest.mark.parametrize("prices", [{}, {"prompt": "1"}, {"completion": "1"}, {"request": "1"}])
def test_without_prices_nothing_is_expected(prices: dict[str, str]) -> None:
    assert expected_cost(model(**prices), needs()) is None


DATA = Path(__file__).parent / "data" / "openrouter-models.json"


def test_what_openrouters_models_are_expected_to_cost() -> None:
    """A thousand tokens of prompt with an image, a thousand of answer: by hand, from the list's prices per million."""
    models = {each.id: each for each in parse_catalog(json.loads(DATA.read_text()))[0]}
    asked = needs(1000 + MEDIA_TOKENS, 1000, images=1)
    costs = {
        "anthropic/claude-sonnet-4.5": "0.024",  # 3 and 15
        "google/gemini-2.5-flash": "0.0034",  # 0.3 and 2.5; its image price is its prompt price
        "perplexity/sonar": "0.009",  # 1 and 1, and 5 per thousand requests
    }
    assert {name: expected_cost(models[name], asked) for name in costs} == {
        name: Decimal(cost) for name, cost in costs.items()
    }
    assert expected_cost(models["openrouter/auto"], asked) is None


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        ("0", "0 USD"),
        ("0.000", "0 USD"),
        ("0.0012345", "0.00123 USD"),
        ("0.00000000012", "0.00000000012 USD"),
        ("12.345", "12.3 USD"),
        ("1.0", "1 USD"),
        ("1234567", "1230000 USD"),
        ("9.999", "10 USD"),
    ],
)
def test_costs_as_people_read_them(cost: str, told: str) -> None:
    assert in_usd(Decimal(cost)) == told


# --- what an answer cost ---


def cost(prices: dict[str, str], images: int = 0, **usage: Any) -> Decimal | None:
    counts = {"prompt_tokens": 1000, "completion_tokens": 100, **usage}
    found, source = cost_of(Usage(counts), model(**{"prompt": "1", "completion": "10", **prices}), images)
    assert source == ("unknown" if found is None else "catalog")
    return found


@pytest.mark.parametrize(
    ("details", "prices", "amount"),
    [
        ({}, {}, 2000),
        # read from a cache
        ({"cached_tokens": 400}, {}, 2000),
        ({"cached_tokens": 400}, {"input_cache_read": "0.1"}, 1640),
        ({"cached_tokens": 4000}, {"input_cache_read": "0.1"}, 1100),
        # written to a cache
        ({"cache_write_tokens": 400}, {}, 2000),
        ({"cache_write_tokens": 400}, {"input_cache_write": "1.25"}, 600 + 500 + 1000),
        ({"cache_write_tokens": 400}, {"input_cache_write": "0.25"}, 2000 + 100),
        ({"cache_write_tokens": 400}, {"input_cache_write": "0"}, 2000),
        ({"cache_write_tokens": 400}, {"input_cache_write": "1"}, 2000),
        ({"cache_write_tokens": 4000}, {"input_cache_write": "1.25"}, 1250 + 1000),
        # both, and sound: each token once
        (
            {"cached_tokens": 300, "cache_write_tokens": 200},
            {"input_cache_read": "0.1", "input_cache_write": "1.25"},
            500 + 30 + 250 + 1000,
        ),
        (
            {"cached_tokens": 900, "cache_write_tokens": 900, "audio_tokens": 900},
            {"input_cache_read": "0.1", "input_cache_write": "1.25", "audio": "50"},
            90 + 125 + 1000,
        ),
        ({"audio_tokens": 100}, {"audio": "5"}, 900 + 500 + 1000),
        ({"audio_tokens": 100}, {"audio": "0"}, 2000),
        ({"audio_tokens": 100}, {}, 2000),
        ({"audio_tokens": 10_000}, {"audio": "5"}, 5000 + 1000),
        ({"cached_tokens": -5, "cache_write_tokens": "many", "audio_tokens": None}, {"audio": "5"}, 2000),
    ],
    ids=str,
)
def test_each_token_of_a_prompt_is_paid_once(details: dict[str, Any], prices: dict[str, str], amount: int) -> None:
    assert cost(prices, prompt_tokens_details=details) == amount


@pytest.mark.parametrize(
    ("reasoning", "price", "amount"),
    [
        (60, "3", 1000 + 40 * 10 + 60 * 3),
        (60, "10", 2000),
        (60, "0", 2000),
        (600, "3", 1000 + 300),
        (0, "3", 2000),
    ],
)
def test_each_token_of_an_answer_is_paid_once(reasoning: int, price: str, amount: int) -> None:
    details = {"reasoning_tokens": reasoning}
    assert cost({"internal_reasoning": price}, completion_tokens_details=details) == amount
    assert cost({}, completion_tokens_details=details) == 2000


@pytest.mark.parametrize(
    ("details", "prices", "amount"),
    [
        ({"audio_tokens": 30}, {"audio_output": "20"}, 1000 + 70 * 10 + 30 * 20),
        ({"audio_tokens": 30}, {"audio_output": "0"}, 2000),
        ({"audio_tokens": 30}, {"audio": "20"}, 2000),
        ({"image_tokens": 30}, {"image_output": "20"}, 1000 + 70 * 10 + 30 * 20),
        ({"image_tokens": 30}, {}, 2000),
        (
            {"reasoning_tokens": 60, "audio_tokens": 30, "image_tokens": 30},
            {"internal_reasoning": "3", "audio_output": "20", "image_output": "40"},
            1000 + 60 * 3 + 30 * 20 + 10 * 40,
        ),
        ({"reasoning_tokens": 90, "audio_tokens": 30, "image_tokens": 30}, {"audio_output": "20"}, 1000 + 900 + 200),
        ({"audio_tokens": "many", "image_tokens": -1}, {"audio_output": "20", "image_output": "40"}, 2000),
    ],
    ids=str,
)
def test_sound_and_images_of_an_answer(details: dict[str, Any], prices: dict[str, str], amount: int) -> None:
    assert cost(prices, completion_tokens_details=details) == amount


def test_reasoning_beside_the_completion_is_paid_too() -> None:
    details = {"reasoning_tokens": 60}
    assert cost({}, total_tokens=1160, completion_tokens_details=details) == 1000 + 160 * 10
    assert cost({"internal_reasoning": "3"}, total_tokens=1160, completion_tokens_details=details) == 1000 + 1000 + 180


def test_a_price_that_cannot_be_read_is_not_nothing() -> None:
    unclear = Model("a/one", pricing=Pricing(prompt=Decimal(1), completion=Decimal(1), unclear=True))
    assert expected_cost(unclear, needs()) is None
    assert cost_of(Usage({"prompt_tokens": 1, "completion_tokens": 1}), unclear) == (None, "unknown")


def test_requests_and_images_have_their_prices() -> None:
    assert cost({"request": "7"}) == 2007
    assert cost({"image": "1280"}, images=2) == 2000 + 2560
    unsaid, _ = cost_of(
        Usage({"prompt_tokens": 5, "completion_tokens": 0}), model(prompt="1", completion="1", image="60")
    )
    assert unsaid == 5
    assert cost({"image": "1"}, images=2) == 2000  # the price of an image's tokens, which the gateway counted


def test_money_is_exact() -> None:
    details = {"cached_tokens": 1, "cache_write_tokens": 1}
    prices = {
        "prompt": "0.00000015",
        "completion": "0.0000006",
        "input_cache_read": "0.000000075",
        "input_cache_write": "0.00000008333333333333334",
    }
    assert cost(prices, prompt_tokens=3, completion_tokens=1, prompt_tokens_details=details) == Decimal(
        "0.00000105833333333333334"
    )


def test_what_the_gateway_says_it_cost_it_cost() -> None:
    assert cost_of(Usage({"cost": 0.5}), model(prompt="1", completion="1"), 3) == (Decimal("0.5"), "gateway")


def test_without_a_price_or_counts_the_cost_is_unknown() -> None:
    counts = Usage({"prompt_tokens": 1, "completion_tokens": 1})
    assert cost_of(counts, None) == (None, "unknown")
    assert cost_of(counts, model(prompt="1")) == (None, "unknown")
    assert cost_of(Usage({"prompt_tokens": 1}), model(prompt="1", completion="1")) == (None, "unknown")


# --- prices that depend on something ---


def override(above: int = 0, sure: bool = True, **prices: str) -> PriceOverride:
    return PriceOverride(Pricing(**{name: Decimal(price) for name, price in prices.items()}), above, sure)


@pytest.mark.parametrize(
    ("overrides", "amount"),
    [
        ([], 2000),
        ([override(prompt="2")], 3000),
        ([override(999, prompt="2")], 3000),
        ([override(1000, prompt="2")], 2000),
        ([override(999, prompt="2", completion="20", request="5")], 2000 + 2000 + 5),
        ([override(999, prompt="2"), override(5, prompt="3")], 4000),
        ([override(999, prompt="2"), override(5, completion="20")], 4000),
        ([override(999, prompt="0")], 1000),
        ([override(sure=False, prompt="2")], 2000),
    ],
    ids=str,
)
def test_long_prompts_have_their_prices_if_nothing_else_decides(overrides: list[PriceOverride], amount: int) -> None:
    pricing = Pricing(prompt=Decimal(1), completion=Decimal(10), overrides=tuple(overrides))
    priced = Model("a/one", pricing=pricing)
    assert expected_cost(priced, needs()) == amount
    assert cost_of(Usage({"prompt_tokens": 1000, "completion_tokens": 100}), priced) == (amount, "catalog")


def test_the_precision_of_the_application_does_not_matter() -> None:
    prices = {"prompt": "0.123456", "completion": "0.234567", "input_cache_write": "0.1", "image": "123.456"}
    usage = Usage({"prompt_tokens": 7, "completion_tokens": 7, "prompt_tokens_details": {"cache_write_tokens": 3}})
    exact = 4 * Decimal("0.123456") + 3 * Decimal("0.223456") + 7 * Decimal("0.234567") + Decimal("123.456")
    with localcontext() as context:
        context.prec = 2
        context.traps = dict.fromkeys(context.traps, True)
        assert cost_of(usage, model(**prices), 1)[0] == exact


# --- which prices jumped ---


def jumps(before: Model, now: Model) -> list[tuple[str, Decimal, Decimal]]:
    return [(jump.component, jump.before, jump.after) for jump in price_jumps({before.id: before}, [now])]


@pytest.mark.parametrize(
    ("before", "after", "jumped"),
    [
        ("0.001", "0.002", False),
        ("0.001", "0.0020001", True),
        ("0.002", "0.001", False),
        ("0", "0.000001", True),
        ("0", "0", False),
    ],
)
def test_more_than_twice_as_dear_is_a_jump(before: str, after: str, jumped: bool) -> None:
    found = jumps(model(prompt=before), model(prompt=after))
    assert found == ([("prompt", Decimal(before), Decimal(after))] if jumped else [])


def test_each_component_jumps_on_its_own() -> None:
    before = model(prompt="1", completion="1", image="1")
    now = model(prompt="3", completion="2", image="5")
    assert [name for name, _, _ in jumps(before, now)] == ["prompt", "image"]


def test_a_price_that_was_or_is_unknown_has_not_jumped() -> None:
    assert jumps(model(prompt="1"), model(prompt="1", completion="9")) == []
    assert jumps(model(prompt="1", completion="9"), model(prompt="1")) == []


def test_a_model_that_is_new_has_not_jumped() -> None:
    assert price_jumps({}, [model(prompt="9")]) == ()
    before = {name: model(name, prompt="1") for name in ("b/same", "c/dear")}
    now = [model("a/new", prompt="9"), model("b/same", prompt="1"), model("c/dear", prompt="9")]
    assert [jump.model for jump in price_jumps(before, now)] == ["c/dear"], "the others are passed over"


def test_jumps_are_told_in_the_order_of_the_catalogue() -> None:
    before = {name: model(name, prompt="1") for name in ("a/one", "b/two")}
    found = price_jumps(before, [model("b/two", prompt="3"), model("a/one", prompt="3")])
    assert found == (
        PriceJump("b/two", "prompt", Decimal(1), Decimal(3)),
        PriceJump("a/one", "prompt", Decimal(1), Decimal(3)),
    )


def test_a_catalogue_in_another_currency_tells_of_some_jumps_only() -> None:
    names = [f"x/{number}" for number in range(MAX_JUMPS)]
    before = {name: model(name, prompt="1", completion="1") for name in names}
    found = price_jumps(before, [model(name, prompt="100", completion="100") for name in names])
    assert len(found) == MAX_JUMPS


def test_prices_that_are_numbers_are_read_each_for_itself() -> None:
    """``1`` and ``true`` are the same to a dict, but not to a gateway."""
    models, _ = parse_catalog(
        [{"id": f"x/{number}", "pricing": {"prompt": price}} for number, price in enumerate([1, True, 1.0, "1"])]
    )
    assert [found.pricing.prompt for found in models] == [1, None, 1, 1]
