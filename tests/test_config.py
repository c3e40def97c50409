"""Settings from arguments, environment and .env files: each variable good and bad, who wins, and what is refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit import AsyncClient, Client, ConfigurationError, variable_names
from routerkit.cli.options import Shared
from routerkit.config import changed, settings_from
from routerkit.core.strategies import STRATEGIES
from routerkit.env_file import from_file, with_file
from routerkit.environment import VARIABLES, duration
from routerkit.gateways import INFRON, KNOWN, ONEROUTER, OPENROUTER, at, known
from routerkit.types.gateway import Gateway
from routerkit.types.limits import Budget
from routerkit.types.policy import BreakerPolicy, RetryPolicy, Timeouts
from routerkit.types.settings import DevMode, Settings
from routerkit.types.store import SharedStore

KEY, OTHER_KEY = "sk-test-1234567890", "sk-test-0987654321"
LONG_KEY = "sk-or-v1-" + "0123456789abcdef" * 4
BASE = {"OPENROUTER_API_KEY": KEY}
HERE = "http://127.0.0.1:9/v1"
ONEROUTERS = ("onerouter", [OTHER_KEY], None)
NOT_CONFIGURED = "OpenRouter API key not configured: set OPENROUTER_API_KEY or pass api_key="


def read(values: dict[str, str] | None = None, **arguments: Any) -> Settings:
    """The settings from an environment that has a key."""
    return settings_from({**BASE, **(values or {})}, **arguments)


def refused(values: dict[str, str] | None = None, **arguments: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(values, **arguments)
    assert KEY not in str(caught.value)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*os.environ,):
        if name.startswith(("OPENROUTER_", "ONEROUTER_", "INFRON_", "ROUTERKIT_", "DEV_MODE")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(variable_names, "_seen", set())


# --- each variable ---

GOOD: dict[str, tuple[Callable[[Settings], Any], dict[str, Any]]] = {
    "API_KEY": (lambda it: it.api_key and it.api_key.reveal(), {OTHER_KEY: OTHER_KEY, f"  {OTHER_KEY}\n": OTHER_KEY}),
    "API_KEYS": (
        lambda it: [key.reveal() for key in it.keys["openrouter"]],
        {OTHER_KEY: [KEY, OTHER_KEY], f" {OTHER_KEY} ,{KEY},": [KEY, OTHER_KEY], "": [KEY]},
    ),
    "BASE_URL": (
        lambda it: it.gateway.base_url,
        {"https://proxy.example/v1/": "https://proxy.example/v1", "http://localhost:9/v1": "http://localhost:9/v1"},
    ),
    "DEFAULT_MODEL": (lambda it: it.default_model, {"openai/gpt-4o": "openai/gpt-4o", " x ": "x", "": None}),
    "FALLBACK_MODELS": (
        lambda it: it.fallback_models,
        {"a/one": ("a/one",), " a/one, b/two ,,": ("a/one", "b/two"), ",": (), "": ()},
    ),
    "CATALOG_FALLBACK": (
        lambda it: it.catalog_fallback,
        {"false": False, "off": False, "": True, "true": True},
    ),
    "ENABLED": (lambda it: True, {"true": True, "1": True, "Yes": True, "ON": True}),
    "TIMEOUT": (
        lambda it: (it.timeouts.total, it.timeouts.stream_total),
        {"60": (60, 60), "60s": (60, 60), "1m30s": (90, 90), "500ms": (0.5, 0.5), "1h": (3600, 3600), "": (120, 600)},
    ),
    "MAX_RETRIES": (lambda it: it.retry.max_attempts, {"0": 1, "3": 4, "9": 10, "": 4}),
    "RETRY_ATTEMPTS": (lambda it: it.retry.max_attempts, {"0": 1, "2": 3}),
    "RETRY_BACKOFF_BASE": (lambda it: it.retry.backoff_base, {"0": 0, "0.25": 0.25, "250ms": 0.25, "2s": 2}),
    "RETRY_BACKOFF_MAX": (lambda it: it.retry.backoff_max, {"8s": 8, "1m": 60}),
    "RETRY_JITTER": (lambda it: it.retry.jitter, {"true": 1, "false": 0, "0.5": 0.5, "1": 1, "0": 0, "off": 0}),
    "ROUTE_STRATEGY": (
        lambda it: it.strategy,
        {
            "priority": "priority",
            "PRIORITY": "priority",
            "basic": "round_robin",
            **{name: name for name in STRATEGIES},
        },
    ),
    "FALLBACK_STRATEGY": (
        lambda it: it.fallback_strategy,
        {"priority": "priority", "Cost_Optimized": "cost_optimized", "": None},
    ),
    "COST_OPTIMIZED": (
        lambda it: it.strategy,
        {"false": "priority", "0": "priority", "": "priority", "true": "cost_optimized"},
    ),
    "PERFORMANCE_CACHE": (lambda it: it.performance_cache, {"false": False, "no": False, "": False, "true": True}),
    "BUDGET": (
        lambda it: it.budget,
        {
            "5": Budget(5),
            "2.50/day": Budget("2.50"),
            "100 / month": Budget(100, "month"),
            "20/Total": Budget(20, "total"),
            "0": Budget(0),
            "": None,
        },
    ),
    "HTTP_REFERER": (lambda it: it.app_url, {"https://example.com": "https://example.com", "": None}),
    "X_OPEN_ROUTER_TITLE": (lambda it: it.app_title, {"My app": "My app"}),
    "DEV_MODE": (lambda it: it.dev_mode, {"true": DevMode(), "on": DevMode(), "false": None, "0": None, "": None}),
    "ROUTERKIT_STORE": (
        lambda it: it.store and it.store.reveal(),
        {
            "memory": None,
            "": None,
            **{url: url for url in ("redis://localhost", "rediss://:pass@h:1/2", "unix:///run/redis.sock?db=1")},
            " redis+cluster://a:1,b:2 ": "redis+cluster://a:1,b:2",
        },
    ),
    "ROUTERKIT_STORE_NAMESPACE": (lambda it: it.store.namespace, {"billing": "billing", "": "routerkit", "ä b": "ä b"}),
    "ROUTERKIT_STORE_WORKERS": (lambda it: it.store.workers, {"4": 4, "1000000": 10**6, "": 1}),
    "ROUTERKIT_STORE_OFFLINE_ALLOWANCE": (
        lambda it: it.store.offline_allowance,
        {"0": Decimal(0), "0.50": Decimal("0.50"), "": Decimal(1)},
    ),
    "ROUTERKIT_ENV": (lambda it: True, {"production": True, "staging": True}),
}
BAD = {
    "API_KEY": ["short", "x" * 513, "sk-test 1234567890", "sk-tést-1234567890"],
    "API_KEYS": ["short", f"{KEY},short", "sk-tést-1234567890"],
    "BASE_URL": ["http://example.com", "example.com/v1", "https://u:p@example.com", "https://example.com?x=1"],
    "DEFAULT_MODEL": ["a b", "../x", '"'],
    "FALLBACK_MODELS": ["a/one, b two", "a/one,../x"],
    "CATALOG_FALLBACK": ["never", "none"],
    "ENABLED": ["maybe", "2", "truee", "t"],
    "TIMEOUT": [
        "0",
        "0s",
        "-1",
        "1e3",
        "inf",
        "nan",
        "1 day",
        "60 seconds",
        "s",
        "1s1m",
        "٦٠",
        "90000",
        "1_000",
        "1.",
        ".5",
    ],
    "MAX_RETRIES": ["-1", "10", "1.5", "three", "٣"],
    "RETRY_ATTEMPTS": ["-1", "10", "many"],
    "RETRY_BACKOFF_BASE": ["-1", "2h", "soon"],
    "RETRY_BACKOFF_MAX": ["-1", "2h"],
    "RETRY_JITTER": ["1.1", "-0.5", "some", "nan"],
    "ROUTE_STRATEGY": ["cheapest"],
    "FALLBACK_STRATEGY": ["random"],
    "COST_OPTIMIZED": ["perhaps", "2"],
    "PERFORMANCE_CACHE": ["perhaps", "/tmp"],
    "BUDGET": ["-1", "$5", "5/week", "5 USD", "1e3", "/day", "5/", "5/day/month", "nan", "٥", "1,5", "9" * 99],
    "HTTP_REFERER": ["https://exämple.com", "a\r\nb: c", "x" * 1025, LONG_KEY],
    "X_OPEN_ROUTER_TITLE": ["Zürich", "a\nb", f"ours, {LONG_KEY}"],
    "DEV_MODE": ["maybe", "2", "production"],
    "ROUTERKIT_STORE": ["disk", "Memory", "localhost:6379", "http://localhost", "REDIS://h", "redis://", "redis://a b"],
    "ROUTERKIT_STORE_NAMESPACE": ["x" * 201, "a\nb", "redis://localhost"],
    "ROUTERKIT_STORE_WORKERS": ["0", "-1", "1.5", "four", "1000001"],
    "ROUTERKIT_STORE_OFFLINE_ALLOWANCE": ["-1", "$1", "1 USD", "inf", "1e3"],
}
STORE = {"ROUTERKIT_STORE": "redis://localhost"}
"""What the variables that say more of a store need."""

PREFIXED = {variable.name: variable.prefixed for variable in VARIABLES}


def full(name: str, prefix: str = "OPENROUTER_") -> str:
    return prefix + name if PREFIXED[name] else name


def needed(name: str) -> dict[str, str]:
    return STORE if name.startswith("ROUTERKIT_STORE_") else {}


def test_the_tables_cover_every_variable() -> None:
    assert [variable.name for variable in VARIABLES] == list(GOOD)
    assert BAD.keys() == GOOD.keys() - {"ROUTERKIT_ENV"}
    assert all(variable.explanation and variable.example and variable.default for variable in VARIABLES)


@pytest.mark.parametrize("name", GOOD)
def test_good_values(name: str) -> None:
    look, values = GOOD[name]
    for text, expected in values.items():
        assert look(read({**needed(name), full(name): text})) == expected, text


@pytest.mark.parametrize("name", GOOD)
def test_examples_are_good(name: str) -> None:
    example = next(variable.example for variable in VARIABLES if variable.name == name)
    read({**needed(name), full(name): OTHER_KEY if "API_KEY" in name else example})


@pytest.mark.parametrize("name", BAD)
def test_bad_values_name_their_variable(name: str) -> None:
    for text in BAD[name]:
        told = refused({**needed(name), full(name): text})
        assert told.startswith((f"{full(name)}: ", f"{full(name)}=", f"{full(name)}[")), told
        assert "API_KEY" not in name or text not in told


@pytest.mark.parametrize("name", BAD)
def test_a_key_in_the_wrong_variable_is_refused_and_not_shown(name: str) -> None:
    """Where any text would do, too: it would be sent as a title, and shown in rankings."""
    for text in (LONG_KEY, f"{LONG_KEY} x", f"a/one,{LONG_KEY}"):
        if "API_KEY" not in name or " " in text:
            assert LONG_KEY[:12] not in refused({**needed(name), full(name): text})


@pytest.mark.parametrize("name", sorted(BAD.keys() - {"API_KEY", "API_KEYS", "BASE_URL"}))
def test_what_the_table_calls_the_default_is_what_holds_without_the_variable(name: str) -> None:
    told = next(variable.default for variable in VARIABLES if variable.name == name)
    values = {"none": "", "120s, streams 600s": ""}
    assert read({**needed(name), full(name): values.get(told, told)}) == read(needed(name))


def test_a_variable_that_is_set_to_nothing_is_not_set() -> None:
    blank = {full(name): "  " for name in GOOD if name != "API_KEY"}
    assert read(blank) == read()


def test_unknown_variables_are_none_of_our_business(caplog: pytest.LogCaptureFixture) -> None:
    foreign = {"OPENROUTER_COLOUR": "red", "OPENROUTER_MODEL": "a/one", "TIMEOUT": "banana", "MAX_RETRIES": "x"}
    assert read({**foreign, "OPENROUTER_API_BASE": "https://x.example", "OPENROUTER_TIMOUT": " "}) == read()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("OPENROUTER_FALLBACK_MODEL", ": did you mean OPENROUTER_FALLBACK_MODELS?"),
        ("INFRON_HTTP_REFERRER", ": did you mean INFRON_HTTP_REFERER?"),
        ("OPEN_ROUTER_APIKEY", ": did you mean OPENROUTER_API_KEY?"),
        ("openrouter_timeout", ": did you mean OPENROUTER_TIMEOUT?"),
        ("OPENROUTER_TENANTS_ACME_API_KEY", ": did you mean OPENROUTER_TENANT_<NAME>_…?"),
        ("ROUTERKIT_NAMESPACE", ""),
    ],
)
def test_a_misspelt_variable_is_logged_without_its_value(
    name: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    read({name: LONG_KEY})
    (record,) = caplog.records
    assert record.getMessage() == f"{name} is set, and routerkit knows no such variable{hint}"


def test_a_misspelt_variable_is_told_once_however_many_clients_there_are(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        read({"OPENROUTER_TIMOUT": "5", "OPENROUTER_MODEL": "a/one"})
    assert len(caplog.records) == 1


def test_a_misspelt_key_is_told_before_it_is_missed(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError, match="API key not configured"):
        settings_from({"OPENROUTER_APIKEY": KEY})
    assert "did you mean OPENROUTER_API_KEY?" in caplog.text


# --- durations ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        ("0.5", 0.5),
        ("60s", 60),
        ("1m30s", 90),
        ("1m 30s", 90),
        ("60 s", 60),
        ("1h2m3s4ms", 3723.004),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("2m", 120),
        ("0", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", " ", "s", "ms", "m1", "1d", "1s2m", "-5", "+5", "1e3", "1:30", "1,5", "٣", "5 0x", "1 30s", "1 0s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        duration(text)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 999))
def test_durations_add_up(hours: int, minutes: int, seconds: int, thousandths: int) -> None:
    expected = hours * 3600 + minutes * 60 + seconds + thousandths / 1000
    assert duration(f"{hours}h{minutes}m{seconds}s{thousandths}ms") == pytest.approx(expected)


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert 0 <= duration(text) < 10**13
    except ValueError:
        pass


# --- who wins ---


def test_arguments_win_over_the_environment() -> None:
    environment = {
        "OPENROUTER_BASE_URL": "https://env.example",
        "OPENROUTER_DEFAULT_MODEL": "env/model",
        "OPENROUTER_FALLBACK_MODELS": "env/fallback",
        "OPENROUTER_TIMEOUT": "5",
        "OPENROUTER_MAX_RETRIES": "1",
        "OPENROUTER_HTTP_REFERER": "https://env.example",
        "OPENROUTER_X_OPEN_ROUTER_TITLE": "Env",
        "DEV_MODE": "true",
    }
    arguments = {
        "api_key": OTHER_KEY,
        "gateway": "openrouter",
        "base_url": "https://arg.example",
        "default_model": "arg/model",
        "fallback_models": ["arg/fallback"],
        "timeout": Timeouts(connect=1),
        "retry": RetryPolicy(max_attempts=7),
        "breaker": BreakerPolicy(window=7),
        "catalog_ttl": 60,
        "dev_mode": False,
        "app_url": "https://arg.example",
        "app_title": "Arg",
    }
    from_environment, from_both = read(environment), read(environment, **arguments)
    assert from_environment.default_model == "env/model"
    assert from_environment.dev_mode == DevMode()
    assert from_both.api_key is not None
    assert from_both.api_key.reveal() == OTHER_KEY
    assert from_both.gateway.base_url == "https://arg.example"
    assert (from_both.default_model, from_both.fallback_models) == ("arg/model", ("arg/fallback",))
    assert (from_both.timeouts, from_both.retry, from_both.breaker.window) == (Timeouts(connect=1), RetryPolicy(7), 7)
    assert (from_both.catalog_ttl, from_both.dev_mode) == (60, None)
    assert (from_both.app_url, from_both.app_title) == ("https://arg.example", "Arg")


def test_an_argument_spares_its_variable_from_being_read() -> None:
    broken = {
        "OPENROUTER_TIMEOUT": "x",
        "OPENROUTER_DEFAULT_MODEL": " a b",
        "OPENROUTER_MAX_RETRIES": "x",
        "DEV_MODE": "x",
    }
    read(broken, timeout=5, default_model="a/one", retry=RetryPolicy(), dev_mode=False)


SPARED: dict[str, dict[str, Any]] = {
    "API_KEY": {"api_key": OTHER_KEY},
    "API_KEYS": {"api_key": OTHER_KEY},
    "BASE_URL": {"gateway": "openrouter", "base_url": "https://proxy.example/v1"},
    "DEFAULT_MODEL": {"default_model": "a/one"},
    "FALLBACK_MODELS": {"fallback_models": []},
    "CATALOG_FALLBACK": {"catalog_fallback": False},
    "TIMEOUT": {"timeout": 5},
    "MAX_RETRIES": {"retry": RetryPolicy()},
    "RETRY_ATTEMPTS": {"retry": RetryPolicy()},
    "RETRY_BACKOFF_BASE": {"retry": RetryPolicy()},
    "RETRY_BACKOFF_MAX": {"retry": RetryPolicy()},
    "RETRY_JITTER": {"retry": RetryPolicy()},
    "ROUTE_STRATEGY": {"strategy": "weighted"},
    "COST_OPTIMIZED": {"strategy": "weighted"},
    "FALLBACK_STRATEGY": {"fallback_strategy": "priority"},
    "PERFORMANCE_CACHE": {"performance_cache": False},
    "BUDGET": {"budget": Budget(1)},
    "HTTP_REFERER": {"app_url": "https://example.com"},
    "X_OPEN_ROUTER_TITLE": {"app_title": "Ours"},
    "DEV_MODE": {"dev_mode": False},
    "ROUTERKIT_STORE": {"store": "memory"},
    **{
        f"ROUTERKIT_STORE_{name}": {"store": SharedStore("redis://localhost")}
        for name in ("NAMESPACE", "WORKERS", "OFFLINE_ALLOWANCE")
    },
}
"""For each variable that an argument stands for, that argument. ``ENABLED`` is for operators, and wins over code."""


@pytest.mark.parametrize("name", sorted(BAD.keys() - {"ENABLED"}))
def test_every_argument_wins_over_its_variable(name: str) -> None:
    """Even where that cannot be read; ``None`` leaves it to the variable."""
    read({**needed(name), full(name): BAD[name][0]}, **SPARED[name])
    unsaid = {option: None for option in SPARED[name] if option != "gateway"}
    assert full(name) in refused({**needed(name), full(name): BAD[name][0]}, gateway="openrouter", **unsaid)


def test_empty_arguments_are_arguments() -> None:
    assert refused(gateway="openrouter", base_url="").startswith("base_url: must be a URL")
    assert read({"OPENROUTER_FALLBACK_MODELS": "a/one"}, fallback_models=[]).fallback_models == ()
    assert refused(api_key="").startswith("api_key: not a valid API key")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"api_key": 5}, "api_key: must be a string, not int"),
        ({"api_key": "sk test 1234567890"}, "api_key: not a valid API key"),
        ({"gateway": "nowhere"}, "gateway='nowhere' is not known (known: openrouter, infron, onerouter)"),
        ({"gateway": 5}, "gateway=5 is not known"),
        ({"base_url": "http://example.com"}, "base_url: http:// would send the key in the clear"),
        ({"default_model": "a b"}, "model='a b': not a model id"),
        ({"fallback_models": "a/one"}, "fallback_models='a/one': must be a list of model ids"),
        ({"fallback_models": ["a b"]}, "model='a b': not a model id"),
        ({"timeout": 0}, "Timeouts(total=0): must be a number above 0"),
        ({"timeout": "60s"}, "Timeouts(total='60s'): must be a number"),
        ({"retry": 3}, "retry=3: must be a RetryPolicy"),
        ({"breaker": {}}, "breaker=a dict: must be a BreakerPolicy"),
        ({"breaker": LONG_KEY}, "breaker=…: must be a BreakerPolicy"),
        ({"timeout": LONG_KEY}, "Timeouts(total=…): must be a number"),
        ({"timeout": 10**5000}, "Timeouts(total=…): must be a number"),
        ({"performance_cache": LONG_KEY}, "performance_cache=…: must be True or False"),
        ({"observers": print}, "observers: must be a list of callables"),
        ({"observers": [print, 5]}, "observers: must be a list of callables"),
        ({"aliases": {"a": {"openrouter": " b "}}}, "aliases: model=' b ': not a model id"),
        (
            {"aliases": {"a": {"tow": "b"}}},
            "aliases: 'a' has an id for 'tow', which is none of the gateways (openrouter)",
        ),
        ({"aliases": {"openrouter": {"a/one": "b"}}}, "aliases: 'openrouter' has an id for 'a/one', which is none of"),
        ({"aliases": {"a b": {}}}, "aliases: model='a b': not a model id"),
        (
            {"gateways": ["http://127.0.0.1:1/a", "http://127.0.0.1:1/b"]},
            "gateways: '127.0.0.1:1' is there twice: give one of them another name, Gateway(name=…, base_url=…)",
        ),
        ({"catalog_ttl": 0}, "catalog_ttl=0: must be a number of seconds"),
        ({"catalog_ttl": float("nan")}, "catalog_ttl=nan: must be"),
        ({"catalog_ttl": True}, "catalog_ttl=True: must be"),
        ({"strategy": "cheapest"}, "strategy='cheapest': is not a known strategy (known: priority, "),
        ({"fallback_strategy": 5}, "fallback_strategy=5: "),
        (
            {"store": "disk"},
            "store: must be memory, or a URL of printable ASCII characters without blanks that begins with",
        ),
        ({"store": 5}, "store: must be 'memory', a URL or a SharedStore, not int"),
        ({"budget": 5}, "budget: must be a Budget, such as Budget('5', per='day'), not int"),
        ({"budget": "5/day"}, "budget: must be a Budget, such as Budget('5', per='day'), not str"),
        ({"limits": 60}, "limits: must be a Limits, or a dict from scope to Limits, not int"),
        ({"app_url": "https://exämple.com"}, "app_url: must be printable ASCII"),
        ({"app_title": "a\nb"}, "app_title: must be printable ASCII"),
        ({"dev_mode": "true"}, "dev_mode='true': must be True or False"),
        ({"dev_mode": 1}, "dev_mode=1: must be True or False"),
        ({"dev_script": []}, "dev_script= needs dev_mode=True"),
        ({"dev_mode": True, "dev_pace": -1}, "dev_pace=-1: must be a number of seconds"),
        ({"dev_mode": True, "dev_script": "x"}, "dev_script: must be a list of dicts"),
        ({"dev_mode": True, "dev_script": [{"staus": 1}]}, "dev_script: 'staus' is not known (known: model, status"),
        ({"dev_mode": True, "dev_script": [5]}, "dev_script: 'int' is not known"),
        (
            {"dev_mode": True, "dev_script": [{"status": 99}]},
            "dev_script: status=99: must be a whole number of at least 100",
        ),
        ({"dev_mode": True, "dev_script": [{"network": "flaky"}]}, "dev_script: network='flaky': must be one of dns, "),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], told: str) -> None:
    assert refused(**arguments).startswith(told)


# --- the gateway ---


@pytest.mark.parametrize(
    ("environment", "gateway"),
    [
        ({}, OPENROUTER),
        ({"OPENROUTER_API_KEY": KEY}, OPENROUTER),
        ({"INFRON_API_KEY": KEY}, INFRON),
        ({"ONEROUTER_API_KEY": KEY}, ONEROUTER),
        ({"INFRON_API_KEY": KEY, "ONEROUTER_API_KEY": OTHER_KEY}, INFRON),
        ({"INFRON_API_KEY": KEY, "OPENROUTER_API_KEY": OTHER_KEY}, OPENROUTER),
        ({"INFRON_API_KEY": KEY, "OPENROUTER_API_KEY": "  "}, INFRON),
        ({"ONEROUTER_API_KEYS": KEY}, ONEROUTER),
        ({"INFRON_TENANT_ACME_API_KEY": KEY}, INFRON),
        ({"INFRON_TENANT_ACME_API_KEY": KEY, "OPENROUTER_TENANT_ACME_API_KEY": ""}, INFRON),
        ({"INFRON_API_KEY": KEY, "OPENROUTER_TENANT_ACME_API_KEY": OTHER_KEY}, OPENROUTER),
        ({"INFRON_API_KEY": KEY, "OPENROUTER_PROVISIONING_API_KEY": OTHER_KEY}, INFRON),
    ],
)
def test_the_gateway_whose_key_is_set(environment: dict[str, str], gateway: Gateway) -> None:
    assert settings_from(environment, dev_mode=True).gateway == gateway


@pytest.mark.parametrize("gateway", ["infron", "onerouter"])
@pytest.mark.parametrize("prefix", ["INFRON_", "ONEROUTER_"])
def test_both_names_of_infron_serve_both(gateway: str, prefix: str) -> None:
    settings = settings_from({f"{prefix}API_KEY": KEY, f"{prefix}DEFAULT_MODEL": "a/one"}, gateway=gateway)
    assert settings.api_key is not None
    assert settings.api_key.reveal() == KEY
    assert (settings.default_model, settings.gateway.name) == ("a/one", gateway)


@pytest.mark.parametrize(("gateway", "model"), [("infron", "in/fron"), ("onerouter", "one/router")])
def test_the_gateways_own_name_comes_first(gateway: str, model: str) -> None:
    environment = {"INFRON_API_KEY": KEY, "INFRON_DEFAULT_MODEL": "in/fron", "ONEROUTER_DEFAULT_MODEL": "one/router"}
    assert settings_from(environment, gateway=gateway).default_model == model


def test_one_gateways_variables_do_not_serve_another() -> None:
    told = "Infron AI API key not configured: set INFRON_API_KEY or pass api_key="
    assert refused({"OPENROUTER_TIMEOUT": "5"}, gateway="infron") == told
    settings = settings_from({"INFRON_API_KEY": KEY, "OPENROUTER_TIMEOUT": "5"})
    assert settings.timeouts == Timeouts()


def test_a_key_does_not_follow_to_another_server() -> None:
    settings = read(base_url="https://other.example/v1")
    assert settings.api_key is None
    assert settings.gateway == at("https://other.example/v1")
    assert settings.gateway.name == "other.example"
    own = Gateway(name="local", base_url="http://127.0.0.1:8080/v1")
    assert read(gateway=own).api_key is None
    assert read(gateway=own, api_key=KEY).api_key is not None


def test_a_known_gateways_own_address_is_that_gateway() -> None:
    """As they write it who come from OpenAI's SDK. An address in code is not replaced by that of the environment."""
    elsewhere = {"OPENROUTER_BASE_URL": "https://proxy.example/v1"}
    for arguments in ({"base_url": OPENROUTER.base_url + "/"}, {"gateways": [OPENROUTER.base_url]}):
        settings = read(elsewhere, **arguments)
        assert (settings.gateway, settings.api_key) == (OPENROUTER, read().api_key)


