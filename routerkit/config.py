"""Settings from arguments and environment. One table, ``VARIABLES``, names every variable; the documentation is made from it.

Arguments win over the environment. A variable that is set to nothing counts as not set. What cannot be read is a
ConfigurationError that names the variable, and never repeats a key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from routerkit import gateways
from routerkit.errors import ConfigurationError, InvalidRequestError
from routerkit.types.event import Observer
from routerkit.types.fault import Fault
from routerkit.types.fault import script as faults
from routerkit.types.gateway import Gateway, checked_url, is_loopback
from routerkit.types.policy import BreakerPolicy, RetryPolicy, Timeouts
from routerkit.types.request import checked_header_value, checked_model, checked_models
from routerkit.types.secret import Secret
from routerkit.types.settings import DevMode, Settings

PREFIXES: dict[str, tuple[str, ...]] = {
    "openrouter": ("OPENROUTER_",),
    "infron": ("INFRON_", "ONEROUTER_"),
    "onerouter": ("ONEROUTER_", "INFRON_"),
}
"""Which variables serve a gateway, the first that is set first. OneRouter is Infron AI's former name: both serve both."""

STRATEGIES = ("priority",)

T = TypeVar("T")

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def boolean(text: str) -> bool:
    """``1 true yes on`` or ``0 false no off``, in any case; nothing else."""
    word = text.lower()
    if word not in (*_TRUE, *_FALSE):
        raise ValueError("must be true or false")
    return word in _TRUE


