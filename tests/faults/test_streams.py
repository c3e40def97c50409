"""Faults 76, 79 to 81, 84 to 89, 95: streams that wait, end, break and change their mind."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from routerkit import RateLimitError, StreamInterruptedError
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.catalogue import fault, row
from tests.faults.outcomes import After, Outcome, check_after, check_outcome, left
from tests.support.facades import AsyncCaller, SyncCaller
from tests.support.scenarios import QUICK, A, Ask, B, Scenario

Facade = type[SyncCaller | AsyncCaller]


def interrupted(code: str, partial: str, status: int = 200, **fields: Any) -> Ask:
    return Ask([f"{A} {status} {code}"], "StreamInterruptedError", stream=True, partial=partial, **fields)


def check_interrupted(reply: r.Reply, code: str, partial: str, after: After | None = None, **fields: Any) -> None:
    """After content, no other model is asked; what the verdict says of the model counts all the same."""
    details = check_after(
        Scenario(code, {A: [reply]}, [interrupted(code, partial, **fields)]), After([A]) if after is None else after
    )
    assert "billing confirmed," in details[0][0]


def comments(count: int = 60, every: float = 0.03) -> list[r.Part]:
    """Comments for a while: longer than `QUICK` waits for content, and each well within its idle time."""
    return [part for _ in range(count) for part in (r.comment(), r.pause(every))]


# --- 76: comments are no content ---


@fault(76)
def test_comments_without_end_are_no_first_token() -> None:
    outcome = Outcome("first_token_timeout")
    ask = outcome.ask(stream=True, timeouts=QUICK)
    check_after(Scenario("76", {A: [r.stream(r.role(), *comments())]}, [ask]), outcome.after())


@fault(76)
def test_nor_are_deltas_that_hold_nothing() -> None:
    outcome = Outcome("first_token_timeout")
    kinds = [
        r.role(),
        r.delta(""),
        r.delta(None),
        r.event({"choices": []}),
        r.event({"type": "ping"}),
        r.delta(tool_calls=[]),
    ]
    nothing = [part for number in range(60) for part in (kinds[number % len(kinds)], r.pause(0.03))]
    ask = outcome.ask(stream=True, timeouts=QUICK)
    check_after(Scenario("76", {A: [r.stream(*nothing)]}, [ask]), outcome.after())


@fault(76)
def test_comments_without_end_after_content() -> None:
    reply = r.stream(r.role(), "one", *comments())
    check_interrupted(reply, "content_idle_timeout", "one", timeouts=QUICK)


# --- 79 to 81: how a stream may end ---


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
@pytest.mark.parametrize(
    ("parts", "flags"),
    [
        row(79, (r.end(), r.usage()), (), name="finish reason and usage"),
        row(79, (r.end(),), ("usage_missing",), name="finish reason"),
        row(79, (r.end("length"),), ("usage_missing",), name="length"),
        row(80, (r.usage(), r.done()), ("no_finish_reason",), name="usage and [DONE]"),
        row(80, (r.done(),), ("no_finish_reason", "usage_missing"), name="[DONE]"),
    ],
)
def test_one_sign_of_the_end_is_enough(
    facade: Facade, server: FaultServer, parts: Any, flags: Any, framing: Any
) -> None:
    server.script(A, r.stream(r.role(), "one ", "two", *parts, framing=framing))
    with facade(base_url=server.url) as caller:
        reader = caller.stream(model=A, fallback_models=[B])
        while reader.next() is not None:
            pass
        completion = reader.stream.completion
        assert (completion.text, completion.route.models) == ("one two", (A,))
        assert completion.flags == flags
        assert left(caller) == After()


@fault(79)
@pytest.mark.parametrize("broken", [r.cut(), r.reset()], ids=["cut", "reset"])
def test_nothing_is_missing_after_the_finish_reason(broken: r.Part) -> None:
    ask = Ask([f"{A} 200 ok"], "one two", stream=True)
    check_after(Scenario("79", {A: [r.stream("one ", "two", r.end(), broken)]}, [ask]), After())


@fault(81)
@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_an_end_without_any_sign_is_a_cut(framing: Any) -> None:
    check_outcome(r.stream(r.role(), r.comment(), framing=framing), Outcome("truncated"), stream=True)
    check_outcome(r.stream(framing=framing), Outcome("truncated"), stream=True)
    check_interrupted(r.stream(r.role(), "one ", "two", framing=framing), "truncated", "one two")
    check_interrupted(r.stream("one ", "two", r.usage(), framing=framing), "truncated", "one two")


@fault(81)
def test_its_error_says_that_it_was_cut(facade: Facade, server: FaultServer) -> None:
    server.script(A, r.stream("one ", "two", framing="close"))
    with facade(base_url=server.url) as caller:
        error = read_to_its_break(caller)
        assert error.truncated
        assert [chunk.text for chunk in error.chunks] == ["one ", "two"]
        assert (error.model, error.code) == (A, "truncated")


def read_to_its_break(caller: SyncCaller | AsyncCaller, **options: Any) -> StreamInterruptedError:
    reader = caller.stream(model=A, fallback_models=[B], **options)
    try:
        while reader.next() is not None:
            pass
    except StreamInterruptedError as error:
        with pytest.raises(RuntimeError):
            reader.stream.completion  # noqa: B018 - half an answer is none
        return error
    pytest.fail("the stream did not break")


# --- 84: chunks out of place ---


def choice(index: Any, content: str, **fields: Any) -> r.Part:
    return r.event({"choices": [{"index": index, "delta": {"content": content}, "finish_reason": None, **fields}]})


@fault(84)
def test_a_chunk_that_comes_twice_is_delivered_twice(facade: Facade, server: FaultServer) -> None:
    twice = r.event({"id": "same", "choices": [{"index": 0, "delta": {"content": "one "}}]})
    server.script(A, r.stream(twice, twice, r.end(), r.done()))
    with facade(base_url=server.url) as caller:
        reader = caller.stream(model=A)
        assert [chunk.text for chunk in (reader.next(), reader.next()) if chunk] == ["one ", "one "]
        while reader.next() is not None:
            pass
        assert reader.stream.completion.text == "one one "


@fault(84)
def test_choices_may_come_in_any_order(facade: Facade, server: FaultServer) -> None:
    parts = [choice(2, "c"), choice(0, "a"), choice(1, "b"), choice(0, "A"), choice(2, "C")]
    server.script(A, r.stream(*parts, r.end(), r.done()))
    with facade(base_url=server.url) as caller:
        reader = caller.stream(model=A, n=3)
        while reader.next() is not None:
            pass
        choices = reader.stream.completion.choices
        assert [(each.index, each.message.content) for each in choices] == [(0, "aA"), (1, "b"), (2, "cC")]


ABSURD = [
    row(84, choice(10**9, "x"), name="index 10^9"),
    row(84, choice(-1, "x"), name="index -1"),
    row(84, choice(10**30, "x"), name="index 10^30"),
    row(84, r.delta(tool_calls=[{"index": 10**9, "function": {"name": "f"}}]), name="tool call 10^9"),
    row(84, r.delta(tool_calls=[{"index": -1, "function": {"name": "f"}}]), name="tool call -1"),
]


@pytest.mark.parametrize("part", ABSURD)
def test_an_absurd_index_is_nonsense(part: r.Part) -> None:
    check_outcome(r.stream(r.role(), part, r.end(), r.done()), Outcome("malformed"), stream=True)
    check_interrupted(r.stream("one ", part, r.end(), r.done()), "malformed", "one ")


# --- 85 to 88: errors and nonsense among the events ---

ERRORS = [
    (r.error_event(502, metadata={"error_type": "provider_unavailable"}), Outcome("provider_unavailable"), "502"),
    (r.event({"error": {"code": 503, "message": "busy"}}), Outcome("overloaded", billing="none"), "503"),
    (r.event({"error": {"message": "gone"}}), Outcome("server_error"), "no code"),
    (r.end("error"), Outcome("generation_failed"), "finish reason"),
    (
        r.event({"choices": [{"index": 0, "delta": {}, "error": {"code": 502}}]}),
        Outcome("provider_unavailable"),
        "choice",
    ),
]
PARTS = [(85, [r.role()], "after the role"), (86, [], "first event"), (85, [r.comment(), r.delta("")], "after nothing")]


@pytest.mark.parametrize(
    ("before", "broken", "outcome"),
    [
        row(number, before, broken, outcome, name=f"{place}, {name}")
        for number, before, place in PARTS
        for broken, outcome, name in ERRORS
    ],
)
def test_an_error_before_any_content_moves_on_unseen(before: list[r.Part], broken: r.Part, outcome: Outcome) -> None:
    check_outcome(r.stream(*before, broken), outcome, stream=True)


@pytest.mark.parametrize(
    ("broken", "outcome"), [row(86, broken, outcome, name=name) for broken, outcome, name in ERRORS]
)
def test_an_error_after_three_tokens_gives_those_three(broken: r.Part, outcome: Outcome) -> None:
    check_interrupted(r.stream(r.role(), "one ", "two ", "three", broken), outcome.code, "one two three")


CODES: list[Any] = [429, "429", "rate_limit_exceeded", "rate_limit_error"]


@pytest.mark.parametrize("code", [row(87, code, name=repr(code)) for code in CODES])
def test_a_code_may_be_a_number_or_a_word(facade: Facade, server: FaultServer, code: Any) -> None:
    limited = Outcome("rate_limited", fed=False, rests=5, billing="none")
    check_outcome(r.stream(r.error_event(code)), limited, stream=True)
    check_interrupted(r.stream("one", r.error_event(code)), "rate_limited", "one", After(rests={A: 5}))
    server.script(A, r.stream(r.error_event(code)))
    server.catalog = r.error(404)
    with facade(base_url=server.url) as caller, pytest.raises(RateLimitError):
        caller.stream(model=A, timeout=3)


NONSENSE = ["{bad json", '"a text"', "[]", "null", "7", "{}{}", "NaN", "[DONE", "done"]


@pytest.mark.parametrize("data", [row(88, data, name=data) for data in NONSENSE])
def test_an_event_that_is_none_is_never_passed_over(data: str) -> None:
    nonsense = r.event(data.encode())
    check_outcome(r.stream(r.role(), nonsense, "two", r.end(), r.done()), Outcome("malformed"), stream=True)
    check_interrupted(r.stream("one ", nonsense, "two", r.end(), r.done()), "malformed", "one ")


@fault(88)
def test_bytes_that_are_no_text_are_never_passed_over() -> None:
    nonsense = r.event(b'{"choices": [{"index": 0, "delta": {"content": "\xff"}}]}')
    check_interrupted(r.stream("one ", nonsense, "two", r.end(), r.done()), "malformed", "one ")


# --- 89: half a tool call ---


def call(arguments: str, **fields: Any) -> r.Part:
    return r.delta(tool_calls=[{"index": 0, **fields, "function": {"name": "transfer", "arguments": arguments}}])


@pytest.mark.parametrize(
    ("last", "code"),
    [
        row(89, r.cut(), "truncated", name="cut"),
        row(89, r.reset(), "truncated", name="reset"),
        row(89, r.comment(), "truncated", name="a polite end"),
        row(89, r.error_event(), "provider_unavailable", name="an error"),
        row(89, r.end("error"), "generation_failed", name="a failure"),
    ],
)
def test_half_a_tool_call_is_never_handed_over_as_one(
    facade: Facade, server: FaultServer, last: r.Part, code: str
) -> None:
    """Even where its arguments happen to be JSON already: nobody says that they are whole."""
    for arguments in ('{"amount": 1', '{"amount": 1}'):
        reply = r.stream(r.role(), call("", id="1", type="function"), call(arguments), last)
        check_interrupted(reply, code, "")
        server.script(A, reply)
        with facade(base_url=server.url) as caller:
            error = read_to_its_break(caller)
            assert not hasattr(error, "tool_calls")
            assert error.partial_text == ""
            assert (
                "".join(chunk.tool_calls[0].function.arguments for chunk in error.chunks if chunk.tool_calls)
                == arguments
            )


# --- 95: another model speaks on ---

FIRST, LAST = "served/first", "served/last"
PRICES = r.json_body(
    {
        "data": [
            r.catalog_model(A, pricing={"prompt": "1", "completion": "1"}),
            r.catalog_model(FIRST, pricing={"prompt": "10", "completion": "10"}),
            r.catalog_model(LAST, pricing={"prompt": "100", "completion": "100"}),
        ]
    }
)
TOKENS = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def by(model: str | None, content: str, finish_reason: str | None = None, **fields: Any) -> r.Part:
    named = {} if model is None else {"model": model}
    delta = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return r.event({**named, "choices": [delta], **fields})


@pytest.mark.parametrize(
    ("parts", "model", "cost", "flags"),
    [
        row(
            95,
            [by(FIRST, "one "), by(LAST, "two", "stop"), by(LAST, "", usage=TOKENS)],
            LAST,
            "500",
            ("model_changed",),
            name="changed",
        ),
        row(
            95,
            [by(FIRST, "one "), by(LAST, "two", "stop"), by(None, "", usage=TOKENS)],
            LAST,
            "500",
            ("model_changed",),
            name="changed, and the usage says nothing",
        ),
        row(
            95,
            [by(FIRST, "one "), by(FIRST, "two", "stop", usage=TOKENS)],
            FIRST,
            "50",
            (),
            name="another one, but one",
        ),
        row(95, [by(None, "one "), by(None, "two", "stop", usage=TOKENS)], A, "5", (), name="none is named"),
    ],
)
def test_the_model_that_served_last_is_named_and_priced(
    facade: Facade, server: FaultServer, parts: list[r.Part], model: str, cost: str, flags: tuple[str, ...]
) -> None:
    server.script(A, r.stream(*parts, r.done()))
    server.catalog = PRICES
    with facade(base_url=server.url) as caller:
        caller.models()
        reader = caller.stream(model=A)
        while reader.next() is not None:
            pass
        completion = reader.stream.completion
        assert (completion.text, completion.model) == ("one two", model)
        assert (completion.cost, completion.cost_source) == (Decimal(cost), "catalog")
        assert completion.flags == flags
        assert completion.route.attempts[0].model == A


# --- what is odd about an answer, and yet no reason to refuse it ---

COUNTS = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize(
    ("text", "finish_reason", "usage", "flags"),
    [
        row(68, "Hello", "stop", COUNTS, (), name="nothing odd"),
        row(68, "Hello", "stop", None, ("usage_missing",), name="no usage"),
        row(68, "Hello", "stop", {}, ("usage_missing",), name="empty usage"),
        row(68, "Hello", "stop", {**COUNTS, "prompt_tokens": -9}, ("usage_implausible",), name="negative"),
        row(68, "Hello", "stop", {**COUNTS, "prompt_tokens": "9"}, ("usage_implausible",), name="a string"),
        row(68, "Hello", "stop", {**COUNTS, "prompt_tokens": 10**18}, ("usage_implausible",), name="10^18"),
        row(70, "", "length", COUNTS, ("no_content",), name="length"),
    ],
)
def test_flags(
    facade: Facade, server: FaultServer, text: str, finish_reason: str, usage: Any, flags: Any, stream: bool
) -> None:
    server.script(A, r.completion(text, finish_reason=finish_reason, usage=usage))
    with facade(base_url=server.url) as caller:
        if stream:
            reader = caller.stream(model=A)
            while reader.next() is not None:
                pass
            completion = reader.stream.completion
        else:
            completion = caller.complete(model=A)
        assert completion.flags == flags
        assert completion.text == text
