"""Two tenants of one client, over real sockets and through both facades: they share the way, and nothing else.

The rules themselves are tested in `tests/test_tenants.py`, on the core and in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from routerkit import ConfigurationError, Tenant
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from routerkit.testing.connection import RecordedRequest
from tests.support.facades import FACADES, AsyncCaller, SyncCaller
from tests.support.pair import answer_of, echo, outcome_of, pair_of_gateways, refusing, tried
from tests.support.scenarios import A, B, C
from tests.support.tenants import ACME, GLOBEX, KEYS, both, keys_of, shared, unharmed

Facade = type[SyncCaller | AsyncCaller]


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> Facade:
    return FACADES[request.param]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.catalog = r.error(404)
        yield server


# --- what befalls one ---

REFUSALS = {
    "revoked": (r.error(401), "AuthenticationError"),
    "without credit": (r.error(402), "PaymentRequiredError"),
    "over its limit": (r.error(429, code="insufficient_quota"), "RateLimitError"),
    "not allowed": (r.error(403, message="this key may not use that model"), "PermissionDeniedError"),
    "rate limited": (r.error(429, headers={"Retry-After": "90"}), "RateLimitError"),
    "excluded by its privacy settings": (
        r.error(404, {"error": {"message": "no", "availability": {"code": "privacy_restricted"}}}),
        "APIError",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_befalls_one_tenants_key_the_other_does_not_notice(facade: Facade, server: FaultServer, what: str) -> None:
    with facade(**shared(server)) as caller:
        acme, globex = both(caller)
        for number in range(4):
            unharmed(acme, number)
            unharmed(globex, number)
        refusal, error = REFUSALS[what]
        server.default = refusing(ACME, refusal)
        for number in range(12):
            told = outcome_of(acme, stream=bool(number % 2))
            assert isinstance(told, Exception)
            assert error in {each.__name__ for each in type(told).__mro__}
            unharmed(globex, number)
        assert globex.client.health().cooldowns == {}
        assert set(caller.client.health().breakers.values()) == {"closed"}
        assert globex.client.stats().failed == {}
        assert acme.client.stats().failed == {type(told).__name__: 12}
    refused = keys_of(server)[8:].count(ACME)
    assert refused == (12 if what == "not allowed" else 1), "nobody keeps asking with a key that is refused"
    assert keys_of(server).count(GLOBEX) == 16


def test_a_model_that_fails_is_spared_by_both(facade: Facade, server: FaultServer) -> None:
    """What concerns the model is nobody's alone."""
    server.script(A, r.error(500))
    with facade(**shared(server, fallback_models=[B])) as caller:
        acme, globex = both(caller)
        for _ in range(5):
            assert acme.complete().model == B
        answer = globex.complete()
        assert [attempt.model for attempt in answer.route.attempts] == [B]
        assert [skip.reason for skip in answer.route.skipped] == ["its breaker is open"]


# --- what they share ---


def test_two_hundred_calls_at_once_are_never_mixed_up(facade: Facade, server: FaultServer) -> None:
    server.default = r.choose(echo)
    with facade(**shared(server)) as caller:
        acme, globex = both(caller)
        for batch in range(25):
            questions = [(tenant, f"nonce {batch}.{number}") for number in range(4) for tenant in (acme, globex)]
            ends = [tenant.begin(question, model=B if batch % 2 else C) for tenant, question in questions]
            for (tenant, question), end in zip(questions, ends, strict=True):
                name = tenant.client.settings.tenant
                assert name is not None
                assert end().text == f"{KEYS[name]} {question}"
        assert (acme.client.stats().answered, globex.client.stats().answered) == (100, 100)
    assert [keys_of(server).count(key) for key in KEYS.values()] == [100, 100]
    assert server.connections_opened < 50, "hardly more than were under way at once"


def test_streams_side_by_side_are_never_mixed_up(facade: Facade, server: FaultServer) -> None:
    def said(request: RecordedRequest) -> r.Reply:
        parts = [f"{request.api_key} {number} " for number in range(5)]
        return r.stream(r.role(), *parts, r.end(), r.done())

    server.default = r.choose(said)
    with facade(**shared(server)) as caller:
        readers = {name: caller.tenant(name).stream() for name in KEYS}
        texts = dict.fromkeys(KEYS, "")
        for _ in range(5):  # in turns
            for name, reader in readers.items():
                chunk = reader.next()
                while chunk is not None and not chunk.text:
                    chunk = reader.next()
                assert chunk is not None
                texts[name] += chunk.text
        assert texts == {name: "".join(f"{key} {number} " for number in range(5)) for name, key in KEYS.items()}
        for reader in readers.values():
            reader.close()


