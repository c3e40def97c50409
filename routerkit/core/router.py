"""The state that one client owns, and the entry points that drivers drive.

Each entry point is a generator of effects; :mod:`routerkit.core.effects` tells how to drive it. The examples hold a driver for
another HTTP library in one page.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import attrs

from routerkit.core import call, plan, streaming
from routerkit.core.access import Access
from routerkit.core.catalog import CatalogCache, Snapshot
from routerkit.core.catalog_index import Query
from routerkit.core.effects import Runtime, Step, emit
from routerkit.core.fleet import Board, Fleet
from routerkit.core.fleet_accounts import SharedAccounts
from routerkit.core.health import Health
from routerkit.core.key_info import read_key_info
from routerkit.core.keys import Key, ring
from routerkit.core.limits import Store
from routerkit.core.needs import Needs, needs_of
from routerkit.core.performance import Scores
from routerkit.core.pricing import expected_cost
from routerkit.core.quotas import quotas_of
from routerkit.core.shared import SharedScores
from routerkit.core.strategies import Outlook, Priority, Strategy, needs_scores, strategy_of
from routerkit.core.turns import Turns
from routerkit.core.usage import Accounts
from routerkit.errors import APIError, ConfigurationError, DeadlineExceededError, InvalidRequestError
from routerkit.types.completion import Completion
from routerkit.types.event import BreakerChanged, Event, StoreChanged, StrategyFailed
from routerkit.types.gateway import Gateway
from routerkit.types.key_info import KeyInfo
from routerkit.types.model import Model
from routerkit.types.policy import Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.route import Candidate, Origin, Plan, Skip, Target
from routerkit.types.secret import listed, shown
from routerkit.types.settings import Settings


class Router:
    """Decides; does no I/O. One router serves any number of calls, threads, tasks and event loops.

    ``observed`` tells whether anybody listens to the ordinary course of calls; when nobody does, no events are made of it.
    ``store`` counts limits and budgets; where none are set, it may be ``None``. ``board`` carries what the processes of a fleet
    tell each other; one process alone has none.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        observed: Callable[[], bool] = lambda: True,
        store: Store | None = None,
        board: Board | None = None,
    ) -> None:
        self.runtime = runtime
        self.observed = observed
        self.store = store
        self.turns = Turns(runtime)
        self._changes: deque[BreakerChanged | StoreChanged | StrategyFailed] = deque(maxlen=1000)
        self.health = Health(runtime, settings.breaker, settings.retry, self._changes.append)
        self.board = None if settings.dev_mode is not None else board  # what a mock says is for nobody else
        self.fleet = None if self.board is None else Fleet(runtime, self.board, self.health)
        self.scores = Scores(runtime)
        self.shared_scores = None if self.board is None else SharedScores(self.scores, self.board, runtime)
        self.accounts = Accounts(runtime)
        self.shared_accounts = None if self.board is None else SharedAccounts(self.accounts, self.board, runtime)
        self._catalogs: dict[str, CatalogCache] = {}
        """By gateway."""
        self._rings: dict[tuple[str, str], tuple[Key, ...]] = {}
        """By tenant and gateway."""
        self._turns: dict[tuple[object, ...], int] = {}
        """By tenant and strategies, how many calls they have ordered."""
        self._settle(settings)

    def _settle(self, settings: Settings) -> None:
        self.settings = settings
        self.access = {gateway.name: self._reach(gateway) for gateway in settings.gateways}
        """How each gateway is reached, in their order."""
        self.strategy = _unless_priority(strategy_of(settings.strategy))
        """``None``: targets are tried in the order of the plan."""
        fallback = settings.fallback_strategy
        self.fallback_strategy = None if fallback is None else strategy_of(fallback)
        """``None``: the order stays after a failure."""
        strategies = (self.strategy, self.fallback_strategy)
        self.scored = settings.performance_cache or any(each is not None and needs_scores(each) for each in strategies)
        """Whether targets are scored: a strategy looks at it, or it is kept for later."""
        self._in_turn = (settings.tenant, *map(type, strategies))
        """Who takes turns together: views of the same strategies. What another strategy orders meanwhile is no turn of theirs."""
        self.quotas = quotas_of(settings, self.store, self.turns)
        """The limits and budgets that apply; ``None``: there are none."""
        self._default_plan: Plan | None = None

    def _reach(self, gateway: Gateway) -> Access:
        settings, name, owner = self.settings, gateway.name, self.settings.tenant or ""
        if name not in self._catalogs:
            # In dev mode nothing asks for a key, the list of models no more than the rest.
            listing = gateway if settings.dev_mode is None else attrs.evolve(gateway, key_required=False)
            self._catalogs.setdefault(name, CatalogCache(listing, self.runtime, settings.catalog_ttl, self.board))
        if (owner, name) not in self._rings:
            self._rings.setdefault((owner, name), ring(gateway, settings.keys.get(name, ()), owner))
        headers = {"Content-Type": "application/json", **settings.headers(gateway)}
        return Access(gateway, headers, self._rings[owner, name], self._catalogs[name])

    def sharing(self, settings: Settings) -> Router:
        """A router for the same gateways with other settings, which shares health and catalogues with this one; and the keys too,
        unless the settings are those of another tenant."""
        other = Router.__new__(Router)
        other.__dict__.update(self.__dict__)
        other._settle(settings)
        return other

    def complete(self, request: ChatRequest) -> Step[Completion]:
        """One whole answer. Raises RouterKitError; every error carries the route."""
        return call.complete(self, request)

    def stream(self, request: ChatRequest) -> Step[streaming.Ended]:
        """Delivers chunks as they come, from the model that answers first. Raises as :meth:`complete` does before the first
        content, StreamInterruptedError after it."""
        return streaming.stream(self, request)

    def check(self, request: ChatRequest) -> None:
        """Raises InvalidRequestError for a request that no gateway understands, ConfigurationError where a tenant must be named."""
        if self.settings.tenants:
            raise ConfigurationError("this client has tenants: say which one asks, with client.tenant(name)")
        if request.features:
            plan.check_features(self.settings, request)

    def models(
        self, timeouts: Timeouts, query: Query | None = None, *, refresh: bool = False
    ) -> Step[tuple[Model, ...]]:
        """The gateways' catalogues, one after the other; of them what a query finds.

        Raises APIError, DeadlineExceededError when none of them can be had.
        """
        snapshots = yield from self.read_catalogs(timeouts, refresh=refresh)
        found = [snapshot.models if query is None else snapshot.index.find(query) for snapshot in snapshots.values()]
        return found[0] if len(found) == 1 else tuple(model for models in found for model in models)

    def model(self, model: str, timeouts: Timeouts) -> Step[Model]:
        """One entry of the catalogues, by its id on the first gateway that lists it. Raises InvalidRequestError when none does."""
        snapshots = yield from self.read_catalogs(timeouts)
        for candidate in plan.named(self.settings, ChatRequest.build("", model=model, fallback_models=())).targets:
            snapshot = snapshots.get(candidate.gateway)
            found = (
                None if snapshot is None or candidate.origin is not Origin.REQUESTED else snapshot.get(candidate.model)
            )
            if found is not None:
                return found
        raise InvalidRequestError(f"model={model!r}: not in the catalogue of {' or '.join(self.access)}")

    def key_info(self, timeouts: Timeouts, gateway: str | None = None, key: str | None = None) -> Step[KeyInfo]:
        """What a gateway tells about a key: of the first gateway that tells anything, the first key, unless others are named.

        ``key``: a fingerprint. Raises InvalidRequestError, APIError, DeadlineExceededError.
        """
        if self.settings.tenants:
            raise ConfigurationError("this client has tenants: say whose key is meant, with client.tenant(name)")
        if gateway is not None and gateway not in [*self.access]:
            raise InvalidRequestError(f"gateway={shown(gateway)}: not among {listed([*self.access])}")
        telling = [name for name, access in self.access.items() if access.gateway.key_path]
        access = self.access[gateway or next(iter(telling or self.access))]
        if key is not None and not isinstance(key, str):
            raise InvalidRequestError(f"key={shown(key)}: must be the fingerprint of a key")
        for each in access.keys:
            if each.secret is None:
                fits = self.settings.dev_mode is not None
            else:
                fits = key is None or key.removeprefix("…") == each.secret.fingerprint
            if fits:
                return (yield from read_key_info(access.gateway, each.credential, timeouts, self.runtime))
        there = [each.secret.fingerprint for each in access.keys if each.secret is not None]
        what = f"key= is the fingerprint of none; there are {listed(there)}" if there else "it has none"
        raise InvalidRequestError(f"the key of {access.gateway.name}: {what}")

    def explain(self, request: ChatRequest) -> Step[Plan]:
        """The plan of a request, catalogues included, without sending it. Waits for catalogues that are not in memory."""
        self.check(request)
        yield from self.meet()
        chosen = self.named(request)
        failed: list[Skip] = []
        yield from self._read_each(request.timeouts, failed)
        rest = Plan()
        if self.draws(request):
            refused = [self.health.peek(each.target, self.access[each.gateway].keys) for each in chosen.targets]
            wide = {each.gateway for each, why in zip(chosen.targets, refused, strict=True) if why and why.gateway_wide}
            closed = {name for name, each in self.access.items() if name in wide or plan.lacks(each.gateway, request)}
            present = [each.target for each in chosen.targets]
            rest = plan.from_catalog(self.snapshots(), request, present, self.runtime.wall(), closed)
        targets, skipped, needs = [], [*chosen.skipped], needs_of(request)
        now = self.runtime.monotonic()
        outlook = None if self.strategy is None else self.outlook(request, counted=False)
        for each in (*self._in_order(chosen.targets, outlook), *self._in_order(rest.targets, outlook)):
            refusal = self.health.peek(each.target, self.access[each.gateway].keys)
            if refusal is None:
                targets.append(self._priced(each, needs))
            else:
                wait = None if refusal.retry_at is None else max(0.0, refusal.retry_at - now)
                skipped.append(Skip(each.target, each.origin, refusal.reason, wait))
        return Plan(tuple(targets), (*skipped, *rest.skipped, *failed))

    def _priced(self, candidate: Candidate, needs: Needs) -> Candidate:
        entry = self.entry(candidate.target)
        return candidate if entry is None else attrs.evolve(candidate, expected_cost=expected_cost(entry, needs))

    def _in_order(self, candidates: Sequence[Candidate], outlook: Outlook | None) -> Sequence[Candidate]:
        if self.strategy is None or outlook is None:
            return candidates
        return plan.in_order(self.strategy, candidates, outlook)

    def named(self, request: ChatRequest) -> Plan:
        """The targets that a request and the settings name; those of the settings alone are drawn once."""
        named = request.model is not None or request.fallback_models is not None or "models" in request.params
        if named or request.features:
            return plan.named(self.settings, request)
        if self._default_plan is None:
            self._default_plan = plan.named(self.settings, request)
        return self._default_plan

    def draws(self, request: ChatRequest) -> bool:
        """Whether models of the catalogue may be asked as a last resort: not where the gateway falls back by itself."""
        return self.settings.catalog_fallback and "models" not in request.params

    def entry(self, target: Target) -> Model | None:
        """What the catalogue in memory says of a target; ``None``: nothing."""
        snapshot = self.access[target.gateway].catalog.peek()
        return None if snapshot is None else snapshot.get(target.model)

    def outlook(self, request: ChatRequest, *, counted: bool = True) -> Outlook:
        """What a strategy may look at; ``counted``: for a call, of which strategies may take turns."""
        turn = self._turns.get(self._in_turn, 0)
        if counted:
            self._turns[self._in_turn] = turn + 1
        needs, day = needs_of(request), plan.today(self.runtime.wall())
        tell = self._changes.append if counted else None
        return Outlook(request, needs, self.entry, self.scores.get, self.runtime.random, turn, day, tell)

    def snapshots(self) -> dict[str, Snapshot]:
        """The catalogues in memory, by gateway."""
        kept = {name: access.catalog.peek() for name, access in self.access.items()}
        return {name: snapshot for name, snapshot in kept.items() if snapshot is not None}

    def read_catalogs(self, timeouts: Timeouts, *, refresh: bool = False) -> Step[dict[str, Snapshot]]:
        """All catalogues that can be had, by gateway. Raises the first gateway's error when there is none."""
        failed: list[Skip] = []
        error = yield from self._read_each(timeouts, failed, refresh=refresh)
        if error is not None and len(failed) == len(self.access):
            raise error
        return self.snapshots()

    def _read_each(
        self, timeouts: Timeouts, failed: list[Skip], *, refresh: bool = False
    ) -> Step[APIError | DeadlineExceededError | None]:
        """Have every catalogue in memory, each within its share of the time; the first error, if there was any."""
        first: APIError | DeadlineExceededError | None = None
        deadline = self.runtime.monotonic() + timeouts.total
        for place, access in enumerate(self.access.values()):
            now = self.runtime.monotonic()
            until = now + (deadline - now) / (len(self.access) - place)
            try:
                yield from access.read(self.health, timeouts, until, refresh=refresh)
            except (APIError, DeadlineExceededError) as error:
                first = first or error
                failed.append(plan.unreadable(access.gateway, error))
        return first

    def note(self, event: StoreChanged) -> None:
        """Something that happened beside the calls; it is told with the next that they report."""
        self._changes.append(event)

    def meet(self) -> Step[None]:
        """Hear what the other processes of the fleet have to tell, now and then, and tell them what this one has."""
        if self.fleet is not None:
            yield from self.fleet.sync()
        if self.shared_scores is not None and self.scored:
            yield from self.shared_scores.sync()
        if self.shared_accounts is not None and self.shared_accounts.due:
            yield from self.shared_accounts.sync()

    @property
    def news(self) -> bool:
        """Whether :meth:`report` would tell anybody anything."""
        return bool(self._changes) or self.observed()

    def report(self, *events: Event) -> Step[None]:
        """Tell what breakers and the store did meanwhile; and these events, when anybody listens to calls."""
        for event in self._taken():
            yield from emit(event)
        if self.observed():
            for event in events:
                yield from emit(event)

    def _taken(self) -> Iterator[Event]:
        while True:
            try:
                yield self._changes.popleft()
            except IndexError:  # empty, perhaps because another thread was faster
                return

    def forked(self) -> None:
        """In a forked child: locks, fetches and attempts under way of the parent are not ours."""
        if self.store is not None:
            self.store.forget()
        self.turns.forget()
        if self.fleet is not None:
            self.fleet.forked()
        if self.shared_scores is not None:
            self.shared_scores.forget()
        self.health.forget_lock()
        self.scores.forget_lock()
        self.accounts.forget_lock()
        if self.shared_accounts is not None:
            self.shared_accounts.forget()
        for catalog in self._catalogs.values():
            catalog.forget_fetch()
        for keys in self._rings.values():
            for key in keys:
                key.forget()


def _unless_priority(strategy: Strategy) -> Strategy | None:
    return None if isinstance(strategy, Priority) else strategy
