"""What may differ between a run and one that begins with its weights (from_run). The rest is refused at the start.

The network and the preprocessing stay: the weights are of these. The images, their source, the recipe and the
augmentation may be others.
"""

from __future__ import annotations

from pathlib import Path

from cifar.options.config import Config
from cifar.options.left_open import is_left_open
from cifar.options.option import ConfigError
from cifar.options.resume import recorded_settings, settings_of
from cifar.results import BEST

PREPROCESSING = ("data.image_size", "data.fit", "data.normalize", "data.mean", "data.std")
FREE = {
    *("transfer.sha256", "transfer.views", "transfer.batch_size", "transfer.backbone_lr_scale"),
    *("transfer.frozen_stages", "transfer.frozen_statistics"),
}
"""Keys of model and transfer that do not say of which shape the weights are."""


def check_from_run(config: Config) -> None:
    """Raises ConfigError where a run cannot begin with the one that config.from_run names."""
    run = config.from_run
    if run is None or config.resume is not None:
        return
    if not (Path(run) / BEST).exists():
        raise ConfigError(
            f"from_run={run}: no {BEST} in it, which a run writes after its first epoch; allowed: the directory of a"
            " run or of a trial that has one"
        )
    if not config.data.knows_content:
        raise ConfigError(
            f"from_run={run}: not with data.source={config.data.source}, whose images are not known by content, so"
            " nothing says on which of them the run was trained; allowed: images in folders, arrays or a csv"
        )
    before, now = recorded_settings(config, run), settings_of(config)
    different = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    changes = [key for key in different if _is_fixed(config, key) and not is_left_open(key, now.get(key))]
    if changes:
        lines = [f"{key}={now.get(key)}: was {before.get(key)}" for key in changes]
        raise ConfigError(
            f"{'; '.join(lines[:5])}{' ...' if lines[5:] else ''}; a run that begins with another (from_run={run})"
            " keeps its network and its preprocessing; allowed: leave them out, or train anew without from_run"
        )


def _is_fixed(config: Config, key: str) -> bool:
    """Whether the weights, or what they were trained on, depend on a key."""
    if key == "transfer.weights":  # of fine-tuning, all weights are in best.pt; those of a frozen backbone are compared
        return False
    return key in PREPROCESSING or (key.partition(".")[0] in ("model", "transfer") and key not in FREE)
