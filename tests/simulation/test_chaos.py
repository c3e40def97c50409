"""Faults at random, from a seed: whatever happens, the invariants of `watch` and `oracle` hold, and afterwards all is well again.

Many more seeds: `python -m tests.simulation --seeds 1000`, with `--scenario tenants` and `tenants-apart` too.
"""

from __future__ import annotations

import pytest

from tests.simulation import chaos, tenants
from tests.simulation.corpus import kept
from tests.simulation.scenarios import SCENARIOS

RANDOM = {chaos.NAME: chaos.play, tenants.NAME: tenants.play, tenants.APART: tenants.apart}


@pytest.mark.parametrize("seed", range(2, 6))
def test_chaos(seed: int) -> None:
    chaos.play(seed)


@pytest.mark.parametrize("seed", range(2))
def test_the_same_chaos_again_with_a_clock_that_is_set(seed: int) -> None:
    chaos.twice(seed)


@pytest.mark.parametrize("seed", range(3))
def test_gateways_keys_and_tenants(seed: int) -> None:
    tenants.play(seed)


def test_the_same_gateways_keys_and_tenants_again() -> None:
    assert tenants.play(3).traced() == tenants.play(3).traced()


@pytest.mark.parametrize("seed", range(2))
def test_what_befalls_one_tenants_keys_is_not_noticed_by_the_others(seed: int) -> None:
    tenants.apart(seed)


@pytest.mark.parametrize(("name", "seed"), kept())
def test_seeds_that_showed_a_bug(name: str, seed: int) -> None:
    RANDOM.get(name, lambda seed: SCENARIOS[name].run(seed))(seed)
