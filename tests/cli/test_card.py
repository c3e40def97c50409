"""``routerkit model``."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.cli import main
from routerkit.cli.near import near
from routerkit.testing import FaultServer, replies
from routerkit.testing.replies import catalog_model
from tests.support.command import HOSTILE, TAMED, run, terminal

FULL = catalog_model(
    "a/full",
    name=HOSTILE,
    canonical_slug="a/full-2026",
    description="First line,\x1b[2Jsecond.\n\nAnother paragraph.",
    created=1_768_927_527,
    expiration_date="2999-12-31",
    supported_parameters=["tools", "seed"],
    pricing={
        "prompt": "0.000003",
        "completion": "0.000015",
        "request": "0.01",
        "image": "0.004",
        "web_search": "0.02",
        "input_cache_read": "0.0000003",
        "audio": "what?",
        "overrides": [
            {"min_prompt_tokens": 200000, "prompt": "0.000006"},
            {"utc_start": "16:00", "utc_end": "00:00", "completion": "0.000007", "moon": "full\x1b[1m"},
            {"min_prompt_tokens": "many", "request": "0"},
        ],
    },
    per_request_limits={"prompt_tokens": "9", "completion_tokens": None},
    hugging_face_id="",
    knowledge=["2025", 1],
)
CARD = """\
id                  a/full
name                TAMED
canonical slug      a/full-2026
gateway             GATEWAY
free sibling        a/full:free
created             2026-01-20
offered             until 2999-12-31
context             32,768 tokens
longest answer      4,096 tokens
takes → gives       text → text
supports            seed, tools
price
  prompt            $3.00 per million tokens
  completion        $15.00 per million tokens
  request           $0.01 per request
  image             $0.004 per image
  web search        $0.02 per search
  input cache read  $0.30 per million tokens
                    some of what the gateway says about prices cannot be read
                    prompts above 200,000 tokens:
  prompt            $6.00 per million tokens
                    from 16:00 to 00:00 UTC, moon full\\x1b[1m:
  completion        $7.00 per million tokens
                    prompts above many tokens:
  request           $0.00 per request
tokenizer           Other
is moderated        no
per request limits  prompt_tokens 9
knowledge           2025, 1

First line,\\x1b[2Jsecond.
Another paragraph.
"""


def test_the_whole_card_in_a_pipe(server: FaultServer) -> None:
    server.catalog = [FULL, catalog_model("a/full:free"), catalog_model("b/other")]
    done = run("model", "a/full", "--base-url", server.url, COLUMNS="40")
    tamed = TAMED.replace("\t", " ")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == CARD.replace("TAMED", tamed).replace("GATEWAY", server.url[7:-3])


def test_an_entry_that_says_nothing(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.catalog = [
        {"id": "a/bare", "created": 2**62},
        catalog_model("a/free", pricing={"prompt": "0", "completion": "0"}),
    ]
    assert main(["model", "a/bare", "--base-url", server.url]) == 0
    rows = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["id", "a/bare"],
        ["gateway", server.url[7:-3]],
        ["created", str(2**62)],
        ["takes → gives", "unknown"],
        ["price"],
        ["prompt", "unknown"],
        ["completion", "unknown"],
    ]
    assert main(["model", "a/free", "--base-url", server.url]) == 0
    assert re.search(r"^price +free$", capsys.readouterr().out, re.MULTILINE)


def test_a_model_of_several_gateways() -> None:
    with FaultServer() as one, FaultServer() as two, FaultServer() as three:
        one.catalog = [catalog_model("x/y")]
        two.catalog = [catalog_model("x/y", pricing={"prompt": "0.000004", "completion": "0"}, context_length=5000)]
        three.catalog = replies.error(503)
        gateways = [option for server in (one, two, three) for option in ("--gateway", server.url)]
        names = [server.url[7:-3] for server in (one, two, three)]
        done = run("model", "x/y", *gateways)
        assert done.returncode == 0
        assert re.search(rf"^gateways +{names[0]}, {names[1]}$", done.stdout, re.MULTILINE)
        told = r"x/y: prompt \$4\.00 and answer \$0\.00 per million tokens, context 5,000"
        assert re.search(rf"^on {names[1]} +{told}$", done.stdout, re.MULTILINE)
        assert done.stderr.startswith(f"routerkit: the models of {names[2]} are missing: ")
        document = json.loads(run("model", "x/y", "--json", *gateways).stdout)
    assert (document["id"], document["gateways"], document["mock"]) == ("x/y", names[:2], False)
    assert document["model"]["pricing"]["prompt"] == "0.000001"
    assert [each["gateway"] for each in document["others"]] == names[1:2]


def test_a_variant_that_is_not_listed_is_the_model_itself(
    server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "alpha/one:nitro", "--base-url", server.url]) == 0
    assert re.search(r"^id +alpha/one \(asked for as alpha/one:nitro\)$", capsys.readouterr().out, re.MULTILINE)


def test_an_id_that_is_not_there_is_told_with_those_near_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "gpt-4o", "--dev"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    told = "routerkit: model='gpt-4o': not in the catalogue of openrouter; near it: openai/gpt-4o, openai/gpt-4o-mini"
    assert err.startswith(told)
    assert main(["model", "quite else", "--dev", "--json"]) == 4
    out, err = capsys.readouterr()
    assert err == "routerkit: model='quite else': not in the catalogue of openrouter\n"
    assert json.loads(out)["exit_code"] == 4


IDS = ["openai/gpt-4o", "openai/gpt-4o-mini", "x/gpt-4o-mini-more", "anthropic/claude-sonnet-4.5", "a/b"]


@pytest.mark.parametrize(
    ("written", "first"),
    [
        ("GPT-4o-mini", ["openai/gpt-4o-mini", "x/gpt-4o-mini-more", "openai/gpt-4o"]),
        ("openai/gpt4o", ["openai/gpt-4o"]),
        ("claude-sonet-4.5", ["anthropic/claude-sonnet-4.5"]),
        ("anthropic/claude", ["anthropic/claude-sonnet-4.5"]),
        ("other/gpt-4o", ["openai/gpt-4o"]),
        ("", []),
        ("zzzzzz", []),
    ],
)
def test_what_is_near(written: str, first: list[str]) -> None:
    assert near(written, IDS)[: len(first) or None] == first


@given(st.text(), st.lists(st.text("ab/:-", min_size=1), max_size=8))
def test_what_is_near_is_there(written: str, ids: list[str]) -> None:
    meant = near(written, ids)
    assert set(meant) <= set(ids)
    assert len(meant) == len(set(meant)) <= 5


def test_the_description_is_wrapped_on_a_terminal(server: FaultServer) -> None:
    server.catalog = [catalog_model("a/one", description="word " * 60 + "\x07")]
    with terminal("model", "a/one", "--base-url", server.url, COLUMNS="60", NO_COLOR="1") as screen:
        shown = screen.show()
        assert screen.wait() == 0
    lines = shown.split("\r\n")
    assert max(map(len, lines)) <= 60
    assert sum(line.startswith("word word") for line in lines) > 4
    assert "\\x07" in shown
