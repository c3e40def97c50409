"""Several gateways of one client: which model is asked where, what moves a call on to the next gateway, what each gateway gets.

Here the core alone, in virtual time; both facades over sockets in `tests/test_gateways_facades.py`.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from routerkit import gateways
from routerkit.core.catalog_index import Query
from routerkit.errors import (
    AllModelsFailedError,
    APIConnectionError,
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    InternalServerError,
    InvalidRequestError,
    NoEligibleModelError,
)
from routerkit.testing import replies as r
from routerkit.types.gateway import Gateway
from routerkit.types.policy import Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.route import Origin, Plan, Skip, Target
from tests.support.core import A, B, C, World, asking

FIRST = Gateway(name="first", base_url="http://127.0.0.1:1/v1")
SECOND = Gateway(name="second", base_url="http://127.0.0.1:2/v1")
FREE = {"prompt": "0", "completion": "0"}
LISTED = {"data": [r.catalog_model(A)]}
KEYS = {"first": "sk-first-1234567890", "second": "sk-second-123456789"}


class Two(World):
    """Two gateways; `gateway.at(FIRST.base_url)` is the first's script."""

    def __init__(self, *more: Gateway, **settings: Any) -> None:
        super().__init__(**{"gateways": [FIRST, SECOND, *more], "api_key": KEYS, **settings})
        self.first, self.second = self.gateway.at(FIRST.base_url), self.gateway.at(SECOND.base_url)

    @property
    def asked(self) -> list[str]:
        return [f"{name} {model}" for name, each in self.each for model in each.models_asked]

    @property
    def each(self) -> list[tuple[str, Any]]:
        return [("first", self.first), ("second", self.second)]

    def plan(self, **more: Any) -> list[str]:
        return [str(each.target) for each in self.router.named(asking(**more)).targets]


def trace(told: Any) -> list[str]:
    return [f"{attempt.target} {attempt.verdict}" for attempt in told.route.attempts]


# --- the plan ---


def test_each_model_is_asked_on_each_gateway_before_the_next_model() -> None:
    plan = Two().router.named(asking(fallback_models=(B,)))
    assert [(str(each.target), each.reason) for each in plan.targets] == [
        ("a/one on first", "requested by the call, on first"),
        ("a/one on second", "requested by the call, on second"),
        ("b/two on first", "fallback 1, on first"),
        ("b/two on second", "fallback 1, on second"),
    ]


def test_an_alias_gives_a_models_id_on_each_gateway() -> None:
    world = Two(aliases={"smart": {"first": A, "second": "one@latest"}, B: {"second": None}})
    plan = world.router.named(asking(model="smart", fallback_models=(B,)))
    assert [(str(each.target), each.reason) for each in plan.targets] == [
        ("a/one on first", "requested by the call, on first as a/one"),
        ("one@latest on second", "requested by the call, on second as one@latest"),
        ("b/two on first", "fallback 1, on first"),
    ]
    assert plan.skipped == (Skip(Target("second", B), Origin.FALLBACK, "aliases: not on second"),)


def test_an_alias_may_have_the_gateways_prefix() -> None:
    world = known(
        "openrouter", "infron", aliases={"smart": {"openrouter": "openrouter/a/one", "infron": "infron/one@latest"}}
    )
    plan = world.router.named(asking(model="smart"))
    assert [each.model for each in plan.targets] == ["a/one", "one@latest"]


def test_an_alias_serves_a_single_gateway_too() -> None:
    world = World(aliases={"smart": {"127.0.0.1:1": A}})
    (only,) = world.router.named(asking(model="smart")).targets
    assert (only.model, only.reason) == (A, "requested by the call as a/one")


def test_two_names_of_one_target_are_one_place_in_the_plan() -> None:
    world = Two(aliases={"smart": {"first": A, "second": A}})
    plan = world.router.named(asking(model="smart", fallback_models=(A,)))
    assert [str(each.target) for each in plan.targets] == ["a/one on first", "a/one on second"]
    assert {skip.reason for skip in plan.skipped} == {
        "fallback 1, on first, but it is in the plan already",
        "fallback 1, on second, but it is in the plan already",
    }


