"""The simulated gateways: their models, how long each takes, and what befalls them when.

A `Behaviour` decides how one request fares. A model is healthy except while a `Fault` says otherwise. How long an answer takes
is drawn from the seed, the call and how often the call has asked this model, not from what was drawn before: so a run with a
fault and one without it can be compared call by call.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from routerkit.core.effects import Failure, Open, Send, TransportFailure
from routerkit.types.gateway import Gateway
from routerkit.types.route import Target
from routerkit.types.verdict import Sent

if TYPE_CHECKING:
    from tests.simulation.world import Flow, World

FIRST, SECOND = (Gateway(name=name, base_url=f"https://{name}.test/v1") for name in ("gateway", "second"))
CATALOG = "the catalogue"
"""In place of a model, in the record of what was asked."""

FIRST_TOKEN, FIRST_TOKEN_SPREAD = 0.6, 0.5
"""Seconds to a healthy model's first token: median, and the standard deviation of the logarithm."""
REST, REST_SPREAD = 1.0, 0.35
"""Seconds from there to the end of its answer, the same."""
HEADERS = 0.03
"""Seconds to the status line of a stream, which comes before the model has thought of anything."""
REFUSAL = (0.04, 0.12)
"""Seconds that an error takes, from and to."""

_JSON = {"content-type": "application/json"}
_SSE = {"content-type": "text/event-stream"}
_WORDS = " there."
_FIRST = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"%s"}}]}\n\n'
_MORE = b'data: {"choices":[{"index":0,"delta":{"content":" there."}}]}\n\n'
_REST = (
    _MORE
    + b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4}}'
    + b"\n\ndata: [DONE]\n\n"
)
_WHOLE = (
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"%s there."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":4}}'
)
_COMMENT = b": still thinking\n\n"


@attrs.define(eq=False, slots=True)
class Exchange:
    """One request and what comes of it; times are those of the monotonic clock."""

    gateway: str
    model: str
    sent: float
    flow: Flow = attrs.field(repr=False)
    head: float = math.inf
    """When the status line comes."""
    status: int = 200
    headers: dict[str, str] = _JSON
    body: bytes = b""
    events: Iterable[tuple[float, bytes | TransportFailure]] = ()
    """Of a stream: when which bytes come, or how it breaks."""
    unsent: Failure | None = None
    """There is no connection, and why."""
    failure: TransportFailure | None = None
    """Comes in place of a status line."""
    text: str = ""
    """All that the model says, or would have said."""
    retry_after: float | None = None

    @property
    def target(self) -> Target:
        return Target(self.gateway, self.model)

    @property
    def stale(self) -> bool:
        """Whether its connection had died of old age."""
        return self.failure is not None and self.failure.reused


@attrs.define
class Occasion:
    """What a behaviour may go by."""

    world: World
    exchange: Exchange
    stream: bool
    draw: Callable[[], random.Random]
    """For anything but how long an answer takes."""
    first_token: float
    rest: float

    @property
    def now(self) -> float:
        return self.world.now


Behaviour = Callable[[Occasion], None]
"""Writes into the occasion's exchange how it fares."""


@attrs.frozen
class Fault:
    """From `begin` to `end`, in seconds from the start, these models (none named: all, catalogue included) misbehave at these
    gateways (none named: at all)."""

    begin: float
    end: float
    behaviour: Behaviour
    models: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()

    def hits(self, target: Target, elapsed: float) -> bool:
        return (
            self.begin <= elapsed < self.end
            and (not self.models or target.model in self.models)
            and (not self.gateways or target.gateway in self.gateways)
        )


class Upstream:
    """The gateways, all of which have the same models. The first fault that hits decides."""

    def __init__(self, models: tuple[str, ...], faults: Iterable[Fault] = ()) -> None:
        self.models = models
        self.faults = list(faults)
        self.exchanges: list[Exchange] = []
        entry = '{"id":"%s","context_length":8192,"pricing":{"prompt":"0.000001","completion":"0.000002"}}'
        self._catalog = b'{"data":[%s]}' % ",".join(entry % model for model in models).encode()

    def answer(self, world: World, flow: Flow, order: Send | Open) -> Exchange:
        body = order.request.body
        model = CATALOG if body is None else body[10 : body.index(b'"', 10)].decode()  # after {"model":"
        gateway = (urlsplit(order.request.url).hostname or "").removesuffix(".test")
        exchange = Exchange(gateway, model, world.now, flow)
        self.exchanges.append(exchange)
        target = exchange.target
        behaviour = next((fault.behaviour for fault in self.faults if fault.hits(target, world.elapsed)), healthy)
        if model is CATALOG and behaviour is healthy:
            exchange.head, exchange.body = world.now + 0.1, self._catalog
        else:
            behaviour(self._occasion(world, flow, exchange, order))
        return exchange

    def _occasion(self, world: World, flow: Flow, exchange: Exchange, order: Send | Open) -> Occasion:
        tries = sum(each.model == exchange.model for each in flow.exchanges)
        draws = random.Random((world.seed << 48) + (flow.number << 8) + tries)

        def draw() -> random.Random:
            return random.Random(f"{world.seed}/{exchange.model}/{flow.number}/{tries}")

        exchange.text = f"{exchange.model} {flow.number} {tries}{_WORDS}"
        first_token = FIRST_TOKEN * math.exp(FIRST_TOKEN_SPREAD * draws.gauss(0, 1))
        rest = REST * math.exp(REST_SPREAD * draws.gauss(0, 1))
        return Occasion(world, exchange, order.__class__ is Open, draw, first_token, rest)


