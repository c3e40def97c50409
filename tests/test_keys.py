"""Several keys of one gateway: each attempt takes the least loaded, and a key that is refused rests alone."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from routerkit.core.effects import Failure, TransportFailure
from routerkit.core.health import Admission
from routerkit.core.keys import Key, by_load, ring
from routerkit.errors import AuthenticationError, InternalServerError, InvalidRequestError, PaymentRequiredError
from routerkit.gateways import OPENROUTER
from routerkit.testing import network_fault
from routerkit.testing import replies as r
from routerkit.types.gateway import Gateway
from routerkit.types.policy import RetryPolicy, Timeouts
from routerkit.types.secret import Secret
from routerkit.types.verdict import Sent
from tests.support.core import HOST, A, B, World, asking, doing, target

ONE, TWO, THREE = "sk-one-1234567890", "sk-two-1234567890", "sk-three-1234567890"
NAMES = {key: f"…{Secret(key).fingerprint}" for key in (ONE, TWO, THREE)}

RESERVED = {"error": {"code": 402, "metadata": {"limit_source": "openrouter_in_flight_budget"}}}


def keyed(*keys: str, **settings: Any) -> World:
    return World(api_key=[*(keys or (ONE, TWO))], **settings)


def used(world: World) -> list[str]:
    """The keys of the chat requests."""
    return [str(request.header("authorization")).removeprefix("Bearer ") for request in world.gateway.chat_requests]


def refusing(*keys: str, status: int = 401, **more: Any) -> r.Reply:
    """Refuses these keys and answers others."""

    def chosen(request: Any) -> r.Reply:
        key = str(request.header("authorization")).removeprefix("Bearer ")
        return r.error(status, **more) if key in keys else r.completion("Fine")

    return r.choose(chosen)


# --- the choice ---


def test_calls_in_a_row_take_turns() -> None:
    world = keyed(ONE, TWO, THREE)
    for _ in range(6):
        world.ask()
    assert used(world) == [ONE, TWO, THREE, ONE, TWO, THREE]


def test_the_key_with_the_least_to_do_is_taken() -> None:
    world = keyed(ONE, TWO, THREE)
    keys = world.router.access[HOST].keys
    got = [world.router.health.admit(target(A), keys, lease=10, stream=False) for _ in range(4)]
    held = [each for each in got if isinstance(each, Admission)]
    assert [each.key.in_flight for each in held] == [2, 1, 1, 2]
    held[2].release()
    held[2].release()
    assert [key.in_flight for key in by_load(keys)] == [0, 1, 2]
    following = world.router.health.admit(target(A), keys, lease=10, stream=False)
    assert isinstance(following, Admission)
    assert following.key is held[2].key


def test_an_attempt_gives_its_key_back_once() -> None:
    world = keyed()
    first, second = world.router.access[HOST].keys
    got = [world.router.health.admit(target(A), [first], lease=10, stream=False) for _ in range(2)]
    for _ in range(2):
        assert isinstance(got[0], Admission)
        got[0].release()
    assert (first.in_flight, second.in_flight) == (1, 0)


def test_a_key_is_in_use_until_its_stream_has_ended() -> None:
    world = keyed()
    first, second = world.router.access[HOST].keys
    step = world.router.stream(asking(stream=True))
    effect = step.send(None)
    while type(effect).__name__ != "Deliver":
        effect = step.send(world.gateway._performed(effect, []))
    assert (first.in_flight, second.in_flight) == (1, 0)
    world.gateway._unwind(step)
    assert (first.in_flight, second.in_flight) == (0, 0)


def test_a_key_is_given_back_whatever_becomes_of_the_attempt() -> None:
    world = keyed()
    world.script(A, r.error(500), "refused", r.html(), r.completion())
    for stream in (False, True):
        for _ in range(3):
            world.ask(stream=stream, fallback_models=(B,))
            world.runtime.now += 100
    assert [key.in_flight for key in world.router.access[HOST].keys] == [0, 0]


def test_in_a_forked_child_no_attempt_is_under_way() -> None:
    world = keyed()
    keys = world.router.access[HOST].keys
    got = world.router.health.admit(target(A), keys, lease=10, stream=False)
    assert isinstance(got, Admission)
    assert keys[0].in_flight == 1
    world.router.forked()
    assert keys[0].in_flight == 0
    got.release()
    assert keys[0].in_flight == 0, "what the parent began is not ours to end"


def test_names_of_keys() -> None:
    assert [key.name for key in ring(OPENROUTER, [Secret(ONE), Secret(TWO)])] == [NAMES[ONE], NAMES[TWO]]
    assert [key.name for key in ring(OPENROUTER, [Secret(ONE)])] == [""]
    assert [key.name for key in ring(OPENROUTER, [Secret(ONE), Secret(ONE)])] == [NAMES[ONE], f"{NAMES[ONE]} 2"]
    assert ONE not in repr(ring(OPENROUTER, [Secret(ONE)]))
    assert {key.owner for key in (Key(None, OPENROUTER), *ring(OPENROUTER, [Secret(ONE)]))} == {""}


# --- keys that are refused ---


@pytest.mark.parametrize(
    ("status", "more", "code", "seconds"),
    [
        (401, {}, "authentication", 60),
        (402, {}, "payment_required", 300),
        (429, {"code": "insufficient_quota"}, "insufficient_quota", 300),
    ],
)
def test_a_key_that_is_refused_rests_alone(status: int, more: dict[str, Any], code: str, seconds: float) -> None:
    world = keyed()
    world.gateway.default = refusing(ONE, status=status, **more)
    told = world.ask()
    assert told.gives == "Fine"
    assert told.attempts == [f"{A} {status} {code}", f"{A} 200 ok"]
    for _ in range(3):
        assert world.ask().attempts == [f"{A} 200 ok"]
    assert used(world) == [ONE, TWO, TWO, TWO, TWO]
    assert world.router.health.cooldowns() == {f"the key of {HOST} ({NAMES[ONE]})": pytest.approx(seconds, abs=0.1)}
    world.runtime.now += seconds
    world.ask()
    assert used(world)[-2:] == [ONE, TWO], "it has its turn again"


def test_a_rate_limit_is_the_keys_as_far_as_anybody_knows() -> None:
    world = keyed()
    world.gateway.default = refusing(ONE, status=429)
    told = world.ask(fallback_models=(B,))
    assert told.attempts == [f"{A} 429 rate_limited", f"{A} 200 ok"]
    assert told.waits == []
    assert world.router.health.cooldowns() == {f"{A} on {HOST} ({NAMES[ONE]})": pytest.approx(5, abs=0.1)}
    world.ask(model=B)
    assert used(world)[-2:] == [ONE, TWO], "for another model it may serve"


def test_capacity_that_is_exhausted_is_the_models() -> None:
    world = keyed()
    world.script(A, r.json_body({"error": {"code": 429, "availability": {"code": "capacity_exhausted"}}}, 429))
    told = world.ask(fallback_models=(B,))
    assert told.attempts == [f"{A} 429 capacity_exhausted", f"{B} 200 ok"]


def test_keys_that_are_all_refused_fail_the_call_with_their_own_error() -> None:
    world = keyed()
    world.gateway.default = r.error(401)
    told = world.ask(fallback_models=(B,))
    assert isinstance(told.error, AuthenticationError)
    assert told.attempts == [f"{A} 401 authentication"] * 2
    again = world.ask(fallback_models=(B,))
    assert isinstance(again.error, AuthenticationError)
    assert again.attempts == []
    assert again.error.retry_after == pytest.approx(60, abs=0.2), "the first to be back"


def test_a_call_makes_no_more_attempts_for_having_more_keys() -> None:
    keys = [f"sk-key-{number}-1234567890" for number in range(10)]
    world = World(api_key=keys)
    world.gateway.default = r.error(402)
    told = world.ask()
    assert isinstance(told.error, PaymentRequiredError)
    assert len(told.attempts) == 4


def test_free_models_that_are_used_up_with_one_key_are_asked_with_the_other() -> None:
    world = keyed()
    free = "a/one:free"
    world.gateway.default = refusing(ONE, status=429, message="Rate limit exceeded: free-models-per-day")
    told = world.ask(model=free)
    assert told.attempts == [f"{free} 429 free_tier_exhausted", f"{free} 200 ok"]
    assert [*world.router.health.cooldowns()] == [f"the key of {HOST} ({NAMES[ONE]}) (free models)"]


def test_a_call_does_not_go_round_in_circles_over_its_keys() -> None:
    """The refusal leaves no cooldown: the gateway says that credit is reserved, and not for how long."""
    world = keyed(ONE, TWO, THREE, retry=RetryPolicy(max_attempts=10))
    world.gateway.default = r.json_body(RESERVED, 402)
    told = world.ask()
    assert told.attempts == [f"{A} 402 in_flight_budget"] * 4
    assert used(world) == [ONE, TWO, THREE, ONE]
    assert len(told.waits) == 1, "each key once, and one more time after a wait"


@pytest.mark.parametrize("refusal", [r.json_body(RESERVED, 402), r.error(429)])
def test_a_connection_that_was_closed_leads_back_to_no_key_that_was_refused(refusal: r.Reply) -> None:
    world = keyed()
    stale = network_fault(TransportFailure(Failure.DISCONNECTED, Sent.MAYBE, reused=True))
    world.script(A, refusal, stale, r.completion("Fine"))
    told = world.ask()
    assert (told.gives, told.waits) == ("Fine", [])
    assert used(world) == [ONE, TWO, TWO]


def test_where_all_were_refused_and_waited_for_the_same_is_taken_again() -> None:
    world = keyed()
    stale = network_fault(TransportFailure(Failure.DISCONNECTED, Sent.MAYBE, reused=True))
    limited = r.error(429, headers={"Retry-After": "3"})
    world.script(A, limited, limited, stale, r.completion("Fine"))
    told = world.ask()
    assert (told.gives, told.waits) == ("Fine", [3.15])
    assert used(world) == [ONE, TWO, ONE, ONE]


def test_after_a_failure_of_another_kind_no_key_is_used_that_was_refused() -> None:
    world = keyed()
    world.script(A, r.json_body(RESERVED, 402), r.error(409), r.completion("Fine"))
    assert world.ask().gives == "Fine"
    assert used(world) == [ONE, TWO, TWO]


def test_a_key_that_rests_does_not_close_the_gateway_for_those_that_do_not() -> None:
    """The model itself rests as long, for both: which of them is looked at first says nothing of the catalogue."""
    world = keyed()
    world.catalog(r.catalog_model("x/free:free", pricing={"prompt": "0", "completion": "0"}))
    world.gateway.default = refusing(ONE)
    world.ask(model=B)
    world.script(A, r.error(503, headers={"Retry-After": "200"}))
    assert world.ask().attempts == [f"{A} 503 overloaded", "x/free:free 200 ok"]
    _, plan = world.gateway.run(world.router.explain(asking()))
    assert [each.model for each in plan.targets] == ["x/free:free"]
    assert world.ask().attempts == ["x/free:free 200 ok"]


def test_the_one_probe_that_a_call_has_goes_on_with_the_next_key() -> None:
    world = keyed()
    world.trip(A)
    world.script(A, r.error(401), r.completion("Fine"))
    told = world.ask()
    assert told.attempts == [f"{A} 401 authentication", f"{A} 200 ok"]
    assert used(world) == [ONE, TWO]


def test_unless_somebody_else_has_it_by_then() -> None:
    world = keyed()
    world.trip(A)
    breaker = world.router.health.breaker(HOST, A)
    others = doing(lambda: breaker.force_open(world.runtime.now), r.error(401))
    world.script(A, others, r.completion("Fine"))
    assert world.ask().attempts == [f"{A} 401 authentication"]


@pytest.mark.parametrize("keys", [(ONE,), (ONE, TWO), (ONE, TWO, THREE)])
def test_a_call_with_many_keys_has_as_much_patience_as_with_one(keys: tuple[str, ...]) -> None:
    world = keyed(*keys)
    world.script(A, *[r.error(429, headers={"Retry-After": "30"}) for _ in keys], r.completion("Fine"))
    told = world.ask()
    assert told.attempts == [f"{A} 429 rate_limited"] * len(keys) + [f"{A} 200 ok"]
    assert told.waits == [30.5]
    assert used(world) == [*keys, ONE]


@pytest.mark.parametrize(("first", "second"), [("5", "500"), ("500", "5")])
def test_it_waits_for_the_key_that_is_back_first(first: str, second: str) -> None:
    world = keyed()
    hints = [r.error(429, headers={"Retry-After": seconds}) for seconds in (first, second)]
    world.script(A, *hints, r.completion("Fine"))
    told = world.ask()
    assert (told.gives, told.waits) == ("Fine", [5.25])
    assert used(world) == [ONE, TWO, ONE if first == "5" else TWO]


def test_a_key_without_a_time_to_come_back_shortens_no_wait() -> None:
    world = keyed()
    world.script(A, r.json_body(RESERVED, 402), r.json_body(RESERVED, 402, {"Retry-After": "30"}), r.completion("Fine"))
    told = world.ask()
    assert (told.gives, told.waits) == ("Fine", [30.5])


def test_each_model_may_be_asked_with_each_key() -> None:
    world = keyed()
    world.script(A, r.error(429))
    world.script(B, refusing(ONE, status=429))
    told = world.ask(fallback_models=(B,))
    assert told.waits == []
    assert told.attempts == [
        f"{A} 429 rate_limited",
        f"{A} 429 rate_limited",
        f"{B} 429 rate_limited",
        f"{B} 200 ok",
    ]
    assert used(world) == [ONE, TWO, ONE, TWO]


def test_a_key_that_rests_does_not_stand_in_for_another() -> None:
    world = keyed()
    world.gateway.default = refusing(ONE)
    world.ask()
    world.gateway.default = r.error(401)
    told = world.ask()
    assert isinstance(told.error, AuthenticationError)
    assert told.attempts == [f"{A} 401 authentication"]
    assert used(world) == [ONE, TWO, TWO]


def test_at_most_once_is_no_reason_not_to_try_the_other_key() -> None:
    """A refusal is proof that nothing was processed."""
    world = keyed(retry=RetryPolicy(at_most_once=True))
    world.gateway.default = refusing(ONE)
    assert world.ask().attempts == [f"{A} 401 authentication", f"{A} 200 ok"]


def test_what_a_gateway_repeats_of_the_key_that_asked_is_left_out() -> None:
    """Also of a key that looks like any other word."""
    world = keyed("swordfish", "crocodile")
    world.gateway.default = r.choose(
        lambda request: r.error(400, message=f"{str(request.header('authorization'))[7:]} may not do that")
    )
    for _ in range(2):
        told = world.ask()
        assert "<redacted> may not do that" in str(told.error)
        assert told.route.attempts[0].detail == "<redacted> may not do that"
    assert used(world) == ["swordfish", "crocodile"]


def test_three_models_limited_with_one_key_mean_that_key() -> None:
    world = keyed()
    world.gateway.default = refusing(ONE, status=429)
    for model in ("a/one", "b/two", "c/three"):
        world.router.access[HOST].keys[1].turn += 10  # the first has its turn
        assert world.ask(model=model).gives == "Fine"
    assert f"the key of {HOST} ({NAMES[ONE]})" in world.router.health.cooldowns()
    assert world.ask(model="d/four").attempts == ["d/four 200 ok"]


# --- the catalogue ---


def listing(world: World) -> list[str]:
    """The keys with which the catalogue is asked for."""
    world.read_catalog()
    asked = [request for request in world.gateway.requests if request.method == "GET"]
    return [str(request.header("authorization")).removeprefix("Bearer ") for request in asked]


def catalogue_for(*keys: str) -> r.Reply:
    def chosen(request: Any) -> r.Reply:
        key = str(request.header("authorization")).removeprefix("Bearer ")
        return r.json_body({"data": [r.catalog_model(A)]}) if key in keys else r.error(401)

    return r.choose(chosen)


def test_the_catalogue_is_asked_for_with_the_first_key() -> None:
    world = keyed()
    world.catalog(A)
    assert listing(world) == [ONE]


def test_and_with_the_next_when_the_first_is_refused() -> None:
    world = keyed(ONE, TWO, THREE)
    world.gateway.catalog = catalogue_for(THREE)
    assert listing(world) == [ONE, TWO, THREE]


def test_but_not_with_a_key_that_rests() -> None:
    world = keyed()
    world.gateway.default = refusing(ONE)
    world.ask()
    world.catalog(A)
    assert listing(world) == [TWO]


def test_when_all_keys_rest_with_the_first() -> None:
    """The list may be anybody's."""
    world = keyed()
    world.gateway.default = r.error(401)
    world.ask()
    world.catalog(A)
    assert listing(world) == [ONE]


