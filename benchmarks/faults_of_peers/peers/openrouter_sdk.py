"""openrouter, the official SDK of OpenRouter: retries as it does by default, has no fallback of its own (the gateway has one)."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from openrouter import OpenRouter


def connect(given: SimpleNamespace) -> Any:
    client = OpenRouter(api_key=given.key, server_url=given.base_url, timeout_ms=int(given.seconds * 1000))
    return SimpleNamespace(sdk=client, model=given.primary)


def complete(client: Any) -> Any:
    answer = client.sdk.chat.send(model=client.model, messages=[{"role": "user", "content": "Hello"}])
    return answer.choices[0].message.content if answer.choices else None


def stream(client: Any) -> Iterator[Any]:
    events = client.sdk.chat.send(model=client.model, messages=[{"role": "user", "content": "Hello"}], stream=True)
    with events:
        for event in events:
            yield event.choices[0].delta.content if event.choices else None
