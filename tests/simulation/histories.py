"""What follows from a seed before anything is played: gateways, aliases, keys, tenants, settings, calls, and what goes wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import Enum
from typing import Any

import attrs

from routerkit import Budget, Gateway, Limits, Tenant
from routerkit.config import settings_from
from routerkit.core.effects import Failure
from routerkit.core.strategies import STRATEGIES
from routerkit.types.policy import BreakerPolicy, RetryPolicy, Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.settings import Settings
from tests.simulation import upstream as up
from tests.simulation.upstream import Behaviour, Fault

MODELS = ("a/first", "b/second", "c/third")
LAST_RESORT = "d/last:free"
"""Only catalogues name it."""
TENANTS = ("acme", "globex", "initech")
SECONDS = 40.0
"""Of trouble."""
FOREVER = float("inf")


class Kind(Enum):
    """What is drawn."""

    ANY = "any"
    APART = "apart"
    """Three tenants, and nothing that they share on purpose: no limits of all together. Nor does a breaker open before a stream
    that hangs has failed: when it does is decided by whoever comes next, whatever becomes of that call."""
    WELL = "well"
    """As apart; and no model or gateway has to be doubted, nor is anything learnt of them."""


@attrs.frozen
class Asked:
    """One call to be made."""

    number: int
    when: float
    process: int
    tenant: str
    request: ChatRequest
    patience: float | None
    explained: bool
    """Whether `explain` is asked first what will happen."""


@attrs.frozen
class History:
    """What follows from a seed, before anything is played."""

    seed: int
    kind: Kind
    models: dict[str, tuple[str, ...]]
    """By gateway, the ids that it knows."""
    keys: dict[str, dict[str, tuple[str, ...]]]
    """By tenant (empty: there are none) and gateway."""
    settings: Settings
    processes: int
    calls: tuple[Asked, ...]

    def keys_of(self, tenant: str) -> list[str]:
        return [key for several in self.keys[tenant].values() for key in several]


def drawn(seed: int, kind: Kind = Kind.ANY) -> History:
    draws = random.Random(f"{seed}/{kind.value}")
    names = ("one", "two", "three")[: draws.choice((1, 2, 2, 3))]
    aliases = {model: ids for model in MODELS if (ids := _aliases(draws, model, names))}
    models = {
        name: (*(known for model in MODELS if (known := aliases.get(model, {}).get(name, model))), LAST_RESORT)
        for name in names
    }
    tenants = TENANTS[: draws.choice((0, 2, 2, 3)) if kind is Kind.ANY else 3]
    keys = {tenant: _keys(draws, tenant, names) for tenant in tenants or ("",)}
    settings = _settings(draws, kind, names, aliases, keys)
    processes = draws.choice((1, 1, 2)) if kind is Kind.ANY else 1
    calls = _calls(draws, kind, [*keys], processes, limited=_limited(settings))
    return History(seed, kind, models, keys, settings, processes, calls)


def _aliases(draws: random.Random, model: str, names: Sequence[str]) -> dict[str, str | None]:
    """On the first gateway every model goes by its name."""
    ids: dict[str, str | None] = {}
    for name in names[1:]:
        what = draws.randrange(6)
        if what == 0:
            ids[name] = None
        elif what <= 2:
            ids[name] = f"{model.partition('/')[2]}@{name}"
    return ids


def _keys(draws: random.Random, tenant: str, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(f"sk-{tenant or 'own'}-{name}-{each}-1234567890" for each in range(draws.choice((1, 1, 2, 3))))
        for name in names
    }


def _settings(
    draws: random.Random,
    kind: Kind,
    names: Sequence[str],
    aliases: dict[str, dict[str, str | None]],
    keys: dict[str, dict[str, tuple[str, ...]]],
) -> Settings:
    well = kind is Kind.WELL  # nobody fetches a list of models for others, nobody's answers teach others
    limited = draws.random() < 0.4
    strategies = ("priority", "round_robin", "weighted") if well else ("priority", *STRATEGIES)
    tenants = [
        Tenant(
            name,
            own,
            limits=_limits(draws) if limited else None,
            budget=_budget(draws) if limited and not well else None,
        )
        for name, own in keys.items()
        if name
    ]
    return settings_from(
        {},
        gateways=[Gateway(name=name, base_url=f"https://{name}.test/v1") for name in names],
        aliases=aliases,
        api_key=keys.get(""),
        tenants=tenants or None,
        default_model=draws.choice((None, MODELS[0])),
        fallback_models=draws.sample(MODELS[1:], draws.choice((0, 1, 2))),
        catalog_fallback=not well and draws.random() < 0.5,
        strategy=draws.choice(strategies),
        fallback_strategy=draws.choice((None, None, "priority", "round_robin", "weighted")),
        retry=_retry(draws),
        breaker=BreakerPolicy(
            slow_first_token=draws.choice((3, 10)) if kind is Kind.ANY else 600, fast_trip=draws.choice((1, 2, 5))
        ),
        limits=_shared_limits(draws, names[0]) if limited and kind is Kind.ANY and draws.random() < 0.6 else None,
        budget=Budget("0.2") if limited and kind is Kind.ANY and draws.random() < 0.2 else None,
    )


def _retry(draws: random.Random) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=draws.choice((1, 2, 4, 4, 6, 10)),
        budget=draws.choice((1, 2, 10)),
        at_most_once=draws.random() < 0.1,
    )


def _limited(settings: Settings) -> bool:
    own = [tenant.limits or tenant.budget for tenant in settings.tenants.values()]
    return bool(settings.limits or settings.budget or any(own))


def _limits(draws: random.Random) -> Limits | None:
    what = draws.randrange(6)
    if what == 0:
        return Limits(requests_per_minute=draws.choice((5, 60)), tokens_per_minute=draws.choice((None, 100_000)))
    if what == 1:
        return Limits(concurrency=draws.choice((1, 2, 5)))
    if what == 2:
        size, timeout = draws.choice((1, 3, 20)), draws.choice((None, 0.5, 5))
        return Limits(concurrency=draws.choice((1, 2, 5)), queue_size=size, queue_timeout=timeout)
    return None


def _budget(draws: random.Random) -> Budget | None:
    return Budget(draws.choice(("0", "0.1", "0.5"))) if draws.random() < 0.3 else None


def _shared_limits(draws: random.Random, gateway: str) -> dict[str, Limits]:
    several = {
        "client": Limits(concurrency=draws.choice((3, 10)), queue_size=draws.choice((0, 5))),
        f"gateway:{gateway}": Limits(concurrency=draws.choice((1, 4)), queue_size=draws.choice((0, 5))),
        "key": Limits(requests_per_minute=draws.choice((3, 20)), concurrency=draws.choice((None, 1))),
        f"model:{MODELS[0]} on {gateway}": Limits(requests_per_minute=10),
        "free": Limits(requests_per_minute=2),
    }
    return {scope: several[scope] for scope in draws.sample([*several], draws.choice((1, 1, 2)))}


def _calls(
    draws: random.Random, kind: Kind, tenants: Sequence[str], processes: int, *, limited: bool
) -> tuple[Asked, ...]:
    calls: list[Asked] = []
    when = 0.0
    while (when := when + draws.expovariate(draws.choice((1, 4, 15)))) < SECONDS:
        calls.append(
            Asked(
                number=len(calls),
                when=when,
                process=draws.randrange(processes),
                tenant=draws.choice(tenants),
                request=_request(draws, kind),
                patience=draws.expovariate(0.7) if draws.random() < 0.2 else None,
                explained=kind is Kind.ANY and not limited and draws.random() < 0.3,
            )
        )
    return tuple(calls)


def _request(draws: random.Random, kind: Kind) -> ChatRequest:
    named = draws.sample(MODELS, draws.choice((0, 1, 2, 3)))
    stream = draws.random() < 0.6
    hasty = kind is not Kind.WELL  # so that models are left that only take their time
    timeouts = Timeouts(
        connect=draws.choice((1, 5)),
        first_byte=draws.choice((3, 30)) if hasty else 30,
        first_token=draws.choice((2, 8, 45)) if hasty else 45,
        content_idle=draws.choice((5, 120)) if hasty else 120,
        total=draws.choice((0.5, 3, 10, 30, 60)),
    )
    return ChatRequest.build(
        "Hello",
        model=named[0] if named else None,
        fallback_models=named[1:] or None,
        timeouts=timeouts,
        stream=stream,
        on_interrupt=draws.choice((None, "raise", "restart", "continue")) if stream else None,
    )


# --- what goes wrong ---


def faults_of(history: History) -> list[Fault]:
    """Of keys, gateways, models and lists of models, each for a while. Made anew for every run: some have a memory."""
    draws = random.Random(f"{history.seed}/faults")
    return [*_of_keys(history, draws, *history.keys), *_elsewhere(history, draws)]


def refused(history: History, tenant: str) -> list[Fault]:
    """What goes wrong where the keys of one tenant are refused: see `tests.simulation.tenants.apart`."""
    draws = random.Random(f"{history.seed}/refused")
    if history.kind is Kind.WELL:
        return _of_keys(history, draws, tenant)
    always = Fault(0, FOREVER, _refusal(draws, at_once=True), keys=tuple(history.keys_of(tenant)))
    return [always, *_elsewhere(history, draws)]


def _of_keys(history: History, draws: random.Random, *tenants: str) -> list[Fault]:
    keys = [key for tenant in tenants for key in history.keys_of(tenant)]
    return [_spell(draws, _refusal(draws), longest=SECONDS, keys=(key,)) for key in keys if draws.random() < 0.5]


def _elsewhere(history: History, draws: random.Random) -> list[Fault]:
    faults: list[Fault] = []
    for gateway, models in history.models.items():
        if draws.random() < 0.4:
            faults.append(_spell(draws, _away(draws), longest=20, gateways=(gateway,)))
        troubled = [model for model in models for _ in range(draws.choice((0, 0, 1, 2)))]
        faults += [_spell(draws, _trouble(draws), 20, models=(model,), gateways=(gateway,)) for model in troubled]
        if draws.random() < 0.4:
            absent = up.refuse(draws.choice((401, 403, 404, 503)))
            faults.append(_spell(draws, absent, longest=SECONDS, models=(up.CATALOG,), gateways=(gateway,)))
    return faults


def _spell(draws: random.Random, behaviour: Behaviour, longest: float, **where: Any) -> Fault:
    begin = draws.uniform(-10, SECONDS)
    return Fault(begin, begin + draws.uniform(0.5, longest), behaviour, **where)


def _refusal(draws: random.Random, *, at_once: bool = False) -> Behaviour:
    """What may befall a key."""
    hint = draws.choice((None, 1, 7, 40))
    return draws.choice(
        (
            up.refuse(401, at_once=at_once),
            up.refuse(401, retry_after=hint, at_once=at_once),
            up.refuse(402, at_once=at_once),
            up.refuse(402, retry_after=hint, source=up.KEY_LIMIT, at_once=at_once),
            up.refuse(402, retry_after=hint, source=up.IN_FLIGHT, at_once=at_once),
            *[up.refuse(429, retry_after=hint, at_once=at_once)] * 4,
            up.refuse(429, "You exceeded your current quota", at_once=at_once),
            up.refuse(429, "free-models-per-day", retry_after=hint, at_once=at_once),
            up.refuse(404, "No endpoints found matching your data policy", at_once=at_once),
            up.refuse(403, at_once=at_once),
        )
    )


def _away(draws: random.Random) -> Behaviour:
    """What may befall a gateway."""
    return draws.choice(
        (
            up.unreachable(),
            up.unreachable(Failure.RESOLVE),
            up.unreachable(Failure.CONNECT_TIMEOUT),
            up.web_page,
            up.refuse(522),
            up.hang,
        )
    )


def _trouble(draws: random.Random) -> Behaviour:
    """What may befall a model."""
    this = draws.choice(
        (
            up.refuse(draws.choice((400, 404, 408, 409, 500, 502, 503, 504, 520, 529))),
            *[up.refuse(draws.choice((429, 503)), retry_after=draws.choice((None, 0, 1, 5, 20, 90)))] * 3,
            up.rate_limited(draws.randrange(1, 10), draws.choice((1, 5)), 0.1),
            draws.choice((up.hang, up.think)),
            up.lose(reused=draws.random() < 0.5),
            up.slow(draws.choice((2, 6, 30))),
            up.cut(draws.choice(("end", "reset", "stall"))),
        )
    )
    return up.sometimes(draws.uniform(0.2, 0.9), this) if draws.random() < 0.4 else this
