"""The breaker: each of its rules by an example, and any history against a reference model that is too plain to be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from routerkit.core.breaker import HEARSAY_SECONDS, RESET_AFTER, Breaker, Permit
from routerkit.types.event import BreakerState
from routerkit.types.policy import BreakerPolicy
from routerkit.types.verdict import Sample

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
OK, FAIL, SLOW, NEUTRAL = Sample.OK, Sample.FAIL, Sample.SLOW, Sample.NEUTRAL
LEASE = 60.0


def breaker(
    random: float = 1.0, on_change: Callable[[Breaker, float, bool], object] | None = None, **policy: Any
) -> Breaker:
    return Breaker(BreakerPolicy(**policy), lambda: random, on_change)


def feed(subject: Breaker, *samples: Sample, at: float = 0.0, every: float = 0.0) -> float:
    """Attempts that end at once, one after the other; the time of the last."""
    now = at
    for place, sample in enumerate(samples):
        now = at + place * every
        permit = subject.acquire(now, lease=LEASE)
        assert permit is not None
        permit.settle(sample, now)
    return now


def tripped(**policy: Any) -> Breaker:
    """Open from 0 to 5."""
    subject = breaker(**policy)
    feed(subject, *[FAIL] * 5)
    assert subject.state is OPEN
    return subject


def into(heard: list[tuple[BreakerState, float, bool]]) -> Callable[[Breaker, float, bool], object]:
    return lambda changed, open_for, news: heard.append((changed.state, open_for, news))


def probe(subject: Breaker, now: float, lease: float = LEASE) -> Permit:
    permit = subject.acquire(now, lease=lease)
    assert permit is not None
    assert permit.probe
    return permit


# --- closed ---


def test_five_failures_in_a_row_open_at_once() -> None:
    subject = breaker()
    feed(subject, *[OK] * 15, *[FAIL] * 4)
    assert subject.state is CLOSED
    feed(subject, FAIL)
    assert subject.state is OPEN


@pytest.mark.parametrize(("every", "state"), [(2.5, OPEN), (2.6, CLOSED)])
def test_a_row_counts_within_ten_seconds(every: float, state: BreakerState) -> None:
    subject = breaker(min_samples=20)
    feed(subject, *[FAIL] * 5, every=every)
    assert subject.state is state


@pytest.mark.parametrize("between", [OK, SLOW])
def test_anything_but_a_failure_ends_the_row(between: Sample) -> None:
    subject = breaker(min_samples=20)
    feed(subject, *[FAIL] * 4, between, *[FAIL] * 4)
    assert subject.state is CLOSED


def test_a_neutral_outcome_does_not_end_the_row() -> None:
    subject = breaker(min_samples=20)
    feed(subject, *[FAIL] * 4, NEUTRAL, FAIL)
    assert subject.state is OPEN


def test_half_of_at_least_five_failed() -> None:
    subject = breaker()
    feed(subject, FAIL, OK, FAIL, OK, every=3)
    assert subject.state is CLOSED
    feed(subject, FAIL, at=12)
    assert subject.state is OPEN


def test_less_than_half_failed() -> None:
    subject = breaker()
    feed(subject, *[OK, OK, FAIL] * 6, every=1)
    assert subject.state is CLOSED


def test_only_the_last_twenty_count() -> None:
    subject = breaker(fast_trip=100)
    feed(subject, *[OK] * 100, *[FAIL] * 9)
    assert subject.state is CLOSED
    feed(subject, FAIL)
    assert subject.state is OPEN


@pytest.mark.parametrize(("later", "state"), [(119, CLOSED), (120, OPEN)])
def test_samples_age(later: float, state: BreakerState) -> None:
    subject = breaker(fast_trip=100)
    feed(subject, *[OK] * 6)
    feed(subject, *[FAIL] * 5, at=later)
    assert subject.state is state


def test_four_of_five_slow() -> None:
    subject = breaker()
    feed(subject, OK, SLOW, SLOW, SLOW)
    assert subject.state is CLOSED
    feed(subject, SLOW)
    assert subject.state is OPEN


def test_failures_count_as_slow_too() -> None:
    subject = breaker(failure_rate=1.0)
    feed(subject, SLOW, FAIL, OK, FAIL, SLOW, every=3)
    assert subject.state is OPEN


def test_neutral_outcomes_are_no_samples() -> None:
    subject = breaker()
    feed(subject, *[NEUTRAL] * 50, *[FAIL] * 3, OK)
    assert subject.state is CLOSED


def test_a_disabled_breaker_never_opens() -> None:
    subject = breaker(enabled=False)
    feed(subject, *[FAIL] * 50, *[SLOW] * 50)
    assert subject.state is CLOSED


def test_a_row_is_the_last_failures_however_many_came_before() -> None:
    subject = breaker(min_samples=100, window=100)
    feed(subject, *[FAIL] * 6, at=1000, every=5)
    assert subject.state is CLOSED, "they are too far apart"
    feed(subject, *[FAIL] * 4, at=1036)
    assert subject.state is CLOSED
    feed(subject, FAIL, at=1037)
    assert subject.state is OPEN


def test_memory_is_that_of_the_window() -> None:
    subject = breaker(window=20)
    feed(subject, *[OK] * 100)
    assert len(subject._samples) == 20


# --- attempts under way ---


def watched(subject: Breaker, now: float) -> Permit:
    permit = subject.acquire(now, lease=LEASE, watch=True)
    assert permit is not None
    return permit


def test_attempts_that_hang_count_as_slow_until_they_end() -> None:
    subject = breaker()
    hanging = [watched(subject, 0) for _ in range(5)]
    hanging[0].settle(OK, 9.9)
    hanging[1].settle(OK, 9.9)
    assert subject.acquire(10, lease=LEASE) is not None, "of five, three hang and two were well"


def test_attempts_that_are_young_do_not_hang() -> None:
    subject = breaker()
    for _ in range(10):
        watched(subject, 0)
    assert subject.acquire(9.9, lease=LEASE) is not None


def test_a_hanging_cohort_opens_before_its_timeout() -> None:
    subject = breaker()
    hanging = [watched(subject, 0) for _ in range(5)]
    assert subject.acquire(10, lease=LEASE) is None
    assert subject.state is OPEN
    for permit in hanging:
        permit.settle(OK, 11)
    assert subject.state is OPEN, "what was under way is of an older generation"


def test_unwatched_attempts_may_take_their_time() -> None:
    subject = breaker()
    for _ in range(10):
        assert subject.acquire(0, lease=LEASE) is not None
    assert subject.acquire(100, lease=LEASE) is not None


def test_a_forgotten_stream_counts_no_longer_than_a_sample() -> None:
    subject = breaker()
    for _ in range(4):
        watched(subject, 0)
    assert subject.acquire(119, lease=LEASE) is not None
    watched(subject, 121)
    assert subject.acquire(131, lease=LEASE) is not None


@pytest.mark.parametrize(("later", "state"), [(119.9, OPEN), (120, CLOSED)])
def test_it_counts_as_long_as_a_sample_does(later: float, state: BreakerState) -> None:
    subject = breaker()
    for _ in range(5):
        watched(subject, 0)
    subject.acquire(later, lease=LEASE)
    assert subject.state is state


def test_what_has_ended_hangs_no_more() -> None:
    subject = breaker(window=5)
    for permit in [watched(subject, 0) for _ in range(5)]:
        permit.settle(OK, 1)
    assert subject.acquire(20, lease=LEASE) is not None


def test_attempts_that_hang_push_the_oldest_samples_out() -> None:
    subject = breaker()
    feed(subject, *[OK] * 20)
    for _ in range(16):
        watched(subject, 0)
    assert subject.acquire(10, lease=LEASE) is None, "of the last twenty, sixteen hang"


# --- permits ---


def test_only_the_first_settlement_counts() -> None:
    subject = breaker(fast_trip=2)
    permit = subject.acquire(0, lease=LEASE)
    assert permit is not None
    permit.settle(NEUTRAL, 0)
    for _ in range(10):
        permit.settle(FAIL, 0)
    feed(subject, FAIL)
    assert subject.state is CLOSED


def test_a_late_success_does_not_close() -> None:
    subject = breaker(successes_to_close=1)
    late = subject.acquire(0, lease=LEASE)
    feed(subject, *[FAIL] * 5)
    assert late is not None
    late.settle(OK, 1)
    assert subject.state is OPEN
    held = probe(subject, 5)
    assert subject.state is HALF_OPEN
    assert subject.acquire(5, lease=LEASE) is None, "the late result gave no lease back"
    held.settle(OK, 6)
    assert subject.state is CLOSED


def test_a_late_failure_does_not_open_again() -> None:
    subject = breaker(fast_trip=1)
    late = [subject.acquire(0, lease=LEASE) for _ in range(5)]
    feed(subject, FAIL)
    for now in (5, 6):
        probe(subject, now).settle(OK, now)
    for permit in late:
        assert permit is not None
        permit.settle(FAIL, 7)
    assert subject.state is CLOSED


def test_a_sample_without_permit_counts_while_closed() -> None:
    subject = breaker()
    leave = subject.acquire(0, lease=LEASE)
    assert leave is not None
    leave.settle(OK, 0)
    for _ in range(5):
        subject.record(FAIL, 0, leave)
    assert subject.state is OPEN
    until = subject.open_until
    subject.record(FAIL, 1, leave)
    assert subject.open_until == until


@pytest.mark.parametrize("sample", [FAIL, SLOW])
def test_a_probe_that_began_well_and_broke_opens_again(sample: Sample) -> None:
    subject = tripped()
    first = probe(subject, subject.open_until)
    first.settle(OK, subject.open_until)
    subject.record(NEUTRAL, 10, first)
    subject.record(OK, 10, first)
    assert subject.state is HALF_OPEN
    subject.record(sample, 10, first)
    assert (subject.state, subject.open_until > 10) == (OPEN, True)


def test_an_earlier_probe_that_broke_says_nothing_of_the_next() -> None:
    subject = tripped()
    first = probe(subject, subject.open_until)
    first.settle(OK, subject.open_until)
    second = probe(subject, subject.open_until)
    subject.record(FAIL, 10, first)
    assert subject.state is HALF_OPEN
    second.settle(OK, 10)
    assert subject.state is CLOSED


# --- open ---


def test_open_refuses_until_its_time() -> None:
    subject = tripped()
    assert subject.retry_at(0) == 5
    assert subject.acquire(4.999, lease=LEASE) is None
    assert subject.acquire(5, lease=LEASE) is not None


@pytest.mark.parametrize("dice", [0.0, 0.25, 0.999])
def test_the_open_time_is_spread_over_its_second_half(dice: float) -> None:
    subject = breaker(random=dice)
    feed(subject, *[FAIL] * 5)
    assert subject.open_until == pytest.approx(5 * (0.5 + dice / 2))


def test_the_open_time_grows_to_a_minute() -> None:
    subject = tripped()
    spans, now = [subject.open_until], subject.open_until
    for _ in range(8):
        probe(subject, now).settle(FAIL, now)
        spans.append(subject.open_until - now)
        now = subject.open_until
    assert spans == pytest.approx([min(60, 5 * 1.5**n) for n in range(9)])


@pytest.mark.parametrize(("later", "span"), [(119, 7.5), (120, 5)])
def test_the_open_time_starts_anew_after_two_minutes_closed(later: float, span: float) -> None:
    subject = tripped()
    for now in (5, 6):
        probe(subject, now).settle(OK, now)
    again = 6 + later
    feed(subject, *[FAIL] * 5, at=again)
    assert subject.open_until - again == pytest.approx(span)


# --- half-open ---


def test_one_probe_at_a_time() -> None:
    subject = tripped()
    granted = [permit for _ in range(500) if (permit := subject.acquire(5, lease=LEASE)) is not None]
    assert len(granted) == 1
    assert subject.retry_at(5) == 5 + LEASE


def test_two_good_probes_close() -> None:
    subject = tripped()
    probe(subject, 5).settle(OK, 6)
    assert subject.state is HALF_OPEN
    probe(subject, 6).settle(OK, 7)
    assert (subject.state, subject.open_until) == (CLOSED, 0)
    assert subject.retry_at(7) == 7
    feed(subject, *[FAIL] * 4, at=7)
    assert subject.state is CLOSED, "the samples from before are gone"


@pytest.mark.parametrize("sample", [FAIL, SLOW])
def test_one_bad_probe_opens(sample: Sample) -> None:
    subject = tripped()
    probe(subject, 5).settle(OK, 5)
    probe(subject, 5).settle(sample, 5)
    assert subject.state is OPEN
    assert subject.open_until == 5 + 7.5
    probe(subject, 12.5).settle(OK, 12.5)
    assert subject.state is HALF_OPEN, "the good probe from before does not count"


def test_a_neutral_probe_gives_its_lease_back() -> None:
    subject = tripped()
    probe(subject, 5).settle(NEUTRAL, 6)
    assert subject.state is HALF_OPEN
    probe(subject, 6)


@pytest.mark.parametrize(("lease", "ends"), [(8.0, 8), (600.0, 60)])
def test_a_lost_probe_is_given_up(lease: float, ends: float) -> None:
    subject = tripped()
    lost = probe(subject, 5, lease)
    assert subject.acquire(5 + ends - 0.1, lease=LEASE) is None
    assert subject.retry_at(6) == 5 + ends
    current = probe(subject, 5 + ends)
    lost.settle(FAIL, 5 + ends + 1)
    assert subject.state is HALF_OPEN, "the lost one is of an older generation"
    current.settle(OK, 5 + ends + 2)
    probe(subject, 5 + ends + 2).settle(OK, 5 + ends + 3)
    assert subject.state is CLOSED


def test_a_probe_is_out_since_it_was_granted() -> None:
    assert probe(tripped(), 7).started == 7


@pytest.mark.parametrize("began", [0.0, 1000.0])
def test_no_moment_of_the_clock_is_special(began: float) -> None:
    subject = breaker(open_seconds=0.5)
    feed(subject, *[FAIL] * 5, at=began)
    now = began + 0.5
    probe(subject, now).settle(NEUTRAL, now)
    probe(subject, now).settle(OK, now)
    probe(subject, now).settle(OK, now)
    assert subject.state is CLOSED


def test_late_failures_do_not_open_what_is_being_probed() -> None:
    """Attempts from before it opened come back while the third probe is out."""
    subject = breaker()
    late = [subject.acquire(0, lease=LEASE) for _ in range(5)]
    feed(subject, *[FAIL] * 5)
    now = subject.open_until
    for _ in range(3):
        probe(subject, now, lease=1)
        now += 1
    probe(subject, now)
    for permit in late:
        assert permit is not None
        permit.settle(FAIL, now)
    assert subject.state is HALF_OPEN


def test_a_probe_that_comes_back_in_another_half_open_time_says_nothing() -> None:
    subject = tripped()
    lost = probe(subject, 5, lease=1)
    probe(subject, 6).settle(FAIL, 6)
    again = subject.open_until
    probe(subject, again)
    lost.settle(OK, again)
    assert subject.acquire(again, lease=LEASE) is None, "the one probe of now is still out"


# --- panic, operators, listeners ---


def test_panic_is_once_a_second() -> None:
    subject = tripped()
    first = subject.panic(1, lease=LEASE)
    assert first is not None
    assert first.probe
    assert subject.panic(1, lease=LEASE) is None, "half-open, and the probe is out"
    first.settle(FAIL, 1.2)
    assert subject.state is OPEN
    assert subject.panic(1.99, lease=LEASE) is None
    assert subject.panic(2, lease=LEASE) is not None


def test_a_panic_probe_that_succeeds_is_enough() -> None:
    """There was nothing else to try: not to trust it would be to fail calls for certain."""
    subject = tripped()
    found = subject.panic(1, lease=LEASE)
    assert found is not None
    found.settle(OK, 1.5)
    assert (subject.state, subject.open_until) == (CLOSED, 0)


def test_a_panic_probe_that_teaches_nothing_is_as_if_it_had_not_been() -> None:
    heard: list[tuple[BreakerState, float, bool]] = []
    subject = breaker(on_change=into(heard), fast_trip=1)
    permit = subject.acquire(0, lease=LEASE)
    assert permit is not None
    permit.settle(Sample.FAIL, 0)
    probe = subject.panic(1, lease=LEASE)
    assert probe is not None
    probe.settle(Sample.NEUTRAL, 2)
    assert (subject.state, subject.open_until) == (BreakerState.OPEN, 5)
    assert heard == [(OPEN, 5, True), (HALF_OPEN, 0, False), (OPEN, 3, False)], "no news the second time"
    again = subject.panic(2, lease=LEASE)
    assert again is not None, "somebody else may have the second's probe"
    probe.settle(Sample.OK, 2)
    assert subject.state is BreakerState.HALF_OPEN
    again.settle(Sample.NEUTRAL, 5)
    assert subject.state is BreakerState.HALF_OPEN, "by then its time has come anyway"


def test_one_that_nobody_hears_goes_on_being_open_too() -> None:
    subject = Breaker(BreakerPolicy(fast_trip=1), lambda: 1.0)
    permit = subject.acquire(0, lease=LEASE)
    assert permit is not None
    permit.settle(Sample.FAIL, 0)
    probe = subject.panic(1, lease=LEASE)
    assert probe is not None
    probe.settle(Sample.NEUTRAL, 2)
    assert subject.state is BreakerState.OPEN


def test_what_may_be_forgotten() -> None:
    subject = Breaker(BreakerPolicy(fast_trip=1), lambda: 1.0)
    assert subject.forgettable(0)
    permit = subject.acquire(0, lease=LEASE)
    assert permit is not None
    permit.settle(Sample.FAIL, 0)
    assert not subject.forgettable(5 + RESET_AFTER - 0.01)
    assert subject.forgettable(5 + RESET_AFTER)
    probe = subject.acquire(5, lease=LEASE)
    assert probe is not None
    assert not subject.forgettable(5 + RESET_AFTER)
    assert subject.forgettable(5 + LEASE + RESET_AFTER)
    subject.force_open(0)
    assert not subject.forgettable(10**9)


def test_panic_is_for_the_open() -> None:
    assert breaker().panic(0, lease=LEASE) is None


def test_a_panic_probe_is_heard_of() -> None:
    heard: list[tuple[BreakerState, float, bool]] = []
    subject = breaker(on_change=into(heard), open_seconds=0.5)
    feed(subject, *[FAIL] * 5)
    assert subject.panic(0.25, lease=LEASE) is not None
    assert heard == [(OPEN, 0.5, True), (HALF_OPEN, 0.0, False)], "it lets a probe through, though its time is not over"


def test_forced_open_until_reset() -> None:
    subject = breaker()
    subject.force_open(0)
    assert subject.acquire(10_000, lease=LEASE) is None
    assert subject.panic(10_000, lease=LEASE) is None
    assert subject.retry_at(10_000) is None
    subject.reset(10_000)
    assert subject.state is CLOSED
    feed(subject, *[FAIL] * 4, at=10_000)
    assert subject.state is CLOSED
    feed(subject, FAIL, at=10_000)
    assert subject.open_until - 10_000 == 5, "a reset forgets how often it was open"


def test_listeners_hear_each_transition_once() -> None:
    heard: list[tuple[BreakerState, float, bool]] = []
    subject = breaker(on_change=into(heard))
    feed(subject, *[FAIL] * 5)
    probe(subject, 5).settle(FAIL, 5)
    for _ in range(2):
        probe(subject, 12.5).settle(OK, 12.5)
    opened, closed = [(OPEN, 5, True), (HALF_OPEN, 0, False)], (CLOSED, 0, True)
    assert heard == [*opened, (OPEN, 7.5, True), (HALF_OPEN, 0, False), closed]


def test_what_an_operator_opens_is_no_news_and_what_one_resets_is() -> None:
    heard: list[tuple[BreakerState, float, bool]] = []
    subject = breaker(on_change=into(heard))
    subject.force_open(0)
    subject.reset(1)
    assert heard == [(OPEN, 5, False), (CLOSED, 0, True)]


# --- hearsay ---


def following(until: float = 10.0, **policy: Any) -> Breaker:
    """Open by another process's word, from 0 on."""
    subject = breaker(**policy)
    assert subject.adopt(0, until)
    return subject


