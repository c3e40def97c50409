"""How a sweep is watched, on stderr: a bar with a line above it for each model on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from routerkit.cli.probe.sample import Sample
from routerkit.cli.probe.schedule import Put
from routerkit.cli.probe.words import counted, in_words
from routerkit.cli.render import money, seconds
from routerkit.cli.terminal import Output, one_line
from routerkit.types.usage import EXACT

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import Task
    from typing_extensions import Self

    from routerkit.cli.probe.schedule import Schedule
    from routerkit.cli.probe.sweep import Stop

log = logging.getLogger("routerkit.probe")


def time_left(left: float) -> str:
    """As people read it: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    minutes = round(left / 60)
    if left < 59.5:
        return f"{max(0, round(left))} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def line_of(sample: Sample, *, several: bool, rounds: int) -> str:
    """What came of one question, on one line."""
    where = f" on {sample.gateway}" if several else ""
    turn = f" (round {sample.round})" if rounds > 1 else ""
    waited = f" · waited {seconds(sample.waited)}" if sample.waited else ""
    if not sample.ok:
        status = "" if sample.status is None else f" ({sample.status})"
        return one_line(f"failed  {sample.model}{where}{turn}: {in_words(sample.cause)}{status}{waited}")
    parts = [f"ok      {sample.model}{where}{turn}"]
    if sample.first_token is not None:
        parts.append(f"first token {seconds(sample.first_token)}")
    parts.append(seconds(sample.duration))
    if sample.tokens_per_second is not None:
        parts.append(f"{sample.tokens_per_second:,.0f} tokens/s")
    if sample.completion_tokens is not None:
        parts.append(f"{sample.completion_tokens:,} tokens")
    parts.append("cost unknown" if sample.cost is None else money(sample.cost))
    return one_line(" · ".join(parts) + waited + (" · MOCK" if sample.mock else ""))


class Progress:
    """Shows it as it goes. Used as a context manager: on every way out the bar is gone."""

    def __init__(self, stderr: Output, now: Callable[[], float], *, several: bool, rounds: int, bar: bool) -> None:
        """``now``: the monotonic clock; ``several``: gateways; ``bar``: whether one may be shown."""
        self._stderr = stderr
        self._now = now
        self._several = several
        self._rounds = rounds
        self._bar = self._made() if bar and stderr.is_terminal and os.environ.get("TERM") != "dumb" else None
        self._schedule: Schedule | None = None
        self._ends = 0.0
        """When all will be done, as far as anybody can tell, on the monotonic clock."""
        self._done = self._ok = self._tokens = self._total = 0
        self._cost = Decimal(0)
        self._current: list[Put] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def follow(self, schedule: Schedule, samples: list[Sample]) -> None:
        """From here on; with what was found before."""
        self._schedule = schedule
        for sample in samples:
            self._count(sample)
        self._total = self._done + schedule.total
        if self._bar is not None:
            self._bar.add_task("", total=self._total, completed=self._done, **self._shown())
            self._bar.start()

    def started(self, put: Put) -> None:
        self._current.append(put)
        self._update()

    def finished(self, sample: Sample) -> None:
        self._count(sample)
        self._forget(sample.gateway, sample.model, sample.round)
        text = line_of(sample, several=self._several, rounds=self._rounds)
        log.info("%s", text if sample.ok else f"{text}: {sample.error}")
        self._line(text, "" if sample.ok else "red")

    def put_off(self, put: Put, pause: float, why: str) -> None:
        target = put.job.target
        self._forget(target.gateway, target.model, put.job.round)
        where = f" on {target.gateway}" if self._several else ""
        self._line(one_line(f"waits   {target.model}{where}: {in_words(why)}, again in {seconds(pause)}"), "dim")

    def left_out(self, put: Put, stop: Stop) -> None:
        target = put.job.target
        self._forget(target.gateway, target.model, put.job.round)
        self._line(one_line(f"left    {target.model}: {stop.reason}"), "yellow")

    def ended(self, gateway: str, stop: Stop, left: int) -> None:
        self._line(one_line(f"stop    {gateway} ({counted(left, 'question')} left): {stop.reason}"), "red")

    def _count(self, sample: Sample) -> None:
        self._done += 1
        self._ok += sample.ok
        self._tokens += (sample.prompt_tokens or 0) + (sample.completion_tokens or 0)
        self._cost = EXACT.add(self._cost, sample.cost or Decimal(0))

    def _forget(self, gateway: str, model: str, number: int) -> None:
        asked = (gateway, model, number)
        self._current = [
            put for put in self._current if (put.job.target.gateway, put.job.target.model, put.job.round) != asked
        ]

    def _line(self, text: str, style: str) -> None:
        if self._bar is None:
            self._stderr.line(text, style)
            return
        from rich.text import Text

        self._bar.console.print(Text(text, style=style), soft_wrap=True)
        self._update()

    def _update(self) -> None:
        if self._bar is not None and self._bar.task_ids:
            self._bar.update(self._bar.task_ids[0], completed=self._done, **self._shown())

    def _shown(self) -> dict[str, Any]:
        if self._schedule is not None:
            self._ends = self._now() + self._schedule.left(self._now())
        models = ", ".join(put.job.target.model for put in self._current[:2]) or "waiting"
        more = f" and {len(self._current) - 2} more" if len(self._current) > 2 else ""
        failed = self._done - self._ok
        totals = f"{self._ok} ok, {failed} failed · {money(self._cost)} · {self._tokens:,} tokens"
        return {"totals": totals, "current": one_line(models + more)}

    def _made(self) -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn
        from rich.progress import Progress as Bar
        from rich.table import Column
        from rich.text import Text

        class Left(ProgressColumn):
            """Runs on between two events: the bar draws itself in a thread of its own."""

            def render(column, task: Task) -> Text:  # noqa: ARG002, N805
                return Text(f"{time_left(self._ends - self._now())} left")

        class Words(ProgressColumn):
            """What is cut off where the terminal is narrow."""

            def render(column, task: Task) -> Text:  # noqa: N805
                text = f"· {task.fields['totals']} · {task.fields['current']}"
                return Text(text, no_wrap=True, overflow="ellipsis")

        console = Console(
            file=sys.stderr,
            force_terminal=True,
            color_system="auto" if self._stderr._colours else None,
            markup=False,
            emoji=False,
            highlight=False,
        )
        return Bar(
            BarColumn(bar_width=20 if console.width >= 100 else 8, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            Left(table_column=Column(no_wrap=True)),
            Words(),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
