"""Dev mode: asked for in clear words, never in production, never on the network, and every answer says what it is."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from typing import Any

import pytest

from routerkit import AsyncClient, Client, ConfigurationError
from tests.security.canaries import KEY, found_in, listening
from tests.support.facades import FACADES, SkippingRuntime

CLIENTS: dict[str, Any] = {"sync": Client, "async": AsyncClient}
each_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("OPENROUTER_", "ONEROUTER_", "INFRON_", "DEV_MODE", "ROUTERKIT_")):
            monkeypatch.delenv(name)


ON = ("1", "true", "TRUE", "True", "yes", "Yes", "on", " on ")
OFF = ("0", "false", "FALSE", "False", "no", "No", "off", "", "  ")
NEITHER = (
    "2",
    "-1",
    "t",
    "f",
    "y",
    "n",
    "none",
    "null",
    "enabled",
    "disabled",
    "tru",
    "true;",
    "1.0",
    "真",
    "0x1",
    "False,",
)


@each_client
@pytest.mark.parametrize("text", ON + OFF + NEITHER, ids=repr)
def test_the_switch_takes_clear_words_only(client: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV_MODE", text)
    if text in NEITHER:
        with pytest.raises(ConfigurationError, match="DEV_MODE"):
            client(api_key=KEY)
        return
    assert (client(api_key=KEY).settings.dev_mode is not None) == (text in ON)


@each_client
@pytest.mark.parametrize("value", ["true", "false", 1, 0, "", [], pytest.param(object(), id="object")], ids=repr)
def test_so_does_the_argument(client: Any, value: Any) -> None:
    """`bool("false")` is true: no value is made into one."""
    with pytest.raises(ConfigurationError, match=r"dev_mode=.*must be True or False"):
        client(api_key=KEY, dev_mode=value)


@each_client
@pytest.mark.parametrize("key", ["", "  ", "todo", "sk-…", "changeme now", "x" * 600], ids=lambda key: repr(key[:12]))
def test_it_is_not_inferred_from_a_key_that_is_none(client: Any, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", key)
    with pytest.raises(ConfigurationError, match=r"API key not configured|not a valid API key"):
        client.from_env()
    with pytest.raises(ConfigurationError, match="not a valid API key"):
        client(api_key=key)


@each_client
@pytest.mark.parametrize("production", ["production", "PRODUCTION", " Production\n"], ids=repr)
def test_production_refuses_it_however_it_is_asked_for(
    client: Any, production: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("ROUTERKIT_ENV", production)
    file = tmp_path / "settings.env"
    file.write_text("DEV_MODE=1\nROUTERKIT_ENV=development\n")
    for make in (
        lambda: client(api_key=KEY, dev_mode=True),
        lambda: client(api_key=KEY, dev_mode=True, dev_script=[{"status": 500}]),
        lambda: client.from_env(file, api_key=KEY),
    ):
        with pytest.raises(ConfigurationError, match="answers would be made up"):
            make()
    assert client(api_key=KEY).settings.dev_mode is None


@pytest.mark.parametrize("facade", FACADES)
def test_every_made_up_answer_says_so(facade: str) -> None:
    """The answer, and the log once a minute: not once, and not at every call."""
    runtime = SkippingRuntime()
    with listening() as listener, FACADES[facade](dev_mode=True, api_key=KEY, runtime=runtime) as caller:
        assert caller.complete("Hello", model="a/one").mock is True
        reader = caller.stream("Hello", model="a/one")
        while reader.next():
            pass
        assert reader.stream.completion.mock is True
        for _ in range(20):
            caller.complete("Hello", model="a/one")
    told = [text for _, text in listener.lines if "answers are made up" in text]
    assert len(told) == 1
    assert str(logging.WARNING) in told[0]
    assert not found_in(" ".join(text for _, text in listener.lines))


OFFLINE = """
import asyncio, sys, logging
from routerkit import AsyncClient, Client

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "socket.sendto"):
        if str(arguments[0]) != "localhost":
            raise SystemExit(f"{event} {arguments}")

options = dict(dev_mode=True, api_key="sk-test-1234567890", dev_script=[{"status": 503, "model": "a/one", "times": 2}])
with Client(**options) as client:
    sys.addaudithook(watch)
    assert client.complete("Hello", model="a/one", fallback_models=["b/two"]).model == "b/two"
    with client.stream("Hello", model="a/one") as stream:
        assert list(stream)
    assert client.models() and client.explain("Hello", model="a/one").targets

async def main():
    async with AsyncClient(**options) as client:
        assert (await client.complete("Hello", model="b/two")).mock
        async with client.stream("Hello", model="b/two") as stream:
            assert [chunk async for chunk in stream]
        assert await client.models()

asyncio.run(main())
"""


def test_no_byte_leaves_the_process() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", OFFLINE], check=True, timeout=60)


@each_client
def test_a_client_stays_what_it_is(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `with_options` nor a variable that is set later turns one kind of client into the other."""
    made_up, real = client(dev_mode=True), client(api_key=KEY)
    monkeypatch.setenv("DEV_MODE", "1")
    assert real.with_options(timeout=5).settings.dev_mode is None
    monkeypatch.setenv("DEV_MODE", "0")
    answer = made_up.with_options(timeout=5).complete("Hello", model="a/one")
    assert (answer if client is Client else asyncio.run(answer)).mock
