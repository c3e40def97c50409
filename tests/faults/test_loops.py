"""More than one event loop: a second one, one that is closed, one within another."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from routerkit import (
    AsyncClient,
    Client,
    RouterKitError,
    Timeouts,
)
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.catalogue import fault
from tests.support.facades import KEY, AsyncCaller, SyncCaller
from tests.support.scenarios import A, B, C


@fault(111)
def test_two_loops_in_two_threads_share_one_fetch(server: FaultServer) -> None:
    gate = server.catalog = r.gate(r.json_body({"data": r.CATALOG}))
    client = AsyncClient(base_url=server.url, api_key=KEY)

    async def ask() -> tuple[int, str]:
        try:
            return len(await client.models()), (await client.complete("Hello", model=A)).text
        finally:
            await client._transport.close()  # type: ignore[union-attr]

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: asyncio.run(ask()))
        assert gate.arrived.wait(5)
        second = pool.submit(lambda: asyncio.run(ask()))
        threading.Timer(0.05, gate.release).start()
        expected = (len(r.CATALOG), f"Hello from {A}")
        assert (first.result(10), second.result(10)) == (expected, expected)
    assert server.catalog_requests == 1
    server.wait_closed()


@fault(111)
def test_a_loop_that_is_closed_while_its_task_refreshes_hinders_nobody(server: FaultServer) -> None:
    gate = server.catalog = r.gate(r.json_body({"data": r.CATALOG}))
    client = AsyncClient(base_url=server.url, api_key=KEY, timeout=5)

    async def begin() -> None:
        asyncio.get_running_loop().create_task(client.models(), name="left behind")
        await asyncio.to_thread(gate.arrived.wait, 5)

    async def ask() -> int:
        async with client:
            return len(await client.models())

    asyncio.run(begin())  # cancels what is left
    gate.release()
    assert asyncio.run(ask()) == len(r.CATALOG)
    assert server.catalog_requests == 2
    server.wait_closed()


@fault(111)
def test_a_stream_of_another_loop_is_an_error_and_no_hang(server: FaultServer) -> None:
    server.default = r.stream("one", r.pause(0.05), "two", r.pause(60))
    client = AsyncClient(base_url=server.url, api_key=KEY)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def begin() -> Any:
        return await client.stream("Hello", model=A, timeout=Timeouts(idle=1, content_idle=1, total=2))

    async def read(stream: Any) -> str:
        return "".join([chunk.text async for chunk in stream])

    async def close() -> None:
        await client._transport.close()  # type: ignore[union-attr]

    stream = first.run_until_complete(begin())
    with pytest.raises((RouterKitError, RuntimeError)) as caught:
        second.run_until_complete(asyncio.wait_for(read(stream), 5))
    assert not isinstance(caught.value, asyncio.TimeoutError)
    for loop in (second, first):
        loop.run_until_complete(close())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    server.wait_closed()


@fault(111)
def test_a_sync_client_within_a_loop_and_a_loop_within_a_loop(server: FaultServer) -> None:
    """The first works as anywhere else; the second is refused by asyncio, and the client survives it."""

    async def main(sync: Client, client: AsyncClient) -> list[str]:
        texts = []
        async with client.stream("Hello", model=A) as stream:
            async for chunk in stream:
                texts.append(chunk.text)
                texts.append(sync.complete("Hello", model=B).text)
                work = client.complete("Hello", model=C)
                with pytest.raises(RuntimeError, match="running event loop"):
                    asyncio.run(work)
                work.close()
        return texts

    with SyncCaller(base_url=server.url) as sync, AsyncCaller(base_url=server.url) as caller:
        texts = caller.run(main(sync.client, caller.client))
        assert "".join(texts).replace(f"Hello from {B}", "") == f"Hello from {A}"
        assert server.models_asked.count(C) == 0
