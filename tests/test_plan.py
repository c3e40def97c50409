"""Which models a call may try, in which order and why, on a share of OpenRouter's real catalogue."""

from __future__ import annotations

import datetime
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from routerkit.core.catalog import Snapshot
from routerkit.core.listing import parse_catalog
from routerkit.core.plan import from_catalog, named, unreadable
from routerkit.core.pricing import within
from routerkit.errors import DeadlineExceededError, InternalServerError, RouterKitError
from routerkit.gateways import OPENROUTER
from routerkit.testing.replies import catalog_model
from routerkit.types.gateway import Gateway
from routerkit.types.model import Model, Pricing
from routerkit.types.policy import Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.route import Origin, Plan, Skip, Target
from routerkit.types.settings import Settings

DATA = Path(__file__).parent / "data" / "openrouter-models.json"
CAPTURED = datetime.datetime(2026, 1, 29, 12, tzinfo=datetime.timezone.utc).timestamp()
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    models, dropped = parse_catalog(json.loads(DATA.read_text()))
    assert dropped == 0
    return catalogue(*models)


def catalogue(*models: Model) -> Snapshot:
    return Snapshot(models, {model.id: model for model in models}, 0, 3600)


def request(
    messages: Any = "Hello", *, stream: bool = False, allow_any_price: bool = False, **more: Any
) -> ChatRequest:
    model, fallbacks = more.pop("model", None), more.pop("fallback_models", None)
    return ChatRequest.build(
        messages,
        more,
        model=model,
        fallback_models=fallbacks,
        extra_body=None,
        extra_headers=None,
        timeouts=Timeouts(),
        stream=stream,
        allow_any_price=allow_any_price,
    )


def settings(default: str | None = None, *fallbacks: str) -> Settings:
    return Settings(OPENROUTER, default_model=default, fallback_models=fallbacks)


def reasons(plan: Plan) -> list[tuple[str, str, str]]:
    return [(each.model, str(each.origin), each.reason) for each in plan.targets]


def skips(plan: Plan) -> dict[str, str]:
    return {skip.model: skip.reason for skip in plan.skipped}


def drawn(snapshot: Snapshot, asked: ChatRequest, *names: str, wall: float = CAPTURED) -> Plan:
    """The catalogue's share of a plan in which these are named."""
    return from_catalog({"openrouter": snapshot}, asked, (Target("openrouter", name) for name in names), wall)


def ids(plan: Plan) -> list[str]:
    return [each.model for each in plan.targets]


def test_a_prefix_is_taken_off_once() -> None:
    gateway = Gateway(name="first", base_url="http://127.0.0.1:1/v1", id_prefix="first/")
    for aliases, asked in ({}, "first/x"), ({"first/first/x": {"first": "first/first/y"}}, "first/y"):
        settings = Settings(gateways=(gateway,), aliases=aliases)
        request = ChatRequest.build("Hello", model="first/first/x", fallback_models=())
        assert [each.model for each in named(settings, request).targets] == [asked]


# --- what is named ---


def test_requested_then_default_then_fallbacks() -> None:
    plan = named(settings("b/two", "c/three", "d/four"), request(model="a/one"))
    assert reasons(plan) == [
        ("a/one", "requested", "requested by the call"),
        ("b/two", "default", "the default model"),
        ("c/three", "fallback", "fallback 1"),
        ("d/four", "fallback", "fallback 2"),
    ]
    assert plan.skipped == ()
    assert {each.gateway for each in plan.targets} == {"openrouter"}


def test_each_model_once() -> None:
    plan = named(settings("a/one", "b/two", "a/one", "b/two"), request(model="a/one"))
    assert reasons(plan) == [("a/one", "requested", "requested by the call"), ("b/two", "fallback", "fallback 1")]
    assert [(skip.model, str(skip.origin), skip.reason) for skip in plan.skipped] == [
        ("a/one", "default", "the default model, but it is in the plan already"),
        ("a/one", "fallback", "fallback 2, but it is in the plan already"),
        ("b/two", "fallback", "fallback 3, but it is in the plan already"),
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["b/two", "c/three"]),
        ({"model": "a/one"}, ["a/one", "b/two", "c/three"]),
        ({"fallback_models": ["x/y"]}, ["b/two", "x/y"]),
        ({"model": "a/one", "fallback_models": []}, ["a/one", "b/two"]),
    ],
)
def test_the_calls_fallbacks_replace_the_clients(asked: dict[str, Any], expected: list[str]) -> None:
    assert ids(named(settings("b/two", "c/three"), request(**asked))) == expected


