"""Where requests go: to the base URL and nowhere else, whatever a gateway, a `.netrc`, the environment or a URL says."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from routerkit import APIConnectionError, Client, ConfigurationError, Gateway, ProtocolError, RouterKitError
from routerkit.testing import FaultServer, closed_port
from routerkit.testing import replies as r
from routerkit.types.gateway import checked_url
from routerkit.types.secret import origin_of
from tests.security.canaries import KEY, PROMPT, chain, said_by, shown_by
from tests.support.facades import FACADES, Caller

each_facade = pytest.mark.parametrize("facade", FACADES)
MODEL = "a/one"
PASSWORD = "-".join(("hunter", "two", "platypus"))


pytestmark = pytest.mark.usefixtures("few_authorities")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def calls(caller: Caller) -> Iterator[Any]:
    """Every way to make a client send something."""
    yield lambda: caller.complete(PROMPT, model=MODEL)
    yield lambda: caller.stream(PROMPT, model=MODEL).close()
    yield caller.models


# --- redirects ---


@each_facade
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(facade: str, status: int, server: FaultServer) -> None:
    """Neither the key nor the prompt goes to where a gateway points, be it next door."""
    with FaultServer() as elsewhere:
        locations = (
            f"{elsewhere.url}/chat/completions",
            f"http://localhost:{elsewhere.port}/v1/models",
            f"//127.0.0.1:{elsewhere.port}/v1/models",
            f"{server.url}/other",
            "/v1/other",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "",
            f"https://me:{PASSWORD}@elsewhere.example/{PASSWORD}?{PASSWORD}",
        )
        for location in locations:
            server.default = server.catalog = r.redirect(status, location)
            for number in range(3):
                before = len(server.requests)
                with FACADES[facade](base_url=server.url, api_key=KEY) as caller:
                    with pytest.raises(
                        ProtocolError, match="redirects are never followed, so correct base_url"
                    ) as caught:
                        [*calls(caller)][number]()
                    assert caught.value.code == "unexpected_redirect"
                    assert PASSWORD not in str(caught.value)
                assert len(server.requests) == before + 1, "one attempt, and no other model"
        assert elsewhere.connections_opened == 0


@each_facade
def test_no_redirect_from_tls_to_none_is_followed(
    facade: str, server: FaultServer, tls: ssl.SSLContext, ca: Path
) -> None:
    with FaultServer(tls=tls) as secure:
        secure.default = r.redirect(307, f"{server.url}/chat/completions")
        gateway = Gateway(name="secure", base_url=secure.url, ca_file=str(ca))
        with FACADES[facade](gateway=gateway, api_key=KEY) as caller, pytest.raises(ProtocolError, match="redirects"):
            caller.complete(PROMPT, model=MODEL, fallback_models=[])
        assert len(secure.chat_requests) == 1
    assert server.connections_opened == 0


# --- what the environment would like to add ---


@each_facade
def test_neither_netrc_nor_cookies_nor_user_agents_of_the_environment(
    facade: str, server: FaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {PASSWORD}\ndefault login me password {PASSWORD}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    server.default = r.completion(headers={"Set-Cookie": "session=1; Path=/"})
    server.catalog = r.json_body({"data": r.CATALOG}, headers={"Set-Cookie": "session=1; Path=/"})
    for key in (KEY, None):
        with FACADES[facade](base_url=server.url, api_key=key) as caller:
            for call in [*calls(caller), *calls(caller)]:
                call()
    assert {request.header("Authorization") for request in server.requests} == {f"Bearer {KEY}", None}
    known = {"host", "user-agent", "accept", "accept-encoding", "content-type", "content-length", "authorization"}
    assert {name.lower() for request in server.requests for name, _ in request.headers} <= known


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@each_facade
def test_the_environment_has_no_say_in_whom_to_trust(
    facade: str, tls: ssl.SSLContext, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(ca.parent if name.endswith("DIR") else ca))
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    with FaultServer(tls=tls) as server:
        with FACADES[facade](base_url=server.url, api_key=KEY) as caller:
            with pytest.raises(APIConnectionError) as caught:
                caller.complete(PROMPT, model=MODEL, fallback_models=[])
            assert caught.value.code == "tls_verify"
        assert server.requests == []
        gateway = Gateway(name="secure", base_url=server.url, ca_file=str(ca))
        with FACADES[facade](gateway=gateway, api_key=KEY) as caller:
            assert caller.complete(PROMPT, model=MODEL).text == f"Hello from {MODEL}"


@each_facade
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_of_tls_are_refused(facade: str, version: str, tls: ssl.SSLContext, ca: Path) -> None:
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion[version]
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with FaultServer(tls=tls) as server:
        gateway = Gateway(name="secure", base_url=server.url, ca_file=str(ca))
        with FACADES[facade](gateway=gateway, api_key=KEY) as caller:
            if version in ("TLSv1_2", "TLSv1_3"):
                assert caller.complete(PROMPT, model=MODEL).text == f"Hello from {MODEL}"
            else:
                with pytest.raises(APIConnectionError):
                    caller.complete(PROMPT, model=MODEL, fallback_models=[])
                assert server.requests == []


def test_verification_cannot_be_switched_off() -> None:
    for name in ("verify", "verify_ssl", "tls_context", "ssl", "trust_env", "http_client", "proxies"):
        with pytest.raises(TypeError, match=name):
            Client(api_key=KEY, **{name: False})
        with pytest.raises(TypeError, match=name):
            Gateway(name="x", base_url="https://a.example", **{name: False})


@each_facade
def test_a_proxys_password_is_not_shown(facade: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = closed_port()
    for number, proxy in enumerate(
        (f"http://me:{PASSWORD}@127.0.0.1:{port}", f"socks5://me:{PASSWORD}@127.0.0.1:{port}")
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        del proxy
        with FACADES[facade](base_url="https://gateway.example/v1", api_key=KEY) as caller:
            with pytest.raises(RouterKitError) as caught:
                caller.complete("Hello", model=MODEL, fallback_models=[])
            assert isinstance(caught.value, (APIConnectionError, ConfigurationError)[number])
            shown = [*said_by(caught.value), *shown_by(caught.value)]
            assert [where for where, text in shown if PASSWORD in text and "test_destinations.py" not in where] == []


# --- base URLs ---

HOSTS = {
    "not a name": ("a<b>", "a{b}.example", "a,b.example", "example.com;x", "a..b", "-a.example", "a" * 64 + ".example"),
    "escaped": ("exa%6dple.com", "example.com%00.evil.example", "%31%32%37.0.0.1"),
    "not an address": ("[v1.abc]", "[fe80::1%25eth0]", "[::1", "[]", "[1.2.3.4]"),
    "two readings of a port": ("example.com:0", "example.com:65536", "example.com:-1", "example.com:1:2"),
}


@pytest.mark.parametrize(
    "host", [pytest.param(host, id=f"{why}: {host}") for why, all_ in HOSTS.items() for host in all_]
)
def test_a_host_that_two_parsers_may_read_differently_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        checked_url(f"https://{host}/v1")


@pytest.mark.parametrize("path", ["/v1/..", "/v1/../../x", "/./v1", "/v1/%2e%2e/x", "/v1/.%2E"])
def test_a_path_that_climbs_is_refused(path: str) -> None:
    """aiohttp would resolve it, where the other transport sends it as it stands."""
    with pytest.raises(ConfigurationError, match="base_url"):
        checked_url(f"https://example.com{path}")


NOT_THIS_MACHINE = (
    "127.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0",
    "0.0.0.0",
    "[::]",
    "localhost.",
    "local%68ost",
)
OTHERS = ("127.0.0.1.evil.example", "localhost.evil.example", "169.254.169.254", "10.0.0.1", "[fd00::1]")


@pytest.mark.parametrize("host", NOT_THIS_MACHINE + OTHERS)
def test_without_tls_only_what_is_plainly_this_machine(host: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        checked_url(f"http://{host}/v1")


@pytest.mark.parametrize(
    "url",
    [
        "https://EXAMPLE.com./v1",
        "https://xn--exmple-cua.com/v1",
        "https://a_b.example:8443/v1",
        "https://[2001:DB8::1]/v1",
    ],
)
def test_what_is_accepted_means_one_origin(url: str) -> None:
    from yarl import URL

    checked = checked_url(url)
    parsed = URL(checked)
    host = f"[{parsed.raw_host}]" if ":" in (parsed.raw_host or "") else parsed.raw_host
    assert origin_of(checked) == f"https://{host}:{parsed.port}"


@each_facade
@pytest.mark.parametrize("path", ["@127.0.0.1:{port}/v1/models", ".evil.example/models", ":{port}/v1/models"])
def test_a_catalogue_path_cannot_lead_elsewhere(facade: str, path: str, server: FaultServer) -> None:
    """It is refused; and were it not, the key would stay at home."""
    with FaultServer() as elsewhere:
        try:
            gateway = Gateway(name="x", base_url="http://127.0.0.1", catalog_path=path.format(port=elsewhere.port))
        except ConfigurationError:
            return
        with FACADES[facade](gateway=gateway, api_key=KEY) as caller, pytest.raises(RouterKitError):
            caller.models()
        assert elsewhere.requests == []


@each_facade
def test_the_key_goes_nowhere_but_to_its_origin(facade: str, server: FaultServer) -> None:
    """Even when a programmer bends a client to another address."""
    with FACADES[facade](base_url=f"http://127.0.0.1:{closed_port()}/v1", api_key=KEY) as caller:
        (access,) = caller.client.router.access.values()
        access.chat_url = f"{server.url}/chat/completions"
        with pytest.raises(RouterKitError) as caught:
            caller.complete(PROMPT, model=MODEL, fallback_models=[])
    assert "the key belongs to another host" in str([str(each) for each in chain(caught.value)])
    assert server.connections_opened == 0


@each_facade
def test_without_a_key_too_nothing_goes_where_no_gateway_is(facade: str, server: FaultServer) -> None:
    """Prompts are not for everybody either."""
    with FACADES[facade](base_url=f"http://127.0.0.1:{closed_port()}/v1", api_key=None) as caller:
        (access,) = caller.client.router.access.values()
        access.chat_url = f"{server.url}/chat/completions"
        with pytest.raises(RouterKitError) as caught:
            caller.complete(PROMPT, model=MODEL, fallback_models=[])
    assert "no gateway of this client is there" in str([str(each) for each in chain(caught.value)])
    assert server.connections_opened == 0


@each_facade
def test_two_gateways_of_one_client_get_each_its_own_key(facade: str, server: FaultServer) -> None:
    """The second is asked because the first is busy, with another key than that."""
    with FaultServer() as other:
        server.default = r.error(503)
        gateways = [Gateway(name=name, base_url=each.url) for name, each in (("first", server), ("second", other))]
        keys = {"first": KEY, "second": "sk-test-of-the-second"}
        with FACADES[facade](gateways=gateways, api_key=keys) as caller:
            assert caller.complete(PROMPT, model=MODEL, fallback_models=[]).gateway == "second"
        assert {seen.api_key for seen in server.requests} == {KEY}
        assert {seen.api_key for seen in other.requests} == {keys["second"]}


# --- second lists and other addresses of a gateway ---

DETAILS = {"data": [{"invoke_name": MODEL, "sale_input_cost": "$1", "sale_output_cost": "$2"}]}


@each_facade
@pytest.mark.parametrize("key", [KEY, None])
def test_a_public_list_is_asked_without_the_key_be_it_next_door(
    facade: str, key: str | None, server: FaultServer
) -> None:
    """On the very origin of the key too: it is public."""
    with FaultServer() as elsewhere:
        for other in (server, elsewhere):
            other.route("GET", "/display_models/", r.json_body(DETAILS))
            gateway = Gateway(name="x", base_url=server.url, details_url=f"{other.url}/display_models/")
            with FACADES[facade](gateway=gateway, api_key=key) as caller:
                assert MODEL in [model.id for model in caller.models()]
            (seen,) = [request for request in other.requests if request.path.endswith("/display_models/")]
            assert seen.header("Authorization") is None
            assert not [value for _, value in seen.headers if KEY in value]
            assert seen.body == b""
        assert {request.path for request in elsewhere.requests} == {"/v1/display_models/"}


@each_facade
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_of_a_public_list_is_followed(facade: str, status: int, server: FaultServer) -> None:
    with FaultServer() as elsewhere:
        server.catalog = r.error(404)
        for location in (
            f"{elsewhere.url}/models",
            f"//127.0.0.1:{elsewhere.port}/",
            "file:///etc/passwd",
            "/v1/other",
        ):
            before = len(server.requests)
            server.route("GET", "/list", r.redirect(status, location))
            gateway = Gateway(name="x", base_url=server.url, details_url=f"{server.url}/list")
            with FACADES[facade](gateway=gateway, api_key=KEY) as caller, pytest.raises(RouterKitError):
                caller.models()
            assert [request.path for request in server.requests[before:]] == ["/v1/models", "/v1/list"]
        assert elsewhere.connections_opened == 0


@pytest.mark.parametrize("field", ["base_url", "details_url"])
@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://evil.example/v1",
            f"https://me:{PASSWORD}@evil.example/v1",
            "ftp://evil.example",
            "//evil.example/v1",
        ),
        *("https://evil.example/v1/../x", "https://evil.example/?x=1", "https://evil.example/#x", "file:///etc/passwd"),
        *(
            "http://169.254.169.254/latest",
            "http://2130706433/",
            "https://[::1",
            "https://a.example\r\nX: y",
            "",
            5,
            b"https://a",
        ),
    ],
    ids=repr,
)
def test_every_address_of_a_gateway_follows_the_one_rule(field: str, url: Any) -> None:
    with pytest.raises(ConfigurationError, match=field) as caught:
        Gateway(**{"name": "x", "base_url": "https://fine.example/v1", field: url})
    assert PASSWORD not in str(caught.value)


@each_facade
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_no_list_leads_to_a_private_address(facade: str, host: str, server: FaultServer) -> None:
    """Where a base URL comes from users, so may the address of the list."""
    with FaultServer() as inside:
        url = f"http://{host}:{inside.port}/v1/list"
        gateway = Gateway(name="x", base_url=server.url, details_url=url, block_private=True)
        with FACADES[facade](gateway=gateway, api_key=KEY) as caller, pytest.raises(APIConnectionError) as caught:
            caller.models()
        assert caught.value.code == "address_not_allowed"
        assert inside.connections_opened == 0
    assert server.connections_opened == 0


PATHS = ("catalog_path", "key_path", "credits_path")


@pytest.mark.parametrize("field", PATHS)
@pytest.mark.parametrize(
    "path",
    [
        *(
            "//evil.example/x",
            "/../..",
            "/v1/../../x",
            "/./x",
            "/%2e%2e/x",
            "/.%2E",
            "/x\\y",
            "/x#y",
            "/x y",
            "/x\r\nX: y",
            "/é",
        ),
        *("https://evil.example/x", "@evil.example/x", ".evil.example", "key", "", 5, b"/x"),
    ],
    ids=repr,
)
def test_a_path_of_a_gateway_is_a_plain_one(field: str, path: Any) -> None:
    with pytest.raises(ConfigurationError, match=field):
        Gateway(**{"name": "x", "base_url": "https://fine.example/v1", field: path})


@each_facade
def test_a_path_that_is_accepted_stays_at_home(facade: str, server: FaultServer) -> None:
    """Whichever library asks, it is the same, below the base URL."""
    for path in ("/key", "/auth/key", "/key?of=me", "/a//b", "/x%20y", "/@evil.example", "/:80/x"):
        server.route("GET", path, r.json_body({"data": {"label": "mine"}}))
        gateway = Gateway(name="x", base_url=server.url, key_path=path)
        with FACADES[facade](gateway=gateway, api_key=KEY) as caller:
            assert caller.key_info().label == "mine"
        assert server.requests[-1].path == f"/v1{path}"


@each_facade
def test_a_key_refused_at_one_gateway_is_not_tried_at_the_other(facade: str, server: FaultServer) -> None:
    """Nor sent to where an alias or a prefix would like to have it."""
    with FaultServer() as other:
        server.default = r.error(401)
        gateways = [
            Gateway(name="first", base_url=server.url, id_prefix="first/"),
            Gateway(name="second", base_url=other.url),
        ]
        aliases = {MODEL: {"second": f"first/{MODEL}"}}
        with FACADES[facade](gateways=gateways, api_key=[KEY, f"{KEY}-2"], aliases=aliases) as caller:
            assert caller.complete(PROMPT, model=MODEL, fallback_models=[]).gateway == "second"
        assert {seen.api_key for seen in server.requests} == {KEY, f"{KEY}-2"}
        assert {seen.api_key for seen in other.requests} == {None}
