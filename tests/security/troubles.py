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
    AllModelsFailedError,
    APIConnectionError,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    Client,
    ConfigurationError,
    ContentPolicyError,
    DeadlineExceededError,
    EmptyResponseError,
    Gateway,
    InternalServerError,
    InvalidRequestError,
    PaymentRequiredError,
    ProtocolError,
    RateLimitError,
    RouterKitError,
    StreamInterruptedError,
    Tenant,
    Timeouts,
)
from routerkit.testing import Connection, FaultServer, RecordedRequest, closed_port
from routerkit.testing import replies as r
from tests.security.canaries import ANSWER, KEY, PROMPT, SECOND_KEY
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
    gateways: tuple[Mapping[str, Any], ...] = ()
    """Of each but its address: all are on the one server. None: the client has its base URL alone."""
    tenant: str = ""
    """On whose behalf the client asks."""
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


def refused_at(path: str, reply: r.Reply) -> r.Reply:
    """A reply to requests for one path, below the prefix; others are told that all is well with the key."""
    return r.choose(lambda request: reply if request.path.endswith(path) else r.json_body({"data": {"label": KEY}}))


class Failing:
    """A strategy that keeps what it saw, and fails."""

    needs_catalog = False

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.seen: list[Any] = []

    def order(self, candidates: Any, outlook: Any) -> Any:
        self.seen += [candidates, outlook]
        raise self.error


BOTH = [KEY, SECOND_KEY]
TWO: tuple[Mapping[str, Any], ...] = (
    {"name": "first", "key_path": "/key", "credits_path": "/credits"},
    {"name": "second"},
)
TENANTS = {
    "api_key": None,
    "tenants": [Tenant("acme", {"first": BOTH, "second": SECOND_KEY}), Tenant("globex", {"second": KEY})],
}

OF_SEVERAL = (
    Trouble("each of two keys refused", AuthenticationError, quoting(401), client={"api_key": BOTH}),
    Trouble("each of two keys without credit", PaymentRequiredError, quoting(402), client={"api_key": BOTH}),
    Trouble(
        "two gateways fail",
        AllModelsFailedError,
        quoting(500),
        gateways=TWO,
        client={"api_key": {"first": BOTH, "second": KEY}},
    ),
    Trouble(
        "two gateways refuse a tenant's keys",
        AuthenticationError,
        quoting(401),
        gateways=TWO,
        client=TENANTS,
        tenant="acme",
    ),
    Trouble(
        "a tenant's stream cut",
        StreamInterruptedError,
        r.stream(r.role(), ANSWER, r.cut()),
        gateways=TWO,
        client=TENANTS,
        tenant="acme",
        kinds=("stream",),
    ),
    Trouble(
        "a tenant's catalogue refused",
        AuthenticationError,
        quoting(401),
        gateways=TWO,
        client=TENANTS,
        tenant="acme",
        kinds=("models",),
    ),
    Trouble(
        "no tenant named",
        ConfigurationError,
        gateways=TWO,
        client=TENANTS,
        kinds=("complete", "stream", "explain", "key_info"),
    ),
    Trouble("no such tenant", ConfigurationError, gateways=TWO, client=TENANTS, tenant="umbrella"),
    Trouble(
        "news of a key refused",
        AuthenticationError,
        refused_at("/key", quoting(401)),
        gateways=TWO,
        kinds=("key_info",),
    ),
    Trouble(
        "news of a tenant's credits refused",
        RateLimitError,
        refused_at("/credits", quoting(429)),
        gateways=TWO,
        client=TENANTS,
        tenant="acme",
        kinds=("key_info",),
    ),
    Trouble(
        "news of no key", ProtocolError, r.raw(b"220 " + KEY.encode() + b"\r\n"), gateways=TWO, kinds=("key_info",)
    ),
    Trouble(
        "Ctrl-C and news of a key",
        KeyboardInterrupt,
        interrupting,
        gateways=TWO,
        kinds=("key_info",),
        facades=("sync",),
    ),
    Trouble(
        "a strategy that fails, and all models",
        AllModelsFailedError,
        quoting(500),
        client={"api_key": BOTH, "strategy": Failing(ValueError(PROMPT)), "default_model": None},
        call={"fallback_models": [MODEL, "b/two"]},
    ),
    Trouble(
        "Ctrl-C in a strategy",
        KeyboardInterrupt,
        client={"api_key": BOTH, "strategy": Failing(KeyboardInterrupt()), "default_model": None},
        call={"fallback_models": [MODEL, "b/two"]},
        facades=("sync",),
    ),
    Trouble(
        "a feature that no gateway knows",
        InvalidRequestError,
        gateways=({"name": "first", "features": ()}, {"name": "second", "features": ()}),
        client={"api_key": {"first": BOTH}},
        call={"plugins": [{"id": "web"}]},
        kinds=("complete", "stream", "explain"),
    ),
)

TROUBLES = (
    *OF_SEVERAL,
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
            if "key_info" in trouble.kinds:
                server.route("GET", "/key", trouble.reply)
                server.route("GET", "/credits", trouble.reply)
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


def options(trouble: Trouble, url: str) -> dict[str, Any]:
    """A client's, for a trouble."""
    where: dict[str, Any] = {"base_url": url}
    if trouble.gateways:
        where = {"gateways": [Gateway(base_url=url, **fields) for fields in trouble.gateways]}
    return {"runtime": SkippingRuntime(), **CLIENT, **where, **trouble.client}


def _ask(kind: str, trouble: Trouble, url: str, look: Callable[[Any], None]) -> None:
    with Client(**options(trouble, url)) as client:
        look(client)
        client = client.tenant(trouble.tenant) if trouble.tenant else client
        if kind == "complete":
            client.complete(PROMPT, **trouble.call)
        elif kind == "create":
            client.chat.completions.create(messages=PROMPT, **trouble.call)
        elif kind == "explain":
            client.explain(PROMPT, **trouble.call)
        elif kind == "models":
            client.models()
        elif kind == "key_info":
            client.key_info()
        else:
            with client.stream(PROMPT, **trouble.call) as stream:
                look(stream)
                for _ in stream:
                    look(stream)


async def _ask_async(kind: str, trouble: Trouble, url: str, server: FaultServer, look: Callable[[Any], None]) -> None:
    async with AsyncClient(**options(trouble, url)) as client:
        look(client)
        client = client.tenant(trouble.tenant) if trouble.tenant else client
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
            elif kind == "key_info":
                await client.key_info()
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
