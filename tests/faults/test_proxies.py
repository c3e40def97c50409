"""Fault 19: proxies that do not connect."""

from __future__ import annotations

import pytest
import trustme

from routerkit import APIConnectionError
from routerkit.testing import FaultServer, closed_port
from routerkit.testing import replies as r
from routerkit.testing.ports import HOST
from tests.faults.catalogue import fault, row
from tests.faults.outcomes import After
from tests.faults.ways import FROM_B, UNREACHABLE, check_way, inside, to, unreachable
from tests.support.facades import AsyncCaller, SyncCaller
from tests.support.network import Dialled, Names, Tunnel, context_of
from tests.support.scenarios import A, Ask

Facade = type[SyncCaller | AsyncCaller]

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
GATEWAY = After(["gateway"])

REFUSALS = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
    "403": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
}


@STREAM
@pytest.mark.parametrize("status", [row(19, status, name=f"proxy answers {status}") for status in REFUSALS])
def test_a_proxy_that_refuses(names: Names, monkeypatch: pytest.MonkeyPatch, status: str, stream: bool) -> None:
    with Tunnel(0, REFUSALS[status]) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url.replace("//", "//me:secret@"))
        check_way(
            to(gateway=inside("https://gateway.test/v1")),
            unreachable(stream=stream),
            says=UNREACHABLE,
            after=GATEWAY,
        )
        assert len(tunnel.asked) == 4
        assert not [head for head in tunnel.asked if "sk-test" in head]


@fault(19)
def test_what_the_proxy_said_is_told(facade: Facade, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    with Tunnel(0, REFUSALS["407"]) as tunnel:
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url.replace("//", "//me:secret@"))
        with (
            facade(gateway=inside("https://gateway.test/v1")) as caller,
            pytest.raises(APIConnectionError, match="the proxy answered 407") as caught,
        ):
            caller.complete(model=A)
    assert "secret" not in str(caught.value)


@fault(19)
@STREAM
def test_a_proxy_that_is_not_there(
    names: Names, dialled: Dialled, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    port = closed_port()
    monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{port}")
    check_way(
        to(gateway=inside("https://gateway.test/v1")), unreachable(stream=stream), says=UNREACHABLE, after=GATEWAY
    )
    assert dialled.to == [(HOST, port)] * 4


@fault(19)
def test_a_proxy_that_hangs(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer() as proxy:
        proxy.on_connect = lambda connection: connection.wait()
        monkeypatch.setenv("HTTPS_PROXY", f"http://{HOST}:{proxy.port}")
        way = to(gateway=inside("https://gateway.test/v1"))
        check_way(way, unreachable(), says=UNREACHABLE, after=GATEWAY)
        proxy.wait_closed()


@fault(19)
def test_a_proxy_that_lets_through(
    facade: Facade, authority: trustme.CA, ca_file: str, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the others are measured by."""
    with FaultServer(tls=context_of(authority, "gateway.test")) as server, Tunnel(server.port) as tunnel:
        server.script(A, r.error(500))
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
        with facade(gateway=inside("https://gateway.test/v1", ca_file)) as caller:
            assert caller.ask(Ask([], "")).gives == FROM_B
        assert len(tunnel.asked) == 1
