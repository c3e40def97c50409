"""Keys and tenants, from arguments and environment: whose key goes to which gateway."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from routerkit.environment import TENANT_VARIABLES, Environment, Variable, hidden, parsed
from routerkit.errors import ConfigurationError
from routerkit.types.gateway import Gateway
from routerkit.types.limits import Limits
from routerkit.types.secret import SHORTEST, Secret, keys_from_text, keys_of, listed, shown
from routerkit.types.settings import Settings
from routerkit.types.tenant import MAX_NAME, Tenant

Keys: TypeAlias = Mapping[str, tuple[Secret, ...]]
"""By gateway."""

_TENANT = re.compile(
    rf"TENANT_(?P<name>[A-Z0-9]+(?:_[A-Z0-9]+)*?)_(?P<what>{'|'.join(each.name for each in TENANT_VARIABLES)})"
)
_BY_NAME = {variable.name: variable for variable in TENANT_VARIABLES}
_QUEUE = ("queue_size", "queue_timeout")
_LIMITS = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "concurrency", *_QUEUE)
_ENVIRONMENT_NAME = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
"""Names that a tenant of the environment can have."""
MAX_SHOWN = 100
"""Characters of a variable's name that an error repeats."""
MAX_GAPS = 10
"""Missing numbers that are told of."""

log = logging.getLogger("routerkit")


@attrs.frozen
class Place:
    """A gateway of the client, and the environment read for it."""

    gateway: Gateway
    environment: Environment = attrs.field(repr=False)

    @property
    def hint(self) -> str:
        """How its key is configured, but for the argument."""
        prefixes = self.environment.prefixes
        return f"set {prefixes[0]}API_KEY or " if prefixes else ""


def switched_on(places: Sequence[Place]) -> list[Place]:
    """Those that no operator has switched off. Raises ConfigurationError when there is none."""
    switches = [(place.environment.find("ENABLED"), place) for place in places]
    on = [place for switch, place in switches if switch is None or place.environment.get("ENABLED")]
    if not on:
        (switch, place) = switches[0]
        name = "ENABLED" if switch is None else switch[0]
        raise ConfigurationError(f"{name} is false: {place.gateway.label or place.gateway.name} is not to be used here")
    return on


def client_keys(places: Sequence[Place], among: Sequence[Gateway], given: Any, *, needed: bool) -> Keys:
    """The client's own keys: those given, else those of the environment. A bare key is the first gateway's.

    ``among``: all gateways, those that are switched off too: their keys are no mistake, and nobody else's.
    Raises ConfigurationError, also for a gateway that needs a key and has none, if keys are ``needed``.
    """
    told = _known(_by_gateway(None if given is None else keys_of(given, "api_key"), among), among, "api_key")
    keys = {}
    for place in places:
        name = place.gateway.name
        found = {"api_key": told[name]} if name in told else _of_environment(place)
        if needed:
            for whose, several in found.items():
                _check_length(several, place.gateway, whose)
        if found:
            keys[name] = tuple(dict.fromkeys(secret for several in found.values() for secret in several))
        elif needed and place.gateway.needs_key:
            label = place.gateway.label or name
            raise ConfigurationError(f"{label} API key not configured: {place.hint}pass api_key=")
    return keys


def _by_gateway(keys: Keys | tuple[Secret, ...] | None, gateways: Sequence[Gateway]) -> Keys:
    """Keys by gateway; bare ones are the first gateway's."""
    return {gateways[0].name: keys} if isinstance(keys, tuple) else keys or {}


def _known(keys: Keys, among: Sequence[Gateway], whose: str) -> Keys:
    """The same keys. Raises ConfigurationError for one of a gateway that the client does not have."""
    names = [gateway.name for gateway in among]
    for name in keys:
        if name not in names:
            raise ConfigurationError(f"{whose}: has a key for {shown(name)}, which is not among {listed(names)}")
    return keys


def _of_environment(place: Place) -> dict[str, tuple[Secret, ...]]:
    """By variable."""
    if not place.environment.prefixes:
        return {}
    found = [each for name in ("API_KEY", "API_KEYS") if (each := place.environment.find(name)) is not None]
    return {name: keys_from_text(hidden(text), name) for name, text in found}


def _check_length(keys: Sequence[Secret], gateway: Gateway, whose: str) -> None:
    """Raises ConfigurationError for what is too short to be a key of a gateway that needs one: it was cut off."""
    for secret in keys:
        if gateway.needs_key and secret.short:
            label = gateway.label or gateway.name
            raise ConfigurationError(
                f"{whose}: not a valid API key of {label}: it must have {SHORTEST} characters at least ({secret!r})"
            )


