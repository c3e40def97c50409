"""How much may be asked and spent. Frozen values, validated when they are made."""

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

AN_AMOUNT = "an amount of US dollars from 0 on, such as '2.50'"

_MAX_COUNT = 10**12
_MAX_USD = 10**9
_DAY = 86400.0

_count = attrs.validators.optional(number(1, _MAX_COUNT, whole=True))


@attrs.frozen
class Limits:
    """How often, and how much at a time, may be asked. ``None``: no limit.

    Of a :class:`Tenant` and of the client they count calls, however many attempts a call makes; of a gateway, a key or a model
    they count attempts: see ``Client(limits=…)``. What would go over a limit is refused before anything is sent, with
    :class:`LimitExceededError` where no other model, key or gateway is allowed, and is not counted. A call that sent nothing is
    given back, and so is an attempt that was not sent; one that failed counts.

    Raises ConfigurationError.
    """

    requests_per_minute: int | None = attrs.field(default=None, validator=_count)
    """So many can come at once; then they are let through evenly, one each 60 s / ``requests_per_minute``."""
    tokens_per_minute: int | None = attrs.field(default=None, validator=_count)
    """Of prompt and answer together, in the same manner. An estimate is reserved: of the prompt, and for the answer the request's
    own limit, or what is typical. When the answer is there, what it used takes the estimate's place. A request that may need
    more than the whole limit takes all of it."""
    requests_per_day: int | None = attrs.field(default=None, validator=_count)
    """A day begins at midnight UTC."""
    concurrency: int | None = attrs.field(default=None, validator=_count)
    """Under way at the same time; a stream until it ends or is closed."""
    queue_size: int = attrs.field(default=0, validator=number(0, 10**6, whole=True))
    """Callers of this process over ``concurrency`` that wait their turn, in the order in which they came; any more are refused."""
    queue_timeout: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(number(0, _DAY, exclusive=True))
    )
    """Seconds that one of them waits at most; ``None``: until its deadline."""

    def __attrs_post_init__(self) -> None:
        if self.concurrency is None and (self.queue_size or self.queue_timeout is not None):
            field = "queue_size" if self.queue_size else "queue_timeout"
            raise ConfigurationError(
                f"Limits({field}={getattr(self, field)}): needs concurrency=, the limit that callers queue for"
            )


def amount(value: Any) -> Any:
    """An amount of money from a string, a whole number, a Decimal or a float, which counts as it is written; or what is none as it
    came, for :func:`is_amount` to see."""
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        return value
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return value
    except ValueError:  # an int that is too long to be written
        return Decimal("Infinity")


def is_amount(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and 0 <= value <= _MAX_USD


@attrs.frozen
class Budget:
    """How much may be spent: ``Budget(5)`` is five US dollars a day.

    Before each attempt the most that it can cost is reserved: the prompt, and the longest answer that the request allows, at the
    catalogue's price. When the answer is there, what it cost takes the place of that; where nobody can tell, as of a cancelled
    call that may have been billed, what was reserved stays. An attempt that the rest of the budget does not cover is not sent:
    another model is asked that costs less, or the call ends in :class:`BudgetExceededError`.

    Raises ConfigurationError.
    """

    usd: Decimal = attrs.field(converter=amount)
    """Given as a string, a whole number, a Decimal or a float; a float counts as it is written."""
    per: Period = attrs.field(default="day")
    """``"day"`` and ``"month"`` begin at midnight UTC; ``"total"``: once and for all, or as long as the store remembers: in memory
    that is as long as the process lives."""
    on_unknown_price: OnUnknownPrice = attrs.field(default="refuse")
    """What becomes of an attempt of which nobody can tell what it can cost at most, as with a model without a price:
    ``"refuse"``: it is not sent; ``"allow"``: it is sent as long as anything is left, next to nothing is reserved, and only
    what the gateway tells of its cost counts."""

    @usd.validator
    def _check_usd(self, _: attrs.Attribute[Decimal], value: object) -> None:
        if not is_amount(value):
            raise ConfigurationError(f"Budget(usd={_shown(value)}): must be {AN_AMOUNT}")

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
