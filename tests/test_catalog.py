"""The catalogue: how long it is kept, who fetches it, of which lists it is made, and what happens when one cannot be had."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from typing import Any

import attrs
import pytest

from routerkit.core.catalog import CatalogCache, Snapshot
from routerkit.core.catalog_index import Query
from routerkit.core.catalog_lists import Pauses
from routerkit.core.effects import Await, Cancelled, Emit, Failure, HttpResponse, Send, Step, TransportFailure
from routerkit.core.listing import completed, parse_catalog
from routerkit.errors import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    DeadlineExceededError,
    InternalServerError,
    ProtocolError,
    RateLimitError,
)
from routerkit.gateways import INFRON, OPENROUTER
from routerkit.telemetry.observe import record
from routerkit.testing import VirtualRuntime
from routerkit.types.event import CatalogRefreshed
from routerkit.types.gateway import Gateway
from routerkit.types.model import Pricing
from routerkit.types.policy import Timeouts
from routerkit.types.secret import Credential, Secret
from routerkit.types.verdict import Sent

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

    def __init__(
        self,
        cache: CatalogCache,
        *,
        patience: float = 100.0,
        refresh: bool = False,
        key: Credential | None = None,
    ) -> None:
        deadline = cache._runtime.monotonic() + patience
        self.step: Step[Snapshot] = cache.get(key, Timeouts(), deadline, refresh=refresh)
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
    (HttpResponse(200, {}, b'{"data": [{"title": "x"}]}'), ProtocolError, "malformed"),
    (HttpResponse(200, {}, b'{"error": {"code": 502, "message": "x"}}'), InternalServerError, "provider_unavailable"),
    (HttpResponse(200, {}, b'{"error": {"message": "out of order"}}'), InternalServerError, "server_error"),
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


def test_what_the_gateway_says_in_place_of_a_list_is_told(cache: CatalogCache) -> None:
    with pytest.raises(InternalServerError, match="out of order"):
        Asker(cache).send(HttpResponse(200, {}, b'{"error": {"message": "out of order"}, "data": []}'))


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


ACME, GLOBEX = (Credential(Secret(f"sk-{name}-1234567890"), OPENROUTER.base_url) for name in ("acme", "globex"))


def paused(cache: CatalogCache, key: Credential | None) -> float | None:
    """For how many seconds nobody asks with a key; `None`: not at all."""
    try:
        asker = Asker(cache, key=key)
    except APIError as error:
        return error.retry_after
    assert asker.fetches
    asker.step.close()
    return None


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_a_refused_key_pauses_nobody_else(cache: CatalogCache, status: int) -> None:
    refused(cache, HttpResponse(status, {}, b""), key=ACME)
    assert (paused(cache, ACME), paused(cache, GLOBEX), paused(cache, None)) == (30, None, None)


def test_each_key_has_pauses_of_its_own(cache: CatalogCache, runtime: VirtualRuntime) -> None:
    for _ in range(6):
        refused(cache, HttpResponse(401, {}, b""), key=ACME)
        runtime.advance(600)
    refused(cache, HttpResponse(429, {}, b""), key=GLOBEX)
    assert (paused(cache, ACME), paused(cache, GLOBEX)) == (None, 30)
    refused(cache, HttpResponse(401, {}, b""), key=ACME)
    assert (paused(cache, ACME), paused(cache, GLOBEX)) == (600, 30)


def test_what_befalls_a_key_leaves_the_gateways_pause_alone(cache: CatalogCache, runtime: VirtualRuntime) -> None:
    """And of two pauses the longer is kept."""
    for _ in range(6):
        refused(cache, HttpResponse(401, {}, b""), key=ACME, refresh=True)
    refused(cache, DOWN, key=GLOBEX)
    refused(cache, HttpResponse(401, {}, b""), key=ACME, refresh=True)
    runtime.advance(10)
    assert (paused(cache, ACME), paused(cache, GLOBEX), paused(cache, None)) == (590, 20, 20)
    refused(cache, DOWN, key=GLOBEX, refresh=True)
    assert (paused(cache, ACME), paused(cache, GLOBEX), paused(cache, None)) == (590, 60, 60)


def test_no_number_of_failures_is_too_many() -> None:
    pauses = Pauses()
    for _ in range(1100):  # 2.0 ** 1024 is none that a float can hold
        pauses.add(APIError("down"), None, 0.0, 1.0)
    pause = pauses.find(None, 599.0)
    assert (pause and pause.until, pauses.find(None, 600.0)) == (600.0, None)


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


# --- an entry ---


def test_variants_fall_back_on_the_model_but_free_ones_do_not() -> None:
    models = parse_catalog([{"id": "a/one"}, {"id": "a/one:exacto"}, {"id": "b/two:free"}, {"id": "llama3:8b"}])[0]
    snapshot = Snapshot(tuple(models), {model.id: model for model in models}, 0, 0)
    found = {name: getattr(snapshot.get(name), "id", None) for name in ("a/one", "a/one:exacto", "a/one:nitro")}
    assert found == {"a/one": "a/one", "a/one:exacto": "a/one:exacto", "a/one:nitro": "a/one"}
    assert snapshot.get("b/two:free") is models[2]
    assert snapshot.get("a/one:free") is None
    assert snapshot.get("b/two") is None


def test_versions_fall_back_on_the_model() -> None:
    models = parse_catalog([{"id": "gpt-4"}, {"id": "gpt-5@latest"}, {"id": "@cf/one"}])[0]
    snapshot = Snapshot(tuple(models), {model.id: model for model in models}, 0, 0)
    asked = ("gpt-4@0613", "gpt-4@0613:nitro", "gpt-5@latest", "gpt-5@latest:floor", "@cf/one@2")
    assert [getattr(snapshot.get(name), "id", None) for name in asked] == [
        *("gpt-4", "gpt-4", "gpt-5@latest", "gpt-5@latest", "@cf/one"),
    ]
    for name in ("gpt-4@0613:free", "gpt-5@1", "@gpt-4", "@", ":", "@:@"):
        assert snapshot.get(name) is None


@pytest.mark.parametrize("completion", ["0", "0.01"])
def test_a_version_that_is_not_listed_is_not_free_because_its_model_is(completion: str) -> None:
    """Nor is a half of it; the same holds of one that is listed without a price."""
    price = {"prompt": "0", "completion": completion}
    models = parse_catalog(
        [{"id": "gpt-4", "pricing": price, "context_length": 9}, {"id": "@latest", "pricing": price}]
    )[0]
    snapshot = Snapshot(tuple(models), {model.id: model for model in models}, 0, 0)
    version = snapshot.get("gpt-4@0613")
    assert version is not None
    assert (version.context_length, version.pricing) == (9, Pricing())
    assert completed(parse_catalog([{"id": "gpt-4@0613"}])[0], models)[0].pricing == Pricing()
    assert [snapshot.get(name) for name in ("gpt-4", "gpt-4:nitro", "@latest:floor")] == [*models[:1] * 2, models[1]]


def test_the_index_is_made_once(cache: CatalogCache) -> None:
    filled(cache, many(3))
    snapshot = cache.peek()
    assert snapshot is not None
    assert snapshot.index is snapshot.index
    assert snapshot.index.find(Query.of(search="m/2")) == (snapshot.models[2],)


# --- two lists ---

FEW = listing("a/one", "b/two@latest")


def public(*names: str) -> HttpResponse:
    entries = [{"id": 1, "invoke_name": name, "retail_input_cost": "$3", "discount": None} for name in names]
    return HttpResponse(200, {}, json.dumps({"data": entries}).encode())


MORE = public("a/one", "b/two", "c/three")


@pytest.fixture
def pair(runtime: VirtualRuntime) -> CatalogCache:
    return CatalogCache(INFRON, runtime, 3600)


def with_key(cache: CatalogCache, *answers: Any, **more: Any) -> Asker:
    """A caller with a key, whose orders get these answers."""
    asker = Asker(cache, key=Credential(Secret("sk-test-1234567890"), INFRON.base_url), **more)
    for answer in answers:
        asker.send(answer)
    return asker


def priced(snapshot: Snapshot) -> dict[str, Decimal | None]:
    return {model.id: model.pricing.prompt for model in snapshot.models}


def test_both_are_asked_and_only_one_sees_the_key(pair: CatalogCache, runtime: VirtualRuntime) -> None:
    asker = with_key(pair, patience=20)
    first = asker.effect
    assert (first.request.url, first.total) == ("https://llm.infron.ai/v1/models", 20)
    assert first.request.credential is not None
    runtime.advance(18)
    second = asker.send(FEW).effect
    assert (second.request.method, second.request.url) == ("GET", "https://app.infron.ai/api/display_models/")
    assert second.request.credential is None
    assert (second.request.headers, second.request.body) == (first.request.headers, None)
    assert (second.connect, second.first_byte, second.total) == (2, 2, 2)
    asker.send(MORE)
    assert asker.result is not None
    price = Decimal("0.000003")
    assert priced(asker.result) == {"a/one": price, "b/two@latest": price, "b/two": price, "c/three": price}
    assert {model.gateway for model in asker.result.models} == {"infron"}
    assert asker.events == [CatalogRefreshed("infron", 4)]
    runtime.advance(3599)
    assert with_key(pair).result is asker.result


def test_the_total_of_the_timeouts_is_for_both(pair: CatalogCache, runtime: VirtualRuntime) -> None:
    step = pair.get(Credential(Secret("sk-test-1234567890"), INFRON.base_url), Timeouts(total=10), 9_999)
    assert isinstance(first := next(step), Send)
    runtime.advance(7)
    assert isinstance(second := step.send(FEW), Send)
    assert (first.total, second.total) == (10, 3)
    step.close()


def test_without_a_key_only_the_public_one_is_asked(pair: CatalogCache, runtime: VirtualRuntime) -> None:
    """The other would refuse. What that gives is no less for it."""
    asker = Asker(pair)
    assert asker.effect.request.url == INFRON.details_url
    assert asker.send(MORE).ids == ["a/one", "b/two", "c/three"]
    assert asker.events == [CatalogRefreshed("infron", 3)]
    runtime.advance(3599)
    assert Asker(pair).result is asker.result


def test_a_gateway_that_needs_no_key_is_asked_for_both(runtime: VirtualRuntime) -> None:
    asker = Asker(CatalogCache(attrs.evolve(INFRON, key_required=False), runtime, 3600))
    assert asker.effect.request.url == INFRON.catalog_url
    assert asker.send(FEW).send(MORE).ids == ["a/one", "b/two@latest", "b/two", "c/three"]


def test_a_stand_in_on_this_machine_is_asked_for_both(runtime: VirtualRuntime) -> None:
    """It needs no key, whatever the gateway needs for which it stands."""
    here = attrs.evolve(INFRON, base_url="http://127.0.0.1:1/v1")
    asker = Asker(CatalogCache(here, runtime, 3600))
    assert (asker.effect.request.url, asker.effect.request.credential) == (here.catalog_url, None)
    assert asker.send(FEW).send(MORE).ids == ["a/one", "b/two@latest", "b/two", "c/three"]


def test_a_request_for_a_list_says_who_asks_and_nothing_of_the_application(
    pair: CatalogCache, runtime: VirtualRuntime
) -> None:
    """Firewalls refuse those that are silent, and some that bear a library's name."""
    step = pair.get(Credential(Secret("sk-test-1234567890"), INFRON.base_url), Timeouts(), 9_999)
    near, far = next(step), step.send(FEW)
    assert isinstance(near, Send)
    assert isinstance(far, Send)
    assert near.request.headers == far.request.headers
    assert near.request.headers.keys() == {"Accept", "User-Agent"}
    assert near.request.headers["User-Agent"].startswith("routerkit/")
    step.close()


