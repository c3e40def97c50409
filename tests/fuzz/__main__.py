"""``python -m tests.fuzz NAME [--seconds N]`` runs one harness for long; without a name it lists them."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping

from tests.fuzz import engines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", nargs="?", help="a harness; left out: list them")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to run (60)")
    parser.add_argument("--engine", choices=["atheris", "hypothesis"], help="atheris where it is installed")
    options = parser.parse_args()
    instrument = options.name is not None and options.engine != "hypothesis" and _installed()
    if options.engine == "atheris" and not instrument:
        parser.error("atheris is not installed")
    harnesses = _harnesses(instrument=instrument)
    if options.name not in harnesses:
        print(*(f"{name:12} {(one.__doc__ or '').splitlines()[0]}" for name, one in harnesses.items()), sep="\n")
        sys.exit(0 if options.name is None else f"no harness {options.name!r}: it is one of these")
    one = harnesses[options.name]
    if instrument:
        engines.with_atheris(options.name, one, options.seconds)
    began = time.monotonic()
    tried = engines.with_hypothesis(options.name, one, options.seconds)
    print(f"{options.name}: {tried} inputs in {time.monotonic() - began:.0f} s, nothing found")


def _installed() -> bool:
    return importlib.util.find_spec("atheris") is not None


def _harnesses(*, instrument: bool) -> Mapping[str, Callable[[bytes], None]]:
    """The harnesses; ``instrument``: with our code reporting to atheris which of its branches an input takes."""
    if instrument:
        import atheris  # type: ignore[import-untyped]

        with atheris.instrument_imports(include=["routerkit"]):
            importlib.import_module("tests.fuzz.harnesses")
    from tests.fuzz.harnesses import HARNESSES

    return HARNESSES


if __name__ == "__main__":
    main()
