"""What the checks of ``routerkit doctor`` make of what they find: figures, dates, files, settings that only code can give."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme

from routerkit.cli.doctor import catalogue, network
from routerkit.cli.doctor.access import judged as judged_key
from routerkit.cli.doctor.check import Check, Outcome, ending, failed, ok, skipped, warning
from routerkit.cli.doctor.clock import judged as judged_clock
from routerkit.cli.doctor.command import MARKS, _guarded, summary
from routerkit.cli.doctor.conceal import concealed
from routerkit.cli.doctor.ignored import is_ignored
from routerkit.cli.doctor.installation import numbers
from routerkit.cli.doctor.store import latency
from routerkit.cli.doctor.subject import Answered, Subject
from routerkit.cli.options import Shared
from routerkit.environment import Variables
from routerkit.errors import RateLimitError
from routerkit.gateways import INFRON
from routerkit.testing import FaultServer, replies
from routerkit.testing.replies import catalog_model
from routerkit.types.gateway import Gateway
from routerkit.types.key_info import KeyInfo
from routerkit.types.settings import Settings
from tests.support.network import context_of, forget_proxies

NOON = "Sat, 21 Nov 2026 12:00:00 GMT"
AT_NOON = 1_795_262_400.0
PASSWORD = "quokka-4711"


def subject_of(*gateways: Gateway, **more: Any) -> Iterator[Subject]:
    subject = Subject(Shared(), 5.0, settings=Settings(gateways=gateways, **more), environment=Variables({}))
    try:
        yield subject
    finally:
        subject.close()


# --- the framework ---


def test_the_gravest_failure_is_the_exit_code() -> None:
    checks = [ok("a", ""), warning("b", "", ""), skipped("c", "")]
    assert ending(checks) == 0
    for code in (1, 4, 6, 7, 5, 3):
        checks.append(failed("d", "", "", code))
        assert ending(reversed(checks)) == code
    assert summary(checks) == "6 failed, 1 warning, 1 skipped, 1 ok"
    assert set(MARKS) == set(Outcome)


def test_a_check_that_fails_itself_stops_no_other() -> None:
    def checks() -> Iterator[Check]:
        yield ok("a", "fine")
        raise RateLimitError("slow down")

    first, second = _guarded("section", checks())
    assert (first.verdict, second.verdict, second.code) == (Outcome.OK, Outcome.FAILED, 6)
    assert "unexpected RateLimitError: slow down" in second.found


def test_no_secret_gets_out_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)
    monkeypatch.setenv("HTTPS_PROXY", "http://me:p%40ssword@proxy.test:3128")
    environment = {
        "OPENROUTER_API_KEYS": "one-key-12345, another-key-12345",
        "ROUTERKIT_STORE": f"redis+sentinel://:{PASSWORD}@one.test/service?sentinel_password=numbat-0815",
    }
    subject = Subject(Shared(), 1.0, environment=Variables(environment))
    told = "another-key-12345 p@ssword p%40ssword numbat-0815 sk-ant-0123456789abcdef http://u:v@x.test"
    hidden = concealed(failed("one-key-12345", told, PASSWORD, 1, deep=[{"x": (told,)}]), subject)
    redacted = "<redacted> <redacted> <redacted> <redacted> <redacted> http://<redacted>@x.test"
    assert (hidden.name, hidden.found, hidden.fix) == ("<redacted>", redacted, "<redacted>")
    assert hidden.facts == {"deep": [{"x": [redacted]}]}


# --- figures ---


def test_versions() -> None:
    assert numbers("2.6.3") < numbers("2.10") < numbers("2.10.1rc1")
    assert numbers("2.0") == numbers("2") == (2,)
    assert numbers("") == ()


@pytest.mark.parametrize(
    ("first", "each", "verdict"),
    [(0.01, 0.001, "ok"), (0.06, 0.001, "warning"), (0.03, 0.03, "warning"), (0.2, 0.06, "failed")],
)
def test_how_fast_a_store_must_be(first: float, each: float, verdict: str) -> None:
    assert latency(first, [each, each, 9.0]).verdict == verdict


@pytest.mark.parametrize(
    ("ahead", "took", "verdict"),
    [
        (0, 0.1, "ok"),
        (5.4, 0.1, "ok"),
        (5.9, 0.1, "warning"),
        (-7.0, 0.1, "warning"),
        (8.0, 10.0, "ok"),  # nobody knows when in these ten seconds the date was written
        (62.0, 0.2, "failed"),
        (-62.0, 0.2, "failed"),
    ],
)
def test_what_a_date_tells(ahead: float, took: float, verdict: str) -> None:
    before = AT_NOON + 0.5 + ahead - took / 2
    answer = Answered("https://one.test:443", before, before + took, NOON)
    slow = attrs.evolve(answer, before=before - 100, after=before + 300)
    assert judged_clock([slow, answer, attrs.evolve(answer, date="no date")]).verdict == verdict


@pytest.mark.parametrize("date", ["", "no date", "Sat, 99 Nov 2026 12:00:00 GMT"])
def test_no_date_no_clock(date: str) -> None:
    assert judged_clock([Answered("https://one.test:443", AT_NOON, AT_NOON, date)]).verdict == "skipped"


@pytest.mark.parametrize(
    ("days", "verdict", "told"),
    [(-1, "failed", "it ended on"), (3.2, "warning", "it ends in 3 days"), (15, "ok", "accepted")],
)
def test_the_end_of_a_key(days: float, verdict: str, told: str) -> None:
    info = KeyInfo("openrouter", "c0ffee", expires_at="2026-11-21T12:00:00Z")
    check = judged_key("key", info, AT_NOON - 86_400 * days)
    assert (check.verdict, told in check.found) == (verdict, True), check


# --- catalogues ---


def asked(subject: Subject) -> dict[str, Check]:
    return {check.name: check for each in catalogue.CHECKS for check in each(subject)}


def test_two_lists_of_one_gateway() -> None:
    """The second one is asked without a key; when it cannot be had, the first serves."""
    with FaultServer() as server:
        details = f"{server.url}/display"
        gateway = attrs.evolve(INFRON, base_url=server.url, details_url=details, key_required=False)
        server.catalog = [{"id": "gpt-4@latest"}]
        entry = {"name": "gpt-4", "retail_input_cost": "$10", "retail_output_cost": "$30"}
        server.route("GET", "/display", replies.json_body({"data": [entry]}))
        for subject in subject_of(gateway, default_model="gpt-4@latest"):
            found = asked(subject)
        assert found["catalogue of infron"].verdict == "ok"
        assert "price $10.00 in, $30.00 out per million tokens" in found["default model"].found
        server.route("GET", "/display", replies.error(500))
        for subject in subject_of(gateway, default_model="gpt4@latest"):
            found = asked(subject)
        assert found["catalogue of infron"].verdict == "warning"
        assert "the public catalogue could not be read" in found["catalogue of infron"].found
        assert found["default model"].verdict == "warning"
        assert found["default model"].facts["near"] == ["gpt-4@latest"]


def test_aliases() -> None:
    with FaultServer() as one, FaultServer() as two:
        gateways = [Gateway("one", one.url), Gateway("two", two.url)]
        one.catalog, two.catalog = [catalog_model("a/one")], [catalog_model("theirs")]
        aliases: dict[str, Any] = {
            "mine": {"one": None, "two": "theirs"},
            "wrong": {"one": None, "two": "thiers"},
            "nowhere": {"one": None, "two": None},
        }
        for subject in subject_of(*gateways, aliases=aliases, fallback_models=("mine", "wrong", "nowhere")):
            found = asked(subject)
    assert found["fallback 1, alias"].found == "mine on two, as theirs: price $1.00 in, $2.00 out per million tokens"
    assert found["fallback 2, alias"].verdict == "warning"
    assert found["fallback 3, alias"].verdict == "failed"
    assert "aliases: not on one" in found["fallback 3, alias"].found


# --- connections ---


def reached(gateway: Gateway) -> dict[str, Check]:
    for subject in subject_of(gateway):
        return {check.name.rpartition(": ")[2]: check for check in network.checks(subject)}
    raise AssertionError


@pytest.fixture
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


@pytest.mark.usefixtures("_no_proxies")
def test_an_authority_of_its_own(tmp_path: Path) -> None:
    authority = trustme.CA(organization_name="Quokka Trust")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with FaultServer(tls=context_of(authority, "127.0.0.1")) as server:
        found = reached(Gateway("inside", server.url, ca_file=str(tmp_path / "ca.pem")))
        assert found["TLS"].verdict == "ok"
        assert found["TLS"].facts["not_after"] > time.time()
        broken = reached(Gateway("inside", server.url, ca_file=str(tmp_path / "none.pem")))
    assert "none.pem': No such file" in broken["127.0.0.1"].found
    assert broken["127.0.0.1"].code == 3


@pytest.mark.usefixtures("_no_proxies")
def test_an_address_that_is_not_allowed() -> None:
    with FaultServer() as server:
        found = reached(Gateway("theirs", server.url, block_private=True))
        assert server.connections_opened == 0
    assert (found["name"].verdict, found["name"].found) == ("failed", "address not allowed")
    assert found["connection"].verdict == "skipped"


@pytest.mark.usefixtures("_no_proxies")
def test_a_handshake_that_never_ends_is_ended() -> None:
    def drip(connection: Any) -> None:
        connection.send(b"\x16\x03\x03\x40\x00")
        while True:
            connection.send(b"\x02")
            connection.wait(0.02)

    with FaultServer() as server:
        server.on_connect = drip
        for subject in subject_of(Gateway("slow", server.url.replace("http:", "https:"))):
            subject.seconds = 0.1
            found = {check.name: check for check in network.checks(subject)}
            assert subject.closed
    tls = found[f"127.0.0.1:{server.port}: TLS"]
    assert (tls.verdict, tls.code) == ("failed", 7)
    assert tls.found.startswith("no answer of 127.0.0.1 port")


# --- .gitignore ---

PATTERNS = [
    "", "# .env", ".env", "/.env", "*.env", ".env*", ".en?", ".e[mn]v", ".e[!n]v", ".e[^m]v", "[.]env", "[a-z]env", ".env/",
    "deep", "deep/", "/deep", "deep/.env", "/deep/.env", "deep/*", "deep/**", "**/.env", "**/deep", "deep/**/.env", "a/**/.env",
    "*", "!.env", "*\n!.env", "deep/\n!deep/.env", "deep/*\n!deep/.env", ".env\n!.env\n.env", r"\.env", ".env ", r".env\ ",
    "env", "*/.env", "/*/.env", "**", "/**", ".env\\", "!", "/", "\\!.env", "[", ".e[n", ".e[]n]v", "deep*", "d??p/.env",
]  # fmt: skip


def test_it_is_ignored_where_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no git here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    env = {"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(tmp_path / "home"), "GIT_CONFIG_NOSYSTEM": "1"}
    files = [tmp_path / ".env", tmp_path / "deep" / ".env", tmp_path / "a" / "b" / ".env"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for where in (".gitignore", "deep/.gitignore", ".git/info/exclude", "home/git/ignore"):
        (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
        for pattern in PATTERNS if where == ".gitignore" else PATTERNS[2:12]:
            (tmp_path / where).write_text(pattern + "\n")
            names = [str(file.relative_to(tmp_path)) for file in files]
            command = ["git", "-C", str(tmp_path), "-c", "core.quotePath=false", "check-ignore", *names]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env, check=False)
            assert done.stderr == ""
            ours = [name for name, file in zip(names, files, strict=True) if is_ignored(file)]
            assert ours == done.stdout.splitlines(), (where, pattern)
        (tmp_path / where).unlink()


def test_outside_of_a_checkout_there_is_nothing_to_ignore(tmp_path: Path) -> None:
    assert is_ignored(tmp_path / ".env") is None
