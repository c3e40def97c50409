"""Time, chance and what else differs between two runs of the same history."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from tests.properties.worlds import Run, World, some, worlds
from tests.support.virtual import VirtualRuntime

_PLAY = """
import pickle, sys
from tests.properties.worlds import Run
for world in pickle.load(sys.stdin.buffer):
    for record in Run(world).play().records:
        print(*record.lines(), sep="\\n")
"""


class SteppingRuntime(VirtualRuntime):
    """Somebody sets the wall clock at every look at it."""

    def __init__(self, dice: float, walls: list[float]) -> None:
        super().__init__(dice)
        self._walls = cycle(walls)

    def wall(self) -> float:
        return next(self._walls)


@some(0.3)
@given(worlds(), st.lists(st.floats(-1e9, 1e10), min_size=1, max_size=5))
def test_steps_of_the_wall_clock_change_nothing(world: World, walls: list[float]) -> None:
    """Breakers, cooldowns, waits and deadlines go by the monotonic clock: whatever the wall clock does, orders and results
    stay the same. (Only dates that servers send are read by it, and these histories have none.)"""
    steady = Run(world).play()
    stepping = Run(world, SteppingRuntime(world.dice, walls)).play()
    assert [record.lines() for record in steady.records] == [record.lines() for record in stepping.records]


@some(0.01)
@given(st.lists(worlds(), min_size=8, max_size=8))
def test_another_process_does_the_same(histories: list[World]) -> None:
    """Two processes whose hashes differ play the same histories to the same bytes."""
    given = pickle.dumps(histories)
    first, second = (
        subprocess.run(
            [sys.executable, "-c", _PLAY],
            input=given,
            capture_output=True,
            check=True,
            timeout=120,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        ).stdout
        for seed in ("1", "2")
    )
    assert first == second
    assert first.count(b"\n") >= len(histories)
