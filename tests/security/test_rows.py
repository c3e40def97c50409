"""The list of demands is complete, and each test that it names is there."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.security.rows import ROWS

ROOT = Path(__file__).parents[2]


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_row_is_there() -> None:
    assert [*ROWS] == [f"c{number}" for number in range(1, 30)]


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_tests_or_says_why_not(row: str) -> None:
    assert ROWS[row].tests or ROWS[row].later
    for name in ROWS[row].tests:
        path, _, test = name.partition("::")
        assert test in names_in(path), f"{row}: {name}"


def test_no_test_here_is_about_nothing() -> None:
    """Save for those that show that other tests can fail."""
    named = {name for row in ROWS.values() for name in row.tests}
    controls = {"test_told.py", "test_rows.py"}
    for path in sorted((ROOT / "tests" / "security").glob("test_*.py")):
        for test in names_in(f"tests/security/{path.name}"):
            assert path.name in controls or test in OTHERS or f"tests/security/{path.name}::{test}" in named, test


OTHERS = {
    "test_the_search_finds_what_it_looks_for",
    "test_a_stream_does_not_travel",
    "test_settings_are_the_only_way_to_the_key_and_it_is_asked_for_by_name",
    "test_a_collective_error_does_not_quote_what_moderation_quoted",
}
