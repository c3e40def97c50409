"""What both facades share: making settings, building requests, telling observers, surviving a fork."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs

from routerkit.config import ChangeableOptions, Options, changed, settings_from, spoken_of
from routerkit.core.effects import Emit, Step
from routerkit.core.router import Router
from routerkit.core.streaming import Ended
from routerkit.env_file import with_file
from routerkit.environment import Variables, hidden
from routerkit.errors import ConfigurationError, RouterKitError
from routerkit.telemetry.observe import Observers
from routerkit.tenancy import settings_for
from routerkit.transport.drive import abandon, advance, unwind
from routerkit.transport.runtime import SystemRuntime
from routerkit.types.completion import Completion
from routerkit.types.event import StoreChanged
from routerkit.types.policy import Timeouts
from routerkit.types.request import ChatRequest
from routerkit.types.route import Route
from routerkit.types.settings import Settings
from routerkit.types.store import StoreReport
from routerkit.types.usage import Stats, UsageReport

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from routerkit.core.limits import Store
    from routerkit.store.redis import RedisStore
    from routerkit.store.scores import ScoreFile
    from routerkit.transport.carrier import Carrier
    from routerkit.types.fleet import FleetReport
    from routerkit.types.request import CallOptions, Messages

_OWN = ("model", "fallback_models", "extra_body", "extra_headers", "allow_any_price", "on_interrupt")
"""Options of a call that are no request parameters."""

_SECRET = ("api_key", "store", "limits")
"""Options in which a key or a password may stand, be it by mistake."""

_ELSEWHERE = {
    "model": "default_model=",
    "models": "fallback_models=",
    "fallbacks": "fallback_models=",
    "max_retries": "retry=RetryPolicy(max_attempts=…)",
    "max_attempts": "retry=RetryPolicy(max_attempts=…)",
    "url": "base_url=",
    "api_base": "base_url=",
    "default_headers": "extra_headers= of a call",
    "env_file": "from_env(env_file=…)",
    "stream": "client.stream(…)",
}
"""What other libraries' words for options are here."""

LIMITS_OF_A_TENANT = 8
"""At most: four of its own, its budget, and what its keys may have."""

_living: weakref.WeakSet[ClientBase] = weakref.WeakSet()


@attrs.frozen
class Health:
    """What a client knows of the health of its models and gateways now."""

    breakers: dict[str, str]
    """State (``closed``, ``open``, ``half_open``) by ``model on gateway``, and by gateway."""
    cooldowns: dict[str, float]
    """Seconds left, by ``model on gateway``, by gateway or by key."""
    store: StoreReport | None = None
    """How the server does that counts for many processes; ``None``: this process counts for itself."""

    @property
    def store_lost(self) -> bool:
        """Whether that server cannot be asked: this process then decides alone."""
        return self.store is not None and self.store.lost

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**attrs.asdict(self), "store_lost": self.store_lost}


