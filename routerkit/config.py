"""Settings from arguments and environment. Arguments win over the environment."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import attrs

from routerkit import gateways as known
from routerkit.core.strategies import Strategy, strategy_of
from routerkit.environment import MEMORY, PREFIXES, Environment, Variables, hidden, keys_in, store_url, strategy_name
from routerkit.errors import ConfigurationError, InvalidRequestError
from routerkit.tenancy import Place, check_tenants, client_keys, switched_on, tell_oddities, tenants_of
from routerkit.types.event import Observer
from routerkit.types.fault import Fault
from routerkit.types.fault import script as faults
from routerkit.types.gateway import Gateway
from routerkit.types.limits import Budget, Limits
from routerkit.types.policy import BreakerPolicy, RetryPolicy, Timeouts
from routerkit.types.request import checked_header_value, checked_model, checked_models
from routerkit.types.scope import limits_of
from routerkit.types.secret import listed, shown
from routerkit.types.settings import DevMode, Settings
from routerkit.types.store import SharedStore
from routerkit.types.tenant import Tenant
from routerkit.variable_names import UNKNOWN, is_known, misspelt

T = TypeVar("T")

log = logging.getLogger("routerkit")


class Options(TypedDict, total=False):
    """What a client can be told; each wins over the environment. See the configuration reference."""

    api_key: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None
    gateway: str | Gateway | None
    base_url: str | None
    gateways: Sequence[str | Gateway] | None
    aliases: Mapping[str, Mapping[str, str | None]] | None
    default_model: str | None
    fallback_models: Iterable[str] | None
    catalog_fallback: bool | None
    strategy: str | Strategy | None
    fallback_strategy: str | Strategy | None
    performance_cache: bool | None
    tenants: Iterable[Tenant] | None
    timeout: float | Timeouts | None
    retry: RetryPolicy | None
    breaker: BreakerPolicy | None
    catalog_ttl: float | None
    dev_mode: bool | None
    dev_script: Sequence[Fault | Mapping[str, Any]] | None
    dev_pace: float | None
    limits: Limits | Mapping[str, Limits] | None
    budget: Budget | None
    store: str | SharedStore | None
    observers: Sequence[Observer] | None
    app_url: str | None
    app_title: str | None


class ChangeableOptions(TypedDict, total=False):
    """Those of the options in which a client made by ``with_options`` can differ."""

    timeout: float | Timeouts | None
    default_model: str | None
    fallback_models: Iterable[str]
    catalog_fallback: bool
    gateway: str
    """The name of one of the client's: no other is asked."""
    strategy: str | Strategy | None
    fallback_strategy: str | Strategy | None
    retry: RetryPolicy | None
    app_url: str | None
    app_title: str | None


def changed(settings: Settings, options: ChangeableOptions) -> Settings:
    """The same settings but for these. Raises ConfigurationError."""
    unknown = options.keys() - ChangeableOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(ChangeableOptions.__annotations__)
        raise ConfigurationError(
            f"with_options({min(unknown)}=…): only {known} can differ; make another client for the rest"
        )
    own = {**options}
    settings = settings if "gateway" not in own else _narrowed(settings, own.pop("gateway"))
    fresh = settings_from({}, gateway=attrs.evolve(settings.gateway, key_required=False), **own)  # type: ignore[arg-type]
    names = {"timeouts" if name == "timeout" else name for name in own}
    return attrs.evolve(settings, **{name: getattr(fresh, name) for name in names})


def _narrowed(settings: Settings, name: object) -> Settings:
    """The settings of a client that knows only one of its gateways. Raises ConfigurationError."""
    left = tuple(gateway for gateway in settings.gateways if gateway.name == name)
    if not left:
        names = listed([gateway.name for gateway in settings.gateways])
        raise ConfigurationError(f"with_options(gateway={shown(name)}): not among {names}")
    return attrs.evolve(settings, gateways=left)


