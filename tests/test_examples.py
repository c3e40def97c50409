"""The examples, run as users run them: against a gateway that misbehaves, in dev mode, and with a browser that goes away.

What the Flask app and the aiohttp service do is stated once and asked of both, over real sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trustme
from aiohttp import web
from trio.testing import wait_all_tasks_blocked
from werkzeug.datastructures import Headers
from werkzeug.serving import make_server
from werkzeug.test import EnvironBuilder

from examples import aiohttp_service, flask_app, trio_httpx_driver
from examples.trio_httpx_driver import TrioClient
from routerkit import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    Budget,
    Client,
    ConfigurationError,
    Gateway,
    LimitExceededError,
    Limits,
    RetryPolicy,
    RouterKitError,
    StreamInterruptedError,
    Tenant,
    Timeouts,
)
from routerkit.core.effects import Await, Failure, HttpRequest, Latch, Send, TransportFailure
from routerkit.testing import FaultServer, closed_port, replies
from routerkit.testing.replies import Reply, cut, done, end, pause, role, stream, usage
from routerkit.testing.server import PATIENCE
from routerkit.types.verdict import Sent
from tests.store import conftest as stores
from tests.store.servers import Server, free_port

KEY = "sk-test-1234567890"
A, B = "a/one", "b/two"
DAY = 86_400
"""Seconds; a day begins at midnight UTC."""
running, redis = stores.running, stores.server
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _plain_names():
        monkeypatch.delenv(name)


def _plain_names() -> list[str]:
    prefixes = ("OPENROUTER_", "ONEROUTER_", "INFRON_", "ROUTERKIT_", "DEV_MODE")
    return [name for name in os.environ if name.startswith(prefixes)]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.catalog = replies.error(404, message="no catalogue here")
        yield running


def options(server: FaultServer, **changes: Any) -> dict[str, Any]:
    """Keywords for a client of any kind: two models, each asked once."""
    asked_once = RetryPolicy(max_same_target=1)
    given = {"default_model": A, "fallback_models": [B], "retry": asked_once, "timeout": 5}
    return {"api_key": KEY, "base_url": server.url, **given, **changes}


# The Flask app and the aiohttp service


@attrs.frozen
class Answer:
    """What a browser sees."""

    status: int
    headers: HTTPMessage | Headers
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Name and data of each server-sent event."""
        parts = [block.split("\n") for block in self.text.split("\n\n") if block]
        return [
            (
                lines[0].removeprefix("event: ") if len(lines) > 1 else "text",
                json.loads(lines[-1].removeprefix("data: ")),
            )
            for lines in parts
        ]


@attrs.frozen
class Service:
    """A service that runs."""

    port: int

    def post(self, path: str, body: Any) -> Answer:
        with closing(self.send(path, body)) as connection:
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())

    def send(self, path: str, body: Any) -> HTTPConnection:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, data, {"Content-Type": "application/json"})
        return connection


@contextmanager
def flask_service(given: dict[str, Any] | None) -> Iterator[Service]:
    client = None if given is None else Client(**given)
    listening = make_server("127.0.0.1", 0, flask_app.create_app(client), threaded=True)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Service(listening.port)
    finally:
        listening.shutdown()
        thread.join()
        if client is not None:
            client.close()


@contextmanager
def service_of_aiohttp(given: dict[str, Any] | None, handler_cancellation: bool = True) -> Iterator[Service]:
    started: queue.SimpleQueue[tuple[int, Callable[[], object]]] = queue.SimpleQueue()

    async def serve() -> None:
        client = None if given is None else AsyncClient(**given)
        runner = web.AppRunner(aiohttp_service.create_app(client), handler_cancellation=handler_cancellation)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        started.put((runner.addresses[0][1], lambda: loop.call_soon_threadsafe(stop.set)))
        await stop.wait()
        await runner.cleanup()
        if client is not None:
            await client.aclose()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: asyncio.run(serve()))
        port, stop = started.get(timeout=PATIENCE)
        try:
            yield Service(port)
        finally:
            stop()
        running.result(PATIENCE)


Run = Callable[[dict[str, Any] | None], AbstractContextManager[Service]]


@pytest.fixture(params=[flask_service, service_of_aiohttp], ids=["flask", "aiohttp"])
def run(request: pytest.FixtureRequest) -> Run:
    running: Run = request.param
    return running


