"""What is Redis's own: many processes, keys, foreign values, sentinels and clusters, connections, forks."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from routerkit.core.effects import Ask, Cancelled, Loss, StoreFailure
from routerkit.core.limits import MICROSECONDS, Charge, Denial, Grant, Kind, period_number
from routerkit.store.redis import RedisStore
from routerkit.store.redis_address import address_of
from routerkit.store.redis_ask import ADD, ask
from routerkit.transport.runtime import SystemRuntime
from tests.store.counters import AsyncRedisCounter, RedisCounter, day, drive, money, rate, slots
from tests.store.servers import Server, free_port

ROOT = Path(__file__).parent.parent.parent
_ADMIT = """
import os, sys
from routerkit.core.limits import Charge, Grant, Kind
from routerkit.store.redis import RedisStore
from routerkit.transport.runtime import SystemRuntime
from tests.store.counters import drive
store = RedisStore(sys.argv[1], SystemRuntime())
link = store.link()
link._seconds = 30.0
def perform(order):
    order.seconds = 30.0
    return link.perform(order)
"""


def child(code: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _ADMIT + code, *args]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_sixty_four_processes_admit_exactly_the_cap(server: Server) -> None:
    """I15. The processes are forks of one: to start so many interpreters would take a minute."""
    code = """
link.close()
readers = []
for number in range(64):
    reader, writer = os.pipe()
    if os.fork() == 0:
        store.forget()
        admitted = denied = 0
        charge = Charge(Kind.DAY, "cap", "cap", 10_000)
        while denied < 3:
            if isinstance(drive(store.admit([charge], 60.0), perform), Grant):
                admitted += 1
            else:
                denied += 1
        os.write(writer, b"%d\\n" % admitted)
        os._exit(0)
    os.close(writer)
    readers.append(reader)
print([int(os.read(reader, 20)) for reader in readers])
"""
    with child(code, server.url) as process:
        output, _ = process.communicate(timeout=60)
    admitted = [int(each) for each in re.findall(r"\d+", output)]
    assert len(admitted) == 64
    assert sum(admitted) == 10_000
    assert sum(each > 0 for each in admitted) > 1, "one did it all"


def test_what_a_killed_process_held_comes_back_with_its_lease(redis_counter: RedisCounter) -> None:
    code = """
