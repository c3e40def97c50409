"""What one attempt can cost at most, so that a budget can set it aside before anything is sent.

A bound, not an estimate: with the prices of the catalogue, no answer that a gateway may give to the request costs more. Where
that takes an assumption, the constant that it is made in says so. Common to all of it: the catalogue's prices are taken for what
is charged, whichever provider behind the gateway serves, and a gateway is taken to honour the limit that a request sets. Where
the gateway uses a provider's key of the caller's own, which no request tells beforehand, its fee comes on top of that (OpenRouter's
page on such keys: 5 %).
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import attrs

from routerkit.core.needs import EXPECTED_ANSWER, Needs, count_of
from routerkit.core.pricing import is_whole, write_price
from routerkit.types.model import Model, Pricing, amounts
from routerkit.types.request import ChatRequest

PROMPT_OVERHEAD = 256
"""Tokens that a chat template puts before a conversation and after it: a default system prompt, the date, the head of the
answer. The longest known, gpt-oss's (OpenAI's harmony format), has about a hundred."""
MESSAGE_OVERHEAD = 16
"""Tokens around a message. OpenAI's cookbook ("How to count tokens") counts 3 or 4, ChatML and Llama templates 5."""
TOOLS_OVERHEAD = 1_024
"""Tokens that the first tool adds: Anthropic lists 159 to 530 of a system prompt (its page on pricing of tool use)."""
TOOL_OVERHEAD = 32
"""Tokens around a tool. OpenAI's cookbook counts 7 to 10 before a function and 12 after the last one."""
IMAGE_TOKENS = 48_169
"""Tokens of an image: OpenAI counts 2833 and 5667 for each tile for gpt-4o-mini, and scales images down to at most 8 tiles (its
page on images). Others count far less: Gemini 1120, Claude under 5000, gpt-5 about 12,000."""
LEAST_ANSWER = 16
"""Tokens: some providers take a lower limit for this one (OpenRouter's API description, at ``max_tokens``)."""
LEAST_REASONING = 1_024
"""Tokens: a request that asks for reasoning gets at least so many of it from Anthropic's models, whatever its limit is."""
HOUR = 2
"""What a token costs that is kept for an hour, in prompt tokens, where the catalogue does not tell: Anthropic's page on caching."""
RESULT_PRICE = Decimal("0.004")
"""USD for a result of a web search: OpenRouter charges 4 USD for a thousand results of Exa and of others."""
RESULTS = 5
"""Results of a web search where ``max_results`` does not tell: OpenRouter's default."""
RESULT_TOKENS = 15_000
"""Tokens of a result. OpenRouter cuts results at 30,000 characters at most, and text has more than two to a token. What a
provider's own search puts into a prompt nobody bounds; it is taken to be no more than this."""
SEARCHES = 10
"""Searches of a provider's own at a price for each (``web_search``): nobody bounds them, since ``max_uses`` is honoured by some
only. OpenRouter's own loop ends after 50 results, 5 at a time. Most models make one; a price that rises with
``search_context_size`` is covered by that. That each search is charged with the whole prompt again is not."""

_FREE_PARSERS = frozenset({"native", "cloudflare-ai", "pdf-text"})
"""What reads files at no price for a page (OpenRouter's page on PDF inputs). Another one has its price, and nobody counts pages."""
_FREE_PLUGINS = frozenset({"moderation", "response-healing", "context-compression"})
_ROUTERS = frozenset({"auto-router", "auto-beta-router", "pareto-router"})
"""Plugins for models without a price of their own, which have no bound anyway."""
_PLAIN_TIERS = frozenset({"auto", "default", "standard", "flex"})
"""Service tiers at the price of the catalogue or below. ``priority`` and its kin cost more, and no catalogue says how much."""
_OWN_TOOLS = frozenset({"function", "custom"})
"""Types of tools that the caller runs. A gateway that runs tools asks the model again and again, and nobody says how often."""
_UNBOUNDED = ("deep-research", "@preset/")
"""Words in ids of models of which nobody can tell how much they read and write before they answer, or what they are."""
_UP = decimal.Context(prec=100, rounding=decimal.ROUND_CEILING)
_ZERO = Decimal(0)

