"""The sweep, over scripted gateways in virtual time: hours pass in milliseconds."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from routerkit import Budget, Limits, RetryPolicy
from routerkit.cli.probe import measure
from routerkit.cli.probe.sweep import first_code
from routerkit.testing import replies
from tests.cli.probe.rig import HERE, ONE, THERE, TWO, Rig

SLOW = replies.stream(
    replies.pause(2.0), "one", replies.pause(3.0), " two", replies.end(), replies.usage(), replies.done()
)


def test_three_hundred_models_at_three_minutes_each() -> None:
    rig = Rig()
    models = [f"m/{number}" for number in range(300)]
    rig.catalogue(*models)
    rig.sweep()
    assert [model for _, model in rig.starts] == models
    assert [moment for moment, _ in rig.starts] == [number * 180.0 for number in range(300)]
    assert all(sample.ok for sample in rig.samples)
    assert (len(rig.samples), rig.stops) == (300, {})
    asked = rig.transport.at(ONE).chat_requests
    assert [request.json["messages"] for request in asked] == [[{"role": "user", "content": "Hello, world!"}]] * 300
    assert "max_tokens" not in asked[0].json


def test_what_is_measured() -> None:
    rig = Rig()
    rig.catalogue("a/one", name="One \x1b[31m")
    rig.script("a/one", SLOW)
    (sample,) = rig.sweep().samples
    assert (sample.gateway, sample.model, sample.round, sample.name) == (HERE, "a/one", 1, "One \\x1b[31m")
    assert (sample.ok, sample.cause, sample.error, sample.status) == (True, "ok", "", 200)
    assert (sample.first_token, sample.duration) == (2.0, 5.0)
    assert (sample.prompt_tokens, sample.completion_tokens) == (9, 3)
    assert sample.tokens_per_second == 3 / 3.0
    assert (sample.cost, sample.cost_source, sample.charged) == (Decimal("0.00012"), "gateway", Decimal("0.00012"))
    assert (sample.text, sample.finish_reason, sample.mock) == ("one two", "stop", False)
    assert (sample.prompt_price, sample.completion_price) == (Decimal("0.000001"), Decimal("0.000002"))
    assert (sample.context_length, sample.free, sample.waits, sample.waited) == (100_000, False, 0, 0.0)


def test_a_rate_that_nobody_can_know_is_not_told() -> None:
    rig = Rig()
    rig.catalogue("one/piece", "at/once", "un/counted")
    piece = [replies.pause(1.0), "all of it", replies.pause(1.0), replies.end(), replies.usage(), replies.done()]
    rig.script("one/piece", replies.stream(*piece))
    rig.script("un/counted", replies.stream("one", replies.pause(1.0), "two", replies.end(), replies.done()))
    rates = {sample.model: sample.tokens_per_second for sample in rig.sweep().samples}
    assert rates == {"one/piece": None, "at/once": None, "un/counted": None}
    assert measure.rate(30, 1.0, 4.0) == 10.0
    assert measure.rate(30_000, 1.0, 4.0) is None  # faster than anything is
    assert measure.rate(30, None, 4.0) is None


def test_failures_are_samples_with_their_cause_and_the_sweep_goes_on() -> None:
    rig = Rig()
    rig.catalogue("a/down", "b/gone", "c/cut", "d/silent", "e/reset", "f/fine")
    rig.script("a/down", replies.error(503, message="busy \x1b[31m"))
    rig.script("b/gone", replies.error(404, message="no such model", code="model_not_found"))
    rig.script("c/cut", replies.stream("Hel", replies.pause(1.0), "lo", replies.cut()))
    rig.script("d/silent", replies.hang())
    rig.script("e/reset", "reset")
    rig.sweep()
    assert rig.causes == {
        "a/down": "overloaded",
        "b/gone": "model_not_found",
        "c/cut": "truncated",
        "d/silent": "first_byte_timeout",
        "e/reset": "connection_lost",
        "f/fine": "ok",
    }
    down, _, cut, silent, _, _ = rig.samples
    assert (down.status, down.ok, down.cost, down.charged) == (503, False, None, Decimal(0))
    assert "busy" in down.error
    assert "\x1b" not in down.error
    assert (cut.text, cut.first_token, cut.duration) == ("Hello", 0.0, 1.0)
    assert silent.duration == 30.0
    assert len(rig.transport.at(ONE).chat_requests) == 6  # none of them was asked twice, or another in its place


def test_rounds_go_through_all_models_before_the_next_one_begins() -> None:
    rig = Rig()
    rig.catalogue("a/one", "b/two")
    rig.sweep(rounds=2, delay=0.0)
    assert [(sample.model, sample.round) for sample in rig.samples] == [
        ("a/one", 1),
        ("b/two", 1),
        ("a/one", 2),
        ("b/two", 2),
    ]


def test_gateways_are_asked_side_by_side_and_each_keeps_its_own_delay() -> None:
    rig = Rig(urls=(ONE, TWO))
    rig.catalogue("a/one", "b/two")
    rig.catalogue("a/one", "c/three", at=TWO)
    rig.script("a/one", SLOW, at=TWO)
    rig.sweep(delay=10.0)
    assert sorted(rig.starts) == [(0.0, "a/one"), (0.0, "a/one"), (10.0, "b/two"), (10.0, "c/three")]
    assert {(sample.gateway, sample.model) for sample in rig.samples} == {
        (HERE, "a/one"),
        (HERE, "b/two"),
        (THERE, "a/one"),
        (THERE, "c/three"),
    }
    assert rig.lasted == 10.0


def test_so_many_at_a_time() -> None:
    rig = Rig()
    rig.catalogue("a/one", "b/two", "c/three")
    for model in ("a/one", "b/two", "c/three"):
        rig.script(model, SLOW)
    rig.sweep(delay=0.0, concurrency=2)
    assert rig.starts == [(0.0, "a/one"), (0.0, "b/two"), (5.0, "c/three")]


# Waiting


def test_retry_after_is_waited_for_while_others_are_asked() -> None:
    rig = Rig()
    rig.catalogue("a/busy", "b/two")
    rig.script("a/busy", replies.error(429, headers={"Retry-After": "30"}), SLOW)
    rig.sweep(delay=10.0)
    assert rig.starts == [(0.0, "a/busy"), (10.0, "b/two"), (30.0, "a/busy")]
    assert rig.offs == [("a/busy", 30.0, "rate_limited")]
    waited = rig.samples[-1]
    assert (waited.model, waited.ok, waited.waits, waited.waited, waited.duration) == ("a/busy", True, 1, 30.0, 5.0)


def test_no_more_than_three_times_and_no_longer_than_may_be_waited() -> None:
    rig = Rig()
    rig.catalogue("a/busy", "b/long")
    rig.script("a/busy", replies.error(429, headers={"Retry-After": "2"}))
    rig.script("b/long", replies.error(429, headers={"Retry-After": "601"}))
    rig.sweep(delay=0.0)
    assert [(sample.model, sample.cause, sample.waits) for sample in rig.samples] == [
        ("b/long", "rate_limited", 0),
        ("a/busy", "rate_limited", 3),
    ]
    assert rig.lasted == 6.0
    assert rig.stops == {}


def test_an_answer_that_breaks_off_is_not_asked_for_again() -> None:
    rig = Rig()
    rig.catalogue("a/one")
    rig.script("a/one", replies.stream("Hel", replies.pause(1.0), replies.error_event(429)), replies.completion())
    (sample,) = rig.sweep().samples
    assert (sample.cause, sample.text, sample.waits) == ("rate_limited", "Hel", 0)


def test_a_call_waits_for_nothing_by_itself() -> None:
    rig = Rig()
    rig.catalogue("a/busy", "b/two")
    rig.script("a/busy", replies.error(429, headers={"Retry-After": "20"}))
    rig.sweep(delay=0.0, rounds=2, max_wait=10.0)
    assert [(sample.model, sample.cause, sample.status) for sample in rig.samples] == [
        *(("a/busy", "rate_limited", 429), ("b/two", "ok", 200)),
        *(("a/busy", "rate_limited", 429), ("b/two", "ok", 200)),
    ]
    assert len(rig.transport.at(ONE).chat_requests) == 3  # the second time it was resting
    assert rig.lasted == 0.0


def test_a_key_that_is_limited_holds_the_whole_gateway_back() -> None:
    """Three models rate limited within ten seconds: it is the key that is. The library says so, and no more are burnt."""
    rig = Rig(urls=(ONE, TWO))
    rig.catalogue(*(f"m/{number}" for number in range(6)))
    rig.catalogue("other/one", at=TWO)
    for number in range(3):
        rig.script(f"m/{number}", replies.error(429, headers={"Retry-After": "20"}), replies.completion())
    rig.sweep(delay=1.0)
    assert [start for start in rig.starts if start[1] != "other/one"] == [
        *((0.0, "m/0"), (1.0, "m/1"), (2.0, "m/2")),
        *((22.0, "m/2"), (23.0, "m/1"), (24.0, "m/0"), (25.0, "m/3"), (26.0, "m/4"), (27.0, "m/5")),
    ]
    assert all(sample.ok for sample in rig.samples)


def test_a_limit_of_ones_own_holds_back_and_spends_no_delay() -> None:
    rig = Rig()
    rig.catalogue("a/one", "b/two", "c/three")
    rig.sweep(delay=5.0, limits={"client": Limits(requests_per_minute=2)})
    assert all(sample.ok for sample in rig.samples)
    assert len(rig.transport.at(ONE).chat_requests) == 3
    assert rig.offs == [("c/three", pytest.approx(20.0), "limit")]
    assert [sample.waited for sample in rig.samples] == [0.0, 0.0, pytest.approx(20.0)]


def test_a_limit_that_lasts_ends_a_gateways_part_and_leaves_the_rest_to_be_asked_later() -> None:
    rig = Rig()
    rig.catalogue("a/one", "b/two", "c/three")
    rig.sweep(delay=0.0, limits={"client": Limits(requests_per_day=1)})
    assert list(rig.causes) == ["a/one"]
    assert rig.left == ["b/two", "c/three"]
    assert first_code(rig.stops) == 6
    assert rig.lasted == 0.0


def test_a_gateway_whose_breaker_is_open_is_waited_for() -> None:
    """The fifth failure opens it, the sixth was the library's one probe; the seventh waits, and those behind it too."""
    rig = Rig()
    rig.catalogue(*(f"m/{number}" for number in range(9)))
    for number in range(6):
        rig.script(f"m/{number}", replies.html(502))
    rig.sweep(delay=0.0)
    assert [rig.causes[f"m/{number}"] for number in range(9)] == ["not_an_api"] * 6 + ["ok"] * 3
    ((model, pause, why),) = rig.offs
    assert (model, why) == ("m/6", "breaker_open")
    assert [start for start in rig.starts if start[0] > 0] == [(pause, "m/6"), (pause, "m/7"), (pause, "m/8")]


