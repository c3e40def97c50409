"""Tests of the fault server itself, judged by clients that have nothing to do with routerkit.

`exchange` looks at the bare bytes, `call` and `stream_events` go through `http.client`; `requests` and
`aiohttp` show that the clients routerkit builds on see the same.
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import aiohttp
import pytest
import requests
import trustme

import routerkit.testing.server
from routerkit.testing import Connection, FaultServer, RecordedRequest, Reply, Signal, closed_port, replies, silent_port
from routerkit.testing.replies import Part

CHAT = "/v1/chat/completions"
MODEL = "a/model"
PROMPT = 0.5  # seconds; generous, most of what is measured against it takes one or two milliseconds


@pytest.fixture(autouse=True)
def _no_thread_survives() -> Iterator[None]:
    yield
    assert [each.name for each in threading.enumerate() if each.name.startswith("fault-server")] == []


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@contextmanager
def at_once() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < PROMPT


def request_bytes(model: str = MODEL, **body: Any) -> bytes:
    data = json.dumps({"model": model, "messages": [], **body}).encode()
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (CHAT.encode(), len(data), data)


def connect(server: FaultServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=2)


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        piece = sock.recv(1)
        assert piece, f"ended with {data!r}"
        data += piece
    return data


def exchange(server: FaultServer, data: bytes | None = None) -> bytes:
    """All that the server sends before it closes the connection."""
    with connect(server) as sock:
        sock.sendall(request_bytes() if data is None else data)
        return read_to_end(sock)


@contextmanager
def client(server: FaultServer, timeout: float = 2.0) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)) as connection:
        yield connection


def ask(connection: http.client.HTTPConnection, model: str = MODEL, **body: Any) -> http.client.HTTPResponse:
    data = json.dumps({"model": model, **body})
    connection.request("POST", CHAT, data, {"Content-Type": "application/json"})
    return connection.getresponse()


def call(server: FaultServer, model: str = MODEL, **body: Any) -> tuple[http.client.HTTPResponse, bytes]:
    with client(server) as connection, ask(connection, model, **body) as response:
        return response, response.read()


def text_of(server: FaultServer, model: str = MODEL) -> str:
    return str(json.loads(call(server, model)[1])["choices"][0]["message"]["content"])


def events(body: bytes) -> list[Any]:
    data = [block[6:] for block in body.decode().split("\n\n") if block.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def contents(chunks: list[Any]) -> list[str]:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk != "[DONE]" and chunk["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]


# What is recorded


def test_a_request_is_recorded_as_it_came(server: FaultServer) -> None:
    with client(server) as connection:
        connection.request("POST", f"{CHAT}?a=b", b'{"model": "m"}', {"X-One": "1", "authorization": "Bearer k"})
        connection.getresponse().read()
    (request,) = server.requests
    assert (request.method, request.path, request.route) == ("POST", f"{CHAT}?a=b", CHAT)
    assert (request.body, request.json, request.model) == (b'{"model": "m"}', {"model": "m"}, "m")
    assert ("X-One", "1") in request.headers
    assert (request.header("x-one"), request.header("x-two"), request.api_key) == ("1", None, "k")
    assert (request.connection, request.index) == (0, 0)


def test_a_chunked_body_is_put_together(server: FaultServer) -> None:
    with client(server) as connection:
        connection.request("POST", CHAT, iter([b'{"model":', b' "m"}']), encode_chunked=True)
        connection.getresponse().read()
    assert server.requests[0].header("Transfer-Encoding") == "chunked"
    assert server.models_asked == ["m"]


def test_a_body_that_is_not_json_has_no_model(server: FaultServer) -> None:
    with client(server) as connection:
        connection.request("POST", CHAT, b"\xff{")
        assert connection.getresponse().status == 200
    assert server.models_asked == [""]
    with pytest.raises(ValueError, match=r"utf-8|JSON"):
        server.requests[0].json  # noqa: B018 - parsed when asked for


def test_reuse_of_a_connection_is_recorded(server: FaultServer) -> None:
    with requests.Session() as session:
        for _ in range(2):
            session.post(f"{server.url}/chat/completions", json={"model": MODEL}, timeout=2)
        assert (server.connections_opened, server.open_connections) == (1, 1)
    server.wait_closed()
    requests.get(f"{server.url}/models", timeout=2)
    assert [(each.connection, each.index) for each in server.requests] == [(0, 0), (0, 1), (1, 0)]
    assert (len(server.chat_requests), server.catalog_requests, server.connections_opened) == (2, 1, 2)
    server.wait_closed()


def test_connection_close_is_honoured(server: FaultServer) -> None:
    answer = exchange(server, b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"Connection: close\r\n" in answer
    assert b"alpha/one" in answer


def test_waiting_in_vain_says_what_was_seen(server: FaultServer) -> None:
    with connect(server) as sock:
        server.wait_for(lambda: server.open_connections == 1)
        sock.sendall(b"GET /v1/models HTTP/1.1\r\n\r\n")
        server.wait_for(lambda: server.catalog_requests == 1)
        with pytest.raises(AssertionError, match=r"1 open, requests \['GET /v1/models'\]"):
            server.wait_closed(0.01)


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
def test_what_is_not_http_is_refused(server: FaultServer, data: bytes) -> None:
    assert exchange(server, data).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert len(server.malformed) == 1
    assert server.requests == []


def test_many_clients_at_once(server: FaultServer) -> None:
    held = server.default = replies.gate()
    threads = [threading.Thread(target=call, args=(server, f"m/{n}")) for n in range(20)]
    for thread in threads:
        thread.start()
    server.wait_for(lambda: len(server.requests) == 20)
    assert server.open_connections == 20
    held.release()
    for thread in threads:
        thread.join(2)
    server.wait_closed()
    assert sorted(server.models_asked) == sorted(f"m/{n}" for n in range(20))


# What is answered


def test_a_script_goes_by_model_and_repeats_its_last_reply(server: FaultServer) -> None:
    server.script(MODEL, replies.error(500), replies.completion("B"), replies.completion("C"))
    assert call(server)[0].status == 500
    assert text_of(server, "other/model") == "Hello from other/model"
    assert [text_of(server) for _ in range(3)] == ["B", "C", "C"]


def test_a_script_for_once_falls_back_to_the_default(server: FaultServer) -> None:
    server.default = replies.completion("D")
    server.script(MODEL, replies.completion("A"), replies.completion("B"), once=True)
    assert [text_of(server) for _ in range(4)] == ["A", "B", "D", "D"]


def test_replies_can_be_combined(server: FaultServer) -> None:
    server.default = replies.sequence(replies.completion("A"), replies.completion("B"))
    assert [text_of(server, model) for model in ("x", "y", "x")] == ["A", "B", "B"]
    server.default = replies.choose(lambda request: replies.error(int(request.model)))
    assert call(server, "418")[0].status == 418


def test_an_empty_script_is_refused(server: FaultServer) -> None:
    with pytest.raises(ValueError, match="at least one"):
        server.script(MODEL)


def test_the_catalogue(server: FaultServer) -> None:
    def ids() -> list[str]:
        return [model["id"] for model in requests.get(f"{server.url}/models", timeout=2).json()["data"]]

    assert ids() == ["alpha/one", "beta/two", "gamma/three:free"]
    server.catalog = [replies.catalog_model("my/own", context_length=1)]
    assert ids() == ["my/own"]
    server.catalog = replies.error(503)
    assert requests.get(f"{server.url}/models", timeout=2).status_code == 503
    assert server.catalog_requests == 3


def test_routes_and_what_is_not_found(server: FaultServer) -> None:
    server.route("GET", "/key", replies.json_body({"data": {}}))
    assert requests.get(f"{server.url}/key?x=1", timeout=2).json() == {"data": {}}
    assert requests.post(f"{server.url}/key", timeout=2).status_code == 404


def test_a_completion(server: FaultServer) -> None:
    server.default = replies.completion(provider="P", message={"tool_calls": []}, headers={"X-Extra": "1"})
    response, body = call(server)
    answer = json.loads(body)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert answer["id"].startswith("gen-")
    assert response.headers["X-Generation-Id"] == answer["id"]
    assert response.headers["X-Extra"] == "1"
    assert (answer["object"], answer["model"], answer["provider"]) == ("chat.completion", MODEL, "P")
    assert answer["usage"] == replies.USAGE
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": f"Hello from {MODEL}", "tool_calls": []}
    assert choice["finish_reason"] == "stop"


def test_a_completion_with_things_left_out(server: FaultServer) -> None:
    server.default = replies.completion(without=["usage", "provider"], id="gen-mine", choices=[])
    response, body = call(server)
    assert set(json.loads(body)) == {"id", "object", "created", "model", "choices"}
    assert response.headers["X-Generation-Id"] == "gen-mine"


def test_a_completion_as_a_stream(server: FaultServer) -> None:
    server.default = replies.completion("One two ", finish_reason="length", message={"reasoning": "R"}, id="gen-7")
    response, body = call(server, stream=True)
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["X-Generation-Id"] == "gen-7"
    first, *rest, finish, usage, done = events(body)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert contents(rest) == ["One", " two", " "]
    assert rest[-1]["choices"][0]["delta"] == {"reasoning": "R"}
    assert finish["choices"][0]["finish_reason"] == "length"
    assert (usage["choices"], usage["usage"], done) == ([], replies.USAGE, "[DONE]")
    assert {(each["id"], each["object"], each["model"]) for each in [first, *rest, finish, usage]} == {
        ("gen-7", "chat.completion.chunk", MODEL)
    }


def test_a_stream_without_usage(server: FaultServer) -> None:
    server.default = replies.completion(without=["usage", "provider"])
    chunks = events(call(server, stream=True)[1])
    assert not any("usage" in chunk or "provider" in chunk for chunk in chunks)


@pytest.mark.parametrize(
    ("reply", "content_type", "body"),
    [
        (replies.error(429), "application/json", {"error": {"message": "Too Many Requests", "code": 429}}),
        (replies.error(529), "application/json", {"error": {"message": "Unknown", "code": 529}}),
        (
            replies.error(400, message="No", code="bad", metadata={"raw": "x"}),
            "application/json",
            {"error": {"message": "No", "code": "bad", "metadata": {"raw": "x"}}},
        ),
        (replies.error(500, {"detail": 1}), "application/json", {"detail": 1}),
        (replies.error(500, "oops"), "text/plain; charset=utf-8", b"oops"),
        (replies.error(500, b"\xff", headers={"content-type": "a/b"}), "a/b", b"\xff"),
    ],
)
def test_errors(server: FaultServer, reply: Reply, content_type: str, body: object) -> None:
    server.default = reply
    response, data = call(server)
    assert response.status in {400, 429, 500, 529}
    assert response.headers.get_all("Content-Type") == [content_type]
    assert (data if isinstance(body, bytes) else json.loads(data)) == body


def test_headers_of_an_error(server: FaultServer) -> None:
    server.default = replies.error(429, headers={"Retry-After": "7"})
    assert call(server)[0].headers["Retry-After"] == "7"


def test_other_whole_answers(server: FaultServer) -> None:
    server.default = replies.sequence(
        replies.redirect(307, "/v2"),
        replies.html(503, "<p>"),
        replies.empty(),
        replies.empty(204),
        replies.wrong_content_type(),
        replies.json_body([1], 201, {"X-A": "b"}),
    )
    with client(server) as connection:
        moved, page, empty, nothing, wrong, other = [(each := ask(connection), each.read()) for _ in range(6)]
    assert (moved[0].status, moved[0].headers["Location"], moved[1]) == (307, "/v2", b"")
    assert (page[0].status, page[0].headers.get_content_type(), page[1]) == (503, "text/html", b"<p>")
    assert (empty[0].status, empty[0].headers["Content-Length"], empty[1]) == (200, "0", b"")
    assert (nothing[0].status, nothing[0].headers["Content-Length"], nothing[1]) == (204, None, b"")
    assert wrong[0].headers.get_content_type() == "text/html"
    assert json.loads(wrong[1])["object"] == "chat.completion"
    assert (other[0].status, other[0].headers["X-A"], other[1]) == (201, "b", b"[1]")
    assert server.connections_opened == 1


def test_gzip(server: FaultServer) -> None:
    server.default = replies.sequence(replies.gzip_body({"a": 1}), replies.gzip_body({"a": 1}, corrupt=True))
    response, body = call(server)
    assert response.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(body)) == {"a": 1}
    with pytest.raises(requests.exceptions.ContentDecodingError):
        requests.post(f"{server.url}/chat/completions", json={}, timeout=2)


# What is broken


def test_raw_bytes(server: FaultServer) -> None:
    server.default = replies.raw(b"\x00\xff any\nthing")
    assert exchange(server) == b"\x00\xff any\nthing"


def test_raw_bytes_on_a_connection_that_stays(server: FaultServer) -> None:
    server.default = replies.sequence(replies.raw(b"one", keep=True), replies.raw(b"two"))
    assert exchange(server, request_bytes() * 2) == b"onetwo"


def test_close_and_reset_before_the_reply(server: FaultServer) -> None:
    server.default = replies.sequence(replies.close_before_reply(), replies.reset_before_reply())
    assert exchange(server) == b""
    with pytest.raises(ConnectionResetError):
        exchange(server)
    server.wait_closed()


def test_hang_until_the_client_leaves(server: FaultServer) -> None:
    server.default = replies.hang()
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(f"{server.url}/chat/completions", json={}, timeout=(2, 0.02))
    with at_once():
        server.wait_closed()


def test_dripping_headers(server: FaultServer) -> None:
    server.default = replies.drip_headers(0.001)
    with connect(server) as sock:
        sock.sendall(request_bytes())
        head = read_until(sock, b"X-Drip-2: drop\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nX-Drip-0: drop\r\nX-Drip-1: drop\r\nX-Drip-2: drop\r\n"
    server.wait_closed()


def test_a_dripping_body_without_end(server: FaultServer) -> None:
    server.default = replies.drip_body(0.001)
    with client(server) as connection, ask(connection) as response:
        assert response.read(3) == b"   "
    server.wait_closed()


def test_a_dripping_body_that_ends(server: FaultServer) -> None:
    server.default = replies.drip_body(0.001, b'{"a": 1}')
    started = time.monotonic()
    assert call(server)[1] == b'{"a": 1}'
    assert time.monotonic() - started >= 0.007


def test_a_truncated_body(server: FaultServer) -> None:
    server.default = replies.truncated_body(b"{", missing=5)
    with pytest.raises(http.client.IncompleteRead) as caught:
        call(server)
    assert (caught.value.partial, caught.value.expected) == (b"{", 5)


def test_bad_chunking(server: FaultServer) -> None:
    server.default = replies.bad_chunking(b"good")
    assert exchange(server).endswith(b"\r\n\r\n4\r\ngood\r\nzz\r\nnot a chunk\r\n")
    server.default = replies.bad_chunking(b"good", after=0.01)
    assert exchange(server).endswith(b"\r\n\r\n4\r\ngood\r\nzz\r\nnot a chunk\r\n")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.post(f"{server.url}/chat/completions", json={}, timeout=2)


def test_a_connection_that_is_stale_on_its_next_use(server: FaultServer) -> None:
    server.script(MODEL, replies.stale_keepalive(), replies.completion("again"))
    with client(server) as connection:
        assert ask(connection).read()
        assert server.open_connections == 1
        with pytest.raises(http.client.RemoteDisconnected):
            ask(connection)
    assert text_of(server) == "again"
    assert [(each.connection, each.index) for each in server.requests] == [(0, 0), (0, 1), (1, 0)]


def test_a_connection_that_is_stale_at_once(server: FaultServer) -> None:
    server.default = replies.stale_keepalive(replies.completion("x"), close="at once")
    with client(server) as connection:
        response = ask(connection)
        assert b'"x"' in response.read()
        assert response.headers["Connection"] is None
        server.wait_closed()
        with pytest.raises((http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)):
            ask(connection)


def test_a_gate(server: FaultServer) -> None:
    held = replies.gate(replies.completion("through"))
    server.script(MODEL, held)
    with connect(server) as sock:
        sock.sendall(request_bytes())
        assert held.arrived.wait(2)
        sock.settimeout(0.02)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        held.release()
        sock.settimeout(2)
        with at_once():
            read_until(sock, b"through")
    assert text_of(server) == "through"


# Streams


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
@pytest.mark.parametrize("split", [None, 1, 7])
def test_a_stream_in_every_framing(server: FaultServer, framing: Any, split: int | None) -> None:
    parts: list[Part | str | bytes] = [
        replies.role(),
        "Hel",
        "lo",
        replies.end("length"),
        replies.usage(cost=1),
        replies.done(),
    ]
    server.default = replies.stream(*parts, framing=framing, split=split)
    response, body = call(server)
    marks = {
        "chunked": ("Transfer-Encoding", "chunked"),
        "close": ("Connection", "close"),
        "length": ("Content-Length", str(len(body))),
    }
    for name, value in marks.values():
        assert (response.headers[name] == value) == ((name, value) == marks[framing])
    chunks = events(body)
    assert contents(chunks) == ["Hel", "lo"]
    assert chunks[-3]["choices"][0]["finish_reason"] == "length"
    assert chunks[-2]["usage"] == replies.USAGE | {"cost": 1}
    assert chunks[-1] == "[DONE]"


def test_each_part_is_a_chunk(server: FaultServer) -> None:
    parts: list[Part | str | bytes] = [
        replies.comment("hi"),
        replies.event(b"{no"),
        replies.event({"a": 1}, name="e"),
        b"\xff\r\n",
    ]
    server.default = replies.stream(*parts, replies.event("text"), headers={"content-type": "x/y"}, status=202)
    head, _, body = exchange(server, request_bytes().replace(b"\r\n", b"\r\nConnection: close\r\n", 1)).partition(
        b"\r\n\r\n"
    )
    pieces = [b": hi\n\n", b"data: {no\n\n", b'event: e\ndata: {"a": 1}\n\n', b"\xff\r\n", b"data: text\n\n"]
    assert body == b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in [*pieces, b""])
    assert head.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert head.lower().count(b"content-type") == 1


def test_writes_are_split_and_spread(server: FaultServer) -> None:
    server.default = replies.stream(b"abcdef", framing="length", split=2, every=0.02)
    with connect(server) as sock:
        sock.sendall(request_bytes())
        read_until(sock, b"\r\n\r\n")
        assert [sock.recv(100) for _ in range(3)] == [b"ab", b"cd", b"ef"]


def test_a_stream_leaves_the_connection_usable(server: FaultServer) -> None:
    server.default = replies.stream("a", replies.done())
    with client(server) as connection:
        for _ in range(2):
            assert contents(events(ask(connection).read())) == ["a"]
    assert server.connections_opened == 1


def test_deltas_and_errors_in_a_stream(server: FaultServer) -> None:
    problem = {"message": "gone", "code": "server_error", "metadata": {"p": 1}}
    failure = replies.error_event("server_error", "gone", {"p": 1})
    server.default = replies.stream(replies.delta(reasoning="r"), replies.delta("c", x=1), failure)
    first, second, last = events(call(server)[1])
    assert first["choices"][0]["delta"] == {"reasoning": "r"}
    assert second["choices"][0]["delta"] == {"x": 1, "content": "c"}
    assert last["error"] == problem
    assert last["choices"][0]["finish_reason"] == "error"


def test_a_pause_waits_for_its_signal(server: FaultServer) -> None:
    go = Signal()
    server.default = replies.stream("a", replies.pause(go), replies.pause(0.01), "b")
    with client(server) as connection, ask(connection) as response:
        assert contents(events(response.read1())) == ["a"]
        connection.sock.settimeout(0.02)
        with pytest.raises(TimeoutError):
            response.read1()
        go.set()
        go.set()
    with client(server) as connection, ask(connection) as response, at_once():
        assert contents(events(response.read())) == ["a", "b"]


def test_a_pause_takes_no_other_event() -> None:
    with pytest.raises(TypeError, match="Signal"):
        replies.pause(threading.Event())  # type: ignore[arg-type]


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_stream_cut_short(server: FaultServer, framing: Any) -> None:
    server.default = replies.stream("a", replies.cut(), "never", framing=framing)
    with pytest.raises(http.client.IncompleteRead) as caught:
        call(server)
    assert contents(events(caught.value.partial)) == ["a"]
    assert b"never" not in caught.value.partial


def test_a_stream_cut_short_looks_whole_if_the_close_ends_it(server: FaultServer) -> None:
    server.default = replies.stream("a", replies.cut(), framing="close")
    assert contents(events(call(server)[1])) == ["a"]


def test_a_stream_reset(server: FaultServer) -> None:
    server.default = replies.stream("a", replies.reset())
    with connect(server) as sock:
        sock.sendall(request_bytes())
        read_until(sock, b'"a"')
        with pytest.raises(ConnectionResetError):
            read_to_end(sock)


# Ends


@pytest.mark.parametrize(
    "reply",
    [
        replies.hang(),
        replies.drip_headers(60),
        replies.drip_body(60),
        replies.drip_body(0.0),
        replies.stream("a", replies.pause(60)),
        replies.stream("a", replies.pause(Signal())),
        replies.gate(),
        replies.raw(bytes(50_000_000)),  # more than the buffers hold, and the client reads none of it
        replies.completion(),
    ],
)
@pytest.mark.parametrize("leaving", ["server", "client"])
def test_all_waiting_ends_at_once(reply: Reply, leaving: str) -> None:
    with FaultServer() as server, connect(server) as sock:
        server.default = reply
        sock.sendall(request_bytes())
        server.wait_for(lambda: len(server.requests) == 1)
        time.sleep(0.005)  # for the reply to get to where it waits
        with at_once():
            if leaving == "server":
                server.stop()
            else:
                sock.close()
                server.wait_closed()
    assert server.open_connections == 0


def test_a_pipelined_request_does_not_disturb_a_wait(server: FaultServer) -> None:
    server.default = replies.sequence(replies.stream(replies.pause(0.03)), replies.raw(b"second"))
    assert exchange(server, request_bytes() * 2).endswith(b"0\r\n\r\nsecond")


def test_a_stopped_server_refuses_and_can_come_back() -> None:
    with FaultServer() as server:
        port, kept = server.port, connect(server)
        with kept:
            assert text_of(server) == f"Hello from {MODEL}"
            server.stop()
            assert kept.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        server.start()
        assert (server.port, text_of(server)) == (port, f"Hello from {MODEL}")
        with pytest.raises(RuntimeError, match="running already"):
            server.start()
    server.stop()
    assert len(server.requests) == 2


def failing(_: Connection, __: RecordedRequest) -> None:
    pytest.fail("said by the reply")


def run_with(reply: Reply, error: Exception | None = None) -> None:
    """Have the reply answer one request, then leave the server with the error or without one."""
    with FaultServer() as server:
        server.default = reply
        with connect(server) as sock:
            sock.sendall(request_bytes())
            server.wait_for(lambda: bool(server.requests))
            if reply is failing:
                assert read_to_end(sock) == b""
        if error:
            raise error


def test_what_a_reply_raises_is_raised_at_the_exit() -> None:
    with pytest.raises(pytest.fail.Exception, match="said by the reply"):
        run_with(failing)


def test_what_a_reply_raises_does_not_hide_what_the_test_raises() -> None:
    with pytest.raises(KeyError):
        run_with(failing, KeyError())


def test_a_reply_that_blocks_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routerkit.testing.server, "PATIENCE", 0.05)
    go_on = threading.Event()
    with pytest.raises(RuntimeError, match="does a reply sleep"):
        run_with(lambda *_: go_on.wait(5))
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("fault-server"):
            thread.join(1)


# Connecting, and TLS


def test_connecting_to_a_closed_port() -> None:
    for port in (closed_port(), closed_port()):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=2)


def test_connecting_to_a_silent_port() -> None:
    with silent_port() as port, pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", port), timeout=0.05)


def test_what_is_done_on_connect(server: FaultServer) -> None:
    server.on_connect = lambda connection: connection.close()
    assert exchange(server, b"") == b""
    server.on_connect = lambda connection: connection.wait()
    with connect(server) as sock:
        sock.settimeout(0.02)
        sock.sendall(request_bytes())
        with pytest.raises(TimeoutError):
            sock.recv(1)
    server.wait_closed()
    assert server.requests == []


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[FaultServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(tls=context) as running:
        yield running


@contextmanager
def secure_client(server: FaultServer, authority: trustme.CA) -> Iterator[http.client.HTTPSConnection]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=2, context=context)
    with closing(connection):
        yield connection


def test_answers_over_tls(secure: FaultServer, authority: trustme.CA) -> None:
    big = "x" * 3_000_000
    secure.default = replies.sequence(replies.completion(), replies.json_body(big), replies.stream("a"))
    assert secure.url.startswith("https://127.0.0.1:")
    with secure_client(secure, authority) as connection:
        assert b"Hello from" in ask(connection).read()
        assert json.loads(ask(connection, padding=big).read()) == big
        assert contents(events(ask(connection, stream=True).read())) == ["a"]
    assert [request.index for request in secure.requests] == [0, 1, 2]
    assert secure.requests[1].json["padding"] == big
    secure.wait_closed()


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (replies.close_before_reply(), http.client.RemoteDisconnected),
        (replies.stream("a", replies.cut()), http.client.IncompleteRead),
        (replies.hang(), TimeoutError),
    ],
)
def test_faults_over_tls(secure: FaultServer, authority: trustme.CA, reply: Reply, failure: type[Exception]) -> None:
    secure.default = reply
    with secure_client(secure, authority) as connection:
        connection.connect()
        connection.sock.settimeout(0.05)
        with pytest.raises(failure):
            ask(connection).read()
    with at_once():
        secure.wait_closed()


@pytest.mark.parametrize("reply", [replies.reset_before_reply(), replies.stream("a", replies.reset())])
def test_resets_over_tls(secure: FaultServer, authority: trustme.CA, reply: Reply) -> None:
    secure.default = reply
    with secure_client(secure, authority) as connection:
        connection.connect()
        connection.sock.sendall(request_bytes())
        # The ssl module of some Python versions takes a reset for an end of file, so look beneath it.
        with socket.socket(fileno=connection.sock.detach()) as bare:
            bare.settimeout(2)
            with pytest.raises(ConnectionResetError):
                read_to_end(bare)


def test_a_client_that_does_not_trust_the_server(secure: FaultServer) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{secure.url}/models", timeout=2)
    secure.wait_closed()
    assert (secure.connections_opened, secure.requests, secure.malformed) == (1, [], [])


def test_a_client_without_tls(secure: FaultServer) -> None:
    with suppress(ConnectionResetError):
        assert b"HTTP/1.1" not in exchange(secure)
    assert secure.requests == []


# Through aiohttp


def on_aiohttp(server: FaultServer, work: Callable[[aiohttp.ClientSession, str], Any]) -> Any:
    async def main() -> Any:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            return await work(session, f"{server.url}/chat/completions")

    return asyncio.run(main())


def test_aiohttp_reads_streams_on_one_connection(server: FaultServer) -> None:
    async def work(session: aiohttp.ClientSession, url: str) -> list[bytes]:
        bodies = []
        for _ in range(2):
            async with session.post(url, json={"model": MODEL, "stream": True}) as response:
                bodies.append(await response.read())
        return bodies

    assert ["".join(contents(events(body))) for body in on_aiohttp(server, work)] == [f"Hello from {MODEL}"] * 2
    assert [request.index for request in server.requests] == [0, 1]
    server.wait_closed()


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (replies.close_before_reply(), aiohttp.ServerDisconnectedError),
        (replies.reset_before_reply(), aiohttp.ClientOSError),
        (replies.truncated_body(), aiohttp.ClientPayloadError),
        (replies.stream("a", replies.cut()), aiohttp.ClientPayloadError),
        (replies.bad_chunking(), aiohttp.ClientResponseError),
        (replies.raw(b"\x00\x01"), aiohttp.ClientResponseError),
    ],
)
def test_aiohttp_sees_the_faults(server: FaultServer, reply: Reply, failure: type[Exception]) -> None:
    async def work(session: aiohttp.ClientSession, url: str) -> None:
        async with session.post(url, json={}) as response:
            await response.read()

    server.default = reply
    with pytest.raises(failure):
        on_aiohttp(server, work)
    server.wait_closed()
