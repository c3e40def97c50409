"""Boards while Redis is lost, forked children's, and those behind sockets, sentinels and in clusters."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.core.effects import Loss, StoreFailure
from routerkit.core.entries import Entry
from routerkit.core.fleet import Board, Hint, News
from routerkit.core.limits import Grant
from routerkit.store.redis import RedisStore
from routerkit.store.redis_ask import BLOB_SECONDS, HINTS, ask
from routerkit.store.redis_board import MAX_BLOB, _hints
from routerkit.store.redis_gate import OPEN, PAUSE
from routerkit.types.event import StoreChanged
from tests.store.boards import EVERY_BYTE, KINDS, all_of_it, board, exchange, lease, one, read, release, write
from tests.store.counters import COUNTERS, RedisCounter, day, slots
from tests.store.servers import Server
from tests.store.test_loss import LINKS, UNABLE, answers, no_memory
from tests.store.test_redis import child
from tests.support.virtual import VirtualRuntime

# --- Redis lost ---


@pytest.fixture
def told() -> list[StoreChanged]:
    """What was told of the store."""
    return []


@pytest.fixture(params=LINKS)
def own(request: pytest.FixtureRequest, own_server: Server, told: list[StoreChanged]) -> Any:
    made = COUNTERS[request.param](own_server, notify=told.append)  # type: ignore[call-arg]
    yield made
    made.close()


def test_while_redis_is_lost_nothing_is_asked(own: RedisCounter) -> None:
    assert lease(own, "held")
    own.server.kill()
    for _ in range(3):
        assert exchange(own, News("m", 5.0)) is None
    assert own.store.report().lost, "the board counts in the same gate"
    asked = len(own.asked)
    assert all_of_it(own) == []
    release(own, "held")
    assert own.admit(day(5)).degraded
    assert len(own.asked) == asked
    own.server.start()
    own.runtime.advance(OPEN)
    assert own.run(own.store.board.read("b")) is None
    assert not own.store.report().lost, "what it asks tells that Redis is back"
    assert not own.admit(day(5)).degraded
    assert [len(each) if isinstance(each, dict) else each for each in all_of_it(own)] == [1, True]
    assert read(own) is not None


def test_a_frozen_server_costs_one_time_limit(own: RedisCounter) -> None:
    all_of_it(own)
    own.link._seconds = 0.05
    own.server.freeze()
    asks: list[Callable[[], Any]] = [
        lambda: exchange(own, News("m", 5.0)),
        lambda: lease(own),
        lambda: read(own),
        lambda: write(own, b"data"),
        lambda: release(own),
    ]
    for number, first in enumerate(asks):
        asked = len(own.asked)
        for each in (first, *asks):
            assert each() is None
        assert len(own.asked) == asked + 1, number
        assert own.admit(day(5)).degraded
        own.runtime.advance(PAUSE)
    assert own.store.report().lost
    own.runtime.advance(OPEN)
    own.server.thaw()
    own.link._seconds = 5.0
    assert lease(own, "other") is True


def test_a_frozen_server_is_told_nothing_more(own: RedisCounter) -> None:
    all_of_it(own)
    own.link._seconds = 0.05
    own.server.freeze()
    asked = len(own.asked)
    for number in (1, 2):
        assert own.run(board(own).tell(number, 20_000, [Entry("m/", (1,))])) is None
    assert own.run(board(own).page(20_000, 0)) is None
    assert own.run(board(own).look("", [day(5)])) is None
    assert len(own.asked) == asked + 1
    own.server.thaw()


@UNABLE
def test_a_server_that_cannot_is_lost_until_it_can(
    own: RedisCounter, way: Callable[[Server], None], undo: tuple[str, ...], told: list[StoreChanged]
) -> None:
    """That it may still be read does not bring it back."""
    all_of_it(own)
    assert lease(own, "held")
    way(own.server)
    for _ in range(3):
        write(own, b"data")
    assert own.store.report().lost
    for _ in range(3):
        own.runtime.advance(OPEN)
        assert exchange(own) is None
        own.runtime.advance(OPEN)
        assert read(own) is None
        own.runtime.advance(OPEN)
        assert lease(own, "held") is None
    assert [each.state for each in told] == ["lost"]
    own.server.do(*undo)
    answers(own.server)
    own.runtime.advance(OPEN)
    release(own, "held")
    assert lease(own, "held") is True
    assert [each.state for each in told] == ["lost", "back"]


def test_a_server_without_memory_is_not_back_for_what_is_settled(own: RedisCounter, told: list[StoreChanged]) -> None:
    """What it does not know of it can settle without memory."""
    grant = own.grant(slots(9))
    no_memory(own.server)
    for _ in range(3):
        own.admit(slots(9))
    for _ in range(3):
        own.runtime.advance(OPEN)
        own.settle(own.admit(slots(9)), 1)
        own.runtime.advance(OPEN)
        own.settle(grant, 1)
    assert [each.state for each in told] == ["lost"]


READERS: dict[str, Callable[[RedisStore], Any]] = {
    "hints": lambda store: store.board.exchange([]),
    "lease": lambda store: store.board.lease("m", 5.0),
    "read": lambda store: store.board.read("b"),
    "tally": lambda store: store.board.tell(1, 20_000, [Entry("m/", (1,))]),
    "page": lambda store: store.board.page(20_000, 0),
    "look": lambda store: store.board.look("", [day(5)]),
    "settle": lambda store: store.settle(Grant(store._line.identity(), (slots(9),), ""), (1,)),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reply_to_a_reader_meanwhile_does_not_make_all_well(redis_counter: RedisCounter, name: str) -> None:
    """It was asked before the failure."""
    step, line = READERS[name](redis_counter.store), board(redis_counter)._line
    order = step.send(None)
    assert order.script.name == name
    line.failed(StoreFailure(Loss.UNABLE, "OOM"))
    with pytest.raises(StopIteration):
        step.send(redis_counter.run(one(order)))
    assert line.gate.suspicious
    assert exchange(redis_counter) is not None
    assert redis_counter.asked == [name, "add", "hints"]
    assert not line.gate.suspicious


def test_a_reader_that_asked_alone_makes_room_for_the_next(redis_counter: RedisCounter) -> None:
    line = board(redis_counter)._line
    line.failed(StoreFailure(Loss.UNABLE, "OOM"))
    assert line.enter()
    assert not line.enter()
    redis_counter.run(line.answer(ask(HINTS, (redis_counter.store._names.hints,)), _hints, proof=False))
    assert line.enter()


def test_a_flush_loses_advice_and_nothing_else(redis_counter: RedisCounter) -> None:
    all_of_it(redis_counter)
    assert lease(redis_counter)
    redis_counter.server.clear()
    assert exchange(redis_counter) == {}
    assert read(redis_counter) is None
    assert lease(redis_counter) is True
    release(redis_counter)
    assert lease(redis_counter) is True


def test_whatever_answers_is_no_advice() -> None:
    for reply in (
        None,
        b"OK",
        b"",
        b"1 2 3",
        b"1 2 0 x 1 1",
        [b"1 2 0 2", b"x" * 99],
        [b"1 2 0", b""],
        [1],
        [[], b""],
        7,
    ):
        store = RedisStore("redis://localhost", VirtualRuntime())
        assert answered(store.board.exchange([]), reply) is None or reply == b"1 2 3"
        store = RedisStore("redis://localhost", VirtualRuntime())
        assert answered(store.board.read("b"), reply) is None
        store = RedisStore("redis://localhost", VirtualRuntime())
        assert answered(store.board.lease("m", 5.0), reply) in (None, reply == b"1 2 3")
        store = RedisStore("redis://localhost", VirtualRuntime())
        assert answered(store.board.page(1, 0), reply) is None
        store = RedisStore("redis://localhost", VirtualRuntime())
        assert answered(store.board.look("", [day(5)]), reply) is None
        store = RedisStore("redis://localhost", VirtualRuntime())
        assert answered(store.board.tell(1, 1, []), reply) in (None, (True, 0))


def answered(step: Any, reply: Any) -> Any:
    try:
        step.send(None)
        step.send(reply)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it asks for more")


WORDS = st.sampled_from([b"1", b"0", b"a" * 26, b"600000", b"-1", b"1e3", b"x", b"", b"9" * 30, b"\xff"])


@given(reply=st.one_of(st.binary(max_size=60), st.lists(WORDS, max_size=12).map(b" ".join), st.none(), st.integers()))
def test_any_reply_is_hints_or_refused(reply: Any) -> None:
    try:
        hints, replaced = _hints(reply)
    except StoreFailure as failure:
        assert failure.loss is Loss.REPLY  # noqa: PT017 - or it is not raised
    else:
        assert replaced >= 0
        for name, hint in hints.items():
            assert re.fullmatch("[a-z2-7]{26}", name)
            assert isinstance(hint, Hint)
            assert 0 <= hint.left <= 600
            assert hint.age >= 0


# --- forks, other ways to a server ---


def test_a_forked_child_leaves_its_parents_leases_alone(server: Server) -> None:
    code = """
