"""What one attempt can cost at most: every component of a price, everything that lengthens prompt or answer, and what nobody can
bound. The numbers are worked out by hand from the constants, the properties hold for whatever a gateway or a caller may say."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from routerkit.core import budget
from routerkit.core.budget import Bound, likely_tokens, worst_cost
from routerkit.core.listing import parse_catalog
from routerkit.core.needs import EXPECTED_ANSWER, count_of, needs_of
from routerkit.core.pricing import PER_IMAGE, cost_of
from routerkit.types.model import COMPONENTS, Model, PriceOverride, Pricing
from routerkit.types.request import ChatRequest
from routerkit.types.tokens import Usage

ME = "a/one"
PHOTO_ADDRESS = "data:image/png;base64," + "A" * 100_000
PHOTO_SIZE = len(PHOTO_ADDRESS)
PHOTO = {"type": "image_url", "image_url": {"url": PHOTO_ADDRESS}}
TEXT = {"type": "text", "text": "Hi"}
PDF = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 100}}


def pricing(**prices: Any) -> Pricing:
    more = {name: prices.pop(name) for name in ("overrides", "unclear") if name in prices}
    told = {name: Decimal(price) for name, price in {"prompt": 0, "completion": 0, **prices}.items()}
    return Pricing(**told, **more)


def model(context: int | None = None, longest: int | None = None, **prices: Any) -> Model:
    return Model(ME, context_length=context, max_completion_tokens=longest, pricing=pricing(**prices))


def asked(*parts: Any, messages: Any = None, extra: Any = None, **params: Any) -> ChatRequest:
    if messages is None:
        messages = [{"role": "user", "content": list(parts)}] if parts else "Hello"
    return ChatRequest.build(messages, params, extra_body=extra)


def worst(request: ChatRequest, *listed: Model, name: str = ME) -> Decimal | None:
    return worst_cost(request, needs_of(request), name, {each.id: each for each in listed}.get)


def size(request: ChatRequest) -> int:
    """Tokens of a prompt of text, as bytes, with what templates add to it."""
    return len(request.tail) + budget.PROMPT_OVERHEAD + budget.MESSAGE_OVERHEAD * len(request.messages)


# --- the answer ---


@pytest.mark.parametrize(
    ("params", "tokens"),
    [
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100}, 100),
        ({"max_tokens": 100, "max_completion_tokens": 300}, 300),
        ({"max_tokens": 10**6}, 10**6),
        ({"max_tokens": 1}, budget.LEAST_ANSWER),
        ({"max_tokens": "100"}, 100),
        ({"max_tokens": 99.5}, 100),
        # no limit: the model's
        ({}, 5000),
        ({"max_tokens": 0}, 5000),
        ({"max_tokens": -1}, 5000),
        ({"max_tokens": "many"}, 5000),
        ({"max_tokens": True}, 5000),
        ({"max_tokens": []}, 5000),
        ({"max_tokens": 100, "max_completion_tokens": -1}, 5000),
        ({"max_tokens": 9000, "max_completion_tokens": "NaN"}, 9000),
        # several answers
        ({"max_tokens": 100, "n": 3}, 300),
        ({"n": 3}, 15_000),
        ({"max_tokens": 100, "n": "3"}, 300),
        ({"max_tokens": 100, "n": 2.5}, 300),
        ({"max_tokens": 100, "n": 0}, 100),
        ({"max_tokens": 100, "n": -4}, 100),
        ({"max_tokens": 100, "n": True}, 100),
        ({"max_tokens": 100, "n": "many"}, 100),
        ({"max_tokens": 100, "n": [7]}, 100),
        ({"max_tokens": 100, "n": 10**9}, 100 * 10**9),
        # reasoning may come on top
        ({"max_tokens": 100, "reasoning": {"max_tokens": 2000}}, 2100),
        ({"reasoning": {"max_tokens": 2000}}, 7000),
        ({"max_tokens": 100, "reasoning": {"max_tokens": 2000}, "n": 2}, 4200),
        ({"max_tokens": 100, "reasoning": {"max_tokens": 10}}, 100 + budget.LEAST_REASONING),
        ({"max_tokens": 100, "reasoning": {"effort": "high"}}, 100 + budget.LEAST_REASONING),
        ({"max_tokens": 100, "reasoning": {"effort": "none"}}, 100),
        ({"max_tokens": 100, "reasoning_effort": "low"}, 100 + budget.LEAST_REASONING),
    ],
    ids=str,
)
def test_how_long_an_answer_can_be(params: dict[str, Any], tokens: int) -> None:
    assert worst(asked(**params), model(longest=5000, completion=1)) == tokens


@pytest.mark.parametrize(
    ("extra", "tokens"),
    [
        ({"thinking_budget": 3000}, 3100),
        ({"thinking": {"type": "enabled", "budget_tokens": 3000}}, 3100),
        ({"thinking": True}, 100),
        ({"reasoning": "high"}, 100 + budget.LEAST_REASONING),
        ({"max_completion_tokens": None}, 100),
    ],
    ids=str,
)
def test_what_other_servers_call_it(extra: dict[str, Any], tokens: int) -> None:
    assert worst(asked(max_tokens=100, extra=extra), model(completion=1)) == tokens


@pytest.mark.parametrize(
    ("context", "longest", "tokens"),
    [(None, 5000, 5000), (9000, 5000, 5000), (9000, None, 9000), (4000, 5000, 5000), (None, None, None)],
)
def test_without_a_limit_the_model_has_one_or_nobody(
    context: int | None, longest: int | None, tokens: int | None
) -> None:
    assert worst(asked(), model(context, longest, completion=1)) == tokens


def test_a_prediction_that_was_wrong_is_paid_as_an_answer() -> None:
    request = asked(max_tokens=100, prediction={"type": "content", "content": "x" * 3000})
    assert worst(request, model(completion=1)) == 100 + len(request.tail)


# --- the prompt ---


@pytest.mark.parametrize(
    "messages",
    [
        "Hello",
        "é" * 1000,
        "\x00" * 10,
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": [TEXT, {"type": "text", "text": "there"}, "plain"]}],
        [{"role": "user", "content": None}],
        [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "x" * 999}}]}],
        [{"role": "assistant", "content": "x", "images": [], "audio": None}],
    ],
    ids=lambda messages: str(messages)[:40],
)
def test_a_prompt_of_text_has_no_more_tokens_than_bytes(messages: Any) -> None:
    request = asked(messages=messages, max_tokens=1)
    assert worst(request, model(prompt=1)) == size(request)
    assert worst(request, model(100, prompt=1)) == 100, "nor more than the model takes"


def test_tools_are_text_with_words_around_them() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    bare = {"function": {"name": "f"}}
    for params, count in (
        ({"tools": [tool, {"type": "custom"}, bare]}, 3),
        ({"functions": [{"name": "f"}]}, 1),
        ({"tools": [tool], "functions": [{"name": "f"}]}, 2),
    ):
        request = asked(max_tokens=1, **params)
        around = budget.TOOLS_OVERHEAD + budget.TOOL_OVERHEAD * count
        assert worst(request, model(prompt=1)) == size(request) + around
    assert worst(request := asked(max_tokens=1, tools=[]), model(prompt=1)) == size(request)


@pytest.mark.parametrize(
    "image",
    [
        PHOTO,
        {"type": "input_image", "image_url": PHOTO["image_url"]["url"]},  # type: ignore[index]
        {"type": "image_url", "image_url": {"url": "https://example.com/photo.png", "detail": "high"}},
    ],
    ids=lambda image: str(image)[:40],
)
def test_an_image_has_so_many_tokens_however_long_its_data_is(image: Any) -> None:
    request, address = asked(TEXT, image, image, max_tokens=1), image["image_url"]
    data = 2 * len(address if isinstance(address, str) else address["url"])
    assert worst(request, model(prompt=1)) == size(request) - data + 2 * budget.IMAGE_TOKENS
    assert worst(request, model(5000, prompt=1)) == 5000


@pytest.mark.parametrize(
    "part",
    [
        PDF,
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/film"}},
        {"type": "hologram"},
        {"text": "of no type"},
        {"type": ["text"], "text": "Hi"},
        7,
        None,
        pytest.param({"type": "image", "source": {"data": "AAAA"}}, id="Anthropic's"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_of_other_media_nobody_knows_but_how_much_a_model_takes(part: Any) -> None:
    request = asked(TEXT, part, max_tokens=1, plugins=[{"id": "file-parser", "pdf": {"engine": "native"}}])
    assert worst(request, model(prompt=1)) is None
    assert worst(request, model(70_000, prompt=1)) == 70_000


@pytest.mark.parametrize(
    "message",
    [
        {"content": {"type": "image_url"}},
        {"content": 5},
        {"content": "x", "images": [PHOTO]},
        {"content": "x", "audio": {"id": "audio_1"}},
        {"content": "x", "annotations": [{"type": "file"}]},
    ],
    ids=str,
)
def test_nor_of_what_messages_hold_besides_their_content(message: Any) -> None:
    request = asked(messages=[{"role": "assistant", **message}], max_tokens=1)
    assert worst(request, model(prompt=1)) is None
    assert worst(request, model(70_000, prompt=1)) == 70_000


@pytest.mark.parametrize(
    ("engine", "takes", "known"),
    [
        (None, True, True),
        (None, False, False),
        ("native", False, True),
        ("cloudflare-ai", False, True),
        ("pdf-text", False, True),
        ("mistral-ocr", True, False),
        ("another", True, False),
        ("", True, True),
    ],
)
def test_files_are_read_by_the_model_or_for_nothing_or_nobody_can_tell(
    engine: str | None, takes: bool, known: bool
) -> None:
    """OpenRouter's default reader has a price for each page."""
    listed = attrs.evolve(model(1000, prompt=1), input_modalities=("text", "file") if takes else ("text",))
    plugins = [{"id": "file-parser", "pdf": {"engine": engine}}]
    for params in (
        ({"plugins": plugins},)
        if engine is not None
        else ({"plugins": plugins}, {}, {"plugins": [{"id": "file-parser"}]})
    ):
        assert worst(asked(PDF, max_tokens=1, **params), listed) == (1000 if known else None)
    assert worst(asked(max_tokens=1, plugins=plugins), listed) is not None, "without files nothing is read"


