"""What may stand in the place of an HTTP library: a carrier performs a client's exchanges, with or without a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from routerkit.core.effects import Cancelled, Effect, NotPerformed, Step

T = TypeVar("T")


class Carrier(Protocol):
    """One serves all threads and tasks of its clients; it is given to them as ``transport=``."""

    def carry(self, step: Step[T]) -> Step[T]:
        """The same step, its ``Send``, ``Open``, ``Read`` and ``Close`` performed here and all other effects handed on.

        Time is passed by yielding ``Sleep``: so waits are those of the client's runtime, in threads as in tasks.
        """

    def forked(self) -> None:
        """In a forked child: another thread of the parent may have held a lock, and connections are the parent's."""


def carried(step: Step[T], perform: Callable[[Effect], Step[Any]]) -> Step[T]:
    """A step whose effects are performed by ``perform``, which yields what it leaves to the driver.

    What it raises besides NotPerformed ends the call as if its caller were gone, and comes out at the end.
    """
    interruption: BaseException | None = None
    try:
        effect = step.send(None)
        while True:
            try:
                result = yield from perform(effect)
            except (NotPerformed, Cancelled) as thrown:
                effect = step.throw(thrown)
            except GeneratorExit:
                raise
            except BaseException as error:
                interruption = error
                effect = step.throw(Cancelled())
            else:
                effect = step.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    except Cancelled:
        if interruption is None:
            raise
    raise interruption
