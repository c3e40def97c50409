"""What is examined: the settings as a client would have them, what stands in their way, and the line to the gateways.

The settings are read as a client reads them. Where that fails they are read once more without the variables at fault, so that
the rest can be looked at. An address is never left out: the key might go to another one than it was meant for.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from routerkit.config import Options, settings_from
from routerkit.core.effects import Await, Emit, HttpResponse, Send, Sleep, Step
from routerkit.env_file import below, from_file
from routerkit.environment import Variables
from routerkit.errors import ConfigurationError
from routerkit.telemetry.observe import record
from routerkit.tenancy import settings_for, tenant_keys
from routerkit.transport.drive import advance
from routerkit.transport.failures import destination
from routerkit.transport.runtime import SystemRuntime
from routerkit.types.gateway import Gateway
from routerkit.types.policy import Timeouts
from routerkit.types.secret import Secret, origin_of
from routerkit.types.settings import Settings
from routerkit.types.store import SharedStore
from routerkit.variable_names import UNKNOWN

if TYPE_CHECKING:
    from routerkit.cli.options import Shared
    from routerkit.core.catalog import Snapshot
    from routerkit.transport.origins import Origins
    from routerkit.transport.requests import RequestsTransport

T = TypeVar("T")

MAX_PROBLEMS = 20
"""Variables that cannot be read, of which each is told."""

OFFLINE: Options = {"store": "memory", "performance_cache": False}
"""Without what a client does besides asking gateways: the store has checks of its own."""

NAMED = re.compile(r"[A-Z][A-Z0-9]*_[^\s:=\[]+")
"""The variable with which an error begins."""
_NEVER_WITHOUT = ("_BASE_URL", "_ENABLED")


class Noted(Mapping[str, str]):
    """Variables, and which of them somebody looked at."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        value = self._values[name]
        self.read.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@attrs.frozen
class Owned:
    """A key, where it stands and whose it is."""

    secret: Secret
    gateway: Gateway
    tenant: str
    """Empty for the client's own."""
    variable: str
    """Empty where none holds it."""

    @property
    def name(self) -> str:
        whose = f" (tenant {self.tenant})" if self.tenant else ""
        return f"key …{self.secret.fingerprint} of {self.gateway.name}{whose}"


@attrs.frozen
class Answered:
    """When an answer came, and what its server took for the time."""

    origin: str
    before: float
    """Unix seconds on this machine's clock, as ``after``."""
    after: float
    date: str


