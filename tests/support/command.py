"""Runs the command ``routerkit`` in processes of its own: in pipes, and in a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

KEY = "test-key-1234567890"
ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
COMMAND = (sys.executable, "-m", "routerkit")
OURS = re.compile(
    r"(OPENROUTER|ONEROUTER|INFRON|ROUTERKIT)_|(DEV_MODE|NO_COLOR|HTTPS?_PROXY|ALL_PROXY)$", re.IGNORECASE
)
TIME = r"(?:\d+\.\d ms|\d+ ms|\d\.\d\d s|\d+ s)"
"""A time that was measured, of less than two minutes, as the command tells it."""
CONTROLS = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
HOSTILE = "A\x1b[31mred\x9b1m\x07 [bold]b[/bold]\x08\tend"
TAMED = "A\\x1b[31mred\\x9b1m\\x07 [bold]b[/bold]\\x08\tend"


def environment(**extra: str) -> dict[str, str]:
    """What a process gets: nothing of ours, and warnings as errors, so that a leak shows on stderr."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    fixed = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "LANG": "C.UTF-8", "TERM": "xterm-256color"}
    return {**kept, **fixed, "COLUMNS": "200", **extra}


def run(
    *arguments: str, stdin: bytes = b"", command: Sequence[str] = COMMAND, **env: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*command, *arguments], input=stdin, capture_output=True, env=environment(**env), timeout=PATIENCE, check=False
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err or "-v" in arguments
    assert "Exception ignored" not in err
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


class Terminal:
    """A process whose stdin, stdout and stderr are a pseudo-terminal, which it is controlled by."""

    LAUNCH = (
        "import fcntl, runpy, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        " runpy.run_module('routerkit', run_name='__main__')"
    )

    def __init__(self, *arguments: str, **env: str) -> None:
        self._master, slave = pty.openpty()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self.LAUNCH, *arguments],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=environment(**env),
                start_new_session=True,
            )
        finally:
            os.close(slave)
        self._shown = b""
        self._seen = 0

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def show(self, until: bytes | None = None) -> str:
        """What is on the screen once it holds ``until``, or once the process has ended."""
        self._read(until, 0)
        return self._shown.decode()

    def show_next(self, until: bytes | None = None) -> str:
        """What has come since it was last asked so, up to ``until`` and with it, or up to the end of the process."""
        start = self._seen
        self._read(until, start)
        self._seen = len(self._shown) if until is None else self._shown.index(until, start) + len(until)
        return self._shown[start : self._seen].decode()

    def _read(self, until: bytes | None, start: int) -> None:
        while until is None or self._shown.find(until, start) < 0:
            if not select.select([self._master], [], [], PATIENCE)[0]:
                raise AssertionError(f"nothing more came after {self._shown!r}")
            try:
                data = os.read(self._master, 65536)
            except OSError:  # nobody holds the other end any more
                data = b""
            if not data:
                assert until is None, f"ended with {self._shown!r}"
                break
            self._shown += data

    def rest(self) -> None:
        """Wait until the process waits for something itself. Between two keys CPython's readline may miss a signal."""
        status = Path(f"/proc/{self._process.pid}/stat")
        deadline = time.monotonic() + PATIENCE
        while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < deadline, "it never rests"
            time.sleep(0.001)

    def wait(self) -> int:
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@contextmanager
def terminal(*arguments: str, **env: str) -> Iterator[Terminal]:
    with ExitStack() as stack:
        opened = Terminal(*arguments, **env)
        stack.callback(opened.close)
        yield opened
