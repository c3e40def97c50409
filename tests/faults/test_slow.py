"""Faults 14 to 16: answers that trickle, come in pieces, or stop coming."""

from __future__ import annotations

from typing import Any

import pytest

from routerkit import Timeouts
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.faults.catalogue import fault
from tests.faults.outcomes import After
from tests.faults.ways import BROKEN, INTERRUPTED, check_way, moves_on, serving
from tests.support.facades import AsyncCaller, SyncCaller
from tests.support.scenarios import QUICK, A, Ask

Facade = type[SyncCaller | AsyncCaller]

MODEL = After([A])
NOBODY = After()


def dripping(data: bytes) -> list[r.Part | bytes]:
    """A byte now and then, for longer than any test waits."""
    return [piece for byte in data * 3 for piece in (bytes([byte]), r.pause(0.03))]


WORD = b'data: {"choices": [{"index": 0, "delta": {"content": "never"}}]}'


@fault(14)
def test_a_trickle_ends_with_the_deadline() -> None:
    timeouts = Timeouts(idle=0.3, total=0.4)
    ask = Ask([f"{A} 200 deadline"], "DeadlineExceededError", timeouts=timeouts)
    check_way(
        serving(r.drip_body(0.03)),
        ask,
        says="fail blames nobody (neutral), responded, billing possible",
        after=NOBODY,
    )


@fault(14)
def test_a_trickle_before_the_first_word_is_left() -> None:
    way = serving(r.stream(r.role(), *dripping(WORD)))
    check_way(way, moves_on("200 first_token_timeout", stream=True), says=BROKEN)


@fault(14)
def test_a_trickle_after_the_first_word_breaks_the_stream() -> None:
    way = serving(r.stream(r.role(), "one ", *dripping(WORD)))
    ask = Ask([f"{A} 200 content_idle_timeout"], "StreamInterruptedError", stream=True, timeouts=QUICK, partial="one ")
    check_way(way, ask, says=INTERRUPTED, after=MODEL)


class Sliced(Connection):
    """A connection on which every byte goes out by itself."""

    def __init__(self, whole: Connection) -> None:
        self._whole = whole
        self.keep_alive = whole.keep_alive

    def send(self, data: bytes) -> None:
        for byte in data:
            self._whole.send(bytes([byte]))

    def wait(self, until: Any = None) -> None:
        self._whole.wait(until)

    def close(self) -> None:
        self._whole.close()

    def reset(self) -> None:
        self._whole.reset()


def sliced(reply: r.Reply) -> r.Reply:
    def send(connection: Connection, request: RecordedRequest) -> None:
        inner = Sliced(connection)
        reply(inner, request)
        connection.keep_alive = inner.keep_alive

    return send


WHOLE = {
    "completion": (r.completion("Grüße, 你好 👋🏽"), False),
    "gzip": (
        r.gzip_body({"id": "x", "choices": [{"index": 0, "message": {"content": "zip"}, "finish_reason": "stop"}]}),
        False,
    ),
    "error": (r.error(429, message="slow down", headers={"Retry-After": "7"}), False),
    "stream": (r.completion("Grüße, 你好 👋🏽"), True),
    "stream of unknown length": (r.stream(r.role(), "Grü", "ße", r.end(), r.done(), framing="close"), True),
    "stream with comments": (
        r.stream(r.comment(), r.role(), "a", r.comment(), "b", r.end(), r.usage(), r.done()),
        True,
    ),
    "stream that breaks": (r.stream(r.role(), "one ", "two", r.cut()), True),
}


@fault(15)
@pytest.mark.parametrize("kind", WHOLE)
def test_bytes_one_by_one_are_the_same_answer(facade: Facade, kind: str) -> None:
    reply, stream = WHOLE[kind]
    traces = []
    for each in (reply, sliced(reply)):
        with FaultServer() as server, facade(base_url=server.url) as caller:
            server.script(A, each)
            trace = caller.ask(Ask([], "", stream=stream))
            traces.append((trace, trace.details))
    assert traces[0] == traces[1]


@fault(16)
def test_a_peer_that_is_gone_without_a_word() -> None:
    way = serving(r.stream(r.role(), "one ", "two", r.pause(30)))
    ask = Ask([f"{A} 200 idle_timeout"], "StreamInterruptedError", stream=True, timeouts=QUICK, partial="one two")
    check_way(way, ask, says=INTERRUPTED, after=MODEL)
