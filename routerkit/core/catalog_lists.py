"""The lists of models that a gateway has, and how each is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs

from routerkit.core.listing import parse_catalog, parse_details
from routerkit.types.gateway import Gateway
from routerkit.types.model import Model
from routerkit.types.secret import Credential

SHRINK = 0.2
"""A list shorter than this share of the last one is believed only when it comes twice in a row."""


@attrs.frozen(eq=False)
class Listing:
    """One list as it was at one time."""

    models: list[Model]
    dropped: int
    fetched: float
    """On the monotonic clock."""

    def doubts(self, models: Sequence[Model]) -> bool:
        """Whether these are suspiciously few to come after this one."""
        return len(models) < SHRINK * len(self.models)


@attrs.frozen(eq=False)
class Source:
    """A list that can be asked for."""

    url: str
    name: str
    """What people call it."""
    credential: Credential | None
    read: Callable[[Any], tuple[list[Model], int]]


def sources_of(gateway: Gateway, credential: Credential | None) -> tuple[Source, ...]:
    """The lists to ask for. One that would be refused for want of a key is left out if there is another."""
    read = partial(parse_catalog, gateway=gateway.name, per=gateway.prices_per)
    listed = Source(gateway.catalog_url, "the catalogue", credential, read)
    if gateway.details_url is None:
        return (listed,)
    read = partial(parse_details, gateway=gateway.name)
    details = Source(gateway.details_url, "the public catalogue", None, read)
    return (details,) if gateway.key_required and credential is None else (listed, details)
