"""Dev mode's transport: answers are made up, faults follow a script, no byte leaves the process.

It performs a step's ``Send``, ``Open``, ``Read`` and ``Close`` itself and hands all other effects on. What it answers runs
through the same verdicts, breakers and fallbacks as the real thing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import attrs
import orjson

from routerkit.core import mock
from routerkit.core.answer import has_content
from routerkit.core.effects import (
    Close,
    Effect,
    Failure,
    HttpRequest,
    HttpResponse,
    Open,
    Read,
    Send,
    Step,
    StreamResponse,
    TransportFailure,
    sleep,
)
from routerkit.core.json_schema import UnsatisfiableSchemaError
from routerkit.core.listing import parse_catalog
from routerkit.errors import ConfigurationError
from routerkit.transport.carrier import carried
from routerkit.transport.mock_pages import Page, catalog, pages_of
from routerkit.types.fault import Fault
from routerkit.types.gateway import Gateway
from routerkit.types.model import Model
from routerkit.types.settings import DevMode
from routerkit.types.verdict import Sent

log = logging.getLogger("routerkit")

REMINDER = 60.0
"""Seconds between two warnings that answers are made up."""

_NETWORK: dict[str, tuple[Failure, Sent]] = {
    "dns": (Failure.RESOLVE, Sent.NOT_SENT),
    "refused": (Failure.CONNECT, Sent.NOT_SENT),
    "connect_timeout": (Failure.CONNECT_TIMEOUT, Sent.NOT_SENT),
    "reset": (Failure.DISCONNECTED, Sent.MAYBE),
    "timeout": (Failure.FIRST_BYTE_TIMEOUT, Sent.MAYBE),
}

_NO_FAULT = Fault()

T = TypeVar("T")


class MockTransport:
    """One per client, for all its threads and tasks."""

    def __init__(self, dev: DevMode, gateways: Sequence[Gateway]) -> None:
        """Raises ConfigurationError for a fault of a gateway that is none of these."""
        self._pace = dev.pace
        self._script = [_Entry(_checked(fault, gateways), fault.times) for fault in dev.script]
        self._unsent: dict[tuple[str, str], Fault] = {}
        """Per URL and model, the fault that kept its last attempt from being sent."""
        self._lock = threading.Lock()
        self._names: dict[str, list[str]] = {}
        """Which gateways answer at a chat URL."""
        self._pages: dict[str, Page] = {}
        """What is told at a URL, beside answers."""
        for gateway in gateways:
            self._names.setdefault(gateway.chat_url, []).append(gateway.name)
            self._pages.update(pages_of(gateway))
        self._models: dict[str, Model] | None = None
        self._reminded = float("-inf")

    def carry(self, step: Step[T]) -> Step[T]:
        """The same step, with its exchanges performed here."""
        return carried(step, self._perform)

    def _perform(self, effect: Effect) -> Step[Any]:
        if isinstance(effect, Send):
            return (yield from self._send(effect))
        if isinstance(effect, Open):
            return (yield from self._open(effect))
        if isinstance(effect, Read):
            return (yield from effect.handle.read(effect.seconds))
        if isinstance(effect, Close):
            return None
        return (yield effect)

    def _send(self, order: Send) -> Step[HttpResponse]:
        if order.request.method == "GET":
            return self._told(order.request.url)
        body, fault = yield from self._received(order.request, order.first_byte)
        status, headers, answer = self._answer(body, fault)
        if status == 200 and (fault.cut_after is not None or fault.error_after is not None):
            raise TransportFailure(Failure.TRUNCATED, Sent.RESPONDED, detail="dev_script", status=200)
        return HttpResponse(status, headers, orjson.dumps(answer), mock=True)

    def _told(self, url: str) -> HttpResponse:
        page = self._pages.get(url)
        if page is None:
            return HttpResponse(404, {}, orjson.dumps(mock.error(404, "dev mode: nothing is here")), mock=True)
        return HttpResponse(200, {}, orjson.dumps(page()), mock=True)

    def _open(self, order: Open) -> Step[StreamResponse]:
        body, fault = yield from self._received(order.request, order.first_byte)
        status, headers, answer = self._answer(body, fault)
        pieces = _events(answer, fault) if status == 200 else iter([orjson.dumps(answer)])
        return StreamResponse(status, headers, MockStream(pieces, self._pace if status == 200 else 0.0), mock=True)

    def _received(self, request: HttpRequest, patience: float) -> Step[tuple[dict[str, Any], Fault]]:
        """The request, and what is to go wrong with it."""
        body: dict[str, Any] = orjson.loads(request.body or b"{}")
        fault = self._next_fault(request.url, str(body.get("model")), again=request.fresh)
        self._remind()
        if fault.delay:
            yield from sleep(min(fault.delay, patience))
        if fault.delay > patience:
            raise TransportFailure(Failure.FIRST_BYTE_TIMEOUT, Sent.MAYBE, detail="dev_script")
        if fault.network is not None:
            failure, sent = _NETWORK[fault.network]
            raise TransportFailure(failure, sent, detail="dev_script")
        return body, fault

    def _next_fault(self, url: str, model: str, *, again: bool) -> Fault:
        """The first fault of the script that is meant for this gateway and model; used up by it."""
        names = self._names.get(url, ())
        with self._lock:
            unsent = self._unsent.pop((url, model), None)
            if again and unsent is not None:
                return unsent  # the same attempt, on a new connection
            for entry in self._script:
                if entry.left and entry.meets(names, model):
                    entry.left -= 1
                    if entry.fault.network is not None and _NETWORK[entry.fault.network][1] is Sent.NOT_SENT:
                        self._unsent[url, model] = entry.fault
                    return entry.fault
        return _NO_FAULT

    def _answer(self, body: dict[str, Any], fault: Fault) -> tuple[int, dict[str, str], Any]:
        headers = {} if fault.retry_after is None else {"retry-after": f"{fault.retry_after:g}"}
        if fault.status is not None and fault.status != 200:
            message = fault.message or f"dev_script: HTTP {fault.status}"
            return (
                fault.status,
                headers,
                mock.error(fault.status, message, fault.code) if fault.body is None else fault.body,
            )
        if fault.empty:
            return 200, headers, {"id": "gen-mock-0000000001", "model": body.get("model"), "choices": [], "usage": {}}
        try:
            return 200, headers, mock.completion(body, self._load().get(str(body.get("model"))), fault.text)
        except UnsatisfiableSchemaError as error:
            return 400, headers, mock.error(400, f"dev mode cannot meet this JSON schema: {error}", "invalid_request")

    def _load(self) -> dict[str, Model]:
        if self._models is None:
            models, _ = parse_catalog(catalog())
            self._models = {model.id: model for model in models}
        return self._models

    def _remind(self) -> None:
        now = time.monotonic()
        if now - self._reminded >= REMINDER:
            self._reminded = now
            log.warning("dev mode: answers are made up; nothing is sent")

    def forked(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()


@attrs.define(eq=False)
class _Entry:
    fault: Fault
    left: int

    def meets(self, gateways: Sequence[str], model: str) -> bool:
        fault = self.fault
        return fault.model in (None, model) and (fault.gateway is None or fault.gateway in gateways)


def _checked(fault: Fault, gateways: Sequence[Gateway]) -> Fault:
    names = [gateway.name for gateway in gateways]
    if fault.gateway is not None and fault.gateway not in names:
        raise ConfigurationError(f"dev_script: gateway={fault.gateway!r}: must be one of {', '.join(names)}")
    return fault


class MockStream:
    """The handle of an open answer."""

    def __init__(self, pieces: Iterator[bytes], pace: float) -> None:
        self._pieces = pieces
        self._pace = pace
        self._begun = False

    def read(self, seconds: float) -> Step[bytes]:
        if self._begun and self._pace:
            yield from sleep(min(self._pace, seconds))
        if self._pace > seconds:
            raise TransportFailure(Failure.READ_TIMEOUT, Sent.RESPONDED, detail="dev_pace", status=200)
        self._begun = True
        return next(self._pieces, b"")

    def abandon(self) -> None:
        """Nothing is held."""


def _events(answer: dict[str, Any], fault: Fault) -> Iterator[bytes]:
    """The bytes of a stream, event by event, up to where the fault strikes."""
    limit = fault.cut_after if fault.error_after is None else fault.error_after
    texts = 0
    for chunk in mock.chunks(answer) if answer["choices"] else ():
        if any(has_content(choice["delta"]) for choice in chunk["choices"]):
            if limit is not None and texts >= limit:
                break
            texts += 1
        yield b"data: " + orjson.dumps(chunk) + b"\n\n"
    else:
        if limit is None:
            yield b"data: [DONE]\n\n"
            return
    if fault.error_after is not None:
        broken = {
            **mock.error(502, fault.message or "dev_script: the provider disconnected", fault.code),
            "choices": [],
        }
        yield b"data: " + orjson.dumps(broken) + b"\n\n"
