"""Which prices of a catalogue have jumped since the one before."""

from __future__ import annotations

from decimal import Decimal

import pytest

from routerkit.core.catalog import parse_catalog
from routerkit.core.pricing import MAX_JUMPS, price_jumps
from routerkit.types.event import PriceJump
from routerkit.types.model import Model, Pricing


def model(name: str = "a/one", **prices: str) -> Model:
    return Model(name, pricing=Pricing(**{part: Decimal(price) for part, price in prices.items()}))


def jumps(before: Model, now: Model) -> list[tuple[str, Decimal, Decimal]]:
    return [(jump.component, jump.before, jump.after) for jump in price_jumps({before.id: before}, [now])]


@pytest.mark.parametrize(
    ("before", "after", "jumped"),
    [
        ("0.001", "0.002", False),
        ("0.001", "0.0020001", True),
        ("0.002", "0.001", False),
        ("0", "0.000001", True),
        ("0", "0", False),
    ],
)
def test_more_than_twice_as_dear_is_a_jump(before: str, after: str, jumped: bool) -> None:
    found = jumps(model(prompt=before), model(prompt=after))
    assert found == ([("prompt", Decimal(before), Decimal(after))] if jumped else [])


def test_each_component_jumps_on_its_own() -> None:
    before = model(prompt="1", completion="1", image="1")
    now = model(prompt="3", completion="2", image="5")
    assert [name for name, _, _ in jumps(before, now)] == ["prompt", "image"]


def test_a_price_that_was_or_is_unknown_has_not_jumped() -> None:
    assert jumps(model(prompt="1"), model(prompt="1", completion="9")) == []
    assert jumps(model(prompt="1", completion="9"), model(prompt="1")) == []


def test_a_model_that_is_new_has_not_jumped() -> None:
    assert price_jumps({}, [model(prompt="9")]) == ()


def test_jumps_are_told_in_the_order_of_the_catalogue() -> None:
    before = {name: model(name, prompt="1") for name in ("a/one", "b/two")}
    found = price_jumps(before, [model("b/two", prompt="3"), model("a/one", prompt="3")])
    assert found == (
        PriceJump("b/two", "prompt", Decimal(1), Decimal(3)),
        PriceJump("a/one", "prompt", Decimal(1), Decimal(3)),
    )


def test_a_catalogue_in_another_currency_tells_of_some_jumps_only() -> None:
    names = [f"x/{number}" for number in range(MAX_JUMPS)]
    before = {name: model(name, prompt="1", completion="1") for name in names}
    found = price_jumps(before, [model(name, prompt="100", completion="100") for name in names])
    assert len(found) == MAX_JUMPS


def test_prices_that_are_numbers_are_read_each_for_itself() -> None:
    """``1`` and ``true`` are the same to a dict, but not to a gateway."""
    models, _ = parse_catalog(
        [{"id": f"x/{number}", "pricing": {"prompt": price}} for number, price in enumerate([1, True, 1.0, "1"])]
    )
    assert [found.pricing.prompt for found in models] == [1, None, 1, 1]
