"""``routerkit doctor``: looks whether everything is there that calls need, and says what to do about what is not.

``check`` tells what a check is, ``subject`` holds what is examined; the other modules each have the checks of one section.
"""

from __future__ import annotations

from routerkit.cli.doctor.command import doctor

__all__ = ["doctor"]
