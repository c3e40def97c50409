"""What both transports share: where a request goes and with which key, when a connection is fit, failures without a key."""

from __future__ import annotations

import errno
import select
import ssl
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from routerkit.core.effects import Failure, HttpRequest, TransportFailure
from routerkit.types.secret import origin_of
from routerkit.types.verdict import Sent

KEEPALIVE_IDLE = 15.0
"""Seconds after which an idle connection is not used again: well below the 60 s after which load balancers drop it."""
READ_SIZE = 65_536

_EXHAUSTED = frozenset({errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL})


class Destination(NamedTuple):
    """What a URL tells a transport."""

    origin: str
    host: str
    """For the ``Host`` header."""
    target: str
    """What follows the origin."""


@lru_cache(maxsize=256)
def destination(url: str) -> Destination:
    parts = urlsplit(url)
    origin = origin_of(url)
    host = origin.partition("://")[2].removesuffix(":443" if parts.scheme == "https" else ":80")
    return Destination(origin, host, urlunsplit(("", "", parts.path or "/", parts.query, "")))


def headers_of(request: HttpRequest, encoding: str) -> dict[str, str]:
    """A request's headers with the encoding that is accepted, and with the key, for the one origin that may see it.

    Raises TransportFailure when the request goes elsewhere.
    """
    headers = {**request.headers, "Accept-Encoding": encoding}
    credential = request.credential
    if credential is not None:
        if destination(request.url).origin != credential.origin:
            raise TransportFailure(Failure.LOCAL, Sent.NOT_SENT, detail="the key belongs to another host")
        headers["Authorization"] = credential.header
    return headers


def is_readable(sock: Any) -> bool:
    """Whether bytes, or the end of the connection, are waiting on a socket."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])


def is_local(error: BaseException) -> bool:
    """Whether it was this process that had no memory, file descriptor, port or thread left."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) in _EXHAUSTED


def name_of(error: BaseException) -> str:
    """The class of the innermost cause, with what TLS found wrong: short, and free of headers, URLs and bodies."""
    seen = error
    for _ in range(8):
        inner = getattr(seen, "reason", None) or seen.__cause__ or next(iter(seen.args), None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    told = getattr(seen, "verify_message", None) or seen.reason if isinstance(seen, ssl.SSLError) else None
    return f"{type(seen).__name__}: {told}" if told else type(seen).__name__
