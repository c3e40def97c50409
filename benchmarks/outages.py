"""What routerkit makes of outages: success, attempts, waiting, recovery. Simulated, and so the same on every machine.

    python benchmarks/outages.py                  # ten seeds, some minutes
    python benchmarks/outages.py --seeds 2

Prints the tables of docs/outages.md, which says what they mean. Real routers decide; the gateway, the network and the time are
those of tests/simulation. Nothing here looks at a real clock.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import routerkit
from tests.simulation.figures import Figures, figures, shortfalls
from tests.simulation.scenarios import ASIDE, SCENARIOS, Scenario

SEEDS = 10


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="how many seeds (%(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them (%(default)s)")
    options = parser.parse_args(arguments)
    seeds = range(options.first, options.first + options.seeds)
    missed = []
    print(f"routerkit {routerkit.__version__}, simulated; seeds {seeds[0]} to {seeds[-1]}: median (worst)\n")
    for title, scenarios in (("What happens", SCENARIOS), ("Beside that", ASIDE)):
        print(heading(title))
        for scenario in scenarios.values():
            found = figures(scenario, seeds)
            print(row(scenario, found), flush=True)
            missed += [f"{scenario.name}: {line}" for line in shortfalls(scenario.targets, found)]
        print()
    print("\n".join(["Targets missed:", *missed]) if missed else "All targets are met.")
    return 1 if missed else 0


COLUMNS: tuple[tuple[str, str, Callable[[float], str], Callable[[Iterable[float]], float]], ...] = (
    ("success", "calls answered", lambda value: f"{100 * value:.2f} %".replace(".00 %", " %"), min),
    ("attempts", "requests for each call", lambda value: f"{value:.3f}", max),
    ("waited", "calls that sat through a timeout", lambda value: f"{100 * value:.1f} %".replace(".0 %", " %"), max),
    ("added_p99", "added to p99", lambda value: f"{value:.2f} s", max),
    ("recovery", "recovery", lambda value: f"{value:.1f} s", max),
    ("peak", "peak after it", lambda value: f"{value:.1f}×", max),
)
"""(Field of `Figures` and of `Targets`, heading, how it is written, which is the worst)."""


def heading(title: str) -> str:
    return table_line((title, *(name for _, name, _, _ in COLUMNS))) + "\n|---|" + "---:|" * len(COLUMNS)


def row(scenario: Scenario, found: Sequence[Figures]) -> str:
    title = scenario.title[0].upper() + scenario.title[1:]
    cells = (cell(scenario, found, field, written, worst) for field, _, written, worst in COLUMNS)
    return table_line((title, *cells))


def cell(
    scenario: Scenario,
    found: Sequence[Figures],
    field: str,
    written: Callable[[float], str],
    worst: Callable[[Iterable[float]], float],
) -> str:
    """Median and worst of all seeds, in bold where there is a target; a dash where there is nothing to tell."""
    if not telling(scenario, found, field):
        return "–"
    values = [getattr(each, field) for each in found]
    middle, last = written(median(values)), written(worst(values))
    text = middle if middle == last else f"{middle} ({last})"
    return f"**{text}**" if getattr(scenario.targets, field) is not None else text


def telling(scenario: Scenario, found: Sequence[Figures], field: str) -> bool:
    if field == "added_p99":
        return min(each.success for each in found) >= 0.99
    if field == "recovery":
        return scenario.targets.recovery is not None
    if field == "peak":
        return scenario.targets.peak is not None or scenario.processes > 1
    return True


def table_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
