"""The package for users' tests: the scripted transport under both facades, virtual time, and the fixtures."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import routerkit
from routerkit import AsyncClient, Client, ConfigurationError, StreamInterruptedError
from routerkit.testing import (
    Connection,
    Failure,
    FaultServer,
    Gone,
    RecordedRequest,
    ScriptedTransport,
    Sent,
    Signal,
    TransportFailure,
    VirtualRuntime,
    network_fault,
    replies,
)
from routerkit.testing.runtime import WALL
from routerkit.testing.tape import SIZE
from routerkit.transport.runtime import SystemRuntime
from tests.support.facades import FACADES, KEY, Caller, expected, prepared
from tests.support.scenarios import QUICK, SCENARIOS, Ask, Scenario, Trace

pytest_plugins = ["routerkit.testing.fixtures"]

A, B, C = "a/one", "b/two", "c/three"
BASE_URL = "http://127.0.0.1:1/v1"


@pytest.fixture(params=FACADES)
def caller(
    request: pytest.FixtureRequest, scripted_transport: ScriptedTransport, virtual_runtime: VirtualRuntime
) -> Any:
    """A facade on the fixtures' transport and clock; models A and B."""
    with FACADES[request.param](
        transport=scripted_transport, runtime=virtual_runtime, default_model=A, fallback_models=[B]
    ) as caller:
        yield caller


def verdicts(answer: routerkit.Completion) -> list[tuple[str, str]]:
    assert answer.route is not None
    return [(attempt.model, str(attempt.verdict)) for attempt in answer.route.attempts]


# Every scenario


def played(scenario: Scenario, facade: type[Caller]) -> list[Trace]:
    transport = ScriptedTransport()
    prepared(transport, scenario)  # type: ignore[arg-type]
    with facade(base_url=BASE_URL, transport=transport, runtime=VirtualRuntime(dice=0.5)) as caller:
        traces = [caller.ask(ask) for ask in scenario.asks]
    assert transport.open_streams == 0
    return traces


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_a_scenario_in_memory_is_the_same_as_over_sockets(scenario: Scenario) -> None:
    traces = [played(scenario, facade) for facade in FACADES.values()]
    for each in traces:
        assert each == [expected(ask) for ask in scenario.asks]
    details = [[trace.details for trace in each] for each in traces]
    assert details[0] == details[1]
    if any(ask.timeouts == QUICK for ask in scenario.asks):
        return  # over sockets it takes its time, and test_scenarios.py takes it
    with FaultServer() as server, FACADES["sync"](base_url=prepared(server, scenario).url) as caller:
        assert [caller.ask(ask).details for ask in scenario.asks] == details[0]


