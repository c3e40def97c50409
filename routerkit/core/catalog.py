"""A gateway's list of models: read tolerantly, kept for an hour, fetched by one caller at a time.

A fresh catalogue costs a dictionary lookup. After ``ttl`` (± 10 %) the next caller fetches it anew; whoever comes meanwhile is
served the stale one at once, or waits when there is none. When a fetch fails, the last good copy serves for a day and the
next fetch waits for 30 s · 2^n, ten minutes at most (RFC 5861's stale-while-revalidate and stale-if-error).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import attrs
from cachetools import TLRUCache

from routerkit.core.effects import (
    Failure,
    HttpRequest,
    HttpResponse,
    Latch,
    Lock,
    Runtime,
    Send,
    Step,
    TransportFailure,
    emit,
    send,
    wait_for,
)
from routerkit.core.failure import api_error, failure_signal, response_signal
from routerkit.core.pricing import price_jumps
from routerkit.core.verdict import Signal, classify
from routerkit.core.verdict_table import Ending
from routerkit.errors import APIError, DeadlineExceededError
from routerkit.types.event import CatalogRefreshed
from routerkit.types.gateway import Gateway
from routerkit.types.model import Model, Pricing
from routerkit.types.policy import Timeouts
from routerkit.types.route import Target
from routerkit.types.secret import Credential

MAX_BYTES = 32 * 1024 * 1024
MAX_MODELS = 200_000
STALE_SECONDS = 86_400.0
"""How long the last good copy serves when the gateway cannot be asked."""
SHRINK = 0.2
"""A list shorter than this share of the last one is believed only when it comes twice in a row."""

_CLOCKS = frozenset({Failure.CONNECT_TIMEOUT, Failure.FIRST_BYTE_TIMEOUT, Failure.READ_TIMEOUT})
_TOLERANCE = 0.005
"""Seconds by which a transport's clock may run ahead of ours."""
MAX_PRICE = 10**9
MIN_PRICE = Decimal("1e-15")
"""What is smaller and not zero is no price: a billion tokens would not cost a cent."""
_ID = re.compile(r"(?!(?:.*[/\\])?\.\.(?:[/\\]|$))[!-~]{1,200}")
"""A model id: visible ASCII, so that none can pass for another one, and no path that climbs."""
_PRICE = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_PRICES = tuple(field.name for field in attrs.fields(Pricing))


@attrs.frozen(eq=False)
class Snapshot:
    """A catalogue as it was at one time."""

    models: tuple[Model, ...]
    by_id: dict[str, Model] = attrs.field(repr=False)
    fetched: float
    """On the monotonic clock."""
    expires: float
    dropped: int = 0
    """Entries that could not be read, or came twice."""

    def get(self, model: str) -> Model | None:
        """The entry of a model id; ``:nitro``, ``:floor``, ``:online`` and other variants fall back on the model itself.

        ``:free`` does not: the model itself has a price.
        """
        base, _, variant = model.partition(":")
        return self.by_id.get(model) or (None if variant == "free" else self.by_id.get(base))


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
        self._not_before = 0.0
        self._shrunk_to: int | None = None

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
                if kept is not None and not refresh and (now < kept.expires or now < self._not_before):
                    return kept
                if kept is None and self._error is not None and now < self._not_before and not refresh:
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
            with self._lock:
                self._fetching = None
            latch.set()

    def _fetch(self, credential: Credential | None, timeouts: Timeouts, deadline: float) -> Step[Snapshot]:
        left = max(0.001, min(timeouts.total, deadline - self._runtime.monotonic()))
        request = HttpRequest("GET", self.gateway.catalog_url, {"Accept": "application/json"}, None, credential)
        order = Send(
            request,
            min(timeouts.connect, left),
            min(timeouts.first_byte, left),
            timeouts.idle,
            left,
            MAX_BYTES,
        )
        try:
            response = yield from _asked(order)
        except TransportFailure as failure:
            if failure.failure in _CLOCKS and self._runtime.monotonic() >= deadline - _TOLERANCE:
                return self._stale()  # a caller in a hurry says nothing about the gateway
            signal, detail = failure_signal(failure), failure.detail
        else:
            outcome = self._read(response)
            if isinstance(outcome, Snapshot):
                before = self.peek()
                self._keep(outcome)
                jumps = () if before is None else price_jumps(before.by_id, outcome.models)
                news = CatalogRefreshed(self.gateway.name, len(outcome.models), dropped=outcome.dropped, jumps=jumps)
                yield from emit(news)
                return outcome
            signal, detail = outcome
        key = None if credential is None else credential.secret
        error = api_error(classify(signal), signal, Target(self.gateway.name, "the catalogue"), detail, key)
        kept = self._failed(error)
        yield from emit(CatalogRefreshed(self.gateway.name, len(kept.models) if kept else 0, error=error.code))
        if kept is None:
            raise error
        return kept

    def _read(self, response: HttpResponse) -> Snapshot | tuple[Signal, str]:
        signal = response_signal(response, self._runtime.wall())
        if response.status != 200:
            return signal, ""
        models, dropped = parse_catalog(signal.body)
        if not models:
            return attrs.evolve(signal, ending=Ending.MALFORMED), "no model in it"
        kept = self.peek()
        if kept is not None and len(models) < SHRINK * len(kept.models) and self._shrunk_to != len(models):
            self._shrunk_to = len(models)
            return attrs.evolve(signal, ending=Ending.MALFORMED), f"only {len(models)} models after {len(kept.models)}"
        now = self._runtime.monotonic()
        age = self._ttl * (0.9 + 0.2 * self._runtime.random())
        return Snapshot(tuple(models), {model.id: model for model in models}, now, now + age, dropped)

    def _stale(self) -> Snapshot:
        kept = self.peek()
        if kept is None:
            raise self._late()
        return kept

    def _late(self) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"no time left to wait for the catalogue of {self.gateway.label or self.gateway.name}"
        )

    def _keep(self, snapshot: Snapshot) -> None:
        with self._lock:
            self._kept[self.gateway.name] = snapshot
            self._failures, self._error, self._shrunk_to, self._not_before = 0, None, None, 0.0

    def _failed(self, error: APIError) -> Snapshot | None:
        now = self._runtime.monotonic()
        with self._lock:
            pause = min(600.0, max(30.0 * 2 ** min(self._failures, 10), error.retry_after or 0.0))
            self._not_before = now + pause * (0.9 + 0.2 * self._runtime.random())
            self._failures += 1
            self._error = error
            return self._kept.get(self.gateway.name)


