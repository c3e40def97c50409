"""Clocks that jump, machines that sleep, processes that stand still: deadlines hold, and nobody is blamed for it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from routerkit import (
    APITimeoutError,
    DeadlineExceededError,
    RouterKitError,
    StreamInterruptedError,
    Timeouts,
)
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.faults.catalogue import fault, row
from tests.support.facades import AsyncCaller, SkippingRuntime, SyncCaller
from tests.support.scenarios import A, B, C

Facade = type[SyncCaller | AsyncCaller]


class ShiftedRuntime(SkippingRuntime):
    """Its wall clock may be set."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = 0.0

    def wall(self) -> float:
        return time.time() + self.shift


SHIFTS = [
    row(105, 3600.0, name="an hour ahead"),
    row(105, -3600.0, name="an hour back"),
    row(105, -time.time(), name="1970"),
    row(105, 1.0, name="leap second"),
    row(105, -1.0, name="leap second taken back"),
]


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_wall_clock_moves_nothing(facade: Facade, server: FaultServer, shift: float) -> None:
    """Open breakers stay open, cooldowns last as long, the catalogue is as fresh, and calls under way know nothing of it."""
    runtime = ShiftedRuntime()

    def jump(connection: Connection, request: RecordedRequest) -> None:
        runtime.shift = shift
        r.completion()(connection, request)

    server.script(A, r.error(500))
    server.script(B, r.error(429, headers={"Retry-After": "30"}))
    server.script("d/jump", jump)
    server.script("e/hang", r.hang())
    server.catalog = [r.catalog_model("x/dear")]
    with facade(base_url=server.url, runtime=runtime) as caller:
        models = caller.models()
        for _ in range(5):
            assert caller.complete(model=A, fallback_models=[B, C]).model == C
        before = caller.client.health()
        assert sorted(before.breakers.values()) == ["closed", "closed", "closed", "open"]
        assert [round(seconds) for seconds in before.cooldowns.values()] == [30]
        assert caller.complete(model="d/jump").text == "Hello from d/jump"
        after = caller.client.health()
        assert after.breakers == {**before.breakers, "d/jump on " + caller.client.settings.gateway.name: "closed"}
        assert [round(seconds) for seconds in after.cooldowns.values()] == [30]
        assert caller.models() == models
        assert server.catalog_requests == 1
        answer = caller.complete(model=A, fallback_models=[B, C])
        assert (answer.route.models, [skip.model for skip in answer.route.skipped]) == ((C,), [A, B])
        with pytest.raises(APITimeoutError):
            caller.complete(model="e/hang", timeout=Timeouts(first_byte=0.02, total=60))
        runtime.advance(31)
        server.script(B, r.completion())
        assert caller.complete(model=B).route.models == (B,)


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_date_is_relative_to_that_of_the_server(facade: Facade, server: FaultServer, shift: float) -> None:
    """Not to ours, which may be wrong."""
    runtime = ShiftedRuntime()
    runtime.shift = shift
    headers = {"Date": "Sat, 01 Mar 2025 10:00:00 GMT", "Retry-After": "Sat, 01 Mar 2025 10:00:40 GMT"}
    server.script(A, r.error(429, headers=headers))
    with facade(base_url=server.url, runtime=runtime) as caller:
        assert caller.complete(model=A, fallback_models=[B]).model == B
        assert [round(seconds) for seconds in caller.client.health().cooldowns.values()] == [40]


def stand_still(runtime: SkippingRuntime, then: r.Reply) -> r.Reply:
    """An answer during which the machine is suspended for an hour."""

    def reply(connection: Connection, request: RecordedRequest) -> None:
        runtime.advance(3600)
        then(connection, request)

    return reply


@fault(106)
def test_a_call_that_was_asleep_ends_once(facade: Facade, server: FaultServer) -> None:
    runtime = SkippingRuntime()
    server.script(A, stand_still(runtime, r.error(503)))
    server.script(B, stand_still(runtime, r.completion("better late")))
    with facade(base_url=server.url, runtime=runtime) as caller:
        with pytest.raises(DeadlineExceededError) as caught:
            caller.complete(model=A, fallback_models=[B, C])
        assert caught.value.route is not None
        assert caught.value.route.models == (A,)
        assert server.models_asked == [A]
        assert caller.complete(model=B, fallback_models=[C]).text == "better late"


@fault(106)
def test_a_stream_that_was_asleep_ends_once(facade: Facade, server: FaultServer) -> None:
    runtime = SkippingRuntime()
    server.script(A, r.stream(r.role(), "one", r.pause(60)))
    with facade(base_url=server.url, runtime=runtime) as caller:
        reader = caller.stream(model=A, fallback_models=[B])
        assert reader.next() is not None
        runtime.advance(3600)
        with pytest.raises(StreamInterruptedError) as caught:
            drain(reader)
        assert (caught.value.partial_text, caught.value.code) == ("one", "deadline")
        assert isinstance(caught.value.__cause__, DeadlineExceededError)
        assert server.models_asked == [A]
        caller.until(server, lambda: server.open_connections == 0)
        assert set(caller.client.health().breakers.values()) == {"closed"}


def drain(reader: Any) -> None:
    while reader.next() is not None:
        pass


@fault(112)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [SyncCaller, AsyncCaller])
def test_a_time_limit_that_ran_out_while_nobody_looked_blames_nobody(
    server: FaultServer, kind: Facade, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is blocked, or the thread busy with a signal, when the time of an attempt is over."""
    for module in ("call", "streaming"):
        monkeypatch.setattr(f"routerkit.core.{module}.MAX_LAG", 0.05)
    main = threading.main_thread().ident
    assert main is not None
    quick = Timeouts(first_byte=0.1, first_token=0.1, total=60)

    def block(*_: object) -> None:
        time.sleep(0.25)

    def blocking(connection: Connection, request: RecordedRequest) -> None:
        if isinstance(caller, AsyncCaller):
            caller.loop.call_soon_threadsafe(block)
        else:
            signal.pthread_kill(main, signal.SIGUSR1)
        connection.wait()

    server.script(A, blocking)
    server.catalog = r.error(404)
    before = signal.signal(signal.SIGUSR1, block)
    try:
        with kind(base_url=server.url) as caller:
            ask: Callable[..., Any] = caller.stream if stream else caller.complete
            with pytest.raises(RouterKitError) as caught:
                ask(model=A, timeout=quick)
            assert caught.value.route is not None
            seen = [
                (str(each.verdict), str(each.verdict.blame), str(each.verdict.sample))
                for each in caught.value.route.attempts
            ]
            assert set(seen) == {("local_lag", "local", "neutral")}
            health = caller.client.health()
            assert (set(health.breakers.values()), health.cooldowns) == ({"closed"}, {})
    finally:
        signal.signal(signal.SIGUSR1, before)
