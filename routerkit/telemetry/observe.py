"""Events to observers and to the logger ``routerkit``.

Logged are models, gateways, statuses, verdicts and times: no prompt, no answer, no message of a gateway, no key.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from routerkit.types.event import (
    AttemptFinished,
    BreakerChanged,
    BreakerState,
    CallFinished,
    CatalogRefreshed,
    Event,
    Observer,
    StrategyFailed,
)

log = logging.getLogger("routerkit")
log.addHandler(logging.NullHandler())


class Observers:
    """All who want to know."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def wanted(self) -> bool:
        """Whether anybody listens to the ordinary course of calls: an observer, or a log at INFO or below."""
        return bool(self._observers) or log.isEnabledFor(logging.INFO)

    def notify(self, event: Event) -> None:
        """Tell everybody. What an observer raises is logged, and changes nothing."""
        record(event)
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                log.exception("an observer failed on %s", type(event).__name__)


def record(event: Event) -> None:
    """Write one event to the log."""
    if isinstance(event, AttemptFinished):
        attempt = event.attempt
        level = logging.DEBUG if attempt.verdict.code == "ok" else logging.INFO
        status = "-" if attempt.status is None else attempt.status
        log.log(
            level, "attempt %s: %s (status %s, %.3f s)", attempt.target, attempt.verdict.code, status, attempt.duration
        )
    elif isinstance(event, CallFinished):
        route = event.route
        models = " > ".join(route.models) or "no model"
        log.debug("call %s: %s in %.3f s", event.error or "answered", models, route.duration)
    elif isinstance(event, BreakerChanged):
        level = logging.WARNING if event.state is BreakerState.OPEN else logging.INFO
        log.log(level, "breaker of %s: %s", event.scope, event.state)
    elif isinstance(event, StrategyFailed):
        log.warning("strategy %s failed (%s); the order is as planned", event.strategy, event.error)
    elif isinstance(event, CatalogRefreshed):
        if event.partial is not None:
            log.warning(
                "catalogue of %s is incomplete: one of its two lists could not be read (%s); %d models",
                *(event.gateway, event.partial, event.models),
            )
        if event.error is None:
            log.debug("catalogue of %s: %d models, %d entries unusable", event.gateway, event.models, event.dropped)
            for jump in event.jumps:
                log.warning(
                    "%s on %s: the price %s rose from %s to %s USD",
                    *(jump.model, event.gateway, jump.component, jump.before, jump.after),
                )
        else:
            log.warning(
                "catalogue of %s could not be read (%s); %d models kept", event.gateway, event.error, event.models
            )
