"""What a client knows of the health of models, gateways and keys: breakers, cooldowns, retry budgets.

One :class:`Health` serves all calls of a client, under one lock that is held for microseconds and never over an effect.
Breakers learn from failures; a cooldown is a time until which a model, gateway or key is skipped because the server said so:
it counts nothing, never grows and ends by itself.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import attrs
from cachetools import TLRUCache

from routerkit.core.breaker import Breaker, Permit
from routerkit.core.cooldown import Cooldown, Scope, key_scope, scope_of
from routerkit.core.effects import Lock, Runtime
from routerkit.core.hold import ALL, Hold
from routerkit.core.keys import Key, by_load
from routerkit.core.limits import Denial
from routerkit.core.retry import RetryBudget
from routerkit.core.verdict_table import GATEWAY_COOLDOWN_CAP
from routerkit.types.event import BreakerChanged, BreakerState
from routerkit.types.policy import BreakerPolicy, RetryPolicy
from routerkit.types.route import Target
from routerkit.types.verdict import Blame, Sample, Verdict

if TYPE_CHECKING:
    from routerkit.core.fleet import Hearsay, Leases

T = TypeVar("T")

MAX_ENTRIES = 10_000
"""Of each kind: model ids may come from users, and memory must not grow with them."""
STORM_MODELS = 3
"""So many models of one key rate limited within ``STORM_SECONDS``: it is the key that is limited."""
STORM_SECONDS = 10.0


@attrs.frozen
class Refusal:
    """Why a target is not tried now."""

    reason: str
    retry_at: float | None
    """On the monotonic clock; ``None``: not by waiting."""
    cooldown: Cooldown | None = None
    """``None``: its breaker refuses."""
    gateway_wide: bool = False
    """Whether it holds for every model of the gateway."""

    passing: bool = False
    """Whether it is a model's own cooldown of a length that no server asked for: a call that waited need not heed it."""
    denial: Denial | None = None
    """The limit or budget that refuses, where it is one."""

    @property
    def gives_way(self) -> float:
        """When, on the monotonic clock; ``inf``: not by waiting."""
        return float("inf") if self.retry_at is None else self.retry_at


@attrs.define(eq=False)
class TargetHealth:
    breaker: Breaker
    budgets: dict[str, RetryBudget] = attrs.field(factory=dict)
    """By owner of keys: what one tenant spends on retries is not another's."""


class Admission:
    """Leave to make one attempt with one key: the permits of the model's and of the gateway's breaker.

    Settled once, else neutral.
    """

    __slots__ = ("_gateway", "_health", "_model", "_released", "_settled", "hold", "key", "leases", "started")

    def __init__(self, health: Health, model: Permit, gateway: Permit, key: Key, started: float) -> None:
        self._health = health
        self._settled = False
        self._released = not key.counted
        self._model = model
        self._gateway = gateway
        self.key = key
        self.started = started
        self.hold: Hold | None = None
        """What limits and budgets granted for it."""
        self.leases: Leases | None = None
        """By which it alone of its fleet probes."""

    @property
    def probes(self) -> bool:
        """Whether it tries a model or a gateway that may still be down."""
        return self._model.probe or self._gateway.probe

    @property
    def probing(self) -> tuple[Permit, ...]:
        """Its permits of half-open breakers, the gateway's first."""
        return tuple(permit for permit in (self._gateway, self._model) if permit.probe)

    def release(self) -> None:
        """The attempt is over: its key has less to do."""
        if not self._released:
            self._released = True
            self.key.give_back()

    def give_up(self) -> None:
        """Nobody will say what it came to: what limits and budgets granted counts in full. Takes no lock."""
        if self.hold is not None:
            self.hold.settle_soon(ALL)

    def settle(self, sample: Sample, blame: Blame) -> None:
        """``ok`` is good news of both; anything else goes to the one blamed and is neutral for the other."""
        if not self._settled:
            self._settled = True
            self._health.settle(self._model, self._gateway, sample, blame)

    def broke(self, sample: Sample) -> None:
        """The model's stream broke after the attempt was settled."""
        self._health.record(self._model, sample)

    def reached(self) -> None:
        """The gateway answers, whatever its model will do: good news of the gateway."""
        if not self._settled:
            self._health.reached(self._gateway)


