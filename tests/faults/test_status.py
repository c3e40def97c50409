"""Faults 44 to 46: what each status comes to, redirects above all."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme

from routerkit import BreakerPolicy, Gateway, RouterKitError
from routerkit.testing import FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.faults.catalogue import fault
from tests.faults.outcomes import FAST, After, check_after, left
from tests.support.facades import AsyncCaller, SkippingRuntime, SyncCaller
from tests.support.scenarios import A, Ask, B, C, Scenario

Facade = type[SyncCaller | AsyncCaller]

# --- 44: each status, with a JSON error, nothing, or a web page ---


@attrs.frozen
class Meaning:
    """A line of the table: whether the same model is asked again and the next one at all, and what the verdict says."""

    code: str
    path: str
    """``x`` the model, ``>`` the next one, ``!`` the end."""
    error: str
    blame: str
    sample: str
    billing: str


_BAD = "BadRequestError"
_DOWN = "InternalServerError"
_NOT_US = "ProtocolError"

MEANINGS = {
    meaning.code: meaning
    for meaning in (
        Meaning("invalid_request", "x!", _BAD, "request", "neutral", "none"),
        Meaning("rejected", "x!", _BAD, "request", "neutral", "none"),
        Meaning("client_error", "x!", _BAD, "request", "neutral", "none"),
        Meaning("payload_too_large", "x!", _BAD, "request", "neutral", "none"),
        Meaning("authentication", "x!", "AuthenticationError", "key", "neutral", "none"),
        Meaning("payment_required", "x!", "PaymentRequiredError", "key", "neutral", "none"),
        Meaning("permission_denied", "x!", "PermissionDeniedError", "key", "neutral", "none"),
        Meaning("unexpected_redirect", "x!", _NOT_US, "gateway", "neutral", "none"),
        Meaning("model_not_found", "x>", "", "model", "neutral", "none"),
        Meaning("model_unavailable", "x>", "", "model", "neutral", "none"),
        Meaning("rate_limited", "x>", "", "model", "neutral", "none"),
        Meaning("conflict", "xx>", "", "nobody", "neutral", "none"),
        Meaning("misdirected", "xx>", "", "gateway", "neutral", "none"),
        Meaning("request_timeout", "x>", "", "model", "fail", "possible"),
        Meaning("server_error", "x>", "", "model", "fail", "possible"),
        Meaning("unknown_server_error", "x>", "", "model", "fail", "possible"),
        Meaning("provider_unavailable", "x>", "", "model", "fail", "possible"),
        Meaning("upstream_timeout", "x>", "", "model", "fail", "possible"),
        Meaning("overloaded", "x>", "", "model", "fail", "none"),
        Meaning("edge_error", "xx!", _DOWN, "gateway", "fail", "none"),
        Meaning("edge_error_sent", "xx!", _DOWN, "gateway", "fail", "possible"),
        Meaning("not_an_api", "x!", _NOT_US, "gateway", "fail", "none"),
    )
}
NUMBERS = {
    **dict.fromkeys(range(300, 400), "unexpected_redirect"),
    **dict.fromkeys(range(400, 500), "client_error"),
    **dict.fromkeys(range(500, 600), "unknown_server_error"),
    **dict.fromkeys((405, 406, 411, 412, 414, 415, 417, 422, 426, 431, 501, 505), "rejected"),
    **dict.fromkeys((521, 522, 523, 525, 526, 530), "edge_error"),
    **dict.fromkeys((409, 425), "conflict"),
    **dict.fromkeys((504, 524), "upstream_timeout"),
    **dict.fromkeys((503, 529), "overloaded"),
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "model_not_found",
    408: "request_timeout",
    410: "model_unavailable",
    413: "payload_too_large",
    421: "misdirected",
    429: "rate_limited",
    500: "server_error",
    502: "provider_unavailable",
    520: "edge_error_sent",
}
EDGE = {*range(520, 527), 530}
"""Cloudflare's, which explains them in HTML."""
PAGES = {**NUMBERS, **dict.fromkeys({403, 404, *range(500, 600)} - EDGE, "not_an_api")}


def as_json(status: int) -> r.Reply:
    return r.error(status, message="no")


BODIES: dict[str, tuple[Any, dict[int, str]]] = {
    "json": (as_json, NUMBERS),
    "empty": (r.empty, NUMBERS),
    "html": (r.html, PAGES),
}


