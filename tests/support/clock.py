"""Where the virtual clock used to live: it is :class:`routerkit.testing.VirtualRuntime` now."""

from routerkit.testing.runtime import WALL as WALL
from routerkit.testing.runtime import VirtualRuntime as VirtualRuntime
