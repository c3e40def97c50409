"""What the commands show: tables and lines for people, documents for machines. Nothing here writes.

Whatever a gateway sent is put into tables on one line, without control characters; ``Output.table`` switches rich's markup off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from routerkit.cli.terminal import one_line
from routerkit.types.verdict import Action

if TYPE_CHECKING:
    from rich.table import Table

    from routerkit.errors import RouterKitError
    from routerkit.types.completion import Completion
    from routerkit.types.model import Model, Pricing
    from routerkit.types.route import Attempt, Plan, Route

MILLION = 1_000_000
_SMALLEST = Decimal("0.000001")


def money(amount: Decimal) -> str:
    """US dollars with two to six decimals."""
    rounded = amount.quantize(_SMALLEST)
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


def summary(answer: Completion) -> str:
    """The line below an answer: model, tokens, cost, time, and what failed before."""
    usage = answer.usage
    tokens = f"{usage.prompt_tokens} + {usage.completion_tokens} tokens" if usage.known else "tokens unknown"
    cost = "cost unknown" if answer.cost is None else money(answer.cost)
    parts = [answer.model, tokens, cost, seconds(answer.route.duration)]
    if answer.mock:
        parts[2] = "no cost"
        parts.insert(0, "MOCK answer (dev mode)")
    if answer.finish_reason not in (None, "stop"):
        parts.append(f"finish reason: {answer.finish_reason}")
    failed = [each for each in answer.route.attempts if each.verdict.action is not Action.RETURN]
    if failed:
        parts.append("before: " + ", ".join(what_happened(attempt) for attempt in failed))
    return one_line(" · ".join(parts))


def model_table(models: Sequence[Model]) -> Table:
    table = _table()
    table.add_column("model", style="bold", overflow="fold")
    table.add_column("context", justify="right")
    table.add_column("in, $/M tokens", justify="right")
    table.add_column("out, $/M tokens", justify="right")
    table.add_column("takes → gives", overflow="fold")
    for model in models:
        pricing = model.pricing
        context = "unknown" if model.context_length is None else f"{model.context_length:,}"
        extra = f" + {money(pricing.request)}/request" if pricing.request else ""
        _add_row(
            table,
            model.id,
            context,
            price(pricing.prompt, pricing),
            price(pricing.completion, pricing) + extra,
            _modalities(model),
        )
    return table


def plan_table(plan: Plan, limit: int | None) -> Table:
    table = _table()
    table.add_column("#", justify="right")
    table.add_column("model", style="bold", overflow="fold")
    table.add_column("gateway", overflow="fold")
    table.add_column("why here", overflow="fold")
    for place, each in enumerate(plan.targets[:limit], 1):
        _add_row(table, str(place), each.model, each.gateway, each.reason)
    return table


def skip_table(plan: Plan, limit: int | None) -> Table:
    table = _table()
    table.add_column("left out", style="bold", overflow="fold")
    table.add_column("why", overflow="fold")
    for each in plan.skipped[:limit]:
        again = "" if each.retry_after is None else f", for another {seconds(each.retry_after)}"
        _add_row(table, each.model, each.reason + again)
    return table


def answer_document(answer: Completion) -> dict[str, Any]:
    return {
        "model": answer.model,
        "gateway": answer.gateway,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage.to_dict(),
        "cost": None if answer.cost is None else str(answer.cost),
        "cost_source": answer.cost_source,
        "mock": answer.mock,
        "answer": answer.to_dict(),
        "route": answer.route.to_dict(),
    }


def error_document(error: RouterKitError) -> dict[str, Any]:
    return {
        **error.to_dict(),
        "type": type(error).__name__,
        "code": error.code,
        "route": None if error.route is None else error.route.to_dict(),
    }


def _modalities(model: Model) -> str:
    if not model.input_modalities and not model.output_modalities:
        return "unknown"
    return f"{'+'.join(model.input_modalities) or '?'} → {'+'.join(model.output_modalities) or '?'}"


def _table() -> Table:
    from rich.table import Table

    return Table(box=None, header_style="bold", pad_edge=False)


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*map(one_line, cells))
