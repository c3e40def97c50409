"""What the commands share: the options that every one of them takes, before or after its name, and how they are read."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click
from click.core import ParameterSource

from routerkit.cli.terminal import visible

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from routerkit.async_client import AsyncClient
    from routerkit.client import Client
    from routerkit.config import Options
    from routerkit.types.policy import Timeouts

F = TypeVar("F", bound=Callable[..., Any])

ENV_FILE = ".env"


@attrs.define(eq=False)
class Shared:
    """The shared options as given. What was not given is left to the library."""

    gateways: tuple[str, ...] = ()
    base_url: str | None = None
    tenant: str | None = None
    env_file: str | None = None
    dev: bool | None = None
    verbose: bool = False
    as_json: bool = False

    @contextmanager
    def client(self, **more: Unpack[Options]) -> Iterator[Client]:
        """A client made of the options, the environment and the .env file; a tenant's where one is named. Closed at the end.

        Raises ConfigurationError.
        """
        from routerkit import Client

        if self.verbose:
            listen()
        with Client.from_env(self.environment(), **self.told(more)) as client:
            yield client if self.tenant is None else client.tenant(self.tenant)

    @asynccontextmanager
    async def async_client(self, **more: Unpack[Options]) -> AsyncIterator[AsyncClient]:
        """The same for tasks."""
        from routerkit import AsyncClient

        if self.verbose:
            listen()
        async with AsyncClient.from_env(self.environment(), **self.told(more)) as client:
            yield client if self.tenant is None else client.tenant(self.tenant)

    def environment(self) -> str | None:
        """The .env file to be read, if there is one."""
        return ENV_FILE if self.env_file is None and os.path.isfile(ENV_FILE) else self.env_file

    def told(self, more: Options) -> Options:
        """What the options say to a client, and more."""
        told: Options = {"base_url": self.base_url, "dev_mode": self.dev, **more}
        if self.base_url is not None and not self.gateways:
            from routerkit.gateways import at

            told["gateway"] = at(self.base_url)  # another server, whatever the environment speaks of
        if len(self.gateways) > 1 or any("://" in each for each in self.gateways):
            told["gateways"] = self.gateways
        elif self.gateways:
            told["gateway"] = self.gateways[0]
        return told


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Note a shared option, wherever it stands; the one nearest to the command wins."""
    name = str(parameter.name)
    if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        setattr(context.ensure_object(Shared), name, value)


def _known(what: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell completes a value with: see :mod:`routerkit.cli.known`, which is loaded only then."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        from routerkit.cli import known

        names: list[str] = getattr(known, what)(context, parameter, incomplete)
        return names

    return complete


def _shared(*names: str, **options: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_keep, **options)


_SHARED: tuple[Callable[[Any], Any], ...] = (
    _shared(
        "--gateway",
        "gateways",
        metavar="NAME",
        multiple=True,
        shell_complete=_known("gateways"),
        help="openrouter, infron, onerouter or a base URL; several in order, if given several times. "
        "[default: the one that has a key]",
    ),
    _shared(
        "--base-url",
        metavar="URL",
        help="Any OpenAI-compatible server, asked without a key; with --gateway, another address of that gateway.",
    ),
    _shared(
        "--tenant",
        metavar="NAME",
        shell_complete=_known("tenants"),
        help="Whose keys, models and limits; needed where there are tenants.",
    ),
    _shared("--env-file", metavar="PATH", help="Read variables from this file. [default: .env, where there is one]"),
    _shared("--dev/--no-dev", help="Dev mode: answers are made up, nothing is sent. [default: as DEV_MODE says]"),
    _shared("-v", "--verbose", is_flag=True, help="Log to stderr what happens; show tracebacks of errors."),
)

as_json = _shared("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


def shared(command: F) -> F:
    """Give a command the shared options."""
    for option in reversed(_SHARED):
        command = option(command)
    return command


def models(command: F) -> F:
    """Give a command the options that name models."""
    fallback = click.option(
        "-f",
        "--fallback",
        "fallbacks",
        metavar="ID",
        multiple=True,
        shell_complete=_known("model_ids"),
        help="A model to ask when the others fail; may be given several times.",
    )
    model = click.option(
        "-m", "--model", metavar="ID", shell_complete=_known("model_ids"), help="The model to ask first."
    )
    return model(fallback(command))


strategy = click.option(
    "--strategy",
    metavar="NAME",
    shell_complete=_known("strategies"),
    help="Order the models by it: cost_optimized, round_robin, ... [default: as the settings say]",
)


def text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Words that can be sent."""
    if value is not None and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise click.BadParameter("it is not UTF-8 text") from None
    return value


def pause(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """A duration in seconds, from 0 on."""
    if value is None:
        return None
    from routerkit.environment import duration

    try:
        seconds = duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}") from None
    if seconds > 86_400:
        raise click.BadParameter(f"{value!r} must be at most 24h")
    return seconds


def patience(context: click.Context, parameter: click.Parameter, value: str | None) -> Timeouts | None:
    """A duration as the call's timeouts."""
    seconds = pause(context, parameter, value)
    if seconds is None:
        return None
    if seconds == 0:
        raise click.BadParameter(f"{value!r} must be above 0")
    from routerkit.types.policy import Timeouts

    return Timeouts.of(seconds)


def finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """A number that JSON can hold."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value!r} is not a number to send")
    return value


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def listen() -> None:
    """Write what the library logs to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Visible("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("routerkit")
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
