"""What an answer used: tokens, and its cost where the gateway tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from routerkit.types.usage import EXACT
from routerkit.types.view import View

CostSource = Literal["gateway", "catalog", "unknown"]
"""Where a cost comes from: the gateway's own figure, catalogue prices times tokens, or nowhere."""
MAX_TOKENS = 1_000_000_000
"""A larger count is nonsense: no model has such a context."""
MIN_COST, MAX_COST = 1e-15, 1e9
"""USD of an answer that costs anything: less, or as much, is nonsense."""

_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?")
_ZERO = Decimal(0)


class _Counts(View):
    """A view on token counts: what was not sent, or sent as nonsense, is 0."""

    __slots__ = ()

    def _count(self, name: str) -> int:
        return _count(self.raw.get(name))


class PromptTokensDetails(_Counts):
    """Parts of a prompt, in OpenAI's words, as the gateway sent them."""

    __slots__ = ()

    @property
    def cached_tokens(self) -> int:
        return self._count("cached_tokens")

    @property
    def cache_write_tokens(self) -> int:
        return self._count("cache_write_tokens")

    @property
    def audio_tokens(self) -> int:
        return self._count("audio_tokens")


class CompletionTokensDetails(_Counts):
    """Parts of an answer, in OpenAI's words, as the gateway sent them."""

    __slots__ = ()

    @property
    def reasoning_tokens(self) -> int:
        return self._count("reasoning_tokens")

    @property
    def audio_tokens(self) -> int:
        return self._count("audio_tokens")

    @property
    def image_tokens(self) -> int:
        return self._count("image_tokens")

    @property
    def accepted_prediction_tokens(self) -> int:
        return self._count("accepted_prediction_tokens")

    @property
    def rejected_prediction_tokens(self) -> int:
        return self._count("rejected_prediction_tokens")


class Usage(_Counts):
    """Token counts. A count that the gateway did not send, or sent as nonsense, is 0; ``known`` tells. One that says nothing at
    all, as that of most chunks of a stream, is false."""

    __slots__ = ("_beside",)

    def __init__(self, raw: dict[str, Any], beside: object = None) -> None:
        """``beside``: the cost that an answer tells beside its usage."""
        super().__init__(raw)
        self._beside = beside

    def __bool__(self) -> bool:
        return bool(self.raw) or self._beside is not None

    @property
    def known(self) -> bool:
        """Whether the gateway sent counts of prompt and completion tokens that can be used."""
        counts = (self.raw.get("prompt_tokens"), self.raw.get("completion_tokens"))
        return all(
            isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MAX_TOKENS for count in counts
        )

    @property
    def prompt_tokens(self) -> int:
        return self._count("prompt_tokens")

    @property
    def completion_tokens(self) -> int:
        """The whole answer. Reasoning that a gateway counts beside the completion, as xAI and its total do, is in it."""
        return self.counts()[1]

    @property
    def total_tokens(self) -> int:
        """As told; or prompt and completion together, where that is more or nothing was told."""
        prompt, completion, *_ = self.counts()
        return max(self._count("total_tokens"), prompt + completion)

    @property
    def prompt_tokens_details(self) -> PromptTokensDetails:
        return PromptTokensDetails(self._dict("prompt_tokens_details"))

    @property
    def completion_tokens_details(self) -> CompletionTokensDetails:
        return CompletionTokensDetails(self._dict("completion_tokens_details"))

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were read from a cache; DeepSeek's and Anthropic's names for them count too."""
        return self.counts()[2]

    @property
    def cache_write_tokens(self) -> int:
        """Prompt tokens that were written to a cache; likewise."""
        return self.counts()[3]

    @property
    def reasoning_tokens(self) -> int:
        """Completion tokens that were reasoning."""
        return self.counts()[4]

    @property
    def audio_tokens(self) -> int:
        """Prompt tokens that were sound."""
        return self.counts()[5]

    @property
    def completion_audio_tokens(self) -> int:
        """Completion tokens that were sound."""
        return self.counts()[6]

    def counts(self) -> tuple[int, int, int, int, int, int, int]:
        """Tokens of prompt, completion, cache reads, cache writes, reasoning, sound heard and sound spoken."""
        get = self.raw.get
        cached = written = reasoning = heard = spoken = 0
        prompt, completion = _count(get("prompt_tokens")), _count(get("completion_tokens"))
        details = get("prompt_tokens_details")
        if details.__class__ is dict:  # mostly of zeros
            cached = _count(told) if (told := details.get("cached_tokens")) else 0
            written = _count(told) if (told := details.get("cache_write_tokens")) else 0
            heard = _count(told) if (told := details.get("audio_tokens")) else 0
        details = get("completion_tokens_details")
        if details.__class__ is dict:
            reasoning = _count(told) if (told := details.get("reasoning_tokens")) else 0
            spoken = _count(told) if (told := details.get("audio_tokens")) else 0
        if not cached and (told := get("prompt_cache_hit_tokens") or get("cache_read_input_tokens")):
            cached = _count(told)
        if not written and (told := get("cache_creation_input_tokens")):
            written = _count(told)
        if reasoning and get("total_tokens") == prompt + completion + reasoning:
            completion += reasoning
        return prompt, completion, cached, written, reasoning, heard, spoken

    @property
    def cost(self) -> Decimal | None:
        """USD, when the gateway tells; negative or unreadable figures count as not told.

        Where a provider's own key was used (``is_byok``), the gateway charges a fee at most, and the provider's bill comes on top;
        without that the figure is not whole, and counts as not told.
        """
        told = _usd(self.raw.get("cost"))
        if told is None:
            told = _usd(self._beside)
        if told is not None and self.raw.get("is_byok") is True:
            bill = _usd(self._dict("cost_details").get("upstream_inference_cost"))
            return None if bill is None else EXACT.add(told, bill)
        return told

    def __repr__(self) -> str:
        return f"Usage(prompt_tokens={self.prompt_tokens}, completion_tokens={self.completion_tokens})"


def _count(value: Any) -> int:
    return value if value.__class__ is int and 0 <= value <= MAX_TOKENS else 0


def _usd(value: Any) -> Decimal | None:
    """A number, or one in words, as gateways write their prices."""
    kind = value.__class__
    if kind is str and _DECIMAL.fullmatch(value):
        told, value = value, float(value)
    elif kind is float or kind is int:
        told = repr(value)
    else:
        return None
    if MIN_COST <= value < MAX_COST:
        return Decimal(told)
    return None if value else _ZERO


def usage_of(answer: Mapping[str, Any]) -> Usage:
    """What an answer or chunk tells of its tokens and cost. OpenRouter tells the cost within ``usage``, Infron AI beside it."""
    usage = answer.get("usage")
    return Usage(usage if isinstance(usage, dict) else {}, answer.get("cost"))
