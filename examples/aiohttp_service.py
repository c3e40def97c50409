"""An aiohttp service that passes a user's message to a model, and what comes back to the browser.

    DEV_MODE=true python examples/aiohttp_service.py
    curl http://127.0.0.1:8080/chat -H 'Content-Type: application/json' -d '{"message": "Hello"}'
    curl -N http://127.0.0.1:8080/chat/stream -H 'Content-Type: application/json' -d '{"message": "Hello"}'

In several processes, which share one cap on the calls of a day, and on Linux the port:

    pip install 'routerkit[redis]'
    export CALLS_A_DAY=1000 ROUTERKIT_STORE=redis://localhost:6379/0
    for _ in 1 2 3 4; do python examples/aiohttp_service.py & done

Run it with ``handler_cancellation=True``, as below: then a stream is given up the moment that its browser goes away, even
while the model is silent.
"""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from routerkit import (
    AllModelsFailedError,
    AsyncClient,
    BadRequestError,
    Completion,
    InvalidRequestError,
    Limits,
    RouterKitError,
)

LLM = web.AppKey("LLM", AsyncClient)


def create_app(client: AsyncClient | None = None) -> web.Application:
    """The service. One client serves all its requests; a client that is passed in is not closed."""
    app = web.Application(middlewares=[errors_as_json])
    app.add_routes([web.post("/chat", chat), web.post("/chat/stream", chat_stream)])
    if client is None:
        app.cleanup_ctx.append(own_client)
    else:
        app[LLM] = client
    return app


async def own_client(app: web.Application) -> AsyncIterator[None]:
    cap = os.environ.get("CALLS_A_DAY")
    limits = Limits(requests_per_day=int(cap)) if cap else {}
    async with AsyncClient.from_env(default_model="openai/gpt-4o-mini", limits=limits) as client:
        app[LLM] = client
        yield


async def chat(request: web.Request) -> web.Response:
    message, model = await asked(request)
    answer = await request.app[LLM].complete(message, model=model)
    return web.json_response({"text": answer.text, **account(answer)})


async def chat_stream(request: web.Request) -> web.StreamResponse:
    """The answer as server-sent events: ``data`` for each piece of text, then ``done``, or ``error`` if it breaks off."""
    message, model = await asked(request)
    async with request.app[LLM].stream(message, model=model) as stream:  # what fails here has a status of its own
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        try:
            async for chunk in stream:
                if chunk.text:
                    await response.write(event(None, {"text": chunk.text}))
        except RouterKitError as error:
            await response.write(event("error", error.to_dict()))
        else:
            await response.write(event("done", account(stream.completion)))
    return response


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RouterKitError as error:
        wait = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
        return web.json_response(error.to_dict(), status=http_status(error), headers=wait)


async def asked(request: web.Request) -> tuple[str, str | None]:
    """The message and the model, if one is named, of a request."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("message"), str):
        raise InvalidRequestError('the body must be JSON such as {"message": "Hello"}')
    return body["message"], body.get("model")


def event(name: str | None, data: dict[str, Any]) -> bytes:
    return ((f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n").encode()


def account(answer: Completion) -> dict[str, Any]:
    """Who answered, for how many dollars, and what was tried."""
    cost = None if answer.cost is None else str(answer.cost)
    return {"model": answer.model, "cost": cost, "attempts": answer.route.to_dict()["attempts"]}


def http_status(error: RouterKitError) -> int:
    """The status for the browser: not the gateway's own, whose 401, say, is about our key."""
    cause = error.__cause__ if isinstance(error, AllModelsFailedError) else error
    if isinstance(cause, (InvalidRequestError, BadRequestError)):
        return 400
    if (
        error.rate_limited
    ):  # our own limits and budgets too: a 402 would ask the user to pay, who can only come back later
        return 429
    return 504 if isinstance(cause, TimeoutError) else 503


if __name__ == "__main__":
    port, shared = int(os.environ.get("PORT", "8080")), hasattr(socket, "SO_REUSEPORT")
    web.run_app(create_app(), host="127.0.0.1", port=port, reuse_port=shared, handler_cancellation=True)
