"""One catalogue for a fleet: who asks the gateway, who waits, and what of the board is believed."""

from __future__ import annotations

import json
import math
import zlib

import pytest

from routerkit.config import settings_from
from routerkit.core.catalog import PARTIAL_SECONDS, CatalogCache
from routerkit.core.effects import (
    HttpResponse,
    Send,
)
from routerkit.core.router import Router
from routerkit.core.shared import packed
from routerkit.errors import DeadlineExceededError, InternalServerError
from routerkit.gateways import INFRON, OPENROUTER
from routerkit.types.event import CatalogRefreshed
from routerkit.types.gateway import Gateway
from routerkit.types.policy import Timeouts
from routerkit.types.secret import Credential, Secret
from tests.support.board import MemoryBoard
from tests.support.wall import DAY, GARBAGE, Task, World

URL = OPENROUTER.catalog_url
LIST = f"list {URL}"
FETCH = f"fetch {URL}"
KEY = Credential(Secret("sk-test-1234567890"), INFRON.base_url)


def body(*names: str) -> bytes:
    return json.dumps({"data": [{"id": name} for name in names]}).encode()


def listing(*names: str) -> HttpResponse:
    return HttpResponse(200, {}, body(*names))


def many(count: int) -> HttpResponse:
    return listing(*(f"m/{number}" for number in range(count)))


OLD, NEW = listing("a/old"), listing("a/new")
DOWN = HttpResponse(503, {}, b'{"error":{"code":503,"message":"down"}}')


@pytest.fixture
def world() -> World:
    world = World()
    world.answers = [OLD]
    return world


# --- one fetch for a fleet ---


def test_eight_processes_that_begin_at_once_ask_once(world: World) -> None:
    tasks = [world.ask(world.process()) for _ in range(8)]
    world.run()
    assert [task.ids for task in tasks] == [["a/old"]] * 8
    assert world.sent == [URL]
    assert max(task.ended or math.inf for task in tasks) < 1000 + 1.2
    assert world.wall.held == []
    assert world.events == [CatalogRefreshed("openrouter", 1)] * 8


def test_eight_routers_on_one_board(world: World) -> None:
    settings = settings_from({}, base_url="http://127.0.0.1:1/v1", api_key="sk-test-1234567890")
    routers = [Router(settings, world.runtime, board=MemoryBoard(world.wall)) for _ in range(8)]
    tasks = [world.begin(router.models(Timeouts())) for router in routers for _ in range(3)]
    world.run()
    assert [[model.id for model in task.value] for task in tasks] == [["a/old"]] * 24
    assert world.sent == ["http://127.0.0.1:1/v1/models"]


def test_in_dev_mode_nothing_is_shared(world: World) -> None:
    router = Router(settings_from({}, dev_mode=True), world.runtime, board=MemoryBoard(world.wall))
    world.begin(router.models(Timeouts()))
    world.run()
    assert len(world.sent) == 1
    assert world.wall.asked == []


def test_whoever_comes_later_asks_nobody(world: World) -> None:
    world.got(world.process())
    world.runtime.now += 3000
    late = world.process()
    task = world.ask(late)
    world.run()
    assert (task.ids, world.sent) == (["a/old"], [URL])
    assert world.wall.asked[-1] == f"read {LIST}"
    assert task.value.fetched == pytest.approx(1001, abs=0.1)
    world.answers = [NEW]
    world.runtime.now = 1001 + 3599
    assert world.got(late) == ["a/old"]
    world.runtime.now = 1001 + 3601
    assert world.got(late) == ["a/new"]


def test_a_copy_that_nobody_would_keep_longer_is_not_begun_with(world: World) -> None:
    world.wall.write(LIST, packed(OLD.body), 3239)
    assert world.got(world.process()) == ["a/old"]
    world.answers = [NEW]
    world.runtime.now += 2
    assert world.got(world.process()) == ["a/new"]


def test_what_is_written_is_the_answer_as_it_came(world: World) -> None:
    world.got(world.process())
    (name, (data, _, _)), *others = world.wall.blobs.items()
    assert (name, others) == (LIST, [])
    assert zlib.decompress(data) == OLD.body
    assert packed(OLD.body) == data


