"""How limits, budgets and stores are told: scopes good and bad, tenants of the environment, and no password anywhere."""

from __future__ import annotations

import copy
import os
import pickle
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit import FREE_TIER, FREE_TIER_WITH_CREDITS, Budget, ConfigurationError, Limits, SharedStore, Tenant
from routerkit.config import changed, settings_from
from routerkit.gateways import INFRON, OPENROUTER
from routerkit.store.redis_address import _SCHEMES, address_of
from routerkit.tenancy import settings_for
from routerkit.types.gateway import Gateway
from routerkit.types.scope import FORMS, WORDS, Scope, limits_of, scope_of
from routerkit.types.settings import Settings
from routerkit.types.store import SCHEMES
from tests.security.canaries import KEY, leaks, said_by, shown_by

ONE, TWO = "sk-test-1234567890", "sk-test-0987654321"
SOME = Limits(requests_per_minute=60)
LOCAL = Gateway(name="localhost:8080", base_url="http://localhost:8080/v1")
GATEWAYS = (OPENROUTER, INFRON, LOCAL)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*os.environ,):
        if name.startswith(("OPENROUTER_", "ONEROUTER_", "INFRON_", "ROUTERKIT_", "DEV_MODE")):
            monkeypatch.delenv(name)


def read(values: dict[str, str] | None = None, **options: Any) -> Settings:
    return settings_from({"OPENROUTER_API_KEY": ONE, **(values or {})}, **options)


