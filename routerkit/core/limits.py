"""Limits and budgets in numbers: what an admission is charged with, and who keeps count.

An admission is charged to all of its limits or to none, and settled once, with what it came to. Rates follow the generic cell
rate algorithm (ITU-T I.371): a rate of ``cap`` units in ``period`` seconds is one point in time, the theoretical arrival time
(TAT), up to which units are spoken for. A unit moves it by ``period / cap``; it may be ahead of now by one ``period``, so that
``cap`` units can come at once, and in any stretch of ``t`` seconds no more than ``cap + cap * t / period`` are admitted.

All times are whole microseconds and all money is whole nano-dollars, so that a store in another process counts exactly alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Protocol

import attrs

from routerkit.core.effects import Step
from routerkit.types.verdict import Word

MICROSECONDS = 1_000_000
NANO = Decimal("1e-9")
"""USD: the smallest amount that is counted."""


class Kind(Word):
    """What a limit counts."""

    RATE = "rate"
    """Units that come back evenly within ``period``."""
    DAY = "day"
    """Units that come back at midnight UTC."""
    SLOTS = "slots"
    """Units in use at a time; they come back when they are settled, or when their lease is over."""
    MONEY = "money"
    """Nano-dollars that come back with the period, or never; what is reserved and never settled comes back with its lease."""


@attrs.frozen
class Charge:
    """What one admission takes from one limit."""

    kind: Kind
    name: str
    """What the limit is kept under, the same in every process."""
    label: str
    """The limit as people read it."""
    cap: int
    """Units, at least 1; of money nano-dollars, at least 0."""
    cost: int = 1
    """Units, at least 0."""
    period: str = "minute"
    """Of rates ``minute``; of money ``day``, ``month`` or ``total``."""


@attrs.frozen
class Grant:
    """An admission that was charged."""

    identity: str
    charges: tuple[Charge, ...]


@attrs.frozen
class Denial:
    """An admission that was not charged, and the first of its limits that stood in the way."""

    charge: Charge
    retry_after: float | None
    """Seconds after which there may be room; ``None``: nobody knows, or never, as the cost is above the cap."""
    never: bool = False


class Store(Protocol):
    """Who keeps count: this process's memory, or a server that many processes share."""

    def admit(self, charges: Sequence[Charge], lease: float) -> Step[Grant | Denial]:
        """Charge all or nothing. ``lease``: seconds after which slots and money come back without being settled."""

    def settle(self, grant: Grant, costs: Sequence[int]) -> Step[None]:
        """What an admission came to in the end, charge by charge. Slots are given back whatever their cost. The second time
        changes nothing."""


def ahead(cost: int, cap: int, period: int = 60 * MICROSECONDS) -> int:
    """By how many microseconds so many units move the TAT of a rate."""
    return cost * period // cap


def wait_of_rate(tat: int, now: int, cost: int, cap: int, period: int = 60 * MICROSECONDS) -> int:
    """Microseconds until a rate admits so many units; 0: now. Never positive for a cost above the cap: it is never admitted."""
    return max(0, max(tat, now) + ahead(cost, cap, period) - period - now)


def nano_dollars(usd: Decimal) -> int:
    """An amount in whole nano-dollars, rounded up: never in the spender's favour."""
    return int((usd / NANO).to_integral_value(ROUND_CEILING))
