"""The keys with which a client reaches one gateway. Several share the work: each attempt takes the one with the least to do."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from routerkit.types.gateway import Gateway
from routerkit.types.route import Target
from routerkit.types.secret import Credential, Secret


class Key:
    """One key of one gateway; or its absence, for servers that ask for none."""

    __slots__ = ("_under_way", "counted", "credential", "name", "owner", "secret", "turn")

    def __init__(self, secret: Secret | None, gateway: Gateway, name: str = "", owner: str = "") -> None:
        self.secret = secret
        self.credential = None if secret is None else Credential(secret, gateway.base_url)
        self.name = name
        """What tells it from its owner's other keys for the gateway, as people may read it; empty for an only one."""
        self.owner = owner
        """The tenant whose key it is; empty for a client without tenants."""
        self.counted = bool(name)
        """Whether its load matters, as there are others to choose."""
        self._under_way: deque[None] = deque()  # its operations are atomic: the garbage collector may be giving back
        self.turn = 0
        """When it was taken last, as a place in the order of all attempts."""

    @property
    def in_flight(self) -> int:
        """Attempts under way with it."""
        return len(self._under_way)

    def take(self, turn: int) -> None:
        """An attempt begins; its place in the order of all attempts."""
        self._under_way.append(None)
        self.turn = turn

    def give_back(self) -> None:
        """An attempt is over. Takes no lock."""
        if self._under_way:
            self._under_way.pop()

    def forget(self) -> None:
        """In a forked child: the attempts under way are the parent's."""
        self._under_way.clear()

    def __repr__(self) -> str:
        return f"Key({self.secret!r}, in_flight={self.in_flight})"


def ring(gateway: Gateway, secrets: Sequence[Secret], owner: str = "") -> tuple[Key, ...]:
    """The keys of one gateway; a single nameless one where there is none or one."""
    if len(secrets) < 2:
        return (Key(secrets[0] if secrets else None, gateway, owner=owner),)
    names: list[str] = []
    for secret in secrets:
        name = f"…{secret.fingerprint}"
        names.append(name if name not in names else f"{name} {len(names) + 1}")
    return tuple(Key(secret, gateway, name, owner) for secret, name in zip(secrets, names, strict=True))


def by_load(keys: Sequence[Key]) -> list[Key]:
    """The one with the fewest attempts under way first; of equals, the one that was not taken for longest."""
    return sorted(keys, key=lambda key: (key.in_flight, key.turn))


class Tried:
    """With which keys one call has asked its targets, as far as that matters later. Most need to know nothing of it."""

    _refused: tuple[tuple[Target, Key], ...] = ()
    _spent: tuple[Key, ...] = ()
    _freed: tuple[Target, ...] = ()

    def refused(self, target: Target, key: Key) -> None:
        """A key was refused there."""
        self._refused = (*self._refused, (target, key))

    def others(self, target: Target, keys: Sequence[Key], key: Key | None = None) -> list[Key]:
        """Those of these keys that were not refused there, and this one."""
        return [each for each in keys if each is key or (target, each) not in self._refused]

    def spend(self, key: Key) -> None:
        """A key was refused for whatever its gateway has."""
        self._spent = (*self._spent, key)

    def spent(self, key: Key) -> bool:
        return key in self._spent

    def free(self, target: Target) -> None:
        """An attempt there is no further try: it is made at once, with another key or on a new connection."""
        self._freed = (*self._freed, target)

    def freed(self, target: Target) -> int:
        """How many there are of these."""
        return self._freed.count(target)
