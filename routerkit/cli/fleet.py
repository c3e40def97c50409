"""``routerkit stats``, ``health`` and ``usage``: what all processes that share a store saw."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from routerkit.cli import options
from routerkit.cli.options import Shared
from routerkit.cli.render import add_row, money, new_table, roughly, seconds, width
from routerkit.cli.terminal import Output
from routerkit.errors import APIError, ConfigurationError, DeadlineExceededError, StoreUnavailableError
from routerkit.types.fleet import KEPT_DAYS

if TYPE_CHECKING:
    from rich.table import Table

    from routerkit.client import Client
    from routerkit.types.fleet import FleetReport, LimitState, OpenBreaker
    from routerkit.types.usage import Stats, Used

NARROW, SMALL = 100, 60
"""On a terminal of fewer columns, what is told elsewhere or can be done without is left out; below the second, more of it."""
BAR = 10
"""Characters of a bar."""
LISTS_SECONDS, LISTS_AGAIN = 5.0, 60.0
"""For which the gateways' lists of models are waited for, where names are missing; and from then on to the next time."""
NO_STORE = (
    "no store is configured. What calls used and how they went is counted in the process that makes them, and is gone when it "
    "ends; this command is another process. A store is a Redis or Valkey in which all processes count together: set "
    "ROUTERKIT_STORE=redis://localhost:6379/0 for them and for this command"
)

_days = click.option(
    "--days",
    metavar="N",
    type=click.IntRange(1, KEPT_DAYS),
    default=1,
    help="So many UTC days, today the last of them. [default: 1]",
)


@click.command(short_help="Show what all processes' calls used, and what it cost.")
@_days
@click.option("--by", type=click.Choice(["tenant", "gateway", "model"]), help="Add up the rows that have it in common.")
@options.as_json
@options.shared
@click.pass_obj
def usage(shared: Shared, /, days: int, by: str | None) -> None:
    """Show tokens and costs of the calls of all processes that share the store, the dearest first.

    A process tells the store every ten seconds or so, with its next call, and when its client is closed.

    \b
    Examples:
      routerkit usage --days 30 --by tenant
      routerkit usage --json | jq -r .total.cost
    """
    stdout, stderr = Output(sys.stdout), Output(sys.stderr)
    with shared.client() as client:
        report = _report(client, days)
        names, rows = used_rows(report, by)
        if shared.as_json:
            groups = [{**dict(zip(names, words, strict=True)), **_plain(used)} for words, used in rows]
            stdout.json({**_period(report), "by": by, "rows": groups, "total": report.usage.total.to_dict()})
            return
        if rows:
            stdout.table(used_table(names, rows, report.usage.total, width(stdout)))
        else:
            stderr.line("No answers.", "dim")
        billed = report.usage.total.possibly_billed
        if billed:
            stderr.line(f"Failed attempts that may have been billed as well, nobody told how much: {billed:,}.", "dim")
        _below(stderr, client, report)


@click.command(short_help="Show how the calls of all processes went.")
@_days
@options.as_json
@options.shared
@click.pass_obj
def stats(shared: Shared, /, days: int) -> None:
    """Show how the calls of all processes that share the store went: answered or failed, and why; fallbacks, waits, times.

    \b
    Examples:
      routerkit stats --days 7 --tenant acme
      routerkit stats --json | jq .stats.p95
    """
    stdout, stderr = Output(sys.stdout), Output(sys.stderr)
    with shared.client() as client:
        report = _report(client, days)
        if shared.as_json:
            whole = report.to_dict()
            stdout.json({**_period(report), "stats": whole["stats"], "stats_by_tenant": whole["stats_by_tenant"]})
            return
        stdout.table(stats_table(report.stats))
        by_tenant = report.stats_by_tenant
        if client.settings.tenant is None and any(tenant is not None for tenant in by_tenant):
            stdout.line("")
            stdout.table(tenant_table(by_tenant, width(stdout)))
        _below(stderr, client, report)


