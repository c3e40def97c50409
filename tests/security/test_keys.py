"""Keys: what is one, where it goes, and that nothing shows it while a client is being made."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from rich.pretty import pretty_repr

from routerkit import AsyncClient, Client, ConfigurationError, Gateway, InvalidRequestError, Tenant
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from routerkit.types.secret import Credential, RedactedStr, Secret
from tests.security.canaries import KEY, SECOND_KEY, found_in, leaks, said_by, shown_by
from tests.support.facades import FACADES as CALLERS

FACADES: dict[str, Any] = {"sync": Client, "async": AsyncClient}
each_facade = pytest.mark.parametrize("facade", FACADES.values(), ids=FACADES)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENROUTER_", "ONEROUTER_", "INFRON_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("written", ["{}\n", "  {}", "{}\r\n", "\t{}\t\n\n", "\ufeff{}"], ids=repr)
def test_a_key_from_a_file_is_sent_without_the_blanks_around_it(written: str) -> None:
    if "\ufeff" in written:
        with pytest.raises(ConfigurationError, match="not a valid API key"):
            Client(api_key=written.format(KEY))
        return
    with FaultServer() as server:
        with Client(api_key=written.format(KEY), base_url=server.url) as client:
            client.complete("Hello", model="a/one")

        async def main() -> None:
            async with AsyncClient(api_key=written.format(KEY), base_url=server.url) as client:
                await client.complete("Hello", model="a/one")

        asyncio.run(main())
        assert [request.header("Authorization") for request in server.requests] == [f"Bearer {KEY}"] * 2


NOT_A_KEY = r"not a valid API key: .*Secret\(…[0-9a-f]{6}\)"
REFUSED = {
    "a line break": "{}\nX-Other: 1",
    "a carriage return": "{}\r1",
    "a zero byte": "{}\x00",
    "a blank": "{} 1",
    "DEL": "{}\x7f",
    "no ASCII": "{}é",
    "a surrogate": "{}\udc80",
    "too long": "{}" * 20,
}


@each_facade
@pytest.mark.parametrize("source", ["argument", "environment"])
@pytest.mark.parametrize("key", REFUSED.values(), ids=REFUSED)
def test_a_key_that_could_break_a_header_is_refused_unseen(
    facade: Any, source: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "environment" and "\x00" in key:
        return  # no environment can hold it
    if source == "environment":
        monkeypatch.setenv("OPENROUTER_API_KEY", key.format(*[KEY] * 20))
        with pytest.raises(ConfigurationError, match=NOT_A_KEY) as caught:
            facade.from_env()
    else:
        with pytest.raises(ConfigurationError, match=NOT_A_KEY) as caught:
            facade(api_key=key.format(*[KEY] * 20))
    assert leaks(said_by(caught.value)) == []


KEY_LINE = {"OPENROUTER_API_KEY": KEY}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "a bad timeout": {"arguments": {"api_key": KEY, "timeout": 0}},
    "a bad model": {"arguments": {"api_key": KEY, "default_model": "a b"}},
    "an option to come": {"arguments": {"api_key": KEY, "tenants": {"acme": {}}}},
    "an unknown gateway": {"arguments": {"api_key": KEY, "gateway": "nowhere"}},
    "a bad variable": {"environment": {**KEY_LINE, "OPENROUTER_MAX_RETRIES": "many"}},
    "a key in the wrong variable": {"environment": {**KEY_LINE, "OPENROUTER_TIMEOUT": KEY}},
    "a tenant's bad variable": {"environment": {**KEY_LINE, "OPENROUTER_TENANT_ACME_KEY": KEY}},
    "a tenant's bad key": {"environment": {"OPENROUTER_TENANT_ACME_API_KEYS": f"{KEY},x"}},
    "a tenant without a key": {"environment": {**KEY_LINE, "OPENROUTER_TENANT_ACME_DEFAULT_MODEL": "a/one"}},
    "keys of which one is bad": {"arguments": {"api_key": [KEY, "x"]}},
    "a key for a gateway that is not there": {"arguments": {"api_key": {"elsewhere": KEY}}},
    "a key in the place of a gateway": {"arguments": {"api_key": {KEY: "openrouter"}}},
    "a tenant's key for a gateway that is not there": {
        "arguments": {"tenants": [Tenant("acme", {"elsewhere": [KEY, SECOND_KEY]})]}
    },
    "a tenant twice": {"arguments": {"tenants": [Tenant("acme", KEY), Tenant("acme", [SECOND_KEY])]}},
    "a second gateway's key missing": {
        "arguments": {"gateways": ["openrouter", "infron"], "api_key": [KEY, SECOND_KEY]}
    },
    "a bad one in a dict": {"arguments": {"api_key": {"openrouter": [KEY, f"{SECOND_KEY}\n{KEY}"]}}},
    "a file with a tenant that wants the key": {
        "environment": {"OPENROUTER_TENANT_ACME_API_KEYS": f"{KEY},{SECOND_KEY}"},
        "file": "OPENROUTER_BASE_URL=https://elsewhere.example/v1\n",
    },
    "switched off": {"environment": {**KEY_LINE, "OPENROUTER_ENABLED": "false"}},
    "dev mode in production": {"environment": {**KEY_LINE, "DEV_MODE": "1", "ROUTERKIT_ENV": "production"}},
    "a bad file": {"file": f"OPENROUTER_API_KEY={KEY}\nOPENROUTER_TIMEOUT=soon\n"},
    "a file that wants the key": {
        "environment": KEY_LINE,
        "file": "OPENROUTER_BASE_URL=https://elsewhere.example/v1\n",
    },
    "a file that is none": {"environment": KEY_LINE, "file": ""},
}
"""Ways to make a client that fail while a key is at hand."""


def make(facade: Any, name: str, folder: Path) -> None:
    """Without a local that holds a key: the frames of the test are looked at too."""
    if "arguments" in CONFIGURATIONS[name]:
        facade(**CONFIGURATIONS[name]["arguments"])
    elif "file" in CONFIGURATIONS[name]:
        facade.from_env(folder / "settings.env")
    else:
        facade.from_env()


@each_facade
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_client_that_cannot_be_made_shows_no_key(
    facade: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor the passwords of others that stand in the environment."""
    monkeypatch.setenv("DATABASE_URL", f"postgres://me:{KEY}@db.example/x")
    for variable in CONFIGURATIONS[name].get("environment", {}):
        monkeypatch.setenv(variable, CONFIGURATIONS[name]["environment"][variable])
    if CONFIGURATIONS[name].get("file"):
        (tmp_path / "settings.env").write_text(CONFIGURATIONS[name]["file"])
    with pytest.raises(ConfigurationError) as caught:
        make(facade, name, tmp_path)
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


