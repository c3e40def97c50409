"""What is read of a fleet's accounts: whoever wrote it, it makes a report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.core import fleet_accounts as module
from routerkit.core.entries import LEFT_OUT, MAX_NUMBER, SHAPES, Entry
from routerkit.core.fleet_accounts import Sums
from routerkit.core.usage import FAILED, LONGEST
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
    assert (sums.unreadable, sums.usage().total.answers) == (3, 6)
    sums = Sums(0, 1)
    sums.add([Entry("m/", (MAX_NUMBER,))] * 3 + [Entry("f//X", (MAX_NUMBER,))] * 3)
    assert sums._sums[LONGEST]["",] == sums._sums[FAILED]["", "X"] == [MAX_NUMBER]


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