def tenants_of(
    places: Sequence[Place], among: Sequence[Gateway], given: Iterable[Tenant] | None, *, needed: bool = True
) -> dict[str, Tenant]:
    """The tenants by name, each with its keys by gateway: those given, else those of the environment; what a given one leaves open
    the environment may say.

    ``among``: see :func:`client_keys`; what else is said with the prefix of one that is switched off holds all the same.
    ``needed``: whether keys are asked for at all. Raises ConfigurationError.
    """
    told = _tenants_of_environment(places, among, needed=needed)
    if given is None:
        here = {name for place in places for _, name, _ in _tenant_variables(place)}
        return {name: tenant for name, tenant in told.items() if name in here}
    if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable):
        raise ConfigurationError("tenants: must be a list of Tenant")
    tenants: dict[str, Tenant] = {}
    for tenant in given:
        if not isinstance(tenant, Tenant):
            raise ConfigurationError(f"tenants: must be a list of Tenant, and holds a {type(tenant).__name__}")
        if tenant.name in tenants:
            raise ConfigurationError(f"tenants: {tenant.name!r} is there twice")
        own = _known(_by_gateway(tenant.keys, among), among, f"tenant {tenant.name!r}")
        for place in places if needed else ():
            _check_length(own.get(place.gateway.name, ()), place.gateway, f"tenant {tenant.name!r}")
        tenants[tenant.name] = _completed(tenant, own, told.get(tenant.name) or Tenant(tenant.name), places)
    return tenants


def _completed(tenant: Tenant, own: Keys, told: Tenant, places: Sequence[Place]) -> Tenant:
    """A tenant with what it leaves open, and without keys for gateways that are switched off. ``own``: its keys, by gateway."""
    gateways = [place.gateway for place in places]
    keys = {**_by_gateway(told.keys, gateways), **own}
    return Tenant(
        tenant.name,
        {gateway.name: keys[gateway.name] for gateway in gateways if gateway.name in keys} or None,
        tenant.default_model or told.default_model,
        told.fallback_models if tenant.fallback_models is None else tenant.fallback_models,
        tenant.limits or told.limits,
        tenant.budget or told.budget,
    )


def _tenants_of_environment(places: Sequence[Place], among: Sequence[Gateway], *, needed: bool) -> dict[str, Tenant]:
    """``<PREFIX>TENANT_<NAME>_<WHAT>``: the tenant is the name in lower case. Anything else below the prefix is refused."""
    found: dict[str, dict[str, Any]] = {}
    read: set[str] = set()
    on = {place.gateway.name for place in places}
    for gateway in among:
        place = Place(gateway, Environment(places[0].environment.values, gateway.name))
        keys: dict[tuple[str, str], str] = {}
        """By tenant and variable, the first prefix that is set."""
        for full, name, variable in _tenant_variables(place):
            fields = found.setdefault(name, {"keys": {}, "stem": full.removesuffix(variable.name)})
            if "KEY" in variable.name:
                keys.setdefault((name, variable.name), full)
                continue
            if full in read:
                continue  # by a gateway that the same variables serve
            read.add(full)
            field, value = variable.name.lower(), parsed(variable, [(full, place.environment.values[full].strip())])
            if fields.setdefault(field, value) != value:
                raise ConfigurationError(f"{full}: contradicts another variable of tenant {name!r}")
        for (name, _), full in sorted(keys.items()) if gateway.name in on else ():
            _add_keys(found[name]["keys"], place, full, needed=needed)
    return {name: _tenant(name, fields) for name, fields in sorted(found.items())}


def _tenant_variables(place: Place) -> Iterable[tuple[str, str, Variable]]:
    for prefix in place.environment.prefixes:
        for full in place.environment.values:
            if not full.startswith(f"{prefix}TENANT_") or not place.environment.values[full].strip():
                continue
            match = _TENANT.fullmatch(full.removeprefix(prefix))
            if match is None or len(match["name"]) > MAX_NAME:
                known = ", ".join(f"{prefix}TENANT_<NAME>_{each.name}" for each in TENANT_VARIABLES)
                shown_name = full if full.isprintable() and len(full) <= MAX_SHOWN else f"{full[:MAX_SHOWN]!r}…"
                raise ConfigurationError(
                    f"{shown_name}: is none of {known}, with the name in capitals and of {MAX_NAME} characters at most"
                )
            yield full, match["name"].lower(), _BY_NAME[match["what"]]


