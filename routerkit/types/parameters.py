"""The request parameters of the known gateways, as types: what a type checker knows of them, and what an editor proposes.

At run time parameters are plain dicts and pass through as they are; where a type stands here, any other mapping serves too.
Names and types are those of OpenRouter's API description (``ChatRequest``) and of its documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

Effort: TypeAlias = Literal["max", "xhigh", "high", "medium", "low", "minimal", "none"]
SortBy: TypeAlias = Literal["price", "throughput", "latency", "exacto"]


class MaxPrice(TypedDict, total=False):
    """USD: per million tokens of prompt and completion, per request, per image, per unit of audio."""

    prompt: float | str
    completion: float | str
    request: float | str
    image: float | str
    audio: float | str


class Percentiles(TypedDict, total=False):
    """Thresholds by percentile, all to be met."""

    p50: float | None
    p75: float | None
    p90: float | None
    p99: float | None


class ProviderSort(TypedDict, total=False):
    """``partition``: ``"model"`` sorts the providers of each model, ``"none"`` those of all models together."""

    by: SortBy | None
    partition: Literal["model", "none"] | None


class ProviderPreferences(TypedDict, total=False):
    """Which of the providers behind a gateway may answer, and in what order they are asked."""

    order: Sequence[str] | None
    only: Sequence[str] | None
    ignore: Sequence[str] | None
    allow_fallbacks: bool | None
    require_parameters: bool | None
    """Whether a provider must know every parameter of the request; else it ignores what it does not know."""
    data_collection: Literal["allow", "deny"] | None
    zdr: bool | None
    """Whether a provider must keep no prompts (zero data retention)."""
    enforce_distillable_text: bool | None
    quantizations: Sequence[str] | None
    sort: SortBy | ProviderSort | None
    max_price: MaxPrice
    preferred_min_throughput: float | Percentiles | None
    """Tokens per second."""
    preferred_max_latency: float | Percentiles | None
    """Seconds."""


class ReasoningOptions(TypedDict, total=False):
    """How long a model reasons, by ``effort`` or in ``max_tokens``, and whether the answer tells its reasoning."""

    effort: Effort | None
    max_tokens: int | None
    exclude: bool
    enabled: bool
    summary: Literal["auto", "concise", "detailed"] | None


class UsageAccounting(TypedDict, total=False):
    """Whether the answer tells what it cost."""

    include: bool


class UserLocation(TypedDict, total=False):
    """Where a web search is made from."""

    type: Literal["approximate"]
    city: str | None
    region: str | None
    country: str | None
    timezone: str | None


class FileParser(TypedDict, total=False):
    """What reads a PDF file."""

    engine: Literal["mistral-ocr", "native", "cloudflare-ai", "pdf-text"]


class _Identified(TypedDict):
    id: str


class Plugin(_Identified, total=False):
    """What a gateway does besides asking the model; ``id`` says which of the settings count.

    ``web``, ``web-fetch``, ``file-parser``, ``context-compression``, ``response-healing``, ``moderation``, ``auto-router``,
    ``auto-beta-router``, ``pareto-router``, ``fusion``.
    """

    enabled: bool
    engine: str
    mode: str
    max_results: int
    max_uses: int
    search_prompt: str
    include_domains: Sequence[str]
    exclude_domains: Sequence[str]
    user_location: UserLocation | None
    allowed_domains: Sequence[str]
    blocked_domains: Sequence[str]
    max_content_tokens: int
    pdf: FileParser
    allowed_models: Sequence[str]
    excluded_models: Sequence[str]
    cost_tier: Literal["low", "medium", "high", "xhigh", "max"]
    cost_quality_tradeoff: int
    pin_model: bool
    max_price: float
    min_coding_score: float
    price_source: Literal["prompt", "weighted_avg"]
    analysis_models: Sequence[str]
    model: str
    preset: str
    max_tool_calls: int
    tools: Sequence[Mapping[str, Any]]


class PredictionText(TypedDict):
    """A part of a predicted answer."""

    type: Literal["text"]
    text: str


class Prediction(TypedDict):
    """What is known of the answer beforehand, so that it comes faster."""

    type: Literal["content"]
    content: str | Sequence[PredictionText]


class StreamOptions(TypedDict, total=False):
    """``include_usage``: the last chunk holds the token counts. Asked for in every stream, unless this parameter is given."""

    include_usage: bool


class _Named(TypedDict):
    name: str


class JsonSchema(_Named, total=False):
    """A schema, and what to call it: letters, digits, ``_`` and ``-``, 64 at most."""

    description: str
    schema: Mapping[str, Any]
    strict: bool | None


class _Typed(TypedDict):
    type: str


class ResponseFormat(_Typed, total=False):
    """``type``: ``text``, ``json_object``, ``json_schema`` (with ``json_schema``), ``grammar`` (with ``grammar``), ``python``."""

    json_schema: JsonSchema | Mapping[str, Any]
    grammar: str


class StopCondition(_Typed, total=False):
    """When a gateway that runs tools itself stops: ``type`` says which of the others counts."""

    step_count: int
    tool_name: str
    max_tokens: int
    max_cost_in_dollars: float
    reason: str


class CacheControl(TypedDict, total=False):
    """Prompt caching up to here."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"]