@click.command(short_help="Show what is closed, used up or running out, for all processes.")
@click.option(
    "--watch",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 3600),
    help="Ask again and again, so often, until Ctrl-C.",
)
@options.as_json
@options.shared
@click.pass_obj
def health(shared: Shared, /, watch: float | None) -> None:
    """Show open breakers, and what is used of limits and budgets, of all processes that share the store.

    Of limits: what is used and, behind a plus, held by calls under way. Those that only a program's code sets (limits=)
    are not known here: client.fleet() tells of them there.

    \b
    Examples:
      routerkit health --watch 5
      routerkit health --json | jq '.breakers[].scope'
    """
    if watch is not None and shared.as_json:
        raise click.UsageError("--json is one document: not with --watch")
    stdout, stderr = Output(sys.stdout), Output(sys.stderr)
    with shared.client() as client:
        names = _Names(client)
        if watch is None:
            _show_health(client, names.report(), shared, stdout, stderr)
            return
        while True:
            _watched(client, names, shared, stdout, stderr)
            time.sleep(watch)


def _watched(client: Client, names: _Names, shared: Shared, stdout: Output, stderr: Output) -> None:
    try:
        report = names.report()
    except StoreUnavailableError as error:  # it may be back the next time
        stderr.line(f"{time.strftime('%H:%M:%S')}  routerkit: {error}", "red")
        return
    stdout.clear()
    stdout.line(time.strftime("%H:%M:%S"), "dim")
    _show_health(client, report, shared, stdout, stderr)


def _report(client: Client, days: int = 1) -> FleetReport:
    if client.settings.store is None:
        raise ConfigurationError(NO_STORE)
    return client.fleet(days)


