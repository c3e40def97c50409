"""Processes that wait for Redis as long as it takes. It is small: the services that tests start run it first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from routerkit.core.effects import Ask
from routerkit.store.redis_async import AsyncRedisLink
from routerkit.store.redis_link import RedisLink

PATIENCE = 20.0
"""Seconds that a busy machine may need for anything."""


def unhurry(patch: Callable[[Any, str, Any], object] = setattr) -> None:
    """From now on calls wait for Redis as long as it takes: here a busy machine is not the subject."""
    for link in (RedisLink, AsyncRedisLink):
        perform = link.perform

        def patiently(self: Any, order: Ask, perform: Any = perform) -> Any:
            order.seconds = max(order.seconds, PATIENCE)
            return perform(self, order)

        patch(link, "perform", patiently)
        patch(link.__init__, "__defaults__", (PATIENCE,))
