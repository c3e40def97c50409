"""As :mod:`tests.mutation.equivalent`, of what calls are made of: verdicts, breakers, streams, limits, prices."""

from __future__ import annotations

from tests.mutation.reasons import CASE, FALSY, LOCKED, NOBODY, ZIPPED, Equivalent

_FRESH = "set anew by the first transition, before anybody reads it"
_ONLY_PROBES = "says something of probes only, whose caller passes it"
_TIMELESS = "the time is looked at only by what opens or closes"
_UNIQUE = "generations are only compared for equality, and stay unique"
_FASTER = "another way to the same events: only the speed differs"
_LISTED = "that status has a row of its own in STATUSES, so it never comes here"
_ASKED = "whoever denies names one of the charges that were asked for"
_REMEMBERED = "what was found before is found again: only the speed differs"
_OWNER = 'return next((owner for owner, charges in groups if charge in charges), "")'
_PERMIT = (
    "def __init__(self, breaker: Breaker, generation: int, started: float, probe: bool, last_hope: bool = {}) -> None:"
)

PARTS: Equivalent = {
    "breaker": {
        ("Permit.__init__", "self.settled = False", "self.settled = None"): FALSY,
        ("Breaker.__init__", "self._forced = False", "self._forced = None"): FALSY,
        ("Breaker.reset", "self._forced = False", "self._forced = None"): FALSY,
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
        ): CASE,
        (
            "Breaker.acquire",
            "return self._permit(now, probe=False, watch=watch)",
            "return self._permit(now, probe=None, watch=watch)",
        ): FALSY,
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
        ): FALSY,
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
        ): ZIPPED,
        (
            "_Tally.merge",
            "self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, strict=True)]",
            "self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, )]",
        ): ZIPPED,
        (
            "_Tally.merge",
            "self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, strict=True)]",
            "self.durations = [ours + theirs for ours, theirs in zip(self.durations, other.durations, strict=False)]",
        ): ZIPPED,
        (
            "_Tally.add",
            "if duration > self.duration_max:",
            "if duration >= self.duration_max:",
        ): "the maximum is the same",
        (
            "Accounts.usage",
            'found.sort(key=lambda each: (each[0][0] or "", *each[0][1:]))',
            'found.sort(key=lambda each: (each[0][0] or "XXXX", *each[0][1:]))',
        ): "a client has tenants or none",
        (
            "Accounts._row",
            "if self._counts.get(tenant, 0) >= MAX_ROWS:",
            "if self._counts.get(tenant, 1) >= MAX_ROWS:",
        ): "one row is always allowed",
    },
    "retry": {
        (
            "waits",
            "series = backoff.expo(base=2, factor=policy.backoff_base, max_value=policy.backoff_max)",
            "series = backoff.expo(factor=policy.backoff_base, max_value=policy.backoff_max)",
        ): "2 is backoff's default too; we do not depend on it",
    },
    "sse": {
        ("SSEDecoder.__init__", "self._after_cr = False", "self._after_cr = None"): FALSY,
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
        ): CASE,
        ("Waiter.__init__", 'self.until = float("inf")', 'self.until = float("INF")'): CASE,
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
        (
            "Reservations.make",
            "def make(self, target: Target, admission: Admission, *, first: bool = False) -> Step[Refusal | None]:",
            "def make(self, target: Target, admission: Admission, *, first: bool = True) -> Step[Refusal | None]:",
        ): "the one caller says which",
        (
            "Reservations.make",
            "admission.settle(Sample.NEUTRAL, Blame.NOBODY)",
            "admission.settle(None, Blame.NOBODY)",
        ): LOCKED,
        (
            "Reservations.make",
            "admission.settle(Sample.NEUTRAL, Blame.NOBODY)",
            "admission.settle(Sample.NEUTRAL, None)",
        ): NOBODY,
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