ODD: dict[str, replies.Reply] = {
    "interim answers": replies.raw(
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + b"HTTP/1.1 204 No Content\r\n\r\n", keep=True
    ),
    "no HTTP": replies.raw(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "half a head": replies.raw(b"HTTP/1.1 200 OK\r\nContent-"),
    "two lengths": replies.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
    "too long": replies.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx"),
    "gzip": replies.gzip_body({"choices": [{"message": {"content": "small"}, "finish_reason": "stop"}]}),
    "broken gzip": replies.gzip_body({"choices": []}, corrupt=True),
    "a length too many": replies.truncated_body(),
    "bad chunks": replies.bad_chunking(),
    "until the end": replies.raw(b'HTTP/1.0 200 OK\r\n\r\n{"choices": [{"message": {"content": "old"}}]}'),
    "more than the answer": replies.raw(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}{}", keep=True),
    "waits of no time": replies.drip_body(0, b"{}"),
    "another content type": replies.wrong_content_type("text/plain"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_in_memory_is_the_same_as_over_sockets(name: str, stream: bool) -> None:
    def traces(gateway: FaultServer | ScriptedTransport, **options: Any) -> list[Any]:
        gateway.script(A, ODD[name])
        with FACADES["sync"](**options) as caller:
            asked = [caller.ask(Ask([], "", model=A, fallback_models=[B], stream=stream)) for _ in range(2)]
        return [asked, [each.details for each in asked], [(each.model, each.index) for each in gateway.chat_requests]]

    transport = ScriptedTransport()
    in_memory = traces(transport, base_url=BASE_URL, transport=transport)
    with FaultServer() as server:
        assert traces(server, base_url=server.url) == in_memory


# Time


def test_a_long_wait_takes_no_time(
    caller: Caller, scripted_transport: ScriptedTransport, virtual_runtime: VirtualRuntime
) -> None:
    scripted_transport.script(A, replies.error(429, headers={"Retry-After": "30"}), replies.completion("Fine now"))
    answer = caller.complete(models=[A])
    assert answer.text == "Fine now"
    assert answer.route is not None
    assert [wait.seconds for wait in answer.route.waits] == virtual_runtime.slept
    assert virtual_runtime.slept == [pytest.approx(virtual_runtime.now - 1000)]
    assert 30 <= virtual_runtime.slept[0] < 33


def test_silence_takes_no_time_either(
    caller: Caller, scripted_transport: ScriptedTransport, virtual_runtime: VirtualRuntime
) -> None:
    scripted_transport.script(A, replies.hang())
    assert verdicts(caller.complete()) == [(A, "first_byte_timeout"), (B, "ok")]
    assert virtual_runtime.slept == [30]


def test_a_slow_stream_takes_its_virtual_time(
    caller: Caller, scripted_transport: ScriptedTransport, virtual_runtime: VirtualRuntime
) -> None:
    r = replies
    scripted_transport.script(
        A, r.stream(r.role(), "one", r.pause(12), " two", r.pause(90), "three", r.end(), r.done())
    )
    reader = caller.stream()
    with pytest.raises(StreamInterruptedError) as caught:
        list(iter(reader.next, None))
    assert caught.value.partial_text == "one two"
    assert sum(virtual_runtime.slept) == 12 + 20  # the idle clock


def test_real_time_passes_without_a_virtual_runtime() -> None:
    class Recording(SystemRuntime):
        def __init__(self) -> None:
            self.slept: list[float] = []

        def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)

    runtime = Recording()
    transport = ScriptedTransport()
    transport.script(A, replies.drip_body(0.25, b'{"choices": []}'))
    with Client(api_key=KEY, transport=transport, runtime=runtime, default_model=A, fallback_models=[B]) as client:
        client.complete("Hello")
    assert runtime.slept == [0.25] * 14


def test_the_virtual_clocks() -> None:
    runtime = VirtualRuntime()
    assert (runtime.now, runtime.monotonic(), runtime.wall()) == (1000, 1000, WALL)
    runtime.advance(3600)
    runtime.sleep(2)
    asyncio.run(runtime.asleep(3))
    assert (runtime.now, runtime.wall(), runtime.slept) == (4605, WALL + 3605, [2, 3])
    with pytest.raises(ValueError, match="backwards"):
        runtime.advance(-1)


def test_the_dice_are_seeded_or_fixed() -> None:
    first, second, other = VirtualRuntime(), VirtualRuntime(), VirtualRuntime(seed=1)
    throws = [first.random() for _ in range(5)]
    assert throws == [second.random() for _ in range(5)] != [other.random() for _ in range(5)]
    assert all(0 <= throw < 1 for throw in throws)
    first.dice = 0.25
    assert [first.random(), VirtualRuntime(dice=0.5).random()] == [0.25, 0.5]


# Faults below HTTP


@pytest.mark.parametrize(
    ("fault", "code", "waited"), [("reset", "connection_lost", []), ("timeout", "first_byte_timeout", [30])]
)
def test_faults_after_a_request_was_sent(
    caller: Caller,
    scripted_transport: ScriptedTransport,
    virtual_runtime: VirtualRuntime,
    fault: Any,
    code: str,
    waited: list[float],
) -> None:
    scripted_transport.script(A, fault)
    assert verdicts(caller.complete()) == [(A, code), (B, "ok")]
    assert virtual_runtime.slept == waited
    assert scripted_transport.models_asked == [A, B]


@pytest.mark.parametrize(
    ("fault", "code", "waited"),
    [
        ("dns", "connect_failed", []),
        ("refused", "connect_failed", []),
        ("connect_timeout", "connect_failed", [5]),
        ("tls", "tls_verify", []),
    ],
)
def test_faults_that_keep_a_request_from_being_sent(
    caller: Caller,
    scripted_transport: ScriptedTransport,
    virtual_runtime: VirtualRuntime,
    fault: Any,
    code: str,
    waited: list[float],
) -> None:
    scripted_transport.script(A, fault, once=True)
    outcome = caller.ask(Ask([], "", model=A, fallback_models=[B]))
    assert (outcome.attempts, outcome.gives) == ((f"{A} - {code}",), "APIConnectionError")
    assert virtual_runtime.slept == waited  # such an attempt connects twice
    assert scripted_transport.requests == []
    virtual_runtime.advance(3600)
    assert caller.complete().model == A  # the fault lasted for that attempt, and no longer


def test_a_failure_of_ones_own(caller: Caller, scripted_transport: ScriptedTransport) -> None:
    scripted_transport.script(A, TransportFailure(Failure.MALFORMED, Sent.MAYBE, detail="gibberish"))
    for _ in range(2):
        answer = caller.complete()
        assert verdicts(answer) == [(A, "unexpected_response"), (B, "ok")]
        assert answer.route is not None
        assert "gibberish" in answer.route.attempts[0].detail


def test_a_fault_as_the_default(caller: Caller, scripted_transport: ScriptedTransport) -> None:
    scripted_transport.default = network_fault("reset")
    scripted_transport.script(B, replies.choose(lambda _: replies.completion("B is well")))
    assert caller.complete().text == "B is well"


def test_unknown_faults_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'plague' is no network fault \(known: dns, refused,"):
        ScriptedTransport().script(A, "plague")  # type: ignore[arg-type]


def test_a_server_cannot_break_the_network() -> None:
    with FaultServer() as server, Client(base_url=server.url, default_model=A, fallback_models=[B]) as client:
        server.script(A, network_fault("dns"))
        assert client.complete("Hello").model == B
        with pytest.raises(TypeError, match="closed_port"):
            raise server.errors.pop()


# What is recorded


def test_requests_are_recorded_as_a_server_sees_them(caller: Caller, scripted_transport: ScriptedTransport) -> None:
    caller.complete("Hello", temperature=0)
    caller.complete("Hello again")
    first, second = scripted_transport.requests
    assert (first.method, first.path, first.api_key, first.model) == ("POST", "/api/v1/chat/completions", KEY, A)
    assert first.json["messages"] == [{"role": "user", "content": "Hello"}]
    assert first.json["temperature"] == 0
    assert (first.connection, first.index, second.connection, second.index) == (0, 0, 0, 1)
    assert KEY not in repr(first)
    assert scripted_transport.models_asked == [A, A]


def test_the_catalogue_and_other_paths(caller: Caller, scripted_transport: ScriptedTransport) -> None:
    assert {model.id for model in caller.models()} == {entry["id"] for entry in replies.CATALOG}
    scripted_transport.catalog = [replies.catalog_model("only/one")]
    scripted_transport.route("POST", "/chat/completions", replies.completion("routed"))
    assert [model.id for model in caller.models(refresh=True)] == ["only/one"]
    assert scripted_transport.catalog_requests == 2
    assert caller.complete().text == "routed"


# Connections


def test_connections_are_kept_alive_and_fail_as_real_ones_do() -> None:
    def traces(server: FaultServer | ScriptedTransport, **options: Any) -> list[Any]:
        server.script(A, replies.stale_keepalive(), replies.close_before_reply(), replies.completion())
        found: list[Any] = []
        with FACADES["sync"](default_model=A, fallback_models=[B], **options) as caller:
            for _ in range(4):
                found += [verdicts(caller.complete()), [(each.model, each.index) for each in server.requests]]
        return found

    with FaultServer() as server:
        over_sockets = traces(server, base_url=server.url)
    transport = ScriptedTransport()
    assert traces(transport, base_url=BASE_URL, transport=transport) == over_sockets


def test_open_streams_are_counted(caller: Caller, scripted_transport: ScriptedTransport) -> None:
    reader = caller.stream()
    assert scripted_transport.open_streams == 1
    reader.close()
    assert scripted_transport.open_streams == 0
    reader = caller.stream()
    while reader.next():
        pass
    assert scripted_transport.open_streams == 0
    last = scripted_transport.requests[-1]
    assert (last.connection, last.index) == (1, 0)  # the first one's connection was given up with it
    caller.complete()
    assert scripted_transport.requests[-1].index == 1


def test_a_forgotten_stream_is_closed(
    scripted_transport: ScriptedTransport, routerkit_client: Callable[..., Client]
) -> None:
    streams = [routerkit_client(default_model=A).stream("Hello")]
    assert scripted_transport.open_streams == 1
    with pytest.warns(ResourceWarning, match="neither closed nor read"):
        streams.clear()
    assert scripted_transport.open_streams == 0


# Replies


def test_what_a_reply_raises_comes_out_and_holds_nothing(caller: Caller, scripted_transport: ScriptedTransport) -> None:
    def broken(connection: Connection, request: RecordedRequest) -> None:
        raise ZeroDivisionError(request.model)

    scripted_transport.script(A, broken, replies.completion("well again"))
    with pytest.raises(ZeroDivisionError, match=A):
        caller.complete()
    assert caller.complete().text == "well again"
    assert caller.client.health().cooldowns == {}


def test_an_endless_reply_ends(caller: Caller, scripted_transport: ScriptedTransport) -> None:
    spaces = b" " * 1_000_000

    def endless(connection: Connection, _: RecordedRequest) -> None:
        connection.send(connection.head(200, {"Content-Type": "application/json", "Connection": "close"}))
        for number in itertools.count():
            assert number * len(spaces) <= SIZE
            connection.send(spaces)

    scripted_transport.script(A, endless)
    assert caller.ask(Ask([], "", model=A, fallback_models=[B])).attempts == (f"{A} 200 response_too_large",)


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_a_gate_holds_a_call_until_it_is_released(kind: str, scripted_transport: ScriptedTransport) -> None:
    gate = replies.gate(replies.completion("at last"))
    scripted_transport.script(A, gate)
    answers: list[str] = []

    def ask() -> None:
        if kind == "Client":
            with Client(api_key=KEY, transport=scripted_transport, runtime=VirtualRuntime()) as client:
                answers.append(client.complete("Hello", model=A).text)
            return

        async def ask() -> None:
            client = AsyncClient(api_key=KEY, transport=scripted_transport, runtime=VirtualRuntime())
            answers.append((await client.complete("Hello", model=A)).text)

        asyncio.run(ask())

    thread = threading.Thread(target=ask)
    thread.start()
    assert gate.arrived.wait(10)
    assert answers == []
    gate.release()
    thread.join(10)
    assert answers == ["at last"]


def test_a_gate_that_nobody_opens_is_a_timeout(caller: Caller, scripted_transport: ScriptedTransport) -> None:
    scripted_transport.script(A, replies.gate(), replies.completion())
    answer = caller.complete(timeout=routerkit.Timeouts(first_byte=0.02))  # real seconds
    assert verdicts(answer) == [(A, "first_byte_timeout"), (B, "ok")]


def test_a_cancelled_task_leaves_nothing_behind(scripted_transport: ScriptedTransport) -> None:
    endless = replies.stream(replies.role(), "one", replies.pause(Signal()), "two")
    scripted_transport.script(A, endless, replies.completion("free"))

    async def main() -> str:
        client = AsyncClient(api_key=KEY, transport=scripted_transport, runtime=VirtualRuntime(), default_model=A)
        stream = await client.stream("Hello")
        assert (await anext(stream)).text + (await anext(stream)).text == "one"
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)
        assert scripted_transport.open_streams == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert scripted_transport.open_streams == 0
        return (await client.complete("Hello")).text

    assert asyncio.run(main()) == "free"


def test_threads_share_a_transport(
    routerkit_client: Callable[..., Client], scripted_transport: ScriptedTransport
) -> None:
    client = routerkit_client(default_model=A, fallback_models=[B])
    with ThreadPoolExecutor(20) as pool:
        texts = list(pool.map(lambda number: client.complete(str(number)).text, range(200)))
    assert texts == [f"Hello from {A}"] * 200
    asked = scripted_transport.requests
    assert sorted(int(each.json["messages"][0]["content"]) for each in asked) == list(range(200))
    assert len({(each.connection, each.index) for each in asked}) == 200


def test_a_reply_that_closes_has_nobody_left_to_reply_to(caller: Caller, scripted_transport: ScriptedTransport) -> None:
    after: list[str] = []

    def closing(connection: Connection, request: RecordedRequest) -> None:
        replies.completion("all there is")(connection, request)
        connection.close()
        for act in (lambda: connection.send(b"more"), lambda: connection.wait(1), connection.wait):
            with pytest.raises(Gone):
                act()
        connection.reset()
        after.append("done")

    scripted_transport.script(A, closing)
    assert [caller.complete().text for _ in range(2)] == ["all there is"] * 2
    assert after == ["done"] * 2
    assert [each.index for each in scripted_transport.requests] == [0, 0]


# The keyword


def test_a_transport_and_dev_mode_exclude_each_other(scripted_transport: ScriptedTransport) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigurationError, match="transport= and dev_mode=True exclude each other"):
            kind(dev_mode=True, transport=scripted_transport)


def test_a_transport_wins_over_dev_mode_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, scripted_transport: ScriptedTransport
) -> None:
    monkeypatch.setenv("DEV_MODE", "true")
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    with Client.from_env(transport=scripted_transport) as client:
        answer = client.complete("Hello", model=A)
    assert (answer.text, answer.mock) == (f"Hello from {A}", False)


