"""Tenants share a client and interfere with nobody: the core in virtual time, the configuration, both facades in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from routerkit import AsyncClient, Client, ConfigurationError, InvalidRequestError
from routerkit.config import changed, settings_from
from routerkit.core.router import Router
from routerkit.tenancy import settings_for
from routerkit.testing import ScriptedTransport, VirtualRuntime
from routerkit.testing import replies as r
from routerkit.types.gateway import Gateway
from routerkit.types.limits import Budget, Limits
from routerkit.types.policy import Timeouts
from routerkit.types.secret import Secret
from routerkit.types.settings import Settings
from routerkit.types.tenant import Tenant
from tests.support.core import HOST, A, B, C, World, asking

ACME, GLOBEX = "sk-acme-1234567890", "sk-globex-12345678"
TENANTS = [Tenant("acme", ACME, default_model=A), Tenant("globex", GLOBEX, default_model=B, fallback_models=[C])]


class Shared(World):
    """A client with two tenants; each asks through a router of its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(api_key=None, tenants=TENANTS, **settings)
        self.whole = self.router
        self.routers = {name: self.whole.sharing(settings_for(self.settings, name)) for name in ("acme", "globex")}

    def ask_as(self, tenant: str, **more: Any) -> Any:
        self.router = self.routers[tenant]
        return self.ask(**more)

    def keys(self) -> list[str]:
        return [str(request.header("authorization")).removeprefix("Bearer ") for request in self.gateway.chat_requests]


def refusing(key: str, status: int, **more: Any) -> r.Reply:
    return r.choose(
        lambda request: (
            r.json_body({"error": {"message": "No", **more}}, status)
            if key in str(request.header("authorization"))
            else r.completion("Fine")
        )
    )


# --- each has its own ---


def test_each_tenant_asks_with_its_key_for_its_models() -> None:
    world = Shared()
    world.ask_as("acme", model=None, fallback_models=None)
    world.ask_as("globex", model=None, fallback_models=None)
    assert world.gateway.models_asked == [A, B]
    assert world.keys() == [ACME, GLOBEX]


@pytest.mark.parametrize(
    ("status", "more"),
    [
        (401, {}),
        (402, {}),
        (429, {}),
        (429, {"code": "insufficient_quota"}),
        (404, {"availability": {"code": "privacy_restricted"}}),
    ],
)
def test_what_one_tenants_key_or_settings_forbid_the_other_does_not_notice(status: int, more: dict[str, Any]) -> None:
    world = Shared()
    world.gateway.default = refusing(ACME, status, **more)
    for _ in range(10):
        world.ask_as("acme")
        assert world.ask_as("globex", model=A).attempts == [f"{A} 200 ok"]
    if status != 429 or more:  # after a rate limit a call may wait
        assert world.keys().count(ACME) == 1, "and its own calls stop asking"


def test_two_tenants_with_the_same_keys_do_not_share_what_befalls_these() -> None:
    keys = [ACME, GLOBEX]
    shared = World(api_key=None, tenants=[Tenant("acme", keys), Tenant("globex", keys)])
    acme, globex = (shared.router.sharing(settings_for(shared.settings, name)) for name in ("acme", "globex"))
    shared.gateway.default = refusing(ACME, 401)
    shared.router = acme
    assert shared.ask().attempts == [f"{A} 401 authentication", f"{A} 200 ok"]
    (name,) = acme.health.cooldowns("acme")
    assert name == f"the key of {HOST} (acme {acme.access[HOST].keys[0].name})"
    assert globex.health.cooldowns("globex") == {}
    assert [key.in_flight for key in (*acme.access[HOST].keys, *globex.access[HOST].keys)] == [0] * 4
    shared.router = globex
    assert shared.ask().attempts == [f"{A} 401 authentication", f"{A} 200 ok"], "it finds out for itself"


def test_free_models_used_up_by_one_are_left_to_the_other() -> None:
    world = Shared()
    world.gateway.default = refusing(ACME, 429, message="Rate limit exceeded: free-models-per-day")
    world.ask_as("acme", model="a/one:free")
    assert world.ask_as("globex", model="a/one:free").gives == "Fine"


