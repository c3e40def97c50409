"""Which limits and budgets apply to the calls and attempts of one client, and the asking of whoever counts them.

A tenant's and the client's own limits count calls; those of gateways, keys and models count attempts; budgets count money, for
which each attempt reserves the most that it can cost. What one attempt needs of one owner is charged in one go, all or nothing;
what tenants share has no owner, and is charged after what is the tenant's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

import attrs

from routerkit.core.budget import Bound, likely_tokens
from routerkit.core.hold import TOKENS, Group, Hold, held, owner_of
from routerkit.core.keys import Key
from routerkit.core.limits import Charge, Counting, Denial, Kind, Store, nano_dollars
from routerkit.core.needs import Needs, needs_of
from routerkit.core.plan import known_at
from routerkit.core.turns import Queue, Turns
from routerkit.errors import ConfigurationError
from routerkit.types.limits import Budget, Limits
from routerkit.types.model import Model
from routerkit.types.request import ChatRequest
from routerkit.types.route import Target
from routerkit.types.settings import Settings

LEASE_MARGIN = 10.0
"""Seconds by which a lease outlasts the time that its call may take."""
SHARED = ""
"""The owner of what tenants share."""
MAX_FOUND = 1_000
"""Pairs of target and key whose rules are remembered."""
_FREE = ":free"


@attrs.frozen
class Rule:
    """Limits that apply to something."""

    owner: str
    name: str
    """What they are kept under, the same in every process."""
    label: str
    """What they apply to, as people read it."""
    limits: Limits
    fixed: tuple[Charge, ...] = attrs.field(init=False)
    """The charges of any call or attempt."""

    @fixed.default
    def _fixed(self) -> tuple[Charge, ...]:
        limits, charges = self.limits, []
        if limits.requests_per_minute is not None:
            label = f"{_many(limits.requests_per_minute, 'request')} a minute of {self.label}"
            charges.append(Charge(Kind.RATE, f"{self.name} requests", label, limits.requests_per_minute))
        if limits.requests_per_day is not None:
            label = f"{_many(limits.requests_per_day, 'request')} a day of {self.label}"
            charges.append(Charge(Kind.DAY, f"{self.name} requests", label, limits.requests_per_day))
        if limits.concurrency is not None:
            label = f"{_many(limits.concurrency, 'request')} at a time of {self.label}"
            charges.append(Charge(Kind.SLOTS, self.name, label, limits.concurrency))
        return tuple(charges)

    def charges(self, demand: Demand) -> tuple[Charge, ...]:
        """A request that may need more tokens than the limit takes all of it."""
        cap = self.limits.tokens_per_minute
        return self.fixed if cap is None else (*self.fixed, self._tokens(cap, min(demand.tokens, cap)))

    @property
    def every(self) -> tuple[Charge, ...]:
        """Each of its limits, to be looked at."""
        cap = self.limits.tokens_per_minute
        return self.fixed if cap is None else (*self.fixed, self._tokens(cap, 0))

    def _tokens(self, cap: int, cost: int) -> Charge:
        label = f"{_many(cap, 'token')} a minute of {self.label}"
        return Charge(Kind.RATE, self.name + TOKENS, label, cap, cost)


@attrs.frozen
class Purse:
    """A budget and whose it is."""

    owner: str
    label: str
    budget: Budget
    _cap: int = attrs.field(init=False)

    @_cap.default
    def _nano_dollars(self) -> int:
        return nano_dollars(self.budget.usd)

    @property
    def unknown(self) -> Denial:
        """Of what nobody can tell the cost."""
        return Denial(self.charge(Decimal(0)), None, never=True)

    def charge(self, worst: Decimal) -> Charge:
        """``worst``: US dollars."""
        return Charge(Kind.MONEY, "budget", self.label, self._cap, nano_dollars(worst), self.budget.per)


class Demand:
    """What one call asks of limits and budgets; worked out when it is first needed."""

    def __init__(self, request: ChatRequest, settings: Settings | None = None) -> None:
        """``settings``: what models are called where; ``None``: as the request has them."""
        self._settings = settings
        self.ask(request)

    def ask(self, request: ChatRequest) -> None:
        """From now on for this request: what continues a stream that broke is longer than what was asked."""
        self._request = request
        self._needs: Needs | None = None
        self._tokens: int | None = None
        self._bound: Bound | None = None
        models = request.params.get("models")
        self._listed = (
            tuple(each for each in models if isinstance(each, str)) if isinstance(models, (list, tuple)) else ()
        )

    @property
    def lease(self) -> float:
        """Seconds."""
        return self._request.total + LEASE_MARGIN

    @property
    def tokens(self) -> int:
        """What the request is likely to use."""
        if self._tokens is None:
            self._tokens = likely_tokens(self.needs)
        return self._tokens

    @property
    def needs(self) -> Needs:
        if self._needs is None:
            self._needs = needs_of(self._request)
        return self._needs

    def others(self, gateway: str) -> tuple[str, ...]:
        """Models on which a gateway may fall back by itself, by the ids that it is given."""
        if self._settings is None or not self._request.models:
            return self._listed
        return known_at(self._settings, gateway, self._request.models)

    def worst(self, target: Target, entry: Callable[[str], Model | None]) -> Decimal | None:
        """US dollars that an attempt can cost at most; ``None``: nobody can tell."""
        if self._bound is None:
            self._bound = Bound.of(self._request, self.needs)
        return self._bound.worst(target.model, entry, self.others(target.gateway))


class Quotas:
    """Of one client, or of one tenant of it."""

    def __init__(self, settings: Settings, store: Store, turns: Turns) -> None:
        self._store = store
        self._turns = turns
        self._scopes: Mapping[str, Limits] = settings.limits
        self._calls = rules_of_calls(settings)
        self._rules: dict[str, Rule] = {}
        """Of attempts, by name."""
        self._found: dict[tuple[Target, Key], tuple[Rule, ...]] = {}
        """What applies to an attempt, as it was found before."""
        self.purses = purses_of(settings)
        self.calls = bool(self._calls)
        """Whether anything counts calls."""
        self.attempts = bool(self.purses) or any(scope != "client" for scope in self._scopes)
        """Whether anything counts attempts or their money."""
        for rule in self._calls:
            self._open(rule)

    def of_call(self, demand: Demand) -> list[Group]:
        """What a call is charged with."""
        return _grouped([(rule.owner, rule.charges(demand)) for rule in self._calls])

    def of_attempt(self, target: Target, key: Key, demand: Demand, worst: Decimal) -> list[Group]:
        """What an attempt is charged with; ``worst``: what it can cost at most, in US dollars."""
        charged: list[tuple[str, tuple[Charge, ...]]] = [(each.owner, (each.charge(worst),)) for each in self.purses]
        rules = self._rules_of(target, key)
        for model in demand.others(target.gateway):  # the gateway may ask any of them
            rules = tuple(dict.fromkeys(rules + self._rules_of(Target(target.gateway, model), key)))
        charged += [(rule.owner, rule.charges(demand)) for rule in rules]
        return _grouped(charged)

    def ask(self, groups: Sequence[Group], lease: float) -> Counting[Hold | Denial]:
        """Have all of it counted, or nothing. ``lease``: seconds."""
        return held(self._store, groups, lease, self._turns.freed)

    def busy(self, groups: Sequence[Group]) -> Queue | None:
        """Where to wait before asking, as others wait already."""
        return self._turns.busy(groups)

    def queue(self, groups: Sequence[Group], made: Hold | Denial) -> Queue | None:
        """Where to wait after a denial, if that is the way to a slot."""
        if not isinstance(made, Denial):
            return None
        return self._turns.queue(owner_of(made.charge, groups), made.charge)

    def queue_of(self, denial: Denial | None) -> Queue | None:
        """The same for the limits of attempts, which have no owner."""
        if denial is None or denial.charge.kind is not Kind.SLOTS or denial.never:
            return None
        return self._turns.queue(SHARED, denial.charge)

    def _rules_of(self, target: Target, key: Key) -> tuple[Rule, ...]:
        found = self._found.get((target, key))
        if found is None:
            if len(self._found) >= MAX_FOUND:  # model ids may come from users
                self._found.clear()
            found = self._found[target, key] = tuple(self._find_rules(target, key))
        return found

    def _find_rules(self, target: Target, key: Key) -> Iterator[Rule]:
        """Those of the gateway, of the model there and anywhere, of the key, of the key's free models."""
        for name, label, limits in scoped(self._scopes, target, key):
            yield self._rule(name, label, limits)

    def _rule(self, name: str, label: str, limits: Limits) -> Rule:
        rule = self._rules.get(name)
        if rule is None:
            rule = self._rules[name] = Rule(SHARED, name, label, limits)
            self._open(rule)
        return rule

    def _open(self, rule: Rule) -> None:
        limits = rule.limits
        for charge in rule.fixed:
            if charge.kind is Kind.SLOTS and limits.queue_size:
                self._turns.open(rule.owner, charge, limits.queue_size, limits.queue_timeout)


