"""Tenants of the environment: an exact pattern, no value repeated, and slips reported."""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import pytest

from routerkit import AsyncClient, Client, ConfigurationError, Tenant
from routerkit.config import settings_from
from tests.security.canaries import KEY, SECOND_KEY, leaks, listening, said_by, shown_by

each_prefix = pytest.mark.parametrize("prefix", ["OPENROUTER_", "INFRON_", "ONEROUTER_"])
OTHER = "sk-other-1234567890"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENROUTER_", "ONEROUTER_", "INFRON_", "DEV_MODE", "ROUTERKIT_")):
            monkeypatch.delenv(name)


NAMES = {
    "ACME": "acme",
    "1": "1",
    "007": "007",
    "ACME_EU": "acme_eu",
    "API_KEY": "api_key",
    "TENANT": "tenant",
    "A_DEFAULT_MODEL": "a_default_model",
    "A" * 64: "a" * 64,
}


@each_prefix
@pytest.mark.parametrize("name", NAMES)
def test_a_variable_is_met_by_the_whole_pattern(prefix: str, name: str) -> None:
    settings = settings_from({f"{prefix}TENANT_{name}_API_KEY": KEY})
    assert [*settings.tenants] == [NAMES[name]]
    assert settings.keys == {}, "a tenant's key is nobody else's"


NO_NAMES = (
    *("TENANT_API_KEY", "TENANT__API_KEY", "TENANT_acme_API_KEY", "TENANT_Acme_API_KEY", "TENANT_A__B_API_KEY"),
    *("TENANT_A_API_KEY_", "TENANT_A_API_KEY2", "TENANT_A_APIKEY", "TENANT_A_KEY", "TENANT_A", "TENANT_", "TENANT__"),
    *("TENANT_Ä_API_KEY", "TENANT_A-B_API_KEY", "TENANT_A B_API_KEY", "TENANT_A_API_KEY\n", "TENANT_*_API_KEY"),
    *("TENANT_A/B_API_KEY", "TENANT_{}_API_KEY", "TENANT_１_API_KEY", "TENANT_" + "A" * 65 + "_API_KEY"),
    *("TENANT_A_BASE_URL", "TENANT_A_ENABLED", "TENANT_A_LIMITS", "TENANT_A_api_key", "TENANT_\u200bA_API_KEY"),
)


@each_prefix
@pytest.mark.parametrize("variable", NO_NAMES, ids=repr)
def test_what_only_resembles_it_is_an_error(prefix: str, variable: str) -> None:
    """And is no key of a tenant that nobody meant. The error names the variable on one line, of bounded length."""
    with pytest.raises(ConfigurationError) as caught:
        settings_from({prefix + variable: KEY, f"{prefix}API_KEY": OTHER})
    told = str(caught.value)
    assert "TENANT" in told or "Tenant(name=" in told
    assert told.isprintable()
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


@pytest.mark.parametrize(
    "variable", ["TENANTS_A_API_KEY", "tenant_A_API_KEY", "MY_TENANT_A_API_KEY", "ENANT_A_API_KEY"]
)
def test_what_begins_otherwise_is_none_of_ours(variable: str) -> None:
    assert settings_from({f"OPENROUTER_{variable}": KEY, "OPENROUTER_API_KEY": OTHER}).tenants == {}


