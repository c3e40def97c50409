"""The life of a call: :func:`complete` is a whole completion, read from top to bottom; its ladder stands in
:mod:`routerkit.core.ladder`, and is that of streams too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import attrs

from routerkit.core.answer import judge
from routerkit.core.effects import (
    CLOCKS,
    TOLERANCE,
    Cancelled,
    Failure,
    HttpRequest,
    HttpResponse,
    Open,
    Send,
    Step,
    StreamResponse,
    TransportFailure,
    send,
)
from routerkit.core.failure import (
    api_error,
    failure_signal,
    parse_json,
    request_id_of,
    told,
)
from routerkit.core.health import Admission
from routerkit.core.hold import ALL, NOTHING, Hold, Spent
from routerkit.core.intake import MAX_RESPONSE
from routerkit.core.itinerary import Itinerary
from routerkit.core.ladder import pursue
from routerkit.core.ledger import Ledger
from routerkit.core.limits import Denial
from routerkit.core.needs import needs_of
from routerkit.core.plan import known_at
from routerkit.core.pricing import cost_of
from routerkit.core.quotas import Quotas
from routerkit.core.refusals import reason_of, refused_error
from routerkit.core.retry import useful, worthwhile
from routerkit.core.turns import NoTurn
from routerkit.core.verdict import OK, Signal, classify
from routerkit.core.verdict_table import Ending
from routerkit.errors import DeadlineExceededError, RouterKitError
from routerkit.types.completion import Completion
from routerkit.types.event import AttemptFinished, CallFinished
from routerkit.types.request import ChatRequest
from routerkit.types.route import Attempt, Candidate, Route
from routerkit.types.tokens import CostSource, Usage, usage_of
from routerkit.types.verdict import Billing, Blame, Sample, Sent, Verdict

if TYPE_CHECKING:
    from routerkit.core.router import Router

MAX_LAG = 1.0
"""Seconds by which a time limit may be noticed too late; beyond, it was this process that was slow, not the model."""

_USAGE = b',"usage":{"include":true}'
"""Asks for the cost of the answer."""

_FINAL = frozenset({Failure.CONNECT_TIMEOUT, Failure.TLS_VERIFY, Failure.ADDRESS, Failure.LOCAL})
"""Failures to connect that a second try would only repeat, or that have used up the time there was for connecting."""

_ONE_MODELS = (Blame.MODEL, Blame.TENANT)
"""Blames that name a single model."""


class Accountable(Protocol):
    """What a call gives, as far as its account goes."""

    @property
    def route(self) -> Route: ...
    @property
    def cost(self) -> Decimal | None: ...


T = TypeVar("T")
AccountableT = TypeVar("AccountableT", bound=Accountable)
OrderT = TypeVar("OrderT", Send, Open)
ResponseT = TypeVar("ResponseT", HttpResponse, StreamResponse)


@attrs.define(eq=False)
class Result(Generic[T]):
    """What one attempt gave: a value, when the verdict says return."""

    verdict: Verdict
    value: T | None = None


@attrs.define(eq=False)
class Trial:
    """One attempt under way: where, with whose leave, since when."""

    candidate: Candidate
    admission: Admission
    fresh: bool = False
    """On a new connection."""
    reconnected: bool = False
    """Whether its first connection could not be made."""
    status: int | None = None
    request_id: str | None = None
    first_token: float | None = None
    patience: float = 0.0
    """Streams: seconds for the first content."""
    streaming: bool = False
    """Whether its answer is still coming in, so that its key is still in use."""


class Call:
    """One call under way: its request, its deadline, its account."""

    def __init__(self, router: Router, request: ChatRequest) -> None:
        now = router.runtime.monotonic()
        self.router = router
        self.request = self.asked = request
        """What is sent: what was asked for, or what continues a stream that broke."""
        self.deadline = now + request.total
        self.ledger = Ledger(now)
        self.itinerary = Itinerary(router, request, self.ledger, self.deadline)
        self.usage: Usage | None = None
        """What the answer used."""
        self.begun = 0
        """Attempts; those that are over are in the ledger."""

    def now(self) -> float:
        return self.router.runtime.monotonic()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - self.router.runtime.monotonic()

    def enter(self, quotas: Quotas) -> Step[Hold]:
        """Have the call counted, in its turn. Raises LimitExceededError, DeadlineExceededError."""
        made = yield from self._leave(quotas)
        if isinstance(made, Hold):
            if made.degraded:
                self.ledger.degraded.append("the call")
            return made
        denial, note = (made.denial, made.note) if isinstance(made, NoTurn) else (made, "")
        if denial.degraded:
            self.ledger.degraded.append("the call")
        if note and self.late:
            raise DeadlineExceededError(f"the {self.request.total:g} s of the call are over: {reason_of(denial, note)}")
        raise refused_error(denial, self.router.runtime.wall(), note)

    def _leave(self, quotas: Quotas) -> Step[Hold | Denial | NoTurn]:
        demand = self.itinerary.demand
        groups = quotas.of_call(demand)
        ask, blocked = partial(quotas.ask, groups, demand.lease), partial(quotas.queue, groups)
        queue = quotas.busy(groups)
        if queue is None:
            made = yield from ask()
            queue = blocked(made)
            if queue is None:
                return made
        return (yield from self.itinerary.turn(queue, ask, blocked))

    def spent(self) -> Spent:
        """What the call came to, for the limits that count calls."""
        attempts = self.ledger.attempts
        if self.begun == len(attempts) and all(each.verdict.sent is Sent.NOT_SENT for each in attempts):
            return NOTHING
        if self.usage is not None and self.usage.known:
            return Spent(True, self.usage.total_tokens, None)
        billed = any(each.verdict.billing is not Billing.NONE for each in attempts)
        return Spent(True, None if billed or self.begun > len(attempts) else 0, None)

    def trial(self, candidate: Candidate, admission: Admission) -> Trial:
        """An attempt to be made; on a new connection, once a pooled one has turned out stale."""
        return Trial(candidate, admission, fresh=self.ledger.free_attempts > 0)

    @property
    def late(self) -> bool:
        """Whether the deadline was the reason to wait for a turn no longer."""
        return self.left() <= useful(self.request) + TOLERANCE

    def enough(self, pause: float = 0.0) -> bool:
        """Whether, after a pause, the time left is enough for an attempt to make sense."""
        return worthwhile(self.left() - pause, self.request)

    def http_request(self, trial: Trial) -> HttpRequest:
        target, request = trial.candidate.target, self.request
        access = self.router.access[target.gateway]
        if request.models:
            request = request.handing_over(known_at(self.router.settings, target.gateway, request.models))
        headers = merged(access.headers, request.headers) if request.headers else access.headers
        usage = _USAGE if access.gateway.usage_parameter and "usage" not in request.params else b""
        body = request.body(target.model, usage)
        return HttpRequest("POST", access.chat_url, headers, body, trial.admission.key.credential, trial.fresh)

    def signal(self, trial: Trial, **fields: Any) -> Signal:
        """A signal with what the call knows beside the outcome."""
        return Signal(
            wall=self.router.runtime.wall(),
            routing_preferences="provider" in self.request.params,
            insured=self.router.access[trial.candidate.gateway].gateway.insures_failures,
            **fields,
        )

    def failed_signal(self, trial: Trial, failure: TransportFailure) -> Signal:
        """The signal of a transport's failure; one of its clocks may have been the call's own deadline."""
        trial.status = failure.status
        if failure.failure in CLOCKS and self.left() <= TOLERANCE:
            return self.late_signal(trial, failure.sent)
        if failure.lag > MAX_LAG:
            return Signal(ending=Ending.LAGGED, sent=failure.sent)
        return failure_signal(failure)

    def late_signal(self, trial: Trial, sent: Sent) -> Signal:
        """The deadline cut the attempt. That blames the model only if it had been slow by its own measure."""
        healthy = self.router.settings.breaker.slow_first_token
        waited = self.request.stream and trial.first_token is None
        return Signal(
            ending=Ending.DEADLINE, sent=sent, outlasted=waited and self.now() - trial.admission.started >= healthy
        )

    @property
    def listed(self) -> bool:
        """Whether the gateway chose among models by itself: what it says of one, nobody knows of which."""
        return "models" in self.request.params

    def judged(self, signal: Signal) -> Verdict:
        """The verdict on an outcome."""
        verdict = classify(signal)
        if self.listed and verdict.blame in _ONE_MODELS:
            return attrs.evolve(verdict, blame=Blame.NOBODY, sample=Sample.NEUTRAL, cooldown=0.0)
        return verdict

    def conclude(self, trial: Trial, signal: Signal, detail: str = "") -> Step[Verdict]:
        """Settle an attempt that gave no answer: breaker, limits, cooldown, account, observers."""
        verdict = self.judged(signal)
        trial.admission.settle(verdict.sample, verdict.blame)
        hold = trial.admission.hold
        if hold is not None:
            spent = _spent_on_failure(verdict, signal)
            if signal.ending is Ending.CANCELLED:
                hold.settle_soon(spent)
            else:
                yield from hold.settle(spent)
        self.score(trial, verdict.sample)
        target, key = trial.candidate.target, trial.admission.key
        self.router.health.cool(target, key, verdict, signal.status)
        error = api_error(verdict, signal, target, detail, key.secret)
        self.ledger.failures.append((verdict, error))
        trial.status, trial.request_id = signal.status or trial.status, error.request_id or trial.request_id
        return (yield from self.record(trial, verdict, told(verdict, signal, detail, key.secret)))

    def record(self, trial: Trial, verdict: Verdict, detail: str = "") -> Step[Verdict]:
        """Enter an attempt into the account and tell observers."""
        started = trial.admission.started
        attempt = Attempt(
            trial.candidate.target,
            trial.candidate.origin,
            verdict,
            started - self.ledger.started,
            self.now() - started,
            trial.status,
            detail,
            trial.request_id,
            trial.first_token,
        )
        self.ledger.attempts.append(attempt)
        if self.router.news:
            yield from self.router.report(AttemptFinished(attempt))
        return verdict

    def settle(self, trial: Trial, usage: Usage, served: Any) -> Step[tuple[Decimal | None, CostSource]]:
        """An answer is complete. Its cost: the gateway's own figure, else what its catalogue in memory says of the model that it
        ``served``."""
        self.usage = usage
        self.score(trial, Sample.OK, usage)
        cost, source = self._cost(trial, usage, served)
        if trial.admission.hold is not None:
            yield from trial.admission.hold.settle(Spent(True, usage.total_tokens if usage.known else None, cost))
        return cost, source

    def _cost(self, trial: Trial, usage: Usage, served: Any) -> tuple[Decimal | None, CostSource]:
        told = usage.cost
        if told is not None:
            return told, "gateway"
        target = trial.candidate.target
        snapshot = self.router.access[target.gateway].catalog.peek()
        if snapshot is None:
            return None, "unknown"
        model = (snapshot.get(served) if isinstance(served, str) else None) or snapshot.get(target.model)
        images = needs_of(self.request).images if model is not None and model.pricing.image else 0
        return cost_of(usage, model, images)

    def score(self, trial: Trial, sample: Sample, usage: Usage | None = None) -> None:
        """Enter an attempt that says something of its target into the scores, if a strategy looks at them."""
        if not self.router.scored or sample is Sample.NEUTRAL:
            return
        self.router.scores.observe(
            trial.candidate.target,
            ok=sample is Sample.OK,
            first_token=trial.first_token,
            duration=self.now() - trial.admission.started,
            tokens=(usage and usage.completion_tokens) or None,
        )

    def close(self, route: Route, error: str | None, cost: Decimal | None = None) -> Step[None]:
        """The call has ended: add up what it used, tell observers."""
        router, stream = self.router, self.request.stream
        router.accounts.record(router.settings.tenant, route, error, stream, self.usage, cost)
        if router.observed():
            yield from router.report(CallFinished(route, error, stream, router.settings.tenant))


def merged(ours: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str]:
    """Headers of which a caller's take the place of ours, however they are capitalised."""
    taken = {name.lower() for name in theirs}
    return {**{name: value for name, value in ours.items() if name.lower() not in taken}, **theirs}


