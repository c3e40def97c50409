"""Everything that one client is told, as one frozen value. :mod:`routerkit.config` makes it from arguments and environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from routerkit.types.event import Observer
from routerkit.types.fault import Fault
from routerkit.types.gateway import Gateway
from routerkit.types.limits import Budget, Limits
from routerkit.types.policy import BreakerPolicy, RetryPolicy, Timeouts
from routerkit.types.secret import Secret
from routerkit.types.store import SharedStore
from routerkit.types.tenant import Tenant


@attrs.frozen
class DevMode:
    """How dev mode answers: no key, no network, no cost."""

    script: tuple[Fault, ...] = ()
    """Faults, in the order in which they happen; see "Dev mode" in the documentation."""
    pace: float = 0.0
    """Seconds between two chunks of a stream."""


def _several(value: Gateway | Iterable[Gateway]) -> tuple[Gateway, ...]:
    return (value,) if isinstance(value, Gateway) else tuple(value)


def _name(strategy: Any) -> str:
    """What is shown of a strategy: an object of the user's may hold anything."""
    return repr(strategy) if strategy is None or isinstance(strategy, str) else type(strategy).__name__


@attrs.frozen
class Settings:
    """The settings of a client, validated. ``repr`` shows no key."""

    gateways: tuple[Gateway, ...] = attrs.field(converter=_several)
    """In the order in which they are asked; a single one may be given as it is."""
    keys: Mapping[str, tuple[Secret, ...]] = attrs.field(factory=dict)
    """By gateway."""
    default_model: str | None = None
    fallback_models: tuple[str, ...] = ()
    catalog_fallback: bool = True
    """Whether models that nobody named are asked as a last resort."""
    aliases: Mapping[str, Mapping[str, str | None]] = attrs.field(factory=dict)
    """By model as it is named here: its id by gateway; ``None``: it is not there."""
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    catalog_ttl: float = 3600.0
    """Seconds."""
    strategy: Any = attrs.field(default="priority", repr=_name)
    """The name of a strategy, or an object with its method ``order``."""
    fallback_strategy: Any = attrs.field(default=None, repr=_name)
    """The same for what comes after a first failure; ``None``: the order stays."""
    performance_cache: bool = False
    """Whether performance scores are kept in a file; then targets are scored whatever the strategy."""
    tenants: Mapping[str, Tenant] = attrs.field(factory=dict)
    """By name, each with its keys by gateway. With tenants, a client answers through :meth:`Client.tenant` only."""
    tenant: str | None = None
    """Whose settings these are."""
    limits: Mapping[str, Limits] = attrs.field(factory=dict)
    """By scope, in the order given: see :func:`routerkit.types.scope.scope_of`. Those of a tenant stand with it."""
    budget: Budget | None = None
    """Of all that the client's tenants spend together; that of one tenant stands with it."""
    tenant_limits: Limits | None = None
    """Of the one tenant whose settings these are."""
    tenant_budget: Budget | None = None
    """Likewise."""
    store: SharedStore | None = None
    """Where limits and budgets are counted; ``None``: in this process."""
    dev_mode: DevMode | None = None
    app_url: str | None = None
    """Sent as ``HTTP-Referer``."""
    app_title: str | None = None
    """Sent as ``X-OpenRouter-Title``, where the gateway knows it."""
    observers: Sequence[Observer] = attrs.field(default=(), repr=False)

    @property
    def gateway(self) -> Gateway:
        """The first."""
        return self.gateways[0]

    @property
    def api_key(self) -> Secret | None:
        """The first key of the first gateway."""
        return next(iter(self.keys.get(self.gateway.name, ())), None)

    def headers(self, gateway: Gateway | None = None) -> dict[str, str]:
        """What every request to a gateway carries, without the key; to the first one, when none is named."""
        headers = {"User-Agent": user_agent()}
        if self.app_url:
            headers["HTTP-Referer"] = self.app_url
        title_header = (gateway or self.gateway).title_header
        if self.app_title and title_header:
            headers[title_header] = self.app_title
        return headers


def user_agent() -> str:
    """What every request says of who sends it."""
    from routerkit import __version__

    return f"routerkit/{__version__}"