def test_nothing_named() -> None:
    assert named(settings(), request()) == Plan()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"model": "a/one"}, ["a/one"]),
        ({}, ["b/two"]),
        ({"model": "a/one", "fallback_models": ["d/four"]}, ["a/one"]),
    ],
)
def test_a_list_for_the_gateway_leaves_no_fallbacks_of_our_own(asked: dict[str, Any], expected: list[str]) -> None:
    assert ids(named(settings("b/two", "c/three"), request(models=["x/y", "y/z"], **asked))) == expected


def test_a_list_for_the_gateway_does_not_begin_with_a_fallback_of_ours() -> None:
    plan = named(settings(None, "c/three"), request(models=["x/y", "y/z"]))
    assert reasons(plan) == [("x/y", "requested", "the first of models=")]


def test_a_plan_can_be_read() -> None:
    plan = named(settings("a/one", "b/two"), request(model="a/one"))
    assert str(plan) == (
        "1. a/one on openrouter: requested by the call\n"
        "2. b/two on openrouter: fallback 1\n"
        "-  a/one on openrouter: the default model, but it is in the plan already"
    )


# --- the catalogue ---


def test_the_largest_context_comes_first(snapshot: Snapshot) -> None:
    plan = drawn(snapshot, request(allow_any_price=True))
    sizes = [snapshot.by_id[model].context_length or 0 for model in ids(plan)]
    assert sizes == sorted(sizes, reverse=True)
    assert ids(plan)[0] == "x-ai/grok-4.1-fast"
    assert plan.targets[0].reason == "from the catalogue: fits, context 2000000 tokens"
    assert {str(each.origin) for each in plan.targets} == {"catalog"}


def test_a_context_that_nobody_knows_comes_last() -> None:
    models = [Model("a/a"), Model("b/b", context_length=1), Model("c/c"), Model("d/d", context_length=9)]
    plan = drawn(catalogue(*models), request("?", allow_any_price=True))
    assert ids(plan) == ["d/d", "b/b", "a/a", "c/c"]
    assert plan.targets[-1].reason == "from the catalogue: fits, context unknown"


def test_what_was_named_does_not_come_again(snapshot: Snapshot) -> None:
    plan = drawn(snapshot, request(), "anthropic/claude-sonnet-4.5", "openai/gpt-4o")
    seen = {*ids(plan), *skips(plan)}
    assert seen == snapshot.by_id.keys() - {"anthropic/claude-sonnet-4.5", "openai/gpt-4o"}


@pytest.mark.parametrize(
    ("params", "content", "dear"),
    [
        ({}, "Hello", False),
        ({"plugins": [{"id": "web"}]}, "Hello", True),
        ({"web_search_options": {}}, "Hello", True),
        ({}, [{"type": "text", "text": "what?"}], False),
        ({}, [IMAGE], True),
        ({}, [{"type": "input_audio", "input_audio": {}}], True),
        ({"modalities": ["text", "image"]}, "Draw", True),
        ({"modalities": ["text", "audio"]}, "Speak", True),
    ],
)
def test_only_what_the_request_can_incur_is_compared(params: dict[str, Any], content: Any, dear: bool) -> None:
    named = catalog_model("a/named", pricing={"prompt": "2", "completion": "2"})
    other = catalog_model(
        "b/other",
        supported_parameters=["web_search_options"],
        architecture={
            "input_modalities": ["text", "image", "audio"],
            "output_modalities": params.get("modalities", []),
        },
        pricing={"prompt": "1", "completion": "1", "web_search": "5", "image": "5", "audio": "5"},
    )
    models, _ = parse_catalog({"data": [named, other]})
    snapshot = Snapshot(tuple(models), {model.id: model for model in models}, 0.0, 1.0)
    asked = ChatRequest.build([{"role": "user", "content": content}], params)
    plan = drawn(snapshot, asked, "a/named")
    assert (skips(plan).get("b/other") == "dearer than the models named") is dear
    assert (ids(plan) == ["b/other"]) is not dear
    assert [skip.origin for skip in plan.skipped] == [Origin.CATALOG] * dear