def test_a_connection_serves_one_after_the_other(facade: Facade, server: FaultServer) -> None:
    with facade(**shared(server)) as caller:
        for name in ("acme", "globex", "acme", "globex"):
            caller.tenant(name).complete()
    assert keys_of(server) == [ACME, GLOBEX] * 2
    assert server.connections_opened == 1


def test_the_catalogue_is_fetched_once_for_all(facade: Facade, server: FaultServer) -> None:
    server.catalog = [r.catalog_model(A)]
    with facade(**shared(server)) as caller:
        acme, globex = both(caller)
        for each in (acme, globex, caller, acme.with_options(timeout=5)):
            assert [model.id for model in each.models()] == [A]
        assert [str(each.target.model) for each in globex.explain().targets] == [A]
    assert server.catalog_requests == 1


def test_usage_and_statistics_by_tenant(facade: Facade, server: FaultServer) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "cost": 0.25}
    server.default = refusing(ACME, r.error(401), r.completion(usage=usage))
    with facade(**shared(server)) as caller:
        acme, globex = both(caller)
        for number in range(3):
            unharmed(globex, number)
        outcome_of(acme)
        assert caller.client.usage().by_tenant().keys() == {"globex"}
        server.default = r.completion(usage=usage)
        unharmed(caller.tenant("globex"), model=B)
        assert acme.client.usage().rows == ()
        used = globex.client.usage().by_model()
        assert {model: (each.answers, each.total_tokens, str(each.cost)) for model, each in used.items()} == {
            A: (3, 30, "0.75"),
            B: (1, 10, "0.25"),
        }
        assert (acme.client.stats().calls, acme.client.stats().failed) == (1, {"AuthenticationError": 1})
        assert (globex.client.stats().calls, globex.client.stats().streams) == (4, 1)
        assert caller.client.stats().calls == 5


def test_no_call_is_nobodys(facade: Facade, server: FaultServer) -> None:
    with facade(**shared(server)) as caller:
        for call in (caller.complete, caller.stream, caller.explain, caller.key_info):
            with pytest.raises(ConfigurationError, match=r"client\.tenant\(name\)"):
                call()
        with pytest.raises(ConfigurationError, match="no such tenant"):
            caller.tenant("umbrella")
    assert server.requests == []


def test_what_is_told_of_health_can_be_sent_as_json(facade: Facade, server: FaultServer) -> None:
    server.default = refusing(ACME, r.error(401))
    with facade(**shared(server)) as caller:
        outcome_of(caller.tenant("acme"))
        told = json.loads(json.dumps(caller.client.health().to_dict()))
        assert told.keys() == {"breakers", "cooldowns", "store", "store_lost"}
        (seconds,) = told["cooldowns"].values()
        assert 50 < seconds <= 60


def test_once_the_client_is_closed_nobody_is_asked(facade: Facade, server: FaultServer) -> None:
    with facade(**shared(server)) as caller:
        acme, _ = both(caller)
        acme.complete()
        closing = caller.client.close()
        if isinstance(caller, AsyncCaller):
            caller.run(closing)  # type: ignore[arg-type]  # that of an AsyncClient
        for each in (acme, acme.with_options(timeout=5)):
            for call in (each.complete, each.models, each.explain, each.key_info):
                with pytest.raises(ConfigurationError, match="this client is closed"):
                    call()
    assert len(server.requests) == 1


# --- two gateways ---


def test_one_moves_on_to_the_second_gateway_alone(facade: Facade) -> None:
    """Its key is refused at the first; the other, with a key for the first alone, stays there."""
    tenants = [Tenant("acme", {"first": ACME, "second": ACME + "-2"}), Tenant("globex", {"first": GLOBEX})]
    with pair_of_gateways() as pair:
        pair.first.default = refusing(ACME, r.error(401))
        gateways = [pair.gateway("first"), pair.gateway("second")]
        with facade(**pair.options(gateways=gateways, api_key=None, tenants=tenants)) as caller:
            acme, globex = both(caller)
            assert tried(acme.complete()) == [f"{A} on first authentication", f"{A} on second ok"]
            for number in range(3):
                unharmed(globex, number)
                assert tried(answer_of(acme, stream=bool(number % 2))) == [f"{A} on second ok"]
        assert {request.api_key for request in pair.second.requests} == {ACME + "-2"}
        assert keys_of(pair.first) == [ACME, GLOBEX, GLOBEX, GLOBEX]