# Ends before all is asked


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (replies.error(401, message="bad key"), 5),
        (replies.error(402, message="no credit"), 5),
        (replies.error(429, message="quota", code="insufficient_quota"), 6),
    ],
    ids=["401", "402", "quota"],
)
def test_a_key_that_is_refused_ends_its_gateways_part_alone(answer: replies.Reply, code: int) -> None:
    rig = Rig(urls=(ONE, TWO))
    rig.catalogue("a/one", "b/two", "c/three")
    rig.catalogue("d/four", "e/five", at=TWO)
    rig.script("b/two", answer)
    rig.sweep(delay=60.0)
    assert rig.causes == {"a/one": "ok", "d/four": "ok", "e/five": "ok"}
    assert rig.left == ["b/two", "c/three"]
    assert first_code(rig.stops) == code
    assert [(gateway, left) for gateway, _, left in rig.ends] == [(HERE, 1)]


def test_with_another_key_it_goes_on() -> None:
    rig = Rig()
    rig.catalogue("a/one", "b/two")

    def by_key(request: replies.RecordedRequest) -> replies.Reply:
        return replies.error(401) if request.api_key == "first-key-123" else replies.completion()

    rig.transport.at(ONE).default = replies.choose(by_key)
    rig.sweep(api_key={HERE: ["first-key-123", "second-key-456"]})
    assert rig.causes == {"a/one": "ok", "b/two": "ok"}


