"""Queues before limits on concurrency: who comes while all slots are taken waits for a turn, in order.

A limit has one queue in each process. Only the first in it asks for a slot. It is woken when a call of this process gives one
back; it also asks by itself, as those that other processes give back, or the garbage collector, are not announced. Who does
not look any more, as its event loop stands still, is passed over, and comes first again once it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

from routerkit.core.effects import Latch, Lock, Runtime, Step, wait_for
from routerkit.core.hold import Group
from routerkit.core.limits import Charge, Denial, Grant, Kind

POLL = 0.1
"""Seconds after which the first in a queue asks again."""
LOOK = 1.0
"""Seconds after which one behind it looks whether it has become the first."""
GRACE = 3.0
"""Seconds by which one may be late in looking before it is passed over."""

T = TypeVar("T")


class Waiter:
    """One who waits in a queue."""

    __slots__ = ("latch", "looks_by", "until")

    def __init__(self, now: float) -> None:
        self.latch = Latch()
        self.looks_by = now + GRACE
        """When it will have looked again, unless its event loop stands still."""
        self.until = float("inf")
        """When it gives up."""


class Queue:
    """Of one limit. Only joining takes a lock: whoever leaves may be a task that its event loop has forgotten."""

    def __init__(self, runtime: Runtime, charge: Charge, size: int, patience: float | None) -> None:
        self.charge = charge
        """Of the limit."""
        self.size = size
        self.patience = float("inf") if patience is None else patience
        """Seconds that one waits at most."""
        self._runtime = runtime
        self.forget()

    def forget(self) -> None:
        """In a forked child: those who wait are the parent's."""
        self._lock: Lock = self._runtime.lock()
        self._waiting: dict[Waiter, None] = {}

    @property
    def busy(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self) -> Waiter | None:
        """At the end; ``None``: it is full."""
        waiter = Waiter(self._runtime.monotonic())
        with self._lock:
            if len(self._waiting) >= self.size:
                self._drop_dead()
            if len(self._waiting) >= self.size:
                return None
            self._waiting[waiter] = None
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """With a slot or without one: the next becomes the first."""
        self._waiting.pop(waiter, None)
        self.wake()

    def first(self) -> Waiter | None:
        """Of those that look after their turn."""
        now = self._runtime.monotonic()
        while True:
            try:
                return next((waiter for waiter in self._waiting if waiter.looks_by >= now), None)
            except RuntimeError:  # somebody came or left in between
                continue

    def wake(self) -> None:
        """A slot may be free."""
        first = self.first()
        if first is not None:
            first.latch.set()

    def _drop_dead(self) -> None:
        """Those that should have given up long ago. Were one to come back, it would find that its time is over."""
        now = self._runtime.monotonic()
        for waiter in tuple(self._waiting):
            if waiter.looks_by < now and waiter.until < now:
                self._waiting.pop(waiter, None)


class Turns:
    """The queues of one client, for all its threads, tasks and tenants."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._queues: dict[tuple[str, str], Queue] = {}
        """By owner and name of the limit."""

    def open(self, owner: str, charge: Charge, size: int, patience: float | None) -> None:
        """Have a queue before a limit on concurrency."""
        self._queues.setdefault((owner, charge.name), Queue(self._runtime, charge, size, patience))

    def queue(self, owner: str, charge: Charge) -> Queue | None:
        """The one before a limit, if there is any."""
        return self._queues.get((owner, charge.name)) if charge.kind is Kind.SLOTS else None

    def busy(self, groups: Sequence[Group]) -> Queue | None:
        """The first before one of these limits in which somebody waits: who comes now waits there too."""
        if self._queues:
            for owner, charges in groups:
                for charge in charges:
                    queue = self.queue(owner, charge)
                    if queue is not None and queue.busy:
                        return queue
        return None

    def freed(self, grant: Grant) -> None:
        """A grant was settled: its slots are free."""
        if self._queues:
            for charge in grant.charges:
                queue = self.queue(grant.owner, charge)
                if queue is not None:
                    queue.wake()

    def forget(self) -> None:
        """In a forked child: those who wait are the parent's."""
        for queue in self._queues.values():
            queue.forget()


@attrs.frozen
class NoTurn:
    """The queue was full, or the wait too long."""

    queue: Queue
    note: str
    """In words."""

    @property
    def denial(self) -> Denial:
        return Denial(self.queue.charge, None)


def in_turn(
    queue: Queue, ask: Callable[[], Step[T]], blocked: Callable[[T], Queue | None], runtime: Runtime, until: float
) -> Step[T | NoTurn]:
    """What ``ask`` comes to once it is this caller's turn, or why there was none.

    ``blocked``: the queue to wait in further, as all slots are taken. ``until``: on the monotonic clock, not waited any longer.
    """
    patience: dict[Queue, float] = {}
    while True:
        waiter = queue.join()
        if waiter is None:
            return NoTurn(queue, f"and {queue.size} wait already")
        joined, left = runtime.monotonic(), patience.get(queue, queue.patience)
        try:
            made = yield from _first_come(queue, waiter, ask, blocked, runtime, min(until, joined + left))
        finally:
            queue.leave(waiter)
        patience[queue] = left - (runtime.monotonic() - joined)  # it may have to come here again
        following = None if isinstance(made, NoTurn) else blocked(made)
        if following is None:
            return made
        queue = following  # slots of another limit are taken


def _first_come(
    queue: Queue,
    waiter: Waiter,
    ask: Callable[[], Step[T]],
    blocked: Callable[[T], Queue | None],
    runtime: Runtime,
    until: float,
) -> Step[T | NoTurn]:
    """What is said to the first in this queue that is not to wait in it further."""
    waiter.until = until
    while True:
        waiter.looks_by = runtime.monotonic() + GRACE
        waiter.latch = Latch()  # before looking and asking: a slot that comes back meanwhile is not missed
        first = queue.first() is waiter
        if first:
            made = yield from ask()
            if blocked(made) is not queue:
                return made
        left = until - runtime.monotonic()
        if left <= 0:
            return NoTurn(queue, "and no turn came in time")
        pause = min(POLL if first else LOOK, left)
        waiter.looks_by = runtime.monotonic() + pause + GRACE
        yield from wait_for(waiter.latch, pause)
