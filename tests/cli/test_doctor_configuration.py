"""``routerkit doctor`` on variables and .env files: what they say together, where each stands, and what is wrong with which."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from routerkit.cli import main

CANARY = "sk-or-v1-" + "c0ffee" * 6


class Doctor:
    """What the command finds out of the configuration."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, **env: str) -> list[dict[str, Any]]:
        for name, value in env.items():
            self._monkeypatch.setenv(name, value)
        main(["doctor", "--json", "--dev", *arguments])
        out = self._capsys.readouterr().out
        assert CANARY not in out
        return [check for check in json.loads(out)["checks"] if check["section"] == "configuration"]

    def settings(self, *arguments: str, **env: str) -> list[tuple[str, str]]:
        found = self(*arguments, **env)
        return [(check["found"], check["fix"]) for check in found if check["name"] == "settings" and check["fix"]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Doctor:
    return Doctor(capsys, monkeypatch)


def test_a_blank_variable_does_not_hide_the_files(doctor: Doctor) -> None:
    Path(".env").write_text(f"OPENROUTER_API_KEY={CANARY}\n")
    found = doctor("--no-dev", "--base-url", "http://127.0.0.1:1/v1", "--gateway", "openrouter", OPENROUTER_API_KEY=" ")
    (variables,) = (check for check in found if check["name"] == "variables")
    assert variables["found"] == "OPENROUTER_API_KEY (.env)"


def test_a_key_that_nobody_uses_is_not_told_to_be_read(doctor: Doctor) -> None:
    found = doctor("--no-dev", INFRON_API_KEY=CANARY, INFRON_TENANT_A_API_KEY=CANARY, OPENROUTER_API_KEY=CANARY)
    (variables,) = (check for check in found if check["name"] == "variables")
    aside = "not looked at here: INFRON_API_KEY, INFRON_TENANT_A_API_KEY"
    assert variables["found"] == f"OPENROUTER_API_KEY (environment); {aside}"


def test_a_file_may_be_a_pipe_and_is_read_once(doctor: Doctor) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"OPENROUTER_DEFAULT_MODEL=a/one\n")
    os.close(writer)
    try:
        found = doctor("--env-file", f"/dev/fd/{reader}")
    finally:
        os.close(reader)
    (settings,) = (check for check in found if check["name"] == "settings")
    assert settings["facts"]["settings"]["default_model"] == "a/one"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('OPENROUTER_BUDGET="5', "OPENROUTER_BUDGET: cannot be read: it must be NAME=value"),
        ("OPENROUTER_BUDGET=${B}", "OPENROUTER_BUDGET: holds ${…}, which is not filled in"),
    ],
)
def test_what_a_file_does_not_give_is_named(doctor: Doctor, line: str, told: str) -> None:
    Path(".env").write_text(f"OPENROUTER_API_KEY={CANARY}\n{line}\n")
    ((found, fix),) = doctor.settings()
    assert found.startswith(told)
    assert fix == "correct OPENROUTER_BUDGET"


def test_each_variable_at_fault_is_told_and_the_rest_goes_on(doctor: Doctor) -> None:
    found = doctor.settings(
        OPENROUTER_TENANT_acme_API_KEY=CANARY,
        OPENROUTER_X_OPEN_ROUTER_TITLE=CANARY,
        OPENROUTER_MAX_RETRIES="10",
        OPENROUTER_RETRY_BACKOFF_MAX="2h",
    )
    assert {fix for _, fix in found} == {
        "correct OPENROUTER_TENANT_acme_API_KEY",
        "correct OPENROUTER_X_OPEN_ROUTER_TITLE",
        "correct OPENROUTER_MAX_RETRIES",
        "correct OPENROUTER_RETRY_BACKOFF_MAX",
    }


def test_a_misspelt_variable_is_told_once(doctor: Doctor) -> None:
    found = doctor(ROUTERKIT_NAMESPACE="x", OPENROUTER_FALLBACK_MODEL="a/one", OPENROUTER_MODEL="a/one")
    told = {check["name"]: check["facts"].get("near") for check in found if check["verdict"] == "warning"}
    assert told == {
        "ROUTERKIT_NAMESPACE": None,
        "OPENROUTER_FALLBACK_MODEL": "OPENROUTER_FALLBACK_MODELS",
        "OPENROUTER_MODEL": None,
        "dev mode": None,
    }


def test_a_word_in_the_place_of_a_key_is_no_secret(doctor: Doctor) -> None:
    """A server on this machine is content with any; without it sentences would have holes."""
    found = doctor(OPENROUTER_API_KEY="none", OPENROUTER_BASE_URL="http://127.0.0.1:1/v1")
    assert "<redacted>" not in json.dumps(found)
    assert "none" in json.dumps(found)
