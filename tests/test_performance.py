"""Scores: decayed means of what attempts have shown, and plain values from which they come back."""

from __future__ import annotations

import math
from typing import Any

import attrs
import orjson
import pytest

from routerkit.core.needs import EXPECTED_ANSWER
from routerkit.core.performance import (
    FORGOTTEN,
    HALF_LIFE,
    MAX_RATE,
    MAX_TARGETS,
    MAX_WEIGHT,
    VERSION,
    Score,
    Scores,
)
from routerkit.testing import VirtualRuntime
from routerkit.types.route import Target

A, B, C = Target("here", "a/one"), Target("here", "b/two"), Target("there", "a/one")


class World:
    """Scores, and the time that passes for them."""

    def __init__(self) -> None:
        self.runtime = VirtualRuntime()
        self.scores = Scores(self.runtime)

    def stream(
        self, target: Target = A, first_token: float = 0.5, duration: float = 2.5, tokens: int | None = 100
    ) -> None:
        self.scores.observe(target, ok=True, first_token=first_token, duration=duration, tokens=tokens)

    def whole(self, target: Target = A, duration: float = 2.0, tokens: int | None = 100) -> None:
        self.scores.observe(target, ok=True, first_token=None, duration=duration, tokens=tokens)

    def failure(self, target: Target = A, duration: float = 1.0) -> None:
        self.scores.observe(target, ok=False, first_token=None, duration=duration, tokens=None)

    def score(self, target: Target = A) -> Score:
        found = self.scores.get(target)
        assert found is not None
        return found


@pytest.fixture
def world() -> World:
    return World()


# --- what a score says ---


def test_nobody_knows_a_target_that_was_not_asked(world: World) -> None:
    world.stream(A)
    assert world.scores.get(B) is None
    assert world.scores.get(C) is None


def test_a_stream(world: World) -> None:
    world.stream(first_token=0.5, duration=2.5, tokens=100)
    assert world.score() == Score(0.5, 50.0, 1.0, 1.0, 0.5 + EXPECTED_ANSWER / 50)


def test_without_a_stream_the_first_token_comes_with_the_last(world: World) -> None:
    """And what a typical answer takes does not count that time twice."""
    world.whole(duration=2.0, tokens=100)
    assert world.score() == Score(2.0, 50.0, 1.0, 1.0, EXPECTED_ANSWER / 50)


def test_streams_and_whole_answers_of_one_speed_give_one_score(world: World) -> None:
    """With typical answers, what a target takes is the same either way, and so is what both together say."""
    for _ in range(10):
        world.stream(A, 1.0, 6.0, EXPECTED_ANSWER)
        world.whole(B, 6.0, EXPECTED_ANSWER)
    for _ in range(5):
        world.stream(C, 1.0, 6.0, EXPECTED_ANSWER)
        world.whole(C, 6.0, EXPECTED_ANSWER)
    assert [world.score(target).expected_seconds for target in (A, B, C)] == pytest.approx([6.0, 6.0, 6.0])
    assert world.score(C).first_token == pytest.approx(3.5)


def test_without_counts_the_mean_answer_is_typical(world: World) -> None:
    world.stream(duration=2.0, tokens=None)
    world.stream(duration=4.0, tokens=None)
    assert world.score() == Score(0.5, None, 1.0, 2.0, 3.0)


def test_answers_without_counts_say_nothing_about_the_rate(world: World) -> None:
    for tokens in (None, 100, 0, None):
        world.whole(duration=2.0, tokens=tokens)
    assert world.score().tokens_per_second == pytest.approx(50)


def test_the_rate_is_that_of_all_tokens_together(world: World) -> None:
    world.whole(duration=1.0, tokens=5)
    world.whole(duration=9.0, tokens=995)
    assert world.score().tokens_per_second == pytest.approx(100)


