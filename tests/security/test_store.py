"""A store that many processes share: what is seen of us there, and what somebody else may leave there for us."""

from __future__ import annotations

import ast
import re
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import routerkit
from routerkit import AsyncClient, Client, ConfigurationError, LimitExceededError, Limits, SharedStore, Tenant
from routerkit.core import shared as shared_copies
from routerkit.store import redis_ask
from routerkit.store.redis_board import MAX_BLOB
from routerkit.store.redis_names import Names
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.shared import PATIENCE, Shared, Wire, everything, live, sharing
from tests.security.canaries import KEY, PROMPT, found_in, leaks, listening, said_by, shown_by
from tests.security.test_objects import reachable, showing
from tests.store.servers import Server, binary
from tests.support.facades import FACADES
from tests.support.wall import GARBAGE

each_facade = pytest.mark.parametrize("facade", FACADES)
pytestmark = pytest.mark.skipif(binary() is None, reason="no Valkey and no Redis here")

CODE = r"\b(load|loadstring|dofile|require|setfenv|getfenv|debug|os|io|cjson|cmsgpack|struct)\b *[.(]"
"""What could run text, or reach out of the script."""
STORE = Path(routerkit.__file__).parent / "store"
TENANTS = ("Quokka.Holdings", "quokka-holdings_2")
KINDS: dict[str, type[Client | AsyncClient]] = {"sync": Client, "async": AsyncClient}


@pytest.fixture
def gateway() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def store(running: Server) -> Server:
    running.clear()
    return running


@pytest.fixture
def own_store() -> Iterator[Server]:
    """One of which a password is asked: a canary."""
    with Server() as server:
        server.do("CONFIG", "SET", "requirepass", KEY)
        yield server


# --- c16: what is seen of us ---

OURS = re.compile(
    r"\{rk:[a-z2-7]{26}\}:(hints|[gbc]:[0-9a-f]{16}-[0-9]+|[ld]:[a-z2-7]{26}|t:[0-9]{5}:[0-9]{1,2}|[a-z2-7]{26}(:h)?)"
)
ACCOUNT = re.compile(rb"\b[ucmfa]/Quokka\.Holdings\b|\b[ucmfa]/quokka-holdings_2\b")
"""How an entry of a tenant's account begins."""


def dumped(client: redis.Redis) -> dict[str, bytes]:
    """All that the server holds, by key, in every form in which it may be read."""
    found: dict[str, bytes] = {}
    for raw in client.scan_iter(count=1000):
        kind = client.type(raw)
        value: Any = client.dump(raw)
        if kind == b"string":
            value += client.get(raw)
            packed = client.get(raw)[16 + 32 :]
            if b":d:" in raw:
                value += zlib.decompress(packed)
        elif kind == b"hash":
            value += repr(client.hgetall(raw)).encode()
        elif kind == b"zset":
            value += repr(client.zrange(raw, 0, -1, withscores=True)).encode()
        else:
            raise AssertionError(f"{raw}: {kind}")
        found[raw.decode()] = value
    return found


@each_facade
def test_nothing_that_anybody_chose_is_seen_in_a_shared_store(facade: str, gateway: FaultServer, store: Server) -> None:
    """Neither in what it holds nor in what it was sent: no prompt, no key, and no tenant but in the fleet's accounts, where
    its name is what they are about. Names of models and gateways are in the catalogue, which all may know."""
    options = everything(gateway, TENANTS)
    with Wire(store.port) as wire, sharing(FACADES[facade], gateway, wire.url, **options) as shared:
        live(shared, TENANTS, PROMPT)
        streams = [shared.caller.tenant(name).stream(PROMPT) for name in TENANTS]
        with redis.Redis(port=store.port, protocol=2) as client:
            held = dumped(client)
        for stream in streams:
            stream.close()
        sent = bytes(wire.said)
    assert len(held) > 30
    assert [key for key in held if not OURS.fullmatch(key)] == []
    assert {key.split(":")[2] for key in held if key.count(":") > 2} >= {"g", "d", "t"}, (
        "of all there is, there is something"
    )
    assert len(ACCOUNT.findall(sent)) > 5
    for word in (b"1234567890", b"c0ffee", b"has a cold"):
        assert [key for key, value in held.items() if word in value.lower()] == []
        assert word not in sent.lower()
    for word in (b"quokka", b"holdings"):
        assert {key.split(":")[2] for key, value in held.items() if word in value.lower()} == {"t"}
        assert word not in ACCOUNT.sub(b"", sent).lower()


