"""Looking at what is used of limits in Redis, without charging them. On a real server, through each link."""

from __future__ import annotations

import pytest

from routerkit.core.fleet import Taken
from routerkit.core.fleet_accounts import DAY
from routerkit.core.limits import MINUTE
from tests.store.boards import look
from tests.store.counters import RedisCounter, day, money, rate, slots

NOW = 0.05
"""Of a rate: the share that leaks out while it is looked at."""


def test_what_is_used_of_limits_of_every_kind(redis_counter: RedisCounter) -> None:
    charges = [
        rate(60),
        day(50),
        slots(5),
        money(1000, 100),
        money(1000, 100, "month", "m"),
        money(1000, 100, "total", "t"),
    ]
    before = [Taken(each.number, 0, 0) for each in look(redis_counter, *charges) or []]
    assert look(redis_counter, *charges) == before
    assert redis_counter.server.do("DBSIZE") == 0, "looking makes nothing"
    first, _ = (redis_counter.grant(*charges) for _ in range(2))
    level, *others = look(redis_counter, *charges) or []
    assert (2 - NOW * 60) * MINUTE <= level.number <= 2 * MINUTE
    assert [(each.taken, each.held) for each in others] == [(2, 0), (0, 2), (0, 200), (0, 200), (0, 200)]
    assert [each.number for each in others] == [each.number for each in before[1:]]
    redis_counter.settle(first, 1, 1, 0, 40, 50, 60)
    _, *others = look(redis_counter, *charges) or []
    assert [(each.taken, each.held) for each in others] == [(2, 0), (0, 1), (40, 100), (50, 100), (60, 100)]
    assert look(redis_counter, *charges, owner="acme") == before


def test_looking_charges_nothing(redis_counter: RedisCounter) -> None:
    charges = [rate(10), day(3), slots(3), money(10, 1)]
    redis_counter.grant(*charges)
    for _ in range(10):
        look(redis_counter, *charges)
    assert [redis_counter.room(each) for each in charges] == [9, 2, 2, 9]
    assert redis_counter.store.report().replaced == 0


def test_what_has_come_back_is_not_used(redis_counter: RedisCounter) -> None:
    charges = [rate(60), day(50), slots(5), money(1000, 100)]
    for _ in range(3):
        redis_counter.grant(*charges, lease=20)
    redis_counter.grant(*charges, lease=60)
    redis_counter.elapse(30)
    level, *others = look(redis_counter, *charges) or []
    assert level.number == 0
    assert [(each.taken, each.held) for each in others] == [(4, 0), (0, 1), (0, 100)]
    redis_counter.next_day()
    _, per_day, _, _ = look(redis_counter, *charges) or []
    assert (per_day.number, per_day.taken) == (redis_counter.server.client().time()[0] // DAY, 0)


def test_a_clock_that_steps_back_over_midnight_has_not_freed_a_limit(redis_counter: RedisCounter) -> None:
    """As it does not free it for an admission. What is of any other day is over."""
    charge, today = day(50), redis_counter.server.client().time()[0] // DAY
    redis_counter.grant(charge)
    for number, taken in ((today + 1, 1), (today + 2, 0), (today - 1, 0)):
        redis_counter.server.do("HSET", redis_counter.store._names.limit(charge, "")[0], "p", number)
        assert look(redis_counter, charge) == [Taken(number if taken else today, taken, 0)]


def test_of_very_many_that_are_over_none_is_held(redis_counter: RedisCounter) -> None:
    charge = slots(5000)
    redis_counter.grant(charge)
    key, leases = redis_counter.store._names.limit(charge, "")
    with redis_counter.server.client() as client:
        client.zadd(leases, {f"1:1:{number}-1": 1 for number in range(1200)})
        client.hset(key, "r", 1201)
    assert look(redis_counter, charge) == [Taken(0, 0, 1)]


def test_leases_without_anything_held(redis_counter: RedisCounter) -> None:
    """As when the set was evicted."""
    charge = slots(5)
    redis_counter.grant(charge)
    redis_counter.server.do("DEL", redis_counter.store._names.limit(charge, "")[1])
    assert look(redis_counter, charge) == [Taken(0, 0, 0)]


@pytest.mark.parametrize(
    "garbage", [("SET", "x"), ("LPUSH", "1"), ("HSET", "p", "x"), ("HSET", "l", "1", "t", "-1"), ("ZADD", "1", "x")]
)
def test_garbage_for_a_limit_is_no_use_of_it(redis_counter: RedisCounter, garbage: tuple[str, ...]) -> None:
    charges = [rate(10), day(3), slots(3), money(10, 1)]
    redis_counter.grant(*charges)
    with redis_counter.server.client() as client:
        for charge in charges:
            for key in redis_counter.store._names.limit(charge, ""):
                client.delete(key)
                client.execute_command(garbage[0], key, *garbage[1:])
    seen = look(redis_counter, *charges)
    assert seen is not None
    assert [(each.taken, each.held) for each in seen] == [(0, 0)] * 4
    assert seen[0].number == 0
    assert not redis_counter.store.report().lost
