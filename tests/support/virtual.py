"""A gateway without sockets or time: drives steps of the pure core against a :class:`routerkit.testing.ScriptedTransport`.

It stands where a facade's driver and transport stand, so the pure core can be run through the very list of scenarios that runs
over real sockets; and it can interrupt a call at any of its effects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from routerkit.core import effects
from routerkit.core.effects import Ask, Cancelled, Effect, NotPerformed, Step
from routerkit.testing import ScriptedTransport, replies
from routerkit.testing import VirtualRuntime as _VirtualRuntime
from routerkit.testing.tape import Playback
from routerkit.types.event import Event


class VirtualRuntime(_VirtualRuntime):
    """With dice that stand at their middle, and a time that can be set."""

    def __init__(self, random: float = 0.5) -> None:
        super().__init__(dice=random)

    @property
    def now(self) -> float:
        return self._now

    @now.setter
    def now(self, moment: float) -> None:
        self._now = moment


@attrs.define(eq=False)
class Interruption:
    """Cancel the call instead of performing its n-th effect (from 0)."""

    at: int
    happened: bool = False
    effect: Effect | None = None
    """What was not performed."""


class VirtualGateway(ScriptedTransport):
    """Drives steps of the core; there is no catalogue, unless one is given."""

    def __init__(self, runtime: VirtualRuntime | None = None) -> None:
        super().__init__()
        self.runtime = VirtualRuntime() if runtime is None else runtime
        self.catalog = replies.error(404)
        self.events: list[Event] = []
        self.performed = 0
        self.perform_ask: Callable[[Ask], Any] | None = None
        """What asks the store's server, where there is one."""

    @property
    def open(self) -> set[Playback]:
        """The streams that are open."""
        return self._streams

    def run(self, step: Step[Any], interruption: Interruption | None = None) -> tuple[list[Any], Any]:
        """Drive a step to its end: what it delivered, and its result. Raises what it raises."""
        delivered: list[Any] = []
        try:
            effect = step.send(None)
            while True:
                if interruption is not None and not interruption.happened and self.performed == interruption.at:
                    interruption.happened, interruption.effect = True, effect
                    self._unwind(step)
                    raise KeyboardInterrupt
                self.performed += 1
                try:
                    result = self._performed(effect, delivered)
                except NotPerformed as failure:
                    effect = step.throw(failure)
                else:
                    effect = step.send(result)
        except StopIteration as stop:
            return delivered, stop.value

    def begin(self, step: Step[Any]) -> Opened:
        """Drive a stream up to its first chunks, and leave it there."""
        effect = step.send(None)
        while not isinstance(effect, effects.Deliver):
            effect = step.send(self._performed(effect, []))
        return Opened(self, step)

    def _unwind(self, step: Step[Any]) -> None:
        try:
            effect = step.throw(Cancelled())
            for _ in range(20):
                assert isinstance(effect, (effects.Close, effects.Emit)), f"{effect} while being cancelled"
                self._performed(effect, [])
                effect = step.send(None)
        except Cancelled:
            return
        raise AssertionError("a cancelled step went on")

    def _performed(self, effect: Effect, delivered: list[Any]) -> Any:
        """What comes of an effect. An exchange's own waits are passed here, and are no effects of the call."""
        carried = self._carry_out(effect)
        try:
            left = carried.send(None)
            while True:
                left = carried.send(self._leave(left, delivered))
        except StopIteration as stop:
            return stop.value

    def _leave(self, effect: Effect, delivered: list[Any]) -> Any:
        """Perform what the transport leaves to drivers."""
        if isinstance(effect, Ask) and self.perform_ask is not None:
            return self.perform_ask(effect)
        if isinstance(effect, effects.Sleep):
            self.runtime.sleep(effect.seconds)
        elif isinstance(effect, effects.Deliver):
            delivered.extend(effect.chunks)
        elif isinstance(effect, effects.Emit):
            self.events.append(effect.event)
        else:
            raise AssertionError(f"nobody else can set {effect}")
        return None


@attrs.define(eq=False)
class Opened:
    """A stream under way, at its first chunks."""

    gateway: VirtualGateway
    step: Step[Any]

    def finish(self) -> None:
        """Read it to its end."""
        try:
            effect = self.step.send(None)
            while True:
                effect = self.step.send(self.gateway._performed(effect, []))
        except StopIteration:
            pass

    def give_up(self) -> None:
        self.gateway._unwind(self.step)
