"""One attempt of a call in the core alone: what is sent, how long it may take, and what is written down and charged for it."""

from __future__ import annotations

from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest

from routerkit import APIError, LimitExceededError, Limits, RetryPolicy, Timeouts
from routerkit.core.effects import Cancelled, Emit, Failure, HttpRequest, HttpResponse, Send, TransportFailure
from routerkit.testing import replies as r
from routerkit.types.event import AttemptFinished
from routerkit.types.gateway import Gateway
from routerkit.types.route import Attempt, Origin
from routerkit.types.verdict import Billing, Sample, Sent
from tests.support.core import HOST, KEY, A, B, World, after, asking, target

URL = f"http://{HOST}/v1"
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
OVERLOADED = r.error(503)
ONCE = RetryPolicy(max_attempts=1)


def sent(world: World, **more: Any) -> Send:
    """What a call's first attempt orders."""
    step = world.router.complete(asking(**more))
    order = step.send(None)
    step.close()
    assert isinstance(order, Send)
    return order


def first(world: World, **more: Any) -> Attempt:
    """The account of a call's first attempt."""
    return world.ask(**more).route.attempts[0]


def behind(gateway: Gateway) -> World:
    return World(base_url=None, gateways=[gateway], api_key=KEY)


# --- what is sent, and how long it may take ---


def test_each_clock_is_the_requests_own() -> None:
    order = sent(World(), timeouts=Timeouts(connect=3, first_byte=7, idle=9, total=90))
    assert (order.connect, order.first_byte, order.idle, order.total) == (3, 7, 9, 90)


def test_none_runs_longer_than_what_is_left() -> None:
    order = sent(World(), timeouts=Timeouts(connect=3, first_byte=7, idle=9, total=0.25))
    assert (order.connect, order.first_byte, order.total) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("failure", [Failure.CONNECT_TIMEOUT, Failure.TLS_VERIFY, Failure.ADDRESS, Failure.LOCAL])
def test_what_would_only_fail_again_is_not_connected_once_more(failure: Failure) -> None:
    """As what was not sent is, for any other reason."""
    world = World(observed=False, catalog_fallback=False)
    step = world.router.complete(asking())
    assert isinstance(step.send(None), Send)
    with pytest.raises(APIError):
        step.throw(TransportFailure(failure, Sent.NOT_SENT))


def test_a_header_is_sent_once_however_it_is_written() -> None:
    titled = Gateway(name=HOST, base_url=URL, title_header="X-Title")
    world = World(base_url=None, gateways=[titled], api_key=KEY, app_title="Ours")
    assert sent(world).request.headers["X-Title"] == "Ours"
    request: HttpRequest = sent(world, extra_headers={"x-TITLE": "Theirs"}).request
    assert {name: value for name, value in request.headers.items() if name.lower() == "x-title"} == {
        "x-TITLE": "Theirs"
    }


def test_who_says_what_usage_to_tell_is_not_contradicted() -> None:
    world = behind(Gateway(name=HOST, base_url=URL, usage_parameter=True))
    body = sent(world, usage={"include": False}).request.body
    assert body is not None
    assert body.count(b'"usage"') == 1
    assert b'"usage":{"include":true}' not in body


# --- what its outcome is taken for ---


def test_a_hint_may_be_a_date() -> None:
    world = World()
    world.script(A, r.error(429, headers={"Retry-After": formatdate(world.runtime.wall() + 30, usegmt=True)}))
    assert first(world, fallback_models=[B]).retry_after == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize(
    ("more", "code"), [({"provider": {"only": ["x"]}}, "routing_requirements"), ({}, "model_not_found")]
)
def test_preferences_can_only_be_in_the_way_of_who_has_any(more: dict[str, Any], code: str) -> None:
    world = World()
    world.script(A, r.error(404, message="Nobody meets your routing requirements"))
    assert first(world, **more).verdict.code == code


