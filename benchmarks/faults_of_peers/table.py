"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.faults_of_peers.contestants import Contestant
from benchmarks.faults_of_peers.faults import FAULTS, Fault
from benchmarks.faults_of_peers.judging import Mark, Outcome, handled

Results = Mapping[tuple[str, str], Outcome]
"""By peer and the fault's name."""


def rendered(contestants: Sequence[Contestant], results: Results, faults: Sequence[Fault] = FAULTS) -> str:
    return "\n\n".join(
        [_summary(contestants, results, faults), _matrix(contestants, results, faults), _classes(contestants, results)]
    )


def _summary(contestants: Sequence[Contestant], results: Results, faults: Sequence[Fault]) -> str:
    rows = []
    for contestant in contestants:
        outcomes = [(fault, results[contestant.peer, fault.name]) for fault in faults]
        count = {mark: sum(outcome.mark == mark for _, outcome in outcomes) for mark in MARKS}
        good = sum(handled(fault, outcome) for fault, outcome in outcomes)
        rows.append(
            [
                contestant.title,
                f"**{good}**",
                *(str(count[mark]) for mark in MARKS),
                str(count["answered"] + count["error"]),
                "over 40 s" if count["stuck"] else f"{max(outcome.seconds or 0 for _, outcome in outcomes):.1f} s",
            ]
        )
    head = ["", f"handled, of {len(faults)}", *MARKS, "told the truth", "slowest end"]
    return _table(head, rows)


MARKS: tuple[Mark, ...] = ("answered", "error", "silent", "stuck")


def _matrix(contestants: Sequence[Contestant], results: Results, faults: Sequence[Fault]) -> str:
    rows = [
        [fault.name, *(cell(fault, results[contestant.peer, fault.name]) for contestant in contestants)]
        for fault in faults
    ]
    return _table(["fault of the primary", *(contestant.title for contestant in contestants)], rows)


def cell(fault: Fault, outcome: Outcome) -> str:
    """Handled or not; what the caller got; seconds; requests to the broken model."""
    sign = "✓" if handled(fault, outcome) else "✗"
    seconds = "-" if outcome.seconds is None else f"{outcome.seconds:.1f} s"
    return f"{sign} {outcome.mark}, {seconds}, {outcome.primary}"


def _classes(contestants: Sequence[Contestant], results: Results) -> str:
    """The classes of the exceptions raised."""
    rows = []
    for contestant in contestants:
        classes = [outcome.error for (peer, _), outcome in results.items() if peer == contestant.peer and outcome.error]
        told = ", ".join(f"`{name}` {classes.count(name)}" for name in sorted(set(classes)))
        rows.append([contestant.title, told or "none"])
    return _table(["", "exceptions raised"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
