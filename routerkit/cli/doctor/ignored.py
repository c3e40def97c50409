"""Whether git would leave a file out, by the ``.gitignore`` files of its checkout. Git itself is not run: a checkout's own
configuration could make it start programs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

MAX_BYTES = 1_000_000
"""Of a list of patterns."""


@attrs.frozen
class Pattern:
    """One line of a ``.gitignore``."""

    expression: re.Pattern[str]
    """Of paths below its folder, with slashes."""
    negated: bool
    folders_only: bool


def is_ignored(path: str | os.PathLike[str]) -> bool | None:
    """Whether the patterns of the checkout leave the file out; ``None`` when it lies in none. Raises OSError."""
    file = Path(os.path.abspath(path))
    checkout = next((folder for folder in file.parents if (folder / ".git").exists()), None)
    if checkout is None:
        return None
    steps = [*reversed(file.relative_to(checkout).parents[:-1]), file.relative_to(checkout)]
    # What is in a folder that is left out cannot be brought back.
    return any(_matches(checkout, step, is_folder=step is not steps[-1]) for step in steps)


def _matches(checkout: Path, step: Path, *, is_folder: bool) -> bool:
    """What the last pattern says that fits."""
    outcome = False
    for folder, pattern in _patterns(checkout, step):
        below = (checkout / step).relative_to(folder).as_posix()
        if (is_folder or not pattern.folders_only) and pattern.expression.fullmatch(below):
            outcome = not pattern.negated
    return outcome


def _patterns(checkout: Path, step: Path) -> Iterator[tuple[Path, Pattern]]:
    """Those that apply, the later ones stronger, each with its folder."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    lists = [(checkout, home / "git" / "ignore"), (checkout, checkout / ".git" / "info" / "exclude")]
    lists += [(checkout / parent, checkout / parent / ".gitignore") for parent in reversed(step.parents)]
    for folder, file in lists:
        if file.is_file():
            with file.open(encoding="utf-8", errors="surrogateescape") as lines:
                for line in lines.read(MAX_BYTES).splitlines():
                    pattern = pattern_of(line)
                    if pattern is not None:
                        yield folder, pattern


def pattern_of(line: str) -> Pattern | None:
    """What a line means; ``None`` for blank ones and remarks. Source: "PATTERN FORMAT" of gitignore(5)."""
    text = re.sub(r"(?<!\\) +$", "", line)
    if not text or text.startswith("#"):
        return None
    negated, text = text.startswith("!"), text.removeprefix("!")
    folders_only, text = text.endswith("/"), text.removesuffix("/")
    anchored, text = "/" in text, text.removeprefix("/")
    try:
        expression = re.compile(("" if anchored else "(?:.*/)?") + "".join(_translated(text)), re.DOTALL)
    except re.error:  # a range from z to a, which nothing fits
        return None
    return Pattern(expression, negated, folders_only)


_PIECES = re.compile(
    r"(?P<within>(?:^|/)\*\*/)|(?P<below>/\*\*$)|(?P<any>\*+)|(?P<one>\?)"
    r"|\[(?P<set>[!^]?\]?(?:\\.|[^\]\\])*)\]|\\(?P<escaped>.)|(?P<plain>.)",
    re.DOTALL,
)


def _translated(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        found = _PIECES.match(text, place)
        if found is None:  # a backslash at the end, which fits nothing
            yield r"(?!)"
            return
        place = found.end()
        kind = found.lastgroup
        if kind == "within":
            yield ("/" if found[0].startswith("/") else "") + "(?:.*/)?"
        elif kind == "below":
            yield "/.+"
        elif kind == "any":
            yield "[^/]*"
        elif kind == "one":
            yield "[^/]"
        elif kind == "set":
            yield _set(found["set"])
        else:
            yield re.escape(found["escaped"] or found["plain"])


def _set(text: str) -> str:
    """A set of characters, none of them a slash."""
    negated, text = text[:1] in ("!", "^"), text.lstrip("!^") if text[:1] in ("!", "^") else text
    members = "".join(part if part == "-" or part.startswith("\\") else re.escape(part) for part in _members(text))
    return f"(?!/)[{'^' if negated else ''}{members}]"


def _members(text: str) -> Iterator[str]:
    for found in re.finditer(r"\\(.)|(.)", text, re.DOTALL):
        yield re.escape(found[1]) if found[1] else found[2]
