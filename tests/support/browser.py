"""Opens pages in a headless Chromium, where one is installed, and drives it by its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 30.0
_FLAGS = (
    "--headless",
    "--no-sandbox",  # the pages are our own, and containers have none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-client-side-phishing-detection",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-features=NetworkTimeServiceQuerying,OptimizationHints,MediaRouter,Translate",
    "--disable-sync",
    "--hide-scrollbars",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--remote-debugging-pipe",
)
_LAUNCH = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
os.dup2(pipes[0], 3), os.dup2(pipes[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The browser listens at descriptor 3 and speaks at 4."""
_KEYS = {"Enter": 13, "Tab": 9, " ": 32}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 6: 4}
"""By a PNG's colour type: grey, RGB, RGBA."""


@attrs.frozen
class Picture:
    """The pixels of a screenshot."""

    width: int
    height: int
    channels: int
    rows: tuple[bytes, ...]

    @property
    def colours(self) -> set[bytes]:
        """All that occur."""
        step = self.channels
        return {row[at : at + step] for row in self.rows for at in range(0, len(row), step)}

    def pixel(self, x: int, y: int) -> bytes:
        """Red, green and blue."""
        return self.rows[y][x * self.channels : x * self.channels + 3]


class Browser:
    """A browser with one page. It speaks over two pipes, a JSON object and a NUL at a time."""

    def __init__(self, folder: Path, proxy: str) -> None:
        theirs, self._write = os.pipe()
        self._read, other = os.pipe()
        flags = [*_FLAGS, f"--user-data-dir={folder}", f"--proxy-server={proxy}", "--proxy-bypass-list=<-loopback>"]
        launch = [sys.executable, "-ISc", _LAUNCH, str(theirs), str(other), browser(), *flags, "about:blank"]
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(
            launch, stdin=nowhere, stdout=nowhere, stderr=nowhere, pass_fds=(theirs, other), start_new_session=True
        )
        os.close(theirs)
        os.close(other)
        self._number = 0
        self._buffer = b""
        self._session: dict[str, str] = {}
        self.messages: list[str] = []
        """What the console showed: errors, also those of a content security policy, warnings, and what scripts log."""
        self.requests: list[str] = []
        """The URLs of all that pages asked for, themselves included."""
        self._loaded = False

    def start(self) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        os.close(self._write)  # it ends by itself when nobody can speak to it any more
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def open(self, url: str, *, width: int = 1280, height: int = 1000, dark: bool = False, scale: float = 1.0) -> None:
        """Go to a page, as wide as that, and let its scripts run. What was said and asked for before is forgotten."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self._go("about:blank")  # else a change of the fragment alone would load nothing
        self.messages.clear()
        self.requests.clear()
        self._go(url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page, as JSON has it."""
        told = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def point(self, selector: str) -> None:
        """Move the mouse to the middle of an element."""
        self._mouse("mouseMoved", selector)

    def click(self, selector: str) -> None:
        self._mouse("mousePressed", selector, button="left", clickCount=1)
        self._mouse("mouseReleased", selector, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """A key of the keyboard, where the focus is."""
        text = {"text": "\r"} if key == "Enter" else {}
        code = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        self.send("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **code)

    def type(self, text: str) -> None:
        """A text where the focus is."""
        self.send("Input.insertText", text=text)

    def screenshot(self, whole: bool = False) -> bytes:
        """A PNG of what can be seen, or of the whole page."""
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        self._number += 1
        number = self._number
        command = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while True:
            told = self._receive()
            if told.get("id") == number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result

    def _go(self, url: str) -> None:
        self._loaded = False
        self.send("Page.navigate", url=url)
        while not self._loaded:
            self._receive()

    def _mouse(self, kind: str, selector: str, **more: Any) -> None:
        middle = self.run(
            f"(async () => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const frame = () => new Promise(requestAnimationFrame); await frame(); await frame();"  # what hears of scrolling has
            " const r = e.getBoundingClientRect(); return {x: r.x + r.width / 2, y: r.y + r.height / 2}; })()"
        )
        self.send("Input.dispatchMouseEvent", type=kind, **middle, **more)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], PATIENCE)[0], "the browser says nothing"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        told: dict[str, Any] = json.loads(line)
        self._note(told.get("method", ""), told.get("params", {}))
        return told

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Log.entryAdded":
            self.messages.append(params["entry"]["text"])
        elif event == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(params["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            self.messages.append(json.dumps(params["args"]))


def browser() -> str:
    """The path of a Chromium; skips the test where there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is installed")


@contextlib.contextmanager
def started(proxy: str) -> Iterator[Browser]:
    """A browser with a fresh profile. ``proxy``: a URL; all that it asks of the network, loopback included, is asked there."""
    browser()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        opened = Browser(Path(folder), proxy)
        try:
            opened.start()
            yield opened
        finally:
            opened.close()


def decoded(png: bytes) -> Picture:
    """A PNG as Chromium writes it: eight bits a channel, not interlaced."""
    assert png.startswith(_SIGNATURE)
    header, data, at = b"", b"", len(_SIGNATURE)
    while at < len(png):
        length, kind = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        chunk = png[at + 8 : at + 8 + length]
        header, data = chunk if kind == b"IHDR" else header, data + (chunk if kind == b"IDAT" else b"")
        at += length + 12
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    depth, colour, _, _, interlace = header[8:13]
    assert depth == 8
    assert not interlace
    channels = _CHANNELS[colour]
    raw, stride = zlib.decompress(data), width * channels + 1
    rows: list[bytes] = []
    above = bytes(stride - 1)
    for y in range(height):
        above = _unfiltered(raw[y * stride], raw[y * stride + 1 : (y + 1) * stride], above, channels)
        rows.append(above)
    return Picture(width, height, channels, tuple(rows))


def _unfiltered(kind: int, line: bytes, above: bytes, step: int) -> bytes:
    """A row of pixels from what is stored of it: differences to the left, to above, to their mean, or to the nearest of three."""
    if kind == 0:
        return line
    if kind == 2:
        return bytes((a + b) & 255 for a, b in zip(line, above, strict=True))
    row = bytearray(line)
    for i, value in enumerate(line):
        left, corner = (row[i - step], above[i - step]) if i >= step else (0, 0)
        row[i] = (value + _guess(kind, left, above[i], corner)) & 255
    return bytes(row)


def _guess(kind: int, left: int, above: int, corner: int) -> int:
    if kind == 1:
        return left
    if kind == 3:
        return (left + above) // 2
    distances = [abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)]
    return (left, above, corner)[distances.index(min(distances))]
