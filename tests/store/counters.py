"""One way to drive every store: memory in virtual time, Redis on a real server through each of its links.

Redis keeps its own time, so a test lets time pass by moving what Redis holds back in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from routerkit.core.effects import Ask, StoreFailure
from routerkit.core.limits import Charge, Denial, Grant, Kind
from routerkit.store.memory import MemoryStore
from routerkit.store.redis import RedisStore
from tests.store.servers import Server
from tests.support.virtual import VirtualRuntime

T = TypeVar("T")
LEASE = 60.0

_ELAPSE = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'zset' then
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      redis.call('ZINCRBY', key, -tonumber(ARGV[1]), member)
    end
  elseif kind == 'hash' and redis.call('HEXISTS', key, 't') == 1 then
    redis.call('HSET', key, 't', string.format('%.0f', redis.call('HGET', key, 't') - ARGV[1]))
  elseif kind == 'hash' and redis.call('HEXISTS', key, 'p') == 1 then
    redis.call('HSET', key, 'p', math.max(0, redis.call('HGET', key, 'p') - ARGV[2]))
  elseif kind == 'string' and string.find(redis.call('GET', key), '^[0-9,]+$') then
    local tokens = {}
    for token in string.gmatch(redis.call('GET', key), '[^,]+') do
      local number = tonumber(token)
      if number > 1e12 then number = number - tonumber(ARGV[1]) elseif number > 0 then number = number - tonumber(ARGV[2]) end
      tokens[#tokens + 1] = string.format('%.0f', number)
    end
    redis.call('SET', key, table.concat(tokens, ','), 'KEEPTTL')
  end
end
"""


def drive(step: Any, perform: Callable[[Ask], Any]) -> Any:
    """Drive a step of a store to its end."""
    try:
        order = step.send(None)
        while True:
            try:
                reply = perform(order)
            except StoreFailure as failure:
                order = step.throw(failure)
            else:
                order = step.send(reply)
    except StopIteration as stop:
        return stop.value
    finally:
        step.close()


async def drive_async(step: Any, perform: Callable[[Ask], Coroutine[Any, Any, Any]]) -> Any:
    """The same in a task."""
    try:
        order = step.send(None)
        while True:
            try:
                reply = await perform(order)
            except StoreFailure as failure:
                order = step.throw(failure)
            else:
                order = step.send(reply)
    except StopIteration as stop:
        return stop.value
    finally:
        step.close()


class MemoryCounter:
    """In this process, in virtual time."""

    def __init__(self, server: Server | None = None) -> None:
        self.runtime = VirtualRuntime()
        self.store: Any = MemoryStore(self.runtime)

    def run(self, step: Any) -> Any:
        return drive(step, _nobody)

    def admit(self, *charges: Charge, lease: float = LEASE, owner: str = "") -> Grant | Denial:
        made: Grant | Denial = self.run(self.store.admit(charges, lease, owner))
        return made

    def grant(self, *charges: Charge, lease: float = LEASE, owner: str = "") -> Grant:
        made = self.admit(*charges, lease=lease, owner=owner)
        assert isinstance(made, Grant), made
        return made

    def denial(self, *charges: Charge, owner: str = "") -> Denial:
        made = self.admit(*charges, owner=owner)
        assert isinstance(made, Denial), made
        return made

    def settle(self, grant: Grant, *costs: int) -> None:
        self.run(self.store.settle(grant, costs))

    def elapse(self, seconds: float) -> None:
        self.runtime.advance(seconds)

    def next_day(self) -> None:
        self.runtime.advance(86_400)

    def room(self, charge: Charge, owner: str = "") -> int:
        """How many units a limit admits, one by one; none of them is settled."""
        admitted = 0
        while isinstance(self.admit(charge, owner=owner), Grant):
            admitted += 1
        return admitted

    def close(self) -> None:
        pass


def _nobody(order: Ask) -> Any:
    raise AssertionError("memory asks nobody")


class RedisCounter(MemoryCounter):
    """On a server, through the link for threads."""

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__()
        self.server = server
        self.store = RedisStore(options.pop("url", None) or server.url, self.runtime, **options)
        self.link: Any = self.store.link()
        self.link._seconds = 5.0  # a busy machine is not the subject
        self.asked: list[str] = []
        """The scripts that were sent."""

    def run(self, step: Any) -> Any:
        return drive(step, self.perform)

    def perform(self, order: Ask) -> Any:
        self.asked.append(order.script.name)
        order.seconds = max(order.seconds, self.link._seconds)
        return self.link.perform(order)

    def elapse(self, seconds: float) -> None:
        self.server.do("EVAL", _ELAPSE, 0, int(seconds * 1_000_000), 0)

    def next_day(self) -> None:
        self.server.do("EVAL", _ELAPSE, 0, 86_400_000_000, 1)
        remembered = self.store._knowledge._known  # of the day that is now yesterday
        for key, known in remembered.items():
            remembered[key] = known._replace(number=known.number - 1)

    def close(self) -> None:
        self.link.close()


class AsyncRedisCounter(RedisCounter):
    """On a server, through the link for tasks."""

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(server, **options)
        self.link = self.store.async_link()
        self.link._seconds = 5.0
        self.loop = asyncio.new_event_loop()

    def run(self, step: Any) -> Any:
        return self.loop.run_until_complete(drive_async(step, self.perform_async))

    async def perform_async(self, order: Ask) -> Any:
        self.asked.append(order.script.name)
        order.seconds = max(order.seconds, self.link._seconds)
        return await self.link.perform(order)

    def close(self) -> None:
        self.loop.run_until_complete(self.link.close())
        self.loop.run_until_complete(asyncio.sleep(0.01))  # connections that are being closed take a turn or two
        self.loop.close()


COUNTERS: dict[str, type[MemoryCounter]] = {
    "memory": MemoryCounter,
    "redis": RedisCounter,
    "redis-async": AsyncRedisCounter,
}


def rate(cap: int, cost: int = 1, name: str = "rpm") -> Charge:
    return Charge(Kind.RATE, name, f"{cap} a minute", cap, cost)


def day(cap: int, cost: int = 1, name: str = "rpd") -> Charge:
    return Charge(Kind.DAY, name, f"{cap} a day", cap, cost)


def slots(cap: int, cost: int = 1, name: str = "at once") -> Charge:
    return Charge(Kind.SLOTS, name, f"{cap} at once", cap, cost)


def money(cap: int, cost: int, period: str = "day", name: str = "budget") -> Charge:
    return Charge(Kind.MONEY, name, f"{cap} nano-dollars a {period}", cap, cost, period)


def refused(made: Sequence[Any]) -> int:
    return sum(isinstance(each, Denial) for each in made)
