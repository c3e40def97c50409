"""Cancelled at the n-th effect, for every n: connections closed, permits back, the account closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from routerkit import CallFinished, RouterKitError
from routerkit.config import settings_from
from routerkit.core.effects import Deliver, Emit, Step
from routerkit.core.health import Admission
from routerkit.core.router import Router
from routerkit.types.policy import Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.route import Target
from routerkit.types.verdict import Sample
from tests.support import replies as r
from tests.support.virtual import Interruption, VirtualGateway

MODELS = ("a/one", "b/two", "c/three")


def request(*, stream: bool) -> ChatRequest:
    return ChatRequest.build(
        "Hello",
        {},
        model=MODELS[0],
        fallback_models=MODELS[1:],
        extra_body=None,
        extra_headers=None,
        timeouts=Timeouts(),
        stream=stream,
    )


CALLS: dict[str, Callable[[Router], Step[Any]]] = {
    "complete": lambda router: router.complete(request(stream=False)),
    "stream": lambda router: router.stream(request(stream=True)),
    "models": lambda router: router.models(Timeouts()),
    "explain": lambda router: router.explain(request(stream=False)),
}


def gateway() -> VirtualGateway:
    """Every kind of trouble that makes a call go on: an error, a limit, a cut stream, a catalogue that must be fetched."""
    gateway = VirtualGateway()
    gateway.script("a/one", r.error(503))
    gateway.script("b/two", r.stream(r.role(), r.cut()), r.error(429, headers={"Retry-After": "3"}))
    gateway.script("c/three", r.error(500), r.error(500), r.completion())
    gateway.catalog = r.json_body(
        {"data": [r.catalog_model("d/four:free", pricing={"prompt": "0", "completion": "0"})]}
    )
    gateway.script("d/four:free", r.error(502), r.completion())
    return gateway


def router_for(gateway: VirtualGateway) -> Router:
    return Router(settings_from({}, base_url="http://127.0.0.1:1/v1", api_key="sk-test-1234567890"), gateway.runtime)


def effects_of(call: Callable[[Router], Step[Any]]) -> int:
    counting = gateway()
    try:
        counting.run(call(router_for(counting)))
    except RouterKitError:
        pass
    return counting.performed


@pytest.mark.parametrize("name", CALLS)
def test_cancelled_at_every_effect(name: str) -> None:
    call = CALLS[name]
    total = effects_of(call)
    assert total >= {"models": 2, "explain": 2}.get(name, 8)
    for at in range(total):
        world = gateway()
        router = router_for(world)
        interruption = Interruption(at)
        with pytest.raises(KeyboardInterrupt):
            world.run(call(router), interruption)
        assert interruption.happened
        assert not world.open, f"a connection is left open after cancelling at effect {at}"
        assert_permits_are_back(router, world)
        assert_catalogue_is_free(router, world)
        finished = [event for event in world.events if isinstance(event, CallFinished)]
        if name in ("complete", "stream") and not isinstance(interruption.effect, Emit):
            assert [event.error for event in finished] == ["Cancelled"], f"at effect {at}"


def assert_permits_are_back(router: Router, world: VirtualGateway) -> None:
    """Half open every breaker: its one probe must be free, so no permit of the cancelled call holds it."""
    for model in (*MODELS, "d/four:free"):
        breaker = router.health.breaker("127.0.0.1:1", model)
        breaker.force_open(world.runtime.now)
        breaker.reset(world.runtime.now)
        world.runtime.now += 400  # cooldowns are over
        admission = router.health.admit(Target("127.0.0.1:1", model), router.key, lease=1, stream=False)
        assert isinstance(admission, Admission)


def assert_catalogue_is_free(router: Router, world: VirtualGateway) -> None:
    """Whoever comes next can fetch it: no latch of the cancelled call is waited for."""
    world.run(router.models(Timeouts(), refresh=True))


@pytest.mark.parametrize("stream", [False, True])
def test_a_cancelled_probe_leaves_the_breaker_half_open_and_free(stream: bool) -> None:
    world = gateway()
    router = router_for(world)
    for breaker in (router.health.breaker("127.0.0.1:1"), router.health.breaker("127.0.0.1:1", "a/one")):
        for _ in range(5):
            permit = breaker.acquire(world.runtime.now, lease=10)
            assert permit is not None
            permit.settle(Sample.FAIL, world.runtime.now)
    world.runtime.now += 5
    step = router.stream(request(stream=True)) if stream else router.complete(request(stream=False))
    with pytest.raises(KeyboardInterrupt):
        world.run(step, Interruption(0))
    admission = router.health.admit(Target("127.0.0.1:1", "a/one"), router.key, lease=1, stream=False)
    assert isinstance(admission, Admission), "the cancelled call still holds the only probe"


def test_a_stream_given_up_by_its_reader_closes_its_connection() -> None:
    world = VirtualGateway()
    router = router_for(world)
    interruption = Interruption(3)
    with pytest.raises(KeyboardInterrupt):
        world.run(router.stream(request(stream=True)), interruption)
    assert isinstance(interruption.effect, Deliver)
    assert not world.open
