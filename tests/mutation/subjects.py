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
        Subject("sse", ("tests/test_sse.py",), ("sse.BOM", "sse._IDLE_PER_COMMENT", "sse._LF", "sse._CR")),
        Subject("plan", ("tests/test_plan.py",)),
        Subject(
            "needs",
            ("tests/test_plan.py",),
            ("needs.CHARACTERS_PER_TOKEN", "needs.MEDIA_TOKENS", "needs._MODALITY", "needs._SUPPORT"),
        ),
    )
}


def subject(name: str) -> Subject:
    """One of the above; any other module of the core with the tests that bear its name."""
    return SUBJECTS.get(name) or Subject(name, (f"tests/test_{name}.py",))
