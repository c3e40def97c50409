"""The environment: one table, ``VARIABLES``, names every variable; the documentation is made from it.

A variable that is set to nothing counts as not set. What cannot be read is a ConfigurationError that names the variable, and
never repeats a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import attrs

from routerkit.core.strategies import STRATEGIES, name_of, strategy_of
from routerkit.errors import ConfigurationError, InvalidRequestError
from routerkit.types.gateway import checked_url
from routerkit.types.limits import PERIODS, Budget, Limits
from routerkit.types.policy import MAX_ATTEMPTS, RetryPolicy, Timeouts
from routerkit.types.request import checked_header_value, checked_model, checked_models
from routerkit.types.secret import RedactedStr, is_like_a_key, shown
from routerkit.types.store import checked_namespace, checked_store_url, checked_workers

PREFIXES: dict[str, tuple[str, ...]] = {
    "openrouter": ("OPENROUTER_",),
    "infron": ("INFRON_", "ONEROUTER_"),
    "onerouter": ("ONEROUTER_", "INFRON_"),
}
"""Which variables serve a gateway, the first that is set first. OneRouter is Infron AI's former name: both serve both."""

ALL_PREFIXES = tuple(dict.fromkeys(prefix for several in PREFIXES.values() for prefix in several))

MEMORY = "memory"
"""The store that is none: each process counts for itself."""

_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_DURATION = re.compile("".join(f"(?:({_NUMBER.pattern}) *{unit} *)?" for unit in ("h", "m", "s", "ms")))
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
    match = _DURATION.fullmatch(text)
    if not match or not any(match.groups()):
        raise ValueError("must be a duration such as 60, 60s, 1m30s or 500ms")
    hours, minutes, seconds, thousandths = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def deadline(text: str) -> Timeouts:
    """The deadline of calls, as a duration."""
    return Timeouts.of(duration(text))


def backoff(text: str) -> float:
    """Seconds that a retry policy may wait."""
    seconds = duration(text)
    return RetryPolicy(backoff_base=seconds, backoff_max=seconds).backoff_base


def whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("must be a whole number")
    return int(text)


def retries(text: str) -> int:
    """Attempts of a call after its first."""
    number = whole(text)
    if number >= MAX_ATTEMPTS:
        raise ValueError(f"must be a whole number from 0 to {MAX_ATTEMPTS - 1}")
    return number


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
    """The name of a strategy, however it is spelt."""
    try:
        return name_of(strategy_of(text))
    except ValueError:  # its message repeats the text
        raise ValueError(f"is not a known strategy (known: {', '.join(STRATEGIES)})") from None


def count(text: str) -> int:
    """A limit of a tenant."""
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) == 0:
        raise ValueError("must be a whole number from 1 on")
    return int(text)


def queue_size(text: str) -> int:
    return Limits(concurrency=1, queue_size=whole(text)).queue_size


def queue_timeout(text: str) -> float | None:
    return Limits(concurrency=1, queue_timeout=duration(text)).queue_timeout


def budget(text: str) -> Budget:
    """US dollars a day, or with ``/day``, ``/month`` or ``/total`` for as long."""
    usd, slash, per = (part.strip() for part in text.partition("/"))
    if not _NUMBER.fullmatch(usd) or (slash and per.lower() not in PERIODS):
        raise ValueError("must be US dollars such as 5, 2.50/day, 100/month or 20/total")
    return Budget(usd, per.lower() or "day")  # type: ignore[arg-type]  # it was looked at


def store_url(text: str) -> str:
    """``memory``, or the URL of a shared store, hidden."""
    return text if text == MEMORY else checked_store_url(text, "store", f"{MEMORY}, or ")


def workers(text: str) -> int:
    return checked_workers(whole(text))


