"""``routerkit models`` and ``routerkit explain``."""

from __future__ import annotations

import json
import re

import pytest

from routerkit.cli import main
from routerkit.cli.explain import SHOWN
from routerkit.testing import FaultServer
from routerkit.testing.replies import catalog_model
from tests.support.command import run, terminal


def test_the_table_of_models_in_a_pipe(server: FaultServer) -> None:
    hostile = {"input_modalities": ["te\x1b[31mxt", "[bold]"], "output_modalities": []}
    server.catalog = [
        catalog_model("z/[red]m[/red]", architecture=hostile),
        catalog_model("b/request", pricing={"prompt": "0", "completion": "0.00000015", "request": "0.01"}),
        catalog_model("a/free", pricing={"prompt": "0", "completion": "0"}, context_length=1_048_576),
        {"id": "c/bare"},
    ]
    done = run("models", "--base-url", server.url, FORCE_COLOR="1", COLUMNS="20")
    assert done.returncode == 0
    rows = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert rows == [
        ["model", "context", "in, $/M tokens", "out, $/M tokens", "takes → gives"],
        ["a/free", "1,048,576", "free", "free", "text → text"],
        ["b/request", "32,768", "$0.00", "$0.15 + $0.01/request", "text → text"],
        ["c/bare", "unknown", "unknown", "unknown", "unknown"],
        ["z/[red]m[/red]", "32,768", "$1.00", "$2.00", "te\\x1b[31mxt+[bold] → ?"],
    ]
    assert done.stderr.startswith("4 of 4 models of 127.0.0.1:")


def test_models_can_be_searched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--dev", "--json", "--search", "LLAMA 70b", "--free"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["gateway"] == "openrouter"
    assert [model["id"] for model in document["models"]] == ["meta-llama/llama-3.3-70b-instruct:free"]
    assert document["models"][0]["pricing"]["prompt"] == "0"


def test_explain(server: FaultServer) -> None:
    dear = {"prompt": "0.00001", "completion": "0.00001"}
    server.catalog = [catalog_model("a/one")] + [catalog_model(f"x/{n}", pricing=dear) for n in range(SHOWN + 5)]
    done = run("explain", "Hi", "-m", "a/one", "-f", "b/two", "--base-url", server.url)
    assert done.returncode == 0
    assert re.search(r"^1  a/one  127\.0\.0\.1:\d+  requested by the call$", done.stdout, re.MULTILINE)
    assert re.search(r"^2  b/two  127\.0\.0\.1:\d+  fallback 1$", done.stdout, re.MULTILINE)
    assert len(re.findall(r"^x/\d+ +dearer than the models named$", done.stdout, re.MULTILINE)) == SHOWN
    assert done.stdout.endswith("... and 5 more; --all shows them\n")
    assert server.chat_requests == []


def test_explain_all_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_tables_have_styles_on_a_terminal() -> None:
    with terminal("models", "--dev", "--search", "gpt-4o-mini") as screen:
        shown = screen.show()
        assert screen.wait() == 0
    assert "\x1b[1mopenai/gpt-4o-mini" in shown
    assert "\x1b[2m1 of " in shown
