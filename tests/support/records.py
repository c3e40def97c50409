"""Calls as they are taken down in accounts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from routerkit.core.usage import Accounts
from routerkit.core.verdict import Signal, classify
from routerkit.core.verdict_table import Ending
from routerkit.types.route import Attempt, Origin, Route, Target, Wait
from routerkit.types.tokens import Usage
from routerkit.types.verdict import Verdict

A, B = Target("openrouter", "a/one"), Target("openrouter", "b/two")
ELSEWHERE = Target("infron", "a/one")
LOST = classify(Signal(ending=Ending.CANCELLED))
LIMITED = classify(Signal(status=429))
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30, "audio_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 15, "audio_tokens": 3},
}


def route(
    *attempts: tuple[Target, Verdict],
    duration: float = 1.0,
    waits: tuple[float, ...] = (),
    degraded: tuple[str, ...] = (),
) -> Route:
    tried = tuple(Attempt(target, Origin.REQUESTED, verdict, 0.0, 1.0) for target, verdict in attempts)
    return Route(
        tried, waits=tuple(Wait(seconds, "backoff") for seconds in waits), duration=duration, degraded=degraded
    )


def record(
    accounts: Accounts,
    *attempts: tuple[Target, Verdict],
    tenant: str | None = None,
    error: str | None = None,
    stream: bool = False,
    usage: dict[str, Any] | None = None,
    cost: str | None = None,
    **more: Any,
) -> None:
    told = None if usage is None else Usage(usage)
    price = None if cost is None else Decimal(cost)
    accounts.record(tenant, route(*attempts, **more), error, stream, told, price)
