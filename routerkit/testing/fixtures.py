"""Fixtures for pytest. Switch them on in the ``conftest.py`` at the root of your tests::

    pytest_plugins = ["routerkit.testing.fixtures"]

They need no plugin for asyncio, and nothing that a test does not ask for is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from routerkit.async_client import AsyncClient
    from routerkit.client import Client
    from routerkit.testing import FaultServer, ScriptedTransport, VirtualRuntime

    MakeClient: TypeAlias = Callable[..., Client]
    MakeAsyncClient: TypeAlias = Callable[..., AsyncClient]

API_KEY = "sk-test-1234567890"
"""The key of clients made by fixtures."""


@pytest.fixture
def virtual_runtime() -> VirtualRuntime:
    """A clock that moves only when it is told to or when somebody sleeps; see :class:`routerkit.testing.VirtualRuntime`."""
    from routerkit.testing import VirtualRuntime

    return VirtualRuntime()


@pytest.fixture
def scripted_transport() -> ScriptedTransport:
    """A made-up gateway without a port; see :class:`routerkit.testing.ScriptedTransport`."""
    from routerkit.testing import ScriptedTransport

    return ScriptedTransport()


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A made-up gateway on a port of this machine, stopped after the test; see :class:`routerkit.testing.FaultServer`."""
    from routerkit.testing import FaultServer

    with FaultServer() as server:
        yield server


@pytest.fixture
def routerkit_client(scripted_transport: ScriptedTransport, virtual_runtime: VirtualRuntime) -> Iterator[MakeClient]:
    """Makes a :class:`routerkit.Client` on ``scripted_transport`` and ``virtual_runtime``, with the keywords of the constructor.

    It is closed after the test. ``transport=None`` sends to the network, as ``base_url=fault_server.url`` needs it.
    """
    from routerkit.client import Client

    made: list[Client] = []

    def make(**options: Any) -> Client:
        client = Client(**_defaults(scripted_transport, virtual_runtime) | options)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def routerkit_async_client(scripted_transport: ScriptedTransport, virtual_runtime: VirtualRuntime) -> MakeAsyncClient:
    """The same for :class:`routerkit.AsyncClient`. Nothing needs to be closed, unless the client uses the network."""
    from routerkit.async_client import AsyncClient

    def make(**options: Any) -> AsyncClient:
        return AsyncClient(**_defaults(scripted_transport, virtual_runtime) | options)

    return make


def _defaults(transport: ScriptedTransport, runtime: VirtualRuntime) -> dict[str, Any]:
    return {"api_key": API_KEY, "transport": transport, "runtime": runtime}
