"""Both transports between several gateways: what holds for one, a key, an authority, a proxy, a check, holds for no other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from routerkit import ConfigurationError, Gateway
from routerkit.core.effects import Close, Failure, TransportFailure
from routerkit.testing import FaultServer, closed_port
from routerkit.testing import replies as r
from routerkit.testing.ports import HOST
from routerkit.transport.aiohttp import AiohttpTransport
from routerkit.transport.origins import Origins
from routerkit.transport.requests import RequestsTransport
from routerkit.types.secret import Credential, Secret, origin_of
from routerkit.types.verdict import Sent
from tests.support.drivers import DRIVERS, AsyncDriver, Driver, gateway_at, open_stream, read_all, request, send
from tests.support.forks import CHILDREN, forked
from tests.support.network import Dialled, Names, Tunnel, context_of, forget_proxies, tls_server
from tests.test_transport_life import REQUESTS, names, text_of, texts

OUTSIDE = "93.184.216.34"
KEYS = ("sk-test-first-gateway", "sk-test-second-gateway")

Make = Callable[..., Driver]


@pytest.fixture(params=DRIVERS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes a driver of one kind for gateways and closes it in the end."""
    with ExitStack() as stack:
        yield lambda *gateways: stack.enter_context(DRIVERS[request.param](*gateways))


@pytest.fixture
def first() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def second() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


pytestmark = pytest.mark.usefixtures("few_authorities")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> Dialled:
    return Dialled(monkeypatch)


@pytest.fixture(scope="module")
def authorities() -> tuple[trustme.CA, trustme.CA]:
    return trustme.CA(), trustme.CA()


