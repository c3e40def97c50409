"""What limits and budgets add to a call: client CPU and time, with the store in memory and in Valkey on loopback.

For each facade the same call is made bare (requests or aiohttp, orjson), with routerkit that limits nothing, and with three
sets of limits. Beside them stands redis-py with as many ``EVALSHA`` of a script that does nothing as a call of the largest set
needs. README.md tells how to read what is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis
import redis.asyncio
from contenders import KEY, MESSAGES, TEMPERATURE, sides
from cost_of_a_call import machine, pinned
from static_server import MODEL, TEXT, running
from stores import NOTHING, about_server, server

import routerkit
from routerkit import Budget, Limits, Tenant

BARE, PLAIN, SCRIPTS = "bare client", "no limits", "EVALSHA"
LIMITS = Limits(requests_per_minute=10**9, tokens_per_minute=10**12, requests_per_day=10**9, concurrency=10**6)
BUDGET = Budget(10**6)
TENANT = "acme"
CASES: Mapping[str, Mapping[str, Any]] = {
    "limits": {"limits": LIMITS},
    "limits, budget": {"limits": LIMITS, "budget": BUDGET},
    "tenant": {
        "limits": {"client": LIMITS, "gateway:openrouter": LIMITS, "key": LIMITS},
        "budget": BUDGET,
        "tenants": [Tenant(TENANT, limits=LIMITS, budget=BUDGET)],
    },
}
"""``limits``: four of the client's calls. ``tenant``: four each of the tenant, the client, the gateway and the key, two budgets."""
FACADES = ("threads", "tasks")
COUNTED_CALLS = 25
"""Of which the scripts are counted."""


@dataclass
class Side:
    """One way to make a call."""

    facade: str
    name: str
    run: Callable[[int], str]
    """Makes so many calls, one after the other; the text of the last."""
    degraded: Callable[[], int] = lambda: 0
    """Calls that were decided without the store, so far: rounds with any count for nothing."""
    scripts: float = 0.0
    """Of one call."""
    cpu: list[float] = field(default_factory=list)
    """Seconds per call, one figure a round; of this process."""
    wall: list[float] = field(default_factory=list)

    def round(self, calls: int) -> None:
        gc.collect()
        before = self.degraded()
        cpu, wall = time.process_time(), time.perf_counter()
        text = self.run(calls)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if text != TEXT:
            raise SystemExit(f"{self.facade}, {self.name}: the answer is not what the server sent: {text[:200]!r}")
        if self.degraded() == before:
            self.cpu.append(cpu / calls)
            self.wall.append(wall / calls)


@contextmanager
def entered(base_url: str, url: str) -> Iterator[list[Side]]:
    """All sides, bare ones first."""
    loop = asyncio.new_event_loop()
    with ExitStack() as stack:
        stack.callback(loop.close)
        contenders = stack.enter_context(sides(base_url))
        made = []
        for facade, ending in zip(FACADES, ("", "-async"), strict=True):
            made.append(Side(facade, BARE, contenders[f"complete{ending}-raw"]))
            made.append(Side(facade, SCRIPTS, lambda _: TEXT))
            made.append(Side(facade, PLAIN, contenders[f"complete{ending}"]))
        for name, case in CASES.items():
            for store, where in (("memory", "memory"), ("Valkey", url)):
                options = {**case, "store": where}
                made.append(_side(stack, f"{name}; {store}", base_url, options))
                made.append(_async_side(stack, loop, f"{name}; {store}", base_url, options))
        _count_scripts(made, url)
        for side in made:
            if side.name == SCRIPTS:
                side.scripts = max(each.scripts for each in made)
                side.run = _evalsha(stack, loop, url, side.facade, int(side.scripts))
        yield made


def _side(stack: ExitStack, name: str, base_url: str, options: Mapping[str, Any]) -> Side:
    root = stack.enter_context(_client(routerkit.Client, base_url, options))
    client = root.tenant(TENANT) if "tenants" in options else root

    def run(count: int) -> str:
        text = ""
        for _ in range(count):
            text = client.complete(MESSAGES, temperature=TEMPERATURE).text
        return text

    return Side("threads", name, run, lambda: client.stats().degraded)


def _async_side(
    stack: ExitStack, loop: asyncio.AbstractEventLoop, name: str, base_url: str, options: Mapping[str, Any]
) -> Side:
    root = _client(routerkit.AsyncClient, base_url, options)
    stack.callback(lambda: loop.run_until_complete(root.aclose()))
    client = root.tenant(TENANT) if "tenants" in options else root

    async def run(count: int) -> str:
        text = ""
        for _ in range(count):
            text = (await client.complete(MESSAGES, temperature=TEMPERATURE)).text
        return text

    return Side("tasks", name, lambda count: loop.run_until_complete(run(count)), lambda: client.stats().degraded)


def _client(kind: Any, base_url: str, options: Mapping[str, Any]) -> Any:
    options = {**options}
    if "tenants" in options:
        options["tenants"] = [
            Tenant(each.name, KEY, limits=each.limits, budget=each.budget) for each in options["tenants"]
        ]
    else:
        options["api_key"] = KEY
    return kind(gateway="openrouter", base_url=base_url, default_model=MODEL, dev_mode=False, timeout=60, **options)


