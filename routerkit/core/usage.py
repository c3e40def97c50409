"""Adds up what a client's calls used, by tenant, gateway and model, and how they went, by tenant."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from decimal import Decimal
from itertools import islice
from operator import attrgetter
from typing import NamedTuple, TypeAlias

import attrs

from routerkit.core.effects import Lock, Runtime
from routerkit.types.route import Route, Target
from routerkit.types.tokens import Usage
from routerkit.types.usage import DURATIONS, EXACT, SUMS, Stats, UsageReport, UsageRow
from routerkit.types.verdict import Billing

MAX_ROWS = 10_000
"""Of each tenant: model ids may come from users, and memory must not grow with them."""
OTHER = "other"
"""The model that what has no row of its own is counted under."""
MAX_CANCELLED = 10_000
"""Calls cancelled one after the other, with no other call ending and nobody asking; of more, the oldest are not counted."""

_CANCELLED = "Cancelled"
_COST = SUMS.index("cost")
_sums = attrgetter(*SUMS)
_POSSIBLE, _CONFIRMED = Billing.POSSIBLE, Billing.CONFIRMED  # Python 3.11 looks members up slowly

PICO = 12
"""Of costs, others are told whole pico-dollars."""
MICRO = 10**6

_Call: TypeAlias = tuple[str | None, Route, str | None, bool, "Usage | None", "Decimal | None"]
_Key: TypeAlias = tuple["str | None", str, str]
"""Of a row: tenant, gateway and model. Their texts, as a target takes longer to look up."""


@attrs.define(eq=False)
class _Row:
    """What one tenant used of one model; see :class:`routerkit.types.usage.Used`."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    cost: Decimal = Decimal(0)
    cost_unknown: int = 0
    possibly_billed: int = 0

    def add(self, answered: bool, usage: Usage | None, cost: Decimal | None) -> None:
        self.answers += answered
        if usage is not None and usage.raw:
            prompt, completion, cached, written, reasoning, heard, spoken = usage.counts()
            self.prompt_tokens += prompt
            self.completion_tokens += completion
            if cached or written or reasoning or heard or spoken:
                self.cached_tokens += cached
                self.cache_write_tokens += written
                self.reasoning_tokens += reasoning
                self.audio_tokens += heard + spoken
        if cost is not None:
            self.cost = EXACT.add(self.cost, cost)
        else:
            self.cost_unknown += answered


@attrs.define(eq=False)
class _Tally:
    """How one tenant's calls went; see :class:`routerkit.types.usage.Stats`."""

    calls: int = 0
    answered: int = 0
    failed: dict[str, int] = attrs.field(factory=dict)
    attempts: dict[str, int] = attrs.field(factory=dict)
    fell_back: int = 0
    waits: int = 0
    waited: float = 0.0
    degraded: int = 0
    streams: int = 0
    duration: float = 0.0
    duration_max: float = 0.0
    durations: list[int] = attrs.field(factory=lambda: [0] * (len(DURATIONS) + 1))

    def add(self, route: Route, error: str | None, stream: bool) -> None:
        self.calls += 1
        if error is None:
            self.answered += 1
        else:
            self.failed[error] = self.failed.get(error, 0) + 1
        attempts, codes = route.attempts, self.attempts
        for attempt in attempts:
            code = attempt.verdict.code
            codes[code] = codes.get(code, 0) + 1
        if len(attempts) > 1:
            self.fell_back += 1
        for wait in route.waits:
            self.waits += 1
            self.waited += wait.seconds
        if route.degraded:
            self.degraded += 1
        if stream:
            self.streams += 1
        duration = route.duration
        self.duration += duration
        if duration > self.duration_max:
            self.duration_max = duration
        self.durations[bisect_left(DURATIONS, duration)] += 1

    @property
    def figures(self) -> tuple[int, ...]:
        """As :data:`CALLS` says."""
        waited, lasted = int(self.waited * MICRO), int(self.duration * MICRO)
        whole = (self.calls, self.answered, self.fell_back, self.waits, waited, self.degraded, self.streams, lasted)
        return *whole, *self.durations

    def merge(self, other: _Tally) -> None:
        for name in ("calls", "answered", "fell_back", "waits", "waited", "degraded", "streams", "duration"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for ours, theirs in ((self.failed, other.failed), (self.attempts, other.attempts)):
            for word, count in theirs.items():
                ours[word] = ours.get(word, 0) + count
        self.duration_max = max(self.duration_max, other.duration_max)
        self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, strict=True)]


class Figures(NamedTuple):
    """Sums, or what has come to them since they were told last: all of it whole numbers."""

    kind: str
    """One of those below."""
    words: tuple[str, ...]
    """Of what: the tenant (empty for none), and what the kind says."""
    numbers: tuple[int, ...]


USED = "u"
"""Of a tenant, a gateway and a model: what was used, as in :class:`Used`; the cost in pico-dollars."""
CALLS = "c"
"""Of a tenant: calls, answers, those that fell back, waits, microseconds waited, those degraded, streams, microseconds they
lasted, and the histogram of that."""
LONGEST = "m"
"""Of a tenant: microseconds of the longest call since it was told; no sum."""
FAILED = "f"
"""Of a tenant and a class of errors: calls."""
ATTEMPTS = "a"
"""Of a tenant and a verdict's code: attempts."""


