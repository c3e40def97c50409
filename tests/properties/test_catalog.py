"""Any crowd of callers around one catalogue: who fetches, who waits, how old what they get may be."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routerkit.core.catalog import PARTIAL_SECONDS, STALE_SECONDS, CatalogCache, Snapshot
from routerkit.core.effects import (
    Await,
    Cancelled,
    Effect,
    Emit,
    Failure,
    HttpResponse,
    Send,
    Step,
    TransportFailure,
)
from routerkit.errors import APIError, DeadlineExceededError
from routerkit.gateways import INFRON, OPENROUTER
from routerkit.types.policy import Timeouts
from routerkit.types.secret import Credential, Secret
from routerkit.types.verdict import Sent
from tests.properties.worlds import some
from tests.support.virtual import VirtualRuntime

OUTCOMES: list[Any] = [
    *(
        HttpResponse(200, {}, json.dumps({"data": [{"id": f"m/{n}", "name": f"m/{n}"} for n in range(size)]}).encode())
        for size in (0, 1, 9)
    ),
    HttpResponse(200, {}, b"<html>"),
    HttpResponse(503, {"retry-after": "50"}, b'{"error":{"code":503}}'),
    HttpResponse(401, {}, b'{"error":{"code":401}}'),
    TransportFailure(Failure.CONNECT, Sent.NOT_SENT, detail="ConnectionRefusedError"),
    TransportFailure(Failure.READ_TIMEOUT, Sent.RESPONDED, detail="ReadTimeout"),
]

KEY = Credential(Secret("sk-test-1234567890"), INFRON.base_url)
STEPS = 30


class Caller:
    """Somebody who wants the catalogue, under way."""

    def __init__(self, cache: CatalogCache, deadline: float, refresh: bool) -> None:
        self.deadline = deadline
        self.step: Step[Snapshot] = cache.get(KEY, Timeouts(), deadline, refresh=refresh)
        self.effect: Effect | None = None
        self.result: Any = None
        self.resume(None)

    def resume(self, value: Any) -> None:
        self.effect = None
        try:
            effect = self.step.throw(value) if isinstance(value, BaseException) else self.step.send(value)
            while isinstance(effect, Emit):
                effect = self.step.send(None)
            self.effect = effect
        except StopIteration as stop:
            self.result = stop.value
        except (APIError, DeadlineExceededError, Cancelled) as error:
            self.result = error


class CatalogMachine(RuleBasedStateMachine):
    gateway = OPENROUTER
    oldest = STALE_SECONDS
    """How old what is served may be, in seconds."""
    patience = math.inf
    """Seconds that a transport at most lets pass, at a time, while a fetch is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.runtime = VirtualRuntime()
        self.cache = CatalogCache(self.gateway, self.runtime, 3600)
        self.callers: list[Caller] = []

    @property
    def fetching(self) -> list[Caller]:
        return [caller for caller in self.callers if isinstance(caller.effect, Send)]

    @property
    def waiting(self) -> list[Caller]:
        return [caller for caller in self.callers if isinstance(caller.effect, Await)]

    @rule(seconds=st.sampled_from([0.0, 1.0, 40.0, 700.0, 3000.0, 5000.0, 50_000.0, 90_000.0]))
    def wait(self, seconds: float) -> None:
        self.runtime.now += min(seconds, self.patience) if self.fetching else seconds

    @rule(patience=st.sampled_from([0.5, 30.0]), refresh=st.sampled_from([False, False, True]))
    def ask(self, patience: float, refresh: bool) -> None:
        """Whoever is served at once gets a copy that is no older than a day; whoever finds one is not kept waiting."""
        kept = self.cache.peek()
        caller = Caller(self.cache, self.runtime.now + patience, refresh)
        self.ended(caller)
        if caller.effect is not None:
            self.callers.append(caller)
        if kept is not None and not refresh:
            assert not isinstance(caller.effect, Await)

    @precondition(lambda self: self.fetching)
    @rule(outcome=st.sampled_from(OUTCOMES), after=st.sampled_from([0.0, 0.4, 10.0]))
    def answer(self, outcome: Any, after: float) -> None:
        (leader,) = self.fetching
        self.runtime.now += after
        leader.resume(outcome)
        self.ended(leader)

    @precondition(lambda self: self.callers)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Nobody depends on a caller who goes away."""
        caller = data.draw(st.sampled_from(self.callers))
        caller.resume(Cancelled())
        assert caller.effect is None
        self.ended(caller)

    @precondition(lambda self: self.waiting)
    @rule()
    def wake(self) -> None:
        """Those who wait hear that the fetch has ended, or that their time is up."""
        for caller in self.waiting:
            effect = caller.effect
            assert isinstance(effect, Await)
            if effect.latch.is_set or self.runtime.now >= caller.deadline:
                caller.resume(effect.latch.is_set)
                self.ended(caller)

    @rule()
    def fork(self) -> None:
        """In a child the parent's fetch is not known, nor are its callers."""
        if not self.callers:
            self.cache.forget_fetch()

    def ended(self, caller: Caller) -> None:
        if caller.effect is not None:
            return
        if caller in self.callers:
            self.callers.remove(caller)
        if isinstance(caller.result, Snapshot):
            assert self.runtime.now - caller.result.fetched <= self.oldest
            assert caller.result.models

    @invariant()
    def one_fetch_at_a_time(self) -> None:
        """At most one fetch is under way, and somebody is there to end each."""
        assert len(self.fetching) <= 1
        assert (self.cache._fetching is not None) == bool(self.fetching)

    @invariant()
    def nothing_older_than_a_day_is_kept(self) -> None:
        kept = self.cache.peek()
        assert kept is None or self.runtime.now - kept.fetched <= self.oldest


TestAnyCrowd = CatalogMachine.TestCase
TestAnyCrowd.settings = settings(some(0.6), stateful_step_count=STEPS)


class TwoListsMachine(CatalogMachine):
    """A gateway with two lists, one of which may be a day old when the other is read anew."""

    gateway = INFRON
    patience = 40.0
    oldest = STALE_SECONDS + PARTIAL_SECONDS + STEPS * (patience + 10)


TestAnyCrowdAroundTwoLists = TwoListsMachine.TestCase
TestAnyCrowdAroundTwoLists.settings = TestAnyCrowd.settings
