"""Tenants as an adversary sees them: nobody is taken for another, gets another's answer, or finds out who else there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from routerkit import ConfigurationError, Gateway, RouterKitError, Tenant
from routerkit.testing import FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.security.canaries import KEY, PROMPT, leaks, listening, said_by
from tests.support.facades import FACADES, Caller
from tests.support.pair import echo, pair_of_gateways, refusing
from tests.support.tenants import ACME, GLOBEX, KEYS, both, keys_of, shared, unharmed

each_facade = pytest.mark.parametrize("facade", FACADES)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.catalog = r.error(404)
        yield running


def calls(caller: Caller, **options: Any) -> dict[str, Callable[[], Any]]:
    """Every way to ask something on somebody's behalf."""
    return {
        "complete": lambda: caller.complete(PROMPT, **options),
        "stream": lambda: caller.stream(PROMPT, **options),
        "explain": lambda: caller.explain(PROMPT, **options),
        "key_info": lambda: caller.key_info(),
    }


# --- each its own answer ---


@each_facade
def test_what_arrives_late_or_in_pieces_reaches_no_other_tenant(facade: str, server: FaultServer) -> None:
    """One tenant's calls are cut off at every stage, on the connections that the other's calls are to use."""
    number = itertools.count()

    def reply(request: RecordedRequest) -> r.Reply:
        if request.api_key == GLOBEX:
            return echo(request)
        return (
            r.truncated_body(b'{"choices": [{"message": {"content": "acme only"}}]}'),
            r.close_before_reply(),
            r.stream(r.role(), "acme only ", r.cut()),
            r.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}acme only", keep=True),
            r.error(500, message="acme only"),
        )[next(number) % 5]

    server.default = r.choose(reply)
    with FACADES[facade](**shared(server, fallback_models=[])) as caller:
        acme, globex = both(caller)
        for place in range(10):
            ends = [each.begin(f"{PROMPT} {place}", model=f"m/{place}") for each in (acme, globex, globex)]
            with pytest.raises(RouterKitError):
                ends[0]()
            assert [end().text for end in ends[1:]] == [f"{GLOBEX} {PROMPT} {place}"] * 2
    assert next(number) >= 10
    assert set(keys_of(server)) == {ACME, GLOBEX}


@each_facade
def test_a_stream_given_up_by_one_is_not_read_by_the_other(facade: str, server: FaultServer) -> None:
    server.default = r.choose(
        lambda request: (
            echo(request) if request.api_key == GLOBEX else r.stream(r.role(), *["acme only "] * 50, r.end(), r.done())
        )
    )
    with FACADES[facade](**shared(server)) as caller:
        acme, globex = both(caller)
        for place in range(5):
            reader = acme.stream(PROMPT)
            assert reader.next() is not None
            reader.close()
            assert globex.complete(f"{place}").text == f"{GLOBEX} {place}"


# --- nobody is taken for another ---

NOT_ACME = ("ACME", "Acme", "acme ", " acme", "acme\n", "acme\x00", "acm", "acmee", "aсme", "ａcme", "acme\u200b", "")
NO_NAMES = (None, 0, b"acme", ["acme"], ("acme",), {"acme": 1}, Tenant("acme", ACME))


@each_facade
@pytest.mark.parametrize("name", [*NOT_ACME, *NO_NAMES, *(f"{part}x" for part in KEYS)], ids=repr)
def test_a_name_is_met_exactly_or_not_at_all(facade: str, name: Any, server: FaultServer) -> None:
    with FACADES[facade](**shared(server)) as caller:
        for again in range(2):
            with pytest.raises(ConfigurationError, match=r"\Ano such tenant\Z"):
                caller.tenant(name)
            assert caller.tenant("acme").complete(f"{again}").text
    assert set(keys_of(server)) == {ACME}


@each_facade
@pytest.mark.parametrize("name", ["complete", "stream", "explain", "key_info"])
def test_who_names_no_tenant_gets_nobodys_key(
    facade: str, name: str, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the client's own, where it has one beside its tenants."""
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY)
    gateway = Gateway(name="openrouter", base_url=server.url, key_path="/key")
    for options in ({"base_url": None, "gateway": gateway}, {"base_url": None, "gateway": gateway, "api_key": KEY}):
        with FACADES[facade](**{**shared(server), **options}) as caller:
            assert caller.client.settings.api_key is not None
            for each in (caller, caller.with_options(timeout=5)):
                with pytest.raises(ConfigurationError, match="this client has tenants"):
                    calls(each)[name]()
    assert server.requests == []


@each_facade
def test_a_tenant_has_its_own_keys_and_no_others_whatever_befalls_them(facade: str, server: FaultServer) -> None:
    """Neither the client's nor a sibling's stands in for keys that are refused, rest or are missing."""
    gateways = [Gateway(name=name, base_url=server.url) for name in ("first", "second")]
    tenants = [
        Tenant("acme", [ACME, ACME + "-2"]),
        Tenant("globex", {"first": GLOBEX, "second": GLOBEX}),
        Tenant("umbrella"),
    ]
    refused = [r.error(status) for status in (401, 402, 429)]
    server.default = r.choose(lambda request: refused[len(server.chat_requests) % 3])
    options = {"base_url": None, "gateways": gateways, "api_key": KEY, "tenants": tenants}
    with FACADES[facade](**{**shared(server), **options}) as caller:
        for name, keys in (("acme", {ACME, ACME + "-2", None}), ("umbrella", {None})):
            before = len(server.requests)
            for call in calls(caller.tenant(name), model="a/one", fallback_models=["b/two"]).values():
                with suppress(RouterKitError):
                    call()
            seen = {request.api_key for request in server.requests[before:]}
            assert seen
            assert seen <= keys


