"""What result.json, the log and a tracker say of a run besides its epochs."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import platform
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cifar import layout
from cifar.data.fixes import read_fixes
from cifar.data.images import Images
from cifar.data.split import Splits
from cifar.data.unreadable import SHOWN
from cifar.models.dry_run import copy_without_memory, unchanged_generators
from cifar.objective import ACCURACY, OBJECTIVES, Objective
from cifar.options.augment import BY_DATA
from cifar.options.config import Config
from cifar.options.data import Data
from cifar.options.own import code_digests
from cifar.options.splits import TRAINING_PART
from cifar.options.transfer import Frozen, Pretrained
from cifar.reporting import EpochMetrics
from cifar.results import best_of, flatten
from cifar.training.device import dtype_of, uses_cuda_graph
from cifar.training.loss import class_weights
from cifar.training.trainer import Trainer

log = logging.getLogger(__name__)
FINAL_METRICS = ("epoch", "train_loss", "train_accuracy", *(objective.column for objective in OBJECTIVES.values()))
"""What a tracker receives of a run's best epoch at its end."""
PROGRAM = "cifar-search"
ELSEWHERE = ("tracker", "cache", "resume", "from_study")
"""Settings that say where something is written, sent or from, not what was trained; a tracker does not receive them."""
SPLIT = ("split", "limit", "val_size", "val_seed", "folds", "fold", "groups", "calibration_size")
"""The settings of `data` that say how its images are split."""


def run_facts(config: Config, data: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
    """What result.json says of a run before its first epoch. `data`: its data_facts."""
    parameters = sum(p.numel() for p in trainer.model.parameters())
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "epochs": config.epochs if config.time is None else None,
        "seed": config.seed,
        "model": {"parameters": parameters, "flops": count_flops(trainer.model, trainer.val.shape)},
        "code": code_digests(config),
        "data": data,
        "device": _device_facts(config, trainer.val.labels.device),
        "versions": _versions(),
        "git": git_commit(),
        "resumed_from": config.resume,
    }


def loss_facts(config: Config, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """What result.json says of the loss: the weights that were used, by class; `labels` are the training images'."""
    weights = class_weights(config.loss.class_weights, labels, classes)
    return {} if weights is None else {"class_weights": dict(zip(classes, weights.tolist(), strict=True))}


def data_facts(config: Config, images: Images, splits: Splits) -> dict[str, Any]:
    """What result.json says of a run's images; `images` are those that were split."""
    settings = config.data
    calibration = {} if splits.calibration is None else {"calibration": _part_facts(splits.calibration)}
    fixes = {}
    if settings.fixes is not None:
        read = read_fixes(settings.fixes)
        fixes = {"fixes": {"sha256": read.sha256(), **read.counts()}}
    return {
        "source": settings.title,
        "image_size": images.images.shape[-1],
        "fit": settings.fit,
        "classes": len(images.classes),
        "images": len(images),
        "fingerprint": images.fingerprint,
        "files": images.files,
        "split": _split_facts(settings, splits.val_from),
        "train": _part_facts(splits.train),
        "val": _part_facts(splits.val) | {"also_in_train": splits.also_in_train},
        "mean": splits.mean,
        "std": splits.std,
        **unreadable_facts(parts_of(images, splits)),
        **calibration,
        **fixes,
    }


def parts_of(images: Images, splits: Splits) -> dict[str, Images]:
    """The parts that images to train and to validate on were read from."""
    return {"train": images} if splits.val_from == TRAINING_PART else {"train": images, "val": splits.val}


def unreadable_facts(parts: Mapping[str, Images]) -> dict[str, Any]:
    """What is said of image files that were left out: by part, how many, and the first ones; nothing where none was."""
    facts = {
        part: {"files": len(images.unreadable), "names": list(images.unreadable)[:SHOWN]}
        for part, images in parts.items()
        if images.unreadable
    }
    return {"unreadable": facts} if facts else {}


def _split_facts(settings: Data, val_from: str) -> dict[str, Any]:
    """The settings that say how images are split; val_size only where it is used."""
    facts = {name: getattr(settings, name) for name in SPLIT} | {"val_from": val_from}
    return facts if settings.folds is None else facts | {"val_size": None}


def _part_facts(images: Images) -> dict[str, Any]:
    groups = {} if images.groups is None else {"groups": len(images.groups.unique())}
    return {"images": len(images), "fingerprint": images.fingerprint, **groups}


def _device_facts(config: Config, device: torch.device) -> dict[str, Any]:
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "type": device.type,
        "name": gpu or platform.processor() or platform.machine(),
        "precision": str(dtype_of(config.precision, device)).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cuda_graph": uses_cuda_graph(config.cuda_graph, device),
    }


