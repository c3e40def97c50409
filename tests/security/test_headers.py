"""Header values and model ids, which come from callers: nothing in them may reach the wire that is more than a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest

from routerkit import ChatRequest, ConfigurationError, Gateway, InvalidRequestError
from routerkit.core.plan import named
from routerkit.testing import FaultServer
from tests.security.canaries import KEY, found_in, leaks, said_by
from tests.support.facades import FACADES
from tests.support.facades import KEY as TEST_KEY

each_facade = pytest.mark.parametrize("facade", FACADES)
MODEL = "a/one"
GATEWAYS = [Gateway(name=name, base_url=f"http://127.0.0.1:1/{name}") for name in ("first", "second")]

BAD_VALUES = {
    "NUL": "a\x00b",
    "CR": "a\rb",
    "LF": "a\nb",
    "CRLF": "a\r\nX-Evil: 1",
    "a folded line": "a\r\n b",
    "LF at the end": "a\n",
    "a leading blank": " a",
    "a trailing blank": "a ",
    "a tab": "a\tb",
    "DEL": "a\x7f",
    "ESC": "a\x1b[31m",
    "Latin-1": "café",
    "beyond": "日本",
    "a line separator": "a\u2028b",
    "a surrogate": "a\udc80",
    "more than 1 KiB": "a" * 1025,
    "no string": 5,
    "bytes": b"a",
}
OURS = (
    "Accept-Encoding",
    "Authorization",
    "Connection",
    "Content-Length",
    "Content-Type",
    "Cookie",
    "Expect",
    "Host",
    "Proxy-Authorization",
    "TE",
    "Transfer-Encoding",
    "Upgrade",
)
BAD_NAMES = ("", " ", "X Y", "X:Y", "X\r\nY", "X\x00", " X", "X ", "Ä", "X\n", "X" * 101, "(X)")


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def test_what_may_be_added_arrives_as_it_is(server: FaultServer) -> None:
    value = "".join(map(chr, range(0x21, 0x7F))) + " x"
    for facade in FACADES.values():
        with facade(base_url=server.url, app_url="https://example.com/" + "a" * 1004) as caller:
            caller.complete("Hello", model=MODEL, extra_headers={"X-Trace": value, "x-long": "a" * 1024})
    for request in server.requests:
        assert request.header("X-Trace") == value
        assert request.header("X-Long") == "a" * 1024
        assert len(request.header("HTTP-Referer") or "") == 1024
    assert len(server.requests) == 2


@each_facade
@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES)
def test_values_that_are_refused(facade: str, value: Any, server: FaultServer) -> None:
    """One rule for every header: those of a call, and those of a client."""
    with FACADES[facade](base_url=server.url) as caller:
        for ask in (caller.complete, caller.stream):
            with pytest.raises(InvalidRequestError, match=r"extra_headers: X-Trace: must be printable ASCII"):
                ask("Hello", model=MODEL, extra_headers={"X-Trace": value})
    for option in ("app_url", "app_title"):
        with pytest.raises(ConfigurationError, match=f"{option}: must be printable ASCII"):
            FACADES[facade](base_url=server.url, **{option: value})
    assert server.connections_opened == 0


@each_facade
@pytest.mark.parametrize("name", [*OURS, *(name.lower() for name in OURS), *BAD_NAMES], ids=repr)
def test_names_that_are_refused(facade: str, name: str, server: FaultServer) -> None:
    with (
        FACADES[facade](base_url=server.url) as caller,
        pytest.raises(InvalidRequestError, match="extra_headers: ") as caught,
    ):
        caller.complete("Hello", model=MODEL, extra_headers={name: KEY})
    assert leaks(said_by(caught.value)) == []
    assert str(caught.value).isprintable()
    assert server.connections_opened == 0


@pytest.mark.parametrize("value", ["a\nX-Evil: 1", "a\x00", "café", "a" * 1025], ids=repr)
@pytest.mark.parametrize("name", ["OPENROUTER_HTTP_REFERER", "OPENROUTER_X_OPEN_ROUTER_TITLE"])
def test_headers_of_the_environment_follow_the_same_rule(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\x00" in value:
        return  # no environment can hold it
    monkeypatch.setenv(name, value)
    for facade in FACADES.values():
        with pytest.raises(ConfigurationError, match=f"{name}: .*printable ASCII"):
            facade(gateway="openrouter")


@each_facade
@pytest.mark.parametrize(
    "model",
    [
        "",
        " a",
        "a b",
        "a\n",
        "a\r\nX: y",
        "a\x00",
        "é",
        "a" * 201,
        "../a",
        "-a",
        "a?b",
        "a#b",
        "a%0d",
        "a\\b",
        '"',
        "{}",
    ],
    ids=repr,
)
def test_model_ids_that_are_refused(facade: str, model: str, server: FaultServer) -> None:
    with FACADES[facade](base_url=server.url) as caller:
        for arguments in ({"model": model}, {"model": MODEL, "fallback_models": [model]}):
            for ask in (caller.complete, caller.stream):
                with pytest.raises(InvalidRequestError, match="not a model id") as caught:
                    ask("Hello", **arguments)
                assert str(caught.value).isprintable()
    with pytest.raises(ConfigurationError, match="not a model id"):
        FACADES[facade](base_url=server.url, default_model=model)
    assert server.connections_opened == 0


@each_facade
def test_one_header_of_each_name(facade: str, server: FaultServer) -> None:
    """A caller's header takes the place of one of ours, whatever its case; a server may read either of two."""
    with FACADES[facade](base_url=server.url, app_url="https://ours.example") as caller:
        caller.complete(
            "Hello", model=MODEL, extra_headers={"http-referer": "https://theirs.example", "user-agent": "x"}
        )
    names = [name.lower() for name, _ in server.requests[0].headers]
    assert len(names) == len(set(names))
    assert server.requests[0].header("HTTP-Referer") == "https://theirs.example"
    assert server.requests[0].api_key == TEST_KEY
    assert not found_in(str(names))