def refused(values: dict[str, str] | None = None, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(values, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- scopes ---

SCOPES = {
    "client": Scope("client"),
    "gateway:openrouter": Scope("gateway", "openrouter"),
    "gateway:localhost:8080": Scope("gateway", "localhost:8080"),
    "key": Scope("key"),
    "key:infron": Scope("key", "infron"),
    "model:openai/gpt-4o": Scope("model", None, "openai/gpt-4o"),
    "model:llama3:8b": Scope("model", None, "llama3:8b"),
    "model:a/b:free on openrouter": Scope("model", "openrouter", "a/b:free"),
    "model:client on localhost:8080": Scope("model", "localhost:8080", "client"),
    "free": Scope("free"),
    "free:openrouter": Scope("free", "openrouter"),
}


def test_every_word_is_among_the_scopes() -> None:
    assert {scope.word for scope in SCOPES.values()} == set(WORDS)
    assert {form.partition(":")[0] for form in FORMS.split(", ")} == set(WORDS)


@pytest.mark.parametrize("text", SCOPES)
def test_a_scope_is_read_and_written_alike(text: str) -> None:
    assert scope_of(text) == SCOPES[text]
    assert str(SCOPES[text]) == text
    assert limits_of({text: SOME}, GATEWAYS, {}) == {text: SOME}


@given(st.text(max_size=40))
def test_any_text_is_a_scope_or_refused(text: str) -> None:
    try:
        scope = scope_of(text)
    except ConfigurationError:
        scope = None
    assert scope is None or str(scope) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", f"limits: '' is not a scope (there are: {FORMS})"),
        ("per-day", f"limits: 'per-day' is not a scope (there are: {FORMS})"),
        ("Client", "limits: 'Client' is not a scope; did you mean 'client'? (there are: client, gateway:<name>"),
        ("client ", "limits: 'client ' is not a scope; did you mean 'client'?"),
        ("default", "limits: 'default' is not a scope; did you mean 'client'?"),
        ("*", "limits: '*' is not a scope; did you mean 'client'?"),
        ("client:acme", "limits: 'client:acme' is not a scope; 'client' stands alone"),
        ("tenant:acme", "limits: 'tenant:acme' is not a scope; a tenant's own limits are given with Tenant(limits=…)"),
        ("user", "limits: 'user' is not a scope; a tenant's own limits are given with Tenant(limits=…)"),
        ("gateway", "limits: 'gateway' is not a scope; 'gateway' needs a name after a colon"),
        ("gateway:", "limits: 'gateway:' is not a scope; 'gateway' needs a name after a colon"),
        ("model", "limits: 'model' is not a scope; 'model' needs an id after a colon"),
        ("model: ", "limits: 'model: ' is not a scope; 'model' needs an id after a colon"),
        ("key:", "limits: 'key:' is not a scope; did you mean 'key'?"),
        ("keys", "limits: 'keys' is not a scope; did you mean 'key'?"),
        ("api_key:infron", "limits: 'api_key:infron' is not a scope; did you mean 'key:infron'?"),
        ("provider:infron", "limits: 'provider:infron' is not a scope; did you mean 'gateway:infron'?"),
        ("Gateway:infron", "limits: 'Gateway:infron' is not a scope; did you mean 'gateway:infron'?"),
        ("openrouter", "limits: 'openrouter' is not a scope; did you mean 'gateway:openrouter'?"),
        ("localhost:8080", "limits: 'localhost:8080' is not a scope; did you mean 'gateway:localhost:8080'?"),
        ("openai/gpt-4o", "limits: 'openai/gpt-4o' is not a scope; did you mean 'model:openai/gpt-4o'?"),
        ("a/b on infron", "limits: 'a/b on infron' is not a scope; did you mean 'model:a/b on infron'?"),
        ("models:a/b:free", "limits: 'models:a/b:free' is not a scope; did you mean 'model:a/b:free'?"),
        ("model: a/b", "limits: 'model: a/b' is not a scope; did you mean 'model:a/b'?"),
        ("model:a b", "limits: 'model:a b' is not a scope (there are: "),
        ("model:a/b on ", "limits: 'model:a/b on ' is not a scope"),
        (":free", "limits: ':free' is not a scope; did you mean 'free'?"),
        ("free_tier", "limits: 'free_tier' is not a scope; did you mean 'free'?"),
        (
            "gateway:nowhere",
            "limits: scope 'gateway:nowhere': 'nowhere' is not among openrouter, infron, localhost:8080",
        ),
        ("key:nowhere", "limits: scope 'key:nowhere': 'nowhere' is not among openrouter, infron"),
        ("model:a/b on nowhere", "limits: scope 'model:a/b on nowhere': 'nowhere' is not among openrouter"),
        (
            "free:OpenRouter",
            (
                "limits: scope 'free:OpenRouter': 'OpenRouter' is not among openrouter, infron, localhost:8080; "
                "did you mean 'free:openrouter'?"
            ),
        ),
        ("gateway: infron", "limits: scope 'gateway: infron': ' infron' is not among openrouter, infron"),
        (
            "model:openrouter/a/b",
            (
                "limits: scope 'model:openrouter/a/b': openrouter knows the model by another id; "
                "write 'model:a/b on openrouter'"
            ),
        ),
        (5, f"limits: a scope is a text, not int; one of {FORMS}"),
        (None, "limits: a scope is a text, not NoneType"),
        (("gateway", "openrouter"), "limits: a scope is a text, not tuple"),
        ("gateways", "limits: 'gateways' is not a scope; 'gateway' needs a name after a colon"),
        ("x" * 101, "limits: … is not a scope (there are: "),
        ("a\nb", "limits: … is not a scope (there are: "),
    ],
)
def test_a_scope_that_cannot_be_meant(text: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        limits_of({text: SOME}, GATEWAYS, {})
    assert str(caught.value).startswith(told)
    assert str(caught.value).isprintable()


def test_ids_that_only_look_prefixed() -> None:
    for text in ("model:openrouter/auto", "model:openrouter/a/b on infron"):
        assert limits_of({text: SOME}, GATEWAYS, {}) == {text: SOME}


def test_a_model_is_limited_by_its_gateways_own_id() -> None:
    """Its alias would count nothing."""
    aliases = {"gpt": {"openrouter": "openai/gpt-4o", "infron": None}, "same": {"infron": "same"}}
    told = refused(aliases={"gpt": {"openrouter": "openai/gpt-4o"}}, limits={"model:gpt": SOME})
    assert told == (
        "limits: scope 'model:gpt': openrouter knows the model by another id; write 'model:openai/gpt-4o on openrouter'"
    )
    for text in ("model:gpt on infron", "model:gpt on localhost:8080", "model:same"):
        assert limits_of({text: SOME}, GATEWAYS, aliases) == {text: SOME}
    with pytest.raises(ConfigurationError, match="write 'model:openai/gpt-4o on openrouter'"):
        limits_of({"model:gpt on openrouter": SOME}, GATEWAYS, aliases)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"client": 60}, "limits['client']: must be a Limits, not int"),
        ({"key": None}, "limits['key']: must be a Limits, not NoneType"),
        ({"client": {"requests_per_minute": 60}}, "limits['client']: must be a Limits, not dict"),
        ({"client": SOME, "free:openrouter": Budget(5)}, "limits['free:openrouter']: must be a Limits, not Budget"),
        ({"client": Limits}, "limits['client']: must be a Limits, not type"),
        ([SOME], "limits: must be a Limits, or a dict from scope to Limits, not list; scopes: client, gateway:<name>"),
        (Budget(5), "limits: must be a Limits, or a dict from scope to Limits, not Budget"),
        ("60/minute", "limits: must be a Limits, or a dict from scope to Limits, not str"),
    ],
)
def test_what_is_no_limits(value: Any, told: str) -> None:
    assert refused(limits=value).startswith(told)


