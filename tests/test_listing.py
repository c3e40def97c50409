"""Reading what gateways list: OpenRouter's shape, OpenAI's, Infron's, those of local servers, and anything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routerkit.core.listing import MAX_MODELS, completed, parse_catalog, parse_details, price
from routerkit.types.model import COMPONENTS, Model, PriceOverride, Pricing

DATA = Path(__file__).parent / "data"
INFRON = {
    model.id: model
    for model in parse_details(json.loads((DATA / "infron-display-models.json").read_text()), "infron")[0]
}


def only(entry: dict[str, Any]) -> Model:
    ((model,), dropped) = parse_details([{"name": "one", **entry}])
    assert dropped == 0
    return model


def per_million(prompt: str | None, completion: str | None) -> Pricing:
    return Pricing(*(None if each is None else Decimal(each) / 1_000_000 for each in (prompt, completion)))


# --- catalogues ---


def test_openrouters_shape() -> None:
    body = json.loads((DATA / "openrouter-models.json").read_text())
    models, dropped = parse_catalog(body)
    by_id = {model.id: model for model in models}
    assert (len(models), dropped) == (42, 0)
    sonnet = by_id["anthropic/claude-sonnet-4.5"]
    assert sonnet.name == "Anthropic: Claude Sonnet 4.5"
    assert (sonnet.context_length, sonnet.max_completion_tokens) == (1_000_000, 64_000)
    assert sonnet.pricing == Pricing(
        prompt=Decimal("0.000003"),
        completion=Decimal("0.000015"),
        web_search=Decimal("0.01"),
        input_cache_read=Decimal("0.0000003"),
        input_cache_write=Decimal("0.00000375"),
    )
    assert (sonnet.input_modalities, sonnet.output_modalities) == (("text", "image", "file"), ("text",))
    assert by_id["openai/gpt-5-image"].output_modalities == ("image", "text")
    assert sonnet.description.startswith("Claude Sonnet 4.5 is")
    assert {"tools", "reasoning", "structured_outputs"} <= sonnet.supported_parameters
    assert by_id["google/gemini-2.0-flash-001"].expiration_date == "2026-03-31"
    assert not by_id["openrouter/auto"].pricing.known
    assert by_id["openai/gpt-oss-20b:free"].pricing.free
    assert not sonnet.pricing.free
    assert [model.to_dict() for model in models] == body["data"]
    assert sonnet.to_dict() is sonnet.raw


@pytest.mark.parametrize("wrap", [lambda entries: {"data": entries, "links": {}}, lambda entries: entries])
def test_openais_bare_shape(wrap: Any) -> None:
    entries = [{"id": "gpt-4@latest", "object": "model", "created": 1, "owned_by": "openai"}]
    models, dropped = parse_catalog(wrap(entries))
    assert models == [Model("gpt-4@latest", name="gpt-4@latest", created=1)]
    assert dropped == 0


@pytest.mark.parametrize("body", [None, 1, "x", {}, {"data": None}, {"data": {}}, {"models": []}, [], {"data": []}])
def test_what_is_no_catalogue(body: Any) -> None:
    assert parse_catalog(body) == ([], 0)


def test_bad_entries_are_dropped_and_counted() -> None:
    bad = [None, 1, "x", [], {}, {"id": None}, {"id": 5}, {"id": ""}, {"id": "a\nb"}, {"id": "x" * 201}, {"name": "x"}]
    models, dropped = parse_catalog({"data": [*bad, {"id": "a/one"}]})
    assert ([model.id for model in models], dropped) == (["a/one"], len(bad))


def test_of_duplicates_the_first_wins() -> None:
    models, dropped = parse_catalog([{"id": "a/one", "name": "First"}, {"id": "a/one", "name": "Second"}])
    assert ([model.name for model in models], dropped) == (["First"], 1)


def test_fields_of_the_wrong_type_read_as_missing() -> None:
    entry = {
        "id": "a/one",
        "name": 5,
        "context_length": "8192",
        "architecture": [],
        "pricing": "cheap",
        "top_provider": None,
        "supported_parameters": {"tools": True},
        "created": True,
        "expiration_date": 2026,
        "description": None,
    }
    assert parse_catalog([entry])[0] == [Model("a/one", name="a/one")]
    partly = {
        "id": "a/one",
        "architecture": {"input_modalities": ["text", 5, None]},
        "supported_parameters": [1, "seed"],
    }
    model = parse_catalog([partly])[0][0]
    assert (model.input_modalities, model.supported_parameters) == (("text",), {"seed"})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"context_length": 10}, 10),
        ({"context_length": 10.0}, 10),
        ({"context_length": None, "top_provider": {"context_length": 20}}, 20),
        ({"context_length": 0}, None),
        ({"context_length": -1}, None),
        ({"context_length": 1.5}, None),
        ({"context_length": float("inf")}, None),
        ({"context_length": float("nan")}, None),
        ({"context_length": 2**70}, None),
    ],
)
def test_context_lengths(entry: dict[str, Any], expected: int | None) -> None:
    assert parse_catalog([{"id": "a/one", **entry}])[0][0].context_length == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.000003", "0.000003"),
        (" 0.5 ", "0.5"),
        ("0", "0"),
        (0, "0"),
        (2, "2"),
        (3e-7, "3E-7"),
        ("1e-7", "1E-7"),
        ("0.00000008333333333333334", "8.333333333333334E-8"),
        ("-1", None),
        (-1, None),
        (-0.1, None),
        ("", None),
        ("free", None),
        ("$1", None),
        ("1,5", None),
        ("1_000", None),
        ("٣", None),
        ("NaN", None),
        ("inf", None),
        ("1e400", None),
        ("1e999999999", None),
        ("9" * 1000, None),
        (10**9, None),
        (10**5000, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (None, None),
        ([], None),
        ({}, None),
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_prices(value: Any, expected: str | None) -> None:
    assert price(value) == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    "path", ["/models/qwen3-0.6b.gguf", "models/qwen3.gguf", "C:\\models\\qwen3.gguf", "./qwen3.gguf", "/a/..b/c..gguf"]
)
def test_a_local_server_without_an_alias_lists_paths(path: str) -> None:
    """As llama.cpp does."""
    ((model,), _) = parse_catalog({"models": [], "data": [{"id": path, "meta": {"n_ctx": 4096}}]})
    assert (model.id, model.context_length) == (path, 4096)


@pytest.mark.parametrize("path", ["../qwen3.gguf", "/models/../qwen3.gguf", "models/..", "..", "..\\x", "/a b.gguf"])
def test_a_path_that_climbs_is_no_id(path: str) -> None:
    assert parse_catalog([{"id": path}]) == ([], 1)
    assert parse_details([{"invoke_name": path, "name": "fine"}]) == ([], 1)


@pytest.mark.parametrize("word", ["max_model_len", "context_window", "max_context_length"])
def test_others_words_for_the_context(word: str) -> None:
    """vLLM's, Groq's, Mistral's."""
    assert parse_catalog([{"id": "a/one", word: 4096}])[0][0].context_length == 4096
    assert parse_catalog([{"id": "a/one", word: None}])[0][0].context_length is None