def test_open_by_another_processs_word_and_then_half_open_as_usual() -> None:
    heard: list[tuple[BreakerState, float, bool]] = []
    subject = breaker(on_change=into(heard))
    assert subject.adopt(1, 8)
    assert (subject.state, subject.hearsay, subject.retry_at(1)) == (OPEN, True, 8)
    assert heard == [(OPEN, 7, False)], "it is no news of ours"
    assert subject.acquire(7.9, lease=LEASE) is None
    for _ in range(2):
        assert subject.hearsay
        probe(subject, 8).settle(OK, 8)
    assert (subject.state, subject.hearsay) == (CLOSED, False)
    assert heard[1:] == [(HALF_OPEN, 0, False), (CLOSED, 0, True)]


def test_a_probe_of_our_own_that_fails_is_our_own_evidence() -> None:
    heard: list[tuple[BreakerState, float, bool]] = []
    subject = breaker(on_change=into(heard))
    subject.adopt(0, 3)
    probe(subject, 3).settle(FAIL, 4)
    assert (subject.state, subject.open_until, subject.hearsay) == (OPEN, 9, False), "the first of its own"
    assert heard[-1] == (OPEN, 5, True)
    assert not subject.adopt(5, 60)
    subject.retract(5)
    assert (subject.state, subject.open_until) == (OPEN, 9)


