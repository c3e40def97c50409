"""Samples and heads, to JSON and back."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.cli.probe.sample import MAX_ERROR, Head, Sample, shortened
from tests.support.command import HOSTILE

BARE = {"gateway": "g", "model": "m", "at": 1.0, "ok": True, "cause": "ok"}

amounts = st.decimals(min_value=0, max_value=10**6, allow_nan=False, allow_infinity=False)
seconds = st.floats(0, 10**6)
counts = st.integers(0, 10**9)
samples = st.builds(
    Sample,
    gateway=st.text(),
    model=st.text(),
    round=counts,
    at=seconds,
    ok=st.booleans(),
    cause=st.text(),
    status=st.none() | counts,
    first_token=st.none() | seconds,
    duration=seconds,
    completion_tokens=st.none() | counts,
    cost=st.none() | amounts,
    charged=st.none() | amounts,
    text=st.text(),
    prompt_price=st.none() | amounts,
)


@given(samples)
def test_a_sample_comes_back_as_it_was(sample: Sample) -> None:
    assert Sample.read(json.loads(json.dumps(sample.to_dict()))) == sample


def test_a_head_comes_back_as_it_was() -> None:
    head = Head(started=1.5, prompt="Grüße\n", repeat=3, gateways=("a", "b"), routerkit="1", options={"delay": 180.0})
    assert Head.read(json.loads(json.dumps(head.to_dict()))) == head


def test_what_a_later_version_adds_is_passed_over_and_what_it_lacks_has_its_default() -> None:
    assert Sample.read({**BARE, "colour": "green"}) == Sample(gateway="g", model="m", at=1.0, ok=True, cause="ok")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], "no JSON object"),
        ({}, "gateway is missing"),
        ({**BARE, "ok": 1}, "ok is neither true nor false"),
        ({**BARE, "at": "noon"}, "at is no number of seconds"),
        ({**BARE, "at": True}, "at is no number of seconds"),
        ({**BARE, "duration": -1}, "duration is no number of seconds"),
        ({**BARE, "duration": None}, "duration is no number of seconds"),
        ({**BARE, "round": 1.5}, "round is no count"),
        ({**BARE, "status": -1}, "status is no count"),
        ({**BARE, "cost": 1.5}, "cost is no text"),
        ({**BARE, "cost": "much"}, "cost is no amount"),
        ({**BARE, "cost": "NaN"}, "cost is no amount"),
        ({**BARE, "model": None}, "model is no text"),
    ],
)
def test_what_is_no_sample(data: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Sample.read(data)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, "version 2"),
        ({"gateways": "a"}, "gateways is no list"),
        ({"gateways": [1]}, "gateways is no text"),
        ({"options": []}, "options is no object"),
    ],
)
def test_what_is_no_head(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Head.read({**Head(started=1, prompt="x").to_dict(), **changes})


def test_every_field_can_be_read() -> None:
    whole = {field.name for field in attrs.fields(Sample)}
    assert set(Sample(gateway="g", model="m", at=1.0, ok=True, cause="ok", cost=Decimal("1E-7")).to_dict()) == whole


def test_texts_are_tamed_and_cut() -> None:
    assert shortened(f" {HOSTILE}\nnext", MAX_ERROR) == "A\\x1b[31mred\\x9b1m\\x07 [bold]b[/bold]\\x08 end next"
    assert shortened("x" * 301, MAX_ERROR) == "x" * 299 + "…"