def test_without_a_name_only_free_models(snapshot: Snapshot) -> None:
    plan = drawn(snapshot, request())
    assert ids(plan)
    assert all(model.endswith(":free") for model in ids(plan))
    assert skips(plan)["openai/gpt-4o"] == "not free, and no model was named to compare with"
    assert skips(plan)["openrouter/auto"] == "a router, not a model; it is asked when it is named"


def test_nothing_dearer_than_the_dearest_named(snapshot: Snapshot) -> None:
    plan = drawn(snapshot, request(), "openai/gpt-4o-mini", "openai/gpt-4o")
    ceiling = snapshot.by_id["openai/gpt-4o"].pricing
    assert "openai/gpt-oss-120b" in ids(plan)
    for model in ids(plan):
        assert within(snapshot.by_id[model].pricing, [ceiling], ["prompt", "completion", "request"]), model
    left_out = skips(plan)
    assert left_out["anthropic/claude-opus-4.5"] == "dearer than the models named"
    assert left_out["perplexity/sonar"] == "dearer than the models named", "it costs per request"
    assert left_out["openrouter/auto"] == "a router, not a model; it is asked when it is named"


def test_a_free_model_named_allows_free_models_only(snapshot: Snapshot) -> None:
    for name in ("openai/gpt-oss-120b:free", "openai/gpt-4o:free"):
        plan = drawn(snapshot, request(), name)
        assert all(model.endswith(":free") for model in ids(plan))
        assert "openai/gpt-oss-120b" in skips(plan)


def test_a_variant_is_as_dear_as_its_model(snapshot: Snapshot) -> None:
    plan = drawn(snapshot, request(), "openai/gpt-4o:nitro")
    assert "openai/gpt-oss-120b" in ids(plan)
    assert "openai/gpt-4o" in ids(plan)
    assert "openai/gpt-4o:extended" in skips(plan)


def test_a_name_that_the_catalogue_does_not_know(snapshot: Snapshot) -> None:
    plan = drawn(snapshot, request(), "my/own")
    assert all(model.endswith(":free") for model in ids(plan))
    assert skips(plan)["openai/gpt-4o"] == "not free, and the price of the models named is unknown"


def test_a_price_that_is_unknown_is_not_taken_for_a_low_one() -> None:
    dear = Model("a/named", pricing=pricing(prompt="9", completion="9"))
    half = Model("b/half", pricing=pricing(prompt="1"))
    assert skips(drawn(catalogue(dear, half), request(), "a/named")) == {"b/half": "its price is unknown"}


def test_any_price(snapshot: Snapshot) -> None:
    plan = drawn(snapshot, request(allow_any_price=True), "openai/gpt-oss-120b")
    assert "anthropic/claude-opus-4.5" in ids(plan)


@pytest.mark.parametrize(
    ("asked", "fits", "lacks", "reason"),
    [
        (
            request([{"role": "user", "content": [IMAGE]}], allow_any_price=True),
            "openai/gpt-4o",
            "openai/gpt-oss-120b",
            "does not take image",
        ),
        (
            request("x" * 300_000, allow_any_price=True),
            "openai/gpt-4o",
            "mistralai/mistral-7b-instruct-v0.1",
            "its context of 2824 tokens is too small for about 100000",
        ),
        (
            request("x", modalities=["image", "text"], allow_any_price=True),
            "openai/gpt-5-image",
            "openai/gpt-4o",
            "does not give image",
        ),
    ],
    ids=["image", "context", "image out"],
)
def test_guards(snapshot: Snapshot, asked: ChatRequest, fits: str, lacks: str, reason: str) -> None:
    plan = drawn(snapshot, asked)
    assert fits in ids(plan)
    assert skips(plan)[lacks] == reason


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"tools": [{}]}, "tools"),
        ({"response_format": {"type": "json_schema"}}, "structured_outputs"),
        ({"logprobs": True}, "logprobs"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
    ],
)
def test_every_model_drawn_supports_what_is_asked(snapshot: Snapshot, params: dict[str, Any], word: str) -> None:
    plan = drawn(snapshot, request(allow_any_price=True, **params))
    assert ids(plan)
    for model in snapshot.models:
        if {*model.output_modalities} > {"text"} or model.id.startswith("openrouter/"):
            assert model.id not in ids(plan)
            continue
        fits = word in model.supported_parameters
        assert fits == (model.id in ids(plan)), model.id
        if not fits:
            assert word in skips(plan)[model.id]


