"""The commands themselves: what they take, which method of the client they call, what of its result they show."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from routerkit import __version__
from routerkit.cli import options
from routerkit.cli.endings import end, exit_code, explained
from routerkit.cli.options import Shared
from routerkit.cli.terminal import Output, silence

if TYPE_CHECKING:
    from routerkit.client import Client
    from routerkit.types.completion import Completion
    from routerkit.types.policy import Timeouts

SHOWN = 20
"""Rows of a plan's tables, unless all are asked for."""

_EPILOG = f"""
\b
Examples:
  routerkit chat "Why is the sky blue?"
  routerkit --dev chat Hello
  routerkit models --search claude
  routerkit explain Hello -m openai/gpt-4o -f google/gemini-2.5-flash

\b
Exit codes:
{explained()}
"""


class Program(click.Group):
    """The group of all commands, which turns what they raise into messages and exit codes."""

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
@options.shared
@click.version_option(__version__, prog_name="routerkit", message="%(prog)s %(version)s")
def program() -> None:
    """Ask LLM gateways, and see which model answered, what it cost, and what failed before.

    The API key is read from the environment (OPENROUTER_API_KEY, INFRON_API_KEY or ONEROUTER_API_KEY) or from a .env file in
    the working folder. There is no option for it: keys on command lines end up in shell histories and process lists. Dev mode
    needs no key. Models, timeouts and retries can be set the same way (OPENROUTER_DEFAULT_MODEL, ...); the environment wins
    over .env, and options win over both.
    """


@program.command(short_help="Ask a question.")
@click.argument("prompt", required=False)
@options.models
@click.option("--system", metavar="TEXT", help="A system message to go before the prompt.")
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=options.patience,
    help="Deadline of the whole call, all attempts included: 60, 60s, 1m30s, 500ms.",
)
@click.option("--no-stream", is_flag=True, help="Wait for the whole answer before showing it.")
@click.option("--temperature", type=float, callback=options.finite, help="How freely to choose words; often 0 to 2.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Longest answer, in tokens.")
@options.as_json
@options.shared
@click.pass_obj
def chat(
    shared: Shared,
    prompt: str | None,
    model: str | None,
    fallbacks: tuple[str, ...],
    system: str | None,
    timeout: Timeouts | None,
    no_stream: bool,
    temperature: float | None,
    max_tokens: int | None,
) -> None:
    """Ask a question and show the answer as it comes.

    PROMPT may be - to read it from stdin, and be left out when something is piped in. The answer goes to stdout. A line on
    stderr tells the model, the tokens of prompt and answer, the cost, the time, and what failed before.

    --json waits for the whole answer. An error is a JSON document too, beside the message on stderr.

    \b
    Examples:
      routerkit chat "Why is the sky blue?" -m openai/gpt-4o
      routerkit chat Hello -m openai/gpt-4o -f google/gemini-2.5-flash --timeout 30s
      git diff | routerkit chat --system "Write a commit message for this diff"
      routerkit chat Hello --json | jq -r .text
    """
    messages = [{"role": "user", "content": options.prompt_text(prompt)}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    stdout = Output(sys.stdout)
    arguments: dict[str, Any] = {
        "model": model,
        "fallback_models": fallbacks or None,
        "timeout": timeout,
        "temperature": temperature,
        "max_tokens": max_tokens,
    }
    from routerkit.cli.render import answer_document, summary

    with shared.client() as client:
        if shared.as_json:
            stdout.json(answer_document(client.complete(messages, **arguments)))
            return
        answer = (_whole if no_stream else _streamed)(client, messages, arguments, stdout)
    Output(sys.stderr).line(summary(answer), "dim")


def _whole(client: Client, messages: Any, arguments: dict[str, Any], stdout: Output) -> Completion:
    answer = client.complete(messages, **arguments)
    stdout.text(answer.text or answer.refusal or "")
    stdout.end_line()
    return answer


def _streamed(client: Client, messages: Any, arguments: dict[str, Any], stdout: Output) -> Completion:
    try:
        with client.stream(messages, **arguments) as stream:
            for piece in stream.text():
                stdout.text(piece)
        answer = stream.completion
        if not answer.text:
            stdout.text(answer.refusal or "")
    finally:
        stdout.end_line()
    return answer


@program.command(short_help="List the models of a gateway, with prices.")
@click.option("--search", metavar="TEXT", default="", help="Only models with all these words in id or name.")
@click.option("--free", is_flag=True, help="Only models that cost nothing.")
@options.as_json
@options.shared
@click.pass_obj
def models(shared: Shared, search: str, free: bool) -> None:
    """List the gateway's models: context in tokens, prices in USD per million tokens, what they take and give.

    --json prints the entries as the gateway sent them.

    \b
    Examples:
      routerkit models --search "claude sonnet"
      routerkit models --free
      routerkit models --json | jq -r '.models[].id'
    """
    from routerkit.cli.render import model_table

    with shared.client() as client:
        every = client.models()
        gateway = client.settings.gateway.name
    words = search.lower().split()
    found = [
        model
        for model in sorted(every, key=lambda model: model.id)
        if all(word in f"{model.id} {model.name}".lower() for word in words) and (model.pricing.free or not free)
    ]
    if shared.as_json:
        Output(sys.stdout).json({"gateway": gateway, "models": [model.to_dict() for model in found]})
        return
    if found:
        Output(sys.stdout).table(model_table(found))
    Output(sys.stderr).line(f"{len(found)} of {len(every)} models of {gateway}", "dim")


@program.command(short_help="Show which models would be asked, and why.")
@click.argument("prompt", required=False)
@options.models
@click.option("--all", "everything", is_flag=True, help=f"Show all rows, not only the first {SHOWN} of each table.")
@options.as_json
@options.shared
@click.pass_obj
def explain(
    shared: Shared, prompt: str | None, model: str | None, fallbacks: tuple[str, ...], everything: bool
) -> None:
    """Show which models a call would ask, in which order and why, and which are left out and why.

    The prompt is not sent; only the gateway's list of models is asked for.

    \b
    Examples:
      routerkit explain Hello -m openai/gpt-4o -f google/gemini-2.5-flash
      routerkit explain - --all < prompt.txt
    """
    from routerkit.cli.render import plan_table, skip_table

    text = options.prompt_text(prompt)
    with shared.client() as client:
        plan = client.explain(text, model=model, fallback_models=fallbacks or None)
        attempts = client.settings.retry.max_attempts
    stdout, stderr = Output(sys.stdout), Output(sys.stderr)
    if shared.as_json:
        stdout.json({**plan.to_dict(), "max_attempts": attempts})
        return
    limit = None if everything else SHOWN
    if plan.targets:
        stdout.table(plan_table(plan, limit))
        _count_rest(stdout, len(plan.targets), limit)
        stderr.line(f"A call makes at most {attempts} attempts.", "dim")
    else:
        stderr.line("No model would be asked.", "dim")
    if plan.skipped:
        stdout.line("")
        stdout.table(skip_table(plan, limit))
        _count_rest(stdout, len(plan.skipped), limit)


def _count_rest(stdout: Output, count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        stdout.line(f"... and {count - limit} more; --all shows them", "dim")


def run(arguments: Sequence[str] | None) -> int:
    """Run the command; returns its exit code."""
    try:
        result: object = program.main(
            args=None if arguments is None else list(arguments), prog_name="routerkit", standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return exit_code(KeyboardInterrupt())
    return result if isinstance(result, int) else 0
