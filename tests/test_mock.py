"""What dev mode answers: made up of the request alone, always the same, and in the shape that a gateway gives."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from typing import Any

import pytest

from routerkit.core.answer import assemble, judge
from routerkit.core.json_schema import UnsatisfiableSchemaError
from routerkit.core.listing import parse_catalog
from routerkit.core.mock import QUOTED, chunks, completion, error
from routerkit.core.verdict import Signal, classify
from routerkit.core.verdict_table import Ending
from routerkit.testing.replies import catalog_model
from routerkit.types.model import Model
from routerkit.types.tokens import Usage

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "time"}}
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 7}}, "required": ["age"]}


def asked(content: Any = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": "a/one", "messages": [{"role": "user", "content": content}], **more}


def said(request: dict[str, Any], **more: Any) -> str:
    text = completion(request, None, **more)["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def called(request: dict[str, Any]) -> tuple[str, Any] | None:
    """The function that is called, and with what."""
    choice = completion(request, None)["choices"][0]
    if choice["finish_reason"] != "tool_calls":
        assert choice["finish_reason"] == "stop"
        assert "tool_calls" not in choice["message"]
        return None
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    return call["function"]["name"], json.loads(call["function"]["arguments"])


def priced(**prices: str) -> Model:
    ((model,), _) = parse_catalog([catalog_model("a/one", pricing=prices)])
    return model


# --- the text ---


def test_the_answer_says_that_it_is_none_and_what_was_asked() -> None:
    assert said(asked("How are you?")) == "[mock a/one] You said: How are you?"


def test_the_same_request_gets_the_same_answer() -> None:
    assert completion(asked(), None) == completion(copy.deepcopy(asked()), None)


def test_a_text_of_ones_own() -> None:
    assert said(asked(tools=[WEATHER]), text="Mine") == "Mine"


def test_the_last_message_is_quoted_without_its_media() -> None:
    parts = [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "data:"}}, "no part"]
    assert said(asked(parts)).endswith("You said: Look: <image_url>")


def test_a_message_without_content() -> None:
    assert said(asked(None)) == "[mock a/one] You said: "


def test_a_long_prompt_is_cut() -> None:
    assert said(asked("x" * (QUOTED + 1))).endswith(": " + "x" * QUOTED)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_cuts_the_answer(name: str) -> None:
    answer = completion(asked("x" * 100, **{name: 5}), None)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert len(answer["choices"][0]["message"]["content"]) == 20
    assert answer["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("limit", [0, -1, "5", None, 1000])
def test_other_limits_do_not(limit: Any) -> None:
    assert completion(asked(max_tokens=limit), None)["choices"][0]["finish_reason"] == "stop"


def test_a_call_of_a_tool_is_never_cut() -> None:
    answer = completion(asked(tools=[WEATHER], max_tokens=1), None)
    assert answer["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(("wanted", "count"), [(3, 3), (16, 16), (17, 1), (0, 1), ("2", 1), (None, 1)])
def test_several_choices(wanted: Any, count: int) -> None:
    answer = completion(asked(n=wanted), None)
    assert [choice["index"] for choice in answer["choices"]] == list(range(count))
    assert answer["usage"]["completion_tokens"] == 7 * count


# --- structured answers ---


def test_a_json_object() -> None:
    assert json.loads(said(asked(response_format={"type": "json_object"}))) == {"mock": True, "you_said": "Hello"}


def test_a_schema_is_met() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    assert json.loads(said(asked(response_format=form)))["age"] >= 7


def test_a_schema_that_nothing_meets_is_an_error() -> None:
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "integer", "minimum": 2, "maximum": 1}}}
    with pytest.raises(UnsatisfiableSchemaError):
        completion(asked(response_format=form), None)


@pytest.mark.parametrize("wrapped", [{}, {"json_schema": "none"}, {"json_schema": {}}])
def test_without_a_schema_anything_meets_it(wrapped: dict[str, Any]) -> None:
    json.loads(said(asked(response_format={"type": "json_schema", **wrapped})))


@pytest.mark.parametrize("form", [{"type": "text"}, {}, "json_object", None])
def test_no_structure_asked_for(form: Any) -> None:
    assert said(asked(response_format=form)).startswith("[mock")


# --- tools ---


def test_the_first_tool_is_called_with_valid_arguments() -> None:
    name, arguments = called(asked(tools=[WEATHER, TIME])) or ("", {})
    assert name == "weather"
    assert isinstance(arguments["city"], str)


def test_a_tool_without_parameters_gets_an_object() -> None:
    assert called(asked(tools=[TIME])) == ("time", {})


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ({"type": "function", "function": {"name": "time"}}, "time"),
        ({"type": "function", "function": {"name": "unknown"}}, "weather"),
        ({"type": "function"}, "weather"),
        ("required", "weather"),
        ("auto", "weather"),
    ],
)
def test_the_tool_that_is_asked_for(choice: Any, name: str) -> None:
    got = called(asked(tools=[WEATHER, TIME], tool_choice=choice))
    assert got is not None
    assert got[0] == name


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [WEATHER], "tool_choice": "none"},
        {"tools": []},
        {"tools": None},
        {"tools": [{"type": "web_search"}]},
    ],
)
def test_no_tool_to_call(more: dict[str, Any]) -> None:
    assert called(asked(**more)) is None


def test_after_a_tools_answer_comes_the_text() -> None:
    request = asked(tools=[WEATHER])
    request["messages"].append({"role": "tool", "tool_call_id": "call_mock_1", "content": "21 degrees"})
    assert called(request) is None
    assert said(request) == "[mock a/one] You said: 21 degrees"


# --- what it would have cost ---


def test_tokens_are_guessed_from_characters() -> None:
    usage = Usage(completion(asked("12345678"), None)["usage"])
    assert (usage.prompt_tokens, usage.completion_tokens) == (4 + 3, 8)  # the quotes count too
    assert usage.total_tokens == 15
    assert usage.cost is None


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ({"prompt": "0.001", "completion": "0.01"}, Decimal("0.087")),
        ({"prompt": "0.001", "completion": "0"}, Decimal("0.007")),
        ({"prompt": "0", "completion": "0"}, Decimal(0)),
        ({"prompt": "0.001", "completion": "0.01", "request": "0.5"}, Decimal("0.587")),
        ({"prompt": "-1", "completion": "-1"}, None),
    ],
)
def test_the_cost_is_the_catalogues(prices: dict[str, str], cost: Decimal | None) -> None:
    assert Usage(completion(asked("12345678"), priced(**prices))["usage"]).cost == cost


# --- streams ---


@pytest.mark.parametrize(
    "request_",
    [
        asked("A story, please, and not too short a one"),
        asked(None),
        asked("", n=2),
        asked(tools=[WEATHER]),
        asked(response_format={"type": "json_object"}),
    ],
    ids=["text", "nothing said", "two choices", "tool", "json"],
)
def test_the_chunks_add_up_to_the_answer(request_: dict[str, Any]) -> None:
    answer = completion(request_, None)
    pieces = list(chunks(answer))
    together = assemble(pieces)
    for got, want in zip(together["choices"], answer["choices"], strict=True):
        assert got["finish_reason"] == want["finish_reason"]
        assert got["message"].get("content") == (want["message"]["content"] or "")
        calls = [{**call, "index": index} for index, call in enumerate(want["message"].get("tool_calls", []))]
        assert got["message"].get("tool_calls", []) == calls
    assert together["usage"] == answer["usage"]
    assert judge(together) is Ending.OK
    assert {piece["object"] for piece in pieces} == {"chat.completion.chunk"}


def test_a_stream_comes_in_several_pieces() -> None:
    texts = [
        choice["delta"]["content"]
        for piece in chunks(completion(asked("Hello there"), None))
        for choice in piece["choices"]
        if choice["delta"].get("content")
    ]
    assert len(texts) > 4
    assert max(map(len, texts)) <= 12


# --- errors ---


def test_errors_have_the_shape_of_a_gateways() -> None:
    assert classify(Signal(status=429, body=error(429, "slow down"))).code == "rate_limited"
    assert error(400, "no", "context_length_exceeded")["error"] == {"code": "context_length_exceeded", "message": "no"}
    assert error(400, "no", 0)["error"]["code"] == 0
