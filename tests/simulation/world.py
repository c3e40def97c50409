"""The simulated world: one heap of things to come, one clock, any number of processes with calls under way.

Each process owns a real `Router`, and one that shares with it for each tenant. A `Flow` is one call: it drives the router's
generator as a facade's driver does, except that an effect which takes time is a note on the heap. All time limits in effects
are held to the letter.
"""

from __future__ import annotations

import gc
import heapq
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from routerkit.core.effects import (
    Await,
    Cancelled,
    Close,
    Deliver,
    Effect,
    Emit,
    Failure,
    Open,
    Read,
    Send,
    Sleep,
    StreamResponse,
    TransportFailure,
)
from routerkit.core.effects import HttpResponse as Response
from routerkit.core.router import Router
from routerkit.errors import RouterKitError
from routerkit.store.memory import MemoryStore
from routerkit.tenancy import settings_for
from routerkit.types.request import ChatRequest
from routerkit.types.settings import Settings
from routerkit.types.verdict import Sent

if TYPE_CHECKING:
    from tests.simulation.upstream import Exchange, Upstream
    from tests.simulation.watch import Watch

START = 1000.0
"""What the monotonic clock shows when a world begins."""
EPOCH = 1_790_000_000.0
"""What the wall clock shows when the monotonic one shows 0, before anybody sets it."""

_PENDING = object()
"""An effect that takes time: its result comes from the heap."""


class _NoLock:
    """Everything happens in one thread."""

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


class Process:
    """One process of an application: its routers, and the `Runtime` that they see."""

    def __init__(self, world: World, number: int, settings: Settings, *, dice_by_call: bool) -> None:
        self.number = number
        self._world = world
        self.random = random.Random(f"{world.seed}/process/{number}").random
        if dice_by_call:
            self.random = self._random_of_call
        self.store = MemoryStore(self)
        self.router = Router(settings, self, lambda: world.observed, self.store)
        self.routers = {name: self.router.sharing(settings_for(settings, name)) for name in settings.tenants}
        """By tenant."""

    def _random_of_call(self) -> float:
        going = self._world.going
        assert going is not None, "random numbers outside of all calls"
        return going.dice()

    def monotonic(self) -> float:
        return self._world.now

    def wall(self) -> float:
        return self._world.wall()

    def lock(self) -> Any:
        return _NoLock()


class World:
    """`wall_steps`: (seconds from the start, seconds by which somebody sets the wall clock then).

    `dice_by_call`: what is random in a call does not depend on what other calls there are.
    """

    def __init__(
        self,
        seed: int,
        upstream: Upstream,
        settings: Settings,
        *,
        processes: int = 1,
        observed: bool = False,
        wall_steps: tuple[tuple[float, float], ...] = (),
        dice_by_call: bool = False,
    ) -> None:
        self.seed = seed
        self.now = START
        self.upstream = upstream
        self.observed = observed
        self.going: Flow | None = None
        """The call that goes on right now."""
        self.processes = [Process(self, each, settings, dice_by_call=dice_by_call) for each in range(processes)]
        self.flows: list[Flow] = []
        self.watch: Watch | None = None
        self.trace: list[tuple[Any, ...]] = []
        self._wall_steps = wall_steps
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._noted = 0

    @property
    def elapsed(self) -> float:
        return self.now - START

    def wall(self) -> float:
        return EPOCH + self.now + sum(by for when, by in self._wall_steps if when <= self.elapsed)

    def traced(self) -> bytes:
        """All that happened, as text."""
        return "\n".join(" ".join(map(str, entry)) for entry in self.trace).encode()

    def at(self, when: float, happen: Callable[..., None], *arguments: Any) -> None:
        """Have something happen; what was noted first happens first."""
        self._noted += 1
        heapq.heappush(self._heap, (when, self._noted, happen, arguments))

    def run(self, until: float = math.inf) -> None:
        """Let time pass until nothing is to come, or so many seconds after the start."""
        heap = self._heap
        while heap and heap[0][0] <= START + until:
            self.step()
        if until < math.inf:
            self.now = START + until

    def step(self) -> None:
        """The next thing happens."""
        self.now, _, happen, arguments = heapq.heappop(self._heap)
        happen(*arguments)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """When something goes wrong, lets go of all calls under way, so that none complains of being forgotten."""
        collects = gc.isenabled()
        gc.disable()  # all that a run makes it keeps: collections would take a fifth of its time and find nothing
        try:
            yield
        except BaseException:
            self.watch = None
            for flow in self.flows:
                flow.cancel()
            raise
        finally:
            if collects:
                gc.enable()

    def call(self, process: int, request: ChatRequest, tenant: str = "", number: int | None = None) -> Flow:
        """Begin a call now. `number`: what tells it from all others, and decides how long its answers take."""
        number = len(self.flows) if number is None else number
        flow = Flow(self, self.processes[process], number, request, tenant)
        self.flows.append(flow)
        flow.resume()
        return flow

    def traffic(self, rate: float, begin: float, end: float, request: ChatRequest) -> None:
        """Calls at random moments, `rate` a second on average, spread over all processes at random."""
        draws = random.Random(f"{self.seed}/traffic/{begin}")

        def arrive() -> None:
            self.call(draws.randrange(len(self.processes)), request)
            follow(self.now)

        def follow(last: float) -> None:
            when = last + draws.expovariate(rate)
            if when < START + end:
                self.at(when, arrive)

        follow(START + begin)


