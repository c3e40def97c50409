"""What an outcome means: :func:`classify`, one total function over one table.

``VERDICTS`` says for each code what to do, whom to blame, what the breakers learn and whether money may be due. ``WORDS``,
``STATUSES``, ``FAILURES`` and ``MESSAGES`` say which code a signal has. Nothing else in the library looks at a status or at an
error body. The body beats the status: gateways send errors with HTTP 200 and unknown models with 400. Within the body,
OpenRouter's ``availability`` and ``error_type`` come first, then ``limit_source``, ``code`` and ``type``, then the status, and
message texts last, to refine what the status leaves open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from routerkit.core.effects import Failure
from routerkit.core.hints import parse_hint
from routerkit.types.verdict import Action, Billing, Blame, Condition, Sample, Sent, Verdict, Word

MODEL_COOLDOWN = 5.0
"""Seconds a model rests after a 429 without a hint."""
MODEL_COOLDOWN_CAP = 300.0
GATEWAY_COOLDOWN_CAP = 60.0
KEY_COOLDOWN_CAP = 3600.0
NEGATIVE_CACHE = 3600.0
"""Seconds for which "no such model" is believed."""


class Ending(Word):
    """How an answer that came with HTTP 200 ended, as far as the status and errors in it do not tell."""

    OK = "ok"
    EMPTY = "empty"
    MALFORMED = "malformed"
    GENERATION_FAILED = "generation_failed"
    TRUNCATED = "truncated"
    CONTENT_IDLE = "content_idle"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105 - not a password
    STREAM_LIMIT = "stream_limit"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"


@attrs.frozen
class Signal:
    """One attempt's outcome, the same whichever transport brought it."""

    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: Any = attrs.field(default=None, repr=False)
    """The parsed JSON, or ``None``."""
    text: bytes = attrs.field(default=b"", repr=False)
    """The body's first bytes when it is not JSON."""
    failure: Failure | None = None
    sent: Sent = Sent.RESPONDED
    reused: bool = False
    ending: Ending | None = None
    """For outcomes that neither a status nor a failure tells."""
    wall: float = 0.0
    """Unix seconds, for dates in hints."""
    routing_preferences: bool = False
    """Whether the request restricts providers (``provider``)."""
    insured: bool = False
    """Whether the gateway never bills empty answers and errors."""
    outlasted: bool = False
    """The deadline cut an attempt that had already run longer than a healthy one does."""


@attrs.frozen
class Rule:
    """A row of the table, from which a verdict is made."""

    action: Action
    blame: Blame = Blame.NOBODY
    sample: Sample = Sample.NEUTRAL
    billing: Billing = Billing.NONE
    cooldown: float = 0.0
    """Seconds without a hint; a hint replaces it where ``hinted``."""
    hinted: float = 0.0
    """Cap of a cooldown that a hint asks for; 0: hints make none."""
    retry_if_last: bool = False
    condition: Condition = Condition.ANY
    insurable: bool = False
    """Not billed by a gateway that insures failures."""


_A, _B, _S, _M, _C = Action, Blame, Sample, Billing, Condition