def test_an_answer_tells_who_gave_it_and_what_was_tried(run: Run, server: FaultServer) -> None:
    server.script(A, replies.error(503))
    with run(options(server)) as service:
        answer = service.post("/chat", {"message": "Hello"})
    assert answer.status == 200
    assert answer.json["text"] == f"Hello from {B}"
    assert (answer.json["model"], answer.json["cost"]) == (B, "0.00012")
    assert [(each["model"], each["status"]) for each in answer.json["attempts"]] == [(A, 503), (B, 200)]
    assert server.requests[-1].json["messages"] == [{"role": "user", "content": "Hello"}]


def test_the_browser_may_name_a_model(run: Run, server: FaultServer) -> None:
    with run(options(server)) as service:
        assert service.post("/chat", {"message": "Hello", "model": "c/three"}).json["model"] == "c/three"
        assert service.post("/chat/stream", {"message": "Hello", "model": "c/three"}).status == 200
    assert server.models_asked == ["c/three", "c/three"]


def test_one_client_serves_all_requests(run: Run, server: FaultServer) -> None:
    with run(options(server)) as service:
        for _ in range(3):
            assert service.post("/chat", {"message": "Hello"}).status == 200
    assert (len(server.requests), server.connections_opened) == (3, 1)


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize(
    ("body", "reply", "status", "retry_after"),
    [
        (b"{", None, 400, None),
        ([], None, 400, None),
        ({}, None, 400, None),
        ({"message": ["Hello"]}, None, 400, None),
        ({"message": "Hello", "model": "no model id"}, None, 400, None),
        ({"message": "Hello", "model": 7}, None, 400, None),
        ({"message": "Hello"}, replies.error(400, message="temperature: too hot"), 400, None),
        ({"message": "Hello"}, replies.error(429, headers={"Retry-After": "30"}), 429, "30"),
        ({"message": "Hello"}, replies.error(401), 503, None),
        ({"message": "Hello"}, replies.error(503), 503, None),
    ],
)
def test_an_error_is_json_with_a_status_for_the_browser(
    run: Run, server: FaultServer, path: str, body: Any, reply: Reply | None, status: int, retry_after: str | None
) -> None:
    server.default = reply or replies.completion()
    with run(options(server)) as service:
        answer = service.post(path, body)
    assert (answer.status, answer.headers.get("Retry-After")) == (status, retry_after)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert set(answer.json) == {"error", "status_code", "model", "should_retry", "rate_limited"}
    assert answer.json["rate_limited"] is (status == 429)
    assert KEY not in answer.text
    assert bool(server.requests) is (reply is not None)


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_a_silent_gateway_is_a_gateway_timeout(run: Run, server: FaultServer, path: str) -> None:
    server.default = replies.hang()
    quick = Timeouts(first_byte=0.1, first_token=0.1, total=5)
    with run(options(server, timeout=quick)) as service:
        assert service.post(path, {"message": "Hello"}).status == 504


def test_a_stream_comes_as_events(run: Run, server: FaultServer) -> None:
    server.script(A, replies.error(503))
    server.script(B, stream(role(), "Hel", "lo\n\nyou", end(), usage(), done()))
    with run(options(server)) as service:
        answer = service.post("/chat/stream", {"message": "Hello"})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    *texts, (name, account) = answer.events
    assert texts == [("text", {"text": "Hel"}), ("text", {"text": "lo\n\nyou"})]
    assert (name, account["model"], account["cost"]) == ("done", B, "0.00012")
    assert [each["model"] for each in account["attempts"]] == [A, B]


def test_a_stream_that_breaks_off_ends_with_an_error_event(run: Run, server: FaultServer) -> None:
    server.default = stream(role(), "Hel", "lo", cut())
    with run(options(server)) as service:
        answer = service.post("/chat/stream", {"message": "Hello"})
    assert answer.status == 200
    *texts, (name, error) = answer.events
    assert "".join(data["text"] for _, data in texts) == "Hello"
    assert (name, error["model"], error["should_retry"]) == ("error", A, True)
    assert server.models_asked == [A]


def leave_a_stream(service: Service) -> None:
    """A browser that goes away after the first word."""
    with closing(service.send("/chat/stream", {"message": "Hello"})) as browser:
        response = browser.getresponse()
        assert response.readline() == b'data: {"text": "word "}\n'
        response.close()


