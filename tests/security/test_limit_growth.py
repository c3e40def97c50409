"""What callers choose, models and prompts, makes nothing grow that counts: limits, queues, statistics, what a store knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from routerkit import BreakerPolicy, Budget, Client, Limits, RouterKitError, Tenant
from routerkit.core import health, quotas, usage
from routerkit.store import memory, redis_alone, redis_names
from routerkit.store.memory import MemoryStore
from routerkit.store.redis_alone import Knowledge
from routerkit.testing import FaultServer, ScriptedTransport, VirtualRuntime
from routerkit.testing import replies as r
from tests.faults.shared import sharing
from tests.security.test_growth import containers
from tests.store.servers import Server, binary
from tests.support.facades import FACADES

each_facade = pytest.mark.parametrize("facade", FACADES)
FEW, MANY = 20, 400
TENANTS = 3
HOST = "127.0.0.1:1"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bound is a small one."""
    monkeypatch.setattr(health, "MAX_ENTRIES", FEW)
    monkeypatch.setattr(usage, "MAX_ROWS", FEW)
    monkeypatch.setattr(quotas, "MAX_FOUND", FEW)
    monkeypatch.setattr(redis_names, "_KEPT", FEW)
    monkeypatch.setattr(MemoryStore.__init__, "__defaults__", (FEW,))
    monkeypatch.setattr(Knowledge.__init__, "__defaults__", (FEW,))
    assert memory.MAX_NAMES == redis_alone.MAX_NAMES == 10_000


def limited(host: str = HOST) -> dict[str, Any]:
    """Limits of everything, of which some are reached."""
    ample = Limits(
        requests_per_minute=10_000, tokens_per_minute=10**9, requests_per_day=10_000, concurrency=3, queue_size=2
    )
    scopes = ["client", f"gateway:{host}", "key", f"key:{host}", "model:m/1", f"model:m/2 on {host}", "free"]
    own = {"limits": ample, "budget": Budget("900")}
    return {
        "tenants": [Tenant(f"t{number}", f"sk-{number}-1234567890", **own) for number in range(TENANTS)],
        "limits": {**dict.fromkeys(scopes, ample), "model:m/3": Limits(requests_per_day=1)},
        "budget": Budget("900", per="month", on_unknown_price="allow"),
        "breaker": BreakerPolicy(fast_trip=1),
    }


def model(number: int) -> str:
    return f"m/{number}{':free' * (number % 2)}"


def flood(client: Any, runtime: Any, calls: range) -> None:
    """Models that nobody else asks for; some fail, some streams are given up."""
    for number in calls:
        tenant = client.tenant(f"t{number % TENANTS}")
        options: dict[str, Any] = {"model": model(number), "fallback_models": [f"n/{number}"], "max_tokens": 1}
        try:
            if number % 5:
                tenant.complete(f"question {number}", **options)
            else:
                stream = tenant.stream(f"question {number}", **options)
                stream.next() if hasattr(stream, "next") else next(stream)
                stream.close()
        except RouterKitError:
            pass
        runtime.advance(3)


def sizes(*roots: Any) -> list[int]:
    return sorted(size for _, size in containers(list(roots)))


def failing(number: int) -> r.Reply:
    return [r.completion(), r.error(503), r.error(404), r.error(429), r.completion(), r.close_before_reply()][
        number % 6
    ]


@pytest.mark.usefixtures("few")
def test_nothing_that_counts_grows_with_the_models_asked() -> None:
    transport = ScriptedTransport()
    transport.catalog = r.error(404)
    for number in range(MANY):
        transport.script(model(number), failing(number))
    runtime = VirtualRuntime()
    client = Client(base_url=f"http://{HOST}/v1", runtime=runtime, transport=transport, **limited())
    router = client.router
    held = {"limits": [client.tenant(f"t{number}").router.quotas for number in range(TENANTS)], "turns": router.turns}
    held |= {"store": router.store, "accounts": router.accounts, "health": router.health}
    flood(client, runtime, range(MANY // 2))
    before = {name: sizes(root)[-8:] for name, root in held.items()}
    flood(client, runtime, range(MANY // 2, MANY))
    for name, root in held.items():
        found = sizes(root)
        assert found[-1] <= 5 * FEW + TENANTS * FEW, name
        assert sum(found[-8:]) <= sum(before[name]) + FEW, f"{name}: it grows"
    stats = client.stats()
    assert len(stats.failed) <= 12
    assert len(client.usage().rows) <= TENANTS * (FEW + 2)
    assert not any(queue.busy for queue in queues_of(router.turns))
    client.close()


def queues_of(turns: Any) -> Iterator[Any]:
    for each in vars(turns).values():
        if isinstance(each, dict):
            yield from each.values()


@pytest.mark.skipif(binary() is None, reason="no Valkey and no Redis here")
@pytest.mark.usefixtures("few")
@each_facade
def test_nor_does_what_is_known_of_a_shared_store(facade: str) -> None:
    """In the process; and in the server nothing is left of a model but what is counted of it."""
    with Server() as store, FaultServer() as gateway:
        gateway.catalog = r.error(404)
        options = limited(gateway.url.split("/")[2])
        with sharing(FACADES[facade], gateway, store.url, api_key=None, **options) as shared:
            flood(shared.caller, shared.runtime, range(60))
            known, keys = sizes(*kept(shared.store)), len(store.do("KEYS", "*"))
            flood(shared.caller, shared.runtime, range(60, 120))
            found = sizes(*kept(shared.store))
            assert found[-1] <= 2 * FEW
            assert sum(found) <= sum(known) + 3 * FEW, "it grows"
            assert len(store.do("KEYS", "*")) <= keys + FEW
            waiting = [shared.store._settlements, shared.store._settlements_alone, shared.store._batches]
            assert max(map(len, waiting)) <= 2


def kept(store: Any) -> list[Any]:
    """What a store in Redis remembers of names."""
    return [store._knowledge, store._names, store.board._held, store.board._releases]
