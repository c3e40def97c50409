"""One gateway as one client reaches it: its addresses, the headers that it gets, the keys for it, its catalogue."""

from __future__ import annotations

import attrs

from routerkit.core.catalog import CatalogCache
from routerkit.core.keys import Key
from routerkit.types.gateway import Gateway
from routerkit.types.secret import Credential


@attrs.define(eq=False)
class Access:
    gateway: Gateway
    headers: dict[str, str] = attrs.field(repr=False)
    keys: tuple[Key, ...]
    catalog: CatalogCache = attrs.field(repr=False)
    chat_url: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.chat_url = self.gateway.chat_url  # asked for by every attempt

    @property
    def credential(self) -> Credential | None:
        """For what is no attempt: the catalogue, news of the key."""
        return self.keys[0].credential