@pytest.mark.parametrize(
    ("environment", "url", "told"),
    [
        ({"OPENROUTER_API_KEY": KEY, "INFRON_API_KEY": OTHER_KEY}, HERE, ("openrouter", [KEY], None)),
        ({"ONEROUTER_TENANT_ACME_API_KEY": KEY, "OPENROUTER_TIMEOUT": "5"}, HERE, ("onerouter", [], None)),
        ({"INFRON_DEFAULT_MODEL": "a/one", "INFRON_BASE_URL": "https://x.example"}, HERE, ("infron", [], "a/one")),
        ({"OPENROUTER_COLOUR": "red", "OPENROUTER_DEFAULT_MODEL": " "}, HERE, ("127.0.0.1:9", [], None)),
        *(
            ({"OPENROUTER_API_KEY": KEY, "INFRON_API_KEY": OTHER_KEY}, url, ("infron", [OTHER_KEY], None))
            for url in (
                INFRON.base_url,
                "https://llm.infron.ai",
                "https://llm.infron.ai:443/v1",
                "https://eu.Infron.ai./v2",
            )
        ),
        ({"OPENROUTER_API_KEY": KEY, "ONEROUTER_API_KEY": OTHER_KEY}, "https://api.onerouter.pro/v1", ONEROUTERS),
    ],
)
@pytest.mark.parametrize("facade", [Client, AsyncClient])
def test_an_address_for_the_gateway_of_the_environment(
    facade: Any, environment: dict[str, str], url: str, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never another's key for a known gateway's own address."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = facade.from_env(base_url=url).settings
    keys = [key.reveal() for key in settings.keys.get(settings.gateway.name, ())]
    assert (settings.gateway.name, keys, settings.default_model) == told
    assert settings.gateway.base_url == url.lower()
    if url == HERE:
        others = [facade(base_url=url), facade.from_env(gateway=at(url)), facade.from_env(gateways=[url])]
        with Shared(base_url=url).client() as client:  # the command's --base-url
            for each in (*others, client):
                assert (each.settings.gateway, each.settings.keys, each.settings.tenants) == (at(url), {}, {})


@pytest.mark.parametrize("url", ["https://openrouter.ai/api", "https://eu.openrouter.ai/api/v1"])
def test_a_known_gateway_is_not_sent_anothers_key(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFRON_API_KEY", KEY)
    with pytest.raises(ConfigurationError, match=r"^OpenRouter API key not configured"):
        Client.from_env(base_url=url)


@pytest.mark.parametrize("facade", [Client, AsyncClient])
def test_an_address_that_is_none_shows_no_key(facade: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", OTHER_KEY)
    for url in ("nope", "", 5):
        with pytest.raises(ConfigurationError, match=r"^base_url: ") as caught:
            facade.from_env(base_url=url, api_key=LONG_KEY)
        ours = [repr(frame.frame.f_locals) for frame in caught.traceback if "/routerkit/" in str(frame.path)]
        assert ours
        assert not any(key in text for text in ours for key in (LONG_KEY, OTHER_KEY))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"openrouter": f"{KEY} x"}, "api_key['openrouter']: not a valid API key: it must be 1 to 512"),
        ({LONG_KEY: f"{KEY} x"}, "api_key[…]: not a valid API key: it must be 1 to 512"),
        (f"{KEY},{OTHER_KEY}", "api_key: has a comma in it: several keys are a list"),
        ([OTHER_KEY, f"{KEY},"], "api_key[1]: has a comma in it: several keys are a list"),
    ],
)
def test_which_of_several_keys_is_none_is_told(given: Any, told: str) -> None:
    assert refused(api_key=given).startswith(told)