@pytest.mark.parametrize(("insures", "billing"), [(True, Billing.NONE), (False, Billing.POSSIBLE)])
def test_an_empty_answer_may_be_billed_unless_the_gateway_insures_it(insures: bool, billing: Billing) -> None:
    world = behind(Gateway(name=HOST, base_url=URL, insures_failures=insures))
    world.script(A, r.json_body({"choices": []}))
    attempt = first(world)
    assert (attempt.verdict.code, attempt.billing) == ("empty", billing)


def test_words_that_are_json_are_those_of_an_api() -> None:
    world = World()
    world.script(A, r.json_body({"detail": "no"}, 403))
    world.script(B, r.error(403, "no"))
    assert first(world).verdict.code == "permission_denied"
    assert first(world, model=B).verdict.code == "not_an_api"


@pytest.mark.parametrize("seconds", [9.0, 15.0])
def test_a_whole_answer_is_never_slow_by_its_own_measure(seconds: float) -> None:
    """Of which nobody saw the first token."""
    world = World()
    world.script(A, r.hang())
    attempt = first(world, timeouts=Timeouts(total=seconds))
    assert (attempt.verdict.code, attempt.verdict.sent) == ("deadline", Sent.MAYBE)


@pytest.mark.parametrize("whether", [Sent.MAYBE, Sent.NOT_SENT])
def test_however_late_it_was_noticed_it_is_told_whether_anything_was_sent(whether: Sent) -> None:
    world = World()
    world.script(A, TransportFailure(Failure.CONNECT_TIMEOUT, whether, lag=2.0))
    attempt = first(world)
    assert (attempt.verdict.code, attempt.verdict.sent) == ("local_lag", whether)


def test_nobody_knows_whether_what_was_cancelled_was_sent() -> None:
    step = World().router.complete(asking())
    assert isinstance(step.send(None), Send)
    told = step.throw(Cancelled())
    assert isinstance(told, Emit)
    assert isinstance(told.event, AttemptFinished)
    assert told.event.attempt.verdict.sent is Sent.MAYBE
    step.close()


# --- its account ---


def test_the_account_of_attempts() -> None:
    world = World()
    world.script(A, after(2, r.error(500, message="Out of order", headers={"X-Request-Id": "r-1"})))
    world.script(B, after(3, r.completion(headers={"X-Generation-Id": "g-2"})))
    one, two = world.ask(fallback_models=[B]).route.attempts
    assert (one.model, one.origin, one.started, one.duration) == (A, Origin.REQUESTED, 0, 2)
    assert (one.status, one.detail, one.request_id, one.first_token) == (500, "Out of order", "r-1", None)
    assert (two.model, two.origin, two.started, two.duration) == (B, Origin.FALLBACK, 2, 3)
    assert (two.status, two.detail, two.request_id, two.first_token) == (200, "", "g-2", None)


def test_of_a_stream_when_its_first_content_came() -> None:
    world = World()
    world.script(A, after(2, r.completion()))
    assert first(world, stream=True).first_token == pytest.approx(2, abs=0.1)


def test_how_fast_answers_come_is_learnt() -> None:
    world = World(strategy="performance_optimized")
    world.script(A, after(5, r.completion(usage={"prompt_tokens": 7, "completion_tokens": 50, "total_tokens": 57})))
    world.script(B, after(2, r.stream("One", "by", "one", r.end(), r.done(), every=1)))
    assert world.ask().error is None
    told = world.ask(model=B, stream=True)
    assert told.gives == "Onebyone"
    assert told.route.duration >= 4
    whole, stream = world.router.scores.get(target(A)), world.router.scores.get(target(B))
    assert whole is not None
    assert whole.tokens_per_second == pytest.approx(10, rel=0.01)
    assert stream is not None
    assert stream.first_token == pytest.approx(2, abs=0.1)


