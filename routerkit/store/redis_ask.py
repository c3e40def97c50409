"""What a store in Redis orders: run this script there. Links perform it, one for threads and one for asyncio."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import TypeAlias, TypeVar

import attrs

from routerkit.types.verdict import Word

T = TypeVar("T")

SECONDS = 0.05
"""That a call waits for Redis at most."""


@attrs.frozen(eq=False)
class Script:
    """A Lua script. It takes keys and arguments, and is never put together from them."""

    name: str
    text: str = attrs.field(repr=False)
    sha: str = attrs.field(init=False, repr=False)
    """What Redis knows it by."""

    @sha.default
    def _sha(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@attrs.define(eq=False)
class Ask:
    """An effect: run a script in Redis. Perform it with ``perform`` of a link, and send in the reply, or throw in the
    :class:`StoreFailure` that it raised. Not to be performed for a step that was cancelled: it asks for nothing then."""

    script: Script
    keys: tuple[str, ...]
    """All of one owner: they share a hash tag."""
    args: tuple[str | int, ...]
    """Words and whole numbers, to be sent in one text with blanks between them."""
    seconds: float = SECONDS
    """From connecting to the whole reply."""


Asking: TypeAlias = Generator[Ask, object, T]
"""A step of a store in Redis."""


class Loss(Word):
    """Why there is no reply."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    """Refused, reset, closed, no such host, no server of this service."""
    DENIED = "denied"
    """The server does not let us in, or not do this: NOAUTH, WRONGPASS, NOPERM."""
    UNABLE = "unable"
    """The server cannot do it now: LOADING, READONLY, OOM, BUSY, MOVED and their kin."""
    REPLY = "reply"
    """What came is no reply of our scripts."""


class StoreFailure(Exception):  # noqa: N818 - it never reaches a caller
    """Redis did not do what was asked, or nobody knows whether it did. Thrown into a step by its driver; never reaches a caller."""

    def __init__(self, loss: Loss, detail: str = "") -> None:
        super().__init__(loss, detail)
        self.loss = loss
        self.detail = detail
        """A word for people, such as ``LOADING`` or ``ConnectionRefusedError``; nothing of keys, arguments or passwords."""


def _script(name: str) -> Script:
    folder = Path(__file__).parent
    return Script(name, (folder / "limits.lua").read_text() + (folder / f"{name}.lua").read_text())


ADMIT = _script("admit")
SETTLE = _script("settle")
ADD = _script("add")
