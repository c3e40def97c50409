"""The section "configuration": which variables are set, where, who reads them, and whether a client can be made of them."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator, Mapping

from routerkit.cli.doctor.check import CONFIGURATION, Check, failed, ok, skipped, warning
from routerkit.cli.doctor.ignored import is_ignored
from routerkit.cli.doctor.subject import NAMED, Subject
from routerkit.types.secret import shown
from routerkit.types.settings import Settings
from routerkit.variable_names import MAX_NAME, OURS, is_known, nearest


def _examined(subject: Subject) -> Iterator[Check]:
    subject.examine()
    yield from ()


# --- the file ---


def _file(subject: Subject) -> Iterator[Check]:
    path = subject.file
    if path is None:
        yield ok("file", "none: there is no .env in the working folder")
        return
    if subject.in_file is None:
        yield skipped("file", f"{path} cannot be read (see settings)")
        return
    names = [name for name in subject.in_file if OURS.match(name)]
    yield ok("file", f"{path} has {len(names)} variables for routerkit", path=path, variables=sorted(names))


def _holds_secret(subject: Subject) -> bool:
    return any("_API_KEY" in name or name == "ROUTERKIT_STORE" for name in subject.in_file or {})


def _file_mode(subject: Subject) -> Iterator[Check]:
    if subject.file is None or os.name != "posix" or not _holds_secret(subject):
        return
    mode = stat.S_IMODE(os.stat(subject.file).st_mode)
    if mode & 0o077:
        told = f"others on this machine can read {subject.file} (mode {mode:o}), and it holds a key"
        yield warning("file mode", told, f"chmod 600 {subject.file}", mode=f"{mode:o}")


def _file_in_git(subject: Subject) -> Iterator[Check]:
    path = subject.file
    if path is not None and _holds_secret(subject) and is_ignored(path) is False:
        told = f"{path} holds a key and lies in a git checkout that does not ignore it"
        fix = f"add {os.path.basename(path)} to .gitignore; a key that was ever committed must be replaced"
        yield warning("file in git", told, fix)


# --- variables ---


def _variables(subject: Subject) -> Iterator[Check]:
    names = sorted({*_set_here(subject.environment), *_set_here(subject.in_file or {})})
    known = [name for name in names if is_known(name)]
    read = [name for name in known if name in subject.read]
    idle = [name for name in known if name not in subject.read]
    told = [f"{name} ({subject.source(name)})" for name in read] or ["none is set"]
    aside = f"; not looked at here: {', '.join(idle)}" if idle and subject.settings is not None else ""
    listed = [{"name": name, "source": subject.source(name), "read": name in read} for name in names]
    yield ok("variables", ", ".join(told) + aside, variables=listed)
    for name in names:
        if not is_known(name):
            yield _unknown(name)
        elif _differs(subject, name):
            yield warning(
                name,
                f"the environment and {subject.file} say different things: the environment wins",
                f"unset it, or take it out of {subject.file}",
            )


def _set_here(values: Mapping[str, str]) -> list[str]:
    """The names of variables that look like ours and are set to something."""
    return [name for name in values if OURS.match(name) and values[name].strip()]


def _differs(subject: Subject, name: str) -> bool:
    here, there = subject.environment.get(name, "").strip(), (subject.in_file or {}).get(name, "").strip()
    return bool(here and there and here != there)


def _unknown(name: str) -> Check:
    """One that nobody reads, with the name that may have been meant."""
    near = nearest(name)
    shown_name = name if name.isprintable() and len(name) <= MAX_NAME else repr(name[:MAX_NAME])
    fix = f"did you mean {near}?" if near else "docs, configuration: the table of variables"
    return warning(shown_name, "is set, and routerkit knows no such variable", fix, near=near)


# --- settings ---


def _settings(subject: Subject) -> Iterator[Check]:
    for error in subject.problems:
        yield failed("settings", str(error), _remedy(str(error)), CONFIGURATION)
    for oddity in dict.fromkeys(subject.oddities):
        yield warning("settings", oddity, "see whether that is meant")
    settings = subject.settings
    if settings is not None and not subject.problems:
        yield ok("settings", _told(settings), settings=_plain(settings))


def _remedy(message: str) -> str:
    if "API key not configured" in message:
        return "put the key into the environment or a .env file; or try without: --dev"
    if "DEV_MODE" in message and "production" in message:
        return "unset DEV_MODE here; it is for development"
    if "_ENABLED" in message:
        return "name another gateway (--gateway), or switch this one on"
    match = NAMED.match(message)
    return f"correct {match[0]}" if match else "see routerkit --help, and docs, configuration"


def _told(settings: Settings) -> str:
    parts = [" > ".join(gateway.label or gateway.name for gateway in settings.gateways)]
    if settings.tenant is not None:
        parts.append(f"tenant {settings.tenant}")
    parts.append(settings.default_model or "no default model")
    if settings.fallback_models:
        parts.append(f"falls back on {', '.join(settings.fallback_models)}")
    if settings.tenants:
        parts.append(f"{len(settings.tenants)} tenants")
    return "; ".join([*parts, f"deadline {settings.timeouts.total:g} s"])


def _plain(settings: Settings) -> dict[str, object]:
    return {
        "gateways": [gateway.name for gateway in settings.gateways],
        "default_model": settings.default_model,
        "fallback_models": list(settings.fallback_models),
        "tenants": sorted(settings.tenants),
        "timeout": settings.timeouts.total,
        "max_attempts": settings.retry.max_attempts,
    }


def _mode(subject: Subject) -> Iterator[Check]:
    if subject.settings is None:
        yield skipped("dev mode", "the settings cannot be read")
    elif subject.dev:
        why = "--dev" if subject.shared.dev else f"DEV_MODE ({subject.source('DEV_MODE')})"
        told = f"ON, by {why}: every answer is made up, nothing is sent, nothing of the network is checked here"
        yield warning("dev mode", told, "--no-dev looks at the real thing", dev_mode=True)
    else:
        yield ok("dev mode", "off", dev_mode=False)


def _environment_name(subject: Subject) -> Iterator[Check]:
    name = subject.values.get("ROUTERKIT_ENV", "").strip()
    if not name:
        return
    if name.lower() == "production":
        yield ok("ROUTERKIT_ENV", "production: dev mode is refused", environment="production")
    elif name.lower().startswith("prod") or difflib.get_close_matches(name.lower(), ["production"], 1, 0.8):
        told = f"{shown(name)} does not forbid dev mode"
        yield warning("ROUTERKIT_ENV", told, "write production, if that is what it is")
    else:
        yield ok("ROUTERKIT_ENV", f"{shown(name)}: dev mode is allowed")


CHECKS = (_examined, _file, _file_mode, _file_in_git, _variables, _settings, _mode, _environment_name)
