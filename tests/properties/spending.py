"""Random histories of what is spent: budgets and limits of two tenants and of their client, models with prices, and a gateway that
keeps its own books.

The gateway is honest: it charges what its catalogue says, for a prompt no longer than what was sent and an answer no longer than
the catalogue allows. What it charges for, and whether it tells, is part of the history.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, TypeVar

import attrs
from hypothesis import strategies as st

from routerkit import Budget, Limits, Tenant
from routerkit.config import settings_from
from routerkit.core import effects
from routerkit.core.effects import Cancelled, Effect, Step, StoreFailure
from routerkit.core.fleet import Board
from routerkit.core.limits import Charge, Count, Grant, Kind, Store, period_number
from routerkit.core.router import Router
from routerkit.store.memory import MemoryStore
from routerkit.tenancy import settings_for
from routerkit.testing import Connection, RecordedRequest
from routerkit.testing import replies as r
from routerkit.types.verdict import Sent
from tests.properties import worlds
from tests.properties.scripts import LAST_RESORT, MODELS, A, Answer, answers
from tests.properties.worlds import GATEWAY, Ask, Order, Record
from tests.support.virtual import Interruption, VirtualRuntime

T = TypeVar("T")

TENANTS = ("acme", "globex")
KEYS = {name: f"sk-{name}-1234567890" for name in TENANTS}
PRICES = {A: ("0.0001", "0.0003"), MODELS[1]: ("0.00002", "0.00004"), MODELS[2]: ("0", "0"), LAST_RESORT: ("0", "0")}
"""USD a token, of prompt and answer."""
LONGEST = 500
"""Tokens of an answer."""
PROMPT = 20
"""Tokens that the gateway counts for a prompt."""
DAY = 86_400.0
NANO = 10**9


def entry(model: str, priced: bool = True) -> dict[str, Any]:
    """Of the catalogue. A model without a price is there all the same."""
    prompt, completion = PRICES[model] if priced else ("-1", "-1")
    top = {"context_length": 4000, "max_completion_tokens": LONGEST, "is_moderated": False}
    return r.catalog_model(
        model, pricing={"prompt": prompt, "completion": completion}, context_length=4000, top_provider=top
    )


# --- what is asked, and what is answered ---


@attrs.frozen
class Bill:
    """What the gateway charges for an answer, if it charges for it."""

    share: float = 1.0
    """Of the longest answer."""
    told: str = "cost"
    """``cost``, ``tokens`` or ``nothing``."""

    def usage(self) -> dict[str, Any]:
        completion = int(self.share * LONGEST)
        return {"prompt_tokens": PROMPT, "completion_tokens": completion, "total_tokens": PROMPT + completion}

    def cost(self, model: str) -> Decimal:
        prompt, completion = PRICES[model]
        return Decimal(prompt) * PROMPT + Decimal(completion) * int(self.share * LONGEST)


@attrs.frozen
class Move:
    """A call, perhaps given up, after some time."""

    ask: Ask
    days: int = 0
    """That pass before it."""
    given_up: int | None = None
    """At which of its orders."""
    heard: bool = False
    """Whether that order was carried out, if it was one to the store."""


@attrs.frozen
class Spending:
    scripts: tuple[tuple[str, tuple[tuple[Answer, Bill], ...]], ...]
    """By model; the last answer is given for ever."""
    moves: tuple[Move, ...]
    budget: Budget | None = None
    """The client's."""
    budgets: tuple[Budget | None, Budget | None] = (None, None)
    """The tenants'."""
    limits: tuple[tuple[str, Limits], ...] = ()
    """The client's, by scope."""
    own: tuple[Limits | None, Limits | None] = (None, None)
    """The tenants'."""
    unpriced: str | None = None
    """A model whose price nobody knows."""


FINE = Answer("fine", (0.0,))
_BILLS = st.builds(Bill, st.sampled_from([0.0, 0.3, 1.0, 1.0, 1.0]), st.sampled_from(["cost", "tokens", "nothing"]))
_BUDGETS = st.none() | st.builds(
    Budget, st.sampled_from(["0.2", "0.4", "0.5", "1.5", "0"]), st.sampled_from(["day", "day", "month", "total"])
)
_LIMITS = st.none() | st.builds(
    Limits,
    requests_per_minute=st.sampled_from([None, None, 1, 3]),
    requests_per_day=st.sampled_from([None, 1, 2, 4]),
    tokens_per_minute=st.sampled_from([None, None, 2000]),
    concurrency=st.sampled_from([1, 2]),
    queue_size=st.sampled_from([0, 0, 2]),
)
_SCOPES = st.sampled_from(["client", f"gateway:{GATEWAY}", f"model:{A}", f"model:{A} on {GATEWAY}", "key", "free"])


