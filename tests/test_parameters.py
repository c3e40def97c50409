"""Request parameters: their types, what is refused, and which of them ask something of the gateway."""

from __future__ import annotations

import json
import types
from collections import UserDict, UserList
from typing import Any, get_type_hints

import pytest

import routerkit
from routerkit.errors import InvalidRequestError
from routerkit.types import parameters
from routerkit.types.gateway import FEATURES
from routerkit.types.parameters import PARAMETERS, RequestParams
from routerkit.types.request import CallOptions, ChatRequest
from routerkit.types.request import RequestParams as SamePlace

ASKED: dict[str, Any] = {
    "models": ["a/one", "b/two"],
    "plugins": [{"id": "web", "max_results": 3}],
    "provider": {"order": ["openai"], "allow_fallbacks": False, "max_price": {"prompt": "1"}},
    "reasoning": {"effort": "high", "exclude": True},
    "route": "fallback",
    "transforms": ["middle-out"],
    "usage": {"include": True},
}
"""Each of the parameters that ask something of the gateway."""


def build(params: dict[str, Any] | None = None, **more: Any) -> ChatRequest:
    return ChatRequest.build("Hello", params, **more)


def sent(request: ChatRequest) -> dict[str, Any]:
    body = json.loads(request.body("a/one"))
    assert isinstance(body, dict)
    return {name: value for name, value in body.items() if name in PARAMETERS}


# --- names ---


def test_parameters_have_one_home() -> None:
    assert SamePlace is RequestParams is routerkit.RequestParams
    assert frozenset(get_type_hints(RequestParams)) == PARAMETERS
    assert set(CallOptions.__annotations__) > PARAMETERS
    assert set(ASKED) == FEATURES < PARAMETERS


def test_every_type_can_be_resolved() -> None:
    """Documentation tools and validators read annotations at run time."""
    kinds = [each for each in vars(parameters).values() if isinstance(each, type) and hasattr(each, "__total__")]
    assert len(kinds) > 15
    for kind in kinds:
        assert get_type_hints(kind)


# --- values ---


def test_what_was_asked_of_the_gateway_is_sent_as_given() -> None:
    assert sent(build(ASKED)) == ASKED


def test_any_mapping_and_any_sequence_serves() -> None:
    request = build(
        {
            "provider": types.MappingProxyType({"sort": {"by": "price"}}),
            "reasoning": UserDict(max_tokens=5),
            "plugins": UserList([UserDict(id="web")]),
            "models": ("a/one", "b/two"),
            "usage": {},
        }
    )
    assert sent(request) == {
        "provider": {"sort": {"by": "price"}},
        "reasoning": {"max_tokens": 5},
        "plugins": [{"id": "web"}],
        "models": ["a/one", "b/two"],
        "usage": {},
    }
    assert sent(build({"models": (name for name in ("a/one", "b/two"))})) == {"models": ["a/one", "b/two"]}


def test_what_nobody_can_judge_here_passes() -> None:
    """Gateways learn new words faster than libraries."""
    params = {"provider": {"sort": "novelty", "new": 1}, "plugins": [{"id": "new"}], "route": "new", "transforms": "x"}
    assert sent(build(params)) == params
    assert sent(build({"plugins": [], "models": []})) == {"plugins": [], "models": []}


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"route": {"strategy": "cost"}}, r"route: must be 'fallback' or 'sort'; .* Client\(strategy=…\)"),
        ({"route": ["fallback"]}, "route: must be 'fallback' or 'sort'"),
        ({"models": "a/one"}, "models='a/one': must be a list of model ids"),
        ({"models": 5}, "models=5: must be a list of model ids"),
        ({"models": ["a b"]}, "model='a b': not a model id"),
        ({"models": [{"id": "a/one"}]}, "not a model id"),
        ({"provider": "openai"}, r"provider: must be a dict such as \{'order': \['anthropic'\]\}, not str"),
        ({"provider": ["openai"]}, "provider: must be a dict such as .*, not list"),
        ({"reasoning": True}, r"reasoning: must be a dict such as \{'effort': 'high'\}, not bool"),
        ({"reasoning": "high"}, "reasoning: must be a dict such as .*, not str"),
        ({"usage": True}, r"usage: must be a dict such as \{'include': True\}, not bool"),
        ({"plugins": {"id": "web"}}, r"plugins: must be a list of dicts, such as \[\{'id': 'web'\}\]"),
        ({"plugins": ["web"]}, "plugins: must be a list of dicts"),
        ({"plugins": [{"id": "web"}, None]}, "plugins: must be a list of dicts"),
        ({"plugins": "web"}, "plugins: must be a list of dicts"),
        ({"plugins": ""}, "plugins: must be a list of dicts"),
        ({"plugins": 5}, "plugins: must be a list of dicts"),
    ],
    ids=str,
)
def test_what_is_plainly_wrong_is_refused(params: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        build(params)


def test_an_extra_body_is_not_judged() -> None:
    request = build(extra_body={"route": {"strategy": "cost"}, "plugins": "web"})
    assert sent(request) == {"route": {"strategy": "cost"}, "plugins": "web"}


# --- what is asked of the gateway ---


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_each_of_them_is_noted(name: str) -> None:
    request = build({name: ASKED[name], "temperature": 0.5})
    assert request.features == {name}
    assert isinstance(request.features, frozenset)


def test_all_of_them_at_once() -> None:
    assert build(ASKED).features == FEATURES


def test_what_is_not_sent_is_not_noted() -> None:
    assert build(dict.fromkeys(FEATURES)).features == frozenset()
    assert build({"temperature": 0.5, "reasoning_effort": "high"}).features == frozenset()


def test_an_extra_body_asks_nothing_of_the_gateway() -> None:
    assert build(extra_body=ASKED).features == frozenset()
    assert build({"usage": {"include": True}}, extra_body=ASKED).features == {"usage"}


def test_without_them_nothing_is_made() -> None:
    assert build().features is build({"temperature": 0.5}).features


def test_a_continued_request_asks_the_same() -> None:
    request = build({"provider": {"order": ["openai"]}}, stream=True, on_interrupt="continue")
    continued = request.continued("So far", 2)
    assert continued is not None
    assert continued.features == {"provider"}
