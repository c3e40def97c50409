"""Cancelled at the n-th effect, for every n, once and again: connections closed, permits back, the account closed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from routerkit import CallFinished, RouterKitError
from routerkit.config import settings_from
from routerkit.core.breaker import Breaker
from routerkit.core.effects import (
    Cancelled,
    Close,
    Deliver,
    Effect,
    Emit,
    Failure,
    Open,
    Read,
    Send,
    Step,
    TransportFailure,
)
from routerkit.core.health import Admission
from routerkit.core.router import Router
from routerkit.testing import replies as r
from routerkit.transport.drive import Done, advance, unwind
from routerkit.types.event import BreakerState
from routerkit.types.policy import Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.route import Target
from routerkit.types.verdict import Sample, Sent
from tests.support.virtual import Interruption, VirtualGateway

Begin = Callable[[], tuple[VirtualGateway, Router]]
MODELS = ("a/one", "b/two", "c/three")


def request(*, stream: bool, **options: Any) -> ChatRequest:
    return ChatRequest.build(
        "Hello",
        {},
        extra_body=None,
        extra_headers=None,
        timeouts=Timeouts(),
        stream=stream,
        **{"model": MODELS[0], "fallback_models": MODELS[1:], **options},
    )


def broken(on_interrupt: str) -> ChatRequest:
    """One for a stream that breaks amid its text, twice, before a third model comes to an end."""
    return request(stream=True, on_interrupt=on_interrupt, model="e/five", fallback_models=["f/six", "g/seven"])


CALLS: dict[str, Callable[[Router], Step[Any]]] = {
    "complete": lambda router: router.complete(request(stream=False)),
    "stream": lambda router: router.stream(request(stream=True)),
    "stream that restarts": lambda router: router.stream(broken("restart")),
    "stream that continues": lambda router: router.stream(broken("continue")),
    "models": lambda router: router.models(Timeouts()),
    "model": lambda router: router.model("d/four:free", Timeouts()),
    "explain": lambda router: router.explain(request(stream=False)),
}


ANSWERS = {
    "a/one": [r.error(503)],
    "b/two": [r.stream(r.role(), r.cut()), r.error(429, headers={"Retry-After": "3"})],
    "c/three": [r.error(500), r.error(500), r.completion()],
    "d/four:free": [r.error(502), r.completion()],
    "e/five": [r.stream(r.role(), "one ", "two ", r.cut())],
    "f/six": [r.stream(r.role(), "three ", r.reset())],
}
"""Every kind of trouble that makes a call go on: an error, a limit, a cut stream, a catalogue that must be fetched."""
CATALOG = r.json_body({"data": [r.catalog_model("d/four:free", pricing={"prompt": "0", "completion": "0"})]})


def gateway() -> VirtualGateway:
    gateway = VirtualGateway()
    for model, answers in ANSWERS.items():
        gateway.script(model, *answers)
    gateway.catalog = CATALOG
    return gateway


SETTINGS = settings_from({}, base_url="http://127.0.0.1:1/v1", api_key="sk-test-1234567890")


def router_for(gateway: VirtualGateway) -> Router:
    return Router(SETTINGS, gateway.runtime)


def half_open(router: Router, world: VirtualGateway) -> None:
    """From here on every attempt is a probe, and as long as it holds its permits there is no other."""
    for breaker in breakers(router):
        for _ in range(5):
            permit = breaker.acquire(world.runtime.now, lease=10)
            assert permit is not None
            permit.settle(Sample.FAIL, world.runtime.now)
    world.runtime.now += 10


def breakers(router: Router) -> list[Breaker]:
    models = (None, *MODELS, "d/four:free", "e/five", "f/six", "g/seven")
    return [router.health.breaker("127.0.0.1:1", model) for model in models]


def beginning(state: str) -> Begin:
    """Makes a world and a router in it, anew each time: with every breaker closed, or half open."""

    def make() -> tuple[VirtualGateway, Router]:
        world = gateway()
        router = router_for(world)
        if state == "half open":
            half_open(router, world)
        return world, router

    return make


@pytest.fixture(params=["closed", "half open"])
def begin(request: pytest.FixtureRequest) -> Begin:
    return beginning(request.param)


def assert_back(router: Router, world: VirtualGateway, when: str) -> None:
    """Nothing that the call held is held still: no connection, no permit, no latch of the catalogue."""
    assert not world.open, f"a connection is left open after {when}"
    for breaker in breakers(router):
        assert not breaker._waiting, f"a permit is watched after {when}"
        if breaker.state is BreakerState.HALF_OPEN:
            probe = breaker.acquire(world.runtime.now, lease=1)
            assert probe is not None, f"the only probe is held after {when}"
            probe.settle(Sample.NEUTRAL, world.runtime.now)
    world.run(router.models(Timeouts(), refresh=True))  # would wait for a latch that nobody sets


class Driver:
    """The real driver of threads over a virtual gateway.

    It is struck in place of performing the n-th effect, deliveries included, and perhaps again in place of the n-th effect
    of the clean-up.
    """

    def __init__(
        self,
        world: VirtualGateway,
        at: int,
        error: BaseException,
        again: int | None = None,
        second: BaseException | None = None,
    ) -> None:
        self._world = world
        self._at = at
        self._error = error
        self._again = again
        self._second = second
        self.performed: list[Effect] = []
        self.struck: Effect | None = None
        self.cleaning: list[Effect] = []

    def perform(self, effect: Effect) -> Any:
        if self.struck is None or isinstance(self._error, TransportFailure):
            self._count(effect)
        else:
            self.cleaning.append(effect)
            if len(self.cleaning) - 1 == self._again:
                assert self._second is not None
                raise self._second
        return self._world._performed(effect, [])

    def run(self, step: Step[Any]) -> None:
        while not isinstance(chunks := advance(step, self.perform), Done):
            try:
                self._count(Deliver(chunks))
            except BaseException:
                unwind(step, self.perform)
                raise

    def _count(self, effect: Effect) -> None:
        self.performed.append(effect)
        if len(self.performed) - 1 == self._at:
            self.struck = effect
            raise self._error


def effects_of(call: Callable[[Router], Step[Any]], begin: Begin) -> list[Effect]:
    """Those of a call that nobody disturbs."""
    world, router = begin()
    driver = Driver(world, -1, KeyboardInterrupt())
    with suppress(RouterKitError):
        driver.run(call(router))
    return driver.performed


@pytest.mark.parametrize("name", CALLS)
def test_cancelled_at_every_effect(name: str, begin: Begin) -> None:
    call = CALLS[name]
    total = len(effects_of(call, begin))
    assert total >= {"models": 2, "model": 2, "explain": 2}.get(name, 8)
    for at in range(total):
        world, router = begin()
        interruption = Interruption(at)
        with pytest.raises(KeyboardInterrupt):
            world.run(call(router), interruption)
        assert interruption.happened
        finished = [event for event in world.events if isinstance(event, CallFinished)]
        if ("complete" in name or "stream" in name) and not isinstance(interruption.effect, Emit):
            assert [event.error for event in finished] == ["Cancelled"], f"at effect {at}"
        assert_back(router, world, f"effect {at}")


def reach(world: VirtualGateway, step: Step[Any], number: int) -> None:
    """Perform so many effects, and leave the step waiting for the next one."""
    effect = step.send(None)
    for _ in range(number):
        try:
            result = world._performed(effect, [])
        except TransportFailure as failure:
            effect = step.throw(failure)
        else:
            effect = step.send(result)


def cancel(world: VirtualGateway, step: Step[Any], again: int) -> bool:
    """Cancel a step, and once more in place of the n-th effect of its clean-up; whether there was one."""
    happened = False
    try:
        effect = step.throw(Cancelled())
        for number in range(20):
            if number == again:
                happened = True
                effect = step.throw(Cancelled())
            else:
                assert isinstance(effect, (Close, Emit)), f"{effect} while being cancelled"
                world._performed(effect, [])
                effect = step.send(None)
    except Cancelled:
        return happened
    raise AssertionError("a cancelled step went on")


@pytest.mark.parametrize("name", CALLS)
def test_cancelled_again_at_every_effect_of_the_clean_up(name: str) -> None:
    call, begin = CALLS[name], beginning("half open")
    twice = 0
    for at in range(len(effects_of(call, begin))):
        again = 0
        happened = True
        while happened:
            world, router = begin()
            step = call(router)
            reach(world, step, at)
            happened = cancel(world, step, again)
            assert_back(router, world, f"effect {at} and effect {again} of its clean-up")
            twice, again = twice + happened, again + 1
    assert (twice > 0) == (name in ("complete", "stream", "stream that restarts", "stream that continues"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError], ids=["Ctrl-C", "a bug"])
@pytest.mark.parametrize("name", CALLS)
def test_a_driver_that_is_struck_again_cleans_up_to_the_end(
    name: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    call, begin = CALLS[name], beginning("half open")
    caplog.set_level(logging.CRITICAL)
    for at in range(len(effects_of(call, begin))):
        again, cleaned = 0, 1
        while again < cleaned:
            world, router = begin()
            driver = Driver(world, at, KeyboardInterrupt("first"), again, error("again"))
            with pytest.raises(KeyboardInterrupt):
                driver.run(call(router))
            assert_back(router, world, f"effect {at} ({driver.struck}) and effect {again} of its clean-up")
            again, cleaned = again + 1, len(driver.cleaning)


@pytest.mark.parametrize("name", CALLS)
def test_cancelled_before_the_first_step(name: str, begin: Begin) -> None:
    for end in (lambda step: unwind(step, refuse), lambda step: step.close()):
        world, router = begin()
        end(CALLS[name](router))
        assert (world.models_asked, world.catalog_requests, world.events) == ([], 0, [])
        assert_back(router, world, "no effect at all")


def refuse(effect: Effect) -> None:
    raise AssertionError(f"{effect}, although nothing has begun")


@pytest.mark.parametrize("name", CALLS)
def test_a_transport_that_raises_what_it_should_not(name: str) -> None:
    """The call does not hide it, does not try to go on, and lets go of everything."""
    begin = beginning("half open")
    for at in range(len(effects_of(CALLS[name], begin))):
        world, router = begin()
        driver = Driver(world, at, ZeroDivisionError("a bug"))
        with pytest.raises(ZeroDivisionError, match="a bug"):
            driver.run(CALLS[name](router))
        assert all(isinstance(effect, (Close, Emit)) for effect in driver.cleaning)
        assert_back(router, world, f"effect {at}")


UNSENT = {Failure.RESOLVE, Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.ADDRESS, Failure.TLS_VERIFY, Failure.LOCAL}
UNANSWERED = {Failure.DISCONNECTED, Failure.FIRST_BYTE_TIMEOUT, Failure.MALFORMED}


@pytest.mark.parametrize("failure", list(Failure))
@pytest.mark.parametrize("name", ["complete", "stream", "stream that restarts", "explain"])
def test_an_exchange_that_fails(name: str, failure: Failure) -> None:
    sent = Sent.NOT_SENT if failure in UNSENT else Sent.MAYBE if failure in UNANSWERED else Sent.RESPONDED
    begin = beginning("half open")
    for at, effect in enumerate(effects_of(CALLS[name], begin)):
        if not isinstance(effect, (Send, Open, Read)):
            continue  # it does not go through a transport
        world, router = begin()
        driver = Driver(world, at, TransportFailure(failure, sent, status=200 if sent is Sent.RESPONDED else None))
        with suppress(RouterKitError):
            driver.run(CALLS[name](router))
        assert type(driver.struck) is type(effect)
        assert_back(router, world, f"{failure} at effect {at}")


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
    admission = router.health.admit(
        Target("127.0.0.1:1", "a/one"), router.access["127.0.0.1:1"].keys, lease=1, stream=False
    )
    assert isinstance(admission, Admission), "the cancelled call still holds the only probe"


def test_a_stream_given_up_by_its_reader_closes_its_connection() -> None:
    world = VirtualGateway()
    router = router_for(world)
    interruption = Interruption(3)
    with pytest.raises(KeyboardInterrupt):
        world.run(router.stream(request(stream=True)), interruption)
    assert isinstance(interruption.effect, Deliver)
    assert not world.open