def known(*names: str, **settings: Any) -> World:
    return World(gateways=list(names), api_key=dict.fromkeys(names, "sk-test-1234567890"), **settings)


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        ("openai/gpt-4o", ["openai/gpt-4o on openrouter", "openai/gpt-4o on infron"]),
        ("gpt-4@latest", ["gpt-4@latest on infron"]),
        ("gpt-4", ["gpt-4 on infron"]),
        ("openrouter/openai/gpt-4o", ["openai/gpt-4o on openrouter"]),
        ("infron/gpt-4@latest", ["gpt-4@latest on infron"]),
        ("infron/openai/gpt-4o", ["openai/gpt-4o on infron"]),
        ("openrouter/auto", ["openrouter/auto on openrouter", "openrouter/auto on infron"]),
        ("openrouter/openrouter/auto", ["openrouter/auto on openrouter"]),
    ],
)
def test_an_id_goes_where_it_fits(model: str, targets: list[str]) -> None:
    plan = known("openrouter", "infron").router.named(asking(model=model))
    assert [str(each.target) for each in plan.targets] == targets


@pytest.mark.parametrize(
    ("aliases", "model", "targets"),
    [
        ({"infron": "gpt-4@latest"}, "infron/gpt-4", ["gpt-4@latest on infron: as gpt-4@latest"]),
        ({"openrouter": "openai/gpt-4"}, "infron/gpt-4", ["gpt-4 on infron:"]),
        ({"infron": None}, "infron/gpt-4", []),
    ],
    ids=["its id there", "of no concern", "not there"],
)
def test_the_alias_table_holds_for_a_prefixed_id_too(aliases: Any, model: str, targets: list[str]) -> None:
    plan = known("openrouter", "infron", aliases={"gpt-4": aliases}).router.named(asking(model=model))
    told = [f"{each.target}:{each.reason.removeprefix('requested by the call')}" for each in plan.targets]
    assert told == targets
    assert [skip.reason for skip in plan.skipped] == ([] if targets else ["aliases: not on infron"])


def test_the_alias_table_may_name_a_prefixed_id() -> None:
    """Configurations of other libraries have the prefix everywhere."""
    world = known(
        "infron", "openrouter", "onerouter", aliases={"openrouter/openai/gpt-4o": {"infron": "gpt-4o@latest"}}
    )
    plan = world.router.named(asking(model="openrouter/openai/gpt-4o"))
    assert [(str(each.target), each.reason) for each in plan.targets] == [
        ("gpt-4o@latest on infron", "requested by the call, on infron as gpt-4o@latest"),
        ("openai/gpt-4o on openrouter", "requested by the call, on openrouter as openai/gpt-4o"),
    ]
    assert plan.skipped == ()


def test_gateways_of_one_prefix_are_all_asked() -> None:
    """Whatever the id looks like: the prefix says where it is."""
    again = attrs.evolve(gateways.OPENROUTER, name="again", base_url="https://again.example/v1")
    keys = dict.fromkeys(("infron", "openrouter", "again"), "sk-test-1234567890")
    plan = World(gateways=["infron", "openrouter", again], api_key=keys).router.named(
        asking(model="openrouter/openai/gpt-4o@1")
    )
    assert [(str(each.target), each.reason) for each in plan.targets] == [
        ("openai/gpt-4o@1 on openrouter", "requested by the call, on openrouter"),
        ("openai/gpt-4o@1 on again", "requested by the call, on again"),
    ]


def test_a_prefix_is_no_part_of_the_reason() -> None:
    (only,) = known("openrouter", "infron").router.named(asking(model="infron/gpt-4")).targets
    assert only.reason == "requested by the call"


def test_an_id_that_does_not_fit_a_gateway_says_so() -> None:
    (skip,) = known("openrouter", "infron").router.named(asking(model="gpt-4@latest")).skipped
    assert skip.reason == "not an id of OpenRouter (author/slug), and aliases= has none"


def test_a_single_gateway_is_asked_for_any_id() -> None:
    assert [each.model for each in known("openrouter").router.named(asking(model="gpt-4@latest")).targets] == [
        "gpt-4@latest"
    ]


