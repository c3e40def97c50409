"""What counts as an answer, how chunks add up to one, and what it cost."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from routerkit.core.answer import as_chunk, assemble, has_content, judge, told_usage, untold
from routerkit.core.pricing import cost_of
from routerkit.core.verdict_table import Ending
from routerkit.types.completion import Chunk
from routerkit.types.model import Model, Pricing
from routerkit.types.tokens import Usage, usage_of


def body(message: Any = None, reason: Any = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason}], **more}


def said(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


# --- is it an answer? ---

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
JUDGED = [
    (body(said("Hello"), "stop"), Ending.OK),
    (body(said("Hello")), Ending.OK),
    (body(said("Hello"), "stop", error=None), Ending.OK),
    ({"choices": [{"message": said("Hello"), "error": None}]}, Ending.OK),
    (body(said([{"type": "text", "text": "Hello"}]), "stop"), Ending.OK),
    ({"choices": [{"text": "Hello"}]}, Ending.OK),
    ({"choices": [{"message": said("")}, {"message": said("Hello")}]}, Ending.OK),
    *((body({"content": None, name: "x"}), Ending.OK) for name in ("refusal", "reasoning", "reasoning_content")),
    *((body({"content": "", name: [{}]}), Ending.OK) for name in ("tool_calls", "reasoning_details", "images")),
    (body({"content": None, "function_call": {"name": "f"}}), Ending.OK),
    (body({"content": None, "audio": {"data": "AAAA"}}), Ending.OK),
    # without content, but nobody else would do better
    *((body(said(""), reason), Ending.OK) for reason in ("length", "tool_calls", "function_call", "content_filter")),
    (body(said(None), "length", usage={"completion_tokens": 0}), Ending.OK),
    (body(said(""), "stop"), Ending.OK),
    (body(said(""), "stop", usage={"completion_tokens": 5}), Ending.OK),
    # empty
    (body(said(""), "stop", usage={"completion_tokens": 0}), Ending.EMPTY),
    (body(said("")), Ending.EMPTY),
    (body(said(None), ""), Ending.EMPTY),
    (body(None), Ending.EMPTY),
    (body("text"), Ending.EMPTY),
    ({"choices": []}, Ending.EMPTY),
    ({"choices": None}, Ending.EMPTY),
    ({"choices": [None, "x"]}, Ending.EMPTY),
    ({}, Ending.EMPTY),
    # failed
    (body(said("Once upon"), "error"), Ending.GENERATION_FAILED),
    (body(said(""), "error"), Ending.GENERATION_FAILED),
    (body(said("Hello"), "stop", error={"code": 500}), Ending.GENERATION_FAILED),
    (body(said("Hello"), "stop", error="broken"), Ending.GENERATION_FAILED),
    ({"choices": [{"message": said("Hello"), "error": {"code": 502}}]}, Ending.GENERATION_FAILED),
    ({"choices": [{"message": said("Hello")}, {"finish_reason": "error"}]}, Ending.OK),
    ({"error": {"message": "no"}}, Ending.GENERATION_FAILED),
    ({"object": "error", "message": "no"}, Ending.GENERATION_FAILED),
    # nothing of the kind
    *((value, Ending.MALFORMED) for value in (None, 5, "Hello", [], [{"choices": []}], True)),
    ({"choices": "Hello"}, Ending.MALFORMED),
    ({"choices": {"0": {}}}, Ending.MALFORMED),
    (body(said(""), ["stop"]), Ending.OK),
]


@pytest.mark.parametrize(("value", "ending"), JUDGED, ids=[str(row[0])[:70] for row in JUDGED])
def test_judge(value: Any, ending: Ending) -> None:
    assert judge(value) is ending


@pytest.mark.parametrize("message", [{}, None, "x", 5, {"role": "assistant"}, {"content": ""}, {"tool_calls": []}])
def test_what_is_no_content(message: Any) -> None:
    assert not has_content(message)


# --- chunks ---


def delta(index: int = 0, finish_reason: Any = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish_reason}]}


def message_of(*chunks: dict[str, Any]) -> dict[str, Any]:
    message = assemble(chunks)["choices"][0]["message"]
    assert isinstance(message, dict)
    return message


def test_a_stream_adds_up_to_its_completion() -> None:
    head = {"id": "gen-1", "object": "chat.completion.chunk", "created": 7, "model": "a/one", "provider": "P"}
    whole = assemble(
        [
            {**head, **delta(role="assistant", content="")},
            {**head, **delta(content="Hel")},
            {**head, **delta(content="lo"), "provider": None},
            {**head, **delta(finish_reason="stop")},
            {**head, "choices": [], "usage": {"prompt_tokens": 1}},
            {**head, "choices": [], "usage": None},
        ]
    )
    assert whole == {
        **head,
        "object": "chat.completion",
        "usage": {"prompt_tokens": 1},
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"},
        ],
    }


def test_choices_are_kept_apart_and_in_order() -> None:
    whole = assemble([delta(1, content="b"), delta(0, content="a"), delta(1, "stop", content="B"), delta(0, "length")])
    assert [
        (choice["index"], choice["message"]["content"], choice["finish_reason"]) for choice in whole["choices"]
    ] == [
        (0, "a", "length"),
        (1, "bB", "stop"),
    ]


def test_tool_calls_are_merged_by_index() -> None:
    first = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    second = {"index": 1, "id": "2", "type": "function", "function": {"name": "g", "arguments": '{"y"'}}
    message = message_of(
        delta(role="assistant", content=None, tool_calls=[first]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"x":'}}, second]),
        delta(
            tool_calls=[{"index": 1, "function": {"arguments": ":2}"}}, {"index": 0, "function": {"arguments": "1}"}}]
        ),
        delta(finish_reason="tool_calls", tool_calls=None),
    )
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"index": 1, "id": "2", "type": "function", "function": {"name": "g", "arguments": '{"y":2}'}},
    ]


@pytest.mark.parametrize("before", [None, {}, "", "x", 5])
def test_tool_calls_after_something_else_under_their_name(before: Any) -> None:
    """Several servers send ``tool_calls: null`` with the role."""
    message = message_of(delta(role="assistant", tool_calls=before), delta(tool_calls=[CALL]))
    assert [call["id"] for call in message["tool_calls"]] == ["1"]


@pytest.mark.parametrize("index", [{}, {"index": None}, {"index": "0"}])
def test_tool_calls_without_a_usable_index_go_by_their_place(index: dict[str, Any]) -> None:
    other = {**CALL, "id": "2"}
    message = message_of(delta(tool_calls=[{**CALL, **index}, {**other, **index}]))
    assert [(call["index"], call["id"]) for call in message["tool_calls"]] == [(0, "1"), (1, "2")]


def test_every_kind_of_content_grows() -> None:
    message = message_of(
        delta(
            reasoning="Let ",
            refusal="I ",
            reasoning_details=[{"i": 1}],
            audio={"id": "a1", "data": "AA", "transcript": "He"},
            function_call={"name": "f", "arguments": "{"},
        ),
        delta(
            reasoning="me",
            refusal="won't",
            reasoning_details=[{"i": 2}],
            audio={"id": "a1", "data": "BB", "transcript": "llo", "expires_at": 9},
            function_call={"name": "f", "arguments": "}"},
        ),
    )
    assert message == {
        "reasoning": "Let me",
        "refusal": "I won't",
        "reasoning_details": [{"i": 1}, {"i": 2}],
        "audio": {"id": "a1", "data": "AABB", "transcript": "Hello", "expires_at": 9},
        "function_call": {"name": "f", "arguments": "{}"},
    }


def test_logprobs_grow() -> None:
    parts = [
        {"choices": [{"index": 0, "delta": {}, "logprobs": logprobs}]}
        for logprobs in ({"content": [{"token": "a"}], "refusal": None}, None, {"content": [{"token": "b"}]})
    ]
    assert assemble(parts)["choices"][0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}], "refusal": None}


def test_what_a_part_leaves_open_stays_as_it_was() -> None:
    message = message_of(
        delta(function_call={"name": "f", "arguments": "{"}),
        delta(function_call={"name": None, "arguments": "}"}),
        delta(function_call={"arguments": None}),
    )
    assert message["function_call"] == {"name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": [{"index": 0, "delta": "none"}]},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": ["none", None]},
        {"choices": "none"},
        delta(tool_calls=["none", None]),
        delta(tool_calls=None),
    ],
    ids=range(6),
)
def test_odd_parts_add_nothing(odd: dict[str, Any]) -> None:
    call = {"index": 0, "id": "1", "function": {"name": "f"}}
    assert message_of(delta(content="a", tool_calls=[call]), odd, delta(content="b")) == {
        "content": "ab",
        "tool_calls": [call],
    }


def test_the_role_is_not_repeated() -> None:
    assert message_of(delta(role="assistant"), delta(role="assistant"), delta(role=None), delta(role="")) == {
        "role": "assistant"
    }


COUNTED = {"prompt_tokens": 100, "completion_tokens": 20}


@pytest.mark.parametrize(
    ("chunks", "usage"),
    [
        ([{"usage": COUNTED}, {"usage": None}], usage_of({"usage": COUNTED})),
        ([{"usage": COUNTED | {"cost": 0.5}}, {"usage": {}}], usage_of({"usage": COUNTED | {"cost": 0.5}})),
        ([{"usage": COUNTED}, {"usage": "?"}, {"usage": [1]}], usage_of({"usage": COUNTED})),
        ([{"usage": 0}, {"usage": COUNTED}], usage_of({"usage": COUNTED})),
        ([{"usage": None}, {}], usage_of({})),
        # the cost by itself, in OpenRouter's place and in Infron's
        ([{"usage": COUNTED}, {"usage": {"cost": 0.5}}], usage_of({"usage": COUNTED | {"cost": 0.5}})),
        ([{"usage": COUNTED}, {"cost": 0.5}], usage_of({"usage": COUNTED, "cost": 0.5})),
        ([{"cost": 0.5}, {"usage": COUNTED, "cost": None}], usage_of({"usage": COUNTED, "cost": 0.5})),
        # with every chunk, and each time more
        ([{"usage": {"prompt_tokens": 100, "completion_tokens": 1}}, {"usage": COUNTED}], usage_of({"usage": COUNTED})),
        ([{"usage": COUNTED | {"cost": 0.5}}, {"usage": {"cost": None}}], usage_of({"usage": COUNTED | {"cost": 0.5}})),
    ],
    ids=str,
)
def test_of_each_figure_the_last_word_counts(chunks: list[dict[str, Any]], usage: Usage) -> None:
    before = copy.deepcopy(chunks)
    told, whole = usage_of(told_usage(chunks)), usage_of(assemble([{"choices": []}, *chunks]))
    assert told.to_dict() == whole.to_dict() == usage.to_dict()
    assert told.cost == whole.cost == usage.cost
    assert chunks == before


def test_what_a_chunk_says_of_its_costs_can_be_left_out() -> None:
    chunk = {"id": "1", "choices": [], "usage": COUNTED, "cost": 0.5, "cost_details": {}}
    assert untold(chunk) == {"id": "1", "choices": []}


def test_nothing_adds_up_to_no_choices() -> None:
    assert assemble([]) == {"object": "chat.completion", "choices": []}


def test_a_whole_message_within_a_chunk() -> None:
    assert message_of({"choices": [{"index": 0, "message": said("Hello")}]}) == said("Hello")
    both = {"choices": [{"index": 0, "delta": {"content": "Hello"}, "message": said("Hello")}]}
    assert message_of(both)["content"] == "Hello"


COMPLETION = {
    "id": "gen-1",
    "object": "chat.completion",
    "model": "a/one",
    "usage": {"total_tokens": 3},
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"},
        {
            "index": 1,
            "message": {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **CALL}]},
            "finish_reason": "tool_calls",
        },
    ],
}


def test_a_whole_completion_as_one_chunk_and_back() -> None:
    before = copy.deepcopy(COMPLETION)
    chunk = as_chunk(COMPLETION)
    assert chunk["object"] == "chat.completion.chunk"
    assert Chunk(chunk).text == "Hello"
    assert assemble([chunk]) == COMPLETION == before


@given(st.lists(st.text(max_size=5), max_size=8), st.data())
def test_however_a_text_is_cut_it_adds_up(parts: list[str], data: st.DataObject) -> None:
    chunks = [delta(role="assistant", content=None)]
    for part in parts:
        chunks.append(delta(content=part))
        if data.draw(st.booleans()):
            chunks.append(data.draw(st.sampled_from([{"choices": []}, delta(), delta(content=None), {"usage": None}])))
    content = message_of(*chunks)["content"]
    assert content == ("".join(parts) if parts else None)


_FIELDS = [
    "choices",
    "delta",
    "message",
    "index",
    "content",
    "role",
    "tool_calls",
    "function",
    "arguments",
    "id",
    "name",
]
_FIELDS += ["finish_reason", "logprobs", "audio", "usage", "error", "text", "completion_tokens"]
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["error", "stop"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=5),
    max_leaves=15,
)
_CHOICES = st.lists(st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=5) | _JSON, max_size=3)
_BODIES = st.fixed_dictionaries({"choices": _CHOICES}) | st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=5)
_DELTAS = st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=4)
_CHUNKS = _BODIES | st.builds(lambda delta: {"choices": [{"delta": delta}]}, _DELTAS)


@settings(deadline=None)
@given(_BODIES | _JSON)
@example(body(said(""), {}))
def test_anything_can_be_judged(value: Any) -> None:
    ending = judge(value)
    assert ending in (Ending.OK, Ending.EMPTY, Ending.MALFORMED, Ending.GENERATION_FAILED)
    if ending is Ending.OK:
        assemble([as_chunk(value)])


@settings(deadline=None)
@given(st.lists(_CHUNKS, max_size=4))
@example([{"choices": 5}])
@example([delta(tool_calls=[{"function": "f"}]), delta(tool_calls=[CALL])])
@example([{"choices": [{"message": "x"}]}, delta(content="y")])
def test_anything_adds_up_and_nothing_is_changed_by_it(chunks: list[dict[str, Any]]) -> None:
    before = repr(chunks)
    whole = assemble(chunks)
    assert repr(chunks) == before
    assert whole["object"] == "chat.completion"
    for choice in whole["choices"]:
        assert isinstance(choice["message"], dict)
    judge(whole)


# --- what it cost ---

PRICED = Model(
    "a/one",
    pricing=Pricing(
        prompt=Decimal("0.001"), completion=Decimal("0.002"), request=Decimal("0.5"), input_cache_read=Decimal("0.0001")
    ),
)
PLAIN = Model("a/one", pricing=Pricing(prompt=Decimal("0.001"), completion=Decimal("0.002")))
UNPRICED = Model("a/one", pricing=Pricing(prompt=Decimal("0.001")))
COUNTS = {"prompt_tokens": 100, "completion_tokens": 10}


def cached(count: Any) -> dict[str, Any]:
    return {**COUNTS, "prompt_tokens_details": {"cached_tokens": count}}


@pytest.mark.parametrize(
    ("usage", "model", "cost", "source"),
    [
        ({"cost": 0.00012}, None, "0.00012", "gateway"),
        ({**COUNTS, "cost": 0}, PRICED, "0", "gateway"),
        ({**COUNTS, "cost": 1e-7}, PRICED, "1E-7", "gateway"),
        ({**COUNTS, "cost": -1}, PLAIN, "0.12", "catalog"),
        ({**COUNTS, "cost": True}, PLAIN, "0.12", "catalog"),
        (COUNTS, PLAIN, "0.12", "catalog"),
        (COUNTS, PRICED, "0.62", "catalog"),
        (cached(50), PRICED, "0.575", "catalog"),
        (cached(50), PLAIN, "0.12", "catalog"),
        (cached(10**9), PRICED, "0.53", "catalog"),
        (cached(-5), PRICED, "0.62", "catalog"),
        (cached("many"), PRICED, "0.62", "catalog"),
        (COUNTS, UNPRICED, None, "unknown"),
        (COUNTS, None, None, "unknown"),
        ({}, PRICED, None, "unknown"),
        ({"prompt_tokens": 100}, PRICED, None, "unknown"),
        ({"prompt_tokens": -1, "completion_tokens": 5}, PRICED, None, "unknown"),
    ],
)
def test_cost(usage: dict[str, Any], model: Model | None, cost: str | None, source: str) -> None:
    assert cost_of(Usage(usage), model) == (None if cost is None else Decimal(cost), source)
