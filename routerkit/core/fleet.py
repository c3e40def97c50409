"""What the processes of a fleet tell each other through the store, beside counts: which breakers opened, who probes, the
catalogue, how fast targets are. All of it is advice: without it each process goes by what it sees itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from routerkit.core.limits import Counting


class News(NamedTuple):
    """A breaker of this process opened or closed."""

    scope: str
    """``model on gateway``, or a gateway."""
    seconds: float
    """How long it stays open from now on; 0: it closed."""


class Hint(NamedTuple):
    """A breaker of some process is open."""

    left: float
    """Seconds that it still stays open."""
    age: float
    """Seconds since it was told."""


class Blob(NamedTuple):
    """Bytes that some process wrote."""

    data: bytes
    age: float
    """Seconds since they were written."""


class Board(Protocol):
    """The store's part. All times are of its server's clock; whatever cannot be asked now is ``None``."""

    def name(self, scope: str) -> str:
        """What a scope is called there: nothing that anybody chose stands in it."""

    def exchange(self, news: Sequence[News]) -> Counting[Mapping[str, Hint] | None]:
        """Publish these, and learn all hints that hold, by :meth:`name`."""

    def lease(self, scope: str, seconds: float) -> Counting[bool | None]:
        """Whether this process may do alone, for so long, what only one should do."""

    def release(self, scope: str) -> Counting[None]:
        """It is done. A lease that somebody else holds meanwhile stays."""

    def release_soon(self, scope: str) -> None:
        """The same without waiting and without a lock: of a cancelled call. It is told with what is asked next."""

    def read(self, name: str) -> Counting[Blob | None]:
        """What was written under a name; ``None`` also where there is nothing that may be read."""

    def write(self, name: str, data: bytes, seconds: float) -> Counting[None]:
        """Have it kept for so long."""

    def forget(self) -> None:
        """In a forked child: locks, leases and what is under way are the parent's."""