@pytest.mark.parametrize(
    ("answer", "cause", "code"),
    [("refused", "connect_failed", 7), ("tls", "tls_verify", 7), (replies.error(403), "permission_denied", 5)],
)
def test_three_models_in_a_row_that_cannot_be_reached(answer: object, cause: str, code: int) -> None:
    rig = Rig(urls=(ONE, TWO))
    rig.catalogue("a/one", "b/two", "c/three", "d/four", "e/five", "f/six")
    rig.catalogue("z/other", at=TWO)
    for model in ("a/one", "c/three", "d/four", "e/five", "f/six"):
        rig.script(model, answer)
    rig.sweep(delay=60.0)
    assert rig.causes == {
        "a/one": cause,
        "b/two": "ok",
        "c/three": cause,
        "d/four": cause,
        "e/five": cause,
        "z/other": "ok",
    }
    assert rig.left == ["f/six"]
    assert first_code(rig.stops) == code


def test_what_is_no_fault_of_a_model_ends_the_sweep_and_closes_what_is_under_way() -> None:
    rig = Rig()
    rig.catalogue("a/slow", "b/quick", "c/next", "d/next")
    rig.script("a/slow", replies.stream("x", replies.pause(100.0), replies.end(), replies.done()))

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    rig.on_sample = full
    with pytest.raises(OSError, match="No space"):
        rig.sweep(delay=1.0, concurrency=2)
    assert rig.left == ["c/next", "d/next", "a/slow", "b/quick"]
    assert rig.transport.at(ONE).open_streams == 0


