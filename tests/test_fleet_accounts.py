"""What a process tells of its calls, and when; what the fleet's sums say. On a board in memory and a virtual clock."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.core.entries import MAX_NUMBER, PARTS, Entry
from routerkit.core.fleet_accounts import AT_A_TIME, DAY, TELL_SECONDS, SharedAccounts, Sums, usd
from routerkit.core.usage import ATTEMPTS, CALLS, LONGEST, USED, Accounts
from routerkit.core.verdict import OK
from routerkit.types.route import Target
from routerkit.types.usage import SUMS, Stats
from tests.support.board import BoardServer, MemoryBoard, drive
from tests.support.fleet import WAYS, Ways, interrupted
from tests.support.records import ELSEWHERE, LIMITED, LOST, USAGE, A, B, record
from tests.support.virtual import VirtualRuntime


class Teller:
    """One process of the fleet, as far as its accounts go."""

    def __init__(self, server: BoardServer) -> None:
        self.server = server
        self.accounts = Accounts(server.runtime)
        self.board = MemoryBoard(server)
        self.shared = SharedAccounts(self.accounts, self.board, server.runtime)

    def used(self, *attempts: Any, **more: Any) -> None:
        record(self.accounts, *(attempts or ((A, OK),)), **{"usage": USAGE, "cost": "0.0012", **more})

    def used_many(self, models: int) -> None:
        """An answer of each of so many."""
        for number in range(models):
            self.used((Target(A.gateway, f"m/{number}"), OK))

    def meet(self) -> None:
        """What a call does when it begins."""
        if self.shared.due:
            drive(self.server, self.shared.sync())

    def later(self, seconds: float = 1.2 * TELL_SECONDS) -> None:
        """So many seconds later a call begins."""
        self.server.runtime.now += seconds
        self.meet()

    def flush(self) -> bool:
        heard: bool = drive(self.server, self.shared.flush())
        return heard

    def read(self, days: int = 1) -> Sums:
        sums = self.seen(days)
        assert sums is not None
        return sums

    def seen(self, days: int = 1) -> Sums | None:
        found: Sums | None = drive(self.server, self.shared.read(days))
        return found

    @property
    def told(self) -> list[str]:
        """What was asked of the board to tell."""
        return [what for what in self.server.asked if what.startswith("tell")]


@pytest.fixture
def server() -> BoardServer:
    return BoardServer(VirtualRuntime())


@pytest.fixture
def teller(server: BoardServer) -> Teller:
    return Teller(server)


def same(fleet: Stats, *ours: Stats) -> None:
    """The fleet's statistics are the sum of these."""
    for name in ("calls", "answered", "fell_back", "waits", "degraded", "streams"):
        assert getattr(fleet, name) == sum(getattr(each, name) for each in ours), name
    for name in ("waited", "duration"):
        assert getattr(fleet, name) == pytest.approx(sum(getattr(each, name) for each in ours), abs=1e-5), name
    assert fleet.duration_max == pytest.approx(max(each.duration_max for each in ours), abs=1e-6)
    assert fleet.durations == tuple(map(sum, zip(*(each.durations for each in ours), strict=True)))
    for name in ("failed", "attempts"):
        words = {word for each in ours for word in getattr(each, name)}
        assert getattr(fleet, name) == {word: sum(getattr(each, name).get(word, 0) for each in ours) for word in words}


# --- when ---


def test_nothing_is_asked_when_there_is_nothing_to_tell(teller: Teller) -> None:
    for _ in range(5):
        teller.later()
    assert teller.flush()
    assert teller.server.asked == []


def test_it_is_told_ten_seconds_after_the_last_time(teller: Teller) -> None:
    teller.used()
    teller.meet()
    teller.later(TELL_SECONDS - 0.01)
    assert teller.told == []
    teller.later(0.01)
    assert teller.told == ["tell 1"]
    teller.used()
    teller.later(TELL_SECONDS - 0.01)
    assert teller.told == ["tell 1"]
    teller.later(0.01)
    assert teller.told == ["tell 1", "tell 2"]
    assert teller.read().usage().total.answers == 2


@pytest.mark.parametrize(("dice", "seconds"), [(0.0, 9.0), (1.0, 11.0)])
def test_not_all_at_the_same_moment(dice: float, seconds: float) -> None:
    teller = Teller(BoardServer(VirtualRuntime(dice)))
    teller.used()
    teller.later(seconds - 0.01)
    assert teller.told == []
    teller.later(0.02)
    assert teller.told == ["tell 1"]
    teller.used()
    teller.later(seconds - 0.1)
    assert teller.told == ["tell 1"]
    teller.later(0.1)
    assert teller.told == ["tell 1", "tell 2"]


