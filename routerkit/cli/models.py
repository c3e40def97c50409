"""``routerkit models``: what the gateways offer."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import click

from routerkit.cli import options
from routerkit.cli.filters import filters, filters_of
from routerkit.cli.options import Shared
from routerkit.cli.render import add_row, money, new_table, price, roughly, width
from routerkit.cli.terminal import Output, one_line

if TYPE_CHECKING:
    from rich.table import Table

    from routerkit.client import Client
    from routerkit.types.event import Event
    from routerkit.types.model import Model, ModelFilters

NARROW = 100
"""On a terminal of fewer columns, what models take and give is left out."""
SKILLS = (
    ("T", "tools", ("tools",)),
    ("J", "JSON schema", ("structured_outputs",)),
    ("R", "reasoning", ("reasoning", "include_reasoning")),
)
"""Marks: a letter, what it stands for, the parameters of which one says so."""


def _total(model: Model) -> Any:
    prompt, completion = model.pricing.prompt, model.pricing.completion
    return None if prompt is None or completion is None else prompt + completion


SORTS: dict[str, tuple[Callable[[Model], Any], bool]] = {
    "id": (lambda model: model.id.lower(), False),
    "name": (lambda model: model.name.lower(), False),
    "price": (_total, False),
    "prompt": (lambda model: model.pricing.prompt, False),
    "completion": (lambda model: model.pricing.completion, False),
    "context": (lambda model: model.context_length, True),
    "answer": (lambda model: model.max_completion_tokens, True),
    "created": (lambda model: model.created, True),
    "expires": (lambda model: model.expiration_date, False),
}
"""What to sort by: the value, ``None`` when unknown, and whether the largest comes first."""


@click.command(short_help="List the models of the gateways, with prices.")
@filters
@click.option(
    "--sort",
    "key",
    type=click.Choice(list(SORTS)),
    default="id",
    help="price is that of prompt and answer together; context, answer and created begin with the largest. [default: id]",
)
@click.option("--reverse", is_flag=True, help="The other way round. What is unknown stays last.")
@click.option("-n", "--limit", metavar="N", type=click.IntRange(min=1), help="Show at most so many.")
@click.option("--refresh", is_flag=True, help="Ask the gateways, however young the list at hand is.")
@options.as_json
@options.shared
@click.pass_obj
def models(shared: Shared, /, key: str, reverse: bool, limit: int | None, refresh: bool, **given: Any) -> None:
    """List what the gateways offer: context in tokens, prices in USD per million tokens, what models can, take and give.

    The filters must all be met. A model that does not tell what a filter asks for is not found.

    --json prints the entries as the gateways sent them, each with the name of its gateway.

    \b
    Examples:
      routerkit models --search "claude sonnet"
      routerkit models --tools --modality image --max-price 3 --sort price
      routerkit models --free --min-context 128k
      routerkit models --json | jq -r '.models[].id'
    """
    asked = filters_of(**given)
    lists = Lists()
    stdout, stderr = Output(sys.stdout), Output(sys.stderr)
    with shared.client(observers=[lists.hear]) as client:
        found = in_order(client.models(refresh=refresh, **asked), key, reverse=reverse)
        lists.look(client)
        if shared.as_json:
            stdout.json(_document(found, limit, lists))
        else:
            shown = found[:limit]
            if shown:
                day = today(client)
                stdout.table(model_table(shown, day, width(stdout), several=len(lists.of) > 1))
            stderr.line(_counted(len(shown), len(found), lists), "dim")
            for hint in () if found else unknown_words(client, asked):
                stderr.line(hint, "dim")
    lists.tell(stderr)


@attrs.define
class GatewayList:
    """A gateway's list of models, as far as it could be had."""

    models: int | None = None
    age: float | None = None
    """Seconds."""
    error: str | None = None
    """Why it could not be read just now."""


@attrs.define(eq=False)
class Lists:
    """What became of each gateway's list: the library answers with what it could have."""

    of: dict[str, GatewayList] = attrs.Factory(dict)
    """By gateway."""
    mock: bool = False
    """Whether they are made up, as in dev mode."""

    def hear(self, event: Event) -> None:
        """An observer."""
        from routerkit.types.event import CatalogRefreshed

        if isinstance(event, CatalogRefreshed):
            self.of[event.gateway] = GatewayList(error=event.error)

    def look(self, client: Client) -> None:
        """Note what is in memory, and how old it is."""
        router = client.router
        self.mock = client.settings.dev_mode is not None
        now, snapshots = router.runtime.monotonic(), router.snapshots()
        heard, self.of = self.of, {}
        for gateway in client.settings.gateways:
            each = self.of[gateway.name] = heard.get(gateway.name, GatewayList())
            snapshot = snapshots.get(gateway.name)
            if snapshot is not None:
                each.models, each.age = len(snapshot.models), max(0.0, now - snapshot.fetched)
            elif each.error is None:
                each.error = "no time left"

    def tell(self, stderr: Output) -> None:
        """Name what could not be had, and what is old or made up."""
        if self.mock:
            stderr.line("Dev mode: this is routerkit's own list, not that of a gateway.", "dim")
        for name, each in self.of.items():
            why = (each.error or "").replace("_", " ")
            if each.models is None:
                stderr.line(
                    f"routerkit: the models of {name} are missing: its list could not be read ({why})", "yellow"
                )
            elif each.error is not None:
                stderr.line(
                    f"routerkit: the list of {name} is {roughly(each.age or 0.0)} old: a newer one could not be read ({why})",
                    "yellow",
                )
            elif each.age is not None and each.age >= 60:
                stderr.line(f"The list of {name} is {roughly(each.age or 0.0)} old; --refresh asks anew.", "dim")

    def to_dict(self) -> dict[str, Any]:
        return {name: attrs.asdict(each) for name, each in self.of.items()}


