"""What routerkit must know of a gateway. The known ones stand in :mod:`routerkit.gateways`."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit, urlunsplit

import attrs

from routerkit.errors import ConfigurationError


def checked_url(url: object, name: str = "base_url") -> str:
    """An absolute URL without user, query or fragment; https, unless the host is loopback. No trailing slash.

    Raises ConfigurationError; the message repeats nothing of a URL that may hold a password.
    """
    if not isinstance(url, str) or not re.fullmatch(r"[\x21-\x7e]+", url.strip()) or "\\" in url:
        raise ConfigurationError(
            f"{name}: must be a URL of printable ASCII characters, such as https://openrouter.ai/api/v1"
        )
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{name}: host or port is not valid") from None
    if "@" in parts.netloc:
        raise ConfigurationError(f"{name}: must not hold a user or password; pass the key as api_key=")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(
            f"{name}: must begin with https:// (or http:// for a server on this machine) and name a host"
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{name}: must not have a query or fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(f"{name}: http:// would send the key in the clear to {host}; use https://")
    return urlunsplit((parts.scheme, parts.netloc.lower(), parts.path.rstrip("/"), "", ""))


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_name(name: object) -> str:
    if isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9._:\[\]-]{1,100}", name):
        return name
    raise ConfigurationError(f"Gateway(name={name!r}): must be 1 to 100 letters, digits or . _ : -")


@attrs.frozen
class Gateway:
    """An OpenAI-compatible service: where it is, and what its habits are.

    ``Gateway(name="local", base_url="http://127.0.0.1:8080/v1")`` describes any compatible server.
    """

    name: str = attrs.field(converter=_checked_name)
    base_url: str = attrs.field(converter=checked_url)
    label: str = ""
    """The name as people write it; ``name`` when empty."""
    catalog_path: str = "/models"
    """Where the list of models is, below ``base_url``."""
    key_required: bool = False
    title_header: str | None = None
    """The header that carries ``app_title``, for gateways that attribute traffic."""
    usage_parameter: bool = False
    """Whether ``usage: {"include": true}`` makes its answers tell their cost."""
    ca_file: str | None = None
    """A PEM file of certificate authorities to trust besides the usual ones, for gateways inside a company."""
    insures_failures: bool = False
    """Whether answers that are empty or end in an error are never billed (OpenRouter's zero-completion insurance)."""

    @property
    def chat_url(self) -> str:
        return f"{self.base_url}/chat/completions"

    @property
    def catalog_url(self) -> str:
        return f"{self.base_url}{self.catalog_path}"