made = [drive(store.board.lease(scope, 60.0), perform) for scope in ("a", "b")]
store.board.release_soon("b")
pid = os.fork()
if pid == 0:
    assert store._lock.acquire(False)  # as a thread of the parent might have
    store.forget()
    drive(store.board.release("a"), perform)
    drive(store.board.release("b"), perform)
    made = [drive(store.board.lease(scope, 60.0), perform) for scope in ("a", "b", "c")]
    os._exit(0 if made == [False, False, True] else 1)
_, status = os.waitpid(pid, 0)
drive(store.board.release("a"), perform)
made += [drive(store.board.lease(scope, 60.0), perform) for scope in ("a", "b", "c")]
print(status, made)
"""
    with child(code, server.url) as process:
        output, _ = process.communicate(timeout=60)
    assert output == "0 [True, True, True, True, False]\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_socket(server: Server, kind: type[RedisCounter]) -> None:
    counter = kind(server, url=f"unix://{server.socket}?db=3")
    assert len(all_of_it(counter)) == 2
    write(counter, EVERY_BYTE * 4096)
    blob = read(counter)
    assert blob is not None
    assert blob.data == EVERY_BYTE * 4096
    counter.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sentinel(server: Server, kind: type[RedisCounter]) -> None:
    with Server(sentinel=f"sentinel monitor main 127.0.0.1 {server.port} 1\n") as sentinel:
        counter = kind(server, url=f"redis+sentinel://127.0.0.1:{sentinel.port}/main")
        assert len(all_of_it(counter)) == 2
        assert not counter.store.report().losses
        counter.close()


def test_a_cluster(server: Server) -> None:
    with Server("--cluster-enabled", "yes") as cluster:
        cluster.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while "cluster_state:ok" not in str(cluster.do("CLUSTER", "INFO")):
            pass
        for kind in KINDS:
            counter = kind(cluster, url=f"redis+cluster://127.0.0.1:{cluster.port}", namespace=kind.__name__)
            assert counter.run(counter.store.check()) is True
            assert len(all_of_it(counter)) == 2
            for scope in ("a", "b", "c"):
                assert lease(counter, scope)
                board(counter).release_soon(scope)
            joined = dict(getattr(counter.link, "_clusters", {}))
            cluster.do("SCRIPT", "FLUSH")
            for data in (b"", EVERY_BYTE * 4096, os.urandom(MAX_BLOB)):
                write(counter, data)
                blob = read(counter)
                assert blob is not None
                assert blob.data == data
            assert lease(counter, "a")
            assert getattr(counter.link, "_clusters", {}) == joined, "it was joined once"
            assert not counter.store.report().losses
            cluster.do("CONFIG", "SET", "maxmemory", "1")
            write(counter, b"data")
            assert exchange(counter) is None
            cluster.do("CONFIG", "SET", "maxmemory", "0")
            counter.close()


def test_no_time_limit_of_redis_py_is_shorter_than_ours(server: Server) -> None:
    link = RedisStore(server.url, VirtualRuntime()).async_link()

    async def main() -> Any:
        await link.perform(ask(HINTS, ("{rk:x}:hints",), seconds=5.0))
        (home,) = link._homes.values()
        limit = home._idle[0].socket_timeout
        await link.close()
        return limit

    assert asyncio.run(main()) >= BLOB_SECONDS


def test_it_is_a_board(server: Server) -> None:
    made: Board = RedisStore(server.url, VirtualRuntime()).board
    assert made.name("m") == made.name("m")
