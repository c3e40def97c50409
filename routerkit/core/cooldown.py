"""Cooldowns: times until which a model, gateway or key is skipped because the server said so."""

from __future__ import annotations

from typing import NamedTuple

import attrs

from routerkit.core.keys import Key
from routerkit.types.route import Target
from routerkit.types.verdict import Blame, Verdict


class Scope(NamedTuple):
    """What a cooldown applies to."""

    kind: str
    """``gateway``, ``key``, ``free`` (a key's free models), ``model``, ``limited`` (a model with one key), ``policy`` (a model
    for one owner of keys, whose settings exclude it)."""
    gateway: str
    owner: str = ""
    key: str = ""
    model: str = ""

    def __str__(self) -> str:
        whose = " ".join(word for word in (self.owner, self.key) if word)
        suffix = f" ({whose})" if whose else ""
        if self.model:
            return f"{self.model} on {self.gateway}{suffix}"
        if self.kind == "gateway":
            return f"gateway {self.gateway}"
        return f"the key of {self.gateway}{suffix}{' (free models)' if self.kind == 'free' else ''}"


@attrs.frozen
class Cooldown:
    until: float
    """On the monotonic clock."""
    verdict: Verdict
    """What caused it."""
    status: int | None = None


def scope_of(target: Target, key: Key, verdict: Verdict) -> Scope:
    """What rests after a verdict."""
    if verdict.code == "free_tier_exhausted":
        return key_scope("free", target, key)
    if verdict.blame is Blame.KEY:
        return key_scope("key", target, key)
    if verdict.blame is Blame.GATEWAY:
        return Scope("gateway", target.gateway)
    if verdict.blame is Blame.TENANT:
        return Scope("policy", target.gateway, key.owner, model=target.model)
    if verdict.code == "rate_limited":  # by whose key, as far as anybody knows: another one may still be served
        return Scope("limited", target.gateway, key.owner, key.name, target.model)
    return Scope("model", target.gateway, model=target.model)


def key_scope(kind: str, target: Target, key: Key) -> Scope:
    """A key of a target's gateway, or its free models."""
    return Scope(kind, target.gateway, key.owner, key.name)
