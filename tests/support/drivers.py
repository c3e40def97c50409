"""The two HTTP transports, driven alike: one list of tests runs through both.

A driver performs one order at a time and returns or raises what comes of it. `until` waits for something to happen on the
server while the driver's event loop, if it has one, goes on running. Leaving the `with` block closes the transport.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from routerkit.core.effects import Close, HttpRequest, HttpResponse, Open, Read, Send, StreamResponse
from routerkit.testing import FaultServer
from routerkit.transport.aiohttp import AiohttpTransport
from routerkit.transport.requests import RequestsTransport
from routerkit.types.gateway import Gateway

if TYPE_CHECKING:
    from typing_extensions import Self

KEY = "sk-test-1234567890"
MODEL = "a/model"

T = TypeVar("T")


def gateway_at(base_url: str, ca_file: str | None = None, **fields: Any) -> Gateway:
    """A gateway wherever a test wants it, also where checks would let none be."""
    made = Gateway(**{"name": "tested", "base_url": "http://127.0.0.1", "ca_file": ca_file, **fields})
    object.__setattr__(made, "base_url", base_url)
    return made


class SyncDriver:
    """A thread with `RequestsTransport`."""

    def __init__(self, *gateways: Gateway) -> None:
        self.transport = RequestsTransport(gateways)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transport.close()

    def send(self, order: Send) -> HttpResponse:
        return self.transport.send(order)

    def open(self, order: Open) -> StreamResponse:
        return self.transport.open(order)

    def read(self, order: Read) -> bytes:
        data: bytes = order.handle.read(order.seconds)
        return data

    def close(self, order: Close) -> None:
        order.handle.close(reusable=order.reusable)

    def until(self, server: FaultServer, predicate: Callable[[], bool]) -> None:
        server.wait_for(predicate)


class AsyncDriver:
    """An event loop with `AiohttpTransport`."""

    def __init__(self, *gateways: Gateway) -> None:
        self.transport = AiohttpTransport(gateways)
        self.loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.transport.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def send(self, order: Send) -> HttpResponse:
        return self.run(self.transport.send(order))

    def open(self, order: Open) -> StreamResponse:
        return self.run(self.transport.open(order))

    def read(self, order: Read) -> bytes:
        data: bytes = self.run(order.handle.read(order.seconds))
        return data

    def close(self, order: Close) -> None:
        async def close() -> None:
            order.handle.close(reusable=order.reusable)

        self.run(close())

    def until(self, server: FaultServer, predicate: Callable[[], bool]) -> None:
        self.loop.run_until_complete(self.loop.run_in_executor(None, server.wait_for, predicate))


Driver = SyncDriver | AsyncDriver
DRIVERS: dict[str, type[SyncDriver | AsyncDriver]] = {"requests": SyncDriver, "aiohttp": AsyncDriver}


def request(base_url: str, model: str = MODEL, *, method: str = "POST", **fields: Any) -> HttpRequest:
    """A chat request; `fields` replace those of `HttpRequest`."""
    body = json.dumps({"model": model, "messages": []}).encode() if method == "POST" else None
    headers = {"Content-Type": "application/json", "User-Agent": "tests"}
    given = {"url": f"{base_url}/chat/completions", "headers": headers, "body": body, **fields}
    return HttpRequest(method, **given)


def send(
    asked: HttpRequest,
    *,
    connect: float = 5.0,
    first_byte: float = 5.0,
    idle: float = 5.0,
    total: float = 10.0,
    max_bytes: int = 1_000_000,
) -> Send:
    """An order with limits that are wide unless the test is about them."""
    return Send(asked, connect, first_byte, idle, total, max_bytes)


def open_stream(asked: HttpRequest, *, connect: float = 5.0, first_byte: float = 5.0, total: float = 10.0) -> Open:
    return Open(asked, connect, first_byte, total)


def read_all(driver: Driver, answer: StreamResponse, seconds: float = 5.0) -> bytes:
    """Everything up to the end."""
    data = b""
    while piece := driver.read(Read(answer.handle, seconds)):
        data += piece
    return data
