"""What users hold: requests as they are checked and written, views on answers, keys, policies, routes, gateways."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import types
from collections import UserDict, UserList
from decimal import Decimal
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routerkit.core.verdict import OK, Signal, classify
from routerkit.errors import ConfigurationError, InvalidRequestError
from routerkit.types.completion import Chunk, Completion, Message, ToolCall
from routerkit.types.gateway import Gateway, checked_url, is_loopback
from routerkit.types.model import Model, Pricing
from routerkit.types.policy import BreakerPolicy, RetryPolicy, Timeouts
from routerkit.types.request import MAX_BODY, PARAMETERS, ChatRequest, checked_headers, checked_model, checked_models
from routerkit.types.route import Attempt, Candidate, Origin, Plan, Route, Skip, Target, Wait
from routerkit.types.secret import Credential, RedactedStr, Secret, origin_of
from routerkit.types.tokens import MAX_TOKENS, Usage, usage_of
from routerkit.types.verdict import Action, Billing

KEY = "sk-test-1234567890"


def build(messages: Any = "Hello", params: dict[str, Any] | None = None, **more: Any) -> ChatRequest:
    defaults: dict[str, Any] = {
        "model": None,
        "fallback_models": None,
        "extra_body": None,
        "extra_headers": None,
        "timeouts": Timeouts(),
        "stream": False,
    }
    return ChatRequest.build(messages, params or {}, **{**defaults, **more})


def sent(request: ChatRequest, model: str = "a/one", **additions: Any) -> dict[str, Any]:
    body = json.loads(request.body(model, **additions))
    assert isinstance(body, dict)
    return body


# --- requests ---


def test_a_string_is_one_user_message() -> None:
    assert sent(build("Hello")) == {"model": "a/one", "messages": [{"role": "user", "content": "Hello"}]}


def test_parameters_are_sent_as_given_and_none_is_not_sent() -> None:
    request = build("x", {"temperature": 0.5, "top_p": None, "tools": []}, extra_body={"top_k_v2": None, "new": 1})
    assert sent(request) == {
        "model": "a/one",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0.5,
        "tools": [],
        "top_k_v2": None,
        "new": 1,
    }


def test_streams_ask_for_their_usage() -> None:
    assert sent(build(stream=True))["stream"] is True
    assert sent(build(stream=True))["stream_options"] == {"include_usage": True}
    assert sent(build("x", {"stream_options": {}}, stream=True))["stream_options"] == {}
    assert "stream" not in sent(build())


def test_what_is_put_in_stands_beside_the_rest() -> None:
    body = build("x", {"top_p": 1}).body("a/one", b',"usage":{"include":true}')
    assert orjson.loads(body)["usage"] == {"include": True}
    assert orjson.loads(body)["top_p"] == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_know_are_refused(value: float) -> None:
    with pytest.raises(InvalidRequestError, match=r"temperature=.*not a number that JSON knows"):
        build("x", {"temperature": value})


@pytest.mark.parametrize("model", ['"', "\\", "a\nb", 'x","max_tokens":9,"y":"', "ä/ö", "/srv/model.gguf"])
def test_whatever_a_catalogue_calls_its_models_the_request_is_json(model: str) -> None:
    assert sent(build(), model) == {"model": model, "messages": [{"role": "user", "content": "Hello"}]}


def test_messages_may_be_any_mappings_and_views() -> None:
    answer = Message({"role": "assistant", "content": "Hi", "unknown": 1})
    messages = [
        UserDict(role="system", content="s"),
        types.MappingProxyType({"role": "user", "content": ("a",)}),
        answer,
    ]
    assert sent(build(messages))["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": ["a"]},
        {"role": "assistant", "content": "Hi", "unknown": 1},
    ]
    assert len(sent(build(UserList([{"role": "user", "content": "x"}])))["messages"]) == 1
    assert len(sent(build(({"role": "user", "content": "x"},)))["messages"]) == 1


def test_parameters_may_hold_any_mappings_and_sequences() -> None:
    bias, tools = types.MappingProxyType({"1": 2}), UserList([UserDict(a=1), {"b": frozenset({1})}])
    request = build("x", {"stop": ("a", "b"), "logit_bias": bias, "tools": tools})
    body = sent(request)
    assert (body["stop"], body["logit_bias"], body["tools"]) == (["a", "b"], {"1": 2}, [{"a": 1}, {"b": [1]}])


def test_a_request_is_written_once() -> None:
    messages = [{"role": "user", "content": "before"}]
    request = build(messages)
    messages[0]["content"] = "after"
    assert sent(request)["messages"][0]["content"] == "before"


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([], "the list is empty"),
        (None, "not NoneType"),
        (5, "not int"),
        (b"Hello", "not bytes"),
        ({"role": "user", "content": "x"}, "not dict"),
        (iter([]), "must be a string or a list"),
        (["Hello"], r"messages\[0\]: must be a dict with a 'role'"),
        ([{"role": "user"}, {"content": "x"}], r"messages\[1\]"),
        ([{"role": None}], r"messages\[0\]"),
        ([{"role": "user", "content": {1, 2}}, object()], r"messages\[1\]"),
        ([{"role": "user", "content": object()}], "cannot be written as JSON: "),
        ([{"role": "user", "content": b"x"}], "cannot be written as JSON: "),
        ([{"role": "user", "content": "\ud800"}], "cannot be written as JSON: "),
        ([{"role": "user", "content": 2**70}], "cannot be written as JSON: "),
        ("x" * MAX_BODY, "bytes; at most"),
    ],
)
def test_refused_messages(messages: Any, told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told) as caught:
        build(messages)
    assert len(str(caught.value)) < 300, "a prompt has no place in a message"


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"temprature": 1}, "unknown parameter 'temprature': did you mean 'temperature'"),
        ({"xyzzy": 1}, r"unknown parameter 'xyzzy': what routerkit does not know goes into extra_body=\{'xyzzy': …\}"),
        ({"xyzzy": None}, "unknown parameter"),
        (
            {"strategy": "round_robin"},
            r"strategy= is no parameter of a call.*: client\.with_options\(strategy=…\) makes",
        ),
        ({"limits": None}, r"limits= is no parameter of a call, but one of the client: Client\(limits=…\)$"),
        ({"stream": True}, r"unknown parameter 'stream': client\.stream"),
        ({"tenant": "acme"}, r"client\.tenant\(name\)\.complete"),
    ],
)
def test_unknown_parameters(params: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        build("x", params)


def test_each_option_of_clients_that_is_no_parameter_says_where_it_belongs() -> None:
    from routerkit.config import ChangeableOptions, Options
    from routerkit.types.request import _OF_CLIENTS, PARAMETERS, CallOptions

    changeable, fixed, _ = _OF_CLIENTS.values()
    assert changeable == {*ChangeableOptions.__annotations__} - {*CallOptions.__annotations__}
    assert fixed == {*Options.__annotations__} - {*ChangeableOptions.__annotations__} - PARAMETERS


@pytest.mark.parametrize("name", ["model", "messages", "stream"])
def test_what_has_its_own_argument(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"extra_body: '{name}' has its own argument"):
        build("x", extra_body={name: 1})


def test_an_extra_body_of_the_wrong_type() -> None:
    with pytest.raises(InvalidRequestError, match="extra_body"):
        build("x", extra_body=[("a", 1)])


def test_the_calls_deadline() -> None:
    assert build().total == 120
    assert build(stream=True).total == 600
    assert build(stream=True, timeouts=Timeouts(total=7)).total == 7


def test_a_request_shows_no_content() -> None:
    shown = repr(build("my secret", {"user": "me"}, extra_headers={"X-Me": "me too"}))
    assert "secret" not in shown
    assert "me" not in shown.replace("timeouts", "").replace("Timeouts", "")


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "openai/gpt-4o",
        "~x/y:free",
        "claude@20240620",
        "a" * 200,
        "x+y_z.1",
        "/srv/model.gguf",
        "@cf/a/b",
        "a..b",
    ],
)
def test_model_ids(model: str) -> None:
    assert checked_model(model) == model


@pytest.mark.parametrize(
    "model", ["", " ", "a b", "a\n", '"', "a" * 201, "../x", "/a/../x", "a/..", "ä", None, 5, b"a", ["a"]]
)
def test_what_is_no_model_id(model: Any) -> None:
    with pytest.raises(InvalidRequestError, match="not a model id") as caught:
        checked_model(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["{}", "{} ", "[{}]"])
def test_a_key_in_the_place_of_a_model_is_refused_and_not_repeated(form: str) -> None:
    text = form.format("sk-or-v1-" + "a" * 64)
    for check in (checked_model, checked_models, lambda model: checked_models([model])):
        with pytest.raises(InvalidRequestError) as caught:
            check(text)
        assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("models", ["a/one", None, 5, [None], ["a b"], {"a": 1}.values()])
def test_lists_of_models(models: Any) -> None:
    assert checked_models(name for name in ("a", "b")) == ("a", "b")
    with pytest.raises(InvalidRequestError):
        checked_models(models)


def test_extra_headers() -> None:
    assert checked_headers({"X-Trace": "abc", "x-empty": ""}) == {"X-Trace": "abc", "x-empty": ""}


@pytest.mark.parametrize(
    "headers",
    [
        *(
            {name: "x"}
            for name in ("Authorization", "AUTHORIZATION", "Host", "Content-Length", "Transfer-Encoding", "Cookie")
        ),
        *({name: "x"} for name in ("", "a b", "a:b", "a\r\nb", "ä")),
        *({"X-A": value} for value in ("a\r\nb", "a\n", "ä", "\x00", " a", "a ", "x" * 1025, None, 5)),
        {5: "x"},
        [("X-A", "x")],
        "X-A: x",
    ],
    ids=repr,
)
def test_refused_headers(headers: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        checked_headers(headers)
    assert str(caught.value).isprintable()


def test_every_parameter_can_be_left_out() -> None:
    assert sent(build("x", dict.fromkeys(PARAMETERS))) == sent(build("x"))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_arrives(text: str) -> None:
    assert sent(build(text))["messages"][0]["content"] == text


# --- views ---

RAW: dict[str, Any] = {
    "id": "gen-1",
    "model": "a/one-2026",
    "created": 7,
    "provider": "P",
    "service_tier": "unknown to us",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "native_finish_reason": "TOOL",
            "message": {
                "role": "assistant",
                "content": "Hello",
                "reasoning": "Hm",
                "refusal": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
        }
    ],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "cost": 0.00012,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1, "audio_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 6},
    },
}


def completion(raw: dict[str, Any]) -> Completion:
    return Completion(raw, model="a/one", gateway="openrouter", route=Route())


def test_a_completion() -> None:
    answer = completion(RAW)
    assert (answer.text, answer.model, answer.gateway, answer.id) == ("Hello", "a/one-2026", "openrouter", "gen-1")
    assert (answer.created, answer.provider, answer.finish_reason) == (7, "P", "tool_calls")
    assert (answer.reasoning, answer.refusal, answer.mock) == ("Hm", None, False)
    assert (answer.cost, answer.cost_source) == (None, "unknown")
    assert (answer.choices[0].message.content, answer.message.role) == ("Hello", "assistant")
    assert (answer.choices[0].index, answer.choices[0].native_finish_reason) == (0, "TOOL")
    call = answer.tool_calls[0]
    assert (call.id, call.type, call.function.name, call.function.arguments) == ("1", "function", "f", "{}")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 3, 12)
    assert (usage.cached_tokens, usage.reasoning_tokens, usage.cost) == (4, 2, Decimal("0.00012"))
    assert (usage.cache_write_tokens, usage.audio_tokens, usage.completion_audio_tokens) == (1, 5, 6)
    assert answer.raw is RAW is answer.to_dict()
    assert answer.raw["service_tier"] == "unknown to us"


def test_an_answer_without_anything() -> None:
    answer = completion({})
    assert (answer.text, answer.model, answer.id, answer.choices, answer.tool_calls) == ("", "a/one", None, [], [])
    assert (answer.finish_reason, answer.created, answer.reasoning, answer.message.role) == (None, None, None, None)
    assert (answer.usage.known, answer.usage.total_tokens, answer.usage.cost) == (False, 0, None)


def test_fields_of_the_wrong_type_read_as_missing() -> None:
    wrong = {
        "id": 5,
        "model": [],
        "created": True,
        "choices": [None, "x", {"message": "x", "finish_reason": 5}],
        "usage": 5,
    }
    answer = completion(wrong)
    assert (answer.id, answer.model, answer.created, answer.finish_reason) == (None, "a/one", None, None)
    assert (len(answer.choices), answer.text, answer.usage.total_tokens) == (1, "", 0)
    message = Message({"content": 5, "tool_calls": [5, {"function": "f", "id": 5, "type": 5, "index": "x"}]})
    call = message.tool_calls[0]
    assert (message.content, call.id, call.type, call.index) == (None, None, "function", 0)
    assert (call.function.name, call.function.arguments) == (None, "")


def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "Hel"}, None, {"type": "image_url"}, {"text": 5}, {"text": "lo"}]
    assert Message({"content": parts}).content == "Hello"
    assert Chunk({"choices": [{"delta": {"content": parts}}]}).text == "Hello"


def test_the_other_name_of_reasoning() -> None:
    assert Message({"reasoning_content": "Hm"}).reasoning == "Hm"


def test_a_chunk() -> None:
    delta = {"content": "Hel", "reasoning": "Hm", "tool_calls": [{"index": 1, "function": {"arguments": "{"}}]}
    chunk = Chunk({"model": "a/one", "choices": [{"delta": delta, "finish_reason": None}]})
    assert (chunk.text, chunk.reasoning, chunk.tool_calls[0].index) == ("Hel", "Hm", 1)
    assert (chunk.model, chunk.choices[0].delta.content) == ("a/one", "Hel")
    for raw in (
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"delta": None}]},
        {"choices": 5},
    ):
        assert (Chunk(raw).text, Chunk(raw).reasoning, Chunk(raw).tool_calls) == ("", "", [])


@pytest.mark.parametrize(
    ("raw", "known", "total"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 2}, True, 3),
        ({"prompt_tokens": 1}, False, 1),
        ({"prompt_tokens": -1, "completion_tokens": 2}, False, 2),
        ({"prompt_tokens": True, "completion_tokens": 1.5}, False, 0),
        ({"total_tokens": 5}, False, 5),
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 5}, True, 30),  # less than its parts
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 50}, True, 50),
    ],
)
def test_counts(raw: dict[str, Any], known: bool, total: int) -> None:
    assert (Usage(raw).known, Usage(raw).total_tokens) == (known, total)


@pytest.mark.parametrize(
    ("raw", "read", "written"),
    [
        # DeepSeek's names.
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5}, 4, 0),
        # Anthropic's names.
        ({"prompt_tokens": 9, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3}, 4, 3),
        # Of two figures, OpenAI's.
        (
            {
                "prompt_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 8},
                "prompt_cache_hit_tokens": 4,
                "cache_read_input_tokens": 5,
                "cache_creation_input_tokens": 3,
            },
            7,
            8,
        ),
        ({"prompt_tokens_details": None, "prompt_cache_hit_tokens": "4", "cache_creation_input_tokens": -1}, 0, 0),
        ({"prompt_tokens_details": {"cached_tokens": MAX_TOKENS + 1}, "cache_read_input_tokens": 1e6}, 0, 0),
    ],
)
def test_cached_tokens_by_any_name(raw: dict[str, Any], read: int, written: int) -> None:
    assert (Usage(raw).cached_tokens, Usage(raw).cache_write_tokens) == (read, written)


@pytest.mark.parametrize(
    "details", [None, 5, [], {}, {"audio_tokens": None}, {"audio_tokens": "5"}, {"audio_tokens": True}]
)
def test_details_that_are_none(details: Any) -> None:
    usage = Usage({"prompt_tokens_details": details, "completion_tokens_details": details})
    assert (usage.audio_tokens, usage.completion_audio_tokens, usage.reasoning_tokens) == (0, 0, 0)


def test_a_cost_beside_the_usage() -> None:
    """As Infron AI's last chunk has it (infron.ai/docs, "Get cost and usage details")."""
    raw = {"choices": [], "cost": 0.000129, "cost_details": {"prompt_cost": 2e-7}, "usage": {"prompt_tokens": 163}}
    assert Chunk(raw).usage.cost == completion(raw).usage.cost == usage_of(raw).cost == Decimal("0.000129")
    assert Chunk(raw).usage.to_dict() == {"prompt_tokens": 163}
    assert usage_of({"cost": 0.5}).cost == usage_of({"cost": 0.5, "usage": "?"}).cost == Decimal("0.5")
    assert usage_of({"cost": 0.5, "usage": {"cost": 0}}).cost == 0
    assert usage_of({"cost": 0.5, "usage": {"cost": -1}}).cost == Decimal("0.5")
    assert usage_of({"cost": {"total": 1}, "usage": {}}).cost is None
    twin = pickle.loads(pickle.dumps(usage_of(raw)))
    assert twin.cost == Decimal("0.000129")


