"""The section "store": whether the server that counts for all processes can be used, how fast it is, and whether it forgets."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from routerkit.cli.doctor.check import CONFIGURATION, CONNECTION, Check, failed, ok, skipped, warning
from routerkit.cli.doctor.installation import packages
from routerkit.cli.doctor.subject import Subject
from routerkit.cli.render import roughly, seconds
from routerkit.core.effects import Ask, Loss, StoreFailure
from routerkit.errors import ConfigurationError
from routerkit.store.redis import RedisStore
from routerkit.store.redis_ask import SECONDS, ask, made
from routerkit.transport.drive import advance
from routerkit.types.gateway import Gateway
from routerkit.types.store import SharedStore

if TYPE_CHECKING:
    from routerkit.store.redis_link import RedisLink

T = TypeVar("T")

PINGS = 5
INFO = made("doctor", "return redis.call('INFO')")
"""The only command of which our logins need not be allowed anything."""


def checks(subject: Subject) -> Iterator[Check]:
    shared = subject.store
    if shared is None:
        broken = any("ROUTERKIT_STORE" in str(error) for error in subject.problems)
        none = "none: each process counts limits and budgets for itself"
        yield skipped("store", "its settings cannot be read") if broken else ok("store", none)
        return
    yield ok("store", _told(shared), address=shared.address, namespace=shared.namespace, workers=shared.workers)
    given = [shared.reveal()]
    try:
        store = RedisStore(given.pop(), subject.runtime, shared.namespace, shared.workers, shared.offline_allowance)
    except ConfigurationError as error:
        yield failed("store address", str(error), "correct ROUTERKIT_STORE", CONFIGURATION)
        return
    try:
        store.link().close()
    except ConfigurationError as error:
        yield failed("redis-py", str(error), "pip install 'routerkit[redis]'", CONFIGURATION)
        return
    yield from packages("store packages", "redis")
    if subject.dev:
        yield skipped("store login", "in dev mode nothing is counted there")
        return
    yield from _Session(store, subject.seconds).checks(subject.gateways)


def _told(shared: SharedStore) -> str:
    workers = "1 process" if shared.workers == 1 else f"{shared.workers} processes"
    return f"{shared.address}, namespace {shared.namespace}, for {workers}"


class _Session:
    """One login, with more patience than calls have."""

    def __init__(self, store: RedisStore, seconds: float) -> None:
        from routerkit.store.redis_link import RedisLink

        self._store = store
        self._seconds = seconds
        self._link: RedisLink = RedisLink(store.address, seconds)
        self._failure: StoreFailure | None = None

    def checks(self, gateways: tuple[Gateway, ...]) -> Iterator[Check]:
        try:
            first = self._login()
            yield first
            if self._failure is not None:
                yield skipped("store latency", "it cannot be used")
                yield skipped("store memory", "it cannot be used")
                return
            yield self._latency(first.facts["seconds"])
            yield self._memory()
            yield from self._lists(gateways)
        finally:
            self._link.close()

    def _perform(self, order: Ask) -> Any:
        try:
            return self._link.perform(attrs.evolve(order, seconds=self._seconds))
        except StoreFailure as failure:
            self._failure = failure
            raise

    def _drive(self, step: Generator[Ask, object, T]) -> T:
        value: T = advance(step, self._perform).value  # type: ignore[union-attr]  # it delivers nothing
        return value

    def _login(self) -> Check:
        began = time.monotonic()
        try:
            usable = self._drive(self._store.check())
        except ConfigurationError as error:
            return failed("store login", str(error), _remedy(self._failure), CONFIGURATION)
        took = time.monotonic() - began
        if not usable:
            return failed("store login", _words(self._failure, self._seconds), _remedy(self._failure), CONNECTION)
        told = f"let in, and every command is allowed; connected and asked in {seconds(took)}"
        return ok("store login", told, seconds=took)

    def _latency(self, first: float) -> Check:
        times = []
        for _ in range(PINGS):
            began = time.monotonic()
            if not self._drive(self._store.check()):
                return failed("store latency", _words(self._failure, self._seconds), _remedy(self._failure), CONNECTION)
            times.append(time.monotonic() - began)
        return latency(first, times)

    def _memory(self) -> Check:
        """Whether the server may throw counts away."""
        order = ask(INFO, (self._store._names.check("doctor"),), seconds=self._seconds)
        try:
            reply = self._link.perform(order)
        except StoreFailure as failure:
            return skipped("store memory", f"it does not say whether it evicts keys ({failure.detail or failure.loss})")
        told = _info(reply)
        policy, limit = told.get("maxmemory_policy"), told.get("maxmemory")
        version = told.get("valkey_version") or told.get("redis_version") or "unknown"
        name = "Valkey" if "valkey_version" in told else "Redis"
        facts = {"server": name, "version": version, "policy": policy, "maxmemory": limit, "role": told.get("role")}
        if policy is None or limit is None:
            return skipped("store memory", f"{name} {version} does not say whether it evicts keys", **facts)
        if policy == "noeviction" or limit == "0":
            bound = "no limit of memory" if limit == "0" else "it evicts nothing"
            return ok("store memory", f"{name} {version}, {bound} (maxmemory-policy {policy})", **facts)
        return warning(
            "store memory",
            f"{name} {version} may throw counts away when its memory is full (maxmemory-policy {policy})",
            "CONFIG SET maxmemory-policy noeviction, or a server for counts alone",
            **facts,
        )

    def _lists(self, gateways: tuple[Gateway, ...]) -> Iterator[Check]:
        """How old the catalogues are that processes share."""
        for gateway in gateways:
            blob = self._drive(self._store.board.read(f"list {gateway.catalog_url}"))
            age = None if blob is None else blob.age
            told = "none yet" if age is None else f"{roughly(age)} old"
            yield ok(f"shared list of {gateway.name}", told, age=age)


def latency(first: float, times: list[float]) -> Check:
    """What times to ask mean, in seconds; ``first``: with the time to connect."""
    median = statistics.median(times)
    told, facts = f"{seconds(median)} (median of {len(times)})", {"median": median, "times": times, "first": first}
    limit = f"a call waits {seconds(SECONDS)} for it at most"
    nearer = "use a store nearer to this machine"
    if median > SECONDS:
        return failed("store latency", f"{told}; {limit}: it would be taken for lost", nearer, CONNECTION, **facts)
    if first > SECONDS or median > SECONDS / 2:
        told = f"{told}, with connecting {seconds(first)}; {limit}, else it is taken for lost for a while"
        return warning("store latency", told, nearer, **facts)
    return ok("store latency", told, **facts)


def _info(reply: object) -> dict[str, str]:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""
    return dict(re.findall(r"^([a-z0-9_]+):([^\r\n]*)", text[:100_000], re.MULTILINE))


def _words(failure: StoreFailure | None, seconds: float) -> str:
    if failure is None:
        return "it cannot be used"
    if failure.loss is Loss.TIMEOUT:
        return f"no answer in {seconds:g} s"
    return f"it cannot be used ({failure.loss}: {failure.detail})" if failure.detail else f"{failure.loss}"


def _remedy(failure: StoreFailure | None) -> str:
    loss = None if failure is None else failure.loss
    if loss is Loss.DENIED:
        return "correct user and password in ROUTERKIT_STORE; what a login must be allowed: docs, fleets"
    if loss in (Loss.CONNECTION, Loss.TIMEOUT):
        return "start it, or correct ROUTERKIT_STORE; meanwhile each process counts for itself"
    return "see the server's log; meanwhile each process counts for itself"