def test_limits_of_a_client() -> None:
    assert read().limits == {}
    assert read(limits={}).limits == {}
    assert read(limits=SOME).limits == {"client": SOME}
    assert read(limits=Limits()).limits == {"client": Limits()}, "nothing set is no mistake"
    given = {"model:a/b": SOME, "client": Limits(concurrency=1), "free:openrouter": SOME}
    settings = read(limits=given)
    assert [*settings.limits.items()] == [*given.items()]
    given.clear()
    assert len(settings.limits) == 3
    assert all(type(text) is str for text in settings.limits), "hidden texts are for errors only"


def test_a_gateway_that_an_operator_has_switched_off_is_no_mistake() -> None:
    options: dict[str, Any] = {
        "gateways": ["openrouter", "infron"],
        "api_key": {"openrouter": ONE, "infron": TWO},
        "aliases": {"a/b": {"infron": "b"}},
        "limits": {"gateway:infron": SOME},
    }
    settings = settings_from({"INFRON_ENABLED": "false"}, **options)
    assert [*settings.keys] == [gateway.name for gateway in settings.gateways] == ["openrouter"]
    assert settings.limits == {"gateway:infron": SOME}


def test_a_key_of_a_gateway_that_is_switched_off_goes_to_no_other() -> None:
    off = {"OPENROUTER_ENABLED": "false", "INFRON_API_KEY": TWO, "INFRON_TENANT_ACME_API_KEY": TWO}
    settings = settings_from(off, gateways=["openrouter", "infron"], api_key=ONE)
    assert [key.reveal() for key in settings.keys["infron"]] == [TWO]
    options: dict[str, Any] = {"gateways": ["openrouter", "infron"], "tenants": [Tenant("acme", ONE, "a/one")]}
    acme = settings_for(settings_from(off, **options), "acme")
    assert [*acme.keys] == ["infron"]
    assert [key.reveal() for key in acme.keys["infron"]] == [TWO]
    assert acme.default_model == "a/one"
    off = {"OPENROUTER_ENABLED": "false"}
    told = refused(off, gateways=["openrouter", "infron"], api_key=ONE)
    assert told.startswith("Infron AI API key not configured")
    assert refused(off, **options).startswith("tenant 'acme' has no Infron AI API key")


