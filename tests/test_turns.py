"""Queues before limits on concurrency, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.core.effects import Cancelled, Step, sleep
from routerkit.core.hold import ALL, Group, Hold, held
from routerkit.core.limits import Charge, Denial, Kind
from routerkit.core.turns import LOOK, POLL, NoTurn, Queue, Turns, in_turn
from routerkit.store.memory import MemoryStore
from tests.support.crowd import Crowd, Member
from tests.support.virtual import VirtualRuntime


class Door:
    """A limit on concurrency with a queue before it; what gets in stays for a while."""

    def __init__(self, slots: int = 1, size: int = 100, patience: float | None = None, announced: bool = True) -> None:
        self.crowd = Crowd()
        self.store = MemoryStore(self.crowd.runtime)
        self.turns = Turns(self.crowd.runtime)
        self.charge = Charge(Kind.SLOTS, "door", f"{slots} at a time", slots)
        self.groups = [Group("", (self.charge,))]
        self.turns.open("", self.charge, size, patience)
        self.announced = announced
        self.inside = self.most = 0
        self.admitted: list[str] = []

    @property
    def queue(self) -> Queue:
        queue = self.turns.queue("", self.charge)
        assert queue is not None
        return queue

    def ask(self) -> Step[Hold | Denial]:
        return held(self.store, self.groups, 1e6, self.turns.freed if self.announced else lambda _: None)

    def blocked(self, made: Hold | Denial) -> Queue | None:
        assert not isinstance(made, NoTurn), "who had no turn waits no further"
        return self.queue if isinstance(made, Denial) else None

    def visit(self, name: str, stay: float, until: float = 1e9) -> Step[Any]:
        made: Hold | Denial | NoTurn | None = None
        queue = self.turns.busy(self.groups)
        if queue is None:
            made = yield from self.ask()
            queue = self.blocked(made)
        if queue is not None:
            made = yield from in_turn(queue, self.ask, self.blocked, self.crowd.runtime, until)
        if not isinstance(made, Hold):
            return made
        self.admitted.append(name)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            yield from sleep(stay)
        except Cancelled:
            made.settle_soon(ALL)
            raise
        finally:
            self.inside -= 1
        yield from made.settle(ALL)
        return name

    def come(self, name: str, seconds: float = 0.0, stay: float = 1.0, until: float = 1e9) -> Member:
        return self.crowd.join(name, self.visit(name, stay, until), seconds)

    def at(self, seconds: float) -> None:
        """Let time pass up to then, since the beginning."""
        self.crowd.run(1000 + seconds - self.crowd.runtime.now)
        self.crowd.runtime.now = 1000 + seconds


def test_who_comes_first_goes_in_first() -> None:
    door = Door()
    for place in range(5):
        door.come(f"{place}", seconds=place / 100)
    door.crowd.run()
    assert (door.admitted, door.most) == (["0", "1", "2", "3", "4"], 1)
    assert door.crowd.runtime.now == pytest.approx(1005.0), "a slot is handed on at once"


def test_nobody_slips_in_before_those_that_wait() -> None:
    door = Door()
    door.come("inside", stay=1.0)
    door.come("waits", seconds=0.5)
    door.crowd.run(0.9999)
    slot_comes_back = door.come("late", seconds=0.0001)
    door.crowd.run()
    assert door.admitted == ["inside", "waits", "late"]
    assert slot_comes_back.ended == pytest.approx(1003.0)


def test_a_full_queue_refuses_at_once() -> None:
    door = Door(size=2)
    visits = [door.come(f"{place}", seconds=place / 100) for place in range(5)]
    door.crowd.run()
    assert [visit.result for visit in visits[:3]] == ["0", "1", "2"]
    for visit in visits[3:]:
        assert isinstance(visit.result, NoTurn)
        assert visit.result.note == "and 2 wait already"
        assert visit.result.denial == Denial(door.charge, None)
        assert visit.ended is not None
        assert visit.ended < 1001
    assert len(door.queue) == 0


@pytest.mark.parametrize(("patience", "until", "waited"), [(3.0, 1e9, 3.0), (None, 1002.5, 2.5), (3.0, 1001.0, 1.0)])
def test_a_turn_that_does_not_come_in_time(patience: float | None, until: float, waited: float) -> None:
    door = Door(patience=patience)
    door.come("inside", stay=10.0)
    tired = door.come("tired", until=until)
    door.come("behind", seconds=0.1, until=1e9)
    door.crowd.run(9.0)
    assert isinstance(tired.result, NoTurn)
    assert tired.result.note == "and no turn came in time"
    assert tired.ended == pytest.approx(1000 + waited)
    assert len(door.queue) == (0 if patience else 1)


def test_who_gives_up_leaves_no_hole() -> None:
    door = Door()
    door.come("inside")
    first, second = door.come("first", 0.1), door.come("second", 0.2)
    door.come("third", 0.3)
    door.crowd.cancel(second, 0.4)
    door.crowd.cancel(first, 0.5)
    door.crowd.run()
    assert door.admitted == ["inside", "third"]
    assert door.crowd.runtime.now == pytest.approx(1002.0)
    assert [type(each.error) for each in (first, second)] == [Cancelled, Cancelled]


def test_a_slot_that_comes_back_unannounced_is_found() -> None:
    """As one that another process gives back, or the garbage collector."""
    door = Door(announced=False)
    door.come("inside", stay=0.55)
    door.come("waits")
    door.crowd.run()
    assert door.admitted == ["inside", "waits"]
    assert door.crowd.runtime.now - 1001.55 <= POLL


def test_nobody_slips_in_before_the_first_has_found_it() -> None:
    door = Door(announced=False)
    door.come("inside", stay=0.55)
    door.come("waits")
    door.come("late", seconds=0.56)
    door.crowd.run()
    assert door.admitted == ["inside", "waits", "late"]


def test_how_often_those_that_wait_look() -> None:
    door = Door()
    door.come("inside", stay=100.0)
    door.crowd.run(1.0)
    turns = [in_turn(door.queue, door.ask, door.blocked, door.crowd.runtime, 1005.0) for _ in range(2)]
    waits = [turn.send(None) for turn in turns]
    assert [wait.seconds for wait in waits] == [0.1, 1.0]
    turns[0].close()
    assert [wait.latch.is_set for wait in waits] == [False, True], "now it is the first"
    assert turns[1].send(True).seconds == 0.1


def test_a_cancelled_visitor_gives_its_slot_back() -> None:
    door = Door()
    inside = door.come("inside", stay=100.0)
    door.come("waits")
    door.crowd.cancel(inside, 5.0)
    door.crowd.run(50.0)
    assert door.admitted == ["inside", "waits"]
    assert door.crowd.runtime.now <= 1006.0 + POLL


def test_one_that_waits_behind_others_looks_seldom() -> None:
    door = Door()
    asked = 0
    ask = door.ask

    def counted() -> Step[Hold | Denial]:
        nonlocal asked
        asked += 1
        return ask()

    door.ask = counted  # type: ignore[method-assign]
    door.come("inside", stay=10.0)
    for place in range(50):
        door.come(f"{place}", 0.01, until=1005.0)
    door.crowd.run(9.0)
    assert asked <= 2 + 5 / POLL + 50, "only the first asks"
    assert POLL < LOOK


def test_who_is_denied_by_another_limit_moves_to_its_queue() -> None:
    crowd = Crowd()
    store, turns = MemoryStore(crowd.runtime), Turns(crowd.runtime)
    narrow, wide = Charge(Kind.SLOTS, "narrow", "narrow", 1), Charge(Kind.SLOTS, "wide", "wide", 2)
    for charge in (narrow, wide):
        turns.open("", charge, 10, None)
    admitted: list[str] = []

    def visit(name: str, charges: tuple[Charge, ...], stay: float) -> Iterator[Any]:
        groups = [Group("", charges)]

        def ask() -> Step[Hold | Denial]:
            return held(store, groups, 1e6, turns.freed)

        def blocked(made: Hold | Denial) -> Queue | None:
            return turns.queue("", made.charge) if isinstance(made, Denial) else None

        made: Any = None
        queue = turns.busy(groups)
        if queue is None:
            made = yield from ask()
            queue = blocked(made)
        if queue is not None:
            made = yield from in_turn(queue, ask, blocked, crowd.runtime, 1e9)
        assert isinstance(made, Hold)
        admitted.append(name)
        yield from sleep(stay)
        yield from made.settle(ALL)

    for name, charges, stay in (("a", (narrow,), 1.0), ("b", (wide,), 5.0), ("x", (wide,), 5.0)):
        crowd.join(name, visit(name, charges, stay))  # type: ignore[arg-type]
    crowd.join("c", visit("c", (narrow, wide), 1.0), 0.2)  # type: ignore[arg-type]
    crowd.join("d", visit("d", (narrow,), 1.0), 0.3)  # type: ignore[arg-type]
    crowd.run()
    assert admitted == ["a", "b", "x", "d", "c"], "who waits for the wide one does not keep others from the narrow one"
    assert crowd.runtime.now == pytest.approx(1006.0, abs=0.2)


def test_a_forked_child_has_nobody_waiting() -> None:
    door = Door()
    door.come("inside", stay=10.0)
    door.come("waits")
    door.crowd.run(1.0)
    assert len(door.queue) == 1
    door.turns.forget()
    assert not door.queue.busy
    door.queue.wake()


def test_the_parents_callers_are_closed_in_a_forked_child() -> None:
    """As its garbage collector does with what the fork copied."""
    door = Door()
    door.come("inside", stay=10.0)
    copied = door.come("waits")
    door.crowd.run(1.0)
    door.turns.forget()
    here = door.queue.join()
    door.crowd.cancel(copied)
    door.crowd.run(1.0)
    assert isinstance(copied.error, Cancelled)
    assert door.queue.first() is here


def test_a_limit_of_another_kind_has_no_queue_though_it_has_the_name() -> None:
    door = Door()
    assert door.turns.queue("", Charge(Kind.RATE, "door", "a minute", 1)) is None
    assert door.turns.queue("acme", door.charge) is None


def stuck(door: Door, until: float = 1e9) -> Step[Any]:
    """One that waits in a task whose event loop stands still; whoever resumes it lets the loop go on."""
    step = in_turn(door.queue, door.ask, door.blocked, door.crowd.runtime, until)
    assert step.send(None).seconds == 0.1, "it is the first"
    return step


def ended(step: Step[Any]) -> Any:
    """What it comes to, once its event loop goes on."""
    with pytest.raises(StopIteration) as stop:
        step.send(True)
    return stop.value.value


def test_one_whose_event_loop_stands_still_is_passed_over() -> None:
    door = Door()
    door.come("inside", stay=1.0)
    door.at(0.5)
    stands = stuck(door)
    door.come("behind")
    door.at(3.55)
    assert door.admitted == ["inside"], "it might only be slow"
    door.at(4.55)
    assert door.admitted == ["inside", "behind"]
    door.come("last", stay=0.01)
    door.crowd.run()
    assert door.admitted == ["inside", "behind", "last"]
    assert isinstance(ended(stands), Hold)
    assert not door.queue.busy


def test_one_whose_event_loop_goes_on_comes_first_again() -> None:
    door = Door()
    door.come("inside", stay=10.0)
    door.at(0.5)
    stands = stuck(door)
    door.come("behind")
    door.at(9.85)
    assert stands.send(True).seconds == 0.1, "it looks as often as the first"
    door.at(10.05)
    assert isinstance(ended(stands), Hold)
    assert door.admitted == ["inside"]


def test_those_that_stand_still_do_not_fill_a_queue_for_ever() -> None:
    door = Door(size=2)
    door.come("inside", stay=100.0)
    door.crowd.run(0.01)
    late, patient = stuck(door, until=1002.0), door.come("patient")
    refused = [door.come(f"{seconds}", seconds, until=1003.9) for seconds in (1.0, 2.5, 3.0)]
    joined = door.come("3.2", 3.2, until=1003.9)
    door.crowd.run(10.0)
    assert [each.result.note for each in refused] == ["and 2 wait already"] * 3
    assert joined.result.note == "and no turn came in time", "it waited where the dead one was"
    assert patient.ended is None
    assert len(door.queue) == 1
    assert ended(late) == NoTurn(door.queue, "and no turn came in time")
    assert len(door.queue) == 1


def test_when_one_counts_as_dead() -> None:
    runtime = VirtualRuntime()
    queue = Queue(runtime, Charge(Kind.SLOTS, "n", "n", 1), 1, None)
    waiter = queue.join()
    assert waiter is not None
    runtime.now = 1003.0
    assert queue.first() is waiter
    waiter.until = 1002.0
    assert queue.join() is None
    waiter.until = float("inf")
    runtime.now = 1003.5
    assert queue.first() is None
    assert queue.join() is None, "it may come back"
    queue.wake()
    assert not waiter.latch.is_set
    waiter.until = 1003.5
    assert queue.join() is None, "it may be about to say that its time is over"
    runtime.now = 1003.6
    following = queue.join()
    assert following is not None
    assert queue.first() is following
    queue.leave(waiter)
    assert len(queue) == 1


def test_who_was_woken_for_one_that_came_back_waits_on() -> None:
    door = Door()
    door.come("inside", stay=100.0)
    door.at(0.0)
    stands = stuck(door)
    behind = in_turn(door.queue, door.ask, door.blocked, door.crowd.runtime, 1e9)
    assert behind.send(None).seconds == 1.0
    door.at(5.0)
    door.queue.wake()
    assert stands.send(True).seconds == 0.1
    wait = behind.send(True)
    assert (wait.seconds, wait.latch.is_set) == (1.0, False)


def test_patience_lasts_for_all_the_times_in_one_queue() -> None:
    """Who is sent from one to another and back has waited already."""
    crowd = Crowd()
    turns = Turns(crowd.runtime)
    charges = {name: Charge(Kind.SLOTS, name, name, 1) for name in ("narrow", "wide")}
    for charge in charges.values():
        turns.open("", charge, 1, 3.0)
    taken = [(1001.0, "narrow"), (1002.0, "wide"), (1002.5, "narrow"), (2000.0, "wide")]

    def ask() -> Step[str]:
        yield from ()
        return next(name for until, name in taken if crowd.runtime.now < until - 0.01)

    def blocked(made: str) -> Queue | None:
        return turns.queue("", charges[made])

    narrow = blocked("narrow")
    assert narrow is not None
    member = crowd.join("moved", in_turn(narrow, ask, blocked, crowd.runtime, 1e9))
    crowd.run()
    assert member.result == NoTurn(blocked("wide"), "and no turn came in time")  # type: ignore[arg-type]
    assert member.ended == pytest.approx(1004.5), "a second, then two more"


def test_one_that_was_just_let_in_counts_as_patient() -> None:
    """Until it has said how long it waits, which another thread may keep it from."""
    runtime = VirtualRuntime()
    queue = Queue(runtime, Charge(Kind.SLOTS, "n", "n", 1), 1, None)
    assert queue.join() is not None
    runtime.now += 1e6
    assert queue.join() is None


def test_a_dead_one_that_leaves_as_it_is_dropped() -> None:
    """In another thread, as leaving takes no lock."""
    runtime = VirtualRuntime()
    queue = Queue(runtime, Charge(Kind.SLOTS, "n", "n", 1), 1, None)
    waiter = queue.join()
    assert waiter is not None
    waiter.until = 1000.0

    class Moving(dict[Any, None]):
        def pop(self, key: Any, *default: Any) -> Any:
            super().pop(key, None)
            return super().pop(key, *default)

    queue._waiting = Moving(queue._waiting)
    runtime.now = 1100.0
    assert queue.join() is not None


def test_who_asks_is_the_first_as_long_as_the_asking_takes() -> None:
    """A server that counts may take its time."""
    door = Door()
    ask = door.ask

    def slowly() -> Step[Hold | Denial]:
        yield from sleep(2.9)
        return (yield from ask())

    door.ask = slowly  # type: ignore[method-assign]
    door.come("inside", stay=5.0)
    door.crowd.run(3.0)
    door.come("first", stay=50.0)
    door.come("second", 0.1)
    door.crowd.run(30.0)
    assert door.admitted == ["inside", "first"]


def test_looking_for_the_first_while_others_come_and_go() -> None:
    """A dict that changes between making an iterator and its first step says so; then one looks again."""
    queue = Queue(VirtualRuntime(), Charge(Kind.SLOTS, "n", "n", 1), 10, None)
    waiter = queue.join()

    class Moving(dict[Any, None]):
        looks = 0

        def __iter__(self) -> Iterator[Any]:
            iterator = super().__iter__()
            if not Moving.looks:
                Moving.looks += 1
                self[object()] = None
            return iterator

    queue._waiting = Moving(queue._waiting)
    assert queue.first() is waiter
    assert Moving.looks == 1


VISITS = st.lists(
    st.tuples(
        st.floats(0, 5),  # when it comes
        st.floats(0.01, 3),  # how long it stays
        st.none() | st.floats(0, 8),  # when it is cancelled
        st.sampled_from([1e9, 1004.0]),
    ),
    max_size=12,
)


@given(st.integers(1, 3), st.integers(1, 6), st.none() | st.floats(0.1, 5), VISITS)
def test_any_coming_and_going(slots: int, size: int, patience: float | None, visits: list[Any]) -> None:
    """Never more inside than there are slots; whoever is not cancelled gets in or is told; in the end nothing is held."""
    door = Door(slots, size, patience)
    members = []
    for place, (when, stay, gone, until) in enumerate(visits):
        member = door.come(f"{place}", when, stay, until)
        members.append(member)
        if gone is not None:
            door.crowd.cancel(member, gone)
    door.crowd.run()
    assert door.most <= slots
    assert all(member.ended is not None for member in members)
    assert not door.queue.busy
    assert door.inside == 0
    for _ in range(slots):
        assert not isinstance(door.store.admit_now([door.charge], 10.0), Denial)
    assert isinstance(door.store.admit_now([door.charge], 10.0), Denial)
