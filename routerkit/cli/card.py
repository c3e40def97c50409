"""``routerkit model``: all that is known of one model."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from routerkit.cli import known, options
from routerkit.cli.models import Lists, ending, takes_and_gives, today
from routerkit.cli.near import near
from routerkit.cli.options import Shared
from routerkit.cli.render import MILLION, add_row, money, new_table, price
from routerkit.cli.terminal import Output, one_line
from routerkit.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from routerkit.client import Client
    from routerkit.types.model import Model, PriceOverride, Pricing

FREE = ":free"
LONGEST = 300
"""Characters of what a gateway says beside what is known here."""

_UNITS = {"request": "request", "web_search": "search"}
"""Prices that are not for tokens, and what they are for. An image price can be either."""
_SHOWN = frozenset(
    {"id", "name", "description", "context_length", "pricing", "architecture", "supported_parameters", "created"}
    | {"expiration_date", "canonical_slug", "top_provider", "object", "owned_by"}
)
"""Fields of an entry that have their own place on the card, or say nothing."""


@click.command(short_help="Show all that is known of one model.")
@click.argument("identity", metavar="ID", shell_complete=known.model_ids)
@click.option("--refresh", is_flag=True, help="Ask the gateways, however young the list at hand is.")
@options.as_json
@options.shared
@click.pass_obj
def model(shared: Shared, /, identity: str, refresh: bool) -> None:
    """Show all that the gateways tell of a model: what it can, what everything costs, until when it is offered.

    ID is the model's id, or one from the aliases of the settings. Where several gateways list it, the card is the first one's,
    and the prices of the others stand below.

    \b
    Examples:
      routerkit model openai/gpt-4o
      routerkit model openai/gpt-4o --gateway openrouter --gateway infron
      routerkit model openai/gpt-4o --json | jq .model.pricing
    """
    lists = Lists()
    stdout, stderr = Output(sys.stdout), Output(sys.stderr)
    with shared.client(observers=[lists.hear]) as client:
        every = client.models(refresh=refresh)
        lists.look(client)
        entries = entries_of(client, identity, every)
        siblings = siblings_of(entries[0], every)
        day = today(client)
    if shared.as_json:
        stdout.json(_document(identity, entries, siblings, mock=lists.mock))
    else:
        stdout.table(card(identity, entries, siblings, day))
        if entries[0].description:
            stdout.line("")
            stdout.table(about(entries[0]))
    lists.tell(stderr)


def entries_of(client: Client, identity: str, every: Sequence[Model]) -> list[Model]:
    """The model's entry in each list that has it. Raises InvalidRequestError, which names ids that are like it."""
    found = []
    refused: InvalidRequestError | None = None
    for name in client.router.snapshots():
        try:
            found.append(client.with_options(gateway=name).model(identity))
        except InvalidRequestError as error:
            refused = error
    if found:
        return found
    meant = near(identity, (model.id for model in every))
    where = " or ".join(client.router.snapshots())
    told = f"model={identity!r}: not in the catalogue of {where}"
    raise InvalidRequestError(told + (f"; near it: {', '.join(meant)}" if meant else "")) from refused


def siblings_of(entry: Model, every: Sequence[Model]) -> list[str]:
    """The ids of the model's other variants, such as the free one."""
    base = entry.id.partition(":")[0]
    return sorted({each.id for each in every if each.id.partition(":")[0] == base and each.id != entry.id})


def card(identity: str, entries: Sequence[Model], siblings: Sequence[str], day: str) -> Table:
    table = new_table()
    table.show_header = False
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in lines(identity, entries, siblings, day):
        add_row(table, label, text)
    return table


def about(entry: Model) -> Table:
    """The description, as wide as there is room for."""
    table = new_table()
    table.show_header = False
    table.add_column(overflow="fold")
    for paragraph in filter(str.strip, entry.description.splitlines()):
        add_row(table, paragraph.strip())
    return table


def lines(identity: str, entries: Sequence[Model], siblings: Sequence[str], day: str) -> Iterator[tuple[str, str]]:
    """Labels and what they stand before. What nobody told is left out, but not a price."""
    entry = entries[0]
    raw = entry.raw
    yield "id", entry.id if identity == entry.id else f"{entry.id} (asked for as {identity})"
    if entry.name and entry.name != entry.id:
        yield "name", entry.name
    if raw.get("canonical_slug") not in (None, "", entry.id):
        yield "canonical slug", _plain(raw["canonical_slug"])
    yield "gateway" if len(entries) == 1 else "gateways", ", ".join(each.gateway for each in entries)
    for sibling in siblings:
        yield "free sibling" if sibling.endswith(FREE) else "sibling", sibling
    if entry.created is not None:
        yield "created", _date(entry.created)
    if entry.expiration_date:
        yield "offered", ending(entry, day)
    if entry.context_length is not None:
        yield "context", f"{entry.context_length:,} tokens"
    if entry.max_completion_tokens is not None:
        yield "longest answer", f"{entry.max_completion_tokens:,} tokens"
    yield "takes → gives", takes_and_gives(entry)
    if entry.supported_parameters:
        yield "supports", ", ".join(sorted(entry.supported_parameters))
    yield from price_lines(entry)
    for other in entries[1:]:
        yield f"on {other.gateway}", _in_short(other)
    yield from _more(raw)