VERDICTS: dict[str, Rule] = {
    # success
    "ok": Rule(_A.RETURN, sample=_S.OK, billing=_M.CONFIRMED),
    # the request
    "invalid_request": Rule(_A.FAIL, _B.REQUEST),
    "unsupported": Rule(_A.NEXT_MODEL, _B.MODEL, condition=_C.CAPABLE),
    "context_length": Rule(_A.NEXT_MODEL, _B.REQUEST, condition=_C.LARGER_CONTEXT),
    "content_policy": Rule(_A.FAIL, _B.REQUEST),
    "rejected": Rule(_A.FAIL, _B.REQUEST),
    "payload_too_large": Rule(_A.FAIL, _B.REQUEST),
    "client_error": Rule(_A.FAIL, _B.REQUEST),
    # the key and its account
    "authentication": Rule(_A.NEXT_KEY, _B.KEY, cooldown=60),
    "payment_required": Rule(_A.NEXT_KEY, _B.KEY, cooldown=300),
    "in_flight_budget": Rule(_A.RETRY_SAME, _B.KEY, hinted=KEY_COOLDOWN_CAP),
    "weight_exceeds_budget": Rule(_A.NEXT_MODEL, _B.REQUEST, condition=_C.CHEAPER),
    "permission_denied": Rule(_A.FAIL, _B.KEY),
    "key_budget": Rule(_A.NEXT_KEY, _B.KEY, cooldown=300, hinted=KEY_COOLDOWN_CAP),
    "free_tier_exhausted": Rule(_A.NEXT_MODEL, _B.KEY, cooldown=60, hinted=KEY_COOLDOWN_CAP),
    "insufficient_quota": Rule(_A.NEXT_KEY, _B.KEY, cooldown=300),
    # the model
    "model_not_found": Rule(_A.NEXT_MODEL, _B.MODEL, cooldown=NEGATIVE_CACHE),
    "model_unavailable": Rule(_A.NEXT_MODEL, _B.MODEL, cooldown=NEGATIVE_CACHE),
    "policy_restricted": Rule(_A.NEXT_MODEL, _B.TENANT, cooldown=NEGATIVE_CACHE),
    "routing_requirements": Rule(_A.NEXT_MODEL, _B.TENANT),
    "request_timeout": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    "conflict": Rule(_A.RETRY_SAME),
    "capacity_exhausted": Rule(
        _A.NEXT_MODEL, _B.MODEL, cooldown=MODEL_COOLDOWN, hinted=MODEL_COOLDOWN_CAP, retry_if_last=True
    ),
    "rate_limited": Rule(
        _A.NEXT_MODEL, _B.MODEL, cooldown=MODEL_COOLDOWN, hinted=MODEL_COOLDOWN_CAP, retry_if_last=True
    ),
    "server_error": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    "provider_unavailable": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    "overloaded": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, hinted=MODEL_COOLDOWN_CAP, retry_if_last=True),
    "upstream_timeout": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    "unknown_server_error": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    # the gateway
    "not_an_api": Rule(_A.NEXT_GATEWAY, _B.GATEWAY, _S.FAIL, hinted=GATEWAY_COOLDOWN_CAP),
    "misdirected": Rule(_A.RETRY_SAME, _B.GATEWAY),
    "edge_error": Rule(_A.NEXT_GATEWAY, _B.GATEWAY, _S.FAIL, hinted=GATEWAY_COOLDOWN_CAP, retry_if_last=True),
    "edge_error_sent": Rule(
        _A.NEXT_GATEWAY, _B.GATEWAY, _S.FAIL, _M.POSSIBLE, hinted=GATEWAY_COOLDOWN_CAP, retry_if_last=True
    ),
    "unexpected_redirect": Rule(_A.FAIL, _B.GATEWAY),
    "unexpected_response": Rule(_A.NEXT_MODEL, _B.GATEWAY, _S.FAIL, _M.POSSIBLE),
    # the network
    "connect_failed": Rule(_A.NEXT_GATEWAY, _B.GATEWAY, _S.FAIL),
    "tls_verify": Rule(_A.FAIL, _B.GATEWAY, _S.FAIL),
    "stale_connection": Rule(_A.RETRY_SAME, billing=_M.POSSIBLE),
    "connection_lost": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    "first_byte_timeout": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    "first_token_timeout": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    "idle_timeout": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    "content_idle_timeout": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    "truncated": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    # the body of a 200
    "malformed": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True),
    "empty": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True, insurable=True),
    "generation_failed": Rule(_A.NEXT_MODEL, _B.MODEL, _S.FAIL, _M.POSSIBLE, retry_if_last=True, insurable=True),
    # our own side
    "deadline": Rule(_A.FAIL, billing=_M.POSSIBLE),
    "deadline_slow": Rule(_A.FAIL, _B.MODEL, _S.SLOW, _M.POSSIBLE),
    "cancelled": Rule(_A.FAIL, billing=_M.POSSIBLE),
    "local_overload": Rule(_A.FAIL, _B.LOCAL, billing=_M.POSSIBLE),
    "response_too_large": Rule(_A.FAIL, _B.LOCAL, billing=_M.POSSIBLE),
}