@pytest.fixture(scope="module")
def ca_files(authorities: tuple[trustme.CA, trustme.CA], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("authorities")
    for number, authority in enumerate(authorities):
        authority.cert_pem.write_to_path(str(folder / f"{number}.pem"))
    return str(folder / "0.pem"), str(folder / "1.pem")


def both(*servers: FaultServer) -> list[Gateway]:
    return [gateway_at(server.url, name=f"gateway-{number}") for number, server in enumerate(servers)]


def ask(driver: Driver, url: str, **fields: Any) -> int:
    return driver.send(send(request(url, **fields))).status


def failed(driver: Driver, url: str, **fields: Any) -> TransportFailure:
    with pytest.raises(TransportFailure) as caught:
        ask(driver, url, **fields)
    with pytest.raises(TransportFailure) as again:
        driver.open(open_stream(request(url, **fields)))
    failure = caught.value
    assert (again.value.failure, again.value.sent, again.value.detail) == (
        failure.failure,
        failure.sent,
        failure.detail,
    )
    assert failure.sent is Sent.NOT_SENT
    return failure


# --- keys and origins ---


def test_each_key_goes_to_its_own_gateway(make: Make, first: FaultServer, second: FaultServer) -> None:
    driver = make(*both(first, second))
    for _ in range(3):
        for server, key in zip((first, second), KEYS, strict=True):
            assert ask(driver, server.url, credential=Credential(Secret(key), server.url)) == 200
    for server, key in zip((first, second), KEYS, strict=True):
        assert [seen.api_key for seen in server.requests] == [key] * 3
        assert server.connections_opened == 1


def test_no_key_goes_to_another_gateway(make: Make, first: FaultServer, second: FaultServer) -> None:
    driver = make(*both(first, second))
    failure = failed(driver, second.url, credential=Credential(Secret(KEYS[0]), first.url))
    assert (failure.failure, failure.detail) == (Failure.LOCAL, "the key belongs to another host")
    assert (first.connections_opened, second.connections_opened) == (0, 0)


def test_no_gateway_no_connection(make: Make, first: FaultServer, second: FaultServer, dialled: Dialled) -> None:
    driver = make(*both(first))
    for url in (
        second.url,
        first.url.replace(HOST, "localhost"),
        first.url.replace("http:", "https:"),
        first.url.replace(f":{first.port}", ""),
        "https://gateway.test/v1",
    ):
        failure = failed(driver, url)
        assert (failure.failure, failure.detail) == (Failure.LOCAL, "no gateway of this client is there")
    assert dialled.to == []
    assert ask(driver, first.url) == 200


def test_a_second_list_is_asked_for_where_it_is(make: Make, first: FaultServer, second: FaultServer) -> None:
    listed = f"http://{HOST}:{second.port}/api/models/"
    second.prefix = ""
    second.route("GET", "/api/models/", r.json_body({"data": []}))
    driver = make(Gateway(name="two-hosts", base_url=first.url, details_url=listed))
    assert ask(driver, first.url) == 200
    assert driver.send(send(request(first.url, method="GET", url=listed))).body == b'{"data": []}'


def test_streams_of_two_gateways_at_a_time(make: Make, first: FaultServer, second: FaultServer) -> None:
    for server, text in ((first, b"one"), (second, b"two")):
        server.default = r.stream(text, framing="chunked")
    driver = make(*both(first, second))
    answers = [driver.open(open_stream(request(server.url))) for server in (first, second)]
    assert [read_all(driver, answer) for answer in reversed(answers)] == [b"two", b"one"]


# --- addresses ---


def guarded(base_url: str, ca_file: str | None = None) -> Gateway:
    return Gateway(name="guarded", base_url=base_url, ca_file=ca_file, block_private=True)


@pytest.mark.parametrize("guarded_first", [True, False])
def test_the_check_of_addresses_is_for_the_gateway_that_asked_for_it(
    make: Make,
    hosts: Names,
    dialled: Dialled,
    authorities: tuple[trustme.CA, trustme.CA],
    ca_files: tuple[str, ...],
    guarded_first: bool,
) -> None:
    with tls_server(authorities[0], "guarded.test", "open.test") as server:
        dialled.roads[OUTSIDE] = server.port
        urls = {name: f"https://{name}.test:{server.port}/v1" for name in ("guarded", "open")}
        hosts["guarded.test"] = [(OUTSIDE, server.port)]
        hosts["open.test"] = [(HOST, server.port)]
        gateways = [
            guarded(urls["guarded"], ca_files[0]),
            Gateway(name="open", base_url=urls["open"], ca_file=ca_files[0]),
        ]
        driver = make(*gateways)
        order = list(urls) if guarded_first else list(reversed(urls))
        assert [ask(driver, urls[name], fresh=True) for name in order * 2] == [200] * 4
        hosts["guarded.test"] = [(HOST, server.port)]
        reached = len(dialled.to)
        assert failed(driver, urls["guarded"], fresh=True).failure is Failure.ADDRESS
        assert len(dialled.to) == reached
        assert ask(driver, urls["open"], fresh=True) == 200


def test_an_address_without_a_name_is_checked_for_its_own_gateway_only(
    make: Make, dialled: Dialled, first: FaultServer
) -> None:
    inside = f"https://{HOST}:{first.port}/v1"
    driver = make(*both(first), guarded(inside))
    assert failed(driver, inside).failure is Failure.ADDRESS
    assert dialled.to == []
    assert ask(driver, first.url) == 200
    assert failed(driver, inside).failure is Failure.ADDRESS


def test_at_one_origin_the_stricter_holds(make: Make, hosts: Names, dialled: Dialled) -> None:
    hosts["shared.test"] = [("10.0.0.1", 443)]
    loose = Gateway(name="loose", base_url="https://shared.test/loose/v1")
    strict = guarded("https://shared.test:443/strict/v1")
    for gateways in ((loose, strict), (strict, loose)):
        driver = make(*gateways)
        assert failed(driver, loose.base_url).failure is Failure.ADDRESS
        assert failed(driver, strict.base_url).failure is Failure.ADDRESS
    assert dialled.to == []


# --- TLS ---


def test_an_authority_is_trusted_for_its_own_gateway_only(
    make: Make, authorities: tuple[trustme.CA, trustme.CA], ca_files: tuple[str, ...]
) -> None:
    with tls_server(authorities[0], HOST) as one, tls_server(authorities[1], HOST) as two:
        driver = make(gateway_at(one.url, ca_files[0]), gateway_at(two.url, ca_files[1]))
        assert [ask(driver, server.url, fresh=True) for server in (one, two, one, two)] == [200] * 4
        for wrong in (None, ca_files[0]):
            asked = len(two.requests)
            driver = make(gateway_at(one.url, ca_files[0]), gateway_at(two.url, wrong))
            assert ask(driver, one.url) == 200
            assert failed(driver, two.url).failure is Failure.TLS_VERIFY
            assert len(two.requests) == asked


def test_gateways_that_share_an_origin_trust_the_same(make: Make, ca_files: tuple[str, ...]) -> None:
    one = Gateway(name="one", base_url="https://shared.test/v1", ca_file=ca_files[0])
    for other in (
        Gateway(name="two", base_url="https://shared.test/v2", ca_file=ca_files[1]),
        Gateway(name="two", base_url="https://SHARED.test:443/v2"),
        Gateway(name="two", base_url="https://two.test/v1", details_url="https://shared.test/list"),
    ):
        for gateways in ((one, other), (other, one)):
            with pytest.raises(
                ConfigurationError, match=r"share https://shared\.test:443 but not their ca_file"
            ) as caught:
                make(*gateways)
            assert "'one'" in str(caught.value)
            assert "'two'" in str(caught.value)
    make(one, Gateway(name="two", base_url="https://shared.test/v2", ca_file=ca_files[0]))


def test_an_unreadable_ca_file_is_the_matter_of_its_gateway(make: Make, first: FaultServer, tmp_path: Path) -> None:
    driver = make(gateway_at(first.url), gateway_at("https://two.test/v1", str(tmp_path / "none.pem")))
    assert ask(driver, first.url) == 200
    with pytest.raises(ConfigurationError, match="ca_file="):
        ask(driver, "https://two.test/v1")


def test_contexts_are_made_when_needed_and_shared_by_those_who_trust_the_same(ca_files: tuple[str, ...]) -> None:
    files = {"a": ca_files[0], "b": ca_files[0], "c": ca_files[1], "d": None, "e": None}
    gateways = [Gateway(name=name, base_url=f"https://{name}.test/v1", ca_file=file) for name, file in files.items()]
    origins = Origins([*gateways, Gateway(name="plain", base_url="http://127.0.0.1:1/v1")])
    assert origins._contexts == {}
    a, b, c, d, e, plain = (
        origins.tls(origins.at(origin_of(url))) for url in (*(each.base_url for each in gateways), "http://127.0.0.1:1")
    )
    assert a is b
    assert d is e
    assert len({id(each) for each in (a, c, d)}) == 3
    assert plain is None


# --- proxies ---


def test_a_proxy_is_for_those_whom_the_environment_does_not_exempt(
    make: Make,
    hosts: Names,
    authorities: tuple[trustme.CA, trustme.CA],
    ca_files: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        tls_server(authorities[0], "proxied.test") as proxied,
        tls_server(authorities[0], "direct.test") as direct,
        FaultServer() as here,
        Tunnel(proxied.port) as tunnel,
    ):
        hosts["direct.test"] = [(HOST, direct.port)]
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, tunnel.url)
        monkeypatch.setenv("NO_PROXY", "direct.test")
        urls = ["https://proxied.test/v1", f"https://direct.test:{direct.port}/v1", here.url]
        driver = make(*(gateway_at(url, ca_files[0]) for url in urls))
        monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{closed_port()}")  # asked for once
        assert [ask(driver, url, fresh=True) for url in urls * 2] == [200] * 6
        assert [head.split()[1] for head in tunnel.asked] == ["proxied.test:443"] * 2
        assert [len(server.requests) for server in (proxied, direct, here)] == [2, 2, 2]


