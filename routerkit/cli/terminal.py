"""All that the command writes goes through here, so that nothing a gateway sends can drive the terminal.

On a terminal, control characters other than newline and tab are shown, not sent; elsewhere a model's text is written as it is.
Colours appear on a terminal only, and not when ``NO_COLOR`` is set.
"""

from __future__ import annotations

import io
import math
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

import orjson

if TYPE_CHECKING:
    from rich.table import Table

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_VISIBLE = {**_CONTROLS, ord("\n"): "\n", ord("\t"): "\t", ord("\r"): ""}
_ONE_LINE = {**_CONTROLS, ord("\n"): " ", ord("\t"): " ", ord("\r"): ""}
_IN_JSON = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""What JSON allows in its strings and a terminal would obey."""

_DEEPEST = 100
"""Levels that are kept of a document with too many."""

_PIPE_WIDTH = 10_000
"""Columns of a table that nobody sees on a terminal: as many as it needs."""


def visible(text: str) -> str:
    """A text in which control characters can be seen and do nothing; newline and tab stay, carriage returns go."""
    return text.translate(_VISIBLE)


def one_line(text: str) -> str:
    """The same on one line."""
    return text.translate(_ONE_LINE)


def json_text(document: Any, option: int = 0) -> str:
    """A document as JSON. What a gateway sent can be nested deeper than ``orjson`` writes: then what is far down is left out.
    It can hold larger numbers too, and surrogates."""
    try:
        return orjson.dumps(document, option=option).decode()
    except orjson.JSONEncodeError:
        import json

        return json.dumps(_pruned(document, _DEEPEST), indent=2 if option & orjson.OPT_INDENT_2 else None)


def _pruned(value: Any, levels: int) -> Any:
    if isinstance(value, dict):
        return {name: _pruned(each, levels - 1) for name, each in value.items()} if levels else "…"
    if isinstance(value, (list, tuple)):
        return [_pruned(each, levels - 1) for each in value] if levels else "…"
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Output:
    """Stdout or stderr, as the command writes to it. Everything is flushed at once. Raises BrokenPipeError."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        """``None`` when the process was started without it."""
        self.is_terminal = stream is not None and stream.isatty()
        self._colours = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._line_open = False
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def text(self, text: str) -> None:
        """A piece of a model's text."""
        self._write(visible(text) if self.is_terminal else text)

    def end_line(self) -> None:
        """Begin a new line, unless one has just begun."""
        if self._line_open:
            self._write("\n")

    def clear(self) -> None:
        """Begin at the top of an empty screen; where there is none, go on below."""
        if self.is_terminal and os.environ.get("TERM") != "dumb":
            self._write("\x1b[H\x1b[2J")

    def line(self, text: str, style: str = "") -> None:
        """One message, with control characters made visible wherever it goes. ``style``: a style of rich's."""
        self._write(self._styled(visible(text), style) + "\n")

    def table(self, table: Table) -> None:
        """A table as wide as the terminal; elsewhere as wide as it needs, without styles."""
        from rich.console import Console

        rendered = io.StringIO()
        Console(
            file=rendered,
            force_terminal=self.is_terminal,
            color_system="auto" if self._colours else None,
            width=None if self.is_terminal else _PIPE_WIDTH,
            markup=False,
            emoji=False,
            highlight=False,
        ).print(table)
        lines = rendered.getvalue().splitlines()
        self._write("".join(line.rstrip() + "\n" for line in lines))

    def json(self, document: Any) -> None:
        """One JSON document, always in UTF-8."""
        text = json_text(document, orjson.OPT_INDENT_2).translate(_IN_JSON) + "\n"
        buffer = getattr(self._stream, "buffer", None)
        if buffer is None:
            self._write(text)
        else:
            buffer.write(text.encode())
            buffer.flush()

    def _styled(self, text: str, style: str) -> str:
        if not self._colours or not style:
            return text
        from rich.color import ColorSystem
        from rich.style import Style

        return "\n".join(
            Style.parse(style).render(line, color_system=ColorSystem.STANDARD) for line in text.split("\n")
        )

    def _write(self, text: str) -> None:
        if self._stream is not None and text:
            self._line_open = not text.endswith("\n")  # first: Ctrl-C may come right after the text is seen
            self._stream.write(text)
            self._stream.flush()


def silence() -> None:
    """Let what is still buffered and cannot be written go nowhere, so that the interpreter ends without a complaint."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
