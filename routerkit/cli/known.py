"""What a shell can complete: names that are known without asking anybody. None of these functions fails."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs
import click

from routerkit.cli.options import Shared

if TYPE_CHECKING:
    from routerkit.types.settings import Settings


def gateways(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """The gateways that routerkit knows by name."""
    from routerkit.gateways import KNOWN

    return _beginning(incomplete, KNOWN)


def tenants(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Those of the environment and the .env file."""
    settings = _settings(context)
    return [] if settings is None else _beginning(incomplete, settings.tenants)


def strategies(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from routerkit.core.strategies import STRATEGIES

    return _beginning(incomplete, STRATEGIES)


def model_ids(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The models that the settings name; in dev mode also those that it has. A gateway is not asked."""
    settings = _settings(context)
    if settings is None:
        return []
    default = settings.default_model
    named = [*([default] if default else []), *settings.fallback_models, *settings.aliases]
    if settings.dev_mode is not None:
        from routerkit import Client

        with Client(dev_mode=True) as client:
            named += [model.id for model in client.models()]
    return _beginning(incomplete, named)


def _settings(context: click.Context) -> Settings | None:
    """What the environment, the .env file and the options say so far; ``None`` when they cannot be read.

    That there is no key does not matter here.
    """
    from routerkit.config import settings_from
    from routerkit.env_file import with_file
    from routerkit.environment import Variables
    from routerkit.errors import ConfigurationError

    shared = context.find_object(Shared) or Shared()
    file = shared.environment()
    for names_only in (False, True):
        try:
            values = Variables(os.environ) if file is None else with_file(file, Variables(os.environ))
            settings = settings_from(values, **shared.told({"dev_mode": True} if names_only else {}))
        except ConfigurationError:
            continue
        return attrs.evolve(settings, dev_mode=None) if names_only else settings
    return None


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
