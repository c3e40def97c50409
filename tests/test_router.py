"""The router's entry points beside calls: models, one model, the plan of a request; and routers that share their state."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import pytest

from routerkit import APIError, BreakerPolicy, InvalidRequestError, Timeouts
from routerkit.core.effects import Effect, Emit, Failure, HttpResponse, Send, Step, TransportFailure
from routerkit.core.needs import needs_of
from routerkit.core.router import Router
from routerkit.testing import replies as r
from routerkit.types.event import BreakerChanged, BreakerState
from routerkit.types.request import ChatRequest
from routerkit.types.route import Origin, Plan
from routerkit.types.verdict import Sent
from tests.support.core import HOST, KEY, A, B, C, World, asking

FREE = {"prompt": "0", "completion": "0"}


def listed(*models: str) -> World:
    world = World()
    world.catalog(*models)
    return world


def explained(world: World, **more: Any) -> Plan:
    _, plan = world.gateway.run(world.router.explain(asking(**more)))
    assert isinstance(plan, Plan)
    return plan


# --- the catalogue ---


def test_models_are_those_of_the_catalogue() -> None:
    world = listed(A, B)
    _, models = world.gateway.run(world.router.models(Timeouts()))
    assert [model.id for model in models] == [A, B]


def test_the_catalogue_is_kept_and_fetched_anew_when_asked_for() -> None:
    world = listed(A)
    world.read_catalog()
    world.catalog(A, B)
    _, kept = world.gateway.run(world.router.models(Timeouts()))
    _, fresh = world.gateway.run(world.router.models(Timeouts(), refresh=True))
    assert (len(kept), len(fresh)) == (1, 2)


def test_one_model_by_its_id() -> None:
    world = listed(A, B)
    _, model = world.gateway.run(world.router.model(B, Timeouts()))
    assert model.id == B
    with pytest.raises(InvalidRequestError, match=f"model='{C}': not in the catalogue of {HOST}"):
        world.gateway.run(world.router.model(C, Timeouts()))


def test_another_model_is_not_told_in_the_place_of_the_one_asked_for() -> None:
    world = World(default_model=A, fallback_models=[B])
    world.catalog(A, B)
    with pytest.raises(InvalidRequestError, match=f"model='{C}': not in the catalogue"):
        world.gateway.run(world.router.model(C, Timeouts()))


def test_one_model_or_a_plan_is_told_by_the_catalogue_that_is_in_memory() -> None:
    world = listed(A)
    for _ in range(2):
        world.gateway.run(world.router.model(A, Timeouts()))
        explained(world)
    assert world.gateway.catalog_requests == 1


def test_in_dev_mode_the_catalogue_is_asked_for_as_if_there_were_a_key() -> None:
    """Infron's own list is for customers, its second one for everybody."""
    paths = {}
    for dev_mode in (True, False):
        world = World(gateways=["infron"], api_key=KEY, dev_mode=dev_mode)
        router = Router(attrs.evolve(world.settings, keys={}), world.runtime)
        with pytest.raises(APIError):
            world.gateway.run(router.models(Timeouts()))
        paths[dev_mode] = [request.path for request in world.gateway.requests]
    assert paths == {True: ["/v1/models", "/api/display_models/"], False: ["/api/display_models/"]}


def test_a_catalogue_that_cannot_be_had_is_an_error() -> None:
    world = World()
    with pytest.raises(APIError):
        world.gateway.run(world.router.models(Timeouts()))


def fetching(failure: TransportFailure) -> tuple[Step[Any], Effect]:
    """A fetch whose first request fails: the step, and what it orders then."""
    step = World().router.models(Timeouts())
    first = step.send(None)
    assert isinstance(first, Send)
    assert not first.request.fresh
    return step, step.throw(failure)


def finished(step: Step[Any], result: Any = None) -> Any:
    """What a step returns that only tells observers from here on."""
    try:
        while True:
            order = step.send(result)
            assert isinstance(order, Emit)
            result = None
    except StopIteration as stop:
        return stop.value


def test_an_idle_connection_that_was_closed_is_no_failure_of_the_catalogue() -> None:
    step, second = fetching(TransportFailure(Failure.DISCONNECTED, Sent.MAYBE, reused=True))
    assert isinstance(second, Send)
    assert second.request.fresh
    models = finished(step, HttpResponse(200, {}, b'{"data": [{"id": "a/one"}]}'))
    assert [model.id for model in models] == [A]


@pytest.mark.parametrize(
    "failure",
    [TransportFailure(Failure.DISCONNECTED, Sent.MAYBE), TransportFailure(Failure.TRUNCATED, Sent.MAYBE, reused=True)],
    ids=["a new connection", "not while idle"],
)
def test_any_other_break_is(failure: TransportFailure) -> None:
    step, second = fetching(failure)
    assert isinstance(second, Emit)
    with pytest.raises(APIError):
        finished(step)


# --- the plan of a request ---


def test_the_plan_tells_what_the_request_is_expected_to_cost_there() -> None:
    world = World()
    prices = {"prompt": "0.000001", "completion": "0.000002"}
    world.catalog(r.catalog_model(A, pricing=prices), r.catalog_model("x/free:free", pricing=FREE))
    plan = explained(world, fallback_models=[B], max_tokens=100)
    costs = {each.model: each.expected_cost for each in plan.targets}
    prompt = needs_of(asking(max_tokens=100)).prompt_tokens
    assert costs == {A: prompt * Decimal("0.000001") + Decimal("0.0002"), B: None, "x/free:free": 0}
    assert [each["expected_cost"] for each in plan.to_dict()["targets"]] == [str(costs[A]), None, "0"]


