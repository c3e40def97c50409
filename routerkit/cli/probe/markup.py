"""HTML and SVG built of elements, so that whatever text goes in comes out as text.

Only what :func:`tag` has made is markup; any other string is escaped where it is put, in an element as in an attribute.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

from routerkit.cli.terminal import one_line

Value: TypeAlias = "str | float | bool | None"
"""Of an attribute: ``None`` and ``False`` leave it out, ``True`` gives it no value, numbers have two decimals at most."""

_VOID = frozenset({"br", "col", "input", "link", "meta"})
HALVES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
"""For ``str.translate``: halves of characters, which cannot be encoded."""
_TURNS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "")
_TAMED = {**HALVES, **_TURNS, 0x2028: " ", 0x2029: " "}
"""And line ends that are none elsewhere, and what turns the direction of all that follows."""


class Markup(str):
    """A string that is HTML already."""

    __slots__ = ()


def clean(text: str) -> str:
    """A text on one line, with control characters made visible; it can be encoded."""
    return one_line(text).translate(_TAMED)


def tag(name: str, *children: str, **attributes: Value) -> Markup:
    """An element. An attribute's name is written with ``_`` for ``-``, and with one more at its end where Python needs that."""
    words = [
        name,
        *(_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False),
    ]
    start = f"<{' '.join(words)}>"
    return Markup(start if name in _VOID else f"{start}{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Markup:
    """Elements and texts, one after the other."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(clean(child)) for child in children))


def _attribute(key: str, value: Value) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return name
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f'{name}="{html.escape(clean(text))}"'
