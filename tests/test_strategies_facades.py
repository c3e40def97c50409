"""Strategies at work on two gateways, over real sockets and through both facades, which must choose alike.

What each strategy goes by is tested in `tests/test_strategies.py`, what calls make of it in `tests/test_orders.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from routerkit import Completion, MultiModel, Outlook, RouterKitError, Weighted
from routerkit.testing import Connection, RecordedRequest, VirtualRuntime
from routerkit.testing import replies as r
from routerkit.types.route import Candidate
from tests.support.facades import FACADES, AsyncCaller, Caller, SyncCaller
from tests.support.pair import Pair, answer_of, outcome_of, pair_of_gateways, tried
from tests.support.scenarios import A, B, C
from tests.support.tenants import TENANTS

Facade = type[SyncCaller | AsyncCaller]

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}]}]


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> Facade:
    return FACADES[request.param]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with pair_of_gateways() as pair:
        yield pair


def choosing(pair: Pair, strategy: Any, **options: Any) -> dict[str, Any]:
    """The options of a client that leaves the choice among two models on two gateways to a strategy."""
    return pair.options(**{"strategy": strategy, "default_model": None, "fallback_models": [A, B], **options})


def first(told: Completion | RouterKitError) -> str:
    """Whom a call asked first."""
    assert told.route is not None
    return str(told.route.attempts[0].target)


def priced(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"pricing": {"prompt": prompt, "completion": prompt}, **fields}


def listing(pair: Pair) -> None:
    """`A` is cheaper at the second gateway, `B` at the first, which is the only one to offer it for images."""
    images = {"architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]}}
    text = {"architecture": {"input_modalities": ["text"], "output_modalities": ["text"]}}
    pair.first.catalog = [r.catalog_model(A, **priced("4", **text)), r.catalog_model(B, **priced("3", **images))]
    pair.second.catalog = [r.catalog_model(A, **priced("2", **text)), r.catalog_model(B, **priced("5", **text))]


@STREAM
def test_calls_take_turns_over_models_and_gateways(facade: Facade, pair: Pair, stream: bool) -> None:
    with facade(**choosing(pair, "round_robin")) as caller:
        asked = [first(answer_of(caller, stream=stream)) for _ in range(8)]
    assert asked == [f"{A} on first", f"{A} on second", f"{B} on first", f"{B} on second"] * 2


def test_calls_at_once_take_turns_too(facade: Facade, pair: Pair) -> None:
    with facade(**choosing(pair, "basic")) as caller:
        answers = [end() for end in [caller.begin() for _ in range(40)]]
    assert Counter(map(first, answers)) == dict.fromkeys(
        (f"{model} on {gateway}" for model in (A, B) for gateway in ("first", "second")), 10
    )


def test_each_tenant_has_its_own_turns(facade: Facade, pair: Pair) -> None:
    with facade(
        **choosing(pair, "round_robin", gateways=[pair.gateway("first")], api_key=None, tenants=TENANTS)
    ) as caller:
        for tenant in TENANTS:
            own = caller.tenant(tenant.name)
            assert [first(own.complete()) for _ in range(3)] == [f"{A} on first", f"{B} on first", f"{A} on first"]


@STREAM
def test_the_cheapest_gateway_is_asked_first(facade: Facade, pair: Pair, stream: bool) -> None:
    listing(pair)
    pair.second.script(A, r.error(500))
    with facade(**choosing(pair, "cost_optimized")) as caller:
        answer = answer_of(caller, stream=stream)
        assert tried(answer) == [f"{A} on second server_error", f"{B} on first ok"]
        plan = caller.explain()
    assert [str(each.target) for each in plan.targets] == [
        f"{A} on second",
        f"{B} on first",
        f"{A} on first",
        f"{B} on second",
    ]
    assert all("expected to cost" in each.reason for each in plan.targets)


@STREAM
def test_what_the_caller_names_stays_first(facade: Facade, pair: Pair, stream: bool) -> None:
    listing(pair)
    with facade(**choosing(pair, "cost_optimized")) as caller:
        assert first(answer_of(caller, stream=stream, model=A)) == f"{A} on first"
        assert first(answer_of(caller, stream=stream, model=C)) == f"{C} on first"


@STREAM
def test_what_the_request_needs_decides(facade: Facade, pair: Pair, stream: bool) -> None:
    listing(pair)
    with facade(**choosing(pair, "multi_model")) as caller:
        assert first(answer_of(caller, stream=stream)) == f"{A} on second", "the cheapest"
        assert first(answer_of(caller, IMAGE, stream=stream)) == f"{B} on first", "the only one that sees"
    with facade(**choosing(pair, MultiModel({"text": [f"{B} on second"]}))) as caller:
        assert first(answer_of(caller, stream=stream)) == f"{B} on second"


def test_another_strategy_for_some_calls(facade: Facade, pair: Pair) -> None:
    with facade(**choosing(pair, "priority", gateways=[pair.gateway("first")], api_key=None)) as caller:
        other = caller.with_options(strategy="round-robin")
        assert [first(each.complete()) for each in (other, caller, other, caller, other)] == [
            f"{model} on first" for model in (A, A, B, A, A)
        ]


def test_weights_are_kept_to(facade: Facade, pair: Pair) -> None:
    """The same dice give the same choice through both facades."""
    weights = Weighted({A: 3, f"{A} on second": 0, "first": 1, f"{B} on second": 0})
    with facade(**choosing(pair, weights, runtime=VirtualRuntime(seed=7))) as caller:
        asked = Counter(first(caller.complete()) for _ in range(100))
    assert asked.keys() == {f"{A} on first", f"{B} on first"}
    assert asked == {f"{A} on first": 81, f"{B} on first": 19}


def slow(runtime: VirtualRuntime, seconds: float) -> r.Reply:
    """An answer that takes its time, of the runtime's."""

    def reply(connection: Connection, request: RecordedRequest) -> None:
        runtime.advance(seconds)
        r.completion()(connection, request)

    return reply