BUSY = stream(role(), *["word "] * 300, pause(replies.Signal()), every=0.01)
SILENT = stream(role(), "word ", pause(replies.Signal()))


def test_the_upstream_is_closed_when_the_browser_goes_away(run: Run, server: FaultServer) -> None:
    server.default = BUSY
    with run(options(server)) as service:
        leave_a_stream(service)
        assert server.wait_closed()


@pytest.mark.parametrize(("upstream", "handler_cancellation"), [(SILENT, True), (BUSY, False)])
def test_aiohttp_closes_the_upstream_at_once_or_at_the_next_word(
    server: FaultServer, upstream: Reply, handler_cancellation: bool
) -> None:
    server.default = upstream
    with service_of_aiohttp(options(server), handler_cancellation) as service:
        leave_a_stream(service)
        assert server.wait_closed()


def test_flask_closes_a_stream_of_which_nothing_was_read(server: FaultServer) -> None:
    server.default = SILENT
    environ = EnvironBuilder("/chat/stream", method="POST", json={"message": "Hello"}).get_environ()
    with Client(**options(server)) as client:
        flask_app.create_app(client)(environ, lambda *_: None).close()
        assert server.wait_closed()


def test_flask_answers_its_test_client(server: FaultServer) -> None:
    with Client(**options(server)) as client:
        browser = flask_app.create_app(client).test_client()
        assert browser.post("/chat", json={"message": "Hello"}).json["text"] == f"Hello from {A}"
        streamed = browser.post("/chat/stream", json={"message": "Hello"})
        assert Answer(streamed.status_code, streamed.headers, streamed.text).events[-1][0] == "done"


def test_a_service_makes_its_own_client_in_dev_mode(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV_MODE", "true")
    with run(None) as service:
        answer = service.post("/chat", {"message": "Hello"})
        *_, (name, _) = service.post("/chat/stream", {"message": "Hello"}).events
    assert answer.json["text"] == "[mock openai/gpt-4o-mini] You said: Hello"
    assert name == "done"


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize(
    "own", [{"limits": Limits(requests_per_day=1)}, {"budget": Budget("0.01")}], ids=["cap", "budget"]
)
def test_what_we_refuse_ourselves_may_be_asked_for_tomorrow(
    run: Run, server: FaultServer, path: str, own: dict[str, Any]
) -> None:
    server.catalog = [replies.catalog_model(A)]
    server.default = replies.completion(usage={**replies.USAGE, "cost": 0.005})
    with run(options(server, fallback_models=[], **own)) as service:
        assert service.post(path, {"message": "Hello"}).status == 200
        answer = service.post(path, {"message": "Hello"})
    assert (answer.status, answer.json["should_retry"], len(server.chat_requests)) == (429, True, 1)
    assert 0 <= int(answer.headers["Retry-After"] or "") - (DAY - time.time() % DAY) < 30


# Many processes, one cap

CAP, ASKED = 120, 200
PROCESSES = 4
STARTING = 30.0
"""Seconds that a service may take to start."""
PATIENT = "from tests.support.unhurried import unhurry; unhurry()"
"""Run first: a busy machine is not the subject."""


def fleet_variables(server: FaultServer, redis: Server) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in _plain_names()}
    path = os.pathsep.join([str(EXAMPLES.parent), str(EXAMPLES)])
    gateway = {"OPENROUTER_API_KEY": KEY, "OPENROUTER_BASE_URL": server.url}
    return {**kept, "PYTHONPATH": path, **gateway, "ROUTERKIT_STORE": redis.url, "CALLS_A_DAY": str(CAP)}


@contextmanager
def living(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """Leaving the block ends them; none may have ended by itself, or said that anything went wrong."""
    alive = [True]
    try:
        yield
        alive = [process.poll() is None for process in processes]
    finally:
        for process in processes:
            process.terminate()
        said = "\n\n".join(map(last_words, processes))
    assert all(alive), said
    assert "Traceback" not in said, said
    assert "is lost" not in said, said


def last_words(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=20)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0] + "Traceback: it did not end"


def started(command: list[str], variables: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ask_a_lot(service: Service) -> list[Answer]:
    with ThreadPoolExecutor(40) as pool:
        return list(pool.map(lambda number: service.post("/chat", {"message": f"question {number}"}), range(ASKED)))


def assert_cap_was_kept(answers: list[Answer], server: FaultServer) -> None:
    assert Counter(answer.status for answer in answers) == {200: CAP, 429: ASKED - CAP}
    assert len(server.requests) == CAP
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.json["rate_limited"] for answer in refused} == {True}
    assert all(answer.json["error"].startswith(f"{CAP} requests a day of the client: used up") for answer in refused)
    until_midnight = DAY - time.time() % DAY
    assert all(0 <= int(answer.headers["Retry-After"] or "") - until_midnight < 30 for answer in refused)