def test_a_single_gateway_is_asked_for_any_id_whatever_aliases_there_are() -> None:
    world = World(gateways=["openrouter"], api_key="sk-test-1234567890", aliases={"smart": {"openrouter": A}})
    (only,) = world.router.named(asking(model="gpt-4@latest")).targets
    assert (only.model, only.reason) == ("gpt-4@latest", "requested by the call")


# --- what moves on ---


def test_a_gateway_that_goes_away_is_left_for_the_next_one() -> None:
    world = Two()
    world.first.script(A, "refused")
    told = world.ask(fallback_models=(B,))
    assert told.gives == "Hello from a/one"
    assert trace(told) == ["a/one on first connect_failed", "a/one on second ok"]
    assert told.answer is not None
    assert told.answer.gateway == "second"


def test_not_one_more_model_is_asked_on_a_gateway_that_failed() -> None:
    world = Two()
    world.first.default = r.html()
    world.second.script(A, r.error(500))
    told = world.ask(fallback_models=(B,))
    assert trace(told) == ["a/one on first not_an_api", "a/one on second server_error", "b/two on second ok"]
    assert told.skipped == {B: "its gateway failed"}


def test_a_stream_moves_on_before_its_first_content() -> None:
    world = Two()
    world.first.script(A, "refused")
    told = world.ask(stream=True)
    assert (told.gives, told.delivered) == ("Hello from a/one", "Hello from a/one")
    assert trace(told) == ["a/one on first connect_failed", "a/one on second ok"]


def test_a_models_failure_moves_to_the_same_model_elsewhere() -> None:
    world = Two()
    world.first.script(A, r.error(500))
    assert trace(world.ask(fallback_models=(B,))) == ["a/one on first server_error", "a/one on second ok"]


def test_a_refused_key_leaves_its_gateway_for_the_next() -> None:
    world = Two()
    world.first.default = r.error(401)
    told = world.ask(fallback_models=(B,))
    assert trace(told) == ["a/one on first authentication", "a/one on second ok"]
    assert trace(world.ask()) == ["a/one on second ok"], "the key rests"


def test_keys_refused_everywhere_are_one_error_of_that_kind() -> None:
    world = Two()
    world.first.default = world.second.default = r.error(401)
    told = world.ask(fallback_models=(B,))
    assert isinstance(told.error, AuthenticationError)
    assert trace(told) == ["a/one on first authentication", "a/one on second authentication"]


def test_every_gateway_away_is_one_error_that_tells_of_each() -> None:
    world = Two()
    world.first.default = world.second.default = r.html()
    told = world.ask()
    assert isinstance(told.error, AllModelsFailedError)
    assert "a/one on first" in str(told.error)
    assert "a/one on second" in str(told.error)


def test_errors_of_the_request_are_not_repeated_elsewhere() -> None:
    world = Two()
    world.first.script(A, r.error(400))
    assert trace(world.ask()) == ["a/one on first invalid_request"]
    assert world.second.requests == []


def test_an_open_gateway_breaker_leaves_the_other_alone() -> None:
    world = Two()
    for _ in range(5):
        world.first.script(A, "refused")
        world.ask()
    world.runtime.now += 0.01
    told = world.ask()
    assert trace(told) == ["a/one on second ok"]
    assert told.skipped == {A: "the breaker of gateway first is open"}


# --- what each gateway gets ---


def test_each_gateway_gets_its_own_key_and_headers() -> None:
    titled = Gateway(name="second", base_url=SECOND.base_url, title_header="X-Title", usage_parameter=True)
    world = World(gateways=[FIRST, titled], api_key=KEYS, app_title="Example", app_url="https://example.com")
    first, second = world.gateway.at(FIRST.base_url), world.gateway.at(SECOND.base_url)
    first.script(A, r.error(500))
    world.ask()
    (one,), (two,) = first.chat_requests, second.chat_requests
    assert one.header("content-type") == two.header("content-type") == "application/json"
    assert one.header("authorization") == f"Bearer {KEYS['first']}"
    assert two.header("authorization") == f"Bearer {KEYS['second']}"
    assert (one.header("x-title"), two.header("x-title")) == (None, "Example")
    assert one.header("http-referer") == two.header("http-referer") == "https://example.com"
    assert ("usage" in one.json, two.json.get("usage")) == (False, {"include": True})


