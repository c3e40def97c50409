"""A gateway without sockets or time: the replies of :mod:`tests.support.replies`, performed as effects in virtual time.

It stands where a facade's driver and transport stand, so the pure core can be run through the very list of scenarios that runs
over real sockets. A reply is called once, on a connection that only writes down what was done to it (the *tape*); the tape is
then played back, and its waits move the clock instead of taking time.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

import attrs

from routerkit.core import effects
from routerkit.core.effects import Cancelled, Failure, HttpRequest, HttpResponse, Step, StreamResponse, TransportFailure
from routerkit.types.event import Event
from routerkit.types.verdict import Sent
from tests.support import replies
from tests.support.fault_server import Connection, Gone, RecordedRequest

FOREVER = 100_000.0
"""Seconds after which a reply that would go on for ever is left."""


class VirtualRuntime:
    """The core's clock, randomness and locks, in a single thread; time moves when it is told to."""

    class _NoLock:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    def __init__(self, random: float = 0.5) -> None:
        self.now = 1000.0
        self._random = random

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_790_000_000.0 + self.now

    def random(self) -> float:
        return self._random

    def lock(self) -> Any:
        return self._NoLock()


class _Tape(Connection):
    """A connection that only writes down what a reply does."""

    def __init__(self) -> None:
        self.id = 0
        self.keep_alive = True
        self.doomed = False
        self.closed = False
        self.marks: list[bytes | float | None] = []
        """Bytes sent, seconds waited, ``None`` for a reset."""
        self._waited = 0.0

    def send(self, data: bytes) -> None:
        if self.closed:
            raise Gone
        self.marks.append(data)

    def wait(self, until: Any = None) -> None:
        seconds = FOREVER if until is None else float(until)
        self.marks.append(seconds)
        self._waited += seconds
        if self._waited >= FOREVER:
            raise Gone

    def close(self) -> None:
        self.closed = True

    def reset(self) -> None:
        if not self.closed:
            self.marks.append(None)
        self.closed = True


class Answer:
    """A tape played back: one exchange."""

    def __init__(self, runtime: VirtualRuntime, tape: _Tape) -> None:
        self._runtime = runtime
        self._marks = deque(tape.marks)
        self._ends = tape.closed
        self._raw = b""
        self._framing = "close"
        self._left = 0
        self._over = False
        self.closed = False
        self.status = 0
        self.headers: dict[str, str] = {}

    def head(self, seconds: float) -> None:
        until = self._runtime.now + seconds
        while b"\r\n\r\n" not in self._raw:
            if not self._more(until, Failure.FIRST_BYTE_TIMEOUT, Sent.MAYBE):
                raise TransportFailure(Failure.DISCONNECTED, Sent.MAYBE, detail="closed")
        head, _, self._raw = self._raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        if not first.startswith("HTTP/1.1 "):
            raise TransportFailure(Failure.MALFORMED, Sent.MAYBE, detail="not HTTP")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if self.headers.get("transfer-encoding") == "chunked":
            self._framing = "chunked"
        elif "content-length" in self.headers:
            self._framing, self._left = "length", int(self.headers["content-length"])

    def read(self, seconds: float) -> bytes:
        """The next bytes of the body, unframed; ``b""`` at its end."""
        until = self._runtime.now + seconds
        while not self._over:
            data = self._unframed()
            if data:
                return data
            if self._over:
                break
            if not self._more(until, Failure.READ_TIMEOUT, Sent.RESPONDED):
                if self._framing == "close":
                    break
                raise TransportFailure(Failure.TRUNCATED, Sent.RESPONDED, detail="closed", status=self.status)
        return b""

    def _unframed(self) -> bytes:
        if self._framing == "chunked":
            return self._dechunked()
        data, self._raw = self._raw, b""
        if self._framing == "length":
            self._left -= len(data)
            self._over = self._left <= 0
        return data

    def _dechunked(self) -> bytes:
        data = b""
        while b"\r\n" in self._raw:
            size, _, rest = self._raw.partition(b"\r\n")
            try:
                length = int(size, 16)
            except ValueError:
                raise TransportFailure(Failure.TRUNCATED, Sent.RESPONDED, detail="chunk", status=self.status) from None
            if length == 0:
                self._over = True
                break
            if len(rest) < length + 2:
                break
            data += rest[:length]
            self._raw = rest[length + 2 :]
        return data

    def _more(self, until: float, late: Failure, sent: Sent) -> bool:
        """Take the next mark of the tape; false at its end."""
        if not self._marks:
            return False
        mark = self._marks.popleft()
        if mark is None:
            failure = Failure.DISCONNECTED if sent is Sent.MAYBE else Failure.TRUNCATED
            raise TransportFailure(failure, sent, detail="reset", status=self.status or None)
        if isinstance(mark, bytes):
            self._raw += mark
        elif self._runtime.now + mark < until:
            self._runtime.now += mark
        else:
            self._marks.appendleft(mark - (until - self._runtime.now))
            self._runtime.now = until
            raise TransportFailure(late, sent, detail="timed out", status=self.status or None)
        return True


