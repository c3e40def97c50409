"""``--dry-run``: what would be asked, in which order, how long it takes and what it may cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from routerkit.cli.probe.choice import Choice, total
from routerkit.cli.probe.progress import time_left
from routerkit.cli.probe.sample import plain
from routerkit.cli.probe.schedule import TYPICAL, Job, Schedule
from routerkit.cli.probe.sweep import Asked
from routerkit.cli.render import add_row, money, new_table
from routerkit.cli.terminal import Output

if TYPE_CHECKING:
    from rich.table import Table


def show(choice: Choice, schedule: Schedule, delays: Mapping[str, float], concurrency: int, *, as_json: bool) -> None:
    """Write it to stdout. Nothing is asked."""
    asked = {each.target: each for each in choice.asked}
    plan = [(starts, job, asked[job.target]) for starts, job in _starts(schedule, delays, concurrency)]
    left = schedule.left(0.0)
    expected, unlikely = total(each.expected for _, _, each in plan)
    worst, unknown = total(each.worst for _, _, each in plan)
    stdout = Output(sys.stdout)
    if as_json:
        stdout.json(_document(choice, plan, left, (expected, unlikely), (worst, unknown)))
        return
    stdout.table(_table(plan))
    stdout.line("")
    stdout.line(f"{len(plan)} questions, about {time_left(left)}")
    stdout.line(f"likely cost {_sum(expected, unlikely)}, at most {_sum(worst, unknown)}")
    Output(sys.stderr).line("Nothing was asked.", "dim")


def _starts(schedule: Schedule, delays: Mapping[str, float], concurrency: int) -> Iterator[tuple[float, Job]]:
    """When each question would be put, in seconds from now; in that order."""
    counts: dict[str, int] = {}
    found = []
    for job in schedule.waiting():
        place = counts[job.target.gateway] = counts.get(job.target.gateway, -1) + 1
        found.append((place * max(delays[job.target.gateway], TYPICAL / concurrency), job))
    yield from sorted(found, key=lambda each: each[0])


def _table(plan: list[tuple[float, Job, Asked]]) -> Table:
    several = len({job.target.gateway for _, job, _ in plan}) > 1
    rounds = len({job.round for _, job, _ in plan}) > 1
    table = new_table()
    for name in ("#", "starts in"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("model", style="bold", overflow="fold")
    extra = [name for name, shown in (("gateway", several), ("round", rounds)) if shown]
    for name in extra:
        table.add_column(name, overflow="fold")
    for name in ("likely cost", "at most"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, (starts, job, each) in enumerate(plan, 1):
        words = {"gateway": job.target.gateway, "round": str(job.round)}
        costs = ("unknown" if cost is None else money(cost) for cost in (each.expected, each.worst))
        add_row(table, str(place), time_left(starts), job.target.model, *(words[name] for name in extra), *costs)
    return table


def _sum(known: Decimal, unknown: int) -> str:
    return money(known) + (f" + {unknown} of unknown cost" if unknown else "")


def _document(
    choice: Choice,
    plan: list[tuple[float, Job, Asked]],
    left: float,
    expected: tuple[Decimal, int],
    worst: tuple[Decimal, int],
) -> dict[str, Any]:
    return {
        "dry_run": True,
        "questions": [
            {
                "position": place,
                "starts_in": starts,
                "gateway": job.target.gateway,
                "model": job.target.model,
                "round": job.round,
                "expected_cost": plain(each.expected),
                "worst_cost": plain(each.worst),
            }
            for place, (starts, job, each) in enumerate(plan, 1)
        ],
        "seconds": left,
        "expected_cost": {"usd": format(expected[0], "f"), "unknown": expected[1]},
        "worst_cost": {"usd": format(worst[0], "f"), "unknown": worst[1]},
        "left_out": dict(choice.left_out),
    }
