"""What our keys are called in Redis: nothing that anybody chose stands in them, so nobody can reach another's."""

from __future__ import annotations

import base64
import hashlib
import hmac

from routerkit.core.limits import Charge

_KEPT = 10_000
SEAL = 32
"""Bytes of a seal."""


class Names:
    """Keys of one namespace. Those of one owner share a hash tag, so that a cluster keeps them together."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace.encode("utf-8", "surrogatepass")
        self._tags: dict[str, str] = {}
        self._limits: dict[tuple[str, str, str, str], tuple[str, str]] = {}
        self._scopes: dict[str, str] = {}
        self.hints = self._tag("") + "hints"

    def limit(self, charge: Charge, owner: str) -> tuple[str, str]:
        """A limit, and the set of what is held of it."""
        named = owner, charge.kind._value_, charge.period, charge.name
        known = self._limits.get(named)
        if known is None:
            # A length before each part: whatever stands in them, two limits never make one text.
            key = self._tag(owner) + self._hash("".join(f"{len(part)}:{part}" for part in named))
            if len(self._limits) >= _KEPT:
                self._limits.clear()
            known = self._limits[named] = key, key + ":h"
        return known

    def grant(self, identity: str, owner: str) -> str:
        """The marker of an admission. ``identity`` is our own."""
        return f"{self._tag(owner)}g:{identity}"

    def batch(self, identity: str, owner: str) -> str:
        """The marker of what was added. ``identity`` is our own."""
        return f"{self._tag(owner)}b:{identity}"

    def check(self, identity: str) -> str:
        """What commands are tried on. ``identity`` is our own."""
        return f"{self._tag('')}c:{identity}"

    def lease(self, scope: str) -> str:
        """What one process may do at a time."""
        return f"{self._tag('')}l:{self._hash('lease:' + scope)}"

    def blob(self, name: str) -> str:
        """Bytes that processes share."""
        return f"{self._tag('')}d:{self._hash('blob:' + name)}"

    def part(self, day: int, part: int) -> str:
        """Of what is added up for a day, since 1970."""
        return f"{self._tag('')}t:{day}:{part}"

    def scope(self, scope: str) -> str:
        """Among the hints: no key."""
        known = self._scopes.get(scope)
        if known is None:
            if len(self._scopes) >= _KEPT:
                self._scopes.clear()
            known = self._scopes[scope] = self._hash("scope:" + scope)
        return known

    def seal(self, name: str, data: bytes) -> bytes:
        """By which bytes of ours are known, under their name and in this namespace."""
        seal = hmac.new(self._namespace, f"seal:{len(name)}:{name}".encode("utf-8", "surrogatepass"), hashlib.sha256)
        seal.update(data)
        return seal.digest()

    def _tag(self, owner: str) -> str:
        known = self._tags.get(owner)
        if known is None:
            if len(self._tags) >= _KEPT:
                self._tags.clear()
            known = self._tags[owner] = f"{{rk:{self._hash('owner:' + owner)}}}:"
        return known

    def _hash(self, text: str) -> str:
        digest = hmac.digest(self._namespace, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return base64.b32encode(digest).decode()[:26].lower()
