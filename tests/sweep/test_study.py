from __future__ import annotations

import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from cifar.sweep.optuna_private import id_of
from cifar.sweep.storage import StudyError
from cifar.sweep.study import MISSED_HEARTBEATS, SharedStudy, create, differences, upgraded
from cifar.sweep.trials import withdrawal

SETTINGS: dict[str, Any] = {"fixed": {"epochs": 10}, "space": {"lr": 1}}
URLS = ["sqlite:///{}/study.db", "journal:///{}/study.log"]


def sampler(number: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=number)


def open_study(folder: Path, total: int = 4, url: str = URLS[0], max_deaths: int = 3) -> SharedStudy:
    create(url.format(folder), "s", folder, "maximize", SETTINGS)
    return SharedStudy(url.format(folder), "s", folder, total, optuna.pruners.NopPruner(), max_deaths)


def ask(study: SharedStudy) -> optuna.Trial:
    trial = study.ask(sampler, 0)
    assert trial is not None
    trial.suggest_float("lr", 0, 1)
    return trial


def states(study: SharedStudy) -> Counter[str]:
    return Counter(t.user_attrs.get("outcome", t.state.name) for t in study.trials())


def let_heartbeats_stop(study: SharedStudy) -> None:
    for _ in range(MISSED_HEARTBEATS + 1):
        study.poll_heartbeats(1.0)