@pytest.mark.parametrize("word", ["max_completion_tokens", "max_output_tokens"])
def test_others_words_for_the_longest_answer(word: str) -> None:
    assert parse_catalog([{"id": "a/one", word: 512, "top_provider": None}])[0][0].max_completion_tokens == 512
    entry = {"id": "a/one", word: 512, "top_provider": {"max_completion_tokens": 256}}
    assert parse_catalog([entry])[0][0].max_completion_tokens == 256


def test_what_gateways_add_to_openais_bare_entry() -> None:
    """Infron's of late: modalities beside one another, in any case. Its lowest price of several is nobody's price."""
    entry = {
        "id": "google/gemini-3.1-flash-lite",
        "display_name": "Gemini 3.1 Flash Lite",
        "input_modalities": ["Text", "image", 5],
        "output_modalities": ["TEXT"],
        "min_prompt_price": 0,
        "min_completion_price": 0.75,
    }
    ((model,), _) = parse_catalog([entry])
    assert model.name == "Gemini 3.1 Flash Lite"
    assert (model.input_modalities, model.output_modalities) == (("text", "image"), ("text",))
    assert not model.pricing.known


def test_a_model_says_whose_it_is() -> None:
    assert parse_catalog([{"id": "a/one"}], "near")[0][0].gateway == "near"
    assert parse_details([{"name": "one"}], "far")[0][0].gateway == "far"


def test_a_list_without_end_is_cut() -> None:
    models, dropped = parse_catalog([{"id": "a/one"}] + [None] * MAX_MODELS + [{"id": "b/two"}])
    assert ([model.id for model in models], dropped) == (["a/one"], MAX_MODELS + 1)


