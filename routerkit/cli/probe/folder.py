"""The folder of a sweep: what may be done with what it holds already, and the files that are written into it."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from routerkit.cli.probe.journal import Journal, JournalError, Record, parsed
from routerkit.cli.probe.sample import Head
from routerkit.cli.terminal import one_line

RESULTS = "results.jsonl"
DOCUMENT = "results.json"
REPORT = "report.html"
LOG = "probe.log"


class Folder:
    """Where a sweep keeps what it finds."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    @property
    def results(self) -> Path:
        return self.path / RESULTS

    def check(self, *, resume: bool) -> None:
        """Raises UsageError when a sweep may not begin here: nothing is ever overwritten."""
        if self.path.exists() and not self.path.is_dir():
            raise click.UsageError(f"--out {self.path}: is no folder")
        if resume:
            return
        for name in (RESULTS, DOCUMENT, REPORT):
            kept = self.path / name
            if os.path.lexists(kept):
                raise click.UsageError(
                    f"{self.path} holds the results of a sweep of {_age(kept)}:"
                    " --resume goes on with it, and --out names another folder"
                )

    def kept(self) -> Record:
        """What an earlier part of the sweep has found. Raises UsageError."""
        try:
            return parsed(self.results.read_bytes(), self.results)
        except FileNotFoundError:
            return Record()
        except JournalError as error:
            raise click.UsageError(f"--resume {error}") from None

    def open(self, *, resume: bool) -> Journal:
        """The journal, which nobody else writes. Raises UsageError, OSError."""
        self.check(resume=resume)
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            return Journal(self.results, resume=resume)
        except JournalError as error:
            raise click.UsageError(str(error)) from None

    def write(self, name: str, content: str) -> Path:
        """A file, in one step: who reads meanwhile, or after a crash, sees all of it or all of the one before. Raises OSError."""
        path = self.path / name
        handle, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=self.path)
        try:
            with open(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, _readable())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return path

    @contextmanager
    def logged(self, tell: Callable[[str], object]) -> Iterator[None]:
        """What the library and the sweep log goes into the folder too, line by line. ``tell``: who hears when that ends early."""
        handler = _Log(self.path / LOG, tell)
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
        log = logging.getLogger("routerkit")
        level = log.level
        log.setLevel(min(level or logging.INFO, logging.INFO))
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)
            handler.close()


class _Log(logging.FileHandler):
    """A disk that is full ends the log, not the sweep."""

    def __init__(self, path: Path, tell: Callable[[str], object]) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._tell = tell
        self._ended = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._ended:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._ended = True
        self._tell(one_line(f"{self.baseFilename} ends here: {error.strerror}"))

    def close(self) -> None:
        with suppress(OSError):  # what could not be written before still cannot
            super().close()


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


def _readable() -> int:
    """The mode of a file that anybody makes."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _age(path: Path) -> str:
    """When the sweep in a folder began, as far as anybody can tell."""
    try:
        with open(path, "rb") as file:
            import orjson

            started = Head.read(orjson.loads(file.readline(1 << 20))).started
    except (OSError, ValueError):
        try:
            started = path.lstat().st_mtime
        except OSError:
            return "unknown age"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(started))
