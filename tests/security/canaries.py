"""Three canaries: keys, a prompt and an answer, each a word that stands nowhere else; and all that a careless program could print
of an error, to look for them in.

A test calls the library with the names below, never with a local of its own: so every frame may be looked at, the test's too.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import routerkit
from routerkit import AllModelsFailedError, RouterKitError

# Put together, because error trackers and tracebacks quote the source too.
KEY = "-".join(("sk-or-v1", "c0ffee" * 6, "5ec4e7"))
SECOND_KEY = "-".join(("sk-or-v1", "c0ffee" * 6, "0ther5"))
"""Another one, for whoever has several; what finds the one finds the other."""
PROMPT = " ".join(("the patient", "quokka", "has a cold"))
ANSWER = " ".join(("let it drink", "eucalyptus", "tea"))

_MARKS = {"key": "c0ffee" * 4, "prompt": "quokka", "answer": "eucalyptus"}
_PACKAGE = str(Path(routerkit.__file__).parent)
_DEPTH = 6


def found_in(text: str) -> set[str]:
    """Which canaries a text holds."""
    return {name for name, mark in _MARKS.items() if mark in text}


def leaks(said: Iterable[tuple[str, str]], allowed: Iterable[str] = ()) -> list[str]:
    """Where a canary was found that is not allowed: `what: where`."""
    return [f"{name}: {where}" for where, text in said for name in sorted(found_in(text) - set(allowed))]


def chain(error: BaseException) -> list[BaseException]:
    """An exception, its causes, its contexts, and those that a collective one gathers."""
    known: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or any(one is each for each in known):
            continue
        known.append(one)
        waiting += [one.__cause__, one.__context__, *(one.errors if isinstance(one, AllModelsFailedError) else ())]
    return known


def said_by(error: BaseException) -> Iterator[tuple[str, str]]:
    """All that an exception and its chain say of themselves, with where it stands. The locals of frames: see `shown_by`."""
    for each in chain(error):
        name = type(each).__name__
        yield f"str({name})", str(each)
        yield f"repr({name})", repr(each)
        yield f"{name}.args", repr(each.args)
        yield f"{name}.__notes__", repr(getattr(each, "__notes__", ()))
        if isinstance(each, RouterKitError):
            yield f"{name}.to_dict()", json.dumps(each.to_dict())
            yield f"{name}.route", json.dumps(each.route.to_dict()) if each.route else ""
        for field, value in vars(each).items():
            if field != "partial_text":
                yield from rendered(value, f"{name}.{field}")


def shown_by(error: BaseException) -> Iterator[tuple[str, str]]:
    """The locals of all frames of an exception and its chain, as error trackers show them."""
    for each in chain(error):
        told = traceback.TracebackException(type(each), each, each.__traceback__, capture_locals=True)
        yield f"traceback of {type(each).__name__}", "".join(told.format())
        for frame, line in traceback.walk_tb(each.__traceback__):
            yield from shown_in(frame, line)


def shown_in(frame: FrameType, line: int = 0) -> Iterator[tuple[str, str]]:
    """The locals of one frame."""
    where = f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
    for name, value in frame.f_locals.items():
        yield from rendered(value, f"{where}: {name}")


def rendered(value: Any, where: str, depth: int = _DEPTH) -> Iterator[tuple[str, str]]:
    """The value's `repr`, and that of everything in it, as far as it is a container."""
    yield where, repr(value)
    if not depth:
        return
    if isinstance(value, Mapping):
        for key, each in list(value.items()):
            yield from rendered(key, f"{where}, a key", depth - 1)
            yield from rendered(each, f"{where}[{key!r}]", depth - 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for place, each in enumerate(list(value)):
            yield from rendered(each, f"{where}[{place}]", depth - 1)


def is_ours(filename: str) -> bool:
    """Whether a file is one of the package's."""
    return filename.startswith(_PACKAGE)


class Listener(logging.Handler):
    """Everything that any logger says, whatever its level: the lines, and what they were made of."""

    def __init__(self) -> None:
        super().__init__(0)
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        told = {name: value for name, value in vars(record).items() if name not in ("exc_info", "msg", "message")}
        self.lines.append((f"log of {record.name}", f"{logging.Formatter().format(record)} {told!r}"))


@contextmanager
def listening() -> Iterator[Listener]:
    listener, root = Listener(), logging.getLogger()
    level = root.level
    root.addHandler(listener)
    root.setLevel(1)
    try:
        yield listener
    finally:
        root.removeHandler(listener)
        root.setLevel(level)
