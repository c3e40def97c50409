"""Dev mode's transport between several gateways: who is asked is known by the URL."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from routerkit import ConfigurationError, Fault, Gateway
from routerkit.core.effects import (
    Failure,
    HttpRequest,
    HttpResponse,
    Open,
    Send,
    Step,
    StreamResponse,
    TransportFailure,
    open_stream,
    send,
)
from routerkit.core.listing import completed, parse_catalog, parse_details
from routerkit.gateways import INFRON, OPENROUTER
from routerkit.transport.mock import MockTransport
from routerkit.types.settings import DevMode
from routerkit.types.verdict import Sent
from tests.support.drivers import MODEL

LOCAL = Gateway(name="local", base_url="http://127.0.0.1:8080/v1", prices_per=1_000_000)
GATEWAYS = (OPENROUTER, INFRON, LOCAL)


def mocked(*script: Fault, gateways: tuple[Gateway, ...] = GATEWAYS) -> MockTransport:
    return MockTransport(DevMode(script), gateways)


def result_of(transport: MockTransport, step: Step[Any]) -> Any:
    """What a step comes to that waits for nothing."""
    with pytest.raises(StopIteration) as caught:
        transport.carry(step).send(None)
    return caught.value.value


def get(transport: MockTransport, url: str) -> tuple[int, Any]:
    answer: HttpResponse = result_of(transport, send(Send(HttpRequest("GET", url, {}), 5, 5, 5, 5, 10**7)))
    assert answer.mock
    return answer.status, json.loads(answer.body)


def chat(gateway: Gateway, model: str, *, fresh: bool = False) -> HttpRequest:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    return HttpRequest("POST", gateway.chat_url, {}, body, fresh=fresh)


def ask(transport: MockTransport, gateway: Gateway, model: str = MODEL, *, fresh: bool = False) -> int | Failure:
    """The status, or how the exchange fails."""
    try:
        answer: HttpResponse = result_of(transport, send(Send(chat(gateway, model, fresh=fresh), 5, 5, 5, 5, 10**7)))
    except TransportFailure as failure:
        return failure.failure
    return answer.status


# --- pages ---


def test_every_gateway_has_the_catalogue_in_its_own_unit() -> None:
    transport = mocked()
    lists = []
    for gateway in GATEWAYS:
        status, body = get(transport, gateway.catalog_url)
        assert status == 200
        lists.append(parse_catalog(body, per=gateway.prices_per)[0])
    assert len(lists[0]) > 10
    for models in lists:
        assert [(model.id, model.pricing) for model in models] == [(model.id, model.pricing) for model in lists[0]]
    million = {entry["id"]: entry["pricing"] for entry in get(transport, LOCAL.catalog_url)[1]["data"]}
    assert Decimal(million["openai/gpt-4o"]["prompt"]) == Decimal("2.5")
    assert million["openai/gpt-5.2"]["web_search"] == "0.01"


def test_a_second_list_says_the_same_in_its_own_words() -> None:
    transport = mocked()
    assert INFRON.details_url is not None
    status, body = get(transport, INFRON.details_url)
    details, dropped = parse_details(body)
    listed, _ = parse_catalog(get(transport, INFRON.catalog_url)[1], per=INFRON.prices_per)
    assert (status, dropped) == (200, 0)
    for detail, model in zip(details, listed, strict=True):
        assert (detail.id, detail.name, detail.context_length) == (model.id, model.name, model.context_length)
        assert (detail.pricing.prompt, detail.pricing.completion) == (model.pricing.prompt, model.pricing.completion)
        assert detail.input_modalities == model.input_modalities
        assert detail.output_modalities == model.output_modalities
        assert detail.max_completion_tokens == model.max_completion_tokens
    free = {model.id for model in details if model.pricing.prompt == 0}
    assert free == {model.id for model in listed if model.id.endswith(":free")}
    assert [(model.id, model.pricing) for model in completed(listed, details)] == [
        (model.id, model.pricing) for model in listed
    ]


def test_the_key_and_the_account() -> None:
    transport = mocked()
    status, key = get(transport, "https://openrouter.ai/api/v1/key")
    assert status == 200
    assert key["data"]["label"] == "dev mode"
    assert key["data"]["limit"] is None
    assert key["data"]["usage"] == 0
    assert key["data"]["is_free_tier"] is False
    assert get(transport, "https://openrouter.ai/api/v1/credits") == (
        200,
        {"data": {"total_credits": 0, "total_usage": 0}},
    )


@pytest.mark.parametrize("url", [f"{INFRON.base_url}/key", f"{LOCAL.base_url}/credits", "https://other.test/v1/models"])
def test_nothing_is_where_no_gateway_tells_it(url: str) -> None:
    status, body = get(mocked(), url)
    assert status == 404
    assert body["error"]["code"] == 404


# --- faults of one gateway ---


def test_a_fault_meets_its_gateway_only() -> None:
    transport = mocked(Fault(gateway="infron", status=503, times=2))
    assert [ask(transport, gateway) for gateway in (OPENROUTER, INFRON, LOCAL, INFRON, INFRON)] == [
        200,
        503,
        200,
        503,
        200,
    ]


def test_a_fault_of_one_model_at_one_gateway() -> None:
    transport = mocked(Fault(gateway="infron", model="a/one", status=500, times=9))
    assert ask(transport, INFRON, "b/two") == 200
    assert ask(transport, OPENROUTER, "a/one") == 200
    assert ask(transport, INFRON, "a/one") == 500


def test_a_fault_without_a_gateway_meets_whichever_is_next() -> None:
    transport = mocked(Fault(status=500, times=2))
    assert [ask(transport, gateway) for gateway in GATEWAYS] == [500, 500, 200]


def test_a_gateway_that_is_gone_for_all_models() -> None:
    transport = mocked(Fault(gateway="openrouter", network="refused", times=99))
    assert [ask(transport, OPENROUTER, model) for model in ("a/one", "b/two")] == [Failure.CONNECT] * 2
    assert [ask(transport, INFRON, model) for model in ("a/one", "b/two")] == [200] * 2
    with pytest.raises(TransportFailure) as caught:
        result_of(transport, open_stream(Open(chat(OPENROUTER, MODEL), 5, 5, 5)))
    assert (caught.value.failure, caught.value.sent) == (Failure.CONNECT, Sent.NOT_SENT)
    answer: StreamResponse = result_of(transport, open_stream(Open(chat(INFRON, MODEL), 5, 5, 5)))
    assert (answer.status, answer.mock) == (200, True)


def test_the_second_connection_of_an_attempt_is_to_the_same_gateway() -> None:
    transport = mocked(Fault(gateway="openrouter", network="dns"))
    assert ask(transport, OPENROUTER) is Failure.RESOLVE
    assert ask(transport, INFRON, fresh=True) == 200
    assert ask(transport, OPENROUTER, fresh=True) is Failure.RESOLVE
    assert ask(transport, OPENROUTER) == 200


def test_gateways_at_one_url_cannot_be_told_apart() -> None:
    twin = Gateway(name="twin", base_url=LOCAL.base_url)
    transport = mocked(Fault(gateway="twin", status=500), Fault(gateway="local", status=502), gateways=(LOCAL, twin))
    assert [ask(transport, LOCAL) for _ in range(3)] == [500, 502, 200]


def test_a_fault_of_a_gateway_that_is_not_there() -> None:
    with pytest.raises(
        ConfigurationError, match="dev_script: gateway='nobody': must be one of openrouter, infron, local"
    ):
        mocked(Fault(gateway="nobody", status=500))
