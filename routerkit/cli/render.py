"""What the commands show: tables and lines for people, documents for machines. Nothing here writes.

Whatever a gateway sent is put into tables on one line, without control characters; ``Output.table`` switches rich's markup off.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from routerkit.cli.terminal import Output, one_line
from routerkit.errors import RouterKitError
from routerkit.types.usage import EXACT
from routerkit.types.verdict import Billing

if TYPE_CHECKING:
    from rich.table import Table

    from routerkit.types.model import Pricing
    from routerkit.types.route import Attempt, Route

MILLION = 1_000_000
_LEAST, _LITTLE, _MUCH = Decimal("1E-12"), Decimal("0.0001"), Decimal("1E+12")
"""USD: what is less, or more, is written with an exponent, and with two digits what is less than little."""


def money(amount: Decimal) -> str:
    """US dollars with two to six decimals, with more where they are few: ``$2.50``, ``$0.00012``, ``$0.00000034``."""
    sign, size = "-" if amount < 0 else "", abs(amount)
    if size and not _LEAST <= size < _MUCH:
        return f"{sign}${size:.2e}"
    if 0 < size < _LITTLE:
        return f"{sign}${Context(prec=2).plus(size):f}"
    whole, _, decimals = f"{size.quantize(Decimal('0.000001'), context=EXACT):,f}".partition(".")
    return f"{sign}${whole}.{decimals.rstrip('0').ljust(2, '0')}"


def seconds(duration: float) -> str:
    """A time that was measured: ``0.4 ms``, ``35 ms``, ``0.41 s``, ``12 s``, ``2 min 5 s``, ``1 h 39 min``."""
    if duration < 0.0995:
        return f"{duration * 1000:.{0 if duration >= 0.00995 else 1}f} ms"
    if duration < 119.5:
        return f"{duration:.{2 if duration < 9.995 else 0}f} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


def roughly(duration: float) -> str:
    """How long ago something is, or how far: ``40 s``, ``12 min``, ``5 h``, ``3 days``."""
    if duration < 100:
        return f"{duration:.0f} s"
    if duration < 100 * 60:
        return f"{duration / 60:.0f} min"
    return f"{duration / 3600:.0f} h" if duration < 48 * 3600 else f"{duration / 86_400:.0f} days"


def price(per_token: Decimal | None, pricing: Pricing) -> str:
    """A price per million tokens. "free" only where nothing else is charged either."""
    if per_token is None:
        return "unknown"
    return "free" if pricing.free else money(per_token * MILLION)


def what_happened(attempt: Attempt) -> str:
    """A failed attempt in a few words: ``openai/gpt-4o overloaded (503)``."""
    status = "" if attempt.status is None else f" ({attempt.status})"
    return f"{attempt.model} {attempt.verdict.code.replace('_', ' ')}{status}"


def billed(attempt: Attempt) -> str:
    """What is to be said of the bill for a failed attempt, behind other words."""
    return {Billing.CONFIRMED: ", billed", Billing.POSSIBLE: ", may be billed"}.get(attempt.billing, "")


def attempt_lines(route: Route) -> Iterator[str]:
    """What was tried, in order, a line for each attempt."""
    for place, attempt in enumerate(route.attempts, 1):
        told = f"{what_happened(attempt)} on {attempt.gateway} after {seconds(attempt.duration)}{billed(attempt)}"
        yield one_line(f"  {place}. {told}")


def error_document(error: Exception, message: str) -> dict[str, Any]:
    """Any error, in the form that those of the library have. ``message``: of one that is not the library's."""
    told = error if isinstance(error, RouterKitError) else RouterKitError(message)
    return {
        **told.to_dict(),
        "type": type(error).__name__,
        "code": told.code,
        "route": None if told.route is None else told.route.to_dict(),
    }


def new_table() -> Table:
    from rich.table import Table

    return Table(box=None, header_style="bold", pad_edge=False)


def add_row(table: Table, *cells: str) -> None:
    table.add_row(*map(one_line, cells))


def width(output: Output) -> int:
    """Columns that a table may take: those of the terminal; elsewhere nothing has to be left out."""
    return shutil.get_terminal_size().columns if output.is_terminal else 10_000
