"""Transports through the life of a process: forks, event loops, cancellation, interrupts, neglect, exit."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import linecache
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from routerkit import AsyncClient, Client
from routerkit.core.effects import Failure, TransportFailure
from routerkit.testing import FaultServer, silent_port
from routerkit.testing import replies as r
from routerkit.transport.aiohttp import AiohttpTransport
from routerkit.transport.drive import advance
from routerkit.transport.requests import RequestsTransport
from tests.support.drivers import DRIVERS, KEY, MODEL, gateway_at, open_stream, request, send
from tests.support.forks import CHILDREN, forked
from tests.test_transport import shown

REQUESTS = 50


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture, few_objects: None) -> Iterator[None]:
    """Neither asyncio nor aiohttp nor urllib3 has anything to complain of."""
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def client(server: FaultServer) -> Client:
    return Client(base_url=server.url, api_key=KEY)


def async_client(server: FaultServer) -> AsyncClient:
    return AsyncClient(base_url=server.url, api_key=KEY)


# --- event loops ---


async def ask(transport: AiohttpTransport, server: FaultServer, model: str = MODEL, **limits: Any) -> bytes:
    return (await transport.send(send(request(server.url, model), **limits))).body


def test_many_tasks(server: FaultServer) -> None:
    async def main() -> None:
        transport = AiohttpTransport([gateway_at(server.url)])
        models = [f"m/{number}" for number in range(200)]
        bodies = await asyncio.gather(*(ask(transport, server, model) for model in models))
        assert all(f'"Hello from {model}"'.encode() in body for model, body in zip(models, bodies, strict=True))
        await transport.close()

    asyncio.run(main())
    server.wait_closed()


@pytest.mark.parametrize("closing", [True, False], ids=["closed", "not closed"])
def test_one_event_loop_after_the_other(server: FaultServer, closing: bool) -> None:
    transport = AiohttpTransport([gateway_at(server.url)])

    async def main() -> None:
        await ask(transport, server)
        await ask(transport, server)
        if closing:
            await transport.close()

    for turn in (1, 2, 3):
        asyncio.run(main())
        server.wait_closed()
        assert server.connections_opened == turn


def test_a_loop_that_ends_with_a_stream_open(server: FaultServer) -> None:
    server.default = r.stream("Hello", r.pause(60))
    transport = AiohttpTransport([gateway_at(server.url)])

    async def main() -> Any:
        return await transport.open(open_stream(request(server.url)))

    for _ in range(2):
        answer = asyncio.run(main())
        server.wait_closed()
        answer.handle.abandon()
        del answer
        gc.collect()


def test_a_loop_that_is_closed_without_ado(server: FaultServer) -> None:
    """Its connections cannot be closed in order. asyncio warns of that itself; nothing is logged, and the next loop works."""
    transport = AiohttpTransport([gateway_at(server.url)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
        for _ in range(2):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(ask(transport, server))
            loop.close()
            del loop
        transport._leave_ended()
        gc.collect()
    server.wait_closed()


def test_two_loops_at_a_time(server: FaultServer) -> None:
    transport = AiohttpTransport([gateway_at(server.url)])
    loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]
    for _ in range(3):
        for loop in loops:
            loop.run_until_complete(ask(transport, server))
    assert server.connections_opened == 2
    for loop in loops:
        loop.run_until_complete(transport.close())
        loop.close()
    server.wait_closed()


def test_a_transport_that_is_forgotten_closes_its_connections(server: FaultServer) -> None:
    async def main() -> None:
        await ask(AiohttpTransport([gateway_at(server.url)]), server)
        gc.collect()
        await asyncio.get_running_loop().run_in_executor(None, server.wait_closed)

    asyncio.run(main())
    RequestsTransport([gateway_at(server.url)]).send(send(request(server.url)))
    gc.collect()
    server.wait_closed()


def test_within_the_handling_of_another_exception(server: FaultServer) -> None:
    server.default = r.stream("one", r.pause(0.02), "two", r.pause(0.02), r.end(), r.done())

    async def main() -> str:
        async with async_client(server) as asking:
            try:
                raise LookupError
            except LookupError:
                async with asking.stream("Hi", model=MODEL) as stream:
                    return "".join([chunk.text async for chunk in stream])

    assert asyncio.run(main()) == "onetwo"


# --- cancellation ---


async def cancelled(work: Awaitable[Any], moment: Callable[[], Any]) -> None:
    """Begin, cancel when the moment has come, and leave nothing behind."""
    task = asyncio.ensure_future(work)
    await asyncio.get_running_loop().run_in_executor(None, moment)
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert not [text for text in shown(caught.value) if KEY in text]
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


WAITS = {
    "head": r.hang(),
    "headers": r.drip_headers(0.01),
    "body": r.stream("Hello", r.pause(60)),
    "body with a length": r.drip_body(0.01, b"x" * 1000),
}


@pytest.mark.parametrize("wait", WAITS)
def test_cancelled_while_waiting_for_an_answer(server: FaultServer, wait: str) -> None:
    server.default = WAITS[wait]

    async def main() -> None:
        transport = AiohttpTransport([gateway_at(server.url)])
        await cancelled(ask(transport, server), lambda: server.wait_for(lambda: len(server.requests) == 1))
        await asyncio.get_running_loop().run_in_executor(None, server.wait_closed)
        await transport.close()

    asyncio.run(main())


def test_cancelled_while_reading_a_stream(server: FaultServer) -> None:
    server.default = r.stream("Hello", r.pause(60))

    async def main() -> None:
        transport = AiohttpTransport([gateway_at(server.url)])
        answer = await transport.open(open_stream(request(server.url)))
        assert await answer.handle.read(5)
        await cancelled(answer.handle.read(60), lambda: None)
        await asyncio.get_running_loop().run_in_executor(None, server.wait_closed)
        await transport.close()

    asyncio.run(main())


def test_cancelled_while_connecting() -> None:
    async def main(port: int) -> None:
        url = f"http://127.0.0.1:{port}/v1"
        transport = AiohttpTransport([gateway_at(url)])
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        await cancelled(transport.send(send(request(url))), lambda: None)
        assert len(os.listdir("/proc/self/fd")) == before
        await transport.close()

    with silent_port() as port:
        asyncio.run(main(port))


def test_cancelled_in_a_handshake(server: FaultServer) -> None:
    server.on_connect = lambda connection: connection.wait()
    url = server.url.replace("http:", "https:")

    async def main() -> None:
        transport = AiohttpTransport([gateway_at(url)])
        connected = server.wait_for
        await cancelled(transport.send(send(request(url))), lambda: connected(lambda: server.connections_opened == 1))
        await asyncio.get_running_loop().run_in_executor(None, server.wait_closed)
        await transport.close()

    asyncio.run(main())


def test_a_cancelled_call_and_a_cancelled_stream(server: FaultServer) -> None:
    server.default = r.stream("Hello", r.pause(60))

    async def read(asking: AsyncClient) -> None:
        async with asking.stream("Hi", model=MODEL) as stream:
            async for _ in stream:
                pass

    async def main() -> None:
        async with async_client(server) as asking:
            for work in (asking.complete("Hi", model=MODEL), read(asking)):
                asked = len(server.requests)
                await cancelled(work, lambda asked=asked: server.wait_for(lambda: len(server.requests) > asked))
                await asyncio.get_running_loop().run_in_executor(None, server.wait_closed)
            server.default = r.completion()
            assert (await asking.complete("Hi", model=MODEL)).text == f"Hello from {MODEL}"

    asyncio.run(main())


# --- forks ---


def names(number: int) -> list[str]:
    return [f"child-{number}/{turn}" for turn in range(REQUESTS)]


def texts(number: int) -> list[str]:
    return [f"Hello from {name}" for name in names(number)]


def text_of(body: bytes) -> str:
    return str(json.loads(body)["choices"][0]["message"]["content"])


def test_a_forked_client_answers_its_own_questions(server: FaultServer) -> None:
    with client(server) as asking:

        def work(number: int) -> list[str]:
            return [asking.complete("Hi", model=name).text or "" for name in names(number)]

        asking.complete("Hi", model=MODEL)
        with asking.stream("Hi", model=MODEL) as stream:
            assert forked(work) == [texts(number) for number in range(CHILDREN)]
            assert "".join(stream.text()) == f"Hello from {MODEL}"
        assert work(8) == texts(8)  # the stream's connection may not have come back to the pool: its end was late
        opened = server.connections_opened
        assert work(9) == texts(9)
        assert server.connections_opened == opened


def test_so_does_a_transport_that_was_not_told(server: FaultServer) -> None:
    transport = RequestsTransport([gateway_at(server.url)])

    def work(number: int) -> list[str]:
        return [text_of(transport.send(send(request(server.url, name))).body) for name in names(number)]

    transport.send(send(request(server.url)))
    assert forked(work) == [texts(number) for number in range(CHILDREN)]
    assert work(9) == texts(9)
    assert server.connections_opened == 1 + CHILDREN
    transport.close()


def test_a_forked_async_client_answers_its_own_questions(server: FaultServer) -> None:
    asking = async_client(server)

    async def questions(number: int) -> list[str]:
        return [(await asking.complete("Hi", model=name)).text or "" for name in names(number)]

    def work(number: int) -> list[str]:
        return asyncio.run(questions(number))

    async def main() -> None:
        """Forking within a running loop leaves the child a copy of it, whose selector it shares with the parent."""
        await asking.complete("Hi", model=MODEL)
        async with asking.stream("Hi", model=MODEL) as stream:
            assert forked(work) == [texts(number) for number in range(CHILDREN)]
            assert "".join([text async for text in stream.text()]) == f"Hello from {MODEL}"
        assert await questions(8) == texts(8)
        opened = server.connections_opened
        assert await questions(9) == texts(9)
        assert server.connections_opened == opened
        await asking.aclose()

    asyncio.run(main())


def test_so_does_an_async_transport_that_was_not_told(server: FaultServer) -> None:
    """Not even in a child that goes on with its parent's loop; which works with one of them at a time."""
    transport = AiohttpTransport([gateway_at(server.url)])
    loop = asyncio.new_event_loop()

    async def questions(number: int) -> list[str]:
        return [text_of(await ask(transport, server, name)) for name in names(number)]

    def work(number: int) -> list[str]:
        return loop.run_until_complete(questions(number))

    work(9)
    assert forked(work, children=1) == [texts(0)]
    assert server.connections_opened == 2
    assert work(9) == texts(9)
    assert server.connections_opened == 2
    server.default = r.close_before_reply()
    with pytest.raises(
        TransportFailure
    ) as caught:  # it hears of that only if the child has not meddled with its selector
        loop.run_until_complete(ask(transport, server, first_byte=1))
    assert (caught.value.failure, caught.value.reused) == (Failure.DISCONNECTED, True)
    loop.run_until_complete(transport.close())
    loop.close()