def test_refresh_asks_the_gateway_and_tells_the_others(world: World) -> None:
    cache, other = world.process(), world.process()
    assert world.got(cache) == world.got(other) == ["a/old"]
    world.answers = [NEW]
    assert world.got(cache, refresh=True) == ["a/new"]
    assert world.got(world.process()) == ["a/new"]
    assert world.got(other) == ["a/old"]  # for the rest of its hour
    assert len(world.sent) == 2


def test_a_refresher_is_not_content_with_what_another_got_of_the_fleet(world: World) -> None:
    world.wall.write(LIST, packed(OLD.body), 10)
    world.answers = [NEW]
    cache = world.process()
    first, second, third = world.ask(cache), world.ask(cache, refresh=True), world.ask(cache, refresh=True)
    world.run()
    assert (first.ids, second.ids, third.ids) == (["a/old"], ["a/new"], ["a/new"])
    assert world.sent == [URL]


def test_what_a_mock_says_is_for_nobody_else(world: World) -> None:
    world.answers = [HttpResponse(200, {}, OLD.body, mock=True)]
    world.got(world.process())
    assert world.wall.blobs == {}


def test_each_gateway_reads_the_shared_list_in_its_own_way(world: World) -> None:
    priced = HttpResponse(200, {}, b'{"data": [{"id": "a/one", "pricing": {"prompt": "3"}}]}')
    world.answers = [priced]
    found = []
    for name, per in (("one", 1), ("two", 1_000_000)):
        world.gateway = Gateway(name, "https://x.example/v1", prices_per=per)
        task = world.ask(world.process())
        world.run()
        found.append((task.value.models[0].gateway, task.value.models[0].pricing.prompt * per))
    assert found == [("one", 3), ("two", 3)]
    assert len(world.sent) == 1


# --- while another process asks ---


def test_a_stale_copy_in_memory_serves_meanwhile(world: World) -> None:
    first, second = world.process(), world.process()
    world.got(first)
    world.got(second)
    world.runtime.now += 4000
    world.answers = [NEW]
    asking = world.ask(first)
    world.run(0.5)
    task = world.ask(second)
    world.run(0.1)
    assert task.ids == ["a/old"]
    told = len(world.wall.asked)
    assert world.got(second) == ["a/old"]
    assert asking.ids == ["a/new"]
    assert len(world.wall.asked) == told + 2  # write and release: the second did not look again yet
    assert len(world.events) == 3
    world.run(2)
    assert world.got(second) == ["a/new"]
    assert len(world.sent) == 2


def test_a_stale_copy_of_the_fleet_serves_meanwhile(world: World) -> None:
    world.wall.write(LIST, packed(OLD.body), DAY - 100)
    world.answers = [NEW]
    first, second = world.process(), world.process()
    asking = world.ask(first)
    world.run(0.5)
    task = world.ask(second)
    world.run(0.1)
    assert task.ids == ["a/old"]
    assert task.value.fetched == pytest.approx(1000 - DAY + 100, abs=1)
    world.run(3)
    assert asking.ids == ["a/new"]
    assert world.got(second) == ["a/new"]
    assert len(world.sent) == 1


def test_it_is_looked_again_every_second_or_two(world: World) -> None:
    first, second = world.process(), world.process()
    for cache in (first, second):
        world.got(cache)
    world.runtime.now += 4000
    world.takes = 20.0
    world.ask(first)
    world.run(0.5)
    asked = len(world.wall.asked)
    for _ in range(150):
        assert world.ask(second).ended or True
        world.run(0.1)
    assert 15 <= len(world.wall.asked) - asked <= 30  # a look is a reading and a question for the lease
    assert len(world.sent) == 2


def test_a_copy_older_than_a_day_is_none(world: World) -> None:
    """It is rather waited for one."""
    data = packed(OLD.body)
    world.wall.blobs[LIST] = (data, world.runtime.now - DAY, math.inf)
    world.wall.lease(FETCH, "another", 3)
    world.answers = [NEW]
    assert world.got(world.process()) == ["a/new"]


