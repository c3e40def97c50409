"""``report.html`` in a real browser: what its script does, that it reaches for nothing, and that it can be seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from routerkit.cli.probe.comparison import Comparison
from routerkit.cli.probe.report import page
from routerkit.cli.probe.summary import Summary
from routerkit.testing import FaultServer
from tests.cli.probe.made import HEAD, answer, failure, sweep
from tests.support.browser import Browser, decoded, started

BROWSERS_OWN = re.compile(r"(?:http://)?[\w.-]+\.(?:google|googleapis|gvt1)\.com[:/]")
"""What Chromium asks for by itself when it starts, whatever it is told."""
CONTROL = "http://gateway.example/seen.png"
SHOWN = "[...document.querySelectorAll('#models-table tbody tr')].filter(row => !row.hidden)"
MODELS = f"{SHOWN}.map(row => row.cells[0].dataset.v)"
HOSTILE = "</script><img src='http://127.0.0.1:9/x' onerror='alert(1)'><b>"
TAKEN = [*sweep(58), answer("z/evil", text=HOSTILE, name=HOSTILE), failure("z/down", error=HOSTILE)]


@pytest.fixture(scope="module")
def nobody() -> Iterator[FaultServer]:
    """A proxy that nobody should ask for anything."""
    with FaultServer() as running:
        yield running


@pytest.fixture(scope="module")
def browser(nobody: FaultServer) -> Iterator[Browser]:
    with started(nobody.url.removesuffix("/v1")) as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(HEAD, TAKEN, Summary.of(TAKEN), Comparison.of(sweep(40), TAKEN)), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(autouse=True)
def _nothing_is_wrong(browser: Browser, report: str, nobody: FaultServer) -> Iterator[None]:
    """Whatever a test does, the console has no error and no violation of the page's policy, and only the page is asked for."""
    yield
    assert browser.messages == []
    assert {url.partition("#")[0] for url in browser.requests} == {report}
    assert asked(nobody) <= {CONTROL}


def asked(proxy: FaultServer) -> set[str]:
    """What pages have asked for."""
    return {request.path for request in proxy.requests if not BROWSERS_OWN.match(request.path)}


def test_what_a_page_asks_for_would_be_seen(browser: Browser, report: str, nobody: FaultServer, tmp_path: Path) -> None:
    path = tmp_path / "chatty.html"
    path.write_text(f"<img src='{CONTROL}'><script>console.error('oh')</script>", encoding="utf-8")
    browser.open(path.as_uri())
    assert CONTROL in browser.requests
    assert asked(nobody) == {CONTROL}
    assert "oh" in browser.messages[0]
    browser.messages.clear()
    browser.requests[:] = [report]


def test_it_opens_best_first(browser: Browser, report: str) -> None:
    browser.open(report)
    firsts = browser.run(f"{SHOWN}.map(row => row.querySelector('td.first').dataset.v ?? null)")
    known = [float(value) for value in firsts if value is not None]
    assert known == sorted(known)
    assert firsts[len(known) :] == [None] * 9
    assert browser.run("document.querySelector('#count').textContent") == "60 of 60 shown"
    assert browser.run("document.documentElement.scrollWidth") == 1280
    assert browser.run("document.querySelectorAll('img').length") == 0


def test_the_address_sorts_and_filters(browser: Browser, report: str) -> None:
    browser.open(f"{report}#sort=cost&order=desc&show=ok")
    costs = browser.run(f"{SHOWN}.map(row => row.querySelector('td.cost').dataset.v ?? null)")
    known = [float(cost) for cost in costs if cost is not None]
    assert known == sorted(known, reverse=True)
    assert (len(costs), len(known)) == (51, 46)  # what is unknown comes last either way
    assert costs[len(known) :] == [None] * 5
    assert browser.run("document.querySelector('th[data-sort=cost]').ariaSort") == "descending"

    browser.run("location.hash = '#show=failed&q=rate+maker'")
    browser.run("new Promise(requestAnimationFrame)")
    failed = {sample.model for sample in TAKEN if sample.cause == "rate_limited" and "maker" in sample.model}
    assert {*browser.run(MODELS)} == failed
    browser.open(f"{report}#show=free")
    assert {*browser.run(MODELS)} == {sample.model for sample in TAKEN if sample.free}
    browser.open(f"{report}#sort=nonsense&order=%00&show=__proto__&theme=pink&q=no%20such%20model")
    assert browser.run(MODELS) == []
    assert browser.run("document.querySelector('th[aria-sort]').dataset.sort") == "first"
    assert "No model is like that." in browser.run("document.querySelector('#models').innerText")


