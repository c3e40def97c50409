"""Many calls of the core at the same time, in virtual time: one heap, no threads, so every run is the same."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import attrs

from routerkit.core import effects
from routerkit.core.effects import Cancelled, HttpResponse, Step, TransportFailure
from tests.support.virtual import VirtualRuntime

PATIENCE = 200_000
"""Events of one run."""


@attrs.define(eq=False)
class Member:
    """One step under way."""

    step: Step[Any] = attrs.field(repr=False)
    name: str
    result: Any = None
    error: BaseException | None = None
    ended: float | None = None
    """On the monotonic clock."""
    ticket: int = 0
    """Of what it waits for; an older one wakes nobody."""


class Crowd:
    """``answer`` gives the reply to a ``Send``, and how many seconds it takes."""

    def __init__(
        self,
        runtime: VirtualRuntime | None = None,
        answer: Callable[[effects.Send], tuple[float, HttpResponse] | TransportFailure] | None = None,
    ) -> None:
        self.runtime = VirtualRuntime() if runtime is None else runtime
        self.answer = answer
        self.order: list[str] = []
        """The names of those that ended, as they did."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        """Have something done, so many seconds from now."""
        heapq.heappush(self._events, (self.runtime.now + seconds, next(self._count), what))

    def join(self, name: str, step: Step[Any], seconds: float = 0.0) -> Member:
        """Have a step begun, so many seconds from now."""
        member = Member(step, name)
        self.at(seconds, lambda: self._go_on(member, member.ticket, lambda: step.send(None)))
        return member

    def cancel(self, member: Member, seconds: float = 0.0) -> None:
        """Its caller gives up, so many seconds from now."""
        self.at(seconds, lambda: self._cancelled(member))

    def run(self, seconds: float = 1e9) -> None:
        """Until nothing is left to happen, or so many seconds have passed."""
        end = self.runtime.now + seconds
        for happened in itertools.count():
            if not self._events or self._events[0][0] > end:
                return
            assert happened < PATIENCE, "somebody spins"
            when, _, what = heapq.heappop(self._events)
            self.runtime.now = max(self.runtime.now, when)
            what()

    def _go_on(self, member: Member, ticket: int, move: Callable[[], Any]) -> None:
        if member.ended is not None or ticket != member.ticket:
            return
        member.ticket += 1
        try:
            effect = move()
        except StopIteration as stop:
            member.result = stop.value
        except Exception as error:
            member.error = error
        else:
            self._perform(member, effect)
            return
        self._end(member)

    def _end(self, member: Member) -> None:
        member.ended = self.runtime.now
        self.order.append(member.name)

    def _perform(self, member: Member, effect: Any) -> None:
        ticket = member.ticket

        def later(seconds: float, result: Callable[[], Any]) -> None:
            self.at(seconds, lambda: self._go_on(member, ticket, lambda: member.step.send(result())))

        if isinstance(effect, effects.Sleep):
            later(effect.seconds, lambda: None)
        elif isinstance(effect, effects.Await):
            latch = effect.latch
            latch.subscribe(lambda: later(0.0, lambda: True))
            later(effect.seconds, lambda: latch.is_set)
        elif isinstance(effect, effects.Send):
            assert self.answer is not None
            answer = self.answer(effect)
            if isinstance(answer, TransportFailure):
                self.at(0.0, lambda: self._go_on(member, ticket, lambda: member.step.throw(answer)))
            else:
                seconds, response = answer
                later(seconds, lambda: response)
        else:
            assert isinstance(effect, (effects.Emit, effects.Close)), effect
            later(0.0, lambda: None)

    def _cancelled(self, member: Member) -> None:
        if member.ended is not None:
            return
        member.ticket += 1
        try:
            effect = member.step.throw(Cancelled())
            while True:
                assert isinstance(effect, (effects.Emit, effects.Close)), f"{effect} while being cancelled"
                effect = member.step.send(None)
        except Cancelled as error:
            member.error = error
        self._end(member)
