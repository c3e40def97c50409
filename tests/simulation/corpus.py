"""The seeds that showed a bug once, in `seeds.txt`."""

from __future__ import annotations

from pathlib import Path

KEPT = Path(__file__).with_name("seeds.txt")


def kept() -> list[tuple[str, int]]:
    """(scenario, seed), each once, as they stand in the file."""
    lines = [line.split() for line in KEPT.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return list(dict.fromkeys((words[0], int(words[1])) for words in lines))


def keep(scenario: str, seed: int, why: str) -> None:
    """Add a seed, unless it is there."""
    if (scenario, seed) not in kept():
        with KEPT.open("a", encoding="utf-8") as file:
            file.write(f"{scenario} {seed}    {' '.join(why.split())[:100]}\n")