def _again(error: APIError, seconds: float) -> APIError:
    again = type(error)(f"{error} (asked again in {seconds:.0f} s at the earliest)", **_fields(error))
    again.retry_after = seconds
    return again


def _fields(error: APIError) -> dict[str, Any]:
    names = ("status_code", "code", "error_type", "model", "gateway", "request_id")
    return {name: getattr(error, name) for name in names}


def _asked(order: Send) -> Step[HttpResponse]:
    """The answer; asked for once more when the connection had been closed while it was idle. Raises TransportFailure."""
    try:
        return (yield from send(order))
    except TransportFailure as failure:
        if not failure.reused or failure.failure is not Failure.DISCONNECTED:
            raise
    return (yield from send(attrs.evolve(order, request=attrs.evolve(order.request, fresh=True))))


def parse_catalog(body: Any) -> tuple[list[Model], int]:
    """The models of a catalogue answer, and how many entries were dropped because they had no id or came twice.

    Reads OpenRouter's shape and OpenAI's bare one (``id`` only), in ``{"data": [...]}`` or as a bare list. Never raises.
    """
    entries = body if isinstance(body, list) else body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        return [], 0
    read = _Reader().model
    models: dict[str, Model] = {}
    for entry in entries[:MAX_MODELS]:
        model = read(entry)
        if model is not None:
            models.setdefault(model.id, model)
    return list(models.values()), len(entries) - len(models)


class _Reader:
    """Reads the entries of one list. What many of them have in common is made once and kept once."""

    def __init__(self) -> None:
        self._pricings: dict[tuple[tuple[str, str], ...], Pricing] = {}
        self._tuples: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._sets: dict[tuple[str, ...], frozenset[str]] = {}

    def model(self, entry: Any) -> Model | None:
        identity = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(identity, str) or not _ID.fullmatch(identity):
            return None
        architecture, provider = _dict(entry, "architecture"), _dict(entry, "top_provider")
        return Model(
            id=identity,
            name=_str(entry, "name") or identity,
            context_length=_context_length(entry, provider),
            max_completion_tokens=_positive(provider.get("max_completion_tokens")),
            pricing=self._pricing(_dict(entry, "pricing")),
            input_modalities=self._words(architecture.get("input_modalities")),
            output_modalities=self._words(architecture.get("output_modalities")),
            supported_parameters=self._set(self._words(entry.get("supported_parameters"))),
            created=_positive(entry.get("created")),
            expiration_date=_str(entry, "expiration_date"),
            description=_str(entry, "description") or "",
            raw=entry,
        )

    def _pricing(self, prices: dict[str, Any]) -> Pricing:
        told = [(name, prices[name]) for name in _PRICES if name in prices]
        if not all(value.__class__ is str for _, value in told):
            return _priced(told)  # as keys, 1 and True would be the same
        key = tuple(told)
        found = self._pricings.get(key)
        if found is None:
            found = self._pricings[key] = _priced(told)
        return found

    def _words(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            return ()
        words = tuple([word for word in value if isinstance(word, str)])
        return self._tuples.setdefault(words, words)

    def _set(self, words: tuple[str, ...]) -> frozenset[str]:
        found = self._sets.get(words)
        if found is None:
            found = self._sets[words] = frozenset(words)
        return found


def _priced(told: list[tuple[str, Any]]) -> Pricing:
    return Pricing(**{name: price(value) for name, value in told})


def _context_length(entry: dict[str, Any], provider: dict[str, Any]) -> int | None:
    """OpenRouter's, vLLM's or llama.cpp's word for it, the first that is there."""
    return (
        _positive(entry.get("context_length"))
        or _positive(provider.get("context_length"))
        or _positive(entry.get("max_model_len"))
        or _positive(_dict(entry, "meta").get("n_ctx"))
    )


def price(value: Any) -> Decimal | None:
    """A price as Decimal; negative, missing, not finite, absurd or unreadable is ``None``: unknown, never free."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MAX_PRICE:
        value = repr(value)
    if not isinstance(value, str) or not _PRICE.fullmatch(value.strip()):
        return None
    number = Decimal(value.strip())
    return number if MIN_PRICE <= number < MAX_PRICE or not number else None


def _dict(entry: dict[str, Any], name: str) -> dict[str, Any]:
    value = entry.get(name)
    return value if isinstance(value, dict) else {}


def _str(entry: dict[str, Any], name: str) -> str | None:
    value = entry.get(name)
    return value if isinstance(value, str) and value else None


def _positive(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 else None
