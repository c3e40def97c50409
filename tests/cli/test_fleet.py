"""``routerkit usage``, ``stats`` and ``health``: a real Valkey, in which other processes counted."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit import BreakerPolicy, Client, InternalServerError
from routerkit.cli import main
from routerkit.cli.fleet import BAR, _Names, bar, cost, limit_table
from routerkit.testing import FaultServer, closed_port, replies
from routerkit.testing.replies import catalog_model
from routerkit.types.fleet import LimitState
from routerkit.types.usage import Used
from tests.store import conftest as stores
from tests.store.servers import Server
from tests.support.command import KEY, run, terminal

running = stores.running

CALLS = """
from routerkit import BreakerPolicy, Client, RouterKitError
with Client.from_env(breaker=BreakerPolicy(fast_trip=2, open_seconds=3000, open_max=3000)) as client:
    acme, globex = client.tenant("acme"), client.tenant("globex")
    for _ in range(2):
        acme.complete("Hi", model="b/two", max_tokens=100)
        try:
            globex.complete("Hi", model="a/busy", max_tokens=100)
        except RouterKitError:
            pass
    with acme.stream("Hi", model="b/two", max_tokens=100) as stream:
        for chunk in stream:
            pass
    for _ in range(5):
        globex.complete("Hi", model="a/unpriced")
"""
LINE = r"Since \d{4}-\d\d-\d\d 00:00 UTC · redis://127\.0\.0\.1:\d+, namespace routerkit\n"


@pytest.fixture(scope="module")
def fleet(running: Server) -> Iterator[dict[str, str]]:
    """The environment of processes that share a store, after two others have made their calls."""
    running.clear()
    with FaultServer() as gateway:
        gateway.catalog = [catalog_model("a/busy"), catalog_model("b/two")]
        gateway.script("a/busy", replies.error(503))
        gateway.script("b/two", replies.completion("Hi"))
        usage = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
        gateway.script("a/unpriced", replies.completion("Hi", usage=usage))
        env = {
            "ROUTERKIT_STORE": running.url,
            "OPENROUTER_BASE_URL": gateway.url,
            "OPENROUTER_MAX_RETRIES": "0",
            "OPENROUTER_CATALOG_FALLBACK": "false",
            "OPENROUTER_TENANT_ACME_API_KEY": KEY,
            "OPENROUTER_TENANT_ACME_BUDGET": "100/month",
            "OPENROUTER_TENANT_ACME_REQUESTS_PER_DAY": "6",
            "OPENROUTER_TENANT_GLOBEX_API_KEY": KEY + "0",
            "OPENROUTER_TENANT_GLOBEX_CONCURRENCY": "3",
        }
        done = run(command=[sys.executable, "-c", CALLS], **env)
        assert (done.returncode, done.stderr) == (0, "")
        assert run("chat", "Hi", "-m", "b/two", "--tenant", "acme", "--max-tokens", "100", **env).returncode == 0
        yield env


@pytest.fixture
def shared(fleet: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same in this process."""
    for name, value in fleet.items():
        monkeypatch.setenv(name, value)
    return fleet


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[list[list[str]], str]:
    """The cells of the tables on stdout, and what stands on stderr."""
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    return [re.split(r"  +", line.strip()) for line in out.splitlines()], err


