"""One experiment: config -> data, model, trainer -> results. The only module below run.py that reads a config."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import json
import logging
import math
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from cifar.data import sources, split
from cifar.data.augment import augmented
from cifar.data.images import DataError, Images, channel_statistics
from cifar.data.loader import EpochLoader, FeatureLoader, ImageLoader, padded, stacked
from cifar.models import feature_cache, pretrained
from cifar.models.feature_cache import FeatureCache
from cifar.models.finetune import Finetuned
from cifar.models.pretrained import Backbone, TransferError
from cifar.options.config import Config
from cifar.options.option import ConfigError, whitelist
from cifar.options.transfer import Finetune, Frozen
from cifar.reporting import Diverged, EpochMetrics, Interrupted, Pruned, Reporter
from cifar.results import RunDirectory, best_of, summary
from cifar.signals import StopFlag
from cifar.trackers.base import FailSafeTracker, Run, Tracker
from cifar.training import checkpoint, optim
from cifar.training.checkpoint import CheckpointError
from cifar.training.cuda_graph import cuda_graph
from cifar.training.isolation import Isolation
from cifar.training.step import EagerScore, EagerStep, Static, StaticStep, autocast
from cifar.training.trainer import Evaluation, Trainer, evaluate

log = logging.getLogger(__name__)
PROGRESS_INTERVAL = 60.0
"""Seconds between two lines about an epoch that is not at its end."""
MODELS = ("torchvision.models.*", "timm.models.*")
"""What a model may be an instance of; the config names no more than a model of theirs."""
BACKBONES = (
    "torchvision.models.*",
    "timm.create_model",
    "timm.models.*",
    "cifar.models.resnet.BottleneckResNet",
    "efficientnet_lite_pytorch.model.EfficientNet",
    "efficientnet_lite_pytorch.EfficientNet.from_name",
)
"""What transfer.backbone may name."""
_instantiate = partial(instantiate, _execution_whitelist_=whitelist())
EVALUATION_BATCH = {"cpu": 128, "cuda": 1000}
"""Images a batch in validation: on a CPU as many as its caches like, on a GPU enough to fill it, in several runs."""
_resident_images, _resident_features = lru_cache(maxsize=2)(padded), lru_cache(maxsize=2)(stacked)
"""What is trained and validated on, on the device, one copy for all runs of this process; those last used are kept."""


def run(config: Config, output_dir: str, reporter: Reporter, study: str | None = None) -> float:
    """Train as `config` says, write the results to `output_dir`, return the best validation accuracy.

    `study` is the folder of the sweep that the run is a part of.

    Raises Pruned, Interrupted or Diverged after result.json says so; any other error leaves status failed.
    """
    with Isolation(set_up(config)) as isolation:
        return _run(config, RunDirectory(output_dir), reporter, isolation, study)


def _run(config: Config, directory: RunDirectory, reporter: Reporter, isolation: Isolation, study: str | None) -> float:
    begun, device = time.perf_counter(), isolation.device
    parts = load_parts(config)
    task = build_task(config, parts, device)
    trainer = _trainer(config, task, parts, bar=sys.stderr.isatty() and reporter.coordinator.exclusive)
    history = _resume(config, trainer, directory)
    facts = _facts(config, parts, trainer) | task.facts
    directory.start(history, resumed=config.resume is not None)
    _announce(config, facts, directory)
    tracker = FailSafeTracker(_instantiate(config.tracker))
    facts["start_seconds"] = time.perf_counter() - begun
    trainer.after_step = partial(_yield_control, reporter, isolation)
    with (
        _interruptible(trainer, directory) if reporter.coordinator.exclusive else nullcontext(),
        _recording(directory, facts, history, tracker),
    ):
        tracker.start(_tracked(config, directory, study, history))
        for metrics in trainer.epochs():
            history.append(metrics)
            state = trainer.state_dict()  # while the random generators are this run's
            save = partial(_save, config, directory, trainer, state, history, parts, task.facts.get("transfer", {}))
            with isolation.paused():
                reporter.coordinator.run_in_background(save)
                reporter.coordinator.run_in_background(partial(tracker.epoch, metrics))
            log.info(_line(metrics, config.epochs, best_of(history) is metrics))
            reporter.coordinator.set_capacity(_max_concurrent_runs(device))
            reporter.report(metrics.epoch, dataclasses.asdict(metrics))
        if config.test:
            facts["test"] = _test(config, parts, task, trainer, directory)
    best = best_of(history)
    assert best is not None
    log.info("best validation accuracy %.4f in epoch %d · %s", best.val_accuracy, best.epoch, directory.path)
    return best.val_accuracy


def _yield_control(reporter: Reporter, isolation: Isolation) -> None:
    with isolation.paused():
        reporter.coordinator.yield_control()


def _max_concurrent_runs(device: torch.device) -> float:
    """How many runs like this one, alone so far, the device's memory holds; of what is free a tenth is left alone."""
    if device.type != "cuda":
        return math.inf
    free, _ = torch.cuda.mem_get_info(device)
    return 1 + 0.9 * free // torch.cuda.memory_reserved(device)


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
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(f"device={config.device}: there are {torch.cuda.device_count()}, numbered from 0")
        torch.set_float32_matmul_precision("high")  # TF32, as convolutions have it by default
    return device


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: it hands large blocks back to the kernel, and the next step faults them in again.

    Threads that start later share the one arena that keeps it. What that is worth on a CPU: python -m benchmarks step.
    """
    if platform.libc_ver()[0] == "glibc":
        libc, trim_threshold, mmap_max, arena_max = ctypes.CDLL(None), -1, -4, -8  # M_TRIM_THRESHOLD... of malloc.h
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(arena_max, 1)


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if native else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


@dataclass(frozen=True)
class Splits:
    """The images to train on and to validate on; mean and std are of the channels of `train`."""

    train: Images
    val: Images
    mean: list[float]
    std: list[float]


@lru_cache(maxsize=2)
def _prepare(
    source: str, root: str | None, limit: int | None, val_size: float, val_seed: int, cache_dir: str
) -> Splits:
    """The parts of a source; those last used are kept for the next run of this process."""
    images = split.limit(sources.load(source, root, "train", cache_dir), limit, val_seed)
    train, val = split.split(images, val_size, val_seed)
    return Splits(train, val, *channel_statistics(train.images))


def load_parts(config: Config) -> Splits:
    """The parts that `config` names; mean and std: its own, else those of pretrained weights, else of the images."""
    d = config.data
    parts = _prepare(d.source, d.root, d.limit, d.val_size, d.val_seed, config.cache.dir)
    if not d.normalize:
        return dataclasses.replace(parts, mean=[0.0] * 3, std=[1.0] * 3)
    if config.transfer.mode != "none":
        preprocess = _backbone(config).preprocess
        parts = dataclasses.replace(parts, mean=list(preprocess.mean), std=list(preprocess.std))
    return dataclasses.replace(parts, mean=d.mean or parts.mean, std=d.std or parts.std)


@dataclass(frozen=True)
class Task:
    """What is trained, on what: a model, its training batches, and how images become batches to evaluate it on.

    `groups` are the optimizer's, `dtype` the precision of the steps, `facts` what result.json says of it.
    """

    model: nn.Module
    train: EpochLoader
    evaluation: Callable[[Images], EpochLoader]
    groups: list[dict[str, Any]]
    dtype: torch.dtype
    facts: dict[str, Any]


def _from_images(
    config: Config, parts: Splits, device: torch.device, model: nn.Module, groups: list[dict[str, Any]], **facts: Any
) -> Task:
    """A model of images, normalised and augmented as `parts` and the config say."""
    normalise: dict[str, Any] = {"device": device, "mean": parts.mean, "std": parts.std, "pad": _resident_images}
    augment: dict[str, Any] = {"crop": config.data.crop, "flip": config.data.flip, "seed": config.seed}
    return Task(
        model,
        ImageLoader(parts.train.images, parts.train.labels, config.batch_size, **augment, **normalise),
        lambda images: ImageLoader(images.images, images.labels, EVALUATION_BATCH[device.type], **normalise),
        groups,
        _dtype(config.precision, device),
        facts,
    )


def _from_scratch(config: Config, parts: Splits, device: torch.device) -> Task:
    model = _placed(config, _model(dataclasses.asdict(config.model), len(parts.train.classes)), device)
    return _from_images(config, parts, device, model, _groups(config, model))


def _finetuned(config: Config, parts: Splits, device: torch.device) -> Task:
    """The head's parameters first, so that the learning rate told is the head's."""
    backbone = _backbone(config)
    own = dataclasses.replace(backbone, model=copy.deepcopy(backbone.model))
    settings: Finetune = config.transfer
    model = Finetuned(own, len(parts.train.classes), settings.frozen_stages)
    model = _placed(config, model, device)
    slower = {"lr": config.optimizer.lr * settings.backbone_lr_scale}
    groups = _groups(config, model.head) + [group | slower for group in _groups(config, model.backbone)]
    return _from_images(config, parts, device, model, groups, transfer=backbone.reference())


def _frozen(config: Config, parts: Splits, device: torch.device) -> Task:
    backbone, settings = _backbone(config), config.transfer
    assert isinstance(settings, Frozen)
    dtype = _dtype(config.precision, device)
    cache = FeatureCache(
        feature_cache.folder(config.cache.dir), device, settings.batch_size, str(dtype), autocast(device, dtype)
    )
    views = [parts.train]
    if settings.views > 1:
        views = [augmented(parts.train, config.data.crop, config.data.flip, view) for view in range(settings.views)]
    found = [cache.get(backbone, view) for view in views]
    rows = _resident_features(device, *(each.features for each in found))
    val = cache.get(backbone, parts.val)

    def evaluation(images: Images) -> EpochLoader:
        features = _resident_features(device, cache.get(backbone, images).features)
        return FeatureLoader(features, images.labels, EVALUATION_BATCH[device.type], device)

    model = nn.Linear(backbone.width, len(parts.train.classes)).to(device)
    train = FeatureLoader(rows, parts.train.labels, config.batch_size, device, config.seed)
    facts = backbone.reference() | {
        "cache_keys": {"train": [each.key for each in found], "val": val.key},
        "extraction_seconds": sum(each.seconds for each in (*found, val)),
        "images_extracted": backbone.seen,
    }
    return Task(model, train, evaluation, _groups(config, model), torch.float32, {"transfer": facts})


TASKS = {"none": _from_scratch, "frozen": _frozen, "finetune": _finetuned}
"""What each transfer.mode trains."""


def _model(settings: dict[str, Any], classes: int) -> nn.Module:
    """The model with a logit for each class. Raises ConfigError where its settings do not fit it."""
    try:
        model: nn.Module = instantiate(settings, num_classes=classes, _execution_whitelist_=(*whitelist(), *MODELS))
    except (InstantiationException, ImportError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model: {settings} cannot be built: {error}") from error
    return model


def _placed(config: Config, model: Any, device: torch.device) -> Any:
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    return model.to(device).to(memory_format=layout)


def _backbone(config: Config) -> Backbone:
    """The backbone that config.transfer names; the last one is kept for the next run of this process."""
    t = config.transfer
    changed = Path(t.weights).stat().st_mtime_ns if Path(t.weights).is_file() else None
    settings = {"weights": t.weights, "sha256": t.sha256, "head": t.head, "image_size": t.image_size}
    found = _load_backbone(json.dumps(t.backbone, sort_keys=True), json.dumps(settings), changed)
    usual, own = found.preprocess, config.data
    preprocess = dataclasses.replace(usual, mean=tuple(own.mean or usual.mean), std=tuple(own.std or usual.std))
    return dataclasses.replace(found, preprocess=preprocess, seen=0)


@lru_cache(maxsize=1)
def _load_backbone(built_by: str, settings: str, changed: int | None) -> Backbone:
    """From JSON. Raises ConfigError or TransferError."""
    target = json.loads(built_by)

    def make() -> nn.Module:
        try:
            model: nn.Module = instantiate(target, _execution_whitelist_=BACKBONES)
        except (InstantiationException, ImportError, TypeError, ValueError, RuntimeError) as error:
            allowed = ", ".join(BACKBONES)
            raise ConfigError(f"transfer.backbone={target} cannot be built: {error}; allowed: {allowed}") from error
        return model

    name = target.pop("_target_")
    options = dict(target)
    target["_target_"] = name
    return pretrained.load_backbone(make, name, options, **json.loads(settings))


def build_trainer(config: Config, parts: Splits, device: torch.device, bar: bool = False) -> Trainer:
    """A trainer before its first epoch, with weights drawn from config.seed; `bar` shows its epochs on a terminal."""
    return _trainer(config, build_task(config, parts, device), parts, bar)


def build_task(config: Config, parts: Splits, device: torch.device) -> Task:
    """What config.transfer makes of the parts, with weights drawn from config.seed."""
    torch.manual_seed(config.seed)
    return TASKS[config.transfer.mode](config, parts, device)


def _trainer(config: Config, task: Task, parts: Splits, bar: bool) -> Trainer:
    model, train = task.model, task.train
    cast = autocast(train.labels.device, task.dtype)
    optimizer: torch.optim.Optimizer = _instantiate(_settings(config), task.groups, fused=True)
    compiled: Any = torch.compile(model) if config.compile else model
    decayed = optim.decayed_parameters(model, config.optimizer.decay_norms_and_biases)
    step, score = EagerStep(compiled, decayed, config.loss.l2, cast), EagerScore(compiled, cast)
    graph = _graphed(config, train.labels.device)
    return Trainer(
        model,
        train,
        task.evaluation(parts.val),
        optimizer,
        _instantiate(config.scheduler, optimizer, steps=config.epochs * len(train)),
        StaticStep(step, cuda_graph) if graph else step,
        Static(score, cuda_graph) if graph else score,
        total=config.epochs,
        progress=partial(_progress, batches=len(train), bar=bar),
    )


def _graphed(config: Config, device: torch.device) -> bool:
    """Whether steps are replayed from CUDA graphs. Raises ConfigError where they cannot be."""
    if config.cuda_graph is True and device.type != "cuda":
        raise ConfigError(f"cuda_graph=true: not on device={device.type}; allowed: auto, false")
    return bool(config.cuda_graph) and device.type == "cuda"


def _settings(config: Config) -> dict[str, Any]:
    """The optimizer's own."""
    return {k: v for k, v in dataclasses.asdict(config.optimizer).items() if k != "decay_norms_and_biases"}


