"""`.env` files: read when they are named, as they stand, and below the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from routerkit import AsyncClient, Client, ConfigurationError
from routerkit.env_file import from_file
from routerkit.types.secret import Secret
from tests.security.canaries import KEY, found_in, leaks, listening, said_by, shown_by

CLIENTS: dict[str, Any] = {"sync": Client, "async": AsyncClient}
each_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENROUTER_", "ONEROUTER_", "INFRON_", "DEV_MODE", "ROUTERKIT_")):
            monkeypatch.delenv(name)


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "settings.env"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def key_of(client: Any, path: Path) -> str | None:
    secret = client.from_env(path).settings.api_key
    return None if secret is None else str.__str__(secret.reveal())


KEYS = {
    "plain": "OPENROUTER_API_KEY={}",
    "exported": "export OPENROUTER_API_KEY={}",
    "in quotes": "OPENROUTER_API_KEY='{}'",
    "a line break in quotes": 'OPENROUTER_API_KEY="{}\\n"',
    "Windows line ends": "OPENROUTER_API_KEY={}\r\nOPENROUTER_DEFAULT_MODEL=a/one\r\n",
    "a mark at the beginning": "\ufeffOPENROUTER_API_KEY={}",
    "a remark behind": "OPENROUTER_API_KEY={} # ours",
    "blanks": "  OPENROUTER_API_KEY = {}  ",
    "twice, the last one counts": "OPENROUTER_API_KEY=sk-another-key-0\nOPENROUTER_API_KEY={}",
}


@each_client
@pytest.mark.parametrize("line", KEYS.values(), ids=KEYS)
def test_a_key_is_read_as_it_is_meant(client: Any, line: str, tmp_path: Path) -> None:
    assert key_of(client, written(tmp_path, line.format(KEY))) == KEY


@pytest.mark.parametrize("quote", ["", "'", '"'], ids=["bare", "single", "double"])
@pytest.mark.parametrize("name", ["${AWS_SECRET}", "${AWS_SECRET:-x}", "$AWS_SECRET", "$(id)", "`id`"])
def test_nothing_is_filled_in(quote: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that others wrote could carry what is in the environment to a host that it names."""
    monkeypatch.setenv("AWS_SECRET", "hunter22hunter22")
    path = written(tmp_path, f"OPENROUTER_API_KEY={quote}{name}{quote}\nOPENROUTER_BASE_URL=https://evil.example/v1\n")
    if "${" in name:
        with pytest.raises(
            ConfigurationError, match=r"OPENROUTER_API_KEY: holds \$\{…\}, which is not filled in"
        ) as caught:
            Client.from_env(path)
        assert "hunter2" not in str(caught.value)
        return
    assert from_file(path)["OPENROUTER_API_KEY"] == name
    if len(name) >= 8:
        assert key_of(Client, path) == name


@each_client
def test_a_mark_in_the_middle_does_not_hide_a_variable_unnoticed(client: Any, tmp_path: Path) -> None:
    """It is part of the name, as editors that join files leave it; then the key is missing, and that is said."""
    path = written(tmp_path, f"OPENROUTER_DEFAULT_MODEL=a/one\n\ufeffOPENROUTER_API_KEY={KEY}\n")
    with pytest.raises(ConfigurationError, match="API key not configured") as caught:
        client.from_env(path)
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


@each_client
def test_no_folder_above_is_searched(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f"OPENROUTER_API_KEY={KEY}\n")
    below = tmp_path / "project" / "app"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    with pytest.raises(ConfigurationError, match=r"env_file='\.env': no such file"):
        client.from_env(".env")
    with pytest.raises(ConfigurationError, match="API key not configured"):
        client.from_env()
    with pytest.raises(ConfigurationError, match="API key not configured"):
        client()