def test_a_prefix_alone_is_no_prefixed_id() -> None:
    assert [INFRON.local_id(model) for model in ("infron/", "infron/a", "a")] == ["infron/", "a", "a"]
    assert [OPENROUTER.local_id(model) for model in ("openrouter/", "openrouter/auto")] == [
        "openrouter/",
        "openrouter/auto",
    ]


def test_a_gateway_by_name_may_be_elsewhere() -> None:
    settings = read(gateway="OpenRouter", base_url="https://proxy.example/v1")
    assert settings.api_key is not None
    assert (settings.gateway.name, settings.gateway.base_url) == ("openrouter", "https://proxy.example/v1")
    assert settings.gateway.title_header == "X-OpenRouter-Title"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/v1", "http://localhost/v1", "http://[::1]/v1", "http://[::1]:8080/v1"]
)
def test_this_machine_needs_no_key(url: str) -> None:
    assert settings_from({}, gateway="openrouter", base_url=url).api_key is None
    assert settings_from({}, base_url=url).gateway.base_url == url


def test_known_gateways() -> None:
    assert [*KNOWN] == ["openrouter", "infron", "onerouter"]
    with pytest.raises(TypeError):
        KNOWN["x"] = OPENROUTER  # type: ignore[index]
    assert known("INFRON") is INFRON
    assert OPENROUTER.chat_url == "https://openrouter.ai/api/v1/chat/completions"
    assert INFRON.chat_url == "https://llm.infron.ai/v1/chat/completions"
    assert ONEROUTER.catalog_url == "https://llm.onerouter.pro/v1/models"
    assert [gateway.insures_failures for gateway in KNOWN.values()] == [True, False, False]


