"""Reading lists of models: OpenRouter's, OpenAI's bare one, llama.cpp's and vLLM's, Infron's public one. Never raises.

A price that cannot be read is unknown, never free; an entry without a usable id is dropped and counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Context, Decimal
from typing import Any

import attrs

from routerkit.types.model import COMPONENTS, Model, PriceOverride, Pricing

MAX_MODELS = 200_000
MAX_PRICE = 10**9
MIN_PRICE = Decimal("1e-15")
"""What is smaller and not zero is no price: a billion tokens would not cost a cent."""
PER_UNIT = frozenset({"request", "image", "web_search"})
"""Prices that are not for tokens."""

_ID = re.compile(r"(?!(?:.*[/\\])?\.\.(?:[/\\]|$))[!-~]{1,200}")
"""A model id: visible ASCII, so that none can pass for another one, and no path that climbs. llama.cpp's ids are paths."""
_PRICE = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3}){1,6}(?:\.[0-9]{1,40})?")
"""Of other commas nobody knows whether they are decimal ones."""
_COUNT = re.compile(r"[0-9]{1,19}")
_TOLD_OTHERWISE = frozenset({"min_prompt_tokens", "input_audio_cache", "discount", *COMPONENTS})
"""Fields of a price override that are no condition which nobody knows."""
_EXACT = Context(prec=100)
"""More digits than any price that is read has, whatever precision the application works with."""
_ZERO = Decimal(0)
_MODALITIES = {
    "code": "text",
    "images": "image",
    "videos": "video",
    "files": "file",
    "pdf": "file",
}
"""What Infron calls modalities, where the catalogue's word is another one."""
_FIELDS = (
    *("context_length", "max_completion_tokens", "input_modalities", "output_modalities", "supported_parameters"),
    *("created", "expiration_date", "description", "gateway"),
)
"""Of a model: what a second list may fill in as it stands."""


def parse_catalog(body: Any, gateway: str = "", per: int = 1) -> tuple[list[Model], int]:
    """The models of a catalogue answer, and how many entries were dropped because they had no id or came twice.

    Reads OpenRouter's shape and OpenAI's bare one (``id`` only), in ``{"data": [...]}`` or as a bare list, and what others add to
    the bare one (context length, modalities). ``gateway`` is the name of the one that sent it, ``per`` for how many tokens its
    prices are; those for a request, an image or a search are not for tokens, and stay.
    """
    return _read(body, _Reader(gateway, per).model)


def parse_details(body: Any, gateway: str = "") -> tuple[list[Model], int]:
    """The models of Infron's public list (``/api/display_models/``), and how many entries were dropped.

    The id to send is ``invoke_name``, else ``name``. Prices are USD per million tokens, such as ``$0.10``; what they become is
    told at :func:`_cost`. ``context_length`` is ``input_token_limit``: the limit of the prompt alone.
    """
    return _read(body, _Reader(gateway, 1_000_000).details)


def completed(listed: Iterable[Model], details: Iterable[Model]) -> list[Model]:
    """The models of two lists of one gateway: those of ``listed``, with what it does not tell taken from ``details`` field by
    field, then those that only ``details`` has.

    ``name@version`` without details of its own takes those of ``name``, but no price of nothing: that is said of ``name`` alone.
    ``raw`` holds both entries in one.
    """
    told = {model.id: model for model in details}
    found: dict[str, Model] = {}
    for model in listed:
        more = told.get(model.id) or of_all_versions(told.get(model.id.rpartition("@")[0]))
        found[model.id] = model if more is None else _filled(model, more)
    return [*found.values(), *(model for model in told.values() if model.id not in found)]