@pytest.mark.parametrize(
    "cost",
    [
        *(None, -0.1, float("nan"), float("inf"), 1e9, 1e-16, 5e-324, True, [], 10**400),
        *("", "-0.1", "$0.1", "0,1", "NaN", "1e10", "1e400", "1e-16", "1e999999999", "0.1 ", "٠.١"),
    ],
    ids=lambda cost: repr(cost)[:10],
)
def test_costs_that_are_none(cost: Any) -> None:
    assert Usage({"cost": cost}).cost is None


@pytest.mark.parametrize(
    ("cost", "usd"),
    [
        *((1, "1"), (0.00012, "0.00012"), (1e-15, "1E-15"), (0, "0"), (0.0, "0"), (-0.0, "0")),
        *(("0.00012", "0.00012"), ("1.2e-4", "0.00012"), ("5", "5"), ("0.0", "0"), ("0.1234567890123456789", None)),
    ],
)
def test_costs_as_numbers_and_as_their_words(cost: Any, usd: str | None) -> None:
    told = Usage({"cost": cost}).cost
    assert told == Decimal(usd or cost)
    assert not told.is_signed()


@pytest.mark.parametrize(
    ("told", "usd"),
    [
        # As seen: OpenRouter charges nothing or a fee, the provider sends its own bill.
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.0360795}}, "0.0360795"),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, "0.021"),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0}}, "0"),
        # Without the bill, nobody knows the half of it.
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": -1}}, None),
        ({"cost": 0.001, "is_byok": True}, None),
        ({"cost": None, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, None),
        # With OpenRouter's own keys the provider's bill is in its cost.
        ({"cost": 0.02, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.019}}, "0.02"),
        ({"cost": 0.02, "cost_details": {"upstream_inference_cost": 0.019}}, "0.02"),
        ({"cost": 0.02, "is_byok": "yes", "cost_details": {"upstream_inference_cost": 0.019}}, "0.02"),
    ],
)
def test_with_a_providers_own_key_its_bill_is_part_of_the_cost(told: dict[str, Any], usd: str | None) -> None:
    assert Usage(told).cost == (None if usd is None else Decimal(usd))