@each_facade
def test_no_name_reaches_what_another_has(facade: str, gateway: FaultServer, store: Server) -> None:
    """Namespaces, tenants and models whose names would make one text if they were put together."""
    gateway.catalog = r.error(404)
    limits, count = Limits(requests_per_day=1), 0
    models = ["m/x", "m/x:h", "m/x:free", "m/x@one", "~m/x", "m/X", "m/x.", "m/x:d:", "M/x+y", "a" * 200]
    for namespace in ("a", "a:b", "a}", "{a}", "*", "a b", "ä", "A", "a" * 200):
        names = ["b", "b.c", "c", "b-c", "B", "_", "." * 64, "rk"]
        tenants = [Tenant(name, f"sk-{place}-1234567890", limits=limits) for place, name in enumerate(names)]
        per_model = {f"model:{model}": limits for model in models}
        own: dict[str, Any] = {"namespace": namespace, "default_model": None}
        with sharing(FACADES[facade], gateway, store.url, tenants=tenants, api_key=None, **own) as shared:
            for name in names:
                shared.caller.tenant(name).complete(model="m/x")
                with pytest.raises(LimitExceededError):
                    shared.caller.tenant(name).complete(model="m/x")
        with sharing(FACADES[facade], gateway, store.url, limits=per_model, **own) as shared:
            for model in models:
                assert shared.caller.complete(model=model).model == model
            for model in models:
                with pytest.raises(LimitExceededError):
                    shared.caller.complete(model=model)
        count += len(names) + len(models)
    assert len(gateway.chat_requests) == count
    with store.client() as client:
        assert [key for key in client.scan_iter(count=1000) if not OURS.fullmatch(key)] == []


@pytest.mark.parametrize("name", ["a:b", "}", "{rk:x}", "*", "a\nb", "a\0", "x" * 1_000_000, "ä", "a b", ""])
def test_names_of_tenants_that_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Tenant(name, KEY)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["", "x" * 201, "x" * 1_000_000, "a\nb", "a\0", "redis://x", KEY])
def test_names_of_namespaces_that_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        SharedStore("redis://127.0.0.1", name)
    assert len(str(caught.value)) < 300
    assert found_in(str(caught.value)) == set()


# --- c17: what is left there for us ---


def test_scripts_are_never_made_of_what_they_are_given() -> None:
    """Nothing in them runs text, and each is a file of ours, word for word."""
    texts = {path.stem: path.read_text() for path in STORE.glob("*.lua")}
    assert len(texts) >= 9
    for name, text in texts.items():
        assert not re.search(CODE, text), name
        assert not re.search(r"redis\.(pcall|call)\((?!['])", text), f"{name}: a command that is no word"
        if name != "limits":
            assert redis_ask.script(name).text == texts["limits"] + text


def test_the_store_asks_for_nothing_that_walks_through_the_server() -> None:
    walking = {"scan", "scan_iter", "sscan", "hscan", "zscan", "randomkey", "flushall", "flushdb", "config_set", "eval"}
    for path in STORE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Attribute) and node.attr in walking), (path.name, node.lineno)


def sealed(names: Names, name: str, data: bytes) -> bytes:
    """As a process of ours would leave it."""
    return b"%016d" % 1_700_000_000_000_000 + names.seal(name, data) + data


@each_facade
@pytest.mark.parametrize("what", GARBAGE)
def test_whatever_stands_for_the_catalogue_is_not_believed(
    facade: str, what: str, gateway: FaultServer, store: Server
) -> None:
    """Even where it is sealed as ours are, by whoever knows the namespace."""
    names, url = Names("routerkit"), f"{gateway.url}/models"
    with redis.Redis(port=store.port, protocol=2) as client:
        for name in (f"list {url}", "scores"):
            client.set(names.blob(name), sealed(names, name, GARBAGE[what]), ex=3600)
        tracemalloc.start()
        try:
            with sharing(FACADES[facade], gateway, store.url, strategy="performance_optimized") as shared:
                assert {model.id for model in shared.caller.models()} == {each["id"] for each in r.CATALOG}
                assert shared.degraded(4) == 0
            assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
        finally:
            tracemalloc.stop()
        assert client.get(names.blob(f"list {url}"))[48:] != GARBAGE[what], "a good one has taken its place"


@each_facade
def test_what_is_too_large_is_not_fetched(facade: str, gateway: FaultServer, store: Server) -> None:
    names, url = Names("routerkit"), f"{gateway.url}/models"
    with redis.Redis(port=store.port, protocol=2) as client, Wire(store.port) as wire:
        for name in (f"list {url}", "scores"):
            client.set(names.blob(name), sealed(names, name, bytes(8 * MAX_BLOB)), ex=3600)
        with sharing(FACADES[facade], gateway, wire.url, strategy="performance_optimized") as shared:
            assert shared.caller.models()
            assert shared.degraded(2) == 0
            assert shared.store.report().replaced >= 1
        assert wire.heard < MAX_BLOB


