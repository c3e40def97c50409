"""The two facades, called alike: one list of tests runs through both.

A caller owns a client and, for the async one, an event loop. `until` waits for something to happen on the server while the loop,
if there is one, goes on running. `begin` begins a call that goes on by itself, in a thread or a task; what it returns waits for
its end.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from routerkit import AsyncClient, Chunk, Client, Completion, KeyInfo, Model, Plan, RouterKitError
from routerkit.async_client import AsyncStream
from routerkit.client import Stream
from routerkit.testing import FaultServer
from routerkit.transport.runtime import SystemRuntime
from tests.support.scenarios import Ask, Scenario, Trace

if TYPE_CHECKING:
    from typing_extensions import Self

KEY = "sk-test-1234567890"
AT_ONCE = 64
"""Calls that threads make at the same time, at most."""

T = TypeVar("T")


class SkippingRuntime(SystemRuntime):
    """Real time, except that waits are skipped: they only move the clock. Randomness stands at its middle."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    def random(self) -> float:
        return 0.5

    def advance(self, seconds: float) -> None:
        """Let time pass, for the core."""
        self._skipped += seconds

    def sleep(self, seconds: float) -> None:
        self._skipped += seconds

    async def asleep(self, seconds: float) -> None:
        self._skipped += seconds
        await asyncio.sleep(0)


class SyncCaller:
    """A `Client`, in this thread."""

    def __init__(self, **options: Any) -> None:
        self.client = Client(**{"api_key": KEY, "runtime": SkippingRuntime(), **options})
        self._threads = ThreadPoolExecutor(AT_ONCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        self.client.close()

    def tenant(self, name: str) -> Self:
        """For one tenant of the client."""
        return self._with(self.client.tenant(name))

    def with_options(self, **options: Any) -> Self:
        return self._with(self.client.with_options(**options))

    def _with(self, client: Client) -> Self:
        other = copy.copy(self)
        other.client = client
        return other

    def complete(self, messages: Any = "Hello", **options: Any) -> Completion:
        return self.client.complete(messages, **options)

    def stream(self, messages: Any = "Hello", **options: Any) -> SyncReader:
        """Opened: up to its first content."""
        return SyncReader(self.client.stream(messages, **options))

    def begin(self, messages: Any = "Hello", **options: Any) -> Callable[[], Completion]:
        return self._threads.submit(self.client.complete, messages, **options).result

    def models(self, **options: Any) -> list[Model]:
        return self.client.models(**options)

    def explain(self, messages: Any = "Hello", **options: Any) -> Plan:
        return self.client.explain(messages, **options)

    def key_info(self, **options: Any) -> KeyInfo:
        return self.client.key_info(**options)

    def until(self, server: FaultServer, predicate: Callable[[], bool]) -> None:
        server.wait_for(predicate)

    def ask(self, ask: Ask) -> Trace:
        return _ask(self, ask)


class SyncReader:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def next(self) -> Chunk | None:
        """The next chunk; `None` at the end. Raises what the stream raises."""
        return next(self.stream, None)

    def close(self) -> None:
        self.stream.close()


class AsyncCaller:
    """An `AsyncClient`, on a loop of its own."""

    def __init__(self, **options: Any) -> None:
        self.client = AsyncClient(**{"api_key": KEY, "runtime": SkippingRuntime(), **options})
        self.loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.client.aclose())
        self.run(self.loop.shutdown_asyncgens())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()

    def tenant(self, name: str) -> Self:
        """For one tenant of the client."""
        return self._with(self.client.tenant(name))

    def with_options(self, **options: Any) -> Self:
        return self._with(self.client.with_options(**options))

    def _with(self, client: AsyncClient) -> Self:
        other = copy.copy(self)
        other.client = client
        return other

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def complete(self, messages: Any = "Hello", **options: Any) -> Completion:
        return self.run(self.client.complete(messages, **options))

    def stream(self, messages: Any = "Hello", **options: Any) -> AsyncReader:
        """Opened: up to its first content."""

        async def opened() -> AsyncStream:
            return await self.client.stream(messages, **options)

        return AsyncReader(self, self.run(opened()))

    def begin(self, messages: Any = "Hello", **options: Any) -> Callable[[], Completion]:
        task = self.loop.create_task(self.client.complete(messages, **options))
        return lambda: self.loop.run_until_complete(task)

    def models(self, **options: Any) -> list[Model]:
        return self.run(self.client.models(**options))

    def explain(self, messages: Any = "Hello", **options: Any) -> Plan:
        return self.run(self.client.explain(messages, **options))

    def key_info(self, **options: Any) -> KeyInfo:
        return self.run(self.client.key_info(**options))

    def until(self, server: FaultServer, predicate: Callable[[], bool]) -> None:
        self.loop.run_until_complete(self.loop.run_in_executor(None, server.wait_for, predicate))

    def ask(self, ask: Ask) -> Trace:
        return _ask(self, ask)


class AsyncReader:
    def __init__(self, caller: AsyncCaller, stream: AsyncStream) -> None:
        self._caller = caller
        self.stream = stream

    def next(self) -> Chunk | None:
        """The next chunk; `None` at the end. Raises what the stream raises."""

        async def following() -> Chunk | None:
            return await anext(self.stream, None)

        return self._caller.run(following())

    def close(self) -> None:
        self._caller.run(self.stream.aclose())


Caller = SyncCaller | AsyncCaller
Reader = SyncReader | AsyncReader
FACADES: dict[str, type[SyncCaller | AsyncCaller]] = {"sync": SyncCaller, "async": AsyncCaller}


def _ask(caller: Caller, ask: Ask) -> Trace:
    options = {"model": ask.model, "fallback_models": ask.fallback_models, "timeout": ask.timeouts, **ask.params}
    try:
        if not ask.stream:
            answer = caller.complete(**options)
            return Trace.of(answer, answer.route, answer.text)
        reader = caller.stream(**options)
        text = ""
        while (chunk := reader.next()) is not None:
            text += chunk.text
    except RouterKitError as error:
        return Trace.failed(error)
    completion = reader.stream.completion
    assert completion.text == text
    return Trace.of(completion, reader.stream.route, text)


def prepared(server: FaultServer, scenario: Scenario) -> FaultServer:
    """The server, with a scenario's answers."""
    for model, answers in scenario.answers.items():
        server.script(model, *answers)
    server.catalog = scenario.catalog
    return server


def expected(ask: Ask) -> Trace:
    return Trace(tuple(ask.expect), tuple(ask.waits), tuple(ask.skipped), ask.gives, ask.partial)


def alike(work: Callable[[str], T], *, at_once: bool = True) -> T:
    """What comes of this in both facades, which must be the same; it is given the facade's name.

    Both have a thread, because much of it is waiting for clocks to run out. With ``at_once=False`` they come one after the other.
    """
    with ThreadPoolExecutor(len(FACADES) if at_once else 1) as threads:
        first, *others = threads.map(work, FACADES)
    assert others == [first] * len(others)
    return first


def check(scenario: Scenario, **options: Any) -> None:
    """A scenario through both facades over real sockets: what is expected of each, and the same in every detail."""

    def details(name: str) -> list[tuple[str, ...]]:
        with FaultServer() as server, FACADES[name](base_url=prepared(server, scenario).url, **options) as caller:
            traces = [caller.ask(ask) for ask in scenario.asks]
            assert traces == [expected(ask) for ask in scenario.asks], name
            return [trace.details for trace in traces]

    alike(details)
