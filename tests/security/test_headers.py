"""Header values and model ids, which come from callers: nothing in them may reach the wire that is more than a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from routerkit import ConfigurationError, InvalidRequestError
from routerkit.testing import FaultServer
from tests.security.canaries import KEY, found_in, leaks, said_by
from tests.support.facades import FACADES
from tests.support.facades import KEY as TEST_KEY

each_facade = pytest.mark.parametrize("facade", FACADES)
MODEL = "a/one"

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