WORDS: dict[str, str] = {
    # error.availability.code
    "wrong_endpoint": "unsupported",
    "no_endpoints": "model_unavailable",
    "model_deprecated": "model_unavailable",
    "model_unavailable_upstream": "model_unavailable",
    "free_variant_ended": "model_unavailable",
    "region_restricted": "model_unavailable",
    "capacity_exhausted": "capacity_exhausted",
    "temporarily_unavailable": "overloaded",
    "privacy_restricted": "policy_restricted",
    "constraint_filtered": "policy_restricted",
    # error_type
    "context_length_exceeded": "context_length",
    "max_tokens_exceeded": "context_length",
    "token_limit_exceeded": "context_length",
    "string_too_long": "context_length",
    "authentication": "authentication",
    "permission_denied": "permission_denied",
    "payment_required": "payment_required",
    "rate_limit_exceeded": "rate_limited",
    "provider_overloaded": "overloaded",
    "provider_unavailable": "provider_unavailable",
    "invalid_request": "invalid_request",
    "invalid_prompt": "invalid_request",
    "not_found": "model_not_found",
    "precondition_failed": "rejected",
    "payload_too_large": "payload_too_large",
    "unprocessable": "rejected",
    "content_policy_violation": "content_policy",
    "refusal": "content_policy",
    "invalid_image": "unsupported",
    "image_too_large": "unsupported",
    "image_too_small": "unsupported",
    "unsupported_image_format": "unsupported",
    "image_not_found": "unsupported",
    "image_download_failed": "unsupported",
    "server": "server_error",
    "unmapped": "server_error",
    "timeout": "upstream_timeout",
    # limit_source
    "openrouter_in_flight_budget": "in_flight_budget",
    "openrouter_credits": "weight_exceeds_budget",
    "weight_exceeds_budget": "weight_exceeds_budget",
    "openrouter_key_limit": "key_budget",
    "openrouter_workspace_budget": "key_budget",
    "openrouter_guardrail_budget": "key_budget",
    "openrouter_free_tier_daily": "free_tier_exhausted",
    "openrouter_shared_capacity": "capacity_exhausted",
    # error.code and error.type of OpenAI, llama.cpp, vLLM, LiteLLM and their kin
    "model_not_found": "model_not_found",
    "insufficient_quota": "insufficient_quota",
    "billing_hard_limit_reached": "insufficient_quota",
    "invalid_api_key": "authentication",
    "authentication_error": "authentication",
    "permission_error": "permission_denied",
    "content_filter": "content_policy",
    "unsupported_parameter": "unsupported",
    "unsupported_value": "unsupported",
    "exceed_context_size_error": "context_length",
    "rate_limit_error": "rate_limited",
    "overloaded_error": "overloaded",
    "overloaded": "overloaded",
    "server_error": "server_error",
    "internal_server_error": "server_error",
    "timeout_error": "upstream_timeout",
}

STATUSES: dict[int, str] = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "model_not_found",
    408: "request_timeout",
    409: "conflict",
    410: "model_unavailable",
    413: "payload_too_large",
    421: "misdirected",
    425: "conflict",
    429: "rate_limited",
    500: "server_error",
    502: "provider_unavailable",
    503: "overloaded",
    504: "upstream_timeout",
    520: "edge_error_sent",
    524: "upstream_timeout",
    529: "overloaded",
    **dict.fromkeys((405, 406, 411, 412, 414, 415, 417, 422, 426, 431, 501, 505), "rejected"),
    **dict.fromkeys((521, 522, 523, 525, 526, 530), "edge_error"),
}

