"""How much a tenant may ask and spend. Frozen values, validated when they are made."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias

import attrs

from routerkit.errors import ConfigurationError
from routerkit.types.policy import number

Period: TypeAlias = Literal["day", "month", "total"]
PERIODS = ("day", "month", "total")
OnUnknownPrice: TypeAlias = Literal["refuse", "allow"]
ON_UNKNOWN_PRICE = ("refuse", "allow")

_MAX_COUNT = 10**12
_MAX_USD = 10**9
_DAY = 86400.0

_count = attrs.validators.optional(number(1, _MAX_COUNT, whole=True))


@attrs.frozen
class Limits:
    """How often, and how much at a time, may be asked. ``None``: no limit.

    This version carries them with a :class:`Tenant`; it does not enforce them yet.
    """

    requests_per_minute: int | None = attrs.field(default=None, validator=_count)
    tokens_per_minute: int | None = attrs.field(default=None, validator=_count)
    """Of prompt and answer together."""
    requests_per_day: int | None = attrs.field(default=None, validator=_count)
    """A day begins at midnight UTC."""
    concurrency: int | None = attrs.field(default=None, validator=_count)
    """Calls under way at the same time."""
    queue_size: int = attrs.field(default=0, validator=number(0, 10**6, whole=True))
    """Callers over ``concurrency`` that wait their turn; any more are refused."""
    queue_timeout: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(number(0, _DAY, exclusive=True))
    )
    """Seconds that one of them waits at most; ``None``: until its deadline."""


def _usd(value: Any) -> Any:
    """An amount, or what is none as it came, for the validator to refuse."""
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return value
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return value
    except ValueError:  # an int that is too long to be written
        return Decimal("Infinity")


@attrs.frozen
class Budget:
    """How much may be spent: ``Budget(5)`` is five US dollars a day.

    This version carries it with a :class:`Tenant`; it does not enforce it yet.
    """

    usd: Decimal = attrs.field(converter=_usd)
    """Given as a string, a whole number, a Decimal or a float; a float counts as it is written."""
    per: Period = attrs.field(default="day")
    """``"day"`` and ``"month"`` begin at midnight UTC; ``"total"``: once and for all."""
    on_unknown_price: OnUnknownPrice = attrs.field(default="refuse")
    """What becomes of a call to a model whose price nobody knows."""

    @usd.validator
    def _check_usd(self, _: attrs.Attribute[Decimal], value: object) -> None:
        if not isinstance(value, Decimal) or not value.is_finite() or not 0 <= value <= _MAX_USD:
            raise ConfigurationError(
                f"Budget(usd={_shown(value)}): must be an amount of US dollars from 0 on, such as '2.50'"
            )

    @per.validator
    def _check_per(self, attribute: attrs.Attribute[str], value: object) -> None:
        _one_of(attribute, value, PERIODS)

    @on_unknown_price.validator
    def _check_on_unknown_price(self, attribute: attrs.Attribute[str], value: object) -> None:
        _one_of(attribute, value, ON_UNKNOWN_PRICE)


def _one_of(attribute: attrs.Attribute[str], value: object, words: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in words:
        raise ConfigurationError(f"Budget({attribute.name}={_shown(value)}): must be one of {', '.join(words)}")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:40] + "…"
