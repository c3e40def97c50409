"""What an answer used: tokens, and its cost where the gateway tells it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from routerkit.types.view import View

CostSource = Literal["gateway", "catalog", "unknown"]
"""Where a cost comes from: the gateway's own figure, catalogue prices times tokens, or nowhere."""
MAX_TOKENS = 1_000_000_000
"""A larger count is nonsense: no model has such a context."""
_USUAL = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details", "cost"}
    | {"cost_details", "is_byok"}
)
"""Fields of a usage beside which no other name for cached tokens is to be looked for."""


class Usage(View):
    """Token counts. A count that the gateway did not send, or sent as nonsense, is 0; ``known`` tells."""

    __slots__ = ("_beside",)

    def __init__(self, raw: dict[str, Any], beside: object = None) -> None:
        """``beside``: the cost that an answer tells beside its usage."""
        super().__init__(raw)
        self._beside = beside

    @property
    def known(self) -> bool:
        """Whether the gateway sent counts of prompt and completion tokens that can be used."""
        counts = (self.raw.get("prompt_tokens"), self.raw.get("completion_tokens"))
        return all(
            isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MAX_TOKENS for count in counts
        )

    def _count(self, name: str) -> int:
        return _count(self.raw.get(name))

    @property
    def prompt_tokens(self) -> int:
        return self._count("prompt_tokens")

    @property
    def completion_tokens(self) -> int:
        return self._count("completion_tokens")

    @property
    def total_tokens(self) -> int:
        return self._count("total_tokens") or self.prompt_tokens + self.completion_tokens

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were read from a cache; DeepSeek's and Anthropic's names for them count too."""
        return (
            self._of_prompt("cached_tokens")
            or self._count("prompt_cache_hit_tokens")
            or self._count("cache_read_input_tokens")
        )

    @property
    def cache_write_tokens(self) -> int:
        """Prompt tokens that were written to a cache; likewise."""
        return self._of_prompt("cache_write_tokens") or self._count("cache_creation_input_tokens")

    @property
    def audio_tokens(self) -> int:
        """Prompt tokens that were sound."""
        return self._of_prompt("audio_tokens")

    @property
    def completion_audio_tokens(self) -> int:
        """Completion tokens that were sound."""
        return self._of_completion("audio_tokens")

    @property
    def reasoning_tokens(self) -> int:
        """Completion tokens that were reasoning."""
        return self._of_completion("reasoning_tokens")

    def counts(self) -> tuple[int, int, int, int, int, int]:
        """Tokens of prompt, completion, cache reads, cache writes, reasoning and sound: the properties, in one go."""
        get = self.raw.get
        cached = written = reasoning = sound = 0
        of_prompt, of_completion = get("prompt_tokens_details"), get("completion_tokens_details")
        if of_prompt.__class__ is dict:
            cached, written = _count(of_prompt.get("cached_tokens")), _count(of_prompt.get("cache_write_tokens"))
            sound = _count(of_prompt.get("audio_tokens"))
        if of_completion.__class__ is dict:
            reasoning = _count(of_completion.get("reasoning_tokens"))
            sound += _count(of_completion.get("audio_tokens"))
        if not (cached and written) and not _USUAL.issuperset(self.raw):
            cached, written = self.cached_tokens, self.cache_write_tokens
        return _count(get("prompt_tokens")), _count(get("completion_tokens")), cached, written, reasoning, sound

    @property
    def cost(self) -> Decimal | None:
        """USD, when the gateway tells; negative or unreadable figures count as not told."""
        told = _usd(self.raw.get("cost"))
        return _usd(self._beside) if told is None else told

    def _of_prompt(self, name: str) -> int:
        return _count(self._dict("prompt_tokens_details").get(name))

    def _of_completion(self, name: str) -> int:
        return _count(self._dict("completion_tokens_details").get(name))

    def __repr__(self) -> str:
        return f"Usage(prompt_tokens={self.prompt_tokens}, completion_tokens={self.completion_tokens})"


def _count(value: Any) -> int:
    return value if value.__class__ is int and 0 <= value <= MAX_TOKENS else 0


def _usd(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        return None
    return Decimal(repr(value))


def usage_of(answer: Mapping[str, Any]) -> Usage:
    """What an answer or chunk tells of its tokens and cost. OpenRouter tells the cost within ``usage``, Infron AI beside it."""
    usage = answer.get("usage")
    return Usage(usage if isinstance(usage, dict) else {}, answer.get("cost"))
