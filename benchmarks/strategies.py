"""What each strategy would choose: the first five models of four kinds of request, with the reasons, on two catalogues.

    python benchmarks/strategies.py              # prints docs/choices.md
    python benchmarks/strategies.py --write      # and keeps it
    python benchmarks/strategies.py --openrouter FILE   # for an answer of GET /api/v1/models of your own

Real clients decide, by `client.explain()`; the gateways are played in memory, the time and the dice are the same in every run.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from routerkit import BadRequestError, Client, Gateway, Plan, Priority, Strategy, Target, Weighted
from routerkit.core.needs import EXPECTED_ANSWER, MEDIA_TOKENS, needs_of
from routerkit.core.pricing import in_usd
from routerkit.core.strategies import STRATEGIES, name_of, strategy_of
from routerkit.environment import PREFIXES
from routerkit.gateways import INFRON, OPENROUTER
from routerkit.testing import ScriptedTransport, VirtualRuntime, replies
from routerkit.types.request import ChatRequest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "choices.md"
DATA = ROOT / "tests" / "data"
CAPTURED = datetime.datetime(2026, 1, 29, 12, tzinfo=datetime.timezone.utc)
"""When the list of OpenRouter's models was taken; so it is noon of that day in both tables."""
FIRST = 5
CALLS_BEFORE = 2
"""So that round robin does not stand where the plan begins anyway."""
TIMES = 10
"""How often each of the targets was measured."""
READ = (*(prefix for prefixes in PREFIXES.values() for prefix in prefixes), "ROUTERKIT_", "DEV_MODE")
"""What variables begin with that clients read."""
WIDTH = 120
EVERY = "from the catalogue: fits, "
"""What every reason begins with here."""

WORDS = "The quick brown fox jumps over the lazy dog. "
"""45 characters: 15 tokens, by routerkit's high estimate of one for three characters."""


@attrs.frozen
class Kind:
    """A kind of request."""

    title: str
    told: str
    messages: Any
    params: Mapping[str, Any] = {}

    @property
    def estimate(self) -> str:
        """What the request is taken to need, in words."""
        needs = needs_of(ChatRequest.build(self.messages, self.params))
        prompt, answer = f"{needs.prompt_tokens:,}", needs.answer_tokens or EXPECTED_ANSWER
        seen = f", of which {needs.images * MEDIA_TOKENS:,} are for the image" if needs.images else ""
        thought = ", half of them reasoning" if needs.reasoning else ""
        return f"Estimated at {prompt} tokens{seen}, and {answer:,} for the answer{thought}."


@attrs.frozen
class Measured:
    """What attempts on one model have shown, in seconds, tokens and attempts that gave an answer."""

    model: str
    first_token: float
    duration: float
    tokens: int
    answered: int = TIMES


@attrs.frozen
class Listed:
    """A gateway, its lists of models, and what the strategies are told beside."""

    gateway: Gateway
    catalog: Sequence[Mapping[str, Any]]
    details: Sequence[Mapping[str, Any]] = ()
    weights: Mapping[str, float] = {}
    measured: Sequence[Measured] = ()


def _question(text: str, *parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}] if parts else text}]


KINDS = (
    Kind("A short question", "One sentence.", _question("Name three rivers of Europe, the longest first.")),
    Kind(
        "An image with a question",
        "One photograph, one sentence.",
        _question(
            "What is on this photograph?", {"type": "image_url", "image_url": {"url": "https://example.com/river.jpg"}}
        ),
    ),
    Kind(
        "Tools and a JSON schema over a long prompt",
        "A document of about 40 000 tokens, one tool, and an answer that must follow a schema.",
        _question("Extract the parties of this contract.\n" + WORDS * 2667),
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "company",
                        "parameters": {"type": "object", "properties": {"name": {"type": "string"}}},
                    },
                }
            ],
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "parties",
                    "schema": {
                        "type": "object",
                        "properties": {"parties": {"type": "array", "items": {"type": "string"}}},
                    },
                },
            },
        },
    ),
    Kind(
        "A long text with reasoning",
        '`reasoning={"effort": "high"}`, `max_tokens=8000`, and about 50 000 tokens to think about.',
        _question("Where does this text contradict itself?\n" + WORDS * 3333),
        {"reasoning": {"effort": "high"}, "max_tokens": 8000},
    ),
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openrouter", type=Path, metavar="FILE", help="another list of OpenRouter's models")
    parser.add_argument("--infron", type=Path, metavar="FILE", help="another public list of Infron's")
    parser.add_argument("--write", action="store_true", help="write docs/choices.md")
    options = parser.parse_args(arguments)
    ours = options.openrouter is None and options.infron is None
    if options.write and not ours:
        parser.error("--write is for the lists of the repository")
    for name in [*os.environ]:  # of which clients read their settings
        if name.startswith(READ):
            del os.environ[name]
    lists = (
        openrouter(entries(options.openrouter or DATA / "openrouter-models-all.json.gz")),
        infron(entries(options.infron or DATA / "infron-display-models.json")),
    )
    text = page(lists, OURS.format(models=len(lists[0].catalog)) if ours else "**The lists** are your own.")
    if options.write:
        PAGE.write_text(text, "utf-8")
    else:
        print(text, end="")
    return 0


