"""Is what came with HTTP 200 an answer? And: a completion put together from the chunks of a stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from routerkit.core.verdict import error_object
from routerkit.core.verdict_table import Ending
from routerkit.types.completion import CONTENT

_ENDED_WELL = frozenset({"length", "tool_calls", "function_call", "content_filter"})
"""Finish reasons with which an answer without content is still an answer: asking elsewhere would be paid twice."""
_TOLD = ("usage", "cost", "cost_details")
"""Fields of a chunk that tell what it used and cost; Infron AI's cost stands beside the usage."""


def judge(body: Any) -> Ending:
    """Whether a completion's body is an answer. An ``error`` in it is for :func:`~routerkit.core.verdict.classify` to read."""
    try:  # the one shape of nearly every answer
        choice = body["choices"][0]
        if (
            choice["message"]["content"]
            and choice.get("finish_reason") != "error"
            and "error" not in body
            and "error" not in choice
        ):
            return Ending.OK
    except (LookupError, TypeError, AttributeError):
        pass
    if not isinstance(body, dict):
        return Ending.MALFORMED
    if error_object(body) is not None:
        return Ending.GENERATION_FAILED
    choices = body.get("choices")
    if choices is not None and not isinstance(choices, list):
        return Ending.MALFORMED
    answers = [choice for choice in choices or () if isinstance(choice, dict)]
    if any(choice.get("finish_reason") == "error" for choice in answers):
        return Ending.GENERATION_FAILED
    return Ending.OK if any(_answered(choice, body) for choice in answers) else Ending.EMPTY


def has_content(message: Any) -> bool:
    """Whether a message or delta holds anything that a user asked for: text, a tool call, reasoning, a refusal, media."""
    return isinstance(message, dict) and any(message.get(name) for name in CONTENT)


def _answered(choice: dict[str, Any], body: dict[str, Any]) -> bool:
    if has_content(choice.get("message")) or choice.get("text"):
        return True
    reason = choice.get("finish_reason")
    if isinstance(reason, str) and reason in _ENDED_WELL:
        return True
    usage = body.get("usage")
    return bool(reason) and not (isinstance(usage, dict) and usage.get("completion_tokens") == 0)


def as_chunk(body: dict[str, Any]) -> dict[str, Any]:
    """A whole completion as the one chunk of a stream, for gateways that answer a stream with it."""
    choices = [
        {**{key: value for key, value in choice.items() if key != "message"}, "delta": choice.get("message") or {}}
        for choice in body.get("choices") or ()
        if isinstance(choice, dict)
    ]
    return {**body, "object": "chat.completion.chunk", "choices": choices}


def assemble(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The completion that a stream's chunks add up to: texts joined, tool calls merged by index, of usage the last figures kept."""
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for key, value in chunk.items():
            if key == "usage":
                _add_usage(whole, value)
            elif key != "choices" and (value is not None or key not in whole):
                whole[key] = value
        parts = chunk.get("choices")
        for choice in parts if isinstance(parts, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                _add_choice(choices.setdefault(index if isinstance(index, int) else 0, {"message": {}}), choice)
    whole["object"] = "chat.completion"
    whole["choices"] = [{"index": index, **choices[index]} for index in sorted(choices)]
    return whole


def told_usage(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The usage and the cost of a stream, as far as its chunks tell: as :func:`assemble` has them."""
    told: dict[str, Any] = {}
    for chunk in chunks:  # there may be thousands, and most tell nothing
        if usage := chunk.get("usage"):
            _add_usage(told, usage)
        if (cost := chunk.get("cost")) is not None:
            told["cost"] = cost
    return told


def untold(chunk: dict[str, Any]) -> dict[str, Any]:
    """A chunk without what it tells of usage and cost, as that of a stream which broke off, and which another went on from."""
    return {key: value for key, value in chunk.items() if key not in _TOLD}


def _add_usage(whole: dict[str, Any], usage: Any) -> None:
    """Some gateways tell tokens in one chunk and the cost in another, some end with a usage that is empty."""
    present = whole.get("usage")
    if isinstance(usage, dict):
        known = present if isinstance(present, dict) else {}
        whole["usage"] = known | {key: value for key, value in usage.items() if value is not None or key not in known}
    elif not isinstance(present, dict) and (usage is not None or "usage" not in whole):
        whole["usage"] = usage


def _add_choice(whole: dict[str, Any], choice: dict[str, Any]) -> None:
    delta = choice.get("delta", choice.get("message"))
    if isinstance(delta, dict):
        _add_delta(whole["message"], delta)
    for key, value in choice.items():
        if key == "logprobs" and isinstance(value, dict) and isinstance(whole.get(key), dict):
            _extend(whole[key], value)
        elif key not in ("index", "delta", "message") and (value is not None or key not in whole):
            whole[key] = dict(value) if isinstance(value, dict) else value


def _add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
        present = message.get(key)
        if key == "tool_calls" and isinstance(value, list):
            if not isinstance(present, list):
                present = message[key] = []
            _add_tool_calls(present, value)
        elif key == "role":
            message[key] = value or present
        elif isinstance(value, dict) and isinstance(present, dict):
            _extend(present, value)
        elif isinstance(value, dict):
            message[key] = dict(value)
        elif value is not None or key not in message:
            message[key] = _grown(present, value)


def _extend(whole: dict[str, Any], part: dict[str, Any]) -> None:
    """Add the part of an object: used for audio, function_call and logprobs."""
    for key, value in part.items():
        if value is not None:
            whole[key] = value if key in ("id", "name") else _grown(whole.get(key), value)


def _grown(present: Any, value: Any) -> Any:
    """Strings and lists grow; anything else is replaced."""
    grows = isinstance(value, (str, list)) and type(value) is type(present)
    return present + value if grows else value


def _add_tool_calls(calls: list[dict[str, Any]], deltas: list[Any]) -> None:
    for place, delta in enumerate(deltas):
        if not isinstance(delta, dict):
            continue
        index = delta.get("index")
        index = index if isinstance(index, int) else place
        call = next((call for call in calls if call["index"] == index), None)
        if call is None:
            call = {"index": index, "function": {}}
            calls.append(call)
        for key, value in delta.items():
            if key == "function" and isinstance(value, dict):
                _extend(call["function"], value)
            elif value is not None and key not in ("index", "function"):
                call[key] = value
