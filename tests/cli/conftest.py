"""What tests of the command share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from routerkit.testing import FaultServer
from tests.support.command import OURS


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and an environment that says nothing to routerkit."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if OURS.match(name):
            monkeypatch.delenv(name)
