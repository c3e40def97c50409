"""What the commands show: tables and lines for people, documents for machines. Nothing here writes.

Whatever a gateway sent is put into tables on one line, without control characters; ``Output.table`` switches rich's markup off.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from routerkit.cli.terminal import Output, one_line
from routerkit.types.usage import EXACT

if TYPE_CHECKING:
    from rich.table import Table

    from routerkit.errors import RouterKitError
    from routerkit.types.model import Pricing
    from routerkit.types.route import Attempt, Route

MILLION = 1_000_000
_SMALLEST = Decimal("0.000001")


def money(amount: Decimal) -> str:
    """US dollars with two to six decimals."""
    rounded = amount.quantize(_SMALLEST, context=EXACT)
    if amount and not rounded:
        return f"<${_SMALLEST:f}"
    whole, _, decimals = f"{rounded:,f}".partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(2, '0')}"


def seconds(duration: float) -> str:
    return f"{duration:.2f} s" if duration < 10 else f"{duration:.0f} s"


def price(per_token: Decimal | None, pricing: Pricing) -> str:
    """A price per million tokens. "free" only where nothing else is charged either."""
    if per_token is None:
        return "unknown"
    return "free" if pricing.free else money(per_token * MILLION)


def what_happened(attempt: Attempt) -> str:
    """A failed attempt in a few words: ``openai/gpt-4o overloaded (503)``."""
    status = "" if attempt.status is None else f" ({attempt.status})"
    return f"{attempt.model} {attempt.verdict.code.replace('_', ' ')}{status}"


def attempt_lines(route: Route) -> Iterator[str]:
    """What was tried, in order, a line for each attempt."""
    for place, attempt in enumerate(route.attempts, 1):
        yield one_line(f"  {place}. {what_happened(attempt)} on {attempt.gateway} after {seconds(attempt.duration)}")


def error_document(error: RouterKitError) -> dict[str, Any]:
    return {
        **error.to_dict(),
        "type": type(error).__name__,
        "code": error.code,
        "route": None if error.route is None else error.route.to_dict(),
    }


def new_table() -> Table:
    from rich.table import Table

    return Table(box=None, header_style="bold", pad_edge=False)


def add_row(table: Table, *cells: str) -> None:
    table.add_row(*map(one_line, cells))


def width(output: Output) -> int:
    """Columns that a table may take: those of the terminal; elsewhere nothing has to be left out."""
    return shutil.get_terminal_size().columns if output.is_terminal else 10_000
