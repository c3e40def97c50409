"""``routerkit probe``: real processes against fault servers, in dev mode, and with a real model."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from routerkit import Client
from routerkit.cli import main
from routerkit.cli.probe.interrupts import Interrupts
from routerkit.cli.probe.journal import read
from routerkit.cli.probe.progress import time_left
from routerkit.testing import FaultServer, closed_port, replies
from routerkit.testing.replies import Signal, catalog_model
from tests.support import real_model
from tests.support.command import COMMAND, HOSTILE, KEY, PATIENCE, environment, run, terminal

RESULTS = Path("probe/results.jsonl")


def catalogue(server: FaultServer, *models: str, **fields: Any) -> None:
    """Asked in this order."""
    server.catalog = [catalog_model(model, context_length=9_000 - n, **fields) for n, model in enumerate(models)]


def asked(server: FaultServer) -> list[str]:
    return [str(request.model) for request in server.chat_requests]


def causes(path: Path = RESULTS) -> dict[str, str]:
    return {sample.model: sample.cause for sample in read(path)[1]}


@contextmanager
def running(*arguments: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*COMMAND, "probe", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**env), stdin=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# A whole sweep


def test_a_sweep_of_two_gateways(server: FaultServer) -> None:
    catalogue(server, "a/fine", "b/down", "c/draws", "d/busy")
    assert isinstance(server.catalog, list)
    server.catalog[2]["architecture"] = {"input_modalities": ["text"], "output_modalities": ["image"]}
    server.default = replies.completion(HOSTILE)
    server.script("b/down", replies.error(503, message=HOSTILE))
    server.script("d/busy", replies.error(429, headers={"Retry-After": "0.01"}), replies.completion())
    with FaultServer() as other:
        catalogue(other, "a/fine")
        done = run("probe", "--gateway", server.url, "--gateway", other.url)
        assert asked(other) == ["a/fine"]
    assert done.returncode == 0
    assert asked(server) == ["a/fine", "b/down", "d/busy", "d/busy"]
    assert "left out, as the prompt is not for them: 1 of 5 models\n" in done.stderr
    assert "  1  does not give text\n" in done.stderr
    here, there = f"127.0.0.1:{server.port}", f"127.0.0.1:{other.port}"
    assert re.search(
        rf"^ok      a/fine on {there} · first token [\d.]+ m?s · .* · \$0\.00012$", done.stderr, re.MULTILINE
    )
    assert f"failed  b/down on {here}: overloaded (503)\n" in done.stderr
    assert f"waits   d/busy on {here}: rate limited, again in 10 ms\n" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert re.search(r"^tested +4 models$", done.stdout, re.MULTILINE)
    assert re.search(r"^success rate +75.0 %$", done.stdout, re.MULTILINE)
    assert re.search(r"^overloaded +1 +100 % +b/down", done.stdout, re.MULTILINE)
    head, samples = read(RESULTS)
    assert (head.prompt, head.repeat, head.gateways) == ("Hello, world!", 1, (here, there))
    assert (head.options["delays"], head.options["concurrency"]) == ({here: 0.0, there: 0.0}, 1)
    assert len(samples) == 4
    document = json.loads(Path("probe/results.json").read_text())
    assert (document["summary"]["succeeded"], document["untested"]) == (3, [])
    assert "<html" in Path("probe/report.html").read_text()
    log = Path("probe/probe.log").read_text()
    assert "attempt b/down on" in log
    assert "A\\x1b[31mred" in log
    assert "\x1b" not in log + RESULTS.read_text()
    assert sorted(os.listdir("probe")) == ["probe.log", "report.html", "results.json", "results.jsonl"]


def test_the_document_is_all_that_json_prints(server: FaultServer) -> None:
    catalogue(server, "a/one")
    options = ["--base-url", server.url, "--json", "--prompt", "-", "--max-tokens", "7"]
    done = run("probe", *options, stdin="Grüße\n".encode())
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document == json.loads(Path("probe/results.json").read_text())
    assert document["sweep"]["prompt"] == "Grüße"
    assert [sample["model"] for sample in document["samples"]] == ["a/one"]
    (request,) = server.chat_requests
    assert request.json["messages"] == [{"role": "user", "content": "Grüße"}]
    assert (request.json["max_tokens"], request.json["stream"]) == (7, True)


def test_the_summary_is_what_the_lines_come_to(server: FaultServer) -> None:
    """Worked out once more, from ``results.jsonl`` alone."""
    models = [f"m/{number}" for number in range(23)]
    catalogue(server, *models, pricing={"prompt": "0.001", "completion": "0.002"})
    for number, model in enumerate(models):
        usage = None if number % 5 == 4 else {**replies.USAGE, "cost": number / 1000}
        failed = replies.error(503) if number % 2 else replies.error(500)
        server.script(model, failed if number % 7 == 3 else replies.completion(usage=usage))
    assert main(["probe", "--base-url", server.url, "--repeat", "2", "--max-tokens", "9", "--json"]) == 0
    lines = [json.loads(line, parse_float=Fraction) for line in RESULTS.read_text().splitlines()]
    taken = [line for line in lines if "cause" in line]
    answers = [line for line in taken if line["ok"]]
    summary = json.loads(Path("probe/results.json").read_text())["summary"]
    assert (summary["tested"], summary["succeeded"], summary["failed"]) == (46, len(answers), 46 - len(answers))
    assert 0 < len(answers) < 46
    assert summary["success_rate"] == len(answers) / 46
    for name in ("first_token", "duration"):
        values = sorted(line[name] for line in answers)
        ranked = {share: values[math.ceil(Fraction(share, 100) * len(values)) - 1] for share in (50, 90, 95, 99)}
        told = summary[name]
        assert told["mean"] == pytest.approx(float(sum(values) / len(values)))
        assert (told["min"], told["max"]) == (float(values[0]), float(values[-1]))
        assert {share: told[f"p{share}"] for share in ranked} == {share: float(each) for share, each in ranked.items()}
    costs = [Fraction(line["cost"]) for line in taken if line["cost"] is not None]
    assert Fraction(summary["total_cost"]) == sum(costs)
    assert summary["cost_unknown"] == len(answers) - len(costs) > 0
    assert Fraction(summary["unsettled_cost"]) == sum(Fraction(line["charged"]) for line in taken if not line["ok"]) > 0
    assert summary["causes"] == Counter(line["cause"] for line in taken if not line["ok"])
    assert summary["completion_tokens"] == sum(line["completion_tokens"] or 0 for line in taken)


def test_dev_mode_needs_no_key_and_says_that_nothing_is_real(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dev", "probe", "--free", "--repeat", "2"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^mocked +8: dev mode", out, re.MULTILINE)
    assert err.count("· MOCK") == 8
    assert all(sample.mock for sample in read(RESULTS)[1])


def test_a_dry_run_asks_nothing_and_leaves_nothing(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue(server, "a/one", "b/two", pricing={"prompt": "0", "completion": "0.001"})
    options = ["probe", "--base-url", server.url, "--dry-run", "--delay", "2m", "--max-tokens", "100"]
    assert main(options) == 0
    out, err = capsys.readouterr()
    rows = [re.split(r"  +", line) for line in out.splitlines()]
    assert rows[1][1:3] == ["0 s", "a/one"]
    assert rows[2][1:3] == ["2 min", "b/two"]
    assert out.endswith("2 questions, about 2 min\nlikely cost $0.20, at most $0.20\n")
    assert "Nothing was asked." in err
    assert main([*options, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["starts_in"] for each in document["questions"]] == [0.0, 120.0]
    assert document["worst_cost"] == {"usd": "0.200", "unknown": 0}
    assert server.chat_requests == []
    assert not Path("probe").exists()


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colours", "no colours"])
def test_on_a_terminal_there_is_a_bar_with_lines_above_it(server: FaultServer, env: dict[str, str]) -> None:
    held = replies.gate()
    catalogue(server, "a/one", "b/two", "c/three")
    server.script("a/one", replies.error(500, message=HOSTILE))
    server.script("c/three", held)
    with terminal("probe", "--base-url", server.url, **env) as screen:
        shown = screen.show(until=b"c/three")
        held.release()
        screen.show()
        assert screen.wait() == 0
    failed = "failed  a/one: server error (500)"
    assert (failed if env else f"\x1b[31m{failed}\x1b[0m") in shown
    assert re.search(r"ok      b/two · first token", shown)
    assert re.search(r"2/3.* 1 ok, 1 failed · \$0\.00012 · 12 tokens · c/three", re.sub(r"\x1b\[[0-9;]*m", "", shown))
    assert ("\x1b[31m" in shown) is not bool(env)


def test_with_a_log_on_the_terminal_there_are_lines_alone(server: FaultServer) -> None:
    catalogue(server, "a/one")
    with terminal("-v", "probe", "--base-url", server.url) as screen:
        shown = screen.show()
        assert screen.wait() == 0
    assert "\x1b[?25l" not in shown
    assert "ok      a/one" in shown


# Ends early


def test_ctrl_c_closes_what_is_under_way_and_resume_asks_it_again(server: FaultServer) -> None:
    catalogue(server, "a/one", "b/two", "c/three")
    server.script("b/two", replies.stream("Hel", replies.pause(Signal())))
    with terminal("probe", "--base-url", server.url, "--max-tokens", "9") as screen:
        screen.show(until=b"b/two")
        assert server.wait_for(lambda: len(server.chat_requests) == 2)
        screen.type(b"\x03")
        shown = screen.show()
        assert screen.wait() == 130
    assert server.wait_closed()
    assert "routerkit: interrupted; --resume goes on where it stopped" in shown
    assert "\x1b[?25h" in shown  # the cursor is back
    assert causes() == {"a/one": "ok"}
    document = json.loads(Path("probe/results.json").read_text())
    assert (document["summary"]["untested"], len(document["untested"])) == (2, 2)
    server.script("b/two", replies.completion())
    assert main(["probe", "--base-url", server.url, "--resume"]) == 0
    assert asked(server) == ["a/one", "b/two", "b/two", "c/three"]
    assert server.chat_requests[-1].json["max_tokens"] == 9  # what is not said is as it was
    assert causes() == {"a/one": "ok", "b/two": "ok", "c/three": "ok"}
    assert json.loads(Path("probe/results.json").read_text())["summary"]["tested"] == 3


def test_sigterm_ends_it_likewise(server: FaultServer) -> None:
    catalogue(server, "a/one", "b/two")
    server.script("b/two", replies.stream("Hel", replies.pause(Signal())))
    with running("--base-url", server.url) as process:
        assert server.wait_for(lambda: len(server.chat_requests) == 2)
        process.terminate()
        assert process.wait(PATIENCE) == 143
    assert server.wait_closed()
    assert causes() == {"a/one": "ok"}
    assert Path("probe/report.html").exists()


def test_after_sigkill_at_most_what_was_under_way_is_asked_again(
    server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(server, "a/one", "b/two", "c/three", "d/four")
    server.script("c/three", replies.hang())
    with running("--base-url", server.url) as process:
        assert server.wait_for(lambda: len(server.chat_requests) == 3)
        assert main(["probe", "--base-url", server.url, "--resume"]) == 2
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    assert "another sweep is writing there" in capsys.readouterr().err
    with RESULTS.open("ab") as file:
        file.write(b'{"gateway": "torn')
    server.script("c/three", replies.completion())
    assert main(["probe", "--base-url", server.url, "--resume"]) == 0
    assert asked(server) == ["a/one", "b/two", "c/three", "c/three", "d/four"]
    assert list(causes()) == ["a/one", "b/two", "c/three", "d/four"]


def test_a_second_ctrl_c_ends_at_once() -> None:
    async def struck() -> None:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(PATIENCE)
            assert interrupts.code == 130
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(struck())
    loop.close()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_key_that_is_refused_is_never_shown_and_leaves_the_rest_for_later(
    server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(server, "a/one", "b/two", "c/three")
    server.script("b/two", replies.error(401, message=f"{KEY} is not valid"))
    Path(".env").write_text(f"OPENROUTER_API_KEY={KEY}\nOPENROUTER_BASE_URL={server.url}\n")
    options = ["probe", "--gateway", "openrouter", "--delay", "0"]
    assert main(options) == 5
    out, err = capsys.readouterr()
    assert server.chat_requests[0].api_key == KEY
    assert re.search(r"^tested +1 model \(2 questions .*not put\)$", out, re.MULTILINE)
    assert "not tested: 2: b/two on openrouter: the gateway refused the API key" in out
    assert "stop    openrouter (1 question left): b/two on openrouter" in err
    kept = "".join(path.read_text() for path in Path("probe").iterdir())
    assert KEY not in out + err + kept
    server.script("b/two", replies.completion())
    assert main([*options, "--resume"]) == 0
    assert list(causes()) == ["a/one", "b/two", "c/three"]


def test_a_gateway_that_cannot_be_reached(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    assert main(["probe", "--base-url", url, "--models", "a/1,b/2,c/3,d/4"]) == 7
    assert "could not be read: connect_failed" in capsys.readouterr().err
    assert list(causes()) == ["a/1", "b/2", "c/3"]
    assert main(["probe", "--base-url", url, "--out", "other"]) == 7
    assert not Path("other").exists()


def test_when_all_fail(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue(server, "a/one", "b/two")
    server.default = replies.error(500)
    assert main(["probe", "--base-url", server.url]) == 1
    assert re.search(r"^success rate +0 %$", capsys.readouterr().out, re.MULTILINE)


def test_max_cost_stops_in_time_and_counts_what_was_spent_before(
    server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(server, "a/one", "b/two", "c/three", "d/four", pricing={"prompt": "0", "completion": "0.001"})
    server.default = replies.completion(usage={**replies.USAGE, "cost": 0.1})
    options = ["probe", "--base-url", server.url, "--max-tokens", "100", "--max-cost", "0.25"]
    assert main(options) == 6
    assert "not tested: 2: it may cost more than the $0.05 that --max-cost leaves" in capsys.readouterr().out
    assert main(["probe", "--base-url", server.url, "--resume"]) == 6  # the same limit
    assert len(asked(server)) == 2
    assert main([*options[:-1], "$.30", "--resume"]) == 6
    assert asked(server) == ["a/one", "b/two", "c/three"]
    assert main([*options[:-1], "1", "--resume"]) == 0
    assert len(asked(server)) == 4


def test_what_was_under_way_when_it_was_killed_counts_as_spent(server: FaultServer) -> None:
    catalogue(server, "a/one", pricing={"prompt": "0", "completion": "0.001"})
    server.default = replies.hang()
    with running("--base-url", server.url, "--max-tokens", "100", "--max-cost", "0.15") as process:
        assert server.wait_for(lambda: len(server.chat_requests) == 1)
        process.kill()
        process.wait(PATIENCE)
    assert main(["probe", "--base-url", server.url, "--resume"]) == 6
    assert len(asked(server)) == 1


# What an earlier sweep left


def test_nothing_is_overwritten(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue(server, "a/one")
    assert main(["probe", "--base-url", server.url]) == 0
    before = {path.name: path.read_bytes() for path in Path("probe").iterdir()}
    capsys.readouterr()
    assert main(["probe", "--base-url", server.url]) == 2
    assert re.search(
        r"probe holds the results of a sweep of 20\d\d-\d\d-\d\d \d\d:\d\d: --resume goes on with it",
        capsys.readouterr().err,
    )
    assert {path.name: path.read_bytes() for path in Path("probe").iterdir()} == before
    assert len(asked(server)) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--resume", "--prompt", "other"], "has another prompt"),
        (["--resume", "--max-tokens", "5"], "has another --max-tokens"),
        (["--resume", "--dev"], "was not made in dev mode"),
        (["--resume", "--base-url", "http://127.0.0.1:9/v1"], "is one of 127.0.0.1:"),
        (["--compare", "gone"], "--compare gone: cannot be read: No such file"),
        (["--compare", "."], "holds no results.jsonl"),
        (["--out", "file"], "--out file: is no folder"),
        (["--delay", "soon"], "must be a duration"),
        (["--delay", "25h"], "at most 24h"),
        (["--max-cost", "-1"], "no amount of US dollars"),
        (["--max-cost", "nan"], "no amount of US dollars"),
        (["--prompt", " "], "the prompt is empty"),
        (["--concurrency", "0"], "1<=x<=100"),
        (["--models", "a/oen"], "no catalogue lists it; near it: a/one"),
        (["--dev", "--learn"], "nothing to learn"),
    ],
)
def test_refusals(arguments: list[str], told: str, server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue(server, "a/one")
    Path("file").touch()
    if "--resume" in arguments:
        assert main(["probe", "--base-url", server.url]) == 0
        capsys.readouterr()
    count = len(server.chat_requests)
    assert main(["probe", "--base-url", server.url, "--out", "probe", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, told in " ".join(err.split())) == ("", True), err
    assert len(server.chat_requests) == count


def test_results_that_cannot_be_read_are_left_as_they_are(
    server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    RESULTS.parent.mkdir()
    RESULTS.write_text('nonsense\n{"more": 1}\n')
    assert main(["probe", "--base-url", server.url, "--resume"]) == 2
    assert "results.jsonl, line 1: not JSON" in capsys.readouterr().err
    assert RESULTS.read_text() == 'nonsense\n{"more": 1}\n'


def test_what_changed_since_an_earlier_sweep(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue(server, "a/one", "b/two")
    server.script("b/two", replies.error(500))
    assert main(["probe", "--base-url", server.url, "--out", "before"]) == 0
    server.script("a/one", replies.error(503))
    server.script("b/two", replies.completion())
    capsys.readouterr()
    assert main(["probe", "--base-url", server.url, "--compare", "before"]) == 0
    out = capsys.readouterr().out
    assert "Against before:" in out
    assert re.search(r"newly failing: 1\n +a/one.* ok → overloaded", out)
    assert re.search(r"recovered: 1\n +b/two.* server error → ok", out)
    comparison = json.loads(Path("probe/results.json").read_text())["comparison"]
    assert [change["model"] for change in comparison["newly_failing"]] == ["a/one"]


def test_resume_goes_on_with_more_rounds(server: FaultServer) -> None:
    catalogue(server, "a/one", "b/two")
    assert main(["probe", "--base-url", server.url, "--models", "a/*"]) == 0
    assert main(["probe", "--base-url", server.url, "--resume", "--repeat", "2"]) == 0
    assert [(sample.model, sample.round) for sample in read(RESULTS)[1]] == [("a/one", 1), ("a/one", 2)]
    assert json.loads(Path("probe/results.json").read_text())["sweep"]["repeat"] == 2


# What is learnt


def learnt(reason: str) -> float:
    """Seconds that a model is said to take."""
    told = re.search(r"answers in about ([0-9.]+) s", reason)
    assert told is not None, reason
    return float(told[1])


def test_a_new_process_starts_with_what_a_sweep_has_learnt(server: FaultServer) -> None:
    catalogue(server, "a/slow", "b/quick")
    server.script(
        "a/slow", replies.stream(replies.pause(0.3), "one", " two", replies.end(), replies.usage(), replies.done())
    )
    env = {"XDG_CACHE_HOME": str(Path("cache").absolute())}
    assert run("probe", "--base-url", server.url, "--learn", **env).returncode == 0
    explain = (
        "import sys, routerkit\n"
        "client = routerkit.Client(base_url=sys.argv[1], strategy='performance_optimized', performance_cache=True,"
        " fallback_models=['a/slow', 'b/quick', 'c/never'])\n"
        "with client: client.models(); client.stats(); print(client.explain('Hi'))\n"
    )
    done = run(server.url, command=[sys.executable, "-c", explain], **env)
    lines = {model: line for line in done.stdout.splitlines() for model in ("a/slow", "b/quick") if model in line}
    assert learnt(lines["a/slow"]) >= 0.3
    assert "too few attempts of late to be sure" in lines["b/quick"]


def test_a_fleet_learns_too(server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("redis")
    from tests.store.servers import Server, binary

    if binary() is None:
        pytest.skip("no Valkey and no Redis here")
    catalogue(server, "a/slow", "b/quick")
    server.script(
        "a/slow", replies.stream(replies.pause(0.3), "one", " two", replies.end(), replies.usage(), replies.done())
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
    with Server() as store:
        monkeypatch.setenv("ROUTERKIT_STORE", store.url)
        assert main(["probe", "--base-url", server.url, "--learn"]) == 0
        named = ["a/slow", "b/quick"]
        with Client(base_url=server.url, strategy="performance_optimized", fallback_models=named) as client:
            plan = client.explain("Hi")
    (slow,) = [target.reason for target in plan.targets if target.model == "a/slow"]
    assert learnt(slow) >= 0.3


# A real model


@pytest.mark.skipif(bool(real_model.MISSING), reason=f"not installed: {', '.join(real_model.MISSING)}")
def test_a_real_model() -> None:
    with real_model.llama_server() as port, FaultServer() as front:
        front.default = front.catalog = real_model.relay(port)
        options = ["--base-url", front.url, "--repeat", "2", "--max-tokens", "8", "--json"]
        done = run("probe", *options)
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["summary"]["succeeded"] == 2
    for sample in document["samples"]:
        assert sample["model"] == real_model.MODEL
        assert 0 < sample["first_token"] < sample["duration"]
        assert 0 < sample["completion_tokens"] <= 8
        assert sample["tokens_per_second"] > 0
        assert sample["text"]


@pytest.mark.parametrize(
    ("left", "words"),
    [(-1, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3_599, "1 h 0 min"), (12_000, "3 h 20 min"), (200_000, "2 d 7 h")],
)
def test_the_time_left_in_words(left: float, words: str) -> None:
    assert time_left(left) == words