@attrs.define(eq=False)
class Subject:
    """One examination. Checks read it, and write into it what later ones depend on."""

    shared: Shared
    seconds: float
    """For each check that waits."""
    question: str | None = None
    """The model to be asked, if one is."""
    environment: Mapping[str, str] = attrs.field(factory=lambda: Variables(os.environ), repr=False)
    file: str | None = None
    in_file: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    """``None``: there is no file, or it cannot be read."""
    values: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    read: set[str] = attrs.field(factory=set)
    """Names of variables that a client looks at."""
    settings: Settings | None = None
    store: SharedStore | None = None
    problems: list[ConfigurationError] = attrs.field(factory=list)
    oddities: list[str] = attrs.field(factory=list)
    """What the library logs about the settings."""
    obstacle: str = ""
    """Why nothing is sent, if that is so."""
    closed: dict[str, str] = attrs.field(factory=dict)
    """By origin, why it cannot be reached."""
    origins: Origins | None = None
    snapshots: dict[str, Snapshot] = attrs.field(factory=dict, repr=False)
    """The catalogues that could be read, by gateway."""
    answers: list[Answered] = attrs.field(factory=list)
    runtime: SystemRuntime = attrs.field(factory=SystemRuntime)
    _transport: RequestsTransport | None = None

    # --- settings ---

    def examine(self) -> None:
        """Read the settings."""
        self.file = self.shared.environment()
        self.values = self.environment
        with self._listening():
            try:
                if self.file is not None:
                    self.in_file = Variables(from_file(self.file))
                    self.values = below(self.environment, self.in_file, self.file)
                self.settings = self._settings()
                if self.settings is not None and self.shared.tenant is not None:
                    self.settings = settings_for(self.settings, self.shared.tenant)
            except ConfigurationError as error:
                self.problems.append(error)
                self.settings = None
        self._look_for_store()
        if self.settings is None:
            self.obstacle = "the settings cannot be read"
        elif self.dev:
            self.obstacle = "in dev mode nothing is sent"

    def _look_for_store(self) -> None:
        """The store that the variables name, whatever else is wrong with them."""
        noted = Noted({name: value for name, value in self.values.items() if name.startswith("ROUTERKIT_STORE")})
        try:
            # Of a server that has no variables of its own only those are read that belong to none.
            self.store = settings_from(noted, base_url="http://127.0.0.1/", dev_mode=False).store
        except ConfigurationError as error:
            self.problems.append(error)
        self.read |= noted.read

    def _settings(self) -> Settings | None:
        values = dict(self.values)
        for _ in range(MAX_PROBLEMS):
            noted = Noted(values)
            try:
                return settings_from(noted, **self.shared.told({**OFFLINE}))
            except ConfigurationError as error:
                if not self._follows(error):
                    self.problems.append(error)
                match = NAMED.match(str(error))
                if match is None or match[0] not in values or match[0].endswith(_NEVER_WITHOUT):
                    break
                del values[match[0]]
            finally:
                self.read |= noted.read
        return self._without_key(values)

    def _follows(self, error: ConfigurationError) -> bool:
        """Whether it is only the consequence of a key that could not be read."""
        return "API key" in str(error) and any("_API_KEY" in str(each) for each in self.problems)

    def _without_key(self, values: Mapping[str, str]) -> Settings | None:
        """The settings of whoever needs no key, or is not to use dev mode; ``None`` where more is wrong."""
        lenient = {name: value for name, value in values.items() if name != "ROUTERKIT_ENV"}
        for dev_mode in (False, True):
            try:
                settings = settings_from(lenient, **self.shared.told({**OFFLINE, "dev_mode": dev_mode}))
            except ConfigurationError:
                continue
            return attrs.evolve(settings, dev_mode=None)
        return None

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Hear what the library has to say of the settings."""
        log, oddities = logging.getLogger("routerkit"), self.oddities

        class Listener(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if record.msg != UNKNOWN:  # each of these has a check of its own
                    oddities.append(record.getMessage())

        listener = Listener(logging.WARNING)
        log.addHandler(listener)
        try:
            yield
        finally:
            log.removeHandler(listener)

    @property
    def dev(self) -> bool:
        return self.settings is not None and self.settings.dev_mode is not None

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        return () if self.settings is None else self.settings.gateways

    def keys(self, gateway: Gateway) -> list[Owned]:
        """The keys for a gateway: the client's, then its tenants'."""
        settings = self.settings
        if settings is None:
            return []
        owners = [(settings.tenant or "", settings.keys)]
        owners += [(name, tenant_keys(settings.gateways, tenant)) for name, tenant in settings.tenants.items()]
        return [
            Owned(secret, gateway, tenant, self._holder(secret))
            for tenant, keys in owners
            for secret in keys.get(gateway.name, ())
        ]

    def _holder(self, secret: Secret) -> str:
        """The variable in which a key stands."""
        for name in sorted(self.read):
            value = self.values.get(name, "")
            if "_API_KEY" in name and secret.reveal() in [part.strip() for part in value.split(",")]:
                return name
        return ""

    def source(self, variable: str) -> str:
        """Where a variable is set, as people read it."""
        here = self.environment.get(variable, "").strip()
        return "environment" if here or self.file is None else self.file

    # --- the line to the gateways ---

    @property
    def timeouts(self) -> Timeouts:
        seconds = self.seconds
        return Timeouts(min(5.0, seconds), seconds, seconds, seconds, seconds, total=seconds)

    def obstacle_to(self, url: str) -> str:
        """Why a URL is not asked; nothing when it is."""
        return self.obstacle or self.closed.get(origin_of(url), "")

    def drive(self, step: Step[T]) -> T:
        """Perform a step of the core over the transport of clients. Raises what the step raises."""
        value: T = advance(step, self._perform).value  # type: ignore[union-attr]  # it delivers nothing
        return value

    def _perform(self, order: Any) -> Any:
        if isinstance(order, Send):
            return self._sent(order)
        if isinstance(order, Sleep):
            return self.runtime.sleep(order.seconds)
        if isinstance(order, Await):
            return self.runtime.wait(order.latch, order.seconds)
        if isinstance(order, Emit):
            return record(order.event)
        raise TypeError(f"no check orders {type(order).__name__}")

    def _sent(self, order: Send) -> HttpResponse:
        if self._transport is None:
            from routerkit.transport.requests import RequestsTransport

            self._transport = RequestsTransport(self.gateways)
        before = time.time()
        response = self._transport.send(order)
        after = time.time()
        date = response.headers.get("date")
        if date and response.headers.get("age", "0").strip() == "0":  # else it is the date of a copy
            self.answers.append(Answered(destination(order.request.url).origin, before, after, date))
        return response

    def close(self) -> None:
        """Close idle connections."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
