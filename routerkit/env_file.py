"""``.env`` files: what they hold, and how it stands to the environment."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from routerkit.environment import ALL_PREFIXES, PREFIXES, Environment, Variables, keys_in
from routerkit.errors import ConfigurationError
from routerkit.types.gateway import checked_url, is_loopback
from routerkit.types.secret import is_like_a_key


def with_file(path: str | os.PathLike[str], values: Mapping[str, str]) -> Variables:
    """An environment and, below it, the variables of a ``.env`` file. Raises ConfigurationError."""
    return below(values, Variables(from_file(path)), path)


def below(values: Mapping[str, str], file: Mapping[str, str], path: str | os.PathLike[str]) -> Variables:
    """An environment and, below it, what was read from a file.

    The environment wins also where it says the same under another name: ``API_KEYS`` for ``API_KEY``, ``ONEROUTER_`` for
    ``INFRON_``. A key of the environment is not sent to an address that only the file names: whoever can place a file in a
    folder would else receive the key. One of our variables that holds ``${…}`` is refused, as it is not filled in.
    Raises ConfigurationError.
    """
    here = {_meaning(name) for name in values if values[name].strip()}
    told = {name for name in file if _meaning(name) not in here}
    for name in sorted(told):
        if _OURS.fullmatch(name) and "${" in file[name]:
            raise ConfigurationError(
                f"{name}: holds ${{…}}, which is not filled in: write the value itself ({_named(path)})"
            )
    both = Variables({**values, **{name: file[name] for name in told}})
    for gateway in PREFIXES:
        environment = Environment(both, gateway)
        url = environment.find("BASE_URL")
        keys = [*keys_in(values, environment.prefixes)]
        if url is None or url[0] not in told or not keys:
            continue
        if not is_loopback(urlsplit(checked_url(url[1], url[0])).hostname or ""):
            raise ConfigurationError(
                f"{url[0]} comes from {os.fspath(path)!r} and {keys[0]} from the environment: set both in the same place"
            )
    return both


def _meaning(name: str) -> str:
    """A variable's name with what is only another way to write it made the same."""
    prefix = next((prefix for prefix in ALL_PREFIXES if name.startswith(prefix)), "")
    gateway = next((gateway for gateway, several in PREFIXES.items() if prefix in several), "")
    if not gateway:
        return name
    rest = name.removeprefix(prefix)
    rest = rest.removesuffix("S") if rest.endswith("API_KEYS") else rest
    return f"{gateway} {'MAX_RETRIES' if rest == 'RETRY_ATTEMPTS' else rest}"


_OURS = re.compile(rf"(?:{'|'.join(ALL_PREFIXES)}|ROUTERKIT_)[A-Z0-9_]+|DEV_MODE")
_ASSIGNED = re.compile(rf"^[ \t]*(?:export[ \t]+)?({_OURS.pattern})\b", re.MULTILINE)


def from_file(path: str | os.PathLike[str]) -> dict[str, str]:
    """The variables of a ``.env`` file, read with python-dotenv as they stand. Raises ConfigurationError.

    python-dotenv passes over what it cannot read; where that would be one of ours it is refused.
    """
    try:
        from dotenv import dotenv_values
    except ModuleNotFoundError:
        raise ConfigurationError("env_file= needs python-dotenv: pip install 'routerkit[cli]'") from None
    name = _named(path)
    if not os.path.exists(path):
        raise ConfigurationError(f"{name}: no such file")
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeError:
        raise ConfigurationError(f"{name}: cannot be read: it is no text in UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot be read: {error.strerror or type(error).__name__}") from None
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    wrong = _unreadable(text, values)
    if wrong:
        del text, values  # error trackers show the locals of frames
        raise ConfigurationError(f"{wrong} ({name})")
    return {name: value for name, value in values.items() if value is not None}


def _unreadable(text: str, values: Mapping[str, str | None]) -> str:
    """What is wrong with the first of our variables in a file that cannot be read, without its value."""
    for match in _ASSIGNED.finditer(text):
        if match[1] not in values:
            return f"{match[1]}: cannot be read: it must be NAME=value on one line, and quotes must be closed"
    return ""


def _named(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    return "env_file=…" if is_like_a_key(text) else f"env_file={text!r}"
