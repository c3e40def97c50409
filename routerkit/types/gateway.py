"""What routerkit must know of a gateway. The known ones stand in :mod:`routerkit.gateways`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote, urlsplit, urlunsplit

import attrs

from routerkit.errors import ConfigurationError
from routerkit.types.policy import flag, number

FEATURES = frozenset({"models", "plugins", "provider", "reasoning", "route", "transforms", "usage"})
"""Request parameters that ask something of a gateway rather than of a model, so that not every gateway knows them."""

IdFormat: TypeAlias = Literal["any", "author/slug"]
ID_FORMATS = ("any", "author/slug")

_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?")
"""Hosts that are IPv4 addresses to a resolver, some in disguise: 2130706433 and 0x7f.1 mean 127.0.0.1 (WHATWG's URL standard)."""
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")


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
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{name}: host or port is not valid") from None
    if "@" in parts.netloc:
        raise ConfigurationError(f"{name}: must not hold a user or password; pass the key as api_key=")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(
            f"{name}: must begin with https:// (or http:// for a server on this machine) and name a host"
        )
    if _NUMBER.fullmatch(host) and not _is_address(host):
        raise ConfigurationError(f"{name}: an IPv4 address must be written as four decimal numbers, such as 127.0.0.1")
    if not _is_host(host, parts.netloc) or port == 0:
        raise ConfigurationError(f"{name}: host or port is not valid")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{name}: must not have a query or fragment")
    if any(segment in (".", "..") for segment in unquote(parts.path).split("/")):
        raise ConfigurationError(f"{name}: must not have dots for a path segment")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(f"{name}: http:// would send the key in the clear to {host}; use https://")
    netloc = f"[{host}]" if ":" in host else host
    netloc += "" if port is None else f":{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


def _is_host(host: str, netloc: str) -> bool:
    """Whether it is a name or an address, of which every reader makes the same; nothing percent-encoded, no zones."""
    if "[" in netloc:
        try:
            return ipaddress.IPv6Address(host).scope_id is None
        except ValueError:
            return False
    return len(host) <= 253 and _HOST.fullmatch(host) is not None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


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


def _path(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    fits = isinstance(value, str) and re.fullmatch(r"/(?!/)[\x21-\x7e]*", value) and not {"\\", "#"} & {*value}
    if not fits or any(part in (".", "..") for part in unquote(str(value)).split("/")):
        raise ConfigurationError(
            f"Gateway({attribute.name}=…): must begin with one / and be printable ASCII, without dots for a path segment"
        )


def _header(_: object, attribute: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"X-[A-Za-z0-9-]{1,98}", value):
        raise ConfigurationError(f"Gateway({attribute.name}=…): must be a header such as X-Title")


def _one_of(words: Sequence[str]) -> Callable[[object, attrs.Attribute[str], object], None]:
    def check(_: object, attribute: attrs.Attribute[str], value: object) -> None:
        if value not in words:
            raise ConfigurationError(f"Gateway({attribute.name}={value!r}): must be one of {', '.join(words)}")

    return check


def _optional_url(url: str | None) -> str | None:
    return None if url is None else checked_url(url, "details_url") + ("/" if url.endswith("/") else "")


def _prefix(_: object, __: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,99}/)?", value):
        raise ConfigurationError(f"Gateway(id_prefix={value!r}): must be a word and a slash, such as openrouter/")


def _features(value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    features = [*value] if listed else [value]
    if not listed or not all(isinstance(each, str) and each in FEATURES for each in features):
        raise ConfigurationError(f"Gateway(features=…): must be a list of some of {', '.join(sorted(FEATURES))}")
    return frozenset(features)


@attrs.frozen
class Gateway:
    """An OpenAI-compatible service: where it is, and what its habits are.

    ``Gateway(name="local", base_url="http://127.0.0.1:8080/v1")`` describes any compatible server.
    """

    name: str = attrs.field(converter=_checked_name)
    base_url: str = attrs.field(converter=checked_url)
    label: str = ""
    """The name as people write it; ``name`` when empty."""
    catalog_path: str = attrs.field(default="/models", validator=_path)
    """Where the list of models is, below ``base_url``."""
    details_url: str | None = attrs.field(default=None, converter=_optional_url)
    """A second list, public and perhaps on another host, with what the first does not tell. It is asked without a key."""
    prices_per: int = attrs.field(default=1, validator=number(1, 10**9, whole=True))
    """For how many tokens a price of the list below ``catalog_path`` is: 1, or 1000000. Those of the second list are for 1000000,
    in US dollars, as Infron writes them."""
    id_prefix: str = attrs.field(default="", validator=_prefix)
    """A prefix, such as ``openrouter/``, with which other libraries name the gateway in a model id. It is not sent, and an id
    with it is asked of this gateway alone."""
    id_format: IdFormat = attrs.field(default="any", validator=_one_of(ID_FORMATS))
    """What its model ids look like: ``author/slug``, or ``any``. Of several gateways, those whose ids look otherwise are left
    out."""
    features: frozenset[str] | None = attrs.field(default=None, converter=_features)
    """Which of the parameters of ``FEATURES`` it understands; ``None``: nobody knows, so all are sent."""
    key_path: str | None = attrs.field(default=None, validator=attrs.validators.optional(_path))
    """Where it tells about the key that asks, below ``base_url``."""
    credits_path: str | None = attrs.field(default=None, validator=attrs.validators.optional(_path))
    """Where it tells the credits of the account, likewise."""
    key_required: bool = attrs.field(default=False, validator=flag)
    title_header: str | None = attrs.field(default=None, validator=attrs.validators.optional(_header))
    """The header that carries ``app_title``, for gateways that attribute traffic."""
    usage_parameter: bool = attrs.field(default=False, validator=flag)
    """Whether ``usage: {"include": true}`` makes its answers tell their cost."""
    ca_file: str | None = None
    """A PEM file of certificate authorities to trust besides the usual ones, for gateways inside a company."""
    block_private: bool = attrs.field(default=False, validator=flag)
    """Whether to connect to public addresses only, for a base URL that comes from your users: what resolves to this machine, to
    your network or to a cloud's metadata is not connected to (`address_not_allowed`). Excludes proxies, which resolve names."""
    insures_failures: bool = attrs.field(default=False, validator=flag)
    """Whether answers that are empty or end in an error are never billed (OpenRouter's zero-completion insurance)."""

    @property
    def chat_url(self) -> str:
        return f"{self.base_url}/chat/completions"

    @property
    def catalog_url(self) -> str:
        return f"{self.base_url}{self.catalog_path}"

    @property
    def needs_key(self) -> bool:
        """Whether nothing works without a key: not so on this machine, where a stand-in may be listening."""
        return self.key_required and not is_loopback(urlsplit(self.base_url).hostname or "")

    def local_id(self, model: str) -> str:
        """A model id as this gateway knows it: without the redundant prefix. ``openrouter/auto`` is no prefixed id."""
        bare = model.removeprefix(self.id_prefix)
        return bare if bare and (self.id_format == "any" or "/" in bare) else model

    def knows_format(self, model: str) -> bool:
        """Whether a model id looks like one of this gateway's."""
        return self.id_format == "any" or ("/" in model and "@" not in model)
