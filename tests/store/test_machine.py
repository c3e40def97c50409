"""Any history of a store in Redis, held against the reference."""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.store.counters import AsyncRedisCounter, MemoryCounter, RedisCounter
from tests.store.reference import StoreMachine
from tests.store.servers import Server


class RedisMachine(StoreMachine):
    tolerance = Fraction(1, 2)
    soon = False
    server: ClassVar[Server]
    kind: ClassVar[type[RedisCounter]]

    def make(self) -> MemoryCounter:
        self.server.clear()
        made = self.kind(self.server)
        self.clock = self.server.client()
        return made

    def read(self) -> Fraction:
        seconds, micros = self.clock.time()
        return Fraction(seconds) + Fraction(micros, 1_000_000)

    def flush(self) -> None:
        pass

    def teardown(self) -> None:
        self.clock.close()
        super().teardown()


@pytest.fixture(params=[RedisCounter, AsyncRedisCounter])
def machine(request: pytest.FixtureRequest, server: Server) -> type[RedisMachine]:
    RedisMachine.server, RedisMachine.kind = server, request.param
    return RedisMachine


def test_any_history_in_redis(machine: type[RedisMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=40))