# --- each component of a price alone ---


ROOM = 10**6


@pytest.mark.parametrize(
    ("prices", "params", "cost"),
    [
        ({"prompt": 2}, {}, lambda request: 2 * size(request)),
        ({"completion": 2}, {}, lambda request: 200),
        ({"internal_reasoning": 2}, {}, lambda request: 200),
        ({"internal_reasoning": 2, "completion": 3}, {}, lambda request: 300),
        ({"audio_output": 2}, {}, lambda request: 200),
        ({"image_output": 2}, {}, lambda request: 200),
        ({"audio": 2}, {}, lambda request: 2 * size(request)),
        ({"audio": 2, "prompt": 3}, {}, lambda request: 3 * size(request)),
        ({"input_cache_read": 2}, {}, lambda request: 2 * size(request)),
        ({"input_cache_write": 2}, {}, lambda request: 2 * size(request)),
        ({"input_cache_write": 4, "prompt": 3}, {}, lambda request: 4 * size(request)),
        ({"input_cache_write": 1, "prompt": 3}, {}, lambda request: 4 * size(request)),
        ({"input_cache_write": 0, "prompt": 3}, {}, lambda request: 3 * size(request)),
        ({"request": 2}, {}, lambda request: 2),
        ({"request": 2}, {"n": 5}, lambda request: 2),
        # only with what they are for
        ({"image": 2, "image_token": 2, "web_search": 2, "input_cache_write_1h": 9}, {}, lambda request: 0),
        ({"input_cache_write_1h": 9}, {"cache_control": {"ttl": "1h"}}, lambda request: 9 * size(request)),
        ({"input_cache_write": 5, "prompt": 4}, {"cache_control": {"ttl": "1h"}}, lambda request: 8 * size(request)),
        ({"input_cache_write": 5, "prompt": 4}, {"cache_control": {"ttl": "5m"}}, lambda request: 5 * size(request)),
    ],
    ids=lambda value: "bound" if callable(value) else str(value),
)
def test_every_token_costs_what_the_dearest_kind_costs(
    prices: dict[str, int], params: dict[str, Any], cost: Callable[[ChatRequest], int]
) -> None:
    request = asked(max_tokens=100, **params)
    assert worst(request, model(ROOM, **prices)) == cost(request)