def test_a_copy_in_memory_serves_though_the_store_has_none(world: World) -> None:
    cache = world.process()
    world.got(cache)
    world.run(4000)
    world.wall.blobs.clear()
    world.wall.lease(FETCH, "another", 100)
    before = world.runtime.now
    assert world.got(cache) == ["a/old"]
    assert world.runtime.now < before + 0.1


def test_the_clock_of_the_store_may_have_been_set_back(world: World) -> None:
    world.wall.write(LIST, packed(OLD.body), -50)
    task = world.ask(world.process())
    world.run()
    assert (task.ids, world.sent) == (["a/old"], [])
    assert task.value.fetched <= world.runtime.now


def test_when_the_one_who_asks_dies_another_takes_over_before_patience_ends(world: World) -> None:
    dying = world.ask(world.process())
    world.run(0.5)
    tasks = [world.ask(world.process()) for _ in range(7)]
    world.kill(dying)
    world.run()
    assert [task.ids for task in tasks] == [["a/old"]] * 7
    assert len(world.sent) == 2
    assert max(task.ended or math.inf for task in tasks) < 1000 + 7


def test_when_the_one_who_asks_dies_and_there_is_a_copy_nobody_waits(world: World) -> None:
    world.wall.write(LIST, packed(OLD.body), 4000)
    dying, cache = world.ask(world.process()), world.process()
    world.run(0.5)
    world.kill(dying)
    world.answers = [NEW]
    for _ in range(60):
        task = world.ask(cache)
        world.run(1)
        assert task.ended or task.effect
    world.run(2)
    assert world.got(cache) == ["a/new"]
    assert len(world.sent) == 2


def test_who_waited_ten_seconds_asks_by_itself(world: World) -> None:
    world.takes = 30.0
    world.wall.lease(FETCH, "another", 1000)
    task = world.ask(world.process())
    world.run(10.2)
    assert isinstance(task.effect, Send)
    world.run()
    assert task.ids == ["a/old"]
    assert world.wall.read(LIST) is not None


def test_who_has_less_time_waits_no_longer(world: World) -> None:
    world.wall.lease(FETCH, "another", 1000)
    task = world.ask(world.process(), 0.55)
    world.run()
    assert isinstance(task.error, DeadlineExceededError)
    assert task.ended == pytest.approx(1000.55, abs=0.01)
    assert world.sent == []


def test_when_the_gateway_fails_for_one_the_next_asks(world: World) -> None:
    world.answers = [DOWN, OLD]
    tasks = [world.ask(world.process()) for _ in range(3)]
    world.run()
    assert [type(task.error) for task in tasks] == [InternalServerError, type(None), type(None)]
    assert [task.ids for task in tasks[1:]] == [["a/old"]] * 2
    assert len(world.sent) == 2


def test_no_error_is_shared_and_a_copy_ends_the_pause_of_who_had_one(world: World) -> None:
    world.answers = [DOWN]
    cache = world.process()
    world.ask(cache)
    world.run()
    assert world.wall.blobs == {}
    world.wall.write(LIST, packed(OLD.body))
    world.run(31)
    assert world.got(cache) == ["a/old"]
    assert len(world.sent) == 1


# --- two lists ---


def public(*names: str) -> HttpResponse:
    entries = [{"id": 1, "invoke_name": name, "retail_input_cost": "$3", "discount": None} for name in names]
    return HttpResponse(200, {}, json.dumps({"data": entries}).encode())


FEW, MORE = listing("a/one"), public("b/two")
BOTH = ["a/one", "b/two"]


@pytest.fixture
def pair() -> World:
    world = World(INFRON)
    world.answers = [FEW, MORE]
    return world


def test_both_lists_are_asked_for_once(pair: World) -> None:
    tasks = [pair.ask(pair.process(), key=KEY) for _ in range(8)]
    pair.run()
    assert [task.ids for task in tasks] == [BOTH] * 8
    assert pair.sent == [INFRON.catalog_url, INFRON.details_url]
    assert pair.events == [CatalogRefreshed("infron", 2)] * 8