def test_entries_share_what_they_have_in_common() -> None:
    entry = {
        "architecture": {"input_modalities": ["text"]},
        "supported_parameters": ["tools"],
        "pricing": {"prompt": "0.1"},
    }
    one, two = parse_catalog([{"id": "a/one", **entry}, {"id": "b/two", **json.loads(json.dumps(entry))}])[0]
    assert one.input_modalities is two.input_modalities
    assert one.supported_parameters is two.supported_parameters
    assert one.pricing is two.pricing


# --- prices that depend on something ---


def priced(pricing: Any, per: int = 1) -> Pricing:
    ((model,), _) = parse_catalog([{"id": "a/one", "pricing": pricing}], per=per)
    return model.pricing


BASE = {"prompt": "1", "completion": "2"}


def test_every_price_has_its_name() -> None:
    told = {name: str(number) for number, name in enumerate(COMPONENTS, 1)}
    assert priced(told) == Pricing(*map(Decimal, range(1, len(COMPONENTS) + 1)))
    assert COMPONENTS[-4:] == ("input_cache_write_1h", "image_token", "image_output", "audio_output")


def test_openrouters_overrides() -> None:
    """As its API description gives them."""
    overrides = [
        {"min_prompt_tokens": 200_000, "prompt": "0.000005", "completion": "0.00002", "input_audio_cache": "0.1"},
        {"min_prompt_tokens": 1.5, "input_cache_write_1h": "3"},
        {"utc_start": 100, "utc_end": 400, "prompt": "0.5"},
        {"audio": "4"},
    ]
    found = priced({**BASE, "overrides": overrides})
    assert found == Pricing(
        prompt=Decimal(1),
        completion=Decimal(2),
        overrides=(
            PriceOverride(Pricing(prompt=Decimal("0.000005"), completion=Decimal("0.00002")), above=200_000),
            PriceOverride(Pricing(input_cache_write_1h=Decimal(3)), above=1),
            PriceOverride(Pricing(prompt=Decimal("0.5")), sure=False),
            PriceOverride(Pricing(audio=Decimal(4))),
        ),
    )


def test_overrides_have_the_unit_of_the_others() -> None:
    found = priced({**BASE, "overrides": [{"prompt": "3", "request": "3"}]}, per=1_000_000)
    assert found.overrides == (PriceOverride(Pricing(prompt=Decimal("0.000003"), request=Decimal(3))),)


@pytest.mark.parametrize("overrides", [None, [], {}, "", 0, False])
def test_no_overrides(overrides: Any) -> None:
    assert priced({**BASE, "overrides": overrides}) == priced(BASE)


@pytest.mark.parametrize(
    "overrides", ["later", 5, {"prompt": "1"}, [None], ["x", {}], [[]], [{"prompt": "-1"}], [{"audio": []}]]
)
def test_overrides_that_cannot_be_read_make_the_prices_unclear(overrides: Any) -> None:
    found = priced({**BASE, "overrides": overrides})
    assert found.unclear
    assert not priced({"prompt": "0", "completion": "0", "overrides": overrides}).free


@pytest.mark.parametrize("above", [None, -1, "200000", float("nan"), float("inf"), 2**63, True, []], ids=str)
def test_a_condition_that_cannot_be_read_may_be_met_at_any_time(above: Any) -> None:
    (found,) = priced({**BASE, "overrides": [{"min_prompt_tokens": above, "prompt": "3"}]}).overrides
    assert found == PriceOverride(Pricing(prompt=Decimal(3)), above=0, sure=False)


def test_a_condition_that_is_new_may_be_met_or_not() -> None:
    (found,) = priced({**BASE, "overrides": [{"min_prompt_tokens": 7, "on_sundays": True, "prompt": "3"}]}).overrides
    assert found == PriceOverride(Pricing(prompt=Decimal(3)), above=7, sure=False)


@pytest.mark.parametrize("value", ["-1", "NaN", "", "free", "1e400", True, []], ids=str)
def test_a_price_that_cannot_be_read_makes_the_prices_unclear(value: Any) -> None:
    assert priced({**BASE, "request": value}) == Pricing(Decimal(1), Decimal(2), unclear=True)
    assert not priced({"prompt": "0", "completion": "0", "request": value}).free


