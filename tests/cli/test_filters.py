"""How the filter options are read."""

from __future__ import annotations

import string
from decimal import Decimal
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from routerkit.cli.filters import HIGHEST, filters, filters_of, listed, per_token, tokens
from routerkit.core.catalog_index import Query

CONTEXT = click.Context(click.Command("any"))
PARAMETER = click.Option(["--any"])


@click.command()
@filters
def command(**given: Any) -> Any:
    return filters_of(**given)


def asked(*arguments: str) -> Any:
    return command.main(arguments, standalone_mode=False)


def test_what_is_not_given_is_not_asked_for() -> None:
    assert asked() == {}


def test_all_of_them_as_the_library_takes_them() -> None:
    words = [
        "--modality",
        "Image, audio",
        "--modality",
        "image",
        "--output-modality",
        "text",
        "--supports",
        "seed,TOOLS",
    ]
    numbers = ["--max-price", "$0.15", "--min-context", "128k", "--paid", "--search", "Claude sonnet", "--tools"]
    filters = asked(*words, *numbers)
    assert filters == {
        "modality": ("image", "audio"),
        "output_modality": ("text",),
        "supports": ("seed", "tools"),
        "max_price": Decimal("0.00000015"),
        "min_context": 128_000,
        "free": False,
        "search": "Claude sonnet",
    }
    assert Query.of(**filters).max_price == Decimal("0.00000015")  # the library takes them all
    assert asked("--tools", "--free") == {"supports": ("tools",), "free": True}


@given(st.decimals(0, HIGHEST, places=9))
def test_a_price_is_exact(amount: Decimal) -> None:
    assert Query.of(max_price=per_token(CONTEXT, PARAMETER, f"{amount:f}")).max_price == amount / 1_000_000


@given(st.integers(0, 10**9))
def test_a_number_of_tokens_in_all_its_forms(count: int) -> None:
    for text in (f"{count}", f"{count:,}", f"{count:_}", f" {count} "):
        assert tokens(CONTEXT, PARAMETER, text) == count
    assert tokens(CONTEXT, PARAMETER, f"{count}k") == count * 1000
    assert tokens(CONTEXT, PARAMETER, f"{Decimal(count).scaleb(-3):f}M") == count * 1000


@given(st.text(string.digits + ".,_-+$kKmMeEinfa ", max_size=8))
def test_a_text_is_read_or_refused(text: str) -> None:
    for read in (per_token, tokens):
        try:
            value = read(CONTEXT, PARAMETER, text)
        except click.BadParameter:
            continue
        assert value is not None
        assert value >= 0


@given(st.lists(st.text(string.ascii_letters + ", ", max_size=6), max_size=4))
def test_words_are_read_or_refused(texts: list[str]) -> None:
    try:
        words = listed(CONTEXT, PARAMETER, texts)
    except click.BadParameter:
        return
    assert len(set(words)) == len(words)
    assert all(word == word.strip().lower() and "," not in word for word in words)
    assert Query.of(modality=words).modality == tuple(sorted(words))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--max-price", "three"),
        ("--max-price", "-1"),
        ("--max-price", "10001"),
        ("--max-price", "0.0000000001"),
        ("--max-price", "1e3"),
        ("--min-context", "1.5"),
        ("--min-context", "1.0001k"),
        ("--min-context", "128kb"),
        ("--min-context", "١٢٨"),
        ("--supports", "two words"),
    ],
)
def test_refusals(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 2
    assert f"Invalid value for '{arguments[0]}'" in done.output
