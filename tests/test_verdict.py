"""The table of verdicts: every row of it from a realistic signal, what is read before what, and no input without a verdict."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from routerkit.core.answer import judge
from routerkit.core.effects import Failure, HttpResponse, TransportFailure
from routerkit.core.failure import _ADVICE, api_error, failure_signal, response_signal
from routerkit.core.verdict import OK, Signal, classify, error_object, error_words
from routerkit.core.verdict_notes import NOTES
from routerkit.core.verdict_table import VERDICTS, Ending
from routerkit.core.verdict_words import ENDINGS, FAILURES, MESSAGES, STATUSES, WORDS
from routerkit.errors import APIError
from routerkit.types.route import Target
from routerkit.types.verdict import Action, Billing, Blame, Sample, Sent, Verdict

WALL = 1_767_225_600.0
HTML = b"<!DOCTYPE html><html><head><title>Sign in to the wifi</title></head></html>"
TARGET = Target("openrouter", "a/one")


def http(status: int, body: Any = None, headers: dict[str, str] | None = None, **more: Any) -> Signal:
    """The signal of an answer, made of its bytes as a call makes it."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    signal = response_signal(HttpResponse(status, headers or {}, data), WALL, **more)
    if status == 200 and signal.ending is None:
        signal = response_signal(HttpResponse(status, headers or {}, data), WALL, ending=judge(signal.body), **more)
    return signal


def refusal(status: int, *, headers: dict[str, str] | None = None, **error: Any) -> Signal:
    """A refusal with an OpenRouter error of these fields."""
    return http(status, {"error": {"message": "Refused", **error}}, headers)


def typed(status: int, word: str, **metadata: Any) -> Signal:
    """A refusal with an ``error_type``, as OpenRouter sends it now."""
    return refusal(status, code=status, metadata={"error_type": word, **metadata})


def unavailable(status: int, code: str, retryable: Any = None, **more: Any) -> Signal:
    return refusal(status, availability={"code": code, "retryable": retryable, "requested_models": ["a/one"], **more})


def network(failure: Failure, sent: Sent = Sent.MAYBE, **more: Any) -> Signal:
    return failure_signal(TransportFailure(failure, sent, **more))


def answer(content: Any = None, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], **more}


def summary(verdict: Verdict) -> str:
    words = [verdict.action, verdict.blame, verdict.sample, verdict.billing]
    if verdict.condition.value != "any":
        words.append(verdict.condition)
    if verdict.retry_if_last:
        words.append("last")
    return " ".join(map(str, words))


RESET_MS = {"X-RateLimit-Reset": str(int((WALL + 7200) * 1000)), "X-RateLimit-Remaining": "0"}

MEANINGS = {
    "ok": "return nobody ok confirmed",
    "invalid_request": "fail request neutral none",
    "unsupported": "next_model model neutral none capable",
    "context_length": "next_model request neutral none larger_context",
    "content_policy": "fail request neutral none",
    "rejected": "fail request neutral none",
    "payload_too_large": "fail request neutral none",
    "client_error": "fail request neutral none",
    "authentication": "next_key key neutral none",
    "payment_required": "next_key key neutral none",
    "in_flight_budget": "retry_same key neutral none",
    "weight_exceeds_budget": "next_model request neutral none cheaper",
    "permission_denied": "fail key neutral none",
    "key_budget": "next_key key neutral none",
    "free_tier_exhausted": "next_model key neutral none",
    "insufficient_quota": "next_key key neutral none",
    "model_not_found": "next_model model neutral none",
    "model_unavailable": "next_model model neutral none",
    "policy_restricted": "next_model tenant neutral none",
    "routing_requirements": "next_model tenant neutral none",
    "request_timeout": "next_model model fail possible last",
    "conflict": "retry_same nobody neutral none",
    "capacity_exhausted": "next_model model neutral none last",
    "rate_limited": "next_model model neutral none last",
    "server_error": "next_model model fail possible last",
    "provider_unavailable": "next_model model fail possible last",
    "overloaded": "next_model model fail none last",
    "upstream_timeout": "next_model model fail possible last",
    "unknown_server_error": "next_model model fail possible last",
    "not_an_api": "next_gateway gateway fail none",
    "misdirected": "retry_same gateway neutral none",
    "edge_error": "next_gateway gateway fail none last",
    "edge_error_sent": "next_gateway gateway fail possible last",
    "unexpected_redirect": "next_gateway gateway neutral none",
    "unexpected_response": "next_model gateway fail possible",
    "connect_failed": "next_gateway gateway fail none",
    "address_not_allowed": "fail gateway neutral none",
    "tls_verify": "next_gateway gateway fail none",
    "stale_connection": "retry_same nobody neutral possible",
    "connection_lost": "next_model model fail possible last",
    "first_byte_timeout": "next_model model fail possible last",
    "first_token_timeout": "next_model model fail possible last",
    "idle_timeout": "next_model model fail possible last",
    "content_idle_timeout": "next_model model fail possible last",
    "truncated": "next_model model fail possible last",
    "malformed": "next_model model fail possible last",
    "empty": "next_model model fail possible last",
    "generation_failed": "next_model model fail possible last",
    "deadline": "fail nobody neutral possible",
    "deadline_slow": "fail model slow possible",
    "cancelled": "fail nobody neutral possible",
    "local_lag": "next_model local neutral possible last",
    "local_overload": "fail local neutral none",
    "response_too_large": "fail local neutral possible",
}
"""What each verdict says: action, blame, sample, billing, then the condition, and whether a last resort is tried again."""

