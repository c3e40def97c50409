"""Random answers of a gateway, as plain data: whole ones, refusals, streams that break, failures below HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from hypothesis import strategies as st

from routerkit.core.effects import Failure, TransportFailure
from routerkit.testing import network_fault
from routerkit.testing import replies as r
from routerkit.types.verdict import Sent

A = "a/one"
MODELS = (A, "b/two", "c/three:free")
LAST_RESORT = "d/four:free"
"""In the catalogue only."""


@attrs.frozen
class Answer:
    """A reply as plain data: the name of what makes it, and that one's arguments."""

    kind: str
    options: tuple[Any, ...] = ()

    def reply(self, say: Callable[[], Callable[[str], str]]) -> r.Reply:
        """`say` is asked once for each request, for what turns a piece of text into one that no other answer has."""
        return lambda connection, request: KINDS[self.kind](say(), *self.options)(connection, request)


def _fine(say: Callable[[str], str], delay: float) -> r.Reply:
    def reply(connection: Any, request: Any) -> None:
        if delay:
            connection.wait(delay)
        r.completion(say("Hello"), id="gen-1")(connection, request)

    return reply


def _refusal(
    _: object, status: int, headers: tuple[tuple[str, str], ...], problem: tuple[tuple[str, Any], ...]
) -> r.Reply:
    body = {"error": {"code": status, "message": "no", **dict(problem)}}
    return r.error(status, body, headers=dict(headers))


def _error_in_200(_: object, problem: tuple[tuple[str, Any], ...]) -> r.Reply:
    return r.json_body({"error": dict(problem)})


def _unreachable(_: object, failure: Failure, sent: Sent, reused: bool) -> r.Reply:
    return network_fault(TransportFailure(failure, sent, reused=reused, detail="as scripted"))


def _story(say: Callable[[str], str], *parts: tuple[Any, ...]) -> r.Reply:
    return r.stream(*(PARTS[name](say, *options) for name, *options in parts), fields={"id": "gen-1"})


PARTS: dict[str, Callable[..., r.Part]] = {
    "text": lambda say: r.delta(say("word")),
    "thought": lambda say: r.delta(reasoning=say("thought")),
    "role": lambda _: r.role(),
    "comment": lambda _: r.comment(),
    "pause": lambda _, seconds: r.pause(seconds),
    "cut": lambda _: r.cut(),
    "reset": lambda _: r.reset(),
    "error": lambda _, code: r.error_event(code),
    "nonsense": lambda _: r.event("{nonsense"),
    "end": lambda _: r.end(),
    "usage": lambda _: r.usage(),
    "done": lambda _: r.done(),
}

KINDS: dict[str, Callable[..., r.Reply]] = {
    "fine": _fine,
    "refusal": _refusal,
    "error in 200": _error_in_200,
    "story": _story,
    "unreachable": _unreachable,
    "html": lambda _, status: r.html(status),
    "empty": lambda _: r.empty(),
    "truncated": lambda _: r.truncated_body(),
    "hang": lambda _: r.hang(),
    "drip": lambda _, every: r.drip_body(every),
    "closed": lambda _: r.close_before_reply(),
    "reset": lambda _: r.reset_before_reply(),
    "redirect": lambda _: r.redirect(307, "https://elsewhere.example/"),
}

FINE = Answer("fine", (0.0,))
CATALOG = {"data": [r.catalog_model(LAST_RESORT, pricing={"prompt": "0", "completion": "0"})]}

HINTS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (),
    *(
        (("Retry-After", value),)
        for value in ("0", "-5", "0.5", "2", "4.5", "20", "59.9", "60", "61", "3600", "1e9", "inf", "²", "9" * 5000)
    ),
    (("retry-after-ms", "1500"),),
    (("X-RateLimit-Reset", "45"),),
)
"""Headers that ask for a wait, or seem to. None depends on the wall clock."""

PROBLEMS: tuple[tuple[tuple[str, Any], ...], ...] = (
    (),
    (),
    (),
    (("metadata", {"error_type": "rate_limit_exceeded"}),),
    (("metadata", {"limit_source": "openrouter_free_tier_daily"}),),
    (("metadata", {"limit_source": "openrouter_in_flight_budget"}),),
    (("metadata", {"error_type": "context_length_exceeded"}),),
    (("metadata", {"error_type": "not_found"}),),
    (("availability", {"code": "capacity_exhausted", "retryable": True, "retry_after": 7}),),
    (("availability", {"code": "model_deprecated", "retryable": False}),),
    (("code", 502),),
    (("code", "429"),),
)

STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 421, 429, 429, 429, 500, 500, 502, 503, 503, 504, 520, 522, 529)

FAILURES = (
    *((failure, Sent.NOT_SENT, False) for failure in (Failure.RESOLVE, Failure.CONNECT, Failure.LOCAL)),
    (Failure.DISCONNECTED, Sent.MAYBE, True),
    (Failure.DISCONNECTED, Sent.MAYBE, False),
    (Failure.MALFORMED, Sent.MAYBE, False),
    (Failure.TOO_LARGE, Sent.RESPONDED, False),
)

_PAUSES = st.sampled_from([0.1, 1.0, 4.0, 9.0, 12.0, 19.0, 25.0, 50.0])
_MIDDLES = st.sampled_from([("text",), ("text",), ("text",), ("thought",), ("role",), ("comment",)]) | st.tuples(
    st.just("pause"), _PAUSES
)
_ENDS = st.sampled_from(
    [
        (("end",), ("usage",), ("done",)),
        (("end",), ("done",)),
        (("done",),),
        (("end",),),
        (),
        (("cut",),),
        (("reset",),),
        (("error", 502),),
        (("error", 429),),
        (("nonsense",), ("end",), ("done",)),
        (("end",), ("usage",), ("done",), ("text",)),
    ]
)


@st.composite
def stories(draw: st.DrawFn, *, pauses: bool = True) -> Answer:
    """Streams, most of which come to some end or other."""
    middles = draw(st.lists(_MIDDLES, max_size=6))
    return Answer("story", (*(part for part in middles if pauses or part[0] != "pause"), *draw(_ENDS)))


REFUSALS = st.builds(
    Answer,
    st.just("refusal"),
    st.tuples(st.sampled_from(STATUSES), st.sampled_from(HINTS), st.sampled_from(PROBLEMS)),
)


def answers(*, sockets: bool = False) -> st.SearchStrategy[Answer]:
    """Anything a gateway may answer; with ``sockets`` only what a real server can do, and does at once."""
    kinds = [
        st.just(FINE),
        REFUSALS,
        REFUSALS,
        stories(pauses=not sockets),
        st.sampled_from(PROBLEMS).map(lambda problem: Answer("error in 200", (problem,))),
        st.sampled_from(["empty", "truncated", "closed", "reset", "redirect"]).map(Answer),
        st.sampled_from([403, 404, 502]).map(lambda status: Answer("html", (status,))),
    ]
    if not sockets:
        kinds += [
            _PAUSES.map(lambda delay: Answer("fine", (delay,))),
            st.just(Answer("hang")),
            st.sampled_from([0.5, 15.0]).map(lambda every: Answer("drip", (every,))),
            st.sampled_from(FAILURES).map(lambda failure: Answer("unreachable", failure)),
        ]
    return st.one_of(kinds)
