"""The schema of every config group: types, ranges and the checks across keys. Imports no torch.

YAML holds the values, this file says what is allowed. `check` turns a composed config into typed objects, or
raises one ConfigError that names the key, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from cifar.errors import UserError

CONF = Path(__file__).parents[2] / "conf"
WHITELIST = (
    "cifar.models.resnet.BottleneckResNet",
    "cifar.training.schedulers.*",
    "cifar.trackers.base.Tracker",
    "cifar.trackers.tensorboard.TensorBoard",
    "cifar.trackers.mlflow.MLflow",
    "cifar.trackers.wandb.WandB",
    "torch.optim.*",
    "torchvision.models.get_model",
    "timm.create_model",
)
"""What a model, optimizer, scheduler or tracker may name as its `_target_`; for all else Hydra may call nothing."""


class ConfigError(UserError):
    """A setting that cannot be run, found before any work starts."""


def within(interval: str) -> Any:
    """A numeric field whose values lie in `interval`, in the usual notation: "(0, inf)", "[0, 1)"."""
    left, low, high, right = re.fullmatch(r"([(\[])(\S+), (\S+)([)\]])", interval).groups()  # type: ignore[union-attr]

    def allows(x: float) -> bool:
        above = x > float(low) or (left == "[" and x == float(low))
        return above and (x < float(high) or (right == "]" and x == float(high)))

    return field(default=MISSING, metadata={"allowed": f"a number in {interval}", "allows": allows})


def one_of(*values: str) -> Any:
    """A text field with these values only."""
    return field(default=MISSING, metadata={"allowed": ", ".join(values), "allows": values.__contains__})


def matching(pattern: str, allowed: str) -> Any:
    """A text field that matches `pattern` as a whole; `allowed` says so in words."""
    allows = re.compile(pattern).fullmatch
    return field(default=MISSING, metadata={"allowed": allowed, "allows": allows})


@dataclass
class Data:
    """A data source and what is done to its images; `root` is a directory, `crop` in pixels."""

    source: str = one_of("cifar10", "cifar100", "digits", "image_folder")
    root: str | None = MISSING
    limit: int | None = within("[1, inf)")
    val_size: float = within("(0, inf)")
    val_seed: int = within("[0, 4294967295]")
    crop: int = within("[0, 16]")
    flip: bool = MISSING
    normalize: bool = MISSING
    mean: list[float] | None = MISSING
    std: list[float] | None = within("(0, inf)")


@dataclass
class BottleneckResNet:
    """Blocks per stage, and the channels of the first stage's 3x3 convolutions."""

    _target_: str = MISSING
    depths: list[int] = within("[1, inf)")
    width: int = within("[1, inf)")


@dataclass
class Torchvision:
    """A classifier of torchvision, by its name there."""

    _target_: str = MISSING
    name: str = matching(r"\w+", "a name of torchvision.models, as resnet18")


@dataclass
class Timm:
    """A classifier of timm, by its name there."""

    _target_: str = MISSING
    model_name: str = matching(r"[\w.]+", "a name of timm's, as resnet26t")


@dataclass
class SGD:
    _target_: str = MISSING
    lr: float = within("(0, inf)")
    momentum: float = within("[0, 1)")
    nesterov: bool = MISSING
    weight_decay: float = within("[0, inf)")
    decay_norms_and_biases: bool = MISSING


@dataclass
class Adam:
    """Adam and AdamW."""

    _target_: str = MISSING
    lr: float = within("(0, inf)")
    betas: list[float] = within("[0, 1)")
    eps: float = within("(0, inf)")
    weight_decay: float = within("[0, inf)")
    decay_norms_and_biases: bool = MISSING


@dataclass
class Plateau:
    _target_: str = MISSING
    patience: int = within("[0, inf)")
    factor: float = within("(0, 1)")


@dataclass
class OneCycle:
    _target_: str = MISSING
    warmup: float = within("(0, 1)")


@dataclass
class Target:
    """An option without settings of its own."""

    _target_: str = MISSING


@dataclass
class NoTransfer:
    mode: str = one_of("none")


