"""What the report shows of single images: mistakes with their files, on how many seeds, and the first batch."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from test_figures import HOSTILE
from test_frames import check_columns

from analysis import pages, render, schema
from analysis.frames import read
from analysis.predictions import examples_of, predictions_of
from analysis.sections import Context, Place, Section, mistakes, wrong_labels
from analysis.statistics.mistakes import alike_on_all_runs, wrong_by_run
from cifar import predictions
from cifar.predictions import Row


@pytest.fixture
def copied(tiny_run: Path, tmp_path: Path) -> Path:
    """A run that a test may change."""
    return shutil.copytree(tiny_run, tmp_path / "run")


def section(run: Path, title: str) -> Section | None:
    sections = pages.report_of([read(run)]).sections
    return next((section for section in sections if section.title == title), None)


def test_the_report_of_a_run_shows_its_examples_as_they_are(tiny_run: Path) -> None:
    shown, batch = section(tiny_run, "Mistakes"), section(tiny_run, "First batch")
    assert shown and batch
    rows = predictions.read(tiny_run / "predictions.csv")
    wrong = [row for row in rows if not row.right]
    assert f"Of {len(rows)} validation images of this run, {len(wrong)} are wrong" in shown.text
    first = shown.pictures[0]
    surest = max(wrong, key=lambda row: row.probability)
    assert first.title == "Most confident mistakes"
    assert first.pictures[0].file == surest.file
    assert first.pictures[0].caption == f"{surest.true} as {surest.predicted}, {surest.probability:.0%}"
    contents = {base64.b64encode(path.read_bytes()).decode() for path in (tiny_run / "examples").glob("*.png")}
    sources = [picture.source for part in (shown, batch) for group in part.pictures for picture in group.pictures]
    assert {source.partition("base64,")[2] for source in sources} == contents
    page = render.page(pages.report_of([read(tiny_run)]), "now", "command")
    assert page.count('<img src="data:image/png;base64,') == len(sources)


def test_names_cannot_end_the_page_nor_leave_the_folder(copied: Path) -> None:
    (copied / "secret.png").write_bytes(b"secret")
    row = Row(HOSTILE, "val", HOSTILE, "a|b", 0.9, 0.1, 3.0)
    predictions.write(copied / "predictions.csv", [row])
    lines = [
        [name, "mistake", *predictions.cells(row)] for name in ("batch.png", "../secret.png", "index.csv", "no.png")
    ]
    predictions.write_table(copied / "examples" / "index.csv", predictions.INDEX_COLUMNS, lines)
    assert [example.row for example in examples_of(copied)] == [row]
    report = pages.report_of([read(copied)])
    assert HOSTILE not in render.page(report, "now", "command")
    assert "a\\|b" in render.markdown(report, "now", "command")


def test_without_examples_the_report_has_a_table_and_without_predictions_nothing(copied: Path) -> None:
    shutil.rmtree(copied / "examples")
    shown = section(copied, "Mistakes")
    assert shown and not shown.pictures and "There are no images to show" in shown.text
    assert shown.table.columns.tolist() == ["file", "class", "predicted", "probability"] and len(shown.table)
    assert section(copied, "First batch") is None
    for damaged in ("not,a,table\n", ""):
        (copied / "predictions.csv").write_text(damaged)
        assert section(copied, "Mistakes") is None
    (copied / "predictions.csv").unlink()
    assert section(copied, "Mistakes") is None
    check_columns(predictions_of([copied]), schema.PREDICTIONS)


def test_an_image_is_wrong_on_so_many_seeds(tmp_path: Path) -> None:
    predicted = {"one": "bbab", "two": "bcab", "three": "bcac"}
    for run, classes in predicted.items():
        (tmp_path / run).mkdir()
        rows = [Row(str(file), "val", "a", name, 0.6, 0.4, 1.0 + file) for file, name in enumerate(classes)]
        predictions.write(tmp_path / run / "predictions.csv", rows)
    frame = predictions_of(tmp_path / run for run in predicted)
    check_columns(frame, schema.PREDICTIONS)
    expected = [("3", "b", 3, 3, 2, 4.0), ("1", "c", 3, 3, 2, 2.0), ("0", "b", 3, 3, 3, 1.0)]
    columns = ["file", "predicted", "runs", "wrong", "same", "loss"]
    counts = wrong_by_run(frame)[columns]
    assert list(counts.itertuples(index=False, name=None)) == [expected[2], *expected[:2]]
    assert wrong_by_run(pd.DataFrame(columns=list(schema.PREDICTIONS))).empty
    assert alike_on_all_runs(wrong_by_run(frame)).file.tolist() == ["0"]
    in_one_run = frame[(frame.file != "0") | frame.run.str.endswith("two")]
    assert alike_on_all_runs(wrong_by_run(in_one_run)).empty, "an image that one run predicted is not wrong on all"
    assert alike_on_all_runs(wrong_by_run(frame[frame.run.str.endswith("two")])).empty, "one run alone says nothing"


def test_of_a_confirmed_trial_each_image_is_shown_with_its_seeds(copied: Path, tiny_run: Path) -> None:
    """On the second seed all is right."""
    rows = [row._replace(predicted=row.true) for row in predictions.read(copied / "predictions.csv")]
    predictions.write(copied / "predictions.csv", rows)
    fresh = [{"number": 4, "seed": seed, "run": run} for seed, run in enumerate((tiny_run, copied, "none"), 1)]
    fresh.append({"number": 5, "seed": 1, "run": copied})
    frames = replace(read(tiny_run), fresh=schema.table(fresh, schema.CONFIRMATION_RUNS))
    context = Context("study", [Place("s", frames)], "best", answer={"confirmed": {"trial": 4}})
    shown = mistakes.section(context)
    assert shown and "of trial 4, the confirmed winner, on seed 1," in shown.text
    assert "0 are wrong on all of 2 fresh seeds." in shown.text
    assert {picture.note for picture in shown.pictures[0].pictures} == {"wrong on 1 of 2 seeds"}
    assert set(shown.table["wrong on"]) == {"1 of 2 seeds"} and len(shown.table) == 10
    assert wrong_labels.section(context) is None
    predictions.write(copied / "predictions.csv", predictions.read(tiny_run / "predictions.csv"))
    alike = wrong_labels.section(context)
    wrong = [row for row in predictions.read(tiny_run / "predictions.csv") if not row.right]
    surest = max(wrong, key=lambda row: row.probability - row.true_probability)
    assert alike and f"These {len(wrong)} labels may be wrong: all 2 fresh seeds say the same" in alike.text
    first = alike.table.iloc[0]
    assert (first.file, first["given label"], first.suggested) == (surest.file, surest.true, surest.predicted)
    assert alike.pictures[0].pictures[0].caption == f"{surest.true}, or {surest.predicted}"


def test_of_very_many_images_the_text_says_which_are_known(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = predictions.read(tiny_run / "predictions.csv")
    monkeypatch.setattr(mistakes, "MOST", len(rows))
    shown = section(tiny_run, "Mistakes")
    assert shown and f"Of the {len(rows)} validation images of this run with the largest loss, " in shown.text