def should(status: int, code: str) -> str:
    meaning = MEANINGS[code]
    asked = [f"{meaning.code} {meaning.blame} {meaning.sample} {meaning.billing}"] * meaning.path.count("x")
    ending = meaning.error or "answered by the next"
    return f"{status}: {', '.join(asked)}: {ending}"


def did(caller: SyncCaller | AsyncCaller, status: int, *, stream: bool) -> str:
    model = f"test/{status}"
    try:
        if stream:
            reader = caller.stream(model=model, fallback_models=[B])
            while reader.next() is not None:
                pass
            route = reader.stream.route
        else:
            route = caller.complete(model=model, fallback_models=[B]).route
        ending = "answered by the next"
    except RouterKitError as error:
        route, ending = error.route, type(error).__name__
    assert route is not None
    verdicts = [attempt.verdict for attempt in route.attempts if attempt.model == model]
    assert {attempt.status for attempt in route.attempts if attempt.model == model} == {status}
    asked = [f"{verdict} {verdict.blame} {verdict.sample} {verdict.billing}" for verdict in verdicts]
    return f"{status}: {', '.join(asked)}: {ending}"


@fault(44)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("body", BODIES)
def test_every_status(facade: Facade, server: FaultServer, body: str, stream: bool) -> None:
    reply, codes = BODIES[body]

    def choice(request: RecordedRequest) -> r.Reply:
        if not request.model.startswith("test/"):
            return r.completion()
        status = int(request.model[5:])
        return r.empty(304) if status == 304 else reply(status)  # HTTP allows it no body

    server.default = r.choose(choice)
    runtime = SkippingRuntime()
    got = []
    with facade(base_url=server.url, runtime=runtime, breaker=BreakerPolicy(enabled=False)) as caller:
        for status in range(300, 600):
            got.append(did(caller, status, stream=stream))
            runtime.advance(86_400)  # whoever rests has rested
    assert got == [should(status, codes[status]) for status in range(300, 600)]
    asked = [request.model for request in server.chat_requests]
    assert len(asked) == sum(len(MEANINGS[code].path.replace("!", "")) for code in codes.values())


# --- 45, 46: redirects ---

TARGETS = {
    "other host": "http://localhost:{other}/v1/chat/completions",
    "other port": "http://127.0.0.1:{other}/v1/chat/completions",
    "no scheme": "//127.0.0.1:{other}/v1/chat/completions",
    "javascript": "javascript:alert(1)",
    "nonsense": "http://[",
}


@fault(45)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("status", [302, 307, 308])
@pytest.mark.parametrize("target", TARGETS)
def test_redirects_lead_nowhere(target: str, status: int, stream: bool) -> None:
    with FaultServer() as elsewhere:
        location = TARGETS[target].format(other=elsewhere.port)
        ask = Ask([f"{A} {status} unexpected_redirect"], "ProtocolError", stream=stream, skipped=(B, C))
        details = check_after(Scenario(target, {A: [r.redirect(status, location)]}, [ask]), After())
        assert "billing none," in details[0][0]
        assert elsewhere.connections_opened == 0


@fault(45)
@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_from_https_to_http(facade: Facade, status: int, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with FaultServer() as plain, FaultServer(tls=tls_server(authority)) as server:
        server.default = r.redirect(status, f"http://127.0.0.1:{plain.port}/v1/chat/completions")
        gateway = Gateway(name="inside", base_url=server.url, ca_file=str(tmp_path / "ca.pem"))
        with facade(gateway=gateway, breaker=FAST) as caller:
            trace = caller.ask(Ask([], ""))
            assert (trace.attempts, trace.gives) == ((f"{A} {status} unexpected_redirect",), "ProtocolError")
            assert left(caller) == After()
        assert server.models_asked == [A]
        assert plain.connections_opened == 0


def tls_server(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@fault(46)
def test_a_redirect_loop_ends_at_its_first_turn(facade: Facade, server: FaultServer) -> None:
    server.default = r.redirect(307, server.url + "/chat/completions")
    with facade(base_url=server.url) as caller:
        trace = caller.ask(Ask([], ""))
        assert (trace.attempts, trace.gives) == ((f"{A} 307 unexpected_redirect",), "ProtocolError")
    assert len(server.requests) == 1
