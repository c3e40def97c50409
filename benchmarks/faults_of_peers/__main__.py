"""Eighteen ways in which a model fails, one fault server, and what callers get from routerkit and from its peers.

Each peer runs in a virtual environment of its own, with pinned packages, made at first use. Without arguments everything is run,
one case after the other, and Markdown is printed. docs/peers.md tells how to read it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults_of_peers.contestants import CONTESTANTS, OURS, Contestant
from benchmarks.faults_of_peers.environments import default_folder, prepared
from benchmarks.faults_of_peers.faults import FAULTS, Fault
from benchmarks.faults_of_peers.judging import Outcome, handled
from benchmarks.faults_of_peers.race import python_of, run
from benchmarks.faults_of_peers.table import cell, rendered


def race(
    contestants: Sequence[Contestant], faults: Sequence[Fault], folder: Path, jobs: int
) -> dict[tuple[str, str], Outcome]:
    pythons = {contestant.peer: python_of(contestant, folder) for contestant in contestants}

    def case(pair: tuple[Contestant, Fault]) -> tuple[tuple[str, str], Outcome]:
        contestant, fault = pair
        outcome = run(contestant, fault, pythons[contestant.peer])
        print(f"{contestant.peer:<22} {fault.name:<70} {cell(fault, outcome)}", file=sys.stderr, flush=True)
        return (contestant.peer, fault.name), outcome

    pairs = [(contestant, fault) for contestant in contestants for fault in faults]
    with ThreadPoolExecutor(jobs) as pool:
        return dict(pool.map(case, pairs))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults_of_peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [contestant.peer for contestant in CONTESTANTS]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="PEER", help="this one; can be repeated: " + ", ".join(names)
    )
    parser.add_argument(
        "--fault",
        action="append",
        type=int,
        choices=range(1, len(FAULTS) + 1),
        metavar="N",
        help="this row; can be repeated",
    )
    parser.add_argument("--prepare", action="store_true", help="make the environments and end")
    parser.add_argument(
        "--environments",
        type=Path,
        metavar="FOLDER",
        help="where environments are kept (default: a cache of the user's)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="cases run at the same time; more is faster and less exact")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome there, too")
    options = parser.parse_args()
    folder = options.environments or default_folder()
    contestants = [each for each in CONTESTANTS if not options.only or each.peer in options.only]
    faults = [fault for number, fault in enumerate(FAULTS, 1) if not options.fault or number in options.fault]
    if options.prepare:
        for name in sorted({each.environment for each in contestants} - {OURS}):
            print(prepared(name, folder))
        return
    results = race(contestants, faults, folder.resolve(), options.jobs)
    if options.json:
        rows = [
            {
                "peer": peer,
                "fault": fault.name,
                **asdict(outcome),
                "mark": outcome.mark,
                "handled": handled(fault, outcome),
            }
            for (peer, name), outcome in results.items()
            for fault in faults
            if fault.name == name
        ]
        options.json.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", "utf-8")
    versions = dict.fromkeys(each.versions for each in contestants if each.packages)
    print(f"Python {platform.python_version()}, {platform.system()}; " + "; ".join(versions), end="\n\n")
    print(rendered(contestants, results, faults))


if __name__ == "__main__":
    main()
