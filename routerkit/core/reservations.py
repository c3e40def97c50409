"""What limits and budgets say to the attempts of one call: what each of them reserves, or why it may not be made."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from routerkit.core.effects import Step
from routerkit.core.health import Admission, Refusal
from routerkit.core.hold import Group, Hold, owner_of
from routerkit.core.keys import Key
from routerkit.core.limits import Charge, Denial, Kind
from routerkit.core.quotas import Demand, Quotas, gateway_wide
from routerkit.core.refusals import reason_of
from routerkit.core.turns import Queue
from routerkit.types.model import Model
from routerkit.types.route import Target
from routerkit.types.verdict import Blame, Sample

if TYPE_CHECKING:
    from routerkit.core.ledger import Ledger
    from routerkit.core.router import Router

_NOTHING = Decimal(0)
_LEAST = Decimal("1e-9")
"""US dollars that are reserved for what has no bound: what reserved nothing would be sent though nothing is left."""


class Reservations:
    """Of one call."""

    def __init__(self, router: Router, quotas: Quotas, demand: Demand, ledger: Ledger) -> None:
        self._router = router
        self._quotas = quotas
        self._demand = demand
        self._ledger = ledger
        self._denied: dict[tuple[str, Kind, str], tuple[int, Refusal]] = {}
        """By limit, the cost that it refused: one that is no lower need not be asked for again."""

    def forget(self) -> None:
        """Time has passed: what was refused may be granted."""
        self._denied.clear()

    def make(self, target: Target, admission: Admission, *, first: bool = False) -> Step[Refusal | None]:
        """Have an attempt counted that health allows; why not, if limits or budgets refuse: health then has its leave back.

        ``first``: it is this call's turn, although others wait for one.
        """
        hold: Hold | None = None
        try:
            made = yield from self._asked(target, admission.key, first=first)
            if isinstance(made, Refusal):
                return made
            hold = admission.hold = made
        finally:
            if hold is None:
                admission.settle(Sample.NEUTRAL, Blame.NOBODY)
                admission.release()
        return None

    def queue(self, made: Admission | Refusal) -> Queue | None:
        """Where to wait after a refusal, if that is the way to a slot."""
        return self._quotas.queue_of(made.denial) if isinstance(made, Refusal) else None

    def _asked(self, target: Target, key: Key, *, first: bool) -> Step[Hold | Refusal]:
        worst = _NOTHING
        if self._quotas.purses:
            cost = self._worst(target)
            if isinstance(cost, Refusal):
                return cost
            worst = cost
        groups = self._quotas.of_attempt(target, key, self._demand, worst)
        known = self._known(groups)
        if known is not None and not first:
            return known
        queue = None if first else self._quotas.busy(groups)
        if queue is not None:
            return self._refusal(groups, Denial(queue.charge, None))
        made = yield from self._quotas.ask(groups, self._demand.lease)
        if made.degraded:
            self._ledger.degraded.append(str(target))
        return made if isinstance(made, Hold) else self._refusal(groups, made)

    def _worst(self, target: Target) -> Decimal | Refusal:
        """US dollars that an attempt can cost at most by the catalogue in memory, if the budgets take it."""
        worst = self._demand.worst(target, partial(self._entry, target.gateway))
        if worst is not None:
            return worst
        for purse in self._quotas.purses:
            if purse.budget.on_unknown_price == "refuse":
                reason = (
                    f"{purse.label} refuses it: nobody can tell what it may cost, and its on_unknown_price is 'refuse'"
                )
                return Refusal(reason, None, denial=purse.unknown)
        return _LEAST

    def _entry(self, gateway: str, model: str) -> Model | None:
        return self._router.entry(Target(gateway, model))

    def _known(self, groups: Sequence[Group]) -> Refusal | None:
        """The refusal that would come again."""
        if self._denied:
            for owner, charges in groups:
                for charge in charges:
                    cost, refusal = self._denied.get(_limit(owner, charge), (0, None))
                    if refusal is not None and charge.cost >= cost:
                        return refusal
        return None

    def _refusal(self, groups: Sequence[Group], denial: Denial) -> Refusal:
        charge, now = denial.charge, self._router.runtime.monotonic()
        retry_at = None if denial.retry_after is None else now + denial.retry_after
        refusal = Refusal(reason_of(denial), retry_at, gateway_wide=gateway_wide(charge), denial=denial)
        self._denied[_limit(owner_of(charge, groups), charge)] = charge.cost, refusal
        return refusal


def _limit(owner: str, charge: Charge) -> tuple[str, Kind, str]:
    return owner, charge.kind, charge.name
