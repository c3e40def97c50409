"""What an attempt's outcome means: plain values, judged in :mod:`routerkit.core.verdict`."""

from __future__ import annotations

from enum import Enum

import attrs


class Word(str, Enum):
    """An enumeration whose members are, and print as, their own lower-case word."""

    def __str__(self) -> str:
        return str(self.value)


class Action(Word):
    """What the call does next."""

    RETURN = "return"
    RETRY_SAME = "retry_same"
    NEXT_MODEL = "next_model"
    NEXT_GATEWAY = "next_gateway"
    NEXT_KEY = "next_key"
    FAIL = "fail"


class Blame(Word):
    """Whose fault it was. Only ``model`` and ``gateway`` feed breakers."""

    NOBODY = "nobody"
    REQUEST = "request"
    MODEL = "model"
    GATEWAY = "gateway"
    KEY = "key"
    TENANT = "tenant"
    LOCAL = "local"


class Sample(Word):
    """What a breaker records. ``neutral`` gives the permit back and records nothing."""

    OK = "ok"
    FAIL = "fail"
    SLOW = "slow"
    NEUTRAL = "neutral"


class Billing(Word):
    """Whether the attempt may cost money."""

    NONE = "none"
    POSSIBLE = "possible"
    CONFIRMED = "confirmed"


class Sent(Word):
    """How far the request got: proved not sent, maybe processed, or answered with a status line."""

    NOT_SENT = "not_sent"
    MAYBE = "maybe"
    RESPONDED = "responded"


class Condition(Word):
    """What the next model must offer for ``next_model`` to make sense; without such a model the call fails."""

    ANY = "any"
    CAPABLE = "capable"
    LARGER_CONTEXT = "larger_context"
    CHEAPER = "cheaper"


@attrs.frozen(str=False)
class Verdict:
    """The meaning of one outcome. ``str(verdict)`` is its code."""

    code: str
    """A stable word, e.g. ``rate_limited``; every code is documented under "Errors"."""
    action: Action
    blame: Blame
    sample: Sample = Sample.NEUTRAL
    billing: Billing = Billing.NONE
    sent: Sent = Sent.RESPONDED
    cooldown: float = 0.0
    """Seconds for which the blamed scope (model, gateway or key) is skipped by all calls; 0: none."""
    retry_after: float | None = None
    """Seconds after which the server said to come back, clamped to a day; ``None``: it did not say."""
    retry_if_last: bool = False
    """Whether the same target is worth another attempt when no other is left."""
    condition: Condition = Condition.ANY

    def __str__(self) -> str:
        return self.code
