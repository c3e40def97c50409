"""In which order the targets of a plan are tried: strategies, each with one method that orders candidates.

A strategy chooses among what the plan allows and decides nothing else: what it loses comes after the others, what it invents is
dropped, and when it fails the planned order stands. Those that read the catalogue or learn from attempts say so by
``needs_catalog`` and ``needs_scores``.
"""

from __future__ import annotations

import datetime
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from routerkit.core.needs import Needs, tells, unfit
from routerkit.core.performance import Score
from routerkit.core.pricing import expected_cost, in_usd
from routerkit.errors import ConfigurationError
from routerkit.types.event import StrategyFailed
from routerkit.types.model import Model
from routerkit.types.policy import number
from routerkit.types.request import ChatRequest
from routerkit.types.route import Candidate, Target

COLD_SAMPLES = 3.0
"""A target with less weight of samples is cold: nobody can tell yet how it performs."""
COLD_EVERY = 5
"""One call in so many begins with a cold target, while there is one."""
LONG = 32_000
"""A request of more tokens, prompt and answer together, is long."""
KINDS = ("image", "audio", "file", "video", "tools", "json_schema", "reasoning", "long", "text")
"""What the rules of ``multi_model`` can be for. ``text``: none of the others."""


@attrs.define
class Outlook:
    """What a strategy may look at, for one call."""

    request: ChatRequest
    needs: Needs
    entry: Callable[[Target], Model | None]
    """A target's entry of the catalogue; ``None``: unknown."""
    score: Callable[[Target], Score | None]
    """``None``: not asked of late."""
    random: Callable[[], float]
    """Uniform in [0, 1)."""
    turn: int
    """0, 1, 2, …: counts the calls of the client."""
    today: datetime.date = datetime.date.min
    """In UTC; unless it is given, no model has expired."""
    failed: Callable[[StrategyFailed], object] | None = None
    """Is told of a strategy that raised."""


class Strategy(ABC):
    """Orders candidates. Any object with a method :meth:`order` will do in its place."""

    __slots__ = ()

    name: ClassVar[str] = ""
    needs_catalog: ClassVar[bool] = False
    """Whether a call waits for the catalogue, for a while, before it orders."""
    needs_scores: ClassVar[bool] = False
    """Whether attempts are scored for it."""

    @abstractmethod
    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        """The same candidates in the order in which to try them, each with why in its ``reason``:
        ``attrs.evolve(candidate, reason=f"{candidate.reason}; …")``."""


def noted(candidate: Candidate, note: str) -> Candidate:
    """A candidate whose reason says one thing more."""
    return attrs.evolve(candidate, reason=f"{candidate.reason}; {note}")


def ordered(strategy: Strategy, candidates: Sequence[Candidate], outlook: Outlook) -> tuple[Candidate, ...]:
    """The candidates as the strategy orders them: each once, whatever the strategy does. Only reasons are taken from it."""
    given = {candidate.target: candidate for candidate in candidates}
    if not given:
        return ()
    found: dict[Target, Candidate] = {}
    try:
        for each in strategy.order(tuple(given.values()), outlook):
            if isinstance(each, Candidate) and each.target in given and each.target not in found:
                reason = each.reason if isinstance(each.reason, str) else given[each.target].reason
                found[each.target] = attrs.evolve(given[each.target], reason=reason)
                if len(found) == len(given):
                    break
    except Exception as error:
        told = StrategyFailed(name_of(strategy), type(error).__name__)
        if outlook.failed is not None:
            outlook.failed(told)
        note = f"{told.strategy} failed ({told.error}), so as planned"
        return tuple(noted(candidate, note) for candidate in given.values())
    lost = [candidate for target, candidate in given.items() if target not in found]
    return (*found.values(), *(noted(candidate, f"left out by {name_of(strategy)}, so last") for candidate in lost))


@attrs.frozen
class Priority(Strategy):
    """As planned: default, fallbacks in their order, then the catalogue."""

    name: ClassVar[str] = "priority"

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:  # noqa: ARG002
        return candidates


