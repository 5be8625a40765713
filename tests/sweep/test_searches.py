"""Searches as users write them: spaces, settings, folders and studies that were tried on other tools."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from sweeps import Sweep, Toy, outcomes, trials

from analysis import frames
from cifar.errors import UserError
from cifar.sweep.storage import StudyError, read_trials

LOG = FloatDistribution(0.001, 0.3, log=True)
NAMED = ("hydra.sweeper.study_name=s", "hydra.sweeper.n_trials=3", "hydra/sweeper/pruner=none")


def config_of(folder: Path, trial: int) -> Any:
    return OmegaConf.load(folder / "study" / str(trial) / ".hydra" / "config.yaml")


def best_of(folder: Path) -> dict[str, Any]:
    best: dict[str, Any] = yaml.safe_load((folder / "study" / "best.yaml").read_text())
    return best


def study_in(folder: Path, direction: str = "maximize") -> optuna.Study:
    """A study named s, as a user's own script makes it where the search will be."""
    (folder / "study").mkdir(exist_ok=True)
    return optuna.create_study(study_name="s", storage=f"sqlite:///{folder}/study/study.db", direction=direction)


def refused(folder: Path, search: Toy, *overrides: str) -> str:
    """The one error of a search that must not begin."""
    with pytest.raises(Exception) as raised:
        search(*overrides)
    assert isinstance(raised.value, UserError) or type(raised.value).__module__.startswith("hydra"), raised.value
    assert not (folder / "study").exists()
    return str(raised.value)


def test_texts_reach_the_trial_and_the_best_as_they_were_written(tmp_path: Path, search: Toy) -> None:
    texts = ["a b", "c (1)", "ü, x=1", "null", "true", "1e-3"]
    listed = ",".join(f"'{text}'" for text in texts)
    search("hydra/sweeper/sampler=grid", f"cache.dir=choice({listed})", "optimizer=sgd", "optimizer.lr=0.1",
           "optimizer.momentum=0.5", "optimizer.weight_decay=0", "hydra/sweeper/pruner=none")  # fmt: skip
    drawn = {trial.number: trial.params["cache.dir"] for trial in trials(tmp_path)}
    assert sorted(drawn.values()) == sorted(texts)
    assert all(config_of(tmp_path, number).cache.dir == text for number, text in drawn.items())
    best = best_of(tmp_path)
    assert best["params"] == {"cache.dir": drawn[best["trial"]]}


@pytest.mark.parametrize("group", ["optimizer='adam','sgd'", "optimizer=glob([ad*,s*],exclude=*w)"])
def test_groups_are_searched_by_quoted_names_and_by_globs(tmp_path: Path, search: Toy, group: str) -> None:
    search(group, "hydra.sweeper.n_trials=4", "hydra/sweeper/sampler=random")
    assert {trial.params["optimizer"] for trial in trials(tmp_path)} <= {"adam", "sgd", "adagrad"}


def test_a_key_that_must_be_given_can_be_searched(tmp_path: Path, search: Toy) -> None:
    search("model=torchvision", "model.name=choice(resnet18,mobilenet_v3_small)", "hydra.sweeper.n_trials=3")
    for trial in trials(tmp_path):
        assert config_of(tmp_path, trial.number).model.name == trial.params["model.name"]


@pytest.mark.parametrize(
    "space",
    [["loss.l2=interval(0,0.1)"], ["loss.label_smoothing=interval(0,0.1)"], ["ema.decay=choice(0.5,0.9)"]],
    ids=lambda space: space[0].partition("=")[0],
)
def test_a_search_over_all_of_a_group_goes_on(tmp_path: Path, search: Toy, space: list[str]) -> None:
    """What is left of the group is nothing, or what means nothing new."""
    for total in (1, 2):
        search(*NAMED, *space, f"hydra.sweeper.n_trials={total}")
    assert len(trials(tmp_path)) == 2


LR = "optimizer.lr=interval(0.01,0.1)"


