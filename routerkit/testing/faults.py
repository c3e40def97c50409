"""Failures below HTTP, which no server can bring about, as replies."""

from __future__ import annotations

from typing import Literal

from routerkit.core.effects import Failure, TransportFailure
from routerkit.testing.connection import Connection, RecordedRequest
from routerkit.testing.tape import Tape
from routerkit.types.verdict import Sent

NetworkFault = Literal["dns", "refused", "connect_timeout", "tls", "reset", "timeout"]

NETWORK_FAULTS: dict[str, TransportFailure] = {
    "dns": TransportFailure(Failure.RESOLVE, Sent.NOT_SENT, detail="scripted"),
    "refused": TransportFailure(Failure.CONNECT, Sent.NOT_SENT, detail="scripted"),
    "connect_timeout": TransportFailure(Failure.CONNECT_TIMEOUT, Sent.NOT_SENT, detail="scripted"),
    "tls": TransportFailure(Failure.TLS_VERIFY, Sent.NOT_SENT, detail="scripted"),
    "reset": TransportFailure(Failure.DISCONNECTED, Sent.MAYBE, detail="scripted"),
    "timeout": TransportFailure(Failure.FIRST_BYTE_TIMEOUT, Sent.MAYBE, detail="scripted"),
}
"""What each name stands for."""


class NetworkReply:
    """A reply that is no answer at all. For a ScriptedTransport only; a FaultServer would need a network that it can break."""

    def __init__(self, fault: NetworkFault | TransportFailure) -> None:
        """A name, or a failure of your own. Raises ValueError for a name that is not known."""
        if isinstance(fault, str) and fault not in NETWORK_FAULTS:
            raise ValueError(f"{fault!r} is no network fault (known: {', '.join(NETWORK_FAULTS)})")
        self.failure = NETWORK_FAULTS[fault] if isinstance(fault, str) else fault

    def __call__(self, connection: Connection, _: RecordedRequest) -> None:
        if not isinstance(connection, Tape):
            raise TypeError("only a ScriptedTransport can break the network; see closed_port and silent_port")
        connection.fail(self.failure)


def network_fault(fault: NetworkFault | TransportFailure) -> NetworkReply:
    """A reply that lets an attempt fail below HTTP, for :class:`ScriptedTransport`.

    ``dns``: the name has no address; ``refused``: nobody listens; ``connect_timeout``: nobody answers; ``tls``: the certificate is
    not valid; ``reset``: the connection breaks before the answer; ``timeout``: no answer comes. Raises ValueError for another name.
    """
    return NetworkReply(fault)
