"""The life of a stream: like a completion up to its first content, then delivered as it comes.

A stream is committed at its first text, tool call, reasoning or refusal, not at its headers. Before, a failure moves on to the
next model and the caller sees nothing of it. After, it is a StreamInterruptedError with what arrived. An end without
``finish_reason`` and without ``[DONE]`` is a failure, however politely the connection was closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs

from routerkit.core.answer import as_chunk, assemble, has_content, judge
from routerkit.core.call import MAX_RESPONSE, Call, Result, Trial, pursue, reach
from routerkit.core.effects import (
    Cancelled,
    Failure,
    Open,
    Step,
    StreamResponse,
    TransportFailure,
    close,
    deliver,
    open_stream,
    read,
)
from routerkit.core.failure import api_error, parse_json
from routerkit.core.sse import SSEDecoder, SSELimitError
from routerkit.core.verdict import OK, Signal, classify, error_object
from routerkit.core.verdict_table import Ending
from routerkit.errors import DeadlineExceededError, RouterKitError, StreamInterruptedError
from routerkit.types.completion import Chunk, Completion, CostSource
from routerkit.types.route import Route
from routerkit.types.verdict import Billing, Blame, Sample, Verdict

if TYPE_CHECKING:
    from routerkit.core.router import Router
    from routerkit.types.request import ChatRequest

MAX_ERROR_BODY = 64 * 1024
"""Bytes read of an answer that refuses a stream."""
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

    def completion(self) -> Completion:
        return Completion(
            assemble(chunk.raw for chunk in self.chunks),
            model=self.model,
            gateway=self.gateway,
            route=self.route,
            cost=self.cost,
            cost_source=self.cost_source,
            mock=self.mock,
        )


def stream(router: Router, request: ChatRequest) -> Step[Ended]:
    """Delivers chunks in batches; returns when the stream has ended well."""
    call = Call(router, request)
    try:
        intake = yield from pursue(call, begin)
        ended = yield from _flow(call, intake)
    except RouterKitError as error:
        error.route = call.ledger.route(call.now())
        yield from call.close(type(error).__name__)
        raise
    except Cancelled:
        yield from call.close("Cancelled")
        raise
    yield from call.close(cost=ended.cost)
    return ended


class Intake:
    """An answer being read: bytes in, chunks out, and what has been seen so far."""

    def __init__(self, trial: Trial, response: StreamResponse, signal: Callable[..., Signal]) -> None:
        self.trial = trial
        self._signal = signal
        self.handle = response.handle
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.mock = response.mock
        self.chunks: list[Chunk] = []
        self.undelivered: list[Chunk] = []
        self.committed = False
        """Whether content was seen."""
        self.finished = False
        """Whether a ``finish_reason`` was seen."""
        self.done = False
        """Whether ``[DONE]`` was seen."""
        self.over = False
        """Whether nothing more is expected: after ``[DONE]``, the end of the body, or a failure."""
        self.failed: Signal | None = None
        self.last_content = trial.admission.started
        self._decoder: SSEDecoder | None = None
        self._head = bytearray()
        """An answer that is no event stream, read whole."""

    def feed(self, data: bytes, now: float) -> None:
        """Take in what one read brought; ``b""`` is the end."""
        if not data:
            self._end()
        elif self._decoder is not None:
            self._take(self._decoder, data, now)
        else:
            self._sniff(data, now)

    def taken(self) -> list[Chunk]:
        """The chunks to hand over now."""
        chunks, self.undelivered = self.undelivered, []
        return chunks

    def _sniff(self, data: bytes, now: float) -> None:
        """Decide by the first byte: gateways send JSON, and proxies HTML, where a stream was asked for."""
        self._head += data
        first = self._head.lstrip()[:1]
        if first and (self.status != 200 or first in b"{[<"):
            limit = MAX_RESPONSE if self.status == 200 else MAX_ERROR_BODY
            if len(self._head) >= limit:
                self._end()
        elif first:
            self._decoder = SSEDecoder(max_stream=MAX_RESPONSE)
            head, self._head = bytes(self._head), bytearray()
            self._take(self._decoder, head, now)

    def _take(self, decoder: SSEDecoder, data: bytes, now: float) -> None:
        try:
            payloads = decoder.feed(data)
        except SSELimitError:
            return self._fail(Ending.STREAM_LIMIT)
        content = False
        for payload in payloads:
            if payload == b"[DONE]":
                self.done = True
                return self._end()
            event = parse_json(payload)
            if not isinstance(event, dict):
                return self._fail(Ending.MALFORMED)
            if "error" in event and error_object(event) is not None:
                return self._fail(Ending.GENERATION_FAILED, event)
            if not self._keep(event):
                return self._fail(Ending.GENERATION_FAILED, event)
            if not content and _holds_content(event):
                content = self.committed = True
                self.last_content = now
        return None

    def _keep(self, event: dict[str, Any]) -> bool:
        """Keep a chunk, unless it says that the generation failed."""
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            reason = choice.get("finish_reason") if isinstance(choice, dict) else None
            if reason == "error":
                return False
            if reason:
                self.finished = True
        chunk = Chunk(event)
        self.chunks.append(chunk)
        self.undelivered.append(chunk)
        return True

    def _end(self) -> None:
        """The body has ended, or what follows it does not matter."""
        self.over = True
        if self._decoder is None:
            self._end_whole()
        elif not self.finished and not self.done:
            self._fail(Ending.TRUNCATED)
        elif not self.committed:
            body = assemble(chunk.raw for chunk in self.chunks)
            ending = judge(body)
            if ending is not Ending.OK:
                self._fail(ending, body)

    def _end_whole(self) -> None:
        """An answer that is no event stream: a refusal, a whole completion, or something foreign."""
        body = parse_json(bytes(self._head))
        ending = judge(body) if self.status == 200 else None
        if ending is Ending.OK:
            self._keep(as_chunk(body))
            self.committed = self.finished = True
        elif self.status == 200 and not self._head.strip():
            self._fail(Ending.TRUNCATED)
        else:
            self._fail(ending, body)

    def _fail(self, ending: Ending | None, body: Any = None) -> None:
        self.over = True
        text = bytes(self._head[:2048]) if body is None else b""
        self.failed = self._signal(status=self.status, headers=self.headers, body=body, text=text, ending=ending)


def _holds_content(event: dict[str, Any]) -> bool:
    try:  # the one shape of nearly every event
        if event["choices"][0]["delta"]["content"]:
            return True
    except (LookupError, TypeError):
        pass
    choices = event.get("choices")
    return isinstance(choices, list) and any(
        has_content(choice.get("delta")) for choice in choices if isinstance(choice, dict)
    )


def begin(call: Call, trial: Trial) -> Step[Result[Intake]]:
    """One attempt at a stream, up to its first content."""
    response = yield from reach(call, trial, open_stream, _order)
    if isinstance(response, Verdict):
        return Result(response)
    intake = Intake(trial, response, call.signal)
    signal: Signal | None = Signal(ending=Ending.CANCELLED)
    try:
        signal = yield from _advance(call, intake)
    finally:
        if signal is not None:
            yield from close(intake.handle, reusable=intake.failed is not None and intake.status != 200)
            if signal.ending is Ending.CANCELLED:
                yield from call.conclude(trial, signal)
    if signal is not None:
        return Result((yield from call.conclude(trial, signal)))
    now = call.now()
    trial.first_token = now - trial.admission.started
    slow = trial.first_token > call.router.settings.breaker.slow_first_token
    trial.admission.settle(Sample.SLOW if slow else Sample.OK, Blame.MODEL if slow else Blame.NOBODY)
    return Result(OK, intake)


def _flow(call: Call, intake: Intake) -> Step[Ended]:
    """A committed stream, to its end."""
    signal: Signal | None = Signal(ending=Ending.CANCELLED)
    try:
        while True:
            chunks = intake.taken()
            if chunks:
                yield from deliver(chunks)
            if intake.over:
                signal = intake.failed
                break
            failed = yield from _advance(call, intake)
            if failed is not None:
                signal = failed
                break
    finally:
        yield from close(intake.handle, reusable=signal is None)
        if signal is not None and signal.ending is Ending.CANCELLED:
            yield from call.record(intake.trial, classify(signal))
    if signal is not None:
        raise (yield from _interrupted(call, intake, signal))
    yield from call.record(intake.trial, OK)
    return _ended(call, intake)


def _advance(call: Call, intake: Intake) -> Step[Signal | None]:
    """Read until there is something to deliver (``None``) or the attempt has failed (its signal)."""
    while True:
        seconds, ending = _shortest_clock(call, intake, call.now())
        try:
            data = yield from read(intake.handle, seconds if seconds > 0 else 0.0)
        except TransportFailure as failure:
            if intake.status != 200 or intake.finished:
                # A status tells more than why its body did not come; after the finish reason nothing was missing.
                intake.feed(b"", call.now())
                return intake.failed
            return _broken(call, intake, failure, ending)
        intake.feed(data, call.now())
        if intake.committed and (intake.undelivered or intake.over):
            return None
        if intake.over:
            return intake.failed


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
            left, meaning = intake.last_content + timeouts.first_token - now, Ending.FIRST_TOKEN_TIMEOUT
        if left < shortest:
            shortest, ending = left, meaning
    left = call.deadline - now
    return (left, Ending.DEADLINE) if left < shortest else (shortest, ending)


def _broken(call: Call, intake: Intake, failure: TransportFailure, ending: Ending | None) -> Signal:
    """The signal of a read that failed; a timeout means what the clock that ran out means."""
    if failure.failure is Failure.READ_TIMEOUT and ending is Ending.DEADLINE:
        return call.late_signal(intake.trial, failure.sent)
    if failure.failure is Failure.READ_TIMEOUT and ending is not None:
        return call.signal(ending=ending)
    return call.signal(failure=failure.failure, sent=failure.sent)


def _interrupted(call: Call, intake: Intake, signal: Signal) -> Step[StreamInterruptedError]:
    """The error of a stream that broke after its first content."""
    verdict = attrs.evolve(classify(signal), billing=Billing.CONFIRMED)
    trial = intake.trial
    target = trial.candidate.target
    if verdict.blame in (Blame.MODEL, Blame.GATEWAY):
        call.router.health.record(target, verdict.sample)
        call.router.health.cool(target, call.router.key, verdict, signal.status)
    yield from call.record(trial, verdict)
    text = "".join(chunk.text for chunk in intake.chunks)
    cause = api_error(verdict, signal, target, key=call.router.settings.api_key)
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
    return error


def _ended(call: Call, intake: Intake) -> Ended:
    target = intake.trial.candidate.target
    usage: dict[str, Any] = {}
    for chunk in reversed(intake.chunks):
        if isinstance(chunk.raw.get("usage"), dict):
            usage = chunk.raw
            break
    cost, source = call.cost(usage, target.model)
    return Ended(
        intake.chunks, target.model, target.gateway, call.ledger.route(call.now(), cost), cost, source, intake.mock
    )


def _order(call: Call, trial: Trial) -> Open:
    timeouts, left = call.request.timeouts, max(call.left(), 0.001)
    first_byte = min(timeouts.first_byte, timeouts.first_token, left)
    return Open(call.http_request(trial), min(timeouts.connect, left), first_byte, left)