@pytest.mark.parametrize("override", ["++optimizer.lr=0.3", "optimizer[lr]=0.3", "++optimizer={lr:0.3}"])
@pytest.mark.parametrize("range_is_last", [False, True])
def test_of_a_key_given_twice_the_last_is_searched_or_trained(
    tmp_path: Path, search: Toy, override: str, range_is_last: bool
) -> None:
    search(*([override, LR] if range_is_last else [LR, override]), "hydra.sweeper.n_trials=1")
    (trial,) = trials(tmp_path)
    assert config_of(tmp_path, 0).optimizer.lr == trial.params.get("optimizer.lr", 0.3)
    assert ("optimizer.lr" in trial.params) == range_is_last


def test_the_command_line_wins_over_a_search_file_however_the_key_is_spelled(tmp_path: Path, search: Toy) -> None:
    search("search=architecture", "++model.width=8", "optimizer=sgd", "optimizer=adam", "hydra.sweeper.n_trials=2")
    for trial in trials(tmp_path):
        config = config_of(tmp_path, trial.number)
        assert "model.width" not in trial.params and config.model.width == 8
        assert config.optimizer._target_ == "torch.optim.Adam" and "optimizer.momentum" not in trial.params


@pytest.mark.parametrize("entry, expected", [("null", None), ("[cat]", ["cat"]), ("'${batch_size}'", 32), ("4", 4)])
def test_a_search_file_holds_fixed_values_of_any_kind(tmp_path: Path, search: Toy, entry: str, expected: Any) -> None:
    (tmp_path / "search").mkdir()
    key = "+data.classes" if isinstance(expected, list) else "data.limit"
    header = "# @package hydra.sweeper.params\n"
    (tmp_path / "search" / "mine.yaml").write_text(f"{header}{key}: {entry}\nmodel.width: choice(4, ${{batch_size}})\n")
    override = ("hydra.searchpath=[file://.]", "search=mine", "data=digits", "hydra.sweeper.n_trials=2")
    if isinstance(expected, list):
        assert "data.classes" in refused(tmp_path, search, *override)
    else:
        search(*override)
        assert config_of(tmp_path, 0).data.limit == expected


def test_a_search_file_with_nested_keys_is_refused_with_what_it_may_hold(tmp_path: Path, search: Toy) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.yaml").write_text("# @package hydra.sweeper.params\noptimizer: {lr: choice(1, 2)}\n")
    message = refused(tmp_path, search, "hydra.searchpath=[file://.]", "search=mine")
    assert "optimizer: holds further keys" in message and "allowed: full keys, as optimizer.lr" in message


@pytest.mark.parametrize(
    "overrides, message",
    [
        ("+hydra.sweeper.timeout=1", "hydra.sweeper.timeout: no such setting; allowed: custom_search_space, direction"),
        ("++hydra.sweeper.n_trial=1", "hydra.sweeper.n_trial: no such setting; allowed:"),
        ("+hydra.sweeper.sampler.foo=1", "hydra.sweeper.sampler.foo: no such setting; allowed: consider_endpoints,"),
        ("hydra/sweeper/sampler=nsgaii +hydra.sweeper.sampler.foo=1", "sampler.foo: no such setting; allowed: after_"),
        ("hydra/sweeper/sampler=random +hydra.sweeper.sampler.multivariate=true", "multivariate: no such setting"),
        ("+hydra.sweeper.pruner.foo=1", "hydra.sweeper.pruner.foo: no such setting; allowed: interval_steps"),
        (
            "hydra/sweeper/pruner=patient +hydra.sweeper.pruner.wrapped_pruner.foo=1",
            "hydra.sweeper.pruner.wrapped_pruner.foo: no such setting; allowed: interval_steps",
        ),
        ("hydra.sweeper.pruner.percentile=200", "hydra.sweeper.pruner: Percentile must be between 0 and 100"),
        ("hydra.sweeper.sampler._target_=os.system", "hydra.sweeper.sampler: Target 'os.system' cannot be authorized"),
        ("hydra.sweeper.sampler._target_=my.Sampler", "my.Sampler is not called, as nobody has said that its module"),
        ("hydra.sweeper.custom_search_space=my.space", "custom_search_space=my.space: my.space is not called"),
        ("hydra.sweep.subdir=same", "hydra.sweep.subdir=same: several trials would share this folder; allowed: a"),
        ("hydra.sweep.subdir=${hydra.job.override_dirname}", "several trials would share this folder"),
        ("hydra.sweep.subdir=${now:%Y}", "several trials would share this folder"),
        ("hydra.sweep.subdir=../${hydra.job.num}", "not a folder for trials"),
        ("hydra.sweep.subdir=confirmation/${hydra.job.num}", "not a folder for trials"),
        ("hydra.sweep.subdir=${nothing}", "Interpolation key 'nothing' not found; allowed: a folder"),
        ("hydra.sweep.dir=study/${hydra.job.num}", "allowed: one folder for all trials"),
        ("search=sgd,adam", "search: cannot be searched"),
        ("test=true,false", "test: cannot be searched"),
        ("optimizer.nesterov=choice(1,true)", "optimizer.nesterov=choice(1,true): cannot be searched"),
        ("model.width=glob(*)", "model.width=glob(*): cannot be searched (not a config group"),
        ("~optimizer.lr", "optimizer.lr"),
        (f"{LR} +optimizer.lr=0.3", "optimizer.lr"),
        ("hydra.sweeper.direction=[maximize,minimize]", "allowed: maximize, minimize"),
        ("hydra.sweeper.direction=minimize", "objective=accuracy is to maximize; allowed: leave the direction out"),
        ("hydra.sweeper.direction=up", "hydra.sweeper.direction=up: not supported"),
    ],
)
def test_what_cannot_work_is_refused_before_a_study_is_made(
    tmp_path: Path, search: Toy, overrides: str, message: str
) -> None:
    assert message in refused(tmp_path, search, *overrides.split())


