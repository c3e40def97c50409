"""Queries on a catalogue: routerkit's index beside a plain loop over the same models.

The catalogue is made up, of ten thousand models; so are the queries, a thousand that differ. The loop, for which each query is as
much work as any other, gets some of them, and both sides must find the same. README.md tells how to read what is printed.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from routerkit.core.catalog_index import CatalogIndex, Query
from routerkit.core.listing import parse_catalog
from routerkit.types.model import Model

AUTHORS = ("openai", "anthropic", "google", "meta-llama", "mistralai", "qwen", "deepseek", "x-ai", "nvidia", "z-ai")
FAMILIES = ("large", "small", "flash", "pro", "coder", "vision", "sonnet", "haiku", "instruct", "thinking")
INPUTS = (["text"], ["text", "image"], ["text", "image", "file"], ["text", "image", "audio", "video"])
OUTPUTS = (["text"], ["text"], ["text"], ["text", "image"], ["text", "audio"])
PARAMETERS = (
    "tools",
    "seed",
    "reasoning",
    "structured_outputs",
    "logprobs",
    "stop",
    "top_k",
    "min_p",
    "response_format",
)
CONTEXTS = (8_192, 32_768, 128_000, 131_072, 200_000, 262_144, 400_000, 1_000_000)

LOOPED = 30
"""Queries of each kind that the loop gets in a round: it remembers nothing, so that more would say the same, minutes later."""

Find = Callable[[Query], Sequence[Model]]


def catalogue(count: int, dice: random.Random) -> list[Model]:
    entries = [
        {
            "id": f"{dice.choice(AUTHORS)}/{dice.choice(FAMILIES)}-{number}",
            "name": f"{dice.choice(FAMILIES).title()} {number}",
            "context_length": dice.choice(CONTEXTS),
            "architecture": {"input_modalities": dice.choice(INPUTS), "output_modalities": dice.choice(OUTPUTS)},
            "supported_parameters": dice.sample(PARAMETERS, dice.randint(2, len(PARAMETERS))),
            "pricing": {"prompt": _price(dice), "completion": _price(dice)},
        }
        for number in range(count)
    ]
    return parse_catalog(entries)[0]


def _price(dice: random.Random) -> str:
    """A tenth is free; what the others cost is a whole number of cents per million tokens."""
    return "0" if dice.random() < 0.1 else f"{Decimal(dice.randint(1, 3000)) / 10**8:f}"


QUERIES: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "one word": lambda dice: {"supports": dice.choice(PARAMETERS)},
    "several words": lambda dice: {"modality": ["text", "image"], "supports": dice.sample(PARAMETERS, 3)},
    "price": lambda dice: {"max_price": f"{Decimal(dice.randint(1, 3000)) / 10**8:f}"},
    "search": lambda dice: {"search": f"{dice.choice(AUTHORS)} {dice.randint(1, 999)}"},
    "everything": lambda dice: {
        "modality": "image",
        "supports": ["tools", dice.choice(PARAMETERS)],
        "max_price": f"{Decimal(dice.randint(1, 3000)) / 10**8:f}",
        "min_context": dice.choice(CONTEXTS),
        "free": dice.choice([True, False, None]),
        "search": dice.choice(FAMILIES),
    },
}
"""By name, what makes one."""


def plain(models: Sequence[Model]) -> Find:
    """The loop that everybody would write: the cheapest questions first."""

    def fits(model: Model, query: Query) -> bool:
        pricing = model.pricing
        if query.free is not None and pricing.free is not query.free:
            return False
        if query.min_context is not None and (model.context_length or -1) < query.min_context:
            return False
        if query.max_price is not None and (
            pricing.prompt is None
            or pricing.completion is None
            or pricing.prompt > query.max_price
            or pricing.completion > query.max_price
        ):
            return False
        return (
            all(word in model.input_modalities for word in query.modality)
            and all(word in model.output_modalities for word in query.output_modality)
            and all(word in model.supported_parameters for word in query.supports)
            and all(word in model.id.casefold() or word in model.name.casefold() for word in query.search)
        )

    return lambda query: [model for model in models if fits(model, query)]


def seconds(work: Callable[[], object]) -> float:
    """CPU, of this process."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def measure(models: list[Model], count: int, rounds: int, dice: random.Random) -> dict[str, Any]:
    """Microseconds a query, by kind and side; milliseconds for the index. A new index in each round: none remembers the last."""
    queries = {kind: [Query.of(**make(dice)) for _ in range(count)] for kind, make in QUERIES.items()}
    looped = {kind: asked[:: -(-count // LOOPED)] for kind, asked in queries.items()}
    naive, index = plain(models), CatalogIndex(models)
    for kind, asked in looped.items():
        if any(list(index.find(query)) != naive(query) for query in asked):
            sys.exit(f"{kind}: the index and the loop do not find the same")
    built: list[float] = []
    taken: dict[str, dict[str, list[float]]] = {kind: {"index": [], "loop": []} for kind in queries}
    for _ in range(rounds):
        built.append(seconds(lambda: CatalogIndex(models)) * 1000)
        for kind in queries:
            for side, find, asked in (
                ("index", CatalogIndex(models).find, queries[kind]),
                ("loop", naive, looped[kind]),
            ):
                spent = seconds(lambda f=find, a=asked: [f(query) for query in a])
                taken[kind][side].append(spent / len(asked) * 1e6)
    return {
        "models": len(models),
        "queries": count,
        "build_ms": min(built),
        "microseconds": {
            kind: {side: {"min": min(all_), "median": statistics.median(all_)} for side, all_ in sides.items()}
            for kind, sides in taken.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=1_000, help="of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="100 queries of each kind, one round, for a look")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    options = parser.parse_args()
    dice = random.Random(4)
    count, rounds = (100, 1) if options.quick else (options.queries, options.rounds)
    found = {"python": platform.python_version(), **measure(catalogue(options.models, dice), count, rounds, dice)}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"python {found['python']}, {found['models']} models, {found['queries']} queries of each kind")
    print(f"the index is made in {found['build_ms']:.0f} ms\n")
    print(f"{'µs of CPU a query':<20}{'index':>10}{'loop':>10}{'ratio':>10}")
    for kind, sides in found["microseconds"].items():
        index, loop = sides["index"]["min"], sides["loop"]["min"]
        print(f"{kind:<20}{index:>10.0f}{loop:>10.0f}{index / loop:>10.3f}")


if __name__ == "__main__":
    main()