ROWS: list[tuple[str, Signal, str]] = [
    ("0 an answer", http(200, answer("Hello", "stop")), "ok"),
    # the request
    ("1 bare 400", refusal(400, code=400), "invalid_request"),
    ("1 invalid_request", typed(400, "invalid_request"), "invalid_request"),
    ("1 invalid_prompt", typed(400, "invalid_prompt"), "invalid_request"),
    ("1 HTML 400", http(400, HTML), "invalid_request"),
    ("2 unknown model", unavailable(400, "model_not_found"), "model_not_found 3600s"),
    (
        "2 unknown model, older",
        refusal(400, message="acme/fake-1.0 is not a valid model ID", code=400),
        "model_not_found 3600s",
    ),
    (
        "2 unknown model, LiteLLM",
        refusal(400, message="/chat/completions: Invalid model name passed in model=x", code="400"),
        "model_not_found 3600s",
    ),
    (
        "2 unknown model, OpenAI",
        refusal(404, code="model_not_found", type="invalid_request_error"),
        "model_not_found 3600s",
    ),
    (
        "2 unknown model, vLLM",
        http(
            404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}
        ),
        "model_not_found 3600s",
    ),
    ("3 wrong endpoint", unavailable(400, "wrong_endpoint"), "unsupported"),
    ("3 parameter", refusal(400, code="unsupported_parameter", type="invalid_request_error"), "unsupported"),
    ("3 image", typed(400, "unsupported_image_format"), "unsupported"),
    (
        "3 modality by its message",
        refusal(404, message="No endpoints found that support image input", code=404),
        "unsupported",
    ),
    ("4 context", typed(400, "context_length_exceeded"), "context_length"),
    ("4 context, OpenAI", refusal(400, code="context_length_exceeded", type="invalid_request_error"), "context_length"),
    ("4 context, llama.cpp", refusal(400, code=400, type="exceed_context_size_error", n_ctx=4096), "context_length"),
    (
        "4 context, by its message",
        refusal(400, message="This model's maximum context length is 8192 tokens", code=400),
        "context_length",
    ),
    ("5 policy", typed(400, "content_policy_violation"), "content_policy"),
    ("5 refusal", typed(400, "refusal"), "content_policy"),
    ("5 Azure", refusal(400, code="content_filter"), "content_policy"),
    (
        "5 moderation",
        refusal(403, code=403, metadata={"reasons": ["violence"], "flagged_input": "…"}),
        "content_policy",
    ),
    ("5 guardrail", typed(403, "permission_denied", patterns=["ssn"]), "content_policy"),
    # the key
    ("6 bare 401", http(401, b""), "authentication 60s"),
    ("6 error_type", typed(401, "authentication"), "authentication 60s"),
    ("6 OpenAI", refusal(401, code="invalid_api_key", type="invalid_request_error"), "authentication 60s"),
    (
        "6 LiteLLM says 400",
        refusal(400, message="Authentication Error, Invalid proxy server token passed", code="400"),
        "authentication 60s",
    ),
    ("7 402", refusal(402, code=402), "payment_required 300s"),
    ("7 error_type", typed(402, "payment_required"), "payment_required 300s"),
    (
        "8 in flight",
        refusal(
            402,
            headers={"retry-after": "3"},
            metadata={"error_type": "payment_required", "limit_source": "openrouter_in_flight_budget"},
        ),
        "in_flight_budget 3s",
    ),
    ("9 weight", typed(402, "payment_required", limit_source="openrouter_credits"), "weight_exceeds_budget"),
    ("10 403", refusal(403, code=403), "permission_denied"),
    ("10 error_type", typed(403, "permission_denied"), "permission_denied"),
    ("11 key limit", typed(403, "permission_denied", limit_source="openrouter_key_limit"), "key_budget 300s"),
    (
        "11 workspace, with a reset far away",
        refusal(403, headers={"retry-after": "90000"}, metadata={"limit_source": "openrouter_workspace_budget"}),
        "key_budget 3600s",
    ),
    # the model
    ("12 region", unavailable(403, "region_restricted"), "model_unavailable 3600s"),
    ("12 no endpoints", unavailable(404, "no_endpoints"), "model_unavailable 3600s"),
    (
        "12 no endpoints, older",
        refusal(404, message="No endpoints found for a/one.", code=404),
        "model_unavailable 3600s",
    ),
    ("12 deprecated", unavailable(404, "model_deprecated"), "model_unavailable 3600s"),
    ("12 free ended", unavailable(404, "free_variant_ended"), "model_unavailable 3600s"),
    ("12 410", http(410), "model_unavailable 3600s"),
    ("13 privacy", unavailable(404, "privacy_restricted"), "policy_restricted 3600s"),
    ("13 only=", unavailable(404, "constraint_filtered"), "policy_restricted 3600s"),
    (
        "13 privacy, older",
        refusal(404, message="No endpoints found matching your data policy (Free model training)", code=404),
        "policy_restricted 3600s",
    ),
    (
        "13 another account may",
        refusal(404, message="The model `x` does not exist or you do not have access to it.", code="model_not_found"),
        "policy_restricted 3600s",
    ),
    (
        "13 another key may",
        refusal(403, message="key not allowed to access model", type="key_model_access_denied", code="403"),
        "policy_restricted 3600s",
    ),
    # not this API
    ("14 firewall", http(403, HTML), "not_an_api"),
    ("14 plain text 404", http(404, b"404 page not found\n"), "not_an_api"),
    ("14 another API", http(404, {"detail": "Not Found"}), "not_an_api"),
    ("14 HTML 502", http(502, b"\r\n<html>Bad Gateway</html>"), "not_an_api"),
    ("14 maintenance page", http(503, HTML, {"retry-after": "600"}), "not_an_api 60s"),
    ("14 plain text 5xx counts by its status", http(502, b"upstream"), "provider_unavailable"),
    *(
        (f"15 {status}", refusal(status, code=status), "rejected")
        for status in (405, 406, 411, 412, 414, 415, 417, 422, 426, 431, 501, 505)
    ),
    ("15 unprocessable", typed(422, "unprocessable"), "rejected"),
    ("15 precondition", typed(412, "precondition_failed"), "rejected"),
    ("16 408", refusal(408, code=408), "request_timeout"),
    ("17 409", refusal(409), "conflict"),
    ("17 425", http(425), "conflict"),
    ("18 413", http(413, b"too large"), "payload_too_large"),
    ("18 error_type", typed(413, "payload_too_large"), "payload_too_large"),
    ("19 421", http(421), "misdirected"),
    (
        "20 free tier",
        refusal(
            429,
            headers={k.lower(): v for k, v in RESET_MS.items()},
            metadata={"error_type": "rate_limit_exceeded", "limit_source": "openrouter_free_tier_daily"},
        ),
        "free_tier_exhausted 7200s",
    ),
    (
        "20 free tier, by message and headers in the body",
        refusal(
            429,
            code=429,
            message="Rate limit exceeded: free-models-per-min. ",
            metadata={"headers": {"X-RateLimit-Reset": str(int((WALL + 20) * 1000))}},
        ),
        "free_tier_exhausted 20s",
    ),
    (
        "20 free tier, no reset",
        refusal(429, code=429, message="Rate limit exceeded: free-models-per-day"),
        "free_tier_exhausted 60s",
    ),
    ("21 capacity", unavailable(429, "capacity_exhausted", retry_after=9), "capacity_exhausted 9s"),
    (
        "21 shared",
        typed(429, "rate_limit_exceeded", limit_source="openrouter_shared_capacity"),
        "capacity_exhausted 5s",
    ),
    ("21 provider_code", typed(429, "rate_limit_exceeded", provider_code="429"), "capacity_exhausted 5s"),
    ("22 quota", refusal(429, code="insufficient_quota", type="insufficient_quota"), "insufficient_quota 300s"),
    (
        "22 quota, by message",
        refusal(429, message="You exceeded your current quota, please check your plan"),
        "insufficient_quota 300s",
    ),
    ("23 429", refusal(429, code=429), "rate_limited 5s"),
    ("23 with a hint", refusal(429, code=429, headers={"retry-after": "12"}), "rate_limited 12s"),
    ("23 with a hostile hint", refusal(429, code=429, headers={"retry-after": "9000000000"}), "rate_limited 300s"),
    ("23 empty body", http(429), "rate_limited 5s"),
    # the servers
    ("24 500", refusal(500, code=500), "server_error"),
    ("24 server", typed(500, "server"), "server_error"),
    ("24 unmapped", typed(500, "unmapped"), "server_error"),
    ("24 word for code", refusal(500, code="server_error"), "server_error"),
    ("25 502", refusal(502, code=502), "provider_unavailable"),
    ("25 error_type", typed(502, "provider_unavailable"), "provider_unavailable"),
    ("26 503", refusal(503, code=503), "overloaded"),
    ("26 availability", unavailable(503, "temporarily_unavailable", True, retry_after=2), "overloaded 2s"),
    ("26 provider_overloaded", typed(503, "provider_overloaded"), "overloaded"),
    ("26 529", refusal(529, type="overloaded_error"), "overloaded"),
    ("26 bare 529", http(529), "overloaded"),
    ("28 504", refusal(504, code=504), "upstream_timeout"),
    ("28 524", http(524, HTML), "upstream_timeout"),
    ("29 520", http(520, HTML), "edge_error_sent"),
    *(
        (f"29 {status}", http(status, b"error code: %d" % status), "edge_error")
        for status in (521, 522, 523, 525, 526, 530)
    ),
    ("29 with a page and a hint", http(522, HTML, {"retry-after": "30"}), "edge_error 30s"),
    *(
        (f"30 {status}", http(status, HTML, {"location": "https://evil.example/"}), "unexpected_redirect")
        for status in (300, 301, 302, 303, 304, 307, 308, 399)
    ),
    *((f"31 {status}", http(status), "unexpected_response") for status in (100, 101, 102, 103, 199, 204, 205, 206)),
    ("32 unknown 4xx", http(418, {"teapot": True}), "client_error"),
    ("32 unknown 5xx", http(599, {"oops": True}), "unknown_server_error"),
    # the network
    ("33 DNS", network(Failure.RESOLVE, Sent.NOT_SENT), "connect_failed"),
    ("33 refused", network(Failure.CONNECT, Sent.NOT_SENT), "connect_failed"),
    ("33 slow", network(Failure.CONNECT_TIMEOUT, Sent.NOT_SENT), "connect_failed"),
    ("33 not allowed", network(Failure.ADDRESS, Sent.NOT_SENT), "address_not_allowed"),
    ("34 certificate", network(Failure.TLS_VERIFY, Sent.NOT_SENT), "tls_verify"),
    ("35 stale", network(Failure.DISCONNECTED, reused=True), "stale_connection"),
    ("36 reset", network(Failure.DISCONNECTED), "connection_lost"),
    ("37 first byte", network(Failure.FIRST_BYTE_TIMEOUT), "first_byte_timeout"),
    ("37 first token", Signal(status=200, ending=Ending.FIRST_TOKEN_TIMEOUT), "first_token_timeout"),
    ("38 cut", network(Failure.TRUNCATED, Sent.RESPONDED), "truncated"),
    ("39 idle", network(Failure.READ_TIMEOUT, Sent.RESPONDED), "idle_timeout"),
    ("39 only comments", Signal(status=200, ending=Ending.CONTENT_IDLE), "content_idle_timeout"),
    ("40 deadline", Signal(ending=Ending.DEADLINE), "deadline"),
    ("40 deadline, and slow", Signal(ending=Ending.DEADLINE, outlasted=True), "deadline_slow"),
    ("41 cancelled", Signal(ending=Ending.CANCELLED, sent=Sent.MAYBE), "cancelled"),
    ("42 a loop that stood still", Signal(ending=Ending.LAGGED, sent=Sent.MAYBE), "local_lag"),
    ("42 ours", network(Failure.LOCAL, Sent.NOT_SENT), "local_overload"),
    ("42 size", network(Failure.TOO_LARGE, Sent.RESPONDED), "response_too_large"),
    ("42 size of a stream", Signal(status=200, ending=Ending.STREAM_LIMIT), "response_too_large"),
    ("31 not HTTP", network(Failure.MALFORMED), "unexpected_response"),
    # the body of a 200
    ("43 rate limit", http(200, {"error": {"code": 429, "message": "slow down"}}), "rate_limited 5s"),
    ("43 as a string", http(200, {"error": {"code": "402", "message": ""}}), "payment_required 300s"),
    ("43 as a word", http(200, {"error": {"code": "server_error"}}), "server_error"),
    ("43 http_status", http(200, {"error": {"http_status": 504}}), "upstream_timeout"),
    ("43 nothing told", http(200, {"error": "out of luck"}), "server_error"),
    (
        "43 within a choice",
        http(200, {"choices": [{"error": {"code": 502}, "message": {"content": ""}}]}),
        "provider_unavailable",
    ),
    ("44 not JSON", http(200, b"Hello"), "malformed"),
    ("44 a list", http(200, [1, 2]), "malformed"),
    ("44 choices of the wrong type", http(200, {"choices": "x"}), "malformed"),
    ("44 a portal", http(200, HTML), "not_an_api"),
    ("45 no choices", http(200, {"choices": []}), "empty"),
    ("45 null", http(200, {"choices": None}), "empty"),
    ("45 blank", http(200, answer("")), "empty"),
    ("45 no tokens", http(200, answer("", "stop", usage={"completion_tokens": 0})), "empty"),
    ("46 reasoning ate it", http(200, answer("", "length")), "ok"),
    ("46 tool calls", http(200, answer(None, "tool_calls")), "ok"),
    ("46 filtered", http(200, answer("", "content_filter")), "ok"),
    ("47 ended in error", http(200, answer("Once upon", "error")), "generation_failed"),
    ("48 absurd usage", http(200, answer("Hello", "stop", usage={"prompt_tokens": -1})), "ok"),
    ("49 another model", http(200, answer("Hello", "stop", model="other/one")), "ok"),
    ("53 a stream that just ends", Signal(status=200, ending=Ending.TRUNCATED), "truncated"),
    ("54 an event that is no JSON", Signal(status=200, ending=Ending.MALFORMED), "malformed"),
    (
        "26 an account's allowed providers",
        refusal(404, message="No allowed providers are available for the selected model. Your settings permit only: x"),
        "policy_restricted 3600s",
    ),
    (
        "26 an account's ignored providers",
        refusal(404, message="All providers have been ignored. To change your default ignored providers, visit: x"),
        "policy_restricted 3600s",
    ),
    (
        "26 an account's guardrail",
        refusal(
            404, message="No endpoints available matching your guardrail restrictions and data policy. Configure: x"
        ),
        "policy_restricted 3600s",
    ),
    (
        "26 the request's parameters",
        refusal(404, message="No endpoints found that can handle the requested parameters."),
        "unsupported",
    ),
    (
        "27 our own preferences",
        response_signal(
            HttpResponse(503, {}, b'{"error":{"code":503,"message":"No provider meets your routing requirements"}}'),
            WALL,
            routing_preferences=True,
        ),
        "routing_requirements",
    ),
    (
        "27 not our own preferences",
        refusal(503, code=503, message="No provider meets your routing requirements"),
        "overloaded",
    ),
]


