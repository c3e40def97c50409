"""Faults 54 and 134: what one tenant brings upon itself, the others do not notice."""

from __future__ import annotations

import pytest

from routerkit import AuthenticationError, RateLimitError
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.catalogue import fault
from tests.support.facades import AsyncCaller, SkippingRuntime, SyncCaller
from tests.support.pair import echo, outcome_of, refusing
from tests.support.scenarios import B
from tests.support.tenants import ACME, GLOBEX, both, keys_of, shared, unharmed

Facade = type[SyncCaller | AsyncCaller]


@fault(54)
def test_a_key_that_is_refused_a_hundred_times_is_sent_twice_a_minute_at_most(
    facade: Facade, server: FaultServer
) -> None:
    runtime = SkippingRuntime()
    server.catalog = r.error(404)
    server.default = refusing(ACME, r.error(401))
    with facade(**shared(server, runtime=runtime)) as caller:
        acme, globex = both(caller)
        for number in range(100):
            error = outcome_of(acme, stream=bool(number % 2))
            assert isinstance(error, AuthenticationError)
            assert error.retry_after is None or error.retry_after <= 60
            unharmed(globex, number)
            runtime.advance(1.2)
    assert keys_of(server).count(ACME) in (2, 3), "in two minutes"
    assert keys_of(server).count(GLOBEX) == 100


@fault(134)
def test_one_that_floods_is_the_only_one_that_is_told_to_wait(facade: Facade, server: FaultServer) -> None:
    server.catalog = r.error(404)
    server.default = refusing(ACME, r.error(429, headers={"Retry-After": "20"}))
    with facade(**shared(server)) as caller:
        acme, globex = both(caller)
        flood = [acme.begin(f"flood {number}", timeout=10) for number in range(40)]
        for number in range(10):
            unharmed(globex, number)
        for end in flood:
            with pytest.raises(RateLimitError):
                end()
        unharmed(globex, model=B)
        assert globex.client.health().cooldowns == {}
    assert keys_of(server).count(GLOBEX) == 11


@fault(134)
def test_one_that_floods_slow_answers_holds_nobody_up(facade: Facade, server: FaultServer) -> None:
    """All its connections wait for answers; the other's calls are answered meanwhile."""
    gate = r.gate(r.choose(echo))
    server.default = refusing(ACME, gate, r.choose(echo))
    with facade(**shared(server)) as caller:
        acme, globex = both(caller)
        flood = [acme.begin(f"flood {number}") for number in range(40)]
        caller.until(server, lambda: keys_of(server).count(ACME) == 40)
        for number in range(10):
            unharmed(globex, number)
        gate.release()
        assert sorted(str(end().text) for end in flood) == sorted(f"{ACME} flood {number}" for number in range(40))
