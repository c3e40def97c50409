"""openai, the official SDK of OpenAI: retries (2 is its default), has no fallback."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from openai import OpenAI


def connect(given: SimpleNamespace) -> Any:
    client = OpenAI(api_key=given.key, base_url=given.base_url, timeout=given.seconds, max_retries=2)
    return SimpleNamespace(sdk=client, model=given.primary)


def complete(client: Any) -> str | None:
    answer = client.sdk.chat.completions.create(model=client.model, messages=[{"role": "user", "content": "Hello"}])
    return answer.choices[0].message.content if answer.choices else None


def stream(client: Any) -> Iterator[str | None]:
    chunks = client.sdk.chat.completions.create(
        model=client.model, messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    for chunk in chunks:
        yield chunk.choices[0].delta.content if chunk.choices else None