def test_the_plan_of_a_client_that_asks_only_what_is_named() -> None:
    world = World(catalog_fallback=False)
    world.catalog(A, r.catalog_model("x/free:free", pricing=FREE))
    plan = explained(world, fallback_models=[B])
    assert [each.model for each in plan.targets] == [A, B]
    assert plan.skipped == ()


def test_the_plan_is_explained_without_asking_anybody() -> None:
    world = World()
    world.catalog(A, r.catalog_model("x/free:free", pricing=FREE), r.catalog_model("x/dear", pricing={"prompt": "9"}))
    plan = explained(world, fallback_models=[B])
    assert [(each.model, each.origin) for each in plan.targets] == [
        (A, Origin.REQUESTED),
        (B, Origin.FALLBACK),
        ("x/free:free", Origin.CATALOG),
    ]
    assert [each.model for each in plan.skipped] == ["x/dear"]
    assert {request.method for request in world.gateway.requests} == {"GET"}


def test_what_cannot_be_asked_now_is_left_out_with_the_reason() -> None:
    world = World()
    world.script(A, r.error(429, headers={"Retry-After": "30"}))
    world.ask(fallback_models=[C])
    world.router.health.breaker(HOST, B).force_open(world.runtime.now)
    plan = explained(world, fallback_models=[B, C])
    assert [each.model for each in plan.targets] == [C]
    rests, closed, catalogue = plan.skipped
    assert (rests.model, rests.reason, rests.retry_after) == (A, "rests after rate_limited", pytest.approx(30))
    assert (closed.model, closed.reason, closed.retry_after) == (B, "its breaker is open", None)
    assert (rests.origin, closed.origin) == (Origin.REQUESTED, Origin.FALLBACK)
    world.runtime.advance(29.5)
    assert explained(world).skipped[0].retry_after == pytest.approx(0.5)
    assert catalogue.reason == "could not be read: model_not_found"


def test_the_settings_plan_is_drawn_once_and_never_for_a_call_that_names_models() -> None:
    world = World(default_model=A, fallback_models=[B])
    default = world.router.named(asking(model=None, fallback_models=None))
    assert world.router.named(asking(model=None, fallback_models=None)) is default
    for more in ({"model": C}, {"fallback_models": []}, {"models": [C]}):
        options = {"model": None, "fallback_models": None, **more}
        assert world.router.named(asking(**options)) != default
    past_us = ChatRequest.build("Hello", extra_body={"models": [C]})
    assert [each.model for each in world.router.named(past_us).targets] == [A], "the gateway falls back by itself"


# --- state that is shared ---


def test_routers_that_share_know_the_same_of_models() -> None:
    world = World()
    world.script(A, r.error(404))
    other = world.router.sharing(attrs.evolve(world.settings, default_model=B))
    world.ask()
    plan = other.named(asking(model=None, fallback_models=None))
    assert [each.model for each in plan.targets] == [B]
    assert other.health is world.router.health
    assert other.access[HOST].catalog is world.router.access[HOST].catalog
    assert other.access[HOST].keys is world.router.access[HOST].keys
    _, answer = world.gateway.run(other.complete(asking()))
    assert [attempt.model for attempt in answer.route.attempts] == [B]  # the model that is unknown was not asked again


def test_what_breakers_do_is_told_by_whoever_reports_next() -> None:
    world = World(observed=False)
    other = world.router.sharing(world.settings)
    assert not other.news
    world.trip(A)
    assert other.news
    world.gateway.run(other.report())
    (change,) = world.events
    assert isinstance(change, BreakerChanged)
    assert (change.scope, change.state) == (f"{A} on {HOST}", BreakerState.OPEN)
    assert not other.news


def test_what_nobody_reports_does_not_pile_up() -> None:
    world = World(observed=False)
    breaker = world.router.health.breaker(HOST, A)
    for _ in range(600):
        breaker.force_open(world.runtime.now)
        breaker.reset(world.runtime.now)
    world.gateway.run(world.router.report())
    assert len(world.events) == 1000


def test_a_forked_child_waits_for_no_lock_and_no_fetch_of_its_parent() -> None:
    world = listed(A)
    step = world.router.models(Timeouts())
    step.send(None)  # the parent's fetch, which nobody here will finish
    with world.router.health._lock:
        world.router.forked()
        _, models = world.gateway.run(world.router.models(Timeouts()))
        assert [model.id for model in models] == [A]
        assert world.ask().gives == f"Hello from {A}"
    step.close()


def test_without_a_key_none_is_sent() -> None:
    world = World()
    router = Router(attrs.evolve(world.settings, keys={}), world.runtime)
    assert router.access[HOST].keys[0].credential is None
    world.gateway.run(router.complete(asking()))
    assert world.gateway.requests[0].header("authorization") is None


def test_breakers_can_be_turned_off() -> None:
    world = World(breaker=BreakerPolicy(enabled=False))
    world.script(A, r.error(500))
    for _ in range(10):
        assert world.ask().attempts[0] == f"{A} 500 server_error"
