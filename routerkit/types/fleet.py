"""What all processes of a fleet saw, added up where they share a store: what ``client.fleet()`` gives."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from routerkit.types.store import StoreReport
from routerkit.types.usage import Stats, UsageReport

KEPT_DAYS = 35
"""UTC days, today among them, of which the store keeps what was used."""


@attrs.frozen(kw_only=True)
class OpenBreaker:
    """A breaker that some process opened, as the fleet was told."""

    scope: str
    """``model on gateway``, or a gateway's name; empty where this process has never heard of what it is."""
    age: float
    """Seconds since it was told."""
    left: float
    """Seconds for which it stays open; 0: its time is over, and the next call that needs it probes."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return attrs.asdict(self)


@attrs.frozen(kw_only=True)
class LimitState:
    """What is used of one limit or budget now, by all processes together."""

    owner: str | None
    """The tenant whose limit it is; ``None``: it is shared by all."""
    label: str
    """The limit as people read it."""
    kind: str
    """``rate``, ``day``, ``slots`` or ``money``."""
    cap: int | Decimal
    """Requests, tokens or places; of money US dollars, a Decimal. So are the next two."""
    used: int | Decimal
    """Of a rate: what has not come back yet. Of places: none, as they are held."""
    held: int | Decimal
    """By calls under way: places, and money that is set aside for what they may cost."""
    resets_at: float | None
    """Unix seconds at which all that is used will have come back, of days and months their end; ``None``: it never does, or there
    is nothing to come back."""

    @property
    def left(self) -> int | Decimal:
        """What may still be used now, from 0 on."""
        return max(self.cap - self.used - self.held, self.cap * 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; money as decimal strings."""
        return {name: _plain(value) for name, value in {**attrs.asdict(self), "left": self.left}.items()}


@attrs.frozen(kw_only=True)
class FleetReport:
    """What all processes that share a store and its namespace did, and how they are now.

    Each tells every ten seconds or so, with its next call, and when its client is closed: a call that ends later is in no sum.
    """

    days: int
    """UTC days of the store's clock that are added up, today the last of them."""
    since: float
    """Unix seconds: 00:00 UTC of the first of these days."""
    usage: UsageReport
    """By tenant, gateway and model. Costs are whole pico-dollars."""
    stats: Stats
    """Of all tenants together; of a tenant's client, its own."""
    stats_by_tenant: Mapping[str | None, Stats]
    """``None``: calls of clients without tenants."""
    breakers: tuple[OpenBreaker, ...]
    """The one that was told of last comes first."""
    limits: tuple[LimitState, ...]
    """Those that this client's settings name."""
    store: StoreReport
    """How the store does, as this process saw it."""
    left_out: int = 0
    """Additions to these sums for which there was no room, as there were too many names: some sums are too low."""
    unreadable: int = 0
    """Entries found in the store that no process of ours had written; they are left out."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; costs and other money are decimal strings, ``stats_by_tenant`` a list of what ``stats`` is."""
        return {
            "days": self.days,
            "since": self.since,
            "usage": self.usage.to_dict(),
            "stats": self.stats.to_dict(),
            "stats_by_tenant": [stats.to_dict() for stats in self.stats_by_tenant.values()],
            "breakers": [breaker.to_dict() for breaker in self.breakers],
            "limits": [limit.to_dict() for limit in self.limits],
            "store": attrs.asdict(self.store),
            "left_out": self.left_out,
            "unreadable": self.unreadable,
        }


def _plain(value: Any) -> Any:
    return format(value, "f") if isinstance(value, Decimal) else value