@pytest.mark.parametrize("name", ["A_" * 50_000, "A_API_KEY_" * 10_000, "A" * 100_000, "_" * 100_000])
def test_a_name_of_any_length_is_refused_in_no_time_and_in_few_words(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_from({f"OPENROUTER_TENANT_{name}API_KEY": KEY})
    assert len(str(caught.value)) < 1000


WRONG = {
    "API_KEY": ("short", f"{KEY} {KEY}", f"{KEY}\n{KEY}", KEY * 20, f"{KEY}é"),
    "API_KEYS": (f"{KEY},x", f"{KEY}; {KEY},", ",", f"{KEY},{KEY} {KEY}"),
    "DEFAULT_MODEL": (f"{KEY} {KEY}", f"{KEY},{SECOND_KEY}", f"a/one\r\n{KEY}", KEY * 10),
    "FALLBACK_MODELS": (f"a/one,{KEY} x", f"{KEY};{SECOND_KEY}"),
}
CASES = [(variable, value) for variable, values in WRONG.items() for value in range(len(values))]


@each_prefix
@pytest.mark.parametrize(("variable", "place"), CASES)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_no_value_is_repeated(
    prefix: str, variable: str, place: int, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with it: keys stand in wrong variables."""
    monkeypatch.setenv(f"{prefix}TENANT_ACME_API_KEY", KEY)
    monkeypatch.setenv(f"{prefix}TENANT_ACME_{variable}", WRONG[variable][place])
    with (
        listening() as listener,
        pytest.raises(ConfigurationError, match=rf"{prefix}TENANT_ACME_{variable}\b") as caught,
    ):
        kind.from_env()
    assert leaks([*said_by(caught.value), *shown_by(caught.value), *listener.lines]) == []


# --- slips ---


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def numbered(*names: str) -> dict[str, str]:
    return {f"OPENROUTER_TENANT_{name}_API_KEY": f"sk-of-number-{name}-123456" for name in names}


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("1", "3"), ["2"]),
        (("2", "3"), []),
        (("0", "1", "2"), []),
        (("1", "2", "3"), []),
        (("1", "4", "ACME"), ["2", "3"]),
        (("2024", "ACME"), []),
        (("1", "2024"), [str(number) for number in range(2, 12)]),
        (("ACME", "GLOBEX"), []),
        (("1", "123456789012345678901234567890"), []),
    ],
)
def test_a_gap_between_numbered_tenants_is_reported(
    names: tuple[str, ...], missing: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Each by the name of its variables, ten at most; it is no error: somebody may have left."""
    settings = settings_from(numbered(*names))
    assert {*settings.tenants} == {name.lower() for name in names}
    assert [found for line in told(caplog) for found in re.findall(r"OPENROUTER_TENANT_([0-9]+)_", line)] == missing


def test_two_that_are_the_same_number_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_from(numbered("1", "01"))
    assert settings.tenants.keys() == {"1", "01"}, "and stay two"
    (line,) = told(caplog)
    assert "'1'" in line
    assert "'01'" in line


@pytest.mark.parametrize("given", [False, True], ids=["by variables", "by arguments"])
def test_one_key_of_two_tenants_is_reported(given: bool, caplog: pytest.LogCaptureFixture) -> None:
    """They would share limits and bill; it may be meant."""
    if given:
        settings_from({}, tenants=[Tenant("acme", [OTHER, KEY]), Tenant("globex", KEY)])
    else:
        settings_from({"OPENROUTER_TENANT_ACME_API_KEYS": f"{OTHER},{KEY}", "OPENROUTER_TENANT_GLOBEX_API_KEY": KEY})
    (line,) = told(caplog)
    assert "acme" in line
    assert "globex" in line
    assert leaks([("the log", caplog.text)]) == []


def test_what_is_said_twice_must_be_the_same() -> None:
    """By the gateway's two names, or for two gateways."""
    values = {"INFRON_TENANT_ACME_API_KEY": KEY, "INFRON_TENANT_ACME_DEFAULT_MODEL": "a/one"}
    for gateways in (["infron"], ["infron", "onerouter"]):
        assert settings_from(values, gateways=gateways).tenants["acme"].default_model == "a/one"
    more = {**values, "ONEROUTER_TENANT_ACME_DEFAULT_MODEL": "b/two"}
    with pytest.raises(
        ConfigurationError, match="TENANT_ACME_DEFAULT_MODEL: contradicts another variable of tenant 'acme'"
    ):
        settings_from(more, gateways=["infron", "onerouter"])


def test_nothing_is_reported_of_what_is_in_order(caplog: pytest.LogCaptureFixture) -> None:
    settings_from({**numbered("1", "2", "ACME"), "OPENROUTER_TENANT_1_DEFAULT_MODEL": "a/one"})
    settings_from({}, tenants=[Tenant("acme", [KEY, SECOND_KEY, KEY])])
    assert told(caplog) == []
