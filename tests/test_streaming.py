"""The life of a stream in the core alone: what its bytes mean, when it is committed, what breaks it and what follows then."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from routerkit import StreamInterruptedError, Timeouts
from routerkit.core import intake
from routerkit.core.effects import Failure, Open, Read, StreamResponse, TransportFailure
from routerkit.core.failure import BOM
from routerkit.testing import replies as r
from routerkit.types.event import AttemptFinished, BreakerState
from routerkit.types.verdict import Sent
from tests.support.core import HOST, A, B, C, Told, World, after, asking, body
from tests.support.virtual import Interruption

FINE = f"Hello from {B}"


def chunk(content: str | None = None, finish_reason: str | None = None, **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **more}
    return event({"object": "chat.completion.chunk", "choices": [choice]})


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def answered(*pieces: bytes, world: World | None = None, **more: Any) -> Told:
    """What comes of a stream whose first model sends these bytes."""
    world = World() if world is None else world
    world.script(A, body(*pieces, **more))
    return world.ask(stream=True, fallback_models=[B])


DONE = b"data: [DONE]\n\n"
WHOLE = json.dumps({"choices": [{"index": 0, "message": {"content": "whole"}, "finish_reason": "stop"}]}).encode()


# --- what the bytes are ---


@pytest.mark.parametrize(
    "pieces",
    [
        (b"\n \n", chunk("one"), DONE),
        (BOM[:1], BOM[1:], chunk("one"), DONE),
        (BOM[:2], BOM[2:] + chunk("one"), DONE),
        (chunk("one")[:3], chunk("one")[3:], DONE),
        (b": hello\n\n", chunk("one"), DONE),
        (chunk("one"), b"data:\n\n", b"data: \n\n", DONE),
        (chunk("one"), event({"choices": ["no choice", None]}), event({"choices": None}), DONE),
        (chunk("one", native_finish_reason=None), chunk(None, "stop")),
        (event({"choices": [{"index": 0, "delta": {"content": "one"}}]}), DONE),
        (chunk("one"), event({"choices": [{"index": 0, "delta": "none"}]}), DONE),
    ],
    ids=range(10),
)
def test_a_stream_is_read_however_it_is_cut_and_padded(pieces: tuple[bytes, ...]) -> None:
    told = answered(*pieces)
    assert (told.gives, told.delivered) == ("one", "one")


@pytest.mark.parametrize("pieces", [(WHOLE,), (WHOLE[:10], WHOLE[10:]), (b"\n", WHOLE), (BOM, WHOLE)], ids=range(4))
def test_a_whole_answer_in_the_place_of_a_stream(pieces: tuple[bytes, ...]) -> None:
    told = answered(*pieces, content_type="application/json")
    assert (told.gives, told.delivered) == ("whole", "whole")


def call(index: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, "id": "1"}, "none"]}}]}


NONSENSE = {
    "nothing at all": ((), "truncated"),
    "blanks": ((b" \n \n",), "truncated"),
    "half a byte order mark": ((BOM[:2],), "malformed"),
    "blanks without end": ((b"\n" * 40_000, b"\n" * 40_000), "response_too_large"),
    "an event that is no JSON": ((event(1)[:-3] + b"x\n\n",), "malformed"),
    "an event that is no object": ((event([1]),), "malformed"),
    "an event that is null": ((event(None),), "malformed"),
    "an error": ((event({"error": {"code": 502, "message": "gone"}}),), "provider_unavailable"),
    "an error by its object": ((event({"object": "error", "message": "gone", "code": 502}),), "provider_unavailable"),
    "an error of a choice": ((chunk("one", error={"code": 502}),), "provider_unavailable"),
    "an error as its reason": ((chunk("one", "error"),), "generation_failed"),
    "a choice that is far away": ((event({"choices": [{"index": 5000, "delta": {"content": "x"}}]}),), "malformed"),
    "a choice before the first": ((event({"choices": [{"index": -1, "delta": {"content": "x"}}]}),), "malformed"),
    "a tool call that is far away": ((event(call(1025)),), "malformed"),
    "a whole answer that is far away": ((WHOLE.replace(b'"index": 0', b'"index": 5000'),), "malformed"),
    "a whole answer that is cut": ((WHOLE[:-1],), "malformed"),
    "a web page": ((b"<html>",), "not_an_api"),
    "an end without a reason": ((chunk(None),), "truncated"),
    "an end without content": ((DONE,), "empty"),
}


@pytest.mark.parametrize(("pieces", "verdict"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense_moves_on_unseen(pieces: tuple[bytes, ...], verdict: str) -> None:
    told = answered(*pieces)
    assert told.attempts[0] == f"{A} 200 {verdict}"
    if verdict in ("response_too_large", "not_an_api"):  # the one fails the call, the other excludes the gateway
        assert len(told.attempts) == 1
    else:
        assert (told.gives, told.delivered) == (FINE, FINE)


def test_an_end_for_its_length_is_an_answer_without_content() -> None:
    told = answered(chunk(None, "length"), DONE)
    assert (told.gives, told.attempts) == ("", [f"{A} 200 ok"])


def test_the_last_tool_call_that_is_allowed() -> None:
    assert answered(event(call(1024)), chunk(None, "tool_calls")).attempts == [f"{A} 200 ok"]


@pytest.mark.parametrize("pieces", [(WHOLE[:60], WHOLE[60:]), (chunk("a"), chunk("b" * 100))], ids=["whole", "stream"])
def test_an_answer_has_a_largest_size(pieces: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(map(len, pieces))
    monkeypatch.setattr(intake, "MAX_RESPONSE", size)
    assert answered(*pieces, DONE[:0]).attempts[0] != f"{A} 200 response_too_large"
    monkeypatch.setattr(intake, "MAX_RESPONSE", size - 1)
    assert answered(*pieces).attempts == [f"{A} 200 response_too_large"]


def test_what_came_before_the_limit_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_RESPONSE", 3 * len(chunk("x")) - 1)
    told = answered(chunk("a") + chunk("b") + chunk("c"))
    assert isinstance(told.error, StreamInterruptedError)
    assert told.error.partial_text == "ab"


def test_of_a_refusal_no_more_is_read_than_it_takes_to_understand_it() -> None:
    world = World()
    world.script(A, body(*[b"x" * 10_000] * 20, status=500, content_type="text/plain"))
    told = world.ask(stream=True, fallback_models=[B])
    assert told.attempts == [f"{A} 500 server_error", f"{B} 200 ok"]
    assert world.runtime.now < 1_000.08  # a piece comes every 0.01 s


@pytest.mark.parametrize("cut", [r.cut(), r.reset()], ids=["cut", "reset"])
def test_a_refusal_that_breaks_off_is_known_by_its_status(cut: r.Part) -> None:
    world = World()
    world.script(A, r.stream(b'{"error"', cut, status=503))
    assert world.ask(stream=True, fallback_models=[B]).attempts == [f"{A} 503 overloaded", f"{B} 200 ok"]


# --- the clocks ---


@pytest.mark.parametrize(("seconds", "state"), [(9, BreakerState.CLOSED), (11, BreakerState.OPEN)])
def test_first_content_that_takes_long_counts_as_slow(seconds: float, state: BreakerState) -> None:
    world = World()
    world.script(A, after(seconds, r.stream(r.role(), "one", r.end())))
    told = [world.ask(stream=True) for _ in range(5)]
    assert [each.gives for each in told] == ["one"] * 5
    assert world.router.health.breaker(HOST, A).state is state
    assert told[0].route.attempts[0].first_token == pytest.approx(seconds)


@pytest.mark.parametrize(("pause", "verdict"), [(10, "deadline_slow"), (5, "deadline")])
def test_a_stream_without_content_at_the_deadline(pause: float, verdict: str) -> None:
    world = World()
    world.script(A, r.stream(r.role(), r.pause(50)))
    told = world.ask(stream=True, timeouts=Timeouts(total=pause))
    assert told.gives == "DeadlineExceededError"
    assert told.attempts == [f"{A} 200 {verdict}"]


def test_a_stream_that_is_cut_by_the_deadline_says_so() -> None:
    world = World()
    world.script(A, r.stream(r.role(), "one", r.pause(50)))
    error = world.ask(stream=True, timeouts=Timeouts(total=15)).error
    assert isinstance(error, StreamInterruptedError)
    assert error.code == "deadline"
    assert isinstance(error.__cause__, TimeoutError)
    assert world.router.health.breaker(HOST, A).state is BreakerState.CLOSED


KEPT_ALIVE = [part for _ in range(60) for part in (r.comment(), r.pause(2))]


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([r.pause(21)], "idle_timeout"),
        (KEPT_ALIVE, "content_idle_timeout"),
        ([r.pause(19), r.reset()], "truncated"),
    ],
    ids=["stalls", "only keeps alive", "breaks"],
)
def test_what_breaks_a_stream_after_its_first_content(parts: list[r.Part], verdict: str) -> None:
    world = World()
    world.script(A, r.stream(r.role(), "one", *parts))
    error = world.ask(stream=True, timeouts=Timeouts(content_idle=60)).error
    assert isinstance(error, StreamInterruptedError)
    assert (error.code, error.partial_text) == (verdict, "one")


def test_a_stream_that_only_keeps_alive_before_its_first_content_moves_on() -> None:
    world = World()
    world.script(A, r.stream(r.role(), *KEPT_ALIVE))
    told = world.ask(stream=True, fallback_models=[B])
    assert told.attempts == [f"{A} 200 first_token_timeout", f"{B} 200 ok"]
    assert told.route.attempts[0].duration == pytest.approx(45)


LAGGED = TransportFailure(Failure.READ_TIMEOUT, Sent.RESPONDED, lag=2.0)


def test_a_read_that_was_late_through_our_own_fault_blames_no_model() -> None:
    world = World()
    step = world.router.stream(asking(stream=True, fallback_models=[B]))
    assert isinstance(step.send(None), Open)
    assert isinstance(step.send(StreamResponse(200, {}, "handle")), Read)
    step.throw(LAGGED)  # closes
    order = step.send(None)
    attempt = order.event
    assert isinstance(attempt, AttemptFinished)
    assert attempt.attempt.verdict.code == "local_lag"
    assert attempt.attempt.verdict.blame == "local"
    step.close()


# --- once it is committed ---


def test_the_models_breaker_learns_from_a_stream_that_breaks() -> None:
    world = World()
    world.script(A, r.stream(r.role(), "one", r.cut()))
    for _ in range(3):
        assert world.ask(stream=True).gives == "StreamInterruptedError"
    assert world.router.health.breaker(HOST, A).state is BreakerState.OPEN  # half of what it did was good, at first


def test_an_end_that_is_nobodys_fault_teaches_nothing() -> None:
    world = World()
    world.script(A, r.stream(r.role(), "one", r.error_event(400, "no")))
    for _ in range(10):
        told = world.ask(stream=True)
        assert told.attempts == [f"{A} 200 invalid_request"]
    assert world.router.health.breaker(HOST, A).state is BreakerState.CLOSED


@pytest.mark.parametrize("way", ["restart", "continue"])
def test_the_next_model_takes_over_behind_a_marker(way: str) -> None:
    world = World()
    world.script(A, r.stream(r.role(), "one ", r.cut()))
    world.script(B, r.stream(r.role(), "two", r.end()))
    told = world.ask(stream=True, fallback_models=[B], on_interrupt=way)
    assert told.attempts == [f"{A} 200 truncated", f"{B} 200 ok"]
    assert told.gives == ("two" if way == "restart" else "one two")
    assert told.delivered == "one two"


def test_a_tool_call_is_not_continued() -> None:
    world = World()
    part = {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{"}}]}
    world.script(A, r.stream(r.role(), r.delta(**part), r.cut()))
    told = world.ask(stream=True, fallback_models=[B], on_interrupt="continue")
    assert told.gives == "StreamInterruptedError"
    assert told.attempts == [f"{A} 200 truncated"]


def test_when_nobody_can_take_over_the_interruption_is_the_error() -> None:
    world = World()
    world.script(A, r.stream(r.role(), "one ", r.cut()))
    for model in (B, C):
        world.script(model, r.error(500))
    told = world.ask(stream=True, fallback_models=[B, C], on_interrupt="restart")
    assert isinstance(told.error, StreamInterruptedError)
    assert told.error.partial_text == "one "
    assert len(told.attempts) == 4


def test_the_usage_comes_from_the_last_chunk_that_has_one() -> None:
    first, last = {"total_tokens": 1, "cost": 1}, {"total_tokens": 2, "cost": 2}
    told = answered(
        chunk("one"), event({"choices": [], "usage": first}), event({"choices": [], "usage": last}), chunk(None, "stop")
    )
    assert told.answer is not None
    assert told.answer.cost == 2


@pytest.mark.parametrize(
    ("usages", "cost", "total"),
    [
        ([{"total_tokens": 2}, {"cost": 3}], 3, 2),
        ([{"total_tokens": 2, "cost": 3}, {}], 3, 2),
        ([{"total_tokens": 2, "cost": 3}, None, "none"], 3, 2),
        ([{"total_tokens": 1, "cost": 1}, {"total_tokens": 2}], 1, 2),
    ],
)
def test_the_usage_may_stand_in_several_chunks(usages: list[Any], cost: int, total: int) -> None:
    told = answered(chunk("one"), *(event({"choices": [], "usage": each}) for each in usages), chunk(None, "stop"))
    assert told.answer is not None
    assert (told.answer.cost, told.answer.usage.total_tokens, told.answer.usage.cost) == (cost, total, cost)


def test_what_one_stream_cost_is_not_booked_to_the_one_that_goes_on_from_it() -> None:
    world = World()
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9, "cost": 9}
    said = {"index": 0, "delta": {"content": "one "}}
    world.script(A, body(event({"choices": [said], "usage": usage})))
    world.script(B, r.stream(r.role(), "two", r.end()))
    told = world.ask(stream=True, fallback_models=[B], on_interrupt="continue")
    assert (told.gives, told.attempts) == ("one two", [f"{A} 200 truncated", f"{B} 200 ok"])
    assert told.answer is not None
    assert (told.answer.cost, told.answer.usage.total_tokens) == (None, 0)


# --- interrupted ---


@pytest.mark.parametrize("at", range(9))
def test_interrupted_anywhere_the_account_is_closed_and_nothing_stays_open(at: int) -> None:
    world = World()
    world.script(A, r.stream(r.role(), "one ", "two", r.end(), r.done()))
    step = world.router.stream(asking(stream=True))
    with suppress(KeyboardInterrupt):  # the last ones are beyond its end
        world.gateway.run(step, Interruption(at))
    assert not world.gateway.open
    assert type(world.events[-1]).__name__ == "CallFinished"
    finished = [each for each in world.events if isinstance(each, AttemptFinished)]
    assert len(finished) == 1
    assert finished[0].attempt.verdict.code in ("ok", "cancelled")
    assert world.router.health.breaker(HOST, A).state is BreakerState.CLOSED
