"""``routerkit chat``: ask a question, and see the answer as it comes; or, at a terminal, talk."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from routerkit.cli import options
from routerkit.cli.answers import answer_document, show_rest, summary
from routerkit.cli.attachments import Attachment, content, gather
from routerkit.cli.options import F, Shared
from routerkit.cli.stdin import piped_in, prompt_text, stdin_text
from routerkit.cli.terminal import Output

if TYPE_CHECKING:
    from routerkit.client import Client
    from routerkit.types.completion import Completion
    from routerkit.types.policy import Timeouts


def _paths(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a shell completes a value with: files."""
    return [CompletionItem(incomplete, type="file")]


def _attach(modality: str, metavar: str, text: str) -> Callable[[F], F]:
    """An option that may be given several times; what it names waits in the context."""

    def keep(context: click.Context, _: click.Parameter, values: tuple[str, ...]) -> None:
        context.meta.setdefault(__name__, []).extend((modality, value) for value in values)

    return click.option(
        f"--{modality}",
        multiple=True,
        metavar=metavar,
        expose_value=False,
        callback=keep,
        shell_complete=_paths,
        help=f"{text} Repeatable.",
    )


@click.command(short_help="Ask a question, or talk.")
@click.argument("prompt", required=False, callback=options.text)
@options.models
@click.option("--system", metavar="TEXT", callback=options.text, help="A system message to go before the prompt.")
@_attach("image", "PATH|URL", "A picture: PNG, JPEG, GIF or WebP.")
@_attach("file", "PATH|URL", "A document or any other file; one of text is sent as text.")
@_attach("audio", "PATH", "Sound: WAV, MP3, AAC, AIFF, Ogg, FLAC, M4A or raw PCM.")
@click.option(
    "--tools",
    metavar="FILE",
    shell_complete=_paths,
    help="JSON: a list of tools that the model may call. Calls are shown, and not made.",
)
@click.option(
    "--json-schema", metavar="FILE", shell_complete=_paths, help="JSON: the schema that the answer is to follow."
)
@options.strategy
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
@click.pass_context
def chat(
    context: click.Context,
    shared: Shared,
    prompt: str | None,
    model: str | None,
    fallbacks: tuple[str, ...],
    system: str | None,
    tools: str | None,
    json_schema: str | None,
    strategy: str | None,
    timeout: Timeouts | None,
    no_stream: bool,
    temperature: float | None,
    max_tokens: int | None,
) -> None:
    """Ask a question and show the answer as it comes.

    What is piped in is the prompt; beside a PROMPT, it is attached to it. A PROMPT of - says that stdin is the prompt. In a
    loop that reads stdin itself, < /dev/null leaves it alone. The answer goes to stdout. A line on stderr tells the model, the
    tokens of prompt and answer, the cost, the time, and what failed before.

    Without PROMPT, at a terminal, the chat goes on until Ctrl-D: /help lists its commands, which switch the model, attach
    files, ask again, save. Nothing of it is kept, in no history file either, unless you /save it.

    --json waits for the whole answer. An error is a JSON document too, beside the message on stderr.

    \b
    Examples:
      routerkit chat "Why is the sky blue?" -m openai/gpt-4o
      routerkit chat Hello -m openai/gpt-4o -f google/gemini-2.5-flash --timeout 30s
      cat error.log | routerkit chat "What is wrong?"
      git diff | routerkit chat --system "Write a commit message for this diff"
      routerkit chat "What is it?" --image photo.jpg --file manual.pdf
      routerkit chat "Invent a person" --json-schema person.json
      routerkit chat Hello --json | jq -r .text
      routerkit chat -m openai/gpt-4o
    """
    talk = prompt is None and _at_terminal()
    if talk and shared.as_json:
        raise click.UsageError("--json needs a PROMPT: a conversation is no document (/save writes one)")
    attachments = gather(context.meta.get(__name__, ()))
    arguments: dict[str, Any] = {
        "model": model,
        "fallback_models": fallbacks or None,
        "timeout": timeout,
        "temperature": temperature,
        "max_tokens": max_tokens,
        **_defined(tools, json_schema),
    }
    question = None if talk else _question(prompt, attachments)
    with shared.client(strategy=strategy) as client:
        if question is None:
            from routerkit.cli.interactive import Session

            Session(client, shared, arguments, attachments, system=system, stream=not no_stream).run()
            return
        before = [] if system is None else [{"role": "system", "content": system}]
        messages = [*before, {"role": "user", "content": question}]
        stdout = Output(sys.stdout)
        if shared.as_json:
            stdout.json(answer_document(client.complete(messages, **arguments)))
            return
        answer = (_whole if no_stream else _streamed)(client, messages, arguments, stdout)
        line = summary(answer, several_gateways=len(client.settings.gateways) > 1, streamed=not no_stream)
    Output(sys.stderr).line(line, "dim")


def _at_terminal() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _question(prompt: str | None, attachments: list[Attachment]) -> Any:
    """What is asked: the prompt with what is attached to it; stdin is the one or the other. Raises UsageError."""
    text = prompt_text(prompt)
    if prompt not in (None, "-") and piped_in():
        beside = stdin_text()
        if beside.strip():
            attachments = [Attachment("stdin", text=beside), *attachments]
    return content(text, attachments)


def _defined(tools: str | None, json_schema: str | None) -> dict[str, Any]:
    if tools is None and json_schema is None:
        return {}
    from routerkit.cli.definitions import response_format_from, tools_from

    return {
        "tools": None if tools is None else tools_from(tools),
        "response_format": None if json_schema is None else response_format_from(json_schema),
    }


def _whole(client: Client, messages: Any, arguments: dict[str, Any], stdout: Output) -> Completion:
    answer = client.complete(messages, **arguments)
    stdout.text(answer.text)
    show_rest(answer, stdout)
    return answer


def _streamed(client: Client, messages: Any, arguments: dict[str, Any], stdout: Output) -> Completion:
    try:
        with client.stream(messages, **arguments) as stream:
            for piece in stream.text():
                stdout.text(piece)
    finally:
        stdout.end_line()
    answer = stream.completion
    show_rest(answer, stdout)
    return answer
