"""Counts limits and budgets in this process's memory: for a client that shares them with nobody."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import TypeAlias, cast

import attrs

from routerkit.core.effects import Lock, Runtime
from routerkit.core.limits import (
    MAX_LEASE,
    MICROSECONDS,
    MINUTE,
    Charge,
    Count,
    Counting,
    Denial,
    Grant,
    Kind,
    Level,
    checked_costs,
    current_count,
    empty_at,
    give_back,
    leaked,
    longest,
    pour,
    scoop,
    settle_count,
    take,
)

MAX_NAMES = 10_000
"""Limits that are kept: of more, those are forgotten that were charged longest ago and of which nothing is held."""
_LOOKS = 16

_Key: TypeAlias = tuple[str, str, str, str]
_State: TypeAlias = Level | Count


@attrs.define(eq=False)
class _Hold:
    """What a grant is to the store, until it is settled."""

    charges: tuple[Charge, ...]
    owner: str
    tokens: tuple[int, ...]
    """Of rates, when the charge will have leaked out; of others, the period that was charged."""
    leased: bool = True
    settled: bool = False


class MemoryStore:
    """One per client, for all its threads, tasks and tenants. What it does takes microseconds and waits for nothing."""

    def __init__(self, runtime: Runtime, max_names: int = MAX_NAMES) -> None:
        self._runtime = runtime
        self._max_names = max_names
        self._states: OrderedDict[_Key, _State] = OrderedDict()
        self.forget()

    def forget(self) -> None:
        """In a forked child: the lock, and what is under way, are the parent's. What was used stays used; from here on each
        process counts for itself."""
        self._lock: Lock = self._runtime.lock()
        for _, _, hold in getattr(self, "_leases", ()):
            hold.leased = False  # a copy of the parent's stream may still be closed here: it gives nothing back
        self._leases: list[tuple[float, int, _Hold]] = []
        self._open = 0
        """Those of ``_leases`` that are not settled."""
        self._granted = 0
        self._settlements: deque[tuple[_Hold, tuple[int, ...]]] = deque()
        """Those whose turn comes with the next admission: it may be the garbage collector that settles, under our lock."""
        for key, state in tuple(self._states.items()):
            if isinstance(state, Count):
                self._states[key] = state._replace(held=0)

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        yield from ()
        return self.admit_now(charges, lease, owner)

    def admit_now(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Grant | Denial:
        """What :meth:`admit` comes to; no server has to be asked."""
        now, wall = self._runtime.monotonic(), self._runtime.wall()
        with self._lock:
            self._catch_up(now)
            changed: dict[_Key, _State] = {}
            denials: list[Denial] = []
            tokens = [self._try(charge, owner, int(now * MICROSECONDS), wall, changed, denials) for charge in charges]
            denial = longest(denials)
            if denial is not None:
                return denial
            for key, state in changed.items():
                self._states[key] = state
                self._states.move_to_end(key)
            self._make_room()
            return self._grant(_Hold(tuple(charges), owner, tuple(tokens)), now + min(lease, MAX_LEASE))

    def settle(self, grant: Grant, costs: Sequence[int]) -> Counting[None]:
        self.settle_soon(grant, costs)
        yield from ()

    def settle_soon(self, grant: Grant, costs: Sequence[int]) -> None:
        checked = checked_costs(grant, costs)
        if grant.claim():
            self._settlements.append((grant.memo, checked))

    def used(self, charge: Charge, owner: str = "") -> int:
        """Units that are taken of a limit now and are not merely held; of a rate, those that have not come back, rounded up."""
        now, wall = self._runtime.monotonic(), self._runtime.wall()
        with self._lock:
            self._catch_up(now)
            state = self._states.get(_key(charge, owner))
        if charge.kind is not Kind.RATE:
            return current_count(charge, cast("Count | None", state), wall).taken
        return -(-leaked(cast("Level | None", state), int(now * MICROSECONDS), charge.cap) // MINUTE)

    def take_out(self, charge: Charge, owner: str = "") -> int:
        """Units that are taken of a day or a budget, and from now on somebody else's to count. What is held stays."""
        now, wall = self._runtime.monotonic(), self._runtime.wall()
        with self._lock:
            self._catch_up(now)
            key = _key(charge, owner)
            count = current_count(charge, cast("Count | None", self._states.get(key)), wall)
            self._states[key] = count._replace(taken=0)
            return count.taken

    def _try(
        self, charge: Charge, owner: str, at: int, wall: float, changed: dict[_Key, _State], denials: list[Denial]
    ) -> int:
        """Charge one limit, after those that are charged already. Returns its token."""
        key = _key(charge, owner)
        state = changed.get(key) or self._states.get(key)
        made: _State | Denial
        if charge.kind is not Kind.RATE:
            made = take(charge, cast("Count | None", state), wall)
        else:
            level = cast("Level | None", state)
            if level is not None and level.at > at:  # the clock has jumped back: from here on it leaks again
                self._states[key] = level = level._replace(at=at)
            made = pour(charge, level, at)
        if isinstance(made, Denial):
            denials.append(made)
            return 0
        changed[key] = made
        return empty_at(made, charge.cap) if isinstance(made, Level) else made.number

    def _grant(self, hold: _Hold, until: float) -> Grant:
        self._granted += 1
        self._open += 1
        heapq.heappush(self._leases, (until, self._granted, hold))
        return Grant(str(self._granted), hold.charges, hold.owner, memo=hold)

    def _catch_up(self, now: float) -> None:
        while self._settlements:
            self._settle(*self._settlements.popleft(), int(now * MICROSECONDS))
        while self._leases and self._leases[0][0] <= now:
            self._release(heapq.heappop(self._leases)[2])
        if len(self._leases) > 2 * self._open + 64:
            self._leases = [each for each in self._leases if not each[2].settled]
            heapq.heapify(self._leases)

    def _release(self, hold: _Hold) -> None:
        """Give back what a grant holds: it is settled, or its lease is over, and then what it took stays taken."""
        if not hold.leased:
            return
        hold.leased = False
        self._open -= 1
        for charge, token in zip(hold.charges, hold.tokens, strict=True):
            key = _key(charge, hold.owner)
            state = self._states.get(key)
            if isinstance(state, Count):
                self._states[key] = give_back(charge, state, token)

    def _settle(self, hold: _Hold, costs: tuple[int, ...], at: int) -> None:
        """Also when the lease is over: what was spent late was spent."""
        hold.settled = True
        self._release(hold)
        for charge, token, cost in zip(hold.charges, hold.tokens, costs, strict=True):
            key = _key(charge, hold.owner)
            state = self._states.get(key)
            if charge.kind is Kind.RATE:
                self._states[key] = scoop(charge, cast("Level | None", state), at, cost, token)
            else:
                # Not known any more: one that was forgotten while nothing of it was held.
                count = state if isinstance(state, Count) else Count(token, 0)
                self._states[key] = settle_count(charge, count, token, cost)

    def _make_room(self) -> None:
        """Names may come from users, and memory must not grow with them."""
        for _ in range(_LOOKS):
            if len(self._states) <= self._max_names:
                return
            key, state = self._states.popitem(last=False)
            if isinstance(state, Count) and state.held:
                self._states[key] = state


def _key(charge: Charge, owner: str) -> _Key:
    return owner, charge.name, charge.kind._value_, charge.period