def test_a_catalogue_that_fails_is_not_asked_for_with_every_key() -> None:
    world = keyed()
    world.gateway.catalog = r.error(500)
    with pytest.raises(InternalServerError):
        listing(world)
    assert world.gateway.catalog_requests == 1


# --- what gateways tell of keys ---


def telling(**settings: Any) -> World:
    first = Gateway(name="silent", base_url="http://127.0.0.1:1/v1")
    second = Gateway(name="telling", base_url="http://127.0.0.1:2/v1", key_path="/key", credits_path="/credits")
    world = World(gateways=[first, second], **{"api_key": {"silent": ONE, "telling": [TWO, THREE]}, **settings})
    there = world.gateway.at(second.base_url)
    there.route("GET", "/key", r.json_body({"data": {"label": "mine", "limit": 5}}))
    there.route("GET", "/credits", r.json_body({"data": {"total_credits": 10, "total_usage": 2.5}}))
    return world


def info(world: World, **which: Any) -> Any:
    return world.gateway.run(world.router.key_info(Timeouts(), **which))[1]


def test_the_first_gateway_that_tells_is_asked_about_its_first_key() -> None:
    told = info(telling())
    assert (told.gateway, told.fingerprint, told.balance) == ("telling", Secret(TWO).fingerprint, Decimal("7.5"))


def test_which_key_is_said_by_its_fingerprint() -> None:
    for name in (NAMES[THREE], NAMES[THREE][1:]):  # as cooldowns show it, and bare
        assert info(telling(), key=name).fingerprint == Secret(THREE).fingerprint


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ({"gateway": "elsewhere"}, "gateway='elsewhere': not among silent, telling"),
        ({"gateway": "silent"}, "gateway='silent': it tells nothing about keys"),
        ({"gateway": ["silent"]}, "gateway=a list: not among silent, telling"),
        ({"key": 5}, "key=5: must be the fingerprint of a key"),
        (
            {"key": "abcdef"},
            f"the key of telling: key= is the fingerprint of none; there are {NAMES[TWO][1:]}, {NAMES[THREE][1:]}",
        ),
    ],
)
def test_keys_of_which_nothing_is_told(which: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        info(telling(), **which)
    assert str(caught.value).startswith(told)


def test_a_gateway_without_a_key_has_none_to_tell_of() -> None:
    with pytest.raises(InvalidRequestError, match="the key of telling: it has none"):
        info(telling(api_key=ONE))


def test_dev_mode_tells_of_the_key_that_it_does_not_need() -> None:
    assert info(telling(api_key=None, dev_mode=True)).fingerprint == ""
