"""What the sweeper knows of the program. Imports neither torch nor Optuna."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from cifar import layout
from cifar.commands import command, override
from cifar.content import code_changes, content_differences, recorded_content
from cifar.objective import ACCURACY, OBJECTIVES, values
from cifar.options.check import check
from cifar.options.data import Data
from cifar.options.former import RENAMED_KEYS, former_overrides, is_whole, upgrade_settings, without_neutral
from cifar.options.from_run import check_from_run
from cifar.options.left_open import is_left_open
from cifar.options.option import ConfigError, groups
from cifar.options.restored import explicit
from cifar.options.splits import TEST_PART
from cifar.results import ResultsError, read_metrics, read_result
from cifar.sweep.app import SearchedApp

if TYPE_CHECKING:
    from optuna.study import Study


def check_run(config: DictConfig) -> None:
    """Check the config of a run, and say once where trials are chosen by test images.

    Raises ConfigError as `check` does, and for test=true where it is sure that there is no test part.
    """
    settings = check(config)
    check_from_run(settings)
    data = settings.data
    if settings.test and data.lacks_test():
        raise ConfigError(
            f"test=true: {data.title} in data.root={data.root} has no test part; allowed: test=false, or data with a"
            " test part"
        )
    if data.val_from == TEST_PART:
        warn(
            f"data.val_from={TEST_PART}: trials are chosen by the test images, so no unseen images are left to confirm"
            " them; better: another data.val_from"
        )


@functools.cache
def warn(text: str) -> None:
    """Print a warning; the same one only once in a process, as a start checks many configs."""
    print(f"warning: {text}", flush=True)


def resume(run: Path) -> list[str]:
    """The override that resumes the run in a directory, where it has a checkpoint."""
    return [override("resume", run)] if (run / "checkpoint.pt").exists() else []


def history(run: Path) -> Iterator[tuple[int, Mapping[str, float]]]:
    """The epochs in the metrics.csv of a run directory."""
    metrics = run / "metrics.csv"
    for epoch in read_metrics(metrics) if metrics.exists() else []:
        yield epoch.epoch, values(epoch)


def compared_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by their present names, without those that earlier versions did not have, where they mean the same.

    They are made explicit: as the augmentation that suits the data in place of null.
    """
    compared = without_neutral(explicit(upgrade_settings(settings)))
    return {"objective": ACCURACY.name, **compared} if is_whole(settings) else compared


def answer(study: Study, folder: Path) -> str:
    """What is best, how sure that is, and what to do next."""
    frames = layout.analysis("frames")  # not before it is needed: pandas and scipy take a second
    summary = layout.analysis("summary")
    return str(summary.text(summary.summarize(frames.of_study(study, os.path.relpath(folder), folder))))


def execution(run: Path) -> dict[str, int | None]:
    """What the figures of the run in a directory depend on besides its settings.

    On a CPU the number of threads; where it had a time, the epochs that this allowed, by which it is repeated; what it
    decided itself, as the width.
    """
    try:
        result = read_result(run)
    except (ResultsError, OSError):
        return {}
    device, plan = result.get("device") or {}, result.get("plan") or {}
    threads = {"threads": device["threads"]} if device.get("type") == "cpu" and device.get("threads") else {}
    epochs = {"time": None, "epochs": plan["whole_epochs"]} if plan else {}
    return threads | epochs | (result.get("decided") or {})


def content_name(config: DictConfig) -> str:
    """The name of the folder or file of a user's own images, or of the data set; empty for other data."""
    option = groups()["data"].options.get(str(OmegaConf.select(config, "data.source")))
    if not (option and issubclass(option, Data) and option.train_images is None):
        return ""
    value = OmegaConf.select(config, f"data.{option.name_key}", throw_on_missing=False)
    if not value:
        return ""
    return Path(value).expanduser().resolve().name if option.name_key == "root" else str(value)


IMAGE_KEYS = (
    *("data", "data.root", "data.source", "data.dataset", "data.kwargs*", "data.image_size", "data.fit", "experiment"),
    *("transfer", "transfer.image_size", "transfer.weights", "transfer.backbone*"),
)
"""What chooses the images. Those of transfer do where data.image_size=auto: the size that the backbone takes."""
APP = SearchedApp(
    command=("python", "run.py"),
    metrics={name: objective.direction for name, objective in OBJECTIVES.items()},
    objective_key="objective",
    check=check_run,
    forbidden={
        "test": "it sees no test images; allowed: test=false (then: "
        f"{command('-m', 'hydra/sweeper=confirm', 'hydra.sweeper.study=DIR')})",
        "resume": "it resumes by itself; allowed: resume=null",
    },
    execution_keys=("device", "threads", "cuda_graph", "cache", "resume", "test", "data.root", "from_study", "tracker"),
    is_left_open=is_left_open,
    process_keys=("device", "threads", "deterministic"),
    threads_key="threads",
    device_key="device",
    start_keys=("from_study",),
    seed_key="seed",
    chance_keys=("data.val_seed", "data.fold"),
    test_key="test",
    epochs_key="epochs",
    time_key="time",
    name_groups=("data", "model", "optimizer", "scheduler", "transfer", "search"),
    content_name=content_name,
    content_keys={
        "images": IMAGE_KEYS,
        "data": (*IMAGE_KEYS, "data.limit", "data.val_*", "data.fold*", "data.groups"),
        "weights": (
            "transfer",
            "transfer.weights",
            "transfer.backbone*",
            "transfer.sha256",
            "transfer.head",
            "experiment",
        ),
        "from_run": ("from_run", "experiment"),
    },
    content_differences=content_differences,
    content_notes=code_changes,
    recorded_content=recorded_content,
    execution=execution,
    resume=resume,
    history=history,
    upgrade_settings=compared_settings,
    renamed_keys=RENAMED_KEYS,
    former_overrides=former_overrides,
    at_end=answer,
)
