"""Faults 47 to 56: when to come back, and who is to blame: hints, quotas, credit, keys, unknown models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from routerkit import RouterKitError
from routerkit.testing import FaultServer, VirtualRuntime
from routerkit.testing import replies as r
from routerkit.testing.runtime import WALL
from tests.faults.catalogue import fault, row
from tests.faults.outcomes import FAST, After, Outcome, alone, check_after, check_outcome, left, within
from tests.support.facades import KEY, AsyncCaller, SyncCaller
from tests.support.scenarios import A, Ask, B, C, Scenario

Facade = type[SyncCaller | AsyncCaller]

# --- 47 to 51: hints ---


def limited(*headers: tuple[str, str], body: Any = None) -> r.Reply:
    """A 429 with these headers, as they are, the same name more than once if need be."""
    data = json.dumps(body or {"error": {"code": 429, "message": "slow down"}}).encode()
    lines = [("Content-Type", r.JSON), ("Content-Length", str(len(data))), *headers]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines).encode()
    return r.raw(b"HTTP/1.1 429 Too Many Requests\r\n" + head + b"\r\n" + data, keep=True)


def after(text: str) -> r.Reply:
    return limited(("Retry-After", text))


HINTS = [
    row(47, after("0"), 5, name="0"),
    row(47, after("-5"), 5, name="-5"),
    row(47, after("1.5"), 1.5, name="1.5"),
    row(47, after("1e9"), 5, name="1e9"),
    row(47, after("1" + 9 * "0"), 300, name="a thousand million"),
    row(47, after("inf"), 5, name="inf"),
    row(47, after("nan"), 5, name="nan"),
    row(47, after("９９"), 5, name="full-width digits"),
    row(47, after(""), 5, name="nothing"),
    row(47, after("9" * 10_000), 5, name="10 KB of digits"),
    row(47, after("Fri, 31 Dec 1999 23:59:59 GMT"), 5, name="past"),
    row(47, after("Tue, 01 Jan 2115 00:00:00 GMT"), 300, name="2115"),
    row(47, after("Wed, 99 Foo"), 5, name="no date"),
    row(47, limited(("Retry-After", "7"), ("Retry-After", "9")), 7, name="two headers"),
    row(47, limited(("Retry-After", "inf"), ("Retry-After", "9")), 5, name="two headers, the first unusable"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize(("reply", "rests"), HINTS)
def test_whatever_the_hint_the_next_model_is_asked_at_once(reply: r.Reply, rests: float, stream: bool) -> None:
    """No wait: the expected trace has none. The model rests, five seconds where the hint says nothing, five minutes at most."""
    check_outcome(reply, Outcome("rate_limited", 429, fed=False, rests=rests, billing="none"), stream=stream)


@pytest.mark.parametrize(("reply", "rests"), HINTS)
def test_whatever_the_hint_nobody_waits_longer_than_a_minute(facade: Facade, reply: r.Reply, rests: float) -> None:
    runtime = VirtualRuntime()
    with FaultServer() as server, facade(base_url=server.url, runtime=runtime) as caller:
        server.script(A, reply)
        server.catalog = r.error(404)
        trace = caller.ask(alone([], "", timeouts=within(10)))
        assert trace.gives in ("RateLimitError", "DeadlineExceededError")
        assert sum(runtime.slept) < 10
        runtime.advance(86_400)
        caller.ask(alone([], "", timeouts=within(86_400)))
        assert max([0.0, *runtime.slept]) <= 60
        assert len(server.models_asked) <= 4


@fault(48)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
def test_a_hint_beyond_the_deadline_is_kept_for_the_next_calls(stream: bool) -> None:
    ask = Ask([f"{A} 429 rate_limited", f"{B} 200 ok"], f"Hello from {B}", stream=stream, timeouts=within(10))
    again = Ask([f"{B} 200 ok"], f"Hello from {B}", stream=stream, timeouts=within(10), skipped=[A])
    check_after(Scenario("48", {A: [after("20")]}, [ask, again]), After(rests={A: 20}))


@fault(49)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
def test_an_only_candidate_is_asked_again_not_before_its_time(
    facade: Facade, server: FaultServer, stream: bool
) -> None:
    runtime = VirtualRuntime()
    runtime.dice = 0.0  # the earliest that there can be
    server.script(A, after("2"), r.completion())
    server.catalog = r.error(404)
    with facade(base_url=server.url, runtime=runtime) as caller:
        trace = caller.ask(alone([], "", stream=stream))
        assert trace.attempts == (f"{A} 429 rate_limited", f"{A} 200 ok")
        assert trace.gives == f"Hello from {A}"
    assert runtime.slept == [pytest.approx(2.0)]
    assert runtime.slept[0] >= 2.0


INSTANT = WALL + 30
RESETS = [
    row(50, limited(("X-RateLimit-Reset", f"{INSTANT * 1000:.0f}")), name="milliseconds"),
    row(50, limited(("X-RateLimit-Reset", f"{INSTANT:.0f}")), name="seconds"),
    row(50, limited(("X-RateLimit-Reset", "30")), name="from now"),
    row(
        50,
        limited(body={"error": {"code": 429, "metadata": {"headers": {"X-RateLimit-Reset": f"{INSTANT * 1000:.0f}"}}}}),
        name="in the body only",
    ),
    row(
        51,
        limited(("Date", "Wed, 31 Dec 2025 23:00:00 GMT"), ("Retry-After", "Wed, 31 Dec 2025 23:00:30 GMT")),
        name="our clock is an hour ahead of the server's",
    ),
    row(
        51,
        limited(("Date", "Thu, 01 Jan 2026 01:00:00 GMT"), ("X-RateLimit-Reset", f"{INSTANT + 3600:.0f}")),
        name="our clock is an hour behind, and a reset",
    ),
]


@pytest.mark.parametrize("reply", RESETS)
def test_every_way_of_saying_when_means_the_same_instant(facade: Facade, server: FaultServer, reply: r.Reply) -> None:
    runtime = VirtualRuntime()  # its wall clock says midnight of 1 January 2026
    server.script(A, reply)
    with facade(base_url=server.url, runtime=runtime) as caller:
        assert caller.ask(Ask([], "")).attempts == (f"{A} 429 rate_limited", f"{B} 200 ok")
        assert left(caller) == After(rests={A: 30})
        runtime.advance(29)
        assert caller.ask(Ask([], "")).attempts == (f"{B} 200 ok",)
        runtime.advance(2)
        assert caller.ask(Ask([], "")).attempts == (f"{A} 429 rate_limited", f"{B} 200 ok")


# --- 52: the free tier ---

FREE = ("a/one:free", "b/two:free", "c/three:free")
MIDNIGHT = WALL + 86_400
_RESET = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{MIDNIGHT * 1000:.0f}"}


def daily(metadata: dict[str, Any], message: str = "no", headers: dict[str, str] | None = None) -> r.Reply:
    return r.error(429, message=message, metadata=metadata, headers=headers)


EXHAUSTED = [
    row(52, daily({"limit_source": "openrouter_free_tier_daily"}, headers=_RESET), name="limit_source"),
    row(52, daily({"headers": _RESET}, "Rate limit exceeded: free-models-per-day. Add credits"), name="message"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("reply", EXHAUSTED)
def test_one_free_model_tells_for_all_of_them(reply: r.Reply, stream: bool) -> None:
    paid = Ask(
        [f"{FREE[0]} 429 free_tier_exhausted", f"{C} 200 ok"],
        f"Hello from {C}",
        stream=stream,
        model=FREE[0],
        fallback_models=(*FREE[1:], C),
        skipped=FREE[1:],
    )
    runtime = VirtualRuntime(wall=MIDNIGHT - 1800)
    check_after(Scenario("52", {FREE[0]: [reply]}, [paid]), After(rests={"free": 1800}), runtime=runtime)


@pytest.mark.parametrize("reply", EXHAUSTED)
@pytest.mark.parametrize("hours", [0.5, 8])
def test_without_a_paid_model_the_call_fails_and_says_when(
    facade: Facade, server: FaultServer, reply: r.Reply, hours: float
) -> None:
    runtime = VirtualRuntime(wall=MIDNIGHT - hours * 3600)
    server.script(FREE[0], reply)
    server.catalog = r.error(404)
    with facade(base_url=server.url, runtime=runtime, default_model=FREE[0], fallback_models=FREE[1:]) as caller:
        with pytest.raises(RouterKitError) as caught:
            caller.complete()
        assert caught.value.rate_limited
        assert caught.value.retry_after == pytest.approx(hours * 3600, abs=1)
        runtime.advance(hours * 3600 - 60)
        with pytest.raises(RouterKitError) as caught:
            caller.complete()
        assert caught.value.retry_after == pytest.approx(60, abs=1)
        assert server.models_asked == [FREE[0]]
        runtime.advance(120)
        assert caller.complete(model=FREE[1]).model == FREE[1]


# --- 53, 54: the account and the key ---


@fault(53)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
def test_credit_in_flight_is_waited_for(stream: bool) -> None:
    busy = r.error(402, metadata={"limit_source": "openrouter_in_flight_budget"}, headers={"Retry-After": "4"})
    ask = Ask([f"{A} 402 in_flight_budget", f"{A} 200 ok"], f"Hello from {A}", stream=stream, waits=[4.2])
    check_after(Scenario("53", {A: [busy, r.completion()]}, [ask]), After())


@fault(53)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
def test_other_calls_on_the_key_wait_too(facade: Facade, server: FaultServer, stream: bool) -> None:
    runtime = VirtualRuntime()
    runtime.dice = 0.0
    busy = r.error(402, metadata={"limit_source": "openrouter_in_flight_budget"}, headers={"Retry-After": "30"})
    server.script(A, busy, r.completion())
    with facade(base_url=server.url, runtime=runtime) as caller:
        hurried = caller.ask(Ask([], "", timeouts=within(10)))
        assert (hurried.attempts, hurried.gives) == ((f"{A} 402 in_flight_budget",), "PaymentRequiredError")
        assert left(caller).rests == {"key": 30}
        assert caller.ask(Ask([], "", model=B, timeouts=within(10))).attempts == ()
        patient = caller.ask(Ask([], "", model=B, stream=stream))
        assert (patient.attempts, patient.gives) == ((f"{B} 200 ok",), f"Hello from {B}")
    assert runtime.slept == [pytest.approx(30, abs=1)]
    assert server.models_asked == [A, B]


@fault(54)
def test_a_wrong_key_is_sent_twice_a_minute_at_most_and_harms_no_other(facade: Facade, server: FaultServer) -> None:
    runtime = VirtualRuntime()
    good = "sk-test-of-another-tenant"
    server.default = r.choose(lambda request: r.error(401) if request.api_key == KEY else r.completion())
    with (
        facade(base_url=server.url, runtime=runtime, default_model=A, fallback_models=[B], breaker=FAST) as ours,
        facade(base_url=server.url, runtime=runtime, default_model=A, api_key=good, breaker=FAST) as theirs,
    ):
        for _ in range(100):
            trace = ours.ask(Ask([], ""))
            assert trace.gives == "AuthenticationError"
            assert theirs.complete().model == A
            runtime.advance(0.6)
        assert left(ours) == After(rests=left(ours).rests)
        assert left(theirs) == After()
    refused = [request for request in server.chat_requests if request.api_key == KEY]
    assert 1 <= len(refused) <= 2
    assert len(server.chat_requests) == len(refused) + 100


# --- 55, 56: the body beats the status ---

UNKNOWN = [
    row(55, r.error(400, message="no/such is not a valid model ID"), name="message"),
    row(55, r.error(400, {"error": {"code": 400, "availability": {"code": "model_not_found"}}}), name="availability"),
    row(55, r.error(400, metadata={"error_type": "not_found"}), name="error_type"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("reply", UNKNOWN)
def test_an_unknown_model_is_left_and_remembered(reply: r.Reply, stream: bool) -> None:
    outcome = Outcome("model_not_found", 400, fed=False, rests=3600, billing="none")
    check_outcome(reply, outcome, stream=stream)


@pytest.mark.parametrize("reply", UNKNOWN[:1])
def test_an_unknown_model_is_asked_again_once_the_catalogue_is_old(
    facade: Facade, server: FaultServer, reply: r.Reply
) -> None:
    runtime = VirtualRuntime()
    server.script(A, reply, r.completion())
    with facade(base_url=server.url, runtime=runtime) as caller:
        for minutes in (0, 30, 29):
            runtime.advance(minutes * 60)
            assert caller.ask(Ask([], "")).gives == f"Hello from {B}"
        assert server.models_asked.count(A) == 1
        runtime.advance(120)
        assert caller.ask(Ask([], "")).gives == f"Hello from {A}"


@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize(
    ("reply", "rests"),
    [
        row(56, r.error(500, metadata={"error_type": "rate_limit_exceeded"}), 5, name="metadata"),
        row(56, r.error(500, {"error": {"error_type": "rate_limit_exceeded", "http_status": 429}}), 5, name="error"),
        row(56, r.error(500, {"error": {"message": "no"}, "error_type": "rate_limit_exceeded"}), 5, name="top level"),
        row(
            56,
            r.error(500, metadata={"error_type": "rate_limit_exceeded"}, headers={"Retry-After": "12"}),
            12,
            name="with a hint",
        ),
    ],
)
def test_a_500_that_says_it_is_a_rate_limit_is_one(reply: r.Reply, rests: float, stream: bool) -> None:
    check_outcome(reply, Outcome("rate_limited", 500, fed=False, rests=rests, billing="none"), stream=stream)