def _add_keys(keys: dict[str, tuple[Secret, ...]], place: Place, full: str, *, needed: bool) -> None:
    more = keys_from_text(hidden(place.environment.values[full].strip()), full)
    if needed:
        _check_length(more, place.gateway, full)
    before = keys.get(place.gateway.name, ())
    keys[place.gateway.name] = tuple(dict.fromkeys((*before, *more)))


def _tenant(name: str, fields: dict[str, Any]) -> Tenant:
    keys, stem = fields.pop("keys"), fields.pop("stem")
    limits = {field: fields.pop(field) for field in _LIMITS if field in fields}
    queue = [field for field in _QUEUE if field in limits]
    if queue and "concurrency" not in limits:
        raise ConfigurationError(f"{stem}{queue[0].upper()}: needs {stem}CONCURRENCY, the limit that calls queue for")
    return Tenant(name, keys or None, limits=Limits(**limits) if limits else None, **fields)


def check_tenants(places: Sequence[Place], tenants: Mapping[str, Tenant], *, needed: bool) -> None:
    """Every tenant has a key for one gateway at least, where gateways need one. Raises ConfigurationError."""
    for tenant in tenants.values():
        keys = tenant_keys([place.gateway for place in places], tenant)
        if needed and all(place.gateway.needs_key and place.gateway.name not in keys for place in places):
            first = places[0]
            prefix = first.environment.prefixes[:1] if _ENVIRONMENT_NAME.fullmatch(tenant.name) else ()
            variable = f"set {prefix[0]}TENANT_{tenant.name.upper()}_API_KEY or " if prefix else ""
            label = first.gateway.label or first.gateway.name
            raise ConfigurationError(
                f"tenant {tenant.name!r} has no {label} API key: {variable}pass Tenant(api_key=); no other key stands in for it"
            )


def tell_oddities(places: Sequence[Place], tenants: Mapping[str, Tenant]) -> None:
    """Log what is probably a slip: numbered tenants with a gap, two with the same number, two with the same key."""
    numbers: dict[int, str] = {}
    for name in tenants:
        if re.fullmatch(r"[0-9]{1,4}", name):
            other = numbers.setdefault(int(name), name)
            if other != name:
                log.warning("tenants %r and %r are two, though the number is the same", other, name)
    prefix = next((prefix for place in places for prefix in place.environment.prefixes), "")
    missing = [number for number in range(min(numbers, default=0), max(numbers, default=0)) if number not in numbers]
    for number in missing[:MAX_GAPS]:
        log.warning("no %sTENANT_%d_… is set, though there are tenants with higher numbers", prefix, number)
    owners: dict[Secret, str] = {}
    for name, tenant in tenants.items():
        keys = tenant_keys([place.gateway for place in places], tenant)
        for secret in dict.fromkeys(secret for several in keys.values() for secret in several):
            other = owners.setdefault(secret, name)
            if other != name and not secret.short:
                log.warning(
                    "tenants %r and %r have the same key (…%s): one bill, one limit", other, name, secret.fingerprint
                )


def tenant_keys(gateways: Sequence[Gateway], tenant: Tenant) -> Keys:
    """A tenant's keys for these gateways."""
    keys = _by_gateway(tenant.keys, gateways)
    return {gateway.name: keys[gateway.name] for gateway in gateways if gateway.name in keys}


def settings_for(settings: Settings, name: str) -> Settings:
    """The settings of one tenant of a client: its keys, its models, and those gateways for which it has a key.

    Raises ConfigurationError, which does not tell whom else there is.
    """
    tenant = settings.tenants.get(name) if isinstance(name, str) else None
    if tenant is None:
        raise ConfigurationError("no such tenant" if settings.tenants else "this client has no tenants")
    keys = tenant_keys(settings.gateways, tenant)
    gateways = [
        gateway
        for gateway in settings.gateways
        if gateway.name in keys or settings.dev_mode is not None or not gateway.needs_key
    ]
    if not gateways:  # of those that with_options(gateway=) left
        raise ConfigurationError(
            f"tenant {name!r}: has no key for {listed([gateway.name for gateway in settings.gateways])}"
        )
    return attrs.evolve(
        settings,
        gateways=tuple(gateways),
        keys=keys,
        default_model=tenant.default_model or settings.default_model,
        fallback_models=settings.fallback_models if tenant.fallback_models is None else tenant.fallback_models,
        tenants={},
        tenant=tenant.name,
        tenant_limits=tenant.limits,
        tenant_budget=tenant.budget,
    )