def test_a_gateway_tells_for_how_many_tokens_its_prices_are(runtime: VirtualRuntime) -> None:
    asker = Asker(CatalogCache(Gateway("x", "https://x.example/v1", prices_per=1_000_000), runtime, 3600))
    asker.send(HttpResponse(200, {}, b'{"data": [{"id": "a/one", "pricing": {"prompt": "3"}}]}'))
    assert asker.result is not None
    assert priced(asker.result) == {"a/one": Decimal("0.000003")}


@pytest.mark.parametrize(("answer", "code"), [(row[0], row[2]) for row in ERRORS], ids=[row[2] for row in ERRORS])
def test_one_that_fails_leaves_the_other(pair: CatalogCache, runtime: VirtualRuntime, answer: Any, code: str) -> None:
    """For five minutes: then both are asked again."""
    asker = with_key(pair, FEW, answer)
    assert asker.ids == ["a/one", "b/two@latest"]
    assert asker.events == [CatalogRefreshed("infron", 2, partial=code)]
    runtime.advance(299)
    assert with_key(pair).result is asker.result
    runtime.advance(1)
    asker = with_key(pair, answer, MORE)
    assert asker.ids == ["a/one", "b/two@latest", "b/two", "c/three"]
    assert asker.events == [CatalogRefreshed("infron", 4, partial=code)]
    runtime.advance(300)
    assert with_key(pair, FEW, MORE).events == [CatalogRefreshed("infron", 4)]
    runtime.advance(3599)
    assert not with_key(pair).fetches


