"""The sweep itself: asks when the schedule says so, waits, and writes down what came of it.

What an outcome means is the library's to decide: its verdicts, what it holds back and for how long, what it would charge.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from routerkit.cli.endings import exit_code
from routerkit.cli.probe import measure
from routerkit.cli.probe.allowance import ZERO, Allowance
from routerkit.cli.probe.sample import Sample, added
from routerkit.cli.probe.schedule import Job, Put, Schedule
from routerkit.cli.render import money
from routerkit.cli.terminal import one_line
from routerkit.core.verdict_table import VERDICTS
from routerkit.errors import BudgetExceededError, ConfigurationError, LimitExceededError, RouterKitError
from routerkit.types.completion import Completion
from routerkit.types.model import Model
from routerkit.types.policy import MAX_ATTEMPTS, RetryPolicy
from routerkit.types.route import Attempt, Target
from routerkit.types.usage import EXACT
from routerkit.types.verdict import Action, Billing, Blame, Sent

if TYPE_CHECKING:
    from routerkit.async_client import AsyncClient
    from routerkit.core.effects import Runtime
    from routerkit.types.policy import Timeouts

    class Clock(Runtime, Protocol):
        async def asleep(self, seconds: float) -> None: ...


log = logging.getLogger("routerkit.probe")

IN_A_ROW = 3
"""So many models of a gateway that cannot be reached, or refuse the key: so will the others."""
PAUSE = 1.0
"""Seconds for which a question is put off that is to be repeated, when nobody says for how long."""
SLOTS_PAUSE = 5.0
"""The same where all places of a limit are taken."""


@attrs.frozen(kw_only=True)
class Question:
    """What each model is asked."""

    prompt: str
    max_tokens: int | None = None
    timeout: Timeouts | None = None

    @property
    def options(self) -> dict[str, Any]:
        """As keywords of a call; what was not given is left to the library."""
        told = {"max_tokens": self.max_tokens, "timeout": self.timeout}
        return {name: value for name, value in told.items() if value is not None}


@attrs.frozen
class Asked:
    """A model that is to be asked."""

    target: Target
    model: Model | None = None
    """Its entry of the catalogue, where there is one."""
    expected: Decimal | None = None
    """USD that a question is likely to cost."""
    worst: Decimal | None = None
    """USD that it can cost at most. ``None`` of either: nobody can tell."""


@attrs.frozen
class Stop:
    """Why questions are not put."""

    reason: str
    code: int
    """The exit code that it comes to."""


class Watch(Protocol):
    """Who shows how it goes."""

    def started(self, put: Put) -> None: ...
    def finished(self, sample: Sample) -> None: ...
    def put_off(self, put: Put, seconds: float, why: str) -> None: ...
    def left_out(self, put: Put, stop: Stop) -> None: ...
    def ended(self, gateway: str, stop: Stop, left: int) -> None: ...


class Writer(Protocol):
    """Who keeps samples; see :class:`routerkit.cli.probe.journal.Journal`."""

    def write(self, sample: Sample) -> None: ...
    def begun(self, job: Job, at: float, worst: Decimal | None) -> None: ...
    def tried(self, job: Job, charged: Decimal | None) -> None: ...


class Sweep:
    """One run of it. ``stops`` says of each question that was not put why not."""

    def __init__(
        self,
        client: AsyncClient,
        clock: Clock,
        question: Question,
        asked: Mapping[Target, Asked],
        schedule: Schedule,
        allowance: Allowance,
        writer: Writer,
        watch: Watch,
    ) -> None:
        self._clock = clock
        self._question = question
        self._asked = asked
        self.schedule = schedule
        self._allowance = allowance
        self._writer = writer
        self._watch = watch
        self._clients = {
            gateway.name: _narrowed(client, gateway.name, once=allowance.limit is not None)
            for gateway in client.settings.gateways
        }
        self._charged: dict[Job, Decimal | None] = {}
        """USD of tries that are over, of questions that were put off."""
        self._vain: dict[str, list[str]] = {}
        """By gateway: models that it would not hear of, one after the other."""
        self.stops: dict[Job, Stop] = {}

    async def run(self) -> None:
        """Until nothing is left that may be asked. Raises what is no fault of a model; when cancelled, closes what is under way.

        On every way out, ``stops`` is complete.
        """
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._start_all(tasks)
                pause = self.schedule.pause(self._clock.monotonic(), self._fits)
                if not tasks and pause is None:
                    break
                for task in await self._next(tasks, pause):
                    tasks.discard(task)
                    task.result()
        except BaseException:
            self._left(Stop("the sweep ended before", 0))
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._left(None)

    def _start_all(self, tasks: set[asyncio.Task[None]]) -> None:
        while (put := self.schedule.take(self._clock.monotonic(), self._fits)) is not None:
            self._allowance.set_aside(self._asked[put.job.target].worst)
            tasks.add(asyncio.ensure_future(self._put(put)))

    async def _next(self, tasks: set[asyncio.Task[None]], pause: float | None) -> set[asyncio.Task[None]]:
        """Those that have ended; none, when it is time for another."""
        sleeper = None if pause is None else asyncio.ensure_future(self._clock.asleep(pause))
        try:
            waited = {*tasks} if sleeper is None else {*tasks, sleeper}
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if sleeper is not None:
                sleeper.cancel()
        return tasks & done

    def _fits(self, job: Job) -> bool:
        return self._allowance.fits(self._asked[job.target].worst)

    async def _put(self, put: Put) -> None:
        asked, at = self._asked[put.job.target], self._clock.wall()
        self._writer.begun(put.job, at, asked.worst)
        self._watch.started(put)
        try:
            completion, pieces = await self._ask(put.job.target)
        except ConfigurationError:
            raise
        except RouterKitError as error:
            self._failed(put, at, error)
        else:
            charged = self._charge(put, asked, completion.cost, answered=True, attempts=completion.route.attempts)
            self._record(put, measure.answered(put, at, completion, pieces, asked.model, charged))

    async def _ask(self, target: Target) -> tuple[Completion, int]:
        """The answer, and in how many pieces it came."""
        client, pieces = self._clients[target.gateway], 0
        stream = client.stream(self._question.prompt, model=target.model, **self._question.options)
        async with stream:
            async for chunk in stream:
                pieces += bool(chunk.text or chunk.reasoning)
        return stream.completion, pieces

    def _charge(
        self, put: Put, asked: Asked, cost: Decimal | None, *, answered: bool, attempts: tuple[Attempt, ...]
    ) -> Decimal | None:
        """What all tries of a question count for, this one included; this one is settled."""
        in_vain = attempts[:-1] if answered else attempts
        billed = sum(attempt.billing is not Billing.NONE for attempt in in_vain)
        charged: Decimal | None = cost if answered and cost is not None else (asked.worst if answered else ZERO)
        for _ in range(billed):
            charged = added(charged, asked.worst)
        self._allowance.settle(asked.worst, charged)
        return added(self._charged.pop(put.job, ZERO), charged)

    def _record(self, put: Put, sample: Sample, *, sent: bool = True) -> None:
        self._writer.write(sample)
        self.schedule.finish(put, self._clock.monotonic(), sent=sent)
        if sent and sample.ok:
            self._vain.pop(sample.gateway, None)
        self._watch.finished(sample)

    def _failed(self, put: Put, at: float, error: RouterKitError) -> None:
        """Later again, or not at all, or a failure: what the library says of it decides."""
        asked, attempt = self._asked[put.job.target], measure.last_of(error)
        attempts = () if error.route is None else error.route.attempts
        charged = self._charge(put, asked, None, answered=False, attempts=attempts)
        pause = _pause(error, attempt)
        held = self._held(put.job.target.gateway, error, pause)
        if pause is not None and held is not None:
            pause = held = max(pause, held)
        if pause is not None and self.schedule.may_wait(put, pause):
            self._charged[put.job] = charged
            self._writer.tried(put.job, charged)
            self._put_off(put, pause, held, error, sent=attempt is not None)
            return
        stop = Stop(one_line(str(error)), exit_code(error))
        long = pause is not None and not self.schedule.may_ever_wait(pause)
        refused = attempt is not None and attempt.verdict.action is Action.NEXT_KEY
        if refused or (attempt is None and held is not None and long):
            self._give_up(put, charged, stop, sent=attempt is not None)
            self._end(put.job.target.gateway, stop)
        elif attempt is None and (long or pause is None) and _of_account(error):
            self._give_up(put, charged, stop, sent=False)
        else:
            self._record(put, measure.failed(put, at, error, asked.model, charged), sent=attempt is not None)
            if attempt is not None:
                self._count_vain(attempt, stop)

    def _put_off(self, put: Put, pause: float, held: float | None, error: RouterKitError, *, sent: bool) -> None:
        now, gateway = self._clock.monotonic(), put.job.target.gateway
        self.schedule.put_off(put, now, pause, sent=sent)
        if held is not None:
            self.schedule.hold(gateway, now + held)
        why = measure.cause_of(error)
        log.info("%s: put off by %.1f s: %s", put.job.target, pause, why)
        self._watch.put_off(put, pause, why)

    def _held(self, gateway: str, error: RouterKitError, pause: float | None) -> float | None:
        """Seconds for which the library would ask no model of the gateway; ``None``: it would."""
        if isinstance(error, LimitExceededError):
            return pause
        router = self._clients[gateway].router
        refusal = router.health.peek(Target(gateway, ""), router.access[gateway].keys)
        if refusal is None or refusal.retry_at is None:
            return None
        return max(0.0, refusal.retry_at - self._clock.monotonic())

    def _count_vain(self, attempt: Attempt, stop: Stop) -> None:
        """Of a failure that is recorded: whether the gateway can be reached, and hears this key at all."""
        verdict, gateway = attempt.verdict, attempt.gateway
        if (verdict.blame is Blame.GATEWAY and verdict.sent is Sent.NOT_SENT) or verdict.blame is Blame.KEY:
            models = self._vain.setdefault(gateway, [])
            models.append(attempt.model)
            if len(set(models)) >= IN_A_ROW:
                self._end(gateway, stop)
        else:
            self._vain.pop(gateway, None)

    def _give_up(self, put: Put, charged: Decimal | None, stop: Stop, *, sent: bool) -> None:
        self._writer.tried(put.job, charged)
        self.schedule.finish(put, self._clock.monotonic(), sent=sent)
        self.stops[put.job] = stop
        log.warning("%s: not tested: %s", put.job.target, stop.reason)
        self._watch.left_out(put, stop)

    def _end(self, gateway: str, stop: Stop) -> None:
        jobs = self.schedule.end(gateway)
        for job in jobs:
            self.stops[job] = stop
        log.warning("%s: not asked any more, left: %d: %s", gateway, len(jobs), stop.reason)
        self._watch.ended(gateway, stop, len(jobs))

    def _left(self, stop: Stop | None) -> None:
        """Say of what is left why it was not put: this, or that it did not fit into what may be spent."""
        for job in (*self.schedule.waiting(), *(put.job for put in self.schedule.under_way())):
            self.stops.setdefault(job, stop or self._too_dear(self._asked[job.target].worst))

    def _too_dear(self, worst: Decimal | None) -> Stop:
        if worst is None:
            return Stop("nobody can tell what it may cost, and --max-cost is to be kept", 6)
        left = EXACT.subtract(self._allowance.limit or ZERO, self._allowance.spent)
        if left < 0:
            return Stop(f"{money(self._allowance.spent)} may be spent already, more than --max-cost", 6)
        return Stop(f"it may cost more than the {money(left)} that --max-cost leaves", 6)


def _narrowed(client: AsyncClient, gateway: str, *, once: bool) -> AsyncClient:
    """A client that asks one model on one gateway, with each key once, and waits for nothing by itself.

    ``once``: not even after a connection broke, when the question may have been billed.
    """
    keys = len(client.settings.keys.get(gateway, ()))
    attempts = max(1, min(keys, MAX_ATTEMPTS))
    return client.with_options(
        gateway=gateway,
        catalog_fallback=False,
        default_model=None,
        fallback_models=[],
        retry=RetryPolicy(max_attempts=attempts, max_same_target=1, max_sleep=0, at_most_once=once),
    )


def _pause(error: RouterKitError, attempt: Attempt | None) -> float | None:
    """Seconds after which the same question can get an answer, as far as the library knows; ``None``: that is not known."""
    if attempt is not None and attempt.first_token is not None:
        return None  # it was being answered: how it broke off is what there is to tell
    if error.retry_after is not None:
        return error.retry_after
    if attempt is None and isinstance(error, LimitExceededError):
        return SLOTS_PAUSE
    return PAUSE if attempt is not None and attempt.verdict.action is Action.RETRY_SAME else None


def _of_account(error: RouterKitError) -> bool:
    """Whether it says nothing of the model, but of what the caller may have or spend."""
    rule = VERDICTS.get(error.code or "")
    return isinstance(error, BudgetExceededError) or (rule is not None and rule.blame is Blame.KEY)


def first_code(stops: Mapping[Job, Stop]) -> int:
    """The exit code of what was not put: that of the first reason that has one."""
    return next((stop.code for stop in stops.values() if stop.code), 0)
