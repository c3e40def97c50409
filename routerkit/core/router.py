"""The state that one client owns, and the entry points that drivers drive.

Each entry point is a generator of effects; :mod:`routerkit.core.effects` tells how to drive it. The examples hold a driver for
another HTTP library in one page.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from routerkit.core import call, plan, streaming
from routerkit.core.catalog import CatalogCache, Snapshot
from routerkit.core.effects import Runtime, Step, emit
from routerkit.core.health import Health
from routerkit.errors import APIError, DeadlineExceededError, InvalidRequestError
from routerkit.types.completion import Completion
from routerkit.types.event import BreakerChanged, Event
from routerkit.types.model import Model
from routerkit.types.policy import Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.route import Plan, Skip
from routerkit.types.secret import Credential
from routerkit.types.settings import Settings


class Router:
    """Decides; does no I/O. One router serves any number of calls, threads, tasks and event loops.

    ``observed`` tells whether anybody listens to the ordinary course of calls; when nobody does, no events are made of it.
    """

    def __init__(self, settings: Settings, runtime: Runtime, observed: Callable[[], bool] = lambda: True) -> None:
        gateway = settings.gateway
        self.settings = settings
        self.runtime = runtime
        self.observed = observed
        self.credential = None if settings.api_key is None else Credential(settings.api_key, gateway.base_url)
        self.key = "" if settings.api_key is None else settings.api_key.fingerprint
        """The name of the key in cooldowns; empty without one."""
        self.chat_url = gateway.chat_url
        self.headers = {"Content-Type": "application/json", **settings.headers()}
        self._default_plan: Plan | None = None
        self._changes: deque[BreakerChanged] = deque(maxlen=1000)
        self.health = Health(runtime, settings.breaker, settings.retry, self._changes.append)
        self.catalog = CatalogCache(gateway, runtime, settings.catalog_ttl)

    def sharing(self, settings: Settings) -> Router:
        """A router for the same gateway and key with other settings, which shares health and catalogue with this one."""
        other = Router(settings, self.runtime, self.observed)
        other.health, other.catalog, other._changes = self.health, self.catalog, self._changes
        return other

    def complete(self, request: ChatRequest) -> Step[Completion]:
        """One whole answer. Raises RouterKitError; every error carries the route."""
        return call.complete(self, request)

    def stream(self, request: ChatRequest) -> Step[streaming.Ended]:
        """Delivers chunks as they come, from the model that answers first. Raises as :meth:`complete` does before the first
        content, StreamInterruptedError after it."""
        return streaming.stream(self, request)

    def models(self, timeouts: Timeouts, *, refresh: bool = False) -> Step[tuple[Model, ...]]:
        """The gateway's catalogue. Raises APIError, DeadlineExceededError."""
        snapshot = yield from self.snapshot(timeouts, refresh=refresh)
        return snapshot.models

    def model(self, model: str, timeouts: Timeouts) -> Step[Model]:
        """One entry of the catalogue. Raises InvalidRequestError when there is none."""
        snapshot = yield from self.snapshot(timeouts)
        found = snapshot.get(model)
        if found is None:
            raise InvalidRequestError(f"model={model!r}: not in the catalogue of {self.settings.gateway.name}")
        return found

    def explain(self, request: ChatRequest) -> Step[Plan]:
        """The plan of a request, catalogue included, without sending it. Waits for the catalogue when none is in memory."""
        chosen = self.named(request)
        named = [each.target for each in chosen.targets]
        try:
            snapshot = yield from self.snapshot(request.timeouts)
        except (APIError, DeadlineExceededError) as error:
            rest = Plan((), (plan.unreadable(self.settings, error),))
        else:
            rest = plan.from_catalog(snapshot, self.settings, request, named, self.runtime.wall())
        targets, skipped = [], [*chosen.skipped]
        now = self.runtime.monotonic()
        for each in (*chosen.targets, *rest.targets):
            refusal = self.health.peek(each.target, self.key)
            if refusal is None:
                targets.append(each)
            else:
                wait = None if refusal.retry_at is None else max(0.0, refusal.retry_at - now)
                skipped.append(Skip(each.target, each.origin, refusal.reason, wait))
        return Plan(tuple(targets), (*skipped, *rest.skipped))

    def named(self, request: ChatRequest) -> Plan:
        """The targets that a request and the settings name; those of the settings alone are drawn once."""
        if request.model is not None or request.fallback_models is not None or "models" in request.params:
            return plan.named(self.settings, request)
        if self._default_plan is None:
            self._default_plan = plan.named(self.settings, request)
        return self._default_plan

    def snapshot(self, timeouts: Timeouts, *, refresh: bool = False) -> Step[Snapshot]:
        deadline = self.runtime.monotonic() + timeouts.total
        return self.catalog.get(self.credential, timeouts, deadline, refresh=refresh)

    @property
    def news(self) -> bool:
        """Whether :meth:`report` would tell anybody anything."""
        return bool(self._changes) or self.observed()

    def report(self, *events: Event) -> Step[None]:
        """Tell what breakers did meanwhile; and these events, when anybody listens to the ordinary course of calls."""
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
        """In a forked child: locks and fetches of the parent are not ours."""
        self.health.forget_lock()
        self.catalog.forget_fetch()
