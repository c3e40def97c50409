"""The books of a run: what was sent and what came, what the library tells of it, and what it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from routerkit.core.limits import Charge, Count, Kind
from routerkit.types.route import Target
from tests.simulation.upstream import CATALOG, Exchange

if TYPE_CHECKING:
    from tests.simulation.world import Flow, Process

TOKENS = 13
"""Of each answer and its prompt."""
_ANYTHING = Charge(Kind.SLOTS, "nobody's", "", 1)


def reconnects(before: Sequence[Exchange], exchange: Exchange) -> bool:
    """Whether it is the second connection of the attempt before."""
    return bool(before) and before[-1].unsent is not None and before[-1].target == exchange.target


def attempts_of(flow: Flow) -> list[Exchange]:
    """The last request of each attempt."""
    found: list[Exchange] = []
    for place, exchange in enumerate(flow.exchanges):
        if exchange.model == CATALOG:
            continue
        if reconnects(flow.exchanges[:place], exchange):
            found.pop()
        found.append(exchange)
    return found


def counted(flows: list[Flow]) -> dict[str, Any]:
    """What statistics and usage should be, from what happened outside."""
    answered = [flow for flow in flows if flow.ok]
    failed = Counter("Cancelled" if flow.cancelled else type(flow.error).__name__ for flow in flows if not flow.ok)
    costs = [flow.value.cost for flow in answered]
    return {
        "calls": len(flows),
        "answered": len(answered),
        "failed": dict(failed),
        "streams": sum(flow.request.stream for flow in flows),
        "attempts": sum(len(attempts_of(flow)) for flow in flows),
        "answers": Counter(flow.exchanges[-1].target for flow in answered),
        "tokens": len(answered) * TOKENS,
        "cost": sum(cost for cost in costs if cost is not None),
        "cost_unknown": sum(cost is None for cost in costs),
    }


def told(accounts: Any, tenant: str | None) -> dict[str, Any]:
    stats, usage = accounts.stats(tenant), accounts.usage(tenant)
    return {
        "calls": stats.calls,
        "answered": stats.answered,
        "failed": dict(stats.failed),
        "streams": stats.streams,
        "attempts": sum(stats.attempts.values()),
        "answers": Counter({Target(row.gateway, row.model): row.answers for row in usage.rows if row.answers}),
        "tokens": sum(row.prompt_tokens + row.completion_tokens for row in usage.rows),
        "cost": sum(row.cost for row in usage.rows),
        "cost_unknown": sum(row.cost_unknown for row in usage.rows),
    }


def held(process: Process) -> Iterator[tuple[str, int]]:
    """What nobody may hold when nobody calls."""
    for tenant, router in (process.routers or {"": process.router}).items():
        for name, access in router.access.items():
            for key in access.keys:
                yield f"{key!r} of {tenant} at {name}", key.in_flight
            yield f"the catalogue of {name}", int(access.catalog._fetching is not None)
    store = process.store
    store.used(_ANYTHING)  # what was settled without a lock is entered when somebody looks
    yield "grants", store._open
    for key, state in store._states.items():
        yield f"what {key} holds", state.held if isinstance(state, Count) else 0
    for queue in process.router.turns._queues.values():
        yield f"the queue for {queue.charge.label}", len(queue)