def test_what_it_opened_itself_is_left_alone() -> None:
    subject = tripped()
    assert not subject.adopt(1, 60)
    assert subject.open_until == 5
    out = probe(subject, 5)
    assert not subject.adopt(5, 60)
    subject.retract(5)
    assert (subject.state, out.stale) == (HALF_OPEN, False)


def test_a_word_taken_back_closes_with_no_memory() -> None:
    heard: list[tuple[BreakerState, float, bool]] = []
    subject = breaker(on_change=into(heard))
    feed(subject, *[FAIL] * 4)
    subject.adopt(0, 10)
    subject.retract(1)
    assert (subject.state, subject.open_until, subject.hearsay) == (CLOSED, 0, False)
    assert heard[1:] == [(CLOSED, 0, False)]
    feed(subject, *[FAIL] * 4, at=1)
    assert subject.state is CLOSED
    feed(subject, FAIL, at=1)
    assert subject.open_until == 6, "and it was never open by itself before"
    subject = following(10)
    probe(subject, 10)
    subject.retract(10)
    assert subject.state is CLOSED, "half-open, too"
    subject.retract(11)
    assert subject.state is CLOSED


def test_a_new_word_holds_instead_of_the_old_one() -> None:
    heard: list[tuple[BreakerState, float, bool]] = []
    subject = breaker(on_change=into(heard))
    subject.adopt(0, 10)
    for until in (20, 15):
        assert subject.adopt(5, until)
        assert (subject.state, subject.open_until) == (OPEN, until)
    assert len(heard) == 1
    probe(subject, 15)
    assert subject.adopt(16, 25)
    assert (subject.state, subject.open_until) == (OPEN, 25), "somebody saw it fail again"


