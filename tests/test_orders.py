"""Strategies at work in calls: when they order, what stays where it is, what they wait for, what they learn."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from routerkit import Client, Outlook, Strategy, Weighted
from routerkit.config import settings_from
from routerkit.testing import ScriptedTransport, VirtualRuntime
from routerkit.testing import replies as r
from routerkit.types.event import StrategyFailed
from routerkit.types.policy import Timeouts
from routerkit.types.route import Candidate, Target
from tests.support.core import HOST, A, B, C, World, after, asking, target

D = "d/four"


def of(strategy: Any, **settings: Any) -> World:
    """Three models that the client names; calls leave the model open."""
    return World(strategy=strategy, fallback_models=[A, B, C], **settings)


def ask(world: World, **more: Any) -> Any:
    return world.ask(**{"model": None, "fallback_models": None, **more})


def priced(world: World, **prices: str) -> None:
    models = {"a": A, "b": B, "c": C, "d": D}
    world.catalog(
        *[
            r.catalog_model(models[name], pricing={"prompt": price, "completion": price})
            for name, price in prices.items()
        ]
    )


class Backwards(Strategy):
    """From the last to the first."""

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        assert outlook.request.messages
        return candidates[::-1]


# --- what is ordered ---


def test_without_a_strategy_the_order_is_the_plans() -> None:
    world = of("priority")
    ask(world)
    assert world.gateway.models_asked == [A]
    assert world.router.strategy is None, "nothing is computed for it"


def test_each_call_has_its_own_order() -> None:
    world = of("round_robin")
    for _ in range(4):
        ask(world)
    assert world.gateway.models_asked == [A, B, C, A]


def test_basic_is_round_robin() -> None:
    world = of("basic")
    ask(world)
    ask(world)
    assert world.gateway.models_asked == [A, B]


def test_the_requested_model_stays_first_and_the_others_take_turns() -> None:
    world = of("round_robin")
    world.script(D, r.error(500))
    for _ in range(3):
        ask(world, model=D)
        world.runtime.now += 10
    assert world.gateway.models_asked == [D, A, D, B, D, C]


def test_a_model_that_is_named_waits_for_no_catalogue() -> None:
    world = of("cost_optimized")
    world.gateway.catalog = r.hang()
    told = ask(world, model=D)
    assert told.gives == f"Hello from {D}"
    assert told.route.duration < 1
    assert world.gateway.catalog_requests == 0


def test_explaining_takes_no_turn() -> None:
    world = of("round_robin")
    for _ in range(3):
        plan = world.gateway.run(world.router.explain(asking(model=None, fallback_models=None)))[1]
        assert [each.model for each in plan.targets][:3] == [A, B, C]
    assert "in turn" in plan.targets[0].reason
    ask(world)
    assert world.gateway.models_asked == [A]


def test_clients_that_share_take_turns_together() -> None:
    world = of("round_robin")
    for _ in range(3):
        world.router = world.router.sharing(world.settings)
        ask(world)
    assert world.gateway.models_asked == [A, B, C]


def test_views_of_other_strategies_take_no_turns_of_theirs() -> None:
    world = of("round_robin")
    other = world.root.sharing(attrs.evolve(world.settings, strategy="cost_optimized"))
    for _ in range(3):
        ask(world)
        world.gateway.run(other.complete(asking(model=None, fallback_models=None)))
    assert world.gateway.models_asked[::2] == [A, B, C]


def test_a_strategy_of_ones_own() -> None:
    world = of(Backwards())
    ask(world)
    assert world.gateway.models_asked == [C]


def test_weights_are_given_with_an_object() -> None:
    world = of(Weighted({B: 1.0}, default=0.0))
    ask(world)
    assert world.gateway.models_asked == [B]


def test_one_candidate_beside_the_requested_model_needs_no_order() -> None:
    world = World(strategy="round_robin", default_model=A)
    plan = world.gateway.run(world.router.explain(asking(model=D)))[1]
    assert [each.reason for each in plan.targets] == ["requested by the call", "the default model"]


def test_one_candidate_needs_no_order() -> None:
    world = World(strategy="cost_optimized", default_model=A)
    ask(world)
    assert world.gateway.catalog_requests == 0


# --- prices ---


def test_the_cheapest_is_asked_first_by_the_catalogue_that_is_waited_for() -> None:
    world = of("cost_optimized")
    priced(world, a="0.000003", b="0.000001", c="0.000002")
    told = ask(world)
    assert world.gateway.models_asked == [B]
    assert world.gateway.catalog_requests == 1
    plan = world.gateway.run(world.router.explain(asking(model=None, fallback_models=None)))[1]
    assert [each.model for each in plan.targets] == [B, C, A]
    assert "expected to cost" in plan.targets[0].reason
    assert told.gives == f"Hello from {B}"


def test_a_catalogue_that_cannot_be_had_leaves_the_order_as_it_is() -> None:
    world = of("cost_optimized")
    world.gateway.catalog = r.error(500)
    told = ask(world)
    assert world.gateway.models_asked == [A]
    assert told.skipped == {"the catalogue": "could not be read: server_error"}
    plan = world.gateway.run(world.router.explain(asking(model=None, fallback_models=None)))[1]
    assert plan.targets[0].reason == "fallback 1; its price is unknown"


def test_a_catalogue_that_is_slow_is_waited_for_no_longer_than_half_of_the_time() -> None:
    world = of("cost_optimized")
    world.gateway.catalog = after(60, r.json_body({"data": []}))
    told = ask(world, timeouts=Timeouts(total=8))
    assert told.gives == f"Hello from {A}"
    assert told.route.duration == pytest.approx(4, abs=0.2)


def test_an_old_catalogue_will_do_to_order() -> None:
    world = of("cost_optimized")
    priced(world, a="0.000003", b="0.000001", c="0.000002")
    world.read_catalog()
    world.runtime.advance(4000)
    world.gateway.catalog = r.hang()
    told = ask(world)
    assert told.gives == f"Hello from {B}"
    assert told.route.duration < 1


def test_the_last_resort_is_ordered_too() -> None:
    world = World(strategy="cost_optimized", default_model=A)
    world.script(A, r.error(500))
    cheap, dear = {"prompt": "0.0000001", "completion": "0.0000001"}, {"prompt": "0.0000009", "completion": "0.0000009"}
    world.catalog(
        r.catalog_model(A), r.catalog_model(B, pricing=dear, context_length=10**6), r.catalog_model(C, pricing=cheap)
    )
    assert ask(world).attempts == [f"{A} 500 server_error", f"{C} 200 ok"]


def test_named_models_and_the_last_resort_are_ordered_by_the_same_look() -> None:
    world = of(Backwards())
    for model in (A, B, C):
        world.script(model, r.error(500))
    free = {"prompt": "0", "completion": "0"}
    world.catalog(r.catalog_model(D, pricing=free, context_length=10**6), r.catalog_model("e/five", pricing=free))
    assert [line.split()[0] for line in ask(world).attempts] == [C, B, A, "e/five"]


def test_a_model_that_expires_today_comes_last() -> None:
    world = of("multi_model")
    today = datetime.datetime.fromtimestamp(world.runtime.wall(), datetime.timezone.utc).date().isoformat()
    world.catalog(r.catalog_model(A, expiration_date=today), r.catalog_model(B), r.catalog_model(C))
    plan = world.gateway.run(world.router.explain(asking(model=None, fallback_models=None)))[1]
    assert [each.model for each in plan.targets] == [B, C, A]
    assert plan.targets[-1].reason == f"fallback 1; last: expired on {today}"


# --- after a failure ---


def test_the_fallback_strategy_orders_what_is_left_after_the_first_failure() -> None:
    world = of("priority", fallback_strategy="cost_optimized")
    priced(world, a="0.000003", b="0.000002", c="0.000001")
    world.script(A, r.error(500))
    world.script(C, r.error(500))
    assert ask(world).attempts == [f"{A} 500 server_error", f"{C} 500 server_error", f"{B} 200 ok"]


def test_before_a_failure_it_has_no_say() -> None:
    world = of("priority", fallback_strategy=Backwards())
    ask(world)
    assert (world.gateway.models_asked, world.gateway.catalog_requests) == ([A], 0)


def test_without_one_the_first_order_holds() -> None:
    world = of(Backwards())
    world.script(C, r.error(500))
    assert ask(world).attempts == [f"{C} 500 server_error", f"{B} 200 ok"]


class Broken(Strategy):
    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        raise KeyError("a secret of the caller's")


def test_a_strategy_that_fails_is_told_of_by_each_call_and_not_by_explaining() -> None:
    world = of(Broken())
    told = StrategyFailed("Broken", "KeyError")
    world.gateway.run(world.router.explain(asking(model=None, fallback_models=None)))
    assert told not in world.events
    assert ask(world).attempts == [f"{A} 200 ok"]
    assert world.events.count(told) == 1


# --- in the account of the call ---


def plan_of(told: Any) -> list[tuple[str, str]]:
    return [(each.model, each.reason) for each in told.route.plan.targets]


def test_the_route_has_the_plan_by_which_the_call_went() -> None:
    world = of("priority", fallback_strategy="cost_optimized")
    priced(world, a="0.000003", b="0.000002", c="0.000001")
    assert plan_of(ask(world)) == [(A, "fallback 1"), (B, "fallback 2"), (C, "fallback 3")]
    world.script(A, r.error(500))
    told = ask(world)
    assert [model for model, _ in plan_of(told)] == [A, C, B]
    assert [reason.split(";")[0] for _, reason in plan_of(told)] == ["fallback 1", "fallback 3", "fallback 2"]
    assert "expected to cost" in plan_of(told)[1][1]
    assert [each["model"] for each in told.route.to_dict()["targets"]] == [A, C, B]


def test_so_it_has_models_of_the_catalogue_once_they_are_drawn() -> None:
    world = of(Backwards())
    for model in (A, B, C):
        world.script(model, r.error(500))
    world.catalog(r.catalog_model(D, pricing={"prompt": "0", "completion": "0"}))
    told = ask(world)
    assert [model for model, _ in plan_of(told)] == [C, B, A, D]
    assert told.route.plan.skipped == told.route.skipped
    assert [each.model for each in told.route.plan] == [C, B, A, D]


def test_an_error_has_the_plan_too() -> None:
    world = of("round_robin")
    for model in (A, B, C):
        world.script(model, r.error(500))
    told = ask(world)
    assert told.error is not None
    assert [model for model, _ in plan_of(told)] == [A, B, C]
    assert told.error.attempts == told.route.attempts


# --- performance ---


def test_what_attempts_show_is_learnt() -> None:
    world = of("performance_optimized")
    for model, seconds in ((A, 9.0), (B, 1.0), (C, 5.0)):
        world.script(model, after(seconds, r.completion("x")))
        for _ in range(4):
            ask(world, model=model)
            ask(world, model=model, stream=True)
    score = world.router.scores.get(target(B))
    assert score is not None
    assert score.success == 1.0
    fast = [ask(world).attempts[0].split()[0] for _ in range(20)]
    assert fast.count(B) > fast.count(C) >= 0
    assert fast.count(B) > fast.count(A)


def test_failures_are_learnt_and_what_is_nobodys_fault_is_not() -> None:
    world = of("performance_optimized")
    for model, reply in ((A, r.error(500)), (B, r.error(429)), (C, r.error(400))):
        world.script(model, reply)
        ask(world, model=model, fallback_models=[])
    failed = world.router.scores.get(target(A))
    assert failed is not None
    assert failed.success == 0.0
    assert world.router.scores.get(target(C)) is None


def test_a_stream_that_breaks_is_a_failure() -> None:
    world = of("performance_optimized")
    world.script(A, r.stream(r.delta("Hel"), r.cut()))
    ask(world, model=A, stream=True, fallback_models=[])
    failed = world.router.scores.get(target(A))
    assert failed is not None
    assert failed.success == 0.0


def test_nothing_is_learnt_for_nobody() -> None:
    world = of("round_robin")
    ask(world)
    assert world.router.scores.get(target(A)) is None


def test_scores_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options: dict[str, Any] = {
        "api_key": "sk-test-1234567890",
        "strategy": "performance_optimized",
        "performance_cache": True,
        "fallback_models": [A, B],
        "runtime": VirtualRuntime(),
    }
    with Client(transport=ScriptedTransport(), **options) as client:
        for _ in range(5):
            client.complete("Hello", model=A)
    saved = tmp_path / "routerkit" / "performance.json"
    assert saved.is_file()
    assert b"sk-test" not in saved.read_bytes()
    with Client(transport=ScriptedTransport(), **options) as client:
        where = client.settings.gateway.name
        assert client.router.scores.get(target(A)) is None, "read when it is needed"
        client.complete("Hello")
        assert client.router.scores.get(Target(where, A)) is not None
    with Client(transport=ScriptedTransport(), **{**options, "performance_cache": False}) as client:
        client.complete("Hello", model=B)
        assert client.router.scores.get(Target(where, A)) is None


# --- configuration ---


def test_strategies_by_name_and_by_object() -> None:
    own = Backwards()
    assert settings_from({}, base_url=f"http://{HOST}/v1", strategy=own).strategy is own
    assert settings_from({}, base_url=f"http://{HOST}/v1", strategy="BASIC").strategy == "round_robin"
    assert settings_from({}, base_url=f"http://{HOST}/v1").fallback_strategy is None


@pytest.mark.parametrize("value", [Backwards, 5, object(), "", "cheapest"])
def test_what_is_no_strategy(value: Any) -> None:
    for name in ("strategy", "fallback_strategy"):
        with pytest.raises(ValueError, match=f"{name}="):
            settings_from({}, base_url=f"http://{HOST}/v1", **{name: value})


def test_the_environment_cannot_contradict_itself() -> None:
    values = {"OPENROUTER_API_KEY": "sk-test-1234567890", "OPENROUTER_COST_OPTIMIZED": "true"}
    assert settings_from(values).strategy == "cost_optimized"
    assert settings_from({**values, "OPENROUTER_ROUTE_STRATEGY": "cost_optimized"}).strategy == "cost_optimized"
    with pytest.raises(
        ValueError, match="OPENROUTER_COST_OPTIMIZED=true and OPENROUTER_ROUTE_STRATEGY=weighted contradict"
    ):
        settings_from({**values, "OPENROUTER_ROUTE_STRATEGY": "weighted"})
    assert settings_from(values, strategy="weighted").strategy == "weighted", "an argument wins"
