"""Confirmations of real sweeps: of the toy, and at the end of real runs."""

from __future__ import annotations

import re
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree
from subprocess import CompletedProcess

import optuna
import pytest
from omegaconf import OmegaConf
from sweeps import Sweep, Toy, outcomes, trials

from analysis import frames
from analysis.summary import summarize, text
from cifar import search as cifar_search
from cifar.errors import UserError
from cifar.options.command_line import read_study
from cifar.sweep.plan import SweepError

FOLDER, LOOK = "study/confirmation", "study/confirmation/test-1"
FULL = ("hydra/sweeper/pruner=none", "hydra.sweeper.n_trials=8")
SMALL = ("hydra.sweeper.top=2", "hydra.sweeper.seeds=2")
CONFIRM = ("confirm", "hydra.sweeper.study=study", "hydra.sweeper.heartbeat=0.2")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search of the toy in it, whose best trial is a lucky one."""
    folder = tmp_path_factory.mktemp("searched")
    code, output = Sweep(folder, *FULL, TOY_LUCK="5").wait()
    assert code == 0, output
    return folder


@pytest.fixture
def study(searched: Path, tmp_path: Path) -> Path:
    """A copy of that search, study/ in the current directory."""
    return copytree(searched / "study", tmp_path / "study")


@pytest.fixture
def confirm(sweep: Toy) -> Toy:
    return lambda *overrides, **toy: sweep(f"hydra/sweeper={CONFIRM[0]}", *CONFIRM[1:], *overrides, **toy)


def means(folder: Path) -> dict[int, float]:
    """Of the candidates, over their seeds."""
    values = defaultdict(list)
    for trial in trials(folder, FOLDER):
        values[trial.user_attrs["confirms"]].append(trial.values[0])
    return {number: statistics.mean(of_one) for number, of_one in values.items()}


def test_the_best_trials_run_on_fresh_seeds_and_the_chosen_one_is_tested_once(
    tmp_path: Path, study: Path, confirm: Toy
) -> None:
    output = confirm()
    reported = {t.number: t.values[0] for t in trials(tmp_path)}
    top = sorted(reported, key=lambda number: -reported[number])[:3]
    reruns = trials(tmp_path, FOLDER)
    assert {(t.user_attrs["confirms"], t.params["seed"]) for t in reruns} == {(n, s) for n in top for s in range(1, 6)}
    for trial in reruns:
        config = OmegaConf.load(tmp_path / FOLDER / str(trial.number) / ".hydra" / "config.yaml")
        origin = trials(tmp_path)[trial.user_attrs["confirms"]].params
        assert all(OmegaConf.select(config, key) == value for key, value in origin.items())
        assert (config.seed, config.epochs, config.test) == (trial.params["seed"], 4, False)
    chosen = max(top, key=means(tmp_path).__getitem__)
    assert chosen != top[0], "the toy's luck decided the search, and is to decide nothing here"
    tested = trials(tmp_path, LOOK)
    assert [t.user_attrs["confirms"] for t in tested] == [chosen] * 5
    for trial in tested:
        config = OmegaConf.load(tmp_path / LOOK / str(trial.number) / ".hydra" / "config.yaml")
        resumed = OmegaConf.load(Path(config.resume) / ".hydra" / "config.yaml")
        assert config.test and config.seed == resumed.seed == trial.params["seed"]
        assert resumed.optimizer == config.optimizer
    assert {t.params["seed"] for t in tested} == set(range(1, 6))
    saved = OmegaConf.load(study / "confirmed.yaml")
    assert (saved.trial, saved.value) == (chosen, reported[chosen])
    assert saved.mean == pytest.approx(means(tmp_path)[chosen])
    assert f"best on fresh seeds: trial {chosen}" in output and "test accuracy" in output and "evaluated once" in output
    assert [override.input_line for override in read_study(study)] == list(saved.overrides)


def test_the_frames_hold_what_was_confirmed(tmp_path: Path, study: Path, confirm: Toy) -> None:
    confirm(*SMALL)
    tables = frames.read(study)
    assert len(tables.trials) == len(tables.runs) == 8, "the confirmation's runs are not the search's"
    values = {t.number: t.values[0] for t in trials(tmp_path)}
    assert [values[number] for number in tables.fresh.number] == tables.fresh.reported.tolist()
    assert tables.fresh.groupby("number").score.mean().to_dict() == pytest.approx(means(tmp_path))
    assert tables.tests.accuracy.tolist() == [t.values[0] / 2 for t in trials(tmp_path, LOOK)]
    assert tables.tests["look"].tolist() == [1, 1] and tables.tests.images.tolist() == [1000, 1000]


def test_the_same_confirmation_again_does_nothing_more(tmp_path: Path, study: Path, confirm: Toy) -> None:
    confirm(*SMALL)
    output = confirm(*SMALL)
    assert output.count("nothing is left") == 2 and "evaluated once" in output
    assert (len(trials(tmp_path, FOLDER)), len(trials(tmp_path, LOOK))) == (4, 2)


def test_another_look_at_the_test_set_is_refused_unless_forced_and_told_ever_after(
    tmp_path: Path, study: Path, confirm: Toy
) -> None:
    confirm(*SMALL)
    more = ("hydra.sweeper.top=2", "hydra.sweeper.seeds=3")
    with pytest.raises(SweepError, match=r"looked at before .*test-1.*hydra\.sweeper\.force=true"):
        confirm(*more)
    assert len(trials(tmp_path, FOLDER)) == 6, "the seeds were run"
    assert not (tmp_path / FOLDER / "test-2").exists()
    assert "evaluated once" in confirm(*more, "hydra.sweeper.test=false")
    assert "evaluated 2 times, so no longer unseen" in confirm(*more, "hydra.sweeper.force=true")
    assert len(trials(tmp_path, f"{FOLDER}/test-2")) == 3
    assert "evaluated 2 times" in confirm(*more)


def test_a_look_that_was_killed_right_after_its_marker_is_the_first_one_still(
    tmp_path: Path, study: Path, confirm: Toy
) -> None:
    confirm(*SMALL, "hydra.sweeper.test=false")
    (tmp_path / LOOK).mkdir()
    assert "evaluated once" in confirm(*SMALL)
    assert len(trials(tmp_path, LOOK)) == 2


def test_a_confirmation_that_is_killed_or_asked_to_stop_resumes(tmp_path: Path, study: Path, confirm: Toy) -> None:
    assert Sweep(tmp_path, *SMALL, sweeper=CONFIRM, TOY_FAULT="kill").wait()[0] == -signal.SIGKILL
    running = Sweep(tmp_path, *SMALL, "hydra.sweeper.n_jobs=2", sweeper=CONFIRM, TOY_SECONDS="0.2")
    while running.process.poll() is None and not (tmp_path / FOLDER / "2" / "metrics.csv").exists():
        time.sleep(0.05)
    running.process.send_signal(signal.SIGTERM)
    code, output = running.wait()
    assert code != 0 and "the same command resumes the search" in output
    code, output = Sweep(tmp_path, *SMALL, sweeper=CONFIRM).wait()
    assert code == 0, output
    complete = [t for t in trials(tmp_path, FOLDER) if t.state.name == "COMPLETE"]
    pairs = [(t.user_attrs["confirms"], t.params["seed"]) for t in complete]
    assert len(pairs) == len(set(pairs)) == 4, "a retry stands for the trial that it tries again"
    assert len(trials(tmp_path, LOOK)) == 2 and "evaluated once" in output


def test_a_candidate_that_fails_on_a_fresh_seed_is_not_chosen(tmp_path: Path, study: Path, confirm: Toy) -> None:
    settings = {t.number: t.params["optimizer.lr"] for t in trials(tmp_path)}
    assert min(settings.values()) < 0.1 < max(settings.values()), "the toy fails above 0.1"
    anything = ("hydra.sweeper.top=8", "hydra.sweeper.seeds=1", "hydra.sweeper.max_failure_rate=1")
    confirm(*anything, fault="raise_high")
    sound = {t.user_attrs["confirms"]: t.values[0] for t in trials(tmp_path, FOLDER) if t.state.name == "COMPLETE"}
    chosen = OmegaConf.load(study / "confirmed.yaml").trial
    assert chosen == max(sound, key=sound.__getitem__) and settings[chosen] < 0.1


def test_where_all_candidates_fail_none_is_confirmed(tmp_path: Path, study: Path, confirm: Toy) -> None:
    for _ in range(3):
        with pytest.raises(SweepError, match=r"\d of \d trials failed"):
            confirm("hydra.sweeper.seeds=1", fault="raise")
    assert not (study / "confirmed.yaml").exists()
    confirm("hydra.sweeper.seeds=1")
    assert (study / "confirmed.yaml").exists(), "the same command tries them again"


def test_a_confirmation_whose_images_were_not_there_is_begun_again(tmp_path: Path, study: Path, confirm: Toy) -> None:
    with pytest.raises(UserError, match="the images are not there"):
        confirm("hydra.sweeper.seeds=1", fault="refuse")
    confirm("hydra.sweeper.seeds=1")
    assert (study / "confirmed.yaml").exists()
    assert sorted(outcomes(tmp_path, FOLDER)) == ["COMPLETE"] * 3 + ["withdrawn"]


def test_each_candidate_of_a_conditional_space_runs_with_its_own_settings(
    tmp_path: Path, search: Toy, confirm: Toy
) -> None:
    search("optimizer=choice(sgd,adam)", "search=architecture", "hydra.sweeper.n_trials=6", "hydra/sweeper/pruner=none")
    confirm("hydra.sweeper.top=6", "hydra.sweeper.seeds=1")
    assert {t.params["optimizer"] for t in trials(tmp_path, FOLDER)} == {"sgd", "adam"}
    for trial in trials(tmp_path, FOLDER):
        config = OmegaConf.load(tmp_path / FOLDER / str(trial.number) / ".hydra" / "config.yaml")
        assert config.optimizer._target_.lower().endswith(trial.params["optimizer"])
        assert config.optimizer.lr == trial.params["optimizer.lr"]


def test_a_search_that_a_server_keeps_is_confirmed_there(
    tmp_path: Path, search: Toy, confirm: Toy, postgresql: Callable[[], str]
) -> None:
    url = postgresql()
    search("hydra.sweeper.n_trials=3", "hydra/sweeper/pruner=none", f"hydra.sweeper.storage={url}")
    output = confirm(*SMALL)
    names = set(optuna.get_all_study_names(url))
    assert len(names) == 3 and {name.partition("-confirmation")[2] for name in names} == {"", "-test-1"}
    assert "on 2 fresh seeds" in output and "evaluated once" in output
    tables = frames.read(tmp_path / "study")
    assert (len(tables.trials), len(tables.fresh), len(tables.tests)) == (3, 4, 2)


def test_confirmations_that_start_at_once_share_the_work_and_the_look(tmp_path: Path, study: Path) -> None:
    both = [Sweep(tmp_path, *SMALL, sweeper=CONFIRM, TOY_SECONDS="0.1") for _ in range(2)]
    for code, output in [confirmation.wait() for confirmation in both]:
        assert code == 0 and "evaluated once" in output
    assert (len(trials(tmp_path, FOLDER)), len(trials(tmp_path, LOOK))) == (4, 2)


def test_as_long_as_none_is_confirmed_the_searchs_best_stands(tmp_path: Path, study: Path, confirm: Toy) -> None:
    reported = max(trials(tmp_path), key=lambda t: t.values[0]).number
    confirm(*SMALL, "hydra.sweeper.test=false")
    (study / "confirmed.yaml").unlink()  # as before the last of its runs has ended
    output = text(summarize(frames.read(study)))
    assert (
        f"best: trial {reported}" in output and "confirmation has begun: 4 runs" in output and "confirm it:" in output
    )


def test_runs_of_a_look_that_were_deleted_leave_what_the_seeds_say(tmp_path: Path, study: Path, confirm: Toy) -> None:
    confirm(*SMALL)
    for number in "01":
        rmtree(tmp_path / LOOK / number)
    output = text(summarize(frames.read(study)))
    assert "on 2 fresh seeds" in output and "test accuracy" not in output and "the test set was evaluated (1)" in output


@pytest.mark.parametrize(
    "override, message",
    [
        ("hydra.sweeper.study=nowhere", "nowhere: no such folder; allowed:"),
        ("hydra.sweeper.study=runs", "runs: not the folder of a search of this program; allowed:"),
        ("hydra.sweeper.study=plain", "plain: not the folder of a search of this program; allowed:"),
        ("epochs=9", "not the settings of the search: epochs: was 4, now 9"),
        ("optimizer.lr=choice(0.1,0.2)", "optimizer.lr: nothing is searched in a confirmation"),
        ("hydra.sweep.dir=study", "hydra.sweep.dir: not of a confirmation"),
        ("hydra.sweeper.top=0", "hydra.sweeper.top=0: not allowed; allowed: from 1"),
        ("test=true", "test=True"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    tmp_path: Path, study: Path, confirm: Toy, override: str, message: str
) -> None:
    for name in ("runs", "plain"):
        (tmp_path / name).mkdir()
    optuna.create_study(study_name="p", storage=f"sqlite:///{tmp_path}/plain/study.db")
    with pytest.raises(UserError, match=re.escape(message)):
        confirm(override)
    assert not (tmp_path / FOLDER).exists()


def test_trials_chosen_by_test_images_are_not_tested_on_them(tmp_path: Path, search: Toy, confirm: Toy) -> None:
    cifar_search.warn.cache_clear()
    output = search("data=digits", "data.val_from=test_part", "hydra.sweeper.n_trials=2", "hydra/sweeper/pruner=none")
    assert output.count("warning: data.val_from=test_part: trials are chosen by the test images") == 1
    message = r"cannot be evaluated: test=true data\.val_from=test_part: .*allowed: hydra\.sweeper\.test=false"
    with pytest.raises(SweepError, match=message):
        confirm(*SMALL)
    assert not (tmp_path / FOLDER).exists()
    assert "evaluated" not in confirm(*SMALL, "hydra.sweeper.test=false")


def test_that_there_is_no_test_part_is_found_before_the_first_run(
    tmp_path: Path, make_folder: Callable[..., Path], search: Toy, confirm: Toy
) -> None:
    root = make_folder()
    search("data=image_folder", f"data.root={root}", "hydra.sweeper.n_trials=2", "hydra/sweeper/pruner=none")
    with pytest.raises(SweepError, match=r"images has no test part; allowed: hydra\.sweeper\.test=false"):
        confirm(*SMALL)
    assert not (tmp_path / FOLDER).exists()
    assert "evaluated" not in confirm(*SMALL, "hydra.sweeper.test=false")
    (root / "test").mkdir()
    assert "evaluated once" in confirm(*SMALL)


def test_a_search_without_a_complete_trial_has_nothing_to_confirm(tmp_path: Path, search: Toy, confirm: Toy) -> None:
    with pytest.raises(SweepError):
        search("hydra.sweeper.n_trials=2", fault="raise")
    with pytest.raises(SweepError, match="none of its trials is complete"):
        confirm()


def test_no_trial_touches_a_test_image_and_the_split_never_moves(
    tmp_path: Path,
    make_folder: Callable[..., Path],
    tiny: list[str],
    run_py: Callable[..., CompletedProcess[str]],
) -> None:
    root = make_folder(parts=("train", "test"), each=40)
    images = {path: path.read_bytes() for path in (root / "test").rglob("*.png")}
    for path in images:
        path.write_bytes(b"whoever decodes this fails")
    data = ("data=image_folder", f"data.root={root}", "data.limit=null")
    search = ("-m", "hydra/sweeper=optuna", *tiny, *data, "hydra.sweep.dir=study", "hydra.sweeper.n_trials=3")
    done = run_py(*search, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = ("-m", "hydra/sweeper=confirm", "hydra.sweeper.study=study", *SMALL)
    refused = run_py(*command, cwd=tmp_path)
    assert refused.returncode == 1 and "not an image that can be decoded" in refused.stderr
    tables = frames.read(tmp_path / "study")
    assert (tmp_path / LOOK).exists() and tables.looks == 0, "it failed before it evaluated anything"
    assert "evaluated" not in text(summarize(tables))
    confirmation = frames.read(tmp_path / FOLDER)
    assert (len(tables.runs), len(confirmation.runs)) == (3, 4)
    assert {*tables.runs.val_fingerprint, *confirmation.runs.val_fingerprint} == {tables.runs.val_fingerprint[0]}
    for path, content in images.items():
        path.write_bytes(content)
    mended = run_py(*command, cwd=tmp_path)
    assert mended.returncode == 0, mended.stderr
    assert frames.read(tmp_path / "study").tests.images.tolist() == [80, 80]
    assert "evaluated once" in mended.stdout
