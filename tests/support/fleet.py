"""Processes of a fleet, as far as their health goes: no calls, no gateway; they share a board in memory and a virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from routerkit.core.breaker import Breaker
from routerkit.core.effects import Cancelled, Step
from routerkit.core.fleet import Fleet
from routerkit.core.health import Admission, Health, Refusal
from routerkit.core.keys import Key
from routerkit.gateways import OPENROUTER
from routerkit.types.event import BreakerChanged, BreakerState
from routerkit.types.policy import BreakerPolicy, RetryPolicy
from routerkit.types.route import Target
from routerkit.types.verdict import Blame, Sample
from tests.support.board import BoardServer, MemoryBoard, drive

A, B = Target("openrouter", "a/one"), Target("openrouter", "b/two")
GATEWAY = "openrouter"
KEY = Key(None, OPENROUTER)
LEASE = 30.0
OK, FAIL = Sample.OK, Sample.FAIL


class Process:
    """One of the fleet. Its calls take no time, unless they are held."""

    def __init__(self, server: BoardServer, **policy: Any) -> None:
        self.server = server
        self.runtime = server.runtime
        self.board = MemoryBoard(server)
        self.events: list[BreakerChanged] = []
        self.health = Health(self.runtime, BreakerPolicy(**policy), RetryPolicy(), self.events.append)
        self.fleet = Fleet(self.runtime, self.board, self.health)

    def sync(self) -> None:
        drive(self.server, self.fleet.sync())

    def ask(self, target: Target = A, key: Key = KEY) -> Admission | Refusal:
        """What a call does before it sends."""
        self.sync()
        return self.probing(self.health.admit(target, [key], lease=LEASE, stream=False))

    def panic(self, target: Target = A) -> Admission | Refusal | None:
        self.sync()
        found = self.health.panic([target], lambda _: [KEY], lease=LEASE)
        return None if found is None else self.probing(found[1])

    def probing(self, got: Admission | Refusal) -> Admission | Refusal:
        refusal = drive(self.server, self.fleet.may_probe(got)) if isinstance(got, Admission) else None
        return got if refusal is None else refusal

    def admitted(self, target: Target = A) -> Admission:
        got = self.ask(target)
        assert isinstance(got, Admission), got
        return got

    def refused(self, target: Target = A) -> Refusal:
        got = self.ask(target)
        assert isinstance(got, Refusal)
        return got

    def end(self, admission: Admission, sample: Sample, blame: Blame = Blame.MODEL) -> None:
        """What a call does when an attempt is over."""
        admission.settle(sample, Blame.NOBODY if sample is OK else blame)
        admission.release()
        drive(self.server, self.fleet.probed(admission))

    def call(self, *samples: Sample, target: Target = A, blame: Blame = Blame.MODEL) -> None:
        for sample in samples:
            self.end(self.admitted(target), sample, blame)

    def trip(self, target: Target = A, blame: Blame = Blame.MODEL) -> None:
        """Open by what it saw itself, whatever it might have heard meanwhile, and told."""
        for _ in range(5):
            got = self.health.admit(target, [KEY], lease=LEASE, stream=False)
            assert isinstance(got, Admission), got
            got.settle(FAIL, blame)
        self.sync()

    def breaker(self, target: Target | str = A) -> Breaker:
        if isinstance(target, str):
            return self.health.breaker(target)
        return self.health.breaker(target.gateway, target.model)

    def state(self, target: Target | str = A) -> tuple[BreakerState, bool]:
        """And whether by hearsay."""
        breaker = self.breaker(target)
        return breaker.state, breaker.hearsay


@attrs.frozen
class Ways:
    """Of interrupting a step at a question."""

    heard: bool
    """Whether the server has heard the question all the same."""
    end: Callable[[Step[Any]], None]


def _cancel(step: Step[Any]) -> None:
    with pytest.raises(Cancelled):
        step.throw(Cancelled())


WAYS = [Ways(heard, end) for heard in (False, True) for end in (_cancel, Step.close)]  # type: ignore[attr-defined]


def interrupted(server: BoardServer, step: Step[Any], at: int, way: Ways) -> bool:
    """Whether there was a question of that number (from 0) at which to interrupt the step."""
    try:
        question = step.send(None)
        for _ in range(at):
            question = step.send(server.perform(question))
    except StopIteration:
        return False
    if way.heard:
        server.perform(question)
    way.end(step)
    return True