Entry = Callable[[str], "Model | None"]
"""A catalogue: the entry of a model id, ``None`` for one that it does not list."""


def worst_cost(request: ChatRequest, needs: Needs, model: str, entry: Entry) -> Decimal | None:
    """USD that one attempt can cost at most; ``None``: nobody can tell. For several attempts make one :class:`Bound`."""
    return Bound.of(request, needs).worst(model, entry)


def likely_tokens(needs: Needs) -> int:
    """Tokens that a request is likely to use, prompt and answers: what a limit of tokens a minute sets aside."""
    return needs.prompt_tokens + (needs.answer_tokens or EXPECTED_ANSWER) * needs.choices


@attrs.frozen
class Bound:
    """What bounds the cost of a request, as far as it depends on the request alone. Made once for a call, by :meth:`of`."""

    prompt: int
    """Tokens of the prompt, but for images and search results."""
    boundless: bool
    """Whether nobody can tell the tokens of the prompt: then they are as many as the model takes."""
    images: int
    answer: int
    """Tokens that the request allows an answer; 0: it sets no limit."""
    limited: bool
    """Whether no answer is longer than that. Else the model's own limit holds, if that is higher."""
    extra: int
    """Tokens that may come on top of either: reasoning, and a prediction that was wrong."""
    choices: int
    """Answers. The prompt is charged once for all of them, as OpenAI does."""
    searches: bool
    """Whether the request can search the web, whatever the model."""
    results: int
    """Results that a search may come to."""
    uses: int
    """Searches that a provider may make."""
    parser: str | None
    """What reads the files of the request; ``None``: no files. Empty: left to the gateway."""
    hour: bool
    """Whether something may be written to a cache for an hour."""
    others: tuple[str, ...]
    """Models that the gateway itself may fall back on."""
    known: bool
    """Whether there is a bound at all."""

    @classmethod
    def of(cls, request: ChatRequest, needs: Needs) -> Bound:
        """The bound of a request, whose needs these are."""
        get = request.params.get
        tools, others, tier = get("tools") or (), get("models"), get("service_tier") or "default"
        plugins = _Plugins.of(get("plugins"))
        answer, limited = _answer(get)
        return cls(
            prompt=_prompt(request, needs, _length(tools) + _length(get("functions"))),
            boundless=needs.boundless,
            images=needs.images,
            answer=answer,
            limited=limited,
            extra=_reasoning(get, needs) + (len(request.tail) if get("prediction") else 0),
            choices=needs.choices,
            searches=plugins.search or get("web_search_options") is not None,
            results=plugins.results or RESULTS,
            uses=max(SEARCHES, plugins.uses),
            parser=plugins.parser if "file" in needs.inputs else None,
            hour=b'"1h"' in request.tail,
            others=tuple(others or ()) if _words(others) else (),
            known=plugins.known
            and not get("preset")
            and (others is None or _words(others))
            and isinstance(tools, (list, tuple))
            and all(map(_run_by_caller, tools))
            and str(tier) in _PLAIN_TIERS,
        )

    def worst(self, model: str, entry: Entry, others: Iterable[str] | None = None) -> Decimal | None:
        """USD at most, of the model and all that the gateway may fall back on; ``None``: nobody can tell.

        ``others``: what these are called at the gateway, where that is not as the request has it.
        """
        dearest = self.cost(entry(model), model)
        for other in self.others if others is None else others:
            cost = None if dearest is None else self.cost(entry(other), other)
            if dearest is None or cost is None:
                return None
            dearest = max(dearest, cost)
        return dearest

    def cost(self, model: Model | None, asked: str) -> Decimal | None:
        """USD at most, of one model, which is asked for by this id; ``None``: nobody can tell.

        Every token of the prompt is taken to cost as much as the dearest kind of token, likewise of the answer.
        """
        if model is None or not self.known or not _sound(model.pricing) or not self._parses(model):
            return None
        if any(word in asked for word in _UNBOUNDED):
            return None
        searches = self.searches or ":online" in asked
        prompt, answer = self._prompt_of(model, searches), self._answer_of(model)
        if prompt is None or answer is None:
            return None
        prices = _Prices.of(model.pricing, prompt)
        of_prompt, of_image = prices.of_prompt(self.hour), _ZERO
        if self.images or self.boundless:
            of_image, of_its_tokens = prices.of_images()
            of_prompt = max(of_prompt, of_its_tokens)
        cost = prices.top("request")
        for count, price in ((prompt, of_prompt), (answer, prices.of_answer()), (self.images, of_image)):
            cost = _UP.fma(count, price, cost)
        if searches:
            cost = _UP.fma(self.results, RESULT_PRICE, cost)
        if searches or "web_search_options" in model.supported_parameters:  # such a model searches unasked
            cost = _UP.fma(self.uses, prices.top("web_search"), cost)
        return cost

    def _prompt_of(self, model: Model, searches: bool) -> int | None:
        limit = model.context_length
        if self.boundless:
            return limit
        tokens = self.prompt + self.images * IMAGE_TOKENS + (self.results * RESULT_TOKENS if searches else 0)
        return tokens if limit is None else min(tokens, limit)

    def _answer_of(self, model: Model) -> int | None:
        """Tokens of all answers. The context holds prompt and answer together, so that no answer is longer."""
        limit = 0 if self.limited else model.max_completion_tokens or model.context_length
        return None if limit is None else (max(limit, self.answer) + self.extra) * self.choices

    def _parses(self, model: Model) -> bool:
        """Whether reading the files costs nothing but tokens. Left to itself, a gateway gives them to a model that takes files."""
        return (
            self.parser is None
            or (self.parser or ("native" if "file" in model.input_modalities else "")) in _FREE_PARSERS
        )


