"""What a request needs of a model, read from its messages and parameters, and whether a model of the catalogue can give it."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from routerkit.types.model import Model
from routerkit.types.request import ChatRequest

CHARACTERS_PER_TOKEN = 3
"""A low guess for text, so that the token estimate is a high one. Characters beyond ASCII count for as many as they have bytes in
UTF-8: a Chinese one is a token or so."""
MEDIA_TOKENS = 2_000
"""The guess for one image, sound or file, however long its data is."""
EXPECTED_ANSWER = 500
"""Tokens that an answer is expected to have where the request sets no limit; an assumption, for comparisons only."""

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
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal", "reasoning", "thinking"})
_MEDIA_OF_MESSAGES = ("images", "audio", "annotations")
"""Fields of a message that hold media, or refer to some, beside its content."""

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


_LISTS = frozenset({"functions", "logit_bias", "stop", "tools"})
"""Parameters that ask for nothing when they are empty."""
_COMMON = frozenset({"max_tokens", "stop", "temperature", "top_p"})
"""Parameters that any chat model takes, listed or not."""

MAX_COUNT = 10**15
"""A larger number is as good as this one: nothing that is counted here comes to so many."""
_LENIENT = decimal.Context(prec=100, rounding=decimal.ROUND_CEILING, traps=[])


@attrs.frozen
class Needs:
    """What a model must be able to do for one request."""

    inputs: frozenset[str]
    outputs: frozenset[str]
    parameters: frozenset[str]
    prompt_tokens: int
    """A high estimate."""
    answer_tokens: int = 0
    """The limit that the request sets; 0: none."""
    images: int = 0
    """Images among the messages."""
    sounds: int = 0
    """Sounds among the messages."""
    cached_tokens: int = 0
    """The estimate of the prompt's beginning that a cache may hold: up to the last part marked with ``cache_control``."""
    reasoning: bool = False
    """Whether the request asks for reasoning."""
    choices: int = 1
    """How many answers the request asks for (``n``)."""
    image_data: int = 0
    """Bytes of the request that are addresses or data of images, not text."""
    boundless: bool = False
    """Whether there are parts whose tokens nobody can bound: sound, files, video, and what we do not know."""

    @property
    def tokens(self) -> int:
        """A high estimate of prompt and answer together."""
        return self.prompt_tokens + self.answer_tokens


def needs_of(request: ChatRequest) -> Needs:
    """What the request needs, read from its messages and parameters."""
    params = request.params
    prompt = _Prompt(params)
    for message in request.messages:
        prompt.add(message)
    prompt.characters += _size(str(params.get("response_format", "")))
    outputs = params.get("modalities")
    return Needs(
        inputs=frozenset(prompt.inputs),
        outputs=frozenset(each for each in outputs if isinstance(each, str))
        if isinstance(outputs, (list, tuple))
        else frozenset(),
        parameters=frozenset(_needed_parameters(params)),
        prompt_tokens=prompt.tokens,
        answer_tokens=_answer_tokens(params),
        images=prompt.images,
        sounds=prompt.sounds,
        cached_tokens=prompt.cached,
        reasoning=_reasons(params),
        choices=count_of(params.get("n")) or 1,
        image_data=prompt.image_data,
        boundless=prompt.boundless,
    )


class _Prompt:
    """A prompt as it grows: tools first, as providers put them, then message by message."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.inputs = {"text"}
        self.images = self.sounds = self.image_data = self._media = 0
        self.boundless = False
        tools = params.get("tools", "")
        self.characters = _size(str(tools))
        self.cached = 0
        if isinstance(tools, (list, tuple)) and any(map(_marked, tools)):
            self.cached = self.tokens

    @property
    def tokens(self) -> int:
        return self.characters // CHARACTERS_PER_TOKEN + self._media * MEDIA_TOKENS

    def add(self, message: Mapping[str, Any]) -> None:
        content = message.get("content")
        if isinstance(content, str):
            self.characters += _size(content)
        elif isinstance(content, (list, tuple)):
            for part in content:
                if isinstance(part, Mapping):
                    self._add_part(part)
                elif not isinstance(part, str):
                    self.boundless = True
        elif content is not None:
            self.boundless = True
        if any(map(message.get, _MEDIA_OF_MESSAGES)):
            self.boundless = True
        self.characters += _size(str(message.get("tool_calls") or ""))
        if _marked(message):
            self.cached = self.tokens

    def _add_part(self, part: Mapping[str, Any]) -> None:
        kind = str(part.get("type"))
        modality = _MODALITY.get(kind)
        if modality is None:
            self.characters += _size(str(part.get("text") or ""))
        else:
            self.inputs.add(modality)
            self._media += 1
            self.sounds += modality == "audio"
        if modality == "image":
            self.images += 1
            self.image_data += _image_data(part)
        elif kind not in _TEXT_PARTS:
            self.boundless = True
        if _marked(part):
            self.cached = self.tokens


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _image_data(part: Mapping[str, Any]) -> int:
    """Characters of an image's address, which is its data where it begins with ``data:``: as many bytes at least, as JSON."""
    image = part.get("image_url")
    address = image.get("url") if isinstance(image, Mapping) else image
    return len(address) if isinstance(address, str) else 0


