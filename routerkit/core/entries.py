"""What the processes of a fleet add up in one place: numbers under names, day by day.

A name is made of words: what kind of numbers they are, and of what. Whatever is read there may have been written by anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add
from typing import NamedTuple
from urllib.parse import quote, unquote

from routerkit.core.usage import ATTEMPTS, CALLS, FAILED, LONGEST, OTHER, USED, Figures
from routerkit.types.usage import DURATIONS, SUMS

MAX_NAME = 400
"""Characters of a name."""
MAX_NUMBER = 10**24 - 1
"""What would be more stays at it, in what is told and where it is kept."""
PARTS = 16
"""Of what is kept for a day, so that no reply keeps the server, or whoever waits for it, busy for long."""

LEFT_OUT = "o"
"""Of nothing: entries for which there was no room."""

SHAPES = {
    USED: (3, len(SUMS)),
    CALLS: (1, 8 + len(DURATIONS) + 1),
    LONGEST: (1, 1),
    FAILED: (2, 1),
    ATTEMPTS: (2, 1),
    LEFT_OUT: (1, 1),
}
"""By kind, how many words and how many numbers there are."""
_PLAIN = ":@+,;=!$&'()*~[]"
"""Characters that stand in a name as they are, besides letters, digits and ``_ . -``."""
_PLAIN_LAST = _PLAIN + "/"


class Entry(NamedTuple):
    """Numbers under a name, for one UTC day."""

    name: str
    """At most :data:`MAX_NAME` printable ASCII characters without blanks. Where there are too many, what begins with ``u/`` is
    kept under ``other`` in the place of what stands behind its third slash."""
    numbers: tuple[int, ...]
    """From 0 on. They are added to those that are there; of a name that begins with ``m/`` the larger stays."""


class Added(NamedTuple):
    """What became of entries."""

    done: bool
    """Whether they are added; if not, today is another day than was said."""
    today: int
    """Days since 1970."""


class Page(NamedTuple):
    """A part of what is kept for one day."""

    today: int
    """Days since 1970."""
    entries: Sequence[Entry]
    unreadable: int
    """What stood among them and was none."""


def written(figures: Figures) -> Entry:
    """What is told of figures. A last word that nobody could read, or that is too long, is ``other``."""
    name = _name(figures.kind, figures.words)
    if len(name) > MAX_NAME or not figures.words[-1].isprintable():
        name = _name(figures.kind, (*figures.words[:-1], OTHER))
    return Entry(name, tuple(min(number, MAX_NUMBER) for number in figures.numbers))


def read(entry: Entry) -> Figures | None:
    """What an entry says; ``None``: none of ours."""
    kind, _, rest = entry.name.partition("/")
    shape = SHAPES.get(kind)
    if shape is None or len(entry.name) > MAX_NAME:
        return None
    words = tuple(map(unquote, rest.split("/", shape[0] - 1)))
    if len(words) != shape[0] or not all(words[1:]) or not all(word.isprintable() for word in words):
        return None
    if _name(kind, words) != entry.name or not _fit(kind, entry.numbers):
        return None
    return Figures(kind, words, entry.numbers)


def grown(figures: Figures, entry: Entry) -> Figures | None:
    """These, and what an entry of the same name adds; ``None``: it is none of ours."""
    if not _fit(figures.kind, entry.numbers):
        return None
    join: Callable[[int, int], int] = max if figures.kind == LONGEST else add
    return Figures(figures.kind, figures.words, tuple(map(join, figures.numbers, entry.numbers)))


def _fit(kind: str, numbers: tuple[int, ...]) -> bool:
    return len(numbers) == SHAPES[kind][1] and min(numbers) >= 0 and max(numbers) <= MAX_NUMBER


def _name(kind: str, words: tuple[str, ...]) -> str:
    """Slashes stay in the last word: model ids have them."""
    *first, last = words
    parts = [quote(word, _PLAIN) for word in first]
    return "/".join((kind, *parts, quote(last, _PLAIN_LAST, errors="surrogatepass")))
