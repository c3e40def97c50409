"""Against an OpenRouter that nobody here wrote (npm's aimock), through both facades: catalogue, answers, streams, errors, keys."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import attrs
import pytest

from routerkit import AuthenticationError, InternalServerError
from routerkit.core.listing import parse_catalog
from routerkit.gateways import OPENROUTER
from tests.support.aimock import MISSING, Aimock, aimock
from tests.support.facades import FACADES, KEY, AsyncCaller, Caller, Reader

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not there: {', '.join(MISSING)}")

PRICED, STORY, TOOLS, DOWN, BUSY = "acme/priced", "acme/storyteller", "acme/caller", "acme/down", "acme/busy"
TEXT = "An answer with its price."
TALE = "Once upon a time there was a router."


@pytest.fixture(scope="session")
def emulator() -> Iterator[Aimock]:
    with aimock(KEY) as running:
        yield running


@attrs.frozen
class Asking:
    """One test's way to the emulator: a caller whose requests carry the test's name."""

    emulator: Aimock
    caller: Caller
    name: str

    def complete(self, **options: Any) -> Any:
        return self.caller.complete("Hello", extra_headers={"X-Test-Id": self.name}, **options)

    def stream(self, **options: Any) -> Reader:
        return self.caller.stream("Hello", extra_headers={"X-Test-Id": self.name}, **options)

    @property
    def asked(self) -> list[tuple[str, int]]:
        """Model and status of each chat request."""
        return [(entry["body"]["model"], entry["response"]["status"]) for entry in self.emulator.journal(self.name)]

    @property
    def body(self) -> dict[str, Any]:
        """Of its only chat request, as it arrived."""
        (entry,) = self.emulator.journal(self.name)
        body: dict[str, Any] = entry["body"]
        return body


def client_of(emulator: Aimock, facade: str, **options: Any) -> Caller:
    gateway = attrs.evolve(OPENROUTER, base_url=emulator.base_url)
    return FACADES[facade](gateway=gateway, **options)


@pytest.fixture(params=list(FACADES))
def asking(request: pytest.FixtureRequest, emulator: Aimock) -> Iterator[Asking]:
    with client_of(emulator, request.param, app_title="routerkit's tests") as caller:
        yield Asking(emulator, caller, request.node.name)


def read_all(reader: Reader) -> str:
    text = ""
    while (chunk := reader.next()) is not None:
        text += chunk.text
    return text


# --- the catalogue ---


def test_its_catalogue_is_read_and_nothing_of_it_is_dropped(asking: Asking) -> None:
    listed = asking.emulator.models()
    assert [model.id for model in asking.caller.models()] == [entry["id"] for entry in listed]
    models, dropped = parse_catalog({"data": listed}, "openrouter")
    assert (len(models), dropped) == (len(listed), 0)
    for model, entry in zip(asking.caller.models(), listed, strict=True):
        assert model.to_dict() == entry
        assert (model.gateway, model.name, model.context_length) == ("openrouter", entry["name"], 128_000)
        assert (model.max_completion_tokens, model.pricing.free) == (16_384, True)
        assert (model.input_modalities, model.output_modalities) == (("text",), ("text",))
        assert model.supported_parameters == set(entry["supported_parameters"])


# --- whole answers ---


def test_an_answer_with_the_gateways_own_cost(asking: Asking) -> None:
    answer = asking.complete(model=PRICED)
    assert (answer.text, answer.model, answer.gateway, answer.provider) == (TEXT, PRICED, "openrouter", "AcmeCloud")
    assert (answer.cost, answer.cost_source) == (Decimal("0.00012345"), "gateway")
    assert answer.id.startswith("gen-")
    assert (answer.finish_reason, answer.choices[0].native_finish_reason) == ("stop", "end_turn")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (11, 5, 16)
    assert (usage.cached_tokens, usage.cache_write_tokens, usage.audio_tokens, usage.reasoning_tokens) == (4, 3, 1, 2)
    assert answer.flags == ()
    assert [str(attempt.verdict) for attempt in answer.route.attempts] == ["ok"]
    (row,) = asking.caller.client.usage().rows
    assert (row.gateway, row.model, row.answers, row.cost, row.cost_unknown) == (
        "openrouter",
        PRICED,
        1,
        answer.cost,
        0,
    )


def test_what_is_sent_is_what_openrouter_wants_to_be_sent(asking: Asking) -> None:
    asking.complete(model=PRICED, max_tokens=5)
    assert asking.body["usage"] == {"include": True}
    assert (asking.body["model"], asking.body["max_tokens"]) == (PRICED, 5)
    (entry,) = asking.emulator.journal(asking.name)
    assert (entry["method"], entry["path"]) == ("POST", "/api/v1/chat/completions")
    assert entry["headers"]["x-openrouter-title"] == "routerkit's tests"


def test_a_tool_call(asking: Asking) -> None:
    answer = asking.complete(model=TOOLS)
    (call,) = answer.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{"city": "Oslo"}')
    assert (answer.finish_reason, answer.text, answer.flags) == ("tool_calls", "", ())


# --- streams ---


def test_a_stream_with_comments(asking: Asking) -> None:
    assert asking.emulator.stream(STORY).startswith(b": OPENROUTER PROCESSING\n\ndata: {")
    reader = asking.stream(model=STORY)
    assert read_all(reader) == TALE
    whole = reader.stream.completion
    assert (whole.text, whole.model, whole.finish_reason, whole.flags) == (TALE, STORY, "stop", ())
    assert (whole.cost, whole.cost_source) == (Decimal("5E-7"), "gateway")
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (7, 9)
    assert asking.body["stream"] is True


def test_a_stream_that_is_given_up(asking: Asking) -> None:
    reader = asking.stream(model=STORY)
    assert reader.next() is not None
    reader.close()
    assert asking.complete(model=PRICED).text == TEXT


def test_a_stream_of_a_tool_call(asking: Asking) -> None:
    reader = asking.stream(model=TOOLS)
    read_all(reader)
    (call,) = reader.stream.completion.tool_calls
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "Oslo"}')


# --- failures ---


@pytest.mark.parametrize("way", ["complete", "stream"])
def test_fallback_by_the_server_is_one_attempt_of_ours(asking: Asking, way: str) -> None:
    if way == "complete":
        answer = asking.complete(model=DOWN, models=[PRICED])
    else:
        reader = asking.stream(model=DOWN, models=[PRICED])
        read_all(reader)
        answer = reader.stream.completion
    assert (answer.text, answer.model) == (TEXT, PRICED)
    assert len(answer.route.attempts) == 1
    assert (asking.body["model"], asking.body["models"]) == (DOWN, [PRICED])


def test_fallback_by_the_server_that_fails_is_not_multiplied_with_ours(asking: Asking) -> None:
    with pytest.raises(InternalServerError):
        asking.complete(model=DOWN, models=[DOWN, DOWN], fallback_models=[PRICED])
    assert {model for model, _ in asking.asked} == {DOWN}


@pytest.mark.parametrize("way", ["complete", "stream"])
def test_a_busy_model_rests_while_our_fallback_answers_then_answers_again(asking: Asking, way: str) -> None:
    def ask() -> Any:
        if way == "complete":
            return asking.complete(model=BUSY, fallback_models=[PRICED])
        reader = asking.stream(model=BUSY, fallback_models=[PRICED])
        read_all(reader)
        return reader.stream.completion

    first, second = ask(), ask()
    asking.caller.client._runtime.advance(8)
    third = ask()
    assert [each.text for each in (first, second, third)] == [TEXT, TEXT, "No longer busy."]
    refused, answered = first.route.attempts
    assert (refused.model, refused.status, str(refused.verdict)) == (BUSY, 429, "rate_limited")
    assert (refused.retry_after, answered.model) == (7, PRICED)
    assert [skip.model for skip in second.route.skipped] == [BUSY]
    assert asking.asked == [(BUSY, 429), (PRICED, 200), (PRICED, 200), (BUSY, 200)]


def test_a_provider_that_is_down(asking: Asking) -> None:
    answer = asking.complete(model=DOWN, fallback_models=[PRICED])
    assert [str(attempt.verdict) for attempt in answer.route.attempts] == ["provider_unavailable", "ok"]


def test_a_model_that_it_does_not_have_gives_way_to_one_of_its_catalogue(asking: Asking) -> None:
    answer = asking.complete(model="acme/none", fallback_models=[])
    tried = [(each.model, str(each.origin), each.status, str(each.verdict)) for each in answer.route.attempts]
    assert tried == [("acme/none", "requested", 404, "model_not_found"), (PRICED, "catalog", 200, "ok")]


def test_a_key_that_it_does_not_know(asking: Asking, emulator: Aimock) -> None:
    facade = "async" if isinstance(asking.caller, AsyncCaller) else "sync"
    with (
        client_of(emulator, facade, api_key="sk-wrong-1234567890") as caller,
        pytest.raises(AuthenticationError) as caught,
    ):
        caller.complete(model=PRICED, fallback_models=[PRICED])
    assert (caught.value.status_code, caught.value.code) == (401, "authentication")
    assert "sk-wrong" not in str(caught.value)


# --- the key ---


def key_info(caller: Caller) -> Any:
    return caller.run(caller.client.key_info()) if isinstance(caller, AsyncCaller) else caller.client.key_info()


def test_what_it_tells_of_the_key_and_the_credits(asking: Asking) -> None:
    info = key_info(asking.caller)
    zero = Decimal(0)
    assert (info.gateway, info.label) == ("openrouter", "sk-or-v1-aimock")
    assert (info.limit, info.limit_remaining, info.limit_reset, info.expires_at) == (None, None, None, None)
    assert [info.usage, info.usage_daily, info.usage_weekly, info.usage_monthly] == [zero] * 4
    assert (info.is_free_tier, info.rate_limit) == (False, None)
    assert (info.total_credits, info.total_usage, info.balance) == (zero, zero, zero)


def test_what_it_tells_of_a_key_that_it_does_not_know(asking: Asking, emulator: Aimock) -> None:
    facade = "async" if isinstance(asking.caller, AsyncCaller) else "sync"
    with client_of(emulator, facade, api_key="sk-wrong-1234567890") as caller, pytest.raises(AuthenticationError):
        key_info(caller)
