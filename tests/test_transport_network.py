"""Both transports on the way to a server: names, addresses, TLS, proxies."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from routerkit import AsyncClient, Client, Gateway
from routerkit.core.effects import Failure, TransportFailure
from routerkit.errors import ConfigurationError
from routerkit.testing import FaultServer, closed_port, silent_port
from routerkit.testing import replies as r
from routerkit.testing.ports import HOST
from routerkit.types.secret import Credential, Secret
from routerkit.types.verdict import Sent
from tests.support.drivers import DRIVERS, KEY, MODEL, AsyncDriver, Driver, gateway_at, request, send
from tests.support.network import Names, Tunnel, context_of, forget_proxies, no_file_descriptors, tls_server

SOON = 0.15
"""A limit that runs out on purpose."""

Make = Callable[..., Driver]


@pytest.fixture(params=DRIVERS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes a driver of one kind and closes it in the end."""
    with ExitStack() as stack:
        yield lambda *given: stack.enter_context(DRIVERS[request.param](gateway_at(*given)))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


pytestmark = pytest.mark.usefixtures("few_authorities")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def failed(driver: Driver, url: str, **limits: float) -> TransportFailure:
    with pytest.raises(TransportFailure) as caught:
        driver.send(send(request(url), **limits))
    return caught.value


def expect(failure: TransportFailure, kind: Failure) -> None:
    assert (failure.failure, failure.sent, failure.reused, failure.status) == (kind, Sent.NOT_SENT, False, None)
    assert failure.detail


