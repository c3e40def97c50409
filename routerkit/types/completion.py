"""What comes back: tolerant views on the gateway's own dicts.

Unknown fields are kept in ``raw``; nothing is validated but what routing needs, and a field of the wrong type reads as if it
were missing. Views are cheap: they hold the dict and look into it when asked.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from routerkit.types.tokens import CostSource, Usage, usage_of
from routerkit.types.view import View, views

if TYPE_CHECKING:
    from routerkit.types.route import Route


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
        return views(ToolCall, self.raw.get("tool_calls"))

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
        return views(Choice, self.raw.get("choices"))

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
