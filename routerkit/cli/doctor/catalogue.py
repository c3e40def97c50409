"""The section "catalogue": each gateway's list of models, and whether it has those that the settings name."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator

import attrs

from routerkit.cli.doctor.check import CONFIGURATION, Check, failed, ok, skipped, warning
from routerkit.cli.doctor.subject import Subject
from routerkit.cli.endings import exit_code
from routerkit.cli.near import near
from routerkit.cli.render import price, seconds
from routerkit.core import plan
from routerkit.core.catalog import CatalogCache, Snapshot
from routerkit.core.catalog_lists import sources_of
from routerkit.errors import RouterKitError
from routerkit.types.gateway import Gateway
from routerkit.types.model import Model
from routerkit.types.request import ChatRequest
from routerkit.types.route import Origin, Target
from routerkit.types.secret import Credential
from routerkit.types.settings import Settings

SOON = 30
"""Days in which a model is no longer served soon."""
MAX_NAMED = 50
"""Models of the settings, those of all tenants together."""


def _lists(subject: Subject) -> Iterator[Check]:
    settings = subject.settings
    if settings is None:
        yield skipped("catalogue", subject.obstacle)
        return
    for gateway in subject.gateways:
        yield _read(subject, settings, gateway)


def _models(subject: Subject) -> Iterator[Check]:
    settings = subject.settings
    if settings is not None and not subject.dev:
        for model, roles in list(named(settings).items())[:MAX_NAMED]:
            yield judged(settings, subject.snapshots, model, roles, time.time())


# --- the lists ---


def _read(subject: Subject, settings: Settings, gateway: Gateway) -> Check:
    name = f"catalogue of {gateway.name}"
    why = subject.obstacle_to(gateway.base_url)
    if why:
        return skipped(name, why)
    owned = next(iter(subject.keys(gateway)), None)
    credential = None if owned is None else Credential(owned.secret, gateway.base_url)
    began = subject.runtime.monotonic()
    cache = CatalogCache(gateway, subject.runtime, settings.catalog_ttl)
    try:
        snapshot = subject.drive(cache.get(credential, subject.timeouts, began + subject.seconds))
    except RouterKitError as error:
        fix = (
            "see the section keys"
            if exit_code(error) == 5
            else "is the base URL right? Models named are asked all the same"
        )
        return failed(name, str(error), fix, exit_code(error))
    took = subject.runtime.monotonic() - began
    subject.snapshots[gateway.name] = snapshot
    return _told(name, gateway, credential, snapshot, took)


def _told(name: str, gateway: Gateway, credential: Credential | None, snapshot: Snapshot, took: float) -> Check:
    unknown = sum(not model.pricing.known for model in snapshot.models)
    parts = [f"{len(snapshot.models)} models, read in {seconds(took)}"]
    if unknown:
        parts.append(f"{'all' if unknown == len(snapshot.models) else unknown} without a known price")
    if snapshot.dropped:
        parts.append(f"{snapshot.dropped} entries without an id, or twice")
    facts = {
        "models": len(snapshot.models),
        "unknown_prices": unknown,
        "dropped": snapshot.dropped,
        "seconds": took,
    }
    missing = [source.name for source in sources_of(gateway, credential) if source.url not in snapshot.lists]
    if missing:
        told = f"{'; '.join(parts)}; {' and '.join(missing)} could not be read"
        return warning(
            name, told, "prices and limits of some models are not known meanwhile; look again later", **facts
        )
    return ok(name, "; ".join(parts), **facts)


# --- the models that the settings name ---


def named(settings: Settings) -> dict[str, list[str]]:
    """The models of the settings, each with what it is there."""
    found: dict[str, list[str]] = {}

    def note(model: str | None, role: str) -> None:
        if model is not None and role not in found.setdefault(model, []):
            found[model].append(role)

    note(settings.default_model, "default model")
    for place, model in enumerate(settings.fallback_models, 1):
        note(model, f"fallback {place}")
    for name, tenant in settings.tenants.items():
        note(tenant.default_model, f"default model of {name}")
        for model in tenant.fallback_models or ():
            note(model, f"fallback of {name}")
    for model in settings.aliases:
        note(model, "alias")
    return found


def judged(settings: Settings, snapshots: dict[str, Snapshot], model: str, roles: list[str], wall: float) -> Check:
    """Whether a model can be asked somewhere. ``wall``: now, in Unix seconds."""
    name = f"{', '.join(roles)}"
    drawn = plan.named(attrs.evolve(settings, tenants={}), ChatRequest.build("", model=model, fallback_models=()))
    targets = [each.target for each in drawn.targets if each.origin is Origin.REQUESTED]
    if not targets:
        reasons = "; ".join(each.reason for each in drawn.skipped if each.origin is Origin.REQUESTED)
        return failed(name, f"{model} can be asked nowhere: {reasons}", "correct the id", CONFIGURATION)
    read = [target for target in targets if target.gateway in snapshots]
    for target in read:
        entry = snapshots[target.gateway].get(target.model)
        if entry is not None:
            return _found(name, model, target, entry, wall)
    if len(read) < len(targets):
        return skipped(name, f"{model}: no catalogue was read that could have it")
    return _missing(settings, snapshots, name, model, targets)


def _found(name: str, model: str, target: Target, entry: Model, wall: float) -> Check:
    pricing = entry.pricing
    prompt, completion = price(pricing.prompt, pricing), price(pricing.completion, pricing)
    cost = prompt if prompt == completion else f"{prompt} in, {completion} out per million tokens"
    known_as = "" if target.model == model else f", as {target.model}"
    told = f"{model} on {target.gateway}{known_as}: price {cost}"
    facts = {
        "model": model,
        "gateway": target.gateway,
        "id": target.model,
        "prompt": None if pricing.prompt is None else format(pricing.prompt, "f"),
        "completion": None if pricing.completion is None else format(pricing.completion, "f"),
        "expires": entry.expiration_date,
    }
    days = _days_left(entry.expiration_date, wall)
    if days is not None and days < SOON:
        when = "it is no longer served since" if days < 0 else "it is served only until"
        return warning(name, f"{told}; {when} {entry.expiration_date}", "name its successor", **facts)
    return ok(name, told, **facts)


def _missing(settings: Settings, snapshots: dict[str, Snapshot], name: str, model: str, targets: list[Target]) -> Check:
    ids = sorted({each for target in targets for each in snapshots[target.gateway].by_id})
    meant = near(model, ids, 3)
    fix = f"did you mean {' or '.join(meant)}?" if meant else "routerkit models --search WORDS finds ids"
    where = " or ".join(dict.fromkeys(target.gateway for target in targets))
    told, facts = f"{model} is not in the catalogue of {where}", {"model": model, "near": meant}
    formats = {gateway.name: gateway.id_format for gateway in settings.gateways}
    if all(
        formats[target.gateway] == "any" for target in targets
    ):  # such servers answer to names that they do not list
        return warning(name, told, fix, **facts)
    return failed(name, told, fix, CONFIGURATION, **facts)


def _days_left(text: str | None, wall: float) -> int | None:
    """Until an ISO date; ``None`` when it is none."""
    try:
        day = datetime.date.fromisoformat((text or "")[:10])
    except ValueError:
        return None
    return (day - plan.today(wall)).days


CHECKS = (_lists, _models)