def test_a_sweep_that_is_cancelled_closes_its_streams_and_says_what_is_left() -> None:
    rig = Rig(cancel_at=12.0)
    rig.catalogue("a/one", "b/slow", "c/next")
    rig.script("b/slow", replies.stream("x", replies.pause(100.0), replies.end(), replies.done()))
    with pytest.raises(asyncio.CancelledError):
        rig.sweep(delay=10.0)
    assert list(rig.causes) == ["a/one"]
    assert rig.left == ["c/next", "b/slow"]
    assert first_code(rig.stops) == 0
    assert rig.transport.at(ONE).open_streams == 0


# Money

TEN_CENTS = {"prompt": "0", "completion": "0.001"}
"""A hundred tokens of an answer cost ten cents, and a question of so many at most that."""
FREE = {"prompt": "0", "completion": "0"}


def priced(*costs: str) -> list[replies.Reply]:
    return [replies.completion(usage={**replies.USAGE, "cost": float(cost)}) for cost in costs]


def test_no_question_is_put_that_might_cost_more_than_is_left() -> None:
    rig = Rig()
    rig.catalogue("a/one", "b/two", "c/three", pricing=TEN_CENTS)
    for model in ("a/one", "b/two", "c/three"):
        rig.script(model, *priced("0.1"))
    rig.sweep(max_cost="0.25", max_tokens=100, delay=0.0)
    assert list(rig.causes) == ["a/one", "b/two"]
    assert rig.left == ["c/three"]
    (stop,) = rig.stops.values()
    assert (stop.code, stop.reason) == (6, "it may cost more than the $0.05 that --max-cost leaves")
    assert rig.allowance is not None
    assert rig.allowance.spent == Decimal("0.2")
    assert [worst for _, worst in rig.lines] == [Decimal("0.100")] * 2