class Health:
    def __init__(
        self,
        runtime: Runtime,
        breaker: BreakerPolicy,
        retry: RetryPolicy,
        notify: Callable[[BreakerChanged], object] | None = None,
    ) -> None:
        self._runtime = runtime
        self._breaker_policy = breaker
        self._retry_policy = retry
        self._notify = notify
        self._lock: Lock = runtime.lock()
        self._targets: OrderedDict[Target, TargetHealth] = OrderedDict()
        """The one used last, last."""
        self._gateways: dict[str, Breaker] = {}
        self._wide: dict[Scope, Cooldown] = {}
        """Of gateways and keys, which are few."""
        self._cooldowns: TLRUCache[Scope, Cooldown] = TLRUCache(
            MAX_ENTRIES, ttu=lambda _, cooldown, __: cooldown.until, timer=runtime.monotonic
        )
        self._quiet_from = 0.0
        """When the last cooldown ends: from then on nobody needs to look for one."""
        self._limited: dict[Scope, dict[str, float]] = {}
        """Per key, when which models were rate limited last."""
        self._given_back: deque[tuple[Permit, Permit]] = deque()
        """Permits whose attempts taught nothing. They are given back by whoever takes the lock next: it may be the garbage
        collector that ends an attempt, while this very thread holds the lock."""
        self._turn = 0
        """Counts the attempts whose key was chosen among several."""
        self._hearsay: Hearsay | None = None

    def follow(self, hearsay: Hearsay) -> None:
        """Have the fleet told of breakers, and its word heeded, from now on."""

        def begin(now: float) -> None:
            self._hearsay = hearsay
            for breaker in (*self._gateways.values(), *(entry.breaker for entry in self._targets.values())):
                hearsay.know(breaker, now)

        self.consult(begin)

    def consult(self, ask: Callable[[float], T]) -> T:
        """What ``ask(now)`` says, which may look at breakers and move them: nobody else does meanwhile."""
        now = self._runtime.monotonic()
        with self._lock:
            self._catch_up(now)
            return ask(now)

    def forget_lock(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = self._runtime.lock()

    def admit(
        self, target: Target, keys: Sequence[Key], *, lease: float, stream: bool, again: bool = False
    ) -> Admission | Refusal:
        """Leave for one attempt with the least loaded of the keys that may be used, or why not. Costs nothing but this.

        ``again``: the call tried this target before, and waited; a cooldown that no server asked for does not stop it.
        """
        now = self._runtime.monotonic()
        with self._lock:
            self._catch_up(now)
            key, resting = self._choose(target, keys, now, again=again)
            if resting:
                return self._refusal(target, resting, now)
            entry = self._entry(target, now)
            gateway_permit = self._gateway(target.gateway).acquire(now, lease=lease)
            if gateway_permit is None:
                return self._refusal(target, resting, now)
            permit = entry.breaker.acquire(now, lease=lease, watch=stream)
            if permit is None:
                gateway_permit.settle(Sample.NEUTRAL, now)
                return self._refusal(target, resting, now)
            if not again:
                self._budget(entry, key.owner, now).deposit()
            return self._admitted(permit, gateway_permit, key, now)

    def peek(self, target: Target, keys: Sequence[Key]) -> Refusal | None:
        """Why the target would be refused now, without taking anything."""
        now = self._runtime.monotonic()
        with self._lock:
            self._catch_up(now)
            _, resting = self._choose(target, keys, now)
            refusals = self._refusals(target, resting, now)
            return _last(refusals) if refusals else None

    def panic(
        self, targets: Sequence[Target], keys_of: Callable[[Target], Sequence[Key]], *, lease: float
    ) -> tuple[Target, Admission] | None:
        """One probe a second, to the target whose breakers open soonest, for a call that has no other target left."""
        now = self._runtime.monotonic()
        with self._lock:
            self._catch_up(now)
            for target in sorted(targets, key=lambda target: self._opens_at(target, now)):
                key, resting = self._choose(target, keys_of(target), now)
                if resting:
                    continue  # the server said so, perhaps since it was refused
                gateway, entry = self._gateway(target.gateway), self._entry(target, now)
                gateway_permit = gateway.acquire(now, lease=lease) or gateway.panic(now, lease=lease)
                if gateway_permit is None:
                    continue
                permit = entry.breaker.acquire(now, lease=lease) or entry.breaker.panic(now, lease=lease)
                if permit is not None:
                    return target, self._admitted(permit, gateway_permit, key, now)
                gateway_permit.settle(Sample.NEUTRAL, now)
        return None

    def settle(self, model: Permit, gateway: Permit, sample: Sample, blame: Blame) -> None:
        """Called by :meth:`Admission.settle`. Takes no lock for ``neutral``."""
        if sample is Sample.NEUTRAL:
            self._given_back.append((model, gateway))
            return
        now = self._runtime.monotonic()
        with self._lock:
            self._catch_up(now)
            model.settle(sample if blame is Blame.MODEL or sample is Sample.OK else Sample.NEUTRAL, now)
            gateway.settle(sample if blame is Blame.GATEWAY or sample is Sample.OK else Sample.NEUTRAL, now)

    def reached(self, gateway: Permit) -> None:
        """Called by :meth:`Admission.reached`."""
        now = self._runtime.monotonic()
        with self._lock:
            self._catch_up(now)
            gateway.settle(Sample.OK, now)

    def record(self, model: Permit, sample: Sample) -> None:
        """Called by :meth:`Admission.broke`."""
        now = self._runtime.monotonic()
        with self._lock:
            self._catch_up(now)
            model.breaker.record(sample, now, model)

    def may_retry(self, target: Target, owner: str = "") -> bool:
        """Whether the target's retry budget of this owner allows another attempt on it; it is then paid for."""
        now = self._runtime.monotonic()
        with self._lock:
            return self._budget(self._entry(target, now), owner, now).withdraw(now)

    def cool(self, target: Target, key: Key, verdict: Verdict, status: int | None) -> None:
        """Let the blamed scope rest, as the verdict says."""
        if not verdict.cooldown:
            return
        now = self._runtime.monotonic()
        cooldown = Cooldown(now + verdict.cooldown, verdict, status)
        with self._lock:
            self._rest(scope_of(target, key, verdict), cooldown)
            if verdict.code == "rate_limited" and self._storm(target, key, now):
                until = min(cooldown.until, now + GATEWAY_COOLDOWN_CAP)
                self._rest(key_scope("key", target, key), Cooldown(until, verdict, status))

    def states(self) -> dict[str, BreakerState]:
        """The state of every breaker, by ``model on gateway`` or gateway."""
        with self._lock:
            self._catch_up(self._runtime.monotonic())
            states = {name: breaker.state for name, breaker in self._gateways.items()}
            states.update({str(target): entry.breaker.state for target, entry in self._targets.items()})
            return states

    def cooldowns(self, owner: str | None = None) -> dict[str, float]:
        """Seconds left of every cooldown, by ``model on gateway``, gateway or ``the key of gateway``.

        ``owner``: without those that concern the keys of other owners.
        """
        now = self._runtime.monotonic()
        with self._lock:
            left: dict[str, float] = {}
            wide = [(scope, cooldown) for scope, cooldown in self._wide.items() if cooldown.until > now]
            for scope, cooldown in (*self._cooldowns.items(), *wide):
                if owner is None or scope.owner in ("", owner):
                    left[str(scope)] = max(left.get(str(scope), 0.0), cooldown.until - now)
            return left

    def breaker(self, gateway: str, model: str | None = None) -> Breaker:
        """For operators and tests: the breaker of a model, or of a whole gateway."""
        with self._lock:
            self._catch_up(self._runtime.monotonic())
            if model is None:
                return self._gateway(gateway)
            return self._entry(Target(gateway, model), self._runtime.monotonic()).breaker

    def rests(self, gateway: str, key: Key) -> bool:
        """Whether a key rests, for all models of its gateway."""
        with self._lock:
            cooldown = self._wide.get(key_scope("key", Target(gateway, ""), key))
            return cooldown is not None and cooldown.until > self._runtime.monotonic()

    def _catch_up(self, now: float) -> None:
        while self._given_back:
            for permit in self._given_back.popleft():
                permit.settle(Sample.NEUTRAL, now)

    def _refusal(self, target: Target, resting: list[Refusal], now: float) -> Refusal:
        return _last(self._refusals(target, resting, now))

    def _refusals(self, target: Target, resting: list[Refusal], now: float) -> list[Refusal]:
        """Everything that stands in the way of a target: its cooldowns, and breakers that refuse."""
        refusals = [*resting]
        gateway = self._gateways.get(target.gateway)
        if gateway is not None and _refuses(gateway, now):
            refusals.append(refusal_of(gateway, now))
        entry = self._targets.get(target)
        if entry is not None and _refuses(entry.breaker, now):
            refusals.append(refusal_of(entry.breaker, now))
        return refusals

    def _choose(
        self, target: Target, keys: Sequence[Key], now: float, *, again: bool = False
    ) -> tuple[Key, list[Refusal]]:
        """The key to take, and what stands in its way: nothing, if there is one that may be used."""
        refused = []
        for key in keys if len(keys) == 1 else by_load(keys):
            resting = self._resting(target, key, now)
            if again:
                resting = [refusal for refusal in resting if not refusal.passing]
            if not resting:
                return key, resting
            refused.append((key, resting))
        key, resting = min(refused, key=lambda choice: _ends(choice[1]))
        if len(refused) > 1 and not all(any(why.gateway_wide for why in each) for _, each in refused):
            # Another key may serve other models.
            resting = [attrs.evolve(refusal, gateway_wide=False) for refusal in resting]
        return key, resting

    def _admitted(self, model: Permit, gateway: Permit, key: Key, now: float) -> Admission:
        if key.counted:
            self._turn += 1
            key.take(self._turn)
        return Admission(self, model, gateway, key, now)

    def _resting(self, target: Target, key: Key, now: float) -> list[Refusal]:
        if now >= self._quiet_from:
            return []
        gateway, model = target.gateway, target.model
        scopes = [
            Scope("gateway", gateway),
            key_scope("key", target, key),
            Scope("model", gateway, model=model),
            Scope("limited", gateway, key.owner, key.name, model),
            Scope("policy", gateway, key.owner, model=model),
        ]
        if model.endswith(":free"):
            scopes.append(key_scope("free", target, key))
        found = []
        for scope in scopes:
            cooldown = self._cooldowns.get(scope) if scope.model else self._wide.get(scope)
            if cooldown is not None and cooldown.until > now:
                what = "rests" if scope.model else f"{scope} rests"
                wide = scope.kind in ("gateway", "key")
                passing = bool(scope.model) and cooldown.verdict.retry_after is None
                found.append(Refusal(f"{what} after {cooldown.verdict.code}", cooldown.until, cooldown, wide, passing))
        return found

    def _rest(self, scope: Scope, cooldown: Cooldown) -> None:
        kept = self._cooldowns if scope.model else self._wide
        present = kept.get(scope)
        if present is None or present.until < cooldown.until:
            kept[scope] = cooldown
            self._quiet_from = max(self._quiet_from, cooldown.until)

    def _storm(self, target: Target, key: Key, now: float) -> bool:
        scope = key_scope("key", target, key)
        before = self._limited.get(scope, {})
        limited = {model: when for model, when in before.items() if when > now - STORM_SECONDS}
        limited[target.model] = now
        self._limited[scope] = limited
        return len(limited) >= STORM_MODELS

    def _opens_at(self, target: Target, now: float) -> float:
        model = self._entry(target, now).breaker.retry_at(now)
        gateway = self._gateway(target.gateway).retry_at(now)
        return float("inf") if model is None or gateway is None else max(model, gateway)

    def _entry(self, target: Target, now: float) -> TargetHealth:
        entry = self._targets.get(target)
        if entry is None:
            if len(self._targets) >= MAX_ENTRIES:
                self._evict(now)
            entry = self._targets[target] = TargetHealth(self._breaker(str(target)))
        else:
            self._targets.move_to_end(target)
        return entry

    def _evict(self, now: float) -> None:
        """Drop the tenth that was not used for longest, of those with which nothing is lost; an open breaker is kept.

        Where breakers open faster than they are forgotten, the oldest go all the same, once there are twice as many.
        """
        count = MAX_ENTRIES // 10
        forgettable = [target for target, entry in self._targets.items() if entry.breaker.forgettable(now)]
        if len(forgettable) < count and len(self._targets) >= 2 * MAX_ENTRIES:
            forgettable = list(self._targets)
        for target in forgettable[: count if len(forgettable) >= count else 0]:
            del self._targets[target]

    def _budget(self, entry: TargetHealth, owner: str, now: float) -> RetryBudget:
        budget = entry.budgets.get(owner)
        if budget is None:
            budget = entry.budgets[owner] = RetryBudget(self._retry_policy, now)
        return budget

    def _gateway(self, name: str) -> Breaker:
        breaker = self._gateways.get(name)
        if breaker is None:
            breaker = self._gateways[name] = self._breaker(name, wide=True)
        return breaker

    def _breaker(self, scope: str, *, wide: bool = False) -> Breaker:
        breaker = Breaker(self._breaker_policy, self._runtime.random, self._changed, scope, wide=wide)
        if self._hearsay is not None:
            self._hearsay.know(breaker, self._runtime.monotonic())
        return breaker

    def _changed(self, breaker: Breaker, open_for: float, news: bool) -> None:
        if self._notify is not None:
            self._notify(BreakerChanged(breaker.scope, breaker.state, open_for))
        if news and self._hearsay is not None:
            self._hearsay.note(breaker)


def refusal_of(breaker: Breaker, now: float) -> Refusal:
    """What a breaker says to those whom it refuses."""
    whose = f"the breaker of gateway {breaker.scope}" if breaker.wide else "its breaker"
    told = breaker.hearsay and breaker.state is BreakerState.OPEN
    reason = f"{whose} is {breaker.state}{': another process saw it fail' if told else ''}"
    return Refusal(reason, breaker.retry_at(now), gateway_wide=breaker.wide)


def _ends(resting: list[Refusal]) -> float:
    return max(refusal.cooldown.until for refusal in resting if refusal.cooldown is not None)


def _last(refusals: list[Refusal]) -> Refusal:
    """Several refusals of one target as one, which holds until the last of them gives way."""
    if len(refusals) == 1:
        return refusals[0]
    last = max(refusals, key=lambda refusal: float("inf") if refusal.retry_at is None else refusal.retry_at)
    cooldown = last.cooldown or next((refusal.cooldown for refusal in refusals if refusal.cooldown is not None), None)
    wide = any(refusal.gateway_wide for refusal in refusals)
    return attrs.evolve(last, cooldown=cooldown, gateway_wide=wide)


def _refuses(breaker: Breaker, now: float) -> bool:
    retry_at = breaker.retry_at(now)
    return retry_at is None or retry_at > now
