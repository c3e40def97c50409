"""A server and the two facades, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.facades import FACADES, AsyncCaller, SyncCaller
from tests.support.fault_server import FaultServer


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> type[SyncCaller | AsyncCaller]:
    return FACADES[request.param]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server