# --- neglect ---


@contextmanager
def one_warning() -> Iterator[None]:
    with pytest.warns(ResourceWarning) as caught:
        yield
    assert [str(each.message) for each in caught] == ["a stream was neither closed nor read to its end"]


def test_a_stream_that_is_forgotten_is_closed_with_a_warning(server: FaultServer) -> None:
    server.default = r.stream("Hello", r.pause(60))
    with client(server) as asking:
        stream = asking.stream("Hi", model=MODEL)
        assert next(iter(stream)).text == "Hello"
        with one_warning():
            del stream
            gc.collect()
        server.wait_closed()


def test_an_async_stream_that_is_forgotten_is_closed_with_a_warning(server: FaultServer) -> None:
    server.default = r.stream("Hello", r.pause(60))

    async def main() -> None:
        async with async_client(server) as asking:
            stream = await asking.stream("Hi", model=MODEL)
            assert (await stream.__anext__()).text == "Hello"
            with one_warning():
                del stream
                gc.collect()
                await asyncio.get_running_loop().run_in_executor(None, server.wait_closed)

    asyncio.run(main())


def test_an_async_stream_that_outlives_its_loop(server: FaultServer) -> None:
    server.default = r.stream("Hello", r.pause(60))

    async def main() -> Any:
        return await async_client(server).stream("Hi", model=MODEL)

    stream = asyncio.run(main())
    server.wait_closed()
    with one_warning():
        del stream
        gc.collect()


