"""The report: a page that needs no network, and the same numbers in Markdown, whatever state a search is in."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import optuna
import pytest
from browser import Browser
from PIL import Image
from sweeps import Sweep
from test_figures import HOSTILE

from analysis import packages, pages, render, report, summary
from analysis.frames import of_study, read
from analysis.pages.base import sentence
from analysis.pages.study import facts as study_facts
from benchmarks.report import make_study
from cifar.formatting import format_value

LIMIT = 8e6
"""Bytes of a page of 200 trials."""
PLACES = {"search": ["search"], "comparison": ["search", "adam"], "run": ["run"], "grid": ["grid"]}


class Texts(HTMLParser):
    """The texts of a page, without scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        self.texts += [data] if self.inside not in ("script", "style") else []


def make(folder: Path, *places: Path | str) -> Path:
    """The folder of a report."""
    report.main([*map(str, places), "--out", str(folder)])
    return folder


def check(browser: Browser, page: Path) -> None:
    """No message on the console, no request, every figure drawn, nothing wider than the screen; in both schemes."""
    for width, dark in ((1280, False), (390, True)):
        browser.open(page, width, dark)
        assert browser.console() == []
        assert browser.requests() == [page.resolve().as_uri()]
        count = "return document.querySelectorAll('{}').length"
        assert browser.run(count.format(".figure .cartesianlayer")) == browser.run(count.format(".figure"))
        assert browser.run("return document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def reports(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By kind, the folder of a report."""
    return {
        kind: make(tmp_path_factory.mktemp(kind), *(searched / name for name in names))
        for kind, names in PLACES.items()
    }


@pytest.mark.parametrize("kind", PLACES)
def test_a_page_opens_without_an_error_or_a_request(kind: str, reports: dict[str, Path], browser: Browser) -> None:
    check(browser, reports[kind] / "report.html")
    assert browser.run("return document.querySelectorAll('.figure').length") >= 4


def test_a_page_is_dark_and_light(reports: dict[str, Path], browser: Browser) -> None:
    colours = []
    for dark in (False, True):
        browser.open(reports["search"] / "report.html", dark=dark)
        for place in ("document.body", "document.querySelector('.figure .xtick text')"):
            what = "backgroundColor" if "body" in place else "fill"
            rgb = browser.run(f"return getComputedStyle({place}).{what}")
            colours.append(sum(map(int, re.findall(r"\d+", rgb)[:3])) / 3)
    paper, text, dark_paper, light_text = colours
    assert paper > 230 and text < 60 and dark_paper < 40 and light_text > 200


def test_the_first_screen_has_the_answer(reports: dict[str, Path], searched: Path, browser: Browser) -> None:
    answer = summary.summarize(read(searched / "search"))
    browser.open(reports["search"] / "report.html")
    seen = browser.run(
        "return [...document.querySelectorAll('header, .facts, .answer')]"
        ".filter(e => e.getBoundingClientRect().bottom < innerHeight).map(e => e.textContent).join(' ')"
    )
    assert f"python run.py from_study={searched}/search" in seen
    assert all(f"{key}" in seen and format_value(v) in seen for key, v in answer["best"]["hyperparameters"].items())
    assert f"{answer['truly']['mean']:.4f}" in seen and f"{answer['truly']['low']:.4f}" in seen
    assert f"reported {answer['best']['value']:.4f}" in seen and "BottleneckResNet" in seen
    assert "not evaluated" in seen
    for step in summary.advice(answer):
        assert step[1:] in seen


@pytest.mark.parametrize("kind", PLACES)
def test_the_markdown_has_the_same_numbers(kind: str, reports: dict[str, Path]) -> None:
    page = " ".join(Texts((reports[kind] / "report.html").read_text()).texts)
    text = (reports[kind] / "report.md").read_text()
    number = re.compile(r"\d+\.\d+%?")
    assert set(number.findall(page)) == set(number.findall(re.sub(r"!\[.*", "", text)))
    assert len(number.findall(text)) > 10
    for figure in re.findall(r"\]\((figures/.*?)\)", text):
        assert (reports[kind] / figure).exists() and (reports[kind] / figure).with_suffix(".png").exists()


def test_best_yaml_trains_the_best_and_that_of_the_search_stays(searched: Path, reports: dict[str, Path]) -> None:
    original = searched / "search" / "best.yaml"
    before = original.stat()
    assert (reports["search"] / "best.yaml").read_text() == original.read_text() and original.stat() == before
    assert not (reports["run"] / "best.yaml").exists()


def test_a_search_shows_its_confusion_matrix_and_a_comparison_its_recipes(
    reports: dict[str, Path], searched: Path
) -> None:
    best = summary.summarize(read(searched / "search"))["best"]["trial"]
    assert f"Validation images of trial {best}, the best reported" in (reports["search"] / "report.md").read_text()
    compared = (reports["comparison"] / "report.md").read_text()
    assert "A trial of " in compared and "expected at equal budget" in compared and "6 trials" in compared


def test_a_grid_is_compared_over_its_seeds(reports: dict[str, Path]) -> None:
    text = (reports["grid"] / "report.md").read_text()
    assert "2 degrees of freedom" in text and "| optimizer.lr | seeds | mean validation accuracy |" in text
    assert re.search(r"^\| 0\.01 \| 2 \|", text, re.M) and re.search(r"^\| 0\.1 \| 2 \|", text, re.M)


def stored(folder: Path, name: str = "s") -> optuna.Study:
    return optuna.create_study(study_name=name, storage=f"sqlite:///{folder}/study.db", direction="maximize")


def fail(study: optuna.Study) -> None:
    study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"reason": "out of memory"}))