def test_a_bare_key_is_the_first_gateways() -> None:
    world = World(gateways=[FIRST, SECOND], api_key="sk-first-1234567890")
    second = world.gateway.at(SECOND.base_url)
    world.gateway.at(FIRST.base_url).script(A, r.error(500))
    world.ask()
    (request,) = second.chat_requests
    assert request.header("authorization") is None


# --- features ---


def without(*features: str) -> Gateway:
    return Gateway(name="second", base_url=SECOND.base_url, label="Second", features=features)


def test_a_gateway_that_lacks_a_feature_is_left_out() -> None:
    world = World(gateways=[without("usage"), FIRST], api_key=KEYS)
    told = world.ask(provider={"sort": "price"})
    assert trace(told) == ["a/one on first ok"]
    assert told.skipped == {A: "Second does not know provider"}


def test_a_feature_that_no_gateway_has_is_refused() -> None:
    world = World(gateways=[without("usage")], api_key=None)
    with pytest.raises(InvalidRequestError, match="Second does not know plugins, provider") as caught:
        world.router.check(
            ChatRequest.build("Hi", {"provider": {"sort": "price"}, "plugins": [{"id": "web"}]}, model=A)
        )
    assert "extra_body" in str(caught.value)


def test_each_gateway_says_what_it_lacks() -> None:
    world = Two(gateways=[attrs.evolve(FIRST, features=["models"]), without("usage")])
    with pytest.raises(InvalidRequestError, match=r"^first does not know provider; Second does not know provider\. "):
        world.router.check(asking(provider={"sort": "price"}))


def test_what_goes_through_extra_body_is_sent_whatever_is_known() -> None:
    world = World(gateways=[without()], api_key=None)
    request = ChatRequest.build("Hi", {}, model=A, fallback_models=(), extra_body={"provider": {"sort": "price"}})
    world.router.check(request)
    world.gateway.run(world.router.complete(request))
    (sent,) = world.gateway.chat_requests
    assert sent.json["provider"] == {"sort": "price"}


def test_the_catalogue_of_a_gateway_without_the_feature_is_not_drawn() -> None:
    world = World(gateways=[without(), FIRST], api_key=None)
    world.gateway.at(SECOND.base_url).catalog = [r.catalog_model(C, pricing=FREE)]
    world.gateway.at(FIRST.base_url).catalog = [r.catalog_model(B, pricing=FREE)]
    plan = world.gateway.run(
        world.router.explain(asking(model=None, fallback_models=None, provider={"sort": "price"}))
    )[1]
    assert [str(each.target) for each in plan.targets] == ["b/two on first"]


def test_nor_is_one_of_its_models_asked_when_the_catalogue_is_in_memory() -> None:
    world = World(gateways=[without(), FIRST], api_key=None)
    world.gateway.at(SECOND.base_url).catalog = [r.catalog_model(C, pricing=FREE)]
    world.gateway.at(FIRST.base_url).catalog = [r.catalog_model(B, pricing=FREE)]
    world.read_catalog()
    told = world.ask(model=None, fallback_models=None, provider={"sort": "price"})
    assert trace(told) == ["b/two on first ok"]


def test_server_side_fallbacks_are_one_model_of_ours() -> None:
    world = Two()
    world.first.script(A, r.error(500))
    told = world.ask(fallback_models=(B,), models=[A, C])
    assert trace(told) == ["a/one on first server_error", "a/one on second ok"]
    assert world.first.chat_requests[0].json["models"] == [A, C]


def test_each_gateway_is_given_the_servers_fallbacks_by_its_own_names() -> None:
    smart: dict[str, str | None] = {"first": A, "second": "one@latest"}
    pinned = Gateway(name="first", base_url=FIRST.base_url, id_prefix="first/")
    world = Two(gateways=[pinned, SECOND], aliases={"smart": smart, "quick": {"second": None}})
    world.first.script(A, r.error(500))
    world.ask(model="smart", models=["smart", "quick", "first/x/y", B, A])
    world.ask(model=C, models=["first/x/y"])
    world.second.script(B, r.completion())
    assert [each.json["models"] for each in world.first.chat_requests] == [[A, "quick", "x/y", B], ["x/y"]]
    (request,) = world.second.chat_requests
    assert (request.json["model"], request.json["models"]) == ("one@latest", ["one@latest", B, A])


