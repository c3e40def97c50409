"""How an answer is shown: what is not its text, the line below it, and the document of ``--json``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from routerkit.cli.render import billed, money, seconds, what_happened
from routerkit.cli.terminal import json_text, one_line
from routerkit.types.route import Origin
from routerkit.types.verdict import Action

if TYPE_CHECKING:
    from routerkit.cli.terminal import Output
    from routerkit.types.completion import Completion, ToolCall
    from routerkit.types.route import Route
    from routerkit.types.usage import Used

_MEDIA = ("images", "audio")
"""Fields of a message that a terminal cannot show."""


def show_rest(answer: Completion, stdout: Output) -> None:
    """What an answer is besides its text, which has been shown: a refusal, and the tools that it asks to call."""
    if not answer.text:
        stdout.text(answer.refusal or "")
    stdout.end_line()
    for line in tool_lines(answer.tool_calls):
        stdout.text(line + "\n")


def tool_lines(calls: Sequence[ToolCall]) -> Iterator[str]:
    """Each call with its name, and below it an argument a line."""
    for call in calls:
        arguments = arguments_of(call)
        yield one_line(f"tool call: {call.function.name or '(no name)'}")
        if isinstance(arguments, dict):
            for name, value in arguments.items():
                yield one_line(f"  {name}: {json_text(value)}")
        elif arguments:
            yield one_line(f"  {arguments}")


def arguments_of(call: ToolCall) -> Any:
    """A call's arguments as JSON; the text itself where it is none."""
    text = call.function.arguments
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def summary(answer: Completion, *, several_gateways: bool = False, streamed: bool = False) -> str:
    """The line below an answer: model, tokens, cost, time, and what failed before."""
    route, usage = answer.route, answer.usage
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens" if usage.known else "tokens unknown"
    cost = "cost unknown" if answer.cost is None else money(answer.cost)
    model = f"{answer.model} on {answer.gateway}" if several_gateways else answer.model
    parts = [model, tokens, "no cost" if answer.mock else cost, _time(route, streamed and not answer.mock)]
    if answer.mock:
        parts.insert(0, "MOCK answer (dev mode)")
    parts.extend(_oddities(answer))
    failed = [each for each in route.attempts if each.verdict.action is not Action.RETURN]
    if failed:
        parts.append("before: " + ", ".join(what_happened(each) + billed(each) for each in failed))
    left_out = [each for each in route.skipped if each.origin is not Origin.CATALOG]
    if left_out:
        parts.append("left out: " + ", ".join(f"{each.model} ({each.reason})" for each in left_out))
    return one_line(" · ".join(parts))


def cost_so_far(used: Used) -> str:
    """What all answers cost together, and what is not in it."""
    missing = []
    if used.cost_unknown:
        missing.append(f"{used.cost_unknown} of unknown cost")
    if used.possibly_billed:
        missing.append(f"{used.possibly_billed} unanswered that may be billed")
    return money(used.cost) + (f" (not in it: {', '.join(missing)})" if missing else "")


def answer_document(answer: Completion) -> dict[str, Any]:
    calls = [{"id": call.id, "name": call.function.name, "arguments": arguments_of(call)} for call in answer.tool_calls]
    return {
        "model": answer.model,
        "gateway": answer.gateway,
        "text": answer.text,
        "tool_calls": calls,
        "refusal": answer.refusal,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage.to_dict(),
        "cost": None if answer.cost is None else str(answer.cost),
        "cost_source": answer.cost_source,
        "mock": answer.mock,
        "answer": answer.to_dict(),
        "route": answer.route.to_dict(),
    }


def _time(route: Route, streamed: bool) -> str:
    """How long the call took, and when the answer itself began."""
    first = route.attempts[-1].first_token if streamed and route.attempts else None
    return seconds(route.duration) + ("" if first is None else f" (first token {seconds(first)})")


def _oddities(answer: Completion) -> Iterator[str]:
    if answer.finish_reason not in (None, "stop"):
        yield f"finish reason: {answer.finish_reason}"
    if "no_content" in answer.flags:
        yield "no content"
    for field in _MEDIA:
        if answer.message.raw.get(field):
            yield f"with {field}, which --json shows"
    if answer.route.degraded:
        yield "limits counted by this process alone, the store being lost"
