"""Waits before another attempt, and the budget of retries: the arithmetic."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.core.retry import RetryBudget, jittered, spread, waits
from routerkit.types.policy import RetryPolicy


def first(count: int, **policy: float) -> list[float]:
    return list(islice(waits(RetryPolicy(**policy)), count))


def test_the_default_waits() -> None:
    assert first(7) == [0.5, 1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize(
    ("base", "longest", "expected"),
    [
        (1, 60, [1, 2, 4, 8, 16]),
        (0.1, 0.25, [0.1, 0.2, 0.25, 0.25, 0.25]),
        (3, 2, [2, 2, 2, 2, 2]),
        (0, 8, [0, 0, 0, 0, 0]),
        (1, 0, [0, 0, 0, 0, 0]),
    ],
)
def test_the_formula(base: float, longest: float, expected: list[float]) -> None:
    assert first(5, backoff_base=base, backoff_max=longest) == pytest.approx(expected)


@given(
    base=st.floats(0, 3600),
    longest=st.floats(0, 3600),
)
def test_waits_never_shrink_nor_pass_their_bound(base: float, longest: float) -> None:
    series = first(10, backoff_base=base, backoff_max=longest)
    assert series == [min(longest, base * 2**k) for k in range(10)]


@pytest.mark.parametrize(
    ("jitter", "dice", "expected"),
    [(1, 0, 0), (1, 0.25, 2), (1, 0.999, 7.992), (0, 0.7, 8), (0.5, 0, 4), (0.5, 0.5, 6)],
)
def test_jitter_is_the_random_share(jitter: float, dice: float, expected: float) -> None:
    assert jittered(8, jitter, dice) == pytest.approx(expected)


@given(bound=st.floats(0, 3600), jitter=st.floats(0, 1), dice=st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_its_share(bound: float, jitter: float, dice: float) -> None:
    wait = jittered(bound, jitter, dice)
    assert bound * (1 - jitter) <= wait <= bound * (1 + 1e-12)


@pytest.mark.parametrize(("hint", "latest"), [(0.5, 0.55), (2, 2.2), (10, 11), (60, 61), (86_400, 86_401)])
def test_a_hint_is_spread_by_a_tenth_and_a_second_at_most(hint: float, latest: float) -> None:
    assert spread(hint, 0) == hint
    assert spread(hint, 1) == pytest.approx(latest)


@given(hint=st.floats(0, 86_400), dice=st.floats(0, 1, exclude_max=True))
def test_a_hint_is_never_early(hint: float, dice: float) -> None:
    assert hint <= spread(hint, dice) <= hint + 1


def test_a_budget_is_full_at_first() -> None:
    budget = RetryBudget(RetryPolicy(), 0)
    assert [budget.withdraw(0) for _ in range(11)] == [True] * 10 + [False]


def test_ten_first_attempts_pay_for_a_retry() -> None:
    budget = RetryBudget(RetryPolicy(budget=1, budget_deposit=0.125), 0)
    assert budget.withdraw(0)
    for _ in range(7):
        budget.deposit()
    assert not budget.withdraw(0)
    budget.deposit()
    assert budget.withdraw(0)


def test_a_retry_returns_every_ten_seconds() -> None:
    budget = RetryBudget(RetryPolicy(budget=2), 100)
    assert budget.withdraw(100)
    assert budget.withdraw(100)
    assert not budget.withdraw(109)
    assert budget.withdraw(110)
    assert not budget.withdraw(119)
    assert budget.withdraw(120)


def test_a_budget_never_exceeds_its_capacity() -> None:
    budget = RetryBudget(RetryPolicy(budget=2, budget_deposit=1), 0)
    for _ in range(100):
        budget.deposit()
    assert [budget.withdraw(100_000) for _ in range(3)] == [True, True, False]


def test_no_budget_allows_no_retry() -> None:
    budget = RetryBudget(RetryPolicy(budget=0, budget_deposit=1), 0)
    budget.deposit()
    assert not budget.withdraw(100_000)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=200))
def test_retries_are_bounded_by_what_was_paid_for_them(events: list[tuple[bool, float]]) -> None:
    """The invariant that keeps an outage from being amplified."""
    policy = RetryPolicy(budget=3, budget_deposit=0.1)
    budget, now, firsts, retries = RetryBudget(policy, 0), 0.0, 0, 0
    for is_first, pause in events:
        now += pause
        if is_first:
            budget.deposit()
            firsts += 1
        else:
            retries += budget.withdraw(now)
        assert retries <= 3 + 0.1 * firsts + now / 10 + 1e-6
