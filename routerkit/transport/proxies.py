"""The proxy that the environment names, looked up once for each gateway, when a client first connects."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from routerkit.errors import ConfigurationError
from routerkit.types.gateway import is_loopback


def proxy_for(url: str, *, block_private: bool = False) -> str | None:
    """The proxy for a gateway (``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``); none for this machine itself.

    Raises ConfigurationError for one that is not spoken to in HTTP, such as ``socks5://``, and for any with ``block_private``.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    if block_private:
        del proxy, proxies  # error trackers show the locals of frames, and these may hold a password
        raise ConfigurationError(
            "Gateway(block_private=True): HTTPS_PROXY or ALL_PROXY names a proxy, which looks up addresses itself, so they cannot"
            f" be checked; list {host} in NO_PROXY, or have the proxy refuse private addresses"
        )
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    scheme = urlsplit(proxy).scheme
    if scheme not in ("http", "https"):
        del proxy, proxies
        raise ConfigurationError(f"HTTPS_PROXY or ALL_PROXY: {scheme}:// is not supported; name an http:// proxy")
    return proxy