@pytest.mark.parametrize(
    ("prices", "whole", "token"),
    [
        ({"image": 3}, 3, 0),
        ({"image": 1280, "prompt": 1}, 1280, 1),
        ({"image": PER_IMAGE, "prompt": 1}, PER_IMAGE, 1),
        ({"image": PER_IMAGE - 1, "prompt": 1}, 0, PER_IMAGE - 1),
        ({"image": 1, "prompt": 2}, 0, 2),
        ({"image_token": 7, "prompt": 2}, 0, 7),
        ({"image_token": 1, "prompt": 2}, 0, 2),
    ],
    ids=str,
)
def test_images_are_paid_whole_or_by_their_tokens(prices: dict[str, int], whole: int, token: int) -> None:
    request = asked(PHOTO, PHOTO, max_tokens=1)
    assert worst(request, model(1000, **prices)) == 2 * whole + 1000 * token


def test_a_film_may_be_paid_by_the_tokens_of_its_images() -> None:
    request = asked({"type": "video_url"}, max_tokens=1)
    assert worst(request, model(1000, prompt=1, image_token=3)) == 3000
    assert worst(request, model(1000, prompt=1, image=4)) == 4000


# --- web search ---


EXA = Decimal("0.02")


@pytest.mark.parametrize(
    ("params", "fee", "searches"),
    [
        ({"plugins": [{"id": "web"}]}, EXA, 10),
        ({"plugins": ({"id": "web", "enabled": True},)}, EXA, 10),
        ({"plugins": [{"id": "web", "max_results": 1}]}, Decimal("0.004"), 10),
        ({"plugins": [{"id": "web", "max_results": 100}]}, Decimal("0.4"), 10),
        ({"plugins": [{"id": "web", "max_results": "7"}]}, Decimal("0.028"), 10),
        ({"plugins": [{"id": "web", "max_results": -7}]}, EXA, 10),
        ({"plugins": [{"id": "web", "max_results": "NaN"}]}, EXA, 10),
        ({"plugins": [{"id": "web"}, {"id": "web", "max_results": 10}]}, Decimal("0.06"), 10),
        ({"plugins": [{"id": "web", "max_uses": 3}]}, EXA, 10),
        ({"plugins": [{"id": "web", "max_uses": 30}]}, EXA, 30),
        ({"web_search_options": {}}, EXA, 10),
        ({"web_search_options": {"search_context_size": "high"}}, EXA, 10),
        ({"plugins": [{"id": "web", "enabled": False}]}, 0, 0),
        ({"plugins": []}, 0, 0),
        ({"plugins": [{"id": "response-healing"}, {"id": "moderation"}, {"id": "auto-router"}]}, 0, 0),
        ({}, 0, 0),
    ],
    ids=str,
)
def test_what_a_web_search_costs(params: dict[str, Any], fee: Any, searches: int) -> None:
    request = asked(max_tokens=1, **params)
    assert worst(request, model()) == fee, "also where the model is free"
    assert worst(request, model(web_search=1)) == fee + searches


