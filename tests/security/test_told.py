"""What an error, a log, a pickle and an error tracker tell of a call that failed: no key, no prompt, no answer.

Every trouble is gone through once for each facade and kind of call; the tests look at what was left behind.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path

import attrs
import pytest

from routerkit import RouterKitError
from tests.security.canaries import (
    KEY,
    PROMPT,
    SECOND_KEY,
    chain,
    found_in,
    leaks,
    listening,
    said_by,
    shown_by,
    shown_in,
)
from tests.security.troubles import CASES, ask, gateway


@attrs.frozen
class Remains:
    """What is left of a call that failed: where canaries were found."""

    error: BaseException
    said: list[str]
    shown: list[str]
    logged: list[str]
    loggers: set[str]
    pickled: list[str]
    key_sent: bool
    prompt_sent: bool


@cache
def remains(case: str) -> Remains:
    facade, kind, trouble = CASES[case]
    with listening() as listener, gateway(trouble) as (url, server):
        try:
            ask(facade, kind, trouble, url, server, lambda _: None)
        except BaseException as error:
            caught = error
        else:
            raise AssertionError("nothing failed")
    ours = [each for each in chain(caught) if isinstance(each, RouterKitError)]
    found = Remains(
        caught,
        leaks(said_by(caught)),
        leaks(shown_by(caught)),
        leaks(listener.lines),
        {where for where, _ in listener.lines},
        # What had arrived of a stream is data of its error, and travels with it.
        leaks(((type(each).__name__, pickle.dumps(each).decode("latin-1")) for each in ours), allowed=["answer"]),
        any(request.api_key in (KEY, SECOND_KEY) for request in server.requests),
        any(PROMPT.encode() in request.body for request in server.requests),
    )
    caught.__traceback__ = None
    return found


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> str:
    """Of this scope, so that whatever looks at one case comes together: in one process, where it has been gone through."""
    name: str = request.param
    return name


def test_the_case_is_what_it_says(case: str) -> None:
    (_, kind, trouble), left = CASES[case], remains(case)
    assert isinstance(left.error, trouble.raises)
    sent = trouble.reply is not None
    assert (left.key_sent, left.prompt_sent) == (sent, sent and kind not in ("models", "key_info")), (
        "key and prompt must have been at stake"
    )


def test_no_error_tells_a_canary(case: str) -> None:
    assert remains(case).said == []


def test_no_frame_shows_a_canary(case: str) -> None:
    assert remains(case).shown == []


def test_no_log_line_tells_a_canary(case: str) -> None:
    assert remains(case).logged == []


def test_no_pickle_carries_key_or_prompt(case: str) -> None:
    assert remains(case).pickled == []


def test_the_logs_were_listened_to() -> None:
    said = set().union(*(remains(case).loggers for case in CASES))
    assert {"log of routerkit", "log of asyncio"} <= said


def test_a_canary_is_found_where_there_is_one() -> None:
    """That the tests above can fail."""

    def careless() -> None:
        headers = {"Authorization": [f"Bearer {KEY}"]}
        raise ValueError(PROMPT) if headers else KeyError

    with pytest.raises(ValueError, match=PROMPT) as caught:
        careless()
    shown = leaks(shown_by(caught.value))
    assert any(each.startswith("key: test_told.py") and "headers['Authorization'][0]" in each for each in shown)
    assert leaks(said_by(caught.value)) == [f"prompt: {what}(ValueError)" for what in ("str", "repr")] + [
        "prompt: ValueError.args"
    ]
    assert list(shown_in(sys._getframe()))
    assert found_in(f"{KEY} {PROMPT}") == {"key", "prompt"}


@pytest.fixture(scope="module")
def tracked() -> dict[str, dict[str, list[str]]]:
    """What Sentry would have sent of each of some cases: in a process of its own, because it changes many libraries."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.security.tracked"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, dict[str, list[str]]] = json.loads(done.stdout)
    return answer


def test_sentry_gets_no_canary(tracked: dict[str, dict[str, list[str]]]) -> None:
    assert {case: seen["leaks"] for case, seen in tracked.items() if case != "control" and seen["leaks"]} == {}


def test_sentry_was_told_everything(tracked: dict[str, dict[str, list[str]]]) -> None:
    """That the test above can fail: events have our frames with their locals, and a careless program is found out."""
    assert len(tracked) > 25
    for case, seen in tracked.items():
        assert seen["events"], case
        assert case == "control" or seen["locals"], case
    assert {each.partition(":")[0] for each in tracked["control"]["leaks"]} == {"key", "prompt"}
