"""A gateway of prepared answers, in a process of its own: it costs the client nothing but what a client must do.

:func:`running` starts it; run as a script it prints its port, serves until its input closes and imports only the standard
library. Every ``POST`` is answered from bytes that were made at the start: with a completion, or with an event stream when
the request asks for one. Both have the shape of OpenRouter's answers, headers included. Every ``GET`` is answered with a
catalogue of one model.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

HOST = "127.0.0.1"
MODEL = "openai/gpt-4o-mini"
TEXT = "A gateway answers, most of the time; a library that keeps asking politely answers the rest of it. " * 9
"""What a completion says: with everything around it, 1.5 KB."""
WORD = " words"
"""What each content chunk of a stream adds."""

_TOP = {"id": "gen-1760000000-Qm7Zt3Xw", "provider": "OpenAI", "model": MODEL, "created": 1760000000}
_USAGE = {
    "prompt_tokens": 24,
    "completion_tokens": 180,
    "total_tokens": 204,
    "cost": 0.000112,
    "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "cost_details": {"upstream_inference_cost": None},
    "completion_tokens_details": {"reasoning_tokens": 0, "image_tokens": 0},
}
_HEAD = (
    "HTTP/1.1 200 OK\r\nDate: Thu, 09 Oct 2025 08:53:20 GMT\r\nContent-Type: {kind}\r\n{framing}\r\n"
    "Connection: keep-alive\r\nAccess-Control-Allow-Origin: *\r\nCache-Control: no-cache\r\nServer: cloudflare\r\n"
    "X-Generation-Id: gen-1760000000-Qm7Zt3Xw\r\nX-Content-Type-Options: nosniff\r\n"
    "Vary: Accept-Encoding\r\nCF-RAY: 98b7c6d5e4f3a2b1-FRA\r\n\r\n"
)


def stream_text(chunks: int) -> str:
    """What a stream of so many content chunks says."""
    return WORD * chunks


def stream_events(chunks: int) -> list[bytes]:
    """The JSON of every event but ``[DONE]``: the role, the content chunks, the finish reason, the usage."""
    return [
        _delta({"role": "assistant", "content": ""}),
        *[_delta({"role": "assistant", "content": WORD})] * chunks,
        _delta({"role": "assistant", "content": ""}, "stop"),
        _json({**_TOP, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE}),
    ]


@contextmanager
def running(chunks: int, per_write: int, gap: float, cpu: int | None) -> Iterator[str]:
    """A server as another process, pinned to a CPU where one is given; the base URL to reach it. ``gap`` in seconds."""
    options = [f"--chunks={chunks}", f"--per-write={per_write}", f"--gap={gap}"]
    options += [] if cpu is None else [f"--cpu={cpu}"]
    command = [sys.executable, __file__, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://{HOST}:{int(process.stdout.readline())}/api/v1"
        finally:
            process.stdin.close()  # it takes this as its end


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _delta(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _json({**_TOP, "object": "chat.completion.chunk", "choices": [choice]})


def _completion() -> bytes:
    message = {"role": "assistant", "content": TEXT, "refusal": None, "reasoning": None}
    choice = {"index": 0, "logprobs": None, "finish_reason": "stop", "native_finish_reason": "stop", "message": message}
    return _json(
        {**_TOP, "object": "chat.completion", "system_fingerprint": None, "choices": [choice], "usage": _USAGE}
    )


def _whole_answer() -> bytes:
    body = _completion()
    return _HEAD.format(kind="application/json", framing=f"Content-Length: {len(body)}").encode() + body


def _catalogue() -> bytes:
    pricing = {"prompt": "0.00000015", "completion": "0.0000006"}
    body = _json({"data": [{"id": MODEL, "context_length": 128_000, "pricing": pricing}]})
    return _HEAD.format(kind="application/json", framing=f"Content-Length: {len(body)}").encode() + body


def _stream_answer(chunks: int, per_write: int) -> list[bytes]:
    """The writes: the head, then so many events at a time, each event in an HTTP chunk of its own."""
    events = [b"data: " + event + b"\n\n" for event in [*stream_events(chunks), b"[DONE]"]]
    framed = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    framed[-1] += b"0\r\n\r\n"
    head = _HEAD.format(kind="text/event-stream", framing="Transfer-Encoding: chunked").encode()
    return [head, *(b"".join(framed[at : at + per_write]) for at in range(0, len(framed), per_write))]


def _serve(connection: socket.socket, whole: bytes, stream: Sequence[bytes], gap: float) -> None:
    catalogue = _catalogue()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        while True:
            head, separator, body = received.partition(b"\r\n\r\n")
            length = _length(head) if separator else 0
            if not separator or len(body) < length:
                more = connection.recv(65_536)
                if not more:
                    return
                received += more
                continue
            received = body[length:]
            if head.startswith(b"GET "):
                connection.sendall(catalogue)
                continue
            if b'"stream":true' not in body[:length]:
                connection.sendall(whole)
                continue
            for piece in stream:
                connection.sendall(piece)
                if gap:
                    time.sleep(gap)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _accept(listener: socket.socket, whole: bytes, stream: Sequence[bytes], gap: float) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, whole, stream, gap), daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve prepared answers until the input closes.")
    parser.add_argument("--chunks", type=int, default=500)
    parser.add_argument("--per-write", type=int, default=8)
    parser.add_argument("--gap", type=float, default=0.0)
    parser.add_argument("--cpu", type=int)
    options = parser.parse_args()
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    answers = (_whole_answer(), _stream_answer(options.chunks, options.per_write))
    listener = socket.create_server((HOST, 0))
    threading.Thread(target=_accept, args=(listener, *answers, options.gap), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
