"""What a sweep was asked for, as options say it; what they leave open is as it was on ``--resume``, else as usual."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import click

from routerkit.cli.probe.sample import Head, amount, plain, span, whole
from routerkit.cli.probe.schedule import MAX_WAIT
from routerkit.errors import ConfigurationError
from routerkit.types.gateway import is_loopback
from routerkit.types.model import ModelFilters
from routerkit.types.policy import Timeouts
from routerkit.types.settings import Settings

PROMPT = "Hello, world!"
DELAY = 180.0
"""Seconds between two questions to one gateway, as the scripts had it that this command stands for; a server on this machine is
spared nothing by waiting."""


@attrs.frozen(kw_only=True)
class Wish:
    """``None``: not said."""

    prompt: str | None = None
    models: tuple[str, ...] = ()
    """Ids and globs; empty: all that the filters find."""
    filters: ModelFilters = attrs.field(factory=ModelFilters)
    delay: float | None = None
    """Seconds; ``None`` even when settled: it depends on the gateway."""
    concurrency: int | None = None
    repeat: int | None = None
    max_tokens: int | None = None
    timeout: Timeouts | None = None
    max_wait: float | None = None
    """Seconds."""
    max_cost: Decimal | None = None
    """USD."""
    out: str = "probe"
    resume: bool = False
    compare: str | None = None
    learn: bool = False
    dry_run: bool = False

    def settled(self, head: Head | None) -> Wish:
        """Nothing left open. ``head``: of the sweep that is gone on with. Raises UsageError where this is another question."""
        before = _usual() if head is None else _before(head)
        for name, flag in (("prompt", "prompt"), ("max_tokens", "--max-tokens")):
            said = getattr(self, name)
            if head is not None and said is not None and said != before[name]:
                raise click.UsageError(f"--resume: the sweep in {self.out} has another {flag}")
        if self.models or self.filters:
            before |= {"models": self.models, "filters": self.filters}
        return attrs.evolve(self, **{name: value for name, value in before.items() if _is_open(getattr(self, name))})

    def delays(self, settings: Settings) -> dict[str, float]:
        """Seconds, by gateway."""
        usual = 0.0 if settings.dev_mode is not None else DELAY
        return {
            gateway.name: self.delay if self.delay is not None else (0.0 if _is_local(gateway.base_url) else usual)
            for gateway in settings.gateways
        }

    def options(self, settings: Settings) -> dict[str, Any]:
        """As plain values, for the head."""
        return {
            "models": list(self.models),
            "filters": {name: plain(value) for name, value in self.filters.items()},
            "delay": self.delay,
            "delays": self.delays(settings),
            "concurrency": self.concurrency,
            "max_tokens": self.max_tokens,
            "timeout": None if self.timeout is None else self.timeout.stream_total,
            "max_wait": self.max_wait,
            "max_cost": None if self.max_cost is None else format(self.max_cost, "f"),
            "learn": self.learn,
            "dev": settings.dev_mode is not None,
        }


def _is_open(value: Any) -> bool:
    return value is None or value is False or value in ((), {})


def _usual() -> dict[str, Any]:
    return {"prompt": PROMPT, "concurrency": 1, "repeat": 1, "max_wait": MAX_WAIT}


def _before(head: Head) -> dict[str, Any]:
    """What a head says of the options. Raises UsageError when it is none that this command has written."""
    told = head.options
    try:
        return {
            **_usual(),
            "prompt": head.prompt,
            "models": tuple(str(each) for each in told.get("models") or ()),
            "filters": _filters(told.get("filters") or {}),
            "delay": _number(told, "delay"),
            "concurrency": max(1, whole(told.get("concurrency", 1))),
            "repeat": head.repeat,
            "max_tokens": None if told.get("max_tokens") is None else max(1, whole(told["max_tokens"])),
            "timeout": None if told.get("timeout") is None else Timeouts.of(_number(told, "timeout")),
            "max_wait": _number(told, "max_wait"),
            "max_cost": None if told.get("max_cost") is None else amount(told["max_cost"]),
            "learn": told.get("learn") is True,
        }
    except (TypeError, ValueError, ConfigurationError) as error:
        raise click.UsageError(
            f"--resume: the options in the first line of the results cannot be read: {error}"
        ) from None


def _number(told: Mapping[str, Any], name: str) -> float | None:
    value = told.get(name)
    return None if value is None else span(value)


def _filters(told: Any) -> ModelFilters:
    if not isinstance(told, dict) or not told.keys() <= ModelFilters.__annotations__.keys():
        raise ValueError("filters are not known")
    return cast("ModelFilters", told)


def _is_local(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")