def test_what_answers_cost_less_than_feared_is_left_for_others() -> None:
    rig = Rig()
    rig.catalogue("a/one", "b/two", "c/three", pricing=TEN_CENTS)
    for model in ("a/one", "b/two", "c/three"):
        rig.script(model, *priced("0.01"))
    rig.sweep(max_cost="0.12", max_tokens=100, delay=0.0)
    assert len(rig.samples) == 3


def test_what_is_under_way_counts_with_the_most_that_it_can_cost() -> None:
    rig = Rig()
    rig.catalogue("a/one", "b/two", "c/three", pricing=TEN_CENTS)
    for model in ("a/one", "b/two", "c/three"):
        rig.script(model, replies.stream("x", replies.pause(5.0), "y", replies.end(), replies.done()))
    rig.sweep(max_cost="0.25", max_tokens=100, delay=0.0, concurrency=3)
    assert rig.starts == [(0.0, "a/one"), (0.0, "b/two")]  # their cost is not told: then it counts in full
    assert [sample.charged for sample in rig.samples] == [Decimal("0.100")] * 2
    assert rig.left == ["c/three"]


def test_a_dear_model_is_left_for_last_and_free_ones_go_on() -> None:
    rig = Rig()
    prices = {"a/dear": {"prompt": "0", "completion": "1"}, "b/free": FREE, "c/unknown": None, "d/cheap": TEN_CENTS}
    rig.transport.at(ONE).catalog = [
        replies.catalog_model(model, context_length=9_000 - place, **({} if price is None else {"pricing": price}))
        | ({"pricing": {}} if price is None else {})
        for place, (model, price) in enumerate(prices.items())
    ]
    rig.sweep(max_cost="0.11", max_tokens=100, delay=0.0)
    assert list(rig.causes) == ["b/free", "d/cheap"]
    assert {job.target.model: stop.code for job, stop in rig.stops.items()} == {"a/dear": 6, "c/unknown": 6}
    assert "nobody can tell" in next(stop.reason for job, stop in rig.stops.items() if job.target.model == "c/unknown")


def test_what_was_spent_before_counts() -> None:
    rig = Rig()
    rig.catalogue("a/one", pricing=TEN_CENTS)
    rig.sweep(max_cost="0.25", spent="0.151", max_tokens=100)
    assert rig.left == ["a/one"]


def test_free_models_go_on_when_all_is_spent() -> None:
    rig = Rig()
    rig.catalogue("a/free", pricing=FREE)
    rig.sweep(max_cost="0.1", spent="0.1")
    assert rig.causes == {"a/free": "ok"}


def test_free_models_that_charge_are_stopped_too() -> None:
    rig = Rig()
    rig.catalogue(*(f"m/{number}" for number in range(9)), pricing=FREE)
    rig.transport.at(ONE).default = priced("0.02")[0]
    rig.sweep(max_cost="0.05", delay=0.0)
    assert list(rig.causes) == ["m/0", "m/1", "m/2"]
    assert {stop.reason for stop in rig.stops.values()} == {"$0.06 may be spent already, more than --max-cost"}
    assert first_code(rig.stops) == 6


