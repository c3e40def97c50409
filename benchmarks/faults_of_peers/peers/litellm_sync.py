"""litellm, `Router`, its sync methods: one retry, a fallback, `timeout` and `stream_timeout`, the `openai/` provider."""

from __future__ import annotations

from collections.abc import Iterator
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


def complete(client: Router) -> Any:
    answer = client.completion(model="primary", messages=[{"role": "user", "content": "Hello"}])
    return answer.choices[0].message.content if answer.choices else None


def stream(client: Router) -> Iterator[Any]:
    chunks = client.completion(model="primary", messages=[{"role": "user", "content": "Hello"}], stream=True)
    for chunk in chunks:
        yield chunk.choices[0].delta.content if chunk.choices else None