def test_what_was_found_is_a_part_of_the_prompt() -> None:
    request = asked(max_tokens=1, plugins=[{"id": "web", "max_results": 2}])
    tokens = size(request) + 2 * budget.RESULT_TOKENS
    assert worst(request, model(prompt=1)) == tokens + 2 * budget.RESULT_PRICE
    assert worst(request, model(1000, prompt=1)) == 1000 + 2 * budget.RESULT_PRICE


@pytest.mark.parametrize("name", ["a/one:online", "a/one:free:online"])
def test_a_model_that_is_asked_for_with_a_search(name: str) -> None:
    request = asked(max_tokens=1)
    assert worst_cost(request, needs_of(request), name, lambda _: model(web_search=1)) == EXA + 10


def test_models_that_search_unasked() -> None:
    """What they find is not charged as a part of the prompt: it is in the price of the search."""
    request = asked(max_tokens=1)
    searching = attrs.evolve(model(prompt=1, web_search=100), supported_parameters=frozenset({"web_search_options"}))
    assert worst(request, searching) == size(request) + 1000


# --- prices that depend on something ---


def override(above: int = 0, sure: bool = True, **prices: Any) -> PriceOverride:
    return PriceOverride(Pricing(**{name: Decimal(price) for name, price in prices.items()}), above, sure)


@pytest.mark.parametrize(
    ("overrides", "prompt", "answer"),
    [
        ([override(prompt=5)], 5, 20),
        ([override(completion=50)], 2, 50),
        ([override(prompt=5, completion=50)], 5, 50),
        ([override(prompt=1, completion=1)], 2, 20),
        ([override(sure=False, prompt=5)], 5, 20),
        ([override(prompt=5), override(completion=50), override(prompt=4)], 5, 50),
        ([override(audio=7)], 7, 20),
        ([override(internal_reasoning=70)], 2, 70),
        ([override(input_cache_write=3)], 3, 20),
        ([override(input_cache_write=1)], 3, 20),
        ([override(prompt=4, input_cache_write=6), override(input_cache_write=3)], 7, 20),
        # what the prompt is too short for
        ([override(10**5, prompt=5, completion=50)], 2, 20),
        ([override(10**5, sure=False, prompt=5)], 2, 20),
    ],
    ids=str,
)
def test_the_dearest_of_all_prices_that_may_hold(overrides: list[PriceOverride], prompt: int, answer: int) -> None:
    request = asked(max_tokens=100)
    listed = model(prompt=2, completion=20, overrides=tuple(overrides))
    assert worst(request, listed) == prompt * size(request) + answer * 100


def test_long_prompts_have_their_prices() -> None:
    request = asked(max_tokens=100)
    exact = model(prompt=1, overrides=(override(size(request), prompt=5),))
    assert worst(request, exact) == size(request), "the price is for more tokens than that"
    below = model(prompt=1, overrides=(override(size(request) - 1, prompt=5),))
    assert worst(request, below) == 5 * size(request)
    assert worst(request, attrs.evolve(below, context_length=size(request) - 1)) == size(request) - 1


def test_what_is_kept_for_an_hour_costs_twice_the_dearest() -> None:
    request = asked(max_tokens=1, cache_control={"type": "ephemeral", "ttl": "1h"})
    assert worst(request, model(prompt=2, overrides=(override(prompt=5),))) == 10 * size(request)


def test_what_has_to_be_rounded_is_rounded_up() -> None:
    long = Decimal("1." + "1" * 150)
    cost = worst(request := asked(max_tokens=1), model(prompt=long))
    with localcontext() as context:
        context.prec = 200
        assert cost is not None
        assert cost > long * size(request)


