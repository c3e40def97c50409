"""Where a Redis is, read from a URL. A password goes in and never shows again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from routerkit.errors import ConfigurationError
from routerkit.types.secret import RedactedStr

FORMS = (
    "redis://host:6379/0, rediss://host:6379/0, unix:///path/to/socket?db=0, redis+sentinel://host:26379,host:26379/service?db=0, "
    "redis+cluster://host:6379,host:6379"
)
_SCHEMES: Mapping[str, tuple[str, bool]] = {
    "redis": ("server", False),
    "rediss": ("server", True),
    "unix": ("socket", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_PORTS = {"server": 6379, "cluster": 6379, "sentinel": 26379}
_OPTIONS = {
    "server": {"db", "ssl_ca_certs"},
    "socket": {"db"},
    "sentinel": {"db", "ssl_ca_certs", "sentinel_username", "sentinel_password"},
    "cluster": {"ssl_ca_certs"},
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?")


@attrs.frozen
class Login:
    """User name, or ``None``, and password."""

    user: str | None = attrs.field(repr=False)
    password: str = attrs.field(repr=False)

    def __reduce__(self) -> str:
        raise TypeError("a Login cannot be pickled or copied")


@attrs.frozen
class Address:
    """See :func:`address_of`."""

    kind: str
    """``server``, ``socket``, ``sentinel`` or ``cluster``."""
    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    """Of a sentinel or a cluster there may be several."""
    path: str = ""
    """Of a socket."""
    service: str = ""
    """What a sentinel knows the server by."""
    db: int = 0
    ca_file: str | None = None
    login: Login | None = None
    sentinel_login: Login | None = None

    def __str__(self) -> str:
        """As people read it; without the login."""
        if self.kind == "socket":
            return f"unix://{self.path}?db={self.db}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        scheme = "rediss" if self.tls else "redis"
        if self.kind == "server":
            return f"{scheme}://{hosts}/{self.db}"
        tail = f"/{self.service}?db={self.db}" if self.kind == "sentinel" else ""
        return f"{scheme}+{self.kind}://{hosts}{tail}"


def address_of(url: str) -> Address:
    """The address in a URL: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://host,host/service``,
    ``redis+cluster://host,host``; ``rediss+…`` for the last two with TLS.

    ``user:password@`` stands before the hosts, percent-encoded where needed. Raises ConfigurationError, which repeats nothing of
    the URL but its scheme and the names of its options, and whose frames show no password where the caller's do not.
    """
    try:
        return _address(RedactedStr(url))
    except ConfigurationError as error:
        refused = error
    del url  # error trackers show the locals of frames
    refused.__traceback__ = refused.__context__ = None
    raise refused


def _address(url: str) -> Address:
    if not isinstance(url, str):
        raise ConfigurationError(f"store: must be a URL, not {type(url).__name__}")
    scheme, found, rest = url.partition("://")
    if not found or scheme not in _SCHEMES:
        raise ConfigurationError(f"store: not a URL of a Redis (known: {FORMS})")
    kind, tls = _SCHEMES[scheme]
    try:
        parts = urlsplit("x://" + rest)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise _refused(scheme, "is not a readable URL") from None
    if parts.fragment:
        raise _refused(scheme, "'#' must be written %23")
    options = dict(pairs)
    unknown = sorted(options.keys() - _OPTIONS[kind])
    if unknown or len(options) != len(pairs):
        known = ", ".join(sorted(_OPTIONS[kind]))
        raise _refused(scheme, f"an option that is unknown or given twice (known: {known})")
    login, hosts = _split_login(scheme, parts.netloc)
    path = unquote(parts.path)
    address = Address(
        kind,
        tls,
        hosts=() if kind == "socket" else _hosts(scheme, hosts, _PORTS[kind]),
        path=path if kind == "socket" else "",
        service=path.strip("/") if kind == "sentinel" else "",
        db=_db(scheme, options.get("db"), path.strip("/") if kind == "server" else ""),
        ca_file=_file(scheme, options.get("ssl_ca_certs")),
        login=login,
        sentinel_login=_login(options.get("sentinel_username"), options.get("sentinel_password")),
    )
    _check(scheme, address, hosts, path)
    return address


def _check(scheme: str, address: Address, hosts: str, path: str) -> None:
    if address.kind == "socket" and (hosts or not path.startswith("/")):
        raise _refused(scheme, "needs the absolute path of a socket: unix:///path/to/socket")
    if address.kind == "server" and len(address.hosts) != 1:
        raise _refused(scheme, "needs one host")
    if address.kind == "sentinel" and not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", address.service):
        raise _refused(scheme, "needs the name of the service: redis+sentinel://host:26379/service")
    if address.kind == "cluster" and path.strip("/"):
        raise _refused(scheme, "a cluster has no numbered databases")
    if address.ca_file is not None and not address.tls:
        raise _refused(scheme, "ssl_ca_certs is for rediss://")


def _split_login(scheme: str, netloc: str) -> tuple[Login | None, str]:
    login, found, hosts = netloc.rpartition("@")
    if "@" in login:
        raise _refused(scheme, "'@' in a password must be written %40")
    user, _, password = login.partition(":")
    if found and not password:
        raise _refused(scheme, "a login needs a password: user:password@ or :password@")
    return _login(unquote(user), unquote(password)), hosts


def _login(user: str | None, password: str | None) -> Login | None:
    return Login(user or None, RedactedStr(password)) if password else None


def _hosts(scheme: str, text: str, port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        if match is None or not 0 < int(match[2] or port) < 65536:
            raise _refused(scheme, "needs hosts as host:port, with commas between them where there may be several")
        hosts.append((str(match[1]).strip("[]"), int(match[2] or port)))
    return tuple(hosts)


def _db(scheme: str, option: str | None, path: str) -> int:
    if option is not None and path:
        raise _refused(scheme, "the database is given twice")
    text = option if option is not None else path or "0"
    if not re.fullmatch(r"[0-9]{1,5}", text):
        raise _refused(scheme, "the database must be a number")
    return int(text)


def _file(scheme: str, path: str | None) -> str | None:
    if path is not None and not Path(path).is_file():
        raise _refused(scheme, "ssl_ca_certs: no such file")
    return path


def _refused(scheme: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"store: {scheme}://…: {why}")
