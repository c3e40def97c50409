"""Many seeds: `python -m tests.simulation --seeds 200`, from the root of the repository.

Seeds that break an invariant are printed and added to `seeds.txt`, which the tests run for ever. The targets of the scenarios
are judged over all seeds of the run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from tests.simulation import chaos, tenants
from tests.simulation.corpus import KEPT, keep
from tests.simulation.figures import Figures, measure, shortfalls
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.watch import Violation

AT_RANDOM: dict[str, Callable[[int], object]] = {
    chaos.NAME: chaos.twice,
    tenants.NAME: tenants.play,
    tenants.APART: tenants.apart,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many seeds to run (%(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them (%(default)s)")
    names = (*AT_RANDOM, *SCENARIOS)
    parser.add_argument(
        "--scenario",
        choices=(*names, "all"),
        default=chaos.NAME,
        metavar="NAME",
        help=f"{', '.join(names)} or all (%(default)s)",
    )
    parser.add_argument("--no-keep", action="store_true", help=f"leave {KEPT.name} alone")
    options = parser.parse_args(arguments)
    failed = 0
    for name in names if options.scenario == "all" else (options.scenario,):
        failed += _run(name, range(options.first, options.first + options.seeds), kept=not options.no_keep)
    return 1 if failed else 0


def _run(name: str, seeds: range, *, kept: bool) -> int:
    """How many seeds failed, and one more for targets that were missed."""
    began, failed, found = time.process_time(), 0, []
    for seed in seeds:
        try:
            found += _once(name, seed)
        except (Violation, AssertionError) as wrong:
            failed += 1
            print(f"{name} {seed}  {wrong}", flush=True)
            if kept:
                keep(name, seed, str(wrong))
    missed = list(shortfalls(SCENARIOS[name].targets, found)) if found else []
    for line in missed:
        print(f"{name}: {line}")
    print(f"{name}: {len(seeds)} seeds, {failed} failed, {time.process_time() - began:.1f} s of CPU", flush=True)
    return failed + bool(missed)


def _once(name: str, seed: int) -> list[Figures]:
    if name in AT_RANDOM:
        AT_RANDOM[name](seed)
        return []
    scenario = SCENARIOS[name]
    return [measure(scenario.run(seed), scenario, compared=scenario.targets.added_p99 is not None)]


if __name__ == "__main__":
    sys.exit(main())