def settings_from(
    values: Mapping[str, str],
    *,
    api_key: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
    gateway: str | Gateway | None = None,
    base_url: str | None = None,
    gateways: Sequence[str | Gateway] | None = None,
    aliases: Mapping[str, Mapping[str, str | None]] | None = None,
    default_model: str | None = None,
    fallback_models: Iterable[str] | None = None,
    catalog_fallback: bool | None = None,
    strategy: str | Strategy | None = None,
    fallback_strategy: str | Strategy | None = None,
    performance_cache: bool | None = None,
    tenants: Iterable[Tenant] | None = None,
    timeout: float | Timeouts | None = None,
    retry: RetryPolicy | None = None,
    breaker: BreakerPolicy | None = None,
    catalog_ttl: float | None = None,
    dev_mode: bool | None = None,
    dev_script: Sequence[Fault | Mapping[str, Any]] | None = None,
    dev_pace: float | None = None,
    limits: Limits | Mapping[str, Limits] | None = None,
    budget: Budget | None = None,
    store: str | SharedStore | None = None,
    observers: Sequence[Observer] | None = None,
    app_url: str | None = None,
    app_title: str | None = None,
) -> Settings:
    """The settings that arguments and an environment make together. Raises ConfigurationError."""
    values, api_key, limits, store = Variables(values), hidden(api_key), hidden(limits), hidden(store)
    for slip in misspelt(values):
        log.warning(UNKNOWN, *slip)
    named = _places(values, gateway, base_url, gateways)
    places = switched_on(named)
    among = [place.gateway for place in named]
    environment = named[0].environment  # also where that one is switched off: a budget holds whoever is asked
    dev = _dev_mode(environment, dev_mode, dev_script, dev_pace)
    known_tenants = tenants_of(places, among, tenants, needed=dev is None)
    check_tenants(places, known_tenants, needed=dev is None)
    tell_oddities(places, known_tenants)
    try:
        known_ids = _aliases(aliases, [gateway.name for gateway in among])
        return Settings(
            gateways=tuple(place.gateway for place in places),
            keys=client_keys(places, among, api_key, needed=dev is None and not known_tenants),
            default_model=environment.get("DEFAULT_MODEL") if default_model is None else checked_model(default_model),
            fallback_models=(environment.get("FALLBACK_MODELS") or ())
            if fallback_models is None
            else checked_models(fallback_models),
            catalog_fallback=_switch("catalog_fallback", catalog_fallback, environment, default=True),
            aliases=known_ids,
            timeouts=Timeouts.of(environment.get("TIMEOUT") if timeout is None else timeout),
            retry=_policy(RetryPolicy, "retry", retry) or _retry(environment),
            breaker=_policy(BreakerPolicy, "breaker", breaker) or BreakerPolicy(),
            catalog_ttl=3600.0 if catalog_ttl is None else _seconds("catalog_ttl", catalog_ttl, positive=True),
            strategy=_strategy_of_environment(environment) if strategy is None else _strategy("strategy", strategy),
            fallback_strategy=environment.get("FALLBACK_STRATEGY")
            if fallback_strategy is None
            else _strategy("fallback_strategy", fallback_strategy),
            performance_cache=_switch("performance_cache", performance_cache, environment),
            tenants=known_tenants,
            limits=limits_of(limits, among, known_ids),
            budget=_budget(budget) or environment.get("BUDGET"),
            store=_store(store, environment),
            dev_mode=dev,
            app_url=environment.get("HTTP_REFERER") if app_url is None else checked_header_value(app_url, "app_url"),
            app_title=environment.get("X_OPEN_ROUTER_TITLE")
            if app_title is None
            else checked_header_value(app_title, "app_title"),
            observers=_observers(observers),
        )
    except InvalidRequestError as error:
        raise ConfigurationError(str(error)) from None