STATES: dict[str, tuple[Callable[[optuna.Study], object], str]] = {
    "empty": (lambda study: None, "No trial is complete, so nothing can be said yet."),
    "running": (lambda study: study.ask(), "1 running"),
    "all failed": (lambda study: [fail(study) for _ in range(3)], "The first reason: out of memory"),
    "one trial": (lambda study: study.add_trial(optuna.create_trial(value=0.5)), "value, reported: **0.5000**"),
    "one of ours": (lambda study: study.optimize(lambda t: t.suggest_float("lr", 0, 1), 1), "at least 5 are needed"),
}


@pytest.mark.parametrize("state", STATES)
def test_a_search_in_any_state_has_a_page(state: str, tmp_path: Path, browser: Browser) -> None:
    act, expected = STATES[state]
    act(stored(tmp_path))
    folder = make(tmp_path / "out", tmp_path)
    assert expected in (folder / "report.md").read_text()
    check(browser, folder / "report.html")


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_plain_optuna_study_has_a_page(direction: str, tmp_path: Path, browser: Browser) -> None:
    url = f"sqlite:///{tmp_path}/any.db"
    study = optuna.create_study(storage=url, study_name="plain", direction=direction)
    study.optimize(lambda t: t.suggest_float("x", -1, 1) ** 2 + t.suggest_int("n", 1, 5), n_trials=12)
    folder = make(tmp_path / "out", url)
    check(browser, folder / "report.html")
    assert f"reported {study.best_value:.4f}" in (folder / "report.md").read_text()


def test_names_and_values_cannot_bring_in_html(tmp_path: Path, browser: Browser) -> None:
    study = stored(tmp_path, HOSTILE)

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("worker", {"host": HOSTILE, "pid": 1, "index": 0})
        value = trial.suggest_float(HOSTILE, 0, 1)
        return value + (trial.suggest_categorical("choice", [HOSTILE, "other"]) == "other")

    study.optimize(objective, n_trials=8)
    folder = make(tmp_path / "out", tmp_path)
    check(browser, folder / "report.html")
    assert browser.run("return window.hacked === undefined && document.querySelectorAll('img, main b').length === 0")
    assert HOSTILE in browser.run("return document.querySelector('h1').textContent")
    assert "<img" not in (folder / "report.md").read_text()


def test_a_confirmed_winner_has_its_mean_and_its_test_accuracy(searched: Path) -> None:
    frames = read(searched / "search")
    confirmed = {"trial": 1, "seeds": 5, "mean": 0.4321, "low": 0.4, "high": 0.45}
    test = {"accuracy": 0.4242, "images": 100, "wilson_low": 0.33, "wilson_high": 0.52, "look": 2}
    answer = summary.summarize(frames) | {"confirmed": confirmed | {"test": test}}
    facts = {fact.label: fact for fact in study_facts(frames, answer)}
    assert facts["validation accuracy, mean of 5 fresh seeds"].value == "0.4321"
    assert facts["test accuracy"].value == "0.4242" and "evaluated 2 times" in facts["test accuracy"].note


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("large")
    make_study(place, 200, 10)
    return make(place / "out", place)


def test_a_page_of_200_trials_is_small(large: Path, browser: Browser) -> None:
    assert (large / "report.html").stat().st_size < LIMIT
    check(browser, large / "report.html")


def test_the_command_can_be_copied(reports: dict[str, Path], browser: Browser) -> None:
    browser.open(reports["search"] / "report.html")
    browser.click("#copy")
    assert browser.run("return document.getElementById('copy').textContent") == "Copied"
    assert "from_study=" in browser.run("return getSelection().toString()")


def test_a_page_can_be_printed(reports: dict[str, Path], browser: Browser) -> None:
    browser.open(reports["search"] / "report.html", dark=True)
    browser.media("print")
    shown = "return getComputedStyle(document.querySelector('{}')).{}"
    assert browser.run(shown.format("nav", "display")) == "none"
    assert browser.run(shown.format("body", "backgroundColor")) == "rgb(255, 255, 255)", "paper is light"
    browser.run("dispatchEvent(new Event('beforeprint'))")
    widths = browser.run(
        "return [...document.querySelectorAll('.figure .main-svg')].map(svg => svg.width.baseVal.value)"
    )
    assert set(widths) == {320, 660}, "as wide as the paper, not as the screen"
    browser.media("")


