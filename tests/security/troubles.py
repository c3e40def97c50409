"""Everything that can be made to fail of a call, through both facades: the hooks at which an exception may carry something out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import trustme

from routerkit import (
    APIConnectionError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    Client,
    ConfigurationError,
    ContentPolicyError,
    DeadlineExceededError,
    EmptyResponseError,
    InternalServerError,
    InvalidRequestError,
    ProtocolError,
    RateLimitError,
    RouterKitError,
    StreamInterruptedError,
    Timeouts,
)
from routerkit.testing import Connection, FaultServer, RecordedRequest, closed_port
from routerkit.testing import replies as r
from tests.security.canaries import ANSWER, KEY, PROMPT
from tests.support.facades import SkippingRuntime

MODEL = "a/one"
CLIENT: Mapping[str, Any] = {"api_key": KEY, "default_model": MODEL, "observers": [lambda _: None]}


@attrs.frozen
class Trouble:
    """One way to fail, and what is raised."""

    name: str
    raises: type[BaseException]
    reply: r.Reply | None = None
    where: str = "plain"
    """`plain`; `closed`: nobody listens; `tls`: a certificate that nobody vouches for; `no tls`: a server that speaks none."""
    client: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    call: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    kinds: tuple[str, ...] = ("complete", "stream")
    facades: tuple[str, ...] = ("sync", "async")


def interrupting(connection: Connection, _: RecordedRequest) -> None:
    """Ctrl-C while the answer is waited for."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    connection.wait()


def quoting(status: int, **more: Any) -> r.Reply:
    """A refusal that repeats the key, as some gateways do."""
    return r.error(status, message=f"bad key {KEY}", **more)


