"""What is read of the board and what is believed of it; leases; one set of scores for a fleet."""

from __future__ import annotations

import tracemalloc
import zlib

import orjson
import pytest

from routerkit.core.effects import Cancelled
from routerkit.core.performance import Scores
from routerkit.core.shared import Lease, SharedScores, packed, unpacked
from routerkit.types.route import Target
from tests.support.board import MemoryBoard, drive
from tests.support.virtual import VirtualRuntime
from tests.support.wall import GARBAGE, Wall, bomb


class World:
    def __init__(self) -> None:
        self.runtime = VirtualRuntime()
        self.wall = Wall(self.runtime)


@pytest.fixture
def world() -> World:
    return World()


# --- packing ---


def test_a_bomb_does_not_go_off() -> None:
    data = bomb()
    assert len(data) < 2 << 20
    tracemalloc.start()
    try:
        assert unpacked(data, 1 << 20) is None
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_packed_and_unpacked() -> None:
    for data in (b"", b"x", bytes(range(256)) * 100):
        assert unpacked(packed(data), len(data)) == data
    assert unpacked(packed(b"xyz"), 2) is None


# --- leases ---


def test_a_lease(world: World) -> None:
    one, two = (Lease(MemoryBoard(world.wall), "x") for _ in range(2))
    assert drive(world.wall, one.take(5)) is True
    assert drive(world.wall, two.take(5)) is False
    assert (one.held, two.held, world.wall.held) == (True, False, ["x"])
    drive(world.wall, two.end())
    two.drop()
    assert world.wall.asked == ["lease x", "lease x"]
    drive(world.wall, one.end())
    assert world.wall.held == []
    one.drop()
    assert not one._board._releases
    assert drive(world.wall, two.take(5)) is True


def test_a_lease_that_was_ended_is_no_more_ours_to_drop(world: World) -> None:
    board = MemoryBoard(world.wall)
    one, two = Lease(board, "x"), Lease(board, "x")
    drive(world.wall, one.take(5))
    drive(world.wall, one.end())
    drive(world.wall, two.take(5))
    one.drop()
    drive(world.wall, board.read("y"))
    assert world.wall.held == ["x"]


def test_a_lease_that_was_never_taken(world: World) -> None:
    lease = Lease(MemoryBoard(world.wall), "x")
    drive(world.wall, lease.end())
    lease.drop()
    assert world.wall.asked == []


def test_a_lease_of_nobody(world: World) -> None:
    world.wall.lost = True
    lease = Lease(MemoryBoard(world.wall), "x")
    assert drive(world.wall, lease.take(5)) is None
    assert not lease.held
    drive(world.wall, lease.end())
    assert world.wall.tried == ["lease x"]


@pytest.mark.parametrize("when", ["take", "heard", "held", "end"])
def test_a_lease_is_dropped_wherever_its_holder_is_interrupted(world: World, when: str) -> None:
    seat = MemoryBoard(world.wall)
    lease = Lease(seat, "x")
    step = lease.take(5)
    order = next(step)
    if when in ("heard", "held", "end"):
        reply = world.wall.perform(order)
    if when in ("take", "heard"):
        with pytest.raises(Cancelled):
            step.throw(Cancelled())
    else:
        with pytest.raises(StopIteration):
            step.send(reply)
    if when == "end":
        step = lease.end()
        next(step)
        with pytest.raises(Cancelled):
            step.throw(Cancelled())
    lease.drop()
    drive(world.wall, seat.read("y"))
    assert world.wall.held == []


# --- scores ---

A, B = Target("here", "a/one"), Target("here", "b/two")


class Scorer:
    """One process's scores."""

    def __init__(self, world: World) -> None:
        self.runtime = world.runtime
        self.wall = world.wall
        self.scores = Scores(world.runtime)
        self.seat = MemoryBoard(world.wall)
        self.shared = SharedScores(self.scores, self.seat, world.runtime)

    def saw(self, target: Target = A, first_token: float = 1.0, times: int = 1) -> None:
        for _ in range(times):
            self.scores.observe(target, ok=True, first_token=first_token, duration=9.0, tokens=100)

    def sync(self, wait: float = 11.0) -> None:
        """So many seconds later."""
        self.runtime.now += wait
        drive(self.wall, self.shared.sync())

    def first_token(self, target: Target = A) -> float | None:
        score = self.scores.get(target)
        return None if score is None else score.first_token

    def samples(self, target: Target = A) -> float:
        score = self.scores.get(target)
        return 0.0 if score is None else score.samples


def test_what_one_process_saw_the_others_know(world: World) -> None:
    one, two = Scorer(world), Scorer(world)
    one.saw(A, 1.0)
    one.sync()
    assert world.wall.asked == ["lease scores", "read scores", "write scores", "release scores"]
    two.sync()
    assert world.wall.asked[4:] == ["read scores"]
    assert two.first_token() == 1.0


def test_scores_are_exchanged_every_ten_seconds(world: World) -> None:
    one = Scorer(world)
    one.saw()
    one.sync(0)
    for wait, asked in ((9.9, 0), (0.2, 4), (1, 0)):
        one.saw()
        before = len(world.wall.asked)
        one.sync(wait)
        assert len(world.wall.asked) - before == asked


def test_before_the_end_what_is_new_is_told_at_once(world: World) -> None:
    one, two = Scorer(world), Scorer(world)
    one.sync(0)
    drive(world.wall, one.shared.flush())
    assert world.wall.asked == ["read scores"], "there was nothing to tell"
    one.saw(A, 1.0)
    drive(world.wall, one.shared.flush())
    two.sync(0)
    assert two.first_token() == 1.0


