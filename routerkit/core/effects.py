"""The orders that the core gives, and what comes back.

A step of the core is a generator. It yields effects; whoever drives it performs each one and sends the result in:

=============  ==================================================  ==========================
effect         perform it by                                       send in
=============  ==================================================  ==========================
``Send``       one HTTP exchange, the whole answer read            ``HttpResponse``
``Open``       one HTTP exchange up to the answer's headers        ``StreamResponse``
``Read``       waiting for the next bytes of an open answer        ``bytes``; ``b""`` at its end
``Close``      closing an open answer's connection                 ``None``
``Sleep``      waiting                                             ``None``
``Await``      waiting for a latch, for so long at most            ``bool``: is it set?
``Deliver``    handing chunks to the caller of a stream            ``None``
``Emit``       telling observers                                   ``None``
``Ask``        running a script in the store's server              its reply
=============  ==================================================  ==========================

An effect that could not be performed is *thrown* in, as :class:`NotPerformed`: an exchange that fails as
:class:`TransportFailure`, a store that does not answer as :class:`StoreFailure`. ``Ask`` is ordered only of a router whose store
is in a server; its link performs it. When the caller is interrupted (a cancelled task, Ctrl-C,
an abandoned stream) the driver throws :class:`Cancelled` and performs what is still yielded, briefly and shielded: that is
how connections and permits are given back. The step's return value is the result of the call.

``Send``, ``Open`` and ``Read`` name their own time limits; a transport must hold each of them against any server, and say in
the failure's ``timeout`` which one ran out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import attrs

from routerkit.types.verdict import Sent, Word

if TYPE_CHECKING:
    from types import TracebackType

    from routerkit.types.completion import Chunk
    from routerkit.types.event import Event
    from routerkit.types.secret import Credential

T = TypeVar("T")


class Failure(Word):
    """How an exchange can fail below HTTP."""

    RESOLVE = "resolve"
    """The host name has no address."""
    CONNECT = "connect"
    """Refused, unreachable, or a proxy would not connect."""
    CONNECT_TIMEOUT = "connect_timeout"
    ADDRESS = "address"
    """The host has an address to which the gateway's settings allow no connection."""
    TLS_VERIFY = "tls_verify"
    """The certificate is not valid for this host."""
    DISCONNECTED = "disconnected"
    """Reset or closed before the status line."""
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    TRUNCATED = "truncated"
    """Reset, closed or badly framed within the body."""
    READ_TIMEOUT = "read_timeout"
    """Within the body."""
    MALFORMED = "malformed"
    """Not HTTP."""
    TOO_LARGE = "too_large"
    """More bytes than the effect allows."""
    LOCAL = "local"
    """This process: no memory, no file descriptor, no thread."""


CLOCKS = frozenset({Failure.CONNECT_TIMEOUT, Failure.FIRST_BYTE_TIMEOUT, Failure.READ_TIMEOUT})
"""Failures of which a time limit was the cause."""
TOLERANCE = 0.005
"""Seconds by which a transport's clock may run ahead of ours."""


class NotPerformed(Exception):  # noqa: N818 - it never reaches a caller
    """An effect could not be performed. Thrown into a step by its driver; never reaches a caller."""


class TransportFailure(NotPerformed):
    """An exchange did not come to its end."""

    def __init__(
        self,
        failure: Failure,
        sent: Sent,
        *,
        reused: bool = False,
        detail: str = "",
        status: int | None = None,
        lag: float = 0.0,
    ) -> None:
        super().__init__(failure, sent, reused, detail)
        self.failure = failure
        self.sent = sent
        self.reused = reused
        """Whether the connection had served an earlier exchange: the server may just have closed it."""
        self.detail = detail
        """A word or two for people, such as ``ConnectionRefusedError``; without header values or bodies."""
        self.status = status
        self.lag = lag
        """Seconds by which the end of a time limit was noticed too late: a busy event loop, a process that stood still."""


class Loss(Word):
    """Why there is no reply of a store's server."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    """Refused, reset, closed, no such host, no server of this service."""
    DENIED = "denied"
    """The server does not let us in, or not do this: NOAUTH, WRONGPASS, NOPERM."""
    UNABLE = "unable"
    """The server cannot do it now: LOADING, READONLY, OOM, BUSY, MOVED and their kin."""
    REPLY = "reply"
    """What came is no reply of our scripts."""


class StoreFailure(NotPerformed):
    """A store's server did not do what was asked, or nobody knows whether it did."""

    def __init__(self, loss: Loss, detail: str = "") -> None:
        super().__init__(loss, detail)
        self.loss = loss
        self.detail = detail
        """A word for people, such as ``LOADING`` or ``ConnectionRefusedError``; nothing of keys, arguments or passwords."""


class Cancelled(BaseException):
    """Thrown into a step when its caller is gone. The step cleans up; the driver then raises what interrupted the caller."""


@attrs.define(eq=False)
class HttpRequest:
    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes | None = attrs.field(default=None, repr=False)
    credential: Credential | None = None
    """Added by the transport as ``Authorization``, to the credential's own origin only."""
    fresh: bool = False
    """On a new connection, not a pooled one."""


@attrs.define(eq=False)
class HttpResponse:
    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    body: bytes = attrs.field(repr=False)
    mock: bool = False