@attrs.define(eq=False)
class Interruption:
    """Cancel the call instead of performing its n-th effect (from 0)."""

    at: int
    happened: bool = False
    effect: effects.Effect | None = None
    """What was not performed."""


class VirtualGateway:
    """Scripted like a FaultServer; drives steps of the core. ``unreachable`` models refuse connections."""

    def __init__(self, runtime: VirtualRuntime | None = None) -> None:
        self.runtime = VirtualRuntime() if runtime is None else runtime
        self.default: replies.Reply = replies.completion()
        self.catalog: replies.Reply = replies.error(404)
        self.models_asked: list[str] = []
        self.catalog_requests = 0
        self.open: set[Answer] = set()
        self.events: list[Event] = []
        self.performed = 0
        self._scripts: dict[str, replies.Script] = {}
        self.failing: defaultdict[str, list[TransportFailure]] = defaultdict(list)
        """Per model, failures thrown in place of an answer."""

    def script(self, model: str, *answers: replies.Reply, once: bool = False) -> None:
        self._scripts[model] = replies.Script(answers, once=once)

    def run(self, step: Step[Any], interruption: Interruption | None = None) -> tuple[list[Any], Any]:
        """Drive a step to its end: what it delivered, and its result. Raises what it raises."""
        delivered: list[Any] = []
        result: Any = None
        try:
            effect = step.send(None)
            while True:
                if interruption is not None and not interruption.happened and self.performed == interruption.at:
                    interruption.happened, interruption.effect = True, effect
                    self._unwind(step)
                    raise KeyboardInterrupt
                self.performed += 1
                try:
                    result = self._perform(effect, delivered)
                except TransportFailure as failure:
                    effect = step.throw(failure)
                else:
                    effect = step.send(result)
        except StopIteration as stop:
            return delivered, stop.value

    def _unwind(self, step: Step[Any]) -> None:
        try:
            effect = step.throw(Cancelled())
            for _ in range(20):
                assert isinstance(effect, (effects.Close, effects.Emit)), f"{effect} while being cancelled"
                self._perform(effect, [])
                effect = step.send(None)
        except Cancelled:
            return
        raise AssertionError("a cancelled step went on")

    def _perform(self, effect: effects.Effect, delivered: list[Any]) -> Any:
        if isinstance(effect, effects.Send):
            return self._send(effect)
        if isinstance(effect, effects.Open):
            return self._open(effect)
        if isinstance(effect, effects.Read):
            return effect.handle.read(effect.seconds)
        if isinstance(effect, effects.Close):
            effect.handle.closed = True
            self.open.discard(effect.handle)
        elif isinstance(effect, effects.Sleep):
            self.runtime.now += effect.seconds
        elif isinstance(effect, effects.Deliver):
            delivered.extend(effect.chunks)
        elif isinstance(effect, effects.Emit):
            self.events.append(effect.event)
        else:
            raise AssertionError(f"nobody else can set {effect}")
        return None

    def _send(self, effect: effects.Send) -> HttpResponse:
        began = self.runtime.now
        answer = self._answer(effect.request)
        answer.head(effect.first_byte)
        body = b""
        while True:
            left = effect.total - (self.runtime.now - began)
            data = answer.read(min(effect.idle, left))
            if not data:
                return HttpResponse(answer.status, answer.headers, body)
            body += data

    def _open(self, effect: effects.Open) -> StreamResponse:
        answer = self._answer(effect.request)
        answer.head(effect.first_byte)
        self.open.add(answer)
        return StreamResponse(answer.status, answer.headers, answer)

    def _answer(self, request: HttpRequest) -> Answer:
        headers: Mapping[str, str] = request.headers
        path = "/" + request.url.split("/", 3)[3]
        recorded = RecordedRequest(request.method, path, list(headers.items()), request.body or b"", 0, 0)
        if recorded.is_catalog:
            self.catalog_requests += 1
            reply = self.catalog
        else:
            self.models_asked.append(recorded.model)
            if self.failing[recorded.model]:
                raise self.failing[recorded.model].pop(0)
            script = self._scripts.get(recorded.model)
            reply = (script.take() if script else None) or self.default
        tape = _Tape()
        try:
            reply(tape, recorded)
        except Gone:
            pass
        return Answer(self.runtime, tape)
