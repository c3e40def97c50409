"""A board in memory, on a virtual clock: one server, and each process's own way to it.

It does what the one in Redis does: hints by hashed name, leases with tokens, both of which end by themselves; it can be lost, and
whoever is interrupted while asking may or may not have been heard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from routerkit.core.effects import Ask, Script, Step
from routerkit.core.entries import PARTS, Added, Entry, Page
from routerkit.core.fleet import Blob, Hint, News, Taken
from routerkit.core.limits import Charge, Counting
from tests.support.virtual import VirtualRuntime

_SCRIPT = Script("question", "", "")
_LOST = object()
"""What comes of a question when the server is lost. (A failure that is thrown in is not followed by coverage in Python 3.11.)"""


@attrs.define(eq=False)
class Question(Ask):
    """What a board asks its server."""

    what: str = attrs.field(kw_only=True)
    answer: Callable[[], Any] = attrs.field(kw_only=True)


class BoardServer:
    """What all processes of a fleet ask."""

    def __init__(self, runtime: VirtualRuntime) -> None:
        self.runtime = runtime
        self.lost = False
        self.latency = 0.0
        """Seconds that a question takes, half of them before it is answered."""
        self.asked: list[str] = []
        """The questions that were answered."""
        self.hints: dict[str, tuple[float, float]] = {}
        """By name: when it ends, when it was told."""
        self.leases: dict[str, tuple[str, float]] = {}
        """By scope: the holder's token, until when."""
        self.blobs: dict[str, tuple[bytes, float, float]] = {}
        """By name: the data, when they were written, until when they are kept."""
        self.ahead = 0.0
        """Seconds by which its time of day is ahead of everybody else's."""
        self.days: dict[int, dict[str, tuple[int, ...]]] = {}
        """By day: numbers by name."""
        self.unreadable = 0
        """What stands among a day's first part and is no entry."""
        self.tellers: dict[str, int] = {}
        """The number of the last that each told."""
        self.limits: dict[tuple[str, str], Taken] = {}
        """What is used, by owner and name."""

    @property
    def today(self) -> int:
        return int((self.runtime.wall() + self.ahead) // 86_400)

    def perform(self, question: Ask) -> Any:
        assert isinstance(question, Question)
        if self.lost:
            self.runtime.now += question.seconds
            return _LOST
        self.runtime.now += self.latency / 2
        self.asked.append(question.what)
        answer = question.answer()
        self.runtime.now += self.latency / 2
        return answer

    def exchange(self, news: Sequence[tuple[str, float]]) -> dict[str, Hint]:
        now = self.runtime.now
        for name, seconds in news:
            if seconds:
                self.hints[name] = (now + seconds, now)
            else:
                self.hints.pop(name, None)
        return {name: Hint(ends - now, now - told) for name, (ends, told) in self.hints.items() if ends > now}

    def lease(self, scope: str, token: str, seconds: float) -> bool:
        assert seconds > 0
        if self.holder(scope) is not None:
            return False
        self.leases[scope] = (token, self.runtime.now + seconds)
        return True

    def release(self, scope: str, token: str) -> None:
        if self.holder(scope) == token:
            del self.leases[scope]

    def holder(self, scope: str) -> str | None:
        """The token of who has a lease."""
        token, until = self.leases.get(scope, ("", 0.0))
        return token if until > self.runtime.now else None

    def read(self, name: str) -> Blob | None:
        data, written, until = self.blobs.get(name, (b"", 0.0, 0.0))
        return Blob(data, self.runtime.now - written) if until > self.runtime.now else None

    def tell(self, teller: str, number: int, day: int, entries: Sequence[Entry]) -> Added:
        if number <= self.tellers.get(teller, 0):
            return Added(True, self.today)
        if day != self.today:
            return Added(False, self.today)
        self.tellers[teller] = number
        kept = self.days.setdefault(day, {})
        for name, numbers in entries:
            together = max if name.startswith("m/") else _plus
            known = kept.get(name, (0,) * len(numbers))
            kept[name] = tuple(together(pair) for pair in zip(known, numbers, strict=True))
        return Added(True, self.today)

    def page(self, day: int, part: int) -> Page:
        kept = self.days.get(day, {})
        entries = [Entry(name, numbers) for name, numbers in kept.items() if len(name) % PARTS == part]
        return Page(self.today, entries, self.unreadable if part == 0 else 0)


def _plus(pair: tuple[int, int]) -> int:
    return sum(pair)


class MemoryBoard:
    """One process's :class:`routerkit.core.fleet.Board`."""

    def __init__(self, server: BoardServer) -> None:
        self._server = server
        self._count = 0
        self.names = 0
        """How many names were made."""
        self.forget()

    def forget(self) -> None:
        self._tokens: dict[str, str] = {}
        self._releases: list[tuple[str, str]] = []
        """To be told with what is asked next."""
        self._count += 1
        self.teller = f"{id(self)}-{self._count}"

    def name(self, scope: str) -> str:
        self.names += 1
        return hashlib.sha256(scope.encode()).hexdigest()[:26]

    def exchange(self, news: Sequence[News]) -> Counting[Mapping[str, Hint] | None]:
        told = [(self.name(scope), seconds) for scope, seconds in news]
        shown = " ".join(f"{scope}={seconds:g}" for scope, seconds in news)
        return (yield from self._ask(f"exchange {shown}".rstrip(), lambda: self._server.exchange(told)))

    def lease(self, scope: str, seconds: float) -> Counting[bool | None]:
        self._count += 1
        token = f"{id(self)}-{self._count}"
        leased: bool | None = None
        try:
            leased = yield from self._ask(f"lease {scope}", lambda: self._server.lease(scope, token, seconds))
        finally:
            if leased is None:  # it may have been heard all the same
                self._releases.append((scope, token))
        if leased:
            self._tokens[scope] = token
        return leased

    def release(self, scope: str) -> Counting[None]:
        self.release_soon(scope)
        yield from self._ask(f"release {scope}", lambda: None)

    def release_soon(self, scope: str) -> None:
        token = self._tokens.pop(scope, None)
        if token is not None:
            self._releases.append((scope, token))

    def read(self, name: str) -> Counting[Blob | None]:
        return (yield from self._ask(f"read {name}", lambda: self._server.read(name)))

    def write(self, name: str, data: bytes, seconds: float) -> Counting[None]:
        def write() -> None:
            now = self._server.runtime.now
            self._server.blobs[name] = (data, now, now + seconds)

        yield from self._ask(f"write {name}", write)

    def tell(self, number: int, day: int, entries: Sequence[Entry]) -> Counting[Added | None]:
        what, teller = f"tell {number}", self.teller
        return (yield from self._ask(what, lambda: self._server.tell(teller, number, day, entries)))

    def page(self, day: int, part: int) -> Counting[Page | None]:
        return (yield from self._ask(f"page {day} {part}", lambda: self._server.page(day, part)))

    def look(self, owner: str, charges: Sequence[Charge]) -> Counting[tuple[float, list[Taken]] | None]:
        def look() -> tuple[float, list[Taken]]:
            now, limits = self._server.runtime.wall() + self._server.ahead, self._server.limits
            return now, [limits.get((owner, charge.name), Taken(0, 0, 0)) for charge in charges]

        return (yield from self._ask(f"look {owner} {len(charges)}", look))

    def _ask(self, what: str, perform: Callable[[], Any]) -> Counting[Any]:
        def answered() -> Any:
            while self._releases:
                self._server.release(*self._releases.pop())
            return perform()

        answer = yield Question(_SCRIPT, (), (), 0.05, what=what, answer=answered)
        return None if answer is _LOST else answer


def drive(server: BoardServer, step: Step[Any]) -> Any:
    """What comes of a step that only asks a board."""
    try:
        question = step.send(None)
        while True:
            question = step.send(server.perform(question))
    except StopIteration as stop:
        return stop.value
