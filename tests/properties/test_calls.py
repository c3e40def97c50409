"""Any history of calls: how often is asked, when, whom, for how long, and what the caller gets."""

from __future__ import annotations

from collections import defaultdict

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routerkit import AllModelsFailedError, CallFinished, Completion, RouterKitError, StreamInterruptedError
from routerkit.core.effects import Deliver, Failure, HttpResponse, Open, Send, Sleep
from routerkit.core.streaming import Ended
from routerkit.types.completion import StreamMarker
from routerkit.types.policy import RetryPolicy
from routerkit.types.route import Target
from routerkit.types.verdict import Action, Billing, Blame, Sent
from tests.properties.scripts import FINE, HINTS, LAST_RESORT, MODELS, A, Answer, answers
from tests.properties.worlds import GATEWAY, Ask, Record, Run, World, some, worlds

NEVER_RETRIED = (Action.FAIL, Action.NEXT_KEY)
"""Actions after which a client with one key asks nobody."""
FREE = frozenset({"stale_connection", "misdirected"})
"""Verdicts after which the same target is asked once more at no charge."""
EPSILON = 1e-6
"""For sums of floats."""


def script(*given: Answer, model: str = A) -> tuple[tuple[str, tuple[Answer, ...]], ...]:
    return ((model, given),)


STALE = Answer("unreachable", (Failure.DISCONNECTED, Sent.MAYBE, True))
DOWN = Answer("refusal", (500, (), ()))
PATIENT = RetryPolicy(max_attempts=10)


@some(0.3)
@given(worlds())
@example(World(script(DOWN), (Ask(models=(A,), total=120),), retry=PATIENT))
@example(World(tuple((model, (STALE,)) for model in MODELS), (Ask(),)))
@example(World(script(DOWN, STALE), (Ask(models=(A,), total=120),), retry=PATIENT))
def test_attempts_are_bounded(world: World) -> None:
    """A call makes at most max_attempts attempts, and one more for free when a connection turned out stale; apart from
    that, at most two on one target. What reaches the wire is what the route tells."""
    for record in Run(world).play().records:
        attempts = record.route.attempts
        free = sum(attempt.verdict.code in FREE for attempt in attempts[:-1])
        assert len(attempts) <= world.retry.max_attempts + min(free, 1)
        asked: dict[Target | None, int] = defaultdict(int)
        for order in record.requests:
            asked[order.target] += order.may_have_been_sent
        assert sum(max(0, count - 2) for count in asked.values()) <= min(free, 1)
        unsent = sum(str(attempt.verdict.sent) == "not_sent" for attempt in attempts)
        assert sum(asked.values()) == len(attempts) - unsent
        assert len(record.requests) <= 2 * len(attempts)


@some(0.3)
@given(worlds(asks=10))
def test_retries_of_the_same_target_stay_within_their_budget(world: World) -> None:
    """In any window of time the calls together pay for no more retries of a target than its budget holds, plus a tenth (or what
    the policy says) of the first attempts on it, plus one for each 10 s."""
    firsts: dict[Target, list[float]] = defaultdict(list)
    payments: dict[Target, list[float]] = defaultdict(list)
    for record in Run(world).play().records:
        asked: list[Target] = []
        for order in record.orders:
            if order.target is not None:
                if order.target not in asked:
                    firsts[order.target].append(order.at)
                asked.append(order.target)
            elif isinstance(order.effect, Sleep) and asked:  # it is paid before the wait
                payments[asked[-1]].append(order.at)
    policy = world.retry
    for target, times in payments.items():
        for place, start in enumerate(times):
            for count, end in enumerate(times[place:], 1):
                deposits = sum(start <= first <= end for first in firsts[target]) * policy.budget_deposit
                assert count <= policy.budget + deposits + (end - start) / 10 + EPSILON


@some(0.3)
@given(worlds())
@example(World(script(Answer("refusal", (429, (("Retry-After", "20"),), ()))), (Ask(models=(A,), total=20),) * 2, 0.0))
def test_nothing_is_sent_at_or_after_the_deadline(world: World) -> None:
    """No request is sent at the deadline or after it; no limit of a request reaches beyond it; the call returns by then."""
    for record in Run(world).play().records:
        for order in record.orders:
            if isinstance(order.effect, (Send, Open)):
                assert order.at < record.deadline
                assert order.at + order.effect.total <= record.deadline + EPSILON
        assert record.ended <= record.deadline + EPSILON


