"""Two gateways of one client, over real sockets and through both facades: what goes away, what answers, who gets which key.

The rules themselves are tested in `tests/test_gateways.py`, on the core alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trustme

from routerkit import (
    AllModelsFailedError,
    Gateway,
    InvalidRequestError,
    RouterKitError,
    Timeouts,
)
from routerkit.testing import Connection, FaultServer, closed_port, silent_port
from routerkit.testing import replies as r
from routerkit.testing.ports import HOST
from routerkit.types.secret import Secret
from tests.support.facades import FACADES, AsyncCaller, SkippingRuntime, SyncCaller
from tests.support.network import context_of, long_ago
from tests.support.pair import KEYS, Pair, answer_of, outcome_of, pair_of_gateways, skipped, tried
from tests.support.real_model import MISSING, MODEL, llama_server
from tests.support.scenarios import A, B

Facade = type[SyncCaller | AsyncCaller]

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
SOON = Timeouts(connect=0.15, total=60)
ON_SECOND = f"{A} on second ok"
pytestmark = pytest.mark.usefixtures("few_authorities")


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> Facade:
    return FACADES[request.param]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pair_of_gateways() as pair:
        yield pair


def test_a_client_of_one_of_the_gateways_shares_all_else(facade: Facade, pair: Pair) -> None:
    with facade(**pair.options()) as caller:
        alone = caller.with_options(gateway="second", catalog_fallback=False)
        assert tried(alone.complete()) == [ON_SECOND]
        assert {model.gateway for model in alone.models()} == {"second"}
        assert caller.client.stats().calls == 1
        pair.second.default = r.error(503)
        with pytest.raises(RouterKitError) as caught:
            alone.complete()
        assert caught.value.route is not None
        assert set(caught.value.route.models) == {A}
    assert pair.first.chat_requests == []


# --- the first goes away ---

Way = Callable[[FaultServer], AbstractContextManager[str]]
"""Given the first gateway's server, where the client is sent in its place."""


@contextmanager
def stopped(server: FaultServer) -> Iterator[str]:
    server.stop()
    yield server.url


@contextmanager
def refused(_: FaultServer) -> Iterator[str]:
    yield f"http://{HOST}:{closed_port()}/v1"


@contextmanager
def without_word(_: FaultServer) -> Iterator[str]:
    with silent_port() as port:
        yield f"http://{HOST}:{port}/v1"


@contextmanager
def without_name(_: FaultServer) -> Iterator[str]:
    yield "https://nowhere.invalid/v1"


@contextmanager
def web_page(server: FaultServer) -> Iterator[str]:
    server.default = r.html(502)
    yield server.url


@contextmanager
def no_tls(server: FaultServer) -> Iterator[str]:
    server.on_connect = Connection.reset  # type: ignore[assignment]
    yield server.url.replace("http:", "https:")


@contextmanager
def endless_handshake(server: FaultServer) -> Iterator[str]:
    server.on_connect = Connection.wait  # type: ignore[assignment]
    yield server.url.replace("http:", "https:")


AWAY: list[Any] = [
    pytest.param(stopped, "connect_failed", 0, id="stopped"),
    pytest.param(refused, "connect_failed", 0, id="refuses"),
    pytest.param(without_word, "connect_failed", 0, id="is silent"),
    pytest.param(without_name, "connect_failed", 0, id="has no name"),
    pytest.param(web_page, "not_an_api", 1, id="is a web page"),
    pytest.param(no_tls, "connect_failed", 0, id="breaks off TLS"),
    pytest.param(endless_handshake, "connect_failed", 0, id="never ends the handshake"),
]


@STREAM
@pytest.mark.parametrize(("way", "code", "requests"), AWAY)
def test_what_the_first_does_not_answer_the_second_does(
    facade: Facade, pair: Pair, way: Way, code: str, requests: int, stream: bool
) -> None:
    with way(pair.first) as url:
        gateways = [Gateway("first", url), pair.gateway("second")]
        with facade(**pair.options(gateways=gateways, timeout=SOON)) as caller:
            answer = answer_of(caller, stream=stream, fallback_models=[B])
        assert (answer.text, answer.model, answer.gateway) == (f"Hello from {A}", A, "second")
        assert tried(answer) == [f"{A} on first {code}", ON_SECOND]
        assert skipped(answer) == {}
        assert pair.asked == (requests, 1)


