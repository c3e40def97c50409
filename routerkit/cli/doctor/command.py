"""The command itself: runs the sections in their order and shows what they found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from routerkit.cli import options
from routerkit.cli.doctor.check import OTHER, Check, Outcome, counts, ending, failed
from routerkit.cli.endings import exit_code
from routerkit.cli.options import Shared
from routerkit.cli.render import new_table, width
from routerkit.cli.terminal import Output, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from routerkit.cli.doctor.subject import Subject
    from routerkit.types.policy import Timeouts

MARKS = {
    Outcome.OK: ("✓ ok", "green"),
    Outcome.WARNING: ("! warning", "yellow"),
    Outcome.FAILED: ("✗ FAILED", "bold red"),
    Outcome.SKIPPED: ("- skipped", "dim"),
}
"""A sign, a word and a style: who sees no colours misses nothing."""
NARROW = 100
"""On a terminal of fewer columns, names have none of their own."""
NAME_WIDTH = 28
"""Columns, so that the tables of all sections stand below one another."""


@click.command(short_help="Check settings, keys, network, catalogue, clock and store.")
@click.option(
    "--ask",
    "question",
    metavar="MODEL",
    help="Besides, put one tiny question to this model: the only check that costs money.",
)
@click.option(
    "--timeout",
    metavar="DURATION",
    default="10s",
    show_default=True,
    callback=options.patience,
    help="For each check that waits: 10, 10s, 1m30s, 500ms.",
)
@options.as_json
@options.shared
@click.pass_context
def doctor(context: click.Context, question: str | None, timeout: Timeouts) -> None:
    """Check whether everything is there that calls need, and say what to do about what is not.

    Looked at are the installation, the variables and the .env file, the keys and what the gateways say of them, proxies,
    names, connections and TLS, the catalogues and the models named, the clock, and the store. No key is ever shown, and
    nothing costs money but --ask.

    The exit code is 0 when nothing failed, else that of the gravest failure: 3 settings, 5 key or account, 7 network, 6 a
    rate limit, 1 anything else.

    \b
    Examples:
      routerkit doctor --env-file production.env
      routerkit doctor --gateway infron --ask deepseek-v3
      routerkit doctor --json | jq '.checks[] | select(.verdict == "failed")'
    """
    from routerkit.cli.doctor.subject import Subject

    shared: Shared = context.obj
    if shared.verbose:
        options.listen()
    subject = Subject(shared, timeout.total, question)
    stdout = Output(sys.stdout)
    found: list[tuple[str, Check]] = []
    try:
        for title, checks in sections(subject):
            found += [(title, check) for check in checks]
            if checks and not shared.as_json:
                stdout.line(title, "bold")
                stdout.table(table_of(checks, width(stdout)))
    finally:
        subject.close()
    code = ending(check for _, check in found)
    if shared.as_json:
        stdout.json(document(found, code))
    else:
        Output(sys.stderr).line(summary([check for _, check in found]), "dim")
    context.exit(code)


def sections(subject: Subject) -> Iterator[tuple[str, list[Check]]]:
    """Each section's checks, when they are done. What one of them fails with stops no other."""
    from routerkit.cli.doctor import access, catalogue, clock, configuration, installation, network, question, store
    from routerkit.cli.doctor.conceal import concealed

    order: tuple[tuple[str, Sequence[Callable[[Subject], Iterator[Check]]]], ...] = (
        ("installation", installation.CHECKS),
        ("configuration", configuration.CHECKS),
        ("gateways", [access.places]),
        ("network", [network.checks]),
        ("keys", [access.accepted]),
        ("catalogue", catalogue.CHECKS),
        ("clock", [clock.checks]),
        ("store", [store.checks]),
        ("question", [question.checks]),
    )
    for title, each in order:
        found = [check for checks in each for check in _guarded(title, checks(subject))]
        yield title, [concealed(check, subject) for check in found]


def _guarded(title: str, checks: Iterator[Check]) -> Iterator[Check]:
    """The checks, and what one of them could not cope with as a failure of its own."""
    try:
        yield from checks
    except Exception as error:
        told = f"the check itself failed, unexpected {type(error).__name__}: {error}"
        yield failed(title, told, "please report it; the other checks go on", exit_code(error) or OTHER)


def table_of(checks: list[Check], columns: int) -> Table:
    """``columns``: those of the terminal; where they are few, names stand before what was found, not beside it."""
    from rich.text import Text

    wide = columns >= NARROW
    table = new_table()
    table.show_header = False
    table.add_column(width=9, no_wrap=True)
    if wide:
        table.add_column(min_width=NAME_WIDTH, overflow="fold")
    table.add_column(overflow="fold")
    for check in checks:
        mark, style = MARKS[check.verdict]
        name, found = one_line(check.name), one_line(check.found.removeprefix("skipped: "))
        table.add_row(Text(mark, style=style), *([name, found] if wide else [f"{name}: {found}"]))
        if check.fix:
            fix = Text(f"→ {one_line(check.fix)}", style="bold" if check.code else "")
            table.add_row("", *[""] * wide, fix)
    return table


def summary(checks: list[Check]) -> str:
    """How many there are of each, those that matter first."""
    number = counts(checks)
    told = [f"{number[word]} {word}" for word in ("failed", "warning", "skipped", "ok") if number[word]]
    return ", ".join(told)


def document(found: list[tuple[str, Check]], code: int) -> dict[str, Any]:
    checks = [check for _, check in found]
    number = counts(checks)
    verdict = next((word for word in ("failed", "warning") if number[word]), "ok")
    listed = [{"section": title, **check.to_dict()} for title, check in found]
    return {"verdict": verdict, "exit_code": code, "counts": number, "checks": listed}
