"""A conversation as it grows: what was typed, said and attached, and what is sent next. Nothing here reads or writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

import attrs

from routerkit.cli.attachments import Attachment, Content, content

if TYPE_CHECKING:
    from routerkit.types.completion import Completion

COMMANDS: dict[str, tuple[str, str]] = {
    "help": ("", "this list"),
    "model": ("[ID]", "which model answers; with ID, another one from now on"),
    "models": ("WORDS", "models of the catalogue that have these words in id or name"),
    "system": ("[TEXT]", "the system message; with TEXT, another one from now on; - takes it away"),
    "file": ("PATH|URL", "attach a file to the next message"),
    "image": ("PATH|URL", "attach a picture"),
    "audio": ("PATH", "attach sound"),
    "retry": ("", "ask the last message again, in place of its answer"),
    "undo": ("", "take back what is attached, else the last message and its answer"),
    "clear": ("", "begin anew, with the same model and system message (also /reset)"),
    "cost": ("", "what was used so far"),
    "save": ("PATH", "write the conversation into a new file, as JSON"),
    "explain": ("[TEXT]", "which models would be asked next, and why"),
    "quit": ("", "leave (also /exit, or Ctrl-D)"),
}
"""What each command takes, and what it does."""
ALIASES = {"reset": "clear", "exit": "quit"}

NOT_RUN = "Not run: this chat shows tool calls and makes none."
"""What a model is told that asked for a tool; without it, gateways refuse the next message."""

_COMMAND = re.compile(r"/([A-Za-z]+)(?:\s+(.*))?", re.DOTALL)
_BLOCK = '"""'


# What is typed


@attrs.frozen
class Entry:
    """A message, or a command with its argument."""

    text: str
    command: str | None = None


class Typing:
    """Puts lines together: one that ends in a backslash goes on in the next, three double quotes hold a block of any lines."""

    def __init__(self) -> None:
        self.drop()

    def drop(self) -> None:
        """Forget what was begun."""
        self._lines: list[str] = []
        self._in_block = False

    @property
    def unfinished(self) -> bool:
        """Whether an entry was begun and goes on."""
        return self._in_block or bool(self._lines)

    def feed(self, line: str) -> Entry | None:
        """Take the next line, or lines pasted as one; gives the entry that it completes. An empty message asks for nothing."""
        if self._in_block:
            return self._block(line)
        if not self._lines and line.lstrip().startswith(_BLOCK):
            self._in_block = True
            first = line.lstrip()[len(_BLOCK) :].removeprefix("\n")
            return self._block(first) if first.strip() else None
        if _goes_on(line):
            self._lines.append(line[:-1])
            return None
        text = "\n".join([*self._lines, line])
        self.drop()
        return entry_of(text)

    def feed_all(self, lines: Sequence[str]) -> list[Entry]:
        """Take lines that came at once, as when they were pasted: together they are one message, but for commands among them."""
        groups = [(each[0], [*each[1]]) for each in groupby(lines, key=_commands)]
        fed = [self.feed(each) for command, group in groups for each in (group if command else ["\n".join(group)])]
        return [entry for entry in fed if entry is not None]

    def _block(self, line: str) -> Entry | None:
        """A line of a block, which ends with it where the line does with its quotes. What is in it is sent as it is."""
        closed = line.rstrip().endswith(_BLOCK)
        last = line.rstrip()[: -len(_BLOCK)].removesuffix("\n") if closed else line
        if last or not closed:
            self._lines.append(last)
        if not closed:
            return None
        text = "\n".join(self._lines)
        self.drop()
        return Entry(text if text.strip() else "")


def _goes_on(line: str) -> bool:
    """Whether it ends in a backslash that is not itself behind one."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def entry_of(text: str) -> Entry:
    """A command, if it looks like one: a single line of a slash and a word. Two slashes begin a message that begins with one."""
    text = text.strip()
    found = None if "\n" in text else _COMMAND.fullmatch(text)
    if found is None:
        return Entry(text[1:] if text.startswith("//") else text)
    name = found[1].lower()
    return Entry((found[2] or "").strip(), ALIASES.get(name, name))


def _commands(line: str) -> bool:
    return entry_of(line).command is not None


# What was said


@attrs.frozen(kw_only=True)
class Answer:
    """What a model said, as far as it came."""

    text: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """As the gateway sent them."""
    model: str | None = None
    gateway: str | None = None
    usage: Mapping[str, Any] = attrs.field(factory=dict)
    cost: Decimal | None = None
    """USD; ``None``: unknown."""
    mock: bool = False
    cut: bool = False
    """Whether it broke off: by Ctrl-C, or on its way."""

    @classmethod
    def of(cls, answer: Completion) -> Answer:
        return cls(
            text=answer.text or answer.refusal or "",
            tool_calls=tuple(call.to_dict() for call in answer.tool_calls),
            model=answer.model,
            gateway=answer.gateway,
            usage=answer.usage.to_dict(),
            cost=answer.cost,
            mock=answer.mock,
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send back; some providers refuse an assistant's message without content."""
        return not self.text.strip() and not self.tool_calls

    def messages(self) -> Iterator[dict[str, Any]]:
        """As it is sent back: text and tool calls, each call with the news that nobody made it. Never its reasoning."""
        if not self.tool_calls:
            yield {"role": "assistant", "content": self.text}
            return
        calls = [_call(place, call) for place, call in enumerate(self.tool_calls, 1)]
        yield {"role": "assistant", "content": self.text or None, "tool_calls": calls}
        for call in calls:
            yield {"role": "tool", "tool_call_id": call["id"], "content": NOT_RUN}

    def to_dict(self) -> dict[str, Any]:
        """What is known of it beside what it says, as plain values for JSON."""
        return {
            "model": self.model,
            "gateway": self.gateway,
            "usage": dict(self.usage),
            "cost": None if self.cost is None else str(self.cost),
            "mock": self.mock,
            "cut": self.cut,
        }


