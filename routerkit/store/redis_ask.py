"""The scripts that a store in Redis orders to be run, and for how long a call waits for one.

All keys begin with ``{rk:``. A login that may do no more than this suffices::

    ACL SETUSER routerkit on >password ~{rk:* -@all +eval +evalsha +time +get +set +del +expire +pttl +strlen +getrange
        +hmget +hset +hdel +hlen +hgetall +zadd +zcard +zrem +zrangebyscore

and ``+select`` for a database other than 0; ``+cluster|slots +command +info`` for a cluster; on sentinels ``+sentinel|masters``.
``check.lua`` tries each of the scripts' commands when a client starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import TypeAlias, TypeVar

from routerkit.core.effects import Ask, Script

T = TypeVar("T")

SECONDS = 0.05
"""That a call waits for Redis at most."""
BLOB_SECONDS = 0.25
"""The same where up to four megabytes go with it: over a gigabit they take 35 milliseconds, and nothing but a refresh that takes
seconds anyway waits for them."""
REPORT_SECONDS = 2.0
"""The same where somebody wants to look at a fleet: no call waits for that."""

Asking: TypeAlias = Generator[Ask, object, T]
"""A step of a store in Redis."""


def ask(
    script: Script,
    keys: tuple[str, ...],
    args: tuple[str | int, ...] = (),
    blob: bytes | None = None,
    seconds: float = SECONDS,
) -> Ask:
    """The order to run a script, as a call may wait for it."""
    return Ask(script, keys, args, seconds, blob)


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
CHECK = script("check")
HINTS = script("hints")
LEASE = script("lease")
RELEASE = script("release")
READ = script("read")
WRITE = script("write")
TALLY = script("tally")
PAGE = script("page")
LOOK = script("look")
