"""The list of scenarios that every way of running the core goes through: what gateways answer, what is asked, what must come out.

A scenario's answers are replies of :mod:`routerkit.testing.replies`; they are sent over real sockets to both facades and played to
the pure core in virtual time (:mod:`tests.support.virtual`). The trace of each call must be the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from routerkit import Completion, RouterKitError, StreamInterruptedError, Timeouts
from routerkit.testing import replies as r
from routerkit.types.route import Attempt, Route

A, B, C = "a/one", "b/two", "c/three"
QUICK = Timeouts(connect=2, first_byte=0.4, first_token=0.5, idle=0.4, content_idle=0.6, total=60)
"""Clocks that a test over real sockets can wait for."""


@attrs.frozen
class Ask:
    """One call."""

    expect: Sequence[str]
    """Its attempts: ``model status verdict``, ``-`` for no status."""
    gives: str
    """The text of the answer, or the class name of the error."""
    stream: bool = False
    model: str = A
    fallback_models: Sequence[str] = (B, C)
    params: Mapping[str, Any] = attrs.field(factory=dict)
    timeouts: Timeouts = Timeouts()
    waits: Sequence[float] = ()
    """Seconds, the random part at its middle."""
    skipped: Sequence[str] = ()
    partial: str | None = None
    """The text that a broken stream gave."""


@attrs.frozen
class Scenario:
    name: str
    answers: Mapping[str, Sequence[r.Reply]]
    asks: Sequence[Ask]
    catalog: r.Reply = attrs.field(factory=lambda: r.error(404, message="no catalogue here"))


@attrs.frozen
class Trace:
    """What a call did, comparable."""

    attempts: tuple[str, ...]
    waits: tuple[float, ...]
    skipped: tuple[str, ...]
    gives: str
    partial: str | None = None
    details: tuple[str, ...] = attrs.field(default=(), eq=False)
    """Everything else that the attempts' verdicts say; for comparing two ways of running, not with what a test expects."""

    @classmethod
    def of(cls, outcome: Completion | BaseException, route: Route | None, text: str = "") -> Trace:
        assert route is not None, f"{outcome!r} carries no route"
        return cls(
            tuple(f"{each.model} {each.status or '-'} {each.verdict}" for each in route.attempts),
            tuple(round(wait.seconds, 1) for wait in route.waits),
            tuple(skip.model for skip in route.skipped),
            text if isinstance(outcome, Completion) else type(outcome).__name__,
            outcome.partial_text if isinstance(outcome, StreamInterruptedError) else None,
            tuple(_details(each) for each in route.attempts),
        )

    @classmethod
    def failed(cls, error: RouterKitError) -> Trace:
        return cls.of(error, error.route)


def _details(attempt: Attempt) -> str:
    verdict = attempt.verdict
    hint = None if verdict.retry_after is None else round(verdict.retry_after, 1)
    return (
        f"{verdict.action} blames {verdict.blame} ({verdict.sample}), {verdict.sent}, billing {verdict.billing},"
        f" cooldown {verdict.cooldown:g}, retry after {hint}"
    )


def story(*parts: Any) -> r.Reply:
    """An ordinary stream, then whatever the parts do to it."""
    return r.stream(r.role(), *parts)