def test_a_price_that_is_not_there_does_not() -> None:
    assert priced({**BASE, "request": None}) == priced(BASE) == Pricing(Decimal(1), Decimal(2))


@pytest.mark.parametrize(
    ("overrides", "free"),
    [([], True), ([{"prompt": "0"}], True), ([{"prompt": "0"}, {"min_prompt_tokens": 5, "audio": "1"}], False)],
)
def test_what_is_free_is_free_at_any_time(overrides: list[Any], free: bool) -> None:
    assert priced({"prompt": "0", "completion": "0", "overrides": overrides}).free is free
    assert not priced({"prompt": "0", "completion": "1", "overrides": overrides}).free


# --- the unit of prices ---


def test_prices_for_a_million_tokens() -> None:
    """Those for a request, an image and a search are for one of them."""
    told = dict.fromkeys(("prompt", "audio", "internal_reasoning", "input_cache_read", "input_cache_write"), "1.5")
    units = {"request": "0.02", "image": 0.5, "web_search": "4"}
    ((model,), _) = parse_catalog([{"id": "a/one", "pricing": {**told, **units, "completion": 3}}], per=1_000_000)
    assert model.pricing == Pricing(
        completion=Decimal("0.000003"),
        request=Decimal("0.02"),
        image=Decimal("0.5"),
        web_search=Decimal(4),
        **dict.fromkeys(told, Decimal("0.0000015")),
    )


def test_the_division_is_exact_whatever_the_precision() -> None:
    digits = "0.1234567890123456789012345678901234567"
    with localcontext() as context:
        context.prec = 3
        assert price(digits, 1_000_000) == Decimal(digits[:2] + "000000" + digits[2:])
        assert price(digits) == Decimal(digits)


def test_what_is_absurd_is_judged_by_the_token() -> None:
    assert price("1e-14") == Decimal("1e-14")
    assert price("1e-14", 1_000_000) is None
    assert price("1e10") is None
    assert price("1e10", 1_000_000) == Decimal(10_000)
    assert price("0", 1_000_000) == 0


# --- Infron's public list ---


def test_infrons_shape() -> None:
    entry = {
        "id": 1,
        "name": "Gemini 2.0 Flash",
        "invoke_name": "gemini-2.0-flash",
        "sale_input_cost": "$0",
        "sale_output_cost": "$0.36",
        "retail_input_cost": "$0.10",
        "retail_output_cost": "$0.40",
        "input_token_limit": "131,072",
        "output_token_limit": "8192",
        "input_modalities": "Text, Code, Images",
        "output_modalities": "Text, Code",
        "description": "Quick.",
        "discount": "10% OFF",
    }
    for body in ({"data": [entry]}, [entry]):
        ((model,), dropped) = parse_details(body, "infron")
        assert model == Model(
            "gemini-2.0-flash",
            name="Gemini 2.0 Flash",
            context_length=131_072,
            max_completion_tokens=8192,
            pricing=Pricing(prompt=Decimal("0.0000001"), completion=Decimal("0.00000036")),
            input_modalities=("text", "image"),
            output_modalities=("text",),
            description="Quick.",
            gateway="infron",
        )
        assert model.to_dict() is entry
        assert dropped == 0


@pytest.mark.parametrize("body", [None, 1, "x", {}, {"data": None}, {"data": {}}, []])
def test_what_is_no_public_list(body: Any) -> None:
    assert parse_details(body) == ([], 0)


@pytest.mark.parametrize(
    ("entry", "identity", "name"),
    [
        ({"name": "gpt-4", "invoke_name": "gpt-4@latest"}, "gpt-4@latest", "gpt-4"),
        ({"name": "gpt-4", "invoke_name": None}, "gpt-4", "gpt-4"),
        ({"name": "gpt-4", "invoke_name": " "}, "gpt-4", "gpt-4"),
        ({"name": "gpt-4", "invoke_name": 5}, "gpt-4", "gpt-4"),
        ({"name": " gpt-4 "}, "gpt-4", "gpt-4"),
        ({"name": None, "invoke_name": " gpt-4 "}, "gpt-4", "gpt-4"),
        ({"name": "GPT 4", "invoke_name": "gpt-4"}, "gpt-4", "GPT 4"),
        ({"name": "gpt-4", "display_name": "GPT 4"}, "gpt-4", "GPT 4"),
    ],
)
def test_the_id_to_send(entry: dict[str, Any], identity: str, name: str) -> None:
    ((model,), _) = parse_details([entry])
    assert (model.id, model.name) == (identity, name)


