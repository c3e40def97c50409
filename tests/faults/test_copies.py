"""Copies and pickles: of a client there are none, of results and errors there are, without the key."""

from __future__ import annotations

import copy
import json
import pickle
from contextlib import suppress
from typing import Any

import pytest

from routerkit import (
    AllModelsFailedError,
    RouterKitError,
    StreamInterruptedError,
)
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.catalogue import fault
from tests.support.facades import KEY, AsyncCaller, SyncCaller
from tests.support.scenarios import A, B, C

Facade = type[SyncCaller | AsyncCaller]


@fault(118)
def test_a_client_cannot_be_pickled_nor_copied_deeply(facade: Facade, server: FaultServer) -> None:
    for options in ({}, {"api_key": None}):
        with suppress(RouterKitError), facade(base_url=server.url, **options) as caller:
            caller.complete(model=A)
            for carry in (pickle.dumps, copy.deepcopy):
                for each in (caller.client, caller.client.router, caller.client.with_options(timeout=5)):
                    with pytest.raises(TypeError, match=r"cannot be pickled or copied|cannot pickle") as caught:
                        carry(each)
                    assert KEY not in str(caught.value)
            assert caller.complete(model=A).text == f"Hello from {A}"


@fault(118)
def test_a_stream_cannot_be_pickled_nor_copied_deeply(facade: Facade, server: FaultServer) -> None:
    server.default = r.stream(r.role(), "one", r.end(), r.done())
    with facade(base_url=server.url) as caller:
        reader = caller.stream(model=A)
        for carry in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="pickle"):
                carry(reader.stream)
        assert reader.next() is not None
        reader.close()


@fault(118)
def test_results_and_errors_travel_without_the_key(facade: Facade, server: FaultServer) -> None:
    server.script(B, r.error(401, message=f"bad key {KEY}"))
    server.script(C, r.stream("one", r.cut()))
    for model in ("d/four", "e/five"):
        server.script(model, r.error(500, message=f"Bearer {KEY}"))
    server.catalog = r.error(404)
    with facade(base_url=server.url) as caller:
        answer = caller.complete(model=A)
        assert server.requests[0].api_key == KEY, "the key must have been sent for this test to mean anything"
        reader = caller.stream(model=A)
        while reader.next() is not None:
            pass
        things: list[Any] = [answer, answer.route, reader.stream.completion, reader.stream.route]
        things += [caller.client.health(), caller.client.router.settings.timeouts]
        with pytest.raises(StreamInterruptedError) as interrupted:
            drain(caller.stream(model=C))
        things.append(interrupted.value)
        for options in ({"model": "d/four", "fallback_models": ["e/five"]}, {"model": B}):
            with pytest.raises(RouterKitError) as caught:
                caller.complete(**options)
            things.append(caught.value)
        assert isinstance(things[-2], AllModelsFailedError)
    for thing in things:
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            data = pickle.dumps(thing, protocol)
            assert KEY.encode() not in data
            assert repr(pickle.loads(data)) == repr(thing)
        assert repr(copy.deepcopy(thing)) == repr(thing)
        assert KEY not in repr(thing) + str(thing) + json.dumps(str(vars(thing) if hasattr(thing, "__dict__") else ""))


def drain(reader: Any) -> None:
    while reader.next() is not None:
        pass