def test_of_two_lists_the_young_one_is_not_asked_for_again(pair: World) -> None:
    pair.answers = [FEW, DOWN, MORE]
    cache = pair.process()
    assert pair.got(cache, key=KEY) == ["a/one"]
    pair.run(PARTIAL_SECONDS + 1)
    assert pair.got(cache, key=KEY) == BOTH
    assert pair.sent == [INFRON.catalog_url, INFRON.details_url, INFRON.details_url]
    assert pair.events == [CatalogRefreshed("infron", 1, partial="overloaded"), CatalogRefreshed("infron", 2)]


def test_of_two_lists_one_may_be_elsewhere(pair: World) -> None:
    cache = pair.process()
    assert pair.got(cache, key=KEY) == BOTH
    pair.run(4000)
    pair.wall.lease(f"fetch {INFRON.details_url}", "another", 5)
    pair.answers = [listing("c/new"), public("d/new")]
    assert pair.got(cache, key=KEY) == ["c/new", "b/two"]
    assert pair.got(cache, key=KEY) == ["c/new", "b/two"]
    pair.run(6)
    assert pair.got(cache, key=KEY) == ["c/new", "d/new"]
    assert pair.sent[2:] == [INFRON.catalog_url, INFRON.details_url]


def test_of_two_lists_both_may_be_elsewhere(pair: World) -> None:
    cache = pair.process()
    assert pair.got(cache, key=KEY) == BOTH
    pair.run(4000)
    for url in (INFRON.catalog_url, INFRON.details_url):
        pair.wall.lease(f"fetch {url}", "another", 5)
    assert pair.got(cache, key=KEY) == BOTH
    assert (len(pair.sent), len(pair.events)) == (2, 1)


def test_a_failure_counts_though_the_other_list_is_elsewhere(pair: World) -> None:
    cache = pair.process()
    assert pair.got(cache, key=KEY) == BOTH
    pair.run(4000)
    pair.wall.lease(f"fetch {INFRON.details_url}", "another", 5)
    pair.answers = [DOWN]
    assert pair.got(cache, key=KEY) == BOTH
    assert pair.events[1:] == [CatalogRefreshed("infron", 2, error="overloaded")]
    pair.run(20)
    assert pair.got(cache, key=KEY) == BOTH
    assert len(pair.sent) == 3


# --- what is not believed ---


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_list_is_as_good_as_none_and_is_replaced(world: World, data: bytes) -> None:
    world.wall.write(LIST, data)
    cache = world.process()
    assert world.got(cache) == ["a/old"]
    assert cache.unreadable == 2  # looked at before and after the lease was had
    assert world.wall.blobs[LIST][0] == packed(OLD.body)
    assert len(world.sent) == 1
    other = world.process()
    assert (world.got(other), other.unreadable) == (["a/old"], 0)
    assert len(world.sent) == 1


def test_unusable_entries_of_a_shared_list_are_counted_as_such(world: World) -> None:
    world.wall.write(LIST, packed(b'{"data": [{"id": "a/one"}, {}, {"id": "a/one"}]}'))
    cache = world.process()
    assert world.got(cache) == ["a/one"]
    assert (cache.unreadable, world.events) == (0, [CatalogRefreshed("openrouter", 1, dropped=2)])


def test_a_shared_list_that_shrank_is_believed_when_the_gateway_says_so_too(world: World) -> None:
    world.answers = [many(100)]
    cache = world.process()
    world.got(cache)
    for answer, length in ((many(100), 100), (many(17), 17)):
        world.run(4000)
        world.wall.write(LIST, packed(many(17).body))
        world.answers = [answer]
        assert len(world.got(cache)) == length
        assert world.wall.blobs[LIST][0] == packed(answer.body)
    assert world.events[-1] == CatalogRefreshed("openrouter", 17)


