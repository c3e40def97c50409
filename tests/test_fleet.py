"""What the processes of a fleet make of each other's breakers: hints, leases of probes, and nothing of either without the board."""

from __future__ import annotations

import gc
import math

import pytest

from routerkit.core import fleet as module
from routerkit.core.breaker import HEARSAY_SECONDS
from routerkit.core.effects import Cancelled
from routerkit.core.fleet import FRESH, INTERVAL, MAX_LEASE, PROBING, REFUSED, Fleet
from routerkit.core.health import Admission, Health, Refusal
from routerkit.core.keys import Key
from routerkit.gateways import OPENROUTER
from routerkit.types.event import BreakerChanged, BreakerState
from routerkit.types.policy import BreakerPolicy, RetryPolicy
from routerkit.types.route import Target
from routerkit.types.verdict import Blame, Sample
from tests.support.board import BoardServer, MemoryBoard, drive
from tests.support.fleet import FAIL, GATEWAY, KEY, LEASE, OK, WAYS, A, B, Process, Ways, interrupted
from tests.support.virtual import VirtualRuntime

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
SLOW, NEUTRAL = Sample.SLOW, Sample.NEUTRAL
START = 1000.0


@pytest.fixture
def server() -> BoardServer:
    runtime = VirtualRuntime(1.0)
    assert runtime.now == START
    return BoardServer(runtime)


@pytest.fixture
def one(server: BoardServer) -> Process:
    return Process(server)


@pytest.fixture
def two(server: BoardServer) -> Process:
    return Process(server)


def wait(server: BoardServer, seconds: float) -> None:
    server.runtime.now += seconds


# --- hints ---


def test_what_one_process_saw_holds_for_another_within_a_second(
    server: BoardServer, one: Process, two: Process
) -> None:
    two.sync()
    one.trip()
    assert two.state() == (CLOSED, False)
    wait(server, INTERVAL)
    refusal = two.refused()
    assert refusal == Refusal("its breaker is open: another process saw it fail", START + 5)
    assert two.events == [BreakerChanged(str(A), OPEN, 4.0)], "for what is left of it"
    assert isinstance(two.ask(B), Admission)


def test_a_whole_gateway(server: BoardServer, one: Process, two: Process) -> None:
    two.call(OK)
    wait(server, 10)
    one.trip(blame=Blame.GATEWAY)
    reason = "the breaker of gateway openrouter is open: another process saw it fail"
    for target in (A, B):
        assert two.refused(target) == Refusal(reason, START + 15, gateway_wide=True)


def test_a_hint_is_remembered_for_targets_that_are_not_known_yet(
    server: BoardServer, one: Process, two: Process
) -> None:
    one.trip(B)
    two.sync()
    assert two.health.states() == {}
    server.lost = True
    wait(server, 2)
    assert two.refused(B).retry_at == START + 5
    assert isinstance(two.ask(A), Admission)
    three = Process(server)
    server.lost = False
    three.sync()
    server.lost = True
    wait(server, 3)
    three.call(OK, target=B)
    assert three.events == [], "it is over by then"


def test_breakers_that_were_there_before_the_fleet_heed_it_too(server: BoardServer, one: Process) -> None:
    one.trip()
    one.trip(blame=Blame.GATEWAY, target=B)
    health = Health(server.runtime, BreakerPolicy(), RetryPolicy())
    breakers = [health.breaker(GATEWAY, A.model), health.breaker(GATEWAY)]
    drive(server, Fleet(server.runtime, MemoryBoard(server), health).sync())
    assert [breaker.state for breaker in breakers] == [OPEN, OPEN]


def test_names_are_made_once_for_each_breaker(server: BoardServer, one: Process, two: Process) -> None:
    one.trip()
    for _ in range(4):
        two.ask(A)
        two.ask(B)
        wait(server, 1)
    assert two.board.names == 3


def test_half_open_as_usual_when_its_time_is_over(server: BoardServer, one: Process, two: Process) -> None:
    one.trip()
    two.refused()
    wait(server, 5)
    two.call(OK)
    assert two.state() == (HALF_OPEN, True)
    two.call(OK)
    assert two.state() == (CLOSED, False)