@pytest.mark.parametrize(
    ("prompt", "completion", "total", "reasoning", "answer"),
    [
        (32, 9, 135, 94, 103),  # xAI's own example: reasoning stands beside the completion
        (32, 103, 135, 94, 103),  # OpenAI's way: within
        (32, 9, None, 94, 9),  # nobody tells
        (32, 9, 41, 94, 9),
        (32, 9, 135, 0, 9),  # more in all, and nobody tells of what
    ],
)
def test_reasoning_beside_the_completion(
    prompt: int, completion: int, total: int | None, reasoning: int, answer: int
) -> None:
    told = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    usage = Usage({**told, "completion_tokens_details": {"reasoning_tokens": reasoning}})
    assert (usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens) == (prompt, answer, reasoning)
    assert usage.raw["completion_tokens"] == completion


def test_details_by_openais_names() -> None:
    usage = Usage(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 2, "audio_tokens": 3},
            "completion_tokens_details": {
                "reasoning_tokens": 4,
                "audio_tokens": 5,
                "image_tokens": 6,
                "accepted_prediction_tokens": 7,
                "rejected_prediction_tokens": -8,
            },
        }
    )
    prompt, answer = usage.prompt_tokens_details, usage.completion_tokens_details
    assert (prompt.cached_tokens, prompt.cache_write_tokens, prompt.audio_tokens) == (1, 2, 3)
    assert (answer.reasoning_tokens, answer.audio_tokens, answer.image_tokens) == (4, 5, 6)
    assert (answer.accepted_prediction_tokens, answer.rejected_prediction_tokens) == (7, 0)
    assert Usage({}).prompt_tokens_details.cached_tokens == Usage({}).completion_tokens_details.reasoning_tokens == 0
    assert usage.counts() == (100, 50, 1, 2, 4, 3, 5)


