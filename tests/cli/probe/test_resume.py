"""What a sweep that was killed, stopped or refused goes on with: nothing forgotten, nothing twice, no money and no pause lost."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from routerkit.cli import main
from routerkit.cli.probe.journal import parsed, read
from routerkit.cli.probe.sample import Head
from routerkit.testing import FaultServer, replies
from tests.cli.probe.test_probe import RESULTS, asked, catalogue, running
from tests.support.command import PATIENCE, terminal

TEN_CENTS = {"prompt": "0", "completion": "0.001"}
"""A hundred tokens of an answer cost ten cents, and a question of so many at most that."""


def test_killed_again_and_again_it_neither_forgets_nor_repeats(server: FaultServer) -> None:
    """Killed at any moment up to where it stands still: what the server was asked is in the results, or counted as perhaps paid."""
    models = [f"m/{number}" for number in range(24)]
    catalogue(server, *models, pricing=TEN_CENTS)
    dice, kills, stands_at = random.Random(5), 3, 0

    def answer(_: replies.RecordedRequest) -> replies.Reply:
        stands = 0 < stands_at <= len(server.chat_requests)
        return replies.hang() if stands else replies.completion(usage={**replies.USAGE, "cost": 0.01})

    server.default = replies.choose(answer)
    options = ["--base-url", server.url, "--max-tokens", "100", "--max-cost", "99", "--concurrency", "2", "--resume"]
    for _ in range(kills):
        before = len(server.chat_requests)
        stands_at, killed_at = before + 5, before + dice.randint(1, 6)
        with running(*options) as process:
            assert server.wait_for(lambda: len(server.chat_requests) >= killed_at)  # noqa: B023 - called before the next
            process.kill()
            process.wait(PATIENCE)
    stands_at = 0
    assert main(["probe", *options]) == 0
    samples = read(RESULTS)[1]
    assert Counter(sample.model for sample in samples) == Counter(models)
    assert all(sample.ok for sample in samples)
    again = len(asked(server)) - len(models)
    assert {*asked(server)} == {*models}
    assert 0 < again <= 2 * kills
    unsettled = parsed(RESULTS.read_bytes(), RESULTS).unsettled
    assert again <= len(unsettled) <= 2 * kills
    assert {*unsettled} == {Decimal("0.100")}
    summary = json.loads(Path("probe/results.json").read_text())["summary"]
    assert summary["total_cost"] == "0.24"
    assert (summary["unsettled"], Decimal(summary["unsettled_cost"])) == (
        len(unsettled),
        len(unsettled) * Decimal("0.1"),
    )


@pytest.mark.parametrize(
    ("pricing", "code", "told"),
    [
        (TEN_CENTS, 6, "it may cost more than the $0.05 that --max-cost leaves"),
        ({}, 2, "nobody can tell what the part before has cost (1 question)"),
    ],
    ids=["known", "unknown"],
)
def test_what_was_under_way_counts_even_if_there_was_no_limit_then(
    pricing: dict[str, str], code: int, told: str, server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(server, "a/one", pricing=pricing)
    server.default = replies.hang()
    with running("--base-url", server.url, "--max-tokens", "100") as process:
        assert server.wait_for(lambda: len(server.chat_requests) == 1)
        process.kill()
        process.wait(PATIENCE)
    assert main(["probe", "--base-url", server.url, "--resume", "--max-cost", "0.15"]) == code
    assert told in " ".join("".join(capsys.readouterr()).split())
    assert len(server.chat_requests) == 1


def test_the_next_part_keeps_the_delay_too(server: FaultServer) -> None:
    catalogue(server, "a/one", "b/two")
    options = ["probe", "--base-url", server.url, "--delay", "700ms"]
    assert main([*options, "--models", "a/one"]) == 0
    assert main([*options, "--models", "a/one,b/two", "--resume"]) == 0
    one, two = read(RESULTS)[1]
    assert two.at - one.at >= 0.7


def test_what_was_asked_for_last_is_what_it_goes_on_with(server: FaultServer) -> None:
    catalogue(server, "a/one", "b/two")
    options = ["probe", "--base-url", server.url]
    assert main(options) == 0
    server.script("b/two", replies.error(401))
    assert main([*options, "--resume", "--repeat", "3", "--timeout", "50"]) == 5
    server.script("b/two", replies.completion())
    assert main([*options, "--resume"]) == 0
    head, samples = read(RESULTS)
    assert Counter((sample.model, sample.round) for sample in samples) == Counter(
        (model, number) for model in ("a/one", "b/two") for number in (1, 2, 3)
    )
    assert (head.repeat, head.options["timeout"]) == (3, 50.0)
    assert head.started <= min(sample.at for sample in samples)


def test_a_refusal_costs_nothing_of_what_may_be_spent(server: FaultServer) -> None:
    catalogue(server, "a/one", pricing=TEN_CENTS)
    server.script("a/one", replies.error(401))
    options = ["probe", "--base-url", server.url, "--max-tokens", "100", "--max-cost", "0.15"]
    assert main(options) == 5
    server.script("a/one", replies.completion())
    assert main([*options, "--resume"]) == 0


@pytest.mark.parametrize(
    "options",
    [
        *({"filters": value} for value in ({"nonsense": 1}, ["free"], 5)),
        *({"concurrency": value} for value in (-5, 1e99, "x", None)),
        *({"delay": value} for value in (-1, "inf", [])),
        *({"max_tokens": value} for value in (-3, "x")),
        {"timeout": {}},
        {"max_cost": 5},
    ],
)
def test_options_that_nobody_has_given(
    options: dict[str, object], server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(server, "a/one")
    RESULTS.parent.mkdir()
    head = Head(started=1.0, prompt="Hi", gateways=(f"127.0.0.1:{server.port}",), options=options)
    RESULTS.write_text(json.dumps(head.to_dict()) + "\n")
    assert main(["probe", "--base-url", server.url, "--resume"]) == 2
    assert "the options in the first line of the results cannot be read" in " ".join(capsys.readouterr().err.split())
    assert server.chat_requests == []


def test_a_log_that_nobody_can_write_does_not_end_the_sweep(
    server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(server, "a/one", "b/two")
    Path("probe").mkdir()
    Path("probe/probe.log").symlink_to("/dev/full")
    assert main(["probe", "--base-url", server.url]) == 0
    err = capsys.readouterr().err
    assert err.count("ends here: No space left on device") == 1
    assert "Traceback" not in err
    assert len(read(RESULTS)[1]) == 2
    assert Path("probe/report.html").exists()


def test_on_a_narrow_terminal_names_are_cut_and_not_the_time_left(server: FaultServer) -> None:
    held, long = replies.gate(), "maker/" + "long-name-" * 9
    catalogue(server, "a/one", long)
    server.script(long, held)
    with terminal("probe", "--base-url", server.url, COLUMNS="60") as screen:
        shown = screen.show(until="toke…".encode())
        held.release()
        screen.show()
        assert screen.wait() == 0
    assert re.search(r"1/2 \d+ s left · 1 ok, 0 failed · .*…", re.sub(r"\x1b\[[0-9;]*m", "", shown))