def test_failures_count_for_success_alone(world: World) -> None:
    world.whole(duration=2.0, tokens=100)
    for _ in range(3):
        world.failure(duration=50.0)
    score = world.score()
    assert (score.first_token, score.tokens_per_second, score.success) == (2.0, 50.0, 0.25)
    assert score.samples == 4
    assert score.expected_seconds == pytest.approx(4 * EXPECTED_ANSWER / 50)


def test_who_never_answered_is_expected_never_to_answer(world: World) -> None:
    world.failure()
    assert world.score() == Score(None, None, 0.0, 1.0, math.inf)


def test_a_first_answer_after_failures_counts_in_full(world: World) -> None:
    world.failure()
    world.failure()
    world.stream(first_token=0.5)
    assert world.score().first_token == pytest.approx(0.5)
    assert world.score().success == pytest.approx(1 / 3)


def test_what_comes_in_one_piece_has_no_rate_to_boast_of(world: World) -> None:
    world.stream(first_token=2.0, duration=2.0, tokens=100)
    assert world.score().tokens_per_second == pytest.approx(MAX_RATE)
    assert world.score().expected_seconds == pytest.approx(2.0 + EXPECTED_ANSWER / MAX_RATE)


@pytest.mark.parametrize(
    ("first_token", "duration", "expected"),
    [(-1.0, 2.0, 0.0), (5.0, 2.0, 2.0), (None, -1.0, 0.0), (None, 1e9, 86_400.0)],
)
def test_times_that_cannot_be_are_the_nearest_that_can(
    world: World, first_token: float | None, duration: float, expected: float
) -> None:
    world.scores.observe(A, ok=True, first_token=first_token, duration=duration, tokens=None)
    assert world.score().first_token == expected


# --- how it fades ---


def test_weights_halve_and_means_stay(world: World) -> None:
    world.stream()
    world.stream()
    before = world.score()
    world.runtime.advance(HALF_LIFE)
    after = world.score()
    assert after.samples == pytest.approx(1.0)
    assert (after.first_token, after.success) == (before.first_token, before.success)


def test_an_old_attempt_weighs_less_than_a_new_one(world: World) -> None:
    world.stream(first_token=4.0, duration=9.0)
    world.runtime.advance(HALF_LIFE)
    world.stream(first_token=1.0, duration=9.0)
    assert world.score().samples == pytest.approx(1.5)
    assert world.score().first_token == pytest.approx((4.0 * 0.5 + 1.0) / 1.5)


def test_what_nobody_asks_is_forgotten(world: World) -> None:
    world.stream()
    world.runtime.advance(HALF_LIFE * math.log2(1 / FORGOTTEN) - 1)
    assert world.scores.get(A) is not None
    world.runtime.advance(2)
    assert world.scores.get(A) is None
    assert world.scores.to_dict()["targets"] == []


def test_a_busy_target_is_judged_by_its_last_attempts(world: World) -> None:
    for _ in range(1000):
        world.stream(first_token=1.0)
    assert world.score().samples == MAX_WEIGHT
    for _ in range(200):
        world.failure()
    assert world.score().success < 0.02


def test_memory_does_not_grow_with_models(world: World) -> None:
    world.stream(A)
    world.stream(B)
    world.stream(A)
    for number in range(MAX_TARGETS - 1):
        world.stream(Target("here", f"x/{number}"))
    assert world.scores.get(B) is None
    assert world.scores.get(A) is not None
    assert len(world.scores.to_dict()["targets"]) == MAX_TARGETS


def test_a_forked_child_has_a_lock_of_its_own(world: World) -> None:
    world.scores._lock.__enter__()
    world.scores.forget_lock()
    world.stream()
    assert world.score().samples == 1


def test_changes_are_counted(world: World) -> None:
    world.stream()
    world.failure(B)
    world.scores.load(World().scores.to_dict())
    assert world.scores.changes == 2


# --- a fleet ---