class ClientBase:
    """Not for use by itself: :class:`routerkit.Client` and :class:`routerkit.AsyncClient` are made of it."""

    _carrier: Carrier | None = None
    """What performs exchanges in the place of the HTTP library."""

    def __init__(
        self, *, runtime: SystemRuntime | None = None, transport: Carrier | None = None, **options: Unpack[Options]
    ) -> None:
        self._make(Variables(os.environ), options, runtime, transport)

    def _make(
        self, values: Mapping[str, str], options: Options, runtime: SystemRuntime | None, transport: Carrier | None
    ) -> None:
        if transport is not None and options.get("dev_mode") is None:
            options["dev_mode"] = False  # DEV_MODE would make up answers: an argument wins over the environment
        settings = self._settings(values, options)
        if transport is not None and settings.dev_mode is not None:
            raise ConfigurationError("transport= and dev_mode=True exclude each other: both stand in for the network")
        self._setup(settings, runtime)
        self._carrier = transport
        if settings.dev_mode is not None:
            from routerkit.transport.mock import MockTransport

            self._carrier = MockTransport(settings.dev_mode, settings.gateways)

    @classmethod
    def _settings(cls, values: Mapping[str, str], options: Options) -> Settings:
        unknown = _hide(options)
        if unknown:
            import difflib  # only mistakes need it

            near = [f"{name}=" for name in difflib.get_close_matches(unknown[0], Options.__annotations__, n=1)]
            meant = _ELSEWHERE.get(unknown[0]) or next(iter(near), None)
            hint = f"; did you mean {meant}?" if meant else ""
            raise TypeError(f"{cls.__name__}() got an unexpected keyword argument {unknown[0]!r}{hint}")
        return settings_from(values, **options)

    def _setup(self, settings: Settings, runtime: SystemRuntime | None) -> None:
        self.settings = settings
        """What the client was told; no key shows in its ``repr``."""
        self._runtime = SystemRuntime() if runtime is None else runtime
        self._observers = Observers(settings.observers)
        self._shared_store = _shared_store(settings, self._runtime, self._note)
        store = self._shared_store or _own_store(settings, self._runtime)
        board = None if self._shared_store is None else self._shared_store.board
        self.router = Router(settings, self._runtime, self._observers.wanted, store, board)
        if self._shared_store is not None:
            _check(self._shared_store)
        self._root: ClientBase = self
        """The client that owns the connections; another one, when made by :meth:`with_options`."""
        self._closed = False
        self._tenants: dict[str, Self] = {}
        self._scores_read = False
        self._score_file: ScoreFile | None = None
        if settings.performance_cache and settings.dev_mode is None:
            from routerkit.store.scores import ScoreFile

            self._score_file = ScoreFile(None, self.router.scores)
            weakref.finalize(self, self._score_file.save)
        _living.add(self)

    @classmethod
    def from_env(
        cls,
        env_file: str | os.PathLike[str] | None = None,
        *,
        runtime: SystemRuntime | None = None,
        transport: Carrier | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """A client made from the environment, and from a ``.env`` file when one is named.

        The environment wins over the file, and ``options`` (those of the constructor) over both. ``base_url`` alone is the address
        of the gateway that the environment speaks of, as ``OPENROUTER_BASE_URL`` would be. Raises ConfigurationError.
        """
        client = cls.__new__(cls)
        _hide(options)
        values = Variables(os.environ)
        if env_file is not None:
            values = with_file(env_file, values)
        url, named = options.get("base_url"), (options.get("gateway"), options.get("gateways"))
        if url is not None and named == (None, None):
            options["gateway"] = spoken_of(values, url)
        client._make(values, options, runtime, transport)
        return client

    def with_options(self, **options: Unpack[ChangeableOptions]) -> Self:
        """The same client with another ``timeout``, ``default_model``, ``fallback_models``, ``catalog_fallback``, ``strategy``,
        ``fallback_strategy``, ``retry``, ``app_url``, ``app_title``; or one that asks only the ``gateway`` of this name, of the
        client's several.

        It shares connections, catalogue, breakers and cooldowns with this one, and lives as long: closing it closes nothing.
        Raises ConfigurationError.
        """
        for name in options.keys() - ChangeableOptions.__annotations__.keys():
            options[name] = hidden(options[name])  # type: ignore[literal-required]  # it may be a key
        return self._with(changed(self.settings, options))

    def tenant(self, name: str) -> Self:
        """The client of one tenant, by its exact name: with its keys, models, statistics and usage.

        It shares connections, catalogues and the breakers of models and gateways with its siblings, and neither keys nor their
        cooldowns nor what the settings of their accounts exclude. It lives as long as this client: closing it closes nothing.
        Raises ConfigurationError when there is no such tenant.
        """
        known = self._tenants.get(name) if isinstance(name, str) else None
        if known is None:
            known = self._tenants.setdefault(name, self._with(settings_for(self.settings, name)))
        return known

    def _with(self, settings: Settings) -> Self:
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update(self.__dict__)
        other.settings = settings
        other.router = self.router.sharing(settings)
        other._tenants = {}
        _living.add(other)
        return other

    def usage(self) -> UsageReport:
        """What the calls of this process used, by tenant, gateway and model; a tenant's client tells its own. ``fleet()`` tells of
        all processes that share a store."""
        return self.router.accounts.usage(self.settings.tenant)

    def stats(self) -> Stats:
        """How the calls of this process went; a tenant's client tells of its own. ``fleet()`` tells of all."""
        return self.router.accounts.stats(self.settings.tenant)

    def health(self) -> Health:
        """Breakers and cooldowns as they are now, of this process."""
        states = {name: str(state) for name, state in self.router.health.states().items()}
        store = None if self._shared_store is None else self._shared_store.report()
        return Health(states, self.router.health.cooldowns(self.settings.tenant), store)

    def _fleet(self, days: int) -> Step[FleetReport]:
        from routerkit.core.fleet_report import fleet_report

        return fleet_report(self._usable, days, None if self._shared_store is None else self._shared_store.report)

    def _last_words(self, store: RedisStore) -> Step[None]:
        """Before the end: tell the store what waits for it."""
        if self.router.shared_scores is not None:
            yield from self.router.shared_scores.flush()
        if self.router.shared_accounts is not None:
            yield from self.router.shared_accounts.flush()
        yield from store.flush()

    def __repr__(self) -> str:
        settings = getattr(self, "settings", None)
        if settings is None:  # it could not be made
            return f"<{type(self).__name__}>"
        dev = ", dev mode" if settings.dev_mode else ""
        tenant = f", tenant={settings.tenant!r}" if settings.tenant else ""
        names, model = [gateway.name for gateway in settings.gateways], settings.default_model
        told = f"gateway={names[0]!r}" if len(names) == 1 else f"gateways={names}"
        return f"{type(self).__name__}({told}, default_model={model!r}{tenant}{dev})"

    @property
    def _usable(self) -> Router:
        """The router, as long as the client is open. Raises ConfigurationError."""
        if self._root._closed:
            raise ConfigurationError("this client is closed")
        return self.router

    def _request(self, messages: Messages, options: CallOptions, *, stream: bool) -> ChatRequest:
        """A call's request, validated. Raises InvalidRequestError."""
        own: dict[str, Any] = {}
        request: ChatRequest | None = None
        try:
            router = self._usable
            timeout = options.pop("timeout", None)
            own = {name: options.pop(name) for name in _OWN if name in options}  # type: ignore[misc]  # the names are literals
            timeouts = self.settings.timeouts if timeout is None else Timeouts.of(timeout)
            request = ChatRequest.build(messages, options, timeouts=timeouts, stream=stream, **own)
            router.check(request)
            return request
        except RouterKitError as error:
            refused = error
        # Error trackers show the locals of frames: those below hold the prompt, in this one it is forgotten.
        del messages, options, own, request
        refused.__traceback__ = refused.__context__ = None
        raise refused

    def _step(self, step: Step[Any]) -> Step[Any]:
        """A step as it is to be driven: by its carrier, if there is one, else over the network."""
        if self._score_file is not None:
            self._use_scores(self._score_file)
        return step if self._carrier is None else self._carrier.carry(step)

    def _use_scores(self, file: ScoreFile) -> None:
        """Before a call: take over what former processes have seen; later keep what this one has, now and then."""
        if not self._root._scores_read:
            self._root._scores_read = True
            file.load()
        file.save_if_due(self._runtime.monotonic())

    def _keep_scores(self) -> None:
        if self._score_file is not None:
            self._score_file.save()

    def _emit(self, order: Emit) -> None:
        self._observers.notify(order.event)

    def _note(self, event: StoreChanged) -> None:
        """Of the store; told to observers with the next call's events."""
        self.router.note(event)

    def _forked(self) -> None:
        self.router.forked()
        if self._score_file is not None:
            self._score_file.forget_lock()
        if self._carrier is not None:
            self._carrier.forked()


def _hide(options: Options) -> list[str]:
    """Hide what may be a key or a password from whoever looks at the frames of errors. The names of options that there are not."""
    unknown = sorted(options.keys() - Options.__annotations__.keys())
    for name in (*_SECRET, *unknown):
        if name in options:
            options[name] = hidden(options[name])  # type: ignore[literal-required]
    return unknown


def _shared_store(
    settings: Settings, runtime: SystemRuntime, notify: Callable[[StoreChanged], object]
) -> RedisStore | None:
    """The server that counts for many processes, if the settings name one; what is made up in dev mode does not count there.

    Raises ConfigurationError.
    """
    shared = settings.store
    if shared is None or settings.dev_mode is not None:
        return None
    from routerkit.store.redis import RedisStore

    return RedisStore(
        shared.reveal(),
        runtime,
        shared.namespace,
        shared.workers,
        shared.offline_allowance,
        notify=notify,
        max_names=_max_names(settings),
    )


def _max_names(settings: Settings) -> int:
    """How many limits there may be, each of which is to be remembered: those of tenants, and some more."""
    from routerkit.store.memory import MAX_NAMES

    return MAX_NAMES + LIMITS_OF_A_TENANT * len(settings.tenants)


def _check(store: RedisStore) -> None:
    """Ask once whether it can be used: one that is not there is done without until it is.

    Raises ConfigurationError where it refuses us.
    """
    link = store.link()
    try:
        advance(store.check(), link.perform)
    finally:
        link.close()


def _own_store(settings: Settings, runtime: SystemRuntime) -> Store | None:
    """This process's memory; ``None``: there is nothing to count."""
    tenants = settings.tenants.values()
    limited = settings.limits or any(tenant.limits is not None for tenant in tenants)
    if not limited and settings.budget is None and all(tenant.budget is None for tenant in tenants):
        return None
    from routerkit.store.memory import MemoryStore

    return MemoryStore(runtime, _max_names(settings))


class StreamBase:
    """What both kinds of stream know once they have ended."""

    _ended: Ended | None = None
    _completion: Completion | None = None

    @property
    def completion(self) -> Completion:
        """The whole answer, put together from the chunks. Raises RuntimeError before the stream has ended."""
        if self._ended is None:
            raise RuntimeError("the stream has not ended: read all its chunks first")
        if self._completion is None:
            self._completion = self._ended.completion()
        return self._completion

    @property
    def route(self) -> Route | None:
        """What was tried, in order; ``None`` before the stream has ended."""
        return None if self._ended is None else self._ended.route


def finalizer(stream: StreamBase, step: Step[Ended]) -> weakref.finalize[[Step[Ended]], Any]:
    """What gives back what a stream holds when the garbage collector finds it, or the interpreter exits; to be detached when the
    stream ends.

    It keeps the step out of the garbage: in a reference cycle the collector might end the step before it could clean up.
    """
    return weakref.finalize(stream, _abandoned, step)


def _abandoned(step: Step[Ended]) -> None:
    unwind(step, abandon)
    warnings.warn("a stream was neither closed nor read to its end", ResourceWarning, stacklevel=2)


def taken(messages: Messages, options: CallOptions) -> list[dict[str, Any]]:
    """What a call was given, in a list to be emptied, and no longer where it was: frames of errors show their locals."""
    given = [{"messages": messages, **options}]
    cast("dict[str, Any]", options).clear()
    return given


def _after_fork_in_child() -> None:
    for client in tuple(_living):
        client._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