FAILURES: dict[Failure, str] = {
    Failure.RESOLVE: "connect_failed",
    Failure.CONNECT: "connect_failed",
    Failure.CONNECT_TIMEOUT: "connect_failed",
    Failure.TLS_VERIFY: "tls_verify",
    Failure.DISCONNECTED: "connection_lost",
    Failure.FIRST_BYTE_TIMEOUT: "first_byte_timeout",
    Failure.TRUNCATED: "truncated",
    Failure.READ_TIMEOUT: "idle_timeout",
    Failure.MALFORMED: "unexpected_response",
    Failure.TOO_LARGE: "response_too_large",
    Failure.LOCAL: "local_overload",
}

ENDINGS: dict[Ending, str] = {
    Ending.OK: "ok",
    Ending.EMPTY: "empty",
    Ending.MALFORMED: "malformed",
    Ending.GENERATION_FAILED: "generation_failed",
    Ending.TRUNCATED: "truncated",
    Ending.CONTENT_IDLE: "content_idle_timeout",
    Ending.FIRST_TOKEN_TIMEOUT: "first_token_timeout",
    Ending.STREAM_LIMIT: "response_too_large",
    Ending.CANCELLED: "cancelled",
}

MESSAGES: tuple[tuple[str, str], ...] = (
    ("is not a valid model id", "model_not_found"),
    ("invalid model name", "model_not_found"),
    ("free-models-per-", "free_tier_exhausted"),
    ("exceeded your current quota", "insufficient_quota"),
    ("matching your data policy", "policy_restricted"),
    ("no endpoints found that support", "unsupported"),
    ("no endpoints found", "model_unavailable"),
    ("maximum context length", "context_length"),
    ("context size", "context_length"),
    ("context window", "context_length"),
    ("prompt is too long", "context_length"),
    ("routing requirements", "routing_requirements"),
    ("authentication error", "authentication"),
    ("invalid api key", "authentication"),
)
"""Texts of gateways that send no word, tried in order, in lower case; only where the status alone would decide."""

_GENERAL = frozenset(
    {
        "invalid_request",
        "rate_limited",
        "payment_required",
        "permission_denied",
        "model_not_found",
        "overloaded",
    }
)
"""Codes that a more specific word of the same answer may refine."""

OK = Verdict("ok", Action.RETURN, Blame.NOBODY, Sample.OK, Billing.CONFIRMED)


def classify(signal: Signal) -> Verdict:
    """The verdict on any signal; never raises, whatever the signal holds."""
    code = _code(signal)
    rule = VERDICTS[code]
    hint = parse_hint(signal.headers, signal.body, signal.wall) if signal.status is not None else None
    seconds = None if hint is None else hint.seconds
    verdict = Verdict(
        code=code,
        action=rule.action,
        blame=rule.blame,
        sample=rule.sample,
        billing=_billing(rule, signal),
        sent=signal.sent,
        cooldown=min(seconds, rule.hinted) if seconds is not None and rule.hinted else rule.cooldown,
        retry_after=seconds,
        retry_if_last=rule.retry_if_last,
        condition=rule.condition,
    )
    return _overruled(verdict, _availability(signal.body).get("retryable"))


def error_object(body: Any) -> dict[str, Any] | None:
    """The error that a JSON answer holds, as a dict, or ``None``. A bare string becomes its ``message``."""
    if not isinstance(body, dict):
        return None
    error = body if body.get("object") == "error" else body.get("error")
    if error is None:
        error = next((choice["error"] for choice in _choices(body) if choice.get("error")), None)
    if isinstance(error, str) and error:
        return {"message": error}
    if isinstance(error, dict):
        return error
    return {"message": ""} if error else None


def error_words(body: Any) -> Iterator[str]:
    """Every word in an answer that may name its error, the most telling first, in lower case."""
    error = error_object(body) or {}
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    top = body if isinstance(body, dict) else {}
    for source in (
        _availability(body).get("code"),
        metadata.get("error_type"),
        error.get("error_type"),
        top.get("error_type"),
        metadata.get("limit_source"),
        error.get("limit_source"),
        error.get("code"),
        error.get("type"),
    ):
        if isinstance(source, str):
            yield source.lower()


