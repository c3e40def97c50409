"""What stands under a board's keys in Redis: ours, somebody else's, garbage."""

from __future__ import annotations

import re

import pytest
import redis

from routerkit.core.fleet import News
from routerkit.store.redis_board import MAX_BLOB
from tests.store.boards import board, exchange, lease, read, release, write
from tests.store.counters import RedisCounter
from tests.store.servers import Server

GARBAGE: list[tuple[str, ...]] = [
    ("SET", ""),
    ("SET", "text"),
    ("SET", "9" * 16),
    ("SET", "1" * 48),
    ("SET", "-000000000000001" + "x" * 40),
    ("SET", "0x1800000000000a" + "x" * 40),
    ("SET", "1800000000000000" + "x" * (MAX_BLOB + 33)),
    ("SET", "abc-1"),
    ("LPUSH", "1"),
    ("SADD", "1"),
    ("ZADD", "1", "x"),
    ("HSET", "p", "-1"),
    ("HSET", "a" * 26, "text"),
    ("HSET", "a" * 26, "5"),
    ("HSET", "a" * 26, "-1 -1"),
    ("HSET", "a" * 26, "1e3 1"),
    ("HSET", "a" * 26, "9" * 400 + " 1"),
    ("HSET", "a" * 26, "99999999999999999999 99999999999999999998"),
    ("HSET", "a" * 26, "1 2"),
    ("HSET", "a" * 26, "99999999999999 1"),
    ("HSET", "a b" * 9, "99999999999999 99999999999998"),
    ("HSET", "A" * 26, "99999999999999 99999999999998"),
    ("HSET", "x" * 1_000_000, "99999999999999 99999999999998"),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: " ".join(garbage)[:30])
def test_foreign_values_under_our_keys_are_replaced(redis_counter: RedisCounter, garbage: tuple[str, ...]) -> None:
    exchange(redis_counter, News("m", 60.0))
    assert lease(redis_counter)
    write(redis_counter, b"data")
    other = RedisCounter(redis_counter.server)
    with redis_counter.server.client() as client:
        keys = client.keys("*")
        assert len(keys) == 3
        for key in keys:
            client.delete(key)
            client.execute_command(garbage[0], key, *garbage[1:])
        release(redis_counter)
        assert read(redis_counter) is None
        assert exchange(redis_counter) == {}
        assert exchange(redis_counter, News("m", 60.0)).keys() == {board(other).name("m")}
        assert lease(redis_counter) is True
        write(redis_counter, b"data")
        blob = read(other)
        assert blob is not None
        assert blob.data == b"data"
        assert [client.ttl(key) > 0 for key in client.keys("*")] == [True] * 3
    report = redis_counter.store.report()
    assert not report.lost
    assert 1 <= report.replaced <= 4
    other.close()


@pytest.mark.parametrize("field", ["a" * 25, "a" * 27, "A" * 26, "a" * 25 + "1", "a" * 26])
def test_what_would_hold_now_is_no_hint_unless_it_is_ours(redis_counter: RedisCounter, field: str) -> None:
    exchange(redis_counter, News("m", 60.0))
    good = field == "a" * 26
    with redis_counter.server.client() as client:
        (key,) = client.keys("*")
        now = 1000 * client.time()[0]
        client.hset(key, mapping={field: f"{now + 60_000} {now}", "b" * 26: f"{now + 60_000} {now - 600_000}"})
        seen = exchange(redis_counter)
        assert seen.keys() == {board(redis_counter).name("m")} | ({field} if good else set())
        assert client.hlen(key) == 1 + good
    assert redis_counter.store.report().replaced == 2 - good


def test_what_is_no_token_of_ours_is_no_lease(redis_counter: RedisCounter) -> None:
    assert lease(redis_counter)
    with redis_counter.server.client() as client:
        (key,) = client.keys("*")
        client.set(key, "0a-1", px=60_000)
        assert lease(redis_counter) is False
        for foreign in ("text", "x0a-1", "0a-1 ", "0a-", "0a-1" * 50):
            client.set(key, foreign, px=60_000)
            assert lease(redis_counter) is True
    assert redis_counter.store.report().replaced == 5


def test_what_lasts_too_long_is_no_lease_of_ours(redis_counter: RedisCounter) -> None:
    """Also one of ours, after the clock has jumped back."""
    assert lease(redis_counter)
    with redis_counter.server.client() as client:
        (key,) = client.keys("*")
        client.pexpire(key, 3_600_000)
    assert lease(redis_counter) is True
    assert redis_counter.store.report().replaced == 1


def test_bytes_of_somebody_else_are_not_taken_for_ours(redis_counter: RedisCounter) -> None:
    """Cut, changed, exchanged, put under another name, of another namespace."""
    write(redis_counter, b"first" * 100, "first")
    other = RedisCounter(redis_counter.server, namespace="other")
    assert read(other, "first") is None
    write(other, b"other" * 100, "first")
    with redis.Redis(port=redis_counter.server.port, protocol=2) as raw:
        mine = raw.keys(redis_counter.store._names.blob("first"))[0]
        theirs = raw.keys(other.store._names.blob("first"))[0]
        good, foreign = raw.get(mine), raw.get(theirs)
        assert isinstance(good, bytes)
        for bad in (foreign, good[:-1], good + b"x", good[:100] + b"X" + good[101:], good[:16] + b"x" * 32 + good[48:]):
            raw.set(mine, bad)
            assert read(redis_counter, "first") is None
        raw.set(mine, good)
        raw.rename(mine, redis_counter.store._names.blob("second"))
        assert read(redis_counter, "second") is None
    assert redis_counter.store.report().replaced == 6
    other.close()


def test_keys_hold_nothing_that_anybody_chose_and_all_expire(redis_counter: RedisCounter) -> None:
    for scope in ("m on g", "a:b", "}{", "*", "\n", "\udcff", "x" * 1_000_000, ""):
        exchange(redis_counter, News(scope, 60.0))
        assert lease(redis_counter, scope)
        write(redis_counter, b"data", scope)
    with redis_counter.server.client() as client:
        keys = client.keys("*")
        assert len(keys) == 1 + 8 + 8
        for key in keys:
            assert re.fullmatch(r"\{rk:[a-z2-7]{26}\}:(hints|[ld]:[a-z2-7]{26})", key)
            assert 0 < client.ttl(key) <= 600
        fields = [field for key in keys if key.endswith("hints") for field in client.hkeys(key)]
    assert sorted(fields) == sorted(exchange(redis_counter))
    assert all(re.fullmatch("[a-z2-7]{26}", field) for field in fields)
    assert len({key[: key.index("}")] for key in keys}) == 1


def test_namespaces_are_apart(server: Server) -> None:
    counters = [RedisCounter(server, namespace=name) for name in ("one", "two")]
    for counter in counters:
        assert len(exchange(counter, News("m", 60.0))) == 1
        assert lease(counter)
        assert read(counter) is None
        write(counter, b"data")
    assert board(counters[0]).name("m") != board(counters[1]).name("m")
    for counter in counters:
        counter.close()