def _places(
    values: Mapping[str, str],
    gateway: str | Gateway | None,
    base_url: str | None,
    several: Sequence[str | Gateway] | None,
) -> list[Place]:
    """The gateways in their order, each with the environment read for it."""
    if several is None:
        return [_place(values, gateway, base_url)]
    if gateway is not None or base_url is not None:
        raise ConfigurationError("gateways= excludes gateway= and base_url=: name all gateways in the list")
    if isinstance(several, (str, Gateway)) or not isinstance(several, Sequence) or not several:
        raise ConfigurationError("gateways: must be a list of names, base URLs or Gateway")
    places = [_place(values, each, None) for each in several]
    names = [place.gateway.name for place in places]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(
                f"gateways: {name!r} is there twice: give one of them another name, Gateway(name=…, base_url=…)"
            )
    return places


def _place(values: Mapping[str, str], gateway: str | Gateway | None, base_url: str | None) -> Place:
    if isinstance(gateway, Gateway):
        chosen = gateway if base_url is None else attrs.evolve(gateway, base_url=base_url)
        return Place(chosen, Environment(values, chosen.name))
    if isinstance(gateway, str) and "://" in gateway and base_url is None:
        gateway, base_url = None, gateway
    if gateway is None and base_url is not None:
        chosen = known.at(base_url)
        return Place(chosen, Environment(values, chosen.name))
    chosen = known.known((_with_key(values) or "openrouter") if gateway is None else gateway)
    environment = Environment(values, chosen.name)
    url = environment.get("BASE_URL") if base_url is None else base_url
    return Place(chosen if url is None else attrs.evolve(chosen, base_url=url), environment)


def _with_key(values: Mapping[str, str]) -> str | None:
    """The first known gateway for which the environment has a key, of its own or a tenant's."""
    return next((name for name in known.KNOWN if any(keys_in(values, PREFIXES[name][:1]))), None)


def spoken_of(values: Mapping[str, str], base_url: str) -> str | None:
    """The known gateway whose address that is in the eyes of an environment: the one that is at home there, which gets nobody
    else's key; else the first that has a key in it; else the first that has any variable. ``None``: it speaks of none."""
    try:
        at_home = known.at_home(base_url)
    except ConfigurationError:  # which is raised where the URL is read: where no frame shows the key any more
        return None
    set_here = [name for name in values if is_known(name) and values[name].strip()]
    named = (name for name in known.KNOWN if any(each.startswith(PREFIXES[name][0]) for each in set_here))
    return at_home or _with_key(values) or next(named, None)


_ALIASES = "{'model': {'gateway': 'its id there'}}"


