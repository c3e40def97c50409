"""What the processes of a fleet keep in one place beside counts: lists of models, and how fast targets are.

Whatever is read there may have been written by anybody: it is bounded, and read as carefully as what a gateway sends.
"""

from __future__ import annotations

import zlib

import orjson

from routerkit.core.effects import Lock, Runtime
from routerkit.core.fleet import Board
from routerkit.core.limits import Counting
from routerkit.core.performance import Scores

KEPT_SECONDS = 86_400.0
"""For which what is written is kept."""
SYNC_SECONDS = 10.0
"""Between two looks at the fleet's scores, ± 10 %."""
MAX_BYTES = 32 * 1024 * 1024
"""Of scores, unpacked. As many as are kept are smaller."""

_SCORES = "scores"
_LEASE_SECONDS = 1.0
"""For which no other process writes scores; longer than the store is ever waited for."""


def packed(data: bytes) -> bytes:
    """For :func:`unpacked`."""
    return zlib.compress(data)


def unpacked(data: bytes, limit: int) -> bytes | None:
    """What was packed, if it is whole, alone, and no more than ``limit`` bytes; more are never made of it."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(data, limit + 1)
    except zlib.error:
        return None
    whole = unpacker.eof and not unpacker.unused_data and len(content) <= limit
    return content if whole else None


class Lease:
    """What one process should do alone, from :meth:`take` to :meth:`end`; :meth:`drop` on every way out."""

    def __init__(self, board: Board, scope: str) -> None:
        self._board = board
        self._scope = scope
        self.held = False

    def take(self, seconds: float) -> Counting[bool | None]:
        """Whether it is ours now; ``None``: nobody can be asked."""
        held = yield from self._board.lease(self._scope, seconds)
        self.held = bool(held)
        return held

    def end(self) -> Counting[None]:
        """Give it back, if it is ours."""
        if self.held:
            yield from self._board.release(self._scope)
            self.held = False

    def drop(self) -> None:
        """Give back without waiting what was not ended."""
        if self.held:
            self._board.release_soon(self._scope)


class SharedScores:
    """The scores of one client, which it exchanges with other processes."""

    def __init__(self, scores: Scores, board: Board, runtime: Runtime) -> None:
        self.unreadable = 0
        """Entries, and whole exchanges, that were no scores."""
        self._scores = scores
        self._board = board
        self._runtime = runtime
        self._next = runtime.monotonic()
        self.forget()
        scores.share()

    def forget(self) -> None:
        """In a forked child: the lock, and an exchange under way, are the parent's."""
        self._lock: Lock = self._runtime.lock()
        self._busy = False

    def sync(self) -> Counting[None]:
        """Learn what the others have seen, and tell what was seen here, if the last time is ten seconds ago. One caller goes, the
        others go on. Without a store that can be asked nothing happens."""
        yield from self._in_turn()

    def flush(self) -> Counting[None]:
        """The same before the end, however long ago the last time is, if there is anything to tell."""
        if self._scores.untold:
            yield from self._in_turn(at_once=True)

    def _in_turn(self, *, at_once: bool = False) -> Counting[None]:
        with self._lock:
            if self._busy or (not at_once and self._runtime.monotonic() < self._next):
                return
            self._busy = True
        lease = Lease(self._board, _SCORES)
        try:
            yield from self._exchange(lease)
            yield from lease.end()
        finally:
            # Without the lock: it may be the garbage collector that ends this, in the midst of it.
            lease.drop()
            self._next = self._runtime.monotonic() + SYNC_SECONDS * (0.9 + 0.2 * self._runtime.random())
            self._busy = False

    def _exchange(self, lease: Lease) -> Counting[None]:
        if self._scores.untold and (yield from lease.take(_LEASE_SECONDS)) is None:
            return
        blob = yield from self._board.read(_SCORES)
        if blob is not None:
            content = unpacked(blob.data, MAX_BYTES)
            try:
                self.unreadable += self._scores.load(None if content is None else orjson.loads(content))
            except orjson.JSONDecodeError:
                self.unreadable += 1
        if lease.held:
            # What is lost on the way is not told again: it is advice.
            yield from self._board.write(_SCORES, packed(orjson.dumps(self._scores.tell())), KEPT_SECONDS)
