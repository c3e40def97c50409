"""The command as a whole: help, exit codes, how values are worded."""

from __future__ import annotations

import inspect
import shutil
import sysconfig
from decimal import Decimal

import pytest

from routerkit import __version__, errors
from routerkit.cli import main
from routerkit.cli.endings import ENDINGS, exit_code
from routerkit.cli.program import COMMANDS
from routerkit.cli.render import money, price
from routerkit.cli.terminal import one_line, visible
from routerkit.types.model import Pricing
from tests.support.command import COMMAND, CONTROLS, run

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
        ("1E+30", f"$1{',000' * 10}.00"),
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
