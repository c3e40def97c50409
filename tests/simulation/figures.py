"""From what happened in a run to the figures that are published, and which of them miss their targets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from statistics import median

import attrs

from tests.simulation.scenarios import BEFORE, Scenario, Targets
from tests.simulation.upstream import CATALOG, Fault
from tests.simulation.world import START, Flow, World

GOOD = 0.99
"""The share of calls that must succeed for an outage to be over."""
CROWD = 10.0
"""Seconds after an outage in which the upstream's worst second is looked for."""
LONG = 2.5
"""Seconds that somebody notices."""
_WAITED = frozenset({"first_byte_timeout", "first_token_timeout"})


@attrs.frozen
class Figures:
    """Of the calls that began during the fault, unless said otherwise."""

    success: float
    """The share of calls that got a whole answer."""
    attempts: float
    """Requests that the upstream saw, for each call; connections refused are counted, the catalogue is not."""
    waited: float
    """The share of calls that sat through a whole first-byte or first-token timeout."""
    added_p99: float | None
    """Seconds by which the 99th percentile of the time to a whole answer exceeds that of the same calls without the fault;
    `None`: not asked for, or no call got an answer."""
    slowed: float | None
    """The share of calls that took over 2.5 s longer than without the fault; `None` as before."""
    recovery: float
    """Seconds after the end of the fault from which on at least 99 % of the calls of every second succeed."""
    peak: float
    """The most requests that the upstream saw in any second of the first 10 s after the fault, over its rate without one."""


def measure(world: World, scenario: Scenario, *, compared: bool = True) -> Figures:
    """The figures of a run; `compared` with a run of the same calls without the fault."""
    end = scenario.end
    flows = between(world, BEFORE, end)
    added = slowed = None
    if compared and any(flow.ok for flow in flows):
        well = _when_well(_without_fault(scenario), world.seed)
        taken = {flow.number: duration(flow) for flow in flows if flow.ok}
        added = p99(taken.values()) - p99(well.values())
        slowed = sum(seconds > well[number] + LONG for number, seconds in taken.items()) / len(flows)
    return Figures(
        success=sum(flow.ok for flow in flows) / len(flows),
        attempts=sum(exchange.model != CATALOG for flow in flows for exchange in flow.exchanges) / len(flows),
        waited=sum(any(str(tried.verdict) in _WAITED for tried in flow.route.attempts) for flow in flows) / len(flows),
        added_p99=added,
        slowed=slowed,
        recovery=recovery(between(world, end, end + scenario.after), end),
        peak=peak(world, end, end + CROWD) / scenario.rate,
    )


def figures(scenario: Scenario, seeds: Iterable[int], *, compared: bool = True) -> list[Figures]:
    """Of each seed."""
    return [measure(scenario.run(seed), scenario, compared=compared) for seed in seeds]


def shortfalls(targets: Targets, found: Sequence[Figures]) -> Iterator[str]:
    """The targets that are missed: success by any seed, the others by the median of all seeds."""
    for name, bound in attrs.asdict(targets).items():
        if bound is None:
            continue
        values = [getattr(each, name) for each in found]
        if name == "success" and min(values) < bound:
            yield f"success is {min(values):.5f} with one seed, and should be {bound}"
        elif name != "success" and median(values) > bound:
            yield f"{name} is {median(values):.3f}, and should be {bound} at most"


def between(world: World, begin: float, end: float) -> list[Flow]:
    """The calls that began in this part of the run, in seconds from its start."""
    return [flow for flow in world.flows if begin <= flow.started - START < end]


def duration(flow: Flow) -> float:
    """Seconds to the end of a call that is over."""
    assert flow.ended is not None
    return flow.ended - flow.started


def p99(seconds: Iterable[float]) -> float:
    """The 99th percentile, by nearest rank."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(0.99 * len(ordered)) - 1)]


def recovery(flows: Sequence[Flow], since: float) -> float:
    """See `Figures`. Of the calls that begin after the fault, which ended `since` seconds after the start."""
    over = 0.0
    for first, flow in enumerate(flows):
        if flow.ok:
            continue
        second = [each for each in flows[first:] if each.started < flow.started + 1]
        if sum(each.ok for each in second) < GOOD * len(second):
            over = flow.started - START - since
    return over


def peak(world: World, begin: float, end: float) -> float:
    """The most requests that the upstream saw in any second of this part of the run."""
    times = [each.sent - START for each in world.upstream.exchanges if begin <= each.sent - START < end]
    most, first = 0, 0
    for last, when in enumerate(times):
        while times[first] <= when - 1:
            first += 1
        most = max(most, last - first + 1)
    return float(most)


def _no_fault(begin: float, end: float) -> list[Fault]:
    return []


def _without_fault(scenario: Scenario) -> Scenario:
    return attrs.evolve(scenario, name="well", title="", faults=_no_fault, targets=Targets())


@lru_cache
def _when_well(scenario: Scenario, seed: int) -> dict[int, float]:
    """The seconds that each call takes, by its number."""
    flows = between(scenario.run(seed, watched=False), BEFORE, scenario.end)
    return {flow.number: duration(flow) for flow in flows}
