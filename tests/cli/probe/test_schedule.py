"""The schedule of a sweep: pure, so its time is ours."""

from __future__ import annotations

import heapq

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.cli.probe.schedule import Job, Put, Schedule
from routerkit.types.route import Target


def jobs(*models: str, gateway: str = "g", rounds: int = 1) -> list[Job]:
    return [Job(Target(gateway, model), number) for number in range(1, rounds + 1) for model in models]


def asked(put: Put | None) -> str | None:
    return None if put is None else put.job.target.model


def test_the_first_goes_at_once_and_the_next_after_the_delay_wherever_the_first_has_got_to() -> None:
    schedule = Schedule(jobs("a", "b", "c"), {"g": 180.0}, concurrency=2)
    first = schedule.take(0.0)
    assert asked(first) == "a"
    assert (schedule.take(0.0), schedule.pause(0.0)) == (None, 180.0)
    assert asked(schedule.take(180.0)) == "b"
    assert schedule.pause(180.0) is None  # two are under way
    assert first is not None
    schedule.finish(first, 400.0)
    assert schedule.pause(300.0) == 60.0
    assert asked(schedule.take(400.0)) == "c"


def test_gateways_do_not_wait_for_each_other() -> None:
    schedule = Schedule([*jobs("a", gateway="x"), *jobs("b", gateway="y")], {"x": 180.0, "y": 0.0})
    assert [asked(schedule.take(5.0)), asked(schedule.take(5.0)), schedule.take(5.0)] == ["a", "b", None]


def test_what_was_not_sent_costs_no_delay() -> None:
    schedule = Schedule(jobs("a", "b"), {"g": 180.0})
    first = schedule.take(0.0)
    assert first is not None
    schedule.put_off(first, 0.0, 30.0, sent=False)
    assert asked(schedule.take(0.0)) == "b"


def test_a_question_that_is_put_off_is_put_again_after_others_had_their_turn() -> None:
    schedule = Schedule(jobs("a", "b"), {"g": 0.0}, max_wait=100.0)
    first = schedule.take(0.0)
    assert first is not None
    assert schedule.may_wait(first, 100.0)
    assert not schedule.may_wait(first, 100.1)
    schedule.put_off(first, 0.0, 60.0)
    second = schedule.take(1.0)
    assert second is not None
    assert asked(second) == "b"
    schedule.finish(second, 2.0)
    assert (schedule.take(59.9), schedule.pause(50.0)) == (None, 10.0)
    again = schedule.take(60.0)
    assert again is first
    assert (first.waits, first.waited) == (1, 60.0)
    assert not schedule.may_wait(first, 41.0)


def test_three_times_and_no_more() -> None:
    schedule = Schedule(jobs("a"), {"g": 0.0})
    for number in range(3):
        put = schedule.take(float(number))
        assert put is not None
        assert schedule.may_wait(put, 1.0)
        schedule.put_off(put, float(number), 1.0)
    last = schedule.take(3.0)
    assert last is not None
    assert not schedule.may_wait(last, 0.0)


def test_a_gateway_that_is_held_back_asks_none_of_its_models() -> None:
    schedule = Schedule([*jobs("a", "b", gateway="x"), *jobs("c", gateway="y")], {"x": 0.0, "y": 0.0}, concurrency=5)
    schedule.hold("x", 50.0)
    schedule.hold("x", 20.0)  # the longer one holds
    assert [asked(schedule.take(0.0)), schedule.take(0.0)] == ["c", None]
    assert schedule.pause(10.0) == 40.0
    assert [asked(schedule.take(50.0)), asked(schedule.take(50.0))] == ["a", "b"]


def test_what_may_not_be_put_now_stays_and_nobody_waits_for_it() -> None:
    schedule = Schedule(jobs("dear", "cheap"), {"g": 0.0}, concurrency=2)

    def fits(job: Job) -> bool:
        return job.target.model == "cheap"

    assert [asked(schedule.take(0.0, fits)), schedule.take(0.0, fits), schedule.pause(0.0, fits)] == [
        "cheap",
        None,
        None,
    ]
    assert schedule.waiting() == jobs("dear")


def test_a_gateway_that_ends_gives_back_what_is_left() -> None:
    schedule = Schedule([*jobs("a", "b", "c", gateway="x"), *jobs("d", gateway="y")], {"x": 0.0, "y": 9.0})
    under_way = schedule.take(0.0)
    assert schedule.end("x") == jobs("b", "c", gateway="x")
    assert under_way is not None
    schedule.finish(under_way, 1.0)
    assert asked(schedule.take(1.0)) == "d"
    assert (schedule.take(99.0), schedule.pause(99.0), schedule.waiting()) == (None, None, [])


