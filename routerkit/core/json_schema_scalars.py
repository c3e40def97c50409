"""Strings and numbers for JSON Schema constraints: candidates in order of preference, and string formats.

Candidates are guesses: the caller checks them against the schema. No schema is read here.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from math import ceil, floor
from typing import Any, NamedTuple

from routerkit.core.json_schema_patterns import (
    LONGEST_STRING,
    Pattern,
    PatternError,
    Spend,
    compile_pattern,
)

_DEFAULT_WORD = "example"
_FORMAT_SAMPLES = 24
_NUMBER_SAMPLES = 64
_WORD_SAMPLES = 100
_LONGEST_WORD = 1_000
"""No longer text is tried against patterns and formats."""

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = rf"{_LABEL}(?:\.{_LABEL})*"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_URI_CHAR = r"(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_FRAGMENT = rf"(?:\#{_URI_CHAR}*)?"
_RELATIVE = rf"(?![^/?\#]*:){_URI_CHAR}*{_FRAGMENT}"
_URI = rf"[A-Za-z][A-Za-z0-9+.-]*:{_URI_CHAR}+{_FRAGMENT}"
_DURATION = r"P(?!$)(?:\d+W|(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?)"


def _fits(source: str) -> Callable[[str], bool]:
    compiled = re.compile(source, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _accepted_by(parse: Callable[[str], object], first: Callable[[str], bool]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            return first(text) and parse(text) is not None
        except (ValueError, PatternError):
            return False

    return check


_is_date = _accepted_by(date.fromisoformat, _fits(r"\d{4}-\d\d-\d\d"))
_is_time = _fits(_TIME)
_is_uuid = _fits(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_is_host = _fits(rf"(?=.{{1,253}}$){_HOSTNAME}")


class _Format(NamedTuple):
    check: Callable[[str], bool]
    write: Callable[[int, str], str]
    """Writes the n-th sample (from 1); formats that can be longer take in the padding."""
    shortest: str


_FORMATS: dict[str, _Format] = {
    "date": _Format(_is_date, lambda n, _: f"2024-01-{n:02d}", "2024-01-01"),
    "time": _Format(_is_time, lambda n, _: f"09:{n:02d}:00Z", "09:00:00Z"),
    "date-time": _Format(
        lambda text: text[10:11] in ("T", "t") and _is_date(text[:10]) and _is_time(text[11:]),
        lambda n, _: f"2024-01-{n:02d}T09:00:00Z",
        "2024-01-01T09:00:00Z",
    ),
    "duration": _Format(_fits(_DURATION), lambda n, _: f"PT{n}H", "P1D"),
    "email": _Format(
        _fits(rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@{_HOSTNAME}"),
        lambda n, padding: f"user{n}{padding}@example.com",
        "a@b.co",
    ),
    "hostname": _Format(_is_host, lambda n, padding: f"host{n}{padding[:50]}.example.com", "a"),
    "ipv4": _Format(_accepted_by(IPv4Address, _fits(r"[\d.]+")), lambda n, _: f"192.0.2.{n}", "1.1.1.1"),
    "ipv6": _Format(_accepted_by(IPv6Address, _fits(r"[0-9A-Fa-f:.]+")), lambda n, _: f"2001:db8::{n}", "::1"),
    "uri": _Format(_fits(_URI), lambda n, padding: f"https://example.com/{n}{padding}", "a:b"),
    "uri-reference": _Format(_fits(rf"{_URI}|{_RELATIVE}"), lambda n, padding: f"/example/{n}{padding}", "/"),
    "url": _Format(
        _fits(rf"[A-Za-z][A-Za-z0-9+.-]*://{_URI_CHAR}+{_FRAGMENT}"),
        lambda n, padding: f"https://example.com/{n}{padding}",
        "http://a",
    ),
    "uuid": _Format(_is_uuid, lambda n, _: f"00000000-0000-4000-8000-{n:012x}", "00000000-0000-4000-8000-000000000000"),
    "json-pointer": _Format(_fits(r"(?:/(?:[^~/]|~[01])*)*"), lambda n, padding: f"/example/{n}{padding}", ""),
    "regex": _Format(_accepted_by(compile_pattern, lambda _: True), lambda n, padding: f"^[a-z]{{{n}}}{padding}", ""),
}
_FORMATS["uuid4"] = _FORMATS["uuid"]
_FORMATS |= {f"idn-{name}": _FORMATS[name] for name in ("email", "hostname")}
_FORMATS |= {name.replace("uri", "iri"): _FORMATS[name] for name in ("uri", "uri-reference")}


def has_format(text: str, name: Any) -> bool:
    """Whether the text has the format; unknown formats are taken as met."""
    known = _FORMATS.get(name) if isinstance(name, str) else None
    return known is None or known.check(text)


class Limits(NamedTuple):
    """How long a string may be."""

    low: int = 0
    high: int | None = None


def strings(
    word: str, limits: Limits, patterns: Sequence[Pattern], formats: Sequence[str], spend: Spend
) -> Iterator[str]:
    """Strings that may fit, those closest to `word` first."""
    low, high = limits
    if low > LONGEST_STRING or (high is not None and high < low):
        return
    if word and (len(word) <= _LONGEST_WORD or not (patterns or formats)):
        yield word
        yield word[:high]
    if patterns:
        yield from _identifiers(word[:_LONGEST_WORD][:high])
    for pattern in patterns:
        yield from pattern.examples(low, high, spend)
    for name in formats:
        yield from _formatted(name, low)
    for base in (word or _DEFAULT_WORD, _DEFAULT_WORD):
        yield from _sized(base, low, high)
    yield from ("a", "b", "0", "1", "A", " ", "")


def _identifiers(word: str) -> Iterator[str]:
    """The word as names are usually written."""
    for joint in ("-", "_"):
        name = re.sub(r"[\W_]+", joint, word).strip(joint)
        yield from (name, name.lower(), name.upper())


def _formatted(name: str, low: int) -> Iterator[str]:
    if known := _FORMATS.get(name):
        for n in range(1, _FORMAT_SAMPLES + 1):
            plain = known.write(n, "")
            yield from (plain, known.write(n, "x" * (low - len(plain))))
        yield known.shortest


def _sized(word: str, low: int, high: int | None) -> Iterator[str]:
    """The word at a fitting length, then numbered, then much longer."""
    for n in range(1, _WORD_SAMPLES):
        mark = "" if n == 1 else str(n)
        length = max(len(word) + len(mark), low)
        stem = max((length if high is None else min(length, high)) - len(mark), 0)
        yield (word * (stem // len(word) + 1))[:stem] + mark
    for longer in (50, 500):
        yield (word[:20] * longer)[:high]


class Bound(NamedTuple):
    """One end of a range of numbers."""

    value: Fraction
    excluded: bool


def numbers(low: Bound | None, high: Bound | None, step: Fraction | None, whole: bool) -> Iterator[float]:
    """Numbers that may lie in the range on multiples of `step`, the handiest first."""
    for grid in _grids(step, whole):
        least = None if low is None else _inner(ceil(low.value / grid), low, grid, 1)
        most = None if high is None else _inner(floor(high.value / grid), high, grid, -1)
        yield from (_plain(grid * index) for index in _indexes(least, most, handy=_handy(grid)))
    if low and high and not whole and step is None:
        yield from map(_plain, ((low.value + high.value) / 2, low.value, high.value))


def _handy(grid: Fraction) -> int:
    """The multiple next to 1, or to 1.5 where halves are allowed, so that a float looks like one."""
    return 3 if grid == Fraction(1, 2) else max(1, floor(1 / grid))


def _grids(step: Fraction | None, whole: bool) -> Iterator[Fraction]:
    if step is not None:
        yield Fraction(step.numerator) if whole else step
    elif whole:
        yield Fraction(1)
    else:
        yield from (Fraction(1, 2), Fraction(1))
        yield from (Fraction(1, 10**places) for places in (1, 2, 3, 5, 8, 12, 16))


def _inner(index: int, bound: Bound, grid: Fraction, inwards: int) -> int:
    return index + inwards if bound.excluded and grid * index == bound.value else index


def _indexes(least: int | None, most: int | None, handy: int) -> Iterator[int]:
    """Whole numbers from `least` to `most`: those around the handy one, then some far away."""
    if least is not None and most is not None and least > most:
        return
    start = handy if least is None else max(handy, least)
    start = start if most is None else min(start, most)
    near = (start + sign * offset for offset in range(_NUMBER_SAMPLES) for sign in (1, -1))
    far = (sign * 10**power for power in range(2, 10) for sign in (1, -1))
    for index in (*near, *far):
        if (least is None or index >= least) and (most is None or index <= most):
            yield index


def _plain(value: Fraction) -> float:
    """An int where that is exact, else the nearest float."""
    try:
        return value.numerator if value.denominator == 1 else float(value)
    except OverflowError:
        return int(value)
