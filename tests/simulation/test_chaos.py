"""Faults at random, from a seed: whatever happens, the invariants of `watch` hold, and afterwards all is well again.

Many more seeds: `python -m tests.simulation --seeds 1000`.
"""

from __future__ import annotations

import pytest

from tests.simulation import chaos
from tests.simulation.corpus import kept
from tests.simulation.scenarios import SCENARIOS

SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(seed: int) -> None:
    chaos.twice(seed)


@pytest.mark.parametrize(("name", "seed"), kept())
def test_seeds_that_showed_a_bug(name: str, seed: int) -> None:
    if name == chaos.NAME:
        chaos.play(seed)
    else:
        SCENARIOS[name].run(seed)
