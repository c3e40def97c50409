"""pydantic-ai, an `Agent` on a `FallbackModel` of two `OpenRouterModel`s; one retry in the SDK underneath."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openrouter import OpenRouterModel
from pydantic_ai.providers.openrouter import OpenRouterProvider


def connect(given: SimpleNamespace) -> Any:
    sdk = AsyncOpenAI(api_key=given.key, base_url=given.base_url, timeout=given.seconds, max_retries=1)
    provider = OpenRouterProvider(openai_client=sdk)
    models = [OpenRouterModel(name, provider=provider) for name in (given.primary, given.fallback)]
    return Agent(FallbackModel(*models))


async def complete(client: Any) -> Any:
    return (await client.run("Hello")).output


async def stream(client: Any) -> AsyncIterator[Any]:
    async with client.run_stream("Hello") as answer:
        async for piece in answer.stream_text(delta=True):
            yield piece
