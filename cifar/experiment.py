"""One experiment: config -> data, model, trainer -> results. The only module below run.py that reads a config."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import logging
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from cifar import checkpoint, data, optim
from cifar.checkpoint import CheckpointError
from cifar.config import WHITELIST, Config, ConfigError
from cifar.data import DataError, Images
from cifar.loader import Batches
from cifar.results import (
    Diverged,
    EpochMetrics,
    Interrupted,
    Pruned,
    Reporter,
    RunDirectory,
    best_of,
    summary,
)
from cifar.step import EagerStep, autocast
from cifar.trainer import Trainer, evaluate

log = logging.getLogger(__name__)
SILENCE = 60.0
"""Seconds between two lines about an epoch that is not at its end."""
MODELS = ("torchvision.models.*", "timm.models.*")
"""What a model may be an instance of; the config names no more than a model of theirs."""
_instantiate = partial(instantiate, _execution_whitelist_=WHITELIST)
EVALUATION_BATCH = {"cpu": 128, "cuda": 2048}
"""Images a batch in validation: on a CPU as many as its caches like, on a GPU as few launches as its memory allows."""


def run(config: Config, output_dir: str, reporter: Reporter) -> float:
    """Train as `config` says, write the results to `output_dir`, return the best validation accuracy.

    Raises Pruned, Interrupted or Diverged after result.json says so; any other error leaves status failed.
    """
    begun = time.perf_counter()
    directory = RunDirectory(output_dir)
    device = set_up(config)
    parts = load_parts(config)
    trainer = build_trainer(config, parts, device, bar=sys.stderr.isatty() and not reporter.shows)
    history = _resume(config, trainer, directory)
    facts = _facts(config, parts, trainer)
    directory.start(history, resumed=config.resume is not None)
    _announce(config, facts, directory)
    facts["start_seconds"] = time.perf_counter() - begun
    with (
        _recording(directory, facts, history),
        _interruptible(trainer, reporter.go_on.format(directory=directory.path)),
    ):
        for metrics in trainer.epochs():
            history.append(metrics)
            _save(config, directory, trainer, history, parts)
            log.info(_line(metrics, config.epochs, best_of(history) is metrics))
            reporter.report(metrics)
        if config.test:
            facts["test"] = _test(config, parts, trainer, directory)
    best = best_of(history)
    assert best is not None
    log.info("best validation accuracy %.4f in epoch %d · %s", best.val_accuracy, best.epoch, directory.path)
    return best.val_accuracy


def set_up(config: Config) -> torch.device:
    """Process-wide settings, and the device."""
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={config.device}: torch finds no CUDA device here; allowed: auto, cpu")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    torch.backends.cudnn.deterministic = config.deterministic
    torch.backends.cudnn.benchmark = not config.deterministic
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(automatic if config.device == "auto" else config.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device={config.device}: there are {torch.cuda.device_count()}, numbered from 0")
    return device


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: it hands large blocks back to the kernel, and the next step faults them in again.

    What that is worth on a CPU: python -m benchmarks step.
    """
    if platform.libc_ver()[0] == "glibc":
        libc, trim_threshold, mmap_max = ctypes.CDLL(None), -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_max, 0)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if native else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


@dataclass(frozen=True)
class Parts:
    """The images to train on and to validate on; mean and std are of the channels of `train`."""

    train: Images
    val: Images
    mean: list[float]
    std: list[float]


@lru_cache(maxsize=2)
def _prepare(source: str, root: str | None, limit: int | None, val_size: float, val_seed: int, cache_dir: str) -> Parts:
    """The parts of a source; those last used are kept for the next run of this process."""
    images = data.limit(data.load(source, root, "train", cache_dir), limit, val_seed)
    train, val = data.split(images, val_size, val_seed)
    return Parts(train, val, *data.channel_statistics(train.images))


def load_parts(config: Config) -> Parts:
    """The parts that `config` names, with its own mean and std where it gives them."""
    d = config.data
    parts = _prepare(d.source, d.root, d.limit, d.val_size, d.val_seed, config.cache.dir)
    if not d.normalize:
        return dataclasses.replace(parts, mean=[0.0] * 3, std=[1.0] * 3)
    return dataclasses.replace(parts, mean=d.mean or parts.mean, std=d.std or parts.std)


