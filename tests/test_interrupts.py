"""Streams that break after their first content, and what the caller asked for then: `on_interrupt`, through both facades."""

from __future__ import annotations

import json
from typing import Any

import pytest

from routerkit import (
    Chunk,
    InvalidRequestError,
    RetryPolicy,
    RouterKitError,
    StreamInterruptedError,
    StreamReset,
    StreamSeam,
)
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.support.facades import FACADES, AsyncCaller, Reader, SyncCaller
from tests.support.scenarios import A, B, C, story

BROKEN = story("Once ", "upon ", r.cut())


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> type[SyncCaller | AsyncCaller]:
    return FACADES[request.param]


def asked(server: FaultServer, number: int) -> dict[str, Any]:
    """The body of the n-th chat request."""
    body: dict[str, Any] = json.loads(server.chat_requests[number].body)
    return body


def read(reader: Reader) -> list[Chunk]:
    chunks = []
    while (chunk := reader.next()) is not None:
        chunks.append(chunk)
    return chunks


def said(chunks: list[Chunk]) -> list[str]:
    """Texts and the names of markers."""
    return [type(chunk).__name__ if type(chunk) is not Chunk else chunk.text for chunk in chunks if _shows(chunk)]


def _shows(chunk: Chunk) -> bool:
    return type(chunk) is not Chunk or bool(chunk.text)


def test_restart(facade: type[SyncCaller | AsyncCaller]) -> None:
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, BROKEN)
        server.script(B, r.completion("It was"))
        reader = caller.stream(model=A, fallback_models=[B], on_interrupt="restart")
        chunks = read(reader)
        assert said(chunks)[:3] == ["Once ", "upon ", "StreamReset"]
        assert "".join(said(chunks)[3:]) == "It was"
        marker = next(chunk for chunk in chunks if isinstance(chunk, StreamReset))
        assert (marker.model, marker.reason, marker.text) == (B, "truncated", "")
        completion = reader.stream.completion
        assert (completion.text, completion.model) == ("It was", B)
        assert "restarted" in completion.flags
        route = reader.stream.route
        assert [f"{each.model} {each.verdict} {each.verdict.billing}" for each in route.attempts] == [
            f"{A} truncated confirmed",
            f"{B} ok confirmed",
        ]
        assert asked(server, 1)["messages"] == asked(server, 0)["messages"]


def test_continue(facade: type[SyncCaller | AsyncCaller]) -> None:
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, BROKEN)
        server.script(B, r.completion("a time"))
        reader = caller.stream(model=A, fallback_models=[B], on_interrupt="continue", max_tokens=100)
        chunks = read(reader)
        assert said(chunks)[:3] == ["Once ", "upon ", "StreamSeam"]
        marker = next(chunk for chunk in chunks if isinstance(chunk, StreamSeam))
        assert (marker.model, marker.reason) == (B, "truncated")
        completion = reader.stream.completion
        assert (completion.text, completion.model) == ("Once upon a time", B)
        assert {"continued", "model_changed"} <= set(completion.flags)
        assert asked(server, 1)["messages"] == [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Once upon"},
        ]
        assert (asked(server, 0)["max_tokens"], asked(server, 1)["max_tokens"]) == (100, 98)


def test_continue_over_several_models(facade: type[SyncCaller | AsyncCaller]) -> None:
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, story("One, ", r.reset()))
        server.script(B, story("two, ", r.error_event(502, "gone")))
        server.script(C, r.completion("three"))
        reader = caller.stream(model=A, fallback_models=[B, C], on_interrupt="continue")
        assert said(read(reader))[:4] == ["One, ", "StreamSeam", "two, ", "StreamSeam"]
        assert reader.stream.completion.text == "One, two, three"
        assert reader.stream.completion.flags.count("continued") == 2
        assert asked(server, 2)["messages"][-1] == {"role": "assistant", "content": "One, two,"}


def test_a_beginning_that_the_caller_gave_is_added_to(facade: type[SyncCaller | AsyncCaller]) -> None:
    begun = [{"role": "user", "content": "Count"}, {"role": "assistant", "content": "One, "}]
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, story("two, ", r.cut()))
        reader = caller.stream(begun, model=A, fallback_models=[B], on_interrupt="continue")
        read(reader)
        assert asked(server, 1)["messages"] == [begun[0], {"role": "assistant", "content": "One, two,"}]