def test_one_tells_for_all(teller: Teller) -> None:
    teller.used()
    teller.server.runtime.now += TELL_SECONDS
    step = teller.shared.sync()
    question = step.send(None)
    assert not teller.shared.due
    assert teller.flush(), "somebody is at it"
    assert teller.told == []
    with pytest.raises(StopIteration):
        step.send(teller.server.perform(question))
    assert teller.told == ["tell 1"]


@pytest.mark.parametrize("at", range(2))
def test_who_closes_while_another_tells_has_that_one_tell_the_rest(teller: Teller, at: int) -> None:
    """``at``: how many of the other's questions were answered already."""
    teller.used_many(2 * AT_A_TIME)
    teller.server.runtime.now += 2 * TELL_SECONDS
    step = teller.shared.flush() if at else teller.shared.sync()
    question = step.send(None)
    for _ in range(at):
        question = step.send(teller.server.perform(question))
    teller.used()
    with pytest.raises(StopIteration):
        teller.shared.flush().send(None)
    with contextlib.suppress(StopIteration):
        while True:
            question = step.send(teller.server.perform(question))
    assert not teller.accounts.untold
    assert teller.read().stats().calls == 2 * AT_A_TIME + 1


def test_what_is_too_much_for_once_goes_with_the_next_calls(teller: Teller) -> None:
    teller.used_many(3 * AT_A_TIME)
    teller.later()
    assert teller.told == ["tell 1"]
    teller.meet()
    teller.meet()
    assert len(teller.told) == 3
    teller.used()
    while teller.accounts.untold:
        teller.meet()
    assert teller.read().usage().total.answers == 3 * AT_A_TIME + 1
    teller.meet()
    assert not teller.shared.due


def test_closing_tells_all(teller: Teller) -> None:
    teller.used_many(3 * AT_A_TIME)
    assert teller.flush()
    assert not teller.accounts.untold
    assert teller.read().usage().total.answers == 3 * AT_A_TIME


def test_closing_takes_no_more_than_a_second(teller: Teller) -> None:
    teller.server.latency = 0.4
    teller.used_many(10 * AT_A_TIME)
    assert teller.flush()
    assert len(teller.told) == 3
    assert teller.accounts.untold


def test_many_tenants_do_not_make_a_batch_larger(teller: Teller) -> None:
    for number in range(AT_A_TIME):
        teller.used(tenant=f"tenant{number}")
    assert len(teller.accounts.take(AT_A_TIME)) < AT_A_TIME + 10


# --- what ---


def test_the_fleets_sums_are_those_of_its_processes(server: BoardServer) -> None:
    one, two = Teller(server), Teller(server)
    for teller in (one, two):
        teller.used((A, LIMITED), (B, OK), duration=0.25, waits=(1.5, 0.5), stream=True, degraded=("the call",))
        teller.used((A, LOST), tenant="Acme", error="Cancelled", usage=None, cost=None, duration=700)
        teller.used((ELSEWHERE, OK), tenant="Acme", cost=None)
        teller.later()
    two.used((B, OK), cost="1E+3", duration=1000.5)
    two.flush()
    sums = one.read()
    for name in SUMS:
        both = [getattr(each.accounts.usage().total, name) for each in (one, two)]
        assert getattr(sums.usage().total, name) == sum(both) > 0, name
    assert str(sums.usage().total.cost) == "1000.0024"
    assert [(row.tenant, row.gateway, row.model) for row in sums.usage().rows] == [
        (None, B.gateway, B.model),
        ("Acme", ELSEWHERE.gateway, ELSEWHERE.model),
        ("Acme", A.gateway, A.model),
    ]
    same(sums.stats(), one.accounts.stats(), two.accounts.stats())
    same(sums.stats("Acme"), one.accounts.stats("Acme"), two.accounts.stats("Acme"))
    assert sums.stats("Acme").tenant == "Acme"
    assert sums.stats("nobody") == Stats(tenant="nobody")
    by_tenant = sums.stats_by_tenant()
    assert list(by_tenant) == [None, "Acme"]
    assert by_tenant["Acme"] == sums.stats("Acme")
    assert sums.stats_by_tenant("Acme") == {"Acme": by_tenant["Acme"]}
    assert sums.stats_by_tenant("nobody") == {}
    assert {row.tenant for row in sums.usage("Acme").rows} == {"Acme"}
    assert sums.unreadable == sums.left_out == 0


