"""What a request is expected to cost, what an answer cost, which models cost no more than others, and which have become a
lot dearer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import attrs

from routerkit.core.needs import EXPECTED_ANSWER, MEDIA_TOKENS, Needs
from routerkit.types.event import PriceJump
from routerkit.types.model import COMPONENTS, Model, Pricing
from routerkit.types.tokens import CostSource, Usage
from routerkit.types.usage import EXACT

JUMP = 2
"""A price that rose to more than this many times what it was has jumped; one that was zero, whatever it is now."""
MAX_JUMPS = 100
"""Jumps that are told of at a time."""
PER_IMAGE = 50
"""An image price of at least so many prompt tokens is for a whole image, as OpenRouter's schema has it; a smaller one is for a
token of an image, and those are among the prompt's. In OpenRouter's list the former are worth a thousand tokens and more, the
latter equal the prompt price."""
_ZERO = Decimal(0)


def expected_cost(model: Model, needs: Needs) -> Decimal | None:
    """USD that a request is expected to cost with a model, for comparisons; ``None``: prompt or completion price unknown, or one
    of its prices cannot be read.

    The estimate of the prompt, of which what a cache may hold is read from it and sounds have their own price, and as many answers
    as it asks for, each as long as it allows, or, where it sets no limit, of ``EXPECTED_ANSWER`` tokens, twice as many with
    reasoning, or what the model can give at most. With reasoning, half of an answer's tokens are reasoning: what OpenRouter gives
    it at medium effort. Then the prices of a request and of each image, whose tokens are no longer the prompt's where it has a
    price of its own. Searches of the web are left out: nobody can foresee how many there will be.
    """
    prices = prices_for(model.pricing, needs.prompt_tokens)
    images = needs.images if image_price(prices) else 0
    answer = needs.answer_tokens
    if not answer:
        answer = EXPECTED_ANSWER * (2 if needs.reasoning else 1)
        answer = min(answer, model.max_completion_tokens or answer)
    return _bill(
        prices,
        prompt=max(0, needs.prompt_tokens - images * MEDIA_TOKENS),
        cached=needs.cached_tokens,
        heard=needs.sounds * MEDIA_TOKENS,
        completion=answer * needs.choices,
        reasoning=answer // 2 * needs.choices if needs.reasoning else 0,
        images=images,
    )


def cost_of(usage: Usage, model: Model | None, images: int = 0) -> tuple[Decimal | None, CostSource]:
    """USD, and where the figure comes from: the gateway's own, else catalogue prices times tokens, else unknown.

    Tokens read from a cache, written to one, of reasoning, of sound and of images are parts of the prompt's and the answer's; each
    counts once, at its own price where there is one. ``images``: how many the request held, where a whole image has a price.
    Prices of certain hours are left out, as nobody tells when an answer was charged; so are searches of the web.
    """
    told = usage.cost
    if told is not None:
        return told, "gateway"
    if model is None or not usage.known:
        return None, "unknown"
    prompt, completion, cached, written, reasoning, heard, spoken = usage.counts()
    cost = _bill(
        prices_for(model.pricing, prompt),
        prompt=prompt,
        cached=cached,
        written=written,
        heard=heard,
        completion=completion,
        reasoning=reasoning,
        spoken=spoken,
        drawn=usage.completion_tokens_details.image_tokens,
        images=images,
    )
    return cost, "unknown" if cost is None else "catalog"


def _bill(
    prices: Pricing,
    *,
    prompt: int,
    completion: int,
    cached: int,
    written: int = 0,
    heard: int = 0,
    reasoning: int,
    spoken: int = 0,
    drawn: int = 0,
    images: int,
) -> Decimal | None:
    """USD of so many tokens, of which these are some; a part that is more than the whole is the whole."""
    if prices.prompt is None or prices.completion is None or prices.unclear:
        return None
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    heard = min(heard, prompt - cached - written)
    reasoning = min(reasoning, completion)
    spoken = min(spoken, completion - reasoning)
    drawn = min(drawn, completion - reasoning - spoken)
    cost = prices.request or _ZERO
    for count, price in (
        (prompt - cached - written - heard, prices.prompt),
        (cached, prices.prompt if prices.input_cache_read is None else prices.input_cache_read),
        (written, write_price(prices.prompt, prices.input_cache_write)),
        (heard, prices.audio or prices.prompt),
        (completion - reasoning - spoken - drawn, prices.completion),
        (reasoning, prices.internal_reasoning or prices.completion),
        (spoken, prices.audio_output or prices.completion),
        (drawn, prices.image_output or prices.completion),
        (images, image_price(prices)),
    ):
        if count:
            cost = EXACT.fma(count, price, cost)
    return cost


def prices_for(prices: Pricing, prompt: int) -> Pricing:
    """What is charged for a prompt of so many tokens, as far as nothing else decides it."""
    for override in prices.overrides:
        if override.sure and prompt > override.above:
            told = ((name, getattr(override.prices, name)) for name in COMPONENTS)
            prices = attrs.evolve(prices, **{name: price for name, price in told if price is not None})
    return prices


def write_price(prompt: Decimal, write: Decimal | None) -> Decimal:
    """USD of a token that is read and written to a cache.

    Less than the prompt price is the price of keeping it, which comes on top: OpenRouter lists that for Gemini, whose cache
    writes cost "input token price + cache storage price" by its page on prompt caching.
    """
    if write is None:
        return prompt
    return EXACT.add(prompt, write) if write < prompt else write


def image_price(prices: Pricing) -> Decimal:
    """USD of one image; zero where there is no price for whole images."""
    image = prices.image or _ZERO
    return image if is_whole(image, prices.prompt or _ZERO) else _ZERO


def is_whole(image: Decimal, prompt: Decimal) -> bool:
    """Whether an image price is for a whole image, next to this prompt price; see ``PER_IMAGE``."""
    return image >= EXACT.multiply(PER_IMAGE, prompt)


def in_usd(cost: Decimal) -> str:
    """A cost as people read it, to three figures: ``0.00123 USD``."""
    return f"{Decimal(f'{cost:.2e}').normalize():f} USD"


def within(price: Pricing, ceilings: Iterable[Pricing], components: Sequence[str] = COMPONENTS) -> bool:
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
        for name in COMPONENTS:
            was, is_now = getattr(old.pricing, name), getattr(model.pricing, name)
            if was is not None and is_now is not None and is_now > was * JUMP:
                found.append(PriceJump(model.id, name, was, is_now))
        if len(found) >= MAX_JUMPS:
            break
    return tuple(found[:MAX_JUMPS])