@attrs.frozen
class _Prices:
    """What a prompt of a certain length may be charged: the model's own prices, and all that may stand in their place."""

    told: tuple[Pricing, ...]

    @classmethod
    def of(cls, pricing: Pricing, prompt: int) -> _Prices:
        return cls((pricing, *(each.prices for each in pricing.overrides if prompt > each.above)))

    def all(self, name: str) -> list[Decimal]:
        return [price for each in self.told if (price := getattr(each, name)) is not None]

    def top(self, name: str) -> Decimal:
        """The dearest one; zero where there is none."""
        return max(self.all(name), default=_ZERO)

    def of_prompt(self, hour: bool) -> Decimal:
        """USD of a token of the prompt: read, heard, or written to a cache, for an hour if that is asked for."""
        prompts, writes = self.all("prompt"), self.all("input_cache_write")
        dearest = max(*prompts, self.top("audio"), self.top("input_cache_read"))
        if hour:
            writes += self.all("input_cache_write_1h")
            writes.append(_UP.multiply(HOUR, max(prompts)))
        for write in writes:
            dearest = max(dearest, *(write_price(prompt, write) for prompt in prompts))
        return dearest

    def of_images(self) -> tuple[Decimal, Decimal]:
        """USD of a whole image, and of a token of one; which of them ``image`` is, is told at ``PER_IMAGE``."""
        price, prompts = self.top("image"), self.all("prompt")
        whole = price if is_whole(price, min(prompts)) else _ZERO
        part = _ZERO if is_whole(price, max(prompts)) else price
        return whole, max(part, self.top("image_token"))

    def of_answer(self) -> Decimal:
        """USD of a token of the answer: text, reasoning, sound, or of an image. Were it a price for a whole image, an image has
        a token at least."""
        return max(map(self.top, ("completion", "internal_reasoning", "audio_output", "image_output")))