def _marked(part: object) -> bool:
    return isinstance(part, Mapping) and bool(part.get("cache_control"))


def unfit(model: Model, needs: Needs, today: datetime.date) -> str | None:
    """Why a catalogue model cannot serve the request, or ``None`` when it can as far as the catalogue tells."""
    missing = needs.inputs - set(model.input_modalities or needs.inputs)
    if missing:
        return f"does not take {sorted_words(missing)}"
    outputs = needs.outputs or frozenset({"text"})
    missing = outputs - set(model.output_modalities or outputs)
    if missing:
        return f"does not give {sorted_words(missing)}"
    missing = needs.parameters - model.supported_parameters
    if missing and _tells_parameters(model):
        return f"does not support {sorted_words(missing)}"
    if model.context_length is not None and model.context_length < needs.tokens:
        return f"its context of {model.context_length} tokens is too small for about {needs.tokens}"
    if model.expiration_date is not None and model.expiration_date[:10] <= today.isoformat():
        return f"expired on {model.expiration_date[:10]}"
    return None


def tells(model: Model, needs: Needs) -> bool:
    """Whether the catalogue says enough of a model to know that it can serve the request."""
    if needs.parameters - _COMMON and not _tells_parameters(model):
        return False
    takes = bool(model.input_modalities) or needs.inputs <= {"text"}
    return takes and (bool(model.output_modalities) or needs.outputs <= {"text"})


def _tells_parameters(model: Model) -> bool:
    """An empty list says that there are none; no list says nothing."""
    return bool(model.supported_parameters) or isinstance(model.raw.get("supported_parameters"), list)


def _answer_tokens(params: Mapping[str, Any]) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = params.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def count_of(value: object) -> int:
    """The largest whole number that any server might read a value as, such as ``3`` of ``"2.5"``; 0: none, or none above 0.

    JSON has no other numbers than these, and some servers take words for them.
    """
    if isinstance(value, int):
        return 0 if isinstance(value, bool) else max(0, min(value, MAX_COUNT))
    if not isinstance(value, (float, str)):
        return 0
    number = _LENIENT.create_decimal(value.strip().replace("_", "") if isinstance(value, str) else value)
    if not number.is_finite() or number <= 0:
        return 0
    return MAX_COUNT if number >= MAX_COUNT else int(number.to_integral_value(decimal.ROUND_CEILING))


def _reasons(params: Mapping[str, Any]) -> bool:
    """``reasoning`` as OpenRouter reads it (``enabled``, ``effort``, ``max_tokens``), or OpenAI's ``reasoning_effort``."""
    asked = params.get("reasoning")
    if isinstance(asked, Mapping) and asked:
        asked = asked.get("enabled") is not False and asked.get("effort") != "none" and asked.get("max_tokens") != 0
    return bool(asked) or params.get("reasoning_effort") not in (None, "", "none")


def _needed_parameters(params: Mapping[str, Any]) -> Iterable[str]:
    for name, value in params.items():
        word = _SUPPORT.get(name)
        if word is not None and not _is_off(name, value):
            yield word
    form = params.get("response_format")
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        yield "structured_outputs"


def _is_off(name: str, value: Any) -> bool:
    """Whether a parameter asks only for what any model does without it."""
    if _SUPPORT[name] == "reasoning":
        return not _reasons({name: value})
    if name == "response_format":
        return isinstance(value, Mapping) and value.get("type") == "text"
    return value is False or (name in _LISTS and not value)


def sorted_words(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