def test_no_word_is_followed_for_ever() -> None:
    subject = following(50)
    assert subject.adopt(40, 200)
    assert subject.open_until == HEARSAY_SECONDS
    assert not subject.adopt(HEARSAY_SECONDS, 300)
    probe(subject, HEARSAY_SECONDS)
    assert not subject.adopt(HEARSAY_SECONDS, 300)
    assert subject.state is HALF_OPEN, "now it sees for itself"
    assert not breaker().adopt(5, 5), "over already"


def test_each_stretch_begins_when_it_was_closed() -> None:
    subject = following(50)
    subject.retract(40)
    assert subject.adopt(50, 1000)
    assert subject.open_until == 50 + HEARSAY_SECONDS


def test_disabled_and_forced_breakers_heed_nobody() -> None:
    subject = breaker(enabled=False)
    assert not subject.adopt(0, 10)
    assert subject.state is CLOSED
    subject = following(10)
    subject.force_open(1)
    assert not subject.adopt(2, 5)
    subject.retract(2)
    assert (subject.state, subject.retry_at(100), subject.hearsay) == (OPEN, None, False)


def test_an_answer_that_comes_in_meanwhile_counts_for_more() -> None:
    subject = breaker()
    before = subject.acquire(0, lease=LEASE)
    late = subject.acquire(0, lease=LEASE)
    assert before is not None
    assert late is not None
    subject.adopt(1, 30)
    late.settle(FAIL, 2)
    assert subject.state is OPEN
    before.settle(OK, 3)
    assert (subject.state, subject.good_at) == (CLOSED, 3)
    again = subject.acquire(3, lease=LEASE)
    assert again is not None
    subject.adopt(4, 30)
    subject.retract(5)
    now_closed = subject.acquire(5, lease=LEASE)
    assert now_closed is not None
    again.settle(OK, 6)
    assert not now_closed.stale, "closed already: nothing to do"