def count_flops(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Floating-point operations of the forward pass of one input of `shape`; a multiply-add counts as 2.

    Counted by PyTorch's FlopCounterMode on a copy of the model without memory (device "meta"), or on the CPU where the
    model cannot run there.
    """
    with unchanged_generators():
        try:
            return _flops(copy_without_memory(model), torch.empty(1, *shape, device="meta"))
        except Exception:  # what depends on values raises errors of many types on "meta"
            return _flops(copy.deepcopy(model).cpu(), torch.zeros(1, *shape))


def _flops(model: nn.Module, inputs: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(inputs)
    flops: int = counter.get_total_flops()
    return flops


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()} | {name: version(name) for name in ("torch", "torchvision")}
    with suppress(PackageNotFoundError):  # in a checkout that is not installed
        versions[PROGRAM] = version(PROGRAM)
    return versions


def program_name() -> str:
    """This program with its version, as exported models name it."""
    return f"{PROGRAM} {_versions().get(PROGRAM, '(not installed)')}"


@cache
def git_commit() -> str | None:
    """The commit of this program, with "+" appended for uncommitted changes; None outside a repository.

    None of an installed program too: a repository around it, as one with a .venv, is the user's.
    """
    if layout.INSTALLED:
        return None
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def log_start(config: Config, facts: dict[str, Any], directory: Path) -> None:
    """Log three lines about the run whose run_facts are `facts`: its model, its data, its device and directory."""
    model, data, device = facts["model"], facts["data"], facts["device"]
    millions = model["parameters"] / 1e6
    gflops = model["flops"] / 1e9
    calibration = f", {data['calibration']['images']} calibration" if "calibration" in data else ""
    train = f"{data['train']['images']} training{calibration}"
    images = f"{train} and {data['val']['images']} validation images{_of_split(data)}"
    log.info("%s · %.2f M parameters · %.3f GFLOPs an image", model_name(config), millions, gflops)
    words = [data["source"], f"{images} in {data['classes']} classes", augmentation_text(config)]
    log.info("%s", " · ".join(filter(None, words)))
    log.info("%s, %s, threads=%d · results in %s", device["type"], device["precision"], device["threads"], directory)


def _of_split(data: dict[str, Any]) -> str:
    """Folds and groups, in words; empty where there are none."""
    split, words = data["split"], []
    if split["folds"] is not None:
        words.append(f"data.fold={split['fold']} of data.folds={split['folds']}")
    if split["groups"] is not None:
        words.append(f"{data['train']['groups']} and {data['val']['groups']} groups by data.groups={split['groups']}")
    return f" ({', '.join(words)})" if words else ""


def model_name(config: Config) -> str:
    """The model in a few words."""
    transfer = config.transfer
    if isinstance(transfer, Pretrained):
        return f"transfer={transfer.mode} of {transfer.backbone['_target_']} with weights {transfer.weights}"
    by_size = ("auto", None)
    settings = {key: value for key, value in dataclasses.asdict(config.model).items() if value not in by_size}
    return " ".join(f"{key}={value}" for key, value in settings.items() if key != "_target_")


def augmentation_text(config: Config) -> str:
    """The augmentation in a few words; empty where features of the images as they are were computed once."""
    if isinstance(config.transfer, Frozen) and config.transfer.views == 1:
        return ""
    values = {
        key: value
        for key, value in dataclasses.asdict(config.augment).items()
        if key in BY_DATA or (key != "policy" and value)
    }
    return " ".join([f"augment={config.augment.policy}", *(f"{key}={value}" for key, value in values.items())])


def epoch_line(metrics: EpochMetrics, total: int, best: bool, objective: Objective = ACCURACY) -> str:
    """An epoch as a line of the log; `total` is the number of epochs, `best` whether it is the best so far."""
    number = f"{metrics.epoch:>{len(str(total))}}/{total}"
    mark = " (best)" if best else " " * 7
    train = f"train loss {metrics.train_loss:.4f} accuracy {metrics.train_accuracy:.4f}"
    val = f"val loss {metrics.val_loss:.4f} accuracy {metrics.val_accuracy:.4f}"
    if objective.name not in ("loss", "accuracy"):
        val += f" {objective.label.removeprefix('validation ')} {objective.value(metrics):.4f}"
    val += mark
    speed = f"lr {metrics.lr:.3g} · {metrics.seconds:.1f} s, {metrics.images_per_second:.0f} images/s"
    return f"epoch {number} · {train} · {val} · {speed}"


def tracked_settings(config: Config) -> dict[str, bool | float | str]:
    """The settings that a tracker receives, by full key; lists and null as JSON."""
    without = ELSEWHERE if config.time is None else (*ELSEWHERE, "epochs")
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in without}
    return {key: _plain(value) for key, value in flatten(settings)}


def _plain(value: Any) -> bool | float | str:
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value)


def final_metrics(
    history: Sequence[EpochMetrics], facts: dict[str, Any], objective: Objective = ACCURACY
) -> dict[str, float]:
    """What a tracker receives at the end: "best/..." of the best epoch, "test/..." where the test set was evaluated."""
    best = best_of(history, objective)
    figures: dict[str, float] = {}
    if best is not None:
        figures |= {f"best/{name}": getattr(best, name) for name in FINAL_METRICS}
    if "test" in facts:
        figures |= {f"test/{name}": facts["test"][name] for name in OBJECTIVES if name in facts["test"]}
    return {name: value for name, value in figures.items() if value is not None}