@some(0.3)
@example(World(script(Answer("refusal", (429, (("Retry-After", "60"),), ()))), (Ask(models=(A,), total=120),), 0.5))
@given(worlds(answer=st.sampled_from(HINTS).map(lambda hint: Answer("refusal", (429, hint, ()))) | answers()))
def test_no_wait_is_longer_than_a_minute_or_what_is_left(world: World) -> None:
    """No sleep is longer than min(60 s, what is left until the deadline), whatever the headers say; each is in the route."""
    for record in Run(world).play().records:
        slept = [(order.at, order.effect.seconds) for order in record.orders if isinstance(order.effect, Sleep)]
        assert [seconds for _, seconds in slept] == [wait.seconds for wait in record.route.waits]
        assert all(0 <= seconds <= min(60.0, record.deadline - at) for at, seconds in slept)


@some(0.3)
@given(worlds())
def test_what_fails_for_good_is_not_tried_again(world: World) -> None:
    """After a verdict whose row says fail (or: another key, where there is none) the call asks nobody and raises that error."""
    for record in Run(world).play().records:
        attempts = record.route.attempts
        for attempt in attempts[:-1]:
            assert attempt.verdict.action not in NEVER_RETRIED
        if attempts and attempts[-1].verdict.action in NEVER_RETRIED:
            assert isinstance(record.result, RouterKitError)
            assert not isinstance(record.result, AllModelsFailedError)


@some(0.3)
@given(worlds())
def test_at_most_once_pays_once(world: World) -> None:
    """Under at_most_once a call goes on only after attempts that were proved not sent or were refused, so that at most one can
    be billed, and makes no second one after an answer that broke off."""
    for record in Run(attrs.evolve(world, retry=attrs.evolve(world.retry, at_most_once=True))).play().records:
        attempts = record.route.attempts
        assert sum(attempt.billing is not Billing.NONE for attempt in attempts) <= 1
        assert all(str(attempt.verdict.sent) != "maybe" for attempt in attempts[:-1])
        assert all(attempt.first_token is None for attempt in attempts[:-1])


@some(0.3)
@given(worlds())
def test_models_are_asked_in_their_order(world: World) -> None:
    """A model is asked only when each one before it in the plan was refused, with its reason in the route, or failed."""
    for record in Run(world).play().records:
        order = [*record.ask.models, LAST_RESORT]
        dealt_with = {skip.model for skip in record.route.skipped}
        for attempt in record.route.attempts:
            before = order[: order.index(attempt.model)]
            assert dealt_with >= set(before)
            dealt_with.add(attempt.model)
            dealt_with |= {"the catalogue"}


@some(0.3)
@given(worlds())
def test_a_call_that_its_models_answer_waits_for_no_catalogue(world: World) -> None:
    """The catalogue is fetched only when every model that was named has failed or was refused."""
    for record in Run(world).play().records:
        asked: set[str] = set()
        skipped = {skip.model for skip in record.route.skipped}
        conditions = any(str(attempt.verdict.condition) != "any" for attempt in record.route.attempts)
        for order in record.orders:
            if isinstance(order.effect, Send) and order.effect.request.method == "GET":
                assert conditions or asked | skipped >= set(record.ask.models)
            elif order.target is not None:
                asked.add(order.target.model)


@some(0.3)
@given(worlds())
def test_what_is_delivered_is_a_prefix_of_one_attempts_output(world: World) -> None:
    """The pieces of a stream, joined, are a prefix of what exactly one answer said: nothing is spliced, repeated or left out.
    Where the caller asked for another model to go on, that holds between two markers."""
    for record in Run(world).play().records:
        parts = [""]
        for chunk in record.delivered:
            if isinstance(chunk, StreamMarker):
                assert record.ask.on_interrupt in ("restart", "continue")
                parts.append("")
            parts[-1] += chunk.text + chunk.reasoning
        assert len(parts) == 1 or all(parts)
        assert all(sum(said.startswith(part) for said in record.said) == 1 for part in parts if part)
        assert len(
            {next(place for place, said in enumerate(record.said) if said.startswith(p)) for p in parts if p}
        ) == (len(list(filter(None, parts))))
        if isinstance(record.result, Completion):
            assert record.result.text in record.said