MISPLACED: dict[str, dict[str, Any]] = {
    "gateway": {"gateway": KEY},
    "gateways": {"gateways": ["openrouter", KEY], "api_key": KEY},
    "strategy": {"api_key": KEY, "strategy": KEY},
    "fallback_strategy": {"api_key": KEY, "fallback_strategy": KEY},
    "store": {"api_key": KEY, "store": KEY},
    "aliases": {"api_key": KEY, "aliases": {"a/one": {KEY: "b"}}},
    "api_key": {"api_key": {KEY: "openrouter"}},
    "tenants": {"tenants": [KEY]},
}


@each_facade
@pytest.mark.parametrize("argument", MISPLACED)
def test_a_key_in_a_wrong_argument_is_not_repeated(facade: Any, argument: str) -> None:
    """One for a name, where a key is easily taken for it."""
    with pytest.raises((ConfigurationError, TypeError)) as caught:
        facade(**MISPLACED[argument])
    assert not found_in(str(caught.value) + repr(caught.value))


@pytest.mark.parametrize("key", [KEY, KEY.lower()])
def test_nor_is_it_taken_for_a_tenants_name(key: str) -> None:
    """A name is shown wherever there is one."""
    for second in ("acme-the-tenant", SECOND_KEY, {key: key}):
        with pytest.raises(ConfigurationError) as caught:
            Tenant(key, second)
        assert not found_in(str(caught.value) + repr(caught.value))


@pytest.mark.parametrize("facade", CALLERS)
def test_a_key_asked_for_by_itself_is_not_repeated(facade: str) -> None:
    """`key=` is a fingerprint; that somebody gives the key is a mistake that is easily made."""
    with FaultServer() as server:
        gateway = Gateway(name="x", base_url=server.url, key_path="/key")
        with CALLERS[facade](gateway=gateway, api_key=[KEY, SECOND_KEY]) as caller:
            for wrong in ("key", "gateway"):
                with pytest.raises(InvalidRequestError) as caught:
                    caller.key_info(**{wrong: KEY})
                assert leaks(said_by(caught.value)) == []
                with pytest.raises(InvalidRequestError) as caught:
                    caller.key_info(**{wrong: "x" * 100_000})
                assert len(str(caught.value)) < 500
        assert server.requests == []


REPEATING = {
    "label": KEY,
    "name": f"my {KEY}",
    "nested": [{"of": [KEY]}, {KEY: KEY}],
    KEY: 1,
    "limit_reset": f"{KEY}ly",
}


@pytest.mark.parametrize("facade", CALLERS)
def test_what_is_told_of_a_key_does_not_hold_it(facade: str) -> None:
    """In no field, and not in what the gateway sent; whatever it repeats."""
    with FaultServer() as server:
        server.route("GET", "/key", r.json_body({"data": {**REPEATING, "expires_at": KEY, "limit": 1}}))
        server.route("GET", "/credits", r.json_body({"data": {**REPEATING, "total_credits": 2}}))
        gateway = Gateway(name="x", base_url=server.url, key_path="/key", credits_path="/credits")
        with CALLERS[facade](gateway=gateway, api_key=[KEY, "sk-other-1234567890"]) as caller:
            info = caller.key_info()
        assert server.requests[-1].api_key == KEY
    said = [("repr", repr(info)), ("to_dict", json.dumps(info.to_dict())), ("raw", repr(info.raw))]
    assert leaks([*said, ("pickle", pickle.dumps(info).decode("latin-1"))]) == []
    assert (info.limit, info.total_credits) == (1, 2)


def test_an_authorization_header_is_not_shown_in_part() -> None:
    """Tools cut long strings before they show them."""
    header = Credential(Secret(KEY * 2), "https://a.example").header
    assert isinstance(header, RedactedStr)
    for cut in (header[:40], header[7:], pretty_repr({"a": [header]}, max_string=40)):
        assert not found_in(repr(cut))


def test_a_secret_is_not_written_by_serialisers() -> None:
    secret = Secret(KEY)
    for careless in (json.dumps, vars):
        with pytest.raises(TypeError):
            careless(secret)
    assert not found_in(json.dumps({"key": secret}, default=str))
    assert not found_in(f"%s %r {secret} {secret!r:>99}" % (secret, secret))
