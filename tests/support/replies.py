"""Ready-made replies for `tests.support.fault_server.FaultServer`.

A `Reply` is any callable taking the connection and the request; the functions here make them::

    server.default = error(429, headers={"Retry-After": "1"})
    server.script("a/model", reset_before_reply(), completion("Back again"))
    server.script("b/model", stream("Hel", "lo", cut()))

Whole answers are made by `completion` (JSON, or an event stream if the request asks for one), `json_body`,
`error`, `html`, `redirect`, `empty`, `gzip_body` and `wrong_content_type`. Broken ones are made by `hang`,
`drip_headers`, `drip_body`, `close_before_reply`, `reset_before_reply`, `truncated_body`, `bad_chunking`,
`stale_keepalive` and, byte for byte, `raw`. `stream` builds an event stream out of parts. `gate` holds a
reply back until the test lets it go, `sequence` and `choose` combine replies.

Nothing here sleeps: all waiting ends at once when the client disconnects or the server stops.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import responses
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from tests.support.fault_server import Connection, RecordedRequest

CREATED = 1_760_000_000
PROVIDER = "Fake"
USAGE: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost": 0.00012}
JSON = "application/json"
_numbers = itertools.count()


class Reply(Protocol):
    """Answers one request: sends what it likes on the connection, then returns."""

    def __call__(self, connection: Connection, request: RecordedRequest, /) -> object: ...


class Signal(threading.Event):
    """An event that a reply can wait for (`pause(signal)`, `connection.wait(signal)`) without polling."""

    def __init__(self) -> None:
        super().__init__()
        self._wakers: list[Callable[[], None]] = []
        self._guard = threading.Lock()

    def set(self) -> None:
        super().set()
        with self._guard:
            for wake in self._wakers:
                wake()

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` when the signal is set within the block; check `is_set` inside it."""
        with self._guard:
            self._wakers.append(wake)
        try:
            yield
        finally:
            with self._guard:
                self._wakers.remove(wake)


def merged(defaults: Mapping[str, str], given: Mapping[str, str] | None) -> dict[str, str]:
    """Headers with the given ones in the place of defaults of the same name in any case."""
    given = given or {}
    names = {name.lower() for name in given}
    return {**{name: value for name, value in defaults.items() if name.lower() not in names}, **given}


# Catalogue


def catalog_model(model: str, **overrides: Any) -> dict[str, Any]:
    """An entry of the catalogue in the shape of OpenRouter."""
    entry: dict[str, Any] = {
        "id": model,
        "canonical_slug": model,
        "name": model.replace("/", ": ").title(),
        "created": CREATED,
        "description": f"The test model {model}.",
        "context_length": 32768,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {"prompt": "0.000001", "completion": "0.000002", "request": "0", "image": "0"},
        "top_provider": {"context_length": 32768, "max_completion_tokens": 4096, "is_moderated": False},
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "temperature", "tools", "response_format"],
    }
    return {**entry, **overrides}


CATALOG = [
    catalog_model("alpha/one"),
    catalog_model("beta/two", context_length=131072, pricing={"prompt": "0.000003", "completion": "0.000015"}),
    catalog_model("gamma/three:free", pricing={"prompt": "0", "completion": "0"}),
]


# Whole answers


