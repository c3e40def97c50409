"""Bodies: what was compressed is opened, within a limit."""

from __future__ import annotations

import zlib

from routerkit.core.effects import Failure, TransportFailure
from routerkit.types.verdict import Sent

_GZIP = 31
"""zlib's window bits for gzip with its header."""


def decoded(data: bytes, encoding: str | None, limit: int, status: int) -> bytes:
    """The body as it was before compression. Raises TransportFailure when it is cut, foreign, or larger than ``limit``.

    Stacked encodings are foreign: each of them could multiply the size.
    """
    encoding = encoding.strip().lower() if encoding else "identity"
    if not data or encoding == "identity":
        return data
    if encoding not in ("gzip", "x-gzip"):
        raise _failure(Failure.MALFORMED, "content-encoding", status)
    opener = zlib.decompressobj(_GZIP)
    try:
        opened = opener.decompress(data, limit + 1)
    except zlib.error:
        raise _failure(Failure.TRUNCATED, "gzip", status) from None
    if len(opened) > limit:
        raise _failure(Failure.TOO_LARGE, "decompressed", status)
    if not opener.eof:
        raise _failure(Failure.TRUNCATED, "gzip", status)
    return opened


def _failure(failure: Failure, detail: str, status: int) -> TransportFailure:
    return TransportFailure(failure, Sent.RESPONDED, detail=detail, status=status)
