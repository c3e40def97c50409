"""Several keys of one gateway, over real sockets and through both facades: who has how much to do, and until when.

The rules themselves are tested in `tests/test_keys.py`, on the core alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from routerkit import Client
from routerkit.testing import replies as r
from tests.support.facades import FACADES, AsyncCaller, Reader, SyncCaller
from tests.support.forks import forked
from tests.support.pair import Pair, pair_of_gateways, refusing, tried
from tests.support.scenarios import A, B

Facade = type[SyncCaller | AsyncCaller]


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> Facade:
    return FACADES[request.param]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pair_of_gateways() as pair:
        yield pair


FOUR = [f"sk-key-{number}-1234567890" for number in range(4)]


def in_flight(caller: SyncCaller | AsyncCaller, gateway: str = "first") -> list[int]:
    return [key.in_flight for key in caller.client.router.access[gateway].keys]


def test_parallel_calls_are_spread_over_the_keys(facade: Facade, pair: Pair) -> None:
    gate = pair.first.default = r.gate()
    with facade(**pair.options(api_key={"first": FOUR})) as caller:
        under_way = [caller.begin(f"question {number}") for number in range(8)]
        caller.until(pair.first, lambda: len(pair.first.chat_requests) == 8)
        assert Counter(request.api_key for request in pair.first.chat_requests) == dict.fromkeys(FOUR, 2)
        assert in_flight(caller) == [2, 2, 2, 2]
        gate.release()
        assert {end().gateway for end in under_way} == {"first"}
        assert in_flight(caller) == [0, 0, 0, 0]


def test_a_key_that_is_refused_leaves_its_work_to_the_others(facade: Facade, pair: Pair) -> None:
    pair.first.default = refusing(FOUR[0], r.error(402))
    with facade(**pair.options(api_key={"first": FOUR})) as caller:
        for end in [caller.begin() for _ in range(8)]:
            assert end().gateway == "first"
        refused = sum(request.api_key == FOUR[0] for request in pair.first.chat_requests)
        assert refused >= 1
        for _ in range(8):
            caller.complete()
        used = Counter(request.api_key for request in pair.first.chat_requests)
        assert used[FOUR[0]] == refused
        assert all(used[key] >= 2 for key in FOUR[1:])
        assert in_flight(caller) == [0, 0, 0, 0]
    assert pair.asked[1] == 0, "the other gateway is not needed"


def held_stream(pair: Pair, caller: SyncCaller | AsyncCaller) -> tuple[Reader, r.Signal]:
    """A stream that has begun, and what lets it go on."""
    gate = r.Signal()
    pair.first.script(B, r.stream(r.role(), "one ", r.pause(gate), "two", r.end(), r.done()))
    return caller.stream(model=B), gate


def test_a_stream_holds_its_key_until_it_is_closed(facade: Facade, pair: Pair) -> None:
    with facade(**pair.options(api_key={"first": FOUR[:2]})) as caller:
        reader, _ = held_stream(pair, caller)
        assert in_flight(caller) == [1, 0]
        for _ in range(3):
            caller.complete()
        assert [request.api_key for request in pair.first.chat_requests] == [FOUR[0], FOUR[1], FOUR[1], FOUR[1]]
        reader.close()
        assert in_flight(caller) == [0, 0]
        caller.complete()
        assert pair.first.chat_requests[-1].api_key == FOUR[0]


def test_a_stream_holds_its_key_until_its_end(facade: Facade, pair: Pair) -> None:
    with facade(**pair.options(api_key={"first": FOUR[:2]})) as caller:
        reader, gate = held_stream(pair, caller)
        gate.set()
        while reader.next() is not None:
            pass
        assert in_flight(caller) == [0, 0]


def test_a_forgotten_stream_gives_its_key_back(facade: Facade, pair: Pair) -> None:
    with facade(**pair.options(api_key={"first": FOUR[:2]})) as caller:
        reader, _ = held_stream(pair, caller)
        assert in_flight(caller) == [1, 0]
        with pytest.warns(ResourceWarning, match="neither closed nor read"):
            del reader
        assert in_flight(caller) == [0, 0]


def test_a_forked_child_has_all_its_keys_free(facade: Facade, pair: Pair) -> None:
    with facade(**pair.options(api_key={"first": FOUR[:2]})) as caller:
        reader, _ = held_stream(pair, caller)
        client = caller.client

        def child(number: int) -> list[str]:
            busy = str(in_flight(caller))
            asked = f"child {number}"
            answer = client.complete(asked) if isinstance(client, Client) else asyncio.run(client.complete(asked))
            return [busy, answer.text]

        assert forked(child, 2) == [["[0, 0]", f"Hello from {A}"]] * 2
        assert in_flight(caller) == [1, 0], "the parent's stream goes on"
        reader.close()
        assert in_flight(caller) == [0, 0]


def test_clients_of_other_options_share_keys_and_health(facade: Facade, pair: Pair) -> None:
    pair.first.default = refusing(FOUR[0], r.error(401))
    with facade(**pair.options(api_key={"first": FOUR[:2]})) as caller:
        hasty = caller.with_options(timeout=5)
        assert tried(hasty.complete()) == [f"{A} on first authentication", f"{A} on first ok"]
        for each in (caller, hasty, caller.with_options(default_model=B)):
            assert [str(attempt.verdict) for attempt in each.complete().route.attempts] == ["ok"]
        assert caller.client.health().cooldowns.keys() == hasty.client.health().cooldowns.keys()
        assert len(hasty.client.health().cooldowns) == 1
        assert caller.client.stats().calls == 4
    assert pair.first.connections_opened == 1
