"""From outcomes to signals, and from verdicts to the errors that users catch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from routerkit.core.effects import HttpResponse, TransportFailure
from routerkit.core.sse import BOM
from routerkit.core.verdict import Signal, error_object, error_words
from routerkit.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    ContextLengthExceededError,
    EmptyResponseError,
    InternalServerError,
    ModelNotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
)
from routerkit.types.route import Target
from routerkit.types.secret import Secret
from routerkit.types.verdict import Blame, Verdict

_DETAIL = 300
_KEY = re.compile(r"(?i)\b(?:bearer\s+|sk-)[^\s'\"]{8,}")
_LIKE_A_KEY = re.compile(r"(?=\S*[0-9])[^\s'\"]{8,}")
"""For 401, where a key is what a gateway would quote."""

_ADVICE: dict[str, tuple[type[APIError], str]] = {
    "invalid_request": (BadRequestError, "the gateway refused the request; correct it"),
    "unsupported": (BadRequestError, "the model cannot do what the request needs; choose another model"),
    "context_length": (
        ContextLengthExceededError,
        "prompt and answer do not fit its context; shorten them or name a larger model",
    ),
    "content_policy": (
        ContentPolicyError,
        "moderation or a guardrail refused the content; it is not moved to another model",
    ),
    "rejected": (BadRequestError, "the gateway refused the request; correct it"),
    "payload_too_large": (BadRequestError, "the request is too large for the gateway"),
    "client_error": (BadRequestError, "the gateway refused the request; correct it"),
    "authentication": (AuthenticationError, "the gateway refused the API key; check or replace it"),
    "payment_required": (PaymentRequiredError, "the account has no credit left; add some"),
    "in_flight_budget": (
        PaymentRequiredError,
        "too much credit is reserved by requests under way; send fewer at a time",
    ),
    "weight_exceeds_budget": (
        PaymentRequiredError,
        "the credit left does not cover this request; lower max_tokens or add credit",
    ),
    "permission_denied": (PermissionDeniedError, "the API key may not do this"),
    "key_budget": (
        PermissionDeniedError,
        "a budget of the key or workspace is used up; raise it or wait for its reset",
    ),
    "free_tier_exhausted": (
        RateLimitError,
        "the account's free requests are used up; wait for their reset or use paid models",
    ),
    "insufficient_quota": (RateLimitError, "the account's quota is used up; check plan and billing"),
    "model_not_found": (
        ModelNotFoundError,
        "the gateway does not know this model; client.models() lists those it serves",
    ),
    "model_unavailable": (ModelNotFoundError, "the gateway has no provider for this model now"),
    "policy_restricted": (
        ModelNotFoundError,
        "the account may not use this model: its access, privacy or provider settings exclude it",
    ),
    "routing_requirements": (
        InternalServerError,
        "no provider meets the request's provider preferences; relax them",
    ),
    "request_timeout": (APITimeoutError, "the gateway gave up waiting"),
    "conflict": (BadRequestError, "the gateway is busy with a conflicting request"),
    "capacity_exhausted": (RateLimitError, "its providers have no capacity left"),
    "rate_limited": (RateLimitError, "too many requests; slow down or add fallback models"),
    "server_error": (InternalServerError, "the gateway or its provider failed"),
    "provider_unavailable": (InternalServerError, "its provider is down or sent an invalid answer"),
    "overloaded": (InternalServerError, "its provider is overloaded"),
    "upstream_timeout": (APITimeoutError, "its provider took too long"),
    "unknown_server_error": (InternalServerError, "the gateway failed"),
    "not_an_api": (
        ProtocolError,
        "what answers there is no OpenAI-compatible API; check base_url, proxies and firewalls",
    ),
    "misdirected": (ProtocolError, "the connection led to a wrong server"),
    "edge_error": (InternalServerError, "the gateway's edge cannot reach its servers"),
    "edge_error_sent": (InternalServerError, "the gateway's edge lost its server"),
    "unexpected_redirect": (
        ProtocolError,
        "the gateway redirects; redirects are never followed, so correct base_url",
    ),
    "unexpected_response": (ProtocolError, "the answer is not one of an OpenAI-compatible API"),
    "connect_failed": (APIConnectionError, "no connection to the gateway; check network, proxy and base_url"),
    "address_not_allowed": (
        APIConnectionError,
        "its host has a private address, to which this gateway's settings allow no connection; nothing was sent",
    ),
    "tls_verify": (APIConnectionError, "the gateway's certificate is not valid; nothing was sent"),
    "stale_connection": (APIConnectionError, "the gateway closed an idle connection"),
    "connection_lost": (APIConnectionError, "the connection broke before the answer began"),
    "first_byte_timeout": (APITimeoutError, "no answer began within Timeouts.first_byte"),
    "first_token_timeout": (APITimeoutError, "no content came within Timeouts.first_token"),
    "idle_timeout": (APITimeoutError, "the answer stalled for longer than Timeouts.idle"),
    "content_idle_timeout": (APITimeoutError, "only keep-alives came for longer than Timeouts.content_idle"),
    "truncated": (APIConnectionError, "the answer broke off"),
    "malformed": (ProtocolError, "the answer is not the JSON that an OpenAI-compatible API sends"),
    "empty": (EmptyResponseError, "the answer is empty"),
    "generation_failed": (InternalServerError, "the model stopped with an error"),
    "deadline": (APITimeoutError, "the call's total time was used up"),
    "deadline_slow": (APITimeoutError, "the call's total time was used up"),
    "cancelled": (APIError, "the caller gave up"),
    "local_lag": (
        APITimeoutError,
        "this process stood still while the answer was due (a blocked event loop?), so its model is not blamed",
    ),
    "local_overload": (APIConnectionError, "this process is out of memory, threads or file descriptors"),
    "response_too_large": (ProtocolError, "the answer is larger than routerkit accepts"),
}

_TELLING = (Blame.KEY, Blame.REQUEST, Blame.TENANT)


def response_signal(response: HttpResponse, wall: float, **more: Any) -> Signal:
    """The signal of a whole answer; its body is parsed here."""
    body = parse_json(response.body)
    text = b"" if body is not None else response.body[:2048]
    return Signal(status=response.status, headers=response.headers, body=body, text=text, wall=wall, **more)


def failure_signal(failure: TransportFailure, **more: Any) -> Signal:
    return Signal(failure=failure.failure, sent=failure.sent, reused=failure.reused, **more)


def parse_json(data: bytes) -> Any:
    """The value of a JSON text, or ``None`` when it is none. orjson bounds the nesting (1024) and refuses NaN and bad UTF-8."""
    try:
        return orjson.loads(data.removeprefix(BOM))
    except ValueError:
        return None


def clean(text: object) -> str:
    """A gateway's words, fit for a log line: one line, escaped, cut."""
    if not isinstance(text, str):
        return ""
    shown = text[: 2 * _DETAIL].encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return shown if len(shown) <= _DETAIL else shown[:_DETAIL] + "…"


