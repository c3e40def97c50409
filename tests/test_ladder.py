"""The rungs of a call's ladder in the core alone: what another attempt costs, and what the error says when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from routerkit import (
    APIError,
    BudgetExceededError,
    ContextLengthExceededError,
    DeadlineExceededError,
    LimitExceededError,
    Limits,
    NoEligibleModelError,
    RateLimitError,
    RetryPolicy,
    Tenant,
    Timeouts,
)
from routerkit.core.effects import Send
from routerkit.core.limits import Charge, Counting, Denial, Grant
from routerkit.store.memory import MemoryStore
from routerkit.testing import replies as r
from routerkit.types.gateway import Gateway
from routerkit.types.route import Plan
from tests.support.core import HOST, KEY, A, B, C, Told, World, after, asking, doing
from tests.support.virtual import VirtualRuntime

FIRST = Gateway(name="first", base_url="http://127.0.0.1:1/v1")
SECOND = Gateway(name="second", base_url="http://127.0.0.1:2/v1")
KEYS = {"first": [KEY, KEY + "2"], "second": KEY + "3"}
CONFLICT = r.error(409)
TOO_LONG = r.error(400, message="This model's maximum context length is 10 tokens")
ONE_RETRY = RetryPolicy(budget=1, budget_deposit=0)


def reasons(told: Told) -> list[str]:
    """Why was waited."""
    return [wait.reason for wait in told.route.waits]


# --- what is not sent ---


class Slow(MemoryStore):
    """Takes half a second to say whether."""

    def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:
        made = yield from super().admit(charges, lease, owner)
        runtime = self._runtime
        assert isinstance(runtime, VirtualRuntime)
        runtime.now += 0.5
        return made


def test_leave_that_comes_at_the_last_moment_is_too_late() -> None:
    runtime = VirtualRuntime()
    world = World(runtime=runtime, store=Slow(runtime), limits={f"model:{A}": Limits(requests_per_day=1)})
    told = world.ask(timeouts=Timeouts(total=0.5))
    assert isinstance(told.error, DeadlineExceededError)
    assert str(told.error) == (
        "no answer within the 0.5 s of the call (asked: no model); allow more with timeout=, or name faster models"
    )
    assert world.gateway.requests == []
    assert world.ask().error is None, "it does not count"


def test_a_limit_that_refuses_is_told_as_that_however_late() -> None:
    runtime = VirtualRuntime()
    world = World(runtime=runtime, store=Slow(runtime), limits=Limits(requests_per_day=1))
    assert world.ask().error is None
    error = world.ask(timeouts=Timeouts(total=0.5)).error
    assert isinstance(error, LimitExceededError)
    assert not isinstance(error, DeadlineExceededError)


@pytest.mark.parametrize("gateways", [[FIRST], [FIRST, SECOND]], ids=["one", "two"])
def test_a_call_of_which_nothing_was_sent_does_not_count(gateways: list[Gateway]) -> None:
    world = World(gateways=gateways, api_key={each.name: KEY for each in gateways}, limits=Limits(requests_per_day=1))
    for each in gateways:
        world.gateway.at(each.base_url).script(A, "refused")
    assert world.ask().attempts == [f"{A} - connect_failed"] * len(gateways)
    world.gateway.at(FIRST.base_url).script(A, r.completion())
    assert world.ask().error is None
    assert isinstance(world.ask().error, LimitExceededError)


class Watched(VirtualRuntime):
    """Counts how often any of its locks is taken."""

    taken = 0

    def lock(self) -> Any:
        return self

    def __enter__(self) -> None:
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        pass


def test_a_call_that_is_dropped_takes_no_lock() -> None:
    """It may be the garbage collector that drops it, in a thread that holds that very lock."""
    runtime = Watched()
    world = World(runtime=runtime)
    step = world.router.complete(asking())
    assert isinstance(step.send(None), Send)
    before = runtime.taken
    assert before > 0
    step.close()
    assert runtime.taken == before


# --- another attempt ---


def in_flight(seconds: str | None = None) -> r.Reply:
    reserved = {"error": {"metadata": {"limit_source": "openrouter_in_flight_budget"}}}
    return r.json_body(reserved, 402, {} if seconds is None else {"Retry-After": seconds})


def two_gateways(first: r.Reply, second: r.Reply) -> World:
    world = World(gateways=[FIRST, SECOND], api_key={"first": KEY, "second": KEY + "2"})
    world.gateway.at(FIRST.base_url).default = first
    world.gateway.at(SECOND.base_url).default = second
    return world


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("seconds", ["5", "50", "500", None])
def test_while_credit_is_reserved_another_gateway_is_asked_at_once(seconds: str | None, stream: bool) -> None:
    world = two_gateways(in_flight(seconds), r.completion("Fine"))
    told = world.ask(fallback_models=[B], stream=stream)
    assert [str(attempt.target) for attempt in told.route.attempts] == [f"{A} on first", f"{A} on second"]
    assert (told.gives, told.waits) == ("Fine", [])


def test_when_no_other_gateway_is_left_it_is_waited_for() -> None:
    world = two_gateways(in_flight("5"), r.completion("Fine"))
    world.router.health.breaker("second").force_open(world.runtime.now)
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} 402 in_flight_budget"] * 2
    assert told.waits == [5.25]
    assert told.skipped == {A: "the breaker of gateway second is open", B: "the breaker of gateway second is open"}


def test_the_last_gateway_of_which_credit_is_reserved_is_waited_for() -> None:
    world = two_gateways(in_flight("50"), in_flight("5"))
    told = world.ask()
    assert [attempt.gateway for attempt in told.route.attempts] == ["first", "second", "second", "first"]
    assert told.waits == [5.25, pytest.approx(45, abs=1)]


@pytest.mark.parametrize(
    ("second", "waits"),
    [(in_flight("500"), [5.25]), (in_flight("50"), [5.25]), (r.error(401), [5.25]), (r.error(500), [0.25, 4.99])],
    ids=["later", "much later", "refused", "failed"],
)
def test_credit_that_is_free_again_sooner_elsewhere_is_waited_for_there(second: r.Reply, waits: list[float]) -> None:
    world = World(gateways=[FIRST, SECOND], api_key={"first": KEY, "second": KEY + "2"}, catalog_fallback=False)
    world.gateway.at(FIRST.base_url).script(A, in_flight("5"), r.completion("Fine"))
    world.gateway.at(SECOND.base_url).default = second
    told = world.ask()
    assert (told.gives, told.waits) == ("Fine", waits)
    assert told.route.attempts[-1].gateway == "first"


def test_but_not_where_the_gateway_has_failed_since() -> None:
    world = World(api_key=[KEY, KEY + "2"], catalog_fallback=False)
    world.script(A, in_flight("5"), r.error(429, headers={"Retry-After": "30"}), r.completion())
    world.script(B, r.html(502))
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} 402 in_flight_budget", f"{A} 429 rate_limited", f"{B} 502 not_an_api"]
    assert told.waits == []


def test_who_has_waited_in_vain_looks_once_more_for_others() -> None:
    """Somebody else opened the breaker meanwhile; the other model is back by then."""
    world = World(catalog_fallback=False)
    world.script(A, r.error(429, headers={"Retry-After": "3"}), r.completion("Fine"))
    world.ask(timeouts=Timeouts(total=2))
    breaker = world.router.health.breaker(HOST, B)
    world.script(B, doing(lambda: breaker.force_open(world.runtime.now), r.error(429, headers={"Retry-After": "4"})))
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{B} 429 rate_limited", f"{A} 200 ok"]
    assert (told.gives, told.waits) == ("Fine", [4.2])


def test_it_is_explained_without_the_catalogue_of_a_gateway_that_refuses() -> None:
    """As it is drawn: what strategies do not see, they cannot put before others."""
    free = {"prompt": "0", "completion": "0"}
    world = World(gateways=[FIRST, SECOND], api_key={"first": KEY, "second": KEY + "2"}, strategy="round_robin")
    for number, each in enumerate((FIRST, SECOND)):
        models = [r.catalog_model(f"x/{number}{name}:free", pricing=free) for name in "ab"]
        world.gateway.at(each.base_url).catalog = r.json_body({"data": models})
        world.gateway.at(each.base_url).script(A, r.error(400, message=f"{A} is not a valid model id"))
    world.router.health.breaker("first").force_open(world.runtime.now)
    for turn in range(4):
        _, plan = world.gateway.run(world.router.explain(asking()))
        (*_, answered) = world.ask().route.attempts
        assert answered.model == f"x/1{'ab'[turn % 2]}:free"
        assert next(each.model for each in plan.targets if each.model != A) == answered.model


def test_a_key_that_serves_other_models_keeps_its_gateway_open() -> None:
    """Of two, one is limited for this model, the other is revoked."""
    world = World(api_key=[KEY, KEY + "2"])
    world.script(A, r.error(429, headers={"Retry-After": "30"}), r.error(401))
    told = world.ask(fallback_models=[B])
    assert told.attempts == [f"{A} 429 rate_limited", f"{A} 401 authentication", f"{B} 200 ok"]
    assert world.gateway.requests[-1].header("authorization") == f"Bearer {KEY}"


def test_or_is_waited_for() -> None:
    world = World(api_key=[KEY, KEY + "2"], catalog_fallback=False)
    world.script(A, r.error(429, headers={"Retry-After": "30"}), r.error(401), r.completion("Fine"))
    told = world.ask()
    assert (told.gives, told.waits) == ("Fine", [30.5])


def test_a_new_connection_is_no_further_try() -> None:
    world = World(catalog_fallback=False)
    world.script(A, r.error(421), r.error(500), r.completion("Fine"))
    told = world.ask()
    assert told.attempts == [f"{A} 421 misdirected", f"{A} 500 server_error", f"{A} 200 ok"]


def test_an_idle_connection_that_was_closed_costs_one_attempt_less_and_no_more() -> None:
    world = World(retry=RetryPolicy(max_attempts=2))
    world.script(A, r.stale_keepalive(), r.error(500))
    world.script(B, r.error(500))
    assert world.ask().error is None
    told = world.ask(fallback_models=[B, C])
    assert told.attempts == [f"{A} - stale_connection", f"{A} 500 server_error", f"{B} 500 server_error"]
    assert told.waits == [], "it is asked again at once"


def test_a_connection_that_led_to_a_wrong_server_is_made_anew_at_once_and_at_no_charge() -> None:
    world = World(retry=RetryPolicy(max_attempts=1))
    world.script(A, r.error(421), r.completion())
    told = world.ask()
    assert (told.attempts, told.waits) == ([f"{A} 421 misdirected", f"{A} 200 ok"], [])
    assert [request.index for request in world.gateway.requests] == [0, 0]


def test_what_a_new_connection_does_not_mend_a_third_is_not_made_for() -> None:
    world = World()
    world.script(A, r.error(421), r.error(421), r.completion("too late"))
    told = world.ask(fallback_models=[B])
    assert (told.attempts, told.waits) == ([f"{A} 421 misdirected"] * 2 + [f"{B} 200 ok"], [])


def test_why_is_waited_before_the_same_model_is_asked_again() -> None:
    world = World()
    world.script(A, CONFLICT, r.completion(), r.error(409, headers={"Retry-After": "2"}), r.completion())
    assert reasons(world.ask()) == ["backoff"]
    assert reasons(world.ask()) == ["the gateway asked for it"]


def test_a_hint_of_the_longest_wait_allowed_is_heeded_and_no_wait_is_longer() -> None:
    """Though waits are spread beyond what the gateway asked for."""
    world = World(retry=RetryPolicy(max_sleep=10))
    world.script(A, r.error(409, headers={"Retry-After": "10"}), r.completion())
    told = world.ask()
    assert (told.waits, told.error) == ([10.0], None)


def test_each_model_has_retries_of_its_own() -> None:
    world = World(retry=ONE_RETRY)
    world.script(A, CONFLICT)
    world.script(B, CONFLICT)
    told = world.ask(fallback_models=[B])
    assert [attempt.model for attempt in told.route.attempts] == [A, A, B, B]


def test_and_each_tenant() -> None:
    tenants = [Tenant("acme", api_key=KEY), Tenant("globex", api_key=KEY + "2")]
    world = World(api_key=None, tenants=tenants, retry=ONE_RETRY)
    world.script(A, CONFLICT)
    tried = []
    for name in ("acme", "acme", "globex"):
        world.router = world.tenant(name)
        tried.append(len(world.ask().attempts))
    assert tried == [2, 1, 2]


def test_a_gateway_that_refuses_all_keys_is_left() -> None:
    world = World(gateways=[FIRST, SECOND], api_key=KEYS)
    world.gateway.at(FIRST.base_url).default = r.error(401)
    world.gateway.at(SECOND.base_url).script(A, r.error(500))
    told = world.ask(fallback_models=[B])
    assert [f"{attempt.target} {attempt.verdict}" for attempt in told.route.attempts] == [
        *[f"{A} on first authentication"] * 2,
        f"{A} on second server_error",
        f"{B} on second ok",
    ]
    assert {str(skip.target): skip.reason for skip in told.route.skipped} == {
        f"{B} on first": "its gateway refuses the key"
    }


@pytest.mark.parametrize("keys", [KEY, [KEY, KEY + "2"]], ids=["one", "two"])
def test_where_the_only_gateway_does_the_call_ends_there(keys: str | list[str]) -> None:
    world = World(api_key=keys)
    world.gateway.default = r.error(401)
    told = world.ask(fallback_models=[B])
    assert (told.gives, told.skipped) == ("AuthenticationError", {})


# --- the error of a call whose attempts failed ---


def test_a_call_that_is_too_late_says_whom_it_asked() -> None:
    world = World()
    world.script(A, after(5, r.error(500)))
    world.script(B, r.hang())
    told = world.ask(timeouts=Timeouts(total=10), fallback_models=[B])
    assert str(told.error) == (
        f"no answer within the 10 s of the call (asked: {A} on {HOST}, {B} on {HOST});"
        " allow more with timeout=, or name faster models"
    )


def test_a_stream_that_was_slow_by_its_own_measure_is_too_late_like_any_other() -> None:
    world = World()
    world.script(A, r.hang())
    told = world.ask(stream=True, timeouts=Timeouts(total=10))
    assert (told.gives, told.attempts) == ("DeadlineExceededError", [f"{A} - deadline_slow"])


def test_what_is_too_long_for_each_model_is_told_as_that() -> None:
    world = World()
    world.catalog(r.catalog_model(A, context_length=1000), r.catalog_model(B, context_length=2000))
    world.script(A, TOO_LONG)
    world.script(B, TOO_LONG)
    told = world.ask(fallback_models=[B])
    assert len(told.attempts) == 2
    assert isinstance(told.error, ContextLengthExceededError)
    assert told.error.model == B


# --- the error of a call that could ask nobody ---


def test_no_model_at_all() -> None:
    error = World().ask(model=None, fallback_models=None, models=[]).error
    assert isinstance(error, NoEligibleModelError)
    assert str(error) == "no model to ask: pass model=, or set default_model= or OPENROUTER_DEFAULT_MODEL"
    assert error.plan == Plan()


@pytest.mark.parametrize(("count", "more"), [(20, []), (21, ["  and 1 more"]), (23, ["  and 3 more"])])
def test_models_of_which_none_may_be_asked(count: int, more: list[str]) -> None:
    world = World()
    world.catalog(*[f"x/dear-{number:02d}" for number in range(count)])
    told = world.ask(model=None, fallback_models=None)
    assert isinstance(told.error, NoEligibleModelError)
    title, *lines = str(told.error).split("\n")
    assert title == "no model may be asked; name another with model=, or see allow_any_price=:"
    skipped = told.route.skipped
    assert lines == [*(f"  {skip.target}: {skip.reason}" for skip in skipped[:20]), *more]
    assert len(skipped) == count
    assert told.error.plan == Plan((), skipped)


def test_where_no_price_is_the_reason_none_is_spoken_of() -> None:
    world = World()
    world.catalog(r.catalog_model("x/text", pricing={"prompt": "0", "completion": "0"}))
    told = world.ask(model=None, fallback_models=None, modalities=["video"])
    assert isinstance(told.error, NoEligibleModelError)
    assert str(told.error).split("\n")[0] == "no model may be asked; name another with model=:"


def test_models_that_all_refuse() -> None:
    world = World()
    world.script(A, r.error(429, headers={"Retry-After": "200"}))
    world.ask(fallback_models=[C])
    world.router.health.breaker(HOST, B).force_open(world.runtime.now)
    told = world.ask(fallback_models=[B])
    assert isinstance(told.error, NoEligibleModelError)
    assert str(told.error) == (
        f"no model may be asked now:\n  {A} on {HOST}: rests after rate_limited\n  {B} on {HOST}: its breaker is open"
    )
    assert {A, B} <= told.skipped.keys()
    assert told.error.plan == Plan((), told.route.skipped)


def test_a_gateway_that_rests_is_the_reason_of_all_its_models() -> None:
    world = World()
    world.script(A, r.error(502, "<html>", headers={"Retry-After": "30"}))
    world.ask()
    error = world.ask(fallback_models=[B], timeouts=Timeouts(total=10)).error
    assert isinstance(error, APIError)
    assert (error.code, error.status_code) == ("not_an_api", 502)
    assert str(error).startswith(
        f"{A} on {HOST}: not asked for another 30 s (gateway {HOST} rests after not_an_api): what answers there is no"
    )


def test_an_account_that_is_used_up_is_the_reason_of_all_its_free_models() -> None:
    free, other = "x/one:free", "x/two:free"
    world = World()
    world.script(free, r.error(429, message="Rate limit exceeded: free-models-per-day"))
    world.ask(model=free)
    error = world.ask(model=free, fallback_models=[other]).error
    assert isinstance(error, RateLimitError)
    assert (error.code, error.status_code) == ("free_tier_exhausted", 429)


def test_limits_that_leave_nobody_say_when_to_come_back() -> None:
    world = World(limits={f"gateway:{HOST}": Limits(requests_per_minute=120)})
    while (told := world.ask(fallback_models=[B])).error is None:
        pass
    error = told.error
    assert isinstance(error, LimitExceededError)
    assert not isinstance(error, BudgetExceededError)
    assert error.retry_after is not None
    assert 0.3 < error.retry_after <= 0.5
    used_up = f"120 requests a minute of gateway {HOST}: used up"
    assert str(error) == (f"no model may be asked now:\n  {A} on {HOST}: {used_up}\n  {B} on {HOST}: {used_up}")
