"""The garbage collector ends calls that nobody holds any more: anywhere, also while this very thread holds one of our locks.

Then none may be waited for: the thread would wait for itself. What was held is given back all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from routerkit import AsyncClient, Client, Router, Tenant
from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.support.facades import SkippingRuntime

KEYS = ["sk-acme-1234567890", "sk-acme-1234567890-2"]
BEGUN = r.stream(r.role(), "begun ", r.pause(60))


class Lock:
    """A lock that tells of a thread that would wait for itself, in place of waiting."""

    def __init__(self, told: list[str]) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._told = told

    def __enter__(self) -> None:
        if self._holder == threading.get_ident():
            self._told.append("this thread would wait for itself")
            raise RuntimeError(self._told[-1])
        self._lock.acquire()
        self._holder = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._holder = None
        self._lock.release()


class Watching(SkippingRuntime):
    def __init__(self) -> None:
        super().__init__()
        self.locks: list[Lock] = []
        self.told: list[str] = []

    def lock(self) -> Any:
        self.locks.append(Lock(self.told))
        return self.locks[-1]

    def collect(self) -> None:
        """Have the garbage collector run while every lock of the client is held."""
        with ExitStack() as held:
            for lock in self.locks:
                held.enter_context(lock)
            gc.collect()


@pytest.fixture
def runtime() -> Watching:
    return Watching()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.script("z/other", r.completion())
        yield running


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gc.collect()
    gc.freeze()  # what others hold is none of its business here; it stays so, as in tests/conftest.py
    gc.disable()  # it runs when it is told to
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of connections whose loop was closed under them
        gc.collect()
    gc.enable()


def options(server: FaultServer, runtime: Watching, **more: Any) -> dict[str, Any]:
    """Everything that keeps something of a call: keys that are counted, tenants, scores, strategies."""
    return {
        "base_url": server.url,
        "tenants": [Tenant("acme", KEYS), Tenant("globex", "sk-globex-12345678")],
        "strategy": "performance_optimized",
        "fallback_strategy": "round_robin",
        "performance_cache": True,
        "default_model": "a/one",
        "fallback_models": ["b/two"],
        "runtime": runtime,
        **more,
    }


def in_flight(client: Client | AsyncClient) -> int:
    (access,) = client.router.access.values()
    return sum(key.in_flight for key in access.keys)


def assert_nothing_is_held(client: Client | AsyncClient, runtime: Watching) -> None:
    assert runtime.told == []
    assert in_flight(client) == 0
    assert set(client.health().breakers.values()) <= {"closed"}
    assert all(not entry.breaker._waiting for entry in client.router.health._targets.values())
    assert client.stats().failed in ({"Cancelled": 1}, {}), "the collector may take away the account with the call"
    assert client.stats().attempts.keys() <= {"cancelled", "truncated"}


def dropped(make: Callable[[], Any]) -> weakref.ref[Any]:
    """Something in a circle, as frames and closures make them: only the collector finds it."""
    circle: list[Any] = [make()]
    circle.append(circle)
    return weakref.ref(circle[0])


# --- threads ---


@pytest.mark.parametrize("broken", [False, True], ids=["at its first model", "begun again by another"])
def test_a_stream(server: FaultServer, runtime: Watching, broken: bool) -> None:
    server.default = BEGUN
    if broken:
        server.script("a/one", r.stream(r.role(), "half ", r.cut()))
        server.script("b/two", BEGUN)
    with Client(**options(server, runtime)) as root:
        client = root.tenant("acme")

        def begun() -> Any:
            stream = client.stream("Hello", on_interrupt="restart")
            while next(stream).text != "begun ":
                pass
            assert in_flight(client) == 1
            return stream

        gone = dropped(begun)
        with pytest.warns(ResourceWarning, match="neither closed nor read"):
            runtime.collect()
        assert gone() is None
        assert_nothing_is_held(client, runtime)
        server.wait_closed()


def test_a_client_whose_scores_are_kept(server: FaultServer, runtime: Watching, tmp_path: Path) -> None:
    """It saves them when it goes, of whatever else a thread is in the midst."""

    def asked() -> Any:
        client = Client(**options(server, runtime))
        client.tenant("acme").complete("Hello")
        return client

    other = Client(**options(server, another := Watching()))
    other.tenant("acme").complete("Hello")
    gone = dropped(asked)
    another.collect()
    assert gone() is None
    assert another.told == []
    assert (tmp_path / "routerkit" / "performance.json").is_file()
    other.close()


# --- tasks ---


def stopped(
    root: AsyncClient | None,
    begin: Callable[[], Coroutine[Any, Any, Any]],
    until: Callable[[], bool],
    *,
    circle: bool = True,
) -> None:
    """Begin something on a loop, and forget both in its midst. In a circle, only the collector can find what is left of it.

    `root`: the client, to be used again.
    """

    async def held() -> None:
        me = asyncio.current_task() if circle else None  # the task has this frame, which has the task
        await begin()
        del me

    async def main() -> None:
        task = asyncio.ensure_future(held())
        while not until():
            await asyncio.sleep(0.001)
        assert not task.done()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it would tell of the task that was destroyed
    loop.run_until_complete(main())
    loop.close()
    if root is not None:
        asyncio.run(_elsewhere(root))


async def _elsewhere(root: AsyncClient) -> None:
    """Connections of loops that have ended are forgotten when there is need of one on another."""
    await root.tenant("globex").complete("Hello", model="z/other")


CALLS: dict[str, Callable[[AsyncClient], Coroutine[Any, Any, Any]]] = {
    "complete": lambda client: client.complete("Hello"),
    "stream before its first content": lambda client: client.stream("Hello").__aenter__(),
}


@pytest.mark.parametrize("circle", [False, True])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_call_whose_loop_is_gone(server: FaultServer, runtime: Watching, call: str, circle: bool) -> None:
    server.default = r.hang()
    root = AsyncClient(**options(server, runtime))
    client = root.tenant("acme")
    stopped(root, lambda: CALLS[call](client), lambda: bool(server.chat_requests), circle=circle)
    runtime.collect()
    assert_nothing_is_held(client, runtime)
    asyncio.run(root.aclose())


@pytest.mark.parametrize("circle", [False, True])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_call_whose_client_goes_with_it(server: FaultServer, runtime: Watching, call: str, circle: bool) -> None:
    """It does not move on to another model when its loop has ended: nobody is there to be answered."""
    server.default = r.hang()
    told: list[str] = []

    def begin() -> Router:
        client = AsyncClient(**options(server, runtime)).tenant("acme")
        stopped(None, lambda: CALLS[call](client), lambda: bool(server.chat_requests), circle=circle)
        return client.router

    router = begin()
    hook = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: told.append(repr(unraisable.exc_value))
    try:
        runtime.collect()
    finally:
        sys.unraisablehook = hook
    assert runtime.told == told == []
    (access,) = router.access.values()
    assert [key.in_flight for key in access.keys] == [0, 0]
    assert router.accounts.stats().attempts.keys() <= {"cancelled"}
    assert server.models_asked == ["a/one"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_stream_whose_loop_is_gone(server: FaultServer, runtime: Watching) -> None:
    server.default = BEGUN
    root = AsyncClient(**options(server, runtime))
    client = root.tenant("acme")
    seen: list[str] = []

    async def read() -> None:
        async with client.stream("Hello") as stream:
            async for text in stream.text():
                seen.append(text)  # noqa: PERF401 - it is looked at meanwhile

    stopped(root, read, lambda: "begun " in seen)
    assert in_flight(client) == 1
    runtime.collect()
    assert_nothing_is_held(client, runtime)
    asyncio.run(root.aclose())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_catalogue_that_is_being_fetched(server: FaultServer, runtime: Watching) -> None:
    """Whoever comes next fetches it anew, and does not wait for the one that is gone."""
    server.catalog = r.hang()
    root = AsyncClient(**options(server, runtime))
    client = root.tenant("acme")
    stopped(root, client.models, lambda: bool(server.catalog_requests))
    runtime.collect()
    assert runtime.told == []
    server.catalog = r.json_body({"data": r.CATALOG})

    async def again() -> int:
        async with root:
            return len(await client.models())

    assert asyncio.run(again()) == len(r.CATALOG)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_another_thread_may_find_it(server: FaultServer, runtime: Watching) -> None:
    """The collector runs in whichever thread makes things; observers are not told from there."""
    server.default = r.hang()
    told: list[int] = []
    root = AsyncClient(**options(server, runtime, observers=[lambda _: told.append(threading.get_ident())]))
    client = root.tenant("acme")
    stopped(root, lambda: client.complete("Hello"), lambda: bool(server.chat_requests))
    before = len(told)
    assert before
    finder = threading.Thread(target=runtime.collect)
    finder.start()
    finder.join(30)
    assert not finder.is_alive()
    assert len(told) == before
    assert_nothing_is_held(client, runtime)
    asyncio.run(root.aclose())


def test_the_watch_notices() -> None:
    """That the tests above can fail."""
    runtime = Watching()
    lock = runtime.lock()

    class Waiting:
        def __del__(self) -> None:
            with contextlib.suppress(RuntimeError), lock:
                pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dropped(Waiting)
        runtime.collect()
    assert runtime.told == ["this thread would wait for itself"]
