"""What a reply is given: the request that came, and the connection to answer it on."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.client import responses
from typing import Any, Protocol

from routerkit.testing.signals import Signal


class Gone(Exception):  # noqa: N818 - it is let through, not handled
    """The client has disconnected or the server is stopping: there is nobody left to reply to."""


@dataclass(frozen=True)
class RecordedRequest:
    """One request as it arrived."""

    method: str
    path: str
    """With the query, if there was one."""
    headers: list[tuple[str, str]] = field(repr=False)
    body: bytes
    connection: int
    """Number of the connection it came on, counted from 0."""
    index: int
    """Its place on that connection, counted from 0: above 0 means that the connection was reused."""

    def header(self, name: str) -> str | None:
        """Value of the first header of that name in any case, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @cached_property
    def json(self) -> Any:
        """The body parsed as JSON; raises ValueError if it is not JSON."""
        return json.loads(self.body)

    @property
    def route(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    @cached_property
    def model(self) -> str:
        """The ``model`` of the JSON body, or ``""`` if there is none."""
        with suppress(ValueError):
            if isinstance(self.json, dict):
                return str(self.json.get("model", ""))
        return ""

    @property
    def api_key(self) -> str | None:
        """The bearer token of the Authorization header, or None."""
        scheme, _, token = (self.header("Authorization") or "").partition(" ")
        return token if scheme.lower() == "bearer" else None

    @property
    def is_chat(self) -> bool:
        """Whether it asks a model."""
        return self.method == "POST" and self.route.endswith("/chat/completions")

    @property
    def is_catalog(self) -> bool:
        """Whether it asks for the list of models."""
        return self.method == "GET" and self.route.endswith("/models")


class Connection(ABC):
    """The gateway's end of one connection, as a reply sees it: a socket's, or one that is played in memory."""

    id: int
    """Its number, counted from 0."""
    keep_alive: bool = True
    """Set it to False to have the connection closed after the reply."""
    doomed: bool = False
    """Set it to True to have the connection closed when the next request is in, with no reply."""
    closed: bool = False

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Send exactly these bytes."""

    @abstractmethod
    def wait(self, until: float | Signal | None = None) -> None:
        """Wait some seconds, for a signal, or (with None) until ``Gone`` is raised."""

    @abstractmethod
    def close(self) -> None:
        """Close in the orderly way: the client reads all that was sent, then the end of file."""

    @abstractmethod
    def reset(self) -> None:
        """Break the connection off with a TCP reset."""

    def respond(self, status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send a whole well-formed response; ``headers`` replace the ones set here."""
        length = {} if status in (204, 304) else {"Content-Length": str(len(body))}
        self.send(self.head(status, merged(length, headers)) + body)

    def head(self, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
        """A status line and headers with the blank line, saying if the connection is going to be closed."""
        first = f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"
        fields = merged({} if self.keep_alive else {"Connection": "close"}, headers)
        return "\r\n".join([first, *(f"{k}: {v}" for k, v in fields.items()), "", ""]).encode("latin-1")


class Reply(Protocol):
    """Answers one request: sends what it likes on the connection, then returns."""

    def __call__(self, connection: Connection, request: RecordedRequest, /) -> object: ...


def merged(defaults: Mapping[str, str], given: Mapping[str, str] | None) -> dict[str, str]:
    """Headers with the given ones in the place of defaults of the same name in any case."""
    given = given or {}
    names = {name.lower() for name in given}
    return {**{name: value for name, value in defaults.items() if name.lower() not in names}, **given}
