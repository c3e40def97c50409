"""A gateway's list of models: read tolerantly, kept for an hour, fetched by one caller at a time.

A fresh catalogue costs a dictionary lookup. After ``ttl`` (± 10 %) the next caller fetches it anew; whoever comes meanwhile is
served the stale one at once, or waits when there is none. When a fetch fails, the last good copy serves for a day and the
next fetch waits for 30 s · 2^n, ten minutes at most (RFC 5861's stale-while-revalidate and stale-if-error); where it was the
key that failed, only with that key.

Some gateways have a second list, public and on another host, that tells what the first does not. It is asked without a key,
after the first and in what is left of the time. When one of the two fails, the other serves, with the failing one's last good
copy if that is younger than a day; both are asked again within five minutes.

Where processes share a store, one of them asks for all: what it got, as it came, is kept there for a day, by the list's URL.
Who needs a list looks there first. While another process asks, whoever has a copy of any age within the day is served that,
and whoever has none waits. As within one process, a list is the same for whoever asks, with whatever key: processes with
keys to which a gateway shows different lists belong in different namespaces of the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from cachetools import TLRUCache

from routerkit.core.catalog_index import CatalogIndex
from routerkit.core.catalog_lists import Listing, Pauses, Source, sources_of
from routerkit.core.effects import (
    CLOCKS,
    TOLERANCE,
    HttpRequest,
    HttpResponse,
    Latch,
    Lock,
    Runtime,
    Send,
    Step,
    TransportFailure,
    emit,
    fetch,
    sleep,
    wait_for,
)
from routerkit.core.failure import api_error, failure_signal, parse_json, response_signal
from routerkit.core.fleet import Board
from routerkit.core.listing import completed, of_all_versions
from routerkit.core.pricing import price_jumps
from routerkit.core.shared import KEPT_SECONDS, Lease, packed, unpacked
from routerkit.core.verdict import Signal, classify
from routerkit.core.verdict_table import Ending
from routerkit.errors import APIError, DeadlineExceededError
from routerkit.types.event import CatalogRefreshed
from routerkit.types.gateway import Gateway
from routerkit.types.model import Model
from routerkit.types.policy import Timeouts
from routerkit.types.route import Target
from routerkit.types.secret import Credential
from routerkit.types.settings import user_agent

MAX_BYTES = 32 * 1024 * 1024
STALE_SECONDS = 86_400.0
"""How long the last good copy serves when the gateway cannot be asked."""
PARTIAL_SECONDS = 300.0
"""How long a catalogue is taken for fresh, at most, that one of its two lists could not be read for."""
SPREAD = 0.1
"""The share by which times differ: the age at which a catalogue is fetched anew, and pauses."""
PATIENCE = 10.0
"""Seconds for which another process's fetch is waited for, where there is no copy."""
LOOK_EVERY = 0.1
"""Seconds between two looks for what it fetched."""
LEASE_SECONDS = 60.0
"""For which no other process asks, at most; its holder may have died."""
SHORT_LEASE = 5.0
"""The same where others may be waiting: before their patience ends, one of them can take over."""
_SAME = 1.0
"""Seconds by which one copy's age may differ in two readings."""


@attrs.frozen(eq=False)
class _Errand:
    """What the one goes by who fetches for all."""

    before: Snapshot | None
    """What is in memory."""
    timeouts: Timeouts
    until: float
    """The end of the time for all lists."""
    deadline: float
    """The caller's."""
    anew: bool
    """Whether the gateway is asked, whatever other processes have."""