@pytest.mark.parametrize(("dice", "seconds"), [(0.0, 9), (1.0, 11)])
def test_the_ten_seconds_are_spread(world: World, dice: float, seconds: float) -> None:
    world.runtime.dice = dice
    one = Scorer(world)
    one.sync(0)
    one.sync(seconds - 0.01)
    assert len(world.wall.asked) == 1
    one.sync(0.01)
    assert len(world.wall.asked) == 2


def test_both_have_seen_the_same_target(world: World) -> None:
    """The fleet's score is that of all attempts together, each counted once."""
    one, two = Scorer(world), Scorer(world)
    for _ in range(3):
        one.saw(A, 1.0)
        two.saw(A, 4.0, times=2)
        one.sync()
        two.sync()
    one.sync()
    for each in (one, two):
        assert each.first_token() == pytest.approx(3.0, abs=0.01)
        assert each.samples() == pytest.approx(9, abs=0.2)


def test_who_saw_little_does_not_outweigh_who_saw_much(world: World) -> None:
    busy, newborn = Scorer(world), Scorer(world)
    busy.saw(A, 1.0, times=30)
    busy.sync()
    world.runtime.now += 1
    newborn.saw(A, 5.0)
    newborn.sync()
    busy.sync()
    assert newborn.first_token() == busy.first_token() == pytest.approx((30 + 5) / 31, abs=0.01)


def test_while_another_process_writes_scores_are_read_and_told_later(world: World) -> None:
    one, two = Scorer(world), Scorer(world)
    one.saw(A, 1.0)
    one.sync()
    two.saw(A, 3.0)
    world.wall.lease("scores", "another", 12)
    two.sync()
    assert world.wall.asked[-2:] == ["lease scores", "read scores"]
    assert two.first_token() == pytest.approx(2.0, abs=0.01)
    two.sync()
    assert two.first_token() == pytest.approx(2.0, abs=0.01)  # not entered twice
    one.sync()
    assert one.first_token() == pytest.approx(2.0, abs=0.01)


def test_scores_and_a_store_that_is_lost(world: World) -> None:
    one = Scorer(world)
    one.saw(A, 1.0)
    world.wall.lost = True
    one.sync()
    assert world.wall.tried == ["lease scores"]
    quiet = Scorer(world)
    quiet.sync()
    assert world.wall.tried[1:] == ["read scores"]
    world.wall.lost = False
    one.sync()
    quiet.sync()
    assert quiet.first_token() == 1.0


def test_scores_that_the_store_lost_are_told_again(world: World) -> None:
    one, two = Scorer(world), Scorer(world)
    one.saw(A, 1.0)
    one.sync()
    world.wall.blobs.clear()
    one.saw(B, 2.0)
    one.sync()
    two.sync()
    assert (two.first_token(A), two.first_token(B)) == (1.0, 2.0)


BAD_SCORES = {name: data for name, data in GARBAGE.items() if name != "no models"} | {
    "a row": packed(b'{"version": 1, "targets": [{"gateway": "here"}]}'),
    "infinite": packed(b'{"version": NaN}'),
}


@pytest.mark.parametrize("data", BAD_SCORES.values(), ids=BAD_SCORES)
def test_what_are_no_scores_is_counted_and_replaced(world: World, data: bytes) -> None:
    one, two = Scorer(world), Scorer(world)
    world.wall.write("scores", data)
    one.saw(A, 1.0)
    one.sync()
    assert one.shared.unreadable == 1
    two.sync()
    assert (two.shared.unreadable, two.first_token()) == (0, 1.0)


def test_scores_are_written_as_plain_json(world: World) -> None:
    one = Scorer(world)
    one.saw()
    one.sync()
    assert orjson.loads(zlib.decompress(world.wall.blobs["scores"][0])) == one.scores.to_dict()


def test_one_caller_goes_the_others_go_on(world: World) -> None:
    one = Scorer(world)
    going, other = one.shared.sync(), one.shared.sync()
    order = next(going)
    with pytest.raises(StopIteration):
        next(other)
    with pytest.raises(StopIteration):
        going.send(world.wall.perform(order))
    assert world.wall.asked == ["read scores"]


def test_cancelled_at_any_effect_scores_are_exchanged_again(world: World) -> None:
    for place in range(4):
        world = World()
        one, two = Scorer(world), Scorer(world)
        one.saw(A, 1.0)
        step = one.shared.sync()
        order = next(step)
        for _ in range(place):
            order = step.send(world.wall.perform(order))
        with pytest.raises(Cancelled):
            step.throw(Cancelled())
        drive(world.wall, one.seat.read("x"))
        assert world.wall.held == [], place
        one.saw(B, 2.0)
        one.sync()
        two.sync()
        assert (two.first_token(A), two.first_token(B)) == (1.0, 2.0), place


def test_a_forked_child_tells_what_it_saw_itself(world: World) -> None:
    one, two = Scorer(world), Scorer(world)
    one.saw(A, 1.0)
    parents = one.shared.sync()
    next(parents)
    one.shared._lock.__enter__()
    one.scores.forget_lock()
    one.shared.forget()
    one.sync()
    assert world.wall.asked == ["read scores"]
    one.saw(B, 2.0)
    one.sync()
    two.sync()
    assert two.first_token(B) == 2.0
