"""What calls used and how they went: sums that are exact, views that hold only what they should, memory that does not grow."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from decimal import Context, Decimal, localcontext
from typing import Any

import attrs
import orjson
import pytest

from routerkit.core import usage as module
from routerkit.core.usage import Accounts
from routerkit.core.verdict import OK
from routerkit.testing import VirtualRuntime
from routerkit.types.route import Target
from routerkit.types.usage import DURATIONS, Stats, UsageReport
from routerkit.types.verdict import Billing
from tests.support.records import ELSEWHERE, LIMITED, LOST, USAGE, A, B, record


@pytest.fixture
def accounts() -> Accounts:
    return Accounts(VirtualRuntime())


def test_the_verdicts_of_these_tests_are_what_they_should_be() -> None:
    assert (LOST.code, LOST.billing) == ("cancelled", Billing.POSSIBLE)
    assert (LIMITED.code, LIMITED.billing) == ("rate_limited", Billing.NONE)


# --- what was used ---


def test_an_answer_counts_for_the_target_that_gave_it(accounts: Accounts) -> None:
    record(accounts, (A, LIMITED), (B, OK), usage=USAGE, cost="0.0012")
    (row,) = accounts.usage().rows
    assert row.to_dict() == {
        "tenant": None,
        "gateway": "openrouter",
        "model": "b/two",
        "answers": 1,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cached_tokens": 60,
        "cache_write_tokens": 30,
        "reasoning_tokens": 15,
        "audio_tokens": 7,
        "cost": "0.0012",
        "cost_unknown": 0,
        "possibly_billed": 0,
        "total_tokens": 120,
    }


def test_answers_of_one_model_add_up(accounts: Accounts) -> None:
    for _ in range(3):
        record(accounts, (A, OK), usage=USAGE, cost="0.1")
    (row,) = accounts.usage().rows
    assert (row.answers, row.prompt_tokens, row.completion_tokens, row.cost) == (3, 300, 60, Decimal("0.3"))
    assert (row.cached_tokens, row.cache_write_tokens, row.reasoning_tokens, row.audio_tokens) == (180, 90, 45, 21)


@pytest.mark.parametrize(
    ("details", "name"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 5}}, "cached_tokens"),
        ({"prompt_tokens_details": {"cache_write_tokens": 5}}, "cache_write_tokens"),
        ({"prompt_tokens_details": {"audio_tokens": 5}}, "audio_tokens"),
        ({"completion_tokens_details": {"reasoning_tokens": 5}}, "reasoning_tokens"),
    ],
)
def test_each_kind_of_token_counts_by_itself(accounts: Accounts, details: dict[str, Any], name: str) -> None:
    record(accounts, (A, OK), usage={"prompt_tokens": 10, "completion_tokens": 10, **details})
    told = accounts.usage().total.to_dict()
    kinds = ("cached_tokens", "cache_write_tokens", "reasoning_tokens", "audio_tokens")
    assert {kind: told[kind] for kind in kinds if told[kind]} == {name: 5}


def test_reasoning_beside_the_completion_is_part_of_the_sum(accounts: Accounts) -> None:
    usage = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135}
    record(accounts, (A, OK), usage=usage | {"completion_tokens_details": {"reasoning_tokens": 94}})
    assert accounts.usage().total.total_tokens == 135


def test_an_answer_of_unknown_cost_is_told_apart_from_a_free_one(accounts: Accounts) -> None:
    record(accounts, (A, OK), usage={})
    record(accounts, (A, OK))
    record(accounts, (A, OK), cost="0")
    (row,) = accounts.usage().rows
    assert (row.answers, row.cost, row.cost_unknown, row.total_tokens) == (3, Decimal(0), 2, 0)


def test_a_failed_attempt_that_may_have_been_billed_counts_for_its_own_target(accounts: Accounts) -> None:
    record(accounts, (A, LOST), (B, OK), cost="1")
    record(accounts, (A, LIMITED), error="RateLimitError")
    assert [(row.model, row.answers, row.possibly_billed) for row in accounts.usage().rows] == [
        ("a/one", 0, 1),
        ("b/two", 1, 0),
    ]


def test_what_a_stream_had_used_when_it_broke_counts_though_it_is_no_answer(accounts: Accounts) -> None:
    record(accounts, (A, LOST), error="StreamInterruptedError", stream=True, usage=USAGE)
    record(accounts, (A, LOST), error="StreamInterruptedError", stream=True, cost="0.5")
    (row,) = accounts.usage().rows
    assert (row.answers, row.prompt_tokens, row.cost, row.cost_unknown) == (0, 100, Decimal("0.5"), 0)
    assert row.possibly_billed == 2


def test_a_failed_attempt_that_was_billed_counts_where_nobody_tells_for_how_much(accounts: Accounts) -> None:
    """So is a stream that broke off after its first content, in gateways' books."""
    billed = attrs.evolve(LOST, billing=Billing.CONFIRMED)
    record(accounts, (A, billed), error="StreamInterruptedError", stream=True)
    record(accounts, (A, billed), (B, OK), stream=True, cost="1")
    record(accounts, (B, billed), error="StreamInterruptedError", stream=True, usage=USAGE)
    assert [(row.model, row.possibly_billed, row.prompt_tokens) for row in accounts.usage().rows] == [
        ("a/one", 2, 0),
        ("b/two", 0, 100),
    ]


