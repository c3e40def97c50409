"""Faults 119 to 126: the server that counts for a whole fleet fails in every way there is, and each call is answered all the same.

Through both facades, with a real Valkey or Redis. How long a call waits is read from what was asked: how often, and with which time
limit; so no test looks at a clock.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from routerkit import (
    Budget,
    BudgetExceededError,
    ConfigurationError,
    LimitExceededError,
    Limits,
    SharedStore,
)
from routerkit.store.redis_ask import SECONDS
from routerkit.store.redis_gate import FAILURES, OPEN, PAUSE, TIMEOUTS
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.catalogue import fault, row
from tests.faults.shared import Shared, Wire, sharing
from tests.store.servers import Server, binary
from tests.support.facades import AsyncCaller, SyncCaller
from tests.support.scenarios import A, B

Facade = type[SyncCaller | AsyncCaller]

pytestmark = pytest.mark.skipif(binary() is None, reason="no Valkey and no Redis here")
CAP = 60
LIMITS = {"client": Limits(requests_per_day=CAP, requests_per_minute=1000, concurrency=50), f"model:{A}": Limits(999)}
BLOBS = ("read", "write")


@pytest.fixture
def redis_server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def wire(redis_server: Server) -> Iterator[Wire]:
    with Wire(redis_server.port) as wire:
        yield wire


@attrs.frozen
class Trouble:
    """A way to be lost, and the way back."""

    begin: Callable[[Server, Wire], object]
    end: Callable[[Server, Wire], object] = lambda _, wire: wire.mend()
    why: str = "connection"
    """What observers are told; empty: the limit of time that ran out is that of a frozen process as well as of a server."""
    asks: int = FAILURES
    """At most, before nobody asks any more."""


def times_out(begin: Callable[[Server, Wire], object], **more: Any) -> Trouble:
    return Trouble(begin, why="timeout", asks=TIMEOUTS, **more)


def says(line: bytes, why: str = "unable", asks: int = FAILURES) -> Trouble:
    return Trouble(lambda _, wire: wire.answer(line), why=why, asks=asks)


def command(*begin: Any, end: tuple[Any, ...]) -> Trouble:
    """The server itself is in that state."""
    return Trouble(lambda server, _: server.do(*begin), lambda server, _: server.do(*end), "unable")


def busy(server: Server, _: Wire) -> None:
    server.do("CONFIG", "SET", "busy-reply-threshold", "1")

    def hang() -> None:
        with contextlib.suppress(Exception):
            server.do("EVAL", "while true do end", 0)

    threading.Thread(target=hang).start()
    until(lambda: not answers(server))


def killed(server: Server, _: Wire) -> None:
    server.do("SCRIPT", "KILL")
    until(lambda: answers(server))


def loading(server: Server, _: Wire) -> None:
    """It comes back with all it had, which takes a while."""
    server.do("DEBUG", "POPULATE", 5000, "other", 10)
    server.do("SAVE")
    server.kill()
    server.start(
        "--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024", "--rdbcompression", "no"
    )


def loaded(server: Server, _: Wire) -> None:
    server.do("CONFIG", "SET", "key-load-delay", "0")
    until(lambda: answers(server))


def shut(server: Server, _: Wire) -> None:
    """From now on a password is needed that nobody has."""
    server.do("CONFIG", "SET", "requirepass", "another")
    server.do("CLIENT", "KILL", "TYPE", "normal", password="another")


def opened(server: Server, _: Wire) -> None:
    server.do("CONFIG", "SET", "requirepass", "", password="another")


def answers(server: Server) -> bool:
    try:
        return bool(server.do("GET", "nothing") is None)
    except Exception:  # as a server in trouble has it
        return False


def until(done: Callable[[], bool]) -> None:
    for _ in range(4000):
        if done():
            return
        time.sleep(0.005)
    raise TimeoutError("it does not change")


TROUBLES = [
    row(119, Trouble(lambda server, _: server.kill(), lambda server, _: server.start()), name="refused"),
    row(119, times_out(lambda server, _: server.freeze(), end=lambda server, _: server.thaw()), name="hang"),
    row(119, Trouble(lambda _, wire: wire.reset()), name="reset"),
    row(119, times_out(lambda _, wire: wire.hold()), name="slow"),
    row(120, Trouble(loading, loaded, "unable"), name="LOADING"),
    row(120, command("REPLICAOF", "127.0.0.1", "1", end=("REPLICAOF", "NO", "ONE")), name="READONLY"),
    row(120, command("CONFIG", "SET", "maxmemory", "1", end=("CONFIG", "SET", "maxmemory", "0")), name="OOM"),
    row(120, says(b"-MOVED 3999 127.0.0.1:6381\r\n"), name="MOVED"),
    row(120, says(b"-CLUSTERDOWN The cluster is down\r\n"), name="CLUSTERDOWN"),
    row(120, Trouble(shut, opened, "denied", asks=2), name="NOAUTH"),
    row(120, says(b"-NOPERM this user has no permissions\r\n", "denied", asks=1), name="NOPERM"),
    row(120, Trouble(busy, killed, "unable"), name="BUSY"),
    row(123, says(b"+OK\r\n", "reply"), name="nothing of ours"),
]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_every_call_is_answered_and_nobody_waits(
    facade: Facade, server: FaultServer, redis_server: Server, wire: Wire, trouble: Trouble
) -> None:
    """Refused by no limit, at no cost of time once the server is known to be lost; and counted once when it is back. I22."""
    with sharing(facade, server, wire.url, limits=LIMITS) as shared:
        assert shared.degraded(4) == 0
        before = len(shared.asked)
        shared.patient = trouble.why != "timeout"
        trouble.begin(redis_server, wire)
        for _ in range(8):
            check_calls(shared, trouble)
            shared.runtime.advance(PAUSE / 2)
        if trouble.why == "timeout":
            shared.runtime.advance(PAUSE)
            check_calls(shared, trouble)
        assert 0 < len(shared.asked[before:]) <= trouble.asks
        assert shared.lost
        assert (shared.told, shared.why[0].split(":")[0]) == (["lost"], trouble.why)
        trouble.end(redis_server, wire)
        check_silence(shared)
        shared.patient = True
        shared.runtime.advance(OPEN)
        made = 4 + shared.caller.client.stats().degraded
        assert shared.degraded(4) == 0
        assert not shared.lost
        assert shared.told[:2] == ["lost", "back"]
        report = shared.store.report()
        assert (report.losses, report.added, report.dropped) == (1, 1, 0)
    with sharing(facade, server, redis_server.url, limits=LIMITS) as other:
        assert other.room() == CAP - made - 4
    assert server.models_asked == [A] * CAP


def check_calls(shared: Shared, trouble: Trouble) -> None:
    """Two calls, of which at most the first waits, once, for as long as may be."""
    for stream in (False, True):
        before = len(shared.asked)
        assert shared.degraded(1 + stream) == 1 + stream
        asked = shared.asked[before:]
        assert all(limit == SECONDS for script, limit, _ in asked if script not in BLOBS)
        assert len(asked) <= (1 if trouble.why == "timeout" else FAILURES)


def check_silence(shared: Shared) -> None:
    """It is asked again only after some time, though it has been well for a while."""
    before = len(shared.asked)
    shared.runtime.advance(OPEN / 10)
    assert shared.degraded(2) == 2
    assert shared.asked[before:] == []


PRICED = r.catalog_model(A, pricing={"prompt": "0.0001", "completion": "0.0001"}, context_length=1000)
COSTING = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost": 0.04}


@fault(119)
@pytest.mark.parametrize("free", [True, False])
def test_money_is_closed_after_an_allowance(
    facade: Facade, server: FaultServer, redis_server: Server, free: bool
) -> None:
    """What is free goes on."""
    server.catalog = [PRICED, *([r.catalog_model(B, pricing={"prompt": "0", "completion": "0"})] if free else [])]
    server.script(A, r.completion(usage=COSTING))
    shares = {"workers": 4, "offline_allowance": "0.1"}
    with sharing(facade, server, redis_server.url, **shares, budget=Budget("10"), fallback_models=[]) as shared:
        assert [each.model for each in shared.ask(4, max_tokens=50)] == [A] * 4
        redis_server.kill()
        alone = shared.ask(2, max_tokens=50)
        assert all(each.route.degraded for each in alone)
        if free:
            assert [each.model for each in shared.ask(4, max_tokens=50)] == [B] * 4
        else:
            for _ in range(4):
                with pytest.raises(BudgetExceededError, match="decided without the store, which is lost") as caught:
                    shared.ask(max_tokens=50)
                assert caught.value.route is not None
                assert caught.value.route.degraded
    assert server.models_asked.count(A) == 4 + 2, "0.08 USD of 0.10: the rest does not cover what another may cost"


@fault(119)
def test_rates_and_days_go_on_at_a_share(facade: Facade, server: FaultServer, redis_server: Server) -> None:
    limits = Limits(requests_per_day=40, requests_per_minute=48)
    with sharing(facade, server, redis_server.url, workers=4, limits=limits) as shared:
        shared.ask(4)
        redis_server.kill()
        assert shared.room() == 9, "a quarter of the 36 that were left"
        with pytest.raises(LimitExceededError, match=r"40 requests a day .* decided without the store") as caught:
            shared.ask()
        assert caught.value.retry_after is not None
        assert caught.value.retry_after <= OPEN, "then it is asked again"
        assert caught.value.route is not None
        assert caught.value.route.degraded == ("the call",)
        shared.runtime.advance(86_400)
        assert shared.room() == 10
        shared.runtime.advance(86_400)
        assert shared.room() == 10
        assert shared.caller.client.stats().degraded == 9 + 10 + 10 + 4
    with sharing(
        facade, server, redis_server.url, workers=4, limits=Limits(requests_per_minute=48), present=False
    ) as rated:
        assert rated.room() == 12


# --- what is told at the start ---


@fault(120)
@pytest.mark.parametrize(
    ("login", "why"), [("", "uthenticat"), (":wr0ng-one@", "WRONGPASS|uthenticat"), ("few:right@", "NOPERM|ACL")]
)
def test_a_server_that_refuses_us_is_told_at_the_start(
    facade: Facade, server: FaultServer, redis_server: Server, login: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.do("ACL", "SETUSER", "few", "on", ">right", "~*", "+@all", "-zadd")
    redis_server.do("CONFIG", "SET", "requirepass", "right")
    url = f"redis://{login}127.0.0.1:{redis_server.port}"
    told = []
    while not told:  # fifty milliseconds may be too short for this machine
        try:
            with facade(base_url=server.url, store=SharedStore(url), limits=LIMITS) as caller:
                assert caller.client.health().store_lost
        except ConfigurationError as error:
            told.append(str(error))
    assert re.search(f"refuses us: .*({why})", told[0])
    assert "wr0ng" not in told[0] + caplog.text
    assert server.requests == []


@fault(119)
def test_a_server_that_is_not_there_at_the_start_is_found_later(
    facade: Facade, server: FaultServer, redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.kill()
    with sharing(facade, server, redis_server.url, limits=LIMITS, present=False) as shared:
        assert shared.lost
        assert "is lost" in caplog.text
        assert shared.degraded(6) == 6
        assert shared.asked == []
        redis_server.start()
        shared.runtime.advance(OPEN)
        assert shared.degraded(4) == 0
        assert shared.told == ["lost", "back"]
    with sharing(facade, server, redis_server.url, limits=LIMITS) as other:
        assert other.room() == CAP - 10


@fault(120)
def test_scripts_that_were_forgotten_are_sent_again(facade: Facade, server: FaultServer, redis_server: Server) -> None:
    """NOSCRIPT."""
    with sharing(facade, server, redis_server.url, limits=LIMITS) as shared:
        for _ in range(4):
            redis_server.do("SCRIPT", "FLUSH")
            assert shared.degraded(2) == 0
        assert shared.told == []
        assert all(reply for _, _, reply in shared.asked)


# --- counts that are lost ---


@fault(121)
def test_a_flush_does_not_begin_the_day_anew(facade: Facade, server: FaultServer, redis_server: Server) -> None:
    with (
        sharing(facade, server, redis_server.url, limits=Limits(requests_per_day=20)) as shared,
        sharing(facade, server, redis_server.url, limits=Limits(requests_per_day=20)) as other,
    ):
        shared.ask(4)
        other.ask(4)
        redis_server.clear()
        shared.ask(1)
        assert (shared.told, shared.why, other.told) == (["reset"], ["day"], [])
        other.ask(1)
        assert shared.room() + other.room() == 20 - 10
        for _ in range(2):
            redis_server.clear()
            assert (shared.room(), other.room()) == (0, 0)
        assert shared.told == ["reset"], "told once a minute at most"
        shared.runtime.advance(61)
        redis_server.clear()
        assert shared.room() == 0
        assert shared.told == ["reset", "reset"]
    assert len(server.chat_requests) == 20


@fault(122)
def test_a_failover_that_loses_writes_admits_no_more_than_it_lost(
    facade: Facade, server: FaultServer, redis_server: Server, wire: Wire
) -> None:
    """The replica is promoted while it has not heard everything."""
    with (
        Server() as replica,
        sharing(facade, server, wire.url, limits=Limits(requests_per_day=20)) as shared,
    ):
        shared.ask(5)
        redis_server.do("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        replica.do("REPLICAOF", "127.0.0.1", redis_server.port)
        until(lambda: replica.do("INFO", "replication")["master_link_status"] == "up")
        replica.do("REPLICAOF", "NO", "ONE")
        shared.ask(3)
        wire.port = replica.port
        redis_server.kill()
        shared.ask(4)
        shared.runtime.advance(OPEN)
        made = shared.room()
        assert 8 <= made <= 8 + 3
        assert not shared.lost
    assert len(server.chat_requests) <= 20 + 3