def test_nothing_was_said_yet_but_thoughts(facade: type[SyncCaller | AsyncCaller]) -> None:
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, story(r.delta(reasoning="Hm"), r.cut()))
        reader = caller.stream(model=A, fallback_models=[B], on_interrupt="continue")
        assert said(read(reader))[0] == "StreamSeam"
        assert asked(server, 1)["messages"] == [{"role": "user", "content": "Hello"}]


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "params",
    [
        {"tools": [TOOL]},
        {"response_format": {"type": "json_object"}},
        {"n": 2},
        {"logprobs": True},
        {"max_tokens": 2},
        {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "One"}]}]},
    ],
    ids=lambda params: next(iter(params)),
)
def test_what_is_not_continued(facade: type[SyncCaller | AsyncCaller], params: dict[str, Any]) -> None:
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, BROKEN)
        reader = caller.stream(model=A, fallback_models=[B], on_interrupt="continue", **params)
        with pytest.raises(StreamInterruptedError) as caught:
            read(reader)
        assert caught.value.partial_text == "Once upon "
        assert server.models_asked == [A]


def test_a_tool_call_is_not_continued(facade: type[SyncCaller | AsyncCaller]) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":'}}
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, story(r.delta(tool_calls=[call]), r.cut()))
        reader = caller.stream(model=A, fallback_models=[B], on_interrupt="continue")
        with pytest.raises(StreamInterruptedError):
            read(reader)
        assert server.models_asked == [A]


@pytest.mark.parametrize("mode", ["restart", "continue"])
def test_moderation_is_the_end(facade: type[SyncCaller | AsyncCaller], mode: Any) -> None:
    flagged = r.error_event(403, "flagged", {"error_type": "content_policy_violation"})
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, story("Once ", flagged))
        reader = caller.stream(model=A, fallback_models=[B], on_interrupt=mode)
        with pytest.raises(StreamInterruptedError) as caught:
            read(reader)
        assert caught.value.code == "content_policy"
        assert server.models_asked == [A]


@pytest.mark.parametrize("mode", ["restart", "continue"])
def test_nobody_is_left(facade: type[SyncCaller | AsyncCaller], mode: Any) -> None:
    """The interruption is raised, with what was delivered; its route tells who else was asked."""
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, BROKEN)
        server.script(B, r.error(503))
        server.catalog = r.error(404)
        reader = caller.stream(model=A, fallback_models=[B], on_interrupt=mode)
        with pytest.raises(StreamInterruptedError) as caught:
            read(reader)
        error = caught.value
        assert error.partial_text == "Once upon "
        assert [each.model for each in error.route.attempts] == [A, B, B]
        assert isinstance(error.__cause__, RouterKitError)


@pytest.mark.parametrize(("mode", "partial"), [("restart", "It was "), ("continue", "Once upon It was ")])
def test_a_second_interruption(facade: type[SyncCaller | AsyncCaller], mode: Any, partial: str) -> None:
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, BROKEN)
        server.script(B, story("It was ", r.cut()))
        server.script(C, r.error(400))
        reader = caller.stream(model=A, fallback_models=[B, C], on_interrupt=mode)
        with pytest.raises(StreamInterruptedError) as caught:
            read(reader)
        assert caught.value.partial_text == partial
        assert server.models_asked == [A, B, C]


def test_at_most_once_never_asks_again(facade: type[SyncCaller | AsyncCaller]) -> None:
    retry = RetryPolicy(at_most_once=True)
    with FaultServer() as server, facade(base_url=server.url, retry=retry) as caller:
        server.script(A, BROKEN)
        reader = caller.stream(model=A, fallback_models=[B], on_interrupt="restart")
        with pytest.raises(StreamInterruptedError):
            read(reader)
        assert server.models_asked == [A]


def test_given_up_after_the_marker(facade: type[SyncCaller | AsyncCaller]) -> None:
    with FaultServer() as server, facade(base_url=server.url) as caller:
        server.script(A, BROKEN)
        server.script(B, story("It was ", r.pause(30)))
        reader = caller.stream(model=A, fallback_models=[B], on_interrupt="restart")
        while not isinstance(reader.next(), StreamReset):
            pass
        reader.close()
        caller.until(server, lambda: server.open_connections == 0)


def test_wrong_modes_are_refused(facade: type[SyncCaller | AsyncCaller]) -> None:
    with FaultServer() as server, facade(base_url=server.url) as caller:
        with pytest.raises(InvalidRequestError, match="must be one of raise, restart, continue"):
            caller.stream(model=A, on_interrupt="splice")
        with pytest.raises(InvalidRequestError, match="only streams"):
            caller.complete(model=A, on_interrupt="restart")
        assert server.requests == []
