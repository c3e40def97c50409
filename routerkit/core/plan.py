"""Which models a call may try, in which order, and why: requested, default, fallbacks, then the catalogue.

What the caller named is tried as named. The catalogue is a last resort that nobody asked for by name, so its models must be
able to do what the request needs and cost no more than the dearest model that was named (or nothing, when none was).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from routerkit.core.catalog import Snapshot
from routerkit.core.pricing import within
from routerkit.errors import RouterKitError
from routerkit.types.model import Model, Pricing
from routerkit.types.request import ChatRequest
from routerkit.types.route import Candidate, Origin, Plan, Skip, Target
from routerkit.types.settings import Settings

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


def named(settings: Settings, request: ChatRequest) -> Plan:
    """The targets that the caller named: requested, default, fallbacks; each model once."""
    gateway = settings.gateway.name
    wanted: list[tuple[str | None, Origin, str]] = [
        (request.model, Origin.REQUESTED, "requested by the call"),
        (settings.default_model, Origin.DEFAULT, "the default model"),
    ]
    fallbacks = settings.fallback_models if request.fallback_models is None else request.fallback_models
    wanted += [(model, Origin.FALLBACK, f"fallback {place}") for place, model in enumerate(fallbacks, 1)]
    if "models" in request.params:
        wanted = wanted[:1] if request.model else wanted[:2]
    targets: dict[Target, Candidate] = {}
    skipped = []
    for model, origin, reason in wanted:
        if model is None:
            continue
        target = Target(gateway, model)
        if target in targets:
            skipped.append(Skip(target, origin, f"{reason}, but it is in the plan already"))
        else:
            targets[target] = Candidate(target, origin, reason)
    return Plan(tuple(targets.values()), tuple(skipped))


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


def from_catalog(
    snapshot: Snapshot, settings: Settings, request: ChatRequest, present: Iterable[Target], wall: float
) -> Plan:
    """The catalogue's share of the plan: what fits and is affordable, by context length, largest first."""
    needs = needs_of(request)
    present = set(present)
    today = datetime.datetime.fromtimestamp(wall, datetime.timezone.utc).date()
    ceilings = [model.pricing for target in present if (model := snapshot.get(target.model)) is not None]
    components = _payable(request, needs)
    targets, skipped = [], []
    for model in sorted(snapshot.models, key=lambda model: -(model.context_length or 0)):
        target = Target(settings.gateway.name, model.id)
        if target in present:
            continue
        reason = unfit(model, needs, today)
        if reason is None and not request.allow_any_price:
            reason = _too_dear(model.pricing, ceilings, components, any_named=bool(present))
        if reason is not None:
            skipped.append(Skip(target, Origin.CATALOG, reason))
            continue
        size = f"{model.context_length} tokens" if model.context_length else "unknown"
        targets.append(Candidate(target, Origin.CATALOG, f"from the catalogue: fits, context {size}"))
    return Plan(tuple(targets), tuple(skipped))


def unreadable(settings: Settings, error: RouterKitError) -> Skip:
    """The entry of a plan whose catalogue could not be had."""
    reason = f"could not be read: {error.code or 'no time left'}"
    return Skip(Target(settings.gateway.name, "the catalogue"), Origin.CATALOG, reason)


def _payable(request: ChatRequest, needs: Needs) -> list[str]:
    """The components of a price that this request can incur."""
    components = ["prompt", "completion", "request", "internal_reasoning"]
    components += [name for name in ("image", "audio") if name in needs.inputs | needs.outputs]
    if "plugins" in request.params or "web_search_options" in request.params:
        components.append("web_search")
    return components


def _too_dear(price: Pricing, ceilings: list[Pricing], components: list[str], *, any_named: bool) -> str | None:
    if price.free:
        return None
    if not price.known:
        return "its price is unknown"
    if not any_named:
        return "not free, and no model was named to compare with"
    if not any(ceiling.known for ceiling in ceilings):
        return "not free, and the price of the models named is unknown"
    return None if within(price, ceilings, components) else "dearer than the models named"


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
