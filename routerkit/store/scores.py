"""Performance scores in a file of the cache folder, so that they survive a restart.

The file holds gateways, models and numbers: no prompt, no key. It is a cache: what cannot be read is passed over, what cannot be
written is logged once, and no call fails because of it. Processes may share it: each keeps what another has saved meanwhile
about targets of which that knows something newer; of two that save in the very same moment one comes a minute late, or not at
all where it ends then.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from routerkit.core.performance import Scores

NAME = "performance.json"
MAX_BYTES = 4 * 1024 * 1024
"""A larger file is none of ours."""
SAVE_SECONDS = 60.0

_LINK = (errno.ELOOP, errno.EMLINK)
"""Of links that are not followed; the second one on FreeBSD."""

log = logging.getLogger("routerkit")


def cache_folder(environ: Mapping[str, str] = os.environ, *, windows: bool = os.name == "nt") -> Path:
    """``$XDG_CACHE_HOME/routerkit``, else ``~/.cache/routerkit``; on Windows ``%LOCALAPPDATA%\\routerkit``.

    As freedesktop.org's base directory specification has it, a relative path is passed over. Raises RuntimeError when nobody
    knows where home is.
    """
    base = Path(environ.get("LOCALAPPDATA" if windows else "XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "routerkit"


class ScoreFile:
    """Loads and saves the scores of one client. Its methods do file I/O, briefly, and may be called from any thread."""

    def __init__(self, folder: str | Path | None, scores: Scores) -> None:
        """``folder``: ``None`` for :func:`cache_folder`. It is made when something is saved."""
        self._folder = folder
        self._scores = scores
        self._lock = threading.Lock()
        self._saved_changes = scores.changes
        self._saved_at: float | None = None
        self._complained: set[str] = set()

    def forget_lock(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def load(self) -> None:
        """Take over what was saved. Never raises: a file that is missing, damaged or hostile is as good as empty."""
        data = self._read()
        if data is not None:
            dropped = self._scores.load(data)
            if dropped:
                self._complain("read", f"{dropped} entries are no scores")

    def save(self) -> bool:
        """Save, if anything is new since the last time. Whether that was done; an OSError is logged once, and retried."""
        with self._lock:
            changes = self._scores.changes
            if changes == self._saved_changes:
                return False
            try:
                self._write(orjson.dumps(self._scores.merged(self._read())))
            except (OSError, RuntimeError) as error:
                self._complain("written", _told(error))
                return False
            self._saved_changes = changes
            return True

    def save_if_due(self, now: float) -> bool:
        """Save when the last time, or the first call of this method, is ``SAVE_SECONDS`` ago. ``now``: the monotonic clock."""
        if self._saved_at is not None and now - self._saved_at < SAVE_SECONDS:
            return False
        first, self._saved_at = self._saved_at is None, now
        return False if first else self.save()

    @property
    def path(self) -> Path:
        """Raises RuntimeError when nobody knows where home is."""
        return (cache_folder() if self._folder is None else Path(self._folder)) / NAME

    def _read(self) -> Any:
        """What the file holds; ``None``: no file, or none that can be read."""
        try:
            content = _content(self.path)
            if len(content) > MAX_BYTES:
                raise OSError(f"more than {MAX_BYTES} bytes")
            return orjson.loads(content)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, orjson.JSONDecodeError) as error:
            self._complain("read", _told(error))
            return None

    def _write(self, content: bytes) -> None:
        """In one step: who reads meanwhile, or finds the file after a crash, sees all of it or all of the one before.

        A link in the place of the file is replaced; what it leads to stays as it is.
        """
        path = self.path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".performance-", dir=path.parent)  # readable by nobody else
        try:
            with open(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _complain(self, what: str, why: str) -> None:
        """Once for reading and once for writing."""
        if what not in self._complained:
            self._complained.add(what)
            with suppress(RuntimeError):
                why = f"{self.path}: {why}"
            log.warning("performance scores could not be %s, and calls go on without: %s", what, why)


def _content(path: Path) -> bytes:
    """A little more than ``MAX_BYTES`` at most. Raises OSError."""
    # Neither a link, which may lead anywhere, nor a pipe, which would be waited for.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise OSError("no regular file")
        if hasattr(os, "geteuid") and about.st_uid not in (0, os.geteuid()):
            raise OSError("it belongs to somebody else")
        with open(handle, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(handle)


def _told(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    return "it is a link" if error.errno in _LINK else error.strerror or str(error)
