"""Processes that share a catalogue through a board which anybody may write to and which comes and goes: any course of events."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from routerkit.core.catalog import PARTIAL_SECONDS, STALE_SECONDS, Snapshot
from routerkit.core.effects import HttpResponse, Send
from routerkit.core.shared import packed, unpacked
from routerkit.gateways import INFRON, OPENROUTER
from routerkit.types.gateway import Gateway
from routerkit.types.secret import Credential, Secret
from tests.properties.worlds import some
from tests.support.wall import DAY, GARBAGE, SOME, Task, World

PROCESSES = 3
KEY = Credential(Secret("sk-test-1234567890"), INFRON.base_url)
ANSWERS = {
    "good": HttpResponse(200, {}, b'{"data": [{"id": "a/one", "name": "a/one"}]}'),
    "other": HttpResponse(200, {}, b'{"data": [{"id": "b/two", "name": "b/two"}]}'),
    "down": HttpResponse(503, {}, b'{"error":{"code":503}}'),
    "refused": HttpResponse(401, {}, b'{"error":{"code":401}}'),
    "nonsense": HttpResponse(200, {}, b"<html>"),
}
DATA = [packed(SOME), *(data for name, data in GARBAGE.items() if name != "a bomb")]

numbers = st.integers(0, PROCESSES - 1)
events = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), numbers, st.sampled_from([0.3, 5.0, 100.0]), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([0.0005, 0.3, 1.0, 6.0, 40.0, 4000.0, 50_000.0, 90_000.0])),
        st.tuples(st.just("answer"), st.sampled_from(list(ANSWERS)), st.sampled_from([0.0, 0.5, 8.0, 300.0])),
        st.tuples(st.just("lost"), st.booleans()),
        st.tuples(st.just("write"), st.sampled_from(DATA), st.sampled_from([-50.0, 0.0, 5000.0, DAY - 1])),
        st.tuples(st.just("flush")),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("kill"), numbers),
    ),
    max_size=40,
)


class Course:
    """A world in which one thing happens after the other."""

    def __init__(self, gateway: Gateway) -> None:
        self.world = World(gateway)
        self.world.answers = [ANSWERS["good"]]
        self.caches = [self.world.process() for _ in range(PROCESSES)]
        self.tasks: list[tuple[int, float, Task]] = []
        """Whose, until when, what."""

    def ask(self, number: int, patience: float, refresh: bool) -> None:
        until = self.world.runtime.now + patience
        self.tasks.append((number, until, self.world.ask(self.caches[number], patience, refresh=refresh, key=KEY)))

    def wait(self, seconds: float) -> None:
        self.world.run(seconds)

    def answer(self, name: str, seconds: float) -> None:
        self.world.answers, self.world.takes = [ANSWERS[name]], seconds

    def lost(self, lost: bool) -> None:
        self.world.wall.lost = lost

    def write(self, data: bytes, age: float) -> None:
        for url in (self.world.gateway.catalog_url, self.world.gateway.details_url):
            self.world.wall.write(f"list {url}", data, age)

    def flush(self) -> None:
        self.world.wall.blobs.clear()
        self.world.wall.leases.clear()

    def cancel(self, place: int) -> None:
        under_way = self.under_way
        if under_way:
            self.world.cancel(under_way[place % len(under_way)])
            self.tasks = [each for each in self.tasks if each[2] is not under_way[place % len(under_way)]]

    def kill(self, number: int) -> None:
        """Another process takes its place."""
        for whose, _, task in self.tasks:
            if whose == number:
                self.world.kill(task)
        self.tasks = [each for each in self.tasks if each[0] != number]
        self.caches[number] = self.world.process()

    @property
    def under_way(self) -> list[Task]:
        return [task for _, _, task in self.tasks if task.ended is None]

    def holds(self, oldest: float) -> None:
        """What is true at any moment."""
        for number, cache in enumerate(self.caches):
            fetching = [
                task
                for whose, _, task in self.tasks
                if whose == number and task.ended is None and isinstance(task.effect, Send)
            ]
            assert len(fetching) <= 1
            assert cache._fetching is None or any(
                whose == number and task.ended is None for whose, _, task in self.tasks
            )
        for _, until, task in self.tasks:
            if task.ended is None:
                assert self.world.runtime.now <= until + 0.1
                continue
            assert task.ended <= until + 0.11  # a store that does not answer is waited for twice
            if isinstance(task.value, Snapshot):
                assert task.value.models
                assert task.ended - task.value.fetched <= oldest
                assert task.value.fetched <= task.ended


def played(gateway: Gateway, course: list[Any], oldest: float) -> None:
    told = Course(gateway)
    for name, *arguments in course:
        getattr(told, name)(*arguments)
        told.holds(oldest)
    told.world.run()
    assert told.under_way == []
    told.holds(oldest)
    # In the end all is well again, and everybody has what the gateway has now, of one fetch.
    told.lost(False)
    told.answer("other", 0.5)
    told.wait(5000)
    before = len(told.world.sent)
    for number in range(PROCESSES):
        told.ask(number, 100.0, False)
        told.wait(10)
    for number, cache in enumerate(told.caches):
        told.ask(number, 100.0, False)
        told.world.run()
        snapshot = cache.peek()
        assert snapshot is not None
        assert [model.id for model in snapshot.models] == ["b/two"]
    assert len(told.world.sent) - before == (1 if gateway.details_url is None else 2)


@some(1.0)
@given(events)
def test_any_course_of_events(course: list[Any]) -> None:
    played(OPENROUTER, course, STALE_SECONDS + 0.1)


@some(0.6)
@given(events)
def test_any_course_of_events_around_two_lists(course: list[Any]) -> None:
    played(INFRON, course, STALE_SECONDS + 2 * PARTIAL_SECONDS + 300)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_unpacked_or_refused(data: bytes, limit: int) -> None:
    content = unpacked(data, limit)
    assert content is None or len(content) <= limit
    assert unpacked(packed(data), limit) == (data if len(data) <= limit else None)