@attrs.frozen
class RoundRobin(Strategy):
    """Each call begins one candidate later than the call before, and goes round."""

    name: ClassVar[str] = "round_robin"

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        start = outlook.turn % len(candidates)
        turned = [*candidates[start:], *candidates[:start]]
        note = f"in turn, this call begins with the {_nth(start + 1)} of {len(candidates)}"
        return [noted(candidate, note) for candidate in turned]


def _weights(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"Weighted(weights=…): must be a dict of numbers, not {type(value).__name__}")
    for name, weight in value.items():
        if not isinstance(name, str):
            raise ConfigurationError(f"Weighted: {name!r} is no model id or gateway's name; it must be a string")
        fits = isinstance(weight, (int, float)) and not isinstance(weight, bool) and 0 <= weight < math.inf
        if not fits:
            raise ConfigurationError(f"Weighted: the weight of {name!r} is {weight!r}; it must be a number from 0 on")
    return dict(value)


@attrs.frozen
class Weighted(Strategy):
    """A random order in which a candidate comes first in proportion to its weight, then the next among the rest, and so on.

    ``weights``: by model id, by gateway, or by ``"model on gateway"``; the most specific counts, ``default`` where there is
    none. Weight 0: after all others. Raises ConfigurationError.
    """

    name: ClassVar[str] = "weighted"
    weights: Mapping[str, float] = attrs.field(factory=dict, converter=_weights, hash=False)
    default: float = attrs.field(default=1.0, validator=number(0))

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        weights = [self.weight(candidate.target) for candidate in candidates]
        # Efraimidis and Spirakis (2006): with exponential times of these rates, the order of arrival is a weighted draw.
        times = [math.inf if not weight else -math.log(1 - outlook.random()) / weight for weight in weights]
        drawn = sorted(zip(times, candidates, weights, strict=True), key=lambda each: each[0])
        return [
            noted(candidate, f"drawn by its weight of {weight:g}" if weight else "weight 0, so last")
            for _, candidate, weight in drawn
        ]

    def weight(self, target: Target) -> float:
        """What counts for a target."""
        return next((self.weights[name] for name in _names(target) if name in self.weights), self.default)


@attrs.frozen
class CostOptimized(Strategy):
    """The lowest expected cost of this request first; where no price is known, last."""

    name: ClassVar[str] = "cost_optimized"
    needs_catalog: ClassVar[bool] = True

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        return _by_cost(candidates, outlook)


@attrs.frozen
class PerformanceOptimized(Strategy):
    """The fastest and most reliable first, by what attempts of late have shown (:class:`routerkit.core.performance.Score`).

    The first choice is the better of two drawn at random, so that not every client storms the same target; now and then
    (``exploration``, a share of calls) any candidate at all. The rest follow by score, those that are cold last, by what little
    is known of them. One call in
    ``COLD_EVERY`` begins with a cold target, and they take turns: of n candidates, none stays cold for more than
    ``COLD_EVERY · n`` such calls without having been first.
    """

    name: ClassVar[str] = "performance_optimized"
    needs_scores: ClassVar[bool] = True
    exploration: float = attrs.field(default=0.05, validator=number(0, 1))

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        scores = {candidate: outlook.score(candidate.target) for candidate in candidates}
        warm = {each: score for each, score in scores.items() if score is not None and score.samples >= COLD_SAMPLES}
        rest = sorted(warm, key=lambda each: warm[each].expected_seconds)
        rest += sorted((each for each in candidates if each not in warm), key=lambda each: _promise(scores[each]))
        first, why = self._first(candidates, warm, outlook, rest[0])
        told = {each: _performance(scores[each]) for each in candidates}
        return [
            noted(first, f"{why}: {told[first]}" if why else told[first]),
            *(noted(each, told[each]) for each in rest if each is not first),
        ]

    def _first(
        self, candidates: Sequence[Candidate], warm: Mapping[Candidate, Score], outlook: Outlook, best: Candidate
    ) -> tuple[Candidate, str]:
        cold = len(warm) < len(candidates)
        if cold and outlook.turn % COLD_EVERY == 0:
            start = outlook.turn // COLD_EVERY % len(candidates)
            turned = (*candidates[start:], *candidates[:start])
            return next(each for each in turned if each not in warm), "its turn to be tried"
        if outlook.random() < self.exploration:
            return candidates[int(outlook.random() * len(candidates))], "tried at random"
        known = list(warm)
        if len(known) < 2:
            return best, ""
        one = int(outlook.random() * len(known))
        other = int(outlook.random() * (len(known) - 1))
        pair = known[one], known[other + (other >= one)]
        return min(pair, key=lambda each: warm[each].expected_seconds), "the better of two drawn"


