"""Answers byte by byte."""

from __future__ import annotations

import json

from routerkit.testing import Connection, RecordedRequest
from routerkit.testing import replies as r

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked"


def answer(text: str) -> bytes:
    """The JSON of a completion."""
    message = {"role": "assistant", "content": text}
    return json.dumps({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


GOOD, EVIL = answer("good"), answer("evil")


def response(body: bytes, *headers: bytes) -> bytes:
    """A whole response; its own length, unless a header says how long it is."""
    framed = any(header.lower().startswith((b"content-length", b"transfer-encoding")) for header in headers)
    given = headers if framed else (b"Content-Length: %d" % len(body), *headers)
    return OK + b"".join(header + b"\r\n" for header in given) + b"\r\n" + body


def chunks(*pieces: bytes) -> bytes:
    """Pieces of a chunked body, its end left out."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def hold(data: bytes) -> r.Reply:
    """These bytes, and a connection that stays open."""

    def reply(connection: Connection, _: RecordedRequest) -> None:
        connection.send(data)
        connection.wait()

    return reply
