"""What an answer cost, which models cost no more than others, and which have become a lot dearer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import attrs

from routerkit.types.completion import CostSource, Usage
from routerkit.types.event import PriceJump
from routerkit.types.model import Model, Pricing

JUMP = 2
"""A price that rose to more than this many times what it was has jumped; one that was zero, whatever it is now."""
MAX_JUMPS = 100
"""Jumps that are told of at a time."""
_ZERO = Decimal(0)


def cost_of(usage: Usage, model: Model | None) -> tuple[Decimal | None, CostSource]:
    """USD, and where the figure comes from: the gateway's own, else catalogue prices times tokens, else unknown.

    Cached prompt tokens count at their own price where there is one.
    """
    told = usage.cost
    if told is not None:
        return told, "gateway"
    if model is None or not usage.known:
        return None, "unknown"
    prices = model.pricing
    if prices.prompt is None or prices.completion is None:
        return None, "unknown"
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    cached_price = prices.prompt if prices.input_cache_read is None else prices.input_cache_read
    cost = (usage.prompt_tokens - cached) * prices.prompt + cached * cached_price
    cost += usage.completion_tokens * prices.completion + (prices.request or _ZERO)
    return cost, "catalog"


ALL = tuple(field.name for field in attrs.fields(Pricing))


def within(price: Pricing, ceilings: Iterable[Pricing], components: Sequence[str] = ALL) -> bool:
    """Whether a price is known and none of these components of it exceeds that of at least one ceiling."""
    return price.known and any(
        all(_component(price, name) <= _component(ceiling, name) for name in components)
        for ceiling in ceilings
        if ceiling.known
    )


def _component(price: Pricing, name: str) -> Decimal:
    value: Decimal | None = getattr(price, name)
    if value is None and name == "internal_reasoning":
        value = price.completion  # that is what reasoning costs where it has no price of its own
    return _ZERO if value is None else value


def price_jumps(before: Mapping[str, Model], now: Iterable[Model]) -> tuple[PriceJump, ...]:
    """The prices that jumped from one catalogue to the next: as the new one lists them, so many at most."""
    found: list[PriceJump] = []
    for model in now:
        old = before.get(model.id)
        if old is None or old.pricing == model.pricing:
            continue
        for name in ALL:
            was, is_now = getattr(old.pricing, name), getattr(model.pricing, name)
            if was is not None and is_now is not None and is_now > was * JUMP:
                found.append(PriceJump(model.id, name, was, is_now))
        if len(found) >= MAX_JUMPS:
            break
    return tuple(found[:MAX_JUMPS])
