"""The arithmetic of limits: rates, periods, money; and that a grant is settled once. What stores do with it: `tests/store`."""

from __future__ import annotations

import datetime
import decimal
from decimal import Decimal
from typing import Any

import pytest

from routerkit.core.limits import (
    MINUTE,
    Charge,
    Count,
    Denial,
    Grant,
    Kind,
    Level,
    checked_costs,
    current_count,
    empty_at,
    give_back,
    leaked,
    longest,
    nano_dollars,
    period_end,
    period_number,
    pour,
    scoop,
    settle_count,
    take,
)

DAY = 86_400
NOW = 1_800_000_000_000_000


def charge(kind: Kind = Kind.RATE, cap: int = 60, cost: int = 1, period: str = "total") -> Charge:
    return Charge(kind, "name", "label", cap, cost, period)


def moment(text: str) -> float:
    return datetime.datetime.fromisoformat(text + "+00:00").timestamp()


# --- rates ---


def test_a_bucket_leaks() -> None:
    level = pour(charge(cost=60), None, NOW)
    assert level == Level(60 * MINUTE, NOW)
    assert pour(charge(), level, NOW) == Denial(charge(), 1.0)
    assert pour(charge(cost=30), level, NOW + 10_000_000) == Denial(charge(cost=30), 20.0)
    assert pour(charge(), level, NOW + 999_999) == Denial(charge(), 0.000001)
    assert pour(charge(), level, NOW + 1_000_000) == Level(60 * MINUTE, NOW + 1_000_000)
    assert pour(charge(), level, NOW + 10**12) == Level(MINUTE, NOW + 10**12)


def test_more_than_the_cap_is_never_admitted() -> None:
    assert pour(charge(cap=5, cost=6), None, NOW) == Denial(charge(cap=5, cost=6), None, never=True)
    assert pour(charge(cap=0), None, NOW) == Denial(charge(cap=0), None, never=True)
    assert pour(charge(cap=0, cost=0), None, NOW) == Level(0, NOW)


@pytest.mark.parametrize("back", [1, 3_600_000_000, NOW])
def test_a_clock_that_jumps_back_makes_nobody_wait_longer_than_a_period(back: int) -> None:
    level = Level(60 * MINUTE, NOW)
    assert pour(charge(cost=60), level, NOW - back) == Denial(charge(cost=60), 60.0)


def test_a_cap_that_was_lowered_makes_nobody_wait_longer_than_a_period() -> None:
    assert pour(charge(cap=6, cost=6), Level(60 * MINUTE, NOW), NOW) == Denial(charge(cap=6, cost=6), 60.0)


def test_when_a_bucket_is_empty() -> None:
    assert empty_at(Level(7, NOW), 7) == NOW + 1
    assert empty_at(Level(8, NOW), 7) == NOW + 2
    assert empty_at(Level(0, NOW), 0) == NOW
    assert leaked(Level(7 * 100, NOW), NOW + 99, 7) == 7
    assert leaked(Level(7 * 100, NOW), NOW + 100, 7) == 0


def test_a_rate_is_settled_with_what_it_came_to() -> None:
    level, until = Level(20 * MINUTE, NOW), NOW + 20_000_000
    assert scoop(charge(cost=10), level, NOW, 10, until) == level
    assert scoop(charge(cost=10), level, NOW, 15, until) == Level(25 * MINUTE, NOW)
    assert scoop(charge(cost=10), level, NOW, 0, until) == Level(10 * MINUTE, NOW)
    assert scoop(charge(cost=10), level, NOW, 10_000, until) == Level(60 * MINUTE, NOW), "no debt over the brim"
    assert scoop(charge(cost=10), None, NOW, 0, until) == Level(0, NOW)


def test_what_has_leaked_out_is_not_refunded() -> None:
    """Ten units of this charge lie on ten others; after fifteen seconds five of its own are left."""
    later = NOW + 15_000_000
    level = pour(charge(cost=55), Level(20 * MINUTE, NOW), later)
    assert isinstance(level, Level)
    assert scoop(charge(cost=10), level, later, 0, NOW + 20_000_000) == Level(55 * MINUTE, later)
    assert scoop(charge(cost=10), level, later, 0, later - 1) == level


# --- days, slots, money ---


def test_a_day_is_taken_from_at_once_and_others_are_held() -> None:
    wall = 20_000.5 * DAY
    assert take(charge(Kind.DAY, 5, 2), None, wall) == Count(20_000, 2)
    assert take(charge(Kind.SLOTS, 5, 2), None, wall) == Count(0, 0, 2)
    assert take(charge(Kind.MONEY, 5, 2, "day"), Count(20_000, 1, 1), wall) == Count(20_000, 1, 3)


@pytest.mark.parametrize(
    ("kind", "period", "count", "wait", "never"),
    [
        (Kind.DAY, "total", Count(20_000, 5), DAY / 2, False),
        (Kind.DAY, "total", Count(20_001, 5), 1.5 * DAY, False),
        (Kind.SLOTS, "total", Count(0, 0, 5), None, False),
        (Kind.MONEY, "day", Count(20_000, 5), DAY / 2, False),
        (Kind.MONEY, "day", Count(20_000, 3, 2), None, False),
        (Kind.MONEY, "month", Count(657, 5), 27.5 * DAY, False),
        (Kind.MONEY, "total", Count(0, 3, 2), None, False),
        (Kind.MONEY, "total", Count(0, 4, 0), None, True),
    ],
)
def test_when_there_is_room_again(kind: Kind, period: str, count: Count, wait: float | None, never: bool) -> None:
    asked = charge(kind, 5, 2, period)
    assert take(asked, count, 20_000.5 * DAY) == Denial(asked, wait, never=never)