def entries(file: Path) -> list[dict[str, Any]]:
    """The models of a list, which may be packed."""
    content = file.read_bytes()
    found: list[dict[str, Any]] = orjson.loads(gzip.decompress(content) if file.suffix == ".gz" else content)["data"]
    return found


def openrouter(catalog: Sequence[Mapping[str, Any]]) -> Listed:
    return Listed(
        OPENROUTER,
        catalog,
        weights={"anthropic/claude-sonnet-4.5": 5, "google/gemini-2.5-flash": 3, "openai/gpt-4o-mini": 2},
        measured=(
            Measured("google/gemini-2.5-flash-lite", 0.4, 2.4, 480),
            Measured("google/gemini-2.5-flash", 0.6, 3.6, 500),
            Measured("openai/gpt-4o-mini", 0.5, 6.5, 450),
            Measured("anthropic/claude-haiku-4.5", 0.8, 4.8, 500),
            Measured("anthropic/claude-sonnet-4.5", 1.5, 9.5, 500),
            Measured("x-ai/grok-4.1-fast", 0.7, 3.2, 500, answered=5),
        ),
    )


def infron(details: Sequence[Mapping[str, Any]]) -> Listed:
    """Its API lists ids alone, in OpenAI's shape; all else is in the public list."""
    names = (entry.get("invoke_name") or entry.get("name") for entry in details)
    return Listed(
        INFRON,
        [{"id": name, "object": "model"} for name in names],
        details,
        weights={"claude-sonnet-4.5": 5, "gemini-2.5-flash": 3, "gpt-5-nano": 2},
        measured=(
            Measured("gemini-2.5-flash", 0.6, 3.6, 500),
            Measured("gpt-4o-mini", 0.5, 6.5, 450),
            Measured("claude-haiku-4.5", 0.8, 4.8, 500),
            Measured("claude-sonnet-4.5", 1.5, 9.5, 500),
            Measured("grok-4-fast", 0.7, 3.2, 500, answered=5),
        ),
    )


def chosen(listed: Listed, strategy: Strategy, *, any_price: bool = True) -> list[Plan]:
    """The plan of each kind, as the third call of a new client would have it.

    The two before named models and were refused as wrong, which only moves the turn on.
    """
    transport, runtime = ScriptedTransport(), VirtualRuntime(wall=CAPTURED.timestamp())
    gateway = transport.at(listed.gateway.base_url)
    gateway.catalog, gateway.default = listed.catalog, replies.error(400)
    if listed.gateway.details_url is not None:
        path = urlsplit(listed.gateway.details_url).path
        transport.at(listed.gateway.details_url).route("GET", path, replies.json_body({"data": list(listed.details)}))
    with Client(
        api_key="sk-test-1234567890", gateway=listed.gateway, strategy=strategy, transport=transport, runtime=runtime
    ) as client:
        for _ in range(CALLS_BEFORE):
            with suppress(BadRequestError):
                client.complete("Hello", fallback_models=["a/one", "b/two"])
        for each in listed.measured:
            for time in range(TIMES):
                client.router.scores.observe(
                    Target(listed.gateway.name, each.model),
                    ok=time >= TIMES - each.answered,
                    first_token=each.first_token,
                    duration=each.duration,
                    tokens=each.tokens,
                )
        return [client.explain(kind.messages, allow_any_price=any_price, **kind.params) for kind in KINDS]


# --- the page ---


def page(lists: Sequence[Listed], origin: str) -> str:
    """The whole page; ``origin`` tells where the lists are from."""
    parts = [HEAD, origin, TOLD, NUMBERS, *_told_beside(lists), *_without_any_price(lists)]
    for listed in lists:
        parts += _of_gateway(listed)
    return "\n\n".join(parts) + "\n"