@STREAM
def test_the_fastest_gateway_is_found_and_left_when_it_grows_slow(facade: Facade, pair: Pair, stream: bool) -> None:
    runtime = VirtualRuntime(seed=1)
    pair.first.default, pair.second.default = slow(runtime, 6), slow(runtime, 1)
    with facade(**choosing(pair, "performance_optimized", fallback_models=[A], runtime=runtime)) as caller:
        found_out(caller, 20, stream=stream)
        assert found_out(caller, 20, stream=stream)["second"] >= 18
        pair.first.default, pair.second.default = slow(runtime, 1), slow(runtime, 6)
        runtime.advance(24 * 3600)  # what was seen yesterday counts for little
        found_out(caller, 20, stream=stream)
        assert found_out(caller, 20, stream=stream)["first"] >= 18


def found_out(caller: Caller, calls: int, *, stream: bool) -> Counter[str]:
    """Which gateway how many calls asked first."""
    return Counter(first(answer_of(caller, stream=stream)).rpartition(" ")[2] for _ in range(calls))


def test_what_was_learnt_outlives_the_client(
    facade: Facade, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runtime = VirtualRuntime(seed=1)
    pair.first.default, pair.second.default = slow(runtime, 6), slow(runtime, 1)
    options = choosing(pair, "performance_optimized", fallback_models=[A], runtime=runtime, performance_cache=True)
    with facade(**options) as caller:
        found_out(caller, 30, stream=False)
    with facade(**options) as caller:
        known = {each.gateway: each.reason for each in caller.explain().targets if each.model == A}
        assert all("answers in about" in reason for reason in known.values())
        assert found_out(caller, 10, stream=False)["second"] >= 8


def test_what_is_kept_is_learnt_whatever_the_strategy(
    facade: Facade, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runtime = VirtualRuntime(seed=1)
    pair.first.default = slow(runtime, 6)
    with facade(**choosing(pair, "priority", runtime=runtime, performance_cache=True)) as caller:
        answer_of(caller)
    options = choosing(pair, "performance_optimized", fallback_models=[A], runtime=runtime, performance_cache=True)
    with facade(**options) as caller:
        known = {each.gateway: each.reason for each in caller.explain().targets if each.model == A}
    assert "too few attempts of late to be sure: answers in about" in known["first"]
    assert "answers in about" not in known["second"]


@STREAM
def test_after_a_failure_the_fallback_strategy_orders_the_rest(facade: Facade, pair: Pair, stream: bool) -> None:
    listing(pair)
    pair.first.script(A, r.error(500))
    with facade(**choosing(pair, "priority", fallback_strategy="cost_optimized")) as caller:
        assert tried(answer_of(caller, stream=stream)) == [f"{A} on first server_error", f"{A} on second ok"]
        pair.second.script(A, r.error(500))
        assert tried(answer_of(caller, stream=stream)) == [
            f"{A} on first server_error",
            f"{A} on second server_error",
            f"{B} on first ok",
        ]


@STREAM
def test_a_fallback_strategy_begins_with_what_was_planned(facade: Facade, pair: Pair, stream: bool) -> None:
    """Not with what the first strategy made of it."""
    listing(pair)
    pair.second.script(A, r.error(500))
    with facade(**choosing(pair, "cost_optimized", fallback_strategy="priority")) as caller:
        assert tried(answer_of(caller, stream=stream)) == [f"{A} on second server_error", f"{A} on first ok"]


class Backwards:
    """Anything with this one method is a strategy."""

    def order(self, candidates: Sequence[Candidate], _: Outlook) -> Sequence[Candidate]:
        return candidates[::-1]


class Broken:
    def order(self, candidates: Sequence[Candidate], _: Outlook) -> Sequence[Candidate]:
        raise RuntimeError("no idea")


@STREAM
def test_a_strategy_of_ones_own(facade: Facade, pair: Pair, stream: bool) -> None:
    with facade(**choosing(pair, Backwards())) as caller:
        assert first(answer_of(caller, stream=stream)) == f"{B} on second"
    with facade(**choosing(pair, Broken())) as caller:
        assert first(outcome_of(caller, stream=stream)) == f"{A} on first", "as planned"
        assert "Broken failed (RuntimeError)" in caller.explain().targets[0].reason
