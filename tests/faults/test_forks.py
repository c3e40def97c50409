"""Forked children: each gets its own answers, whatever the parent was doing.

How transports live through forks is tested one level below, in tests/test_transport_life.py.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from routerkit import (
    AsyncClient,
    Client,
)
from routerkit.testing import FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.faults.catalogue import fault
from tests.support.facades import AsyncCaller, SkippingRuntime, SyncCaller
from tests.support.forks import CHILDREN, forked
from tests.support.scenarios import A
from tests.test_transport_life import REQUESTS

Facade = type[SyncCaller | AsyncCaller]


def echo(request: RecordedRequest) -> r.Reply:
    """Says what it was asked."""
    return r.completion(f"{request.model} heard {request.json['messages'][0]['content']}")


def questions(number: int, count: int = REQUESTS) -> list[str]:
    return [f"child {number}, question {turn}" for turn in range(count)]


def heard(number: int, count: int = REQUESTS) -> list[str]:
    return sorted(f"{A} heard {question}" for question in questions(number, count))


def ask_all(client: Client | AsyncClient, number: int) -> list[str]:
    """A child's questions, five at a time: what came back."""
    if isinstance(client, Client):
        with ThreadPoolExecutor(5) as pool:
            return sorted(pool.map(lambda question: client.complete(question, model=A).text, questions(number)))

    async def main() -> list[str]:
        limit = asyncio.Semaphore(5)

        async def ask(question: str) -> str:
            async with limit:
                return (await client.complete(question, model=A)).text

        return sorted(await asyncio.gather(*(ask(question) for question in questions(number))))

    return asyncio.run(main())


@contextmanager
def held(*locks: Any) -> Iterator[None]:
    """Another thread holds these locks."""
    holding, over = threading.Event(), threading.Event()

    def hold() -> None:
        for lock in locks:
            lock.acquire()
        holding.set()
        over.wait(60)
        for lock in locks:
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(5)
    try:
        yield
    finally:
        over.set()
        thread.join()


@fault(107)
def test_children_of_a_warm_client_with_held_locks_and_open_streams_get_their_own_answers(
    facade: Facade, server: FaultServer
) -> None:
    """200 of 200, each with an echo of what was asked; and the parent goes on as if nothing had happened."""
    server.script(A, r.choose(echo))
    gate = r.Signal()
    server.script("b/stream", r.stream(r.role(), "before ", r.pause(gate), "after", r.end(), r.done()))
    with facade(base_url=server.url) as caller:
        caller.complete("warm", model=A)
        reader = caller.stream(model="b/stream")
        client = caller.client
        locks = [client.router.health._lock, client.router.access[client.settings.gateway.name].catalog._lock]
        locks += [client._transport_lock] if isinstance(client, Client) else []
        with held(*locks):
            found = forked(lambda number: ask_all(client, number))
        assert found == [heard(number) for number in range(CHILDREN)]
        gate.set()
        text = ""
        while (chunk := reader.next()) is not None:
            text += chunk.text
        assert text == "before after"
        assert caller.complete("again", model=A).text == f"{A} heard again"


@fault(107)
def test_children_of_a_client_that_is_being_used_get_their_own_answers(facade: Facade, server: FaultServer) -> None:
    """The parent's threads are anywhere in the midst of their calls when it forks."""
    server.script(A, r.choose(echo))
    over = threading.Event()
    wrong: list[str] = []
    with facade(base_url=server.url) as caller, SyncCaller(base_url=server.url) as other:
        busy = caller.client if isinstance(caller.client, Client) else other.client

        def work(name: str) -> None:
            while not over.is_set():
                text = busy.complete(name, model=A).text
                if text != f"{A} heard {name}":
                    wrong.append(text)

        threads = [threading.Thread(target=work, args=(f"parent {number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            found = forked(lambda number: ask_all(caller.client, number))
        finally:
            over.set()
            for thread in threads:
                thread.join(10)
    assert found == [heard(number) for number in range(CHILDREN)]
    assert wrong == []


class DicingRuntime(SkippingRuntime):
    """With the dice of the real one."""

    def random(self) -> float:
        return random.random()


@fault(107)
def test_children_wait_each_for_a_time_of_its_own(facade: Facade, server: FaultServer) -> None:
    for number in range(CHILDREN):
        server.script(f"child/{number}", r.error(500), r.completion())
    server.catalog = r.error(404)
    with facade(base_url=server.url, runtime=DicingRuntime()) as caller:

        def wait(number: int) -> list[Any]:
            client, options = caller.client, {"model": f"child/{number}"}
            answer = (
                client.complete("x", **options)
                if isinstance(client, Client)
                else asyncio.run(client.complete("x", **options))
            )
            return [each.seconds for each in answer.route.waits]

        waits = [each for found in forked(wait) for each in found]
    assert len(waits) == len(set(waits)) == CHILDREN


def names_of(client: Client | AsyncClient) -> list[str]:
    models = client.models() if isinstance(client, Client) else asyncio.run(client.models())
    return [model.id for model in models]


@fault(108)
def test_children_born_during_a_refresh_refresh_themselves(facade: Facade, server: FaultServer) -> None:
    """Neither waiting for the parent's fetch nor spoiling it."""
    gate = server.catalog = r.gate(r.json_body({"data": r.CATALOG}))
    names = [entry["id"] for entry in r.CATALOG]

    def release() -> None:
        try:
            server.wait_for(lambda: server.catalog_requests == 1 + CHILDREN, 20)
        finally:
            gate.release()

    releasing = threading.Thread(target=release)
    with facade(base_url=server.url) as caller:
        parents: list[list[str]] = []

        def parent() -> None:
            if isinstance(caller, SyncCaller):
                parents.append(names_of(caller.client))
            else:
                parents.append([model.id for model in caller.models()])  # on the caller's own loop, in this thread

        thread = threading.Thread(target=parent)
        thread.start()
        assert gate.arrived.wait(5)
        releasing.start()
        found = forked(lambda _: names_of(caller.client))
        thread.join(10)
        releasing.join()
        assert found == [names] * CHILDREN
        assert parents == [names]
        assert server.catalog_requests == 1 + CHILDREN


@fault(108)
def test_a_child_forked_by_the_task_beside_the_one_that_refreshes(server: FaultServer) -> None:
    gate = server.catalog = r.gate(r.json_body({"data": r.CATALOG}))
    names = [entry["id"] for entry in r.CATALOG]

    def release() -> None:
        try:
            server.wait_for(lambda: server.catalog_requests == 1 + CHILDREN, 20)
        finally:
            gate.release()

    async def main(client: AsyncClient) -> list[str]:
        refreshing = asyncio.create_task(client.models())
        await asyncio.to_thread(gate.arrived.wait, 5)
        threading.Thread(target=release).start()
        assert forked(lambda _: names_of(client)) == [names] * CHILDREN
        return [model.id for model in await refreshing]

    with AsyncCaller(base_url=server.url) as caller:
        assert caller.run(main(caller.client)) == names