def test_a_model_that_fails_fails_for_all() -> None:
    world = Shared()
    world.script(A, r.error(500))
    for _ in range(6):
        world.ask_as("acme", fallback_models=(B,))
    told = world.ask_as("globex", model=A, fallback_models=(C,))
    assert told.skipped == {A: "its breaker is open"}


def test_a_model_that_nobody_knows_is_unknown_to_all() -> None:
    world = Shared()
    world.script(A, r.error(404))
    world.ask_as("acme", fallback_models=(B,))
    assert world.ask_as("globex", model=A, fallback_models=(C,)).skipped == {A: "rests after model_not_found"}


def test_one_catalogue_serves_all() -> None:
    world = Shared()
    for router in (*world.routers.values(), world.whole):
        world.gateway.catalog = [r.catalog_model(A)]
        world.gateway.run(router.models(Timeouts()))
    assert world.gateway.catalog_requests == 1


def test_tenants_take_turns_of_their_own() -> None:
    world = Shared(strategy="round_robin", fallback_models=[A, B, C])
    for _ in range(3):
        world.ask_as("acme", model=None, fallback_models=None)
        world.ask_as("globex", model=None, fallback_models=None)
    assert world.gateway.models_asked[::2] == [A, B, C]


def test_usage_and_statistics_are_each_ones_own() -> None:
    world = Shared()
    world.ask_as("acme")
    world.ask_as("globex")
    world.ask_as("globex")
    accounts = world.whole.accounts
    assert accounts.stats("acme").calls == 1
    assert accounts.stats("globex").calls == 2
    assert accounts.stats(None).calls == 3
    assert {row.tenant for row in accounts.usage("acme").rows} == {"acme"}
    assert {row.tenant for row in accounts.usage(None).rows} == {"acme", "globex"}


def test_cooldowns_of_another_tenant_are_not_shown() -> None:
    world = Shared()
    world.gateway.default = refusing(ACME, 401)
    world.ask_as("acme")
    assert [*world.whole.health.cooldowns("acme")] == [f"the key of {HOST} (acme)"]
    assert world.whole.health.cooldowns("globex") == {}
    assert [*world.whole.health.cooldowns()] == [f"the key of {HOST} (acme)"]
    world.script(B, r.error(404))
    world.ask_as("globex", model=B)
    assert [*world.whole.health.cooldowns("globex")] == [f"{B} on {HOST}"], "what concerns all of them is shown to each"


def test_a_tenant_with_keys_for_one_gateway_is_asked_there_only() -> None:
    tenants = [Tenant("acme", {"infron": ACME}), Tenant("both", {"infron": ACME, "openrouter": GLOBEX})]
    settings = settings_from({}, gateways=["openrouter", "infron"], tenants=tenants)
    assert [gateway.name for gateway in settings_for(settings, "acme").gateways] == ["infron"]
    assert [gateway.name for gateway in settings_for(settings, "both").gateways] == ["openrouter", "infron"]


def test_of_the_gateway_that_is_left_each_tenant_has_its_own_keys() -> None:
    tenants = [Tenant("acme", ACME), Tenant("globex", {"infron": GLOBEX})]
    both_of_them = settings(gateways=["openrouter", "infron"], tenants=[*tenants, Tenant("both", {"infron": ACME})])
    infron = changed(both_of_them, {"gateway": "infron"})
    assert [*settings_for(infron, "globex").keys] == [*settings_for(infron, "both").keys] == ["infron"]
    with pytest.raises(ConfigurationError, match=r"^tenant 'acme': has no key for infron$"):
        settings_for(infron, "acme")
    assert [*settings_for(changed(both_of_them, {"gateway": "openrouter"}), "acme").keys] == ["openrouter"]


def test_where_no_key_is_needed_every_tenant_is_asked() -> None:
    near, open_one = (
        Gateway(name="near", base_url="http://127.0.0.1:1/v1", key_required=True),
        "https://open.example/v1",
    )
    far = Gateway(name="far", base_url=open_one, key_required=False)
    shared = settings_from({}, gateways=["openrouter", near, far], tenants=[Tenant("acme", ACME), Tenant("free")])
    assert [gateway.name for gateway in settings_for(shared, "free").gateways] == ["near", "far"]
    assert [gateway.name for gateway in settings_for(shared, "acme").gateways] == ["openrouter", "near", "far"]
    pretending = settings_from({}, gateways=["openrouter", near], tenants=[Tenant("free")], dev_mode=True)
    assert [gateway.name for gateway in settings_for(pretending, "free").gateways] == ["openrouter", "near"]


