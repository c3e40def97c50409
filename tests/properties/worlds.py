"""Random histories: what three models of a gateway answer, which calls are made, when. And the run of one in virtual time.

A `World` is plain data, so that a history that breaks an invariant can be read, kept and repeated. `Run` plays it to the pure
core and writes down every order that the core gave, what came of it, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any
from urllib.parse import urlsplit

import attrs
from hypothesis import settings
from hypothesis import strategies as st

from routerkit import RouterKitError
from routerkit.config import settings_from
from routerkit.core.effects import Await, Cancelled, Effect, Open, Send, Step, TransportFailure
from routerkit.core.router import Router
from routerkit.testing import ScriptedTransport
from routerkit.testing import replies as r
from routerkit.types.completion import Chunk, StreamMarker, StreamReset
from routerkit.types.event import Event
from routerkit.types.policy import RetryPolicy, Timeouts
from routerkit.types.request import INTERRUPT_MODES, ChatRequest, OnInterrupt
from routerkit.types.route import Route, Target
from routerkit.types.verdict import Sent
from tests.properties.scripts import CATALOG, FINE, LAST_RESORT, MODELS, Answer, answers
from tests.support.virtual import Interruption, VirtualGateway, VirtualRuntime

GATEWAY = "127.0.0.1:1"
KEY = "sk-test-1234567890"


def some(share: float) -> settings:
    """So many times the examples of the profile: tests whose examples take long look at fewer."""
    return settings(max_examples=max(1, int(settings().max_examples * share)))


# --- what is asked ---


@attrs.frozen
class Ask:
    """One call."""

    stream: bool = False
    models: tuple[str, ...] = MODELS
    total: float = 60.0
    after: float = 0.0
    """Seconds that pass before it."""
    interrupted: tuple[int, Ask] | None = None
    """Another call, made by somebody else before this one's so-manieth order is carried out."""
    on_interrupt: OnInterrupt | None = None
    """Of streams."""
    tenant: str = ""
    """Who asks; empty: nobody in particular."""
    handed: bool = False
    """Whether the models are handed over as `models=`, for the gateway to choose from."""


TOTALS = (0.5, 2.0, 5.0, 20.0, 60.0, 120.0)
GAPS = (0.0, 0.0, 0.0, 0.3, 1.0, 2.0, 5.0, 7.5, 20.0, 70.0, 400.0, 4000.0)
_ORDERS = st.permutations(MODELS).flatmap(lambda order: st.integers(1, 3).map(lambda count: tuple(order[:count])))
_PLAIN = st.builds(Ask, st.booleans(), _ORDERS, st.sampled_from(TOTALS), st.sampled_from(GAPS))
_RESUMED = st.builds(Ask, st.just(True), _ORDERS, on_interrupt=st.sampled_from(INTERRUPT_MODES))
_SHARED = st.builds(Ask, st.booleans(), _ORDERS, interrupted=st.tuples(st.integers(0, 5), _PLAIN))


@attrs.frozen
class World:
    scripts: tuple[tuple[str, tuple[Answer, ...]], ...]
    """By model; the last answer is given for ever."""
    asks: tuple[Ask, ...]
    dice: float = 0.5
    """What randomness gives, always."""
    retry: RetryPolicy = RetryPolicy()
    last_resort: bool = False
    """Whether there is a catalogue."""


_POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.sampled_from([1, 2, 4, 4, 6]),
    budget=st.sampled_from([0.0, 1.0, 2.0, 10.0]),
    budget_deposit=st.sampled_from([0.0, 0.1, 0.5]),
    at_most_once=st.sampled_from([False, False, False, True]),
)


@st.composite
def worlds(
    draw: st.DrawFn, *, answer: st.SearchStrategy[Answer] | None = None, asks: int = 8, overlapping: bool = False
) -> World:
    """Histories in which every model goes through a few answers and then keeps giving the last one."""
    answer = answers() if answer is None else answer
    scripts = tuple((model, tuple(draw(st.lists(answer, min_size=1, max_size=6)))) for model in (*MODELS, LAST_RESORT))
    ask = _PLAIN | _RESUMED | _SHARED if overlapping else _PLAIN | _PLAIN | _RESUMED
    calls = draw(st.lists(ask, min_size=1, max_size=asks))
    return World(scripts, tuple(calls), draw(st.sampled_from([0.0, 0.5, 0.999])), draw(_POLICIES), draw(st.booleans()))


