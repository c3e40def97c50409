"""The table of verdicts, as data: for each code what to do, whom to blame, what the breakers learn, whether money may be due.

Which words, statuses, failures and messages have which code stands in :mod:`routerkit.core.verdict_words`; when each is given and
who says so in :mod:`routerkit.core.verdict_notes`. :mod:`routerkit.core.verdict` reads them, and tests walk every row.
"""

from __future__ import annotations

import attrs

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
    "unexpected_redirect": Rule(_A.NEXT_GATEWAY, _B.GATEWAY),
    "unexpected_response": Rule(_A.NEXT_MODEL, _B.GATEWAY, _S.FAIL, _M.POSSIBLE),
    # the network
    "connect_failed": Rule(_A.NEXT_GATEWAY, _B.GATEWAY, _S.FAIL),
    "address_not_allowed": Rule(_A.FAIL, _B.GATEWAY),
    "tls_verify": Rule(_A.NEXT_GATEWAY, _B.GATEWAY, _S.FAIL),
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
