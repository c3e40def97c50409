"""The catalogue: how long it is kept, who fetches it, what happens when that fails, and that anything can be read as one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routerkit.core.catalog import CatalogCache, Snapshot, parse_catalog, price
from routerkit.core.effects import Await, Cancelled, Emit, Failure, HttpResponse, Send, Step, TransportFailure
from routerkit.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    DeadlineExceededError,
    InternalServerError,
    ProtocolError,
    RateLimitError,
)
from routerkit.gateways import OPENROUTER
from routerkit.testing import VirtualRuntime
from routerkit.types.event import CatalogRefreshed
from routerkit.types.model import Model, Pricing
from routerkit.types.policy import Timeouts
from routerkit.types.secret import Credential, Secret
from routerkit.types.verdict import Sent

DATA = Path(__file__).parent / "data" / "openrouter-models.json"
DAY = 86_400.0


def listing(*names: str) -> HttpResponse:
    return HttpResponse(200, {}, json.dumps({"data": [{"id": name} for name in names]}).encode())


def many(count: int) -> HttpResponse:
    return listing(*(f"m/{number}" for number in range(count)))


OLD, NEW = listing("a/old"), listing("a/new")
DOWN = HttpResponse(503, {}, b'{"error":{"code":503,"message":"down"}}')
REFUSED = TransportFailure(Failure.CONNECT, Sent.NOT_SENT, detail="ConnectionRefusedError")


@pytest.fixture
def runtime() -> VirtualRuntime:
    runtime = VirtualRuntime()
    runtime.dice = 0.5
    return runtime


@pytest.fixture
def cache(runtime: VirtualRuntime) -> CatalogCache:
    return CatalogCache(OPENROUTER, runtime, 3600)


class Asker:
    """One caller of the cache, driven by hand."""

    def __init__(self, cache: CatalogCache, *, patience: float = 100.0, refresh: bool = False) -> None:
        deadline = cache._runtime.monotonic() + patience
        self.step: Step[Snapshot] = cache.get(None, Timeouts(), deadline, refresh=refresh)
        self.events: list[CatalogRefreshed] = []
        self.result: Snapshot | None = None
        self.effect: Any = None
        """What it waits for; ``None`` when it has ended."""
        self.send(None)

    def send(self, value: Any) -> Asker:
        """Give it what it waits for: an answer, a failure, or whether the latch was set."""
        try:
            self.effect = self.step.throw(value) if isinstance(value, BaseException) else self.step.send(value)
            while isinstance(self.effect, Emit):
                assert isinstance(self.effect.event, CatalogRefreshed)
                self.events.append(self.effect.event)
                self.effect = self.step.send(None)
        except StopIteration as stop:
            self.effect, self.result = None, stop.value
        return self

    @property
    def fetches(self) -> bool:
        return isinstance(self.effect, Send)

    @property
    def waits(self) -> bool:
        return isinstance(self.effect, Await)

    @property
    def ids(self) -> list[str]:
        assert self.result is not None, f"it still waits for {self.effect}"
        return [model.id for model in self.result.models]


def filled(cache: CatalogCache, answer: HttpResponse = OLD) -> None:
    assert Asker(cache).send(answer).result is not None


def refused(cache: CatalogCache, answer: Any, **more: Any) -> APIError:
    """What a caller gets that meets this answer and no copy."""
    asker = Asker(cache, **more)
    with pytest.raises(APIError) as caught:
        asker.send(answer)
    return caught.value


# --- what is asked ---


def test_the_request(cache: CatalogCache) -> None:
    credential = Credential(Secret("sk-test-1234567890"), OPENROUTER.base_url)
    step = cache.get(credential, Timeouts(connect=4, first_byte=9, idle=3, total=50), 1_000 + 20)
    order = next(step)
    assert isinstance(order, Send)
    request = order.request
    assert (request.method, request.url) == ("GET", "https://openrouter.ai/api/v1/models")
    assert (request.body, request.credential) == (None, credential)
    assert (order.connect, order.first_byte, order.idle, order.total) == (4, 9, 3, 20)
    step.close()


def test_a_deadline_shortens_every_clock(cache: CatalogCache) -> None:
    order = Asker(cache, patience=2).effect
    assert (order.connect, order.first_byte, order.total) == (2, 2, 2)


# --- fresh, stale, gone ---


def test_a_fresh_one_is_served_from_memory(cache: CatalogCache, runtime: VirtualRuntime) -> None:
    assert cache.peek() is None
    first = Asker(cache)
    assert first.fetches
    assert first.send(OLD).ids == ["a/old"]
    assert first.events == [CatalogRefreshed("openrouter", 1)]
    runtime.advance(3599)
    again = Asker(cache)
    assert again.result is first.result is cache.peek()
    assert again.events == []


@pytest.mark.parametrize(("dice", "age"), [(0.0, 3240), (0.5, 3600), (1.0, 3960)])
def test_an_hour_more_or_less(cache: CatalogCache, runtime: VirtualRuntime, dice: float, age: float) -> None:
    runtime.dice = dice
    filled(cache)
    runtime.advance(age - 1)
    assert Asker(cache).ids == ["a/old"]
    runtime.advance(1)
    assert Asker(cache).send(NEW).ids == ["a/new"]


def test_refresh_asks_whatever_the_age(cache: CatalogCache) -> None:
    filled(cache)
    assert Asker(cache, refresh=True).send(NEW).ids == ["a/new"]
    assert Asker(cache).ids == ["a/new"]


def test_a_time_to_live_of_a_week(runtime: VirtualRuntime) -> None:
    cache = CatalogCache(OPENROUTER, runtime, 7 * DAY)
    filled(cache)
    runtime.advance(6.9 * DAY)
    assert Asker(cache).ids == ["a/old"]


# --- one fetch at a time ---


def test_while_one_fetches_the_others_get_the_stale_one(cache: CatalogCache, runtime: VirtualRuntime) -> None:
    filled(cache)
    runtime.advance(4000)
    leader = Asker(cache)
    assert leader.fetches
    assert Asker(cache).ids == ["a/old"]
    assert leader.send(NEW).ids == ["a/new"]
    assert Asker(cache).ids == ["a/new"]


def test_while_one_fetches_the_others_wait_when_there_is_none(cache: CatalogCache) -> None:
    leader, others = Asker(cache), [Asker(cache, patience=7) for _ in range(3)]
    assert leader.fetches
    assert all(other.waits for other in others)
    latch = others[0].effect.latch
    assert [(other.effect.latch, other.effect.seconds) for other in others] == [(latch, 7)] * 3
    assert not latch.is_set
    leader.send(OLD)
    assert latch.is_set
    assert all(other.send(True).result is leader.result for other in others)


def test_a_refresher_waits_for_the_fetch_under_way(cache: CatalogCache) -> None:
    filled(cache)
    leader, second = Asker(cache, refresh=True), Asker(cache, refresh=True)
    assert second.waits
    leader.send(NEW)
    assert second.send(True).ids == ["a/new"]


def test_who_cannot_wait_gets_a_deadline_error(cache: CatalogCache) -> None:
    leader, follower = Asker(cache), Asker(cache, patience=1)
    assert leader.fetches
    with pytest.raises(DeadlineExceededError, match="the catalogue of OpenRouter"):
        follower.send(False)


def test_when_the_leader_is_cancelled_a_follower_takes_over(cache: CatalogCache) -> None:
    leader, second, third = Asker(cache), Asker(cache), Asker(cache)
    with pytest.raises(Cancelled):
        leader.send(Cancelled())
    assert second.effect.latch.is_set
    assert second.send(True).fetches
    assert third.send(True).waits
    assert second.send(OLD).ids == third.send(True).ids == ["a/old"]


def test_a_leader_that_is_closed_leaves_the_way_free(cache: CatalogCache) -> None:
    leader, second = Asker(cache), Asker(cache)
    leader.step.close()
    assert second.send(True).fetches


def test_a_cancelled_follower_disturbs_nobody(cache: CatalogCache) -> None:
    leader, second, third = Asker(cache), Asker(cache), Asker(cache)
    with pytest.raises(Cancelled):
        second.send(Cancelled())
    assert Asker(cache).waits
    leader.send(OLD)
    assert third.send(True).ids == ["a/old"]


def test_a_forked_child_does_not_wait_for_its_parents_fetch(cache: CatalogCache) -> None:
    parents = Asker(cache)
    assert Asker(cache).waits
    with cache._lock:
        cache.forget_fetch()
        assert Asker(cache).fetches
    assert parents.fetches


# --- when it cannot be had ---

ERRORS = [
    (DOWN, InternalServerError, "overloaded"),
    (REFUSED, APIConnectionError, "connect_failed"),
    (HttpResponse(401, {}, b""), AuthenticationError, "authentication"),
    (HttpResponse(429, {}, b""), RateLimitError, "rate_limited"),
    (HttpResponse(200, {}, b"<html>"), ProtocolError, "not_an_api"),
    (HttpResponse(200, {}, b"nonsense"), ProtocolError, "malformed"),
    (HttpResponse(200, {}, b'{"data": []}'), ProtocolError, "malformed"),
    (HttpResponse(200, {}, b'{"data": [{"name": "x"}]}'), ProtocolError, "malformed"),
    (HttpResponse(200, {}, b'{"error": {"code": 502, "message": "x"}}'), InternalServerError, "provider_unavailable"),
    (HttpResponse(302, {"location": "https://evil.example"}, b""), ProtocolError, "unexpected_redirect"),
]


@pytest.mark.parametrize(("answer", "kind", "code"), ERRORS, ids=[row[2] for row in ERRORS])
def test_without_a_copy_the_error_is_raised(cache: CatalogCache, answer: Any, kind: type[APIError], code: str) -> None:
    asker = Asker(cache)
    with pytest.raises(kind) as caught:
        asker.send(answer)
    assert caught.value.code == code
    assert str(caught.value).startswith("the catalogue on openrouter: ")
    assert asker.events == [CatalogRefreshed("openrouter", 0, error=code)]


@pytest.mark.parametrize(("answer", "kind", "code"), ERRORS, ids=[row[2] for row in ERRORS])
def test_with_a_copy_that_serves(
    cache: CatalogCache, runtime: VirtualRuntime, answer: Any, kind: type[APIError], code: str
) -> None:
    filled(cache)
    runtime.advance(4000)
    asker = Asker(cache).send(answer)
    assert asker.ids == ["a/old"]
    assert asker.events == [CatalogRefreshed("openrouter", 1, error=code)]


def test_a_copy_serves_for_a_day(cache: CatalogCache, runtime: VirtualRuntime) -> None:
    filled(cache)
    runtime.advance(DAY - 1)
    assert Asker(cache).send(DOWN).ids == ["a/old"]
    runtime.advance(1)
    assert cache.peek() is None
    with pytest.raises(InternalServerError):
        Asker(cache)
    runtime.advance(30)
    assert isinstance(refused(cache, DOWN), InternalServerError)


def test_failures_back_off_to_ten_minutes(cache: CatalogCache, runtime: VirtualRuntime) -> None:
    pauses = []
    for _ in range(7):
        refused(cache, DOWN)
        began = runtime.monotonic()
        with pytest.raises(InternalServerError, match="asked again in") as caught:
            Asker(cache)
        assert caught.value.retry_after is not None
        runtime.advance(caught.value.retry_after - 0.5)
        with pytest.raises(InternalServerError):
            Asker(cache)
        runtime.advance(0.5)
        pauses.append(runtime.monotonic() - began)
    assert pauses == pytest.approx([30, 60, 120, 240, 480, 600, 600])


@pytest.mark.parametrize(("dice", "pause"), [(0.0, 27), (1.0, 33)])
def test_the_pause_is_spread(cache: CatalogCache, runtime: VirtualRuntime, dice: float, pause: float) -> None:
    runtime.dice = dice
    refused(cache, DOWN)
    runtime.advance(pause - 0.1)
    with pytest.raises(InternalServerError):
        Asker(cache)
    runtime.advance(0.1)
    assert Asker(cache).fetches


@pytest.mark.parametrize(("hint", "pause"), [("5", 30), ("90", 90), ("86400", 600)])
def test_the_pause_is_as_long_as_the_gateway_asks(
    cache: CatalogCache, runtime: VirtualRuntime, hint: str, pause: float
) -> None:
    refused(cache, HttpResponse(429, {"retry-after": hint}, b""))
    runtime.advance(pause - 1)
    with pytest.raises(RateLimitError):
        Asker(cache)
    runtime.advance(1)
    assert Asker(cache).fetches


def test_during_the_pause_the_stale_copy_serves_at_once(cache: CatalogCache, runtime: VirtualRuntime) -> None:
    filled(cache)
    runtime.advance(4000)
    Asker(cache).send(REFUSED)
    assert Asker(cache).ids == ["a/old"]
    runtime.advance(29)
    assert Asker(cache).ids == ["a/old"]
    runtime.advance(1)
    assert Asker(cache).send(NEW).ids == ["a/new"]


def test_a_success_forgets_the_failures(cache: CatalogCache, runtime: VirtualRuntime) -> None:
    for _ in range(3):
        refused(cache, DOWN)
        runtime.advance(1000)
    filled(cache)
    runtime.advance(4000)
    Asker(cache).send(DOWN)
    runtime.advance(30)
    assert Asker(cache).fetches


def test_refresh_does_not_wait_for_the_pause(cache: CatalogCache) -> None:
    refused(cache, DOWN)
    assert Asker(cache, refresh=True).send(NEW).ids == ["a/new"]


def test_followers_learn_of_the_failure(cache: CatalogCache) -> None:
    leader, follower = Asker(cache), Asker(cache)
    with pytest.raises(InternalServerError):
        leader.send(DOWN)
    with pytest.raises(InternalServerError, match="asked again in 30 s"):
        follower.send(True)


@pytest.mark.parametrize("failure", [Failure.CONNECT_TIMEOUT, Failure.FIRST_BYTE_TIMEOUT, Failure.READ_TIMEOUT])
def test_a_caller_in_a_hurry_says_nothing_about_the_gateway(
    cache: CatalogCache, runtime: VirtualRuntime, failure: Failure
) -> None:
    hurried = Asker(cache, patience=0.1)
    runtime.advance(0.1)
    with pytest.raises(DeadlineExceededError):
        hurried.send(TransportFailure(failure, Sent.MAYBE))
    assert Asker(cache).send(OLD).ids == ["a/old"]
    runtime.advance(4000)
    stale = Asker(cache, patience=0.1)
    runtime.advance(0.1)
    assert stale.send(TransportFailure(failure, Sent.MAYBE)).ids == ["a/old"]
    assert Asker(cache).fetches


def test_a_patient_callers_timeout_is_the_gateways(cache: CatalogCache, runtime: VirtualRuntime) -> None:
    asker = Asker(cache)
    runtime.advance(5)
    with pytest.raises(APIConnectionError):
        asker.send(TransportFailure(Failure.CONNECT_TIMEOUT, Sent.NOT_SENT))


# --- suspicious answers ---


def test_a_list_that_shrank_suspiciously_is_believed_the_second_time(
    cache: CatalogCache, runtime: VirtualRuntime
) -> None:
    filled(cache, many(100))
    runtime.advance(4000)
    doubted = Asker(cache).send(many(19))
    assert len(doubted.ids) == 100
    assert doubted.events == [CatalogRefreshed("openrouter", 100, error="malformed")]
    runtime.advance(30)
    assert len(Asker(cache).send(many(19)).ids) == 19


def test_a_fifth_is_not_suspicious(cache: CatalogCache) -> None:
    filled(cache, many(100))
    assert len(Asker(cache, refresh=True).send(many(20)).ids) == 20


def test_a_good_list_in_between_restores_the_doubt(cache: CatalogCache) -> None:
    filled(cache, many(100))
    for count, kept in ((5, 100), (100, 100), (5, 100), (5, 5)):
        assert len(Asker(cache, refresh=True).send(many(count)).ids) == kept


# --- reading ---


def test_openrouters_shape() -> None:
    models, dropped = parse_catalog(json.loads(DATA.read_text()))
    by_id = {model.id: model for model in models}
    assert (len(models), dropped) == (42, 0)
    sonnet = by_id["anthropic/claude-sonnet-4.5"]
    assert sonnet.name == "Anthropic: Claude Sonnet 4.5"
    assert (sonnet.context_length, sonnet.max_completion_tokens) == (1_000_000, 64_000)
    assert sonnet.pricing == Pricing(
        prompt=Decimal("0.000003"),
        completion=Decimal("0.000015"),
        web_search=Decimal("0.01"),
        input_cache_read=Decimal("0.0000003"),
        input_cache_write=Decimal("0.00000375"),
    )
    assert sonnet.input_modalities == ("text", "image", "file")
    assert {"tools", "reasoning", "structured_outputs"} <= sonnet.supported_parameters
    assert by_id["google/gemini-2.0-flash-001"].expiration_date == "2026-03-31"
    assert not by_id["openrouter/auto"].pricing.known
    assert by_id["openai/gpt-oss-20b:free"].pricing.free
    assert not sonnet.pricing.free
    assert sonnet.to_dict() is sonnet.raw


@pytest.mark.parametrize("wrap", [lambda entries: {"data": entries, "links": {}}, lambda entries: entries])
def test_openais_bare_shape(wrap: Any) -> None:
    entries = [{"id": "gpt-4@latest", "object": "model", "created": 1, "owned_by": "openai"}]
    models, dropped = parse_catalog(wrap(entries))
    assert models == [Model("gpt-4@latest", name="gpt-4@latest", created=1)]
    assert dropped == 0


@pytest.mark.parametrize("body", [None, 1, "x", {}, {"data": None}, {"data": {}}, {"models": []}, [], {"data": []}])
def test_what_is_no_catalogue(body: Any) -> None:
    assert parse_catalog(body) == ([], 0)


def test_bad_entries_are_dropped_and_counted() -> None:
    bad = [None, 1, "x", [], {}, {"id": None}, {"id": 5}, {"id": ""}, {"id": "a\nb"}, {"id": "x" * 201}, {"name": "x"}]
    models, dropped = parse_catalog({"data": [*bad, {"id": "a/one"}]})
    assert ([model.id for model in models], dropped) == (["a/one"], len(bad))


def test_of_duplicates_the_first_wins() -> None:
    models, dropped = parse_catalog([{"id": "a/one", "name": "First"}, {"id": "a/one", "name": "Second"}])
    assert ([model.name for model in models], dropped) == (["First"], 1)


def test_fields_of_the_wrong_type_read_as_missing() -> None:
    entry = {
        "id": "a/one",
        "name": 5,
        "context_length": "8192",
        "architecture": [],
        "pricing": "cheap",
        "top_provider": None,
        "supported_parameters": {"tools": True},
        "created": True,
        "expiration_date": 2026,
        "description": None,
    }
    assert parse_catalog([entry])[0] == [Model("a/one", name="a/one")]
    partly = {
        "id": "a/one",
        "architecture": {"input_modalities": ["text", 5, None]},
        "supported_parameters": [1, "seed"],
    }
    model = parse_catalog([partly])[0][0]
    assert (model.input_modalities, model.supported_parameters) == (("text",), {"seed"})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"context_length": 10}, 10),
        ({"context_length": 10.0}, 10),
        ({"context_length": None, "top_provider": {"context_length": 20}}, 20),
        ({"context_length": 0}, None),
        ({"context_length": -1}, None),
        ({"context_length": 1.5}, None),
        ({"context_length": float("inf")}, None),
        ({"context_length": float("nan")}, None),
        ({"context_length": 2**70}, None),
    ],
)
def test_context_lengths(entry: dict[str, Any], expected: int | None) -> None:
    assert parse_catalog([{"id": "a/one", **entry}])[0][0].context_length == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.000003", "0.000003"),
        (" 0.5 ", "0.5"),
        ("0", "0"),
        (0, "0"),
        (2, "2"),
        (3e-7, "3E-7"),
        ("1e-7", "1E-7"),
        ("0.00000008333333333333334", "8.333333333333334E-8"),
        ("-1", None),
        (-1, None),
        (-0.1, None),
        ("", None),
        ("free", None),
        ("$1", None),
        ("1,5", None),
        ("1_000", None),
        ("٣", None),
        ("NaN", None),
        ("inf", None),
        ("1e400", None),
        ("1e999999999", None),
        ("9" * 1000, None),
        (10**9, None),
        (10**5000, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (None, None),
        ([], None),
        ({}, None),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_prices(value: Any, expected: str | None) -> None:
    assert price(value) == (None if expected is None else Decimal(expected))


def test_variants_fall_back_on_the_model_but_free_ones_do_not() -> None:
    models = parse_catalog([{"id": "a/one"}, {"id": "a/one:exacto"}, {"id": "b/two:free"}, {"id": "llama3:8b"}])[0]
    snapshot = Snapshot(tuple(models), {model.id: model for model in models}, 0, 0)
    found = {name: getattr(snapshot.get(name), "id", None) for name in ("a/one", "a/one:exacto", "a/one:nitro")}
    assert found == {"a/one": "a/one", "a/one:exacto": "a/one:exacto", "a/one:nitro": "a/one"}
    assert snapshot.get("b/two:free") is models[2]
    assert snapshot.get("a/one:free") is None
    assert snapshot.get("b/two") is None


_FIELDS = ["data", "id", "name", "context_length", "architecture", "pricing", "top_provider", "supported_parameters"]
_FIELDS += ["input_modalities", "prompt", "completion", "created", "expiration_date", "description"]
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["a/one", "-1", "1e999", "NaN"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=6),
    max_leaves=8,
)
_ENTRIES = st.lists(st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=5), max_size=3)


def amounts(pricing: Pricing) -> Iterator[Decimal]:
    return (value for name in Pricing.__slots__ if isinstance(value := getattr(pricing, name, None), Decimal))


@settings(deadline=None)
@given(_JSON | _ENTRIES | st.fixed_dictionaries({"data": _ENTRIES}))
def test_anything_can_be_read(body: Any) -> None:
    models, dropped = parse_catalog(body)
    assert dropped >= 0
    assert len({model.id for model in models}) == len(models)
    for model in models:
        assert 0 < len(model.id) <= 200
        assert model.context_length is None or model.context_length > 0
        assert all(amount.is_finite() and amount >= 0 for amount in amounts(model.pricing))
