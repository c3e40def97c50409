"""Every scenario through the pure core in virtual time and through both facades over real sockets: one trace."""

from __future__ import annotations

import pytest

from routerkit import RouterKitError
from routerkit.config import settings_from
from routerkit.core.router import Router
from routerkit.types.request import ChatRequest
from tests.support.facades import KEY, check, expected
from tests.support.scenarios import SCENARIOS, Ask, Scenario, Trace
from tests.support.virtual import VirtualGateway


@pytest.fixture(params=SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def scenario(request: pytest.FixtureRequest) -> Scenario:
    value: Scenario = request.param
    return value


def test_pure_core(scenario: Scenario) -> None:
    gateway = VirtualGateway()
    for model, answers in scenario.answers.items():
        gateway.script(model, *answers)
    gateway.catalog = scenario.catalog
    router = Router(settings_from({}, base_url="http://127.0.0.1:1/v1", api_key=KEY), gateway.runtime)
    assert [in_core(gateway, router, ask) for ask in scenario.asks] == [expected(ask) for ask in scenario.asks]
    assert not gateway.open


def in_core(gateway: VirtualGateway, router: Router, ask: Ask) -> Trace:
    request = ChatRequest.build(
        "Hello",
        ask.params,
        model=ask.model,
        fallback_models=ask.fallback_models,
        extra_body=None,
        extra_headers=None,
        timeouts=ask.timeouts,
        stream=ask.stream,
    )
    try:
        if not ask.stream:
            _, answer = gateway.run(router.complete(request))
            return Trace.of(answer, answer.route, answer.text)
        chunks, ended = gateway.run(router.stream(request))
    except RouterKitError as error:
        return Trace.failed(error)
    text = "".join(chunk.text for chunk in chunks)
    assert ended.completion().text == text
    return Trace.of(ended.completion(), ended.route, text)


def test_both_facades(scenario: Scenario) -> None:
    check(scenario)
