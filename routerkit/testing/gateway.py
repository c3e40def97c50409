"""What a made-up gateway answers and what it has been asked, however it is reached."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from routerkit.testing import replies
from routerkit.testing.connection import RecordedRequest, Reply


class ScriptedGateway:
    """What :class:`FaultServer` and :class:`ScriptedTransport` have in common. All of it may be used from any thread.

    What answers a request, first match first: a reply given to :meth:`route`; for a chat request the next reply scripted for the
    model asked, else ``default``; for the list of models the ``catalog``; else a 404.
    """

    def __init__(self) -> None:
        self.default: Reply = replies.completion()
        """Answers chat requests for models without a script."""
        self.catalog: Reply | Sequence[Mapping[str, Any]] = replies.CATALOG
        """The entries of the catalogue, or a reply that answers requests for it."""
        self._changed = threading.Condition()
        self._requests: list[RecordedRequest] = []
        self._scripts: dict[str, replies.Script] = {}
        self._routes: dict[tuple[str, str], Reply] = {}

    def script(self, model: str, *answers: Reply, once: bool = False) -> None:
        """Answer chat requests for a model with these replies in turn, dropping what was scripted before.

        The last one repeats for ever; with ``once``, requests after the last one get ``default`` instead.
        """
        with self._changed:
            self._scripts[model] = replies.Script(answers, once=once)

    def route(self, method: str, path: str, reply: Reply) -> None:
        """Answer requests for one path, such as ``/key``, with this reply before all else."""
        with self._changed:
            self._routes[method, path] = reply

    @property
    def requests(self) -> list[RecordedRequest]:
        """All requests so far, in the order of their arrival, each there before it is answered."""
        with self._changed:
            return list(self._requests)

    @property
    def chat_requests(self) -> list[RecordedRequest]:
        """Those that asked a model."""
        return [request for request in self.requests if request.is_chat]

    @property
    def models_asked(self) -> list[str]:
        """The model of each chat request."""
        return [request.model for request in self.chat_requests]

    @property
    def catalog_requests(self) -> int:
        """How many times the catalogue was asked for."""
        return sum(request.is_catalog for request in self.requests)

    def _reply_to(self, request: RecordedRequest) -> Reply:
        for (method, path), reply in self._routes.items():
            if request.method == method and request.route.endswith(path):
                return reply
        if request.is_chat:
            script = self._scripts.get(request.model)
            return (script and script.take()) or self.default
        if request.is_catalog:
            return self.catalog if callable(self.catalog) else replies.json_body({"data": list(self.catalog)})
        return replies.error(404)