def _groups(config: Config, model: nn.Module) -> list[dict[str, Any]]:
    optimizer = config.optimizer
    return optim.parameter_groups(model, optimizer.weight_decay, optimizer.decay_norms_and_biases)


def _progress(epoch: Iterable[Any], batches: int, bar: bool) -> Iterator[Any]:
    """A bar; elsewhere a line now and then, so that a long epoch does not look like none."""
    if bar:
        yield from tqdm(epoch, total=batches, desc="epoch", unit="batch", leave=False)
        return
    begun = told = time.monotonic()
    for number, batch in enumerate(epoch, 1):
        yield batch
        if time.monotonic() - told > PROGRESS_INTERVAL:
            told = time.monotonic()
            log.info("batch %d of %d after %.0f s", number, batches, told - begun)


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
    for name in ("best.pt", "confusion.csv"):
        if (source / name).exists() and source.resolve() != directory.path.resolve():
            shutil.copyfile(source / name, directory.path / name)
    log.info("going on after epoch %d of %s", trainer.done, source)
    return history


def _save(
    config: Config,
    directory: RunDirectory,
    trainer: Trainer,
    state: dict[str, Any],
    history: list[EpochMetrics],
    parts: Splits,
    facts: dict[str, Any],
) -> None:
    """After an epoch. The checkpoint holds the history, so a kill at any moment leaves files that resume mends."""
    latest = history[-1]
    if best_of(history) is latest:
        best = {
            "model": trainer.model.state_dict(),
            "settings": dataclasses.asdict(config.model),
            "transfer": dataclasses.asdict(config.transfer) | facts,
            "classes": list(parts.train.classes),
            "mean": parts.mean,
            "std": parts.std,
            "epoch": latest.epoch,
            "val_accuracy": latest.val_accuracy,
        }
        checkpoint.save(directory.path / "best.pt", best)
        assert trainer.validated is not None
        directory.write_confusion(parts.train.classes, trainer.validated.confusion.tolist())
    past = {"history": [dataclasses.asdict(metrics) for metrics in history]}
    checkpoint.save(directory.path / "checkpoint.pt", state | past)
    directory.append(latest)


