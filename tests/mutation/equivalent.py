"""Mutants that survive because they change nothing that anybody could see: (function, line before, line after), and why.

Keyed by the text of the line, so that an entry goes stale as soon as its line changes. Here those of plans and of calls; those of
what they are made of stand in :mod:`tests.mutation.equivalent_parts`.
"""

from __future__ import annotations

from tests.mutation.equivalent_parts import PARTS
from tests.mutation.reasons import CASE, FALSY, LOCKED, NOBODY, ZIPPED, Equivalent

_NEUTRAL = "of a neutral sample nobody looks at the time"
_UNREAD = "of a place that has an obstacle the words are not read"
_HEADER = "names of headers have no case"
_ONE_RANK = "who has this rank has all of it alike, and the ranks stay in order"
_UNASKED = "where there is nobody to ask, all is allowed: only the speed differs"
_TOLERANCE = "it is there for clocks that differ: its very end may be in it or not"
_IMAGES = "what has no price costs nothing, however many there are"
_TWO_FIGURES = "between 10 and 99 both round to the second"

EQUIVALENT: Equivalent = {
    **PARTS,
    "keys": {
        (
            "ring",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=True))",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=None))",
        ): ZIPPED,
        (
            "ring",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=True))",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, ))",
        ): ZIPPED,
        (
            "ring",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=True))",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=False))",
        ): ZIPPED,
    },
    "plan": {
        (
            "_known_as",
            "ids = aliases.get(bare, {}) if pin is not None else {}",
            "ids = aliases.get(bare, {}) if (pin is not None) or True else {}",
        ): "without a prefix the name is the same, and the table was asked for it before",
        (
            "_places",
            'yield Target(gateway.name, model), "", words',
            'yield Target(gateway.name, model), "XXXX", words',
        ): _UNREAD,
    },
    "health": {
        ("Admission.__init__", "self._settled = False", "self._settled = None"): FALSY,
        (
            "Admission.__init__",
            "self._released = not key.counted",
            "self._released = None",
        ): "a key that does not count its attempts has none to give back",
        (
            "Admission.settle",
            "self._settled = True",
            "self._settled = None",
        ): "permits settle once by themselves; it saves a lock",
        (
            "Admission.settle",
            "self._settled = True",
            "self._settled = False",
        ): "permits settle once by themselves; it saves a lock",
        (
            "Health.__init__",
            "self._quiet_from = 0.0",
            "self._quiet_from = 1.0",
        ): "before the first cooldown there is none to find",
        ("Health.__init__", "self._turn = 0", "self._turn = 1"): "turns are only compared",
        ("Health._admitted", "self._turn += 1", "self._turn += 2"): "turns are only compared",
        ("Health.admit", "self._catch_up(now)", "self._catch_up(None)"): _NEUTRAL,
        ("Health.peek", "self._catch_up(now)", "self._catch_up(None)"): _NEUTRAL,
        ("Health.panic", "self._catch_up(now)", "self._catch_up(None)"): _NEUTRAL,
        ("Health.settle", "self._catch_up(now)", "self._catch_up(None)"): _NEUTRAL,
        ("Health.reached", "self._catch_up(now)", "self._catch_up(None)"): _NEUTRAL,
        ("Health.record", "self._catch_up(now)", "self._catch_up(None)"): _NEUTRAL,
        ("Health.states", "self._catch_up(self._runtime.monotonic())", "self._catch_up(None)"): _NEUTRAL,
        ("Health.breaker", "self._catch_up(self._runtime.monotonic())", "self._catch_up(None)"): _NEUTRAL,
        (
            "Health.admit",
            "gateway_permit.settle(Sample.NEUTRAL, now)",
            "gateway_permit.settle(Sample.NEUTRAL, None)",
        ): _NEUTRAL,
        (
            "Health.panic",
            "gateway_permit.settle(Sample.NEUTRAL, now)",
            "gateway_permit.settle(Sample.NEUTRAL, None)",
        ): _NEUTRAL,
        ("Health._catch_up", "permit.settle(Sample.NEUTRAL, now)", "permit.settle(Sample.NEUTRAL, None)"): _NEUTRAL,
        (
            "Health.panic",
            "gateway, entry = self._gateway(target.gateway), self._entry(target, now)",
            "gateway, entry = self._gateway(target.gateway), self._entry(target, None)",
        ): "sorting the targets has made their entries",
        (
            "Health._choose",
            "for key in keys if len(keys) == 1 else by_load(keys):",
            "for key in keys if (len(keys) == 1) and False else by_load(keys):",
        ): "a single key is in order: only the speed differs",
        (
            "Health._resting",
            "if now >= self._quiet_from:",
            "if now > self._quiet_from:",
        ): "what ends at this moment is not in force any more",
        (
            "Health._rest",
            "if present is None or present.until < cooldown.until:",
            "if present is None or present.until <= cooldown.until:",
        ): "of two that end at the same moment either will do",
        (
            "Health._storm",
            'scope = key_scope("key", target, key)',
            "scope = key_scope(None, target, key)",
        ): "it names an entry of a table of its own",
        (
            "Health._storm",
            'scope = key_scope("key", target, key)',
            'scope = key_scope("XXkeyXX", target, key)',
        ): "it names an entry of a table of its own",
        (
            "Health._storm",
            'scope = key_scope("key", target, key)',
            'scope = key_scope("KEY", target, key)',
        ): "it names an entry of a table of its own",
        (
            "Health._opens_at",
            'return float("inf") if model is None or gateway is None else max(model, gateway)',
            'return float("INF") if model is None or gateway is None else max(model, gateway)',
        ): CASE,
        (
            "_last",
            'last = max(refusals, key=lambda refusal: float("inf") if refusal.retry_at is None else refusal.retry_at)',
            'last = max(refusals, key=lambda refusal: float("INF") if refusal.retry_at is None else refusal.retry_at)',
        ): CASE,
    },
    "strategies": {
        (
            "Weighted.order",
            "drawn = sorted(zip(times, candidates, weights, strict=True), key=lambda each: each[0])",
            "drawn = sorted(zip(times, candidates, weights, strict=None), key=lambda each: each[0])",
        ): ZIPPED,
        (
            "Weighted.order",
            "drawn = sorted(zip(times, candidates, weights, strict=True), key=lambda each: each[0])",
            "drawn = sorted(zip(times, candidates, weights, ), key=lambda each: each[0])",
        ): ZIPPED,
        (
            "Weighted.order",
            "drawn = sorted(zip(times, candidates, weights, strict=True), key=lambda each: each[0])",
            "drawn = sorted(zip(times, candidates, weights, strict=False), key=lambda each: each[0])",
        ): ZIPPED,
        (
            "_promise",
            "return 1, 0.0",
            "return 1, 1.0",
        ): _ONE_RANK,
        (
            "_promise",
            "return (2, 0.0) if math.isinf(score.expected_seconds) else (0, score.expected_seconds)",
            "return (3, 0.0) if math.isinf(score.expected_seconds) else (0, score.expected_seconds)",
        ): _ONE_RANK,
        (
            "_promise",
            "return (2, 0.0) if math.isinf(score.expected_seconds) else (0, score.expected_seconds)",
            "return (2, 1.0) if math.isinf(score.expected_seconds) else (0, score.expected_seconds)",
        ): _ONE_RANK,
        (
            "MultiModel.order",
            'places = {name: place for place, name in reversed([*enumerate(self.rules.get(rule or "", ()))])}',
            'places = {name: place for place, name in reversed([*enumerate(self.rules.get(rule or "XXXX", ()))])}',
        ): "no rule has either name",
        (
            "_figures",
            'told = f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"',
            'told = f"{seconds:.2g}" if seconds <= 10 else f"{seconds:.0f}"',
        ): _TWO_FIGURES,
        (
            "_figures",
            'told = f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"',
            'told = f"{seconds:.2g}" if seconds < 11 else f"{seconds:.0f}"',
        ): _TWO_FIGURES,
        (
            "needs_catalog",
            'return bool(getattr(strategy, "needs_catalog", False))',
            'return bool(getattr(strategy, "needs_catalog", None))',
        ): FALSY,
        (
            "needs_scores",
            'return bool(getattr(strategy, "needs_scores", False))',
            'return bool(getattr(strategy, "needs_scores", None))',
        ): FALSY,
    },
    "itinerary": {
        (
            "Itinerary._next_fit",
            "yield from self._read_catalogs(asked=False)",
            "yield from self._read_catalogs(asked=None)",
        ): FALSY,
        (
            "Itinerary._in_order",
            "yield from self._read_catalogs(asked=False)",
            "yield from self._read_catalogs(asked=None)",
        ): FALSY,
        (
            "Itinerary.__init__",
            "self._free = self._reservations is None and router.fleet is None",
            "self._free = None",
        ): _UNASKED,
        (
            "Itinerary._admit",
            "refusal = None if self._free else (yield from self._allowed(candidate, got, first=first))",
            "refusal = None if (self._free) and False else (yield from self._allowed(candidate, got, first=first))",
        ): _UNASKED,
        (
            "Itinerary.with_other_key",
            "admission = yield from self._once_more(candidate, others, again=False)",
            "admission = yield from self._once_more(candidate, others, again=None)",
        ): FALSY,
        (
            "Itinerary.__init__",
            "self._ordered = self._strategy is None",
            "self._ordered = None",
        ): "without a strategy the order stays as it is: only the speed differs",
    },
    "call": {
        (
            "Call.http_request",
            "headers = merged(access.headers, request.headers) if request.headers else access.headers",
            "headers = merged(access.headers, request.headers) if (request.headers) or True else access.headers",
        ): "of none there is nothing to merge: only the speed differs",
        (
            "Call.failed_signal",
            "if failure.failure in CLOCKS and self.left() <= TOLERANCE:",
            "if failure.failure in CLOCKS and self.left() < TOLERANCE:",
        ): _TOLERANCE,
        (
            "reach",
            "if unsent and not trial.reconnected and call.left() > TOLERANCE:",
            "if unsent and not trial.reconnected and call.left() >= TOLERANCE:",
        ): _TOLERANCE,
        (
            "Call._cost",
            "images = needs_of(self.request).images if model is not None and model.pricing.image else 0",
            "images = needs_of(self.request).images if (model is not None and model.pricing.image) or True else 0",
        ): _IMAGES,
        (
            "Call._cost",
            "images = needs_of(self.request).images if model is not None and model.pricing.image else 0",
            "images = needs_of(self.request).images if model is not None and model.pricing.image else 1",
        ): _IMAGES,
        (
            "exchange",
            'text = response.body[:2048] if body is None else b""',
            'text = response.body[:2049] if body is None else b""',
        ): "only its first word is looked at",
        ("exchange", "trial.admission.settle(Sample.OK, Blame.NOBODY)", "trial.admission.settle(Sample.OK, None)"): (
            "good news are those of model and gateway alike"
        ),
        ("exchange", "return Result(OK, completion)", "return Result(None, completion)"): (
            "who has the value does not ask for the verdict"
        ),
    },
    "ladder": {
        (
            "pursue",
            "trial.admission.settle(Sample.NEUTRAL, Blame.NOBODY)",
            "trial.admission.settle(Sample.NEUTRAL, None)",
        ): NOBODY,
        (
            "_not_made",
            "admission.settle(Sample.NEUTRAL, Blame.NOBODY)",
            "admission.settle(None, Blame.NOBODY)",
        ): LOCKED,
        (
            "_not_made",
            "admission.settle(Sample.NEUTRAL, Blame.NOBODY)",
            "admission.settle(Sample.NEUTRAL, None)",
        ): NOBODY,
        (
            "onward",
            "call.ledger.free_attempts += 1",
            "call.ledger.free_attempts = 1",
        ): "there was none before",
    },
    "router": {
        (
            "Router._reach",
            'headers = {"Content-Type": "application/json", **settings.headers(gateway)}',
            'headers = {"content-type": "application/json", **settings.headers(gateway)}',
        ): _HEADER,
        (
            "Router._reach",
            'headers = {"Content-Type": "application/json", **settings.headers(gateway)}',
            'headers = {"CONTENT-TYPE": "application/json", **settings.headers(gateway)}',
        ): _HEADER,
        (
            "Router.models",
            "return found[0] if len(found) == 1 else tuple(model for models in found for model in models)",
            "return found[0] if (len(found) == 1) and False else tuple(model for models in found for model in models)",
        ): "of a single gateway they are the same: only the speed differs",
        (
            "Router.model",
            'for candidate in plan.named(self.settings, ChatRequest.build("", model=model, fallback_models=())).targets:',
            'for candidate in plan.named(self.settings, ChatRequest.build("", model=model, fallback_models=None)).targets:',
        ): "what the call does not name is passed over",
        (
            "Router.model",
            'for candidate in plan.named(self.settings, ChatRequest.build("", model=model, fallback_models=())).targets:',
            'for candidate in plan.named(self.settings, ChatRequest.build("", model=model, )).targets:',
        ): "what the call does not name is passed over",
        (
            "Router.model",
            'for candidate in plan.named(self.settings, ChatRequest.build("", model=model, fallback_models=())).targets:',
            'for candidate in plan.named(self.settings, ChatRequest.build("XXXX", model=model, fallback_models=())).targets:',
        ): "nobody is sent that message",
        (
            "Router.explain",
            "outlook = None if self.strategy is None else self.outlook(request, counted=False)",
            "outlook = None if self.strategy is None else self.outlook(request, counted=None)",
        ): FALSY,
        (
            "Router.explain",
            "outlook = None if self.strategy is None else self.outlook(request, counted=False)",
            "outlook = None if (self.strategy is None) and False else self.outlook(request, counted=False)",
        ): "without a strategy nobody looks at it: only the speed differs",
        (
            "Router._in_order",
            "if self.strategy is None or outlook is None:",
            "if self.strategy is None and outlook is None:",
        ): "without a strategy there is no outlook, and with one there is",
        (
            "Router._read_each",
            "first: APIError | DeadlineExceededError | None = None",
            'first: APIError | DeadlineExceededError | None = ""',
        ): "where none failed, nobody looks for the first error",
    },
}