def test_only_what_has_come_since_is_told(teller: Teller) -> None:
    for times in range(1, 4):
        teller.used(duration=0.5 * times)
        teller.used(error="RateLimitError", tenant="Acme", duration=2.0, usage=None, cost=None)
        teller.later()
        sums = teller.read()
        assert sums.usage().to_dict() == teller.accounts.usage().to_dict()
        same(sums.stats(), teller.accounts.stats())
        same(sums.stats("Acme"), teller.accounts.stats("Acme"))
    news = teller.accounts.take(100)
    assert news == []
    teller.used(duration=0.1)
    news = teller.accounts.take(100)
    assert {figures.kind: figures.numbers[0] for figures in news} == {USED: 1, CALLS: 1, ATTEMPTS: 1, LONGEST: 100_000}
    assert not teller.accounts.untold
    teller.used(tenant="Acme", degraded=("the call",))
    teller.used(tenant="Acme", degraded=("the call",))
    kinds = {figures.kind: figures.numbers for figures in teller.accounts.take(100)}
    assert kinds.keys() == {USED, CALLS, ATTEMPTS, LONGEST}, "no call has failed since"
    assert kinds[CALLS][5] == 2


@given(st.lists(st.decimals(0, 10, allow_nan=False, places=15), min_size=1, max_size=12), st.integers(1, 4))
def test_costs_are_told_to_the_pico_dollar_however_often(costs: list[Decimal], every: int) -> None:
    """What is below one is told when it has come to one."""
    teller = Teller(BoardServer(VirtualRuntime()))
    for number, cost in enumerate(costs):
        teller.used(cost=str(cost))
        if number % every == 0:
            assert teller.flush()
    assert teller.flush()
    told, exact = teller.read().usage().total.cost, sum(costs, Decimal(0))
    assert 0 <= exact - told < Decimal("1e-12")


@pytest.mark.parametrize(
    ("pico", "dollars"),
    [
        (0, "0"),
        (1, "1E-12"),
        (360_000_000, "0.00036"),
        (10**12, "1"),
        (120 * 10**12, "120"),
        (1_500_000_000_000, "1.5"),
        (MAX_NUMBER, "999999999999.999999999999"),
    ],
)
def test_dollars(pico: int, dollars: str) -> None:
    assert str(usd(pico, 12)) == dollars


def test_without_anybody_to_tell_nothing_is_kept() -> None:
    accounts = Accounts(VirtualRuntime())
    record(accounts, (A, OK), usage=USAGE)
    record(accounts, (A, LOST), error="Cancelled")
    assert not accounts.untold
    assert not accounts._untold


def test_a_cancelled_call_is_told_too(teller: Teller) -> None:
    teller.used((A, LOST), error="Cancelled", usage=None, cost=None)
    assert teller.accounts.untold
    teller.later()
    assert teller.read().stats().failed == {"Cancelled": 1}
    assert teller.read().usage().total.possibly_billed == 1


