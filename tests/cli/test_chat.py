"""``routerkit chat``: real processes against the fault server and in dev mode."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from routerkit.cli import main
from routerkit.testing import FaultServer, closed_port, replies
from routerkit.testing.replies import Signal
from tests.support.command import COMMAND, HOSTILE, KEY, TAMED, environment, run, terminal


def test_a_mock_answer_says_that_it_is_one() -> None:
    done = run("chat", "Hello", "-m", "a/b", DEV_MODE="true")
    assert (done.returncode, done.stdout) == (0, "[mock a/b] You said: Hello\n")
    assert re.fullmatch(r"MOCK answer \(dev mode\) · a/b · \d+ \+ \d+ tokens · no cost · \d+(\.\d\d)? s\n", done.stderr)


def test_the_answer_of_a_fallback_goes_out_raw_and_the_line_below_tells_what_failed(server: FaultServer) -> None:
    server.script("a/busy", replies.error(503))
    server.script("b/two", replies.completion(HOSTILE))
    options = ["-m", "a/busy", "-f", "b/two", "--system", "Be brief", "--timeout", "1m30s", "--temperature", "0.5"]
    done = run("chat", *options, "--max-tokens", "99", "--base-url", server.url, stdin="Grüße\n".encode())
    assert (done.returncode, done.stdout) == (0, HOSTILE + "\n")
    line = r"b/two · 9 \+ 3 tokens · \$0\.00012 · \d+(\.\d\d)? s · before: a/busy overloaded \(503\)\n"
    assert re.fullmatch(line, done.stderr)
    sent = server.chat_requests[-1].json
    assert sent["messages"] == [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Grüße"}]
    assert (sent["stream"], sent["temperature"], sent["max_tokens"]) == (True, 0.5, 99)
    assert server.chat_requests[-1].api_key is None


def test_an_answer_comes_while_it_is_made_and_a_reader_who_leaves_ends_it_quietly(server: FaultServer) -> None:
    left = Signal()
    server.script("a/one", replies.stream("Hel", replies.pause(left), "lo", replies.end(), replies.done()))
    arguments = [*COMMAND, "chat", "Hi", "-m", "a/one", "--base-url", server.url]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(3) == b"Hel"
        process.stdout.close()
        left.set()
        assert process.stderr.read() == b""
    assert process.returncode == 141
    assert server.wait_closed()


def test_json_is_one_document(server: FaultServer) -> None:
    server.script("a/one", replies.completion("Hi \x9b1m"))
    done = run("chat", "-", "--json", "-m", "a/one", "--base-url", server.url, stdin=b"Hello")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x9b" not in done.stdout
    document = json.loads(done.stdout)
    assert (document["text"], document["model"], document["cost"]) == ("Hi \x9b1m", "a/one", "0.00012")
    assert document["answer"]["choices"][0]["finish_reason"] == "stop"
    assert [attempt["verdict"] for attempt in document["route"]["attempts"]] == ["ok"]


def test_a_stream_that_breaks_off_leaves_what_came(server: FaultServer) -> None:
    server.script("a/one", replies.stream("Hel", "lo", replies.cut()))
    done = run("chat", "Hi", "-m", "a/one", "--base-url", server.url)
    assert (done.returncode, done.stdout) == (7, "Hello\n")
    assert done.stderr.startswith("routerkit: a/one on 127.0.0.1")
    assert "  1. a/one truncated (200) on 127.0.0.1" in done.stderr


# What goes wrong


def test_when_all_fail_each_attempt_is_told(server: FaultServer) -> None:
    server.script("a/one", replies.error(503, message="busy \x1b[31m [red]x"))
    server.script("b/two", replies.error(500))
    server.catalog = replies.error(404)
    done = run("chat", "Hi", "-m", "a/one", "-f", "b/two", "--no-stream", "--base-url", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("routerkit: all 2 models failed:\n")
    assert "busy \\x1b[31m [red]x\n" in done.stderr
    assert re.search(r"  1\. a/one overloaded \(503\) on \S+ after \S+ s\n", done.stderr)
    assert re.search(r"  2\. b/two .* \(500\) on \S+ after \S+ s\n", done.stderr)


def test_an_error_is_a_document_too_and_never_shows_the_key(server: FaultServer) -> None:
    server.default = replies.error(403, message=f"{KEY} may not do this")
    Path(".env").write_text(f"OPENROUTER_API_KEY={KEY}\nOPENROUTER_DEFAULT_MODEL=a/one\n")
    done = run("-v", "chat", "Hi", "--json", "--gateway", "openrouter", "--base-url", server.url)
    assert server.chat_requests[0].api_key == KEY
    assert KEY not in done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (5, 5)
    assert (document["type"], document["status_code"], document["model"]) == ("PermissionDeniedError", 403, "a/one")
    assert "Traceback (most recent call last)" in done.stderr
    assert "INFO attempt a/one on openrouter: permission_denied" in done.stderr
    assert "\nrouterkit: a/one on openrouter: the API key may not do this (HTTP 403): <redacted>" in done.stderr


def test_no_connection() -> None:
    done = run("chat", "Hi", "-m", "a/one", "--base-url", f"http://127.0.0.1:{closed_port()}/v1")
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.count("\n") == 2
    assert "no connection to the gateway" in done.stderr


def test_ctrl_c_closes_the_stream(server: FaultServer) -> None:
    server.script("a/one", replies.stream("Hel", replies.pause(Signal())))
    with terminal("chat", "Hi", "-m", "a/one", "--base-url", server.url) as screen:
        screen.show(until=b"Hel")
        screen.type(b"\x03")
        shown = screen.show()
        assert screen.wait() == 130
    assert re.fullmatch(r"Hel(\^C)?\r\nrouterkit: interrupted\r\n", shown)
    assert server.wait_closed()


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra(missing: str) -> None:
    blocked = f"import sys; sys.modules[{missing!r}] = None; import routerkit.cli as cli; sys.exit(cli.main())"
    done = run("chat", "Hi", command=[sys.executable, "-c", blocked])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "routerkit: the command needs an extra: pip install 'routerkit[cli]'\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["chat", "Hi"], 3, "OpenRouter API key not configured"),
        (["--gateway", "nope", "chat", "Hi"], 3, "gateway='nope' is not known"),
        (["chat", "Hi", "--env-file", "nope"], 3, "env_file='nope': no such file"),
        (["--dev", "chat", "Hi", "-m", "not a model"], 4, "not a model id"),
        (["--dev", "chat", " "], 2, "the prompt is empty"),
        (["--dev", "chat", "Hi", "--timeout", "5 parsecs"], 2, "must be a duration"),
        (["--dev", "chat", "Hi", "--timeout", "0"], 2, "must be above 0"),
        (["--dev", "chat", "Hi", "--temperature", "nan"], 2, "not a number to send"),
        (["--dev", "chat", "Hi", "--max-tokens", "0"], 2, "x>=1"),
        (["models", "--bogus"], 2, "--bogus"),
        (["bogus"], 2, "bogus"),
    ],
)
def test_refusals(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_a_prompt_is_not_waited_for_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    master, slave = pty.openpty()
    with os.fdopen(master), os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["--dev", "chat"]) == 2
    assert "no PROMPT" in capsys.readouterr().err


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colours", "no colours"])
def test_on_a_terminal_only_our_own_escapes_work(server: FaultServer, env: dict[str, str]) -> None:
    server.default = replies.completion(HOSTILE)
    with terminal("chat", "Hi", "-m", "a/one", "--base-url", server.url, **env) as screen:
        shown = screen.show()
        assert screen.wait() == 0
    answer, below, rest = shown.split("\r\n")
    assert (answer, rest) == (TAMED, "")
    summary = r"a/one · 9 \+ 3 tokens · \$0\.00012 · \d+(\.\d\d)? s"
    assert re.fullmatch(summary if env else rf"\x1b\[2m{summary}\x1b\[0m", below)