@dataclass
class Pretrained:
    """A backbone, built by what its `_target_` names, and its weights."""

    mode: str = one_of("frozen", "finetune")
    backbone: Any = MISSING
    weights: str = MISSING
    sha256: str | None = matching("[0-9a-fA-F]{64}", "64 hexadecimal digits")
    head: str | None = MISSING
    image_size: int | None = within("[8, 4096]")


@dataclass
class Frozen(Pretrained):
    """`views` augmented versions of each image; `batch_size` images at once through the backbone."""

    views: int = within("[1, 1000]")
    batch_size: int = within("[1, inf)")


@dataclass
class Finetune(Pretrained):
    backbone_lr_scale: float = within("(0, inf)")
    frozen_stages: int = within("[0, inf)")


@dataclass
class MLflow:
    """The address of MLflow's database or server, and the name of the experiment there."""

    _target_: str = MISSING
    uri: str = matching(
        r"(sqlite|postgresql|mysql|mssql|https?)[+\w]*://.+|databricks.*",
        "sqlite:///FILE, http://HOST:PORT, databricks",
    )
    experiment: str = MISSING


@dataclass
class WandB:
    _target_: str = MISSING
    project: str = MISSING
    mode: str = one_of("offline", "online")


@dataclass
class Loss:
    l2: float = within("[0, inf)")


@dataclass
class Cache:
    dir: str = MISSING


@dataclass
class Config:
    """All of a run's settings, checked. The groups are of the types in GROUPS."""

    data: Any = MISSING
    model: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    transfer: Any = MISSING
    tracker: Any = MISSING
    loss: Loss = field(default_factory=Loss)
    cache: Cache = field(default_factory=Cache)
    epochs: int = within("[1, inf)")
    batch_size: int = within("[1, inf)")
    seed: int = within("[0, 4294967295]")
    device: str = matching(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda, cuda:N")
    precision: str = one_of("auto", "fp32", "bf16")
    channels_last: bool = MISSING
    compile: bool = MISSING
    cuda_graph: Any = field(
        default=MISSING, metadata={"allowed": "auto, true, false", "allows": ("auto", True, False).__contains__}
    )
    deterministic: bool = MISSING
    threads: int | None = within("[1, 1024]")
    test: bool = MISSING
    resume: str | None = MISSING
    from_study: str | None = MISSING


TRAINING_IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "digits": 1_617}
"""Images in the training parts whose size does not depend on the user."""
GROUPS: dict[str, dict[str, type]] = {
    "data": {"": Data},
    "model": {
        "cifar.models.resnet.BottleneckResNet": BottleneckResNet,
        "torchvision.models.get_model": Torchvision,
        "timm.create_model": Timm,
        "cifar.models.pretrained.load_backbone": Target,
    },
    "transfer": {"none": NoTransfer, "frozen": Frozen, "finetune": Finetune},
    "optimizer": {"torch.optim.SGD": SGD, "torch.optim.Adam": Adam, "torch.optim.AdamW": Adam},
    "scheduler": {
        "cifar.training.schedulers.plateau": Plateau,
        "cifar.training.schedulers.cosine": Target,
        "cifar.training.schedulers.onecycle": OneCycle,
        "cifar.training.schedulers.constant": Target,
    },
    "tracker": {
        "cifar.trackers.base.Tracker": Target,
        "cifar.trackers.tensorboard.TensorBoard": Target,
        "cifar.trackers.mlflow.MLflow": MLflow,
        "cifar.trackers.wandb.WandB": WandB,
    },
}
"""The schema of each group's options, by their `_target_` or their `mode`."""
PACKAGES = {
    "cifar.trackers.tensorboard.TensorBoard": "tensorboard",
    "cifar.trackers.mlflow.MLflow": "mlflow",
    "cifar.trackers.wandb.WandB": "wandb",
}
"""What a tracker needs to be installed; the extra and the option are of the same name."""


