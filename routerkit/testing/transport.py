"""The scripted transport: a made-up gateway without a port, in the time of the client's runtime."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

from routerkit.core.effects import (
    Close,
    Effect,
    HttpResponse,
    Open,
    Read,
    Send,
    Step,
    StreamResponse,
    TransportFailure,
)
from routerkit.testing import replies
from routerkit.testing.connection import RecordedRequest, Reply
from routerkit.testing.faults import NetworkFault, network_fault
from routerkit.testing.gateway import ScriptedGateway
from routerkit.testing.tape import Line, Playback, Tape
from routerkit.transport.carrier import carried
from routerkit.transport.failures import destination, headers_of
from routerkit.types.secret import origin_of
from routerkit.types.verdict import Sent

T = TypeVar("T")


class ScriptedTransport(ScriptedGateway):
    """Scripted like a :class:`FaultServer`, with the same replies, but played in memory; give it to a client as ``transport=``::

        transport = ScriptedTransport()
        transport.script("a/model", "reset", replies.completion("Fine now"))
        client = Client(api_key="sk-test", transport=transport, runtime=VirtualRuntime(), default_model="a/model")

    A script may also hold network faults (see :func:`network_fault`), by name or as a TransportFailure. One that keeps a request
    from being sent lasts for the whole attempt, which connects a second time by itself; such a request is in no list here.

    Waits, of replies as of calls, are those of the client's runtime: none takes real time with a :class:`VirtualRuntime`. Only a
    wait for a :class:`Signal` does, as it is a thread or a task that sets it. Connections are kept alive as real ones are. A reply
    of your own is called once for each request and must not block; what it raises comes out of the call. One transport may serve
    many clients, of both kinds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._idle: dict[str, list[Line]] = {}
        self._opened = 0
        self._streams: set[Playback] = set()
        self._unsent: dict[str, TransportFailure] = {}
        """Per model, the fault that kept its last request from being sent."""
        self._others: dict[str, ScriptedTransport] = {}
        """By origin."""

    def at(self, url: str) -> ScriptedTransport:
        """What answers in the place of this one for the origin of a URL, as another gateway: with its own scripts, its own
        catalogue, its own list of requests. The same each time it is asked for."""
        other = self._others.setdefault(origin_of(url), ScriptedTransport())
        other._idle = self._idle
        return other

    def script(self, model: str, *answers: Reply | NetworkFault | TransportFailure, once: bool = False) -> None:
        """Answer chat requests for a model with these replies and faults in turn, dropping what was scripted before.

        The last one repeats for ever; with ``once``, requests after the last one get ``default`` instead. Raises ValueError for
        the name of a fault that is not known.
        """
        super().script(
            model,
            *(network_fault(each) if isinstance(each, (str, TransportFailure)) else each for each in answers),
            once=once,
        )

    @property
    def open_streams(self) -> int:
        """How many streams have been neither read to their end nor closed."""
        return len(self._streams)

    def carry(self, step: Step[T]) -> Step[T]:
        """The same step, with its exchanges performed here. Clients call it."""
        return carried(step, self._carry_out)

    def forked(self) -> None:
        """In a forked child: another thread of the parent may have held the lock. Clients call it."""
        self._changed = threading.Condition()
        self._idle.clear()
        for other in self._others.values():
            other.forked()

    def _carry_out(self, effect: Effect) -> Step[Any]:
        if isinstance(effect, Send):
            return (yield from self._send(effect))
        if isinstance(effect, Open):
            return (yield from self._open(effect))
        if isinstance(effect, Read):
            return (yield from self._read(effect.handle, effect.seconds))
        if isinstance(effect, Close):
            effect.handle.close(reusable=effect.reusable)
            self._settle(effect.handle)
            return None
        return (yield effect)

    def _send(self, order: Send) -> Step[HttpResponse]:
        answer = self._exchange(order, "gzip")
        try:
            return (yield from answer.whole(order))
        finally:
            self._settle(answer)

    def _open(self, order: Open) -> Step[StreamResponse]:
        answer = self._exchange(order, "identity")
        head = yield from answer.begin()
        self._streams.add(answer)
        return StreamResponse(head.status, head.headers, answer)

    def _read(self, answer: Playback, seconds: float) -> Step[bytes]:
        try:
            return (yield from answer.read(seconds))
        finally:
            self._settle(answer)

    def _settle(self, answer: Playback) -> None:
        """Forget an answer that is done with. No lock is taken: the garbage collector may be calling."""
        if not answer.closed:
            return
        self._streams.discard(answer)
        line, answer.line = answer.line, None
        if line is not None:
            self._idle.setdefault(line.origin, []).append(line)

    def _exchange(self, order: Send | Open, encoding: str) -> Playback:
        """Have a request answered. Raises TransportFailure when it may not be sent, and what the reply raises."""
        request = order.request
        other = self._others.get(destination(request.url).origin)
        if other is not None:
            return other._exchange(order, encoding)
        headers = list(headers_of(request, encoding).items())
        to = destination(request.url)
        with self._changed:
            line = self._line(to.origin, fresh=request.fresh)
            asked = RecordedRequest(request.method, to.target, headers, request.body or b"", line.number, line.served)
            line.served += 1
            reply = self._take(asked, line, again=request.fresh)
        tape = Tape(line.number)
        tape.record(reply, asked)
        line.doomed = tape.doomed
        if tape.failure is not None and tape.failure.sent is Sent.NOT_SENT:
            with self._changed:
                self._unsent[asked.model] = tape.failure
                self._requests.remove(asked)
        return Playback(tape, order, line)

    def _line(self, origin: str, *, fresh: bool) -> Line:
        """A connection: one that was kept alive, or a new one."""
        idle = self._idle.get(origin)
        if idle and not fresh:
            return idle.pop()
        number, self._opened = self._opened, self._opened + 1
        return Line(number, origin)

    def _take(self, asked: RecordedRequest, line: Line, *, again: bool) -> Reply:
        """What answers a request, which is written down."""
        self._requests.append(asked)
        unsent = self._unsent.pop(asked.model, None)
        if again and unsent is not None:  # the same attempt, on a new connection
            return network_fault(unsent)
        return replies.close_before_reply() if line.doomed else self._reply_to(asked)