def test_gunicorns_workers_share_a_cap(server: FaultServer, redis: Server, tmp_path: Path) -> None:
    """Their client was made before they were forked; each answers one request at a time, so all of them are needed."""
    settings, log = tmp_path / "gunicorn.py", tmp_path / "log"
    settings.write_text(f"{PATIENT}\ndef post_worker_init(worker): print('a worker is ready', flush=True)\n")
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--config", str(settings), "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", str(PROCESSES), "--worker-class", "sync", "--preload"]
    command += ["--access-logfile", str(log), "--access-logformat", "%(p)s"]
    together = server.default = Together(PROCESSES)
    process = started([*command, "flask_app:create_app()"], fleet_variables(server, redis))
    with living(process):
        told(process, "a worker is ready", PROCESSES)
        assert_cap_was_kept(ask_a_lot(Service(port)), server)
    assert together.most == len(set(log.read_text().split())) == PROCESSES


def test_aiohttp_services_share_a_cap_and_a_port(server: FaultServer, redis: Server) -> None:
    port = free_port()
    code = f"{PATIENT}; import runpy; runpy.run_path({str(EXAMPLES / 'aiohttp_service.py')!r}, run_name='__main__')"
    variables = fleet_variables(server, redis) | {"PORT": str(port), "PYTHONUNBUFFERED": "1"}
    processes = [started([sys.executable, "-c", code], variables) for _ in range(PROCESSES)]
    with living(*processes):
        for process in processes:
            told(process, "Running on")
        assert_cap_was_kept(ask_a_lot(Service(port)), server)
    assert server.connections_opened >= 2


class Together:
    """A reply that waits for so many to be asked for at the same time, once."""

    def __init__(self, many: int) -> None:
        self.most = 0
        self._many = many
        self._inside = 0
        self._all_there = replies.Signal()
        self._guard = threading.Lock()

    def __call__(self, connection: replies.Connection, request: replies.RecordedRequest) -> None:
        with self._guard:
            self._inside += 1
            self.most = max(self.most, self._inside)
            if self._inside >= self._many:
                self._all_there.set()
        connection.wait(self._all_there)
        with self._guard:
            self._inside -= 1
        replies.completion()(connection, request)


def told(process: subprocess.Popen[str], words: str, times: int = 1) -> None:
    """Wait until it has said so."""
    assert process.stdout is not None
    impatient = threading.Timer(STARTING, process.kill)
    impatient.start()
    said = ""
    try:
        while said.count(words) < times:
            line = process.stdout.readline()
            assert line, said
            said += line
    finally:
        impatient.cancel()


# The scripts


