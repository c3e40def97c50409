"""Everything that one client is told, as one frozen value. :mod:`routerkit.config` makes it from arguments and environment."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from routerkit.types.event import Observer
from routerkit.types.fault import Fault
from routerkit.types.gateway import Gateway
from routerkit.types.policy import BreakerPolicy, RetryPolicy, Timeouts
from routerkit.types.secret import Secret


@attrs.frozen
class DevMode:
    """How dev mode answers: no key, no network, no cost."""

    script: tuple[Fault, ...] = ()
    """Faults, in the order in which they happen; see "Dev mode" in the documentation."""
    pace: float = 0.0
    """Seconds between two chunks of a stream."""


@attrs.frozen
class Settings:
    """The settings of a client, validated. ``repr`` shows no key."""

    gateway: Gateway
    api_key: Secret | None = None
    default_model: str | None = None
    fallback_models: tuple[str, ...] = ()
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    breaker: BreakerPolicy = BreakerPolicy()
    catalog_ttl: float = 3600.0
    """Seconds."""
    strategy: str = "priority"
    fallback_strategy: str = "priority"
    dev_mode: DevMode | None = None
    app_url: str | None = None
    """Sent as ``HTTP-Referer``."""
    app_title: str | None = None
    """Sent as ``X-OpenRouter-Title``, where the gateway knows it."""
    observers: Sequence[Observer] = attrs.field(default=(), repr=False)

    def headers(self) -> dict[str, str]:
        """What every request carries, without the key."""
        headers = {"User-Agent": _user_agent()}
        if self.app_url:
            headers["HTTP-Referer"] = self.app_url
        if self.app_title and self.gateway.title_header:
            headers[self.gateway.title_header] = self.app_title
        return headers


def _user_agent() -> str:
    from routerkit import __version__

    return f"routerkit/{__version__}"