def test_a_usage_that_says_nothing_is_false() -> None:
    """So ``if chunk.usage:`` finds the chunk that has it."""
    chunks = [Chunk({"choices": []}), Chunk({"usage": None}), Chunk({"usage": {}}), Chunk({"usage": {"cost": 0}})]
    assert [bool(chunk.usage) for chunk in [*chunks, Chunk({"cost": 0.5})]] == [False, False, False, True, True]


def test_fields_without_a_name_of_their_own_are_there_as_they_were_sent() -> None:
    message = Message({"content": "x", "annotations": [{"type": "url_citation"}], "_hidden": 1})
    assert message.annotations == [{"type": "url_citation"}]  # type: ignore[attr-defined]
    assert not hasattr(message, "_hidden")
    assert not hasattr(Message.__new__(Message), "content")
    with pytest.raises(AttributeError, match=r"^Message has no 'anotations'; what the gateway sent is in \.raw$"):
        message.anotations  # type: ignore[attr-defined]  # noqa: B018


def test_views_are_equal_when_what_they_show_is() -> None:
    assert Message({"a": 1}) == Message({"a": 1}) != Message({"a": 2})
    assert Message({}) != ToolCall({})
    assert Message({}) != {}
    with pytest.raises(TypeError):
        hash(Message({}))


