"""The sides of each race: a call with routerkit, and the same call with the library underneath and orjson.

Every side sends the same messages over one kept connection and gives back the text of the answer, read the way its users
would read it. A side is a function of a count: it makes so many calls one after the other and returns the last text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import orjson
import requests
from static_server import MODEL

import routerkit

KEY = "sk-test-1234567890"
MESSAGES = [
    {"role": "system", "content": "You are a terse assistant. Answer in at most three sentences."},
    {"role": "user", "content": "Why do gateways fail, and what can a client do about it?"},
]
TEMPERATURE = 0.7
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}

Side = Callable[[int], str]


@contextmanager
def sides(base_url: str) -> Iterator[dict[str, Side]]:
    """All eight, by name."""
    loop = asyncio.new_event_loop()
    with requests.Session() as session, _client(routerkit.Client, base_url) as client:
        opened = _opened(base_url)
        aiohttp_session, async_client = loop.run_until_complete(opened.__aenter__())
        url = f"{base_url}/chat/completions"
        try:
            yield {
                "complete": _often(lambda: _complete(client)),
                "complete-raw": _often(lambda: _complete_raw(session, url)),
                "stream": _often(lambda: _stream(client)),
                "stream-raw": _often(lambda: _stream_raw(session, url)),
                "complete-async": _often_in(loop, lambda: _complete_async(async_client)),
                "complete-async-raw": _often_in(loop, lambda: _complete_async_raw(aiohttp_session, url)),
                "stream-async": _often_in(loop, lambda: _stream_async(async_client)),
                "stream-async-raw": _often_in(loop, lambda: _stream_async_raw(aiohttp_session, url)),
            }
        finally:
            loop.run_until_complete(opened.__aexit__(None, None, None))
            loop.close()


@asynccontextmanager
async def _opened(base_url: str) -> AsyncIterator[tuple[aiohttp.ClientSession, routerkit.AsyncClient]]:
    async with aiohttp.ClientSession() as session, _client(routerkit.AsyncClient, base_url) as client:
        yield session, client


def _client(kind: Any, base_url: str) -> Any:
    return kind(api_key=KEY, gateway="openrouter", base_url=base_url, default_model=MODEL, dev_mode=False)


def _often(ask: Callable[[], str]) -> Side:
    def run(count: int) -> str:
        text = ""
        for _ in range(count):
            text = ask()
        return text

    return run


def _often_in(loop: asyncio.AbstractEventLoop, ask: Callable[[], Awaitable[str]]) -> Side:
    async def run(count: int) -> str:
        text = ""
        for _ in range(count):
            text = await ask()
        return text

    return lambda count: loop.run_until_complete(run(count))


def _body(**more: Any) -> bytes:
    return orjson.dumps({"model": MODEL, "messages": MESSAGES, "temperature": TEMPERATURE, **more})


def _stream_body() -> bytes:
    return _body(stream=True, stream_options={"include_usage": True})


def _text(answer: Any) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def _piece(line: bytes) -> str:
    """The text that one line of an event stream adds."""
    if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
        return ""
    choices = orjson.loads(line[6:])["choices"]
    return choices[0]["delta"].get("content") or "" if choices else ""


def _complete(client: routerkit.Client) -> str:
    return client.complete(MESSAGES, temperature=TEMPERATURE).text


def _complete_raw(session: requests.Session, url: str) -> str:
    response = session.post(url, data=_body(), headers=HEADERS)
    response.raise_for_status()
    return _text(orjson.loads(response.content))


def _stream(client: routerkit.Client) -> str:
    with client.stream(MESSAGES, temperature=TEMPERATURE) as stream:
        return "".join([chunk.text for chunk in stream])


def _stream_raw(session: requests.Session, url: str) -> str:
    with session.post(url, data=_stream_body(), headers=HEADERS, stream=True) as response:
        response.raise_for_status()
        return "".join([_piece(line) for line in response.iter_lines()])


async def _complete_async(client: routerkit.AsyncClient) -> str:
    return (await client.complete(MESSAGES, temperature=TEMPERATURE)).text


async def _complete_async_raw(session: aiohttp.ClientSession, url: str) -> str:
    async with session.post(url, data=_body(), headers=HEADERS) as response:
        response.raise_for_status()
        return _text(orjson.loads(await response.read()))


async def _stream_async(client: routerkit.AsyncClient) -> str:
    async with client.stream(MESSAGES, temperature=TEMPERATURE) as stream:
        return "".join([chunk.text async for chunk in stream])


async def _stream_async_raw(session: aiohttp.ClientSession, url: str) -> str:
    async with session.post(url, data=_stream_body(), headers=HEADERS) as response:
        response.raise_for_status()
        return "".join([_piece(line) async for line in response.content])
