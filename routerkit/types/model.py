"""An entry of a gateway's catalogue."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs


@attrs.frozen
class Pricing:
    """Prices in USD per token (``request`` per request, ``image`` per image). ``None`` means unknown: never free.

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

    @property
    def known(self) -> bool:
        """Whether prompt and completion prices are known, the least that a price comparison needs."""
        return self.prompt is not None and self.completion is not None

    @property
    def free(self) -> bool:
        """Whether everything that has a price here costs nothing; false when prompt or completion price is unknown."""
        return self.known and not any(attrs.astuple(self))


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
        """The entry as the gateway sent it."""
        return self.raw
