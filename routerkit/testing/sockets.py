"""A connection of the fault server: HTTP/1.1 over a raw socket, watched so that nothing waits for a client that has left."""

from __future__ import annotations

import math
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from routerkit.testing.connection import Connection, Gone, RecordedRequest
from routerkit.testing.signals import Signal

_READ_SIZE = 65_536
_NOT_READY = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Malformed(Exception):  # noqa: N818 - a word of its own
    """What the client sent is not an HTTP/1.1 request."""


class SocketConnection(Connection):
    """The server's end of one client connection; for the connection's own thread only, save for ``wake``."""

    def __init__(
        self,
        sock: socket.socket,
        number: int,
        stopping: threading.Event,
        on_close: Callable[[SocketConnection], None],
    ) -> None:
        self.id = number
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

    def wait(self, until: float | Signal | None = None) -> None:
        """Wait some seconds, for a signal, or (with None) until ``Gone`` is raised."""
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
        """Wait until something happens; raise ``Gone`` if it is the end of the connection or of the server."""
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
