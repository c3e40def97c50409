"""The end of a process with open streams: no traceback, no hang, no connection left.

The plain cases stand in tests/test_transport_life.py.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from routerkit.testing import FaultServer
from routerkit.testing import replies as r
from tests.faults.catalogue import fault, row
from tests.support.facades import KEY

HEAD = """
import asyncio, atexit, sys, threading, routerkit
url, key = sys.argv[1:]
sync = routerkit.Client(base_url=url, api_key=key)
client = routerkit.AsyncClient(base_url=url, api_key=key)
"""
EXITS = {
    "streams waited for in daemon threads": """
def work():
    for _ in sync.stream("Hi", model="b/open"):
        arrived.release()
arrived = threading.Semaphore(0)
for _ in range(3): threading.Thread(target=work, daemon=True).start()
for _ in range(3): arrived.acquire()
""",
    "a text iterator half read": """
texts = sync.stream("Hi", model="b/open").text()
next(texts)
""",
    "within with": """
with sync.stream("Hi", model="b/open") as stream:
    next(stream)
    sys.exit(0)
""",
    "a stream in a cycle": """
class Holder: pass
holder = Holder(); holder.me = holder
holder.stream = sync.stream("Hi", model="b/open")
""",
    "a stream closed at exit": """
stream = sync.stream("Hi", model="b/open")
atexit.register(stream.close)
""",
    "a client used at exit": """
atexit.register(lambda: print(sync.complete("Hi", model="a/model").text))
stream = sync.stream("Hi", model="b/open")
""",
    "within async with": """
async def main():
    async with client.stream("Hi", model="b/open") as stream:
        await anext(stream)
        sys.exit(0)
asyncio.run(main())
""",
    "tasks that read streams": """
async def read():
    async with client.stream("Hi", model="b/open") as stream:
        async for _ in stream:
            arrived.release()
async def main():
    global arrived
    arrived = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(read()) for _ in range(3)]
    for _ in tasks: await arrived.acquire()
asyncio.run(main())
""",
    "an async generator half read": """
async def texts():
    async with client.stream("Hi", model="b/open") as stream:
        async for text in stream.text():
            yield text
async def main():
    global generator
    generator = texts()
    await anext(generator)
asyncio.run(main())
""",
    "a loop in a daemon thread": """
started = threading.Event()
async def main():
    stream = await client.stream("Hi", model="b/open")
    await anext(stream)
    started.set()
    await anext(stream)
threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
started.wait()
""",
}


@pytest.mark.parametrize("ending", [row(117, ending, name=ending) for ending in EXITS])
def test_exit_with_open_streams(server: FaultServer, ending: str) -> None:
    server.script("b/open", r.stream("Hello", r.pause(60)))
    done = subprocess.run(
        [sys.executable, "-c", HEAD + EXITS[ending], server.url, KEY], capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stderr) == (0, "")
    server.wait_closed()


@fault(115)
@pytest.mark.parametrize(
    ("ending", "number"),
    [
        ("streams waited for in daemon threads", signal.SIGTERM),
        ("within with", signal.SIGINT),
        ("tasks that read streams", signal.SIGINT),
        ("tasks that read streams", signal.SIGKILL),
    ],
)
def test_a_process_that_is_killed_amid_streams_leaves_no_connection(
    server: FaultServer, ending: str, number: signal.Signals
) -> None:
    """What it leaves behind is the system's to close; it neither hangs nor dies of anything else."""
    server.script("b/open", r.stream("Hello", r.pause(60)))
    code = EXITS[ending].replace("sys.exit(0)", "next(stream)") + "\nthreading.Event().wait()"
    if "asyncio.run" in code:
        code = code.replace("for _ in tasks: await arrived.acquire()", "await asyncio.gather(*tasks)")
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + code, server.url, KEY], stderr=subprocess.PIPE, text=True
    ) as process:
        server.wait_for(lambda: len(server.chat_requests) == (1 if ending == "within with" else 3))
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == -number
    server.wait_closed()
