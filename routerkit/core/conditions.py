"""What the failures of a call ask of the targets after them: another gateway, a larger context, a lower price."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from routerkit.core import plan
from routerkit.core.needs import needs_of, unfit
from routerkit.core.pricing import within
from routerkit.types.model import Model
from routerkit.types.route import Target
from routerkit.types.verdict import Condition

if TYPE_CHECKING:
    from routerkit.core.router import Router
    from routerkit.types.request import ChatRequest


class Conditions:
    """Of one call. Most have none, for which nothing is made."""

    closed: Mapping[str, str] = MappingProxyType({})
    """Gateways that are not asked again, and why."""
    required: tuple[tuple[Condition, Target], ...] = ()
    """What models must offer, each with the one than which they must offer more."""

    def exclude(self, gateway: str, reason: str) -> None:
        """Not one more model there."""
        self.closed = {**self.closed, gateway: reason}

    def require(self, condition: Condition, target: Target) -> None:
        """From now on only models that offer more than this one did."""
        if condition is not Condition.ANY:
            self.required = (*self.required, (condition, target))

    def unmet(self, target: Target, router: Router, request: ChatRequest) -> str | None:
        """What stands against a target, if anything does, as far as the catalogues in memory tell."""
        closed = self.closed.get(target.gateway)
        if closed is not None:
            return closed
        for condition, than in self.required:
            reason = _unmet(condition, router.entry(target), router.entry(than), router, request)
            if reason is not None:
                return reason
        return None


def _unmet(
    condition: Condition, model: Model | None, failed: Model | None, router: Router, request: ChatRequest
) -> str | None:
    if model is None:
        return "not in the catalogue, so nobody can tell whether it would do better"
    if condition is Condition.CAPABLE:
        return unfit(model, needs_of(request), plan.today(router.runtime.wall()))
    if condition is Condition.LARGER_CONTEXT:
        size = failed.context_length if failed else None
        larger = size is not None and model.context_length is not None and model.context_length > size
        return None if larger else "its context is not known to be larger"
    cheaper = failed is not None and within(model.pricing, [failed.pricing]) and model.pricing != failed.pricing
    return None if cheaper else "not known to be cheaper"
