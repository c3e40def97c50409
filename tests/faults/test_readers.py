"""Faults 93 and 94: readers of a stream that stop, are stopped, or take their time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import pytest

from routerkit import AsyncClient, BreakerPolicy, CallFinished, Client, Event, StreamInterruptedError, Timeouts
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.catalogue import fault, row
from tests.support.facades import AsyncCaller, SkippingRuntime, SyncCaller
from tests.support.scenarios import A, B

Facade = type[SyncCaller | AsyncCaller]
CallerT = TypeVar("CallerT", SyncCaller, AsyncCaller)


class OnPurposeError(Exception):
    pass


class Probe:
    """A client whose model `A` is half open: the next attempt takes the only probe there is."""

    def __init__(self, caller: Any, server: FaultServer, runtime: SkippingRuntime, events: list[Event]) -> None:
        self.caller = caller
        self.client = caller.client
        self.server = server
        caller.complete()
        runtime.advance(5)
        assert self.state() == "open"
        events.clear()
        self._events = events

    def state(self) -> str:
        return next(state for name, state in self.client.health().breakers.items() if name.startswith(A))

    def check(self, *, told: bool = True) -> None:
        """After a reader stopped: the connection closed, the permit back, the account closed."""
        self.caller.until(self.server, lambda: not self.server.open_connections)
        assert self.state() == "half_open"
        finished = [event for event in self._events if isinstance(event, CallFinished)]
        if told:
            (event,) = finished
            assert event.error == "Cancelled"
            assert [f"{each.model} {each.verdict}" for each in event.route.attempts] == [f"{A} cancelled"]
            assert event.route.billing == "possible"
        else:
            assert not finished
        answer = self.caller.complete()
        assert (answer.model, answer.route.skipped) == (A, ()), "the stopped stream still holds the only probe"
        assert self.server.models_asked.count(A) == 3


@contextmanager
def half_open(facade: type[CallerT], *stream: Any) -> Iterator[Probe]:
    events: list[Event] = []
    runtime = SkippingRuntime()
    with FaultServer() as server:
        server.script(A, r.error(500), r.stream(*stream), r.completion())
        breaker = BreakerPolicy(fast_trip=1, open_seconds=1)
        options: dict[str, Any] = {"default_model": A, "fallback_models": [B], "breaker": breaker}
        with facade(base_url=server.url, runtime=runtime, observers=[events.append], **options) as caller:
            yield Probe(caller, server, runtime, events)


STORY = (r.role(), "one ", r.pause(60))
"""And then nothing, for longer than anybody waits."""

# --- threads ---


def with_break(client: Client) -> None:
    with client.stream("Hello") as stream:
        for chunk in stream:
            if chunk.text:
                break


def with_break_of_text(client: Client) -> None:
    with client.stream("Hello") as stream:
        for text in stream.text():
            assert text == "one "
            break


def with_exception(client: Client) -> None:
    with suppress(OnPurposeError), client.stream("Hello") as stream:
        for _ in stream:
            raise OnPurposeError
    with pytest.raises(RuntimeError):
        stream.completion  # noqa: B018 - half an answer is none


def with_nothing_read(client: Client) -> None:
    with client.stream("Hello"):
        pass


def closed(client: Client) -> None:
    stream = client.stream("Hello")
    next(stream)
    stream.close()
    stream.close()
    assert list(stream) == []


def openai_with_break(client: Client) -> None:
    with client.chat.completions.create(messages="Hello", stream=True) as stream:
        for _ in stream:
            break


def dropped(client: Client) -> None:
    for chunk in client.stream("Hello"):
        if chunk.text:
            break


def dropped_in_a_cycle(client: Client) -> None:
    stream: Any = client.stream("Hello")
    next(stream)
    stream.itself = stream
    del stream
    gc.collect()


def openai_dropped(client: Client) -> None:
    for _ in client.chat.completions.create(messages="Hello", stream=True):
        break


def text_dropped(client: Client) -> None:
    for _ in client.stream("Hello").text():
        break


CLOSED = [
    with_break,
    with_break_of_text,
    with_exception,
    with_nothing_read,
    closed,
    openai_with_break,
]
DROPPED = [dropped, dropped_in_a_cycle, openai_dropped, text_dropped]


@pytest.mark.parametrize("stop", [row(93, stop, name=stop.__name__) for stop in CLOSED])
def test_a_stream_that_is_closed_gives_everything_back(stop: Callable[[Client], None]) -> None:
    """Without a warning: warnings are errors here."""
    with half_open(SyncCaller, *STORY) as probe:
        stop(probe.client)
        gc.collect()
        probe.check()


@pytest.mark.parametrize("stop", [row(93, stop, name=stop.__name__) for stop in DROPPED])
def test_a_stream_that_is_dropped_gives_everything_back_with_a_warning(stop: Callable[[Client], None]) -> None:
    """Observers are not told: the collector may run within one of them."""
    with half_open(SyncCaller, *STORY) as probe:
        with pytest.warns(ResourceWarning, match="neither closed nor read to its end"):
            stop(probe.client)
        probe.check(told=False)


# --- tasks ---


async def async_with_break(client: AsyncClient) -> None:
    async with client.stream("Hello") as stream:
        async for chunk in stream:
            if chunk.text:
                break


async def async_with_break_of_text(client: AsyncClient) -> None:
    async with client.stream("Hello") as stream:
        async for text in stream.text():
            assert text == "one "
            break


async def async_with_exception(client: AsyncClient) -> None:
    with suppress(OnPurposeError):
        async with client.stream("Hello") as stream:
            async for _ in stream:
                raise OnPurposeError
    with pytest.raises(RuntimeError):
        stream.completion  # noqa: B018 - half an answer is none


async def async_with_nothing_read(client: AsyncClient) -> None:
    async with client.stream("Hello"):
        pass


async def async_closed(client: AsyncClient) -> None:
    stream = await client.stream("Hello")
    await anext(stream)
    await stream.aclose()
    await stream.close()
    assert [chunk async for chunk in stream] == []


async def async_openai_with_break(client: AsyncClient) -> None:
    async with await client.chat.completions.create(messages="Hello", stream=True) as stream:
        async for _ in stream:
            break


async def async_cancelled(client: AsyncClient) -> None:
    """While it waits for the second chunk."""
    begun = asyncio.Event()

    async def read() -> None:
        async with client.stream("Hello") as stream:
            async for chunk in stream:
                if chunk.text:
                    begun.set()

    await cancel(asyncio.create_task(read()), begun)


async def async_cancelled_in_its_own_work(client: AsyncClient) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async with client.stream("Hello") as stream:
            async for _ in stream:
                begun.set()
                await asyncio.Event().wait()

    await cancel(asyncio.create_task(read()), begun)


async def async_cancelled_without_with(client: AsyncClient) -> None:
    """Nothing is left open for the collector: the interrupted read has closed the stream."""
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in client.stream("Hello"):
            begun.set()

    await cancel(asyncio.create_task(read()), begun)


async def async_out_of_time(client: AsyncClient) -> None:
    async def read() -> None:
        async with client.stream("Hello") as stream:
            async for _ in stream:
                pass

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(read(), 0.1)


async def cancel(task: asyncio.Task[None], when: asyncio.Event) -> None:
    await when.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def async_dropped(client: AsyncClient) -> None:
    async for chunk in client.stream("Hello"):
        if chunk.text:
            break


async def async_dropped_in_a_cycle(client: AsyncClient) -> None:
    stream: Any = await client.stream("Hello")
    await anext(stream)
    stream.itself = stream
    del stream
    gc.collect()


async def async_openai_dropped(client: AsyncClient) -> None:
    async for _ in await client.chat.completions.create(messages="Hello", stream=True):
        break


ASYNC_CLOSED = [
    async_with_break,
    async_with_break_of_text,
    async_with_exception,
    async_with_nothing_read,
    async_closed,
    async_openai_with_break,
    async_cancelled,
    async_cancelled_in_its_own_work,
    async_cancelled_without_with,
    async_out_of_time,
]
ASYNC_DROPPED = [async_dropped, async_dropped_in_a_cycle, async_openai_dropped]
Stop = Callable[[AsyncClient], Awaitable[None]]


@pytest.mark.parametrize("stop", [row(93, stop, name=stop.__name__) for stop in ASYNC_CLOSED])
def test_an_async_stream_that_is_closed_gives_everything_back(stop: Stop) -> None:
    with half_open(AsyncCaller, *STORY) as probe:
        probe.caller.run(stop(probe.client))
        gc.collect()
        probe.check()


@pytest.mark.parametrize("stop", [row(93, stop, name=stop.__name__) for stop in ASYNC_DROPPED])
def test_an_async_stream_that_is_dropped_gives_everything_back_with_a_warning(stop: Stop) -> None:
    with half_open(AsyncCaller, *STORY) as probe:
        with pytest.warns(ResourceWarning, match="neither closed nor read to its end"):
            probe.caller.run(stop(probe.client))
        probe.check(told=False)


@pytest.mark.parametrize(
    "silence",
    [
        row(93, [r.pause(60)], name="headers only"),
        row(93, [r.comment(), r.pause(60)], name="a comment"),
        row(93, [r.role(), r.pause(60)], name="a role"),
    ],
)
def test_a_task_cancelled_before_the_first_content_gives_its_probe_back(silence: list[Any]) -> None:
    """Here the attempt still holds the only permit of the half-open breaker."""
    with half_open(AsyncCaller, *silence) as probe:
        asked = len(probe.server.chat_requests)

        async def stop() -> None:
            task = asyncio.create_task(async_with_break(probe.client))
            while len(probe.server.chat_requests) == asked:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.02)
            refused = await probe.client.complete("Hello")
            assert (refused.model, [skip.model for skip in refused.route.skipped]) == (B, [A])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        probe.caller.run(stop())
        assert probe.state() == "half_open"
        assert probe.caller.complete().model == A
        assert probe.caller.complete().model == A
        assert probe.state() == "closed"


@fault(93)
def test_an_async_stream_that_never_began_holds_nothing(server: FaultServer) -> None:
    with AsyncCaller(base_url=server.url, default_model=A) as caller:
        caller.client.stream("Hello")
        gc.collect()
    assert server.requests == []


# --- 94: readers that take their time ---

PATIENT = Timeouts(idle=20, content_idle=30, total=6000)


@pytest.mark.parametrize(
    "later",
    [
        row(94, ["two"], name="content waits"),
        row(94, [r.comment(), r.pause(0.02), r.comment(), r.pause(0.02), "two"], name="comments wait"),
        row(94, [r.pause(0.02), "two"], name="nothing waits"),
        row(94, [r.role(), r.pause(0.02), r.delta(""), "two"], name="empty deltas wait"),
    ],
)
def test_the_time_of_the_reader_is_not_the_models(facade: Facade, server: FaultServer, later: list[Any]) -> None:
    runtime = SkippingRuntime()
    server.script(A, r.stream(r.role(), "one ", *later, *later, *later, r.end(), r.usage(), r.done()))
    with facade(base_url=server.url, runtime=runtime) as caller:
        reader = caller.stream(model=A, timeout=PATIENT)
        text = ""
        while (chunk := reader.next()) is not None:
            text += chunk.text
            runtime.advance(60)
        assert text == "one twotwotwo"
        assert set(caller.client.health().breakers.values()) == {"closed"}


@fault(94)
def test_the_model_is_still_watched_once_the_reader_is_back(facade: Facade, server: FaultServer) -> None:
    runtime = SkippingRuntime()
    stalls = [part for _ in range(100) for part in (r.comment(), r.pause(0.03))]
    server.script(A, r.stream(r.role(), "one ", *stalls))
    with facade(base_url=server.url, runtime=runtime) as caller:
        reader = caller.stream(model=A, timeout=Timeouts(idle=20, content_idle=0.2, total=600))
        assert reader.next() is not None  # the role
        assert reader.next() is not None
        runtime.advance(60)
        with pytest.raises(StreamInterruptedError) as caught:
            reader.next()
        assert caught.value.code == "content_idle_timeout"
        caller.until(server, lambda: not server.open_connections)


@fault(94)
def test_what_comes_meanwhile_is_not_lost(facade: Facade, server: FaultServer) -> None:
    """Four megabytes, more than sockets hold: the server has to wait for the reader."""
    words = [f"{number:04} " + "x" * 4000 for number in range(1000)]
    server.script(A, r.stream(*words, r.end(), r.done()))
    runtime = SkippingRuntime()
    with facade(base_url=server.url, runtime=runtime) as caller:
        reader = caller.stream(model=A, timeout=Timeouts(idle=20, content_idle=30, total=80_000))
        seen = []
        while (chunk := reader.next()) is not None:
            if chunk.text:
                seen.append(chunk.text)
                runtime.advance(60)
        assert seen == words
