"""Cancelled, interrupted, terminated at every point where a call can stand: nothing that it held is held afterwards.

The pure core goes through the same in tests/test_cancellation.py; here it is both facades over real sockets. A task is cancelled
at its n-th suspension, a thread interrupted at its n-th call of the transport or of a socket, for every n there is.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest

from routerkit import AsyncClient, BreakerState, Client, Event, RouterKitError
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from routerkit.transport import requests as requests_transport
from routerkit.types.verdict import Sample
from tests.faults.catalogue import fault
from tests.support.facades import AsyncCaller, SkippingRuntime, SyncCaller
from tests.support.scenarios import A, B, C

Caller = SyncCaller | AsyncCaller

D, E = "d/four:free", "e/five"
LADDER: dict[str, Any] = {"model": A, "fallback_models": [B, C]}
MANY = 500
"""More than there are points in any call."""


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture, few_objects: None) -> Iterator[None]:
    """Neither asyncio nor aiohttp nor routerkit has anything to complain of."""
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def in_halves(status: int, answer: Any) -> r.Reply:
    """A body that has to be waited for twice."""
    body = json.dumps(answer).encode()

    def reply(connection: Connection, _: RecordedRequest) -> None:
        head = connection.head(status, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        connection.send(head + body[:10])
        connection.wait(0.003)
        connection.send(body[10:])

    return reply


CATALOG = {"data": [r.catalog_model(D, pricing={"prompt": "0", "completion": "0"})]}


def script(server: FaultServer) -> None:
    """Every kind of trouble that makes a call go on."""
    server.catalog = in_halves(200, CATALOG)
    server.script(A, in_halves(503, {"error": {"code": 503, "message": "busy"}}))
    server.script(B, r.stream(r.role(), r.cut()))
    server.script(C, r.error(500, metadata={"error_type": "server"}), r.completion("one two three"))
    server.script(D, r.completion("four"))
    server.script(E, r.stream(r.role(), "one ", "two ", r.cut()))


def half_open(caller: Caller) -> None:
    """From here on every attempt is a probe."""
    for breaker in breakers(caller):
        for _ in range(5):
            permit = breaker.acquire(caller.client._runtime.monotonic(), lease=10)
            assert permit is not None
            permit.settle(Sample.FAIL, caller.client._runtime.monotonic())
    caller.client._runtime.advance(10)  # type: ignore[attr-defined]


def breakers(caller: Caller) -> list[Any]:
    health, gateway = caller.client.router.health, caller.client.settings.gateway.name
    return [health.breaker(gateway, model) for model in (None, A, B, C, D, E)]


def assert_back(caller: Caller, server: FaultServer, when: str) -> None:
    """No permit is held, no latch, and no connection: those that are open serve again."""
    now = caller.client._runtime.monotonic()
    for breaker in breakers(caller):
        assert not breaker._waiting, f"a permit is watched after {when}"
        if breaker.state is BreakerState.HALF_OPEN:
            probe = breaker.acquire(now, lease=1)
            assert probe is not None, f"the only probe is held after {when}"
            probe.settle(Sample.OK, now)
            breaker.reset(now)
    caller.client._runtime.advance(400)  # type: ignore[attr-defined]  # cooldowns and open breakers have had their time
    server.catalog = r.json_body(CATALOG)
    assert [model.id for model in caller.models(refresh=True)] == [D]
    assert caller.complete(model="z/fine").text == "Hello from z/fine", f"another call's answer after {when}"
    try:
        wait_for_one(caller, server)
    except AssertionError:
        together(caller, server, server.open_connections)


def wait_for_one(caller: Caller, server: FaultServer) -> None:
    """Until one connection is open, that of the last call. Raises AssertionError if there are more."""

    def wait() -> bool:
        return server.wait_for(lambda: server.open_connections <= 1, 0.5)

    if isinstance(caller, AsyncCaller):
        caller.loop.run_until_complete(caller.loop.run_in_executor(None, wait))
    else:
        wait()


def together(caller: Caller, server: FaultServer, many: int) -> None:
    """So many calls at the same time, for which the open connections must suffice: then all of them were idle."""

    def slowly(connection: Connection, request: RecordedRequest) -> None:
        connection.wait(0.1)
        r.completion()(connection, request)

    server.script("z/slow", slowly)
    opened = server.connections_opened
    if isinstance(caller, AsyncCaller):

        async def all_of_them(client: AsyncClient) -> None:
            await asyncio.gather(*(client.complete("Hello", model="z/slow") for _ in range(many)))

        caller.run(all_of_them(caller.client))
    else:
        with ThreadPoolExecutor(many) as pool:
            list(pool.map(lambda _: caller.complete(model="z/slow"), range(many)))
    assert server.connections_opened == opened, f"of {many} open connections some cannot serve again"


# --- tasks ---


async def complete(client: AsyncClient) -> None:
    await client.complete("Hello", **LADDER)


async def stream(client: AsyncClient) -> None:
    async with client.stream("Hello", **LADDER) as answer:
        async for _ in answer:
            pass


async def models(client: AsyncClient) -> None:
    await client.models(refresh=True)


async def model(client: AsyncClient) -> None:
    await client.model(D)


async def explain(client: AsyncClient) -> None:
    await client.explain("Hello", **LADDER)


async def last_resort(client: AsyncClient) -> None:
    assert (await client.complete("Hello", model=A)).text == "four"


async def stream_that_restarts(client: AsyncClient) -> None:
    async with client.stream("Hello", model=E, fallback_models=[C], on_interrupt="restart") as answer:
        async for _ in answer:
            pass


async def stream_that_continues(client: AsyncClient) -> None:
    async with client.stream("Hello", model=E, fallback_models=[C], on_interrupt="continue") as answer:
        async for _ in answer:
            pass


ASKING = (complete, stream, stream_that_restarts, stream_that_continues, last_resort)
TASKS = (*ASKING, models, model, explain)


class CancelledAt:
    """Something to await, whose task is cancelled at its n-th suspension: while it waits, or when what it waits for is there."""

    def __init__(self, work: Awaitable[None], at: int, *, late: bool, twice: bool = False) -> None:
        self._work = work.__await__()
        self._at = at
        self._late = late
        self._twice = twice
        self._suspensions = 0

    def __await__(self) -> Generator[Any, Any, None]:
        resume, value = self._work.send, None
        while True:
            try:
                waited: Any = resume(value)
            except StopIteration:
                return
            self._suspended(waited)
            try:
                yield waited
            except BaseException as error:
                resume, value = self._work.throw, error  # type: ignore[assignment]
            else:
                resume, value = self._work.send, None

    def _suspended(self, waited: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        number, self._suspensions = self._suspensions, self._suspensions + 1
        if number == self._at and self._late and waited is not None:
            waited.add_done_callback(lambda _: task.cancel())
        elif number == self._at or (self._twice and number > self._at):
            task.cancel()


async def cancelled_at(work: Awaitable[None], at: int, manner: str) -> BaseException | None:
    """The cancellation, if it came to that. It is kept, for nothing may hang on its traceback."""
    late, twice = manner == "when it need not wait any more", manner == "again and again"
    try:
        await CancelledAt(work, at, late=late, twice=twice)
    except asyncio.CancelledError as error:
        return error
    except RouterKitError:
        return None
    return None


@fault(113, 114)
@pytest.mark.parametrize("manner", ["while it waits", "when it need not wait any more", "again and again"])
@pytest.mark.parametrize(("work", "probing"), [(stream, False), *((work, work in ASKING) for work in TASKS)])
def test_a_task_cancelled_at_every_suspension(
    server: FaultServer, work: Callable[[AsyncClient], Awaitable[None]], manner: str, probing: bool
) -> None:
    """With closed breakers, or with half open ones, where each attempt is a probe."""
    happened = 0
    for at in range(MANY):
        script(server)
        with AsyncCaller(base_url=server.url) as caller:
            if probing:
                half_open(caller)
            error = caller.run(cancelled_at(work(caller.client), at, manner))
            assert_back(caller, server, f"suspension {at}")
        if error is None:
            break
        happened += 1
    assert at == happened > 1


@fault(114)
@pytest.mark.parametrize("work", TASKS)
def test_a_task_cancelled_before_its_first_step(
    server: FaultServer, work: Callable[[AsyncClient], Awaitable[None]]
) -> None:
    async def main(client: AsyncClient) -> None:
        task = asyncio.ensure_future(work(client))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with AsyncCaller(base_url=server.url) as caller:
        caller.run(main(caller.client))
        assert (server.requests, server.connections_opened) == ([], 0)
        assert_back(caller, server, "nothing")


@fault(114)
def test_a_stream_that_was_never_begun(server: FaultServer) -> None:
    """It has sent nothing, holds nothing, and nobody need close it."""
    with AsyncCaller(base_url=server.url) as caller:
        unread = caller.client.stream("Hello", **LADDER)
        caller.run(unread.aclose())
        del unread
        abandoned = caller.client.stream("Hello", **LADDER)
        del abandoned
        gc.collect()
        assert (server.requests, server.connections_opened) == ([], 0)
        assert_back(caller, server, "nothing")


# --- threads ---


def complete_in_a_thread(client: Client) -> None:
    client.complete("Hello", **LADDER)


def stream_in_a_thread(client: Client) -> None:
    with client.stream("Hello", **LADDER) as answer:
        for _ in answer:
            pass


def models_in_a_thread(client: Client) -> None:
    client.models(refresh=True)


def model_in_a_thread(client: Client) -> None:
    client.model(D)


def explain_in_a_thread(client: Client) -> None:
    client.explain("Hello", **LADDER)


def last_resort_in_a_thread(client: Client) -> None:
    assert client.complete("Hello", model=A).text == "four"


def stream_that_restarts_in_a_thread(client: Client) -> None:
    with client.stream("Hello", model=E, fallback_models=[C], on_interrupt="restart") as answer:
        for _ in answer:
            pass


def stream_that_continues_in_a_thread(client: Client) -> None:
    with client.stream("Hello", model=E, fallback_models=[C], on_interrupt="continue") as answer:
        for _ in answer:
            pass


ASKING_THREADS = (
    complete_in_a_thread,
    stream_in_a_thread,
    stream_that_restarts_in_a_thread,
    stream_that_continues_in_a_thread,
    last_resort_in_a_thread,
)
THREADS = (*ASKING_THREADS, models_in_a_thread, model_in_a_thread, explain_in_a_thread)
STRIKES = [
    (stream_in_a_thread, "Ctrl-C", False),
    *((work, "Ctrl-C", work in ASKING_THREADS) for work in THREADS),
    *((work, how, True) for work in (complete_in_a_thread, stream_in_a_thread) for how in ("SIGTERM", "a bug")),
]

_SOCKET_CALLS = {"connect", "send", "recv", "recv_into", "poll", "setsockopt"}
"""Without ``close``: a socket struck within Python's own ``close`` is left to the garbage collector, whoever closes it."""
_CALLS = {
    function.__code__
    for function in (
        requests_transport.RequestsTransport.send,
        requests_transport.RequestsTransport.open,
        requests_transport.Exchange.read,
        requests_transport.Exchange.close,
        SkippingRuntime.sleep,
    )
}


