"""What aiohttp is given in the place of its own: connections that tell how far an exchange has come, requests that cost less."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from contextvars import ContextVar
from functools import partial
from inspect import signature
from typing import Any

import attrs
from aiohttp import AddrInfoType, BytesPayload, ClientRequest, ClientResponse, Payload, TCPConnector, ThreadedResolver
from aiohttp.abc import ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter

from routerkit.transport.addresses import check_public
from routerkit.transport.aiohttp_reader import ResponseReader
from routerkit.transport.failures import READ_SIZE, is_readable
from routerkit.types.verdict import Sent

if sys.version_info >= (3, 11):
    from asyncio import Timeout

    _reschedule = Timeout.reschedule
else:
    from async_timeout import Timeout

    _reschedule = Timeout.update


@attrs.define(eq=False)
class Progress:
    """How far the exchange of this task has come, and the timer of the phase it is in."""

    connect: float
    first_byte: float
    until: float
    """The end of it all, on the loop's clock."""
    fresh: bool
    timer: Timeout | None = None
    sent: Sent = Sent.NOT_SENT
    reused: bool = False

    def allow(self, seconds: float) -> None:
        """A phase begins that may take so long."""
        if self.timer is not None:
            now = asyncio.get_running_loop().time()
            _reschedule(self.timer, min(self.until, now + seconds))


current: ContextVar[Progress] = ContextVar("routerkit_progress")


class Protocol(ResponseHandler):
    """One connection. It knows whether it has served, and has its answers read by our reader."""

    served = False

    @property
    def should_close(self) -> bool:
        """Also when an answer came early: what is left of its request would run into the next one."""
        return super().should_close or (self.transport is not None and self.transport.get_write_buffer_size() > 0)

    def set_response_params(self, *, skip_payload: bool = False, read_bufsize: int = READ_SIZE, **_: Any) -> None:
        """Called before each request, for a parser. What the server has said by then belongs to its answer."""
        self._skip_payload = skip_payload
        self._parser: Any = ResponseReader(self, self._loop, read_bufsize, "HEAD" if skip_payload else "GET")
        if self._tail:
            early, self._tail = self._tail, b""
            self.data_received(early)

    def is_quiet(self) -> bool:
        """Whether the server has sent nothing since the last answer: neither the end of the connection nor stray bytes.

        The loop may have had no time yet to see it.
        """
        if self.should_close or self.transport is None:
            return False
        sock = self.transport.get_extra_info("socket")
        return sock is None or not is_readable(sock)

    def close(self) -> None:
        """Close at once: asyncio would first send what is left of a request to a server that may not take it."""
        # Raised until Python 3.11 by a TLS transport that has lost its connection.
        with contextlib.suppress(AttributeError):
            if self.transport is not None and self.transport.get_write_buffer_size():
                self.transport.abort()
        super().close()

    def connection_lost(self, error: BaseException | None) -> None:
        transport = self.transport
        if error is not None and self._parser is not None:
            self._parser.fail("the connection broke within the body")
        super().connection_lost(error)
        if transport is not None:
            transport.close()  # until Python 3.11 a TLS transport takes a lost connection for one left open


class Connector(TCPConnector):
    """Tells an exchange when it is connected, and whether its connection had served before."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = partial(Protocol, loop=self._loop)

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        progress = current.get()
        connection = await super().connect(*args, **kwargs)
        protocol: Any = connection.protocol
        while protocol.served and (progress.fresh or not protocol.is_quiet()):
            connection.close()
            connection = await super().connect(*args, **kwargs)
            protocol = connection.protocol
        progress.reused, protocol.served = protocol.served, True
        progress.sent = Sent.MAYBE
        return connection

    async def _create_connection(self, *args: Any, **kwargs: Any) -> ResponseHandler:
        progress = current.get()
        progress.allow(progress.connect)
        protocol = await super()._create_connection(*args, **kwargs)
        progress.allow(progress.first_byte)
        return protocol

    def leave(self) -> None:
        """Close nothing: the loop is no longer ours or no longer there."""
        self._closed = True


class PublicResolver(ThreadedResolver):
    """Resolves names, and refuses those with an address that is not public."""

    async def resolve(self, *args: Any, **kwargs: Any) -> list[ResolveResult]:
        found = await super().resolve(*args, **kwargs)
        check_public(each["host"] for each in found)
        return found


def public_socket(address: AddrInfoType) -> socket.socket:
    """A socket for an address, also for one that is no name and that no resolver has seen."""
    check_public([str(address[4][0])])
    return socket.socket(*address[:3])


class Body(BytesPayload):
    """A request's body, of any size: aiohttp would warn of more than 1 MiB, and read it in pieces from a thread.

    It goes out in one write. So an early answer is read before the write is found to have failed, and not lost.
    """

    def __init__(self, data: bytes) -> None:
        Payload.__init__(self, data)
        self._size = len(data)
        self.data = data


class Request(ClientRequest):
    """Goes out from the task that waits for its answer. aiohttp starts another one for the body, which costs more than the rest
    of sending; it still does where others look on (tracing), and through a proxy.
    """

    async def send(self, connection: Connection) -> ClientResponse:
        body, protocol, session = self.body, connection.protocol, self.session
        if not isinstance(body, Body) or protocol is None or self.proxy or session.trace_configs:
            return await super().send(connection)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write(body.data, drain=False)  # who waits here does not see an early answer
        writer.set_eof()
        return self.response_class(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=None,  # type: ignore[arg-type]  # aiohttp's own are off
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=session,
            stream_writer=writer,
        )


_RESPONSE_TAKES = frozenset(
    {"method", "url", "writer", "continue100", "timer"} | {"request_info", "traces", "loop", "session", "stream_writer"}
)
REQUEST_CLASS = Request if {*signature(ClientResponse).parameters} == _RESPONSE_TAKES else ClientRequest
"""With an aiohttp that makes its responses of something else, requests go out in its own way."""