def test_overrides_of_other_prices() -> None:
    request = asked(PHOTO, max_tokens=1, plugins=[{"id": "web"}])
    listed = model(10, overrides=(override(request=1), override(image=2), override(web_search=3)))
    assert worst(request, listed) == 1 + 2 + 30 + EXA
    doubted = model(10, prompt=1, image=80, overrides=(override(prompt=2),))
    assert worst(request, doubted) == 10 * 80 + 80 + EXA, "of a whole image at one price, of a token at the other"


# --- what nobody can tell ---


@pytest.mark.parametrize(
    "listed",
    [
        Pricing(),
        Pricing(prompt=Decimal(0)),
        Pricing(completion=Decimal(0)),
        pricing(prompt=-1, completion=-1),
        pricing(prompt="NaN"),
        pricing(completion="Infinity"),
        pricing(request="-0.1"),
        pricing(web_search="sNaN"),
        pricing(unclear=True),
        pricing(overrides=(override(prompt=-1),)),
        pricing(overrides=(override(10**9, audio="NaN"),)),
    ],
    ids=str,
)
def test_a_price_that_nobody_can_tell(listed: Pricing) -> None:
    assert worst(asked(max_tokens=1), Model(ME, context_length=10, pricing=listed)) is None


@pytest.mark.parametrize(
    "entry",
    [
        {"prompt": "-1", "completion": "-1"},
        {"prompt": "1e400", "completion": "0"},
        {"prompt": "0", "completion": "NaN"},
        {"prompt": "0", "completion": "0", "request": "-1"},
        {"prompt": "0", "completion": "0", "image": "free"},
        {"prompt": "0", "completion": "0", "overrides": [{"prompt": "soon"}]},
        {"prompt": "0", "completion": "0", "overrides": "later"},
    ],
    ids=str,
)
def test_a_catalogue_that_does_not_tell(entry: dict[str, Any]) -> None:
    ((listed,), _) = parse_catalog([{"id": ME, "pricing": entry, "context_length": 10}])
    assert worst(asked(max_tokens=1), listed) is None
    assert not listed.pricing.free


def test_a_model_that_is_not_listed() -> None:
    assert worst(asked(max_tokens=1), name="b/two") is None


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("params", "known"),
    [
        ({"tools": [TOOL, {"type": "openrouter:web_search"}]}, False),
        ({"tools": [{"type": "web_search_preview"}]}, False),
        ({"tools": [{"type": ["function"]}]}, False),
        ({"tools": [TOOL, "search"]}, False),
        ({"tools": {"type": "function"}}, False),
        ({"tools": [{**TOOL, "type": None}]}, True),
        ({"plugins": [{"id": "fusion"}]}, False),
        ({"plugins": [{"id": "web-fetch"}]}, False),
        ({"plugins": [{"id": "something new"}]}, False),
        ({"plugins": [{"id": ["web"]}]}, False),
        ({"plugins": [{}]}, False),
        ({"plugins": [{"id": "fusion", "enabled": False}]}, True),
        ({"plugins": [{"id": "web", "mode": "deep-reasoning"}]}, False),
        ({"plugins": [{"id": "web", "mode": "fast"}]}, True),
        ({"service_tier": "priority"}, False),
        ({"service_tier": "fast"}, False),
        ({"service_tier": "flex"}, True),
        ({"service_tier": "default"}, True),
        ({"extra": {"plugins": "web"}}, False),
        ({"extra": {"plugins": [7]}}, False),
        ({"extra": {"service_tier": {}}}, True),
        ({"extra": {"service_tier": {"name": "default"}}}, False),
        ({"extra": {"tools": None, "plugins": None, "models": None}}, True),
        ({"extra": {"tools": "all"}}, False),
        ({"extra": {"preset": "careful"}}, False),
    ],
    ids=str,
)
def test_what_a_gateway_may_do_besides_asking_the_model(params: dict[str, Any], known: bool) -> None:
    assert (worst(asked(max_tokens=1, **params), model(10)) is not None) is known


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("openai/o3-deep-research", False),
        ("perplexity/sonar-deep-research:nitro", False),
        ("openai/gpt-4@preset/careful", False),
        ("alibaba/tongyi-deepresearch-30b-a3b", True),
    ],
)
def test_models_of_which_nobody_can_tell_what_they_do(name: str, known: bool) -> None:
    request = asked(max_tokens=1)
    assert (worst_cost(request, needs_of(request), name, lambda _: model(10)) is not None) is known