def test_the_first_may_fail_for_want_of_anything(pair: CatalogCache) -> None:
    assert with_key(pair, DOWN, MORE).ids == ["a/one", "b/two", "c/three"]


def test_a_shorter_time_to_live_stays_shorter(runtime: VirtualRuntime) -> None:
    cache = CatalogCache(INFRON, runtime, 60)
    with_key(cache, FEW, DOWN)
    runtime.advance(60)
    assert with_key(cache).fetches


def test_of_one_that_fails_the_last_good_copy_serves_for_a_day(pair: CatalogCache, runtime: VirtualRuntime) -> None:
    with_key(pair, FEW, MORE)
    for _ in range(2):
        runtime.advance(DAY / 2 - 1)
        asker = with_key(pair, listing("a/one", "d/new"), DOWN)
        assert asker.result is not None
        assert list(priced(asker.result).items())[:2] == [("a/one", Decimal("0.000003")), ("d/new", None)]
        assert asker.ids == ["a/one", "d/new", "b/two", "c/three"]
        assert asker.result.fetched == 1000
    runtime.advance(300)
    assert with_key(pair, FEW, DOWN).ids == ["a/one", "b/two@latest"]


def test_when_both_fail_the_first_one_says_why(pair: CatalogCache, runtime: VirtualRuntime) -> None:
    asker = with_key(pair, HttpResponse(401, {}, b""))
    with pytest.raises(AuthenticationError, match=r"^the catalogue on infron: "):
        asker.send(DOWN)
    assert asker.events == [CatalogRefreshed("infron", 0, error="authentication")]
    with pytest.raises(AuthenticationError, match="asked again in 30 s"):
        with_key(pair)
    runtime.advance(30)
    filled_by = with_key(pair, FEW, MORE)
    runtime.advance(4000)
    asker = with_key(pair, DOWN, REFUSED)
    assert asker.result is filled_by.result
    assert asker.events == [CatalogRefreshed("infron", 4, error="overloaded")]
    runtime.advance(29)
    assert not with_key(pair).fetches
    runtime.advance(1)
    assert with_key(pair).fetches


