"""Redis is lost in every way there is: what is decided alone, how often it is asked, and what it is told when it is back.

The servers are real; the time between two attempts is virtual.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
import redis

from routerkit.core.effects import Ask, Loss, StoreFailure
from routerkit.core.limits import Denial, Grant
from routerkit.store.redis import RESETS
from routerkit.store.redis_ask import ADD, BLOB_SECONDS, READ, ask
from routerkit.store.redis_async import MAX_AT_ONCE
from routerkit.store.redis_gate import FLIGHT, OPEN, PAUSE, Gate
from routerkit.store.redis_link import BoundedSocket
from routerkit.types.event import StoreChanged, StoreState
from tests.store.counters import COUNTERS, AsyncRedisCounter, MemoryCounter, RedisCounter, day, money, rate, slots
from tests.store.servers import Server, free_port

NANO = 10**9
LINKS = ["redis", "redis-async"]


def lose(counter: RedisCounter) -> None:
    """From now on nobody answers."""
    counter.server.kill()
    for _ in range(3):
        counter.admit()
    assert counter.store.report().lost


def find(counter: RedisCounter) -> None:
    """It is back, and asked again."""
    counter.server.start()
    counter.runtime.advance(OPEN)


@pytest.fixture(params=LINKS)
def losing(request: pytest.FixtureRequest, own_server: Server) -> Iterator[RedisCounter]:
    made = COUNTERS[request.param](own_server, workers=4, offline_allowance=Decimal("0.5"))  # type: ignore[call-arg]
    assert isinstance(made, RedisCounter)
    yield made
    made.close()


# --- the gate ---


def test_three_failures_and_nobody_asks() -> None:
    gate = Gate()
    assert [gate.failed(10.0, timeout=False) for _ in range(4)] == [False, False, True, False]
    assert gate.lost
    assert not gate.enter(10.0 + OPEN - 0.01)
    assert gate.enter(10.0 + OPEN)
    assert not gate.enter(10.0 + OPEN), "one asks at a time"
    assert gate.enter(10.0 + OPEN + FLIGHT), "unless nothing is heard of it"
    gate.left()
    assert gate.enter(10.0 + OPEN + FLIGHT)
    assert not gate.failed(20.0, timeout=True), "it was lost before"
    assert not gate.enter(20.0 + OPEN - 0.01)
    gate.reset()
    assert gate.enter(20.0)
    assert gate.enter(20.0)


def test_time_outs_make_a_pause_and_five_over_two_seconds_a_loss() -> None:
    gate = Gate()
    for number in range(4):
        assert not gate.failed(number * PAUSE, timeout=True)
        assert not gate.enter(number * PAUSE + PAUSE - 0.01)
        assert gate.enter(number * PAUSE + PAUSE)
    assert not gate.lost
    assert gate.failed(4 * PAUSE, timeout=True)


def test_many_time_outs_at_once_are_this_process_that_stood_still() -> None:
    gate = Gate()
    assert not any(gate.failed(1.0, timeout=True) for _ in range(100))


def test_a_server_that_refuses_us_is_lost_at_once() -> None:
    assert Gate().failed(1.0, timeout=False, hopeless=True)


# --- decisions made alone ---


def test_a_lost_server_is_asked_once_in_five_seconds(losing: RedisCounter) -> None:
    losing.grant(day(9))
    lose(losing)
    asked = len(losing.asked)
    for _ in range(50):
        assert losing.admit(slots(999)).degraded
        losing.runtime.advance(0.099)
    assert len(losing.asked) == asked
    losing.runtime.advance(0.06)
    for _ in range(50):
        losing.admit(slots(999))
    assert len(losing.asked) == asked + 1


def test_rates_and_slots_go_on_at_a_share(losing: RedisCounter) -> None:
    lose(losing)
    assert losing.room(rate(12)) == 3
    assert losing.room(slots(12)) == 3
    assert losing.room(slots(2, name="few")) == 1, "never none at all"
    assert losing.room(slots(0, name="none")) == 0
    denial = losing.denial(rate(12))
    assert denial.degraded
    assert denial.charge == rate(12)
    assert denial.retry_after == OPEN
    losing.runtime.advance(4)
    assert losing.denial(rate(12)).retry_after == 1.0


def test_a_day_goes_on_from_what_was_known(losing: RedisCounter) -> None:
    for _ in range(20):
        losing.grant(day(100))
    lose(losing)
    losing.runtime.now += time.time() - losing.runtime.wall()
    assert losing.room(day(100)) == 20
    assert losing.room(day(100, name="unheard of")) == 25
    denial = losing.denial(day(100))
    assert (denial.never, denial.retry_after) == (False, OPEN), "then Redis is asked again"
    assert losing.denial(day(100, 101)).never
    losing.runtime.now += 86_400
    losing.store._line.gate.opens_at = losing.runtime.now + OPEN
    assert losing.room(day(100)) == 25


def test_money_is_closed_after_an_allowance(losing: RedisCounter) -> None:
    losing.settle(losing.grant(money(5 * NANO, NANO)), NANO)
    losing.runtime.now += time.time() - losing.runtime.wall()
    lose(losing)
    assert losing.room(money(5 * NANO, NANO // 10)) == 5, "half a dollar"
    assert losing.room(money(NANO, NANO // 100, name="small")) == 25, "a quarter of what is left"
    assert losing.denial(money(5 * NANO, NANO // 10)).degraded
    losing.grant(money(5 * NANO, 0))


def test_what_was_decided_alone_is_settled_alone(losing: RedisCounter) -> None:
    lose(losing)
    grant = losing.grant(slots(4), day(4), money(4 * NANO, NANO // 2))
    losing.denial(slots(4))
    losing.settle(grant, 1, 0, 0)
    losing.settle(grant, 1, 1, NANO)
    losing.grant(slots(4), day(4), money(4 * NANO, NANO // 2))


# --- back again ---


def test_what_was_admitted_alone_is_added_once(losing: RedisCounter) -> None:
    losing.grant(day(100))
    losing.runtime.now += time.time() - losing.runtime.wall()
    lose(losing)
    for _ in range(10):
        losing.settle(losing.grant(day(100), money(40 * NANO, NANO // 20), rate(100), owner="acme"), 1, NANO // 40, 1)
    find(losing)
    for _ in range(3):
        assert not losing.grant(slots(9)).degraded
    other = RedisCounter(losing.server)
    assert other.room(day(100), "acme") == 90
    assert other.room(money(40 * NANO, NANO), "acme") == 39, "a quarter of a dollar is spent"
    assert 85 <= other.room(rate(100), "acme") <= 98, "they come back, one in 0.6 s"
    other.close()
    report = losing.store.report()
    assert (report.lost, report.losses, report.added) == (False, 1, 1)
    assert report.degraded == 10 + 3


@pytest.mark.parametrize("heard", [True, False])
def test_a_batch_whose_reply_was_lost_is_said_again_and_counts_once(losing: RedisCounter, heard: bool) -> None:
    lose(losing)
    losing.runtime.now += time.time() - losing.runtime.wall()
    for _ in range(10):
        losing.grant(day(100), owner="acme")
    find(losing)
    perform, tries = losing.link.perform, []

    def lossy(order: Ask) -> Any:
        if len(order.keys) == 1 or order.script.name != "add" or len(tries) == 2:
            return perform(order)
        tries.append(order.keys)
        return losing_reply(perform, order, heard)

    losing.link.perform = lossy
    for _ in range(3):
        losing.runtime.advance(OPEN)
        losing.admit()
    assert len(set(tries)) == 1 < len(tries)
    losing.runtime.advance(OPEN)
    losing.admit()
    assert losing.room(day(100), "acme") == 90


def losing_reply(perform: Callable[[Ask], Any], order: Ask, heard: bool) -> Any:
    """The script may have run; its reply is lost."""
    reply = perform(order) if heard else None
    if asyncio.iscoroutine(reply):

        async def wait() -> Any:
            await reply
            raise StoreFailure(Loss.CONNECTION)

        return wait()
    raise StoreFailure(Loss.CONNECTION)


@pytest.mark.parametrize("known", [True, False])
def test_what_redis_was_not_told_yet_counts_when_it_is_lost_again(losing: RedisCounter, known: bool) -> None:
    losing.runtime.now += time.time() - losing.runtime.wall()
    if known:
        losing.grant(day(101))
    lose(losing)
    assert losing.room(day(101)) == 25
    find(losing)
    perform = losing.link.perform

    def broken(order: Ask) -> Any:
        if len(order.keys) == 1:
            return perform(order)  # the question whether it is back
        raise StoreFailure(Loss.CONNECTION)

    losing.link.perform = broken
    for _ in range(3):
        losing.runtime.advance(OPEN)
        losing.admit()
    assert losing.room(day(101)) == (101 - 25 - known) // 4
    losing.link.perform = perform
    losing.runtime.advance(OPEN)
    for _ in range(2):
        losing.admit()
    other = RedisCounter(losing.server)
    assert other.room(day(101)) == 101 - 25 - (101 - 25 - known) // 4, "the killed server has forgotten what it knew"
    other.close()


def test_whoever_goes_away_while_asking_alone_makes_room_for_the_next(losing: RedisCounter) -> None:
    lose(losing)
    find(losing)
    step = losing.store.admit([slots(9)], 60.0)
    step.send(None)
    assert losing.grant(slots(9)).degraded, "one at a time"
    step.close()
    assert not losing.grant(slots(9)).degraded


def test_settlements_wait_for_redis(own_server: Server) -> None:
    """Frozen, so that it keeps its counts."""
    for name in LINKS:
        own_server.clear()
        counter = COUNTERS[name](own_server)
        assert isinstance(counter, RedisCounter)
        grants = [counter.grant(slots(9), money(90, 10), day(9)) for _ in range(9)]
        counter.link._seconds = 0.05
        own_server.freeze()
        for place, grant in enumerate(grants):
            if place % 2:
                counter.settle(grant, 1, 1, 1)
            else:
                counter.store.settle_soon(grant, (1, 1, 0))
        assert counter.asked.count("settle") == 1, "a time-out makes a pause"
        own_server.thaw()
        counter.link._seconds = 5.0
        counter.runtime.advance(PAUSE)
        for _ in range(3):
            counter.settle(counter.grant(), *())
        assert counter.room(slots(9)) == 9
        assert counter.room(money(90, 1)) == 81
        assert counter.room(day(9)) == 5
        counter.close()


def test_what_is_settled_after_redis_is_back_is_told(losing: RedisCounter) -> None:
    lose(losing)
    losing.runtime.now += time.time() - losing.runtime.wall()
    grants = [losing.grant(day(100), money(40 * NANO, NANO // 20)) for _ in range(2)]
    find(losing)
    losing.grant(slots(9))
    losing.settle(grants[0], 0, NANO * 10)
    losing.settle(grants[1], 1, 0)
    assert losing.room(day(100)) == 99
    assert losing.room(money(40 * NANO, NANO)) == 30


def test_an_admission_that_timed_out_is_taken_back(own_server: Server) -> None:
    """The server may have heard it, when it wakes."""
    for name in LINKS:
        own_server.clear()
        counter = COUNTERS[name](own_server)
        assert isinstance(counter, RedisCounter)
        counter.grant(slots(9))
        counter.link._seconds = 0.05
        own_server.freeze()
        assert counter.grant(day(5), slots(5, name="others")).degraded
        own_server.thaw()
        counter.link._seconds = 5.0
        counter.runtime.advance(PAUSE)
        for _ in range(2):
            counter.settle(counter.grant(), *())
        counter.runtime.now += time.time() - counter.runtime.wall()
        assert counter.room(slots(5, name="others")) == 5
        assert counter.room(day(5)) in (4, 5), "but what was admitted alone counts"
        counter.close()


# --- counts that Redis has lost ---


def test_a_flush_does_not_begin_the_day_anew(redis_counter: RedisCounter) -> None:
    """Fault 121. Every process says what it remembers; the most of it counts, once."""
    others = [RedisCounter(redis_counter.server) for _ in range(2)]
    for each in (*others, redis_counter):
        for _ in range(3):
            each.settle(each.grant(day(20), money(90, 10)), 1, 10)
    redis_counter.server.clear()
    for each in (*others, redis_counter):
        each.settle(each.grant(day(20), money(90, 0)), 1, 0)
    assert redis_counter.room(day(20)) == 20 - 9 - 3
    assert redis_counter.store.report().resets == 2
    for each in others:
        assert isinstance(each.admit(day(20)), Denial)
        each.close()


def test_what_was_under_way_in_a_flush_is_not_lost(redis_counter: RedisCounter) -> None:
    grants = [redis_counter.grant(money(100, 20), slots(9), day(9)) for _ in range(2)]
    redis_counter.server.clear()
    for grant in grants:
        redis_counter.settle(grant, 15, 1, 1)
    assert redis_counter.room(money(100, 1)) == 70
    assert redis_counter.room(day(9)) == 7
    assert redis_counter.room(slots(9)) == 9


def test_a_flush_at_the_cap_admits_nothing(redis_counter: RedisCounter) -> None:
    assert redis_counter.room(day(3)) == 3
    for _ in range(2):
        redis_counter.server.clear()
        redis_counter.denial(day(3))


# --- every way to be lost ---


@contextmanager
def saying(answer: bytes | None, pause: float = 0.0) -> Iterator[int]:
    """Something that answers every command with this, byte by byte where there is a pause. ``None``: nothing. Its port."""
    stop, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def serve(peer: socket.socket) -> None:
        with peer:
            peer.settimeout(0.05)
            while not stop.is_set():
                try:
                    if not peer.recv(65536):
                        return
                    for byte in answer or b"":
                        peer.sendall(bytes([byte]))
                        if pause and stop.wait(pause):
                            return
                except TimeoutError:
                    continue
                except OSError:
                    return

    def accept() -> None:
        while not stop.is_set():
            try:
                peer, _ = listener.accept()
            except TimeoutError:
                continue
            workers.append(threading.Thread(target=serve, args=(peer,)))
            workers[-1].start()

    workers = [threading.Thread(target=accept)]
    workers[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        listener.close()


ANSWERS: dict[str, tuple[bytes | None, float, str]] = {
    "loading": (b"-LOADING Redis is loading the dataset in memory\r\n", 0, "unable"),
    "moved": (b"-MOVED 3999 127.0.0.1:6381\r\n", 0, "unable"),
    "noauth": (b"-NOAUTH Authentication required.\r\n", 0, "denied"),
    "noperm": (b"-NOPERM this user has no permissions\r\n", 0, "denied"),
    "silent": (None, 0, "timeout"),
    "slow": (b"$5\r\n1 1 0\r\n", 0.2, "timeout"),
    "http": (b"HTTP/1.1 400 Bad Request\r\n\r\n", 0, "connection"),
    "another type": (b"+OK\r\n", 0, "reply"),
    "too short": (b"$3\r\n1 1\r\n", 0, "reply"),
    "texts": (b"*3\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n", 0, "reply"),
}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("way", ANSWERS)
def test_whatever_answers_the_process_decides_alone(name: str, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """I22. A loss costs one time limit at most, and says why."""
    answer, pause, why = ANSWERS[way]
    with saying(answer, pause) as port:
        counter = COUNTERS[name](server=None, url=f"redis://127.0.0.1:{port}")  # type: ignore[arg-type, call-arg]
        assert isinstance(counter, RedisCounter)
        counter.link._seconds = 0.05
        for _ in range(6):
            made = counter.admit(day(99))
            assert isinstance(made, Grant)
            assert made.degraded
            counter.settle(made, 1)
            counter.runtime.advance(PAUSE)
        assert counter.store.report().lost
        assert f"({why}" in caplog.text
        assert len(counter.asked) <= 6
        counter.close()


@pytest.mark.parametrize("name", LINKS)
def test_a_reply_that_trickles_takes_no_longer_than_its_time_limit(name: str) -> None:
    """Each piece of it comes soon enough, and all of it after four seconds."""
    with saying(b"$200\r\n" + b"x" * 200 + b"\r\n", 0.02) as port:
        counter = COUNTERS[name](server=None, url=f"redis://127.0.0.1:{port}")  # type: ignore[arg-type, call-arg]
        assert isinstance(counter, RedisCounter)
        order = ask(READ, ("{rk:x}:d:y",), seconds=BLOB_SECONDS)
        link = counter.link.perform
        run = counter.loop.run_until_complete if isinstance(counter, AsyncRedisCounter) else (lambda reply: reply)
        with pytest.raises(StoreFailure) as caught:
            run(link(order))
        assert caught.value.loss is Loss.TIMEOUT
        counter.close()


def test_what_has_come_when_the_time_is_over_is_taken() -> None:
    """It may have been this process that stood still."""
    left, right = socket.socketpair()
    with left, right:
        bounded = BoundedSocket(left)
        bounded.until = time.monotonic() - 1
        right.sendall(b"12345")
        assert bounded.recv(2) == b"12"
        buffer = bytearray(2)
        assert bounded.recv_into(buffer) == 2
        assert bounded.recv(2) == b"5"
        for wait in (lambda: bounded.recv(2), lambda: bounded.recv_into(buffer), lambda: bounded.sendall(b"x" * 10**8)):
            with pytest.raises(TimeoutError):
                wait()
        bounded.until = time.monotonic() + 0.01
        with pytest.raises(TimeoutError):
            bounded.recv(2)
        bounded.until = None
        bounded.settimeout(0)
        with pytest.raises(BlockingIOError):
            bounded.recv(2)


def readonly(server: Server) -> None:
    server.do("REPLICAOF", "127.0.0.1", free_port())


def no_memory(server: Server) -> None:
    server.do("CONFIG", "SET", "maxmemory", "1")


def no_reads(server: Server) -> None:
    server.do("CONFIG", "SET", "replica-serve-stale-data", "no")
    readonly(server)


def busy(server: Server) -> None:
    server.do("CONFIG", "SET", "busy-reply-threshold", "1")

    def hang() -> None:
        with pytest.raises(redis.ResponseError, match="kill"):
            server.do("EVAL", "while true do end", 0)

    threading.Thread(target=hang).start()
    answers(server, False)


def answers(server: Server, wanted: bool = True) -> None:
    """Wait until it does, or does not."""
    for _ in range(2000):
        try:
            done = server.do("PING")
        except redis.ResponseError:
            done = False
        if bool(done) is wanted:
            return
        time.sleep(0.005)
    raise TimeoutError("it does not change")


UNABLE = pytest.mark.parametrize(
    ("way", "undo"),
    [
        (readonly, ("REPLICAOF", "NO", "ONE")),
        (no_reads, ("REPLICAOF", "NO", "ONE")),
        (no_memory, ("CONFIG", "SET", "maxmemory", "0")),
        (busy, ("SCRIPT", "KILL")),
    ],
    ids=["READONLY", "MASTERDOWN", "OOM", "BUSY"],
)
"""What becomes of a server that cannot do what it is asked, and what undoes it."""


@pytest.mark.parametrize("name", LINKS)
@UNABLE
def test_a_server_that_cannot_is_lost_until_it_can(
    own_server: Server, name: str, way: Callable[[Server], None], undo: tuple[str, ...]
) -> None:
    counter = COUNTERS[name](own_server)
    assert isinstance(counter, RedisCounter)
    counter.grant(slots(9))
    way(own_server)
    for _ in range(3):
        assert counter.grant(slots(9)).degraded
    assert counter.store.report().lost
    own_server.do(*undo)
    answers(own_server)
    counter.runtime.advance(OPEN)
    assert not counter.grant(slots(9)).degraded
    assert not counter.store.report().lost
    counter.close()


def test_tasks_that_wait_their_turn_do_not_each_wait_for_a_lost_server(own_server: Server) -> None:
    """A hundred at once: of those behind the first failure none asks."""
    counter = COUNTERS["redis-async"](own_server)
    assert isinstance(counter, AsyncRedisCounter)
    counter.grant()
    own_server.freeze()
    link, loop = counter.link, counter.loop

    async def timed_out(number: int) -> bool:
        try:
            await link.perform(ask(ADD, (f"{{rk:x}}:b:{number}",)))
        except StoreFailure as failure:
            return failure.loss is Loss.TIMEOUT
        return False

    async def main() -> list[bool]:
        return await asyncio.gather(*[timed_out(number) for number in range(100)])

    assert all(loop.run_until_complete(main()))
    home = link._homes[loop]
    assert home.failures == MAX_AT_ONCE
    own_server.thaw()
    counter.close()


def test_an_event_loop_that_stood_still_is_no_loss(server: Server) -> None:
    """The reply was there all the time."""
    counter = AsyncRedisCounter(server)
    counter.grant()

    async def main() -> Any:
        asked = asyncio.ensure_future(counter.link.perform(ask(ADD, ("{rk:x}:b:1",))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 - it is the subject
        return await asked

    assert counter.loop.run_until_complete(main()).startswith(b"1 ")
    counter.close()


def test_memory_is_never_degraded() -> None:
    assert not MemoryCounter().grant(day(1)).degraded


# --- what is told ---


@pytest.mark.parametrize("name", LINKS)
def test_a_loss_and_its_end_are_told(own_server: Server, name: str) -> None:
    """Not under the lock, and whatever comes of it."""
    told: list[StoreChanged] = []

    def listen(event: StoreChanged) -> None:
        counter.store.report()
        told.append(event)
        raise RuntimeError("an observer of ours")

    counter = COUNTERS[name](own_server, notify=listen)  # type: ignore[call-arg]
    assert isinstance(counter, RedisCounter)
    assert not counter.grant(day(9)).degraded
    lose(counter)
    counter.runtime.advance(OPEN)
    counter.admit()
    assert told == [StoreChanged(StoreState.LOST, "connection: ConnectionRefusedError")]
    find(counter)
    for _ in range(2):
        assert not counter.grant(slots(9)).degraded
    assert told[1:] == [StoreChanged(StoreState.BACK)]
    counter.close()


def test_counts_that_redis_had_lost_are_told_of_once_in_a_while(own_server: Server) -> None:
    for name in LINKS:
        told: list[StoreChanged] = []
        counter = COUNTERS[name](own_server, notify=told.append)  # type: ignore[call-arg]
        assert isinstance(counter, RedisCounter)
        for flushed in (1, 1, 2):
            for _ in range(2):
                counter.grant(day(99), day(99, name="other"), money(99, 0), owner="acme")
            own_server.clear()
            counter.settle(counter.grant(money(99, 0), day(99), day(99, name="other"), owner="acme"), 0, 1, 1)
            assert len(told) == flushed
            counter.runtime.advance(RESETS / 2)
        assert set(told) <= {StoreChanged(StoreState.RESET, "money"), StoreChanged(StoreState.RESET, "day")}
        assert counter.store.report().resets == 9
        counter.close()
