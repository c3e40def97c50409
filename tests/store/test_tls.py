"""Redis behind TLS. The server of the wheel speaks none, so something that does stands in front of it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.store.boards import EVERY_BYTE, read, write
from tests.store.counters import AsyncRedisCounter, RedisCounter, day
from tests.store.servers import Server

KINDS = [RedisCounter, AsyncRedisCounter]


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def tls_port(server: Server, tmp_path: Path) -> Iterator[int]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    workers: list[threading.Thread] = []

    def serve(raw: socket.socket) -> None:
        with raw:
            try:
                peer = context.wrap_socket(raw, server_side=True)
            except OSError:
                return
        with peer, socket.create_connection(("127.0.0.1", server.port)) as behind:
            other = threading.Thread(target=pump, args=(behind, peer))
            other.start()
            pump(peer, behind)
            other.join()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                workers.append(threading.Thread(target=serve, args=(listener.accept()[0],)))
                workers[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for worker in (accepting, *workers):
        worker.join()


@pytest.mark.parametrize("kind", KINDS)
def test_an_authority_of_ones_own(server: Server, tls_port: int, tmp_path: Path, kind: type[RedisCounter]) -> None:
    counter = kind(server, url=f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={tmp_path / 'ca'}")
    counter.grant(day(3))
    assert not counter.store.report().degraded
    write(counter, EVERY_BYTE * 4096)
    blob = read(counter)
    assert blob is not None
    assert blob.data == EVERY_BYTE * 4096
    counter.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_that_nobody_vouches_for_is_refused(
    server: Server, tls_port: int, kind: type[RedisCounter], caplog: pytest.LogCaptureFixture
) -> None:
    counter = kind(server, url=f"rediss://127.0.0.1:{tls_port}/0")
    assert counter.run(counter.store.check()) is False
    assert "SSLCertVerificationError" in caplog.text
    counter.close()
