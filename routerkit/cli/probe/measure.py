"""From an answer, or from what went wrong, to a sample. The figures are the library's own: those of the call's route."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from routerkit.cli.probe.sample import MAX_ERROR, MAX_TEXT, Sample, shortened
from routerkit.cli.probe.schedule import Put
from routerkit.core.performance import MAX_RATE
from routerkit.errors import (
    BudgetExceededError,
    DeadlineExceededError,
    InvalidRequestError,
    LimitExceededError,
    NoEligibleModelError,
    RouterKitError,
    StreamInterruptedError,
)
from routerkit.types.completion import Completion
from routerkit.types.model import Model
from routerkit.types.route import Attempt, Route

_CAUSES: tuple[tuple[type[RouterKitError], str], ...] = (
    (LimitExceededError, "limit"),
    (BudgetExceededError, "budget"),
    (DeadlineExceededError, "deadline"),
    (InvalidRequestError, "invalid_request"),
    (NoEligibleModelError, "breaker_open"),
)
"""Of errors that carry no code of a verdict."""


def answered(
    put: Put, at: float, completion: Completion, pieces: int, model: Model | None, charged: Decimal | None
) -> Sample:
    """Of an answer, which came in so many pieces with content."""
    route = completion.route
    attempt = route.attempts[-1]
    usage = completion.usage
    tokens = usage.completion_tokens if usage.known else None
    return Sample(
        **_asked(put, at, route, model),
        ok=True,
        cause="ok",
        status=attempt.status,
        first_token=attempt.first_token,
        duration=attempt.duration,
        prompt_tokens=usage.prompt_tokens if usage.known else None,
        completion_tokens=tokens,
        reasoning_tokens=(usage.reasoning_tokens or None) if usage.known else None,
        tokens_per_second=rate(tokens, attempt.first_token, attempt.duration) if pieces > 1 else None,
        cost=completion.cost,
        cost_source=completion.cost_source,
        charged=charged,
        text=shortened(completion.text or completion.refusal or "", MAX_TEXT),
        finish_reason=_word(completion.finish_reason),
        mock=completion.mock,
    )


def failed(put: Put, at: float, error: RouterKitError, model: Model | None, charged: Decimal | None) -> Sample:
    """Of a question that got no answer, or half of one."""
    route = error.route or Route()
    attempt = last_of(error)
    partial = error.partial_text if isinstance(error, StreamInterruptedError) else ""
    return Sample(
        **_asked(put, at, route, model),
        ok=False,
        cause=cause_of(error),
        error=shortened(str(error), MAX_ERROR),
        status=error.status_code if attempt is None else attempt.status,
        first_token=None if attempt is None else attempt.first_token,
        duration=0.0 if attempt is None else attempt.duration,
        charged=charged,
        text=shortened(partial, MAX_TEXT),
    )


def rate(tokens: int | None, first_token: float | None, duration: float) -> float | None:
    """Tokens per second, from the first to the last, as the performance scores have it; ``None`` where that tells nothing: nobody
    counted, or all came at once."""
    if not tokens or first_token is None:
        return None
    seconds = duration - first_token
    return tokens / seconds if tokens < seconds * MAX_RATE else None


def last_of(error: RouterKitError) -> Attempt | None:
    """The attempt that failed last; ``None``: nothing was sent."""
    return error.route.attempts[-1] if error.route is not None and error.route.attempts else None


def cause_of(error: RouterKitError) -> str:
    """A word for why there is no answer: the last attempt's verdict, or what kept it from being made."""
    attempt = last_of(error)
    if attempt is not None:
        return attempt.verdict.code
    if error.code is not None:
        return error.code
    return next((word for kind, word in _CAUSES if isinstance(error, kind)), type(error).__name__)


def _asked(put: Put, at: float, route: Route, model: Model | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "gateway": put.job.target.gateway,
        "model": put.job.target.model,
        "round": put.job.round,
        "at": at,
        "waits": put.waits + len(route.waits),
        "waited": put.waited + sum(wait.seconds for wait in route.waits),
    }
    if model is not None:
        pricing = model.pricing
        facts |= {
            "prompt_price": pricing.prompt,
            "completion_price": pricing.completion,
            "context_length": model.context_length,
            "name": shortened(model.name, MAX_TEXT),
            "free": pricing.free,
        }
    return facts


def _word(reason: str | None) -> str | None:
    return None if reason is None else shortened(reason, MAX_TEXT)
