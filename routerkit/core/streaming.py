"""The life of a stream: like a completion up to its first content, then delivered as it comes.

A stream is committed at its first text, tool call, reasoning or refusal, not at its headers. Before, a failure moves on to the
next model and the caller sees nothing of it. After, it is a StreamInterruptedError with what arrived, or, when the
caller asked for it (``on_interrupt``), the next model's turn behind a marker. An end without ``finish_reason`` and without
``[DONE]`` is a failure, however politely the connection was closed.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import attrs

from routerkit.core.answer import assemble, told_usage, untold
from routerkit.core.call import MAX_LAG, Call, Result, Trial, accounted, reach
from routerkit.core.effects import (
    Failure,
    Open,
    Step,
    TransportFailure,
    close,
    deliver,
    open_stream,
    read,
)
from routerkit.core.failure import api_error
from routerkit.core.hold import ALL
from routerkit.core.intake import Intake
from routerkit.core.ladder import onward, pursue
from routerkit.core.verdict import OK, Signal, classify
from routerkit.core.verdict_table import Ending
from routerkit.errors import DeadlineExceededError, RouterKitError, StreamInterruptedError
from routerkit.types.completion import Chunk, Completion, StreamMarker, StreamReset, StreamSeam
from routerkit.types.route import Route
from routerkit.types.tokens import CostSource, usage_of
from routerkit.types.verdict import Billing, Blame, Sample, Verdict

if TYPE_CHECKING:
    from routerkit.core.router import Router
    from routerkit.types.request import ChatRequest

LINGER = 5.0
"""Seconds to wait, after ``finish_reason``, for the usage and ``[DONE]`` that follow it."""


@attrs.define(eq=False)
class Ended:
    """A stream that came to its end: everything of which a completion is put together."""

    chunks: list[Chunk]
    model: str
    gateway: str
    route: Route
    cost: Decimal | None
    cost_source: CostSource
    mock: bool
    notes: tuple[str, ...]

    def completion(self) -> Completion:
        return Completion(
            assemble(chunk.raw for chunk in self.chunks),
            model=self.model,
            gateway=self.gateway,
            route=self.route,
            cost=self.cost,
            cost_source=self.cost_source,
            mock=self.mock,
            notes=self.notes,
        )


def stream(router: Router, request: ChatRequest) -> Step[Ended]:
    """Delivers chunks in batches; returns when the stream has ended well."""
    call = Call(router, request)
    return (yield from accounted(call, _streamed(call)))


def _streamed(call: Call) -> Step[Ended]:
    intake = yield from pursue(call, begin)
    try:
        while (signal := (yield from _flow(call, intake))) is not None:
            intake = yield from _go_on(call, intake, signal)
        yield from call.record(intake.trial, OK)
        return (yield from _ended(call, intake))
    except BaseException:
        intake.trial.admission.give_up()
        raise


def begin(call: Call, trial: Trial) -> Step[Result[Intake]]:
    """One attempt at a stream, up to its first content."""
    response = yield from reach(call, trial, open_stream, _order)
    if isinstance(response, Verdict):
        return Result(response)
    if response.status == 200 and response.headers.get("content-type", "").startswith("text/event-stream"):
        trial.admission.reached()
    intake = Intake(trial, response, partial(call.signal, trial))
    signal: Signal | None = Signal(ending=Ending.CANCELLED)
    try:
        yield from _advance(call, intake)
        if intake.committed:
            yield from _committed(call, trial)
        signal = None if intake.committed else intake.failed
    finally:
        if signal is not None:
            yield from close(intake.handle, reusable=intake.failed is not None and intake.status != 200)
            if signal.ending is Ending.CANCELLED:
                yield from call.conclude(trial, signal)
    if signal is not None:
        return Result((yield from call.conclude(trial, signal)))
    trial.streaming = True
    return Result(OK, intake)


def _committed(call: Call, trial: Trial) -> Step[None]:
    """The first content is there: as far as health goes, the attempt is over."""
    trial.first_token = call.now() - trial.admission.started
    slow = trial.first_token > call.router.settings.breaker.slow_first_token
    blamed = slow and not call.listed
    trial.admission.settle(Sample.SLOW if blamed else Sample.OK, Blame.MODEL if blamed else Blame.NOBODY)
    if call.router.fleet is not None:
        yield from call.router.fleet.probed(trial.admission)


def _flow(call: Call, intake: Intake) -> Step[Signal | None]:
    """A committed stream, to its end: ``None``, or the signal of what broke it."""
    signal: Signal | None = Signal(ending=Ending.CANCELLED)
    try:
        while True:
            chunks = intake.taken()
            if chunks:
                handed = call.now()
                yield from deliver(chunks)
                intake.last_content += call.now() - handed  # the reader's own time is not the model's
            if intake.over:
                signal = intake.failed
                break
            yield from _advance(call, intake)
    finally:
        intake.trial.admission.release()
        yield from close(intake.handle, reusable=signal is None)
        if signal is not None and signal.ending is Ending.CANCELLED:
            yield from call.record(intake.trial, classify(signal))
    return signal


def _go_on(call: Call, intake: Intake, signal: Signal) -> Step[Intake]:
    """What follows a stream that broke: the answer of the next model, if the caller wants one. Raises the interruption."""
    verdict, error = yield from _interrupted(call, intake, signal)
    request, kept = call.request, []
    if request.on_interrupt == "raise":
        raise error
    kind: type[StreamMarker] = StreamReset
    if request.on_interrupt == "continue":
        tokens = sum(1 for chunk in intake.chunks if chunk.text)  # a chunk holds a token, or a little more
        continued = call.asked.continued(error.partial_text, tokens)
        if continued is None or not all(_is_text(chunk) for chunk in intake.chunks):
            raise error
        call.request, kept, kind = continued, [Chunk(untold(chunk.raw)) for chunk in intake.chunks], StreamSeam
        call.itinerary.demand.ask(continued)
    try:
        trial = yield from onward(call, intake.trial, verdict)
        following = yield from pursue(call, begin, trial)
    except RouterKitError:
        raise error  # noqa: B904 - it has its own cause; the attempts since are in the route
    following.undelivered.insert(0, kind(following.trial.candidate.target.model, verdict.code))
    following.chunks = kept + following.chunks
    if kind is StreamSeam:
        following.notes = (*intake.notes, "continued")
    else:
        following.notes = ("restarted",)
    return following


def _is_text(chunk: Chunk) -> bool:
    """Whether a chunk says nothing but text or thoughts, which another model can go on from."""
    return not any(
        choice.delta.raw.get(name)
        for choice in chunk.choices
        for name in ("tool_calls", "function_call", "refusal", "images", "audio")
    )


def _advance(call: Call, intake: Intake) -> Step[None]:
    """Read until there is something to deliver, or the attempt is over."""
    while not intake.over:
        seconds, ending = _shortest_clock(call, intake, call.now())
        try:
            data = yield from read(intake.handle, seconds if seconds > 0 else 0.0)
        except TransportFailure as failure:
            if intake.status != 200 or intake.finished:
                # A status tells more than why its body did not come; after the finish reason nothing was missing.
                intake.feed(b"", call.now())
            else:
                intake.over, intake.failed = True, _broken(call, intake, failure, ending)
            return
        intake.feed(data, call.now())
        if intake.committed and intake.undelivered:
            return


def _shortest_clock(call: Call, intake: Intake, now: float) -> tuple[float, Ending | None]:
    """Seconds until the first clock runs out, and what that means; ``None``: the connection is idle."""
    timeouts = call.request.timeouts
    shortest, ending = timeouts.idle, None
    if intake.finished:
        shortest = min(shortest, LINGER)
    else:
        if intake.committed:
            left, meaning = intake.last_content + timeouts.content_idle - now, Ending.CONTENT_IDLE
        else:
            left, meaning = intake.last_content + intake.trial.patience - now, Ending.FIRST_TOKEN_TIMEOUT
        if left < shortest:
            shortest, ending = left, meaning
    left = call.deadline - now
    return (left, Ending.DEADLINE) if left < shortest else (shortest, ending)


def _broken(call: Call, intake: Intake, failure: TransportFailure, ending: Ending | None) -> Signal:
    """The signal of a read that failed; a timeout means what the clock that ran out means."""
    if failure.failure is Failure.READ_TIMEOUT and ending is Ending.DEADLINE:
        return call.late_signal(intake.trial, failure.sent)
    if failure.lag > MAX_LAG:
        return call.signal(intake.trial, ending=Ending.LAGGED)
    if failure.failure is Failure.READ_TIMEOUT and ending is not None:
        return call.signal(intake.trial, ending=ending)
    return call.signal(intake.trial, failure=failure.failure, sent=failure.sent)


def _interrupted(call: Call, intake: Intake, signal: Signal) -> Step[tuple[Verdict, StreamInterruptedError]]:
    """The verdict on a stream that broke after its first content, entered into the account, and its error."""
    verdict = attrs.evolve(call.judged(signal), billing=Billing.CONFIRMED)
    trial = intake.trial
    target = trial.candidate.target
    call.score(trial, verdict.sample)
    if verdict.blame in (Blame.MODEL, Blame.GATEWAY):
        trial.admission.broke(verdict.sample)
        call.router.health.cool(target, trial.admission.key, verdict, signal.status)
    if trial.admission.hold is not None:
        yield from trial.admission.hold.settle(ALL)
    yield from call.record(trial, verdict)
    text = "".join(chunk.text for chunk in intake.chunks)
    cause = api_error(verdict, signal, target, key=trial.admission.key.secret)
    call.ledger.failures.append((verdict, cause))
    error = StreamInterruptedError(
        f"{target}: the stream broke off after {len(text)} characters: {verdict.code}; what arrived is in .partial_text",
        chunks=intake.chunks,
        partial_text=text,
        truncated=verdict.code == "truncated",
        status_code=cause.status_code,
        code=verdict.code,
        model=target.model,
        gateway=target.gateway,
        retry_after=cause.retry_after,
        request_id=trial.request_id,
    )
    late = verdict.code in ("deadline", "deadline_slow")
    error.__cause__ = DeadlineExceededError(f"the {call.request.total:g} s of the call are over") if late else cause
    return verdict, error


def _ended(call: Call, intake: Intake) -> Step[Ended]:
    target = intake.trial.candidate.target
    served = dict.fromkeys(chunk.model for chunk in reversed(intake.chunks) if chunk.model)
    told = told_usage(chunk.raw for chunk in intake.chunks)
    cost, source = yield from call.settle(intake.trial, usage_of(told), next(iter(served), None))
    notes = (*intake.notes, "model_changed") if len(served) > 1 else intake.notes
    route = call.ledger.route(call.now(), cost)
    return Ended(intake.chunks, target.model, target.gateway, route, cost, source, intake.mock, notes)


def _order(call: Call, trial: Trial) -> Open:
    timeouts, left = call.request.timeouts, max(call.left(), 0.001)
    trial.patience = timeouts.first_token
    if call.itinerary.left:
        # A model that hangs shall not use up the deadline while others wait; but each gets what a healthy one may need.
        trial.patience = min(trial.patience, max(left / 2, call.router.settings.breaker.slow_first_token))
    first_byte = min(timeouts.first_byte, trial.patience, left)
    return Open(call.http_request(trial), min(timeouts.connect, left), first_byte, left)
