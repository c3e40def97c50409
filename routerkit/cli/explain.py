"""``routerkit explain``: the plan of a call, without the call."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from routerkit.cli import options
from routerkit.cli.options import Shared
from routerkit.cli.render import add_row, new_table, seconds
from routerkit.cli.terminal import Output

if TYPE_CHECKING:
    from rich.table import Table

    from routerkit.types.route import Plan

SHOWN = 20
"""Rows of a plan's tables, unless all are asked for."""


@click.command(short_help="Show which models would be asked, and why.")
@click.argument("prompt", required=False)
@options.models
@click.option("--all", "everything", is_flag=True, help=f"Show all rows, not only the first {SHOWN} of each table.")
@options.as_json
@options.shared
@click.pass_obj
def explain(
    shared: Shared, prompt: str | None, model: str | None, fallbacks: tuple[str, ...], everything: bool
) -> None:
    """Show which models a call would ask, in which order and why, and which are left out and why.

    The prompt is not sent; only the gateway's list of models is asked for.

    \b
    Examples:
      routerkit explain Hello -m openai/gpt-4o -f google/gemini-2.5-flash
      routerkit explain - --all < prompt.txt
    """
    text = options.prompt_text(prompt)
    with shared.client() as client:
        plan = client.explain(text, model=model, fallback_models=fallbacks or None)
        attempts = client.settings.retry.max_attempts
    stdout, stderr = Output(sys.stdout), Output(sys.stderr)
    if shared.as_json:
        stdout.json({**plan.to_dict(), "max_attempts": attempts})
        return
    limit = None if everything else SHOWN
    if plan.targets:
        stdout.table(plan_table(plan, limit))
        _count_rest(stdout, len(plan.targets), limit)
        stderr.line(f"A call makes at most {attempts} attempts.", "dim")
    else:
        stderr.line("No model would be asked.", "dim")
    if plan.skipped:
        stdout.line("")
        stdout.table(skip_table(plan, limit))
        _count_rest(stdout, len(plan.skipped), limit)


def _count_rest(stdout: Output, count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        stdout.line(f"... and {count - limit} more; --all shows them", "dim")


def plan_table(plan: Plan, limit: int | None) -> Table:
    table = new_table()
    table.add_column("#", justify="right")
    table.add_column("model", style="bold", overflow="fold")
    table.add_column("gateway", overflow="fold")
    table.add_column("why here", overflow="fold")
    for place, each in enumerate(plan.targets[:limit], 1):
        add_row(table, str(place), each.model, each.gateway, each.reason)
    return table


def skip_table(plan: Plan, limit: int | None) -> Table:
    table = new_table()
    table.add_column("left out", style="bold", overflow="fold")
    table.add_column("why", overflow="fold")
    for each in plan.skipped[:limit]:
        again = "" if each.retry_after is None else f", for another {seconds(each.retry_after)}"
        add_row(table, each.model, each.reason + again)
    return table
