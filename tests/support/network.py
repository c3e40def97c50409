"""The way to a server, under a test's hand: the machine's resolver, what sockets do, authorities of TLS, proxies."""

from __future__ import annotations

import os
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from routerkit.testing import FaultServer
from routerkit.testing.ports import HOST

if TYPE_CHECKING:
    from typing_extensions import Self

Answer = Sequence[tuple[str, int]] | OSError | threading.Event
"""Addresses; or how the lookup fails; or an event, until which it hangs."""


class Names:
    """The machine's resolver: addresses by name. Names that it does not know are asked of the real one, save .test and .invalid."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._answers: dict[str, list[Answer]] = {}
        self._real = socket.getaddrinfo
        self.asked: list[str] = []
        """Names that were looked up, those known here only."""
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def __setitem__(self, name: str, answer: Answer) -> None:
        self._answers[name] = [answer]

    def script(self, name: str, *answers: Answer) -> None:
        """These answers in turn; the last one repeats."""
        self._answers[name] = list(answers)

    def _resolve(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name not in self._answers:
            if name.endswith((".test", ".invalid")):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return self._real(host, port, *args, **options)
        self.asked.append(name)
        script = self._answers[name]
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, OSError):
            raise type(answer)(*answer.args)
        if isinstance(answer, threading.Event):
            answer.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [_info(*address) for address in answer]


def _info(host: str, port: int) -> Any:
    if ":" in host:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


class Dialled:
    """Where sockets connect to: written down, led elsewhere, or refused by the machine itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.to: list[tuple[str, int]] = []
        """Every address to which a connection was begun."""
        self.roads: dict[str, int] = {}
        """Ports on this machine that stand in for addresses elsewhere."""
        self.failure: OSError | None = None
        """Raised by every socket that is to connect."""
        connect = socket.socket.connect

        def dial(sock: socket.socket, address: Any) -> None:
            if self.failure is not None:
                raise type(self.failure)(*self.failure.args)
            if sock.family is socket.AF_INET:
                self.to.append(address[:2])
                if address[0] in self.roads:
                    address = (HOST, self.roads[address[0]])
            connect(sock, address)

        monkeypatch.setattr(socket.socket, "connect", dial)


def forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names none."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


# --- TLS ---


def context_of(authority: trustme.CA, *names: str, until: datetime | None = None) -> ssl.SSLContext:
    """A server's context, its certificate valid for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=until).configure_cert(context)
    return context


def long_ago() -> datetime:
    return datetime(2020, 1, 1, tzinfo=timezone.utc)


def tls_server(authority: trustme.CA, *names: str) -> FaultServer:
    return FaultServer(tls=context_of(authority, *names))


# --- proxies ---


class Tunnel:
    """An HTTP proxy on loopback that opens tunnels, all of them to one port, and writes down what it was asked."""

    def __init__(self, port: int, refusal: bytes = b"", tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self._tls = tls
        self._to = port
        self._refusal = refusal
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server((HOST, 0))
        self.url = f"{'https' if self._tls else 'http'}://{HOST}:{self._listener.getsockname()[1]}"
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for sock in self._sockets:
            sock.close()

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                if self._tls:
                    client = self._tls.wrap_socket(client, server_side=True)
                self._sockets.append(client)
                self._start(self._open, client)

    def _open(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(65_536)
            if not piece:
                return
            head += piece
        self.asked.append(head.decode())
        if self._refusal:
            with suppress(OSError):
                client.sendall(self._refusal)
                client.shutdown(socket.SHUT_WR)
            return
        server = socket.create_connection((HOST, self._to))
        self._sockets.append(server)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._start(self._copy, server, client)
        self._copy(client, server)

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


# --- this machine ---


@contextmanager
def no_file_descriptors() -> Iterator[None]:
    """None can be opened meanwhile, by anybody in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
