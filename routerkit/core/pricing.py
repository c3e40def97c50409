"""What an answer cost, and which models cost no more than others."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import attrs

from routerkit.types.completion import CostSource, Usage
from routerkit.types.model import Model, Pricing

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


def within(price: Pricing, ceilings: Iterable[Pricing]) -> bool:
    """Whether a price is known and no component of it exceeds that of at least one ceiling."""
    return price.known and any(_below(price, ceiling) for ceiling in ceilings if ceiling.known)


def _below(price: Pricing, ceiling: Pricing) -> bool:
    pairs = zip(attrs.astuple(price), attrs.astuple(ceiling), strict=True)
    return all((mine or _ZERO) <= (theirs or _ZERO) for mine, theirs in pairs)