def test_a_switch_for_operators() -> None:
    assert refused({"OPENROUTER_ENABLED": "false"}) == (
        "OPENROUTER_ENABLED is false: OpenRouter is not to be used here"
    )
    environment = {"INFRON_API_KEY": KEY, "ONEROUTER_ENABLED": "no"}
    assert refused(environment, gateway="infron").startswith("ONEROUTER_ENABLED is false: Infron AI")
    read({"INFRON_ENABLED": "false"})


def test_a_gateway_that_is_switched_off_takes_no_setting_with_it() -> None:
    """Whoever is asked instead is asked within the same budget and deadline."""
    environment = {"OPENROUTER_BUDGET": "5", "OPENROUTER_TIMEOUT": "7", "OPENROUTER_ENABLED": "false"}
    settings = settings_from({**environment, "INFRON_API_KEY": KEY}, gateways=["openrouter", "infron"])
    assert [gateway.name for gateway in settings.gateways] == ["infron"]
    assert (settings.budget, settings.timeouts) == (Budget(5), Timeouts(total=7))


# --- keys ---


@pytest.mark.parametrize("facade", [Client, AsyncClient])
def test_without_a_key(facade: Any) -> None:
    for make in (facade, facade.from_env, lambda: facade(gateway="openrouter")):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert str(caught.value) == NOT_CONFIGURED


