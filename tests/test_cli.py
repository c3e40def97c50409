"""The command ``routerkit``: real processes against the fault server and in dev mode, in pipes and in a pseudo-terminal.

Starting a process takes longer than all else here, so what needs none (help, usage errors, tables of pure functions) calls
``main`` or the function itself.
"""

from __future__ import annotations

import inspect
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from routerkit import __version__, errors
from routerkit.cli import main
from routerkit.cli.endings import ENDINGS, exit_code
from routerkit.cli.explain import SHOWN
from routerkit.cli.program import COMMANDS
from routerkit.cli.render import money, price
from routerkit.cli.terminal import one_line, visible
from routerkit.testing import FaultServer, closed_port, replies
from routerkit.testing.replies import Signal, catalog_model
from routerkit.types.model import Pricing

KEY = "test-key-1234567890"
ROOT = Path(__file__).parent.parent
PATIENCE = 30.0
COMMAND = (sys.executable, "-m", "routerkit")
OURS = re.compile(
    r"(OPENROUTER|ONEROUTER|INFRON|ROUTERKIT)_|(DEV_MODE|NO_COLOR|HTTPS?_PROXY|ALL_PROXY)$", re.IGNORECASE
)
CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
HOSTILE = "A\x1b[31mred\x9b1m\x07 [bold]b[/bold]\x08\tend"
TAMED = "A\\x1b[31mred\\x9b1m\\x07 [bold]b[/bold]\\x08\tend"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, and an environment that says nothing to routerkit."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if OURS.match(name):
            monkeypatch.delenv(name)


def environment(**extra: str) -> dict[str, str]:
    """What a process gets: nothing of ours, and warnings as errors, so that a leak shows on stderr."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    fixed = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "LANG": "C.UTF-8", "TERM": "xterm-256color"}
    return {**kept, **fixed, "COLUMNS": "200", **extra}


def run(
    *arguments: str, stdin: bytes = b"", command: Sequence[str] = COMMAND, **env: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*command, *arguments], input=stdin, capture_output=True, env=environment(**env), timeout=PATIENCE, check=False
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err or "-v" in arguments
    assert "Exception ignored" not in err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


class Terminal:
    """A process whose stdin, stdout and stderr are a pseudo-terminal, which it is controlled by."""

    LAUNCH = (
        "import fcntl, runpy, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        " runpy.run_module('routerkit', run_name='__main__')"
    )

    def __init__(self, *arguments: str, **env: str) -> None:
        self._master, slave = pty.openpty()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self.LAUNCH, *arguments],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=environment(**env),
                start_new_session=True,
            )
        finally:
            os.close(slave)
        self._shown = b""

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def show(self, until: bytes | None = None) -> str:
        """What is on the screen once it holds ``until``, or once the process has ended."""
        while until is None or until not in self._shown:
            if not select.select([self._master], [], [], PATIENCE)[0]:
                raise AssertionError(f"nothing more came after {self._shown!r}")
            try:
                data = os.read(self._master, 65536)
            except OSError:  # nobody holds the other end any more
                data = b""
            if not data:
                assert until is None, f"ended with {self._shown!r}"
                break
            self._shown += data
        return self._shown.decode()

    def wait(self) -> int:
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@contextmanager
def terminal(*arguments: str, **env: str) -> Iterator[Terminal]:
    with ExitStack() as stack:
        opened = Terminal(*arguments, **env)
        stack.callback(opened.close)
        yield opened


# chat


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


EXPECTED_CODES = {
    "APIConnectionError": 7,
    "APIError": 1,
    "APITimeoutError": 7,
    "AllModelsFailedError": 1,
    "AuthenticationError": 5,
    "BadRequestError": 4,
    "BudgetExceededError": 6,
    "ConfigurationError": 3,
    "ContentPolicyError": 4,
    "ContextLengthExceededError": 4,
    "DeadlineExceededError": 7,
    "EmptyResponseError": 1,
    "InternalServerError": 1,
    "InvalidRequestError": 4,
    "LimitExceededError": 6,
    "ModelNotFoundError": 1,
    "NoEligibleModelError": 1,
    "PaymentRequiredError": 5,
    "PermissionDeniedError": 5,
    "ProtocolError": 1,
    "RateLimitError": 6,
    "RouterKitError": 1,
    "StreamInterruptedError": 1,
}


def test_every_error_has_its_exit_code() -> None:
    public = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.RouterKitError) and not name.startswith("_")
    }
    found = {name: exit_code(kind.__new__(kind)) for name, kind in public.items()}
    assert found == EXPECTED_CODES
    assert [exit_code(KeyboardInterrupt()), exit_code(BrokenPipeError()), exit_code(KeyError())] == [130, 141, 1]
    broken = errors.StreamInterruptedError("broken")
    broken.__cause__ = errors.RateLimitError("slow down")
    assert exit_code(broken) == 6


# models and explain


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


# Terminals


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


def test_tables_have_styles_on_a_terminal() -> None:
    with terminal("models", "--dev", "--search", "gpt-4o-mini") as screen:
        shown = screen.show()
        assert screen.wait() == 0
    assert "\x1b[1mopenai/gpt-4o-mini" in shown
    assert "\x1b[2m1 of " in shown


# The whole


def test_the_console_script() -> None:
    script = shutil.which("routerkit", path=sysconfig.get_path("scripts"))
    done = run("--version", command=[script] if script else COMMAND)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"routerkit {__version__}\n", "")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    whole = capsys.readouterr().out
    for ending in ENDINGS:
        assert f"{ending.code:>3}  {ending.meaning}" in whole
    assert "There is no option for it" in " ".join(whole.split())
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"Examples:\n    routerkit {name} " in text
        assert f"  {name} " in whole
        assert max(map(len, text.splitlines())) <= 82
        for option in ("--gateway", "--base-url", "--env-file", "--no-dev", "--verbose", "--json"):
            assert option in text


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "$0.00"),
        ("2.5", "$2.50"),
        ("0.075", "$0.075"),
        ("0.00012", "$0.00012"),
        ("0.0000001", "<$0.000001"),
        ("1234567.891", "$1,234,567.891"),
        ("1E+3", "$1,000.00"),
    ],
)
def test_money(amount: str, shown: str) -> None:
    assert money(Decimal(amount)) == shown


def test_prices_as_people_read_them() -> None:
    pricing = Pricing(prompt=Decimal("0.00000015"), completion=Decimal(0))
    assert [price(each, pricing) for each in (pricing.prompt, pricing.completion, None)] == [
        "$0.15",
        "$0.00",
        "unknown",
    ]
    free = Pricing(prompt=Decimal(0), completion=Decimal(0))
    assert price(free.prompt, free) == "free"


def test_no_control_character_gets_through() -> None:
    assert set(visible(CONTROLS)) & set(CONTROLS) == {"\n", "\t"}
    assert not set(one_line(CONTROLS)) & set(CONTROLS)
    harmless = "Grüße, 世界 \N{THUMBS UP SIGN} [b]\\x1b"
    assert visible(harmless) == one_line(harmless) == harmless
