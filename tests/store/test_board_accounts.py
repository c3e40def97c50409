"""What processes of a fleet add up in Redis. On a real server, through each link."""

from __future__ import annotations

import random
import re
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.core.effects import StoreFailure
from routerkit.core.entries import MAX_NUMBER, PARTS, Entry
from routerkit.core.fleet_accounts import DAY, SharedAccounts, Sums
from routerkit.core.usage import Accounts
from routerkit.core.verdict import OK
from routerkit.store.redis_board import MAX_BLOB, _page
from routerkit.store.redis_gate import OPEN, PAUSE
from routerkit.types.route import Target
from tests.store.boards import board, look, one, tell, told
from tests.store.counters import COUNTERS, RedisCounter, day
from tests.store.servers import Server
from tests.store.test_loss import LINKS
from tests.support.forks import forked
from tests.support.records import USAGE, A, B, record
from tests.support.virtual import VirtualRuntime

CALLS = (3, 2, 1, 0, 0, 0, 0, 1_500_000, *range(26))
MODELS, NAMES = 2000, 4000
"""Of one part: as in tally.lua."""


def part_of(name: str) -> int:
    return zlib.crc32(name.encode()) % PARTS


def key_of(counter: RedisCounter, name: str) -> str:
    """Under which an entry is kept today."""
    made: str = counter.store._names.part(counter.server.client().time()[0] // DAY, part_of(name))
    return made


def filled(counter: RedisCounter, name: str, fields: int, of: str = "u//g/filling") -> None:
    """So many others stand in the part that an entry goes to."""
    with counter.server.client() as client:
        client.hset(key_of(counter, name), mapping={f"{of}{number}": ",".join("1" * 10) for number in range(fields)})


# --- adding ---


def test_numbers_are_added_to_those_that_are_there(redis_counter: RedisCounter) -> None:
    other = RedisCounter(redis_counter.server)
    assert told(redis_counter) == {}
    today = redis_counter.server.client().time()[0] // DAY
    assert tell(redis_counter, 1, Entry("c/", CALLS), Entry("m/", (5,)), Entry("u//g/m", (1,) * 10)) == (True, today)
    assert tell(other, 1, Entry("c/", CALLS), Entry("m/", (4,)), Entry("u//g/n", (2,) * 10)) == (True, today)
    assert tell(redis_counter, 2, Entry("m/", (7,)), Entry("u//g/m", (1,) * 10), Entry("f//X", (0,))) == (True, today)
    assert told(other) == {
        "c/": tuple(2 * number for number in CALLS),
        "m/": (7,),
        "u//g/m": (2,) * 10,
        "u//g/n": (2,) * 10,
        "f//X": (0,),
    }
    assert tell(redis_counter, 3) == (True, today)
    assert redis_counter.store.report().replaced == 0
    other.close()


def test_sums_are_exact_however_large_they_are(redis_counter: RedisCounter) -> None:
    dice, sums = random.Random(5), dict[str, list[int]]()
    for number in range(1, 12):
        batch = []
        for name in ("u//g/a", "u//g/b", "a//ok", "m/t"):
            length = 1 if name[0] in "am" else 10
            more = [dice.randrange(10 ** dice.choice((1, 8, 9, 10, 15, 16, 18, 23))) for _ in range(length)]
            batch.append(Entry(name, tuple(more)))
            before = sums.get(name, [0] * length)
            join: Any = max if name[0] == "m" else lambda pair: min(sum(pair), MAX_NUMBER)
            sums[name] = [join(pair) for pair in zip(before, more, strict=True)]
        assert tell(redis_counter, number, *batch)
    assert told(redis_counter) == {name: tuple(numbers) for name, numbers in sums.items()}


@pytest.mark.parametrize(
    ("one_number", "other", "whole"),
    [
        (10**9 - 1, 1, 10**9),
        (10**15 - 1, 10**15 - 1, 2 * 10**15 - 2),
        (10**15 - 1, 10**15, 2 * 10**15 - 1),
        (10**15, 10**14, 11 * 10**14),
        (7, 0, 7),
        (0, 7, 7),
        (10**9, 10**9 - 1, 2 * 10**9 - 1),
        (999_999_999_999_999_999, 1, 10**18),
        (2**53, 1, 2**53 + 1),
        (MAX_NUMBER - 1, 1, MAX_NUMBER),
        (MAX_NUMBER, 1, MAX_NUMBER),
        (MAX_NUMBER, MAX_NUMBER, MAX_NUMBER),
        (0, 0, 0),
    ],
)
def test_where_floating_point_would_round(redis_counter: RedisCounter, one_number: int, other: int, whole: int) -> None:
    for number, told_now in enumerate((one_number, other), 1):
        tell(redis_counter, number, Entry("f//X", (told_now,)), Entry("m/", (told_now,)))
    assert told(redis_counter) == {"f//X": (whole,), "m/": (max(one_number, other),)}


def test_a_batch_is_added_once_however_often_it_is_said(redis_counter: RedisCounter) -> None:
    for _ in range(3):
        assert tell(redis_counter, 1, Entry("f//X", (1,)))
    assert tell(redis_counter, 2, Entry("f//X", (10,)))
    for number in (1, 2, 2, 1):
        added = tell(redis_counter, number, Entry("f//X", (100,)))
        assert added is not None
        assert added.done
    assert told(redis_counter) == {"f//X": (11,)}
    board(redis_counter).forget()
    assert tell(redis_counter, 1, Entry("f//X", (1000,)))
    assert told(redis_counter) == {"f//X": (1011,)}, "a child has numbers of its own"


def test_on_another_day_nothing_is_added(redis_counter: RedisCounter) -> None:
    today = redis_counter.server.client().time()[0] // DAY
    for wrong in (today - 1, today + 1, 0):
        assert tell(redis_counter, 1, Entry("f//X", (1,)), day=wrong) == (False, today)
        assert told(redis_counter, wrong) == {}
    assert redis_counter.server.do("DBSIZE") == 0
    assert tell(redis_counter, 1, Entry("f//X", (1,))) == (True, today)
    assert tell(redis_counter, 1, Entry("f//X", (1,)), day=today - 1) == (True, today), "it was added before midnight"
    assert told(redis_counter) == {"f//X": (1,)}


def test_a_day_is_kept_for_thirty_five(redis_counter: RedisCounter) -> None:
    tell(redis_counter, 1, *(Entry(f"u/acme/g/{number}", (1,) * 10) for number in range(200)))
    today = redis_counter.server.client().time()[0] // DAY
    with redis_counter.server.client() as client:
        keys = client.keys("*")
        assert len(keys) == PARTS + 1, "names are spread over all parts"
        for key in keys:
            match = re.fullmatch(rf"\{{rk:[a-z2-7]{{26}}\}}:(t:{today}:\d+|b:[0-9a-f]{{16}}-\d+)", key)
            assert match, key
            kept = 35 * DAY if match[1].startswith("t") else 2 * DAY
            assert kept - 60 < client.ttl(key) <= kept
    assert len({key[: key.index("}")] for key in keys}) == 1, "of one slot in a cluster"


def test_namespaces_are_apart(redis_counter: RedisCounter) -> None:
    other = RedisCounter(redis_counter.server, namespace="other")
    tell(redis_counter, 1, Entry("f//X", (1,)))
    assert told(other) == {}
    other.close()


# --- bounds ---


def test_of_too_many_models_the_rest_is_counted_together(redis_counter: RedisCounter) -> None:
    names = [f"u/acme/g/new/{number}" for number in range(1000)]
    part = part_of(names[0])
    new = [name for name in names if part_of(name) == part][:5]
    filled(redis_counter, names[0], MODELS - 2)
    assert tell(redis_counter, 1, *(Entry(name, (1,) * 10) for name in new), Entry(new[0], (1,) * 10))
    kept = {name: numbers[0] for name, numbers in told(redis_counter).items() if "filling" not in name}
    assert kept == {new[0]: 2, new[1]: 1, "u/acme/g/other": 3}
    calls = next(f"c/{number}" for number in range(1000) if part_of(f"c/{number}") == part)
    assert tell(redis_counter, 2, Entry(calls, CALLS), Entry(new[3], (1,) * 10), Entry(new[1], (1,) * 10))
    kept = {name: numbers[0] for name, numbers in told(redis_counter).items() if "filling" not in name}
    assert kept == {new[0]: 2, new[1]: 2, "u/acme/g/other": 4, calls: 3}


def test_what_there_is_no_room_for_is_counted(redis_counter: RedisCounter) -> None:
    names = [f"f/{number}/X" for number in range(1000)]
    new = [name for name in names if part_of(name) == part_of(names[0])][:4]
    filled(redis_counter, names[0], NAMES - 1)
    for number in range(1, 3):
        assert tell(redis_counter, number, *(Entry(name, (5,)) for name in new), Entry("u//g/m", (1,) * 10))
    kept = {name: numbers[0] for name, numbers in told(redis_counter).items() if "filling" not in name}
    assert kept == {new[0]: 10, "o/": 6, "u//g/m": 2}
    with redis_counter.server.client() as client:
        assert client.hlen(key_of(redis_counter, names[0])) == NAMES + 1
    sums = Sums(0, 1)
    sums.add(Entry(name, numbers) for name, numbers in told(redis_counter).items())
    assert sums.left_out == 6
    assert redis_counter.store.report().replaced == 0


def test_what_is_larger_than_we_make_it_is_replaced(redis_counter: RedisCounter) -> None:
    filled(redis_counter, "f//X", NAMES + 2)
    assert told(redis_counter) == {}
    filled(redis_counter, "f//X", NAMES + 2)
    assert tell(redis_counter, 1, Entry("f//X", (1,)))
    assert told(redis_counter) == {"f//X": (1,)}
    assert redis_counter.store.report().replaced == 2


def test_no_reply_is_longer_than_may_be_read(redis_counter: RedisCounter) -> None:
    numbers = ",".join(["9" * 24] * 39)
    with redis_counter.server.client() as client:
        key = key_of(redis_counter, "f//X")
        client.hset(key, mapping={f"u//g/{number:0395}": numbers for number in range(NAMES)})
    page: Any = redis_counter.run(
        board(redis_counter).page(redis_counter.server.client().time()[0] // DAY, part_of("f//X"))
    )
    assert page.unreadable + len(page.entries) == NAMES
    assert 0.9 * MAX_BLOB < sum(len(name) + len(numbers) for name, _ in page.entries) <= MAX_BLOB
    assert not redis_counter.store.report().lost


# --- what somebody else left there ---

GARBAGE: list[tuple[str, ...]] = [
    ("SET", ""),
    ("SET", "text"),
    ("SET", "n"),
    ("SET", "nx"),
    ("SET", "n" + "9" * 400),
    ("LPUSH", "1"),
    ("SADD", "1"),
    ("ZADD", "1", "x"),
    ("HSET", "f//X", "x"),
    ("HSET", "f//X", ""),
    ("HSET", "f//X", ","),
    ("HSET", "f//X", "1,1"),
    ("HSET", "f//X", "-1"),
    ("HSET", "f//X", "1e3"),
    ("HSET", "f//X", "9" * 25),
    ("HSET", "f//X", "9" * 1_000_000),
    ("HSET", "f//X", "1 f//Y 2"),
    ("HSET", "f//X", "\n"),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: " ".join(garbage)[:30])
def test_foreign_values_under_our_keys_are_replaced(redis_counter: RedisCounter, garbage: tuple[str, ...]) -> None:
    tell(redis_counter, 1, Entry("f//X", (1,)))
    with redis_counter.server.client() as client:
        keys = client.keys("*")
        assert len(keys) == 2
        for key in keys:
            client.delete(key)
            client.execute_command(garbage[0], key, *garbage[1:])
        assert set(told(redis_counter)) <= {"f//X"}
        added = tell(redis_counter, 2, Entry("f//X", (5,)))
        assert added is not None
        assert added.done
        assert told(redis_counter) == {"f//X": (5,)}
        assert all(client.ttl(key) > 0 for key in client.keys("*"))
    report = redis_counter.store.report()
    assert not report.lost
    assert 1 <= report.replaced <= 3


def test_numbers_that_are_none_begin_anew_and_are_counted(redis_counter: RedisCounter) -> None:
    tell(redis_counter, 1, Entry("u//g/m", (1,) * 10), Entry("f//X", (1,)))
    with redis_counter.server.client() as client:
        client.hset(key_of(redis_counter, "u//g/m"), "u//g/m", ",".join("1" * 9))
    assert tell(redis_counter, 2, Entry("u//g/m", (5,) * 10), Entry("f//X", (1,)))
    assert told(redis_counter) == {"u//g/m": (5,) * 10, "f//X": (2,)}
    assert redis_counter.store.report().replaced == 1


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "f//Y\n", "\x00", "f//Ä", "f//\x7f", "u" * 401, "x" * 1_000_000, "f//X 5 f//Z"]
)
def test_what_nobody_of_us_wrote_is_left_out(redis_counter: RedisCounter, name: str) -> None:
    tell(redis_counter, 1, Entry("f//X", (1,)))
    with redis_counter.server.client() as client:
        client.hset(key_of(redis_counter, "f//X"), name, "5")
    today = redis_counter.server.client().time()[0] // DAY
    page: Any = redis_counter.run(board(redis_counter).page(today, part_of("f//X")))
    assert page == (today, [Entry("f//X", (1,))], 1)
    assert redis_counter.store.report().replaced == 0


