"""Queries on a catalogue: which models take images, support tools, cost at most so much.

The models that have a word, or are below a threshold, are the bits of one long integer; a query is a few ANDs of such masks and
one walk over the catalogue. Those asked for last are remembered. Thread-safe without a lock: what two threads make at once is
the same.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate, compress
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from routerkit.core.listing import price
from routerkit.errors import InvalidRequestError
from routerkit.types.model import Model, ModelFilters

if TYPE_CHECKING:
    from typing_extensions import Unpack

HIGHEST_PRICE = Decimal("0.01")
"""USD per token: more than ten times what the dearest models cost. A price above it is one for a million tokens."""
CACHED_MASKS = 256
"""How many words or thresholds of each filter are remembered. A catalogue can hold any number of them."""

_MILLION = 1_000_000
_WORD = re.compile(r"[^\s,]+")
_ONE = ord("1")
_BITS = bytes.maketrans(b"01", b"\0\1")
_T = TypeVar("_T", Decimal, int)


@attrs.frozen
class Query:
    """What a model must be to be found. Made and checked by :meth:`of`; what is empty or ``None`` asks for nothing."""

    modality: tuple[str, ...] = ()
    output_modality: tuple[str, ...] = ()
    supports: tuple[str, ...] = ()
    max_price: Decimal | None = None
    min_context: int | None = None
    free: bool | None = None
    search: tuple[str, ...] = ()
    """Case-folded; the words before are in lower case."""

    @classmethod
    def of(cls, **filters: Unpack[ModelFilters]) -> Query:
        """A query from what a user gives; :class:`~routerkit.types.model.ModelFilters` tells what each filter means.

        Raises InvalidRequestError, which names the filter; TypeError for one that does not exist.
        """
        unknown = sorted(filters.keys() - ModelFilters.__annotations__.keys())
        if unknown:
            import difflib  # only errors need it

            near = difflib.get_close_matches(unknown[0], ModelFilters.__annotations__, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"models() got an unexpected keyword argument {unknown[0]!r}{hint}")
        return cls(
            modality=_words("modality", filters.get("modality")),
            output_modality=_words("output_modality", filters.get("output_modality")),
            supports=_words("supports", filters.get("supports")),
            max_price=_max_price(filters.get("max_price")),
            min_context=_min_context(filters.get("min_context")),
            free=_free(filters.get("free")),
            search=_search(filters.get("search")),
        )


class CatalogIndex:
    """The models of one catalogue, ready to be asked for. Words are looked for in whatever case."""

    def __init__(self, models: Iterable[Model]) -> None:
        self.models = tuple(models)
        self._all = (1 << len(self.models)) - 1
        self._inputs = self._by_word(model.input_modalities for model in self.models)
        self._outputs = self._by_word(model.output_modalities for model in self.models)
        self._parameters = self._by_word(model.supported_parameters for model in self.models)
        self._free = self._mask(place for place, model in enumerate(self.models) if model.pricing.free)
        self._prices, self._cheapest = self._ascending(_dearest(model) for model in self.models)
        self._contexts, self._smallest = self._ascending(model.context_length for model in self.models)
        names = [f"{model.id}\n{model.name}\n".casefold() for model in self.models]
        self._text = "".join(names)
        self._starts = [0, *accumulate(map(len, names))]
        self._named = lru_cache(CACHED_MASKS)(lambda word: self._mask(self._having(word)))

    def find(self, query: Query) -> tuple[Model, ...]:
        """The models that are all that the query asks for, in the order of the catalogue."""
        found = self._all
        for words, mask_of in (
            (query.modality, self._inputs),
            (query.output_modality, self._outputs),
            (query.supports, self._parameters),
            (query.search, self._named),
        ):
            for word in words:
                found &= mask_of(word)
        if query.max_price is not None:
            found &= self._cheapest(bisect_right(self._prices, query.max_price))
        if query.min_context is not None:
            smaller = self._smallest(bisect_left(self._contexts, query.min_context))
            found &= self._smallest(len(self._contexts)) & ~smaller
        if query.free is not None:
            found &= self._free if query.free else ~self._free
        return tuple(compress(self.models, bin(found)[:1:-1].encode().translate(_BITS)))

    def _having(self, word: str) -> Iterator[int]:
        """The places of the models that have a word in id or name: no word holds the line break that ends each of them."""
        at = self._text.find(word)
        while at >= 0:
            place = bisect_right(self._starts, at) - 1
            yield place
            at = self._text.find(word, self._starts[place + 1])

    def _by_word(self, told: Iterable[Iterable[str]]) -> Callable[[str], int]:
        """What gives the mask of the models that tell a word."""
        places: dict[str, list[int]] = {}
        for place, words in enumerate(told):
            for word in words:
                places.setdefault(word.lower(), []).append(place)
        return lru_cache(CACHED_MASKS)(lambda word: self._mask(places.get(word, ())))

    def _ascending(self, values: Iterable[_T | None]) -> tuple[list[_T], Callable[[int], int]]:
        """The values that are known, in ascending order, and what gives the mask of the first so many of them."""
        known = sorted((value, place) for place, value in enumerate(values) if value is not None)
        places = [place for _, place in known]
        return [value for value, _ in known], lru_cache(CACHED_MASKS)(lambda count: self._mask(places[:count]))

    def _mask(self, places: Iterable[int]) -> int:
        """The integer in which these bits are set."""
        digits = bytearray(b"0") * (len(self.models) + 1)
        for place in places:
            digits[~place] = _ONE
        return int(digits, 2)


def _dearest(model: Model) -> Decimal | None:
    """The higher one of prompt and completion price; ``None`` unless both are known."""
    prompt, completion = model.pricing.prompt, model.pricing.completion
    return None if prompt is None or completion is None else max(prompt, completion)


# --- what users give ---


def _refused(name: str, value: object, rule: str) -> InvalidRequestError:
    return InvalidRequestError(f"models({name}={value!r:.100}): {rule}")


def _words(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    words = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    if all(isinstance(word, str) and _WORD.fullmatch(word) for word in words):
        return tuple(sorted({word.lower() for word in words}))
    raise _refused(name, value, "must be a word, or a list of words")


def _max_price(value: Any) -> Decimal | None:
    if value is None:
        return None
    amount = price(str(value) if isinstance(value, Decimal) else value)
    if amount is None:
        raise _refused("max_price", value, "must be USD per token, from 0 on, such as '0.000003'")
    if amount > HIGHEST_PRICE:
        right = price(str(amount), _MILLION)
        rule = f"it is USD per token, and no model costs that; {amount:f} USD per million tokens are '{right:f}'"
        raise _refused("max_price", value, rule)
    return amount


def _min_context(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise _refused("min_context", value, "must be a whole number of tokens, from 0 on")


def _free(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise _refused("free", value, "must be True or False")


def _search(value: Any) -> tuple[str, ...]:
    if value is None or isinstance(value, str):
        return tuple(sorted({*(value or "").casefold().split()}))
    raise _refused("search", value, "must be words, such as 'claude sonnet'")
