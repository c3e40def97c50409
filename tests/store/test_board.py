"""What processes tell each other through Redis beside counts: hints, leases, bytes. On a real server, through each link."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from routerkit.core.effects import Ask, Cancelled, Loss, StoreFailure
from routerkit.core.fleet import News
from routerkit.store.redis import RedisStore
from routerkit.store.redis_ask import BLOB_SECONDS, SECONDS
from routerkit.store.redis_board import AT_A_TIME, MAX_BLOB, MAX_HINTS, MAX_KEPT, MAX_RELEASES
from tests.store.boards import EVERY_BYTE, KINDS, MARGIN, board, earlier, exchange, lease, one, read, release, write
from tests.store.counters import RedisCounter, day
from tests.store.servers import Server
from tests.store.test_redis import child
from tests.support.virtual import VirtualRuntime

# --- hints ---


def test_hints_of_one_are_seen_by_all(redis_counter: RedisCounter) -> None:
    """Another client, through the other link too."""
    for kind in KINDS:
        other = kind(redis_counter.server)
        assert exchange(redis_counter, News("a on g", 60.0), News("g", 30.0)).keys() == {
            board(other).name("a on g"),
            board(other).name("g"),
        }
        seen = exchange(other)
        assert 60 - MARGIN < seen[board(other).name("a on g")].left <= 60
        assert 30 - MARGIN < seen[board(other).name("g")].left <= 30
        assert 0 <= seen[board(other).name("g")].age < MARGIN
        assert exchange(other, News("g", 0.0)).keys() == {board(other).name("a on g")}
        assert exchange(redis_counter, News("a on g", 0.0), News("never heard of", 0.0)) == {}
        other.close()


def test_hints_of_another_process(redis_counter: RedisCounter) -> None:
    code = "from routerkit.core.fleet import News\nprint(drive(store.board.exchange([News('m', 60.0)]), perform), flush=True)"
    with child(code, redis_counter.server.url) as process:
        output, _ = process.communicate(timeout=60)
    (name,) = exchange(redis_counter)
    assert name == board(redis_counter).name("m")
    assert name in output


def test_a_hint_ends_by_the_servers_clock(redis_counter: RedisCounter) -> None:
    exchange(redis_counter, News("m", 600.0), News("n", 100.0))
    redis_counter.runtime.advance(9999)  # nobody asks for ours
    earlier(redis_counter.server, 90)
    seen = exchange(redis_counter)
    assert len(seen) == 2
    assert 90 <= seen[board(redis_counter).name("m")].age < 90 + MARGIN
    earlier(redis_counter.server, 90)
    assert exchange(redis_counter).keys() == {board(redis_counter).name("m")}
    earlier(redis_counter.server, 500)
    assert exchange(redis_counter) == {}
    assert redis_counter.server.do("DBSIZE") == 0, "what is over is not kept"
    assert redis_counter.store.report().replaced == 0


def test_a_hint_holds_no_longer_than_ten_minutes(redis_counter: RedisCounter) -> None:
    for seconds in (601.0, 1e300, float("inf")):
        (hint,) = exchange(redis_counter, News("m", seconds)).values()
        assert 600 - MARGIN < hint.left <= 600
    assert exchange(redis_counter, News("m", -1.0)) == {}
    (hint,) = exchange(redis_counter, News("m", 0.0), News("m", 60.0)).values()
    assert hint.left <= 60, "what was told last counts"
    with redis_counter.server.client() as client:
        (key,) = client.keys("*")
        assert 0 < client.ttl(key) <= 600


def test_a_clock_that_jumped_back_leaves_no_hint_for_hours(redis_counter: RedisCounter) -> None:
    exchange(redis_counter, News("m", 500.0))
    earlier(redis_counter.server, -50)
    (hint,) = exchange(redis_counter).values()
    assert hint.age == 0
    earlier(redis_counter.server, -3600)
    assert exchange(redis_counter) == {}


def test_very_many_hints(redis_counter: RedisCounter) -> None:
    """As many as there may be are told and heard; of more nobody wants to hear."""
    news = [News(f"model {number}", 600.0) for number in range(MAX_HINTS + 50)]
    assert len(exchange(redis_counter, *news[:900])) == 900
    assert len(exchange(redis_counter, *news[900:])) == MAX_HINTS
    assert len(exchange(redis_counter, *news)) == MAX_HINTS
    assert len(board(redis_counter).exchange(news).send(None).args) == 2 * MAX_HINTS
    seen = exchange(redis_counter, news[100]._replace(seconds=0.0), News("there is room again", 600.0))
    assert board(redis_counter).name("there is room again") in seen
    assert len(seen) == MAX_HINTS
    assert len(exchange(redis_counter, *[each._replace(seconds=0.0) for each in news[:100]])) == MAX_HINTS - 100
    assert redis_counter.store.report().replaced == 0
    with redis_counter.server.client() as client:
        (key,) = client.keys("*")
        client.hset(key, mapping={str(number): "1 1" for number in range(200)})
        assert exchange(redis_counter, News("m", 5.0)).keys() == {board(redis_counter).name("m")}
        assert client.hlen(key) == 1
    assert redis_counter.store.report().replaced == 1


# --- leases ---


def test_one_holds_a_lease_at_a_time(redis_counter: RedisCounter) -> None:
    other = RedisCounter(redis_counter.server)
    assert lease(redis_counter) is True
    assert lease(other) is False
    assert lease(redis_counter) is False, "nor may another thread of the same process"
    assert lease(other, "n") is True
    release(other)
    assert lease(other) is False, "it was not its own to give back"
    release(redis_counter)
    assert lease(other) is True
    asked = len(redis_counter.asked)
    release(redis_counter)
    assert len(redis_counter.asked) == asked, "there is nothing to tell"
    other.close()


def test_one_lease_among_sixteen_processes(server: Server) -> None:
    code = """
