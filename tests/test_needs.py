"""What a request needs, read from its messages and parameters, and what a model of the catalogue cannot do."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from routerkit.core.needs import MAX_COUNT, MEDIA_TOKENS, Needs, count_of, needs_of, tells, unfit
from routerkit.types.completion import Message
from routerkit.types.model import Model
from routerkit.types.request import ChatRequest

TODAY = datetime.date(2026, 1, 29)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
MARK = {"cache_control": {"type": "ephemeral"}}


def request(messages: Any = "Hello", **params: Any) -> ChatRequest:
    return ChatRequest.build(messages, params)


# --- what a request needs ---


def test_the_needs_of_a_plain_request() -> None:
    assert needs_of(request("x" * 300)) == Needs(frozenset({"text"}), frozenset(), frozenset(), 100)


@pytest.mark.parametrize(
    ("part", "modality"),
    [
        ("image_url", "image"),
        ("input_image", "image"),
        ("input_audio", "audio"),
        ("file", "file"),
        ("input_file", "file"),
        ("video_url", "video"),
        ("input_video", "video"),
    ],
)
def test_modalities_are_read_from_the_parts(part: str, modality: str) -> None:
    content = [{"type": "text", "text": "abc"}, {"type": part, part: {"url": "x" * 10_000}}]
    needs = needs_of(request([{"role": "user", "content": content}]))
    assert needs.inputs == {"text", modality}
    assert needs.tokens == 1 + MEDIA_TOKENS


@pytest.mark.parametrize(
    "content",
    [
        None,
        5,
        [],
        ["text"],
        [None],
        [{}],
        [{"type": None}],
        [{"type": ["image_url"]}],
        [{"type": "text", "text": None}],
    ],
)
def test_odd_contents_need_only_text(content: Any) -> None:
    needs = needs_of(request([{"role": "user", "content": content}]))
    assert (needs.inputs, needs.tokens) == ({"text"}, 0)


def test_what_is_no_part_is_passed_over() -> None:
    assert needs_of(request([{"role": "user", "content": ["text", IMAGE]}])).inputs == {"text", "image"}


def test_every_part_counts() -> None:
    texts = [{"type": "text", "text": "x" * 300}] * 2
    needs = needs_of(request([{"role": "user", "content": [*texts, IMAGE, IMAGE]}]))
    assert needs.tokens == 200 + 2 * MEDIA_TOKENS


def test_a_tuple_of_parts_is_a_list_of_parts() -> None:
    assert needs_of(request([{"role": "user", "content": (IMAGE,)}])).inputs == {"text", "image"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"temperature": 0.5}, {"temperature"}),
        ({"tools": [{}], "parallel_tool_calls": True}, {"tools"}),
        ({"functions": [{}]}, {"tools"}),
        ({"reasoning_effort": "high"}, {"reasoning"}),
        ({"max_completion_tokens": 9}, {"max_tokens"}),
        ({"response_format": {"type": "json_object"}}, {"response_format"}),
        ({"response_format": {"type": "json_schema"}}, {"response_format", "structured_outputs"}),
        ({"user": "u", "provider": {}, "models": [], "metadata": {}, "n": 2}, set()),
        ({"temperature": None}, set()),
    ],
)
def test_parameters_that_a_model_must_support(params: dict[str, Any], expected: set[str]) -> None:
    assert needs_of(request(**params)).parameters == expected


OWN_WORDS = """frequency_penalty logit_bias logprobs max_tokens min_p presence_penalty reasoning repetition_penalty
    response_format seed stop temperature tool_choice tools top_a top_k top_logprobs top_p verbosity web_search_options"""


@pytest.mark.parametrize("name", OWN_WORDS.split())
def test_a_parameter_that_catalogues_list_by_its_name(name: str) -> None:
    value: Any = {"effort": "low"} if name == "reasoning" else 1
    assert needs_of(request(**{name: value})).parameters == {name}


def test_parameters_that_catalogues_list_by_another_word() -> None:
    assert needs_of(request(parallel_tool_calls=True)).parameters == {"tools"}


@pytest.mark.parametrize(
    "params",
    [
        *({name: empty} for name in ("tools", "functions", "stop") for empty in ([], ())),
        {"logit_bias": {}},
        {"logprobs": False},
        {"parallel_tool_calls": False},
        {"response_format": {"type": "text"}},
        {"reasoning": {}},
        {"reasoning": {"enabled": False}},
        {"reasoning": {"effort": "none"}},
        {"reasoning_effort": "none"},
    ],
    ids=repr,
)
def test_what_is_switched_off_is_not_needed(params: dict[str, Any]) -> None:
    assert needs_of(request(**params)).parameters == set()


def test_zero_and_empty_options_are_asked_for_all_the_same() -> None:
    assert needs_of(request(temperature=0, seed=0, web_search_options={})).parameters == {
        "temperature",
        "seed",
        "web_search_options",
    }


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("x" * 300, 100), ("é" * 300, 200), ("я" * 300, 200), ("漢" * 300, 300), ("😀" * 300, 400)],
)
def test_a_character_counts_for_as_many_as_it_has_bytes(text: str, tokens: int) -> None:
    assert needs_of(request(text)).tokens == tokens
    assert needs_of(request([{"role": "user", "content": [{"type": "text", "text": text}]}])).tokens == tokens


def test_an_image_is_guessed_to_be_two_thousand_tokens() -> None:
    assert needs_of(request([{"role": "user", "content": [IMAGE]}])).tokens == 2000


@pytest.mark.parametrize(
    ("params", "tokens"),
    [
        ({"max_tokens": 500}, 500),
        ({"max_completion_tokens": 400, "max_tokens": 500}, 400),
        ({"max_completion_tokens": 0, "max_tokens": 500}, 500),
        ({"max_tokens": 1}, 1),
        ({"max_tokens": -1}, 0),
        ({"max_tokens": "many"}, 0),
        ({"max_tokens": True}, 0),
        ({"tools": [{"name": "x" * 3000}]}, 1004),
        ({"response_format": {"type": "json_schema", "json_schema": "x" * 300}}, 114),
    ],
)
def test_the_estimate_counts_what_is_sent_and_what_may_come(params: dict[str, Any], tokens: int) -> None:
    assert needs_of(request("", **params)).tokens == tokens


def test_the_estimate_counts_tool_calls() -> None:
    calls = [{"id": "1", "function": {"name": "f", "arguments": "x" * 3000}}]
    messages = [{"role": "assistant", "content": None, "tool_calls": calls}, {"role": "tool", "content": "y" * 3000}]
    assert needs_of(request(messages)).tokens >= 2000


# --- what a price comparison looks at ---


def test_prompt_and_answer_are_told_apart() -> None:
    needs = needs_of(request("x" * 300, max_tokens=500))
    assert (needs.prompt_tokens, needs.answer_tokens, needs.tokens) == (100, 500, 600)


def test_sounds_are_counted() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    assert needs_of(request([{"role": "user", "content": [sound, IMAGE, sound]}])).sounds == 2


def test_images_are_counted_and_other_media_are_not() -> None:
    sound = {"type": "input_audio", "input_audio": {}}
    messages = [
        {"role": "user", "content": [IMAGE, sound, {"type": "input_image"}]},
        {"role": "user", "content": [IMAGE]},
    ]
    assert needs_of(request(messages)).images == 3
    assert needs_of(request(messages[:1])).images == 2


def text(characters: int, *, marked: bool = False) -> dict[str, Any]:
    return {"type": "text", "text": "x" * characters, **(MARK if marked else {})}


def said(*content: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content), **more}


@pytest.mark.parametrize(
    ("messages", "cached"),
    [
        ([said(text(300), text(600))], 0),
        ([said(text(300, marked=True), text(600))], 100),
        ([said(text(300), text(600, marked=True))], 300),
        ([said(text(300, marked=True), text(600, marked=True), text(900))], 300),
        ([said(text(300)), said(text(600, marked=True)), said(text(900))], 300),
        ([said("x" * 300, **MARK), said("x" * 600)], 100),
        ([said(text(300), text(600), **MARK)], 300),
        ([said({**IMAGE, **MARK}, text(600))], MEDIA_TOKENS),
        ([said(text(300), IMAGE, text(3, marked=True), IMAGE)], 101 + MEDIA_TOKENS),
        ([said({**text(300), "cache_control": None})], 0),
    ],
)
def test_a_cache_may_hold_everything_up_to_the_last_mark(messages: list[Any], cached: int) -> None:
    assert needs_of(request(messages)).cached_tokens == cached


def test_tools_come_before_the_messages_in_a_cache() -> None:
    tool: dict[str, Any] = {"type": "function", "function": {"name": "x" * 3000}}
    size = needs_of(request("", tools=[tool])).prompt_tokens
    assert size >= 1000
    assert needs_of(request([said(text(300, marked=True))], tools=[tool])).cached_tokens == size + 100
    marked = needs_of(request("x" * 300, tools=[tool, {**tool, **MARK}]))
    assert marked.cached_tokens == marked.prompt_tokens - 100
    assert needs_of(request("x" * 300, tools=[tool])).cached_tokens == 0


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, False),
        ({"reasoning": {"effort": "high"}}, True),
        ({"reasoning": {"max_tokens": 2000}}, True),
        ({"reasoning": {"enabled": True}}, True),
        ({"reasoning": {"enabled": False, "effort": "high"}}, False),
        ({"reasoning": {"effort": "none"}}, False),
        ({"reasoning": {"max_tokens": 0}}, False),
        ({"reasoning": {}}, False),
        ({"reasoning": Message({"effort": "high"})}, True),
        ({"reasoning_effort": "low"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": ""}, False),
    ],
)
def test_reasoning_is_asked_for(params: dict[str, Any], expected: bool) -> None:
    assert needs_of(request(**params)).reasoning is expected


# --- what bounds its cost ---


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (5, 5),
        (0, 0),
        (-5, 0),
        (10**20, MAX_COUNT),
        (True, 0),
        (False, 0),
        (None, 0),
        ([5], 0),
        ({}, 0),
        (2.0, 2),
        (2.1, 3),
        (-2.1, 0),
        (0.0, 0),
        (1e300, MAX_COUNT),
        (float("inf"), 0),
        (float("nan"), 0),
        ("5", 5),
        (" 5 ", 5),
        ("2.1", 3),
        ("-5", 0),
        ("1e3", 1000),
        ("1e400", MAX_COUNT),
        ("1e999999999", 0),
        ("9" * 5000, MAX_COUNT),
        ("1_000", 1000),
        ("٣", 3),
        ("many", 0),
        ("", 0),
        ("NaN", 0),
        ("sNaN", 0),
        ("Infinity", 0),
        ("\ud800", 0),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_the_largest_number_that_a_server_might_read(value: Any, count: int) -> None:
    assert count_of(value) == count


def test_answers_are_counted() -> None:
    assert [needs_of(request(n=n)).choices for n in (1, 3, 2.5, "4", 0, -1, True, "x")] == [1, 3, 3, 4, 1, 1, 1, 1]


def test_addresses_of_images_are_no_text() -> None:
    address = IMAGE["image_url"]["url"]  # type: ignore[index]
    parts = [IMAGE, {"type": "input_image", "image_url": address}]
    parts += [{"type": "input_image", "file_id": "file-1"}, {"type": "image_url", "image_url": {"url": None}}]
    needs = needs_of(request([said(*parts, text(300))]))
    assert (needs.image_data, needs.images, needs.boundless) == (2 * len(address), 4, False)


@pytest.mark.parametrize("part", ["text", "input_text", "output_text", "refusal", "reasoning", "thinking"])
def test_text_has_a_bound(part: str) -> None:
    assert not needs_of(request([said({"type": part, part: "x" * 300}), said("x")])).boundless


@pytest.mark.parametrize(
    "message",
    [
        said({"type": "input_audio"}),
        said({"type": "file"}),
        said({"type": "video_url"}),
        said({"type": "image"}),
        said({"text": "x"}),
        {"role": "user", "content": [5]},
        {"role": "user", "content": 5},
        said("x", images=[IMAGE]),
        said("x", audio={"id": "audio_1"}),
        said("x", annotations=[{}]),
    ],
    ids=str,
)
def test_what_has_no_bound(message: dict[str, Any]) -> None:
    assert needs_of(request([said("x"), message])).boundless


# --- what a model can do ---


def needs(**more: Any) -> Needs:
    return Needs(
        **{"inputs": frozenset({"text"}), "outputs": frozenset(), "parameters": frozenset(), "prompt_tokens": 0, **more}
    )


MODEL = Model(
    "m/m",
    context_length=1000,
    input_modalities=("text", "image"),
    output_modalities=("text",),
    supported_parameters=frozenset({"tools", "temperature"}),
    expiration_date="2026-02-01",
)


@pytest.mark.parametrize(
    ("model", "asked", "reason"),
    [
        (MODEL, needs(), None),
        (MODEL, needs(inputs=frozenset({"text", "image"})), None),
        (MODEL, needs(inputs=frozenset({"text", "video", "audio"})), "does not take audio, video"),
        (MODEL, needs(outputs=frozenset({"image", "text"})), "does not give image"),
        (MODEL, needs(parameters=frozenset({"tools"})), None),
        (MODEL, needs(parameters=frozenset({"tools", "seed", "logprobs"})), "does not support logprobs, seed"),
        (MODEL, needs(prompt_tokens=1000), None),
        (MODEL, needs(prompt_tokens=1001), "its context of 1000 tokens is too small for about 1001"),
        (Model("x/y", output_modalities=("image",)), needs(), "does not give text"),
        (Model("x/y"), needs(inputs=frozenset({"video"}), parameters=frozenset({"seed"}), prompt_tokens=10**9), None),
    ],
)
def test_what_a_model_cannot_do(model: Model, asked: Needs, reason: str | None) -> None:
    assert unfit(model, asked, TODAY) == reason


@pytest.mark.parametrize(
    ("date", "reason"),
    [
        ("2026-01-30", None),
        ("2026-01-29", "expired on 2026-01-29"),
        ("2026-01-28T00:00:00Z", "expired on 2026-01-28"),
        ("2026-01-29T23:00:00Z", "expired on 2026-01-29"),
        ("some day", None),
    ],
)
def test_expired_models_are_left_out(date: str, reason: str | None) -> None:
    assert unfit(Model("x/y", expiration_date=date), needs(), TODAY) == reason


def test_a_list_without_parameters_says_nothing_of_them() -> None:
    bare, empty = Model("a/bare", context_length=9), Model("a/empty", raw={"supported_parameters": []})
    needs = needs_of(request(tools=[{}]))
    assert unfit(bare, needs, TODAY) is None
    assert unfit(empty, needs, TODAY) == "does not support tools"


SILENT = Model("m/silent")
SEES = Model("m/sees", input_modalities=("text", "image"))
DRAWS = Model("m/draws", output_modalities=("text", "image"))
IMAGES = frozenset({"text", "image"})


@pytest.mark.parametrize(
    ("model", "asked", "known"),
    [
        (SILENT, needs(), True),
        (SILENT, needs(outputs=frozenset({"text"})), True),
        (SILENT, needs(parameters=frozenset({"max_tokens", "stop", "temperature", "top_p"})), True),
        (SILENT, needs(parameters=frozenset({"max_tokens", "seed"})), False),
        (SILENT, needs(inputs=IMAGES), False),
        (SILENT, needs(outputs=IMAGES), False),
        (SEES, needs(inputs=IMAGES), True),
        (SEES, needs(outputs=IMAGES), False),
        (DRAWS, needs(outputs=IMAGES), True),
        (DRAWS, needs(inputs=IMAGES), False),
        (SEES, needs(parameters=frozenset({"seed"})), False),
        (MODEL, needs(parameters=frozenset({"seed"})), True),
        (Model("m/none", raw={"supported_parameters": []}), needs(parameters=frozenset({"seed"})), True),
    ],
)
def test_what_a_catalogue_tells_is_enough_or_not(model: Model, asked: Needs, known: bool) -> None:
    """Text, and what any chat model takes, need no word of it."""
    assert tells(model, asked) is known
