"""Numbers under names: what is written can be read, and of what somebody else wrote nothing is believed that is not ours."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routerkit.core.entries import MAX_NAME, MAX_NUMBER, SHAPES, Entry, read, written
from routerkit.core.usage import ATTEMPTS, CALLS, FAILED, LONGEST, USED, Figures

COUNT = st.integers(0, MAX_NUMBER)
TENANT = st.just("") | st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
GATEWAY = st.from_regex(r"[A-Za-z0-9._:\[\]-]{1,100}", fullmatch=True)
WORD = st.text(min_size=1, max_size=40)


@st.composite
def figures(draw: st.DrawFn) -> Figures:
    kind = draw(st.sampled_from([USED, CALLS, LONGEST, FAILED, ATTEMPTS]))
    count, length = SHAPES[kind]
    words = (draw(TENANT), *([draw(GATEWAY)] if count == 3 else []), *([draw(WORD)] if count > 1 else []))
    return Figures(kind, words, tuple(draw(st.lists(COUNT, min_size=length, max_size=length))))


@given(figures())
@example(Figures(USED, ("", "g", "a/b/c d%2F ä\N{SNOWMAN}"), (1,) * 10))
@example(Figures(USED, ("", "g", "\n"), (1,) * 10))
@example(Figures(USED, ("", "g", "\udcff"), (1,) * 10))
@example(Figures(USED, ("a" * 64, ":" * 100, "ä" * 200), (1,) * 10))
def test_what_is_written_can_be_read(of: Figures) -> None:
    entry = written(of)
    assert entry.name.isascii()
    assert entry.name.isprintable()
    assert " " not in entry.name
    assert len(entry.name) <= MAX_NAME
    told = read(entry)
    assert told is not None
    if of.words[-1].isprintable() and len(of.words[-1]) <= 40:
        assert told == of
    else:
        assert told == of._replace(words=(*of.words[:-1], "other"))


def test_names_tell_what_they_are_of() -> None:
    ten = (0,) * 10
    for words, name in {
        ("acme", "openrouter", "openai/gpt-4o"): "u/acme/openrouter/openai/gpt-4o",
        ("", "[::1]:8000", "a b%/c:free@x"): "u//[::1]:8000/a%20b%25/c:free@x",
        ("a/b", "c/d", "e/f"): "u/a%2Fb/c%2Fd/e/f",
    }.items():
        assert written(Figures(USED, words, ten)).name == name
    assert written(Figures(FAILED, ("", "Cancelled"), (1,))).name == "f//Cancelled"


def test_what_is_too_much_stays_at_the_most() -> None:
    assert written(Figures(LONGEST, ("",), (10**30,))).numbers == (MAX_NUMBER,)
    assert written(Figures(LONGEST, ("",), (MAX_NUMBER - 1,))).numbers == (MAX_NUMBER - 1,)


def test_a_name_may_be_as_long_as_the_longest_and_no_longer() -> None:
    for length, model in ((MAX_NAME - 5, "m" * (MAX_NAME - 5)), (MAX_NAME - 4, "other")):
        of = Figures(USED, ("", "g", "m" * length), (1,) * 10)
        assert written(of).name == f"u//g/{model}"
        assert read(written(of)) == of._replace(words=("", "g", model))


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("", 1),
        ("u", 10),
        ("u/", 10),
        ("u//g", 10),
        ("u//g/", 10),
        ("u///m", 10),
        ("u//g/m", 9),
        ("u//g/m", 11),
        ("u//g/m\n", 10),
        ("u//g/m%0A", 10),
        ("u//g/%6d", 10),
        ("u//g/%ff", 10),
        ("u//g/%zz", 10),
        ("u//g/a b", 10),
        ("u//g/" + "m" * 400, 10),
        ("c/a b", 34),
        ("c", 34),
        ("c/%2", 34),
        ("f/a", 1),
        ("f/a/", 1),
        ("x/a", 1),
        ("U//g/m", 10),
        ("/a", 1),
    ],
)
def test_what_is_not_ours(name: str, numbers: int) -> None:
    assert read(Entry(name, (1,) * numbers)) is None


def test_numbers_that_are_not_ours() -> None:
    for number in (-1, MAX_NUMBER + 1):
        assert read(Entry("m/a", (number,))) is None
    assert read(Entry("m/a", (MAX_NUMBER,))) == Figures(LONGEST, ("a",), (MAX_NUMBER,))
    assert read(Entry("m/", (0,))) == Figures(LONGEST, ("",), (0,))


@given(
    st.text(max_size=500) | st.from_regex(r"[ucmfao]/[!-~/%]{0,60}", fullmatch=True),
    st.lists(st.integers(), max_size=40),
)
def test_whatever_stands_there_is_ours_or_nothing(name: str, numbers: list[int]) -> None:
    told = read(Entry(name, tuple(numbers)))
    assert told is None or written(told) == Entry(name, tuple(numbers))


@given(st.text(max_size=60))
def test_nothing_stands_for_two(name: str) -> None:
    one = written(Figures(ATTEMPTS, ("", name or "x"), (1,)))
    two = written(Figures(ATTEMPTS, ("", (name or "x") + "x"), (1,)))
    assert one.name != two.name or one.name == "a//other"
