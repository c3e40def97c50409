"""What a process may admit by itself while Redis is lost, and what it has to tell Redis afterwards.

Rates and slots go on at this process's share of the cap. A day goes on from what was last known to be taken, with a share of the
rest. Money goes on with a share of what was last known to be left, and no more than an allowance; then nothing is admitted that
costs money, until Redis is back.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import attrs

from routerkit.core.effects import Lock, Runtime
from routerkit.core.limits import Charge, Denial, Grant, Kind, period_number
from routerkit.store.memory import MAX_NAMES, MemoryStore

COUNTED = (Kind.DAY, Kind.MONEY)
"""Kinds of which a number is kept that does not come back by itself."""


class Known(NamedTuple):
    """What was last heard of a day or a budget."""

    number: int
    """The period."""
    birth: int
    """When Redis began to count it, in microseconds; another birth in the same period: it has lost its count. 0: we alone know."""
    taken: int
    """The most."""


NOTHING = Known(0, 0, 0)


class Item(NamedTuple):
    """What Redis is to add to one limit."""

    charge: Charge
    number: int
    units: int


@attrs.define(eq=False)
class Batch:
    """What Redis is to add, once, of one owner."""

    identity: str
    owner: str
    items: tuple[Item, ...]
    known: bool = False
    """Whether it counts among what this process knows better than Redis."""


class Knowledge:
    """What was last heard, by key. Not locked; its owner is."""

    def __init__(self, max_names: int = MAX_NAMES) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._max_names = max_names
        self.resets = 0
        """Counts that Redis had lost."""

    def of(self, key: str) -> Known:
        return self._known.get(key, NOTHING)

    def learn(self, key: str, number: int, birth: int, taken: int) -> bool:
        """What Redis said. Refunds do not lower what is known, a new period and a new birth do. Returns whether Redis had lost
        its count."""
        known = self._known.pop(key, NOTHING)
        lost = bool(known.birth) and number == known.number and birth != known.birth
        if (number, birth) == known[:2]:
            taken = max(taken, known.taken)
        self.resets += lost
        self._known[key] = Known(number, birth, taken)
        if len(self._known) > self._max_names:
            self._known.popitem(last=False)
        return lost

    def add(self, key: str, number: int, units: int) -> None:
        """What we know better than Redis, until it is told."""
        known = self.of(key)
        if number == known.number:
            self._known[key] = known._replace(taken=known.taken + units)
        else:
            self._known[key] = Known(number, 0, units)

    def told(self, key: str, number: int, units: int) -> None:
        """Redis knows it now, and says so itself. If it had lost its count, it is not to be told of these units a second time."""
        known = self.of(key)
        if number == known.number:
            self._known[key] = known._replace(taken=max(0, known.taken - units))


class Unlocked:
    """A runtime for a memory that is guarded already."""

    def __init__(self, runtime: Runtime) -> None:
        self.monotonic = runtime.monotonic
        self.wall = runtime.wall
        self.random = runtime.random

    def lock(self) -> Lock:
        return contextlib.nullcontext()


class Alone:
    """Counts for this process while Redis is lost. Not locked; its owner is."""

    def __init__(self, runtime: Runtime, workers: int, allowance: int) -> None:
        """``allowance``: nano-dollars that may be spent of one budget while Redis is lost once."""
        self._runtime = Unlocked(runtime)
        self._workers = workers
        self._allowance = allowance
        self.forget()

    def forget(self) -> None:
        """Begin anew: of a loss that is over, or in a forked child."""
        self._memory = MemoryStore(self._runtime)
        self._charged: OrderedDict[tuple[str, str], Charge] = OrderedDict()

    @property
    def charged(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._charged)

    def admit(
        self, charges: Sequence[Charge], keys: Sequence[str], lease: float, owner: str, knowledge: Knowledge
    ) -> tuple[MemoryStore, Grant] | Denial:
        """What this process may do by itself. ``keys``: what the charges' limits are known by."""
        wall = self._runtime.wall()
        shares = [
            attrs.evolve(charge, cap=self._share(charge, knowledge.of(key), wall))
            for charge, key in zip(charges, keys, strict=True)
        ]
        made = self._memory.admit_now(shares, lease, owner)
        if isinstance(made, Denial):
            charge = next(charge for charge, share in zip(charges, shares, strict=True) if share is made.charge)
            return attrs.evolve(made, charge=charge, never=charge.cost > charge.cap)
        for charge, key in zip(charges, keys, strict=True):
            self._charged[owner, key] = charge
        return self._memory, made

    def settle(
        self, memory: MemoryStore, grant: Grant, charges: Sequence[Charge], costs: Sequence[int]
    ) -> Batch | None:
        """Settle what was admitted here. Of a loss that is over, returns what Redis has to be told."""
        memory.settle_soon(grant, costs)
        if memory is self._memory:
            return None
        items = []
        for charge, number, cost in zip(charges, grant.memo.tokens, costs, strict=True):
            units = cost - charge.cost if charge.kind is Kind.DAY else cost
            if charge.kind in COUNTED and units:
                items.append(Item(charge, number, units))
        return Batch("", grant.owner, tuple(items)) if items else None

    def told(self, knowledge: Knowledge) -> list[Batch]:
        """All that was admitted here, for Redis to be told; what comes now begins anew."""
        wall = self._runtime.wall()
        owners: dict[str, list[Item]] = {}
        for (owner, key), charge in self._charged.items():
            units = 0 if charge.kind is Kind.SLOTS else self._memory.used(charge, owner)
            if units:
                number = 0 if charge.kind is Kind.RATE else period_number(charge, wall)
                owners.setdefault(owner, []).append(Item(charge, number, units))
                knowledge.add(key, number, units)
        self.forget()
        return [Batch("", owner, tuple(items), known=True) for owner, items in owners.items()]

    def _share(self, charge: Charge, known: Known, wall: float) -> int:
        """This process's part of a cap."""
        if charge.kind not in COUNTED:
            return min(charge.cap, max(1, charge.cap // self._workers))
        number = period_number(charge, wall)
        left = charge.cap - (known.taken if known.number in (number, number + 1) else 0)
        share = max(0, left // self._workers)
        return min(share, self._allowance) if charge.kind is Kind.MONEY else share