@pytest.mark.parametrize("direction", ["[minimize]", "MINIMIZE", "Minimize", "[MINIMIZE]"])
def test_a_direction_is_taken_as_the_stock_plugin_writes_it(tmp_path: Path, search: Toy, direction: str) -> None:
    search(*NAMED, "objective=loss", "hydra.sweeper.n_trials=1", f"hydra.sweeper.direction={direction}")
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study/study.db")
    assert study.direction == StudyDirection.MINIMIZE


@pytest.mark.parametrize("key", ["seed", "++seed", "data.val_seed", "data.fold"])
def test_a_search_over_chance_is_warned_of(tmp_path: Path, search: Toy, key: str) -> None:
    folds = ("data.folds=5",) if key == "data.fold" else ()
    output = search("hydra.sweeper.n_trials=1", f"{key}=range(0,5)", *folds)
    assert f"warning: {key.lstrip('+')} is searched, so chance is optimised" in output


def test_another_search_is_not_warned_of(tmp_path: Path, search: Toy) -> None:
    assert "warning" not in search("hydra.sweeper.n_trials=1")


def test_a_sampler_without_its_package_is_refused(tmp_path: Path, search: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    message = refused(tmp_path, search, "hydra/sweeper/sampler=cmaes")
    assert "CmaEsSampler: cmaes is not installed; do: pip install -e '.[cmaes]'" in message


def test_cmaes_searches(tmp_path: Path, search: Toy) -> None:
    pytest.importorskip("cmaes")
    search("hydra/sweeper/sampler=cmaes", "hydra.sweeper.n_trials=4")
    assert len(trials(tmp_path)) == 4


def test_a_setting_may_refer_to_another(tmp_path: Path, search: Toy) -> None:
    drawn = []
    for folder, seed in (("study", "${seed}"), ("three", "3"), ("four", "4")):
        settings = (f"hydra.sweeper.sampler.seed={seed}", "seed=3", f"hydra.sweep.dir={folder}")
        search("hydra/sweeper/sampler=random", *settings, "hydra.sweeper.n_trials=1")
        drawn.append([trial.params for trial in trials(tmp_path, folder)])
    assert drawn[0] == drawn[1] != drawn[2]


SPACE = """
def extend(config, trial):
    if trial.params["optimizer.lr"] > 0:
        trial.suggest_categorical("cache.dir", ["a b", "null"])
    trial.suggest_float("loss.l2", 0, config.hydra.sweeper.n_trials)

def clash(config, trial):
    trial.suggest_int("epochs", 1, 2)

def broken(config, trial):
    raise KeyError("width")

def gamma(number):
    return 1

def weights(number):
    import numpy
    return numpy.ones(number)
"""
GAMMA = "+hydra.sweeper.sampler.gamma={_target_:my_space.gamma,_partial_:true}"
WEIGHTS = "+hydra.sweeper.sampler.weights={_target_:hydra.utils.get_method,path:my_space.weights}"


def trusting(folder: Path, *overrides: str, modules: str = "my_space") -> tuple[int, str]:
    """The exit code and the output of a search by someone who trusts these modules."""
    (folder / "my_space.py").write_text(SPACE)
    return Sweep(folder, *overrides, CIFAR_TRUST=modules, CIFAR_TRUST_DIRECTORY=str(folder)).wait()


@pytest.mark.parametrize("jobs", [1, 2])
def test_functions_of_trusted_modules_are_called_in_every_worker(tmp_path: Path, jobs: int) -> None:
    custom = "hydra.sweeper.custom_search_space=my_space.extend"
    settings = ("hydra.sweeper.sampler.n_startup_trials=1", "hydra/sweeper/pruner=none", GAMMA, WEIGHTS, custom)
    code, output = trusting(tmp_path, *settings, f"hydra.sweeper.n_jobs={jobs}", "hydra.sweeper.n_trials=4")
    assert code == 0 and outcomes(tmp_path) == ["COMPLETE"] * 4, output
    for trial in trials(tmp_path):
        config = config_of(tmp_path, trial.number)
        assert config.cache.dir == trial.params["cache.dir"] in ("a b", "null")
        assert config.loss.l2 == trial.params["loss.l2"]
    quoted = f"cache.dir={best_of(tmp_path)['params']['cache.dir']}".replace("=null", "='null'")
    assert quoted in best_of(tmp_path)["overrides"]


@pytest.mark.parametrize(
    "overrides, modules, message",
    [
        ([GAMMA], "other", "hydra.sweeper.sampler.gamma: my_space.gamma is not called, as nobody has said that its"),
        ([WEIGHTS], "other", "my_space.weights is not called"),
        (["hydra.sweeper.custom_search_space=my_space.nothing"], "my_space", "my_space.nothing"),
        (["hydra.sweeper.custom_search_space=my_space.broken"], "my_space", "raised KeyError: 'width'"),
        (["hydra.sweeper.custom_search_space=my_space.clash"], "my_space", "epochs: given twice"),
    ],
)
def test_a_function_that_cannot_be_called_costs_no_trial(
    tmp_path: Path, overrides: list[str], modules: str, message: str
) -> None:
    code, output = trusting(tmp_path, *overrides, modules=modules)
    assert code == 1 and message in output
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("subdir", ["run_${hydra.job.num}", "runs/${hydra:job.num}-${optimizer.lr}"])
def test_the_folders_of_trials_are_where_the_user_wants_them(tmp_path: Path, search: Toy, subdir: str) -> None:
    output = search(*NAMED, f"hydra.sweep.subdir={subdir}")
    assert "run.py from_study=study\n" in output
    for trial in trials(tmp_path):
        wanted = subdir.replace("${hydra.job.num}", str(trial.number)).replace("${hydra:job.num}", str(trial.number))
        wanted = wanted.replace("${optimizer.lr}", str(trial.params["optimizer.lr"]))
        assert trial.user_attrs["folder"] == wanted
        assert (tmp_path / "study" / wanted / "result.json").exists()
    assert not (tmp_path / "study" / "0").exists()
    read = frames.read(str(tmp_path / "study"))
    assert len(read.runs) == 3 and set(read.trials.run) == set(read.runs.run)
    best = best_of(tmp_path)
    assert best["folder"] == str(tmp_path / "study" / trials(tmp_path)[best["trial"]].user_attrs["folder"])


def test_a_trial_resumes_and_is_confirmed_from_the_folder_that_the_user_wants(tmp_path: Path, sweep: Toy) -> None:
    subdir = "hydra.sweep.subdir=run_${hydra.job.num}"
    one = ("hydra/sweeper=optuna", "epochs=4", "hydra.sweep.dir=study", "hydra.sweeper.n_trials=1", subdir)
    code, output = Sweep(
        tmp_path, "hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=2", subdir, TOY_FAULT="kill"
    ).wait()
    assert code == 0, output
    assert outcomes(tmp_path) == ["lost", "COMPLETE"]
    assert '"resumed_after": 1' in (tmp_path / "study" / "run_1" / "result.json").read_text()
    assert "nothing is left" in sweep(*one)
    sweep("hydra/sweeper=confirm", "hydra.sweeper.study=study", "hydra.sweeper.seeds=2", "epochs=4", subdir)
    for look in ("run_0", "run_1", "test-1/run_0", "test-1/run_1"):
        assert (tmp_path / "study" / "confirmation" / look / "result.json").exists()


def test_the_folder_of_a_study_is_the_same_for_all_of_its_workers(tmp_path: Path, search: Toy) -> None:
    search(*NAMED, "hydra.sweep.dir=${now:%f}", "hydra.sweeper.n_jobs=2")
    (folder,) = {path.parent for path in tmp_path.glob("*/best.yaml")}
    assert all((folder / str(number) / "result.json").exists() for number in range(3))
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_a_launcher_may_refer_to_the_folder_of_the_study(tmp_path: Path) -> None:
    launcher = ("hydra/launcher=joblib", "hydra.launcher.temp_folder=${hydra.sweep.dir}/shared")
    code, output = Sweep(tmp_path, *NAMED, *launcher).wait()
    assert code == 0, output
    settings = (tmp_path / "study" / "0" / ".hydra" / "hydra.yaml").read_text()
    assert "temp_folder: ${hydra.sweep.dir}/shared" in settings


def test_failed_trials_run_once_more_on_demand_and_count_once(tmp_path: Path, search: Toy) -> None:
    random = ("hydra/sweeper/sampler=random", *NAMED, "hydra.sweeper.n_trials=6", "hydra.sweeper.max_failure_rate=1")
    search(*random, fault="raise_high")
    failed = {t.number: t.params for t in trials(tmp_path) if t.state == TrialState.FAIL}
    assert failed and "nothing is left" in search(*random)
    output = search(*random, "hydra.sweeper.retry_failed=true")
    assert f"failed trials that run once more: {len(failed)}" in output
    replacements = {t.user_attrs["replaces"]: t for t in trials(tmp_path) if "replaces" in t.user_attrs}
    assert {number: t.params for number, t in replacements.items()} == failed
    assert {t.state for t in replacements.values()} == {TrialState.COMPLETE}
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study/study.db")
    states = [t.user_attrs.get("outcome", t.state.name) for t in read_trials(study)]
    assert states.count("COMPLETE") == 6 and states.count("replaced") == len(failed) == len(states) - 6
    assert f"6 complete, {len(failed)} replaced" in output, output
    assert "nothing is left" in search(*random, "hydra.sweeper.retry_failed=true")


def test_a_search_that_stopped_as_too_many_failed_continues_once_they_may_run_again(
    tmp_path: Path, search: Toy
) -> None:
    with pytest.raises(UserError, match="4 of 6 trials failed"):
        search(*NAMED, "hydra.sweeper.n_trials=6", fault="raise")
    search(*NAMED, "hydra.sweeper.n_trials=6", "hydra.sweeper.retry_failed=true")
    assert outcomes(tmp_path) == ["failed"] * 4 + ["COMPLETE"] * 6


def test_a_study_into_which_trials_were_enqueued_before_its_first_start_runs_them_first(
    tmp_path: Path, search: Toy
) -> None:
    study = study_in(tmp_path)
    study.enqueue_trial({"optimizer.lr": 0.05})
    study.add_trial(
        create_trial(state=TrialState.WAITING, params={"optimizer.lr": 0.02}, distributions={"optimizer.lr": LOG})
    )
    output = search(*NAMED)
    assert "study s holds trials that no search of this program ran (2 waiting): it takes the settings" in output
    assert outcomes(tmp_path) == ["COMPLETE"] * 3
    assert [config_of(tmp_path, number).optimizer.lr for number in (0, 1)] == [0.05, 0.02]
    assert "no search of this program" not in search(*NAMED)
    with pytest.raises(StudyError, match=r"fixed\.epochs: was 4, now 5"):
        search(*NAMED, "epochs=5")


def test_trials_copied_from_another_study_are_kept_and_not_taken_for_runs_of_this_one(
    tmp_path: Path, search: Toy
) -> None:
    with pytest.raises(UserError):
        search(*NAMED, "hydra.sweeper.n_trials=4", fault="raise")
    search(*NAMED, "hydra.sweeper.n_trials=4", "hydra.sweeper.retry_failed=true")
    old = trials(tmp_path)
    assert [t.state.name for t in old] == ["FAIL"] * 3 + ["COMPLETE"] * 4
    (tmp_path / "study").rename(tmp_path / "old")
    study = study_in(tmp_path)
    study.add_trials(old)
    output = search(*NAMED, "hydra.sweeper.n_trials=6")
    assert "(3 fail, 4 complete)" in output and "4 of 6 trials are done, resuming" in output
    assert [t.state.name for t in trials(tmp_path)] == ["FAIL"] * 3 + ["COMPLETE"] * 6
    assert sorted(path.parent.name for path in (tmp_path / "study").glob("*/metrics.csv")) == ["7", "8"]
    assert all(t.user_attrs in ({}, {"outcome": "withdrawn"}) for t in read_trials(study)[:7])


@pytest.mark.parametrize(
    "params, message",
    [
        ({"optimizer.lrr": 0.1}, "has optimizer.lrr=0.1, which is not searched; allowed: cache.dir, optimizer.lr,"),
        ({"cache.dir": "c"}, "has cache.dir=c; allowed: a, b"),
    ],
)
def test_an_enqueued_trial_that_cannot_run_is_refused(
    tmp_path: Path, search: Toy, params: dict[str, Any], message: str
) -> None:
    study_in(tmp_path).enqueue_trial(params)
    with pytest.raises(StudyError, match=f"study s: trial 0, which waits to be run, {re.escape(message)}"):
        search(*NAMED, "cache.dir=choice(a,b)")


def test_a_study_with_other_kinds_of_keys_or_directions_is_refused_and_not_changed(tmp_path: Path, search: Toy) -> None:
    study = study_in(tmp_path)
    linear = {"optimizer.lr": FloatDistribution(0.001, 0.3)}
    study.add_trial(create_trial(value=0.5, params={"optimizer.lr": 0.1}, distributions=linear))
    with pytest.raises(StudyError, match=r"study s: its trial 0 has optimizer\.lr from .* one kind"):
        search(*NAMED)
    with pytest.raises(StudyError, match="direction: now minimize"):
        search(*NAMED, LR, "objective=loss")
    assert study.user_attrs == {}
    search(*NAMED, LR)
    assert len(trials(tmp_path)) == 3


def test_a_study_of_an_earlier_version_that_holds_quoted_texts_resumes(tmp_path: Path, search: Toy) -> None:
    quoted = ("cache.dir='a b','null',plain", *NAMED)
    search(*quoted, "hydra.sweeper.n_trials=1")
    (tmp_path / "study" / "study.db").rename(tmp_path / "new.db")
    new = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/new.db")
    old = study_in(tmp_path)
    space = dict(new.user_attrs["space"])
    del space["literals"]
    choices = CategoricalDistribution(["'a b'", "'null'", "plain"])
    space["distributions"]["cache.dir"] = distribution_to_json(choices)
    for key, value in {**new.user_attrs, "space": space}.items():
        old.set_user_attr(key, value)
    (first,) = new.trials
    first.distributions = {**first.distributions, "cache.dir": choices}
    first.params = {**first.params, "cache.dir": "'a b'"}
    old.add_trial(first)
    search(*quoted, "hydra.sweeper.n_trials=8", "hydra/sweeper/sampler=random")
    for trial in trials(tmp_path)[1:]:
        assert config_of(tmp_path, trial.number).cache.dir == trial.params["cache.dir"].strip("'")