@pytest.mark.parametrize(("signal", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_row(signal: Signal, expected: str) -> None:
    verdict = classify(signal)
    assert verdict.code + (f" {verdict.cooldown:g}s" if verdict.cooldown else "") == expected
    assert summary(verdict) == MEANINGS[verdict.code]


@pytest.mark.parametrize("word", ["no_endpoints", "model_deprecated", "privacy_restricted", "constraint_filtered"])
def test_a_request_that_restricts_providers_itself_puts_no_model_to_rest(word: str) -> None:
    """Its next call, and every other tenant's, may restrict them otherwise, or not at all."""
    signal = unavailable(404, word)
    assert classify(signal).cooldown == 3600
    restricted = classify(attrs.evolve(signal, routing_preferences=True))
    assert (restricted.cooldown, restricted.blame) == (0, Blame.TENANT)
    assert (restricted.code, restricted.action) == (classify(signal).code, Action.NEXT_MODEL)


RESTING = {
    "authentication": 60,
    "payment_required": 300,
    "key_budget": 300,
    "free_tier_exhausted": 60,
    "insufficient_quota": 300,
    "model_not_found": 3600,
    "model_unavailable": 3600,
    "policy_restricted": 3600,
    "capacity_exhausted": 5,
    "rate_limited": 5,
}
"""The rest of each, in seconds, where no hint says otherwise."""


def test_who_rests_without_a_hint_and_how_long() -> None:
    assert {code: rule.cooldown for code, rule in VERDICTS.items() if rule.cooldown} == RESTING


HINTED = {
    "in_flight_budget": 3600,
    "key_budget": 3600,
    "free_tier_exhausted": 86_400,
    "capacity_exhausted": 300,
    "rate_limited": 300,
    "overloaded": 300,
    "not_an_api": 60,
    "edge_error": 60,
    "edge_error_sent": 60,
}
"""The longest rest that a hint can make of each; of the others it makes none."""


def test_whose_hints_make_a_cooldown_and_how_long_a_one() -> None:
    assert {code: rule.hinted for code, rule in VERDICTS.items() if rule.hinted} == HINTED


def test_what_an_insured_gateway_does_not_bill() -> None:
    assert {code for code, rule in VERDICTS.items() if rule.insurable} == {"empty", "generation_failed"}


def test_the_rows_reach_every_verdict() -> None:
    assert {row[2].split()[0] for row in ROWS} == VERDICTS.keys() == MEANINGS.keys()


def test_every_table_leads_to_a_verdict() -> None:
    tables = (WORDS.values(), STATUSES.values(), FAILURES.values(), ENDINGS.values(), (code for _, code in MESSAGES))
    assert {code for table in tables for code in table} <= VERDICTS.keys()
    assert FAILURES.keys() == set(Failure)
    assert ENDINGS.keys() == set(Ending) - {Ending.DEADLINE}
    assert all(fragment == fragment.lower() for fragment, _ in MESSAGES)
    assert all(word == word.lower() for word in WORDS)


def test_every_verdict_says_when_it_is_given_and_who_says_so() -> None:
    notes = {code: note for group in NOTES.values() for code, note in group.items()}
    assert notes.keys() == VERDICTS.keys()
    assert sum(map(len, NOTES.values())) == len(notes)
    assert all(note.when and note.source for note in notes.values())


def test_every_verdict_but_ok_has_advice() -> None:
    assert VERDICTS.keys() - _ADVICE.keys() == {"ok"}
    assert _ADVICE.keys() <= VERDICTS.keys()


@pytest.mark.parametrize("code", sorted(VERDICTS.keys() - {"ok"}))
def test_every_verdict_has_its_error(code: str) -> None:
    signal = next(row[1] for row in ROWS if row[2].split()[0] == code)
    error = api_error(classify(signal), signal, TARGET)
    assert isinstance(error, APIError)
    assert error.code == code
    assert str(error).startswith("a/one on openrouter: ")
    assert (error.model, error.gateway, error.status_code) == ("a/one", "openrouter", signal.status)


def test_blame_and_breakers_agree() -> None:
    """Only what blames a model or a gateway may feed its breaker."""
    for code, rule in VERDICTS.items():
        if rule.blame not in (Blame.MODEL, Blame.GATEWAY) and code != "ok":
            assert rule.sample is Sample.NEUTRAL, code


# --- what OpenRouter documents ---

ERROR_TYPES = {
    ("context_length_exceeded", 400): "context_length",
    ("max_tokens_exceeded", 400): "context_length",
    ("token_limit_exceeded", 400): "context_length",
    ("string_too_long", 400): "context_length",
    ("authentication", 401): "authentication",
    ("permission_denied", 403): "permission_denied",
    ("payment_required", 402): "payment_required",
    ("rate_limit_exceeded", 429): "rate_limited",
    ("provider_overloaded", 503): "overloaded",
    ("provider_unavailable", 502): "provider_unavailable",
    ("invalid_request", 400): "invalid_request",
    ("invalid_prompt", 400): "invalid_request",
    ("not_found", 404): "model_not_found",
    ("precondition_failed", 412): "rejected",
    ("payload_too_large", 413): "payload_too_large",
    ("unprocessable", 422): "rejected",
    ("content_policy_violation", 400): "content_policy",
    ("refusal", 400): "content_policy",
    ("invalid_image", 400): "unsupported",
    ("image_too_large", 400): "unsupported",
    ("image_too_small", 400): "unsupported",
    ("unsupported_image_format", 400): "unsupported",
    ("image_not_found", 404): "unsupported",
    ("image_download_failed", 400): "unsupported",
    ("server", 500): "server_error",
    ("timeout", 504): "upstream_timeout",
    ("unmapped", 500): "server_error",
}
AVAILABILITIES = {
    ("model_not_found", 400): "model_not_found",
    ("wrong_endpoint", 400): "unsupported",
    ("no_endpoints", 404): "model_unavailable",
    ("model_deprecated", 404): "model_unavailable",
    ("model_unavailable_upstream", 404): "model_unavailable",
    ("capacity_exhausted", 429): "capacity_exhausted",
    ("temporarily_unavailable", 503): "overloaded",
    ("region_restricted", 403): "model_unavailable",
    ("privacy_restricted", 404): "policy_restricted",
    ("constraint_filtered", 404): "policy_restricted",
    ("free_variant_ended", 404): "model_unavailable",
}


LIMIT_SOURCES = {
    "openrouter_in_flight_budget": "in_flight_budget",
    "openrouter_credits": "weight_exceeds_budget",
    "openrouter_key_limit": "key_budget",
    "openrouter_workspace_budget": "key_budget",
    "openrouter_guardrail_budget": "key_budget",
    "openrouter_free_tier_daily": "free_tier_exhausted",
    "openrouter_shared_capacity": "capacity_exhausted",
}
CODES = {
    "model_not_found": "model_not_found",
    "weight_exceeds_budget": "weight_exceeds_budget",
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
MEANT = {
    **{word: code for (word, _), code in {**ERROR_TYPES, **AVAILABILITIES}.items()},
    **LIMIT_SOURCES,
    **CODES,
}


def test_every_word_is_looked_at() -> None:
    assert MEANT.keys() == WORDS.keys()


@pytest.mark.parametrize("word", MEANT)
def test_a_word_needs_no_status_to_help_it(word: str) -> None:
    for error in (
        {"metadata": {"error_type": word}},
        {"metadata": {"limit_source": word}},
        {"limit_source": word},
        {"code": word},
        {"type": word},
        {"availability": {"code": word}},
    ):
        assert classify(refusal(418, **error)).code == MEANT[word], error


@pytest.mark.parametrize(("word", "status"), ERROR_TYPES)
def test_error_types_in_every_place(word: str, status: int) -> None:
    expected = ERROR_TYPES[word, status]
    error = {"code": status, "message": "Refused"}
    for body in (
        {"error": {**error, "metadata": {"error_type": word}}},
        {"error": {"error_type": word, "http_status": status, "message": "Refused"}},
        {"error": error, "error_type": word},
        {"error": {**error, "metadata": {"error_type": word.upper()}}},
        {"choices": [{"finish_reason": "error", "error": {**error, "metadata": {"error_type": word}}}]},
    ):
        assert classify(http(status, body)).code == expected, body
        assert classify(http(200, body)).code == expected, body


BY_STATUS = {
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


@pytest.mark.parametrize("status", BY_STATUS)
def test_a_status_needs_no_word_to_help_it(status: int) -> None:
    assert BY_STATUS.keys() == STATUSES.keys()
    assert classify(refusal(status, message="Refused")).code == BY_STATUS[status]


@pytest.mark.parametrize("status", [520, 521, 522, 523, 524, 525, 526, 530])
def test_a_page_of_cloudflares_edge_is_known_by_its_number(status: int) -> None:
    assert classify(Signal(status=status, text=b"<html>")).code == BY_STATUS[status]


@pytest.mark.parametrize(
    ("general", "code"),
    [
        ("invalid_prompt", "invalid_request"),
        ("rate_limit_exceeded", "rate_limited"),
        ("payment_required", "payment_required"),
        ("permission_denied", "permission_denied"),
        ("not_found", "model_not_found"),
        ("provider_overloaded", "overloaded"),
        ("server", "server_error"),
    ],
)
def test_a_general_word_leaves_the_rest_to_others(general: str, code: str) -> None:
    assert classify(typed(418, general)).code == code
    assert (
        classify(refusal(418, metadata={"error_type": general}, code="insufficient_quota")).code == "insufficient_quota"
    )
    assert (
        classify(refusal(418, metadata={"error_type": general}, message="Prompt is too long")).code == "context_length"
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a/one is not a valid model ID", "model_not_found"),
        ("Invalid model name passed in model=x", "model_not_found"),
        ("Rate limit exceeded: free-models-per-min", "free_tier_exhausted"),
        ("You exceeded your current quota, please check", "insufficient_quota"),
        ("No endpoints found matching your data policy", "policy_restricted"),
        ("The model `x` does not exist or you do not have access to it.", "policy_restricted"),
        ("No endpoints found that support tool use", "unsupported"),
        ("No endpoints found for a/one", "model_unavailable"),
        ("This model's maximum context length is 10", "context_length"),
        ("exceeds the available context size", "context_length"),
        ("exceeds the context window", "context_length"),
        ("Prompt is too long", "context_length"),
        ("Authentication Error, no key", "authentication"),
        ("Invalid API key", "authentication"),
        ("File Not Found", "not_an_api"),
        ("image input is not supported", "unsupported"),
    ],
)
def test_a_message_where_nothing_else_is_said(text: str, code: str) -> None:
    assert classify(refusal(418, message=text)).code == code
    failed = "unsupported" if "input is not" in text else "server_error"
    assert classify(refusal(500, message=text)).code == failed


@pytest.mark.parametrize(("word", "status"), AVAILABILITIES)
def test_availability_is_the_last_word(word: str, status: int) -> None:
    """Nothing else in the answer says more."""
    expected = AVAILABILITIES[word, status]
    assert classify(unavailable(status, word)).code == expected
    contradicting = refusal(
        500,
        availability={"code": word},
        code="insufficient_quota",
        type="server_error",
        message="x is not a valid model ID",
        metadata={"error_type": "unmapped", "limit_source": "openrouter_key_limit", "provider_code": "1"},
    )
    assert classify(contradicting).code == expected


# --- what is read before what ---

PRECEDENCE = [
    (
        "error_type before limit_source",
        typed(429, "authentication", limit_source="openrouter_key_limit"),
        "authentication",
    ),
    (
        "limit_source refines a general error_type",
        typed(403, "permission_denied", limit_source="openrouter_key_limit"),
        "key_budget",
    ),
    (
        "limit_source before code",
        refusal(429, code="insufficient_quota", metadata={"limit_source": "openrouter_shared_capacity"}),
        "capacity_exhausted",
    ),
    ("code before type", refusal(400, code="insufficient_quota", type="overloaded_error"), "insufficient_quota"),
    ("a word before a number", refusal(429, code=429, type="insufficient_quota"), "insufficient_quota"),
    ("a general word before the status", refusal(500, metadata={"error_type": "rate_limit_exceeded"}), "rate_limited"),
    (
        "of two general words the first",
        refusal(500, type="overloaded", metadata={"error_type": "rate_limit_exceeded"}),
        "rate_limited",
    ),
    ("a number before http_status", refusal(500, code=401, http_status=503), "authentication"),
    ("http_status before the status", refusal(500, http_status=429), "rate_limited"),
    ("a numeric string before the status", refusal(400, code="429"), "rate_limited"),
    ("a number beats the status", refusal(400, code=404), "model_not_found"),
    ("a number that is no status", refusal(429, code=1301), "rate_limited"),
    ("a number that is a success", refusal(503, code=200), "overloaded"),
    ("digits that are not ASCII", refusal(503, code="４２９"), "overloaded"),
    ("true is no number", refusal(503, code=True), "overloaded"),
    (
        "an unknown word falls through",
        refusal(429, code="zu_viel", type="quota_kaputt", metadata={"error_type": "x"}),
        "rate_limited",
    ),
    (
        "an unknown availability falls through",
        refusal(429, availability={"code": "gone_fishing"}, code="insufficient_quota"),
        "insufficient_quota",
    ),
    (
        "words of the wrong type fall through",
        refusal(429, code=[1], type={"a": 1}, metadata=[], availability="no"),
        "rate_limited",
    ),
    ("the status before the message", refusal(500, message="maximum context length"), "server_error"),
    ("a message refines a general word", typed(400, "invalid_request", x=1), "invalid_request"),
    ("an error of null", http(503, {"error": None}), "overloaded"),
    ("an error that is a bare string", http(401, {"error": "Unauthorized"}), "authentication"),
    ("a bare string with a known message", http(200, {"error": "x/y is not a valid model ID"}), "model_not_found"),
    ("an error that is a list", http(429, {"error": ["slow"]}), "rate_limited"),
    ("an empty error", http(429, {"error": {}}), "rate_limited"),
    ("a number in the type", http(200, {"error": {"type": 429}}), "rate_limited"),
    ("a number in the status", http(200, {"error": {"status": "503"}}), "overloaded"),
    ("the smallest number of a refusal", http(200, {"error": {"code": 400}}), "invalid_request"),
    ("a number beyond them", http(200, {"error": {"code": 600}}), "server_error"),
    ("the first status that is no success", http(300, {"error": {"message": "x"}}), "unexpected_redirect"),
    ("the last status of a failure", http(599), "unknown_server_error"),
    ("a status beyond them", http(600), "unexpected_response"),
    ("a page with the commonest failure", Signal(status=500, text=b" <html>"), "not_an_api"),
    ("a word with it", Signal(status=500, text=b"oops"), "server_error"),
    ("a page after a blank", Signal(status=200, text=b"\n<html>", ending=Ending.MALFORMED), "not_an_api"),
    ("a message that ends in time", refusal(400, message="x" * 1988 + "context size"), "context_length"),
    ("a message that does not", refusal(400, message="x" * 1989 + "context size"), "invalid_request"),
    ("an error without a status", Signal(body={"error": {"code": "overloaded"}}), "overloaded"),
    ("nothing that tells anything", Signal(), "malformed"),
    ("a body that is a list", http(429, [{"error": {"code": 400}}]), "rate_limited"),
]


@pytest.mark.parametrize(("signal", "code"), [row[1:] for row in PRECEDENCE], ids=[row[0] for row in PRECEDENCE])
def test_precedence(signal: Signal, code: str) -> None:
    assert classify(signal).code == code


def test_a_message_refines_a_general_word() -> None:
    signal = refusal(400, message="prompt is too long: 210000 tokens", metadata={"error_type": "invalid_request"})
    assert classify(signal).code == "context_length"


def test_words_come_in_their_order() -> None:
    body = {
        "error_type": "D",
        "error": {
            "availability": {"code": "A"},
            "metadata": {"error_type": "B", "limit_source": "E"},
            "error_type": "C",
            "limit_source": "F",
            "code": "G",
            "type": "H",
        },
    }
    assert "".join(error_words(body)) == "abcdefgh"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "x"}}, {"message": "x"}),
        ({"error": "x"}, {"message": "x"}),
        ({"error": True}, {"message": ""}),
        ({"error": None}, None),
        ({"error": ""}, None),
        ({"error": None, "choices": [{"error": {"code": 1}}]}, {"code": 1}),
        ({"choices": [None, "x", {"error": None}, {"error": "late"}]}, {"message": "late"}),
        ({"object": "error", "code": 404}, {"object": "error", "code": 404}),
        ({"choices": {}}, None),
        ([{"error": "x"}], None),
        (None, None),
    ],
)
def test_where_an_error_is_found(body: Any, expected: Any) -> None:
    assert error_object(body) == expected


