"""Ways past a budget. The server keeps its own books, and what it charges never exceeds the budget, whatever is asked, and how.

It charges as a gateway does that makes the most of a request: a token for each byte of text, as long an answer as it may give, as
many answers as were asked for, the dearest model that it may choose, and everything that was not answered to its end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from decimal import Decimal
from typing import Any

import pytest

from routerkit import Budget, BudgetExceededError, NoEligibleModelError, RouterKitError, Tenant, Timeouts
from routerkit.testing import Connection, FaultServer, RecordedRequest
from routerkit.testing import replies as r
from tests.faults.shared import sharing
from tests.store.servers import Server, binary
from tests.support.facades import FACADES, AsyncCaller, Caller
from tests.support.pair import answer_of

each_facade = pytest.mark.parametrize("facade", FACADES)

CHEAP, DEAR, FEE, FREE = "a/cheap", "b/dear", "c/fee", "d/free"
PRICES: dict[str, dict[str, str]] = {
    CHEAP: {"prompt": "0.000001", "completion": "0.000002"},
    DEAR: {
        "prompt": "0.00001",
        "completion": "0.00002",
        "request": "0.01",
        "image": "0.02",
        "web_search": "0.01",
        "internal_reasoning": "0.00003",
    },
    FEE: {"prompt": "0", "completion": "0", "request": "1"},
}
UNKNOWN: dict[str, dict[str, Any]] = {
    "openrouter/auto": {"prompt": "-1", "completion": "-1"},
    "u/minus": {"prompt": "-0.000001", "completion": "0.000002"},
    "u/half": {"prompt": "0.000001"},
    "u/none": {},
    "u/words": {"prompt": "free", "completion": "free"},
    "u/nan": {"prompt": "NaN", "completion": "0"},
    "u/request": {"prompt": "0", "completion": "0", "request": "-1"},
}
LONGEST = 2000
"""Tokens of an answer."""
IMAGE = "data:image/png;base64," + "A" * 4000


class Books:
    """What a server charges."""

    def __init__(self, server: FaultServer, reply: r.Reply | None = None, told: Any = "the cost") -> None:
        self.charged = Decimal(0)
        self.requests = 0
        self._reply = reply
        self._told = told
        self._lock = threading.Lock()
        top = {"context_length": 100_000, "max_completion_tokens": LONGEST}
        server.catalog = [
            r.catalog_model(model, pricing=pricing, context_length=100_000, top_provider=top)
            for model, pricing in {**PRICES, **UNKNOWN}.items()
        ]
        server.default = self.answer

    def answer(self, connection: Connection, request: RecordedRequest) -> None:
        cost = charge(request.json)
        with self._lock:
            self.charged += cost
            self.requests += 1
        usage = {**r.USAGE, "cost": float(cost) if self._told == "the cost" else self._told}
        (self._reply or r.completion(usage=usage))(connection, request)


def charge(body: dict[str, Any]) -> Decimal:
    """US dollars, at most."""
    models = [body["model"].removesuffix(":online"), *body.get("models", ())]
    return max(_charge(body, {name: Decimal(usd) for name, usd in PRICES[model].items()}) for model in models)


def _charge(body: dict[str, Any], prices: dict[str, Decimal]) -> Decimal:
    parts = [part for message in body["messages"] for part in parts_of(message["content"])]
    images = sum(part["type"] == "image_url" for part in parts)
    text = sum(len(part.get("text", "").encode()) for part in parts) + 1500 * images
    limits = [body[name] for name in ("max_tokens", "max_completion_tokens") if body.get(name)]
    answer = min(LONGEST, max(int(float(limit)) for limit in limits)) if limits else LONGEST
    answers = int(float(body.get("n") or 1))
    results = sum(plugin.get("max_results", 5) for plugin in body.get("plugins", ()) if plugin["id"] == "web")
    results += 5 * body["model"].endswith(":online")
    reasoning = body.get("reasoning", {}).get("max_tokens", 0)
    cost = text * prices["prompt"] + answer * answers * prices["completion"] + prices.get("request", Decimal(0))
    cost += images * prices.get("image", Decimal(0)) + results * Decimal("0.004")
    cost += reasoning * prices.get("internal_reasoning", prices["completion"])
    return cost + (prices.get("web_search", Decimal(0)) if results or "web_search_options" in body else 0)


def parts_of(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    if binary() is None:
        pytest.skip("no Valkey and no Redis here")
    with Server() as running:
        yield running


def limited(facade: str, server: FaultServer, usd: str, **options: Any) -> Any:
    return FACADES[facade](
        **{"base_url": server.url, "budget": Budget(usd, per="total"), "fallback_models": [], **options}
    )


# --- what is asked for ---

REQUESTS: dict[str, dict[str, Any]] = {
    "no limit of the answer": {},
    "a limit": {"max_tokens": 100},
    "a hundred answers": {"n": 100, "max_tokens": 10},
    "as many as can be written": {"n": "1e2", "max_tokens": "10"},
    "a limit of 0": {"max_tokens": 0},
    "two limits": {"max_tokens": 1, "max_completion_tokens": 1500},
    "a long prompt": {"messages": "ü" * 20_000, "max_tokens": 1},
    "images": {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}] * 30}],
        "max_tokens": 1,
    },
    "reasoning": {"reasoning": {"max_tokens": 5000}, "max_tokens": 100},
    "a web search": {"plugins": [{"id": "web", "max_results": 30}], "max_tokens": 1},
    "two of them": {"plugins": [{"id": "web"}, {"id": "web", "max_results": 20}], "max_tokens": 1},
    "a model's own search": {"web_search_options": {}, "max_tokens": 1},
    "in the model's name": {"suffix": ":online", "max_tokens": 1},
    "a choice of the gateway": {"models": [CHEAP, DEAR], "max_tokens": 100},
    "beside what is known": {"extra_body": {"n": 50, "plugins": [{"id": "web", "max_results": 30}]}, "max_tokens": 50},
}


@each_facade
@pytest.mark.parametrize("model", [CHEAP, DEAR])
@pytest.mark.parametrize("what", REQUESTS)
def test_whatever_is_asked_for_no_more_is_charged_than_the_budget(
    facade: str, model: str, what: str, server: FaultServer
) -> None:
    """Budgets that fall short of what so many answers cost by a hair."""
    books, options = Books(server), dict(REQUESTS[what])
    messages, model = options.pop("messages", "Hello"), model + options.pop("suffix", "")
    with limited(facade, server, "900") as caller:
        answer_of(caller, messages, model=model, **options)
    cost, books.charged = books.charged, Decimal(0)
    for answers in (2, 3, 9):
        budget = answers * cost - Decimal("0.000000001")
        with limited(facade, server, str(budget)) as caller:
            exhausted(caller, messages, model=model, **options)
        assert books.charged <= budget
        books.charged = Decimal(0)


def exhausted(caller: Caller, messages: Any = "Hello", **options: Any) -> int:
    """How many calls were sent, before the budget refused more; or enough of them."""
    for number in range(12):
        try:
            answer_of(caller, messages, stream=bool(number % 2), **options)
        except BudgetExceededError:
            return number
        except RouterKitError:
            continue
    return 12


NEVER: dict[str, dict[str, Any]] = {
    **{model: {"model": model} for model in UNKNOWN},
    "a model of no list": {"model": "x/unlisted"},
    "one of the choice": {"model": CHEAP, "models": [CHEAP, "x/unlisted"]},
    "a preset": {"model": CHEAP, "extra_body": {"preset": "mine"}},
    "a preset's name": {"model": "@preset/mine"},
    "tools that the gateway runs": {"model": CHEAP, "tools": [{"type": "openrouter:web_search"}]},
    "a dearer tier": {"model": CHEAP, "service_tier": "priority"},
    "a plugin that nobody knows": {"model": CHEAP, "plugins": [{"id": "fusion"}]},
    "more than the budget": {"model": FEE},
    "an answer without end": {"model": CHEAP, "max_tokens": 10**9},
}


@each_facade
@pytest.mark.parametrize("what", NEVER)
def test_what_nobody_can_tell_the_price_of_is_not_sent(facade: str, what: str, server: FaultServer) -> None:
    books = Books(server)
    with limited(facade, server, "0.99") as caller:
        for stream in (False, True):
            with pytest.raises((BudgetExceededError, NoEligibleModelError), match=r"nobody can tell|is less than the"):
                answer_of(caller, stream=stream, **NEVER[what])
    assert (books.requests, books.charged) == (0, 0)


@each_facade
@pytest.mark.parametrize("name", ["model", "messages", "stream", "models"])
def test_what_is_sent_is_what_was_weighed(facade: str, name: str, server: FaultServer) -> None:
    """What is known here cannot be changed beside it."""
    books = Books(server)
    other = {"model": DEAR, "messages": [{"role": "user", "content": "x" * 50_000}], "stream": True, "models": [DEAR]}
    with limited(facade, server, "0.1") as caller:
        for _ in range(12):
            with suppress(RouterKitError):
                caller.complete(model=CHEAP, max_tokens=1, extra_body={name: other[name]})
    assert books.charged <= Decimal("0.1")


# --- how it is asked ---


def burst(caller: Caller, calls: int) -> list[Any]:
    """So many calls at once: what becomes of each."""

    def ended(begun: Any) -> Any:
        try:
            return begun()
        except RouterKitError as error:
            return error

    begun = [caller.begin(model=FEE) for _ in range(calls)]
    return [ended(each) for each in begun]


@each_facade
@pytest.mark.parametrize("store", ["memory", "redis"])
def test_fifty_at_once_get_what_three_may_have(
    facade: str, store: str, server: FaultServer, request: pytest.FixtureRequest
) -> None:
    """The answers come when all three have asked."""
    gate = r.gate(r.completion(usage={**r.USAGE, "cost": 1.0}))
    books = Books(server, gate)
    with ExitStack() as stack:
        if store == "memory":
            caller = stack.enter_context(limited(facade, server, "3.5"))
        else:
            running = request.getfixturevalue("redis_server")
            running.clear()
            options = {"budget": Budget("3.5", per="total"), "fallback_models": []}
            caller = stack.enter_context(sharing(FACADES[facade], server, running.url, **options)).caller
        caller.models()
        threading.Thread(target=lambda: server.wait_for(lambda: books.requests == 3) and gate.release()).start()
        made = burst(caller, 50)
        assert [type(each) for each in made if isinstance(each, RouterKitError)] == [BudgetExceededError] * 47
        assert all(isinstance(each, BudgetExceededError) for each in burst(caller, 3)), "nor later"
    assert (books.requests, books.charged) == (3, 3)


BROKEN: dict[str, r.Reply] = {
    "closed": r.close_before_reply(),
    "reset": r.reset_before_reply(),
    "cut": r.truncated_body(),
    "500": r.error(500),
    "no answer in it": r.json_body({"choices": []}),
    "a stream that breaks": r.stream("Hel", "lo", r.cut()),
    "an error in a stream": r.stream("Hel", r.error_event(502)),
}


@each_facade
@pytest.mark.parametrize("what", BROKEN)
def test_what_was_not_answered_may_have_been_charged(facade: str, what: str, server: FaultServer) -> None:
    """Each attempt counts in full, retries and all: here each is charged."""
    books = Books(server, BROKEN[what])
    with limited(facade, server, "5") as caller:
        for number in range(8):
            with suppress(RouterKitError):
                answer_of(caller, stream=bool(number % 2), model=FEE)
    assert 2 <= books.charged <= 5


@each_facade
def test_who_gives_up_early_is_charged_all_the_same(facade: str, server: FaultServer) -> None:
    books = Books(server, r.hang())
    with limited(facade, server, "3") as caller:
        for number in range(6):
            with suppress(RouterKitError):
                answer_of(caller, stream=bool(number % 2), model=FEE, timeout=Timeouts(total=0.15))
            if isinstance(caller, AsyncCaller) and not number:
                task = caller.loop.create_task(caller.client.complete("Hello", model=FEE))
                asked = books.requests
                caller.until(server, lambda asked=asked: books.requests > asked)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    caller.run(waiting(task))
    assert (books.requests, books.charged) == (3, 3)


async def waiting(task: asyncio.Task[Any]) -> None:
    await task


@each_facade
@pytest.mark.parametrize("told", [-5, float("nan"), float("-inf"), True, [], {}, None, "-1", "x", 1e308])
def test_a_gateway_that_tells_nonsense_of_the_cost_adds_nothing_to_the_budget(
    facade: str, told: Any, server: FaultServer
) -> None:
    books = Books(server, told=told)
    with limited(facade, server, "3.5") as caller:
        answered = exhausted(caller, model=FEE)
    assert 1 <= answered <= 3
    assert books.charged <= 3


@each_facade
def test_no_other_client_of_the_same_has_a_budget_of_its_own(facade: str, server: FaultServer) -> None:
    """Nor has another tenant, beyond the client's."""
    books = Books(server)
    tenants = [Tenant(f"t{number}", f"sk-{number}-1234567890", budget=Budget("2", per="total")) for number in range(3)]
    with limited(facade, server, "5", tenants=tenants, api_key=None) as caller:
        for number in range(12):
            tenant = caller.with_options(timeout=5 + number).tenant(f"t{number % 3}")
            with suppress(BudgetExceededError):
                tenant.complete(model=FEE)
    assert books.charged == 5
    keys = [request.api_key for request in server.chat_requests]
    assert max(keys.count(key) for key in keys) == 2
