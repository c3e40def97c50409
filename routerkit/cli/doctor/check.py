"""What a check is, and what many of them come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from routerkit.types.verdict import Word


class Outcome(Word):
    """The verdict of a check."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should know."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """It could not be looked at, or was not to be."""


CONFIGURATION, KEY, CONNECTION, OTHER = 3, 5, 7, 1
"""Exit codes of failed checks, those of :mod:`routerkit.cli.endings`."""
GRAVITY = (CONFIGURATION, KEY, CONNECTION, 6, 4)
"""The gravest first: without settings nothing works, without a key nothing is answered. Others are all the same."""


@attrs.frozen
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Outcome
    found: str
    """What there is, in a line. No key, no password."""
    fix: str = ""
    """What to do about it."""
    code: int = 0
    """The exit code, of a failed one."""
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    """The same for machines."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; times in seconds."""
        more = {"exit_code": self.code} if self.verdict is Outcome.FAILED else {}
        told = {"name": self.name, "verdict": str(self.verdict), "found": self.found, "fix": self.fix or None}
        return {**told, **more, "facts": dict(self.facts)}


def ok(name: str, found: str, **facts: Any) -> Check:
    return Check(name, Outcome.OK, found, facts=facts)


def warning(name: str, found: str, fix: str, **facts: Any) -> Check:
    return Check(name, Outcome.WARNING, found, fix, facts=facts)


def failed(name: str, found: str, fix: str, code: int = OTHER, **facts: Any) -> Check:
    return Check(name, Outcome.FAILED, found, fix, code, facts)


def skipped(name: str, why: str, **facts: Any) -> Check:
    return Check(name, Outcome.SKIPPED, f"skipped: {why}", facts=facts)


def counts(checks: Iterable[Check]) -> dict[str, int]:
    """How many there are of each verdict."""
    found = [check.verdict for check in checks]
    return {str(each): found.count(each) for each in Outcome}


def ending(checks: Iterable[Check]) -> int:
    """The exit code: 0 when nothing failed, else that of the gravest failure."""
    codes = {check.code for check in checks if check.verdict is Outcome.FAILED}
    return next((code for code in GRAVITY if code in codes), OTHER) if codes else 0
