from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pandas as pd
import pytest
from sweeps import Sweep
from test_statistics import search

from analysis import summary
from analysis.evidence import true_value
from analysis.frames import of_study
from analysis.summary import summarize, text
from cifar.formatting import count_of, spelled


def stored(folder: Path, directions: tuple[str, ...] = ("maximize",)) -> optuna.Study:
    return optuna.create_study(study_name="s", storage=f"sqlite:///{folder}/study.db", directions=directions)


def test_numbers_and_names_are_spelled_as_in_a_text() -> None:
    assert [count_of(number, "epoch") for number in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]
    assert [spelled(name) for name in ("val_macro_f1", "macro_f1", "f12")] == ["val macro F1", "macro F1", "f12"]


def test_the_answer_has_the_best_how_sure_it_is_and_what_to_do_in_30_lines() -> None:
    answer = summarize(search(1.2))
    printed = text(answer)
    assert len(printed.splitlines()) <= 30
    assert f"best: trial {answer['best']['trial']}" in printed and "probably about 0.8" in printed
    assert "lr  " in printed and "of the variance; the best lie at the high end of its range" in printed
    assert "nothing  " in printed and "not distinguishable from noise" in printed
    assert "widen lr: 0.001 to" in printed
    assert "nothing: not shown to matter" in printed


def test_where_nothing_is_shown_to_matter_nothing_is_advised_to_be_fixed() -> None:
    printed = text(summarize(search(0.5, trials=20, slope=0.0)))
    assert "no hyperparameter is shown to matter" in printed and "may be fixed" not in printed


def test_the_statistics_are_of_the_trials_with_the_options_of_the_winner() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))

    def objective(trial: optuna.Trial) -> float:
        adam = trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "adam"
        rate = trial.suggest_float("lr", 0, 1) if adam else trial.suggest_float("rate", 0, 1)
        return adam + rate

    study.optimize(objective, n_trials=24)
    chosen = sum(t.params["optimizer"] == "adam" for t in study.trials)
    printed = text(summarize(of_study(study)))
    assert 5 <= chosen < 24 and f" of {chosen} trials with optimizer=adam would have been enough" in printed


def test_whole_numbers_stay_whole_beside_trials_without_them() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.FAIL))
    study.enqueue_trial({"n": 12345})
    study.optimize(lambda t: t.suggest_int("n", 1, 100_000), n_trials=1)
    answer = summarize(of_study(study))
    assert json.dumps(answer["best"]["hyperparameters"]) == '{"n": 12345}' and "12345" in text(answer)


def test_a_large_space_is_summed_up_in_30_lines_too() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(lambda t: sum(t.suggest_float(f"h{i}", 0, 1) * 2**-i for i in range(12)), n_trials=12)
    printed = text(summarize(of_study(study)))
    assert len(printed.splitlines()) <= 30 and "h0  " in printed


@pytest.mark.parametrize("runs, high", [([{"run": "0"}], 1.0), ([], 1.01)], ids=["ours", "any"])
def test_no_accuracy_is_above_1(runs: list[dict[str, str]], high: float) -> None:
    frames = replace(of_study(optuna.create_study(direction="maximize")), runs=pd.DataFrame(runs))
    curse = pd.Series({"reported": 0.99, "estimate": 0.98, "low": -0.02, "high": 0.03})
    assert true_value(frames, curse) == pytest.approx({"mean": 0.98, "low": 0.96, "high": high})


def test_where_less_is_better_the_least_is_best_and_printed_with_its_sign() -> None:
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(lambda t: 5 + (t.suggest_float("x", -1, 1) - 0.2) ** 2, n_trials=15)
    answer = summarize(of_study(study))
    assert answer["best"] | {"trial": study.best_trial.number, "value": study.best_value} == answer["best"]
    assert answer["truly"]["low"] <= answer["truly"]["mean"] <= answer["truly"]["high"]
    assert answer["truly"]["mean"] == pytest.approx(5, abs=0.05) and "probably about 5.0" in text(answer)


@pytest.mark.parametrize(
    "objective, expected",
    [
        (lambda t: float(t.suggest_categorical("b", [None, "x", 3]) == 3) + t.suggest_float("x", 0, 1), "b "),
        (lambda t: float(t.suggest_categorical("b", [True, False])) + t.suggest_int("n", 1, 9, log=True), "b "),
        (lambda t: float(t.suggest_float("a=b c", 0, 1)), "a=b c "),
        (lambda t: 1e-12 * t.suggest_float("x", 0, 1) + 0 * t.suggest_float("same", 2, 2), "x "),
        (lambda t: t.suggest_float("x", 0, 1) if t.number else math.inf, "x "),
        (lambda t: 0 * t.suggest_float("x", 0, 1), "have the same score"),
        (lambda t: t.number, "nothing was searched"),
    ],
    ids=[
        "mixed choices",
        "truth values",
        "an odd name",
        "tiny differences",
        "an infinite value",
        "constant",
        "nothing",
    ],
)
def test_any_study_of_optuna_is_summed_up(objective: Callable[[optuna.Trial], float], expected: str) -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(objective, n_trials=12)
    answer = summarize(of_study(study))
    assert expected in text(answer) and answer["best"]["value"] < math.inf
    json.dumps(answer, default=float)


def test_a_sweep_is_summed_up_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Sweep(tmp_path, "hydra.sweeper.n_trials=6", "hydra/sweeper/pruner=none").wait()[0] == 0
    summary.main([str(tmp_path / "study")])
    printed = capsys.readouterr().out
    assert f"train it: python run.py from_study={tmp_path}/study" in printed and "optimizer.lr" in printed
    summary.main([str(tmp_path / "study"), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["trials"] == {"complete": 6} and answer["winners_curse"]["reported"] == answer["best"]["value"]


def test_empty_failed_and_small_studies_get_one_clear_sentence(tmp_path: Path) -> None:
    study = stored(tmp_path)
    assert "no trials yet" in text(summarize(of_study(study)))
    study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"reason": "out of memory"}))
    assert "no trial is complete" in (printed := text(summarize(of_study(study)))) and "out of memory" in printed
    study.ask()
    study.add_trial(optuna.create_trial(value=0.5))
    printed = text(summarize(of_study(study)))
    assert "1 complete" in printed and "1 running" in printed
    assert "best: trial 2, which reported 0.5000" in printed and "not known yet: trials complete: 1" in printed


@pytest.mark.parametrize("kind", ["several objectives", "no folder", "no study"])
def test_a_place_without_a_search_is_an_error_of_one_line(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "elsewhere" if kind == "no folder" else tmp_path
    if kind == "several objectives":
        stored(tmp_path, ("maximize", "minimize"))
    with pytest.raises(SystemExit, match=f"error: {place}") as caught:
        summary.main([str(place)])
    assert len(str(caught.value).splitlines()) == 1 and "allowed" in str(caught.value)