def _asks(tenants: Sequence[str] = TENANTS) -> st.SearchStrategy[Ask]:
    return st.builds(
        Ask,
        st.booleans(),
        st.permutations(MODELS).flatmap(lambda order: st.integers(1, 3).map(lambda count: tuple(order[:count]))),
        st.sampled_from([60.0, 60.0, 5.0]),
        st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.0, 20.0, 70.0, 4000.0]),
        on_interrupt=st.sampled_from([None, None, "restart", "continue"]),
        tenant=st.sampled_from([tenants[0], *tenants]),
        handed=st.sampled_from([False, False, False, True]),
    ).map(lambda ask: ask if ask.stream else attrs.evolve(ask, on_interrupt=None))


@st.composite
def spendings(
    draw: st.DrawFn, *, moves: int = 12, days: bool = True, limited: bool = True, plain: bool = False
) -> Spending:
    """``plain``: every model answers, and nobody gives up."""
    answer = st.just(FINE) if plain else _mostly(st.just(FINE), answers())
    scripts = tuple(
        (model, tuple(draw(st.lists(st.tuples(answer, _BILLS), min_size=1, max_size=5))))
        for model in (*MODELS, LAST_RESORT)
    )
    ask = _asks()
    asks = ask if plain else _mostly(ask, st.builds(meanwhile, ask, st.sampled_from([0, 0, 1, 2, 2, 3, 5]), ask))
    move = st.builds(
        Move,
        asks,
        st.sampled_from([*[0] * 8, 1, 31]) if days else st.just(0),
        st.none() if plain else _mostly(st.none(), st.sampled_from([0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 11])),
        st.booleans(),
    )
    return Spending(
        scripts,
        tuple(draw(st.lists(move, min_size=min(4, moves), max_size=moves))),
        draw(_BUDGETS),
        (draw(_BUDGETS), draw(_BUDGETS)),
        tuple(draw(st.dictionaries(_SCOPES, _LIMITS.filter(bool), max_size=3)).items()) if limited else (),
        (draw(_LIMITS), draw(_LIMITS)) if limited else (None, None),
        draw(st.sampled_from([*[None] * 9, *MODELS])),
    )


