"""Which models a call may try, in which order, and why: requested, default, fallbacks, then the catalogue.

What the caller named is tried as named. The catalogue is a last resort that nobody asked for by name, so its models must be
able to do what the request needs and cost no more than the dearest model that was named (or nothing, when none was).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from routerkit.core.catalog import Snapshot
from routerkit.core.needs import Needs, needs_of, unfit
from routerkit.core.pricing import within
from routerkit.errors import RouterKitError
from routerkit.types.model import Pricing
from routerkit.types.request import ChatRequest
from routerkit.types.route import Candidate, Origin, Plan, Skip, Target
from routerkit.types.settings import Settings


def named(settings: Settings, request: ChatRequest) -> Plan:
    """The targets that the caller named: requested, default, fallbacks; each model once."""
    gateway = settings.gateway.name
    wanted: list[tuple[str | None, Origin, str]] = [
        (request.model, Origin.REQUESTED, "requested by the call"),
        (settings.default_model, Origin.DEFAULT, "the default model"),
    ]
    fallbacks = settings.fallback_models if request.fallback_models is None else request.fallback_models
    wanted += [(model, Origin.FALLBACK, f"fallback {place}") for place, model in enumerate(fallbacks, 1)]
    if "models" in request.params:
        wanted = wanted[:1] if request.model else wanted[:2]
    targets: dict[Target, Candidate] = {}
    skipped = []
    for model, origin, reason in wanted:
        if model is None:
            continue
        target = Target(gateway, model)
        if target in targets:
            skipped.append(Skip(target, origin, f"{reason}, but it is in the plan already"))
        else:
            targets[target] = Candidate(target, origin, reason)
    return Plan(tuple(targets.values()), tuple(skipped))


def from_catalog(
    snapshot: Snapshot, settings: Settings, request: ChatRequest, present: Iterable[Target], wall: float
) -> Plan:
    """The catalogue's share of the plan: what fits and is affordable, by context length, largest first."""
    needs = needs_of(request)
    present = set(present)
    today = datetime.datetime.fromtimestamp(wall, datetime.timezone.utc).date()
    ceilings = [model.pricing for target in present if (model := snapshot.get(target.model)) is not None]
    components = _payable(request, needs)
    targets, skipped = [], []
    for model in sorted(snapshot.models, key=lambda model: -(model.context_length or 0)):
        target = Target(settings.gateway.name, model.id)
        if target in present:
            continue
        reason = unfit(model, needs, today)
        if reason is None and not request.allow_any_price:
            reason = _too_dear(model.pricing, ceilings, components, any_named=bool(present))
        if reason is not None:
            skipped.append(Skip(target, Origin.CATALOG, reason))
            continue
        size = f"{model.context_length} tokens" if model.context_length else "unknown"
        targets.append(Candidate(target, Origin.CATALOG, f"from the catalogue: fits, context {size}"))
    return Plan(tuple(targets), tuple(skipped))


def unreadable(settings: Settings, error: RouterKitError) -> Skip:
    """The entry of a plan whose catalogue could not be had."""
    reason = f"could not be read: {error.code or 'no time left'}"
    return Skip(Target(settings.gateway.name, "the catalogue"), Origin.CATALOG, reason)


def _payable(request: ChatRequest, needs: Needs) -> list[str]:
    """The components of a price that this request can incur."""
    components = ["prompt", "completion", "request", "internal_reasoning"]
    components += [name for name in ("image", "audio") if name in needs.inputs | needs.outputs]
    if "plugins" in request.params or "web_search_options" in request.params:
        components.append("web_search")
    return components


def _too_dear(price: Pricing, ceilings: list[Pricing], components: list[str], *, any_named: bool) -> str | None:
    if price.free:
        return None
    if not price.known:
        return "its price is unknown"
    if not any_named:
        return "not free, and no model was named to compare with"
    if not any(ceiling.known for ceiling in ceilings):
        return "not free, and the price of the models named is unknown"
    return None if within(price, ceilings, components) else "dearer than the models named"
