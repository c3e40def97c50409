"""What tests ask of a board."""

from __future__ import annotations

from typing import Any

from routerkit.core.effects import Ask
from routerkit.core.entries import PARTS, Added, Entry, Page
from routerkit.core.fleet import Blob, News, Taken
from routerkit.core.limits import Charge
from routerkit.store.redis_board import RedisBoard
from tests.store.counters import AsyncRedisCounter, RedisCounter
from tests.store.servers import Server

KINDS = [RedisCounter, AsyncRedisCounter]
EVERY_BYTE = bytes(range(256))
MARGIN = 5.0
"""Seconds by which a busy machine may be late."""

_EARLIER = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      local ends, since = string.match(all[i + 1], '^(%d+) (%d+)$')
      if ends then
        redis.call('HSET', key, all[i], string.format('%.0f %.0f', ends - ARGV[1], since - ARGV[1]))
      end
    end
  elseif #redis.call('GET', key) > 40 then
    redis.call('SETRANGE', key, 0, string.format('%016.0f', redis.call('GETRANGE', key, 0, 15) - ARGV[1] * 1000))
  end
end
"""


def earlier(server: Server, seconds: float) -> None:
    """As it looks when so much time has passed: what hints and bytes say was said so much earlier."""
    server.do("EVAL", _EARLIER, 0, int(seconds * 1000))


def board(counter: RedisCounter) -> RedisBoard:
    made: RedisBoard = counter.store.board
    return made


def exchange(counter: RedisCounter, *news: News) -> Any:
    return counter.run(board(counter).exchange(news))


def lease(counter: RedisCounter, scope: str = "m", seconds: float = 30.0) -> Any:
    return counter.run(board(counter).lease(scope, seconds))


def release(counter: RedisCounter, scope: str = "m") -> None:
    assert counter.run(board(counter).release(scope)) is None


def read(counter: RedisCounter, name: str = "b") -> Blob | None:
    made: Blob | None = counter.run(board(counter).read(name))
    return made


def write(counter: RedisCounter, data: bytes, name: str = "b", seconds: float = 60.0) -> None:
    assert counter.run(board(counter).write(name, data, seconds)) is None


def tell(counter: RedisCounter, number: int, *entries: Entry, day: int | None = None) -> Added | None:
    """``day``: of today, unless another is given."""
    today = counter.server.client().time()[0] // 86_400
    made: Added | None = counter.run(board(counter).tell(number, today if day is None else day, entries))
    return made


def told(counter: RedisCounter, day: int | None = None) -> dict[str, tuple[int, ...]]:
    """All that the fleet told of today, or of another day."""
    today = counter.server.client().time()[0] // 86_400
    found: dict[str, tuple[int, ...]] = {}
    for part in range(PARTS):
        page: Page | None = counter.run(board(counter).page(today if day is None else day, part))
        assert page is not None
        assert page.today == today
        found.update(page.entries)
    return found


def look(counter: RedisCounter, *charges: Charge, owner: str = "") -> list[Taken] | None:
    seen = counter.run(board(counter).look(owner, charges))
    if seen is None:
        return None
    now, taken = seen
    seconds, micros = counter.server.client().time()
    assert abs(now - seconds - micros / 1e6) < MARGIN
    made: list[Taken] = taken
    return made


def all_of_it(counter: RedisCounter) -> list[Any]:
    """What every question comes to."""
    told = exchange(counter, News("m", 5.0)), lease(counter), read(counter)
    release(counter)
    write(counter, b"data")
    return [each for each in told if each is not None]


def one(order: Ask) -> Any:
    """A step that asks this."""
    return (yield order)