def test_where_none_of_the_servers_fallbacks_is_there_none_is_given() -> None:
    world = Two(aliases={B: {"second": None}})
    world.first.script(A, r.error(500))
    world.ask(models=[B], stream=True)
    (request,) = world.second.chat_requests
    assert "models" not in request.json
    assert request.json["stream"] is True


def test_fallbacks_of_an_extra_body_are_sent_as_they_are() -> None:
    world = Two(aliases={B: {"first": C}})
    request = ChatRequest.build("Hi", {"models": [B]}, model=A, fallback_models=(), extra_body={"models": [B, 5]})
    world.gateway.run(world.router.complete(request))
    assert world.first.chat_requests[0].json["models"] == [B, 5]


def test_the_first_of_the_servers_fallbacks_is_asked_when_no_model_is_named() -> None:
    world = World()
    told = world.ask(model=None, fallback_models=None, models=[B, C])
    assert told.attempts == ["b/two 200 ok"]
    assert [each.reason for each in world.router.named(asking(model=None, models=[B])).targets] == [
        "the first of models="
    ]


@pytest.mark.parametrize("models", [[], "a/one", [5], {"first": A}, None, 5])
def test_a_list_for_the_server_without_a_first_names_nothing(models: Any) -> None:
    request = ChatRequest.build("Hi", {}, extra_body={"models": models})
    assert World().router.named(request) == Plan()


def test_nor_is_the_catalogue_drawn_after_what_the_server_chose_among() -> None:
    world = World()
    world.catalog(r.catalog_model("x/free:free", pricing=FREE))
    world.read_catalog()
    world.script(A, r.error(404))
    told = world.ask(models=[A, C])
    assert told.attempts == [f"{A} 404 model_not_found"]
    assert told.skipped == {}


def test_what_the_server_chooses_among_is_no_plan_of_ours() -> None:
    world = World()
    world.catalog(A, B, C)
    plan = world.gateway.run(world.router.explain(asking(models=[A, B], allow_any_price=True)))[1]
    assert [each.model for each in plan.targets] == [A]


# --- catalogues ---


def test_the_catalogue_is_that_of_all_gateways() -> None:
    world = Two()
    world.first.catalog, world.second.catalog = [r.catalog_model(A)], [r.catalog_model(A), r.catalog_model(B)]
    _, models = world.gateway.run(world.router.models(Timeouts()))
    assert [(model.id, model.gateway) for model in models] == [(A, "first"), (A, "second"), (B, "second")]
    _, found = world.gateway.run(world.router.model(B, Timeouts()))
    assert found.gateway == "second"
    _, chosen = world.gateway.run(world.router.models(Timeouts(), Query.of(search=B)))
    assert [(model.id, model.gateway) for model in chosen] == [(B, "second")]
    with pytest.raises(InvalidRequestError, match=f"model='{C}': not in the catalogue of first or second$"):
        world.gateway.run(world.router.model(C, Timeouts()))


def test_a_list_that_a_key_may_not_have_now_is_asked_for_with_the_next() -> None:
    """A 429 is the key's, as far as anybody knows."""
    world = World(api_key=["sk-one-1234567890", "sk-two-1234567890"])
    world.gateway.catalog = r.choose(
        lambda request: r.error(429) if "one" in str(request.header("authorization")) else r.json_body(LISTED)
    )
    _, models = world.gateway.run(world.router.models(Timeouts()))
    assert [model.id for model in models] == [A]
    assert world.gateway.catalog_requests == 2


def test_a_gateway_whose_catalogue_cannot_be_had_does_not_hide_the_others() -> None:
    world = Two()
    world.first.catalog, world.second.catalog = r.error(500), [r.catalog_model(B)]
    _, models = world.gateway.run(world.router.models(Timeouts()))
    assert [model.id for model in models] == [B]
    _, found = world.gateway.run(world.router.model(B, Timeouts()))
    assert found.gateway == "second"
    plan: Plan = world.gateway.run(world.router.explain(asking()))[1]
    assert plan.skipped[-1].reason.startswith("could not be read")


