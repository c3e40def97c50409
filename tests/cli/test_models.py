"""``routerkit models``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from routerkit import Client
from routerkit.cli import main
from routerkit.cli.models import SORTS, Lists, in_order
from routerkit.cli.terminal import Output
from routerkit.testing import FaultServer, ScriptedTransport, VirtualRuntime, closed_port, replies
from routerkit.testing.replies import catalog_model
from routerkit.types.model import Model, Pricing
from tests.store import conftest as stores
from tests.store.servers import Server
from tests.support.command import KEY, run, terminal

running = stores.running


def ids(*arguments: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["models", "--json", *arguments]) == 0
    return [model["id"] for model in json.loads(capsys.readouterr().out)["models"]]


def test_the_table_in_a_pipe(server: FaultServer) -> None:
    hostile = {"input_modalities": ["te\x1b[31mxt", "[bold]"], "output_modalities": []}
    skilled = ["tools", "structured_outputs", "reasoning"]
    server.catalog = [
        catalog_model("z/[red]m[/red]", architecture=hostile, supported_parameters=skilled),
        catalog_model("b/request", pricing={"prompt": "0", "completion": "0.00000015", "request": "0.01"}),
        catalog_model("a/free", pricing={"prompt": "0", "completion": "0"}, context_length=1_048_576),
        catalog_model("d/ends", supported_parameters=[], expiration_date="2999-12-31"),
        catalog_model("d/ended", expiration_date="2020-01-02T00:00:00Z"),
        {"id": "c/bare"},
    ]
    done = run("models", "--base-url", server.url, FORCE_COLOR="1", COLUMNS="20")
    assert done.returncode == 0
    rows = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert rows == [
        ["model", "context", "in, $/M", "out, $/M", "can", "takes → gives"],
        ["a/free", "1,048,576", "free", "free", "T--", "text → text"],
        ["b/request", "32,768", "$0.00", "$0.15 + $0.01/request", "T--", "text → text"],
        ["c/bare", "unknown", "unknown", "unknown", "?", "unknown"],
        ["d/ended (ended 2020-01-02)", "32,768", "$1.00", "$2.00", "T--", "text → text"],
        ["d/ends (until 2999-12-31)", "32,768", "$1.00", "$2.00", "---", "text → text"],
        ["z/[red]m[/red]", "32,768", "$1.00", "$2.00", "TJR", "te\\x1b[31mxt+[bold] → ?"],
    ]
    assert re.fullmatch(r"6 of 6 models of 127\.0\.0\.1:\d+ · can: T tools, J JSON schema, R reasoning\n", done.stderr)


def test_the_entries_are_those_of_the_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--dev", "--json", "--search", "LLAMA 70b", "--free"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["gateway"], document["found"], document["mock"]) == ("openrouter", 1, True)
    told = document["gateways"]["openrouter"]
    assert (told["models"], told["error"]) == (18, None)
    (model,) = document["models"]
    assert (model["id"], model["gateway"]) == ("meta-llama/llama-3.3-70b-instruct:free", "openrouter")
    assert model["pricing"]["prompt"] == "0"


def test_the_library_filters(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    sees = {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
    server.catalog = [
        catalog_model("a/one"),
        catalog_model("a/sees", architecture=sees, supported_parameters=["seed"]),
        catalog_model("a/dear", pricing={"prompt": "0.000001", "completion": "0.0000021"}),
        catalog_model("a/free", pricing={"prompt": "0", "completion": "0"}, context_length=128_000),
        {"id": "a/bare"},
    ]
    found = {
        ("--modality", "image"): ["a/sees"],
        ("--output-modality", "text", "--supports", "seed"): ["a/sees"],
        ("--tools", "--paid"): ["a/dear", "a/one"],
        ("--max-price", "2"): ["a/free", "a/one", "a/sees"],
        ("--min-context", "128k"): ["a/free"],
        ("--search", "BARE"): ["a/bare"],
    }
    for options, models in found.items():
        assert ids(*options, "--base-url", server.url, capsys=capsys) == models


def test_a_word_that_no_model_knows(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--supports", "tool,\x1b[31m", "--modality", "text", "--base-url", server.url]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    counted, *hints = err.splitlines()
    assert re.fullmatch(r"0 of 3 models of 127\.0\.0\.1:\d+", counted)
    assert hints == [
        "--supports tool: no model lists that; did you mean tools?",
        "--supports \\x1b[31m: no model lists that",
    ]


def test_only_the_first_few(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--sort", "context", "--limit", "2", "--base-url", server.url]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["model", "beta/two", "alpha/one"]
    assert err.startswith("the first 2 of 3 models of 127.0.0.1:")
    assert main(["models", "--search", "a", "--paid", "-n", "1", "--base-url", server.url]) == 0
    assert capsys.readouterr().err.startswith("the first 1 of 2 found, of 3 models of 127.0.0.1:")


# The order


def made(model: str, prompt: str | None = None, completion: str | None = None, **more: Any) -> Model:
    prices = Pricing(*(None if price is None else Decimal(price) for price in (prompt, completion)))
    return Model(id=model, pricing=prices, **more)


MODELS = [
    made("c", "3", "1", name="x", context_length=20, max_completion_tokens=1, created=7, expiration_date="2030-01-01"),
    made("b", "1", "9", name="z", context_length=30, max_completion_tokens=3, created=9, expiration_date="2029-01-01"),
    made("a", "2", "1", name="y", context_length=10, max_completion_tokens=2, created=8, expiration_date="2031-01-01"),
    made("e", "2"),
    made("d", None, "1"),
]


@pytest.mark.parametrize(
    ("key", "known", "unknown"),
    [
        ("id", "abcde", ""),
        ("name", "decab", ""),
        ("price", "acb", "de"),
        ("prompt", "baec", "d"),
        ("completion", "acdb", "e"),
        ("context", "bca", "de"),
        ("answer", "bac", "de"),
        ("created", "bac", "de"),
        ("expires", "bca", "de"),
    ],
)
def test_the_order(key: str, known: str, unknown: str) -> None:
    assert "".join(model.id for model in in_order(MODELS, key)) == known + unknown
    back = "".join(model.id for model in in_order(MODELS, key, reverse=True))
    assert back[len(known) :] == unknown
    assert sorted(back) == sorted(known + unknown)
    values = [SORTS[key][0](model) for model in in_order(MODELS, key, reverse=True)[: len(known)]]
    assert values == [SORTS[key][0](model) for model in in_order(MODELS, key)[: len(known)]][::-1]


def test_every_key_is_tested() -> None:
    assert {"id", "name", "price", "prompt", "completion", "context", "answer", "created", "expires"} == set(SORTS)


# Several gateways, and lists that cannot be had


def test_of_two_gateways_the_one_that_cannot_be_read_is_named(server: FaultServer) -> None:
    gone = f"http://127.0.0.1:{closed_port()}/v1"
    done = run("models", "--gateway", gone, "--gateway", server.url)
    assert done.returncode == 0
    header, *rows = done.stdout.splitlines()
    assert header.split()[:2] == ["model", "gateway"]
    assert [row.split()[:2] for row in rows] == [
        [name, server.url[7:-3]] for name in ("alpha/one", "beta/two", "gamma/three:free")
    ]
    counted, missing = done.stderr.splitlines()
    assert counted.startswith("3 of 3 models of 127.0.0.1:")
    told = r"routerkit: the models of 127\.0\.0\.1:\d+ are missing: its list could not be read \(connect failed\)"
    assert re.fullmatch(told, missing)
    document = json.loads(run("models", "--gateway", gone, "--gateway", server.url, "--json").stdout)
    assert [told["models"] for told in document["gateways"].values()] == [None, 3]


def test_no_list_at_all(server: FaultServer) -> None:
    server.catalog = replies.error(401)
    done = run("models", "--gateway", server.url, "--gateway", f"http://127.0.0.1:{closed_port()}/v1")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.count("\n") == 1


def test_refresh_asks_whatever_the_fleet_has(
    server: FaultServer, running: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running.clear()
    monkeypatch.setenv("ROUTERKIT_STORE", running.url)
    asked = []
    for command in (
        ["models"],
        ["models"],
        ["models", "--refresh"],
        ["model", "alpha/one"],
        ["model", "alpha/one", "--refresh"],
    ):
        assert main([*command, "--base-url", server.url]) == 0
        assert "alpha/one" in capsys.readouterr().out
        asked.append(server.catalog_requests)
    assert asked == [1, 1, 2, 2, 3]


class Heard(Output):
    """What would stand on stderr."""

    def __init__(self) -> None:
        super().__init__(None)
        self.lines: list[str] = []

    def line(self, text: str, style: str = "") -> None:
        self.lines.append(text)


@pytest.fixture
def aging() -> Iterator[tuple[Client, ScriptedTransport, VirtualRuntime, Lists]]:
    transport, runtime, lists = ScriptedTransport(), VirtualRuntime(), Lists()
    with Client(
        api_key=KEY, gateway="openrouter", transport=transport, runtime=runtime, observers=[lists.hear]
    ) as client:
        client.models()
        yield client, transport, runtime, lists


def test_an_old_list_says_so(aging: tuple[Client, ScriptedTransport, VirtualRuntime, Lists]) -> None:
    client, transport, runtime, lists = aging
    for seconds, text in ((0, []), (1380, ["The list of openrouter is 23 min old; --refresh asks anew."])):
        runtime.sleep(seconds)
        client.models()
        heard = Heard()
        lists.look(client)
        lists.tell(heard)
        assert heard.lines == text
    transport.catalog = replies.error(503)
    runtime.sleep(5 * 3600)
    client.models()
    heard = Heard()
    lists.look(client)
    lists.tell(heard)
    assert heard.lines == ["routerkit: the list of openrouter is 5 h old: a newer one could not be read (overloaded)"]


# On a terminal


def test_tables_have_styles_on_a_terminal() -> None:
    with terminal("models", "--dev", "--search", "gpt-4o-mini") as screen:
        shown = screen.show()
        assert screen.wait() == 0
    assert "\x1b[1mopenai/gpt-4o-mini" in shown
    assert "takes → gives" in shown
    assert "\x1b[2m1 of " in shown
    assert "Dev mode: this is routerkit's own list" in shown


def test_eighty_columns_are_enough(server: FaultServer) -> None:
    long = "cognitivecomputations/dolphin-mistral-24b-venice-edition-uncensored-and-more:free"
    server.catalog = [catalog_model(long, context_length=1_048_576), catalog_model("a/one")]
    with terminal("models", "--base-url", server.url, COLUMNS="80", NO_COLOR="1") as screen:
        shown = screen.show()
        assert screen.wait() == 0
    lines = shown.split("\r\n")
    table = lines[: lines.index(next(line for line in lines if line.startswith("2 of 2 models")))]
    assert max(map(len, table)) <= 80
    assert "takes → gives" not in shown
    assert "1,048,576" in shown
    assert long in "".join(line.split()[0] for line in table[2:])
