"""``results.jsonl``: what a crash leaves of it, who may write it, and what is known of the money."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routerkit.cli.probe.journal import Journal, JournalError, earlier, parsed, read
from routerkit.cli.probe.sample import Head, Sample
from routerkit.cli.probe.schedule import Job
from routerkit.types.route import Target
from tests.support.command import ROOT

HEAD = Head(started=5.0, prompt="Hi", gateways=("g",))


def sample(model: str = "m", number: int = 1) -> Sample:
    return Sample(gateway="g", model=model, round=number, at=1.0, ok=True, cause="ok", cost=Decimal("0.1"))


def job(model: str = "m", number: int = 1) -> Job:
    return Job(Target("g", model), number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a journal with two samples."""
    made = tmp_path / "results.jsonl"
    journal = Journal(made)
    journal.begin(HEAD)
    journal.write(sample("a"))
    journal.write(sample("b"))
    journal.close()
    return made


def test_what_was_written_is_read_again_and_gone_on_with(path: Path) -> None:
    assert read(path) == (HEAD, [sample("a"), sample("b")])
    journal = Journal(path, resume=True)
    assert journal.record.done == {job("a"), job("b")}
    journal.begin(Head(started=9.0, prompt="Hi", gateways=("g",), repeat=3))
    journal.write(sample("c"))
    journal.close()
    now = attrs.evolve(HEAD, repeat=3)  # as it was asked for last, since it was begun
    assert read(path) == (now, [sample("a"), sample("b"), sample("c")])


def test_each_line_is_there_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "results.jsonl")
    journal.begin(HEAD)
    assert read(journal.path) == (HEAD, [])
    journal.write(sample())
    assert read(journal.path)[1] == [sample()]
    journal.close()
    journal.close()


@given(st.data())
def test_wherever_a_crash_cuts_it_off_it_can_be_gone_on_with(data: st.DataObject) -> None:
    lines = [orjson.dumps(each.to_dict()) + b"\n" for each in (HEAD, sample("a"), sample("b"))]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    record = parsed(whole[:cut], Path("x"))
    complete = sum(
        cut >= len(b"".join(lines[: number + 1])) - 1 for number in range(3)
    )  # without its newline a line is complete
    assert (record.head is not None) == (complete > 0)
    assert len(record.samples) == max(0, complete - 1)
    assert whole[:cut].startswith(whole[: record.size])


@pytest.mark.parametrize("torn", [b'{"gateway": "g", "mod', b"\x00\x00", b"{}"])
def test_a_torn_last_line_is_cut_off_before_the_next_is_written(path: Path, torn: bytes) -> None:
    before = path.read_bytes()
    path.write_bytes(before + torn)
    assert read(path)[1] == [sample("a"), sample("b")]
    journal = Journal(path, resume=True)
    journal.write(sample("c"))
    journal.close()
    assert path.read_bytes() == before + orjson.dumps(sample("c").to_dict()) + b"\n"


def test_a_last_line_that_lacks_only_its_end_counts(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    journal = Journal(path, resume=True)
    assert len(journal.record.samples) == 2
    journal.write(sample("c"))
    journal.close()
    assert [each.model for each in read(path)[1]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("line", "told"),
    [(b"gone\n", "line 4: not JSON"), (b"\n", "line 4: not JSON"), (b'{"model": 1}\n', "line 4: gateway is missing")],
)
def test_any_other_line_that_cannot_be_read_is_an_error_with_its_number(path: Path, line: bytes, told: str) -> None:
    path.write_bytes(path.read_bytes() + line + orjson.dumps(sample("c").to_dict()) + b"\n")
    before = path.read_bytes()
    with pytest.raises(JournalError, match=told):
        read(path)
    with pytest.raises(JournalError, match=told):
        Journal(path, resume=True)
    assert path.read_bytes() == before


def test_a_file_without_a_head_holds_nothing_and_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"version": 1, "sta')
    with pytest.raises(JournalError, match="holds no results"):
        read(path)
    journal = Journal(path, resume=True)
    journal.begin(HEAD)
    journal.close()
    assert read(path) == (HEAD, [])


def test_nothing_is_overwritten_and_nobody_else_writes_meanwhile(path: Path) -> None:
    with pytest.raises(JournalError, match="is there already"):
        Journal(path)
    journal = Journal(path, resume=True)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="another sweep is writing there"):
        Journal(path, resume=True)
    assert path.read_bytes() == before
    journal.close()
    Journal(path, resume=True).close()