def price(value: Any, per: int = 1) -> Decimal | None:
    """A price for one token, from one for ``per`` tokens, which is divided exactly.

    Negative, missing, not finite, absurd or unreadable is ``None``: unknown, never free.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MAX_PRICE:
        value = repr(value)
    if not isinstance(value, str) or not _PRICE.fullmatch(value.strip()):
        return None
    number = Decimal(value.strip())
    if per != 1:
        number = _EXACT.divide(number, Decimal(per))
    return number if MIN_PRICE <= number < MAX_PRICE or not number else None


def _read(body: Any, read: Callable[[Any], Model | None]) -> tuple[list[Model], int]:
    entries = body if isinstance(body, list) else body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        return [], 0
    models: dict[str, Model] = {}
    for entry in entries[:MAX_MODELS]:
        model = read(entry)
        if model is not None:
            models.setdefault(model.id, model)
    return list(models.values()), len(entries) - len(models)


def of_all_versions(model: Model | None) -> Model | None:
    """What the entry of ``name`` says of any ``name@version``: that a token costs nothing is said of ``name`` alone."""
    if model is None or 0 not in (model.pricing.prompt, model.pricing.completion):
        return model
    return attrs.evolve(model, pricing=Pricing())


class _Reader:
    """Reads the entries of one list. What many of them have in common is made once and kept once."""

    def __init__(self, gateway: str, per: int) -> None:
        self._gateway = gateway
        self._per = per
        self._pricings: dict[tuple[tuple[str, str], ...], Pricing] = {}
        self._tuples: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._sets: dict[tuple[str, ...], frozenset[str]] = {}

    def model(self, entry: Any) -> Model | None:
        """An entry of a catalogue."""
        identity = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(identity, str) or not _ID.fullmatch(identity):
            return None
        architecture, provider = _dict(entry, "architecture"), _dict(entry, "top_provider")
        return Model(
            id=identity,
            name=_str(entry, "name") or _str(entry, "display_name") or identity,
            context_length=_context_length(entry, provider),
            max_completion_tokens=_answer_length(entry, provider),
            pricing=self._pricing(_dict(entry, "pricing")),
            input_modalities=self._modalities(architecture.get("input_modalities") or entry.get("input_modalities")),
            output_modalities=self._modalities(architecture.get("output_modalities") or entry.get("output_modalities")),
            supported_parameters=self._set(self._words(entry.get("supported_parameters"))),
            created=_positive(entry.get("created")),
            expiration_date=_str(entry, "expiration_date"),
            description=_str(entry, "description") or "",
            gateway=self._gateway,
            raw=entry,
        )

    def details(self, entry: Any) -> Model | None:
        """An entry of Infron's public list."""
        if not isinstance(entry, dict):
            return None
        name = (_str(entry, "name") or "").strip()
        identity = (_str(entry, "invoke_name") or "").strip() or name
        if not _ID.fullmatch(identity):
            return None
        return Model(
            id=identity,
            name=_str(entry, "display_name") or name or identity,
            context_length=_count(entry.get("input_token_limit")),
            max_completion_tokens=_count(entry.get("output_token_limit")),
            pricing=self._costs(entry),
            input_modalities=self._modalities(entry.get("input_modalities")),
            output_modalities=self._modalities(entry.get("output_modalities")),
            description=_str(entry, "description") or "",
            gateway=self._gateway,
            raw=entry,
        )

    def _pricing(self, prices: dict[str, Any]) -> Pricing:
        told = [(name, prices[name]) for name in COMPONENTS if name in prices]
        overrides = prices.get("overrides")
        if overrides or not all(value.__class__ is str for _, value in told):
            return self._overridden(self._priced(told), overrides)  # as keys, 1 and True would be the same
        key = tuple(told)
        found = self._pricings.get(key)
        if found is None:
            found = self._pricings[key] = self._priced(told)
        return found

    def _priced(self, told: list[tuple[str, Any]]) -> Pricing:
        read: dict[str, Any] = {name: price(value, 1 if name in PER_UNIT else self._per) for name, value in told}
        return Pricing(**read, unclear=any(value is not None and read[name] is None for name, value in told))

    def _overridden(self, pricing: Pricing, listed: Any) -> Pricing:
        """With OpenRouter's ``overrides``: entries of prices and conditions. What cannot be read makes the prices unclear."""
        if not listed:
            return pricing
        entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        overrides = tuple(map(self._override, entries))
        unclear = pricing.unclear or not isinstance(listed, list) or len(entries) < len(listed)
        return attrs.evolve(
            pricing, overrides=overrides, unclear=unclear or any(override.prices.unclear for override in overrides)
        )

    def _override(self, entry: dict[str, Any]) -> PriceOverride:
        """A condition that cannot be read may be met at any time."""
        above = entry.get("min_prompt_tokens", 0)
        readable = isinstance(above, (int, float)) and not isinstance(above, bool) and 0 <= above < 2**63
        return PriceOverride(
            self._priced([(name, entry[name]) for name in COMPONENTS if name in entry]),
            above=int(above) if readable else 0,
            sure=readable and _TOLD_OTHERWISE.issuperset(entry),
        )

    def _costs(self, entry: dict[str, Any]) -> Pricing:
        discount = entry.get("discount")
        free = isinstance(discount, str) and discount.strip().upper() == "FREE"
        prompt, completion = (
            _cost(
                _dollars(entry.get(f"sale_{side}_cost"), self._per),
                _dollars(entry.get(f"retail_{side}_cost"), self._per),
                free,
            )
            for side in ("input", "output")
        )
        return Pricing(prompt, completion)

    def _words(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            return ()
        words = tuple([word for word in value if isinstance(word, str)])
        return self._tuples.setdefault(words, words)

    def _modalities(self, value: Any) -> tuple[str, ...]:
        """OpenRouter's words for such as ``Text, Code, Images``, or a list of them."""
        listed = value.split(",") if isinstance(value, str) else self._words(value)
        words = (word.strip().lower() for word in listed)
        found = tuple(dict.fromkeys(_MODALITIES.get(word, word) for word in words if word))
        return self._tuples.setdefault(found, found)

    def _set(self, words: tuple[str, ...]) -> frozenset[str]:
        found = self._sets.get(words)
        if found is None:
            found = self._sets[words] = frozenset(words)
        return found


def _context_length(entry: dict[str, Any], provider: dict[str, Any]) -> int | None:
    """OpenRouter's, vLLM's, Groq's, Mistral's or llama.cpp's word for it, the first that is there."""
    return (
        _positive(entry.get("context_length"))
        or _positive(provider.get("context_length"))
        or _positive(entry.get("max_model_len"))
        or _positive(entry.get("context_window"))
        or _positive(entry.get("max_context_length"))
        or _positive(_dict(entry, "meta").get("n_ctx"))
    )


def _answer_length(entry: dict[str, Any], provider: dict[str, Any]) -> int | None:
    """OpenRouter's, Groq's or Infron's word for it, likewise."""
    return (
        _positive(provider.get("max_completion_tokens"))
        or _positive(entry.get("max_completion_tokens"))
        or _positive(entry.get("max_output_tokens"))
    )


def _cost(sale: Decimal | None, retail: Decimal | None, free: bool) -> Decimal | None:
    """What one side of Infron's prices comes to: the sale price, nothing when the discount says FREE, else the retail price.

    That list writes 0 for a price that is not there (a sale price of 0 is none) and says FREE where it means it. So a retail
    price of 0 is unknown, and a sale price above 0 is believed before a FREE that contradicts it: nothing is free by accident.
    """
    return sale or (_ZERO if free else retail or None)


def _dollars(value: Any, per: int) -> Decimal | None:
    """A price such as ``$0.10``, ``$ 1,234.5`` or ``0.4``."""
    if isinstance(value, str):
        value = value.strip().removeprefix("$").strip()
        if _THOUSANDS.fullmatch(value):
            value = value.replace(",", "")
    return price(value, per)


def _count(value: Any) -> int | None:
    """A number of tokens such as 8192, ``"8192"`` or ``"131,072"``."""
    if isinstance(value, str):
        value = value.strip()
        if _THOUSANDS.fullmatch(value):
            value = value.replace(",", "")
        value = int(value) if _COUNT.fullmatch(value) else None
    return _positive(value)


def _filled(model: Model, more: Model) -> Model:
    changes: dict[str, Any] = {name: getattr(more, name) for name in _FIELDS if not getattr(model, name)}
    if model.name == model.id and more.name != more.id:
        changes["name"] = more.name
    prices = {name: getattr(more.pricing, name) for name in COMPONENTS if getattr(model.pricing, name) is None}
    return attrs.evolve(model, **changes, pricing=attrs.evolve(model.pricing, **prices), raw={**more.raw, **model.raw})


def _dict(entry: dict[str, Any], name: str) -> dict[str, Any]:
    value = entry.get(name)
    return value if isinstance(value, dict) else {}


def _str(entry: dict[str, Any], name: str) -> str | None:
    value = entry.get(name)
    return value if isinstance(value, str) and value else None


def _positive(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63 else None