@each_facade
def test_a_key_stays_with_its_gateway_whatever_is_left_of_the_gateways(facade: str) -> None:
    """`with_options(gateway=)` leaves one, and a bare key is the first one's of all."""
    tenants = [
        Tenant("acme", ACME),
        Tenant("globex", {"second": GLOBEX}),
        Tenant("both", {"first": "sk-both-1234567890"}),
    ]
    with pair_of_gateways() as pair:
        with FACADES[facade](**pair.options(api_key=None, tenants=tenants)) as caller:
            for left in ("second", "first"):
                for name in ("acme", "globex", "both"):
                    narrowed = caller.with_options(gateway=left).tenant(name)
                    narrowed.complete()
                    caller.tenant(name).complete()
        assert {request.api_key for request in pair.second.requests} <= {GLOBEX, None}
        assert {request.api_key for request in pair.first.requests} <= {ACME, "sk-both-1234567890", None}


@each_facade
def test_a_catalogue_refused_to_one_key_is_not_refused_to_another(facade: str, server: FaultServer) -> None:
    """The list of models is shared; that a key may not read it is not."""
    server.catalog = refusing(ACME, r.error(401, message="revoked"), r.json_body({"data": r.CATALOG}))
    with FACADES[facade](**shared(server)) as caller:
        acme, globex = both(caller)
        with pytest.raises(RouterKitError, match="revoked"):
            acme.models()
        assert len(globex.models()) == len(r.CATALOG)
        assert len(acme.models()) == len(r.CATALOG), "what is in memory serves all"


@each_facade
def test_a_strategy_that_needs_the_catalogue_is_not_lamed_by_a_siblings_key(facade: str, server: FaultServer) -> None:
    server.catalog = refusing(ACME, r.error(401), r.json_body({"data": r.CATALOG}))
    server.default = refusing(ACME, r.error(401))
    options = {"strategy": "cost_optimized", "default_model": None, "fallback_models": ["beta/two", "alpha/one"]}
    with FACADES[facade](**shared(server, **options)) as caller:
        acme, globex = both(caller)
        with pytest.raises(RouterKitError):
            acme.complete(PROMPT)
        cheapest = globex.explain(PROMPT).targets[0]
        assert "expected to cost" in cheapest.reason
        unharmed(globex, model=None)


@each_facade
def test_a_key_that_was_refused_does_not_stand_for_those_that_were_not(facade: str, server: FaultServer) -> None:
    """Of several, that is: the list of models is had with whichever may have it."""
    server.catalog = refusing(ACME, r.error(401), r.json_body({"data": r.CATALOG}))
    server.default = refusing(ACME, r.error(401))
    options = {"tenants": [Tenant("acme", [ACME, ACME + "-2"]), Tenant("globex", GLOBEX)]}
    with FACADES[facade](**{**shared(server), **options}) as caller:
        acme = caller.tenant("acme")
        assert [str(attempt.verdict) for attempt in acme.complete(PROMPT).route.attempts] == ["authentication", "ok"]
        assert len(acme.models()) == len(r.CATALOG)
    assert {request.api_key for request in server.requests} <= {ACME, ACME + "-2"}


# --- who else there is ---


@each_facade
def test_an_unknown_tenant_cannot_be_told_from_a_siblings(facade: str, server: FaultServer) -> None:
    """From a tenant's client no other is reached, and the refusal is the same word for word, whether there is one or not."""
    with FACADES[facade](**shared(server)) as caller:
        acme, globex = both(caller)
        globex.complete("so that there is something to remember")
        told = set()
        for name in ("globex", "acme", "umbrella", "GLOBEX", "", None, 5):
            with listening() as listener, pytest.raises(ConfigurationError) as caught:
                acme.tenant(name)
            told.add((type(caught.value), str(caught.value), repr(caught.value.__cause__), len(listener.lines)))
        assert len(told) == 1
        assert not any(name in repr(told) for name in ("globex", "umbrella", "acme"))
        with pytest.raises(ConfigurationError) as caught:
            caller.tenant("umbrella")
        assert not any(name in str(caught.value) for name in ("globex", "umbrella", "acme"))
    assert keys_of(server) == [GLOBEX]


@each_facade
def test_nothing_that_a_tenants_client_tells_names_another(facade: str, server: FaultServer) -> None:
    server.default = refusing(GLOBEX, r.error(401))
    with FACADES[facade](**shared(server)) as caller:
        acme, globex = both(caller)
        with pytest.raises(RouterKitError):
            globex.complete(PROMPT)
        acme.complete(PROMPT)
        client = acme.client
        told = [client, client.settings, client.usage(), client.stats(), client.health(), acme.explain(PROMPT)]
        told += [client.router.access, client.usage().to_dict(), client.stats().to_dict()]
        assert [each for each in told if "globex" in repr(each)] == []
        assert "globex" in repr(caller.client.health()), "and somebody knows"


@each_facade
@pytest.mark.parametrize("call", ["complete", "stream", "models"])
def test_a_gateway_that_quotes_another_key_is_not_quoted(facade: str, call: str, server: FaultServer) -> None:
    """Be it that of a sibling, or one that was tried before."""
    server.default = server.catalog = r.error(401, message=f"neither {KEY} nor {KEY}-2")
    options = {"tenants": [Tenant("acme", [KEY, f"{KEY}-2"]), Tenant("globex", GLOBEX)]}
    with FACADES[facade](**{**shared(server), **options}) as caller, listening() as listener:
        for each in both(caller):
            with pytest.raises(RouterKitError, match="neither") as caught:
                {**calls(each), "models": each.models}[call]()
            assert leaks(said_by(caught.value)) == []
    assert leaks(listener.lines) == []
