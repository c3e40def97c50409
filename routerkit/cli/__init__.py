"""The command ``routerkit``: the library, tried by hand and used in scripts. It holds no routing logic.

``main`` is its entry point and all that is loaded without the extra ``cli``. ``program`` knows the commands, each of which has a
module of its own; the options that they share are in ``options``, the exit codes in ``endings``, how values are worded in
``render``; only ``terminal`` writes to stdout and stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_EXTRA = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, those of the process when ``None``; returns the exit code."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401

        from routerkit.cli.program import run

        return run(arguments)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        print("routerkit: the command needs an extra: pip install 'routerkit[cli]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while the modules were being loaded
        return 130