def _code(signal: Signal) -> str:
    if signal.failure is not None:
        stale = signal.failure is Failure.DISCONNECTED and signal.reused
        return "stale_connection" if stale else FAILURES[signal.failure]
    if signal.ending is Ending.DEADLINE:
        return "deadline_slow" if signal.outlasted else "deadline"
    if signal.ending is Ending.MALFORMED and signal.text.lstrip().startswith(b"<"):
        return "not_an_api"
    error = error_object(signal.body)
    if signal.ending is not None and (error is None or signal.ending is Ending.CANCELLED):
        return ENDINGS[signal.ending]
    status = _status(signal.status, error)
    if status is None:
        return "malformed"
    named = _named(signal.body)
    if named is not None and named not in _GENERAL:
        return named
    refined = _refined(status, signal, error)
    return refined or named or _by_status(status, signal, error)


def _named(body: Any) -> str | None:
    general = None
    for word in error_words(body):
        code = WORDS.get(word)
        if code is not None and code not in _GENERAL:
            return code
        general = general or code
    return general


def _refined(status: int, signal: Signal, error: dict[str, Any] | None) -> str | None:
    """What a moderation note, a provider code or a message adds to a general word or a bare status."""
    if error is None:
        return None
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    if status == 403 and (metadata.get("reasons") or metadata.get("patterns")):
        return "content_policy"
    if status == 429 and metadata.get("provider_code"):
        return "capacity_exhausted"
    message = error.get("message")
    text = message[:2000].lower() if isinstance(message, str) else ""
    for fragment, code in MESSAGES:
        if fragment in text and (signal.routing_preferences if code == "routing_requirements" else status < 500):
            return code
    return None


def _by_status(status: int, signal: Signal, error: dict[str, Any] | None) -> str:
    if error is None and (status in (403, 404) or status >= 500) and _foreign(status, signal):
        return "not_an_api"
    code = STATUSES.get(status)
    if code is not None:
        return code
    if 300 <= status < 400:
        return "unexpected_redirect"
    if 400 <= status < 500:
        return "client_error"
    return "unknown_server_error" if 500 <= status < 600 else "unexpected_response"


def _foreign(status: int, signal: Signal) -> bool:
    """Whether an answer without an error object comes from something else than this API: a firewall, a portal, a web server."""
    text = signal.text.lstrip()
    if text.startswith(b"<"):
        return True
    return (status == 404 and signal.body is not None) or (status < 500 and bool(text))


def _status(status: int | None, error: dict[str, Any] | None) -> int | None:
    """The HTTP status, or for an error within a 200 the number that the error itself names."""
    if error is None or (status is not None and status >= 300):
        return status
    for source in (error.get("http_status"), error.get("status"), error.get("code")):
        number = (
            int(source)
            if isinstance(source, str) and source.isascii() and source.isdigit() and len(source) == 3
            else source
        )
        if isinstance(number, int) and 300 <= number < 600:
            return number
    return 500


def _billing(rule: Rule, signal: Signal) -> Billing:
    if rule.action is not Action.RETURN and signal.sent is Sent.NOT_SENT:
        return Billing.NONE
    errored = error_object(signal.body) is not None and signal.status == 200
    if signal.insured and rule.billing is Billing.POSSIBLE and (rule.insurable or errored):
        return Billing.NONE
    return rule.billing


def _overruled(verdict: Verdict, retryable: Any) -> Verdict:
    """OpenRouter asks to switch on ``availability.retryable`` rather than on the code."""
    if retryable is False and verdict.action is Action.RETRY_SAME:
        return attrs.evolve(verdict, action=Action.NEXT_MODEL)
    if retryable is False:
        return attrs.evolve(verdict, retry_if_last=False)
    if retryable is True and verdict.action is Action.FAIL:
        return attrs.evolve(verdict, action=Action.NEXT_MODEL, retry_if_last=True)
    if retryable is True:
        return attrs.evolve(verdict, retry_if_last=True)
    return verdict


def _availability(body: Any) -> dict[str, Any]:
    error = error_object(body)
    availability = error.get("availability") if error else None
    return availability if isinstance(availability, dict) else {}


def _choices(body: dict[str, Any]) -> list[dict[str, Any]]:
    choices = body.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
