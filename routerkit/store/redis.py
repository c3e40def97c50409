"""Counts limits and budgets in Redis or Valkey, for all processes that share them.

One script charges an admission to all of its limits or to none, another settles it. The time is Redis's. What cannot be said to
Redis at once, as it does not answer or as the caller is gone, is said later: settling is done once, however often it is said.

While Redis is lost each process decides alone (:mod:`routerkit.store.redis_alone`), says so in every decision, and asks as
rarely as :mod:`routerkit.store.redis_gate` lets it. When Redis is back it is told once what was admitted meanwhile; when it has
lost its counts they go on from the most that anybody remembers.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from routerkit.core.effects import Loss, Runtime, StoreFailure
from routerkit.core.limits import (
    MAX_LEASE,
    MICROSECONDS,
    Charge,
    Count,
    Denial,
    Grant,
    Kind,
    checked_costs,
    longest,
    nano_dollars,
    period_number,
    take,
)
from routerkit.errors import ConfigurationError
from routerkit.store.memory import MAX_NAMES
from routerkit.store.redis_address import address_of
from routerkit.store.redis_alone import COUNTED, NOTHING, Alone, Batch, Item, Knowledge
from routerkit.store.redis_ask import ADD, ADMIT, CHECK, SECONDS, SETTLE, Asking, ask
from routerkit.store.redis_board import RedisBoard
from routerkit.store.redis_line import Line, numbers
from routerkit.store.redis_names import Names
from routerkit.types.event import StoreChanged, StoreState
from routerkit.types.store import StoreReport

if TYPE_CHECKING:
    from routerkit.store.redis_async import AsyncRedisLink
    from routerkit.store.redis_link import RedisLink

MAX_WAITING = 10_000
"""Settlements and batches that wait for Redis: of more, the oldest are dropped, and what they hold comes back with its lease."""
AT_A_TIME = 8
"""Of these, how many one admission or settlement takes along, as long as that takes no longer than one may take."""
FLUSH_SECONDS = 1.0
"""That closing a client may take to tell Redis of the rest."""
RESETS = 60.0
"""Seconds in which lost counts are told of once: a flush loses all of them, and each is noticed when it is next charged."""

log = logging.getLogger("routerkit")


@attrs.define(eq=False)
class _Waiting:
    """A settlement that Redis has to be told of."""

    identity: str
    charges: tuple[Charge, ...]
    owner: str
    costs: tuple[int, ...]
    certain: bool
    """Whether it was admitted and not settled, for all we know."""


class RedisStore:
    """One per client, for all its threads, tasks and tenants. Its methods are steps that yield :class:`Ask`."""

    def __init__(
        self,
        url: str,
        runtime: Runtime,
        namespace: str = "routerkit",
        workers: int = 1,
        offline_allowance: Decimal = Decimal(1),
        notify: Callable[[StoreChanged], object] | None = None,
        max_names: int = MAX_NAMES,
    ) -> None:
        """``url``: see :func:`routerkit.store.redis_address.address_of`. ``namespace``: those who share it share their limits.

        ``workers``: how many processes share the limits; each has that share of them while Redis is lost.
        ``offline_allowance``: US dollars that each may then spend of a budget. ``notify`` is told when Redis is lost, is back, or
        had lost its counts. ``max_names``: limits of which something is remembered. Raises ConfigurationError.
        """
        given = [url]
        del url  # error trackers show the locals of frames, and this one may hold a password
        self.address = address_of(given.pop())
        if not isinstance(namespace, str) or not 0 < len(namespace) <= 200:
            raise ConfigurationError("store: the namespace must be a text of 1 to 200 characters")
        if not isinstance(workers, int) or isinstance(workers, bool) or not 0 < workers <= 10**6:
            raise ConfigurationError("store: workers must be a whole number from 1 on")
        if not isinstance(offline_allowance, Decimal) or not offline_allowance.is_finite() or offline_allowance < 0:
            raise ConfigurationError("store: offline_allowance must be a Decimal from 0 on")
        self._runtime = runtime
        self._names = Names(namespace)
        self._line = Line(runtime, self.address, self._names, notify)
        self._knowledge = Knowledge(max_names)
        self._alone = Alone(runtime, workers, nano_dollars(offline_allowance), max_names)
        self._degraded = self._added = self._dropped = 0
        self._resets_told = -RESETS
        self.board = RedisBoard(self._line, self._names)
        """What processes tell each other beside counts."""
        self.forget()

    def __repr__(self) -> str:
        address = getattr(self, "address", None)  # it could not be made
        return f"RedisStore({'' if address is None else repr(str(address))})"

    def link(self) -> RedisLink:
        """What performs our :class:`Ask` for threads. Raises ConfigurationError where redis-py is not installed."""
        _installed()
        from routerkit.store.redis_link import RedisLink

        return RedisLink(self.address)

    def async_link(self) -> AsyncRedisLink:
        """What performs our :class:`Ask` for tasks. Raises ConfigurationError where redis-py is not installed."""
        _installed()
        from routerkit.store.redis_async import AsyncRedisLink

        return AsyncRedisLink(self.address)

    def forget(self) -> None:
        """In a forked child: the lock, and what is under way, are the parent's. Links have a ``forget`` of their own."""
        self._line.forget()
        self.board.forget()
        self._lock = self._line.lock
        self._alone.forget()
        self._settlements: deque[_Waiting] = deque()
        self._settlements_alone: deque[tuple[Grant, tuple[int, ...]]] = deque()
        self._batches: deque[Batch] = deque()

    def report(self) -> StoreReport:
        """How it goes."""
        with self._lock:
            return StoreReport(
                self._line.gate.lost,
                self._line.losses,
                self._degraded,
                self._added,
                self._knowledge.resets,
                self._line.replaced,
                self._dropped,
            )

    def check(self) -> Asking[bool]:
        """Whether Redis can be used, to be asked at the start: with every command that we use. Where it cannot, each process
        counts for itself from the start. Raises ConfigurationError when Redis refuses the login, or what we have to do.
        """
        try:
            numbers(3)((yield ask(CHECK, (self._names.check(self._line.identity()),))))
        except StoreFailure as failure:
            self._line.failed(failure, hopeless=True)
            if failure.loss is not Loss.DENIED:
                return False
            refused = ConfigurationError(f"store: {self.address} refuses us: {failure.detail}")
        else:
            return True
        raise refused

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Asking[Grant | Denial]:
        charges = tuple(charges)
        lease = min(lease, MAX_LEASE)
        yield from self._tell_waiting()  # a cancelled call may hold the very slots that are asked for
        yield from self._come_back(owner)
        identity = self._line.identity()
        keys = self._keys(identity, charges, owner)
        if not self._line.enter():
            return self._admit_alone(charges, keys, lease, owner, identity)
        unsent = _Waiting(identity, charges, owner, (0,) * len(charges), certain=False)
        with self._lock:
            order = ask(ADMIT, keys, self._admission(identity, charges, keys, lease))
        try:
            reply = yield from self._line.answer(order, numbers(3 + 4 * len(charges)))
        except BaseException:
            self._wait(unsent)
            raise
        if reply is None:
            self._wait(unsent)
            return self._admit_alone(charges, keys, lease, owner, identity)
        return self._judged(reply, identity, charges, keys, owner)

    def settle(self, grant: Grant, costs: Sequence[int]) -> Asking[None]:
        self.settle_soon(grant, costs)
        self._settle_alone()
        yield from self._tell_waiting()
        yield from self._come_back(grant.owner)

    def flush(self) -> Asking[None]:
        """Before the end: tell Redis all that waits for it, as long as it answers."""
        yield from self._come_back("")
        self._settle_alone()
        until = self._runtime.monotonic() + FLUSH_SECONDS
        while self._settlements and not self._line.gate.suspicious and self._runtime.monotonic() < until:
            yield from self._tell_waiting()
        yield from self.board.flush()

    def settle_soon(self, grant: Grant, costs: Sequence[int]) -> None:
        checked = checked_costs(grant, costs)
        if not grant.claim() or not self._line.is_ours(grant.identity):
            return  # a copy of the parent's stream may still be closed in a forked child: the parent settles it
        if grant.degraded:
            self._settlements_alone.append((grant, checked))
        else:
            self._wait(_Waiting(grant.identity, grant.charges, grant.owner, checked, certain=True))

    # --- asking ---

    def _admission(
        self, identity: str, charges: tuple[Charge, ...], keys: tuple[str, ...], lease: float
    ) -> tuple[str | int, ...]:
        args: list[str | int] = [int(lease * 1000), identity]
        for charge, key in zip(charges, keys[1::2], strict=True):
            args += (charge.kind._value_, charge.cap, charge.cost, charge.period)
            known = self._knowledge.of(key)
            args += known if known.birth else NOTHING
        return tuple(args)

    def _judged(
        self, reply: list[int], identity: str, charges: tuple[Charge, ...], keys: tuple[str, ...], owner: str
    ) -> Grant | Denial:
        granted, wall = reply[0] == 1, reply[1] / MICROSECONDS
        denials: list[Denial] = []
        for place, charge in enumerate(charges):
            number, taken, held, birth = reply[3 + 4 * place : 7 + 4 * place]
            if charge.kind in COUNTED:
                more = charge.cost if granted and charge.kind is Kind.DAY else 0
                self._learn(charge, keys[1 + 2 * place], number, birth, taken + more)
            if not granted:
                denials += _denials(charge, Count(number, taken, held), wall)
        if granted or not charges:
            return Grant(identity, charges, owner)
        # Redis counts in floating point: beyond nine million dollars it may see a limit that is reached by a hair, and we none.
        return longest(denials) or Denial(max(charges, key=lambda charge: charge.cost), None)

    def _tell_waiting(self) -> Asking[None]:
        """Settle in Redis what waits for it, as far as there is time. Costs nothing when nothing does."""
        if not self._settlements:
            return
        until = self._runtime.monotonic() + SECONDS
        for number in range(AT_A_TIME):
            if number and self._runtime.monotonic() >= until:
                break
            try:
                waiting = self._settlements.popleft()
            except IndexError:
                break
            told = False
            try:
                told = yield from self._tell(waiting)
            finally:
                if not told:
                    self._settlements.appendleft(waiting)
            if not told:
                break

    def _tell(self, waiting: _Waiting) -> Asking[bool]:
        """Settle in Redis. Returns whether that is done."""
        if not (yield from self._line.probe(waiting.owner)) or not self._line.enter():
            return False
        charges, keys = waiting.charges, self._keys(waiting.identity, waiting.charges, waiting.owner)
        order = ask(SETTLE, keys, _settlement(waiting.identity, charges, waiting.costs))
        certain, waiting.certain = waiting.certain, False  # without a reply nobody knows
        reply = yield from self._line.answer(order, numbers(3 + 4 * len(charges)), proof=False)
        if reply is None:
            return False
        if reply[0] == 0 and certain:
            self._spent_unseen(waiting, reply[1] / MICROSECONDS)
        for place, charge in enumerate(charges):
            number, taken, _, birth = reply[3 + 4 * place : 7 + 4 * place]
            if charge.kind in COUNTED and birth:
                self._learn(charge, keys[1 + 2 * place], number, birth, taken)
        return True

    def _learn(self, charge: Charge, key: str, number: int, birth: int, taken: int) -> None:
        """What Redis said of a day or a budget."""
        with self._lock:
            lost = self._knowledge.learn(key, number, birth, taken)
            now = self._runtime.monotonic()
            tell = lost and now - self._resets_told >= RESETS
            if tell:
                self._resets_told = now
        if tell:
            log.warning("Redis at %s had lost its counts: they go on from what was remembered", self.address)
            self._line.tell(StoreState.RESET, str(charge.kind))

    # --- while Redis is lost, and after ---

    def _admit_alone(
        self, charges: tuple[Charge, ...], keys: tuple[str, ...], lease: float, owner: str, identity: str
    ) -> Grant | Denial:
        self._settle_alone()
        with self._lock:
            self._degraded += 1
            made = self._alone.admit(charges, keys[1::2], lease, owner, self._knowledge)
            again = max(0.0, self._line.gate.opens_at - self._runtime.monotonic())
        if not isinstance(made, Denial):
            return Grant(identity, charges, owner, degraded=True, memo=made)
        if made.never:
            return attrs.evolve(made, degraded=True)
        after = again if made.retry_after is None else min(again, made.retry_after)
        return attrs.evolve(made, retry_after=after, degraded=True)

    def _settle_alone(self) -> None:
        """Settle what this process admitted by itself."""
        while self._settlements_alone:
            try:
                grant, costs = self._settlements_alone.popleft()
            except IndexError:  # another thread was faster
                return
            with self._lock:
                batch = self._alone.settle(grant.memo, grant.charges, costs)
            if batch is not None:
                self._file(attrs.evolve(batch, identity=grant.identity))

    def _spent_unseen(self, waiting: _Waiting, wall: float) -> None:
        """Redis has lost a grant that it had given: what was spent is not to be lost with it."""
        items = [
            Item(charge, period_number(charge, wall), cost)
            for charge, cost in zip(waiting.charges, waiting.costs, strict=True)
            if charge.kind is Kind.MONEY and cost
        ]
        if items:
            self._file(Batch(waiting.identity, waiting.owner, tuple(items)))

    def _come_back(self, owner: str) -> Asking[None]:
        """Tell Redis what was admitted without it. Costs nothing when there is nothing to tell."""
        if not self._alone.charged and not self._batches:
            return
        if not (yield from self._line.probe(owner)):
            return
        self._settle_alone()
        if not self._batches:  # else it was lost again before it was told: no new share before it is
            with self._lock:
                batches = self._alone.told(self._knowledge)
            for batch in batches:
                self._file(attrs.evolve(batch, identity=self._line.identity()))
        for _ in range(AT_A_TIME):
            try:
                batch = self._batches.popleft()
            except IndexError:
                return
            told = False
            try:
                told = yield from self._add(batch)
            finally:
                if not told:
                    self._batches.appendleft(batch)
            if not told:
                return

    def _add(self, batch: Batch) -> Asking[bool]:
        if not self._line.enter():
            return False
        keys = [self._names.batch(batch.identity, batch.owner)]
        args: list[str | int] = []
        for charge, number, units in batch.items:
            keys.append(self._names.limit(charge, batch.owner)[0])
            args += (charge.kind._value_, charge.cap, charge.period, number, units)
        if (yield from self._line.answer(ask(ADD, tuple(keys), tuple(args)), numbers(3))) is None:
            return False
        with self._lock:
            self._added += 1
            if batch.known:
                for key, (_, number, units) in zip(keys[1:], batch.items, strict=True):
                    self._knowledge.told(key, number, units)
        return True

    # --- small things ---

    def _keys(self, identity: str, charges: tuple[Charge, ...], owner: str) -> tuple[str, ...]:
        keys = [self._names.grant(identity, owner)]
        for charge in charges:
            keys += self._names.limit(charge, owner)
        return tuple(keys)

    def _wait(self, waiting: _Waiting) -> None:
        self._settlements.append(waiting)
        if len(self._settlements) > MAX_WAITING:
            self._settlements.popleft()
            self._dropped += 1

    def _file(self, batch: Batch) -> None:
        self._batches.append(batch)
        if len(self._batches) > MAX_WAITING:
            self._batches.popleft()
            self._dropped += 1


def _settlement(identity: str, charges: tuple[Charge, ...], costs: tuple[int, ...]) -> tuple[str | int, ...]:
    args: list[str | int] = [identity]
    for charge, cost in zip(charges, costs, strict=True):
        args += (charge.kind._value_, charge.cap, charge.cost, charge.period, cost)
    return tuple(args)


def _denials(charge: Charge, count: Count, wall: float) -> list[Denial]:
    """What Redis's numbers for a charge mean. Of a rate the first of them is the time to wait."""
    if charge.kind is not Kind.RATE:
        made = take(charge, count, wall)
        return [made] if isinstance(made, Denial) else []
    if charge.cost > charge.cap:
        return [Denial(charge, None, never=True)]
    return [Denial(charge, count.number / MICROSECONDS)] if count.number else []


def _installed() -> None:
    try:
        import redis
    except ImportError:
        raise ConfigurationError("store: Redis needs redis-py: pip install 'routerkit[redis]'") from None
    if int(redis.__version__.partition(".")[0]) < 5:
        raise ConfigurationError(f"store: redis-py {redis.__version__} is too old, 5 or later is needed")
