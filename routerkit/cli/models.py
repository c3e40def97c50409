"""``routerkit models``: what the gateways offer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from routerkit.cli import options
from routerkit.cli.options import Shared
from routerkit.cli.render import add_row, money, new_table, price
from routerkit.cli.terminal import Output

if TYPE_CHECKING:
    from rich.table import Table

    from routerkit.types.model import Model


@click.command(short_help="List the models of a gateway, with prices.")
@click.option("--search", metavar="TEXT", default="", help="Only models with all these words in id or name.")
@click.option("--free", is_flag=True, help="Only models that cost nothing.")
@options.as_json
@options.shared
@click.pass_obj
def models(shared: Shared, search: str, free: bool) -> None:
    """List the gateway's models: context in tokens, prices in USD per million tokens, what they take and give.

    --json prints the entries as the gateway sent them.

    \b
    Examples:
      routerkit models --search "claude sonnet"
      routerkit models --free
      routerkit models --json | jq -r '.models[].id'
    """
    with shared.client() as client:
        every = client.models()
        gateway = client.settings.gateway.name
    words = search.lower().split()
    found = [
        model
        for model in sorted(every, key=lambda model: model.id)
        if all(word in f"{model.id} {model.name}".lower() for word in words) and (model.pricing.free or not free)
    ]
    if shared.as_json:
        Output(sys.stdout).json({"gateway": gateway, "models": [model.to_dict() for model in found]})
        return
    if found:
        Output(sys.stdout).table(model_table(found))
    Output(sys.stderr).line(f"{len(found)} of {len(every)} models of {gateway}", "dim")


def model_table(models: Sequence[Model]) -> Table:
    table = new_table()
    table.add_column("model", style="bold", overflow="fold")
    table.add_column("context", justify="right")
    table.add_column("in, $/M tokens", justify="right")
    table.add_column("out, $/M tokens", justify="right")
    table.add_column("takes → gives", overflow="fold")
    for model in models:
        pricing = model.pricing
        context = "unknown" if model.context_length is None else f"{model.context_length:,}"
        extra = f" + {money(pricing.request)}/request" if pricing.request else ""
        add_row(
            table,
            model.id,
            context,
            price(pricing.prompt, pricing),
            price(pricing.completion, pricing) + extra,
            _modalities(model),
        )
    return table


def _modalities(model: Model) -> str:
    if not model.input_modalities and not model.output_modalities:
        return "unknown"
    return f"{'+'.join(model.input_modalities) or '?'} → {'+'.join(model.output_modalities) or '?'}"