def duration(text: str) -> float:
    """Seconds, from ``60``, ``60s``, ``1m30s``, ``500ms`` or ``1h``."""
    if _NUMBER.fullmatch(text):
        return float(text)
    match = _DURATION.fullmatch(text.replace(" ", ""))
    if not match or not any(match.groups()):
        raise ValueError("must be a duration such as 60, 60s, 1m30s or 500ms")
    hours, minutes, seconds, thousandths = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def whole(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError("must be a whole number")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1; ``true`` is 1 and ``false`` 0."""
    if text.lower() in ("true", "yes", "on", "false", "no", "off"):
        return float(boolean(text))
    if not _NUMBER.fullmatch(text) or not 0 <= float(text) <= 1:
        raise ValueError("must be a number from 0 to 1, or true or false")
    return float(text)


def models(text: str) -> tuple[str, ...]:
    """Model ids between commas."""
    return checked_models([part.strip() for part in text.split(",") if part.strip()])


def strategy_name(text: str) -> str:
    if text.lower() not in STRATEGIES:
        raise ValueError(f"is not a known strategy (known: {', '.join(STRATEGIES)})")
    return text.lower()


def off(text: str) -> bool:
    """A switch for something that this version does not have."""
    if boolean(text):
        raise ValueError("is not available in this version")
    return False


def memory(text: str) -> str:
    if text != "memory":
        raise ValueError("is not a store of this version (known: memory)")
    return text


def header(text: str) -> str:
    return checked_header_value(text, "header")


@attrs.frozen
class Variable:
    """A row of the table."""

    name: str
    """Without the gateway's prefix where ``prefixed``."""
    parse: Callable[[str], Any]
    default: str
    explanation: str
    example: str
    prefixed: bool = True


VARIABLES: tuple[Variable, ...] = (
    Variable(
        "API_KEY", str, "none", "The API key. Needed, except in dev mode and for servers on this machine.", "sk-or-v1-…"
    ),
    Variable(
        "BASE_URL",
        checked_url,
        "the gateway's own",
        "Where the API is; https unless on this machine.",
        "https://openrouter.ai/api/v1",
    ),
    Variable(
        "DEFAULT_MODEL",
        checked_model,
        "none",
        "The model asked when a call names none, and after the one it names.",
        "openai/gpt-4o",
    ),
    Variable(
        "FALLBACK_MODELS",
        models,
        "none",
        "Models asked when the others fail, in order, between commas.",
        "anthropic/claude-sonnet-4.5,google/gemini-2.5-flash",
    ),
    Variable("ENABLED", boolean, "true", "`false`: making a client is an error. A switch for operators.", "true"),
    Variable(
        "TIMEOUT",
        duration,
        "120s, streams 600s",
        "The deadline of a whole call, all attempts and waits included.",
        "60s",
    ),
    Variable("MAX_RETRIES", whole, "3", "Attempts after the first, over all models of a call; 9 at most.", "3"),
    Variable("RETRY_ATTEMPTS", whole, "3", "Another name of `MAX_RETRIES`.", "3"),
    Variable(
        "RETRY_BACKOFF_BASE",
        duration,
        "0.5s",
        "The first wait before the same model is asked again; it doubles.",
        "0.5s",
    ),
    Variable("RETRY_BACKOFF_MAX", duration, "8s", "The longest such wait.", "8s"),
    Variable("RETRY_JITTER", share, "1", "Which share of a wait is random, from 0 to 1; `true` is 1.", "1"),
    Variable("ROUTE_STRATEGY", strategy_name, "priority", "How models are ordered. Known: `priority`.", "priority"),
    Variable(
        "FALLBACK_STRATEGY", strategy_name, "priority", "The same after a first failure. Known: `priority`.", "priority"
    ),
    Variable("COST_OPTIMIZED", off, "false", "Reserved; only `false` is accepted in this version.", "false"),
    Variable("PERFORMANCE_CACHE", off, "false", "Reserved; only `false` is accepted in this version.", "false"),
    Variable(
        "HTTP_REFERER",
        header,
        "none",
        "Your application's URL, which the gateway shows in its rankings.",
        "https://example.com",
    ),
    Variable("X_OPEN_ROUTER_TITLE", header, "none", "Your application's name, likewise.", "Example"),
    Variable(
        "DEV_MODE",
        boolean,
        "false",
        "Answers are made up: no key, no network, no cost. Refused in production.",
        "false",
        prefixed=False,
    ),
    Variable(
        "ROUTERKIT_STORE", memory, "memory", "Where shared state lives. Known: `memory`.", "memory", prefixed=False
    ),
    Variable("ROUTERKIT_ENV", str, "none", "`production` forbids dev mode.", "production", prefixed=False),
)

_BY_NAME = {variable.name: variable for variable in VARIABLES}


class Environment:
    """Reads variables for one gateway. ``values`` is a mapping such as ``os.environ``."""

    def __init__(self, values: Mapping[str, str], gateway: str) -> None:
        self._values = values
        self.prefixes = PREFIXES.get(gateway, ())

    def find(self, name: str) -> tuple[str, str] | None:
        """The full name and the text of a variable, if it is set to something."""
        names = [prefix + name for prefix in self.prefixes] if _BY_NAME[name].prefixed else [name]
        for full in names:
            text = self._values.get(full, "").strip()
            if text:
                return full, text
        return None

    def get(self, name: str) -> Any:
        """The value of a variable, ``None`` when it is not set."""
        found = self.find(name)
        if found is None:
            return None
        full, text = found
        try:
            return _BY_NAME[name].parse(text)
        except ConfigurationError as error:
            raise ConfigurationError(f"{full}: {str(error).partition(': ')[2] or error}") from None
        except InvalidRequestError as error:
            raise ConfigurationError(f"{full}: {error}") from None
        except ValueError as error:
            raise ConfigurationError(f"{full}={text!r}: {error}") from None


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
    chosen, environment = _gateway(values, gateway, base_url)
    if environment.get("ENABLED") is False:
        raise ConfigurationError(f"{environment.prefixes[0]}ENABLED is false: {chosen.label} is not to be used here")
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
        local = is_loopback(gateway.base_url.split("/")[2].rsplit(":", 1)[0].strip("[]"))
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


def from_file(path: str | os.PathLike[str]) -> dict[str, str]:
    """The variables of a ``.env`` file, read with python-dotenv as they stand (``${…}`` is not filled in)."""
    try:
        from dotenv import dotenv_values
    except ModuleNotFoundError:
        raise ConfigurationError("env_file= needs python-dotenv: pip install 'routerkit[cli]'") from None
    if not os.path.isfile(path):
        raise ConfigurationError(f"env_file={os.fspath(path)!r}: no such file")
    return {name: value for name, value in dotenv_values(path, interpolate=False).items() if value is not None}
