"""The arithmetic of limits where one unit, one microsecond or one day decides."""

from __future__ import annotations

from routerkit.core.limits import (
    MINUTE,
    Charge,
    Count,
    Denial,
    Kind,
    Level,
    empty_at,
    longest,
    period_number,
    pour,
    take,
)

NOW = 1_800_000_000_000_000
DAY = 86_400


def charge(kind: Kind, cap: int, cost: int = 1, period: str = "total") -> Charge:
    return Charge(kind, "name", "label", cap, cost, period)


def test_the_smallest_part_of_a_unit_too_many() -> None:
    """The wait is rounded up to whole microseconds: who waits so long is let in."""
    all_of_it = charge(Kind.RATE, 60, 60)
    assert pour(all_of_it, Level(1, NOW), NOW) == Denial(all_of_it, 0.000001)
    assert pour(all_of_it, Level(61, NOW), NOW) == Denial(all_of_it, 0.000002)
    assert pour(all_of_it, Level(61, NOW), NOW + 2) == Level(60 * MINUTE, NOW + 2)


def test_a_bucket_of_one_unit() -> None:
    assert empty_at(Level(7, NOW), 1) == NOW + 7


def test_up_to_the_brim() -> None:
    for kind in (Kind.DAY, Kind.SLOTS, Kind.MONEY):
        number = period_number(charge(kind, 5), 0.0)
        made = take(charge(kind, 5, 2), Count(number, 3), 0.0)
        assert isinstance(made, Count)
        assert (made.taken + made.held, made.number) == (5, number)
        full = charge(kind, 5, 3)
        assert isinstance(take(full, Count(number, 3), 0.0), Denial)


def test_who_takes_all_of_it_waits_for_all_of_it() -> None:
    asked = charge(Kind.DAY, 5, 5)
    assert take(asked, Count(0, 1), 0.0) == Denial(asked, DAY)
    assert take(asked, Count(0, 1), DAY - 0.25) == Denial(asked, 0.25)


def test_a_clock_before_1970() -> None:
    asked = charge(Kind.DAY, 5)
    assert [period_number(asked, wall) for wall in (-0.5, -DAY, -DAY - 0.5, 0.0)] == [-1, -1, -2, 0]
    monthly = charge(Kind.MONEY, 5, period="month")
    assert [period_number(monthly, wall) for wall in (-0.5, 0.0)] == [-1, 0]


def test_any_wait_is_longer_than_one_that_nobody_can_tell() -> None:
    denials = [Denial(charge(Kind.SLOTS, 1), None), Denial(charge(Kind.RATE, 1), 0.5)]
    assert longest(denials) is denials[1]
