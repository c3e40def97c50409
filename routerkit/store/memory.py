"""Counts limits and budgets in this process's memory: for a client that shares them with nobody."""

from __future__ import annotations

import datetime
import heapq
from collections import deque
from collections.abc import Sequence

import attrs

from routerkit.core.effects import Lock, Runtime, Step
from routerkit.core.limits import MICROSECONDS, Charge, Denial, Grant, Kind, ahead, wait_of_rate

MAX_NAMES = 10_000
"""Limits of each kind that are kept: of more, those that are as good as new are forgotten."""
_DAY = 86_400


@attrs.define(eq=False)
class _Purse:
    """The money of one budget in one period."""

    period: str
    spent: int = 0
    reserved: int = 0


@attrs.define(eq=False)
class _Open:
    """A grant that was not settled yet."""

    grant: Grant
    periods: tuple[str, ...]
    """Of days and money, which one was charged."""


class MemoryStore:
    """One per client, for all its threads, tasks and tenants. What it does takes microseconds and waits for nothing."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.forget()

    def forget(self) -> None:
        """In a forked child: the lock, and what is under way, are the parent's. Each process counts for itself."""
        self._lock: Lock = self._runtime.lock()
        self._tats: dict[str, int] = {}
        self._days: dict[str, tuple[str, int]] = {}
        self._slots: dict[str, int] = {}
        self._purses: dict[str, _Purse] = {}
        self._open: dict[str, _Open] = {}
        self._leases: list[tuple[float, str]] = []
        self._granted = 0
        self._settlements: deque[tuple[Grant, tuple[int, ...]]] = deque()
        """Those whose turn comes with the next admission: it may be the garbage collector that settles, under our lock."""

    def admit(self, charges: Sequence[Charge], lease: float) -> Step[Grant | Denial]:
        yield from ()
        now, wall = self._runtime.monotonic(), self._runtime.wall()
        with self._lock:
            self._catch_up(now)
            denial = self._denial(charges, now, wall)
            return denial or self._charge(tuple(charges), now, wall, lease)

    def look(self, charges: Sequence[Charge]) -> Denial | None:
        """What would stand in the way now; nothing is charged."""
        now, wall = self._runtime.monotonic(), self._runtime.wall()
        with self._lock:
            self._catch_up(now)
            return self._denial(charges, now, wall)

    def settle(self, grant: Grant, costs: Sequence[int]) -> Step[None]:
        self._settlements.append((grant, tuple(costs)))
        yield from ()

    def _catch_up(self, now: float) -> None:
        while self._settlements:
            grant, costs = self._settlements.popleft()
            self._close(grant.identity, costs)
        while self._leases and self._leases[0][0] <= now:
            self._close(heapq.heappop(self._leases)[1], None)

    def _denial(self, charges: Sequence[Charge], now: float, wall: float) -> Denial | None:
        """The limit that stands in the way for longest."""
        denials = [denial for charge in charges if (denial := self._refusal(charge, now, wall)) is not None]
        return max(denials, key=_patience) if denials else None

    def _refusal(self, charge: Charge, now: float, wall: float) -> Denial | None:
        if charge.kind is Kind.RATE:
            if charge.cost > charge.cap:
                return Denial(charge, None, never=True)
            at = int(now * MICROSECONDS)
            wait = wait_of_rate(self._tats.get(charge.name, at), at, charge.cost, charge.cap)
            return Denial(charge, wait / MICROSECONDS) if wait else None
        if charge.kind is Kind.SLOTS:
            return Denial(charge, None) if self._slots.get(charge.name, 0) + charge.cost > charge.cap else None
        if charge.cost + self._used(charge, wall) <= charge.cap:
            return None
        ends = None if charge.cost > charge.cap else period_end(charge, wall)
        return Denial(charge, None if ends is None else ends - wall, never=ends is None)

    def _used(self, charge: Charge, wall: float) -> int:
        """Of a day or a budget, in the present period."""
        period = period_of(charge, wall)
        if charge.kind is Kind.DAY:
            day, count = self._days.get(charge.name, (period, 0))
            return count if day == period else 0
        purse = self._purses.get(charge.name)
        return purse.spent + purse.reserved if purse is not None and purse.period == period else 0

    def _charge(self, charges: tuple[Charge, ...], now: float, wall: float, lease: float) -> Grant:
        self._make_room(now, wall)
        self._granted += 1
        grant = Grant(str(self._granted), charges)
        periods = tuple(self._take(charge, now, wall) for charge in charges)
        self._open[grant.identity] = _Open(grant, periods)
        heapq.heappush(self._leases, (now + lease, grant.identity))
        return grant

    def _take(self, charge: Charge, now: float, wall: float) -> str:
        """Charge one limit. Returns the period that was charged."""
        period = period_of(charge, wall)
        if charge.kind is Kind.RATE:
            at = int(now * MICROSECONDS)
            self._tats[charge.name] = max(self._tats.get(charge.name, at), at) + ahead(charge.cost, charge.cap)
        elif charge.kind is Kind.SLOTS:
            self._slots[charge.name] = self._slots.get(charge.name, 0) + charge.cost
        elif charge.kind is Kind.DAY:
            self._days[charge.name] = (period, self._used(charge, wall) + charge.cost)
        else:
            purse = self._purses.get(charge.name)
            if purse is None or purse.period != period:
                purse = self._purses[charge.name] = _Purse(period)
            purse.reserved += charge.cost
        return period

    def _close(self, identity: str, costs: tuple[int, ...] | None) -> None:
        """Settle a grant; ``None``: its lease is over, so what it held comes back and what it took stays taken."""
        opened = self._open.pop(identity, None)
        if opened is None:
            return
        charges = opened.grant.charges
        for charge, period, cost in zip(charges, opened.periods, costs or (None,) * len(charges), strict=True):
            self._settle_one(charge, period, cost)

    def _settle_one(self, charge: Charge, period: str, cost: int | None) -> None:
        if charge.kind is Kind.SLOTS:
            left = self._slots.get(charge.name, 0) - charge.cost
            if left > 0:
                self._slots[charge.name] = left
            else:
                self._slots.pop(charge.name, None)
        elif charge.kind is Kind.MONEY:
            purse = self._purses.get(charge.name)
            if purse is not None and purse.period == period:
                purse.reserved -= charge.cost
                purse.spent += cost or 0
        elif cost is not None and charge.kind is Kind.DAY:
            day, count = self._days.get(charge.name, (period, 0))
            if day == period:
                self._days[charge.name] = (day, max(0, count + cost - charge.cost))
        elif cost is not None and charge.name in self._tats:
            self._tats[charge.name] += ahead(cost, charge.cap) - ahead(charge.cost, charge.cap)

    def _make_room(self, now: float, wall: float) -> None:
        """Names may come from users, and memory must not grow with them."""
        if len(self._tats) >= MAX_NAMES:
            at = int(now * MICROSECONDS)
            self._tats = {name: tat for name, tat in self._tats.items() if tat > at}
        if len(self._days) >= MAX_NAMES:
            today = _date(wall).isoformat()
            self._days = {name: entry for name, entry in self._days.items() if entry[0] == today}


def period_of(charge: Charge, wall: float) -> str:
    """The name of the present period of a day's limit or of a budget: ``2026-11-21``, ``2026-11``, or nothing."""
    if charge.kind is Kind.DAY or charge.period == "day":
        return _date(wall).isoformat()
    return _date(wall).isoformat()[:7] if charge.period == "month" else ""


def period_end(charge: Charge, wall: float) -> float | None:
    """When the present period ends, in Unix seconds; ``None``: never."""
    day = _date(wall)
    if charge.kind is Kind.DAY or charge.period == "day":
        return (wall // _DAY + 1) * _DAY
    if charge.period != "month":
        return None
    following = (day.replace(day=1) + datetime.timedelta(days=32)).replace(day=1)
    return float(datetime.datetime.combine(following, datetime.time(), datetime.timezone.utc).timestamp())


def _date(wall: float) -> datetime.date:
    return datetime.datetime.fromtimestamp(wall, datetime.timezone.utc).date()


def _patience(denial: Denial) -> tuple[bool, float]:
    """Longest last: never after any time, nobody knows after any that is known."""
    return denial.never, float("inf") if denial.retry_after is None else denial.retry_after