def _test(config: Config, parts: Splits, task: Task, trainer: Trainer, directory: RunDirectory) -> dict[str, Any]:
    """Evaluate the test set with the best checkpoint."""
    images = sources.load(config.data.source, config.data.root, "test", config.cache.dir)
    if images.classes != parts.train.classes:
        raise DataError(f"{config.data.root}: the test part has other classes than the training part: {images.classes}")
    path = directory.path / "best.pt"
    best = checkpoint.load(path)
    checkpoint.load_weights(trainer.model, best["model"], path)
    found = Evaluation.of(evaluate(trainer.score, task.evaluation(images)))
    log.info("test accuracy %.4f of %d images (weights of epoch %d)", found.accuracy, len(images), best["epoch"])
    return {"loss": found.loss, "accuracy": found.accuracy, "images": len(images), "epoch": best["epoch"]}


@dataclass(frozen=True)
class Classifier:
    """A trained model, whole; `logits` takes images uint8 (B, 3, 32, 32) to float32 (B, classes)."""

    classes: tuple[str, ...]
    logits: Callable[[Tensor], Tensor]

    def predict(self, images: Tensor) -> list[str]:
        """The most likely class of each image."""
        return [self.classes[index] for index in self.logits(images).argmax(1).tolist()]


def load_classifier(path: Path | str) -> Classifier:
    """The model in a run's best.pt, on the CPU. A frozen backbone's own weights are read from where they came from.

    Raises CheckpointError, and TransferError where those weights are not there or are others.
    """
    best = checkpoint.load(Path(path))
    try:
        classes, mode = tuple(best["classes"]), best["transfer"]["mode"]
        model, logits = CLASSIFIERS[mode](best, len(classes))
    except KeyError as error:
        raise CheckpointError(f"{path}: not a best.pt of this program ({error} is missing)") from None
    checkpoint.load_weights(model, best["model"], Path(path))
    model.eval()
    return Classifier(classes, torch.inference_mode()(logits))


