"""When an upstream says to come back: every way gateways put it, read into seconds from now.

Here lives the reading of wait hints from one refused response, and nothing about what to do with them: how
long to sleep, what to cool down and for how long is for the caller, who must clamp and never trust. Nothing
here knows a clock, raises, or believes a number: what does not parse is as if it were not there.

Drive it once per response, with the wall time of its arrival::

    hint = parse_hint(headers, body, wall_now)
    if hint is not None:
        wait = min(hint.seconds, cap)

Theory of operation: ``_SOURCES`` is the order of trust; each entry looks at one place and returns a hint or
nothing, and the first hint wins. Instants are measured from the response's own ``Date``, so that an error of
our clock cancels out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from itertools import islice
from typing import Any

import attrs

MAX_SECONDS = 86_400.0
"""Daily quotas, the slowest there are, reset at most a day from now: no hint is longer."""

_SPACE = " \t\r\n\f\v"
_MAX_TEXT = 64  # the longest date is 33 characters
_MAX_NUMBER_TEXT = 32
_MAX_NUMBER = 1e13  # what 13 digits stay below
_MAX_KEYS = 64
_EPOCH_MS = 1e11
_EPOCH_S = 1e9

_NUMBER = re.compile(r"[0-9]{1,13}(?:\.[0-9]{1,6})?")
_GO_PART = re.compile(r"([0-9]{1,13}(?:\.[0-9]{1,9})?)(h|ms|m|s|us|µs|ns)")
_GO_DURATION = re.compile(rf"(?:{_GO_PART.pattern})+")
_GO_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}

_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = (
    # RFC 9110 §5.6.7: Sun, 06 Nov 1994 08:49:37 GMT, or Sunday, 06-Nov-94 08:49:37 GMT
    re.compile(
        r"(?:[A-Za-z]{3,9}, ?)?(?P<day>[0-9]{1,2})[ -](?P<month>[A-Za-z]{3})[ -](?P<year>[0-9]{4}|[0-9]{2}) "
        + _TIME
        + r"(?: (?:GMT|UTC|(?P<offset>[+-](?:[01][0-9]|2[0-3])[0-5][0-9])))?"
    ),
    # the same, asctime: Sun Nov  6 08:49:37 1994
    re.compile(rf"[A-Za-z]{{3}} (?P<month>[A-Za-z]{{3}}) {{1,2}}(?P<day>[0-9]{{1,2}}) {_TIME} (?P<year>[0-9]{{4}})"),
)
_TIMESTAMPS = (
    # RFC 3339 §5.6: 1994-11-06T08:49:37.5Z, or 1994-11-06T09:49:37+01:00
    re.compile(
        r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})[Tt ]"
        + _TIME
        + r"(?P<fraction>\.[0-9]{1,9})?(?:[Zz]|(?P<offset>[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))?"
    ),
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@attrs.frozen
class Hint:
    """One usable hint: ``0 < seconds <= MAX_SECONDS`` from now, and the name of the place that gave it."""

    seconds: float
    source: str


@attrs.frozen
class _Answer:
    headers: Any
    error: object
    now: float


def parse_hint(headers: Mapping[str, str], body: Any, wall_now: float) -> Hint | None:
    """Return how long the upstream asks to be left alone, or ``None``: use a computed backoff.

    ``headers`` have lower-case names; ``body`` is the decoded JSON, or anything else; ``wall_now`` is in
    epoch seconds. Never raises, whatever the first two hold. The first usable source wins, in this order:

    ================================ ======================================================================
    ``Hint.source``                  value
    ================================ ======================================================================
    ``retry-after-ms``               milliseconds (OpenAI, Azure)
    ``retry-after``                  seconds or HTTP-date (RFC 9110 §10.2.3), never an epoch
    ``availability.retry_after``     in the body under ``error``: seconds (OpenRouter), a lower bound
    ``x-ratelimit-reset``            from 1e11 epoch milliseconds, from 1e9 epoch seconds, else seconds
    ``error.metadata.headers``       in the body: ``X-RateLimit-Reset``, any case, the same (OpenRouter)
    ``error.metadata.resets_at``     in the body: RFC 3339 instant, of a budget (OpenRouter)
    ``x-ratelimit-reset-requests``   Go duration (``6m0s``) or seconds (OpenAI); the longer of this and
    ``x-ratelimit-reset-tokens``     this
    ``anthropic-ratelimit-*-reset``  RFC 3339 instant (Anthropic) for ``requests``, ``tokens``,
                                     ``input-tokens``, ``output-tokens``: the longest of those whose
                                     ``-remaining`` is 0, or of all when no ``-remaining`` is sent
    ================================ ======================================================================

    Numbers are plain ASCII decimals of at most 13 digits and 6 decimals: no sign, exponent, ``inf``, ``nan``.
    Zero or past is no hint and the next source is asked; more than ``MAX_SECONDS`` is cut to that.
    """
    answer = _Answer(headers, _child(body, "error"), _reference(headers, wall_now))
    for source in _SOURCES:
        hint = source(answer)
        if hint is not None:
            return hint
    return None


def _reference(headers: Any, wall_now: float) -> float:
    date = _instant(_header(headers, "date"), _DATES)
    return wall_now if date is None else date


def _hint(seconds: float | None, source: str) -> Hint | None:
    # Written so that NaN, from a broken clock, is no hint either.
    if seconds is not None and seconds > 0:
        return Hint(min(seconds, MAX_SECONDS), source)
    return None


def _longest(hints: Iterable[Hint | None]) -> Hint | None:
    return max((hint for hint in hints if hint is not None), key=lambda hint: hint.seconds, default=None)


# --- the sources ---


def _retry_after_ms(answer: _Answer) -> Hint | None:
    milliseconds = _number(_header(answer.headers, "retry-after-ms"))
    return None if milliseconds is None else _hint(milliseconds / 1e3, "retry-after-ms")


def _retry_after(answer: _Answer) -> Hint | None:
    text = _header(answer.headers, "retry-after")
    seconds = _number(text)
    if seconds is None:
        seconds = _until(_instant(text, _DATES), answer.now)
    return _hint(seconds, "retry-after")


def _availability(answer: _Answer) -> Hint | None:
    value = _child(_child(answer.error, "availability"), "retry_after")
    return _hint(_json_number(value), "availability.retry_after")


def _reset(answer: _Answer) -> Hint | None:
    number = _number(_header(answer.headers, "x-ratelimit-reset"))
    return _hint(_reset_seconds(number, answer.now), "x-ratelimit-reset")


def _reset_in_body(answer: _Answer) -> Hint | None:
    headers = _child(_child(answer.error, "metadata"), "headers")
    if not isinstance(headers, dict):
        return None
    for name, value in islice(headers.items(), _MAX_KEYS):
        if isinstance(name, str) and len(name) == 17 and name.lower() == "x-ratelimit-reset":
            hint = _hint(_reset_seconds(_json_number(value), answer.now), "error.metadata.headers")
            if hint is not None:
                return hint
    return None


def _resets_at(answer: _Answer) -> Hint | None:
    instant = _instant(_child(_child(answer.error, "metadata"), "resets_at"), _TIMESTAMPS)
    return _hint(_until(instant, answer.now), "error.metadata.resets_at")


def _duration_resets(answer: _Answer) -> Hint | None:
    # The longer, because nothing here tells reliably which limit refused: a request can be too large for the
    # tokens left although some are left. After the longer of the two both limits are whole again.
    names = ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens")
    return _longest(_hint(_duration(_header(answer.headers, name)), name) for name in names)


def _timestamp_resets(answer: _Answer) -> Hint | None:
    # These headers come with every answer, also with failures that have nothing to do with limits: when
    # what remains is sent, a limit that is not used up must not make anybody wait.
    limits = [f"anthropic-ratelimit-{kind}" for kind in ("requests", "tokens", "input-tokens", "output-tokens")]
    remaining = {limit: _header(answer.headers, f"{limit}-remaining") for limit in limits}
    if any(value is not None for value in remaining.values()):
        limits = [limit for limit in limits if _number(remaining[limit]) == 0]
    return _longest(_timestamp_reset(answer, f"{limit}-reset") for limit in limits)


def _timestamp_reset(answer: _Answer, name: str) -> Hint | None:
    return _hint(_until(_instant(_header(answer.headers, name), _TIMESTAMPS), answer.now), name)


_SOURCES: tuple[Callable[[_Answer], Hint | None], ...] = (
    _retry_after_ms,
    _retry_after,
    _availability,
    _reset,
    _reset_in_body,
    _resets_at,
    _duration_resets,
    _timestamp_resets,
)


# --- the values ---


def _header(headers: Any, name: str) -> object:
    try:
        return headers.get(name)
    except Exception:  # whatever the mapping is: the caller is in the midst of handling a failure
        return None


def _child(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _text(value: object) -> str:
    text = value.strip(_SPACE) if isinstance(value, str) else ""
    return text if len(text) <= _MAX_TEXT else ""


def _number(value: object) -> float | None:
    text = _text(value)
    return float(text) if len(text) <= _MAX_NUMBER_TEXT and _NUMBER.fullmatch(text) else None


def _json_number(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if 0 <= value < _MAX_NUMBER else None
    return _number(value)


def _reset_seconds(number: float | None, now: float) -> float | None:
    if number is None or number < _EPOCH_S:
        return number
    return (number if number < _EPOCH_MS else number / 1e3) - now


def _duration(value: object) -> float | None:
    text = _text(value)
    if _GO_DURATION.fullmatch(text):
        return sum(float(number) * _GO_UNITS[unit] for number, unit in _GO_PART.findall(text))
    return _number(text)


def _until(instant: float | None, now: float) -> float | None:
    return None if instant is None else instant - now


def _instant(value: object, patterns: Iterable[re.Pattern[str]]) -> float | None:
    """Return the epoch seconds of a date in one of the patterns; UTC unless it says otherwise."""
    text = _text(value)
    match = next(filter(None, (pattern.fullmatch(text) for pattern in patterns)), None)
    if match is None:
        return None
    part = match.groupdict()
    try:
        whole = datetime(
            _year(part["year"]),
            _month(part["month"]),
            int(part["day"]),
            int(part["hour"]),
            int(part["minute"]),
            min(int(part["second"]), 59),  # a leap second
            tzinfo=timezone.utc,
        )
    except ValueError:
        return None
    return whole.timestamp() + float(part.get("fraction") or 0) - _offset(part.get("offset"))


def _year(text: str) -> int:
    year = int(text)
    if len(text) == 2:
        year += 2000 if year < 69 else 1900  # the pivot of POSIX: hints lie near, any pivot far away will do
    return year


def _month(text: str) -> int:
    return int(text) if text.isdecimal() else 1 + _MONTHS.index(text.lower())


def _offset(text: str | None) -> int:
    if text is None:
        return 0
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    return minutes * (-60 if text[0] == "-" else 60)
