"""The race of the peers, as far as it can be run without them: routerkit handles all eighteen faults, and the judge is just.

The peers need environments of their own and minutes; `python -m benchmarks.faults_of_peers` runs them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.faults_of_peers import referee
from benchmarks.faults_of_peers.contestants import CONTESTANTS, OURS, Contestant
from benchmarks.faults_of_peers.environments import PINS, version
from benchmarks.faults_of_peers.faults import ANSWER, FAULTS, Fault
from benchmarks.faults_of_peers.judging import ASKED, PATIENCE, Outcome, handled
from benchmarks.faults_of_peers.race import Line, given, run, serve
from benchmarks.faults_of_peers.table import rendered
from benchmarks.faults_of_peers.worker import load, play
from routerkit import RouterKitError, StreamInterruptedError

PEERS = Path(referee.__file__).parent / "peers"
OURSELVES = [contestant for contestant in CONTESTANTS if contestant.environment == OURS]
NAMED = {fault.name: fault for fault in FAULTS}


def outcome(
    text: str = "", error: str | None = None, seconds: float | None = 1.0, primary: int = 1, fallback: int = 1
) -> Outcome:
    return Outcome((text,) if text else (), error, "", seconds, primary, fallback)


def raced(contestant: Contestant, fault: Fault) -> Outcome:
    """One case in this process, with clocks that run out soon where only they can find the fault."""
    clock = 0.5 if fault.timed else 5.0
    peer = load(str(PEERS / f"{contestant.peer}.py"))

    def player(url: str) -> Iterator[Line]:
        lines: list[Line] = []
        play(peer, fault.kind, SimpleNamespace(**given(url, clock)), lines.append)
        yield from lines

    return serve(fault, clock, player)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_routerkit_handles_every_fault_of_the_race(fault: Fault) -> None:
    """As each of its contestants, at the same time: clocks have to run out."""
    with ThreadPoolExecutor(len(OURSELVES)) as threads:
        results = list(threads.map(lambda contestant: raced(contestant, fault), OURSELVES))
    for contestant, result in zip(OURSELVES, results, strict=True):
        assert handled(fault, result), (contestant.peer, result)
        assert result.primary == 1, contestant.peer
        expected = "error" if fault.name in REFUSED or "5 words" in fault.name else "answered"
        assert result.mark == expected, contestant.peer


REFUSED = {"401", "402"}
"""Another model would be asked with the same key."""


def test_there_are_eighteen_faults() -> None:
    assert len(NAMED) == len(FAULTS) == 18


def test_a_case_can_be_run_in_a_process_of_its_own() -> None:
    fault = NAMED["stream: 5 words, then an error"]
    result = run(OURSELVES[0], fault, Path(sys.executable))
    assert result.error == "StreamInterruptedError"
    assert result.text == "One two three four five"
    assert (result.primary, result.fallback) == (1, 0)


@pytest.mark.parametrize(
    ("result", "mark", "good"),
    [
        (outcome(ANSWER), "answered", True),
        (outcome(ANSWER, primary=ASKED), "answered", True),
        (outcome(ANSWER, primary=ASKED + 1), "answered", False),
        (outcome(ANSWER, seconds=PATIENCE + 1), "answered", False),
        (outcome(ANSWER[:10]), "silent", False),
        (outcome("One two" + ANSWER), "silent", False),
        (outcome(), "silent", False),
        (outcome(seconds=None), "stuck", False),
        (outcome(ANSWER, seconds=None), "stuck", False),
    ],
)
@pytest.mark.parametrize("name", ["500", "stream: 5 words, then an error"])
def test_what_counts_is_the_whole_answer_in_time(result: Outcome, mark: str, good: bool, name: str) -> None:
    assert result.mark == mark
    assert handled(NAMED[name], result) is good


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("500", False),
        ("401", True),
        ("400, prompt too long for the model", True),
        ("stream: 5 words, then silence", True),
    ],
)
def test_an_error_counts_where_no_other_model_can_set_it_right(name: str, good: bool) -> None:
    assert handled(NAMED[name], outcome(error="APIError")) is good


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_key_is_not_tried_twice(name: str) -> None:
    assert handled(NAMED[name], outcome(ANSWER))
    assert not handled(NAMED[name], outcome(ANSWER, primary=2))


def test_the_table_has_a_row_for_each_fault_and_a_line_for_each_contestant() -> None:
    results = {(contestant.peer, fault.name): outcome(ANSWER) for contestant in CONTESTANTS for fault in FAULTS}
    text = rendered(CONTESTANTS, results)
    for fault in FAULTS:
        assert f"| {fault.name} | ✓ answered, 1.0 s, 1 |" in text
    for contestant in CONTESTANTS:
        assert f"| {contestant.title} | **18** | 18 | 0 | 0 | 0 | 18 | 1.0 s |" in text


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: contestant.peer)
def test_every_contestant_is_configured_and_pinned(contestant: Contestant) -> None:
    source = (PEERS / f"{contestant.peer}.py").read_text("utf-8")
    compile(source, contestant.peer, "exec")
    assert all(f"def {name}(" in source for name in ("connect", "complete", "stream"))
    if contestant.environment != OURS:
        assert contestant.versions
        pins = (PINS / f"{contestant.environment}.txt").read_text("utf-8").split()
        assert all(pin.count("==") == 1 for pin in pins)


def test_a_package_that_is_not_pinned_has_no_version() -> None:
    assert version("openai", "openai")
    with pytest.raises(LookupError, match="numpy"):
        version("openai", "numpy")


INTERRUPTED = StreamInterruptedError("cut")


@pytest.mark.parametrize(
    ("code", "told", "why"),
    [
        ("gave_up", referee.Told("b", None, ("a", "b")), referee.ANOTHER_MODEL),
        ("truncated_stream_accepted", referee.Told("b", None, ("a", "b")), referee.ANOTHER_MODEL),
        ("gave_up", referee.Told(None, RouterKitError("all"), ("a", "b")), referee.ANOTHER_MODEL),
        ("truncated_stream_accepted", referee.Told(None, INTERRUPTED, ("a",)), referee.INTERRUPTED),
        ("malformed_chunk_ignored", referee.Told("a", None, ("a", "a")), referee.OVERLAP),
        ("gave_up", referee.Told("a", None, ("a", "a")), None),
        ("truncated_stream_accepted", referee.Told("a", None, ("a",)), None),
        ("truncated_stream_accepted", referee.Told("a", None, ("a", "a")), None),
        ("malformed_chunk_ignored", referee.Told("a", None, ("a",)), None),
        ("retry_storm", referee.Told("b", None, ("a", "b")), None),
        ("no_backoff", referee.Told(None, INTERRUPTED, ("a",)), None),
    ],
)
def test_a_finding_is_a_blind_spot_only_where_the_caller_was_told(
    code: str, told: referee.Told, why: str | None
) -> None:
    assert referee.blind_spot(code, told) == why
