"""aimock, an emulator of OpenRouter that nobody here wrote, for tests from end to end.

`aimock(key)` runs it in a process of its own, on a free loopback port, and ends it afterwards. It accepts this one key and answers
from `tests/aimock/fixtures`; `journal(test)` tells what it was asked by the requests that carried the header `X-Test-Id: test`,
by which it also counts its sequences.

It is the npm package `@copilotkit/aimock`, pinned in `tests/aimock`; nothing is downloaded here. `MISSING` says what is not there.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

FOLDER = Path(__file__).parents[1] / "aimock"
FIXTURES = FOLDER / "fixtures" / "openrouter.json"
COMMAND = FOLDER / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
START = 60.0
"""Seconds that starting it may take; it takes a fraction of one."""
PATIENCE = 30.0
"""Seconds that it may be silent."""

_END_WITH_US = 'data:text/javascript,process.stdin.on("end",()=>process.exit()).resume()'
"""Standard input ends when the tests do, however that comes about."""
_LISTENING = re.compile(rb"server listening on (\S+)\n")

NODE = shutil.which("node")
MISSING = [
    what
    for what, there in {"node": NODE, "@copilotkit/aimock (npm ci --prefix tests/aimock)": COMMAND.exists()}.items()
    if not there
]


@attrs.frozen
class Aimock:
    url: str
    """Its address, without a path."""
    key: str = attrs.field(repr=False)

    @property
    def base_url(self) -> str:
        return f"{self.url}/api/v1"

    def models(self) -> list[dict[str, Any]]:
        """Its catalogue, as it sends it."""
        entries: list[dict[str, Any]] = json.loads(self._ask("/api/v1/models"))["data"]
        return entries

    def journal(self, test: str) -> list[dict[str, Any]]:
        """What was asked in one test: `method`, `path`, `headers`, `body`, and the `status` in `response`."""
        entries: list[dict[str, Any]] = json.loads(self._ask(f"/__aimock/journal?testId={quote(test)}"))
        return entries

    def stream(self, model: str) -> bytes:
        """A model's stream, as it comes over the wire."""
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        return self._ask("/api/v1/chat/completions", json.dumps(body).encode())

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            said: bytes = answer.read()
            return said


@contextmanager
def aimock(key: str) -> Iterator[Aimock]:
    """The emulator, for as long as the block runs."""
    assert NODE is not None
    command = [NODE, "--import", _END_WITH_US, str(COMMAND), "--port", "0", "--validate-on-load", "-f", str(FIXTURES)]
    environment = {**os.environ, "AIMOCK_API_KEYS": key}
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=log)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = _announced(process)
            if url is None:
                log.seek(0)
                raise RuntimeError(f"aimock did not start: {log.read()[-2000:].decode(errors='replace')}")
            emulator = Aimock(url, key)
            emulator.models()
            yield emulator
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def _announced(process: subprocess.Popen[bytes]) -> str | None:
    """Its address, which it prints once it listens; `None` when it ends or says nothing."""
    assert process.stdout is not None
    said = b""
    while select.select([process.stdout], [], [], START)[0]:
        data = os.read(process.stdout.fileno(), 65536)
        said += data
        found = _LISTENING.search(said)
        if found or not data:
            return found and found[1].decode()
    return None