def _rules(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"MultiModel(rules=…): must be a dict of lists, not {type(value).__name__}")
    rules: dict[str, tuple[str, ...]] = {}
    for kind, models in value.items():
        if kind not in KINDS:
            raise ConfigurationError(f"MultiModel: unknown rule {kind!r}; there are {', '.join(KINDS)}")
        listed = isinstance(models, Iterable) and not isinstance(models, (str, bytes, Mapping))
        rules[kind] = tuple(models) if listed else ()  # once: it may be a generator
        if not listed or not all(isinstance(model, str) for model in rules[kind]):
            raise ConfigurationError(f"MultiModel: the rule {kind!r} must be a list of model ids")
    return rules


@attrs.frozen
class MultiModel(Strategy):
    """A model for each kind of request: those of your own rule first, then the cheapest that fits.

    ``rules``: what a request needs (one of ``KINDS``) to models in order: ids, ``"model on gateway"``, or a gateway's name for
    all of its models. The first rule that matches counts. What needs to give an image or sound matches as what needs to take one.
    Models of which the catalogue does not say enough come after those known to fit, and those without an entry after these, unless
    a rule names them; those that by their entry cannot serve come last, also when a rule names them. Raises ConfigurationError.
    """

    name: ClassVar[str] = "multi_model"
    needs_catalog: ClassVar[bool] = True
    rules: Mapping[str, Sequence[str]] = attrs.field(factory=dict, converter=_rules, hash=False)

    def order(self, candidates: Sequence[Candidate], outlook: Outlook) -> Sequence[Candidate]:
        kinds = kinds_of(outlook.needs)
        rule = next((kind for kind in self.rules if kind in kinds), None)
        places = {name: place for place, name in reversed([*enumerate(self.rules.get(rule or "", ()))])}
        named: list[tuple[int, Candidate]] = []
        fit, vague, unknown, poor = [], [], [], []
        for candidate in candidates:
            model = outlook.entry(candidate.target)
            lack = None if model is None else unfit(model, outlook.needs, outlook.today)
            place = min((places[name] for name in _names(candidate.target) if name in places), default=None)
            if lack is not None:
                poor.append(noted(candidate, f"last: {lack}"))
            elif place is not None:
                named.append((place, noted(candidate, f"the {_nth(place + 1)} of your rule for {rule}")))
            elif model is None:
                unknown.append(noted(candidate, "not in the catalogue, so nobody can tell what it can do"))
            elif tells(model, outlook.needs):
                fit.append(noted(candidate, f"fits {', '.join(kinds)}"))
            else:
                vague.append(noted(candidate, f"fits {', '.join(kinds)} as far as its gateway tells"))
        named.sort(key=lambda each: each[0])
        return [
            *(candidate for _, candidate in named),
            *_by_cost(fit, outlook),
            *_by_cost(vague, outlook),
            *unknown,
            *poor,
        ]


def kinds_of(needs: Needs) -> tuple[str, ...]:
    """What a request is, among ``KINDS`` and in their order; never empty."""
    found = {"image", "audio", "file", "video"} & (needs.inputs | needs.outputs)
    found |= {"tools"} & needs.parameters
    if "structured_outputs" in needs.parameters:
        found.add("json_schema")
    if needs.reasoning:
        found.add("reasoning")
    if needs.tokens > LONG:
        found.add("long")
    return tuple(kind for kind in KINDS if kind in found) or ("text",)


