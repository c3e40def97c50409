"""Where a Redis is, and that nobody sees its password."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from routerkit.core.effects import Loss, StoreFailure
from routerkit.errors import ConfigurationError
from routerkit.store.memory import MAX_NAMES, MemoryStore
from routerkit.store.redis import MAX_WAITING, RedisStore
from routerkit.store.redis_address import Address, Login, address_of
from routerkit.transport.runtime import SystemRuntime
from tests.store.counters import MemoryCounter, day, drive, rate, slots


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("redis://localhost", Address("server", hosts=(("localhost", 6379),)), "redis://localhost:6379/0"),
        ("redis://h:1/15", Address("server", hosts=(("h", 1),), db=15), "redis://h:1/15"),
        ("redis://h/?db=3", Address("server", hosts=(("h", 6379),), db=3), "redis://h:6379/3"),
        ("rediss://[::1]:7/", Address("server", tls=True, hosts=(("::1", 7),)), "rediss://[::1]:7/0"),
        ("unix:///tmp/a%20b?db=2", Address("socket", path="/tmp/a b", db=2), "unix:///tmp/a b?db=2"),
        (
            "redis://app:p%40ss%2F@h",
            Address("server", hosts=(("h", 6379),), login=Login("app", "p@ss/")),
            "redis://h:6379/0",
        ),
        ("redis://:only@h", Address("server", hosts=(("h", 6379),), login=Login(None, "only")), "redis://h:6379/0"),
        (
            "unix://:secret@/tmp/s",
            Address("socket", path="/tmp/s", login=Login(None, "secret")),
            "unix:///tmp/s?db=0",
        ),
        (
            "redis+sentinel://:a@one,two:2/main?db=1&sentinel_password=b&sentinel_username=u",
            Address(
                "sentinel",
                hosts=(("one", 26379), ("two", 2)),
                service="main",
                db=1,
                login=Login(None, "a"),
                sentinel_login=Login("u", "b"),
            ),
            "redis+sentinel://one:26379,two:2/main?db=1",
        ),
        (
            "rediss+cluster://one,two:2",
            Address("cluster", tls=True, hosts=(("one", 6379), ("two", 2))),
            "rediss+cluster://one:6379,two:2",
        ),
    ],
)
def test_urls(url: str, address: Address, shown: str) -> None:
    read = address_of(url)
    assert read == address
    assert str(read) == shown
    assert "Login()" in repr(read) or read.login is None


def test_a_file_of_certificates(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    assert address_of(f"rediss://h?ssl_ca_certs={file}").ca_file == str(file)


WRONG = [
    "",
    "localhost:6379",
    "http://:hidden@h",
    "redis:/h",
    "redis://",
    "redis://h:0",
    "redis://h:70000",
    "redis://h:hidden",
    "redis://:hid/den@h",
    "redis://:hid@den@h",
    "redis://:hid#den@h",
    "redis://hidden@h",
    "redis://h/hidden",
    "redis://h/1?db=2",
    "redis://h?db=-1",
    "redis://h?password=hidden",
    "redis://h?socket_timeout=9",
    "redis://h?hidden",
    "redis://h?db=1&db=2",
    "redis://a,b",
    "redis://[hidden",
    "redis://h?ssl_ca_certs=/dev/null/none",
    "rediss://h?ssl_ca_certs=/dev/null/none",
    "unix://h/tmp/s",
    "unix://",
    "redis+sentinel://h",
    "redis+sentinel://h/a/b",
    "redis+cluster://h/1",
    "redis+cluster://h?db=1",
    b"redis://h",
    None,
    7,
]


@pytest.mark.parametrize("url", WRONG)
def test_wrong_urls_are_told_and_not_repeated(url: Any) -> None:
    given = [url]
    with pytest.raises(ConfigurationError, match=r"^store: ") as caught:
        RedisStore(given.pop(), SystemRuntime())
    assert "hid" not in str(caught.value)
    trace = caught.value.__traceback__
    while trace is not None:
        if "routerkit" in trace.tb_frame.f_code.co_filename and "tests" not in trace.tb_frame.f_code.co_filename:
            assert "hidden" not in repr(trace.tb_frame.f_locals), trace.tb_frame.f_code.co_name
        trace = trace.tb_next


def test_ca_files_go_with_tls(tmp_path: Path) -> None:
    (tmp_path / "ca").touch()
    with pytest.raises(ConfigurationError, match="is for rediss"):
        address_of(f"redis://h?ssl_ca_certs={tmp_path / 'ca'}")


def test_a_login_goes_nowhere() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(address_of("redis://:hidden@h"))


@pytest.mark.parametrize(
    "options",
    [{"namespace": ""}, {"namespace": 5}, {"workers": 0}, {"workers": True}, {"offline_allowance": 1.0}]
    + [{"offline_allowance": Decimal(text)} for text in ("-1", "NaN", "Infinity")],
)
def test_wrong_options_are_told(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^store: "):
        RedisStore("redis://h", SystemRuntime(), **options)


# --- what must not grow ---


def test_memory_is_bounded_and_forgets_nothing_that_is_held() -> None:
    counter = MemoryCounter()
    counter.store = MemoryStore(counter.runtime, max_names=100)
    held = [counter.grant(slots(1, name=f"held {number}")) for number in range(50)]
    counter.grant(day(1, name="busy"))
    for number in range(1_500):
        counter.grant(rate(5, name=str(number)), day(5, name=str(number)))
        counter.denial(day(1, name="busy"))
        if number % 20 == 0:
            counter.grant(day(1, 0, name="busy"))
    assert len(counter.store._states) <= 100 + 50
    counter.denial(day(1, name="busy"))
    for number, grant in enumerate(held):
        counter.denial(slots(1, name=f"held {number}"))
        counter.settle(grant, 1)
    counter.grant(slots(1, name="held 0"))


def test_what_is_settled_leaves_nothing_behind() -> None:
    counter = MemoryCounter()
    for _ in range(2_000):
        counter.settle(counter.grant(slots(5)), 1)
    assert len(counter.store._leases) < 200
    assert MAX_NAMES >= 1000


def test_what_waits_for_redis_is_bounded() -> None:
    """The oldest settlements are dropped, and counted: what they hold comes back with its lease."""

    def nobody(_: Any) -> Any:
        raise StoreFailure(Loss.CONNECTION)

    store = RedisStore("redis://h", SystemRuntime())
    replies = iter(int, 1)
    grants = [drive(store.admit([], 60.0), lambda _: b"1 %d 0" % next(replies)) for _ in range(MAX_WAITING + 10)]
    for grant in grants:
        store.settle_soon(grant, ())
    assert len(store._settlements) == MAX_WAITING
    assert store.report().dropped == 10
    drive(store.settle(drive(store.admit([], 60.0), nobody), ()), nobody)
    assert len(store._settlements) <= MAX_WAITING


def test_a_forked_child_counts_on_and_holds_nothing() -> None:
    counter = MemoryCounter()
    counter.grant(day(5), slots(1), rate(5))
    lost = counter.grant(day(5))
    counter.store.forget()
    assert counter.room(slots(1)) == 1
    assert counter.room(day(5)) == 3
    assert counter.room(rate(5)) == 4
    counter.settle(lost, 1)
    assert counter.room(day(5)) == 0


def test_a_clock_that_jumped_back_leaks_again() -> None:
    counter = MemoryCounter()
    assert counter.room(rate(6)) == 6
    counter.runtime.now -= 500
    counter.denial(rate(6))
    counter.elapse(10)
    counter.grant(rate(6))
    counter.denial(rate(6))