def test_a_call_without_any_attempt_used_nothing(accounts: Accounts) -> None:
    record(accounts, error="NoEligibleModelError")
    assert accounts.usage() == UsageReport()
    assert accounts.stats().failed == {"NoEligibleModelError": 1}


def test_a_failure_that_cost_nothing_leaves_no_row(accounts: Accounts) -> None:
    record(accounts, (A, LIMITED), error="RateLimitError")
    assert accounts.usage() == UsageReport()


def test_nonsense_in_the_counts_is_nothing(accounts: Accounts) -> None:
    nonsense = {"prompt_tokens": -1, "completion_tokens": "many", "prompt_tokens_details": [1], "cached_tokens": 5}
    record(accounts, (A, OK), usage=nonsense | {"completion_tokens_details": {"reasoning_tokens": 10**30}})
    assert accounts.usage().total.total_tokens == 0
    assert accounts.usage().total.reasoning_tokens == 0


def test_costs_are_summed_exactly_whatever_the_callers_context(accounts: Accounts) -> None:
    with localcontext(Context(prec=3)):
        for cost in ("123456789.123456789", "0.000000000000000000000000000001", "0.1"):
            record(accounts, (A, OK), cost=cost)
        record(accounts, (B, OK), cost="0.000000000000000000000000000001")
        total = accounts.usage().total
    assert total.to_dict()["cost"] == "123456789.223456789000000000000000000002"


# --- views ---


@pytest.fixture
def shared(accounts: Accounts) -> Accounts:
    record(accounts, (A, OK), tenant="acme", usage=USAGE, cost="1")
    record(accounts, (B, OK), tenant="acme", cost="2")
    record(accounts, (ELSEWHERE, OK), tenant="bolt", usage=USAGE, cost="4", stream=True, duration=7.0)
    record(accounts, tenant="bolt", error="LimitExceededError")
    return accounts


def test_a_tenants_view_holds_only_its_own(shared: Accounts) -> None:
    report = shared.usage("acme")
    assert {row.tenant for row in report.rows} == {"acme"}
    assert report.total.cost == Decimal(3)
    assert shared.usage("nobody").rows == ()
    stats = shared.stats("acme")
    assert (stats.tenant, stats.calls, stats.streams, dict(stats.failed)) == ("acme", 2, 0, {})
    assert shared.stats("nobody") == Stats(tenant="nobody")


def test_the_whole_view_holds_all(shared: Accounts) -> None:
    report = shared.usage()
    assert [(row.tenant, row.gateway, row.model) for row in report.rows] == [
        ("acme", "openrouter", "a/one"),
        ("acme", "openrouter", "b/two"),
        ("bolt", "infron", "a/one"),
    ]
    stats = shared.stats()
    assert (stats.calls, stats.answered, stats.streams, stats.duration_max) == (4, 3, 1, 7.0)
    assert (stats.failed, stats.attempts) == ({"LimitExceededError": 1}, {"ok": 3})


