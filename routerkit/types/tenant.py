"""Tenants: named sets of keys, models, limits and budget that share one client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn, TypeVar

import attrs

from routerkit.errors import ConfigurationError, InvalidRequestError
from routerkit.types.limits import Budget, Limits
from routerkit.types.request import checked_model, checked_models
from routerkit.types.secret import REPEATED, Secret, keys_of, shown

T = TypeVar("T")

MAX_NAME = 64
"""Characters of a tenant's name."""
_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME}}}")


@attrs.frozen(init=False, repr=False)
class Tenant:
    """One of those on whose behalf a client asks. No key shows in its ``repr``; it cannot be pickled or copied.

    ``Tenant("acme", api_key="sk-or-v1-…")``. ``api_key``: a string, a list of strings, or a mapping from gateway name to
    either; bare keys are for the client's first gateway. Raises ConfigurationError.
    """

    name: str
    """1 to 64 letters, digits, ``_``, ``-`` or ``.``; capitals matter."""
    keys: Mapping[str, tuple[Secret, ...]] | tuple[Secret, ...] | None = attrs.field(
        alias="api_key", repr=False, hash=False
    )
    """As given: by gateway, or for the client's first one; ``None``: none of its own."""
    default_model: str | None
    """``None``: the client's."""
    fallback_models: tuple[str, ...] | None
    """``None``: the client's."""
    limits: Limits | None
    """Of the tenant's own calls; ``None``: none but those of the client."""
    budget: Budget | None
    """Of the tenant's own spending; ``None``: none but the client's."""

    def __init__(
        self,
        name: str,
        api_key: str
        | Secret
        | Sequence[str | Secret]
        | Mapping[str, str | Secret | Sequence[str | Secret]]
        | None = None,
        default_model: str | None = None,
        fallback_models: Iterable[str] | None = None,
        limits: Limits | None = None,
        budget: Budget | None = None,
    ) -> None:
        given = [api_key]
        del api_key  # whoever shows the locals of an error's frames shall not show it
        keys = None if given[0] is None else keys_of(given.pop(), "Tenant: api_key")
        name = _checked_name(name)
        default_model = _model(checked_model, name, "default_model", default_model)
        fallback_models = _model(checked_models, name, "fallback_models", fallback_models)
        self.__attrs_init__(
            name,
            MappingProxyType(keys) if isinstance(keys, dict) else keys,
            default_model,
            fallback_models,
            _checked(Limits, "limits", limits),
            _checked(Budget, "budget", budget),
        )

    def __repr__(self) -> str:
        # Of one that could not be made, too: error trackers show the locals of frames.
        shown = (f"{each.name}={getattr(self, each.name, None)!r}" for each in attrs.fields(Tenant) if each.repr)
        return f"Tenant({', '.join(shown)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Tenant cannot be pickled or copied")


def _checked_name(name: object) -> str:
    like_a_key = isinstance(name, str) and name.startswith("sk-") and len(name) > REPEATED
    if isinstance(name, str) and _NAME.fullmatch(name) and not like_a_key:
        return name
    raise ConfigurationError(f"Tenant(name={shown(name)}): must be 1 to 64 letters, digits or _ - ., and no key")


def _model(check: Callable[[object], T], name: str, field: str, value: object) -> T | None:
    try:
        return None if value is None else check(value)
    except InvalidRequestError as error:
        told = str(error).partition("=")[2]  # without its own word for the field
    raise ConfigurationError(f"Tenant({name!r}): {field}={told}")


def _checked(kind: type[T], field: str, value: T | None) -> T | None:
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"Tenant({field}=…): must be a {kind.__name__}, not {type(value).__name__}")
    return value
