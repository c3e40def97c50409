"""A virtual environment for each peer, made once and kept: exactly the packages that `pins/` lists for it.

The lists are complete, so pip is told to look for nothing more (`--no-deps`). A list that changed is installed anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PINS = Path(__file__).parent / "pins"


def default_folder() -> Path:
    """Where environments are kept when the user names no folder."""
    caches = os.environ.get("XDG_CACHE_HOME") or (Path.home() / ".cache")
    folder = Path(caches) / "routerkit-peers"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir()) / "routerkit-peers"
    return folder


def prepared(name: str, folder: Path) -> Path:
    """The Python of the environment of that name, which is made if it is not there yet."""
    wanted = (PINS / f"{name}.txt").read_text("utf-8")
    home = folder / name
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    installed = home / "installed.txt"
    if python.exists() and installed.exists() and installed.read_text("utf-8") == wanted:
        return python
    print(f"preparing {name} in {home} ...", file=sys.stderr, flush=True)
    venv.create(home, with_pip=True, clear=True)
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", PINS / f"{name}.txt"]
    subprocess.run(install, check=True)
    installed.write_text(wanted, "utf-8")
    return python


def version(name: str, package: str) -> str:
    """The version of a package that the list of that name pins."""
    for line in (PINS / f"{name}.txt").read_text("utf-8").splitlines():
        pinned, _, found = line.partition("==")
        if pinned.strip() == package:
            return found.strip()
    raise LookupError(f"{package} is not pinned in pins/{name}.txt")