def test_sums_by_tenant_gateway_and_model(shared: Accounts) -> None:
    report = shared.usage()
    assert {name: used.cost for name, used in report.by_tenant().items()} == {"acme": Decimal(3), "bolt": Decimal(4)}
    assert {name: used.cost for name, used in report.by_gateway().items()} == {"openrouter": 3, "infron": 4}
    assert {name: (used.cost, used.answers) for name, used in report.by_model().items()} == {
        "a/one": (Decimal(5), 2),
        "b/two": (Decimal(2), 1),
    }
    assert report.total == attrs.evolve(report.total, answers=3, prompt_tokens=200, cost=Decimal(7))


def test_reports_are_what_was_known_when_they_were_asked_for(shared: Accounts) -> None:
    report, stats = shared.usage("acme"), shared.stats("acme")
    record(shared, (A, OK), tenant="acme", cost="1")
    assert report.total.cost == Decimal(3)
    assert (stats.calls, stats.attempts) == (2, {"ok": 2})
    assert shared.stats("acme").attempts == {"ok": 3}


def test_a_report_is_plain_values_for_json(shared: Accounts) -> None:
    told = orjson.loads(orjson.dumps(shared.usage("bolt").to_dict()))
    assert set(told) == {"rows", "total"}
    assert told["rows"][0]["cost"] == told["total"]["cost"] == "4"
    assert "model" not in told["total"]


def test_small_costs_are_written_without_exponent(accounts: Accounts) -> None:
    record(accounts, (A, OK), cost="3E-7")
    assert accounts.usage().to_dict()["total"]["cost"] == "0.0000003"
    assert "$0.0000003" in str(accounts.usage())


def test_a_report_reads_as_a_table(shared: Accounts) -> None:
    record(shared, (B, OK), tenant="acme")
    assert str(shared.usage()).splitlines() == [
        "tenant  gateway     model  answers  prompt  completion  cost",
        "acme    openrouter  a/one        1     100          20  $1",
        "acme    openrouter  b/two        2       0           0  $2 + 1 unknown",
        "bolt    infron      a/one        1     100          20  $4",
        "                    total        4     200          40  $7 + 1 unknown",
    ]


def test_without_tenants_the_table_has_no_column_for_them(accounts: Accounts) -> None:
    record(accounts, (A, OK), usage={"prompt_tokens": 12_345, "completion_tokens": 1}, cost="1")
    assert str(accounts.usage()).splitlines() == [
        "gateway     model  answers  prompt  completion  cost",
        "openrouter  a/one        1  12,345           1  $1",
        "            total        1  12,345           1  $1",
    ]


# --- how calls went ---


def test_how_a_call_went(accounts: Accounts) -> None:
    record(accounts, (A, LIMITED), (A, LIMITED), (B, OK), waits=(0.5, 1.5), duration=2.5, stream=True)
    stats = accounts.stats()
    assert (stats.calls, stats.answered, stats.fell_back, stats.streams) == (1, 1, 1, 1)
    assert (stats.waits, stats.waited, stats.duration, stats.duration_max) == (2, 2.0, 2.5, 2.5)
    assert stats.attempts == {"rate_limited": 2, "ok": 1}


def test_calls_add_up(accounts: Accounts) -> None:
    for duration in (1.0, 2.5):
        record(accounts, (A, LIMITED), (B, OK), duration=duration, waits=(0.5,))
    record(accounts, (B, OK), duration=0.5)
    stats = accounts.stats()
    assert (stats.calls, stats.fell_back, stats.waits, stats.waited) == (3, 2, 2, 1.0)
    assert (stats.duration, stats.duration_max) == (4.0, 2.5)


def test_calls_that_failed_count_by_the_class_of_their_error(accounts: Accounts) -> None:
    for error in ("RateLimitError", "RateLimitError", "AllModelsFailedError"):
        record(accounts, (A, LIMITED), error=error)
    stats = accounts.stats()
    assert (stats.calls, stats.answered, stats.fell_back) == (3, 0, 0)
    assert stats.failed == {"RateLimitError": 2, "AllModelsFailedError": 1}


def test_the_histogram_of_durations(accounts: Accounts) -> None:
    for duration in (0.0, 0.01, 0.011, 600.0, 601.0):
        record(accounts, (A, OK), duration=duration)
    counts = accounts.stats().to_dict()["durations"]
    assert list(counts) == [*(f"{bound:g}" for bound in DURATIONS), "inf"]
    assert {bound: count for bound, count in counts.items() if count} == {"0.01": 2, "0.02": 1, "600": 1, "inf": 1}


