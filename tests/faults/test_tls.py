"""Faults 20 to 25: TLS."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import trustme

from routerkit import APIConnectionError, StreamInterruptedError
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from routerkit.testing.ports import HOST
from tests.faults.catalogue import fault, row
from tests.faults.outcomes import FAST, After, left
from tests.faults.ways import (
    BROKEN,
    FROM_B,
    INTERRUPTED,
    LOST,
    UNREACHABLE,
    Place,
    Way,
    check_way,
    inside,
    moves_on,
    refused,
    unreachable,
)
from tests.support.facades import FACADES, AsyncCaller, SyncCaller
from tests.support.network import Dialled, context_of, long_ago
from tests.support.scenarios import QUICK, A, Ask, B, C

Facade = type[SyncCaller | AsyncCaller]

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
GATEWAY = After(["gateway"])
UNTRUSTED = "next_gateway blames gateway (fail), not_sent, billing none"


def trusting(context: ssl.SSLContext | None, ca_file: str, prepare: Callable[[FaultServer], object] = id) -> Way:
    """To a server with this context, by a gateway that trusts our authority. ``None``: to one that knows no TLS."""

    @contextmanager
    def way() -> Iterator[Place]:
        with FaultServer(tls=context) as server:
            prepare(server)
            url = server.url.replace("http:", "https:")
            yield Place({"gateway": inside(url, ca_file)}, server)

    return way


# --- 20, 23: whom not to trust ---


def expired(authority: trustme.CA) -> ssl.SSLContext:
    return context_of(authority, HOST, until=long_ago())


def of_another_host(authority: trustme.CA) -> ssl.SSLContext:
    return context_of(authority, "other.test")


def self_signed(_: trustme.CA) -> ssl.SSLContext:
    itself = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with itself.cert_pem.tempfile() as certificate, itself.private_key_pem.tempfile() as key:
        context.load_cert_chain(certificate, key)
    return context


def of_another_authority(_: trustme.CA) -> ssl.SSLContext:
    return context_of(trustme.CA(), HOST)


@STREAM
@pytest.mark.parametrize(
    ("certificate", "told"),
    [
        row(20, expired, "certificate has expired", name="expired"),
        row(20, of_another_host, "certificate is not valid for", name="wrong host"),
        row(20, self_signed, "self.signed certificate", name="self-signed"),
        row(20, of_another_authority, "unable to get local issuer certificate", name="unknown authority"),
    ],
)
def test_a_certificate_that_is_not_valid(
    authority: trustme.CA,
    ca_file: str,
    certificate: Callable[[trustme.CA], ssl.SSLContext],
    told: str,
    stream: bool,
) -> None:
    opened: list[FaultServer] = []
    way = trusting(certificate(authority), ca_file, opened.append)
    check_way(way, attrs.evolve(refused("tls_verify", stream=stream), skipped=(B, C)), says=UNTRUSTED, after=GATEWAY)
    assert [(server.connections_opened, server.requests) for server in opened] == [(1, []), (1, [])]
    for facade in FACADES.values():
        with way() as place, facade(**place.options) as caller, pytest.raises(APIConnectionError, match=told):
            caller.complete(model=A)


def version(minimum: ssl.TLSVersion, maximum: ssl.TLSVersion) -> Callable[[trustme.CA], ssl.SSLContext]:
    def context_for(authority: trustme.CA) -> ssl.SSLContext:
        context = context_of(authority, HOST)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = minimum, maximum
        return context

    return context_for


@STREAM
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("old", [row(23, "TLSv1"), row(23, "TLSv1_1", name="TLS 1.1-only server")])
def test_a_server_of_yesterday(authority: trustme.CA, ca_file: str, dialled: Dialled, old: str, stream: bool) -> None:
    """No downgrade. It is as good as down: another gateway may be asked, and nothing has been sent."""
    context = version(ssl.TLSVersion[old], ssl.TLSVersion[old])(authority)
    check_way(trusting(context, ca_file), unreachable(stream=stream), says=UNREACHABLE, after=GATEWAY)


# --- 21, 22: handshakes ---


def hold(connection: Connection) -> None:
    """Not a word, whatever the client says."""
    while True:
        connection.wait(0.02)


def drip(connection: Connection) -> None:
    """A record that never ends, a byte at a time."""
    connection.send(b"\x16\x03\x03\x40\x00")
    while True:
        connection.send(b"\x02")
        connection.wait(0.02)


@STREAM
@pytest.mark.parametrize(
    ("act", "dials"),
    [
        row(21, hold, 1),
        row(21, drip, 1, name="handshake drips"),
        row(22, Connection.reset, 2),
        row(22, Connection.close, 2, name="FIN in handshake"),
    ],
)
def test_a_handshake_that_fails(
    ca_file: str, dialled: Dialled, act: Callable[[Connection], object], dials: int, stream: bool
) -> None:
    def prepare(server: FaultServer) -> None:
        server.on_connect = act  # type: ignore[assignment]

    check_way(trusting(None, ca_file, prepare), unreachable(stream=stream), says=UNREACHABLE, after=GATEWAY)
    assert len(dialled.to) == 2 * dials, "in each facade: once more at once, unless its time was used up"


@fault(22)
def test_a_server_without_tls(ca_file: str) -> None:
    check_way(trusting(None, ca_file), unreachable(), says=UNREACHABLE, after=GATEWAY)


# --- 24, 25: within an answer ---

HALF = b'{"id": "x", "choices": [{"index": 0, "message": {"content": "hal'


def without_goodbye(connection: Any) -> None:
    """The end of the TCP connection without TLS's own end."""
    connection._sock.shutdown(socket.SHUT_RDWR)
    connection._release()


