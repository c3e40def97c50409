"""Whole calls of several processes that share a board: who is asked, who probes, and what is left when a call is cancelled."""

from __future__ import annotations

from typing import Any

import pytest

from routerkit.core.router import Router
from routerkit.testing import replies as r
from routerkit.types.event import BreakerState
from tests.support.board import BoardServer, MemoryBoard
from tests.support.core import HOST, KEY, A, B, World, after, asking, target
from tests.support.virtual import Interruption, VirtualRuntime

PROBE = f"lease probe {A} on {HOST}"


@pytest.fixture
def server() -> BoardServer:
    return BoardServer(VirtualRuntime(1.0))


def process(server: BoardServer, **settings: Any) -> World:
    """One of the fleet, with a gateway of its own that answers as it is told."""
    world = World(runtime=server.runtime, fallback_models=[B], **settings)
    world.router = Router(world.settings, world.runtime, board=MemoryBoard(server))
    world.gateway.perform_ask = server.perform
    return world


def state(world: World, model: str = A) -> BreakerState:
    return world.router.health.breaker(HOST, model).state


def down(server: BoardServer, *worlds: World) -> None:
    """Both have heard that A fails; its time is just over."""
    first, *others = worlds
    for world in others:
        state(world)
    first.trip(A)
    for world in worlds:
        world.script(B, r.completion("fine"))
        assert world.ask(fallback_models=[B]).gives == "fine"
        server.runtime.now += 1
    server.runtime.now = first.router.health.breaker(HOST, A).open_until


def test_a_call_moves_on_where_another_process_saw_failures(server: BoardServer) -> None:
    one, two = process(server), process(server)
    one.trip(A)
    one.script(B, r.completion("fine"))
    assert one.ask(fallback_models=[B]).skipped == {A: "its breaker is open"}
    two.script(B, r.completion("fine"))
    told = two.ask(fallback_models=[B])
    assert told.gives == "fine"
    assert told.skipped == {A: "its breaker is open: another process saw it fail"}
    (skip,) = told.route.skipped
    assert skip.retry_after == pytest.approx(5)


def test_where_another_process_probes_no_other_key_helps(server: BoardServer) -> None:
    one, two = process(server), process(server, api_key=[KEY, KEY + "2"])
    down(server, one, two)
    two.script(B, r.completion("fine"))

    def meanwhile(connection: Any, request: Any) -> None:
        before = server.asked.count(PROBE)
        assert two.ask(fallback_models=[B]).skipped == {A: "another process probes it"}
        assert server.asked.count(PROBE) == before + 1
        r.completion("well")(connection, request)

    one.script(A, meanwhile)
    assert one.ask().gives == "well"


def test_what_a_mock_says_is_for_nobody_else(server: BoardServer) -> None:
    world = process(server, dev_mode=True, performance_cache=True)
    assert world.ask().answer is not None
    assert world.router.board is None
    assert server.asked == []


def test_what_one_process_learns_orders_what_the_others_ask() -> None:
    server = BoardServer(VirtualRuntime(0.5))
    one, two = (process(server, strategy="performance_optimized") for _ in range(2))
    for world in (one, two):
        world.script(A, after(5, r.completion("slow")))
        world.script(B, r.completion("fast"))
    for model in (A, B):
        for _ in range(4):
            assert one.ask(model=model).error is None
    server.runtime.now += 15
    assert one.ask(model=B).error is None
    assert two.ask(model=None, fallback_models=[A, B]).gives == "fast"


def test_where_nobody_looks_at_scores_none_are_shared(server: BoardServer) -> None:
    world = process(server)
    for _ in range(3):
        assert world.ask().error is None
        server.runtime.now += 15
    assert server.asked
    assert not [what for what in server.asked if "scores" in what]


def test_a_process_of_its_own_keeps_nothing_for_others() -> None:
    world = World(strategy="performance_optimized")
    assert world.ask().error is None
    assert world.router.scores.get(target(A)) is not None
    assert not world.router.scores.untold


@pytest.mark.parametrize("stream", [False, True])
def test_one_call_probes_for_all(server: BoardServer, stream: bool) -> None:
    one, two = process(server), process(server)
    down(server, one, two)
    two.script(B, r.completion("fine"))

    def meanwhile(connection: Any, request: Any) -> None:
        told = two.ask(fallback_models=[B])
        assert told.skipped == {A: "another process probes it"}
        (skip,) = told.route.skipped
        assert skip.retry_after == pytest.approx(1)
        r.completion("well")(connection, request)

    one.script(A, meanwhile, r.completion("well"))
    assert one.ask(stream=stream).gives == "well"
    assert not server.leases
    assert one.ask().gives == "well"
    assert state(one) is BreakerState.CLOSED
    server.runtime.now += 1
    two.script(A, r.completion("well"))
    assert two.ask().attempts == [f"{A} 200 ok"]


def test_a_stream_gives_its_lease_back_with_its_first_content(server: BoardServer) -> None:
    one, two = process(server), process(server)
    down(server, one, two)
    one.script(A, r.completion("well"))
    request = asking(stream=True)
    held: list[Any] = []

    def chunks() -> None:
        step = one.router.stream(request)
        effect = step.send(None)
        while True:
            if type(effect).__name__ == "Deliver" and not held:
                held.append([scope for scope in server.leases if server.holder(scope)])
            effect = step.send(one.gateway._performed(effect, []))

    with pytest.raises(StopIteration):
        chunks()
    assert held == [[]]


def test_with_nothing_else_to_try_a_call_says_when_to_come_back(server: BoardServer) -> None:
    one, two = process(server), process(server)
    down(server, one, two)

    def meanwhile(connection: Any, request: Any) -> None:
        told = two.ask()
        assert told.gives == "NoEligibleModelError"
        assert told.error is not None
        assert told.error.retry_after == pytest.approx(1)
        r.completion("well")(connection, request)

    one.script(A, meanwhile)
    assert one.ask().gives == "well"


def test_panic_probes_need_a_lease_too(server: BoardServer) -> None:
    one, two = process(server), process(server)
    for world in (one, two):
        world.trip(A)

    def meanwhile(connection: Any, request: Any) -> None:
        assert two.ask().gives == "NoEligibleModelError"
        assert not [asked for asked in two.gateway.requests if asked.method == "POST"]
        r.completion("well")(connection, request)

    one.script(A, meanwhile)
    assert one.ask().gives == "well"
    server.runtime.now += 1
    two.script(A, r.completion("well"))
    assert two.ask().gives == "well"
    assert state(two) is BreakerState.CLOSED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reply", ["well", "failing"])
def test_cancelled_anywhere_no_lease_is_held(server: BoardServer, stream: bool, reply: str) -> None:
    at, happened = 0, True
    while happened:
        one = process(server)
        down(server, one)
        one.script(A, r.completion("well") if reply == "well" else r.error(500))
        one.gateway.performed = 0
        interruption = Interruption(at)
        request = asking(stream=stream, fallback_models=[B])
        try:
            one.gateway.run((one.router.stream if stream else one.router.complete)(request), interruption)
        except KeyboardInterrupt:
            assert interruption.happened
        happened = interruption.happened
        assert not one.gateway.open
        server.runtime.now += 1
        one.gateway.run(one.router.meet())
        assert [scope for scope in server.leases if server.holder(scope)] == [], f"{at}: {interruption.effect}"
        one.router.health.admit(target(A), one.router.access[HOST].keys, lease=10, stream=False)
        server.hints.clear()
        at += 1
    assert at > 5
