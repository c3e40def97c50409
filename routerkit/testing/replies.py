"""Ready-made replies for :class:``routerkit.testing.FaultServer`` and :class:``routerkit.testing.ScriptedTransport``.

A ``Reply`` is any callable taking the connection and the request; the functions here make them::

    server.default = error(429, headers={"Retry-After": "1"})
    server.script("a/model", reset_before_reply(), completion("Back again"))
    server.script("b/model", stream("Hel", "lo", cut()))

Whole answers are made by ``completion`` (JSON, or an event stream if the request asks for one), ``json_body``, ``error``,
``html``, ``redirect``, ``empty``, ``gzip_body`` and ``wrong_content_type``. Broken ones are made by ``hang``, ``drip_headers``,
``drip_body``, ``close_before_reply``, ``reset_before_reply``, ``truncated_body``, ``bad_chunking``, ``stale_keepalive`` and, byte
for byte, ``raw``. ``stream`` builds an event stream out of parts (:mod:``routerkit.testing.streams``, all of which are here too).
``gate`` holds a reply back until the test lets it go, ``sequence`` and ``choose`` combine replies.

Nothing here sleeps: all waiting ends at once when the client disconnects or the server stops.
"""

from __future__ import annotations

import gzip
import itertools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from http.client import responses
from typing import Any, Literal

from routerkit.testing.connection import Connection, RecordedRequest, Reply, merged
from routerkit.testing.shapes import (
    CATALOG,
    CREATED,
    JSON,
    PROVIDER,
    USAGE,
    answer_fields,
    as_json,
    catalog_model,
    problem,
)
from routerkit.testing.signals import Signal
from routerkit.testing.streams import (
    Part,
    Turn,
    chunked,
    comment,
    cut,
    delta,
    done,
    end,
    error_event,
    event,
    pause,
    reset,
    role,
    stream,
    usage,
)

# fmt: off
__all__ = [
    "Reply", "Connection", "RecordedRequest", "Signal", "merged",
    "CATALOG", "catalog_model", "CREATED", "JSON", "PROVIDER", "USAGE",
    "json_body", "completion", "error", "html", "redirect", "empty", "wrong_content_type", "gzip_body",
    "raw", "hang", "drip_headers", "drip_body", "close_before_reply", "reset_before_reply", "truncated_body",
    "bad_chunking", "stale_keepalive",
    "stream", "Part", "Turn", "role", "delta", "event", "comment", "pause", "cut", "reset", "end", "usage", "done",
    "error_event",
    "gate", "Gate", "Script", "sequence", "choose",
]
# fmt: on

# Whole answers


def json_body(obj: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Any JSON."""
    body = as_json(obj)
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

    ``{model}`` in the text stands for the model asked. ``message`` adds fields to the message (say ``tool_calls``);
    ``overrides`` replace top-level fields (``id``, ``model``, ``provider``, ``usage``, ...), and those named in
    ``without`` are left out.
    """

    def reply(connection: Connection, request: RecordedRequest) -> None:
        fields = answer_fields(request, overrides)
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
    told = problem(status if code is None else code, message or responses.get(status, "Unknown"), metadata)
    return json_body({"error": told} if body is None else body, status, headers)


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
    data = gzip.compress(as_json(obj))
    body = data[:10] + b"\xff" * len(data[10:]) if corrupt else data
    return lambda connection, _: connection.respond(200, body, {"Content-Type": JSON, "Content-Encoding": "gzip"})


# Broken answers


def raw(data: bytes, *, keep: bool = False) -> Reply:
    """Exactly these bytes, then a close; with ``keep`` the connection stays for the next request."""

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
    follows ``after`` so many seconds, when the client is reading the body. (There aiohttp 3.14 with its C
    parser closes the connection but goes on waiting, and not even its sock_read timeout ends that.)
    """

    def reply(connection: Connection, _: RecordedRequest) -> None:
        head = connection.head(200, {"Content-Type": JSON, "Transfer-Encoding": "chunked"})
        good, bad = head + chunked(body), b"zz\r\nnot a chunk\r\n"
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


# Combinations


class Gate:
    """A reply that waits until the test releases it; make it with ``gate``."""

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
    """Hold a reply (else a completion) back until ``release()``; ``arrived`` is set once a request is in."""
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
        if answer is not None:  # it never runs out
            answer(connection, request)

    return reply


def choose(choice: Callable[[RecordedRequest], Reply]) -> Reply:
    """The reply that the function picks for the request, say by its API key."""
    return lambda connection, request: choice(request)(connection, request)


# How it is done


def _wants_stream(request: RecordedRequest) -> bool:
    try:
        return isinstance(request.json, dict) and request.json.get("stream") is True
    except ValueError:
        return False


def _completion_parts(
    text: str, message: Mapping[str, Any] | None, finish_reason: str, counts: Any
) -> list[Part | str | bytes]:
    extra = [delta(**message)] if message else []
    closing = [] if counts is None else [Part(lambda turn: turn.chunk(choices=[], usage=counts))]
    return [role(), *re.findall(r"\s*\S+|\s+", text), *extra, end(finish_reason), *closing, done()]
