"""One run of the command, from what was asked for to the files that it leaves."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
import orjson

from routerkit import __version__
from routerkit.cli.endings import exit_code
from routerkit.cli.probe import journal
from routerkit.cli.probe.allowance import Allowance
from routerkit.cli.probe.choice import Choice, choose, total
from routerkit.cli.probe.folder import DOCUMENT, REPORT, Folder
from routerkit.cli.probe.interrupts import Interrupts
from routerkit.cli.probe.journal import JournalError, Record
from routerkit.cli.probe.progress import Progress
from routerkit.cli.probe.sample import Head, Sample
from routerkit.cli.probe.schedule import MAX_WAIT, Job, Schedule
from routerkit.cli.probe.sweep import Question, Stop, Sweep, first_code
from routerkit.cli.probe.wish import Wish
from routerkit.cli.probe.words import counted
from routerkit.cli.terminal import Output, one_line

if TYPE_CHECKING:
    from routerkit.async_client import AsyncClient
    from routerkit.cli.options import Shared
    from routerkit.types.settings import Settings

log = logging.getLogger("routerkit.probe")


class Run:
    def __init__(self, shared: Shared, wish: Wish) -> None:
        """Raises UsageError when it may not begin."""
        self._shared = shared
        self._folder = Folder(wish.out)
        self._folder.check(resume=wish.resume or wish.dry_run)
        kept = self._folder.kept() if wish.resume else Record()
        self._wish = wish = wish.settled(kept.head)
        self._question = Question(prompt=wish.prompt or "", max_tokens=wish.max_tokens, timeout=wish.timeout)
        self._before = None if wish.compare is None else _earlier(wish.compare)
        """The samples to compare with."""
        self._kept = kept
        self._stderr = Output(sys.stderr)
        self._stops: dict[Job, Stop] = {}

    def __call__(self) -> int:
        """Do it; the exit code. Raises UsageError, the library's errors, and whatever else ended the sweep."""
        interrupts = Interrupts()
        record, failure = asyncio.run(self._asked(interrupts))
        if record is None:
            if interrupts.code == 130:
                raise KeyboardInterrupt
            return interrupts.code
        try:
            self._finish(record)
        except Exception:
            if failure is None:
                raise
            log.exception("the results could not be written")
        if failure is not None:
            raise failure
        return self._code(record.samples, interrupts)

    async def _asked(self, interrupts: Interrupts) -> tuple[Record | None, Exception | None]:
        """What was found, unless nothing was to be asked; and what ended the sweep before its time."""
        wish = self._wish
        learn = {"performance_cache": True} if wish.learn else {}
        with interrupts:
            try:
                async with self._shared.async_client(strategy="priority", **learn) as client:  # type: ignore[arg-type]
                    self._check(client.settings)
                    choice = await choose(client, self._question, wish.models, wish.filters)
                    self._tell(choice)
                    if wish.dry_run:
                        self._show(client.settings, choice)
                        return None, None
                    return await self._swept(client, choice, interrupts)
            except asyncio.CancelledError:
                if interrupts.caught is None:
                    raise
                return None, None

    def _check(self, settings: Settings) -> None:
        """Raises UsageError where these settings do not go with what is wished, or with what was begun."""
        dev, head, folder = settings.dev_mode is not None, self._kept.head, self._folder.path
        if dev and self._wish.learn:
            raise click.UsageError("--learn: in dev mode answers are made up, and there is nothing to learn from them")
        if head is None:
            return
        if head.options.get("dev", dev) is not dev:
            raise click.UsageError(f"--resume: the sweep in {folder} was {'not ' if dev else ''}made in dev mode")
        if {*head.gateways} != {gateway.name for gateway in settings.gateways}:
            raise click.UsageError(f"--resume: the sweep in {folder} is one of {', '.join(head.gateways)}: name these")

    async def _swept(
        self, client: AsyncClient, choice: Choice, interrupts: Interrupts
    ) -> tuple[Record, Exception | None]:
        wish, clock = self._wish, client._runtime
        failure: Exception | None = None
        written = self._folder.open(resume=wish.resume)
        several = len(client.settings.gateways) > 1
        bar = not self._shared.verbose
        try:
            with (
                self._folder.logged(self._stderr.line),
                Progress(self._stderr, clock.monotonic, several=several, rounds=wish.repeat or 1, bar=bar) as progress,
            ):
                record = written.record
                allowance = Allowance(wish.max_cost, self._spent(record))
                written.begin(self._head(client.settings))
                schedule = self._schedule(client.settings, choice, record.done)
                for gateway, delay in wish.delays(client.settings).items():  # the part before has asked it too
                    rest = record.put.get(gateway, 0.0) + delay - clock.wall()
                    schedule.hold(gateway, clock.monotonic() + min(max(0.0, rest), delay))
                progress.follow(schedule, record.samples)
                asked = {each.target: each for each in choice.asked}
                log.info("%d questions to %d models; %d are done", schedule.total, len(asked), len(record.samples))
                sweep = Sweep(client, clock, self._question, asked, schedule, allowance, written, progress)
                try:
                    await sweep.run()
                except asyncio.CancelledError:
                    if interrupts.caught is None:
                        raise
                except Exception as error:
                    failure = error
                    log.error("the sweep ended: %s: %s", type(error).__name__, error)
                self._stops = sweep.stops
        finally:
            written.close()
        return record, failure

    def _spent(self, record: Record) -> Decimal:
        """USD. Raises UsageError where a limit is to be kept and nobody can tell."""
        spent, unknown = total([*(sample.charged for sample in record.samples), *record.unsettled])
        if unknown and self._wish.max_cost is not None:
            questions = counted(unknown, "question")
            raise click.UsageError(
                f"--max-cost: nobody can tell what the part before has cost ({questions}); begin anew with --out"
            )
        return spent

    def _head(self, settings: Settings) -> Head:
        return Head(
            started=time.time(),
            prompt=self._question.prompt,
            repeat=self._wish.repeat or 1,
            gateways=tuple(gateway.name for gateway in settings.gateways),
            routerkit=__version__,
            options=self._wish.options(settings),
        )

    def _schedule(self, settings: Settings, choice: Choice, done: set[Job]) -> Schedule:
        """Round by round."""
        wish = self._wish
        jobs = [Job(each.target, number) for number in range(1, (wish.repeat or 1) + 1) for each in choice.asked]
        return Schedule(
            [job for job in jobs if job not in done],
            wish.delays(settings),
            concurrency=wish.concurrency or 1,
            max_wait=MAX_WAIT if wish.max_wait is None else wish.max_wait,
        )

    def _tell(self, choice: Choice) -> None:
        """What is left out, before anything is asked."""
        for line in choice.unread:
            self._stderr.line(one_line(line), "yellow")
        out = sum(count for _, count in choice.left_out)
        if out:
            self._stderr.line(f"left out, as the prompt is not for them: {out} of {choice.found} models", "dim")
        for reason, count in choice.left_out[:10]:
            self._stderr.line(one_line(f"  {count}  {reason}"), "dim")

    def _show(self, settings: Settings, choice: Choice) -> None:
        from routerkit.cli.probe.dry_run import show

        schedule, wish = self._schedule(settings, choice, self._kept.done), self._wish
        show(choice, schedule, wish.delays(settings), wish.concurrency or 1, as_json=self._shared.as_json)

    def _finish(self, record: Record) -> None:
        """Write the files, then show the summary."""
        from routerkit.cli.probe.comparison import Comparison
        from routerkit.cli.probe.report import page, results_document
        from routerkit.cli.probe.summary import Summary

        assert record.head is not None  # noqa: S101 - it was begun
        samples = record.samples
        head = attrs.evolve(record.head, repeat=max([record.head.repeat, *(sample.round for sample in samples)]))
        summary = Summary.of(samples, untested=len(self._stops), unsettled=record.unsettled)
        comparison = None if self._before is None else Comparison.of(self._before, samples)
        document = {**results_document(head, samples, summary, comparison), "untested": self._untested()}
        self._folder.write(DOCUMENT, orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
        path = self._folder.write(REPORT, page(head, samples, summary, comparison))
        if self._shared.as_json:
            Output(sys.stdout).json(document)
        else:
            self._summarise(summary, comparison)
        self._stderr.line(f"The report: {path}", "dim")

    def _untested(self) -> list[dict[str, Any]]:
        return [
            {"gateway": job.target.gateway, "model": job.target.model, "round": job.round, "reason": stop.reason}
            for job, stop in self._stops.items()
        ]

    def _summarise(self, summary: Any, comparison: Any) -> None:
        from routerkit.cli.probe.summary import summary_tables

        stdout = Output(sys.stdout)
        for part in summary_tables(summary):
            if isinstance(part, str):
                stdout.line(part)
            else:
                stdout.table(part)
        if self._stops:
            stdout.line("")
            for reason, count in _reasons(self._stops)[:10]:
                stdout.line(one_line(f"not tested: {count}: {reason}"))
        if comparison is not None:
            stdout.line(f"\nAgainst {self._wish.compare}:")
            for line in comparison.lines():
                stdout.line(f"  {line}".rstrip())

    def _code(self, samples: list[Sample], interrupts: Interrupts) -> int:
        if interrupts.code:
            self._stderr.line("routerkit: interrupted; --resume goes on where it stopped")
            return interrupts.code
        code = first_code(self._stops)
        if code:
            return code
        return exit_code(Exception()) if samples and not any(sample.ok for sample in samples) else 0


def _earlier(path: str) -> list[Sample]:
    try:
        return journal.earlier(Path(path))
    except JournalError as error:
        raise click.UsageError(f"--compare {error}") from None


def _reasons(stops: Mapping[Job, Stop]) -> list[tuple[str, int]]:
    """Why questions were not put, and how many; the most frequent reason first."""
    counts: dict[str, int] = {}
    for stop in stops.values():
        counts[stop.reason] = counts.get(stop.reason, 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])
