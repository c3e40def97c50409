"""``routerkit chat``: real processes against the fault server and in dev mode."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from routerkit.cli import main
from routerkit.cli.answers import cost_so_far, summary, tool_lines
from routerkit.core.verdict import Signal as Outcome
from routerkit.core.verdict import classify
from routerkit.testing import FaultServer, closed_port, replies
from routerkit.testing.replies import Signal
from routerkit.types.completion import Completion, ToolCall
from routerkit.types.route import Attempt, Origin, Route, Skip, Target
from routerkit.types.usage import Used
from tests.support.command import COMMAND, HOSTILE, KEY, TAMED, TIME, environment, run, terminal


def test_a_mock_answer_says_that_it_is_one() -> None:
    done = run("chat", "Hello", "-m", "a/b", DEV_MODE="true")
    assert (done.returncode, done.stdout) == (0, "[mock a/b] You said: Hello\n")
    assert re.fullmatch(rf"MOCK answer \(dev mode\) · a/b · \d+ \+ \d+ tokens · no cost · {TIME}\n", done.stderr)


def test_the_answer_of_a_fallback_goes_out_raw_and_the_line_below_tells_what_failed(server: FaultServer) -> None:
    server.script("a/busy", replies.error(503))
    server.script("b/two", replies.completion(HOSTILE))
    options = ["-m", "a/busy", "-f", "b/two", "--system", "Be brief", "--timeout", "1m30s", "--temperature", "0.5"]
    done = run("chat", *options, "--max-tokens", "99", "--base-url", server.url, stdin="Grüße\n".encode())
    assert (done.returncode, done.stdout) == (0, HOSTILE + "\n")
    time = rf"{TIME} \(first token {TIME}\)"
    line = rf"b/two · 9 \+ 3 tokens · \$0\.00012 · {time} · before: a/busy overloaded \(503\)\n"
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
    assert re.search(rf"\n  1\. a/one truncated \(200\) on 127\.0\.0\.1:\d+ after {TIME}, billed\n", done.stderr)


# What stdin holds


def test_what_is_piped_in_is_attached_to_the_prompt(server: FaultServer) -> None:
    Path("notes.md").write_text("```\nx\n```")
    done = run(
        *("chat", "What is wrong?", "--file", "notes.md", "-m", "a/one", "--base-url", server.url),
        stdin=b"\xef\xbb\xbf\x1b[31mGr\xc3\xbc\xc3\x9fe\x1b[0m\r\n\r\n",
    )
    assert done.returncode == 0
    stdin, notes = "stdin:\n```\n\x1b[31mGrüße\x1b[0m\n```", "notes.md:\n````\n```\nx\n```\n````"
    assert server.chat_requests[0].json["messages"] == [
        {"role": "user", "content": f"What is wrong?\n\n{stdin}\n\n{notes}"}
    ]


@pytest.mark.parametrize("stdin", [os.devnull, "blank", None])
def test_a_stdin_that_holds_nothing_is_no_attachment(
    server: FaultServer, stdin: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("blank").write_text(" \n")
    with open(stdin or os.devnull) as file:
        monkeypatch.setattr(sys, "stdin", stdin and file)
        assert main(["chat", "Hi", "-m", "a/one", "--base-url", server.url]) == 0
    assert server.chat_requests[0].json["messages"] == [{"role": "user", "content": "Hi"}]


def test_stdin_is_closed() -> None:
    shell = ["sh", "-c", '"$0" -m routerkit --dev chat "$@" -m a/b <&-', sys.executable]
    assert run("Hi", command=shell).stdout == "[mock a/b] You said: Hi\n"
    assert "no PROMPT: stdin is closed" in run("-", command=shell).stderr


@pytest.mark.parametrize("prompt", [["Hi"], ["-"], []])
@pytest.mark.parametrize("data", [b"%PDF-1.7\nplain", b"\x89PNG\r\n", b"a\0b"])
def test_a_stdin_that_is_no_text_is_refused(
    prompt: list[str], data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data").write_bytes(data)
    with open("data") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["--dev", "chat", *prompt]) == 2
    assert (
        "stdin holds no text; other files go with the option --file PATH of routerkit chat" in capsys.readouterr().err
    )


def test_a_stdin_without_end_is_given_up() -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        done = subprocess.run(
            [*COMMAND, "--dev", "chat", "Hi"], stdin=endless.stdout, capture_output=True, env=environment(), check=False
        )
        endless.kill()
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"stdin holds more than 16.0 MiB" in done.stderr


# What an answer can be


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def test_tool_calls_are_shown_and_not_made(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tools.json").write_text(json.dumps({"tools": [TOOL]}))
    arguments = ["--dev", "chat", "Paris", "-m", "a/b", "--tools", "tools.json"]
    assert main(arguments) == main([*arguments, "--no-stream"]) == 0
    out, err = capsys.readouterr()
    assert out == 'tool call: weather\n  city: "Paris"\n' * 2
    assert err.count(" · finish reason: tool_calls\n") == 2
    assert main([*arguments, "--json"]) == 0
    (call,) = json.loads(capsys.readouterr().out)["tool_calls"]
    assert call == {"id": "call_mock_1", "name": "weather", "arguments": {"city": "Paris"}}


def test_tool_calls_of_any_kind_can_be_shown() -> None:
    raw = [{"function": {"name": "f\x1b", "arguments": "{\n"}}, {"function": {"arguments": "[1]"}}, {}]
    assert list(tool_lines([ToolCall(each) for each in raw])) == [
        "tool call: f\\x1b",
        "  { ",
        "tool call: (no name)",
        "  [1]",
        "tool call: (no name)",
    ]


def test_an_answer_follows_a_schema(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    Path("person.json").write_text('{"type": "object", "properties": {"age": {"const": 7}}, "required": ["age"]}')
    arguments = ["chat", "Invent a person", "-m", "a/b", "--json-schema", "person.json"]
    assert main(["--dev", *arguments]) == 0
    assert capsys.readouterr().out == '{"age":7}\n'
    assert main([*arguments, "--base-url", server.url]) == 0
    form = server.chat_requests[0].json["response_format"]
    assert (form["type"], form["json_schema"]["name"]) == ("json_schema", "person")
    assert form["json_schema"]["schema"]["required"] == ["age"]


def test_pictures_files_and_sound_are_sent(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data in (("a.png", b"\x89PNG\r\n\x1a\n"), ("b.pdf", b"%PDF-1"), ("c.mp3", b"ID3")):
        Path(name).write_bytes(data)
    given = ["--audio", "c.mp3", "--image", "a.png", "--image", "https://a.example/x", "--file", "b.pdf"]
    assert main(["chat", "Look", "-m", "a/b", *given, "--base-url", server.url]) == 0
    (message,) = server.chat_requests[0].json["messages"]
    assert message["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "image_url", "image_url": {"url": "https://a.example/x"}},
        {"type": "file", "file": {"filename": "b.pdf", "file_data": "data:application/pdf;base64,JVBERi0x"}},
    ]


def test_a_strategy_orders_the_models(server: FaultServer) -> None:
    fallbacks = ["-f", "beta/two", "-f", "gamma/three:free", "--base-url", server.url]
    assert main(["chat", "Hi", *fallbacks]) == main(["chat", "Hi", *fallbacks, "--strategy", "cost_optimized"]) == 0
    assert server.models_asked == ["beta/two", "gamma/three:free"]


def completion(message: dict[str, Any], route: Route, **more: Any) -> Completion:
    raw = {"choices": [{"message": message, "finish_reason": "stop"}]}
    return Completion(raw, model="a/one", gateway="here", route=route, **more)


def test_the_line_below_tells_what_is_odd() -> None:
    here = Target("here", "a/one")
    failed = Attempt(here, Origin.REQUESTED, classify(Outcome(status=500)), 0.0, 1.0, status=500)
    skips = (
        Skip(Target("here", "b/two"), Origin.DEFAULT, "its breaker is open"),
        Skip(Target("here", "c/three"), Origin.CATALOG, "too dear"),
    )
    route = Route((failed,), skips, duration=12.3, degraded=("the call",))
    line = summary(completion({"content": "Hi"}, route), several_gateways=True, streamed=True)
    assert line == (
        "a/one on here · tokens unknown · cost unknown · 12 s · limits counted by this process alone, the store being lost"
        " · before: a/one server error (500), may be billed · left out: b/two (its breaker is open)"
    )
    assert " · no content" in summary(completion({"content": ""}, Route()))
    assert " · with images, which --json shows" in summary(completion({"images": [{}]}, Route()))


@pytest.mark.parametrize(
    ("used", "shown"),
    [
        ({}, "$0.00"),
        ({"cost": Decimal("0.25"), "cost_unknown": 2}, "$0.25 (not in it: 2 of unknown cost)"),
        (
            {"cost_unknown": 1, "possibly_billed": 3},
            "$0.00 (not in it: 1 of unknown cost, 3 unanswered that may be billed)",
        ),
    ],
)
def test_cost_so_far(used: dict[str, Any], shown: str) -> None:
    assert cost_so_far(Used(**used)) == shown


def test_a_question_loads_little() -> None:
    code = (
        "import sys; from routerkit.cli import main; main(['--dev', 'chat', 'Hi', '-m', 'a/b']);"
        "print(sorted(each for each in sys.modules if each.startswith(('requests', 'aiohttp', 'asyncio'))"
        " or each in ('rich.style', 'rich.console', 'readline', 'routerkit.cli.interactive', 'routerkit.cli.definitions')))"
    )
    done = run(command=[sys.executable, "-c", code])
    assert done.stdout.splitlines()[1:] == ["[]"]


# What goes wrong


def test_when_all_fail_each_attempt_is_told(server: FaultServer) -> None:
    server.script("a/one", replies.error(503, message="busy \x1b[31m [red]x"))
    server.script("b/two", replies.error(500))
    server.catalog = replies.error(404)
    done = run("chat", "Hi", "-m", "a/one", "-f", "b/two", "--no-stream", "--base-url", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("routerkit: all 2 models failed:\n")
    assert "busy \\x1b[31m [red]x\n" in done.stderr
    assert re.search(rf"  1\. a/one overloaded \(503\) on \S+ after {TIME}\n", done.stderr)
    assert re.search(rf"  2\. b/two .* \(500\) on \S+ after {TIME}, may be billed\n", done.stderr)


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
        (["--dev", "chat", "Hi", "--strategy", "nope"], 3, "not a known strategy"),
        (["--dev", "chat"], 2, "no PROMPT"),
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
    summary = rf"a/one · 9 \+ 3 tokens · \$0\.00012 · {TIME} \(first token {TIME}\)"
    assert re.fullmatch(summary if env else rf"\x1b\[2m{summary}\x1b\[0m", below)