# --- retryable ---


def test_retryable_overrules_the_table() -> None:
    refused = classify(unavailable(400, "unknown_code", True))
    assert (refused.code, refused.action, refused.retry_if_last) == ("invalid_request", Action.NEXT_MODEL, True)
    limited = classify(unavailable(429, "capacity_exhausted", False))
    assert (limited.action, limited.retry_if_last) == (Action.NEXT_MODEL, False)
    same = classify(refusal(409, availability={"retryable": False}))
    assert (same.code, same.action) == ("conflict", Action.NEXT_MODEL)
    gone = classify(unavailable(404, "no_endpoints", True))
    assert (gone.action, gone.retry_if_last) == (Action.NEXT_MODEL, True)


@pytest.mark.parametrize("retryable", [None, "true", 1, 0, "", {}])
def test_only_a_boolean_overrules(retryable: Any) -> None:
    assert classify(unavailable(400, "x", retryable)) == classify(refusal(400))


# --- billing ---


@pytest.mark.parametrize(
    ("body", "insured", "uninsured"),
    [
        ({"error": {"code": 502}}, Billing.NONE, Billing.POSSIBLE),
        ({"choices": []}, Billing.NONE, Billing.POSSIBLE),
        (answer("", "error"), Billing.NONE, Billing.POSSIBLE),
        (b"Hello", Billing.POSSIBLE, Billing.POSSIBLE),
        (answer("Hello", "stop"), Billing.CONFIRMED, Billing.CONFIRMED),
    ],
)
def test_an_insured_gateway_does_not_bill_what_it_did_not_deliver(
    body: Any, insured: Billing, uninsured: Billing
) -> None:
    assert classify(http(200, body, insured=True)).billing is insured
    assert classify(http(200, body)).billing is uninsured