# --- what happened ---


@attrs.define(eq=False)
class Order:
    """An effect that the core asked for."""

    at: float
    """When."""
    effect: Effect
    outcome: Any = None
    """What was sent or thrown in."""

    @property
    def target(self) -> Target | None:
        """Whom it asks for an answer; ``None``: it does not."""
        if not isinstance(self.effect, (Send, Open)) or self.effect.request.method != "POST":
            return None
        body = self.effect.request.body or b""
        model = body[len(b'{"model":"') :].partition(b'"')[0].decode()
        return Target(urlsplit(self.effect.request.url).netloc, model)

    @property
    def may_have_been_sent(self) -> bool:
        return not (isinstance(self.outcome, TransportFailure) and self.outcome.sent is Sent.NOT_SENT)


@attrs.define(eq=False)
class Record:
    """A call that has ended."""

    ask: Ask
    began: float
    ended: float
    orders: list[Order]
    delivered: list[Chunk]
    result: Any
    """A Completion, an Ended or a RouterKitError."""
    events: list[Event]
    said: list[str]
    """All that each answer to it would have said, by attempt."""
    disturbed: bool

    @property
    def deadline(self) -> float:
        return self.began + self.ask.total

    @property
    def route(self) -> Route:
        route = self.result.route
        assert isinstance(route, Route), f"{self.result!r} carries no route"
        return route

    @property
    def valid(self) -> list[Chunk]:
        """What was delivered, without our markers and without what the last reset made void."""
        kept: list[Chunk] = []
        for chunk in self.delivered:
            if isinstance(chunk, StreamReset):
                kept.clear()
            elif not isinstance(chunk, StreamMarker):
                kept.append(chunk)
        return kept

    @property
    def requests(self) -> list[Order]:
        """Those for an answer, on the wire."""
        return [order for order in self.orders if order.target is not None]

    def lines(self) -> list[str]:
        """Everything that can be compared between two runs."""
        told = [f"{order.at:.6f} {_told(order.effect)} -> {_told(order.outcome)}" for order in self.orders]
        text = "".join(chunk.text for chunk in self.delivered)
        return [*told, f"{self.ended:.6f} {type(self.result).__name__} {self.result} {text!r} {self.route}"]


def _told(value: Any) -> str:
    if isinstance(value, (bytes, TransportFailure, type(None), bool)):
        return repr(value)
    fields = getattr(value, "request", None)
    return type(value).__name__ + (f" {fields.url} {fields.body}" if fields is not None else "")


