"""What a call costs in client CPU, as a ratio to the bare client in the same run.

Four races: ``complete`` and ``stream``, each with ``Client`` beside requests and orjson, and with ``AsyncClient`` beside
aiohttp and orjson. The server is another process, on another CPU where there is one; only this process's CPU time counts, so
waiting is free. README.md tells how to read what is printed.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import os
import platform
import pstats
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from contenders import Side, sides
from static_server import TEXT, running, stream_events, stream_text

LIBRARIES = ("routerkit", "requests", "urllib3", "aiohttp", "orjson")
WARM_UP = 0.2
"""Rounds that are run first and not counted."""


@dataclass
class Race:
    """One of ours beside the bare client."""

    name: str
    against: str
    target: float
    """The ratio that we want to stay below."""
    calls: int
    """Per round and side."""
    text: str
    """What every answer must say."""
    events: int = 1
    """Per call."""
    ours: list[float] = field(default_factory=list)
    """Seconds of CPU per call, one figure a round."""
    raw: list[float] = field(default_factory=list)

    def run(self, side: Side, calls: int) -> float:
        """Seconds of CPU per call. The answer is checked when the clock has stopped."""
        gc.collect()
        before = time.process_time()
        text = side(calls)
        spent = time.process_time() - before
        if text != self.text:
            raise SystemExit(f"{self.name}: the answer is not what the server sent: {text[:200]!r}")
        return spent / calls

    def round(self, contenders: Mapping[str, Side], *, ours_first: bool) -> None:
        """Both sides once; who goes first changes from round to round."""
        pairs = [(self.ours, contenders[self.name]), (self.raw, contenders[f"{self.name}-raw"])]
        for figures, side in pairs if ours_first else reversed(pairs):
            figures.append(self.run(side, self.calls))

    def result(self) -> dict[str, Any]:
        """Figures in µs, and ratios."""
        ours, raw = _summary(self.ours), _summary(self.raw)
        found = {"race": self.name, "against": self.against, "target": self.target, "ours": ours, "raw": raw}
        found["ratio"] = {name: ours[name] / raw[name] for name in ours}
        if self.events > 1:
            found["events"] = self.events
            for side, figures in (("ours", ours), ("raw", raw)):
                found[f"{side}_per_chunk"] = {name: figure / self.events for name, figure in figures.items()}
        return found


def races(options: argparse.Namespace) -> list[Race]:
    """Names are those of the contenders."""
    spoken, events = stream_text(options.chunks), len(stream_events(options.chunks))
    return [
        Race("complete", "requests + orjson", 1.0, options.calls, TEXT),
        Race("complete-async", "aiohttp + orjson", 1.4, options.calls, TEXT),
        Race("stream", "requests + orjson", 1.5, options.streams, spoken, events),
        Race("stream-async", "aiohttp + orjson", 1.5, options.streams, spoken, events),
    ]


def measure(contenders: Mapping[str, Side], entered: Iterable[Race], rounds: int) -> None:
    """All rounds, every side taking its turn, so that a slow minute of the machine hits all of them."""
    entered = list(entered)
    for race in entered:
        for name in (race.name, f"{race.name}-raw"):
            race.run(contenders[name], max(2, int(race.calls * WARM_UP)))
    gc.collect()
    gc.freeze()
    for number in range(rounds):
        for race in entered:
            race.round(contenders, ours_first=number % 2 == 0)


def profile(race: Race, side: Side, rounds: int) -> None:
    """Print where a side spends its time. cProfile charges Python calls dearly: compare rows, not with the clock."""
    race.run(side, max(2, race.calls // 4))
    calls = race.calls * rounds
    profiler = cProfile.Profile()
    profiler.enable()
    side(calls)
    profiler.disable()
    print(f"{calls} calls of {race.events} events")
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(40)


def machine(server: int | None, client: int | None) -> dict[str, Any]:
    """What the figures depend on; the load is that of others, while it is asked before we begin."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: version(name) for name in LIBRARIES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "client_cpu": client,
        "server_cpu": server,
        "load": [round(figure, 2) for figure in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def pinned() -> tuple[int | None, int | None]:
    """Pin this process to one CPU; the CPUs of server and client, ``None`` where processes cannot be pinned apart."""
    if not hasattr(os, "sched_setaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return None, None
    os.sched_setaffinity(0, {allowed[-1]})
    return allowed[0], allowed[-1]


def show(about: Mapping[str, Any], results: Iterable[Mapping[str, Any]]) -> None:
    print(", ".join(f"{name} {about[name]}" for name in ("python", *LIBRARIES)))
    print(
        f"{about['machine']}; client on CPU {about['client_cpu']}, server on {about['server_cpu']}; load {about['load']}"
    )
    print()
    print(f"{'µs of client CPU':<28}{'routerkit':>18}{'bare':>18}{'ratio':>16}{'at most':>9}")
    print(f"{'':<28}{'min':>9}{'median':>9}{'min':>9}{'median':>9}{'min':>8}{'median':>8}")
    for found in results:
        ours, raw, ratio = found["ours"], found["raw"], found["ratio"]
        row = "".join(f"{side[name]:>9.1f}" for side in (ours, raw) for name in ("min", "median"))
        verdict = f"{ratio['min']:>8.2f}{ratio['median']:>8.2f}{found['target']:>9}"
        print(f"{found['race']:<28}{row}{verdict}  {found['against']}")
        if "events" in found:
            ours, raw = found["ours_per_chunk"], found["raw_per_chunk"]
            row = "".join(f"{side[name]:>9.2f}" for side in (ours, raw) for name in ("min", "median"))
            print(f"{'  per chunk, of ' + str(found['events']):<28}{row}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=300, help="completions per round and side (300)")
    parser.add_argument("--streams", type=int, default=10, help="streams per round and side (10)")
    parser.add_argument("--chunks", type=int, default=500, help="content chunks of a stream (500)")
    parser.add_argument("--per-write", type=int, default=8, help="HTTP chunks, of one event each, per TCP write (8)")
    parser.add_argument("--gap", type=float, default=0.0, metavar="µs", help="pause of the server after each write (0)")
    parser.add_argument(
        "--only", action="append", metavar="RACE", help="complete, complete-async, stream, stream-async"
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds, for a look")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.add_argument("--profile", metavar="RACE", help="profile ours instead (RACE-raw: the bare client)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.calls, options.streams = 5, 60, 3
    return options


def main() -> None:
    options = arguments()
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith(("OPENROUTER_", "ROUTERKIT_")):
            del os.environ[name]  # the server is on this machine, and the settings are the defaults
    entered = races(options)
    names = [race.name for race in entered]
    wanted = [options.profile.removesuffix("-raw")] if options.profile else options.only or names
    unknown = set(wanted).difference(names)
    if unknown:
        raise SystemExit(f"there is no race {min(unknown)!r}; there are {', '.join(names)}")
    entered = [race for race in entered if race.name in wanted]
    server_cpu, client_cpu = pinned()
    about = machine(server_cpu, client_cpu)
    with (
        running(options.chunks, options.per_write, options.gap / 1e6, server_cpu) as base_url,
        sides(base_url) as contenders,
    ):
        if options.profile:
            print(f"{options.profile}:", end=" ")
            profile(entered[0], contenders[options.profile], options.rounds)
            return
        measure(contenders, entered, options.rounds)
    results = [race.result() for race in entered]
    if options.json:
        print(json.dumps({**about, "options": vars(options), "results": results}, indent=2))
    else:
        show(about, results)


def _summary(seconds: list[float]) -> dict[str, float]:
    return {"min": min(seconds) * 1e6, "median": statistics.median(seconds) * 1e6}


if __name__ == "__main__":
    main()
