"""What dev mode tells besides answers: a catalogue, and what there is to know of a key and its account."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from importlib import resources
from typing import Any, TypeAlias

import orjson

from routerkit.core.listing import PER_UNIT
from routerkit.types.gateway import Gateway

Page: TypeAlias = Callable[[], dict[str, Any]]

_KEY: dict[str, Any] = {
    "data": {
        "label": "dev mode",
        "limit": None,
        "limit_remaining": None,
        "limit_reset": None,
        "usage": 0,
        "usage_daily": 0,
        "usage_weekly": 0,
        "usage_monthly": 0,
        "is_free_tier": False,
    }
}
"""As OpenRouter's ``GET /key``."""
_CREDITS: dict[str, Any] = {"data": {"total_credits": 0, "total_usage": 0}}
"""As its ``GET /credits``."""


def pages_of(gateway: Gateway) -> dict[str, Page]:
    """A gateway's pages, by URL."""
    pages: dict[str, Page] = {gateway.catalog_url: partial(catalog, gateway.prices_per)}
    if gateway.details_url is not None:
        pages[gateway.details_url] = _details
    if gateway.key_path is not None:
        pages[gateway.base_url + gateway.key_path] = lambda: _KEY
    if gateway.credits_path is not None:
        pages[gateway.base_url + gateway.credits_path] = lambda: _CREDITS
    return pages


def catalog(per: int = 1) -> dict[str, Any]:
    """A small one, in OpenRouter's shape, with prices for so many tokens."""
    text = resources.files("routerkit.transport").joinpath("mock_models.json").read_bytes()
    listed: dict[str, Any] = orjson.loads(text)
    for entry in listed["data"] if per != 1 else ():
        for name in entry["pricing"].keys() - PER_UNIT:
            entry["pricing"][name] = str(Decimal(entry["pricing"][name]) * per)
    return listed


def _details() -> dict[str, Any]:
    """The same as a second list, in Infron's shape: without a key its catalogue is not asked for, so this is all there is."""
    return {"data": [_detail(number, entry) for number, entry in enumerate(catalog(1_000_000)["data"], 1)]}


def _detail(number: int, entry: dict[str, Any]) -> dict[str, Any]:
    prices, architecture = entry["pricing"], entry["architecture"]
    return {
        "id": number,
        "name": entry["name"],
        "invoke_name": entry["id"],
        "sale_input_cost": "$0",
        "sale_output_cost": "$0",
        "retail_input_cost": f"${prices['prompt']}",
        "retail_output_cost": f"${prices['completion']}",
        "input_token_limit": entry["context_length"],
        "output_token_limit": entry["top_provider"]["max_completion_tokens"],
        "input_modalities": ", ".join(architecture["input_modalities"]),
        "output_modalities": ", ".join(architecture["output_modalities"]),
        "discount": "FREE" if not Decimal(prices["completion"]) else None,
    }
