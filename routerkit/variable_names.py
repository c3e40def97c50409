"""Names of environment variables: which there are, and which may have been meant by one that nobody reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from routerkit.environment import ALL_PREFIXES, TENANT_VARIABLES, VARIABLES

NAMES = tuple(
    name
    for variable in VARIABLES
    for name in ([prefix + variable.name for prefix in ALL_PREFIXES] if variable.prefixed else [variable.name])
)
"""The full names of all variables but those of tenants."""

OURS = re.compile(
    r"\W*(?:(OPEN_?ROUTER|INFRON|ONE_?ROUTER|ROUTER_?KIT)(?:_(.*)|$)|DEV_?MODE$)", re.IGNORECASE | re.DOTALL
)
"""What looks as if it were meant for routerkit."""
UNKNOWN = "%s is set, and routerkit knows no such variable%s"
MAX_NAME = 100
"""Characters of a variable's name that are shown."""

_seen: set[str] = set()
"""Names that :func:`misspelt` has looked at."""

_OF_A_TENANT = re.compile(
    rf"(?:{'|'.join(ALL_PREFIXES)})TENANT_[A-Z0-9_]+_(?:{'|'.join(each.name for each in TENANT_VARIABLES)})"
)


def is_known(name: str) -> bool:
    """Whether somebody reads a variable of that name."""
    return name in NAMES or _OF_A_TENANT.fullmatch(name) is not None


def nearest(name: str) -> str | None:
    """The variable that may have been meant by a name that looks like one of ours and is none."""
    match = OURS.match(name)
    if match is None or match[1] is None:
        return None if match is None else "DEV_MODE"
    family, rest = match[1].replace("_", "").upper() + "_", (match[2] or "").upper()
    if rest.startswith("TENANT") and family in ALL_PREFIXES:
        return f"{family}TENANT_<NAME>_…"
    import difflib  # only mistakes need it

    known = [each.removeprefix(family) for each in NAMES if each.startswith(family)]
    found = difflib.get_close_matches(rest, known, 1, 0.8)
    return family + found[0] if found else None


def misspelt(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Names of variables that are set and that nobody reads, and what else is to be said of each: those that resemble one of ours,
    and any that begins with our own name. Other programs may have variables for the same gateways.

    Each is told once in a process, which may make many clients.
    """
    for name in values:
        if name in _seen:
            continue
        match = OURS.match(name)
        if match is None or match[1] is None or len(name) > MAX_NAME or is_known(name) or not values[name].strip():
            continue
        _seen.add(name)
        near = nearest(name)
        if near is not None or name.startswith("ROUTERKIT_"):
            yield name if name.isprintable() else repr(name), f": did you mean {near}?" if near else ""