# --- no tenant by accident ---


def test_a_client_with_tenants_answers_for_none_in_particular() -> None:
    world = Shared()
    with pytest.raises(
        ConfigurationError, match=r"^this client has tenants: say which one asks, with client\.tenant\(name\)$"
    ):
        world.whole.check(asking())
    with pytest.raises(
        ConfigurationError, match=r"^this client has tenants: say whose key is meant, with client\.tenant\(name\)$"
    ):
        world.gateway.run(world.whole.key_info(Timeouts()))
    with pytest.raises(ConfigurationError):
        world.gateway.run(world.whole.explain(asking()))


def settings(values: dict[str, str] | None = None, **options: Any) -> Settings:
    return settings_from(values or {}, **options)


@pytest.mark.parametrize("name", ["Acme", "acme ", "", "nobody", "acme\n", None, 5, ["acme"]])
def test_names_are_exact(name: Any) -> None:
    shared = settings(tenants=TENANTS)
    with pytest.raises(ConfigurationError) as caught:
        settings_for(shared, name)
    assert str(caught.value) == "no such tenant", "who else there is, is not told"


def test_a_tenants_client_leads_to_no_other() -> None:
    mine = settings_for(settings(tenants=TENANTS), "acme")
    with pytest.raises(ConfigurationError, match=r"^this client has no tenants$"):
        settings_for(mine, "globex")


# --- configuration ---


ENVIRONMENT = {
    "OPENROUTER_TENANT_ACME_API_KEY": ACME,
    "OPENROUTER_TENANT_ACME_DEFAULT_MODEL": "a/one",
    "OPENROUTER_TENANT_ACME_FALLBACK_MODELS": "b/two, c/three",
    "OPENROUTER_TENANT_ACME_REQUESTS_PER_MINUTE": "60",
    "OPENROUTER_TENANT_ACME_TOKENS_PER_MINUTE": "200000",
    "OPENROUTER_TENANT_ACME_REQUESTS_PER_DAY": " 5000 ",
    "OPENROUTER_TENANT_ACME_CONCURRENCY": "8",
    "OPENROUTER_TENANT_ACME_QUEUE_SIZE": "20",
    "OPENROUTER_TENANT_ACME_QUEUE_TIMEOUT": "10s",
    "OPENROUTER_TENANT_ACME_BUDGET": "5",
    "OPENROUTER_TENANT_BIG_CORP_API_KEYS": f"{GLOBEX},{ACME}",
    "OPENROUTER_TENANT_2_API_KEY": GLOBEX,
    "OPENROUTER_TENANT_EMPTY_API_KEY": " ",
}


def revealed(tenant: Tenant) -> Any:
    assert not isinstance(tenant.keys, tuple)
    return {name: [key.reveal() for key in keys] for name, keys in (tenant.keys or {}).items()}


def test_tenants_of_the_environment() -> None:
    tenants = settings(ENVIRONMENT).tenants
    assert [*tenants] == ["2", "acme", "big_corp"]
    assert revealed(tenants["acme"]) == {"openrouter": [ACME]}
    assert (tenants["acme"].default_model, tenants["acme"].fallback_models) == ("a/one", ("b/two", "c/three"))
    assert tenants["acme"].limits == Limits(60, 200_000, 5_000, 8, queue_size=20, queue_timeout=10)
    assert tenants["acme"].budget == Budget(5)
    assert (tenants["2"].limits, tenants["2"].budget) == (None, None)
    assert revealed(tenants["big_corp"]) == {"openrouter": [GLOBEX, ACME]}
    assert (tenants["2"].default_model, tenants["2"].fallback_models) == (None, None)