def test_a_probe_under_way_when_others_saw_failures_counts_if_it_succeeds() -> None:
    for sample, state in ((FAIL, OPEN), (OK, CLOSED)):
        subject = following(10)
        out = probe(subject, 10)
        subject.adopt(11, 40)
        out.settle(sample, 12)
        assert subject.state is state


def test_an_answer_from_before_its_own_opening_says_nothing_even_if_it_goes_by_hearsay_since() -> None:
    subject = breaker()
    early = subject.acquire(0, lease=LEASE)
    assert early is not None
    feed(subject, *[FAIL] * 5)
    subject.defer(probe(subject, 5), 5, 6)
    early.settle(OK, 5.5)
    assert (subject.state, subject.hearsay) == (HALF_OPEN, True)


def test_while_another_process_probes_nobody_does_here() -> None:
    subject = tripped()
    out = probe(subject, 5)
    assert subject.leased_until == 5 + LEASE
    subject.defer(out, 5, 6)
    assert (subject.state, subject.hearsay, subject.retry_at(5)) == (HALF_OPEN, True, 6)
    assert subject.acquire(5.9, lease=LEASE) is None
    out.settle(OK, 5.9)
    assert (subject.state, subject.hearsay) == (HALF_OPEN, True), "it was never sent"
    again = probe(subject, 6)
    out.breaker.defer(out, 6, 100)
    assert not again.stale, "only once"
    subject.retract(6)
    assert subject.state is CLOSED, "the other one's probe succeeded"
    subject.defer(again, 6, 100)
    assert (subject.state, subject.hearsay) == (CLOSED, False), "too late"


