"""A loopback HTTP server that misbehaves on purpose."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from routerkit.testing.connection import Connection, Gone, Reply
from routerkit.testing.gateway import ScriptedGateway
from routerkit.testing.ports import HOST
from routerkit.testing.sockets import Malformed, SocketConnection

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE = 5.0
"""Seconds that anything which should happen at once is given before a test fails."""


class FaultServer(ScriptedGateway):
    """A server on loopback that answers as scripted, over real sockets: any bytes at all, broken off anywhere, or nothing.

    It speaks HTTP/1.1, with TLS when given a context, and lives within a ``with`` block::

        with FaultServer() as server:
            server.script("a/model", replies.error(503), replies.completion("Fine now"))
            client = Client(base_url=server.url, default_model="a/model")

    Leaving the block closes every socket and joins every thread; what a reply raised is raised there. A reply of your own sends
    with ``Connection.send`` or ``Connection.respond`` and waits with ``Connection.wait``, never with ``time.sleep``: these raise
    ``Gone`` as soon as the client disconnects or the server stops, and letting ``Gone`` through is the right thing to do.

    The counts may be read from any thread at any time, also after the stop. Not on Windows, which has no ``poll``.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, prefix: str = "/v1") -> None:
        super().__init__()
        self.prefix = prefix
        self.port = 0
        """The real one from the start on; starting again after a stop takes the same one."""
        self.on_connect: Callable[[Connection], None] | None = None
        """Called before TLS and any request."""
        self.malformed: list[str] = []
        """What was wrong with requests that were answered with a 400 for not being HTTP."""
        self.errors: list[BaseException] = []
        """Raised by replies; the first is raised again at the exit."""
        self._tls = tls
        self._open: list[SocketConnection] = []
        self._opened = 0
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
        """The base URL to give to a client, such as ``http://127.0.0.1:40123/v1``."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}{self.prefix}"

    def route(self, method: str, path: str, reply: Reply) -> None:
        """Answer requests for one path below the prefix (such as ``/key``) with this reply before all else."""
        super().route(method, self.prefix + path, reply)

    # What has happened

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
            connection = SocketConnection(sock, self._opened, stopping, self._on_close)
            self._opened += 1
            self._open.append(connection)
            self._changed.notify_all()
        self._start_thread(str(connection.id), self._serve, connection)

    def _on_close(self, connection: SocketConnection) -> None:
        with self._changed:
            self._open.remove(connection)
            self._changed.notify_all()

    def _serve(self, connection: SocketConnection) -> None:
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

    def _answer(self, connection: SocketConnection) -> None:
        request = connection.read_request()
        with self._changed:
            self._requests.append(request)
            reply = None if connection.doomed else self._reply_to(request)
            self._changed.notify_all()
        if reply:
            reply(connection, request)
        if not reply or not connection.keep_alive:
            connection.close()

    def _refuse(self, connection: SocketConnection, fault: str) -> None:
        self.malformed.append(fault)
        connection.keep_alive = False
        with suppress(Gone):
            connection.respond(400, fault.encode())