@each_facade
def test_a_seal_of_another_namespace_is_none(facade: str, gateway: FaultServer, store: Server) -> None:
    """Nor is a copy of a list that belongs to another gateway: prices are not to be had from there."""
    names, url = Names("routerkit"), f"{gateway.url}/models"
    free = r.as_json({"data": [r.catalog_model("alpha/one", pricing={"prompt": "0", "completion": "0"})]})
    data, name = shared_copies.packed(free), f"list {url}"
    forged = {
        "no seal": b"%016d" % 1_700_000_000_000_000 + bytes(32) + data,
        "another namespace's": sealed(Names("other"), name, data),
        "another gateway's": sealed(names, "list https://elsewhere.example/models", data),
    }
    with redis.Redis(port=store.port, protocol=2) as client:
        for told, value in forged.items():
            client.set(names.blob(name), value, ex=3600)
            with sharing(FACADES[facade], gateway, store.url) as shared:
                prices = {model.id: model.pricing.prompt for model in shared.caller.models()}
                assert prices["alpha/one"] != 0, told
                assert shared.store.report().replaced >= 1


# --- c17: the way there ---


def lived(facade: str, gateway: FaultServer, store: Server) -> tuple[Shared, Any]:
    login = f"redis://:{KEY}@127.0.0.1:{store.port}/0"
    context = sharing(FACADES[facade], gateway, login, **everything(gateway))
    return context.__enter__(), context


@each_facade
def test_no_object_and_no_line_shows_the_password_of_the_store(
    facade: str, gateway: FaultServer, own_store: Server
) -> None:
    """In good times and in bad."""
    with listening() as listener:
        shared, context = lived(facade, gateway, own_store)
        try:
            live(shared)
            client: Any = shared.caller.client
            objects = reachable(client, client._link, client.settings, shared.store)
            assert {"SharedStore", "RedisStore", "Address", "Login"} <= {type(each).__name__ for each in objects}
            assert showing(objects) == []
            own_store.do("CONFIG", "SET", "requirepass", "another", password=KEY)
            own_store.do("CLIENT", "KILL", "TYPE", "normal", password="another")
            assert shared.caller.tenant("acme").complete().route.degraded
            shared.runtime.advance(PATIENCE)
            own_store.kill()
            assert shared.caller.tenant("acme").complete().route.degraded
            assert showing(reachable(client, client._link)) == []
        finally:
            context.__exit__(None, None, None)
    assert "lost" in str(listener.lines)
    assert leaks(listener.lines) == []


BAD = [
    f"redis://:{KEY}@127.0.0.1:99999/0",
    f"redis://:{KEY}@127.0.0.1/x",
    f"redis://:{KEY}@127.0.0.1/0?nonsense=1",
    f"redis://{KEY}@127.0.0.1:1:2/0",
    f"redis://:{KEY}@@127.0.0.1/0",
    f"redis://:{KEY}@/0#x",
    f"redis://:{KEY}",
    f"http://:{KEY}@127.0.0.1",
    f"redis+sentinel://:{KEY}@127.0.0.1/?sentinel_password={KEY}&x",
    f"unix://:{KEY}@relative/path",
    f"redis://:{KEY} @127.0.0.1",
    KEY,
]


@each_facade
@pytest.mark.parametrize("place", range(len(BAD)))
def test_no_frame_of_an_error_about_the_store_shows_its_password(
    facade: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as listener, pytest.raises(ConfigurationError) as caught:
        KINDS[facade](api_key="sk-test-1234567890", store=BAD[place], limits=Limits(requests_per_day=1))
    assert leaks(said_by(caught.value)) == []
    assert leaks(shown_by(caught.value)) == []
    monkeypatch.setenv("ROUTERKIT_STORE", BAD[place])
    with listening() as again, pytest.raises(ConfigurationError) as caught:
        KINDS[facade].from_env(api_key="sk-test-1234567890", limits=Limits(requests_per_day=1))
    assert leaks(said_by(caught.value)) == []
    assert leaks(shown_by(caught.value)) == []
    assert leaks([*listener.lines, *again.lines]) == []


@each_facade
def test_nor_does_one_that_the_server_makes(facade: str, own_store: Server) -> None:
    """It refuses a password, which is not told either."""
    own_store.do("CONFIG", "SET", "requirepass", "another", password=KEY)
    told: list[ConfigurationError] = []
    with listening() as listener:
        while not told:  # fifty milliseconds may be too short for this machine
            try:
                KINDS[facade](
                    api_key="sk-test-1234567890",
                    store=f"redis://:{KEY}@127.0.0.1:{own_store.port}",
                    limits=Limits(requests_per_day=1),
                )
            except ConfigurationError as error:
                told.append(error)
    assert "refuses us" in str(told[0])
    assert leaks(said_by(told[0])) == []
    assert leaks(shown_by(told[0])) == []
    assert leaks(listener.lines) == []
