"""What objects show of themselves: everything that can be reached from a client, an answer or an error, and what travels."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import pytest

from routerkit import (
    AllModelsFailedError,
    AsyncClient,
    Client,
    Gateway,
    RouterKitError,
    Settings,
    StreamInterruptedError,
    Tenant,
)
from routerkit.client import Chat, Stream
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from routerkit.types.secret import RedactedStr, Secret
from tests.security.canaries import ANSWER, KEY, PROMPT, SECOND_KEY, found_in
from tests.security.troubles import CLIENT, MODEL
from tests.support.facades import SkippingRuntime

FACADES: dict[str, type[Client | AsyncClient]] = {"sync": Client, "async": AsyncClient}
_LEAVES = (str, bytes, int, float, type, ModuleType, type(None))


def inner(thing: Any) -> Iterator[Any]:
    """What an object holds."""
    if isinstance(thing, (dict, MappingProxyType)):
        yield from thing.keys()
        yield from thing.values()
    elif isinstance(thing, (list, tuple, set, frozenset)) or type(thing).__name__ in ("deque", "WeakSet"):
        yield from list(thing)
    yield from getattr(thing, "__dict__", {}).values()
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(thing, name, None)
    if isinstance(thing, MethodType):
        yield thing.__self__
    if isinstance(thing, FunctionType):
        yield from (cell.cell_contents for cell in thing.__closure__ or ())
    if isinstance(thing, BaseException):
        yield from (thing.__cause__, thing.__context__)


def reachable(*roots: Any) -> list[Any]:
    """Every object of the library that can be reached, whatever it takes, save for the secret itself."""
    known: dict[int, Any] = {}
    waiting = list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in known or isinstance(thing, _LEAVES):
            continue
        known[id(thing)] = thing
        waiting += inner(thing)
    return [thing for thing in known.values() if type(thing).__module__.startswith("routerkit")]


def showing(things: list[Any]) -> list[str]:
    """Those whose `repr`, `str` or `format` has a canary in it."""
    ways: tuple[Callable[[Any], str], ...] = (repr, str, lambda thing: f"{thing}", lambda thing: repr([thing]))
    return [type(thing).__name__ for thing in things if any(found_in(way(thing)) for way in ways)]


class Keeping:
    """A strategy that keeps what it saw."""

    needs_scores = True

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def order(self, candidates: Any, outlook: Any) -> Any:
        self.seen.append(outlook)
        return candidates


def alone(server: FaultServer) -> dict[str, Any]:
    """A client with one gateway and one key."""
    return {**CLIENT, "base_url": server.url}


def among_others(server: FaultServer) -> dict[str, Any]:
    """One with several gateways and tenants, whose keys each are several."""
    gateways = [
        Gateway(name="first", base_url=server.url, key_path="/key", credits_path="/credits"),
        Gateway(name="second", base_url=server.url),
    ]
    return {
        "gateways": gateways,
        "default_model": MODEL,
        "aliases": {"b/two": {"second": "b/2"}, "c/three": {"second": None}},
        "strategy": Keeping(),
        "tenants": [Tenant("acme", {"first": [KEY, SECOND_KEY], "second": SECOND_KEY}), Tenant("globex", SECOND_KEY)],
        "performance_cache": True,
    }


LIVES: dict[str, Callable[[FaultServer], dict[str, Any]]] = {"alone": alone, "among others": among_others}


def lived(facade: str, server: FaultServer, life: str = "alone") -> tuple[Any, list[Any]]:
    """A client that has seen a good deal, and all that it gave out."""
    given: list[Any] = []
    options = {**LIVES[life](server), "runtime": SkippingRuntime(), "observers": [given.append]}
    server.route("GET", "/key", r.json_body({"data": {"label": KEY, "limit": 3, KEY: [KEY, {"x": KEY}]}}))
    server.route("GET", "/credits", r.json_body({"data": {"total_credits": 5, "note": f"of {KEY}"}}))
    server.script("b/two", r.error(400, message="no"))
    server.script("c/three", r.stream(r.role(), ANSWER, r.cut()))
    server.default = r.completion(ANSWER)
    if facade == "sync":
        return _lived(Client(**options), given), given

    async def main() -> AsyncClient:
        return await _lived_async(AsyncClient(**options), given)

    return asyncio.run(main()), given


def _lived(root: Client, given: list[Any]) -> Client:
    client = root.tenant("acme") if root.settings.tenants else root
    given += [client.key_info()] if client.settings.gateway.key_path else []
    given += [client.complete(PROMPT), client.health(), client.explain(PROMPT), client.models(), client.chat]
    for model in ("b/two", "c/three"):
        try:
            with client.stream(PROMPT, model=model, fallback_models=[]) as stream:
                given += [stream, *stream]
        except RouterKitError as error:
            given.append(error)
    with client.stream(PROMPT, model=MODEL) as stream:
        given += [stream, *stream, stream.completion, stream.route]
    given += [
        client.with_options(timeout=5),
        client.usage(),
        client.stats(),
        client.health(),
        root.usage(),
        root.stats(),
    ]
    root.close()
    return root


async def _lived_async(root: AsyncClient, given: list[Any]) -> AsyncClient:
    client = root.tenant("acme") if root.settings.tenants else root
    given += [await client.key_info()] if client.settings.gateway.key_path else []
    given += [await client.complete(PROMPT), client.health(), await client.explain(PROMPT), await client.models()]
    given.append(client.chat)
    for model in ("b/two", "c/three"):
        try:
            async with client.stream(PROMPT, model=model, fallback_models=[]) as stream:
                given += [stream, *[chunk async for chunk in stream]]
        except RouterKitError as error:
            given.append(error)
    async with client.stream(PROMPT, model=MODEL) as stream:
        given += [stream, *[chunk async for chunk in stream], stream.completion, stream.route]
    given += [
        client.with_options(timeout=5),
        client.usage(),
        client.stats(),
        client.health(),
        root.usage(),
        root.stats(),
    ]
    await root.aclose()
    return root


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file in which scores are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "routerkit" / "performance.json"


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("facade", FACADES)
def test_no_object_shows_a_canary(facade: str, life: str, cache: Path) -> None:
    with FaultServer() as server:
        client, given = lived(facade, server, life)
        things = reachable(client, given)
    names = {type(thing).__name__ for thing in things}
    expected = (
        "Settings Router Health Gateway Secret Credential Completion Chunk Route Attempt Plan Candidate Model Verdict"
    )
    events = "AttemptFinished CallFinished CatalogRefreshed BadRequestError StreamInterruptedError"
    assert names >= {*expected.split(), *events.split(), FACADES[facade].__name__}
    if life == "among others":
        several = "Tenant KeyInfo Outlook Accounts UsageReport Stats Key ScoreFile"
        assert names >= {*several.split()}
        assert sum(isinstance(thing, Secret) for thing in things) == 4
        assert "gateway" in cache.read_text()
        assert not found_in(cache.read_text())
    assert showing(things) == []
    assert showing([client.settings.api_key, *client.router.access.values()]) == []
    assert not found_in(json.dumps([thing.to_dict() for thing in given if hasattr(thing, "to_dict")])) & {
        "key",
        "prompt",
    }


@pytest.mark.parametrize("facade", FACADES)
@pytest.mark.parametrize("dev_mode", [False, True])
def test_a_client_does_not_travel(facade: str, dev_mode: bool) -> None:
    client = FACADES[facade](**CLIENT, dev_mode=dev_mode)
    for thing in (client, client.router, client.settings):
        with pytest.raises(TypeError):
            copy.deepcopy(thing)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                pickle.dumps(thing, protocol)


@pytest.mark.parametrize("life", LIVES)
def test_what_travels_is_free_of_the_key(life: str) -> None:
    """Results and errors: in full, as they are data, but never with what they were asked with."""
    with FaultServer() as server:
        _, given = lived("sync", server, life)
    stay = (Client, Stream, Chat)
    travellers = [thing for thing in given if not isinstance(thing, stay)]
    assert {"Completion", "Route", "Plan", "StreamInterruptedError"} <= {type(each).__name__ for each in travellers}
    for thing in travellers:
        for carried in (pickle.dumps(thing), pickle.dumps(copy.deepcopy(thing))):
            assert not found_in(carried.decode("latin-1")) & {"key", "prompt"}
    interrupted = next(each for each in travellers if isinstance(each, StreamInterruptedError))
    again = pickle.loads(pickle.dumps(interrupted))
    assert again.partial_text == interrupted.partial_text == ANSWER
    assert not found_in(repr(again) + str(again) + repr(again.args))


def test_a_stream_does_not_travel() -> None:
    with FaultServer() as server, Client(**CLIENT, base_url=server.url) as client, client.stream(PROMPT) as stream:
        for carry in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError):
                carry(stream)


def test_settings_are_the_only_way_to_the_key_and_it_is_asked_for_by_name() -> None:
    settings = Client(**CLIENT).settings
    assert isinstance(settings, Settings)
    assert settings.api_key is not None
    assert settings.api_key.reveal() == KEY
    assert not found_in(repr(settings.api_key.reveal())), "even what is revealed is not shown by a frame"
    assert isinstance(settings.api_key.reveal(), RedactedStr)


def test_a_collective_error_does_not_quote_what_moderation_quoted() -> None:
    with FaultServer() as server, Client(**CLIENT, base_url=server.url, runtime=SkippingRuntime()) as client:
        server.catalog = r.error(404)
        server.script(MODEL, r.error(500, message="down"))
        server.script("b/two", r.error(503, message=PROMPT, metadata={"flagged_input": PROMPT}))
        with pytest.raises(AllModelsFailedError) as caught:
            client.complete(PROMPT, fallback_models=["b/two"])
    assert not found_in(str(caught.value) + repr(caught.value.errors) + repr(caught.value.route))