def usd(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError("must be US dollars such as 1 or 0.50")
    return Decimal(text)


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
        "API_KEYS",
        str,
        "none",
        "Several keys between commas; each attempt takes the one with the least to do.",
        "sk-or-v1-…,sk-or-v1-…",
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
    Variable(
        "CATALOG_FALLBACK",
        boolean,
        "true",
        "`false`: no model is ever asked that nobody named; else the catalogue's follow when the others have failed.",
        "true",
    ),
    Variable(
        "ENABLED",
        boolean,
        "true",
        "`false`: the gateway is not used; an error where there is no other. A switch for operators.",
        "true",
    ),
    Variable(
        "TIMEOUT",
        deadline,
        "120s, streams 600s",
        "The deadline of a whole call, all attempts and waits included.",
        "60s",
    ),
    Variable("MAX_RETRIES", retries, "3", "Attempts after the first, over all models of a call; 9 at most.", "3"),
    Variable("RETRY_ATTEMPTS", retries, "3", "Another name of `MAX_RETRIES`.", "3"),
    Variable(
        "RETRY_BACKOFF_BASE",
        backoff,
        "0.5s",
        "The first wait before the same model is asked again; it doubles.",
        "0.5s",
    ),
    Variable("RETRY_BACKOFF_MAX", backoff, "8s", "The longest such wait.", "8s"),
    Variable("RETRY_JITTER", share, "1", "Which share of a wait is random, from 0 to 1; `true` is 1.", "1"),
    Variable(
        "ROUTE_STRATEGY",
        strategy_name,
        "priority",
        f"How models are ordered: {', '.join(f'`{name}`' for name in STRATEGIES)}; `basic` is `round_robin`.",
        "cost_optimized",
    ),
    Variable("FALLBACK_STRATEGY", strategy_name, "none", "The same for what comes after a first failure.", "priority"),
    Variable("COST_OPTIMIZED", boolean, "false", "`true` is `ROUTE_STRATEGY=cost_optimized`.", "false"),
    Variable(
        "PERFORMANCE_CACHE",
        boolean,
        "false",
        "Whether performance scores are kept in the user's cache folder, so that a new process begins with them.",
        "false",
    ),
    Variable(
        "BUDGET",
        budget,
        "none",
        "What the client may spend, all tenants together: US dollars a day, or `/day`, `/month`, `/total`.",
        "100/month",
    ),
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
        "ROUTERKIT_STORE",
        store_url,
        MEMORY,
        "Where limits and budgets are counted: `memory`, for each process by itself, or the URL of a Redis or Valkey.",
        "redis://localhost:6379/0",
        prefixed=False,
    ),
    Variable(
        "ROUTERKIT_STORE_NAMESPACE",
        checked_namespace,
        "routerkit",
        "Those who share it, and the store, share their limits.",
        "billing-production",
        prefixed=False,
    ),
    Variable(
        "ROUTERKIT_STORE_WORKERS",
        workers,
        "1",
        "How many processes share the store: each has that part of the limits while the store is lost.",
        "4",
        prefixed=False,
    ),
    Variable(
        "ROUTERKIT_STORE_OFFLINE_ALLOWANCE",
        usd,
        "1",
        "US dollars that each process may spend of any one budget while the store is lost.",
        "0.50",
        prefixed=False,
    ),
    Variable("ROUTERKIT_ENV", str, "none", "`production` forbids dev mode.", "production", prefixed=False),
)

