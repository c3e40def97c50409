"""``AsyncClient``: the facade for tasks, on aiohttp."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal, overload

from routerkit.core.catalog_index import Query
from routerkit.core.effects import Ask, Await, Close, Effect, Emit, Open, Read, Send, Sleep, Step
from routerkit.core.streaming import Ended
from routerkit.environment import hidden
from routerkit.facade import ClientBase, StreamBase, finalizer, taken
from routerkit.transport.drive import Done, advance_async, unwind
from routerkit.types.completion import Chunk, Completion
from routerkit.types.key_info import KeyInfo
from routerkit.types.model import Model, ModelFilters
from routerkit.types.route import Plan
from routerkit.types.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from routerkit.store.redis_async import AsyncRedisLink
    from routerkit.transport.aiohttp import AiohttpTransport
    from routerkit.transport.runtime import SystemRuntime
    from routerkit.types.fleet import FleetReport
    from routerkit.types.request import CallOptions, Messages


class AsyncClient(ClientBase):
    """Answers from an LLM gateway, even when models fail. One client serves any number of tasks, and of event loops.

    The keywords are those of :class:`routerkit.Client`.
    """

    def _setup(self, settings: Settings, runtime: SystemRuntime | None) -> None:
        super()._setup(settings, runtime)
        self._transport: AiohttpTransport | None = None
        self._performers: dict[type[Any], Callable[[Any], Awaitable[Any]]] = {
            Send: self._send,
            Open: self._open,
            Read: lambda order: order.handle.read(order.seconds),
            Close: self._now,
            Sleep: lambda order: self._runtime.asleep(order.seconds),
            Await: lambda order: self._runtime.async_wait(order.latch, order.seconds),
            Emit: self._now,
        }
        self._link: AsyncRedisLink | None = None
        if self._shared_store is not None:
            self._link = self._shared_store.async_link()
            self._performers[Ask] = self._link.perform

    async def complete(self, messages: Messages, **options: Unpack[CallOptions]) -> Completion:
        """One whole answer; as :meth:`routerkit.Client.complete`."""
        try:
            request = self._request(messages, options, stream=False)
        finally:
            del messages, options  # whoever shows the locals of an error's frames shall not show these
        completion: Completion = await self._drive(self.router.complete(request))
        return completion

    def stream(self, messages: Messages, **options: Unpack[CallOptions]) -> AsyncStream:
        """The same, chunk by chunk; as :meth:`routerkit.Client.stream`.

        Nothing is sent before ``async with``, ``await`` or the first chunk.
        """
        try:
            request = self._request(messages, options, stream=True)
        finally:
            del messages, options  # whoever shows the locals of an error's frames shall not show these
        return AsyncStream(self, self._step(self.router.stream(request)))

    async def models(self, *, refresh: bool = False, **filters: Unpack[ModelFilters]) -> list[Model]:
        """What the gateways' catalogues list; as :meth:`routerkit.Client.models`."""
        query = Query.of(**filters) if filters else None
        return list(await self._drive(self._usable.models(self.settings.timeouts, query, refresh=refresh)))

    async def model(self, model: str) -> Model:
        """One entry of the catalogue; as :meth:`routerkit.Client.model`."""
        found: Model = await self._drive(self._usable.model(model, self.settings.timeouts))
        return found

    async def key_info(self, *, gateway: str | None = None, key: str | None = None) -> KeyInfo:
        """What the gateway tells about the key; as :meth:`routerkit.Client.key_info`."""
        key = hidden(key)  # it may be the key itself, by mistake, and trackers show the locals of an error's frames
        info: KeyInfo = await self._drive(self._usable.key_info(self.settings.timeouts, gateway, key))
        return info

    async def explain(self, messages: Messages, **options: Unpack[CallOptions]) -> Plan:
        """The plan of a call, without sending it; as :meth:`routerkit.Client.explain`."""
        try:
            request = self._request(messages, options, stream=False)
        finally:
            del messages, options  # whoever shows the locals of an error's frames shall not show these
        plan: Plan = await self._drive(self.router.explain(request))
        return plan

    async def fleet(self, days: int = 1) -> FleetReport:
        """What all processes that share the store did, and how they are now; as :meth:`routerkit.Client.fleet`."""
        report: FleetReport = await self._drive(self._fleet(days))
        return report

    @property
    def chat(self) -> AsyncChat:
        """``await client.chat.completions.create(...)``, the OpenAI SDK's shape."""
        return AsyncChat(self)

    async def aclose(self) -> None:
        """Close the connections of this event loop; the client can no longer be used."""
        if self._root is self:
            self._closed = True
            if self._transport is not None:
                await self._transport.close()
            if self._link is not None and self._shared_store is not None:
                await advance_async(self._last_words(self._shared_store), self._link.perform, self._perform_now)
                await self._link.close()
            self._keep_scores()

    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _drive(self, step: Step[Any]) -> Any:
        outcome = await advance_async(self._step(step), self._perform, self._perform_now)
        return outcome.value  # type: ignore[union-attr]  # it delivers nothing

    def _perform(self, order: Any) -> Any:
        return self._performers[order.__class__](order)

    def _perform_now(self, order: Effect) -> None:
        if isinstance(order, Close):
            order.handle.close(reusable=order.reusable)
        elif isinstance(order, Emit):
            self._emit(order)

    async def _now(self, order: Close | Emit) -> None:
        self._perform_now(order)

    def _send(self, order: Send) -> Any:
        return self._connected().send(order)

    def _open(self, order: Open) -> Any:
        return self._connected().open(order)

    def _connected(self) -> AiohttpTransport:
        if self._transport is None:
            from routerkit.transport.aiohttp import AiohttpTransport

            self._transport = AiohttpTransport(self.settings.gateways)
        return self._transport

    def _forked(self) -> None:
        super()._forked()
        if self._transport is not None:
            self._transport.forget()
        if self._link is not None:
            self._link.forget()


