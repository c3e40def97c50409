"""What a gateway tells about a key and the account behind it: what ``client.key_info()`` gives."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs

from routerkit.types.usage import EXACT


@attrs.frozen
class RateLimit:
    """How many requests a key may make in an interval."""

    requests: int
    interval: str | None = None
    """In the gateway's words, such as ``10s`` or ``1h``."""


@attrs.frozen
class KeyInfo:
    """A key and its account. Money in USD; what the gateway did not tell, or told as nonsense, is ``None``.

    The fields are those of OpenRouter's ``/key`` and ``/credits`` (its API reference, "Get current API key" and "Get remaining
    credits"), which tells credits to management keys only.
    """

    gateway: str
    fingerprint: str
    """The key's, as logs and cooldowns show it."""
    label: str | None = None
    """Its name at the gateway; OpenRouter's is the shortened key, such as ``sk-or-v1-0e6...1c96``. One that holds the key itself
    is left out."""
    limit: Decimal | None = None
    """What may be spent with the key; ``None``: without limit, or not told."""
    limit_remaining: Decimal | None = None
    """What is left of it; below zero when more was spent."""
    limit_reset: str | None = None
    """When the limit begins anew: ``daily``, ``weekly``, ``monthly``; ``None``: never, or not told."""
    usage: Decimal | None = None
    """Spent with the key so far, by all who use it."""
    usage_daily: Decimal | None = None
    """Of the current day; days, weeks and months are those of UTC."""
    usage_weekly: Decimal | None = None
    usage_monthly: Decimal | None = None
    is_free_tier: bool | None = None
    """Whether the account has never paid."""
    expires_at: str | None = None
    """ISO date and time after which the key no longer works."""
    rate_limit: RateLimit | None = None
    """``None`` also where the gateway tells -1, as OpenRouter now does."""
    total_credits: Decimal | None = None
    """Bought for the account so far."""
    total_usage: Decimal | None = None
    """Spent by the account so far."""
    raw: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)
    """All that the gateway sent: the ``data`` of its answers, as ``key`` and ``credits``."""

    @property
    def balance(self) -> Decimal | None:
        """What the account has left; below zero when it owes. ``None`` when its credits are not told."""
        if self.total_credits is None or self.total_usage is None:
            return None
        return EXACT.subtract(self.total_credits, self.total_usage)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without ``raw``; money as decimal strings."""
        values = {**attrs.asdict(self), "balance": self.balance}
        del values["raw"]
        return {name: format(value, "f") if isinstance(value, Decimal) else value for name, value in values.items()}