def test_presets() -> None:
    assert read(limits=FREE_TIER).limits == {"free:openrouter": Limits(requests_per_minute=20, requests_per_day=50)}
    more = read(limits={"client": SOME, **FREE_TIER_WITH_CREDITS}).limits
    assert [*more] == ["client", "free:openrouter"]
    assert more["free:openrouter"] == Limits(requests_per_minute=20, requests_per_day=1000)
    told = refused({"INFRON_API_KEY": ONE}, gateway="infron", limits=FREE_TIER)
    assert told == "limits: scope 'free:openrouter': 'openrouter' is not among infron"
    with pytest.raises(TypeError):
        FREE_TIER["client"] = SOME  # type: ignore[index]


def test_they_are_the_clients_for_life() -> None:
    settings = read(limits=SOME, budget=Budget(5), store="redis://localhost")
    for option in ("limits", "budget", "store"):
        with pytest.raises(ConfigurationError, match=rf"with_options\({option}=…\): only timeout, .* can differ"):
            changed(settings, {option: None})  # type: ignore[misc]
    other = changed(settings, {"timeout": 5})
    assert (other.limits, other.budget, other.store) == (settings.limits, settings.budget, settings.store)


# --- tenants and budgets ---

ACME = {
    "OPENROUTER_TENANT_ACME_API_KEY": TWO,
    "OPENROUTER_TENANT_ACME_REQUESTS_PER_DAY": "5000",
    "OPENROUTER_TENANT_ACME_BUDGET": "20/total",
}


def test_a_budget_of_the_environment_gives_way() -> None:
    assert read({"OPENROUTER_BUDGET": "5"}).budget == Budget(5)
    assert read({"OPENROUTER_BUDGET": "x"}, budget=Budget(1)).budget == Budget(1)
    assert settings_from({"INFRON_API_KEY": ONE, "ONEROUTER_BUDGET": "100/month"}).budget == Budget(100, "month")
    assert read({"INFRON_BUDGET": "x"}).budget is None


def test_a_tenant_has_its_own_and_the_clients() -> None:
    settings = read(ACME, limits=SOME, budget=Budget(100), store="redis://localhost")
    acme = settings_for(settings, "acme")
    assert (acme.tenant_limits, acme.tenant_budget) == (Limits(requests_per_day=5000), Budget(20, "total"))
    assert (acme.limits, acme.budget, acme.store) == (settings.limits, Budget(100), settings.store)
    assert (settings.tenant_limits, settings.tenant_budget) == (None, None)


@pytest.mark.parametrize(
    ("given", "limits", "budget"),
    [
        (Tenant("acme"), Limits(requests_per_day=5000), Budget(20, "total")),
        (Tenant("acme", limits=Limits(concurrency=1)), Limits(concurrency=1), Budget(20, "total")),
        (Tenant("acme", budget=Budget(0)), Limits(requests_per_day=5000), Budget(0)),
        (Tenant("acme", limits=Limits()), Limits(), Budget(20, "total")),
    ],
)
def test_what_a_tenant_in_code_leaves_open(given: Tenant, limits: Limits, budget: Budget) -> None:
    acme = settings_for(read(ACME, tenants=[given]), "acme")
    assert (acme.tenant_limits, acme.tenant_budget) == (limits, budget)


def test_tenants_of_two_gateways_have_one_budget() -> None:
    both = {**ACME, "INFRON_API_KEY": ONE, "INFRON_TENANT_ACME_BUDGET": "20 / total"}
    assert read(both, gateways=["openrouter", "infron"]).tenants["acme"].budget == Budget(20, "total")
    told = refused({**both, "INFRON_TENANT_ACME_BUDGET": "20"}, gateways=["openrouter", "infron"])
    assert told == "INFRON_TENANT_ACME_BUDGET: contradicts another variable of tenant 'acme'"


