"""Which models are asked."""

from __future__ import annotations

from typing import Any

import click
import pytest

from routerkit import APIConnectionError, RateLimitError
from routerkit.cli.probe.choice import choose, split
from routerkit.cli.probe.sweep import Question
from routerkit.testing import network_fault, replies
from routerkit.testing.replies import catalog_model
from routerkit.types.route import Target
from tests.cli.probe.clock import run
from tests.cli.probe.rig import HERE, ONE, THERE, TWO, Rig

IMAGES = {"input_modalities": ["text"], "output_modalities": ["image"]}
ROUTER = {"prompt": "-1", "completion": "-1"}


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.transport.at(ONE).catalog = [
        catalog_model("open/gpt", context_length=9_000, pricing={"prompt": "0", "completion": "0"}),
        catalog_model("open/gpt-mini", context_length=8_000),
        catalog_model("open/draws", context_length=7_000, architecture=IMAGES),
        catalog_model("Close/Claude", context_length=6_000),
        catalog_model("some/router", context_length=5_000, pricing=ROUTER),
    ]
    return made


def asked(rig: Rig, *names: str, **filters: Any) -> list[str]:
    return [each.target.model for each in rig.choose(*names, **filters).asked]


def test_of_the_catalogue_those_that_fit_the_prompt(rig: Rig) -> None:
    choice = rig.choose()
    assert [each.target.model for each in choice.asked] == ["open/gpt", "open/gpt-mini", "Close/Claude"]
    assert choice.left_out == (
        ("does not give text", 1),
        ("a router, not a model; it is asked when it is named", 1),
    )
    assert (choice.listed, choice.found) == (5, 5)


def test_the_filters_of_the_catalogue(rig: Rig) -> None:
    assert asked(rig, free=True) == ["open/gpt"]
    assert asked(rig, search="GPT", min_context=8_500) == ["open/gpt"]


def test_who_is_named_exactly_is_asked_all_the_same_in_that_order(rig: Rig) -> None:
    assert asked(rig, "some/router", "open/draws", "open/gpt") == ["some/router", "open/draws", "open/gpt"]


def test_patterns_find_what_fits(rig: Rig) -> None:
    assert asked(rig, "open/*") == ["open/gpt", "open/gpt-mini"]
    assert asked(rig, "*claude", "open/gpt-mini") == ["open/gpt-mini", "Close/Claude"]
    assert asked(rig, "open/gpt", "open/*") == ["open/gpt", "open/gpt-mini"]
    assert asked(rig, "open/*", free=True) == ["open/gpt"]


def test_names_with_commas() -> None:
    assert split(["a/b, c/d,", "a/b", "e/*"]) == ("a/b", "c/d", "e/*")


def test_a_name_that_no_catalogue_knows_is_an_error_that_helps(rig: Rig) -> None:
    with pytest.raises(click.UsageError, match=r"open/gtp: no catalogue lists it; near it: open/gpt, open/gpt-mini"):
        rig.choose("open/gtp")
    with pytest.raises(click.UsageError, match=r"zzz: no catalogue lists it$"):
        rig.choose("zzz")


@pytest.mark.parametrize(
    ("names", "filters", "told"),
    [
        (["x/*"], {}, r"--models x/\*: none of 5 models matches"),
        (["open/d*"], {}, "the filters leave 5 of 5, and none of them fits the prompt .1 does not give text"),
        ([], {"search": "nothing"}, "the filters leave 0 of 5"),
        (["open/gpt-mini"], {"free": True}, "the filters leave 1 of 5"),
    ],
)
def test_when_nothing_is_left_it_says_why(rig: Rig, names: list[str], filters: dict[str, Any], told: str) -> None:
    with pytest.raises(click.UsageError, match=told):
        rig.choose(*names, **filters)


def test_without_a_catalogue_only_who_is_named_can_be_asked() -> None:
    rig = Rig()
    rig.transport.at(ONE).catalog = replies.error(500)
    assert asked(rig, "some/model") == ["some/model"]
    with pytest.raises(click.UsageError):
        rig.choose("some/model", free=True)
    rig.transport.at(ONE).catalog = network_fault("refused")
    with pytest.raises(APIConnectionError):
        rig.choose()


def test_a_model_is_asked_wherever_it_is_listed_or_nobody_knows() -> None:
    rig = Rig(urls=(ONE, TWO))
    rig.catalogue("a/one", "b/two")
    rig.catalogue("a/one", "c/three", at=TWO)
    assert [each.target for each in rig.choose("a/one", "c/three").asked] == [
        Target(HERE, "a/one"),
        Target(THERE, "a/one"),
        Target(THERE, "c/three"),
    ]
    rig.transport.at(TWO).catalog = replies.error(500)
    choice = rig.choose("a/one", "c/three")
    assert [each.target for each in choice.asked] == [
        Target(HERE, "a/one"),
        Target(THERE, "a/one"),
        Target(THERE, "c/three"),
    ]
    assert choice.unread == (f"the catalogue of {THERE} could not be read: server_error",)


def test_the_settings_own_models_and_strategy_play_no_part(rig: Rig) -> None:
    rig.options = {"default_model": "x/default", "fallback_models": ["y/z"], "catalog_fallback": False}
    assert asked(rig) == ["open/gpt", "open/gpt-mini", "Close/Claude"]


def test_who_is_only_resting_is_asked_later(rig: Rig) -> None:
    rig.script("open/gpt", replies.error(429, headers={"Retry-After": "60"}))

    async def work() -> list[str]:
        async with rig.client() as client:
            with pytest.raises(RateLimitError):
                await client.complete("Hi", model="open/gpt", fallback_models=[], timeout=5)
            choice = await choose(client, Question(prompt="Hi"), (), {})
            return [each.target.model for each in choice.asked]

    rig.options = {"catalog_fallback": False}
    assert run(work()) == ["open/gpt-mini", "Close/Claude", "open/gpt"]
