"""Tenants, their limits and budgets as values; and how keys are read."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections import UserList
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import attrs
import pytest

from routerkit import AsyncClient, Client
from routerkit.errors import ConfigurationError, InvalidRequestError
from routerkit.testing import ScriptedTransport
from routerkit.types.limits import ON_UNKNOWN_PRICE, PERIODS, Budget, Limits
from routerkit.types.secret import RedactedStr, Secret, keys_from_text, keys_of, shown
from routerkit.types.tenant import Tenant
from tests.security.canaries import KEY, leaks, said_by, shown_by

ONE, TWO = "sk-test-1234567890", "sk-test-0987654321"

# --- keys ---


def revealed(keys: Any) -> Any:
    """The keys as they were given."""
    if isinstance(keys, tuple):
        return [key.reveal() for key in keys]
    return {gateway: revealed(each) for gateway, each in keys.items()}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (ONE, [ONE]),
        (f" {ONE}\n", [ONE]),
        (RedactedStr(ONE), [ONE]),
        (Secret(ONE), [ONE]),
        ([ONE, TWO], [ONE, TWO]),
        ((TWO, Secret(ONE)), [TWO, ONE]),
        (UserList([ONE]), [ONE]),
        ([TWO, ONE, f"{TWO} ", Secret(ONE)], [TWO, ONE]),
        ({"openrouter": ONE, "infron": [TWO, ONE, TWO]}, {"openrouter": [ONE], "infron": [TWO, ONE]}),
        (MappingProxyType({"local": (Secret(ONE),)}), {"local": [ONE]}),
    ],
)
def test_keys(given: Any, read: Any) -> None:
    assert revealed(keys_of(given, "api_key")) == read


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "api_key: must be a string, not NoneType; or a list of strings"),
        (5, "api_key: must be a string, not int"),
        (b"sk-test-1234567890", "api_key: must be a string, not bytes"),
        ({ONE}, "api_key: must be a string, not set"),
        ([], "api_key: holds no key"),
        ((), "api_key: holds no key"),
        ({}, "api_key: the dict is empty"),
        ("", "api_key: not a valid API key"),
        (" ", "api_key: not a valid API key"),
        (f'"{ONE}"', "api_key: not a valid API key: it has quotes around it"),
        (f"{ONE}'", "api_key: not a valid API key: it has quotes around it"),
        ([ONE, "é"], r"api_key\[1\]: not a valid API key"),
        ([ONE, None], r"api_key\[1\]: must be a string, not NoneType"),
        ([[ONE]], r"api_key\[0\]: must be a string, not list"),
        ({"openrouter": []}, r"api_key\['openrouter'\]: holds no key"),
        ({"openrouter": [ONE, 5]}, r"api_key\['openrouter'\]\[1\]: must be a string, not int"),
        ({"openrouter": None}, r"api_key\['openrouter'\]: must be a string, not NoneType"),
        ({"openrouter": {"infron": ONE}}, r"api_key\['openrouter'\]: must be a string, not dict"),
        ({5: ONE}, "api_key: must go from gateway name to key, not from int"),
        ({"x" * 21: 5}, r"api_key\[…\]: must be a string, not int"),
    ],
)
def test_what_is_no_keys(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{told}"):
        keys_of(given, "api_key")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (ONE, [ONE]),
        (f" {ONE} , {TWO},", [ONE, TWO]),
        (f"{ONE},{ONE}", [ONE]),
        (RedactedStr(f"{TWO},,{ONE}"), [TWO, ONE]),
    ],
)
def test_keys_between_commas(text: str, read: list[str]) -> None:
    assert revealed(keys_from_text(text, "OPENROUTER_API_KEYS")) == read


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "OPENROUTER_API_KEYS: holds no key"),
        (" , ,", "OPENROUTER_API_KEYS: holds no key"),
        ("é", "OPENROUTER_API_KEYS: not a valid API key"),
        (f"{ONE},é", r"OPENROUTER_API_KEYS\[1\]: not a valid API key"),
        (f"{ONE} {TWO}", "OPENROUTER_API_KEYS: not a valid API key"),
    ],
)
def test_what_is_no_keys_between_commas(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{told}"):
        keys_from_text(text, "OPENROUTER_API_KEYS")


# Where a key stands besides something that is wrong. Not in a local: the frames of the tests are looked at too.
UNREADABLE: dict[str, Any] = {
    "a blank": KEY + " 1",
    "bytes": KEY.encode(),
    "a set": {KEY},
    "a list with a number": [KEY, 5],
    "a list in a list": [[KEY]],
    "a list of bytes": [KEY.encode()],
    "a dict with a number": {"openrouter": KEY, "infron": 5},
    "a dict of bytes": {"openrouter": KEY.encode()},
    "a dict the wrong way round": {KEY: 5},
    "a dict by number": {5: KEY},
    "too long": KEY * 20,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_keys_that_cannot_be_read_are_not_shown(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        keys_of(UNREADABLE[name], "api_key")
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


@pytest.mark.parametrize("end", [",1 2", "é", " 1", f" {ONE},{TWO}"])
def test_keys_between_commas_that_cannot_be_read_are_not_shown(end: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        keys_from_text(KEY + end, "OPENROUTER_API_KEYS")
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


# --- tenants ---


def test_a_tenant() -> None:
    limits, budget = Limits(requests_per_minute=60), Budget(5)
    tenant = Tenant("acme", ONE, "a/one", ["b/two", "c/three"], limits, budget)
    assert (tenant.name, tenant.default_model, tenant.fallback_models) == ("acme", "a/one", ("b/two", "c/three"))
    assert (tenant.limits, tenant.budget) == (limits, budget)
    assert revealed(tenant.keys) == [ONE]


def test_a_tenant_may_leave_all_to_the_client() -> None:
    tenant = Tenant("acme")
    assert (tenant.keys, tenant.default_model, tenant.fallback_models) == (None, None, None)
    assert (tenant.limits, tenant.budget) == (None, None)
    assert Tenant("acme", fallback_models=[]).fallback_models == ()


def test_keys_of_a_tenant_by_gateway() -> None:
    given = {"openrouter": [ONE, TWO], "infron": TWO}
    tenant = Tenant("acme", api_key=given)
    given.clear()
    assert revealed(dict(tenant.keys or {})) == {"openrouter": [ONE, TWO], "infron": [TWO]}
    with pytest.raises(TypeError):
        tenant.keys["infron"] = ()  # type: ignore[index]


@pytest.mark.parametrize("name", ["a", "Acme-2_b.c", "0", "x" * 64])
def test_tenant_names(name: str) -> None:
    assert Tenant(name).name == name


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a/b", "a\n", "ä", "{x}", None, 5, b"a", ["a"], "x" * 65, "x\n" * 9999]
)
def test_refused_tenant_names(name: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"Tenant\(name=.*\): must be 1 to 64 letters, digits or _ - \."
    ) as caught:
        Tenant(name)
    assert len(str(caught.value)) < 150
    assert str(caught.value).isprintable()


def test_tenants_compare_exactly() -> None:
    assert Tenant("acme", ONE) == Tenant("acme", [ONE, ONE])
    assert Tenant("acme") != Tenant("Acme")
    assert Tenant("acme", ONE) != Tenant("acme", TWO) != Tenant("acme", {"openrouter": TWO})
    assert len({Tenant("acme", {"openrouter": ONE}), Tenant("acme", {"openrouter": ONE}), Tenant("Acme")}) == 2


def test_a_tenant_is_frozen_and_can_be_varied() -> None:
    tenant = Tenant("acme", {"openrouter": ONE}, "a/one")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        tenant.name = "other"  # type: ignore[misc]
    varied = attrs.evolve(tenant, default_model="b/two")
    assert (varied.name, varied.default_model, varied.keys) == ("acme", "b/two", tenant.keys)
    assert revealed(attrs.evolve(Tenant("acme", ONE), api_key=TWO).keys) == [TWO]


def test_a_tenant_shows_no_key_and_does_not_travel() -> None:
    tenant = Tenant("acme", [KEY, ONE], "a/one", limits=Limits(concurrency=2))
    assert repr(tenant) == str(tenant)
    assert repr(tenant).startswith("Tenant(name='acme', default_model='a/one'")
    assert leaks([("repr", repr(tenant)), ("keys", repr(tenant.keys)), ("dict", repr(attrs.asdict(tenant)))]) == []
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="a Tenant cannot be pickled or copied"):
            pickle.dumps(tenant, protocol)
    for carry in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="a Tenant cannot be pickled or copied"):
            carry(tenant)


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_a_key_under_a_wrong_name_is_not_shown(make: Any) -> None:
    with pytest.raises(TypeError, match=r"'apikey'; did you mean api_key=\?$") as caught:
        make(apikey=KEY)
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []
    with pytest.raises(TypeError, match=r"'model'; did you mean default_model=\?$"):
        make(model="a/one")
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'colour'$"):
        make(colour=1)


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_a_key_for_a_client_of_other_options_is_not_shown(make: Any) -> None:
    client = make(dev_mode=True)
    with pytest.raises(ConfigurationError, match=r"with_options\(api_key=…\)") as caught:
        client.with_options(api_key=KEY)
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


def test_what_errors_show_of_a_value() -> None:
    assert [shown(each) for each in (None, 5, 0.5, True, 10**50)] == ["None", "5", "0.5", "True", f"{10**50}"]
    assert [shown(each) for each in ("word", "sk-1", "x" * 21, [KEY], 10**100, -(10**5000))] == [
        "'word'",
        "…",
        "…",
        "a list",
        "…",
        "…",
    ]


def test_a_key_given_in_place_of_its_fingerprint_is_not_shown() -> None:
    client = Client(gateway="openrouter", api_key=KEY, transport=ScriptedTransport())
    with pytest.raises(InvalidRequestError, match="key= is the fingerprint of none") as caught:
        client.key_info(key=KEY)
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []
    other = AsyncClient(gateway="openrouter", api_key=KEY, transport=ScriptedTransport())
    with pytest.raises(InvalidRequestError, match="key= is the fingerprint of none") as caught:
        asyncio.run(other.key_info(key=KEY))
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a model": (
        {"name": "acme", "api_key": KEY, "default_model": "a b"},
        r"Tenant\('acme'\): default_model='a b': not a model id",
    ),
    "a fallback": (
        {"name": "acme", "api_key": KEY, "fallback_models": ["a b"]},
        r"Tenant\('acme'\): fallback_models='a b'",
    ),
    "a string of fallbacks": (
        {"name": "acme", "api_key": KEY, "fallback_models": "a/one"},
        r"Tenant\('acme'\): fallback_models='a/one': must be a list",
    ),
    "limits": (
        {"name": "acme", "api_key": KEY, "limits": {"concurrency": 1}},
        r"Tenant\(limits=…\): must be a Limits, not dict",
    ),
    "a budget": ({"name": "acme", "api_key": KEY, "budget": 5}, r"Tenant\(budget=…\): must be a Budget, not int"),
    "a name": ({"name": "a b", "api_key": KEY}, r"Tenant\(name='a b'\)"),
    "a list of keys": ({"name": "acme", "api_key": [KEY, ""]}, r"Tenant: api_key\[1\]: not a valid API key"),
    "another name": ({"name": "a b", "api_key": {"openrouter": [KEY]}}, r"Tenant\(name='a b'\)"),
    "bytes": ({"name": "acme", "api_key": KEY.encode()}, "Tenant: api_key: must be a string, not bytes"),
    "a blank": ({"name": "acme", "api_key": f"{KEY} 1"}, "Tenant: api_key: not a valid API key"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tenant_that_cannot_be_made_shows_no_key(name: str) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED[name][1]) as caught:
        Tenant(**REFUSED[name][0])
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


# --- limits and budgets ---

COUNTS = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "concurrency")


def test_no_limits() -> None:
    assert attrs.astuple(Limits()) == (None, None, None, None, 0, None)
    assert Limits(*[None] * 4) == Limits()


def test_limits() -> None:
    limits = Limits(60, 100_000, 1_000, 8, queue_size=32, queue_timeout=2.5)
    assert (limits.requests_per_minute, limits.tokens_per_minute, limits.requests_per_day) == (60, 100_000, 1_000)
    assert (limits.concurrency, limits.queue_size, limits.queue_timeout) == (8, 32, 2.5)
    assert repr(Limits(concurrency=8)).startswith("Limits(requests_per_minute=None")
    assert pickle.loads(pickle.dumps(limits)) == limits
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        limits.concurrency = 9  # type: ignore[misc]


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "60", 10**12 + 1, float("inf"), []])
@pytest.mark.parametrize("name", COUNTS)
def test_refused_counts(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Limits\({name}=.*\): must be a whole number"):
        Limits(**{name: value})


@pytest.mark.parametrize("value", [None, -1, 1.5, True, "1", 10**6 + 1])
def test_refused_queues(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Limits\(queue_size=.*\): must be a whole number"):
        Limits(queue_size=value)


@pytest.mark.parametrize("value", [0, -1, 86_401, True, "1", float("nan"), float("inf")])
def test_refused_waits(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Limits\(queue_timeout=.*\): must be a number above 0"):
        Limits(queue_timeout=value)


@pytest.mark.parametrize("queue", [{"queue_size": 1}, {"queue_timeout": 2.5}, {"queue_size": 8, "queue_timeout": 1}])
def test_nobody_queues_where_concurrency_has_no_limit(queue: dict[str, Any]) -> None:
    field, value = next(iter(queue.items()))
    with pytest.raises(
        ConfigurationError, match=rf"^Limits\({field}={value}\): needs concurrency=, the limit that callers queue for$"
    ):
        Limits(requests_per_minute=60, **queue)
    assert Limits(concurrency=1, **queue).concurrency == 1
    assert Limits(queue_size=0) == Limits()


@pytest.mark.parametrize(
    ("given", "usd"),
    [
        ("2.50", "2.50"),
        (5, "5"),
        (0, "0"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (Decimal("0.000001"), "0.000001"),
        ("1e-3", "0.001"),
        (10**9, "1000000000"),
    ],
)
def test_budgets(given: Any, usd: str) -> None:
    budget = Budget(given)
    assert isinstance(budget.usd, Decimal)
    assert budget.usd == Decimal(usd)
    assert (budget.per, budget.on_unknown_price) == ("day", "refuse")


def test_every_kind_of_budget() -> None:
    for per in PERIODS:
        for on_unknown_price in ON_UNKNOWN_PRICE:
            budget = Budget("5", per=per, on_unknown_price=on_unknown_price)  # type: ignore[arg-type]
            assert (budget.per, budget.on_unknown_price) == (per, on_unknown_price)
            assert pickle.loads(pickle.dumps(budget)) == budget
    assert repr(Budget("5")) == "Budget(usd=Decimal('5'), per='day', on_unknown_price='refuse')"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Budget(5).usd = Decimal(6)  # type: ignore[misc]


@pytest.mark.parametrize(
    "usd",
    [
        *(None, True, -1, 10**9 + 1, 10**4000, float("nan"), float("inf"), Decimal("NaN"), Decimal("sNaN"), [5], b"5"),
        *("-0.01", "", "five", "$5", "1,5", "nan", "inf", "1e10", "9" * 5000),
    ],
    ids=lambda usd: type(usd).__name__,
)
def test_refused_budgets(usd: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"Budget\(usd=.*\): must be an amount of US dollars from 0 on"
    ) as caught:
        Budget(usd)
    assert len(str(caught.value)) < 150
    assert list(shown_by(caught.value)), "its frames can be shown"


def test_a_budget_that_is_too_long_to_be_written() -> None:
    with pytest.raises(ConfigurationError, match=r"Budget\(usd=.*\): must be an amount of US dollars"):
        Budget(10**5000)


@pytest.mark.parametrize("value", [None, "", "week", "Day", 5, ["day"], "x" * 999])
def test_refused_periods(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Budget\(per=.*\): must be one of day, month, total") as caught:
        Budget(5, per=value)
    assert len(str(caught.value)) < 150
    with pytest.raises(ConfigurationError, match=r"Budget\(on_unknown_price=.*\): must be one of refuse, allow"):
        Budget(5, on_unknown_price=value)