def _evalsha(
    stack: ExitStack, loop: asyncio.AbstractEventLoop, url: str, facade: str, scripts: int
) -> Callable[[int], str]:
    """So many scripts that do nothing, in the place of a call."""
    key = "{rk:bare}:key"
    if facade == "threads":
        client = stack.enter_context(redis.Redis.from_url(url, protocol=2))
        sha = client.script_load(NOTHING)

        def run(count: int) -> str:
            for _ in range(count * scripts):
                client.evalsha(sha, 1, key, "1")
            return TEXT

        return run
    tasks = redis.asyncio.Redis.from_url(url, protocol=2)
    stack.callback(lambda: loop.run_until_complete(tasks.aclose()))
    loaded = loop.run_until_complete(tasks.script_load(NOTHING))

    async def run_tasks(count: int) -> str:
        for _ in range(count * scripts):
            await tasks.evalsha(loaded, 1, key, "1")
        return TEXT

    return lambda count: loop.run_until_complete(run_tasks(count))


def _count_scripts(made: list[Side], url: str) -> None:
    """Ask the server how many scripts a call runs that it decides; but for the one a second that asks for hints."""
    with redis.Redis.from_url(url) as client:
        for side in made:
            run = []
            for _ in range(COUNTED_CALLS):
                before, degraded = _scripts_run(client), side.degraded()
                side.run(1)
                if side.degraded() == degraded:
                    run.append(_scripts_run(client) - before)
            side.scripts = statistics.median(run)


def _scripts_run(client: redis.Redis) -> int:
    stats: Mapping[str, Any] = client.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("eval", "evalsha"))


def result(side: Side, made: list[Side]) -> dict[str, Any]:
    """Figures in µs, and ratios to the bare client. ``added`` is what the side takes beyond routerkit without limits; ``scripts``
    is that beside as many bare EVALSHA."""
    of = {each.name: each for each in made if each.facade == side.facade}
    told: dict[str, Any] = {"facade": side.facade, "side": side.name, "scripts": side.scripts, "rounds": len(side.cpu)}
    for clock in ("cpu", "wall"):
        for name, figure in (("min", min), ("median", statistics.median)):
            own, bare, plain = (figure(getattr(each, clock)) * 1e6 for each in (side, of[BARE], of[PLAIN]))
            told[f"{clock}_{name}"] = own
            told[f"{clock}_{name}_ratio"] = own / bare
            if side.name not in (BARE, PLAIN, SCRIPTS):
                told[f"{clock}_{name}_added"] = own - plain
            if side.name.endswith("Valkey"):
                one = figure(getattr(of[SCRIPTS], clock)) * 1e6 / of[SCRIPTS].scripts
                told[f"{clock}_{name}_scripts"] = (own - plain) / (side.scripts * one)
    return told


def show(results: list[dict[str, Any]]) -> None:
    for facade in FACADES:
        print(f"\n{facade + ', µs a call':<28}{'':>8}{'client CPU':^45}{'time':^45}")
        heads = "".join(f"{word:>9}" for word in ("min", "median", "added", "ratio", "/EVALSHA"))
        print(f"{'':<28}{'scripts':>8}{heads}{heads}")
        for told in results:
            if told["facade"] != facade:
                continue
            row = f"{told['side']:<28}{told['scripts']:>8.0f}"
            for clock in ("cpu", "wall"):
                added = told.get(f"{clock}_min_added")
                row += f"{told[f'{clock}_min']:>9.1f}{told[f'{clock}_median']:>9.1f}"
                row += f"{'' if added is None else f'{added:.1f}':>9}{told[f'{clock}_min_ratio']:>9.2f}"
                scripts = told.get(f"{clock}_min_scripts")
                row += f"{'' if scripts is None else f'{scripts:.2f}':>9}"
            print(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=60, help="per round and side (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a look")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    options = parser.parse_args()
    rounds, calls = (3, 30) if options.quick else (options.rounds, options.calls)
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith(("OPENROUTER_", "ROUTERKIT_")):
            del os.environ[name]  # the servers are on this machine, and the settings are the defaults
    with server() as url:
        with redis.Redis.from_url(url) as client:
            process = int(client.info("server")["process_id"])
            about = about_server(client)
        server_cpu, client_cpu = pinned()
        if server_cpu is not None:
            os.sched_setaffinity(process, {server_cpu})
        about |= machine(server_cpu, client_cpu)
        with running(1, 1, 0.0, server_cpu) as base_url, entered(base_url, url) as made:
            gc.collect()
            gc.freeze()
            for number in range(rounds):
                for side in made if number % 2 == 0 else reversed(made):
                    side.round(calls)
            results = [result(side, made) for side in made]
    if options.json:
        print(json.dumps({"about": about, "results": results}, indent=2))
    else:
        print(", ".join(f"{name} {value}" for name, value in about.items()))
        show(results)


if __name__ == "__main__":
    main()
