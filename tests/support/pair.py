"""Two servers on loopback, as the two gateways of one client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from routerkit import Completion, Gateway, RouterKitError
from routerkit.testing import FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.support.facades import Caller
from tests.support.scenarios import A

KEYS = {"first": "sk-first-1234567890", "second": "sk-second-123456789"}


@attrs.frozen
class Pair:
    first: FaultServer
    second: FaultServer

    def gateway(self, name: str, **fields: Any) -> Gateway:
        return Gateway(**{"name": name, "base_url": getattr(self, name).url, **fields})

    def options(self, **options: Any) -> dict[str, Any]:
        """Of a client."""
        gateways = [self.gateway("first"), self.gateway("second")]
        return {"gateways": gateways, "api_key": KEYS, "default_model": A, **options}

    @property
    def asked(self) -> tuple[int, int]:
        """How many requests for an answer each has seen."""
        return len(self.first.chat_requests), len(self.second.chat_requests)


@contextmanager
def pair_of_gateways() -> Iterator[Pair]:
    with FaultServer() as first, FaultServer() as second:
        yield Pair(first, second)


def tried(told: Completion | RouterKitError) -> list[str]:
    """The attempts of a call: target and verdict."""
    assert told.route is not None
    return [f"{attempt.target} {attempt.verdict}" for attempt in told.route.attempts]


def skipped(told: Completion | RouterKitError) -> dict[str, str]:
    """Why targets were left out."""
    assert told.route is not None
    return {str(skip.target): skip.reason for skip in told.route.skipped}


def answer_of(caller: Caller, messages: Any = "Hello", *, stream: bool = False, **options: Any) -> Completion:
    """A whole answer, by either way."""
    if not stream:
        return caller.complete(messages, **options)
    reader = caller.stream(messages, **options)
    while reader.next() is not None:
        pass
    return reader.stream.completion


def outcome_of(caller: Caller, messages: Any = "Hello", **options: Any) -> Completion | RouterKitError:
    """A whole answer, or the error that stands for it."""
    try:
        return answer_of(caller, messages, **options)
    except RouterKitError as error:
        return error


def echo(request: RecordedRequest) -> r.Reply:
    """Says what it was asked, and with which key."""
    return r.completion(f"{request.api_key} {request.json['messages'][0]['content']}")


def refusing(key: str, refusal: r.Reply, otherwise: r.Reply | None = None) -> r.Reply:
    """Refuses one key, and answers with all others."""
    fine = otherwise or r.completion()
    return r.choose(lambda request: refusal if request.api_key == key else fine)
