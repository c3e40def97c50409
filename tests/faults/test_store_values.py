"""Faults 123 to 126: what stands in the server that counts, what it is asked for, and who hears its replies."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import pytest
import redis

from routerkit import LimitExceededError, Limits, Tenant
from routerkit.core.effects import Script
from routerkit.store import redis_ask
from routerkit.testing import FaultServer
from tests.faults.catalogue import fault
from tests.faults.shared import DOWN, PATIENCE, Shared, Wire, everything, live, sharing
from tests.store.counters import RedisCounter
from tests.store.servers import Server, binary
from tests.support.facades import AsyncCaller, Reader, SyncCaller

Facade = type[SyncCaller | AsyncCaller]

pytestmark = pytest.mark.skipif(binary() is None, reason="no Valkey and no Redis here")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def redis_server(running: Server) -> Server:
    running.clear()
    return running


# --- 123: what is not ours ---

Put = Callable[["redis.Redis", str], object]
FIELDS = ("p", "n", "r", "b", "f", "l", "t")
GARBAGE: dict[str, Put] = {
    "a list": lambda client, key: client.rpush(key, "x", "y"),
    "a set": lambda client, key: client.sadd(key, "x", "1:5:abc"),
    "a sorted set": lambda client, key: client.zadd(key, {"x": 1, "1:99999999999999999999:g": float("inf"), ":::": -5}),
    "a text": lambda client, key: client.set(key, "x"),
    "a number": lambda client, key: client.set(key, "12345678901234567890"),
    "bytes": lambda client, key: client.set(key, b"\x80\x04\x95\xff\x00 1 2 3"),
    "a megabyte": lambda client, key: client.set(key, "1" * 1_000_000),
    "a stream": lambda client, key: client.xadd(key, {"x": "y"}),
    "other fields": lambda client, key: client.hset(key, mapping={"x": "y", "": "1"}),
    "fields without numbers": lambda client, key: client.hset(key, mapping=dict.fromkeys(FIELDS, "x")),
    "numbers below zero": lambda client, key: client.hset(key, mapping=dict.fromkeys(FIELDS, "-5")),
    "numbers beyond all": lambda client, key: client.hset(key, mapping=dict.fromkeys(FIELDS, "9" * 400)),
    "no numbers": lambda client, key: client.hset(key, mapping=dict.fromkeys(FIELDS, "nan")),
    "a thousand fields": lambda client, key: client.hset(
        key, mapping={**dict.fromkeys(FIELDS, "1e3"), **{f"f{number}": "x" for number in range(1000)}}
    ),
}


def keys_of(client: redis.Redis) -> list[str]:
    return sorted(client.scan_iter(count=1000))


def opened(shared: Shared, name: str, closing: ExitStack) -> Reader:
    """A tenant's stream under way, so that something is held."""
    stream = shared.caller.tenant(name).stream(timeout=86_400)
    closing.callback(stream.close)
    return stream


def held(client: redis.Redis) -> list[str]:
    """Limits of which something is held."""
    limits = [key for key in keys_of(client) if client.type(key) == "hash" and not re.search(":[dt]:", key)]
    return [key for key in limits if client.hget(key, "r") not in (None, "0")]


@fault(123)
def test_whatever_stands_under_our_keys_is_replaced_and_counted(
    facade: Facade, server: FaultServer, redis_server: Server
) -> None:
    with (
        sharing(facade, server, redis_server.url, **everything(server)) as shared,
        redis_server.client() as client,
        ExitStack() as closing,
    ):
        live(shared)
        streams = [opened(shared, name, closing) for name in ("acme", "globex")]
        kinds = {client.type(key) for key in keys_of(client)}
        assert kinds == {"hash", "zset", "string"}, "of all that there is, there is something"
        for name, put in GARBAGE.items():
            before = shared.store.report().replaced
            for key in keys_of(client):
                client.delete(key)
                put(client, key)
            live(shared, ("acme",))
            assert not shared.lost, name
            assert shared.store.report().replaced > before, name
        assert set(shared.told) <= {"reset"}
        assert shared.caller.client.stats().degraded == 0
        for stream in streams:
            while stream.next() is not None:
                pass
        live(shared)
        assert held(client) == [], "nor is anything held for ever"


@fault(123)
def test_no_value_makes_more_of_a_limit(facade: Facade, server: FaultServer, redis_server: Server) -> None:
    """What was counted before may be lost with it, but what this process knows is not."""
    with (
        sharing(facade, server, redis_server.url, limits=Limits(requests_per_day=5)) as shared,
        redis_server.client() as client,
    ):
        assert shared.room() == 5
        for name, put in GARBAGE.items():
            for key in keys_of(client):
                client.delete(key)
                put(client, key)
            assert shared.room() == 0, name


# --- 124: its clock ---


@fault(124)
def test_a_clock_that_jumps_back_makes_nobody_wait_for_it(
    facade: Facade, server: FaultServer, redis_server: Server
) -> None:
    """As it looks to the server: all that it holds comes from an hour ahead."""
    clock = RedisCounter(redis_server)
    limits = {"client": Limits(requests_per_minute=6), f"gateway:{server.url.split('/')[2]}": Limits(concurrency=2)}
    with sharing(facade, server, redis_server.url, limits=limits) as shared:
        with_one_open = shared.caller.stream()
        assert shared.room() == 5
        clock.elapse(-3600)
        with pytest.raises(LimitExceededError) as caught:
            shared.ask()
        assert caught.value.retry_after is not None
        assert 0 < caught.value.retry_after <= 60
        clock.elapse(caught.value.retry_after + 0.001)
        assert shared.degraded() == 0
        while with_one_open.next() is not None:
            pass
        clock.elapse(60)
        assert shared.room() == 6
    clock.close()