def test_of_too_many_models_the_rest_is_told_together(teller: Teller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerkit.core.usage.MAX_ROWS", 3)
    teller.used_many(6)
    assert teller.flush()
    assert {row.model: row.answers for row in teller.read().usage().rows} == {"m/0": 1, "m/1": 1, "m/2": 1, "other": 3}


# --- while the store is lost, replies too ---


def test_what_cannot_be_told_is_told_later(teller: Teller) -> None:
    teller.server.lost = True
    for _ in range(3):
        teller.used()
        teller.later()
    assert not teller.flush()
    assert teller.told == []
    teller.server.lost = False
    teller.later(0.9 * TELL_SECONDS - 1)
    assert teller.told == [], "nor is it asked all the time"
    teller.later()
    teller.later()
    assert teller.told == ["tell 1", "tell 2"]
    assert teller.read().usage().to_dict() == teller.accounts.usage().to_dict()


def test_a_process_that_cannot_tell_keeps_no_more_than_its_accounts(teller: Teller) -> None:
    teller.server.lost = True
    for _ in range(20):
        teller.used_many(2)
        teller.later()
    assert len(teller.accounts._untold) <= 3
    assert teller.shared._batch is not None
    assert len(teller.shared._batch.entries) <= 6


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("closing", [False, True])
def test_whoever_is_interrupted_loses_and_doubles_nothing(teller: Teller, way: Ways, closing: bool) -> None:
    teller.used_many(AT_A_TIME + 5)
    for at in range(4):
        teller.server.runtime.now += 2 * TELL_SECONDS
        step = teller.shared.flush() if closing else teller.shared.sync()
        interrupted(teller.server, step, at, way)
        teller.used()
    while teller.accounts.untold or teller.shared._batch is not None:
        teller.later()
    assert teller.read().usage().to_dict() == teller.accounts.usage().to_dict()
    same(teller.read().stats(), teller.accounts.stats())


def test_what_was_heard_without_a_reply_is_not_added_twice(teller: Teller) -> None:
    teller.used()
    teller.server.runtime.now += 2 * TELL_SECONDS
    step = teller.shared.sync()
    teller.server.perform(step.send(None))
    step.close()
    teller.used()
    teller.later()
    assert teller.told == ["tell 1", "tell 1"]
    teller.later()
    assert teller.told == ["tell 1", "tell 1", "tell 2"]
    assert teller.read().stats().calls == 2


def test_a_forked_child_tells_only_its_own(teller: Teller) -> None:
    teller.used()
    teller.used(tenant="Acme")
    teller.server.runtime.now += 2 * TELL_SECONDS
    step = teller.shared.sync()
    step.send(None)
    step.close()
    teller.used()  # not told, and a batch under way
    parent = teller.accounts.stats().calls
    child = Teller(teller.server)
    child.used()
    child.shared._batch, child.shared._number = teller.shared._batch, teller.shared._number
    child.shared._turn.clear()
    child.accounts.forget_lock()
    child.board.forget()
    child.shared.forget()
    assert not child.accounts.untold
    child.used(error="RateLimitError")
    child.later()
    assert child.read().stats().calls == 1
    while teller.accounts.untold or teller.shared._batch is not None:
        teller.later()
    assert child.read().stats().calls == parent + 1


# --- days ---


@pytest.mark.parametrize("ahead", [-3, -1, 1, 40])
def test_the_day_is_the_stores(teller: Teller, ahead: int) -> None:
    teller.server.ahead = float(ahead * DAY)
    teller.used()
    teller.later()
    assert teller.told == ["tell 1", "tell 1"]
    assert list(teller.server.days) == [teller.server.today]
    teller.used()
    teller.later()
    assert teller.told[2:] == ["tell 2"], "it knows now"
    sums = teller.read()
    assert sums.stats().calls == 2
    assert sums.since == teller.server.today * DAY
    assert Teller(teller.server).read().stats().calls == 2


def test_a_clock_that_runs_away_is_no_reason_to_go_on_for_ever(teller: Teller) -> None:
    teller.used()
    perform = teller.server.perform

    def running(question: Any) -> Any:
        teller.server.ahead += DAY
        return perform(question)

    teller.server.perform = running  # type: ignore[method-assign]
    assert not teller.flush()
    assert teller.told == ["tell 1"] * 2
    teller.server.asked.clear()
    assert teller.seen() is None
    assert len(teller.server.asked) == 2
    teller.server.perform = perform  # type: ignore[method-assign]
    assert teller.flush()
    assert teller.read().stats().calls == 1


def test_so_many_days_are_added_up(teller: Teller) -> None:
    for turn in range(3):
        teller.used(duration=9.0 - turn)
        teller.later()
        teller.server.runtime.now += DAY
    assert [teller.read(days).stats().duration_max for days in (1, 2, 3, 4)] == [0.0, 7.0, 8.0, 9.0]
    assert [teller.read(days).stats().calls for days in (1, 2, 3, 4, 35)] == [0, 1, 2, 3, 3]
    assert teller.read(4).since == (teller.server.today - 3) * DAY
    teller.server.asked.clear()
    teller.read(2)
    days = (teller.server.today, teller.server.today - 1)
    assert teller.server.asked == [f"page {day} {part}" for day in days for part in range(PARTS)]


def test_midnight_while_it_is_read(teller: Teller) -> None:
    """It is read once more, of the new day."""
    teller.used()
    teller.later()
    teller.server.runtime.now += DAY - (teller.server.runtime.wall() % DAY) - 0.5
    teller.used()
    teller.flush()
    teller.server.latency = 0.1
    sums = teller.read()
    assert sums.today == teller.server.today
    assert sums.stats().calls == 0
    assert teller.read(2).stats().calls >= 1


@pytest.mark.parametrize("asked", range(3))
def test_when_the_store_is_lost_meanwhile_nothing_is_read(teller: Teller, asked: int) -> None:
    step = teller.shared.read(1)
    question = step.send(None)
    for _ in range(asked):
        question = step.send(teller.server.perform(question))
    teller.server.lost = True
    with pytest.raises(StopIteration) as stop:
        step.send(teller.server.perform(question))
    assert stop.value.value is None


# --- what somebody else may have left there ---


def test_what_is_none_of_ours_is_counted(teller: Teller) -> None:
    teller.used()
    teller.flush()
    kept = teller.server.days[teller.server.today]
    kept.update({"u//g/m": (1, 2), "nonsense": (5,), "c/%": (1,) * 34})
    teller.server.unreadable = 2
    sums = teller.read()
    assert sums.unreadable == 5
    assert sums.stats().calls == 1
    assert len(sums.usage().rows) == 1
    sums = Sums(0, 1)
    sums.add([Entry("nonsense", (1,)), Entry("c/", (1,) * 34)])
    assert (sums.unreadable, sums.stats().calls, sums.stats().duration_max) == (1, 1, 0.0)
