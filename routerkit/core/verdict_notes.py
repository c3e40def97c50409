"""When each verdict is given, and who says so: for the documentation, and for whoever changes the table. Not loaded at run time.

"Ours" is a decision of this library, where the sources are silent or disagree.
"""

from __future__ import annotations

from typing import NamedTuple


class Note(NamedTuple):
    when: str
    """What is seen of it."""
    source: str
    """Who says what it means."""


NOTES: dict[str, dict[str, Note]] = {
    "the request": {
        "invalid_request": Note(
            "400, `invalid_request`, `invalid_prompt`, and no better reason", "OpenRouter's error types"
        ),
        "unsupported": Note(
            "the model lacks a parameter, a modality or tools: `unsupported_parameter`, `image_…`, `wrong_endpoint`",
            "OpenRouter's error types, OpenAI's codes",
        ),
        "context_length": Note(
            "`context_length_exceeded`, `max_tokens_exceeded`, or a message that says so",
            "OpenRouter's error types; llama.cpp's message, seen",
        ),
        "content_policy": Note(
            "`content_policy_violation`, `refusal`; 403 with moderation reasons or guardrail patterns",
            "OpenRouter's moderation errors; not moving on is ours: a laxer model is the caller's decision",
        ),
        "rejected": Note(
            "405, 406, 411, 412, 414, 415, 417, 422, 426, 431, 501, 505", "RFC 9110: the request itself is refused"
        ),
        "payload_too_large": Note("413", "RFC 9110"),
        "client_error": Note("any other 4xx", "RFC 9110"),
    },
    "the key and its account": {
        "authentication": Note(
            "401, `invalid_api_key`", "OpenRouter, OpenAI; one key's refusal says nothing of the models"
        ),
        "payment_required": Note(
            "402 without a time to come back", "OpenRouter: a negative balance refuses free models too"
        ),
        "in_flight_budget": Note("402, `openrouter_in_flight_budget`, with `Retry-After`", "OpenRouter's limits"),
        "weight_exceeds_budget": Note(
            "402, `openrouter_credits`: this request would cost more than is left", "OpenRouter's limits"
        ),
        "permission_denied": Note("403 without a better reason", "RFC 9110"),
        "key_budget": Note(
            "403, `openrouter_key_limit`, workspace or guardrail budget",
            "OpenRouter's limits; asked again after an hour at most, because a budget can be raised before its reset",
        ),
        "free_tier_exhausted": Note(
            "429, `openrouter_free_tier_daily`, or `free-models-per-…` in the message",
            "OpenRouter's limits; the class rests until the reset that it names, longer than other cooldowns of a key",
        ),
        "insufficient_quota": Note(
            "429, `insufficient_quota`", "OpenAI's codes: a used-up quota is no matter of patience"
        ),
    },
    "the model": {
        "model_not_found": Note(
            "404, or 400 with `model_not_found` or a message that says so", "OpenRouter sends unknown models as 400"
        ),
        "model_unavailable": Note(
            "no endpoints, deprecated, region restricted, a free variant that ended; 410; no rest after a request that restricts"
            " providers itself",
            "OpenRouter's availability codes",
        ),
        "policy_restricted": Note(
            "`privacy_restricted`, `constraint_filtered`, “matching your data policy”, “no allowed providers”, “providers have been"
            " ignored”, “guardrail restrictions”; “you do not have access”; `key_model_access_denied` and its kin; no rest after a"
            " request that restricts providers itself",
            "OpenRouter's availability codes; OpenAI's message; LiteLLM's proxy",
        ),
        "routing_requirements": Note(
            "503 “routing requirements” to a request that restricts providers itself",
            "ours: the caller's own restriction must not count against the model",
        ),
        "request_timeout": Note("408", "RFC 9110"),
        "conflict": Note("409, 425", "OpenAI's SDK repeats a 409 (a lock); RFC 8470"),
        "capacity_exhausted": Note(
            "429 of a provider: `capacity_exhausted`, a `provider_code`, shared capacity",
            "OpenRouter's availability codes",
        ),
        "rate_limited": Note("429", "RFC 6585; a cooldown, never a failure: the model works, for others"),
        "server_error": Note("500, or an error in a 200 that names nothing better", "RFC 9110"),
        "provider_unavailable": Note("502, `provider_unavailable`", "OpenRouter: the model is down or sent nonsense"),
        "overloaded": Note("503, 529, `provider_overloaded`, `temporarily_unavailable`", "OpenRouter; Anthropic's 529"),
        "upstream_timeout": Note("504, 524", "RFC 9110; Cloudflare's 524"),
        "unknown_server_error": Note("any other 5xx", "RFC 9110"),
    },
    "the gateway": {
        "not_an_api": Note(
            "HTML, or a 404 whose JSON holds no error",
            "ours: a firewall, a portal, a wrong base URL; plain text with a 5xx is judged by its status",
        ),
        "misdirected": Note("421", "RFC 9110: another connection may lead to the right server"),
        "edge_error": Note("521, 522, 523, 525, 526, 530", "Cloudflare: its edge did not reach the gateway"),
        "edge_error_sent": Note("520", "Cloudflare: the gateway's answer to its edge was broken"),
        "unexpected_redirect": Note("any 3xx", "ours: keys and prompts are not sent after a redirect"),
        "unexpected_response": Note(
            "an answer that is not HTTP, or a 1xx or 2xx other than 200 as the last word", "RFC 9112"
        ),
    },
    "the network": {
        "connect_failed": Note(
            "no address for the name, refused, unreachable, too slow to connect, a proxy that refuses",
            "ours: all models share the host; connecting once more at once costs nothing (gRPC's A6)",
        ),
        "address_not_allowed": Note(
            "the name leads to a private address, and the gateway's settings forbid it",
            "ours: a base URL from outside must not reach inside",
        ),
        "tls_verify": Note(
            "the certificate is expired, self-signed or another host's", "ours: never repeated, never downgraded"
        ),
        "stale_connection": Note(
            "reset or closed, before any byte of an answer, on a connection that had served before",
            "curl, RFC 9112: the server may just have closed it; once a call",
        ),
        "connection_lost": Note(
            "reset or closed, before any byte of an answer, on a new connection",
            "ours; one lost connection does not count against the gateway's other models",
        ),
        "first_byte_timeout": Note(
            "no answer began within `Timeouts.first_byte`", "ours; gateways bill what they finish after we left"
        ),
        "first_token_timeout": Note(
            "a stream brought no content within `Timeouts.first_token`, whatever comments it sent", "ours"
        ),
        "idle_timeout": Note("no byte for `Timeouts.idle`", "ours"),
        "content_idle_timeout": Note(
            "a stream brought no content for `Timeouts.content_idle`, whatever comments it sent", "ours"
        ),
        "truncated": Note(
            "the body broke off; or a stream ended without `finish_reason` and `[DONE]`",
            "RFC 9112; ours for streams that end politely",
        ),
    },
    "the answer": {
        "ok": Note(
            "an answer with content; or without, when it ended for its length, a tool call or a filter", "OpenAI's API"
        ),
        "malformed": Note(
            "a 200 whose body, or one event of whose stream, is not the JSON of an answer",
            "ours: skipping an event would lose text",
        ),
        "empty": Note(
            "a 200 without choices, or with a blank one", "OpenRouter's zero completion insurance names the case"
        ),
        "generation_failed": Note(
            "`finish_reason: error`, or an error event that says no more", "OpenRouter's streaming errors"
        ),
        "response_too_large": Note(
            "more than 64 MiB of an answer, 8 MiB of an event, or blanks and comments without end", "ours"
        ),
    },
    "your own side": {
        "deadline": Note("the call's total time was used up", "ours: a caller's impatience says nothing of the model"),
        "deadline_slow": Note("the same, and the stream's content was later than a healthy one's", "ours"),
        "cancelled": Note("the caller gave up: a cancelled task, Ctrl-C, a stream left early", "ours"),
        "local_lag": Note(
            "a time limit was noticed more than a second late: a blocked event loop, a suspended machine",
            "ours: the next model is asked, and nobody is blamed for what this process did",
        ),
        "local_overload": Note("no memory, file descriptor, port or thread left in this process", "ours"),
    },
}
"""By subject."""