def test_views_show_no_text() -> None:
    answer = completion(RAW)
    for view in (answer, answer.message, answer.choices[0], answer.usage, answer.tool_calls[0], Chunk(RAW)):
        assert "Hello" not in repr(view)
        assert "Hm" not in repr(view)


def test_views_survive_pickling_and_copying() -> None:
    answer = completion(RAW)
    for twin in (pickle.loads(pickle.dumps(answer)), copy.deepcopy(answer)):
        assert twin == answer
        assert (twin.model, twin.gateway, twin.route) == (answer.model, "openrouter", Route())
    assert pickle.loads(pickle.dumps(Chunk(RAW))) == Chunk(RAW)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from([*RAW, *RAW["choices"][0], *RAW["usage"], "delta", "content"]), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*RAW, "cost"]), _JSON))
def test_any_dict_can_be_looked_at(raw: dict[str, Any]) -> None:
    for view in (completion(raw), Chunk(raw)):
        assert isinstance(view.text, str)
        for name in dir(type(view)):
            if not name.startswith("_"):
                getattr(view, name)
        repr(view)
        usage = view.usage
        counts = (usage.cached_tokens, usage.cache_write_tokens, usage.audio_tokens, usage.completion_audio_tokens)
        assert all(type(count) is int and 0 <= count <= MAX_TOKENS for count in counts)
        assert usage.cost is None or 0 <= usage.cost < 10**9
        for choice in view.choices:
            assert choice.message.content is None or isinstance(choice.message.content, str)
            assert choice.index >= 0