TENANT_VARIABLES: tuple[Variable, ...] = (
    Variable("API_KEY", str, "none", "The tenant's key. Needed where the gateway needs one.", "sk-or-v1-…"),
    Variable("API_KEYS", str, "none", "Several, between commas.", "sk-or-v1-…,sk-or-v1-…"),
    Variable("DEFAULT_MODEL", checked_model, "the client's", "The tenant's default model.", "openai/gpt-4o-mini"),
    Variable(
        "FALLBACK_MODELS", models, "the client's", "The tenant's fallback models, between commas.", "openai/gpt-4o"
    ),
    Variable("REQUESTS_PER_MINUTE", count, "none", "Calls of the tenant a minute.", "60"),
    Variable("TOKENS_PER_MINUTE", count, "none", "Tokens of its prompts and answers a minute.", "200000"),
    Variable("REQUESTS_PER_DAY", count, "none", "Calls a day, which begins at midnight UTC.", "5000"),
    Variable("CONCURRENCY", count, "none", "Calls under way at the same time.", "8"),
    Variable("QUEUE_SIZE", queue_size, "0", "How many more may wait their turn; any others are refused.", "20"),
    Variable("QUEUE_TIMEOUT", queue_timeout, "its deadline", "How long a call waits at most.", "10s"),
    Variable(
        "BUDGET", budget, "none", "What the tenant may spend: US dollars a day, or `/day`, `/month`, `/total`.", "5/day"
    ),
)
"""What follows ``OPENROUTER_TENANT_<NAME>_``."""

_BY_NAME = {variable.name: variable for variable in VARIABLES}

_A_KEY = re.compile(rf"(?:{'|'.join(ALL_PREFIXES)})(?:TENANT_.+_)?API_KEYS?", re.DOTALL)


def keys_in(values: Mapping[str, str], prefixes: tuple[str, ...]) -> Iterator[str]:
    """The names of variables with one of these prefixes in which keys stand; no others are looked at."""
    return (name for name in values if name.startswith(prefixes) and _A_KEY.fullmatch(name) and values[name].strip())


class Variables(Mapping[str, str]):
    """An environment whose ``repr``, and so no traceback, shows a value.

    Error trackers go through mappings, so each value is hidden too: keys stand in wrong variables, and others' passwords in theirs.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values: Mapping[str, str] = values

    def __getitem__(self, name: str) -> str:
        return RedactedStr(self._values[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Variables({len(self)} of them)"


def hidden(value: Any) -> Any:
    """The same value with every text in it hidden from whoever looks at frames."""
    if isinstance(value, str):
        return RedactedStr(value)
    if isinstance(value, Mapping):
        return {hidden(name): hidden(each) for name, each in value.items()}
    return type(value)(map(hidden, value)) if type(value) in (list, tuple) else value


class Environment:
    """Reads variables for one gateway. ``values`` is a mapping such as ``os.environ``."""

    def __init__(self, values: Mapping[str, str], gateway: str) -> None:
        self.values = values
        self.prefixes = PREFIXES.get(gateway, ())

    def find(self, name: str) -> tuple[str, str] | None:
        """The full name and the text of a variable, if it is set to something."""
        names = [prefix + name for prefix in self.prefixes] if _BY_NAME[name].prefixed else [name]
        for full in names:
            text = self.values.get(full, "").strip()
            if text:
                return full, hidden(text) if "KEY" in full else text
        return None

    def get(self, name: str) -> Any:
        """The value of a variable, ``None`` when it is not set."""
        found = self.find(name)
        if found is None:
            return None
        given = [found]
        del found
        return parsed(_BY_NAME[name], given)


def parsed(variable: Variable, given: list[tuple[str, str]]) -> Any:
    """The value of a variable, given its full name and text, which are taken out of the list. Raises ConfigurationError, which
    names the variable."""
    full, text = given.pop()
    try:
        value = variable.parse(text)
        if "KEY" not in variable.name and any(is_like_a_key(part) for part in re.split(r"[\s,;]+", text)):
            del value
            raise ValueError("holds what looks like a key: it would be sent, and shown")
        return value
    except ConfigurationError as error:  # which begins with the name of an argument
        told = f": {str(error).partition(': ')[2] or error}"
    except InvalidRequestError as error:
        told = f": {error}"
    except ValueError as error:
        repeated = "…" if "@" in text else shown(text)
        told = f": {error}" if repeated == "…" else f"={repeated}: {error}"
    # Raised here, and without the text: it may be a key, or a URL with a password, that went into the wrong variable.
    text = ""
    raise ConfigurationError(f"{full}{told}")
