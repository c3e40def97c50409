"""The command as a whole: help, exit codes, how values are worded."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import sys
import sysconfig
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from routerkit import __version__, errors
from routerkit.cli import main
from routerkit.cli.endings import ENDINGS, exit_code
from routerkit.cli.program import COMMANDS
from routerkit.cli.render import money, price, roughly, seconds
from routerkit.cli.terminal import json_text, one_line, visible
from routerkit.testing import FaultServer, replies
from routerkit.types.model import Pricing
from tests.support.command import COMMAND, CONTROLS, KEY, run

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
    "StoreUnavailableError": 7,
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


def test_the_console_script() -> None:
    script = shutil.which("routerkit", path=sysconfig.get_path("scripts"))
    done = run("--version", command=[script] if script else COMMAND)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"routerkit {__version__}\n", "")


def test_the_order_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    commands = re.search(r"^Commands:\n((?:  .+\n)+)", capsys.readouterr().out, re.MULTILINE)
    assert commands is not None
    assert re.findall(r"^  (\w+)", commands[1], re.MULTILINE) == [
        *("chat", "models", "model", "explain", "probe", "doctor", "usage", "stats", "health", "completion")
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "kind", "code"),
    [
        (["--json", "--dev", "chat", " "], "the prompt is empty", "UsageError", 2),
        (
            ["--dev", "chat", "Hi", "--timeout", "x", "--json"],
            "Invalid value for '--timeout': 'x' must",
            "BadParameter",
            2,
        ),
        (["nosuch", "--json"], "No such command 'nosuch'.", None, 2),
        (["--json", "chat", "Hi"], "OpenRouter API key not configured", "ConfigurationError", 3),
    ],
)
def test_any_error_is_a_document_too(
    arguments: list[str], error: str, kind: str | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["error"].startswith(error)
    assert (document["type"], document["exit_code"]) == (kind or document["type"], code)
    assert document.keys() >= {"status_code", "model", "should_retry", "code", "route"}
    assert error in shown.err


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--tenant", "", "chat", "Hi"], None),
        (["chat", "Hi"], "--tenant NAME"),
        (["--gateway", "nosuch", "chat", "Hi"], "--base-url URL"),
        (["--dev", "--tenant", "acme", "chat", "Hi", "--file", "https://a.example/x.pdf"], "-m ID"),
    ],
)
def test_what_to_do_is_told_in_words_of_the_command_line(
    arguments: list[str], option: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".env").write_text(f"OPENROUTER_API_KEY={KEY}\nOPENROUTER_TENANT_ACME_API_KEY={KEY}2\n")
    assert main(arguments) != 0
    told = re.findall(r"^On the command line: (.+)$", capsys.readouterr().err, re.MULTILINE)
    assert told == ([] if option is None else [option])


def test_what_nobody_foresaw_is_a_document_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routerkit.Client.from_env", {}.__getitem__)
    assert main(["--json", "--dev", "models"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["type"] == "TypeError"
    assert "routerkit: unexpected TypeError" in shown.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("arguments", "redirected", "code", "told"),
    [
        ("--help", "> /dev/full", 1, "No space left"),
        ("--version", "> /dev/full", 1, "No space left"),
        ("--dev chat Hi", "> /dev/full", 1, "No space left"),
        ("chat Hi --json", "> /dev/full", 3, "API key not configured"),
        ("chat Hi", "2> /dev/full", 3, ""),
        ("nosuch", "2> /dev/full", 2, ""),
    ],
)
def test_a_disk_that_is_full(arguments: str, redirected: str, code: int, told: str) -> None:
    done = run(command=["sh", "-c", f'"$0" -m routerkit {arguments} {redirected}', sys.executable])
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr


def test_without_stderr() -> None:
    """What is wrong is not written to stdout in its place; that nobody reads stderr changes no exit code."""
    done = run(command=["sh", "-c", '"$0" -m routerkit nosuch 2>&-', sys.executable])
    assert (done.returncode, done.stdout) == (2, "")
    done = run(command=["sh", "-c", '"$0" -m routerkit --dev chat Hi 2>&- >&-', sys.executable])
    assert done.returncode == 0
    for arguments, code in (("chat Hi", 3), ("nosuch", 2), ("--dev chat Hi", 141)):
        unread = f'exec 3>&1; {{ "$0" -m routerkit {arguments} 2>&1 >&-; echo $? >&3; }} | true'
        assert run(command=["sh", "-c", unread, sys.executable]).stdout == f"{code}\n"


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
        ("0.0000001", "$0.0000001"),
        ("0.000034567", "$0.000035"),
        ("1E-300", "$1.00e-300"),
        ("1234567.891", "$1,234,567.891"),
        ("-0.5", "-$0.50"),
        ("1E+3", "$1,000.00"),
        ("1E+30", "$1.00e+30"),
    ],
)
def test_money(amount: str, shown: str) -> None:
    assert money(Decimal(amount)) == shown


@pytest.mark.parametrize(
    ("duration", "measured", "rough"),
    [
        (0.0, "0.0 ms", "0 s"),
        (0.0004, "0.4 ms", "0 s"),
        (0.035, "35 ms", "0 s"),
        (0.41, "0.41 s", "0 s"),
        (9.999, "10 s", "10 s"),
        (99.4, "99 s", "99 s"),
        (125, "2 min 5 s", "2 min"),
        (5940, "1 h 39 min", "99 min"),
        (18_000, "5 h 0 min", "5 h"),
        (172_800, "48 h 0 min", "2 days"),
    ],
)
def test_times(duration: float, measured: str, rough: str) -> None:
    assert (seconds(duration), roughly(duration)) == (measured, rough)


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5999, "100 min"), (6000, "2 h"), (172_800, "2 days")],
)
def test_longer_times_are_told_roughly(duration: float, text: str) -> None:
    assert roughly(duration) == text


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


def test_what_only_python_can_read_becomes_json_too() -> None:
    document = {"tokens": 10**30, "text": "\ud800", "rate": float("nan"), "fine": [1.5, "é"]}
    for option in (0, orjson.OPT_INDENT_2):
        assert json.loads(json_text(document, option)) == {**document, "rate": None}


def test_what_is_nested_too_deep_for_json_is_left_out(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    nested = "[" * 900 + "]" * 900
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    entry = f'{{"id": "a/b", "more": {nested}}}'
    server.catalog = replies.raw(head + f'{{"data": [{entry}]}}'.encode())
    calls = ", ".join(
        json.dumps({"id": "c", "type": "function", "function": {"name": "f", "arguments": f'{{"x": {each}}}'}})
        for each in ("[]", "[" * 300 + "]" * 300)
    )
    message = f'{{"role": "assistant", "content": "Fine", "more": {nested}, "tool_calls": [{calls}]}}'
    server.default = replies.raw(head + f'{{"choices": [{{"finish_reason": "stop", "message": {message}}}]}}'.encode())
    for arguments in (["models"], ["model", "a/b"], ["chat", "Hi", "-m", "a/b", "--no-stream"]):
        for more in ([], ["--json"]):
            assert main([*arguments, *more, "--base-url", server.url]) == 0
            shown = capsys.readouterr()
            assert "unexpected" not in shown.err
            if more:
                assert json.loads(shown.out)
    assert json.loads(shown.out)["text"] == "Fine"