COUNTS = ["0", "-1", "1.5", "many", "1e3", "1_000", "٣", "9" * 13, "1,000"]
BUDGETS = ["-1", "$5", "5/week", "5/", "/day", "5/day/day", "nan", "five", "9" * 12]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *((name, text) for name in ("REQUESTS_PER_MINUTE", "TOKENS_PER_MINUTE", "REQUESTS_PER_DAY") for text in COUNTS),
        *(("CONCURRENCY", text) for text in COUNTS),
        *(("BUDGET", text) for text in BUDGETS),
    ],
)
def test_what_cannot_be_read_of_a_tenant_is_named(variable: str, text: str) -> None:
    full = f"OPENROUTER_TENANT_ACME_{variable}"
    assert refused({**ACME, full: text}).startswith((f"{full}: must be ", f"{full}='{text}': must be "))
    with pytest.raises(ConfigurationError) as caught:
        settings_from({**ACME, full: KEY})
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


@pytest.mark.parametrize("text", ["1", " 60 ", "999999999999", "007"])
def test_counts_of_the_environment(text: str) -> None:
    acme = read({**ACME, "OPENROUTER_TENANT_ACME_TOKENS_PER_MINUTE": text}).tenants["acme"]
    assert acme.limits == Limits(requests_per_day=5000, tokens_per_minute=int(text))


# --- stores ---

URL = "redis://:hush@db.example.com:6379/0"


def test_schemes_are_those_that_the_store_reads() -> None:
    assert tuple(_SCHEMES) == SCHEMES


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        (URL, "redis://db.example.com:6379"),
        ("rediss://user:hush@[::1]:6379/2?ssl_ca_certs=/x", "rediss://[::1]:6379"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("unix://:hush@/run/redis.sock", "unix:///run/redis.sock"),
        ("redis+sentinel://:hush@a:1,b:2/main?sentinel_password=hush", "redis+sentinel://a:1,b:2"),
        ("rediss+cluster://:hush%40ed@a,b:2", "rediss+cluster://a,b:2"),
        # Not readable, or not to be told from a password.
        ("redis://:hush/ed@localhost", "redis://…"),
        ("redis://:hush@ed@localhost", "redis://…"),
        ("redis://:hush?ed@localhost", "redis://…"),
        ("redis://:hush#ed@localhost", "redis://…"),
        ("redis+sentinel://a/main?sentinel_password=a@b", "redis+sentinel://…"),
        ("redis://:hush", "redis://…"),
        ("unix://:hush/run@/redis.sock", "unix://…"),
    ],
)
def test_a_store_shows_no_password(url: str, shown: str) -> None:
    store = SharedStore(url, "mine", 4, 2)
    assert store.address == shown
    assert (
        repr(store)
        == str(store)
        == (f"SharedStore('{shown}', namespace='mine', workers=4, offline_allowance=Decimal('2'))")
    )
    assert store.reveal() == url
    assert "hush" not in repr(attrs.asdict(store)) + f"{store}" + repr(read(store=store))


@given(st.from_regex(r"(redis\+?[a-z]*|unix)://[!-~]{0,40}hunter2[!-~]{0,40}", fullmatch=True))
def test_what_the_store_takes_for_a_password_is_not_shown(url: str) -> None:
    try:
        address, store = address_of(url), SharedStore(url)
    except ConfigurationError:
        return
    logins = [login for login in (address.login, address.sentinel_login) if login]
    assert not any("hunter2" in f"{login.user} {login.password}" for login in logins) or "hunter2" not in repr(store)


def test_stores_compare_and_do_not_travel() -> None:
    store = SharedStore(URL)
    assert store == SharedStore(URL, "routerkit", 1, Decimal(1))
    assert len({store, SharedStore(URL), SharedStore(URL, workers=2), SharedStore("redis://localhost")}) == 3
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        store.workers = 2  # type: ignore[misc]
    assert attrs.evolve(store, workers=3) == SharedStore(URL, workers=3)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="a SharedStore cannot be pickled or copied"):
            pickle.dumps(store, protocol)
    for carry in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="a SharedStore cannot be pickled or copied"):
            carry(store)


