"""Limits and budgets over real sockets and through both facades, counted in memory and in a real Redis.

The rules themselves are tested in `tests/test_quotas.py` and `tests/test_turns.py`, on the core alone; stores in `tests/store/`.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from routerkit import (
    Budget,
    BudgetExceededError,
    Client,
    DeadlineExceededError,
    LimitExceededError,
    Limits,
    StreamInterruptedError,
    Tenant,
)
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.test_forks import held
from tests.store import conftest as servers
from tests.support import stores
from tests.support.facades import FACADES, AsyncCaller, Caller, SyncCaller
from tests.support.forks import forked
from tests.support.pair import answer_of, outcome_of, pair_of_gateways, skipped, tried
from tests.support.scenarios import A, B
from tests.support.stores import STORES, Turnstile, World, eventually, waiting
from tests.support.tenants import ACME, GLOBEX, both

running, redis, unhurried = servers.running, servers.server, stores.unhurried
pytestmark = pytest.mark.usefixtures("unhurried")

DAY = 86_400.0
FREE = "c/three:free"
ONE_A_MINUTE = Limits(requests_per_minute=1)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.catalog = r.error(404)
        yield server


@pytest.fixture(params=[f"{facade} {store}" for facade in FACADES for store in STORES])
def world(request: pytest.FixtureRequest, server: FaultServer) -> World:
    facade, store = request.param.split()
    return World(FACADES[facade], server, request.getfixturevalue("redis") if store == "redis" else None)


def refusal(told: object) -> LimitExceededError | BudgetExceededError:
    assert isinstance(told, (LimitExceededError, BudgetExceededError)), told
    assert told.route is not None
    assert told.route.attempts == ()
    return told


# --- what is counted ---

SCOPES: dict[str, tuple[Callable[[str], dict[str, Any]], str]] = {
    "client": (lambda _: {"limits": ONE_A_MINUTE}, "the client"),
    "tenant": (
        lambda _: {"api_key": None, "tenants": [Tenant("acme", ACME, limits=ONE_A_MINUTE), Tenant("globex", GLOBEX)]},
        "tenant acme",
    ),
    "gateway": (lambda name: {"limits": {f"gateway:{name}": ONE_A_MINUTE}}, "gateway 127"),
    "key": (lambda _: {"limits": {"key": ONE_A_MINUTE}}, "the key of 127"),
    "key of": (lambda name: {"limits": {f"key:{name}": ONE_A_MINUTE}}, "the key of 127"),
    "model": (lambda _: {"limits": {f"model:{FREE}": ONE_A_MINUTE}}, FREE),
    "model there": (lambda name: {"limits": {f"model:{FREE} on {name}": ONE_A_MINUTE}}, f"{FREE} on 127"),
    "free": (lambda _: {"limits": {"free": ONE_A_MINUTE}}, "the free models"),
    "free of": (lambda name: {"limits": {f"free:{name}": ONE_A_MINUTE}}, "the free models"),
}


@pytest.mark.parametrize("scope", SCOPES)
def test_what_is_used_up_is_refused_without_a_request_until_it_is_there_again(world: World, scope: str) -> None:
    options, label = SCOPES[scope]
    with world.client(default_model=FREE, **options(world.gateway)) as root:
        caller = root.tenant("acme") if scope == "tenant" else root
        answer_of(caller)
        for stream in (False, True):
            error = refusal(outcome_of(caller, stream=stream))
            assert type(error) is LimitExceededError
            assert f"1 request a minute of {label}" in str(error)
            assert error.retry_after == pytest.approx(60, abs=PAST)
            assert error.retry_at == pytest.approx(caller.client._runtime.wall() + error.retry_after, abs=PAST)
        world.elapse(caller, error.retry_after - 2 * PAST)
        refusal(outcome_of(caller))
        world.elapse(caller, 2 * PAST)
        answer_of(caller, stream=True)
        if scope == "tenant":
            answer_of(root.tenant("globex"))
    assert len(world.server.chat_requests) == (3 if scope == "tenant" else 2)
    drawn = scope.startswith(("model", "free"))  # another model may be allowed
    assert (world.server.catalog_requests > 0) is drawn


PAST = 15.0
"""Seconds that may pass meanwhile on a busy machine."""


def test_days_end_at_midnight_utc(world: World) -> None:
    with world.client(limits=Limits(requests_per_day=2)) as caller:
        for _ in range(2):
            answer_of(caller)
        now = time.time()
        error = refusal(outcome_of(caller))
    assert error.retry_at is not None
    assert error.retry_at > now
    assert min(error.retry_at % DAY, DAY - error.retry_at % DAY) < PAST
    assert "2 requests a day of the client" in str(error)


def test_tokens_count_as_the_answer_tells(world: World) -> None:
    world.server.default = r.completion(usage={"prompt_tokens": 100, "completion_tokens": 300, "total_tokens": 400})
    with world.client(limits=Limits(tokens_per_minute=1000)) as caller:
        answer_of(caller, max_tokens=900)
        answer_of(caller, max_tokens=500, stream=True)  # 400 of 1000 are used
        error = refusal(outcome_of(caller, max_tokens=500))
        assert "1000 tokens a minute of the client" in str(error)
        assert error.retry_after is not None
        world.elapse(caller, error.retry_after)
        answer_of(caller, max_tokens=500)


def test_calls_that_were_not_sent_are_given_back(world: World) -> None:
    limits = {"client": Limits(requests_per_day=2), f"model:{A}": ONE_A_MINUTE}
    with world.client(limits=limits) as caller:
        answer_of(caller)
        for _ in range(3):
            assert "a minute" in str(refusal(outcome_of(caller)))
        answer_of(caller, model=B)
        assert "2 requests a day" in str(refusal(outcome_of(caller, model=B)))


def test_a_fleet_of_one_is_never_degraded(world: World) -> None:
    with world.client(limits=ONE_A_MINUTE, budget=Budget(1, on_unknown_price="allow")) as caller:
        assert answer_of(caller).route.degraded == ()
        assert refusal(outcome_of(caller)).route.degraded == ()
        assert (caller.client.stats().degraded, caller.client.health().store_lost) == (0, False)


# --- elsewhere ---


def test_a_call_moves_to_a_model_that_is_allowed(world: World) -> None:
    with world.client(limits={f"model:{A}": ONE_A_MINUTE}, fallback_models=[B]) as caller:
        for stream in (False, True):
            found = [tried(answer_of(caller, stream=stream)) for _ in range(2)]
            assert found[1] == [f"{B} on {world.gateway} ok"]
        answer = caller.complete()
    assert skipped(answer)[f"{A} on {world.gateway}"].startswith(f"1 request a minute of {A}: used up")
    assert world.server.models_asked == [A, B, B, B, B]


def test_a_call_moves_to_a_key_and_then_to_a_gateway_that_is_allowed(world: World) -> None:
    keys = {"first": ["sk-first-1234567890", "sk-other-1234567890"], "second": "sk-second-123456789"}
    with pair_of_gateways() as pair:
        given = pair.options(api_key=keys, base_url=None, limits={"key:first": ONE_A_MINUTE})
        with world.client(**given) as caller:
            answers = [answer_of(caller, stream=bool(number % 2)) for number in range(4)]
        assert [answer.gateway for answer in answers] == ["first", "first", "second", "second"]
        assert {request.api_key for request in pair.first.chat_requests} == set(keys["first"])
        assert pair.asked == (2, 2)


def test_nobody_else_pays_for_a_tenants_limit(world: World) -> None:
    tenants = [Tenant("acme", ACME, limits=Limits(requests_per_day=1)), Tenant("globex", GLOBEX)]
    with world.client(api_key=None, tenants=tenants, limits=Limits(requests_per_day=4)) as root:
        acme, globex = both(root)
        answer_of(acme)
        for _ in range(3):
            assert "of tenant acme" in str(refusal(outcome_of(acme)))
            answer_of(globex)
        assert "4 requests a day of the client" in str(refusal(outcome_of(globex)))
    assert len(world.server.chat_requests) == 4


# --- money ---


def costing(usd: str) -> r.Reply:
    """An answer at this price."""
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost": float(usd)}
    return r.completion(usage=usage)


def priced(server: FaultServer, **prices: str) -> None:
    """A catalogue of models at USD per token."""
    ids = {"a": A, "b": B}
    server.catalog = [
        r.catalog_model(ids[name], pricing={"prompt": price, "completion": price}, context_length=1000)
        for name, price in prices.items()
    ]


def test_a_budget_counts_what_answers_cost(world: World) -> None:
    priced(world.server, a="0.001")
    world.server.default = costing("0.3")
    with world.client(budget=Budget("1.00")) as caller:
        for stream in (False, True):
            assert answer_of(caller, max_tokens=100, stream=stream).cost == Decimal("0.3")
        error = refusal(outcome_of(caller, max_tokens=100))
        assert type(error) is BudgetExceededError
        assert "the client's budget (1.00 USD a day) does not leave" in str(error)
        assert error.retry_at is not None
        assert min(error.retry_at % DAY, DAY - error.retry_at % DAY) < PAST
        assert answer_of(caller, max_tokens=10).cost == Decimal("0.3"), "a shorter answer is still covered"
    assert len(world.server.chat_requests) == 3


def test_a_cheaper_model_is_asked_where_the_budget_leaves_too_little(world: World) -> None:
    priced(world.server, a="0.001", b="0.00001")
    world.server.script(A, costing("0.3"))
    with world.client(budget=Budget("0.70"), fallback_models=[B]) as caller:
        assert [answer_of(caller, max_tokens=100).model for _ in range(3)] == [A, B, B]


def test_tenants_have_budgets_of_their_own(world: World) -> None:
    priced(world.server, a="0.001")
    world.server.default = costing("0.4")
    tenants = [Tenant("acme", ACME, budget=Budget("0.70")), Tenant("globex", GLOBEX)]
    with world.client(api_key=None, tenants=tenants, budget=Budget("2.00", per="month")) as root:
        acme, globex = both(root)
        answer_of(acme, max_tokens=100)
        assert "the budget of tenant acme (0.70 USD a day)" in str(refusal(outcome_of(acme, max_tokens=100)))
        answer_of(globex, max_tokens=100)
        answer_of(globex, max_tokens=100)
        error = refusal(outcome_of(globex, max_tokens=1000))
        assert "the client's budget (2.00 USD a month)" in str(error)


def test_many_at_once_never_spend_more_than_there_is(world: World) -> None:
    """Each may cost up to half a dollar, and costs a fifth."""
    priced(world.server, a="0.001")
    world.server.default = costing("0.2")
    with world.client(budget=Budget("3.00")) as caller:
        caller.models()
        answers = refused = 0
        for end in [caller.begin(max_tokens=100) for _ in range(40)]:
            try:
                assert end().cost == Decimal("0.2")
                answers += 1
            except BudgetExceededError:
                refused += 1
        while not isinstance(told := outcome_of(caller, max_tokens=100), BudgetExceededError):
            assert not isinstance(told, Exception), told
            answers += 1
    assert len(world.server.chat_requests) == answers <= 15
    assert answers >= 11, "what was reserved and not spent comes back"
    assert refused > 0, "all of it at once is more than there is"


# --- in turn ---


@pytest.fixture
def turnstile(server: FaultServer) -> Turnstile:
    made = server.default = Turnstile()
    return made


def queue_up(caller: Caller, questions: list[str], **options: Any) -> list[Callable[[], Any]]:
    """Have these calls wait, one behind the other."""
    ends = []
    for question in questions:
        before = waiting(caller)
        ends.append(caller.begin(question, **options))
        eventually(caller, lambda before=before: waiting(caller) == before + 1)  # type: ignore[misc]
    return ends


QUEUES: dict[str, dict[str, Any]] = {
    "of calls": {"limits": Limits(concurrency=2, queue_size=100)},
    "of attempts": {"limits": {"key": Limits(concurrency=2, queue_size=100)}},
}


@pytest.mark.parametrize("queue", QUEUES)
def test_who_comes_first_is_served_first(world: World, turnstile: Turnstile, queue: str) -> None:
    questions = [f"question {number}" for number in range(8)]
    with world.client(**QUEUES[queue]) as caller:
        ends = [caller.begin(question) for question in questions[:2]]
        eventually(caller, lambda: len(turnstile.inside) == 2)
        ends += queue_up(caller, questions[2:])
        for place, question in enumerate(questions):
            expected = sorted(questions[place : place + 2])
            eventually(caller, lambda expected=expected: sorted(turnstile.inside) == expected)  # type: ignore[misc]
            assert waiting(caller) == max(0, 6 - place)
            turnstile.let_go(question)
        answers = [end() for end in ends]
    assert turnstile.most == 2
    assert sorted(turnstile.came[:2]) == questions[:2]
    assert turnstile.came[2:] == questions[2:]
    assert [wait.reason for wait in answers[0].route.waits] == []
    (waited,) = answers[7].route.waits
    assert waited.reason.startswith("its turn: 2 requests at a time of the ")


def test_a_crowd_is_let_through_a_few_at_a_time(world: World, turnstile: Turnstile) -> None:
    """Threads or tasks as they come; whoever is let through is let go at once."""
    questions = [f"question {number}" for number in range(30)]
    with world.client(limits=Limits(concurrency=2, queue_size=100)) as caller:
        ends = [caller.begin(question) for question in questions]
        gone: set[str] = set()
        while len(gone) < len(questions):
            eventually(caller, lambda: bool(set(turnstile.inside) - gone))
            for question in set(turnstile.inside) - gone:
                gone.add(question)
                turnstile.let_go(question)
        assert [end().text for end in ends] == [f"Hello from {A}"] * 30
        assert waiting(caller) == 0
    assert turnstile.most == 2
    assert sorted(turnstile.came) == sorted(questions)


def test_a_full_queue_refuses_at_once(world: World, turnstile: Turnstile) -> None:
    with world.client(limits=Limits(concurrency=1, queue_size=1)) as caller:
        inside = caller.begin("inside")
        eventually(caller, lambda: turnstile.inside == ["inside"])
        (behind,) = queue_up(caller, ["behind"])
        error = refusal(outcome_of(caller, "one too many"))
        assert str(error) == "1 request at a time of the client: all are under way, and 1 wait already"
        assert (error.retry_at, error.retry_after) == (None, None)
        for question, end in (("inside", inside), ("behind", behind)):
            eventually(caller, lambda question=question: question in turnstile.inside)  # type: ignore[misc]
            turnstile.let_go(question)
            end()
    assert turnstile.came == ["inside", "behind"]


@pytest.mark.parametrize("queue", ["client", "key"])
def test_a_turn_that_does_not_come_in_time(world: World, turnstile: Turnstile, queue: str) -> None:
    limits = {queue: Limits(concurrency=1, queue_size=5, queue_timeout=0.05)}
    with world.client(limits=limits) as caller:
        inside = caller.begin("inside")
        eventually(caller, lambda: turnstile.inside == ["inside"])
        for stream in (False, True):
            error = refusal(outcome_of(caller, "late", stream=stream))
            assert type(error) is LimitExceededError
            assert str(error).endswith("all are under way, and no turn came in time")
            assert sum(wait.seconds for wait in error.route.waits) >= 0.05
        late = outcome_of(caller, "late", timeout=0.04)
        assert isinstance(late, DeadlineExceededError)
        turnstile.let_go("inside")
        inside()
    assert turnstile.came == ["inside"]


def test_the_deadline_of_a_call_that_waits(world: World, turnstile: Turnstile) -> None:
    with world.client(limits=Limits(concurrency=1, queue_size=5)) as caller:
        inside = caller.begin("inside")
        eventually(caller, lambda: turnstile.inside == ["inside"])
        for stream in (False, True):
            error = outcome_of(caller, "late", timeout=0.1, stream=stream)
            assert isinstance(error, DeadlineExceededError)
            assert error.route is not None
            assert error.route.attempts == ()
            assert "1 request at a time of the client" in str(error)
        turnstile.let_go("inside")
        inside()
        after = caller.begin("after")
        eventually(caller, lambda: turnstile.inside == ["after"])
        turnstile.let_go("after")
        after()
    assert turnstile.came == ["inside", "after"]


# --- no holes ---


@pytest.fixture(params=STORES)
def tasks(request: pytest.FixtureRequest, server: FaultServer) -> World:
    return World(AsyncCaller, server, request.getfixturevalue("redis") if request.param == "redis" else None)


@pytest.fixture(params=STORES)
def threads(request: pytest.FixtureRequest, server: FaultServer) -> World:
    return World(SyncCaller, server, request.getfixturevalue("redis") if request.param == "redis" else None)


@pytest.mark.parametrize("queue", QUEUES)
def test_a_cancelled_task_leaves_no_hole(tasks: World, turnstile: Turnstile, queue: str) -> None:
    """Wherever it was: first in the queue, in its midst, or at the server with the slot that the others wait for."""
    with tasks.client(**QUEUES[queue]) as caller:
        assert isinstance(caller, AsyncCaller)
        started = {}
        for place, question in enumerate(["inside 0", "inside 1", "first", "second", "third", "fourth"]):
            started[question] = caller.loop.create_task(caller.client.complete(question))
            known = lambda place=place: len(turnstile.inside) + waiting(caller) == place + 1  # noqa: E731
            eventually(caller, known)
        for question in ("third", "first"):
            started[question].cancel()
        eventually(caller, lambda: waiting(caller) == 2)
        started["inside 1"].cancel()
        eventually(caller, lambda: turnstile.inside == ["inside 0", "second"])
        turnstile.let_go("inside 0")
        eventually(caller, lambda: turnstile.inside == ["second", "fourth"])
        for question in ("second", "fourth"):
            turnstile.let_go(question)
        ended = caller.run(_all_of(list(started.values())))
        assert [type(each) is asyncio.CancelledError for each in ended] == [False, True, True, False, True, False]
        assert waiting(caller) == 0
    assert turnstile.most == 2


async def _all_of(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("queue", QUEUES)
def test_ctrl_c_leaves_no_hole(threads: World, turnstile: Turnstile, queue: str) -> None:
    """A real one, that strikes the main thread while it waits between two others."""
    main = threading.main_thread().ident
    assert main is not None
    with threads.client(**QUEUES[queue]) as caller:
        ends = [caller.begin(question) for question in ("inside 0", "inside 1")]
        eventually(caller, lambda: len(turnstile.inside) == 2)
        ends += queue_up(caller, ["first"])
        behind: list[Callable[[], Any]] = []

        def strike() -> None:
            eventually(caller, lambda: waiting(caller) == 2)
            behind.extend(queue_up(caller, ["last"]))
            signal.pthread_kill(main, signal.SIGINT)

        striking = threading.Thread(target=strike)
        striking.start()
        with pytest.raises(KeyboardInterrupt):
            caller.complete("struck")
        striking.join()
        assert waiting(caller) == 2
        order = ["inside 0", "inside 1", "first", "last"]
        for place, question in enumerate(order):
            expected = sorted(order[place : place + 2])
            eventually(caller, lambda expected=expected: sorted(turnstile.inside) == expected)  # type: ignore[misc]
            turnstile.let_go(question)
        for end in [*ends, *behind]:
            end()
    assert turnstile.came[2:] == ["first", "last"]


# --- streams ---

WAYS = ("to its end", "closed", "abandoned", "broken")


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_gives_its_slot_back(world: World, way: str) -> None:
    """However it ends, whoever waits is next."""
    gate, breaks = r.Signal(), way == "broken"
    end = [r.cut()] if breaks else ["two", r.end(), r.done()]
    world.server.script(B, r.stream(r.role(), "one ", r.pause(gate), *end))
    limits = {"client": Limits(concurrency=1, queue_size=5), "key": Limits(concurrency=1, queue_size=5)}
    with world.client(limits=limits) as caller:
        reader = caller.stream(model=B)
        (following,) = queue_up(caller, ["following"])
        assert world.server.models_asked == [B]
        if way == "abandoned":
            with pytest.warns(ResourceWarning, match="neither closed nor read"):
                del reader
        elif way == "closed":
            reader.close()
        else:
            gate.set()
            if breaks:
                with pytest.raises(StreamInterruptedError):
                    read(reader)
            else:
                read(reader)
        assert following().text == f"Hello from {A}"
        assert caller.complete().text == f"Hello from {A}"
    assert world.server.models_asked == [B, A, A]


def read(reader: Any) -> None:
    while reader.next() is not None:
        pass


@pytest.mark.parametrize("facade", FACADES)
def test_a_client_that_is_closed_leaves_no_slot_taken(facade: str, server: FaultServer, redis: servers.Server) -> None:
    """Nor money held: what its last call gave up is told before it goes."""
    server.script(B, r.stream(r.role(), "one ", r.pause(r.Signal()), r.end(), r.done()))
    world = World(FACADES[facade], server, redis)
    with world.client(limits=Limits(concurrency=1)) as caller:
        caller.stream(model=B).close()
    with world.client(limits=Limits(concurrency=1)) as caller:
        assert caller.complete().text == f"Hello from {A}"


# --- forked ---


@pytest.mark.parametrize("facade", FACADES)
def test_a_forked_child_counts_for_itself_and_waits_for_no_lock(facade: str, server: FaultServer) -> None:
    """In memory: what was used before stays used; who was under way, or waited, is the parent's."""
    world = World(FACADES[facade], server, None)
    turnstile = Turnstile()
    server.script(B, turnstile)
    limits = {
        "client": Limits(requests_per_day=5, concurrency=1, queue_size=5),
        "key": Limits(concurrency=1, queue_size=5),
    }
    with world.client(limits=limits) as caller:
        answer_of(caller)
        inside = caller.begin("inside", model=B)
        eventually(caller, lambda: turnstile.inside == ["inside"])
        (behind,) = queue_up(caller, ["behind"], model=B)
        client, router = caller.client, caller.client.router
        locks = [router.store._lock, *(queue._lock for queue in router.turns._queues.values())]  # type: ignore[union-attr]

        def child(number: int) -> list[str]:
            told = []
            for turn in range(4):
                try:
                    asked = client.complete(f"child {number}, {turn}")
                    told.append((asked if isinstance(client, Client) else asyncio.run(asked)).text)  # type: ignore[arg-type,union-attr]
                except LimitExceededError as error:
                    told.append(str(error).partition(":")[0])
            return told

        with held(*locks):
            found = forked(child, 2)
        assert found == [[f"Hello from {A}"] * 3 + ["5 requests a day of the client"]] * 2
        assert waiting(caller) == 1
        for question, end in (("inside", inside), ("behind", behind)):
            eventually(caller, lambda question=question: question in turnstile.inside)  # type: ignore[misc]
            turnstile.let_go(question)
            end()
        for _ in range(2):
            answer_of(caller)
        assert "5 requests a day of the client" in str(refusal(outcome_of(caller)))
