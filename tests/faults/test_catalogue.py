"""No fault of the catalogue goes without a test."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.faults.catalogue import COVERED, FAULTS


def test_every_fault_has_a_test() -> None:
    for folder in ("faults", "simulation"):
        for path in (Path(__file__).parents[1] / folder).glob("test_*.py"):
            importlib.import_module(f"tests.{folder}.{path.stem}")
    assert sorted(FAULTS) == list(range(1, 136))
    assert sorted(FAULTS.keys() - COVERED) == []