def complete(router: Router, request: ChatRequest) -> Step[Completion]:
    """One whole completion."""
    call = Call(router, request)
    return (yield from accounted(call, pursue(call, exchange)))


def accounted(call: Call, work: Step[AccountableT]) -> Step[AccountableT]:
    """A call's work, at whose end its account is closed: errors carry the route, usage is added up, observers are told."""
    if call.router.quotas is not None and call.router.quotas.calls:
        work = _counted(call, call.router.quotas, work)
    try:
        if call.router.board is not None:
            yield from call.router.meet()
        result = yield from work
    except RouterKitError as error:
        error.route = call.ledger.route(call.now())
        yield from call.close(error.route, type(error).__name__)
        raise
    except Cancelled:
        yield from call.close(call.ledger.route(call.now()), "Cancelled")
        raise
    yield from call.close(result.route, None, result.cost)
    return result


def _counted(call: Call, quotas: Quotas, work: Step[T]) -> Step[T]:
    """A call's work, for which its limits are asked first and settled afterwards."""
    hold = yield from call.enter(quotas)
    try:
        result = yield from work
    except RouterKitError:
        yield from hold.settle(call.spent())
        raise
    except BaseException:
        hold.settle_soon(call.spent())
        raise
    yield from hold.settle(call.spent())
    return result


