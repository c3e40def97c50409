"""routerkit, `Client`. The five clocks of an attempt are those 3 s, everything else is the default."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

from routerkit import Client, Timeouts


def connect(given: SimpleNamespace) -> Client:
    seconds = given.seconds
    return Client(
        api_key=given.key,
        gateway="openrouter",
        base_url=given.base_url,
        default_model=given.primary,
        fallback_models=[given.fallback],
        timeout=Timeouts(connect=seconds, first_byte=seconds, first_token=seconds, idle=seconds, content_idle=seconds),
    )


def complete(client: Client) -> str:
    return client.complete("Hello").text


def stream(client: Client) -> Iterator[str]:
    with client.stream("Hello") as chunks:
        for chunk in chunks:
            yield chunk.text


def close(client: Client) -> None:
    client.close()