def test_a_guarded_gateway_takes_no_proxy_beside_one_that_does(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    gateways = (gateway_at("https://free.test/v1"), guarded("https://guarded.test/v1"))
    with pytest.raises(ConfigurationError, match=r"block_private=True.*list guarded\.test in NO_PROXY") as caught:
        make(*gateways)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "guarded.test")
    make(*gateways)


def test_a_proxys_certificate_too_is_verified_as_each_gateway_says(
    make: Make,
    authorities: tuple[trustme.CA, trustme.CA],
    ca_files: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        tls_server(authorities[0], "one.test") as server,
        Tunnel(server.port, tls=context_of(authorities[0], HOST)) as tunnel,
    ):
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
        driver = make(gateway_at("https://one.test/v1", ca_files[0]), gateway_at("https://two.test/v1", ca_files[1]))
        if isinstance(driver, AsyncDriver) and sys.version_info < (3, 11):
            pytest.skip("asyncio has no TLS within TLS before 3.11")
        assert ask(driver, "https://one.test/v1") == 200
        with pytest.raises(TransportFailure) as caught:
            ask(driver, "https://two.test/v1")
        assert caught.value.failure is Failure.TLS_VERIFY
        assert [head.split()[1] for head in tunnel.asked] == ["one.test:443"]