def in_order(found: Sequence[Model], key: str, *, reverse: bool = False) -> list[Model]:
    """The models by a key of ``SORTS``, those alike by id; those for which it is unknown last, whichever way."""
    value, largest_first = SORTS[key]
    by_id = sorted(found, key=lambda model: model.id)
    known = [model for model in by_id if value(model) is not None]
    unknown = [model for model in by_id if value(model) is None]
    return sorted(known, key=value, reverse=largest_first is not reverse) + unknown


def today(client: Client) -> str:
    """The ISO date, in UTC."""
    from routerkit.core.plan import today

    return today(client.router.runtime.wall()).isoformat()


def ending(model: Model, day: str) -> str:
    """Until when it is offered, where the gateway says so: ``until 2026-03-31``."""
    until = (model.expiration_date or "")[:10]
    return f"{'ended' if until <= day else 'until'} {until}" if until else ""


def model_table(shown: Sequence[Model], day: str, columns: int, *, several: bool = False) -> Table:
    """``day``: the ISO date of today. ``columns``: those of the terminal. ``several``: whether there is more than one gateway."""
    wide = columns >= NARROW + 14 * several
    table = new_table()
    table.add_column("model", style="bold", overflow="fold")
    if several:
        table.add_column("gateway", overflow="fold")
    table.add_column("context", justify="right", no_wrap=True)
    table.add_column("in, $/M", justify="right")
    table.add_column("out, $/M", justify="right")
    table.add_column("can", no_wrap=True)
    if wide:
        table.add_column("takes → gives", overflow="fold")
    for model in shown:
        pricing = model.pricing
        cells = [
            model.id + (f" ({ending(model, day)})" if model.expiration_date else ""),
            *([model.gateway] if several else []),
            "unknown" if model.context_length is None else f"{model.context_length:,}",
            price(pricing.prompt, pricing),
            price(pricing.completion, pricing) + (f" + {money(pricing.request)}/request" if pricing.request else ""),
            skills(model),
            *([takes_and_gives(model)] if wide else []),
        ]
        add_row(table, *cells)
    return table


def skills(model: Model) -> str:
    """The letters of ``SKILLS``, such as ``T-R``; ``?`` when the gateway does not say."""
    if not model.supported_parameters and not isinstance(model.raw.get("supported_parameters"), list):
        return "?"
    return "".join(letter if model.supported_parameters & {*words} else "-" for letter, _, words in SKILLS)


def takes_and_gives(model: Model) -> str:
    if not model.input_modalities and not model.output_modalities:
        return "unknown"
    return f"{'+'.join(model.input_modalities) or '?'} → {'+'.join(model.output_modalities) or '?'}"


def unknown_words(client: Client, asked: ModelFilters) -> list[str]:
    """Of the words that were asked for, those that no model knows, each with one that is like it."""
    every = client.models()
    known = {
        "modality": {word for model in every for word in model.input_modalities},
        "output_modality": {word for model in every for word in model.output_modalities},
        "supports": {word for model in every for word in model.supported_parameters},
    }
    hints = []
    for name, words in known.items():
        for word in asked.get(name, ()):  # type: ignore[attr-defined]  # ours are tuples
            if word not in words:
                near = difflib.get_close_matches(word, words, 1)
                option = name.replace("_", "-")
                guess = f"; did you mean {near[0]}?" if near else ""
                hints.append(one_line(f"--{option} {word}: no model lists that{guess}"))
    return hints


def _document(found: Sequence[Model], limit: int | None, lists: Lists) -> dict[str, Any]:
    return {
        "gateway": next(iter(lists.of)),
        "gateways": lists.to_dict(),
        "mock": lists.mock,
        "found": len(found),
        "models": [{"gateway": model.gateway, **model.to_dict()} for model in found[:limit]],
    }


def _counted(shown: int, found: int, lists: Lists) -> str:
    names = [name for name, each in lists.of.items() if each.models is not None]
    total = sum(each.models or 0 for each in lists.of.values())
    count = f"{found} of {total} models"
    if shown < found:
        count = f"the first {shown} of {f'{found} found, of ' * (found < total)}{total} models"
    marks = ", ".join(f"{letter} {meaning}" for letter, meaning, _ in SKILLS)
    return f"{count} of {' and '.join(names)}" + (f" · can: {marks}" if shown else "")