class AsyncStream(StreamBase):
    """An answer as it comes: ``async with client.stream(...) as stream: async for chunk in stream: ...``."""

    def __init__(self, client: AsyncClient, step: Step[Ended]) -> None:
        self._client = client
        self._step: Step[Ended] | None = step
        self._batch: Iterator[Chunk] = iter(())
        self._finalizer: weakref.finalize[..., Any] | None = None
        """From the first exchange on, when something is held."""

    def __await__(self) -> Generator[Any, Any, Self]:
        return self._begin().__await__()

    async def __aenter__(self) -> Self:
        return await self._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        while True:
            for chunk in self._batch:
                return chunk
            if self._step is None:
                raise StopAsyncIteration
            await self._advance()

    async def text(self) -> AsyncIterator[str]:
        """Only the text, chunk by chunk; empty pieces left out."""
        async for chunk in self:
            if chunk.text:
                yield chunk.text

    async def aclose(self) -> None:
        """Give up the rest: the connection is closed at once. Harmless when the stream has ended."""
        step, self._step = self._step, None
        self._batch = iter(())
        if step is not None:
            if self._finalizer is not None:
                self._finalizer.detach()
            unwind(step, self._client._perform_now)

    close = aclose

    async def _begin(self) -> Self:
        if self._finalizer is None:
            await self._advance()
        return self

    async def _advance(self) -> None:
        step, self._step = self._step, None
        if step is None:
            return
        if self._finalizer is None:
            self._finalizer = finalizer(self, step)
        self._finalizer.atexit = False  # when the interpreter exits, another thread may be in the midst of this
        try:
            outcome = await advance_async(step, self._client._perform, self._client._perform_now)
        except BaseException:
            self._finalizer.detach()
            raise
        if isinstance(outcome, Done):
            self._finalizer.detach()
            self._ended = outcome.value
        else:
            self._step = step
            self._batch = iter(outcome)
            self._finalizer.atexit = True


class AsyncChat:
    """The OpenAI SDK's shape, for those who come from it."""

    def __init__(self, client: AsyncClient) -> None:
        self.completions = AsyncCompletions(client)


class AsyncCompletions:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @overload
    async def create(
        self, *, messages: Messages, stream: Literal[True], **options: Unpack[CallOptions]
    ) -> AsyncStream: ...
    @overload
    async def create(
        self, *, messages: Messages, stream: Literal[False] | None = None, **options: Unpack[CallOptions]
    ) -> Completion: ...
    async def create(
        self, *, messages: Messages, stream: bool | None = None, **options: Unpack[CallOptions]
    ) -> Completion | AsyncStream:
        """:meth:`AsyncClient.complete`, or with ``stream=True`` :meth:`AsyncClient.stream`; the same keywords."""
        given = taken(messages, options)
        del messages
        if stream:
            return await self._client.stream(**given.pop())
        return await self._client.complete(**given.pop())
