"""Event streams, made of parts: what they say, where they wait, how they break off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from routerkit.testing.connection import Connection, RecordedRequest, Reply, merged
from routerkit.testing.shapes import USAGE, answer_fields, as_json, problem
from routerkit.testing.signals import Signal


@dataclass(frozen=True)
class Turn:
    """What the chunks of one stream have in common."""

    fields: Mapping[str, Any]

    def chunk(self, **fields: Any) -> bytes:
        """A chat.completion.chunk event."""
        return _event(as_json({**self.fields, **fields}))

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

    Nothing is added: a proper answer ends with ``end(), usage(), done()``. Each part is sent as a chunk of its
    own; ``split`` sends the framed bytes in writes of that size instead, ``every`` so many seconds apart. When
    the parts are through, the body is ended as its framing asks. ``fields`` replaces top-level fields of the
    chunks, ``without`` leaves some out.
    """
    pieces = [_part(part) for part in parts]

    def reply(connection: Connection, request: RecordedRequest) -> None:
        top = answer_fields(request, fields or {}) | {"object": "chat.completion.chunk"}
        turn = Turn({k: v for k, v in top.items() if k not in {"choices", "usage", *without}})
        rendered = [(piece, piece.render(turn)) for piece in pieces]
        missing = 1 if any(piece.breaks for piece in pieces) else 0
        length = sum(len(data) for _, data in rendered) + missing
        given = merged({"X-Generation-Id": str(top["id"])}, headers)
        connection.send(connection.head(status, _stream_headers(framing, length, given)))
        for piece, data in rendered:
            _send_split(connection, chunked(data) if data and framing == "chunked" else data, split, every)
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
    """A delta with any fields (say ``reasoning`` or ``tool_calls``), with or without content."""
    return Part(lambda turn: turn.delta(fields if content is None else {**fields, "content": content}))


def event(data: object, name: str | None = None) -> Part:
    """An event whose data is this text or these bytes as they are, or anything else as JSON."""
    payload = data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else as_json(data)
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
    """The ``[DONE]`` event."""
    return Part(lambda _: _event(b"[DONE]"))


def error_event(
    code: int | str = 502, message: str = "Provider disconnected", metadata: Mapping[str, Any] | None = None
) -> Part:
    """An error in the midst of a stream, as OpenRouter reports it."""
    told = problem(code, message, metadata)
    return Part(lambda turn: turn.delta({"content": ""}, "error", error=told))


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


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(data: bytes, name: str | None = None) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"
