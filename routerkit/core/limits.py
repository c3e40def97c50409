"""Limits and budgets in numbers: what an admission is charged with, and who keeps count.

An admission is charged to all of its limits or to none, and settled once, with what it came to. Rates follow the generic cell
rate algorithm (ITU-T I.371) in its form of a leaking bucket: each unit pours ``period`` unit-microseconds into it, ``cap`` of
them leak out in each microsecond, and it holds ``cap * period``. So ``cap`` units can come at once, and in any stretch of ``t``
no more than ``cap + cap * t / period`` are admitted. The bucket needs no rounding, and a clock that jumps back harms nobody: no
wait is ever longer than one period.

All times are whole microseconds and all money is whole nano-dollars, so that a store in another process counts exactly alike.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Generator, Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import attrs

from routerkit.types.verdict import Word

MICROSECONDS = 1_000_000
MINUTE = 60 * MICROSECONDS
"""The period of a rate."""
MAX_LEASE = 86_400.0
"""Seconds that slots and money can be held without being settled."""
_DAY = 86_400
_EPOCH = datetime.date(1970, 1, 1)
_UP = decimal.Context(prec=100, rounding=decimal.ROUND_CEILING)

T = TypeVar("T")
Counting: TypeAlias = Generator[Any, Any, T]
"""A step that may have to ask a server, before it comes to ``T``."""


class Kind(Word):
    """What a limit counts."""

    RATE = "rate"
    """Units that come back evenly within a minute."""
    DAY = "day"
    """Units that come back at midnight UTC."""
    SLOTS = "slots"
    """Units in use at a time; they come back when they are settled, or when their lease is over."""
    MONEY = "money"
    """Nano-dollars that come back with the period, or never; what is held and never settled comes back with its lease."""


@attrs.frozen
class Charge:
    """What one admission takes from one limit."""

    kind: Kind
    name: str
    """What the limit is kept under among those of its owner and kind, the same in every process."""
    label: str
    """The limit as people read it."""
    cap: int
    """Units, from 0 on; of money nano-dollars."""
    cost: int = 1
    """Units, from 0 on. What costs nothing is never refused."""
    period: str = "total"
    """Of money: ``day``, ``month`` or ``total``. Other kinds have their own."""


@attrs.define(eq=False)
class Grant:
    """An admission that was charged."""

    identity: str
    charges: tuple[Charge, ...]
    owner: str
    degraded: bool = False
    """Whether this process decided alone, as the server that counts for all could not be asked."""
    memo: Any = attrs.field(default=None, repr=False)
    """The store's own."""
    _unsettled: list[None] = attrs.field(factory=lambda: [None], init=False, repr=False)

    def claim(self) -> bool:
        """Whether it falls to the one who asks to settle it: true once. Takes no lock."""
        try:
            self._unsettled.pop()
        except IndexError:
            return False
        return True


@attrs.frozen
class Denial:
    """An admission that was not charged, and that of its limits that stands in the way for longest."""

    charge: Charge
    retry_after: float | None
    """Seconds after which there may be room; ``None``: as soon as another admission is settled, whenever that is, or never."""
    never: bool = False
    """Whether waiting is in vain: the cost is above the cap, or nothing is left of what does not come back."""
    degraded: bool = False
    """As of :class:`Grant`."""


class Store(Protocol):
    """Who keeps count: this process's memory, or a server that many processes share."""

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        """Charge all or nothing. ``lease``: seconds after which slots and money come back without being settled.

        ``owner``: whose limits these are, such as a tenant's name; limits of different owners cannot be charged together.
        """

    def settle(self, grant: Grant, costs: Sequence[int]) -> Counting[None]:
        """What an admission came to in the end, charge by charge: 0 for what was never sent. Slots are given back whatever
        their cost. The second time changes nothing. Raises ValueError when there are more or fewer costs than charges."""

    def settle_soon(self, grant: Grant, costs: Sequence[int]) -> None:
        """The same without waiting and without a lock: of a cancelled call, or from the garbage collector. It counts with what
        the store does next."""

    def forget(self) -> None:
        """In a forked child: locks, connections and what is under way are the parent's."""


class Level(NamedTuple):
    """Of a rate: how full its bucket was, and when."""

    volume: int
    """Unit-microseconds."""
    at: int
    """Microseconds."""


class Count(NamedTuple):
    """Of any other limit: what was used of one period."""

    number: int
    """Which period: see :func:`period_number`."""
    taken: int
    held: int = 0
    """Not settled yet."""