made = drive(store.admit([Charge(Kind.SLOTS, "at once", "", 1), Charge(Kind.MONEY, "budget", "", 10, 10, "day")], 30.0), perform)
print(type(made).__name__, flush=True)
sys.stdin.read()
"""
    with child(code, redis_counter.server.url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Grant\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    redis_counter.denial(slots(1))
    redis_counter.elapse(31)
    redis_counter.grant(slots(1), money(10, 10))


def test_a_settlement_that_is_said_again_counts_once(redis_counter: RedisCounter) -> None:
    """Its reply was lost, so nobody knows whether Redis heard it."""
    grant = redis_counter.grant(day(5), slots(1), money(10, 5))
    perform, asked = redis_counter.link.perform, []

    def lossy(order: Ask) -> Any:
        asked.append(order.script.name)
        reply = perform(order)
        if len(asked) > 1:
            return reply
        if asyncio.iscoroutine(reply):

            async def lost() -> Any:
                await reply
                raise StoreFailure(Loss.CONNECTION)

            return lost()
        raise StoreFailure(Loss.CONNECTION)

    redis_counter.link.perform = lossy
    redis_counter.settle(grant, 1, 0, 3)
    redis_counter.settle(redis_counter.grant(), *())
    assert asked.count("settle") == 3, "lost; said again; of the second grant"
    assert redis_counter.room(slots(1)) == 1
    assert redis_counter.room(money(10, 1)) == 7
    assert redis_counter.room(day(5)) == 4


@pytest.mark.parametrize("performed", [True, False])
def test_an_admission_whose_caller_has_gone_is_taken_back(redis_counter: RedisCounter, performed: bool) -> None:
    step = redis_counter.store.admit([day(1), slots(1), rate(1)], 60.0)
    order = step.send(None)
    if performed:
        redis_counter.run(one(order))
    with pytest.raises(Cancelled):
        step.throw(Cancelled())
    redis_counter.settle(redis_counter.grant(), *())
    redis_counter.grant(day(1), slots(1), rate(1))
    assert not redis_counter.store.report().degraded


def one(order: Ask) -> Any:
    return (yield order)


# --- keys and values ---


def test_keys_hold_nothing_that_anybody_chose_and_all_expire(redis_counter: RedisCounter) -> None:
    for owner in ("acme", "a:b", "}{", "*", "\n", "\udcff", "x" * 1_000_000):
        redis_counter.grant(
            rate(5), day(5), slots(5), money(5, 1), money(5, 1, "month"), money(5, 1, "total"), owner=owner
        )
    with redis_counter.server.client() as client:
        keys = client.keys("*")
        assert len(keys) == 7 * (6 + 4 + 1)
        for key in keys:
            assert re.fullmatch(r"\{rk:[a-z2-7]{26}\}:([a-z2-7]{26}(:h)?|g:[0-9a-f]{16}-[0-9]+)", key)
            assert 0 < client.ttl(key) <= 400 * 86_400
    assert len({key[: key.index("}")] for key in keys}) == 7


def test_namespaces_are_apart(server: Server) -> None:
    counters = [RedisCounter(server, namespace=name) for name in ("one", "two")]
    for counter in counters:
        counter.grant(day(1))
        counter.denial(day(1))
        counter.close()


GARBAGE: list[tuple[str, ...]] = [
    ("SET", "text"),
    ("SET", "\x00\xff" * 10_000),
    ("LPUSH", "1"),
    ("SADD", "1"),
    ("ZADD", "1", "x"),
    ("ZADD", "1", "9:999999999999999999999:x"),
    ("HSET", "p", "-1", "n", "1e400", "r", "nan", "b", "0x10", "f", ""),
    ("HSET", "l", "9" * 400, "t", "1"),
    ("HSET", "l", "99999999999999999999", "t", "99999999999999999999"),
    ("HSET", "p", "99999999", "n", "5", "r", "5", "b", "5", "f", "5"),
    ("HSET", "q", "1"),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: " ".join(garbage)[:20])
def test_foreign_values_under_our_keys_are_replaced(redis_counter: RedisCounter, garbage: tuple[str, ...]) -> None:
    charges = rate(5), day(5), slots(5), money(5, 1)
    grant = redis_counter.grant(*charges)
    for store in (redis_counter, RedisCounter(redis_counter.server)):
        with redis_counter.server.client() as client:
            for key in client.keys("*"):
                client.delete(key)
                client.execute_command(garbage[0], key, *garbage[1:])
        store.admit(*charges)
        store.settle(store.grant(day(5), slots(5), money(5, 1)), 1, 1, 1)
        assert not store.store.report().degraded
    redis_counter.settle(grant, 1, 1, 1, 1)
    assert redis_counter.admit(rate(5), slots(5)) is not None
    assert redis_counter.store.report().replaced > 0 or garbage[0] in ("ZADD", "HSET")
    redis_counter.elapse(61)
    assert redis_counter.room(rate(5)) == 5


def test_a_value_that_is_replaced_is_counted(redis_counter: RedisCounter) -> None:
    redis_counter.grant(day(5))
    with redis_counter.server.client() as client:
        (key,) = client.keys("*[^0-9]") or client.keys("*}:??????????????????????????")
        client.set(key, "text")
    redis_counter.grant(day(5))
    assert redis_counter.store.report().replaced == 1


def test_clocks_that_jumped_make_nobody_wait_longer_than_a_period(redis_counter: RedisCounter) -> None:
    """As it looks to Redis: its values come from the future. Fault 124."""
    assert redis_counter.room(rate(6)) == 6
    redis_counter.elapse(-3600)
    denial = redis_counter.denial(rate(6, 6))
    assert denial.retry_after == pytest.approx(60, abs=1)


def test_a_day_of_tomorrow_goes_on_and_a_later_one_is_none(redis_counter: RedisCounter) -> None:
    redis_counter.grant(day(5, 5))
    redis_counter.server.do("EVAL", MOVE_DAYS, 0, 1)
    denial = redis_counter.denial(day(5))
    assert denial.retry_after is not None
    assert 86_400 < denial.retry_after <= 2 * 86_400
    redis_counter.server.do("EVAL", MOVE_DAYS, 0, 1)
    other = RedisCounter(redis_counter.server)
    assert other.room(day(5)) == 5
    other.close()


MOVE_DAYS = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('TYPE', key).ok == 'hash' then redis.call('HINCRBY', key, 'p', ARGV[1]) end
end
"""


