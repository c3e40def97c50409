"""A connection made step by step, each step by itself in bounded time: name, TCP, the proxy's tunnel, TLS.

The transports of clients make the same steps in one go and do not tell how long each took. Nothing is sent here but a proxy's
``CONNECT`` and the handshakes; whom to trust and which proxy to use is what clients are told (``Origins``).
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
import ssl
import threading
import time
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from routerkit.transport.addresses import check_public
from routerkit.transport.origins import Origin

READ_SIZE = 16_384
MAX_HEAD = 65_536
"""Bytes of a proxy's answer."""
_NO_CHECK_TIME = 0x20_0000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which the standard library has no name."""


class ProxyRefusedError(OSError):
    """The proxy opened no tunnel."""

    def __init__(self, answer: str) -> None:
        super().__init__(answer)
        self.answer = answer


class Channel(Protocol):
    def send(self, data: bytes) -> None: ...
    def receive(self) -> bytes:
        """The next bytes; ``b""`` at the end. Raises TimeoutError."""


class _Plain:
    """A socket's."""

    def __init__(self, sock: socket.socket, wire: Wire) -> None:
        self._socket = sock
        self._wire = wire

    def send(self, data: bytes) -> None:
        while data:
            self._socket.settimeout(self._wire.left())
            data = data[self._socket.send(data) :]

    def receive(self) -> bytes:
        self._socket.settimeout(self._wire.left())
        return self._socket.recv(READ_SIZE)


class _Unconnected:
    """Before there is a connection."""

    def send(self, data: bytes) -> None:  # noqa: ARG002
        raise ConnectionError("not connected")

    def receive(self) -> bytes:
        raise ConnectionError("not connected")


class Secured:
    """TLS through another channel, be that a socket or TLS to a proxy."""

    def __init__(self, below: Channel, context: ssl.SSLContext | None, host: str) -> None:
        """Shake hands. Raises OSError, which ``ssl.SSLError`` is too."""
        if context is None:
            raise ssl.SSLError("no TLS here")
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._until_done(self.session.do_handshake)

    def send(self, data: bytes) -> None:
        self._until_done(lambda: self.session.write(data))

    def receive(self) -> bytes:
        data: bytes = self._until_done(lambda: self.session.read(READ_SIZE))
        return data

    def _until_done(self, action: Any) -> Any:
        while True:
            try:
                done = action()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._below.receive()
                if not data:
                    raise ConnectionError("the connection was closed in the handshake") from None
                self._incoming.write(data)
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.send(self._outgoing.read())


