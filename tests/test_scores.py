"""The file of performance scores: real files and real processes."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from routerkit.core.performance import Scores
from routerkit.store.scores import MAX_BYTES, NAME, SAVE_SECONDS, ScoreFile, cache_folder
from routerkit.testing import VirtualRuntime
from routerkit.types.route import Target

A, B = Target("here", "a/one"), Target("here", "b/two")
posix = pytest.mark.skipif(os.name == "nt", reason="modes, links and pipes are POSIX's")


class Process:
    """A client's scores and their file; one of several that share it."""

    def __init__(self, folder: Path, *, later: float = 0.0) -> None:
        self.runtime = VirtualRuntime()
        self.runtime.advance(later)
        self.scores = Scores(self.runtime)
        self.file = ScoreFile(folder, self.scores)

    def answer(self, target: Target = A, seconds: float = 1.0) -> None:
        self.scores.observe(target, ok=True, first_token=seconds, duration=seconds, tokens=None)

    def seconds(self, target: Target = A) -> float | None:
        score = self.scores.get(target)
        return None if score is None else score.first_token


def kept(folder: Path) -> list[str]:
    return sorted(row["model"] for row in orjson.loads((folder / NAME).read_bytes())["targets"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "routerkit"


# --- where ---


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CACHE_HOME": "/somewhere"}, Path("/somewhere/routerkit")),
        ({"XDG_CACHE_HOME": "relative"}, Path("/home/ada/.cache/routerkit")),
        ({"XDG_CACHE_HOME": ""}, Path("/home/ada/.cache/routerkit")),
        ({}, Path("/home/ada/.cache/routerkit")),
    ],
)
@posix
def test_the_folder(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], expected: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert cache_folder(environ, windows=False) == expected


@posix
def test_the_folder_on_windows() -> None:
    assert cache_folder({"LOCALAPPDATA": "/local", "XDG_CACHE_HOME": "/x"}, windows=True) == Path("/local/routerkit")


@posix
def test_the_folder_is_looked_up_when_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ScoreFile(None, Scores(VirtualRuntime())).path == tmp_path / "routerkit" / NAME


@posix
def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def nowhere(cls: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(nowhere))
    scores = Scores(VirtualRuntime())
    file = ScoreFile(None, scores)
    file.load()
    scores.observe(A, ok=True, first_token=None, duration=1.0, tokens=None)
    assert not file.save()
    assert ["home directory" in text for text in caplog.messages] == [True] * 2


# --- loading and saving ---


def test_scores_survive_a_restart(folder: Path) -> None:
    before = Process(folder)
    before.answer(A, 1.5)
    assert before.file.save()
    after = Process(folder)
    after.file.load()
    assert after.seconds(A) == 1.5


def test_nothing_is_made_before_there_is_something_to_save(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = Process(folder)
    process.file.load()
    assert not process.file.save()
    assert not folder.parent.exists()
    assert caplog.messages == []


def test_what_has_not_changed_is_not_saved_again(folder: Path) -> None:
    process = Process(folder)
    process.answer()
    assert process.file.save()
    (folder / NAME).unlink()
    assert not process.file.save()
    process.answer()
    assert process.file.save()
    assert kept(folder) == ["a/one"]


@posix
def test_nobody_else_can_read_it(folder: Path) -> None:
    before = os.umask(0)
    try:
        process = Process(folder)
        process.answer()
        process.file.save()
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_only_targets_and_numbers_are_in_it(folder: Path) -> None:
    process = Process(folder)
    process.answer()
    process.file.save()
    data = orjson.loads((folder / NAME).read_bytes())
    assert sorted(data) == ["targets", "version"]
    (row,) = data["targets"]
    assert (row.pop("gateway"), row.pop("model")) == ("here", "a/one")
    assert {type(value) for value in row.values()} == {float}


def test_processes_share_a_file(folder: Path) -> None:
    one, other = Process(folder), Process(folder, later=5)
    one.answer(A, 1.0)
    one.file.save()
    other.answer(A, 2.0)
    other.answer(B, 2.0)
    other.file.save()
    one.runtime.advance(10)
    one.answer(B, 3.0)
    one.file.save()
    third = Process(folder, later=20)
    third.file.load()
    assert (third.seconds(A), third.seconds(B)) == (2.0, 3.0)


def test_saving_is_due_once_a_minute(folder: Path) -> None:
    process = Process(folder)
    process.answer()
    assert not process.file.save_if_due(100.0)
    assert not process.file.save_if_due(100.0 + SAVE_SECONDS - 1)
    assert process.file.save_if_due(100.0 + SAVE_SECONDS)
    process.answer()
    assert not process.file.save_if_due(101.0 + SAVE_SECONDS)
    assert process.file.save_if_due(100.0 + 2 * SAVE_SECONDS)
    assert not process.file.save_if_due(100.0 + 3 * SAVE_SECONDS)


def test_a_forked_child_has_a_lock_of_its_own(folder: Path) -> None:
    process = Process(folder)
    process.answer()
    process.file._lock.acquire()
    process.file.forget_lock()
    assert process.file.save()


CHILD = """
import sys
from routerkit.core.performance import Scores
from routerkit.store.scores import ScoreFile
from routerkit.transport.runtime import SystemRuntime
from routerkit.types.route import Target
scores = Scores(SystemRuntime())
file = ScoreFile(sys.argv[1], scores)
for number in range(50):
    scores.observe(Target("here", f"{sys.argv[2]}/{number}"), ok=True, first_token=0.1, duration=1.0, tokens=10)
    assert file.save()
"""


def test_processes_that_write_at_the_same_time_leave_a_whole_file(folder: Path) -> None:
    """Of two that replace it in the same moment one may lose what it just wrote, but never what it writes last of all."""
    children = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", CHILD, folder, name], stderr=subprocess.PIPE)
        for name in ("a", "b")
    ]
    for child in children:
        _, told = child.communicate(timeout=60)
        assert (child.returncode, told) == (0, b"")
    models = kept(folder)
    whole = [name for name in ("a", "b") if {f"{name}/{number}" for number in range(50)} <= {*models}]
    assert whole
    assert [path.name for path in folder.iterdir()] == [NAME]