@pytest.mark.parametrize(
    ("params", "prompt", "answer"),
    [
        ({"max_tokens": 1}, 256 + 16, 16),
        ({"messages": [{"role": "user", "content": "Hi"}] * 3}, 256 + 3 * 16, 5000),
        ({"tools": [TOOL]}, 256 + 16 + 1024 + 32, 5000),
        ({"tools": [TOOL, TOOL]}, 256 + 16 + 1024 + 2 * 32, 5000),
        ({"max_tokens": 100, "reasoning_effort": "low"}, 256 + 16, 1124),
        ({"plugins": [{"id": "web"}]}, 256 + 16 + 5 * 15_000, 5000),
        ({"messages": [{"role": "user", "content": [PHOTO]}]}, 256 + 16 + 48_169 - PHOTO_SIZE, 5000),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_taken_for_granted_in_numbers(params: dict[str, Any], prompt: int, answer: int) -> None:
    """What is reserved beyond the bytes of a request, so that no constant changes unnoticed."""
    request = asked(**params)
    cost = worst(request, model(longest=5000, prompt=1, completion=10**6))
    assert cost is not None
    assert int(cost) == len(request.tail) + prompt + answer * 10**6


@pytest.mark.parametrize(
    "plugin",
    [
        "moderation",
        "response-healing",
        "context-compression",
        "auto-router",
        "auto-beta-router",
        "pareto-router",
    ],
)
def test_plugins_that_cost_nothing(plugin: str) -> None:
    assert worst(asked(max_tokens=1, plugins=[{"id": plugin}]), model(10)) is not None


@pytest.mark.parametrize("tier", ["auto", "default", "standard", "flex"])
def test_tiers_that_cost_no_more(tier: str) -> None:
    assert worst(asked(max_tokens=1, service_tier=tier), model(10)) is not None


# --- models that the gateway itself falls back on ---


CHEAP, DEAR = attrs.evolve(model(completion=1), id="b/cheap"), attrs.evolve(model(completion=9), id="c/dear")
UNPRICED, OPEN = Model("d/unpriced", context_length=10), attrs.evolve(model(completion=0), id="e/open")


@pytest.mark.parametrize(
    ("models", "cost"),
    [
        (["b/cheap"], 300),
        (["c/dear"], 900),
        (["b/cheap", "c/dear", "b/cheap"], 900),
        ([ME], 300),
        ([], 300),
        (["b/cheap", "d/unpriced"], None),
        (["d/unpriced", "b/cheap"], None),
        (["f/unknown"], None),
        (["b/cheap:online"], None),
    ],
    ids=str,
)
def test_the_dearest_of_all_models_that_may_answer(models: list[str], cost: int | None) -> None:
    listed = (model(completion=3), CHEAP, DEAR, UNPRICED, OPEN)
    assert worst(asked(max_tokens=100, models=models), *listed) == cost


def test_at_the_gateway_the_others_may_be_called_otherwise() -> None:
    request = asked(max_tokens=100, models=["my/alias"])
    bound, entries = Bound.of(request, needs_of(request)), {each.id: each for each in (CHEAP, DEAR)}
    assert bound.worst("b/cheap", entries.get) is None
    assert bound.worst("b/cheap", entries.get, ["c/dear"]) == 900
    assert bound.worst("b/cheap", entries.get, ()) == 100


def test_a_model_that_cannot_be_told_makes_all_unknown() -> None:
    assert worst(asked(max_tokens=100, models=["b/cheap"]), CHEAP, UNPRICED, name="d/unpriced") is None
    assert worst(asked(models=["e/open"]), model(longest=5, completion=3), OPEN) is None, "nothing bounds its answer"


@pytest.mark.parametrize("models", ["b/cheap", {"b/cheap": 1}, 7, [7], [["b/cheap"]]])
def test_a_list_of_models_that_nobody_can_read(models: Any) -> None:
    assert worst(asked(max_tokens=100, extra={"models": models}), model(), CHEAP) is None


# --- what catalogues list ---


DATA = Path(__file__).parent / "data" / "openrouter-models.json"
LISTED = {each.id: each for each in parse_catalog(json.loads(DATA.read_text()))[0]}


def test_what_openrouters_models_cost_at_most() -> None:
    """Prices per million, by hand; 16 tokens of answer at least."""
    request = asked(max_tokens=1000)
    tokens = size(request)
    costs = {
        "anthropic/claude-sonnet-4.5": tokens * Decimal("3.75e-6") + 1000 * Decimal("15e-6"),
        "openai/gpt-oss-20b:free": Decimal(0),
        "openrouter/auto": None,
        "perplexity/sonar": tokens * Decimal("1e-6") + 1000 * Decimal("1e-6") + Decimal("0.005"),
    }
    assert {name: worst_cost(request, needs_of(request), name, LISTED.get) for name in costs} == costs


def test_every_model_of_the_list_has_a_bound_but_routers() -> None:
    unknown = {name for name in LISTED if worst_cost(asked(), needs_of(asked()), name, LISTED.get) is None}
    assert unknown == {name for name, each in LISTED.items() if not each.pricing.known or "deep-research" in name}


def test_one_bound_serves_all_attempts_of_a_call() -> None:
    request = asked(max_tokens=100, models=["b/cheap"])
    bound = Bound.of(request, needs_of(request))
    entries = {each.id: each for each in (CHEAP, DEAR)}
    assert bound.worst("b/cheap", entries.get) == bound.cost(CHEAP, "b/cheap") == 100
    assert bound.worst("c/dear", entries.get) == 900
    assert bound.cost(None, "b/cheap") is None


# --- tokens a minute ---


@pytest.mark.parametrize(
    ("params", "tokens"),
    [
        ({}, 100 + EXPECTED_ANSWER),
        ({"max_tokens": 50}, 150),
        ({"max_tokens": 50, "n": 4}, 300),
        ({"n": 4}, 100 + 4 * EXPECTED_ANSWER),
    ],
    ids=str,
)
def test_the_tokens_that_a_request_is_likely_to_use(params: dict[str, Any], tokens: int) -> None:
    assert likely_tokens(needs_of(asked(messages="x" * 300, **params))) == tokens


# --- whatever is said ---


_AMOUNTS = st.decimals(0, 1000, places=9) | st.sampled_from([Decimal(0), Decimal("1e-15"), Decimal("9.99e8")])
_MAYBE = st.none() | _AMOUNTS
_COUNTS = st.integers(0, 300_000)


@st.composite
def pricings(draw: st.DrawFn, base: bool = True) -> Pricing:
    told = {name: draw(_MAYBE) for name in COMPONENTS}
    if not base:
        return Pricing(**told)
    overrides = st.builds(PriceOverride, pricings(base=False), st.integers(0, 2000), st.booleans())
    told |= {"prompt": draw(_AMOUNTS), "completion": draw(_AMOUNTS)}
    return Pricing(**told, overrides=tuple(draw(st.lists(overrides, max_size=3))))


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    text = st.text(max_size=40).map(lambda words: {"type": "text", "text": words})
    content = st.text(max_size=60) | st.lists(text | st.just(PHOTO), max_size=4)
    params = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "max_tokens": st.integers(1, 5000),
                "n": st.integers(1, 4),
                "reasoning": st.fixed_dictionaries({"max_tokens": st.integers(0, 5000)}),
                "tools": st.just([TOOL]),
                "cache_control": st.just({"type": "ephemeral", "ttl": "1h"}),
                "web_search_options": st.just({}),
            },
        )
    )
    role = st.sampled_from(["system", "user", "assistant"])
    messages = draw(st.lists(st.fixed_dictionaries({"role": role, "content": content}), min_size=1, max_size=4))
    return ChatRequest.build(messages, params)