class Wire:
    """One connection to an origin, as far as it has come. Its steps raise OSError."""

    def __init__(self, origin: Origin, context: ssl.SSLContext | None, seconds: float) -> None:
        """``context``: of TLS; ``None`` where there is none. ``seconds``: for each step.

        Raises ValueError for a proxy that is no URL.
        """
        self._origin = origin
        self._context = context
        self._seconds = seconds
        self._until = 0.0
        self._socket: socket.socket | None = None
        self._channel: Channel = _Unconnected()
        self._addresses: list[Any] = []
        parts = urlsplit(origin.url)
        self.host, self.port = parts.hostname or "", parts.port or 443
        usual = 80 if parts.scheme == "http" else 443
        self.label = self.host if self.port == usual else f"{self.host}:{self.port}"
        """What the origin is called."""
        self.proxy = None if origin.proxy is None else urlsplit(origin.proxy)
        self.next_host, self.next_port = self.host, self.port
        """Whom this machine connects to: the origin itself, or the proxy."""
        if self.proxy is not None:
            self.next_host = self.proxy.hostname or ""
            self.next_port = self.proxy.port or (443 if self.proxy.scheme == "https" else 80)

    def left(self) -> float:
        """Seconds that are left of the step. Raises TimeoutError when there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def resolve(self) -> list[str]:
        """The addresses of whoever is connected to. Raises AddressNotAllowedError besides."""
        self._begin()
        found: list[Any] = []

        def look() -> None:
            try:
                found.append(socket.getaddrinfo(self.next_host, self.next_port, type=socket.SOCK_STREAM))
            except OSError as error:
                found.append(error)
            except UnicodeError:  # a label that is empty or too long
                found.append(socket.gaierror(socket.EAI_NONAME, "not a host name"))

        if is_address(self.next_host):
            look()
        else:  # a lookup itself knows no time limit
            thread = threading.Thread(target=look, name="routerkit-resolve", daemon=True)
            thread.start()
            thread.join(self.left())
        if not found:
            raise TimeoutError
        if isinstance(found[0], OSError):
            raise found[0]
        self._addresses = list(found[0])
        texts = list(dict.fromkeys(str(address[0]) for *_, address in self._addresses))
        if self._origin.block_private:
            check_public(texts)
        return texts

    def connect(self) -> str:
        """The address that answered first; each gets its share of the time."""
        self._begin()
        failure: OSError | None = None
        for place, (family, kind, protocol, _, address) in enumerate(self._addresses):
            sock = self._socket = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self.left() / (len(self._addresses) - place))
                sock.connect(address)
            except OSError as error:
                self.close()
                failure = failure or error
            else:
                self._channel = _Plain(sock, self)
                return str(address[0])
        raise failure or OSError("the host has no address")

    def tunnel(self) -> None:
        """Have the proxy connect, if there is one. Raises ProxyRefusedError."""
        proxy = self.proxy
        if proxy is None:
            return
        self._begin()
        if proxy.scheme == "https":
            self._channel = Secured(self._channel, self._context, self.next_host)
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"CONNECT {host}:{self.port} HTTP/1.1", f"Host: {host}:{self.port}"]
        if proxy.username is not None:
            login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}")
        self._channel.send("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self._channel.receive()
            if not piece or len(head) > MAX_HEAD:
                raise ProxyRefusedError("the proxy hung up" if not piece else "the proxy answers no end")
            head += piece
        status = re.match(rb"HTTP/1\.[01] ([0-9]{3})", head)
        if status is None or status[1][:1] != b"2":
            raise ProxyRefusedError(
                f"the proxy answered {status[1].decode()}" if status else "no HTTP proxy answers there"
            )

    def secure(self) -> ssl.SSLObject:
        """TLS with the origin, verified as clients do. Raises ssl.SSLError besides."""
        self._begin()
        return Secured(self._channel, self._context, self.host).session

    def close(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def _begin(self) -> None:
        self._until = time.monotonic() + self._seconds


def certificate_seen(origin: Origin, seconds: float) -> dict[str, Any] | None:
    """What a server shows of itself whose certificate was refused; ``None`` when that cannot be read.

    To be told to people. It takes two handshakes that trust anything, and on which nothing is sent: the standard library reads
    only certificates that it can verify, so the second one trusts what the first was shown.
    """
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname = False
    anything.verify_mode = ssl.CERT_NONE
    try:
        shown = _shaken(origin, anything, seconds).getpeercert(binary_form=True)
        itself = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        itself.check_hostname = False
        itself.load_verify_locations(cadata=shown or b"")
        itself.verify_flags = ssl.VerifyFlags(itself.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
        return _shaken(origin, itself, seconds).getpeercert()
    except (OSError, ValueError):
        return None


def _shaken(origin: Origin, context: ssl.SSLContext, seconds: float) -> ssl.SSLObject:
    wire = Wire(origin, context, seconds)
    try:
        wire.resolve()
        wire.connect()
        wire.tunnel()
        return wire.secure()
    finally:
        wire.close()


def is_address(host: str) -> bool:
    """Whether there is no name to look up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def names_in(name: Any) -> str:
    """Who is meant by the subject or issuer of a certificate: organisation and common name."""
    parts = {key: value for group in name or () for key, value in group}
    told = [parts[key] for key in ("organizationName", "commonName") if parts.get(key)]
    return ", ".join(dict.fromkeys(told)) or "nobody named"
