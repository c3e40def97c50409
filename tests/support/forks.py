"""Work done in forked children, all at the same time."""

from __future__ import annotations

import faulthandler
import json
import os
import traceback
import warnings
from collections.abc import Callable
from typing import Any

CHILDREN = 4
PATIENCE = 50.0
"""Seconds, real ones, after which a child that hangs says where, and dies."""


def forked(work: Callable[[int], list[str]], children: int = CHILDREN) -> list[list[str]]:
    """What the work gives in each of several children; AssertionError with what became of those that gave nothing."""
    pipes = []
    for number in range(children):
        receiving, sending = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: that is what this is about
            pid = os.fork()
        if pid == 0:
            _child(sending, work, number)
        os.close(sending)
        pipes.append((pid, receiving))
    results = []
    for pid, receiving in pipes:
        with os.fdopen(receiving) as pipe:
            told = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        results.append(json.loads(told) if told else {"died": status})
    failures = [result for result in results if isinstance(result, dict)]
    assert not failures, "\n\n".join(str(failure.get("raised", failure)) for failure in failures)
    return results


def _child(sending: int, work: Callable[[int], list[str]], number: int) -> None:
    """The whole life of a child, which never returns into the tests."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True, file=2)
    told: Any = None
    try:
        told = work(number)
    except BaseException:
        told = {"raised": f"child {number}: {traceback.format_exc()}"}
    finally:
        with os.fdopen(sending, "w") as pipe:
            json.dump(told, pipe)
        os._exit(0)