def test_watching_rewrites_the_page_until_the_search_has_ended(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, "hydra.sweeper.n_trials=6", "hydra/sweeper/pruner=none", TOY_SECONDS="0.3")
    monkeypatch.setattr(report, "POLL_SECONDS", 1)
    monkeypatch.setattr(report, "MAX_SHARE", math.inf)
    place, pages_seen, ended = tmp_path / "study", [], threading.Event()

    def poll() -> None:
        while not ended.wait(0.2):
            if (place / "report" / "report.html").exists():
                pages_seen.append((place / "report" / "report.html").read_text())

    watcher = threading.Thread(target=poll)
    watcher.start()
    while not (place / "0").exists():
        time.sleep(0.1)
    try:
        report.main([str(place), "--watch"])
    finally:
        ended.set()
        watcher.join()
    assert sweep.wait()[0] == 0
    assert all(page.rstrip().endswith("</html>") for page in pages_seen), "half-written pages are never seen"
    assert any('http-equiv="refresh"' in page and "running" in page for page in pages_seen)
    final = (place / "report" / "report.html").read_text()
    assert 'http-equiv="refresh"' not in final and "6 complete" in final
    check(browser, place / "report" / "report.html")


def test_ctrl_c_ends_the_watch_with_a_page_that_does_not_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path).ask()

    def interrupted(seconds: float) -> None:
        assert 'http-equiv="refresh"' in (tmp_path / "report" / "report.html").read_text()
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    report.main([str(tmp_path), "--watch"])
    assert 'http-equiv="refresh"' not in (tmp_path / "report" / "report.html").read_text()


def test_where_a_report_goes(tmp_path: Path) -> None:
    (tmp_path / "study.db").touch()
    folder = str(tmp_path)
    assert report.destination([folder], None) == tmp_path / "report"
    assert report.destination([f"{folder}/study.db"], None) == tmp_path / "report"
    assert report.destination([folder, folder], None) == Path("report")
    assert report.destination([f"sqlite:///{folder}/study.db"], None) == Path("report")
    assert report.destination([folder, folder], "x") == Path("x")


@pytest.mark.parametrize("kind", ["no folder", "several objectives", "cannot write", "into a study"])
def test_what_has_no_report_is_an_error_of_one_line(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    if kind != "no folder":
        place = tmp_path
        directions = ["maximize"] * (2 if kind == "several objectives" else 1)
        optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db", directions=directions)
    (tmp_path / "file").touch()
    out = place if kind == "into a study" else tmp_path / "file" / "out"
    message = "holds a study or a run; allowed: another folder" if kind == "into a study" else ""
    with pytest.raises(SystemExit, match=f"error: .*{message}") as caught:
        report.main([str(place), "--out", str(out)])
    assert len(str(caught.value).splitlines()) == 1


def test_the_module_starts_without_torch(root: Path, no_torch: dict[str, str], tmp_path: Path) -> None:
    study = stored(tmp_path)
    study.add_trial(optuna.create_trial(value=0.5))
    command = [sys.executable, "-m", "analysis.report", str(tmp_path)]
    done = subprocess.run(command, cwd=root, env={**no_torch}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_a_missing_package_is_an_error_of_one_line_that_names_the_extra(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    expected = f"error: analysis.report: {package} is not installed; do: pip install -e '.[analysis]'"
    with pytest.raises(SystemExit, match=re.escape(expected)):
        packages.require("analysis.report")


def test_the_readme_shows_the_page(root: Path) -> None:
    picture = root / "analysis" / "report.png"
    assert "analysis/report.png" in (root / "README.md").read_text() and picture.stat().st_size < 300_000
    with Image.open(picture) as image:
        assert image.width >= 1000


def test_the_report_of_a_run_says_what_of_it_is_damaged(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "result.json").write_text('{"status')
    assert "result.json: not JSON" in pages.report_of([read(run)]).next_steps[-1]


def test_a_command_at_the_end_of_a_sentence_can_be_copied() -> None:
    for command in (
        "python run.py -m seed=0",
        "/home/me/venv/bin/python3.12 run.py",
        "cifar-search",
        "pip install -U x",
    ):
        assert sentence(f"confirm it: {command}") == f"Confirm it: {command}"
    assert sentence("optimizer.lr: may be fixed") == "optimizer.lr: may be fixed."


def test_a_report_of_frames_needs_no_files() -> None:
    study = optuna.create_study(direction="maximize", study_name="in memory")
    study.optimize(lambda t: t.suggest_float("lr", 1e-3, 1, log=True), n_trials=6)
    contents = pages.report_of([of_study(study)])
    assert contents.title == "in memory" and contents.facts and json.dumps(render.page(contents, "now", "test"))
