"""What every store does: one list of tests, for memory and for Redis through each of its links."""

from __future__ import annotations

import pytest

from routerkit.core.limits import Denial, Grant
from tests.store.counters import MemoryCounter, day, money, rate, slots


def test_a_rate_gives_its_cap_at_once_and_then_evenly(counter: MemoryCounter) -> None:
    assert counter.room(rate(6)) == 6
    denial = counter.denial(rate(6))
    assert denial.retry_after is not None
    assert 9 < denial.retry_after <= 10
    assert (denial.never, denial.degraded, denial.charge) == (False, False, rate(6))
    counter.elapse(denial.retry_after)
    counter.grant(rate(6))
    counter.denial(rate(6))
    counter.elapse(600)
    assert counter.room(rate(6)) == 6


@pytest.mark.parametrize("cap", [7, 1_001, 7_747, 11_000, 10**9, 10**12])
def test_a_cap_is_exact_however_it_divides(counter: MemoryCounter, cap: int) -> None:
    counter.grant(rate(cap, cap - 1))
    counter.grant(rate(cap, 1))
    denial = counter.denial(rate(cap, cap // 2 + 1))
    assert denial.retry_after == pytest.approx(60 * (cap // 2 + 1) / cap, abs=0.5)


def test_what_costs_more_than_the_cap_is_never_admitted(counter: MemoryCounter) -> None:
    for charge in (rate(5, 6), day(5, 6), slots(5, 6), money(5, 6), money(5, 6, "total"), day(0)):
        denial = counter.denial(charge)
        assert denial.never
        assert denial.retry_after is None
    counter.grant(rate(5, 5), day(5, 5), slots(5, 5), money(5, 5))


def test_a_cost_of_nothing_is_always_admitted(counter: MemoryCounter) -> None:
    full = rate(1), day(1), slots(1), money(1, 1)
    counter.grant(*full)
    counter.grant(rate(1, 0), day(1, 0), slots(1, 0), money(1, 0), money(0, 0, name="none"), rate(0, 0, "none"))


def test_what_is_overdrawn_does_not_stand_in_the_way_of_what_costs_nothing(counter: MemoryCounter) -> None:
    for period in ("day", "month", "total"):
        counter.settle(counter.grant(money(10, 1, period)), 50)
    counter.settle(counter.grant(day(2)), 9)
    free = money(10, 0), money(10, 0, "month"), money(10, 0, "total"), day(2, 0), slots(9)
    for _ in range(2):
        counter.settle(counter.grant(*free), 0, 0, 0, 0, 1)
    counter.denial(money(10, 1))
    counter.grant(rate(2, 2), rate(1, 0))


def test_a_day_ends_at_midnight(counter: MemoryCounter) -> None:
    assert counter.room(day(3)) == 3
    denial = counter.denial(day(3))
    assert denial.retry_after is not None
    assert 0 < denial.retry_after <= 86_400
    counter.next_day()
    assert counter.room(day(3)) == 3


def test_all_or_nothing(counter: MemoryCounter) -> None:
    counter.grant(day(1))
    for _ in range(3):
        denial = counter.denial(rate(2), slots(2), money(2, 1), day(1))
        assert denial.charge == day(1)
    assert (counter.room(rate(2)), counter.room(slots(2)), counter.room(money(2, 1))) == (2, 2, 2)


def test_the_longest_wait_is_told(counter: MemoryCounter) -> None:
    counter.grant(rate(1), day(1), slots(1), money(5, 5, "total"))
    assert counter.denial(rate(1), day(1), slots(1)).charge == day(1)
    assert counter.denial(slots(1), rate(1)).charge == rate(1)
    assert counter.denial(slots(1)).retry_after is None
    assert counter.denial(day(1), rate(1, 2)).charge == rate(1, 2)


def test_one_admission_may_take_twice_from_one_limit(counter: MemoryCounter) -> None:
    counter.denial(day(1), day(1))
    counter.denial(rate(3, 2), rate(3, 2))
    grant = counter.grant(slots(2), slots(2), money(4, 2), money(4, 2))
    counter.denial(slots(2))
    counter.settle(grant, 0, 0, 1, 1)
    assert counter.room(slots(2)) == 2
    assert counter.room(money(4, 1)) == 2


def test_slots_come_back_when_they_are_settled(counter: MemoryCounter) -> None:
    first, _ = counter.grant(slots(2)), counter.grant(slots(2))
    denial = counter.denial(slots(2))
    assert (denial.retry_after, denial.never) == (None, False)
    counter.settle(first, 1)
    assert counter.room(slots(2)) == 1


def test_slots_and_money_come_back_with_their_lease(counter: MemoryCounter) -> None:
    grant = counter.grant(slots(1), money(10, 10), day(5), lease=30)
    counter.elapse(29)
    counter.denial(slots(1))
    counter.elapse(1.1)
    counter.grant(slots(1), money(10, 10))
    counter.settle(grant, 0, 4, 1)  # late: it has no slot to give back, and was spent all the same
    counter.denial(slots(1))
    counter.elapse(61)
    assert counter.room(money(10, 1)) == 6
    assert counter.room(day(5)) == 4


def test_money_is_held_and_then_spent(counter: MemoryCounter) -> None:
    grant = counter.grant(money(100, 80))
    denial = counter.denial(money(100, 30))
    assert (denial.retry_after, denial.never) == (None, False), "it is only held, and may come back any time"
    counter.settle(grant, 25)
    counter.grant(money(100, 75))
    counter.denial(money(100, 1))


def test_money_that_is_spent_comes_back_with_its_period(counter: MemoryCounter) -> None:
    for period in ("day", "month", "total"):
        counter.settle(counter.grant(money(10, 10, period)), 10)
    day_, month, total = (counter.denial(money(10, 1, period)) for period in ("day", "month", "total"))
    assert day_.retry_after is not None
    assert 0 < day_.retry_after <= 86_400
    assert month.retry_after is not None
    assert day_.retry_after <= month.retry_after <= 31 * 86_400
    assert (total.retry_after, total.never) == (None, True)
    counter.next_day()
    counter.grant(money(10, 10, "day"))


def test_more_may_be_spent_than_was_held(counter: MemoryCounter) -> None:
    counter.settle(counter.grant(money(10, 1)), 50)
    assert isinstance(counter.admit(money(10, 1)), Denial)
    counter.grant(money(60, 10))


def test_a_refund_gives_back_what_was_never_sent(counter: MemoryCounter) -> None:
    grant = counter.grant(rate(3, 3), day(3, 3), slots(1), money(5, 5))
    counter.settle(grant, 0, 0, 0, 0)
    counter.grant(rate(3, 3), day(3, 3), slots(1), money(5, 5))


def test_tokens_are_settled_with_what_they_came_to(counter: MemoryCounter) -> None:
    counter.settle(counter.grant(rate(100, 10)), 60)
    counter.denial(rate(100, 50))
    counter.settle(counter.grant(rate(100, 30)), 10)
    counter.grant(rate(100, 30))


def test_no_debt_is_longer_than_a_period(counter: MemoryCounter) -> None:
    counter.settle(counter.grant(rate(100, 10)), 1_000_000)
    denial = counter.denial(rate(100, 100))
    assert denial.retry_after is not None
    assert 59 < denial.retry_after <= 60


def test_what_has_come_back_by_itself_is_not_refunded_as_well(counter: MemoryCounter) -> None:
    grant = counter.grant(rate(60, 60))
    counter.elapse(60)
    counter.grant(rate(60, 60))
    counter.settle(grant, 0)
    counter.denial(rate(60, 10))


def test_a_part_of_a_charge_is_refunded_while_the_rest_has_come_back(counter: MemoryCounter) -> None:
    grant = counter.grant(rate(60, 60))
    counter.elapse(30)
    counter.grant(rate(60, 30))
    counter.settle(grant, 0)
    counter.denial(rate(60, 40))
    counter.grant(rate(60, 29))


def test_a_grant_is_settled_once(counter: MemoryCounter) -> None:
    grant = counter.grant(rate(9, 3), day(9, 3), slots(3), money(9, 3))
    counter.grant(rate(9, 6), day(9, 6), slots(3), slots(3), money(9, 6))
    for _ in range(3):
        counter.settle(grant, 2, 2, 0, 2)
        counter.store.settle_soon(grant, (0, 0, 0, 0))
    assert counter.room(slots(3)) == 1
    assert counter.room(day(9)) == 1
    assert counter.room(money(9, 1)) == 1
    assert counter.room(rate(9)) == 1


def test_what_is_settled_soon_counts_before_long(counter: MemoryCounter) -> None:
    grant, other = counter.grant(slots(2)), counter.grant(slots(2))
    counter.store.settle_soon(grant, [1])
    counter.settle(other, 1)
    assert counter.room(slots(2)) == 2


def test_of_a_period_that_is_over_nothing_is_refunded(counter: MemoryCounter) -> None:
    grant = counter.grant(day(2, 2), money(9, 9))
    counter.next_day()
    counter.grant(day(2, 1), money(9, 4))
    counter.settle(grant, 0, 9)
    assert counter.room(day(2)) == 1
    assert counter.room(money(9, 1)) == 5


def test_costs_go_with_charges(counter: MemoryCounter) -> None:
    grant = counter.grant(slots(1), day(5))
    with pytest.raises(ValueError, match="1 costs for 2 charges"):
        counter.settle(grant, 1)
    counter.settle(grant, -5, -5)
    assert counter.room(day(5)) == 5, "no cost is less than nothing"


NAMES = ["", "a", "a:b", "b", "}{*", "\n", "\udc80", "x" * 100_000, "rpd", "é"]


def test_owners_names_kinds_and_periods_are_apart(counter: MemoryCounter) -> None:
    for owner in NAMES:
        for name in NAMES:
            counter.grant(day(1, name=name), slots(1, name=name), rate(1, name=name), owner=owner)
            counter.denial(day(1, name=name), owner=owner)
    for period in ("day", "month", "total"):
        counter.grant(money(1, 1, period, "a"), owner="a")


def test_an_admission_without_charges_is_granted(counter: MemoryCounter) -> None:
    grant = counter.admit()
    assert isinstance(grant, Grant)
    counter.settle(grant)