# --- the life of a process ---


def test_closing_closes_the_connections_to_all(make: Make, first: FaultServer, second: FaultServer) -> None:
    driver = make(*both(first, second))
    held = []  # else the garbage collector would close what nobody else does
    for server in (first, second):
        server.default = r.stream(b"abc", framing="chunked")
        answer = driver.open(open_stream(request(server.url)))
        assert read_all(driver, answer) == b"abc"
        driver.close(Close(answer.handle, reusable=True))
        assert server.open_connections == 1
        held.append(answer)
    if isinstance(driver, AsyncDriver):
        driver.run(driver.transport.close())
    else:
        driver.transport.close()
    for server in (first, second):
        driver.until(server, lambda server=server: not server.open_connections)
    assert len(held) == 2


def test_each_event_loop_has_its_own_connections_to_each(first: FaultServer, second: FaultServer) -> None:
    transport = AiohttpTransport(both(first, second))
    loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]
    for _ in range(2):
        for loop in loops:
            for server in (first, second):
                loop.run_until_complete(transport.send(send(request(server.url))))
    assert (first.connections_opened, second.connections_opened) == (2, 2)
    for loop in loops:
        loop.run_until_complete(transport.close())
        loop.close()
    for server in (first, second):
        server.wait_closed()


def test_a_loop_that_ends_closes_its_connections_to_all(first: FaultServer, second: FaultServer) -> None:
    transport = AiohttpTransport(both(first, second))

    async def main() -> None:
        for server in (first, second):
            await transport.send(send(request(server.url)))

    for turn in (1, 2):
        asyncio.run(main())
        for server in (first, second):
            server.wait_closed()
            assert server.connections_opened == turn


def test_a_forked_child_forgets_the_connections_to_all(first: FaultServer, second: FaultServer) -> None:
    transport = RequestsTransport(both(first, second))

    def text(server: FaultServer, name: str) -> str:
        return text_of(transport.send(send(request(server.url, name))).body)

    def work(number: int) -> list[str]:
        return [text((first, second)[turn % 2], name) for turn, name in enumerate(names(number))]

    work(9)
    assert forked(work) == [texts(number) for number in range(CHILDREN)]
    assert work(9) == texts(9)
    for server in (first, second):
        assert server.connections_opened == 1 + CHILDREN
        assert len(server.requests) == (CHILDREN + 2) * REQUESTS // 2
    transport.close()


def test_so_does_a_forked_child_with_its_parents_loop(first: FaultServer, second: FaultServer) -> None:
    transport = AiohttpTransport(both(first, second))
    loop = asyncio.new_event_loop()

    async def questions(number: int) -> list[str]:
        asked = [((first, second)[turn % 2], name) for turn, name in enumerate(names(number))]
        return [text_of((await transport.send(send(request(server.url, name)))).body) for server, name in asked]

    def work(number: int) -> list[str]:
        return loop.run_until_complete(questions(number))

    work(9)
    assert forked(work, children=1) == [texts(0)]
    assert work(9) == texts(9)
    assert (first.connections_opened, second.connections_opened) == (2, 2)
    loop.run_until_complete(transport.close())
    loop.close()
