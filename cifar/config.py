"""The schema of every config group: types, ranges and the checks across keys. Imports no torch.

YAML holds the values, this file says what is allowed. `check` turns a composed config into typed objects, or
raises one ConfigError that names the key, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

CONF = Path(__file__).parent.parent / "conf"
MODELS = ("torchvision.models.*", "timm.create_model", "timm.models.*")
"""Where a model that is not this project's may come from."""
WHITELIST = ("cifar.resnet.BottleneckResNet", "cifar.optim.*", "torch.optim.*", *MODELS)
"""The only callables that a `_target_` may name (hydra.main's execution_whitelist)."""


class ConfigError(Exception):
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
class Loss:
    l2: float = within("[0, inf)")


@dataclass
class Cache:
    dir: str = MISSING


@dataclass
class Config:
    """All of a run's settings, checked. `model` is a plain dict where its `_target_` is not this project's."""

    data: Any = MISSING
    model: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    loss: Loss = field(default_factory=Loss)
    cache: Cache = field(default_factory=Cache)
    epochs: int = within("[1, inf)")
    batch_size: int = within("[1, inf)")
    seed: int = within("[0, 4294967295]")
    device: str = matching(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda, cuda:N")
    precision: str = one_of("auto", "fp32", "bf16")
    channels_last: bool = MISSING
    compile: bool = MISSING
    deterministic: bool = MISSING
    threads: int | None = within("[1, 1024]")
    test: bool = MISSING
    resume: str | None = MISSING


GROUPS: dict[str, dict[str, type]] = {
    "data": {"": Data},
    "model": {"cifar.resnet.BottleneckResNet": BottleneckResNet},
    "optimizer": {"torch.optim.SGD": SGD, "torch.optim.Adam": Adam, "torch.optim.AdamW": Adam},
    "scheduler": {
        "cifar.optim.plateau": Plateau,
        "cifar.optim.cosine": Target,
        "cifar.optim.onecycle": OneCycle,
        "cifar.optim.constant": Target,
    },
}
"""The schema of each group's options, by their `_target_`."""


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
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from None
    assert isinstance(config, Config)
    for key, value, options in _fields(config):
        for item in value if isinstance(value, list) else [value]:
            if options and item is not None and not options["allows"](item):
                raise ConfigError(f"{key}={value}: not allowed; allowed: {options['allowed']}")
    _check_together(config)
    return config


def _schema(group: str, cfg: DictConfig) -> Any:
    """The schema of the option that `group` is set to."""
    options = GROUPS[group]
    node = OmegaConf.select(cfg, group)
    target = node.get("_target_", "") if isinstance(node, DictConfig) else None
    if target in options:
        return OmegaConf.structured(options[target])
    foreign = MODELS if group == "model" else ()
    if isinstance(target, str) and any(fnmatchcase(target, pattern) for pattern in foreign):
        return OmegaConf.create({})
    allowed = ", ".join(filter(None, (*options, *foreign))) or "an option of this group (python run.py --help)"
    shown = node if target is None else f"_target_={target}"
    raise ConfigError(f"{group}: {shown} is not allowed here; allowed: {allowed}")


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every field of a config and of the configs in it: full key, value, metadata."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value, dict(f.metadata)


def _check_together(config: Config) -> None:
    """The checks that need more than one key."""
    data, optimizer, model = config.data, config.optimizer, config.model
    if data.val_size >= 1 and data.val_size % 1:
        raise ConfigError(f"data.val_size={data.val_size}: allowed: a fraction below 1, or a whole number of images")
    if data.limit is not None and data.val_size >= data.limit:
        raise ConfigError(
            f"data.val_size={data.val_size:g}: not below data.limit={data.limit}; allowed: fewer images, or a fraction"
        )
    if data.source == "image_folder" and data.root is None:
        raise ConfigError("data.root=null: allowed: a directory that holds train/<class>/*")
    for name in ("mean", "std"):
        value = getattr(data, name)
        if value is not None and len(value) != 3:
            raise ConfigError(
                f"data.{name}={value}: allowed: three numbers (red, green, blue; pixels in [0, 1]) or null"
            )
    if isinstance(model, BottleneckResNet) and not model.depths:
        raise ConfigError("model.depths=[]: allowed: at least one stage, as [1, 1, 1, 1]")
    if isinstance(optimizer, Adam) and len(optimizer.betas) != 2:
        raise ConfigError(f"optimizer.betas={optimizer.betas}: allowed: two numbers in [0, 1)")
    if isinstance(optimizer, SGD) and optimizer.nesterov and optimizer.momentum == 0:
        raise ConfigError("optimizer.nesterov=true: needs optimizer.momentum above 0")


def explain(error: OmegaConfBaseException) -> str:
    """One line for an error of OmegaConf: the key, what is wrong, and what is allowed there."""
    key = error.full_key or str(error.key)
    if isinstance(error, (ConfigKeyError, ConfigAttributeError)):
        names = sorted(str(name) for name in error.parent_node or () if name != "_target_")
        return f"{key}: no such key; allowed: {', '.join(names) or 'nothing below this key'}"
    if isinstance(error, (MissingMandatoryValue, InterpolationToMissingValueError)):
        return f"{key}: must be given, as {key}=VALUE"
    allowed = _allowed(error)
    return f"{key}: {str(error.msg).splitlines()[0]}" + (f"; allowed: {allowed}" if allowed else "")


def _allowed(error: OmegaConfBaseException) -> str:
    """What the schema allows at the key of `error`, as far as it says."""
    schema = error.object_type
    if not dataclasses.is_dataclass(schema):
        return ""
    return next(
        (f.metadata.get("allowed", str(f.type)) for f in dataclasses.fields(schema) if f.name == str(error.key)), ""
    )


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
