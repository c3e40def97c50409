"""The eighteen faults, and what a caller may be told about each.

The primary model has the fault, every time it is asked; the fallback is always well. Nine faults meet a completion, nine a
stream. Times are multiples of one clock, the client's own timeout (3 s in the race), so that a test can play them faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from routerkit.testing import replies
from routerkit.testing.replies import Reply
from routerkit.testing.streams import comment, cut, done, end, error_event, pause, role, stream

PRIMARY = "mistralai/mistral-small"
FALLBACK = "qwen/qwen-plus"
ANSWER = "The fallback answered, and this is all of it."
HEALTHY = "The primary is still well."
"""What the primary answers before its fault sets in."""

FIELDS = {"system_fingerprint": None}
"""What OpenRouter sends beside what everybody does; its own SDK insists on it."""

CATALOG = [
    replies.catalog_model(PRIMARY, context_length=32768),
    replies.catalog_model(FALLBACK, context_length=131072),
]

Due = Literal["the answer", "the answer or an error", "the answer or an error, primary asked once"]
"""What a caller may get.

"the answer": the fallback's. "or an error": as another model cannot set it right (another one would get the same prompt, key or
account), or as text was handed over already. "asked once": a refusal of the key or the account does not change by asking again.
"""

_FOREVER = 3600.0
_WORDS = ("One", " two", " three", " four", " five")


@dataclass(frozen=True)
class Fault:
    """One way in which the primary model is broken."""

    name: str
    kind: Literal["complete", "stream"]
    reply: Callable[[float], Reply]
    """From the clock, in seconds."""
    due: Due = "the answer"
    timed: bool = False
    """Whether it shows in nothing but time, so that a client finds it with its clocks."""


def _keep_alives(clock: float) -> Reply:
    """Comments over nearly seven clocks (20 s in the race), then silence."""
    beats = [part for _ in range(40) for part in (comment(), pause(clock / 6))]
    return stream(*beats, pause(_FOREVER))


def _rate_limit() -> Reply:
    return replies.error(429, message="Rate limit exceeded", headers={"Retry-After": "1"})


_TOO_LONG = (
    "This endpoint's maximum context length is 32768 tokens. However, you requested about 40960 tokens (40960 of text input)."
    " Please reduce the length of either one, or use the context-compression plugin."
)
_NO_ENDPOINTS = (
    'No endpoints found that support tool use. Try disabling "search".'
    " To learn more about provider routing, visit: https://openrouter.ai/docs/guides/routing/provider-selection"
)
_BROKEN_LINE = b'data: {"id": "gen-1", "choices": [{"index": 0, "delta": {"cont\n\n'

FAULTS = (
    Fault("429 with `Retry-After: 1`", "complete", lambda _: _rate_limit()),
    Fault("500", "complete", lambda _: replies.error(500, message="Internal Server Error")),
    Fault(
        "401",
        "complete",
        lambda _: replies.error(401, message="User not found."),
        "the answer or an error, primary asked once",
    ),
    Fault(
        "402",
        "complete",
        lambda _: replies.error(402, message="Insufficient credits"),
        "the answer or an error, primary asked once",
    ),
    Fault(
        "400, prompt too long for the model",
        "complete",
        lambda _: replies.error(400, message=_TOO_LONG),
        "the answer or an error",
    ),
    Fault("404, no endpoints that support tool use", "complete", lambda _: replies.error(404, message=_NO_ENDPOINTS)),
    Fault(
        "200 with an error (429) in the body",
        "complete",
        lambda _: replies.json_body({"error": {"message": "Rate limit exceeded", "code": 429}}),
    ),
    Fault("200 with `choices: []`", "complete", lambda _: replies.completion(choices=[], **FIELDS)),
    Fault("never answers", "complete", lambda _: replies.hang(), timed=True),
    Fault("stream: an error as first event", "stream", lambda _: stream(error_event(), done())),
    Fault("stream: role, then an error", "stream", lambda _: stream(role(), error_event(), done())),
    Fault("stream: silent after its headers", "stream", lambda _: stream(pause(_FOREVER)), timed=True),
    Fault("stream: only keep-alive comments for 20 s", "stream", _keep_alives, timed=True),
    Fault(
        "stream: 5 words, then an error",
        "stream",
        lambda _: stream(role(), *_WORDS, error_event(), done()),
        "the answer or an error",
    ),
    Fault(
        "stream: 5 words, then the connection is cut",
        "stream",
        lambda _: stream(role(), *_WORDS, cut()),
        "the answer or an error",
    ),
    Fault(
        "stream: 5 words, then a clean end (no `finish_reason`, no `[DONE]`)",
        "stream",
        lambda _: stream(role(), *_WORDS),
        "the answer or an error",
    ),
    Fault(
        "stream: 5 words, then silence",
        "stream",
        lambda _: stream(role(), *_WORDS, pause(_FOREVER)),
        "the answer or an error",
        timed=True,
    ),
    Fault(
        "stream: 5 words, one broken line of JSON, 5 words",
        "stream",
        lambda _: stream(role(), *_WORDS, _BROKEN_LINE, *_WORDS, end(), done()),
        "the answer or an error",
    ),
)
