"""How a sweep's figures are written for people."""

from __future__ import annotations

from decimal import Decimal

from routerkit.cli.render import MILLION, money
from routerkit.types.usage import EXACT


def dollars(amount: Decimal | None) -> str:
    """USD for people."""
    return "unknown" if amount is None else money(amount)


def per_million(per_token: Decimal | None) -> str:
    """A price for people: USD per million tokens."""
    return dollars(None if per_token is None else EXACT.multiply(per_token, MILLION))


def counted(count: int, noun: str) -> str:
    """``1 model``, ``2,000 models``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    """0 to 1 as per cent; only what is whole is 0 or 100."""
    rounded = f"{share * 100:.1f}"
    if rounded == "100.0":
        return "100 %" if share == 1 else "99.9 %"
    if rounded == "0.0":
        return "0 %" if share == 0 else "0.1 %"
    return f"{rounded} %"


def in_words(cause: str) -> str:
    """``rate_limited`` as people write it."""
    return cause.replace("_", " ") or "unknown"