def test_who_probes_and_fails_has_seen_it_itself(server: BoardServer, one: Process, two: Process) -> None:
    one.trip()
    two.refused()
    wait(server, 5)
    two.call(FAIL)
    assert two.state() == (OPEN, False)
    assert two.breaker().open_until == START + 10
    assert server.asked[-2:] == [f"exchange {A}=125", f"release probe {A}"], "the news first"


def test_what_it_opened_itself_is_left_alone(server: BoardServer, one: Process, two: Process) -> None:
    server.runtime.dice = 0.0
    two.trip()
    server.runtime.dice = 1.0
    one.sync()
    one.breaker().reset(server.runtime.now)
    one.trip()
    wait(server, 1)
    two.sync()
    assert two.state() == (OPEN, False)
    assert two.breaker().open_until == START + 2.5
    wait(server, 1.5)
    out = two.admitted()
    two.sync()
    assert two.state() == (HALF_OPEN, False)
    two.end(out, OK)
    two.call(OK)
    assert two.state() == (CLOSED, False)


@pytest.mark.parametrize(("before", "state"), [(0.0, CLOSED), (FRESH, CLOSED), (FRESH + 0.01, OPEN)])
def test_what_it_saw_work_counts_for_more(
    server: BoardServer, one: Process, two: Process, before: float, state: BreakerState
) -> None:
    two.call(OK)
    two.sync()
    wait(server, before)
    one.trip()
    wait(server, 2)
    two.sync()
    assert two.state()[0] is state


@pytest.mark.parametrize("sample", [FAIL, SLOW, NEUTRAL])
def test_only_what_worked_counts_for_more(server: BoardServer, one: Process, two: Process, sample: Sample) -> None:
    two.call(sample)
    one.trip()
    wait(server, 1)
    two.sync()
    assert two.state() == (OPEN, True)


def test_an_answer_that_comes_since_closes_and_is_told(server: BoardServer, one: Process, two: Process) -> None:
    under_way, another = two.admitted(), two.admitted()
    one.trip()
    three = Process(server)
    three.sync()
    wait(server, 1)
    two.sync()
    assert two.state() == (OPEN, True)
    two.end(another, FAIL)
    assert two.state() == (OPEN, True)
    two.end(under_way, OK)
    assert two.state() == (CLOSED, False)
    two.sync()
    three.sync()
    assert isinstance(three.ask(), Admission), "the hint is gone"


def test_disabled_breakers_heed_nobody(server: BoardServer, one: Process) -> None:
    two = Process(server, enabled=False)
    one.trip()
    two.call(OK)
    assert two.state() == (CLOSED, False)


def test_forced_breakers_heed_nobody_and_are_not_told_of(server: BoardServer, one: Process, two: Process) -> None:
    two.breaker().force_open(START)
    two.sync()
    assert server.hints == {}
    one.trip()
    one.breaker().reset(server.runtime.now)
    wait(server, 1)
    one.sync()
    wait(server, 1)
    two.sync()
    assert two.refused() == Refusal("its breaker is open", None), "neither its opening nor its closing"
    one.trip()
    two.breaker().reset(server.runtime.now)
    wait(server, 1)
    assert server.hints, "before it is told"
    two.call(OK)
    assert server.hints == {}, "who resets one closes it for all"


