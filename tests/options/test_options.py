"""The configs: what is allowed, what is refused and how, and that nothing in them runs code."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from cifar import run
from cifar.layout import CONF
from cifar.options.check import check
from cifar.options.command_line import expand
from cifar.options.data import Data
from cifar.options.option import ConfigError, groups, whitelist

Compose = Callable[..., DictConfig]
YAMLS = sorted(CONF.rglob("*.yaml"))
NEEDS = {
    "arrays": ["data.root=FILE"],
    "csv": ["data.root=FILE"],
    "image_folder": ["data.root=DIR"],
    "pretrained": ["transfer=frozen"],
    "for_frozen": ["transfer=frozen"],
    "for_finetune": ["transfer=finetune"],
    "timm": ["model.model_name=resnet10t"],
}
TORCHVISION = {"model": ["model.name=resnet18"], "data": ["data.dataset=SVHN"]}
"""What an option cannot do without."""
OPTIONS = [path for path in YAMLS if path.parent.parent == CONF]


def refusal(compose: Compose, *overrides: str) -> str:
    """The one line that a user reads of a config that is refused."""
    with pytest.raises((ConfigError, HydraException)) as caught:
        check(compose(*overrides))
    line = run.one_line(caught.value)  # type: ignore[arg-type]
    assert line is not None, "it would be a stack trace"
    return line


# --- what is allowed


def test_a_choice_with_null_says_how_to_write_it(compose: Compose) -> None:
    assert "KEY=null,0.9 in place of choice(null, 0.9)" in refusal(compose, "ema.decay=choice(null, 0.99)")
    assert "null" not in refusal(compose, "ema.decay=choice(0.9")


def test_the_defaults_are_the_recipe_of_the_project(compose: Compose) -> None:
    config = check(compose())
    assert (config.data.source, config.epochs, config.batch_size) == ("cifar10", 10, 32)
    assert config.optimizer._target_ == "torch.optim.SGD" and config.optimizer.momentum == 0.9
    assert config.optimizer.weight_decay > 0
    assert (config.scheduler._target_, config.scheduler.patience) == ("cifar.training.schedulers.plateau", 2)
    assert (config.model.depths, config.model.width) == ([1, 1, 1, 1], 64)
    assert not config.test and not config.compile


@pytest.mark.parametrize(
    "model, depths", [("resnet14", [1, 1, 1, 1]), ("resnet26", [2, 2, 2, 2]), ("resnet50", [3, 4, 6, 3])]
)
def test_the_models_are_those_of_the_issue(model: str, depths: list[int], compose: Compose) -> None:
    config = check(compose(f"model={model}"))
    assert (config.model.depths, config.model.width) == (depths, 64)


def test_the_recipes_are_those_of_the_issue(compose: Compose) -> None:
    l2 = check(compose("experiment=sgd_momentum_l2"))
    assert l2.optimizer._target_ == "torch.optim.SGD" and l2.optimizer.momentum > 0
    assert l2.loss.l2 > 0 and l2.optimizer.weight_decay == 0, "the loss term alone"
    adam = check(compose("experiment=adam_weight_decay"))
    assert adam.optimizer._target_ == "torch.optim.Adam"
    assert adam.optimizer.weight_decay > 0 and adam.loss.l2 == 0


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("group, option", [(p.parent.name, p.stem) for p in OPTIONS])
def test_every_option_composes_and_passes_the_check(group: str, option: str, compose: Compose) -> None:
    needs = [f"{group}.factory=my_net:Net"] if option == "own" else NEEDS.get(option, [])
    if option == "torchvision":
        needs = TORCHVISION[group]
    config = check(compose(f"{group}={option}", *needs))
    target = (yaml.safe_load((CONF / group / f"{option}.yaml").read_text("utf-8")) or {}).get("_target_")
    assert target is None or getattr(config, group)._target_ == target


def test_the_options_are_found() -> None:
    assert {path.parent.name for path in OPTIONS} >= {"data", "model", "optimizer", "scheduler", "experiment"}
    assert len(OPTIONS) >= 16


@pytest.mark.parametrize(
    "override",
    [
        *("optimizer.momentum=0", "optimizer.lr=1e-9", "scheduler.patience=0", "epochs=1", "batch_size=1", "loss.l2=0"),
        *("seed=0", "seed=4294967295", "device=cuda:1"),
        *("data.val_size=1", "data.val_size=0.999", "data.limit=null", "augment.crop=0"),
    ],
)
def test_the_bounds_themselves_are_allowed(override: str, compose: Compose) -> None:
    key, value = override.split("=")
    config = OmegaConf.structured(check(compose(override)))
    assert OmegaConf.select(config, key) == yaml.safe_load(value) or key == "optimizer.lr"


def test_values_have_the_types_of_the_schema(compose: Compose) -> None:
    config = check(compose("optimizer.lr=1", "data.val_size=5000"))
    assert type(config.optimizer.lr) is float and type(config.data.val_size) is float
    assert type(config.epochs) is int and type(config.augment.flip) is bool


# --- what is refused: the key, the value, what is allowed


@pytest.mark.parametrize(
    "override, key, value, allowed",
    [
        ("optimizer.lr=0", "optimizer.lr", "0", "(0, inf)"),
        ("optimizer.lr=-0.1", "optimizer.lr", "-0.1", "(0, inf)"),
        ("optimizer.lr=nan", "optimizer.lr", "nan", "(0, inf)"),
        ("optimizer.lr=inf", "optimizer.lr", "inf", "(0, inf)"),
        ("optimizer.momentum=1", "optimizer.momentum", "1", "[0, 1)"),
        ("optimizer.momentum=-0.1", "optimizer.momentum", "-0.1", "[0, 1)"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay", "-1", "[0, inf)"),
        ("loss.l2=-1", "loss.l2", "-1", "[0, inf)"),
        ("batch_size=0", "batch_size", "0", "[1, inf)"),
        ("epochs=0", "epochs", "0", "[1, inf)"),
        ("epochs=-3", "epochs", "-3", "[1, inf)"),
        ("seed=-1", "seed", "-1", "[0, 4294967295]"),
        ("seed=4294967296", "seed", "4294967296", "[0, 4294967295]"),
        ("scheduler.patience=-1", "scheduler.patience", "-1", "[0, inf)"),
        ("scheduler.factor=1", "scheduler.factor", "1", "(0, 1)"),
        ("device=tpu", "device", "tpu", "auto, cpu, cuda"),
        ("device=cuda:x", "device", "cuda:x", "auto, cpu, cuda"),
        ("precision=fp16", "precision", "fp16", "auto, fp32, bf16"),
        ("cuda_graph=yes", "cuda_graph", "yes", "auto, true, false"),
        ("data.val_size=0", "data.val_size", "0", "(0, inf)"),
        ("data.val_size=-0.5", "data.val_size", "-0.5", "(0, inf)"),
        ("data.val_size=1.5", "data.val_size", "1.5", "a fraction below 1"),
        ("data.limit=0", "data.limit", "0", "[1, inf)"),
        ("augment.crop=-1", "augment.crop", "-1", "[0, 64]"),
        ("augment.erase=1.1", "augment.erase", "1.1", "[0, 1]"),
        ("augment.policy=strong", "augment.policy", "strong", "none, crop_flip, trivial, randaugment, auto"),
        ("data.source=mnist", "data.source", "mnist", "cifar10, cifar100, digits, image_folder"),
        ("data.std=[0,1,1]", "data.std", "0", "(0, inf)"),
        ("data.mean=[0.5]", "data.mean", "[0.5]", "three numbers"),
        ("model.width=0", "model.width", "0", "[1, inf)"),
        ("model.depths=[1,0]", "model.depths", "[1, 0]", "[1, inf)"),
        ("model.depths=[]", "model.depths", "[]", "at least one"),
        ("threads=0", "threads", "0", "[1, 1024]"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(
    override: str, key: str, value: str, allowed: str, compose: Compose
) -> None:
    line = refusal(compose, override)
    assert key in line and value in line.replace(key, "") and allowed in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "override, key, value",
    [
        ("optimizer.lr=fast", "optimizer.lr", "fast"),
        ("epochs=ten", "epochs", "ten"),
        ("epochs=1.5", "epochs", "1.5"),
        ("epochs=null", "epochs", "null"),
        ("batch_size=[32]", "batch_size", "32"),
        ("augment.flip=sometimes", "augment.flip", "sometimes"),
        ("test=maybe", "test", "maybe"),
        ("model.depths=many", "model.depths", "many"),
        ("model.depths=[1,x]", "model.depths", "x"),
        ("loss=3", "loss=3", "3"),
        ("cache=null", "cache=", "null"),
    ],
)
def test_a_wrong_type_is_named(override: str, key: str, value: str, compose: Compose) -> None:
    line = refusal(compose, override)
    assert key in line and "\n" not in line
    assert value in line.lower().replace("none", "null")
    assert "allowed" in line


@pytest.mark.parametrize(
    "override, key, allowed",
    [
        ("epoch=3", "epoch", "epochs"),
        ("optimizer.lrr=1", "optimizer.lrr", "lr"),
        ("data.val=0.1", "data.val", "val_size"),
        ("+optimizer.lrr=1", "optimizer.lrr", "lr"),
        ("+epoch=3", "epoch", "epochs"),
        ("+scheduler.patients=3", "scheduler.patients", "patience"),
        ("+model.widths=3", "model.widths", "width"),
        ("+loss.l1=3", "loss.l1", "l2"),
    ],
)
def test_a_misspelt_key_is_named_with_the_keys_there_are(
    override: str, key: str, allowed: str, compose: Compose
) -> None:
    line = refusal(compose, override)
    problem, choices = line.split("allowed: ")
    assert key in problem and allowed in choices.split(", ")
    assert "\n" not in line


@pytest.mark.parametrize("group", ["data", "model", "optimizer", "scheduler", "experiment"])
def test_an_unknown_option_is_told_with_the_options_there_are(group: str, compose: Compose) -> None:
    line = refusal(compose, f"{group}=nonsense")
    assert "nonsense" in line
    for option in (path.stem for path in OPTIONS if path.parent.name == group):
        assert option in line


def test_a_folder_needs_a_root(compose: Compose) -> None:
    assert "data.root" in refusal(compose, "data=image_folder")
    assert "data.root" in refusal(compose, "data=image_folder", "data.root=null")


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.limit=100", "data.val_size=100"],
        ["data.limit=100", "data.val_size=5000"],
        ["data=cifar10", "data.val_size=50000"],
        ["data=cifar100", "data.val_size=60000"],
        ["data=digits", "data.val_size=1797"],
    ],
    ids=" ".join,
)
def test_a_validation_split_not_below_the_data_is_refused_before_any_is_read(
    overrides: list[str], compose: Compose
) -> None:
    line = refusal(compose, *overrides)
    assert "data.val_size" in line and overrides[-1].split("=")[1] in line
    assert line.startswith(overrides[0] if overrides[0].startswith("data.limit") else overrides[1]), "the cause"


def test_nesterov_needs_momentum(compose: Compose) -> None:
    assert "momentum" in refusal(compose, "optimizer.nesterov=true", "optimizer.momentum=0")


# --- no code runs


@pytest.mark.parametrize("group", ["model", "optimizer", "scheduler", "data"])
@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "builtins.eval", "subprocess.Popen", "importlib.import_module", "hydra.utils.call"),
        *("torch.load", "torch.hub.load", "torchvision.datasets.CIFAR10"),
        *("cifar.optim.torch.load", "torch.optim.SGD.__init__"),
    ],
)
def test_a_target_of_another_kind_is_refused(group: str, target: str, compose: Compose) -> None:
    """By the check, which comes before anything is instantiated; what gets past it: test_experiment."""
    with pytest.raises(ConfigError, match=group):
        check(compose(f"~{group}", f"+{group}={{_target_: {target}}}"))


# --- what each YAML says of itself


def opening(path: Path) -> list[str]:
    """The comments that a YAML opens with, less Hydra's own."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("# "))
    return lines


