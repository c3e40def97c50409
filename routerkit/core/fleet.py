"""What the processes of a fleet tell each other through the store, beside counts: which breakers opened, who probes, the
catalogue, how fast targets are. All of it is advice: without it each process goes by what it sees itself.

A breaker that opens by what its process saw is told of, and told of again when it closes. A hint of it stands for as long as it is
open, and for :data:`PROBING` longer, while somebody has to probe. Who hears of one and knows no better opens its own breaker for as
long. Then one process probes, who holds the lease; the others wait for what it finds out: its breaker closes, the hint is gone, and
with it all openings that go by it; or it opens again, which is a new hint.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from routerkit.core.breaker import Breaker, Permit
from routerkit.core.effects import Runtime
from routerkit.core.entries import Added, Entry, Page
from routerkit.core.health import Admission, Health, Refusal, refusal_of
from routerkit.core.limits import Charge, Counting
from routerkit.types.event import BreakerState
from routerkit.types.verdict import Blame, Sample

INTERVAL = 1.0
"""Seconds between two times that a process without news asks for hints."""
FRESH = 1.0
"""Seconds before a hint was told from which on it counts for more that this process saw the model, or gateway, work."""
MAX_LEASE = 60.0
"""Seconds for which a probe is the fleet's only one, at most."""
PROBING = 2 * MAX_LEASE
"""Seconds for which a hint stands after its breaker's time is over, so that those who went by it learn what a probe found out."""
REFUSED = 1.0
"""Seconds after which a process that was refused a lease may ask again."""
MAX_HINTS = 10_000
"""That one process keeps."""
MAX_NEWS = 100
"""That are told at once; more wait for the next call."""


class News(NamedTuple):
    """A breaker of this process opened or closed."""

    scope: str
    """``model on gateway``, or a gateway."""
    seconds: float
    """How long the hint stands from now on; 0: the breaker closed."""


class Hint(NamedTuple):
    """A breaker of some process opened."""

    left: float
    """Seconds that the hint still stands."""
    age: float
    """Seconds since it was told."""


class Blob(NamedTuple):
    """Bytes that some process wrote."""

    data: bytes
    age: float
    """Seconds since they were written."""


class Taken(NamedTuple):
    """What is used of a limit."""

    number: int
    """Of a rate the level of its bucket, in unit-microseconds; of any other the period, see :func:`period_number`."""
    taken: int
    held: int


class Board(Protocol):
    """The store's part. All times are of its server's clock; whatever cannot be asked now is ``None``."""

    def name(self, scope: str) -> str:
        """What a scope is called there: nothing that anybody chose stands in it."""

    def exchange(self, news: Sequence[News]) -> Counting[Mapping[str, Hint] | None]:
        """Publish these, and learn all hints that hold, by :meth:`name`."""

    def lease(self, scope: str, seconds: float) -> Counting[bool | None]:
        """Whether this process may do alone, for so long, what only one should do. Who is interrupted meanwhile holds nothing."""

    def release(self, scope: str) -> Counting[None]:
        """It is done. A lease that somebody else holds meanwhile stays."""

    def release_soon(self, scope: str) -> None:
        """The same without waiting and without a lock: of a cancelled call. It is told with what is asked next."""

    def read(self, name: str) -> Counting[Blob | None]:
        """What was written under a name; ``None`` also where there is nothing that may be read."""

    def write(self, name: str, data: bytes, seconds: float) -> Counting[None]:
        """Have it kept for so long."""

    def tell(self, number: int, day: int, entries: Sequence[Entry]) -> Counting[Added | None]:
        """Have these added to what is kept for today, which is taken to be this day. ``number``: 1, 2, 3, … of this process: each
        is added once, however often it is said."""

    def page(self, day: int, part: int) -> Counting[Page | None]:
        """What all processes told on a day, in :data:`PARTS` parts, counted from 0."""

    def look(self, owner: str, charges: Sequence[Charge]) -> Counting[tuple[float, list[Taken]] | None]:
        """What is used of some limits of one owner, charge by charge; and the present, in Unix seconds."""

    def forget(self) -> None:
        """In a forked child: locks, leases and what is under way are the parent's."""


