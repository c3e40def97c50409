"""How a sweep's figures are written for people."""

from __future__ import annotations

from decimal import Context, Decimal

from routerkit.cli.render import MILLION, money, seconds
from routerkit.types.usage import EXACT

_LEAST, _LITTLE, _MUCH = Decimal("1E-12"), Decimal("0.0001"), Decimal("1E+12")
"""USD: what is less, or more, is written with an exponent, and with two digits what is less than little."""


def dollars(amount: Decimal | None) -> str:
    """USD for people, however little or much it is."""
    if amount is None:
        return "unknown"
    size = abs(amount)
    if size and not _LEAST <= size < _MUCH:
        return f"${amount:.2e}"
    return f"${Context(prec=2).plus(amount):f}" if 0 < size < _LITTLE else money(amount)


def lasting(duration: float) -> str:
    """Seconds for people: ``0.4 ms``, ``35 ms``, ``0.41 s``, ``12 s``, ``1 h 39 min``."""
    if duration < 0.0995:
        return f"{duration * 1000:.{0 if duration >= 0.00995 else 1}f} ms"
    if duration < 119.5:
        return seconds(duration)
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


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