@some(0.3)
@given(worlds())
def test_every_call_ends_exactly_once(world: World) -> None:
    """A stream is complete, or interrupted with what was delivered, or failed with nothing delivered; observers hear of the
    end of a call once, last, and nothing is delivered after that."""
    for record in Run(world).play().records:
        finished = [event for event in record.events if isinstance(event, CallFinished)]
        assert len(finished) == 1
        assert record.events[-1] is finished[0]
        assert finished[0].route.attempts == record.route.attempts
        assert finished[0].error == (
            type(record.result).__name__ if isinstance(record.result, RouterKitError) else None
        )
        valid = record.valid
        if isinstance(record.result, Ended):
            assert valid == record.result.chunks
            assert record.result.completion().text == "".join(chunk.text for chunk in valid)
        elif isinstance(record.result, StreamInterruptedError):
            assert valid == list(record.result.chunks)
            assert record.result.partial_text == "".join(chunk.text for chunk in valid)
        else:
            assert not record.delivered
        kinds = [type(order.effect) for order in record.orders]
        if Deliver in kinds and record.ask.on_interrupt in (None, "raise"):
            assert not {Send, Open, Sleep} & set(kinds[kinds.index(Deliver) :])


OTHERS_FAULT = [
    *(Answer("refusal", (status, (), ())) for status in (400, 401, 402, 403, 409, 413, 415)),
    *(
        Answer("refusal", (429, (), (("metadata", {"limit_source": source}),)))
        for source in ("openrouter_free_tier_daily", "openrouter_key_limit", "openrouter_in_flight_budget")
    ),
    Answer("refusal", (404, (), (("availability", {"code": "privacy_restricted"}),))),
    Answer("refusal", (400, (), (("metadata", {"error_type": "content_policy_violation"}),))),
]


@some(0.3)
@given(worlds(asks=4), st.lists(st.sampled_from(OTHERS_FAULT), min_size=3, max_size=3), st.booleans())
def test_what_callers_do_wrong_changes_no_breaker(world: World, faults: list[Answer], stream: bool) -> None:
    """Verdicts that blame the request, the key, the tenant or this process change the breaker of no model and no gateway, so
    one caller's mistakes close no door to the others."""
    run = Run(world).play()
    run.runtime.now += 4000  # what rests has rested
    for model, fault in zip((*MODELS, LAST_RESORT), (*faults, faults[0]), strict=True):
        run.gateway.script(model, fault.reply(lambda: lambda text: text))
    for model in MODELS:
        before = {name: state[1:] for name, state in run.breakers().items()}
        record = run.call(Ask(stream, (model,)))
        blamed = {attempt.verdict.blame for attempt in record.route.attempts}
        assert not blamed & {Blame.MODEL, Blame.GATEWAY}
        assert {name: state[1:] for name, state in run.breakers().items()} == before


@some(0.3)
@given(worlds(overlapping=True))
def test_nothing_is_held_when_nobody_calls(world: World) -> None:
    """Every permit, probe and connection that calls took is given back when they have ended."""
    run = Run(world).play()
    assert run.leases() == []


@some(0.3)
@given(worlds(overlapping=True))
def test_the_same_history_gives_the_same_trace(world: World) -> None:
    """Played twice, a history gives the same orders, results and routes, to the byte."""
    first, second = (Run(world).play() for _ in range(2))
    assert [record.lines() for record in first.records] == [record.lines() for record in second.records]


def test_the_invariants_see_something() -> None:
    """The histories are no empty ones: a retry, a wait, a stream that breaks and one that moves on can be found in them."""
    answer = Answer("refusal", (429, (("Retry-After", "2"),), ()))
    cut = Answer("story", (("text",), ("text",), ("cut",)))
    world = World(
        (("a/one", (answer, FINE)), ("b/two", (cut,))),
        (Ask(models=("a/one",)), Ask(stream=True, models=("b/two",)), Ask(stream=True)),
    )
    waited, broken, fine = Run(world).play().records
    assert [order.target for order in waited.requests] == [Target(GATEWAY, "a/one")] * 2
    assert len(waited.route.waits) == 1
    assert isinstance(broken.result, StreamInterruptedError)
    assert broken.said[0].startswith("".join(chunk.text for chunk in broken.delivered))
    assert isinstance(fine.result, Ended)
    assert any(isinstance(order.outcome, HttpResponse) for order in waited.orders)


@pytest.mark.parametrize("stream", [False, True])
def test_one_deadline_for_all(stream: bool) -> None:
    """Three models that hang get no more time together than the call has."""
    world = World(tuple((model, (Answer("hang"),)) for model in MODELS), (Ask(stream),))
    record: Record = Run(world).play().records[0]
    assert record.ended == record.deadline
