"""What a sweep may spend: ``--max-cost``, kept by the library's own bound on what a question can cost at most."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from routerkit.core.quotas import Demand
from routerkit.types.model import Model
from routerkit.types.request import ChatRequest
from routerkit.types.route import Target
from routerkit.types.usage import EXACT

ZERO = Decimal(0)


class Allowance:
    """USD. Of what is under way the most that it can cost is set aside; what an answer cost takes its place."""

    def __init__(self, limit: Decimal | None, spent: Decimal = ZERO) -> None:
        """``limit``: ``None`` for any amount. ``spent``: what was spent before."""
        self.limit = limit
        self.spent = spent
        self._aside = ZERO

    def fits(self, worst: Decimal | None) -> bool:
        """Whether so much may be spent, whatever becomes of all that is under way. ``None``: nobody can tell how much.

        Once more is spent than may be, not even what should cost nothing: a gateway has charged more than its catalogue says.
        """
        if self.limit is None:
            return True
        if worst is None:
            return False
        return EXACT.add(EXACT.add(self.spent, self._aside), worst) <= self.limit

    def set_aside(self, worst: Decimal | None) -> None:
        self._aside = EXACT.add(self._aside, worst or ZERO)

    def settle(self, worst: Decimal | None, charged: Decimal | None) -> None:
        """What was set aside is free again; what is charged is spent."""
        self._aside = EXACT.subtract(self._aside, worst or ZERO)
        self.spent = EXACT.add(self.spent, charged or ZERO)


def bound(request: ChatRequest, entry: Callable[[str, str], Model | None]) -> Callable[[str, str], Decimal | None]:
    """By gateway and model, what a request can cost at most, in USD; ``None``: nobody can tell.

    ``entry``: the catalogue, by gateway and model.
    """
    demand = Demand(request)

    def worst(gateway: str, model: str) -> Decimal | None:
        return demand.worst(Target(gateway, model), lambda each: entry(gateway, each))

    return worst
