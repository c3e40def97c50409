"""The simulated gateways: their models, how long each takes, and what befalls them when.

A `Behaviour` decides how one request fares. A model is healthy except while a `Fault` says otherwise. How long an answer takes
is drawn from the seed, the call and how often the call has asked this model, not from what was drawn before: so a run with a
fault and one without it can be compared call by call.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
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

IN_FLIGHT, KEY_LIMIT = "openrouter_in_flight_budget", "openrouter_key_limit"
"""Whose limits are used up: that of all that is under way with a key, that of the key itself."""

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


@attrs.frozen
class Rest:
    """After a refusal, as docs/failures.md promises it."""

    kind: str
    """`key`: with this key, nothing of the gateway; `free`: nor any of its free models; `limited`: nor this model. `policy`: this
    model, with no key of the same tenant. `model`: this model, with no key at all."""
    seconds: float
    asked_for: bool
    """By the gateway; else the same call may ask again, once it has waited."""


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
    key: str = ""
    """With which it was sent."""
    rests: tuple[Rest, ...] = ()
    """What may not be asked, and for how long, once this answer is there."""

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
    gateways (none named: at all) to who comes with these keys (none named: to all)."""

    begin: float
    end: float
    behaviour: Behaviour
    models: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def hits(self, exchange: Exchange, elapsed: float) -> bool:
        return (
            self.begin <= elapsed < self.end
            and (not self.models or exchange.model in self.models)
            and (not self.gateways or exchange.gateway in self.gateways)
            and (not self.keys or exchange.key in self.keys)
        )


class Upstream:
    """The gateways. The first fault that hits decides."""

    def __init__(self, models: tuple[str, ...] | Mapping[str, tuple[str, ...]], faults: Iterable[Fault] = ()) -> None:
        """`models`: what all gateways have, or what each has, by its name."""
        self._models = models
        self.faults = list(faults)
        self.exchanges: list[Exchange] = []

    def models(self, gateway: str) -> tuple[str, ...]:
        """The ids of a gateway's models."""
        return self._models[gateway] if isinstance(self._models, Mapping) else self._models

    def _catalog(self, gateway: str) -> bytes:
        entry = '{"id":"%s","context_length":8192,"pricing":{"prompt":"%s","completion":"%s"}}'
        prices = (
            (model, *(("0", "0") if model.endswith(":free") else ("0.000001", "0.000002")))
            for model in self.models(gateway)
        )
        return b'{"data":[%s]}' % ",".join(entry % each for each in prices).encode()

    def answer(self, world: World, flow: Flow, order: Send | Open) -> Exchange:
        body = order.request.body
        model = CATALOG if body is None else body[10 : body.index(b'"', 10)].decode()  # after {"model":"
        gateway = (urlsplit(order.request.url).hostname or "").removesuffix(".test")
        credential = order.request.credential
        key = "" if credential is None else credential.secret.reveal()
        exchange = Exchange(gateway, model, world.now, flow, key=key)
        self.exchanges.append(exchange)
        behaviour = next((fault.behaviour for fault in self.faults if fault.hits(exchange, world.elapsed)), healthy)
        if model is CATALOG and behaviour is healthy:
            exchange.head, exchange.body = world.now + 0.1, self._catalog(gateway)
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
    status: int,
    message: str = "no",
    headers: dict[str, str] | None = None,
    retry_after: float | None = None,
    *,
    source: str = "",
    at_once: bool = False,
) -> Behaviour:
    """An HTTP error, soon. `source`: whose limit it is, as OpenRouter tells it. `at_once`: in no time at all."""
    about = b',"metadata":{"limit_source":"%s"}' % source.encode() if source else b""
    body = b'{"error":{"code":%d,"message":"%s"%s}}' % (status, message.encode(), about)
    told = {**_JSON, **(headers or {})}
    if retry_after is not None:
        told["retry-after"] = f"{retry_after:g}"
    rests = tuple(_rests(status, message, source, retry_after))

    def behave(occasion: Occasion) -> None:
        exchange, (least, most) = occasion.exchange, REFUSAL
        if at_once:
            least = most = 0.0
        exchange.head = occasion.now + least + (most - least) * occasion.draw().random()
        exchange.status, exchange.headers, exchange.body = status, told, body
        exchange.events, exchange.retry_after, exchange.rests = ((exchange.head, body),), retry_after, rests

    return behave


def _rests(status: int, message: str, source: str, hint: float | None) -> Iterator[Rest]:
    """What rests after a refusal, by docs/failures.md."""
    kind, seconds, longest = "", 0.0, 3600.0
    hint = hint or None
    if "free-models-per-" in message:
        kind, seconds, longest = "free", 60.0, 86_400.0
    elif status == 401 or source == IN_FLIGHT or (status == 429 and "quota" in message):
        kind, seconds = "key", 60.0 if status == 401 else 300.0 if status == 429 else 0.0
        hint = hint if source else None
    elif status == 402:
        kind, seconds, hint = "key", 300.0, hint if source else None
    elif status == 404:
        kind, seconds, hint = "policy" if "policy" in message else "model", 3600.0, None
    elif status == 429:
        kind, seconds, longest = "limited", 5.0, 300.0
    elif status in (503, 529):
        kind, longest = "model", 300.0
    seconds = seconds if hint is None else min(hint, longest)
    if kind and seconds:
        yield Rest(kind, seconds, hint is not None)


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