@pytest.mark.parametrize(
    "name",
    [*OURS, "X\r\nEvil: 1", "X-A: 1", "X A", "X-\x00", "X-é", "", " X-Title", "X-" + "a" * 200, 5, b"X-Title"],
    ids=repr,
)
def test_a_gateway_cannot_have_the_title_in_any_header(name: Any) -> None:
    """Least of all in one of ours."""
    for each in {name, name.lower(), name.upper()} if isinstance(name, str) else {name}:
        with pytest.raises(ConfigurationError, match="title_header"):
            Gateway(name="x", base_url="https://a.example/v1", title_header=each)


CLIMBING = ("/srv/../../etc", "..", "../x", "a/..", "a/../b", "/..", "/../..", "openrouter/../x", "first/../../x")
ALIASES: dict[str, Any] = {
    **{f"climbs: {model}": {"a/one": {"first": model}} for model in CLIMBING},
    **{f"from one that climbs: {model}": {model: {"first": "a/one"}} for model in CLIMBING},
    "a line break": {"a/one": {"first": "b\r\nHost: evil"}},
    "a line break in the name": {"a\n/one": {"first": "b"}},
    "too long": {"a/one": {"first": "b" * 201}},
    "a prefix a thousand times": {"a/one": {"first": "first/" * 1000 + "x"}},
    "a NUL": {"a/one": {"first": "b\x00"}},
    "not ASCII": {"a/one": {"first": "モデル"}},
    "a number": {"a/one": {"first": 5}},
    "a list": {"a/one": {"first": ["b"]}},
    "a gateway that is none": {"a/one": {"elsewhere": "b"}},
    "a gateway that is a number": {"a/one": {5: "b"}},
    "no table": {"a/one": "b"},
    "no table at all": [("a/one", "b")],
    "a name of any length": {"a" * 100_000: {"elsewhere": "b"}},
    "a gateway of any length": {"a/one": {"g" * 100_000: "b"}},
}


@each_facade
@pytest.mark.parametrize("aliases", ALIASES.values(), ids=ALIASES)
def test_aliases_follow_the_rule_of_model_ids(facade: str, aliases: Any) -> None:
    with pytest.raises(ConfigurationError) as caught, FACADES[facade](gateways=GATEWAYS, aliases=aliases):
        pass
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("prefix", ["../", "a/../", "/", "a b/", "a\r\nb/", "openrouter", "x" * 200 + "/", 5], ids=repr)
def test_prefixes_that_are_none(prefix: Any) -> None:
    with pytest.raises(ConfigurationError, match="id_prefix"):
        Gateway(name="x", base_url="https://a.example/v1", id_prefix=prefix)


@each_facade
def test_a_prefix_is_taken_off_once(facade: str) -> None:
    """However often it stands there, and what is left is still a model id."""
    with FaultServer() as server:
        gateway = Gateway(name="first", base_url=server.url, id_prefix="first/")
        with FACADES[facade](gateway=gateway, api_key=TEST_KEY) as caller:
            caller.complete("Hello", model="first/" * 30 + "x", fallback_models=[])
            for model in ("first/" * 1000 + "x", "first/../x", "first//../x", "first/..", *CLIMBING):
                with pytest.raises(InvalidRequestError, match="not a model id"):
                    caller.complete("Hello", model=model)
        assert server.models_asked == ["first/" * 29 + "x"]


class LookedUp(Mapping[str, Mapping[str, str | None]]):
    """A table in which one looks up, and does not go through all of it."""

    def __init__(self, table: Mapping[str, Mapping[str, str | None]]) -> None:
        self._table = table
        self.times = 0

    def __getitem__(self, name: str) -> Mapping[str, str | None]:
        self.times += 1
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("gone through")

    def __len__(self) -> int:
        return len(self._table)


@each_facade
def test_ten_thousand_aliases_are_no_burden(facade: str) -> None:
    aliases = {f"a/{number}": {"first": f"b/{number}", "second": None} for number in range(10_000)}
    with FACADES[facade](gateways=GATEWAYS, aliases=aliases) as caller:
        (target,) = caller.explain("Hello", model="a/9999", fallback_models=[]).targets[:1]
        assert (target.gateway, target.model) == ("first", "b/9999")
        table = LookedUp(caller.client.settings.aliases)
        request = ChatRequest.build("Hello", model="a/9999", fallback_models=())
        (target,) = named(attrs.evolve(caller.client.settings, aliases=table), request).targets
        assert (target.gateway, target.model) == ("first", "b/9999")
        assert table.times == 1
