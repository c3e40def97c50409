"""The table of verdicts, as data: for each code what to do, whom to blame, what the breakers learn, whether money may be due;
and which words, statuses, failures and messages have which code. :mod:`routerkit.core.verdict` reads it; a test walks every row.
"""

from __future__ import annotations

import attrs

from routerkit.core.effects import Failure
from routerkit.types.verdict import Action, Billing, Blame, Condition, Sample, Word

MODEL_COOLDOWN = 5.0
"""Seconds a model rests after a 429 without a hint."""
MODEL_COOLDOWN_CAP = 300.0
GATEWAY_COOLDOWN_CAP = 60.0
KEY_COOLDOWN_CAP = 3600.0
FREE_TIER_COOLDOWN_CAP = 86400.0
"""Free requests come back at midnight UTC, not before."""
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
    LAGGED = "lagged"


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
    "free_tier_exhausted": Rule(_A.NEXT_MODEL, _B.KEY, cooldown=60, hinted=FREE_TIER_COOLDOWN_CAP),
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
    "address_not_allowed": Rule(_A.FAIL, _B.GATEWAY),
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
    "local_lag": Rule(_A.NEXT_MODEL, _B.LOCAL, billing=_M.POSSIBLE, retry_if_last=True),
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
    Failure.ADDRESS: "address_not_allowed",
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
    Ending.LAGGED: "local_lag",
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
    ("file not found", "not_an_api"),  # llama.cpp, of a wrong base URL
    ("input is not supported", "unsupported"),  # llama.cpp, with status 500
)
"""Texts of gateways that send no word, tried in order, in lower case; only where the status alone would decide."""

EVEN_OF_FAILURES = frozenset({"routing requirements", "input is not supported"})
"""Those that tell more than a status of 500 or above does."""

GENERAL = frozenset(
    {
        "invalid_request",
        "rate_limited",
        "payment_required",
        "permission_denied",
        "model_not_found",
        "overloaded",
        "server_error",
    }
)
"""Codes that a more specific word of the same answer may refine."""

CLOUDFLARE = frozenset((*range(520, 527), 530))
"""Its edge explains them in HTML; the number tells more than that."""
