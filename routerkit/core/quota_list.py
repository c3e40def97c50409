"""All limits and budgets that the settings of a client name, so that somebody can look at what is used of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from routerkit.core.keys import Key, ring
from routerkit.core.limits import Charge
from routerkit.core.quotas import (
    SHARED,
    Purse,
    Rule,
    by_key,
    purse_of_tenant,
    purses_of,
    rule_of_tenant,
    rules_of_calls,
    scoped,
)
from routerkit.types.gateway import Gateway
from routerkit.types.route import Target
from routerkit.types.scope import scope_of
from routerkit.types.secret import Secret
from routerkit.types.settings import Settings
from routerkit.types.tenant import Tenant

_FREE = ":free"
"""A model to which what is set for free models applies, and nothing that is set for a model."""


def charges_of(settings: Settings) -> list[tuple[str, Charge]]:
    """Owners and charges, each limit once. Of one tenant's settings: its own, and those of its keys."""
    shared = list(_shared_charges(settings))
    if settings.tenant is not None:
        own = [charge for rule in rules_of_calls(settings) if rule.owner == settings.tenant for charge in rule.every]
        own += [_full(purse) for purse in purses_of(settings) if purse.owner == settings.tenant]
        return [(settings.tenant, charge) for charge in own] + [(SHARED, each) for each in shared if by_key(each)]
    found = [(SHARED, charge) for rule in rules_of_calls(settings) for charge in rule.every]
    found += [(SHARED, _full(purse)) for purse in purses_of(settings)]
    found += [(SHARED, charge) for charge in shared]
    for name, tenant in settings.tenants.items():
        if tenant.limits is not None:
            found += [(name, charge) for charge in rule_of_tenant(name, tenant.limits).every]
        if tenant.budget is not None:
            found.append((name, _full(purse_of_tenant(name, tenant.budget))))
    return found


def _shared_charges(settings: Settings) -> Iterator[Charge]:
    """Of attempts: those of gateways, models and keys."""
    models = [scope.model for scope in map(scope_of, settings.limits) if scope.model is not None]
    rules: dict[str, Rule] = {}
    for gateway in settings.gateways:
        keys = _keys(settings, gateway)
        tried = [(_FREE, key) for key in keys] + [(model, key) for model in models for key in keys[:1]]
        for model, key in tried:
            for name, label, limits in scoped(settings.limits, Target(gateway.name, model), key):
                if name not in rules:
                    rules[name] = Rule(SHARED, name, label, limits)
    return (charge for rule in rules.values() for charge in rule.every)


def _keys(settings: Settings, gateway: Gateway) -> list[Key]:
    """Those with which a gateway may be asked, by the client or by any of its tenants. A tenant asks without one where it has none
    and the gateway needs none."""
    owners = [_of_tenant(tenant) for tenant in settings.tenants.values()] or [settings.keys]
    several = [keys.get(gateway.name, ()) for keys in owners]
    secrets = tuple(dict.fromkeys(secret for keys in several for secret in keys))
    keys = list(ring(gateway, secrets))
    if secrets and not gateway.needs_key and not all(several):
        keys.append(Key(None, gateway))
    return keys


def _of_tenant(tenant: Tenant) -> Mapping[str, tuple[Secret, ...]]:
    return tenant.keys if isinstance(tenant.keys, Mapping) else {}


def _full(purse: Purse) -> Charge:
    return purse.charge(Decimal(0))
