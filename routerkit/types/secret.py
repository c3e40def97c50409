"""A key, held so that it cannot be printed, pickled or sent to a host that it was not meant for."""

from __future__ import annotations

import hashlib
import re
from typing import NoReturn, SupportsIndex
from urllib.parse import urlsplit

_KEY = re.compile(r"[\x21-\x7e]{8,512}")


class RedactedStr(str):
    """A header value that transports can send as any other string but that no repr, traceback or log shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'<redacted>'"

    def __getitem__(self, index: SupportsIndex | slice) -> str:
        return RedactedStr(super().__getitem__(index))  # what is cut short to be shown


class Secret:
    """An API key. Only :meth:`reveal` gives it out; ``repr``, ``str`` and ``format`` show a fingerprint."""

    __slots__ = ("_value", "fingerprint")

    def __init__(self, value: str) -> None:
        """Strip outer whitespace (keys come from files) and validate.

        Raises ValueError when what is left is not 8 to 512 printable ASCII characters without blanks; the message shows
        the fingerprint only.
        """
        self._value = RedactedStr(value.strip())  # so that no frame of a traceback shows it either
        self.fingerprint = hashlib.sha256(self._value.encode("utf-8", "surrogatepass")).hexdigest()[:6]
        """Six hexadecimal digits of the key's SHA-256: enough to tell two keys apart in a log."""
        if not _KEY.fullmatch(self._value):
            raise ValueError(
                f"not a valid API key: it must be 8 to 512 printable ASCII characters without blanks ({self!r})"
            )

    def reveal(self) -> str:
        """The key itself. Call it where the bytes leave the process, and nowhere else."""
        return self._value

    def conceal(self, text: str) -> str:
        """The text without this key: gateways may quote what they refuse."""
        return text.replace(self._value, "<redacted>")

    def __repr__(self) -> str:
        return f"Secret(…{self.fingerprint})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")


class Credential:
    """A key bound to the one origin (scheme, host and port) that may see it."""

    __slots__ = ("header", "origin", "secret")

    def __init__(self, secret: Secret, url: str) -> None:
        self.secret = secret
        self.origin = origin_of(url)
        self.header = RedactedStr("Bearer " + secret.reveal())

    def __repr__(self) -> str:
        return f"Credential({self.secret!r}, {self.origin!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Credential cannot be pickled or copied")


def origin_of(url: str) -> str:
    """``scheme://host:port`` of an absolute http(s) URL, in lower case, the port always explicit."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