# --- behaviours ---


def healthy(occasion: Occasion) -> None:
    _serve(occasion, 1.0)


def _serve(occasion: Occasion, slowness: float) -> None:
    exchange, now = occasion.exchange, occasion.now
    first_token, end = now + slowness * occasion.first_token, now + slowness * (occasion.first_token + occasion.rest)
    said = exchange.text.removesuffix(_WORDS).encode()
    if occasion.stream:
        exchange.head, exchange.headers = now + min(HEADERS, slowness * occasion.first_token), _SSE
        exchange.events = ((first_token, _FIRST % said), (end, _REST))
    else:
        exchange.head, exchange.body = end, _WHOLE % said


def slow(factor: float) -> Behaviour:
    """Everything takes so many times as long."""
    return lambda occasion: _serve(occasion, factor)


def refuse(
    status: int, message: str = "no", headers: dict[str, str] | None = None, retry_after: float | None = None
) -> Behaviour:
    """An HTTP error, soon."""
    body = b'{"error":{"code":%d,"message":"%s"}}' % (status, message.encode())
    told = {**_JSON, **(headers or {})}
    if retry_after is not None:
        told["retry-after"] = f"{retry_after:g}"

    def behave(occasion: Occasion) -> None:
        exchange, (least, most) = occasion.exchange, REFUSAL
        exchange.head = occasion.now + least + (most - least) * occasion.draw().random()
        exchange.status, exchange.headers, exchange.body = status, told, body
        exchange.events, exchange.retry_after = ((exchange.head, body),), retry_after

    return behave


def web_page(occasion: Occasion) -> None:
    """What a proxy says in the place of a gateway."""
    exchange, (least, most) = occasion.exchange, REFUSAL
    exchange.head = occasion.now + least + (most - least) * occasion.draw().random()
    exchange.status, exchange.headers, exchange.body = 502, {"content-type": "text/html"}, b"<html>Bad gateway</html>"
    exchange.events = ((exchange.head, exchange.body),)


def hang(occasion: Occasion) -> None:
    """The connection is made, and nothing ever comes."""


def think(occasion: Occasion) -> None:
    """Headers and keep-alive comments, and never a token. Without a stream, nothing."""
    if not occasion.stream:
        return
    exchange, now = occasion.exchange, occasion.now
    exchange.head, exchange.headers = now + HEADERS, _SSE

    def comments() -> Iterator[tuple[float, bytes]]:
        when = now
        while True:
            when += 1
            yield when, _COMMENT

    exchange.events = comments()


def unreachable(failure: Failure = Failure.CONNECT) -> Behaviour:
    """No connection: refused at once, or, with `CONNECT_TIMEOUT`, no word at all."""

    def behave(occasion: Occasion) -> None:
        occasion.exchange.unsent = failure
        occasion.exchange.head = math.inf if failure is Failure.CONNECT_TIMEOUT else occasion.now + 0.002

    return behave


def lose(failure: Failure = Failure.DISCONNECTED, *, reused: bool = False) -> Behaviour:
    """The connection breaks before the answer."""

    def behave(occasion: Occasion) -> None:
        occasion.exchange.head = occasion.now + 0.05
        occasion.exchange.failure = TransportFailure(failure, Sent.MAYBE, reused=reused)

    return behave


def cut(how: str) -> Behaviour:
    """Answers break in the middle: `end`s politely, is `reset`, or `stall`s behind comments. A whole answer is cut short."""

    def behave(occasion: Occasion) -> None:
        _serve(occasion, 1.0)
        exchange = occasion.exchange
        broken = TransportFailure(Failure.TRUNCATED, Sent.RESPONDED, status=200)
        if not occasion.stream:
            exchange.failure = broken
            return
        first, (end, _) = tuple(exchange.events)
        if how == "stall":
            exchange.events = (first, *((end + second, _COMMENT) for second in range(1000)))
        else:
            exchange.events = (first, (end, broken if how == "reset" else b""))

    return behave


def sometimes(share: float, this: Behaviour, otherwise: Behaviour = healthy) -> Behaviour:
    """That share of the requests, at random, fares like this."""

    def behave(occasion: Occasion) -> None:
        (this if occasion.draw().random() < share else otherwise)(occasion)

    return behave


def rising(begin: float, seconds: float, low: float, high: float, this: Behaviour) -> Behaviour:
    """As `sometimes`, with a share that rises steadily."""

    def behave(occasion: Occasion) -> None:
        progress = (occasion.world.elapsed - begin) / seconds
        sometimes(low + (high - low) * progress, this)(occasion)

    return behave


def rate_limited(quota: int, hint: float, ignored: float) -> Behaviour:
    """Serves `quota` requests, then says 429 with `Retry-After: hint` for so long; of these waits, the share `ignored` turns out
    to be twice as long as was said."""
    refusal, state = refuse(429, "slow down", retry_after=hint), {"left": quota, "until": 0.0}

    def behave(occasion: Occasion) -> None:
        if occasion.now < state["until"]:
            return refusal(occasion)
        if state["left"] > 0:
            state["left"] -= 1
            return healthy(occasion)
        state["left"] = quota
        state["until"] = occasion.now + hint * (2 if occasion.draw().random() < ignored else 1)
        return refusal(occasion)

    return behave