def by_key(charge: Charge) -> bool:
    """Whether another key of the same gateway may still be used where this limit refuses."""
    return charge.name.startswith(("key:", "key of:", "free:", "free of:"))


def gateway_wide(charge: Charge) -> bool:
    """Whether the limit holds for every model of a gateway, with one key or all."""
    return charge.name.startswith(("gateway:", "key:", "key of:"))


def scoped(scopes: Mapping[str, Limits], target: Target, key: Key) -> Iterator[tuple[str, str, Limits]]:
    """What applies to an attempt: what it is kept under, how people read it, the limits."""
    gateway, model = target.gateway, target.model
    held_by = key.secret.digest if key.secret is not None else "none"
    whose = f"the key {key.name} of {gateway}" if key.name else f"the key of {gateway}"
    for scope, name, label in (
        (f"gateway:{gateway}", f"gateway:{gateway}", f"gateway {gateway}"),
        (f"model:{model}", f"model:{model}", model),
        (f"model:{target}", f"model:{target}", str(target)),
        ("key", f"key:{gateway}:{held_by}", whose),
        (f"key:{gateway}", f"key of:{gateway}:{held_by}", whose),
        *_free_scopes(gateway, held_by, whose, model),
    ):
        limits = scopes.get(scope)
        if limits is not None:
            yield name, label, limits


