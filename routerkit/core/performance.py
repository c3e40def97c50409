"""How fast and how reliable each target was of late: what the strategy ``performance_optimized`` compares.

A score is a decayed mean of attempts: an attempt's weight halves within ``HALF_LIFE``, and all weights of a target together
never exceed ``MAX_WEIGHT``, so that a busy target's score follows its last fifty attempts and a quiet one's its last hour. What
nobody asks any more is forgotten by itself.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeGuard

import attrs

from routerkit.core.effects import Lock, Runtime
from routerkit.core.needs import EXPECTED_ANSWER
from routerkit.types.route import Target

HALF_LIFE = 3600.0
"""Seconds."""
MAX_WEIGHT = 50.0
FORGOTTEN = 0.1
"""With less weight than this, a target has no score."""
MAX_TARGETS = 10_000
"""The one scored longest ago goes first: model ids may come from users, and memory must not grow with them."""
MAX_RATE = 10_000.0
"""Tokens per second. What seems faster came in one piece, and tells nothing."""
VERSION = 1
"""Of the plain values."""

_DAY = 86_400.0
_CLOCK_SKEW = 60.0
"""Seconds by which the clock of whoever wrote an entry may be ahead of ours."""
_SAME = 1.0
"""Seconds by which the time of one entry may differ between processes."""
_MAX_NAME = 200
_MAX_TOKENS = 1e9


@attrs.frozen
class Score:
    """What is known of one target now."""

    first_token: float | None
    """Seconds to the first content, of answers; to the end of the answer, where there was no stream. ``None``: no answer yet."""
    tokens_per_second: float | None
    """``None``: the gateway told no counts."""
    success: float
    """The share of attempts that gave an answer, in [0, 1]."""
    samples: float
    """Attempts, each with what is left of its weight."""
    expected_seconds: float
    """What a typical answer (``EXPECTED_ANSWER`` tokens) takes, divided by the chance to get one; ``inf``: no answer yet."""


@attrs.define
class _Tally:
    """Means over a target's attempts (``success``) or answers (the others), and the weight that they have together."""

    at: float
    """When the last attempt was entered: on the monotonic clock here, in Unix seconds among plain values."""
    samples: float = 0.0
    success: float = 0.0
    first_token: float = 0.0
    lead: float = 0.0
    """Seconds before the tokens began to come; 0 without a stream, where nobody knows."""
    duration: float = 0.0
    tokens: float = 0.0
    """Of answers that told; so are ``seconds``, and only their ratio means anything."""
    seconds: float = 0.0
    """In which the tokens came."""

    def weight(self, now: float) -> float:
        """What is left of the samples' weight."""
        return self.samples * math.pow(0.5, max(0.0, now - self.at) / HALF_LIFE)

    def join(self, other: _Tally) -> None:
        """Enter attempts that are not in this one."""
        at = max(self.at, other.at)
        entered = other.weight(at)
        self.samples = min(self.weight(at) + entered, MAX_WEIGHT)
        self.at = at
        self.success += (other.success - self.success) * entered / self.samples
        answers, all_answers = other.success * entered, self.success * self.samples
        share = answers / all_answers if answers < all_answers else 1.0
        self.first_token += (other.first_token - self.first_token) * share
        self.lead += (other.lead - self.lead) * share
        self.duration += (other.duration - self.duration) * share
        if other.tokens:
            self.tokens += (other.tokens - self.tokens) * share
            self.seconds += (other.seconds - self.seconds) * share

    def score(self, now: float) -> Score | None:
        samples = self.weight(now)
        if samples < FORGOTTEN:
            return None
        if not self.success:
            return Score(None, None, 0.0, samples, math.inf)
        rate = self.tokens / self.seconds if self.tokens else None
        typical = self.duration if rate is None else self.lead + EXPECTED_ANSWER * self.seconds / self.tokens
        return Score(self.first_token, rate, self.success, samples, typical / self.success)


_NUMBERS = tuple(field.name for field in attrs.fields(_Tally))


def _attempt(now: float, ok: bool, first_token: float | None, duration: float, tokens: int | None) -> _Tally:
    if not ok:
        return _Tally(now, 1.0)
    duration = min(max(0.0, duration), _DAY)
    lead = 0.0 if first_token is None else min(max(0.0, first_token), duration)
    first = duration if first_token is None else lead
    told, seconds = (float(tokens), max(duration - lead, tokens / MAX_RATE)) if tokens else (0.0, 0.0)
    return _Tally(now, 1.0, 1.0, first, lead, duration, told, seconds)


def _enter(tallies: OrderedDict[Target, _Tally], target: Target, attempt: _Tally) -> None:
    tally = tallies.pop(target, None) or _Tally(attempt.at)
    tally.join(attempt)
    tallies[target] = tally
    if len(tallies) > MAX_TARGETS:
        tallies.popitem(last=False)