class Leases:
    """Of one admission: by which it is the only one of its fleet that probes."""

    __slots__ = ("_board", "_scopes")

    def __init__(self, board: Board) -> None:
        self._board = board
        self._scopes: list[str] = []

    def take(self, scope: str, seconds: float) -> Counting[bool | None]:
        """As :meth:`Board.lease`."""
        name = f"probe {scope}"
        leased = yield from self._board.lease(name, seconds)
        if leased:
            self._scopes.append(name)
        return leased

    def give_back(self) -> Counting[None]:
        while self._scopes:
            yield from self._board.release(self._scopes.pop())

    def give_back_soon(self) -> None:
        """The same without waiting and without a lock."""
        while self._scopes:
            self._board.release_soon(self._scopes.pop())


class _Heard(NamedTuple):
    """A hint, by this process's clock. None of its times is later than it is by the server's."""

    told: float
    until: float
    """When the breaker's time is over."""
    ends: float


class Hearsay:
    """What a process has to tell of its breakers, and what it heard of others'. Its owner, :class:`Health`, locks it with them."""

    def __init__(self, name: Callable[[str], str]) -> None:
        self._name = name
        self._breakers: WeakValueDictionary[str, Breaker] = WeakValueDictionary()
        """By the names of their scopes."""
        self._heard: dict[str, _Heard] = {}
        self._followed: dict[str, tuple[float, float]] = {}
        """Of breakers that go by hearsay, by name: since when, and when the hint ends."""
        self._learned = float("-inf")
        """When that was asked which was heard last."""
        self.news: dict[str, float | None] = {}
        """By scope, until when its breaker is open; ``None``: it closed. Changed in single, atomic steps only."""

    def note(self, breaker: Breaker) -> None:
        """What this process saw has opened or closed it."""
        self.news[breaker.scope] = None if breaker.state is BreakerState.CLOSED else breaker.open_until

    def take(self, now: float) -> list[News]:
        """What is to be told now. Takes no lock."""
        taken: list[News] = []
        while len(taken) < MAX_NEWS:
            try:
                scope, until = self.news.popitem()
            except KeyError:
                break
            if until is None:
                taken.append(News(scope, 0.0))
            elif until > now:
                taken.append(News(scope, until - now + PROBING))
        return taken

    def keep(self, taken: Sequence[News], now: float) -> None:
        """They were not told: what opened is told later, unless there is fresher news. What closed is not, as somebody may have
        seen failures since. Takes no lock."""
        for scope, seconds in taken:
            if seconds:
                self.news.setdefault(scope, now + seconds - PROBING)

    def know(self, breaker: Breaker, now: float) -> None:
        """A breaker is new here."""
        name = self._name(breaker.scope)
        self._breakers[name] = breaker
        heard = self._heard.get(name)
        if heard is not None:
            self._heed(name, breaker, heard, now)

    def learn(self, asked: float, hints: Mapping[str, Hint], now: float) -> None:
        """These are all hints, by the answer to a question of then."""
        if asked < self._learned:
            return
        self._learned = asked
        self._heard = {
            name: _Heard(asked - hint.age, asked + hint.left - PROBING, asked + hint.left)
            for name, hint in islice(hints.items(), MAX_HINTS)
        }
        for name, (since, ends) in tuple(self._followed.items()):
            heard = self._heard.get(name)
            if heard is not None:
                self._followed[name] = since, heard.ends
            elif asked >= since:
                del self._followed[name]
                breaker = self._breakers.get(name)
                if breaker is not None and now < ends:  # it did not come to its end: somebody saw that all is well
                    breaker.retract(now)
        for name, heard in self._heard.items():
            breaker = self._breakers.get(name)
            if breaker is not None:
                self._heed(name, breaker, heard, now)

    def defer(self, permit: Permit, now: float) -> None:
        """Another process probes: what becomes of its hint holds here too."""
        permit.breaker.defer(permit, now, now + REFUSED)
        self._followed[self._name(permit.breaker.scope)] = now, now + MAX_LEASE

    def stands(self, scope: str, until: float) -> bool:
        """Whether there is a hint that does not end before."""
        heard = self._heard.get(self._name(scope))
        return heard is not None and heard.ends >= until

    def forget_news(self) -> None:
        """In a forked child: the parent tells its own."""
        self.news.clear()

    def _heed(self, name: str, breaker: Breaker, heard: _Heard, now: float) -> None:
        if breaker.good_at < heard.told - FRESH and breaker.adopt(now, heard.until):
            self._followed[name] = now, heard.ends