def run_script(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key not in _plain_names()}
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    return subprocess.run(
        command,
        env={**kept, "PYTHONPATH": str(EXAMPLES.parent), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_script_shows_fallbacks_in_dev_mode() -> None:
    ended = run_script("script.py", DEV_MODE="true")
    assert (ended.returncode, ended.stderr) == (0, "dev mode: answers are made up; nothing is sent\n")
    attempts = [line.split(" after ")[0].strip() for line in ended.stdout.splitlines() if " after 0." in line]
    assert attempts == [
        "anthropic/claude-sonnet-4.5 on openrouter: overloaded",
        "openai/gpt-4o-mini on openrouter: rate_limited",
        "google/gemini-2.5-flash on openrouter: ok",
        "anthropic/claude-sonnet-4.5 on openrouter: connection_lost",
        "google/gemini-2.5-flash on openrouter: truncated",
    ]
    assert "openai/gpt-4o-mini on openrouter was left out" in ended.stdout
    assert "broke off after" in ended.stdout


def test_the_script_says_what_is_missing() -> None:
    ended = run_script("script.py")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "OPENROUTER_API_KEY" in ended.stderr


def test_the_driver_runs_in_dev_mode() -> None:
    ended = run_script("trio_httpx_driver.py", DEV_MODE="true")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("[mock anthropic/claude-sonnet-4.5] You said:") == 2


# The driver for httpx and trio


def test_the_driver_moves_to_the_next_model(server: FaultServer) -> None:
    server.script(A, replies.error(503))

    async def main() -> None:
        async with TrioClient(**options(server)) as client:
            answer = await client.complete("Hello")
            assert (answer.text, answer.route.models) == (f"Hello from {B}", (A, B))
            async with client.stream("Hello") as chunks:
                text = "".join([chunk.text async for chunk in chunks])
            assert text == chunks.completion.text == f"Hello from {B}"
            assert chunks.completion.route.models == (A, B)

    trio.run(main)
    assert {request.api_key for request in server.requests} == {KEY}
    assert server.wait_closed()


def test_the_driver_waits_before_it_asks_the_same_model_again(server: FaultServer) -> None:
    server.script(A, replies.error(503), replies.completion())
    patient = RetryPolicy(backoff_base=0.001)

    async def main() -> None:
        async with TrioClient(**options(server, fallback_models=[], retry=patient)) as client:
            assert len((await client.complete("Hello")).route.waits) == 1

    trio.run(main)


def test_the_driver_tells_of_a_stream_that_breaks_off(server: FaultServer) -> None:
    server.default = stream(role(), "Hel", "lo", cut())

    async def main() -> None:
        async with TrioClient(**options(server)) as client, client.stream("Hello") as chunks:
            with pytest.raises(StreamInterruptedError) as caught:
                async for _ in chunks:
                    pass
        assert (caught.value.partial_text, caught.value.truncated) == ("Hello", True)

    trio.run(main)


def fails(given: dict[str, Any]) -> RouterKitError:
    """The error of a call that the driver carries out."""

    async def main() -> RouterKitError:
        async with TrioClient(**given) as client:
            with pytest.raises(RouterKitError) as caught:
                await client.complete("Hello")
            return caught.value

    return trio.run(main)


def test_the_driver_knows_what_was_sent(server: FaultServer) -> None:
    server.script(A, replies.reset_before_reply())
    server.script(B, replies.hang())
    quick = Timeouts(connect=0.4, first_byte=0.1, total=5)
    alone = options(server, fallback_models=[])
    unsent = fails({**alone, "base_url": f"http://127.0.0.1:{closed_port()}/v1"})
    lost, late = fails(alone), fails({**alone, "default_model": B, "timeout": quick})
    assert [type(each) for each in (unsent, lost, late)] == [APIConnectionError, APIConnectionError, APITimeoutError]
    sent = [each.route.attempts[-1].verdict.sent for each in (unsent, lost, late) if each.route is not None]
    assert sent == [Sent.NOT_SENT, Sent.MAYBE, Sent.MAYBE]


def test_the_driver_moves_to_the_next_gateway(server: FaultServer) -> None:
    """Each with a certificate authority of its own."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(tls=context) as other, authority.cert_pem.tempfile() as trusted:
        away = Gateway(name="away", base_url=f"http://127.0.0.1:{closed_port()}/v1")
        near = Gateway(name="near", base_url=other.url, ca_file=trusted)
        given = {"gateways": [away, near], "api_key": {"near": KEY}, "default_model": A, "timeout": PATIENCE}

        async def main() -> None:
            async with TrioClient(**given) as client:
                answer = await client.complete("Hello")
                assert (answer.gateway, len(answer.route.attempts)) == ("near", 2)
                foreign = HttpRequest("GET", server.url, {}, None, None)
                with pytest.raises(TransportFailure, match="no gateway of this client is there"):
                    await client.send(Send(foreign, 1, 1, 1, 1, 1))

        trio.run(main)
        assert [request.api_key for request in other.requests] == [KEY]
    assert server.connections_opened == 0


def test_the_driver_keeps_to_limits(server: FaultServer) -> None:
    """Whoever waits for a turn is served in order, and leaves no hole when it is cancelled."""
    held = server.default = replies.gate()
    limits = Limits(requests_per_day=4, concurrency=1, queue_size=5)

    async def main() -> None:
        async with TrioClient(**options(server, limits=limits)) as client:
            scope = trio.CancelScope()

            async def ask(question: str) -> None:
                await client.complete(question)

            async def cancelled() -> None:
                with scope:
                    await ask("cancelled")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, "first")
                await trio.to_thread.run_sync(held.arrived.wait)
                for each in (partial(ask, "second"), cancelled, partial(ask, "third")):
                    nursery.start_soon(each)
                    await wait_all_tasks_blocked(0.01)
                scope.cancel()
                held.release()
            assert scope.cancelled_caught
            await ask("fourth")
            with pytest.raises(LimitExceededError, match="4 requests a day of the client: used up"):
                await ask("fifth")

    trio.run(main)
    asked = [request.json["messages"][0]["content"] for request in server.requests]
    assert asked == ["first", "second", "third", "fourth"]


def test_the_driver_refuses_what_it_cannot_hold(server: FaultServer) -> None:
    with pytest.raises(ConfigurationError, match="counts limits and budgets in memory"):
        TrioClient(**options(server, store="redis://127.0.0.1:1/0"))
    with pytest.raises(ConfigurationError, match="block_private"):
        TrioClient(gateway=Gateway(name="theirs", base_url=server.url, block_private=True))
    several = TrioClient(gateway="openrouter", tenants=[Tenant("acme", KEY)])
    with pytest.raises(ConfigurationError, match=r"client\.tenant\(name\)"):
        several.request("Hello", A, {}, stream=False)


def test_the_driver_sends_nothing_to_a_server_that_cannot_prove_its_name() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(tls=context) as server:
        assert fails(options(server)).code == "tls_verify"
        assert (server.requests, server.connections_opened) == ([], 1)


@pytest.mark.parametrize(
    "reply", [replies.hang(), stream(role(), "Hel", pause(replies.Signal()))], ids=["head", "body"]
)
@pytest.mark.parametrize("streamed", [False, True], ids=["complete", "stream"])
def test_cancelling_the_driver_closes_the_connection(server: FaultServer, reply: Reply, streamed: bool) -> None:
    server.default = reply

    async def ask(client: TrioClient) -> None:
        if not streamed:
            await client.complete("Hello")
            return
        async with client.stream("Hello") as chunks:
            async for _ in chunks:
                pass

    events: list[Any] = []

    async def main() -> None:
        async with TrioClient(**options(server, observers=[events.append])) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, client)
                await trio.to_thread.run_sync(server.wait_for, lambda: len(server.requests) == 1)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            await trio.to_thread.run_sync(server.wait_closed)

    trio.run(main)
    assert server.models_asked == [A]
    attempt, call = events
    assert (str(attempt.attempt.verdict), call.error) == ("cancelled", "Cancelled")


@pytest.mark.parametrize("cancelled", [False, True])
def test_leaving_a_stream_of_the_driver_early_closes_the_connection(server: FaultServer, cancelled: bool) -> None:
    server.default = stream(role(), "Hel", pause(replies.Signal()))
    events: list[Any] = []

    async def main() -> None:
        async with TrioClient(**options(server, observers=[events.append])) as client:
            with trio.CancelScope() as scope:
                async with client.stream("Hello") as chunks:
                    assert [(await anext(chunks)).text for _ in range(2)] == ["", "Hel"]
                    if cancelled:
                        scope.cancel()
                        await trio.sleep_forever()
            await trio.to_thread.run_sync(server.wait_closed)

    trio.run(main)
    assert [str(events[0].attempt.verdict), events[1].error] == ["cancelled", "Cancelled"]


def test_the_driver_stops_reading_what_is_too_large(server: FaultServer) -> None:
    server.default = replies.drip_body(0.01)
    request = HttpRequest("POST", f"{server.url}/chat/completions", {}, b"{}")

    async def main() -> None:
        async with TrioClient(**options(server)) as client:
            with pytest.raises(TransportFailure) as caught:
                await client.perform(Send(request, connect=5, first_byte=5, idle=5, total=5, max_bytes=2))
            assert caught.value.failure is Failure.TOO_LARGE
            await trio.to_thread.run_sync(server.wait_closed)

    trio.run(main)


def test_the_driver_waits_for_a_latch() -> None:
    async def main() -> None:
        latch = Latch()
        assert await trio_httpx_driver.wait(Await(latch, 0)) is False
        async with trio.open_nursery() as nursery:
            results: list[bool] = []

            async def waiting() -> None:
                results.append(await trio_httpx_driver.wait(Await(latch, PATIENCE)))

            nursery.start_soon(waiting)
            await wait_all_tasks_blocked()
            latch.set()
        assert results == [True]
        assert await trio_httpx_driver.wait(Await(latch, 0)) is True
        assert latch._callbacks == []

    trio.run(main)