@pytest.mark.parametrize(
    ("delay", "concurrency", "lasts", "left"),
    [
        (180.0, 1, 5.0, 175.0 + 180.0 + 5.0),  # the delay rules: one starts when it is over, one a delay later
        (0.0, 1, 5.0, 10.0),  # the answers do
        (0.0, 2, 5.0, 2.5 + 5.0),
        (10.0, 1, 30.0, 60.0),
    ],
)
def test_the_time_left(delay: float, concurrency: int, lasts: float, left: float) -> None:
    schedule = Schedule(jobs("a", "b", "c"), {"g": delay}, concurrency=concurrency)
    put = schedule.take(0.0)
    assert put is not None
    schedule.finish(put, lasts)
    assert schedule.left(lasts) == pytest.approx(left)


def test_the_time_left_counts_what_is_under_way_and_ends_at_nothing() -> None:
    schedule = Schedule(jobs("a"), {"g": 180.0})
    assert schedule.left(0.0, typical=4.0) == 4.0
    put = schedule.take(0.0)
    assert schedule.left(1.0, typical=4.0) == 3.0
    assert put is not None
    schedule.finish(put, 6.0)
    assert schedule.left(6.0) == 0.0


@attrs.frozen
class Lot:
    """What becomes of a question, time after time: how long it lasts, and for how long it is then put off (0: it is not)."""

    lasts: float
    pauses: tuple[float, ...]
    wide: bool


times = st.integers(0, 40).map(float)
lots = st.builds(Lot, times, st.lists(times, max_size=5).map(tuple), st.booleans())


@given(
    lots=st.lists(st.tuples(st.sampled_from("xyz"), lots), max_size=12),
    delays=st.fixed_dictionaries(dict.fromkeys("xyz", times)),
    concurrency=st.integers(1, 3),
    max_wait=times,
)
def test_whatever_becomes_of_them(
    lots: list[tuple[str, Lot]], delays: dict[str, float], concurrency: int, max_wait: float
) -> None:
    """Each is over once; never too many at a time, too soon after another, or before its time; and it ends."""
    lot = {Job(Target(gateway, f"m{number}")): each for number, (gateway, each) in enumerate(lots)}
    schedule = Schedule(lot, delays, concurrency=concurrency, max_wait=max_wait)
    now, over, tries = 0.0, [], dict.fromkeys(lot, 0)
    under_way: list[tuple[float, int, Put]] = []
    starts: dict[str, list[float]] = {name: [] for name in "xyz"}
    not_before: dict[Job, float] = {}
    held: dict[str, float] = dict.fromkeys("xyz", 0.0)
    for step in range(1000):
        put = schedule.take(now)
        if put is not None:
            gateway = put.job.target.gateway
            assert now >= not_before.get(put.job, 0.0)
            assert now >= held[gateway]
            assert not starts[gateway] or now - starts[gateway][-1] >= delays[gateway]
            starts[gateway].append(now)
            heapq.heappush(under_way, (now + lot[put.job].lasts, step, put))
            assert sum(each.job.target.gateway == gateway for _, _, each in under_way) <= concurrency
            continue
        pause = schedule.pause(now)
        ends = under_way[0][0] if under_way else None
        if pause is None and ends is None:
            break
        if ends is None or (pause is not None and now + pause < ends):
            assert pause is not None
            assert pause > 0, "something could have been put"
            now += pause
            continue
        now, _, put = heapq.heappop(under_way)
        each, tried = lot[put.job], tries[put.job]
        tries[put.job] += 1
        if tried < len(each.pauses) and schedule.may_wait(put, each.pauses[tried]):
            schedule.put_off(put, now, each.pauses[tried])
            not_before[put.job] = now + each.pauses[tried]
            if each.wide:
                held[put.job.target.gateway] = max(held[put.job.target.gateway], now + each.pauses[tried])
                schedule.hold(put.job.target.gateway, held[put.job.target.gateway])
        else:
            schedule.finish(put, now)
            assert put.waited <= max_wait
            assert put.waits <= 3
            over.append(put.job)
        assert schedule.left(now) >= 0
    else:
        raise AssertionError("it does not end")
    assert sorted(over, key=str) == sorted(lot, key=str)
    assert schedule.left(now) == 0