@pytest.mark.parametrize("kind", DRIVERS)
def test_an_open_answer_among_garbage_is_closed(server: FaultServer, kind: str) -> None:
    """In a cycle the collector may come to it before it comes to whoever would have closed it."""
    server.default = r.stream("Hello", r.pause(60))
    with DRIVERS[kind](gateway_at(server.url)) as driver:
        cycle: list[Any] = [driver.open(open_stream(request(server.url)))]
        cycle.append(cycle)
        del cycle
        gc.collect()
        driver.until(server, lambda: not server.open_connections)


# --- interrupts and exit ---

INTERRUPTED = """
client = routerkit.Client(base_url=url, api_key=key)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.readline()
"""
INTERRUPTED_LOOP = """
client = routerkit.AsyncClient(base_url=url, api_key=key)
async def main():
    try:
        {call}
    except asyncio.CancelledError:
        print("interrupted", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        raise
try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
"""


def program(server: FaultServer, code: str) -> subprocess.Popen[str]:
    head = f"import asyncio, sys, routerkit\nurl, key = {server.url!r}, {KEY!r}\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_asleep(pid: int) -> None:
    """Until a process does nothing but wait: it has used no processor time for a while."""
    last, unchanged = "", 0
    while unchanged < 5:
        with open(f"/proc/{pid}/stat") as file:
            state = file.read().rpartition(")")[2].split()
        now = state[0] + " ".join(state[11:13])
        unchanged = unchanged + 1 if now == last and state[0] == "S" else 0
        last = now
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "call"),
    [
        (INTERRUPTED, "client.complete('Hi', model='a/model')"),
        (INTERRUPTED, "list(client.stream('Hi', model='a/model'))"),
        (INTERRUPTED_LOOP, "await client.complete('Hi', model='a/model')"),
        (INTERRUPTED_LOOP, "print([chunk async for chunk in client.stream('Hi', model='a/model')])"),
    ],
    ids=["call", "stream", "async call", "async stream"],
)
def test_an_interrupt_closes_the_connection(server: FaultServer, code: str, call: str) -> None:
    if sys.version_info < (3, 11) and code is INTERRUPTED_LOOP:
        pytest.skip("asyncio.run cancels its task on an interrupt since 3.11")
    gate = r.Signal()
    server.default = r.stream("Hello", r.Part(act=lambda _: gate.set()), r.pause(60))
    with program(server, code.format(call=call)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        server.wait_for(lambda: len(server.requests) == 1)
        assert gate.wait(5)
        wait_until_asleep(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        server.wait_closed()  # while the process lives
        _, complaints = process.communicate("\n", timeout=20)
    assert (process.returncode, complaints) == (0, "")


@contextmanager
def interrupted_at(number: int) -> Iterator[None]:
    """A Ctrl-C that comes at the n-th line which the driver executes. ``try:`` executes nothing."""
    lines = itertools.count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is not advance.__code__:
            return None
        executed = event == "line" and linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() != "try:"
        if executed and next(lines) == number:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a traced frame keeps copies of its locals there")
def test_an_interrupt_between_two_lines_of_the_driver(server: FaultServer) -> None:
    server.default = r.stream("Hello", r.pause(60))
    with client(server) as asking:
        for number in itertools.count(1):
            held = None
            try:
                with interrupted_at(number):
                    stream = asking.stream("Hi", model=MODEL)
            except KeyboardInterrupt as interrupt:
                held = interrupt  # and with it all frames
            if held is None:
                stream.close()
                break
            server.wait_closed()
    assert number > 8


WARM = "client.complete('Hi', model='a/model')"
EXITS = {
    "warm pool": f"client = routerkit.Client(base_url=url, api_key=key)\n{WARM}",
    "open stream": "stream = routerkit.Client(base_url=url, api_key=key).stream('Hi', model='b/open'); print(next(stream).text)",
    "warm pool of a loop": f"""
client = routerkit.AsyncClient(base_url=url, api_key=key)
async def main(): await {WARM}
asyncio.run(main())""",
    "open stream of a loop": """
client = routerkit.AsyncClient(base_url=url, api_key=key)
async def main():
    global stream
    stream = await client.stream('Hi', model='b/open')
asyncio.run(main())""",
    "loop that was not closed": f"""
client = routerkit.AsyncClient(base_url=url, api_key=key)
loop = asyncio.new_event_loop()
loop.run_until_complete({WARM})""",
    "loop that was not closed, with a stream": """
client = routerkit.AsyncClient(base_url=url, api_key=key)
loop = asyncio.new_event_loop()
async def main(): return await client.stream('Hi', model='b/open')
stream = loop.run_until_complete(main())""",
    "loop that was not shut down": f"""
client = routerkit.AsyncClient(base_url=url, api_key=key)
loop = asyncio.new_event_loop()
loop.run_until_complete({WARM})
loop.close()""",
    "threads": f"""
import threading
client = routerkit.Client(base_url=url, api_key=key)
for _ in range(3): threading.Thread(target=lambda: {WARM}).start()
threading.Thread(target=lambda: client.complete('Hi', model='c/hang'), daemon=True).start()
{WARM}""",
}


@pytest.mark.parametrize("ending", EXITS)
def test_exit(server: FaultServer, ending: str) -> None:
    server.script("b/open", r.stream("Hello", r.pause(60)))
    server.script("c/hang", r.hang())
    with program(server, EXITS[ending]) as process:
        _, complaints = process.communicate(timeout=20)
    assert (process.returncode, complaints) == (0, "")
    server.wait_closed()
