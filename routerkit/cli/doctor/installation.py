"""The section "installation": Python, routerkit, the packages that it needs, what the machine allows."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata

from routerkit import __version__
from routerkit.cli.doctor.check import Check, failed, ok, skipped, warning
from routerkit.cli.doctor.subject import Subject

FEW_FILES = 256
"""Open files, of which each call under way takes one."""

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\s*>=\s*([0-9.]+))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([a-z0-9_-]+)['\"]")


def _python(_: Subject) -> Iterator[Check]:
    version = platform.python_version()
    least = (_metadata("Requires-Python") or "").removeprefix(">=")
    if numbers(version) < numbers(least):
        yield failed(
            "Python", f"{version}; {least} or later is needed", "make the environment anew with a later Python"
        )
    else:
        yield ok("Python", f"{version} on {platform.platform()}", version=version, executable=sys.executable)


def _routerkit(_: Subject) -> Iterator[Check]:
    installed = _metadata("Version")
    if installed is None:
        yield skipped("routerkit", f"{__version__}, not installed as a package: what it needs is not known")
    elif installed != __version__:
        told = f"{__version__} is running, and {installed} is what is installed"
        fix = "install it anew: its list of dependencies may be that of another version"
        yield warning("routerkit", told, fix, version=__version__, installed=installed)
    else:
        yield ok("routerkit", __version__, version=__version__)


def _packages(_: Subject) -> Iterator[Check]:
    yield from packages("packages", "", "cli")


def _metadata(field: str) -> str | None:
    try:
        return next(iter(metadata.metadata("routerkit").get_all(field) or ()), None)
    except metadata.PackageNotFoundError:
        return None


def packages(row: str, *extras: str) -> Iterator[Check]:
    """What the library needs (the extra ``""``) and what its extras need; those that are as they should be in one
    row of this name."""
    found: dict[str, str] = {}
    for name, floor in floors(*extras).items():
        needed = f"'{name}>={floor}'" if floor else name
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield failed(name, "not installed", f"pip install {needed}", needed=floor)
            continue
        if numbers(version) < numbers(floor):
            told = f"{version} is installed, {floor} or later is needed"
            yield failed(name, told, f"pip install -U {needed}", version=version, needed=floor)
        else:
            found[name] = version
    if found:
        yield ok(row, ", ".join(f"{name} {version}" for name, version in found.items()), versions=found)


def floors(*extras: str) -> dict[str, str]:
    """The lowest version of each package, as the installed metadata has it; empty: any."""
    found = {}
    for requirement in _requirements():
        wanted, _, marker = requirement.partition(";")
        extra, match = _EXTRA.search(marker), _REQUIREMENT.match(wanted)
        if match is not None and (extra[1] if extra else "") in extras:
            found[match[1]] = match[2] or ""
    return found


def _requirements() -> list[str]:
    try:
        return metadata.requires("routerkit") or []
    except metadata.PackageNotFoundError:
        return []


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, to be compared; without zeros at its end."""
    found = [int(part) for part in re.findall(r"\d+", re.match(r"[0-9.]*", version)[0])]  # type: ignore[index]  # it matches
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _files(_: Subject) -> Iterator[Check]:
    try:
        import resource
    except ModuleNotFoundError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > FEW_FILES:
        yield ok(
            "open files", "no limit" if soft == resource.RLIM_INFINITY else f"{soft} at most", soft=soft, hard=hard
        )
    else:
        told = f"{soft} at most, and each call under way takes one"
        yield warning("open files", told, "ulimit -n 4096, or LimitNOFILE= of the service", soft=soft, hard=hard)


CHECKS = (_python, _routerkit, _packages, _files)