def test_months_are_those_of_the_calendar(server: Server) -> None:
    months = "local months = {} for i, days in ipairs(ARGV) do months[i] = month(tonumber(days)) end return months"
    monthly = Charge(Kind.MONEY, "", "", 1, 1, "month")
    every = [*range(0, 60_000, 13), *range(20_700, 21_100)]
    told = server.do("EVAL", ADD.text[: ADD.text.index("-- Adds")] + months, 0, *every)
    assert told == [period_number(monthly, days * 86_400) for days in every]


def test_many_leases_that_are_over_are_let_go_in_parts(redis_counter: RedisCounter) -> None:
    with redis_counter.server.client() as client:
        redis_counter.grant(slots(2000))
        (key,) = [key for key in client.keys("*") if key.endswith(":h")]
        client.zadd(key, {f"1:1:other-{number}": 1 for number in range(1200)})
        client.hset(key[:-2], "r", 1201)
        for left in (701, 201, 1):
            redis_counter.admit(slots(1, 0, "other"), slots(2000, 0))
            assert int(client.hget(key[:-2], "r")) == left


def test_what_is_held_is_not_held_for_ever_where_leases_were_lost(redis_counter: RedisCounter) -> None:
    with redis_counter.server.client() as client:
        assert redis_counter.room(slots(2)) == 2
        client.delete(*[key for key in client.keys("*") if key.endswith(":h")])
    assert redis_counter.room(slots(2)) == 2


def test_scripts_that_redis_has_forgotten_are_sent_again(redis_counter: RedisCounter) -> None:
    redis_counter.grant(day(5))
    redis_counter.server.do("SCRIPT", "FLUSH")
    assert redis_counter.room(day(5)) == 4
    assert not redis_counter.store.report().degraded


def test_sums_beyond_floating_point_are_off_by_a_hair_only(redis_counter: RedisCounter) -> None:
    cap = 10**18 - 1
    redis_counter.grant(money(cap, cap - 1))
    made = redis_counter.admit(money(cap, 1))
    assert isinstance(made, Grant) or made.retry_after is None
    redis_counter.denial(money(cap, 1000))


# --- other ways to a server ---


def test_a_socket(server: Server) -> None:
    for kind in (RedisCounter, AsyncRedisCounter):
        counter = kind(server, url=f"unix://{server.socket}?db=3", namespace=kind.__name__)
        assert counter.room(day(3)) == 3
        counter.close()
    assert server.do("DBSIZE", db=3) > 0


@pytest.mark.parametrize("kind", [RedisCounter, AsyncRedisCounter])
def test_a_sentinel_tells_where_the_server_is(server: Server, kind: type[RedisCounter]) -> None:
    with Server(sentinel=f"sentinel monitor main 127.0.0.1 {server.port} 1\n") as sentinel:
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"
        counter = kind(server, url=f"redis+sentinel://{hosts}/main?db=2")
        assert counter.room(day(3)) == 3
        counter.close()
        lost = kind(server, url=f"redis+sentinel://127.0.0.1:{sentinel.port}/nobody")
        assert lost.grant(day(3)).degraded
        lost.close()


def test_a_cluster_keeps_the_keys_of_an_owner_together(server: Server) -> None:
    with Server("--cluster-enabled", "yes") as cluster:
        cluster.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while "cluster_state:ok" not in str(cluster.do("CLUSTER", "INFO")):
            time.sleep(0.02)
        for kind in (RedisCounter, AsyncRedisCounter):
            url = f"redis+cluster://127.0.0.1:{cluster.port}"
            counter = kind(cluster, url=url, namespace=kind.__name__)
            for owner in ("", "acme", "globex"):
                grant = counter.grant(day(3), slots(3), rate(9), money(5, 2), owner=owner)
                counter.settle(grant, 1, 1, 1, 1)
                assert counter.room(day(3), owner) == 2
            cluster.do("SCRIPT", "FLUSH")
            counter.grant(slots(3))
            assert not counter.store.report().degraded
            cluster.do("CONFIG", "SET", "maxmemory", "1")
            assert counter.grant(slots(3)).degraded
            cluster.do("CONFIG", "SET", "maxmemory", "0")
            counter.close()


# --- connections ---


