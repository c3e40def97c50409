"""Every scenario through the pure core in virtual time and through both facades over real sockets: one trace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from routerkit import AsyncClient, Client, RouterKitError
from routerkit.config import settings_from
from routerkit.core.router import Router
from routerkit.transport.runtime import SystemRuntime
from routerkit.types.request import ChatRequest
from tests.support.fault_server import FaultServer
from tests.support.scenarios import SCENARIOS, Ask, Scenario, Trace
from tests.support.virtual import VirtualGateway

KEY = "sk-test-1234567890"


class SkippingRuntime(SystemRuntime):
    """Real time, except that waits are skipped: they only move the clock. Randomness stands at its middle."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    def random(self) -> float:
        return 0.5

    def sleep(self, seconds: float) -> None:
        self._skipped += seconds

    async def asleep(self, seconds: float) -> None:
        self._skipped += seconds
        await asyncio.sleep(0)


@pytest.fixture(params=SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def scenario(request: pytest.FixtureRequest) -> Scenario:
    value: Scenario = request.param
    return value


@pytest.fixture
def server(scenario: Scenario) -> Iterator[FaultServer]:
    with FaultServer() as server:
        for model, answers in scenario.answers.items():
            server.script(model, *answers)
        server.catalog = scenario.catalog
        yield server


def expected(ask: Ask) -> Trace:
    return Trace(tuple(ask.expect), tuple(ask.waits), tuple(ask.skipped), ask.gives, ask.partial)


def test_pure_core(scenario: Scenario) -> None:
    gateway = VirtualGateway()
    for model, answers in scenario.answers.items():
        gateway.script(model, *answers)
    gateway.catalog = scenario.catalog
    router = Router(settings_from({}, base_url="http://127.0.0.1:1/v1", api_key=KEY), gateway.runtime)
    assert [in_core(gateway, router, ask) for ask in scenario.asks] == [expected(ask) for ask in scenario.asks]
    assert not gateway.open


def in_core(gateway: VirtualGateway, router: Router, ask: Ask) -> Trace:
    request = ChatRequest.build(
        "Hello",
        ask.params,
        model=ask.model,
        fallback_models=ask.fallback_models,
        extra_body=None,
        extra_headers=None,
        timeouts=ask.timeouts,
        stream=ask.stream,
    )
    try:
        if not ask.stream:
            _, answer = gateway.run(router.complete(request))
            return Trace.of(answer, answer.route, answer.text)
        chunks, ended = gateway.run(router.stream(request))
    except RouterKitError as error:
        return Trace.failed(error)
    text = "".join(chunk.text for chunk in chunks)
    assert ended.completion().text == text
    return Trace.of(ended.completion(), ended.route, text)


def test_client(scenario: Scenario, server: FaultServer) -> None:
    with Client(base_url=server.url, api_key=KEY, runtime=SkippingRuntime()) as client:
        assert [with_client(client, ask) for ask in scenario.asks] == [expected(ask) for ask in scenario.asks]


def with_client(client: Client, ask: Ask) -> Trace:
    options = {"model": ask.model, "fallback_models": ask.fallback_models, "timeout": ask.timeouts, **ask.params}
    try:
        if not ask.stream:
            answer = client.complete("Hello", **options)
            return Trace.of(answer, answer.route, answer.text)
        with client.stream("Hello", **options) as stream:
            text = "".join(chunk.text for chunk in stream)
    except RouterKitError as error:
        return Trace.failed(error)
    assert stream.completion.text == text
    return Trace.of(stream.completion, stream.route, text)


def test_async_client(scenario: Scenario, server: FaultServer) -> None:
    async def main() -> list[Trace]:
        async with AsyncClient(base_url=server.url, api_key=KEY, runtime=SkippingRuntime()) as client:
            return [await with_async_client(client, ask) for ask in scenario.asks]

    assert asyncio.run(main()) == [expected(ask) for ask in scenario.asks]


async def with_async_client(client: AsyncClient, ask: Ask) -> Trace:
    options = {"model": ask.model, "fallback_models": ask.fallback_models, "timeout": ask.timeouts, **ask.params}
    try:
        if not ask.stream:
            answer = await client.complete("Hello", **options)
            return Trace.of(answer, answer.route, answer.text)
        async with client.stream("Hello", **options) as stream:
            text = "".join([chunk.text async for chunk in stream])
    except RouterKitError as error:
        return Trace.failed(error)
    assert stream.completion.text == text
    return Trace.of(stream.completion, stream.route, text)
