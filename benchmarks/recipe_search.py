"""The search for the values of experiment=photographs: this program's own, on real sets as folders of classes.

python -m benchmarks recipe_search --set cifar10=DIR --images 10000 --time 5m --trials 60 --jobs 2 --out OUT --keep

The same command continues a search that was stopped. Of the best trial, the weights that it kept are tested, once.
With --further, all trials are measured on images that are in no part, which says more than a few hundred validation
images. Beside them is the recipe as it is, on all cores for the time of one trial: what the search adds.
benchmarks/results/recipe-search-SET-IMAGES-TIME.json keeps the settings and the value of every trial (with --keep).
"""

from __future__ import annotations

import argparse
import shlex
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import yaml

from benchmarks.folders import add_sets, further, sets, words_of, written
from benchmarks.typed import BACKBONE, RUN, Kept, finish, predicted, typed
from cifar.formatting import format_value
from cifar.sweep.trials import folder_of

ALWAYS = {
    "batch_size": "choice(32, 64, 128, 256)",
    "loss.label_smoothing": "choice(0.0, 0.1, 0.2)",
    "scheduler.warmup": "interval(0.02, 0.4)",  # near 0: cosine decay
}
IMAGES = {
    "optimizer.weight_decay": "tag(log, interval(0.00005, 0.005))",
    "ema.decay": "null,0.9,0.99,0.995",
    "augment": "choice(crop_flip, trivial)",
    "augment.erase": "choice(0.0, 0.2, 0.4)",
}
SPACES = {
    "none": {
        "model.width": "choice(8, 16, 24, 32, 48, 64)",
        "optimizer.lr": "tag(log, interval(0.02, 1.0))",
        **IMAGES,
    },
    "frozen": {
        "optimizer.lr": "tag(log, interval(0.0005, 0.5))",
        "optimizer.weight_decay": "tag(log, interval(0.00001, 0.1))",
    },
    "finetune": {
        "optimizer.lr": "tag(log, interval(0.0003, 0.02))",
        "transfer.backbone_lr_scale": "tag(log, interval(0.01, 1))",
        **IMAGES,
    },
}
"""What is searched beside ALWAYS, by what is trained."""


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks recipe_search", description=__doc__)
    add_sets(parser)
    parser.add_argument("--images", type=int, default=10_000, help="to train and to validate on")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--time", help="of a trial, as 5m")
    length.add_argument("--epochs", type=int, help="of a trial, in place of a time")
    parser.add_argument("--transfer", choices=SPACES, default="none")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="of the recipe as it is")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/")
    parser.add_argument("--further", type=int, default=0, help="images of the set on which all trials are measured")
    parser.add_argument("--setting", action="append", default=[], metavar="KEY=VALUE", help="of trials and recipe")
    parser.add_argument("keys", nargs="*", metavar="KEY=VALUE", help="in place of what is searched, or beside it")
    options = parser.parse_args(argv)
    for name, source in sets(options).items():
        place = options.out / "sets"
        others = further(name, source, options.images, options.further, place) if options.further else None
        search(name, written(name, source, options.images, place), others, options)