FINE = f"Hello from {C}"
NO_CATALOG = ("the catalogue",)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "the first model answers",
        {},
        [Ask([f"{A} 200 ok"], f"Hello from {A}"), Ask([f"{A} 200 ok"], f"Hello from {A}", stream=True)],
    ),
    Scenario(
        "503, then 429, then an answer; the limited model rests for its 30 s",
        {A: [r.error(503, message="busy")], B: [r.error(429, headers={"Retry-After": "30"})]},
        [
            Ask([f"{A} 503 overloaded", f"{B} 429 rate_limited", f"{C} 200 ok"], FINE),
            Ask([f"{A} 503 overloaded", f"{C} 200 ok"], FINE, skipped=[B]),
            Ask([f"{A} 503 overloaded", f"{C} 200 ok"], FINE, stream=True, skipped=[B]),
        ],
    ),
    Scenario(
        "five failures in a row open a breaker; the next call does not ask",
        {A: [r.error(500)]},
        [Ask([f"{A} 500 server_error", f"{B} 200 ok"], f"Hello from {B}")] * 5
        + [Ask([f"{B} 200 ok"], f"Hello from {B}", skipped=[A])],
    ),
    Scenario(
        "one model, 500 then an answer: a backoff, half of half a second",
        {A: [r.error(500), r.completion()]},
        [
            Ask(
                [f"{A} 500 server_error", f"{A} 200 ok"],
                f"Hello from {A}",
                fallback_models=(),
                waits=[0.2],
                skipped=NO_CATALOG,
            )
        ],
    ),
    Scenario(
        "one model, 429 with a hint: the hint is waited for, never less",
        {A: [r.error(429, headers={"Retry-After": "7"}), r.completion()]},
        [
            Ask(
                [f"{A} 429 rate_limited", f"{A} 200 ok"],
                f"Hello from {A}",
                fallback_models=(),
                waits=[7.3],
                skipped=NO_CATALOG,
            )
        ],
    ),
    Scenario(
        "one model, a hint beyond the deadline: its own error at once, then not asked",
        {A: [r.error(429, headers={"Retry-After": "500"})]},
        [
            Ask([f"{A} 429 rate_limited"], "RateLimitError", fallback_models=(), skipped=NO_CATALOG),
            Ask([], "RateLimitError", fallback_models=(), skipped=(A, "the catalogue")),
        ],
    ),
    Scenario(
        "a hostile hint costs one model five minutes, not the call",
        {A: [r.error(429, headers={"Retry-After": "9" * 12})]},
        [Ask([f"{A} 429 rate_limited", f"{B} 200 ok"], f"Hello from {B}")],
    ),
    Scenario(
        "an error in a 200 is an error",
        {
            A: [
                r.json_body(
                    {"error": {"code": 502, "message": "x", "metadata": {"error_type": "provider_unavailable"}}}
                )
            ]
        },
        [
            Ask([f"{A} 200 provider_unavailable", f"{B} 200 ok"], f"Hello from {B}"),
            Ask([f"{A} 200 provider_unavailable", f"{B} 200 ok"], f"Hello from {B}", stream=True),
        ],
    ),
    Scenario(
        "an unknown model comes as 400 and is remembered",
        {A: [r.error(400, message=f"{A} is not a valid model ID")]},
        [
            Ask([f"{A} 400 model_not_found", f"{B} 200 ok"], f"Hello from {B}"),
            Ask([f"{B} 200 ok"], f"Hello from {B}", skipped=[A]),
        ],
    ),
    Scenario(
        "a refused request fails at once",
        {A: [r.error(400, message="bad")]},
        [Ask([f"{A} 400 invalid_request"], "BadRequestError")],
    ),
    Scenario(
        "moderation is not moved to another model",
        {A: [r.error(403, message="flagged", metadata={"reasons": ["violence"], "flagged_input": "…"})]},
        [
            Ask([f"{A} 403 content_policy"], "ContentPolicyError"),
            Ask([f"{A} 403 content_policy"], "ContentPolicyError", stream=True),
        ],
    ),
    Scenario(
        "a wrong key fails at once, and is not sent again",
        {A: [r.error(401, message="no")]},
        [Ask([f"{A} 401 authentication"], "AuthenticationError"), Ask([], "AuthenticationError", skipped=(A, B, C))],
    ),
    Scenario(
        "no credit fails at once",
        {A: [r.error(402, message="empty")]},
        [Ask([f"{A} 402 payment_required"], "PaymentRequiredError")],
    ),
    Scenario(
        "all models fail: the attempts in order, one error",
        {A: [r.error(500)], B: [r.error(502)], C: [r.error(504)]},
        [
            Ask(
                [
                    f"{A} 500 server_error",
                    f"{B} 502 provider_unavailable",
                    f"{C} 504 upstream_timeout",
                    f"{C} 504 upstream_timeout",
                ],
                "AllModelsFailedError",
                waits=[0.2],
                skipped=NO_CATALOG,
            )
        ],
    ),
    Scenario(
        "an answer that is empty, HTML or broken is none",
        {
            A: [r.json_body({"choices": []})],
            B: [r.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot JSON!", keep=True)],
        },
        [Ask([f"{A} 200 empty", f"{B} 200 malformed", f"{C} 200 ok"], FINE)],
    ),
    Scenario(
        "a web page is no API", {A: [r.html(503)]}, [Ask([f"{A} 503 not_an_api"], "ProtocolError", skipped=[B, C])]
    ),
    Scenario(
        "redirects are not followed",
        {A: [r.redirect(307, "http://127.0.0.1:9/v1/chat/completions")]},
        [Ask([f"{A} 307 unexpected_redirect"], "ProtocolError", skipped=(B, C))],
    ),
    Scenario(
        "a model that hangs is left when its time is over",
        {A: [r.hang()]},
        [
            Ask([f"{A} - first_byte_timeout", f"{B} 200 ok"], f"Hello from {B}", timeouts=QUICK),
            Ask([f"{A} - first_byte_timeout", f"{B} 200 ok"], f"Hello from {B}", timeouts=QUICK, stream=True),
        ],
    ),
    Scenario(
        "headers that drip for ever do not hold a call",
        {A: [r.drip_headers(0.05)]},
        [Ask([f"{A} - first_byte_timeout", f"{B} 200 ok"], f"Hello from {B}", timeouts=QUICK)],
    ),
    Scenario(
        "a connection that breaks before the answer",
        {A: [r.close_before_reply()], B: [r.reset_before_reply()]},
        [Ask([f"{A} - connection_lost", f"{B} - connection_lost", f"{C} 200 ok"], FINE)],
    ),
    Scenario(
        "a body that breaks off",
        {A: [r.truncated_body()]},
        [Ask([f"{A} 200 truncated", f"{B} 200 ok"], f"Hello from {B}")],
    ),
    Scenario(
        "a stream refused before it begins",
        {A: [r.error(503)], B: [r.error(429, headers={"Retry-After": "30"})]},
        [Ask([f"{A} 503 overloaded", f"{B} 429 rate_limited", f"{C} 200 ok"], FINE, stream=True)],
    ),
    Scenario(
        "a stream cut before its first content moves on unseen",
        {A: [story(r.comment(), r.cut())], B: [story(r.comment(), r.reset())]},
        [Ask([f"{A} 200 truncated", f"{B} 200 truncated", f"{C} 200 ok"], FINE, stream=True)],
    ),
    Scenario(
        "a stream with an error event before its first content moves on unseen",
        {A: [story(r.error_event(502, "gone", {"error_type": "provider_unavailable"}))]},
        [Ask([f"{A} 200 provider_unavailable", f"{B} 200 ok"], f"Hello from {B}", stream=True)],
    ),
    Scenario(
        "a stream cut after three chunks gives those three and says so",
        {A: [story("one ", "two ", "three", r.cut())]},
        [Ask([f"{A} 200 truncated"], "StreamInterruptedError", stream=True, partial="one two three")],
    ),
    Scenario(
        "a stream that just ends, politely, was cut all the same",
        {A: [r.stream(r.role(), "one ", "two", framing="close")]},
        [Ask([f"{A} 200 truncated"], "StreamInterruptedError", stream=True, partial="one two")],
    ),
    Scenario(
        "an error event after content",
        {A: [story("one ", r.error_event(502, "gone"))]},
        [Ask([f"{A} 200 provider_unavailable"], "StreamInterruptedError", stream=True, partial="one ")],
    ),
    Scenario(
        "comments are no content",
        {A: [r.stream(r.role(), *[p for _ in range(40) for p in (r.comment(), r.pause(0.05))])]},
        [Ask([f"{A} 200 first_token_timeout", f"{B} 200 ok"], f"Hello from {B}", stream=True, timeouts=QUICK)],
    ),
    Scenario(
        "comments after content do not count either",
        {A: [r.stream(r.role(), "one", *[p for _ in range(40) for p in (r.comment(), r.pause(0.05))])]},
        [Ask([f"{A} 200 content_idle_timeout"], "StreamInterruptedError", stream=True, timeouts=QUICK, partial="one")],
    ),
    Scenario(
        "a stream that stalls",
        {A: [story("one", r.pause(30))]},
        [Ask([f"{A} 200 idle_timeout"], "StreamInterruptedError", stream=True, timeouts=QUICK, partial="one")],
    ),
    Scenario(
        "what comes after the finish reason may break",
        {A: [story("one", r.end(), r.reset())]},
        [Ask([f"{A} 200 ok"], "one", stream=True)],
    ),
    Scenario(
        "a stream that finishes without content and then breaks is empty",
        {A: [story(r.end(), r.usage(completion_tokens=0), r.reset())]},
        [Ask([f"{A} 200 empty", f"{B} 200 ok"], f"Hello from {B}", stream=True)],
    ),
    Scenario(
        "[DONE] without a finish reason is an end",
        {A: [story("one", r.done(), "never seen")]},
        [Ask([f"{A} 200 ok"], "one", stream=True)],
    ),
    Scenario(
        "a gateway that answers a stream with a whole completion",
        {
            A: [
                r.json_body(
                    {
                        "id": "x",
                        "choices": [
                            {"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}
                        ],
                    }
                )
            ]
        },
        [Ask([f"{A} 200 ok"], "whole", stream=True)],
    ),
    Scenario(
        "an empty stream that finished for its length is an answer; one without reason is none",
        {A: [story(r.end("length"), r.done())], B: [story(r.done())]},
        [
            Ask([f"{A} 200 ok"], "", stream=True),
            Ask([f"{B} 200 empty", f"{C} 200 ok"], FINE, stream=True, model=B, fallback_models=(C,)),
        ],
    ),
    Scenario(
        "an event that is no JSON is a failure, not a gap",
        {A: [story(r.event(b"{oops"), "text")]},
        [Ask([f"{A} 200 malformed", f"{B} 200 ok"], f"Hello from {B}", stream=True)],
    ),
    Scenario(
        "the catalogue is the last resort, with what fits and is affordable",
        {A: [r.error(500)]},
        [
            Ask(
                [f"{A} 500 server_error", "free/model:free 200 ok"],
                "Hello from free/model:free",
                fallback_models=(),
                skipped=["big/dear"],
            )
        ],
        catalog=r.json_body(
            {
                "data": [
                    r.catalog_model("big/dear", context_length=1_000_000),
                    r.catalog_model("free/model:free", pricing={"prompt": "0", "completion": "0"}),
                ]
            }
        ),
    ),
    Scenario(
        "models= hands the choice over: nothing of ours is tried besides",
        {A: [r.error(503)]},
        [
            Ask(
                [f"{A} 503 overloaded", f"{A} 503 overloaded"],
                "InternalServerError",
                params={"models": [A, B]},
                waits=[0.2],
            )
        ],
    ),
)
