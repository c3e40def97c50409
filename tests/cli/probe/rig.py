"""A sweep over made-up gateways, in virtual time: nothing is sent and nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import attrs

from routerkit import AsyncClient
from routerkit.cli.probe.allowance import Allowance
from routerkit.cli.probe.choice import Choice, choose
from routerkit.cli.probe.journal import Record
from routerkit.cli.probe.sample import Sample
from routerkit.cli.probe.schedule import MAX_WAIT, Job, Put, Schedule
from routerkit.cli.probe.sweep import Question, Stop, Sweep
from routerkit.testing import ScriptedTransport
from routerkit.testing.replies import catalog_model
from tests.cli.probe.clock import START, LoopRuntime, run

if TYPE_CHECKING:
    from routerkit.types.model import ModelFilters

ONE = "http://127.0.0.1:1/v1"
TWO = "http://127.0.0.1:2/v1"
HERE, THERE = "127.0.0.1:1", "127.0.0.1:2"


@attrs.define(eq=False)
class Rig:
    """What happened stands in its lists; times are seconds from the start."""

    transport: ScriptedTransport = attrs.field(factory=ScriptedTransport)
    urls: Sequence[str] = (ONE,)
    clock: LoopRuntime = attrs.field(factory=LoopRuntime)
    samples: list[Sample] = attrs.field(factory=list)
    starts: list[tuple[float, str]] = attrs.field(factory=list)
    offs: list[tuple[str, float, str]] = attrs.field(factory=list)
    ends: list[tuple[str, str, int]] = attrs.field(factory=list)
    lines: list[tuple[Job, Decimal | None]] = attrs.field(factory=list)
    record: Record = attrs.field(factory=Record)
    """As a journal has it."""
    stops: dict[Job, Stop] = attrs.field(factory=dict)
    lasted: float = 0.0
    allowance: Allowance | None = None
    on_sample: Callable[[Sample], object] | None = None
    cancel_at: float | None = None
    options: dict[str, Any] = attrs.field(factory=dict)
    """Of the client."""

    def catalogue(self, *models: str, at: str = ONE, **fields: Any) -> None:
        """Their context lengths fall, so that they are asked in this order."""
        size = 100_000
        entries = [catalog_model(model, context_length=size - place, **fields) for place, model in enumerate(models)]
        self.transport.at(at).catalog = entries

    def script(self, model: str, *answers: Any, at: str = ONE) -> None:
        self.transport.at(at).script(model, *answers)

    def choose(self, *names: str, **filters: Any) -> Choice:
        async def work() -> Choice:
            async with self.client() as client:
                return await choose(client, Question(prompt="Hello, world!"), names, cast("ModelFilters", filters))

        return run(work())

    def client(self, **more: Any) -> AsyncClient:
        made: dict[str, Any] = {"gateways": list(self.urls), **self.options, **more}
        return AsyncClient(runtime=self.clock, transport=self.transport, **made)

    def sweep(
        self,
        *,
        rounds: int = 1,
        delay: float = 180.0,
        concurrency: int = 1,
        max_wait: float = MAX_WAIT,
        max_cost: str | None = None,
        spent: str = "0",
        max_tokens: int | None = None,
        names: Sequence[str] = (),
        **options: Any,
    ) -> Rig:
        async def work() -> None:
            async with self.client(**options) as client:
                question = Question(prompt="Hello, world!", max_tokens=max_tokens)
                choice = await choose(client, question, names, {})
                jobs = [Job(each.target, number) for number in range(1, rounds + 1) for each in choice.asked]
                delays = dict.fromkeys((gateway.name for gateway in client.settings.gateways), delay)
                schedule = Schedule(jobs, delays, concurrency=concurrency, max_wait=max_wait)
                limit = None if max_cost is None else Decimal(max_cost)
                self.allowance = Allowance(limit, Decimal(spent))
                asked = {each.target: each for each in choice.asked}
                sweep = Sweep(client, self.clock, question, asked, schedule, self.allowance, self, self)
                task = asyncio.ensure_future(sweep.run())
                if self.cancel_at is not None:
                    asyncio.get_running_loop().call_later(self.cancel_at, task.cancel)
                try:
                    await task
                finally:
                    self.stops = sweep.stops
                    self.lasted = self.clock.monotonic() - START

        run(work())
        return self

    @property
    def causes(self) -> dict[str, str]:
        """By model."""
        return {sample.model: sample.cause for sample in self.samples}

    @property
    def left(self) -> list[str]:
        """The models that were not asked."""
        return [job.target.model for job in self.stops]

    # What a sweep tells

    def write(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.record.add(sample)
        if self.on_sample is not None:
            self.on_sample(sample)

    def begun(self, job: Job, at: float, worst: Decimal | None) -> None:
        self.lines.append((job, worst))
        self.record.begin(job, at, worst)

    def tried(self, job: Job, charged: Decimal | None) -> None:
        self.record.try_over(job, charged)

    def started(self, put: Put) -> None:
        self.starts.append((self.clock.monotonic() - START, put.job.target.model))

    def finished(self, sample: Sample) -> None: ...

    def put_off(self, put: Put, seconds: float, why: str) -> None:
        self.offs.append((put.job.target.model, seconds, why))

    def left_out(self, put: Put, stop: Stop) -> None: ...

    def ended(self, gateway: str, stop: Stop, left: int) -> None:
        self.ends.append((gateway, stop.reason, left))