class Fleet:
    """This process among those that share a board. While that cannot be asked, each acts alone.

    Its steps yield only what the board's yield.
    """

    def __init__(self, runtime: Runtime, board: Board, health: Health) -> None:
        self._runtime = runtime
        self._board = board
        self._health = health
        self._hearsay = Hearsay(board.name)
        health.follow(self._hearsay)
        self._begin()

    def _begin(self) -> None:
        self._turn: deque[None] = deque([None])
        """Empty while a call asks for all."""
        self._next = float("-inf")
        """When to ask although there are no news."""
        self._lost = False

    def forked(self) -> None:
        """In a forked child: what is under way is the parent's."""
        self._board.forget()
        self._hearsay.forget_news()
        self._begin()

    def sync(self) -> Counting[None]:
        """Tell and hear what is new: at the start of every call. Mostly there is nothing to do."""
        if self._runtime.monotonic() < self._next and (self._lost or not self._hearsay.news):
            return
        turn = self._turn
        try:
            turn.pop()
        except IndexError:
            return
        try:
            yield from self._exchange()
        finally:
            turn.append(None)

    def may_probe(self, admission: Admission) -> Counting[Refusal | None]:
        """Why an attempt may not be made that would probe; ``None``: it may, for all that the fleet knows.

        An attempt that is refused is settled then, and has released its key.
        """
        if not admission.probes or self._silent():
            return None
        allowed = False
        try:
            refusal = yield from self._leave_for(admission)
            allowed = refusal is None
        finally:
            if not allowed:
                self.probed_soon(admission)
                admission.settle(Sample.NEUTRAL, Blame.NOBODY)
                admission.release()
        return refusal

    def probed(self, admission: Admission) -> Counting[None]:
        """An attempt was settled: have others told of what it saw, and then let them probe. Does nothing the second time."""
        leases = admission.leases
        if leases is None:
            return
        try:
            if self._silent() or (self._hearsay.news and not (yield from self._exchange())):
                return
            yield from leases.give_back()
        finally:
            self.probed_soon(admission)

    def probed_soon(self, admission: Admission) -> None:
        """The same of a cancelled call: takes no lock and does not wait, so others learn of it later."""
        if admission.leases is not None:
            admission.leases.give_back_soon()

    def _leave_for(self, admission: Admission) -> Counting[Refusal | None]:
        """As :meth:`may_probe`. Leases that were taken are left with the admission."""
        if not (yield from self._exchange()):
            return None
        refusal = self._health.consult(partial(_outdated, admission))
        if refusal is not None:
            return refusal
        leases = admission.leases = Leases(self._board)
        for permit in admission.probing:
            now, breaker = self._runtime.monotonic(), permit.breaker
            seconds = min(breaker.leased_until - now, MAX_LEASE)
            if seconds <= 0:
                continue  # it closed meanwhile, or has been under way for too long
            seen = self._hearsay.stands(breaker.scope, now + seconds)
            # Those who will wait for this probe have to be able to see how it went.
            if not seen and not (yield from self._exchange(News(breaker.scope, PROBING))):
                return None
            leased = yield from leases.take(breaker.scope, seconds)
            if leased is None:
                self._lost = True
                return None
            if not leased:
                self._health.consult(partial(self._hearsay.defer, permit))
                yield from leases.give_back()
                whose = f" gateway {breaker.scope}" if breaker.wide else " it"
                retry_at = self._runtime.monotonic() + REFUSED
                return Refusal(f"another process probes{whose}", retry_at, gateway_wide=breaker.wide)
        return None

    def _exchange(self, *more: News) -> Counting[bool]:
        """Tell what is new, and these, and heed what there is to hear; whether that could be done."""
        asked = self._runtime.monotonic()
        self._next = asked + INTERVAL
        news = self._hearsay.take(asked)
        hints: Mapping[str, Hint] | None = None
        try:
            hints = yield from self._board.exchange([*news, *more])
        finally:
            if hints is None:
                self._hearsay.keep(news, asked)
        self._lost = hints is None
        if hints is None:
            return False
        self._health.consult(partial(self._hearsay.learn, asked, hints))
        return True

    def _silent(self) -> bool:
        """Whether the board could not be asked lately: then nothing waits for it."""
        return self._lost and self._runtime.monotonic() < self._next


def _outdated(admission: Admission, now: float) -> Refusal | None:
    """What stands in the way of a probe since the fleet was heard."""
    for permit in admission.probing:
        if permit.stale and permit.breaker.state is not BreakerState.CLOSED:
            return refusal_of(permit.breaker, now)
    return None
