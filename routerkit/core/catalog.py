"""A gateway's list of models: read tolerantly, kept for an hour, fetched by one caller at a time.

A fresh catalogue costs a dictionary lookup. After ``ttl`` (± 10 %) the next caller fetches it anew; whoever comes meanwhile is
served the stale one at once, or waits when there is none. When a fetch fails, the last good copy serves for a day and the
next fetch waits for 30 s · 2^n, ten minutes at most (RFC 5861's stale-while-revalidate and stale-if-error).

Some gateways have a second list, public and on another host, that tells what the first does not. It is asked without a key,
after the first and in what is left of the time. When one of the two fails, the other serves, with the failing one's last good
copy if that is younger than a day; both are asked again within five minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
from cachetools import TLRUCache

from routerkit.core.catalog_index import CatalogIndex
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
    wait_for,
)
from routerkit.core.failure import api_error, failure_signal, response_signal
from routerkit.core.listing import completed, parse_catalog, parse_details
from routerkit.core.pricing import price_jumps
from routerkit.core.verdict import Signal, classify
from routerkit.core.verdict_table import VERDICTS, Ending
from routerkit.errors import APIError, DeadlineExceededError
from routerkit.types.event import CatalogRefreshed
from routerkit.types.gateway import Gateway
from routerkit.types.model import Model
from routerkit.types.policy import Timeouts
from routerkit.types.route import Target
from routerkit.types.secret import Credential, Secret
from routerkit.types.verdict import Blame

MAX_BYTES = 32 * 1024 * 1024
STALE_SECONDS = 86_400.0
"""How long the last good copy serves when the gateway cannot be asked."""
PARTIAL_SECONDS = 300.0
"""How long a catalogue is taken for fresh, at most, that one of its two lists could not be read for."""
SHRINK = 0.2
"""A list shorter than this share of the last one is believed only when it comes twice in a row."""


@attrs.frozen(eq=False)
class _Listing:
    """One list as it was at one time."""

    models: list[Model]
    dropped: int
    fetched: float


@attrs.frozen(eq=False)
class _Source:
    """A list that can be asked for."""

    url: str
    name: str
    """What people call it."""
    credential: Credential | None
    read: Callable[[Any], tuple[list[Model], int]]


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
    lists: Mapping[str, _Listing] = attrs.field(factory=dict, repr=False)
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

        ``:free`` does not: the model itself has a price.
        """
        found = self.by_id.get(model)
        base, _, variant = model.partition(":")
        if found is not None or variant == "free":
            return found
        return self.by_id.get(base) or self.by_id.get(base.rpartition("@")[0])


