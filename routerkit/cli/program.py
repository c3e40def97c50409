"""The program itself: its commands, each loaded when it is asked for, and how what they raise becomes an exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from routerkit import __version__
from routerkit.cli import options
from routerkit.cli.endings import end, exit_code, explained, refuse
from routerkit.cli.options import Shared
from routerkit.cli.terminal import silence

COMMANDS = {
    "chat": "chat",
    "models": "models",
    "model": "card",
    "explain": "explain",
    "probe": "probe.command",
    "doctor": "doctor",
    "usage": "fleet",
    "stats": "fleet",
    "health": "fleet",
    "completion": "completion",
}
"""By name, as ``--help`` lists them: the module of this package in which the command has its name."""

_EPILOG = f"""
\b
Examples:
  routerkit chat "Why is the sky blue?"
  routerkit --dev chat Hello
  routerkit models --search claude
  routerkit explain Hello -m openai/gpt-4o -f google/gemini-2.5-flash
  routerkit probe --free --delay 20
  routerkit doctor

\b
Exit codes:
{explained()}
"""


class Program(click.Group):
    """The group of all commands, which turns what they raise into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"routerkit.cli.{module}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> None:
        ctx.ensure_object(Shared)
        try:
            self._invoke(ctx)
        except BrokenPipeError as error:
            silence()
            ctx.exit(exit_code(error))

    def _invoke(self, ctx: click.Context) -> None:
        try:
            super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException, BrokenPipeError):
            raise
        except (KeyboardInterrupt, Exception) as error:
            ctx.exit(end(error, ctx.obj))


@click.group(cls=Program, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@options.as_json
@options.shared
@click.version_option(__version__, prog_name="routerkit", message="%(prog)s %(version)s")
def program() -> None:
    """Ask LLM gateways, and see which model answered, what it cost, and what failed before.

    The API key is read from the environment (OPENROUTER_API_KEY, INFRON_API_KEY or ONEROUTER_API_KEY) or from a .env file in
    the working folder. There is no option for it: keys on command lines end up in shell histories and process lists. Dev mode
    needs no key. Models, timeouts and retries can be set the same way (OPENROUTER_DEFAULT_MODEL, ...); the environment wins
    over .env, and options win over both.
    """


def run(arguments: Sequence[str] | None) -> int:
    """Run the command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result: object = program.main(args=given, prog_name="routerkit", standalone_mode=False)
    except click.ClickException as error:
        return refuse(error, as_json="--json" in given)
    except click.Abort:
        return exit_code(KeyboardInterrupt())
    except OSError as error:  # in --help or --version, which are written before a command begins
        return end(error, Shared())
    return result if isinstance(result, int) else 0
