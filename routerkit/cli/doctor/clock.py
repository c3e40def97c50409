"""The section "clock": this machine's against those of the gateways, by the dates of their answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import attrs

from routerkit.cli.doctor.check import Check, failed, ok, skipped, warning
from routerkit.cli.doctor.subject import Answered, Subject
from routerkit.cli.render import roughly

ODD, BROKEN = 5.0, 60.0
"""Seconds."""


@attrs.frozen
class Skew:
    """How far this machine's clock is ahead of a server's, in seconds; below zero: behind."""

    origin: str
    seconds: float
    uncertainty: float

    @property
    def least(self) -> float:
        """The part of it that is certain."""
        return max(0.0, abs(self.seconds) - self.uncertainty)


def skew_of(answer: Answered) -> Skew | None:
    """The server wrote the date when half of the exchange was over, give or take that half; a date has whole seconds."""
    try:
        date = parsedate_to_datetime(answer.date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    half = max(0.0, answer.after - answer.before) / 2
    return Skew(answer.origin, answer.before + half - (date + 0.5), half + 0.5)


def checks(subject: Subject) -> Iterator[Check]:
    if subject.obstacle:
        yield skipped("clock", subject.obstacle)
    else:
        yield judged(subject.answers)


def judged(answers: Sequence[Answered]) -> Check:
    """The most certain of the differences that the answers show."""
    skews = [skew for skew in map(skew_of, answers) if skew is not None]
    if not skews:
        return skipped("clock", "no answer of a gateway told the time")
    best = min(skews, key=lambda skew: skew.uncertainty)
    host = urlsplit(best.origin).hostname
    facts: dict[str, Any] = {"skew": best.seconds, "uncertainty": best.uncertainty, "origin": best.origin}
    if best.least <= ODD:
        return ok("clock", f"as {host}'s, within {max(1.0, abs(best.seconds) + best.uncertainty):.0f} s", **facts)
    told = f"{roughly(abs(best.seconds))} {'ahead of' if best.seconds > 0 else 'behind'} {host}'s"
    fix = "set this machine's clock (NTP: timedatectl set-ntp true)"
    if best.least <= BROKEN:
        return warning("clock", f"{told}: days of budgets and dates to retry at are off by that", fix, **facts)
    broken = "budget days begin at a wrong time, dates in Retry-After are misread, certificates may be refused"
    return failed("clock", f"{told}: {broken}", fix, **facts)
