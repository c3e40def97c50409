"""What the processes of a fleet tell each other through Redis beside counts; see :mod:`routerkit.core.fleet`.

It is asked through the same gate as for limits: while Redis is lost nothing is asked and nothing waits. The times are Redis's.
"""

from __future__ import annotations

import hmac
import math
import re
import zlib
from collections import deque
from collections.abc import Mapping, Sequence

from routerkit.core.entries import MAX_NAME, PARTS, Added, Entry, Page
from routerkit.core.fleet import Blob, Hint, News, Taken
from routerkit.core.limits import MICROSECONDS, Charge
from routerkit.store.redis_ask import (
    BLOB_SECONDS,
    HINTS,
    LEASE,
    LOOK,
    PAGE,
    READ,
    RELEASE,
    REPORT_SECONDS,
    TALLY,
    WRITE,
    Asking,
    ask,
)
from routerkit.store.redis_line import Line, no_reply_of_ours, numbers
from routerkit.store.redis_names import SEAL, Names

MAX_HINTS = 1000
"""That one namespace holds."""
MAX_SECONDS = 600.0
"""That a hint or a lease holds at most."""
MAX_BLOB = 4 * 1024 * 1024
"""Bytes: more are neither written nor read."""
MAX_KEPT = 7 * 86_400.0
"""Seconds that bytes are kept at most."""
AHEAD = 60.0
"""Seconds by which bytes may have been written later than now, as clocks step back. Of what is further ahead no age is known."""
MAX_RELEASES = 1000
"""That wait for Redis: of more, the oldest are dropped, and those leases end by themselves."""
AT_A_TIME = 50
"""Of these, how many are told at once."""

_NUMBERS = re.compile(rb"\d{1,24}(?:,\d{1,24}){0,99}")
_HINTS = re.compile(rb"1 (\d{1,20}) (\d{1,9})((?: [a-z2-7]{26} \d{1,39} \d{1,39})*)")