def _spent_on_failure(verdict: Verdict, signal: Signal) -> Spent:
    """What an attempt that gave no answer came to: it may have been billed in full, unless that is known not to be so."""
    if verdict.billing is Billing.NONE:
        return Spent(signal.sent is not Sent.NOT_SENT, 0, Decimal(0))
    return ALL


def exchange(call: Call, trial: Trial) -> Step[Result[Completion]]:
    """One attempt at a whole answer."""
    response = yield from reach(call, trial, send, _order)
    if isinstance(response, Verdict):
        return Result(response)
    body = parse_json(response.body)
    ending = judge(body) if response.status == 200 else None
    if ending is not Ending.OK:
        text = response.body[:2048] if body is None else b""
        signal = call.signal(
            trial, status=response.status, headers=response.headers, body=body, text=text, ending=ending
        )
        return Result((yield from call.conclude(trial, signal)))
    trial.admission.settle(Sample.OK, Blame.NOBODY)
    yield from call.record(trial, OK)
    target = trial.candidate.target
    cost, source = yield from call.settle(trial, usage_of(body), body.get("model"))
    route = call.ledger.route(call.now(), cost)
    completion = Completion(
        body, model=target.model, gateway=target.gateway, route=route, cost=cost, cost_source=source, mock=response.mock
    )
    return Result(OK, completion)


