"""routerkit, `AsyncClient`: the same as with `Client`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

from routerkit import AsyncClient, Timeouts


def connect(given: SimpleNamespace) -> AsyncClient:
    seconds = given.seconds
    return AsyncClient(
        api_key=given.key,
        gateway="openrouter",
        base_url=given.base_url,
        default_model=given.primary,
        fallback_models=[given.fallback],
        timeout=Timeouts(connect=seconds, first_byte=seconds, first_token=seconds, idle=seconds, content_idle=seconds),
    )


async def complete(client: AsyncClient) -> str:
    return (await client.complete("Hello")).text


async def stream(client: AsyncClient) -> AsyncIterator[str]:
    async with client.stream("Hello") as chunks:
        async for chunk in chunks:
            yield chunk.text


async def close(client: AsyncClient) -> None:
    await client.aclose()