@contextmanager
def soon() -> Iterator[None]:
    """Far sooner than any limit but the short one."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 5


# --- names and addresses ---


def test_closed_port(make: Make) -> None:
    url = f"http://{HOST}:{closed_port()}/v1"
    expect(failed(make(url), url), Failure.CONNECT)


def test_unknown_name(make: Make, names: Names) -> None:
    for host in ("unknown.invalid", "a..b.invalid", f"{'x' * 70}.invalid"):
        url = f"https://{host}/v1"
        expect(failed(make(url), url), Failure.RESOLVE)


def test_silent_port(make: Make) -> None:
    with silent_port() as port, soon():
        url = f"http://{HOST}:{port}/v1"
        expect(failed(make(url), url, connect=SOON, first_byte=60, total=60), Failure.CONNECT_TIMEOUT)
        expect(failed(make(url), url, connect=60, first_byte=60, total=SOON), Failure.CONNECT_TIMEOUT)


def test_several_silent_addresses_share_the_time(make: Make, names: Names) -> None:
    with silent_port() as port, soon():
        names["many.test"] = [(HOST, port)] * 100
        url = f"http://many.test:{port}/v1"
        expect(failed(make(url), url, connect=SOON, first_byte=60, total=60), Failure.CONNECT_TIMEOUT)


@pytest.mark.parametrize("dead", ["silent", "closed"])
def test_a_dead_address_before_a_good_one(make: Make, server: FaultServer, names: Names, dead: str) -> None:
    with silent_port() as port:
        names["two.test"] = [(HOST, port if dead == "silent" else closed_port()), (HOST, server.port)]
        url = f"http://two.test:{server.port}/v1"
        assert make(url).send(send(request(url), connect=1.0)).status == 200
    assert server.requests[0].header("Host") == f"two.test:{server.port}"


def test_a_resolver_that_hangs(make: Make, names: Names) -> None:
    names["slow.test"] = hanging = threading.Event()
    url = "https://slow.test/v1"
    try:
        with soon():
            expect(failed(make(url), url, connect=SOON, first_byte=60, total=60), Failure.CONNECT_TIMEOUT)
    finally:
        hanging.set()


def test_no_file_descriptor_is_left(make: Make, server: FaultServer) -> None:
    driver = make(server.url)
    driver.send(send(request(server.url)))
    with no_file_descriptors():
        failure = failed_fresh(driver, server.url)
    expect(failure, Failure.LOCAL)
    assert driver.send(send(request(server.url))).status == 200


def failed_fresh(driver: Driver, url: str) -> TransportFailure:
    with pytest.raises(TransportFailure) as caught:
        driver.send(send(request(url, fresh=True)))
    return caught.value


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def test_tls_with_an_authority_of_our_own(make: Make, authority: trustme.CA, ca_file: str) -> None:
    with tls_server(authority, HOST) as server:
        driver = make(server.url, ca_file)
        assert [driver.send(send(request(server.url))).status for _ in range(3)] == [200, 200, 200]
        assert server.connections_opened == 1


def test_a_gateways_ca_file_reaches_the_transports(authority: trustme.CA, ca_file: str) -> None:
    with tls_server(authority, HOST) as server:
        gateway = Gateway(name="inside", base_url=server.url, ca_file=ca_file)
        with Client(gateway=gateway, api_key=KEY) as client:
            assert client.complete("Hi", model=MODEL).text == f"Hello from {MODEL}"

        async def main() -> str | None:
            async with AsyncClient(gateway=gateway, api_key=KEY) as client:
                return (await client.complete("Hi", model=MODEL)).text

        with AsyncDriver(gateway_at(server.url)) as loop:
            assert loop.run(main()) == f"Hello from {MODEL}"


def test_an_unknown_authority(make: Make, authority: trustme.CA) -> None:
    with tls_server(authority, HOST) as server:
        expect(failed(make(server.url), server.url), Failure.TLS_VERIFY)
        assert server.requests == []


def test_a_certificate_for_another_name(make: Make, authority: trustme.CA, ca_file: str) -> None:
    with tls_server(authority, "other.test") as server:
        expect(failed(make(server.url, ca_file), server.url), Failure.TLS_VERIFY)
        assert server.requests == []


def test_a_handshake_that_hangs(make: Make, ca_file: str) -> None:
    with FaultServer() as server, soon():
        server.on_connect = lambda connection: connection.wait()
        url = server.url.replace("http:", "https:")
        expect(failed(make(url, ca_file), url, connect=SOON, first_byte=60, total=60), Failure.CONNECT_TIMEOUT)
        server.wait_closed()


def test_a_handshake_that_drips(make: Make, ca_file: str) -> None:
    """A record that never ends, a byte at a time."""
    with FaultServer() as server, soon():

        def drip(connection: Any) -> None:
            connection.send(b"\x16\x03\x03\x40\x00")
            while True:
                connection.send(b"\x02")
                connection.wait(0.02)

        server.on_connect = drip
        url = server.url.replace("http:", "https:")
        failure = failed(make(url, ca_file), url, connect=SOON, first_byte=60, total=60)
        assert failure.failure in (Failure.CONNECT_TIMEOUT, Failure.CONNECT)
        assert failure.sent is Sent.NOT_SENT


def test_a_server_without_tls(make: Make, server: FaultServer, ca_file: str) -> None:
    url = server.url.replace("http:", "https:")
    expect(failed(make(url, ca_file), url), Failure.CONNECT)
    assert server.requests == []


@pytest.mark.parametrize("act", ["close", "reset"])
def test_a_handshake_that_is_broken_off(make: Make, server: FaultServer, ca_file: str, act: str) -> None:
    server.on_connect = lambda connection: getattr(connection, act)()
    url = server.url.replace("http:", "https:")
    expect(failed(make(url, ca_file), url), Failure.CONNECT)


def test_an_unreadable_ca_file(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ca_file="):
        make("https://one.test/v1", str(tmp_path / "none.pem")).send(send(request("https://one.test/v1")))


def test_tls_bodies_and_failures_are_those_of_plain_ones(make: Make, authority: trustme.CA, ca_file: str) -> None:
    with tls_server(authority, HOST) as server:
        driver = make(server.url, ca_file)
        body = bytes(range(256)) * 3000
        server.script(
            MODEL,
            lambda connection, _: connection.respond(200, body),
            r.hang(),
            r.stream("Hel", r.reset()),
            r.drip_headers(0.02),
            r.completion(),
        )
        asked = request(server.url)
        assert driver.send(send(asked)).body == body
        kinds = []
        for limit in (SOON, 60, SOON):
            with pytest.raises(TransportFailure) as caught:
                driver.send(send(asked, first_byte=limit, total=60))
            kinds.append(caught.value.failure)
        assert kinds == [Failure.FIRST_BYTE_TIMEOUT, Failure.TRUNCATED, Failure.FIRST_BYTE_TIMEOUT]
        assert driver.send(send(asked)).status == 200


# --- proxies ---


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_from_the_environment(
    make: Make, authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with tls_server(authority, "gateway.test") as server, Tunnel(server.port) as tunnel:
        monkeypatch.setenv(variable, tunnel.url.replace("//", "//me:secret@"))
        url = "https://gateway.test/v1"
        driver = make(url, ca_file)
        monkeypatch.delenv(variable)
        asked = request(url, credential=Credential(Secret(KEY), url))
        assert [driver.send(send(asked)).status for _ in range(2)] == [200, 200]
        assert [seen.api_key for seen in server.requests] == [KEY, KEY]
        assert server.requests[0].header("Host") == "gateway.test"
        assert server.requests[0].header("Proxy-Authorization") is None
        (head,) = tunnel.asked
        assert head.startswith("CONNECT gateway.test:443 HTTP/1.")
        assert "proxy-authorization: basic bwu6c2vjcmv0" in head.lower()
        assert KEY not in head


def test_a_proxy_is_not_used_for_this_machine(make: Make, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, f"http://{HOST}:{closed_port()}")
    assert make(server.url).send(send(request(server.url))).status == 200


def test_no_proxy_is_honoured(
    make: Make, authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch, names: Names
) -> None:
    with tls_server(authority, "gateway.test") as server:
        names["gateway.test"] = [(HOST, server.port)]
        monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{closed_port()}")
        url = f"https://gateway.test:{server.port}/v1"
        expect(failed(make(url, ca_file), url), Failure.CONNECT)
        monkeypatch.setenv("NO_PROXY", "other.test,.test")
        assert make(url, ca_file).send(send(request(url))).status == 200


@pytest.mark.parametrize(
    "refusal",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"HTTP/1.1 200",
    ],
    ids=["407", "502", "not HTTP", "cut"],
)
def test_a_proxy_that_refuses(make: Make, ca_file: str, monkeypatch: pytest.MonkeyPatch, refusal: bytes) -> None:
    with Tunnel(0, refusal) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
        url = "https://gateway.test/v1"
        expect(failed(make(url, ca_file), url), Failure.CONNECT)


def test_a_proxy_that_drips(make: Make, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(connection: Any, _: object) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.send(b"X: x\r\n")
            connection.wait(0.02)

    with FaultServer() as proxy, soon():
        proxy.on_connect = lambda connection: drip(connection, None)
        monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{proxy.port}")
        url = "https://gateway.test/v1"
        expect(failed(make(url, ca_file), url, connect=SOON, first_byte=60, total=60), Failure.CONNECT_TIMEOUT)


def test_a_proxy_without_a_scheme_is_an_http_one(
    make: Make, authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(authority, "gateway.test") as server, Tunnel(server.port) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url.removeprefix("http://"))
        url = "https://gateway.test/v1"
        assert make(url, ca_file).send(send(request(url))).status == 200


def test_a_proxy_that_speaks_tls_itself(
    make: Make, authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        tls_server(authority, "gateway.test") as server,
        Tunnel(server.port, tls=context_of(authority, HOST)) as tunnel,
    ):
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
        url = "https://gateway.test/v1"
        driver = make(url, ca_file)
        if isinstance(driver, AsyncDriver) and sys.version_info < (3, 11):
            pytest.skip("asyncio has no TLS within TLS before 3.11")
        asked = request(url)
        assert [driver.send(send(asked)).status for _ in range(2)] == [200, 200]
        server.default = r.hang()
        with soon(), pytest.raises(TransportFailure) as caught:
            driver.send(send(asked, first_byte=SOON, total=60))
        assert caught.value.failure is Failure.FIRST_BYTE_TIMEOUT


def test_a_socks_proxy_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:1080")
    with pytest.raises(ConfigurationError, match="socks5:// is not supported") as caught:
        make("https://gateway.test/v1")
    assert "secret" not in str(caught.value)


def test_a_certificate_behind_a_proxy_is_verified(
    make: Make, authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(authority, "other.test") as server, Tunnel(server.port) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
        url = "https://gateway.test/v1"
        expect(failed(make(url, ca_file), url), Failure.TLS_VERIFY)
        expect(failed(make(url), url), Failure.TLS_VERIFY)
        assert server.requests == []
