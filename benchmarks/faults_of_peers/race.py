"""Runs contestants against faults: a fault server and a fresh process of the contestant's environment for each case."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.faults_of_peers.contestants import OURS, Contestant
from benchmarks.faults_of_peers.environments import prepared
from benchmarks.faults_of_peers.faults import ANSWER, CATALOG, FALLBACK, FIELDS, HEALTHY, PRIMARY, Fault
from benchmarks.faults_of_peers.judging import Outcome
from routerkit.testing import FaultServer, replies

KEY = "sk-test-1234567890"
CLOCK = 3.0
"""Seconds: the timeout that a contestant is configured with."""
GUARD = 40.0
"""Seconds after which a case that has not ended is ended."""
STARTING = 120.0
"""Seconds for imports and the healthy call."""

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent.parent

Line = dict[str, Any]
Player = Callable[[str], Iterator[Line]]
"""Plays a case against a base URL and gives the worker's lines as they come, until the end or until the guard ended it."""


def python_of(contestant: Contestant, folder: Path) -> Path:
    """The interpreter that runs it; its environment is made if it is not there yet."""
    return Path(sys.executable) if contestant.environment == OURS else prepared(contestant.environment, folder)


def serve(fault: Fault, clock: float, play: Player) -> Outcome:
    """One case: the server around it, and what it counted."""
    with FaultServer() as server:
        server.catalog = CATALOG
        server.script(PRIMARY, replies.completion(HEALTHY, **FIELDS), fault.reply(clock))
        server.script(FALLBACK, replies.completion(ANSWER, **FIELDS))
        lines = list(play(server.url))
        asked = server.models_asked
    end = lines[-1] if lines and lines[-1]["event"] == "end" else {}
    return Outcome(
        pieces=tuple(line["text"] for line in lines if line["event"] == "piece"),
        error=end.get("error"),
        message=end.get("message", ""),
        seconds=end.get("seconds"),
        primary=asked.count(PRIMARY) - 1,
        fallback=asked.count(FALLBACK),
    )


def given(base_url: str, clock: float) -> Line:
    """What a contestant is configured with."""
    return {
        "base_url": base_url,
        "key": KEY,
        "primary": PRIMARY,
        "fallback": FALLBACK,
        "seconds": clock,
        "healthy": HEALTHY,
    }


def run(contestant: Contestant, fault: Fault, python: Path) -> Outcome:
    """One case, in a process of its own."""
    return serve(fault, CLOCK, lambda url: _in_process(contestant, fault.kind, python, url))


def _in_process(contestant: Contestant, kind: str, python: Path, url: str) -> Iterator[Line]:
    peer = _HERE / "peers" / f"{contestant.peer}.py"
    command = [str(python), str(_HERE / "worker.py"), str(peer), kind, json.dumps(given(url, CLOCK))]
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            cwd=home,
            env=_environment(contestant, home),
        )
        try:
            yield from _lines(process)
        except RuntimeError as error:
            complaints.seek(0)
            said = complaints.read().decode(errors="replace")
            raise RuntimeError(f"{contestant.peer}: {error}\n{said[-3000:]}") from None
        finally:
            process.kill()
            process.communicate()


def _environment(contestant: Contestant, home: str) -> dict[str, str]:
    """Nothing of the user's own: no keys, no settings, no caches."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LANG") if name in os.environ}
    ours = {"PYTHONPATH": str(_ROOT)} if contestant.environment == OURS else {}
    return {**kept, "HOME": home, **ours, **contestant.variables}


def _lines(process: subprocess.Popen[str]) -> Iterator[Line]:
    """What the worker prints, until its end or the guard's. Raises RuntimeError when it could not even begin."""
    arrived: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_pump, args=(process, arrived), daemon=True).start()
    ready, deadline = False, time.monotonic() + STARTING
    while True:
        try:
            text = arrived.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            if not ready:
                raise RuntimeError("no healthy answer in time") from None
            return
        if not text:
            raise RuntimeError("the worker ended too early")
        line: Line = json.loads(text)
        if line["event"] == "ready":
            ready, deadline = True, time.monotonic() + GUARD
        yield line
        if line["event"] == "end":
            return


def _pump(process: subprocess.Popen[str], arrived: queue.Queue[str]) -> None:
    assert process.stdout is not None
    try:
        for text in process.stdout:
            arrived.put(text)
    except ValueError:  # closed meanwhile
        return
    arrived.put("")
