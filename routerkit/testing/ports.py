"""Loopback ports for the failures that need no server at all."""

from __future__ import annotations

import atexit
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

HOST = "127.0.0.1"

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
