"""What counts as handling a fault: said once, and the same for everybody.

A fault is handled when, within ten seconds,

- the caller has the whole answer of the fallback and nothing else, or, where no other model can set it right or text was handed
  over already, an exception; and
- the broken model was asked at most twice, and once only where it refused the key or the account.

Never handled is silence: a call or a stream that ends like any other, with an empty, cut or mixed text. Four things can happen to
the caller: *answered*, *error* (an exception of any class), *silent*, and *stuck*: no end within the guard, after which the
process is ended. A peer without a fallback can do no better than *error* where the fallback's answer is due, and is not excused:
the table is about what the caller gets. How often a peer told the truth, by an answer or by an error, is counted besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.faults_of_peers.faults import ANSWER, Fault

PATIENCE = 10.5
"""Seconds within which the caller must have it, with a client timeout of 3 s: ten, and a half for a deadline of ten."""
ASKED = 2
"""Requests that a broken model may get from one call."""

Mark = Literal["answered", "error", "silent", "stuck"]


@dataclass(frozen=True)
class Outcome:
    """What one contestant made of one fault."""

    pieces: tuple[str, ...]
    """The texts that the caller got, in order: one for a completion."""
    error: str | None
    """The class of what was raised."""
    message: str
    seconds: float | None
    """Without imports and the healthy call before; `None`: it was still running when the guard ended it."""
    primary: int
    """Requests to the broken model after the fault set in, counted by the server."""
    fallback: int

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def mark(self) -> Mark:
        if self.seconds is None:
            return "stuck"
        if self.error is not None:
            return "error"
        return "answered" if self.text == ANSWER else "silent"


def handled(fault: Fault, outcome: Outcome) -> bool:
    """Whether it counts."""
    if outcome.seconds is None or outcome.seconds > PATIENCE:
        return False
    if outcome.primary > (1 if fault.due.endswith("asked once") else ASKED):
        return False
    return outcome.mark == "answered" or (outcome.mark == "error" and fault.due != "the answer")
