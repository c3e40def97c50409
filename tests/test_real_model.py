"""From end to end: a real model behind llama.cpp's own server answers when the two models before it do not.

llama.cpp does not look at the name of the model, so a fault server stands in front of it, refuses the first two names and hands
on everything else byte for byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias

import pytest

from routerkit import AsyncClient, Chunk, Client, Completion, ContextLengthExceededError, Model
from routerkit.testing import FaultServer, replies
from tests.support.real_model import CONTEXT, MISSING, MODEL, llama_server, relay

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

GONE, DOWN = "gone/model", "down/model"
QUESTION = "Say hello."
SHORT: dict[str, Any] = {"max_tokens": 8, "temperature": 0, "seed": 1}


@pytest.fixture(scope="module")
def llama() -> Iterator[int]:
    with llama_server() as port:
        yield port


@pytest.fixture
def front(llama: int) -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.script(GONE, replies.error(404, message=f"The model {GONE} does not exist", code="model_not_found"))
        server.script(DOWN, replies.error(503))
        server.default = server.catalog = relay(llama)
        yield server


# Each call through both facades.

Streamed: TypeAlias = tuple[list[Chunk], Completion]


class Sync:
    def __init__(self, base_url: str, **options: Any) -> None:
        self._options = {"base_url": base_url, **options}

    def complete(self, prompt: str, **params: Any) -> Completion:
        with Client(**self._options) as client:
            return client.complete(prompt, **params)

    def stream(self, prompt: str, **params: Any) -> Streamed:
        with Client(**self._options) as client, client.stream(prompt, **params) as stream:
            return list(stream), stream.completion

    def models(self) -> list[Model]:
        with Client(**self._options) as client:
            return client.models()


class Async:
    def __init__(self, base_url: str, **options: Any) -> None:
        self._options = {"base_url": base_url, **options}

    def complete(self, prompt: str, **params: Any) -> Completion:
        return self._run(lambda client: client.complete(prompt, **params))

    def stream(self, prompt: str, **params: Any) -> Streamed:
        async def read(client: AsyncClient) -> Streamed:
            async with client.stream(prompt, **params) as stream:
                return [chunk async for chunk in stream], stream.completion

        return self._run(read)

    def models(self) -> list[Model]:
        return self._run(lambda client: client.models())

    def _run(self, use: Callable[[AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            async with AsyncClient(**self._options) as client:
                return await use(client)

        return asyncio.run(main())


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest, front: FaultServer) -> Sync | Async:
    facade: Sync | Async = request.param(front.url, default_model=GONE, fallback_models=[DOWN, MODEL])
    return facade


def check(answer: Completion) -> None:
    assert answer.text.strip()
    assert answer.model == MODEL
    assert answer.finish_reason == "length"
    assert answer.usage.completion_tokens == SHORT["max_tokens"]
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.cost is None
    tried = [(each.model, each.status, str(each.verdict)) for each in answer.route.attempts]
    assert tried == [(GONE, 404, "model_not_found"), (DOWN, 503, "overloaded"), (MODEL, 200, "ok")]


def test_the_third_model_answers(ask: Sync | Async, front: FaultServer) -> None:
    check(ask.complete(QUESTION, **SHORT))
    assert front.models_asked == [GONE, DOWN, MODEL]


def test_the_third_model_answers_as_a_stream(ask: Sync | Async) -> None:
    chunks, whole = ask.stream(QUESTION, **SHORT)
    check(whole)
    texts = [chunk.text for chunk in chunks if chunk.text]
    assert len(texts) > 1
    assert whole.text == "".join(texts)
    assert whole.message.role == "assistant"


def test_both_facades_and_both_ways_give_the_same_answer(front: FaultServer) -> None:
    clients = [kind(front.url, default_model=MODEL) for kind in (Sync, Async)]
    texts = {client.complete(QUESTION, **SHORT).text for client in clients}
    texts |= {client.stream(QUESTION, **SHORT)[1].text for client in clients}
    assert len(texts) == 1


@pytest.mark.parametrize("way", ["complete", "stream"])
def test_a_prompt_too_long_for_its_context(ask: Sync | Async, front: FaultServer, way: str) -> None:
    with pytest.raises(ContextLengthExceededError) as caught:
        getattr(ask, way)("word " * 2 * CONTEXT, model=MODEL, fallback_models=[], **SHORT)
    assert caught.value.status_code == 400
    assert caught.value.error_type == "exceed_context_size_error"
    assert str(CONTEXT) in str(caught.value)


def test_its_list_of_models(ask: Sync | Async) -> None:
    (model,) = ask.models()
    assert (model.id, model.input_modalities, model.pricing.known) == (MODEL, ("text",), False)
    assert model.raw["meta"]["n_ctx"] == CONTEXT
