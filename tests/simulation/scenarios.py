"""Outages as data: what befalls which models when, how a run of one is set up, and what must come of it.

All of them: three models on one gateway, or on two, which all answer alike when they are well (first token after 0.6 s and
the rest of the answer 1.0 s later, in the median); streams, with the time limits of `CLOCKS` and the breakers of `BREAKER`;
calls at random moments, from one process unless said otherwise; health, a fault, and health again.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from routerkit.config import settings_from
from routerkit.core.effects import Failure
from routerkit.types.gateway import Gateway
from routerkit.types.policy import BreakerPolicy, Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.settings import Settings
from tests.simulation import upstream as up
from tests.simulation.upstream import Fault, Upstream
from tests.simulation.watch import Watch
from tests.simulation.world import EPOCH, START, World

MODELS = ("a/first", "b/second", "c/third")
BOTH = (up.FIRST, up.SECOND)
FREE = ("a/first:free", "b/second:free", "c/third:free")
BEFORE = 10.0
"""Seconds of health before the fault."""
AFTER = 20.0
"""Seconds of health after it."""

CLOCKS = Timeouts(first_token=8, total=30)
BREAKER = BreakerPolicy(slow_first_token=3)

Faults = Callable[[float, float], list[Fault]]
"""Makes the faults of one run, of the seconds in which the trouble begins and ends. Some have a memory."""


def settings(
    models: tuple[str, ...] = MODELS,
    timeouts: Timeouts = CLOCKS,
    breaker: BreakerPolicy = BREAKER,
    gateways: tuple[Gateway, ...] = (up.FIRST,),
) -> Settings:
    return settings_from(
        {},
        api_key={gateway.name: f"sk-{gateway.name}-1234567890" for gateway in gateways},
        gateways=gateways,
        default_model=models[0] if models else None,
        fallback_models=models[1:],
        timeout=timeouts,
        breaker=breaker,
    )


@attrs.frozen
class Targets:
    """What must come of a scenario; `None`: nothing in particular. See `figures.Figures` for what is measured."""

    success: float | None = None
    """At least."""
    attempts: float | None = None
    """At most, as all that follow."""
    waited: float | None = None
    added_p99: float | None = None
    slowed: float | None = None
    recovery: float | None = None
    peak: float | None = None


@attrs.frozen
class Scenario:
    name: str
    title: str
    faults: Faults
    targets: Targets = Targets()
    seconds: float = 120.0
    """Of fault."""
    after: float = AFTER
    rate: float = 20.0
    """Calls a second."""
    processes: int = 1
    models: tuple[str, ...] = MODELS
    timeouts: Timeouts = CLOCKS
    breaker: BreakerPolicy = BREAKER
    gateways: tuple[Gateway, ...] = (up.FIRST,)

    @property
    def end(self) -> float:
        """When the fault ends."""
        return BEFORE + self.seconds

    def run(self, seed: int, *, watched: bool = True, wall_steps: tuple[tuple[float, float], ...] = ()) -> World:
        """The world after the run. Raises `watch.Violation`, when `watched`."""
        upstream = Upstream(self.models, self.faults(BEFORE, self.end))
        chosen = settings(self.models, self.timeouts, self.breaker, self.gateways)
        world = World(seed, upstream, chosen, processes=self.processes, wall_steps=wall_steps)
        watch = Watch(world) if watched else None
        request = ChatRequest.build("Hello", timeouts=self.timeouts, stream=True)
        world.traffic(self.rate, 0, self.end + self.after, request)
        with world.ending():
            world.run()
            if watch is not None:
                watch.over()
        return world


def _of(behaviour: up.Behaviour, *models: str) -> Faults:
    return lambda begin, end: [Fault(begin, end, behaviour, models)]


def _at_first(behaviour: up.Behaviour) -> Faults:
    return lambda begin, end: [Fault(begin, end, behaviour, gateways=(up.FIRST.name,))]


def _flapping(begin: float, end: float) -> list[Fault]:
    return [Fault(when, when + 10, _DOWN, MODELS[:1]) for when in range(int(begin), int(end), 20)]


def _storm(begin: float, end: float) -> list[Fault]:
    return [Fault(begin, end, up.rate_limited(40, 10, 0.1), MODELS[:1])]


def _poisoning(begin: float, end: float) -> list[Fault]:
    return [Fault(begin, end, up.rising(begin, end - begin, 0.01, 0.6, _DOWN), MODELS[:1])]


def _free_tier(begin: float, end: float) -> list[Fault]:
    midnight = 86_400 * ((EPOCH + START) // 86_400 + 1)
    told = {"x-ratelimit-reset": f"{1000 * midnight:.0f}", "x-ratelimit-remaining": "0"}
    return [Fault(begin, end, up.refuse(429, "Rate limit exceeded: free-models-per-day", told), FREE)]


_DOWN = up.refuse(503)
_BROWN = up.sometimes(0.4, _DOWN, up.slow(6))
_A, _B, _ = MODELS

SCENARIOS = {
    each.name: each
    for each in (
        Scenario("down", "the first model is down (503)", _of(_DOWN, _A), Targets(0.9999, 1.05, added_p99=0.15)),
        Scenario("two-down", "the first two models are down (503)", _of(_DOWN, _A, _B), Targets(0.9999, 1.1)),
        Scenario("hang", "the first model hangs", _of(up.hang, _A), Targets(0.999, 1.05, waited=0.05)),
        Scenario(
            "keep-alives",
            "the first model sends keep-alives and no token",
            _of(up.think, _A),
            Targets(0.999, 1.05, waited=0.05),
        ),
        Scenario(
            "brown-out",
            "the first model fails 40 % (503) and is six times as slow",
            _of(_BROWN, _A),
            Targets(0.9999, 1.05, added_p99=2.5, slowed=0.015),
        ),
        Scenario("flapping", "the first model is down 10 s, up 10 s", _flapping, Targets(0.9999, 1.1)),
        Scenario(
            "storm",
            "the first model is rate limited (429, `Retry-After: 10`, one in ten too early)",
            _storm,
            Targets(0.999, 1.05, added_p99=0.15),
        ),
        Scenario(
            "poisoning",
            "the first model's error rate rises from 1 % to 60 % within 10 min",
            _poisoning,
            Targets(0.9999, 1.2),
            seconds=600,
            rate=5,
        ),
        Scenario(
            "all-down", "all models are down (503)", _of(_DOWN), Targets(attempts=0.25, recovery=2, peak=2), seconds=60
        ),
        Scenario(
            "unreachable",
            "the gateway refuses connections",
            _of(up.unreachable()),
            Targets(attempts=0.25, recovery=2, peak=2),
            seconds=60,
        ),
        Scenario(
            "one-gateway",
            "the first of two gateways refuses connections",
            _at_first(up.unreachable()),
            Targets(0.9999, 1.05, added_p99=0.15),
            gateways=BOTH,
        ),
        Scenario(
            "one-gateway-mute",
            "the first of two gateways does not answer connections",
            _at_first(up.unreachable(Failure.CONNECT_TIMEOUT)),
            Targets(0.9999, 1.05),
            gateways=BOTH,
        ),
        Scenario(
            "one-gateway-page",
            "the first of two gateways is a web page (502)",
            _at_first(up.web_page),
            Targets(0.9999, 1.05, added_p99=0.15),
            gateways=BOTH,
        ),
        Scenario(
            "herd",
            "all models are down for 1000 processes",
            _of(_DOWN),
            Targets(peak=2),
            seconds=20,
            rate=100,
            processes=1000,
        ),
        Scenario("free-tier", "the free requests of the day are used up (429)", _free_tier, models=FREE),
        Scenario("revoked", "the key is revoked (401)", _of(up.refuse(401))),
    )
}

ASIDE = {
    each.name: each
    for each in (
        Scenario(
            "hang, default clocks",
            "the first model hangs; default timeouts and breakers",
            _of(up.hang, _A),
            timeouts=Timeouts(),
            breaker=BreakerPolicy(),
        ),
        Scenario(
            "hang, late clock",
            "the first model hangs; `timeout=30`, else default",
            _of(up.hang, _A),
            timeouts=Timeouts(total=30),
            breaker=BreakerPolicy(),
        ),
        Scenario(
            "herd, hinted",
            "all models are down for 1000 processes, with `Retry-After: 10`",
            _of(up.refuse(503, retry_after=10)),
            seconds=20,
            rate=100,
            processes=1000,
        ),
    )
}
"""What is worth knowing beside the targets."""
