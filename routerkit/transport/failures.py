"""What both transports share: building their failures so that no key can travel in them."""

from __future__ import annotations

from typing import TypeVar

from routerkit.core.effects import Failure, HttpRequest, TransportFailure
from routerkit.types.secret import origin_of
from routerkit.types.verdict import Sent

KEEPALIVE_IDLE = 15.0
"""Seconds after which an idle connection is not used again: well below the 60 s after which load balancers drop it."""
READ_SIZE = 65_536

E = TypeVar("E", bound=BaseException)


def authorization(request: HttpRequest) -> dict[str, str]:
    """The key's header, for the one origin that may see it."""
    credential = request.credential
    if credential is None:
        return {}
    if origin_of(request.url) != credential.origin:
        raise TransportFailure(Failure.LOCAL, Sent.NOT_SENT, detail="the key belongs to another host")
    return {"Authorization": credential.header}


def name_of(error: BaseException) -> str:
    """The class of the innermost cause: short, and free of headers, URLs and bodies."""
    seen = error
    for _ in range(8):
        inner = getattr(seen, "reason", None) or seen.__cause__ or next(iter(seen.args), None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
    return type(seen).__name__
