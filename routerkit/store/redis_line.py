"""Asks a Redis for all of one client: lets through who may ask, and takes down what comes of it."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from routerkit.core.effects import Ask, Lock, Loss, Runtime, StoreFailure
from routerkit.store.redis_address import Address
from routerkit.store.redis_ask import ADD, Asking, ask
from routerkit.store.redis_gate import Gate
from routerkit.store.redis_names import Names
from routerkit.types.event import StoreChanged, StoreState

T = TypeVar("T")
Reader: TypeAlias = Callable[[object], tuple[T, int]]
"""Makes of a reply what it says, and how many unreadable values were replaced. Raises StoreFailure."""

log = logging.getLogger("routerkit")


class Line:
    """One per store. What it keeps is guarded by its lock, which its owner uses as well."""

    def __init__(
        self, runtime: Runtime, address: Address, names: Names, notify: Callable[[StoreChanged], object] | None
    ) -> None:
        """``notify`` is told outside the lock; what it raises is logged and changes nothing."""
        self._runtime = runtime
        self._address = address
        self._names = names
        self._notify = notify
        self.gate = Gate()
        self.losses = self.replaced = 0
        self.forget()

    def forget(self) -> None:
        """In a forked child: the lock, the identity, and what is under way, are the parent's."""
        self.lock: Lock = self._runtime.lock()
        self._process = os.urandom(8).hex()
        self._numbers = itertools.count(1)
        self.gate.reset()

    def identity(self) -> str:
        """A word that nobody else uses, and we only once."""
        return f"{self._process}-{next(self._numbers)}"

    def is_ours(self, identity: str) -> bool:
        """Whether it was made in this process, not in the one of which this is a fork."""
        return identity.startswith(f"{self._process}-")

    def enter(self) -> bool:
        """Whether the one who asks this may ask Redis. Whoever may must go on with :meth:`answer`."""
        with self.lock:
            return self.gate.enter(self._runtime.monotonic())

    def probe(self, owner: str) -> Asking[bool]:
        """Whether all is well. After a failure it asks whether Redis can be written to, where it may."""
        if not self.gate.suspicious:
            return True
        if not self.enter():
            return False
        order = ask(ADD, (self._names.batch(self.identity(), owner),))
        return (yield from self.answer(order, numbers(3))) is not None

    def answer(self, order: Ask, read: Reader[T], *, proof: bool = True) -> Asking[T | None]:
        """The reply to an order for which we were let in; ``None``: there is none.

        ``proof``: whether a reply shows that Redis can be written to. One that cannot is lost, though it may be read.
        """
        try:
            value, replaced = read((yield order))
        except StoreFailure as failure:
            self.failed(failure)
            return None
        except BaseException:
            with self.lock:
                self.gate.left()
            raise
        back = False
        with self.lock:
            self.replaced += replaced
            if self.gate.suspicious:
                if proof:
                    back = self.gate.lost
                    self.gate.reset()
                else:
                    self.gate.left()
        if back:
            log.warning("Redis at %s is back", self._address)
            self.tell(StoreState.BACK)
        return value

    def failed(self, failure: StoreFailure, *, hopeless: bool = False) -> None:
        """No reply came; ``hopeless``: none will for now."""
        denied = failure.loss is Loss.DENIED
        with self.lock:
            now, timeout = self._runtime.monotonic(), failure.loss is Loss.TIMEOUT
            lost = self.gate.failed(now, timeout=timeout, hopeless=hopeless or denied)
            self.losses += lost
        if lost:
            why = f"{failure.loss}: {failure.detail}" if failure.detail else str(failure.loss)
            log.warning("Redis at %s is lost (%s): until it is back each process counts for itself", self._address, why)
            self.tell(StoreState.LOST, why)

    def tell(self, state: StoreState, detail: str = "") -> None:
        """Not to be called under the lock."""
        if self._notify is not None:
            try:
                self._notify(StoreChanged(state, detail))
            except Exception:
                log.exception("nobody could be told that the store changed")


def numbers(length: int) -> Reader[list[int]]:
    """Reads so many numbers, of which the third tells how many values were replaced."""

    def read(reply: object) -> tuple[list[int], int]:
        if isinstance(reply, bytes) and len(reply) <= 40 * length:
            try:
                found = [int(each) for each in reply.split()]
            except ValueError:
                found = []
            if len(found) == length:
                return found, found[2]
        raise no_reply_of_ours(reply)

    return read


def no_reply_of_ours(reply: object) -> StoreFailure:
    return StoreFailure(Loss.REPLY, type(reply).__name__)