def test_a_bad_key_is_not_taken_for_dev_mode() -> None:
    assert refused({"OPENROUTER_API_KEY": "todo"}).startswith("OPENROUTER_API_KEY: not a valid API key")


def test_settings_show_no_key() -> None:
    settings = read(default_model="a/one", observers=[print])
    assert settings.api_key is not None
    for shown in (repr(settings), str(settings), f"{settings}", repr(settings.headers())):
        assert KEY not in shown
    assert settings.api_key.fingerprint in repr(settings)


def test_headers_of_every_request() -> None:
    headers = read(app_url="https://example.com", app_title="Example").headers()
    assert headers.pop("User-Agent").startswith("routerkit/")
    assert headers == {"HTTP-Referer": "https://example.com", "X-OpenRouter-Title": "Example"}
    environment = {"INFRON_API_KEY": KEY}
    assert [*settings_from(environment, app_title="Example").headers()] == ["User-Agent"]


# --- retries ---


def test_both_names_of_the_number_of_retries() -> None:
    assert read({"OPENROUTER_MAX_RETRIES": "2", "OPENROUTER_RETRY_ATTEMPTS": "2"}).retry.max_attempts == 3
    told = refused({"OPENROUTER_MAX_RETRIES": "2", "OPENROUTER_RETRY_ATTEMPTS": "3"})
    assert told == "OPENROUTER_MAX_RETRIES=2 and OPENROUTER_RETRY_ATTEMPTS=3 contradict each other"


