"""The page of findings in Chromium: it fits, filters, and saves the fixes that are marked on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Browser
from planted import keys

from cifar.data.fixes import Fix, read_fixes
from cifar.inspection.__main__ import main


def fixes(browser: Browser, folder: Path) -> set[Fix]:
    """Those that the page would save, as a run reads them."""
    file = folder / "fixes.csv"
    file.write_text(browser.run("return csv()"), "utf-8", newline="")
    return set(read_fixes(str(file)).all())


def click(browser: Browser, selector: str) -> None:
    """Also what the bar at the top hides."""
    browser.run(f"document.querySelector({selector!r}).click()")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_the_screen_and_asks_for_nothing(browser: Browser, out: Path, width: int, dark: bool) -> None:
    browser.open(out / "index.html", width, dark)
    assert browser.console() == []
    assert browser.requests() == [(out / "index.html").resolve().as_uri()]
    assert browser.run("return document.documentElement.scrollWidth") <= width
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(21, 23, 26)") == dark


def test_what_is_marked_is_saved_as_fixes(browser: Browser, out: Path, tmp_path: Path) -> None:
    browser.open(out / "index.html")
    assert browser.run("return document.getElementById('save').disabled")
    click(browser, "section[data-kind=unreadable] button.all")
    click(browser, "section[data-kind=near_duplicate] input[type=checkbox]")
    dropped = {Fix(f"train/cat/{name}.jpg", "drop", "") for name in ("truncated", "nothing")}
    grouped = {Fix("train/cat/005.jpg", "group", "train/cat/double.jpg")}
    assert fixes(browser, tmp_path) == dropped | grouped
    assert browser.run("return document.getElementById('marked').textContent") == "3 fixes"

    click(browser, "section[data-kind=unreadable] button.all")
    click(browser, "section[data-kind=near_duplicate] input[type=checkbox]")
    click(browser, "section[data-kind=conflicting_labels] input[type=checkbox]")
    assert fixes(browser, tmp_path) == {Fix("train/dog/other class.jpg", "relabel", "cat")}
    browser.run(
        "const box = document.querySelector('section[data-kind=conflicting_labels] input[type=text]');"
        "box.value = 'bird'; box.dispatchEvent(new Event('input'))"
    )
    assert browser.run("return document.getElementById('save').disabled")


def test_fixes_that_are_applied_are_saved_with_the_new_ones(browser: Browser, folder: Path, tmp_path: Path) -> None:
    present = tmp_path / "present.csv"
    present.write_text("file,action,label\ntrain/cat/dark.jpg,drop,\n")
    main(keys(folder, tmp_path, f"data.fixes={present}"))
    browser.open(tmp_path / "index.html")
    assert browser.run("return document.getElementById('save').disabled")
    click(browser, "section[data-kind=unreadable] button.all")
    assert {fix.file for fix in fixes(browser, tmp_path)} == {
        f"train/cat/{name}.jpg" for name in ("dark", "truncated", "nothing")
    }


def test_odd_names_survive_the_file(browser: Browser, out: Path, tmp_path: Path) -> None:
    browser.open(out / "index.html")
    click(browser, "section[data-kind=duplicate] button.all")
    names = {fix.file for fix in fixes(browser, tmp_path)}
    assert names == {"train/cat/copy.jpg", "train/cat/new\nline \\xff.jpg"}


def test_one_kind_is_shown_alone(browser: Browser, out: Path) -> None:
    browser.open(out / "index.html")
    click(browser, ".chips button[data-kind=leak]")
    shown = "return [...document.querySelectorAll('section')].filter(s => !s.hidden).map(s => s.dataset.kind)"
    assert browser.run(shown) == ["leak"]
    click(browser, ".chips button[data-kind='']")
    assert len(browser.run(shown)) > 5
