"""``routerkit probe``: ask every model the same question, and report."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import click

from routerkit.cli import options
from routerkit.cli.filters import filters, filters_of
from routerkit.cli.options import Shared
from routerkit.cli.stdin import prompt_text
from routerkit.types.policy import Timeouts

_USD = re.compile(r"\$?([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})")


def usd(_: click.Context, __: click.Parameter, value: str | None) -> Decimal | None:
    """An amount of US dollars, such as ``0.50`` or ``$5``."""
    if value is None:
        return None
    found = _USD.fullmatch(value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is no amount of US dollars, such as 0.50 or 5")
    return Decimal(found[1])


@click.command(short_help="Ask every model the same question, and report.")
@click.option("--prompt", metavar="TEXT", help='The question; - reads it from stdin. [default: "Hello, world!"]')
@click.option(
    "--models",
    metavar="IDS",
    multiple=True,
    help="Only these: ids or patterns such as 'openai/*', with commas between them.",
)
@filters
@click.option(
    "--delay",
    metavar="DURATION",
    callback=options.pause,
    help="Between the starts of two questions to one gateway. [default: 180; 0 for servers on this machine]",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 100),
    metavar="N",
    help="Questions under way at one gateway at most. [default: 1]",
)
@click.option("--repeat", type=click.IntRange(1, 1000), metavar="N", help="Rounds through all models. [default: 1]")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Longest answer, in tokens.")
@click.option(
    "--timeout", metavar="DURATION", callback=options.patience, help="Of one question: 60, 60s, 1m30s, 500ms."
)
@click.option(
    "--max-wait",
    metavar="DURATION",
    callback=options.pause,
    help="How long one question is put off for limits and Retry-After. [default: 600]",
)
@click.option(
    "--max-cost",
    metavar="USD",
    callback=usd,
    help="Never spend more; what a question may cost at most counts before. Lower with --max-tokens.",
)
@click.option("--out", metavar="FOLDER", default="probe", help="Where the results go. [default: probe]")
@click.option("--resume", is_flag=True, help="Go on with the sweep in that folder; ask nothing twice.")
@click.option("--compare", metavar="PATH", help="Tell what changed since an earlier sweep: its folder or results.")
@click.option("--learn", is_flag=True, help="Keep how fast each model was, for the strategy performance_optimized.")
@click.option("--dry-run", is_flag=True, help="Show what would be asked, when, and what it may cost; ask nothing.")
@options.as_json
@options.shared
@click.pass_context
def probe(context: click.Context, /, **given: Any) -> None:
    """Ask every model the same question, one after the other, and report how it went.

    Asked are the models of the catalogue that the filters find and that can answer the prompt; a model named exactly is asked
    in any case. Each answer is written to results.jsonl as it comes, so that --resume goes on after Ctrl-C or a crash. At the
    end there are a summary, results.json, report.html (one page, to be opened in any browser) and probe.log.

    On --resume, options that are not given are as they were. A key that is refused, or a gateway that three models in a row
    cannot reach, ends that gateway's part; --resume asks what is left.

    \b
    Examples:
      routerkit probe --free --delay 20
      routerkit probe --models 'openai/*,google/*' --max-tokens 50 --max-cost 0.50
      routerkit probe --base-url http://127.0.0.1:8080/v1 --repeat 3
      routerkit probe --resume
      routerkit probe --out today --compare yesterday --dry-run
    """
    from routerkit.cli.probe.choice import split
    from routerkit.cli.probe.run import Run
    from routerkit.cli.probe.wish import Wish

    shared: Shared = context.obj
    timeout: Timeouts | None = given.pop("timeout")
    own = {name: given.pop(name) for name in _OWN}
    if own["prompt"] is not None:
        own["prompt"] = prompt_text(own["prompt"])
    own["models"] = split(own["models"])
    code = Run(shared, Wish(timeout=timeout, filters=filters_of(**given), **own))()
    if code:
        context.exit(code)


_OWN = (
    *("prompt", "models", "delay", "concurrency", "repeat", "max_tokens", "max_wait", "max_cost"),
    *("out", "resume", "compare", "learn", "dry_run"),
)
"""Options that are no filters."""
