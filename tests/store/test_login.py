"""What a login must be allowed to do: what our documentation says, no more, and it is looked at when a client starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import routerkit.store
from routerkit.core.entries import Entry
from routerkit.core.fleet import News
from routerkit.errors import ConfigurationError
from routerkit.store import redis_ask
from tests.store.boards import KINDS, all_of_it, exchange, lease, look, read, tell, told, write
from tests.store.counters import RedisCounter, day, money, rate, slots
from tests.store.servers import Server
from tests.store.test_redis import PASSWORD, QUOTED

assert redis_ask.__doc__ is not None
RULES = re.findall(
    r"[-+~]\S+", redis_ask.__doc__[redis_ask.__doc__.index("ACL SETUSER") : redis_ask.__doc__.index("and ``")]
)
COMMANDS = {rule[1:] for rule in RULES if rule.startswith("+")}
CALLED = re.compile(r"(?:redis\.p?call|[^.\w]call)\('([A-Z]+)'")
CLUSTER = re.findall(r"``(.*?)`` for", redis_ask.__doc__)


def called(text: str) -> set[str]:
    return {name.lower() for name in CALLED.findall(text)}


def test_what_is_tried_at_the_start_is_all_that_scripts_do() -> None:
    texts = {path.name: path.read_text() for path in Path(routerkit.store.__file__).parent.glob("*.lua")}
    used = set().union(*map(called, texts.values()))
    assert len(used) > 10
    assert called(texts["check.lua"]) | called(texts["limits.lua"]) == used
    assert used | {"eval", "evalsha"} == COMMANDS


def login(server: Server, *rules: str) -> str:
    """The URL of one who may do this."""
    server.do("ACL", "SETUSER", "app", "reset", "on", f">{PASSWORD}", *RULES, *rules)
    return f"redis://app:{QUOTED}@127.0.0.1:{server.port}/0"


def fleet(counter: RedisCounter) -> None:
    """Adds something up, and reads it."""
    before = told(counter).get("f//X", (0,))
    tell(counter, before[0] + 1, Entry("f//X", (1,)), Entry("m/", (1,)))
    assert told(counter)["f//X"] == (before[0] + 1,)


@pytest.mark.parametrize("kind", KINDS)
def test_it_suffices(own_server: Server, kind: type[RedisCounter]) -> None:
    counter = kind(own_server, url=login(own_server))
    assert counter.run(counter.store.check()) is True
    charges = rate(99), day(99), slots(99), money(99, 1), money(99, 1, "month"), money(99, 1, "total")
    for garbage in (None, ("SET", "x"), ("HSET", "f", "x"), ("ZADD", "1", "x"), ("SADD", "x")):
        with own_server.client() as client:
            for key in client.keys("*") if garbage else ():
                client.delete(key)
                client.execute_command(garbage[0], key, *garbage[1:])
        for _ in range(2):
            counter.settle(counter.grant(*charges), *[1] * 6)
        counter.settle(counter.grant(slots(99), lease=0.0), 1)
        all_of_it(counter)
        assert exchange(counter, News("m", 0.0)) == {}
        assert lease(counter, "n") is True
        write(counter, b"data")
        assert read(counter) is not None
        fleet(counter)
        assert look(counter, *charges) is not None
        own_server.do("EVAL", "for _, key in ipairs(redis.call('KEYS', '*:l:*')) do redis.call('DEL', key) end", 0)
    assert counter.store.report().losses == 0
    counter.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_more_a_cluster_needs(kind: type[RedisCounter]) -> None:
    more = CLUSTER[1].split()
    with Server("--cluster-enabled", "yes") as cluster:
        cluster.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        while "cluster_state:ok" not in str(cluster.do("CLUSTER", "INFO")):
            pass
        counter = kind(cluster, url=login(cluster, *more).replace("redis:", "redis+cluster:").removesuffix("/0"))
        assert counter.run(counter.store.check()) is True
        assert len(all_of_it(counter)) == 2
        fleet(counter)
        counter.close()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_of_it_is_needed_and_missed_at_once(own_server: Server, command: str) -> None:
    if command != "eval":
        warm = RedisCounter(own_server)  # from now on the script is known there
        assert warm.run(warm.store.check()) is True
        warm.close()
    counter = RedisCounter(own_server, url=login(own_server, f"-{command}"))
    with pytest.raises(ConfigurationError, match=r"refuses us: (ACL failure|NOPERM|NoPermissionError)"):
        counter.run(counter.store.check())
    counter.close()


@pytest.mark.parametrize("pattern", ["~other:*", "%R~{rk:*", "%W~{rk:*"])
def test_our_keys_are_needed(own_server: Server, pattern: str) -> None:
    counter = RedisCounter(own_server, url=login(own_server, "resetkeys", pattern))
    with pytest.raises(ConfigurationError, match="refuses us"):
        counter.run(counter.store.check())
    counter.close()
