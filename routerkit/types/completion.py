"""What comes back: tolerant views on the gateway's own dicts.

Unknown fields are kept in ``raw``; nothing is validated but what routing needs, and a field of the wrong type reads as if it
were missing. Views are cheap: they hold the dict and look into it when asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from routerkit.types.route import Route

CostSource = Literal["gateway", "catalog", "unknown"]
"""Where a cost comes from: the gateway's own figure, catalogue prices times tokens, or nowhere."""

CONTENT = (
    "content",
    "tool_calls",
    "function_call",
    "refusal",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "images",
    "audio",
)
"""The fields of a message or delta that hold what a user asked for."""
MAX_TOKENS = 1_000_000_000
"""A larger count is nonsense: no model has such a context."""


class View:
    """A read-only look at one dict of a gateway's answer."""

    __slots__ = ("raw",)

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw

    def to_dict(self) -> dict[str, Any]:
        """The dict as the gateway sent it."""
        return self.raw

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.raw == self.raw

    __hash__ = None  # type: ignore[assignment]

    def _str(self, name: str) -> str | None:
        value = self.raw.get(name)
        return value if isinstance(value, str) else None

    def _dict(self, name: str) -> dict[str, Any]:
        value = self.raw.get(name)
        return value if isinstance(value, dict) else {}

    def _count(self, name: str) -> int:
        value = self.raw.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


V = TypeVar("V", bound=View)


def _views(kind: type[V], raw: Any) -> list[V]:
    return [kind(each) for each in raw if isinstance(each, dict)] if isinstance(raw, list) else []


class ToolCall(View):
    """``id``, ``function.name``, ``function.arguments`` (JSON text, unparsed)."""

    __slots__ = ()

    @property
    def id(self) -> str | None:
        return self._str("id")

    @property
    def type(self) -> str:
        return self._str("type") or "function"

    @property
    def index(self) -> int:
        """Streams: which of the parallel calls this delta belongs to."""
        return self._count("index")

    @property
    def function(self) -> Function:
        return Function(self._dict("function"))

    def __repr__(self) -> str:
        return f"ToolCall(id={self.id!r}, name={self.function.name!r})"


class Function(View):
    """What a tool call calls."""

    __slots__ = ()

    @property
    def name(self) -> str | None:
        return self._str("name")

    @property
    def arguments(self) -> str:
        return self._str("arguments") or ""


class Message(View):
    """A message of the answer, or in a stream the delta of one."""

    __slots__ = ()

    @property
    def role(self) -> str | None:
        return self._str("role")

    @property
    def content(self) -> str | None:
        """The text. Content that came as a list of parts is their texts, joined."""
        value = self.raw.get("content")
        if isinstance(value, list):
            return "".join(
                part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str)
            )
        return value if isinstance(value, str) else None

    @property
    def reasoning(self) -> str | None:
        return self._str("reasoning") or self._str("reasoning_content")

    @property
    def refusal(self) -> str | None:
        return self._str("refusal")

    @property
    def tool_calls(self) -> list[ToolCall]:
        return _views(ToolCall, self.raw.get("tool_calls"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(role={self.role!r}, {len(self.content or '')} characters)"


class Choice(View):
    """One of the answers to a request; there is one unless ``n`` asked for more."""

    __slots__ = ()

    @property
    def index(self) -> int:
        return self._count("index")

    @property
    def message(self) -> Message:
        return Message(self._dict("message"))

    @property
    def delta(self) -> Message:
        """Streams: what this chunk adds to the message."""
        return Message(self._dict("delta"))

    @property
    def finish_reason(self) -> str | None:
        return self._str("finish_reason")

    @property
    def native_finish_reason(self) -> str | None:
        return self._str("native_finish_reason")

    def __repr__(self) -> str:
        return f"Choice(index={self.index}, finish_reason={self.finish_reason!r})"


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


class _Answer(View):
    """What a completion and a chunk have in common."""

    __slots__ = ()

    @property
    def id(self) -> str | None:
        return self._str("id")

    @property
    def created(self) -> int | None:
        return self._count("created") or None

    @property
    def provider(self) -> str | None:
        """The provider behind the gateway, where it tells."""
        return self._str("provider")

    @property
    def choices(self) -> list[Choice]:
        return _views(Choice, self.raw.get("choices"))

    @property
    def usage(self) -> Usage:
        return usage_of(self.raw)

    @property
    def finish_reason(self) -> str | None:
        """Of the first choice."""
        for choice in self.choices:
            return choice.finish_reason
        return None


class Chunk(_Answer):
    """One event of a stream."""

    __slots__ = ()

    @property
    def model(self) -> str | None:
        """The model that answers."""
        return self._str("model")

    @property
    def text(self) -> str:
        """The text that the first choice's delta adds; often empty."""
        try:
            content = self.raw["choices"][0]["delta"]["content"]
        except (LookupError, TypeError):
            return ""
        return content if isinstance(content, str) else self._delta.content or ""

    @property
    def reasoning(self) -> str:
        return self._delta.reasoning or ""

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Fragments of tool calls; whole ones are in ``stream.completion`` once the stream has ended."""
        return self._delta.tool_calls

    @property
    def _delta(self) -> Message:
        for choice in self.choices:
            return choice.delta
        return Message({})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.text)} characters, finish_reason={self.finish_reason!r})"


class StreamMarker(Chunk):
    """A chunk of our own, without text, between what two models said: see ``on_interrupt``."""

    __slots__ = ("reason",)

    def __init__(self, model: str, reason: str) -> None:
        super().__init__({"object": "chat.completion.chunk", "model": model, "choices": []})
        self.reason = reason
        """The verdict on the stream that broke off, such as ``truncated``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r}, reason={self.reason!r})"


