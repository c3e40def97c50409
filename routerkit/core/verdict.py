"""What an outcome means: :func:`classify`, one total function over one table (:mod:`routerkit.core.verdict_table`,
:mod:`routerkit.core.verdict_words`).

Nothing else in the library looks at a status or at an error body. The body beats the status: gateways send errors with HTTP 200
and unknown models with 400. Within the body, OpenRouter's ``availability`` and ``error_type`` come first, then ``limit_source``,
``code`` and ``type``, then the status, and message texts last, to refine what the status leaves open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from routerkit.core.effects import Failure
from routerkit.core.hints import parse_hint
from routerkit.core.verdict_table import VERDICTS, Ending, Rule
from routerkit.core.verdict_words import (
    CLOUDFLARE,
    ENDINGS,
    EVEN_OF_FAILURES,
    FAILURES,
    GENERAL,
    MESSAGES,
    OF_PREFERENCES,
    STATUSES,
    WORDS,
)
from routerkit.types.verdict import Action, Billing, Blame, Sample, Sent, Verdict


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


OK = Verdict("ok", Action.RETURN, Blame.NOBODY, Sample.OK, Billing.CONFIRMED)


def classify(signal: Signal) -> Verdict:
    """The verdict on any signal; never raises, whatever the signal holds."""
    code = _code(signal)
    rule = VERDICTS[code]
    hint = parse_hint(signal.headers, signal.body, signal.wall) if signal.status is not None else None
    seconds = None if hint is None else hint.seconds
    if signal.routing_preferences and code in OF_PREFERENCES:
        rule = attrs.evolve(rule, blame=Blame.TENANT, cooldown=0.0)
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
    if signal.status is None and error is None:
        return "malformed"
    specific, general = _named(signal.body)
    if specific is not None:
        return specific
    status = _status(signal.status, error)
    return _refined(status, signal, error) or general or _by_status(status, signal, error)


def _named(body: Any) -> tuple[str | None, str | None]:
    """The code that an answer's words give: one that stands, or else a general one that its message may refine."""
    available = WORDS.get(_word(_availability(body).get("code")))
    if available is not None:
        return available, None
    general = None
    for word in error_words(body):
        code = WORDS.get(word)
        if code is not None and code not in GENERAL:
            return code, None
        general = general or code
    return None, general


def _refined(status: int | None, signal: Signal, error: dict[str, Any] | None) -> str | None:
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
    failed = status is not None and status >= 500
    for fragment, code in MESSAGES:
        if fragment in text and (code != "routing_requirements" or signal.routing_preferences):
            return code if not failed or fragment in EVEN_OF_FAILURES else None
    return None


def _by_status(status: int | None, signal: Signal, error: dict[str, Any] | None) -> str:
    if status is None:
        return "server_error"
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
    if status in CLOUDFLARE:
        return False
    text = signal.text.lstrip()
    if text.startswith(b"<"):
        return True
    return (status == 404 and signal.body is not None) or (status < 500 and bool(text))


def _status(status: int | None, error: dict[str, Any] | None) -> int | None:
    """The number that the error itself names, else the HTTP status; ``None`` for an error without number in an HTTP success."""
    if error is None:
        return status
    for name in ("code", "type", "http_status", "status"):
        number = _number(error.get(name))
        if number is not None:
            return number
    return status if status is not None and status >= 300 else None


def _number(value: Any) -> int | None:
    """The status of a refusal, from a number or a numeric string."""
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None


def _word(value: Any) -> str:
    return value.lower() if isinstance(value, str) else ""


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
