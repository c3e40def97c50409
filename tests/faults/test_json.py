"""Faults 57 to 70: what may come as the JSON body of an HTTP 200, where a whole answer or where a stream was asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from routerkit import Completion
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.faults.catalogue import fault, row
from tests.faults.outcomes import After, Outcome, check_after, check_outcome, left, plain
from tests.support.facades import AsyncCaller, SyncCaller
from tests.support.scenarios import A, Ask, B, Scenario

Facade = type[SyncCaller | AsyncCaller]
USAGE: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def answer(content: Any = "Hello", finish_reason: Any = "stop", **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"id": "gen-1", "model": A, "choices": [choice], "usage": USAGE, **fields}


def written(content: str = '"Hello"', usage: str = json.dumps(USAGE)) -> bytes:
    """An answer with these two as they are written, JSON or not."""
    text = json.dumps(answer("CONTENT", usage="USAGE"))
    return text.replace('"CONTENT"', content).replace('"USAGE"', usage).encode()


GOOD = written()
BOM = b"\xef\xbb\xbf"
DEEP = b"[" * 100_000 + b"]" * 100_000

MALFORMED = Outcome("malformed")
EMPTY = Outcome("empty")
UNAVAILABLE = Outcome("provider_unavailable")
FAILED = Outcome("server_error")
LIMITED = Outcome("rate_limited", fed=False, rests=5, billing="none")

NO_ANSWER = [
    row(58, plain(GOOD[:-1]), MALFORMED, name="truncated JSON"),
    row(58, plain(GOOD + b" x"), MALFORMED, name="trailing garbage"),
    row(58, plain(GOOD + GOOD), MALFORMED, name="two answers"),
    row(59, plain(b'{"choices": ' + DEEP + b"}"), MALFORMED, name="lists, 100 000 deep"),
    row(59, plain(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), MALFORMED, name="objects, 100 000 deep"),
    row(59, plain(b"[" * 1_000_000), MALFORMED, name="never closed"),
    row(62, plain(written('"\\ud800"')), MALFORMED, name="lone surrogate"),
    row(62, plain(written('"\\udc00\\ud800"')), MALFORMED, name="surrogates the wrong way round"),
    row(62, plain(GOOD.replace(b"Hello", b"Hell\xff")), MALFORMED, name="not UTF-8"),
    row(62, plain(GOOD.replace(b"Hello", b"\xed\xa0\x80")), MALFORMED, name="a surrogate in UTF-8"),
    row(62, plain(GOOD.replace(b"Hello", b"\xc0\xaf")), MALFORMED, name="overlong UTF-8"),
    row(64, r.json_body([answer()]), MALFORMED, name="list"),
    row(64, r.json_body([]), MALFORMED, name="empty list"),
    row(65, r.json_body(answer(choices=None)), EMPTY, name="choices null"),
    row(65, r.json_body(answer(choices=[])), EMPTY, name="choices []"),
    row(65, r.json_body(answer(choices={})), MALFORMED, name="choices {}"),
    row(65, r.json_body(answer(choices="Hello")), MALFORMED, name="choices text"),
    row(65, r.json_body(answer(choices=[None])), EMPTY, name="choices [null]"),
    row(65, r.json_body(answer(choices=[["Hello"]])), EMPTY, name="choices [[…]]"),
    row(65, r.json_body(answer(choices=[{"index": "0"}])), EMPTY, name="only an index"),
    row(65, r.json_body(answer(choices=[{"message": None}])), EMPTY, name="message null"),
    row(65, r.json_body(answer(choices=[{"message": "Hello"}])), EMPTY, name="message text"),
    row(65, r.json_body({}), EMPTY, name="{}"),
    row(65, r.json_body(answer("", "stop", usage={"completion_tokens": 0})), EMPTY, name="no content, no tokens"),
    row(65, r.json_body(answer(None, None)), EMPTY, name="no content, no finish reason"),
    row(66, r.json_body({"error": "it broke"}), FAILED, name="error text"),
    row(66, r.json_body({"error": None}), EMPTY, name="error null"),
    row(66, r.json_body({"error": {}}), FAILED, name="error {}"),
    row(66, r.json_body({"error": {"code": "429"}}), LIMITED, name="code is a numeric string"),
    row(66, r.json_body({"error": {"code": 429}}), LIMITED, name="code is a number"),
    row(66, r.json_body({"error": {"code": "rate_limit_exceeded"}}), LIMITED, name="code is a word"),
    row(66, r.json_body({"error": {"code": [429], "message": {}, "metadata": 7}}), FAILED, name="of wrong types"),
    row(66, r.json_body(answer(error={"code": 502})), UNAVAILABLE, name="error and choices"),
    row(66, r.json_body(answer(choices=[{"error": {"code": 502}}])), UNAVAILABLE, name="error in a choice"),
    row(67, r.json_body({"error": {"code": 502}}), UNAVAILABLE, name="502"),
    row(67, r.json_body({"error": {"code": 503, "message": "busy"}}), Outcome("overloaded", billing="none")),
    row(69, r.json_body(answer("Once upon a", "error")), Outcome("generation_failed"), name="with partial text"),
    row(69, r.json_body(answer("", "error")), Outcome("generation_failed"), name="without text"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize(("reply", "outcome"), NO_ANSWER)
def test_what_is_no_answer_moves_on(reply: r.Reply, outcome: Outcome, stream: bool) -> None:
    check_outcome(reply, outcome, stream=stream)


@pytest.mark.parametrize(
    ("reply", "stream", "outcome"),
    [
        row(57, r.empty(), False, MALFORMED, name="complete"),
        row(57, r.empty(), True, Outcome("truncated"), name="stream"),
        row(57, plain(b" \r\n"), False, MALFORMED, name="blank, complete"),
        row(57, plain(b" \r\n"), True, Outcome("truncated"), name="blank, stream"),
        row(58, plain(BOM + BOM + GOOD), False, MALFORMED, name="two BOMs"),
        # Where a stream was asked for, bare values are lines of an event stream that hold nothing.
        *(row(64, plain(text), False, MALFORMED, name=text.decode()) for text in (b'"Hello"', b"null", b"1", b"true")),
        *(
            row(64, plain(text), True, Outcome("truncated"), name=f"{text.decode()}, stream")
            for text in (b'"H"', b"null")
        ),
    ],
)
def test_nothing_and_bare_values_move_on(reply: r.Reply, stream: bool, outcome: Outcome) -> None:
    check_outcome(reply, outcome, stream=stream)


ANSWERS = [
    row(58, plain(BOM + GOOD), "Hello", name="BOM"),
    row(58, plain(b" \r\n\t" + GOOD + b"\r\n"), "Hello", name="blanks around it"),
    row(61, plain(written('"no", "content": "yes"')), "yes", name="content twice"),
    row(61, plain(b'{"choices": [], ' + GOOD[1:]), "Hello", name="choices twice"),
    row(61, plain(b'{"error": {"code": 502}, "error": null, ' + GOOD[1:]), "Hello", name="error twice"),
    row(62, plain(written('"\\ud83d\\ude00"')), "😀", name="a pair of surrogates"),
    row(
        65, r.json_body(answer([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}])), "Hello", name="list"
    ),
    row(65, r.json_body(answer(choices=[None, answer()["choices"][0]])), "Hello", name="[null, an answer]"),
    row(65, r.json_body(answer(id=7, model=None, created="now", provider=[])), "Hello", name="fields of wrong types"),
    row(66, r.json_body(answer(error=None)), "Hello", name="error null beside an answer"),
    row(70, r.json_body(answer(None, "length")), "", name="nothing but the reason"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize(("reply", "text"), ANSWERS)
def test_what_is_an_answer_is_taken(reply: r.Reply, text: str, stream: bool) -> None:
    scenario = Scenario("an answer", {A: [reply]}, [Ask([f"{A} 200 ok"], text, stream=stream)])
    assert "billing confirmed" in check_after(scenario, After())[0][0]


# --- 60: numbers that are none ---

ENORMOUS = "1" * 5_000
NUMBERS = [ENORMOUS, "-" + ENORMOUS, "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1" + "0" * 30, "1e308"]
PLACES = ["prompt_tokens", "completion_tokens", "total_tokens", "cost", "anything_else"]


@fault(60)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
def test_no_number_gets_into_usage_or_cost_that_cannot_be_counted_with(facade: Facade, stream: bool) -> None:
    """Either nothing is made of the answer, or nothing of the number; and both facades make the same of it."""
    with FaultServer() as server, facade(base_url=server.url) as caller:
        seen = []
        for number in NUMBERS:
            for place in PLACES:
                usage = json.dumps({**USAGE, place: "NUMBER"}).replace('"NUMBER"', number)
                server.script(A, plain(written(usage=usage)))
                completion = whole(caller, stream)
                sane(completion)
                seen.append((number[:9], completion.model))
        taken = {number for number, model in seen if model == A}
        assert taken == {"1" + "0" * 8, "1e308"}


def sane(completion: Completion) -> None:
    usage = completion.usage
    for count in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens):
        assert isinstance(count, int)
        assert count >= 0
    for cost in (usage.cost, completion.cost, completion.route.cost):
        assert cost is None or (isinstance(cost, Decimal) and cost.is_finite() and cost >= 0)
    assert not any(isinstance(value, float) and not math.isfinite(value) for value in usage.to_dict().values())


def whole(caller: SyncCaller | AsyncCaller, stream: bool, model: str = A) -> Completion:
    caller.client.router.health.breaker(caller.client.settings.gateway.name, model).reset(0.0)
    if not stream:
        return caller.complete(model=model, fallback_models=[B])
    reader = caller.stream(model=model, fallback_models=[B])
    while reader.next() is not None:
        pass
    return reader.stream.completion


# --- 63: more than anybody can want ---

LIMIT = 64 * 1024 * 1024
TOO_LARGE = Outcome("response_too_large", fed=False, error="ProtocolError")


def announced(connection: Connection, _: RecordedRequest) -> None:
    """A byte too many is promised, and then nothing comes."""
    connection.send(connection.head(200, {"Content-Type": r.JSON, "Content-Length": str(LIMIT + 1)}))
    connection.wait()


def endless(connection: Connection, _: RecordedRequest) -> None:
    """Sent for as long as somebody takes it."""
    connection.send(connection.head(200, {"Content-Type": r.JSON, "Transfer-Encoding": "chunked"}))
    connection.send(b"1\r\n{\r\n")
    size = 1024 * 1024
    while True:
        connection.send(b"%x\r\n" % size + b" " * size + b"\r\n")


@fault(63)
@pytest.mark.parametrize(("reply", "stream"), [(announced, False), (endless, False), (endless, True)])
def test_an_answer_that_is_too_large_ends_the_call(reply: r.Reply, stream: bool) -> None:
    check_outcome(reply, TOO_LARGE, stream=stream)


# --- 68: usage that is none ---

USAGES: list[tuple[Any, str]] = [
    ({"prompt_tokens": -9, "completion_tokens": -3, "total_tokens": -12}, "negative"),
    ({"prompt_tokens": 9, "completion_tokens": 3, "cost": -0.5}, "negative cost"),
    ({"prompt_tokens": "9", "completion_tokens": "3", "cost": "1"}, "text"),
    ({"prompt_tokens": 10**18, "completion_tokens": 10**18}, "10^18"),
    ({"prompt_tokens": 9, "completion_tokens": 3, "cost": 10**18}, "cost 10^18"),
    ({"prompt_tokens": 1.5, "completion_tokens": True}, "fractions"),
    ({"prompt_tokens": None, "completion_tokens": [], "cost": {}}, "wrong types"),
    ({}, "{}"),
    ([], "[]"),
    (None, "null"),
    ("free", "a word"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize(
    "usage", [row(68, usage, name=name) for usage, name in USAGES] + [row(68, ..., name="missing")]
)
def test_an_answer_is_taken_whatever_its_usage(facade: Facade, server: FaultServer, usage: Any, stream: bool) -> None:
    fields = answer(usage=usage)
    if usage is ...:
        del fields["usage"]
    server.script(A, r.json_body(fields))
    prices = {"prompt": "0.000001", "completion": "0.000002"}
    server.catalog = r.json_body({"data": [r.catalog_model(A, pricing=prices)]})
    with facade(base_url=server.url) as caller:
        caller.models()
        completion = whole(caller, stream)
        assert (completion.text, completion.route.models) == ("Hello", (A,))
        sane(completion)
        assert left(caller) == After()


# --- 70: an answer that is all reasoning ---

THOUGHTS: list[Mapping[str, Any]] = [
    {"content": None, "reasoning": "let me see"},
    {"content": "", "reasoning_content": "let me see"},
    {"content": "", "reasoning": "let me see", "reasoning_details": [{"type": "reasoning.text", "text": "let me see"}]},
]


@fault(70)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("message", THOUGHTS, ids=["reasoning", "reasoning_content", "reasoning_details"])
def test_an_answer_that_is_all_reasoning_is_one(
    facade: Facade, server: FaultServer, message: Mapping[str, Any], stream: bool
) -> None:
    """Moving on would pay twice for nothing."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "length"}
    whole_answer = r.json_body(answer(choices=[choice]))
    server.script(A, r.stream(r.role(), r.delta(**message), r.end("length"), r.done()) if stream else whole_answer)
    with facade(base_url=server.url) as caller:
        completion = whole(caller, stream)
        assert (completion.text, completion.reasoning) == ("", "let me see")
        assert completion.finish_reason == "length"
        assert completion.route.models == (A,)
        assert left(caller) == After()


# --- 84: an index from nowhere, in a whole answer ---


@fault(84)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("index", [-1, 10**9, 10**30])
def test_an_absurd_index_loses_no_text(facade: Facade, server: FaultServer, index: int, stream: bool) -> None:
    """There is but one choice: either it is taken, or another model is asked."""
    choice = {**answer()["choices"][0], "index": index}
    server.script(A, r.json_body(answer(choices=[choice])))
    with facade(base_url=server.url) as caller:
        assert whole(caller, stream).text in ("Hello", f"Hello from {B}")
