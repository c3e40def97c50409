"""What a caller is told when a limit or a budget refuses."""

from __future__ import annotations

import math
from decimal import Decimal

from routerkit.core.limits import Denial, Kind
from routerkit.core.pricing import in_usd
from routerkit.errors import BudgetExceededError, LimitExceededError

NANO = 10**9


def reason_of(denial: Denial, note: str = "") -> str:
    """In words, without when it is over. ``note``: what became of waiting for a turn."""
    charge = denial.charge
    if charge.kind is Kind.MONEY:
        cost = in_usd(Decimal(charge.cost) / NANO)
        if charge.cost == 1:  # nobody could tell what it may cost
            said = f"{charge.label}: used up"
        elif charge.cost > charge.cap:
            said = f"{charge.label} is less than the {cost} that this may cost"
        else:
            said = f"{charge.label} does not leave the {cost} that this may cost"
    elif charge.kind is Kind.SLOTS:
        said = f"{charge.label}: all are under way"
    else:
        said = f"{charge.label}: used up"
    alone = "decided without the store, which is lost" if denial.degraded else ""
    vain = "and waiting does not help" if denial.never else ""
    return ", ".join(part for part in (said, note, alone, vain) if part)


def refused_error(denial: Denial, wall: float, note: str = "") -> LimitExceededError | BudgetExceededError:
    """The error of a call that a limit or budget refuses. ``wall``: Unix seconds now."""
    kind = BudgetExceededError if denial.charge.kind is Kind.MONEY else LimitExceededError
    after = denial.retry_after
    told = reason_of(denial, note)
    if after is not None:
        told += f"; there is room again in {shown_seconds(after)}"
    return kind(told, retry_at=None if after is None else wall + after, retry_after=after)


def shown_seconds(seconds: float) -> str:
    """A time as people read it, rounded up: ``3.2 s``, ``12 min``, ``5 h``."""
    if seconds < 60:
        return f"{math.ceil(seconds * 10) / 10:g} s"
    if seconds < 2 * 3600:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 3600)} h"
