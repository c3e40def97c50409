"""What limits and budgets granted to one call or one attempt, until it is settled with what it came to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from routerkit.core.limits import Charge, Counting, Denial, Grant, Kind, Store, nano_dollars

TOKENS = " tokens"
"""How the name of a limit on tokens ends."""


class Spent(NamedTuple):
    """What a call or an attempt came to."""

    asked: bool
    """Whether anything was asked for it; if not, all of it is given back."""
    tokens: int | None
    """``None``: nobody knows, so what was reserved."""
    usd: Decimal | None
    """``None``: nobody knows, so what was reserved."""


NOTHING = Spent(False, 0, Decimal(0))
ALL = Spent(True, None, None)
"""The upper bound."""


class Group(NamedTuple):
    """Limits of one owner, charged together."""

    owner: str
    charges: tuple[Charge, ...]


def owner_of(charge: Charge, groups: Sequence[Group]) -> str:
    """Whose limit it is that one of these was charged with."""
    return next((owner for owner, charges in groups if charge in charges), "")


class Hold:
    """Grants, one per owner. Settled once, however often it is said."""

    __slots__ = ("_freed", "_grants", "_store")

    def __init__(self, store: Store, freed: Callable[[Grant], object]) -> None:
        """``freed`` is told of each grant that has been settled in the ordinary course of a call: slots may have come back."""
        self._store = store
        self._freed = freed
        self._grants: list[Grant] = []

    def add(self, grant: Grant) -> None:
        self._grants.append(grant)

    @property
    def degraded(self) -> bool:
        """Whether this process decided alone."""
        return any(grant.degraded for grant in self._grants)

    def settle(self, spent: Spent) -> Counting[None]:
        try:
            for grant in self._grants:
                yield from self._store.settle(grant, _costs(grant, spent))
                self._freed(grant)
        except BaseException:  # cancelled in the midst of it
            self.settle_soon(spent)
            raise

    def settle_soon(self, spent: Spent) -> None:
        """The same without waiting and without a lock: of a cancelled call, or from the garbage collector."""
        for grant in self._grants:
            self._store.settle_soon(grant, _costs(grant, spent))


def held(
    store: Store, groups: Sequence[Group], lease: float, freed: Callable[[Grant], object]
) -> Counting[Hold | Denial]:
    """Charge all of these limits or none. ``lease``: seconds."""
    hold = Hold(store, freed)
    try:
        for owner, charges in groups:
            made = yield from store.admit(charges, lease, owner)
            if isinstance(made, Denial):
                yield from hold.settle(NOTHING)
                return made
            hold.add(made)
    except BaseException:  # cancelled in the midst of it
        hold.settle_soon(NOTHING)
        raise
    return hold


def _costs(grant: Grant, spent: Spent) -> list[int]:
    return [_cost(charge, spent) for charge in grant.charges]


def _cost(charge: Charge, spent: Spent) -> int:
    if not spent.asked or charge.kind is Kind.SLOTS:
        return 0
    if charge.kind is Kind.MONEY:
        return charge.cost if spent.usd is None else nano_dollars(max(Decimal(0), spent.usd))
    if charge.kind is Kind.RATE and charge.name.endswith(TOKENS):
        return charge.cost if spent.tokens is None else spent.tokens
    return 1
