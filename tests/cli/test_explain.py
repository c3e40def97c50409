"""``routerkit explain``."""

from __future__ import annotations

import json
import re
import sys
from decimal import Decimal

import pytest

from routerkit.cli import main
from routerkit.cli.explain import SHOWN
from routerkit.testing import FaultServer, closed_port
from routerkit.testing.replies import catalog_model
from tests.support.command import run, terminal

DEAR = {"prompt": "0.00001", "completion": "0.00001"}


def test_the_plan_in_a_pipe(server: FaultServer) -> None:
    server.catalog = [catalog_model("a/one")] + [catalog_model(f"x/{n}", pricing=DEAR) for n in range(SHOWN + 5)]
    done = run("explain", "Hi", "-m", "a/one", "-f", "b/two", "--base-url", server.url)
    assert done.returncode == 0
    plan, skipped = done.stdout.split("\n\n")
    gateway = server.url[7:-3]
    assert [re.split(r"  +", line.strip()) for line in plan.splitlines()] == [
        ["#", "model", "gateway", "expected", "why here"],
        ["1", "a/one", gateway, "$0.001", "requested by the call"],
        ["2", "b/two", gateway, "unknown", "fallback 1"],
    ]
    assert len(re.findall(r"^x/\d+ +dearer than the models named$", skipped, re.MULTILINE)) == SHOWN
    assert skipped.endswith("... and 5 more; --all shows them\n")
    assert done.stderr == "A call makes at most 4 attempts.\n"
    assert server.chat_requests == []


def test_all_rows_and_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "Hi", "--dev", "-m", "openai/gpt-4o", "--all"]) == 0
    table = capsys.readouterr().out
    assert main(["explain", "Hi", "--dev", "-m", "openai/gpt-4o", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    first = document["targets"][0]
    assert (first["position"], first["model"], first["origin"]) == (1, "openai/gpt-4o", "requested")
    assert document["max_attempts"] == 4
    for each in document["targets"] + document["skipped"]:
        assert each["model"] in table
        assert each["reason"] in table


def test_the_cost_is_that_of_prompt_and_answer(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.catalog = [catalog_model("a/one", pricing={"prompt": "0.001", "completion": "0.01"})]

    def expected(*options: str) -> Decimal:
        assert main(["explain", "x" * 30, "-m", "a/one", "--json", "--base-url", server.url, *options]) == 0
        (target,) = json.loads(capsys.readouterr().out)["targets"]
        return Decimal(target["expected_cost"])

    assert expected() == Decimal("5.010")
    assert expected("--max-tokens", "7") == Decimal("0.080")
    assert expected("--max-tokens", "7", "--system", "y" * 30) == Decimal("0.090")


def test_a_strategy_orders(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.catalog = [
        catalog_model("a/dear", pricing=DEAR),
        catalog_model("b/cheap"),
        catalog_model("c/dearest", pricing={"prompt": "1", "completion": "1"}),
    ]

    def models(*options: str) -> list[str]:
        named = ["-f", "a/dear", "-f", "b/cheap"]
        assert main(["explain", "Hi", *named, "--json", "--base-url", server.url, *options]) == 0
        return [target["model"] for target in json.loads(capsys.readouterr().out)["targets"]]

    assert models() == ["a/dear", "b/cheap"]
    assert models("--strategy", "cost_optimized") == ["b/cheap", "a/dear"]


@pytest.mark.parametrize(
    ("stdin", "message"),
    [(b"%PDF-1.7\nplain", "stdin holds no text"), (b" \n", "the prompt is empty"), (b"a\xff", "stdin holds no text")],
)
def test_a_stdin_that_is_no_prompt(stdin: bytes, message: str) -> None:
    done = run("explain", "--dev", stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_stdin_is_a_prompt_as_for_chat() -> None:
    done = run("explain", "-", "--dev", "-m", "openai/gpt-4o", "--json", stdin="x".encode("utf-16"))
    assert json.loads(done.stdout)["targets"][0]["model"] == "openai/gpt-4o"
    shell = ["sh", "-c", '"$0" -m routerkit --dev explain < /dev/null', sys.executable]
    assert "no PROMPT: give one, or pipe it in" in run(command=shell).stderr


def test_a_strategy_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "Hi", "--dev", "--strategy", "cheapest"]) == 3
    assert "cost_optimized" in capsys.readouterr().err


def test_no_model_at_all(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.catalog = [catalog_model("a/one")]
    assert main(["explain", "Hi", "--base-url", server.url]) == 0
    out, err = capsys.readouterr()
    assert err == "No model would be asked.\n"
    assert re.search(r"^a/one +not free, and no model was named to compare with$", out, re.MULTILINE)


def test_of_several_gateways_each_has_its_place(server: FaultServer) -> None:
    gone = f"http://127.0.0.1:{closed_port()}/v1"
    with terminal(
        "explain", "Hi", "-m", "alpha/one", "--gateway", server.url, "--gateway", gone, COLUMNS="90", NO_COLOR="1"
    ) as screen:
        shown = screen.show()
        assert screen.wait() == 0
    lines = [re.split(r"  +", line.strip()) for line in shown.split("\r\n")]
    first, second = server.url[7:-3], gone[7:-3]
    assert ["1", "alpha/one", first, "$0.001", f"requested by the call, on {first}"] in lines
    assert lines[2][:4] == ["2", "alpha/one", second, "unknown"]
    assert ["the catalogue", second, "could not be read: connect_failed"] in lines


def test_eighty_columns_are_enough_for_one(server: FaultServer) -> None:
    long = "a/" + "long-" * 12 + "name"
    with terminal("explain", "Hi", "-m", long, "--base-url", server.url, COLUMNS="80", NO_COLOR="1") as screen:
        shown = screen.show()
        assert screen.wait() == 0
    assert "gateway" not in shown
    lines = shown.split("\r\n")
    assert max(map(len, lines)) <= 80
    plan = lines[1 : lines.index("A call makes at most 4 attempts.")]
    assert plan[0].startswith("1  a/long-")