def test_which_variable_of_the_retry_policy_is_wrong_is_told_alone() -> None:
    told = refused({"OPENROUTER_MAX_RETRIES": "2", "OPENROUTER_RETRY_BACKOFF_BASE": "2h"})
    assert told == "OPENROUTER_RETRY_BACKOFF_BASE: must be a number from 0 to 3600"
    assert refused({"OPENROUTER_MAX_RETRIES": "10"}).endswith("must be a whole number from 0 to 9")


def test_the_retry_policy_of_the_environment() -> None:
    environment = {
        "OPENROUTER_RETRY_ATTEMPTS": "5",
        "OPENROUTER_RETRY_BACKOFF_BASE": "100ms",
        "OPENROUTER_RETRY_BACKOFF_MAX": "2s",
        "OPENROUTER_RETRY_JITTER": "false",
    }
    assert read(environment).retry == RetryPolicy(max_attempts=6, backoff_base=0.1, backoff_max=2, jitter=0)


# --- dev mode ---


@pytest.mark.parametrize("arguments", [{"dev_mode": True}, {}])
@pytest.mark.parametrize("name", ["production", "Production", " PRODUCTION "])
def test_production_refuses_dev_mode(name: str, arguments: dict[str, Any]) -> None:
    told = refused({"DEV_MODE": "true", "ROUTERKIT_ENV": name}, **arguments)
    assert told.startswith("dev mode is on (DEV_MODE or dev_mode=) while ROUTERKIT_ENV=production")


def test_production_without_dev_mode() -> None:
    assert read({"ROUTERKIT_ENV": "production"}).dev_mode is None
    assert read({"ROUTERKIT_ENV": "production", "DEV_MODE": "true"}, dev_mode=False).dev_mode is None


def test_dev_mode_needs_no_key() -> None:
    settings = settings_from({}, dev_mode=True, dev_script=[{"status": 503}], dev_pace=0.5)
    assert settings.api_key is None
    assert settings.dev_mode is not None
    assert (settings.dev_mode.script[0].status, settings.dev_mode.pace) == (503, 0.5)
    assert settings_from({"DEV_MODE": "yes"}).dev_mode == DevMode()


# --- .env files ---


