"""The last thing before anything is shown: no key and no password gets out, wherever it came from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import attrs

from routerkit.cli.doctor.check import Check
from routerkit.cli.doctor.subject import Subject
from routerkit.types.secret import SHORTEST as SHORTEST_KEY

SHORTEST = 4
"""Characters: shorter ones would be found in every second word."""

_LIKE_A_KEY = re.compile(r"\bsk-[A-Za-z0-9_-]{12,}")
_LOGIN = re.compile(r"(?<=://)[^\s/@]+@")


def concealed(check: Check, subject: Subject) -> Check:
    """The same without any secret that the variables hold."""
    secrets = sorted(set(_secrets(subject)), key=len, reverse=True)
    return attrs.evolve(
        check,
        name=_without(check.name, secrets),
        found=_without(check.found, secrets),
        fix=_without(check.fix, secrets),
        facts=_without(dict(check.facts), secrets),
    )


def _secrets(subject: Subject) -> Iterator[str]:
    for values in (subject.environment, subject.in_file or {}):
        yield from _of(values)
    for proxy in getproxies().values():
        yield from _logins(proxy)


def _of(values: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        if "_API_KEY" in name:
            yield from _long(filter(_is_key, (part.strip() for part in (*value.split(","), value))))
        elif name == "ROUTERKIT_STORE":
            yield from _logins(value)


def _is_key(text: str) -> bool:
    """And no word such as ``none``, with which servers on one's own machine are content: see :meth:`Secret.conceal`."""
    return len(text) >= SHORTEST_KEY or text.startswith("sk-")


def _logins(url: str) -> Iterator[str]:
    """The password in a URL, as it stands and as it is meant; a user name is shown."""
    try:
        password = urlsplit(url if "://" in url else f"//{url}").password or ""
    except ValueError:
        return
    yield from _long({password, unquote(password)})
    yield from _long(re.findall(r"[?&]sentinel_password=([^&#]*)", url))


def _long(parts: Iterable[str]) -> Iterator[str]:
    return (str.__str__(part) for part in parts if len(part) >= SHORTEST)


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "<redacted>")
        return _LOGIN.sub("<redacted>@", _LIKE_A_KEY.sub("<redacted>", value))
    if isinstance(value, dict):
        return {name: _without(each, secrets) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without(each, secrets) for each in value]
    return value
