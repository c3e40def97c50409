"""For the tests of applications that use routerkit: gateways that fail on demand, and time that passes when it is told to.

    from routerkit import Client
    from routerkit.testing import ScriptedTransport, VirtualRuntime, replies

    transport = ScriptedTransport()
    transport.script("a/model", replies.error(503), replies.completion("Fine now"))
    client = Client(api_key="sk-test", transport=transport, runtime=VirtualRuntime(), default_model="a/model")

The names are loaded when they are first used. ``pytest_plugins = ["routerkit.testing.fixtures"]`` brings pytest fixtures.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from routerkit.core.effects import Failure as Failure
    from routerkit.core.effects import TransportFailure as TransportFailure
    from routerkit.testing import replies as replies
    from routerkit.testing.connection import Connection as Connection
    from routerkit.testing.connection import Gone as Gone
    from routerkit.testing.connection import RecordedRequest as RecordedRequest
    from routerkit.testing.connection import Reply as Reply
    from routerkit.testing.faults import network_fault as network_fault
    from routerkit.testing.ports import closed_port as closed_port
    from routerkit.testing.ports import silent_port as silent_port
    from routerkit.testing.runtime import VirtualRuntime as VirtualRuntime
    from routerkit.testing.server import FaultServer as FaultServer
    from routerkit.testing.signals import Signal as Signal
    from routerkit.testing.transport import ScriptedTransport as ScriptedTransport
    from routerkit.transport.carrier import Carrier as Carrier
    from routerkit.types.verdict import Sent as Sent

_HOMES = {
    "ScriptedTransport": "routerkit.testing.transport",
    "network_fault": "routerkit.testing.faults",
    "FaultServer": "routerkit.testing.server",
    "closed_port": "routerkit.testing.ports",
    "silent_port": "routerkit.testing.ports",
    "VirtualRuntime": "routerkit.testing.runtime",
    "replies": "routerkit.testing",
    "Reply": "routerkit.testing.connection",
    "Connection": "routerkit.testing.connection",
    "RecordedRequest": "routerkit.testing.connection",
    "Gone": "routerkit.testing.connection",
    "Signal": "routerkit.testing.signals",
    "Carrier": "routerkit.transport.carrier",
    "TransportFailure": "routerkit.core.effects",
    "Failure": "routerkit.core.effects",
    "Sent": "routerkit.types.verdict",
}
"""Every public name, and the module it lives in."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'routerkit.testing' has no attribute {name!r}")
    value = (
        importlib.import_module(f"{home}.{name}") if home == __name__ else getattr(importlib.import_module(home), name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *_HOMES})
