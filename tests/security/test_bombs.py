"""What is too large, too deep or too odd: bounded before it is held, refused as an answer like any other bad one."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from routerkit import Gateway, InvalidRequestError, RouterKitError
from routerkit.core import catalog, hints, intake, key_info, sse
from routerkit.store import scores
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from routerkit.transport import http1
from routerkit.types import request as requests
from tests.support.facades import FACADES

each_facade = pytest.mark.parametrize("facade", FACADES)
MODEL = "a/one"
MIB = 1024 * 1024
GUIDE = Path(__file__).parents[2] / "docs" / "security.md"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.catalog = r.error(404)
        yield running


# --- sizes ---

CAPS: dict[str, tuple[int, str]] = {
    "a request": (requests.MAX_BODY, "to 16 MiB"),
    "an answer or a stream": (intake.MAX_RESPONSE, "64 MiB for an answer or a stream"),
    "the refusal of a stream": (intake.MAX_ERROR_BODY, "64 KiB for the refusal of a stream"),
    "an event": (sse.SSEDecoder.__init__.__kwdefaults__["max_event"], "8 MiB for one event"),
    "the catalogue": (catalog.MAX_BYTES, "32 MiB for the catalogue"),
    "the head of an answer": (http1.MAX_HEAD, "64 KiB for the head of an answer"),
    "news of a key": (key_info.MAX_BYTES, "1 MiB for news of a key"),
    "performance scores": (scores.MAX_BYTES, "4 MiB for the file of performance scores"),
}


@pytest.mark.parametrize("what", CAPS)
def test_every_cap_is_the_one_that_the_guide_tells(what: str) -> None:
    limit, told = CAPS[what]
    number, unit = re.findall(r"([0-9]+) ([KM]iB)", told)[0]
    assert limit == int(number) * {"KiB": 1024, "MiB": MIB}[unit]
    assert told in " ".join(GUIDE.read_text().split())


def test_the_longest_wait_is_a_day() -> None:
    assert hints.MAX_SECONDS == 86_400


@each_facade
def test_a_request_that_is_too_large_is_not_sent(facade: str, server: FaultServer) -> None:
    with FACADES[facade](base_url=server.url) as caller:
        for ask in (caller.complete, caller.stream):
            with pytest.raises(InvalidRequestError, match="at most 16777216 are sent") as caught:
                ask("x" * (16 * MIB), model=MODEL)
            assert len(str(caught.value)) < 200
    assert server.connections_opened == 0


def endless(head: Callable[[Connection], bytes], piece: bytes) -> r.Reply:
    def reply(connection: Connection, _: RecordedRequest) -> None:
        connection.send(head(connection))
        while True:
            connection.send(piece)

    return reply


@each_facade
@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_the_refusal_of_a_stream_is_read_no_further_than_it_is_worth(
    facade: str, status: int, server: FaultServer
) -> None:
    """The rest of it is left where it is."""
    chunked = {"Content-Type": "text/html", "Transfer-Encoding": "chunked"}
    chunk = b"4000\r\n" + b"<" * 0x4000 + b"\r\n" if status != 200 else b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    server.script(MODEL, endless(lambda connection: connection.head(status, chunked), chunk))
    with FACADES[facade](base_url=server.url) as caller:
        caller.complete("Hello", model="b/two")  # loads what is loaded once
        tracemalloc.start()
        try:
            with pytest.raises(RouterKitError):
                caller.stream("Hello", model=MODEL, fallback_models=[])
            assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        finally:
            tracemalloc.stop()
        caller.until(server, lambda: not server.open_connections)


@each_facade
@pytest.mark.parametrize(
    "encoding", ["gzip, gzip", "gzip,identity", "deflate", "br", "zstd", "compress", "gzip;q=1", "x"]
)
def test_only_what_was_asked_for_is_opened(facade: str, encoding: str, server: FaultServer) -> None:
    """And stacked encodings never: each of them could multiply the size."""
    body = gzip.compress(gzip.compress(b"{}"))
    server.script(MODEL, lambda connection, _: connection.respond(200, body, {"Content-Encoding": encoding}))
    server.catalog = lambda connection, _: connection.respond(200, body, {"Content-Encoding": encoding})
    with FACADES[facade](base_url=server.url) as caller:
        for call in (lambda: caller.complete("Hello", model=MODEL, fallback_models=[]), caller.models):
            with pytest.raises(RouterKitError, match=": content-encoding"):  # it is not looked into
                call()
    assert {request.header("Accept-Encoding") for request in server.requests} == {"gzip"}


@each_facade
def test_a_bomb_in_the_catalogue_is_not_opened_to_its_end(facade: str, server: FaultServer) -> None:
    body = gzip.compress(bytes(33 * MIB), 1)
    server.catalog = lambda connection, _: connection.respond(200, body, {"Content-Encoding": "gzip"})
    with FACADES[facade](base_url=server.url) as caller, pytest.raises(RouterKitError) as caught:
        caller.models()
    assert caught.value.code == "response_too_large"


@each_facade
def test_nor_is_one_in_a_second_list_or_in_news_of_a_key(facade: str, server: FaultServer) -> None:
    """The first list serves alone. What keys are told of is small."""
    server.catalog = r.json_body({"data": r.CATALOG})
    answers = {"/list": gzip.compress(bytes(33 * MIB), 1), "/key": gzip.compress(bytes(2 * MIB), 1)}
    for path, body in answers.items():
        server.route("GET", path, respond(body))
    gateway = Gateway(name="x", base_url=server.url, details_url=f"{server.url}/list", key_path="/key")
    with FACADES[facade](gateway=gateway) as caller:
        assert len(caller.models()) == len(r.CATALOG)
        with pytest.raises(RouterKitError) as caught:
            caller.key_info()
    assert caught.value.code == "response_too_large"


def respond(body: bytes) -> r.Reply:
    return lambda connection, _: connection.respond(200, body, {"Content-Encoding": "gzip"})


# --- JSON ---

BOMBS: dict[str, bytes] = {
    "lists without end": b"[" * 100_000,
    "objects without end": b'{"error":' * 100_000,
    "deep": b'{"error":' * 100_000 + b"1" + b"}" * 100_000,
    "as deep as it may be": b'{"error":' * 1000 + b"1" + b"}" * 1000,
    "a long integer": b'{"error": {"code": ' + b"9" * 5000 + b"}}",
    "a long exponent": b'{"error": {"code": 1e999999999}}',
    "NaN": b'{"error": {"code": NaN}}',
    "Infinity": b'{"error": {"code": -Infinity}}',
    "a lone surrogate": b'{"error": {"message": "\\ud800"}}',
    "no UTF-8": b'{"error": {"message": "\xff\xfe"}}',
    "a NUL": b'{"error": {"message": "a\\u0000b"}}',
    "the same key twice": b'{"error": 1, "error": {"message": "second"}}',
    "many keys": b"{" + b",".join(b'"%d": 1' % number for number in range(100_000)) + b"}",
    "an empty key": b'{"": {"": {"": 1}}, "error": {"": 1}}',
}


def said(body: bytes, status: int = 200) -> r.Reply:
    return lambda connection, _: connection.respond(status, body, {"Content-Type": "application/json"})


@each_facade
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_no_json_breaks_more_than_its_own_answer(facade: str, bomb: bytes, server: FaultServer) -> None:
    """As an answer, an error, a catalogue, an event: what comes of it is an error of ours, which travels and prints."""
    places: dict[str, Callable[[Any], object]] = {
        "answer": lambda caller: caller.complete("Hello", model=MODEL, fallback_models=[]),
        "event": lambda caller: drained(caller.stream("Hello", model=MODEL, fallback_models=[])),
        "catalogue": lambda caller: caller.models(),
        "second list": lambda caller: caller.models(),
        "news of the key": lambda caller: caller.key_info(),
    }
    event = b"data: " + bomb.replace(b"\n", b"") + b"\n\n"
    replies = {
        "answer": [said(bomb), said(bomb, 400), said(bomb, 500)],
        "event": [r.stream(r.role(), event, r.end(), r.done()), r.stream("Hel", event, "lo", r.end(), r.done())],
        "catalogue": [said(bomb), said(bomb, 403)],
        "second list": [said(bomb), said(b'{"data": [' + bomb + b"]}"), said(bomb, 403)],
        "news of the key": [said(bomb), said(b'{"data": ' + bomb + b"}"), said(bomb, 500)],
    }
    gateway = Gateway(
        name="x", base_url=server.url, details_url=f"{server.url}/list", key_path="/key", credits_path="/key"
    )
    for place, call in places.items():
        for reply in replies[place]:
            server.script(MODEL, reply)
            server.catalog = reply if place == "catalogue" else r.error(404)
            server.route("GET", "/list", reply if place == "second list" else r.error(404))
            server.route("GET", "/key", reply)
            with FACADES[facade](gateway=gateway) as caller:
                error = failure_of(call, caller)
            assert error is not None or place in ("event", "news of the key"), "an unknown event is passed on"
            if error is not None:
                assert str(error).replace("\n", "").isprintable()
                assert json.dumps(error.to_dict())
                assert str(pickle.loads(pickle.dumps(error))) == str(error)


def failure_of(call: Callable[[Any], object], caller: Any) -> RouterKitError | None:
    try:
        call(caller)
    except RouterKitError as error:
        return error
    return None


def drained(reader: Any) -> None:
    try:
        while reader.next() is not None:
            pass
    finally:
        reader.close()


@each_facade
def test_a_request_that_is_too_deep_is_refused(facade: str, server: FaultServer) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with FACADES[facade](base_url=server.url) as caller:
        with pytest.raises(InvalidRequestError, match="cannot be written as JSON"):
            caller.complete([{"role": "user", "content": deep}], model=MODEL)
        with pytest.raises(InvalidRequestError, match="cannot be written as JSON"):
            caller.complete("Hello", model=MODEL, extra_body={"x": "\ud800"})
    while deep:  # taken apart by hand: its own end would be as deep
        deep = deep[0]
    assert server.connections_opened == 0
