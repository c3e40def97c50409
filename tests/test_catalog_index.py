"""Queries on a catalogue: what each filter means, what it refuses, and that the index finds what a plain search finds."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routerkit.core.catalog_index import CatalogIndex, Query
from routerkit.core.listing import parse_catalog
from routerkit.errors import InvalidRequestError
from routerkit.types.model import Model, ModelFilters, Pricing

DATA = Path(__file__).parent / "data" / "openrouter-models.json"
ONE, THREE = Decimal("0.000001"), Decimal("0.000003")
MODELS = (
    Model("a/free:free", name="Acme: Free", pricing=Pricing(Decimal(0), Decimal(0)), context_length=8_000),
    Model(
        "a/eye",
        name="Acme: Große Eye",
        pricing=Pricing(ONE, THREE),
        context_length=200_000,
        input_modalities=("text", "image"),
        output_modalities=("text",),
        supported_parameters=frozenset({"tools", "Seed"}),
    ),
    Model(
        "b/ear",
        name="Best: Ear",
        pricing=Pricing(THREE, ONE),
        context_length=200_001,
        input_modalities=("text", "audio", "text"),
        output_modalities=("text", "audio"),
        supported_parameters=frozenset({"tools"}),
    ),
    Model("b/fee", name="Best: Fee", pricing=Pricing(Decimal(0), Decimal(0), request=Decimal(1))),
    Model("b/half", name="b/half", pricing=Pricing(prompt=ONE)),
)
INDEX = CatalogIndex(MODELS)


def found(**filters: Any) -> list[str]:
    return [model.id for model in INDEX.find(Query.of(**filters))]


EVERY = [model.id for model in MODELS]


# --- what each filter means ---


def test_no_filter_finds_all_in_the_catalogues_order() -> None:
    assert found() == EVERY
    assert found(**dict.fromkeys(ModelFilters.__annotations__)) == EVERY
    assert INDEX.find(Query()) == MODELS
    assert CatalogIndex([]).find(Query.of(modality="text", max_price=0, min_context=0, free=True, search="x")) == ()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"modality": "text"}, ["a/eye", "b/ear"]),
        ({"modality": "image"}, ["a/eye"]),
        ({"modality": ["text", "audio"]}, ["b/ear"]),
        ({"modality": ("image", "audio")}, []),
        ({"modality": {"image"}}, ["a/eye"]),
        ({"modality": []}, EVERY),
        ({"modality": "smell"}, []),
        ({"modality": "Text"}, ["a/eye", "b/ear"]),
        ({"supports": ["TOOLS", "seed"]}, ["a/eye"]),
        ({"output_modality": "audio"}, ["b/ear"]),
        ({"output_modality": "image"}, []),
        ({"supports": "tools"}, ["a/eye", "b/ear"]),
        ({"supports": ["tools", "seed"]}, ["a/eye"]),
        ({"supports": "telepathy"}, []),
        ({"min_context": 0}, ["a/free:free", "a/eye", "b/ear"]),
        ({"min_context": 200_000}, ["a/eye", "b/ear"]),
        ({"min_context": 200_001}, ["b/ear"]),
        ({"min_context": 10**30}, []),
        ({"free": True}, ["a/free:free"]),
        ({"free": False}, ["a/eye", "b/ear", "b/fee", "b/half"]),
        ({"search": "acme"}, ["a/free:free", "a/eye"]),
        ({"search": "EYE a/"}, ["a/eye"]),
        ({"search": "/ e"}, EVERY[:-1]),
        ({"search": "GROSSE"}, ["a/eye"]),
        ({"search": "große"}, ["a/eye"]),
        ({"search": "eye ear"}, []),
        ({"search": "eye\nacme"}, ["a/eye"]),
        ({"search": "  "}, EVERY),
        ({"search": ""}, EVERY),
        ({"modality": "text", "supports": "tools", "max_price": "0.000003", "search": "b/"}, ["b/ear"]),
        ({"free": True, "min_context": 8_001}, []),
        ({"free": False, "search": "acme"}, ["a/eye"]),
    ],
)
def test_filters(filters: dict[str, Any], expected: list[str]) -> None:
    assert found(**filters) == expected


def test_words_may_come_one_by_one() -> None:
    assert found(modality=(each for each in ["image"])) == ["a/eye"]


@pytest.mark.parametrize("price", ["0.000003", "3e-6", " 0.000003 ", THREE, Decimal("0.00000300"), 0.000003])
def test_a_price_however_it_is_given(price: Any) -> None:
    """The dearer one of prompt and completion counts, on either side; where one is unknown, nobody knows."""
    assert found(max_price=price) == ["a/free:free", "a/eye", "b/ear", "b/fee"]


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (0, ["a/free:free", "b/fee"]),
        ("0.0", ["a/free:free", "b/fee"]),
        (Decimal("0.00000299"), ["a/free:free", "b/fee"]),
        (0.01, ["a/free:free", "a/eye", "b/ear", "b/fee"]),
    ],
)
def test_prices(price: Any, expected: list[str]) -> None:
    assert found(max_price=price) == expected


# --- what is refused ---


@pytest.mark.parametrize(
    ("price", "right"),
    [
        (3, "3 USD per million tokens are '0.000003'"),
        ("0.5", "0.5 USD per million tokens are '0.0000005'"),
        (Decimal(15), "15 USD per million tokens are '0.000015'"),
        (1e3, "1000.0 USD per million tokens are '0.001'"),
        ("1e2", "100 USD per million tokens are '0.0001'"),
        (0.0100001, "0.0100001 USD per million tokens are '0.0000000100001'"),
    ],
)
def test_a_price_for_a_million_tokens_is_told_right(price: Any, right: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Query.of(max_price=price)
    assert str(caught.value).startswith(f"models(max_price={price!r}): it is USD per token")
    assert right in str(caught.value)
    quoted = str(caught.value).split("'")[-2]
    assert Query.of(max_price=quoted).max_price == Decimal(quoted)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("modality", "output_modality", "supports")
            for value in (5, "", " ", "a b", "a,b")
        ),
        *((name, value) for name in ("modality", "output_modality", "supports") for value in ([None], ["a", ""], b"a")),
        *(("max_price", value) for value in (-1, "-1", "cheap", "$3", True, float("nan"), Decimal("NaN"), [], "1e-16")),
        *(("max_price", value) for value in (Decimal("Infinity"), float("inf"), "")),
        *(("min_context", value) for value in (-1, 1.5, 8000.0, "8000", True, [])),
        *(("free", value) for value in (1, 0, "yes", [])),
        *(("search", value) for value in (5, ["a"], b"a", True)),
    ],
)
def test_what_is_no_filter_is_refused_by_name(name: Any, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Query.of(**{name: value})
    assert str(caught.value).startswith(f"models({name}={value!r}): must be ")


def test_a_value_without_end_is_told_in_short() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Query.of(max_price="9" * 10_000)
    assert len(str(caught.value)) < 200


def test_a_filter_that_does_not_exist() -> None:
    told = r"models\(\) got an unexpected keyword argument "
    with pytest.raises(TypeError, match=f"^{told}'modalities'; did you mean 'modality'\\?$"):
        Query.of(modalities="text", zzz=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=f"^{told}'zzz'$"):
        Query.of(zzz=1)  # type: ignore[call-arg]


# --- a query ---


def test_what_means_the_same_is_the_same_query() -> None:
    one = Query.of(modality=["text", "image", "text"], search="Sonnet  CLAUDE", max_price="3e-6")
    two = Query.of(modality={"image", "text"}, search="claude sonnet sonnet", max_price=THREE)
    assert one == two
    assert hash(one) == hash(two)


# --- the index and a plain search ---


def plain(models: tuple[Model, ...], query: Query) -> list[Model]:
    return [model for model in models if fits(model, query)]


def fits(model: Model, query: Query) -> bool:
    pricing = model.pricing
    named = (model.id.casefold(), model.name.casefold())
    return (
        set(query.modality) <= set(model.input_modalities)
        and set(query.output_modality) <= set(model.output_modalities)
        and set(query.supports) <= model.supported_parameters
        and (
            query.max_price is None
            or (
                pricing.prompt is not None
                and pricing.completion is not None
                and max(pricing.prompt, pricing.completion) <= query.max_price
            )
        )
        and (
            query.min_context is None
            or (model.context_length is not None and model.context_length >= query.min_context)
        )
        and (query.free is None or pricing.free is query.free)
        and all(any(word in name for name in named) for word in query.search)
    )


CAPTURE = tuple(parse_catalog(json.loads(DATA.read_text()))[0])


@pytest.mark.parametrize(
    "filters",
    [
        {"modality": "image", "max_price": "0.000001"},
        {"modality": ["audio", "video"]},
        {"output_modality": "image"},
        {"supports": ["tools", "structured_outputs"], "min_context": 200_000},
        {"free": True, "supports": "tools"},
        {"search": "claude sonnet"},
        {"search": ":FREE", "free": True},
        {"max_price": 0},
    ],
)
def test_the_real_catalogue(filters: Any) -> None:
    query = Query.of(**filters)
    expected = plain(CAPTURE, query)
    assert list(CatalogIndex(CAPTURE).find(query)) == expected
    assert 0 < len(expected) < len(CAPTURE)


_WORDS = st.sampled_from(["text", "image", "audio"])
_AMOUNTS = st.none() | st.sampled_from(["0", "1e-7", "0.0000001", "0.000003", "0.01", "0.5"]).map(Decimal)
_CONTEXTS = st.none() | st.sampled_from([1, 8_000, 8_001, 200_000])
_NAMES = st.text(st.sampled_from("aAbßẞİ/ \n:ς"), max_size=6)
_MODELS = st.builds(
    Model,
    id=_NAMES,
    name=_NAMES,
    context_length=_CONTEXTS,
    pricing=st.builds(Pricing, _AMOUNTS, _AMOUNTS, _AMOUNTS),
    input_modalities=st.lists(_WORDS, max_size=3).map(tuple),
    output_modalities=st.lists(_WORDS, max_size=3).map(tuple),
    supported_parameters=st.frozensets(st.sampled_from(["tools", "seed"])),
)
_QUERIES = st.builds(
    Query.of,
    modality=st.none() | _WORDS | st.lists(_WORDS, max_size=2),
    output_modality=st.none() | _WORDS,
    supports=st.none() | st.lists(st.sampled_from(["tools", "seed", "stop"]), max_size=2),
    max_price=st.none() | st.sampled_from(["0", "1e-7", 0.000003, "0.01"]),
    min_context=st.none() | st.sampled_from([0, 1, 8_000, 8_001, 10**9]),
    free=st.none() | st.booleans(),
    search=st.none() | _NAMES,
)


@given(st.lists(_MODELS, max_size=20), st.lists(_QUERIES, min_size=1, max_size=4))
@example([attrs.evolve(MODELS[0], id="", name="")] * 70, [Query.of(free=True), Query.of(search="a")])
def test_any_index_finds_what_a_plain_search_finds(models: list[Model], queries: list[Query]) -> None:
    index = CatalogIndex(models)
    for query in [*queries, *queries]:
        assert list(index.find(query)) == plain(tuple(models), query)