def test_usage(shared: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    rows, err = shown(capsys, "usage", "--days", "2")
    assert rows == [
        ["tenant", "gateway", "model", "answers", "prompt", "cached", "answer", "reasoning", "cost"],
        ["acme", "openrouter", "b/two", "4", "36", "0", "12", "0", "$0.00048"],
        ["globex", "openrouter", "a/unpriced", "5", "5,000", "0", "5", "0", "$0.00 + 5 unknown"],
        ["total", "9", "5,036", "0", "17", "0", "$0.00048 + 5 unknown"],
    ]
    assert re.fullmatch(LINE, err)


def test_usage_added_up(shared: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    rows, _ = shown(capsys, "usage", "--by", "gateway", "--days", "3")
    assert [row[:2] for row in rows] == [["gateway", "answers"], ["openrouter", "9"], ["total", "9"]]
    rows, _ = shown(capsys, "usage", "--days", "2", "--by", "tenant", "--tenant", "globex")
    assert [row[:2] for row in rows] == [["tenant", "answers"], ["globex", "5"], ["total", "5"]]


def test_usage_as_a_document(shared: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--by", "tenant", "--days", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["days"], document["by"], document["unreadable"]) == (2, "tenant", 0)
    assert [(row["tenant"], row["answers"], row["cost"], row["cost_unknown"]) for row in document["rows"]] == [
        ("acme", 4, "0.00048", 0),
        ("globex", 5, "0", 5),
    ]
    assert document["total"]["total_tokens"] == 5053


def test_stats(shared: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    rows, err = shown(capsys, "stats", "--days", "2")
    told = dict(row for row in rows if len(row) == 2)
    assert told.pop("duration").startswith("half within ")
    assert told == {
        "calls": "11, 2 of them streams",
        "answered": "9 (81.8 %)",
        "failed": "InternalServerError 2",
        "attempts": "ok 9, overloaded 2",
        "several attempts": "0 (0.0 %)",
        "waits": "0",
    }
    by_tenant = [row[:5] for row in rows if len(row) > 2]
    assert by_tenant == [
        ["tenant", "calls", "answered", "failed", "several tries"],
        ["globex", "7", "5", "2", "0"],
        ["acme", "4", "4", "0", "0"],
    ]
    assert re.fullmatch(LINE, err)
    rows, _ = shown(capsys, "stats", "--days", "2", "--tenant", "globex")
    assert rows[0] == ["calls", "7"]
    assert all(len(row) == 2 for row in rows)  # a tenant sees itself alone


def test_stats_as_a_document(shared: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--days", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["days"], document["stats"]["calls"]) == (2, 11)
    assert {each["tenant"]: each["calls"] for each in document["stats_by_tenant"]} == {"acme": 4, "globex": 7}


def test_health(shared: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    rows, err = shown(capsys, "health")
    assert [row[0] for row in rows] == [
        *("open breaker", "a/busy on openrouter", "", "limit"),
        "6 requests a day of tenant acme",
        "the budget of tenant acme (100 USD a month)",
        "3 requests at a time of tenant globex",
    ]
    assert re.fullmatch(r"\d+ s ago", rows[1][1])
    assert re.fullmatch(r"\d+ min", rows[1][2])
    day, money, places = rows[4:]
    assert money[1:4] == ["$0.00048", "$100.00", "0 %"]
    assert day[1:4] == ["4", "6", "67 %"]
    assert places[1:] == ["0", "3", "0 %"]
    assert re.fullmatch(r"The store answers: redis://127\.0\.0\.1:\d+, namespace routerkit\n", err)


def test_health_as_a_document(shared: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["scope"] for each in document["breakers"]] == ["a/busy on openrouter"]
    assert [(each["owner"], each["kind"], each["used"], each["cap"]) for each in document["limits"]] == [
        ("acme", "day", 4, 6),
        ("acme", "money", "0.00048", "100"),
        ("globex", "slots", 0, 3),
    ]
    assert document["store"]["lost"] is False
    assert main(["health", "--json", "--watch", "1"]) == 2


def test_gateways_that_do_not_answer_hold_up_only_the_first_look(
    running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it looks for the names of what is open."""
    monkeypatch.setattr("routerkit.cli.fleet.LISTS_SECONDS", 0.1)
    with FaultServer() as gateway:
        options: dict[str, Any] = {"api_key": KEY, "base_url": gateway.url, "store": f"{running.url[:-1]}2"}
        gateway.catalog = replies.hang()
        gateway.script("a/busy", replies.error(503))
        with Client(**options, catalog_fallback=False, breaker=BreakerPolicy(fast_trip=2, open_seconds=300)) as client:
            for _ in range(2):
                with pytest.raises(InternalServerError):
                    client.complete("Hi", model="a/busy")
        asked = gateway.catalog_requests
        with Client(**options) as client:
            names = _Names(client)
            for _ in range(3):
                (breaker,) = names.report().breakers
                assert breaker.scope == ""
            assert gateway.catalog_requests == asked + 1
            names._again = 0.0
            monkeypatch.undo()
            gateway.catalog = [catalog_model("a/busy")]
            assert names.report().breakers[0].scope.startswith("a/busy on ")


def test_nothing_yet(running: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTERKIT_STORE", f"{running.url[:-1]}1")  # another database of the same server
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    rows, err = shown(capsys, "usage")
    assert rows == []
    assert re.fullmatch(rf"No answers\.\n{LINE}", err)
    rows, _ = shown(capsys, "stats")
    assert [row[1:] for row in rows] == [["0"]] * 6
    rows, err = shown(capsys, "health")
    assert rows == []
    assert err.startswith(
        "No breaker is open.\nThe settings of this command name no limits and no budgets.\nThe store answers: "
    )


# Where nothing is shared


@pytest.mark.parametrize("command", ["usage", "stats", "health"])
def test_without_a_store(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--dev"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    for words in ("no store is configured", "is gone when it ends", "A store is a Redis or Valkey", "ROUTERKIT_STORE="):
        assert words in err


@pytest.mark.parametrize("command", ["usage", "stats", "health"])
def test_a_store_that_cannot_be_asked(command: str) -> None:
    url = f"redis://:secret-word@127.0.0.1:{closed_port()}/0"
    done = run(command, "--json", ROUTERKIT_STORE=url, OPENROUTER_API_KEY=KEY)
    document = json.loads(done.stdout)
    assert (done.returncode, document["type"], document["exit_code"]) == (7, "StoreUnavailableError", 7)
    assert "127.0.0.1" in done.stderr
    assert "secret-word" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["usage", "--days", "0"], ["stats", "--days", "36"], ["usage", "--by", "key"], ["health", "--watch", "0"]],
)
def test_refusals(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--dev"]) == 2
    assert arguments[1] in capsys.readouterr().err


# On a terminal


def test_eighty_columns_are_enough(shared: dict[str, str]) -> None:
    with terminal("health", COLUMNS="80", NO_COLOR="1", **shared) as screen:
        health = screen.show()
        assert screen.wait() == 0
    with terminal("usage", COLUMNS="80", NO_COLOR="1", **shared) as screen:
        usage = screen.show()
        assert screen.wait() == 0
    for text, last in ((health, "The store answers"), (usage, "Since ")):
        lines = text.split("\r\n")
        assert max(map(len, lines[: next(n for n, line in enumerate(lines) if line.startswith(last))])) <= 80
    assert re.search(r"6 requests a day of tenant acme +██████░░░░ +4 +6 +67 %", health)
    assert re.search(r"the budget of tenant acme.* █░{9} +\$0\.00048 +\$100\.00 +0 % +\d+ (h|days)", health)
    assert "gateway" not in usage
    assert "cached" not in usage


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        (
            "usage",
            ["tenant +model +answers +cost", r"acme +b/two +4 +\$0\.00048", r"globex +a/unpriced +5 +\$0\.00 \+ 5"],
        ),
        ("stats", ["tenant +calls +failed +p95", r"globex +7 +2 +\S+ m?s", r"acme +4 +0 +\S+ m?s"]),
        ("health", ["limit +back in", r"6 requests a day of +67 % +\d+ (h|min|s)", r"3 requests at a time of +0 %"]),
    ],
)
def test_on_forty_columns_nothing_is_cut_off(shared: dict[str, str], command: str, rows: list[str]) -> None:
    days = [] if command == "health" else ["--days", "2"]
    with terminal(command, *days, COLUMNS="40", NO_COLOR="1", **shared) as screen:
        text = screen.show()
        assert screen.wait() == 0
    assert "…" not in text
    for row in rows:
        assert re.search(f"^{row}", text, re.MULTILINE), text
    tables = re.split(r"^(?:Since|The store) ", text, flags=re.MULTILINE)[0]
    assert max(map(len, tables.split("\r\n"))) <= 40


def test_watching_goes_on_until_ctrl_c(shared: dict[str, str]) -> None:
    with terminal("health", "--watch", "0.1", NO_COLOR="1", **shared) as screen:
        for _ in range(2):
            assert "\x1b[H\x1b[2J" in screen.show_next(until=b"The store answers")
        screen.type(b"\x03")
        text = screen.show()
        assert screen.wait() == 130
    assert text.endswith("routerkit: interrupted\r\n"), text


def test_watching_outlasts_a_loss_of_the_store() -> None:
    url = f"redis://127.0.0.1:{closed_port()}/0"
    with terminal("health", "--watch", "0.1", NO_COLOR="1", ROUTERKIT_STORE=url, OPENROUTER_API_KEY=KEY) as screen:
        for _ in range(2):
            assert "routerkit: the store" in screen.show_next(until=b"cannot be asked now")
        screen.type(b"\x03")
        screen.show()
        assert screen.wait() == 130


# How it is worded


@given(st.floats(0, 1.5), st.floats(0, 1.5))
def test_a_bar(used: float, held: float) -> None:
    drawn = bar(used, held)
    assert re.fullmatch("█*▒*░*", drawn)
    assert len(drawn) == BAR
    assert drawn.startswith("█") is (used > 0)
    assert (drawn == "█" * BAR) is (used >= 1)
    if used < 1:
        assert ("▒" in drawn) is (held > 0)


def test_what_is_held_is_told_apart() -> None:
    def cells(**more: object) -> list[str]:
        state = LimitState(**{"owner": None, "label": "x", "kind": "slots", "resets_at": None, **more})  # type: ignore[arg-type]
        table = limit_table([state], 0.0, 100, bars=True)
        return [str(cell) for column in table.columns for cell in column.cells]

    assert cells(cap=10, used=0, held=4) == ["x", "▒▒▒▒░░░░░░", "0 + 4", "10", "40 %", ""]
    money = cells(cap=Decimal(2), used=Decimal("0.5"), held=Decimal("0.25"), resets_at=7200.0)
    assert money == ["x", "██▒░░░░░░░", "$0.50 + $0.25", "$2.00", "38 %", "2 h"]
    assert cells(cap=0, used=0, held=0)[1:] == ["██████████", "0", "0", "100 %", ""]


def test_costs_that_nobody_knows_are_said() -> None:
    assert cost(Used(cost=Decimal("0.5"))) == "$0.50"
    assert cost(Used(cost_unknown=1200)) == "$0.00 + 1,200 unknown"


def test_what_somebody_else_wrote_into_the_store_is_said(
    fleet: dict[str, str], running: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in fleet.items():
        monkeypatch.setenv(name, value)
    sums = next(key for key in running.do("KEYS", "*") if re.search(r":t:\d+:\d+$", key))
    running.do("HSET", sums, "some", "thing")
    try:
        for command in ("usage", "stats", "health"):
            assert main([command]) == 0
            told = capsys.readouterr().err
            assert told.endswith("Entries there that are not ours, and are left out: 1.\n")
    finally:
        running.do("HDEL", sums, "some")