def test_how_many_hints_are_kept_is_bounded(
    server: BoardServer, one: Process, two: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_HINTS", 2)
    targets = [Target(GATEWAY, f"x/{number}") for number in range(4)]
    for target in targets:
        one.trip(target)
    two.sync()
    assert len(two.fleet._hearsay._heard) == 2
    assert sum(isinstance(two.ask(target), Refusal) for target in targets) == 2


def test_what_is_forgotten_is_not_kept_for_its_name(server: BoardServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routerkit.core.health.MAX_ENTRIES", 20)
    process = Process(server)
    for number in range(100):
        process.call(OK, target=Target(GATEWAY, f"x/{number}"))
    gc.collect()
    assert len(process.health.states()) <= 21
    assert len(process.fleet._hearsay._breakers) <= 21


def test_a_breaker_that_was_forgotten_meanwhile_needs_no_closing(server: BoardServer, one: Process) -> None:
    one.trip()
    two = Process(server)
    two.sync()
    two.breaker()
    del two.health._targets[A]
    gc.collect()
    one.breaker().reset(server.runtime.now)
    one.sync()
    wait(server, 1)
    two.sync()
    assert two.fleet._hearsay._followed == {}


# --- when they are told and heard ---


def test_a_process_without_news_asks_once_a_second(server: BoardServer, one: Process) -> None:
    for _ in range(30):
        one.call(OK)
        wait(server, 0.1)
    assert server.asked == ["exchange"] * 3


def test_news_are_told_at_once(server: BoardServer, one: Process) -> None:
    one.sync()
    one.trip()
    one.sync()
    assert server.asked == ["exchange", f"exchange {A}={5 + PROBING:g}"]


def test_what_opens_and_closes_before_it_is_told(server: BoardServer, one: Process) -> None:
    one.sync()
    health = one.health
    for _ in range(5):
        got = health.admit(A, [KEY], lease=LEASE, stream=False)
        assert isinstance(got, Admission)
        got.settle(FAIL, Blame.MODEL)
    one.breaker().reset(START)
    one.sync()
    assert server.asked[1:] == [f"exchange {A}=0"]


def test_one_caller_goes_and_the_others_go_on(server: BoardServer, one: Process) -> None:
    first = one.fleet.sync()
    first.send(None)
    wait(server, 2)
    assert drive(server, one.fleet.sync()) is None
    assert server.asked == []
    with pytest.raises(StopIteration):
        first.send({})
    wait(server, 1)
    one.sync()
    assert server.asked == ["exchange"]


def test_who_gives_up_leaves_it_to_the_next(server: BoardServer, one: Process, two: Process) -> None:
    one.call(*[FAIL] * 5)
    for end in ("throw", "close"):
        step = one.fleet.sync()
        step.send(None)
        if end == "throw":
            with pytest.raises(Cancelled):
                step.throw(Cancelled())
        else:
            step.close()
    one.sync()
    assert server.asked[-1] == f"exchange {A}=125"


def test_the_news_of_many_are_told_bit_by_bit(server: BoardServer, one: Process) -> None:
    targets = [Target(GATEWAY, f"x/{number}") for number in range(module.MAX_NEWS + 30)]
    server.lost = True
    one.sync()
    for target in targets:
        one.call(*[FAIL] * 5, target=target)
    server.lost = False
    wait(server, 1)
    one.sync()
    assert len(server.hints) == module.MAX_NEWS
    one.sync()
    assert len(server.hints) == len(targets)
    assert server.asked[-1].count("=") == 30


def test_an_older_answer_that_comes_later_changes_nothing(server: BoardServer, one: Process, two: Process) -> None:
    one.trip()
    late = two.fleet._exchange()
    heard = server.perform(late.send(None))
    one.breaker().reset(START)
    one.sync()
    wait(server, 0.5)
    two.sync()
    drive(server, two.fleet._exchange())
    with pytest.raises(StopIteration):
        late.send(heard)
    assert two.state() == (CLOSED, False)


def test_an_answer_from_before_it_heeded_a_hint_takes_nothing_back(
    server: BoardServer, one: Process, two: Process
) -> None:
    two.breaker()
    late = two.fleet._exchange()
    nothing = server.perform(late.send(None))
    wait(server, 0.1)
    one.trip()
    hearing = two.fleet._exchange()
    asked = hearing.send(None)
    two.fleet._hearsay._learned = -math.inf  # as if they had been asked at the same moment
    with pytest.raises(StopIteration):
        hearing.send(server.perform(asked))
    two.fleet._hearsay._learned = -math.inf
    with pytest.raises(StopIteration):
        late.send(nothing)
    assert two.state() == (OPEN, True)


# --- the board is lost ---


def test_without_the_board_each_acts_alone(server: BoardServer, one: Process, two: Process) -> None:
    server.lost = True
    two.sync()
    one.trip()
    assert two.state() == (CLOSED, False)
    two.trip()
    wait(server, 6)
    for process in (one, two):
        got = process.ask()
        assert isinstance(got, Admission)
        assert got.probes
        process.end(got, OK)
        process.call(OK)
        assert process.state() == (CLOSED, False)


def test_while_it_is_lost_nobody_waits_for_it_more_than_once_a_second(server: BoardServer, one: Process) -> None:
    server.lost = True
    before = server.runtime.now
    one.call(*[FAIL] * 5)
    for _ in range(20):
        one.ask()
        assert isinstance(one.panic(), (Admission, type(None))), "alone"
    assert server.runtime.now - before == pytest.approx(0.05)
    wait(server, 1)
    one.sync()
    assert server.runtime.now - before == pytest.approx(1.1)


def test_a_call_that_began_while_it_was_lost_asks_it_again(server: BoardServer, one: Process) -> None:
    down(server, one)
    server.lost = True
    wait(server, 1)
    one.sync()
    server.lost = False
    wait(server, 1)
    got = one.probing(one.health.admit(A, [KEY], lease=LEASE, stream=False))
    assert isinstance(got, Admission)
    assert server.holder(f"probe {A}") is not None


def test_what_opened_is_told_later_if_it_still_is_open(server: BoardServer, one: Process, two: Process) -> None:
    server.lost = True
    one.sync()
    one.call(*[FAIL] * 5)
    one.call(*[FAIL] * 5, target=B)
    one.breaker(B).reset(server.runtime.now)
    server.runtime.now = START + 2
    one.sync()
    assert one.fleet._hearsay.news.keys() == {str(A)}
    server.lost = False
    server.runtime.now = START + 4
    one.sync()
    (asked,) = server.asked
    scope, _, seconds = asked.removeprefix("exchange ").rpartition("=")
    assert (scope, float(seconds)) == (str(A), pytest.approx(1 + PROBING, abs=0.2)), "what closed is not told late"
    server.hints.clear()
    server.lost = True
    one.breaker().reset(server.runtime.now)
    one.call(*[FAIL] * 5)
    server.lost = False
    server.runtime.now = START + 20
    one.sync()
    assert server.asked[1:] == ["exchange"]


def test_what_happens_while_it_is_asked_in_vain_is_newer(server: BoardServer, one: Process) -> None:
    one.trip()
    one.breaker().reset(server.runtime.now)
    one.call(*[FAIL] * 5)
    server.lost = True
    step = one.fleet.sync()
    question = step.send(None)
    one.breaker().reset(server.runtime.now)
    with pytest.raises(StopIteration):
        step.send(server.perform(question))
    server.lost = False
    wait(server, 1)
    one.sync()
    assert server.asked[-1] == f"exchange {A}=0"


def test_a_lost_board_forgets_nothing_that_was_heard(server: BoardServer, one: Process, two: Process) -> None:
    one.trip()
    two.sync()
    server.lost = True
    two.breaker()
    wait(server, 2)
    two.sync()
    assert two.state() == (OPEN, True)


@pytest.mark.parametrize("at", range(4))
def test_the_board_is_lost_while_a_probe_asks(server: BoardServer, one: Process, at: int) -> None:
    """Of four questions: what is new, the hint that says so, the lease; and in the end what is new."""
    down(server, one)
    server.hints.clear()
    got = one.health.admit(A, [KEY], lease=LEASE, stream=False)
    assert isinstance(got, Admission)
    step = one.fleet.may_probe(got)
    question = step.send(None)
    for _ in range(min(at, 2)):
        question = step.send(server.perform(question))
    server.lost = at < 3
    before = server.runtime.now
    with pytest.raises(StopIteration) as ended:
        step.send(server.perform(question))
    assert ended.value.value is None, "it goes alone"
    assert isinstance(one.health.admit(A, [KEY], lease=LEASE, stream=False), Refusal)
    server.lost = True
    one.end(got, FAIL)
    one.sync()
    assert server.runtime.now - before == pytest.approx(0.05), "only one question waited in vain"
    assert one.state() == (OPEN, False)
    server.lost = False
    wait(server, 1)
    one.sync()
    assert server.holder(f"probe {A}") is None
    assert server.asked[-1].startswith(f"exchange {A}=")


# --- one probe for a fleet ---


def down(server: BoardServer, *processes: Process, target: Target = A) -> None:
    """Their breakers are open, by what the first of them saw, and their time is just over."""
    for process in processes:
        process.breaker(target)
    processes[0].trip(target)
    wait(server, INTERVAL)
    for process in processes[1:]:
        process.sync()
        assert process.state(target) == (OPEN, True)
    server.runtime.now = processes[0].breaker(target).open_until


def test_one_probe_for_a_fleet(server: BoardServer, one: Process, two: Process) -> None:
    down(server, one, two)
    out = one.admitted()
    now = server.runtime.now
    assert two.refused() == Refusal("another process probes it", now + REFUSED)
    wait(server, 0.5)
    one.end(out, NEUTRAL)
    assert two.refused() == Refusal("its breaker is half_open", now + REFUSED), "it does not ask again so soon"
    wait(server, 0.5)
    two.admitted()
    assert isinstance(one.ask(), Refusal)
    assert server.asked.count(f"lease probe {A}") == 4


def test_a_refused_attempt_gives_everything_back(server: BoardServer, one: Process, two: Process) -> None:
    down(server, one, two)
    one.admitted()
    key = Key(None, OPENROUTER, "…bbbbbb")
    admission = two.health.admit(A, [key], lease=LEASE, stream=False)
    assert isinstance(admission, Admission)
    assert key.in_flight == 1
    assert two.probing(admission) is not admission
    assert key.in_flight == 0
    admission.settle(FAIL, Blame.MODEL)
    assert two.state() == (HALF_OPEN, True)
    assert two.health.peek(A, [key]) == Refusal("its breaker is half_open", server.runtime.now + REFUSED)


def test_a_probe_that_succeeds_closes_for_all_who_waited_for_it(
    server: BoardServer, one: Process, two: Process
) -> None:
    three = Process(server)
    down(server, one, two, three)
    one.call(OK)
    out = one.admitted()
    assert isinstance(two.ask(), Refusal)
    assert three.state() == (OPEN, True)
    one.end(out, OK)
    wait(server, INTERVAL)
    for process in (two, three):
        process.sync()
        assert process.state() == (CLOSED, False)
        assert process.events[-1] == BreakerChanged(str(A), CLOSED, 0.0)
    assert sum(question.startswith("lease") for question in server.asked) == 3


def test_a_probe_that_fails_opens_again_for_all_who_waited_for_it(
    server: BoardServer, one: Process, two: Process
) -> None:
    three = Process(server)
    down(server, one, two, three)
    out = one.admitted()
    assert isinstance(two.ask(), Refusal)
    one.end(out, FAIL)
    assert one.state() == (OPEN, False)
    wait(server, INTERVAL)
    for process in (two, three):
        assert process.refused().retry_at == one.breaker().open_until == START + 5 + 7.5


def test_who_saw_it_fail_itself_waits_for_anothers_probe_too(server: BoardServer, one: Process, two: Process) -> None:
    """However many there are: they do not probe one after the other."""
    down(server, one)
    two.trip()
    wait(server, 5)
    one.call(OK)
    out = one.admitted()
    assert isinstance(two.ask(), Refusal)
    assert two.state() == (HALF_OPEN, True)
    one.end(out, OK)
    wait(server, INTERVAL)
    two.sync()
    assert two.state() == (CLOSED, False)
    two.call(*[FAIL] * 5)
    assert two.breaker().open_until - server.runtime.now == 7.5, "it remembers how often it was open"


def test_what_is_open_by_what_it_saw_itself_stays_open_when_others_close(
    server: BoardServer, one: Process, two: Process
) -> None:
    one.trip()
    two.trip()
    wait(server, 5)
    two.breaker().open_until += 10
    one.call(OK, OK)
    wait(server, 1)
    two.sync()
    assert two.state() == (OPEN, False)
    wait(server, 9)
    two.call(OK)
    assert f"exchange {A}={PROBING:g}" in server.asked, "so that those who wait for it learn of it"
    two.call(OK)
    assert two.state() == (CLOSED, False)


def test_a_probe_looks_first_at_what_the_fleet_knows(server: BoardServer, one: Process, two: Process) -> None:
    """Not everybody probes within the second that it takes to hear that the first one failed."""
    down(server, one, two)
    two.sync()
    one.call(FAIL)
    assert two.refused() == Refusal("its breaker is open: another process saw it fail", START + 12.5)
    assert sum(question.startswith("lease") for question in server.asked) == 1
    assert two.state() == (OPEN, True)


def test_a_probe_of_what_closed_meanwhile_is_none(server: BoardServer, one: Process, two: Process) -> None:
    down(server, one, two)
    two.sync()
    one.call(OK, OK)
    got = two.admitted()
    assert got.leases is not None
    assert two.state() == (CLOSED, False)
    assert sum(question.startswith("lease") for question in server.asked) == 2, "both of the first"
    two.end(got, FAIL)
    assert two.state() == (CLOSED, False)


def test_a_hint_that_came_to_its_end_closes_nothing(server: BoardServer, one: Process, two: Process) -> None:
    down(server, one, two)
    assert isinstance(two.panic(), Admission)
    server.runtime.now = START + 5 + PROBING
    assert server.exchange([]) == {}
    two.sync()
    assert two.state() == (HALF_OPEN, True)
    two.call(OK, OK)
    assert two.state() == (CLOSED, False)


def test_a_process_that_dies_with_the_lease(server: BoardServer, one: Process, two: Process) -> None:
    down(server, one, two)
    one.admitted()
    refusals = 0
    while isinstance(two.ask(), Refusal):
        refusals += 1
        wait(server, 1)
    assert refusals == LEASE


def test_no_lease_is_longer_than_a_hint_is_sure_to_stand(server: BoardServer) -> None:
    one, two = (Process(server, lease=5000.0) for _ in range(2))
    down(server, one, two)
    got = one.health.admit(A, [KEY], lease=5000.0, stream=False)
    assert one.probing(got) is got
    ((_, until),) = server.leases.values()
    assert until == server.runtime.now + MAX_LEASE


def test_a_lease_is_no_longer_than_its_probe(server: BoardServer, one: Process) -> None:
    down(server, one)
    got = one.health.admit(A, [KEY], lease=3.0, stream=False)
    assert isinstance(got, Admission)
    server.latency = 1.0
    assert one.probing(got) is got
    ((_, until),) = server.leases.values()
    assert until == START + 5 + 1 + 2 + 0.5
    one.end(got, FAIL)
    server.runtime.now = one.breaker().open_until
    got = one.health.admit(A, [KEY], lease=1.0, stream=False)
    assert one.probing(got) is got, "its time was over before it could be asked for"
    assert server.holder(f"probe {A}") is None


def test_a_probe_whose_hint_is_about_to_end_is_told_of(server: BoardServer, one: Process, two: Process) -> None:
    down(server, one, two)
    wait(server, PROBING - LEASE)
    out = one.admitted()
    assert not any(question.endswith(f"={PROBING:g}") for question in server.asked)
    one.end(out, NEUTRAL)
    wait(server, 0.1)
    out = one.admitted()
    assert server.asked[-2] == f"exchange {A}={PROBING:g}"
    assert isinstance(two.ask(), Refusal)
    one.end(out, OK)
    one.call(OK)
    wait(server, 1)
    two.sync()
    assert two.state() == (CLOSED, False)


def test_a_hint_that_is_told_again_stands_for_longer(server: BoardServer, one: Process, two: Process) -> None:
    down(server, one, two)
    assert isinstance(two.panic(), Admission)
    wait(server, PROBING - 1)
    out = one.admitted()
    wait(server, 0.5)
    two.sync()
    wait(server, 10)
    two.sync()
    assert two.state() == (HALF_OPEN, True), "it would be over by now"
    one.end(out, OK)
    one.call(OK)
    wait(server, 1)
    two.sync()
    assert two.state() == (CLOSED, False)


def test_the_gateway_and_the_model_are_probed_at_once(server: BoardServer, one: Process, two: Process) -> None:
    one.trip()
    one.breaker(GATEWAY)
    two.trip(B, Blame.GATEWAY)
    wait(server, 1)
    one.sync()
    wait(server, 4)
    out = one.admitted()
    assert one.breaker(GATEWAY).state is HALF_OPEN
    assert sorted(server.leases) == [f"probe {A}", f"probe {GATEWAY}"]
    assert two.refused() == Refusal(
        "another process probes gateway openrouter", server.runtime.now + REFUSED, gateway_wide=True
    )
    one.end(out, OK)
    assert server.exchange([]).keys() == {one.board.name(str(A)), one.board.name(GATEWAY)}
    assert (server.leases, out.leases._scopes if out.leases else None) == ({}, [])


def test_who_gets_only_one_of_two_leases_gives_it_back(server: BoardServer, one: Process, two: Process) -> None:
    down(server, one, two)
    out = one.admitted()
    two.breaker(GATEWAY)
    one.trip(B, Blame.GATEWAY)
    wait(server, 1)
    two.sync()
    wait(server, 5)
    assert two.refused().reason == "another process probes it"
    assert f"lease probe {GATEWAY}" in server.asked, "the gateway's first"
    assert server.holder(f"probe {GATEWAY}") is None
    assert two.state(GATEWAY) == (HALF_OPEN, True)
    one.end(out, OK)
    wait(server, 1)
    assert isinstance(two.ask(), Admission)


def test_panic_probes_are_one_for_a_fleet_too(server: BoardServer, one: Process, two: Process) -> None:
    for process in (one, two):
        process.trip()
    out = one.panic()
    assert isinstance(out, Admission)
    now = server.runtime.now
    assert two.panic() == Refusal("another process probes it", now + REFUSED)
    assert two.panic() is None
    assert two.breaker().retry_at(now) == START + 5, "as before"
    one.end(out, OK)
    assert one.state() == (CLOSED, False)
    wait(server, 1)
    two.sync()
    assert two.state() == (CLOSED, False), "as it waited for that"


def test_an_attempt_that_probes_nothing_asks_nobody(server: BoardServer, one: Process) -> None:
    one.sync()
    asked = [*server.asked]
    got = one.admitted()
    assert not got.probes
    assert got.probing == ()
    one.end(got, OK)
    one.fleet.probed_soon(got)
    assert (server.asked, got.leases) == (asked, None)


def test_a_lease_is_given_back_once(server: BoardServer, one: Process) -> None:
    down(server, one)
    out = one.admitted()
    assert out.probes
    one.end(out, NEUTRAL)
    drive(server, one.fleet.probed(out))
    one.fleet.probed_soon(out)
    assert server.asked.count(f"release probe {A}") == 1


def test_a_cancelled_call_gives_its_lease_back_with_the_next_question(
    server: BoardServer, one: Process, two: Process
) -> None:
    down(server, one, two)
    out = one.admitted()
    asked = len(server.asked)
    out.settle(NEUTRAL, Blame.NOBODY)
    one.fleet.probed_soon(out)
    assert len(server.asked) == asked
    assert server.leases
    wait(server, 1)
    one.sync()
    assert server.holder(f"probe {A}") is None


def test_when_the_board_is_lost_a_lease_is_given_back_when_it_can_be_asked_again(
    server: BoardServer, one: Process
) -> None:
    down(server, one)
    out = one.admitted()
    server.lost = True
    one.end(out, FAIL)
    assert server.runtime.now == pytest.approx(START + 5.05), "asked once, for the news"
    out = one.panic()
    assert isinstance(out, Admission)
    one.end(out, FAIL)
    server.lost = False
    wait(server, 1)
    one.sync()
    assert server.leases == {}
    assert "release" not in " ".join(server.asked)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("told", [False, True])
def test_interrupted_anywhere_nothing_is_held(server: BoardServer, told: bool, way: Ways) -> None:
    """``told``: whether the hint that says so stands already."""
    happened = True
    at = 0
    while happened:
        one = Process(server)
        down(server, one)
        if not told:
            server.hints.clear()
        key = Key(None, OPENROUTER, "…bbbbbb")
        got = one.health.admit(A, [key], lease=LEASE, stream=False)
        assert isinstance(got, Admission)
        happened = interrupted(server, one.fleet.may_probe(got), at, way)
        assert key.in_flight == (0 if happened else 1)
        if not happened:
            one.fleet.probed_soon(got)
        wait(server, 1)
        one.sync()
        assert server.leases == {}, at
        assert (one.ask() is not None and one.state()[0]) is HALF_OPEN
        server.leases.clear()
        server.hints.clear()
        at += 1
    assert at == (3 if told else 4)


@pytest.mark.parametrize("way", WAYS)
def test_interrupted_between_two_leases_nothing_is_held(server: BoardServer, way: Ways) -> None:
    happened, at = True, 0
    while happened:
        one = Process(server)
        one.trip()
        one.trip(B, Blame.GATEWAY)
        wait(server, 5)
        got = one.health.admit(A, [KEY], lease=LEASE, stream=False)
        assert isinstance(got, Admission)
        assert len(got.probing) == 2
        happened = interrupted(server, one.fleet.may_probe(got), at, way)
        if not happened:
            assert len(server.leases) == 2
            one.fleet.probed_soon(got)
        wait(server, 1)
        one.sync()
        assert server.leases == {}, at
        server.hints.clear()
        at += 1
    assert at == 4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sample", [OK, FAIL, NEUTRAL])
def test_interrupted_while_giving_back_nothing_is_held(server: BoardServer, sample: Sample, way: Ways) -> None:
    happened = True
    at = 0
    while happened:
        one = Process(server)
        down(server, one)
        got = one.admitted()
        got.settle(sample, Blame.MODEL)
        happened = interrupted(server, one.fleet.probed(got), at, way)
        wait(server, 1)
        one.sync()
        assert server.leases == {}, at
        server.hints.clear()
        at += 1
    assert at == (3 if sample is FAIL else 2)


def test_a_forked_child_has_nothing_of_its_parents(server: BoardServer, one: Process) -> None:
    """Told in one process: what the child calls first, when its parent was in the midst of all."""
    down(server, one)
    out = one.admitted()
    under_way = one.fleet.sync()
    wait(server, 1)
    under_way.send(None)
    one.call(*[FAIL] * 5, target=B)
    one.health.forget_lock()
    one.fleet.forked()
    asked = len(server.asked)
    one.sync()
    assert server.asked[asked:] == ["exchange"], "no news: the parent tells its own"
    under_way.close()
    one.fleet.probed_soon(out)
    wait(server, 1)
    one.sync()
    assert server.holder(f"probe {A}") is not None, "the lease is the parent's"
    step = one.fleet.sync()
    wait(server, 1)
    step.send(None)
    wait(server, 1)
    asked = len(server.asked)
    one.sync()
    assert len(server.asked) == asked, "the parent's turn does not count as another one"


# --- whole fleets ---


def test_one_process_with_a_broken_network_keeps_nobody_away_for_long(server: BoardServer) -> None:
    """Its probes fail at once, so it always is the first to tell of it again."""
    broken, *others = (Process(server) for _ in range(5))
    for process in (broken, *others):
        process.breaker()
    away: dict[int, float] = {}
    until = START + 600
    while server.runtime.now < until:
        got = broken.ask()
        if isinstance(got, Refusal):
            got = broken.panic() or got
        if isinstance(got, Admission):
            broken.end(got, FAIL)
        for number, process in enumerate(others):
            got = process.ask()
            if isinstance(got, Admission):
                process.end(got, OK)
            else:
                away[number] = away.get(number, 0.0) + 0.25
        wait(server, 0.25)
    assert broken.state()[0] is not CLOSED
    assert sum(away.values()) < 10, away


def test_a_fleet_that_was_idle_gets_free_of_it(server: BoardServer) -> None:
    """Whose breakers are open by another's word sees nothing itself: at the latest after a minute each looks."""
    broken, *others = (Process(server) for _ in range(4))
    for process in others:
        process.breaker()
    for _ in range(40):
        got = broken.ask()
        while isinstance(got, Admission):
            broken.end(got, FAIL)
            got = broken.ask()
        for process in others:
            process.sync()
        wait(server, 1)
    assert [process.state() for process in others] == [(OPEN, True)] * 3
    for _ in range(int(HEARSAY_SECONDS)):
        got = broken.ask()
        if isinstance(got, Admission):
            broken.end(got, FAIL)
        for process in others:
            got = process.ask()
            if isinstance(got, Admission):
                process.end(got, OK)
        wait(server, 1)
    assert [process.state() for process in others] == [(CLOSED, False)] * 3


@pytest.mark.parametrize("seconds", [0.2, 3.0])
def test_a_big_fleet_recovers_together(server: BoardServer, seconds: float) -> None:
    """I7: within a minute and two probes of the model being well again, though all saw it fail and only one probes at a time."""
    server.runtime.dice = None  # type: ignore[assignment]
    fleet = [Process(server) for _ in range(50)]
    for process in fleet:
        process.trip()
        process.breaker().open_until = server.runtime.now + 60 * server.runtime.random()
    out: list[tuple[float, Process, Admission]] = []
    probes = 0
    began = server.runtime.now
    while any(process.state()[0] is not CLOSED for process in fleet):
        assert server.runtime.now - began < 60 + 2 * seconds + 3
        for _, process, admission in [item for item in out if item[0] <= server.runtime.now]:
            process.end(admission, OK)
        out = [item for item in out if item[0] > server.runtime.now]
        for process in fleet:
            got = process.ask()
            if isinstance(got, Admission):
                probes += got.probes
                out.append((server.runtime.now + seconds, process, got))
        wait(server, 0.2)
    assert probes <= 2 * len(fleet) + 1
