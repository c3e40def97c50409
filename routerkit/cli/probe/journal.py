"""``results.jsonl``: the head, then a sample a line, each on the disk before the sweep goes on.

Lines between them say when a question is put and what it can cost at most (``begun``), and what a try counts for that ended without
a sample (``tried``). Each part of a sweep, after the first too, begins with a head: what was under way before it is lost. So a
sweep that is resumed knows how it was asked for last, what it may still spend, and when it may ask again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import orjson

from routerkit.cli.probe.sample import Head, Sample, added, amount, span
from routerkit.cli.probe.schedule import Job
from routerkit.types.route import Target

ZERO = Decimal(0)
_FAR = 1 << 30


class JournalError(ValueError):
    """The results of an earlier sweep cannot be used, or not now; the message says why and names the file."""


@attrs.define(eq=False)
class Record:
    """What a journal holds."""

    head: Head | None = None
    """Of the last part, with the start of the first; ``None``: nothing at all."""
    samples: list[Sample] = attrs.field(factory=list)
    put: dict[str, float] = attrs.field(factory=dict)
    """By gateway, when its last question was put, in Unix seconds."""
    size: int = 0
    """Bytes, without a last line that is torn."""
    whole: bool = True
    """Whether the last line has its end."""
    _lost: list[Decimal | None] = attrs.field(factory=list)
    """USD of what had no sample when a part ended."""
    _begun: dict[Job, Decimal | None] = attrs.field(factory=dict)
    """USD of all tries, of what has no sample in this part."""

    @property
    def done(self) -> set[Job]:
        return {job_of(sample) for sample in self.samples}

    @property
    def unsettled(self) -> list[Decimal | None]:
        """USD that each question may have cost of which no sample tells; ``None``: nobody can tell."""
        return [cost for cost in (*self._lost, *self._begun.values()) if cost is None or cost]

    def enter(self, data: Any) -> None:
        """One line. Raises ValueError."""
        if self.head is None or (isinstance(data, dict) and "version" in data):
            self.open(Head.read(data))
        elif isinstance(data, dict) and "begun" in data:
            self.begin(_job(data["begun"]), span(data.get("at")), _perhaps(data.get("at_most")))
        elif isinstance(data, dict) and "tried" in data:
            self.try_over(_job(data["tried"]), _perhaps(data.get("charged")))
        else:
            self.add(Sample.read(data))

    def open(self, head: Head) -> None:
        """A part begins."""
        self.head = head if self.head is None else attrs.evolve(head, started=self.head.started)
        self._lost += self._begun.values()
        self._begun.clear()

    def begin(self, job: Job, at: float, worst: Decimal | None) -> None:
        self._begun[job] = added(self._begun.get(job, ZERO), worst)
        self.put[job.target.gateway] = at

    def try_over(self, job: Job, charged: Decimal | None) -> None:
        self._begun[job] = charged

    def add(self, sample: Sample) -> None:
        self._begun.pop(job_of(sample), None)
        self.samples.append(sample)


def job_of(sample: Sample) -> Job:
    return Job(Target(sample.gateway, sample.model), sample.round)


def _job(data: Any) -> Job:
    if not isinstance(data, dict) or not isinstance(data.get("round"), int):
        raise ValueError("it names no question")
    return Job(Target(str(data.get("gateway")), str(data.get("model"))), data["round"])


def _named(job: Job) -> dict[str, Any]:
    return {"gateway": job.target.gateway, "model": job.target.model, "round": job.round}


def _perhaps(value: Any) -> Decimal | None:
    return None if value is None else amount(value)


def _text(cost: Decimal | None) -> str | None:
    return None if cost is None else format(cost, "f")


def read(path: Path) -> tuple[Head, list[Sample]]:
    """The head and the samples. A last line that is torn is left out. Raises JournalError, OSError."""
    record = parsed(path.read_bytes(), path)
    if record.head is None:
        raise JournalError(f"{path}: holds no results")
    return record.head, record.samples


def earlier(path: Path) -> list[Sample]:
    """The samples of an earlier sweep: of its folder, its ``results.jsonl`` or its ``results.json``. Raises JournalError."""
    if path.is_dir():
        kept = [path / name for name in ("results.jsonl", "results.json") if (path / name).is_file()]
        if not kept:
            raise JournalError(f"{path}: holds no results.jsonl and no results.json")
        path = kept[0]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict) and "samples" in document:
        return _listed(document["samples"], path)
    record = parsed(data, path)
    if record.head is None:
        raise JournalError(f"{path}: holds no results of routerkit probe")
    return record.samples


def _listed(samples: Any, path: Path) -> list[Sample]:
    try:
        return [Sample.read(each) for each in samples]
    except (TypeError, ValueError) as error:
        raise JournalError(f"{path}: holds no results of routerkit probe: {error}") from None


def parsed(data: bytes, path: Path) -> Record:
    """What the bytes of a journal say. ``path``: for messages. Raises JournalError."""
    record = Record()
    for number, line, whole in _lines(data):
        try:
            record.enter(orjson.loads(line))
        except ValueError as error:
            if not whole:
                break
            raise JournalError(f"{path}, line {number}: {_told(error)}") from None
        record.size += len(line) + whole
        record.whole = whole
    return record


def _lines(data: bytes) -> Iterator[tuple[int, bytes, bool]]:
    """Number, text, and whether its end is there."""
    lines = data.split(b"\n")
    last = lines.pop()
    for number, line in enumerate(lines, 1):
        yield number, line, True
    if last:
        yield len(lines) + 1, last, False


def _told(error: ValueError) -> str:
    return "not JSON" if isinstance(error, orjson.JSONDecodeError) else str(error)


class Journal:
    """A journal that is being written, by this process alone."""

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Begin one; or go on with one, where there is one. Raises JournalError, OSError."""
        self.path = path
        self._file = _opened(path, resume=resume)
        try:
            _lock(self._file, path)
            self.record = parsed(path.read_bytes(), path)
            os.ftruncate(self._file, self.record.size)
            if not self.record.whole:
                self._append(b"\n")
        except BaseException:
            self.close()
            raise

    def begin(self, head: Head) -> None:
        """Write the head of a part."""
        self.record.open(head)
        self._write(head.to_dict())

    def write(self, sample: Sample) -> None:
        """It is on the disk when this returns. Raises OSError."""
        self.record.add(sample)
        self._write(sample.to_dict())

    def begun(self, job: Job, at: float, worst: Decimal | None) -> None:
        """A question is about to be put, at this moment (Unix seconds), that can cost so much (USD; ``None``: nobody can tell)."""
        self.record.begin(job, at, worst)
        self._write({"begun": _named(job), "at": at, "at_most": _text(worst)})

    def tried(self, job: Job, charged: Decimal | None) -> None:
        """A try is over, without a sample; all tries of the question in this part count for so much."""
        self.record.try_over(job, charged)
        self._write({"tried": _named(job), "charged": _text(charged)})

    def close(self) -> None:
        """Harmless when closed. Others may write then."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _write(self, document: dict[str, Any]) -> None:
        self._append(orjson.dumps(document) + b"\n")

    def _append(self, data: bytes) -> None:
        """All of it, or nothing where the disk is full."""
        size = os.fstat(self._file).st_size
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):  # else the next part cuts it off
                os.ftruncate(self._file, size)
            raise OSError(error.errno, error.strerror, str(self.path)) from None


def _opened(path: Path, *, resume: bool) -> int:
    flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
    if resume:
        return os.open(path, flags | os.O_CREAT, 0o644)
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise JournalError(f"{path}: is there already") from None


def _lock(file: int, path: Path) -> None:
    """Hold the file as long as it is open; the system lets go of it when the process dies."""
    try:
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows
            import msvcrt

            locking: Any = msvcrt
            os.lseek(file, _FAR, os.SEEK_SET)  # what is locked there nobody can read either
            locking.locking(file, locking.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise JournalError(f"{path}: another sweep is writing there") from None