link.close()
readers = []
start, go = os.pipe()
for number in range(16):
    reader, writer = os.pipe()
    if os.fork() == 0:
        store.forget()
        os.close(go)
        os.read(start, 1)  # until all are there
        made = [drive(store.board.lease(scope, 60.0), perform) for scope in ("a", "b", "c")]
        os.write(writer, repr(made).encode())
        os._exit(0)
    os.close(writer)
    readers.append(reader)
os.close(go)
print(*[os.read(reader, 100).decode() for reader in readers], sep="; ")
"""
    with child(code, server.url) as process:
        output, _ = process.communicate(timeout=60)
    made = [eval(each, {}) for each in output.split(";")]
    assert len(made) == 16
    assert [sum(each) for each in zip(*made, strict=True)] == [1, 1, 1]


def test_the_lease_of_a_process_that_died_ends_by_itself(redis_counter: RedisCounter) -> None:
    code = "print(drive(store.board.lease('m', 30.0), perform), flush=True)\nsys.stdin.read()"
    with child(code, redis_counter.server.url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert lease(redis_counter) is False
    with redis_counter.server.client() as client:
        (key,) = client.keys("*")
        assert 30_000 - MARGIN * 1000 < client.pttl(key) <= 30_000
        client.pexpire(key, 1)
        while client.exists(key):
            pass
    assert lease(redis_counter) is True


def test_a_release_after_the_lease_was_over_does_not_take_anothers(redis_counter: RedisCounter) -> None:
    other = RedisCounter(redis_counter.server)
    assert lease(redis_counter)
    over(redis_counter.server)
    assert lease(other)
    release(redis_counter)
    assert lease(redis_counter) is False
    release(other)
    assert lease(redis_counter) is True
    other.close()


def over(server: Server) -> None:
    """As if all leases were."""
    server.do("FLUSHALL")


def test_a_lease_lasts_for_ten_minutes_at_most(redis_counter: RedisCounter) -> None:
    with redis_counter.server.client() as client:
        for seconds in (1e9, 0.0, -5.0):
            assert lease(redis_counter, str(seconds), seconds)
        left = [client.pttl(key) for key in client.keys("*")]
        assert max(left) <= 600_000


def test_what_is_released_soon_is_told_with_what_is_asked_next(redis_counter: RedisCounter) -> None:
    other = RedisCounter(redis_counter.server)
    for _ in range(3):
        assert lease(redis_counter)
        assert lease(redis_counter, "n")
        asked = len(redis_counter.asked)
        board(redis_counter).release_soon("m")
        board(redis_counter).release_soon("m")
        board(redis_counter).release_soon("n")
        assert len(redis_counter.asked) == asked
        assert lease(other) is False
        exchange(redis_counter)
        assert redis_counter.asked[asked:] == ["release", "hints"]
        assert lease(other)
        assert lease(other, "n")
        release(other)
        release(other, "n")
    other.close()


def test_at_the_end_all_is_given_back(redis_counter: RedisCounter) -> None:
    for number in range(AT_A_TIME + 2):
        assert lease(redis_counter, str(number))
    board(redis_counter).release_soon("0")
    redis_counter.settle(redis_counter.grant(), *())
    redis_counter.run(redis_counter.store.flush())
    assert redis_counter.server.do("DBSIZE") == 0
    assert redis_counter.asked[-2:] == ["release", "release"]
    asked = len(redis_counter.asked)
    redis_counter.run(redis_counter.store.flush())
    assert len(redis_counter.asked) == asked


def test_releasing_soon_takes_no_lock(redis_counter: RedisCounter) -> None:
    """It may be the garbage collector, under that very lock."""
    assert lease(redis_counter)
    with redis_counter.store._lock:
        board(redis_counter).release_soon("m")
    assert lease(redis_counter)


def test_very_many_releases_are_told_in_parts(redis_counter: RedisCounter) -> None:
    held = 2 * AT_A_TIME + 5
    for number in range(held):
        assert lease(redis_counter, str(number))
    for number in range(held):
        board(redis_counter).release_soon(str(number))
    for told in (AT_A_TIME, 2 * AT_A_TIME, held):
        read(redis_counter)
        assert redis_counter.server.do("DBSIZE") == held - told
    board(redis_counter)._held.update({str(number): "x" for number in range(MAX_RELEASES)})
    assert lease(redis_counter)
    assert len(board(redis_counter)._held) == 1


@pytest.mark.parametrize("performed", [True, False])
def test_a_lease_whose_asker_has_gone_is_given_back(redis_counter: RedisCounter, performed: bool) -> None:
    step = board(redis_counter).lease("m", 60.0)
    order = step.send(None)
    if performed:
        redis_counter.run(one(order))
        assert lease(RedisCounter(redis_counter.server)) is False
    with pytest.raises(Cancelled):
        step.throw(Cancelled())
    assert lease(redis_counter) is True


@pytest.mark.parametrize("heard", [True, False])
def test_a_lease_whose_reply_was_lost_is_given_back(redis_counter: RedisCounter, heard: bool) -> None:
    assert lost(redis_counter, lambda: lease(redis_counter), heard=heard) is None
    assert lease(redis_counter) is True
    assert lost(redis_counter, lambda: release(redis_counter), heard=heard) is None
    assert lease(RedisCounter(redis_counter.server)) is heard
    assert lease(redis_counter) is not heard, "what was not heard is said again"


def lost(counter: RedisCounter, ask: Callable[[], Any], *, heard: bool) -> Any:
    """Do it while replies get lost."""
    perform = counter.link.perform

    def lossy(order: Ask) -> Any:
        reply = perform(order) if heard else None
        if asyncio.iscoroutine(reply):

            async def wait() -> Any:
                await reply
                raise StoreFailure(Loss.CONNECTION)

            return wait()
        raise StoreFailure(Loss.CONNECTION)

    counter.link.perform = lossy
    try:
        return ask()
    finally:
        counter.link.perform = perform


# --- bytes ---


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\r\n", EVERY_BYTE, EVERY_BYTE * 4096, os.urandom(MAX_BLOB)],
    ids=["0 B", "1 B", "2 B", "256 B", "1 MiB", "4 MiB"],
)
def test_bytes_come_back_whole(redis_counter: RedisCounter, data: bytes) -> None:
    write(redis_counter, data)
    for kind in KINDS:
        other = kind(redis_counter.server)
        blob = read(other)
        assert blob is not None
        assert blob.data == data
        assert 0 <= blob.age < MARGIN
        assert read(other, "another") is None
        other.close()


def test_scripts_that_redis_has_forgotten_are_sent_again(redis_counter: RedisCounter) -> None:
    for data in (b"one", b"two"):
        write(redis_counter, data)
        redis_counter.server.do("SCRIPT", "FLUSH")
        blob = read(redis_counter)
        assert blob is not None
        assert blob.data == data
    assert redis_counter.store.report().losses == 0


def test_too_many_bytes_are_not_written(redis_counter: RedisCounter) -> None:
    write(redis_counter, b"\xff" * (MAX_BLOB + 1))
    write(redis_counter, b"over at once", seconds=0.0)
    write(redis_counter, b"over before", seconds=-1.0)
    assert redis_counter.asked == []


def test_too_many_bytes_are_not_read(redis_counter: RedisCounter) -> None:
    write(redis_counter, b"\xff" * MAX_BLOB)
    with redis_counter.server.client(encoding="latin-1") as client:
        (key,) = client.keys("*")
        assert client.strlen(key) == 16 + 32 + MAX_BLOB
        client.append(key, "x")
        assert read(redis_counter) is None
        assert not client.exists(key)
    assert redis_counter.store.report().replaced == 1


def test_the_age_is_by_the_servers_clock(redis_counter: RedisCounter) -> None:
    write(redis_counter, b"data" * 10)
    redis_counter.runtime.advance(9999)
    earlier(redis_counter.server, 100)
    blob = read(redis_counter)
    assert blob is not None
    assert 100 <= blob.age < 100 + MARGIN
    earlier(redis_counter.server, -130)
    blob = read(redis_counter)
    assert blob is not None
    assert blob.age == 0, "a clock that stepped back"
    earlier(redis_counter.server, -3600)
    assert read(redis_counter) is None, "and one that jumped: nobody knows how old it is"


def test_bytes_are_kept_for_a_week_at_most(redis_counter: RedisCounter) -> None:
    with redis_counter.server.client() as client:
        for seconds, most in ((60.0, 60), (1e9, MAX_KEPT), (float("inf"), MAX_KEPT)):
            write(redis_counter, b"data", seconds=seconds)
            (key,) = client.keys("*")
            assert most - MARGIN < client.ttl(key) <= most
        client.pexpire(key, 1)
        while client.exists(key):
            pass
    assert read(redis_counter) is None


def test_bytes_may_take_longer_and_nothing_else_may() -> None:
    limits = {}
    asks: list[Callable[[RedisStore], Any]] = [
        lambda store: store.board.exchange([]),
        lambda store: store.board.lease("m", 5.0),
        lambda store: store.board.read("b"),
        lambda store: store.board.write("b", b"data", 5.0),
        lambda store: store.admit([day(5)], 60.0),
        lambda store: store.check(),
    ]
    for ask in asks:
        step = ask(RedisStore("redis://localhost", VirtualRuntime()))
        order = step.send(None)
        limits[order.script.name] = order.seconds
        step.close()
    assert len(limits) == 6
    assert {name: seconds for name, seconds in limits.items() if seconds != SECONDS} == {
        "read": BLOB_SECONDS,
        "write": BLOB_SECONDS,
    }
