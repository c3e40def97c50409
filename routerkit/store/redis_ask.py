"""The scripts that a store in Redis orders to be run, and for how long a call waits for one."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import TypeAlias, TypeVar

from routerkit.core.effects import Ask, Script

T = TypeVar("T")

SECONDS = 0.05
"""That a call waits for Redis at most."""

Asking: TypeAlias = Generator[Ask, object, T]
"""A step of a store in Redis."""


def ask(script: Script, keys: tuple[str, ...], args: tuple[str | int, ...] = (), blob: bytes | None = None) -> Ask:
    """The order to run a script, as a call may wait for it."""
    return Ask(script, keys, args, SECONDS, blob)


def script(name: str) -> Script:
    """A script of ours; what scripts share stands before it."""
    folder = Path(__file__).parent
    return made(name, (folder / "limits.lua").read_text() + (folder / f"{name}.lua").read_text())


def made(name: str, text: str) -> Script:
    """A script of this text."""
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


ADMIT = script("admit")
SETTLE = script("settle")
ADD = script("add")
