"""Which models a call may try, in which order, and why: requested, default, fallbacks, then the catalogue.

What the caller named is tried as named. The catalogue is a last resort that nobody asked for by name, so its models must be
able to do what the request needs and cost no more than the dearest model that was named (or nothing, when none was).
"""

from __future__ import annotations

import datetime
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from routerkit.core.catalog import Snapshot
from routerkit.core.needs import Needs, needs_of, sorted_words, unfit
from routerkit.core.pricing import within
from routerkit.core.strategies import Outlook, Strategy, ordered
from routerkit.errors import InvalidRequestError, RouterKitError
from routerkit.types.gateway import Gateway
from routerkit.types.model import Model, Pricing
from routerkit.types.request import ChatRequest
from routerkit.types.route import Candidate, Origin, Plan, Skip, Target
from routerkit.types.settings import Settings


def named(settings: Settings, request: ChatRequest) -> Plan:
    """The targets that the caller named: requested, default, fallbacks; each model on each gateway that may have it, once."""
    wanted: list[tuple[str | None, Origin, str]] = [
        (request.model, Origin.REQUESTED, "requested by the call"),
        (settings.default_model, Origin.DEFAULT, "the default model"),
    ]
    fallbacks = settings.fallback_models if request.fallback_models is None else request.fallback_models
    wanted += [(model, Origin.FALLBACK, f"fallback {place}") for place, model in enumerate(fallbacks, 1)]
    listed = request.params.get("models")
    if listed is not None:  # the gateway falls back by itself: what it is given is one target of ours
        first = listed[0] if isinstance(listed, (list, tuple)) and listed and isinstance(listed[0], str) else None
        wanted = [each for each in wanted[:2] if each[0]][:1] or [(first, Origin.REQUESTED, "the first of models=")]
    targets: dict[Target, Candidate] = {}
    skipped = []
    for model, origin, reason in wanted:
        if model is None:
            continue
        for target, where, obstacle in _places(settings, request, model):
            if obstacle is not None:
                skipped.append(Skip(target, origin, obstacle))
            elif target in targets:
                skipped.append(Skip(target, origin, f"{reason}{where}, but it is in the plan already"))
            else:
                targets[target] = Candidate(target, origin, reason + where)
    return Plan(tuple(targets.values()), tuple(skipped))


def lacks(gateway: Gateway, request: ChatRequest) -> str | None:
    """Why a gateway cannot serve a request, whatever the model: the features that it does not know."""
    missing = frozenset() if gateway.features is None else request.features - gateway.features
    return f"{gateway.label or gateway.name} does not know {sorted_words(missing)}" if missing else None


def check_features(settings: Settings, request: ChatRequest) -> None:
    """Raises InvalidRequestError when the request uses a feature that none of the gateways knows."""
    reasons = [lacks(gateway, request) for gateway in settings.gateways]
    if all(reasons):
        told = "; ".join(str(reason) for reason in reasons)
        raise InvalidRequestError(f"{told}. What goes into extra_body= is sent whatever is known of a gateway")


def _places(settings: Settings, request: ChatRequest, model: str) -> Iterator[tuple[Target, str, str | None]]:
    """Where a model can be asked: the target, words for the reason, and what stands against it, if anything does."""
    for gateway, known_as, words in _known_as(settings, model):
        if known_as is None:
            yield Target(gateway.name, model), "", words
        else:
            yield Target(gateway.name, known_as), words, lacks(gateway, request)


def _known_as(settings: Settings, model: str) -> Iterator[tuple[Gateway, str | None, str]]:
    """What a model is called on which gateway, and words for the reason; or ``None``, and why it is not asked there.

    The alias table gives its id; else it has the same id on all. A prefix pins it to the gateways of that prefix; where the table
    has the prefixed name itself, also to those for which it has an id.
    """
    gateways, aliases = settings.gateways, settings.aliases
    pin = next((gateway for gateway in gateways if gateway.local_id(model) != model), None)
    bare = model if pin is None else pin.local_id(model)
    ids = aliases.get(model)
    name = bare if ids is None else model
    if ids is None:
        ids = aliases.get(bare, {}) if pin is not None else {}
    if pin is not None:
        also = ids if name == model else ()
        gateways = tuple(each for each in gateways if each.id_prefix == pin.id_prefix or each.name in also)
    for gateway in gateways:
        listed = gateway.name in ids
        known_as = ids[gateway.name] if listed else bare
        if known_as is None:
            yield gateway, None, f"aliases: not on {gateway.name}"
        elif len(gateways) > 1 and pin is None and not listed and not gateway.knows_format(model):
            told = f"not an id of {gateway.label or gateway.name} ({gateway.id_format}), and aliases= has none"
            yield gateway, None, told
        else:
            known_as = gateway.local_id(known_as) if listed else known_as
            where = f", on {gateway.name}" if len(gateways) > 1 else ""
            yield gateway, known_as, where if known_as == name else f"{where} as {known_as}"


