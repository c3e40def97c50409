"""Puts together what a client can tell of its whole fleet: sums, open breakers, and what is used of limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING

from routerkit.core import plan
from routerkit.core.fleet import PROBING, Board, Hint, Taken
from routerkit.core.fleet_accounts import Sums, usd
from routerkit.core.limits import MICROSECONDS, MINUTE, Charge, Counting, Kind, period_end
from routerkit.core.quota_list import charges_of
from routerkit.errors import ConfigurationError, InvalidRequestError, StoreUnavailableError
from routerkit.types.fleet import KEPT_DAYS, FleetReport, LimitState, OpenBreaker
from routerkit.types.request import ChatRequest
from routerkit.types.secret import shown
from routerkit.types.settings import Settings
from routerkit.types.store import StoreReport

if TYPE_CHECKING:
    from routerkit.core.router import Router

AT_A_TIME = 50
"""Limits that are looked at at once."""
_NANO = 9


def fleet_report(router: Router, days: int, store: Callable[[], StoreReport] | None) -> Counting[FleetReport]:
    """What the fleet of a client did in so many days, and how it is now; of a tenant's client, its own part. This process tells
    what it has to tell before. ``store`` tells how the store does; ``None``: there is none.

    Raises InvalidRequestError, ConfigurationError where processes share nothing, StoreUnavailableError.
    """
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= KEPT_DAYS:
        raise InvalidRequestError(f"days={shown(days)}: must be a whole number from 1 to {KEPT_DAYS}")
    settings, board, accounts = router.settings, router.board, router.shared_accounts
    if board is None or accounts is None or store is None:
        why = "in dev mode nothing is shared" if settings.dev_mode is not None else "this one counts for itself"
        raise ConfigurationError(f"a fleet is a client's with a store that processes share (store='redis://…'): {why}")
    heard = yield from accounts.flush()
    sums = (yield from accounts.read(days)) if heard else None
    if sums is not None and router.fleet is not None:
        yield from router.fleet.sync()
    hints = None if sums is None else (yield from board.exchange([]))
    limits = None if hints is None else (yield from _limits(settings, board))
    if sums is None or hints is None or limits is None:
        where = f" at {settings.store.address}" if settings.store is not None else ""
        raise StoreUnavailableError(
            f"the store{where} cannot be asked now, which knows what the fleet saw: see that it runs and can be reached from here"
        )
    return FleetReport(
        days=days,
        since=sums.since,
        usage=sums.usage(settings.tenant),
        stats=sums.stats(settings.tenant),
        stats_by_tenant=sums.stats_by_tenant(settings.tenant),
        breakers=tuple(_breakers(router, board, hints, sums)),
        limits=tuple(limits),
        store=store(),
        left_out=sums.left_out,
        unreadable=sums.unreadable,
    )


def _limits(settings: Settings, board: Board) -> Counting[list[LimitState] | None]:
    """What is used of every limit that the settings name."""
    owners: dict[str, list[Charge]] = {}
    for owner, charge in charges_of(settings):
        owners.setdefault(owner, []).append(charge)
    states: list[LimitState] = []
    for owner, charges in owners.items():
        for start in range(0, len(charges), AT_A_TIME):
            some = charges[start : start + AT_A_TIME]
            seen = yield from board.look(owner, some)
            if seen is None:
                return None
            now, several = seen
            states += [_state(owner, charge, taken, now) for charge, taken in zip(some, several, strict=True)]
    return states


def _state(owner: str, charge: Charge, taken: Taken, now: float) -> LimitState:
    """``now``: of the store, in Unix seconds."""
    if charge.kind is Kind.RATE:
        used, held = -(-taken.number // MINUTE), 0
        resets_at = now + taken.number / max(1, charge.cap) / MICROSECONDS if used else None
    else:
        used, held, resets_at = taken.taken, taken.held, period_end(charge, taken.number)
    amounts: list[int | Decimal] = [charge.cap, used, held]
    if charge.kind is Kind.MONEY:
        amounts = [usd(amount, _NANO) for amount in (charge.cap, used, held)]
    return LimitState(
        owner=owner or None,
        label=charge.label,
        kind=str(charge.kind),
        cap=amounts[0],
        used=amounts[1],
        held=amounts[2],
        resets_at=resets_at,
    )


def _breakers(router: Router, board: Board, hints: Mapping[str, Hint], sums: Sums) -> list[OpenBreaker]:
    """The hints, by the names that this process knows of what they may be about."""
    left = dict(hints)
    found: list[OpenBreaker] = []
    for scope in _scopes(router, sums) if left else ():
        if not left:
            break
        hint = left.pop(board.name(scope), None)
        if hint is not None:
            found.append(_open(scope, hint))
    found += [_open("", hint) for hint in left.values()]
    return sorted(found, key=lambda breaker: (breaker.age, breaker.scope))


def _open(scope: str, hint: Hint) -> OpenBreaker:
    return OpenBreaker(scope=scope, age=hint.age, left=max(0.0, hint.left - PROBING))


def _scopes(router: Router, sums: Sums) -> Iterator[str]:
    """What a breaker may be of: of gateways, and of models that this process has asked, that its settings name, that anybody in
    the fleet has used, that the catalogues in memory list."""
    used = (f"{row.model} on {row.gateway}" for row in sums.usage().rows)
    listed = (f"{model.id} on {name}" for name, snapshot in router.snapshots().items() for model in snapshot.models)
    return chain(router.access, router.health.states(), _named(router.settings), used, listed)


def _named(settings: Settings) -> Iterator[str]:
    """Targets of models that the settings name: the client's, and its tenants'."""
    several = [(settings.default_model, settings.fallback_models)]
    several += [(tenant.default_model, tenant.fallback_models or ()) for tenant in settings.tenants.values()]
    for model in dict.fromkeys(model for default, fallbacks in several for model in (default, *fallbacks) if model):
        request = ChatRequest.build("", model=model, fallback_models=())
        yield from (str(candidate.target) for candidate in plan.named(settings, request).targets)
