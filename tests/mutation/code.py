"""Mutants of code: mutmut, in a copy of the tree, with the tests of one module."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import attrs

from tests.mutation.subjects import Subject

ROOT = Path(__file__).parents[2]
_SHARED = ("__init__.py", "conftest.py", "data", "support")
"""What tests need beside themselves."""


@attrs.frozen
class Survivor:
    function: str
    """``function`` or ``Class.method``."""
    removed: str
    added: str
    """The line before and after, without its indentation."""


def run(subject: Subject, work: Path, processes: int) -> tuple[int, list[Survivor]]:
    """How many mutants there are, and which of them the tests do not notice. Raises RuntimeError when mutmut fails."""
    _prepare(subject, work)
    _mutmut(work, "run", "--max-children", str(processes))
    _mutmut(work, "export-cicd-stats")
    figures = json.loads((work / "mutants" / "mutmut-cicd-stats.json").read_text())
    lines = [line.strip().split(": ") for line in _mutmut(work, "results").splitlines() if ": " in line]
    # A mutant that runs for ever, or takes the process with it, is noticed.
    alive = [name for name, status in lines if status in ("survived", "no tests", "not checked")]
    return int(figures["total"]), [_survivor(work, name) for name in alive]


def _prepare(subject: Subject, work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    (work / "tests").mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "routerkit", work / "routerkit", ignore=ignored)
    for name in (*_SHARED, *(Path(test).name for test in subject.tests)):
        source, copy = ROOT / "tests" / name, work / "tests" / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=ignored)
        else:
            shutil.copy(source, copy)
    settings = {
        "source_paths": ["routerkit"],
        "only_mutate": [subject.path],
        "pytest_add_cli_args_test_selection": list(subject.tests),
        "use_git_change_detection": False,
    }
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    (work / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + f"\n[tool.mutmut]\n{table}")


def _mutmut(work: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "mutmut", *arguments], cwd=work, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"mutmut {arguments[0]} failed in {work}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def _survivor(work: Path, name: str) -> Survivor:
    shown = [line for line in _mutmut(work, "show", name).splitlines() if line[:3] not in ("---", "+++")]
    removed = " ".join(line[1:].strip() for line in shown if line.startswith("-"))
    added = " ".join(line[1:].strip() for line in shown if line.startswith("+"))
    return Survivor(_function(name.rpartition(".")[2]), removed, added)


def _function(mutant: str) -> str:
    """From ``x_function__mutmut_7`` or ``xǁClassǁmethod__mutmut_7``."""
    mangled = mutant.rpartition("__mutmut_")[0]
    return mangled[2:].replace("ǁ", ".")
