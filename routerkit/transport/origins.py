"""Where one client may connect, and how: a table by origin, drawn up from its gateways once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

from routerkit.core.effects import Failure, TransportFailure
from routerkit.errors import ConfigurationError
from routerkit.transport.proxies import proxy_for
from routerkit.types.gateway import Gateway
from routerkit.types.secret import origin_of
from routerkit.types.verdict import Sent

if TYPE_CHECKING:
    import ssl


@attrs.frozen
class Origin:
    """How connections to one origin are made. What holds for one holds for no other."""

    url: str
    """Scheme, host and port, as :func:`origin_of` gives them."""
    gateway: str
    """The name of the first gateway that is there."""
    ca_file: str | None
    block_private: bool
    proxy: str | None = attrs.field(default=None, repr=False)
    """It may hold a password."""


class Origins:
    """The origins of a client's gateways: of their base URLs and of their second lists."""

    def __init__(self, gateways: Sequence[Gateway]) -> None:
        """Asks the environment for proxies.

        Raises ConfigurationError for a proxy that cannot be used, and for two gateways at one origin that trust different
        authorities.
        """
        table: dict[str, Origin] = {}
        for gateway in gateways:
            for url in _urls(gateway):
                found = _origin(gateway, url)
                table[found.url] = _merged(table.get(found.url, found), found)
        self._table = {url: _with_proxy(origin) for url, origin in table.items()}
        self._contexts: dict[str | None, ssl.SSLContext] = {}

    def at(self, url: str) -> Origin:
        """The origin of that name. Raises TransportFailure when no gateway is there."""
        origin = self._table.get(url)
        if origin is None:
            raise TransportFailure(Failure.LOCAL, Sent.NOT_SENT, detail="no gateway of this client is there")
        return origin

    def tls(self, origin: Origin) -> ssl.SSLContext | None:
        """What its certificates are verified with; ``None`` where there is no TLS.

        Made when it is first needed, and shared by those who trust the same. Raises ConfigurationError for an unreadable
        ``ca_file``.
        """
        if not origin.url.startswith("https:"):
            return None
        context = self._contexts.get(origin.ca_file)
        if context is None:
            from routerkit.transport.tls import tls_context

            context = self._contexts[origin.ca_file] = tls_context(origin.ca_file)
        return context


def _urls(gateway: Gateway) -> Iterable[str]:
    yield gateway.base_url
    if gateway.details_url is not None:
        yield gateway.details_url


def _origin(gateway: Gateway, url: str) -> Origin:
    return Origin(origin_of(url), gateway.name, gateway.ca_file, gateway.block_private)


def _merged(first: Origin, second: Origin) -> Origin:
    """Two gateways at one origin share its connections, so the stricter holds for both."""
    if first.ca_file != second.ca_file:
        raise ConfigurationError(
            f"gateways {first.gateway!r} and {second.gateway!r} share {first.url} but not their ca_file: give both the same"
        )
    return attrs.evolve(first, block_private=first.block_private or second.block_private)


def _with_proxy(origin: Origin) -> Origin:
    return attrs.evolve(origin, proxy=proxy_for(origin.url, block_private=origin.block_private))
