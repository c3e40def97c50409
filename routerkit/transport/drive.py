"""The drivers: they carry out what the core orders, one for threads, one for asyncio. Neither knows what it is about."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import attrs

from routerkit.core.effects import Cancelled, Close, Deliver, Effect, Emit, NotPerformed, Step
from routerkit.types.completion import Chunk

log = logging.getLogger("routerkit")

T = TypeVar("T")

UNWINDING_STEPS = 50
"""Effects that a cancelled step may still ask for."""


@attrs.define(eq=False)
class Done(Generic[T]):
    """A step has come to its end."""

    value: T


def advance(step: Step[T], perform: Callable[[Any], Any]) -> Sequence[Chunk] | Done[T]:
    """Drive a step until it delivers chunks or ends. Raises what the step raises."""
    try:
        effect = step.send(None)
        while effect.__class__ is not Deliver:
            try:
                result = perform(effect)
            except NotPerformed as failure:
                effect = step.throw(failure)
            else:
                effect = step.send(result)
        return effect.chunks
    except StopIteration as stop:
        return Done(stop.value)
    except BaseException:  # from a performance, the step itself or, like Ctrl-C, from between two lines of this
        result = None  # an open answer that the step has not received would be held by the traceback
        unwind(step, perform)
        raise


async def advance_async(
    step: Step[T], perform: Callable[[Any], Awaitable[Any]], perform_now: Callable[[Any], Any]
) -> Sequence[Chunk] | Done[T]:
    """The same in a task. ``perform_now`` carries out ``Close`` and ``Emit``, without waiting, when the task is cancelled."""
    try:
        effect = step.send(None)
        while effect.__class__ is not Deliver:
            try:
                result = await perform(effect)
            except NotPerformed as failure:
                effect = step.throw(failure)
            else:
                effect = step.send(result)
        return effect.chunks
    except StopIteration as stop:
        return Done(stop.value)
    except GeneratorExit:  # nobody drives this task any more, and it may be the garbage collector that ends it
        unwind(step, abandon)
        raise
    except BaseException:
        result = None
        unwind(step, perform_now)
        raise


def unwind(step: Step[Any], perform_now: Callable[[Effect], Any]) -> None:
    """Tell a step that its caller is gone, and perform what it orders to clean up. It gets no time to wait for anything.

    What strikes meanwhile, such as another Ctrl-C, tells the step once more, and is raised when it has come to its end. A step
    that has ended already notices nothing.
    """
    struck: BaseException | None = None
    try:
        effect = step.throw(Cancelled())
        for _ in range(UNWINDING_STEPS):
            if isinstance(effect, (Close, Emit)):
                try:
                    perform_now(effect)
                except BaseException as error:
                    struck = error
                    effect = step.throw(Cancelled())
                else:
                    effect = step.send(None)
            else:
                effect = step.throw(Cancelled())
        log.error("a cancelled call did not come to its end")
    except (StopIteration, Cancelled):
        pass
    except Exception as error:
        struck = error
    if isinstance(struck, Exception):
        log.error("cleaning up after a cancelled call failed", exc_info=struck)
    elif struck is not None:
        raise struck


def abandon(order: Effect) -> None:
    """Perform the clean-up of a stream that the garbage collector found.

    The collector may run anywhere, inside our own locks too: so none is taken, and no observer is told.
    """
    if isinstance(order, Close):
        order.handle.abandon()
