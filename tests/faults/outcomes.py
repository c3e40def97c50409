"""What a fault leaves behind: which breakers learnt of it, who rests for how long, what may be billed.

`left_behind` runs a scenario through both facades with breakers that open at the first failure they are told of: so what is open
afterwards is exactly what was fed. It holds the traces of both facades against the expected one and against each other, and the
server's own account against the route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest

from routerkit import BreakerPolicy, Timeouts
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.support.facades import FACADES, Caller, alike, expected, prepared
from tests.support.scenarios import A, Ask, B, Scenario

FAST = BreakerPolicy(fast_trip=1)


@attrs.frozen
class After:
    """What is left behind. Models by their id, the gateway as `gateway`, the key as `key` (or `free`, of its free models)."""

    opened: frozenset[str] = attrs.field(default=frozenset(), converter=frozenset)
    rests: Mapping[str, float] = attrs.field(factory=dict)
    """Seconds."""


@attrs.frozen
class Outcome:
    """What an attempt on `A` that gave no answer must come to."""

    code: str
    status: int | None = 200
    fed: bool = True
    """Whether the model's breaker learns of it."""
    rests: float | None = None
    """Seconds that the model rests."""
    billing: str = "possible"
    error: str | None = None
    """The class name, when the call ends with it; else the next model answers."""

    def ask(self, *, stream: bool = False, **fields: Any) -> Ask:
        first = f"{A} {self.status or '-'} {self.code}"
        if self.error is not None:
            return Ask([first], self.error, stream=stream, fallback_models=(B,), **fields)
        return Ask([first, f"{B} 200 ok"], f"Hello from {B}", stream=stream, fallback_models=(B,), **fields)

    def after(self) -> After:
        return After([A] if self.fed else [], {} if self.rests is None else {A: self.rests})


def check_outcome(reply: r.Reply, outcome: Outcome, *, stream: bool, **options: Any) -> None:
    """The reply as model `A`'s answer, `B` being fine: the trace, what is left behind, what may be billed."""
    scenario = Scenario(outcome.code, {A: [reply]}, [outcome.ask(stream=stream)])
    details = check_after(scenario, outcome.after(), **options)
    assert f"billing {outcome.billing}," in details[0][0]


def check_after(scenario: Scenario, after: After, **options: Any) -> list[tuple[str, ...]]:
    """A scenario through both facades, and what it leaves behind. Returns what the verdicts say of the attempts, call by call."""

    def details(name: str) -> list[tuple[str, ...]]:
        with FaultServer() as server:
            url = prepared(server, scenario).url
            with FACADES[name](base_url=url, **{"breaker": FAST, **options}) as caller:
                traces = [caller.ask(ask) for ask in scenario.asks]
                wanted = [expected(ask) for ask in scenario.asks]
                assert traces == wanted, f"{name}: {traces} where {wanted} was expected"
                found = left(caller)
                # Real time passes between an answer and this look: a little on a busy machine.
                assert found == attrs.evolve(after, rests=pytest.approx(after.rests, abs=0.9)), (
                    f"{name}: {found}, not {after}"
                )
            tried = [attempt.split(" ")[0] for trace in traces for attempt in trace.attempts]
            assert server.models_asked == tried, "something was sent behind the route's back"
            server.wait_closed()
        return [trace.details for trace in traces]

    return alike(details)


def left(caller: Caller) -> After:
    """What is open and who rests, of a caller of one gateway."""
    health = caller.client.health()
    opened = {_scope(name) for name, state in health.breakers.items() if state != "closed"}
    return After(opened, {_scope(name): round(seconds, 1) for name, seconds in health.cooldowns.items()})


def _scope(name: str) -> str:
    if name.startswith("the key of "):
        return "free" if name.endswith("(free models)") else "key"
    model, on, _ = name.partition(" on ")
    return model if on else "gateway"


def alone(attempts: Sequence[str], gives: str, **fields: Any) -> Ask:
    """A call with one model, and no catalogue to save it."""
    return Ask(attempts, gives, fallback_models=(), **fields)


def plain(data: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> r.Reply:
    """These bytes as the body of a JSON answer."""
    given = r.merged({"Content-Type": r.JSON}, headers)
    return lambda connection, _: connection.respond(status, data, given)


def within(seconds: float) -> Timeouts:
    """A deadline."""
    return Timeouts(total=seconds)
