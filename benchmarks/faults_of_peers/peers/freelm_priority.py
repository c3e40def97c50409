"""freelm, `FreeLLM(strategy="priority")` over two providers, with a deadline of 10 s; hedging as by default.

It has no timeout of an attempt: its deadline is that of the call, and a slow attempt is raced against the next provider.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from freelm import FreeLLM, ModelSpec, Provider


def connect(given: SimpleNamespace) -> Any:
    def provider(name: str, model: str, priority: int) -> Provider:
        models = [ModelSpec(model, ("chat",))]
        return Provider(given.key, name=name, base_url=given.base_url, models=models, priority=priority)

    providers = [provider("primary", given.primary, 0), provider("fallback", given.fallback, 1)]
    return FreeLLM(providers, strategy="priority", timeout=10)


def complete(client: Any) -> Any:
    return client.chat([{"role": "user", "content": "Hello"}]).text


def stream(client: Any) -> Iterator[Any]:
    yield from client.stream("Hello")
