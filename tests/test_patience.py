"""How long a stream's first content is waited for while other models wait for their turn: pure core, virtual time."""

from __future__ import annotations

import pytest

from routerkit import Timeouts
from routerkit.config import settings_from
from routerkit.core.router import Router
from routerkit.errors import RouterKitError
from routerkit.testing import replies as r
from routerkit.types.request import ChatRequest
from routerkit.types.route import Route
from tests.support.virtual import VirtualGateway

A, B, C = "a/one", "b/two", "c/three"


def streamed(gateway: VirtualGateway, timeout: float, *fallbacks: str, first_token: float = 45) -> Route:
    router = Router(settings_from({}, base_url="http://127.0.0.1:1/v1", api_key="sk-test-1234567890"), gateway.runtime)
    timeouts = Timeouts(total=timeout, first_token=first_token)
    request = ChatRequest.build("Hello", model=A, fallback_models=fallbacks, timeouts=timeouts, stream=True)
    try:
        _, ended = gateway.run(router.stream(request))
    except RouterKitError as error:
        return error.route  # type: ignore[return-value]
    route: Route = ended.route
    return route


def tries(route: Route) -> list[tuple[str, str, float]]:
    return [(each.model, str(each.verdict), round(each.duration, 3)) for each in route.attempts]


def silent(*models: str) -> VirtualGateway:
    gateway = VirtualGateway()
    for model in models:
        gateway.script(model, r.stream(r.role(), *[part for _ in range(600) for part in (r.pause(1), r.comment())]))
    return gateway


def test_a_model_that_hangs_leaves_half_of_the_deadline() -> None:
    assert tries(streamed(silent(A), 30, B)) == [(A, "first_token_timeout", 15), (B, "ok", 0)]


def test_each_leaves_half_of_what_is_left_but_never_less_than_a_healthy_one_may_take() -> None:
    assert tries(streamed(silent(A, B), 60, B, C)) == [
        (A, "first_token_timeout", 30),
        (B, "first_token_timeout", 15),
        (C, "ok", 0),
    ]
    assert tries(streamed(silent(A), 15, B)) == [(A, "first_token_timeout", 10), (B, "ok", 0)]


def test_the_last_one_has_all_that_is_left() -> None:
    assert tries(streamed(silent(A), 30)) == [(A, "deadline_slow", 30)]
    assert tries(streamed(silent(A, B), 30, B)) == [(A, "first_token_timeout", 15), (B, "deadline_slow", 15)]


def test_a_short_deadline_is_not_cut_in_two() -> None:
    """A model may well take that long; the caller's impatience is no reason to ask another one."""
    assert tries(streamed(silent(A), 8, B)) == [(A, "deadline", 8)]


def test_a_clock_that_is_shorter_stands() -> None:
    assert tries(streamed(silent(A), 60, B, first_token=5))[0] == (A, "first_token_timeout", 5)


def test_silence_before_the_headers_too() -> None:
    gateway = VirtualGateway()
    gateway.script(A, r.hang())
    assert tries(streamed(gateway, 30, B)) == [(A, "first_byte_timeout", 15), (B, "ok", 0)]


@pytest.mark.parametrize("timeout", [600, 90])
def test_a_long_deadline_changes_nothing(timeout: float) -> None:
    assert tries(streamed(silent(A), timeout, B))[0] == (A, "first_token_timeout", 45)
