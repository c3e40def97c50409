"""What observers are told. An observer is any callable that takes one event; what it raises is logged and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeAlias

import attrs

from routerkit.types.route import Attempt, Route
from routerkit.types.verdict import Word


class BreakerState(Word):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@attrs.frozen
class AttemptFinished:
    """An attempt ended, well or not."""

    attempt: Attempt


@attrs.frozen
class CallFinished:
    """A call ended; ``error`` is the class name of what it raised, ``None`` when it gave an answer."""

    route: Route
    error: str | None
    stream: bool
    tenant: str | None = None
    """On whose behalf; ``None``: of a client without tenants."""


@attrs.frozen
class BreakerChanged:
    """The breaker of a model (``model on gateway``) or of a whole gateway changed its state."""

    scope: str
    state: BreakerState
    open_for: float = 0.0
    """Seconds until it lets a probe through."""


@attrs.frozen
class PriceJump:
    """A price of the catalogue has more than doubled, or is no longer zero. It holds from now on."""

    model: str
    component: str
    """The field of ``Pricing``, such as ``prompt``."""
    before: Decimal
    after: Decimal


@attrs.frozen
class CatalogRefreshed:
    """A gateway's catalogue was fetched, or could not be."""

    gateway: str
    models: int
    error: str | None = None
    dropped: int = 0
    """Entries without a usable id, or with one that an earlier entry has."""
    jumps: tuple[PriceJump, ...] = ()
    """A hundred at most."""
    partial: str | None = None
    """Why one of the gateway's two lists could not be read; the other, and the last good copy of this one, serve."""


class StoreState(Word):
    """What became of the server that counts for many processes."""

    LOST = "lost"
    """It cannot be asked: until it is back each process counts for itself."""
    BACK = "back"
    RESET = "reset"
    """It had lost its counts: they go on from what was remembered."""


@attrs.frozen
class StoreChanged:
    """The store's server was lost, is back, or had lost its counts."""

    state: StoreState
    detail: str = ""
    """Why it is lost, such as ``timeout``; which kind of count it had lost: ``day`` or ``money``."""


@attrs.frozen
class StrategyFailed:
    """A strategy raised, so the planned order stood."""

    strategy: str
    """Its name, or that of its class."""
    error: str
    """The class name of what it raised."""


Event: TypeAlias = AttemptFinished | CallFinished | BreakerChanged | CatalogRefreshed | StoreChanged | StrategyFailed
Observer: TypeAlias = Callable[[Event], object]
