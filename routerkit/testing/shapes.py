"""The JSON of gateways' answers: completions, errors, the catalogue."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from routerkit.testing.connection import RecordedRequest

CREATED = 1_760_000_000
PROVIDER = "Fake"
USAGE: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost": 0.00012}
JSON = "application/json"
_numbers = itertools.count()


def catalog_model(model: str, **overrides: Any) -> dict[str, Any]:
    """An entry of the catalogue in the shape of OpenRouter."""
    entry: dict[str, Any] = {
        "id": model,
        "canonical_slug": model,
        "name": model.replace("/", ": ").title(),
        "created": CREATED,
        "description": f"The test model {model}.",
        "context_length": 32768,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {"prompt": "0.000001", "completion": "0.000002", "request": "0", "image": "0"},
        "top_provider": {"context_length": 32768, "max_completion_tokens": 4096, "is_moderated": False},
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "temperature", "tools", "response_format"],
    }
    return {**entry, **overrides}


CATALOG = [
    catalog_model("alpha/one"),
    catalog_model("beta/two", context_length=131072, pricing={"prompt": "0.000003", "completion": "0.000015"}),
    catalog_model("gamma/three:free", pricing={"prompt": "0", "completion": "0"}),
]


def as_json(obj: object) -> bytes:
    return json.dumps(obj).encode()


def problem(code: int | str, message: str, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    told: dict[str, Any] = {"message": message, "code": code}
    return told if metadata is None else {**told, "metadata": dict(metadata)}


def answer_fields(request: RecordedRequest, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The top-level fields of a completion, save for the choices."""
    fields = {
        "id": f"gen-{next(_numbers):06d}",
        "object": "chat.completion",
        "created": CREATED,
        "model": request.model,
        "provider": PROVIDER,
        "usage": dict(USAGE),
    }
    return {**fields, **overrides}