def test_a_probe_that_was_made_is_nobody_elses() -> None:
    subject = tripped()
    out = probe(subject, 5)
    out.settle(OK, 5)
    subject.defer(out, 5, 6)
    probe(subject, 5).settle(OK, 5)
    assert subject.state is CLOSED


def test_who_waits_for_anothers_probe_is_open_again_when_that_fails() -> None:
    subject = tripped()
    subject.defer(probe(subject, 5), 5, 6)
    assert subject.adopt(5.5, 12)
    assert (subject.state, subject.open_until) == (OPEN, 12)


def test_waiting_for_others_begins_no_new_stretch() -> None:
    subject = following(50)
    subject.defer(probe(subject, 50), 50, 51)
    assert subject.adopt(55, 1000)
    assert subject.open_until == HEARSAY_SECONDS
    subject.defer(probe(subject, HEARSAY_SECONDS), HEARSAY_SECONDS, HEARSAY_SECONDS + 1)
    assert not subject.adopt(HEARSAY_SECONDS, 1000)


def test_a_panic_probe_that_another_process_makes() -> None:
    subject = tripped()
    out = subject.panic(1, lease=LEASE)
    assert out is not None
    subject.defer(out, 1.5, 2.5)
    assert (subject.state, subject.open_until, subject.hearsay) == (OPEN, 5, True)
    assert subject.panic(2.4, lease=LEASE) is None, "not again in the same second"
    out = subject.panic(2.5, lease=LEASE)
    assert out is not None
    subject.defer(out, 5, 6)
    assert (subject.state, subject.retry_at(5)) == (HALF_OPEN, 6), "by then its time is over anyway"


def test_what_was_seen_to_work_last() -> None:
    subject = breaker()
    assert subject.good_at == -math.inf
    feed(subject, OK, FAIL, SLOW, NEUTRAL, every=1)
    assert subject.good_at == 0
    subject.reset(7)
    assert subject.good_at == 7, "an operator should know"


# --- any history ---

SMALL = BreakerPolicy(
    window=6,
    window_seconds=20,
    min_samples=4,
    fast_trip=3,
    fast_trip_seconds=2,
    slow_first_token=4,
    open_seconds=2,
    open_max=5,
    lease=6,
)


