"""The accounts of a fleet: what the calls of all its processes used and how they went, added up in the store.

Each process tells what has come to its accounts since it told last, every ten seconds or so, at the start of a call, and when its
client closes. Only whole numbers are told: each batch of them is added once, however often it has to be said. What cannot be told
is kept, and told later; it counts for the day on which it is heard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from routerkit.core.effects import Runtime
from routerkit.core.entries import LEFT_OUT, PARTS, SHAPES, Entry, grown, read, written
from routerkit.core.fleet import Board
from routerkit.core.limits import Counting
from routerkit.core.usage import ATTEMPTS, CALLS, FAILED, LONGEST, MICRO, PICO, USED, Accounts, Figures
from routerkit.types.usage import EXACT, SUMS, Stats, UsageReport, UsageRow

TELL_SECONDS = 10.0
"""Between two times that a process tells, ± 10 %."""
AT_A_TIME = 100
"""Entries of a batch, about; more go with the next call."""
FLUSH_SECONDS = 1.0
"""That telling all the rest may take, when a client closes."""
MAX_SUMS = 100_000
"""That are read. Of more names, so many that no fleet of ours has them, the rest is left out."""
DAY = 86_400
"""Seconds."""


class _Batch(NamedTuple):
    """What is told at once, and until it is heard."""

    number: int
    entries: list[Entry]


class SharedAccounts:
    """The accounts of one client and its tenants, which are told to the fleet."""

    def __init__(self, accounts: Accounts, board: Board, runtime: Runtime) -> None:
        self._accounts = accounts
        self._board = board
        self._runtime = runtime
        self._days = 0
        """By which the store's day is ahead of ours."""
        accounts.share()
        self.forget()

    def forget(self) -> None:
        """In a forked child: what the parent has to tell, and a batch under way, are the parent's."""
        self._turn: deque[None] = deque([None])
        """Empty while a caller tells for all."""
        self._batch: _Batch | None = None
        self._number = 0
        self._until = float("-inf")
        """Until when whoever tells goes on."""
        self._wait()

    @property
    def due(self) -> bool:
        """Whether it is time to tell."""
        return self._runtime.monotonic() >= self._next

    def sync(self) -> Counting[None]:
        """Tell some of it, when it is time to: one caller does, the others go on. Without a store that can be asked nothing
        happens."""
        yield from self._in_turn(0.0)

    def flush(self) -> Counting[bool]:
        """Tell all there is; whether it is heard, or somebody is at it, who then goes on to the end."""
        return (yield from self._in_turn(FLUSH_SECONDS))

    def _in_turn(self, seconds: float) -> Counting[bool]:
        """Tell a batch, and go on for so long while there are more; whether the last was heard. Where somebody is at it already,
        nothing is done here, and that one goes on for so long."""
        self._until = max(self._until, self._runtime.monotonic() + seconds)
        turn, heard = self._turn, True
        while heard:
            try:
                turn.pop()
            except IndexError:
                return True
            try:
                self._wait()
                heard = yield from self._tell()
                if heard and self._accounts.untold:
                    self._next = self._runtime.monotonic()
            finally:
                turn.append(None)
            if not self._accounts.untold or self._runtime.monotonic() >= self._until:
                break
        return heard

    def _wait(self) -> None:
        self._next = self._runtime.monotonic() + TELL_SECONDS * (0.9 + 0.2 * self._runtime.random())

    def _tell(self) -> Counting[bool]:
        """Tell a batch, the one that was not heard before any other; whether it was heard, or there is none."""
        batch = self._batch
        if batch is None:
            entries = [written(figures) for figures in self._accounts.take(AT_A_TIME)]
            if not entries:
                return True
            self._number += 1
            batch = self._batch = _Batch(self._number, entries)
        for _ in range(2):
            ours = self._our_day()
            added = yield from self._board.tell(batch.number, ours + self._days, batch.entries)
            if added is None:
                return False
            if added.done:
                self._batch = None
                return True
            self._days = added.today - ours
        return False

    def read(self, days: int) -> Counting[Sums | None]:
        """What the fleet told of so many days, today the last of them; ``None``: the store cannot be asked."""
        for _ in range(2):
            sums = Sums(self._our_day() + self._days, days)
            if not (yield from self._read(sums)):
                return None
            if sums.complete:
                return sums
            self._days = sums.seen - self._our_day()
        return None

    def _our_day(self) -> int:
        """Since 1970, by our clock."""
        return int(self._runtime.wall()) // DAY

    def _read(self, sums: Sums) -> Counting[bool]:
        for day in range(sums.today, sums.today - sums.days, -1):
            for part in range(PARTS):
                page = yield from self._board.page(day, part)
                if page is None:
                    return False
                sums.seen = page.today
                if not sums.complete:
                    return True
                sums.unreadable += page.unreadable
                sums.add(page.entries)
        return True


