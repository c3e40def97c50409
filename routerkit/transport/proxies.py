"""The proxy that the environment names, looked up once, when a client is made."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from routerkit.types.gateway import is_loopback


def proxy_for(url: str) -> str | None:
    """The proxy for a gateway (``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``); none for this machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return proxy or None