def test_insurance_does_not_cover_what_was_cut() -> None:
    assert classify(Signal(status=200, ending=Ending.TRUNCATED, insured=True)).billing is Billing.POSSIBLE
    assert classify(http(500, {"error": {"code": 500}}, insured=True)).billing is Billing.POSSIBLE


@pytest.mark.parametrize("failure", list(Failure))
def test_what_was_not_sent_is_not_billed(failure: Failure) -> None:
    assert classify(network(failure, Sent.NOT_SENT)).billing is Billing.NONE


@pytest.mark.parametrize(
    "failure", [Failure.RESOLVE, Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.ADDRESS, Failure.TLS_VERIFY]
)
def test_without_a_connection_there_is_nothing_to_bill(failure: Failure) -> None:
    assert classify(network(failure, Sent.MAYBE)).billing is Billing.NONE


def test_what_our_own_process_lost_may_be_billed() -> None:
    assert classify(network(Failure.LOCAL, Sent.MAYBE)).billing is Billing.POSSIBLE


@pytest.mark.parametrize("sent", list(Sent))
def test_whether_it_was_sent_is_kept(sent: Sent) -> None:
    assert classify(network(Failure.DISCONNECTED, sent)).sent is sent


# --- hints ---


def test_the_hint_is_kept_whole_and_the_cooldown_is_capped() -> None:
    verdict = classify(refusal(429, headers={"retry-after": "4000"}))
    assert (verdict.retry_after, verdict.cooldown) == (4000, 300)