def test_without_a_key_the_public_one_says_why(pair: CatalogCache) -> None:
    asker = Asker(pair)
    with pytest.raises(InternalServerError, match=r"^the public catalogue on infron: "):
        asker.send(DOWN)


LATE = TransportFailure(Failure.READ_TIMEOUT, Sent.MAYBE)


def test_a_caller_in_a_hurry_who_got_the_first_has_that(pair: CatalogCache, runtime: VirtualRuntime) -> None:
    asker = with_key(pair, FEW, patience=0.1)
    runtime.advance(0.1)
    asker.send(LATE)
    assert asker.ids == ["a/one", "b/two@latest"]
    assert asker.events == [CatalogRefreshed("infron", 2, partial="deadline")]


def test_a_caller_in_a_hurry_who_got_none_is_not_sent_on(pair: CatalogCache, runtime: VirtualRuntime) -> None:
    asker = with_key(pair, patience=0.1)
    runtime.advance(0.1)
    with pytest.raises(DeadlineExceededError):
        asker.send(LATE)
    good = with_key(pair, FEW, MORE).result
    runtime.advance(4000)
    asker = with_key(pair, patience=0.1)
    runtime.advance(0.1)
    assert asker.send(LATE).result is good
    assert asker.events == []


def test_a_gateway_that_failed_first_is_blamed_though_time_ran_out(pair: CatalogCache, runtime: VirtualRuntime) -> None:
    asker = with_key(pair, DOWN, patience=0.1)
    runtime.advance(0.1)
    with pytest.raises(InternalServerError):
        asker.send(LATE)


