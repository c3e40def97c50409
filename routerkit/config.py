"""Settings from arguments and environment. Arguments win over the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar
from urllib.parse import urlsplit

import attrs

from routerkit import gateways as known
from routerkit.core.strategies import Strategy, strategy_of
from routerkit.environment import MEMORY, PREFIXES, Environment, Variables, hidden, store_url, strategy_name
from routerkit.errors import ConfigurationError, InvalidRequestError
from routerkit.tenancy import Place, check_tenants, client_keys, switched_on, tell_oddities, tenants_of
from routerkit.types.event import Observer
from routerkit.types.fault import Fault
from routerkit.types.fault import script as faults
from routerkit.types.gateway import Gateway, checked_url, is_loopback
from routerkit.types.limits import Budget, Limits
from routerkit.types.policy import BreakerPolicy, RetryPolicy, Timeouts
from routerkit.types.request import checked_header_value, checked_model, checked_models
from routerkit.types.scope import limits_of
from routerkit.types.secret import listed, shown
from routerkit.types.settings import DevMode, Settings
from routerkit.types.store import SharedStore
from routerkit.types.tenant import Tenant

T = TypeVar("T")


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
    catalog_ttl: float
    dev_mode: bool | None
    dev_script: Sequence[Fault | Mapping[str, Any]] | None
    dev_pace: float
    limits: Limits | Mapping[str, Limits] | None
    budget: Budget | None
    store: str | SharedStore | None
    observers: Sequence[Observer]
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
    catalog_ttl: float = 3600.0,
    dev_mode: bool | None = None,
    dev_script: Sequence[Fault | Mapping[str, Any]] | None = None,
    dev_pace: float = 0.0,
    limits: Limits | Mapping[str, Limits] | None = None,
    budget: Budget | None = None,
    store: str | SharedStore | None = None,
    observers: Sequence[Observer] = (),
    app_url: str | None = None,
    app_title: str | None = None,
) -> Settings:
    """The settings that arguments and an environment make together. Raises ConfigurationError."""
    values, api_key, limits, store = Variables(values), hidden(api_key), hidden(limits), hidden(store)
    named = _places(values, gateway, base_url, gateways)
    places = switched_on(named)
    among = [place.gateway for place in named]
    environment = places[0].environment
    dev = _dev_mode(environment, dev_mode, dev_script, dev_pace)
    known_tenants = tenants_of(places, among, tenants)
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
            catalog_ttl=_seconds("catalog_ttl", catalog_ttl, positive=True),
            strategy=_strategy("strategy", strategy) or _strategy_of_environment(environment),
            fallback_strategy=_strategy("fallback_strategy", fallback_strategy) or environment.get("FALLBACK_STRATEGY"),
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
            observers=tuple(observers),
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
    places = [_place(values, *_named_or_at(each)) for each in several]
    names = [place.gateway.name for place in places]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"gateways: {name!r} is there twice")
    return places


def _named_or_at(gateway: str | Gateway) -> tuple[str | Gateway | None, str | None]:
    return (None, gateway) if isinstance(gateway, str) and "://" in gateway else (gateway, None)


def _place(values: Mapping[str, str], gateway: str | Gateway | None, base_url: str | None) -> Place:
    if isinstance(gateway, Gateway):
        chosen = gateway if base_url is None else attrs.evolve(gateway, base_url=base_url)
        return Place(chosen, Environment(values, chosen.name))
    if gateway is None and base_url is not None:
        chosen = known.at(base_url)
        return Place(chosen, Environment(values, chosen.name))
    name = _with_key(values) if gateway is None else gateway
    chosen = known.known(name)
    environment = Environment(values, chosen.name)
    url = base_url or environment.get("BASE_URL")
    return Place(chosen if url is None else attrs.evolve(chosen, base_url=url), environment)


def _with_key(values: Mapping[str, str]) -> str:
    """The first known gateway for which the environment has a key; OpenRouter when it has none."""
    for name in known.KNOWN:
        if any(values.get(f"{PREFIXES[name][0]}{variable}", "").strip() for variable in ("API_KEY", "API_KEYS")):
            return name
    for name in known.KNOWN:
        if any(variable.startswith(f"{PREFIXES[name][0]}TENANT_") for variable in values):
            return name
    return "openrouter"


def _aliases(aliases: Any, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """The alias table, checked. Raises ConfigurationError, InvalidRequestError."""
    if aliases is None:
        return {}
    if not isinstance(aliases, Mapping) or not all(isinstance(ids, Mapping) for ids in aliases.values()):
        raise ConfigurationError(
            "aliases: must be a dict by model of dicts by gateway, {'model': {'gateway': 'its id there'}}"
        )
    checked: dict[str, dict[str, str | None]] = {}
    for model, ids in aliases.items():
        checked_model(model)
        for name in ids:
            if name not in names:
                raise ConfigurationError(
                    f"aliases: {model!r} has an id for {shown(name)}, which is not among {listed(names)}"
                )
        checked[model] = {name: None if known_as is None else checked_model(known_as) for name, known_as in ids.items()}
    return checked


def _strategy(name: str, value: str | Strategy | None) -> Any:
    if value is None:
        return None
    try:
        return strategy_name(value) if isinstance(value, str) else strategy_of(value)
    except ValueError as error:
        told = "is not a known strategy" if isinstance(value, str) and shown(value) == "…" else error
        raise ConfigurationError(f"{name}={shown(value)}: {told}") from None


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
        raise ConfigurationError(f"{name}={value!r}: must be True or False")
    return value


def _retry(environment: Environment) -> RetryPolicy:
    """The retry policy that the environment describes."""
    defaults = RetryPolicy()
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
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return attrs.evolve(defaults, **given)
    except ConfigurationError as error:
        names = [found[0] for name in _RETRY_VARIABLES if (found := environment.find(name))]
        raise ConfigurationError(f"{', '.join(names)}: {error}") from None


_RETRY_VARIABLES = ("MAX_RETRIES", "RETRY_ATTEMPTS", "RETRY_BACKOFF_BASE", "RETRY_BACKOFF_MAX", "RETRY_JITTER")


def _dev_mode(
    environment: Environment, dev_mode: bool | None, script: Sequence[Fault | Mapping[str, Any]] | None, pace: float
) -> DevMode | None:
    if dev_mode is not None and not isinstance(dev_mode, bool):
        raise ConfigurationError(f"dev_mode={dev_mode!r}: must be True or False")
    wanted = environment.get("DEV_MODE") if dev_mode is None else dev_mode
    if not wanted:
        if script is not None:
            raise ConfigurationError("dev_script= needs dev_mode=True")
        return None
    if (environment.get("ROUTERKIT_ENV") or "").lower() == "production":
        raise ConfigurationError(
            "dev mode is on (DEV_MODE or dev_mode=) while ROUTERKIT_ENV=production: answers would be made up"
        )
    return DevMode(script=() if script is None else faults(script), pace=_seconds("dev_pace", pace))


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


def _policy(kind: type[T], name: str, value: T | None) -> T | None:
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{name}={value!r}: must be a {kind.__name__}")
    return value


def _seconds(name: str, value: float, *, positive: bool = False) -> float:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 10**9
    if not fits or (positive and value == 0):
        raise ConfigurationError(f"{name}={value!r}: must be a number of seconds")
    return float(value)


def with_file(path: str | os.PathLike[str], values: Mapping[str, str]) -> Variables:
    """An environment and, below it, the variables of a ``.env`` file.

    A key of the environment is not sent to an address that only the file names: whoever can place a file in a folder would
    else receive the key. Raises ConfigurationError.
    """
    told = from_file(path)
    for name in list(told):
        if _is_key(name) and any(_whose(other) == _whose(name) for other in _keys_in(values)):
            del told[name]  # the environment wins, also where it says API_KEY and the file API_KEYS
    both = Variables({**told, **values})
    for gateway in PREFIXES:
        environment = Environment(both, gateway)
        url = environment.find("BASE_URL")
        keys = [name for name in _keys_in(values) if name.startswith(environment.prefixes)]
        if url is None or url[0] in values or not keys:
            continue
        if not is_loopback(urlsplit(checked_url(url[1], url[0])).hostname or ""):
            raise ConfigurationError(
                f"{url[0]} comes from {os.fspath(path)!r} and {keys[0]} from the environment: set both in the same place"
            )
    return both


def _keys_in(values: Mapping[str, str]) -> list[str]:
    return [name for name in values if _is_key(name) and values[name].strip()]


def _is_key(name: str) -> bool:
    prefixes = tuple(prefix for several in PREFIXES.values() for prefix in several)
    return name.startswith(prefixes) and name.endswith(("API_KEY", "API_KEYS"))


def _whose(name: str) -> tuple[str, str]:
    """To which gateway, under whatever name it goes, and to which tenant a key's variable belongs."""
    prefix = next(prefix for several in PREFIXES.values() for prefix in several if name.startswith(prefix))
    gateway = next(gateway for gateway, several in PREFIXES.items() if prefix in several)
    return gateway, name.removeprefix(prefix).removesuffix("S")


def from_file(path: str | os.PathLike[str]) -> dict[str, str]:
    """The variables of a ``.env`` file, read with python-dotenv as they stand (``${…}`` is not filled in)."""
    try:
        from dotenv import dotenv_values
    except ModuleNotFoundError:
        raise ConfigurationError("env_file= needs python-dotenv: pip install 'routerkit[cli]'") from None
    name = f"env_file={os.fspath(path)!r}"
    if not os.path.exists(path):
        raise ConfigurationError(f"{name}: no such file")
    try:
        with open(path, encoding="utf-8-sig") as file:
            values = dotenv_values(stream=file, interpolate=False)
    except UnicodeError:
        raise ConfigurationError(f"{name}: cannot be read: it is no text in UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot be read: {error.strerror or type(error).__name__}") from None
    return {name: value for name, value in values.items() if value is not None}
