"""What a gateway says is foreign text: it may be shown escaped and cut, it is no order, and it may be what a user wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from routerkit import AllModelsFailedError, AttemptFinished, ContentPolicyError, Gateway, RouterKitError
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.security.canaries import PROMPT, chain, found_in, leaks, listening, said_by
from tests.support.facades import FACADES, Caller

each_facade = pytest.mark.parametrize("facade", FACADES)
MODEL, OTHER = "a/one", "b/two"

HOSTILE = {
    "lines": "fine\nERROR:root:all is lost\r\n\r\nX-Evil: 1",
    "colours": "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "percent": "%s %d %n %(asctime)s %",
    "braces": "{0} {error.__class__.__mro__} {{}} {",
    "bidirectional": "\u202egnp.exe \u2066\u200b\u2028\u2029\x85",
    "NUL": "a\x00b\x08\x7f",
    "markup": "<script>alert(1)</script> [link](javascript:1) [bold red]",
    "a megabyte in all": "x" * 110_000,
    "lines without end": "\n" * 50_000,
    "surrogates": "\\ud83d\\ude00 \U0001f600",
}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.catalog = r.error(404)
        yield running


def telling(words: str, status: int) -> r.Reply:
    """A refusal with these words in each of its fields, and as far as HTTP allows it in its headers."""
    problem = {
        "message": words,
        "code": words,
        "type": words,
        "error_type": words,
        "param": words,
        "metadata": {"provider_name": words, "raw": words, "error_type": words, "provider_code": words},
    }
    plain = "".join(letter for letter in words[:500] if 0x20 <= ord(letter) < 0x7F)
    headers = {"X-Request-Id": plain, "X-Generation-Id": f"\t{plain}", "Server": plain, "Content-Language": plain}
    return r.error(status, {"error": problem, "user_id": words}, headers=headers)


@each_facade
@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_foreign_words_are_one_short_printable_line(facade: str, words: str, server: FaultServer) -> None:
    events: list[Any] = []
    server.script(MODEL, telling(words, 400))
    server.script(OTHER, telling(words, 500))
    server.script("c/three", r.stream("Hello", r.event({"error": {"message": words, "code": words}})))
    server.script(
        "d/four", r.completion("Hello", model=words, provider=words, id=words, headers={"X-Generation-Id": "gen-1"})
    )
    errors: list[RouterKitError] = []
    with listening() as listener, FACADES[facade](base_url=server.url, observers=[events.append]) as caller:
        for model in (MODEL, OTHER):
            with pytest.raises(RouterKitError) as caught:
                caller.complete("Hello", model=model, fallback_models=[])
            errors += [each for each in chain(caught.value) if isinstance(each, RouterKitError)]
        reader = caller.stream("Hello", model="c/three")
        with pytest.raises(RouterKitError) as interrupted:
            [reader.next() for _ in range(3)]
        errors += [each for each in chain(interrupted.value) if isinstance(each, RouterKitError)]
        assert caller.complete("Hello", model="d/four").text == "Hello"
    for error in errors:
        for line in str(error).split("\n"):
            assert line.isprintable()
            assert len(line) < 1000
        for told in (error.code, error.model, getattr(error, "error_type", ""), getattr(error, "request_id", "")):
            assert not told or (told.isprintable() and len(told) < 400)
    attempts = [event.attempt for event in events if isinstance(event, AttemptFinished)]
    assert len(attempts) == 4 + len([each for each in attempts if each.model == OTHER]) - 1
    for attempt in attempts:
        assert attempt.detail.isprintable()
        assert len(attempt.detail) < 400
    mine = [text for where, text in listener.lines if where == "log of routerkit"]
    assert mine
    for line in mine:
        assert "\n" not in line.partition(" {")[0]
        assert "\x1b" not in line
        assert len(line) < 2000


@each_facade
def test_the_log_does_not_repeat_what_a_gateway_says(facade: str, server: FaultServer) -> None:
    """Its message may quote what a user wrote. The error quotes it, as the guide says; so does `attempt.detail`."""
    server.script(MODEL, r.error(400, message=f"cannot read: {PROMPT}"))
    server.script(OTHER, r.error(500, message=f"cannot read: {PROMPT}"))
    with listening() as listener, FACADES[facade](base_url=server.url, observers=[lambda _: None]) as caller:
        for model in (MODEL, OTHER):
            with pytest.raises(RouterKitError, match="cannot read: the patient") as caught:
                caller.complete("Hello", model=model, fallback_models=[])
            assert caught.value.route is not None
            assert "prompt" in found_in(caught.value.route.attempts[0].detail)
            assert not found_in(json.dumps(caught.value.route.to_dict()))
    assert leaks(listener.lines) == []


MODERATED: dict[str, dict[str, Any]] = {
    "OpenRouter's moderation": {"code": 403, "metadata": {"reasons": ["violence"], "flagged_input": PROMPT}},
    "OpenRouter's guardrail": {"code": 403, "metadata": {"patterns": [PROMPT]}},
    "OpenAI's word": {"code": "content_policy_violation", "type": "invalid_request_error"},
    "Azure's word": {"code": "content_filter"},
    "OpenRouter's type": {"code": 403, "metadata": {"error_type": "content_policy_violation"}},
}


def asked(caller: Caller, kind: str) -> None:
    """A whole answer, or a stream read to its end."""
    if kind == "complete":
        caller.complete("Hello", model=MODEL, fallback_models=[])
        return
    reader = caller.stream("Hello", model=MODEL, fallback_models=[])
    while reader.next():
        pass


@each_facade
@pytest.mark.parametrize("name", MODERATED)
@pytest.mark.parametrize("kind", ["complete", "stream", "event"])
def test_moderation_is_not_quoted(facade: str, name: str, kind: str, server: FaultServer) -> None:
    """Of what moderation says nothing is kept, whichever word it goes by: it repeats the prompt."""
    problem = {"message": f"flagged: {PROMPT}", **MODERATED[name]}
    status = problem["code"] if isinstance(problem["code"], int) else 400
    body = {"error": problem}
    server.script(MODEL, r.stream(r.role(), "Hel", r.event(body)) if kind == "event" else r.error(status, body))
    events: list[Any] = []
    with (
        FACADES[facade](base_url=server.url, observers=[events.append]) as caller,
        pytest.raises(RouterKitError) as caught,
    ):
        asked(caller, kind)
    assert kind == "event" or isinstance(caught.value, ContentPolicyError)
    assert leaks(said_by(caught.value)) == []
    assert not found_in(repr(events))


# --- what a gateway cannot order ---


@each_facade
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_gateway_orders_neither_attempts_nor_models_nor_hosts(facade: str, status: int, server: FaultServer) -> None:
    with FaultServer() as elsewhere:
        links = {
            "docs_url": f"{elsewhere.url}/docs",
            "fallback_models": ["z/dear", "z/dearest"],
            "models": ["z/dear"],
            "base_url": elsewhere.url,
            "retry": True,
            "max_attempts": 99,
        }
        availability = {
            "retryable": True,
            "retry_after": 0,
            "fallback_models": ["z/dear"],
            "code": "provider_overloaded",
        }
        problem = {"message": "no", "code": status, "availability": availability, "metadata": links, **links}
        headers = {
            "X-Should-Retry": "true",
            "Retry-After": "0",
            "Link": f"<{elsewhere.url}/v1>; rel=alternate",
            "Alt-Svc": f'h2="127.0.0.1:{elsewhere.port}"; ma=86400',
            "Location": f"{elsewhere.url}/x",
            "Refresh": f"0; url={elsewhere.url}/x",
            "X-Fallback-Models": "z/dear",
        }
        server.default = r.error(status, {"error": problem, **links}, headers=headers)
        with FACADES[facade](base_url=server.url, fallback_models=[OTHER]) as caller:
            for ask in (caller.complete, caller.stream):
                before = len(server.chat_requests)
                with pytest.raises(RouterKitError):
                    ask("Hello", model=MODEL)
                assert len(server.chat_requests) - before <= 4
        assert set(server.models_asked) <= {MODEL, OTHER}
        assert elsewhere.connections_opened == 0


HINTS = (
    "99999999999",
    "1e308",
    "inf",
    "9" * 400,
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "-1",
    "nan",
    "86400",
    "86401.5",
    "９９",
)


@each_facade
@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: hint[:12])
def test_retry_after_is_a_day_at_most(facade: str, hint: str, server: FaultServer) -> None:
    """Whoever hands it on to a client of theirs can trust it: seconds, a float, from 0 to 86 400."""
    headers = {"Retry-After": hint} if hint.isascii() else {}
    body = {"error": {"code": 429, "message": "slow", "metadata": {"headers": {"X-RateLimit-Reset": hint}}}}
    server.default = r.error(429, body, headers=headers)
    with FACADES[facade](base_url=server.url, fallback_models=[OTHER]) as caller:
        for fallbacks in ([OTHER], []):
            with pytest.raises(RouterKitError) as caught:
                caller.complete("Hello", model=MODEL, fallback_models=fallbacks)
            for error in chain(caught.value):
                seconds = getattr(error, "retry_after", None)
                assert seconds is None or (isinstance(seconds, float) and 0 <= seconds <= 86_400)
    assert not isinstance(caught.value, AllModelsFailedError)


@each_facade
@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_what_is_told_of_a_key_is_one_short_printable_line(facade: str, words: str, server: FaultServer) -> None:
    told = {"label": words, "limit_reset": words, "expires_at": words, "rate_limit": {"requests": 1, "interval": words}}
    server.route(
        "GET", "/key", r.json_body({"data": {**told, "limit": words, "usage": [words], "is_free_tier": words}})
    )
    server.route("GET", "/credits", r.json_body({"data": {"total_credits": words, "total_usage": {"x": words}}}))
    gateway = Gateway(name="x", base_url=server.url, key_path="/key", credits_path="/credits")
    with FACADES[facade](gateway=gateway) as caller:
        info = caller.key_info()
    assert info.rate_limit is not None
    shown = [info.label, info.limit_reset, info.expires_at, info.rate_limit.interval]
    assert all(each is None or (each.isprintable() and len(each) <= 512) for each in shown)
    assert repr(info).isprintable()
    assert len(repr(info)) < 4096
    assert (info.limit, info.usage, info.is_free_tier, info.total_credits, info.total_usage) == (None,) * 5


@each_facade
def test_a_second_list_adds_no_host_and_no_cheaper_price(facade: str, server: FaultServer) -> None:
    """What the first list says stands; what only the second has is asked of the same gateway."""
    server.catalog = r.json_body({"data": [r.catalog_model(MODEL, pricing={"prompt": "0.5", "completion": "0.5"})]})
    entries = [
        {"invoke_name": MODEL, "sale_input_cost": "$0", "sale_output_cost": "$0", "discount": "FREE"},
        {"invoke_name": OTHER, "base_url": "https://evil.example", "gateway": "evil", "id": "c/three"},
        {"invoke_name": "../../etc/passwd"},
        {"invoke_name": "a b\r\nHost: evil.example"},
        {"invoke_name": "https://evil.example/x\n"},
    ]
    server.route("GET", "/list", r.json_body({"data": entries}))
    gateway = Gateway(name="x", base_url=server.url, details_url=f"{server.url}/list")
    with FACADES[facade](gateway=gateway) as caller:
        models = {model.id: model for model in caller.models()}
        assert str(models[MODEL].pricing.prompt) == "0.5"
        assert models[OTHER].gateway == "x"
        assert all("\n" not in name and ".." not in name for name in models)
        for name in models:
            caller.complete("Hello", model=name.strip(), fallback_models=[])
    assert {request.path for request in server.chat_requests} == {"/v1/chat/completions"}
