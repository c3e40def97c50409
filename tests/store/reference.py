"""What a store should do, in the plainest words, and any history of one held against it.

The reference knows rates in the other form of GCRA, as a theoretical arrival time in fractions, and keeps lists of all else. Memory
in virtual time must agree with it to the microsecond. Redis keeps its own time, so there a decision that hangs on half a second
may fall either way, and the reference follows.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routerkit.core.limits import Charge, Denial, Grant, Kind
from tests.store.counters import MemoryCounter, day, money, rate, slots

CAPS = {
    ("rate", "rpm"): 6,
    ("rate", "tpm"): 11,
    ("day", "rpd"): 9,
    ("slots", "at once"): 3,
    ("money", "daily"): 20,
    ("money", "total"): 60,
}
DAY = 86_400
COST = st.integers(0, 7)
COSTS = st.lists(st.integers(0, 9), min_size=3, max_size=3)
CHARGE = st.one_of(
    st.builds(rate, st.just(6), st.integers(0, 7)),
    st.builds(rate, st.just(11), st.integers(0, 12), st.just("tpm")),
    st.builds(day, st.just(9), st.integers(0, 3)),
    st.builds(slots, st.just(3), st.integers(0, 2)),
    st.builds(money, st.just(20), COST, st.just("day"), st.just("daily")),
    st.builds(money, st.just(60), COST, st.just("total"), st.just("total")),
)


@attrs.define(eq=False)
class Open:
    """A grant that is not settled."""

    grant: Grant
    owner: str
    ends: dict[int, Fraction]
    """Of rates, by place: when the charge will have come back."""
    day: int
    lease: Fraction


@attrs.define(eq=False)
class Reference:
    now: Fraction = Fraction(0)
    day: int = 0
    tats: dict[Any, Fraction] = attrs.Factory(dict)
    days: dict[Any, int] = attrs.Factory(dict)
    spent: dict[Any, int] = attrs.Factory(dict)
    open: list[Open] = attrs.Factory(list)
    """Those that hold something."""
    sent: dict[Any, list[list[Any]]] = attrs.Factory(dict)
    """Of rates: when, and how much in the end."""

    def key(self, owner: str, charge: Charge) -> Any:
        dated = charge.kind is Kind.DAY or charge.period == "day"
        return owner, str(charge.kind), charge.name, self.day if dated else None

    def held(self, owner: str, charge: Charge) -> int:
        self.open = [each for each in self.open if each.lease > self.now]
        dated = charge.period == "day"
        return sum(
            theirs.cost
            for each in self.open
            if each.owner == owner and (each.day == self.day or not dated)
            for theirs in each.grant.charges
            if (theirs.kind, theirs.name) == (charge.kind, charge.name)
        )

    def wait(self, owner: str, charges: list[Charge]) -> Fraction:
        """Seconds by which the rates of an admission are too early; negative: by which they are not."""
        worst, tats = Fraction(-60), dict(self.tats)
        for charge in charges:
            if charge.kind is Kind.RATE:
                key = self.key(owner, charge)
                tats[key] = max(tats.get(key, self.now), self.now) + Fraction(60 * charge.cost, charge.cap)
                worst = max(worst, tats[key] - self.now - 60)
        return worst

    def fits(self, owner: str, charges: list[Charge]) -> bool:
        """Whether all but rates have room."""
        adding: dict[Any, int] = {}
        for charge in charges:
            key = self.key(owner, charge)
            if charge.kind is Kind.RATE:
                continue
            used = self.days.get(key, 0) + self.spent.get(key, 0) + adding.get(key, 0)
            if charge.kind is not Kind.DAY:
                used += self.held(owner, charge)
            if charge.cost and used + charge.cost > charge.cap:
                return False
            adding[key] = adding.get(key, 0) + charge.cost
        return True

    def charge(self, owner: str, grant: Grant, lease: Fraction) -> Open:
        made = Open(grant, owner, {}, self.day, self.now + lease)
        for place, charge in enumerate(grant.charges):
            key = self.key(owner, charge)
            if charge.kind is Kind.RATE:
                self.tats[key] = max(self.tats.get(key, self.now), self.now) + Fraction(60 * charge.cost, charge.cap)
                made.ends[place] = self.tats[key]
                self.sent.setdefault(key, []).append([self.now, charge.cost, made, place])
            elif charge.kind is Kind.DAY:
                self.days[key] = self.days.get(key, 0) + charge.cost
        self.open.append(made)
        return made

    def settle(self, opened: Open, costs: list[int]) -> None:
        if opened in self.open:
            self.open.remove(opened)
        for place, (charge, cost) in enumerate(zip(opened.grant.charges, costs, strict=True)):
            if charge.kind is Kind.RATE:
                self._settle_rate(opened, place, charge, cost)
                continue
            key = (
                opened.owner,
                str(charge.kind),
                charge.name,
                opened.day if self.key("", charge)[3] is not None else None,
            )
            if charge.kind is Kind.DAY:
                self.days[key] = max(0, self.days[key] + cost - charge.cost)
            elif charge.kind is Kind.MONEY:
                self.spent[key] = self.spent.get(key, 0) + cost

    def _settle_rate(self, opened: Open, place: int, charge: Charge, cost: int) -> None:
        key, each = self.key(opened.owner, charge), Fraction(60, charge.cap)
        tat = max(self.tats[key], self.now)
        if cost >= charge.cost:
            self.tats[key] = min(tat + (cost - charge.cost) * each, max(tat, self.now + 60))
        else:
            left = min((charge.cost - cost) * each, max(Fraction(0), opened.ends[place] - self.now))
            self.tats[key] = max(self.now, tat - left)
        for entry in self.sent[key]:
            if entry[2] is opened and entry[3] == place and cost < charge.cost:
                entry[1] = cost


class StoreMachine(RuleBasedStateMachine):
    """Any history. Subclasses name the store."""

    tolerance = Fraction(1, 1_000_000)
    soon = True
    """Whether what is settled soon counts with the next admission."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = self.make()
        self.reference = Reference()
        self.began = self.read()
        self.passed = Fraction(0)
        self.unsettled: list[Open] = []
        self.settled: list[Grant] = []

    def make(self) -> MemoryCounter:
        return MemoryCounter()

    def read(self) -> Fraction:
        """The store's clock, but for what was let pass."""
        return Fraction(0)

    def tick(self) -> None:
        self.reference.now = self.read() - self.began + self.passed

    @rule(seconds=st.sampled_from([0.000001, 0.25, 1, 5, 10, 19, 31, 61, 600, DAY]))
    def wait(self, seconds: float) -> None:
        if seconds == DAY:
            self.counter.next_day()
            self.reference.day += 1
        else:
            self.counter.elapse(seconds)
        self.passed += Fraction(str(seconds))
        self.tick()

    @rule(
        charges=st.lists(CHARGE, min_size=1, max_size=3),
        owner=st.sampled_from(["", "", "", "acme"]),
        lease=st.sampled_from([20, 100]),
        times=st.integers(1, 8),
    )
    def admit(self, charges: list[Charge], owner: str, lease: int, times: int) -> None:
        for _ in range(times):
            self.admit_once(charges, owner, lease)

    def admit_once(self, charges: list[Charge], owner: str, lease: int) -> None:
        self.tick()
        wait, fits = self.reference.wait(owner, charges), self.reference.fits(owner, charges)
        made = self.counter.admit(*charges, owner=owner, lease=lease)
        if not fits or abs(wait) > self.tolerance:
            assert isinstance(made, Grant) == (fits and wait <= 0), (made, float(wait), fits)
        if isinstance(made, Denial):
            self.check(made, owner, charges)
        else:
            self.unsettled.append(self.reference.charge(owner, made, Fraction(lease)))

    def check(self, denial: Denial, owner: str, charges: list[Charge]) -> None:
        """What is told is true."""
        asked = denial.charge
        assert asked in charges
        assert not denial.degraded
        if asked.cost > asked.cap:
            assert denial.never
        if denial.never:
            assert denial.retry_after is None
            assert asked.cost > asked.cap or asked.period == "total"
        elif asked.kind is Kind.RATE and charges.count(asked) == 1 == sum(each.name == asked.name for each in charges):
            wait = self.reference.wait(owner, [asked])
            assert abs(denial.retry_after - float(wait)) <= float(self.tolerance) + 1e-6
        if denial.retry_after is not None:
            assert 0 <= denial.retry_after <= (60 if asked.kind is Kind.RATE else 86_400)

    @rule(data=st.data(), share=st.sampled_from([1, 2, 3]), plan=st.integers(0, 2))
    def settle_some(self, data: st.DataObject, share: int, plan: int) -> None:
        for opened in self.unsettled[::share]:
            self.unsettled.remove(opened)
            self.settle(opened, data.draw(COSTS), plan)

    def settle(self, opened: Open, costs: list[int], plan: int) -> None:
        self.tick()
        charges = opened.grant.charges
        if plan == 0:
            costs = [0] * 3
        elif plan == 1:
            costs = [each.cost for each in charges] + [0] * 3
        costs = costs[: len(charges)]
        if self.soon and plan == 1:
            self.counter.store.settle_soon(opened.grant, costs)
        else:
            self.counter.settle(opened.grant, *costs)
        self.reference.settle(opened, costs)
        self.settled.append(opened.grant)
        self.flush()

    def flush(self) -> None:
        """Have it counted now."""
        self.counter.admit()

    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        if self.settled:
            grant = data.draw(st.sampled_from(self.settled))
            self.counter.settle(grant, *[9] * len(grant.charges))

    @invariant()
    def no_window_holds_more_than_its_rate(self) -> None:
        """I14, of what was sent in the end."""
        for key, events in self.reference.sent.items():
            cap = CAPS["rate", key[2]]
            for first in range(len(events)):
                total = 0
                for when, units, _, _ in events[first:]:
                    total += units
                    span = when - events[first][0] + 2 * self.tolerance
                    assert total <= cap + cap * span / 60 + Fraction(cap, 60_000_000)

    def teardown(self) -> None:
        self.counter.close()