def _model(config: Config, classes: int, device: torch.device) -> nn.Module:
    """The model with a logit for each class, on `device`. Raises ConfigError where its settings do not fit it."""
    try:
        model: nn.Module = instantiate(config.model, num_classes=classes, _execution_whitelist_=(*WHITELIST, *MODELS))
    except (InstantiationException, ImportError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model: {config.model} cannot be built: {error}") from error
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    return model.to(device).to(memory_format=layout)


def build_trainer(config: Config, parts: Parts, device: torch.device, bar: bool = False) -> Trainer:
    """A trainer before its first epoch, with weights drawn from config.seed; `bar` shows its epochs on a terminal."""
    torch.manual_seed(config.seed)
    model = _model(config, len(parts.train.classes), device)
    cast = autocast(device, _dtype(config.precision, device))
    normalise: dict[str, Any] = {"device": device, "mean": parts.mean, "std": parts.std}
    train = Batches(
        parts.train.images,
        parts.train.labels,
        config.batch_size,
        crop=config.data.crop,
        flip=config.data.flip,
        seed=config.seed,
        **normalise,
    )
    val = Batches(parts.val.images, parts.val.labels, EVALUATION_BATCH[device.type], **normalise)
    optimizer = _optimizer(config, model)
    compiled: Any = torch.compile(model) if config.compile else model
    decayed = optim.decayed_parameters(model, config.optimizer.decay_norms_and_biases)
    return Trainer(
        model,
        train,
        val,
        optimizer,
        _instantiate(config.scheduler, optimizer, steps=config.epochs * len(train)),
        EagerStep(compiled, decayed, config.loss.l2, cast),
        cast,
        total=config.epochs,
        progress=partial(_progress, batches=len(train), bar=bar),
    )


def _progress(epoch: Iterable[Any], batches: int, bar: bool) -> Iterator[Any]:
    """A bar; elsewhere a line now and then, so that a long epoch does not look like none."""
    if bar:
        yield from tqdm(epoch, total=batches, desc="epoch", unit="batch", leave=False)
        return
    begun = told = time.monotonic()
    for number, batch in enumerate(epoch, 1):
        yield batch
        if time.monotonic() - told > SILENCE:
            told = time.monotonic()
            log.info("batch %d of %d after %.0f s", number, batches, told - begun)


def _optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    settings = dataclasses.asdict(config.optimizer)
    groups = optim.parameter_groups(model, settings["weight_decay"], settings.pop("decay_norms_and_biases"))
    optimizer: torch.optim.Optimizer = _instantiate(settings, groups, fused=True)
    return optimizer


def _resume(config: Config, trainer: Trainer, directory: RunDirectory) -> list[EpochMetrics]:
    """Put the trainer where the run in config.resume stood; its epochs so far."""
    if config.resume is None:
        return []
    source = Path(config.resume)
    path = source / "checkpoint.pt"
    if not path.exists() and (source / "result.json").exists():
        log.info("%s has no finished epoch: from the start", source)
        return []
    state = checkpoint.load(path)
    try:
        history = [EpochMetrics(**row) for row in state["history"]]
        checkpoint.load_weights(trainer.model, state["model"], path)
        trainer.load_state_dict(state)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not of a run with these settings ({error!r})") from error
    best = source / "best.pt"
    if best.exists() and source.resolve() != directory.path.resolve():
        shutil.copyfile(best, directory.path / best.name)
    log.info("going on after epoch %d of %s", trainer.done, source)
    return history


def _save(config: Config, directory: RunDirectory, trainer: Trainer, history: list[EpochMetrics], parts: Parts) -> None:
    """After an epoch. The checkpoint holds the history, so a kill at any moment leaves files that resume mends."""
    latest = history[-1]
    if best_of(history) is latest:
        best = {
            "model": trainer.model.state_dict(),
            "settings": dataclasses.asdict(config.model),
            "classes": list(parts.train.classes),
            "mean": parts.mean,
            "std": parts.std,
            "epoch": latest.epoch,
            "val_accuracy": latest.val_accuracy,
        }
        checkpoint.save(directory.path / "best.pt", best)
    state = trainer.state_dict() | {"history": [dataclasses.asdict(metrics) for metrics in history]}
    checkpoint.save(directory.path / "checkpoint.pt", state)
    directory.append(latest)


def _test(config: Config, parts: Parts, trainer: Trainer, directory: RunDirectory) -> dict[str, Any]:
    """Evaluate the test set with the best checkpoint."""
    images = data.load(config.data.source, config.data.root, "test", config.cache.dir)
    if images.classes != parts.train.classes:
        raise DataError(f"{config.data.root}: the test part has other classes than the training part: {images.classes}")
    path = directory.path / "best.pt"
    best = checkpoint.load(path)
    checkpoint.load_weights(trainer.model, best["model"], path)
    device = trainer.val.labels.device
    batches = Batches(images.images, images.labels, trainer.val.batch_size, device, parts.mean, parts.std)
    loss, accuracy = evaluate(trainer.step.model, batches, trainer.autocast).tolist()
    log.info("test accuracy %.4f of %d images (weights of epoch %d)", accuracy, len(images), best["epoch"])
    return {"loss": loss, "accuracy": accuracy, "images": len(images), "epoch": best["epoch"]}


def _facts(config: Config, parts: Parts, trainer: Trainer) -> dict[str, Any]:
    """What result.json says of a run before its first epoch."""
    device = trainer.val.labels.device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "epochs": config.epochs,
        "seed": config.seed,
        "model": {"parameters": sum(p.numel() for p in trainer.model.parameters()), "flops": _flops(trainer.model)},
        "data": {
            "source": config.data.source,
            "classes": len(parts.train.classes),
            "train": {"images": len(parts.train), "fingerprint": parts.train.fingerprint},
            "val": {"images": len(parts.val), "fingerprint": parts.val.fingerprint},
            "mean": parts.mean,
            "std": parts.std,
        },
        "device": {
            "type": device.type,
            "name": gpu or platform.processor() or platform.machine(),
            "precision": str(_dtype(config.precision, device)).removeprefix("torch."),
            "threads": torch.get_num_threads(),
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "torchvision")},
        "git": git_commit(),
        "resumed_from": config.resume,
    }