def _mostly(first: st.SearchStrategy[T], second: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    return st.sampled_from([first, first, first, second]).flatmap(lambda chosen: chosen)


def meanwhile(ask: Ask, at: int, other: Ask) -> Ask:
    """Another call, that does not outlast the leases of this one: nobody but the other one makes time pass meanwhile."""
    other = attrs.evolve(other, total=5.0, after=0.0)
    return attrs.evolve(ask, interrupted=(at, other))


# --- what happened ---


@attrs.frozen
class Entry:
    """A line in the gateway's books."""

    at: float
    """Unix seconds."""
    monotonic: float
    tenant: str
    asked: str
    """The model that the request is for."""
    model: str
    """The one that answers, where the gateway may choose."""
    cost: Decimal
    """USD."""
    arrived: bool
    """Whether the request did."""


class Watched(MemoryStore):
    """Memory that keeps what it granted, to be looked at."""

    def __init__(self, runtime: VirtualRuntime) -> None:
        super().__init__(runtime)
        self.grants: list[Grant] = []

    def admit_now(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Any:
        made = super().admit_now(charges, lease, owner)
        if isinstance(made, Grant):
            self.grants.append(made)
        return made

    def look(self) -> dict[tuple[str, str, str, str], Count]:
        """What is counted now, but for rates."""
        self._catch_up(self._runtime.monotonic())
        return {key: state for key, state in self._states.items() if isinstance(state, Count)}


class Spent(worlds.Run):
    """A history of spending being played to the core."""

    def __init__(
        self,
        spending: Spending,
        runtime: VirtualRuntime | None = None,
        store: Store | None = None,
        board: Board | None = None,
    ) -> None:
        super().__init__(worlds.World((), ()), runtime)
        self.spending = spending
        self.books: list[Entry] = []
        self._heard = False
        self.memory = Watched(self.runtime)
        self._scripts = {model: list(script) for model, script in spending.scripts}
        self.gateway.default = self._answer
        unpriced = spending.unpriced
        self.gateway.catalog = r.json_body({"data": [entry(model, model != unpriced) for model in PRICES]})
        tenants = [
            Tenant(name, KEYS[name], limits=limits, budget=budget)
            for name, limits, budget in zip(TENANTS, spending.own, spending.budgets, strict=True)
        ]
        options = settings_from(
            {},
            base_url=f"http://{GATEWAY}/v1",
            tenants=tenants,
            limits=dict(spending.limits) or None,
            budget=spending.budget,
        )
        self.router = Router(options, self.runtime, store=self.memory if store is None else store, board=board)
        self.routers = {name: self.router.sharing(settings_for(options, name)) for name in TENANTS}

    def play(self) -> Spent:
        for move in self.spending.moves:
            self.move(move)
        return self

    def move(self, move: Move) -> Record | None:
        """``None``: it was given up."""
        self.runtime.now += move.days * DAY
        at, self._heard = move.given_up, move.heard
        try:
            return self.call(move.ask, None if at is None else Interruption(self.gateway.performed + at))
        except KeyboardInterrupt:
            return None

    def recover(self) -> None:
        """From now on every model answers, at a low price."""
        for script in self._scripts.values():
            script[:] = [(FINE, Bill(0.0))]

    @property
    def budgets(self) -> list[tuple[str, Budget]]:
        """By owner; the client's has none."""
        owned = [*zip(TENANTS, self.spending.budgets, strict=True), ("", self.spending.budget)]
        return [(owner, budget) for owner, budget in owned if budget is not None]

    def spent(self, owner: str, budget: Budget) -> dict[int, Decimal]:
        """What the gateway charged, by period."""
        charge = Charge(Kind.MONEY, "", "", 0, period=budget.per)
        found: dict[int, Decimal] = {}
        for line in self.books:
            if owner in ("", line.tenant):
                number = period_number(charge, line.at)
                found[number] = found.get(number, Decimal(0)) + line.cost
        return found

    def _watched(self, step: Step[Any], orders: list[Order], ask: Ask) -> Generator[Effect, Any, Any]:
        return super()._watched(self._overheard(step), orders, ask)

    def _overheard(self, step: Step[Any]) -> Generator[Effect, Any, Any]:
        """The same step; a store hears what was ordered although nobody waits for the reply any more."""
        resume: Callable[[Any], Effect] = step.send
        outcome: Any = None
        while True:
            try:
                effect = resume(outcome)
            except StopIteration as stop:
                return stop.value
            try:
                outcome = yield effect
                resume = step.send
            except BaseException as error:
                if self._heard and isinstance(effect, effects.Ask) and isinstance(error, Cancelled):
                    assert self.gateway.perform_ask is not None
                    with suppress(StoreFailure):
                        self.gateway.perform_ask(effect)
                outcome, resume = error, step.throw

    def _answer(self, connection: Connection, request: RecordedRequest) -> None:
        tenant = next(name for name, key in KEYS.items() if key == request.api_key)
        served = max(request.json.get("models") or [request.model], key=lambda model: Decimal(PRICES[model][1]))
        script = self._scripts[request.model]
        answer, bill = script[0] if len(script) == 1 else script.pop(0)
        cost, told = _charged(answer, bill, served)
        arrived = answer.options[1:2] != (Sent.NOT_SENT,)
        line = Entry(self.runtime.wall(), self.runtime.now, tenant, request.model, served, cost, arrived)
        self.books.append(line)
        if answer.kind == "story" and not cost:
            answer = attrs.evolve(answer, options=tuple(part for part in answer.options if part != ("usage",)))
        if answer.kind != "fine":
            answer.reply(self._speaker)(connection, request)
            return
        if answer.options[0]:
            connection.wait(answer.options[0])
        say = self._speaker()
        r.completion(say("Hello"), model=served, **told)(connection, request)


_NEVER = frozenset({400, 401, 402, 403, 404, 409, 413, 421, 429, 502, 503, 520, 522, 529})
"""Statuses of refusals for which nobody is charged."""


def _charged(answer: Answer, bill: Bill, model: str) -> tuple[Decimal, dict[str, Any]]:
    """What an answer costs, and what it tells of that. Nothing, where a gateway says that there was no answer."""
    nothing = Decimal(0), {}
    kind, options = answer.kind, answer.options
    if kind == "fine":
        cost = bill.cost(model)
        usage = bill.usage() | ({"cost": float(cost)} if bill.told == "cost" else {})
        return cost, {"without": ["usage"]} if bill.told == "nothing" else {"usage": usage}
    if kind == "refusal" and (options[0] in _NEVER or options[2]):
        return nothing
    if kind in ("html", "redirect") or (kind == "unreachable" and options[1] is Sent.NOT_SENT):
        return nothing
    if kind == "error in 200" and options[0]:
        return nothing
    if kind == "story" and ("usage",) in options:
        return Decimal("0.00012") if Decimal(PRICES[model][1]) else Decimal(0), {}
    if kind == "story" and ("error", 429) in options and not {("text",), ("thought",)} & set(options):
        return nothing
    return bill.cost(model), {}
