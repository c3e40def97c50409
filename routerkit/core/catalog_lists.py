"""The lists of models that a gateway has, how each is asked for, and for how long none is after a failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs

from routerkit.core.listing import parse_catalog, parse_details
from routerkit.core.verdict_table import VERDICTS
from routerkit.errors import APIError
from routerkit.types.gateway import Gateway
from routerkit.types.model import Model
from routerkit.types.secret import Credential, Secret
from routerkit.types.verdict import Blame

SHRINK = 0.2
"""A list shorter than this share of the last one is believed only when it comes twice in a row."""


FIRST_PAUSE, LONGEST_PAUSE = 30.0, 600.0
"""Seconds for which the lists are not asked for after a failure; each further one doubles them."""


@attrs.define(eq=False)
class Pause:
    """After failures."""

    error: APIError
    """The last one."""
    failures: int = 0
    until: float = 0.0
    """On the monotonic clock."""


class Pauses:
    """Those of one gateway: its own, and those of keys that it refused, which are no reason for others not to ask."""

    def __init__(self) -> None:
        self._by_key: dict[Secret | None, Pause] = {}
        """``None``: the gateway's own."""

    def find(self, credential: Credential | None, now: float) -> Pause | None:
        """The pause that whoever asks with this key has to keep; of two the longer."""
        met = [self._by_key.get(None)]
        if credential is not None:
            met.append(self._by_key.get(credential.secret))
        kept = [pause for pause in met if pause is not None and now < pause.until]
        return max(kept, key=lambda pause: pause.until, default=None)

    def add(self, error: APIError, credential: Credential | None, now: float, share: float) -> None:
        """Another failure. ``share``: from 0.9 to 1.1, of the usual time."""
        blamed = VERDICTS[error.code].blame if error.code in VERDICTS else Blame.GATEWAY
        of_key = blamed in (Blame.KEY, Blame.TENANT) or error.code == "rate_limited"
        pause = self._by_key.setdefault(credential.secret if credential and of_key else None, Pause(error))
        usual = FIRST_PAUSE * 2 ** min(pause.failures, 10)
        pause.error, pause.failures = error, pause.failures + 1
        pause.until = now + min(LONGEST_PAUSE, max(usual, error.retry_after or 0.0)) * share

    def clear(self) -> None:
        self._by_key.clear()


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
    return (details,) if gateway.needs_key and credential is None else (listed, details)
