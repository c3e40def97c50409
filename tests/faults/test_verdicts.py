"""Every row of the table of verdicts, as a real HTTP answer, through both facades."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from routerkit import BreakerPolicy, RouterKitError
from routerkit.core.verdict import Signal
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from routerkit.types.route import Attempt
from tests.support.facades import FACADES, Caller, SkippingRuntime
from tests.test_verdict import ROWS

ANSWERS = [
    row
    for row in ROWS
    if (row[1].status or 0) >= 200 and (row[1].body is not None or row[1].ending is None)  # those below are no answers
]
WITHOUT_BODY = (204, 304)


@pytest.fixture(scope="module", params=FACADES)
def world(request: pytest.FixtureRequest) -> Iterator[tuple[FaultServer, Caller, SkippingRuntime]]:
    runtime = SkippingRuntime()
    with FaultServer() as server:
        server.catalog = r.error(404)
        with FACADES[request.param](
            base_url=server.url, runtime=runtime, breaker=BreakerPolicy(enabled=False)
        ) as caller:
            yield server, caller, runtime


def as_reply(signal: Signal) -> r.Reply:
    body = b"" if signal.status in WITHOUT_BODY else signal.text
    if signal.body is not None:
        body = json.dumps(signal.body).encode()
    head = [f"HTTP/1.1 {signal.status} Whatever", *[f"{name}: {value}" for name, value in signal.headers.items()]]
    if signal.status not in WITHOUT_BODY:
        head.append(f"Content-Length: {len(body)}")
    return r.raw("\r\n".join([*head, "", ""]).encode() + body, keep=True)


def first_attempt(caller: Caller, signal: Signal, *, stream: bool) -> Attempt:
    options = {"provider": {"order": ["acme"]}} if signal.routing_preferences else {}
    try:
        if stream:
            reader = caller.stream(model="a/one", **options)
            while reader.next() is not None:
                pass
            route = reader.stream.route
        else:
            route = caller.complete(model="a/one", **options).route
    except RouterKitError as error:
        route = error.route
    assert route is not None
    return route.attempts[0]


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize(("signal", "expected"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_row(world: tuple[FaultServer, Caller, SkippingRuntime], signal: Signal, expected: str, stream: bool) -> None:
    server, caller, runtime = world
    runtime.advance(100_000)  # what rested since the row before is over
    server.script("a/one", as_reply(signal))
    attempt = first_attempt(caller, signal, stream=stream)
    assert (str(attempt.verdict), attempt.status) == (expected.split()[0], signal.status)


def test_the_rows_are_many() -> None:
    assert len(ANSWERS) > 80