class Reference:
    """Remembers everything and looks at all of it each time."""

    def __init__(self) -> None:
        self.state = "closed"
        self.history: list[tuple[float, Sample]] = []
        """Samples since it was closed."""
        self.valid: dict[int, tuple[bool, float, bool]] = {}
        """Permits whose outcome counts: is it a probe, since when, is it watched."""
        self.forced = False
        self.opened = 0
        self.closed_at = 0.0
        self.open_until = 0.0
        self.leased_until = 0.0
        self.good_probes = 0
        self.probe: int | None = None
        """The last one since the state changed."""
        self.enough = 0
        """Good probes that it takes."""
        self.panicked = -math.inf
        self.dice = 0.0
        self.hearsay: float | None = None
        """Since when it goes by others' word."""
        self.given = 0
        """The last permit."""
        self.before = 0
        """The last permit that was given before it opened by itself."""
        self.passed_on: set[int] = set()
        """Probes that others made instead."""

    def bad(self, now: float) -> bool:
        row = self.history[-SMALL.fast_trip :]
        failed = len(row) == SMALL.fast_trip and all(sample is FAIL for _, sample in row)
        if failed and now - row[0][0] <= SMALL.fast_trip_seconds:
            return True
        seen = [sample for when, sample in self.history[-SMALL.window :] if now - when < SMALL.window_seconds]
        for _, started, watched in self.valid.values():
            if watched and SMALL.slow_first_token <= now - started < SMALL.window_seconds:
                seen.append(SLOW)
        seen = seen[-SMALL.window :]
        failures, slow = seen.count(FAIL), seen.count(FAIL) + seen.count(SLOW)
        return len(seen) >= SMALL.min_samples and (failures >= 0.5 * len(seen) or slow >= 0.8 * len(seen))

    def go(self, state: str, now: float) -> None:
        before, self.state = self.state, state
        self.hearsay = self.hearsay if state == "half_open" else None
        self.valid, self.good_probes, self.leased_until, self.probe = {}, 0, 0.0, None
        if state == "open":
            if before == "closed" and now - self.closed_at >= 120:
                self.opened = 0
            self.open_until = now + min(5, 2 * 1.5**self.opened) * (0.5 + self.dice / 2)
            self.opened += 1
            self.before = self.given
        if state == "closed":
            self.history, self.closed_at, self.open_until = [], now, 0.0

    def judge(self, now: float) -> None:
        if self.state == "closed" and self.bad(now):
            self.go("open", now)

    def adopt(self, until: float, now: float) -> bool:
        since = now if self.state == "closed" else self.hearsay
        if since is None or min(until, since + 60) <= now:
            return False
        if self.state != "open":
            self.valid, self.good_probes, self.leased_until, self.probe = {}, 0, 0.0, None
        self.state, self.hearsay, self.open_until = "open", since, min(until, since + 60)
        return True

    def retract(self, now: float) -> None:
        if self.hearsay is not None:
            self.go("closed", now)

    def defer(self, number: int, now: float, until: float) -> None:
        if number not in self.valid:
            return
        self.passed_on.add(number)
        self.hearsay = now if self.hearsay is None else self.hearsay
        self.valid, self.leased_until = {}, until
        if self.enough == 1 and now < self.open_until:
            self.state, self.probe, self.panicked = "open", None, now

    def lease(self, number: int, now: float, lease: float) -> str:
        self.given = number
        self.valid, self.probe = {number: (True, now, False)}, number
        self.enough = SMALL.successes_to_close
        self.leased_until = now + min(lease, SMALL.lease)
        return "probe"

    def acquire(self, number: int, now: float, lease: float, watch: bool) -> str | None:
        if any(watched for _, _, watched in self.valid.values()):
            self.judge(now)
        if self.state == "open" and not self.forced and now >= self.open_until:
            self.go("half_open", now)
        if self.state == "closed":
            self.given = number
            self.valid[number] = (False, now, watch)
            return "leave"
        return self.lease(number, now, lease) if self.state == "half_open" and now >= self.leased_until else None

    def panic(self, number: int, now: float, lease: float) -> str | None:
        if self.state != "open" or self.forced or now < self.panicked + 1:
            return None
        self.panicked = now
        self.go("half_open", now)
        got = self.lease(number, now, lease)
        self.enough = 1
        return got

    def record(self, number: int, sample: Sample, now: float) -> None:
        if self.state == "closed":
            self.sample(sample, now)
        elif number == self.probe and sample in (FAIL, SLOW):
            self.go("open", now)

    def sample(self, sample: Sample, now: float) -> None:
        if self.state == "closed" and sample is not NEUTRAL:
            self.history.append((now, sample))
            if sample is not OK:
                self.judge(now)

    def settle(self, number: int, sample: Sample, now: float) -> None:
        if number in self.passed_on:
            return
        if number not in self.valid:
            if sample is OK and self.hearsay is not None and number > self.before:
                self.go("closed", now)
            return
        is_probe, _, _ = self.valid.pop(number)
        if not is_probe:
            self.sample(sample, now)
            return
        self.leased_until = 0.0
        if sample is OK:
            self.good_probes += 1
            if self.good_probes >= self.enough:
                self.go("closed", now)
        elif sample is not NEUTRAL:
            self.go("open", now)
        elif self.enough == 1 and now < self.open_until:
            self.state, self.probe, self.panicked = "open", None, -math.inf

    def retry_at(self, now: float) -> float | None:
        if self.forced:
            return None
        return {"closed": now, "open": self.open_until, "half_open": max(now, self.leased_until)}[self.state]


