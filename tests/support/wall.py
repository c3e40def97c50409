"""What a fleet's server holds, on a virtual clock, and what some process may have left there that is none of ours."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from routerkit.core.fleet import Blob, Hint, News
from routerkit.core.limits import Counting
from routerkit.core.shared import packed
from tests.support.virtual import VirtualRuntime

DAY = 86_400.0


@attrs.define(eq=False)
class Asked:
    """What a seat asks the wall; it takes a millisecond."""

    what: str
    name: str
    perform: Callable[[], Any]


class Wall:
    """What the fleet's server holds."""

    def __init__(self, runtime: VirtualRuntime) -> None:
        self.runtime = runtime
        self.blobs: dict[str, tuple[bytes, float, float]] = {}
        """Data, when it was written, until when it is kept."""
        self._leases: dict[str, tuple[Seat, float]] = {}
        self.lost = False
        self.asked: list[str] = []

    @property
    def leases(self) -> list[str]:
        return [scope for scope, (_, until) in self._leases.items() if until > self.runtime.now]

    def write(self, name: str, data: bytes, age: float = 0.0) -> None:
        now = self.runtime.now
        self.blobs[name] = (data, now - age, now - age + DAY)

    def read(self, name: str) -> Blob | None:
        data, written, until = self.blobs.get(name, (b"", 0.0, 0.0))
        return Blob(data, self.runtime.now - written) if until > self.runtime.now else None

    def lease(self, scope: str, seat: Seat, seconds: float) -> bool:
        assert seconds > 0
        if scope in self.leases:
            return False
        self._leases[scope] = (seat, self.runtime.now + seconds)
        return True

    def release(self, scope: str, seat: Seat) -> None:
        if scope in self.leases and self._leases[scope][0] is seat:
            del self._leases[scope]


class Seat:
    """One process's board."""

    def __init__(self, wall: Wall) -> None:
        self.wall = wall
        self._soon: list[str] = []

    def _ask(self, what: str, name: str, perform: Callable[[], Any]) -> Counting[Any]:
        def performed() -> Any:
            self.wall.asked.append(f"{what} {name}")
            if self.wall.lost:
                return None
            while self._soon:
                self.wall.release(self._soon.pop(), self)
            return perform()

        return (yield Asked(what, name, performed))

    def name(self, scope: str) -> str:
        return scope

    def exchange(self, news: Sequence[News]) -> Counting[Mapping[str, Hint] | None]:
        return (yield from self._ask("exchange", "", dict))

    def lease(self, scope: str, seconds: float) -> Counting[bool | None]:
        return (yield from self._ask("lease", scope, lambda: self.wall.lease(scope, self, seconds)))

    def release(self, scope: str) -> Counting[None]:
        yield from self._ask("release", scope, lambda: self.wall.release(scope, self))

    def release_soon(self, scope: str) -> None:
        self._soon.append(scope)

    def read(self, name: str) -> Counting[Blob | None]:
        return (yield from self._ask("read", name, lambda: self.wall.read(name)))

    def write(self, name: str, data: bytes, seconds: float) -> Counting[None]:
        assert seconds == DAY
        yield from self._ask("write", name, lambda: self.wall.write(name, data))

    def forget(self) -> None:
        self._soon.clear()


def performed(step: Counting[Any]) -> Any:
    """What comes of a step, each of whose orders is performed at once."""
    value = None
    try:
        while True:
            value = step.send(value).perform()
    except StopIteration as stop:
        return stop.value


SOME = b'{"data": [{"id": "a/old"}]}'


def bomb(mebibytes: int = 1024) -> bytes:
    """So many mebibytes of zeros, packed."""
    zeros, packer = bytes(1 << 20), zlib.compressobj(9)
    first, more = (packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + more * (mebibytes - 1) + packer.flush()


GARBAGE = {
    "nothing": b"",
    "noise": b"\x00\xff" * 500,
    "not packed": SOME,
    "cut": packed(SOME)[:-3],
    "more than one": packed(SOME) + b"x",
    "two": packed(SOME) * 2,
    "a bomb": bomb(),
    "no JSON": packed(b"<html>"),
    "a pickle": packed(b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07routers\x94."),
    "deep": packed(b"[" * 100_000),
    "another's": packed(b'{"jobs": [1, 2, 3]}'),
    "no models": packed(b'{"data": [{"title": "x"}, 5, null]}'),
    "a number": packed(b"5"),
    "not text": packed(b'{"data": [{"id": "\xff"}]}'),
}