def test_the_clients_own_models_stand_in_for_a_tenants() -> None:
    shared = settings({**ENVIRONMENT, "OPENROUTER_DEFAULT_MODEL": "d/four", "OPENROUTER_FALLBACK_MODELS": "e/five"})
    acme, two = settings_for(shared, "acme"), settings_for(shared, "2")
    assert (acme.default_model, acme.fallback_models) == ("a/one", ("b/two", "c/three"))
    assert (two.default_model, two.fallback_models) == ("d/four", ("e/five",))


def test_the_clients_own_key_stands_in_for_nobodys() -> None:
    environment = {"OPENROUTER_API_KEY": GLOBEX, "OPENROUTER_TENANT_ACME_DEFAULT_MODEL": "a/one"}
    with pytest.raises(ConfigurationError, match="set OPENROUTER_TENANT_ACME_API_KEY or pass") as caught:
        settings(environment)
    assert "no other key stands in for it" in str(caught.value)
    assert settings_for(settings(tenants=TENANTS, api_key="sk-client-1234567890"), "acme").keys == {
        "openrouter": TENANTS[0].keys
    }


def test_tenants_of_two_gateways_are_one() -> None:
    environment = {"OPENROUTER_TENANT_ACME_API_KEY": ACME, "INFRON_TENANT_ACME_API_KEY": GLOBEX}
    shared = settings(environment, gateways=["openrouter", "infron"])
    assert revealed(shared.tenants["acme"]) == {"openrouter": [ACME], "infron": [GLOBEX]}


def test_a_gateway_that_is_switched_off_takes_its_keys_away_and_nothing_else() -> None:
    environment = {
        "OPENROUTER_ENABLED": "false",
        "OPENROUTER_TENANT_ACME_API_KEY": ACME,
        "OPENROUTER_TENANT_ACME_DEFAULT_MODEL": "a/one",
        "OPENROUTER_TENANT_ACME_REQUESTS_PER_MINUTE": "60",
        "OPENROUTER_TENANT_ACME_BUDGET": "5",
        "OPENROUTER_TENANT_GONE_API_KEY": GLOBEX,
        "INFRON_TENANT_ACME_API_KEY": GLOBEX,
    }
    shared = settings(environment, gateways=["openrouter", "infron"])
    (acme,) = shared.tenants.values()
    assert revealed(acme) == {"infron": [GLOBEX]}
    assert (acme.default_model, acme.limits, acme.budget) == ("a/one", Limits(60), Budget(5))
    given = settings(environment, gateways=["openrouter", "infron"], tenants=[Tenant("acme", {"openrouter": ACME})])
    assert given.tenants["acme"] == acme


def test_of_two_prefixes_that_serve_a_gateway_the_first_that_is_set_has_its_key() -> None:
    environment = {
        "ONEROUTER_TENANT_ACME_API_KEY": GLOBEX,
        "ONEROUTER_TENANT_ACME_API_KEYS": f"{GLOBEX}-2",
        "INFRON_TENANT_ACME_API_KEY": ACME,
    }
    assert revealed(settings(environment).tenants["acme"]) == {"infron": [ACME, f"{GLOBEX}-2"]}
    both = settings(environment, gateways=["infron", "onerouter"]).tenants["acme"]
    assert revealed(both) == {"infron": [ACME, f"{GLOBEX}-2"], "onerouter": [GLOBEX, f"{GLOBEX}-2"]}


def test_keys_for_gateways_that_an_argument_leaves_open_are_the_environments() -> None:
    """As those of the client itself are."""
    environment = {"OPENROUTER_TENANT_ACME_API_KEY": "sk-not-this-1234567", "INFRON_TENANT_ACME_API_KEY": GLOBEX}
    shared = settings(environment, gateways=["openrouter", "infron"], tenants=[Tenant("acme", ACME)])
    assert revealed(shared.tenants["acme"]) == {"openrouter": [ACME], "infron": [GLOBEX]}


def test_arguments_win_over_the_environment() -> None:
    shared = settings(ENVIRONMENT, tenants=[Tenant("acme", default_model="x/mine"), Tenant("new", GLOBEX)])
    assert [*shared.tenants] == ["acme", "new"]
    assert shared.tenants["acme"].default_model == "x/mine"
    assert shared.tenants["acme"].fallback_models == ("b/two", "c/three")
    assert revealed(shared.tenants["acme"]) == {"openrouter": [ACME]}
    assert settings({**ENVIRONMENT, "OPENROUTER_API_KEY": ACME}, tenants=[]).tenants == {}