@given(
    st.binary(max_size=200) | st.from_regex(rb"1 [0-9]{1,20} [0-9] [0-9]( [!-~]{1,9} [0-9,]{1,9}){0,5}", fullmatch=True)
)
def test_whatever_answers_is_a_page_or_no_reply_of_ours(reply: bytes) -> None:
    try:
        page, replaced = _page(reply)
    except StoreFailure:
        return
    assert replaced == int(reply.split()[2])
    assert all(name.isascii() and all(number >= 0 for number in numbers) for name, numbers in page.entries)


@pytest.mark.parametrize("reply", [None, 7, [b"1 2 0 0"], b"1 2 0", b"1 2 0 x", b"1 2 0 0 " + b"x" * MAX_BLOB * 2])
def test_what_is_no_page(reply: object) -> None:
    with pytest.raises(StoreFailure):
        _page(reply)


# --- processes ---


class Teller:
    """The accounts of one process."""

    def __init__(self, counter: RedisCounter) -> None:
        self.counter = counter
        self.accounts = Accounts(counter.runtime)
        self.shared = SharedAccounts(self.accounts, board(counter), counter.runtime)

    def used(self, times: int = 1, target: Target = A) -> None:
        for number in range(times):
            record(self.accounts, (target, OK), usage=USAGE, cost="0.000123", tenant="acme" if number % 2 else None)

    def flush(self) -> bool:
        heard: bool = self.counter.run(self.shared.flush())
        return heard

    def read(self) -> Sums:
        sums: Sums | None = self.counter.run(self.shared.read(1))
        assert sums is not None
        return sums