def _by_cost(candidates: Sequence[Candidate], outlook: Outlook) -> list[Candidate]:
    """Cheapest first, unknown last."""
    priced, unpriced = [], []
    for candidate in candidates:
        model = outlook.entry(candidate.target)
        cost = None if model is None else expected_cost(model, outlook.needs)
        if cost is None:
            unpriced.append(noted(candidate, "its price is unknown"))
        else:
            priced.append((cost, noted(candidate, f"expected to cost {in_usd(cost)}")))
    priced.sort(key=lambda each: each[0])
    return [*(candidate for _, candidate in priced), *unpriced]


def _promise(score: Score | None) -> tuple[int, float]:
    """By which targets are ordered of which little is known: those that answered, then the unknown, then those that did not."""
    if score is None:
        return 1, 0.0
    return (2, 0.0) if math.isinf(score.expected_seconds) else (0, score.expected_seconds)


def _performance(score: Score | None) -> str:
    if score is None:
        return "too few attempts of late to tell how fast it is"
    if score.samples < COLD_SAMPLES:
        return f"too few attempts of late to be sure: {_figures(score)}"
    return _figures(score)


def _figures(score: Score) -> str:
    if math.isinf(score.expected_seconds):
        return "no answer of late"
    seconds = score.expected_seconds
    told = f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"
    return f"answers in about {told} s, {score.success:.0%} of attempts"


def _names(target: Target) -> tuple[str, str, str]:
    """What a user may call a target, the most specific first."""
    return str(target), target.model, target.gateway


def _nth(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{ending}"


_KNOWN: dict[str, type[Strategy]] = {
    each.name: each for each in (Priority, RoundRobin, Weighted, CostOptimized, PerformanceOptimized, MultiModel)
}
STRATEGIES = tuple(_KNOWN)
"""The names of the strategies. ``basic`` is another name of ``round_robin``."""


def strategy_of(value: Any) -> Strategy:
    """A strategy by its name, however that is spelt, or an object that has a method ``order``, as it is. Raises ValueError."""
    if isinstance(value, str):
        name = "_".join(value.lower().replace("-", " ").split())
        kind = _KNOWN.get({"basic": "round_robin"}.get(name, name))
        if kind is None:
            raise ValueError(f"unknown strategy {value!r}; there are {', '.join(STRATEGIES)}")
        return kind()
    if isinstance(value, type):
        raise ValueError(f"{value.__name__} is a class: give an object, such as {value.__name__}()")
    order = getattr(value, "order", None)
    if not callable(order):
        raise ValueError(f"a {type(value).__name__} is no strategy: it has no method order(candidates, outlook)")
    if inspect.iscoroutinefunction(order) or inspect.isasyncgenfunction(order):
        raise ValueError(
            f"a {type(value).__name__} is no strategy: its order is async, and nobody awaits it; write def"
        )
    if not _takes_two(order):
        raise ValueError(f"a {type(value).__name__} is no strategy: its order must take (candidates, outlook)")
    strategy: Strategy = value
    return strategy


def _takes_two(order: Callable[..., Any]) -> bool:
    try:
        inspect.signature(order).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # something that does not tell
        pass
    return True


def name_of(strategy: Strategy) -> str:
    """What to call a strategy, also one that has no name."""
    name = getattr(strategy, "name", None)
    return name if isinstance(name, str) and name else type(strategy).__name__


def needs_catalog(strategy: Strategy) -> bool:
    """Whether a call waits for the catalogue before this strategy orders, also of one that does not say."""
    return bool(getattr(strategy, "needs_catalog", False))


def needs_scores(strategy: Strategy) -> bool:
    """Whether attempts are scored for this strategy, also of one that does not say."""
    return bool(getattr(strategy, "needs_scores", False))
