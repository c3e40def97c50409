"""Any history of a store in memory, held against the reference of `tests/store/reference.py`; the same of Redis is there too."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from routerkit.core.limits import MINUTE, Charge, Denial, Kind, Level, period_end, period_number, pour
from tests.store.reference import StoreMachine

TestMemory = StoreMachine.TestCase
TestMemory.settings = settings(stateful_step_count=25)


@given(wall=st.floats(0, 253_370_000_000))  # the year 9998
def test_a_moment_lies_in_its_period_and_the_end_in_the_next(wall: float) -> None:
    for period in ("day", "month"):
        charge = Charge(Kind.MONEY, "", "", 1, 1, period)
        number = period_number(charge, wall)
        end = period_end(charge, number)
        assert end is not None
        assert wall < end <= wall + 31 * 86_400
        assert period_number(charge, end - 1) == number
        assert period_number(charge, end) == number + 1


@given(
    cap=st.integers(1, 10**12),
    volume=st.integers(0, 10**20),
    then=st.integers(0, 2**60),
    now=st.integers(0, 2**60),
    cost=st.integers(0, 10**12),
)
def test_a_wait_is_honest_and_no_longer_than_a_period(cap: int, volume: int, then: int, now: int, cost: int) -> None:
    """Whatever a clock did, and whatever stood there. I25, I14."""
    charge, level = Charge(Kind.RATE, "", "", cap, cost), Level(volume, then)
    made = pour(charge, level, now)
    if isinstance(made, Level):
        assert 0 <= made.volume <= cap * MINUTE
    elif made.never:
        assert cost > cap
    else:
        assert made.retry_after is not None
        assert 0 < made.retry_after <= 60
        wait = round(made.retry_after * 1_000_000)
        later = max(now, then) + wait if then <= now else now + wait
        ahead = Level(min(volume, cap * MINUTE), min(then, now))
        assert isinstance(pour(charge, ahead, later), Level)
        assert isinstance(pour(charge, ahead, later - 1), Denial)