@pytest.fixture(params=[*URLS, "postgresql"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> SharedStudy:
    url = request.getfixturevalue("postgresql")() if request.param == "postgresql" else request.param
    return open_study(tmp_path, url=url)


def test_asks_no_more_than_the_total(study: SharedStudy) -> None:
    trials = [ask(study) for _ in range(4)]
    assert study.ask(sampler, 0) is None
    assert not study.finished()
    for trial in trials:
        study.complete(trial, 0.5)
    assert study.finished()
    assert [t.number for t in study.trials()] == [0, 1, 2, 3]


def test_a_trial_holds_its_folder_and_its_worker(study: SharedStudy) -> None:
    ask(study)
    attributes = study.trials()[0].user_attrs
    assert attributes["folder"] == "0"
    assert set(attributes["worker"]) == {"host", "pid", "index"}


def test_pruned_and_failed_trials_count_and_keep_their_reason(study: SharedStudy) -> None:
    study.prune(ask(study))
    study.fail(ask(study), "failed", "RuntimeError: no")
    study.complete(ask(study), float("nan"))
    study.complete(ask(study), 0.1)
    assert study.finished()
    assert study.trials()[1].user_attrs["reason"] == "RuntimeError: no"
    assert states(study) == {"PRUNED": 1, "failed": 1, "diverged": 1, "COMPLETE": 1}
    assert study.failing(0.4) and not study.failing(0.5)


def test_a_released_trial_is_retried_once_with_its_parameters(study: SharedStudy) -> None:
    trial = ask(study)
    study.release(trial, "Ctrl-C")
    study.requeue()
    retry = ask(study)
    assert retry.params == trial.params
    assert study.trials()[retry.number].user_attrs["retry_of"] == trial.number
    assert states(study) == {"interrupted": 1, "RUNNING": 1}


def test_a_trial_without_heartbeats_is_retried(study: SharedStudy) -> None:
    dead = ask(study)
    let_heartbeats_stop(study)
    assert ask(study).params == dead.params
    assert study.trials()[0].user_attrs["outcome"] == "lost"
    assert "died" in study.trials()[0].user_attrs["reason"]


def test_a_trial_with_heartbeats_is_never_stale(study: SharedStudy) -> None:
    living = ask(study)
    for count in range(1, 5 * MISSED_HEARTBEATS):
        study.record_heartbeat(living, count, 1.0)
        study.poll_heartbeats(1.0)
    study.fail_stale_trials()
    assert states(study) == {"RUNNING": 1}


def test_a_heartbeat_in_time_resets_the_count_of_missed_ones(study: SharedStudy) -> None:
    living = ask(study)
    for count in range(1, 4):
        for _ in range(MISSED_HEARTBEATS):
            study.poll_heartbeats(1.0)
        study.record_heartbeat(living, count, 1.0)
    study.poll_heartbeats(1.0)
    study.fail_stale_trials()
    assert states(study) == {"RUNNING": 1}


def test_a_trial_with_a_longer_interval_is_waited_for_as_long(study: SharedStudy) -> None:
    living = ask(study)
    study.record_heartbeat(living, 1, 6.0)
    for _ in range(6 * MISSED_HEARTBEATS):
        study.poll_heartbeats(1.0)
    study.fail_stale_trials()
    assert states(study) == {"RUNNING": 1}
    study.poll_heartbeats(1.0)
    study.fail_stale_trials()
    assert states(study) == {"lost": 1}


def test_a_trial_of_a_worker_killed_before_it_enqueued_the_retry_is_retried(study: SharedStudy) -> None:
    trial = ask(study)
    study.fail(trial, "lost", "killed before it could be enqueued again")
    assert ask(study).params == trial.params


def test_a_trial_of_a_worker_killed_before_it_ended_the_trial_is_retried(study: SharedStudy) -> None:
    trial = ask(study)
    study.storage.set_trial_user_attr(id_of(trial), "outcome", "interrupted")
    study.requeue()
    assert states(study) == {"interrupted": 1}
    assert study.trials()[0].state == TrialState.RUNNING
    let_heartbeats_stop(study)
    assert ask(study).params == trial.params


def test_a_trial_whose_workers_die_at_the_same_point_again_and_again_fails(tmp_path: Path) -> None:
    study = open_study(tmp_path, max_deaths=3)
    for _ in range(3):
        trial = ask(study)
        trial.report(0.5, 1)
        let_heartbeats_stop(study)
    study.fail_stale_trials()
    study.requeue()
    assert states(study) == {"lost": 2, "failed": 1}
    assert "out of memory?" in study.trials()[2].user_attrs["reason"]


def test_a_trial_whose_storage_fails_at_the_same_point_again_and_again_fails(tmp_path: Path) -> None:
    study = open_study(tmp_path, max_deaths=3)
    for _ in range(3):
        study.lose(ask(study), "the storage failed")
    assert states(study) == {"lost": 2, "failed": 1}


def points(study: SharedStudy, total: int) -> list[float]:
    """Of the grid of 0 to 3, those that the next trials of a search have."""
    drawn = []
    for _ in range(total):
        trial = study.ask(lambda number: optuna.samplers.GridSampler({"x": [0, 1, 2, 3]}, seed=0), 0)
        assert trial is not None
        drawn.append(trial.suggest_float("x", 0, 3))
        study.complete(trial, 0.5)
    return drawn


@pytest.mark.parametrize("outcome", ["interrupted", "withdrawn"])
def test_a_grid_is_run_whole_whatever_happened_to_a_trial(outcome: str, study: SharedStudy) -> None:
    trial = study.ask(lambda number: optuna.samplers.GridSampler({"x": [0, 1, 2, 3]}, seed=0), 0)
    assert trial is not None
    trial.suggest_float("x", 0, 3)
    study.fail(trial, outcome, "Ctrl-C, or no images")
    assert sorted(points(study, 4)) == [0, 1, 2, 3]


def test_deaths_with_progress_in_between_do_not_add_up(tmp_path: Path) -> None:
    study = open_study(tmp_path, max_deaths=2)
    for epoch in range(1, 6):
        trial = ask(study)
        trial.report(0.5, epoch)
        let_heartbeats_stop(study)
    study.fail_stale_trials()
    assert states(study) == {"lost": 5}


def test_results_of_a_trial_that_was_taken_over_are_ignored(study: SharedStudy) -> None:
    slow = ask(study)
    let_heartbeats_stop(study)
    study.fail_stale_trials()
    study.complete(slow, 0.9)
    study.fail(slow, "failed", "late")
    assert states(study) == {"lost": 1}


def test_two_processes_that_see_a_stale_trial_retry_it_once(tmp_path: Path) -> None:
    first, second = open_study(tmp_path), open_study(tmp_path)
    dead = ask(first)
    let_heartbeats_stop(first)
    let_heartbeats_stop(second)
    retry = ask(first)
    assert ask(second).params != dead.params
    assert [t.user_attrs.get("retry_of") for t in first.trials()] == [None, 0, None]
    assert retry.params == dead.params


def test_without_a_common_lock_one_of_two_retries_is_withdrawn(study: SharedStudy) -> None:
    study.release(ask(study), "Ctrl-C")
    twin = study.trials()[1]
    study.study.add_trial(twin)
    assert study.ask(sampler, 0) is not None
    assert study.ask(sampler, 0) is None
    assert states(study) == {"interrupted": 1, "RUNNING": 1, "withdrawn": 1}


def test_without_a_common_lock_the_higher_of_two_numbers_yields(study: SharedStudy) -> None:
    for _ in range(4):
        ask(study)
    study.study.ask()
    trials = study.trials()
    assert [withdrawal(trial, trials, 4) for trial in trials] == [None] * 4 + ["withdrawn"]


def test_a_study_is_resumed_with_the_same_settings_only(tmp_path: Path) -> None:
    open_study(tmp_path)
    changed = {"fixed": {"epochs": 20}, "space": {"lr": 1}}
    with pytest.raises(StudyError, match=r"fixed\.epochs: was 10, now 20.*study_name=s-2"):
        create(URLS[0].format(tmp_path), "s", tmp_path, "maximize", changed)
    with pytest.raises(StudyError, match="direction: now minimize"):
        create(URLS[0].format(tmp_path), "s", tmp_path, "minimize", SETTINGS)


def test_settings_of_a_study_that_nothing_ran_in_are_completed(tmp_path: Path) -> None:
    optuna.create_study(storage=URLS[0].format(tmp_path), study_name="s", direction="maximize")
    assert open_study(tmp_path).study.user_attrs == SETTINGS


def test_differences_name_the_key() -> None:
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [
        "a.c: was 2, now 3",
        "d: was None, now 4",
    ]


def test_settings_that_were_renamed_since_are_the_same_once_upgraded(tmp_path: Path) -> None:
    open_study(tmp_path)
    url, renamed = URLS[0].format(tmp_path), {"fixed": {"rounds": 10}, "space": {"lr": 1}}
    with pytest.raises(StudyError, match=r"fixed\.epochs: was 10, now None; fixed\.rounds"):
        create(url, "s", tmp_path, "maximize", renamed)
    create(url, "s", tmp_path, "maximize", renamed, upgrade=lambda fixed: {"rounds": fixed["epochs"]})
    assert optuna.load_study(study_name="s", storage=url).user_attrs == SETTINGS


def pull(folder: Path, total: int) -> None:
    study = open_study(folder, total)
    while (trial := study.ask(sampler, 0)) is not None:
        study.complete(trial, trial.suggest_float("lr", 0, 1))


def test_processes_that_start_at_once_on_a_fresh_study_share_the_exact_total(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=pull, args=(tmp_path, 12)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    trials = open_study(tmp_path, 12).trials()
    assert [t.number for t in trials] == list(range(12))
    assert {t.state for t in trials} == {TrialState.COMPLETE}


def test_what_earlier_versions_lacked_is_compared_unless_it_is_searched() -> None:
    def upgrade(settings: dict[str, Any]) -> dict[str, Any]:
        return {"size": {"kind": "small", "width": 1} | settings.get("size", {}), **settings}

    now = {"epochs": 10, "size": {"width": 1}}
    assert upgraded({"epochs": 10}, now, upgrade) == now
    assert upgraded({"epochs": 10}, {"epochs": 10}, upgrade) == {"epochs": 10}
    assert upgraded({"epochs": 10, "former": 1}, now, upgrade) == {**now, "former": 1}, "it was stored"
