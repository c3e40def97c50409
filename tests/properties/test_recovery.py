"""After any history: when the gateway is well again, so are we; and who was told when to come back is served then."""

from __future__ import annotations

from hypothesis import given

from routerkit import Completion
from routerkit.core.streaming import Ended
from routerkit.types.event import BreakerState
from tests.properties.scripts import LAST_RESORT, MODELS, REFUSALS, Answer, answers
from tests.properties.worlds import GATEWAY, Ask, Record, Run, World, some, worlds

EPSILON = 1e-6


@some(0.3)
@given(worlds())
def test_when_all_is_well_again_every_breaker_closes(world: World) -> None:
    """From any state: once the gateway answers, and a call a second goes to each model, every breaker is closed within a
    minute and two probes, counted from the end of the last cooldown."""
    run = Run(world).play()
    run.recover()
    run.runtime.now += max(run.router.health.cooldowns().values(), default=0.0) + EPSILON
    began = run.runtime.now
    while set(run.router.health.states().values()) != {BreakerState.CLOSED}:
        for model in MODELS:
            run.call(Ask(models=(model,), total=1))
        run.runtime.now += 1
        assert run.runtime.now - began <= 62


@some(0.3)
@given(worlds(asks=4))
def test_calls_succeed_three_seconds_after_everything_was_open(world: World) -> None:
    """When every breaker was open and the gateway is well again, a call a second succeeds within three seconds."""
    run = Run(world).play()
    run.runtime.now += 4000
    down = Answer("refusal", (500, (), ()))
    for model in (*MODELS, LAST_RESORT):
        run.gateway.script(model, down.reply(lambda: lambda text: text))
    for model in MODELS:
        for _ in range(20):
            if run.router.health.breaker(GATEWAY, model).state is not BreakerState.OPEN:
                run.call(Ask(models=(model,), total=0.9))
        assert run.router.health.breaker(GATEWAY, model).state is BreakerState.OPEN
    run.recover()
    for _ in range(4):
        record = run.call(Ask(total=0.9))
        if isinstance(record.result, Completion):
            break
        run.runtime.now += 1
    assert isinstance(record.result, Completion)


@some(0.5)
@given(worlds(answer=REFUSALS | answers()))
def test_who_comes_back_when_told_is_served(world: World) -> None:
    """A call that was refused without an attempt says after how many seconds it makes sense; then, with a gateway that is
    well again, it is answered. The same holds for each model that a route says was skipped."""
    run = Run(world)
    for ask in world.asks:
        last = run.call(ask)
        if told(last):
            break
    run.recover()
    for when, models in sorted(told(last)):
        run.runtime.now = max(run.runtime.now, when) + EPSILON
        assert isinstance(run.call(Ask(last.ask.stream, models)).result, (Completion, Ended))


def told(record: Record) -> list[tuple[float, tuple[str, ...]]]:
    """Which models the caller of a call was told to ask again, and when."""
    if record.route.waits:
        return []
    found: list[tuple[float, tuple[str, ...]]] = [
        (record.ended + skip.retry_after, (skip.model,))
        for skip in record.route.skipped
        if skip.retry_after is not None and skip.model in MODELS and not record.requests
    ]
    after = getattr(record.result, "retry_after", None)
    if after is not None and not record.requests:
        found.append((record.ended + after, record.ask.models))
    return found