def test_what_others_saw_and_what_was_seen_here_make_one_score(world: World) -> None:
    """As if one process had seen all of it."""
    world.scores.share()
    other, everything = elsewhere(world), World()
    for first_token in (0.5, 1.0):
        other.stream(first_token=first_token)
        everything.stream(first_token=first_token)
    for each in (other, everything):
        each.failure()
        each.whole(tokens=None)
    for each in (world, everything):
        each.stream(first_token=2.0, tokens=300)
        each.failure()
    world.scores.load(other.scores.to_dict())
    assert attrs.astuple(world.score()) == pytest.approx(attrs.astuple(everything.score()))


def test_what_was_seen_here_is_entered_until_it_is_told(world: World) -> None:
    other = elsewhere(world)
    other.stream(first_token=1.0)
    world.scores.share()
    assert not world.scores.untold
    world.stream(first_token=2.0)
    assert world.scores.untold
    for _ in range(2):
        world.scores.load(other.scores.to_dict())
        assert world.score().first_token == pytest.approx(1.5)
    assert world.scores.tell() == world.scores.to_dict()
    assert not world.scores.untold
    world.scores.share()
    world.scores.load(other.scores.to_dict())
    assert world.score().first_token == pytest.approx(1.0)  # it was told: whoever tells us less has lost it


def test_what_is_newer_by_more_than_clocks_differ_is_kept(world: World) -> None:
    other = elsewhere(world)
    world.scores.share()
    other.stream(first_token=1.0)
    world.runtime.advance(2)
    world.stream(first_token=2.0)
    world.scores.tell()
    world.scores.load(other.scores.to_dict())
    assert world.score().first_token == 2.0


def test_a_busy_fleet_is_judged_by_its_last_attempts_too(world: World) -> None:
    world.scores.share()
    other = elsewhere(world)
    for _ in range(100):
        other.failure()
        world.stream(first_token=1.0)
    world.scores.load(other.scores.to_dict())
    assert world.score() == Score(1.0, pytest.approx(100 / 1.5), 1.0, MAX_WEIGHT, pytest.approx(1 + 500 * 1.5 / 100))


def test_what_was_seen_long_ago_adds_nothing(world: World) -> None:
    world.scores.share()
    world.stream(first_token=2.0)
    world.runtime.advance(HALF_LIFE * 1100)
    other = elsewhere(world)
    other.stream(first_token=1.0)
    world.scores.load(other.scores.to_dict())
    assert (world.score().first_token, world.score().samples) == (1.0, 1.0)


def test_numbers_that_fade_to_nothing_are_no_trouble(world: World) -> None:
    world.scores.share()
    world.whole(duration=2.0, tokens=100)
    for _ in range(40_000):
        world.whole(duration=2.0, tokens=None)
    assert world.score().tokens_per_second == pytest.approx(50)
    for _ in range(40_000):
        world.failure()
    assert 0 < world.score().success < 1e-300
    world.scores.load({"version": VERSION, "targets": [{**ENTRY, "success": 1.0}]})
    assert world.score().success == 0.0
    assert world.score().expected_seconds == math.inf


def test_a_forked_child_tells_nothing_that_its_parent_tells(world: World) -> None:
    world.scores.share()
    world.stream()
    world.scores.forget_lock()
    assert not world.scores.untold
    assert world.score().samples == 1


# --- plain values ---


def elsewhere(world: World, *, started: float = 7.0, later: float = 0.0) -> World:
    """The scores of another process, whose monotonic clock reads something else, so many seconds later."""
    other = World()
    other.runtime = VirtualRuntime(start=started, wall=world.runtime.wall() + later)
    other.scores = Scores(other.runtime)
    return other


