"""Faults on the way to a gateway and in its HTTP: what both facades make of them, and that the two make the same of them.

A way is made anew for each facade: where the client is sent, and the server there, if there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import attrs

from routerkit import Gateway, Timeouts
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.outcomes import FAST, After, left
from tests.support.facades import FACADES, alike, expected
from tests.support.scenarios import QUICK, A, Ask, B, C

SOON = Timeouts(connect=0.15, total=60)
"""For connections that are never made."""
AMPLE = Timeouts(connect=20, first_byte=20, first_token=20, idle=20, total=60)
"""For what ends by itself."""
FROM_B = f"Hello from {B}"

UNREACHABLE = "next_gateway blames gateway (fail), not_sent, billing none"
NOT_HTTP = "next_model blames gateway (fail), maybe, billing possible"
LOST = "next_model blames model (fail), maybe, billing possible"
BROKEN = "next_model blames model (fail), responded, billing possible"
INTERRUPTED = "next_model blames model (fail), responded, billing confirmed"
OURS = "fail blames local (neutral), not_sent, billing none"


@attrs.frozen
class Place:
    """Where a way leads."""

    options: dict[str, Any]
    """The client's."""
    server: FaultServer | None = None
    asked: Callable[[], object] = lambda: None
    """Called when all has been asked: it lets go of what still hangs."""


Way = Callable[[], AbstractContextManager[Place]]


def check_way(
    way: Way, *asks: Ask, says: str, after: After | None = None, at_once: bool = True, **options: Any
) -> None:
    """Calls through both facades: their traces, what the verdict says of the first attempt, and what is left behind.

    Breakers open at the first failure that they are told of only if ``after`` is given. With ``at_once=False`` one facade comes
    after the other: for a way that there cannot be twice.
    """

    def details(name: str) -> list[tuple[str, ...]]:
        with way() as place:
            given = {**place.options, **({"breaker": FAST} if after is not None else {}), **options}
            with FACADES[name](**given) as caller:
                traces = [caller.ask(ask) for ask in asks]
                place.asked()
                wanted = [expected(ask) for ask in asks]
                assert traces == wanted, f"{name}: {traces} where {wanted} was expected"
                if after is not None:
                    assert left(caller) == after, f"{name}: {left(caller)} where {after} was expected"
            if place.server is not None:
                place.server.wait_closed()
        return [trace.details for trace in traces]

    said = alike(details, at_once=at_once)[0][0]
    assert said.startswith(says + ","), said


def unreachable(*, stream: bool = False, code: str = "connect_failed", timeouts: Timeouts = SOON) -> Ask:
    """A call whose gateway cannot be reached: no other model of the same gateway is asked."""
    return Ask([f"{A} - {code}"], "APIConnectionError", stream=stream, skipped=(B, C), timeouts=timeouts)


def refused(
    code: str, *, stream: bool = False, gives: str = "APIConnectionError", timeouts: Timeouts | None = None
) -> Ask:
    """A call that fails at once, and plans nothing more."""
    return Ask([f"{A} - {code}"], gives, stream=stream, timeouts=timeouts or _patience(code))


def moves_on(first: str, *, stream: bool = False, timeouts: Timeouts | None = None, **fields: Any) -> Ask:
    """A call that the next model answers; ``first``: status and verdict of the first attempt."""
    asked = [f"{A} {first}", f"{B} 200 ok"]
    return Ask(asked, FROM_B, stream=stream, timeouts=timeouts or _patience(first), **fields)


def _patience(verdict: str) -> Timeouts:
    """Short clocks where it is a clock that ends the attempt; else what a busy machine may need."""
    return QUICK if "timeout" in verdict else AMPLE


def to(**options: Any) -> Way:
    """To nobody of ours."""

    @contextmanager
    def way() -> Iterator[Place]:
        yield Place(options)

    return way


def serving(first: r.Reply | None = None, *more: r.Reply) -> Way:
    """To a plain server, whose model `A` answers with these replies in turn; all other models are fine."""

    @contextmanager
    def way() -> Iterator[Place]:
        with FaultServer() as server:
            server.catalog = r.error(404, message="no catalogue here", headers={"Connection": "close"})
            if first is not None:
                server.script(A, first, *more)
            yield Place({"base_url": server.url}, server)

    return way


def inside(base_url: str, ca_file: str | None = None, **fields: Any) -> Gateway:
    """A gateway with an authority of its own."""
    return Gateway(name="inside", base_url=base_url, ca_file=ca_file, **fields)