def test_when_no_catalogue_can_be_had_the_first_error_says_why() -> None:
    world = Two()
    world.first.catalog, world.second.catalog = r.error(503), r.error(500)
    with pytest.raises(InternalServerError, match=r"the catalogue on first: .* \(HTTP 503\)"):
        world.gateway.run(world.router.models(Timeouts()))


def test_each_catalogue_has_its_share_of_the_time() -> None:
    world = Two()
    world.first.catalog, world.second.catalog = r.hang(), [r.catalog_model(B)]
    began = world.runtime.now
    _, models = world.gateway.run(world.router.models(Timeouts(total=20)))
    assert [model.id for model in models] == [B]
    assert world.runtime.now - began == pytest.approx(10, abs=0.2)


def test_and_the_last_one_all_that_is_left() -> None:
    world = Two()
    world.first.catalog = world.second.catalog = r.hang()
    began = world.runtime.now
    with pytest.raises(DeadlineExceededError):
        world.gateway.run(world.router.models(Timeouts(total=20)))
    assert world.runtime.now - began == pytest.approx(20, abs=0.2)


def test_the_last_resort_is_the_catalogue_of_all_that_did_not_fail() -> None:
    world = Two()
    world.first.default = r.html()
    world.first.catalog = [r.catalog_model("x/never", pricing=FREE, context_length=10**6)]
    world.second.script(A, r.error(500))
    world.second.catalog = [r.catalog_model(A), r.catalog_model(C, pricing=FREE)]
    told = world.ask()
    assert trace(told) == ["a/one on first not_an_api", "a/one on second server_error", "c/three on second ok"]
    assert world.first.catalog_requests == 0


# --- configuration ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gateways": []}, "gateways: must be a list"),
        ({"gateways": "openrouter"}, "gateways: must be a list"),
        ({"gateways": [FIRST, FIRST]}, "gateways: 'first' is there twice"),
        ({"gateways": [FIRST], "gateway": "openrouter"}, "excludes gateway= and base_url="),
        ({"gateways": ["nowhere"]}, "gateway='nowhere' is not known"),
        (
            {"gateways": [FIRST], "api_key": {"second": "sk-test-1234567890"}},
            "has a key for 'second', which is not among first",
        ),
        ({"gateways": ["openrouter", "infron"], "api_key": "sk-test-1234567890"}, "Infron AI API key not configured"),
        ({"gateways": [FIRST], "aliases": {A: {"second": B}}}, "aliases: 'a/one' has an id for 'second'"),
        ({"gateways": [FIRST], "aliases": {A: B}}, "aliases: must be a dict"),
        ({"gateways": [FIRST], "aliases": {A: {"first": "no id"}}}, "not a model id"),
    ],
)
def test_what_cannot_be_configured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        World(**options)


def test_an_address_alone_is_a_gateway_too() -> None:
    world = World(gateways=["http://127.0.0.1:1/v1", SECOND], api_key=None)
    assert [gateway.name for gateway in world.settings.gateways] == ["127.0.0.1:1", "second"]
    assert gateways.OPENROUTER.features is not None


def test_an_address_serves_where_a_name_does() -> None:
    gateway = World(gateways=None, gateway=FIRST.base_url, base_url=None, api_key=None).settings.gateway
    assert (gateway.name, gateway.base_url) == ("127.0.0.1:1", FIRST.base_url)


@pytest.mark.parametrize("url", ["https://openrouter.ai/api/v1", " https://OpenRouter.ai/api/v1/ "])
def test_the_address_of_a_known_gateway_is_that_gateway(url: str) -> None:
    assert gateways.at(url) is gateways.known(url) is gateways.OPENROUTER
    assert gateways.at("https://openrouter.ai/v1").name == "openrouter.ai"


def test_no_model_that_fits_any_gateway() -> None:
    told = World(gateways=["openrouter"], api_key="sk-test-1234567890", aliases={A: {"openrouter": None}}).ask()
    assert isinstance(told.error, NoEligibleModelError)
    assert not isinstance(told.error, APIConnectionError)
    assert "aliases: not on openrouter" in str(told.error)
