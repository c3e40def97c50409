"""What importing costs, in fresh interpreters that take turns: routerkit's clients beside the libraries underneath.

Measured is the CPU time of the statement alone, not of starting Python. Everything is compiled beforehand, into a directory of
our own, so that it does not matter whether a package's compiled files are there or may be written.
README.md tells how to read what is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

STATEMENTS = {
    "requests": "import requests",
    "Client": "import routerkit; routerkit.Client",
    "Client and transport": "import routerkit; routerkit.Client; import routerkit.transport.requests",
    "aiohttp": "import aiohttp",
    "AsyncClient": "import routerkit; routerkit.AsyncClient",
    "AsyncClient and transport": "import routerkit; routerkit.AsyncClient; import routerkit.transport.aiohttp",
    "routerkit": "import routerkit",
}
RATIOS = (
    ("Client", "requests", 1.3),
    ("Client and transport", "requests", None),
    ("AsyncClient", "aiohttp", None),
    ("AsyncClient and transport", "aiohttp", None),
)
"""Ours, what it is compared with, and the ratio that we want to stay below, where there is one."""

_SCRIPT = "import time; begun = time.process_time(); {}; print(time.process_time() - begun)"
_ROOT = Path(__file__).resolve().parent.parent


def once(statement: str, environment: Mapping[str, str]) -> float:
    """Seconds of CPU that a statement takes in a new interpreter."""
    command = [sys.executable, "-c", _SCRIPT.format(statement)]
    done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds, by name. One round more than asked: the first, which compiles, is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(rounds + 1):
            for name, statement in STATEMENTS.items():
                taken[name].append(once(statement, environment) * 1000)
    return {name: {"min": min(all_[1:]), "median": statistics.median(all_[1:])} for name, all_ in taken.items()}


def ratios(taken: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    return [
        {"ours": ours, "against": raw, "target": target}
        | {figure: taken[ours][figure] / taken[raw][figure] for figure in ("min", "median")}
        for ours, raw, target in RATIOS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="3 rounds, for a look")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    options = parser.parse_args()
    taken = measure(3 if options.quick else options.rounds)
    about = {"python": platform.python_version()}
    about |= {name: version(name) for name in ("routerkit", "requests", "aiohttp")}
    if options.json:
        print(json.dumps({**about, "milliseconds": taken, "ratios": ratios(taken)}, indent=2))
        return
    print(", ".join(f"{name} {figure}" for name, figure in about.items()), end="\n\n")
    print(f"{'ms of CPU to import':<28}{'min':>9}{'median':>9}")
    for name, figures in taken.items():
        print(f"{name:<28}{figures['min']:>9.1f}{figures['median']:>9.1f}")
    print(f"\n{'ratio':<40}{'min':>9}{'median':>9}{'at most':>9}")
    for found in ratios(taken):
        name = f"{found['ours']} / {found['against']}"
        print(f"{name:<40}{found['min']:>9.2f}{found['median']:>9.2f}{found['target'] or '':>9}")


if __name__ == "__main__":
    main()