@attrs.define(eq=False)
class StreamResponse:
    status: int
    headers: Mapping[str, str]
    handle: Any
    """The transport's own; goes into ``Read`` and ``Close``."""
    mock: bool = False


class Latch:
    """Set once; whoever waits is called back. Threads and tasks share it, whatever drives them.

    Not locked: subscribing and setting each are one step under the interpreter's own atomic operations on a deque.
    """

    __slots__ = ("_callbacks", "is_set")

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], object]] = []
        self.is_set = False

    def subscribe(self, callback: Callable[[], object]) -> None:
        """Have ``callback()`` called when the latch is set; at once, when it is. It may be called more than once."""
        self._callbacks.append(callback)
        if self.is_set:
            callback()

    def unsubscribe(self, callback: Callable[[], object]) -> None:
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def set(self) -> None:
        self.is_set = True
        for callback in tuple(self._callbacks):
            callback()


@attrs.define(eq=False)
class Send:
    request: HttpRequest
    connect: float
    """Seconds for name resolution, TCP and TLS together."""
    first_byte: float
    """Seconds from the request to the status line."""
    idle: float
    """Seconds between two reads of the body."""
    total: float
    """Seconds for all of it."""
    max_bytes: int
    """Of the body, decompressed."""


@attrs.define(eq=False)
class Open:
    request: HttpRequest
    connect: float
    first_byte: float
    total: float
    """Seconds up to the end of the headers."""


@attrs.define(eq=False)
class Read:
    handle: Any
    seconds: float


@attrs.define(eq=False)
class Close:
    handle: Any
    reusable: bool = False
    """Whether the answer was read to its end, so that the connection may serve again."""


@attrs.define(eq=False)
class Sleep:
    seconds: float


@attrs.define(eq=False)
class Await:
    latch: Latch
    seconds: float


@attrs.define(eq=False)
class Deliver:
    chunks: Sequence[Chunk] = attrs.field(repr=False)


@attrs.define(eq=False)
class Emit:
    event: Event


@attrs.frozen(eq=False)
class Script:
    """A Lua script. It takes keys and arguments, and is never put together from them."""

    name: str
    text: str = attrs.field(repr=False)
    sha: str = attrs.field(repr=False)
    """SHA-1 of the text, by which the server knows it."""


@attrs.define(eq=False)
class Ask:
    """Not to be performed for a step that was cancelled: it asks for nothing then."""

    script: Script
    keys: tuple[str, ...]
    """All of one owner: they share a hash tag."""
    args: tuple[str | int, ...]
    """Words and whole numbers, to be sent in one text with blanks between them."""
    seconds: float
    """From connecting to the whole reply."""
    blob: bytes | None = attrs.field(default=None, repr=False)
    """To be sent as it is, as a second text."""


Effect: TypeAlias = Send | Open | Read | Close | Sleep | Await | Deliver | Emit | Ask
Step: TypeAlias = Generator[Effect, Any, T]
"""What drivers drive; ``T`` is the type of its result."""


class Lock(Protocol):
    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...


class Runtime(Protocol):
    """What the core needs of the world and may not reach for itself."""

    def monotonic(self) -> float:
        """Seconds, for durations and deadlines."""

    def wall(self) -> float:
        """Unix seconds, for dates that servers send."""

    def random(self) -> float:
        """Uniform in [0, 1), different in every process."""

    def lock(self) -> Lock:
        """A new lock that works between the threads of this runtime."""


def send(effect: Send) -> Step[HttpResponse]:
    """Raises TransportFailure."""
    response: HttpResponse = yield effect
    return response


def fetch(effect: Send) -> Step[HttpResponse]:
    """An exchange that may be repeated: it is, when the connection had been closed while it was idle. Raises TransportFailure."""
    try:
        return (yield from send(effect))
    except TransportFailure as failure:
        if not failure.reused or failure.failure is not Failure.DISCONNECTED:
            raise
    return (yield from send(attrs.evolve(effect, request=attrs.evolve(effect.request, fresh=True))))


def open_stream(effect: Open) -> Step[StreamResponse]:
    """Raises TransportFailure."""
    response: StreamResponse = yield effect
    return response


def read(handle: Any, seconds: float) -> Step[bytes]:
    """The next bytes; ``b""`` at the end. Raises TransportFailure."""
    data: bytes = yield Read(handle, seconds)
    return data


def close(handle: Any, *, reusable: bool = False) -> Step[None]:
    """Closing twice does no harm, so a caller interrupted while closing, even twice, is no reason to leave a connection open."""
    interrupted: Cancelled | None = None
    for _ in range(3):
        try:
            yield Close(handle, reusable and interrupted is None)
        except Cancelled as error:
            interrupted = error
        else:
            break
    if interrupted is not None:
        raise interrupted


def sleep(seconds: float) -> Step[None]:
    yield Sleep(seconds)


def wait_for(latch: Latch, seconds: float) -> Step[bool]:
    """Whether the latch was set in time."""
    done: bool = yield Await(latch, seconds)
    return done


def deliver(chunks: Sequence[Chunk]) -> Step[None]:
    yield Deliver(chunks)


def emit(event: Event) -> Step[None]:
    yield Emit(event)