def _aliases(aliases: Any, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """The alias table, checked. Raises ConfigurationError."""
    if aliases is None:
        return {}
    if not isinstance(aliases, Mapping) or not all(isinstance(ids, Mapping) for ids in aliases.values()):
        raise ConfigurationError(f"aliases: must be a dict by model of dicts by gateway, {_ALIASES}")
    checked: dict[str, dict[str, str | None]] = {}
    for model, ids in aliases.items():
        _alias(model)
        for name in ids:
            if name not in names:
                raise ConfigurationError(
                    f"aliases: {model!r} has an id for {shown(name)}, which is none of the gateways ({listed(names)}); "
                    f"it must be {_ALIASES}"
                )
        checked[model] = {name: None if known_as is None else _alias(known_as) for name, known_as in ids.items()}
    return checked


def _alias(model: object) -> str:
    try:
        return checked_model(model)
    except InvalidRequestError as error:
        raise ConfigurationError(f"aliases: {error}") from None


def _strategy(name: str, value: str | Strategy) -> Any:
    try:
        return strategy_name(value) if isinstance(value, str) else strategy_of(value)
    except ValueError as error:
        what = value.__name__ if isinstance(value, type) else shown(value)
        raise ConfigurationError(f"{name}={what}: {error}") from None


def _strategy_of_environment(environment: Environment) -> str:
    strategy, cost = environment.get("ROUTE_STRATEGY"), environment.get("COST_OPTIMIZED")
    if not cost:
        return strategy or "priority"
    if strategy not in (None, "cost_optimized"):
        names = [found[0] for name in ("COST_OPTIMIZED", "ROUTE_STRATEGY") if (found := environment.find(name))]
        raise ConfigurationError(f"{names[0]}=true and {names[1]}={strategy} contradict each other")
    return "cost_optimized"


def _switch(name: str, value: bool | None, environment: Environment, *, default: bool = False) -> bool:
    if value is None:
        told: bool | None = environment.get(name.upper())
        return default if told is None else told
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={shown(value)}: must be True or False")
    return value


def _retry(environment: Environment) -> RetryPolicy:
    """The retry policy that the environment describes."""
    retries = {
        full: environment.get(name) for name in ("MAX_RETRIES", "RETRY_ATTEMPTS") if (full := environment.find(name))
    }
    counts = set(retries.values())
    if len(counts) > 1:
        raise ConfigurationError(" and ".join(f"{name}={text}" for name, text in retries) + " contradict each other")
    values = {
        "max_attempts": None if not counts else counts.pop() + 1,
        "backoff_base": environment.get("RETRY_BACKOFF_BASE"),
        "backoff_max": environment.get("RETRY_BACKOFF_MAX"),
        "jitter": environment.get("RETRY_JITTER"),
    }
    return RetryPolicy(**{name: value for name, value in values.items() if value is not None})


def _dev_mode(
    environment: Environment,
    dev_mode: bool | None,
    script: Sequence[Fault | Mapping[str, Any]] | None,
    pace: float | None,
) -> DevMode | None:
    if dev_mode is not None and not isinstance(dev_mode, bool):
        raise ConfigurationError(f"dev_mode={shown(dev_mode)}: must be True or False")
    wanted = environment.get("DEV_MODE") if dev_mode is None else dev_mode
    if not wanted:
        if script is not None:
            raise ConfigurationError("dev_script= needs dev_mode=True")
        return None
    if (environment.get("ROUTERKIT_ENV") or "").lower() == "production":
        raise ConfigurationError(
            "dev mode is on (DEV_MODE or dev_mode=) while ROUTERKIT_ENV=production: answers would be made up"
        )
    return DevMode(
        script=() if script is None else faults(script), pace=0.0 if pace is None else _seconds("dev_pace", pace)
    )


def _budget(budget: Budget | None) -> Budget | None:
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigurationError(
            f"budget: must be a Budget, such as Budget('5', per='day'), not {type(budget).__name__}"
        )
    return budget


def _store(given: str | SharedStore | None, environment: Environment) -> SharedStore | None:
    """Where limits and budgets are counted. What a bare URL leaves open the environment may say."""
    if isinstance(given, SharedStore):
        return given
    if given is not None and not isinstance(given, str):
        raise ConfigurationError(f"store: must be {MEMORY!r}, a URL or a SharedStore, not {type(given).__name__}")
    url = environment.get("ROUTERKIT_STORE") if given is None else store_url(given)
    if given == MEMORY:
        return None
    fields = ("namespace", "workers", "offline_allowance")
    told = {field: environment.get(f"ROUTERKIT_STORE_{field.upper()}") for field in fields}
    known = {field: value for field, value in told.items() if value is not None}
    if url in (None, MEMORY):
        if known:
            raise ConfigurationError(
                f"ROUTERKIT_STORE_{min(known).upper()}: needs the URL of a store in ROUTERKIT_STORE"
            )
        return None
    return SharedStore(url, **known)


def _observers(observers: Any) -> tuple[Observer, ...]:
    if observers is None:
        return ()
    if not isinstance(observers, Sequence) or not all(map(callable, observers)):
        raise ConfigurationError("observers: must be a list of callables, each of which takes an event")
    return tuple(observers)


def _policy(kind: type[T], name: str, value: T | None) -> T | None:
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{name}={shown(value)}: must be a {kind.__name__}")
    return value


def _seconds(name: str, value: float, *, positive: bool = False) -> float:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 10**9
    if not fits or (positive and value == 0):
        raise ConfigurationError(f"{name}={shown(value)}: must be a number of seconds")
    return float(value)