def test_scores_survive_a_restart(world: World) -> None:
    world.stream(A)
    world.failure(A)
    world.whole(B)
    other = elsewhere(world, later=HALF_LIFE)
    assert other.scores.load(orjson.loads(orjson.dumps(world.scores.to_dict()))) == 0
    world.runtime.advance(HALF_LIFE)
    for target in (A, B):
        ours, theirs = world.score(target), other.score(target)
        assert theirs.samples == pytest.approx(ours.samples)
        assert (theirs.first_token, theirs.success) == (ours.first_token, ours.success)
        assert theirs.expected_seconds == ours.expected_seconds


def test_a_score_that_was_taken_over_goes_on(world: World) -> None:
    world.stream(first_token=1.0, duration=9.0)
    other = elsewhere(world)
    other.scores.load(world.scores.to_dict())
    other.stream(first_token=2.0, duration=9.0)
    assert other.score().first_token == pytest.approx(1.5)


def test_what_is_newer_counts(world: World) -> None:
    world.stream(first_token=1.0)
    other = elsewhere(world, later=10)
    other.stream(first_token=2.0)
    world.runtime.advance(20)
    world.stream(B, first_token=3.0, duration=9.0)
    theirs = other.scores.to_dict()
    ours = world.scores.to_dict()
    world.scores.load(theirs)
    assert [world.score(target).first_token for target in (A, B)] == [2.0, 3.0]
    other.runtime.advance(10)
    other.scores.load(ours)
    assert [other.score(target).first_token for target in (A, B)] == [2.0, 3.0]


def test_the_newest_are_kept_when_there_are_too_many(world: World) -> None:
    world.stream(A)
    other = elsewhere(world, later=5)
    for number in range(MAX_TARGETS):
        other.stream(Target("here", f"x/{number}"))
    world.runtime.advance(10)
    world.stream(B)
    assert world.scores.load(other.scores.to_dict()) == 0
    assert world.scores.get(A) is None
    assert world.scores.get(B) is not None
    assert world.scores.get(Target("here", "x/0")) is None
    assert world.scores.get(Target("here", f"x/{MAX_TARGETS - 1}")) is not None
    world.stream(C)
    assert world.scores.get(Target("here", "x/1")) is None


def test_together_with_what_another_process_kept(world: World) -> None:
    world.stream(A, first_token=1.0)
    other = elsewhere(world, later=10)
    other.stream(A, first_token=2.0)
    other.stream(B, first_token=2.0)
    world.runtime.advance(20)
    world.stream(C, first_token=1.5)
    both = world.scores.merged(other.scores.to_dict())
    assert {(row["gateway"], row["model"]): row["first_token"] for row in both["targets"]} == {
        (A.gateway, A.model): 2.0,
        (B.gateway, B.model): 2.0,
        (C.gateway, C.model): 1.5,
    }
    world.stream(A, first_token=1.0)
    newer = {
        row["model"]: row for row in world.scores.merged(other.scores.to_dict())["targets"] if row["gateway"] == "here"
    }
    assert newer[A.model]["first_token"] == 1.0
    assert world.scores.merged(None) == world.scores.to_dict()
    last = {row["model"]: row for row in world.scores.to_dict()["targets"] if row["gateway"] == "here"}[A.model]
    same = {"version": VERSION, "targets": [{**last, "success": 0.5}]}
    rows = world.scores.merged(same)["targets"]
    assert [row["success"] for row in rows] == [1.0, 1.0]  # of what is as old as ours, ours


ENTRY: dict[str, Any] = {
    "gateway": "here",
    "model": "a/one",
    "at": VirtualRuntime().wall(),
    "samples": 2.0,
    "success": 0.5,
    "first_token": 0.5,
    "lead": 0.5,
    "duration": 2.0,
    "tokens": 100.0,
    "seconds": 1.5,
}


def loaded(*rows: Any, version: Any = VERSION) -> tuple[int, list[str]]:
    """How many entries were dropped, and the models that were not."""
    scores = Scores(VirtualRuntime())
    dropped = scores.load({"version": version, "targets": [*rows]})
    return dropped, [row["model"] for row in scores.to_dict()["targets"]]