# --- what can be wrong with a file ---


def put(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\x80\x04K\x01.",
        b"null!",
        b"[" * 5000,
        b'"' + b"x" * MAX_BYTES + b'"',
        b"[]",
        b'{"version":99,"targets":[]}',
        b'{"version":1,"targets":[{"gateway":"here"}]}',
    ],
    ids=lambda content: repr(content[:30]),
)
def test_what_cannot_be_read_is_told_once_and_replaced(
    folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    put(folder, content)
    process = Process(folder)
    process.file.load()
    process.file.load()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].name == "routerkit"
    assert str(folder / NAME) in caplog.text
    process.answer()
    assert process.file.save()
    assert kept(folder) == ["a/one"]
    assert len(caplog.records) == 1


def test_who_found_the_file_damaged_keeps_what_others_save_in_its_place(folder: Path) -> None:
    put(folder, b"damaged")
    process, other = Process(folder), Process(folder)
    process.file.load()
    process.answer(A)
    assert process.file.save()
    other.answer(B)
    assert other.file.save()
    process.answer(A)
    assert process.file.save()
    assert kept(folder) == ["a/one", "b/two"]


@posix
def test_a_link_is_neither_read_nor_written_through(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Process(tmp_path / "other")
    other.answer(B)
    other.file.save()
    target = tmp_path / "other" / NAME
    before = target.read_bytes()
    folder.mkdir(parents=True)
    (folder / NAME).symlink_to(target)
    process = Process(folder)
    process.file.load()
    assert process.seconds(B) is None
    assert [text.endswith(f"{folder / NAME}: it is a link") for text in caplog.messages] == [True]
    process.answer(A)
    assert process.file.save()
    assert target.read_bytes() == before
    assert not (folder / NAME).is_symlink()
    assert kept(folder) == ["a/one"]


@posix
def test_a_pipe_is_not_waited_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir(parents=True)
    os.mkfifo(folder / NAME)
    process = Process(folder)
    process.file.load()
    assert "no regular file" in caplog.text
    process.answer()
    assert process.file.save()
    assert kept(folder) == ["a/one"]


def test_what_cannot_be_written_is_told_once_and_tried_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / NAME).mkdir(parents=True)
    (folder / NAME / "something").touch()
    process = Process(folder)
    process.answer()
    assert not process.file.save()
    assert not process.file.save()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert ["could not be read" in text for text in caplog.messages] == [True, False]
    assert ["could not be written" in text for text in caplog.messages] == [False, True]
    assert [path.name for path in folder.iterdir()] == [NAME]
    (folder / NAME / "something").unlink()
    (folder / NAME).rmdir()
    assert process.file.save()
    assert kept(folder) == ["a/one"]


def test_a_folder_that_is_a_file(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("mine")
    process = Process(folder)
    process.file.load()
    process.answer()
    assert not process.file.save()
    assert folder.read_text() == "mine"
    assert len(caplog.records) == 2


def test_an_interrupted_save_leaves_no_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    process = Process(folder)
    process.answer()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            process.file.save()
    assert [*folder.iterdir()] == []
    assert process.file.save()