def json_body(obj: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Any JSON."""
    body = _json(obj)
    return lambda connection, _: connection.respond(status, body, merged({"Content-Type": JSON}, headers))


def completion(
    text: str = "Hello from {model}",
    *,
    message: Mapping[str, Any] | None = None,
    finish_reason: str = "stop",
    headers: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
    **overrides: Any,
) -> Reply:
    """A chat completion, as JSON or as an event stream, whichever the request asks for.

    `{model}` in the text stands for the model asked. `message` adds fields to the message (say `tool_calls`);
    `overrides` replace top-level fields (`id`, `model`, `provider`, `usage`, ...), and those named in
    `without` are left out.
    """

    def reply(connection: Connection, request: RecordedRequest) -> None:
        fields = _answer_fields(request, overrides)
        given = merged({"X-Generation-Id": str(fields["id"])}, headers)
        words = text.replace("{model}", request.model)
        if _wants_stream(request):
            parts = _completion_parts(words, message, finish_reason, None if "usage" in without else fields["usage"])
            send = stream(*parts, headers=given, fields=overrides | {"id": fields["id"]}, without=without)
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": words, **(message or {})}}
            fields.setdefault("choices", [choice | {"finish_reason": finish_reason, "logprobs": None}])
            send = json_body({k: v for k, v in fields.items() if k not in without}, headers=given)
        send(connection, request)

    return reply


def error(
    status: int,
    body: Mapping[str, Any] | str | bytes | None = None,
    *,
    message: str | None = None,
    code: int | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """An error with the usual JSON envelope, or a body of your own: a dict as JSON, text or bytes as is."""
    if isinstance(body, (str, bytes)):
        data = body.encode() if isinstance(body, str) else body
        given = merged({"Content-Type": "text/plain; charset=utf-8"}, headers)
        return lambda connection, _: connection.respond(status, data, given)
    problem = _problem(status if code is None else code, message or responses.get(status, "Unknown"), metadata)
    return json_body({"error": problem} if body is None else body, status, headers)


def html(status: int = 502, text: str = "<html><body><h1>Bad gateway</h1></body></html>") -> Reply:
    """A web page, as proxies send it."""
    headers = {"Content-Type": "text/html; charset=utf-8"}
    return lambda connection, _: connection.respond(status, text.encode(), headers)


def redirect(status: int, location: str) -> Reply:
    """A redirect."""
    return lambda connection, _: connection.respond(status, b"", {"Location": location})


def empty(status: int = 200) -> Reply:
    """A response of the JSON type with no body."""
    return lambda connection, _: connection.respond(status, b"", {"Content-Type": JSON})


def wrong_content_type(content_type: str = "text/html") -> Reply:
    """A good completion that says it is something else."""
    return completion(headers={"Content-Type": content_type})


def gzip_body(obj: object, *, corrupt: bool = False) -> Reply:
    """JSON compressed with gzip; if corrupt, the compressed data cannot be expanded."""
    data = gzip.compress(_json(obj))
    body = data[:10] + b"\xff" * len(data[10:]) if corrupt else data
    return lambda connection, _: connection.respond(200, body, {"Content-Type": JSON, "Content-Encoding": "gzip"})


# Broken answers


def raw(data: bytes, *, keep: bool = False) -> Reply:
    """Exactly these bytes, then a close; with `keep` the connection stays for the next request."""

    def reply(connection: Connection, _: RecordedRequest) -> None:
        connection.send(data)
        connection.keep_alive = keep

    return reply


def hang() -> Reply:
    """Nothing at all, until the client disconnects or the server stops."""
    return lambda connection, _: connection.wait()


def drip_headers(interval: float) -> Reply:
    """The status line, then a header line every so many seconds for ever."""

    def reply(connection: Connection, _: RecordedRequest) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\n")
        for number in itertools.count():
            connection.send(b"X-Drip-%d: drop\r\n" % number)
            connection.wait(interval)

    return reply


def drip_body(interval: float, data: bytes | None = None) -> Reply:
    """The headers, then a byte of the body every so many seconds: spaces for ever, or the data to its end."""

    def reply(connection: Connection, _: RecordedRequest) -> None:
        framing = {"Transfer-Encoding": "chunked"} if data is None else {"Content-Length": str(len(data))}
        connection.send(connection.head(200, {"Content-Type": JSON, **framing}))
        for drop in itertools.repeat(b"1\r\n \r\n") if data is None else (b"%c" % byte for byte in data):
            connection.send(drop)
            connection.wait(interval)

    return reply


def close_before_reply() -> Reply:
    """An end of file in the place of a response."""
    return lambda connection, _: connection.close()


def reset_before_reply() -> Reply:
    """A TCP reset in the place of a response."""
    return lambda connection, _: connection.reset()


def truncated_body(body: bytes = b'{"id": "gen-', missing: int = 100) -> Reply:
    """A body that ends so many bytes before the length it was announced with."""

    def reply(connection: Connection, _: RecordedRequest) -> None:
        connection.respond(200, body, {"Content-Type": JSON, "Content-Length": str(len(body) + missing)})
        connection.close()

    return reply


def bad_chunking(body: bytes = b'{"id": "gen-', *, after: float = 0.0) -> Reply:
    """A body in chunks, where a good chunk is followed by one whose size is not a number.

    All of it is sent at once, so that a client may see the fault together with the headers; or the bad chunk
    follows `after` so many seconds, when the client is reading the body. (There aiohttp 3.14 with its C
    parser closes the connection but goes on waiting, and not even its sock_read timeout ends that.)
    """

    def reply(connection: Connection, _: RecordedRequest) -> None:
        head = connection.head(200, {"Content-Type": JSON, "Transfer-Encoding": "chunked"})
        good, bad = head + _chunk(body), b"zz\r\nnot a chunk\r\n"
        for data in [good, bad] if after else [good + bad]:
            connection.send(data)
            connection.wait(after)
        connection.close()

    return reply


def stale_keepalive(reply: Reply | None = None, *, close: Literal["on next use", "at once"] = "on next use") -> Reply:
    """A good answer that leaves the connection open to more, after which the next use of it fails.

    "on next use" closes the connection when the next request on it has arrived, and always makes that request
    fail. (It is recorded, as it did arrive, but it takes no reply from a script.) "at once" closes right
    after the answer, which a client that looks at its idle connections may notice in time.
    """
    answer = reply or completion()

    def stale(connection: Connection, request: RecordedRequest) -> None:
        answer(connection, request)
        if close == "at once":
            connection.close()
        connection.doomed = True

    return stale


# Event streams


@dataclass(frozen=True)
class Turn:
    """What the chunks of one stream have in common."""

    fields: Mapping[str, Any]

    def chunk(self, **fields: Any) -> bytes:
        """A chat.completion.chunk event."""
        return _event(_json({**self.fields, **fields}))

    def delta(self, delta: Mapping[str, Any], finish_reason: str | None = None, **fields: Any) -> bytes:
        """A chunk with one choice."""
        choice = {"index": 0, "delta": dict(delta), "finish_reason": finish_reason, "logprobs": None}
        return self.chunk(choices=[choice], **fields)


def _nothing(_: object) -> bytes:
    return b""


@dataclass(frozen=True)
class Part:
    """A piece of a stream: bytes to send, then something to do with the connection."""

    render: Callable[[Turn], bytes] = _nothing
    act: Callable[[Connection], object] = _nothing
    breaks: bool = False  # the stream does not come to its proper end


def stream(
    *parts: Part | str | bytes,
    framing: Literal["chunked", "close", "length"] = "chunked",
    split: int | None = None,
    every: float = 0.0,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    fields: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
) -> Reply:
    """A stream of server-sent events: text makes content deltas, bytes go into the body as they are.

    Nothing is added: a proper answer ends with `end(), usage(), done()`. Each part is sent as a chunk of its
    own; `split` sends the framed bytes in writes of that size instead, `every` so many seconds apart. When
    the parts are through, the body is ended as its framing asks. `fields` replaces top-level fields of the
    chunks, `without` leaves some out.
    """
    pieces = [_part(part) for part in parts]

    def reply(connection: Connection, request: RecordedRequest) -> None:
        top = _answer_fields(request, fields or {}) | {"object": "chat.completion.chunk"}
        turn = Turn({k: v for k, v in top.items() if k not in {"choices", "usage", *without}})
        rendered = [(piece, piece.render(turn)) for piece in pieces]
        missing = 1 if any(piece.breaks for piece in pieces) else 0
        length = sum(len(data) for _, data in rendered) + missing
        given = merged({"X-Generation-Id": str(top["id"])}, headers)
        connection.send(connection.head(status, _stream_headers(framing, length, given)))
        for piece, data in rendered:
            _send_split(connection, _chunk(data) if data and framing == "chunked" else data, split, every)
            piece.act(connection)
            if connection.closed:
                return
        connection.send(b"0\r\n\r\n" if framing == "chunked" else b"")
        connection.keep_alive = connection.keep_alive and framing != "close"

    return reply


def role(name: str = "assistant") -> Part:
    """The delta that only says who speaks."""
    return delta("", role=name)


def delta(content: str | None = None, **fields: Any) -> Part:
    """A delta with any fields (say `reasoning` or `tool_calls`), with or without content."""
    return Part(lambda turn: turn.delta(fields if content is None else {**fields, "content": content}))


def event(data: object, name: str | None = None) -> Part:
    """An event whose data is this text or these bytes as they are, or anything else as JSON."""
    payload = data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else _json(data)
    return Part(lambda _: _event(payload, name))


def comment(text: str = "OPENROUTER PROCESSING") -> Part:
    """A comment line, as gateways send to keep a connection alive."""
    return Part(lambda _: f": {text}\n\n".encode())


def pause(until: float | Signal) -> Part:
    """Wait some seconds or for a signal before going on."""
    if not isinstance(until, (int, float, Signal)):
        raise TypeError(f"pause takes seconds or a Signal, not {until!r}")
    return Part(act=lambda connection: connection.wait(until))


def cut() -> Part:
    """Close the connection in the orderly way, with the body not at its end."""
    return Part(act=lambda connection: connection.close(), breaks=True)


def reset() -> Part:
    """Break the connection off with a TCP reset."""
    return Part(act=lambda connection: connection.reset(), breaks=True)


def end(finish_reason: str = "stop") -> Part:
    """The chunk with the finish reason."""
    return Part(lambda turn: turn.delta({}, finish_reason))


def usage(**overrides: Any) -> Part:
    """The chunk with the usage and no choices."""
    return Part(lambda turn: turn.chunk(choices=[], usage=USAGE | overrides))


def done() -> Part:
    """The `[DONE]` event."""
    return Part(lambda _: _event(b"[DONE]"))


def error_event(
    code: int | str = 502, message: str = "Provider disconnected", metadata: Mapping[str, Any] | None = None
) -> Part:
    """An error in the midst of a stream, as OpenRouter reports it."""
    problem = _problem(code, message, metadata)
    return Part(lambda turn: turn.delta({"content": ""}, "error", error=problem))


# Combinations


class Gate:
    """A reply that waits until the test releases it; make it with `gate`."""

    def __init__(self, reply: Reply) -> None:
        self.arrived = threading.Event()  # set when the first request is in
        self._reply = reply
        self._open = Signal()

    def release(self) -> None:
        """Let all the requests through, those waiting and those to come."""
        self._open.set()

    def __call__(self, connection: Connection, request: RecordedRequest) -> None:
        self.arrived.set()
        connection.wait(self._open)
        self._reply(connection, request)


def gate(reply: Reply | None = None) -> Gate:
    """Hold a reply (else a completion) back until `release()`; `arrived` is set once a request is in."""
    return Gate(reply or completion())


class Script:
    """Replies to be given in turn."""

    def __init__(self, answers: Sequence[Reply], *, once: bool = False) -> None:
        if not answers:
            raise ValueError("a script needs at least one reply")
        self._answers = list(answers)
        self._once = once
        self._guard = threading.Lock()

    def take(self) -> Reply | None:
        """The next reply; after the last one that one again, or None if each is to be given once."""
        with self._guard:
            if self._once:
                return self._answers.pop(0) if self._answers else None
            return self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)


def sequence(*answers: Reply) -> Reply:
    """These replies in turn, whatever is asked; the last one repeats for ever."""
    script = Script(answers)

    def reply(connection: Connection, request: RecordedRequest) -> None:
        answer = script.take()
        assert answer is not None
        answer(connection, request)

    return reply


def choose(choice: Callable[[RecordedRequest], Reply]) -> Reply:
    """The reply that the function picks for the request, say by its API key."""
    return lambda connection, request: choice(request)(connection, request)


# How it is done


def _json(obj: object) -> bytes:
    return json.dumps(obj).encode()


def _problem(code: int | str, message: str, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    problem: dict[str, Any] = {"message": message, "code": code}
    return problem if metadata is None else {**problem, "metadata": dict(metadata)}


def _wants_stream(request: RecordedRequest) -> bool:
    try:
        return isinstance(request.json, dict) and request.json.get("stream") is True
    except ValueError:
        return False


def _answer_fields(request: RecordedRequest, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The top-level fields of a completion, save for the choices."""
    fields = {
        "id": f"gen-{next(_numbers):06d}",
        "object": "chat.completion",
        "created": CREATED,
        "model": request.model,
        "provider": PROVIDER,
        "usage": dict(USAGE),
    }
    return {**fields, **overrides}


def _completion_parts(
    text: str, message: Mapping[str, Any] | None, finish_reason: str, counts: Any
) -> list[Part | str | bytes]:
    extra = [delta(**message)] if message else []
    closing = [] if counts is None else [Part(lambda turn: turn.chunk(choices=[], usage=counts))]
    return [role(), *re.findall(r"\s*\S+|\s+", text), *extra, end(finish_reason), *closing, done()]


def _part(part: Part | str | bytes) -> Part:
    if isinstance(part, str):
        return delta(part)
    if isinstance(part, bytes):
        return Part(lambda _: part)
    return part


def _stream_headers(framing: str, length: int, given: Mapping[str, str]) -> dict[str, str]:
    how = {
        "chunked": {"Transfer-Encoding": "chunked"},
        "length": {"Content-Length": str(length)},
        "close": {"Connection": "close"},
    }[framing]
    return merged({"Content-Type": "text/event-stream", "Cache-Control": "no-cache", **how}, given)


def _send_split(connection: Connection, data: bytes, split: int | None, every: float) -> None:
    size = split or len(data)
    for start in range(0, len(data), size or 1):
        connection.send(data[start : start + size])
        if every:
            connection.wait(every)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(data: bytes, name: str | None = None) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"
