"""A Flask app that passes a user's message to a model, and what comes back to the browser.

    DEV_MODE=true python examples/flask_app.py
    curl http://127.0.0.1:5000/chat -H 'Content-Type: application/json' -d '{"message": "Hello"}'
    curl -N http://127.0.0.1:5000/chat/stream -H 'Content-Type: application/json' -d '{"message": "Hello"}'

In several processes, which share one cap on the calls of a day:

    pip install gunicorn 'routerkit[redis]'
    CALLS_A_DAY=1000 ROUTERKIT_STORE=redis://localhost:6379/0 \\
        gunicorn --chdir examples --workers 4 --threads 8 'flask_app:create_app()'

``/chat/stream`` is for ``fetch()``: an ``EventSource`` can only GET, and when it loses its connection it asks again by itself,
which would be paid for again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, jsonify, request

from routerkit import (
    AllModelsFailedError,
    BadRequestError,
    Client,
    Completion,
    InvalidRequestError,
    Limits,
    RouterKitError,
    Stream,
)


def create_app(client: Client | None = None) -> Flask:
    """The app. One client serves all its threads, and what it learns about models serves all requests."""
    app = Flask(__name__)
    llm = own_client() if client is None else client

    @app.post("/chat")
    def chat() -> dict[str, Any]:
        message, model = asked()
        answer = llm.complete(message, model=model)
        return {"text": answer.text, **account(answer)}

    @app.post("/chat/stream")
    def chat_stream() -> Response:
        message, model = asked()
        stream = llm.stream(message, model=model)  # a failure before the first word has a status of its own
        response = Response(events(stream), mimetype="text/event-stream", headers={"Cache-Control": "no-cache"})
        response.call_on_close(stream.close)  # also when the browser goes away, which shows at the next write to it
        return response

    @app.errorhandler(RouterKitError)
    def failed(error: RouterKitError) -> Response:
        response = jsonify(error.to_dict())
        response.status_code = http_status(error)
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(math.ceil(error.retry_after))
        return response

    return app


def own_client() -> Client:
    """One for each process, whether it is made there or, as by ``gunicorn --preload``, before they are forked."""
    cap = os.environ.get("CALLS_A_DAY")
    limits = Limits(requests_per_day=int(cap)) if cap else {}
    return Client.from_env(default_model="openai/gpt-4o-mini", limits=limits)


def asked() -> tuple[str, str | None]:
    """The message and the model, if one is named, of this request."""
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not isinstance(body.get("message"), str):
        raise InvalidRequestError('the body must be JSON such as {"message": "Hello"}')
    return body["message"], body.get("model")


def events(stream: Stream) -> Iterator[str]:
    """The answer as server-sent events: ``data`` for each piece of text, then ``done``, or ``error`` if it breaks off."""
    try:
        for text in stream.text():
            yield event(None, {"text": text})
        yield event("done", account(stream.completion))
    except RouterKitError as error:
        yield event("error", error.to_dict())


def event(name: str | None, data: dict[str, Any]) -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"


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
    create_app().run()
