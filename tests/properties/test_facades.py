"""Both facades and the pure core make the same of the same history: attempts, verdicts, waits, reasons, times, results."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given

from routerkit import RouterKitError
from routerkit.testing import FaultServer, ScriptedTransport, VirtualRuntime, replies
from tests.properties.scripts import CATALOG, Answer, answers
from tests.properties.worlds import GATEWAY, Ask, Run, World, some, worlds
from tests.support.facades import FACADES, Caller

NO_RACES = answers(sockets=True).filter(
    lambda answer: answer.kind not in ("closed", "reset") and ("reset",) not in answer.options
)
"""Without what depends on who is faster: a connection that is closed before an answer means something else when it was used
before, which it was if the end of the last answer came in time; a reset may overtake what was sent before it."""


def prepare(world: World, place: FaultServer | ScriptedTransport) -> None:
    place.catalog = replies.json_body(CATALOG) if world.last_resort else replies.error(404)
    for model, script in world.scripts:
        place.script(model, *map(_reply, script))


def _reply(answer: Answer) -> replies.Reply:
    return answer.reply(lambda: lambda text: text)


def asked(world: World) -> list[Ask]:
    """The calls, each by itself: the core's records have them in another order when they overlap."""
    return [attrs.evolve(ask, interrupted=None) for ask in world.asks]


def told(result: Any, chunks: list[str], ended: float) -> list[str]:
    """All there is to say about a call, but for the words that each transport has for what went wrong."""
    route = result.route
    said = f"{result}\n{result.retry_after}" if isinstance(result, RouterKitError) else repr(result.to_dict())
    for word in {attempt.detail for attempt in route.attempts} - {""}:
        said = said.replace(word, "…")
    return [
        type(result).__name__,
        said,
        *chunks,
        *(str(attrs.evolve(attempt, detail="")) for attempt in route.attempts),
        *map(str, route.skipped),
        *map(str, route.waits),
        f"{route.duration:.6f} {route.billing} {route.cost}",
        f"{ended:.6f}",
    ]


def through(facade: str, world: World, *, sockets: bool = False) -> list[list[str]]:
    """What each call gives. Time is virtual; with ``sockets`` the bytes are not."""
    runtime = VirtualRuntime(start=1000.0, dice=world.dice)
    options: dict[str, Any] = {"runtime": runtime, "retry": world.retry}
    if not sockets:
        transport = ScriptedTransport()
        prepare(world, transport)
        with FACADES[facade](base_url=f"http://{GATEWAY}/v1", transport=transport, **options) as caller:
            traces = [call(caller, runtime, ask) for ask in asked(world)]
        assert transport.open_streams == 0
        return traces
    with FaultServer() as server:
        prepare(world, server)
        with FACADES[facade](base_url=server.url, **options) as caller:
            port = server.url.split(":")[2].split("/")[0]
            traces = [call(caller, runtime, ask) for ask in asked(world)]
            return [[line.replace(f"127.0.0.1:{port}", GATEWAY) for line in trace] for trace in traces]


def call(caller: Caller, runtime: VirtualRuntime, ask: Ask) -> list[str]:
    runtime.advance(ask.after)
    first, *others = ask.models
    options = {"model": first, "fallback_models": others, "timeout": ask.total}
    chunks: list[str] = []
    try:
        if not ask.stream:
            result: Any = caller.complete(**options)
        else:
            reader = caller.stream(**options, on_interrupt=ask.on_interrupt)
            while (chunk := reader.next()) is not None:
                chunks.append(f"{type(chunk).__name__} {chunk.to_dict()}")
            result = reader.stream.completion
    except RouterKitError as error:
        result = error
    return told(result, chunks, runtime.monotonic())


def through_the_core(world: World) -> list[list[str]]:
    run = Run(world)
    prepare(world, run.gateway)
    traces = []
    for ask in asked(world):
        record = run.call(ask)
        completed = ask.stream and not isinstance(record.result, RouterKitError)
        result = record.result.completion() if completed else record.result
        chunks = [f"{type(chunk).__name__} {chunk.to_dict()}" for chunk in record.delivered]
        traces.append(told(result, chunks, record.ended))
    return traces


@some(0.3)
@given(worlds(asks=5))
def test_both_facades_do_what_the_core_says(world: World) -> None:
    """In threads, in tasks and in the pure core the same script gives equal traces, chunks, errors and times."""
    core = through_the_core(world)
    assert through("sync", world) == core
    assert through("async", world) == core


@some(0.08)
@given(worlds(answer=NO_RACES, asks=4))
def test_both_facades_do_the_same_over_sockets(world: World) -> None:
    """So it is with requests and aiohttp over real sockets."""
    assert through("sync", world, sockets=True) == through("async", world, sockets=True)
