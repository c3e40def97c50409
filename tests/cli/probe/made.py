"""Sweeps made up for tests: one at a time, and any."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from routerkit.cli.probe.sample import Head, Sample

HEAD = Head(
    started=1769695400.0, prompt="Hello, world!", gateways=("openrouter",), routerkit="0.1.0", options={"delay": 180.0}
)
CAUSES = ("rate_limited", "provider_unavailable", "empty")


def answer(model: str = "a/one", **given: Any) -> Sample:
    """A question that was answered, in a second."""
    usual: dict[str, Any] = {
        "gateway": "openrouter",
        "at": 1769695400.0,
        "first_token": 0.5,
        "duration": 1.0,
        "prompt_tokens": 5,
        "completion_tokens": 20,
        "tokens_per_second": 40.0,
        "cost": Decimal("0.00001"),
        "text": "Hello!",
        "finish_reason": "stop",
        "prompt_price": Decimal("0.0000005"),
        "completion_price": Decimal("0.000001"),
        "context_length": 128_000,
        "name": model.title(),
    }
    return Sample(model=model, ok=True, cause="ok", status=200, **{**usual, **given})


def failure(model: str = "a/one", cause: str = "rate_limited", **given: Any) -> Sample:
    """A question that was not."""
    usual = {"gateway": "openrouter", "at": 1769695400.0, "error": "Too many requests", "status": 429, "duration": 0.2}
    return Sample(model=model, ok=False, cause=cause, **{**usual, **given})


def sweep(count: int) -> list[Sample]:
    """So many models: every seventh fails, every fifth costs nothing, every eleventh has a price that is not known."""
    made: list[Sample] = []
    for number in range(count):
        model = f"maker-{number % 9}/model-{number}"
        if number % 7 == 6:
            made.append(failure(model, CAUSES[number % 3], name=model.title()))
            continue
        free, known = number % 5 == 0, number % 11 != 10
        price = Decimal(0) if free else Decimal(number) / 10_000_000
        first = 0.1 + number * 0.037 % 3
        told = answer(
            model,
            first_token=first,
            duration=first * 2,
            tokens_per_second=10 + number * 7.3 % 200,
            free=free,
            cost=price * 25 if known else None,
            prompt_price=price if known else None,
            completion_price=price if known else None,
        )
        made.append(told)
    return made


seconds = st.floats(0, 10**6)
amounts = st.decimals(min_value=0, max_value=10**6, places=9, allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**9)


measured = st.builds(
    Sample,
    gateway=st.sampled_from(("g", "h")),
    model=st.sampled_from(("a/one", "b/two", "c/three")),
    at=st.just(0.0),
    ok=st.booleans(),
    cause=st.sampled_from(CAUSES),
    first_token=st.none() | seconds,
    duration=seconds,
    completion_tokens=st.none() | counts,
    cost=st.none() | amounts,
    charged=st.none() | amounts,
    prompt_price=st.none() | amounts,
    completion_price=st.none() | amounts,
)
"""Any sample, as far as figures go."""


def samples(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Sample]:
    """Any sample; ``texts``: what others write."""
    return st.builds(
        Sample,
        gateway=st.sampled_from(("g", "h")),
        model=st.sampled_from(("a/one", "b/two", "c/three")) | texts,
        at=seconds,
        ok=st.booleans(),
        cause=st.sampled_from(CAUSES) | texts,
        error=texts,
        status=st.none() | st.integers(100, 599),
        first_token=st.none() | seconds,
        duration=seconds,
        prompt_tokens=st.none() | counts,
        completion_tokens=st.none() | counts,
        reasoning_tokens=st.none() | counts,
        tokens_per_second=st.none() | seconds,
        cost=st.none() | amounts,
        text=texts,
        finish_reason=st.none() | texts,
        mock=st.booleans(),
        prompt_price=st.none() | amounts,
        completion_price=st.none() | amounts,
        context_length=st.none() | counts,
        name=texts,
        free=st.booleans(),
    )
