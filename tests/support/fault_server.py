"""Where the fault server used to live: it is :mod:`routerkit.testing` now."""

from routerkit.testing.connection import Connection as Connection
from routerkit.testing.connection import Gone as Gone
from routerkit.testing.connection import RecordedRequest as RecordedRequest
from routerkit.testing.ports import HOST as HOST
from routerkit.testing.ports import closed_port as closed_port
from routerkit.testing.ports import silent_port as silent_port
from routerkit.testing.server import PATIENCE as PATIENCE
from routerkit.testing.server import FaultServer as FaultServer
from routerkit.testing.sockets import Malformed as Malformed