def alert(connection: Any) -> None:
    """A fatal alert, in the clear: no key is needed to inject it."""
    os.write(connection._sock.fileno(), b"\x15\x03\x03\x00\x02\x02\x50")
    connection.wait()


def renegotiation(connection: Any) -> None:
    """A handshake record where there should be data."""
    os.write(connection._sock.fileno(), b"\x16\x03\x03\x00\x04\x00\x00\x00\x00")
    connection.wait()


def goodbye(connection: Connection) -> None:
    """TLS ends as it should, HTTP does not."""
    connection.close()


ENDINGS = [row(24, without_goodbye), row(24, goodbye, name="close_notify mid-chunked")]
INTRUSIONS = [row(25, alert, name="fatal alert mid-stream"), row(25, renegotiation, name="handshake record mid-stream")]
CONTEXTS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def chunk_then(act: Callable[[Any], None]) -> r.Reply:
    def reply(connection: Connection, _: RecordedRequest) -> None:
        head = connection.head(200, {"Content-Type": r.JSON, "Transfer-Encoding": "chunked"})
        connection.send(head + b"%x\r\n%s\r\n" % (len(HALF), HALF))
        act(connection)

    return reply


def with_first_reply(authority: trustme.CA, ca_file: str, tls: str, reply: r.Reply) -> Way:
    return trusting(version(CONTEXTS[tls], CONTEXTS[tls])(authority), ca_file, lambda server: server.script(A, reply))


@pytest.mark.parametrize("tls", CONTEXTS)
@pytest.mark.parametrize("act", ENDINGS)
def test_an_answer_cut_by_tls(authority: trustme.CA, ca_file: str, tls: str, act: Callable[[Any], None]) -> None:
    way = with_first_reply(authority, ca_file, tls, chunk_then(act))
    check_way(way, moves_on("200 truncated"), says=BROKEN)