def test_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    journal = Journal(path)
    journal.begin(HEAD)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file)
    os.close(full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        journal.write(sample())
    journal.close()
    assert read(path) == (HEAD, [])


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of the size of files")
def test_a_line_that_does_not_fit_leaves_no_half_of_it(tmp_path: Path) -> None:
    """What else is under way may still be written, behind it."""
    work = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from tests.cli.probe.test_journal import HEAD, Journal, sample\n"
        "journal = Journal(Path(sys.argv[1]))\njournal.begin(HEAD)\njournal.write(sample('a'))\n"
        "size = journal.path.stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))\n"
        "try:\n    journal.write(sample('b'))\nexcept OSError:\n    pass\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "journal.write(sample('c'))\n"
    )
    path = tmp_path / "results.jsonl"
    subprocess.run([sys.executable, "-c", work, str(path)], check=True, cwd=ROOT)
    assert read(path)[1] == [sample("a"), sample("c")]


def test_what_was_under_way_at_a_crash_may_have_been_paid_for(path: Path) -> None:
    journal = Journal(path, resume=True)
    journal.begun(job("c"), 1.0, Decimal("0.5"))
    journal.write(sample("c"))
    journal.begun(job("d"), 2.0, Decimal("0.25"))
    journal.tried(job("d"), Decimal("0.25"))  # it failed and was put off, and put again
    journal.begun(job("d"), 3.0, Decimal("0.25"))
    journal.begun(job("e"), 4.0, Decimal("0.125"))
    journal.tried(job("e"), Decimal(0))  # refused
    journal.begun(job("f"), 5.0, None)
    journal.begun(job("free"), 6.0, Decimal(0))
    journal.close()  # and here it was killed
    assert [each.model for each in read(path)[1]] == ["a", "b", "c"]
    again = Journal(path, resume=True)
    assert again.record.unsettled == journal.record.unsettled == [Decimal("0.5"), None]
    assert again.record.put == {"g": 6.0}
    again.begin(HEAD)
    again.begun(job("d"), 7.0, Decimal("0.25"))
    again.write(sample("d"))
    again.close()
    last = Journal(path, resume=True)
    assert last.record.unsettled == [Decimal("0.5"), None]
    last.close()


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("0.5") | st.just([])
fields = st.sampled_from(
    [field.name for field in attrs.fields(Sample)] + ["begun", "tried", "at_most", "version", "started"]
)


@given(st.dictionaries(fields, values | st.dictionaries(fields, values, max_size=4), max_size=9), st.booleans())
def test_any_line_is_read_or_told_of(line: dict[str, object], whole: bool) -> None:
    head = orjson.dumps(HEAD.to_dict())
    text = json.dumps(sample().to_dict() | line if whole else line)
    with contextlib.suppress(JournalError):
        parsed(head + b"\n" + text.encode() + b"\n" + head + b"\n", Path("x"))


# Earlier sweeps, to be compared with


def test_an_earlier_sweep_is_found_by_its_folder_or_by_either_file(path: Path, tmp_path: Path) -> None:
    document = tmp_path / "other.json"
    document.write_text(json.dumps({"sweep": HEAD.to_dict(), "samples": [sample("z").to_dict()]}))
    assert earlier(path.parent) == earlier(path) == [sample("a"), sample("b")]
    assert earlier(document) == [sample("z")]
    path.unlink()
    document.rename(tmp_path / "results.json")
    assert earlier(tmp_path) == [sample("z")]


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense\n", '{"samples": [1]}', '{"samples": 5}'])
def test_what_is_no_earlier_sweep(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").write_text(content)
    with pytest.raises(JournalError, match=str(tmp_path / "x")):
        earlier(tmp_path / "x")


def test_an_earlier_sweep_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"holds no results\.jsonl"):
        earlier(tmp_path)
    with pytest.raises(JournalError, match="cannot be read: No such file"):
        earlier(tmp_path / "gone")