class Sums:
    """What a fleet told of some days, added up."""

    def __init__(self, today: int, days: int) -> None:
        self.today = today
        """Days since 1970; the last of the days."""
        self.days = days
        self.seen = today
        """What day it is by the store's clock."""
        self.unreadable = 0
        """Entries that were none."""
        self.left_out = 0
        """Entries for which there was no room, in the store or here."""
        self._sums: dict[str, Figures] = {}
        """By the names of entries: days have most of them in common, and each is read once."""

    @property
    def complete(self) -> bool:
        """Whether the day has not ended while it was read, nor was another than was thought."""
        return self.seen == self.today

    @property
    def since(self) -> float:
        """Unix seconds."""
        return float((self.today - self.days + 1) * DAY)

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            known = self._sums.get(entry.name)
            figures = read(entry) if known is None else grown(known, entry)
            if figures is None:
                self.unreadable += 1
            elif figures.kind == LEFT_OUT:
                self.left_out += figures.numbers[0]
            elif known is not None or len(self._sums) < MAX_SUMS:
                self._sums[entry.name] = figures
            else:
                self.left_out += 1

    def usage(self, tenant: str | None = None) -> UsageReport:
        """Of one tenant, or of all."""
        rows = [
            UsageRow(tenant=owner or None, gateway=gateway, model=model, **_used(numbers))
            for (owner, gateway, model), numbers in self._of(USED)
            if tenant is None or owner == tenant
        ]
        rows.sort(key=lambda row: (row.tenant or "", row.gateway, row.model))
        return UsageReport(tuple(rows))

    def stats(self, tenant: str | None = None) -> Stats:
        """Of one tenant, or of all together."""
        return _stats(tenant, list(self._tallies(tenant).values()))

    def stats_by_tenant(self, tenant: str | None = None) -> dict[str | None, Stats]:
        """Of one tenant, or of all that have asked at all."""
        return {owner or None: _stats(owner or None, [tally]) for owner, tally in self._tallies(tenant).items()}

    def _tallies(self, tenant: str | None) -> dict[str, _Tally]:
        """By tenant, in their order."""
        longest = dict(self._of(LONGEST))
        tallies = {
            owner: _Tally(calls, longest.get((owner,), (0,))[0], {}, {})
            for (owner,), calls in sorted(self._of(CALLS))
            if tenant is None or owner == tenant
        }
        for kind in (FAILED, ATTEMPTS):
            for (owner, word), (count,) in sorted(self._of(kind)):
                if owner in tallies:
                    (tallies[owner].failed if kind == FAILED else tallies[owner].attempts)[word] = count
        return tallies

    def _of(self, kind: str) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
        """Words and numbers of all of this kind."""
        return ((each.words, each.numbers) for each in self._sums.values() if each.kind == kind)


class _Tally(NamedTuple):
    """How the calls of one tenant went."""

    calls: Sequence[int]
    longest: int
    failed: dict[str, int]
    attempts: dict[str, int]


def _stats(tenant: str | None, tallies: Sequence[_Tally]) -> Stats:
    """Of these together."""
    length = SHAPES[CALLS][1]
    sums = [sum(numbers) for numbers in zip([0] * length, *(tally.calls for tally in tallies), strict=True)]
    calls, answered, fell_back, waits, waited, degraded, streams, lasted, *durations = sums
    return Stats(
        tenant=tenant,
        calls=calls,
        answered=answered,
        failed=_counted(tally.failed for tally in tallies),
        attempts=_counted(tally.attempts for tally in tallies),
        fell_back=fell_back,
        waits=waits,
        waited=waited / MICRO,
        degraded=degraded,
        streams=streams,
        duration=lasted / MICRO,
        duration_max=max((tally.longest for tally in tallies), default=0) / MICRO,
        durations=tuple(durations),
    )


def _counted(several: Iterable[dict[str, int]]) -> dict[str, int]:
    whole: dict[str, int] = {}
    for counts in several:
        for word, count in counts.items():
            whole[word] = whole.get(word, 0) + count
    return whole


def _used(numbers: Sequence[int]) -> dict[str, Any]:
    values: dict[str, Any] = dict(zip(SUMS, numbers, strict=True))
    return {**values, "cost": usd(values["cost"], PICO)}


def usd(units: int, places: int) -> Decimal:
    """US dollars, exactly, of units of which ten to the power of so many are one; without zeros at the end."""
    amount = EXACT.normalize(EXACT.scaleb(Decimal(units), -places))
    exponent = amount.as_tuple().exponent
    return EXACT.quantize(amount, Decimal(1)) if isinstance(exponent, int) and exponent > 0 else amount
