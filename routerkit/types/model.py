"""An entry of a gateway's catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from operator import attrgetter
from typing import Any, TypedDict

import attrs


@attrs.frozen
class Pricing:
    """Prices in USD per token (``request`` per request, ``image`` per image, ``web_search`` per search). ``None`` means unknown:
    never free.

    OpenRouter sends decimal strings, USD per token; negative means that a router decides, so: unknown.
    """

    prompt: Decimal | None = None
    completion: Decimal | None = None
    request: Decimal | None = None
    image: Decimal | None = None
    audio: Decimal | None = None
    web_search: Decimal | None = None
    internal_reasoning: Decimal | None = None
    input_cache_read: Decimal | None = None
    input_cache_write: Decimal | None = None
    input_cache_write_1h: Decimal | None = None
    """What a token costs that is written to a cache for an hour."""
    image_token: Decimal | None = None
    """A token of an image in the prompt."""
    image_output: Decimal | None = None
    """A token of an image in the answer."""
    audio_output: Decimal | None = None
    """A token of sound in the answer."""
    overrides: tuple[PriceOverride, ...] = ()
    """What is charged instead when conditions are met; of those that apply, a later one wins."""
    unclear: bool = False
    """Whether the catalogue tells of a price here that nobody can read."""

    @property
    def known(self) -> bool:
        """Whether prompt and completion prices are known, the least that a price comparison needs."""
        return self.prompt is not None and self.completion is not None

    @property
    def free(self) -> bool:
        """Whether everything that has a price here costs nothing, at any time; false when prompt or completion price is unknown,
        or when a price cannot be read."""
        if not self.known or self.unclear or any(amounts(self)):
            return False
        return not any(any(amounts(override.prices)) for override in self.overrides)


COMPONENTS = tuple(field.name for field in attrs.fields(Pricing) if field.name not in ("overrides", "unclear"))
"""The names of the prices."""
amounts = attrgetter(*COMPONENTS)
"""The prices themselves, in that order."""


@attrs.frozen
class PriceOverride:
    """Prices that stand in place of a model's own, such as those for long prompts or certain hours."""

    prices: Pricing
    """Those that change; ``None``: stays."""
    above: int = 0
    """It holds for prompts of more than so many tokens."""
    sure: bool = True
    """Whether that is the only condition. Others are hours of the day, and whatever else a gateway thinks of."""


@attrs.frozen
class Model:
    """A model of the catalogue. What the gateway did not say is ``None`` or empty; all it said is in ``raw``."""

    id: str
    name: str = ""
    context_length: int | None = None
    """Tokens, prompt and answer together."""
    max_completion_tokens: int | None = None
    pricing: Pricing = Pricing()
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    supported_parameters: frozenset[str] = frozenset()
    created: int | None = None
    """Unix seconds."""
    expiration_date: str | None = None
    """ISO date after which the gateway no longer serves it."""
    description: str = attrs.field(default="", repr=False)
    gateway: str = ""
    """The name of the gateway that lists it."""
    raw: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)

    def to_dict(self) -> dict[str, Any]:
        """The entry as the gateway sent it; of one that two of its lists have, both in one, the catalogue's fields first."""
        return self.raw


class ModelFilters(TypedDict, total=False):
    """What ``client.models()`` can be asked for. A model is found when it is all of it; ``None`` asks for nothing."""

    modality: str | Iterable[str] | None
    """A word such as ``image``, in whatever case, or several, all of which it must take. One that does not tell what it takes is
    not found."""
    output_modality: str | Iterable[str] | None
    """Likewise, of what it gives."""
    supports: str | Iterable[str] | None
    """A request parameter such as ``tools``, or several, all of which it must list as supported."""
    max_price: str | Decimal | float | None
    """USD per token that neither its prompt nor its completion price exceeds; both must be known."""
    min_context: int | None
    """Tokens. One that does not tell its context length is not found."""
    free: bool | None
    """``True``: every price that it tells is zero; ``False``: it costs something, or nobody knows."""
    search: str | None
    """Words, each of which its id or its name must hold; in whatever case."""
