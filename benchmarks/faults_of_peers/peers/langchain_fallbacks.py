"""langchain-openrouter: `ChatOpenRouter(...).with_fallbacks([...])`."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from langchain_openrouter import ChatOpenRouter


def connect(given: SimpleNamespace) -> Any:
    def chat(model: str) -> ChatOpenRouter:
        return ChatOpenRouter(
            model=model,
            api_key=given.key,
            base_url=given.base_url,
            timeout=int(given.seconds * 1000),
            max_retries=1,
        )

    return chat(given.primary).with_fallbacks([chat(given.fallback)])


def complete(client: Any) -> Any:
    return client.invoke("Hello").content


def stream(client: Any) -> Iterator[Any]:
    for chunk in client.stream("Hello"):
        yield chunk.content