# --- keys ---


def test_a_secret_shows_its_fingerprint_only() -> None:
    secret = Secret(f"  {KEY}\n")
    assert secret.reveal() == KEY
    for shown in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>40}",
        repr([secret]),
        f"{secret!r}",
    ):
        assert KEY not in shown
        assert secret.fingerprint in shown
    assert len(secret.fingerprint) == 6
    assert secret.digest == hashlib.sha256(KEY.encode()).hexdigest()
    assert secret.digest.startswith(secret.fingerprint)
    assert secret.digest not in repr(secret)


def test_secrets_compare_and_do_not_travel() -> None:
    assert Secret(KEY) == Secret(KEY) != Secret(KEY + "1")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY)}) == 1
    credential = Credential(Secret(KEY), "https://example.com/v1")
    for thing in (Secret(KEY), credential):
        for carry in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled or copied"):
                carry(thing)
        assert not hasattr(thing, "__dict__")


@pytest.mark.parametrize(
    "text", ["", " ", "x" * 513, "sk-test 1234567890", "sk-test\n1234567890", "sk-tést-1234567890"]
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="1 to 512 printable ASCII") as caught:
        Secret(text)
    assert not text.strip() or text not in str(caught.value)


def test_a_word_is_no_key_whose_letters_are_left_out_of_texts() -> None:
    """Servers on one's own machine are content with any."""
    for word in ("k", "test", "ollama", "1234567"):
        assert Secret(word).short
        assert Secret(word).conceal(f"the {word} of it") == f"the {word} of it"
    for key in ("sk-1234", "12345678"):
        assert Secret(key).conceal(f"the {key} of it") == "the <redacted> of it"
    assert not Secret("12345678").short


def test_a_credential_is_bound_to_its_origin() -> None:
    credential = Credential(Secret(KEY), "https://Example.com/v1")
    assert credential.origin == "https://example.com:443"
    assert credential.header == f"Bearer {KEY}"
    assert KEY not in repr(credential)
    assert KEY not in repr({"Authorization": credential.header})
    assert isinstance(credential.header, RedactedStr)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://a.example/x", "https://a.example:443"),
        ("https://a.example:443/", "https://a.example:443"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("http://localhost", "http://localhost:80"),
        ("http://[::1]:9/v1", "http://[::1]:9"),
        ("HTTPS://A.EXAMPLE/", "https://a.example:443"),
    ],
)
def test_origins(url: str, origin: str) -> None:
    assert origin_of(url) == origin


