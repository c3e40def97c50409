"""Fault 6: addresses that a gateway must not lead to, when its URL comes from somebody else."""

from __future__ import annotations

import pytest
import trustme

from routerkit import APIConnectionError, ConfigurationError, Gateway
from routerkit.testing import replies as r
from routerkit.testing.ports import HOST
from routerkit.transport.addresses import is_public
from tests.faults.catalogue import fault
from tests.faults.outcomes import FAST, After, left
from tests.faults.ways import check_way, inside, refused, to
from tests.support.facades import AsyncCaller, SyncCaller
from tests.support.network import Dialled, Names, tls_server
from tests.support.scenarios import A, Ask

Facade = type[SyncCaller | AsyncCaller]

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
NOBODY = After()

OUTSIDE = "93.184.216.34"
NOT_ALLOWED = "fail blames gateway (neutral), not_sent, billing none"


def guarded(host: str, ca_file: str | None = None) -> Gateway:
    return inside(f"https://{host}/v1", ca_file, block_private=True)


@fault(6)
@STREAM
def test_a_name_that_moves_inside(
    facade: Facade, authority: trustme.CA, ca_file: str, names: Names, dialled: Dialled, stream: bool
) -> None:
    with tls_server(authority, "gateway.test") as server:
        dialled.roads[OUTSIDE] = server.port
        names["gateway.test"] = [(OUTSIDE, server.port)]
        server.script(A, r.completion(headers={"Connection": "close"}))
        with facade(gateway=guarded(f"gateway.test:{server.port}", ca_file), breaker=FAST) as caller:
            assert caller.ask(Ask([], "", stream=stream)).attempts == (f"{A} 200 ok",)
            caller.until(server, lambda: not server.open_connections)
            for rebound in (HOST, "169.254.169.254"):
                names["gateway.test"] = [(rebound, server.port)]
                trace = caller.ask(Ask([], "", stream=stream))
                assert trace.attempts == (f"{A} - address_not_allowed",)
                assert trace.gives == "APIConnectionError"
                assert trace.details[0].startswith(NOT_ALLOWED)
            assert left(caller) == NOBODY
        assert dialled.to == [(OUTSIDE, server.port)]
        assert server.connections_opened == 1


@fault(6)
@pytest.mark.parametrize(
    "addresses",
    [
        ["10.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["::ffff:10.1.2.3"],
        ["64:ff9b::a00:1"],
        ["fd00:ec2::254"],
        ["fe80::1%eth0"],
        ["100.100.100.200"],
        ["0.0.0.0"],
        [OUTSIDE, HOST],
        [HOST, OUTSIDE],
    ],
    ids=", ".join,
)
def test_a_name_that_leads_inside(names: Names, dialled: Dialled, addresses: list[str]) -> None:
    names["gateway.test"] = [(each, 443) for each in addresses]
    way = to(gateway=guarded("gateway.test"))
    check_way(way, refused("address_not_allowed"), says=NOT_ALLOWED, after=NOBODY)
    assert dialled.to == []


@fault(6)
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[fd00::1]"]
)
@STREAM
def test_an_address_inside(names: Names, dialled: Dialled, host: str, stream: bool) -> None:
    way = to(gateway=guarded(host))
    check_way(way, refused("address_not_allowed", stream=stream), says=NOT_ALLOWED, after=NOBODY)
    assert dialled.to == []


@fault(6)
def test_the_catalogue_is_not_fetched_from_inside_either(facade: Facade, names: Names, dialled: Dialled) -> None:
    with facade(gateway=guarded("10.0.0.1")) as caller:
        with pytest.raises(APIConnectionError, match="address not allowed"):
            caller.models()
        with pytest.raises(APIConnectionError, match="address not allowed") as caught:
            caller.complete(model=A)
    assert "10.0.0.1" not in str(caught.value).replace("on inside", "")
    assert dialled.to == []


@fault(6)
@pytest.mark.parametrize(
    "host", ["2130706433", "0177.0.0.1", "0x7f000001", "127.1", "127.0.0.1.", "0x7f.1", "a.08", "a.1"]
)
def test_an_address_in_disguise_is_no_host(host: str) -> None:
    with pytest.raises(ConfigurationError, match="four decimal numbers"):
        guarded(host)


@fault(6)
def test_a_proxy_would_look_up_addresses_itself(
    facade: Facade, names: Names, dialled: Dialled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    with (
        facade(gateway=guarded("gateway.test")) as caller,
        pytest.raises(ConfigurationError, match="block_private=True") as caught,
    ):
        caller.complete(model=A)
    assert "secret" not in str(caught.value)
    assert dialled.to == []


@fault(6)
@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("100.63.255.255", True),
        ("172.32.0.1", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("0.1.2.3", False),
        ("10.255.255.255", False),
        ("100.64.0.1", False),
        ("127.8.8.8", False),
        ("168.63.129.16", False),
        ("169.254.0.1", False),
        ("172.31.255.255", False),
        ("192.0.0.192", False),
        ("192.168.1.1", False),
        ("198.19.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("64:ff9b:1::808:808", False),
        ("100::1", False),
        ("2001:0:7f00:1::", False),
        ("2001:db8::1", False),
        ("2002:7f00:1::1", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("2606:4700:4700::1111%eth0", False),
        ("2130706433", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public