def test_with_options_keeps_the_transport(
    routerkit_client: Callable[..., Client], scripted_transport: ScriptedTransport
) -> None:
    client = routerkit_client(default_model=A)
    assert client.with_options(default_model=C).complete("Hello").text == f"Hello from {C}"
    assert scripted_transport.models_asked == [C]


def test_a_forked_child_does_not_wait_for_the_parents_lock(
    routerkit_client: Callable[..., Client], scripted_transport: ScriptedTransport
) -> None:
    client = routerkit_client(default_model=A)
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with scripted_transport._changed:
            held.set()
            free.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    client._forked()  # what the hook of os.fork calls in the child
    assert client.complete("Hello").model == A
    assert not free.is_set()
    free.set()
    thread.join(10)


# The package


def test_every_name_is_in_the_api_reference() -> None:
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text("utf-8")
    documented = set(re.findall(r"^\.\. auto\w+:: routerkit\.testing\.(\w+)", page, re.MULTILINE))
    assert documented == set(routerkit.testing._HOMES)
    members = next(line for line in page.splitlines() if line.startswith("   :members: completion"))
    makers = {name for name in replies.__all__ if name.islower()} - {"merged"}
    assert set(members.removeprefix("   :members: ").split(", ")) == makers


# Fixtures


def test_the_fixtures_make_clients_of_both_kinds(
    routerkit_client: Callable[..., Client],
    routerkit_async_client: Callable[..., AsyncClient],
    scripted_transport: ScriptedTransport,
    fault_server: FaultServer,
) -> None:
    assert routerkit_client(default_model=A).complete("Hello").model == A
    assert asyncio.run(routerkit_async_client(default_model=B).complete("Hello")).model == B
    assert scripted_transport.models_asked == [A, B]
    over_a_socket = routerkit_client(transport=None, base_url=fault_server.url, default_model=C)
    assert over_a_socket.complete("Hello").model == C
    assert fault_server.models_asked == [C]


def test_a_users_conftest_switches_the_fixtures_on(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["routerkit.testing.fixtures"]\n')
    (tmp_path / "test_mine.py").write_text(
        "from routerkit.testing import replies\n"
        "def test_mine(routerkit_client, scripted_transport, virtual_runtime):\n"
        "    scripted_transport.script('a/one', replies.error(503))\n"
        "    client = routerkit_client(default_model='a/one', fallback_models=['b/two'])\n"
        "    assert client.complete('Hello').model == 'b/two'\n"
        "def test_theirs(fault_server, routerkit_async_client):\n"
        "    assert fault_server.url.startswith('http://127.0.0.1:')\n"
        "    assert routerkit_async_client().settings.gateway.name == 'openrouter'\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(routerkit.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