def env_file(folder: Path, content: bytes | str) -> Path:
    path = folder / "settings.env"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_file_is_read_when_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = env_file(
        tmp_path, f"# ours\nexport OPENROUTER_API_KEY='{KEY}'\nOPENROUTER_DEFAULT_MODEL=file/model\nEMPTY\n"
    )
    client = Client.from_env(path)
    assert client.settings.default_model == "file/model"
    monkeypatch.setenv("OPENROUTER_DEFAULT_MODEL", "env/model")
    assert Client.from_env(path).settings.default_model == "env/model"
    assert Client.from_env(str(path), default_model="arg/model").settings.default_model == "arg/model"
    assert "OPENROUTER_API_KEY" not in os.environ, "a file changes nothing but the client"


def test_no_file_is_read_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f"OPENROUTER_API_KEY={KEY}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="API key not configured"):
        Client.from_env()
    assert Client.from_env(".env").settings.api_key is not None


def test_a_file_is_taken_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME_SECRET", "leaked")
    path = env_file(tmp_path, "A=${HOME_SECRET}\nB='${HOME_SECRET}'\nC=x\n".encode("utf-8-sig"))
    assert from_file(path) == {"A": "${HOME_SECRET}", "B": "${HOME_SECRET}", "C": "x"}


@pytest.mark.parametrize(
    ("content", "told"), [(None, "no such file"), (b"\xff\xfeA\x00", "cannot be read: it is no text in UTF-8")]
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "none.env" if content is None else env_file(tmp_path, content)
    with pytest.raises(ConfigurationError, match=f"env_file=.*: {told}$"):
        from_file(path)
    with pytest.raises(ConfigurationError, match=r"env_file=.*: cannot be read: Is a directory$"):
        from_file(tmp_path)


def test_what_the_environment_says_itself_may_be_left_to_be_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As files for other programs have it: ``OPENROUTER_API_KEY=${OPENROUTER_API_KEY}``."""
    path = env_file(tmp_path, "OPENROUTER_API_KEY=${OPENROUTER_API_KEY}\nOPENROUTER_DEFAULT_MODEL=a/one\n")
    monkeypatch.setenv("OPENROUTER_API_KEYS", KEY)
    settings = Client.from_env(path).settings
    assert settings.api_key is not None
    assert (settings.api_key.reveal(), settings.default_model) == (KEY, "a/one")


def test_a_key_for_a_path_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match=r"^env_file=…: no such file$"):
        Client.from_env(LONG_KEY)


@pytest.mark.parametrize("facade", [Client, AsyncClient])
def test_a_file_that_is_not_there_shows_no_key(facade: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file") as caught:
        facade.from_env(tmp_path / "none.env", api_key=LONG_KEY)
    ours = [repr(frame.frame.f_locals) for frame in caught.traceback if "/routerkit/" in str(frame.path)]
    assert ours
    assert not any(LONG_KEY in text for text in ours)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('OPENROUTER_BUDGET="5\nA=1\n', "OPENROUTER_BUDGET: cannot be read: it must be NAME=value"),
        (f"A=1\nOPENROUTER_API_KEY: {KEY}\n", "OPENROUTER_API_KEY: cannot be read: it must be NAME=value"),
        (f"export ROUTERKIT_ENV='production' {KEY}\n", "ROUTERKIT_ENV: cannot be read: it must be NAME=value"),
        (f"K={KEY}\nOPENROUTER_API_KEY=${{K}}\n", r"OPENROUTER_API_KEY: holds \$\{…\}, which is not filled in"),
    ],
)
def test_one_of_our_variables_that_a_file_does_not_give_is_named(tmp_path: Path, content: str, told: str) -> None:
    """python-dotenv passes over what it cannot read: a budget would be gone."""
    path = env_file(tmp_path, content)
    with pytest.raises(ConfigurationError, match=told) as caught:
        Client.from_env(path)
    assert str(path) in str(caught.value)
    shown = [repr(frame.frame.f_locals) for frame in caught.traceback if "env_file" in str(frame.path)]
    assert shown
    assert not any(KEY in text for text in (str(caught.value), *shown))


def test_what_others_write_into_a_file_is_theirs(tmp_path: Path) -> None:
    path = env_file(tmp_path, f'if true; then\nB="5\n# OPENROUTER_TIMEOUT: 5\nOPENROUTER_API_KEY={KEY}\n')
    assert from_file(path)["OPENROUTER_API_KEY"] == KEY


@pytest.mark.parametrize(
    ("file", "environment", "expected"),
    [
        ({"OPENROUTER_TIMEOUT": "5"}, {"OPENROUTER_TIMEOUT": " "}, {"OPENROUTER_TIMEOUT": "5"}),
        ({"OPENROUTER_API_KEY": KEY}, {"OPENROUTER_API_KEYS": OTHER_KEY}, {"OPENROUTER_API_KEYS": OTHER_KEY}),
        ({"OPENROUTER_MAX_RETRIES": "1"}, {"OPENROUTER_RETRY_ATTEMPTS": "2"}, {"OPENROUTER_RETRY_ATTEMPTS": "2"}),
        ({"INFRON_ENABLED": "true"}, {"ONEROUTER_ENABLED": "false"}, {"ONEROUTER_ENABLED": "false"}),
        (
            {"INFRON_TENANT_A_BUDGET": "9"},
            {"ONEROUTER_TENANT_A_BUDGET": "1"},
            {"ONEROUTER_TENANT_A_BUDGET": "1"},
        ),
        (
            {"OPENROUTER_BASE_URL": "https://mine.example"},
            {"OPENROUTER_PROVISIONING_API_KEY": KEY},
            {"OPENROUTER_BASE_URL": "https://mine.example", "OPENROUTER_PROVISIONING_API_KEY": KEY},
        ),
    ],
)
def test_the_environment_wins_over_a_file_under_whatever_name(
    tmp_path: Path, file: dict[str, str], environment: dict[str, str], expected: dict[str, str]
) -> None:
    path = env_file(tmp_path, "".join(f"{name}={value}\n" for name, value in file.items()))
    assert dict(with_file(path, environment)) == expected


def test_a_file_may_be_a_pipe() -> None:
    """As a shell makes one of `--env-file <(decrypt secrets)`."""
    reader, writer = os.pipe()
    os.write(writer, b"A=1\n")
    os.close(writer)
    try:
        assert from_file(f"/dev/fd/{reader}") == {"A": "1"}
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("file", "environment", "mixed"),
    [
        ({"OPENROUTER_BASE_URL": "https://evil.example"}, {"OPENROUTER_API_KEY": KEY}, True),
        ({"ONEROUTER_BASE_URL": "https://evil.example"}, {"INFRON_API_KEY": KEY}, True),
        (
            {"OPENROUTER_BASE_URL": "https://evil.example"},
            {"OPENROUTER_API_KEY": KEY, "OPENROUTER_BASE_URL": ""},
            True,
        ),
        ({"INFRON_BASE_URL": "https://evil.example"}, {"ONEROUTER_API_KEY": KEY}, True),
        ({"OPENROUTER_BASE_URL": "https://evil.example", "OPENROUTER_API_KEY": "x"}, {"OPENROUTER_API_KEY": KEY}, True),
        ({"OPENROUTER_BASE_URL": "https://mine.example", "OPENROUTER_API_KEY": KEY}, {}, False),
        ({"OPENROUTER_API_KEY": KEY}, {"OPENROUTER_BASE_URL": "https://mine.example"}, False),
        ({"OPENROUTER_BASE_URL": "http://127.0.0.1:8080/v1"}, {"OPENROUTER_API_KEY": KEY}, False),
        ({"OPENROUTER_BASE_URL": "https://mine.example"}, {"INFRON_API_KEY": KEY}, False),
        (
            {"OPENROUTER_BASE_URL": "https://evil.example"},
            {"OPENROUTER_BASE_URL": "https://mine.example", "OPENROUTER_API_KEY": KEY},
            False,
        ),
    ],
)
def test_a_file_does_not_get_the_environments_key(
    tmp_path: Path, file: dict[str, str], environment: dict[str, str], mixed: bool
) -> None:
    """Whoever can place a file in a folder would else receive the key."""
    path = env_file(tmp_path, "".join(f"{name}={value}\n" for name, value in file.items()))
    if mixed:
        with pytest.raises(ConfigurationError, match="set both in the same place") as caught:
            with_file(path, environment)
        assert KEY not in str(caught.value)
    else:
        assert dict(with_file(path, environment)) == {**file, **environment}


# --- with_options ---


def test_what_can_be_changed_of_settings() -> None:
    before = read(default_model="a/one", app_title="One")
    after = changed(
        before,
        {
            "timeout": 5,
            "default_model": "b/two",
            "fallback_models": ["c/three"],
            "retry": RetryPolicy(2),
            "app_url": "x",
        },
    )
    assert (after.timeouts, after.default_model, after.fallback_models) == (Timeouts(total=5), "b/two", ("c/three",))
    assert (after.retry, after.app_url) == (RetryPolicy(2), "x")
    assert (after.api_key, after.gateway, after.app_title) == (before.api_key, before.gateway, "One")
    assert changed(before, {}) == before
    assert before.default_model == "a/one"


def test_another_strategy_for_some_calls() -> None:
    """With the client's scores and its turns, so that a new one for each call is no new beginning."""
    offered = ["openai/gpt-4o", "openai/gpt-4o-mini"]
    with Client(dev_mode=True, fallback_models=offered) as client:
        cheap = client.with_options(strategy="cost_optimized", fallback_strategy="priority")
        assert [client.complete("Hello").model, cheap.complete("Hello").model] == offered
        turns = [client.with_options(strategy="round_robin").complete("Hello").model for _ in range(2)]
        assert sorted(turns) == offered
        quick = client.with_options(strategy="performance_optimized")
        assert (quick.router.scored, client.router.scored) == (True, False)
        assert quick.router.scores is client.router.scores
        assert quick.with_options(strategy=None).settings.strategy == "priority"

    async def main() -> None:
        async with AsyncClient(dev_mode=True, fallback_models=offered) as client:
            cheap = client.with_options(strategy="cost_optimized")
            assert [(await each.complete("Hello")).model for each in (client, cheap)] == offered

    asyncio.run(main())


def test_one_of_the_gateways_alone() -> None:
    before = settings_from({}, gateways=["openrouter", "infron"], api_key={"openrouter": KEY, "infron": OTHER_KEY})
    after = changed(before, {"gateway": "infron", "catalog_fallback": False})
    assert [gateway.name for gateway in after.gateways] == ["infron"]
    assert after.api_key == before.keys["infron"][0]
    assert (after.catalog_fallback, before.catalog_fallback) == (False, True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"api_key": KEY}, r"with_options\(api_key=…\): only timeout, default_model, .* can differ"),
        ({"colour": 1}, r"with_options\(colour=…\)"),
        ({"timeout": 0}, r"Timeouts\(total=0\)"),
        ({"default_model": "a b"}, "not a model id"),
        ({"retry": 3}, "must be a RetryPolicy"),
        ({"strategy": "cheapest"}, "strategy='cheapest': is not a known strategy"),
        ({"catalog_fallback": 1}, "catalog_fallback=1: must be True or False"),
        ({"gateway": "infron"}, r"with_options\(gateway='infron'\): not among openrouter"),
        ({"gateway": None}, r"with_options\(gateway=None\): not among openrouter"),
        ({"gateway": KEY}, "not among openrouter"),
    ],
)
def test_what_cannot_be_changed_of_settings(options: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        changed(read(), options)
    assert KEY not in str(caught.value)


# --- tracebacks ---


def test_no_frame_shows_a_key() -> None:
    """As error trackers show them, with the values of every frame's names."""
    for values, arguments in (
        ({"OPENROUTER_API_KEY": KEY, "OPENROUTER_TIMEOUT": "x"}, {}),
        ({}, {"api_key": KEY, "timeout": 0}),
        ({"OPENROUTER_API_KEY": f"{KEY} {OTHER_KEY}"}, {}),
        ({"OPENROUTER_API_KEY": KEY, "OPENROUTER_X_OPEN_ROUTER_TITLE": LONG_KEY}, {}),
        ({"OPENROUTER_TENANT_A_API_KEY": KEY, "OPENROUTER_TENANT_A_DEFAULT_MODEL": LONG_KEY}, {}),
    ):
        with pytest.raises(ConfigurationError) as caught:
            settings_from(values, **arguments)
        ours = [
            frame for frame in caught.traceback if "routerkit" in str(frame.path) and "test_" not in str(frame.path)
        ]
        assert ours
        shown = [repr(value) for frame in ours for name, value in frame.frame.f_locals.items()]
        assert not any(key in value for value in shown for key in (KEY, LONG_KEY))
