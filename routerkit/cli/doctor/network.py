"""The section "network": proxies, names, connections, TLS; for each origin of the gateways, step by step."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import attrs

from routerkit.cli.doctor.access import SOON
from routerkit.cli.doctor.check import (
    CONFIGURATION,
    CONNECTION,
    Check,
    failed,
    ok,
    skipped,
    warning,
)
from routerkit.cli.doctor.subject import Subject
from routerkit.cli.doctor.wire import ProxyRefusedError, Wire, certificate_seen, is_address, names_in
from routerkit.cli.render import seconds
from routerkit.errors import ConfigurationError
from routerkit.transport.addresses import AddressNotAllowedError
from routerkit.transport.failures import name_of
from routerkit.transport.origins import Origin, Origins
from routerkit.types.gateway import is_loopback
from routerkit.types.secret import origin_of

NOT_READ = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that other programs look for authorities in."""


def checks(subject: Subject) -> Iterator[Check]:
    if subject.obstacle:
        yield skipped("network", subject.obstacle)
        return
    try:
        subject.origins = origins = Origins(subject.gateways)
        table = {url: origins.at(url) for url in _urls(subject)}
    except ConfigurationError as error:
        subject.obstacle = "the proxy cannot be used"
        yield failed("proxy", str(error), "correct HTTPS_PROXY, or unset it", CONFIGURATION)
        return
    if any(url.startswith("https:") for url in table):
        yield _authorities()
    for url, origin in table.items():
        yield from _Journey(subject, origins, origin).checks(url)


def _urls(subject: Subject) -> list[str]:
    urls = [url for gateway in subject.gateways for url in (gateway.base_url, gateway.details_url) if url is not None]
    return list(dict.fromkeys(map(origin_of, urls)))


def _authorities() -> Check:
    import certifi

    version = getattr(certifi, "__version__", "unknown")
    seen = [name for name in NOT_READ if os.environ.get(name)]
    aside = f"; not read: {', '.join(seen)} (Gateway(ca_file=) adds others)" if seen else ""
    return ok("authorities", f"those of certifi {version}{aside}", certifi=version, not_read=seen)


# --- proxies ---


def _proxy(origin: Origin, wire: Wire) -> Check:
    """Which proxy stands before an origin, and why, without its login."""
    name, host = f"{wire.label}: proxy", wire.host
    if origin.proxy is not None:
        named, login = _variable(origin.proxy), "" if urlsplit(origin.proxy).username is None else ", with a login"
        where = shown_proxy(urlsplit(origin.proxy))
        return ok(name, f"{where} ({named}{login})", proxy=where, variable=named)
    if is_loopback(host):
        return ok(name, "none: it is this machine", proxy=None)
    proxies = getproxies()
    excepted = bool(proxies.get("https") or proxies.get("all")) and proxy_bypass(host)
    return ok(name, "none: NO_PROXY lists it" if excepted else "none", proxy=None)