def _call(place: int, call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call that any gateway takes back: with an id, and arguments that are JSON."""
    import orjson

    told = call.get("function")
    function = told if isinstance(told, Mapping) else {}
    arguments = function.get("arguments")
    try:
        orjson.loads(arguments or "")
    except (orjson.JSONDecodeError, TypeError):
        arguments = "{}"
    return {
        "id": str(call.get("id") or f"call_{place}"),
        "type": "function",
        "function": {"name": str(function.get("name") or "unnamed"), "arguments": arguments},
    }


@attrs.define
class Exchange:
    """A message, and its answer once there is one."""

    question: Content
    answer: Answer | None = None


@attrs.define
class Conversation:
    """The state of a chat. A message without an answer stays, and goes along with the next one."""

    model: str | None = None
    """Asked first; ``None``: what the settings say."""
    system_message: str | None = None
    exchanges: list[Exchange] = attrs.field(factory=list)
    attachments: list[Attachment] = attrs.field(factory=list)
    """For the next message."""

    def ask(self, text: str) -> None:
        """The next message, with what is attached."""
        self.exchanges.append(Exchange(content(text, self.attachments)))
        self.attachments = []

    def messages(self) -> list[dict[str, Any]]:
        """What is sent to have the last message answered, for the first time or again."""
        *before, last = self.exchanges
        return self._told(before, last.question)[0]

    def next_messages(self, text: str) -> list[dict[str, Any]]:
        """What would be sent if this were asked next."""
        return self._told(self.exchanges, content(text, self.attachments))[0]

    def answered(self, answer: Answer) -> None:
        """The last message has an answer, in place of any that it had."""
        self.exchanges[-1].answer = answer

    def cut(self, text: str) -> bool:
        """An answer broke off after this; returns whether any of it is kept. Without content, what was there stays."""
        if text.strip():
            self.answered(Answer(text=text, model=self.model, cut=True))
        return bool(text.strip())

    def undo(self) -> str:
        """Take back what came last; returns what that was."""
        if self.attachments:
            names = ", ".join(map(str, self.attachments))
            self.attachments = []
            return f"no longer attached: {names}"
        if not self.exchanges:
            return "there is nothing to take back"
        exchange = self.exchanges.pop()
        return f"taken back: {_beginning(exchange.question)}"

    def clear(self) -> None:
        """Forget all that was said and attached."""
        self.exchanges = []
        self.attachments = []

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values for JSON: ``messages`` as they could be sent, and what is known of each answer among them."""
        messages, answers = self._told(self.exchanges)
        return {
            "model": self.model,
            "messages": messages,
            "answers": [{"message": place, **answer.to_dict()} for place, answer in answers],
        }

    def _told(
        self, exchanges: Iterable[Exchange], question: Content | None = None
    ) -> tuple[list[dict[str, Any]], list[tuple[int, Answer]]]:
        """The messages, and with its place among them each answer. Two of the user never follow each other: some models' templates
        refuse that."""
        messages: list[dict[str, Any]] = []
        if self.system_message is not None:
            messages.append({"role": "system", "content": self.system_message})
        answers = []
        waiting: list[Content] = []
        for exchange in exchanges:
            waiting.append(exchange.question)
            if exchange.answer is not None and not exchange.answer.empty:
                messages.append({"role": "user", "content": _joined(waiting)})
                answers.append((len(messages), exchange.answer))
                messages.extend(exchange.answer.messages())
                waiting = []
        if question is not None:
            waiting.append(question)
        if waiting:
            messages.append({"role": "user", "content": _joined(waiting)})
        return messages, answers


def _joined(contents: Sequence[Content]) -> Content:
    """Several messages' contents as one."""
    texts = [each for each in contents if isinstance(each, str)]
    if len(texts) == len(contents):
        return "\n\n".join(texts)
    return [
        part
        for each in contents
        for part in ([{"type": "text", "text": each}] if isinstance(each, str) else each)
        if part.get("type") != "text" or part["text"]
    ]


def _beginning(question: Content) -> str:
    text = question if isinstance(question, str) else str(question[0].get("text", "(an attachment)"))
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"