@attrs.frozen(eq=False)
class Snapshot:
    """A catalogue as it was at one time."""

    models: tuple[Model, ...]
    by_id: dict[str, Model] = attrs.field(repr=False)
    fetched: float
    """On the monotonic clock; of two lists the earlier time."""
    expires: float
    dropped: int = 0
    """Entries that could not be read, or came twice."""
    lists: Mapping[str, Listing] = attrs.field(factory=dict, repr=False)
    """By URL, what it was made of."""
    _index: CatalogIndex | None = attrs.field(default=None, init=False, repr=False)

    @property
    def index(self) -> CatalogIndex:
        """For queries. Made when it is first asked for; made twice by two threads it does no harm."""
        index = self._index
        if index is None:
            index = CatalogIndex(self.models)
            object.__setattr__(self, "_index", index)
        return index

    def get(self, model: str) -> Model | None:
        """The entry of a model id; ``:nitro``, ``:floor``, ``:online`` and other variants, and ``@version``, fall back on the
        model itself.

        ``:free`` does not: the model itself has a price. Nor does the price of ``@version``, where that of the model is nothing.
        """
        found = self.by_id.get(model)
        base, _, variant = model.partition(":")
        if found is not None or variant == "free":
            return found
        return self.by_id.get(base) or of_all_versions(self.by_id.get(base.rpartition("@")[0]))