def _free_scopes(gateway: str, held_by: str, whose: str, model: str) -> tuple[tuple[str, str, str], ...]:
    if not model.lower().endswith(_FREE):
        return ()
    return (
        ("free", f"free:{gateway}:{held_by}", f"the free models with {whose}"),
        (f"free:{gateway}", f"free of:{gateway}:{held_by}", f"the free models with {whose}"),
    )


def rules_of_calls(settings: Settings) -> tuple[Rule, ...]:
    """What applies to a call: the tenant's own, then the client's."""
    rules = []
    if settings.tenant is not None and settings.tenant_limits is not None:
        rules.append(rule_of_tenant(settings.tenant, settings.tenant_limits))
    if "client" in settings.limits:
        rules.append(Rule(SHARED, "calls", "the client", settings.limits["client"]))
    return tuple(rules)


def rule_of_tenant(name: str, limits: Limits) -> Rule:
    return Rule(name, "calls", f"tenant {name}", limits)


def purses_of(settings: Settings) -> tuple[Purse, ...]:
    """The budgets from which an attempt is paid: the tenant's own, then the client's."""
    purses = []
    if settings.tenant is not None and settings.tenant_budget is not None:
        purses.append(purse_of_tenant(settings.tenant, settings.tenant_budget))
    if settings.budget is not None:
        purses.append(_purse(SHARED, "the client's budget", settings.budget))
    return tuple(purses)


def purse_of_tenant(name: str, budget: Budget) -> Purse:
    return _purse(name, f"the budget of tenant {name}", budget)


def _purse(owner: str, label: str, budget: Budget) -> Purse:
    often = "in all" if budget.per == "total" else f"a {budget.per}"
    return Purse(owner, f"{label} ({budget.usd:f} USD {often})", budget)


def _grouped(charged: Iterable[tuple[str, tuple[Charge, ...]]]) -> list[Group]:
    """By owner; what has none last."""
    groups: dict[str, tuple[Charge, ...]] = {}
    for owner, charges in charged:
        if charges:
            groups[owner] = groups.get(owner, ()) + charges
    return [Group(owner, groups[owner]) for owner in sorted(groups, reverse=True)]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def quotas_of(settings: Settings, store: Store | None, turns: Turns) -> Quotas | None:
    """``None``: nothing is limited. Raises ConfigurationError where something is, and nobody counts."""
    tenant = (settings.tenant_limits, settings.tenant_budget)
    if not settings.limits and settings.budget is None and not any(tenant):
        return None
    if store is None:
        raise ConfigurationError("limits and budgets need a store: Router(..., store=MemoryStore(runtime))")
    return Quotas(settings, store, turns)