def check(cfg: DictConfig) -> Config:
    """The typed settings of a composed config.

    Raises ConfigError for an unknown key, a wrong type, a value out of range and settings that do not go together.
    """
    plain = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    schema = OmegaConf.structured(Config)
    for group in GROUPS:
        schema[group] = _schema(group, plain)
    try:
        merged = OmegaConf.merge(schema, plain)
        OmegaConf.resolve(merged)
        config = OmegaConf.to_object(merged)
    except ValidationError as error:
        key = re.sub(r"\[\d+]$", "", error.full_key or str(error.key))
        value = OmegaConf.select(plain, key)
        raise ConfigError(f"{key}={value}: not allowed; allowed: {_allowed(schema, key)}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from None
    assert isinstance(config, Config)
    for key, value, place in _fields(config):
        for item in value if isinstance(value, list) else [value]:
            if item is not None and not _allows(place, item):
                raise ConfigError(f"{key}={value}: not allowed; allowed: {_words(place)}")
    _check_together(config)
    return config


def _schema(group: str, cfg: DictConfig) -> Any:
    """The schema of the option that `group` is set to."""
    options = GROUPS[group]
    node = OmegaConf.select(cfg, group)
    kind = "mode" if group == "transfer" else "_target_"
    target = node.get(kind, "") if isinstance(node, DictConfig) else None
    if target in options:
        return OmegaConf.structured(options[target])
    allowed = ", ".join(filter(None, options)) or "an option of this group (python run.py --help)"
    shown = node if target is None else f"{kind}={target}"
    raise ConfigError(f"{group}: {shown} is not allowed here; allowed: {allowed}")


def _allows(field: dataclasses.Field[Any], value: Any) -> bool:
    return "allows" not in field.metadata or bool(field.metadata["allows"](value))


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Every field of a config and of the configs in it, with its full key and value."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value, f


def _check_together(config: Config) -> None:
    """The checks that need more than one key."""
    data, optimizer, model = config.data, config.optimizer, config.model
    if data.val_size >= 1 and data.val_size % 1:
        raise ConfigError(f"data.val_size={data.val_size}: allowed: a fraction below 1, or a whole number of images")
    images = min((n for n in (data.limit, TRAINING_IMAGES.get(data.source)) if n is not None), default=None)
    if images is not None and data.val_size >= images:
        raise ConfigError(
            f"data.val_size={data.val_size:g}: not below the {images} images that there are (data.source, data.limit);"
            " allowed: fewer, or a fraction"
        )
    if data.source == "image_folder" and data.root is None:
        raise ConfigError("data.root=null: allowed: a directory that holds train/<class>/*")
    for name in ("mean", "std"):
        value = getattr(data, name)
        if value is not None and len(value) != 3:
            raise ConfigError(
                f"data.{name}={value}: allowed: three numbers (red, green, blue; pixels in [0, 1]) or null"
            )
    pretrained = isinstance(config.transfer, Pretrained)
    if pretrained != (getattr(model, "_target_", "") == "cifar.models.pretrained.load_backbone"):
        raise ConfigError(
            f"transfer={config.transfer.mode} with model._target_={model._target_}: allowed: transfer=frozen or"
            " transfer=finetune with model=pretrained, which they choose (their network is transfer.backbone);"
            " transfer=none with the others"
        )
    if pretrained and not (isinstance(config.transfer.backbone, dict) and config.transfer.backbone.get("_target_")):
        raise ConfigError(
            f"transfer.backbone={config.transfer.backbone}: allowed: settings with a _target_, as"
            " transfer.backbone._target_=torchvision.models.resnet50"
        )
    if isinstance(config.transfer, Frozen) and config.transfer.views > 1 and not (data.crop or data.flip):
        raise ConfigError(
            f"transfer.views={config.transfer.views}: all would be the same; allowed: 1, or data.crop or data.flip"
        )
    if isinstance(model, BottleneckResNet) and not model.depths:
        raise ConfigError("model.depths=[]: allowed: at least one stage, as [1, 1, 1, 1]")
    if isinstance(optimizer, Adam) and len(optimizer.betas) != 2:
        raise ConfigError(f"optimizer.betas={optimizer.betas}: allowed: two numbers in [0, 1)")
    if isinstance(optimizer, SGD) and optimizer.nesterov and optimizer.momentum == 0:
        raise ConfigError("optimizer.nesterov=true: needs optimizer.momentum above 0")
    package = PACKAGES.get(config.tracker._target_)
    spec = find_spec(package) if package else None
    if package and (spec is None or spec.origin is None):  # no origin: a mere folder of that name, as W&B makes one
        raise ConfigError(f"tracker={package}: {package} is not installed; do: pip install -e '.[{package}]'")


def explain(error: OmegaConfBaseException) -> str:
    """One line for an error of OmegaConf: the key, what is wrong, and what is allowed there."""
    key = error.full_key or str(error.key)
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)):
        names = sorted(str(name) for name in error.parent_node or () if name != "_target_")
        return f"{key}: no such key; allowed: {', '.join(names) or 'nothing below this key'}"
    if isinstance(error, (MissingMandatoryValue, InterpolationToMissingValueError)):
        return f"{key}: must be given, as {key}=VALUE"
    return f"{key}: {str(error.msg).splitlines()[0]}"