class CatalogCache:
    """One gateway's catalogue. Shared by all calls; its lock is never held over an effect."""

    def __init__(self, gateway: Gateway, runtime: Runtime, ttl: float, board: Board | None = None) -> None:
        """``ttl`` in seconds. ``board``: what this process shares with others."""
        self.gateway = gateway
        self.unreadable = 0
        """Shared copies that were none."""
        self._runtime = runtime
        self._ttl = ttl
        self._board = board
        self._lock: Lock = runtime.lock()
        self._kept: TLRUCache[str, Snapshot] = TLRUCache(
            1,
            ttu=lambda _, snapshot, __: max(snapshot.expires, snapshot.fetched + STALE_SECONDS),
            timer=runtime.monotonic,
        )
        self._fetching: Latch | None = None
        self._anew = True
        """Whether that fetch asks the gateway, whatever there is."""
        self._pauses = Pauses()
        self._look_again = 0.0
        """Until then another process is left to its fetch."""
        self._shrunk_to: dict[str, int] = {}
        """By URL, the length of a list that was doubted."""

    def forget_fetch(self) -> None:
        """In a forked child: the parent's fetch is not ours to wait for, and its lock may be held for ever."""
        self._lock = self._runtime.lock()
        self._fetching = None

    def peek(self) -> Snapshot | None:
        """What is in memory, stale or not; asks nobody."""
        with self._lock:
            return self._kept.get(self.gateway.name)

    def get(
        self, credential: Credential | None, timeouts: Timeouts, deadline: float, *, refresh: bool = False
    ) -> Step[Snapshot]:
        """The catalogue, at most ``ttl`` old where the gateway allows it.

        Raises APIError when there is no copy and none can be had, DeadlineExceededError when that is not known in time.
        ``refresh`` asks the gateway whatever the age.
        """
        while True:
            now = self._runtime.monotonic()
            with self._lock:
                kept = self._kept.get(self.gateway.name)
                if kept is not None and not refresh and now < max(kept.expires, self._look_again):
                    return kept
                pause = None if refresh else self._pauses.find(credential, now)
                if pause is not None and kept is not None:
                    return kept
                if pause is not None:
                    raise _again(pause.error, pause.until - now)
                latch = self._fetching
                if latch is None:
                    latch = self._fetching = Latch()
                    anew = self._anew = refresh or self._board is None
                    break
                anew = self._anew
            if kept is not None and not refresh:
                return kept
            refresh = refresh and not anew
            if not (yield from wait_for(latch, max(0.0, deadline - now))):
                raise self._late()
        try:
            until = min(deadline, now + timeouts.total)
            return (yield from self._fetch(credential, _Errand(kept, timeouts, until, deadline, anew)))
        finally:
            # Without the lock: it may be the garbage collector that ends this, in the midst of it.
            self._fetching = None
            latch.set()

    def _fetch(self, credential: Credential | None, errand: _Errand) -> Step[Snapshot]:
        lists: dict[str, Listing] = {}
        failed: list[APIError | DeadlineExceededError] = []
        elsewhere = False
        for source in sources_of(self.gateway, credential):
            try:
                outcome = yield from self._obtain(source, errand)
            except DeadlineExceededError as late:
                failed.append(late)
                break
            if outcome is None:
                elsewhere = True
            elif isinstance(outcome, Listing):
                lists[source.url] = outcome
            else:
                failed.append(outcome)
        if lists:
            return (yield from self._renewed(lists, (failed[0].code or "deadline") if failed else None, elsewhere))
        if errand.before is not None and not failed:
            return errand.before
        error = failed[0]
        if isinstance(error, DeadlineExceededError):
            kept = self.peek()  # a caller in a hurry says nothing about the gateway
        else:
            kept = self._failed(error, credential)
            yield from emit(CatalogRefreshed(self.gateway.name, len(kept.models) if kept else 0, error=error.code))
        if kept is None:
            raise error
        return kept

    def _obtain(self, source: Source, errand: _Errand) -> Step[Listing | APIError | None]:
        """One list: the fleet's copy if it is young, else as :meth:`_ask`. ``None``: another process asks, and what is in memory
        serves meanwhile."""
        if self._board is None or errand.anew:
            return (yield from self._ask(source, errand))
        lease = Lease(self._board, f"fetch {source.url}")
        try:
            outcome = yield from self._share(self._board, lease, source, errand)
            yield from lease.end()
        finally:
            lease.drop()
        return outcome

    def _share(self, board: Board, lease: Lease, source: Source, errand: _Errand) -> Step[Listing | APIError | None]:
        """As :meth:`_obtain`; with the lease, where it was to be had."""
        patience = min(errand.until, self._runtime.monotonic() + PATIENCE)
        looks = 0
        while True:
            copy = yield from self._copy(board, source)
            now = self._runtime.monotonic()
            if copy is not None and now - copy.fetched < self._ttl * (1 - SPREAD):
                return copy
            if lease.held or now >= patience:
                break
            if looks % 5 == 0:
                longest = SHORT_LEASE if copy is None else LEASE_SECONDS
                held = yield from lease.take(min(longest, errand.until - now + 1))
                if held is None:
                    break
                if not held and (copy is not None or errand.before is not None):
                    self._look_again = now + 1 + self._runtime.random()
                    return None if copy is self._last(source) else copy
            if not lease.held:  # who held it until now may have written what we need
                yield from sleep(min(LOOK_EVERY, max(0.0, patience - self._runtime.monotonic())))
            looks += 1
        if self._runtime.monotonic() >= errand.until:
            raise self._late()
        return (yield from self._ask(source, errand))

    def _copy(self, board: Board, source: Source) -> Step[Listing | None]:
        """The fleet's copy of a list, if it may serve; what is in memory, if that is as new."""
        blob = yield from board.read(f"list {source.url}")
        if blob is None or blob.age >= STALE_SECONDS:
            return None
        fetched = self._runtime.monotonic() - max(0.0, blob.age)
        last = self._last(source)
        if last is not None and fetched <= last.fetched + _SAME:
            return last
        body = unpacked(blob.data, MAX_BYTES)
        models, dropped = ([], 0) if body is None else source.read(parse_json(body))
        if not models:
            self.unreadable += 1
            return None
        if last is not None and last.doubts(models):
            self._shrunk_to[source.url] = len(models)
            return None
        self._shrunk_to.pop(source.url, None)
        return Listing(models, dropped, fetched)

    def _last(self, source: Source) -> Listing | None:
        kept = self.peek()
        return None if kept is None else kept.lists.get(source.url)

    def _ask(self, source: Source, errand: _Errand) -> Step[Listing | APIError]:
        """One list of the gateway, or why it could not be had. Raises DeadlineExceededError when that was for the caller's own
        time."""
        timeouts, left = errand.timeouts, max(0.001, errand.until - self._runtime.monotonic())
        headers = {"Accept": "application/json", "User-Agent": user_agent()}
        request = HttpRequest("GET", source.url, headers, None, source.credential)
        order = Send(
            request,
            min(timeouts.connect, left),
            min(timeouts.first_byte, left),
            timeouts.idle,
            left,
            MAX_BYTES,
        )
        try:
            response = yield from fetch(order)
        except TransportFailure as failure:
            if failure.failure in CLOCKS and self._runtime.monotonic() >= errand.deadline - TOLERANCE:
                raise self._late() from None
            signal, detail = failure_signal(failure), failure.detail
        else:
            outcome = self._read(source, response)
            if isinstance(outcome, Listing):
                if self._board is not None and not response.mock:
                    yield from self._board.write(f"list {source.url}", packed(response.body), KEPT_SECONDS)
                return outcome
            signal, detail = outcome
        key = None if source.credential is None else source.credential.secret
        return api_error(classify(signal), signal, Target(self.gateway.name, source.name), detail, key)

    def _read(self, source: Source, response: HttpResponse) -> Listing | tuple[Signal, str]:
        signal = response_signal(response, self._runtime.wall())
        if response.status != 200:
            return signal, ""
        models, dropped = source.read(signal.body)
        if not models and isinstance(signal.body, Mapping) and signal.body.get("error"):
            return signal, ""  # as everywhere, the body beats the status
        if not models:
            return attrs.evolve(signal, ending=Ending.MALFORMED), "no model in it"
        last = self._last(source)
        doubted = self._shrunk_to.pop(source.url, None)
        if last is not None and last.doubts(models) and doubted != len(models):
            self._shrunk_to[source.url] = len(models)
            return attrs.evolve(signal, ending=Ending.MALFORMED), f"only {len(models)} models after {len(last.models)}"
        return Listing(models, dropped, self._runtime.monotonic())

    def _renewed(self, lists: dict[str, Listing], failed: str | None, elsewhere: bool) -> Step[Snapshot]:
        """The catalogue made of lists that were just obtained. Of one that ``failed``, or that another process asks for, the last
        good copy serves."""
        before, now = self.peek(), self._runtime.monotonic()
        age = self._ttl * (1 - SPREAD + 2 * SPREAD * self._runtime.random())
        expires = min(each.fetched for each in lists.values()) + age
        if failed is not None:
            expires = min(expires, now + PARTIAL_SECONDS)
        if elsewhere:
            expires = now  # it is looked for again before long
        if before is not None and (failed is not None or elsewhere):
            lists = {url: each for url, each in before.lists.items() if now - each.fetched < STALE_SECONDS} | lists
        listed, details = (lists.get(url or "") for url in (self.gateway.catalog_url, self.gateway.details_url))
        models = completed([] if listed is None else listed.models, [] if details is None else details.models)
        snapshot = Snapshot(
            tuple(models),
            {model.id: model for model in models},
            min(each.fetched for each in lists.values()),
            expires,
            sum(each.dropped for each in lists.values()),
            lists,
        )
        self._keep(snapshot)
        jumps = () if before is None else price_jumps(before.by_id, models)
        yield from emit(
            CatalogRefreshed(self.gateway.name, len(models), dropped=snapshot.dropped, jumps=jumps, partial=failed)
        )
        return snapshot

    def _late(self) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"no time left to wait for the catalogue of {self.gateway.label or self.gateway.name}"
        )

    def _keep(self, snapshot: Snapshot) -> None:
        with self._lock:
            self._kept[self.gateway.name] = snapshot
            self._pauses.clear()

    def _failed(self, error: APIError, credential: Credential | None) -> Snapshot | None:
        now, share = self._runtime.monotonic(), 1 - SPREAD + 2 * SPREAD * self._runtime.random()
        with self._lock:
            self._pauses.add(error, credential, now, share)
            return self._kept.get(self.gateway.name)


def _again(error: APIError, seconds: float) -> APIError:
    again = type(error)(f"{error} (asked again in {seconds:.0f} s at the earliest)", **_fields(error))
    again.retry_after = seconds
    return again


def _fields(error: APIError) -> dict[str, Any]:
    names = ("status_code", "code", "error_type", "model", "gateway", "request_id")
    return {name: getattr(error, name) for name in names}