class CatalogCache:
    """One gateway's catalogue. Shared by all calls; its lock is never held over an effect."""

    def __init__(self, gateway: Gateway, runtime: Runtime, ttl: float) -> None:
        self.gateway = gateway
        self._runtime = runtime
        self._ttl = ttl
        self._lock: Lock = runtime.lock()
        self._kept: TLRUCache[str, Snapshot] = TLRUCache(
            1,
            ttu=lambda _, snapshot, __: max(snapshot.expires, snapshot.fetched + STALE_SECONDS),
            timer=runtime.monotonic,
        )
        self._fetching: Latch | None = None
        self._failures = 0
        self._error: APIError | None = None
        self._refused: Secret | None = None
        """The key that the last error blames; it is no reason for others not to ask."""
        self._not_before = 0.0
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
                paused = now < self._not_before and self._refused in (None, credential and credential.secret)
                if kept is not None and not refresh and (now < kept.expires or paused):
                    return kept
                if kept is None and self._error is not None and paused and not refresh:
                    raise _again(self._error, self._not_before - now)
                latch = self._fetching
                if latch is None:
                    latch = self._fetching = Latch()
                    break
            if kept is not None and not refresh:
                return kept
            refresh = False
            if not (yield from wait_for(latch, max(0.0, deadline - now))):
                raise self._late()
        try:
            return (yield from self._fetch(credential, timeouts, deadline))
        finally:
            # Without the lock: it may be the garbage collector that ends this, in the midst of it.
            self._fetching = None
            latch.set()

    def _fetch(self, credential: Credential | None, timeouts: Timeouts, deadline: float) -> Step[Snapshot]:
        until = min(deadline, self._runtime.monotonic() + timeouts.total)
        lists: dict[str, _Listing] = {}
        failed: list[APIError | DeadlineExceededError] = []
        for source in self._sources(credential):
            try:
                outcome = yield from self._ask(source, timeouts, until, deadline)
            except DeadlineExceededError as late:
                failed.append(late)
                break
            if isinstance(outcome, _Listing):
                lists[source.url] = outcome
            else:
                failed.append(outcome)
        if lists:
            return (yield from self._renewed(lists, (failed[0].code or "deadline") if failed else None))
        error = failed[0]
        if isinstance(error, DeadlineExceededError):
            kept = self.peek()  # a caller in a hurry says nothing about the gateway
        else:
            kept = self._failed(error, credential)
            yield from emit(CatalogRefreshed(self.gateway.name, len(kept.models) if kept else 0, error=error.code))
        if kept is None:
            raise error
        return kept

    def _sources(self, credential: Credential | None) -> tuple[_Source, ...]:
        """The lists to ask for. One that would be refused for want of a key is left out if there is another."""
        gateway = self.gateway
        read = partial(parse_catalog, gateway=gateway.name, per=gateway.prices_per)
        listed = _Source(gateway.catalog_url, "the catalogue", credential, read)
        if gateway.details_url is None:
            return (listed,)
        read = partial(parse_details, gateway=gateway.name)
        details = _Source(gateway.details_url, "the public catalogue", None, read)
        return (details,) if gateway.key_required and credential is None else (listed, details)

    def _ask(self, source: _Source, timeouts: Timeouts, until: float, deadline: float) -> Step[_Listing | APIError]:
        """One list, or why it could not be had. Raises DeadlineExceededError when that was for the caller's own time."""
        left = max(0.001, until - self._runtime.monotonic())
        request = HttpRequest("GET", source.url, {"Accept": "application/json"}, None, source.credential)
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
            if failure.failure in CLOCKS and self._runtime.monotonic() >= deadline - TOLERANCE:
                raise self._late() from None
            signal, detail = failure_signal(failure), failure.detail
        else:
            outcome = self._read(source, response)
            if isinstance(outcome, _Listing):
                return outcome
            signal, detail = outcome
        key = None if source.credential is None else source.credential.secret
        return api_error(classify(signal), signal, Target(self.gateway.name, source.name), detail, key)

    def _read(self, source: _Source, response: HttpResponse) -> _Listing | tuple[Signal, str]:
        signal = response_signal(response, self._runtime.wall())
        if response.status != 200:
            return signal, ""
        models, dropped = source.read(signal.body)
        if not models:
            return attrs.evolve(signal, ending=Ending.MALFORMED), "no model in it"
        kept = self.peek()
        last = None if kept is None else kept.lists.get(source.url)
        doubted = self._shrunk_to.pop(source.url, None)
        if last is not None and len(models) < SHRINK * len(last.models) and doubted != len(models):
            self._shrunk_to[source.url] = len(models)
            return attrs.evolve(signal, ending=Ending.MALFORMED), f"only {len(models)} models after {len(last.models)}"
        return _Listing(models, dropped, self._runtime.monotonic())

    def _renewed(self, lists: dict[str, _Listing], failed: str | None) -> Step[Snapshot]:
        """The catalogue made of lists that were just read. Of one that ``failed`` the last good copy serves."""
        before, now = self.peek(), self._runtime.monotonic()
        if failed is not None and before is not None:
            lists = {url: each for url, each in before.lists.items() if now - each.fetched < STALE_SECONDS} | lists
        listed, details = (lists.get(url or "") for url in (self.gateway.catalog_url, self.gateway.details_url))
        models = completed([] if listed is None else listed.models, [] if details is None else details.models)
        age = self._ttl * (0.9 + 0.2 * self._runtime.random())
        snapshot = Snapshot(
            tuple(models),
            {model.id: model for model in models},
            min(each.fetched for each in lists.values()),
            now + (age if failed is None else min(age, PARTIAL_SECONDS)),
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
            self._failures, self._error, self._not_before = 0, None, 0.0

    def _failed(self, error: APIError, credential: Credential | None) -> Snapshot | None:
        blamed = VERDICTS[error.code].blame if error.code in VERDICTS else Blame.GATEWAY
        now = self._runtime.monotonic()
        with self._lock:
            pause = min(600.0, max(30.0 * 2 ** min(self._failures, 10), error.retry_after or 0.0))
            self._not_before = now + pause * (0.9 + 0.2 * self._runtime.random())
            self._failures += 1
            self._error = error
            self._refused = (
                credential.secret if credential is not None and blamed in (Blame.KEY, Blame.TENANT) else None
            )
            return self._kept.get(self.gateway.name)


def _again(error: APIError, seconds: float) -> APIError:
    again = type(error)(f"{error} (asked again in {seconds:.0f} s at the earliest)", **_fields(error))
    again.retry_after = seconds
    return again


def _fields(error: APIError) -> dict[str, Any]:
    names = ("status_code", "code", "error_type", "model", "gateway", "request_id")
    return {name: getattr(error, name) for name in names}
