"""``routerkit explain``: the plan of a call, without the call."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from routerkit.cli import options
from routerkit.cli.options import Shared
from routerkit.cli.render import add_row, money, new_table, seconds, width
from routerkit.cli.stdin import prompt_text
from routerkit.cli.terminal import Output

if TYPE_CHECKING:
    from rich.table import Table

    from routerkit.types.route import Plan

SHOWN = 20
"""Rows of a plan's tables, unless all are asked for."""
NARROW = 100
"""On a terminal of fewer columns, the gateway is left out where there is only one."""


@click.command(short_help="Show which models would be asked, and why.")
@click.argument("prompt", required=False, callback=options.text)
@options.models
@click.option("--system", metavar="TEXT", callback=options.text, help="A system message to go before the prompt.")
@options.strategy
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Longest answer, in tokens.")
@click.option("--all", "everything", is_flag=True, help=f"Show all rows, not only the first {SHOWN} of each table.")
@options.as_json
@options.shared
@click.pass_obj
def explain(
    shared: Shared,
    /,
    prompt: str | None,
    model: str | None,
    fallbacks: tuple[str, ...],
    system: str | None,
    strategy: str | None,
    max_tokens: int | None,
    everything: bool,
) -> None:
    """Show which models a call would ask, in which order and why, and which are left out and why.

    The prompt is not sent; only the gateways' lists of models are asked for. What a model is expected to cost is that of the
    prompt, whose tokens are estimated, and of an answer as long as --max-tokens allows, or else of 500 tokens.

    \b
    Examples:
      routerkit explain Hello -m openai/gpt-4o -f google/gemini-2.5-flash
      routerkit explain Hello --strategy cost_optimized --max-tokens 2000
      routerkit explain - --all < prompt.txt
    """
    messages = [{"role": "user", "content": prompt_text(prompt)}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    with shared.client(strategy=strategy) as client:
        plan = client.explain(messages, model=model, fallback_models=fallbacks or None, max_tokens=max_tokens)
        attempts, gateways = client.settings.retry.max_attempts, len(client.settings.gateways)
    stdout, stderr = Output(sys.stdout), Output(sys.stderr)
    if shared.as_json:
        stdout.json({**plan.to_dict(), "max_attempts": attempts})
        return
    limit = None if everything else SHOWN
    told = gateways > 1 or width(stdout) >= NARROW
    if plan.targets:
        stdout.table(plan_table(plan, limit, gateways=told))
        _count_rest(stdout, len(plan.targets), limit)
        stderr.line(f"A call makes at most {attempts} attempts.", "dim")
    else:
        stderr.line("No model would be asked.", "dim")
    if plan.skipped:
        stdout.line("")
        stdout.table(skip_table(plan, limit, gateways=gateways > 1))
        _count_rest(stdout, len(plan.skipped), limit)


def _count_rest(stdout: Output, count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        stdout.line(f"... and {count - limit} more; --all shows them", "dim")


def plan_table(plan: Plan, limit: int | None, *, gateways: bool = True) -> Table:
    """``gateways``: whether they have a column."""
    table = new_table()
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("model", style="bold", overflow="fold")
    _add_gateway(table, gateways)
    table.add_column("expected", justify="right", no_wrap=True)
    table.add_column("why here", overflow="fold")
    for place, each in enumerate(plan.targets[:limit], 1):
        cost = "unknown" if each.expected_cost is None else money(each.expected_cost)
        add_row(table, str(place), each.model, *([each.gateway] * gateways), cost, each.reason)
    return table


def skip_table(plan: Plan, limit: int | None, *, gateways: bool = False) -> Table:
    table = new_table()
    table.add_column("left out", style="bold", overflow="fold")
    _add_gateway(table, gateways)
    table.add_column("why", overflow="fold")
    for each in plan.skipped[:limit]:
        again = "" if each.retry_after is None else f", for another {seconds(each.retry_after)}"
        add_row(table, each.model, *([each.gateway] * gateways), each.reason + again)
    return table


def _add_gateway(table: Table, wanted: bool) -> None:
    if wanted:
        table.add_column("gateway", overflow="fold")