@pytest.fixture(params=LINKS)
def own(request: pytest.FixtureRequest, own_server: Server) -> Any:
    made = COUNTERS[request.param](own_server)
    yield made
    made.close()


@pytest.fixture
def counter_of_the_parent(server: Server) -> Any:
    made = RedisCounter(server)
    yield made
    made.close()


def test_forked_processes_come_to_the_exact_sum(counter_of_the_parent: RedisCounter) -> None:
    """While the parent has something to tell, and a batch under way."""
    parent = Teller(counter_of_the_parent)
    parent.used(7)
    step = parent.shared.flush()
    order = step.send(None)
    counter_of_the_parent.run(one(order))
    step.close()
    parent.used(4, B)

    def child(number: int) -> list[str]:
        counter_of_the_parent.link.forget()
        counter_of_the_parent.store.forget()
        parent.accounts.forget_lock()
        parent.shared.forget()
        for turn in range(5):
            parent.used(10 * number + turn)
            assert parent.flush()
        return [str(parent.accounts.usage().total.answers)]

    told_by = forked(child, 4)
    children = sum(50 * number + 10 for number in range(4))
    assert sum(int(answers) for (answers,) in told_by) == children
    assert parent.flush()
    sums = parent.read()
    assert sums.usage().total.answers == sums.stats().calls == children + 11
    assert str(sums.usage().total.cost) == f"{(children + 11) * 0.000123:.6f}".rstrip("0")
    assert sums.usage().total.prompt_tokens == 100 * (children + 11)
    assert sums.unreadable == 0
    assert counter_of_the_parent.store.report().replaced == 0