@pytest.mark.parametrize(
    ("answers", "charged"),
    [
        ([replies.error(401)], []),
        ([replies.error(429, headers={"Retry-After": "5"}), replies.error(401)], []),
        ([replies.error(500, headers={"Retry-After": "5"}), replies.error(401)], [Decimal("0.100")]),
    ],
    ids=["refused", "busy, then refused", "perhaps billed, then refused"],
)
def test_what_is_given_up_counts_for_no_more_than_it_can_have_cost(
    answers: list[replies.Reply], charged: list[Decimal]
) -> None:
    rig = Rig()
    rig.catalogue("a/one", pricing=TEN_CENTS)
    rig.script("a/one", *answers)
    rig.sweep(max_cost="1", max_tokens=100, delay=0.0)
    assert (rig.left, rig.samples) == (["a/one"], [])
    assert rig.record.unsettled == charged
    assert rig.allowance is not None
    assert rig.allowance.spent == sum(charged)


def test_a_failure_that_may_have_been_billed_counts_in_full_and_a_refusal_not_at_all() -> None:
    rig = Rig()
    rig.catalogue("a/lost", "b/busy", pricing=TEN_CENTS)
    rig.script("a/lost", "reset")
    rig.script("b/busy", replies.error(429, headers={"Retry-After": "5"}), *priced("0.02"))
    rig.sweep(max_cost="1", max_tokens=100, delay=0.0)
    assert {sample.model: sample.charged for sample in rig.samples} == {
        "a/lost": Decimal("0.100"),
        "b/busy": Decimal("0.02"),
    }


def test_what_is_put_off_counts_no_longer_for_the_most_that_it_could_have_cost() -> None:
    rig = Rig(cancel_at=2.0)
    rig.catalogue("a/busy", pricing=TEN_CENTS)
    rig.script("a/busy", replies.error(429, headers={"Retry-After": "30"}))
    with pytest.raises(asyncio.CancelledError):
        rig.sweep(max_cost="1", max_tokens=100)
    assert (len(rig.offs), rig.record.unsettled) == (1, [])


def test_all_tries_of_a_question_count() -> None:
    rig = Rig()
    rig.catalogue("a/one", pricing=TEN_CENTS)
    rig.script("a/one", replies.error(500, headers={"Retry-After": "5"}), *priced("0.02"))
    (sample,) = rig.sweep(max_cost="1", max_tokens=100).samples
    assert (sample.ok, sample.waits, sample.cost, sample.charged) == (True, 1, Decimal("0.02"), Decimal("0.120"))


def test_a_connection_that_turned_out_stale_is_paid_for_once_more_and_asked_again() -> None:
    rig = Rig()
    rig.catalogue("a/one", "b/two", pricing=TEN_CENTS)
    rig.transport.at(ONE).default = replies.stale_keepalive(priced("0.01")[0])
    rig.sweep(max_cost="1", max_tokens=100, delay=0.0)
    assert {sample.model: sample.ok for sample in rig.samples} == {"a/one": True, "b/two": True}
    sent = len(rig.transport.at(ONE).chat_requests)
    assert rig.allowance is not None
    assert len(rig.lines) == sent
    assert rig.allowance.spent == Decimal("0.02") + (sent - 2) * Decimal("0.100")


def test_a_budget_of_ones_own_leaves_out_what_does_not_fit() -> None:
    rig = Rig()
    rig.transport.at(ONE).catalog = [
        replies.catalog_model("a/dear", pricing={"prompt": "0", "completion": "1"}, context_length=9_001),
        replies.catalog_model("b/cheap", pricing=TEN_CENTS, context_length=9_000),
    ]
    rig.sweep(max_tokens=100, delay=0.0, budget=Budget("1", per="day"))
    assert rig.causes == {"b/cheap": "ok"}
    assert rig.left == ["a/dear"]
    assert first_code(rig.stops) == 6


def test_the_callers_own_retries_play_no_part() -> None:
    rig = Rig()
    rig.catalogue("a/down")
    rig.script("a/down", replies.error(500))
    rig.sweep(retry=RetryPolicy(max_attempts=9, max_same_target=9), default_model="x/default", fallback_models=["y/z"])
    assert [request.model for request in rig.transport.at(ONE).chat_requests] == ["a/down"]