def test_public_entries_without_a_usable_id_are_dropped_and_counted() -> None:
    bad = [
        None,
        1,
        "x",
        [],
        {},
        {"id": 7},
        {"name": "two words"},
        {"name": "fine", "invoke_name": "a\nb"},
        {"name": ""},
    ]
    models, dropped = parse_details([*bad, {"name": "one"}, {"invoke_name": "one", "retail_input_cost": "$9"}])
    assert (models, dropped) == ([Model("one", name="one")], len(bad) + 1)


@pytest.mark.parametrize(
    ("sale", "retail", "discount", "expected"),
    [
        ("$2", "$3", None, "2"),
        ("$2", None, None, "2"),
        ("$2", "$0", None, "2"),
        ("$0", "$3", None, "3"),
        ("$0.00", "$3", "10% OFF", "3"),
        (0, 3, None, "3"),
        (0.0, 0.25, None, "0.25"),
        (None, "$3", None, "3"),
        ("", "$3", None, "3"),
        ("-$1", "$3", None, "3"),
        (-1, "$3", None, "3"),
        ("soon", "$3", None, "3"),
        (["$1"], "$3", None, "3"),
        ("$0", "$0", None, None),
        ("$0", None, None, None),
        (None, None, None, None),
        (None, "-$3", None, None),
        (None, -3, None, None),
        (None, "ask us", None, None),
        ("$0", "$3", "FREE", "0"),
        ("$0", "$0", "FREE", "0"),
        (None, "$3", " Free ", "0"),
        (None, None, "FREE", "0"),
        ("$2", "$3", "FREE", "2"),
        ("$0", "$3", "not free", "3"),
        ("$0", "$3", "FREE SHIPPING", "3"),
        ("$0", "$3", True, "3"),
        ("$0", "$3", ["FREE"], "3"),
        ("$0", "$1,234.5", None, "1234.5"),
        ("$0", "$1,234,567", None, "1234567"),
        ("$0", "1,234", None, "1234"),
        ("$0", " $ 0.05 ", None, "0.05"),
        ("$0", "$0,05", None, None),
        ("$0", "$12,34", None, None),
        ("$0", "$0,125", None, None),
        ("$0", "€3", None, None),
        ("$0", "$$3", None, None),
        ("$0", "NaN", None, None),
        ("$0", float("nan"), None, None),
        ("$0", True, None, None),
    ],
)
def test_what_a_sale_price_and_a_retail_price_come_to(
    sale: Any, retail: Any, discount: Any, expected: str | None
) -> None:
    """On either side alike."""
    prompt = only({"sale_input_cost": sale, "retail_input_cost": retail, "discount": discount}).pricing
    completion = only({"sale_output_cost": sale, "retail_output_cost": retail, "discount": discount}).pricing
    assert prompt.prompt == completion.completion == per_million(expected, None).prompt
    assert prompt.completion == completion.prompt == (0 if str(discount).strip().upper() == "FREE" else None)


def test_each_side_has_a_price_of_its_own() -> None:
    costs = {"sale_input_cost": "$2", "sale_output_cost": "$0", "retail_input_cost": "$3", "retail_output_cost": "$9"}
    assert only(costs).pricing == per_million("2", "9")
    assert only({**costs, "discount": "FREE"}).pricing == per_million("2", "0")
    assert not only({**costs, "discount": "FREE"}).pricing.free


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("8192", 8192),
        ("131,072", 131_072),
        ("1,048,576", 1_048_576),
        (" 8192 ", 8192),
        (8192, 8192),
        (8192.0, 8192),
        ("0", None),
        (0, None),
        (-5, None),
        ("-5", None),
        ("", None),
        (None, None),
        ("N/A", None),
        ("128K", None),
        ("8,19", None),
        ("0,128", None),
        ("1,048.5", None),
        ("9" * 5000, None),
        ("9" * 19, None),
        ("٣", None),
        (True, None),
        ([8192], None),
    ],
    ids=lambda value: str(value)[:12],
)
def test_token_limits(value: Any, expected: int | None) -> None:
    model = only({"input_token_limit": value, "output_token_limit": value})
    assert (model.context_length, model.max_completion_tokens) == (expected, expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Text", ("text",)),
        ("Text, Code, Images", ("text", "image")),
        ("Code", ("text",)),
        ("Image,Images , IMAGE", ("image",)),
        ("Audio, Video, Videos", ("audio", "video")),
        ("Files, File, PDF", ("file",)),
        ("Text, 3D Mesh, Embeddings", ("text", "3d mesh", "embeddings")),
        (" , ,", ()),
        ("", ()),
        (None, ()),
        (5, ()),
        ({"Text": 1}, ()),
        (["Text", None, "Images"], ("text", "image")),
    ],
)
def test_modalities(value: Any, expected: tuple[str, ...]) -> None:
    model = only({"input_modalities": value, "output_modalities": value})
    assert (model.input_modalities, model.output_modalities) == (expected, expected)