def test_nobody_gets_a_router_or_more_than_was_asked_for_unless_by_name(snapshot: Snapshot) -> None:
    plan = drawn(snapshot, request(allow_any_price=True))
    assert skips(plan)["openrouter/auto"] == "a router, not a model; it is asked when it is named"
    assert skips(plan)["openai/gpt-audio-mini"] == "gives audio, which was not asked for"
    assert "openai/gpt-audio-mini" in ids(drawn(snapshot, request(allow_any_price=True, modalities=["text", "audio"])))


def test_models_expire(snapshot: Snapshot) -> None:
    later = CAPTURED + 7 * 86_400
    assert "deepcogito/cogito-v2-preview-llama-70b" in ids(drawn(snapshot, request(allow_any_price=True)))
    plan = drawn(snapshot, request(allow_any_price=True), wall=later)
    assert skips(plan)["deepcogito/cogito-v2-preview-llama-70b"] == "expired on 2026-02-04"


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="no time zones to set")
def test_it_is_the_same_day_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    midnight = datetime.datetime(2026, 1, 30, tzinfo=datetime.timezone.utc).timestamp()
    models = catalogue(Model("a/a", expiration_date="2026-01-30"))
    with monkeypatch.context() as patch:
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
            patch.setenv("TZ", zone)
            time.tzset()
            assert ids(drawn(models, request(allow_any_price=True), wall=midnight - 1)) == ["a/a"]
            assert ids(drawn(models, request(allow_any_price=True), wall=midnight)) == []
    time.tzset()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InternalServerError("x", code="overloaded"), "could not be read: overloaded"),
        (DeadlineExceededError("x"), "could not be read: no time left"),
    ],
)
def test_a_catalogue_that_could_not_be_had(error: RouterKitError, reason: str) -> None:
    assert unreadable(OPENROUTER, error) == Skip(Target("openrouter", "the catalogue"), Origin.CATALOG, reason)


# --- ceilings ---


def pricing(**more: str) -> Pricing:
    return Pricing(**{name: Decimal(value) for name, value in more.items()})


@pytest.mark.parametrize(
    ("price", "ceilings", "expected"),
    [
        (pricing(prompt="1", completion="1"), [pricing(prompt="1", completion="1")], True),
        (pricing(prompt="1", completion="2"), [pricing(prompt="2", completion="1")], False),
        (
            pricing(prompt="1", completion="2"),
            [pricing(prompt="2", completion="1"), pricing(prompt="1", completion="2")],
            True,
        ),
        (
            pricing(prompt="2", completion="2"),
            [pricing(prompt="1", completion="3"), pricing(prompt="3", completion="1")],
            False,
        ),
        (pricing(prompt="0", completion="0", request="1"), [pricing(prompt="1", completion="1")], False),
        (pricing(prompt="0", completion="0", request="1"), [pricing(prompt="1", completion="1", request="1")], True),
        (
            pricing(prompt="1", completion="5"),
            [pricing(prompt="1", completion="5", internal_reasoning="3")],
            False,
        ),
        (
            pricing(prompt="1", completion="3", internal_reasoning="4"),
            [pricing(prompt="1", completion="5")],
            True,
        ),
        (pricing(prompt="0"), [pricing(prompt="1", completion="1")], False),
        (pricing(prompt="0", completion="0"), [pricing(prompt="1")], False),
        (pricing(prompt="0", completion="0"), [], False),
    ],
)
def test_no_component_may_be_dearer_than_in_one_ceiling(
    price: Pricing, ceilings: list[Pricing], expected: bool
) -> None:
    assert within(price, ceilings) is expected
