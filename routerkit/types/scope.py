"""Scopes: what limits apply to, written as a text such as ``gateway:openrouter``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from routerkit.errors import ConfigurationError, InvalidRequestError
from routerkit.types.gateway import Gateway
from routerkit.types.limits import Limits
from routerkit.types.request import checked_model
from routerkit.types.secret import listed, shown

Word: TypeAlias = Literal["client", "gateway", "key", "model", "free"]
WORDS: tuple[Word, ...] = ("client", "gateway", "key", "model", "free")
FORMS = "client, gateway:<name>, key, key:<gateway>, model:<id>, model:<id> on <gateway>, free, free:<gateway>"
"""All that can be written."""

_ON = " on "
_OTHER_WORDS: Mapping[str, Word] = {
    **dict.fromkeys(("clients", "all", "any", "default", "global", "total", "*"), "client"),
    **dict.fromkeys(("gateways", "provider", "providers"), "gateway"),
    **dict.fromkeys(("keys", "api_key", "api_keys"), "key"),
    **dict.fromkeys(("models",), "model"),
    **dict.fromkeys((":free", "*:free", "free_tier", "free_models"), "free"),
}
"""What people write for our words."""
_TENANT = ("tenant", "tenants", "user", "users", "customer", "team")
_LIKE_A_KEY = re.compile(r"(?<![a-z0-9])sk-|[a-z0-9_]{32}", re.IGNORECASE)


@attrs.frozen
class Scope:
    """What limits apply to."""

    word: Word
    """``client``: the calls of all tenants together. The others count attempts: ``gateway``, ``key`` and ``free`` those of one
    gateway, of each key, and of each key with models whose ids end in ``:free``; ``model`` those of one model."""
    gateway: str | None = None
    """``None``: any; of ``model`` all together, of ``key`` and ``free`` each key by itself."""
    model: str | None = None

    def __str__(self) -> str:
        if self.word == "model":
            return f"model:{self.model}" + (f"{_ON}{self.gateway}" if self.gateway else "")
        return f"{self.word}:{self.gateway}" if self.gateway else self.word


def scope_of(text: str) -> Scope:
    """The scope in a text: ``client``; ``gateway:<name>``; ``key`` or ``key:<gateway>``; ``model:<id>`` or
    ``model:<id> on <gateway>``; ``free`` or ``free:<gateway>``.

    Raises ConfigurationError, which lists these and guesses what was meant.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"limits: a scope is a text, not {_kind(text)}; one of {FORMS}")
    scope = _read(text)
    if scope is None:
        raise _refused(text, _guess(text, ()))
    return scope


Aliases: TypeAlias = Mapping[str, Mapping[str, str | None]]
"""As in :class:`routerkit.types.settings.Settings`."""


def limits_of(value: object, gateways: Sequence[Gateway], aliases: Aliases) -> dict[str, Limits]:
    """Limits by scope, in the order given; a bare :class:`Limits` is the client's. ``gateways``: those that the client has.

    Raises ConfigurationError, which repeats nothing that may be a key, and whose frames show none where the caller's do not.
    """
    try:
        return _limits_of(value, gateways, aliases)
    except ConfigurationError as error:
        refused = error
    del value  # error trackers show the locals of frames, and somebody may have written a key into a scope
    refused.__traceback__ = refused.__context__ = None
    raise refused


def _limits_of(value: Any, gateways: Sequence[Gateway], aliases: Aliases) -> dict[str, Limits]:
    if value is None:
        return {}
    if isinstance(value, Limits):
        return {"client": value}
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"limits: must be a Limits, or a dict from scope to Limits, not {_kind(value)}; scopes: {FORMS}"
        )
    checked: dict[str, Limits] = {}
    for text, limits in value.items():
        scope = _checked(text, gateways, aliases)
        if not isinstance(limits, Limits):
            raise ConfigurationError(f"limits[{str(scope)!r}]: must be a Limits, not {_kind(limits)}")
        checked[str(scope)] = limits
    return checked


def _checked(text: Any, gateways: Sequence[Gateway], aliases: Aliases) -> Scope:
    """A scope that can apply to something here: what is asked of a gateway is counted by the gateway's own ids."""
    names = [gateway.name for gateway in gateways]
    scope = _read(text) if isinstance(text, str) else scope_of(text)
    if scope is None:
        raise _refused(text, _guess(text, names))
    if scope.gateway is not None and scope.gateway not in names:
        told = shown(scope.gateway)
        meant = next((name for name in names if name.lower() == scope.gateway.strip().lower()), None)
        guess = "" if meant is None else f"; did you mean {str(attrs.evolve(scope, gateway=meant))!r}?"
        raise ConfigurationError(f"limits: scope {_told(text)}: {told} is not among {listed(names)}{guess}")
    for gateway in gateways if scope.model else ():
        known_as = aliases.get(scope.model or "", {}).get(gateway.name, scope.model)
        if scope.gateway not in (None, gateway.name) or known_as is None:
            continue
        known_as = gateway.local_id(known_as)
        if known_as != scope.model:
            meant = str(Scope("model", gateway.name, known_as))
            raise ConfigurationError(
                f"limits: scope {_told(text)}: {gateway.name} knows the model by another id; write {meant!r}"
            )
    return scope


def _read(text: str) -> Scope | None:
    word, found, rest = text.partition(":")
    if word == "model":
        model, _, gateway = rest.partition(_ON)
        fits = _is_model(model) and (bool(gateway) or _ON not in rest)
        return Scope("model", gateway or None, model) if fits else None
    if word == "gateway":
        return Scope("gateway", rest) if rest else None
    if word not in WORDS or (found and (word == "client" or not rest)):
        return None
    return Scope(next(each for each in WORDS if each == word), rest or None)


def _is_model(text: str) -> bool:
    try:
        checked_model(text)
    except InvalidRequestError:
        return False
    return True


def _guess(text: str, names: Sequence[str]) -> str:
    """What is to be done about a text that is no scope."""
    word, _, rest = (part.strip() for part in text.partition(":"))
    lower = word.lower()
    if lower in _TENANT:
        return "a tenant's own limits are given with Tenant(limits=…)"
    if text in names:
        return f"did you mean {'gateway:' + text!r}?"
    if lower == "client" and rest:
        return "'client' stands alone"
    other = _OTHER_WORDS.get(text.strip().lower())
    rest = "" if other else rest
    meant = other or next((each for each in WORDS if each == lower), None) or _OTHER_WORDS.get(lower)
    if meant is None:
        written = f"model:{text}"
        fits = "/" in text and _read(written) is not None
        return f"did you mean {written!r}?" if fits and not _LIKE_A_KEY.search(text) else ""
    if not rest and meant in ("gateway", "model"):
        return f"{meant!r} needs {'a name' if meant == 'gateway' else 'an id'} after a colon"
    written = meant if meant == "client" or not rest else f"{meant}:{rest}"
    return f"did you mean {written!r}?" if _read(written) is not None and not _LIKE_A_KEY.search(written) else ""


def _refused(text: str, guess: str) -> ConfigurationError:
    return ConfigurationError(
        f"limits: {_told(text)} is not a scope{'; ' + guess if guess else ''} (there are: {FORMS})"
    )


def _kind(value: object) -> str:
    return "str" if isinstance(value, str) else type(value).__name__  # also where it is a hidden one


def _told(text: str) -> str:
    """A scope as errors repeat it: what may be a key is not."""
    fits = len(text) <= 100 and text.isprintable() and not _LIKE_A_KEY.search(text)
    return repr(str(text)) if fits else "…"