@pytest.mark.parametrize(
    ("model", "prompt", "completion"),
    [
        ("claude-sonnet-4.5", "2.7", "13.5"),
        ("claude-haiku-4.5", "1", "5"),
        ("gpt-4o@2024-11-20", "2.25", "10"),
        ("gpt-5-nano", "0.05", "0.4"),
        ("gemini-2.0-flash", "0", "0"),
        ("deepseek-r1", "0.55", "2.19"),
        ("qwen3-235b-a22b", "0.2", "0.8"),
        ("qwen3-30b-a3b", "0.08", "0.28"),
        ("llama-3.3-70b-instruct", "0.12", "0.3"),
        ("llama-4-scout", "0", "0"),
        ("mistral-small-3.2", None, None),
        ("grok-4-fast", "0.2", "0.5"),
        ("kimi-k2@latest", "0.6", None),
        ("runway-gen-4", "1125", "2250"),
        ("text-embedding-3-small", "0.02", None),
    ],
)
def test_every_oddity_of_the_list(model: str, prompt: str | None, completion: str | None) -> None:
    assert INFRON[model].pricing == per_million(prompt, completion)


def test_the_whole_list() -> None:
    assert len(INFRON) == 26
    assert [model.id for model in INFRON.values() if model.pricing.free] == ["gemini-2.0-flash", "llama-4-scout"]
    assert INFRON["gemini-2.5-pro"].input_modalities == ("text", "image", "audio", "video", "file")
    assert INFRON["llama-3.3-70b-instruct"].max_completion_tokens is None
    assert INFRON["mistral-small-3.2"].max_completion_tokens is None
    assert INFRON["qwen3-30b-a3b"].context_length == 40_960
    assert INFRON["text-embedding-3-small"].input_modalities == ()


# --- two lists in one ---


def test_the_union_keeps_the_order_of_ids() -> None:
    listed = parse_catalog([{"id": "b", "created": 5}, {"id": "a"}, {"id": "unknown"}], "infron")[0]
    details = parse_details([{"name": "c"}, {"name": "a", "input_token_limit": 10}, {"name": "b"}, {"name": "d"}])[0]
    found = completed(listed, details)
    assert [model.id for model in found] == ["b", "a", "unknown", "c", "d"]
    assert [model.context_length for model in found] == [None, 10, None, None, None]
    assert found[0].created == 5
    assert found[2] is listed[2]
    assert found[3] is details[0]


def test_one_list_alone() -> None:
    listed, details = [Model("a")], [Model("b")]
    assert completed(listed, []) == listed
    assert completed([], details) == details
    assert completed([], []) == []


def test_what_the_first_tells_stands() -> None:
    more = Model(
        "a",
        name="More",
        context_length=2,
        max_completion_tokens=2,
        pricing=Pricing(prompt=Decimal(2), completion=Decimal(2), image=Decimal(2)),
        input_modalities=("image",),
        output_modalities=("image",),
        supported_parameters=frozenset({"seed"}),
        created=2,
        expiration_date="2002-02-02",
        description="More",
        gateway="far",
        raw={"id": 7, "name": "More", "discount": "FREE"},
    )
    told = Model(
        "a",
        name="Told",
        context_length=1,
        max_completion_tokens=1,
        pricing=Pricing(prompt=Decimal(1), completion=Decimal(0)),
        input_modalities=("text",),
        output_modalities=("text",),
        supported_parameters=frozenset({"tools"}),
        created=1,
        expiration_date="2001-01-01",
        description="Told",
        gateway="near",
        raw={"id": "a", "object": "model"},
    )
    (found,) = completed([told], [more])
    assert found.raw == {"id": "a", "object": "model", "name": "More", "discount": "FREE"}
    assert found == Model(**{**fields(told), "pricing": Pricing(Decimal(1), Decimal(0), image=Decimal(2))})
    (found,) = completed([Model("a", name="a")], [more])
    assert found == more