@fault(124)
def test_nothing_else_of_the_fleet_waits_for_it_either(
    facade: Facade, server: FaultServer, redis_server: Server
) -> None:
    clock = RedisCounter(redis_server)
    with sharing(facade, server, redis_server.url, **everything(server)) as shared:
        live(shared)
        clock.elapse(-3600)
        live(shared)
        shared.runtime.advance(61)
        server.script(DOWN, server.default)
        tenant = shared.caller.tenant("acme")
        assert tenant.complete(model=DOWN).model == DOWN, "nobody else probes it"
        assert shared.told == []
    clock.close()


# --- 125: replies ---


@fault(125)
def test_nobody_hears_the_reply_to_somebody_who_has_gone(
    facade: Facade, server: FaultServer, redis_server: Server
) -> None:
    """One tenant may ask no more, the other may; each is interrupted while it asks, and the reply comes afterwards."""
    tenants = [
        Tenant("acme", "sk-acme-1234567890", limits=Limits(requests_per_day=1)),
        Tenant("globex", "sk-globex-1234567890", limits=Limits(requests_per_day=30)),
    ]
    with (
        Wire(redis_server.port) as wire,
        sharing(facade, server, wire.url, api_key=None, tenants=tenants, limits=Limits(concurrency=9)) as shared,
    ):
        acme, globex = shared.caller.tenant("acme"), shared.caller.tenant("globex")
        acme.complete()
        for round_ in range(6):
            used = wire.connections
            wire.hold()
            interrupted(acme if round_ % 2 else globex, wire)
            late = threading.Timer(0.05, wire.mend)
            late.start()
            if round_ % 2:
                assert not globex.complete().route.degraded
            else:
                with pytest.raises(LimitExceededError, match="of tenant acme: used up; there is room again"):
                    acme.complete()
            late.join()
            assert wire.connections > used, "the connection is not used again"
        assert not shared.lost
        assert shared.caller.client.stats().degraded == 0
        made = sum(request.api_key == "sk-globex-1234567890" for request in server.chat_requests)
        assert made == 3
        with suppress(LimitExceededError):
            for _ in range(40):
                globex.complete()
    asked = [request.api_key for request in server.chat_requests]
    assert (asked.count("sk-globex-1234567890"), asked.count("sk-acme-1234567890")) == (30, 1)


def interrupted(caller: SyncCaller | AsyncCaller, wire: Wire) -> None:
    """A call that is cancelled, by its task or by Ctrl-C, while it waits for the store."""
    if isinstance(caller, AsyncCaller):
        task = caller.loop.create_task(caller.client.complete("Hello"))
        caller.loop.run_until_complete(caller.loop.run_in_executor(None, wire.held.wait, PATIENCE))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            caller.loop.run_until_complete(task)
        return
    main = threading.get_ident()
    interrupter = threading.Thread(target=lambda: wire.held.wait(PATIENCE) and signal.pthread_kill(main, signal.SIGINT))
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        caller.complete()
    interrupter.join()


# --- 126: how much it is asked for ---

SCRIPTS = [each for each in vars(redis_ask).values() if isinstance(each, Script)]
TOLD = frozenset(re.findall(r"\+([a-z]+)", (redis_ask.__doc__ or "").partition("and ``+select")[0]))
"""What a login must be allowed to do, by the page on it."""
OF_TESTS = {"info", "config|resetstat", "scan"}


def done(client: redis.Redis) -> dict[str, int]:
    """How often the server did what."""
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in client.info("commandstats").items()}


@fault(126)
def test_nothing_is_asked_for_but_what_is_told(facade: Facade, server: FaultServer, redis_server: Server) -> None:
    """No KEYS, no SCAN: nothing whose work grows with what else is there."""
    with redis_server.client() as client:
        client.script_flush()
        client.config_resetstat()
        with sharing(facade, server, redis_server.url, **everything(server)) as shared:
            for _ in range(3):
                live(shared)
                shared.runtime.advance(3600)
        used = done(client)
    assert used.keys() <= TOLD | OF_TESTS
    assert used.keys() >= {"evalsha", "zadd", "hset", "hgetall", "getrange"}, "all of it was used"
    assert used["eval"] <= len(SCRIPTS), "each is sent once"


@fault(126)
def test_a_call_does_no_more_work_where_much_is_held(facade: Facade, server: FaultServer, redis_server: Server) -> None:
    """Twenty thousand leases that are over, of each limit, and hints of as many models."""
    with (
        sharing(facade, server, redis_server.url, **everything(server)) as shared,
        redis_server.client() as client,
        ExitStack() as closing,
    ):
        live(shared)
        live(shared)
        opened(shared, "acme", closing)
        usual = work(shared, client)
        for key in keys_of(client):
            if key.endswith(":h"):
                client.zadd(key, {f"1:1:other-{number}": 1 for number in range(20_000)})
            elif key.endswith(":hints"):
                client.hset(key, mapping={f"{number:026d}": "1 0" for number in range(20_000)})
        before = {key: client.zcard(key) for key in keys_of(client) if key.endswith(":h")}
        heavy = work(shared, client)
        assert before
        for key, size in before.items():
            assert size - client.zcard(key) <= 4 * 500
        assert heavy.keys() - usual.keys() <= {"zrem"}
        assert sum(heavy.values()) <= 2 * sum(usual.values())
        assert [client.hlen(key) for key in keys_of(client) if key.endswith(":hints")] in ([], [0])


def work(shared: Shared, client: redis.Redis) -> dict[str, int]:
    """What one call has the server do."""
    client.config_resetstat()
    shared.runtime.advance(2)  # the fleet is heard once a second
    assert not shared.caller.tenant("acme").complete().route.degraded
    return done(client)