def overrides_of(command: str) -> list[str]:
    """The overrides of a command line; of each value swept over, the first."""
    words = shlex.split(command.split("  #")[0])
    assert words[:2] == ["python", "run.py"], command
    overrides = [word.replace("=DIR", "=/DIR") for word in words[2:] if not word.startswith(("-", "trust="))]
    parser, first = OverridesParser.create(), []
    for override in parser.parse_overrides(overrides):
        if override.is_choice_sweep():
            value = next(iter(override.sweep_string_iterator()))
            first.append(f"{override.input_line.split('=')[0]}={value}")
        elif not override.is_sweep_override():
            first.append(override.input_line or "")
    return first


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(CONF)))
def test_every_yaml_opens_with_what_it_is_and_a_command_that_composes(path: Path, compose: Compose) -> None:
    lines = opening(path)
    assert len(lines) >= 2 and len(lines[0]) > 10
    assert lines[1].startswith("python run.py"), f"{path}: the second line is a command to copy"
    cfg = compose(*overrides_of(lines[1]), hydra=True)
    check(cfg)
    group, option = path.parent.relative_to(CONF), path.stem
    if path.parent != CONF:
        choices = cfg.hydra.runtime.choices
        followed = str(group) == "search" and option in choices.values()  # by themselves
        options = [choice for key, choice in choices.items() if key.partition("@")[0] == str(group)]
        assert followed or options == [option], "the command does not use this file"


