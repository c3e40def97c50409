"""What is mutated, and the tests that must notice."""

from __future__ import annotations

import attrs


@attrs.frozen
class Subject:
    """A module of the core."""

    name: str
    tests: tuple[str, ...]
    tables: tuple[str, ...] = ()
    """``module.NAME`` of its tables and numbers."""

    @property
    def path(self) -> str:
        return f"routerkit/core/{self.name}.py"


_SEVERAL = ("tests/test_gateways.py", "tests/test_keys.py", "tests/test_tenants.py", "tests/test_orders.py")
"""Of several gateways, keys and tenants, and of their order."""
_SHORT = ("tests/test_quotas.py", "tests/test_queues.py", "tests/test_reservations.py", "tests/test_fleet_calls.py")
"""Of whole calls where limits, budgets or the fleet have a say."""

SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject(
            "verdict",
            ("tests/test_verdict.py",),
            (
                "verdict_table.VERDICTS",
                "verdict_words.WORDS",
                "verdict_words.STATUSES",
                "verdict_words.FAILURES",
                "verdict_words.ENDINGS",
                "verdict_words.MESSAGES",
                "verdict_words.EVEN_OF_FAILURES",
                "verdict_words.GENERAL",
                "verdict_words.CLOUDFLARE",
            ),
        ),
        Subject("breaker", ("tests/test_breaker.py",), ("breaker.RESET_AFTER", "breaker.PANIC_INTERVAL")),
        Subject("retry", ("tests/test_retry.py",), ("retry.REFILL_SECONDS",)),
        Subject("conditions", ("tests/test_itinerary.py", "tests/test_call.py")),
        Subject("sse", ("tests/test_sse.py",), ("sse.BOM", "sse._IDLE_PER_COMMENT", "sse._LF", "sse._CR")),
        Subject("keys", (*_SEVERAL, "tests/test_health.py")),
        Subject("plan", ("tests/test_plan.py", "tests/test_itinerary.py", *_SEVERAL)),
        Subject(
            "health",
            ("tests/test_health.py", "tests/test_itinerary.py", "tests/test_call.py", *_SEVERAL),
            ("health.STORM_MODELS", "health.STORM_SECONDS", "health.MAX_ENTRIES"),
        ),
        Subject(
            "itinerary",
            ("tests/test_itinerary.py", "tests/test_call.py", "tests/test_patience.py", *_SEVERAL, *_SHORT),
            ("itinerary.CATALOG_PATIENCE", "retry.MIN_USEFUL", "retry.WAITABLE"),
        ),
        Subject("access", ("tests/test_keys.py", "tests/test_router.py")),
        Subject(
            "call",
            (
                "tests/test_call.py",
                "tests/test_attempts.py",
                "tests/test_ladder.py",
                "tests/test_itinerary.py",
                *_SEVERAL,
                *_SHORT,
            ),
            ("call.MAX_LAG", "call._FINAL"),
        ),
        Subject(
            "ladder",
            ("tests/test_ladder.py", "tests/test_call.py", "tests/test_itinerary.py", *_SEVERAL, *_SHORT),
            ("ladder._TRANSPARENT",),
        ),
        Subject(
            "router",
            (
                "tests/test_router.py",
                "tests/test_itinerary.py",
                "tests/test_call.py",
                "tests/test_key_info.py",
                *_SEVERAL,
                *_SHORT,
                "tests/test_shared_catalog.py",
                "tests/test_fleet_report.py",
            ),
        ),
        Subject(
            "strategies",
            ("tests/test_strategies.py", "tests/test_orders.py"),
            ("strategies.COLD_SAMPLES", "strategies.COLD_EVERY", "strategies.LONG"),
        ),
        Subject(
            "needs",
            ("tests/test_needs.py", "tests/test_plan.py"),
            ("needs.CHARACTERS_PER_TOKEN", "needs.MEDIA_TOKENS", "needs._MODALITY", "needs._SUPPORT", "needs._COMMON"),
        ),
        Subject(
            "pricing",
            ("tests/test_pricing.py", "tests/test_plan.py", "tests/test_itinerary.py"),
            ("pricing.JUMP", "pricing.PER_IMAGE"),
        ),
        Subject("listing", ("tests/test_listing.py",), ("listing.PER_UNIT", "listing._MODALITIES")),
        Subject("usage", ("tests/test_usage.py",)),
        Subject("key_info", ("tests/test_key_info.py",), ("key_info._REFUSED",)),
        Subject(
            "turns",
            ("tests/test_turns.py", "tests/test_quotas.py", "tests/test_quotas_words.py"),
            ("turns.POLL", "turns.LOOK", "turns.GRACE"),
        ),
        Subject("hold", ("tests/test_hold.py", "tests/test_turns.py", "tests/test_quotas.py")),
        Subject(
            "quotas",
            ("tests/test_quotas_words.py", "tests/test_quotas.py"),
            ("quotas.LEASE_MARGIN", "quotas.MAX_FOUND"),
        ),
        Subject("reservations", ("tests/test_reservations.py", "tests/test_quotas.py", "tests/test_quotas_words.py")),
        Subject("refusals", ("tests/test_quotas_words.py", "tests/test_quotas.py")),
        Subject(
            "limits",
            ("tests/test_limits.py", "tests/test_limits_edges.py"),
            ("limits.MICROSECONDS", "limits.MINUTE", "limits._DAY"),
        ),
        Subject(
            "budget",
            ("tests/test_budget.py",),
            (
                "budget.PROMPT_OVERHEAD",
                "budget.MESSAGE_OVERHEAD",
                "budget.TOOLS_OVERHEAD",
                "budget.TOOL_OVERHEAD",
                "budget.IMAGE_TOKENS",
                "budget.LEAST_ANSWER",
                "budget.LEAST_REASONING",
                "budget.HOUR",
                "budget.RESULTS",
                "budget.RESULT_TOKENS",
                "budget.SEARCHES",
                "budget._FREE_PARSERS",
                "budget._FREE_PLUGINS",
                "budget._ROUTERS",
                "budget._PLAIN_TIERS",
                "budget._OWN_TOOLS",
            ),
        ),
    )
}


def subject(name: str) -> Subject:
    """One of the above; any other module of the core with the tests that bear its name."""
    return SUBJECTS.get(name) or Subject(name, (f"tests/test_{name}.py",))