def test_of_a_stream_of_which_nothing_came_the_id_under_which_it_is_known() -> None:
    def silent(connection: Any, _: Any) -> None:
        head = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", "X-Generation-Id": "g-3"}
        connection.send(connection.head(200, head))
        connection.wait(1000)

    world = World()
    world.script(A, silent)
    attempt = first(world, stream=True)
    assert (attempt.status, attempt.request_id) == (200, "g-3")
    assert attempt.verdict.sample is Sample.FAIL


def test_of_an_answer_that_broke_off_its_status() -> None:
    world = World()
    world.script(A, TransportFailure(Failure.DISCONNECTED, Sent.MAYBE, status=200, detail="cut"))
    told = world.ask()
    attempt = told.route.attempts[0]
    assert (attempt.status, attempt.detail, attempt.verdict.code) == (200, "cut", "connection_lost")
    assert str(told.error).endswith(": cut")


def test_a_key_that_a_gateway_repeats_as_an_id_is_left_out() -> None:
    world = World()
    world.script(A, r.completion(headers={"X-Generation-Id": f"for {KEY}"}))
    attempt = first(world)
    assert attempt.request_id is not None
    assert attempt.request_id.startswith("for ")
    assert KEY not in attempt.request_id


def test_what_an_answer_cost_stands_in_its_route_and_in_the_usage() -> None:
    world = World()
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "cost": 0.25}
    world.script(A, r.completion(usage=usage))
    told = world.ask()
    assert told.answer is not None
    assert told.route.cost == told.answer.cost == Decimal("0.25")
    (row,) = world.router.accounts.usage().rows
    assert (row.prompt_tokens, row.completion_tokens, row.cost) == (7, 5, Decimal("0.25"))


@pytest.mark.parametrize("mock", [False, True])
def test_an_answer_says_whether_it_is_made_up(mock: bool) -> None:
    step = World(observed=False).router.complete(asking())
    assert isinstance(step.send(None), Send)
    with pytest.raises(StopIteration) as stop:
        step.send(HttpResponse(200, {}, b'{"choices": [{"message": {"content": "fine"}}]}', mock=mock))
    assert stop.value.value.mock is mock


@pytest.mark.parametrize(("image", "cost"), [("100", "212"), ("0", "12"), (None, "12")])
def test_images_that_have_a_price_are_paid_for(image: str | None, cost: str) -> None:
    world = World()
    pricing = {"prompt": "1", "completion": "1", **({} if image is None else {"image": image})}
    world.catalog(r.catalog_model(A, pricing=pricing))
    world.read_catalog()
    world.script(A, r.completion(usage={"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}))
    answer = world.ask([{"role": "user", "content": [IMAGE, IMAGE]}]).answer
    assert answer is not None
    assert (answer.cost, answer.cost_source) == (Decimal(cost), "catalog")


def test_what_is_not_in_the_catalogue_has_no_price() -> None:
    world = World()
    world.catalog(B)
    world.read_catalog()
    world.script(A, r.completion(usage={"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}))
    answer = world.ask().answer
    assert answer is not None
    assert (answer.cost, answer.cost_source) == (None, "unknown")


# --- what it is charged ---

ALL_TOKENS = 10**6
"""A request for more than the limit takes all of it: it is refused when a single one is missing."""
scopes = pytest.mark.parametrize("scope", ["client", f"gateway:{HOST}"])


@scopes
def test_a_refusal_that_nobody_bills_uses_no_token(scope: str) -> None:
    world = World(retry=ONCE, limits={scope: Limits(tokens_per_minute=1000)})
    world.script(A, OVERLOADED, r.completion())
    assert world.ask(max_tokens=ALL_TOKENS).attempts == [f"{A} 503 overloaded"]
    assert world.ask(max_tokens=ALL_TOKENS).error is None


@scopes
def test_an_answer_that_does_not_tell_its_tokens_used_all_that_was_reserved(scope: str) -> None:
    world = World(limits={scope: Limits(tokens_per_minute=1000)})
    world.script(A, r.completion(without=["usage"]))
    assert world.ask(max_tokens=600).error is None
    assert isinstance(world.ask(max_tokens=600).error, LimitExceededError)