class Scores:
    """The scores of one client's targets. Shared by all its calls, under a lock that is held for microseconds."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock: Lock = runtime.lock()
        self._tallies: OrderedDict[Target, _Tally] = OrderedDict()
        """The one entered last, last."""
        self._own: OrderedDict[Target, _Tally] | None = None
        """Of :meth:`share`: what the others were not told yet."""
        self.changes = 0
        """How many attempts were entered; who keeps scores elsewhere can tell from it whether there is anything new."""

    def forget_lock(self) -> None:
        """In a forked child: another thread of the parent may have held the lock, and what it saw it tells itself."""
        self._lock = self._runtime.lock()
        if self._own is not None:
            self._own = OrderedDict()

    def share(self) -> None:
        """Remember from now on what is entered here, until :meth:`tell` gives it to the other processes of a fleet."""
        with self._lock:
            self._own = OrderedDict() if self._own is None else self._own

    @property
    def untold(self) -> bool:
        """Whether anything was entered since the last :meth:`tell`."""
        return bool(self._own)

    def observe(
        self, target: Target, *, ok: bool, first_token: float | None, duration: float, tokens: int | None
    ) -> None:
        """Enter an attempt that says something of its target: an answer (``ok``), or a failure that is the target's.

        ``first_token``: seconds to the first content of a stream, ``None`` without one. ``duration``: seconds to the end.
        ``tokens``: of the answer, ``None`` when nobody counted. Of a failure only that it was one is kept.
        """
        attempt = _attempt(self._runtime.monotonic(), ok, first_token, duration, tokens)
        with self._lock:
            _enter(self._tallies, target, attempt)
            if self._own is not None:
                _enter(self._own, target, attempt)
            self.changes += 1

    def get(self, target: Target) -> Score | None:
        """``None``: not asked of late."""
        now = self._runtime.monotonic()
        with self._lock:
            tally = self._tallies.get(target)
            return None if tally is None else tally.score(now)

    def to_dict(self) -> dict[str, Any]:
        """All scores as plain values for JSON, to be read by :meth:`load`, in another process too: times are Unix seconds."""
        wall = self._runtime.wall()
        return _plain(self._told(wall), wall)

    def tell(self) -> dict[str, Any]:
        """As :meth:`to_dict`. What was entered here counts as told."""
        wall = self._runtime.wall()
        return _plain(self._told(wall, told=True), wall)

    def load(self, data: Any) -> int:
        """Take over what :meth:`to_dict` gave, where it is newer than what is known here. Never raises.

        After :meth:`share` it is what all processes know together: of a target of which something was entered here and not told
        yet, that is entered into it. How many entries were dropped because they are no such values: another version, another
        type, absurd numbers.
        """
        now, wall = self._runtime.monotonic(), self._runtime.wall()
        entries, dropped = _read(data, wall)
        with self._lock:
            own: Mapping[Target, _Tally] = self._own or {}
            slack = 0.0 if self._own is None else _SAME
            for target, tally in entries.items():
                tally.at = now - max(0.0, wall - tally.at)
                known = self._tallies.get(target)
                if target in own:
                    tally.join(own[target])
                elif known is not None and known.at >= tally.at + slack:
                    continue
                self._tallies[target] = tally
            self._tallies = OrderedDict(_newest(self._tallies))
        return dropped

    def merged(self, data: Any) -> dict[str, Any]:
        """As :meth:`to_dict`, together with what another process kept: of each target what is newer."""
        wall = self._runtime.wall()
        entries, _ = _read(data, wall)
        for target, tally in self._told(wall).items():
            other = entries.get(target)
            if other is None or other.at <= tally.at:
                entries[target] = tally
        return _plain(dict(_newest(entries)), wall)

    def _told(self, wall: float, *, told: bool = False) -> dict[Target, _Tally]:
        """All entries, with Unix times."""
        now = self._runtime.monotonic()
        with self._lock:
            if told and self._own is not None:
                self._own.clear()
            return {target: attrs.evolve(tally, at=wall - (now - tally.at)) for target, tally in self._tallies.items()}


def _newest(entries: Mapping[Target, _Tally]) -> list[tuple[Target, _Tally]]:
    """As many as may be kept, the newest last."""
    return sorted(entries.items(), key=lambda item: item[1].at)[-MAX_TARGETS:]


def _plain(entries: Mapping[Target, _Tally], wall: float) -> dict[str, Any]:
    rows = [
        {"gateway": target.gateway, "model": target.model, **attrs.asdict(tally)}
        for target, tally in entries.items()
        if tally.weight(wall) >= FORGOTTEN and _is_name(target.gateway) and _is_name(target.model)
    ]
    return {"version": VERSION, "targets": rows}


def _read(data: Any, wall: float) -> tuple[dict[Target, _Tally], int]:
    """The entries of plain values, and how many were dropped."""
    rows = data.get("targets") if isinstance(data, dict) and data.get("version") == VERSION else None
    if not isinstance(rows, list):
        return {}, 1
    found: dict[Target, _Tally] = {}
    dropped = max(0, len(rows) - MAX_TARGETS)
    for row in rows[:MAX_TARGETS]:
        entry = _entry(row, wall)
        if entry is None:
            dropped += 1
        elif entry[1].weight(wall) >= FORGOTTEN:
            found[entry[0]] = entry[1]
    return found, dropped


def _entry(row: Any, wall: float) -> tuple[Target, _Tally] | None:
    """One entry, if its numbers are possible: finite, within a day, of answers that were given, and not of the future."""
    if not isinstance(row, dict):
        return None
    gateway, model = row.get("gateway"), row.get("model")
    if not (_is_name(gateway) and _is_name(model)):
        return None
    numbers: list[Any] = [row.get(name) for name in _NUMBERS]
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
        return None
    tally = _Tally(*numbers)
    possible = (
        0 <= tally.at <= wall + _CLOCK_SKEW
        and 0 < tally.samples <= MAX_WEIGHT
        and 0 <= tally.success <= 1
        and all(0 <= each <= _DAY for each in (tally.first_token, tally.lead, tally.duration, tally.seconds))
        and 0 <= tally.tokens <= _MAX_TOKENS
        and tally.tokens <= tally.seconds * MAX_RATE * 1.01
    )
    return (Target(gateway, model), tally) if possible else None


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()
