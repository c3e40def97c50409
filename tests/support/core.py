"""The core alone in a virtual world: one router, one scripted gateway, and calls that say what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from routerkit.config import settings_from
from routerkit.core.fleet import Board
from routerkit.core.limits import Store
from routerkit.core.router import Router
from routerkit.errors import RouterKitError
from routerkit.store.memory import MemoryStore
from routerkit.tenancy import settings_for
from routerkit.testing import replies as r
from routerkit.types.completion import Completion
from routerkit.types.event import Event
from routerkit.types.policy import Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.route import Route, Target
from routerkit.types.verdict import Sample
from tests.support.virtual import VirtualGateway, VirtualRuntime

HOST = "127.0.0.1:1"
"""The gateway's name."""
KEY = "sk-test-1234567890"
A, B, C = "a/one", "b/two", "c/three"


@attrs.frozen
class Told:
    """What came of a call: its text or its error, and its account in short."""

    gives: str
    """The text, or the class name of the error."""
    attempts: list[str]
    """``model status verdict``, ``-`` for no status."""
    error: RouterKitError | None
    route: Route
    answer: Completion | None = None
    delivered: str = ""
    """The text that the chunks of a stream held."""

    @property
    def waits(self) -> list[float]:
        return [round(wait.seconds, 2) for wait in self.route.waits]

    @property
    def skipped(self) -> dict[str, str]:
        return {skip.model: skip.reason for skip in self.route.skipped}


class World:
    """See the module. Keywords are those of a client."""

    def __init__(
        self,
        *,
        runtime: VirtualRuntime | None = None,
        observed: bool = True,
        tenant: str | None = None,
        store: Store | None = None,
        board: Board | None = None,
        **settings: Any,
    ) -> None:
        self.gateway = VirtualGateway(runtime)
        self.runtime = self.gateway.runtime
        if "gateways" not in settings:
            settings = {"base_url": f"http://{HOST}/v1", "api_key": KEY, **settings}
        self.settings = settings_from({}, **settings)
        self.store = MemoryStore(self.runtime) if store is None else store
        self.root = Router(self.settings, self.runtime, lambda: observed, self.store, board)
        self.router = self.root if tenant is None else self.tenant(tenant)

    def tenant(self, name: str) -> Router:
        """The router of one tenant."""
        return self.root.sharing(settings_for(self.settings, name))

    def script(self, model: str, *answers: Any) -> None:
        self.gateway.script(model, *answers)

    def catalog(self, *models: Any) -> None:
        """The models that the gateway lists: ids, or entries."""
        entries = [r.catalog_model(model) if isinstance(model, str) else model for model in models]
        self.gateway.catalog = r.json_body({"data": entries})

    def read_catalog(self) -> None:
        """Have the catalogue in memory."""
        self.gateway.run(self.router.models(Timeouts()))

    @property
    def events(self) -> list[Event]:
        return self.gateway.events

    def ask(self, content: Any = "Hello", *, stream: bool = False, **more: Any) -> Told:
        """One call, to its end."""
        request = asking(content, stream=stream, **more)
        try:
            if not stream:
                _, answer = self.gateway.run(self.router.complete(request))
                return _told(answer, answer.text, answer.route)
            chunks, ended = self.gateway.run(self.router.stream(request))
        except RouterKitError as error:
            assert error.route is not None  # noqa: PT017 - any call may fail
            return _told(None, type(error).__name__, error.route, error)
        answer = ended.completion()
        return _told(answer, answer.text, answer.route, None, "".join(chunk.text for chunk in chunks))

    def trip(self, *models: str | None) -> None:
        """Open the breakers of these models (``None``: of the gateway), as failures do."""
        for model in models:
            breaker = self.router.health.breaker(HOST, model)
            while (permit := breaker.acquire(self.runtime.now, lease=10)) is not None:
                permit.settle(Sample.FAIL, self.runtime.now)


def asking(
    content: Any = "Hello",
    *,
    stream: bool = False,
    model: str | None = A,
    fallback_models: Sequence[str] | None = (),
    timeouts: Timeouts = Timeouts(),
    extra_headers: dict[str, str] | None = None,
    **params: Any,
) -> ChatRequest:
    """A request for these models, by name."""
    options = {name: params.pop(name) for name in ("on_interrupt", "allow_any_price") if name in params}
    return ChatRequest.build(
        content,
        params,
        model=model,
        fallback_models=fallback_models,
        timeouts=timeouts,
        stream=stream,
        extra_headers=extra_headers,
        **options,
    )


def target(model: str) -> Target:
    return Target(HOST, model)


def after(seconds: float, reply: Any) -> r.Reply:
    """A reply that takes its time."""

    def late(connection: Any, request: Any) -> None:
        connection.wait(seconds)
        reply(connection, request)

    return late


def doing(what: Any, reply: Any) -> r.Reply:
    """A reply that does something first."""

    def busy(connection: Any, request: Any) -> None:
        what()
        reply(connection, request)

    return busy


def body(*pieces: bytes, status: int = 200, content_type: str = "text/event-stream") -> r.Reply:
    """An answer of which each piece is read on its own."""

    def reply(connection: Any, _: Any) -> None:
        framing = {"Content-Type": content_type, "Transfer-Encoding": "chunked"}
        connection.send(connection.head(status, framing))
        for piece in pieces:
            connection.wait(0.01)
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.send(b"0\r\n\r\n")

    return reply


def _told(
    answer: Completion | None, gives: str, route: Route, error: RouterKitError | None = None, delivered: str = ""
) -> Told:
    attempts = [f"{each.model} {each.status or '-'} {each.verdict}" for each in route.attempts]
    return Told(gives, attempts, error, route, answer, delivered)