def shown_proxy(parts: SplitResult) -> str:
    """A proxy without its login."""
    host = parts.hostname or ""
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def _variable(proxy: str) -> str:
    """The variable that names a proxy; the lower-case name wins, as in the standard library."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        value = os.environ.get(name)
        if value and proxy.endswith(value):
            return name
    return "the system's settings"


# --- step by step ---


@attrs.define(eq=False)
class _Journey:
    """The way to one origin. The first step that fails ends it."""

    subject: Subject
    origins: Origins
    origin: Origin
    wire: Wire = attrs.field(init=False)
    stopped: str = ""
    """The step that failed."""

    def checks(self, url: str) -> Iterator[Check]:
        try:
            context = self.origins.tls(self.origin)
            self.wire = Wire(self.origin, context, self.subject.seconds)
        except (ConfigurationError, ValueError) as error:
            told = str(error) if isinstance(error, ConfigurationError) else "the proxy's URL cannot be read"
            self.subject.closed[url] = "its settings cannot be used"
            yield failed(f"{urlsplit(url).hostname}", told, "correct it", CONFIGURATION)
            return
        yield _proxy(self.origin, self.wire)
        try:
            yield from self._steps(secured=context is not None)
        finally:
            self.wire.close()
        if self.stopped:
            self.subject.closed[url] = f"{self.wire.label} cannot be reached ({self.stopped})"

    def _steps(self, *, secured: bool) -> Iterator[Check]:
        wire = self.wire
        yield self._made("name", wire.resolve, self._resolved)
        yield self._made("connection", wire.connect, self._connected)
        if wire.proxy is not None:
            yield self._made("tunnel", wire.tunnel, lambda _: (f"the proxy connects to {wire.host}", {}))
        if secured:
            yield self._secured()

    def _made(self, step: str, act: Callable[[], Any], tell: Callable[[Any], tuple[str, dict[str, Any]]]) -> Check:
        name = f"{self.wire.label}: {step}"
        if self.stopped:
            return skipped(name, f"the step before failed ({self.stopped})")
        began = time.monotonic()
        try:
            found = act()
        except OSError as error:
            return self._failed(step, error)
        except AddressNotAllowedError as error:
            self.stopped = step
            return failed(name, str(error), "Gateway(block_private=True) allows public addresses only", CONNECTION)
        took = time.monotonic() - began
        told, facts = tell(found)
        return ok(name, f"{told}, {seconds(took)}", seconds=took, **facts)

    def _resolved(self, addresses: list[str]) -> tuple[str, dict[str, Any]]:
        if is_address(self.wire.next_host):
            return "an address, nothing to look up", {"addresses": addresses}
        more = f" and {len(addresses) - 2} more" if len(addresses) > 2 else ""
        return f"{self.wire.next_host} is {', '.join(addresses[:2])}{more}", {"addresses": addresses}

    def _connected(self, address: str) -> tuple[str, dict[str, Any]]:
        return f"{address} port {self.wire.next_port}", {"address": address, "port": self.wire.next_port}

    def _failed(self, step: str, error: OSError) -> Check:
        self.stopped = step
        wire = self.wire
        whom = "proxy" if wire.proxy is not None else "server"
        place = f"{wire.next_host} port {wire.next_port}"
        name = f"{wire.label}: {step}"
        if isinstance(error, ProxyRefusedError):
            login = "is its login in HTTPS_PROXY right? " if "407" in error.answer else ""
            fix = f"{login}The proxy must let {wire.host}:{wire.port} through; or list it in NO_PROXY"
            return failed(name, error.answer, fix, CONNECTION)
        if isinstance(error, socket.gaierror):
            fix = "is the name right, and this machine online? Behind a proxy set HTTPS_PROXY"
            return failed(
                name, f"{wire.next_host} has no address ({error.strerror or name_of(error)})", fix, CONNECTION
            )
        if isinstance(error, TimeoutError):
            fix = "a firewall may be dropping it; behind a proxy set HTTPS_PROXY; --timeout gives it longer"
            return failed(name, f"no answer of {place} in {self.subject.seconds:g} s", fix, CONNECTION)
        if isinstance(error, ConnectionRefusedError):
            return failed(name, f"nobody listens at {place}", f"start the {whom}, or correct its address", CONNECTION)
        told = error.strerror or str(error) or name_of(error)
        return failed(name, f"{place}: {told}", f"see whether the {whom} and the way to it are well", CONNECTION)

    # --- TLS ---

    def _secured(self) -> Check:
        name = f"{self.wire.label}: TLS"
        if self.stopped:
            return skipped(name, f"the step before failed ({self.stopped})")
        began = time.monotonic()
        try:
            session = self.wire.secure()
        except ssl.SSLCertVerificationError as error:
            self.stopped = "TLS"
            return self._not_trusted(name, error)
        except ssl.SSLError as error:
            self.stopped = "TLS"
            fix = "is that an https port of TLS 1.2 or later? A proxy or firewall may be answering in its place"
            return failed(name, f"no TLS: {error.reason or name_of(error)}", fix, CONNECTION)
        except OSError as error:
            return self._failed("TLS", error)
        took = time.monotonic() - began
        return judged(name, session.getpeercert() or {}, session.version() or "TLS", took, time.time())

    def _not_trusted(self, name: str, error: ssl.SSLCertVerificationError) -> Check:
        seen = certificate_seen(self.origin, self.subject.seconds)
        issuer = "" if seen is None else names_in(seen.get("issuer"))
        ends = "" if seen is None else str(seen.get("notAfter", ""))
        about = f"; issued by {issuer}, until {ends}" if seen is not None else ""
        facts = {"verify_code": error.verify_code, "issuer": issuer or None, "not_after": ends or None}
        told = f"the certificate is not valid: {error.verify_message}{about}"
        return failed(name, told, _remedy(error.verify_code, self.wire.host), CONNECTION, **facts)


def _remedy(code: int, host: str) -> str:
    """By OpenSSL's number of what is wrong (X509_V_ERR_…)."""
    if code == 10:
        return f"whoever runs {host} must renew it; or this machine's clock is ahead"
    if code == 9:
        return "this machine's clock is behind; set it"
    if code in (18, 19, 20, 21, 2):
        return (
            "if that issuer is your company's (a proxy that opens TLS, a server inside), give its PEM file as "
            "Gateway(ca_file=…); if not, somebody is in between"
        )
    if code in (62, 64):
        return "the base URL must have a name that is in the certificate"
    return "do not go on with this server before that is clear"


def judged(name: str, certificate: dict[str, Any], version: str, took: float, wall: float) -> Check:
    """A certificate that was verified. ``took`` and ``wall``: seconds, the latter Unix's."""
    issuer, ends = names_in(certificate.get("issuer")), ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    day = datetime.datetime.fromtimestamp(ends, datetime.timezone.utc).date().isoformat()
    told = f"{version}, verified; issued by {issuer}, until {day}; {seconds(took)}"
    facts = {"version": version, "issuer": issuer, "not_after": ends, "seconds": took}
    days = (ends - wall) / 86_400
    if days < SOON:
        return warning(name, f"{told}: it ends in {days:.0f} days", "whoever runs the server must renew it", **facts)
    return ok(name, told, **facts)