@each_client
def test_the_environment_wins_and_is_not_changed(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(
        tmp_path,
        f"OPENROUTER_API_KEY={KEY}\nOPENROUTER_DEFAULT_MODEL=file/model\nHTTPS_PROXY=http://evil.example\n"
        "PATH=/evil\nROUTERKIT_ENV=production\n",
    )
    monkeypatch.setenv("OPENROUTER_DEFAULT_MODEL", "env/model")
    before = dict(os.environ)
    assert client.from_env(path).settings.default_model == "env/model"
    assert dict(os.environ) == before


@each_client
@pytest.mark.parametrize("first", ["not a line {}", "'{}", 'X="{}', "= {}", "OPENROUTER_TIMEOUT={}"], ids=repr)
def test_a_line_that_cannot_be_read_is_not_repeated(client: Any, first: str, tmp_path: Path) -> None:
    written(tmp_path, f"{first.format(KEY)}\nOPENROUTER_MAX_RETRIES=many\n")
    with listening() as listener, pytest.raises(ConfigurationError) as caught:
        client.from_env(tmp_path / "settings.env")
    assert leaks([*said_by(caught.value), *shown_by(caught.value), *listener.lines]) == []


def test_only_settings_of_ours_are_read_from_it(tmp_path: Path) -> None:
    """A file cannot switch off what protects: proxies, authorities and the like are no settings of a file."""
    path = written(tmp_path, f"OPENROUTER_API_KEY={KEY}\nSSL_CERT_FILE=/evil.pem\nHTTPS_PROXY=socks5://evil.example\n")
    client = Client.from_env(path)
    assert client.settings.gateway.ca_file is None
    assert not found_in(repr(client.settings))
    assert not re.search("evil", repr(client.settings))


# --- whose key goes where ---

EVIL = "https://evil.example/v1"
OURS = ("API_KEY", "API_KEYS", "TENANT_ACME_API_KEY", "TENANT_ACME_API_KEYS")


@each_client
@pytest.mark.parametrize("variable", OURS)
@pytest.mark.parametrize("gateways", [None, ["infron", "openrouter"]], ids=["one gateway", "two"])
@pytest.mark.parametrize(
    ("prefix", "other"), [("OPENROUTER_", "OPENROUTER_"), ("INFRON_", "ONEROUTER_"), ("ONEROUTER_", "INFRON_")]
)
def test_no_key_of_the_environment_goes_to_an_address_that_only_the_file_names(
    client: Any,
    variable: str,
    gateways: list[str] | None,
    prefix: str,
    other: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not one of several either, nor a tenant's, nor under the gateway's other name."""
    path = written(tmp_path, f"{other}BASE_URL={EVIL}\n{other}DEFAULT_MODEL=a/one\n")
    monkeypatch.setenv("OPENROUTER_TENANT_GLOBEX_API_KEY", "sk-globex-12345678")
    monkeypatch.setenv(prefix + variable, KEY)
    with pytest.raises(ConfigurationError, match=f"{other}BASE_URL comes from .* from the environment") as caught:
        client.from_env(path, gateways=gateways)
    assert leaks([*said_by(caught.value), *shown_by(caught.value)]) == []


TWINS = {
    "several beside one": ("OPENROUTER_API_KEY", "OPENROUTER_API_KEYS"),
    "one beside several": ("OPENROUTER_API_KEYS", "OPENROUTER_API_KEY"),
    "under the other name": ("INFRON_API_KEY", "ONEROUTER_API_KEY"),
    "several under the other name": ("ONEROUTER_API_KEY", "INFRON_API_KEYS"),
}


@each_client
@pytest.mark.parametrize("twins", TWINS.values(), ids=TWINS)
def test_a_file_adds_no_key_to_those_of_the_environment(
    client: Any, twins: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of all prompts would go to the account of whoever wrote the file."""
    monkeypatch.setenv(twins[0], KEY)
    path = written(tmp_path, f"{twins[1]}=sk-of-somebody-else\n")
    (keys,) = client.from_env(path).settings.keys.values()
    assert keys == (Secret(KEY),)


@each_client
@pytest.mark.parametrize("twins", TWINS.values(), ids=TWINS)
def test_nor_to_those_of_a_tenant(
    client: Any, twins: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = (name.replace("_API_KEY", "_TENANT_ACME_API_KEY") for name in twins)
    monkeypatch.setenv(ours, KEY)
    path = written(tmp_path, f"{theirs}=sk-of-somebody-else\n{theirs.replace('ACME', 'GLOBEX')}=sk-globex-12345678\n")
    root = client.from_env(path)
    (keys,) = root.tenant("acme").settings.keys.values()
    assert keys == (Secret(KEY),)
    (others,) = root.tenant("globex").settings.keys.values()
    assert others == (Secret("sk-globex-12345678"),), "what the environment says nothing of, the file may say"


@each_client
def test_what_an_empty_variable_leaves_open_the_file_may_say(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEYS", "  ")
    path = written(tmp_path, f"OPENROUTER_API_KEY={KEY}\nOPENROUTER_BASE_URL=https://mine.example/v1\n")
    assert key_of(client, path) == KEY
