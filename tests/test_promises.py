"""What issue and README promise to have been seen: through the facades, over real sockets, in real threads."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from routerkit import (
    AllModelsFailedError,
    APIError,
    AsyncClient,
    AuthenticationError,
    BreakerChanged,
    BreakerState,
    Client,
    ConfigurationError,
    Event,
    InvalidRequestError,
    StreamInterruptedError,
    Timeouts,
)
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.support.facades import SkippingRuntime
from tests.support.virtual import VirtualGateway

KEY = "sk-or-v1-5ec4e7c0ffee5ec4e7c0ffee5ec4e7"


def test_no_key_anywhere_is_said_before_any_request(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENROUTER_API_KEY", "ONEROUTER_API_KEY", "INFRON_API_KEY", "DEV_MODE"):
        monkeypatch.delenv(name, raising=False)
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigurationError) as caught:
            kind()
        assert str(caught.value) == "OpenRouter API key not configured: set OPENROUTER_API_KEY or pass api_key="


def test_five_hundred_threads_on_a_cold_catalogue_make_one_request() -> None:
    gate = r.gate(r.json_body({"data": r.CATALOG}))
    with FaultServer() as server, Client(base_url=server.url) as client, ThreadPoolExecutor(500) as pool:
        server.catalog = gate
        barrier = threading.Barrier(500)

        def ask() -> list[str]:
            barrier.wait(30)
            return [model.id for model in client.models()]

        answers = [pool.submit(ask) for _ in range(500)]
        assert gate.arrived.wait(30)
        gate.release()
        assert {tuple(answer.result(30)) for answer in answers} == {("alpha/one", "beta/two", "gamma/three:free")}
        assert server.catalog_requests == 1


def test_two_hundred_tasks_on_a_cold_catalogue_make_one_request() -> None:
    async def main(server: FaultServer) -> None:
        async with AsyncClient(base_url=server.url) as client:
            answers = await asyncio.gather(*[client.models() for _ in range(200)])
            assert {len(answer) for answer in answers} == {3}

    with FaultServer() as server:
        asyncio.run(main(server))
        assert server.catalog_requests == 1


def test_one_waiting_task_may_go_without_harm_to_the_others() -> None:
    gate = r.gate(r.json_body({"data": r.CATALOG}))

    async def main(server: FaultServer) -> None:
        async with AsyncClient(base_url=server.url) as client:
            leader = asyncio.create_task(client.models())
            while not gate.arrived.is_set():
                await asyncio.sleep(0.005)
            followers = [asyncio.create_task(client.models()) for _ in range(3)]
            await asyncio.sleep(0.01)
            followers[0].cancel()
            leader.cancel()
            gate.release()
            assert [len(models) for models in await asyncio.gather(*followers[1:])] == [3, 3]
            for gone in (leader, followers[0]):
                with pytest.raises(asyncio.CancelledError):
                    await gone

    with FaultServer() as server:
        server.catalog = gate
        asyncio.run(main(server))


def test_a_breaker_opens_and_recovers_after_its_time() -> None:
    seen: list[BreakerState] = []

    def observer(event: Event) -> None:
        if isinstance(event, BreakerChanged) and event.scope.startswith("a/one"):
            seen.append(event.state)

    runtime = SkippingRuntime()
    with FaultServer() as server, Client(base_url=server.url, runtime=runtime, observers=[observer]) as client:
        server.script("a/one", *[r.error(500)] * 5, r.completion())
        ask = client.with_options(default_model="a/one", fallback_models=["b/two"]).complete
        for _ in range(5):
            assert ask("Hello").model == "b/two"
        assert seen == [BreakerState.OPEN]
        assert ask("Hello").route.models == ("b/two",)
        runtime.sleep(5)
        assert ask("Hello").model == "a/one"
        assert ask("Hello").model == "a/one"
        assert seen == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]


def test_a_total_outage_is_probed_once_a_second_and_over_when_it_is_over() -> None:
    runtime = SkippingRuntime()
    with FaultServer() as server, Client(base_url=server.url, runtime=runtime, default_model="a/one") as client:
        server.script("a/one", r.error(500))
        server.catalog = r.error(500)
        for _ in range(20):
            with pytest.raises(Exception, match="a/one"):
                client.complete("Hello")
        asked = len(server.chat_requests)
        server.script("a/one", r.completion())
        runtime.sleep(1)
        assert client.complete("Hello").text == "Hello from a/one"
        assert len(server.chat_requests) == asked + 1


def test_a_broken_observer_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def observer(event: Event) -> None:
        raise ZeroDivisionError

    with FaultServer() as server, Client(base_url=server.url, observers=[observer]) as client:
        assert client.complete("Hello", model="a/one").text == "Hello from a/one"
    assert "an observer failed on AttemptFinished" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_cancelled_task_closes_its_connection_and_returns_its_permit(stream: bool) -> None:
    async def main(server: FaultServer) -> None:
        async with AsyncClient(base_url=server.url, default_model="a/one") as client:

            async def call() -> None:
                if stream:
                    async with client.stream("Hello") as answer:
                        async for _ in answer:
                            pass
                else:
                    await client.complete("Hello")

            task = asyncio.create_task(call())
            while not server.chat_requests:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(server.wait_closed)
            assert set(client.health().breakers.values()) == {"closed"}
            server.script("a/one", r.completion())
            assert (await client.complete("Hello")).text == "Hello from a/one"

    with FaultServer() as server:
        server.script("a/one", r.stream(r.role(), "begun ", r.pause(60)) if stream else r.hang())
        asyncio.run(main(server))


def test_a_second_event_loop_finds_the_client_in_order() -> None:
    with FaultServer() as server:
        client = AsyncClient(base_url=server.url, default_model="a/one")

        async def ask() -> str:
            return (await client.complete("Hello")).text

        async def ask_and_close() -> str:
            async with client:
                return await ask()

        assert asyncio.run(ask()) == asyncio.run(ask_and_close()) == "Hello from a/one"
        gc.collect()


def test_the_openai_shape() -> None:
    async def main(server: FaultServer) -> None:
        async with AsyncClient(base_url=server.url) as client:
            create = client.chat.completions.create
            answer = await create(model="a/one", messages=[{"role": "user", "content": "Hello"}])
            assert answer.choices[0].message.content == "Hello from a/one"
            stream = await create(model="a/one", messages="Hello", stream=True)
            assert (
                "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
                == "Hello from a/one"
            )

    with FaultServer() as server:
        with Client(base_url=server.url) as client:
            create = client.chat.completions.create
            answer = create(model="a/one", messages=[{"role": "user", "content": "Hello"}], temperature=0)
            assert answer.choices[0].message.content == "Hello from a/one"
            assert server.requests[-1].json == {
                "model": "a/one",
                "messages": [{"role": "user", "content": "Hello"}],
                "temperature": 0,
            }
            with create(model="a/one", messages="Hello", stream=True) as stream:
                assert "".join(stream.text()) == "Hello from a/one"
        asyncio.run(main(server))


def test_multimodal_parts_and_parameters_arrive_untouched() -> None:
    parts = [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    with FaultServer() as server, Client(base_url=server.url, app_url="https://example.com") as client:
        client.complete(
            [{"role": "user", "content": parts}],
            model="a/one",
            provider={"order": ["x"]},
            top_p=None,
            extra_body={"brand_new": [1]},
            extra_headers={"X-Trace": "t1"},
        )
        seen = server.requests[-1]
        assert seen.json == {
            "model": "a/one",
            "messages": [{"role": "user", "content": parts}],
            "provider": {"order": ["x"]},
            "brand_new": [1],
        }
        assert seen.header("X-Trace") == "t1"
        assert seen.header("HTTP-Referer") == "https://example.com"
        assert seen.header("Authorization") is None
        for bad, message in (
            ({"temprature": 1}, "did you mean 'temperature'"),
            ({"extra_body": {"model": "x"}}, "has its own argument"),
            ({"extra_headers": {"Authorization": "Bearer x"}}, "is set by routerkit"),
            ({"extra_headers": {"X": "a\r\nb"}}, "printable ASCII"),
            ({"model": "no such id!"}, "not a model id"),
        ):
            with pytest.raises(InvalidRequestError, match=message):
                client.complete("x", **{"model": "a/one", **bad})
        assert len(server.requests) == 1


def everything_said(error: BaseException) -> str:
    """All that a careless program could print of an error: itself, its causes, its frames with all their locals."""
    said = []
    seen: BaseException | None = error
    while seen is not None:
        said += [repr(seen), str(seen), repr(getattr(seen, "__dict__", ""))]
        for frame, _ in traceback.walk_tb(seen.__traceback__):
            if "/routerkit/" in frame.f_code.co_filename:
                said += [f"{name}={value!r}" for name, value in frame.f_locals.items()]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(said)


@pytest.mark.parametrize(
    "reply",
    [
        r.error(401, message="no"),
        r.error(500),
        r.hang(),
        r.close_before_reply(),
        r.truncated_body(),
        r.raw(b"rubbish\r\n\r\n"),
        r.html(502),
        r.stream("begun", r.cut()),
    ],
    ids=["401", "500", "hang", "close", "truncated", "rubbish", "html", "cut"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_no_key_is_shown(reply: r.Reply, stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    quick = Timeouts(first_byte=0.1, total=5)
    said = []

    async def main(server: FaultServer) -> None:
        async with AsyncClient(base_url=server.url, api_key=KEY, runtime=SkippingRuntime(), timeout=quick) as client:
            said.append(repr(client) + repr(client.settings) + repr(client.router.access) + repr(vars(client)))
            try:
                if stream:
                    async with client.stream("Hello", model="a/one") as answer:
                        async for _ in answer:
                            pass
                else:
                    await client.complete("Hello", model="a/one")
            except Exception as error:
                said.append(everything_said(error))

    with FaultServer() as server:
        server.script("a/one", reply)
        server.catalog = r.error(404)
        with Client(base_url=server.url, api_key=KEY, runtime=SkippingRuntime(), timeout=quick) as client:
            said.append(repr(client) + repr(client.settings) + repr(client.router.access) + repr(vars(client)))
            try:
                if stream:
                    with client.stream("Hello", model="a/one") as answer:
                        list(answer)
                else:
                    client.complete("Hello", model="a/one")
            except Exception as error:
                said.append(everything_said(error))
        asyncio.run(main(server))
        assert len(said) == 4, "no failure to look at"
        assert server.requests[0].api_key == KEY, "the key must have been sent for this test to mean anything"
    assert "call" in caplog.text
    for text in (*said, caplog.text):
        assert KEY not in text
        assert KEY[9:] not in text


def test_errors_tell_what_happened_and_what_to_do() -> None:
    with FaultServer() as server, Client(base_url=server.url, api_key=KEY, runtime=SkippingRuntime()) as client:
        server.script("a/one", r.error(503, message="busy"))
        server.script("b/two", r.error(429, headers={"Retry-After": "90"}))
        server.script("d/four", r.error(401, message="User not found."))
        server.catalog = r.error(404)
        with pytest.raises(AllModelsFailedError) as caught:
            client.complete("Hello", model="a/one", fallback_models=["b/two"])
        error = caught.value
        assert [each.model for each in error.errors] == ["a/one", "b/two"]
        assert isinstance(error.__cause__, APIError)
        assert error.__cause__.model == "b/two"
        assert error.retry_after == pytest.approx(90)
        assert error.to_dict() == {
            "error": str(error),
            "status_code": 429,
            "model": "b/two",
            "should_retry": True,
            "rate_limited": True,
        }
        assert str(error).splitlines()[0] == "all 2 models failed:"
        assert "HTTP 503" in str(error)
        with pytest.raises(AuthenticationError, match=r"refused the API key.*HTTP 401.*User not found") as refused:
            client.complete("Hello", model="d/four")
        assert refused.value.to_dict()["should_retry"] is False


def test_a_broken_stream_keeps_its_text_out_of_the_message() -> None:
    with FaultServer() as server, Client(base_url=server.url) as client:
        server.script("a/one", r.stream("secret words", r.cut()))
        with pytest.raises(StreamInterruptedError) as caught, client.stream("Hello", model="a/one") as stream:
            list(stream)
        assert caught.value.partial_text == "secret words"
        assert [chunk.text for chunk in caught.value.chunks] == ["secret words"]
        assert caught.value.truncated
        assert "secret" not in str(caught.value) + repr(caught.value)


def test_the_core_needs_no_time_of_its_own() -> None:
    """Six hours of outage, one call every ten seconds, in no time at all; the broken model is asked ever less."""
    from routerkit.config import settings_from
    from routerkit.core.router import Router
    from tests.test_cancellation import request

    world = VirtualGateway()
    world.script("a/one", r.error(500))
    router = Router(settings_from({}, base_url="http://127.0.0.1:1/v1"), world.runtime)
    calls = 6 * 360
    for _ in range(calls):
        _, answer = world.run(router.complete(request(stream=False)))
        assert answer.model == "b/two"
        world.runtime.now += 10
    assert calls / 8 < world.models_asked.count("a/one") < calls / 3
