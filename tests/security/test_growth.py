"""What users choose freely, such as model ids, makes nothing grow without bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sized
from contextlib import suppress
from typing import Any

import pytest

from routerkit import AsyncClient, Client, RouterKitError
from routerkit.core import health
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