class RedisBoard:
    """One per store, for all its threads and tasks. Its methods are steps that yield :class:`Ask`."""

    def __init__(self, line: Line, names: Names) -> None:
        self._line = line
        self._names = names
        self.forget()

    def forget(self) -> None:
        """In a forked child: leases are the parent's, and so is what was told."""
        self._held: dict[str, str] = {}
        """Tokens of leases, by key."""
        self._releases: deque[tuple[str, str]] = deque(maxlen=MAX_RELEASES)
        self._teller = self._line.identity()

    def name(self, scope: str) -> str:
        return self._names.scope(scope)

    def exchange(self, news: Sequence[News]) -> Asking[Mapping[str, Hint] | None]:
        if not (yield from self._enter()):
            return None
        args: list[str | int] = []
        for scope, seconds in news[-MAX_HINTS:]:
            args += (self._names.scope(scope), _milliseconds(seconds, MAX_SECONDS))
        order = ask(HINTS, (self._names.hints,), tuple(args))
        return (yield from self._line.answer(order, _hints, proof=False))

    def lease(self, scope: str, seconds: float) -> Asking[bool | None]:
        if not (yield from self._enter()):
            return None
        key, token = self._names.lease(scope), self._line.identity()
        order = ask(LEASE, (key,), (token, max(1, _milliseconds(seconds, MAX_SECONDS))))
        reply = None
        try:
            reply = yield from self._line.answer(order, numbers(3), proof=False)
        finally:
            if reply is None:  # it may have been heard all the same
                self._releases.append((key, token))
        if reply is None:
            return None
        if reply[0] != 1:
            return False
        if len(self._held) >= MAX_RELEASES:  # their holders have forgotten them
            self._held.clear()
        self._held[key] = token
        return True

    def release(self, scope: str) -> Asking[None]:
        self.release_soon(scope)
        yield from self._tell_releases()

    def release_soon(self, scope: str) -> None:
        key = self._names.lease(scope)
        token = self._held.pop(key, None)
        if token is not None:
            self._releases.append((key, token))

    def read(self, name: str) -> Asking[Blob | None]:
        if not (yield from self._enter()):
            return None

        def read(reply: object) -> tuple[Blob | None, int]:
            return self._blob(reply, name)

        order = ask(READ, (self._names.blob(name),), (MAX_BLOB + SEAL,), seconds=BLOB_SECONDS)
        return (yield from self._line.answer(order, read, proof=False))

    def write(self, name: str, data: bytes, seconds: float) -> Asking[None]:
        kept = _milliseconds(seconds, MAX_KEPT)
        if len(data) > MAX_BLOB or not kept or not (yield from self._enter()):
            return
        sealed = self._names.seal(name, data) + data
        order = ask(WRITE, (self._names.blob(name),), (kept,), sealed, BLOB_SECONDS)
        yield from self._line.answer(order, numbers(3))

    def tell(self, number: int, day: int, entries: Sequence[Entry]) -> Asking[Added | None]:
        if not (yield from self._enter()):
            return None
        keys, places = [self._names.batch(self._teller, "")], dict[int, int]()
        args: list[str | int] = [day, number]
        for entry in entries:
            part = zlib.crc32(entry.name.encode()) % PARTS
            if part not in places:
                keys.append(self._names.part(day, part))
                places[part] = len(keys)
            args += (places[part], entry.name, ",".join(map(str, entry.numbers)))
        reply = yield from self._line.answer(ask(TALLY, tuple(keys), tuple(args)), numbers(3), proof=False)
        return None if reply is None else Added(reply[0] == 1, _day(reply[1]))

    def page(self, day: int, part: int) -> Asking[Page | None]:
        if not (yield from self._enter()):
            return None
        order = ask(PAGE, (self._names.part(day, part),), (MAX_BLOB,), seconds=REPORT_SECONDS)
        return (yield from self._line.answer(order, _page, proof=False))

    def look(self, owner: str, charges: Sequence[Charge]) -> Asking[tuple[float, list[Taken]] | None]:
        if not (yield from self._enter()):
            return None
        keys = [key for charge in charges for key in self._names.limit(charge, owner)]
        args = [word for charge in charges for word in (charge.kind._value_, charge.cap, charge.period)]
        order = ask(LOOK, tuple(keys), tuple(args), seconds=REPORT_SECONDS)
        reply = yield from self._line.answer(order, numbers(3 + 3 * len(charges)), proof=False)
        if reply is None:
            return None
        taken = [Taken(*reply[place : place + 3]) for place in range(3, len(reply), 3)]
        return reply[1] / MICROSECONDS, taken

    def flush(self) -> Asking[None]:
        """Before the end: give back what is held, and tell Redis so."""
        self._releases.extend(self._held.items())
        self._held.clear()
        while self._releases and (yield from self._tell_releases()):
            pass

    # --- asking ---

    def _enter(self) -> Asking[bool]:
        """Whether Redis may be asked. What waits to be told is told first."""
        return (yield from self._tell_releases()) and (yield from self._line.probe("")) and self._line.enter()

    def _tell_releases(self) -> Asking[bool]:
        """Returns whether nothing went wrong."""
        taken = self._take_releases()
        if not taken:
            return True
        reply = None
        try:
            if (yield from self._line.probe("")) and self._line.enter():
                keys, tokens = zip(*taken, strict=True)
                reply = yield from self._line.answer(ask(RELEASE, keys, tokens), numbers(3), proof=False)
        finally:
            if reply is None:
                self._releases.extendleft(reversed(taken))
        return reply is not None

    def _take_releases(self) -> list[tuple[str, str]]:
        taken: list[tuple[str, str]] = []
        while len(taken) < AT_A_TIME:
            try:
                taken.append(self._releases.popleft())
            except IndexError:
                break
        return taken

    def _blob(self, reply: object, name: str) -> tuple[Blob | None, int]:
        """What a reply of read.lua says. Bytes that are not ours count as replaced: the next who writes does that."""
        if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[1], bytes):
            raise no_reply_of_ours(reply)
        (found, now, replaced, written), _ = numbers(4)(reply[0])
        if not found:
            return None, replaced
        seal, data = reply[1][:SEAL], reply[1][SEAL:]
        if len(data) > MAX_BLOB or not hmac.compare_digest(seal, self._names.seal(name, data)):
            return None, replaced + 1
        age = (now - written) / MICROSECONDS
        return (Blob(data, max(0.0, age)) if age >= -AHEAD else None), replaced


def _day(microseconds: int) -> int:
    """Since 1970."""
    return microseconds // (86_400 * MICROSECONDS)


def _page(reply: object) -> tuple[Page, int]:
    """What a reply of page.lua says."""
    words = reply.split(b" ") if isinstance(reply, bytes) and len(reply) <= MAX_BLOB + 100 else []
    (_, now, replaced, left_out), _ = numbers(4)(b" ".join(words[:4]))
    entries, unreadable = [], left_out
    for name, told in zip(words[4::2], words[5::2], strict=False):
        if len(name) <= MAX_NAME and name.isascii() and _NUMBERS.fullmatch(told):
            entries.append(Entry(name.decode(), tuple(map(int, told.split(b",")))))
        else:
            unreadable += 1
    return Page(_day(now), entries, unreadable), replaced


def _milliseconds(seconds: float, most: float) -> int:
    return math.ceil(1000 * max(0.0, min(seconds, most)))


def _hints(reply: object) -> tuple[dict[str, Hint], int]:
    """What a reply of hints.lua says."""
    match = _HINTS.fullmatch(reply) if isinstance(reply, bytes) and len(reply) <= 70 * MAX_HINTS + 100 else None
    if match is None:
        raise no_reply_of_ours(reply)
    now, words, hints = int(match[1]), match[3].split(), {}
    for name, ends, since in zip(words[::3], words[1::3], words[2::3], strict=True):
        left, age = int(ends) / 1000 - now / MICROSECONDS, now / MICROSECONDS - int(since) / 1000
        hints[name.decode()] = Hint(min(max(0.0, left), MAX_SECONDS), max(0.0, age))
    return hints, int(match[2])
