"""What is read of a fleet's accounts: whoever wrote it, it makes a report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.core import fleet_accounts as module
from routerkit.core.entries import LEFT_OUT, MAX_NUMBER, SHAPES, Entry
from routerkit.core.fleet_accounts import Sums
from routerkit.types.usage import Stats


def test_what_a_store_had_no_room_for_is_told() -> None:
    sums = Sums(0, 1)
    sums.add([Entry(f"{LEFT_OUT}/", (2,)), Entry(f"{LEFT_OUT}/", (3,))])
    assert (sums.left_out, sums.unreadable) == (5, 0)


def test_words_without_calls_are_of_nobody() -> None:
    sums = Sums(0, 1)
    sums.add([Entry("f/acme/X", (2,)), Entry("a/acme/ok", (2,)), Entry("m/acme", (5,))])
    assert sums.stats() == Stats()
    assert sums.stats_by_tenant() == {}


def test_sums_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SUMS", 5)
    sums = Sums(0, 1)
    sums.add([Entry(f"u//g/{number}", (1,) * 10) for number in range(8)])
    sums.add([Entry("u//g/2", (1,) * 10)])
    assert len(sums.usage().rows) == 5
    assert (sums.left_out, sums.unreadable, sums.usage().total.answers) == (3, 0, 6)
    sums.add([Entry("nonsense", (1,)), Entry("o/", (4,))])
    assert (sums.left_out, sums.unreadable) == (7, 1)


def test_a_name_that_is_known_is_looked_at_all_the_same() -> None:
    sums = Sums(0, 1)
    sums.add(
        [Entry("c/", (5,) * 34), Entry("c/", (1,) * 33), Entry("c/", (-1,) * 34), Entry("c/", (MAX_NUMBER + 1,) * 34)]
    )
    assert (sums.stats().calls, sums.unreadable) == (5, 3)
    sums.add([Entry("c/", (MAX_NUMBER,) * 34), Entry("m/", (7_000_000,)), Entry("m/", (5_000_000,))])
    assert (sums.stats().calls, sums.stats().duration_max) == (MAX_NUMBER + 5, 7.0)


names = st.sampled_from(["u//g/m", "u/a/g/m", "c/", "c/a", "m/", "m/a", "f//X", "f/a/X", "a//ok", "o/"])
numbers = st.lists(st.integers(0, MAX_NUMBER), min_size=1, max_size=35) | st.sampled_from(
    [[MAX_NUMBER] * length for _, length in SHAPES.values()]
)


@given(st.lists(st.tuples(names | st.text(max_size=30), numbers), max_size=30))
def test_whatever_is_read_makes_a_report(several: list[tuple[str, list[int]]]) -> None:
    sums = Sums(20_000, 35)
    sums.add(Entry(name, tuple(found)) for name, found in several)
    assert sums.usage().to_dict()
    assert str(sums.usage())
    assert sums.stats().to_dict()
    assert all(stats.to_dict() for stats in sums.stats_by_tenant().values())
    assert 0 <= sums.unreadable <= len(several)