def test_an_entry_that_is_possible() -> None:
    assert loaded(ENTRY) == (0, ["a/one"])
    assert loaded({**ENTRY, "samples": 2, "tokens": 100, "more": "things"}) == (0, ["a/one"])


@pytest.mark.parametrize(
    "change",
    [
        {"gateway": None},
        {"gateway": ""},
        {"model": 5},
        {"model": "x" * 201},
        {"model": "a\nb"},
        {"at": None},
        {"at": "yesterday"},
        {"at": -1},
        {"at": ENTRY["at"] + 61},
        {"at": math.nan},
        {"samples": 0},
        {"samples": -1},
        {"samples": MAX_WEIGHT + 1},
        {"samples": True},
        {"samples": math.inf},
        {"success": 1.01},
        {"success": -0.1},
        {"success": math.nan},
        {"first_token": -1},
        {"first_token": 10**400},
        {"lead": 86_401},
        {"lead": None},
        {"duration": math.inf},
        {"duration": [1]},
        {"tokens": -1},
        {"tokens": 1e10},
        {"tokens": math.nan},
        {"seconds": -1},
        {"seconds": 86_401},
        {"seconds": 0},
        {"seconds": 0.001},
    ],
    ids=str,
)
def test_an_entry_that_cannot_be_is_dropped_and_counted(change: dict[str, Any]) -> None:
    other = {**ENTRY, "model": "b/two"}
    assert loaded({**ENTRY, **change}, other) == (1, ["b/two"])


@pytest.mark.parametrize("row", [None, [], "x", 5, {}, {"gateway": "here", "model": "a/one"}], ids=str)
def test_what_is_no_entry_is_dropped_and_counted(row: Any) -> None:
    assert loaded(row, ENTRY) == (1, ["a/one"])


@pytest.mark.parametrize(
    "data", [None, [], "x", {}, {"version": VERSION}, {"version": VERSION, "targets": {}}], ids=str
)
def test_what_are_no_scores_at_all(data: Any) -> None:
    assert Scores(VirtualRuntime()).load(data) == 1


def test_another_version_is_not_read() -> None:
    assert loaded(ENTRY, version=VERSION + 1) == (1, [])


def test_an_entry_of_long_ago_is_old_but_no_garbage() -> None:
    assert loaded({**ENTRY, "at": 0}) == (0, [])


def test_the_least_weight_that_is_a_score() -> None:
    assert loaded({**ENTRY, "samples": FORGOTTEN}) == (0, ["a/one"])
    scores = Scores(VirtualRuntime())
    scores.load({"version": VERSION, "targets": [{**ENTRY, "samples": FORGOTTEN}]})
    assert scores.get(A) is not None


def test_a_clock_a_little_ahead_of_ours_is_no_lie() -> None:
    assert loaded({**ENTRY, "at": ENTRY["at"] + 59}) == (0, ["a/one"])


def test_no_more_entries_are_read_than_are_kept() -> None:
    rows = [{**ENTRY, "model": f"x/{number}"} for number in range(MAX_TARGETS + 2)]
    dropped, models = loaded(*rows)
    assert (dropped, len(models)) == (2, MAX_TARGETS)


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\ud800"], ids=ascii)
def test_names_that_could_not_be_read_again_are_not_told(world: World, name: str) -> None:
    world.stream(Target("here", name))
    world.stream(Target(name, "a/one"))
    world.stream(A)
    rows = orjson.loads(orjson.dumps(world.scores.to_dict()))["targets"]
    assert [(row["gateway"], row["model"]) for row in rows] == [("here", "a/one")]


def test_numbers_at_the_edge_of_what_can_be_give_a_score() -> None:
    scores = Scores(VirtualRuntime())
    scores.load({"version": VERSION, "targets": [{**ENTRY, "tokens": 5e-324, "seconds": 86_400, "success": 5e-324}]})
    found = scores.get(A)
    assert found is not None
    assert found.expected_seconds == math.inf
