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


class Local(NamedTuple):
    """An admission of this process alone."""

    era: int
    """How often Redis had been told of such before."""
    grant: Grant
    keys: tuple[str, ...]
    """What its limits are known by."""


class Alone:
    """Counts for this process while Redis is lost. Not locked; its owner is.

    When Redis is told what was admitted here, days and budgets are Redis's to count. Rates go on leaking, and what is held stays
    held, until it is settled or its lease is over: a Redis that comes and goes is no way to begin anew.
    """

    def __init__(self, runtime: Runtime, workers: int, allowance: int, max_names: int = MAX_NAMES) -> None:
        """``allowance``: nano-dollars that may be spent of one budget before Redis is told."""
        self._runtime = Unlocked(runtime)
        self._workers = workers
        self._allowance = allowance
        self._max_names = max_names
        self.forget()

    def forget(self) -> None:
        """In a forked child: what is under way is the parent's."""
        self._memory = MemoryStore(self._runtime, self._max_names)
        self._era = 0
        self._charged: OrderedDict[tuple[str, str], Charge] = OrderedDict()
        """What Redis has to be told of, by owner and key."""
        self._poured: dict[tuple[str, str], int] = {}
        """Of rates: units since Redis was told."""

    @property
    def charged(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._charged)

    def admit(
        self, charges: Sequence[Charge], keys: Sequence[str], lease: float, owner: str, knowledge: Knowledge
    ) -> Local | Denial:
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
            self._pour(owner, key, charge, charge.cost)
        return Local(self._era, made, tuple(keys))

    def settle(self, local: Local, charges: Sequence[Charge], costs: Sequence[int]) -> Batch | None:
        """Settle what was admitted here. Where Redis was told of it meanwhile, returns what Redis has to be told besides."""
        owner, tokens = local.grant.owner, local.grant.memo.tokens
        if local.era == self._era:
            self._memory.settle_soon(local.grant, costs)
            for charge, key, cost in zip(charges, local.keys, costs, strict=True):
                self._pour(owner, key, charge, cost - charge.cost)
            return None
        ours, items = [], []
        for charge, number, cost in zip(charges, tokens, costs, strict=True):
            counted = charge.kind in COUNTED
            units = cost - charge.cost if charge.kind is Kind.DAY else cost
            if counted and units:
                items.append(Item(charge, number, units))
            ours.append(cost - units if counted else cost)
        self._memory.settle_soon(local.grant, ours)
        return Batch("", owner, tuple(items)) if items else None

    def told(self, knowledge: Knowledge) -> list[Batch]:
        """All that was admitted here since the last time, for Redis to be told."""
        wall = self._runtime.wall()
        owners: dict[str, list[Item]] = {}
        for (owner, key), charge in self._charged.items():
            units = self._units(owner, key, charge)
            if units:
                number = 0 if charge.kind is Kind.RATE else period_number(charge, wall)
                owners.setdefault(owner, []).append(Item(charge, number, units))
                knowledge.add(key, number, units)
        self._era += 1
        self._charged.clear()
        self._poured.clear()
        return [Batch("", owner, tuple(items), known=True) for owner, items in owners.items()]

    def _units(self, owner: str, key: str, charge: Charge) -> int:
        if charge.kind is Kind.RATE:
            return max(0, min(self._poured.get((owner, key), 0), self._memory.used(charge, owner)))
        return self._memory.take_out(charge, owner) if charge.kind in COUNTED else 0

    def _pour(self, owner: str, key: str, charge: Charge, units: int) -> None:
        if charge.kind is Kind.RATE:
            self._poured[owner, key] = self._poured.get((owner, key), 0) + units

    def _share(self, charge: Charge, known: Known, wall: float) -> int:
        """This process's part of a cap."""
        if charge.kind not in COUNTED:
            return min(charge.cap, max(1, charge.cap // self._workers))
        number = period_number(charge, wall)
        left = charge.cap - (known.taken if known.number in (number, number + 1) else 0)
        share = max(0, left // self._workers)
        return min(share, self._allowance) if charge.kind is Kind.MONEY else share
