"""Sections of the report are files: a new one appears by itself, in its order, and an incomplete one is named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from analysis import pages, schema, sections
from analysis.frames import Frames, of_study, read
from analysis.sections import Context, Place, confusion, failures

SECTION = """
from . import Context, Section

ORDER = {order}


def section(context: Context) -> Section | None:
    return Section("A new section", f"of a {{context.kind}}") if context.kind == "study" else None
"""


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """add(name, source): a file in another folder that belongs to the package of sections."""
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path)])
    yield lambda name, source: (tmp_path / f"{name}.py").write_text(source) and None
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"{sections.__name__}.{path.stem}", None)
        vars(sections).pop(path.stem, None)


def test_a_class_may_be_called_as_pandas_calls_what_is_missing(tmp_path: Path) -> None:
    names = ["None", "NA", "nan"]
    rows = [",".join([name, *("3" if name == other else "1" for other in names)]) for name in names]
    (tmp_path / "confusion.csv").write_text("\n".join([",".join(["true \\ predicted", *names]), *rows]))
    counts = confusion.read_confusion(str(tmp_path))
    assert counts is not None and counts.index.tolist() == names and counts.loc["NA", "NA"] == 3


def studied() -> Frames:
    study = optuna.create_study(direction="maximize", study_name="s")
    study.optimize(lambda t: t.suggest_float("lr", 1e-3, 1, log=True), n_trials=6)
    return of_study(study)


@pytest.mark.parametrize(("order", "position"), [(0, 0), (1000, -1)])
def test_a_new_file_is_a_section_in_its_order(order: int, position: int, add: Callable[[str, str], None]) -> None:
    before = [section.title for section in pages.report_of([studied()]).sections]
    add("new_section", SECTION.format(order=order))
    after = pages.report_of([studied()]).sections
    assert after[position].title == "A new section" and after[position].text == "of a study"
    assert len(after) == len(before) + 1


def test_a_section_that_does_not_apply_is_left_out(add: Callable[[str, str], None], searched: Path) -> None:
    add("new_section", SECTION.format(order=0))
    titles = [section.title for section in pages.report_of([read(searched / "run")]).sections]
    assert titles and "A new section" not in titles


def test_a_file_without_an_order_is_named(add: Callable[[str, str], None]) -> None:
    add("no_order", "def section(context): return None")
    with pytest.raises(TypeError, match=r"no_order\.py: a section needs ORDER"):
        pages.report_of([studied()])


PICTURES = ("Mistakes", "First batch")
KINDS = {
    "search": [
        *("Learning and generalization", "One hyperparameter at a time", "Importance"),
        *("Pairs of hyperparameters", "All hyperparameters", "How many trials are enough"),
        *("Score and cost", "Confusion matrix", "Class by class", *PICTURES),
        *("Timeline of the workers", "The best trials"),
    ],
    "run": ["Learning and generalization", "Confusion matrix", "Class by class", *PICTURES, "Epoch by epoch"],
    "grid": ["Learning and generalization", "Confusion matrix", "Class by class", *PICTURES, "All runs"],
    "search adam": [
        *("Recipes compared", "Score and cost of the recipes"),
        *("Learning and generalization of the best runs", "Confusion matrix", "Class by class", *PICTURES),
    ],
}


@pytest.mark.parametrize("places", KINDS)
def test_each_kind_of_report_has_its_sections_in_their_order(places: str, searched: Path) -> None:
    report = pages.report_of([read(searched / name) for name in places.split()])
    titles = [section.title for section in report.sections]
    assert titles == KINDS[places]


def test_file_names_hold_letters_digits_and_hyphens() -> None:
    assert sections.file_name("optimizer.weight_decay") == "optimizer-weight-decay"


def test_a_trial_that_another_one_retried_has_not_failed() -> None:
    rows = [
        {"number": 0, "state": "FAIL", "outcome": "interrupted"},
        {"number": 1, "state": "COMPLETE", "outcome": "complete", "retry_of": 0},
        {"number": 2, "state": "FAIL", "outcome": "lost"},
    ]
    frames = replace(studied(), trials=schema.table(rows, schema.TRIALS))
    shown = failures.section(Context("study", [Place("s", frames)]))
    assert shown and list(shown.table.trial) == ["2"] and "1 trial failed" in shown.text
