"""A loopback HTTP server that misbehaves on purpose, for tests over real sockets.

`FaultServer` speaks HTTP/1.1 over raw sockets, so that it can send any bytes at all, break off anywhere, or
say nothing. It records every request and answers it with a *reply*: any callable taking the `Connection` and
the `RecordedRequest`. The ready-made ones live in `tests.support.replies`::

    from tests.support import replies
    from tests.support.fault_server import FaultServer

    with FaultServer() as server:
        server.script("a/model", replies.error(503), replies.completion("Fine now"))
        client = make_client(base_url=server.url)
        assert client.ask("a/model") == "Fine now"
        assert server.models_asked == ["a/model", "a/model"]

What answers a request, first match first: a reply given to `route`; for `POST .../chat/completions` the next
reply scripted for the model asked, else `default`; for `GET .../models` the `catalog`; else a 404.

A reply of your own sends with `Connection.send` or `Connection.respond` and waits with `Connection.wait`,
never with `time.sleep`: these raise `Gone` as soon as the client disconnects or the server stops, and letting
`Gone` through is the right thing to do. Leaving the `with` block closes every socket and joins every thread;
if a reply raised something else, that is raised there.

`closed_port` and `silent_port` give ports for the failures that need no server at all.
"""

from __future__ import annotations

import atexit
import json
import math
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from http.client import responses
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tests.support import replies
from tests.support.replies import Reply, Signal

if TYPE_CHECKING:
    from typing_extensions import Self

HOST = "127.0.0.1"
PATIENCE = 5.0  # seconds that anything which should happen at once is given before a test fails
_READ_SIZE = 65536
_NOT_READY = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Gone(Exception):
    """The client has disconnected or the server is stopping: there is nobody left to reply to."""


class Malformed(Exception):
    """What the client sent is not an HTTP/1.1 request."""