def test_each_list_is_doubted_by_itself(pair: CatalogCache) -> None:
    everything = public(*(f"m/{number}" for number in range(100)))
    with_key(pair, many(100), everything)
    asker = with_key(pair, many(100), public("m/1"), refresh=True)
    assert asker.result is not None
    assert None not in priced(asker.result).values()
    assert asker.events == [CatalogRefreshed("infron", 100, partial="malformed")]
    asker = with_key(pair, many(100), public("m/1"), refresh=True)
    assert asker.result is not None
    assert [name for name, price in priced(asker.result).items() if price is not None] == ["m/1"]
    assert asker.events == [CatalogRefreshed("infron", 100)]


def test_unusable_entries_of_both_are_counted(pair: CatalogCache) -> None:
    first = HttpResponse(200, {}, b'{"data": [{"id": "a/one"}, {}]}')
    second = HttpResponse(200, {}, b'{"data": [{"name": "b/two"}, {"name": "b/two"}, 5]}')
    assert with_key(pair, first, second).events == [CatalogRefreshed("infron", 2, dropped=3)]


def test_between_the_two_a_cancelled_leader_leaves_the_way_free(pair: CatalogCache) -> None:
    leader, second = with_key(pair, FEW), with_key(pair)
    with pytest.raises(Cancelled):
        leader.send(Cancelled())
    assert second.send(True).effect.request.url == INFRON.catalog_url
    assert second.send(FEW).send(MORE).ids == ["a/one", "b/two@latest", "b/two", "c/three"]


def test_a_kept_connection_that_was_closed_is_replaced_for_either(pair: CatalogCache) -> None:
    closed = TransportFailure(Failure.DISCONNECTED, Sent.MAYBE, reused=True)
    asker = with_key(pair, FEW, closed)
    assert asker.effect.request.fresh
    assert (asker.effect.request.url, asker.effect.request.credential) == (INFRON.details_url, None)
    assert asker.send(MORE).ids == ["a/one", "b/two@latest", "b/two", "c/three"]


# --- what the log says ---


@pytest.mark.parametrize(
    ("event", "level", "text"),
    [
        (CatalogRefreshed("x", 2, dropped=1), "DEBUG", "catalogue of x: 2 models, 1 entries unusable"),
        (CatalogRefreshed("x", 2, error="overloaded"), "WARNING", "could not be read (overloaded); 2 models kept"),
        (
            CatalogRefreshed("x", 2, partial="overloaded"),
            "WARNING",
            "one of its two lists could not be read (overloaded)",
        ),
    ],
)
def test_a_refresh_is_logged(event: CatalogRefreshed, level: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "routerkit")
    record(event)
    assert text in caplog.text
    assert level in {entry.levelname for entry in caplog.records}