class Flow:
    """One call under way."""

    def __init__(self, world: World, process: Process, number: int, request: ChatRequest, tenant: str) -> None:
        self.world = world
        self.process = process
        self.number = number
        self.request = request
        self.tenant = tenant
        self.router = process.routers[tenant] if tenant else process.router
        self.dice = random.Random((world.seed << 32) + number).random
        self.started = world.now
        self.deadline = world.now + request.total
        self.ended: float | None = None
        self.value: Any = None
        self.error: RouterKitError | None = None
        self.cancelled = False
        self.exchanges: list[Exchange] = []
        """Everything sent, in order, the catalogue included."""
        self.waits: list[tuple[float, float]] = []
        """(when, seconds)."""
        self.delivered: list[Any] = []
        self.events: list[Any] = []
        self.open: set[Handle] = set()
        self.asking: Exchange | None = None
        """The attempt that it waits for, so that its key is in use; the catalogue is none."""
        self._ticket = 0
        step = self.router.stream if request.stream else self.router.complete
        self._step = step(request)

    @property
    def ok(self) -> bool:
        return self.value is not None

    @property
    def route(self) -> Any:
        return self.value.route if self.value is not None else getattr(self.error, "route", None)

    def resume(self, result: Any = None, failure: TransportFailure | None = None) -> None:
        """Go on with what an effect brought, up to the next one that takes time."""
        step, watch = self._step, self.world.watch
        self.world.going = self
        if watch is not None:
            watch.before(self)
        try:
            while result is not _PENDING:
                effect = step.send(result) if failure is None else step.throw(failure)
                failure = None
                result = self._perform(effect)
        except StopIteration as stop:
            self._end(stop.value, None)
        except RouterKitError as error:
            self._end(None, error)
        if watch is not None:
            watch.after(self)

    def cancel(self) -> None:
        """The caller is gone; as `routerkit.transport.drive.unwind`, nothing is waited for."""
        if self.ended is not None:
            return
        self.world.going = self
        if self.world.watch is not None:
            self.world.watch.before(self)
        self._ticket += 1
        self.cancelled = True
        try:
            effect = self._step.throw(Cancelled())
            while True:
                assert isinstance(effect, (Close, Emit)), f"{effect} while being cancelled"
                self._perform(effect)
                effect = self._step.send(None)
        except Cancelled:
            self._end(None, None)
        if self.world.watch is not None:
            self.world.watch.after(self)

    def _end(self, value: Any, error: RouterKitError | None) -> None:
        world = self.world
        self.ended, self.value, self.error, self.asking = world.now, value, error, None
        outcome = "ok" if value is not None else "cancelled" if self.cancelled else type(error).__name__
        world.trace.append((world.now, self.number, outcome, str(error or "")))
        if world.watch is not None:
            world.watch.ended(self)

    def _later(self, when: float, result: Any = None, failure: TransportFailure | None = None) -> object:
        self._ticket += 1
        self.world.at(when, self._wake, self._ticket, result, failure)
        return _PENDING

    def _wake(self, ticket: int, result: Any, failure: TransportFailure | None) -> None:
        if ticket == self._ticket and self.ended is None:
            self._ticket += 1
            if isinstance(result, StreamResponse):
                self.open.add(result.handle)
            if failure is not None:
                self.world.trace.append((self.world.now, self.number, "failure", str(failure.failure)))
            self.resume(result, failure)

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Read):
            return self._read(effect.handle, effect.seconds)
        if isinstance(effect, (Open, Send)):
            return self._exchange(effect)
        if self.world.watch is not None:
            self.world.watch.settled(self)
        if isinstance(effect, Deliver):
            self.delivered.extend(effect.chunks)
        elif isinstance(effect, Close):
            effect.handle.closed = True
            self.open.discard(effect.handle)
        elif isinstance(effect, Emit):
            self.events.append(effect.event)
        elif isinstance(effect, Sleep):
            self.asking = None
            self.waits.append((self.world.now, effect.seconds))
            self.world.trace.append((self.world.now, self.number, "sleep", effect.seconds))
            return self._later(self.world.now + effect.seconds)
        else:
            return self._await(effect)
        return None

    def _exchange(self, effect: Send | Open) -> Any:
        """Send, and note when the answer's head comes; a whole answer's body comes with it."""
        world, now = self.world, self.world.now
        exchange = world.upstream.answer(world, self, effect)
        self.asking = None if effect.request.body is None else exchange
        world.trace.append((now, self.number, "send", exchange.model))
        if world.watch is not None:
            world.watch.sent(self, exchange)
        self.exchanges.append(exchange)
        if exchange.unsent is not None:
            late = exchange.head > now + effect.connect
            failure = TransportFailure(Failure.CONNECT_TIMEOUT if late else exchange.unsent, Sent.NOT_SENT)
            return self._later(min(exchange.head, now + effect.connect), None, failure)
        limit = min(effect.first_byte, effect.total)
        if exchange.head > now + limit:
            return self._later(now + limit, None, TransportFailure(Failure.FIRST_BYTE_TIMEOUT, Sent.MAYBE))
        if exchange.failure is not None:
            return self._later(exchange.head, None, exchange.failure)
        if isinstance(effect, Send):
            return self._later(exchange.head, Response(exchange.status, exchange.headers, exchange.body))
        return self._later(exchange.head, StreamResponse(exchange.status, exchange.headers, Handle(exchange)))

    def _read(self, handle: Handle, seconds: float) -> Any:
        now = self.world.now
        when, data = handle.peek()
        if when > now + seconds:
            failure = TransportFailure(Failure.READ_TIMEOUT, Sent.RESPONDED, status=handle.exchange.status)
            return self._later(now + seconds, None, failure)
        handle.taken()
        if isinstance(data, TransportFailure):
            return self._later(max(now, when), None, data)
        return data if when <= now else self._later(when, data)

    def _await(self, effect: Await) -> Any:
        latch, ticket = effect.latch, self._ticket + 1
        self.asking = None

        def wake() -> None:
            self.world.at(self.world.now, self._wake, ticket, True, None)

        result = self._later(self.world.now + effect.seconds, False)
        latch.subscribe(wake)
        return result


class Handle:
    """A stream's answer: what comes when."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.closed = False
        self._events = iter(exchange.events)
        self._next: tuple[float, bytes | TransportFailure] | None = None

    def peek(self) -> tuple[float, bytes | TransportFailure]:
        """The next thing that comes; after the last one the body's end, at once."""
        assert not self.closed, "read after it was closed"
        if self._next is None:
            self._next = next(self._events, (0.0, b""))
        return self._next

    def taken(self) -> None:
        self._next = None