class Accounts:
    """The accounts of one client and its tenants, of this process, since it began.

    Shared by all calls, under a lock that is held for microseconds and never over an effect.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._shared = False
        self.forget_lock()

    def share(self) -> None:
        """Keep from now on what is to be told to others."""
        self._shared = True

    def forget_lock(self) -> None:
        """In a forked child the parent's lock is not ours, nor is what the parent's calls used: counting begins anew."""
        self._lock: Lock = self._runtime.lock()
        self._rows: dict[_Key, _Row] = {}
        self._counts: dict[str | None, int] = {}
        """By tenant, how many rows there are."""
        self._tallies: dict[str | None, _Tally] = {}
        self._cancelled: deque[_Call] = deque(maxlen=MAX_CANCELLED)
        """Calls whose turn comes when the lock is taken next."""
        self._untold: dict[_Key | tuple[str | None], None] = {}
        """Rows, and by the tenant alone tallies, of which there is something to tell; in their order."""
        self._told: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}
        """What was told of each, in all."""
        self._longest: dict[str | None, float] = {}
        """By tenant, seconds of the longest call since it was told."""

    def record(
        self,
        tenant: str | None,
        route: Route,
        error: str | None,
        stream: bool,
        usage: Usage | None,
        cost: Decimal | None,
    ) -> None:
        """A call has ended. ``error``: the name of its error's class, ``Cancelled`` when its caller gave up, ``None`` when it was
        answered. ``usage`` and ``cost`` (USD) as far as they are known, of the last attempt's target.

        A cancelled call takes no lock: it may be the garbage collector that ends it, in the midst of what is done under the lock.
        """
        call = (tenant, route, error, stream, usage, cost)
        if error == _CANCELLED:
            self._cancelled.append(call)
            return
        with self._lock:
            if self._cancelled:
                self._catch_up()
            self._add(call)

    def usage(self, tenant: str | None = None) -> UsageReport:
        """What calls of this process used since it began: of one tenant, or of all."""
        with self._lock:  # there may be many rows, and calls wait: what can be done afterwards is
            self._catch_up()
            found = [(key, _sums(row)) for key, row in self._rows.items() if tenant is None or key[0] == tenant]
        found.sort(key=lambda each: (each[0][0] or "", *each[0][1:]))
        return UsageReport(
            tuple(
                UsageRow(tenant=owner, gateway=gateway, model=model, **dict(zip(SUMS, sums, strict=True)))
                for (owner, gateway, model), sums in found
            )
        )

    def stats(self, tenant: str | None = None) -> Stats:
        """How calls of this process went since it began: of one tenant, or of all."""
        whole = _Tally()
        with self._lock:
            self._catch_up()
            for name, tally in self._tallies.items():
                if tenant is None or name == tenant:
                    whole.merge(tally)
        values = attrs.asdict(whole)
        return Stats(tenant=tenant, **{**values, "durations": tuple(whole.durations)})

    @property
    def untold(self) -> bool:
        """Whether there is anything to tell others."""
        return self._shared and bool(self._untold or self._cancelled)

    def take(self, most: int) -> list[Figures]:
        """What others have not been told yet, about so many at most; it counts as told now."""
        told: list[Figures] = []
        with self._lock:
            self._catch_up()
            for key in tuple(islice(self._untold, most)):
                if len(told) >= most:
                    break
                del self._untold[key]
                of = self._figures(key[0]) if len(key) == 1 else [self._row_figures(key)]
                told += [news for each in of if (news := self._news(each)) is not None]
                if len(key) == 1:
                    told.append(Figures(LONGEST, (key[0] or "",), (int(self._longest.pop(key[0]) * MICRO),)))
        return told

    def _news(self, figures: Figures) -> Figures | None:
        """What of these sums has not been told."""
        key = figures.kind, figures.words
        before = self._told.get(key, (0,) * len(figures.numbers))
        self._told[key] = figures.numbers
        numbers = tuple(now - then for now, then in zip(figures.numbers, before, strict=True))
        return figures._replace(numbers=numbers) if any(numbers) else None

    def _row_figures(self, key: _Key) -> Figures:
        numbers = list(_sums(self._rows[key]))
        numbers[_COST] = int(EXACT.scaleb(numbers[_COST], PICO))
        return Figures(USED, (key[0] or "", *key[1:]), tuple(numbers))

    def _figures(self, tenant: str | None) -> list[Figures]:
        tally, whose = self._tallies[tenant], (tenant or "",)
        figures = [Figures(CALLS, whose, tally.figures)]
        for kind, words in ((FAILED, tally.failed), (ATTEMPTS, tally.attempts)):
            figures += [Figures(kind, (*whose, word), (count,)) for word, count in words.items()]
        return figures

    def _catch_up(self) -> None:
        while self._cancelled:
            self._add(self._cancelled.popleft())

    def _add(self, call: _Call) -> None:
        tenant, route, error, stream, usage, cost = call
        tally = self._tallies.get(tenant)
        if tally is None:
            tally = self._tallies[tenant] = _Tally()
        tally.add(route, error, stream)
        if self._shared:
            self._untold[tenant,] = None
            self._longest[tenant] = max(route.duration, self._longest.get(tenant, 0.0))
        attempts = route.attempts
        told = error is None or usage is not None or cost is not None
        # Of the last attempt it is known what was billed, as far as anybody told; of others never.
        last = attempts[-1] if attempts and told else None
        for attempt in attempts:
            billing = attempt.verdict.billing
            if billing is _POSSIBLE or (billing is _CONFIRMED and attempt is not last):
                self._row(tenant, attempt.target).possibly_billed += 1
        if last is not None:
            self._row(tenant, last.target).add(error is None, usage, cost)

    def _row(self, tenant: str | None, target: Target) -> _Row:
        key = (tenant, target.gateway, target.model)
        row = self._rows.get(key)
        if row is None:
            if self._counts.get(tenant, 0) >= MAX_ROWS:
                key = (tenant, target.gateway, OTHER)
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = _Row()
                self._counts[tenant] = self._counts.get(tenant, 0) + 1
        if self._shared:
            self._untold[key] = None
        return row
