"""A scripted fault of dev mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from routerkit.errors import ConfigurationError

NETWORK_FAULTS = ("dns", "refused", "connect_timeout", "reset", "timeout")


def _at_least(low: float, *, whole: bool = False) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and value >= low
        if value is not None and not fits:
            kind = "a whole number" if whole else "a number"
            raise ConfigurationError(f"dev_script: {attribute.name}={value!r}: must be {kind} of at least {low:g}")

    return check


def _network(_: object, __: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and value not in NETWORK_FAULTS:
        raise ConfigurationError(f"dev_script: network={value!r}: must be one of {', '.join(NETWORK_FAULTS)}")


@attrs.frozen
class Fault:
    """What goes wrong with one attempt. All fields may be combined with ``model``, ``gateway``, ``delay`` and ``times``; an empty
    fault is an ordinary answer, which lets a script skip an attempt."""

    model: str | None = None
    """Only for attempts on this model; else for the next attempt, whichever its model."""
    status: int | None = attrs.field(default=None, validator=_at_least(100, whole=True))
    """An error with this HTTP status."""
    retry_after: float | None = attrs.field(default=None, validator=_at_least(0))
    """Seconds, sent as ``Retry-After``."""
    message: str | None = None
    """What the error says."""
    code: str | int | None = None
    """The error's ``code``: a word or a number; else the status."""
    body: Any = None
    """The whole JSON of the error, in place of one made of ``message`` and ``code``."""
    network: str | None = attrs.field(default=None, validator=_network)
    """``dns``, ``refused``, ``connect_timeout``, ``reset`` or ``timeout``: no answer at all."""
    cut_after: int | None = attrs.field(default=None, validator=_at_least(0, whole=True))
    """Streams: the connection closes after so many chunks of text. Else: within the body."""
    error_after: int | None = attrs.field(default=None, validator=_at_least(0, whole=True))
    """Streams: an error event comes after so many chunks of text."""
    empty: bool = False
    """An answer without content."""
    text: str | None = None
    """An ordinary answer with this text."""
    delay: float = attrs.field(default=0.0, validator=_at_least(0))
    """Seconds before anything happens."""
    times: int = attrs.field(default=1, validator=_at_least(1, whole=True))
    """For so many attempts."""
    gateway: str | None = None
    """Only for attempts at the gateway of this name; else for the next attempt, whichever its gateway."""

    @classmethod
    def of(cls, value: Fault | Mapping[str, Any]) -> Fault:
        """A fault as it is, or made of a dict. Raises ConfigurationError, which lists the names."""
        if isinstance(value, Fault):
            return value
        names = [field.name for field in attrs.fields(cls)]
        if not isinstance(value, Mapping) or not value.keys() <= set(names):
            unknown = sorted(value.keys() - set(names)) if isinstance(value, Mapping) else [type(value).__name__]
            raise ConfigurationError(f"dev_script: {unknown[0]!r} is not known (known: {', '.join(names)})")
        return cls(**value)


def script(values: Iterable[Fault | Mapping[str, Any]]) -> tuple[Fault, ...]:
    """The faults of a ``dev_script``."""
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise ConfigurationError("dev_script: must be a list of dicts")
    return tuple(Fault.of(value) for value in values)