def test_percentiles_are_right_to_within_a_bucket(accounts: Accounts) -> None:
    for tenth in range(1, 101):
        record(accounts, (A, OK), duration=tenth / 10)
    stats = accounts.stats()
    assert stats.p50 == pytest.approx(5.0)
    assert stats.p95 == pytest.approx(9.5)
    assert stats.percentile(1.0) == stats.duration_max == 10.0
    assert stats.percentile(0.0) == pytest.approx(0.05)


def test_percentiles_exceed_no_duration_that_was_seen(accounts: Accounts) -> None:
    assert accounts.stats().p50 is None
    record(accounts, (A, OK), duration=1.1)
    assert accounts.stats().p95 == 1.1
    record(accounts, (A, OK), duration=1234.0)
    assert accounts.stats().p95 == 1234.0


def test_statistics_are_plain_values_for_json(accounts: Accounts) -> None:
    record(accounts, (A, OK), duration=3.0)
    told = orjson.loads(orjson.dumps(accounts.stats().to_dict()))
    assert (told["calls"], told["attempts"], told["durations"]["3"]) == (1, {"ok": 1}, 1)
    assert told["p50"] == pytest.approx(2.5)


# --- memory, threads, forks, the garbage collector ---


def test_beyond_so_many_rows_models_are_counted_together(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    for model in ("a", "b", "c", "d", "a", "c"):
        record(accounts, (Target("openrouter", model), OK), cost="1")
    assert {row.model: row.answers for row in accounts.usage().rows} == {"a": 2, "b": 1, "other": 3}


def test_one_tenants_models_leave_anothers_rows_alone(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    for tenant, models in (("acme", "abcd"), ("bolt", "abc")):
        for model in models:
            record(accounts, (Target("openrouter", model), OK), tenant=tenant, cost="1")
    for tenant, others in (("acme", 2), ("bolt", 1)):
        assert {row.model: row.answers for row in accounts.usage(tenant).rows} == {"a": 1, "b": 1, "other": others}


def test_threads_lose_nothing(accounts: Accounts) -> None:
    def work(tenant: str) -> None:
        for number in range(500):
            record(accounts, (A, LOST), (B, OK), tenant=tenant, usage=USAGE, cost="0.001")
            if number % 100 == 0:
                accounts.usage(tenant)
                record(accounts, (A, LOST), tenant=tenant, error="Cancelled")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, ["acme", "bolt"] * 4))
    assert accounts.usage().total.cost == Decimal(4)
    assert accounts.usage("acme").total.possibly_billed == 2020
    assert accounts.stats("acme").attempts == {"ok": 2000, "cancelled": 2020}


def test_a_forked_child_begins_anew(accounts: Accounts) -> None:
    record(accounts, (A, OK), cost="1")
    record(accounts, (A, LOST), error="Cancelled")
    with accounts._lock:  # as another thread of the parent may hold it for ever
        accounts.forget_lock()
        record(accounts, (B, OK), cost="2")
        assert [(row.model, row.cost) for row in accounts.usage().rows] == [("b/two", Decimal(2))]
        assert accounts.stats().calls == 1


def test_a_call_that_the_garbage_collector_ends_waits_for_no_lock(accounts: Accounts) -> None:
    class Abandoned:
        def __del__(self) -> None:
            record(accounts, (A, LOST), error="Cancelled", stream=True)

    with accounts._lock:  # as it is when the collector runs in the midst of counting
        abandoned = Abandoned()
        del abandoned
        gc.collect()
    record(accounts, (B, OK), cost="1")
    assert accounts.stats().failed == {"Cancelled": 1}
    assert {row.model: row.possibly_billed for row in accounts.usage().rows} == {"a/one": 1, "b/two": 0}


def test_cancelled_calls_are_counted_when_somebody_asks(accounts: Accounts) -> None:
    record(accounts, (A, LOST), error="Cancelled", usage=USAGE)
    assert accounts.usage().total.prompt_tokens == 100
    record(accounts, error="Cancelled")
    assert (accounts.stats().calls, accounts.stats().attempts) == (2, {"cancelled": 1})


def test_cancelled_calls_that_nobody_asks_for_do_not_pile_up(accounts: Accounts) -> None:
    for _ in range(module.MAX_CANCELLED + 5):
        record(accounts, error="Cancelled")
    assert accounts.stats().calls == module.MAX_CANCELLED