class BreakerMachine(RuleBasedStateMachine):
    """Whatever happens, the breaker does what the reference does."""

    permits = Bundle("permits")
    finished = Bundle("finished")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.count = 0
        self.reference = Reference()
        self.subject = Breaker(SMALL, lambda: self.reference.dice)
        self.probes: list[tuple[float, Permit]] = []

    @rule(quarters=st.sampled_from([1, 2, 4, 8, 12, 20, 40, 100, 500]))
    def wait(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(dice=st.sampled_from([0.0, 0.25, 0.5]))
    def roll(self, dice: float) -> None:
        self.reference.dice = dice

    @rule(target=permits, lease=st.sampled_from([2.0, 100.0]), watch=st.booleans())
    def acquire(self, lease: float, watch: bool) -> tuple[int, Permit | None]:
        self.count += 1
        expected = self.reference.acquire(self.count, self.now, lease, watch)
        return self.got(self.subject.acquire(self.now, lease=lease, watch=watch), expected, lease)

    @rule(target=permits, lease=st.sampled_from([2.0, 100.0]))
    def panic(self, lease: float) -> tuple[int, Permit | None]:
        self.count += 1
        expected = self.reference.panic(self.count, self.now, lease)
        return self.got(self.subject.panic(self.now, lease=lease), expected, lease)

    def got(self, permit: Permit | None, expected: str | None, lease: float) -> tuple[int, Permit | None]:
        assert (None if permit is None else "probe" if permit.probe else "leave") == expected
        if permit is not None and permit.probe:
            assert all(other.settled or until <= self.now for until, other in self.probes), "two probes at a time"
            self.probes.append((self.now + min(lease, SMALL.lease), permit))
        return self.count, permit

    @rule(target=finished, held=consumes(permits), sample=st.sampled_from([FAIL, FAIL, SLOW, OK, OK, NEUTRAL]))
    def settle(self, held: tuple[int, Permit | None], sample: Sample) -> tuple[int, Permit | None]:
        number, permit = held
        if permit is not None:
            self.reference.settle(number, sample, self.now)
            permit.settle(sample, self.now)
        return held

    @rule(held=finished, sample=st.sampled_from(Sample))
    def settle_again(self, held: tuple[int, Permit | None], sample: Sample) -> None:
        if held[1] is not None:
            held[1].settle(sample, self.now)

    @rule(held=finished, samples=st.lists(st.sampled_from([FAIL, FAIL, SLOW, OK, NEUTRAL]), max_size=6))
    def record(self, held: tuple[int, Permit | None], samples: list[Sample]) -> None:
        number, permit = held
        for sample in samples if permit is not None else ():
            self.reference.record(number, sample, self.now)
            self.subject.record(sample, self.now, permit)

    @rule(seconds=st.sampled_from([0.25, 2.0, 20.0, 100.0]))
    def adopt(self, seconds: float) -> None:
        expected = self.reference.adopt(self.now + seconds, self.now)
        assert self.subject.adopt(self.now, self.now + seconds) == expected
        if expected:
            self.probes.clear()  # that they are the fleet's only ones is not for the breaker to see to

    @rule()
    def retract(self) -> None:
        self.reference.retract(self.now)
        self.subject.retract(self.now)

    @rule(target=finished, held=consumes(permits))
    def defer(self, held: tuple[int, Permit | None]) -> tuple[int, Permit | None]:
        number, permit = held
        if permit is None or not permit.probe:
            return self.settle(held, NEUTRAL)
        self.reference.defer(number, self.now, self.now + 1)
        permit.breaker.defer(permit, self.now, self.now + 1)
        return held

    @rule()
    def recover(self) -> None:
        """Good probes, as many as it takes."""
        for _ in range(2):
            self.now = max(self.now, self.subject.retry_at(self.now) or self.now)
            self.settle(self.acquire(lease=2.0, watch=False), OK)

    @rule()
    def force_open(self) -> None:
        self.reference.forced = True
        self.reference.go("open", self.now)
        self.subject.force_open(self.now)
        self.probes.clear()

    @rule()
    def reset(self) -> None:
        self.reference.forced = False
        self.reference.opened = 0
        self.reference.go("closed", self.now)
        self.subject.reset(self.now)
        self.probes.clear()

    @invariant()
    def the_same(self) -> None:
        if self.subject.state is CLOSED:
            self.probes.clear()  # another's word, or a late answer, may have closed it while one was out
        assert str(self.subject.state) == self.reference.state
        assert self.subject.open_until == self.reference.open_until
        assert self.subject.retry_at(self.now) == self.reference.retry_at(self.now)
        assert self.subject.hearsay == (self.reference.hearsay is not None)


TestAnyHistory = BreakerMachine.TestCase
TestAnyHistory.settings = settings(stateful_step_count=50)