class Run:
    """A world being played to the core."""

    def __init__(self, world: World, runtime: VirtualRuntime | None = None) -> None:
        self.world = world
        self.runtime = VirtualRuntime(world.dice) if runtime is None else runtime
        self.gateway = VirtualGateway(self.runtime)
        self.gateways: list[ScriptedTransport] = [self.gateway]
        self.said: list[str] = []
        self.records: list[Record] = []
        self.known_when_cancelled: dict[str, Any] = {}
        """What `breakers` gave when a call was cancelled."""
        for model, script in world.scripts:
            self.gateway.script(model, *(answer.reply(self._speaker) for answer in script))
        if world.last_resort:
            self.gateway.catalog = r.json_body(CATALOG)
        options = settings_from({}, base_url=f"http://{GATEWAY}/v1", api_key=KEY, retry=world.retry)
        self.router = Router(options, self.runtime)
        self.routers = {"": self.router}
        """By tenant."""

    def play(self) -> Run:
        for ask in self.world.asks:
            self.call(ask)
        return self

    def recover(self) -> None:
        """From now on every model answers."""
        for model in (*MODELS, LAST_RESORT):
            self.gateway.script(model, FINE.reply(self._speaker))

    def call(self, ask: Ask, interruption: Interruption | None = None) -> Record:
        """Make a call; raises KeyboardInterrupt when it is interrupted."""
        self.runtime.now += ask.after
        began, orders = self.runtime.now, list[Order]()
        events, said = len(self.gateway.events), len(self.said)
        request, router = request_for(ask), self.routers[ask.tenant]
        step: Step[Any] = router.stream(request) if ask.stream else router.complete(request)
        delivered: list[Chunk] = []
        try:
            delivered, result = self.gateway.run(self._watched(step, orders, ask), interruption)
        except RouterKitError as error:
            result = error
            delivered = [chunk for order in orders for chunk in getattr(order.effect, "chunks", ())]
        record = Record(
            ask,
            began,
            self.runtime.now,
            orders,
            delivered,
            result,
            self.gateway.events[events:],
            self.said[said:],
            ask.interrupted is not None,
        )
        self.records.append(record)
        return record

    def _watched(self, step: Step[Any], orders: list[Order], ask: Ask) -> Generator[Effect, Any, Any]:
        """The same step, its orders written down."""
        resume: Callable[[Any], Effect] = step.send
        outcome: Any = None
        while True:
            try:
                effect = resume(outcome)
            except StopIteration as stop:
                return stop.value
            if ask.interrupted is not None and len(orders) == ask.interrupted[0]:
                self.call(ask.interrupted[1])
            order = Order(self.runtime.now, effect)
            orders.append(order)
            if isinstance(effect, Await):  # for somebody who has no turn before this call has ended
                self.runtime.now += effect.seconds
                resume, outcome = step.send, effect.latch.is_set
                continue
            try:
                outcome = yield effect
                resume = step.send
            except BaseException as error:
                if isinstance(error, Cancelled):
                    self.known_when_cancelled = self.breakers()
                outcome = error
                resume = step.throw
            order.outcome = outcome

    def _speaker(self) -> Callable[[str], str]:
        number = len(self.said)
        self.said.append("")

        def say(text: str) -> str:
            piece = f" {text}-{number}.{len(self.said[number])}"
            self.said[number] += piece
            return piece

        return say

    def breakers(self) -> dict[str, Any]:
        """Everything that breakers remember but for permits."""
        found = {}
        for gateway, model in self.scopes:
            breaker = self.router.health.breaker(gateway, model)
            name = str(model) if gateway == GATEWAY else f"{model} on {gateway}"
            found[name] = (breaker.state, breaker.open_until, list(breaker._samples), list(breaker._row))
        return found

    @property
    def scopes(self) -> list[tuple[str, str | None]]:
        """Gateway and model of each breaker there is; no model: that of the gateway."""
        return [(gateway, model) for gateway in self.router.access for model in (None, *MODELS, LAST_RESORT)]

    def leases(self) -> list[str]:
        """Permits that are out, keys in use and connections that are open: none, when no call is under way."""
        held = []
        for gateway, model in self.scopes:
            breaker = self.router.health.breaker(gateway, model)
            if breaker._leased_until > self.runtime.now:
                held.append(f"the probe of {model} on {gateway}")
            if breaker._waiting:
                held.append(f"{len(breaker._waiting)} streams of {model} on {gateway}")
        for router in self.routers.values():
            for access in router.access.values():
                held += [f"{key!r}" for key in access.keys if key.in_flight]
                held += ["the catalogue"] if access.catalog._fetching is not None else []
        connections = sum(each.open_streams for each in self.gateways)
        return [*held, *([f"{connections} connections"] if connections else [])]


def request_for(ask: Ask) -> ChatRequest:
    first, *others = ask.models
    return ChatRequest.build(
        "Hello",
        {"models": list(ask.models)} if ask.handed else {},
        model=first,
        fallback_models=others,
        extra_body=None,
        extra_headers=None,
        timeouts=Timeouts(total=ask.total),
        stream=ask.stream,
        on_interrupt=ask.on_interrupt,
    )
