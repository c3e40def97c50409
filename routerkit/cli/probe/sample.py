"""What a sweep measures: a sample is one question put to one model; the head says which sweep it belongs to.

Both are frozen values that go to JSON and back. Money is ``Decimal``, a decimal string in JSON; times are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import attrs

from routerkit.cli.terminal import one_line
from routerkit.types.usage import EXACT

VERSION = 1
"""Of the format of both."""

MAX_ERROR = 300
MAX_TEXT = 200
"""Characters that are kept of an error's message and of an answer."""

T = TypeVar("T")


def shortened(text: str, limit: int) -> str:
    """A text on one line, without control characters, cut to so many characters."""
    line = one_line(text).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


@attrs.frozen(kw_only=True)
class Sample:
    """One question put to one model, and what came of it."""

    gateway: str
    model: str
    round: int = 1
    """Counted from 1, up to ``Head.repeat``."""
    at: float
    """Unix seconds at which the call that counts was started."""
    ok: bool
    cause: str
    """``ok``, or why it failed: a verdict's code such as ``rate_limited``, or a word for what refused it: ``limit``, ``budget``."""
    error: str = ""
    """The message, on one line; empty when all went well."""
    status: int | None = None
    """HTTP status of the last answer, where there was one."""
    waits: int = 0
    """How often the question had to be put off: a limit, a cooldown, ``Retry-After``."""
    waited: float = 0.0
    """Seconds that it was put off, all together."""
    first_token: float | None = None
    """Seconds up to the first content."""
    duration: float = 0.0
    """Seconds of the call that counts, waits before it not included."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    """Among ``completion_tokens``."""
    tokens_per_second: float | None = None
    """``None``: nobody can tell, as when the answer came in one piece."""
    cost: Decimal | None = None
    """USD; ``None``: unknown."""
    cost_source: str = "unknown"
    """Who told: the ``gateway``, the prices of the ``catalog`` times tokens, or nobody: ``unknown``."""
    charged: Decimal | None = Decimal(0)
    """USD that count against ``--max-cost``: the cost, or the most that it can have been, with that of tries before;
    ``None``: nobody can tell."""
    text: str = ""
    """How the answer begins."""
    finish_reason: str | None = None
    mock: bool = False
    """Whether dev mode made the answer up."""
    prompt_price: Decimal | None = None
    completion_price: Decimal | None = None
    """USD per token, as the catalogue said at that time."""
    context_length: int | None = None
    """Tokens, as the catalogue said."""
    name: str = ""
    """The model's name for people."""
    free: bool = False
    """Whether the catalogue says that it costs nothing."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: plain(getattr(self, name)) for name in _SAMPLE}

    @classmethod
    def read(cls, data: Any) -> Sample:
        """What :meth:`to_dict` gave; fields that are not known are passed over. Raises ValueError for what is no sample."""
        return _read(cls, data, _SAMPLE)


@attrs.frozen(kw_only=True)
class Head:
    """Which sweep it is: the first line of its results."""

    version: int = VERSION
    started: float
    """Unix seconds."""
    prompt: str
    repeat: int = 1
    """Rounds."""
    gateways: tuple[str, ...] = ()
    routerkit: str = ""
    """The version of the library."""
    options: Mapping[str, Any] = attrs.field(factory=dict)
    """How it was asked for, as plain values: ``delay`` and ``timeout`` in seconds, ``max_cost`` a decimal string, ..."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: plain(getattr(self, name)) for name in _HEAD}

    @classmethod
    def read(cls, data: Any) -> Head:
        """What :meth:`to_dict` gave. Raises ValueError for what is no head, or one of another version."""
        head = _read(cls, data, _HEAD)
        if head.version != VERSION:
            raise ValueError(f"version {head.version} of the format is not known")
        return head


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")
    return value


def whole(value: Any) -> int:
    """A count. Raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("is no count")
    return value


def span(value: Any) -> float:
    """Seconds, from 0 on. Raises ValueError."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ValueError("is no number of seconds")
    return float(value)


def amount(value: Any) -> Decimal:
    """Money, of a decimal string. Raises ValueError."""
    try:
        found = Decimal(_text(value))
    except InvalidOperation:
        raise ValueError("is no amount") from None
    if not found.is_finite():
        raise ValueError("is no amount")
    return found


def added(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """The sum; ``None``, unknown, where either is."""
    return None if one is None or other is None else EXACT.add(one, other)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("is no list")
    return tuple(map(_text, value))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is no object")
    return value


_HOW: dict[str, Any] = {
    "str": _text,
    "bool": _flag,
    "int": whole,
    "float": span,
    "Decimal": amount,
    "tuple[str, ...]": _names,
    "Mapping[str, Any]": _object,
}
"""By the words of a field's type, what makes it of a plain value. Raises ValueError."""

_SAMPLE = {field.name: field for field in attrs.fields(Sample)}
_HEAD = {field.name: field for field in attrs.fields(Head)}


def _read(kind: type[T], data: Any, fields: Mapping[str, attrs.Attribute[Any]]) -> T:
    if not isinstance(data, dict):
        raise ValueError("no JSON object")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in data:
            if field.default is attrs.NOTHING:
                raise ValueError(f"{name} is missing")
            continue
        words, _, none = str(field.type).partition(" | ")
        if data[name] is None and none:
            values[name] = None
            continue
        try:
            values[name] = _HOW[words](data[name])
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    return kind(**values)


def plain(value: Any) -> Any:
    """A value of a sweep as JSON has it; money as decimal strings."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