class Strike:
    """What happens at the n-th of these calls; those of sockets are counted twice, as they begin and as they end."""

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        self._at = at
        self._act = act
        self._count = itertools.count()
        self.where = ""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "return"):
            counts, name = event == "call" and frame.f_code in _CALLS, frame.f_code.co_name
        else:
            owner = getattr(argument, "__self__", None)
            name = getattr(argument, "__name__", "")
            counts = name in _SOCKET_CALLS and (isinstance(owner, socket.socket) or "poll" in type(owner).__name__)
        if counts and next(self._count) == self._at:
            sys.setprofile(None)
            self.where = f"{event} {name}"
            self._act()


@contextmanager
def struck(strike: Strike) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(strike)
    try:
        yield
    finally:
        sys.setprofile(before)


def interrupt() -> None:
    raise KeyboardInterrupt


@contextmanager
def terminated_by_exit() -> Iterator[None]:
    """As programs do that want to clean up: the signal becomes a SystemExit."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@fault(113, 115)
@pytest.mark.parametrize(("work", "how", "probing"), STRIKES)
def test_a_thread_struck_at_every_call_of_its_transport(
    server: FaultServer, work: Callable[[Client], None], how: str, probing: bool
) -> None:
    act: dict[str, Callable[[], object]] = {
        "Ctrl-C": interrupt,
        "SIGTERM": lambda: signal.raise_signal(signal.SIGTERM),
        "a bug": lambda: 1 // 0,
    }
    kinds = (KeyboardInterrupt, SystemExit, ZeroDivisionError)
    happened = 0
    for at in range(MANY):
        script(server)
        strike = Strike(at, act[how])
        with SyncCaller(base_url=server.url) as caller, terminated_by_exit():
            if probing:
                half_open(caller)
            held: BaseException | None = None
            try:
                with suppress(RouterKitError), struck(strike):
                    work(caller.client)
            except kinds as error:
                held = error  # nothing may hang on its traceback
            assert_back(caller, server, f"point {at}, {strike.where}")
        if not strike.where:
            break
        assert held is not None or how == "a bug", strike.where
        happened += 1
    assert at == happened > 8


@fault(103, 115)
def test_a_thread_interrupted_while_it_waits_for_anothers_fetch(server: FaultServer) -> None:
    """The fetch goes on, and whoever asked for it gets it."""
    main = threading.main_thread().ident
    assert main is not None
    gate = server.catalog = r.gate(r.json_body({"data": r.CATALOG}))
    with SyncCaller(base_url=server.url) as caller, ThreadPoolExecutor(1) as pool:
        leader = pool.submit(caller.models)
        assert gate.arrived.wait(5)
        threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            caller.models()
        gate.release()
        assert len(leader.result(5)) == len(caller.models()) == len(r.CATALOG)
        assert server.catalog_requests == 1


# --- observers ---


def given_by(caller: Caller, call: str) -> str:
    if call == "complete":
        return caller.complete(**LADDER).text
    if call == "models":
        return caller.models()[0].id
    reader, text = caller.stream(**LADDER), ""
    while (chunk := reader.next()) is not None:
        text += chunk.text
    return text


class Moody:
    """An observer that raises at the n-th event."""

    def __init__(self, at: int, error: type[BaseException]) -> None:
        self._at = at
        self._error = error
        self._events = itertools.count()
        self.raised = self.over = False

    def __call__(self, _: Event) -> None:
        if not self.over and next(self._events) == self._at:
            self.raised = True
            raise self._error


@fault(113, 116)
@pytest.mark.parametrize("call", ["complete", "stream", "models"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
@pytest.mark.parametrize("kind", [SyncCaller, AsyncCaller])
def test_an_observer_that_raises_at_every_event(
    server: FaultServer,
    kind: type[Caller],
    error: type[BaseException],
    call: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An ordinary exception is logged and changes nothing; an interrupt ends the call and leaves nothing behind."""
    for at in range(MANY):
        script(server)
        moody = Moody(at, error)
        with kind(base_url=server.url, observers=[moody]) as caller:
            try:
                given = given_by(caller, call)
            except error:
                assert error is not ZeroDivisionError
            else:
                assert error is ZeroDivisionError or not moody.raised
                assert given == (D if call == "models" else "four")
            moody.over = True
            assert_back(caller, server, f"event {at}")
        if not moody.raised:
            break
    assert at >= (1 if call == "models" else 3)
    logged = [record.getMessage() for record in caplog.records if "observer" in record.getMessage()]
    assert len(logged) == (at if error is ZeroDivisionError else 0)
    caplog.clear()
