"""litellm, `Router`, its async methods: configured as with the sync ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from litellm import Router


def connect(given: SimpleNamespace) -> Router:
    def deployment(name: str, model: str) -> dict[str, Any]:
        params = {"model": f"openai/{model}", "api_key": given.key, "api_base": given.base_url}
        return {"model_name": name, "litellm_params": params}

    return Router(
        model_list=[deployment("primary", given.primary), deployment("fallback", given.fallback)],
        fallbacks=[{"primary": ["fallback"]}],
        num_retries=1,
        timeout=given.seconds,
        stream_timeout=given.seconds,
    )


async def complete(client: Router) -> Any:
    answer = await client.acompletion(model="primary", messages=[{"role": "user", "content": "Hello"}])
    return answer.choices[0].message.content if answer.choices else None


async def stream(client: Router) -> AsyncIterator[Any]:
    chunks = await client.acompletion(model="primary", messages=[{"role": "user", "content": "Hello"}], stream=True)
    async for chunk in chunks:
        yield chunk.choices[0].delta.content if chunk.choices else None
