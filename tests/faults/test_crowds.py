"""Many callers at the same moment: a half open breaker lets one through, and none of their outcomes is lost."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from routerkit import (
    AsyncClient,
    BreakerPolicy,
    BreakerState,
)
from routerkit.core.health import Admission, Health
from routerkit.core.keys import Key
from routerkit.gateways import at
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from routerkit.types.policy import RetryPolicy
from routerkit.types.route import Target
from routerkit.types.verdict import Blame, Sample
from tests.faults.catalogue import fault
from tests.support.facades import AsyncCaller, SkippingRuntime, SyncCaller
from tests.support.scenarios import A, B, C

Caller = SyncCaller | AsyncCaller
Facade = type[SyncCaller | AsyncCaller]

CROWD = 256


def crowd(caller: Caller, size: int, *, gate: r.Gate | None = None, gated: int = 0, **options: Any) -> list[str]:
    """So many calls at the same time: the models that answered. The gate opens when all but the gated ones have been answered."""

    def release(answered: int) -> None:
        if gate is not None and answered == size - gated:
            gate.release()

    if isinstance(caller, AsyncCaller):
        return caller.run(tasks(caller.client, size, release, options))
    done: list[str] = []
    with ThreadPoolExecutor(size) as pool:
        barrier = threading.Barrier(size)

        def ask() -> None:
            barrier.wait(30)
            done.append(caller.client.complete("Hello", **options).model)
            release(len(done))

        for future in [pool.submit(ask) for _ in range(size)]:
            future.result(30)
    return done


async def tasks(client: AsyncClient, size: int, release: Callable[[int], None], options: dict[str, Any]) -> list[str]:
    done: list[str] = []

    async def ask() -> None:
        done.append((await client.complete("Hello", **options)).model)
        release(len(done))

    await asyncio.gather(*(ask() for _ in range(size)))
    return done


@fault(109)
def test_a_half_open_breaker_lets_one_of_a_crowd_through(facade: Facade, server: FaultServer) -> None:
    server.script(A, r.error(500))
    with facade(base_url=server.url) as caller:
        for _ in range(5):
            caller.complete(model=A, fallback_models=[B])
        assert server.models_asked.count(A) == 5
        gate = r.gate(r.completion())
        server.script(A, gate)
        caller.client._runtime.advance(10)  # type: ignore[attr-defined]
        answers = crowd(caller, CROWD, gate=gate, gated=1, model=A, fallback_models=[B])
        assert (answers.count(A), answers.count(B)) == (1, CROWD - 1)
        assert server.models_asked.count(A) == 6


@fault(110)
def test_the_failures_of_a_crowd_are_counted_exactly(facade: Facade, server: FaultServer) -> None:
    """Not one is lost: one more than the crowd, and the breaker has seen as many as it takes."""
    server.script(A, r.error(500))
    policy = BreakerPolicy(window=1000, window_seconds=3600, min_samples=CROWD + 1, fast_trip=1000)
    with facade(base_url=server.url, breaker=policy) as caller:
        breaker = caller.client.router.health.breaker(caller.client.settings.gateway.name, A)
        crowd(caller, CROWD, model=A, fallback_models=[B])
        assert server.models_asked.count(A) == CROWD
        assert breaker.state is BreakerState.CLOSED
        caller.complete(model=A, fallback_models=[B])
        assert breaker.state is BreakerState.OPEN


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns fifty times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 50)
    yield
    sys.setswitchinterval(before)


NO_KEY = Key(None, at("http://127.0.0.1:1/v1"))


@fault(110)
def test_a_crowd_that_hammers_the_record_is_counted_exactly(hasty: None) -> None:
    each = 19
    policy = BreakerPolicy(window=10_000, window_seconds=3600, min_samples=CROWD * each + 1, fast_trip=10_000)
    health = Health(SkippingRuntime(), policy, RetryPolicy())
    target = Target("gateway", A)
    admission = health.admit(target, [NO_KEY], lease=60, stream=False)
    assert isinstance(admission, Admission)
    admission.settle(Sample.NEUTRAL, Blame.NOBODY)
    barrier = threading.Barrier(CROWD)

    def hammer() -> None:
        barrier.wait(30)
        for number in range(each):
            admission.broke(Sample.FAIL if number % 3 else Sample.SLOW)

    threads = [threading.Thread(target=hammer) for _ in range(CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    breaker = health.breaker(target.gateway, target.model)
    assert breaker.state is BreakerState.CLOSED
    admission.broke(Sample.FAIL)
    assert breaker.state is BreakerState.OPEN


@fault(106)
def test_after_sleep_every_open_model_gets_one_probe(facade: Facade, server: FaultServer) -> None:
    runtime = SkippingRuntime()
    for model in (A, B):
        server.script(model, r.error(500))
    with facade(base_url=server.url, runtime=runtime) as caller:
        for _ in range(5):
            assert caller.complete(model=A, fallback_models=[B, C]).model == C
        gate = r.gate(r.completion())
        for model in (A, B):
            server.script(model, gate)
        asked = len(server.chat_requests)
        runtime.advance(3600)
        answers = crowd(caller, 50, gate=gate, gated=2, model=A, fallback_models=[B, C])
        assert sorted(answers) == [A, B] + [C] * 48
        assert sorted(server.models_asked[asked:]) == [A, B] + [C] * 48
        states = caller.client.health().breakers
        gateway = caller.client.settings.gateway.name
        assert [str(states[f"{model} on {gateway}"]) for model in (A, B)] == ["half_open", "half_open"]
