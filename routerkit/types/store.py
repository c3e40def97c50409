"""Where counts live that several processes share, as a client is told it. A password goes in and does not show again."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, NoReturn, cast

import attrs

from routerkit.errors import ConfigurationError
from routerkit.types.limits import AN_AMOUNT, amount, is_amount
from routerkit.types.secret import REPEATED, RedactedStr

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
"""How the URL of a store begins."""
MAX_WORKERS = 10**6

_URL = re.compile(rf"(?:{'|'.join(map(re.escape, SCHEMES))})://[\x21-\x7e]+")
_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?"
# Scheme, and hosts or path. Where an "@" stands behind these they may be a part of a password, and the URL is not shown.
_SHOWN = re.compile(rf"([a-z+]+://)(?:[^@/?#]*@)?({_HOST}(?:,{_HOST})*|/[^@?#]+)(?:[/?#][^@]*)?")


def checked_store_url(url: object, name: str, others: str = "") -> RedactedStr:
    """The URL of a store, hidden, if it is a text that begins like one; the store itself reads the rest.

    ``name`` is the argument's and ``others`` what else it can be, for errors.
    Raises ConfigurationError, which repeats nothing of the URL, and whose frame shows none.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"{name}: must be {others}a URL, not {type(url).__name__}")
    url = RedactedStr(url)
    if not _URL.fullmatch(url):
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ConfigurationError(
            f"{name}: must be {others}a URL of printable ASCII characters without blanks that begins with one of {known}, "
            "such as redis://localhost:6379/0"
        )
    return url


def checked_namespace(namespace: str) -> str:
    """A namespace as it was given. Raises ConfigurationError, which does not repeat what may be a URL or key in the wrong place."""
    fits = isinstance(namespace, str) and 0 < len(namespace) <= 200 and namespace.isprintable()
    if not fits or "://" in namespace or (namespace.startswith("sk-") and len(namespace) > REPEATED):
        raise ConfigurationError(
            "SharedStore(namespace=…): must be a text of 1 to 200 printable characters, and no URL or key"
        )
    return namespace


def checked_workers(workers: int) -> int:
    """A number of processes as it was given. Raises ConfigurationError."""
    if not isinstance(workers, int) or isinstance(workers, bool) or not 0 < workers <= MAX_WORKERS:
        raise ConfigurationError(f"SharedStore(workers=…): must be a whole number from 1 to {MAX_WORKERS}")
    return workers


def checked_allowance(usd: str | float | Decimal) -> Decimal:
    """An amount, as :class:`routerkit.types.limits.Budget` reads it. Raises ConfigurationError."""
    allowance = amount(usd)
    if not is_amount(allowance):
        raise ConfigurationError(f"SharedStore(offline_allowance=…): must be {AN_AMOUNT}")
    return cast("Decimal", allowance)


def _checked(given: list[Any]) -> tuple[RedactedStr, str, int, Decimal]:
    """URL, namespace, workers and allowance, taken out of the list: a password may stand in any of them."""
    url, namespace, workers, usd = given
    given.clear()
    try:
        return (
            checked_store_url(url, "SharedStore(url=…)"),
            checked_namespace(namespace),
            checked_workers(workers),
            checked_allowance(usd),
        )
    except ConfigurationError as error:
        refused = error
    del url, namespace, workers, usd
    refused.__traceback__ = refused.__context__ = None
    raise refused


@attrs.frozen(init=False, repr=False)
class SharedStore:
    """A Redis or Valkey that counts limits and budgets for all processes that use it: ``SharedStore("redis://localhost:6379/0")``.

    No password shows in its ``repr``; it cannot be pickled or copied. Raises ConfigurationError.
    """

    _url: RedactedStr = attrs.field(alias="url", repr=False)
    namespace: str
    """Those who share it share their limits: two applications, or two environments, on one server need two."""
    workers: int
    """How many processes share the limits: while the store is lost, each of them admits that part of every limit by itself."""
    offline_allowance: Decimal
    """US dollars that each process may spend of any one budget while the store is lost; then what costs money is refused."""

    def __init__(
        self,
        url: str,
        namespace: str = "routerkit",
        workers: int = 1,
        offline_allowance: str | float | Decimal = "1",
    ) -> None:
        """``url``: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``, ``redis+cluster://``; see "The store" in the
        configuration reference."""
        given = [url, namespace, workers, offline_allowance]
        del url, namespace, workers, offline_allowance  # error trackers show the locals of frames
        self.__attrs_init__(*_checked(given))

    @property
    def address(self) -> str:
        """Scheme and hosts, or the path of the socket, as people may read them; without the rest."""
        match = _SHOWN.fullmatch(self._url)
        return match[1] + match[2] if match else self._url.partition("://")[0] + "://…"

    def reveal(self) -> str:
        """The URL itself, password included. Call it where the store is made, and nowhere else."""
        return self._url

    def __repr__(self) -> str:
        address = getattr(self, "_url", None) and self.address  # none, if it could not be made
        shown = (f"{each.name}={getattr(self, each.name, None)!r}" for each in attrs.fields(SharedStore) if each.repr)
        return f"SharedStore({', '.join([repr(address), *shown])})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SharedStore cannot be pickled or copied")


@attrs.frozen
class StoreReport:
    """What the server that counts for many processes went through, as this process saw it."""

    lost: bool
    """Whether it is taken for lost now: then this process decides alone."""
    losses: int
    """How often it was."""
    degraded: int
    """Decisions that this process made alone."""
    added: int
    """Batches of such decisions that the server was told of when it was back."""
    resets: int
    """Counts that the server had lost, and that went on from what was remembered."""
    replaced: int
    """Unreadable values under our keys."""
    dropped: int
    """Settlements that waited in vain."""