def price_lines(entry: Model) -> Iterator[tuple[str, str]]:
    """Every price that the gateway tells, and what stands in its place under which conditions."""
    pricing = entry.pricing
    yield "price", "free" if pricing.free else ""
    if not pricing.free:
        for name in ("prompt", "completion"):
            if getattr(pricing, name) is None:
                yield f"  {_label(name)}", "unknown"
        for name, text in _told(pricing, pricing):
            yield f"  {name}", text
    if pricing.unclear:
        yield "", "some of what the gateway says about prices cannot be read"
    for override, condition in zip(pricing.overrides, conditions(entry), strict=True):
        yield "", f"{condition}:"
        for name, text in _told(override.prices, pricing):
            yield f"  {name}", text


def _told(prices: Pricing, base: Pricing) -> Iterator[tuple[str, str]]:
    from routerkit.core.pricing import is_whole
    from routerkit.types.model import COMPONENTS

    for name in COMPONENTS:
        amount: Decimal | None = getattr(prices, name)
        if amount is None:
            continue
        unit = _UNITS.get(name)
        if name == "image" and is_whole(amount, base.prompt or Decimal(0)):
            unit = "image"
        each = f"{money(amount * MILLION)} per million tokens" if unit is None else f"{money(amount)} per {unit}"
        yield _label(name), each


def conditions(entry: Model) -> list[str]:
    """In words, when each of the model's price overrides holds."""
    from routerkit.types.model import COMPONENTS

    told = entry.raw.get("pricing")
    listed = told.get("overrides") if isinstance(told, dict) else None
    given = [each for each in listed or () if isinstance(each, dict)]
    given += [{}] * len(entry.pricing.overrides)
    return [
        ", ".join(_conditions(override, raw, frozenset(COMPONENTS))) or "always"
        for override, raw in zip(entry.pricing.overrides, given, strict=False)
    ]


def _conditions(override: PriceOverride, raw: Mapping[str, Any], prices: frozenset[str]) -> Iterator[str]:
    above = raw.get("min_prompt_tokens")
    if override.above or above:
        yield f"prompts above {f'{override.above:,}' if override.above else _plain(above)} tokens"
    start, end = raw.get("utc_start"), raw.get("utc_end")
    if start is not None or end is not None:
        yield f"from {_plain(start)} to {_plain(end)} UTC"
    for name, value in raw.items():
        if name not in prices and name not in ("min_prompt_tokens", "utc_start", "utc_end"):
            yield f"{name} {_plain(value)}"


def _in_short(entry: Model) -> str:
    """What another gateway says of the same model."""
    pricing = entry.pricing
    told = (
        []
        if pricing.free
        else [f"prompt {price(pricing.prompt, pricing)}", f"answer {price(pricing.completion, pricing)}"]
    )
    told = ["free"] if pricing.free else [" and ".join(told) + " per million tokens"]
    if entry.context_length is not None:
        told.append(f"context {entry.context_length:,}")
    return f"{entry.id}: {', '.join(told)}"


def _more(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What else the gateway says."""
    architecture, provider = (raw.get(name) for name in ("architecture", "top_provider"))
    found: dict[str, Any] = {}
    if isinstance(architecture, dict):
        found |= {name: architecture.get(name) for name in ("tokenizer", "instruct_type")}
    if isinstance(provider, dict):
        found["is_moderated"] = provider.get("is_moderated")
    found |= {name: value for name, value in raw.items() if name not in _SHOWN}
    for name, value in found.items():
        said = {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value
        if said not in (None, "", [], {}):
            yield _label(name), _plain(said)


def _plain(value: Any, levels: int = 10) -> str:
    """A value of the gateway's as people read it, on one line. ``levels``: how deep it is looked into."""
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, (dict, list)) and not levels:
        text = "…"
    elif isinstance(value, dict):
        text = ", ".join(f"{key} {_plain(each, levels - 1)}" for key, each in value.items())
    elif isinstance(value, list):
        text = ", ".join(_plain(each, levels - 1) for each in value)
    else:
        text = str(value)
    text = one_line(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _label(name: str) -> str:
    return str(name).replace("_", " ")


def _date(unix: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(unix, datetime.timezone.utc).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return str(unix)


def _document(identity: str, entries: Sequence[Model], siblings: Sequence[str], *, mock: bool) -> dict[str, Any]:
    return {
        "id": entries[0].id,
        "asked": identity,
        "gateway": entries[0].gateway,
        "gateways": [each.gateway for each in entries],
        "siblings": list(siblings),
        "mock": mock,
        "model": entries[0].to_dict(),
        "others": [{"gateway": each.gateway, **each.to_dict()} for each in entries[1:]],
    }
