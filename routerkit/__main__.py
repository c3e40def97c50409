"""``python -m routerkit``: the command ``routerkit``."""

from __future__ import annotations

import sys

from routerkit.cli import main

sys.exit(main())