def reach(
    call: Call, trial: Trial, perform: Callable[[OrderT], Step[ResponseT]], order: Callable[[Call, Trial], OrderT]
) -> Step[ResponseT | Verdict]:
    """Perform an order of an attempt: its response, or the verdict on why there is none.

    Where it is proved that nothing was sent, the attempt connects once more, at once and at no charge (gRPC's A6).
    """
    try:
        response = yield from perform(order(call, trial))
    except TransportFailure as failure:
        unsent = failure.sent is Sent.NOT_SENT and failure.failure not in _FINAL
        if unsent and not trial.reconnected and call.left() > TOLERANCE:
            trial.fresh = trial.reconnected = True
            return (yield from reach(call, trial, perform, order))
        return (yield from call.conclude(trial, call.failed_signal(trial, failure), failure.detail))
    except Cancelled:
        yield from call.conclude(trial, Signal(ending=Ending.CANCELLED, sent=Sent.MAYBE))
        raise
    trial.status, trial.request_id = response.status, request_id_of(response.headers, trial.admission.key.secret)
    return response


def _order(call: Call, trial: Trial) -> Send:
    timeouts, left = call.request.timeouts, max(call.left(), 0.001)
    request = call.http_request(trial)
    return Send(request, min(timeouts.connect, left), min(timeouts.first_byte, left), timeouts.idle, left, MAX_RESPONSE)
