"""The file of performance scores: whoever can write it changes an order, and nothing else."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from routerkit.store.scores import MAX_BYTES, NAME
from routerkit.testing import FaultServer
from tests.security.canaries import KEY, PROMPT, SECOND_KEY, found_in, leaks, listening
from tests.support.facades import FACADES

each_facade = pytest.mark.parametrize("facade", FACADES)
posix = pytest.mark.skipif(os.name != "posix", reason="files of POSIX")
MODELS = ["a/one", "b/two", "c/three"]


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the file is to be; its folder is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "routerkit"
    folder.mkdir()
    return folder / NAME


def options(server: FaultServer) -> dict[str, Any]:
    return {
        "base_url": server.url,
        "api_key": [KEY, SECOND_KEY],
        "fallback_models": MODELS,
        "strategy": "performance_optimized",
        "performance_cache": True,
    }


def row(model: str = "a/one", **more: Any) -> dict[str, Any]:
    numbers = {"samples": 50, "success": 1, "first_token": 1, "lead": 1, "duration": 2, "tokens": 10, "seconds": 1}
    return {"gateway": "x", "model": model, "at": time.time(), **numbers, **more}


def rows(*rows: Any) -> bytes:
    return json.dumps({"version": 1, "targets": rows}).encode()


TINY, HUGE = 5e-324, 1e308
CONTENTS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no JSON": lambda: b"\x80\x04\x95cposix\nsystem\n",
    "deep": lambda: b"[" * 1_000_000,
    "deep and whole": lambda: b"[" * 900 + b"]" * 900,
    "wide": lambda: b"[" + b"[]," * 100_000 + b"0]",
    "more than fits": lambda: b" " * (MAX_BYTES + 1),
    "more rows than are kept": lambda: rows(*[row(f"m/{number}") for number in range(11_000)]),
    "the same row often": lambda: rows(*[row()] * 1000),
    "rows that are none": lambda: rows(None, 5, "x", [], {}, {"gateway": []}),
    "numbers that are none": lambda: rows(
        *[row(**{name: value}) for name in row() for value in (None, "1", [], {}, True)]
    ),
    "no numbers": lambda: rows(row()).replace(b"50", b"NaN").replace(b"10", b"Infinity"),
    "tiny numbers": lambda: rows(*[row(**{name: TINY}) for name in row() if name not in ("gateway", "model")]),
    "tiny tokens": lambda: rows(*[row(model, tokens=TINY, success=TINY, seconds=86_000) for model in MODELS]),
    "huge numbers": lambda: rows(*[row(**{name: HUGE}) for name in row() if name not in ("gateway", "model")]),
    "digits": lambda: rows(row()).replace(b"50", b"5" * 5000),
    "negative": lambda: rows(*[row(**{name: -1}) for name in row() if name not in ("gateway", "model")]),
    "of the future": lambda: rows(row(at=time.time() + 10**9), row(at=1e17)),
    "names to climb with": lambda: rows(
        row("../../etc/passwd"), row("a\r\nHost: evil"), row("x" * 10_000), row("\x1b[2J")
    ),
    "models nobody named": lambda: rows(*[row(f"evil/{number}", duration=0.001) for number in range(100)]),
}


@each_facade
@pytest.mark.parametrize("content", CONTENTS)
def test_no_content_does_more_than_to_order(facade: str, content: str, path: Path) -> None:
    """No call fails, no target comes or goes, and no word of it is repeated."""
    with FaultServer() as server:
        data = CONTENTS[content]().replace(b'"gateway": "x"', b'"gateway": "127.0.0.1:%d"' % server.port)
        path.write_bytes(data)
        with listening() as listener, FACADES[facade](**options(server)) as caller:
            for _ in range(6):
                assert caller.complete(PROMPT).model in MODELS
            plan = caller.explain(PROMPT, timeout=5)
            assert {target.model for target in plan.targets[:3]} == set(MODELS)
            assert all(target.reason.isprintable() for target in plan.targets)
        assert set(server.models_asked) <= set(MODELS)
    warnings = [line for where, line in listener.lines if "performance scores" in line]
    assert len(warnings) <= 1
    assert not [line for line in warnings if "evil" in line or "passwd" in line or "posix" in line]
    json.loads(path.read_bytes())
    assert leaks([("the file", path.read_text())]) == []


def _link(path: Path) -> None:
    (path.parent / "secret").write_text(f'"{KEY}"')
    path.symlink_to(path.parent / "secret")


def _circle(path: Path) -> None:
    path.symlink_to(path)


def _large(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)  # of which nothing is on the disk


def _unreadable(path: Path) -> None:
    path.write_bytes(rows(row()))
    path.chmod(0)


THINGS: dict[str, Callable[[Path], None]] = {
    "a link to a secret": _link,
    "a link to itself": _circle,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
    "a terabyte": _large,
    "unreadable": _unreadable,
    "dangling": lambda path: path.symlink_to(path.parent / "nowhere" / "x"),
}


@posix
@each_facade
@pytest.mark.parametrize("thing", THINGS)
def test_nothing_in_its_place_is_followed_waited_for_or_read_to_its_end(facade: str, thing: str, path: Path) -> None:
    THINGS[thing](path)
    with FaultServer() as server, listening() as listener, FACADES[facade](**options(server)) as caller:
        assert caller.complete(PROMPT).model in MODELS
    assert leaks(listener.lines) == []
    if thing == "a link to a secret":
        assert found_in((path.parent / "secret").read_text()) == {"key"}, "what it leads to stays as it is"
        assert not path.is_symlink()
    assert not (path.parent / "nowhere").exists()
    if thing != "a folder":
        assert path.stat().st_mode & 0o077 == 0
        assert path.stat().st_size < 10_000


@posix
def test_a_relative_folder_of_the_environment_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else whoever owns the current folder would say where files are made."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for relative in ("cache", "../cache", ".", "", "~/cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        with FaultServer() as server, FACADES["sync"](**options(server)) as caller:
            caller.complete(PROMPT)
        assert [each.name for each in tmp_path.iterdir()] == ["home"]
        assert (tmp_path / "home" / ".cache" / "routerkit" / NAME).is_file()