@dataclass(frozen=True)
class RecordedRequest:
    """One request as it arrived."""

    method: str
    path: str  # with the query, if there was one
    headers: list[tuple[str, str]]
    body: bytes
    connection: int  # number of the connection it came on, counted from 0
    index: int  # its place on that connection, counted from 0: above 0 means that the connection was reused

    def header(self, name: str) -> str | None:
        """Value of the first header of that name in any case, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @cached_property
    def json(self) -> Any:
        """The body parsed as JSON; raises ValueError if it is not JSON."""
        return json.loads(self.body)

    @property
    def route(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    @property
    def model(self) -> str:
        """The `model` of the JSON body, or "" if there is none."""
        with suppress(ValueError):
            if isinstance(self.json, dict):
                return str(self.json.get("model", ""))
        return ""

    @property
    def api_key(self) -> str | None:
        """The bearer token of the Authorization header, or None."""
        scheme, _, token = (self.header("Authorization") or "").partition(" ")
        return token if scheme.lower() == "bearer" else None

    @property
    def is_chat(self) -> bool:
        return self.method == "POST" and self.route.endswith("/chat/completions")

    @property
    def is_catalog(self) -> bool:
        return self.method == "GET" and self.route.endswith("/models")


class Connection:
    """The server's end of one client connection; for the connection's own thread only, save for `wake`."""

    def __init__(
        self,
        sock: socket.socket,
        number: int,
        stopping: threading.Event,
        on_close: Callable[[Connection], None],
    ) -> None:
        self.id = number
        self.keep_alive = True  # set it to False to have the connection closed after the reply
        self.doomed = False  # set it to True to have it closed when the next request is in, with no reply
        self.closed = False
        self._sock = sock
        self._stopping = stopping
        self._on_close = on_close
        self._input = bytearray()
        self._requests_read = 0
        self._waker_lock = threading.Lock()
        self._wake_out, self._wake_in = socket.socketpair()
        for each in (sock, self._wake_out, self._wake_in):
            each.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # What replies use

    def send(self, data: bytes) -> None:
        """Send exactly these bytes."""
        view = memoryview(data)
        while view:
            view = view[self._attempt(partial(self._sock.send, view), select.POLLOUT) :]

    def respond(self, status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send a whole well-formed response; `headers` replace the ones set here."""
        length = {} if status in (204, 304) else {"Content-Length": str(len(body))}
        self.send(self.head(status, replies.merged(length, headers)) + body)

    def head(self, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
        """A status line and headers with the blank line, saying if the connection is going to be closed."""
        first = f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"
        fields = replies.merged({} if self.keep_alive else {"Connection": "close"}, headers)
        return "\r\n".join([first, *(f"{k}: {v}" for k, v in fields.items()), "", ""]).encode("latin-1")

    def wait(self, until: float | Signal | None = None) -> None:
        """Wait some seconds, for a signal, or (with None) until `Gone` is raised."""
        if isinstance(until, Signal):
            with until.waking(self.wake):
                while not until.is_set():
                    self._watch(None)
            return
        deadline = math.inf if until is None else time.monotonic() + until
        while (left := deadline - time.monotonic()) > 0:
            self._watch(None if until is None else left)

    def close(self) -> None:
        """Close in the orderly way: the client reads all that was sent, then the end of file."""
        if self.closed:
            return
        with suppress(Gone):
            self._fill()  # closing with unread input would send a reset and so destroy what was sent
        with suppress(OSError, ValueError):
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.unwrap()
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self._release()

    def reset(self) -> None:
        """Break the connection off with a TCP reset."""
        if self.closed:
            return
        with suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._release()

    # What the server uses

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Become the server side of a TLS connection."""
        try:
            secure = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            raise Gone from error
        self._sock = secure
        self._attempt(secure.do_handshake, select.POLLIN)

    def wake(self) -> None:
        """Make the connection's thread look again at what it waits for (any thread may call this)."""
        with self._waker_lock, suppress(OSError):
            self._wake_in.send(b"!")

    def read_request(self) -> RecordedRequest:
        """Wait for the next request and read all of it."""
        if not self._input:
            self._read_more()
        if not self._input[:1].isalpha():  # a TLS handshake, say, which may never get to a blank line
            raise Malformed(f"not HTTP: {bytes(self._input[:40])!r}")
        method, path, version, headers = _parse_head(self._read_until(b"\r\n\r\n"))
        fields = {name.lower(): value.lower() for name, value in headers}
        body = self._read_body(fields)
        closing = fields.get("connection") == "close" or version == "HTTP/1.0"
        self.keep_alive = self.keep_alive and not closing
        index, self._requests_read = self._requests_read, self._requests_read + 1
        return RecordedRequest(method, path, headers, body, self.id, index)

    # How it is done

    def _read_body(self, fields: Mapping[str, str]) -> bytes:
        if fields.get("transfer-encoding", "") == "chunked":
            return self._read_chunks()
        return self._read_exactly(_number(fields.get("content-length", "0"), 10))

    def _read_chunks(self) -> bytes:
        body = b""
        while size := _number(self._read_until(b"\r\n").split(b";")[0].decode("latin-1"), 16):
            body += self._read_exactly(size)
            self._read_until(b"\r\n")
        while self._read_until(b"\r\n") != b"\r\n":
            pass  # trailers
        return body

    def _read_until(self, mark: bytes) -> bytes:
        while (at := self._input.find(mark)) < 0:
            self._read_more()
        return self._read_exactly(at + len(mark))

    def _read_exactly(self, size: int) -> bytes:
        while len(self._input) < size:
            self._read_more()
        data = bytes(self._input[:size])
        del self._input[:size]
        return data

    def _read_more(self) -> None:
        self._take_in(self._attempt(partial(self._sock.recv, _READ_SIZE), select.POLLIN))

    def _fill(self) -> None:
        """Take in whatever has arrived, without waiting."""
        try:
            self._take_in(self._sock.recv(_READ_SIZE))
        except _NOT_READY:
            pass
        except OSError as error:
            raise Gone from error

    def _take_in(self, data: bytes) -> None:
        if not data:
            raise Gone
        self._input += data

    def _attempt(self, operation: Callable[[], Any], events: int) -> Any:
        """Repeat a socket operation until it need not wait any more for these events."""
        while True:
            if self.closed or self._stopping.is_set():
                raise Gone
            try:
                return operation()
            except ssl.SSLWantReadError:
                self._poll(select.POLLIN, None)
            except ssl.SSLWantWriteError:
                self._poll(select.POLLOUT, None)
            except BlockingIOError:
                self._poll(events, None)
            except OSError as error:
                raise Gone from error

    def _watch(self, seconds: float | None) -> None:
        """Wait until something happens; raise `Gone` if it is the end of the connection or of the server."""
        if self.closed or self._stopping.is_set():
            raise Gone
        self._fill()
        self._poll(select.POLLIN, seconds)
        self._fill()

    def _poll(self, events: int, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(self._sock, events)
        poll.register(self._wake_out, select.POLLIN)
        poll.poll(None if seconds is None else math.ceil(seconds * 1000))
        with suppress(BlockingIOError):
            self._wake_out.recv(_READ_SIZE)

    def _release(self) -> None:
        self.closed = True
        self._sock.close()
        with self._waker_lock:
            self._wake_in.close()
            self._wake_out.close()
        self._on_close(self)


def _parse_head(head: bytes) -> tuple[str, str, str, list[tuple[str, str]]]:
    """Method, path, version and headers of a request."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Malformed(f"not a request line: {first!r}")
    pairs = [line.partition(":") for line in lines]
    if not all(colon for _, colon, _ in pairs):
        raise Malformed(f"a header without a colon in {lines!r}")
    return words[0], words[1], words[2], [(name.strip(), value.strip()) for name, _, value in pairs]


def _number(text: str, base: int) -> int:
    with suppress(ValueError):
        if (number := int(text, base)) >= 0:
            return number
    raise Malformed(f"not a length: {text!r}")


class FaultServer:
    """See the module docstring. The counts may be read from any thread at any time, also after the stop."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, prefix: str = "/v1") -> None:
        self.prefix = prefix
        self.port = 0  # the real one from the start on; starting again after a stop takes the same one
        self.default: Reply = replies.completion()
        self.catalog: Reply | Sequence[Mapping[str, Any]] = replies.CATALOG
        self.on_connect: Callable[[Connection], None] | None = None  # called before TLS and any request
        self.malformed: list[str] = []  # what was wrong with requests answered with a 400 for not being HTTP
        self.errors: list[BaseException] = []  # raised by replies; the first is raised again at the exit
        self._tls = tls
        self._changed = threading.Condition()
        self._requests: list[RecordedRequest] = []
        self._open: list[Connection] = []
        self._opened = 0
        self._scripts: dict[str, replies.Script] = {}
        self._routes: dict[tuple[str, str], Reply] = {}
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._stopping.set()

    # Starting and stopping

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None and self.errors:
            raise self.errors[0]

    def start(self) -> None:
        """Listen, on the same port as before if the server has been stopped."""
        if not self._stopping.is_set():
            raise RuntimeError("the fault server is running already")
        listener = socket.socket()
        try:
            if self.port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, self.port))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # lets a later start have the port
            listener.listen(128)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        self._stopping = threading.Event()
        self._wake_out, self._wake_in = socket.socketpair()
        self._start_thread("accept", self._accept_all, listener, self._stopping)

    def stop(self) -> None:
        """Refuse new connections, close the open ones and join all threads. Does nothing if stopped."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        with self._wake_in, self._wake_out:
            self._wake_in.send(b"!")
            self._threads[0].join(PATIENCE)
        with self._changed:
            for connection in self._open:
                connection.wake()
        deadline = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        alive = [thread.name for thread in self._threads if thread.is_alive()]
        self._threads = []
        if alive:
            raise RuntimeError(f"threads of the fault server outlive it, does a reply sleep? {alive}")

    # What is to be answered

    @property
    def url(self) -> str:
        """The base URL to give to a client, such as `http://127.0.0.1:40123/v1`."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}{self.prefix}"

    def script(self, model: str, *answers: Reply, once: bool = False) -> None:
        """Answer chat requests for a model with these replies in turn, dropping what was scripted before.

        The last one repeats for ever; with `once`, requests after the last one get `default` instead.
        """
        with self._changed:
            self._scripts[model] = replies.Script(answers, once=once)

    def route(self, method: str, path: str, reply: Reply) -> None:
        """Answer requests for one path below the prefix (such as "/key") with this reply before all else."""
        with self._changed:
            self._routes[method, self.prefix + path] = reply

    # What has happened

    @property
    def requests(self) -> list[RecordedRequest]:
        """All requests so far, in the order of their arrival, each there before it is answered."""
        with self._changed:
            return list(self._requests)

    @property
    def chat_requests(self) -> list[RecordedRequest]:
        return [request for request in self.requests if request.is_chat]

    @property
    def models_asked(self) -> list[str]:
        """The model of each chat request."""
        return [request.model for request in self.chat_requests]

    @property
    def catalog_requests(self) -> int:
        """How many times the catalogue was asked for."""
        return sum(request.is_catalog for request in self.requests)

    @property
    def connections_opened(self) -> int:
        """How many connections clients have made so far."""
        with self._changed:
            return self._opened

    @property
    def open_connections(self) -> int:
        """How many connections neither side has closed."""
        with self._changed:
            return len(self._open)

    def wait_for(self, predicate: Callable[[], bool], timeout: float = PATIENCE) -> bool:
        """Wait until the predicate holds; it is asked again after every request, connect and close.

        Returns True, or raises AssertionError when time is up.
        """
        with self._changed:
            if not self._changed.wait_for(predicate, timeout):
                raise AssertionError(f"not within {timeout} s: {self._state()}")
        return True

    def wait_closed(self, timeout: float = PATIENCE) -> bool:
        """Wait until no connection is open. Returns True, or raises AssertionError when time is up."""
        return self.wait_for(lambda: not self._open, timeout)

    # How it is done

    def _state(self) -> str:
        asked = [f"{request.method} {request.path}" for request in self._requests]
        return f"{self._opened} connections opened, {len(self._open)} open, requests {asked}"

    def _start_thread(self, name: str, target: Callable[..., None], *args: object) -> None:
        name = f"fault-server-{self.port}-{name}"
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        thread.start()
        self._threads = [*self._threads[:1], *(each for each in self._threads[1:] if each.is_alive()), thread]

    def _accept_all(self, listener: socket.socket, stopping: threading.Event) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(self._wake_out, select.POLLIN)
        with listener:
            while not stopping.is_set():
                poll.poll()
                with suppress(OSError):
                    self._admit(listener.accept()[0], stopping)

    def _admit(self, sock: socket.socket, stopping: threading.Event) -> None:
        with self._changed:
            connection = Connection(sock, self._opened, stopping, self._on_close)
            self._opened += 1
            self._open.append(connection)
            self._changed.notify_all()
        self._start_thread(str(connection.id), self._serve, connection)

    def _on_close(self, connection: Connection) -> None:
        with self._changed:
            self._open.remove(connection)
            self._changed.notify_all()

    def _serve(self, connection: Connection) -> None:
        try:
            if self.on_connect:
                self.on_connect(connection)
            if self._tls and not connection.closed:
                connection.start_tls(self._tls)
            while not connection.closed:
                self._answer(connection)
        except Gone:
            pass
        except Malformed as fault:
            self._refuse(connection, str(fault))
        except BaseException as error:  # whatever it is, it is the test that must hear of it
            self.errors.append(error)
        finally:
            connection.close()

    def _answer(self, connection: Connection) -> None:
        request = connection.read_request()
        with self._changed:
            self._requests.append(request)
            reply = None if connection.doomed else self._reply_to(request)
            self._changed.notify_all()
        if reply:
            reply(connection, request)
        if not reply or not connection.keep_alive:
            connection.close()

    def _refuse(self, connection: Connection, fault: str) -> None:
        self.malformed.append(fault)
        connection.keep_alive = False
        with suppress(Gone):
            connection.respond(400, fault.encode())

    def _reply_to(self, request: RecordedRequest) -> Reply:
        if routed := self._routes.get((request.method, request.route)):
            return routed
        if request.is_chat:
            script = self._scripts.get(request.model)
            return (script and script.take()) or self.default
        if request.is_catalog:
            return self.catalog if callable(self.catalog) else replies.json_body({"data": list(self.catalog)})
        return replies.error(404)


_dead_ports: list[socket.socket] = []


def closed_port() -> int:
    """A loopback port that refuses connections; it stays taken, so that nobody else listens there."""
    sock = socket.socket()
    _dead_ports.append(sock)
    sock.bind((HOST, 0))
    return int(sock.getsockname()[1])


@atexit.register
def _free_dead_ports() -> None:
    for sock in _dead_ports:
        sock.close()


@contextmanager
def silent_port() -> Iterator[int]:
    """A loopback port where connecting hangs, because the backlog of the listener is full (on Linux)."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((HOST, 0))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            poll = select.poll()
            poll.register(filler, select.POLLOUT)
            if not poll.poll(20):  # this one hangs, so the backlog is full
                break
        yield int(listener.getsockname()[1])