def fields(model: Model) -> dict[str, Any]:
    return {name: getattr(model, name) for name in Model.__slots__ if name != "__weakref__"}


def test_a_version_without_details_of_its_own_takes_those_of_its_model() -> None:
    listed = parse_catalog([{"id": "gpt-4@latest"}, {"id": "gpt-4@0613"}, {"id": "@cf/gpt-4"}, {"id": "gpt-5@latest"}])[
        0
    ]
    details = parse_details(
        [
            {"name": "GPT-4", "invoke_name": "gpt-4", "input_token_limit": 8},
            {"name": "GPT-4 0613", "invoke_name": "gpt-4@0613", "input_token_limit": 4},
            {"name": "gpt-5", "input_token_limit": 9},
        ]
    )[0]
    assert [(model.id, model.name, model.context_length) for model in completed(listed, details)] == [
        ("gpt-4@latest", "GPT-4", 8),
        ("gpt-4@0613", "GPT-4 0613", 4),
        ("@cf/gpt-4", "@cf/gpt-4", None),
        ("gpt-5@latest", "gpt-5@latest", 9),
        ("gpt-4", "GPT-4", 8),
        ("gpt-5", "gpt-5", 9),
    ]


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        ({"retail_input_cost": "$1", "retail_output_cost": "$2"}, ("0.000001", "0.000002")),
        ({"retail_input_cost": "$1", "retail_output_cost": None}, ("0.000001", None)),
        ({"discount": "FREE"}, (None, None)),
        ({"sale_output_cost": "$4.56", "discount": "FREE"}, (None, None)),
    ],
    ids=["its price", "half of it", "free", "half free"],
)
def test_a_version_is_not_free_because_its_model_is(prices: dict[str, Any], expected: tuple[str | None, ...]) -> None:
    details = parse_details([{"invoke_name": "gpt-4", "input_token_limit": 8, **prices}])[0]
    version, whole = completed([Model("gpt-4@0613")], details)
    assert (version.pricing.prompt, version.pricing.completion) == tuple(each and Decimal(each) for each in expected)
    assert (version.context_length, whole) == (8, details[0])


def test_a_version_is_what_comes_after_the_last_sign() -> None:
    (found, _) = completed([Model("@cf/gpt-4@latest")], [Model("@cf/gpt-4", context_length=8)])
    assert found.context_length == 8


# --- anything ---


_FIELDS = ["data", "id", "name", "context_length", "architecture", "pricing", "top_provider", "supported_parameters"]
_FIELDS += ["input_modalities", "prompt", "completion", "created", "expiration_date", "description"]
_FIELDS += ["overrides", "min_prompt_tokens", "utc_start"]
_FIELDS += [
    "invoke_name",
    "sale_input_cost",
    "retail_output_cost",
    "discount",
    "input_token_limit",
    "output_modalities",
]
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["a/one", "-1", "1e999", "NaN", "$1,234.5", "FREE", "Text, Images"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_FIELDS), inner, max_size=6),
    max_leaves=8,
)
_ENTRIES = st.lists(st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=5), max_size=3)


def amounts(pricing: Pricing) -> Iterator[Decimal]:
    return (value for name in Pricing.__slots__ if isinstance(value := getattr(pricing, name, None), Decimal))


@settings(deadline=None)
@given(_JSON | _ENTRIES | st.fixed_dictionaries({"data": _ENTRIES}), st.sampled_from([1, 1_000_000]))
def test_anything_can_be_read(body: Any, per: int) -> None:
    listed, details = parse_catalog(body, "x", per), parse_details(body, "x")
    union = completed(listed[0], details[0])
    assert {model.id for model in union} == {model.id for models, _ in (listed, details) for model in models}
    for models, dropped in (listed, details, (union, 0)):
        assert dropped >= 0
        assert len({model.id for model in models}) == len(models)
        for model in models:
            assert 0 < len(model.id) <= 200
            assert model.context_length is None or model.context_length > 0
            for pricing in (model.pricing, *(each.prices for each in model.pricing.overrides)):
                assert all(amount.is_finite() and amount >= 0 for amount in amounts(pricing))
            assert all(each.above >= 0 for each in model.pricing.overrides)