# Where a password or a key stands besides something that is wrong. Not in a local: the frames of the tests are looked at too.
UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "a scheme": ({"url": f"http://:{KEY}@h"}, "url=…): must be a URL of printable ASCII characters without blanks"),
    "a blank": ({"url": f"redis://:{KEY} @h"}, "url=…): must be a URL"),
    "a tail": ({"url": f"redis://:{KEY}@h\n"}, "url=…): must be a URL"),
    "bytes": ({"url": f"redis://:{KEY}@h".encode()}, "url=…): must be a URL, not bytes"),
    "a namespace": ({"url": f"redis://:{KEY}@h", "namespace": ""}, "namespace=…): must be a text of 1 to 200"),
    "a long one": ({"url": "redis://h", "namespace": KEY * 9}, "namespace=…): must be a text of 1 to 200"),
    "a number of one": ({"url": "redis://h", "namespace": 5}, "namespace=…): must be a text"),
    "a URL for one": ({"url": "redis://h", "namespace": f"redis://:{KEY}@h"}, "namespace=…): must be a text of"),
    "a key for one": ({"url": "redis://h", "namespace": KEY}, "namespace=…): must be a text of"),
    "workers": ({"url": f"redis://:{KEY}@h", "workers": 0}, "workers=…): must be a whole number from 1 to 1000000"),
    "half a worker": ({"url": f"redis://:{KEY}@h", "workers": 1.5}, "workers=…): must be a whole number"),
    "a true one": ({"url": f"redis://:{KEY}@h", "workers": True}, "workers=…): must be a whole number"),
    "a URL for them": ({"url": "redis://h", "workers": f"redis://:{KEY}@h"}, "workers=…): must be a whole number"),
    "an allowance": (
        {"url": f"redis://:{KEY}@h", "offline_allowance": -1},
        "offline_allowance=…): must be an amount of US dollars from 0 on, such as '2.50'",
    ),
    "none": (
        {"url": f"redis://:{KEY}@h", "offline_allowance": float("nan")},
        "offline_allowance=…): must be an amount",
    ),
    "a URL for it": ({"url": "redis://h", "offline_allowance": f"redis://:{KEY}@h"}, "offline_allowance=…): must be"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_store_that_cannot_be_made_shows_no_password(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SharedStore(**UNREADABLE[name][0])
    assert str(caught.value).startswith(f"SharedStore({UNREADABLE[name][1]}")
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


# Settings that fail, for this reason or after it: environment, arguments, what is told.
FAILING: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "a URL that is none": ({}, {"store": f"reids://:{KEY}@h"}, "store: must be memory, or a URL of printable"),
    "a list of them": (
        {},
        {"store": [f"redis://:{KEY}@h"]},
        "store: must be 'memory', a URL or a SharedStore, not list",
    ),
    "one of the environment": (
        {"ROUTERKIT_STORE": f"reids://:{KEY}@h"},
        {},
        "ROUTERKIT_STORE: must be memory, or a URL",
    ),
    "a good one before what is bad": (
        {"OPENROUTER_TIMEOUT": "x"},
        {"store": f"redis://:{KEY}@h"},
        "OPENROUTER_TIMEOUT='x'",
    ),
    "a good one of the environment": (
        {"ROUTERKIT_STORE": f"redis://:{KEY}@h", "ROUTERKIT_STORE_WORKERS": "0"},
        {},
        "ROUTERKIT_STORE_WORKERS: must be a whole number from 1 to 1000000",
    ),
    "in the namespace": (
        {"ROUTERKIT_STORE": "redis://h", "ROUTERKIT_STORE_NAMESPACE": f"redis://:{KEY}@h"},
        {},
        "ROUTERKIT_STORE_NAMESPACE: must be a text of 1 to 200",
    ),
    "in the workers": (
        {"ROUTERKIT_STORE": "redis://h", "ROUTERKIT_STORE_WORKERS": f"redis://:{KEY}@h"},
        {},
        "ROUTERKIT_STORE_WORKERS: must be a whole number",
    ),
    "in the allowance": (
        {"ROUTERKIT_STORE": "redis://h", "ROUTERKIT_STORE_OFFLINE_ALLOWANCE": f"redis://:{KEY}@h"},
        {},
        "ROUTERKIT_STORE_OFFLINE_ALLOWANCE: must be US dollars",
    ),
    "in the budget": ({"OPENROUTER_BUDGET": KEY}, {}, "OPENROUTER_BUDGET: must be US dollars"),
    "a key for a scope": ({}, {"limits": {f"key:{KEY}": SOME}}, "limits: scope …: … is not among openrouter"),
    "a key alone": ({}, {"limits": {KEY: SOME}}, "limits: … is not a scope (there are:"),
    "a key with another word": ({}, {"limits": {f"keys:{KEY}": SOME}}, "limits: … is not a scope (there are:"),
    "a key and a slash": ({}, {"limits": {f"a/{KEY}": SOME}}, "limits: … is not a scope (there are:"),
    "a key for a gateway": ({}, {"limits": {f"gateway:{KEY}": SOME}}, "limits: scope …: … is not among openrouter"),
    "a key for limits": ({}, {"limits": {"key": KEY}}, "limits['key']: must be a Limits, not str"),
    "a key in a tuple": ({}, {"limits": {("key", KEY): SOME}}, "limits: a scope is a text, not tuple"),
    "a scope before what is bad": ({"OPENROUTER_TIMEOUT": "x"}, {"limits": {KEY: SOME}}, "OPENROUTER_TIMEOUT='x'"),
}


@pytest.mark.parametrize("name", FAILING)
def test_settings_that_cannot_be_made_show_neither_password_nor_key(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_from({"OPENROUTER_API_KEY": ONE, **FAILING[name][0]}, **FAILING[name][1])
    assert str(caught.value).startswith(FAILING[name][2])
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


@pytest.mark.parametrize("name", ["ROUTERKIT_STORE_WORKERS", "ROUTERKIT_STORE_OFFLINE_ALLOWANCE", "OPENROUTER_BUDGET"])
def test_a_short_password_is_not_shown_either(name: str) -> None:
    told = refused({"ROUTERKIT_STORE": "redis://h", name: "redis://:hush@h"})
    assert told.startswith(f"{name}: must be")


ALL_OF_IT = {
    "ROUTERKIT_STORE": URL,
    "ROUTERKIT_STORE_NAMESPACE": "env",
    "ROUTERKIT_STORE_WORKERS": "8",
    "ROUTERKIT_STORE_OFFLINE_ALLOWANCE": "0.25",
}
BROKEN = dict.fromkeys(ALL_OF_IT, "redis://:x@h x")


def test_a_store_of_the_environment() -> None:
    assert read(ALL_OF_IT).store == SharedStore(URL, "env", 8, "0.25")
    assert read({"ROUTERKIT_STORE": URL}).store == SharedStore(URL)
    assert read().store is None


def test_a_stores_argument_wins() -> None:
    store = SharedStore("redis://localhost", workers=2)
    assert read(BROKEN, store=store).store == store
    assert read(BROKEN, store="memory").store is None
    given = read({**ALL_OF_IT, "ROUTERKIT_STORE": "broken"}, store="unix:///run/redis.sock").store
    assert given == SharedStore("unix:///run/redis.sock", "env", 8, "0.25"), "the environment says the rest"


@pytest.mark.parametrize("store", [{}, {"ROUTERKIT_STORE": "memory"}, {"ROUTERKIT_STORE": " "}])
@pytest.mark.parametrize("name", [*ALL_OF_IT][1:])
def test_what_says_more_of_no_store_is_an_error(store: dict[str, str], name: str) -> None:
    told = refused({**store, name: ALL_OF_IT[name]})
    assert told == f"{name}: needs the URL of a store in ROUTERKIT_STORE"