def test_what_an_argument_says_is_not_taken_from_the_environment() -> None:
    limits, budget = Limits(requests_per_minute=5), Budget("5")
    given = Tenant("acme", GLOBEX, fallback_models=["x/mine"], limits=limits, budget=budget)
    (acme,) = settings(ENVIRONMENT, tenants=[given]).tenants.values()
    assert settings_for(settings(ENVIRONMENT, tenants=[given]), "acme").keys["openrouter"][0].reveal() == GLOBEX
    assert (acme.default_model, acme.fallback_models) == ("a/one", ("x/mine",))
    assert (acme.limits, acme.budget) == (limits, budget)


def test_two_variables_with_keys_are_one_list() -> None:
    environment = {"OPENROUTER_TENANT_A_API_KEY": ACME, "OPENROUTER_TENANT_A_API_KEYS": f"{GLOBEX},{ACME}"}
    assert revealed(settings(environment).tenants["a"]) == {"openrouter": [ACME, GLOBEX]}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["1", "2", "3"], []),
        (["acme", "7"], []),
        (
            ["2", "5"],
            [f"no OPENROUTER_TENANT_{n}_… is set, though there are tenants with higher numbers" for n in (3, 4)],
        ),
        (["1", "01"], ["tenants '01' and '1' are two, though the number is the same"]),
    ],
)
def test_what_is_probably_a_slip_is_logged(names: list[str], told: list[str], caplog: pytest.LogCaptureFixture) -> None:
    settings({f"OPENROUTER_TENANT_{name.upper()}_API_KEY": f"sk-{name}-1234567890" for name in names})
    assert [record.getMessage() for record in caplog.records] == told


def test_two_tenants_with_one_key_are_logged_without_it(caplog: pytest.LogCaptureFixture) -> None:
    settings(tenants=[Tenant("a", ACME), Tenant("b", [GLOBEX, ACME]), Tenant("c", "sk-other-1234567890")])
    (record,) = caplog.records
    assert record.getMessage() == (
        f"tenants 'a' and 'b' have the same key (…{Secret(ACME).fingerprint}): one bill, one limit"
    )


def test_the_error_that_names_a_variable_names_one_that_can_be() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^tenant 'big-corp' has no OpenRouter API key: pass Tenant\(api_key=\)"
    ):
        settings(tenants=[Tenant("big-corp")])


# --- keys that are none ---

SHORT = "not a valid API key of OpenRouter: it must have 8 characters at least (Secret(…"