HEAD = """\
# What each strategy chooses

<!-- Written by benchmarks/strategies.py; edits here are lost. -->

A strategy is easier to judge by what it does. Here a client with nothing but a key is asked four questions without a
model being named, so that everything is left to the gateway's catalogue and the [strategy](strategies.md). The first five
models of each plan follow, with the reasons that `client.explain()` gives, as far as they say more than "from the
catalogue: fits".

Nobody should run an application like that: name the models that may answer, and the strategy orders those. But nothing
shows better what it looks at.

```sh
python benchmarks/strategies.py --write               # writes this page; it is the same each time
python benchmarks/strategies.py --openrouter FILE     # with an answer of GET /api/v1/models of your own
```"""
OURS = """\
**OpenRouter's catalogue** is real: all of the {models} models that it listed on 29 January 2026, as they were but for shorter
descriptions. It is noon of that day in these plans, so no model has expired yet. **Infron's list** is made up, in the shape
that it documents: null fields, `$`, thousands commas, sale prices of 0, `FREE`. It tells no parameters, so that everything
supports `tools` there as far as anybody knows."""
TOLD = """\
`allow_any_price=True` lets all prices pass. The clients have made two calls before, so that `round_robin` is at its third
model. Randomness is seeded."""
NUMBERS = """\
## What the numbers mean

- `context`: the tokens that prompt and answer may have together, as the catalogue tells.
- `expected to cost`: US dollars for the tokens that stand below each heading, at the catalogue's prices; see
  [the formula](strategies.md#cost_optimized). It is an estimate that compares models, not a bill.
- `answers in about`: the time to the first token and for 500 more, as the attempts told below went, divided by the share of
  them that gave an answer, which is the percentage.
- `fits`: what the request needs of a model, and this one has; `as far as its gateway tells`: the list leaves something open."""
PAID = """\
Free models come first in `cost_optimized`, with their narrow limits: name the models that may answer, and they are out of
the way. This is what follows them."""


def _told_beside(lists: Iterable[Listed]) -> Iterator[str]:
    yield "## What the strategies were told"
    yield _paragraph(
        "`weighted` has these weights, and 0 for all others. `performance_optimized` has seen ten attempts on each of these"
        " models; the figures are made up."
    )
    rows = []
    for listed in lists:
        seen = {each.model: each for each in listed.measured}
        for model in dict.fromkeys([*listed.weights, *seen]):
            weight, each = listed.weights.get(model), seen.get(model)
            told = _measurement(each) if each else ("–",) * 4
            rows.append((listed.gateway.label, f"`{model}`", "–" if weight is None else f"{weight:g}", *told))
    heads = ("Gateway", "Model", "Weight", "First token", "Whole answer", "Tokens", "Answered")
    yield _table(heads, rows)


def _measurement(each: Measured) -> tuple[str, ...]:
    return f"{each.first_token:g} s", f"{each.duration:g} s", f"{each.tokens}", f"{each.answered} of {TIMES}"


def _without_any_price(lists: Iterable[Listed]) -> Iterator[str]:
    yield "## What `allow_any_price` changes"
    yield _paragraph(
        "With it, everything that fits is in the plan. Without it, only what is free, as no model was named whose price could"
        " be the limit: nobody is surprised by the bill, and nobody gets more than the limits of free models allow. Routers, and"
        " models that give images or sound nobody asked for, are in neither."
    )
    rows = []
    for listed in lists:
        every_plan, free_plan = (chosen(listed, Priority(), any_price=any_price) for any_price in (True, False))
        for kind, every, free in zip(KINDS, every_plan, free_plan, strict=True):
            first = ", ".join(f"`{each.model}`" for each in free.targets[:3])
            rows.append((listed.gateway.label, kind.title, str(len(every.targets)), str(len(free.targets)), first))
    yield _table(("Gateway", "Request", "Fit", "Of them free", "The first three of those, by context"), rows)


def _strategies(listed: Listed) -> list[Strategy]:
    return [Weighted(listed.weights, default=0) if name == "weighted" else strategy_of(name) for name in STRATEGIES]


def _of_gateway(listed: Listed) -> Iterator[str]:
    yield f"## {listed.gateway.label}"
    plans = {name_of(strategy): chosen(listed, strategy) for strategy in _strategies(listed)}
    for place, kind in enumerate(KINDS):
        yield f"### {kind.title}: {listed.gateway.label}"
        yield f"{kind.told} {kind.estimate}"
        rows = [row for name, found in plans.items() for row in _rows(name, found[place])]
        yield _table(("Strategy", "", "Model", "Why"), rows)
    yield f"### The cheapest that cost something: {listed.gateway.label}"
    yield PAID
    yield _table(("Request", "Model", "Expected to cost"), _paid(plans["cost_optimized"]))


def _paid(plans: Iterable[Plan]) -> Iterator[tuple[str, ...]]:
    for kind, plan in zip(KINDS, plans, strict=True):
        costs = [(each.model, each.expected_cost) for each in plan.targets if each.expected_cost]
        for place, (model, cost) in enumerate(costs[:FIRST]):
            yield ("" if place else kind.title, f"`{model}`", in_usd(cost))


def _rows(name: str, plan: Plan) -> Iterator[tuple[str, ...]]:
    for place, candidate in enumerate(plan.targets[:FIRST], 1):
        yield (
            f"`{name}`" if place == 1 else "",
            str(place),
            f"`{candidate.model}`",
            candidate.reason.removeprefix(EVERY),
        )


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


if __name__ == "__main__":
    sys.exit(main())