def test_what_is_clicked_typed_and_pressed_stands_in_the_address(browser: Browser, report: str) -> None:
    browser.open(report)
    browser.click("th[data-sort=model] button")
    assert browser.run(MODELS) == sorted(sample.model for sample in TAKEN)
    assert browser.run("location.hash") == "#sort=model"
    browser.press("Enter")  # the button has the focus
    assert browser.run(MODELS) == sorted((sample.model for sample in TAKEN), reverse=True)
    assert browser.run("location.hash") == "#sort=model&order=desc"
    browser.run("document.querySelector('input[type=search]').focus()")
    browser.type("Z/EVIL")
    assert browser.run(MODELS) == ["z/evil"]
    assert browser.run("location.hash") == "#sort=model&order=desc&q=Z%2FEVIL"
    view = browser.run("location.href")
    browser.open(view)
    assert browser.run(MODELS) == ["z/evil"]
    assert browser.run("document.querySelector('input[type=search]').value") == "Z/EVIL"
    browser.click(".choice label:nth-child(3)")
    assert browser.run(MODELS) == []


def test_the_theme_is_the_systems_until_another_is_chosen(browser: Browser, report: str) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    browser.open(report, dark=True)
    dark = browser.run(background)
    browser.open(report)
    light = browser.run(background)
    assert light != dark
    browser.click("button.theme")
    assert browser.run(background) == dark
    assert browser.run("location.hash") == "#theme=dark"
    browser.open(f"{report}#theme=light", dark=True)
    assert browser.run(background) == light


def test_plots_tell_more_where_one_points(browser: Browser, report: str) -> None:
    browser.open(report)
    assert browser.run("document.querySelector('#tip').hidden")
    browser.point("#price circle.best[data-m]")
    assert browser.run("getComputedStyle(document.querySelector('#tip')).display") == "block"
    told = browser.run("document.querySelector('#tip').innerText")
    place = browser.run("document.querySelector('#price circle.best[data-m]').dataset.m")
    row = browser.run(f"document.querySelector('tr[data-m=\"{place}\"]').cells[0].dataset.v")
    assert row in told
    assert "First token" in told
    assert browser.run("document.querySelectorAll('#latency .hot').length") == 2  # its bricks light up, too
    browser.point("h1")
    assert browser.run("document.querySelector('#tip').hidden")


def test_on_a_phone_rows_are_cards(browser: Browser, report: str) -> None:
    browser.open(report, width=390, height=800)
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert browser.run("getComputedStyle(document.querySelector('thead')).display") == "none"
    browser.run(
        "const s = document.querySelector('#by select'); s.value = 'cost'; s.dispatchEvent(new Event('change'))"
    )
    assert browser.run("location.hash") == "#sort=cost"


def test_on_a_phone_nothing_stands_on_something_else(browser: Browser, report: str, tmp_path: Path) -> None:
    path, taken = tmp_path / "two.html", [*sweep(58), failure("z/down", "provider_unavailable", gateway="infron")]
    path.write_text(page(HEAD, taken, Summary.of(taken), None), encoding="utf-8")
    browser.open(path.as_uri(), width=390, height=800)
    browser.run(
        "window.box = each => each.getBoundingClientRect();"
        "window.apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top"
    )
    assert browser.run(
        "[...document.querySelectorAll('.verdict')].every(v => box(v).right <= box(v.closest('tr')).right)"
    )
    assert browser.run(
        "[...document.querySelectorAll('#models-table tbody tr')].every(tr => "
        "box(tr.querySelector('.verdict')).bottom < box(tr.querySelector('td.first')).top)"
    )
    ticks = "[...document.querySelectorAll('#price .tick')].filter(each => getComputedStyle(each).display !== 'none').map(box)"
    assert browser.run(f"{ticks}.every((a, i, all) => all.every((b, j) => i === j || apart(a, b)))")
    browser.requests[:] = [report]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_seen(browser: Browser, report: str, dark: bool) -> None:
    browser.open(report, dark=dark, width=1200, height=1800, scale=0.2)
    picture = decoded(browser.screenshot())
    assert (picture.width, picture.height) == (240, 360)
    assert (max(picture.pixel(1, 1)) < 60) == dark
    assert len(picture.colours) > 100


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_page_works_as_well(browser: Browser, report: str, tmp_path: Path, count: int) -> None:
    path = tmp_path / "few.html"
    path.write_text(page(HEAD, sweep(count), Summary.of(sweep(count)), None), encoding="utf-8")
    browser.open(path.as_uri())
    assert browser.messages == []
    assert browser.run("document.querySelectorAll('section').length") == (3 if count == 0 else 6)
    assert browser.run("document.querySelector('button.theme') !== null")
    browser.requests[:] = [report]