def test_a_server_that_stood_still_is_not_told_twice(own: RedisCounter) -> None:
    """It hears what it was told, and nobody hears its reply."""
    teller = Teller(own)
    assert teller.flush()
    teller.used(3)
    assert teller.flush()
    own.link._seconds = 0.05
    teller.used(2)
    own.server.freeze()
    assert not teller.flush()
    own.server.thaw()
    own.link._seconds = 5.0
    for _ in range(3):
        teller.used()
        own.runtime.advance(PAUSE)
        if teller.flush():
            break
    assert teller.flush()
    sums = teller.read()
    assert sums.stats().calls == teller.accounts.stats().calls
    assert sums.usage().to_dict() == teller.accounts.usage().to_dict()


def test_a_server_that_was_killed_is_told_when_it_is_back(own: RedisCounter) -> None:
    """It has forgotten what it knew, and learns what it was not told yet."""
    teller = Teller(own)
    teller.used(5)
    assert teller.flush()
    own.server.kill()
    teller.used(2)
    for _ in range(4):
        assert not teller.flush()
        assert own.run(teller.shared.read(1)) is None
        assert look(own, day(5)) is None
    asked = len(own.asked)
    assert own.store.report().lost
    assert not teller.flush()
    assert len(own.asked) == asked, "while it is lost nobody asks"
    own.server.start()
    own.runtime.advance(OPEN)
    teller.used(4)
    assert teller.flush()
    assert teller.read().stats().calls == 6


def test_what_is_told_at_once_takes_one_question(redis_counter: RedisCounter) -> None:
    """But for the first, by which it learns what day it is there."""
    teller = Teller(redis_counter)
    for asked in (["tally", "tally"], ["tally"], ["tally"]):
        teller.used(10)
        assert teller.flush()
        assert teller.flush()
        assert redis_counter.asked == asked
        redis_counter.asked.clear()
    teller.read()
    assert redis_counter.asked == ["page"] * PARTS


def test_virtual_days_are_not_the_servers(redis_counter: RedisCounter) -> None:
    """The clock of the client here stands years from the server's."""
    assert isinstance(redis_counter.runtime, VirtualRuntime)
    teller = Teller(redis_counter)
    redis_counter.runtime.advance(40 * DAY)
    teller.used()
    assert teller.flush()
    assert teller.read().since == redis_counter.server.client().time()[0] // DAY * DAY