def test_a_hint_within_a_200() -> None:
    error = {"code": 503, "availability": {"code": "temporarily_unavailable", "retry_after": 7}}
    verdict = classify(http(200, {"error": error}))
    assert (verdict.retry_after, verdict.cooldown) == (7, 7)


def test_a_hint_does_not_lengthen_what_knows_none() -> None:
    verdict = classify(refusal(401, headers={"retry-after": "4000"}))
    assert (verdict.retry_after, verdict.cooldown) == (4000, 60)


# --- totality ---


@pytest.mark.parametrize("body", [None, {"message": "x"}, {"error": {"message": "x"}}, b"text", HTML], ids=repr)
def test_every_status_has_a_sensible_verdict(body: Any) -> None:
    for status in (*range(100, 200), *range(201, 600)):
        verdict = classify(http(status, body))
        assert verdict.code in VERDICTS, status
        assert verdict.action is not Action.RETURN, status
        if 400 <= status < 500 and verdict.code != "not_an_api":
            assert verdict.blame is not Blame.GATEWAY or status == 421, status
            assert verdict.sample is Sample.NEUTRAL or status == 408, status
        if status >= 500 and status not in (501, 505):
            assert verdict.sample is Sample.FAIL, status
            assert verdict.action in (Action.NEXT_MODEL, Action.NEXT_GATEWAY), status