def test_a_reply_that_comes_late_is_read_by_nobody(server: Server) -> None:
    """Fault 125: tasks are cancelled while their scripts run; the others get their own replies."""
    store = RedisStore(server.url, SystemRuntime())
    link = store.async_link()
    echo = attrs_script("return {KEYS[1], ARGV[1]}")

    async def ask(number: int) -> bool:
        reply = await link.perform(Ask(echo, (f"k{number}",), (number,), 5.0))
        assert reply == [b"k%d" % number, b"%d" % number]
        return True

    async def main() -> int:
        done = 0
        for round_ in range(40):
            tasks = [asyncio.ensure_future(ask(100 * round_ + number)) for number in range(10)]
            for _ in range(round_ % 8):
                await asyncio.sleep(0)
            for task in tasks[:: 2 + round_ % 3]:
                task.cancel()
            done += sum(each is True for each in await asyncio.gather(*tasks, return_exceptions=True))
        await link.close()
        return done

    assert asyncio.run(main()) >= 200


def attrs_script(text: str) -> Any:
    from routerkit.store.redis_ask import made

    return made("test", text)


def test_threads_get_their_own_replies(server: Server) -> None:
    store = RedisStore(server.url, SystemRuntime())
    link = store.link()
    link._seconds = 5.0
    echo, wrong = attrs_script("return {KEYS[1], ARGV[1]}"), []

    def ask(thread: int) -> None:
        for number in range(50):
            reply = link.perform(Ask(echo, (f"k{thread}",), (number,), 5.0))
            if reply != [b"k%d" % thread, b"%d" % number]:
                wrong.append(reply)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    link.close()


def test_connections_that_the_server_closed_are_made_anew(redis_counter: RedisCounter) -> None:
    for _ in range(3):
        redis_counter.grant(slots(99))
        redis_counter.server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.01)
        if isinstance(redis_counter, AsyncRedisCounter):
            redis_counter.loop.run_until_complete(asyncio.sleep(0))
    assert not redis_counter.store.report().degraded


def test_every_event_loop_has_connections_of_its_own(server: Server) -> None:
    store = RedisStore(server.url, SystemRuntime())
    link = store.async_link()

    async def grant() -> Any:
        step = store.admit([day(9)], 60.0)
        try:
            return step.send(await link.perform(step.send(None)))
        except StopIteration as stop:
            return stop.value

    for _ in range(3):
        assert isinstance(asyncio.run(grant()), Grant), "and nobody closed anything before the loop ended"


def test_a_forked_child_has_connections_of_its_own(server: Server) -> None:
    code = """
grants = [drive(store.admit([Charge(Kind.DAY, "rpd", "", 99)], 60.0), perform) for _ in range(3)]
before = len(link._idle)
pid = os.fork()
if pid == 0:
    assert store._lock.acquire(False)  # as a thread of the parent might have
    store.forget()
    made = drive(store.admit([Charge(Kind.DAY, "rpd", "", 99)], 60.0), perform)
    assert made.identity.split("-")[0] != grants[0].identity.split("-")[0]
    os._exit(0 if isinstance(made, Grant) else 1)
_, status = os.waitpid(pid, 0)
assert len(link._idle) == before == 1
assert isinstance(drive(store.admit([Charge(Kind.DAY, "rpd", "", 99)], 60.0), perform), Grant)
print(status)
"""
    with child(code, server.url) as process:
        output, _ = process.communicate(timeout=60)
    assert output == "0\n"
    assert process.returncode == 0


def test_a_forked_child_leaves_the_connections_of_its_parents_loop_alone(server: Server) -> None:
    code = """
import asyncio
from tests.store.counters import drive_async
link = store.async_link()
link._seconds = 30.0
async def ask(order):
    order.seconds = 30.0
    return await link.perform(order)
charges = [Charge(Kind.DAY, "rpd", "", 99)]
loop = asyncio.new_event_loop()
loop.run_until_complete(drive_async(store.admit(charges, 60.0), ask))
pid = os.fork()
if pid == 0:
    store.forget()
    made = asyncio.run(drive_async(store.admit(charges, 60.0), ask))
    os._exit(0 if isinstance(made, Grant) and not made.degraded else 1)
_, status = os.waitpid(pid, 0)
made = loop.run_until_complete(drive_async(store.admit(charges, 60.0), ask))
loop.run_until_complete(link.close())
loop.close()
print(status, made.degraded)
"""
    with child(code, server.url) as process:
        output, _ = process.communicate(timeout=60)
    assert output == "0 False\n"


# --- logins ---


PASSWORD = "s3cret-p@ss/word"
QUOTED = "s3cret-p%40ss%2Fword"


