"""A driver of routerkit's core for another HTTP library, in one page: httpx, under trio.

    DEV_MODE=true python examples/trio_httpx_driver.py

The core decides and gives orders; :mod:`routerkit.core.effects` lists them. What is here carries them out, and knows nothing of
models, retries or breakers: ``drive`` is the loop, ``perform`` has a line for each order, ``Exchange`` is one HTTP request.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import httpx
import trio

from routerkit import ChatRequest, Chunk, Completion, ConfigurationError, Router, RouterKitError
from routerkit.config import settings_from
from routerkit.core import effects
from routerkit.core.effects import Failure, NotPerformed, Step, TransportFailure
from routerkit.core.streaming import Ended
from routerkit.store.memory import MemoryStore
from routerkit.telemetry.observe import Observers
from routerkit.transport.failures import name_of
from routerkit.transport.mock import MockTransport
from routerkit.transport.origins import Origins
from routerkit.transport.runtime import SystemRuntime
from routerkit.types.secret import origin_of
from routerkit.types.verdict import Sent

CLEANING_UP = 1.0
"""Seconds that a call may take to clean up after it was cancelled."""
CONNECTING = {
    "TooSlowError": Failure.CONNECT_TIMEOUT,
    "gaierror": Failure.RESOLVE,
    "SSLCertVerificationError": Failure.TLS_VERIFY,
}

T = TypeVar("T")


class TrioClient:
    """Takes the keywords of :class:`routerkit.Client`. Use it with ``async with``, within one ``trio.run``."""

    def __init__(self, **options: Any) -> None:
        self.settings = settings_from(os.environ, **options)
        dev, gateways = self.settings.dev_mode, self.settings.gateways
        if any(gateway.block_private for gateway in gateways):
            raise ConfigurationError("block_private: this driver does not look at addresses")
        if self.settings.store is not None:
            raise ConfigurationError("store: this driver counts limits and budgets in memory, and carries out no Ask")
        runtime = SystemRuntime()
        self.observers = Observers(self.settings.observers)
        self.router = Router(self.settings, runtime, self.observers.wanted, MemoryStore(runtime))
        self.carry: Callable[[Step[Any]], Step[Any]] = MockTransport(dev, gateways).carry if dev else lambda step: step
        self.origins = Origins(gateways)
        self.clients: dict[str, httpx.AsyncClient] = {}
        """By origin, as each may have its own proxy and authorities."""

    async def __aenter__(self) -> TrioClient:  # noqa: PYI034 - Self is for those who subclass
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients.values():
            await client.aclose()

    def http(self, request: effects.HttpRequest) -> httpx.AsyncClient:
        """What connects to where the request goes. Raises TransportFailure when none of the gateways is there."""
        origin = self.origins.at(origin_of(request.url))
        if origin.url not in self.clients:
            # A connection for each exchange: slower than a pool, but none is ever stale, and each is fresh.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            verify = self.origins.tls(origin) or True
            self.clients[origin.url] = httpx.AsyncClient(
                limits=limits, trust_env=False, proxy=origin.proxy, verify=verify
            )
        return self.clients[origin.url]

    async def complete(self, messages: Any, *, model: str | None = None, **params: Any) -> Completion:
        request = self.request(messages, model, params, stream=False)
        completion: Completion = await self.drive(self.carry(self.router.complete(request)))
        return completion

    def stream(self, messages: Any, *, model: str | None = None, **params: Any) -> TrioStream:
        """``async with client.stream("Hello") as stream: async for chunk in stream: …``"""
        request = self.request(messages, model, params, stream=True)
        return TrioStream(self, self.carry(self.router.stream(request)))

    def request(self, messages: Any, model: str | None, params: dict[str, Any], *, stream: bool) -> ChatRequest:
        unused: dict[str, Any] = {"fallback_models": None, "extra_body": None, "extra_headers": None}
        timeouts = self.settings.timeouts
        request = ChatRequest.build(messages, params, model=model, timeouts=timeouts, stream=stream, **unused)
        self.router.check(request)
        return request

    async def drive(self, step: Step[Any]) -> Any:
        """Carry a step out, to its result or up to the next chunks that it delivers. Raises what the step raises."""
        try:
            effect = step.send(None)
            while not isinstance(effect, effects.Deliver):
                try:
                    result = await self.perform(effect)
                except NotPerformed as failure:
                    effect = step.throw(failure)
                except BaseException:  # trio.Cancelled above all
                    await self.unwind(step)
                    raise
                else:
                    effect = step.send(result)
        except StopIteration as stop:
            return stop.value
        return effect.chunks

    async def unwind(self, step: Step[Any]) -> None:
        """Tell a step that its caller is gone, and carry out its cleaning up: undisturbed, but not for long."""
        with trio.move_on_after(CLEANING_UP, shield=True), suppress(StopIteration, effects.Cancelled, RouterKitError):
            effect = step.throw(effects.Cancelled())
            while True:
                effect = step.send(await self.perform(effect))

    async def perform(self, effect: effects.Effect) -> Any:
        match effect:
            case effects.Send():
                return await self.send(effect)
            case effects.Open():
                exchange = await Exchange.begin(self.http(effect.request), effect)
                return effects.StreamResponse(exchange.status, exchange.headers, exchange)
            case effects.Read():
                return await effect.handle.read(effect.seconds)
            case effects.Close():
                return await effect.handle.close()
            case effects.Sleep():
                return await trio.sleep(effect.seconds)
            case effects.Await():
                return await wait(effect)
            case effects.Emit():
                return self.observers.notify(effect.event)

    async def send(self, order: effects.Send) -> effects.HttpResponse:
        until = trio.current_time() + order.total
        exchange = await Exchange.begin(self.http(order.request), order)
        body = bytearray()
        try:
            while data := await exchange.read(max(0.0, min(order.idle, until - trio.current_time()))):
                body += data
                if len(body) > order.max_bytes:
                    raise TransportFailure(Failure.TOO_LARGE, Sent.RESPONDED, status=exchange.status)
        finally:
            await exchange.close()
        return effects.HttpResponse(exchange.status, exchange.headers, bytes(body))


class TrioStream:
    """The chunks of an answer as they come."""

    completion: Completion
    """The whole answer, once the stream has ended."""

    def __init__(self, client: TrioClient, step: Step[Ended]) -> None:
        self._client = client
        self._step = step
        self._batch: list[Chunk] = []
        self._ended = False

    async def __aenter__(self) -> TrioStream:  # noqa: PYI034
        await self._advance()
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._ended:
            await self._client.unwind(self._step)

    def __aiter__(self) -> TrioStream:
        return self

    async def __anext__(self) -> Chunk:
        while not self._batch:
            if self._ended:
                raise StopAsyncIteration
            await self._advance()
        return self._batch.pop(0)

    async def _advance(self) -> None:
        outcome = await self._client.drive(self._step)
        if isinstance(outcome, Ended):
            self._ended, self.completion = True, outcome.completion()
        else:
            self._batch += outcome


class Exchange:
    """One HTTP request whose answer has begun; the handle in ``Read`` and ``Close``."""

    def __init__(self, response: httpx.Response) -> None:
        self.status, self.headers = response.status_code, response.headers
        self._body = response.aiter_bytes()

    @classmethod
    async def begin(cls, http: httpx.AsyncClient, order: effects.Send | effects.Open) -> Exchange:
        asked = order.request
        headers = dict(asked.headers)
        if asked.credential is not None and asked.credential.origin == origin_of(asked.url):
            headers["Authorization"] = asked.credential.header
        timeout = httpx.Timeout(None, connect=order.connect)
        request = http.build_request(asked.method, asked.url, headers=headers, content=asked.body, timeout=timeout)
        seconds = min(order.total, order.connect + order.first_byte)  # the first byte gets what connecting left over
        return cls(await within(seconds, lambda: http.send(request, stream=True)))

    async def read(self, seconds: float) -> bytes:
        return await within(seconds, lambda: anext(self._body, b""), self.status)

    async def close(self) -> None:
        """Close the connection. httpx reads through nested generators, which only an exception ends: hence a cancelled read."""
        with trio.CancelScope() as scope, suppress(httpx.HTTPError):
            scope.cancel()
            while await anext(self._body, b""):
                pass


async def within(seconds: float, operation: Callable[[], Awaitable[T]], status: int | None = None) -> T:
    """Do this within so many seconds. ``status`` is that of an answer which has begun. Raises TransportFailure."""
    try:
        with trio.fail_after(seconds):
            return await operation()
    except (httpx.HTTPError, trio.TooSlowError) as error:
        failure = failed(error, status)
    raise failure  # out here: the error above refers to the request, and so to the key


def failed(error: Exception, status: int | None) -> TransportFailure:
    late, name = isinstance(error, trio.TooSlowError), name_of(error)
    if status is not None:
        kind, sent = (Failure.READ_TIMEOUT if late else Failure.TRUNCATED), Sent.RESPONDED
    elif isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)):
        kind, sent = CONNECTING.get(name.partition(":")[0], Failure.CONNECT), Sent.NOT_SENT
    else:
        kind, sent = (Failure.FIRST_BYTE_TIMEOUT if late else Failure.DISCONNECTED), Sent.MAYBE
    return TransportFailure(kind, sent, detail=name, status=status)


async def wait(order: effects.Await) -> bool:
    event = trio.Event()  # set from within this run: no other thread shares the router
    order.latch.subscribe(event.set)
    try:
        with trio.move_on_after(order.seconds):
            await event.wait()
    finally:
        order.latch.unsubscribe(event.set)
    return order.latch.is_set


async def main() -> None:
    models = {"default_model": "anthropic/claude-sonnet-4.5", "fallback_models": ["openai/gpt-4o-mini"]}
    async with TrioClient(**models) as client:
        answer = await client.complete("Why is the sky blue?", max_tokens=200)
        print(f"{answer.text}\n{' > '.join(answer.route.models)}\n")
        async with client.stream("And at sunset?", max_tokens=200) as stream:
            async for chunk in stream:
                print(chunk.text, end="", flush=True)
        print(f"\n{' > '.join(stream.completion.route.models)}")


if __name__ == "__main__":
    trio.run(main)