def pour(charge: Charge, level: Level | None, now: int) -> Level | Denial:
    """Charge a rate. ``now`` in microseconds, of a clock that may jump. A level that nobody knows is empty."""
    if charge.cost > charge.cap:
        return Denial(charge, None, never=True)
    volume = leaked(level, now, charge.cap) + charge.cost * MINUTE
    over = volume - charge.cap * MINUTE
    if over > 0:
        return Denial(charge, -(-over // charge.cap) / MICROSECONDS)
    return Level(volume, now)


def empty_at(level: Level, cap: int) -> int:
    """When all that is in a bucket now will have leaked out, in microseconds."""
    return level.at - (-level.volume // max(1, cap))


def scoop(charge: Charge, level: Level | None, now: int, cost: int, until: int) -> Level:
    """Settle a rate's charge with its cost. ``until``: when it will have leaked out. What has leaked out does not come back."""
    volume, more = leaked(level, now, charge.cap), (cost - charge.cost) * MINUTE
    if more < 0:
        more = -min(-more, max(0, until - now) * charge.cap)
    return Level(max(0, min(volume + more, charge.cap * MINUTE)), now)


def leaked(level: Level | None, now: int, cap: int) -> int:
    """What is still in a bucket, in unit-microseconds. Of what was poured in beyond its brim nothing is known any more."""
    return 0 if level is None else max(0, min(level.volume, cap * MINUTE) - max(0, now - level.at) * cap)


def take(charge: Charge, count: Count | None, wall: float) -> Count | Denial:
    """Charge any other limit. ``wall`` in Unix seconds. Slots and money are held until they are settled."""
    current = current_count(charge, count, wall)
    if charge.cost and current.taken + current.held + charge.cost > charge.cap:
        return _exhausted(charge, current, wall)
    if charge.kind is Kind.DAY:
        return current._replace(taken=current.taken + charge.cost)
    return current._replace(held=current.held + charge.cost)


def settle_count(charge: Charge, count: Count, number: int, cost: int) -> Count:
    """Settle a charge to a period. Of a period that is over nothing changes. Money that is held is given back by
    :func:`give_back`."""
    if count.number != number or charge.kind is Kind.SLOTS:
        return count
    more = cost - charge.cost if charge.kind is Kind.DAY else cost
    return count._replace(taken=max(0, count.taken + more))


def give_back(charge: Charge, count: Count, number: int) -> Count:
    """Let go of what a charge to a period holds."""
    if count.number != number or charge.kind is Kind.DAY:
        return count
    return count._replace(held=count.held - charge.cost)


def current_count(charge: Charge, count: Count | None, wall: float) -> Count:
    """What is used of the present period. A clock that steps back into the last period, even twice, does not begin it anew."""
    number = period_number(charge, wall)
    return count if count is not None and count.number in (number, number + 1) else Count(number, 0)


def period_number(charge: Charge, wall: float) -> int:
    """Days or months since 1970 in UTC, or 0 for what has no period."""
    days = int(wall // _DAY)
    if charge.kind is Kind.DAY or (charge.kind is Kind.MONEY and charge.period == "day"):
        return days
    if charge.kind is Kind.SLOTS or charge.period != "month":
        return 0
    date = _EPOCH + datetime.timedelta(days=days)
    return (date.year - 1970) * 12 + date.month - 1


def period_end(charge: Charge, number: int) -> float | None:
    """When a period ends, in Unix seconds; ``None``: never."""
    if charge.kind is Kind.DAY or (charge.kind is Kind.MONEY and charge.period == "day"):
        return float((number + 1) * _DAY)
    if charge.kind is Kind.SLOTS or charge.period != "month":
        return None
    return float((datetime.date(1970 + (number + 1) // 12, (number + 1) % 12 + 1, 1) - _EPOCH).days * _DAY)


def _exhausted(charge: Charge, current: Count, wall: float) -> Denial:
    if charge.cost > charge.cap:
        return Denial(charge, None, never=True)
    if current.taken + charge.cost <= charge.cap:
        return Denial(charge, None)
    end = period_end(charge, current.number)
    return Denial(charge, None, never=True) if end is None else Denial(charge, max(0.0, end - wall))


def longest(denials: Iterable[Denial]) -> Denial | None:
    """The first of those that stand in the way for longest: one that waiting does not help, else the longest wait."""
    return max(denials, key=lambda denial: (denial.never, denial.retry_after or 0.0), default=None)


def checked_costs(grant: Grant, costs: Sequence[int]) -> tuple[int, ...]:
    """One cost per charge, none negative. Raises ValueError when there are more or fewer."""
    if len(costs) != len(grant.charges):
        raise ValueError(f"{len(costs)} costs for {len(grant.charges)} charges")
    return tuple(max(0, cost) for cost in costs)


def nano_dollars(usd: Decimal) -> int:
    """An amount in whole nano-dollars, rounded up: never in the spender's favour.

    Raises ValueError for what is negative or no number: neither is a price.
    """
    if not usd.is_finite() or usd < 0:
        raise ValueError(f"not an amount of money: {usd}")
    return int(_UP.multiply(usd, 10**9).to_integral_value(decimal.ROUND_CEILING))