TROUBLES = (
    Trouble("connection refused", APIConnectionError, where="closed"),
    Trouble("an unknown authority", APIConnectionError, where="tls"),
    Trouble("no TLS there", APIConnectionError, where="no tls"),
    Trouble("401 that quotes the key", AuthenticationError, quoting(401)),
    Trouble("400 that quotes the key", BadRequestError, quoting(400)),
    Trouble(
        "403 that quotes the prompt", ContentPolicyError, r.error(403, message=PROMPT, metadata={"reasons": ["x"]})
    ),
    Trouble("429", RateLimitError, r.error(429, headers={"Retry-After": "90"})),
    Trouble("500", InternalServerError, r.error(500), kinds=("complete", "stream", "create")),
    Trouble("a redirect", ProtocolError, r.redirect(307, f"https://elsewhere.example/{KEY}")),
    Trouble("bad JSON", ProtocolError, r.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{" + ANSWER[:19].encode())),
    Trouble("no answer in it", EmptyResponseError, r.json_body({"choices": [], "note": ANSWER})),
    Trouble("not HTTP", ProtocolError, r.raw(b"220 " + ANSWER.encode() + b"\r\n")),
    Trouble("closed", APIConnectionError, r.close_before_reply()),
    Trouble("reset", APIConnectionError, r.reset_before_reply()),
    Trouble("body cut", APIConnectionError, r.truncated_body(b'{"id": "' + ANSWER.encode()), kinds=("complete",)),
    Trouble(
        "foreign encoding",
        ProtocolError,
        r.json_body({"x": ANSWER}, headers={"Content-Encoding": "br"}),
        kinds=("complete",),
    ),
    Trouble("no first byte", APIConnectionError, r.hang(), call={"timeout": Timeouts(first_byte=0.05, total=30)}),
    Trouble("deadline", DeadlineExceededError, r.hang(), call={"timeout": 0.05}),
    Trouble("stream cut", StreamInterruptedError, r.stream(r.role(), ANSWER, r.cut()), kinds=("stream",)),
    Trouble(
        "stream reset", StreamInterruptedError, r.stream(r.role(), ANSWER, r.pause(0.02), r.reset()), kinds=("stream",)
    ),
    Trouble(
        "error in a stream",
        StreamInterruptedError,
        r.stream(r.role(), ANSWER, r.error_event(message=ANSWER, metadata={"flagged_input": PROMPT})),
        kinds=("stream",),
    ),
    Trouble(
        "not JSON in a stream", StreamInterruptedError, r.stream(r.role(), ANSWER, r.event(ANSWER)), kinds=("stream",)
    ),
    Trouble(
        "silence in a stream",
        StreamInterruptedError,
        r.stream(r.role(), ANSWER, r.pause(60)),
        kinds=("stream",),
        call={"timeout": Timeouts(idle=0.05)},
    ),
    Trouble(
        "a line that does not end",
        StreamInterruptedError,
        r.stream(r.role(), ANSWER, b"data: " + b"x" * 9_000_000),
        kinds=("stream",),
    ),
    Trouble(
        "cut, and cut again by the next model",
        StreamInterruptedError,
        r.stream(r.role(), ANSWER, r.cut()),
        kinds=("stream",),
        call={"on_interrupt": "continue", "fallback_models": ["b/two"]},
    ),
    Trouble(
        "cut, and not begun again by the next model",
        StreamInterruptedError,
        r.choose(lambda request: r.stream(r.role(), ANSWER, r.cut()) if request.model == MODEL else r.error(500)),
        kinds=("stream",),
        call={"on_interrupt": "restart", "fallback_models": ["b/two"]},
    ),
    Trouble("the catalogue refused", AuthenticationError, quoting(401), kinds=("models",)),
    Trouble("the catalogue not read", ProtocolError, r.raw(b"220 no\r\n"), kinds=("models",)),
    Trouble("the catalogue cancelled", asyncio.CancelledError, r.hang(), kinds=("models",), facades=("async",)),
    Trouble("the catalogue and Ctrl-C", KeyboardInterrupt, interrupting, kinds=("models",), facades=("sync",)),
    Trouble("a header of the caller", InvalidRequestError, call={"extra_headers": {"X-Token": f"{KEY}\r\nX: y"}}),
    Trouble(
        "a parameter that is none",
        InvalidRequestError,
        call={"temprature": 1},
        kinds=("complete", "stream", "create", "explain"),
    ),
    Trouble(
        "a timeout that is none", ConfigurationError, call={"timeout": "soon"}, kinds=("complete", "stream", "explain")
    ),
    Trouble("a request that is no JSON", InvalidRequestError, call={"extra_body": {"x": object()}}),
    Trouble("dev mode", RouterKitError, client={"dev_mode": True, "dev_script": [{"status": 500, "times": 9}]}),
    Trouble(
        "dev mode, cut",
        StreamInterruptedError,
        client={"dev_mode": True, "dev_script": [{"cut_after": 1, "text": ANSWER}]},
        kinds=("stream",),
    ),
    Trouble("Ctrl-C", KeyboardInterrupt, interrupting, facades=("sync",)),
    Trouble(
        "Ctrl-C in a stream",
        KeyboardInterrupt,
        r.stream(r.role(), ANSWER, r.Part(act=lambda connection: interrupting(connection, None))),
        kinds=("stream",),
        facades=("sync",),
    ),
    Trouble("cancelled", asyncio.CancelledError, r.hang(), facades=("async",)),
    Trouble(
        "cancelled in a stream",
        asyncio.CancelledError,
        r.stream(r.role(), ANSWER, r.pause(60)),
        kinds=("stream",),
        facades=("async",),
    ),
)

CASES = {
    f"{facade}, {kind}: {trouble.name}": (facade, kind, trouble)
    for trouble in TROUBLES
    for facade in trouble.facades
    for kind in trouble.kinds
}


@contextlib.contextmanager
def gateway(trouble: Trouble) -> Iterator[tuple[str, FaultServer]]:
    """A server for a trouble, and the URL to give to a client."""
    tls = None
    if trouble.where == "tls":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with FaultServer(tls=tls) as server:
        server.catalog = r.error(404)
        if trouble.reply is not None:
            server.default = trouble.reply
            if "models" in trouble.kinds:
                server.catalog = trouble.reply
        url = server.url
        if trouble.where == "closed":
            url = f"http://127.0.0.1:{closed_port()}/v1"
        yield url.replace("http:", "https:") if trouble.where == "no tls" else url, server


def ask(facade: str, kind: str, trouble: Trouble, url: str, server: FaultServer, look: Callable[[Any], None]) -> None:
    """Make the call, and let the exception through. `look` is given the client before it and the stream within it."""
    if facade == "sync":
        _ask(kind, trouble, url, look)
    else:
        asyncio.run(_ask_async(kind, trouble, url, server, look), debug=True)  # which makes it talk


def _ask(kind: str, trouble: Trouble, url: str, look: Callable[[Any], None]) -> None:
    with Client(base_url=url, runtime=SkippingRuntime(), **{**CLIENT, **trouble.client}) as client:
        look(client)
        if kind == "complete":
            client.complete(PROMPT, **trouble.call)
        elif kind == "create":
            client.chat.completions.create(messages=PROMPT, **trouble.call)
        elif kind == "explain":
            client.explain(PROMPT, **trouble.call)
        elif kind == "models":
            client.models()
        else:
            with client.stream(PROMPT, **trouble.call) as stream:
                look(stream)
                for _ in stream:
                    look(stream)


async def _ask_async(kind: str, trouble: Trouble, url: str, server: FaultServer, look: Callable[[Any], None]) -> None:
    async with AsyncClient(base_url=url, runtime=SkippingRuntime(), **{**CLIENT, **trouble.client}) as client:
        look(client)
        begun = asyncio.Event()

        async def call() -> None:
            if kind == "complete":
                await client.complete(PROMPT, **trouble.call)
            elif kind == "create":
                await client.chat.completions.create(messages=PROMPT, **trouble.call)
            elif kind == "explain":
                await client.explain(PROMPT, **trouble.call)
            elif kind == "models":
                await client.models()
            else:
                await read()

        async def read() -> None:
            async with client.stream(PROMPT, **trouble.call) as stream:
                look(stream)
                async for _ in stream:
                    look(stream)
                    begun.set()

        task = asyncio.ensure_future(call())
        if trouble.raises is asyncio.CancelledError:
            if trouble.name == "cancelled in a stream":
                await begun.wait()
            else:
                await asyncio.to_thread(server.wait_for, lambda: bool(server.requests))
            task.cancel()
        await task
