"""Where the replies used to live: they are :mod:`routerkit.testing.replies` now."""

from routerkit.testing.replies import *  # noqa: F403
