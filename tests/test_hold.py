"""What was granted to a call or an attempt, and what it is settled with."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import attrs
import pytest

from routerkit.core.effects import Cancelled
from routerkit.core.hold import ALL, NOTHING, Group, Hold, Spent, held
from routerkit.core.limits import Charge, Counting, Denial, Grant, Kind
from routerkit.store.memory import MemoryStore
from tests.support.virtual import VirtualRuntime

CALLS = Charge(Kind.RATE, "model:some tokens requests", "calls a minute", 10)
"""Of a model whose name ends as the names of limits on tokens do."""
TOKENS = Charge(Kind.RATE, "key tokens", "tokens a minute", 1000, 600)
TODAY = Charge(Kind.DAY, "key requests", "calls a day", 10)
SLOT = Charge(Kind.SLOTS, "key", "at a time", 1)
MONEY = Charge(Kind.MONEY, "budget", "the budget", 10**9, 500_000_000, "day")
EACH = (CALLS, TOKENS, TODAY, SLOT, MONEY)
OURS, THEIRS = Group("acme", (SLOT,)), Group("", (SLOT,))

T = TypeVar("T")


class Distant(MemoryStore):
    """A store that has to be asked twice: what is cancelled before that was not heard."""

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        yield "admit"
        return self.admit_now(charges, lease, owner)

    def settle(self, grant: Grant, costs: Sequence[int]) -> Counting[None]:
        yield "settle"
        self.settle_soon(grant, costs)


class Alone(MemoryStore):
    """Decides for some owners without a server that is lost."""

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        yield from ()
        made = self.admit_now(charges, lease, owner)
        return attrs.evolve(made, degraded=owner == "alone")


def done(step: Generator[Any, Any, T], steps: int = 100) -> T | None:
    """What a step comes to; ``None``: it is cancelled after so many of its questions."""
    try:
        step.send(None)
        for _ in range(steps):
            step.send(None)
        with pytest.raises(Cancelled):
            step.throw(Cancelled())
    except StopIteration as stop:
        made: T = stop.value
        return made
    return None


def took(store: MemoryStore, *groups: Group, lease: float = 100.0, freed: Callable[[Grant], object] = id) -> Hold:
    made = done(held(store, groups, lease, freed))
    assert isinstance(made, Hold)
    return made


def slot_free(store: MemoryStore, owner: str = "") -> bool:
    made = store.admit_now([SLOT], 100.0, owner)
    if isinstance(made, Grant):
        store.settle_soon(made, [0])
    return isinstance(made, Grant)


@pytest.mark.parametrize("soon", [False, True])
@pytest.mark.parametrize(
    ("spent", "used"),
    [
        (ALL, [1, 600, 1, 500_000_000]),
        (NOTHING, [0, 0, 0, 0]),
        (Spent(True, 50, Decimal("0.1")), [1, 50, 1, 100_000_000]),
        (Spent(True, 0, Decimal(0)), [1, 0, 1, 0]),
        (Spent(True, None, Decimal("0.2")), [1, 600, 1, 200_000_000]),
        (Spent(True, 70, None), [1, 70, 1, 500_000_000]),
        (Spent(True, 900, Decimal("0.9")), [1, 900, 1, 900_000_000]),
        (Spent(True, 1, Decimal(-3)), [1, 1, 1, 0]),
        (Spent(False, 50, Decimal("0.1")), [0, 0, 0, 0]),
    ],
    ids=str,
)
def test_what_each_limit_is_charged_in_the_end(soon: bool, spent: Spent, used: list[int]) -> None:
    store = MemoryStore(VirtualRuntime())
    hold = took(store, Group("acme", EACH))
    assert not slot_free(store, "acme")
    if soon:
        hold.settle_soon(spent)
    else:
        done(hold.settle(spent))
    assert [store.used(charge, "acme") for charge in (CALLS, TOKENS, TODAY, MONEY)] == used
    assert slot_free(store, "acme")


def test_it_is_settled_once() -> None:
    store = MemoryStore(VirtualRuntime())
    hold = took(store, Group("", EACH))
    done(hold.settle(Spent(True, 50, Decimal("0.1"))))
    done(hold.settle(ALL))
    hold.settle_soon(NOTHING)
    assert [store.used(charge) for charge in (CALLS, TOKENS, TODAY, MONEY)] == [1, 50, 1, 100_000_000]


def test_who_waits_is_told_of_every_grant() -> None:
    store, freed = MemoryStore(VirtualRuntime()), list[Grant]()
    hold = took(store, OURS, THEIRS, freed=freed.append)
    assert freed == []
    done(hold.settle(ALL))
    assert [(grant.owner, grant.charges) for grant in freed] == [OURS, THEIRS]


def test_what_a_later_owner_refuses_is_given_back_to_the_first() -> None:
    store, freed = MemoryStore(VirtualRuntime()), list[Grant]()
    taken = took(store, THEIRS)
    both = (Group("acme", (SLOT, TODAY, MONEY)), THEIRS)
    assert done(held(store, both, 100.0, freed.append)) == Denial(SLOT, None)
    assert slot_free(store, "acme")
    assert (store.used(TODAY, "acme"), store.used(MONEY, "acme")) == (0, 0)
    assert [grant.owner for grant in freed] == ["acme"], "who waits for its slot may have it"
    done(taken.settle(ALL))
    assert isinstance(done(held(store, both, 100.0, freed.append)), Hold)


def test_a_lease_that_is_over() -> None:
    runtime = VirtualRuntime()
    store = MemoryStore(runtime)
    took(store, OURS, lease=30.0)
    runtime.now += 29.9
    assert not slot_free(store, "acme")
    runtime.now += 0.2
    assert slot_free(store, "acme")


def test_whether_one_decided_alone() -> None:
    store = Alone(VirtualRuntime())
    assert not took(store, OURS, THEIRS).degraded
    store = Alone(VirtualRuntime())
    assert took(store, OURS, Group("alone", (SLOT,)), THEIRS).degraded


@pytest.mark.parametrize("asked", [0, 1])
def test_cancelled_while_it_is_charged(asked: int) -> None:
    store = Distant(VirtualRuntime())
    assert done(held(store, (Group("acme", EACH), THEIRS), 100.0, id), asked) is None
    assert slot_free(store, "acme")
    assert slot_free(store)
    assert [store.used(charge, "acme") for charge in (CALLS, TOKENS, TODAY, MONEY)] == [0, 0, 0, 0]


@pytest.mark.parametrize("asked", [0, 1])
def test_cancelled_while_it_is_settled(asked: int) -> None:
    """It came to what it came to."""
    store = Distant(VirtualRuntime())
    hold = took(store, Group("acme", EACH), Group("", EACH))
    assert done(hold.settle(Spent(True, 50, Decimal("0.1"))), asked) is None
    for owner in ("acme", ""):
        assert slot_free(store, owner)
        assert [store.used(charge, owner) for charge in (CALLS, TOKENS, TODAY, MONEY)] == [1, 50, 1, 100_000_000]


def test_cancelled_while_a_part_is_given_back() -> None:
    store = Distant(VirtualRuntime())
    took(store, THEIRS)
    assert done(held(store, (OURS, Group("globex", (SLOT,)), THEIRS), 100.0, id), 3) is None
    assert slot_free(store, "acme")
    assert slot_free(store, "globex")
