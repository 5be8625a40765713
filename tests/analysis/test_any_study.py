"""Studies that this program did not make: summary and report say something sensible of each, or why they cannot."""

from __future__ import annotations

import json
import math
import sqlite3
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import Trial, TrialState
from test_frames import write_run

from analysis import report, summary
from analysis.frames import of_study
from analysis.trials import branches_of

Objective = Callable[[Trial], float]
TRIALS = 20


def bowl(trial: Trial) -> float:
    return (trial.suggest_float("x", 0, 1) - 0.3) ** 2


def reporting(value: Callable[[Trial, float, int], float]) -> Objective:
    """An objective that reports five steps, and is pruned in every third trial."""

    def objective(trial: Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(5):
            trial.report(value(trial, x, step), step)
        if trial.number % 3 == 2:
            raise optuna.TrialPruned
        return x

    return objective


def choosing(*choices: Any) -> Objective:
    return lambda t: choices.index(t.suggest_categorical("c", choices)) + t.suggest_float("x", 0, 1)


def noted(trial: Trial) -> float:
    values = [1, "a", [1], {"a": 1}, None, True, 1.5, "x" * 3000, {"host": 1}]
    for key in ("folder", "worker", "outcome", "reason", "retry_of", "confirms", "replaces", "resume", "seed"):
        trial.set_user_attr(key, values[trial.number % len(values)])
    if trial.number % 5 == 4:
        raise ValueError
    return bowl(trial)


def constrained(trial: Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    trial.set_constraint("c", x - 0.5)
    return x


def rates_as_texts(trial: Trial) -> float:
    if trial.number == 0:
        raise ValueError
    rate = trial.suggest_categorical("lr", ["1e-3", "1e-2", None])
    if trial.number == 5:
        raise ValueError
    return float(rate or 0) + bowl(trial)


def conditional(trial: Trial) -> float:
    score = sum(trial.suggest_categorical(f"c{i:02}", ["a", "b"]) == "a" for i in range(16))
    return score + (trial.suggest_float("x", 0, 1) if trial.number % 2 else 0.0)


STUDIES: dict[str, Objective] = {
    "an outlier": lambda t: bowl(t) + 1e8 * (t.number == 4),
    "three outliers": lambda t: bowl(t) + 10.0 ** (12 * t.number) * (t.number in (4, 9, 15)),
    "values near the largest": lambda t: 1.7e308 * (1 if t.number == 3 else t.suggest_float("x", 0, 1) * 1e-308),
    "infinite values": lambda t: math.inf if t.number % 3 == 0 else bowl(t),
    "infinite values alone": lambda t: bowl(t) + math.inf,
    "infinite reports": reporting(lambda t, x, step: math.inf if step > 2 else x),
    "negative infinite reports": reporting(lambda t, x, step: -math.inf if step == t.number % 5 else x),
    "no numbers reported": reporting(lambda t, x, step: math.nan),
    "no hyperparameters in one": lambda t: 0.0 if t.number == 4 else bowl(t),
    "no hyperparameters": lambda t: float(t.number),
    "equal choices": choosing(1, "1", True, 0, False, 1.5),
    "infinite choices": choosing(1.0, math.inf, -math.inf),
    "long names": lambda t: t.suggest_float("x" * 300, 0, 1) + len(t.suggest_categorical("c" * 300, ["l" * 300, "m"])),
    "names alike": lambda t: sum(t.suggest_float(name, 0, 1) for name in ("a/b", "a b", "a.b", "", "ä", "<b>", "c\0d")),
    "16 choices": lambda t: float(t.suggest_categorical("c", [f"n{i}" for i in range(16)]) < "n3") + bowl(t),
    "80 choices": lambda t: float(t.suggest_categorical("c", [f"n{i}" for i in range(80)]) < "n3") + bowl(t),
    "constraints": constrained,
    "learning rates as texts": rates_as_texts,
    "attributes of any kind": noted,
    "ranges that change": lambda t: t.suggest_float("x", 0, 1 + t.number),
    "an endless range": lambda t: 0 * t.suggest_float("x", -1e308, 5e307) + t.number % 3,
    "other hyperparameters in each": lambda t: t.suggest_float(f"x{t.number}", 0, 1),
}


def study_of(place: Path, objective: Objective | None, name: str = "s", direction: str = "minimize") -> Path:
    file = place / "some.db"
    study = optuna.create_study(
        study_name=name,
        storage=f"sqlite:///{file}",
        direction=direction,
        sampler=optuna.samplers.RandomSampler(0),
    )
    if objective:
        study.optimize(objective, n_trials=TRIALS, catch=(ValueError,))
    return file


def summed_up(file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The summary, after summary and report have been written without a warning."""
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("default", optuna.exceptions.ExperimentalWarning)
        summary.main([str(file), "--json"])
        json.loads(capsys.readouterr().out)
        summary.main([str(file)])
        printed = capsys.readouterr()
        report.main([str(file), "--out", str(file.parent / "report")])
    assert (file.parent / "report" / "report.html").exists() and printed.err == ""
    return printed.out


@pytest.mark.slow
@pytest.mark.parametrize("kind", STUDIES)
def test_any_study_has_a_summary_and_a_report(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = summed_up(study_of(tmp_path, STUDIES[kind]), capsys)
    nothing = kind == "infinite values alone"
    assert ("no complete trial has a finite value" if nothing else "best: trial") in printed
    assert len(printed.splitlines()) <= 30


@pytest.mark.slow
@pytest.mark.parametrize("choices", [(None, math.nan, [1, 2]), ({"a": 1}, {"a": [1]}, ""), (1.0, math.nan, 2.0)])
def test_choices_may_be_lists_and_nan(
    choices: tuple[Any, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        file = study_of(tmp_path, lambda t: len(str(t.suggest_categorical("c", choices))) + t.suggest_float("x", 0, 1))
    assert "best: trial" in summed_up(file, capsys)


def test_a_choice_that_is_null_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = study_of(tmp_path, lambda t: float(t.suggest_categorical("c", [None, "a"]) is not None) + bowl(t))
    summary.main([str(file), "--json"])
    assert json.loads(capsys.readouterr().out)["best"]["hyperparameters"]["c"] == "null"


def test_values_that_are_left_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = study_of(tmp_path, lambda t: -1e300 if t.number == 2 else math.inf if t.number == 4 else bowl(t))
    summary.main([str(file)])
    assert "left out: trials 2, 4, whose values are infinite or beyond 1e100" in capsys.readouterr().out


def test_an_outlier_hides_nothing_of_the_others(tmp_path: Path) -> None:
    answer = summary.summarize(
        of_study(optuna.load_study(study_name="s", storage=f"sqlite:///{study_of(tmp_path, STUDIES['an outlier'])}"))
    )
    (row,) = answer["importance"]
    assert row["verdict"] == "matters" and answer["truly"]["mean"] == pytest.approx(answer["best"]["value"], abs=0.01)
    assert answer["noise"] < 0.1


@pytest.mark.parametrize("kind", ["zero trials", "a waiting one", "failed ones", "pruned ones"])
def test_a_study_without_a_complete_trial_is_one_sentence(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study_of(tmp_path, None)
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{file}")
    if kind == "a waiting one":
        study.enqueue_trial({"x": 1})
    elif kind != "zero trials":
        study.tell(study.ask(), state=TrialState.FAIL if kind == "failed ones" else TrialState.PRUNED)
    assert "nothing can be said yet" in summed_up(file, capsys)


@pytest.mark.parametrize("places", [1, 2])
def test_several_objectives_are_one_clear_error(places: int, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/several.db"
    study = optuna.create_study(study_name="s", storage=storage, directions=["minimize", "maximize"])
    study.optimize(lambda t: (t.suggest_float("x", 0, 1), 1.0), n_trials=3)
    with pytest.raises(SystemExit, match=r"2 objectives \(minimize, maximize\).*allowed.*plot_pareto_front"):
        report.main([str(tmp_path / "several.db")] * places)


@pytest.mark.parametrize(
    "change, phrase",
    [
        ("UPDATE alembic_version SET version_num = 'v0.9.0.a'", "optuna storage upgrade --storage sqlite:///"),
        ("ALTER TABLE trial_values DROP COLUMN value_type", "optuna storage upgrade --storage sqlite:///"),
        ("UPDATE alembic_version SET version_num = 'v99.0.0.a'", "pip install -U optuna"),
        ("DROP TABLE studies", "no such table"),
    ],
    ids=["an old version", "a missing column", "a new version", "no studies"],
)
def test_tables_of_another_version_are_one_error_that_says_what_to_do(change: str, phrase: str, tmp_path: Path) -> None:
    file = study_of(tmp_path, bowl)
    with sqlite3.connect(file) as database:
        database.execute(change)
    with pytest.raises(SystemExit, match=phrase) as caught:
        summary.main([str(file)])
    assert len(str(caught.value).splitlines()) == 1


def test_many_choices_are_quick(tmp_path: Path) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    study.optimize(conditional, n_trials=60)
    start = time.process_time()
    assert len(set(branches_of(study.trials).values())) == 2
    assert time.process_time() - start < 2
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    study.optimize(STUDIES["16 choices"], n_trials=60)
    start = time.process_time()
    summary.summarize(of_study(study))
    assert time.process_time() - start < 6  # it took 20 s


def test_what_decides_on_the_space_may_be_a_list() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    distributions = {"c": CategoricalDistribution(([1], None, math.nan)), "x": FloatDistribution(0, 1)}
    for choice in ([1], None, math.nan, [1], math.nan):
        params = {"c": choice} | ({"x": 0.5} if choice == [1] else {})
        spaces = {key: distributions[key] for key in params}
        study.add_trial(optuna.create_trial(params=params, distributions=spaces, value=1.0))
    assert list(branches_of(study.trials).values()) == ["c=[1]", "c=None", "c=nan", "c=[1]", "c=nan"]


@pytest.mark.parametrize("name", ["a b", "100%20", "what?", "a?b=c", "#[1]='x'", "{a}", "ü", "-x"])
@pytest.mark.parametrize("as_url", [False, True])
def test_a_file_of_any_name_is_read(
    name: str, as_url: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study_of(tmp_path, bowl).rename(tmp_path / f"{name}.db")
    summary.main([f"sqlite:///{file}" if as_url else str(file)])
    assert "best: trial" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_folder_of_runs_of_different_options_has_a_report(tmp_path: Path) -> None:
    for number, config in enumerate(
        ["optimizer:\n  lr: 0.1\n  momentum: 0.9\n", "optimizer:\n  lr: 0.2\n", "seed: 1\n"]
    ):
        run = write_run(tmp_path / "day" / str(number), accuracy=0.5 + number / 10)
        (run / ".hydra" / "config.yaml").write_text(f"{config}model:\n  depths: [1, {number}]\n")
    report.main([str(tmp_path)])
    text = (tmp_path / "report" / "report.md").read_text()
    assert "optimizer.momentum" in text and "nan" not in text