# --- policies ---


def test_the_default_clocks() -> None:
    clocks = Timeouts()
    assert attrs.astuple(clocks) == (5, 30, 45, 20, 120, 120, 600)


def test_a_number_is_the_total_of_both() -> None:
    assert Timeouts.of(7) == Timeouts(total=7) == Timeouts(total=7, stream_total=7)
    assert Timeouts.of(None) == Timeouts()
    assert Timeouts.of(Timeouts(connect=1)) == Timeouts(connect=1)
    assert Timeouts(total=7, stream_total=70).stream_total == 70
    assert attrs.evolve(Timeouts(total=7), connect=1) == Timeouts(connect=1, total=7)


@pytest.mark.parametrize(
    "value", [0, -1, float("inf"), float("nan"), 86_401, True, "5", [], 10**400], ids=lambda value: repr(value)[:10]
)
def test_refused_clocks(value: Any) -> None:
    for name in ("connect", "first_byte", "first_token", "idle", "content_idle", "total", "stream_total"):
        with pytest.raises(ConfigurationError, match=rf"Timeouts\({name}="):
            Timeouts(**{name: value})
    with pytest.raises(ConfigurationError):
        Timeouts.of(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryPolicy(max_attempts=0),
        lambda: RetryPolicy(max_attempts=11),
        lambda: RetryPolicy(max_attempts=2.0),
        lambda: RetryPolicy(max_same_target=0),
        lambda: RetryPolicy(backoff_base=-1),
        lambda: RetryPolicy(backoff_max=float("inf")),
        lambda: RetryPolicy(jitter=1.1),
        lambda: RetryPolicy(jitter=True),
        lambda: RetryPolicy(budget=-1),
        lambda: RetryPolicy(max_sleep=-1),
        lambda: BreakerPolicy(window=0),
        lambda: BreakerPolicy(min_samples=0.5),
        lambda: BreakerPolicy(failure_rate=0),
        lambda: BreakerPolicy(failure_rate=1.01),
        lambda: BreakerPolicy(fast_trip=0),
        lambda: BreakerPolicy(open_seconds=0),
        lambda: BreakerPolicy(lease=0),
        lambda: BreakerPolicy(enabled="false"),
        lambda: attrs.evolve(RetryPolicy(), max_attempts=99),
    ],
)
def test_refused_policies(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be"):
        make()


def test_values_are_frozen() -> None:
    for value in (Timeouts(), RetryPolicy(), BreakerPolicy(), Route(), Plan(), OK, Model("a/one")):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, attrs.fields(type(value))[0].name, None)


# --- gateways ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://openrouter.ai/api/v1/", "https://openrouter.ai/api/v1"),
        (" https://Example.COM:8443/V1 ", "https://example.com:8443/V1"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://LOCALHOST/v1", "http://localhost/v1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("https://[2001:db8::1]/v1", "https://[2001:db8::1]/v1"),
    ],
)
def test_urls(url: str, expected: str) -> None:
    assert checked_url(url) == expected


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://example.com/v1", "would send the key in the clear to example.com"),
        ("http://10.0.0.1/v1", "in the clear"),
        ("http://[::2]/v1", "in the clear"),
        ("http://127.0.0.1.evil.example/v1", "in the clear"),
        ("http://localhost.evil.example/v1", "in the clear"),
        ("http://2130706433/v1", "four decimal numbers"),
        ("https://me:hunter22@example.com/v1", "must not hold a user or password"),
        ("https://hunter22@example.com/v1", "must not hold a user or password"),
        ("http://127.0.0.1:80@evil.example/v1", "must not hold a user or password"),
        ("https://example.com/v1?key=hunter22", "must not have a query or fragment"),
        ("https://example.com/v1#hunter22", "must not have a query or fragment"),
        ("https://example.com\\@evil.example/v1", "printable ASCII"),
        ("https://exa mple.com/v1", "printable ASCII"),
        ("https://example.com/\x00", "printable ASCII"),
        ("https://exämple.com/v1", "printable ASCII"),
        ("https://example.com/v1\nHost: evil", "printable ASCII"),
        ("", "printable ASCII"),
        (None, "printable ASCII"),
        (b"https://example.com", "printable ASCII"),
        ("openrouter.ai/api/v1", "must begin with https://"),
        ("ftp://example.com", "must begin with https://"),
        ("file:///etc/passwd", "must begin with https://"),
        ("https://", "must begin with https://"),
        ("https:///v1", "must begin with https://"),
        ("https://example.com:99999/v1", "host or port is not valid"),
        ("https://example.com:http/v1", "host or port is not valid"),
        ("https://[::1/v1", "host or port is not valid"),
    ],
)
def test_refused_urls(url: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"base_url: .*{told}") as caught:
        checked_url(url)
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("example.com", False), ("", False)],
)
def test_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_gateway() -> None:
    gateway = Gateway(name="local", base_url="http://127.0.0.1:8080/v1/")
    assert gateway.chat_url == "http://127.0.0.1:8080/v1/chat/completions"
    assert gateway.catalog_url == "http://127.0.0.1:8080/v1/models"
    assert not gateway.key_required


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\n", "x" * 101, None, 5])
def test_refused_gateway_names(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="Gateway"):
        Gateway(name=name, base_url="https://example.com")


