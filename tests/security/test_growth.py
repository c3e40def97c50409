"""What users choose freely, such as model ids, makes nothing grow without bound."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Sized
from contextlib import suppress
from typing import Any

import pytest

from routerkit import AsyncClient, Client, ConfigurationError, PaymentRequiredError, RouterKitError, Tenant, facade
from routerkit.core import health, performance, usage
from tests.security.test_objects import inner
from tests.support.facades import SkippingRuntime

FEW, MANY = 20, 400
SCRIPT = [
    {"status": 429, "retry_after": 90, "message": "slow"},
    {"status": 404, "message": "no such model", "code": "model_not_found"},
    {"status": 503, "message": "down"},
    {"network": "refused"},
    {"cut_after": 0},
    {},
]


def containers(root: Any) -> Iterator[tuple[str, int]]:
    """Every container that can be reached, and its size."""
    known: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in known or isinstance(thing, (str, bytes, int, float, type, type(None))):
            continue
        known[id(thing)] = thing
        if isinstance(thing, Sized) and not type(thing).__module__.startswith("routerkit.types"):
            yield type(thing).__name__, len(thing)
        if type(thing).__name__ not in ("Snapshot", "CatalogCache", "MockTransport", "module"):
            waiting += inner(thing)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_ENTRIES", FEW)


def options() -> dict[str, Any]:
    script = [{**fault, "model": f"m/{number}"} for number in range(MANY) if (fault := SCRIPT[number % len(SCRIPT)])]
    return {"dev_mode": True, "dev_script": script, "runtime": SkippingRuntime(), "default_model": "z/last"}


def check(client: Client | AsyncClient) -> None:
    sizes = sorted(containers(client.router.health), key=lambda each: each[1])
    assert sizes[-1][1] >= FEW // 2, "it was looked into"
    # Attributes are one dict of a fixed size; a key's limited models are those of the last ten seconds.
    assert [each for each in sizes if each[1] > 2 * FEW] == []
    assert len(client.health().breakers) <= FEW + 1
    assert len(client.health().cooldowns) <= FEW


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_does_not_grow_with_the_models_asked(stream: bool) -> None:
    client = Client(**options())
    runtime: Any = client._runtime
    for number in range(MANY):
        with suppress(RouterKitError):
            if stream:
                with client.stream("Hello", model=f"m/{number}", fallback_models=[]) as answer:
                    list(answer)
            else:
                client.complete("Hello", model=f"m/{number}", fallback_models=[])
        runtime.advance(3)
    check(client)
    client.close()


@pytest.mark.usefixtures("few")
def test_nor_does_an_async_one() -> None:
    client = AsyncClient(**options())

    async def main() -> None:
        runtime: Any = client._runtime
        for number in range(MANY):
            with suppress(RouterKitError):
                await client.complete("Hello", model=f"m/{number}", fallback_models=[])
            runtime.advance(3)
        await client.aclose()

    asyncio.run(main())
    check(client)


@pytest.mark.usefixtures("few")
def test_a_crowd_of_models_does_not_wash_an_open_breaker_away() -> None:
    """Who may choose models could else have a broken one asked again."""
    client = Client(
        dev_mode=True, runtime=SkippingRuntime(), dev_script=[{"model": "a/one", "status": 500, "times": 99}]
    )
    for _ in range(6):
        client.complete("Hello", model="a/one", fallback_models=["b/two"])
    assert [state for name, state in client.health().breakers.items() if name.startswith("a/one")] == ["open"]
    for number in range(MANY):
        client.complete("Hello", model=f"m/{number}", fallback_models=[])
    assert [state for name, state in client.health().breakers.items() if name.startswith("a/one")] == ["open"]
    assert client.complete("Hello", model="a/one", fallback_models=["b/two"]).route.models == ("b/two",)
    client.close()


@pytest.mark.usefixtures("few")
def test_breakers_whose_time_is_long_over_make_room() -> None:
    """Else who may choose models could fill the memory with those that fail."""
    runtime = SkippingRuntime()
    script = [{"model": f"m/{number}", "status": 500, "times": 99} for number in range(5 * FEW)]
    client = Client(dev_mode=True, runtime=runtime, dev_script=script, fallback_models=["z/last"])
    for number in range(5 * FEW):
        for _ in range(6):
            client.complete("Hello", model=f"m/{number}")
        assert client.health().breakers[f"m/{number} on openrouter"] == "open"
        assert len(client.health().breakers) <= 2 * FEW
        runtime.advance(3600)
    client.close()


# --- of several tenants ---

TENANTS = 5


@pytest.fixture
def little(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MAX_ROWS", FEW)
    monkeypatch.setattr(usage, "MAX_CANCELLED", FEW)
    monkeypatch.setattr(performance, "MAX_TARGETS", FEW)


def shared(**more: Any) -> dict[str, Any]:
    """Tenants with several keys at several gateways, and a strategy that keeps scores."""
    keys = {name: [f"sk-{name}-1234567890", f"sk-{name}-0987654321"] for name in ("openrouter", "infron")}
    tenants = [Tenant(f"t{number}", keys) for number in range(TENANTS)]
    own = {"tenants": tenants, "gateways": ["openrouter", "infron"], "strategy": "performance_optimized"}
    return {**options(), **own, **more}


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("stream", [False, True])
def test_nor_does_one_with_many_tenants_keys_and_gateways(stream: bool) -> None:
    client = Client(**shared())
    runtime: Any = client._runtime
    for number in range(MANY):
        tenant = client.tenant(f"t{number % TENANTS}")
        with suppress(RouterKitError):
            if stream:
                with tenant.stream("Hello", model=f"m/{number}", fallback_models=[f"n/{number}"]) as answer:
                    next(answer)  # and no further: it is given up
            else:
                tenant.complete("Hello", model=f"m/{number}", fallback_models=[f"n/{number}"])
        runtime.advance(3)
    router = client.router
    held = {
        "health": router.health,
        "scores": router.scores,
        "accounts": router.accounts,
        "keys": router._rings,
        "turns": router._turns,
    }
    for name, root in held.items():
        sizes = [size for _, size in containers(root)]
        assert sizes, name
        assert max(sizes) <= TENANTS * FEW + 2 * FEW, name
    assert len(client._tenants) == TENANTS
    assert len(client.health().breakers) <= FEW + 2
    assert len(client.usage().rows) <= TENANTS * (FEW + 2)
    client.close()


def test_names_that_are_nobodys_leave_nothing_behind() -> None:
    client = Client(**shared())
    before = sorted(size for _, size in containers([client._tenants, client.router._rings, client.router._turns]))
    for number in range(MANY):
        with pytest.raises(ConfigurationError):
            client.tenant(f"nobody-{number}")
        with pytest.raises(ConfigurationError):
            client.complete("Hello")
    after = sorted(size for _, size in containers([client._tenants, client.router._rings, client.router._turns]))
    assert after == before
    client.close()


def test_clients_that_are_made_anew_for_each_request_are_forgotten() -> None:
    """As a web application does it: `with_options(...).tenant(name)`, again and again."""
    client = Client(**shared())
    for number in range(50):
        client.with_options(timeout=5 + number).tenant("t1").complete("Hello")
    gc.collect()
    assert len([each for each in facade._living if each.router.health is client.router.health]) <= 2
    sizes = [size for _, size in containers([client._tenants, client.router._rings, client.router._turns])]
    assert max(sizes) <= 30
    assert client.usage().total.answers == 50
    client.close()


@pytest.mark.usefixtures("little")
def test_a_tenant_that_asks_for_everything_leaves_others_their_share() -> None:
    """Of statistics by model: what the others ask for later is still counted by its name."""
    client = Client(**shared(dev_script=None))
    for number in range(MANY):
        client.tenant("t0").complete("Hello", model=f"m/{number}", fallback_models=[])
    client.tenant("t1").complete("Hello", model="a/one", fallback_models=[])
    assert [row.model for row in client.tenant("t1").usage().rows] == ["a/one"]
    assert client.tenant("t0").usage().total.answers == MANY
    assert len(client.usage().rows) <= TENANTS * (FEW + 2)
    client.close()


@pytest.mark.usefixtures("little")
def test_a_tenant_that_asks_for_everything_wakes_no_key_that_rests() -> None:
    """What one learnt of its key is not forgotten for models that another makes up."""
    script = [{"model": "a/one", "status": 402, "message": "no credit"}]
    script += [{"model": f"m/{number}", "status": 404, "code": "model_not_found"} for number in range(MANY)]
    own = {
        "gateways": None,
        "gateway": "openrouter",
        "tenants": [Tenant("t0", "sk-t0-1234567890"), Tenant("t1", "sk-t1-1234567890")],
    }
    client = Client(**shared(dev_script=script, **own))
    with pytest.raises(PaymentRequiredError):
        client.tenant("t1").complete("Hello", model="a/one", fallback_models=[])
    for number in range(MANY):
        client.tenant("t0").complete("Hello", model=f"m/{number}", fallback_models=["z/last"])
    assert len(client.health().cooldowns) >= FEW // 2
    with pytest.raises(PaymentRequiredError):
        client.tenant("t1").complete("Hello", model="a/one", fallback_models=[])
    assert len(client.health().cooldowns) <= FEW + 4
    client.close()
