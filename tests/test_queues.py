"""Queues, limits and budgets in odd company: waiters that are late or gone, ids in capitals, prices that nobody knows."""

from __future__ import annotations

from typing import Any

import pytest

from routerkit import Budget, BudgetExceededError, LimitExceededError, Limits
from routerkit.core.effects import Step, sleep
from routerkit.core.hold import ALL, Group, Hold, held
from routerkit.core.limits import Charge, Denial, Grant, Kind
from routerkit.core.turns import GRACE, LOOK, NoTurn, Queue, Turns, in_turn
from routerkit.store.memory import MemoryStore
from routerkit.testing import replies as r
from tests.support.core import HOST, A, World
from tests.support.crowd import Crowd, Member

_TWO_CENTS = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 0.02}


class Room:
    """A limit of one at a time, with a queue before it, of which one member may never be heard of again."""

    def __init__(self, size: int) -> None:
        self.crowd = Crowd()
        store, turns = MemoryStore(self.crowd.runtime), Turns(self.crowd.runtime)
        charge = Charge(Kind.SLOTS, "room", "1 at a time", 1)
        turns.open("", charge, size, None)
        groups = [Group("", (charge,))]
        self._ask = lambda: held(store, groups, 1e6, turns.freed)
        queue = turns.queue("", charge)
        assert queue is not None
        self.queue: Queue = queue

    def enter(self, until: float = 1e9) -> Step[Any]:
        def blocked(made: Hold | Denial) -> Queue | None:
            return self.queue if isinstance(made, Denial) else None

        return (yield from in_turn(self.queue, self._ask, blocked, self.crowd.runtime, until))

    def forsaken(self, until: float = 1e9) -> Step[Any]:
        """One who waits, and whose event loop then stands still."""
        step = self.enter(until)
        step.send(None)
        return step

    def join(self, name: str, seconds: float = 0.0, until: float = 1e9) -> Member:
        return self.crowd.join(name, self.enter(until), seconds)


def test_who_does_not_look_any_more_keeps_nobody_waiting() -> None:
    room = Room(size=10)
    inside = room.join("inside")
    room.crowd.run(1)
    lost = room.forsaken()
    behind = room.join("behind")
    room.crowd.run(2)
    room.crowd.join("out", inside.result.settle(ALL))
    room.crowd.run(60)
    assert isinstance(behind.result, Hold)
    assert behind.ended is not None
    assert behind.ended <= 1002 + GRACE + LOOK
    assert len(room.queue) == 1, "it is there still"
    room.crowd.join("out", behind.result.settle(ALL))
    room.crowd.run(1)
    with pytest.raises(StopIteration) as stop:  # it was its turn all the time
        lost.send(False)
    assert isinstance(stop.value.value, Hold)


def test_who_is_late_without_being_lost_keeps_its_place() -> None:
    room = Room(size=10)
    inside = room.join("inside")
    room.crowd.run(1)
    late = room.forsaken()
    behind = room.join("behind", until=room.crowd.runtime.now + 4)
    room.crowd.run(20)
    assert isinstance(behind.result, NoTurn), "the slot was not free"
    again = room.join("again")
    room.crowd.run(20)
    late.send(False)  # it looks after its turn once more
    room.crowd.join("out", inside.result.settle(ALL))
    room.crowd.run(0.05)
    assert again.result is None
    with pytest.raises(StopIteration) as stop:
        late.send(True)
    assert isinstance(stop.value.value, Hold)


def test_those_whose_time_is_over_make_room_in_a_full_queue() -> None:
    room = Room(size=1)
    inside = room.join("inside")
    room.crowd.run(1)
    lost = room.forsaken(until=room.crowd.runtime.now + 10)
    refused = room.join("refused", 9.0)
    waits = room.join("waits", 15.0)
    room.crowd.run(20)
    assert isinstance(refused.result, NoTurn)
    assert waits.result is None
    room.crowd.join("out", inside.result.settle(ALL))
    room.crowd.run(1)
    assert isinstance(waits.result, Hold)
    with pytest.raises(StopIteration) as stop:
        lost.send(False)
    assert isinstance(stop.value.value, NoTurn)


def test_what_has_no_price_is_not_asked_once_the_budget_is_used_up() -> None:
    world = World(budget=Budget("0.03", on_unknown_price="allow"))
    world.script(A, *[r.completion("x", usage=_TWO_CENTS)] * 4)
    assert [world.ask().gives for _ in range(2)] == ["x", "x"]
    told = world.ask()
    assert type(told.error) is BudgetExceededError
    assert str(told.error) == f"{A} on {HOST}: the client's budget (0.03 USD a day): used up"
    assert told.attempts == []
    assert told.error.retry_after is not None
    world.runtime.now += told.error.retry_after + 1
    assert world.ask().gives == "x"


@pytest.mark.parametrize("model", ["a/one:free", "a/one:FREE", "a/One:Free"])
def test_free_models_are_known_however_they_are_written(model: str) -> None:
    world = World(limits={"free": Limits(requests_per_day=1)})
    assert world.ask(model=model).error is None
    assert type(world.ask(model=model).error) is LimitExceededError
    assert world.ask(model="a/one").error is None


def test_patience_is_for_all_the_time_in_a_queue_however_often_it_is_joined() -> None:
    crowd = Crowd()
    store, turns = MemoryStore(crowd.runtime), Turns(crowd.runtime)
    one, two = (Charge(Kind.SLOTS, name, name, 1) for name in ("one", "two"))
    turns.open("", one, 10, 2.0)
    turns.open("", two, 10, None)

    def busy(charge: Charge) -> None:
        made = store.admit_now([charge], 1e6)
        if not isinstance(made, Denial):
            crowd.join("busy", held_for_a_second(made))

    def held_for_a_second(grant: Grant) -> Step[None]:
        yield from sleep(1.0)
        yield from store.settle(grant, [0])
        turns.freed(grant)

    def blocked(made: Hold | Denial) -> Queue | None:
        return turns.queue("", made.charge) if isinstance(made, Denial) else None

    for turn in range(30):  # never both are free
        crowd.at(1.4 * turn, lambda: busy(one))
        crowd.at(1.4 * turn + 0.7, lambda: busy(two))
    queue = turns.queue("", one)
    assert queue is not None
    groups = [Group("", (one, two))]
    until = crowd.runtime.now + 100
    ask = lambda: held(store, groups, 1e6, turns.freed)  # noqa: E731
    waits = crowd.join("waits", in_turn(queue, ask, blocked, crowd.runtime, until), 0.1)
    crowd.run()
    assert isinstance(waits.result, NoTurn)
    assert waits.result.queue is queue
    assert waits.ended is not None
    assert 2.0 < waits.ended - (until - 100) < 12.0


def test_who_was_woken_in_the_place_of_one_that_came_back_waits_on() -> None:
    room = Room(size=10)
    inside = room.join("inside")
    room.crowd.run(1)
    lost = room.forsaken()
    behind = room.join("behind")
    room.crowd.run(10)
    looks = 0

    def back() -> None:
        room.queue.wake()
        lost.send(False)

    def keep_looking() -> None:  # as it does now that its event loop runs
        nonlocal looks
        looks += 1
        lost.send(False)
        if looks < 20:
            room.crowd.at(0.1, keep_looking)

    room.crowd.at(0.05, back)
    room.crowd.at(0.1, keep_looking)
    before = behind.ticket
    room.crowd.run(2.0)
    assert looks >= 19
    assert behind.ticket - before < 30, "it does not spin"
    assert behind.result is None
    assert inside.result is not None
