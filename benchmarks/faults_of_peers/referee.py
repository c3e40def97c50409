"""A referee that is not ours: llmock, from PyPI, breaks answers as it is told to and judges by the requests that follow.

    python -m benchmarks.faults_of_peers.referee

Both of routerkit's clients meet each of its faults in three ways: with one model; with a fallback; and with one model, where the
caller asks again when a stream was interrupted. Its verdict is read strictly, warnings count. llmock sees requests and not what a
caller is told, and it takes requests for another model for another call; a finding that comes of that alone is named as such, when
what the caller got proves it. Any other finding ends the run with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.faults_of_peers.environments import default_folder, prepared, version
from routerkit import AsyncClient, Client, Completion, RouterKitError, StreamInterruptedError, Timeouts
from routerkit.types.route import Route

Way = Literal["one model", "with a fallback", "one model, asked again"]
WAYS: tuple[Way, ...] = ("one model", "with a fallback", "one model, asked again")
MODEL, FALLBACK = "gpt-4o", "gpt-4o-mini"
CLOCK = 2.0
"""Seconds, of all five clocks of an attempt."""

_SERVER = """
from llmock.testing import LLMockServer
with LLMockServer() as server:
    print(server.url, flush=True)
    input()
"""


@dataclass(frozen=True)
class Case:
    name: str
    kind: Literal["complete", "stream"]
    behaviors: tuple[dict[str, Any], ...]
    """In llmock's own notation; they meet any model, once unless they say how often."""


def _fail(status: int, **more: Any) -> dict[str, Any]:
    """Of completions: without a path it would meet the catalogue, too, which no call depends on."""
    return {"type": "fail", "status": status, "match": {"path": "*/chat/completions"}, **more}


def _broken(kind: str, after: int, **more: Any) -> dict[str, Any]:
    return {"type": "stream_fault", "kind": kind, "after_chunks": after, **more}


CASES = (
    *(Case(f"{status}", "complete", (_fail(status),)) for status in (400, 401, 403, 404, 422)),
    *(Case(f"{status}", "complete", (_fail(status),)) for status in (408, 409, 429, 500, 502, 503, 504, 529)),
    Case("429, Retry-After 1", "complete", (_fail(429, retry_after=1),)),
    Case("429, Retry-After 1, for ever", "complete", (_fail(429, retry_after=1, times=None),)),
    Case("503, twice", "complete", (_fail(503, times=2),)),
    Case("503, for ever", "complete", (_fail(503, times=None),)),
    Case("stream: 500", "stream", (_fail(500),)),
    Case("stream: 429, Retry-After 1", "stream", (_fail(429, retry_after=1),)),
    Case("stream: slow first token", "stream", ({"type": "slow_first_token", "seconds": 4},)),
    *(
        Case(
            f"stream: {kind} {'at once' if not after else f'after {after} chunks'}",
            "stream",
            (_broken(kind, after, **more),),
        )
        for kind, more in (("disconnect", {}), ("truncate", {}), ("malformed", {}), ("stall", {"stall_seconds": 5.0}))
        for after in (0, 3)
    ),
)


@dataclass(frozen=True)
class Told:
    """What the caller got in the end, and which models were asked for it, in order."""

    model: str | None
    error: RouterKitError | None
    asked: tuple[str, ...]

    def __str__(self) -> str:
        return f"answer of {self.model}" if self.error is None else f"`{type(self.error).__name__}`"


ANOTHER_MODEL = "the next request was for another model, and so, to llmock, another call"
INTERRUPTED = "the caller got `StreamInterruptedError`; llmock sees no more than that no second request came"
OVERLAP = (
    "the client hung up at the broken line and asked again at once, before llmock had sent the rest;"
    " overlapping requests are two calls to it"
)
BLIND_SPOTS = (ANOTHER_MODEL, INTERRUPTED, OVERLAP)


def blind_spot(code: str, told: Told) -> str | None:
    """Why a finding says nothing about the client, where what the caller got proves it; `None`: it is a finding."""
    if code not in ("gave_up", "truncated_stream_accepted", "malformed_chunk_ignored"):
        return None
    if isinstance(told.error, StreamInterruptedError):
        return INTERRUPTED if len(told.asked) == 1 else None
    if len(set(told.asked)) > 1:
        return ANOTHER_MODEL
    return OVERLAP if code == "malformed_chunk_ignored" and len(told.asked) > 1 else None


class Referee:
    """llmock's server, through its own HTTP interface."""

    def __init__(self, url: str) -> None:
        self.url = url

    def prepare(self, case: Case) -> None:
        self._ask("POST", "/_llmock/reset")
        self._ask("POST", "/_llmock/scenario", {"behaviors": case.behaviors})

    def findings(self) -> list[dict[str, Any]]:
        """Errors and warnings alike."""
        found: list[dict[str, Any]] = self._ask("GET", "/_llmock/verdict")["findings"]
        return found

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)


