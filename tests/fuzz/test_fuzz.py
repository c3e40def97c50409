"""Each harness for a moment: all of its corpus, and some inputs made from it. For longer runs see `tests.fuzz`."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.__main__ import main
from tests.fuzz.engines import CORPUS, inputs, seeds
from tests.fuzz.harnesses import HARNESSES
from tests.properties.worlds import some


def test_every_harness_has_a_corpus() -> None:
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(HARNESSES)


@pytest.mark.parametrize("name", HARNESSES)
def test_corpus(name: str) -> None:
    for path in seeds(name):
        HARNESSES[name](path.read_bytes())


@pytest.mark.parametrize("name", HARNESSES)
def test_for_a_moment(name: str) -> None:
    @some(1)
    @given(inputs(name) | st.binary(max_size=200))
    def run(data: bytes) -> None:
        HARNESSES[name](data)

    run()


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It lists the harnesses, and runs one."""
    monkeypatch.setattr(sys, "argv", ["tests.fuzz"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(HARNESSES)
    command = [sys.executable, "-m", "tests.fuzz", "hints", "--seconds", "0.2", "--engine", "hypothesis"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "nothing found" in ran.stdout