def _flops(model: nn.Module) -> int:
    """Floating-point operations of one image's forward pass, 2 for a multiply-add (torch's FlopCounterMode)."""
    shadow = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty(1, 3, data.SIZE, data.SIZE, device="meta"))
    return counter.get_total_flops()


def git_commit() -> str | None:
    """The commit of this program, with + for uncommitted changes; None outside a repository."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _announce(config: Config, facts: dict[str, Any], directory: RunDirectory) -> None:
    model, parts, device = facts["model"], facts["data"], facts["device"]
    log.info(
        "%s · %.2f M parameters · %.3f GFLOPs an image",
        " ".join(f"{key}={value}" for key, value in dataclasses.asdict(config.model).items() if key != "_target_"),
        model["parameters"] / 1e6,
        model["flops"] / 1e9,
    )
    log.info(
        "%s · %d training and %d validation images in %d classes",
        parts["source"],
        parts["train"]["images"],
        parts["val"]["images"],
        parts["classes"],
    )
    log.info(
        "%s, %s, %d threads · results in %s", device["type"], device["precision"], device["threads"], directory.path
    )


def _line(metrics: EpochMetrics, total: int, best: bool) -> str:
    train = f"train loss {metrics.train_loss:.4f} accuracy {metrics.train_accuracy:.4f}"
    val = f"val loss {metrics.val_loss:.4f} accuracy {metrics.val_accuracy:.4f}{' (best)' if best else '':7}"
    speed = f"lr {metrics.lr:.3g} · {metrics.seconds:.1f} s, {metrics.images_per_second:.0f} images/s"
    return f"epoch {metrics.epoch:>{len(str(total))}}/{total} · {train} · {val} · {speed}"


ENDINGS = {Pruned: "pruned", KeyboardInterrupt: "interrupted", Diverged: "diverged"}


@contextmanager
def _recording(directory: RunDirectory, facts: dict[str, Any], history: list[EpochMetrics]) -> Iterator[None]:
    """Keep result.json true to what happens inside: running, then how it ended."""

    def write(status: str, message: str | None = None) -> None:
        directory.write_result({"status": status, "message": message} | summary(history) | facts)

    write("running")
    try:
        yield
    except BaseException as error:
        ending = next((status for kind, status in ENDINGS.items() if isinstance(error, kind)), "failed")
        write(ending, f"{type(error).__name__}: {error}")
        raise
    write("finished")


@contextmanager
def _interruptible(trainer: Trainer, go_on: str) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the run after its current step; a second Ctrl-C at once."""
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def after_step() -> None:
        if received:
            raise Interrupted(
                f"interrupted after epoch {trainer.done} of {trainer.total}; go on with: {go_on}", received[0]
            )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    trainer.after_step = after_step
    before = {signum: signal.signal(signum, note) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
