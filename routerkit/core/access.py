"""One gateway as one client reaches it: its addresses, the headers that it gets, the keys for it, its catalogue."""

from __future__ import annotations

import attrs

from routerkit.core.catalog import CatalogCache, Snapshot
from routerkit.core.effects import Step
from routerkit.core.health import Health
from routerkit.core.keys import Key
from routerkit.errors import AuthenticationError, PaymentRequiredError, PermissionDeniedError, RateLimitError
from routerkit.types.gateway import Gateway
from routerkit.types.policy import Timeouts


@attrs.define(eq=False)
class Access:
    gateway: Gateway
    headers: dict[str, str] = attrs.field(repr=False)
    keys: tuple[Key, ...]
    catalog: CatalogCache = attrs.field(repr=False)
    chat_url: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.chat_url = self.gateway.chat_url  # asked for by every attempt

    def read(self, health: Health, timeouts: Timeouts, deadline: float, *, refresh: bool = False) -> Step[Snapshot]:
        """The catalogue, with the first key that is not refused. Raises as :meth:`CatalogCache.get` does."""
        keys = [key for key in self.keys if not health.rests(self.gateway.name, key)] or [self.keys[0]]
        for key in keys[:-1]:
            try:
                return (yield from self.catalog.get(key.credential, timeouts, deadline, refresh=refresh))
            except (AuthenticationError, PaymentRequiredError, PermissionDeniedError, RateLimitError):
                continue
        return (yield from self.catalog.get(keys[-1].credential, timeouts, deadline, refresh=refresh))
