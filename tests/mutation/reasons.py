"""Why mutants of several modules change nothing that anybody could see."""

from __future__ import annotations

from typing import TypeAlias

Equivalent: TypeAlias = dict[str, dict[tuple[str, str, str], str]]
"""By module: the function, its line before and after; and why nobody could tell."""

FALSY = "None is as false as False, and nobody compares it"
NOBODY = "of a neutral sample nobody is to blame"
LOCKED = "of which nobody is to blame is neutral whatever it is: it only takes a lock"
CASE = "float() reads both"
ZIPPED = "they are equally many by construction"