@pytest.mark.parametrize(
    ("environment", "options", "told"),
    [
        ({}, {"api_key": "sk-1234"}, "api_key"),
        ({}, {"api_key": {"openrouter": [ACME, "1234567"]}}, "api_key"),
        ({"OPENROUTER_API_KEYS": f"{ACME},test"}, {}, "OPENROUTER_API_KEYS"),
        ({"OPENROUTER_TENANT_A_API_KEYS": f"{ACME},test"}, {}, "OPENROUTER_TENANT_A_API_KEYS"),
        ({}, {"tenants": [Tenant("a", "test")]}, "tenant 'a'"),
    ],
)
def test_a_key_that_was_cut_off_is_refused_where_one_is_needed(
    environment: dict[str, str], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(environment, **options)
    assert str(caught.value).startswith(f"{told}: {SHORT}")
    assert "test" not in str(caught.value)


@pytest.mark.parametrize("where", [{"base_url": "http://127.0.0.1:1/v1"}, {"base_url": "https://llm.example.com/v1"}])
def test_where_none_is_asked_for_any_word_will_do(where: dict[str, str]) -> None:
    for word in ("k", "test", "EMPTY", "sk-1234"):
        key = settings(api_key=word, **where).api_key
        assert key is not None
        assert key.reveal() == word
        (keys,) = settings_for(settings(tenants=[Tenant("a", word)], **where), "a").keys.values()
        assert keys[0].reveal() == word
    assert settings(api_key="test", dev_mode=True).api_key is not None


def test_tenants_that_use_the_same_word_share_no_bill(caplog: pytest.LogCaptureFixture) -> None:
    settings(tenants=[Tenant("a", "test"), Tenant("b", "test")], base_url="http://127.0.0.1:1/v1")
    assert caplog.messages == []


# --- what cannot be read ---


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        (f"OPENROUTER_TENANT_{'X' * 65}_API_KEY", ACME, f"OPENROUTER_TENANT_{'X' * 65}_API_KEY: is none of"),
        ("OPENROUTER_TENANT_ACME_KEY", ACME, "OPENROUTER_TENANT_ACME_KEY: is none of OPENROUTER_TENANT_<NAME>_API_KEY"),
        ("OPENROUTER_TENANT_acme_API_KEY", ACME, "OPENROUTER_TENANT_acme_API_KEY: is none of"),
        ("OPENROUTER_TENANT__API_KEY", ACME, "OPENROUTER_TENANT__API_KEY: is none of"),
        ("OPENROUTER_TENANT_API_KEY", ACME, "OPENROUTER_TENANT_API_KEY: is none of"),
        ("OPENROUTER_TENANT_A__B_API_KEY", ACME, "OPENROUTER_TENANT_A__B_API_KEY: is none of"),
        ("OPENROUTER_TENANT_ÄÖ_API_KEY", ACME, "OPENROUTER_TENANT_ÄÖ_API_KEY: is none of"),
        ("OPENROUTER_TENANT_ACME_API_KEY", "short", "OPENROUTER_TENANT_ACME_API_KEY: not a valid API key"),
        ("OPENROUTER_TENANT_ACME_API_KEYS", f"{ACME},short", "OPENROUTER_TENANT_ACME_API_KEYS: not a valid API key"),
        ("OPENROUTER_TENANT_ACME_API_KEYS", f"{ACME},é", "OPENROUTER_TENANT_ACME_API_KEYS[1]: not a valid API key"),
        ("OPENROUTER_TENANT_ACME_DEFAULT_MODEL", "a b", "OPENROUTER_TENANT_ACME_DEFAULT_MODEL: model='a b'"),
        ("OPENROUTER_TENANT_ACME_REQUESTS_PER_MINUTE", "0", "OPENROUTER_TENANT_ACME_REQUESTS_PER_MINUTE='0': must be"),
        ("OPENROUTER_TENANT_ACME_TOKENS_PER_MINUTE", "1.5", "OPENROUTER_TENANT_ACME_TOKENS_PER_MINUTE='1.5': must be"),
        ("OPENROUTER_TENANT_ACME_REQUESTS_PER_DAY", "-1", "OPENROUTER_TENANT_ACME_REQUESTS_PER_DAY='-1': must be"),
        ("OPENROUTER_TENANT_ACME_CONCURRENCY", "many", "OPENROUTER_TENANT_ACME_CONCURRENCY='many': must be"),
        ("OPENROUTER_TENANT_ACME_QUEUE_SIZE", "1000001", "OPENROUTER_TENANT_ACME_QUEUE_SIZE: must be a whole number"),
        ("OPENROUTER_TENANT_ACME_QUEUE_SIZE", "5", "OPENROUTER_TENANT_ACME_QUEUE_SIZE: needs OPENROUTER_TENANT_ACME_C"),
        ("OPENROUTER_TENANT_ACME_QUEUE_TIMEOUT", "0", "OPENROUTER_TENANT_ACME_QUEUE_TIMEOUT: must be a number above"),
        ("OPENROUTER_TENANT_ACME_QUEUE_TIMEOUT", "5", "OPENROUTER_TENANT_ACME_QUEUE_TIMEOUT: needs OPENROUTER_TENANT_"),
        ("OPENROUTER_TENANT_ACME_BUDGET", "5/week", "OPENROUTER_TENANT_ACME_BUDGET='5/week': must be US dollars"),
        ("OPENROUTER_TENANT_ACME_FALLBACK_MODELS", "a,b c", "OPENROUTER_TENANT_ACME_FALLBACK_MODELS"),
    ],
)
def test_variables_that_cannot_be_read_are_named(variable: str, text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings({"OPENROUTER_TENANT_ACME_API_KEY": GLOBEX, variable: text})
    assert str(caught.value).startswith(told)
    assert ACME not in str(caught.value)


def test_two_names_of_one_setting_contradict_each_other() -> None:
    environment = {
        "INFRON_TENANT_A_DEFAULT_MODEL": "x",
        "ONEROUTER_TENANT_A_DEFAULT_MODEL": "y",
        "INFRON_TENANT_A_API_KEY": ACME,
    }
    with pytest.raises(ConfigurationError, match="ONEROUTER_TENANT_A_DEFAULT_MODEL: contradicts another variable"):
        settings(environment)


@pytest.mark.parametrize(
    ("tenants", "told"),
    [
        ("acme", "tenants: must be a list of Tenant"),
        ({"acme": ACME}, "tenants: must be a list of Tenant"),
        (5, "tenants: must be a list of Tenant"),
        (["acme"], "tenants: must be a list of Tenant, and holds a str"),
        ([Tenant("a", ACME), Tenant("a", GLOBEX)], "tenants: 'a' is there twice"),
        ([Tenant("a")], "tenant 'a' has no OpenRouter API key: set OPENROUTER_TENANT_A_API_KEY or pass Tenant"),
        ([Tenant("a", {"infron": ACME})], "tenant 'a': has a key for 'infron', which is not among openrouter"),
    ],
)
def test_tenants_that_are_none(tenants: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(tenants=tenants)
    assert str(caught.value).startswith(told)


def test_where_no_key_is_needed_tenants_need_none() -> None:
    assert [*settings(tenants=[Tenant("a")], base_url="http://127.0.0.1:1/v1").tenants] == ["a"]
    assert [*settings(tenants=[Tenant("a")], dev_mode=True).tenants] == ["a"]


# --- the clients ---


def test_a_tenants_client() -> None:
    transport = ScriptedTransport()
    with Client(tenants=TENANTS, transport=transport, runtime=VirtualRuntime()) as client:
        acme = client.tenant("acme")
        assert acme is client.tenant("acme")
        assert repr(acme) == "Client(gateway='openrouter', default_model='a/one', tenant='acme')"
        for forbidden in (client.complete, client.stream, client.explain):
            with pytest.raises(ConfigurationError, match=r"client\.tenant\(name\)"):
                forbidden("Hello")
        with pytest.raises(ConfigurationError, match="no such tenant"):
            client.tenant("umbrella")
        assert acme.complete("Hello").model == A
        assert client.with_options(timeout=5).tenant("globex").complete("Hello").model == B
        assert [row.tenant for row in client.usage().rows] == ["acme", "globex"]
        assert [row.tenant for row in acme.usage().rows] == ["acme"]
        assert (acme.stats().calls, client.stats().calls) == (1, 2)
        acme.close()
        assert acme.complete("Hello again").model == A
    with pytest.raises(ConfigurationError, match="closed"):
        acme.complete("Hello")


def test_an_async_tenants_client() -> None:
    async def run() -> None:
        async with AsyncClient(tenants=TENANTS, transport=ScriptedTransport(), runtime=VirtualRuntime()) as client:
            assert (await client.tenant("globex").complete("Hello")).model == B
            with pytest.raises(ConfigurationError, match=r"client\.tenant\(name\)"):
                await client.complete("Hello")
            with pytest.raises(ConfigurationError):
                client.stream("Hello")

    asyncio.run(run())


def test_a_request_that_cannot_be_is_refused_for_what_it_is() -> None:
    with Client(tenants=TENANTS, transport=ScriptedTransport()) as client, pytest.raises(InvalidRequestError):
        client.tenant("acme").complete("Hello", temprature=1)  # type: ignore[call-arg]


def test_routers_of_tenants_have_keys_of_their_own() -> None:
    shared = settings(tenants=[Tenant("a", ACME), Tenant("b", ACME)])
    router = Router(shared, VirtualRuntime())
    a, b = (router.sharing(settings_for(shared, name)).access["openrouter"].keys for name in ("a", "b"))
    assert a[0] is not b[0]
    assert (a[0].owner, b[0].owner) == ("a", "b")
    assert router.sharing(settings_for(shared, "a")).access["openrouter"].keys is a
