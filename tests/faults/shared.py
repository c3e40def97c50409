"""A client whose limits are counted by a real server, with a wire between them on which anything may go wrong.

Time is virtual for the client, so that what it waits for is seen and not waited for; a time limit of its own link it keeps in real
time where a test is about that, and else has patience: a busy machine is not the subject.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from routerkit import BreakerPolicy, Budget, Completion, LimitExceededError, Limits, SharedStore, Tenant
from routerkit.core.effects import Ask, StoreFailure
from routerkit.store.redis_ask import SECONDS
from routerkit.testing import FaultServer, VirtualRuntime
from routerkit.testing import replies as r
from routerkit.types.event import StoreChanged
from tests.support.facades import AsyncCaller, SyncCaller
from tests.support.pair import answer_of
from tests.support.scenarios import A, B

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE = 20.0
"""Seconds that a healthy server may take."""


class Wire:
    """Passes on what a client and a server of Redis say to each other, unless it is told otherwise."""

    def __init__(self, port: int) -> None:
        self.port = port
        """Of the server, for connections from now on."""
        self.connections = 0
        self.said = bytearray()
        """All that the server was sent."""
        self.heard = 0
        """Bytes that it sent."""
        self._passing()
        self._stopped, self._stop = socket.socketpair()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _passing(self) -> None:
        self._instead: bytes | None = None
        self._reset = False
        self._let_through = threading.Event()
        self._let_through.set()
        self.held = threading.Event()
        """Set when a reply waits."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_through.set()
        with self._listener, self._stopped, self._stop:
            self._stop.send(b"!")  # nobody reads it, so that all who wait are woken
            for thread in self._threads:
                thread.join()

    def mend(self) -> None:
        """From now on all goes through; replies that were held too."""
        self._let_through.set()
        self._passing()

    def hold(self) -> None:
        """Replies come when it is mended: the server has heard what it was told."""
        self._let_through = threading.Event()

    def reset(self) -> None:
        """Whoever says anything is cut off."""
        self._reset = True

    def answer(self, data: bytes) -> None:
        """Everything is answered with this, and the server hears nothing."""
        self._instead = data

    def _accept(self) -> None:
        while self._stopped not in select.select([self._listener, self._stopped], [], [])[0]:
            peer, _ = self._listener.accept()
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(peer,)))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError), peer, socket.create_connection(("127.0.0.1", self.port)) as server:
            for end in (peer, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a piece may wait 40 ms for an ACK
            while self._stopped not in (ready := select.select([peer, server, self._stopped], [], [])[0]):
                if peer in ready and not self._to_server(peer, server):
                    return
                if server in ready:
                    data = server.recv(65536)
                    if not self._let_through.is_set():
                        self.held.set()
                        self._let_through.wait()
                    if not data:
                        return
                    self.heard += len(data)
                    peer.sendall(data)

    def _to_server(self, peer: socket.socket, server: socket.socket) -> bool:
        data = peer.recv(65536)
        if self._reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if self._instead is not None and data:
            peer.sendall(self._instead)
            return True
        self.said += data
        server.sendall(data)
        return bool(data)


class Shared:
    """A client that shares its limits."""

    def __init__(self, caller: SyncCaller | AsyncCaller, runtime: VirtualRuntime, events: list[Any]) -> None:
        self.caller = caller
        self.runtime = runtime
        self._events = events
        self.asked: list[tuple[str, float, bool]] = []
        """What was asked of the store: the script, its time limit, whether a reply came."""
        client: Any = caller.client
        self._link = client._link
        self.store = client._shared_store
        self._perform = client._performers[Ask]
        client._performers[Ask] = self._perform_async if isinstance(caller, AsyncCaller) else self._perform_sync
        self.patient = True

    @property
    def patient(self) -> bool:
        """Whether its link waits as long as it takes."""
        return self._patient

    @patient.setter
    def patient(self, patient: bool) -> None:
        self._patient = patient
        for each in (self._link, *getattr(self._link, "_homes", {}).values()):
            each._seconds = PATIENCE if patient else SECONDS

    def _perform_sync(self, order: Ask) -> Any:
        limit = self._prepared(order)
        try:
            reply = self._perform(order)
        except StoreFailure:
            self.asked.append((order.script.name, limit, False))
            raise
        self.asked.append((order.script.name, limit, True))
        return reply

    async def _perform_async(self, order: Ask) -> Any:
        limit = self._prepared(order)
        try:
            reply = await self._perform(order)
        except StoreFailure:
            self.asked.append((order.script.name, limit, False))
            raise
        self.asked.append((order.script.name, limit, True))
        return reply

    def _prepared(self, order: Ask) -> float:
        limit = order.seconds
        if self._patient:
            order.seconds = PATIENCE
        return limit

    @property
    def told(self) -> list[str]:
        """What observers were told of the store."""
        return [str(event.state) for event in self._events if isinstance(event, StoreChanged)]

    @property
    def why(self) -> list[str]:
        """What they were told of the reasons."""
        return [event.detail for event in self._events if isinstance(event, StoreChanged)]

    @property
    def lost(self) -> bool:
        return self.caller.client.health().store_lost

    def ask(self, times: int = 1, **options: Any) -> list[Completion]:
        """So many calls, of both kinds, which are all answered."""
        return [answer_of(self.caller, stream=bool(number % 2), **options) for number in range(times)]

    def degraded(self, times: int = 1, **options: Any) -> int:
        """How many of so many calls were decided without the store. All are answered."""
        return sum(bool(answer.route.degraded) for answer in self.ask(times, **options))

    def room(self, most: int = 100) -> int:
        """How many more calls are allowed, up to so many; they are made."""
        for number in range(most):
            try:
                self.caller.complete()
            except LimitExceededError:
                return number
        return most


@contextmanager
def sharing(
    facade: Callable[..., SyncCaller | AsyncCaller],
    gateway: FaultServer,
    url: str,
    *,
    namespace: str = "routerkit",
    workers: int = 1,
    offline_allowance: str = "1",
    present: bool = True,
    **options: Any,
) -> Iterator[Shared]:
    """A client that shares what it counts with all others at this URL. ``present``: its server is there."""
    given = {"base_url": gateway.url, "default_model": A, **options}
    while True:
        runtime, events = VirtualRuntime(wall=time.time()), list[Any]()
        store = SharedStore(url, namespace, workers, offline_allowance)
        with facade(**given, store=store, runtime=runtime, observers=[events.append]) as caller:
            if present and caller.client.health().store_lost:
                continue  # fifty milliseconds were too short for this machine
            yield Shared(caller, runtime, events)
            return


# --- a client that has something to keep of every kind ---

AMPLE = Limits(requests_per_minute=9000, tokens_per_minute=10**9, requests_per_day=9000, concurrency=90)
DOWN, UNSTEADY = "d/own", "u/nsteady"


def everything(gateway: FaultServer, names: Sequence[str] = ("acme", "globex")) -> dict[str, Any]:
    """The options of a client that limits, budgets and shares all that there is; the gateway has what that needs."""
    prices = {"prompt": "0.000001", "completion": "0.000001"}
    gateway.catalog = [r.catalog_model(model, pricing=prices) for model in (A, B, DOWN, UNSTEADY)]
    gateway.script(DOWN, r.error(503))
    gateway.script(UNSTEADY, r.error(503), r.completion())
    host = gateway.url.split("/")[2]
    tenants = [
        Tenant(name, f"sk-{number}-1234567890", limits=AMPLE, budget=Budget("900", per="month"))
        for number, name in enumerate(names)
    ]
    scopes = ["client", f"gateway:{host}", "key", f"key:{host}", f"model:{A}", f"model:{A} on {host}", "free"]
    return {
        "tenants": tenants,
        "api_key": None,
        "limits": dict.fromkeys(scopes, AMPLE),
        "budget": Budget("900", per="total"),
        "strategy": "performance_optimized",
        "breaker": BreakerPolicy(fast_trip=1),
        "default_model": A,
        "fallback_models": [B],
    }


def live(shared: Shared, names: Sequence[str] = ("acme", "globex"), prompt: str = "Hello") -> None:
    """Calls of all tenants: a model that is down, one that comes back, scores, the catalogue."""
    for name in names:
        tenant = shared.caller.tenant(name)
        for number, model in enumerate((A, DOWN, UNSTEADY)):
            assert answer_of(tenant, prompt, stream=bool(number % 2), model=model).text
        shared.runtime.advance(61)
        assert answer_of(tenant, prompt, model=UNSTEADY).text, "it is probed by one of the fleet"