def known_at(settings: Settings, gateway: str, models: Iterable[str]) -> tuple[str, ...]:
    """What models are called at one gateway; without those that are not asked there."""
    ids = (
        known_as
        for model in models
        for where, known_as, _ in _known_as(settings, model)
        if where.name == gateway and known_as is not None
    )
    return tuple(dict.fromkeys(ids))


def from_catalog(
    snapshots: Mapping[str, Snapshot],
    request: ChatRequest,
    present: Iterable[Target],
    wall: float,
    closed: Container[str] = (),
) -> Plan:
    """The catalogues' share of the plan: what fits and is affordable, by context length, largest first.

    ``snapshots``: by gateway; those ``closed`` serve for prices only.
    """
    needs = needs_of(request)
    present = set(present)
    day = today(wall)
    named = [snapshots[target.gateway].get(target.model) for target in present if target.gateway in snapshots]
    ceilings = [model.pricing for model in named if model is not None]
    components = _payable(request, needs)
    targets, skipped = [], []
    listed = [
        (gateway, model)
        for gateway, snapshot in snapshots.items()
        if gateway not in closed
        for model in snapshot.models
    ]
    for gateway, model in sorted(listed, key=lambda entry: -(entry[1].context_length or 0)):
        target = Target(gateway, model.id)
        if target in present:
            continue
        reason = unfit(model, needs, day) or _unwanted(model, needs)
        if reason is None and not request.allow_any_price:
            reason = _too_dear(model.pricing, ceilings, components, any_named=bool(present))
        if reason is not None:
            skipped.append(Skip(target, Origin.CATALOG, reason))
            continue
        size = f"{model.context_length} tokens" if model.context_length else "unknown"
        targets.append(Candidate(target, Origin.CATALOG, f"from the catalogue: fits, context {size}"))
    return Plan(tuple(targets), tuple(skipped))


def _unwanted(model: Model, needs: Needs) -> str | None:
    """Why nobody would want an entry of the catalogue who does not name it."""
    price = model.raw.get("pricing")
    prompt = price.get("prompt") if isinstance(price, dict) else None
    if str(prompt).startswith("-"):  # OpenRouter's sign for an entry that chooses a model by itself
        return "a router, not a model; it is asked when it is named"
    more = set(model.output_modalities) - (needs.outputs | {"text"})
    return f"gives {sorted_words(more)}, which was not asked for" if more else None


def in_order(strategy: Strategy, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
    """The candidates as a strategy would try them; the model that the call names stays first."""
    fixed = sum(candidate.origin is Origin.REQUESTED for candidate in candidates)
    if len(candidates) - fixed < 2:
        return candidates
    return (*candidates[:fixed], *ordered(strategy, candidates[fixed:], outlook))


def today(wall: float) -> datetime.date:
    """The day, in UTC, of a time in Unix seconds."""
    return datetime.datetime.fromtimestamp(wall, datetime.timezone.utc).date()


def unreadable(gateway: Gateway, error: RouterKitError) -> Skip:
    """The entry of a plan whose catalogue could not be had."""
    reason = f"could not be read: {error.code or 'no time left'}"
    return Skip(Target(gateway.name, "the catalogue"), Origin.CATALOG, reason)


def _payable(request: ChatRequest, needs: Needs) -> list[str]:
    """The components of a price that this request can incur."""
    components = ["prompt", "completion", "request", "internal_reasoning"]
    components += [name for name in ("image", "audio") if name in needs.inputs | needs.outputs]
    if "plugins" in request.params or "web_search_options" in request.params:
        components.append("web_search")
    return components


OF_PRICE = (
    "its price is unknown",
    "not free, and no model was named to compare with",
    "not free, and the price of the models named is unknown",
    "dearer than the models named",
)
"""Why a model is left out that ``allow_any_price`` would allow."""


def _too_dear(price: Pricing, ceilings: list[Pricing], components: list[str], *, any_named: bool) -> str | None:
    if price.free:
        return None
    if not price.known:
        return OF_PRICE[0]
    if not any_named:
        return OF_PRICE[1]
    if not any(ceiling.known for ceiling in ceilings):
        return OF_PRICE[2]
    return None if within(price, ceilings, components) else OF_PRICE[3]
