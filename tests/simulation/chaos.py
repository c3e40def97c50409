"""Outages at random: whatever follows from a seed, with only the invariants to hold.

A minute of calls of every kind meets faults of every kind, some of the callers give up, and then all is well: `recovers` checks
that routerkit is too.
"""

from __future__ import annotations

import random

from routerkit.core.effects import Failure
from routerkit.types.event import BreakerState
from routerkit.types.policy import Timeouts
from routerkit.types.request import ChatRequest
from tests.simulation import upstream as up
from tests.simulation.scenarios import MODELS, settings
from tests.simulation.upstream import Behaviour, Fault, Upstream
from tests.simulation.watch import EPSILON, LIVENESS, Violation, Watch
from tests.simulation.world import START, Flow, World

NAME = "chaos"
SECONDS = 60.0
"""Of trouble."""
WALL_STEPS = ((5.0, 3600.0), (20.0, -7200.0), (35.0, -1_790_000_000.0), (50.0, 1.0))
"""An hour on, two back, to 1970, and a leap second: (when, by how many seconds)."""
ALARM_SECONDS = 5.0
"""The deadline of the calls that ask whether all is well."""

_STATUSES = (400, 402, 403, 404, 408, 409, 413, 500, 502, 503, 504, 520, 521, 524, 529)
_CUTS = ("end", "reset", "stall")


def play(seed: int, *, wall_steps: tuple[tuple[float, float], ...] = ()) -> World:
    """One run. Raises `Violation`."""
    draws = random.Random(f"{seed}/chaos")
    upstream = Upstream(MODELS, _faults(draws))
    world = World(
        seed,
        upstream,
        settings(()),
        processes=draws.choice((1, 1, 2, 3)),
        observed=draws.random() < 0.5,
        wall_steps=wall_steps,
    )
    watch = Watch(world)
    when = 0.0
    while (when := when + draws.expovariate(draws.choice((2, 5, 20)))) < SECONDS:
        world.at(START + when, _call, world, draws.randrange(len(world.processes)), _request(draws), _patience(draws))
    with world.ending():
        world.run()
        watch.over()
        recovers(world)
    return world


def twice(seed: int) -> World:
    """The same seed again, while somebody sets the wall clock: the trace must be the same, byte for byte. I21, I23."""
    world = play(seed)
    again = play(seed, wall_steps=WALL_STEPS)
    if world.traced() != again.traced():
        raise Violation("I21, I23: the same seed, with a wall clock that is set, gave another trace")
    return world


def recovers(world: World) -> None:
    """I25: who is told when to come back is served then. I7: all breakers close, though only one call a second asks each model.

    To be called when nothing is under way. From now on the upstream is well, and brisk.
    """
    world.upstream.faults[:] = [Fault(0, float("inf"), up.slow(0.1))]
    for process in range(len(world.processes)):
        for model in MODELS:
            skipped = {skip.model: skip for skip in _asked(world, process, model).route.skipped}
            if model in skipped:
                _comes_back(world, process, model, skipped[model].retry_after)
        _closes(world, process)


def _comes_back(world: World, process: int, model: str, after: float | None) -> None:
    if after is None:
        raise Violation(f"I25: process {process}: nobody knows when {model} may be asked again")
    world.run(world.elapsed + after + EPSILON - (world.now - world.flows[-1].started))
    flow = _asked(world, process, model)
    if not flow.ok or flow.route.attempts[0].model != model:
        raise Violation(
            f"I25: process {process} was told to ask {model} again after {after} s, and then it was refused"
        )


def _closes(world: World, process: int) -> None:
    health = world.processes[process].router.health
    world.run(world.elapsed + max(health.cooldowns().values(), default=0.0) + EPSILON)
    began = world.elapsed
    while set(health.states().values()) != {BreakerState.CLOSED}:
        second = world.elapsed
        for model in MODELS:
            _asked(world, process, model)
        world.run(max(world.elapsed, second + 1))
        if world.elapsed - began > LIVENESS:
            raise Violation(f"I7: process {process}: all is well, but not every breaker is closed: {health.states()}")


def _asked(world: World, process: int, model: str) -> Flow:
    """A call that is over."""
    request = ChatRequest.build(
        "Well?", model=model, fallback_models=(), timeouts=Timeouts(total=ALARM_SECONDS), stream=True
    )
    flow = world.call(process, request)
    while flow.ended is None:
        world.step()
    return flow


def _call(world: World, process: int, request: ChatRequest, patience: float | None) -> None:
    flow = world.call(process, request)
    if patience is not None:
        world.at(world.now + patience, flow.cancel)


def _patience(draws: random.Random) -> float | None:
    """Seconds after which the caller gives up; mostly it never does."""
    return draws.expovariate(0.5) if draws.random() < 0.15 else None


def _request(draws: random.Random) -> ChatRequest:
    models = draws.sample(MODELS, draws.choice((1, 2, 3, 3)))
    stream = draws.random() < 0.7
    timeouts = Timeouts(
        connect=draws.choice((1, 5)),
        first_byte=draws.choice((3, 10, 30)),
        first_token=draws.choice((2, 8, 45)),
        content_idle=draws.choice((5, 120)),
        total=draws.choice((0.5, 3, 10, 30, 60)),
    )
    return ChatRequest.build(
        "Hello",
        model=models[0],
        fallback_models=models[1:],
        timeouts=timeouts,
        stream=stream,
        on_interrupt=draws.choice((None, "raise", "restart", "continue")) if stream else None,
    )


def _faults(draws: random.Random) -> list[Fault]:
    faults = [_fault(draws, (), longest=10) for _ in range(draws.randrange(3))]
    for model in MODELS:
        faults += [_fault(draws, (model,), longest=40) for _ in range(draws.randrange(5))]
    if draws.random() < 0.5:
        faults.append(Fault(0, float("inf"), up.refuse(404), (up.CATALOG,)))
    draws.shuffle(faults)
    return faults


def _fault(draws: random.Random, models: tuple[str, ...], longest: float) -> Fault:
    begin = draws.uniform(0, SECONDS)
    end = min(SECONDS, begin + draws.uniform(0.5, longest))
    behaviour = _behaviour(draws)
    if draws.random() < 0.4:
        behaviour = up.sometimes(
            draws.uniform(0.1, 0.9), behaviour, _behaviour(draws) if draws.random() < 0.3 else up.healthy
        )
    return Fault(begin, end, behaviour, models)


def _behaviour(draws: random.Random) -> Behaviour:
    kind = draws.randrange(11)
    if kind <= 2:
        return up.refuse(draws.choice(_STATUSES))
    if kind == 3:
        return up.refuse(draws.choice((429, 503)), retry_after=draws.choice((None, 0, 1, 5, 20, 90, 4000)))
    if kind == 4:
        return up.rate_limited(draws.randrange(1, 30), draws.choice((1, 5, 10)), 0.1)
    if kind == 5:
        return draws.choice((up.hang, up.think, up.refuse(401)))
    if kind == 6:
        return up.unreachable(draws.choice((Failure.CONNECT, Failure.RESOLVE, Failure.CONNECT_TIMEOUT)))
    if kind == 7:
        return up.lose(reused=draws.random() < 0.5)
    if kind == 8:
        return up.slow(draws.choice((2, 6, 30)))
    return up.cut(draws.choice(_CUTS))
