"""The options by which commands choose models of the catalogue; the library does the choosing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from routerkit.types.model import ModelFilters

F = TypeVar("F", bound=Callable[..., Any])

MODALITIES = ("text", "image", "audio", "video", "file")
"""Those that gateways speak of, for shell completion; any other word can be asked for too."""
PARAMETERS = (
    *(
        "frequency_penalty",
        "include_reasoning",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
    ),
    *(
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
    ),
    *("seed", "stop", "structured_outputs", "temperature", "tool_choice", "tools", "top_a", "top_k", "top_logprobs"),
    *("top_p", "verbosity", "web_search_options"),
)
"""Likewise."""

HIGHEST = Decimal(10_000)
"""USD per million tokens. The library takes a price above it for a mistake."""
_MILLION = Decimal(1_000_000)
_AMOUNT = re.compile(r"\$?([0-9]{1,6}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})")
_TOKENS = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([km]?)", re.IGNORECASE)
_TIMES = {"": 1, "k": 1000, "m": 1_000_000}


def filters(command: F) -> F:
    """Give a command the filter options.

    Its function takes them as ``**given: Any`` (and ``shared: Shared, /``) and makes ``filters_of(**given)`` of them.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def filters_of(
    *,
    search: str | None = None,
    modality: tuple[str, ...] = (),
    output_modality: tuple[str, ...] = (),
    supports: tuple[str, ...] = (),
    tools: bool = False,
    max_price: Decimal | None = None,
    min_context: int | None = None,
    free: bool | None = None,
) -> ModelFilters:
    """The options as ``client.models()`` takes them: what was not given is not in it.

    ``max_price`` is USD per token here, as the option has converted it already.
    """
    found: ModelFilters = {}
    if search:
        found["search"] = search
    if modality:
        found["modality"] = modality
    if output_modality:
        found["output_modality"] = output_modality
    if supports or tools:
        found["supports"] = (*supports, "tools") if tools and "tools" not in supports else supports
    if max_price is not None:
        found["max_price"] = max_price
    if min_context is not None:
        found["min_context"] = min_context
    if free is not None:
        found["free"] = free
    return found


def listed(_: click.Context, __: click.Parameter, value: Iterable[str]) -> tuple[str, ...]:
    """Words given one by one, or several with commas between them; in lower case, as gateways write them."""
    words = [word.strip().lower() for text in value for word in text.split(",")]
    if any(" " in word for word in words):
        raise click.BadParameter("words are separated by commas")
    return tuple(dict.fromkeys(word for word in words if word))


def per_token(_: click.Context, __: click.Parameter, value: str | None) -> Decimal | None:
    """USD per token, from an amount per million tokens such as ``3``, ``0.15`` or ``$3``."""
    if value is None:
        return None
    found = _AMOUNT.fullmatch(value.strip())
    amount = None if found is None else Decimal(found[1])
    if amount is None or amount > HIGHEST:
        raise click.BadParameter(f"{value!r} is not USD per million tokens, such as 3 or 0.15; at most {HIGHEST:,}")
    return amount / _MILLION


def tokens(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    """A number of tokens: ``200000``, ``128k``, ``1M``, ``1,048,576``. A k is a thousand."""
    if value is None:
        return None
    found = _TOKENS.fullmatch(re.sub(r"(?<=[0-9])[,_](?=[0-9]{3})", "", value.strip()))
    count = None if found is None else Decimal(found[1]) * _TIMES[found[2].lower()]
    if count is None or count != count.to_integral_value():
        raise click.BadParameter(f"{value!r} is not a number of tokens, such as 200000, 128k or 1M")
    return int(count)


def _words(known: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What completes the last of several words with commas between them."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + word for word in known if word.startswith(last.lower())]

    return complete


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--search", metavar="TEXT", help="Only models with all these words in id or name."),
    click.option(
        "--modality",
        metavar="WORD",
        multiple=True,
        callback=listed,
        shell_complete=_words(MODALITIES),
        help="Only models that take it: image, audio, file, video; several with commas.",
    ),
    click.option(
        "--output-modality",
        metavar="WORD",
        multiple=True,
        callback=listed,
        shell_complete=_words(MODALITIES),
        help="Only models that give it.",
    ),
    click.option(
        "--supports",
        metavar="PARAMETER",
        multiple=True,
        callback=listed,
        shell_complete=_words(PARAMETERS),
        help="Only models that know it: structured_outputs, reasoning, seed, ...",
    ),
    click.option("--tools", is_flag=True, help="Only models that can call tools; short for --supports tools."),
    click.option(
        "--max-price",
        metavar="USD",
        callback=per_token,
        help="Only models whose prompt and answer cost at most so much per million tokens.",
    ),
    click.option(
        "--min-context",
        metavar="TOKENS",
        callback=tokens,
        help="Only models with room for so many tokens: 128k, 1M.",
    ),
    click.option("--free/--paid", default=None, help="Only models that cost nothing, or only the others."),
)