class _Names:
    """Those of breakers of models that only the gateways' lists know: the store tells no names, so that it holds none."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._again = 0.0
        """When the lists may be asked for; gateways that do not answer shall not hold up every look."""

    def report(self) -> FleetReport:
        report = _report(self._client)
        if all(breaker.scope for breaker in report.breakers) or time.monotonic() < self._again:
            return report
        try:
            self._client.with_options(timeout=LISTS_SECONDS).models()
        except (APIError, DeadlineExceededError):
            return report
        finally:
            self._again = time.monotonic() + LISTS_AGAIN
        return self._client.fleet()


def _period(report: FleetReport) -> dict[str, Any]:
    told = report.to_dict()
    return {name: told[name] for name in ("days", "since", "left_out", "unreadable")}


def _below(stderr: Output, client: Client, report: FleetReport) -> None:
    """The line below: since when, and where it was counted."""
    since = datetime.datetime.fromtimestamp(report.since, datetime.timezone.utc)
    stderr.line(f"Since {since:%Y-%m-%d %H:%M} UTC · {_place(client)}", "dim")
    _oddities(stderr, report)


def _oddities(stderr: Output, report: FleetReport) -> None:
    if report.left_out:
        told = f"There was no room for {report.left_out:,} additions, as there were too many names: sums are too low."
        stderr.line(told, "yellow")
    if report.unreadable:
        stderr.line(f"Entries there that are not ours, and are left out: {report.unreadable:,}.", "yellow")


def _place(client: Client) -> str:
    store = client.settings.store
    return "" if store is None else f"{store.address}, namespace {store.namespace}"


# What was used


def used_rows(report: FleetReport, by: str | None) -> tuple[list[str], list[tuple[tuple[str, ...], Used]]]:
    """The names of what rows are told apart by, and the rows: the dearest first, then those with the most answers."""
    usage = report.usage
    rows: list[tuple[tuple[str, ...], Used]]
    if by is None:
        names = ["tenant", "gateway", "model"]
        rows = [((row.tenant or "", row.gateway, row.model), row) for row in usage.rows]
    else:
        names = [by]
        groups: dict[str, Callable[[], Mapping[Any, Used]]]
        groups = {"tenant": usage.by_tenant, "gateway": usage.by_gateway, "model": usage.by_model}
        rows = [((word or "",), used) for word, used in groups[by]().items()]
    return names, sorted(rows, key=lambda row: (-row[1].cost, -row[1].answers, row[0]))


def used_table(names: Sequence[str], rows: Sequence[tuple[tuple[str, ...], Used]], total: Used, columns: int) -> Table:
    """``columns``: those of the terminal."""
    wide = columns >= NARROW
    counted = {"answers": "answers", "prompt": "prompt_tokens", "cached": "cached_tokens"}
    counted |= {"answer": "completion_tokens", "reasoning": "reasoning_tokens"}
    if not wide:
        counted = {name: counted[name] for name in ("answers", "prompt", "answer")[: 3 if columns >= SMALL else 1]}
    shown = [place for place, name in enumerate(names) if _tells(place, name, rows, wide)]
    table = new_table()
    for place in shown:
        table.add_column(names[place], style="bold" if place == shown[-1] else "", overflow="fold")
    for name in counted:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cost", overflow="fold")
    for words, used in [*rows, (("",) * (len(names) - 1) + ("total",), total)]:
        add_row(
            table,
            *(words[place] or "-" * (words[-1] != "total") for place in shown),
            *(f"{getattr(used, field):,}" for field in counted.values()),
            cost(used),
        )
    return table


def _tells(place: int, name: str, rows: Sequence[tuple[tuple[str, ...], Used]], wide: bool) -> bool:
    """Whether a column of names is worth its room: not that of tenants where there are none; not that of the only gateway."""
    words = {words[place] for words, _ in rows}
    if name == "tenant" and len(rows[0][0]) > 1:
        return words != {""}
    return name != "gateway" or wide or len(words) > 1 or len(rows[0][0]) == 1


def cost(used: Used) -> str:
    """What is known of a cost, and of how many answers it is not."""
    unknown = f" + {used.cost_unknown:,} unknown" if used.cost_unknown else ""
    return money(used.cost) + unknown


def _plain(used: Used) -> dict[str, Any]:
    return {name: value for name, value in used.to_dict().items() if name not in ("tenant", "gateway", "model")}


# How calls went


def stats_table(stats: Stats) -> Table:
    table = new_table()
    table.show_header = False
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _figures(stats):
        add_row(table, label, text)
    return table


def _figures(stats: Stats) -> Iterator[tuple[str, str]]:
    yield "calls", f"{stats.calls:,}" + (f", {stats.streams:,} of them streams" if stats.streams else "")
    yield "answered", f"{stats.answered:,}{_share(stats.answered, stats.calls)}"
    yield "failed", _counts(stats.failed) or "0"
    yield "attempts", _counts(stats.attempts) or "0"
    yield "several attempts", f"{stats.fell_back:,}{_share(stats.fell_back, stats.calls)}"
    yield "waits", f"{stats.waits:,}" + (f", {seconds(stats.waited)} in all" if stats.waits else "")
    if stats.degraded:
        yield "without the store", f"{stats.degraded:,} calls, while it was lost"
    if stats.p50 is not None and stats.p95 is not None:
        yield (
            "duration",
            f"half within {seconds(stats.p50)}, 95 % within {seconds(stats.p95)}, longest {seconds(stats.duration_max)}",
        )


def tenant_table(by_tenant: Mapping[str | None, Stats], columns: int) -> Table:
    """``columns``: those of the terminal."""
    more = columns >= SMALL
    shown = ["calls", "answered", "failed", "several tries", "p50", "p95"] if more else ["calls", "failed", "p95"]
    table = new_table()
    table.add_column("tenant", style="bold", overflow="fold")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for tenant, stats in sorted(by_tenant.items(), key=lambda each: (-each[1].calls, each[0] or "")):
        counts = {"calls": stats.calls, "answered": stats.answered, "failed": stats.calls - stats.answered}
        told = {name: f"{count:,}" for name, count in {**counts, "several tries": stats.fell_back}.items()}
        told |= {name: "" if each is None else seconds(each) for name, each in (("p50", stats.p50), ("p95", stats.p95))}
        add_row(table, tenant or "-", *(told[name] for name in shown))
    return table


def _counts(counts: Mapping[str, int]) -> str:
    """Words and how often, the most frequent first: ``overloaded 7, timeout 2``."""
    most = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{word} {count:,}" for word, count in most)


def _share(part: int, whole: int) -> str:
    return f" ({100 * part / whole:.1f} %)" if whole else ""


# How it is


def _show_health(client: Client, report: FleetReport, shared: Shared, stdout: Output, stderr: Output) -> None:
    if shared.as_json:
        whole = report.to_dict()
        stdout.json({name: whole[name] for name in ("breakers", "limits", "store", "left_out", "unreadable")})
        return
    if report.breakers:
        stdout.table(breaker_table(report.breakers))
    else:
        stderr.line("No breaker is open.", "dim")
    if report.limits:
        if report.breakers:
            stdout.line("")
        now = client.router.runtime.wall()
        stdout.table(limit_table(report.limits, now, width(stdout), bars=stdout.is_terminal))
    else:
        stderr.line("The settings of this command name no limits and no budgets.", "dim")
    lost = f"; it was lost {report.store.losses} times since this began" if report.store.losses else ""
    stderr.line(f"The store answers: {_place(client)}{lost}", "dim")
    _oddities(stderr, report)


def breaker_table(breakers: Sequence[OpenBreaker]) -> Table:
    table = new_table()
    table.add_column("open breaker", style="bold", overflow="fold")
    table.add_column("since", justify="right", no_wrap=True)
    table.add_column("for another", justify="right", no_wrap=True)
    for each in breakers:
        scope = each.scope or "a model that is not known here"
        add_row(table, scope, f"{roughly(each.age)} ago", roughly(each.left) if each.left else "the next call probes")
    return table


def limit_table(limits: Sequence[LimitState], now: float, columns: int, *, bars: bool) -> Table:
    """``now``: Unix seconds. ``columns``: those of the terminal. ``bars``: whether to draw what is used."""
    shown = [*(["bar"] if bars else []), "used", "of", "share", "back in"] if columns >= SMALL else ["share", "back in"]
    table = new_table()
    table.add_column("limit", style="bold", overflow="fold")
    for name in shown:
        table.add_column("" if name in ("bar", "share") else name, justify="right", no_wrap=True)
    for limit in limits:
        cap, used, held = (_amount(each) for each in (limit.cap, limit.used, limit.held))
        share = _filled(limit)
        told = {
            "bar": bar(*share),
            "used": f"{used} + {held}" if limit.held else used,
            "of": cap,
            "share": f"{100 * sum(share):.0f} %",
            "back in": "" if limit.resets_at is None else roughly(max(0.0, limit.resets_at - now)),
        }
        add_row(table, limit.label, *(told[name] for name in shown))
    return table


def _filled(limit: LimitState) -> tuple[float, float]:
    """The shares that are used and held; of nothing all is used."""
    if not limit.cap:
        return 1.0, 0.0
    return float(limit.used / limit.cap), float(limit.held / limit.cap)


def bar(used: float, held: float) -> str:
    """Shares as a bar of ``BAR`` characters: what is used, what is held, what is left. What is not nothing shows."""
    full = min(BAR, _cells(used))
    lent = min(BAR - full, _cells(held))
    return "█" * full + "▒" * lent + "░" * (BAR - full - lent)


def _cells(share: float) -> int:
    return 0 if share <= 0 else max(1, int(share * BAR))


def _amount(value: int | Decimal) -> str:
    return money(value) if isinstance(value, Decimal) else f"{value:,}"