@pytest.mark.parametrize(
    ("component", "usage"),
    [
        ("audio", {"prompt_tokens_details": {"audio_tokens": 100}}),
        ("input_cache_read", {"prompt_tokens_details": {"cached_tokens": 100}}),
        ("input_cache_write", {"prompt_tokens_details": {"cache_write_tokens": 100}}),
        ("internal_reasoning", {"completion_tokens_details": {"reasoning_tokens": 100}}),
        ("internal_reasoning", {"completion_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 60}}),
        ("audio_output", {"completion_tokens_details": {"audio_tokens": 100}}),
        ("image_output", {"completion_tokens_details": {"image_tokens": 100}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_kind_of_token_costs_more(component: str, usage: dict[str, Any]) -> None:
    """All that there is of prompt and answer is of the one kind that has a price."""
    usage = {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200, **usage}
    listed = model(100, **{component: 7})
    cost, bound = cost_of(Usage(usage), listed)[0], worst(asked(max_tokens=100), listed)
    assert cost is not None
    assert bound is not None
    assert 0 < cost <= bound == 700


@settings(deadline=None)
@given(requests(), pricings(), st.none() | st.integers(1, 10**6), st.none() | st.integers(1, 9000), st.data())
def test_no_answer_costs_more(
    request: ChatRequest, prices: Pricing, context: int | None, longest: int | None, data: st.DataObject
) -> None:
    """Whatever parts of prompt and answer a gateway says were cached, written, heard, thought, spoken or drawn, and where it counts
    the thoughts."""
    listed = Model(ME, context_length=context, max_completion_tokens=longest, pricing=prices)
    needs = needs_of(request)
    bound = Bound.of(request, needs)
    cost = bound.cost(listed, ME)
    answer = request.params.get("max_tokens") or longest or context
    assert (cost is None) == (answer is None)
    if cost is None or answer is None:
        return
    prompt = len(request.tail) - needs.image_data + budget.IMAGE_TOKENS * needs.images
    prompt = prompt if context is None else min(prompt, context)
    reasoning = request.params.get("reasoning", {}).get("max_tokens", 0)
    of_prompt, of_answer = st.integers(0, prompt), (answer + reasoning) * request.params.get("n", 1)
    read, written = (data.draw(st.integers(0, most) | st.just(most)) for most in (prompt, of_answer))
    thought = data.draw(_COUNTS | st.integers(0, written))
    beside = thought if data.draw(st.booleans()) and thought <= written else 0
    usage = {
        "prompt_tokens": read,
        "completion_tokens": written - beside,
        "total_tokens": read + written,
        "prompt_tokens_details": {
            name: data.draw(of_prompt | st.just(prompt))
            for name in ("cached_tokens", "cache_write_tokens", "audio_tokens")
        },
        "completion_tokens_details": {
            "reasoning_tokens": thought,
            "audio_tokens": data.draw(_COUNTS),
            "image_tokens": data.draw(_COUNTS),
        },
    }
    actual, _ = cost_of(Usage(usage), listed, data.draw(st.integers(0, needs.images)))
    assert actual is not None
    assert 0 <= actual <= cost
    assert cost.is_finite()


@settings(deadline=None)
@given(requests(), pricings(), st.integers(1, 10**6), st.sampled_from(["max_tokens", "n"]), st.integers(1, 10**12))
def test_who_asks_for_more_does_not_pay_less(
    request: ChatRequest, prices: Pricing, context: int, name: str, value: int
) -> None:
    listed = Model(ME, context_length=context, pricing=prices)
    more = ChatRequest.build(request.messages, {**request.params, name: value})
    assume(value >= request.params.get(name, 1) and (name == "n" or "max_tokens" in request.params))
    before, after = worst(request, listed), worst(more, listed)
    assert before is not None
    assert after is not None
    assert before <= after


@settings(deadline=None)
@given(requests(), pricings(), st.integers(1, 10**6), st.sampled_from(COMPONENTS), _AMOUNTS)
def test_what_is_dearer_does_not_cost_less(
    request: ChatRequest, prices: Pricing, context: int, name: str, price: Decimal
) -> None:
    """Two prices change their meaning with their relation to the prompt price: that of an image and that of writing to a cache.
    They are compared within one meaning."""
    was = getattr(prices, name)
    assume(was is None or price >= was)
    prices = attrs.evolve(prices, overrides=(), image=None if name == "prompt" else prices.image)
    dearer = attrs.evolve(prices, **{name: price})
    for each in (prices, dearer):
        assert each.prompt is not None
        assume(each.image is None or name != "image" or each.image >= PER_IMAGE * each.prompt)
        assume(
            each.input_cache_write is None
            or name not in ("prompt", "input_cache_write")
            or each.input_cache_write < each.prompt
        )
    before, after = (worst(request, Model(ME, context_length=context, pricing=each)) for each in (prices, dearer))
    assert before is not None
    assert after is not None
    assert before <= after


_HOSTILE = st.text(max_size=5) | st.sampled_from(
    [
        *(10**9, 10**30, -1, -(10**9), 0, 0.5, 1e300, -1e300, float("nan"), float("inf"), True, False, None),
        *("1e400", "NaN", "-Infinity", "sNaN", "9" * 5000, "1_000", "٣", "", " 7 ", "0x10", [], {}, [5], {"max": 5}),
    ]
)


@settings(deadline=None)
@given(
    st.sampled_from(
        ["n", "max_tokens", "max_completion_tokens", "thinking_budget", "reasoning", "thinking", "prediction"]
    )
    | st.sampled_from(["results", "uses"]),
    _HOSTILE,
)
@example("n", "1e400")
@example("max_tokens", -5)
def test_no_number_raises_or_makes_the_bound_smaller(name: str, value: Any) -> None:
    """Compared with the same request without it. Made by hand, as JSON knows not all of them."""
    plain = ChatRequest.build("Hello", {"plugins": [{"id": "web"}]})
    fields = {"results": "max_results", "uses": "max_uses"}
    if name in fields:
        more: dict[str, Any] = {"plugins": [{"id": "web"}, {"id": "web", fields[name]: value}]}
    else:
        more = {name: value if name not in ("reasoning", "thinking") else {"max_tokens": value, "budget_tokens": value}}
    hostile = attrs.evolve(plain, params={**plain.params, **more})
    listed = model(1000, 100, prompt=1, completion=1, web_search=1)
    least, cost = worst(plain, listed), worst(hostile, listed)
    assert least is not None
    assert cost is not None
    assert cost.is_finite()
    if name.startswith("max_") and count_of(value):
        assert cost >= least - 100 + budget.LEAST_ANSWER, "what can be read as a limit is one"
    else:
        assert cost >= least


def test_whatever_precision_the_application_works_with() -> None:
    """And whatever it wants to be warned of."""
    request = asked(max_tokens=1000)
    listed = model(prompt="0.00000012345678901", completion="0.00000098765432109", request="0.1")
    exact = worst(request, listed)
    with localcontext() as context:
        context.prec = 2
        for flag in context.traps:
            context.traps[flag] = True
        assert worst(request, listed) == exact
        usage = Usage({"prompt_tokens": 123, "completion_tokens": 456})
        rough = cost_of(usage, listed)
    assert rough == cost_of(usage, listed)
