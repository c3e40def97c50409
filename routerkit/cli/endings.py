"""How the command ends: one table of exit codes, and what it says on the way out."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from routerkit.cli.terminal import Output, silence
from routerkit.errors import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    LimitExceededError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RouterKitError,
    StoreUnavailableError,
    StreamInterruptedError,
)

if TYPE_CHECKING:
    import click

    from routerkit.cli.options import Shared


@attrs.frozen
class Ending:
    code: int
    meaning: str
    errors: tuple[type[BaseException], ...] = ()
    """The classes that end so, with those below them that no other row names."""


ENDINGS = (
    Ending(0, "all went well"),
    Ending(1, "no answer: all models failed, or none may be asked; or anything else", (Exception, RouterKitError)),
    Ending(2, "wrong usage of the command, or its extra is not installed"),
    Ending(3, "configuration: a setting is missing or unreadable", (ConfigurationError,)),
    Ending(4, "the request was refused; correct it", (InvalidRequestError, BadRequestError)),
    Ending(
        5,
        "the key or the account: wrong, not allowed, or no credit left",
        (AuthenticationError, PaymentRequiredError, PermissionDeniedError),
    ),
    Ending(6, "a rate limit; later it can work again", (RateLimitError, LimitExceededError, BudgetExceededError)),
    Ending(
        7,
        "the deadline, another timeout, or the connection, that to the store too",
        (DeadlineExceededError, APIConnectionError, StoreUnavailableError),
    ),
    Ending(130, "Ctrl-C", (KeyboardInterrupt,)),
    Ending(141, "whoever read the output went away", (BrokenPipeError,)),
    Ending(143, "SIGTERM, where a command answers it"),
)

_OPTIONS = {
    "client.tenant(name)": "--tenant NAME",
    " model=,": "-m ID",
    " timeout=,": "--timeout DURATION",
    " give its base URL": "--base-url URL",
}
"""Words by which the library's messages say what to do, and what that is called here."""

_CODES = {kind: ending.code for ending in ENDINGS for kind in ending.errors}


def exit_code(error: BaseException) -> int:
    """The code for an error: that of the nearest class in the table; for a broken stream, that of what broke it."""
    if isinstance(error, StreamInterruptedError) and error.__cause__ is not None:
        return exit_code(error.__cause__)
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), 1)


def explained() -> str:
    """The table, for ``--help``."""
    return "\n".join(f"  {ending.code:>3}  {ending.meaning}" for ending in ENDINGS)


def end(error: BaseException, shared: Shared) -> int:
    """Tell what went wrong, on stderr, and with ``--json`` also as a document on stdout. Returns the exit code."""
    code = exit_code(error)
    with suppress(OSError):
        stderr = Output(sys.stderr)
        for text, style in _told(error, verbose=shared.verbose):
            stderr.line(text, style)
        if shared.as_json and isinstance(error, Exception):
            _document(error, str(error), code)
    silence()
    return code


def refuse(error: click.ClickException, *, as_json: bool) -> int:
    """The same for wrong usage, which click words."""
    with suppress(OSError):
        if sys.stderr is not None:  # else click would take stdout
            error.show()
        if as_json:
            _document(error, error.format_message(), error.exit_code)
    silence()
    return error.exit_code


def _document(error: Exception, message: str, code: int) -> None:
    from routerkit.cli.render import error_document

    Output(sys.stdout).json({**error_document(error, message), "exit_code": code})


def _told(error: BaseException, *, verbose: bool) -> Iterator[tuple[str, str]]:
    """Messages and their styles: what happened, what was tried, what helps."""
    if verbose:
        yield "".join(traceback.format_exception(error)).rstrip("\n"), "dim"
    if isinstance(error, KeyboardInterrupt):
        yield "routerkit: interrupted", ""
    elif isinstance(error, RouterKitError):
        yield f"routerkit: {error}", "red"
    else:
        kind = "" if isinstance(error, OSError) else f"unexpected {type(error).__name__}: "
        yield f"routerkit: {kind}{error}" + ("" if verbose else " (-v shows where)"), "red"
    if isinstance(error, RouterKitError) and error.route is not None:
        from routerkit.cli.render import attempt_lines

        for line in attempt_lines(error.route):
            yield line, "dim"
    here = dict.fromkeys(option for words, option in _OPTIONS.items() if words in f"{error} ")
    if here and isinstance(error, RouterKitError):
        yield f"On the command line: {', '.join(here)}", "dim"
    if isinstance(error, ConfigurationError):
        yield "Settings come from the environment, a .env file and options: see routerkit --help", "dim"