class StreamReset(StreamMarker):
    """All chunks before this one are void: ``model`` starts the answer anew (``on_interrupt="restart"``)."""

    __slots__ = ()


class StreamSeam(StreamMarker):
    """From here on ``model`` continues what the models before it said (``on_interrupt="continue"``)."""

    __slots__ = ()


class Completion(_Answer):
    """A whole answer, with the route that led to it."""

    __slots__ = ("_asked", "_notes", "cost", "cost_source", "gateway", "mock", "route")

    def __init__(
        self,
        raw: dict[str, Any],
        *,
        model: str,
        gateway: str,
        route: Route,
        cost: Decimal | None = None,
        cost_source: CostSource = "unknown",
        mock: bool = False,
        notes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(raw)
        self._asked = model
        self._notes = notes
        self.gateway = gateway
        self.route = route
        """What was tried, in order."""
        self.cost = cost
        """USD; ``None``: unknown."""
        self.cost_source: CostSource = cost_source
        self.mock = mock
        """Whether dev mode made it up."""

    @property
    def model(self) -> str:
        """The model that served, which may be more exact than the one asked for."""
        return self._str("model") or self._asked

    @property
    def flags(self) -> tuple[str, ...]:
        """What is odd about an answer that counts as one all the same; mostly nothing.

        ``no_content``: neither text nor anything else, as when reasoning used up ``max_tokens``; ``no_finish_reason``;
        ``usage_missing``; ``usage_implausible``: counts that cannot be; and of streams ``model_changed``: their chunks
        named several models; ``restarted`` and ``continued``: see ``on_interrupt``.
        """
        usage, found = self.raw.get("usage"), []
        if not any(choice.message.raw.get(name) for choice in self.choices for name in CONTENT):
            found.append("no_content")
        if self.finish_reason is None:
            found.append("no_finish_reason")
        if not isinstance(usage, dict) or not usage:
            found.append("usage_missing")
        elif not self.usage.known:
            found.append("usage_implausible")
        return (*found, *self._notes)

    @property
    def message(self) -> Message:
        """Of the first choice."""
        for choice in self.choices:
            return choice.message
        return Message({})

    @property
    def text(self) -> str:
        """The first choice's text; empty when the answer is a tool call or a refusal."""
        return self.message.content or ""

    @property
    def reasoning(self) -> str | None:
        return self.message.reasoning

    @property
    def refusal(self) -> str | None:
        return self.message.refusal

    @property
    def tool_calls(self) -> list[ToolCall]:
        return self.message.tool_calls

    def __repr__(self) -> str:
        return f"Completion(model={self.model!r}, gateway={self.gateway!r}, {len(self.text)} characters)"
