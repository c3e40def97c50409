"""Settings from arguments and environment. Arguments win over the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar
from urllib.parse import urlsplit

import attrs

from routerkit import gateways
from routerkit.environment import PREFIXES, Environment, Variables, hidden, memory, strategy_name
from routerkit.errors import ConfigurationError, InvalidRequestError
from routerkit.types.event import Observer
from routerkit.types.fault import Fault
from routerkit.types.fault import script as faults
from routerkit.types.gateway import Gateway, checked_url, is_loopback
from routerkit.types.policy import BreakerPolicy, RetryPolicy, Timeouts
from routerkit.types.request import checked_header_value, checked_model, checked_models
from routerkit.types.secret import Secret
from routerkit.types.settings import DevMode, Settings

T = TypeVar("T")


class Options(TypedDict, total=False):
    """What a client can be told; each wins over the environment. See the configuration reference."""

    api_key: str | None
    gateway: str | Gateway | None
    base_url: str | None
    default_model: str | None
    fallback_models: Iterable[str] | None
    strategy: str | None
    fallback_strategy: str | None
    timeout: float | Timeouts | None
    retry: RetryPolicy | None
    breaker: BreakerPolicy | None
    catalog_ttl: float
    dev_mode: bool | None
    dev_script: Sequence[Fault | Mapping[str, Any]] | None
    dev_pace: float
    store: str | None
    observers: Sequence[Observer]
    app_url: str | None
    app_title: str | None


LATER = frozenset({"gateways", "tenants", "limits", "budget"})
"""Options of versions to come."""


class ChangeableOptions(TypedDict, total=False):
    """Those of the options in which a client made by ``with_options`` can differ."""

    timeout: float | Timeouts | None
    default_model: str | None
    fallback_models: Iterable[str]
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
    fresh = settings_from({}, gateway=attrs.evolve(settings.gateway, key_required=False), **options)
    names = {"timeouts" if name == "timeout" else name for name in options}
    return attrs.evolve(settings, **{name: getattr(fresh, name) for name in names})


def settings_from(
    values: Mapping[str, str],
    *,
    api_key: str | None = None,
    gateway: str | Gateway | None = None,
    base_url: str | None = None,
    default_model: str | None = None,
    fallback_models: Iterable[str] | None = None,
    strategy: str | None = None,
    fallback_strategy: str | None = None,
    timeout: float | Timeouts | None = None,
    retry: RetryPolicy | None = None,
    breaker: BreakerPolicy | None = None,
    catalog_ttl: float = 3600.0,
    dev_mode: bool | None = None,
    dev_script: Sequence[Fault | Mapping[str, Any]] | None = None,
    dev_pace: float = 0.0,
    store: str | None = None,
    observers: Sequence[Observer] = (),
    app_url: str | None = None,
    app_title: str | None = None,
) -> Settings:
    """The settings that arguments and an environment make together. Raises ConfigurationError."""
    values, api_key = Variables(values), hidden(api_key)
    chosen, environment = _gateway(values, gateway, base_url)
    enabled = environment.find("ENABLED")
    if enabled is not None and not environment.get("ENABLED"):
        raise ConfigurationError(f"{enabled[0]} is false: {chosen.label or chosen.name} is not to be used here")
    _refuse_tenants(values, environment)
    for name in ("COST_OPTIMIZED", "PERFORMANCE_CACHE", "ROUTERKIT_STORE"):
        environment.get(name)
    _argument("store", memory, store)
    dev = _dev_mode(environment, dev_mode, dev_script, dev_pace)
    try:
        return Settings(
            gateway=chosen,
            api_key=_key(environment, chosen, api_key, needed=dev is None),
            default_model=environment.get("DEFAULT_MODEL") if default_model is None else checked_model(default_model),
            fallback_models=(environment.get("FALLBACK_MODELS") or ())
            if fallback_models is None
            else checked_models(fallback_models),
            timeouts=Timeouts.of(environment.get("TIMEOUT") if timeout is None else timeout),
            retry=_policy(RetryPolicy, "retry", retry) or _retry(environment),
            breaker=_policy(BreakerPolicy, "breaker", breaker) or BreakerPolicy(),
            catalog_ttl=_seconds("catalog_ttl", catalog_ttl, positive=True),
            strategy=_argument("strategy", strategy_name, strategy) or environment.get("ROUTE_STRATEGY") or "priority",
            fallback_strategy=_argument("fallback_strategy", strategy_name, fallback_strategy)
            or environment.get("FALLBACK_STRATEGY")
            or "priority",
            dev_mode=dev,
            app_url=environment.get("HTTP_REFERER") if app_url is None else checked_header_value(app_url, "app_url"),
            app_title=environment.get("X_OPEN_ROUTER_TITLE")
            if app_title is None
            else checked_header_value(app_title, "app_title"),
            observers=tuple(observers),
        )
    except InvalidRequestError as error:
        raise ConfigurationError(str(error)) from None


def _gateway(
    values: Mapping[str, str], gateway: str | Gateway | None, base_url: str | None
) -> tuple[Gateway, Environment]:
    """The gateway, and the environment read for it."""
    if isinstance(gateway, Gateway):
        chosen = gateway if base_url is None else attrs.evolve(gateway, base_url=base_url)
        return chosen, Environment(values, chosen.name)
    if gateway is None and base_url is not None:
        chosen = gateways.at(base_url)
        return chosen, Environment(values, chosen.name)
    name = _with_key(values) if gateway is None else gateway
    chosen = gateways.known(name)
    environment = Environment(values, chosen.name)
    url = base_url or environment.get("BASE_URL")
    return (chosen if url is None else attrs.evolve(chosen, base_url=url)), environment


def _with_key(values: Mapping[str, str]) -> str:
    """The first known gateway for which the environment has a key; OpenRouter when it has none."""
    for name in gateways.KNOWN:
        if values.get(f"{PREFIXES[name][0]}API_KEY", "").strip():
            return name
    return "openrouter"


def _key(environment: Environment, gateway: Gateway, api_key: str | None, *, needed: bool) -> Secret | None:
    found = environment.find("API_KEY") if api_key is None and environment.prefixes else None
    if api_key is None and found is None:
        variable = f"set {environment.prefixes[0]}API_KEY or " if environment.prefixes else ""
        local = is_loopback(urlsplit(gateway.base_url).hostname or "")
        if needed and gateway.key_required and not local:
            raise ConfigurationError(f"{gateway.label or gateway.name} API key not configured: {variable}pass api_key=")
        return None
    name, text = ("api_key", api_key) if found is None else found
    if not isinstance(text, str):
        raise ConfigurationError(f"{name}: must be a string, not {type(text).__name__}")
    try:
        return Secret(text)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None


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


def _refuse_tenants(values: Mapping[str, str], environment: Environment) -> None:
    for prefix in environment.prefixes:
        for name in values:
            if name.startswith(f"{prefix}TENANT_"):
                raise ConfigurationError(f"{name}: tenants are not available in this version")


def _argument(name: str, parse: Callable[[str], T], value: str | None) -> T | None:
    if value is None:
        return None
    try:
        return parse(value)
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(f"{name}={value!r}: {error}") from None


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
    both = Variables({**from_file(path), **values})
    for gateway in PREFIXES:
        environment = Environment(both, gateway)
        url, key = environment.find("BASE_URL"), environment.find("API_KEY")
        if url is None or key is None or url[0] in values or key[0] not in values:
            continue
        if not is_loopback(urlsplit(checked_url(url[1], url[0])).hostname or ""):
            raise ConfigurationError(
                f"{url[0]} comes from {os.fspath(path)!r} and {key[0]} from the environment: set both in the same place"
            )
    return both


def from_file(path: str | os.PathLike[str]) -> dict[str, str]:
    """The variables of a ``.env`` file, read with python-dotenv as they stand (``${…}`` is not filled in)."""
    try:
        from dotenv import dotenv_values
    except ModuleNotFoundError:
        raise ConfigurationError("env_file= needs python-dotenv: pip install 'routerkit[cli]'") from None
    if not os.path.isfile(path):
        raise ConfigurationError(f"env_file={os.fspath(path)!r}: no such file")
    try:
        values = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"env_file={os.fspath(path)!r}: cannot be read: {type(error).__name__}") from None
    return {name: value for name, value in values.items() if value is not None}