def _load_images_model(best: dict[str, Any], model: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    def logits(images: Tensor) -> Tensor:
        batches = ImageLoader(
            images, torch.zeros(len(images)), len(images), torch.device("cpu"), best["mean"], best["std"]
        )
        return model(next(iter(batches.epoch(1)))[0])

    return model, logits


def _saved_backbone(best: dict[str, Any], weights: str) -> Backbone:
    saved = best["transfer"]
    settings = {"weights": weights, "sha256": None, "head": saved["head"], "image_size": saved["image_size"]}
    found = _load_backbone(json.dumps(saved["backbone"], sort_keys=True), json.dumps(settings), None)
    return dataclasses.replace(found, preprocess=pretrained.Preprocess(**saved["preprocess"]))


def _load_frozen(best: dict[str, Any], classes: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    saved = best["transfer"]
    backbone = _saved_backbone(best, saved["weights"])
    if backbone.sha256 != saved["weights_sha256"]:
        raise TransferError(f"{saved['weights']}: holds other weights than those that the head was trained on")
    head = nn.Linear(backbone.width, classes)
    return head, lambda images: head(backbone.features(images))


def _load_finetuned(best: dict[str, Any], classes: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    backbone = _saved_backbone(best, pretrained.RANDOM)  # best.pt holds all of its weights
    own = dataclasses.replace(backbone, model=copy.deepcopy(backbone.model))
    return _load_images_model(best, Finetuned(own, classes, 0))


CLASSIFIERS = {
    "none": lambda best, classes: _load_images_model(best, _model(best["settings"], classes)),
    "frozen": _load_frozen,
    "finetune": _load_finetuned,
}
"""What each transfer.mode saved, from best.pt and the number of classes: the module to load, and its logits."""


def _facts(config: Config, parts: Splits, trainer: Trainer) -> dict[str, Any]:
    """What result.json says of a run before its first epoch."""
    device = trainer.val.labels.device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "epochs": config.epochs,
        "seed": config.seed,
        "model": {
            "parameters": sum(p.numel() for p in trainer.model.parameters()),
            "flops": _flops(trainer.model, trainer.val.shape),
        },
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
            "cuda_graph": _graphed(config, device),
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in ("torch", "torchvision")},
        "git": git_commit(),
        "resumed_from": config.resume,
    }


def _flops(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Floating-point operations of the forward pass of a row of `shape`, 2 a multiply-add (torch's FlopCounterMode)."""
    shadow = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty(1, *shape, device="meta"))
    return counter.get_total_flops()


@lru_cache(maxsize=1)
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
        _named(config),
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


BEST = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
"""What a tracker is told of a run's best epoch at its end."""
NOT_TRACKED = ("tracker", "cache", "resume", "from_study")
"""Settings of which a tracker does not hear: they say where, not what."""


def _tracked(config: Config, directory: RunDirectory, study: str | None, history: list[EpochMetrics]) -> Run:
    """What a tracker is told of the run."""
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in NOT_TRACKED}
    folder, resumed = (Path(place).resolve() if place else None for place in (study, config.resume))
    return Run(directory.path.resolve(), folder, resumed, dict(_flat(settings)), list(history))


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | float | str]]:
    """Settings by their full keys; lists and null as text."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, (bool, int, float, str)) else json.dumps(value)


def _figures(history: list[EpochMetrics], facts: dict[str, Any]) -> dict[str, float]:
    """How well a run has ended: of its best epoch, and on the test images where they were read."""
    best = best_of(history)
    figures = {f"best/{k}": v for k, v in dataclasses.asdict(best).items() if k in BEST} if best else {}
    return figures | {f"test/{k}": facts["test"][k] for k in ("loss", "accuracy") if "test" in facts}


def _named(config: Config) -> str:
    """The model in a few words."""
    t = config.transfer
    if t.mode != "none":
        return f"transfer={t.mode} of {t.backbone['_target_']} with weights {t.weights}"
    return " ".join(f"{key}={value}" for key, value in dataclasses.asdict(config.model).items() if key != "_target_")


def _line(metrics: EpochMetrics, total: int, best: bool) -> str:
    train = f"train loss {metrics.train_loss:.4f} accuracy {metrics.train_accuracy:.4f}"
    val = f"val loss {metrics.val_loss:.4f} accuracy {metrics.val_accuracy:.4f}{' (best)' if best else '':7}"
    speed = f"lr {metrics.lr:.3g} · {metrics.seconds:.1f} s, {metrics.images_per_second:.0f} images/s"
    return f"epoch {metrics.epoch:>{len(str(total))}}/{total} · {train} · {val} · {speed}"


ENDINGS = {Pruned: "pruned", KeyboardInterrupt: "interrupted", Diverged: "diverged"}


@contextmanager
def _recording(
    directory: RunDirectory, facts: dict[str, Any], history: list[EpochMetrics], tracker: Tracker
) -> Iterator[None]:
    """Keep result.json true to what happens inside: running, then how it ended, which the tracker hears too."""

    def write(status: str, message: str | None = None) -> None:
        directory.write_result({"status": status, "message": message} | summary(history) | facts)

    write("running")
    try:
        yield
    except BaseException as error:
        ending = next((status for kind, status in ENDINGS.items() if isinstance(error, kind)), "failed")
        write(ending, f"{type(error).__name__}: {error}")
        tracker.end(ending, _figures(history, facts))
        raise
    write("finished")
    tracker.end("finished", _figures(history, facts))


@contextmanager
def _interruptible(trainer: Trainer, directory: RunDirectory) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the run after its current step; a second Ctrl-C at once."""
    flag, after_step = StopFlag(), trainer.after_step

    def check() -> None:
        after_step()
        if flag.signum is not None:
            raise Interrupted(
                f"interrupted after epoch {trainer.done} of {trainer.total}; go on with:"
                f" python run.py resume={directory.path}",
                flag.signum,
            )

    trainer.after_step = check
    with flag.handling_signals():
        yield
