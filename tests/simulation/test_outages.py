"""The outages of `scenarios`, in virtual time: the invariants hold, and what comes of the calls meets the targets.

One seed each, of outages that are shorter than the published ones; all of it with `python -m tests.simulation --scenario all`. The
published figures come from the same runs: `python benchmarks/outages.py`.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path

import attrs
import pytest

from routerkit import AuthenticationError, RateLimitError
from tests.faults.catalogue import fault
from tests.simulation.chaos import WALL_STEPS
from tests.simulation.figures import between, measure, shortfalls
from tests.simulation.scenarios import ASIDE, BEFORE, MODELS, SCENARIOS
from tests.simulation.upstream import CATALOG
from tests.simulation.world import EPOCH, START, Flow, World

ROOT = Path(__file__).parents[2]
SMALL: dict[str, dict[str, float]] = {
    **{name: {"seconds": 30.0, "after": 0.0} for name in SCENARIOS},
    "flapping": {"seconds": 50.0, "after": 0.0},
    "all-down": {"seconds": 40.0, "after": 11.0},
    "unreachable": {"seconds": 40.0, "after": 11.0},
    "herd": {"rate": 50.0, "seconds": 5.0, "after": 11.0, "processes": 600},
    "poisoning": {"rate": 2.0, "after": 0.0},
}
"""What is made smaller, because all of it would take too long for an ordinary run."""
OF_SHORT: dict[str, dict[str, float]] = {
    "hang": {"attempts": 1.2, "waited": 0.2},
    "keep-alives": {"attempts": 1.2, "waited": 0.2},
    "one-gateway-mute": {"attempts": 1.2},
    "brown-out": {"slowed": 0.06},
}
"""The targets that are wider then, since what is learnt in the first seconds weighs more."""
ABOUT = {
    127: ("down", "two-down", "all-down", "unreachable", "one-gateway", "one-gateway-mute", "one-gateway-page"),
    128: ("hang", "keep-alives"),
    129: ("brown-out",),
    130: ("flapping",),
    131: ("storm",),
    132: ("herd",),
    133: ("poisoning",),
}
"""The faults of the catalogue, and the scenarios that stage them."""
REPEATED = attrs.evolve(SCENARIOS["storm"], seconds=8.0, after=2.0)


@lru_cache(maxsize=1)
def run(name: str) -> World:
    """Kept for the next test that looks at it."""
    return attrs.evolve(SCENARIOS[name], **SMALL[name]).run(0)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=fault(number), id=name) for number, names in ABOUT.items() for name in names]
)
def test_targets(name: str) -> None:
    """Also, in each run, the invariants of `watch`."""
    scenario = attrs.evolve(SCENARIOS[name], **SMALL[name])
    targets = attrs.evolve(scenario.targets, **OF_SHORT.get(name, {}))
    if name == "brown-out":  # about 1 in 100 calls is slowed: with few seeds it is luck whether the percentile shows it
        targets = attrs.evolve(targets, added_p99=None)
    found = measure(run(name), scenario, compared=scenario.targets.added_p99 is not None)
    assert list(shortfalls(targets, [found])) == []


@fault(133)
def test_slow_poisoning_takes_the_model_out_once_half_of_its_answers_are_errors() -> None:
    """Neither long before nor never: of the first minutes' calls nearly all ask it first, of the last minute's few."""
    world = run("poisoning")
    asked = Counter(
        int((each.sent - START - BEFORE) // 60) for each in world.upstream.exchanges if each.model == MODELS[0]
    )
    assert asked[0] > 100
    assert asked[1] > 100
    assert asked[9] < 60


def refusals(name: str, status: int) -> tuple[list[Flow], list[Flow]]:
    """The calls of half a minute of an outage that began before its first refusal was there, and those that began after it."""
    world = run(name)
    known = min(each.head for each in world.upstream.exchanges if each.status == status)
    flows = between(world, BEFORE, BEFORE + 30)
    return [flow for flow in flows if flow.started < known], [flow for flow in flows if flow.started >= known]


@fault(135)
def test_a_revoked_key_is_refused_without_asking_once_it_is_known() -> None:
    before, after = refusals("revoked", 401)
    assert [len(flow.exchanges) for flow in before] == [1] * len(before)
    assert len(before) <= 4
    assert after
    for flow in after:
        assert isinstance(flow.error, AuthenticationError)
        assert not flow.exchanges
        assert flow.ended == flow.started


@fault(52)
def test_a_used_up_free_tier_costs_one_attempt_not_one_for_each_free_model() -> None:
    before, after = refusals("free-tier", 429)
    midnight = 86_400 * ((EPOCH + START) // 86_400 + 1)
    assert all(isinstance(flow.error, RateLimitError) for flow in before)
    for flow in (*before, *after):
        assert sum(exchange.model != CATALOG for exchange in flow.exchanges) == (flow in before)
        assert EPOCH + flow.ended + flow.error.retry_after == pytest.approx(midnight, abs=1)


def test_every_scenario_with_a_target_is_tested() -> None:
    with_targets = {name for name, each in SCENARIOS.items() if any(attrs.astuple(each.targets))}
    assert with_targets == {name for names in ABOUT.values() for name in names}


def test_every_scenario_is_on_the_page_that_publishes_the_figures() -> None:
    rows = [line for line in (ROOT / "docs" / "outages.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    titles = [row.split(" | ")[0].removeprefix("| ").lower() for row in rows]
    for scenario in (*SCENARIOS.values(), *ASIDE.values()):
        assert scenario.title.lower() in titles


@cache
def trace() -> bytes:
    """What all other runs of that seed are held against."""
    return REPEATED.run(1).traced()


def test_the_same_seed_gives_the_same_trace_and_another_seed_another_one() -> None:
    assert trace() == REPEATED.run(1).traced() != REPEATED.run(2).traced()


@fault(105)
def test_a_wall_clock_that_is_set_changes_nothing() -> None:
    assert trace() == REPEATED.run(1, wall_steps=WALL_STEPS).traced()


def test_another_process_gives_the_same_trace() -> None:
    """Whatever its hashes are salted with."""
    code = "import sys; from tests.simulation.test_outages import REPEATED; sys.stdout.buffer.write(REPEATED.run(1).traced())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=60, env={"PYTHONHASHSEED": "7"}
    )
    assert done.stdout == trace()
