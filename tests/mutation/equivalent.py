"""Mutants that survive because they change nothing that anybody could see: (function, line before, line after), and why.

Keyed by the text of the line, so that an entry goes stale as soon as its line changes.
"""

from __future__ import annotations

_FALSY = "None is as false as False, and nobody compares it"
_FRESH = "set anew by the first transition, before anybody reads it"
_ONLY_PROBES = "says something of probes only, whose caller passes it"
_TIMELESS = "the time is looked at only by what opens or closes"
_UNIQUE = "generations are only compared for equality, and stay unique"
_FASTER = "another way to the same events: only the speed differs"
_LISTED = "that status has a row of its own in STATUSES, so it never comes here"
_NEUTRAL = "of a neutral sample nobody looks at the time"
_UNREAD = "of a place that has an obstacle the words are not read"
_CASE = "float() reads both"
_HEADER = "names of headers have no case"
_ONE_RANK = "who has this rank has all of it alike, and the ranks stay in order"
_ZIPPED = "they are equally many by construction"
_ASKED = "whoever denies names one of the charges that were asked for"
_REMEMBERED = "what was found before is found again: only the speed differs"

_OWNER = 'return next((owner for owner, charges in groups if charge in charges), "")'
_PERMIT = (
    "def __init__(self, breaker: Breaker, generation: int, started: float, probe: bool, last_hope: bool = {}) -> None:"
)

