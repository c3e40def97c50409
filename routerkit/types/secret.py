"""A key, held so that it cannot be printed, pickled or sent to a host that it was not meant for; and how keys are read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn, SupportsIndex, TypeAlias
from urllib.parse import urlsplit

from routerkit.errors import ConfigurationError

_KEY = re.compile(r"[\x21-\x7e]{1,512}")
_QUOTES = "\"'`"

SHORTEST = 8
"""Characters of a key that opens anything: a shorter one was cut off, or stands in for one where none is asked for."""
REPEATED = 20
"""Characters of a value that an error may repeat: a longer one may be a key that went into the wrong place."""

_HUGE = 10**100
"""Nobody reads such a number, and of one that is much longer Python makes no text."""


def shown(value: object) -> str:
    """A value as errors repeat it: what may be a key is not."""
    if not isinstance(value, str):
        if isinstance(value, int) and abs(value) >= _HUGE:
            return "…"
        return repr(value) if value is None or isinstance(value, (int, float)) else f"a {type(value).__name__}"
    fits = len(value) <= REPEATED and value.isprintable() and not value.lower().startswith("sk-")
    return f"'{value}'" if fits else "…"


def is_like_a_key(text: str) -> bool:
    """Whether it may be a key that went into the wrong place."""
    return text.startswith("sk-") and len(text) > REPEATED


def listed(names: Sequence[str]) -> str:
    """Names as errors list them, and not all of them where they are many."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


class RedactedStr(str):
    """A header value that transports can send as any other string but that no repr, traceback or log shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'<redacted>'"

    def __getitem__(self, index: SupportsIndex | slice) -> str:
        return RedactedStr(super().__getitem__(index))  # what is cut short to be shown


class Secret:
    """An API key. Only :meth:`reveal` gives it out; ``repr``, ``str`` and ``format`` show a fingerprint."""

    __slots__ = ("_value", "digest", "fingerprint")

    def __init__(self, value: str) -> None:
        """Strip outer whitespace (keys come from files) and validate.

        Raises ValueError when what is left is not 1 to 512 printable ASCII characters without blanks, or stands in quotes; the
        message shows the fingerprint only.
        """
        self._value = RedactedStr(value.strip())  # so that no frame of a traceback shows it either
        self.digest = hashlib.sha256(self._value.encode("utf-8", "surrogatepass")).hexdigest()
        """The key's SHA-256 in hexadecimal: what names a key where it must not stand itself, as in a store."""
        self.fingerprint = self.digest[:6]
        """Its first six digits: enough to tell two keys apart in a log."""
        if not _KEY.fullmatch(self._value):
            raise ValueError(
                f"not a valid API key: it must be 1 to 512 printable ASCII characters without blanks ({self!r})"
            )
        if self._value[0] in _QUOTES or self._value[-1] in _QUOTES:  # `docker run --env-file` keeps them
            raise ValueError(
                f"not a valid API key: it has quotes around it, which would be sent; take them out ({self!r})"
            )

    @property
    def short(self) -> bool:
        """Whether it is too short to be a key, as the words that servers on one's own machine are content with are."""
        return len(self._value) < SHORTEST

    def reveal(self) -> str:
        """The key itself. Call it where the bytes leave the process, and nowhere else."""
        return self._value

    def conceal(self, text: str) -> str:
        """The text without this key: gateways may quote what they refuse. A word such as ``test`` may stay."""
        word = self.short and not self._value.startswith("sk-")
        return text if word else text.replace(self._value, "<redacted>")

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


Keys: TypeAlias = tuple[Secret, ...] | dict[str, tuple[Secret, ...]]
"""Keys in the order in which they were given, each once; or the same by gateway."""


def keys_of(value: object, name: str) -> Keys:
    """Keys given as a string, as a list of strings, or as a mapping from gateway name to either; a Secret serves for a string.

    ``name`` is the argument's, for errors. Raises ConfigurationError, whose frames show no key as long as its caller has no
    local with the value in it: ``keys_of(given.pop(), "api_key")``.
    """
    try:
        return _by_gateway(value, name) if isinstance(value, Mapping) else _several(value, name)
    except ConfigurationError as error:
        refused = error
    del value  # error trackers show the locals of frames, and those below hold keys
    refused.__traceback__ = refused.__context__ = None
    raise refused


def keys_from_text(text: str, name: str) -> tuple[Secret, ...]:
    """Keys between commas, as environment variables hold them. Raises ConfigurationError, as :func:`keys_of` does."""
    given = [part for part in text.split(",") if part.strip()]
    try:
        return _several(given[0] if len(given) == 1 else given, name)
    except ConfigurationError as error:
        refused = error
    del text, given
    refused.__traceback__ = refused.__context__ = None
    raise refused


def _by_gateway(value: Mapping[object, object], name: str) -> dict[str, tuple[Secret, ...]]:
    if not value:
        raise ConfigurationError(f"{name}: the dict is empty")
    keys: dict[str, tuple[Secret, ...]] = {}
    for gateway, each in value.items():
        if not isinstance(gateway, str):
            raise ConfigurationError(f"{name}: must go from gateway name to key, not from {type(gateway).__name__}")
        keys[gateway] = _several(each, f"{name}[{shown(gateway)}]")
    return keys


def _several(value: object, name: str) -> tuple[Secret, ...]:
    if isinstance(value, (str, Secret)):
        return (_secret(value, name),)
    if not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray, memoryview)):
        raise ConfigurationError(f"{name}: must be a string, not {type(value).__name__}; or a list of strings")
    if not value:
        raise ConfigurationError(f"{name}: holds no key")
    return tuple(dict.fromkeys(_secret(each, f"{name}[{place}]") for place, each in enumerate(value)))


def _secret(value: object, name: str) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}: must be a string, not {type(value).__name__}")
    if "," in value:  # no gateway's key has one, and variables part keys by it
        raise ConfigurationError(f"{name}: has a comma in it: several keys are a list")
    try:
        return Secret(value)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None


def origin_of(url: str) -> str:
    """``scheme://host:port`` of an absolute http(s) URL, in lower case, the port always explicit."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
