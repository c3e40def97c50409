"""Faults after which another gateway or another key is asked: with a second one there, the call is answered.

What such a fault comes to where there is no second one stands in the modules of each fault.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import attrs
import pytest
import trustme

from routerkit import Completion, Gateway, RouterKitError, Timeouts
from routerkit.testing import Connection, FaultServer, closed_port, silent_port
from routerkit.testing import replies as r
from routerkit.testing.ports import HOST
from tests.faults.catalogue import row
from tests.faults.outcomes import FAST
from tests.faults.ways import SOON
from tests.support.facades import FACADES, Caller
from tests.support.network import Names, Tunnel, context_of, long_ago, tls_server
from tests.support.pair import KEYS, Pair, outcome_of, pair_of_gateways, refusing, skipped, tried
from tests.support.scenarios import A, B, Trace

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
UNREACHABLE = "next_gateway blames gateway (fail), not_sent, billing none"
PATIENT = Timeouts(total=60)


@attrs.define
class Stage:
    """Where a fault of the first gateway is set up, anew for each facade."""

    pair: Pair
    names: Names
    patch: pytest.MonkeyPatch
    authority: trustme.CA
    url: str
    """Where the client is sent for the first gateway."""
    ca_file: str | None = None
    stack: ExitStack = attrs.field(factory=ExitStack)
    """What must be let go of when all has been asked."""


Trouble = Callable[[Stage], object]
Staged = Callable[[], AbstractContextManager[Stage]]


def told(outcome: Completion | RouterKitError) -> Trace:
    return Trace.of(outcome, outcome.route, outcome.text if isinstance(outcome, Completion) else "")


@pytest.fixture
def staged(names: Names, authority: trustme.CA, ca_file: str, monkeypatch: pytest.MonkeyPatch) -> Staged:
    @contextmanager
    def make() -> Iterator[Stage]:
        with pair_of_gateways() as pair, monkeypatch.context() as patch, ExitStack() as stack:
            yield Stage(pair, names, patch, authority, pair.first.url, ca_file, stack)

    return make


# --- to the next gateway ---


def resolving(answer: Any) -> Trouble:
    def trouble(stage: Stage) -> None:
        stage.names["localhost"] = answer
        stage.url = "http://localhost:9/v1"

    return trouble


def hanging_resolver(stage: Stage) -> None:
    stage.names["localhost"] = answered = threading.Event()
    stage.stack.callback(answered.set)
    stage.url = "http://localhost:9/v1"


def blackholes(stage: Stage) -> None:
    port = stage.stack.enter_context(silent_port())
    stage.names["localhost"] = [(HOST, port)] * 4
    stage.url = f"http://localhost:{port}/v1"


def refusing_port(stage: Stage) -> None:
    stage.url = f"http://{HOST}:{closed_port()}/v1"


def silent(stage: Stage) -> None:
    stage.url = f"http://{HOST}:{stage.stack.enter_context(silent_port())}/v1"


def refusing_proxy(stage: Stage) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    stage.patch.setenv("HTTPS_PROXY", stage.stack.enter_context(Tunnel(0, refusal)).url)
    stage.url = "https://gateway.test/v1"


def no_proxy_there(stage: Stage) -> None:
    stage.patch.setenv("HTTPS_PROXY", f"http://{HOST}:{closed_port()}")
    stage.url = "https://gateway.test/v1"


def handshake(act: Callable[[Connection], object]) -> Trouble:
    def trouble(stage: Stage) -> None:
        stage.pair.first.on_connect = act  # type: ignore[assignment]
        stage.url = stage.pair.first.url.replace("http:", "https:")

    return trouble


def expired(stage: Stage) -> None:
    stage.url = stage.stack.enter_context(FaultServer(tls=context_of(stage.authority, HOST, until=long_ago()))).url


def of_another_host(stage: Stage) -> None:
    stage.url = stage.stack.enter_context(tls_server(stage.authority, "other.test")).url


def tls_of_yesterday(stage: Stage) -> None:
    context = context_of(stage.authority, HOST)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    stage.url = stage.stack.enter_context(FaultServer(tls=context)).url


def answering(reply: r.Reply) -> Trouble:
    def trouble(stage: Stage) -> None:
        stage.pair.first.default = reply

    return trouble


NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
TRY_AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
PAGE = "next_gateway blames gateway (fail), responded, billing none"
EDGE = "next_gateway blames gateway (fail), responded, billing possible"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@STREAM
@pytest.mark.parametrize(
    ("trouble", "code", "says"),
    [
        row(1, resolving(NO_NAME), "connect_failed", UNREACHABLE),
        row(2, resolving(TRY_AGAIN), "connect_failed", UNREACHABLE, name="EAI_AGAIN"),
        row(3, hanging_resolver, "connect_failed", UNREACHABLE),
        row(4, blackholes, "connect_failed", UNREACHABLE),
        row(7, refusing_port, "connect_failed", UNREACHABLE),
        row(8, silent, "connect_failed", UNREACHABLE),
        row(19, refusing_proxy, "connect_failed", UNREACHABLE, name="proxy answers 407"),
        row(19, no_proxy_there, "connect_failed", UNREACHABLE, name="proxy refuses"),
        row(20, expired, "tls_verify", UNREACHABLE, name="expired"),
        row(20, of_another_host, "tls_verify", UNREACHABLE, name="wrong host"),
        row(21, handshake(Connection.wait), "connect_failed", UNREACHABLE),
        row(22, handshake(Connection.reset), "connect_failed", UNREACHABLE),
        row(22, handshake(Connection.close), "connect_failed", UNREACHABLE, name="FIN in handshake"),
        row(23, tls_of_yesterday, "connect_failed", UNREACHABLE),
        row(40, answering(r.html(200)), "not_an_api", PAGE),
        row(44, answering(r.html(502)), "not_an_api", PAGE, name="502 with a web page"),
        row(44, answering(r.html(404)), "not_an_api", PAGE, name="404 with a web page"),
        row(44, answering(r.empty(520)), "edge_error_sent", EDGE, name="520"),
        row(44, answering(r.html(521)), "edge_error", PAGE, name="521 with a web page"),
        row(44, answering(r.html(530)), "edge_error", PAGE, name="530 with a web page"),
    ],
)
def test_the_next_gateway_is_asked_at_once(
    staged: Staged, trouble: Trouble, code: str, says: str, stream: bool
) -> None:
    """No other model of the first is; its breaker learns of it, and that of nobody else."""
    traces = []
    for name, facade in FACADES.items():
        with staged() as stage:
            trouble(stage)
            gateways = [Gateway("first", stage.url, ca_file=stage.ca_file), stage.pair.gateway("second")]
            with facade(**stage.pair.options(gateways=gateways, timeout=SOON, breaker=FAST)) as caller:
                outcome = outcome_of(caller, stream=stream, fallback_models=[B])
                stage.stack.close()
                assert tried(outcome) == [f"{A} on first {code}", f"{A} on second ok"], name
                again = outcome_of(caller, stream=stream, model=B)
                assert tried(again) == [f"{B} on second ok"], name
                assert skipped(again) == {f"{B} on first": "the breaker of gateway first is open"}
                assert opened(caller) == {"first"}
            assert stage.pair.second.models_asked == [A, B]
            traces.append(told(outcome))
    assert traces[0] == traces[1]
    assert traces[0].details == traces[1].details
    assert traces[0].details[0].startswith(says + ",")
    assert traces[0].waits == ()


@STREAM
@pytest.mark.parametrize("status", [row(45, 302, name="302"), row(45, 307, name="307"), row(46, 308)])
def test_a_redirect_leads_to_the_next_gateway_and_not_where_it_points(status: int, stream: bool) -> None:
    traces = []
    for facade in FACADES.values():
        with FaultServer() as elsewhere, pair_of_gateways() as pair:
            pair.first.default = r.redirect(
                status, (pair.first if status == 308 else elsewhere).url + "/chat/completions"
            )
            with facade(**pair.options(breaker=FAST)) as caller:
                outcome = outcome_of(caller, stream=stream, fallback_models=[B])
                assert tried(outcome) == [f"{A} on first unexpected_redirect", f"{A} on second ok"]
                assert opened(caller) == set()
            assert elsewhere.connections_opened == 0
            assert pair.asked == (1, 1)
            traces.append(told(outcome))
    assert traces[0] == traces[1]
    assert traces[0].details == traces[1].details


def opened(caller: Caller) -> set[str]:
    """The breakers that are not closed."""
    return {name for name, state in caller.client.health().breakers.items() if state != "closed"}


# --- to the next key ---

ONE, TWO = "sk-one-1234567890", "sk-two-1234567890"
FREE = "a/one:free"


def limited_by(source: str, status: int = 402, **headers: str) -> r.Reply:
    return r.error(status, metadata={"limit_source": source}, headers=headers)


REFUSALS = [
    row(52, limited_by("openrouter_free_tier_daily", 429), "free_tier_exhausted", FREE),
    row(53, limited_by("openrouter_in_flight_budget", **{"Retry-After": "40"}), "in_flight_budget", A),
    row(54, r.error(401), "authentication", A, name="401"),
    row(44, r.error(402), "payment_required", A, name="402"),
    row(44, limited_by("openrouter_key_limit"), "key_budget", A, name="402 of the key"),
    row(44, r.error(429, code="insufficient_quota"), "insufficient_quota", A, name="429 without quota"),
    row(131, r.error(429, headers={"Retry-After": "10"}), "rate_limited", A),
]


@STREAM
@pytest.mark.parametrize(("refusal", "code", "model"), REFUSALS)
def test_the_next_key_is_asked_at_once(refusal: r.Reply, code: str, model: str, stream: bool) -> None:
    """Of the same gateway, for the same model; the key that was refused rests, and no breaker learns of it."""
    traces = []
    for facade in FACADES.values():
        with pair_of_gateways() as pair:
            pair.first.default = refusing(ONE, refusal)
            options = pair.options(api_key={**KEYS, "first": [ONE, TWO]}, breaker=FAST)
            with facade(**options) as caller:
                outcome = outcome_of(caller, stream=stream, model=model, fallback_models=[B])
                assert tried(outcome) == [f"{model} on first {code}", f"{model} on first ok"]
                for _ in range(3):
                    assert tried(outcome_of(caller, stream=stream, model=model)) == [f"{model} on first ok"]
                assert [request.api_key for request in pair.first.chat_requests] == [ONE, TWO, TWO, TWO, TWO]
                assert len(caller.client.health().cooldowns) == 1
                assert opened(caller) == set()
            assert pair.second.requests == []
            traces.append(told(outcome))
    assert traces[0] == traces[1]
    assert traces[0].details == traces[1].details
    assert traces[0].waits == ()


@STREAM
@pytest.mark.parametrize(("refusal", "code", "model"), REFUSALS)
def test_when_every_key_is_refused_the_next_gateway_is_asked(
    refusal: r.Reply, code: str, model: str, stream: bool
) -> None:
    traces = []
    for facade in FACADES.values():
        with pair_of_gateways() as pair:
            pair.first.default = refusal
            with facade(**pair.options(api_key={**KEYS, "first": [ONE, TWO]}, timeout=PATIENT)) as caller:
                outcome = outcome_of(caller, stream=stream, model=model, fallback_models=[])
                assert tried(outcome) == [f"{model} on first {code}"] * 2 + [f"{model} on second ok"]
                again = outcome_of(caller, stream=stream, model=model)
                assert tried(again) == [f"{model} on second ok"]
                assert opened(caller) == set()
            assert [request.api_key for request in pair.first.chat_requests] == [ONE, TWO]
            assert {request.api_key for request in pair.second.chat_requests} == {KEYS["second"]}
            traces.append(told(outcome))
    assert traces[0] == traces[1]
    assert traces[0].details == traces[1].details
    assert traces[0].waits == ()