def search(name: str, folder: Path, others: Path | None, options: argparse.Namespace) -> None:
    """Search on one set, as far as it has not been done, and test the best trial."""
    length = f"epochs={options.epochs}" if options.epochs else f"time={options.time}"
    words = [options.transfer] if options.transfer != "none" else []
    title = "-".join([name, str(options.images), *words, length.partition("=")[2]])
    study = options.out.resolve() / title
    space = ALWAYS | SPACES[options.transfer] | dict(key.split("=", 1) for key in options.keys)
    settings = [
        *("experiment=photographs", "data=image_folder", f"data.root={folder}", length),
        *([f"transfer={options.transfer}", *BACKBONE] if words else []),
        *options.setting,  # wins
    ]
    sweeper = [
        *("-m", "hydra/sweeper=optuna", f"hydra.sweep.dir={study}", f"hydra.sweeper.study_name={title}"),
        "hydra/sweeper/pruner=none",  # a pruner compares at equal epochs, of which a narrow network has more
        *(f"hydra.sweeper.n_trials={options.trials}", f"hydra.sweeper.n_jobs={options.jobs}"),
        "optimizer.momentum=0.9",  # that of the recipe: not searched
    ]
    typed([*RUN, *sweeper, *settings, *(f"{key}={choices}" for key, choices in space.items())], study)
    best = yaml.safe_load((study / "best.yaml").read_text("utf-8"))
    run = study / Path(best["folder"]).name
    chosen = {key: value for key, value in best["params"].items() if key in space}
    result: dict[str, Any] = {
        "what": f"{options.trials} trials of {length} on {options.images:,} images of {name},"
        f" transfer={options.transfer}: best validation accuracy, and its accuracy on the test images",
        "space": space,
        "best": {"trial": best["trial"], "value": best["value"], "settings": chosen},
        "test_accuracy": predicted(run, folder / "test", study / "test"),
        "recipe": recipe(settings, folder, study / "recipe", options.seeds),
        "trials": trials(study, others),
    }
    result["figure"] = f"{best['value']:.3f}, test {result['test_accuracy']:.3f}: "
    result["figure"] += ", ".join(f"{key}={format_value(value)}" for key, value in chosen.items())
    if result["recipe"]:
        result["figure"] += f". The recipe as it is: test {', '.join(f'{test:.3f}' for test in result['recipe'])}"
    if others is not None:
        values = {trial["number"]: trial["further"] for trial in result["trials"] if "further" in trial}
        result["figure"] += f". On {options.further:,} further images: {values[best['trial']]:.3f}"
        result["figure"] += f", the best of all trials {max(values.values()):.3f}"
    command = [
        f"python -m benchmarks recipe_search {words_of({name: sets(options)[name]})} --images {options.images}",
        f"--{length.replace('=', ' ')} --transfer {options.transfer}",
        f"--trials {options.trials} --jobs {options.jobs} --seeds {options.seeds}",
        *([f"--further {options.further}"] if options.further else []),
        *(f"--setting {shlex.quote(setting)}" for setting in options.setting),
        shlex.join(options.keys),
    ]
    finish(f"recipe-search-{title}", " ".join(filter(None, command)), result, options.keep)


def recipe(settings: list[str], folder: Path, place: Path, seeds: int) -> list[float]:
    """The test accuracies of the recipe with these settings, by seed."""
    kept = Kept(place / "runs.json")

    def measured(seed: int) -> dict[str, Any]:
        run = place / str(seed)
        shutil.rmtree(run, ignore_errors=True)  # a run that was stopped
        typed([*RUN, *settings, f"seed={seed}", f"hydra.run.dir={run}"], run.with_suffix(".typed"))
        return {"accuracy": predicted(run, folder / "test", run.with_suffix(".test"))}

    return [kept.get(str(seed), partial(measured, seed))["accuracy"] for seed in range(seeds)]


def trials(study: Path, others: Path | None) -> list[dict[str, Any]]:
    """State, settings and value of each trial, and its accuracy on other images."""
    kept = Kept(study / "further.json")

    def of_others(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
        if others is None or trial.state != optuna.trial.TrialState.COMPLETE:
            return {}
        run, place = study / folder_of(trial), study / "further" / str(trial.number)
        measured = kept.get(str(trial.number), lambda: {"further": predicted(run, others, place)})
        return {"further": measured["further"]}

    storage = f"sqlite:///{study / 'study.db'}"
    (name,) = optuna.get_all_study_names(storage)
    return [
        {"number": trial.number, "state": trial.state.name, "value": trial.value, **trial.params, **of_others(trial)}
        for trial in optuna.load_study(study_name=name, storage=storage).get_trials()
    ]