@STREAM
def test_a_gateway_that_stops_between_two_calls(facade: Facade, pair: Pair, stream: bool) -> None:
    """Its connections in the pool are of no use any more, and nobody waits for one."""
    with facade(**pair.options()) as caller:
        assert caller.complete().gateway == "first"
        pair.first.stop()
        answer = answer_of(caller, stream=stream)
        assert answer.gateway == "second"
        assert tried(answer)[-2:] == [f"{A} on first connect_failed", ON_SECOND]
    assert pair.asked == (1, 1)


@STREAM
def test_where_the_first_is_not_who_it_says_the_second_is_asked(
    facade: Facade, pair: Pair, tmp_path: Path, stream: bool
) -> None:
    """Somebody may be listening in: nothing is said to them, and the route tells of it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with FaultServer(tls=context_of(authority, HOST, until=long_ago())) as expired:
        gateways = [Gateway("first", expired.url, ca_file=str(tmp_path / "ca.pem")), pair.gateway("second")]
        with facade(**pair.options(gateways=gateways)) as caller:
            answer = answer_of(caller, stream=stream)
            assert tried(answer) == [f"{A} on first tls_verify", ON_SECOND]
            assert "expired" in answer.route.attempts[0].detail
        assert expired.requests == []


def test_an_open_breaker_spares_the_first_until_it_is_well_again(facade: Facade, pair: Pair) -> None:
    runtime = SkippingRuntime()
    pair.first.default = r.html(503)
    with facade(**pair.options(runtime=runtime)) as caller:
        for _ in range(5):
            assert tried(caller.complete()) == [f"{A} on first not_an_api", ON_SECOND]
        for stream in (False, True, False):
            answer = answer_of(caller, stream=stream, model=B)
            assert tried(answer) == [f"{B} on second ok"]
            assert skipped(answer) == {f"{B} on first": "the breaker of gateway first is open"}
        assert pair.asked == (5, 8)
        assert caller.client.health().breakers["first"] == "open"
        runtime.advance(5)
        assert tried(caller.complete())[0] == f"{A} on first not_an_api", "one call looks how it is"
        assert tried(caller.complete()) == [ON_SECOND]
        pair.first.default = r.completion()
        runtime.advance(60)
        for stream in (False, True, False):
            assert tried(answer_of(caller, stream=stream)) == [f"{A} on first ok"]
        assert caller.client.health().breakers["first"] == "closed"
    assert pair.asked == (9, 10)


def test_a_gateway_that_is_started_again_is_used_again(facade: Facade, pair: Pair) -> None:
    runtime = SkippingRuntime()
    with facade(**pair.options(runtime=runtime)) as caller:
        pair.first.stop()
        for _ in range(8):
            assert caller.complete().gateway == "second"
        pair.first.start()
        assert caller.complete().gateway == "second", "its breaker is open"
        runtime.advance(60)
        for stream in (False, True):
            assert answer_of(caller, stream=stream).gateway == "first"


def test_a_stream_that_breaks_after_its_first_content_is_not_patched_together(facade: Facade, pair: Pair) -> None:
    pair.first.default = r.stream(r.role(), "one ", "two", r.cut())
    with facade(**pair.options()) as caller:
        with pytest.raises(RouterKitError) as caught:
            answer_of(caller, stream=True)
        assert tried(caught.value) == [f"{A} on first truncated"]
        answer = answer_of(caller, stream=True, on_interrupt="restart")
        assert (answer.text, answer.gateway) == (f"Hello from {A}", "second")
        assert tried(answer) == [f"{A} on first truncated", ON_SECOND]
    assert pair.asked == (2, 1)


def test_both_gone_is_one_error_that_tells_of_both(facade: Facade, pair: Pair) -> None:
    pair.first.stop()
    pair.second.default = r.html(502)
    with facade(**pair.options()) as caller, pytest.raises(AllModelsFailedError) as caught:
        caller.complete()
    assert tried(caught.value) == [f"{A} on first connect_failed", f"{A} on second not_an_api"]
    assert "a/one on first" in str(caught.value)
    assert "a/one on second" in str(caught.value)


# --- who is asked for what ---


@STREAM
def test_a_model_under_another_name_elsewhere(facade: Facade, pair: Pair, stream: bool) -> None:
    pair.first.default = r.html()
    aliases = {"smart": {"first": A, "second": "one@latest"}}
    with facade(**pair.options(default_model="smart", aliases=aliases)) as caller:
        answer = answer_of(caller, stream=stream)
    assert (answer.model, answer.gateway, answer.text) == ("one@latest", "second", "Hello from one@latest")
    assert pair.first.models_asked == [A]
    assert pair.second.models_asked == ["one@latest"]


def test_each_gateway_sees_its_own_key_and_nobody_elses(facade: Facade, pair: Pair) -> None:
    """In failures, streams, catalogues, news of keys and redirects."""
    key = r.json_body({"data": {"label": "a key"}})
    pair.first.route("GET", "/key", key)
    pair.second.route("GET", "/key", key)
    replies = [r.html(), r.error(401), r.redirect(307, f"{pair.second.url}/chat/completions"), r.error(500)]
    gateways = [pair.gateway(name, key_path="/key") for name in KEYS]
    for reply in (*replies, r.completion()):
        pair.first.default = reply
        with facade(**pair.options(gateways=gateways)) as caller:
            for stream in (False, True):
                outcome_of(caller, stream=stream, fallback_models=[B])
            caller.models()
            for name in KEYS:
                caller.key_info(gateway=name)
    for name, other in (("first", "second"), ("second", "first")):
        requests = getattr(pair, name).requests
        assert len({request.route for request in requests}) == 3
        assert {request.api_key for request in requests} == {KEYS[name]}
        assert not any(KEYS[other].encode() in request.body for request in requests)
        assert not any(KEYS[other] in value for request in requests for _, value in request.headers)


@STREAM
def test_a_key_that_the_first_refuses_is_left_for_the_second(facade: Facade, pair: Pair, stream: bool) -> None:
    runtime = SkippingRuntime()
    pair.first.default = r.error(401)
    with facade(**pair.options(runtime=runtime)) as caller:
        first = answer_of(caller, stream=stream, fallback_models=[B])
        assert tried(first) == [f"{A} on first authentication", ON_SECOND]
        for _ in range(3):
            assert tried(answer_of(caller, stream=stream)) == [ON_SECOND]
        assert pair.asked == (1, 4)
        assert caller.client.health().breakers["first"] == "closed", "a key says nothing of its gateway"
        pair.first.default = r.completion()
        runtime.advance(61)
        assert tried(answer_of(caller, stream=stream)) == [f"{A} on first ok"]


@STREAM
def test_a_server_without_key_beside_a_gateway_with_one(facade: Facade, pair: Pair, stream: bool) -> None:
    pair.first.default = r.error(402)
    gateways = [pair.gateway("first", key_required=True), pair.gateway("second")]
    with facade(**pair.options(gateways=gateways, api_key={"first": KEYS["first"]})) as caller:
        assert answer_of(caller, stream=stream).gateway == "second"
        caller.models()
    assert {request.api_key for request in pair.first.requests} == {KEYS["first"]}
    assert {request.header("authorization") for request in pair.second.requests} == {None}


def test_the_catalogues_of_both(facade: Facade, pair: Pair) -> None:
    pair.first.catalog = [r.catalog_model(A, context_length=1000)]
    pair.second.catalog = [r.catalog_model(A, context_length=2000), r.catalog_model(B, context_length=3000)]
    with facade(**pair.options()) as caller:
        assert [(model.id, model.gateway) for model in caller.models()] == [(A, "first"), (A, "second"), (B, "second")]
        assert [(model.id, model.gateway) for model in caller.models(min_context=2000)] == [
            (A, "second"),
            (B, "second"),
        ]
        assert (pair.first.catalog_requests, pair.second.catalog_requests) == (1, 1)
        pair.first.stop()
        assert len(caller.models(refresh=True)) == 3, "what was read before is better than nothing"
    with facade(**pair.options()) as caller:
        assert [model.gateway for model in caller.models()] == ["second", "second"]


def test_the_cost_is_that_of_the_gateway_that_answered(facade: Facade, pair: Pair) -> None:
    pair.first.default = r.html()
    pair.second.default = r.completion(usage={"prompt_tokens": 10, "completion_tokens": 5})
    for name, price in (("first", "0.5"), ("second", "0.001")):
        getattr(pair, name).catalog = [r.catalog_model(A, pricing={"prompt": price, "completion": price})]
    with facade(**pair.options()) as caller:
        caller.models()
        answer = caller.complete()
        assert (answer.cost, answer.cost_source) == (Decimal("0.015"), "catalog")
        (row,) = caller.client.usage().rows
        assert (row.gateway, row.model, row.cost) == ("second", A, Decimal("0.015"))


def test_news_of_a_key(facade: Facade, pair: Pair) -> None:
    pair.second.route("GET", "/key", r.json_body({"data": {"label": "mine", "limit": 10, "limit_remaining": 7.5}}))
    pair.second.route("GET", "/credits", r.json_body({"data": {"total_credits": 20, "total_usage": 12.5}}))
    gateways = [pair.gateway("first"), pair.gateway("second", key_path="/key", credits_path="/credits")]
    with facade(**pair.options(gateways=gateways)) as caller:
        info = caller.key_info()
        assert (info.gateway, info.fingerprint) == ("second", Secret(KEYS["second"]).fingerprint)
        assert (info.label, info.limit_remaining, info.balance) == ("mine", Decimal("7.5"), Decimal("7.5"))
        with pytest.raises(InvalidRequestError):
            caller.key_info(gateway="first")
    assert pair.first.requests == []


def test_the_plan_of_both(facade: Facade, pair: Pair) -> None:
    pair.first.default = r.error(401)
    pair.first.catalog = [r.catalog_model(A), r.catalog_model("x/one")]
    pair.second.catalog = [r.catalog_model(A), r.catalog_model("x/two")]
    with facade(**pair.options(aliases={B: {"first": None}})) as caller:
        assert [str(each.target) for each in caller.explain(fallback_models=[B]).targets] == [
            f"{A} on first",
            f"{A} on second",
            f"{B} on second",
            "x/one on first",
            "x/two on second",
        ]
        caller.complete()
        plan = caller.explain(fallback_models=[B])
        assert [str(each.target) for each in plan.targets] == [f"{A} on second", f"{B} on second", "x/two on second"]
        resting = [skip for skip in plan.skipped if skip.retry_after is not None]
        assert [str(skip.target) for skip in resting] == [f"{A} on first"], "its list is not gone through, as in a call"
        assert {skip.reason for skip in resting} == {"the key of first rests after authentication"}
    assert pair.asked == (1, 1), "an explanation asks nobody"


# --- a real model as the second ---


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    with llama_server() as port:
        yield f"http://{HOST}:{port}/v1"


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_a_real_model_answers_when_the_first_gateway_refuses(facade: Facade, pair: Pair, llama: str) -> None:
    short: dict[str, Any] = {"max_tokens": 8, "temperature": 0, "seed": 1}
    pair.first.stop()
    gateways = [pair.gateway("first"), Gateway("here", llama)]
    with facade(**pair.options(gateways=gateways, api_key=None, default_model=MODEL)) as caller:
        for stream in (False, True):
            answer = answer_of(caller, "Say hello.", stream=stream, **short)
            assert tried(answer) == [f"{MODEL} on first connect_failed", f"{MODEL} on here ok"]
            assert answer.text.strip()
            assert (answer.gateway, answer.usage.completion_tokens) == ("here", 8)
            assert (answer.cost, answer.cost_source) == (None, "unknown")
        (model,) = caller.models()
        assert (model.id, model.gateway, model.pricing.known) == (MODEL, "here", False)
        assert caller.client.usage().by_gateway()["here"].cost_unknown == 2