_NAMES = ["error", "choices", "metadata", "availability", "code", "type", "error_type", "limit_source", "http_status"]
_NAMES += ["status", "message", "reasons", "patterns", "provider_code", "retryable", "retry_after", "headers", "object"]
_NAMES += ["finish_reason", "delta", "content"]
_WORDS = st.sampled_from([*WORDS, *(fragment for fragment, _ in MESSAGES), "error", "429", "500", "0", ""])
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | _WORDS | st.integers(400, 599)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5),
    max_leaves=12,
)
_ERRORS = st.fixed_dictionaries({"error": st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=5)}) | _JSON
_HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset", "date"]), st.text(max_size=20)
)


@settings(deadline=None)
@given(
    signal=st.builds(
        Signal,
        status=st.none() | st.integers(-1, 1000),
        headers=_HEADERS,
        body=_ERRORS,
        text=st.binary(max_size=20) | st.just(HTML),
        failure=st.none() | st.none() | st.sampled_from(Failure),
        sent=st.sampled_from(Sent),
        reused=st.booleans(),
        ending=st.none() | st.sampled_from(Ending),
        wall=st.floats(),
        routing_preferences=st.booleans(),
        insured=st.booleans(),
        outlasted=st.booleans(),
    )
)
@example(Signal())
@example(Signal(status=200, body={"error": {"code": float("nan")}}))
def test_every_signal_has_a_verdict(signal: Signal) -> None:
    verdict = classify(signal)
    assert verdict.code in VERDICTS
    assert 0 <= verdict.cooldown <= 3600
    assert verdict.retry_after is None or 0 < verdict.retry_after <= 86_400
    assert (verdict.action is Action.RETURN) == (verdict.code == "ok")
    if verdict.code != "ok" and signal.sent is Sent.NOT_SENT:
        assert verdict.billing is Billing.NONE
    error = api_error(verdict, signal, TARGET)
    assert error.code == verdict.code
    assert str(error).isprintable()


@settings(deadline=None)
@given(body=_ERRORS)
def test_an_error_within_a_200_never_returns(body: Any) -> None:
    ending = judge(body)
    verdict = classify(Signal(status=200, body=body, ending=ending))
    assert (verdict == OK) == (ending is Ending.OK)
