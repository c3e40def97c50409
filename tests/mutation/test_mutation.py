"""That mutation testing itself works: a mutant is noticed, and what is listed as equivalent is still there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.mutation import tables
from tests.mutation.code import ROOT
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.subjects import SUBJECTS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_mutants_of_a_number_are_noticed() -> None:
    command = [sys.executable, "-m", "tests.mutation", "retry", "--only", "tables"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "2/2 noticed, 0 equivalent, 0 alive" in done.stdout


@pytest.mark.parametrize("table", [table for subject in SUBJECTS.values() for table in subject.tables])
def test_every_table_has_mutants(table: str) -> None:
    names = [mutant.name for mutant in tables.mutants(table)]
    assert names
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", EQUIVALENT)
def test_what_is_listed_as_equivalent_is_still_there(name: str) -> None:
    lines = {line.strip() for line in (ROOT / SUBJECTS[name].path).read_text().splitlines()}
    assert {before for _, before, _ in EQUIVALENT[name]} <= lines
