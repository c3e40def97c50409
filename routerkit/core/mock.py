"""What dev mode answers: made up of the request alone, always the same, and plain to see.

Pure functions from a request's JSON to a response's JSON. Which faults happen when, and what is waited for, is the business of
:mod:`routerkit.transport.mock`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from routerkit.core.json_schema import sample
from routerkit.core.pricing import cost_of
from routerkit.types.model import Model
from routerkit.types.tokens import Usage

QUOTED = 1000
"""Characters of a prompt that an answer quotes."""
_CREATED = 1_700_000_000


def completion(request: Mapping[str, Any], model: Model | None, text: str | None = None) -> dict[str, Any]:
    """The answer to a request. Raises UnsatisfiableSchemaError when a schema in it cannot be met."""
    message, reason = _message(request, text)
    tokens = _tokens(message.get("content") or orjson.dumps(message.get("tool_calls")).decode())
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    content = message["content"]
    if isinstance(limit, int) and 0 < limit < tokens and content:
        message["content"], reason, tokens = content[: 4 * limit], "length", limit
    choices = request.get("n")
    count = choices if isinstance(choices, int) and 0 < choices <= 16 else 1
    return {
        "id": "gen-mock-0000000001",
        "object": "chat.completion",
        "created": _CREATED,
        "model": request.get("model"),
        "provider": "Mock",
        "choices": [
            {"index": index, "message": message, "finish_reason": reason, "native_finish_reason": reason}
            for index in range(count)
        ],
        "usage": _usage(_prompt_tokens(request), tokens * count, model),
    }


def chunks(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same answer as the chunks of a stream: the role, pieces of the content, the finish reason, the usage."""
    head = {**answer, "object": "chat.completion.chunk"}
    usage = head.pop("usage")
    yield {**head, "choices": [_delta(choice, {"role": "assistant", "content": ""}) for choice in answer["choices"]]}
    for choice in answer["choices"]:
        message = choice["message"]
        for piece in _pieces(message.get("content") or ""):
            yield {**head, "choices": [_delta(choice, {"content": piece})]}
        for index, call in enumerate(message.get("tool_calls") or ()):
            for part in _call_parts(index, call):
                yield {**head, "choices": [_delta(choice, {"tool_calls": [part]})]}
    yield {
        **head,
        "choices": [{**_delta(choice, {}), "finish_reason": choice["finish_reason"]} for choice in answer["choices"]],
    }
    yield {**head, "choices": [], "usage": usage}


def error(status: int, message: str, code: str | int | None = None) -> dict[str, Any]:
    return {"error": {"code": status if code is None else code, "message": message}}


def _message(request: Mapping[str, Any], text: str | None) -> tuple[dict[str, Any], str]:
    prompt = _last_text(request)
    if text is None:
        tool = _chosen_tool(request)
        if tool is not None:
            return {"role": "assistant", "content": None, "tool_calls": [_call(tool, prompt)]}, "tool_calls"
        text = _structured(request, prompt) or f"[mock {request.get('model')}] You said: {prompt}"
    return {"role": "assistant", "content": text}, "stop"


def _structured(request: Mapping[str, Any], prompt: str) -> str | None:
    form: Any = request.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_object":
        return orjson.dumps({"mock": True, "you_said": prompt}).decode()
    if kind != "json_schema":
        return None
    wrapped = form["json_schema"] if isinstance(form.get("json_schema"), dict) else {}
    return orjson.dumps(sample(wrapped.get("schema", {}), prompt or "mock")).decode()


def _chosen_tool(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The function that the answer calls: the one that is asked for, else the first; none after a tool has answered."""
    tools: list[Mapping[str, Any]] = [
        tool["function"] for tool in request.get("tools") or () if isinstance(tool.get("function"), dict)
    ]
    choice = request.get("tool_choice")
    if not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        return next((tool for tool in tools if tool.get("name") == name), tools[0])
    return None if request["messages"][-1].get("role") == "tool" else tools[0]


def _call(tool: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    arguments = sample(tool.get("parameters") or {"type": "object"}, prompt or "mock")
    return {
        "id": "call_mock_1",
        "type": "function",
        "function": {"name": tool.get("name"), "arguments": orjson.dumps(arguments).decode()},
    }


def _last_text(request: Mapping[str, Any]) -> str:
    """The text of the last message, without its media, cut."""
    content = request["messages"][-1].get("content")
    if isinstance(content, list):
        content = " ".join(str(part.get("text", f"<{part.get('type')}>")) for part in content if isinstance(part, dict))
    return str(content or "")[:QUOTED]


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of a word or so, never fewer than four where it has the characters."""
    size = max(1, min(12, len(text) // 4))
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _call_parts(index: int, call: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    function = call["function"]
    yield {"index": index, **call, "function": {"name": function["name"], "arguments": ""}}
    for piece in _pieces(function["arguments"]):
        yield {"index": index, "function": {"arguments": piece}}


def _delta(choice: Mapping[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": choice["index"], "delta": delta, "finish_reason": None}


def _prompt_tokens(request: Mapping[str, Any]) -> int:
    return sum(4 + _tokens(orjson.dumps(message.get("content")).decode()) for message in request["messages"])


def _tokens(text: str) -> int:
    return -(-len(text) // 4)


def _usage(prompt: int, answer: int, model: Model | None) -> dict[str, Any]:
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    cost, _ = cost_of(Usage(usage), model)
    if cost is not None:
        usage["cost"] = float(cost)
    return usage
