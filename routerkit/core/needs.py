"""What a request needs of a model, read from its messages and parameters, and whether a model of the catalogue can give it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from routerkit.types.model import Model
from routerkit.types.request import ChatRequest

CHARACTERS_PER_TOKEN = 3
"""A low guess for text, so that the token estimate is a high one."""
MEDIA_TOKENS = 2_000
"""The guess for one image, sound or file, however long its data is."""

_MODALITY = {
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "file": "file",
    "input_file": "file",
    "video_url": "video",
    "input_video": "video",
}
"""Content part type to input modality."""

_MODEL_PARAMETERS = (
    *("frequency_penalty", "logit_bias", "logprobs", "max_tokens", "min_p", "presence_penalty", "reasoning"),
    *("repetition_penalty", "response_format", "seed", "stop", "temperature", "tool_choice", "tools", "top_a", "top_k"),
    *("top_logprobs", "top_p", "verbosity", "web_search_options"),
)

_SUPPORT: dict[str, str] = {
    **{name: name for name in _MODEL_PARAMETERS},
    "parallel_tool_calls": "tools",
    "functions": "tools",
    "reasoning_effort": "reasoning",
    "max_completion_tokens": "max_tokens",
}
"""Request parameter to the word that a catalogue lists under ``supported_parameters``. Others concern only the gateway."""


@attrs.frozen
class Needs:
    """What a model must be able to do for one request."""

    inputs: frozenset[str]
    outputs: frozenset[str]
    parameters: frozenset[str]
    tokens: int
    """A high estimate of prompt and answer together."""


def needs_of(request: ChatRequest) -> Needs:
    """What the request needs, read from its messages and parameters."""
    inputs, media, characters = {"text"}, 0, 0
    for message in request.messages:
        content = message.get("content")
        for part in content if isinstance(content, (list, tuple)) else ():
            if not isinstance(part, Mapping):
                continue
            modality = _MODALITY.get(str(part.get("type")))
            if modality is not None:
                inputs.add(modality)
                media += 1
            else:
                characters += len(str(part.get("text") or ""))
        if isinstance(content, str):
            characters += len(content)
        characters += len(str(message.get("tool_calls") or ""))
    params = request.params
    characters += len(str(params.get("tools", ""))) + len(str(params.get("response_format", "")))
    tokens = characters // CHARACTERS_PER_TOKEN + media * MEDIA_TOKENS + _answer_tokens(params)
    outputs = params.get("modalities")
    return Needs(
        inputs=frozenset(inputs),
        outputs=frozenset(each for each in outputs if isinstance(each, str))
        if isinstance(outputs, (list, tuple))
        else frozenset(),
        parameters=frozenset(_needed_parameters(params)),
        tokens=tokens,
    )


def unfit(model: Model, needs: Needs, today: datetime.date) -> str | None:
    """Why a catalogue model cannot serve the request, or ``None`` when it can as far as the catalogue tells."""
    missing = needs.inputs - set(model.input_modalities or needs.inputs)
    if missing:
        return f"does not take {_listed(missing)}"
    outputs = needs.outputs or frozenset({"text"})
    missing = outputs - set(model.output_modalities or outputs)
    if missing:
        return f"does not give {_listed(missing)}"
    missing = needs.parameters - (model.supported_parameters or needs.parameters)
    if missing:
        return f"does not support {_listed(missing)}"
    if model.context_length is not None and model.context_length < needs.tokens:
        return f"its context of {model.context_length} tokens is too small for about {needs.tokens}"
    if model.expiration_date is not None and model.expiration_date[:10] <= today.isoformat():
        return f"expired on {model.expiration_date[:10]}"
    return None


def _answer_tokens(params: Mapping[str, Any]) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = params.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return 0


def _needed_parameters(params: Mapping[str, Any]) -> Iterable[str]:
    for name in params:
        word = _SUPPORT.get(name)
        if word is not None:
            yield word
    form = params.get("response_format")
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        yield "structured_outputs"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