def detail_of(signal: Signal, key: Secret | None = None) -> str:
    """What the gateway said was wrong, cleaned.

    Moderation errors quote the user's prompt: of them nothing is kept. Some gateways quote the key that they refuse, or
    another one: what looks like a key is left out, and the call's own ``key`` wherever it stands.
    """
    error = error_object(signal.body)
    if error is None:
        return ""
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and {"reasons", "patterns", "flagged_input"} & metadata.keys():
        return ""
    shown = clean(_concealed(error.get("message"), key))
    return (_LIKE_A_KEY if signal.status == 401 else _KEY).sub("<redacted>", shown)


def told(verdict: Verdict, signal: Signal, detail: str = "", key: Secret | None = None) -> str:
    """What may be repeated of a failure: the transport's detail, or the gateway's words; nothing of moderation."""
    return "" if verdict.code == "content_policy" else detail or detail_of(signal, key)


def _concealed(text: Any, key: Secret | None) -> Any:
    return key.conceal(text) if key is not None and isinstance(text, str) else text


def request_id_of(headers: Mapping[str, str], key: Secret | None = None) -> str | None:
    """The id under which the gateway knows the request."""
    for name in ("x-generation-id", "x-request-id", "cf-ray"):
        value = headers.get(name)
        if value:
            return clean(_concealed(value, key))
    return None


def api_error(
    verdict: Verdict, signal: Signal, target: Target, detail: str = "", key: Secret | None = None
) -> APIError:
    """The exception for one attempt's verdict; ``detail`` in place of the gateway's own words."""
    kind, advice = _ADVICE.get(verdict.code, (APIError, verdict.code))
    said = told(verdict, signal, detail, key)
    status = "" if signal.status is None else f" (HTTP {signal.status})"
    wait = "" if verdict.retry_after is None else f"; it asks to wait {_seconds(verdict.retry_after)}"
    message = f"{target}: {advice}{status}{wait}" + (f": {said}" if said else "")
    return kind(
        message,
        status_code=signal.status,
        code=verdict.code,
        error_type=clean(_concealed(next(error_words(signal.body), ""), key)) or None,
        model=target.model,
        gateway=target.gateway,
        retry_after=verdict.retry_after or (verdict.cooldown if verdict.retry_if_last else None) or None,
        request_id=request_id_of(signal.headers, key),
    )


def remembered_error(
    verdict: Verdict, status: int | None, target: Target, reason: str, retry_after: float | None
) -> APIError:
    """The exception for a target that was not asked because of what it said before."""
    kind, advice = _ADVICE.get(verdict.code, (APIError, verdict.code))
    wait = "" if retry_after is None else f" for another {_seconds(retry_after)}"
    return kind(
        f"{target}: not asked{wait} ({reason}): {advice}",
        status_code=status,
        code=verdict.code,
        model=target.model,
        gateway=target.gateway,
        retry_after=retry_after,
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def most_telling(failures: list[tuple[Verdict, APIError]]) -> APIError:
    """Of several failures the one that helps most: key, then request, then rate limits, then models, then the network."""

    def rank(item: tuple[Verdict, APIError]) -> tuple[int, float]:
        verdict, error = item
        soonest = error.retry_after if error.retry_after is not None else float("inf")
        if verdict.blame in _TELLING:
            return _TELLING.index(verdict.blame), soonest
        if isinstance(error, RateLimitError):
            return 3, soonest
        return (5 if isinstance(error, APIConnectionError) else 4), soonest

    return min(failures, key=rank)[1]
