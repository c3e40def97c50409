"""``routerkit chat``: ask a question, and see the answer as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from routerkit.cli import options
from routerkit.cli.options import Shared
from routerkit.cli.render import money, seconds, what_happened
from routerkit.cli.terminal import Output, one_line
from routerkit.types.verdict import Action

if TYPE_CHECKING:
    from routerkit.client import Client
    from routerkit.types.completion import Completion
    from routerkit.types.policy import Timeouts


@click.command(short_help="Ask a question.")
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


def summary(answer: Completion) -> str:
    """The line below an answer: model, tokens, cost, time, and what failed before."""
    usage = answer.usage
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens" if usage.known else "tokens unknown"
    cost = "cost unknown" if answer.cost is None else money(answer.cost)
    parts = [answer.model, tokens, cost, seconds(answer.route.duration)]
    if answer.mock:
        parts[2] = "no cost"
        parts.insert(0, "MOCK answer (dev mode)")
    if answer.finish_reason not in (None, "stop"):
        parts.append(f"finish reason: {answer.finish_reason}")
    failed = [each for each in answer.route.attempts if each.verdict.action is not Action.RETURN]
    if failed:
        parts.append("before: " + ", ".join(what_happened(attempt) for attempt in failed))
    return one_line(" · ".join(parts))


def answer_document(answer: Completion) -> dict[str, Any]:
    return {
        "model": answer.model,
        "gateway": answer.gateway,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage.to_dict(),
        "cost": None if answer.cost is None else str(answer.cost),
        "cost_source": answer.cost_source,
        "mock": answer.mock,
        "answer": answer.to_dict(),
        "route": answer.route.to_dict(),
    }
