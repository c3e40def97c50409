"""What stdin holds, for the commands that take a prompt from it."""

from __future__ import annotations

import os
import stat
import sys

import click

from routerkit.cli.attachments import TEXT, amount, kind_of, text_of
from routerkit.types.request import MAX_BODY


def prompt_text(prompt: str | None) -> str:
    """The prompt as given; with ``-``, or with none and something piped in, what stdin holds. Raises UsageError."""
    if prompt is None and not piped_in():
        raise click.UsageError("no PROMPT: give one, or pipe it in")
    text = stdin_text() if prompt is None or prompt == "-" else prompt
    if not text.strip():
        raise click.UsageError("the prompt is empty")
    return text


def piped_in() -> bool:
    """Whether stdin is a pipe, a socket or a file: neither a terminal nor /dev/null, nor closed."""
    if sys.stdin is None:
        return False
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):  # something that only looks like a file
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def stdin_text() -> str:
    """All of stdin, to its end, without line breaks there. Raises UsageError when it is no text."""
    if sys.stdin is None:
        raise click.UsageError("no PROMPT: stdin is closed")
    try:
        data = sys.stdin.buffer.read(MAX_BODY + 1)
    except OSError as error:
        raise click.UsageError(f"stdin cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_BODY:
        raise click.UsageError(f"stdin holds more than {amount(MAX_BODY)}, the most that a request has")
    text = text_of(data)
    if text is None or kind_of(data, "") not in (None, TEXT):
        raise click.UsageError("stdin holds no text; other files go with the option --file PATH of routerkit chat")
    return text.rstrip("\r\n")
