"""How gateways say what went wrong, as data: which words, statuses, failures and messages have which verdict."""

from __future__ import annotations

from routerkit.core.effects import Failure
from routerkit.core.verdict_table import Ending

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
    "key_model_access_denied": "policy_restricted",
    "team_model_access_denied": "policy_restricted",
    "user_model_access_denied": "policy_restricted",
    "org_model_access_denied": "policy_restricted",
    "budget_exceeded": "key_budget",
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
    ("you do not have access", "policy_restricted"),  # OpenAI, with its word for a model that does not exist
    ("is not a valid model id", "model_not_found"),
    ("invalid model name", "model_not_found"),
    ("free-models-per-", "free_tier_exhausted"),
    ("exceeded your current quota", "insufficient_quota"),
    ("matching your data policy", "policy_restricted"),
    ("no allowed providers", "policy_restricted"),
    ("providers have been ignored", "policy_restricted"),
    ("your guardrail restrictions", "policy_restricted"),
    ("no endpoints found that support", "unsupported"),
    ("no endpoints found that can handle", "unsupported"),
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

OF_PREFERENCES = frozenset({"model_unavailable", "policy_restricted"})
"""What a request may have brought about that restricts providers itself (``provider``): others need not meet it."""

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