class PromptCacheOptions(TypedDict, total=False):
    """``mode="explicit"``: only what is marked is cached."""

    mode: Literal["explicit"]
    ttl: str | None


class DebugOptions(TypedDict, total=False):
    """Streams: whether the first chunk tells what the gateway sent on."""

    echo_upstream_body: bool


class RequestParams(TypedDict, total=False):
    """Every documented request parameter of the known gateways. ``None`` means "not sent"."""

    audio: Mapping[str, Any] | None
    cache_control: CacheControl | Mapping[str, Any] | None
    debug: DebugOptions | Mapping[str, Any] | None
    frequency_penalty: float | None
    function_call: str | Mapping[str, Any] | None
    functions: Sequence[Mapping[str, Any]] | None
    image_config: Mapping[str, Any] | None
    logit_bias: Mapping[str, float] | None
    logprobs: bool | None
    max_completion_tokens: int | None
    max_tokens: int | None
    metadata: Mapping[str, str] | None
    min_p: float | None
    modalities: Sequence[str] | None
    models: Sequence[str] | None
    """Models that the gateway itself falls back on."""
    n: int | None
    parallel_tool_calls: bool | None
    plugins: Sequence[Plugin | Mapping[str, Any]] | None
    prediction: Prediction | Mapping[str, Any] | None
    presence_penalty: float | None
    prompt_cache_key: str | None
    prompt_cache_options: PromptCacheOptions | Mapping[str, Any] | None
    prompt_cache_retention: str | None
    provider: ProviderPreferences | Mapping[str, Any] | None
    reasoning: ReasoningOptions | Mapping[str, Any] | None
    reasoning_effort: str | None
    repetition_penalty: float | None
    response_format: ResponseFormat | Mapping[str, Any] | None
    route: Literal["fallback", "sort"] | None
    """What the gateway does with ``models``. The client's own choice is ``Client(strategy=…)``."""
    safety_identifier: str | None
    seed: int | None
    service_tier: str | None
    session_id: str | None
    stop: str | Sequence[str] | None
    stop_server_tools_when: Sequence[StopCondition | Mapping[str, Any]] | None
    store: bool | None
    stream_options: StreamOptions | Mapping[str, Any] | None
    temperature: float | None
    tool_choice: str | Mapping[str, Any] | None
    tools: Sequence[Mapping[str, Any]] | None
    top_a: float | None
    top_k: int | None
    top_logprobs: int | None
    top_p: float | None
    trace: Mapping[str, Any] | None
    transforms: Sequence[str] | None
    usage: UsageAccounting | Mapping[str, Any] | None
    user: str | None
    verbosity: str | None
    web_search_options: Mapping[str, Any] | None


PARAMETERS = frozenset(RequestParams.__annotations__)
"""Their names."""
