"""Mutants of tables: an entry left out, an entry with another value, a rule with one field changed, a number that is another.

They are made in memory, in a forked child that then runs the tests, so one costs little more than its tests.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs

from tests.mutation.subjects import Subject

PATIENCE = 60
"""Seconds that a mutant may take; one that takes longer has been noticed."""


@attrs.frozen
class Mutant:
    name: str
    apply: Callable[[], None]


def mutants(table: str) -> Iterator[Mutant]:
    """Every mutant of ``module.NAME``."""
    home, name = table.split(".")
    value = getattr(importlib.import_module(f"routerkit.core.{home}"), name)
    if isinstance(value, dict):
        yield from _of_dict(name, value)
    elif isinstance(value, frozenset):
        for member in sorted(value, key=repr):
            yield Mutant(f"{name} without {member!r}", _rebinding(name, value, value - {member}))
    elif isinstance(value, tuple):
        yield from _of_rows(name, value)
    else:
        for other in _others(value):
            yield Mutant(f"{name} = {other!r}", _rebinding(name, value, other))


def survives(mutant: Mutant, subject: Subject) -> bool:
    """Whether the tests do not notice."""
    child = os.fork()
    if child == 0:
        _live(mutant, subject)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _live(mutant: Mutant, subject: Subject) -> None:
    import signal

    import pytest

    code = 3
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            mutant.apply()
            code = int(pytest.main(["-x", "-p", "no:cacheprovider", *subject.tests]))
    finally:
        os._exit(code)


def _of_dict(name: str, table: dict[Any, Any]) -> Iterator[Mutant]:
    values = list(dict.fromkeys(value for value in table.values() if isinstance(value, str)))
    for key, value in table.items():
        shown = f"{name}[{str(key)!r}]"
        yield Mutant(f"{shown} left out", partial(table.__delitem__, key))
        if isinstance(value, str):
            other = values[(values.index(value) + 1) % len(values)]
            yield Mutant(f"{shown} = {other!r}", partial(table.__setitem__, key, other))
        else:
            for field in attrs.fields(type(value)):
                for other in _others(getattr(value, field.name)):
                    changed = attrs.evolve(value, **{field.name: other})
                    yield Mutant(f"{shown}.{field.name} = {other}", partial(table.__setitem__, key, changed))


def _of_rows(name: str, rows: tuple[tuple[str, str], ...]) -> Iterator[Mutant]:
    codes = list(dict.fromkeys(code for _, code in rows))
    for place, (text, code) in enumerate(rows):
        before, after = rows[:place], rows[place + 1 :]
        yield Mutant(f"{name} without {text!r}", _rebinding(name, rows, before + after))
        other = codes[(codes.index(code) + 1) % len(codes)]
        yield Mutant(f"{name}: {text!r} is {other!r}", _rebinding(name, rows, (*before, (text, other), *after)))


def _others(value: Any) -> Iterator[Any]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, enum.Enum):
        members = list(type(value))
        yield members[(members.index(value) + 1) % len(members)]
    elif isinstance(value, (int, float)):
        yield value + 1
        if value:
            yield value - 1
    elif isinstance(value, bytes):
        yield value[:-1]
        yield value + b"X"


def _rebinding(name: str, value: Any, other: Any) -> Callable[[], None]:
    """Puts another value in the place of this one, wherever it was imported to."""

    def apply() -> None:
        for home, module in list(sys.modules.items()):
            if home.startswith("routerkit.") and name in vars(module) and getattr(module, name) == value:
                setattr(module, name, other)

    return apply
