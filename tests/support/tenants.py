"""Two tenants of one client, on one server."""

from __future__ import annotations

from typing import Any

from routerkit import Tenant
from routerkit.testing import FaultServer
from tests.support.facades import Caller
from tests.support.pair import answer_of
from tests.support.scenarios import A

ACME, GLOBEX = "sk-acme-1234567890", "sk-globex-12345678"
KEYS = {"acme": ACME, "globex": GLOBEX}
TENANTS = [Tenant("acme", ACME), Tenant("globex", GLOBEX)]


def shared(server: FaultServer, **options: Any) -> dict[str, Any]:
    """The options of a client with two tenants."""
    return {"base_url": server.url, "api_key": None, "tenants": TENANTS, "default_model": A, **options}


def both(caller: Caller) -> tuple[Caller, Caller]:
    return caller.tenant("acme"), caller.tenant("globex")


def unharmed(caller: Caller, number: int = 0, **options: Any) -> None:
    """One call that is answered at once by whom it asks first, and knows of no obstacle."""
    answer = answer_of(caller, f"question {number}", stream=bool(number % 2), **options)
    assert [str(attempt.verdict) for attempt in answer.route.attempts] == ["ok"]
    assert (answer.route.waits, answer.route.skipped) == ((), ())


def keys_of(server: FaultServer) -> list[str | None]:
    return [request.api_key for request in server.chat_requests]