@pytest.mark.parametrize("tls", CONTEXTS)
@pytest.mark.parametrize("act", ENDINGS)
def test_a_stream_cut_by_tls(authority: trustme.CA, ca_file: str, tls: str, act: Callable[[Any], None]) -> None:
    early = r.stream(r.role(), r.Part(act=act, breaks=True))
    check_way(with_first_reply(authority, ca_file, tls, early), moves_on("200 truncated", stream=True), says=BROKEN)
    late = r.stream(r.role(), "one ", "two", r.Part(act=act, breaks=True))
    ask = Ask([f"{A} 200 truncated"], "StreamInterruptedError", stream=True, timeouts=QUICK, partial="one two")
    check_way(with_first_reply(authority, ca_file, tls, late), ask, says=INTERRUPTED, after=After([A]))


@pytest.mark.parametrize("tls", CONTEXTS)
@pytest.mark.parametrize("act", INTRUSIONS)
@STREAM
def test_a_foreign_record_before_any_content(
    facade: Facade, authority: trustme.CA, ca_file: str, tls: str, act: Callable[[Any], None], stream: bool
) -> None:
    """asyncio drops what it has read together with such a record, so the status line may be lost too."""
    reply = r.stream(r.role(), r.Part(act=act, breaks=True)) if stream else chunk_then(act)
    with with_first_reply(authority, ca_file, tls, reply)() as place, facade(**place.options) as caller:
        trace = caller.ask(moves_on("", stream=stream))
        assert trace.attempts[0] in (f"{A} 200 truncated", f"{A} - connection_lost")
        assert trace.details[0].startswith((BROKEN, LOST))
        assert (trace.attempts[1:], trace.gives) == ((f"{B} 200 ok",), FROM_B)


@pytest.mark.parametrize("tls", CONTEXTS)
@pytest.mark.parametrize("act", INTRUSIONS)
def test_a_foreign_record_within_a_stream(
    facade: Facade, authority: trustme.CA, ca_file: str, tls: str, act: Callable[[Any], None]
) -> None:
    read = r.Signal()
    reply = r.stream(r.role(), "one ", r.pause(read), r.Part(act=act, breaks=True))
    with with_first_reply(authority, ca_file, tls, reply)() as place, facade(**place.options, breaker=FAST) as caller:
        reader = caller.stream(model=A, fallback_models=[B])
        text = ""
        while text != "one ":
            text += reader.next().text
        read.set()
        with pytest.raises(StreamInterruptedError) as caught:
            reader.next()
        assert caught.value.partial_text == "one "
        assert caught.value.route is not None
        assert [str(attempt.verdict) for attempt in caught.value.route.attempts] == ["truncated"]
        assert left(caller) == After([A])
        assert place.server is not None
        caller.until(place.server, lambda: not place.server.open_connections)


@fault(24)
@pytest.mark.parametrize("act", [without_goodbye, goodbye])
def test_a_stream_of_unknown_length_cut_by_tls(authority: trustme.CA, ca_file: str, act: Callable[[Any], None]) -> None:
    """Whoever cuts the line shall not make half an answer pass for a whole one."""
    half = r.stream(r.role(), "one ", "two", r.Part(act=act, breaks=True), framing="close")
    ask = Ask([f"{A} 200 truncated"], "StreamInterruptedError", stream=True, timeouts=QUICK, partial="one two")
    check_way(with_first_reply(authority, ca_file, "1.3", half), ask, says=INTERRUPTED, after=After([A]))


@fault(24)
@pytest.mark.parametrize("act", [without_goodbye, goodbye])
def test_an_answer_of_unknown_length_cut_by_tls(
    authority: trustme.CA, ca_file: str, act: Callable[[Any], None]
) -> None:
    def reply(connection: Connection, _: RecordedRequest) -> None:
        connection.send(connection.head(200, {"Content-Type": r.JSON, "Connection": "close"}) + HALF)
        act(connection)

    way = with_first_reply(authority, ca_file, "1.3", reply)
    check_way(way, moves_on("200 malformed"), says=BROKEN)