@contextmanager
def refereed(python: Path) -> Iterator[Referee]:
    process = subprocess.Popen([str(python), "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("llmock did not start")
        yield Referee(url)
    finally:
        process.kill()
        process.communicate()


def _options(url: str, way: Way) -> dict[str, Any]:
    return {
        "api_key": "sk-test-1234567890",
        "gateway": "openrouter",
        "base_url": f"{url}/v1",
        "default_model": MODEL,
        "fallback_models": [FALLBACK] if way == "with a fallback" else [],
        "timeout": Timeouts(
            connect=CLOCK, first_byte=CLOCK, first_token=CLOCK, idle=CLOCK, content_idle=CLOCK, total=30
        ),
    }


def ask_sync(url: str, case: Case, way: Way) -> Told:
    asked: list[str] = []
    with Client(**_options(url, way)) as client:
        while True:
            try:
                answer = _answer_sync(client, case)
            except RouterKitError as error:
                if not _once_more(error, way, asked):
                    return Told(None, error, tuple(asked))
            else:
                return Told(answer.model, None, (*asked, *_models(answer.route)))


async def ask_async(url: str, case: Case, way: Way) -> Told:
    asked: list[str] = []
    async with AsyncClient(**_options(url, way)) as client:
        while True:
            try:
                answer = await _answer_async(client, case)
            except RouterKitError as error:
                if not _once_more(error, way, asked):
                    return Told(None, error, tuple(asked))
            else:
                return Told(answer.model, None, (*asked, *_models(answer.route)))


def _answer_sync(client: Client, case: Case) -> Completion:
    if case.kind == "complete":
        return client.complete("Hello")
    with client.stream("Hello") as stream:
        for _ in stream:
            pass
        return stream.completion


async def _answer_async(client: AsyncClient, case: Case) -> Completion:
    if case.kind == "complete":
        return await client.complete("Hello")
    async with client.stream("Hello") as stream:
        async for _ in stream:
            pass
        return stream.completion


def _once_more(error: RouterKitError, way: Way, asked: list[str]) -> bool:
    """Note what was asked, and whether the caller asks again."""
    first = not asked
    asked += _models(getattr(error, "route", None))
    return first and way == "one model, asked again" and isinstance(error, StreamInterruptedError)


def _models(route: Route | None) -> list[str]:
    return [attempt.model for attempt in route.attempts] if route else []


@dataclass(frozen=True)
class Judged:
    case: Case
    way: Way
    facade: str
    told: Told
    codes: tuple[str, ...]

    @property
    def unexplained(self) -> list[str]:
        return [code for code in self.codes if blind_spot(code, self.told) is None]

    def __str__(self) -> str:
        notes = [(code, blind_spot(code, self.told)) for code in self.codes]
        marks = [f"`{code}` ({BLIND_SPOTS.index(why) + 1})" if why else f"**`{code}`**" for code, why in notes]
        return ": ".join([str(self.told), ", ".join(dict.fromkeys(marks))] if marks else [str(self.told)])


def judge(referee: Referee, case: Case, way: Way, facade: str) -> Judged:
    referee.prepare(case)
    told = ask_sync(referee.url, case, way) if facade == "Client" else asyncio.run(ask_async(referee.url, case, way))
    judged = Judged(case, way, facade, told, tuple(found["code"] for found in referee.findings()))
    print(f"{case.name:<34} {way:<24} {facade:<12} {judged}", file=sys.stderr, flush=True)
    return judged


def rendered(judged: list[Judged]) -> str:
    """A row for each fault, a column for each way; both clients together where they agree."""
    lines = ["| fault | " + " | ".join(WAYS) + " |", "| --- |" + " --- |" * len(WAYS)]
    for case in CASES:
        cells = []
        for way in WAYS:
            here = [each for each in judged if each.case == case and each.way == way]
            texts = dict.fromkeys(str(each) for each in here)
            cells.append(
                next(iter(texts), "") if len(texts) < 2 else "; ".join(f"{each.facade}: {each}" for each in here)
            )
        lines.append(f"| {case.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults_of_peers.referee",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--environments",
        type=Path,
        metavar="FOLDER",
        help="where environments are kept (default: a cache of the user's)",
    )
    folder = (parser.parse_args().environments or default_folder()).resolve()
    with refereed(prepared("llmock", folder)) as referee:
        judged = [
            judge(referee, case, way, facade)
            for case in CASES
            for way in WAYS
            if case.kind == "stream" or way != "one model, asked again"  # a completion is never interrupted
            for facade in ("Client", "AsyncClient")
        ]
    unexplained = sum(len(each.unexplained) for each in judged)
    print(f"llmock {version('llmock', 'llmock')}, {len(judged)} calls judged, Client and AsyncClient in turn\n")
    print(rendered(judged) + "\n")
    for number, why in enumerate(BLIND_SPOTS, 1):
        print(f"{number}. {why}")
    print(f"\nFindings that are no blind spot: {unexplained}")
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