def test_more_than_a_cap_is_never_admitted_whatever_is_left() -> None:
    for kind in (Kind.DAY, Kind.SLOTS, Kind.MONEY):
        assert take(charge(kind, 5, 6), None, 0.0) == Denial(charge(kind, 5, 6), None, never=True)


def test_what_costs_nothing_never_stands_in_the_way() -> None:
    for kind in (Kind.DAY, Kind.SLOTS, Kind.MONEY):
        number = period_number(charge(kind), 0.0)
        assert take(charge(kind, 5, 0), Count(number, 7, 2), 0.0) == Count(number, 7, 2)
        assert isinstance(take(charge(kind, 5, 1), Count(number, 7, 2), 0.0), Denial)
        assert take(charge(kind, 0, 0), None, 0.0) == Count(number, 0)


def test_settling_changes_its_own_period_only() -> None:
    day, money, slots = (charge(kind, 9, 3) for kind in (Kind.DAY, Kind.MONEY, Kind.SLOTS))
    assert settle_count(day, Count(7, 5), 7, 4) == Count(7, 6)
    assert settle_count(day, Count(7, 5), 7, 0) == Count(7, 2)
    assert settle_count(day, Count(7, 1), 7, 0) == Count(7, 0)
    assert settle_count(day, Count(8, 5), 7, 0) == Count(8, 5)
    assert settle_count(money, Count(7, 5, 3), 7, 2) == Count(7, 7, 3)
    assert settle_count(slots, Count(0, 0, 3), 0, 2) == Count(0, 0, 3)
    assert give_back(money, Count(7, 5, 4), 7) == Count(7, 5, 1)
    assert give_back(money, Count(8, 5, 4), 7) == Count(8, 5, 4)
    assert give_back(day, Count(7, 5), 7) == Count(7, 5)


def test_a_clock_that_steps_back_over_midnight_does_not_begin_the_day_anew() -> None:
    day = charge(Kind.DAY)
    assert current_count(day, Count(20_000, 5), 20_000 * DAY) == Count(20_000, 5)
    assert current_count(day, Count(20_000, 5), 20_000 * DAY - 1) == Count(20_000, 5)
    assert current_count(day, Count(20_000, 5), 20_001 * DAY) == Count(20_001, 0)
    assert current_count(day, Count(20_000, 5), 19_998 * DAY) == Count(19_998, 0), "nor may it last for years"


@pytest.mark.parametrize(
    ("text", "day", "month", "ends"),
    [
        ("1970-01-01T00:00:00", 0, 0, "1970-02-01T00:00:00"),
        ("1999-12-31T23:59:59", 10_956, 359, "2000-01-01T00:00:00"),
        ("2000-02-29T12:00:00", 11_016, 361, "2000-03-01T00:00:00"),
        ("2026-11-21T00:00:00", 20_778, 682, "2026-12-01T00:00:00"),
        ("2026-12-31T23:59:59", 20_818, 683, "2027-01-01T00:00:00"),
        ("2100-02-28T23:00:00", 47_540, 1561, "2100-03-01T00:00:00"),
    ],
)
def test_periods_begin_at_midnight_utc(text: str, day: int, month: int, ends: str) -> None:
    wall = moment(text)
    for asked in (charge(Kind.DAY), charge(Kind.MONEY, period="day")):
        assert period_number(asked, wall) == day
        assert period_end(asked, day) == (day + 1) * DAY
    monthly = charge(Kind.MONEY, period="month")
    assert period_number(monthly, wall) == month
    assert period_end(monthly, month) == moment(ends)
    for asked in (charge(Kind.MONEY, period="total"), charge(Kind.SLOTS), charge(Kind.SLOTS, period="month")):
        assert period_number(asked, wall) == 0
        assert period_end(asked, 0) is None


# --- grants, denials, amounts ---


def test_the_longest_wait_is_told_and_of_equals_the_first() -> None:
    waits: list[Any] = [Denial(charge(cap=cap), wait) for cap, wait in enumerate([None, 3.0, 0.5, 3.0])]
    assert longest(waits) is waits[1]
    assert longest(waits[:1]) is waits[0]
    assert longest([*waits, never := Denial(charge(), None, never=True)]) is never
    assert longest([]) is None


def test_a_grant_is_claimed_once() -> None:
    grant = Grant("1", (charge(),), "acme", memo="inside")
    assert [grant.claim() for _ in range(3)] == [True, False, False]
    assert "inside" not in repr(grant)


def test_one_cost_for_each_charge() -> None:
    grant = Grant("1", (charge(), charge(Kind.DAY)), "")
    assert checked_costs(grant, [5, -1]) == (5, 0)
    for costs in ([], [1], [1, 2, 3]):
        with pytest.raises(ValueError, match=f"{len(costs)} costs for 2 charges"):
            checked_costs(grant, costs)


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        ("0", 0),
        ("1", 10**9),
        ("0.000000001", 1),
        ("0.0000000010000000000000000000000000000000001", 2),
        ("1E-999999", 1),
        ("123456789.987654321", 123456789987654321),
        ("999999999.9999999990000000000000000000001", 10**18),
    ],
)
def test_money_is_rounded_up(usd: str, nano: int) -> None:
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_DOWN)):
        assert nano_dollars(Decimal(usd)) == nano


@pytest.mark.parametrize("usd", ["-0.01", "NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_no_price_is_no_amount(usd: str) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        nano_dollars(Decimal(usd))