def test_a_good_shared_list_restores_the_doubt(world: World) -> None:
    cache = world.process()
    for answer, length in ((many(100), 100), (many(17), 100)):
        world.answers = [answer]
        world.run(4000)
        assert len(world.got(cache)) == length
    world.wall.write(LIST, packed(many(90).body))
    world.run(40)
    assert len(world.got(cache)) == 90
    world.run(4000)
    assert len(world.got(cache)) == 90
    assert zlib.decompress(world.wall.blobs[LIST][0]) == many(90).body  # what is doubted is not passed on


def test_an_older_list_than_the_one_in_memory_is_not_gone_back_to(world: World) -> None:
    cache = world.process()
    world.got(cache)
    world.run(4000)
    world.wall.write(LIST, packed(NEW.body), 5000)
    world.wall.lease(FETCH, "another", 50)
    assert world.got(cache) == ["a/old"]


# --- without the store ---


@pytest.mark.parametrize("processes", [1, 3])
def test_a_store_that_is_lost_changes_nothing(world: World, processes: int) -> None:
    world.wall.lost = True
    caches = [world.process() for _ in range(processes)]
    tasks = [world.ask(cache) for cache in caches for _ in range(3)]
    world.run()
    assert [task.ids for task in tasks] == [["a/old"]] * 3 * processes
    assert len(world.sent) == processes
    assert max(task.ended or math.inf for task in tasks) < 1000 + 1.2


@pytest.mark.parametrize("after", range(6))
def test_a_store_that_is_lost_in_the_midst(world: World, after: int) -> None:
    """Of those who ask, and of those who wait."""
    for cache_is_second in (False, True):
        world = World()
        world.answers = [OLD]
        if cache_is_second:
            world.wall.lease(FETCH, "another", 1000)
        task = world.ask(world.process())
        for _ in range(after):
            world.run(world._heap[0][0] - world.runtime.now if world._heap else 0)
        world.wall.lost = True
        world.run()
        assert task.ids == ["a/old"]
        assert len(world.sent) == 1
        assert (task.ended or math.inf) < 1000 + 2


def test_a_store_without_a_copy_that_is_lost_when_the_lease_is_asked_for(world: World) -> None:
    cache = world.process()
    world.got(cache)
    world.run(4000)
    world.wall.lost, world.answers = True, [DOWN]
    assert world.got(cache) == ["a/old"]
    assert world.events[-1].error == "overloaded"


# --- cancelled ---


def effects_of(world: World, task: Task) -> int:
    """How many things a task waits for in its life."""
    count = 0
    while task.ended is None:
        count += 1
        world.run(world._heap[0][0] - world.runtime.now)
    return count


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("waits", [False, True])
def test_cancelled_at_any_effect_nobody_waits_for_ever(stale: bool, waits: bool) -> None:
    def scene() -> tuple[World, CatalogCache]:
        world = World(INFRON)
        world.lists = {INFRON.catalog_url: FEW, str(INFRON.details_url): MORE}
        if waits:
            world.wall.lease(f"fetch {INFRON.catalog_url}", "another", 1.0)
        if stale:
            world.wall.write(f"list {INFRON.catalog_url}", packed(FEW.body), 4000)
        return world, world.process()

    world, cache = scene()
    count = effects_of(world, world.ask(cache, key=KEY))
    assert count >= 7
    for place in range(count):
        world, cache = scene()
        task, follower = world.ask(cache, key=KEY), world.ask(cache, key=KEY)
        for _ in range(place):
            world.run(world._heap[0][0] - world.runtime.now)
        world.cancel(task)
        cancelled = world.runtime.now
        late = world.ask(world.process(), key=KEY)
        world.run()
        for each in (follower, late):
            assert each.ids == BOTH, place
            assert (each.ended or math.inf) < cancelled + 2.5 + waits, place
        assert len(world.sent) <= 3, place
        assert world.wall.held == [], place
        assert cache._fetching is None


def test_a_closed_step_leaves_nothing_behind(world: World) -> None:
    cache = world.process()
    task = world.ask(cache)
    world.run(0.5)
    assert isinstance(task.effect, Send)
    task.step.close()
    world.kill(task)
    assert world.got(cache) == ["a/old"]
    assert world.wall.held == []