EQUIVALENT: dict[str, dict[tuple[str, str, str], str]] = {
    "breaker": {
        ("Permit.__init__", "self.settled = False", "self.settled = None"): _FALSY,
        ("Breaker.__init__", "self._forced = False", "self._forced = None"): _FALSY,
        ("Breaker.reset", "self._forced = False", "self._forced = None"): _FALSY,
        ("Breaker.__init__", "self._generation = 0", "self._generation = 1"): _UNIQUE,
        ("Breaker._lease", "self._generation += 1", "self._generation += 2"): _UNIQUE,
        ("Breaker._enter", "self._generation += 1", "self._generation += 2"): _UNIQUE,
        ("Breaker.__init__", "self._closed_at = 0.0", "self._closed_at = 1.0"): (
            "looked at from the second opening on; closing sets it in between"
        ),
        ("Breaker.__init__", "self._probes_ok = 0", "self._probes_ok = None"): _FRESH,
        ("Breaker.__init__", "self._probes_ok = 0", "self._probes_ok = 1"): _FRESH,
        ("Breaker.__init__", "self._leased_until = 0.0", "self._leased_until = None"): _FRESH,
        ("Breaker.__init__", "self._leased_until = 0.0", "self._leased_until = 1.0"): _FRESH,
        (
            "Breaker.__init__",
            'self._last_panic = float("-inf")',
            'self._last_panic = float("-INF")',
        ): _CASE,
        (
            "Breaker.acquire",
            "return self._permit(now, probe=False, watch=watch)",
            "return self._permit(now, probe=None, watch=watch)",
        ): _FALSY,
        (
            "Breaker.acquire",
            "self._enter(BreakerState.HALF_OPEN, now)",
            "self._enter(BreakerState.HALF_OPEN, None)",
        ): _TIMELESS,
        ("Breaker.panic", "self._enter(BreakerState.HALF_OPEN, now)", "self._enter(BreakerState.HALF_OPEN, None)"): (
            _TIMELESS
        ),
        (
            "Permit.__init__",
            _PERMIT.format(False),
            _PERMIT.format(True),
        ): "the one caller says which",
        (
            "Breaker._permit",
            "def _permit(self, now: float, *, probe: bool, watch: bool, last_hope: bool = False) -> Permit:",
            "def _permit(self, now: float, *, probe: bool, watch: bool, last_hope: bool = True) -> Permit:",
        ): _ONLY_PROBES,
        (
            "Breaker._lease",
            "return self._permit(now, probe=True, watch=False, last_hope=last_hope)",
            "return self._permit(now, probe=True, watch=None, last_hope=last_hope)",
        ): _FALSY,
        (
            "Breaker._lease",
            "return self._permit(now, probe=True, watch=False, last_hope=last_hope)",
            "return self._permit(now, probe=True, watch=True, last_hope=last_hope)",
        ): "nobody looks at those who wait while a probe is out, and closing forgets them",
        (
            "Breaker._open",
            "longest = min(policy.open_max, policy.open_seconds * 1.5 ** min(self._openings - 1, 64))",
            "longest = min(policy.open_max, policy.open_seconds * 1.5 ** min(self._openings - 1, 65))",
        ): "the cap is there against an overflow; 1.5^64 is beyond any open_max",
    },
    "keys": {
        (
            "ring",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=True))",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=None))",
        ): _ZIPPED,
        (
            "ring",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=True))",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, ))",
        ): _ZIPPED,
        (
            "ring",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=True))",
            "return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=False))",
        ): _ZIPPED,
    },
    "plan": {
        (
            "_places",
            'yield target, "", f"aliases: not on {gateway.name}"',
            'yield target, "XXXX", f"aliases: not on {gateway.name}"',
        ): _UNREAD,
        ("_places", '"",', '"XXXX",'): _UNREAD,
    },
    "health": {
        ("Admission.__init__", "self._settled = False", "self._settled = None"): _FALSY,
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
        ): _CASE,
        (
            "_last",
            'last = max(refusals, key=lambda refusal: float("inf") if refusal.retry_at is None else refusal.retry_at)',
            'last = max(refusals, key=lambda refusal: float("INF") if refusal.retry_at is None else refusal.retry_at)',
        ): _CASE,
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
        ): _FALSY,
        (
            "Router._read_each",
            "first: APIError | DeadlineExceededError | None = None",
            'first: APIError | DeadlineExceededError | None = ""',
        ): "where none failed, nobody looks for the first error",
    },
    "pricing": {
        (
            "price_jumps",
            "if len(found) >= MAX_JUMPS:",
            "if len(found) > MAX_JUMPS:",
        ): "what is too many is cut off all the same",
    },
    "usage": {
        (
            "_Tally.merge",
            "self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, strict=True)]",
            "self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, strict=None)]",
        ): _ZIPPED,
        (
            "_Tally.merge",
            "self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, strict=True)]",
            "self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, )]",
        ): _ZIPPED,
        (
            "_Tally.merge",
            "self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, strict=True)]",
            "self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, strict=False)]",
        ): _ZIPPED,
        (
            "_Tally.add",
            "if duration > self.duration_max:",
            "if duration >= self.duration_max:",
        ): "the maximum is the same",
        (
            "Accounts.usage",
            'rows.sort(key=lambda row: (row.tenant or "", row.gateway, row.model))',
            'rows.sort(key=lambda row: (row.tenant or "XXXX", row.gateway, row.model))',
        ): "a client has tenants or none",
        (
            "Accounts._row",
            "if self._counts.get(tenant, 0) >= MAX_ROWS:",
            "if self._counts.get(tenant, 1) >= MAX_ROWS:",
        ): "one row is always allowed",
    },
    "strategies": {
        (
            "Weighted.order",
            "drawn = sorted(zip(times, candidates, weights, strict=True), key=lambda each: each[0])",
            "drawn = sorted(zip(times, candidates, weights, strict=None), key=lambda each: each[0])",
        ): _ZIPPED,
        (
            "Weighted.order",
            "drawn = sorted(zip(times, candidates, weights, strict=True), key=lambda each: each[0])",
            "drawn = sorted(zip(times, candidates, weights, ), key=lambda each: each[0])",
        ): _ZIPPED,
        (
            "Weighted.order",
            "drawn = sorted(zip(times, candidates, weights, strict=True), key=lambda each: each[0])",
            "drawn = sorted(zip(times, candidates, weights, strict=False), key=lambda each: each[0])",
        ): _ZIPPED,
        (
            "PerformanceOptimized._first",
            "if outlook.random() < self.exploration:",
            "if outlook.random() <= self.exploration:",
        ): "of all that dice can show, it is one value",
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
            "needs_catalog",
            'return bool(getattr(strategy, "needs_catalog", False))',
            'return bool(getattr(strategy, "needs_catalog", None))',
        ): _FALSY,
        (
            "needs_scores",
            'return bool(getattr(strategy, "needs_scores", False))',
            'return bool(getattr(strategy, "needs_scores", None))',
        ): _FALSY,
    },
    "itinerary": {
        (
            "Itinerary._next_fit",
            "yield from self._read_catalogs(asked=False)",
            "yield from self._read_catalogs(asked=None)",
        ): _FALSY,
        (
            "Itinerary._in_order",
            "yield from self._read_catalogs(asked=False)",
            "yield from self._read_catalogs(asked=None)",
        ): _FALSY,
        (
            "Itinerary.__init__",
            "self._ordered = self._strategy is None",
            "self._ordered = None",
        ): "without a strategy the order stays as it is: only the speed differs",
    },
    "retry": {
        (
            "waits",
            "series = backoff.expo(base=2, factor=policy.backoff_base, max_value=policy.backoff_max)",
            "series = backoff.expo(factor=policy.backoff_base, max_value=policy.backoff_max)",
        ): "2 is backoff's default too; we do not depend on it",
    },
    "sse": {
        ("SSEDecoder.__init__", "self._after_cr = False", "self._after_cr = None"): _FALSY,
        (
            "SSEDecoder._decode",
            'elif self._event or data[:6] != b"data: " or len(data) > self._fast_limit:',
            'elif self._event or data[:6] != b"data: " or len(data) >= self._fast_limit:',
        ): _FASTER,
        ("SSEDecoder._whole_lines", 'whole = b""', "whole = None"): "the caller only asks whether there is any",
        ("SSEDecoder._whole_lines", 'whole = b""', 'whole = b"XXXX"'): "without a line end it holds no line",
        (
            "SSEDecoder._by_split",
            "if data.find(_LF) == len(data) - 2:",
            "if data.rfind(_LF) == len(data) - 2:",
        ): _FASTER,
        (
            "SSEDecoder._by_split",
            "if data.find(_LF) == len(data) - 2:",
            "if data.find(_LF) == len(data) + 2:",
        ): _FASTER,
        (
            "SSEDecoder._interpret",
            "long = len(data) > self._max_line",
            "long = len(data) >= self._max_line",
        ): _FASTER,
    },
    "verdict": {
        (
            "classify",
            "hint = parse_hint(signal.headers, signal.body, signal.wall) if signal.status is not None else None",
            (
                "hint = parse_hint(signal.headers, signal.body, signal.wall)"
                " if (signal.status is not None) or True else None"
            ),
        ): "without a status there are neither headers nor a body to find a hint in",
        ("_named", "general = None", 'general = ""'): "as false as None, and looked at with `or`",
        (
            "_refined",
            'text = message[:2000].lower() if isinstance(message, str) else ""',
            'text = message[:2000].lower() if isinstance(message, str) else "XXXX"',
        ): "no fragment is in it",
        ("_by_status", "if 300 <= status < 400:", "if 300 <= status <= 400:"): _LISTED,
        ("_by_status", "if 300 <= status < 400:", "if 300 <= status < 401:"): _LISTED,
        ("_by_status", "if 400 <= status < 500:", "if 401 <= status < 500:"): _LISTED,
        ("_by_status", "if 400 <= status < 500:", "if 400 < status < 500:"): _LISTED,
        ("_by_status", "if 400 <= status < 500:", "if 400 <= status <= 500:"): _LISTED,
        ("_by_status", "if 400 <= status < 500:", "if 400 <= status < 501:"): _LISTED,
        (
            "_by_status",
            'return "unknown_server_error" if 500 <= status < 600 else "unexpected_response"',
            'return "unknown_server_error" if 501 <= status < 600 else "unexpected_response"',
        ): _LISTED,
        (
            "_by_status",
            'return "unknown_server_error" if 500 <= status < 600 else "unexpected_response"',
            'return "unknown_server_error" if 500 < status < 600 else "unexpected_response"',
        ): _LISTED,
        (
            "_word",
            'return value.lower() if isinstance(value, str) else ""',
            'return value.lower() if isinstance(value, str) else "XXXX"',
        ): "neither is a word of the table",
    },
    "turns": {
        (
            "Queue.__init__",
            'self.patience = float("inf") if patience is None else patience',
            'self.patience = float("INF") if patience is None else patience',
        ): _CASE,
        ("Waiter.__init__", 'self.until = float("inf")', 'self.until = float("INF")'): _CASE,
        (
            "Queue.join",
            "self._waiting[waiter] = None",
            'self._waiting[waiter] = ""',
        ): "the dict is an ordered set: nobody looks at its values",
    },
    "hold": {
        ("owner_of", _OWNER, _OWNER.replace('""', "None")): _ASKED,
        ("owner_of", _OWNER, _OWNER.replace('""', "")): _ASKED,
        ("owner_of", _OWNER, _OWNER.replace('""', '"XXXX"')): _ASKED,
    },
    "quotas": {
        ("Quotas._rules_of", "found = self._found.get((target, key))", "found = None"): _REMEMBERED,
        ("Quotas._rules_of", "found = self._found.get((target, key))", "found = self._found.get(None)"): _REMEMBERED,
        ("Quotas._rule", "rule = self._rules.get(name)", "rule = None"): _REMEMBERED,
        ("Quotas._rule", "rule = self._rules.get(name)", "rule = self._rules.get(None)"): _REMEMBERED,
    },
    "reservations": {
        ("Reservations.__init__", "self._priced = False", "self._priced = None"): _FALSY,
        (
            "Reservations.make",
            "def make(self, target: Target, admission: Admission, *, first: bool = False) -> Step[Refusal | None]:",
            "def make(self, target: Target, admission: Admission, *, first: bool = True) -> Step[Refusal | None]:",
        ): "the one caller says which",
        (
            "Reservations.make",
            "admission.settle(Sample.NEUTRAL, Blame.NOBODY)",
            "admission.settle(None, Blame.NOBODY)",
        ): "of which nobody is to blame is neutral whatever it is: it only takes a lock",
        (
            "Reservations.make",
            "admission.settle(Sample.NEUTRAL, Blame.NOBODY)",
            "admission.settle(Sample.NEUTRAL, None)",
        ): "of a neutral sample nobody is to blame",
        ("Reservations._asked", "worst = _NOTHING", "worst = None"): "only budgets look at it",
        (
            "Reservations._known",
            "cost, refusal = self._denied.get(_limit(owner, charge), (0, None))",
            "cost, refusal = self._denied.get(_limit(owner, charge), (1, None))",
        ): "where there was no refusal its cost does not matter",
    },
    "limits": {
        (
            "Store.admit",
            'def admit(self, charges: Sequence[Charge], lease: float, owner: str = "") -> Counting[Grant | Denial]:',
            'def admit(self, charges: Sequence[Charge], lease: float, owner: str = "XXXX") -> Counting[Grant | Denial]:',
        ): "of a protocol: each store has a default of its own",
        ("scoop", "if more < 0:", "if more <= 0:"): "of nothing, nothing is given back",
        ("scoop", "if more < 0:", "if more < 1:"): "whole units, and of nothing nothing is given back",
    },
}