def _allowed(schema: DictConfig, key: str) -> str:
    """What the schema allows at `key`, in words."""
    *group, name = key.split(".")
    kind: Any = OmegaConf.get_type(OmegaConf.select(schema, group[0]) if group else schema)
    return _words(next(f for f in dataclasses.fields(kind) if f.name == name))


def _words(field: dataclasses.Field[Any]) -> str:
    """What a field allows: its type, and its range or its choices where it has any."""
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}
    kind, *optional = str(field.type).split(" | ")
    words = kinds.get(kind.removeprefix("list[").removesuffix("]"), "a group of settings")
    words = field.metadata.get("allowed", words).replace("a number", words)
    return f"{'a list, each item ' if kind.startswith('list[') else ''}{words}{' or null' if optional else ''}"


def with_inherited(arguments: list[str]) -> list[str]:
    """A command line in which resume=DIR brings along the settings of the run in DIR, and its directory.

    What the user gave comes later, so it wins. Raises ConfigError where DIR holds no run.
    """
    given = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    if not given or given[-1] == "null" or not {"-m", "--multirun"}.isdisjoint(arguments):
        return arguments
    saved = Path(given[-1].strip("'\"")) / ".hydra" / "overrides.yaml"
    if not saved.exists():
        raise ConfigError(f"resume={given[-1]}: not a run directory, it has no .hydra/overrides.yaml")
    overrides = [str(line) for line in OmegaConf.load(saved) if not str(line).startswith("resume=")]
    return [*overrides, f"hydra.run.dir={given[-1]}", *arguments]


def help_text(conf: Path = CONF) -> str:
    """The text of --help: each group and option with its first line, and commands to copy."""
    lines = ["Train bottleneck ResNets on CIFAR-10, and search their hyperparameters.", "", "Copy:"]
    lines += [f"  {command}" for command in COMMANDS]
    for group in sorted(path for path in conf.rglob("*") if path.is_dir()):
        options = sorted(group.glob("*.yaml"))
        lines += ["", f"{group.relative_to(conf)}="] if options else []
        lines += [f"  {option.stem:<20} {_first_comment(option)}" for option in options]
    lines += ["", "Keys of their own (python run.py --cfg job shows all, with their values):", ""]
    keys = (conf / "config.yaml").read_text("utf-8").split("\n\nhydra:")[0].split("\n\n", 1)[1]
    lines += keys.splitlines()
    return "\n".join(lines).replace("$", "$$") + "\n"  # Hydra fills in $NAME


def _first_comment(option: Path) -> str:
    """The first line that says something: comments of Hydra's own (# @package) do not."""
    lines = (line.removeprefix("# ") for line in option.read_text("utf-8").splitlines() if line.startswith("# "))
    return next((line for line in lines if not line.startswith("@")), "")


COMMANDS = (
    "python run.py data=digits model.width=16                        # a minute, nothing to download",
    "python run.py optimizer=adam scheduler=cosine seed=3            # CIFAR-10, other options",
    "python run.py -m hydra/sweeper=optuna data=digits               # search lr, momentum, weight decay",
)