@attrs.frozen
class _Plugins:
    """What a request asks a gateway to do besides asking the model."""

    known: bool = True
    """Whether it can be told what they cost."""
    search: bool = False
    results: int = 0
    uses: int = 0
    parser: str = ""

    @classmethod
    def of(cls, listed: Any) -> _Plugins:
        if listed is None:
            return _NO_PLUGINS
        if not isinstance(listed, (list, tuple)) or not all(isinstance(plugin, Mapping) for plugin in listed):
            return cls(known=False)
        asked = [plugin for plugin in listed if plugin.get("enabled") is not False]
        webs = [plugin for plugin in asked if plugin.get("id") == "web"]
        parsers = [plugin for plugin in asked if plugin.get("id") == "file-parser"]
        rest = {str(plugin.get("id")) for plugin in asked} - {"web", "file-parser"} - _FREE_PLUGINS - _ROUTERS
        return cls(
            # deep searches have other prices
            known=not rest and not any(str(web.get("mode")).startswith("deep") for web in webs),
            search=bool(webs),
            results=sum(count_of(web.get("max_results")) or RESULTS for web in webs),
            uses=sum(count_of(web.get("max_uses")) for web in webs),
            parser="+".join(map(_engine, parsers)),
        )


_NO_PLUGINS = _Plugins()


def _engine(parser: Mapping[str, Any]) -> str:
    pdf = parser.get("pdf")
    return str(pdf.get("engine") or "") if isinstance(pdf, Mapping) else ""


def _prompt(request: ChatRequest, needs: Needs, tools: int) -> int:
    """Tokens: no more than the request has bytes, as no tokenizer that falls back on bytes makes more than one of each.

    That takes templates to add nothing to a schema but blanks, and tokenizers to leave text as it is; so they do, as a rule, and
    ordinary text has three bytes to a token and more.
    """
    overhead = PROMPT_OVERHEAD + MESSAGE_OVERHEAD * len(request.messages)
    if tools:
        overhead += TOOLS_OVERHEAD + TOOL_OVERHEAD * tools
    return len(request.tail) - needs.image_data + overhead


def _answer(get: Callable[[str], Any]) -> tuple[int, bool]:
    """The limit that the request sets, and whether it holds: one that is no number above 0, such as llama.cpp's -1, is none."""
    limits = [count_of(limit) for name in ("max_completion_tokens", "max_tokens") if (limit := get(name)) is not None]
    longest = max(limits, default=0)
    return longest and max(longest, LEAST_ANSWER), bool(limits) and all(limits)


def _reasoning(get: Callable[[str], Any], needs: Needs) -> int:
    """Tokens of reasoning that may come on top of the limit: Alibaba's ``thinking_budget``, to which OpenRouter turns
    ``reasoning.max_tokens`` for Qwen, does; Anthropic's is part of it. LiteLLM takes ``thinking``, as Anthropic does."""
    budgets = [count_of(get("thinking_budget")), LEAST_REASONING if needs.reasoning else 0]
    for name, field in (("reasoning", "max_tokens"), ("thinking", "budget_tokens")):
        asked = get(name)
        if isinstance(asked, Mapping):
            budgets.append(count_of(asked.get(field)))
    return max(budgets)


def _sound(pricing: Pricing) -> bool:
    """Whether all prices are told, and are prices."""
    if not pricing.known or pricing.unclear:
        return False
    told = (pricing, *(override.prices for override in pricing.overrides))
    return all(price.is_finite() and price >= 0 for each in told for price in amounts(each) if price is not None)


def _run_by_caller(tool: object) -> bool:
    return isinstance(tool, Mapping) and str(tool.get("type") or "function") in _OWN_TOOLS


def _length(value: object) -> int:
    return len(value) if isinstance(value, (list, tuple)) else 0


def _words(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
