"""Asks a gateway about a key and the credits of its account, and reads the answers tolerantly."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from routerkit import __version__
from routerkit.core.effects import (
    CLOCKS,
    TOLERANCE,
    HttpRequest,
    HttpResponse,
    Runtime,
    Send,
    Step,
    TransportFailure,
    fetch,
)
from routerkit.core.failure import api_error, clean, failure_signal, response_signal
from routerkit.core.verdict import Signal, classify
from routerkit.core.verdict_table import Ending
from routerkit.errors import DeadlineExceededError, InvalidRequestError
from routerkit.types.gateway import Gateway
from routerkit.types.key_info import KeyInfo, RateLimit
from routerkit.types.policy import Timeouts
from routerkit.types.route import Target
from routerkit.types.secret import Credential, Secret

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20
"""Lists and objects in one another."""
MAX_MONEY = 10**12
"""USD; a larger figure is nonsense."""

_REFUSED = frozenset({401, 403, 404})
"""Of the credits: OpenRouter tells them to management keys only."""


def read_key_info(
    gateway: Gateway, credential: Credential | None, timeouts: Timeouts, runtime: Runtime
) -> Step[KeyInfo]:
    """What the gateway tells of the key, and of the account's credits where it tells those to this key.

    Both within ``timeouts.total``. Raises InvalidRequestError when the gateway tells nothing about keys, the APIError of the
    verdict when it refuses or fails, DeadlineExceededError when the time is used up.
    """
    if gateway.key_path is None:
        raise InvalidRequestError(f"gateway={gateway.name!r}: it tells nothing about keys (it has no key_path)")
    asking = _Asking(gateway, credential, timeouts, runtime)
    key = yield from asking.data(gateway.key_path)
    account: dict[str, Any] | None = None
    if gateway.credits_path is not None:
        account = yield from asking.data(gateway.credits_path, refusable=True)
    return parse_key_info(gateway, None if credential is None else credential.secret, key or {}, account)


class _Asking:
    """One key's questions to its gateway, with one deadline."""

    def __init__(self, gateway: Gateway, credential: Credential | None, timeouts: Timeouts, runtime: Runtime) -> None:
        self._gateway = gateway
        self._credential = credential
        self._secret = None if credential is None else credential.secret
        self._timeouts = timeouts
        self._runtime = runtime
        self._deadline = runtime.monotonic() + timeouts.total

    def data(self, path: str, *, refusable: bool = False) -> Step[dict[str, Any] | None]:
        """The ``data`` of an answer; ``None`` where it was refused and may be."""
        try:
            response = yield from fetch(self._order(path))
        except TransportFailure as failure:
            if failure.failure in CLOCKS and self._runtime.monotonic() >= self._deadline - TOLERANCE:
                raise self._late(path) from None
            signal, detail = failure_signal(failure), failure.detail
        else:
            if refusable and response.status in _REFUSED:
                return None
            outcome = self._read(response)
            if isinstance(outcome, dict):
                return outcome
            signal, detail = outcome, ""
        raise api_error(classify(signal), signal, Target(self._gateway.name, path), detail, self._secret)

    def _order(self, path: str) -> Send:
        left = self._deadline - self._runtime.monotonic()
        if left <= TOLERANCE:
            raise self._late(path)
        url = f"{self._gateway.base_url}{path}"
        headers = {"Accept": "application/json", "User-Agent": f"routerkit/{__version__}"}
        request = HttpRequest("GET", url, headers, None, self._credential)
        times = self._timeouts
        return Send(request, min(times.connect, left), min(times.first_byte, left), times.idle, left, MAX_BYTES)

    def _read(self, response: HttpResponse) -> dict[str, Any] | Signal:
        if response.status != 200:
            return response_signal(response, self._runtime.wall())
        signal = response_signal(response, self._runtime.wall(), ending=Ending.MALFORMED)
        data = signal.body.get("data") if isinstance(signal.body, dict) else None
        return _concealed(data, self._secret) if isinstance(data, dict) else signal

    def _late(self, path: str) -> DeadlineExceededError:
        return DeadlineExceededError(f"no time left to wait for {path} of {self._gateway.label or self._gateway.name}")


def parse_key_info(
    gateway: Gateway, secret: Secret | None, key: dict[str, Any], account: dict[str, Any] | None = None
) -> KeyInfo:
    """What the ``data`` of the two answers says. Never raises: what cannot be read is ``None``."""
    told = account or {}
    free = key.get("is_free_tier")
    return KeyInfo(
        gateway=gateway.name,
        fingerprint="" if secret is None else secret.fingerprint,
        label=_words(key.get("label")),
        limit=_money(key.get("limit")),
        limit_remaining=_money(key.get("limit_remaining"), owed=True),
        limit_reset=_words(key.get("limit_reset")),
        usage=_money(key.get("usage")),
        usage_daily=_money(key.get("usage_daily")),
        usage_weekly=_money(key.get("usage_weekly")),
        usage_monthly=_money(key.get("usage_monthly")),
        is_free_tier=free if isinstance(free, bool) else None,
        expires_at=_words(key.get("expires_at")),
        rate_limit=_rate_limit(key.get("rate_limit")),
        total_credits=_money(told.get("total_credits")),
        total_usage=_money(told.get("total_usage")),
        raw={"key": key, "credits": account},
    )


def _concealed(value: Any, secret: Secret | None, depth: int = 0) -> Any:
    """What a gateway tells, without the key, which some repeat; of nonsense that is nested deeper nothing."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return value if secret is None else secret.conceal(value)
    if isinstance(value, list):
        return [_concealed(each, secret, depth + 1) for each in value]
    if isinstance(value, dict):
        return {_concealed(name, secret): _concealed(each, secret, depth + 1) for name, each in value.items()}
    return value


def _money(value: Any, *, owed: bool = False) -> Decimal | None:
    """USD, with the digits of the JSON number; below zero only what can be ``owed``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    least = -MAX_MONEY if owed else 0
    return Decimal(repr(value)) if least <= value <= MAX_MONEY else None


def _words(value: Any) -> str | None:
    """A gateway's words, fit for a log line."""
    return clean(value) or None


def _rate_limit(value: Any) -> RateLimit | None:
    requests = value.get("requests") if isinstance(value, dict) else None
    if isinstance(requests, bool) or not isinstance(requests, int) or requests < 0:
        return None
    return RateLimit(requests, _words(value.get("interval")))
