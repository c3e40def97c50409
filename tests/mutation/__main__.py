"""``python -m tests.mutation [module ...]``: mutates modules of the core, and tells which mutants no test noticed."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import attrs

from tests.mutation import code, tables
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.subjects import SUBJECTS, Subject, subject


@attrs.frozen
class Outcome:
    mutants: int
    alive: list[str]
    """A line for each mutant that nobody noticed, though somebody could."""
    equivalent: int = 0
    stale: tuple[str, ...] = ()
    """Entries of the list of equivalent mutants that are none."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("module", nargs="*", default=list(SUBJECTS), help=f"of routerkit.core; {', '.join(SUBJECTS)}")
    parser.add_argument("--only", choices=("code", "tables"), help="what to mutate; else both")
    parser.add_argument("--processes", type=int, default=1, help="mutants that are tried at the same time")
    parser.add_argument("--keep", type=Path, help="a directory for mutmut's own files, to look at them afterwards")
    options = parser.parse_args()
    if options.only != "tables" and importlib.util.find_spec("mutmut") is None:
        parser.error("there is no mutmut: pip install mutmut==3.8.1, or run `tox -e mutation`")
    alive = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.module:
            chosen = subject(name)
            if options.only != "tables":
                work = (options.keep or Path(scratch)).absolute() / name
                alive += told(f"{name}: code", mutated_code(chosen, work, options.processes))
            if options.only != "code" and chosen.tables:
                alive += told(f"{name}: tables", mutated_tables(chosen))
    return 1 if alive else 0


def mutated_code(chosen: Subject, work: Path, processes: int) -> Outcome:
    total, survivors = code.run(chosen, work, processes)
    known = EQUIVALENT.get(chosen.name, {})
    alive = [each for each in survivors if attrs.astuple(each) not in known]
    found = {attrs.astuple(each) for each in survivors}
    stale = tuple(shown(*each) for each in known if each not in found)
    return Outcome(total, [shown(*attrs.astuple(each)) for each in alive], len(survivors) - len(alive), stale)


def shown(function: str, removed: str, added: str) -> str:
    return f"{function}\n    - {removed}\n    + {added}"


def mutated_tables(chosen: Subject) -> Outcome:
    mutants = [mutant for table in chosen.tables for mutant in tables.mutants(table)]
    alive = []
    for place, mutant in enumerate(mutants, 1):
        if sys.stderr.isatty():
            print(f"\r{place}/{len(mutants)} ", end="", file=sys.stderr, flush=True)
        if tables.survives(mutant, chosen):
            alive.append(mutant.name)
    return Outcome(len(mutants), alive)


def told(what: str, outcome: Outcome) -> int:
    noticed = outcome.mutants - len(outcome.alive) - outcome.equivalent
    print(
        f"{what:<18} {noticed}/{outcome.mutants} noticed, {outcome.equivalent} equivalent, {len(outcome.alive)} alive"
    )
    for line in outcome.alive:
        print(f"  {line}")
    for line in outcome.stale:
        print(f"  stale in tests/mutation/equivalent.py: {line}")
    sys.stdout.flush()
    return len(outcome.alive)


if __name__ == "__main__":
    sys.exit(main())
