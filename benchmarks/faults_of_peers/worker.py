"""Plays one case with one peer, in the peer's own environment: needs nothing but the standard library and the peer.

    python worker.py PEER KIND GIVEN

PEER is a file of `peers/`, KIND is `complete` or `stream`, GIVEN a JSON object with what the peer is to be configured with. The
peer's client first gets an answer while all is well, so that imports, first connections and whatever else is made on first use are
not counted; then comes the case. Each line printed is a JSON object: `ready`, then a `piece` for each piece of text, then the
`end`. Whoever started it counts the requests, and ends it when it takes too long.

A peer is a module with `connect(given)`, which gives a client, `complete(client)`, which gives a text, and `stream(client)`, which
gives pieces of text; the last two are both sync or both async. `close(client)` may be there.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

Emit = Callable[[dict[str, Any]], None]


def play(peer: ModuleType, kind: str, given: SimpleNamespace, emit: Emit) -> None:
    """The whole of it: a healthy call, then the case."""
    work = _play(peer, kind, given, emit)
    if inspect.iscoroutinefunction(peer.complete):
        asyncio.run(work)
    else:
        _run_at_once(work)


async def _play(peer: ModuleType, kind: str, given: SimpleNamespace, emit: Emit) -> None:
    client = peer.connect(given)
    try:
        healthy = "".join([piece async for piece in _pieces(peer, client, kind)])
        if healthy != given.healthy:
            raise RuntimeError(f"the healthy call brought {healthy!r} instead of {given.healthy!r}")
        emit({"event": "ready"})
        begun = time.monotonic()
        told: dict[str, Any] = {}
        try:
            async for piece in _pieces(peer, client, kind):
                emit({"event": "piece", "text": piece})
        except Exception as error:
            told = {"error": type(error).__name__, "message": str(error)[:300]}
        emit({"event": "end", "seconds": time.monotonic() - begun, **told})
    finally:
        if hasattr(peer, "close"):
            closed = peer.close(client)
            if inspect.isawaitable(closed):
                await closed


async def _pieces(peer: ModuleType, client: Any, kind: str) -> AsyncIterator[str]:
    """The texts that a library hands over; what it gives that has no text is left out."""
    if kind == "complete":
        answer = peer.complete(client)
        text = await answer if inspect.isawaitable(answer) else answer
        if text:
            yield text
        return
    stream = peer.stream(client)
    if hasattr(stream, "__aiter__"):
        async for text in stream:
            if text:
                yield text
        return
    for text in stream:
        if text:
            yield text


def _run_at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run what never waits for an event loop without one: some libraries behave differently inside of one."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError("a sync peer waits for an event loop")


def load(path: str) -> ModuleType:
    """A peer, from its file."""
    spec = importlib.util.spec_from_file_location("peer", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if str(Path(entry).resolve()) != here]
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints goes elsewhere

    def emit(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=out, flush=True)

    path, kind, given = sys.argv[1:]
    play(load(path), kind, SimpleNamespace(**json.loads(given)), emit)
    os._exit(0)  # without waiting for threads that a library may have left


if __name__ == "__main__":
    main()