@pytest.mark.parametrize("kind", [RedisCounter, AsyncRedisCounter])
def test_a_login(own_server: Server, kind: type[RedisCounter]) -> None:
    own_server.do("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~{rk:*", "+@all")
    own_server.do("CONFIG", "SET", "requirepass", PASSWORD)
    for login in (f"app:{QUOTED}", f":{QUOTED}"):
        counter = kind(own_server, url=f"redis://{login}@127.0.0.1:{own_server.port}/0")
        assert counter.run(counter.store.check()) is True
        assert counter.room(day(2, name=login)) == 2
        for shown in (repr(counter.store), repr(counter.link), str(counter.store.address), repr(counter.store.address)):
            assert "s3cret" not in shown
        counter.close()


@pytest.mark.parametrize("kind", [RedisCounter, AsyncRedisCounter])
@pytest.mark.parametrize(
    ("login", "why"),
    [
        ("", "AuthenticationError|unauthenticated"),
        ("app:wrong-one@", "AuthenticationError"),
        (f"few:{QUOTED}@", "NOPERM|ACL failure"),
    ],
)
def test_a_wrong_login_is_told_at_the_start(
    own_server: Server, kind: type[RedisCounter], login: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    from routerkit.errors import ConfigurationError

    own_server.do("ACL", "SETUSER", "few", "on", f">{PASSWORD}", "~*", "+@all", "-zadd")
    own_server.do("CONFIG", "SET", "requirepass", PASSWORD)
    counter = kind(own_server, url=f"redis://{login}127.0.0.1:{own_server.port}/0")
    with pytest.raises(ConfigurationError, match="refuses us") as caught:
        counter.run(counter.store.check())
    assert counter.grant(slots(3)).degraded
    assert counter.store.report().lost
    trace, seen = caught.value.__traceback__, [str(caught.value), caplog.text]
    while trace is not None:
        seen.append(repr(trace.tb_frame.f_locals) if "routerkit/store" in trace.tb_frame.f_code.co_filename else "")
        trace = trace.tb_next
    assert not [each for each in seen if "s3cret" in each or "wrong-one" in each]
    assert re.search(why, caplog.text)
    assert isinstance(caught.value.__context__, StoreFailure)
    assert caught.value.__context__.__context__ is None
    counter.close()


def test_redis_need_not_be_there_at_the_start(caplog: pytest.LogCaptureFixture, server: Server) -> None:
    for kind in (RedisCounter, AsyncRedisCounter):
        caplog.clear()
        counter = kind(server, url=f"redis://127.0.0.1:{free_port()}")
        assert counter.run(counter.store.check()) is False
        assert "is lost" in caplog.text
        assert counter.grant(day(3)).degraded
        counter.close()


def test_the_version_of_redis_py_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from routerkit.errors import ConfigurationError

    store = RedisStore("redis://localhost", SystemRuntime())
    monkeypatch.setattr(redis, "__version__", "4.6.0")
    with pytest.raises(ConfigurationError, match=re.escape("4.6.0 is too old")):
        store.link()
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=re.escape("pip install 'routerkit[redis]'")):
        store.async_link()


def test_what_is_not_ours_is_no_reply(server: Server) -> None:
    """Something else answers: whatever it says, the process counts for itself."""
    for reply in (None, b"OK", b"", b"1 2 3", b"1 2 3 4 5 6 x", "1 2 3 4 5 6 7", [1] * 7, b"9" * 5000, {}, 7):
        store = RedisStore(server.url, SystemRuntime())
        made = drive(store.admit([day(5)], 60.0), lambda _, reply=reply: reply)
        assert made.degraded
    assert isinstance(drive(store.admit([], 60.0), lambda _: b"0 1 0"), Grant)


def test_a_limit_that_only_redis_sees_reached_is_one_that_was_charged() -> None:
    """It counts in floating point."""
    store = RedisStore("redis://localhost", SystemRuntime())
    free, costly = slots(9, 0), money(10**18, 5, "total")
    made = drive(store.admit([free, costly, free], 60.0), lambda _: b"0 1800000000000000 0" + b" 0 0 0 1" * 3)
    assert made == Denial(costly, None)


def test_time_is_in_microseconds(server: Server) -> None:
    reply = RedisStore(server.url, SystemRuntime()).link().perform(ask(ADD, ("{rk:x}:b:1",)))
    assert abs(int(reply.split()[1]) / MICROSECONDS - time.time()) < 60
    assert address_of(server.url).hosts == (("127.0.0.1", server.port),)