# --- prices and routes ---


def test_prices_known_and_free() -> None:
    zero, one = Decimal(0), Decimal(1)
    assert not Pricing().known
    assert not Pricing(prompt=zero).known
    assert not Pricing(prompt=zero).free
    assert Pricing(prompt=zero, completion=zero).free
    assert not Pricing(prompt=zero, completion=zero, request=one).free
    assert Pricing(prompt=zero, completion=one).known


A, B = Target("openrouter", "a/one"), Target("openrouter", "b/two")


def test_a_route_as_json() -> None:
    limited = classify(Signal(status=429, headers={"retry-after": "7"}))
    route = Route(
        attempts=(
            Attempt(A, Origin.REQUESTED, limited, 0.0, 0.25, 429, "slow down", "req-1"),
            Attempt(B, Origin.FALLBACK, OK, 0.25, 1.0, 200, first_token=0.5),
        ),
        skipped=(Skip(Target("openrouter", "c/three"), Origin.CATALOG, "its price is unknown", 3.0),),
        waits=(Wait(0.5, "backoff"),),
        duration=1.75,
        cost=Decimal("0.00012"),
        billing=Billing.CONFIRMED,
    )
    assert route.models == ("a/one", "b/two")
    told = json.loads(json.dumps(route.to_dict()))
    assert told["attempts"][0] == {
        "model": "a/one",
        "gateway": "openrouter",
        "origin": "requested",
        "status": 429,
        "verdict": "rate_limited",
        "billing": "none",
        "started": 0.0,
        "duration": 0.25,
        "retry_after": 7.0,
        "request_id": "req-1",
    }
    assert told["attempts"][1]["verdict"] == "ok"
    assert told["skipped"] == [
        {
            "model": "c/three",
            "gateway": "openrouter",
            "origin": "catalog",
            "reason": "its price is unknown",
            "retry_after": 3.0,
        }
    ]
    assert told["waits"] == [{"seconds": 0.5, "reason": "backoff"}]
    assert (told["duration"], told["cost"], told["billing"]) == (1.75, "0.00012", "confirmed")
    assert pickle.loads(pickle.dumps(route)) == route
    assert str(route).splitlines() == [
        "1. a/one on openrouter: rate_limited (HTTP 429), 0.25 s",
        "2. b/two on openrouter: ok (HTTP 200), 1.00 s",
        "-  c/three on openrouter: its price is unknown",
        "   waited 0.50 s: backoff",
    ]


def test_an_empty_route() -> None:
    assert Route().to_dict() == {
        "attempts": [],
        "skipped": [],
        "waits": [],
        "duration": 0.0,
        "cost": None,
        "billing": "none",
        "degraded": [],
        "targets": [],
    }
    assert str(Route()) == "nothing was asked"


def test_words_are_their_own_text() -> None:
    assert f"{Action.NEXT_MODEL}" == str(Action.NEXT_MODEL) == "next_model" == Action.NEXT_MODEL
    assert json.dumps(Action.NEXT_MODEL) == '"next_model"'
    assert str(OK) == "ok"
    assert str(A) == "a/one on openrouter"
    assert Candidate(A, Origin.DEFAULT, "x").gateway == "openrouter"