# --- what may be called, and resuming


def test_what_may_be_called_is_what_options_declare() -> None:
    allowed = whitelist()
    assert "torch.optim.SGD" in allowed and "cifar.models.resnet.BottleneckResNet" in allowed
    assert not [target for target in allowed if target.startswith("torch.optim") and "*" in target]
    for path in OPTIONS:
        target = (yaml.safe_load(path.read_text("utf-8")) or {}).get("_target_")
        assert target is None or target in allowed


def test_two_options_of_one_target_are_a_defect() -> None:
    with pytest.raises(TypeError, match="Digits and Other both have source=digits"):
        type("Other", (Data,), {"source": "digits"})


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    saved = "- optimizer=adam\n- epochs=3\n- resume=elsewhere\n- data=digits\n"
    (tmp_path / "run" / ".hydra" / "overrides.yaml").write_text(saved)
    return tmp_path / "run"


def expanded(lines: list[str], resume: str) -> list[str]:
    """The overrides that run with resume=."""
    overrides = OverridesParser.create().parse_overrides(lines)
    return [str(override.input_line) for override in expand(overrides, resume, None)]


def test_resume_brings_the_settings_of_the_run_and_what_is_given_wins(a_run: Path, compose: Compose) -> None:
    cfg = compose(*expanded([f"resume={a_run}", "epochs=5"], resume=str(a_run)), hydra=True)
    config = check(cfg)
    assert (config.data.source, config.epochs, config.resume) == ("digits", 5, str(a_run))
    assert config.optimizer._target_ == "torch.optim.Adam"
    assert cfg.hydra.run.dir == str(a_run)


def test_resuming_a_directory_that_holds_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"resume={tmp_path}.*not a run directory"):
        expanded([f"resume={tmp_path}"], resume=str(tmp_path))


def test_a_run_that_was_killed_before_it_trained_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "run.log").touch()
    with pytest.raises(ConfigError, match="ended before it trained; start it again with its own command"):
        expanded([f"resume={tmp_path}"], resume=str(tmp_path))


def test_the_groups_have_a_schema() -> None:
    assert set(groups()) == {"data", "augment", "model", "optimizer", "scheduler", "transfer", "tracker"}
    assert all(group.options for group in groups().values())
