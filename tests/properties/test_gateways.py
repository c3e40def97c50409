"""Any history of two gateways, several keys and two tenants: who is asked how often, with whose key, and who notices what."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from routerkit.core.effects import Failure, Open, Send
from routerkit.types.policy import RetryPolicy
from routerkit.types.verdict import Action, Blame, Sent
from tests.properties.scripts import FINE, LAST_RESORT, MODELS, A, Answer, answers
from tests.properties.test_calls import FREE
from tests.properties.wide import ACCOUNT, GATEWAYS, TENANTS, Wide, WideRun, key_of, plain_asks, wides
from tests.properties.worlds import Ask, Order, Record, some

ACME, GLOBEX = TENANTS


def requests_of(record: Record) -> list[tuple[str, str]]:
    """Whom a call asked for an answer, and with which key; an attempt that connected twice is one."""
    found: list[tuple[str, str]] = []
    before: Order | None = None
    for order in record.requests:
        assert isinstance(order.effect, (Send, Open))
        credential = order.effect.request.credential
        assert credential is not None
        asked = (str(order.target), credential.secret.reveal())
        reconnected = before is not None and not before.may_have_been_sent and found[-1] == asked
        if reconnected:
            before = None
            continue
        found.append(asked)
        before = order
    return found


# --- how often ---


@some(0.2)
@given(wides())
def test_attempts_are_bounded_whatever_the_number_of_keys_and_gateways(wide: Wide) -> None:
    """At most max_attempts, and one more for free when a connection turned out stale; what is sent is what the route tells."""
    for record in WideRun(wide).play().records:
        attempts = record.route.attempts
        free = sum(attempt.verdict.code in FREE for attempt in attempts[:-1])
        assert len(attempts) <= wide.retry.max_attempts + min(free, 1)
        assert [target for target, _ in requests_of(record)] == [str(attempt.target) for attempt in attempts]


@some(0.2)
@given(wides())
def test_no_target_is_asked_twice_but_by_a_rule(wide: Wide) -> None:
    """With the same key after a wait, or once on a new connection for a stale one; with another key when this one was refused."""
    for record in WideRun(wide).play().records:
        attempts, asked = record.route.attempts, requests_of(record)
        free = any(attempt.verdict.code in FREE for attempt in attempts[:-1])
        again = sum(count - 1 for count in Counter(asked).values())
        assert again <= len(record.route.waits) + free
        last: dict[str, int] = {}
        for place, (target, key) in enumerate(asked):
            verdict = attempts[last[target]].verdict if target in last else None
            if verdict is not None and asked[last[target]][1] != key and not record.route.waits and not free:
                assert verdict.blame is Blame.KEY or verdict.code == "rate_limited"
            last[target] = place


@some(0.2)
@given(wides())
def test_a_gateway_that_failed_is_asked_for_nothing_more(wide: Wide) -> None:
    """By the same call, but for the model that it failed at, when nothing else is left."""
    for record in WideRun(wide).play().records:
        failed: dict[str, str] = {}
        for attempt in record.route.attempts:
            assert failed.get(attempt.gateway, attempt.model) == attempt.model
            if attempt.verdict.action is Action.NEXT_GATEWAY:
                failed[attempt.gateway] = attempt.model


@some(0.2)
@given(wides())
def test_models_that_are_handed_over_are_one_model_of_ours(wide: Wide) -> None:
    """With ``models=`` a call asks for the first of them alone, on either gateway, and reads no catalogue to find more."""
    asks = tuple(attrs.evolve(ask, handed=True) for ask in wide.asks)
    for record in WideRun(attrs.evolve(wide, asks=asks)).play().records:
        assert {attempt.model for attempt in record.route.attempts} <= {record.ask.models[0]}
        for order in record.requests:
            assert isinstance(order.effect, (Send, Open))
            assert b'"models":["' in (order.effect.request.body or b"")


# --- whose keys ---


@some(0.2)
@given(wides(overlapping=True))
def test_every_key_stays_with_its_tenant_and_its_gateway(wide: Wide) -> None:
    """Whatever is sent, for the catalogue too, goes out with a key of the tenant that asks for the gateway that is asked; and no
    key stands anywhere else in it."""
    run = WideRun(wide).play()
    for record in run.records:
        for order in record.orders:
            if isinstance(order.effect, (Send, Open)):
                request = order.effect.request
                gateway = next(name for name in GATEWAYS if request.url.startswith(f"http://{name}/"))
                assert request.credential is not None
                assert request.credential.secret.reveal() in run.keys[record.ask.tenant][gateway]
                assert request.credential.origin == f"http://{gateway}"
                assert "sk-" not in f"{request.url} {request.headers} {request.body!r}"


@some(0.2)
@given(wides(overlapping=True))
def test_nothing_is_held_when_nobody_calls(wide: Wide) -> None:
    """No key is in use, no permit out and no connection open."""
    assert WideRun(wide).play().leases() == []


# --- who notices what (I9) ---


@some(0.2)
@given(wides(), st.sampled_from(ACCOUNT), st.lists(plain_asks(), min_size=1, max_size=4))
def test_what_blames_no_model_changes_no_breaker(wide: Wide, refusal: Answer, asks: list[Ask]) -> None:
    """Calls whose every request is refused for the sake of its key, its account or itself leave all breakers as they were."""
    run = WideRun(wide).play()
    run.runtime.now += 4000  # what rests has rested
    run.refuse(*TENANTS, refusal=refusal)
    before = {name: state[1:] for name, state in run.breakers().items()}
    for ask in asks:
        record = run.call(attrs.evolve(ask, after=0.0))
        assert not {attempt.verdict.blame for attempt in record.route.attempts} & {Blame.GATEWAY}
        assert {name: state[1:] for name, state in run.breakers().items()} == before


def same_everywhere(answer: Answer, **fields: Any) -> Wide:
    """Both gateways give this answer to whatever they are asked; one key for each of both tenants there."""
    return Wide(
        tuple((gateway, model, (answer,)) for gateway in GATEWAYS for model in (*MODELS, LAST_RESORT)),
        tuple((tenant, gateway, 1) for tenant in TENANTS for gateway in GATEWAYS),
        tuple((key_of(tenant, gateway, 0), (None,)) for tenant in TENANTS for gateway in GATEWAYS),
        **fields,
    )


ONE_RETRY = same_everywhere(
    Answer("refusal", (409, (), ())),
    asks=(Ask(models=(A,), tenant=ACME), Ask(models=(A,), tenant=GLOBEX)),
    retry=RetryPolicy(budget=1, budget_deposit=0),
)
"""The retries that a model has left are not for those whose own account stands in the way."""
ALL_OPEN = same_everywhere(
    Answer("refusal", (500, (), ())),
    asks=tuple(Ask(models=(A,), total=0.5, tenant=tenant) for tenant in (ACME, GLOBEX) * 2),
    retry=RetryPolicy(max_attempts=2, budget=0, budget_deposit=0),
    fast_trip=1,
)
"""A last hope that came to nothing for the sake of a key says nothing of the model: its breaker is as open as before."""
IN_FLIGHT = Answer("refusal", (402, (), (("metadata", {"limit_source": "openrouter_in_flight_budget"}),)))
FREE_TIER = Answer("refusal", (429, (), (("metadata", {"limit_source": "openrouter_free_tier_daily"}),)))


@some(0.6)
@example(ONE_RETRY, IN_FLIGHT)
@example(ALL_OPEN, FREE_TIER)
@given(wides(answer=answers().filter(lambda answer: answer.kind not in ("closed", "reset"))), st.sampled_from(ACCOUNT))
def test_what_befalls_one_tenants_keys_is_not_noticed_by_another(wide: Wide, refusal: Answer) -> None:
    """The calls of one tenant go the same way whether or not another one calls whose keys are refused all the time."""
    wide = attrs.evolve(wide, last_resort=True)
    together = WideRun(wide)
    together.refuse(ACME, refusal=refusal)
    together.play()
    alone = WideRun(wide)
    for record in together.records:
        if record.ask.tenant == GLOBEX:
            alone.runtime.now = record.began
            alone.call(attrs.evolve(record.ask, after=0.0))
    assert [noticed(record) for record in alone.records] == [
        noticed(record) for record in together.records if record.ask.tenant == GLOBEX
    ]


def noticed(record: Record) -> list[Any]:
    """What a caller sees of a call, but for the words of the answer."""
    failed = getattr(record.result, "retry_after", None)
    return [record.began, record.ended, requests_of(record), record.route, type(record.result).__name__, failed]


def test_the_invariants_see_something() -> None:
    """The histories are no empty ones: another key, another gateway and another tenant can be found in them."""
    keys = tuple((tenant, gateway, 2) for tenant in TENANTS for gateway in GATEWAYS)
    revoked = key_of(ACME, GATEWAYS[0], 0)
    moods = tuple(
        (key, (Answer("refusal", (401, (), ())) if key == revoked else None,))
        for key in (key_of(tenant, gateway, number) for tenant, gateway, _ in keys for number in range(2))
    )
    down = Answer("unreachable", (Failure.CONNECT, Sent.NOT_SENT, False))
    scripts = tuple(
        (gateway, model, (down,) if (gateway, model) == (GATEWAYS[0], "b/two") else (FINE,))
        for gateway in GATEWAYS
        for model in MODELS
    )
    asks = (Ask(tenant=ACME), Ask(models=("b/two",), tenant=ACME), Ask(tenant=GLOBEX))
    first, second, third = WideRun(Wide(scripts, keys, moods, asks)).play().records
    here, there = (f"{A} on {GATEWAYS[0]}", f"b/two on {GATEWAYS[1]}")
    assert requests_of(first) == [(here, revoked), (here, key_of(ACME, GATEWAYS[0], 1))]
    assert requests_of(second)[-1] == (there, key_of(ACME, GATEWAYS[1], 0))
    assert requests_of(third) == [(here, key_of(GLOBEX, GATEWAYS[0], 0))]
